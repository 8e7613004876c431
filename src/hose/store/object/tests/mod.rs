//! Against a server in the test itself, which misbehaves where real ones rarely do.

mod credentials;
mod server;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::write::metadata_name;
use super::*;
use server::{Answer, META, Objects, Opening, is, put, refused, run, serve};

#[test]
fn a_create_whose_answer_was_lost_meets_its_own_object() {
    let objects = Objects::default();
    let (first, behind) = (AtomicBool::new(true), objects.clone());
    let (url, log) = serve(move |request| match behind.answer(request) {
        _ if request.method == "PUT" && first.swap(false, Ordering::SeqCst) => Answer::Hangs,
        answer => answer,
    });
    let store = Opening::new(&url).open("s3://b/p");
    put(&*store, "1.json", "mine", PutMode::Create).unwrap();
    let error = put(&*store, "1.json", "yours", PutMode::Create).unwrap_err();
    assert_eq!(error.to_string(), "s3://b/p/1.json: it is there already");
    assert_eq!(objects.0.lock().unwrap()["/b/p/1.json"], "mine");
    assert_eq!(
        log.lock().unwrap()[..4],
        ["PUT /b/p/1.json", "PUT /b/p/1.json", "HEAD /b/p/1.json", "GET /b/p/1.json"]
    );
}

#[test]
fn google_has_conditions_of_its_own() {
    let objects = Objects::default();
    let (url, _) = serve(move |request| objects.answer(request));
    let store = Opening::new("http://x").with("STORAGE_EMULATOR_HOST", &url).open("gs://b/p");
    put(&*store, "1.json", "mine", PutMode::Create).unwrap();
    put(&*store, "1.json", "mine", PutMode::Create).unwrap();
    let error = put(&*store, "1.json", "your", PutMode::Create).unwrap_err();
    assert_eq!(error.to_string(), "gs://b/p/1.json: it is there already");
}

#[test]
fn a_service_that_never_answers_is_not_waited_for() {
    let (url, log) = serve(|_| {
        std::thread::sleep(Duration::from_mins(10));
        Answer::Hangs
    });
    let store = Opening::new(&url).open("s3://b/p");
    let error = put(&*store, "1.json", "mine", PutMode::Create).unwrap_err();
    assert_eq!(error.to_string(), "s3://b/p/1.json: no answer within 2 s");
    assert!(error.is_transient());
    assert_eq!(log.lock().unwrap().len(), 1, "it may have taken effect");
}

#[test]
fn a_conflict_that_nobody_won_is_tried_again() {
    let (objects, puts) = (Objects::default(), Mutex::new(0));
    let (url, _) = serve(move |request| {
        if request.method == "PUT" {
            let mut puts = puts.lock().unwrap();
            *puts += 1;
            if *puts < 3 {
                return refused(409, "ConditionalRequestConflict");
            }
        }
        objects.answer(request)
    });
    put(&*Opening::new(&url).open("s3://b/p"), "1.json", "mine", PutMode::Create).unwrap();

    let (url, _) = serve(|request| match request.method.as_str() {
        "PUT" => refused(409, "ConditionalRequestConflict"),
        _ => refused(404, "NoSuchKey"),
    });
    let error = put(&*Opening::new(&url).open("s3://b/p"), "1.json", "mine", PutMode::Create).unwrap_err();
    assert!(error.is_transient());
    assert_eq!(error.to_string(), "s3://b/p/1.json: 409 ConditionalRequestConflict: no");
}

#[test]
fn an_endpoint_without_conditions_is_looked_at_first() {
    let objects = Objects::default();
    let (url, _) = serve(move |request| {
        if request.header("if-none-match") == "*" {
            refused(501, "NotImplemented")
        } else {
            objects.answer(request)
        }
    });
    let opening = Opening::new(&url);
    let store = opening.open("s3://b/p");
    put(&*store, "1.json", "mine", PutMode::Create).unwrap();
    put(&*store, "1.json", "mine", PutMode::Create).unwrap();
    put(&*store, "2.json", "mine", PutMode::Create).unwrap();
    assert!(matches!(put(&*store, "1.json", "your", PutMode::Create), Err(StoreError::AlreadyExists { .. })));
    let told = opening.told.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("s3://b: the service knows no conditional writes"));
}

