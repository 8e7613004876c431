//! Places that hold objects: a directory, S3 and Azure, through the library and against real servers.

use std::io::Write;
use std::sync::{Arc, Mutex};

use kpipe::hose::format::body::{Body, Scratch};
use kpipe::hose::store::{Attributes, Context, Environment, Location, PutMode, Store, StoreError};
use kpipe::sys::System;

use crate::proxy::{Proxy, Trouble};
use crate::servers::{self, Variables, run};
use crate::workdir::Workdir;

/// A place to put objects, and what was said while it was in use.
struct Place {
    store: Arc<dyn Store>,
    told: Arc<Mutex<Vec<String>>>,
    is_local: bool,
}

fn open(place: &str, variables: &Variables) -> Place {
    let told = Arc::new(Mutex::new(Vec::new()));
    let said = told.clone();
    let environment: Environment = variables.clone().into_iter().collect();
    let tell = Arc::new(move |line: &str| said.lock().expect("no test panics with it").push(line.to_owned()));
    let context = Context::new(&System::real(), environment, tell);
    let location = Location::parse(place).expect("a place");
    let store = location.open(&context).unwrap_or_else(|error| panic!("{error}"));
    Place { store, told, is_local: location.is_local() }
}

/// Every kind of place that can be had here, each empty.
fn places(wd: &Workdir) -> Vec<Place> {
    let mut places = vec![open(&format!("file://{}/lake/", wd.path().display()), &Variables::new())];
    if let Some(s3) = servers::s3() {
        places.push(open(&format!("s3://{}/lake/", s3.bucket()), &s3.variables()));
    }
    if let Some(azure) = servers::azure() {
        places.push(open(&format!("az://{}/lake/", azure.container()), &azure.variables()));
    }
    places
}

fn put(store: &dyn Store, name: &str, bytes: impl Into<Vec<u8>>, mode: PutMode) -> Result<(), StoreError> {
    run(store.put(name, &Body::from(bytes.into()), mode, &Attributes::default()))
}

fn names(store: &dyn Store, prefix: &str, after: Option<&str>) -> Vec<String> {
    run(store.list(prefix, after)).expect("a listing").into_iter().map(|listed| listed.name).collect()
}

/// A body that is too large for memory, in a file.
fn large(wd: &Workdir, bytes: &[u8]) -> Body {
    std::fs::create_dir_all(wd.join("scratch")).expect("a directory");
    let mut writer = Scratch::new(&System::real(), &wd.join("scratch")).begin();
    writer.write_all(bytes).expect("a scratch file");
    writer.finish().expect("a scratch file")
}

/// Bytes that are not the same in any two parts of an object.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.rotate_left(29).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn objects_are_put_read_listed_and_removed() {
    let wd = Workdir::new();
    for Place { store, told, .. } in places(&wd) {
        let at = store.url("");
        let odd = "k=a b/é+%41&#'(~).json";
        for name in ["b", "a/2", "a/1", "a-1", odd, "c/d/e"] {
            put(&*store, name, name, PutMode::Overwrite).unwrap_or_else(|error| panic!("{error}"));
        }
        for name in ["b", odd] {
            assert_eq!(run(store.get(name, 100)).unwrap(), name.as_bytes(), "{at}");
        }
        assert_eq!(names(&*store, "", None), ["a-1", "a/1", "a/2", "b", "c/d/e", odd], "{at}");
        assert_eq!(names(&*store, "a", Some("a-1")), ["a/1", "a/2"], "{at}");
        assert_eq!(names(&*store, "a/", Some("a/1")), ["a/2"], "{at}");
        assert_eq!(names(&*store, "k=a b/", None), [odd], "{at}");
        assert!(names(&*store, "none/", None).is_empty(), "{at}");
        let listed = run(store.list("a/1", None)).unwrap().remove(0);
        let head = run(store.head("a/1")).unwrap().unwrap();
        assert_eq!((listed.size, head.size), (3, 3), "{at}");
        assert!(head.modified_us > 1_700_000_000_000_000, "{at}");
        assert_eq!(run(store.get_range("a/1", 1..3)).unwrap(), b"/1", "{at}");
        assert_eq!(run(store.get_range("a/1", 2..30)).unwrap(), b"1", "{at}");
        let behind = run(store.get_range("a/1", 3..4)).unwrap_err().to_string();
        assert_eq!(behind, format!("{}: it has 3 bytes, and byte 3 was asked for", store.url("a/1")));
        let long = run(store.get("a/1", 2)).unwrap_err().to_string();
        assert_eq!(long, format!("{}: 3 bytes, at most 2 expected", store.url("a/1")));

        put(&*store, "a/1", "other", PutMode::Overwrite).unwrap();
        assert_eq!(run(store.get("a/1", 9)).unwrap(), b"other", "{at}");
        put(&*store, "empty", "", PutMode::Overwrite).unwrap();
        assert!(run(store.get("empty", 9)).unwrap().is_empty(), "{at}");
        run(store.delete(odd)).unwrap();
        run(store.delete(odd)).unwrap();
        assert!(run(store.head(odd)).unwrap().is_none(), "{at}");
        let gone = run(store.get(odd, 9)).unwrap_err();
        assert!(matches!(gone, StoreError::NotFound { .. }), "{gone}");
        assert_eq!(gone.to_string(), format!("{}: it is not there", store.url(odd)));
        assert!(told.lock().unwrap().is_empty(), "{:?}", told.lock().unwrap());
    }
}

