//! OpenSearch.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use kpipe::hose::cancel::Cancel;
use kpipe::hose::dest::opensearch::{Authorization, OpenSearch, OpenSearchOptions, Rotation};
use kpipe::hose::dest::secret::SecretSource;
use kpipe::hose::dest::{Destination, RetryPolicy};
use kpipe::hose::failure::ErrorType;
use kpipe::sys::System;
use serde_json::{Value, json};

use super::{batch, client, codes, deliver, hasty, quick, rows};
use crate::receivers::bulk::Bulk;
use crate::receivers::{Receiver, Reply};

const STREAM: &str = "6e58f2a4-0000-4000-8000-000000000001";

fn options(receiver: &Receiver<Bulk>) -> OpenSearchOptions {
    OpenSearchOptions {
        url: format!("opensearch://{}/logs", receiver.address),
        ids: Some(STREAM.to_owned()),
        retry: RetryPolicy { duration: Duration::from_secs(5), ..quick() },
        client: client(),
        ..OpenSearchOptions::default()
    }
}

fn open(options: OpenSearchOptions) -> OpenSearch {
    OpenSearch::new(&System::real(), options, &Cancel::new()).expect("settings that work")
}

fn documents(n: usize) -> Vec<String> {
    (0..n).map(|i| json!({ "n": i }).to_string()).collect()
}

