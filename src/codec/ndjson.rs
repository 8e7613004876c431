//! One JSON value per line, each line a record's payload as it stands.
//!
//! Lines are never rewritten: white space, order of members, and a carriage return at the end (white space to JSON)
//! stay; only a byte order mark before the first one goes. Blank lines are skipped. Without a field to find nothing is parsed, so that a bulk load costs what `lines`
//! costs; with one, only what stands before the field is (see [`super::json_path`]).

use std::borrow::Cow;

use super::columns::{Place, check_key, check_size, parse_position};
use super::json_path::{Field, JsonPath};
use super::key::ByteRule;
use super::split::{Line, Splitter, without_bom};
use super::{BrokenInput, Decode, Records, Span};
use crate::hash::HashKey;

/// Decodes `ndjson`.
#[derive(Debug)]
pub(super) struct Ndjson {
    fields: Fields,
    record_bytes: usize,
    splitter: Splitter,
}

/// What is looked for in each line.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) key: KeyField,
    pub(super) explicit_hash: Option<JsonPath>,
    pub(super) position: Option<JsonPath>,
}

/// The key comes from the JSON value or from the line's bytes.
#[derive(Debug)]
pub(super) enum KeyField {
    Path(JsonPath),
    Bytes(ByteRule),
}

impl Ndjson {
    pub(super) fn new(fields: Fields, record_bytes: usize) -> Self {
        let overhead = if let KeyField::Bytes(rule) = &fields.key { rule.overhead() } else { 0 };
        Self { fields, record_bytes, splitter: Splitter::new(b'\n', record_bytes + overhead, record_bytes) }
    }
}

impl KeyField {
    /// The key of a record that lies by itself; a delimiter and what stands before it leave the payload.
    pub(super) fn take_from(&self, payload: &mut Cow<'_, [u8]>) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Bytes(rule) => rule.take_from(payload),
            Self::Path(path) => Ok(Some(match path.find(payload)? {
                Field::Plain(range) => payload[range].to_vec(),
                Field::Escaped(_, key) => key.into_owned().into_bytes(),
            })),
        }
    }
}

impl Fields {
    fn push(&self, block: &[u8], line: Line, limit: usize, out: &mut Records) {
        let text = &block[line.start..line.end];
        if let Err(reason) = self.find(block, text, line, limit, out) {
            out.refuse(line.number, line.start, line.end, reason);
        }
    }

    fn find(
        &self,
        block: &[u8],
        text: &[u8],
        line: Line,
        limit: usize,
        out: &mut Records,
    ) -> Result<(), String> {
        // All that can be refused is found before anything is pushed.
        let hash = match &self.explicit_hash {
            Some(path) => Some(hash_key(path, text)?),
            None => None,
        };
        let position = match &self.position {
            Some(path) => Some(parse_position(&text[path.find(text)?.raw()])?),
            None => None,
        };
        let span = Span::new(line.start, line.end);
        let taken = out.payloads.len();
        match &self.key {
            KeyField::Bytes(ByteRule::None) => {
                out.payloads.push(span);
                out.push_end(line);
            }
            KeyField::Bytes(rule) => rule.push(block, Place::Block(span), line, limit, out),
            KeyField::Path(path) => {
                match path.find(text)? {
                    // It is part of UTF-8 text that has been checked.
                    Field::Plain(range) => {
                        check_key(&text[range.clone()])?;
                        check_size(text.len(), range.len(), limit)?;
                        let key = Span::new(line.start + range.start, line.start + range.end);
                        out.push_key(block, Place::Block(key));
                    }
                    Field::Escaped(_, key) => {
                        check_key(key.as_bytes())?;
                        check_size(text.len(), key.len(), limit)?;
                        let key = out.store(key.as_bytes());
                        out.push_key(block, Place::Arena(key));
                    }
                }
                out.payloads.push(span);
                out.push_end(line);
            }
        }
        if out.payloads.len() > taken {
            if let Some(hash) = hash {
                out.hashes.push(Some(hash));
            }
            out.positions.extend(position);
        }
        Ok(())
    }
}

fn hash_key(path: &JsonPath, text: &[u8]) -> Result<HashKey, String> {
    let raw = &text[path.find(text)?.raw()];
    String::from_utf8_lossy(raw).parse()
}

