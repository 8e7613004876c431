//! What is written is read back as it was, and what is not an envelope says why.

use proptest::prelude::*;
use uuid::Uuid;

use super::super::json_path::JsonPath;
use super::super::key::ByteRule;
use super::super::key::KeyRule;
use super::super::ndjson::KeyField;
use super::super::{Decode, Encode, Records};
use super::{Envelope, EnvelopeDecoder, EnvelopeEncoder, Rejected, Rejection, write_rejected};
use crate::hash::HashKey;
use crate::record::{Attribute, Record, SequenceNumber, ShardId};

const SEQUENCE: SequenceNumber =
    SequenceNumber { shard_created_s: 1_552_896_735, index: 7, arrival_s: 1_554_821_833, shard: ShardId(17) };

const PLAIN: Record<'static> = Record {
    sequence: SEQUENCE,
    sub_sequence: None,
    arrival_us: 1_554_821_833_000_001,
    timestamp_us: None,
    key: None,
    explicit_hash: None,
    attributes: &[],
    payload: b"",
};

fn encode(record: &Record<'_>) -> String {
    let mut out = Vec::new();
    EnvelopeEncoder::new("click\"s", Uuid::nil()).encode(record, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_form_is_fixed() {
    let attributes = [
        Attribute { name: "trace".into(), value: b"a\tb".to_vec() },
        Attribute { name: "raw".into(), value: vec![255] },
    ];
    let record = Record {
        sub_sequence: Some(3),
        timestamp_us: Some(i64::MAX),
        key: Some("u\u{1}1"),
        explicit_hash: Some(HashKey(u128::MAX)),
        attributes: &attributes,
        payload: b"{\"a\": 1}",
        ..PLAIN
    };
    assert_eq!(
        encode(&record),
        concat!(
            r#"{"kpipe":"record","stream":"click\"s","streamId":"00000000-0000-0000-0000-000000000000","#,
            r#""shardId":"shardId-000000000017","sequenceNumber":"SEQ","subSequenceNumber":3,"partitionKey":"u\u00011","#,
            r#""explicitHashKey":"340282366920938463463374607431768211455","#,
            r#""approximateArrivalTimestamp":"2019-04-09T14:57:13.000001Z","timestamp":9223372036854.775807,"#,
            r#""attributes":{"trace":"a\tb","raw":{"base64":"/w=="}},"json":{"a": 1}}"#,
            "\n"
        )
        .replace("SEQ", &SEQUENCE.to_string())
    );
}

#[test]
fn the_payload_takes_the_first_form_that_holds_it() {
    let form = |payload: &[u8]| {
        let line = encode(&Record { payload, ..PLAIN });
        line[line.find("Z\",").unwrap() + 3..line.len() - 2].to_owned()
    };
    assert_eq!(form(b"null"), r#""json":null"#);
    assert_eq!(form(b"-1.0e3"), r#""json":-1.0e3"#);
    assert_eq!(form(b"[1, 2]"), r#""json":[1, 2]"#);
    assert_eq!(form(b" [1]"), r#""text":" [1]""#);
    assert_eq!(form(b"[1]\r"), r#""text":"[1]\r""#);
    assert_eq!(form(b"[1,\n2]"), r#""text":"[1,\n2]""#);
    assert_eq!(form(b"01"), r#""text":"01""#);
    assert_eq!(form(b""), r#""text":"""#);
    assert_eq!(form(b"\xff"), r#""base64":"/w==""#);
    assert_eq!(form(b"\"\xff\""), r#""base64":"Iv8i""#);
}

#[test]
fn both_forms_of_time_and_unknown_members_are_read() {
    let envelope = Envelope::parse(
        br#"{"new":{"x":[1]},"text":"t","kpipe":"record","timestamp":1.5,"partitionKey":null,"explicitHashKey":12,
            "approximateArrivalTimestamp":"1970-01-01T01:00:00+01:00","attributes":[["a","1"],["a","2"]]}"#,
    )
    .unwrap();
    assert_eq!((envelope.timestamp_us, envelope.arrival_us, envelope.key), (Some(1_500_000), Some(0), None));
    assert_eq!(envelope.explicit_hash, Some(HashKey(12)));
    assert_eq!(envelope.attributes[1], Attribute { name: "a".into(), value: b"2".to_vec() });
}

#[test]
fn what_is_not_an_envelope_says_why() {
    for (line, reason) in [
        ("", "not an envelope"),
        ("{", "not an envelope"),
        ("[1]", "not an envelope"),
        (r#"{"text":"x"}"#, "\"kpipe\":\"record\" is missing"),
        (r#"{"kpipe":"record2","text":"x"}"#, "`record2`"),
        (r#"{"kpipe":"record"}"#, "exactly one"),
        (r#"{"kpipe":"record","text":"x","json":1}"#, "exactly one"),
        (r#"{"kpipe":"record","base64":"*"}"#, "base64"),
        (r#"{"kpipe":"record","text":"x","timestamp":"soon"}"#, "not a time"),
        (r#"{"kpipe":"record","text":"x","explicitHashKey":"-1"}"#, "hash key"),
        (r#"{"kpipe":"record","text":"x","attributes":{"a":1}}"#, "not an envelope"),
    ] {
        let error = Envelope::parse(line.as_bytes()).unwrap_err();
        assert!(error.contains(reason), "{line}: {error}");
    }
}

/// The first 4 KiB of a record that was too long were put back as a whole one.
#[test]
fn the_start_of_a_rejected_record_is_no_record() {
    let rejection = Rejection { reason: "too long", truncated: true, ..Rejection::default() };
    let mut out = Vec::new();
    write_rejected(&Rejected { payload: b"1,2", ..Rejected::default() }, &rejection, &mut out);
    let error = Envelope::parse(out.trim_ascii()).unwrap_err();
    assert!(error.contains("only its start"), "{error}");
}

#[test]
fn what_is_known_of_a_rejected_record_comes_back_with_it() {
    let attributes = [Attribute { name: "a".into(), value: b"b".to_vec() }];
    let record = Rejected {
        key: Some("k"),
        explicit_hash: Some(HashKey(7)),
        timestamp_us: Some(1_000_000),
        attributes: &attributes,
        payload: b"x",
    };
    let mut out = Vec::new();
    write_rejected(&record, &Rejection { reason: "no", ..Rejection::default() }, &mut out);
    let envelope = Envelope::parse(out.trim_ascii()).unwrap();
    assert_eq!((envelope.key.as_deref(), envelope.explicit_hash), (Some("k"), Some(HashKey(7))));
    assert_eq!((envelope.timestamp_us, &envelope.attributes[..]), (Some(1_000_000), &attributes[..]));
}

/// A record refused for want of a key went back without one.
#[test]
fn a_key_is_looked_for_where_an_envelope_has_none() {
    let lines =
        b"{\"kpipe\":\"record\",\"json\":{\"id\":\"a\"}}\n{\"kpipe\":\"record\",\"partitionKey\":\"own\",\
        \"json\":{\"id\":\"b\"}}\n{\"kpipe\":\"record\",\"json\":{\"x\":1}}\n";
    let key = KeyField::Path(JsonPath::new("id").unwrap());
    let mut records = Records::default();
    EnvelopeDecoder::new(key, 100).decode(lines, true, &mut records).unwrap();
    assert_eq!((records.key(lines, 0), records.key(lines, 1)), (Some(&b"a"[..]), Some(&b"own"[..])));
    assert_eq!((records.len(), records.refused[0].number), (2, 3));
    let key = KeyField::Bytes(ByteRule::new(&KeyRule::Delimiter(b":".to_vec())).unwrap().unwrap());
    let line = b"{\"kpipe\":\"record\",\"text\":\"k:v\"}\n";
    records.clear();
    EnvelopeDecoder::new(key, 100).decode(line, true, &mut records).unwrap();
    assert_eq!((records.key(line, 0), records.payload(line, 0)), (Some(&b"k"[..]), &b"v"[..]));
}

#[test]
fn a_rejected_record_is_put_back_as_it_is() {
    let rejection =
        Rejection { reason: "no \"key\"", number: Some(4), input: Some("a.csv"), truncated: false, more: "" };
    let mut out = Vec::new();
    write_rejected(&Rejected { payload: b"1,2", ..Rejected::default() }, &rejection, &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "{\"kpipe\":\"record\",\"text\":\"1,2\",\"error\":{\"reason\":\"no \\\"key\\\"\",\"number\":4,\
         \"input\":\"a.csv\"}}\n"
    );
    EnvelopeEncoder::new("s", Uuid::nil()).encode_rejected(
        &Record { key: Some("k"), payload: b"7", ..PLAIN },
        &Rejection { reason: "no", ..Rejection::default() },
        &mut out,
    );
    let mut records = Records::default();
    EnvelopeDecoder::new(KeyField::Bytes(ByteRule::None), 100).decode(&out, true, &mut records).unwrap();
    assert!(records.refused.is_empty());
    assert_eq!((records.payload(&out, 0), records.key(&out, 0)), (&b"1,2"[..], None));
    assert_eq!((records.payload(&out, 1), records.key(&out, 1)), (&b"7"[..], Some(&b"k"[..])));
}

#[test]
fn the_limit_counts_payload_and_key() {
    let lines = b"{\"kpipe\":\"record\",\"text\":\"123\",\"partitionKey\":\"k\"}\n\n{\"kpipe\":\"record\",\"text\":\"123\",\"partitionKey\":\"kk\"}";
    let mut records = Records::default();
    EnvelopeDecoder::new(KeyField::Bytes(ByteRule::None), 4).decode(lines, true, &mut records).unwrap();
    assert_eq!((records.len(), records.refused.len(), records.refused[0].number), (1, 1, 3));
}

#[test]
fn nesting_cannot_take_the_stack() {
    let payload = ["[".repeat(300_000), "]".repeat(300_000)].concat().into_bytes();
    let line = encode(&Record { payload: &payload, ..PLAIN });
    assert_eq!(*Envelope::parse(line.as_bytes()).unwrap().payload, payload);
    let inner = String::from_utf8(payload.clone()).unwrap();
    let line = format!("{{\"kpipe\":\"record\",\"json\":{inner}}}");
    assert_eq!(*Envelope::parse(line.as_bytes()).unwrap().payload, payload);
    for member in ["attributes", "timestamp", "error", "text"] {
        let _ = Envelope::parse(
            format!("{{\"kpipe\":\"record\",\"{member}\":{}", "[".repeat(300_000)).as_bytes(),
        );
    }
}

/// One record with half of a character, or with 20 000 arrays in one another, ended a whole `kget -o json | jq`.
#[test]
fn what_readers_of_json_do_not_take_is_text() {
    let is_json =
        |payload: &str| encode(&Record { payload: payload.as_bytes(), ..PLAIN }).contains(",\"json\":");
    for good in [
        r#""\ud83d\ude00 \\ud83d \u0000 \"""#.to_owned(),
        r#"{"\ud83d\ude00":"\\"}"#.to_owned(),
        ["[".repeat(128), "]".repeat(128)].concat(),
        format!("[{}1]", "[[]],".repeat(1000)),
        format!("[\"{}\"]", "[{\\\"".repeat(1000)),
    ] {
        assert!(is_json(&good), "{good}");
    }
    for bad in [
        r#""\ud83d""#.to_owned(),
        r#""\ud83d\n\ude00""#.to_owned(),
        r#""\ude00\ud83d""#.to_owned(),
        r#""\ud83d\ud83d\ude00""#.to_owned(),
        r#"["\\\ud83d"]"#.to_owned(),
        ["[".repeat(129), "]".repeat(129)].concat(),
        format!("{}1{}", "{\"a\":".repeat(20_000), "}".repeat(20_000)),
    ] {
        assert!(!is_json(&bad), "{bad}");
        let line = encode(&Record { payload: bad.as_bytes(), ..PLAIN });
        assert_eq!(*Envelope::parse(line.as_bytes()).unwrap().payload, *bad.as_bytes());
    }
}

prop_compose! {
    fn some_payload()(
        choice in 0..4, bytes: Vec<u8>, text in ".*", json in json_text(),
        escapes in r#""(\\u[dD][89cCdD][0-9a-f]{2}|\\\\|\\n|[a-du]){0,8}""#,
    ) -> Vec<u8> {
        match choice { 0 => bytes, 1 => text.into_bytes(), 2 => escapes.into_bytes(), _ => json }
    }
}

prop_compose! {
    fn json_text()(parts in prop::collection::vec((".*", any::<f64>()), 0..4), pretty: bool) -> Vec<u8> {
        let value: Vec<_> = parts.into_iter().map(|(k, v)| serde_json::json!({ k: v })).collect();
        if pretty { serde_json::to_vec_pretty(&value).unwrap() } else { serde_json::to_vec(&value).unwrap() }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost(
        records in prop::collection::vec(
            (
                prop::option::of(".{0,20}"),
                prop::option::of(any::<u128>()),
                prop::option::of(any::<i64>()),
                any::<i64>(),
                prop::option::of(any::<u64>()),
                prop::collection::vec((".{0,3}", any::<Vec<u8>>()), 0..3),
                some_payload(),
            ),
            1..5,
        )
    ) {
        let mut encoder = EnvelopeEncoder::new("s", Uuid::max());
        let mut lines = Vec::new();
        for (key, hash, timestamp_us, arrival_us, sub_sequence, attributes, payload) in &records {
            let attributes: Vec<_> =
                attributes.iter().map(|(name, value)| Attribute { name: name.clone(), value: value.clone() }).collect();
            let record = Record {
                key: key.as_deref(), explicit_hash: hash.map(HashKey), timestamp_us: *timestamp_us,
                arrival_us: *arrival_us, sub_sequence: *sub_sequence, attributes: &attributes, payload, ..PLAIN
            };
            let from = lines.len();
            encoder.encode(&record, &mut lines);
            prop_assert_eq!(lines[from..].iter().position(|&b| b == b'\n'), Some(lines.len() - from - 1));
            // Strictly: every character is one, and the nesting has its limit.
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&lines[from..]).is_ok());
            let envelope = Envelope::parse(&lines[from..]).unwrap();
            prop_assert_eq!(envelope.sequence, Some(SEQUENCE));
            prop_assert_eq!(envelope.shard, Some(ShardId(17)));
            prop_assert_eq!(envelope.stream_id, Some(Uuid::max()));
            prop_assert_eq!(envelope.arrival_us, Some(*arrival_us));
            prop_assert_eq!(envelope.sub_sequence, *sub_sequence);
        }
        let mut out = Records::default();
        prop_assert_eq!(EnvelopeDecoder::new(KeyField::Bytes(ByteRule::None), 1 << 20).decode(&lines, true, &mut out).unwrap(), lines.len());
        prop_assert!(out.refused.is_empty(), "{:?}", out.refused);
        for (i, (key, hash, timestamp, _, _, attributes, payload)) in records.iter().enumerate() {
            prop_assert_eq!(out.payload(&lines, i), &payload[..]);
            prop_assert_eq!(out.key(&lines, i), key.as_deref().map(str::as_bytes));
            prop_assert_eq!(out.hashes.get(i).copied().flatten(), hash.map(HashKey));
            prop_assert_eq!(out.timestamps.get(i).copied().flatten(), *timestamp);
            let read: Vec<_> = out.attributes.get(i).into_iter().flatten().map(|a| (a.name.clone(), a.value.clone())).collect();
            prop_assert_eq!(&read, attributes);
        }
    }
}
