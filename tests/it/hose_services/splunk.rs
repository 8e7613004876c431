//! Splunk.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use kpipe::hose::cancel::Cancel;
use kpipe::hose::dest::client::ClientOptions;
use kpipe::hose::dest::secret::SecretSource;
use kpipe::hose::dest::splunk::{Splunk, SplunkEndpoint, SplunkOptions};
use kpipe::hose::dest::{DeliveryError, Destination, RetryPolicy};
use kpipe::hose::failure::ErrorType;
use kpipe::sys::System;
use serde_json::json;
use tempfile::TempDir;

use super::{batch, client, codes, deliver, quick, rows};
use crate::receivers::hec::Hec;
use crate::receivers::{Receiver, Reply, Request};

/// The token in a file that lives as long as the test.
struct Token {
    dir: TempDir,
}

impl Token {
    fn new() -> Self {
        let token = Self { dir: tempfile::tempdir().expect("a directory") };
        token.set("5ecre7");
        token
    }

    fn set(&self, token: &str) {
        std::fs::write(self.dir.path().join("token"), token).expect("a file");
    }

    fn options(&self, receiver: &Receiver<Hec>) -> SplunkOptions {
        SplunkOptions {
            url: format!("splunk+http://{}", receiver.address),
            token: SecretSource::File(self.dir.path().join("token")),
            ack_timeout: Duration::from_secs(20),
            ack_pause: Duration::from_millis(10),
            retry: quick(),
            client: client(),
            ..SplunkOptions::default()
        }
    }
}

fn open(options: SplunkOptions) -> Splunk {
    Splunk::new(&System::real(), options, &Cancel::new()).expect("settings that work")
}

fn events(n: usize) -> Vec<String> {
    (0..n).map(|i| json!({ "event": i, "sourcetype": "clicks" }).to_string()).collect()
}

/// The events that were taken, in their order.
fn taken(receiver: &Receiver<Hec>) -> Vec<u64> {
    receiver
        .service
        .lock()
        .expect("no thread died")
        .events()
        .iter()
        .filter_map(serde_json::Value::as_u64)
        .collect()
}

fn posts(receiver: &Receiver<Hec>) -> Vec<Request> {
    receiver.requests().into_iter().filter(|request| !request.target.contains("/ack")).collect()
}

#[test]
fn events_are_delivered_when_they_are_acknowledged() {
    let (receiver, token) = (Receiver::start(Hec { patience: 3, ..Hec::default() }), Token::new());
    let mut to = open(token.options(&receiver));
    for _ in 0..2 {
        assert!(deliver(&mut to, &batch(&events(4))).expect("delivered").is_empty());
    }
    let metrics = to.metrics().expect("it counts");
    assert_eq!((metrics.records.load(Relaxed), metrics.requests.load(Relaxed)), (8, 2));
    assert!(metrics.ack_latency_us.load(Relaxed) >= 30_000, "asked for four times");
    assert_eq!(taken(&receiver), [0, 1, 2, 3, 0, 1, 2, 3]);
    let requests = receiver.requests();
    let channel = requests[0].header("x-splunk-request-channel").expect("a channel").to_owned();
    assert!(requests.iter().all(|request| request.header("x-splunk-request-channel") == Some(&channel)));
    let ack = format!("/services/collector/ack?channel={channel}");
    assert!(requests.iter().any(|request| request.target == ack));
    assert_eq!(posts(&receiver)[0].target, "/services/collector/event");
}

#[test]
fn raw_records_are_lines() {
    let (receiver, token) = (Receiver::start(Hec::default()), Token::new());
    let url = format!("splunk+http://{}/?index=main&sourcetype=x", receiver.address);
    let raw = SplunkOptions { url, endpoint: SplunkEndpoint::Raw, ..token.options(&receiver) };
    for gzip in [false, true] {
        let mut to = open(SplunkOptions { gzip, ..raw.clone() });
        let refused = deliver(&mut to, &batch(&["one", "", "two\n", "three"])).expect("a verdict");
        assert_eq!((rows(&refused), codes(&refused)), (vec![1], vec!["Splunk.InvalidDataFormat"]));
    }
    let bodies = receiver.service.lock().expect("no thread died").bodies.clone();
    assert_eq!(bodies, [b"one\ntwo\nthree\n", b"one\ntwo\nthree\n"]);
    assert_eq!(posts(&receiver)[0].target, "/services/collector/raw?index=main&sourcetype=x");
}

#[test]
fn what_is_never_acknowledged_is_sent_again_after_its_time() {
    let (receiver, token) = (Receiver::start(Hec { never: 2, ..Hec::default() }), Token::new());
    let mut to = open(SplunkOptions { ack_timeout: Duration::from_millis(400), ..token.options(&receiver) });
    let began = Instant::now();
    assert!(deliver(&mut to, &batch(&events(2))).expect("delivered").is_empty());
    assert!(began.elapsed() >= Duration::from_millis(800));
    let taken = taken(&receiver);
    assert!(
        taken.len() >= 6 && taken.chunks(2).all(|pair| pair == [0, 1]),
        "the third was acknowledged: {taken:?}"
    );
}

