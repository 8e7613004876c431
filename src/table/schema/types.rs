//! Types of columns: the words of Hive and of the service's catalogue, and what they are in Arrow.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

/// Digits that a decimal can have: what 128 bits hold, and what Hive allows.
pub const DECIMAL_DIGITS_MAX: u8 = 38;

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// `boolean`
    Boolean,
    /// `tinyint`, 8 bits
    TinyInt,
    /// `smallint`, 16 bits
    SmallInt,
    /// `int`, 32 bits
    Int,
    /// `bigint`, 64 bits
    BigInt,
    /// `float`, 32 bits
    Float,
    /// `double`, 64 bits
    Double,
    /// `decimal(precision,scale)`
    Decimal {
        /// Digits in all, 1 to [`DECIMAL_DIGITS_MAX`].
        precision: u8,
        /// Digits behind the point, at most `precision`.
        scale: u8,
    },
    /// `string`
    String,
    /// `varchar(n)`: a string of at most so many characters.
    Varchar(u32),
    /// `char(n)`: the same; it is not filled up with spaces.
    Char(u32),
    /// `binary`, in JSON as base64
    Binary,
    /// `date`
    Date,
    /// `timestamp`: a moment, in UTC (`timestamp(3)`, `timestamp(9)` for milliseconds and nanoseconds); or
    /// `timestamp_ntz`: what a clock on the wall shows, of no zone.
    Timestamp {
        /// Digits of the second: 3, 6 or 9.
        digits: u8,
        /// Whether it is a moment.
        utc: bool,
    },
    /// `array<...>`
    Array(Box<Type>),
    /// `struct<...>`
    Struct(Vec<Column>),
    /// `map<...,...>`; the keys are strings, numbers, dates or timestamps.
    Map(Box<Type>, Box<Type>),
}

/// A column, or a field of a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Type,
    /// Whether a row can be without it.
    pub nullable: bool,
    /// How its timestamps or dates are written, where it is not as in other columns: a pattern, `millis` or `seconds`.
    /// Only a column has one, no field of a struct, and it shows in JSON but not in DDL.
    pub format: Option<String>,
}

impl Column {
    /// A column that can be null.
    pub fn new(name: impl Into<String>, kind: Type) -> Self {
        Self { name: name.into(), kind, nullable: true, format: None }
    }

    /// The field of an Arrow schema that it is.
    pub fn to_arrow(&self) -> Field {
        Field::new(&self.name, self.kind.to_arrow(), self.nullable)
    }
}

/// The names that Parquet gives to what is inside lists and maps: other readers find them as they expect them.
const LIST_ITEM: &str = "element";
const MAP_ENTRIES: &str = "key_value";
const MAP_KEY: &str = "key";
const MAP_VALUE: &str = "value";

/// The zone of every moment.
const UTC: &str = "UTC";

impl Type {
    /// `timestamp`.
    pub const TIMESTAMP: Self = Self::Timestamp { digits: 6, utc: true };

