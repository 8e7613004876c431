//! A file that is being written: its row groups so far, and the one in work.

use std::io;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::FieldRef;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::Type as Physical;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use rayon::prelude::*;

use super::super::body::{Body, BodyWriter, Scratch};
use super::super::compress::Ratio;
use super::int96::{Int96Chunk, Int96Column};
use super::pages::{Pages, Stores};
use super::sort::Sorted;
use super::{Shared, WAITING_BYTES, properties};
use crate::table::Schema;

/// About what the footer has for each column of each row group, and beside that.
const CHUNK_BYTES: u64 = 110;
const FOOTER_BYTES: u64 = 300;
/// Less Arrow than this is encoded faster than threads are woken up.
const PARALLEL_BYTES: u64 = 64 << 10;

/// About how long the footer will be.
pub(super) fn footer_bytes(schema: &Schema, row_groups: usize) -> u64 {
    // The schema stands there twice, once for Arrow.
    let columns = schema.arrow().flattened_fields().len() as u64;
    FOOTER_BYTES + columns * (CHUNK_BYTES * row_groups as u64 + 60)
}

pub(super) struct OpenFile {
    shared: Arc<Shared>,
    scratch: Scratch,
    schema: Arc<Schema>,
    writer: SerializedFileWriter<BodyWriter>,
    group: Option<Group>,
    /// Of the pages of this file: where its row groups end depends on nothing else.
    pages: Ratio,
}

/// A row group in work.
struct Group {
    columns: Vec<Column>,
    pages: Arc<Pages>,
    rows: usize,
    /// Bytes of Arrow that went into it.
    batch_bytes: u64,
}

/// What encodes one column of the schema: for each of its leaves a writer.
enum Column {
    Leaves(FieldRef, Vec<ArrowColumnWriter>),
    Int96(Box<Int96Column>),
}

/// A column of a finished row group.
enum Chunk {
    Leaves(Vec<ArrowColumnChunk>),
    Int96(Box<Int96Chunk>),
}

impl OpenFile {
    pub(super) fn new(shared: &Arc<Shared>, scratch: &Scratch, schema: Arc<Schema>) -> io::Result<Self> {
        let descriptor = properties::parquet_schema(&shared.options, &schema)?;
        let properties =
            properties::properties(&shared.options, &schema, &descriptor).map_err(io::Error::other)?;
        let root = descriptor.root_schema_ptr();
        let writer = SerializedFileWriter::new(scratch.begin(), root, Arc::new(properties))?;
        Ok(Self {
            shared: shared.clone(),
            scratch: scratch.clone(),
            schema,
            writer,
            group: None,
            pages: Ratio::default(),
        })
    }

    pub(super) fn row_groups(&self) -> usize {
        self.writer.flushed_row_groups().len()
    }

    /// Encodes batches, which have so many bytes of Arrow. Sorted ones are a row group.
    pub(super) fn encode(&mut self, batches: Vec<RecordBatch>, bytes: u64) -> io::Result<()> {
        let shared = self.shared.clone();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let per_row = bytes as f64 / rows.max(1) as f64;
        let sorted = Sorted::new(batches, &shared.options.sort).map_err(io::Error::other)?;
        let mut part = Vec::new();
        let (mut part_rows, mut room) = (0, self.room());
        for batch in sorted.parts() {
            let mut batch = batch.map_err(io::Error::other)?;
            while batch.num_rows() >= room {
                part.push(batch.slice(0, room));
                self.encode_part(&part, per_row)?;
                self.end_group()?;
                part.clear();
                batch = batch.slice(room, batch.num_rows() - room);
                (part_rows, room) = (0, self.room());
            }
            part_rows += batch.num_rows();
            room -= batch.num_rows();
            part.push(batch);
            if part_rows as f64 * per_row >= WAITING_BYTES as f64 {
                self.encode_part(&part, per_row)?;
                part.clear();
                part_rows = 0;
            }
        }
        self.encode_part(&part, per_row)?;
        if !shared.options.sort.is_empty() || self.group_size(&self.pages) >= shared.options.row_group_bytes {
            self.end_group()?;
        }
        Ok(())
    }

    fn encode_part(&mut self, part: &[RecordBatch], bytes_per_row: f64) -> Result<()> {
        let rows: usize = part.iter().map(RecordBatch::num_rows).sum();
        if rows == 0 { Ok(()) } else { self.group()?.encode(part, (rows as f64 * bytes_per_row) as u64) }
    }

    /// How many rows the row group in work can take.
    fn room(&self) -> usize {
        self.shared.options.row_group_rows - self.group.as_ref().map_or(0, |group| group.rows)
    }

    fn group(&mut self) -> Result<&mut Group> {
        let group = match self.group.take() {
            Some(group) => group,
            None => Group::new(&self.writer, &self.scratch, &self.schema, self.row_groups())?,
        };
        Ok(self.group.insert(group))
    }

    /// About how many bytes the row group in work will have, if its pages become what others became.
    fn group_size(&self, others: &Ratio) -> u64 {
        let Some(group) = &self.group else { return 0 };
        let (done, open) = group.bytes();
        done + others.of(open, self.shared.options.compression().guess())
    }

