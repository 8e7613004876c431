//! Against a server in the test itself, which misbehaves where real ones rarely do.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::super::{Environment, Location};
use super::*;
use crate::sys::fs::RealDisk;
use crate::sys::sim::Machine;
use crate::sys::{Clock, System};

/// A request as the server sees it.
struct Request {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let len = headers.get("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        let mut body = vec![0; len];
        stream.read_exact(&mut body).ok()?;
        Some(Self { method, target, headers, body })
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// `PUT /b/x`, and what it is made of in the log of a test.
    fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What the server does about a request.
enum Answer {
    /// A status, headers and a body.
    Is(u16, &'static str, String),
    /// The connection ends without a word.
    Hangs,
}

fn is(status: u16, body: impl Into<String>) -> Answer {
    Answer::Is(status, "", body.into())
}

fn refused(status: u16, code: &str) -> Answer {
    is(status, format!("<Error><Code>{code}</Code><Message>no</Message><Secret>hunter2</Secret></Error>"))
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// A server on a port of its own, for as long as the process lives.
fn serve(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let log = Arc::new(Mutex::new(Vec::new()));
    let (handler, lines): (Arc<Handler>, _) = (Arc::new(handler), log.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (handler, lines) = (handler.clone(), lines.clone());
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                while let Some(request) = Request::read(&mut stream) {
                    lines.lock().unwrap().push(request.line());
                    let Answer::Is(status, headers, body) = handler(&request) else { break };
                    let head =
                        format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
                    let body = if request.method == "HEAD" { String::new() } else { body };
                    if stream.get_mut().write_all(format!("{head}{body}").as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (url, log)
}

struct Opening {
    variables: BTreeMap<String, String>,
    system: System,
    told: Arc<Mutex<Vec<String>>>,
}

impl Opening {
    fn new(url: &str) -> Self {
        let opening = Self { variables: BTreeMap::new(), system: System::real(), told: Arc::default() };
        let home = "/nowhere";
        opening
            .with("HOME", home)
            .with("AWS_ENDPOINT_URL", url)
            .with("AWS_ACCESS_KEY_ID", "A")
            .with("AWS_SECRET_ACCESS_KEY", "hunter2")
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn open(&self, place: &str) -> Arc<dyn Store> {
        self.try_open(place).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_open(&self, place: &str) -> Result<Arc<dyn Store>, StoreError> {
        let told = self.told.clone();
        let environment: Environment = self.variables.clone().into_iter().collect();
        let tell = Arc::new(move |line: &str| told.lock().unwrap().push(line.to_owned()));
        Location::parse(place).unwrap().open(&Context::new(&self.system, environment, tell))
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn put(store: &dyn Store, name: &str, bytes: impl AsRef<[u8]>, mode: PutMode) -> Result<(), StoreError> {
    run(store.put(name, &Body::from(bytes.as_ref().to_vec()), mode, &Attributes::default()))
}

/// S3's way to say it, and Azure's; and Google's.
fn must_be_new(request: &Request) -> bool {
    request.header("if-none-match") == "*" || request.header("x-goog-if-generation-match") == "0"
}

const META: &str = "etag: \"e\"\r\nlast-modified: Wed, 25 Nov 2026 00:00:00 GMT\r\n";

/// Objects with all that S3 does to them here.
#[derive(Clone, Default)]
struct Objects(Arc<Mutex<BTreeMap<String, String>>>);

impl Objects {
    fn answer(&self, request: &Request) -> Answer {
        let mut objects = self.0.lock().unwrap();
        let there = objects.get(&request.target).cloned();
        match request.method.as_str() {
            "PUT" if there.is_some() && must_be_new(request) => refused(412, "PreconditionFailed"),
            "PUT" => {
                objects.insert(request.target.clone(), String::from_utf8(request.body.clone()).unwrap());
                Answer::Is(200, META, String::new())
            }
            "GET" | "HEAD" => match there {
                Some(body) if request.header("range").is_empty() => Answer::Is(200, META, body),
                Some(body) => {
                    let headers =
                        format!("{META}content-range: bytes 0-{}/{}\r\n", body.len() - 1, body.len());
                    Answer::Is(206, headers.leak(), body)
                }
                None => refused(404, "NoSuchKey"),
            },
            _ => refused(405, "MethodNotAllowed"),
        }
    }
}

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

/// The key that a request was signed with.
fn key_of(request: &Request) -> String {
    let (_, rest) = request.header("authorization").split_once("Credential=").unwrap_or(("", "/"));
    rest.split('/').next().unwrap().to_owned()
}

#[test]
fn keys_are_read_again_when_they_are_refused() {
    let good = Arc::new(Mutex::new("K1"));
    let (objects, accepted) = (Objects::default(), good.clone());
    let (url, log) = serve(move |request| {
        if key_of(request) == *accepted.lock().unwrap() {
            objects.answer(request)
        } else {
            refused(403, "InvalidAccessKeyId")
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    let write = |key: &str| {
        std::fs::write(&file, format!("[p]\naws_access_key_id = {key}\naws_secret_access_key = hunter2\n"))
            .unwrap();
    };
    write("K1");
    let mut opening = Opening::new(&url);
    opening.variables.retain(|name, _| !name.contains("ACCESS_KEY"));
    let opening =
        opening.with("AWS_PROFILE", "p").with("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap());
    let store = opening.open("s3://b/p");
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    // Others, in the service and in the file: nobody has to tell.
    *good.lock().unwrap() = "K2";
    write("K2");
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    assert_eq!(log.lock().unwrap().len(), 3);

    // The same keys are not tried twice, and a refusal that is meant does not have the file read each time.
    *good.lock().unwrap() = "K3";
    let denied = put(&*store, "x", "1", PutMode::Overwrite).unwrap_err();
    assert_eq!(denied.to_string(), "s3://b/p/x: not permitted: 403 InvalidAccessKeyId: no");
    assert_eq!(log.lock().unwrap().len(), 4);
    write("K3");
    assert!(put(&*store, "x", "1", PutMode::Overwrite).is_err());
    // When told, at once.
    store.refresh_credentials();
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    let told = opening.told.lock().unwrap();
    assert!(told.iter().all(|line| !line.contains("hunter2")));
}

#[test]
fn a_program_is_asked_again_before_its_keys_end_and_after_a_refusal() {
    let machine = Machine::new();
    let system = System { disk: Arc::new(RealDisk), clock: Arc::new(machine.clone()) };
    let good = Arc::new(Mutex::new("K1".to_owned()));
    let (objects, accepted) = (Objects::default(), good.clone());
    let (url, log) = serve(move |request| {
        if key_of(request) == *accepted.lock().unwrap() {
            objects.answer(request)
        } else {
            refused(400, "ExpiredToken")
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // Each run prints the next key, good for an hour from the start.
    let begun_us = machine.now_us();
    let end = jiff::Timestamp::from_microsecond(begun_us + 3600 * 1_000_000).unwrap();
    let script = format!(
        "echo x >> {runs}; n=$(wc -l < {runs}); echo '{{\"Version\":1,\"AccessKeyId\":\"K'$n'\",\
         \"SecretAccessKey\":\"hunter2\",\"SessionToken\":\"t\",\"Expiration\":\"{end}\"}}'",
        runs = at("runs").display()
    );
    std::fs::write(at("script"), script).unwrap();
    std::fs::write(at("config"), format!("[default]\ncredential_process = sh {}\n", at("script").display()))
        .unwrap();
    let mut opening = Opening::new(&url).with("AWS_CONFIG_FILE", at("config").to_str().unwrap());
    opening.variables.retain(|name, _| !name.contains("ACCESS_KEY"));
    opening.system = system;
    let store = opening.open("s3://b/p");
    let runs = || std::fs::read_to_string(at("runs")).unwrap().lines().count();
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    machine.set_clock(begun_us + 54 * 60 * 1_000_000);
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    assert_eq!(runs(), 1);
    // Five minutes before the end.
    "K2".clone_into(&mut good.lock().unwrap());
    machine.set_clock(begun_us + 56 * 60 * 1_000_000);
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    assert_eq!(runs(), 2);
    // A program that fails has the old ones used while they are good, and is not run for each request.
    let script = std::fs::read_to_string(at("script")).unwrap();
    std::fs::write(at("script"), "exit 1").unwrap();
    store.refresh_credentials();
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    assert_eq!(
        *opening.told.lock().unwrap(),
        ["credentials cannot be renewed yet: credential_process of profile `default`: exit status: 1"]
    );
    std::fs::write(at("script"), script).unwrap();
    machine.set_clock(begun_us + 57 * 60 * 1_000_000);
    "K3".clone_into(&mut good.lock().unwrap());
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    // Refused before their end.
    machine.set_clock(begun_us);
    "K4".clone_into(&mut good.lock().unwrap());
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    assert_eq!((runs(), log.lock().unwrap().len()), (4, 8));
}

#[test]
fn a_role_is_assumed_with_other_keys() {
    let objects = Objects::default();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let forms = asked.clone();
    let (url, _) = serve(move |request| match (request.line().as_str(), key_of(request).as_str()) {
        ("POST /", key) => {
            forms.lock().unwrap().push(format!("{key} {}", String::from_utf8_lossy(&request.body)));
            is(
                200,
                "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ROLE</AccessKeyId>\
                 <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
                 <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
            )
        }
        (_, "ROLE") if request.header("x-amz-security-token") == "t" => objects.answer(request),
        _ => refused(403, "AccessDenied"),
    });
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    std::fs::write(
        &config,
        "[profile r]\nrole_arn = arn:aws:iam::1:role/x y\nexternal_id = e&f\nsource_profile = base\nregion = eu-west-1\n\
         [profile base]\naws_access_key_id = BASE\naws_secret_access_key = hunter2\n",
    )
    .unwrap();
    let mut opening =
        Opening::new(&url).with("AWS_CONFIG_FILE", config.to_str().unwrap()).with("AWS_PROFILE", "r");
    opening.variables.retain(|name, _| !name.contains("ACCESS_KEY"));
    let store = opening.open("s3://b/p");
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    assert_eq!(
        *asked.lock().unwrap(),
        ["BASE Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx+y&\
          RoleSessionName=kpipe&ExternalId=e%26f"]
    );

    let (url, _) = serve(|_| refused(403, "AccessDenied"));
    let opening = opening.with("AWS_ENDPOINT_URL", &url);
    let error = put(&*opening.open("s3://b/p"), "x", "1", PutMode::Overwrite).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "s3://b/p/x: not permitted: role arn:aws:iam::1:role/x y: {url}/: 403 Forbidden AccessDenied: no"
        )
    );
}

#[test]
fn the_machine_and_the_container_give_keys() {
    let objects = Objects::default();
    let (url, _) = serve(move |request| match (request.line().as_str(), key_of(request).as_str()) {
        ("PUT /latest/api/token", _) => is(200, "T"),
        ("GET /latest/meta-data/iam/security-credentials/", _) => is(200, "role"),
        ("GET /latest/meta-data/iam/security-credentials/role" | "GET /container", _) => is(
            200,
            r#"{"AccessKeyId":"M","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}"#,
        ),
        (_, "M") => objects.answer(request),
        _ => refused(403, "AccessDenied"),
    });
    let mut opening = Opening::new(&url);
    opening.variables.retain(|name, _| !name.contains("ACCESS_KEY"));
    let opening = opening.with("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url);
    put(&*opening.open("s3://b/p"), "x", "1", PutMode::Overwrite).unwrap();

    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "token").unwrap();
    let opening = opening
        .with("AWS_EC2_METADATA_DISABLED", "true")
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{url}/container"))
        .with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.path().to_str().unwrap());
    let store = opening.open("s3://b/p");
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
    store.refresh_credentials();
    put(&*store, "x", "1", PutMode::Overwrite).unwrap();
}

#[test]
fn a_machine_without_keys_is_told_at_once() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut opening = Opening::new("http://x");
    opening.variables.retain(|name, _| !name.contains("ACCESS_KEY"));
    let opening = opening.with("AWS_EC2_METADATA_SERVICE_ENDPOINT", &format!("http://{closed}"));
    let error = put(&*opening.open("s3://b/p"), "x", "1", PutMode::Overwrite).unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.starts_with("s3://b/p/x: not permitted: no credentials: give AWS_ACCESS_KEY_ID"), "{said}");
    assert!(said.ends_with("the machine's metadata service: connection refused"), "{said}");
    // None are needed.
    let objects = Objects::default();
    let (url, _) = serve(move |request| match key_of(request).as_str() {
        "" => objects.answer(request),
        _ => refused(400, "SignedRequest"),
    });
    let opening = opening.with("AWS_ENDPOINT_URL", &url).with("AWS_SKIP_SIGNATURE", "true");
    put(&*opening.open("s3://b/p"), "x", "1", PutMode::Overwrite).unwrap();
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
    assert_eq!(log.lock().unwrap().last().unwrap(), "DELETE /b/p/x?uploadId=U");

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