#[test]
fn who_never_acknowledges_is_given_up() {
    let (receiver, token) = (Receiver::start(Hec { never: 1000, ..Hec::default() }), Token::new());
    let policy = RetryPolicy { duration: Duration::from_millis(20), ..quick() };
    let mut to = open(SplunkOptions {
        retry: policy,
        ack_timeout: Duration::from_millis(50),
        ..token.options(&receiver)
    });
    let refused = deliver(&mut to, &batch(&events(3))).expect("a verdict");
    assert_eq!(codes(&refused), ["Splunk.AckTimeout"; 3]);
    let it = &refused[2];
    // Waiting is not part of the time: 5 + 10 + 5 ms of pauses, and an attempt after each.
    assert_eq!((it.failure.attempts, it.gave_up, it.failure.error_type), (4, true, ErrorType::Splunk));
    let (name, id) = &it.details[0];
    assert!(*name == "EventId" && id.ends_with(".0") && id.len() > 50, "{id}");
}

#[test]
fn an_acknowledgement_is_told_once_and_lost_with_its_answer() {
    let (receiver, token) = (
        Receiver::start(Hec {
            patience: 0,
            // The first question only finds out whether there are acknowledgements at all.
            ack_faults: [None, Some(Reply::Close), Some(Reply::text(500, "oh"))].into(),
            ..Hec::default()
        }),
        Token::new(),
    );
    let mut to = open(SplunkOptions { ack_timeout: Duration::from_millis(400), ..token.options(&receiver) });
    assert!(deliver(&mut to, &batch(&events(1))).expect("delivered").is_empty());
    assert!(taken(&receiver).len() >= 2, "sent again, because it could not be known");
}

#[test]
fn a_token_without_acknowledgements_ends_the_run_before_anything_is_sent() {
    let (receiver, token) = (Receiver::start(Hec { acks: false, ..Hec::default() }), Token::new());
    let mut to = open(token.options(&receiver));
    let error = deliver(&mut to, &batch(&events(1))).expect_err("no acknowledgements");
    assert!(matches!(error, DeliveryError::Permanent(_)));
    let message = error.to_string();
    assert!(message.contains("Splunk.DisabledAck") && message.contains("--splunk-no-ack"), "{message}");
    assert!(taken(&receiver).is_empty());
    let mut to = open(SplunkOptions { acks: false, ..token.options(&receiver) });
    assert!(deliver(&mut to, &batch(&events(2))).expect("delivered").is_empty());
    assert_eq!(taken(&receiver), [0, 1]);
}

#[test]
fn failures_are_tried_again() {
    let busy = Reply::json(503, &json!({ "text": "Server is busy", "code": 9 }));
    let faults =
        [Some(busy), Some(Reply::text(502, "gateway")), Some(Reply::Close), Some(Reply::text(200, "<html>"))];
    let (receiver, token) = (Receiver::start(Hec { faults: faults.into(), ..Hec::default() }), Token::new());
    let mut to = open(token.options(&receiver));
    assert!(deliver(&mut to, &batch(&events(2))).expect("delivered").is_empty());
    assert_eq!(taken(&receiver), [0, 1]);
    assert_eq!(posts(&receiver).len(), 5);
}

#[test]
fn a_bad_event_takes_nothing_along() {
    let (receiver, token) = (
        Receiver::start(Hec { wrong: |event| event["event"] == 3 || event["event"] == 7, ..Hec::default() }),
        Token::new(),
    );
    let mut payloads = events(9);
    payloads[1] = "no event".to_owned();
    payloads[4] = json!({ "event": "" }).to_string();
    payloads[5] = format!("{}{}", json!({ "event": 50 }), json!({ "event": 51 }));
    let mut to = open(token.options(&receiver));
    let refused = deliver(&mut to, &batch(&payloads)).expect("a verdict");
    assert_eq!(rows(&refused), [1, 3, 4, 7]);
    assert_eq!(codes(&refused), ["Splunk.InvalidDataFormat"; 4]);
    assert!(refused.iter().all(|it| !it.gave_up));
    assert_eq!(taken(&receiver), [0, 2, 50, 51, 6, 8]);
}

#[test]
fn bad_events_are_found_by_halves_where_no_number_is_given() {
    let reply = |event: &serde_json::Value| event["event"] == 4;
    let (receiver, token) = (Receiver::start(Unnumbered { hec: Hec::default(), wrong: reply }), Token::new());
    let url = format!("splunk+http://{}", receiver.address);
    let other = Receiver::start(Hec::default());
    let mut to = open(SplunkOptions { url, ..token.options(&other) });
    let refused = deliver(&mut to, &batch(&events(7))).expect("a verdict");
    assert_eq!((rows(&refused), codes(&refused)), (vec![4], vec!["Splunk.InvalidDataFormat"]));
    let mut taken: Vec<u64> = receiver
        .service
        .lock()
        .expect("no thread died")
        .hec
        .events()
        .iter()
        .filter_map(serde_json::Value::as_u64)
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2, 3, 5, 6]);
}

