//! Records on their way in, as columns of spans into the bytes that they came in.
//!
//! They are made by the codecs and taken by producers; nothing is copied for it where a record's bytes are stored as they
//! came.

use super::Attribute;
use crate::hash::HashKey;

/// A range of bytes in the input block or in the arena, at most 4 GiB from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes; [`Span::NONE`] has the largest.
    pub len: u32,
}

impl Span {
    /// Absent, which is not the same as empty.
    pub const NONE: Self = Self { start: 0, len: u32::MAX };

    /// A span from byte offsets.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, len: (end - start) as u32 }
    }

    /// The bytes it stands for, or `None` for [`Span::NONE`].
    pub fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        (self.len != u32::MAX).then(|| &bytes[self.start as usize..][..self.len as usize])
    }
}

/// A record that its decoder would not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// How many good records of this batch stand before it.
    pub after: usize,
    /// Its bytes in the input block, delimiter not included, or where `raw_in_arena` the start of them in the arena.
    pub raw: Span,
    /// Whether it was too long to be kept: it was dropped as it came, and only its start is left, in the arena.
    pub raw_in_arena: bool,
    /// Which line, row or record of the input it is, counted from 1 over the whole input.
    pub number: u64,
    /// Why, as the end of a sentence that begins with the place.
    pub reason: String,
}

/// What one call of a decoder brought: columns of equal length, optional ones empty where no record has a value.
#[derive(Debug, Default)]
pub struct Records {
    /// The payloads, in the input block or, where `payload_in_arena`, in `arena`.
    pub payloads: Vec<Span>,
    /// Whether `payloads` point into `arena`.
    pub payload_in_arena: bool,
    /// Where each record ends in the input block, its delimiter included.
    pub ends: Vec<u32>,
    /// `Some(d)` where the payloads lie in the input block back to back from its first byte, each followed by the one
    /// byte `d` (the last may lack it only at the very end of the input), and are all that was used of it.
    pub joined: Option<u8>,
    /// Partition keys: empty, or one per record ([`Span::NONE`] where absent). Valid UTF-8 of at most 256 characters.
    pub keys: Vec<Span>,
    /// Whether `keys` point into `arena`.
    pub key_in_arena: bool,
    /// Explicit hash keys: empty, or one per record.
    pub hashes: Vec<Option<HashKey>>,
    /// Producer timestamps in microseconds since the epoch: empty, or one per record.
    pub timestamps: Vec<Option<i64>>,
    /// Attributes: empty, or one list per record.
    pub attributes: Vec<Vec<Attribute>>,
    /// Source positions for `--producer-position`: empty, or one per record, each below `u64::MAX`.
    pub positions: Vec<u64>,
    /// Whether `numbers` are wanted; it outlives [`Records::clear`].
    pub is_numbered: bool,
    /// Which line, row or record of the input each is, counted from 1, where that is wanted: for those who refuse a
    /// record that its decoder took.
    pub numbers: Vec<u64>,
    /// Bytes that a decoder had to make.
    pub arena: Vec<u8>,
    /// Records that were not taken, in order.
    pub refused: Vec<Refused>,
}

impl Records {
    /// Empties all columns and keeps their memory.
    pub fn clear(&mut self) {
        self.payloads.clear();
        self.payload_in_arena = false;
        self.ends.clear();
        self.joined = None;
        self.keys.clear();
        self.key_in_arena = false;
        self.hashes.clear();
        self.timestamps.clear();
        self.attributes.clear();
        self.positions.clear();
        self.numbers.clear();
        self.arena.clear();
        self.refused.clear();
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.payloads.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    /// The payload of record `i`, given the block it was decoded from.
    pub fn payload<'a>(&'a self, block: &'a [u8], i: usize) -> &'a [u8] {
        let bytes = if self.payload_in_arena { &self.arena } else { block };
        self.payloads[i].of(bytes).unwrap_or_default()
    }

    /// Makes the whole of a block, of `len` bytes, one record.
    pub fn push_whole(&mut self, len: usize, key: Option<&str>) {
        self.payloads.push(Span::new(0, len));
        self.ends.push(len as u32);
        if let Some(key) = key {
            self.keys.push(Span::new(self.arena.len(), self.arena.len() + key.len()));
            self.key_in_arena = true;
            self.arena.extend_from_slice(key.as_bytes());
        }
    }

    /// Keeps the first `len` records.
    pub fn truncate(&mut self, len: usize) {
        self.retain(|i| i < len);
    }

    /// Keeps the records for whose number `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        fn column<T>(values: &mut Vec<T>, keep: &impl Fn(usize) -> bool) {
            let mut i = 0;
            values.retain(|_| {
                i += 1;
                keep(i - 1)
            });
        }
        if (0..self.len()).any(|i| !keep(i)) {
            // What is left may no longer lie back to back.
            self.joined = None;
        }
        column(&mut self.payloads, &keep);
        column(&mut self.ends, &keep);
        column(&mut self.keys, &keep);
        column(&mut self.hashes, &keep);
        column(&mut self.timestamps, &keep);
        column(&mut self.attributes, &keep);
        column(&mut self.positions, &keep);
        column(&mut self.numbers, &keep);
    }

    /// The partition key of record `i`, given the block it was decoded from.
    pub fn key<'a>(&'a self, block: &'a [u8], i: usize) -> Option<&'a [u8]> {
        let bytes = if self.key_in_arena { &self.arena } else { block };
        self.keys.get(i).and_then(|span| span.of(bytes))
    }
}
