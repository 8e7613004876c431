//! A block of payloads into a batch.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::error::ArrowError;

use super::column::Struct;
use super::csv::CsvRows;
use super::fault::{BadRow, Fault, Result, found};
use super::{Context, RowOptions, Unknown};
use crate::table::json::Scanner;
use crate::table::schema::{Schema, SchemaError};

/// Makes batches of a schema out of blocks of payloads.
///
/// One is for one thread; a clone is cheap, and empty.
///
/// A block is payloads back to back, each followed by one newline: payload `i` is `bytes[ends[i - 1] + 1..ends[i]]`, the
/// first begins at 0. A payload may have newlines in it.
#[derive(Debug)]
pub struct RowDecoder {
    schema: Schema,
    options: Arc<RowOptions>,
    csv: Option<CsvRows>,
    rows: Struct,
}

/// What a block became.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The good rows, in their order.
    pub batch: RecordBatch,
    /// The others, in their order.
    pub bad: Vec<BadRow>,
    /// How many payloads the block has: those of `batch` and `bad` together.
    pub rows: usize,
}

impl Decoded {
    /// The numbers in the block of the rows that are in the batch: which values of a column that comes from elsewhere
    /// (an arrival time, a sequence number) belong to it.
    pub fn kept(&self) -> impl Iterator<Item = usize> + '_ {
        let mut bad = self.bad.iter().map(|bad| bad.row).peekable();
        (0..self.rows).filter(move |row| bad.next_if_eq(row).is_none())
    }
}

/// What a block became, where the schema may grow.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It fits; rows that are bad are so under any wider schema too.
    Rows(Decoded),
    /// A row has a column that the schema has not, or a value that a wider type of its column would take: evolve the
    /// schema with this block, and read it again with [`RowDecoder::settle`] of the new one.
    Drift,
}

impl Clone for RowDecoder {
    fn clone(&self) -> Self {
        let mut rows = self.rows.clone();
        rows.truncate(0);
        Self { schema: self.schema.clone(), options: self.options.clone(), csv: self.csv.clone(), rows }
    }
}

impl RowDecoder {
    /// A decoder for a schema.
    ///
    /// # Errors
    /// Where two columns have one key by the options for names.
    pub fn new(schema: &Schema, options: &RowOptions) -> std::result::Result<Self, SchemaError> {
        let rows = Struct::new(schema.columns(), options, true)?;
        Ok(Self { schema: schema.clone(), options: Arc::new(options.clone()), csv: None, rows })
    }

    /// The same for payloads that are rows of CSV.
    #[must_use]
    pub fn with_csv(mut self, csv: CsvRows) -> Self {
        let columns = self.schema.columns().iter().map(|column| column.name.as_str());
        self.csv = Some(csv.for_columns(columns, &self.options));
        self
    }

    /// The schema of its batches.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Decodes a block by a schema that is fixed: keys that are no columns are ignored.
    pub fn decode(&mut self, bytes: &[u8], ends: &[u32]) -> Decoded {
        let decoded = self.read(bytes, ends, Unknown::Ignored, false);
        decoded.unwrap_or_else(|| self.none(ends.len(), "it does not fit the schema"))
    }

    /// Decodes a block if the schema is wide enough for it.
    pub fn fit(&mut self, bytes: &[u8], ends: &[u32]) -> Outcome {
        self.read(bytes, ends, Unknown::Noted, true).map_or(Outcome::Drift, Outcome::Rows)
    }

    /// Decodes a block that the schema has been evolved with: what is still no column makes its row a bad one.
    pub fn settle(&mut self, bytes: &[u8], ends: &[u32]) -> Decoded {
        let decoded = self.read(bytes, ends, Unknown::Noted, false);
        decoded.unwrap_or_else(|| self.none(ends.len(), "it does not fit the schema"))
    }

    /// The rows of a block, or none if one of them drifts.
    fn read(&mut self, bytes: &[u8], ends: &[u32], unknown: Unknown, watch: bool) -> Option<Decoded> {
        let Self { options, csv, rows, .. } = self;
        let mut context = Context::new(options, unknown, watch);
        // One look at the whole is faster than one at each, and nearly always enough.
        let whole = std::str::from_utf8(bytes).ok();
        let mut bad = Vec::new();
        for (row, payload) in payloads(ends).enumerate() {
            let text = match whole {
                Some(whole) => whole.get(payload.clone()),
                None => bytes.get(payload.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok()),
            };
            let before = rows.len();
            let taken = match (text, &mut *csv) {
                (None, _) => Err(Fault::value("it is not UTF-8".to_owned())),
                (Some(text), None) => json_row(rows, text, &mut context),
                (Some(text), Some(csv)) => csv.row(rows, text, &mut context),
            };
            match taken {
                Ok(()) => {}
                Err(fault) if fault.is_drift() => {
                    rows.truncate(0);
                    return None;
                }
                Err(fault) => {
                    rows.truncate(before);
                    bad.push(BadRow { row, reason: fault.reason() });
                }
            }
        }
        let decoded = self.finish().map(|batch| Decoded { batch, bad, rows: ends.len() });
        Some(decoded.unwrap_or_else(|error| self.none(ends.len(), &error.to_string())))
    }

    fn finish(&mut self) -> std::result::Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        let columns = self.rows.finish(self.schema.arrow().fields())?;
        RecordBatch::try_new_with_options(self.schema.arrow().clone(), columns, &options)
    }

    /// No row at all, for one reason: what cannot happen must not lose a row either.
    fn none(&mut self, rows: usize, reason: &str) -> Decoded {
        let fresh = Struct::new(self.schema.columns(), &self.options, true);
        if let Ok(fresh) = fresh {
            self.rows = fresh;
        }
        Decoded {
            batch: RecordBatch::new_empty(self.schema.arrow().clone()),
            bad: (0..rows).map(|row| BadRow { row, reason: reason.to_owned() }).collect(),
            rows,
        }
    }
}

/// Where the payloads of a block are.
pub(in crate::table) fn payloads(ends: &[u32]) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let mut start = 0;
    ends.iter().map(move |&end| {
        let payload = start..end as usize;
        start = end as usize + 1;
        payload
    })
}

/// What stands before the object that a payload is.
pub(in crate::table) fn not_an_object(json: &mut Scanner<'_>) -> Fault {
    if json.peek().is_none() {
        return Fault::value("it is empty".to_owned());
    }
    match json.raw().and_then(|raw| json.end().map(|()| raw)) {
        Ok(raw) => Fault::value(format!("expected an object, found {}", found(raw))),
        Err(syntax) => syntax.into(),
    }
}

fn json_row(rows: &mut Struct, text: &str, context: &mut Context<'_>) -> Result<()> {
    let mut json = Scanner::new(text);
    if json.peek() != Some(b'{') {
        return Err(not_an_object(&mut json));
    }
    rows.object(&mut json, context)?;
    Ok(json.end()?)
}
