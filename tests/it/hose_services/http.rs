//! HTTP endpoints.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use kpipe::hose::cancel::Cancel;
use kpipe::hose::dest::client::ClientOptions;
use kpipe::hose::dest::http::{HttpEndpoint, HttpOptions};
use kpipe::hose::dest::secret::SecretSource;
use kpipe::hose::dest::{DeliveryError, Destination, RetryPolicy};
use kpipe::hose::failure::ErrorType;
use kpipe::sys::System;

use super::{batch, client, codes, deliver, hasty, quick, rows};
use crate::receivers::http::{Collector, Fault};
use crate::receivers::{Receiver, Reply, ca_file};

fn options(receiver: &Receiver<Collector>) -> HttpOptions {
    HttpOptions {
        url: receiver.url("/ingest?tenant=7"),
        name: "clicks".to_owned(),
        retry: quick(),
        client: client(),
        ..HttpOptions::default()
    }
}

fn open(options: HttpOptions) -> HttpEndpoint {
    HttpEndpoint::new(&System::real(), options, &Cancel::new()).expect("settings that work")
}

fn words(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("record {i}")).collect()
}

fn records(receiver: &Receiver<Collector>) -> Vec<String> {
    let collector = receiver.service.lock().expect("no thread died");
    collector.records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect()
}

