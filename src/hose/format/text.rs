//! Formats that keep the bytes of a payload: `raw`, `lines` and `ndjson`, plain or compressed.

use std::io;

use super::super::chunk::Chunk;
use super::super::failure::{BadRow, ErrorType, Failure};
use super::body::{Body, Scratch};
use super::compress::{Compression, PackedWriter, Part, Ratio};
use super::{Format, ObjectWriter, Piece, Prepared, json, open_piece};

/// What stands between payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// Nothing: payloads back to back.
    Raw,
    /// This behind each payload that does not end with it.
    Lines(Vec<u8>),
    /// A newline, and payloads are JSON.
    Ndjson,
}

/// Payloads as they are.
pub struct TextFormat {
    layout: Layout,
    compression: Compression,
    ratio: Ratio,
}

impl TextFormat {
    /// The format of these settings.
    pub fn new(layout: Layout, compression: Compression) -> Self {
        Self { layout, compression, ratio: Ratio::default() }
    }

    /// The bytes that a chunk becomes, and the rows that are not in them.
    fn convert(&self, chunk: &Chunk) -> (Vec<u8>, Vec<BadRow>) {
        match &self.layout {
            Layout::Raw => {
                let mut out = Vec::with_capacity(chunk.bytes.len());
                chunk.payloads().for_each(|payload| out.extend_from_slice(payload));
                (out, Vec::new())
            }
            // As chunks are laid out, if no payload has a newline of its own at its end.
            Layout::Lines(delimiter)
                if delimiter == b"\n" && !chunk.payloads().any(|payload| payload.ends_with(b"\n")) =>
            {
                (chunk.bytes.clone(), Vec::new())
            }
            Layout::Lines(delimiter) => {
                let mut out = Vec::with_capacity(chunk.bytes.len() + chunk.len() * delimiter.len());
                for payload in chunk.payloads() {
                    out.extend_from_slice(payload);
                    if !payload.ends_with(delimiter) {
                        out.extend_from_slice(delimiter);
                    }
                }
                (out, Vec::new())
            }
            Layout::Ndjson => {
                let mut out = Vec::with_capacity(chunk.bytes.len());
                let mut bad = Vec::new();
                for (row, payload) in chunk.payloads().enumerate() {
                    if let Err(reason) = json::push_lines(payload, &mut out) {
                        bad.push(bad_row(row, reason));
                    }
                }
                (out, bad)
            }
        }
    }
}

/// A row that could not be converted.
pub(super) fn bad_row(row: usize, reason: impl Into<String>) -> BadRow {
    let failure = Failure::new(ErrorType::FormatConversion, "DataFormatConversion.ParseError", reason);
    BadRow { row, failure }
}

impl Format for TextFormat {
    fn extension(&self) -> String {
        let own = match self.layout {
            // Of bytes that may be anything nothing can be said, and lines of text need no end of their names.
            Layout::Raw | Layout::Lines(_) => "",
            Layout::Ndjson => ".ndjson",
        };
        format!("{own}{}", self.compression.extension())
    }

    fn content_type(&self) -> &'static str {
        self.compression.content_type().unwrap_or(match self.layout {
            Layout::Raw => "application/octet-stream",
            Layout::Lines(_) => "text/plain",
            Layout::Ndjson => "application/x-ndjson",
        })
    }

    fn prepare(&self, chunk: &Chunk) -> Prepared {
        let (text, bad) = self.convert(chunk);
        let rows = (chunk.len() - bad.len()) as u64;
        Prepared { piece: Box::new(Part::new(self.compression, text)), rows, bad }
    }

    fn open(&self, scratch: &Scratch) -> io::Result<Box<dyn ObjectWriter>> {
        let member = match self.layout {
            Layout::Raw => "records",
            Layout::Lines(_) => "records.txt",
            Layout::Ndjson => "records.ndjson",
        };
        Ok(Box::new(TextWriter(PackedWriter::new(self.compression, scratch, &self.ratio, member)?)))
    }
}

struct TextWriter(PackedWriter);

impl ObjectWriter for TextWriter {
    fn append(&mut self, piece: Piece) -> io::Result<Option<Piece>> {
        let part: io::Result<Part> = open_piece(piece)?;
        self.0.put(part?)?;
        Ok(None)
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn memory(&self) -> u64 {
        self.0.memory()
    }

    fn shrink(&mut self) -> io::Result<()> {
        self.0.shrink()
    }

    fn finish(self: Box<Self>, _notes: &[(String, String)]) -> io::Result<Body> {
        self.0.finish()
    }
}

#[cfg(test)]
pub(super) mod tests;
