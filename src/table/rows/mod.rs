//! Rows of JSON (or CSV) into the columns of a batch.
//!
//! Each payload is read once and its values go straight into their columns. A row that turns out bad is taken back out
//! of them, so that it costs no other row anything, and there is no second, slower way on which rows could come out
//! otherwise.
//!
//! # What a payload may be
//!
//! One JSON object, with white space around it and a byte order mark before it. These are bad rows: nothing at all,
//! another value, several values, what is not UTF-8 or not JSON by RFC 8259 (NaN and half a surrogate pair included), and
//! what is nested more than 128 levels deep. Where a key is there twice, the last one counts.
//!
//! # Which values a column takes
//!
//! | column | values |
//! |---|---|
//! | `boolean` | `true`, `false` |
//! | `tinyint` to `bigint` | numbers that are integers, `1.0` and `1e3` too |
//! | `float`, `double` | numbers, rounded to the nearest; none beyond the largest |
//! | `decimal(p,s)` | numbers and strings that are one, rounded half away from zero to `s` digits |
//! | `string`, `varchar(n)`, `char(n)` | strings; one of more than `n` characters is a bad row, not a cut one |
//! | `binary` | strings in base64 |
//! | `date` | `2024-05-06`, or by the patterns that are given |
//! | `timestamp` | texts and numbers, see [`time`](super::time) |
//! | `array`, `struct`, `map` | arrays and objects |
//!
//! Null and a missing key are the same: they fit every column that is not `not null`. Where the schema grows with the rows
//! ([`RowDecoder::fit`]), `{}` and `[]` are null in a column of another type. [`RowOptions::coerce`] takes more.

mod column;
mod csv;
mod decoder;
mod fault;
mod keys;
mod names;
mod options;
#[cfg(test)]
pub(in crate::table) mod tests;

pub(super) use column::Column as Values;
pub use csv::CsvRows;
pub use decoder::{Decoded, Outcome, RowDecoder};
pub(super) use decoder::{not_an_object, payloads};
pub use fault::BadRow;
pub(super) use fault::{Fault, Result, Step, found, mismatch, quoted};
pub use options::RowOptions;

use keys::Keys;

/// What happens to keys that are no columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// They are passed over.
    Ignored,
    /// They make the row a bad one, or say that the schema has to grow.
    Noted,
}

/// What is the same for all values of a block.
pub(super) struct Context<'o> {
    pub(super) options: &'o RowOptions,
    pub(super) unknown: Unknown,
    /// Whether a row that a wider schema would take ends the reading of the block.
    pub(super) watch: bool,
    scratch: String,
    keys: Keys,
}

impl<'o> Context<'o> {
    pub(super) fn new(options: &'o RowOptions, unknown: Unknown, watch: bool) -> Self {
        Self { options, unknown, watch, scratch: String::new(), keys: Keys::default() }
    }
}