/// The numbers of the documents that are there.
fn stored(receiver: &Receiver<Bulk>) -> Vec<u64> {
    let bulk = receiver.service.lock().expect("no thread died");
    let mut numbers: Vec<u64> =
        bulk.documents.values().filter_map(|document| document["n"].as_u64()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn documents_are_created_under_their_places_in_the_stream() {
    let receiver = Receiver::start(Bulk::default());
    for gzip in [false, true] {
        let mut to = open(OpenSearchOptions { gzip, ..options(&receiver) });
        assert!(deliver(&mut to, &batch(&documents(4))).expect("delivered").is_empty());
        let metrics = to.metrics().expect("it counts");
        assert_eq!((metrics.records.load(Relaxed), metrics.succeeded.load(Relaxed)), (4, 1));
    }
    let requests = receiver.requests();
    assert_eq!(requests[0].target, "/_bulk");
    assert_eq!(requests[1].header("content-encoding"), Some("gzip"));
    assert_eq!(
        requests[0].lines()[..2],
        [&format!(r#"{{"create":{{"_index":"logs-2016-02-25","_id":"{STREAM}:2:40"}}}}"#), r#"{"n":0}"#]
    );
    assert_eq!(stored(&receiver), [0, 1, 2, 3], "the second time they were there already");
}

#[test]
fn an_answer_that_was_lost_makes_no_document_twice() {
    let receiver = Receiver::start(Bulk {
        lost_answers: [
            Reply::Close,
            Reply::Late(Duration::from_millis(500), Box::new(Reply::text(200, "late"))),
            Reply::Half(200, Vec::new(), b"{\"items\":[".to_vec()),
            Reply::text(504, "gateway"),
            Reply::json(200, &json!({ "errors": false, "items": [] })),
        ]
        .into(),
        ..Bulk::default()
    });
    let policy = RetryPolicy { duration: Duration::from_secs(10), ..quick() };
    let mut to = open(OpenSearchOptions { retry: policy, client: hasty(), ..options(&receiver) });
    assert!(deliver(&mut to, &batch(&documents(5))).expect("delivered").is_empty());
    assert_eq!(receiver.requests().len(), 6);
    assert_eq!(stored(&receiver), [0, 1, 2, 3, 4]);
}

#[test]
fn only_what_may_be_taken_later_is_sent_again() {
    let receiver = Receiver::start(Bulk {
        item: |document, times| match document["n"].as_u64() {
            Some(1) => Some((400, "mapper_parsing_exception", "failed to parse field [n]")),
            Some(3) if times < 3 => Some((429, "es_rejected_execution_exception", "queue is full")),
            Some(4) if times < 2 => {
                Some((503, "unavailable_shards_exception", "primary shard is not active"))
            }
            _ => None,
        },
        ..Bulk::default()
    });
    let mut to = open(options(&receiver));
    let refused = deliver(&mut to, &batch(&documents(6))).expect("a verdict");
    assert_eq!((rows(&refused), codes(&refused)), (vec![1], vec!["400"]));
    let it = &refused[0];
    assert_eq!(it.failure.error_type, ErrorType::OpenSearch);
    assert_eq!(it.failure.message, "mapper_parsing_exception: failed to parse field [n]");
    assert_eq!((it.failure.attempts, it.gave_up), (1, false));
    let details = [("esIndexName", "logs-2016-02-25".to_owned()), ("esDocumentId", format!("{STREAM}:2:41"))];
    assert_eq!(it.details, details);
    assert_eq!(stored(&receiver), [0, 2, 3, 4, 5]);
    let sent: Vec<usize> = receiver.requests().iter().map(|request| request.lines().len() / 2).collect();
    assert_eq!(sent, [6, 2, 1]);
}

#[test]
fn what_is_refused_to_the_end_is_given_up_with_its_own_reason() {
    let receiver = Receiver::start(Bulk {
        item: |document, _| {
            (document["n"] == 2).then_some((
                429,
                "cluster_block_exception",
                "disk usage exceeded flood-stage",
            ))
        },
        ..Bulk::default()
    });
    let policy = RetryPolicy { duration: Duration::from_secs(1), ..quick() };
    let mut to = open(OpenSearchOptions { retry: policy, ..options(&receiver) });
    let refused = deliver(&mut to, &batch(&documents(4))).expect("a verdict");
    assert_eq!((rows(&refused), codes(&refused)), (vec![2], vec!["429"]));
    assert!(refused[0].gave_up && refused[0].failure.attempts > 2);
    assert!(refused[0].failure.message.contains("flood-stage"));
    assert_eq!(stored(&receiver), [0, 1, 3]);
}

#[test]
fn waiting_for_answers_is_part_of_the_time() {
    let receiver = Receiver::start(Bulk {
        faults: vec![Some(Reply::Silence(Duration::from_secs(1))); 20].into(),
        ..Bulk::default()
    });
    let policy = RetryPolicy { duration: Duration::from_millis(500), ..quick() };
    let mut to = open(OpenSearchOptions { retry: policy, client: hasty(), ..options(&receiver) });
    let refused = deliver(&mut to, &batch(&documents(2))).expect("a verdict");
    assert_eq!(codes(&refused), ["OpenSearch.RequestTimeout"; 2]);
    assert_eq!(refused[0].failure.attempts, 2, "0.3 s each");
}

#[test]
fn whole_requests_fail_and_are_tried_again() {
    let receiver = Receiver::start(Bulk {
        faults: [
            Some(Reply::text(503, "starting")),
            Some(Reply::text(429, "circuit breaker")),
            Some(Reply::text(400, "what?")),
            Some(Reply::text(200, "no JSON")),
            Some(Reply::Close),
        ]
        .into(),
        ..Bulk::default()
    });
    let mut to = open(options(&receiver));
    assert!(deliver(&mut to, &batch(&documents(3))).expect("delivered").is_empty());
    assert_eq!(stored(&receiver), [0, 1, 2]);
    assert_eq!(receiver.requests().len(), 6);
}

#[test]
fn what_is_no_document_is_refused_before_it_is_sent() {
    let receiver = Receiver::start(Bulk::default());
    let payloads: Vec<&[u8]> = vec![
        b"{\"n\":0}",
        b"plain text",
        b"[1]",
        b"{\n  \"n\": 3\n}",
        b"{\"n\":\"\xff\"}",
        b"",
        b"{\"n\":6}",
    ];
    let mut to = open(options(&receiver));
    let refused = deliver(&mut to, &batch(&payloads)).expect("a verdict");
    assert_eq!(rows(&refused), [1, 2, 4, 5]);
    assert!(refused.iter().all(|it| it.failure.error_type == ErrorType::FormatConversion && !it.gave_up));
    assert_eq!(stored(&receiver), [0, 3, 6]);
    // Nothing of it is sent where all of it is bad.
    let refused = deliver(&mut to, &batch(&["x", "y"])).expect("a verdict");
    assert_eq!((refused.len(), receiver.requests().len()), (2, 1));
}

#[test]
fn requests_are_cut_by_size_and_halved_when_too_large() {
    let receiver = Receiver::start(Bulk { body_max: 700, ..Bulk::default() });
    let mut payloads = documents(30);
    payloads[11] = json!({ "n": 11, "pad": "x".repeat(900) }).to_string();
    let mut to = open(OpenSearchOptions { request_bytes: 2000, ..options(&receiver) });
    let refused = deliver(&mut to, &batch(&payloads)).expect("a verdict");
    assert_eq!((rows(&refused), codes(&refused)), (vec![11], vec!["413"]));
    assert!(!refused[0].gave_up);
    let expected: Vec<u64> = (0..30).filter(|n| *n != 11).collect();
    assert_eq!(stored(&receiver), expected);
    assert!(receiver.requests().iter().all(|request| request.body.len() <= 700));
}

#[test]
fn credentials_come_from_a_file_and_are_read_again() {
    let receiver = Receiver::start(Bulk {
        // admin:right
        authorization: Some("Basic YWRtaW46cmlnaHQ=".to_owned()),
        ..Bulk::default()
    });
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("credentials");
    std::fs::write(&path, "admin:wrong\n").expect("a file");
    let policy =
        RetryPolicy { duration: Duration::from_secs(10), first_pause: Duration::from_millis(300), ..quick() };
    let mut to = open(OpenSearchOptions {
        authorization: Some(Authorization::Basic(SecretSource::File(path.clone()))),
        retry: policy,
        ..options(&receiver)
    });
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        std::fs::write(&path, "admin:right\n").expect("a file");
    });
    let began = Instant::now();
    assert!(deliver(&mut to, &batch(&documents(2))).expect("delivered").is_empty());
    assert!(began.elapsed() < Duration::from_secs(3));
    other.join().expect("it ends");
    let keys: Vec<(Authorization, &str)> = vec![
        (Authorization::ApiKey(SecretSource::Env("HOME".to_owned())), "ApiKey "),
        (Authorization::Bearer(SecretSource::Env("HOME".to_owned())), "Bearer "),
    ];
    let home = std::env::var("HOME").expect("a home");
    for (authorization, word) in keys {
        let expected = format!("{word}{home}");
        receiver.service.lock().expect("no thread died").authorization = Some(expected);
        let mut to = open(OpenSearchOptions { authorization: Some(authorization), ..options(&receiver) });
        assert!(deliver(&mut to, &batch(&documents(2))).expect("delivered").is_empty());
    }
}

#[test]
fn indexes_rotate_and_data_streams_have_their_time() {
    let receiver = Receiver::start(Bulk::default());
    for (rotation, index) in [
        (Rotation::None, "logs"),
        (Rotation::Hour, "logs-2016-02-25-13"),
        (Rotation::Week, "logs-2016-w09"),
        (Rotation::Month, "logs-2016-02"),
    ] {
        let mut to = open(OpenSearchOptions { rotation, add_timestamp: true, ..options(&receiver) });
        let payloads = [json!({ "n": 0 }), json!({ "n": 1, "@timestamp": "2020-01-01T00:00:00Z" })];
        let payloads = payloads.map(|payload| payload.to_string());
        assert!(deliver(&mut to, &batch(&payloads)).expect("delivered").is_empty());
        let bulk = receiver.service.lock().expect("no thread died");
        let document = |id: u32| &bulk.documents[&(index.to_owned(), format!("{STREAM}:2:{id}"))];
        assert_eq!(document(40)["@timestamp"], "2016-02-25T13:00:00.000Z");
        assert_eq!(document(41)["@timestamp"], "2020-01-01T00:00:00Z");
    }
}

#[test]
fn without_ids_the_server_gives_them() {
    let receiver = Receiver::start(Bulk::default());
    let mut to = open(OpenSearchOptions { ids: None, ..options(&receiver) });
    for _ in 0..2 {
        assert!(deliver(&mut to, &batch(&documents(2))).expect("delivered").is_empty());
    }
    assert_eq!(stored(&receiver), [0, 0, 1, 1]);
    let action: Value = serde_json::from_str(receiver.requests()[0].lines()[0]).expect("JSON");
    assert!(action["create"].get("_id").is_none());
}
