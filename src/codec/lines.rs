//! Records that end with one byte: every byte between two delimiters is a record's, unchanged.
//!
//! - `lines`: the delimiter is a newline. A last line without one is a record like any other. Empty lines are records
//!   of no bytes, and a carriage return before the newline belongs to the record: nothing is dropped, so what was put
//!   comes out again.
//! - `nul`: the same with a zero byte, for what `find -print0` and `sort -z` write.
//!
//! Without a key a block of lines is only searched for its delimiters; this is the path of a bulk load.

use super::columns::Place;
use super::key::ByteRule;
use super::split::Splitter;
use super::{BrokenInput, Decode, Records, Span};

/// Decodes `lines` and `nul`.
#[derive(Debug)]
pub(super) struct Lines {
    delimiter: u8,
    rule: ByteRule,
    record_bytes: usize,
    splitter: Splitter,
}

impl Lines {
    pub(super) fn new(delimiter: u8, rule: ByteRule, record_bytes: usize) -> Self {
        let splitter = Splitter::new(delimiter, record_bytes + rule.overhead(), record_bytes);
        Self { delimiter, rule, record_bytes, splitter }
    }
}

impl Decode for Lines {
    fn decode(&mut self, block: &[u8], last: bool, out: &mut Records) -> Result<usize, BrokenInput> {
        let used = if let ByteRule::None = self.rule {
            // The splitter has checked the length, and there is nothing else to check.
            self.splitter.split(block, last, out, |line, out| {
                out.payloads.push(Span::new(line.start, line.end));
                out.push_end(line);
            })
        } else {
            let (rule, limit) = (&self.rule, self.record_bytes);
            self.splitter.split(block, last, out, |line, out| {
                rule.push(block, Place::Block(Span::new(line.start, line.end)), line, limit, out);
            })
        };
        out.join(self.delimiter, self.rule.keeps_payload(), used);
        Ok(used)
    }

    fn pending(&self) -> u64 {
        self.splitter.pending()
    }
}

#[cfg(test)]
mod tests {
    use super::super::KeyRule;
    use super::*;

    fn lines(rule: &KeyRule, limit: usize) -> Lines {
        Lines::new(b'\n', ByteRule::new(rule).unwrap().unwrap(), limit)
    }

    #[test]
    fn empty_lines_and_carriage_returns_are_kept() {
        let mut out = Records::default();
        let block = b"a\r\n\n\nlast";
        assert_eq!(lines(&KeyRule::None, 10).decode(block, true, &mut out).unwrap(), block.len());
        let payloads: Vec<_> = (0..out.len()).map(|i| out.payload(block, i)).collect();
        assert_eq!(payloads, [&b"a\r"[..], b"", b"", b"last"]);
        assert_eq!(out.joined, Some(b'\n'));
        assert_eq!(out.ends, [3, 4, 5, 9]);
    }

    #[test]
    fn an_unfinished_line_waits() {
        let mut out = Records::default();
        assert_eq!(lines(&KeyRule::None, 10).decode(b"a\nb", false, &mut out).unwrap(), 2);
        assert_eq!(out.len(), 1);
        assert_eq!(out.joined, Some(b'\n'));
    }

    #[test]
    fn a_refused_line_breaks_the_join() {
        let mut out = Records::default();
        lines(&KeyRule::None, 2).decode(b"a\n123\nb\n", true, &mut out).unwrap();
        assert_eq!((out.len(), out.refused[0].number, out.refused[0].after, out.joined), (2, 2, 1, None));
    }

    #[test]
    fn delimiter_and_constant_keys() {
        let block = b"k1:v1\nbad\nk2:v2\n";
        let mut out = Records::default();
        lines(&KeyRule::Delimiter(b":".to_vec()), 4).decode(block, true, &mut out).unwrap();
        assert_eq!((out.key(block, 1), out.payload(block, 1)), (Some(&b"k2"[..]), &b"v2"[..]));
        assert_eq!((out.refused[0].number, out.joined), (2, None));

        out.clear();
        lines(&KeyRule::Value("k".into()), 6).decode(block, true, &mut out).unwrap();
        assert_eq!((out.key(block, 2), out.payload(block, 2)), (Some(&b"k"[..]), &b"k2:v2"[..]));
        assert_eq!(out.joined, Some(b'\n'));
    }

    #[test]
    fn payload_and_key_count_together() {
        let mut out = Records::default();
        lines(&KeyRule::Value("key".into()), 4).decode(b"a\nab\n", true, &mut out).unwrap();
        assert_eq!((out.len(), out.refused.len()), (1, 1));
    }
}