#[test]
fn a_batch_is_one_request_as_the_service_makes_it() {
    let receiver = Receiver::start(Collector::default());
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("key"), "s3cr3t\n").expect("a file");
    for gzip in [false, true] {
        let mut endpoint = open(HttpOptions {
            access_key: Some(SecretSource::File(dir.path().join("key"))),
            common: vec![("tenant".to_owned(), "7".to_owned())],
            gzip,
            ..options(&receiver)
        });
        assert!(deliver(&mut endpoint, &batch(&words(7))).expect("delivered").is_empty());
        let metrics = endpoint.metrics().expect("it counts");
        assert_eq!((metrics.records.load(Relaxed), metrics.processed_records.load(Relaxed)), (7, 7));
        assert_eq!(metrics.bytes.load(Relaxed), 56);
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    let request = &requests[0];
    assert_eq!(request.target, "/ingest?tenant=7");
    let header = |name| request.header(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(header("x-amz-firehose-source-arn"), "arn:kpipe:firehose:::deliverystream/clicks");
    assert_eq!(header("x-amz-firehose-access-key"), "s3cr3t");
    assert_eq!(header("x-amz-firehose-common-attributes"), r#"{"commonAttributes":{"tenant":"7"}}"#);
    assert_eq!(header("user-agent"), concat!("khose/", env!("CARGO_PKG_VERSION")));
    assert!(request.header("content-length").is_some() && request.header("content-encoding").is_none());
    assert_eq!(requests[1].header("content-encoding"), Some("gzip"));
    // The same batch again is the same request, whoever sends it.
    assert_eq!(request.header("x-amz-firehose-request-id"), requests[1].header("x-amz-firehose-request-id"));
    assert_eq!(records(&receiver), [words(7), words(7)].concat());
    assert_eq!(receiver.service.lock().expect("no thread died").once.len(), 7);
}

#[test]
fn every_failure_is_tried_again_with_the_same_id() {
    let right = |reply: Reply| Fault::Lost(reply);
    let big = vec![b' '; (1 << 20) + 1];
    let json = || vec![("Content-Type", "application/json".to_owned())];
    let faults = [
        right(Reply::text(500, "oh")),
        right(Reply::text(429, "slow down")),
        right(Reply::text(202, "later")),
        right(Reply::Full(302, vec![("Location", "/elsewhere".to_owned())], Vec::new())),
        right(Reply::Full(200, json(), Vec::new())),
        right(Reply::Half(200, json(), b"{\"requestId\":".to_vec())),
        right(Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())),
        right(Reply::Close),
        Fault::Early(Reply::Close),
        Fault::WrongId,
        Fault::Kept(Reply::Full(200, json(), big.clone())),
        Fault::Kept(Reply::Chunked(200, json(), big)),
        Fault::Kept(Reply::Silence(Duration::from_millis(500))),
        Fault::Kept(Reply::text(200, "fine")),
    ];
    let count = faults.len();
    let receiver = Receiver::start(Collector::failing(faults));
    let policy = RetryPolicy { duration: Duration::from_secs(5), ..quick() };
    let mut endpoint = open(HttpOptions { retry: policy, client: hasty(), ..options(&receiver) });
    assert!(deliver(&mut endpoint, &batch(&words(4))).expect("delivered").is_empty());
    let requests = receiver.requests();
    assert_eq!(requests.len(), count + 1);
    let ids: std::collections::HashSet<_> =
        requests.iter().map(|request| request.header("x-amz-firehose-request-id")).collect();
    assert_eq!(ids.len(), 1);
    assert!(requests.iter().all(|request| request.target == "/ingest?tenant=7"));
    // Four answers were lost on the way: the records are there five times, for who remembers ids once.
    assert_eq!(records(&receiver).len(), 5 * 4);
    assert_eq!(receiver.service.lock().expect("no thread died").once.len(), 4);
    let metrics = endpoint.metrics().expect("it counts");
    assert_eq!(metrics.processed_records.load(Relaxed), 4 * (count as u64 + 1));
    assert_eq!(metrics.records.load(Relaxed), 4);
}

#[test]
fn who_never_answers_well_is_given_up_with_the_service_s_code() {
    let json = || vec![("Content-Type", "application/json".to_owned())];
    let cases = [
        (Reply::text(503, "closed"), "HttpEndpoint.DestinationException"),
        (Reply::Full(200, json(), b"[]".to_vec()), "HttpEndpoint.InvalidResponseFromDestination"),
        (Reply::Raw(b"what?\r\n\r\n".to_vec()), "HttpEndpoint.InvalidResponseFromDestination"),
        (Reply::Chunked(200, json(), vec![b' '; (1 << 20) + 1]), "HttpEndpoint.ResponseTooLarge"),
        (Reply::Close, "HttpEndpoint.ConnectionReset"),
        (Reply::Silence(Duration::from_secs(1)), "HttpEndpoint.RequestTimeout"),
    ];
    for (reply, code) in cases {
        let receiver = Receiver::start(Collector::failing(vec![Fault::Lost(reply); 50]));
        let policy = RetryPolicy { duration: Duration::from_millis(60), ..quick() };
        // Only who says nothing is not waited for: a slow machine is not to look like one.
        let client = if code == "HttpEndpoint.RequestTimeout" { hasty() } else { client() };
        let mut endpoint = open(HttpOptions { retry: policy, client, ..options(&receiver) });
        let refused = deliver(&mut endpoint, &batch(&words(5))).expect("a verdict");
        assert_eq!(rows(&refused), [0, 1, 2, 3, 4]);
        assert!(codes(&refused).iter().all(|c| *c == code), "{code}: {:?}", refused[0]);
        let sent = receiver.requests().len();
        // Waiting for answers does not count: 5 + 10 + 20 + 25 ms of pauses, and five attempts.
        assert!((4..=6).contains(&sent), "{code}: {sent}");
        for refused in &refused {
            assert_eq!(refused.failure.attempts as usize, sent);
            assert_eq!(refused.failure.error_type, ErrorType::HttpEndpoint);
            assert!(refused.gave_up && refused.ended_us > super::ARRIVAL_US);
        }
    }
}

#[test]
fn nobody_there_is_a_failed_connection_and_the_rest_of_the_batch_is_quick() {
    let receiver = Receiver::start(Collector::default());
    let url = receiver.url("/");
    drop(receiver);
    std::thread::sleep(Duration::from_millis(50));
    let policy = RetryPolicy { duration: Duration::from_millis(300), ..quick() };
    let mut endpoint =
        open(HttpOptions { url, records_max: 1, retry: policy, client: client(), ..HttpOptions::default() });
    let began = Instant::now();
    let refused = deliver(&mut endpoint, &batch(&words(30))).expect("a verdict");
    assert_eq!(refused.len(), 30);
    assert!(codes(&refused).iter().all(|code| *code == "HttpEndpoint.ConnectionFailed"));
    assert!(refused[0].failure.attempts > 3);
    assert_eq!(refused[1].failure.attempts, 1);
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(refused[0].failure.message.contains("refused"), "{}", refused[0].failure.message);
}

#[test]
fn a_batch_is_cut_by_records_and_bytes_always_in_the_same_places() {
    let receiver = Receiver::start(Collector::default());
    for _ in 0..2 {
        let mut endpoint = open(HttpOptions { records_max: 4, ..options(&receiver) });
        deliver(&mut endpoint, &batch(&words(10))).expect("delivered");
    }
    let mut endpoint = open(HttpOptions { body_bytes_max: 160 + 3 * 24, ..options(&receiver) });
    deliver(&mut endpoint, &batch(&words(10))).expect("delivered");
    let sizes: Vec<usize> =
        receiver.requests().iter().map(|r| r.json()["records"].as_array().expect("records").len()).collect();
    assert_eq!(sizes, [4, 4, 2, 4, 4, 2, 3, 3, 3, 1]);
    assert_eq!(records(&receiver), [words(10), words(10), words(10)].concat());
    assert_eq!(receiver.service.lock().expect("no thread died").once.len(), 20);
    let connections: std::collections::HashSet<_> =
        receiver.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections.len(), 3, "one for each run");
}