#[test]
fn a_name_is_taken_once() {
    let wd = Workdir::new();
    for Place { store, .. } in places(&wd) {
        let name = "_khose/x/00000000000000000001.json";
        put(&*store, name, "mine", PutMode::Create).unwrap();
        put(&*store, name, "mine", PutMode::Create).unwrap();
        for other in ["your", "yours", ""] {
            let error = put(&*store, name, other, PutMode::Create).unwrap_err();
            assert_eq!(error.to_string(), format!("{}: it is there already", store.url(name)));
        }
        assert_eq!(run(store.get(name, 9)).unwrap(), b"mine");
        // Ten at once: one of them wins, and the others are told.
        let won: Vec<usize> = run(async {
            let puts = (0..10_u8).map(|i| {
                let store = store.clone();
                async move {
                    let body = Body::from(vec![b'0' + i]);
                    store.put("race.json", &body, PutMode::Create, &Attributes::default()).await
                }
            });
            let all = futures_util::future::join_all(puts).await;
            all.into_iter().enumerate().filter_map(|(i, done)| done.ok().map(|()| i)).collect()
        });
        assert_eq!(won.len(), 1, "{}", store.url(""));
        assert_eq!(run(store.get("race.json", 9)).unwrap(), [b'0' + won[0] as u8]);
    }
}

#[test]
fn large_objects_go_in_parts() {
    let wd = Workdir::new();
    let bytes = noise(20 << 20, 1);
    for Place { store, is_local, .. } in places(&wd) {
        let none = Attributes::default();
        let body = large(&wd, &bytes);
        run(store.put("dt=1/x.parquet", &body, PutMode::Overwrite, &none)).unwrap();
        assert!(run(store.get("dt=1/x.parquet", 30 << 20)).unwrap() == bytes, "{}", store.url(""));
        let range = run(store.get_range("dt=1/x.parquet", (8 << 20) - 5..(8 << 20) + 5)).unwrap();
        assert_eq!(range, bytes[(8 << 20) - 5..(8 << 20) + 5]);
        // Again with the same body, as after an answer that was lost; then with others, several at once.
        run(store.put("dt=1/x.parquet", &body, PutMode::Overwrite, &none)).unwrap();
        let others: Vec<(String, Body)> =
            (0..4).map(|i| (format!("dt=2/{i}"), large(&wd, &noise(17 << 20, i)))).collect();
        run(async {
            let puts = others.iter().map(|(name, body)| store.put(name, body, PutMode::Overwrite, &none));
            for done in futures_util::future::join_all(puts).await {
                done.unwrap();
            }
        });
        for (i, (name, _)) in others.iter().enumerate() {
            assert!(run(store.get(name, 30 << 20)).unwrap() == noise(17 << 20, i as u64), "{name}");
        }
        let create = run(store.put("new", &body, PutMode::Create, &none));
        assert_eq!(create.is_ok(), is_local, "in a bucket only what fits into one request can be new");
    }
}

