//! Writing envelopes: straight into the output, with no value built per record.

use serde::de::IgnoredAny;
use uuid::Uuid;

use super::super::Encode;
use super::super::base64_lines::encode_onto;
use super::super::instant::{push_epoch, push_rfc3339, push_u64};
use super::MARKER;
use crate::hash::HashKey;
use crate::record::{Attribute, Record};

/// Encodes `json`.
#[derive(Debug)]
pub struct EnvelopeEncoder {
    /// All that is the same for every record of the stream.
    prefix: Vec<u8>,
}

/// Why a record was rejected, for the `error` member.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rejection<'a> {
    /// Why, in words.
    pub reason: &'a str,
    /// Which line, row or record of its input it was, counted from 1.
    pub number: Option<u64>,
    /// The input's name.
    pub input: Option<&'a str>,
    /// Whether the payload is only the start of what was rejected.
    pub truncated: bool,
    /// Further members of `error`, as JSON: `"a":1,"b":2`.
    pub more: &'a str,
}

/// A record that no stream has taken, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rejected<'a> {
    /// The partition key.
    pub key: Option<&'a str>,
    /// The explicit hash key.
    pub explicit_hash: Option<HashKey>,
    /// Microseconds since the epoch that its producer gave.
    pub timestamp_us: Option<i64>,
    /// Attributes, in their order.
    pub attributes: &'a [Attribute],
    /// The payload, or where its decoder would not take it what stood in the input.
    pub payload: &'a [u8],
}

impl EnvelopeEncoder {
    /// An encoder for the records of one stream.
    pub fn new(stream_name: &str, stream_id: Uuid) -> Self {
        let mut prefix = marked();
        prefix.extend_from_slice(b",\"stream\":");
        push_string(stream_name, &mut prefix);
        prefix.extend_from_slice(b",\"streamId\":\"");
        let mut id = Uuid::encode_buffer();
        prefix.extend_from_slice(stream_id.hyphenated().encode_lower(&mut id).as_bytes());
        prefix.extend_from_slice(b"\",\"shardId\":\"shardId-");
        Self { prefix }
    }

    /// Appends a record that was rejected after it had been in the stream.
    pub fn encode_rejected(&self, record: &Record<'_>, rejection: &Rejection<'_>, out: &mut Vec<u8>) {
        self.members(record, out);
        push_error(rejection, out);
        out.extend_from_slice(b"}\n");
    }

    fn members(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        let mut shard = *b"000000000000";
        let mut number = record.sequence.shard.0;
        for slot in shard.iter_mut().rev() {
            *slot = b'0' + (number % 10) as u8;
            number /= 10;
        }
        out.extend_from_slice(&shard);
        out.extend_from_slice(b"\",\"sequenceNumber\":\"");
        let mut digits = [0; 58];
        let len = record.sequence.write_decimal(&mut digits);
        out.extend_from_slice(&digits[..len]);
        out.push(b'"');
        if let Some(sub) = record.sub_sequence {
            out.extend_from_slice(b",\"subSequenceNumber\":");
            push_u64(sub, out);
        }
        push_key(record.key, record.explicit_hash, out);
        out.extend_from_slice(b",\"approximateArrivalTimestamp\":");
        push_time(record.arrival_us, out);
        if let Some(us) = record.timestamp_us {
            out.extend_from_slice(b",\"timestamp\":");
            push_time(us, out);
        }
        push_attributes(record.attributes, out);
        push_payload(record.payload, out);
    }
}

impl Encode for EnvelopeEncoder {
    fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        self.members(record, out);
        out.extend_from_slice(b"}\n");
    }
}

/// Appends the envelope of a record that was rejected before any stream took it.
pub fn write_rejected(record: &Rejected<'_>, rejection: &Rejection<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&marked());
    push_key(record.key, record.explicit_hash, out);
    if let Some(us) = record.timestamp_us {
        out.extend_from_slice(b",\"timestamp\":");
        push_time(us, out);
    }
    push_attributes(record.attributes, out);
    push_payload(record.payload, out);
    push_error(rejection, out);
    out.extend_from_slice(b"}\n");
}

fn marked() -> Vec<u8> {
    format!("{{\"kpipe\":\"{MARKER}\"").into_bytes()
}

fn push_key(key: Option<&str>, explicit_hash: Option<HashKey>, out: &mut Vec<u8>) {
    if let Some(key) = key {
        out.extend_from_slice(b",\"partitionKey\":");
        push_string(key, out);
    }
    if let Some(hash) = explicit_hash {
        out.extend_from_slice(format!(",\"explicitHashKey\":\"{hash}\"").as_bytes());
    }
}

