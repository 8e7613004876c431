//! The part of OpenSearch that takes documents: `POST /_bulk` with `create`.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::{Reply, Request, Service};

/// What an item is answered with instead of being stored: a status, a type and a reason.
pub(crate) type ItemFault = (u16, &'static str, &'static str);

/// Indexes and their documents.
pub(crate) struct Bulk {
    /// Documents by index and id.
    pub(crate) documents: BTreeMap<(String, String), Value>,
    /// What goes wrong with the next requests.
    pub(crate) faults: VecDeque<Option<Reply>>,
    /// The same, but the documents are stored all the same.
    pub(crate) lost_answers: VecDeque<Reply>,
    /// Bodies of more bytes are too large.
    pub(crate) body_max: usize,
    /// What goes wrong with this document, at its n-th time (from 1).
    pub(crate) item: fn(&Value, u32) -> Option<ItemFault>,
    /// The `Authorization` that has to come.
    pub(crate) authorization: Option<String>,
    /// How often each id came.
    pub(crate) times: BTreeMap<String, u32>,
    pub(crate) next_id: u64,
}

impl Default for Bulk {
    fn default() -> Self {
        Self {
            documents: BTreeMap::new(),
            faults: VecDeque::new(),
            lost_answers: VecDeque::new(),
            body_max: usize::MAX,
            item: |_, _| None,
            authorization: None,
            times: BTreeMap::new(),
            next_id: 0,
        }
    }
}

impl Bulk {
    fn create(&mut self, action: &Value, document: &Value) -> Value {
        let create = action["create"].as_object().expect("every action is a create");
        assert!(create.keys().all(|key| key == "_index" || key == "_id"), "{action}");
        let index = create["_index"].as_str().expect("an index").to_owned();
        let id = create.get("_id").and_then(Value::as_str);
        let id = id.map_or_else(
            || {
                self.next_id += 1;
                format!("auto-{}", self.next_id)
            },
            str::to_owned,
        );
        assert!(id.len() <= 512);
        let times = self.times.entry(id.clone()).or_default();
        *times += 1;
        let item = |status: u16, error: Option<(&str, &str)>| {
            let mut item = json!({ "_index": index, "_id": id, "status": status });
            if let Some((kind, reason)) = error {
                item["error"] = json!({ "type": kind, "reason": reason, "index": index });
            }
            json!({ "create": item })
        };
        if let Some((status, kind, reason)) = (self.item)(document, *times) {
            return item(status, Some((kind, reason)));
        }
        let key = (index.clone(), id.clone());
        if self.documents.contains_key(&key) {
            return item(409, Some(("version_conflict_engine_exception", "document already exists")));
        }
        self.documents.insert(key, document.clone());
        item(201, None)
    }
}

impl Service for Bulk {
    fn head(&mut self, request: &Request) -> Option<Reply> {
        let length: usize = request.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        (length > self.body_max).then(|| Reply::text(413, "request entity too large"))
    }

    fn answer(&mut self, request: &Request) -> Reply {
        assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
        assert!(request.body.ends_with(b"\n"));
        if self.authorization.is_some() && self.authorization.as_deref() != request.header("authorization") {
            return Reply::json(401, &json!({ "error": { "type": "security_exception" }, "status": 401 }));
        }
        if let Some(reply) = self.faults.pop_front().flatten() {
            return reply;
        }
        let lines: Vec<Value> =
            request.lines().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert!(lines.len().is_multiple_of(2));
        let items: Vec<Value> = lines.chunks(2).map(|pair| self.create(&pair[0], &pair[1])).collect();
        if let Some(reply) = self.lost_answers.pop_front() {
            return reply;
        }
        let errors = items.iter().any(|item| item["create"]["status"] != 201);
        Reply::json(200, &json!({ "took": 1, "errors": errors, "items": items }))
    }
}