impl Decode for Ndjson {
    fn decode(&mut self, block: &[u8], last: bool, out: &mut Records) -> Result<usize, BrokenInput> {
        // Lines that are no records, or not whole.
        let mut blanks = false;
        let (fields, limit) = (&self.fields, self.record_bytes);
        let used = self.splitter.split(block, last, out, |mut line, out| {
            if line.number == 1 {
                let whole = line.start;
                line.start = line.end - without_bom(line, &block[line.start..line.end]).len();
                blanks |= line.start > whole;
            }
            if is_blank(&block[line.start..line.end]) {
                blanks = true;
            } else {
                fields.push(block, line, limit, out);
            }
        });
        let keeps_payload = !matches!(&self.fields.key, KeyField::Bytes(rule) if !rule.keeps_payload());
        out.join(b'\n', keeps_payload && !blanks, used);
        Ok(used)
    }

    fn pending(&self) -> u64 {
        self.splitter.pending()
    }
}

/// Whether a line holds only what JSON calls white space.
#[inline]
fn is_blank(line: &[u8]) -> bool {
    // Nearly every line is told by its first byte.
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ndjson(key: &str) -> Ndjson {
        let fields =
            Fields { key: KeyField::Path(JsonPath::new(key).unwrap()), explicit_hash: None, position: None };
        Ndjson::new(fields, 100)
    }

    #[test]
    fn keys_from_a_path() {
        let block = b"{\"k\":\"a\"}\n\r\n{\"k\":\"\\u0062\"}\n{\"k\":3}\n[1]\n{\"k\":\"\\ud800\"}";
        let mut out = Records::default();
        assert_eq!(ndjson("k").decode(block, true, &mut out).unwrap(), block.len());
        let keys: Vec<_> = (0..out.len()).map(|i| out.key(block, i)).collect();
        assert_eq!(keys, [Some(&b"a"[..]), Some(b"b"), Some(b"3")]);
        let refused: Vec<_> = out.refused.iter().map(|r| (r.number, r.after)).collect();
        assert_eq!(refused, [(5, 3), (6, 3)]);
        assert_eq!(out.joined, None);
    }

    /// Its first line was refused as no JSON, with a key, and stored with the mark in it, without one.
    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let block = b"\xef\xbb\xbf{\"k\":\"a\"}\n{\"k\":\"b\"}\n";
        let mut out = Records::default();
        ndjson("k").decode(block, true, &mut out).unwrap();
        assert_eq!((out.key(block, 0), out.payload(block, 0)), (Some(&b"a"[..]), &b"{\"k\":\"a\"}"[..]));
        assert_eq!((out.len(), out.joined), (2, None));
    }

    #[test]
    fn joined_stays_available_with_a_key() {
        let mut out = Records::default();
        ndjson("k").decode(b"{\"k\":\"a\"}\r\n{\"k\":\"b\"}\n", true, &mut out).unwrap();
        assert_eq!(out.joined, Some(b'\n'));
        assert!(!out.key_in_arena);
    }

    #[test]
    fn hash_key_and_position() {
        let path = |text| Some(JsonPath::new(text).unwrap());
        let key = KeyField::Bytes(ByteRule::None);
        let mut decoder = Ndjson::new(Fields { key, explicit_hash: path("h"), position: path("p") }, 100);
        let block = b"{\"h\":\"7\",\"p\":\"3\"}\n{\"h\":8,\"p\":12}\n{\"h\":-1,\"p\":1}\n{\"h\":1}\n{\"h\":1,\"p\":1.5}\n\
            {\"h\":1,\"p\":18446744073709551615}\n{\"h\":9,\"p\":18446744073709551614}\n";
        let mut out = Records { is_numbered: true, ..Records::default() };
        decoder.decode(block, true, &mut out).unwrap();
        assert_eq!(out.hashes, [Some(HashKey(7)), Some(HashKey(8)), Some(HashKey(9))]);
        assert_eq!(out.positions, [3, 12, u64::MAX - 1]);
        assert_eq!(out.numbers, [1, 2, 7]);
        assert!(out.keys.is_empty());
        assert_eq!(out.refused.len(), 4);
        assert!(out.refused[0].reason.contains("hash key"), "{}", out.refused[0].reason);
    }
}
