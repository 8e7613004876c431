//! Records as Arrow batches: what the columns are, how they come to be known, and rows out of JSON and CSV.
//!
//! Its promise: one bad row never takes another along. A row that does not fit its schema is named with its reason and
//! left out; the rest of its block becomes a batch, in its order.
//!
//! # The way of a block
//!
//! ```text
//! Schema::parse(text)  ─┐                      ┌─ decode: a fixed schema, unknown keys are ignored
//! Schema::default()    ─┴─► RowDecoder::new ───┤
//!                              (clone per      └─ fit: rows, or Drift ─► Schema::evolve ─► RowDecoder::new ─► settle
//!                               thread)
//! ```
//!
//! [`Decoders`] does all of it for many threads at once: it holds the schema, a decoder per thread that asks, and
//! evolves the schema under a lock when a block does not fit. What was made under an earlier version of a schema is
//! brought to the present one by [`Schema::adapt`].
//!
//! ```
//! use kpipe::table::{Decoders, RowOptions, Schema};
//!
//! let decoders = Decoders::evolving(Schema::default(), RowOptions::default())?;
//! let bytes = b"{\"id\":1}\n{\"id\":\"x\"}\n{\"id\":2.5}\n";
//! let converted = decoders.decode(bytes, &[8, 19, 30]);
//! assert_eq!(converted.schema.to_string(), "id double");
//! assert_eq!(converted.decoded.batch.num_rows(), 2);
//! assert_eq!(converted.decoded.bad[0].reason, "column \"id\": expected double, found string \"x\"");
//! # Ok::<(), kpipe::table::SchemaError>(())
//! ```
//!
//! [`rows`] says which values fit which column, [`infer`] what a column becomes and how it can change, [`time`] how moments
//! are written, [`schema`] how schemas are.

mod adapt;
mod decoders;
pub mod infer;
mod json;
mod number;
pub mod rows;
pub mod schema;
pub mod time;
mod widen;

pub use adapt::extend;
pub use decoders::{Converted, Decoders};
pub use infer::{Evolved, Inference};
pub use rows::{BadRow, CsvRows, Decoded, Outcome, RowDecoder, RowOptions};
pub use schema::{
    COLUMNS_MAX, Column, DECIMAL_DIGITS_MAX, DEPTH_MAX, NAME_BYTES_MAX, Schema, SchemaError, Type,
};
pub use time::{TimestampFormat, TimestampPattern};
