//! Bytes of a pipe to records and back: no files, no clock, nothing of the log.
//!
//! A decoder is handed blocks of input and answers with spans into them: a record is copied only where its format
//! changes its bytes (base64, CSV quoting, JSON escapes). Lines need no copy at all, and say so ([`Records::joined`]),
//! so that a block of them can go to the disk as it came.

mod base64_lines;
mod columns;
mod csv;
pub mod envelope;
mod framed;
mod input;
mod instant;
pub mod json_path;
mod key;
pub mod kpl;
mod lines;
mod ndjson;
mod output;
mod split;
mod table;
mod template;

pub use input::{DecodeOptions, InputFormat, decoder};
pub use key::KeyRule;
pub use output::{EncodeOptions, OutputFormat, encoder};

use crate::record::Record;
pub use crate::record::{Records, Refused, Span};

/// An input that cannot be read on, as opposed to one record of it.
#[derive(Debug, thiserror::Error)]
#[error("{format} input: record {number}: {reason}")]
pub struct BrokenInput {
    /// The input format's name.
    pub format: &'static str,
    /// Which record, counted from 1.
    pub number: u64,
    /// What is wrong.
    pub reason: String,
}

/// Turns the bytes of a pipe into records.
pub trait Decode: Send {
    /// Takes the whole records at the start of `block` into `out` (which the caller has cleared) and returns how many
    /// bytes they used. With `last` there is no more input: what is left is a record, or refused.
    ///
    /// Returns 0 where `block` holds no whole record yet: the caller comes again with more. A record that is too long
    /// does not make the caller's buffer grow without end: its bytes count as used while they are dropped, and it is
    /// refused when its end has been seen.
    ///
    /// # Errors
    /// Where the input cannot be read on; `out` then holds what stood before that place.
    fn decode(&mut self, block: &[u8], last: bool, out: &mut Records) -> Result<usize, BrokenInput>;

    /// How many of the bytes that counted as used belong to a record whose end has not been seen: it is too long, and
    /// dropped as it comes. Who notes a place to go on from notes the one before them.
    fn pending(&self) -> u64 {
        0
    }

    /// The header row, where the format has one and it has been read.
    fn header(&self) -> Option<&[u8]> {
        None
    }
}

/// Turns records into the bytes of a pipe.
pub trait Encode: Send {
    /// What stands before the first record (a CSV header, say).
    fn begin(&mut self, _out: &mut Vec<u8>) {}

    /// Appends one record to `out`.
    fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>);

    /// `Some(d)` where a record is its payload followed by the one byte `d` and nothing else, so that a frame whose
    /// payloads already lie that way can be passed through as it is.
    fn joined(&self) -> Option<u8> {
        None
    }
}

#[cfg(test)]
mod tests;
