//! The formats of objects.
//!
//! Work is in two steps, so that it spreads over the cores and order is kept: [`Format::prepare`] is done on any thread
//! for any chunk, [`ObjectWriter::append`] takes the pieces of one object in their order.
//!
//! # Columns that change
//!
//! Where columns are inferred, a chunk may bring new ones. Chunks are prepared in any order, so that no single chunk can
//! tell the engine where the change is: each object decides when a piece comes to it. One that was made before the
//! change is brought to the object's columns; one that has columns which the object cannot take any more is handed back,
//! and the engine closes the object and gives the piece to the next ([`ObjectWriter::append`]). Columns are only ever
//! added or made wider: what [`Format::columns`] says when an object is finished covers those that it was written with,
//! and the engine keeps that before it delivers the object.

pub mod arrow_ipc;
pub mod body;
pub mod columns;
pub mod compress;
pub mod csv;
mod json;
pub mod parquet;
pub mod spec;
pub mod text;

use std::io;

use super::chunk::Chunk;
use super::failure::BadRow;
use body::{Body, Scratch};
use columns::Columns;

/// What a chunk was made into; only its own format knows what is in it.
pub type Piece = Box<dyn std::any::Any + Send>;

/// What became of a chunk.
pub struct Prepared {
    /// For [`ObjectWriter::append`] of this format.
    pub piece: Piece,
    /// Rows of the chunk that are in it.
    pub rows: u64,
    /// Rows that are not, in their order.
    pub bad: Vec<BadRow>,
}

/// A format with its settings. One for a whole run.
pub trait Format: Send + Sync {
    /// The end of an object's name, as `.parquet` or `.ndjson.gz`.
    fn extension(&self) -> String;

    /// The media type of the objects.
    fn content_type(&self) -> &'static str;

    /// Converts and checks a chunk. Called from many threads at once.
    fn prepare(&self, chunk: &Chunk) -> Prepared;

    /// Begins an object. It costs next to nothing until something is appended.
    fn open(&self, scratch: &Scratch) -> io::Result<Box<dyn ObjectWriter>>;

    /// The columns, where the format has any.
    fn columns(&self) -> Option<&Columns> {
        None
    }
}

/// One object that is being written.
pub trait ObjectWriter: Send {
    /// Takes the next piece, or hands it back: this object cannot take it, because the columns have changed. The caller
    /// finishes the object and gives the piece to a new one, which takes it.
    ///
    /// Formats that spread their work do it on the rayon pool that this is called in.
    ///
    /// # Errors
    /// Where the scratch file cannot be written: the object is lost, its records are not.
    fn append(&mut self, piece: Piece) -> io::Result<Option<Piece>>;

    /// About how many bytes the object would have if it were finished now.
    fn size(&self) -> u64;

    /// About how many bytes of memory it holds.
    fn memory(&self) -> u64;

    /// Gives memory back, at the price of a little more in the object (a row group or a compressed block that ends
    /// early).
    fn shrink(&mut self) -> io::Result<()>;

    /// Ends the object. `notes` are names and values that the object carries where its format can hold them.
    fn finish(self: Box<Self>, notes: &[(String, String)]) -> io::Result<Body>;
}

/// What a piece of this format has in it.
///
/// # Errors
/// Where it is of another format.
fn open_piece<T: 'static>(piece: Piece) -> io::Result<T> {
    let of_another = |_| io::Error::other("a piece of another format was appended");
    piece.downcast().map(|piece| *piece).map_err(of_another)
}
