//! The formats of objects.
//!
//! Work is in two steps, so that it spreads over the cores and order is kept: [`Format::prepare`] is done on any thread
//! for any chunk, [`ObjectWriter::append`] takes the pieces of one object in their order.

pub mod body;

use std::io;

use super::chunk::Chunk;
use super::failure::BadRow;
use body::{Body, Scratch};

/// What a chunk was made into; only its own format knows what is in it.
pub type Piece = Box<dyn std::any::Any + Send>;

/// What became of a chunk.
pub struct Prepared {
    /// For [`ObjectWriter::append`] of this format.
    pub piece: Piece,
    /// Rows that are in it.
    pub rows: u64,
    /// Rows that are not, in their order.
    pub bad: Vec<BadRow>,
    /// The columns have changed with this chunk: an object that was open before cannot take it and is closed first.
    pub begins_anew: bool,
}

/// A format with its settings. One for a whole run.
pub trait Format: Send + Sync {
    /// The end of an object's name, as `.parquet` or `.gz`.
    fn extension(&self) -> String;

    /// The media type of the objects.
    fn content_type(&self) -> &'static str;

    /// Converts and checks a chunk. Called from many threads at once.
    fn prepare(&self, chunk: &Chunk) -> Prepared;

    /// Begins an object.
    fn open(&self, scratch: &Scratch) -> io::Result<Box<dyn ObjectWriter>>;
}

/// One object that is being written.
pub trait ObjectWriter: Send {
    /// Takes the next piece.
    fn append(&mut self, piece: Piece) -> io::Result<()>;

    /// About how many bytes the object would have if it were finished now.
    fn size(&self) -> u64;

    /// About how many bytes of memory it holds.
    fn memory(&self) -> u64;

    /// Gives memory back where it can, at the price of a little more in the object (a row group that ends early).
    fn shrink(&mut self) -> io::Result<()>;

    /// Ends the object. `notes` are names and values that the object carries where its format can hold them.
    fn finish(self: Box<Self>, notes: &[(String, String)]) -> io::Result<Body>;
}
