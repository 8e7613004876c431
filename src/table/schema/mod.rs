//! What the columns of a table are.
//!
//! A schema is given as DDL (`id bigint, tags array<string>`, or a whole `CREATE TABLE`), as JSON, or comes out of rows
//! ([`Schema::evolve`]). It prints as DDL and as JSON, and reads back as what it was.
//!
//! JSON has one of three forms: `{"columns":[{"name":"id","type":"bigint","nullable":false}]}`, which is what is printed;
//! the columns of the Glue or Hive catalogue (`[{"Name":"id","Type":"bigint"}]`, also inside what `aws glue get-table`
//! prints); or a JSON Schema, an object with `properties`.

mod ddl;
mod json;
mod types;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};

pub use types::{Column, DECIMAL_DIGITS_MAX, Type};

use super::time::TimestampFormat;

/// Columns in all, nested ones included. A table that people can work with has hundreds; objects whose keys are data
/// (ids, say) would otherwise make one column per record until the memory is gone.
pub const COLUMNS_MAX: usize = 10_000;

/// How deep types are nested. Arrow, Parquet and what reads them go into each other by recursion.
pub const DEPTH_MAX: usize = 64;

/// Bytes of a column's name: Hive's limit is 767, Redshift's 127, and a longer one is data.
pub const NAME_BYTES_MAX: usize = 1024;

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The text is not one.
    #[error("schema: {0}")]
    Text(String),
    /// The columns do not go together.
    #[error("schema: {0}")]
    Columns(String),
    /// A batch has not the columns of the schema, nor of an earlier one.
    #[error("batch: {0}")]
    Batch(String),
}

/// The columns of a table.
#[derive(Clone)]
pub struct Schema {
    columns: Vec<Column>,
    arrow: SchemaRef,
}

impl Schema {
    /// A schema of these columns.
    pub fn new(columns: Vec<Column>) -> Result<Self, SchemaError> {
        check(&columns, "")?;
        let extent = Type::Struct(columns.clone()).extent();
        if extent.0 - 1 > COLUMNS_MAX {
            return Err(SchemaError::Columns(format!("it has more than {COLUMNS_MAX} columns")));
        }
        if extent.1 - 1 > DEPTH_MAX {
            return Err(SchemaError::Columns(format!("it is nested more than {DEPTH_MAX} levels deep")));
        }
        for column in &columns {
            if let Some(format) = &column.format {
                if !matches!(column.kind, Type::Timestamp { .. } | Type::Date) {
                    return Err(SchemaError::Columns(format!(
                        "column {:?} has a format, and only timestamps and dates have one",
                        column.name
                    )));
                }
                TimestampFormat::parse(format)
                    .map_err(|reason| SchemaError::Columns(format!("column {:?}: {reason}", column.name)))?;
            }
        }
        Ok(Self::unchecked(columns))
    }

    /// Columns that are known to go together.
    pub(super) fn unchecked(columns: Vec<Column>) -> Self {
        let arrow = Arc::new(ArrowSchema::new(columns.iter().map(Column::to_arrow).collect::<Vec<_>>()));
        Self { columns, arrow }
    }

    /// Reads a schema as it is written in a file or an argument: JSON or DDL.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let text = text.trim_start_matches('\u{feff}').trim();
        let columns = match text.as_bytes().first() {
            None => return Err(SchemaError::Text("it is empty".to_owned())),
            Some(b'{' | b'[') => json::parse(text),
            Some(_) => ddl::parse(text),
        };
        Self::new(columns.map_err(SchemaError::Text)?)
    }

    /// The schema of what Arrow data holds.
    pub fn from_arrow(schema: &ArrowSchema) -> Result<Self, SchemaError> {
        Self::new(types::columns(schema.fields()).map_err(SchemaError::Columns)?)
    }

    /// The columns, in their order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Its Arrow schema: that of every batch.
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// The schema as DDL, on one line. The formats of timestamps are not in it.
    pub fn to_ddl(&self) -> String {
        self.to_string()
    }

    /// The schema as JSON, a column on each line.
    pub fn to_json(&self) -> String {
        json::print(&self.columns)
    }
}

/// Holds each struct to what every reader of the data needs: names, each once.
fn check(columns: &[Column], inside: &str) -> Result<(), SchemaError> {
    let mut names = HashSet::new();
    for column in columns {
        let name = column.name.as_str();
        let fault = |what: String| {
            Err(SchemaError::Columns(format!("column {:?} {what}", format!("{inside}{name}"))))
        };
        if name.is_empty() {
            return fault("has no name".to_owned());
        }
        if name.len() > NAME_BYTES_MAX {
            let start: String = name.chars().take(40).collect();
            return Err(SchemaError::Columns(format!(
                "the name of column \"{inside}{start}...\" is longer than {NAME_BYTES_MAX} bytes"
            )));
        }
        if !names.insert(name) {
            return fault("is there twice".to_owned());
        }
        check_type(&column.kind, &format!("{inside}{name}."))?;
        if !inside.is_empty() && column.format.is_some() {
            return fault("has a format, and only columns have one, no fields of a struct".to_owned());
        }
    }
    Ok(())
}

fn check_type(kind: &Type, inside: &str) -> Result<(), SchemaError> {
    let fault = |what: String| {
        Err(SchemaError::Columns(format!("column {:?}: {what}", inside.trim_end_matches('.'))))
    };
    match kind {
        Type::Struct(fields) if fields.is_empty() => fault("a struct has at least one field".to_owned()),
        Type::Struct(fields) => check(fields, inside),
        Type::Array(item) => check_type(item, inside),
        Type::Map(key, value) => {
            if !key.is_key() {
                return fault(format!("{key} cannot be the key of a map"));
            }
            check_type(key, inside)?;
            check_type(value, inside)
        }
        Type::Decimal { precision, scale }
            if *precision == 0 || *precision > DECIMAL_DIGITS_MAX || scale > precision =>
        {
            fault(format!(
                "a decimal has 1 to {DECIMAL_DIGITS_MAX} digits, and not more of them behind the point"
            ))
        }
        Type::Varchar(0) | Type::Char(0) => fault(format!("{kind} holds nothing")),
        Type::Timestamp { digits, .. } if !matches!(digits, 3 | 6 | 9) => {
            fault(format!("{kind} is not a timestamp: it has 3, 6 or 9 digits"))
        }
        _ => Ok(()),
    }
}

impl Default for Schema {
    /// No columns: what inference begins with.
    fn default() -> Self {
        Self { columns: Vec::new(), arrow: Arc::new(ArrowSchema::empty()) }
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.columns == other.columns
    }
}

impl Eq for Schema {}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({self})")
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, column) in self.columns.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{column}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Schema {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests;