    fn end_group(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let batch_bytes = group.batch_bytes;
        let chunks: Vec<Chunk> = if batch_bytes < PARALLEL_BYTES {
            group.columns.into_iter().map(Column::close).collect::<Result<_>>()?
        } else {
            group.columns.into_par_iter().map(Column::close).collect::<Result<_>>()?
        };
        let mut row_group = self.writer.next_row_group()?;
        for chunk in chunks {
            match chunk {
                Chunk::Leaves(chunks) => {
                    for chunk in chunks {
                        chunk.append_to_row_group(&mut row_group)?;
                    }
                }
                Chunk::Int96(chunk) => row_group.append_column(&chunk.bytes, chunk.close)?,
            }
        }
        let written = row_group.close()?;
        let packed = written.compressed_size().max(0) as u64;
        let plain = written.total_byte_size().max(0) as u64;
        self.pages.note(plain, packed);
        self.shared.pages.note(plain, packed);
        self.shared.batches.note(batch_bytes, packed);
        Ok(())
    }

    pub(super) fn size(&self) -> u64 {
        let row_groups = self.row_groups() + usize::from(self.group.is_some());
        let group = self.group_size(&self.shared.pages);
        self.writer.bytes_written() as u64 + group + footer_bytes(&self.schema, row_groups.max(1))
    }

    pub(super) fn memory(&self) -> u64 {
        self.writer.inner().memory() + self.group.as_ref().map_or(0, Group::memory)
    }

    pub(super) fn shrink(&mut self) -> io::Result<()> {
        self.end_group()?;
        self.writer.flush()?;
        self.writer.inner_mut().shrink()
    }

    pub(super) fn finish(mut self, notes: &[(String, String)]) -> io::Result<Body> {
        self.end_group()?;
        let version = ("kpipe.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        for (key, value) in notes.iter().chain([&version]) {
            self.writer.append_key_value_metadata(KeyValue::new(key.clone(), value.clone()));
        }
        self.writer.into_inner()?.finish()
    }
}

impl Group {
    fn new(
        writer: &SerializedFileWriter<BodyWriter>,
        scratch: &Scratch,
        schema: &Schema,
        number: usize,
    ) -> Result<Self> {
        let pages = Pages::new(scratch);
        let factory = ArrowRowGroupWriterFactory::new(writer, schema.arrow().clone())
            .with_page_store_factory(Arc::new(Stores(pages.clone())));
        let mut leaves = factory.create_column_writers(number)?.into_iter();
        let descriptor = writer.schema_descr();
        let mut columns = Vec::new();
        let mut first = 0;
        for (field, column) in schema.arrow().fields().iter().zip(descriptor.root_schema().get_fields()) {
            let count = count_leaves(column);
            let of_column: Vec<ArrowColumnWriter> = leaves.by_ref().take(count).collect();
            let leaf = descriptor.column(first);
            let is_int96 = count == 1 && leaf.physical_type() == Physical::INT96;
            columns.push(if is_int96 {
                let properties: &WriterPropertiesPtr = writer.properties();
                Column::Int96(Box::new(Int96Column::new(&leaf, properties)))
            } else {
                Column::Leaves(field.clone(), of_column)
            });
            first += count;
        }
        Ok(Self { columns, pages, rows: 0, batch_bytes: 0 })
    }

    fn encode(&mut self, batches: &[RecordBatch], bytes: u64) -> Result<()> {
        self.rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        self.batch_bytes += bytes;
        if bytes < PARALLEL_BYTES {
            let mut columns = self.columns.iter_mut().enumerate();
            return columns.try_for_each(|(number, column)| column.encode(number, batches));
        }
        // One by one: a column of long strings costs as much as ten of numbers.
        let columns = self.columns.par_iter_mut().with_max_len(1).enumerate();
        columns.try_for_each(|(number, column)| column.encode(number, batches))
    }

    /// Bytes of finished pages, and of those in work, which are not compressed yet.
    fn bytes(&self) -> (u64, u64) {
        let (mut done, mut all) = (self.pages.total(), 0);
        for column in &self.columns {
            match column {
                Column::Leaves(_, leaves) => {
                    all += leaves.iter().map(|leaf| leaf.get_estimated_total_bytes() as u64).sum::<u64>();
                }
                Column::Int96(column) => {
                    let (pages, open) = column.bytes();
                    done += pages;
                    all += pages + open;
                }
            }
        }
        (done, all.saturating_sub(done))
    }

    fn memory(&self) -> u64 {
        let columns = self.columns.iter().map(|column| match column {
            Column::Leaves(_, leaves) => leaves.iter().map(|leaf| leaf.memory_size() as u64).sum::<u64>(),
            Column::Int96(column) => {
                let (done, open) = column.bytes();
                done + open
            }
        });
        columns.sum()
    }
}

impl Column {
    fn encode(&mut self, number: usize, batches: &[RecordBatch]) -> Result<()> {
        for batch in batches {
            let array = batch.column(number);
            match self {
                Self::Int96(column) => column.write(array)?,
                Self::Leaves(field, writers) => {
                    let leaves = compute_leaves(field, array)?;
                    if leaves.len() != writers.len() {
                        return Err(ParquetError::General(format!(
                            "column {} has other leaves",
                            field.name()
                        )));
                    }
                    for (leaf, writer) in leaves.iter().zip(writers) {
                        writer.write(leaf)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn close(self) -> Result<Chunk> {
        Ok(match self {
            Self::Int96(column) => Chunk::Int96(Box::new(column.close()?)),
            Self::Leaves(_, writers) => {
                Chunk::Leaves(writers.into_iter().map(ArrowColumnWriter::close).collect::<Result<_>>()?)
            }
        })
    }
}

fn count_leaves(column: &Type) -> usize {
    match column {
        Type::PrimitiveType { .. } => 1,
        Type::GroupType { fields, .. } => fields.iter().map(|field| count_leaves(field)).sum(),
    }
}