fn push_time(us: i64, out: &mut Vec<u8>) {
    out.push(b'"');
    if push_rfc3339(us, out) {
        out.push(b'"');
    } else {
        out.pop();
        push_epoch(us, out);
    }
}

fn push_attributes(attributes: &[Attribute], out: &mut Vec<u8>) {
    if attributes.is_empty() {
        return;
    }
    let repeats = (1..attributes.len()).any(|i| attributes[..i].iter().any(|a| a.name == attributes[i].name));
    let (open, between, close) = if repeats { ("[", ",", "]") } else { ("{", ":", "}") };
    out.extend_from_slice(b",\"attributes\":");
    out.extend_from_slice(open.as_bytes());
    for (i, attribute) in attributes.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if repeats {
            out.push(b'[');
        }
        push_string(&attribute.name, out);
        out.extend_from_slice(between.as_bytes());
        if let Ok(text) = std::str::from_utf8(&attribute.value) {
            push_string(text, out);
        } else {
            out.extend_from_slice(b"{\"base64\":\"");
            encode_onto(&attribute.value, out);
            out.extend_from_slice(b"\"}");
        }
        if repeats {
            out.push(b']');
        }
    }
    out.extend_from_slice(close.as_bytes());
}

fn push_payload(payload: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(payload) {
        Ok(text) if is_json_line(text) => {
            out.extend_from_slice(b",\"json\":");
            out.extend_from_slice(payload);
        }
        Ok(text) => {
            out.extend_from_slice(b",\"text\":");
            push_string(text, out);
        }
        Err(_) => {
            out.extend_from_slice(b",\"base64\":\"");
            encode_onto(payload, out);
            out.push(b'"');
        }
    }
}

/// Whether a text is one JSON value that can stand in a line as it is. White space around it would be lost in reading
/// it back, so it may have none; and what the programs at the other end of the pipe would not take must not end the
/// whole line for them.
fn is_json_line(text: &str) -> bool {
    let (Some(first), Some(last)) = (text.as_bytes().first(), text.as_bytes().last()) else { return false };
    let begins = matches!(first, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n');
    begins
        && !last.is_ascii_whitespace()
        && memchr::memchr(b'\n', text.as_bytes()).is_none()
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
        && escapes_are_characters(text.as_bytes())
        && depth(text.as_bytes()) <= DEPTH_MAX
}

/// Arrays and objects in one another, as deep as common readers go: jq ends at 256.
const DEPTH_MAX: usize = 128;

/// Whether the escapes of valid JSON are characters: `\ud83d` alone is half of one. JSON's grammar allows it, and most
/// that read JSON do not.
fn escapes_are_characters(json: &[u8]) -> bool {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &json[at..]) {
        at += found;
        at += match unit(at) {
            Some(0xdc00..=0xdfff) => return false,
            Some(0xd800..=0xdbff) => match unit(at + 6) {
                Some(0xdc00..=0xdfff) => 12,
                _ => return false,
            },
            Some(_) => 6,
            None => 2,
        };
    }
    true
}

/// How deep arrays and objects stand in one another in valid JSON.
fn depth(json: &[u8]) -> usize {
    if json.len() < 2 * DEPTH_MAX {
        // Too short to matter.
        return 0;
    }
    let (mut depth, mut deepest, mut at) = (0_usize, 0, 0);
    while let Some(&byte) = json.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(found) = memchr::memchr2(b'"', b'\\', &json[at..]) {
                    at += found + 1;
                    if json[at - 1] == b'"' {
                        break;
                    }
                    at += 1;
                }
            }
            _ => {}
        }
    }
    deepest
}

fn push_error(rejection: &Rejection<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"error\":{\"reason\":");
    push_string(rejection.reason, out);
    if let Some(number) = rejection.number {
        out.extend_from_slice(b",\"number\":");
        push_u64(number, out);
    }
    if let Some(input) = rejection.input {
        out.extend_from_slice(b",\"input\":");
        push_string(input, out);
    }
    if rejection.truncated {
        out.extend_from_slice(b",\"truncated\":true");
    }
    if !rejection.more.is_empty() {
        out.push(b',');
        out.extend_from_slice(rejection.more.as_bytes());
    }
    out.push(b'}');
}

/// Appends a JSON string.
fn push_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}
