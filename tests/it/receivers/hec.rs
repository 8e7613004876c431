//! Splunk's HTTP Event Collector with acknowledgements that are read once.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::{Reply, Request, Service};

/// The collector.
pub(crate) struct Hec {
    /// Bodies that were taken, in their order.
    pub(crate) bodies: Vec<Vec<u8>>,
    /// What goes wrong with the next posts of events.
    pub(crate) faults: VecDeque<Option<Reply>>,
    /// What goes wrong with the next questions for acknowledgements; the answers are lost with them.
    pub(crate) ack_faults: VecDeque<Option<Reply>>,
    /// Whether the token has acknowledgements.
    pub(crate) acks: bool,
    /// How often an acknowledgement is asked for before it is true.
    pub(crate) patience: u32,
    /// So many of the first posts are never acknowledged.
    pub(crate) never: u64,
    pub(crate) token: &'static str,
    /// Which events are wrong: answered with code 6 and their number.
    pub(crate) wrong: fn(&Value) -> bool,
    pub(crate) body_max: usize,
    /// Whether it is behind a balancer that tells its sessions by a cookie.
    pub(crate) sticky: bool,
    /// How often each acknowledgement was asked for.
    pub(crate) asked: BTreeMap<u64, u32>,
    pub(crate) next: u64,
}

impl Default for Hec {
    fn default() -> Self {
        Self {
            bodies: Vec::new(),
            faults: VecDeque::new(),
            ack_faults: VecDeque::new(),
            acks: true,
            patience: 1,
            never: 0,
            token: "5ecre7",
            wrong: |_| false,
            body_max: usize::MAX,
            sticky: false,
            asked: BTreeMap::new(),
            next: 0,
        }
    }
}

impl Hec {
    /// Every event, once for each time that it was taken.
    pub(crate) fn events(&self) -> Vec<Value> {
        let values = self.bodies.iter().flat_map(|body| {
            serde_json::Deserializer::from_slice(body).into_iter::<Value>().collect::<Result<Vec<_>, _>>()
        });
        values.flatten().map(|value| value["event"].clone()).collect()
    }

    fn post(&mut self, request: &Request, is_raw: bool) -> Reply {
        if let Some(reply) = self.faults.pop_front().flatten() {
            return reply;
        }
        if request.body.is_empty() {
            return Reply::json(400, &json!({ "text": "No data", "code": 5 }));
        }
        if !is_raw {
            for (i, value) in
                serde_json::Deserializer::from_slice(&request.body).into_iter::<Value>().enumerate()
            {
                let value = value.expect("JSON");
                if (self.wrong)(&value) {
                    return Reply::json(
                        400,
                        &json!({ "text": "Invalid data format", "code": 6, "invalid-event-number": i }),
                    );
                }
            }
        }
        self.bodies.push(request.body.clone());
        let mut answer = json!({ "text": "Success", "code": 0 });
        if self.acks {
            answer["ackId"] = self.next.into();
            self.asked.insert(self.next, 0);
            self.next += 1;
        }
        Reply::json(200, &answer)
    }

    fn ack(&mut self, request: &Request) -> Reply {
        if !self.acks {
            return Reply::json(400, &json!({ "text": "ACK is disabled", "code": 14 }));
        }
        let ids: Vec<u64> =
            request.json()["acks"].as_array().expect("acks").iter().filter_map(Value::as_u64).collect();
        let mut acks = serde_json::Map::new();
        for id in ids {
            let mut is_true = false;
            if let Some(asked) = self.asked.get_mut(&id) {
                *asked += 1;
                is_true = id >= self.never && *asked > self.patience;
            }
            if is_true {
                // Read once: asked again it is false.
                self.asked.remove(&id);
            }
            acks.insert(id.to_string(), is_true.into());
        }
        if let Some(reply) = self.ack_faults.pop_front().flatten() {
            return reply;
        }
        Reply::json(200, &json!({ "acks": acks }))
    }
}

impl Service for Hec {
    fn head(&mut self, request: &Request) -> Option<Reply> {
        let length: usize = request.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        (length > self.body_max).then(|| Reply::text(413, "content too large"))
    }

    fn answer(&mut self, request: &Request) -> Reply {
        if request.header("authorization") != Some(&format!("Splunk {}", self.token)) {
            return Reply::json(403, &json!({ "text": "Invalid token", "code": 4 }));
        }
        let channel = request.header("x-splunk-request-channel");
        let in_query = request.target.split_once("channel=").map(|(_, channel)| channel);
        if self.acks && channel.is_none() && in_query.is_none() {
            return Reply::json(400, &json!({ "text": "Data channel is missing", "code": 10 }));
        }
        let path = request.target.split('?').next().unwrap_or_default();
        let is_ack = path == "/services/collector/ack";
        if self.sticky && is_ack && request.header("cookie") != Some("AWSALB=node7") && self.next > 0 {
            return Reply::json(400, &json!({ "text": "Invalid data channel", "code": 11 }));
        }
        let reply = match path {
            "/services/collector/raw" => self.post(request, true),
            "/services/collector/event" => self.post(request, false),
            "/services/collector/ack" => self.ack(request),
            _ => Reply::text(404, "not here"),
        };
        match reply {
            Reply::Full(status, mut headers, body) if self.sticky => {
                headers.push(("Set-Cookie", "AWSALB=node7; Path=/; HttpOnly".to_owned()));
                Reply::Full(status, headers, body)
            }
            other => other,
        }
    }
}
