//! Rows as Parquet.
//!
//! Its promises: a row group that is written is a row group on the disk, what is not written is bounded by what
//! [`ObjectWriter::memory`] tells, and a small object costs nothing but its rows until it is finished.
//!
//! # How it uses the cores
//!
//! JSON becomes batches wherever [`Format::prepare`] is called. Batches wait in their object until there are a few
//! megabytes of them; then each column encodes its part of all of them on a thread of its own, beside the chunks that
//! are being prepared. Pages that are finished go to a scratch file once there are more than a few megabytes of them,
//! and from there to the object when the row group is complete: Parquet has the columns one behind the other, and they
//! grow side by side.
//!
//! # What old readers need ([`ParquetOptions::compat`])
//!
//! Spark 3 reads pages of version 1 with plain and dictionary encodings on its fast path, and no timestamps in
//! nanoseconds. Hive before 4 reads a timestamp only as INT96 (HIVE-21215 taught version 4 the 64-bit one), and Hive
//! before 3 reads a decimal only as a byte array of fixed length, which is what `spark.sql.parquet.writeLegacyFormat` is
//! there for. Neither reads LZ4 without frames before 2023. With `compat` a timestamp column is therefore INT96, a
//! decimal is a byte array whatever its precision, pages are compressed with Snappy if nothing else was asked for, and
//! the Arrow schema stays out of the footer. Hive moves INT96 into the zone of the session only where the file says that
//! `parquet-mr` wrote it; these say `kpipe`, and keep UTC. The price: INT96 has no order, so that timestamps have no
//! statistics. Timestamps inside lists, maps and structs stay 64-bit microseconds, which Spark reads and old Hive does
//! not.
//!
//! In either mode lists and maps have three levels with the names of the specification (`list.element`,
//! `key_value.key`), which Hive, Spark, Impala and Presto take by their shape.

mod encode;
mod int96;
mod options;
mod pages;
mod properties;
mod sort;

use std::io;
use std::sync::Arc;

pub use options::{BloomColumn, ParquetCompression, ParquetOptions, SortColumn};

use super::super::chunk::Chunk;
use super::body::{Body, Scratch};
use super::columns::{Columns, Rows, Waiting, convert};
use super::compress::Ratio;
use super::{Format, ObjectWriter, Piece, Prepared, open_piece};
use encode::OpenFile;

/// So many bytes of Arrow wait at most before they are encoded: enough that each column has a millisecond of work to do.
const WAITING_BYTES: usize = 8 << 20;
/// A file has at most 32,767 row groups.
const ROW_GROUPS_MAX: usize = 32_000;

/// Parquet.
pub struct ParquetFormat {
    shared: Arc<Shared>,
}

struct Shared {
    columns: Arc<Columns>,
    options: ParquetOptions,
    /// Of pages before and after compression.
    pages: Ratio,
    /// Of Arrow batches and the row groups made of them.
    batches: Ratio,
}

impl ParquetFormat {
    /// The format of these settings.
    ///
    /// # Errors
    /// Where they contradict each other, or name columns that a fixed schema has not: as the end of a usage error.
    pub fn new(options: ParquetOptions, columns: Arc<Columns>, is_fixed: bool) -> Result<Self, String> {
        options.check()?;
        if is_fixed {
            properties::check_names(&options, &columns.schema())?;
        }
        let shared = Shared { columns, options, pages: Ratio::default(), batches: Ratio::default() };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Format for ParquetFormat {
    fn extension(&self) -> String {
        ".parquet".to_owned()
    }

    fn content_type(&self) -> &'static str {
        "application/vnd.apache.parquet"
    }

    fn prepare(&self, chunk: &Chunk) -> Prepared {
        let (rows, bad) = convert(&self.shared.columns, chunk);
        let kept = rows.batch.num_rows() as u64;
        Prepared { piece: Box::new(rows), rows: kept, bad }
    }

    fn open(&self, scratch: &Scratch) -> io::Result<Box<dyn ObjectWriter>> {
        let (shared, scratch) = (self.shared.clone(), scratch.clone());
        Ok(Box::new(ParquetWriter { shared, scratch, waiting: Waiting::default(), file: None }))
    }

    fn columns(&self) -> Option<&Columns> {
        Some(&self.shared.columns)
    }
}

struct ParquetWriter {
    shared: Arc<Shared>,
    scratch: Scratch,
    waiting: Waiting,
    /// Begun when there is something to encode.
    file: Option<OpenFile>,
}

impl ParquetWriter {
    /// How many bytes may wait: a part of a row group, so that its size is met.
    fn waiting_bytes(&self) -> usize {
        let options = &self.shared.options;
        if options.sort.is_empty() {
            // Arrow is a few times larger than what becomes of it.
            return (options.row_group_bytes as usize / 4).min(WAITING_BYTES);
        }
        // A row group is sorted as a whole, in memory.
        options.row_group_bytes as usize
    }

    fn begin(&mut self) -> io::Result<OpenFile> {
        let schema = self.waiting.settle(&self.shared.columns);
        OpenFile::new(&self.shared, &self.scratch, schema)
    }

    /// Encodes what waits.
    fn encode(&mut self) -> io::Result<()> {
        if self.waiting.rows == 0 {
            return Ok(());
        }
        let file = if let Some(file) = self.file.take() { file } else { self.begin()? };
        let bytes = self.waiting.bytes as u64;
        self.file.insert(file).encode(self.waiting.take(), bytes)
    }
}

impl ObjectWriter for ParquetWriter {
    fn append(&mut self, piece: Piece) -> io::Result<Option<Piece>> {
        let rows: Rows = open_piece(piece)?;
        if self.file.as_ref().is_some_and(|file| file.row_groups() >= ROW_GROUPS_MAX) {
            return Ok(Some(Box::new(rows)));
        }
        if let Some(rows) = self.waiting.push(rows)? {
            return Ok(Some(Box::new(rows)));
        }
        let options = &self.shared.options;
        let is_full = self.waiting.bytes >= self.waiting_bytes()
            || (!options.sort.is_empty() && self.waiting.rows >= options.row_group_rows);
        if is_full {
            self.encode()?;
        }
        Ok(None)
    }

    fn size(&self) -> u64 {
        let shared = &self.shared;
        // A fifth of Arrow's bytes, with what readers need to find their way.
        let waiting = shared.batches.of(self.waiting.bytes as u64, 20);
        let file = self
            .file
            .as_ref()
            .map_or_else(|| encode::footer_bytes(&shared.columns.schema(), 1), OpenFile::size);
        waiting + file
    }

    fn memory(&self) -> u64 {
        self.waiting.memory() + self.file.as_ref().map_or(0, OpenFile::memory)
    }

    fn shrink(&mut self) -> io::Result<()> {
        self.encode()?;
        self.file.as_mut().map_or(Ok(()), OpenFile::shrink)
    }

    fn finish(mut self: Box<Self>, notes: &[(String, String)]) -> io::Result<Body> {
        self.encode()?;
        let file = if let Some(file) = self.file.take() { file } else { self.begin()? };
        file.finish(notes)
    }
}

#[cfg(test)]
mod tests;
