//! Where keys come from, and when they are read again.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::super::super::{PutMode, StoreError};
use super::server::{Objects, Opening, Request, is, put, refused, serve};
use crate::sys::fs::RealDisk;
use crate::sys::sim::Machine;
use crate::sys::{Clock, System};

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
