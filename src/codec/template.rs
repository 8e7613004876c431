//! Output by a template such as `{key} {seq} {payload}\n`: parsed once, written with no search per record.
//!
//! Names stand in braces, `{{` and `}}` are braces, and `\n`, `\t`, `\r`, `\0`, `\\` and `\xHH` are bytes. Nothing is
//! added: a template that wants lines says `\n`. What a record does not have is written as nothing.

use super::Encode;
use super::base64_lines::encode_onto;
use super::instant::{push_epoch, push_rfc3339, push_u64};
use crate::hash::HashKey;
use crate::record::Record;

/// What may stand in braces.
pub(super) const NAMES: &[&str] = &[
    "key",
    "seq",
    "subseq",
    "shard",
    "time",
    "epoch",
    "timestamp",
    "hash",
    "stream",
    "payload",
    "base64",
    "size",
];

/// A parsed template.
#[derive(Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Bytes(Vec<u8>),
    Key,
    Sequence,
    SubSequence,
    Shard,
    /// The arrival, as RFC 3339.
    Time,
    /// The arrival, as seconds since the epoch.
    Epoch,
    /// The producer's timestamp, as RFC 3339.
    Timestamp,
    /// The explicit hash key, or that of the partition key.
    Hash,
    Payload,
    Base64,
    Size,
}

impl Template {
    pub(super) fn parse(text: &str, stream_name: &str) -> Result<Self, String> {
        let mut template = Self { parts: Vec::new() };
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}', '\\']) {
            template.push_bytes(&rest.as_bytes()[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{") {
                template.push_bytes(b"{");
                rest = after;
            } else if let Some(after) = rest.strip_prefix("}}") {
                template.push_bytes(b"}");
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or("the template has a `{` without its `}`")?;
                match part(name)? {
                    Some(part) => template.parts.push(part),
                    None => template.push_bytes(stream_name.as_bytes()),
                }
                rest = after;
            } else if let Some(after) = rest.strip_prefix('\\') {
                let (byte, after) = escape(after)?;
                template.push_bytes(&[byte]);
                rest = after;
            } else {
                return Err("the template has a `}` without its `{`: write `}}` for a brace".to_owned());
            }
        }
        template.push_bytes(rest.as_bytes());
        Ok(template)
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        match self.parts.last_mut() {
            Some(Part::Bytes(before)) => before.extend_from_slice(bytes),
            _ if bytes.is_empty() => {}
            _ => self.parts.push(Part::Bytes(bytes.to_vec())),
        }
    }
}

/// `None` is the stream's name, which is known already.
fn part(name: &str) -> Result<Option<Part>, String> {
    Ok(Some(match name {
        "key" => Part::Key,
        "seq" => Part::Sequence,
        "subseq" => Part::SubSequence,
        "shard" => Part::Shard,
        "time" => Part::Time,
        "epoch" => Part::Epoch,
        "timestamp" => Part::Timestamp,
        "hash" => Part::Hash,
        "stream" => return Ok(None),
        "payload" => Part::Payload,
        "base64" => Part::Base64,
        "size" => Part::Size,
        _ => return Err(format!("the template has no name `{{{name}}}`: give one of {}", NAMES.join(", "))),
    }))
}

/// The byte that an escape stands for, given what follows the backslash.
fn escape(text: &str) -> Result<(u8, &str), String> {
    for (letter, byte) in [("n", b'\n'), ("t", b'\t'), ("r", b'\r'), ("0", 0), ("\\", b'\\')] {
        if let Some(rest) = text.strip_prefix(letter) {
            return Ok((byte, rest));
        }
    }
    let hex = text.strip_prefix('x').and_then(|rest| rest.split_at_checked(2));
    let hex = hex.filter(|(digits, _)| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    hex.and_then(|(digits, rest)| Some((u8::from_str_radix(digits, 16).ok()?, rest))).ok_or_else(|| {
        r"the template has an unknown escape: give one of \n, \t, \r, \0, \\ and \xHH".to_owned()
    })
}

impl Encode for Template {
    fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => out.extend_from_slice(bytes),
                Part::Key => out.extend_from_slice(record.key.unwrap_or_default().as_bytes()),
                Part::Sequence => {
                    let mut digits = [0; 58];
                    let len = record.sequence.write_decimal(&mut digits);
                    out.extend_from_slice(&digits[..len]);
                }
                Part::SubSequence => {
                    if let Some(sub) = record.sub_sequence {
                        push_u64(sub, out);
                    }
                }
                Part::Shard => out.extend_from_slice(record.sequence.shard.to_string().as_bytes()),
                Part::Time => push_moment(record.arrival_us, out),
                Part::Epoch => push_epoch(record.arrival_us, out),
                Part::Timestamp => {
                    if let Some(us) = record.timestamp_us {
                        push_moment(us, out);
                    }
                }
                Part::Hash => {
                    let of_key = || record.key.map(|key| HashKey::of(key.as_bytes()));
                    if let Some(hash) = record.explicit_hash.or_else(of_key) {
                        out.extend_from_slice(hash.to_string().as_bytes());
                    }
                }
                Part::Payload => out.extend_from_slice(record.payload),
                Part::Base64 => encode_onto(record.payload, out),
                Part::Size => push_u64(record.payload.len() as u64, out),
            }
        }
    }
}

fn push_moment(us: i64, out: &mut Vec<u8>) {
    if !push_rfc3339(us, out) {
        push_epoch(us, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::record;
    use super::*;
    use proptest::prelude::*;

    fn render(text: &str, record: &Record<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Template::parse(text, "clicks").unwrap().encode(record, &mut out);
        out
    }

    #[test]
    fn every_name() {
        let record =
            Record { key: Some("k"), sub_sequence: Some(5), timestamp_us: Some(0), ..record(b"\xffp") };
        let number = record.sequence.to_string();
        assert_eq!(render("{seq}", &record), number.as_bytes());
        assert_eq!(
            render("{stream} {shard} {key} {subseq} {time} {epoch} {timestamp} {base64} {size}", &record),
            b"clicks shardId-000000000004 k 5 1970-01-01T00:00:03.000001Z 3.000001 1970-01-01T00:00:00.000000Z /3A= 2"
        );
        assert_eq!(render("{payload}", &record), b"\xffp");
        assert_eq!(render("{hash}", &record), HashKey::of(b"k").to_string().as_bytes());
        assert_eq!(render("{hash}", &Record { explicit_hash: Some(HashKey(9)), ..record }), b"9",);
        for name in NAMES {
            assert!(Template::parse(&format!("{{{name}}}"), "").is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_absent_is_nothing() {
        assert_eq!(render("[{key}{subseq}{timestamp}{hash}]", &record(b"")), b"[]");
    }

    #[test]
    fn braces_and_escapes() {
        assert_eq!(render(r"{{{size}}}\t\n\r\0\\\xfF é", &record(b"")), b"{0}\t\n\r\0\\\xff \xc3\xa9");
    }

    #[test]
    fn mistakes() {
        for (text, reason) in [
            ("{nope}", "key, seq, subseq"),
            ("{key", "`{` without"),
            ("key}", "`}` without"),
            (r"\q", "escape"),
            (r"\x1", "escape"),
            (r"\x+1", "escape"),
            (r"\xé", "escape"),
            ("\\", "escape"),
        ] {
            let error = Template::parse(text, "").unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in r"[{}\\xkeyn0é]{0,12}") {
            let _ = Template::parse(&text, "");
        }
    }
}
