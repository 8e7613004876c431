//! Schemas out of rows.
//!
//! # What a column becomes
//!
//! | values | type |
//! |---|---|
//! | `true`, `false` | `boolean` |
//! | integers of 64 bits | `bigint` |
//! | other numbers, and integers with them | `double` |
//! | strings, all in RFC 3339 with an offset, or all by the patterns that are given | `timestamp` |
//! | other strings | `string` |
//! | arrays, objects | `array<...>`, `struct<...>` |
//!
//! Null, `{}` and `[]` say nothing of a type: they make no column, and are null in one of another type. Columns are in the order in which they first had a
//! value. The first row decides: a later one with a value of another kind (a string among numbers) conflicts, is a bad
//! row, and leaves nothing in the schema.
//!
//! # What can change later
//!
//! Columns come, all nullable; numbers widen: `tinyint`, `smallint`, `int`, `bigint`, `double`, each to
//! those behind it, and `float` to `double`. A column of timestamps turns into one of strings only within
//! the inference that first saw it: once a schema was handed out there may be files with it, and a text that is no
//! timestamp is a bad row then. Nothing is ever taken away. So every file that was written under an earlier schema is
//! read by a later one, as readers of Parquet do it by name, and [`Schema::adapt`] does it for batches.

mod shape;
#[cfg(test)]
mod tests;

use shape::Shape;

use super::json::{Scanner, Value};
use super::rows::{BadRow, Context, CsvRows, Fault, RowOptions, Unknown, not_an_object, payloads};
use super::schema::{Schema, SchemaError};

/// A schema that has seen rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Evolved {
    /// The schema, which takes all rows that are not bad ones.
    pub schema: Schema,
    /// Whether it is another one than before.
    pub changed: bool,
    /// Rows that contradict what was known of a column when their turn came, or are no rows at all. The decoder has the
    /// last word: of a column that a later row made one of timestamps, a number is a value too.
    pub bad: Vec<BadRow>,
}

/// Rows being looked at, block by block.
///
/// All blocks of one inference count as seen at once: a column of timestamps can still become one of strings.
#[derive(Debug)]
pub struct Inference {
    shape: Shape,
    options: RowOptions,
    csv: Option<CsvRows>,
    changed: bool,
}

impl Inference {
    /// Begins with what is known already, which may be nothing ([`Schema::default`]).
    pub fn new(schema: &Schema, options: &RowOptions) -> Result<Self, SchemaError> {
        let shape = Shape::new(schema, options)?;
        Ok(Self { shape, options: options.clone(), csv: None, changed: false })
    }

    /// The same for payloads that are rows of CSV.
    #[must_use]
    pub fn with_csv(mut self, csv: CsvRows) -> Self {
        self.csv = Some(csv);
        self
    }

    /// Looks at a block, laid out as for [`RowDecoder`](super::RowDecoder). Returns the rows that conflict.
    pub fn add(&mut self, bytes: &[u8], ends: &[u32]) -> Vec<BadRow> {
        let Self { shape, options, csv, changed } = self;
        let context = Context::new(options, Unknown::Noted, false);
        let mut bad = Vec::new();
        for (row, payload) in payloads(ends).enumerate() {
            let text = bytes.get(payload).and_then(|bytes| std::str::from_utf8(bytes).ok());
            let grown = match (text, &mut *csv) {
                (None, _) => Err(Fault::value("it is not UTF-8".to_owned())),
                (Some(text), None) => json_row(shape, text, &context),
                (Some(text), Some(csv)) => csv.split(text).map_err(Fault::value).and_then(|()| {
                    let names = csv.header().iter().map(String::as_str);
                    let fields: Vec<_> =
                        names.zip(csv.fields()).filter_map(|(name, text)| Some((name, text?))).collect();
                    shape.text_row(&fields, &context)
                }),
            };
            match grown {
                Ok(grown) => *changed |= grown,
                Err(fault) => bad.push(BadRow { row, reason: fault.reason() }),
            }
        }
        bad
    }

    /// Whether anything has changed.
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// The schema as it is now.
    pub fn schema(&self) -> Schema {
        self.shape.schema()
    }
}

fn json_row(shape: &mut Shape, text: &str, context: &Context<'_>) -> super::rows::Result<bool> {
    let mut json = Scanner::new(text);
    if json.peek() != Some(b'{') {
        return Err(not_an_object(&mut json));
    }
    match Value::parse(text)? {
        Value::Object(members) => shape.row(&members, context),
        other => Err(Fault::value(format!("expected an object, found {}", other.describe()))),
    }
}

impl Schema {
    /// The schema that takes the rows of a block too. Rows that conflict change nothing.
    ///
    /// The block is laid out as for [`RowDecoder`](super::RowDecoder).
    pub fn evolve(&self, bytes: &[u8], ends: &[u32], options: &RowOptions) -> Result<Evolved, SchemaError> {
        let mut inference = Inference::new(self, options)?;
        let bad = inference.add(bytes, ends);
        Ok(Evolved { changed: inference.changed(), schema: inference.schema(), bad })
    }
}
