//! The body of a bulk request, and what its answer says of each document.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::super::rows::Row;

/// A document in a request.
pub(super) struct Document<'a> {
    pub(super) row: Row<'a>,
    pub(super) index: String,
    pub(super) id: Option<String>,
    /// A member that the document is given: `"@timestamp":"2016-02-25T13:00:00.000Z"`.
    pub(super) member: Option<String>,
}

impl Document<'_> {
    /// The line that says where it goes.
    fn action(&self) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        let index = quoted(&self.index);
        match &self.id {
            Some(id) => format!(r#"{{"create":{{"_index":{index},"_id":{}}}}}"#, quoted(id)),
            None => format!(r#"{{"create":{{"_index":{index}}}}}"#),
        }
    }

    /// Writes both of its lines.
    fn write(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(self.action().as_bytes());
        body.push(b'\n');
        let start = body.len();
        let mut payload = self.row.payload;
        if let Some(member) = &self.member {
            let open = payload.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1);
            let rest = &payload[open..];
            body.push(b'{');
            body.extend_from_slice(member.as_bytes());
            if !rest.trim_ascii_start().starts_with(b"}") {
                body.push(b',');
            }
            payload = rest;
        }
        body.extend_from_slice(payload);
        // Valid JSON has line ends between its parts only, where a blank is as good.
        for byte in &mut body[start..] {
            if matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        body.push(b'\n');
    }
}

/// The documents as a bulk request has them: an action and a document, a line each.
pub(super) fn body(documents: &[Document<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for document in documents {
        document.write(&mut body);
    }
    body
}

/// Looks through the members of a document for one of this name.
struct HasMember<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for HasMember<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HasMember<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut has = false;
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            has |= name == self.0;
            map.next_value::<IgnoredAny>()?;
        }
        Ok(has)
    }
}

/// Whether a document has a member of this name; or why these bytes are no document.
pub(super) fn check(payload: &[u8], name: &str) -> Result<bool, String> {
    let text = std::str::from_utf8(payload).map_err(|error| format!("not UTF-8: {error}"))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let has = HasMember(name).deserialize(&mut json);
    has.and_then(|has| json.end().map(|()| has)).map_err(|error| format!("not a JSON object: {error}"))
}

/// What became of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is there, or it was there already.
    Stored,
    /// It may be taken later.
    Later(u16, String),
    /// It will not be taken.
    Never(u16, String),
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<serde_json::Map<String, Value>>,
}

/// What an answer says of each of so many documents.
pub(super) fn fates(answer: &[u8], count: usize, has_ids: bool) -> Result<Vec<Fate>, String> {
    let Answer { items } = serde_json::from_slice(answer)
        .map_err(|error| format!("the answer is not as it should be: {error}"))?;
    if items.len() != count {
        return Err(format!("{} documents were sent, and {} answered", count, items.len()));
    }
    items
        .iter()
        .map(|item| {
            let result = item.values().next().ok_or("an item without a result")?;
            let status = result.get("status").and_then(Value::as_u64).ok_or("an item without a status")?;
            Ok(fate(status as u16, result.get("error").unwrap_or(&Value::Null), has_ids))
        })
        .collect::<Result<_, &str>>()
        .map_err(str::to_owned)
}