#[test]
fn attributes_are_kept_where_they_can_be() {
    let wd = Workdir::new();
    let attributes = Attributes {
        content_type: Some("application/x-ndjson".to_owned()),
        content_encoding: Some("gzip".to_owned()),
        metadata: vec![("Kpipe-Stream".to_owned(), "clicks é".to_owned())],
    };
    for Place { store, .. } in places(&wd) {
        for bytes in [vec![1], noise(17 << 20, 3)] {
            run(store.put("x", &Body::from(bytes), PutMode::Overwrite, &attributes)).unwrap();
        }
        run(store.put("y", &Body::from(vec![1]), PutMode::Create, &attributes)).unwrap();
    }
    let Some(s3) = servers::s3() else { return };
    let (bucket, proxy) = (s3.bucket(), Proxy::start(&s3.url));
    let place = open(&format!("s3://{bucket}/p"), &s3.variables());
    run(place.store.put("x", &Body::from(noise(17 << 20, 3)), PutMode::Overwrite, &attributes)).unwrap();
    let head = run(async {
        let url = format!("{}/{bucket}/p/x", proxy.url());
        reqwest::Client::new().head(url).send().await.unwrap().headers().clone()
    });
    assert_eq!(head["content-type"], "application/x-ndjson");
    assert_eq!(head["content-encoding"], "gzip");
    assert_eq!(head["x-amz-meta-kpipe-stream"], "clicks %C3%A9");
}

/// The same place, through a network that can be told to misbehave.
fn places_behind_a_proxy() -> Vec<(Place, Proxy)> {
    let mut places = Vec::new();
    if let Some(s3) = servers::s3() {
        let proxy = Proxy::start(&s3.url);
        let mut variables = s3.variables();
        variables.insert("AWS_ENDPOINT_URL".to_owned(), proxy.url());
        places.push((open(&format!("s3://{}/lake/", s3.bucket()), &variables), proxy));
    }
    if let Some(azure) = servers::azure() {
        let proxy = Proxy::start(&azure.url);
        let variables = servers::azure_variables(&proxy.url());
        places.push((open(&format!("az://{}/lake/", azure.container()), &variables), proxy));
    }
    places
}

/// Until it is done, as the engine would.
fn put_until_done(store: &dyn Store, name: &str, body: &Body, mode: PutMode) -> Result<(), StoreError> {
    run(async {
        for _ in 0..10 {
            match store.put(name, body, mode, &Attributes::default()).await {
                Err(error) if error.is_transient() => {}
                other => return other,
            }
        }
        panic!("{name} was not put");
    })
}

#[test]
fn answers_that_are_lost() {
    let wd = Workdir::new();
    for (Place { store, .. }, proxy) in places_behind_a_proxy() {
        let mine = Body::from(b"mine".to_vec());
        for times in 1..4 {
            proxy.set(Trouble::LoseAnswers(times));
            let name = format!("c/{times}.json");
            put_until_done(&*store, &name, &mine, PutMode::Create).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(run(store.get(&name, 9)).unwrap(), b"mine");
        }
        proxy.set(Trouble::LoseAnswers(1));
        let yours = Body::from(b"your".to_vec());
        let error = put_until_done(&*store, "c/1.json", &yours, PutMode::Create).unwrap_err();
        assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error}");

        let bytes = noise(20 << 20, 7);
        let body = large(&wd, &bytes);
        for trouble in [
            Trouble::LoseAnswers(3),
            Trouble::CutRequests { after: 10 << 20, times: 3 },
            Trouble::CutAnswers { after: 100, times: 3 },
        ] {
            proxy.set(trouble);
            put_until_done(&*store, "large", &body, PutMode::Overwrite)
                .unwrap_or_else(|error| panic!("{error}"));
            proxy.set(Trouble::None);
            assert!(run(store.get("large", 30 << 20)).unwrap() == bytes, "{trouble:?}");
        }
        proxy.set(Trouble::CutAnswers { after: 5 << 20, times: 1 });
        let got = run(async {
            loop {
                match store.get("large", 30 << 20).await {
                    Err(error) if error.is_transient() => {}
                    other => break other,
                }
            }
        });
        assert!(got.unwrap() == bytes);
    }
}

#[test]
fn a_network_that_is_away() {
    for (Place { store, .. }, proxy) in places_behind_a_proxy() {
        proxy.set(Trouble::Refuse);
        let error = put(&*store, "x", "1", PutMode::Overwrite).unwrap_err();
        assert!(error.is_transient(), "{error}");
        let said = error.to_string();
        assert!(said.starts_with(&format!("{}: ", store.url("x"))) && said.lines().count() == 1, "{said}");
        proxy.set(Trouble::None);
        put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    }
    // A line that takes everything and gives nothing back, with less time than usual.
    let Some(s3) = servers::s3() else { return };
    let proxy = Proxy::start(&s3.url);
    let mut variables = s3.variables();
    variables.insert("AWS_ENDPOINT_URL".to_owned(), proxy.url());
    variables.insert("AWS_TIMEOUT".to_owned(), "500ms".to_owned());
    let store = open(&format!("s3://{}/lake/", s3.bucket()), &variables).store;
    proxy.set(Trouble::BlackHole);
    let error = put(&*store, "x", "1", PutMode::Overwrite).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: operation timed out", store.url("x")));
    assert!(error.is_transient());
    proxy.set(Trouble::None);
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
}