/// A collector that does not say which event is wrong.
struct Unnumbered {
    hec: Hec,
    wrong: fn(&serde_json::Value) -> bool,
}

impl crate::receivers::Service for Unnumbered {
    fn answer(&mut self, request: &Request) -> Reply {
        let is_wrong = !request.target.contains("/ack")
            && request.lines().iter().any(|line| (self.wrong)(&serde_json::from_str(line).expect("JSON")));
        if is_wrong {
            return Reply::json(400, &json!({ "text": "Invalid data format", "code": 6 }));
        }
        self.hec.answer(request)
    }
}

#[test]
fn too_large_is_halved() {
    let (receiver, token) = (Receiver::start(Hec { body_max: 100, ..Hec::default() }), Token::new());
    let mut payloads = events(8);
    payloads[6] = json!({ "event": "x".repeat(200) }).to_string();
    let mut to = open(token.options(&receiver));
    let refused = deliver(&mut to, &batch(&payloads)).expect("a verdict");
    assert_eq!((rows(&refused), codes(&refused)), (vec![6], vec!["Splunk.ServerError.ContentTooLarge"]));
    let mut taken = taken(&receiver);
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2, 3, 4, 5, 7]);
}

#[test]
fn many_requests_wait_for_their_acknowledgements_together() {
    let (receiver, token) = (Receiver::start(Hec { patience: 5, ..Hec::default() }), Token::new());
    let mut to = open(SplunkOptions {
        request_bytes: 100,
        ack_timeout: Duration::from_secs(20),
        ..token.options(&receiver)
    });
    assert!(deliver(&mut to, &batch(&events(40))).expect("delivered").is_empty());
    let mut taken = taken(&receiver);
    taken.sort_unstable();
    assert_eq!(taken, (0..40).collect::<Vec<_>>());
    let together = receiver.requests().iter().any(|request| {
        request.target.contains("/ack") && request.json()["acks"].as_array().expect("acks").len() >= 4
    });
    assert!(together);
}

#[test]
fn cookies_keep_the_session_with_its_indexer() {
    let (receiver, token) = (Receiver::start(Hec { sticky: true, ..Hec::default() }), Token::new());
    let mut to = open(token.options(&receiver));
    assert!(deliver(&mut to, &batch(&events(2))).expect("delivered").is_empty());
    let posts = posts(&receiver);
    assert_eq!(posts[0].header("cookie"), Some("AWSALB=node7"));
}

#[test]
fn a_balancer_that_forgets_the_session_is_named() {
    let invalid = || Some(Reply::json(400, &json!({ "text": "Invalid data channel", "code": 11 })));
    let faults = std::iter::repeat_with(invalid).take(500).collect();
    let (receiver, token) = (Receiver::start(Hec { ack_faults: faults, ..Hec::default() }), Token::new());
    let policy = RetryPolicy { duration: Duration::ZERO, ..quick() };
    let mut to = open(SplunkOptions {
        retry: policy,
        ack_timeout: Duration::from_millis(200),
        ..token.options(&receiver)
    });
    let refused = deliver(&mut to, &batch(&events(1))).expect("a verdict");
    assert_eq!(codes(&refused), ["Splunk.ProxyWithoutStickySessions"]);
}

#[test]
fn the_token_is_read_again_and_never_told() {
    let (receiver, token) = (Receiver::start(Hec { token: "new-t0ken", ..Hec::default() }), Token::new());
    let policy = RetryPolicy { duration: Duration::from_millis(10), ..quick() };
    let mut to = open(SplunkOptions { retry: policy, ..token.options(&receiver) });
    let refused = deliver(&mut to, &batch(&events(1))).expect("a verdict");
    assert_eq!(codes(&refused), ["Splunk.InvalidToken"]);
    assert!(refused[0].gave_up && !refused[0].failure.message.contains("5ecre7"));
    token.set("new-t0ken");
    assert!(deliver(&mut to, &batch(&events(1))).expect("delivered").is_empty());
}

#[test]
fn a_request_to_finish_does_not_wait_for_acknowledgements_for_ever() {
    let (receiver, token) = (Receiver::start(Hec { never: 1000, ..Hec::default() }), Token::new());
    let cancel = Cancel::new();
    let options = SplunkOptions {
        ack_timeout: Duration::from_mins(3),
        client: ClientOptions { grace: Duration::from_millis(300), ..client() },
        ..token.options(&receiver)
    };
    let mut to = Splunk::new(&System::real(), options, &cancel).expect("settings that work");
    let began = Instant::now();
    cancel.cancel();
    let ended = deliver(&mut to, &batch(&events(1)));
    assert!(matches!(ended, Err(DeliveryError::Interrupted)));
    assert!((began.elapsed().as_millis() >= 300) && began.elapsed() < Duration::from_secs(5));
}
