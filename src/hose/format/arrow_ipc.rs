//! Rows as Arrow IPC: the file format, which readers can map into memory, or the stream format, which they can read as
//! it comes.
//!
//! Batches wait in their object until there are some megabytes of them and are written as one. Compression is done per
//! buffer, as the format has it, on the thread that appends: spread over objects, not within one.

use std::collections::BTreeMap;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};

use super::super::chunk::Chunk;
use super::body::{Body, BodyWriter, Scratch};
use super::columns::{Columns, Rows, Waiting, convert};
use super::compress::{Compression, Ratio};
use super::{Format, ObjectWriter, Piece, Prepared, open_piece};

/// So many bytes are written as one batch: readers work on a batch at a time, and each has a header for every buffer.
const WAITING_BYTES: usize = if cfg!(test) { 256 << 10 } else { 4 << 20 };
/// About what a schema, an empty batch and a footer are for each column, and beside that.
const COLUMN_BYTES: u64 = 400;
const FRAME_BYTES: u64 = 600;

/// How buffers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArrowCompression {
    /// Not at all: a mapped file can be worked on where it lies.
    None,
    /// LZ4 frames.
    #[default]
    Lz4,
    /// Zstandard, of this level.
    Zstd(i32),
}

impl ArrowCompression {
    /// What can be given to `--compression` for this format.
    pub const NAMES: &[&str] = &["none", "lz4", "zstd"];

    fn options(self) -> io::Result<IpcWriteOptions> {
        let (compression, level) = match self {
            Self::None => (None, None),
            Self::Lz4 => (Some(CompressionType::LZ4_FRAME), None),
            Self::Zstd(level) => (Some(CompressionType::ZSTD), Some(level)),
        };
        let options = IpcWriteOptions::default().try_with_compression(compression);
        options.and_then(|options| options.try_with_compression_level(level)).map_err(io::Error::other)
    }

    /// About how many of a hundred bytes are left, as long as nothing better is known.
    fn guess(self) -> u64 {
        match self {
            Self::None => 95,
            Self::Lz4 => 45,
            Self::Zstd(_) => 30,
        }
    }
}

impl FromStr for ArrowCompression {
    type Err = String;

    /// `NAME` or `NAME:LEVEL`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(Compression::None) => Ok(Self::None),
            Ok(Compression::Lz4) => Ok(Self::Lz4),
            Ok(Compression::Zstd(level)) => Ok(Self::Zstd(level)),
            Ok(other) => Err(format!(
                "Arrow compresses its own buffers, with one of {}: {} around it would have to be unpacked before \
                 anything can be read",
                Self::NAMES.join(", "),
                other.name()
            )),
            Err(reason) if Self::NAMES.iter().any(|name| text.starts_with(name)) => Err(reason),
            Err(_) => {
                Err(format!("`{text}` is not a compression of Arrow: give one of {}", Self::NAMES.join(", ")))
            }
        }
    }
}

/// Settings of Arrow IPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArrowOptions {
    /// How buffers are compressed.
    pub compression: ArrowCompression,
    /// The stream format, without the footer.
    pub stream: bool,
}

/// Arrow IPC.
pub struct ArrowFormat {
    shared: Arc<Shared>,
}

struct Shared {
    columns: Arc<Columns>,
    options: ArrowOptions,
    ratio: Ratio,
}

impl ArrowFormat {
    /// The format of these settings.
    pub fn new(options: ArrowOptions, columns: Arc<Columns>) -> Self {
        Self { shared: Arc::new(Shared { columns, options, ratio: Ratio::default() }) }
    }
}

impl Format for ArrowFormat {
    fn extension(&self) -> String {
        if self.shared.options.stream { ".arrows" } else { ".arrow" }.to_owned()
    }

    fn content_type(&self) -> &'static str {
        if self.shared.options.stream {
            "application/vnd.apache.arrow.stream"
        } else {
            "application/vnd.apache.arrow.file"
        }
    }

    fn prepare(&self, chunk: &Chunk) -> Prepared {
        let (rows, bad) = convert(&self.shared.columns, chunk);
        let kept = rows.batch.num_rows() as u64;
        Prepared { piece: Box::new(rows), rows: kept, bad }
    }

    fn open(&self, scratch: &Scratch) -> io::Result<Box<dyn ObjectWriter>> {
        let (shared, scratch) = (self.shared.clone(), scratch.clone());
        Ok(Box::new(ArrowWriter { shared, scratch, waiting: Waiting::default(), file: None }))
    }

    fn columns(&self) -> Option<&Columns> {
        Some(&self.shared.columns)
    }
}

