//! What the formats with columns share: chunks as batches, and objects whose columns stay what they were.

use std::io;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;

use super::super::chunk::Chunk;
use super::super::failure::{BadRow, ErrorType, Failure};
use crate::table::{Converted, Decoders, Schema};

/// The columns of a run, fixed or inferred, and how rows are read: shared by all threads and objects.
///
/// [`Decoders::schema`] is what they are at present. An object has the columns of then or of earlier, so that it is
/// enough to keep them before an object is delivered.
pub type Columns = Decoders;

/// So many small batches are put together: a batch costs some hundred bytes for each column whatever is in it.
const TOGETHER: usize = 16;

/// Rows of a chunk, and the columns that they were read with.
pub(super) struct Rows {
    pub(super) batch: RecordBatch,
    pub(super) schema: Arc<Schema>,
    /// Later columns have a higher number.
    pub(super) version: u64,
}

/// Reads a chunk.
pub(super) fn convert(columns: &Columns, chunk: &Chunk) -> (Rows, Vec<BadRow>) {
    let Converted { schema, version, decoded } = columns.decode(&chunk.bytes, &chunk.ends);
    let failure = |reason: String| {
        Failure::new(ErrorType::FormatConversion, "DataFormatConversion.MalformedData", reason)
    };
    if decoded.batch.num_columns() == 0 {
        // A row without columns could be counted, but no format can hold it: it would be lost without a word.
        let mut bad: Vec<BadRow> = decoded
            .kept()
            .map(|row| BadRow {
                row,
                failure: failure("it has no keys, and no columns are known yet".to_owned()),
            })
            .collect();
        bad.extend(decoded.bad.into_iter().map(|bad| BadRow { row: bad.row, failure: failure(bad.reason) }));
        bad.sort_by_key(|bad| bad.row);
        return (Rows { batch: decoded.batch.slice(0, 0), schema, version }, bad);
    }
    let bad = decoded.bad.into_iter().map(|bad| BadRow { row: bad.row, failure: failure(bad.reason) });
    let bad = bad.collect();
    (Rows { batch: decoded.batch, schema, version }, bad)
}

/// Whether an object of the one takes a piece of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// As it is.
    Same,
    /// Once the piece has been given the columns that the object has and it has not.
    Older,
    /// The piece has columns that the object has not.
    Newer,
}

/// The columns of an object.
pub(super) struct ObjectColumns {
    pub(super) schema: Arc<Schema>,
    version: u64,
}

impl ObjectColumns {
    pub(super) fn of(schema: &Arc<Schema>, version: u64) -> Self {
        Self { schema: schema.clone(), version }
    }

    pub(super) fn fit(&self, schema: &Arc<Schema>, version: u64) -> Fit {
        if version == self.version || Arc::ptr_eq(schema, &self.schema) || **schema == *self.schema {
            Fit::Same
        } else if version < self.version {
            Fit::Older
        } else {
            Fit::Newer
        }
    }
}

/// Rows that wait until there are enough of them to be encoded.
#[derive(Default)]
pub(super) struct Waiting {
    /// `None` until the first rows come.
    columns: Option<ObjectColumns>,
    /// Whether the columns can still become those of later rows.
    is_set: bool,
    batches: Vec<RecordBatch>,
    pub(super) rows: usize,
    /// Bytes of values, whatever room there is for more: what is done at so many bytes is done at the same row each time.
    pub(super) bytes: usize,
    /// Bytes of memory.
    held: usize,
}

impl Waiting {
    /// Takes rows, or hands them back where they have columns that the object cannot get any more.
    pub(super) fn push(&mut self, rows: Rows) -> io::Result<Option<Rows>> {
        if rows.batch.num_rows() == 0 {
            return Ok(None);
        }
        let columns = self.columns.get_or_insert_with(|| ObjectColumns::of(&rows.schema, rows.version));
        let batch = match columns.fit(&rows.schema, rows.version) {
            Fit::Same => rows.batch,
            Fit::Older => columns.schema.adapt(&rows.batch).map_err(io::Error::other)?,
            Fit::Newer if self.is_set => return Ok(Some(rows)),
            Fit::Newer => {
                *columns = ObjectColumns::of(&rows.schema, rows.version);
                for batch in &mut self.batches {
                    *batch = columns.schema.adapt(batch).map_err(io::Error::other)?;
                }
                rows.batch
            }
        };
        self.rows += batch.num_rows();
        self.bytes += value_bytes(&batch);
        self.held += batch.get_array_memory_size();
        self.batches.push(batch);
        self.gather()?;
        Ok(None)
    }

    /// Puts small batches together: those of up to 15 rows when there are 16 of them, then those of up to 255, so that
    /// each row is copied twice at most.
    fn gather(&mut self) -> io::Result<()> {
        for rows in [TOGETHER, TOGETHER * TOGETHER] {
            let small = self.batches.iter().rev().take_while(|batch| batch.num_rows() < rows).count();
            if small < TOGETHER {
                continue;
            }
            let from = self.batches.len() - small;
            let joined = concat_batches(self.batches[from].schema_ref(), &self.batches[from..]);
            self.batches.truncate(from);
            self.batches.push(joined.map_err(io::Error::other)?);
            self.held = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        }
        Ok(())
    }

    /// The columns, which stay what they are from now on; those of `present` where no rows have come.
    pub(super) fn settle(&mut self, present: &Columns) -> Arc<Schema> {
        self.is_set = true;
        self.columns.as_ref().map_or_else(|| present.schema(), |columns| columns.schema.clone())
    }

    pub(super) fn take(&mut self) -> Vec<RecordBatch> {
        (self.rows, self.bytes, self.held) = (0, 0, 0);
        std::mem::take(&mut self.batches)
    }

    pub(super) fn memory(&self) -> u64 {
        // A batch is also a vector of columns, and each of them a handful of counted references.
        let columns = self.batches.first().map_or(0, RecordBatch::num_columns);
        (self.held + self.batches.len() * (columns + 1) * 64) as u64
    }
}

fn value_bytes(batch: &RecordBatch) -> usize {
    // A column whose size cannot be told is of a type that no schema has.
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}