    /// What it is in Arrow.
    pub fn to_arrow(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::TinyInt => DataType::Int8,
            Self::SmallInt => DataType::Int16,
            Self::Int => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale as i8),
            Self::String | Self::Varchar(_) | Self::Char(_) => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Timestamp { digits, utc } => DataType::Timestamp(unit(*digits), utc.then(|| UTC.into())),
            Self::Array(item) => DataType::List(Arc::new(Field::new(LIST_ITEM, item.to_arrow(), true))),
            Self::Struct(fields) => DataType::Struct(fields.iter().map(Column::to_arrow).collect()),
            Self::Map(key, value) => {
                let entries = Fields::from(vec![
                    Field::new(MAP_KEY, key.to_arrow(), false),
                    Field::new(MAP_VALUE, value.to_arrow(), true),
                ]);
                DataType::Map(Arc::new(Field::new(MAP_ENTRIES, DataType::Struct(entries), false)), false)
            }
        }
    }

    /// The type whose values an Arrow type holds, where there is one: dictionaries, views and large offsets are only
    /// other ways to lie in memory.
    pub fn from_arrow(kind: &DataType) -> Result<Self, String> {
        Ok(match kind {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 => Self::TinyInt,
            DataType::Int16 | DataType::UInt8 => Self::SmallInt,
            DataType::Int32 | DataType::UInt16 => Self::Int,
            DataType::Int64 | DataType::UInt32 => Self::BigInt,
            DataType::UInt64 => Self::Decimal { precision: 20, scale: 0 },
            DataType::Float16 | DataType::Float32 => Self::Float,
            DataType::Float64 => Self::Double,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
                if *scale >= 0 && *scale as u8 <= *precision =>
            {
                Self::Decimal { precision: *precision, scale: *scale as u8 }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::String,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Self::Binary,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Timestamp(unit, zone) => {
                let digits = match unit {
                    TimeUnit::Second | TimeUnit::Millisecond => 3,
                    TimeUnit::Microsecond => 6,
                    TimeUnit::Nanosecond => 9,
                };
                Self::Timestamp { digits, utc: zone.is_some() }
            }
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _) => Self::Array(Box::new(Self::from_arrow(item.data_type())?)),
            DataType::Struct(fields) => Self::Struct(columns(fields)?),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => Self::Map(
                    Box::new(Self::from_arrow(fields[0].data_type())?),
                    Box::new(Self::from_arrow(fields[1].data_type())?),
                ),
                other => return Err(format!("a map of {other} is not a type of a column")),
            },
            DataType::Dictionary(_, value) => Self::from_arrow(value)?,
            DataType::RunEndEncoded(_, value) => Self::from_arrow(value.data_type())?,
            _ => return Err(format!("{kind} is not a type of a column")),
        })
    }

    /// Whether it can be the key of a map.
    pub(in crate::table) fn is_key(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Struct(_) | Self::Map(..) | Self::Binary)
    }

    /// How many types it is made of, itself included, and how deep they are nested.
    pub(in crate::table) fn extent(&self) -> (usize, usize) {
        let inner: &mut dyn Iterator<Item = (usize, usize)> = match self {
            Self::Array(item) => &mut std::iter::once(item.extent()),
            Self::Struct(fields) => &mut fields.iter().map(|field| field.kind.extent()),
            Self::Map(key, value) => &mut [key.extent(), value.extent()].into_iter(),
            _ => return (1, 0),
        };
        let (count, depth) =
            inner.fold((0, 0), |(count, depth), inner| (count + inner.0, depth.max(inner.1)));
        (count + 1, depth + 1)
    }
}

fn unit(digits: u8) -> TimeUnit {
    match digits {
        3 => TimeUnit::Millisecond,
        9 => TimeUnit::Nanosecond,
        _ => TimeUnit::Microsecond,
    }
}

/// The columns that the fields of an Arrow schema are.
pub(super) fn columns(fields: &Fields) -> Result<Vec<Column>, String> {
    fields
        .iter()
        .map(|field| {
            let kind = Type::from_arrow(field.data_type())
                .map_err(|reason| format!("column {}: {reason}", Name(field.name())))?;
            Ok(Column { name: field.name().clone(), kind, nullable: field.is_nullable(), format: None })
        })
        .collect()
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Boolean => "boolean",
            Self::TinyInt => "tinyint",
            Self::SmallInt => "smallint",
            Self::Int => "int",
            Self::BigInt => "bigint",
            Self::Float => "float",
            Self::Double => "double",
            Self::String => "string",
            Self::Binary => "binary",
            Self::Date => "date",
            Self::Decimal { precision, scale } => return write!(f, "decimal({precision},{scale})"),
            Self::Varchar(length) => return write!(f, "varchar({length})"),
            Self::Char(length) => return write!(f, "char({length})"),
            Self::Timestamp { digits, utc } => {
                f.write_str(if *utc { "timestamp" } else { "timestamp_ntz" })?;
                return if *digits == 6 { Ok(()) } else { write!(f, "({digits})") };
            }
            Self::Array(item) => return write!(f, "array<{item}>"),
            Self::Map(key, value) => return write!(f, "map<{key},{value}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (i, field) in fields.iter().enumerate() {
                    let (comma, null) = (if i == 0 { "" } else { "," }, not_null(field));
                    write!(f, "{comma}{}:{}{null}", Name(&field.name), field.kind)?;
                }
                return f.write_str(">");
            }
        };
        f.write_str(word)
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", Name(&self.name), self.kind, not_null(self))
    }
}

fn not_null(column: &Column) -> &'static str {
    if column.nullable { "" } else { " not null" }
}

/// A name as DDL has it: in backticks where it is not a plain word.
pub(super) struct Name<'a>(pub(super) &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        let plain = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
            // What could be taken for the beginning of a statement around the columns.
            && !self.0.eq_ignore_ascii_case("create");
        if plain { f.write_str(self.0) } else { write!(f, "`{}`", self.0.replace('`', "``")) }
    }
}