#[test]
fn errors_name_the_object_and_never_a_key() {
    let (url, _) = serve(|request| match request.target.split('/').nth(1).unwrap() {
        "elsewhere" => Answer::Is(301, "x-amz-bucket-region: eu-west-1\r\n", String::new()),
        "nowhere" => refused(404, "NoSuchBucket"),
        "forbidden" => refused(403, "AccessDenied"),
        "busy" => refused(503, "SlowDown"),
        _ => refused(400, "MalformedThing"),
    });
    let opening = Opening::new(&url).with("AWS_SESSION_TOKEN", "hunter2");
    for (bucket, said) in [
        (
            "elsewhere",
            "s3://elsewhere: the bucket is in eu-west-1, and us-east-1 was asked: set AWS_REGION=eu-west-1",
        ),
        ("nowhere", "s3://nowhere, the bucket: it is not there"),
        ("forbidden", "s3://forbidden/p/x: not permitted: 403 AccessDenied: no"),
        ("busy", "s3://busy/p/x: 503 SlowDown: no"),
        ("other", "s3://other/p/x: 400 MalformedThing: no"),
    ] {
        let store = opening.open(&format!("s3://{bucket}/p/"));
        let error = put(&*store, "x", "1", PutMode::Overwrite).unwrap_err();
        assert_eq!(error.to_string(), said);
        assert_eq!(error.is_transient(), bucket == "busy");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    // A port where nobody listens; the SAS token is in the URL of each request.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let opening = Opening::new("http://x")
        .with("AZURE_STORAGE_ACCOUNT_NAME", "acc")
        .with("AZURE_STORAGE_ENDPOINT", &format!("http://{closed}/acc"))
        .with("AZURE_STORAGE_SAS_TOKEN", "?sv=2026&sig=hunter2");
    let error = put(&*opening.open("az://cont/p"), "x", "1", PutMode::Overwrite).unwrap_err();
    assert_eq!(error.to_string(), "az://cont/p/x: connection refused");
    assert!(error.is_transient());
}

#[test]
fn names_that_no_service_could_hold_are_refused_before_anything_is_sent() {
    let (url, log) = serve(|_| is(200, ""));
    let store = Opening::new(&url).open("s3://b/p");
    for name in ["", "a//b", "../x", "a/./b", "/a", "a/", "a\tb", &"n".repeat(1023)] {
        assert!(store.check_name(name).is_err(), "{name}");
        assert!(
            matches!(put(&*store, name, "1", PutMode::Overwrite), Err(StoreError::Permanent { .. })),
            "{name}"
        );
    }
    assert!(store.check_name(&"n".repeat(1022)).is_ok() && store.check_name(".a/.b").is_ok());
    assert!(log.lock().unwrap().is_empty());
}

#[test]
fn what_headers_cannot_hold_is_written_otherwise() {
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let kept = seen.clone();
    let (url, _) = serve(move |request| {
        *kept.lock().unwrap() = request.headers.clone();
        Answer::Is(200, META, String::new())
    });
    let attributes = Attributes {
        content_type: Some("text/csv".to_owned()),
        content_encoding: Some("gzip\r\nx: y".to_owned()),
        metadata: vec![
            ("Stream Name".to_owned(), "clicks/é%\n".to_owned()),
            ("1st".to_owned(), "1".to_owned()),
            ("large".to_owned(), "x".repeat(3000)),
        ],
    };
    let store = Opening::new(&url).open("s3://b/p");
    run(store.put("a b/é?#%41", &Body::from(vec![1]), PutMode::Overwrite, &attributes)).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen["content-type"], "text/csv");
    assert_eq!(seen["x-amz-meta-stream-name"], "clicks/%C3%A9%25");
    assert_eq!(seen["x-amz-meta-x1st"], "1");
    assert!(!seen.contains_key("content-encoding") && !seen.contains_key("x-amz-meta-large"));
    assert_eq!(metadata_name(Service::Azure, "first-Sequence"), "first_sequence");
}

/// Answers an upload in parts; the part with this number fails for good, or never ends.
fn parts(bad: &'static str, answer: fn() -> Answer) -> (String, Arc<Mutex<Vec<String>>>) {
    serve(move |request| match request.method.as_str() {
        "POST" if request.target.ends_with("?uploads=") => {
            is(200, "<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>")
        }
        "PUT" if request.target.contains(bad) => answer(),
        "PUT" => Answer::Is(200, META, String::new()),
        "DELETE" => is(204, ""),
        _ => is(200, "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"),
    })
}

#[test]
fn an_upload_that_fails_is_taken_back() {
    let large = Body::from(vec![7; 20 << 20]);
    let (url, log) = parts("partNumber=2", || refused(400, "BadDigest"));
    let store = Opening::new(&url).open("s3://b/p");
    let error = run(store.put("x", &large, PutMode::Overwrite, &Attributes::default())).unwrap_err();
    assert_eq!(error.to_string(), "s3://b/p/x: 400 BadDigest: no");
    // A part that was under way beside it may be read by the server behind that.
    assert!(log.lock().unwrap().iter().any(|line| line == "DELETE /b/p/x?uploadId=U"));

    let (url, log) = parts("partNumber=9", || refused(400, "BadDigest"));
    let store = Opening::new(&url).open("s3://b/p");
    run(store.put("x", &large, PutMode::Overwrite, &Attributes::default())).unwrap();
    let log = log.lock().unwrap();
    assert_eq!(log.iter().filter(|line| line.starts_with("PUT")).count(), 3);
    assert_eq!(log.last().unwrap(), "POST /b/p/x?uploadId=U");
}