#[test]
fn too_large_is_halved_down_to_the_record_that_is() {
    let receiver = Receiver::start(Collector { body_max: Some(600), ..Collector::default() });
    let mut payloads = words(20);
    payloads[13] = "x".repeat(1000);
    let mut endpoint = open(options(&receiver));
    let refused = deliver(&mut endpoint, &batch(&payloads)).expect("a verdict");
    assert_eq!(rows(&refused), [13]);
    assert_eq!(codes(&refused), ["HttpEndpoint.DestinationException"]);
    assert!(!refused[0].gave_up && refused[0].failure.message.contains("413"), "{:?}", refused[0]);
    assert_eq!(refused[0].failure.attempts, 6, "20, 10, 5, 3, 2, 1");
    let expected: Vec<String> = payloads.iter().filter(|payload| payload.len() < 1000).cloned().collect();
    assert_eq!(records(&receiver), expected, "in order, each once");
}

#[test]
fn a_large_body_that_nobody_reads_is_too_large_all_the_same() {
    let receiver = Receiver::start(Collector { body_max: Some(3 << 20), rude: true, ..Collector::default() });
    let payloads = vec!["y".repeat(1_000_000); 12];
    let policy = RetryPolicy { duration: Duration::from_secs(5), ..quick() };
    let mut endpoint = open(HttpOptions { retry: policy, ..options(&receiver) });
    for number in 1..=2 {
        let again = kpipe::hose::dest::Batch { number, ..batch(&payloads) };
        assert!(deliver(&mut endpoint, &again).expect("delivered").is_empty());
    }
    assert_eq!(receiver.service.lock().expect("no thread died").once.len(), 12);
}

#[test]
fn a_record_above_the_limit_is_refused_and_the_others_arrive() {
    let receiver = Receiver::start(Collector::default());
    let mut payloads = words(5);
    payloads[2] = "z".repeat(2000);
    let mut endpoint = open(HttpOptions { record_bytes_max: 1999, ..options(&receiver) });
    let refused = deliver(&mut endpoint, &batch(&payloads)).expect("a verdict");
    assert_eq!((rows(&refused), codes(&refused)), (vec![2], vec!["HttpEndpoint.RecordTooLarge"]));
    assert_eq!(records(&receiver).len(), 4);
}

#[test]
fn a_key_is_read_again_when_it_is_refused_and_never_told() {
    let receiver = Receiver::start(Collector { key: Some("right-key".to_owned()), ..Collector::default() });
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    std::fs::write(&path, "wrong-key").expect("a file");
    let policy = RetryPolicy { duration: Duration::from_millis(20), ..quick() };
    let mut endpoint = open(HttpOptions {
        access_key: Some(SecretSource::File(path.clone())),
        retry: policy,
        ..options(&receiver)
    });
    let refused = deliver(&mut endpoint, &batch(&words(1))).expect("a verdict");
    assert_eq!(codes(&refused), ["HttpEndpoint.DestinationException"]);
    let message = &refused[0].failure.message;
    assert!(
        message.contains("403") && message.contains("***") && !message.contains("wrong-key"),
        "{message}"
    );
    std::fs::write(&path, "right-key").expect("a file");
    let before = receiver.requests().len();
    assert!(deliver(&mut endpoint, &batch(&words(1))).expect("delivered").is_empty());
    assert_eq!(receiver.requests().len(), before + 2, "refused once, then right");
    std::fs::write(&path, "other-key").expect("a file");
    receiver.service.lock().expect("no thread died").key = Some("other-key".to_owned());
    endpoint.reload();
    assert!(deliver(&mut endpoint, &batch(&words(1))).expect("delivered").is_empty());
    assert_eq!(receiver.requests().len(), before + 3);
}