#[test]
fn a_bucket_that_is_not_there() {
    let wd = Workdir::new();
    let mut wrong = Vec::new();
    if let Some(s3) = servers::s3() {
        wrong.push((open("s3://no-such-bucket/p", &s3.variables()), "s3://no-such-bucket, the bucket"));
    }
    if let Some(azure) = servers::azure() {
        wrong.push((
            open("az://no-such-container/p", &azure.variables()),
            "az://no-such-container, the container",
        ));
    }
    for (Place { store, .. }, named) in wrong {
        let said = |error: StoreError| error.to_string();
        let expected = format!("{named}: it is not there");
        assert_eq!(said(put(&*store, "x", "1", PutMode::Overwrite).unwrap_err()), expected);
        assert_eq!(said(put(&*store, "x", "1", PutMode::Create).unwrap_err()), expected);
        assert_eq!(said(run(store.list("", None)).unwrap_err()), expected);
        assert_eq!(said(run(store.get("x", 1)).unwrap_err()), expected);
        let large = large(&wd, &noise(17 << 20, 1));
        let put = run(store.put("x", &large, PutMode::Overwrite, &Attributes::default()));
        assert_eq!(said(put.unwrap_err()), expected);
    }
}

#[test]
fn keys_from_a_profile_and_from_a_program() {
    let Some(s3) = servers::s3() else { return };
    let wd = Workdir::new();
    let bucket = s3.bucket();
    let credentials = wd.write("credentials", "[files]\naws_access_key_id = a\naws_secret_access_key = b\n");
    let config = format!(
        "[profile files]\nregion = us-east-1\nendpoint_url = {url}\n\
         [profile prog]\ncredential_process = cat {printed}\nendpoint_url = {url}\n\
         [profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = files\nendpoint_url = {url}\n",
        url = s3.url,
        printed = wd.join("printed").display(),
    );
    wd.write("config", config);
    wd.write("printed", r#"{"Version": 1, "AccessKeyId": "c", "SecretAccessKey": "d"}"#);
    for profile in ["files", "prog", "role"] {
        let mut variables = Variables::new();
        for (name, value) in [
            ("AWS_PROFILE", profile),
            ("AWS_CONFIG_FILE", wd.join("config").to_str().unwrap()),
            ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap()),
        ] {
            variables.insert(name.to_owned(), value.to_owned());
        }
        let place = open(&format!("s3://{bucket}/{profile}"), &variables);
        put(&*place.store, "x", profile, PutMode::Overwrite).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(run(place.store.get("x", 9)).unwrap(), profile.as_bytes());
        // The file was written with the modes of everybody: that is told, once.
        let told = place.told.lock().unwrap();
        assert!(told.len() <= 1 && told.iter().all(|line| line.contains("other users")), "{told:?}");
    }
}

#[test]
fn azure_says_what_is_wrong_with_a_key() {
    let Some(azure) = servers::azure() else { return };
    let container = azure.container();
    let mut variables = azure.variables();
    for value in variables.values_mut() {
        *value = value.replace("AccountKey=E", "AccountKey=F");
    }
    let place = open(&format!("az://{container}/p"), &variables);
    let error = put(&*place.store, "x", "1", PutMode::Overwrite).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(said.starts_with(&format!("az://{container}/p/x: not permitted: 403 ")), "{said}");
    assert!(said.lines().count() == 1 && !said.contains("w=="), "{said}");
}

/// Google's interface is S3's with other words; its conditions are tried in the library's own tests.
#[test]
fn google_by_its_own_requests() {
    let Some(s3) = servers::s3() else { return };
    let wd = Workdir::new();
    let place = open(&format!("gs://{}/lake/", s3.bucket()), &s3.google_variables());
    let store = &*place.store;
    put(store, "a b/1.json", "one", PutMode::Overwrite).unwrap();
    put(store, "a b/2.json", "two", PutMode::Overwrite).unwrap();
    assert_eq!(run(store.get("a b/1.json", 9)).unwrap(), b"one");
    assert_eq!(names(store, "a b/", Some("a b/1.json")), ["a b/2.json"]);
    let bytes = noise(20 << 20, 5);
    run(store.put("large", &large(&wd, &bytes), PutMode::Overwrite, &Attributes::default())).unwrap();
    assert!(run(store.get("large", 30 << 20)).unwrap() == bytes);
    run(store.delete("large")).unwrap();
    assert!(run(store.head("large")).unwrap().is_none());
}
