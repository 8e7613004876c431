//! A collector that speaks the service's HTTP endpoint protocol, and remembers request ids.

use std::collections::{HashSet, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Reply, Request, Service};

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This instead of an answer; nothing is kept.
    Lost(Reply),
    /// The records are kept, but this is what the sender sees.
    Kept(Reply),
    /// This, before the body was read.
    Early(Reply),
    /// An answer for another request.
    WrongId,
}

/// The collector.
#[derive(Default)]
pub(crate) struct Collector {
    /// What goes wrong with the next requests; all is well after them.
    pub(crate) faults: VecDeque<Option<Fault>>,
    /// Every record, once for each time that it was taken.
    pub(crate) records: Vec<Vec<u8>>,
    /// The same without requests that were seen before.
    pub(crate) once: Vec<Vec<u8>>,
    /// Bodies of more bytes are too large.
    pub(crate) body_max: Option<usize>,
    /// Whether it says so without any manners.
    pub(crate) rude: bool,
    /// The key that has to come.
    pub(crate) key: Option<String>,
    /// Request ids.
    pub(crate) seen: HashSet<String>,
}

impl Collector {
    pub(crate) fn failing(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { faults: faults.into_iter().map(Some).collect(), ..Self::default() }
    }

    fn take(&mut self, request: &Request) -> String {
        let body = request.json();
        let id = body["requestId"].as_str().expect("a request id").to_owned();
        assert_eq!(request.header("x-amz-firehose-request-id"), Some(id.as_str()));
        assert_eq!(request.header("x-amz-firehose-protocol-version"), Some("1.0"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.method, "POST");
        assert!(body["timestamp"].is_i64());
        let records = body["records"].as_array().expect("records");
        assert!((1..=10_000).contains(&records.len()));
        let records = records
            .iter()
            .map(|record| STANDARD.decode(record["data"].as_str().expect("data")).expect("base64"));
        let records: Vec<Vec<u8>> = records.collect();
        if self.seen.insert(id.clone()) {
            self.once.extend(records.iter().cloned());
        }
        self.records.extend(records);
        id
    }
}

/// The answer that says yes.
pub(crate) fn yes(id: &str) -> Reply {
    Reply::json(200, &json!({ "requestId": id, "timestamp": 1_578_090_903_599_i64 }))
}

impl Service for Collector {
    fn head(&mut self, request: &Request) -> Option<Reply> {
        let length: usize = request.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        if self.body_max.is_some_and(|most| length > most) {
            let reply = Reply::text(413, "too large");
            return Some(if self.rude { Reply::Rude(Box::new(reply)) } else { reply });
        }
        match self.faults.front() {
            Some(Some(Fault::Early(reply))) => {
                let reply = reply.clone();
                self.faults.pop_front();
                Some(reply)
            }
            _ => None,
        }
    }

    fn answer(&mut self, request: &Request) -> Reply {
        if self.key.is_some() && self.key.as_deref() != request.header("x-amz-firehose-access-key") {
            let got = request.header("x-amz-firehose-access-key").unwrap_or("none");
            return Reply::text(403, &format!("the key {got} is not welcome"));
        }
        match self.faults.pop_front().flatten() {
            None => yes(&self.take(request)),
            Some(Fault::Lost(reply) | Fault::Early(reply)) => reply,
            Some(Fault::Kept(reply)) => {
                self.take(request);
                reply
            }
            Some(Fault::WrongId) => yes("ed4acda5-034f-9f42-bba1-f29aea6d7d8f"),
        }
    }
}
