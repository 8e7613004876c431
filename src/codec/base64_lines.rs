//! One record per line in base64 (RFC 4648, the standard alphabet): every payload comes through unchanged.
//!
//! Padding may be missing; white space around a line (a carriage return, say) is ignored. An empty line is a record of
//! no bytes.

use base64::Engine;
use base64::engine::general_purpose::GeneralPurposeConfig;
use base64::engine::{DecodePaddingMode, GeneralPurpose};

use super::columns::Place;
use super::key::ByteRule;
use super::split::Splitter;
use super::{BrokenInput, Decode, Encode, Records, Span};
use crate::record::Record;

/// Writes padding and does not ask for it.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes `base64`.
#[derive(Debug)]
pub(super) struct Base64Lines {
    rule: ByteRule,
    record_bytes: usize,
    splitter: Splitter,
}

impl Base64Lines {
    pub(super) fn new(rule: ByteRule, record_bytes: usize) -> Self {
        // Four characters for three bytes, and a little white space.
        let line_bytes = (record_bytes + rule.overhead()).div_ceil(3) * 4 + 16;
        Self { rule, record_bytes, splitter: Splitter::new(b'\n', line_bytes, record_bytes) }
    }
}

impl Decode for Base64Lines {
    fn decode(&mut self, block: &[u8], last: bool, out: &mut Records) -> Result<usize, BrokenInput> {
        let (rule, limit) = (&self.rule, self.record_bytes);
        Ok(self.splitter.split(block, last, out, |line, out| {
            match decode_into(block[line.start..line.end].trim_ascii(), &mut out.arena) {
                Ok(span) => rule.push(block, Place::Arena(span), line, limit, out),
                Err(reason) => out.refuse(line.number, line.start, line.end, reason),
            }
        }))
    }

    fn pending(&self) -> u64 {
        self.splitter.pending()
    }
}

/// Appends what `text` stands for to the arena.
pub(super) fn decode_into(text: &[u8], arena: &mut Vec<u8>) -> Result<Span, String> {
    let start = arena.len();
    BASE64.decode_vec(text, arena).map_err(|error| {
        arena.truncate(start);
        format!("it is not base64: {error}")
    })?;
    Ok(Span::new(start, arena.len()))
}

/// Appends `bytes` in base64 to `out`.
pub(super) fn encode_onto(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The room is exactly what the text takes, so this cannot fail; a short text would be cut off, not guessed.
    let written = BASE64.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}

/// Encodes `base64`.
#[derive(Debug, Default)]
pub(super) struct Base64Encoder;

impl Encode for Base64Encoder {
    fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        encode_onto(record.payload, out);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::KeyRule;
    use super::*;
    use proptest::prelude::*;

    fn base64(rule: &KeyRule) -> Base64Lines {
        Base64Lines::new(ByteRule::new(rule).unwrap().unwrap(), 10)
    }

    #[test]
    fn lines_with_and_without_padding() {
        let block = b"AP8=\r\nAP8\n\n*\nYTpi\n";
        let mut out = Records::default();
        base64(&KeyRule::None).decode(block, true, &mut out).unwrap();
        let payloads: Vec<_> = (0..out.len()).map(|i| out.payload(block, i)).collect();
        assert_eq!(payloads, [&b"\0\xff"[..], b"\0\xff", b"", b"a:b"]);
        assert_eq!((out.refused[0].number, out.refused[0].after), (4, 3));
    }

    #[test]
    fn keys_are_looked_for_in_the_decoded_bytes() {
        let block = b"YTpi\nYQ==\nYzpk\n";
        let mut out = Records::default();
        base64(&KeyRule::Delimiter(b":".to_vec())).decode(block, true, &mut out).unwrap();
        assert_eq!((out.key(block, 1), out.payload(block, 1)), (Some(&b"c"[..]), &b"d"[..]));
        assert_eq!(out.refused[0].number, 2);
        out.clear();
        base64(&KeyRule::Value("k".into())).decode(block, true, &mut out).unwrap();
        assert_eq!((out.key(block, 2), out.payload(block, 2)), (Some(&b"k"[..]), &b"c:d"[..]));
    }

    proptest! {
        #[test]
        fn text_round_trip(bytes: Vec<u8>) {
            let (mut text, mut arena) = (Vec::new(), Vec::new());
            encode_onto(&bytes, &mut text);
            let span = decode_into(&text, &mut arena).unwrap();
            prop_assert_eq!(span.of(&arena), Some(&bytes[..]));
        }
    }
}
