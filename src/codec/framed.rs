//! Length-prefixed records: four bytes, big-endian, then as many bytes. Every payload comes through unchanged.
//!
//! The form is that of `rpk topic consume -f '%V{big32}%v'`. A length above the record limit breaks the input: where
//! the next length would stand cannot be known, so nothing behind it can be trusted.

use super::columns::Place;
use super::key::ByteRule;
use super::split::Line;
use super::{BrokenInput, Decode, Encode, Records, Span};
use crate::record::Record;

const PREFIX: usize = 4;

/// Decodes `framed`.
#[derive(Debug)]
pub(super) struct Framed {
    rule: ByteRule,
    record_bytes: usize,
    number: u64,
}

impl Framed {
    pub(super) fn new(rule: ByteRule, record_bytes: usize) -> Self {
        Self { rule, record_bytes, number: 0 }
    }
}

impl Decode for Framed {
    fn decode(&mut self, block: &[u8], last: bool, out: &mut Records) -> Result<usize, BrokenInput> {
        let mut start = 0;
        while let Some(prefix) = block[start..].first_chunk::<PREFIX>() {
            let len = prefix.iter().fold(0, |sum, &byte| (sum << 8) | usize::from(byte));
            let (from, end) = (start + PREFIX, start + PREFIX + len);
            if len > self.record_bytes + self.rule.overhead() {
                let limit = self.record_bytes;
                let reason = format!("its length is {len} bytes, above the record limit of {limit}");
                return Err(BrokenInput { format: "framed", number: self.number + 1, reason });
            }
            if end > block.len() {
                break;
            }
            self.number += 1;
            let line = Line { number: self.number, start: from, end, next: end };
            self.rule.push(block, Place::Block(Span::new(from, end)), line, self.record_bytes, out);
            start = end;
        }
        if last && start < block.len() {
            self.number += 1;
            out.refuse(self.number, start, block.len(), "the input ends inside it".to_owned());
            start = block.len();
        }
        Ok(start)
    }
}

/// Encodes `framed`.
#[derive(Debug, Default)]
pub(super) struct FramedEncoder;

impl Encode for FramedEncoder {
    fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let len = record.payload.len() as u32;
        out.extend_from_slice(&[(len >> 24) as u8, (len >> 16) as u8, (len >> 8) as u8, len as u8]);
        out.extend_from_slice(record.payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(limit: usize) -> Framed {
        Framed::new(ByteRule::None, limit)
    }

    #[test]
    fn whole_frames_are_taken() {
        let block = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01\n\0\0";
        let mut out = Records::default();
        let mut decoder = framed(10);
        assert_eq!(decoder.decode(block, false, &mut out).unwrap(), 15);
        let payloads: Vec<_> = (0..out.len()).map(|i| out.payload(block, i)).collect();
        assert_eq!(payloads, [&b"ab"[..], b"", b"\n"]);
        assert_eq!(out.ends, [6, 10, 15]);
        out.clear();
        assert_eq!(decoder.decode(b"\0\0", true, &mut out).unwrap(), 2);
        assert_eq!(out.refused[0].number, 4);
    }

    #[test]
    fn a_length_above_the_limit_breaks_the_input() {
        let mut out = Records::default();
        let error = framed(1).decode(b"\0\0\0\x01a\xff\xff\xff\xff", false, &mut out).unwrap_err();
        assert_eq!((error.number, out.len()), (2, 1), "what stands before it is kept");
        assert!(error.to_string().contains("4294967295"), "{error}");
    }
}
