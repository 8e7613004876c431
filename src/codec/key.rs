//! Where a record's partition key comes from: one rule for a whole input, and no record without what the rule names.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;
use regex::bytes::Regex;

use super::columns::{Place, check_key, check_size};
use super::{Records, Span, split::Line};

/// Where the partition key of a record comes from. An envelope that has a key keeps its own.
#[derive(Debug, Clone, Default)]
pub enum KeyRule {
    /// Records have no key.
    #[default]
    None,
    /// A field of the record: `user.id` or `/user/id` in NDJSON, a column by name in CSV.
    Field(String),
    /// What stands before the delimiter; what follows it is the payload.
    Delimiter(Vec<u8>),
    /// The first group of the first match, or the whole match where there are no groups. The payload stays whole.
    Regex(Regex),
    /// The same key for every record.
    Value(String),
}

/// A rule that looks only at bytes, ready to run.
#[derive(Debug)]
pub(super) enum ByteRule {
    None,
    Value(Vec<u8>),
    Delimiter(Box<memmem::Finder<'static>>),
    Regex(Regex),
}

impl ByteRule {
    /// `None` where the rule names a field, which only a format with fields has.
    pub(super) fn new(rule: &KeyRule) -> Result<Option<Self>, String> {
        Ok(Some(match rule {
            KeyRule::None => Self::None,
            KeyRule::Field(_) => return Ok(None),
            KeyRule::Delimiter(bytes) if bytes.is_empty() => {
                return Err("the key delimiter is empty".to_owned());
            }
            KeyRule::Delimiter(bytes) => Self::Delimiter(Box::new(memmem::Finder::new(bytes).into_owned())),
            KeyRule::Regex(regex) => Self::Regex(regex.clone()),
            KeyRule::Value(text) => {
                check_key(text.as_bytes())?;
                Self::Value(text.clone().into_bytes())
            }
        }))
    }

    /// How many bytes of a record's text may be neither payload nor key.
    pub(super) fn overhead(&self) -> usize {
        match self {
            Self::Delimiter(finder) => finder.needle().len(),
            _ => 0,
        }
    }

    /// Whether a record's payload is all of its text.
    pub(super) fn keeps_payload(&self) -> bool {
        !matches!(self, Self::Delimiter(_))
    }

    /// Key and payload of a record's text.
    fn apply(&self, record: &[u8]) -> Result<(Option<Range<usize>>, Range<usize>), String> {
        let whole = 0..record.len();
        match self {
            Self::None | Self::Value(_) => Ok((None, whole)),
            Self::Delimiter(finder) => {
                let at = finder.find(record).ok_or("the key delimiter is missing")?;
                Ok((Some(0..at), at + finder.needle().len()..record.len()))
            }
            Self::Regex(regex) if regex.captures_len() > 1 => {
                let groups = regex.captures(record).ok_or("the key pattern does not match")?;
                let group =
                    groups.get(1).ok_or("the key pattern's first group takes no part in the match")?;
                Ok((Some(group.range()), whole))
            }
            Self::Regex(regex) => {
                let found = regex.find(record).ok_or("the key pattern does not match")?;
                Ok((Some(found.range()), whole))
            }
        }
    }

    /// The key of a record that lies by itself; what a delimiter cuts off leaves the payload.
    pub(super) fn take_from(&self, payload: &mut Cow<'_, [u8]>) -> Result<Option<Vec<u8>>, String> {
        if let Self::Value(value) = self {
            return Ok(Some(value.clone()));
        }
        let (key, rest) = self.apply(payload)?;
        let key = key.map(|range| payload[range].to_vec());
        if rest.len() < payload.len() {
            *payload = Cow::Owned(payload[rest].to_vec());
        }
        Ok(key)
    }

    /// Pushes one record whose text lies at `text`, or refuses it. `line` is what it was made of.
    pub(super) fn push(&self, block: &[u8], text: Place, line: Line, limit: usize, out: &mut Records) {
        let (span, bytes) = match text {
            Place::Block(span) => (span, block),
            Place::Arena(span) => (span, &out.arena[..]),
        };
        let record = span.of(bytes).unwrap_or_default();
        let found = self.apply(record).and_then(|(key, payload)| {
            let constant = if let Self::Value(value) = self { value.len() } else { 0 };
            let key_len = key.as_ref().map_or(constant, Range::len);
            check_size(payload.len(), key_len, limit)?;
            if let Some(range) = &key {
                check_key(&record[range.clone()])?;
            }
            Ok((key, payload))
        });
        let (key, payload) = match found {
            Ok(found) => found,
            Err(reason) => {
                // What was made for it is of no use to anybody.
                if let Place::Arena(span) = text {
                    out.arena.truncate(span.start as usize);
                }
                out.refuse(line.number, line.start, line.end, reason);
                return;
            }
        };
        let at = |range: Range<usize>| {
            let base = span.start as usize;
            Span::new(base + range.start, base + range.end)
        };
        if let Some(range) = key {
            let place = if matches!(text, Place::Block(_)) {
                Place::Block(at(range))
            } else {
                Place::Arena(at(range))
            };
            out.push_key(block, place);
        } else if let Self::Value(value) = self {
            self.push_value(value, out);
        }
        out.payload_in_arena |= matches!(text, Place::Arena(_));
        out.payloads.push(at(payload));
        out.push_end(line);
    }

    /// Every record of a batch shares the one copy of the constant key.
    #[expect(clippy::unused_self, reason = "reads as one of the rule's steps")]
    fn push_value(&self, value: &[u8], out: &mut Records) {
        let span = match out.keys.first() {
            Some(&first) => first,
            None => out.store(value),
        };
        out.key_in_arena = true;
        out.keys.push(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(rule: &KeyRule, record: &str) -> Result<(Option<String>, String), String> {
        let rule = ByteRule::new(rule).unwrap().unwrap();
        let (key, payload) = rule.apply(record.as_bytes())?;
        Ok((key.map(|range| record[range].to_owned()), record[payload].to_owned()))
    }

    fn regex(text: &str) -> KeyRule {
        KeyRule::Regex(Regex::new(text).unwrap())
    }

    #[test]
    fn rules() {
        let pair = |key: &str, payload: &str| Ok((Some(key.to_owned()), payload.to_owned()));
        assert_eq!(apply(&KeyRule::Delimiter(b": ".to_vec()), "k: a: b"), pair("k", "a: b"));
        assert_eq!(apply(&KeyRule::Delimiter(b":".to_vec()), ":b"), pair("", "b"));
        assert!(apply(&KeyRule::Delimiter(b":".to_vec()), "kb").is_err());
        assert_eq!(apply(&regex("id=([a-z]+)"), "x id=abc y"), pair("abc", "x id=abc y"));
        assert_eq!(apply(&regex("[0-9]+"), "x 12 y"), pair("12", "x 12 y"));
        assert!(apply(&regex("[0-9]+"), "x").is_err());
        assert!(apply(&regex("a(b)?"), "a").is_err());
        assert!(ByteRule::new(&KeyRule::Delimiter(Vec::new())).is_err());
        assert!(ByteRule::new(&KeyRule::Value("k".repeat(257))).is_err());
    }
}