enum Writer {
    File(FileWriter<BodyWriter>),
    Stream(StreamWriter<BodyWriter>),
}

impl Writer {
    fn body(&self) -> &BodyWriter {
        match self {
            Self::File(writer) => writer.get_ref(),
            Self::Stream(writer) => writer.get_ref(),
        }
    }

    fn body_mut(&mut self) -> &mut BodyWriter {
        match self {
            Self::File(writer) => writer.get_mut(),
            Self::Stream(writer) => writer.get_mut(),
        }
    }

    fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        match self {
            Self::File(writer) => writer.write(batch),
            Self::Stream(writer) => writer.write(batch),
        }
        .map_err(io::Error::other)
    }
}

struct ArrowWriter {
    shared: Arc<Shared>,
    scratch: Scratch,
    waiting: Waiting,
    file: Option<Writer>,
}

impl ArrowWriter {
    fn begin(&mut self) -> io::Result<Writer> {
        let schema = self.waiting.settle(&self.shared.columns);
        let (body, options) = (self.scratch.begin(), self.shared.options.compression.options()?);
        let writer = if self.shared.options.stream {
            StreamWriter::try_new_with_options(body, schema.arrow(), options).map(Writer::Stream)
        } else {
            FileWriter::try_new_with_options(body, schema.arrow(), options).map(Writer::File)
        };
        writer.map_err(io::Error::other)
    }

    fn file(&mut self) -> io::Result<&mut Writer> {
        let file = if let Some(file) = self.file.take() { file } else { self.begin()? };
        Ok(self.file.insert(file))
    }

    fn write(&mut self) -> io::Result<()> {
        if self.waiting.rows == 0 {
            return Ok(());
        }
        let before = self.file()?.body().len();
        let bytes = self.waiting.bytes as u64;
        let batches = self.waiting.take();
        let whole = concat_batches(batches[0].schema_ref(), &batches).map_err(io::Error::other)?;
        drop(batches);
        let file = self.file()?;
        file.write(&whole)?;
        let written = file.body().len() - before;
        self.shared.ratio.note(bytes, written);
        Ok(())
    }
}

impl ObjectWriter for ArrowWriter {
    fn append(&mut self, piece: Piece) -> io::Result<Option<Piece>> {
        let rows: Rows = open_piece(piece)?;
        if let Some(rows) = self.waiting.push(rows)? {
            return Ok(Some(Box::new(rows)));
        }
        if self.waiting.bytes >= WAITING_BYTES {
            self.write()?;
        }
        Ok(None)
    }

    fn size(&self) -> u64 {
        let waiting =
            self.shared.ratio.of(self.waiting.bytes as u64, self.shared.options.compression.guess());
        let columns = self.shared.columns.schema().arrow().flattened_fields().len() as u64;
        waiting
            + self.file.as_ref().map_or(0, |file| file.body().len())
            + FRAME_BYTES
            + columns * COLUMN_BYTES
    }

    fn memory(&self) -> u64 {
        self.waiting.memory() + self.file.as_ref().map_or(0, |file| file.body().memory())
    }

    fn shrink(&mut self) -> io::Result<()> {
        self.write()?;
        self.file.as_mut().map_or(Ok(()), |file| file.body_mut().shrink())
    }

    fn finish(mut self: Box<Self>, notes: &[(String, String)]) -> io::Result<Body> {
        self.write()?;
        let file = if let Some(file) = self.file.take() { file } else { self.begin()? };
        let body = match file {
            Writer::File(mut writer) => {
                // One entry: the writer keeps them in no order, and the same records make the same object.
                let version = ("version", env!("CARGO_PKG_VERSION"));
                let notes = notes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                let notes: BTreeMap<&str, &str> = notes.chain([version]).collect();
                writer.write_metadata("kpipe", serde_json::to_string(&notes)?);
                writer.into_inner()
            }
            Writer::Stream(writer) => writer.into_inner(),
        };
        body.map_err(io::Error::other)?.finish()
    }
}

#[cfg(test)]
mod tests;
