//! Rows as CSV: the columns of the schema, in its order.
//!
//! A chunk is read and written as text by whichever thread has it; an object only puts the text of chunks behind its
//! header. Where columns are inferred, a later one stands behind those before, so that the text of an earlier chunk needs
//! nothing but empty fields at the end of each row.

mod field;
mod options;

use std::io;
use std::sync::Arc;

pub use options::{CsvOptions, LineEnding, QuoteStyle};

use super::super::chunk::Chunk;
use super::body::{Body, Scratch};
use super::columns::{Columns, Fit, ObjectColumns, Rows, convert};
use super::compress::{Block, Compression, GATHER_BYTES, PackedWriter, Part, Ratio};
use super::{Format, ObjectWriter, Piece, Prepared, open_piece};
use crate::table::Schema;
use field::Writer;

/// CSV, plain or compressed.
pub struct CsvFormat {
    shared: Arc<Shared>,
}

struct Shared {
    columns: Arc<Columns>,
    options: CsvOptions,
    compression: Compression,
    ratio: Ratio,
}

impl CsvFormat {
    /// The format of these settings.
    ///
    /// # Errors
    /// Where they contradict each other, as the end of a usage error.
    pub fn new(options: CsvOptions, compression: Compression, columns: Arc<Columns>) -> Result<Self, String> {
        options.check()?;
        let shared = Shared { columns, options, compression, ratio: Ratio::default() };
        Ok(Self { shared: Arc::new(shared) })
    }
}

/// The text of a chunk.
struct Text {
    part: Part,
    /// The text itself where it has been compressed, for the case that its rows must be made longer.
    plain: Vec<u8>,
    /// Where each row ends in it.
    ends: Vec<u32>,
    schema: Arc<Schema>,
    version: u64,
}

impl Format for CsvFormat {
    fn extension(&self) -> String {
        let own = if self.shared.options.delimiter == b'\t' { ".tsv" } else { ".csv" };
        format!("{own}{}", self.shared.compression.extension())
    }

    fn content_type(&self) -> &'static str {
        let is_tsv = self.shared.options.delimiter == b'\t';
        let own = if is_tsv { "text/tab-separated-values" } else { "text/csv" };
        self.shared.compression.content_type().unwrap_or(own)
    }

    fn prepare(&self, chunk: &Chunk) -> Prepared {
        let (rows, bad) = convert(&self.shared.columns, chunk);
        let kept = rows.batch.num_rows() as u64;
        Prepared { piece: Box::new(self.shared.text(&rows, chunk.bytes.len())), rows: kept, bad }
    }

    fn open(&self, scratch: &Scratch) -> io::Result<Box<dyn ObjectWriter>> {
        let Shared { options, compression, ratio, .. } = &*self.shared;
        let member = if options.delimiter == b'\t' { "records.tsv" } else { "records.csv" };
        let packed = PackedWriter::new(*compression, scratch, ratio, member)?;
        Ok(Box::new(CsvWriter { shared: self.shared.clone(), packed, columns: None }))
    }

    fn columns(&self) -> Option<&Columns> {
        Some(&self.shared.columns)
    }
}

impl Shared {
    fn text(&self, rows: &Rows, input_bytes: usize) -> io::Result<Text> {
        let batch = &rows.batch;
        let mut writer = Writer::new(&self.options, batch)?;
        // Keys of JSON go, quotes come.
        let mut out = Vec::with_capacity(input_bytes / 2 + 256);
        let mut ends = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            writer.row(row, &mut out);
            ends.push(out.len() as u32);
        }
        let (part, plain) = if self.compression == Compression::None || out.len() < GATHER_BYTES {
            (Part::Plain(out), Vec::new())
        } else {
            (Part::Block(Block::new(self.compression, &out)?), out)
        };
        let (schema, version) = (rows.schema.clone(), rows.version);
        Ok(Text { part, plain, ends, schema, version })
    }

    fn header(&self, schema: &Schema) -> Vec<u8> {
        let mut out = Vec::new();
        if self.options.header {
            let names = schema.columns().iter().map(|column| column.name.as_str());
            field::header(&self.options, names, &mut out);
        }
        out
    }
}

struct CsvWriter {
    shared: Arc<Shared>,
    packed: PackedWriter,
    /// Known from the first row on: the header says them.
    columns: Option<ObjectColumns>,
}

impl ObjectWriter for CsvWriter {
    fn append(&mut self, piece: Piece) -> io::Result<Option<Piece>> {
        let text: io::Result<Text> = open_piece(piece)?;
        let text = text?;
        if text.ends.is_empty() {
            return Ok(None);
        }
        if self.columns.is_none() {
            self.packed.put_plain(&self.shared.header(&text.schema))?;
        }
        let columns = self.columns.get_or_insert_with(|| ObjectColumns::of(&text.schema, text.version));
        let part = match columns.fit(&text.schema, text.version) {
            Fit::Same => Ok(text.part),
            Fit::Newer => Err(text),
            Fit::Older => widen(text, &columns.schema, &self.shared.options),
        };
        match part {
            Ok(part) => self.packed.put(part).map(|()| None),
            Err(text) => Ok(Some(Box::new(Ok::<_, io::Error>(text)))),
        }
    }

    fn size(&self) -> u64 {
        self.packed.size()
    }

    fn memory(&self) -> u64 {
        self.packed.memory()
    }

    fn shrink(&mut self) -> io::Result<()> {
        self.packed.shrink()
    }

    fn finish(mut self: Box<Self>, _notes: &[(String, String)]) -> io::Result<Body> {
        if self.columns.is_none() {
            let header = self.shared.header(&self.shared.columns.schema());
            self.packed.put_plain(&header)?;
        }
        self.packed.finish()
    }
}

/// The text with nulls for the columns that it has not; given back where these are not at the end.
fn widen(text: Text, to: &Schema, options: &CsvOptions) -> Result<Part, Text> {
    let (old, new) = (text.schema.columns(), to.columns());
    let at_end = old.len() <= new.len() && old.iter().zip(new).all(|(old, new)| old.name == new.name);
    if !at_end || old.is_empty() {
        return Err(text);
    }
    let plain = if let Part::Plain(plain) = &text.part { plain } else { &text.plain };
    let mut nulls = Vec::new();
    for _ in old.len()..new.len() {
        nulls.push(options.delimiter);
        nulls.extend_from_slice(options.null.as_bytes());
    }
    let ending = options.line_ending.bytes();
    let mut out = Vec::with_capacity(plain.len() + text.ends.len() * nulls.len());
    let mut start = 0;
    for end in &text.ends {
        let end = *end as usize;
        out.extend_from_slice(&plain[start..end - ending.len()]);
        out.extend_from_slice(&nulls);
        out.extend_from_slice(ending);
        start = end;
    }
    Ok(Part::Plain(out))
}

#[cfg(test)]
mod tests;
