//! Records as the collector takes them.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::rows::Row;
use super::SplunkEndpoint;

/// A record that can be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'a> {
    pub(super) row: Row<'a>,
    /// How many events it is: a record may have several objects.
    pub(super) count: u64,
    /// Whether one of them says which index it wants.
    pub(super) has_index: bool,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    index: Option<&'a RawValue>,
}

impl<'a> Event<'a> {
    /// A record, or why the collector would not take it. It would refuse, or drop without a word, what comes with it.
    pub(super) fn new(row: Row<'a>, endpoint: SplunkEndpoint) -> Result<Self, String> {
        let mut event = Self { row, count: 1, has_index: false };
        if endpoint == SplunkEndpoint::Raw {
            let blank = row.payload.trim_ascii().is_empty();
            return if blank { Err("blank: there is no such event".to_owned()) } else { Ok(event) };
        }
        event.count = 0;
        let text = std::str::from_utf8(row.payload).map_err(|error| format!("not UTF-8: {error}"))?;
        for object in serde_json::Deserializer::from_str(text).into_iter::<Object<'_>>() {
            let object = object.map_err(|error| format!("not an event of the collector: {error}"))?;
            match object.event.map(RawValue::get) {
                None => return Err("an event without `event`".to_owned()),
                Some(r#""""#) => return Err("an event whose `event` is blank".to_owned()),
                Some(_) => {}
            }
            event.has_index |= object.index.is_some();
            event.count += 1;
        }
        if event.count == 0 { Err("blank: there is no such event".to_owned()) } else { Ok(event) }
    }
}

/// What a record has in a body.
pub(super) fn cost(row: &Row<'_>) -> usize {
    row.payload.len() + 1
}

/// Records one behind the other. Each ends its line: where a raw event ends the collector sees by nothing else.
pub(super) fn body(events: &[Event<'_>]) -> Vec<u8> {
    let mut body = Vec::with_capacity(events.iter().map(|event| cost(&event.row)).sum());
    for event in events {
        body.extend_from_slice(event.row.payload);
        if !event.row.payload.ends_with(b"\n") {
            body.push(b'\n');
        }
    }
    body
}

/// Which record the n-th event is in.
pub(super) fn position(events: &[Event<'_>], number: u64) -> Option<usize> {
    let mut before = 0;
    events.iter().position(|event| {
        before += event.count;
        number < before
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::super::chunk::Origin;
    use super::*;
    use crate::record::ShardId;

    fn row(payload: &[u8]) -> Row<'_> {
        let origin = Origin { shard: ShardId(1), shard_created_s: 0, index: 0, sub: None, arrival_us: 0 };
        Row { ordinal: 0, place: (0, 0, 0), origin, payload }
    }

    #[test]
    fn only_events_are_sent() {
        let event = |payload: &'static str| Event::new(row(payload.as_bytes()), SplunkEndpoint::Event);
        assert_eq!(event(r#"{"event":"x"}"#).unwrap().count, 1);
        assert_eq!(event(r#"{"event":{"a":1}} {"event":0,"index":"main"}"#).unwrap().count, 2);
        assert!(event(r#"{"event":0,"index":"main"}"#).unwrap().has_index);
        for bad in ["", " ", "x", "{}", "[]", r#"{"event":null}"#, r#"{"event":""}"#, r#"{"event":1} {"#] {
            assert!(event(bad).is_err(), "{bad}");
        }
        assert!(Event::new(row(b"{\"event\":\"\xff\"}"), SplunkEndpoint::Event).is_err());
        assert!(Event::new(row(b"\xff anything"), SplunkEndpoint::Raw).is_ok());
        assert!(Event::new(row(b" \n"), SplunkEndpoint::Raw).is_err());
    }

    #[test]
    fn events_are_counted_through_records() {
        let events: Vec<Event<'_>> = [&b"a"[..], b"b\n", b"c"]
            .into_iter()
            .zip([1, 3, 1])
            .map(|(payload, count)| Event { count, ..Event::new(row(payload), SplunkEndpoint::Raw).unwrap() })
            .collect();
        assert_eq!(body(&events), b"a\nb\nc\n");
        let found: Vec<_> = (0..6).map(|n| position(&events, n)).collect();
        assert_eq!(found, [Some(0), Some(1), Some(1), Some(1), Some(2), None]);
    }
}