fn fate(status: u16, error: &Value, has_ids: bool) -> Fate {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kind = error.get("type").and_then(text).unwrap_or_default();
    // Some stand-ins, and very old servers, have one text for the error.
    let mut reason = error.get("reason").and_then(text).or_else(|| text(error)).unwrap_or_default();
    if let Some(cause) = error.get("caused_by").and_then(|cause| cause.get("reason")).and_then(text)
        && !reason.contains(&cause)
    {
        reason = format!("{reason}: {cause}");
    }
    let message = match (kind.as_str(), reason.as_str()) {
        ("", "") => format!("status {status}"),
        ("", said) | (said, "") => said.to_owned(),
        (kind, reason) => format!("{kind}: {reason}"),
    };
    match status {
        200..=299 => Fate::Stored,
        409 if has_ids => Fate::Stored,
        // An index that takes nothing for now (a full disk), or credentials that may be mended.
        401 | 403 | 429 | 500..=599 => Fate::Later(status, message),
        _ => Fate::Never(status, message),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::chunk::Origin;
    use super::*;
    use crate::record::ShardId;

    #[test]
    fn only_objects_are_documents() {
        for good in ["{}", " {\"a\": [1, 2.5e3]} ", "{\n\"a\":\r\n1}", "{\"ü\":\"\\ud83d\\ude00\"}"] {
            assert!(!check(good.as_bytes(), "at").unwrap());
        }
        assert!(check(b"{\"x\":{}, \"\\u0061t\":1}", "at").unwrap());
        assert!(!check(b"{\"x\":{\"at\":1}}", "at").unwrap());
        for bad in ["", "[]", "1", "{", "{} {}", "{\"a\":\"\n\"}", "{\"a\":tru}", "null"] {
            assert!(check(bad.as_bytes(), "at").is_err(), "{bad}");
        }
        assert!(check(b"{\"a\":\"\xff\"}", "at").is_err());
        // However deep it is: nothing here goes down with it.
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        check(deep.as_bytes(), "at").unwrap();
    }

    fn lines(payload: &[u8], id: Option<&str>, member: Option<&str>) -> String {
        let origin = Origin { shard: ShardId(1), shard_created_s: 0, index: 0, sub: None, arrival_us: 0 };
        let row = Row { ordinal: 0, place: (0, 0, 0), origin, payload };
        let (id, member) = (id.map(str::to_owned), member.map(str::to_owned));
        String::from_utf8(body(&[Document { row, index: "a".to_owned(), id, member }])).unwrap()
    }

    #[test]
    fn a_document_is_two_lines_and_has_no_type() {
        let with_id = "{\"create\":{\"_index\":\"a\",\"_id\":\"u:1:2\"}}\n{\"x\":  1}\n";
        assert_eq!(lines(b"{\"x\":\r\n1}", Some("u:1:2"), None), with_id);
        assert_eq!(lines(b"{}", None, None), "{\"create\":{\"_index\":\"a\"}}\n{}\n");
        let second =
            |payload: &[u8]| lines(payload, None, Some("\"t\":0")).lines().nth(1).unwrap().to_owned();
        assert_eq!(second(b" { }"), "{\"t\":0 }");
        assert_eq!(second(b"{\"x\":1}"), "{\"t\":0,\"x\":1}");
    }

    #[test]
    fn an_answer_tells_the_fate_of_each() {
        let answer = r#"{"took":3,"errors":true,"items":[
            {"create":{"_index":"a","_id":"1","status":201,"result":"created"}},
            {"create":{"_id":"2","status":409,"error":{"type":"version_conflict_engine_exception","reason":"x"}}},
            {"create":{"_id":"3","status":429,"error":{"type":"es_rejected_execution_exception","reason":"full"}}},
            {"create":{"_id":"4","status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse",
                "caused_by":{"type":"illegal_argument_exception","reason":"For input string: \"x\""}}}},
            {"create":{"_id":"5","status":404,"error":"IndexMissingException"}},
            {"create":{"_id":"6","status":503}}]}"#;
        let got = fates(answer.as_bytes(), 6, true).unwrap();
        let parse = "mapper_parsing_exception: failed to parse: For input string: \"x\"";
        let expected = [
            Fate::Stored,
            Fate::Stored,
            Fate::Later(429, "es_rejected_execution_exception: full".to_owned()),
            Fate::Never(400, parse.to_owned()),
            Fate::Never(404, "IndexMissingException".to_owned()),
            Fate::Later(503, "status 503".to_owned()),
        ];
        assert_eq!(got, expected);
        assert!(matches!(fates(answer.as_bytes(), 6, false).unwrap()[1], Fate::Never(409, _)));
        assert!(fates(answer.as_bytes(), 5, true).is_err());
        for wrong in ["", "{}", r#"{"items":[{}]}"#, r#"{"items":[{"create":{}}]}"#] {
            assert!(fates(wrong.as_bytes(), 1, true).is_err(), "{wrong}");
        }
    }
}