#[test]
fn an_upload_that_nobody_waits_for_any_more_is_taken_back() {
    let large = Body::from(vec![7; 20 << 20]);
    let (url, log) = parts("partNumber=3", || {
        std::thread::sleep(Duration::from_mins(10));
        Answer::Hangs
    });
    let store = Opening::new(&url).open("s3://b/p");
    run(async {
        let none = Attributes::default();
        let put = store.put("x", &large, PutMode::Overwrite, &none);
        assert!(tokio::time::timeout(Duration::from_secs(1), put).await.is_err());
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if log.lock().unwrap().iter().any(|line| line == "DELETE /b/p/x?uploadId=U") {
                return;
            }
        }
        panic!("it was not taken back: {:?}", log.lock().unwrap());
    });
}

#[test]
fn a_listing_is_read_to_its_end() {
    let item = |key: &str, size: u64| {
        format!(
            "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-11-25T00:00:00.000Z</LastModified></Contents>"
        )
    };
    let page = move |more: Option<&str>, items: &[(&str, u64)]| {
        let items: String = items.iter().map(|(key, size)| item(key, *size)).collect();
        let more = more
            .map_or(String::new(), |more| format!("<NextContinuationToken>{more}</NextContinuationToken>"));
        is(200, format!("<ListBucketResult>{items}{more}</ListBucketResult>"))
    };
    let (url, log) = serve(move |request| {
        if request.target.contains("continuation-token=2") {
            page(None, &[("p/a/2", 5), ("p/b", 0), ("p/b-1", 3), ("p/b/3", 2)])
        } else {
            page(Some("2"), &[("p/", 0), ("p/a", 0), ("p/a/", 0), ("p/a/1", 3), ("p/a/empty", 0)])
        }
    });
    let store = Opening::new(&url).open("s3://b/p");
    let names = |prefix: &str, after: Option<&str>| {
        run(store.list(prefix, after)).unwrap().into_iter().map(|listed| listed.name).collect::<Vec<_>>()
    };
    assert_eq!(names("", None), ["a/1", "a/2", "a/empty", "b-1", "b/3"]);
    assert_eq!(names("a/", Some("a/1")), ["a/2", "a/empty"]);
    let log = log.lock().unwrap();
    assert_eq!(log[0], "GET /b?list-type=2&prefix=p%2F");
    assert_eq!(log[2], "GET /b?list-type=2&prefix=p%2Fa%2F&start-after=p%2Fa%2F1");
}

#[test]
fn endpoints_and_settings() {
    let refused_because =
        |opening: &Opening, place: &str| opening.try_open(place).map(drop).unwrap_err().to_string();
    let at = |url: &str| Opening::new(url);
    assert_eq!(
        refused_because(&at("http://u:hunter2@h"), "s3://b"),
        "s3://b: not permitted: the endpoint of AWS_ENDPOINT_URL has keys in it, or a query"
    );
    assert!(refused_because(&at("h:9000"), "s3://b").ends_with("is not a URL with http:// or https://"));
    let none = at("http://x");
    assert!(refused_because(&none, "az://c").contains("no account: set AZURE_STORAGE_ACCOUNT_NAME"));
    let bad =
        at("http://x").with("AZURE_STORAGE_ACCOUNT_NAME", "a").with("AZURE_STORAGE_ACCOUNT_KEY", "hunter2!");
    assert_eq!(
        refused_because(&bad, "az://c"),
        "az://c: not permitted: AZURE_STORAGE_ACCOUNT_KEY is not a key"
    );
    let bad = at("http://x").with("AZURE_STORAGE_CONNECTION_STRING", "AccountName=a;hunter2");
    assert!(!refused_because(&bad, "az://c").contains("hunter2"));
    let bad = at("http://x").with("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json");
    assert!(refused_because(&bad, "gs://b").starts_with("gs://b: not permitted: "));
    let bad = at("http://x").with("AWS_CA_BUNDLE", "/nowhere/ca.pem");
    assert!(refused_because(&bad, "s3://b").contains("/nowhere/ca.pem: it is not there"));

    let hosts = Arc::new(Mutex::new(Vec::new()));
    let (kept, objects) = (hosts.clone(), Objects::default());
    let (url, _) = serve(move |request| {
        kept.lock().unwrap().push(format!("{} {}", request.header("host"), request.target));
        objects.answer(request)
    });
    let port = url.rsplit(':').next().unwrap();
    let google = at("http://x").with("STORAGE_EMULATOR_HOST", url.strip_prefix("http://").unwrap());
    put(&*google.open("gs://b/p"), "x y", "1", PutMode::Overwrite).unwrap();
    assert_eq!(hosts.lock().unwrap().last().unwrap(), &format!("127.0.0.1:{port} /b/p%2Fx%20y"));
}
