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
//! # Being built; these signatures are fixed
//!
//! ```text
//! pub struct Schema;                       // Clone, PartialEq, Debug, Default (no columns); Display is DDL
//! impl Schema {
//!     pub fn new(columns: Vec<Column>) -> Result<Schema, SchemaError>;
//!     pub fn parse(text: &str) -> Result<Schema, SchemaError>;      // JSON (three forms) or DDL
//!     pub fn from_arrow(schema: &arrow::datatypes::Schema) -> Result<Schema, SchemaError>;
//!     pub fn columns(&self) -> &[Column];
//!     pub fn arrow(&self) -> &arrow::datatypes::SchemaRef;
//!     pub fn to_ddl(&self) -> String;      // also Display
//!     pub fn to_json(&self) -> String;     // {"columns":[{"name":..,"type":"<ddl>","nullable":..}]}
//!     pub fn evolve(&self, bytes: &[u8], ends: &[u32], options: &RowOptions) -> Evolved;  // { schema, changed, bad }
//!     pub fn adapt(&self, batch: &RecordBatch) -> Result<RecordBatch, SchemaError>;
//! }
//! pub struct Column { pub name: String, pub kind: Type, pub nullable: bool, pub format: Option<String> }
//! pub enum Type { Boolean, TinyInt, SmallInt, Int, BigInt, Float, Double, Decimal{..}, String, Varchar(u32), Char(u32),
//!                 Binary, Date, Timestamp{unit, utc}, Array(Box<Type>), Struct(Vec<Column>), Map(Box<Type>, Box<Type>) }
//!
//! pub struct RowOptions { case_sensitive, dots_to_underscores, mappings, timestamps, coerce }   // Default, Clone
//! pub struct RowDecoder;                   // Send, Clone (cheap)
//! impl RowDecoder {
//!     pub fn new(schema: &Schema, options: &RowOptions) -> Result<RowDecoder, SchemaError>;
//!     pub fn schema(&self) -> &Schema;
//!     pub fn decode(&mut self, bytes: &[u8], ends: &[u32]) -> Decoded;    // fixed schema: unknown keys ignored
//!     pub fn fit(&mut self, bytes: &[u8], ends: &[u32]) -> Outcome;       // Rows(Decoded) | Drift
//!     pub fn settle(&mut self, bytes: &[u8], ends: &[u32]) -> Decoded;    // after evolve: unknown keys are bad rows
//! }
//! pub struct Decoded { pub batch: RecordBatch, pub bad: Vec<BadRow>, pub rows: usize }
//! impl Decoded { pub fn kept(&self) -> impl Iterator<Item = usize>; }     // numbers of the rows in the batch
//! pub struct BadRow { pub row: usize, pub reason: String }
//!
//! pub struct Decoders;                     // Sync: one for a whole run, used by all threads
//! impl Decoders {
//!     pub fn fixed(schema: Schema, options: RowOptions) -> Result<Decoders, SchemaError>;
//!     pub fn evolving(schema: Schema, options: RowOptions) -> Result<Decoders, SchemaError>;  // Schema::default() to infer
//!     pub fn decode(&self, bytes: &[u8], ends: &[u32]) -> Converted;      // { schema: Arc<Schema>, version: u64, decoded }
//!     pub fn schema(&self) -> Arc<Schema>;
//! }
//! pub fn extend(batch: &RecordBatch, columns: Vec<(FieldRef, ArrayRef)>) -> Result<RecordBatch, SchemaError>;
//! pub struct CsvRows;                      // { header, delimiter, null }; Decoders::with_csv(CsvRows) makes payloads CSV rows
//! ```

mod json;
mod number;
mod rows;
mod schema;
mod time;
mod widen;

pub use rows::{BadRow, CsvRows, Decoded, Outcome, RowDecoder, RowOptions};
pub use schema::{COLUMNS_MAX, Column, DEPTH_MAX, NAME_BYTES_MAX, Schema, SchemaError, Type};
pub use time::{TimestampFormat, TimestampPattern};
