//! The values of a column as they come, row by row, until they are an Arrow array.
//!
//! A row that turns out bad half-way is taken back: every column is cut to the length that it had before.

mod finish;
mod map;
mod object;
mod read;
mod store;
mod text;

use std::sync::Arc;

use super::RowOptions;
use crate::table::schema::{SchemaError, Type};
use crate::table::time::TimestampFormat;
pub(super) use object::{Struct, unknown_column};
use store::{Bytes, Offsets};

/// A column that is being filled.
#[derive(Debug, Clone)]
pub(in crate::table) struct Column {
    kind: Type,
    data: Data,
    /// Which values are there; empty as long as all are.
    valid: Vec<bool>,
    /// How its timestamps or dates are written.
    formats: Arc<[TimestampFormat]>,
}

#[derive(Debug, Clone)]
enum Data {
    Boolean(Vec<bool>),
    TinyInt(Vec<i8>),
    SmallInt(Vec<i16>),
    Int(Vec<i32>),
    BigInt(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal(Vec<i128>),
    Text(Bytes),
    Binary(Bytes),
    Date(Vec<i32>),
    Timestamp(Vec<i64>),
    List(Offsets, Box<Column>),
    Struct(Box<Struct>),
    Map(Offsets, Box<Column>, Box<Column>),
}

/// The column of every primitive type in turn, for what is the same for all.
macro_rules! each_plain {
    ($data:expr, $values:ident => $do:expr, $($rest:tt)*) => {
        match $data {
            Data::Boolean($values) => $do,
            Data::TinyInt($values) => $do,
            Data::SmallInt($values) => $do,
            Data::Int($values) | Data::Date($values) => $do,
            Data::BigInt($values) | Data::Timestamp($values) => $do,
            Data::Float($values) => $do,
            Data::Double($values) => $do,
            Data::Decimal($values) => $do,
            $($rest)*
        }
    };
}

impl Column {
    /// An empty column.
    pub(in crate::table) fn new(
        kind: &Type,
        format: Option<&str>,
        options: &RowOptions,
    ) -> Result<Self, SchemaError> {
        let data = match kind {
            Type::Boolean => Data::Boolean(Vec::new()),
            Type::TinyInt => Data::TinyInt(Vec::new()),
            Type::SmallInt => Data::SmallInt(Vec::new()),
            Type::Int => Data::Int(Vec::new()),
            Type::BigInt => Data::BigInt(Vec::new()),
            Type::Float => Data::Float(Vec::new()),
            Type::Double => Data::Double(Vec::new()),
            Type::Decimal { .. } => Data::Decimal(Vec::new()),
            Type::String | Type::Varchar(_) | Type::Char(_) => Data::Text(Bytes::new()),
            Type::Binary => Data::Binary(Bytes::new()),
            Type::Date => Data::Date(Vec::new()),
            Type::Timestamp { .. } => Data::Timestamp(Vec::new()),
            Type::Array(item) => Data::List(Offsets::new(), Box::new(Self::new(item, None, options)?)),
            Type::Struct(fields) => Data::Struct(Box::new(Struct::new(fields, options, false)?)),
            Type::Map(key, value) => Data::Map(
                Offsets::new(),
                Box::new(Self::new(key, None, options)?),
                Box::new(Self::new(value, None, options)?),
            ),
        };
        let formats = match (kind, format) {
            (Type::Timestamp { .. } | Type::Date, Some(format)) => {
                Arc::from([TimestampFormat::parse(format).map_err(SchemaError::Columns)?])
            }
            (Type::Timestamp { .. } | Type::Date, None) => Arc::from(options.timestamps.as_slice()),
            _ => Arc::from([]),
        };
        Ok(Self { kind: kind.clone(), data, valid: Vec::new(), formats })
    }

    #[inline]
    pub(in crate::table) fn len(&self) -> usize {
        each_plain!(&self.data, values => values.len(),
            Data::Text(text) | Data::Binary(text) => text.ends.len(),
            Data::List(ends, _) | Data::Map(ends, ..) => ends.len(),
            Data::Struct(fields) => fields.len,
        )
    }

    /// Takes back all but the first `len` values.
    pub(in crate::table) fn truncate(&mut self, len: usize) {
        self.valid.truncate(len);
        each_plain!(&mut self.data, values => values.truncate(len),
            Data::Text(text) | Data::Binary(text) => text.truncate(len),
            Data::List(ends, item) => {
                let end = ends.truncate(len);
                item.truncate(end);
            }
            Data::Map(ends, keys, values) => {
                let end = ends.truncate(len);
                keys.truncate(end);
                values.truncate(end);
            }
            Data::Struct(fields) => fields.truncate(len),
        );
    }

    /// Takes a null.
    pub(in crate::table) fn push_null(&mut self) {
        if self.valid.is_empty() {
            self.valid.resize(self.len(), true);
        }
        self.valid.push(false);
        each_plain!(&mut self.data, values => values.push(Default::default()),
            Data::Text(text) | Data::Binary(text) => text.ends.repeat(),
            Data::List(ends, _) | Data::Map(ends, ..) => ends.repeat(),
            Data::Struct(fields) => fields.push_null(),
        );
    }

    /// Notes that a value was taken.
    #[inline]
    fn taken(&mut self) {
        if !self.valid.is_empty() {
            self.valid.push(true);
        }
    }

    /// Whether a text is of an object or an array, so that it has to be read as JSON.
    pub(super) fn is_nested(&self) -> bool {
        matches!(self.data, Data::List(..) | Data::Struct(_) | Data::Map(..))
    }
}
