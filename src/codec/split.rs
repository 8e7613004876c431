//! Cutting blocks at a delimiter, so that every line is seen once and in order however the input was split, and none
//! makes the caller hold more than one line of permitted length and one block.
//!
//! A line that is too long to hold any permitted record is dropped as it comes: its bytes count as used, its start is
//! kept for the refusal, and the refusal follows when its end has been seen and its length is known.

use super::{Records, Refused, Span};

/// How much of a line that was dropped as it came is kept to show.
const HEAD_BYTES: usize = 4096;

/// One line of the block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Counted from 1 over the whole input.
    pub(super) number: u64,
    /// Its bytes, without the delimiter.
    pub(super) start: usize,
    pub(super) end: usize,
    /// Where the next line begins.
    pub(super) next: usize,
}

/// The first line of a text without the byte order mark that some programs write there, and any other as it is.
pub(super) fn without_bom(line: Line, text: &[u8]) -> &[u8] {
    if line.number == 1 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text }
}

/// A record that is dropped because it is too long, while its end has not been seen.
#[derive(Debug)]
pub(super) struct Dropping {
    len: u64,
    head: Vec<u8>,
}

impl Dropping {
    pub(super) fn new(start: &[u8]) -> Self {
        let head = start[..start.len().min(HEAD_BYTES)].to_vec();
        Self { len: start.len() as u64, head }
    }

    /// Drops `count` more bytes.
    pub(super) fn add(&mut self, count: usize) {
        self.len += count as u64;
    }

    /// How many bytes were dropped so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The end has been seen.
    pub(super) fn finish(self, what: &str, number: u64, limit: usize, out: &mut Records) {
        let start = out.arena.len();
        out.arena.extend_from_slice(&self.head);
        out.refused.push(Refused {
            after: out.payloads.len(),
            raw: Span::new(start, out.arena.len()),
            raw_in_arena: true,
            number,
            reason: too_long(what, self.len, limit),
        });
    }
}

/// Why a line, row or record is refused for its length alone: the same words whether it was dropped as it came or not.
pub(super) fn too_long(what: &str, len: u64, limit: usize) -> String {
    format!("the {what} is {len} bytes long, too long for a record of at most {limit} bytes")
}

/// Cuts blocks at one delimiter.
#[derive(Debug)]
pub(super) struct Splitter {
    delimiter: u8,
    /// The longest line that can hold a record.
    line_bytes: usize,
    /// The record limit, for the words of a refusal.
    record_bytes: usize,
    number: u64,
    dropping: Option<Dropping>,
}

impl Splitter {
    pub(super) fn new(delimiter: u8, line_bytes: usize, record_bytes: usize) -> Self {
        Self { delimiter, line_bytes, record_bytes, number: 0, dropping: None }
    }

    /// How many bytes that count as used belong to a line whose end has not been seen.
    pub(super) fn pending(&self) -> u64 {
        self.dropping.as_ref().map_or(0, Dropping::len)
    }

    /// Calls `each` with every whole line of the block; answers with the number of bytes used.
    #[inline]
    pub(super) fn split(
        &mut self,
        block: &[u8],
        last: bool,
        out: &mut Records,
        mut each: impl FnMut(Line, &mut Records),
    ) -> usize {
        let resumed = self.resume(block, last, out);
        let mut start = resumed;
        for offset in memchr::memchr_iter(self.delimiter, &block[resumed..]) {
            let end = resumed + offset;
            self.line(start, end, end + 1, out, &mut each);
            start = end + 1;
        }
        let rest = block.len() - start;
        if last && rest > 0 {
            self.line(start, block.len(), block.len(), out, &mut each);
            start = block.len();
        } else if rest > self.line_bytes {
            self.dropping = Some(Dropping::new(&block[start..]));
            start = block.len();
        }
        start
    }

    #[inline]
    fn line(
        &mut self,
        start: usize,
        end: usize,
        next: usize,
        out: &mut Records,
        each: &mut impl FnMut(Line, &mut Records),
    ) {
        self.number += 1;
        if end - start > self.line_bytes {
            let reason = too_long("line", (end - start) as u64, self.record_bytes);
            out.refuse(self.number, start, end, reason);
        } else {
            each(Line { number: self.number, start, end, next }, out);
        }
    }

    /// Goes on with a line that is being dropped; answers with the number of bytes it took.
    fn resume(&mut self, block: &[u8], last: bool, out: &mut Records) -> usize {
        let Some(mut dropping) = self.dropping.take() else { return 0 };
        let found = memchr::memchr(self.delimiter, block);
        dropping.add(found.unwrap_or(block.len()));
        if found.is_none() && !last {
            self.dropping = Some(dropping);
            return block.len();
        }
        self.number += 1;
        dropping.finish("line", self.number, self.record_bytes, out);
        found.map_or(block.len(), |end| end + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(
        splitter: &mut Splitter,
        block: &[u8],
        last: bool,
        out: &mut Records,
    ) -> (usize, Vec<(u64, Vec<u8>)>) {
        let mut lines = Vec::new();
        let used = splitter.split(block, last, out, |line, _| {
            lines.push((line.number, block[line.start..line.end].to_vec()));
        });
        (used, lines)
    }

    #[test]
    fn a_line_longer_than_limit_and_block_is_dropped_and_named() {
        let mut splitter = Splitter::new(b'\n', 4, 4);
        let mut out = Records::default();
        assert_eq!(split(&mut splitter, b"ok\n12345", false, &mut out), (8, vec![(1, b"ok".to_vec())]));
        assert_eq!(split(&mut splitter, b"678", false, &mut out), (3, vec![]));
        assert!(out.refused.is_empty());
        assert_eq!(
            split(&mut splitter, b"9\nab\nc", true, &mut out).1,
            [(3, b"ab".to_vec()), (4, b"c".to_vec())]
        );
        assert_eq!(out.refused.len(), 1);
        assert_eq!(out.refused[0].number, 2);
        assert_eq!(out.refused_raw(b"", 0), b"12345");
        assert!(out.refused[0].reason.contains("9 bytes"), "{}", out.refused[0].reason);
    }

    #[test]
    fn a_line_of_exactly_the_limit_waits_for_its_end() {
        let mut splitter = Splitter::new(b'\n', 4, 4);
        let mut out = Records::default();
        assert_eq!(split(&mut splitter, b"1234", false, &mut out), (0, vec![]));
        assert_eq!(split(&mut splitter, b"1234\n", false, &mut out), (5, vec![(1, b"1234".to_vec())]));
    }

    #[test]
    fn a_dropped_line_ends_with_the_input() {
        let mut splitter = Splitter::new(b'\n', 1, 1);
        let mut out = Records::default();
        assert_eq!(split(&mut splitter, b"12", false, &mut out).0, 2);
        assert_eq!(split(&mut splitter, b"", true, &mut out).0, 0);
        assert_eq!(out.refused.len(), 1);
    }
}