#[test]
fn retry_after_is_respected() {
    let reply = Reply::Full(503, vec![("Retry-After", "1".to_owned())], Vec::new());
    let receiver = Receiver::start(Collector::failing([Fault::Lost(reply)]));
    let policy =
        RetryPolicy { duration: Duration::from_secs(9), longest_pause: Duration::from_secs(5), ..quick() };
    let mut endpoint = open(HttpOptions { retry: policy, ..options(&receiver) });
    let began = Instant::now();
    assert!(deliver(&mut endpoint, &batch(&words(1))).expect("delivered").is_empty());
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_request_to_finish_ends_the_pause() {
    let receiver = Receiver::start(Collector::failing(vec![Fault::Lost(Reply::text(500, "oh")); 99]));
    let cancel = Cancel::new();
    let hour = Duration::from_hours(1);
    let policy = RetryPolicy { duration: hour, first_pause: hour, longest_pause: hour };
    let options = HttpOptions { retry: policy, ..options(&receiver) };
    let mut endpoint = HttpEndpoint::new(&System::real(), options, &cancel).expect("settings that work");
    let began = Instant::now();
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        cancel.cancel();
    });
    let ended = deliver(&mut endpoint, &batch(&words(1)));
    assert!(matches!(ended, Err(DeliveryError::Interrupted)));
    assert!(began.elapsed() < Duration::from_secs(5));
    other.join().expect("it ends");
    // What goes well is finished all the same.
    receiver.service.lock().expect("no thread died").faults.clear();
    assert!(deliver(&mut endpoint, &batch(&words(3))).expect("delivered").is_empty());
}

#[test]
fn several_requests_may_be_under_way_at_once() {
    let slow = Fault::Kept(Reply::Close);
    let receiver = Receiver::start(Collector::failing([slow]));
    let mut endpoint = open(HttpOptions { records_max: 2, at_once: 4, ..options(&receiver) });
    assert!(deliver(&mut endpoint, &batch(&words(25))).expect("delivered").is_empty());
    let mut once = receiver.service.lock().expect("no thread died").once.clone();
    once.sort();
    let mut expected: Vec<Vec<u8>> = words(25).into_iter().map(String::into_bytes).collect();
    expected.sort();
    assert_eq!(once, expected);
}

#[test]
fn settings_that_cannot_work_are_refused_at_the_start() {
    let wrong = |options: HttpOptions| {
        HttpEndpoint::new(&System::real(), options, &Cancel::new()).err().expect("refused").to_string()
    };
    let url = |url: &str| HttpOptions { url: url.to_owned(), ..HttpOptions::default() };
    assert!(wrong(url("https://me:pw@host/")).contains("credentials"));
    assert!(!wrong(url("https://me:pw@host/")).contains("pw"));
    wrong(url("s3://bucket/x"));
    let missing =
        HttpOptions { access_key: Some(SecretSource::File("/nonexistent/k".into())), ..url("http://h/") };
    assert!(wrong(missing).contains("/nonexistent/k"));
}

#[test]
fn certificates_are_checked() {
    let receiver = Receiver::start_tls(Collector::default());
    let url = format!("https://{}/", receiver.address);
    let policy = RetryPolicy { duration: Duration::from_millis(20), ..quick() };
    let with = |url: &str, client: ClientOptions| HttpOptions {
        url: url.to_owned(),
        client,
        retry: policy,
        ..HttpOptions::default()
    };
    let trusting = ClientOptions { ca_file: Some(ca_file()), ..client() };
    let mut endpoint = open(with(&url, trusting.clone()));
    assert!(deliver(&mut endpoint, &batch(&words(3))).expect("delivered").is_empty());
    assert_eq!(records(&receiver), words(3));
    let mut endpoint = open(with(&url, client()));
    let refused = deliver(&mut endpoint, &batch(&words(1))).expect("a verdict");
    assert_eq!(codes(&refused), ["HttpEndpoint.ConnectionFailed"]);
    let message = &refused[0].failure.message;
    assert!(message.starts_with("certificate not trusted"), "{message}");
    let plain = Receiver::start(Collector::default());
    let mut endpoint = open(with(&format!("https://{}/", plain.address), trusting));
    let refused = deliver(&mut endpoint, &batch(&words(1))).expect("a verdict");
    assert!(refused[0].failure.message.starts_with("TLS"), "{}", refused[0].failure.message);
}

/// The environment belongs to a process: this test runs itself again with another.
#[test]
fn the_proxies_of_the_environment_are_respected() {
    const CHILD: &str = "KPIPE_TEST_BEHIND_PROXY";
    if std::env::var_os(CHILD).is_some() {
        let client = ClientOptions { proxies: true, ..client() };
        let url = "http://collector.invalid/ingest".to_owned();
        let mut endpoint = open(HttpOptions { url, client, retry: quick(), ..HttpOptions::default() });
        assert!(deliver(&mut endpoint, &batch(&words(2))).expect("delivered").is_empty());
        return;
    }
    let proxy = Receiver::start(Collector::default());
    let status = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "hose_services::http::the_proxies_of_the_environment_are_respected", "--quiet"])
        .env(CHILD, "1")
        .env("HTTP_PROXY", proxy.url(""))
        .env_remove("http_proxy")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.expect("it runs").success());
    assert_eq!(proxy.requests()[0].target, "http://collector.invalid/ingest");
    assert_eq!(records(&proxy), words(2));
}
