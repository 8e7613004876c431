//! Fields of CSV out of Arrow arrays.

use std::fmt::Write as _;
use std::io;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, NullableEncoder, make_encoder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{CsvOptions, QuoteStyle};

/// One column of a batch.
enum Values<'a> {
    Boolean(&'a arrow::array::BooleanArray),
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    Float(&'a PrimitiveArray<Float32Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a PrimitiveArray<Decimal128Type>, u8),
    String(&'a StringArray),
    Binary(&'a arrow::array::BinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    /// The values, how many of them are a second, and whether it is in UTC.
    Timestamp(&'a [i64], i64, bool),
    /// Lists, structs and maps, as JSON.
    Nested(NullableEncoder<'a>),
    /// What a schema has no word for, as Arrow prints it.
    Other(ArrayFormatter<'a>),
}

struct Column<'a> {
    values: Values<'a>,
    nulls: Option<&'a NullBuffer>,
    /// Whether its text can have anything in it that must be quoted.
    is_text: bool,
    /// Whether it is written like a string.
    is_string: bool,
}

/// Which bytes make quotes, or escapes, necessary.
struct Special([bool; 256]);

impl Special {
    fn new(options: &CsvOptions) -> Self {
        let mut special = [false; 256];
        for byte in [options.delimiter, b'\n', b'\r'] {
            special[usize::from(byte)] = true;
        }
        special[usize::from(if options.quote == QuoteStyle::Never { b'\\' } else { b'"' })] = true;
        Self(special)
    }

    fn is_in(&self, text: &[u8]) -> bool {
        // Most fields are a few bytes, for which a table is faster than anything that must be set up.
        text.iter().any(|byte| self.0[usize::from(*byte)])
    }
}

/// Writes rows of a batch.
pub(super) struct Writer<'a> {
    options: &'a CsvOptions,
    special: Special,
    columns: Vec<Column<'a>>,
    scratch: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(options: &'a CsvOptions, batch: &'a RecordBatch) -> io::Result<Self> {
        let fields = batch.schema_ref().fields();
        let columns = fields.iter().zip(batch.columns()).map(|(field, array)| column(field, array));
        let columns = columns.collect::<Result<_, _>>().map_err(io::Error::other)?;
        Ok(Self { options, special: Special::new(options), columns, scratch: Vec::new() })
    }

    /// Appends a row.
    pub(super) fn row(&mut self, row: usize, out: &mut Vec<u8>) {
        let Self { options, special, columns, scratch } = self;
        let is_alone = columns.len() == 1;
        for (i, column) in columns.iter_mut().enumerate() {
            if i > 0 {
                out.push(options.delimiter);
            }
            if column.nulls.is_some_and(|nulls| nulls.is_null(row)) {
                // A row that is nothing but null would be a blank line, and readers pass over these.
                if is_alone && options.null.is_empty() && options.quote != QuoteStyle::Never {
                    out.extend_from_slice(b"\"\"");
                }
                out.extend_from_slice(options.null.as_bytes());
                continue;
            }
            let quoted = match options.quote {
                QuoteStyle::Always => true,
                QuoteStyle::NonNumeric => column.is_string,
                QuoteStyle::Necessary | QuoteStyle::Never => false,
            };
            // Strings lie there as they are written: nothing is copied twice.
            if let Values::String(array) = &column.values {
                text(options, special, quoted, array.value(row).as_bytes(), out);
                continue;
            }
            if column.is_text {
                scratch.clear();
                column.values.push(row, scratch);
                text(options, special, quoted, scratch, out);
                continue;
            }
            if quoted {
                out.push(b'"');
            }
            let start = out.len();
            column.values.push(row, out);
            if quoted {
                out.push(b'"');
            } else if out.len() - start == options.null.len() && out[start..] == *options.null.as_bytes() {
                requote(options, start, out);
            }
        }
        out.extend_from_slice(options.line_ending.bytes());
    }
}

/// The header row.
pub(super) fn header<'a>(options: &CsvOptions, names: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    let special = Special::new(options);
    let quoted = matches!(options.quote, QuoteStyle::Always | QuoteStyle::NonNumeric);
    for (i, name) in names.enumerate() {
        if i > 0 {
            out.push(options.delimiter);
        }
        text(options, &special, quoted, name.as_bytes(), out);
    }
    out.extend_from_slice(options.line_ending.bytes());
}

/// Appends a field that may have anything in it.
fn text(options: &CsvOptions, special: &Special, quoted: bool, text: &[u8], out: &mut Vec<u8>) {
    let is_special = special.is_in(text);
    let is_null = text == options.null.as_bytes();
    if options.quote == QuoteStyle::Never {
        if is_null && !is_special && !text.is_empty() {
            // With a backslash that it does not need it is read as what it says.
            out.push(b'\\');
        }
        for byte in text {
            if special.0[usize::from(*byte)] {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        return;
    }
    if !(quoted || is_special || is_null) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'"', rest) {
        out.extend_from_slice(&rest[..=at]);
        out.push(b'"');
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Quotes a number or the like that says what stands for null.
fn requote(options: &CsvOptions, start: usize, out: &mut Vec<u8>) {
    if options.quote == QuoteStyle::Never {
        out.insert(start, b'\\');
    } else {
        out.insert(start, b'"');
        out.push(b'"');
    }
}

fn column<'a>(field: &'a arrow::datatypes::FieldRef, array: &'a ArrayRef) -> Result<Column<'a>, ArrowError> {
    let values = match array.data_type() {
        DataType::Boolean => Values::Boolean(array.as_boolean()),
        DataType::Int8 => Values::Int8(array.as_primitive()),
        DataType::Int16 => Values::Int16(array.as_primitive()),
        DataType::Int32 => Values::Int32(array.as_primitive()),
        DataType::Int64 => Values::Int64(array.as_primitive()),
        DataType::Float32 => Values::Float(array.as_primitive()),
        DataType::Float64 => Values::Double(array.as_primitive()),
        DataType::Decimal128(_, scale) if *scale >= 0 => Values::Decimal(array.as_primitive(), *scale as u8),
        DataType::Utf8 => Values::String(array.as_string()),
        DataType::Binary => Values::Binary(array.as_binary()),
        DataType::Date32 => Values::Date(array.as_primitive()),
        DataType::Timestamp(unit, zone) if zone.as_deref().is_none_or(|zone| zone == "UTC") => {
            let (values, per_second): (&[i64], i64) = match unit {
                TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().values(), 1),
                TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().values(), 1_000),
                TimeUnit::Microsecond => {
                    (array.as_primitive::<TimestampMicrosecondType>().values(), 1_000_000)
                }
                TimeUnit::Nanosecond => {
                    (array.as_primitive::<TimestampNanosecondType>().values(), 1_000_000_000)
                }
            };
            Values::Timestamp(values, per_second, zone.is_some())
        }
        DataType::List(_) | DataType::Struct(_) | DataType::Map(..) => {
            Values::Nested(make_encoder(field, array, nested_options())?)
        }
        _ => Values::Other(ArrayFormatter::try_new(array, &FORMAT)?),
    };
    use Values as V;
    let is_text = matches!(values, V::String(_) | V::Nested(_) | V::Other(_));
    let is_string = is_text || matches!(values, V::Binary(_) | V::Date(_) | V::Timestamp(..));
    Ok(Column { values, nulls: array.nulls().filter(|nulls| nulls.null_count() > 0), is_text, is_string })
}

static FORMAT: FormatOptions<'static> = FormatOptions::new();

fn nested_options() -> &'static EncoderOptions {
    static OPTIONS: std::sync::OnceLock<EncoderOptions> = std::sync::OnceLock::new();
    OPTIONS.get_or_init(EncoderOptions::default)
}

impl Values<'_> {
    /// Appends the text of a value that is not null.
    fn push(&mut self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Boolean(array) => {
                out.extend_from_slice(if array.value(row) { b"true" } else { b"false" });
            }
            Self::Int8(array) => integer(array.value(row), out),
            Self::Int16(array) => integer(array.value(row), out),
            Self::Int32(array) => integer(array.value(row), out),
            Self::Int64(array) => integer(array.value(row), out),
            Self::Float(array) => {
                out.extend_from_slice(zmij::Buffer::new().format(array.value(row)).as_bytes());
            }
            Self::Double(array) => {
                out.extend_from_slice(zmij::Buffer::new().format(array.value(row)).as_bytes());
            }
            Self::Decimal(array, scale) => decimal(array.value(row), usize::from(*scale), out),
            Self::String(array) => out.extend_from_slice(array.value(row).as_bytes()),
            Self::Binary(array) => {
                let value = array.value(row);
                let start = out.len();
                out.resize(start + value.len().div_ceil(3) * 4, 0);
                let len = BASE64_STANDARD.encode_slice(value, &mut out[start..]).unwrap_or(0);
                out.truncate(start + len);
            }
            Self::Date(array) => date(i64::from(array.value(row)), out),
            Self::Timestamp(values, per_second, is_utc) => timestamp(values[row], *per_second, *is_utc, out),
            Self::Nested(encoder) => encoder.encode(row, out),
            Self::Other(formatter) => {
                let mut text = String::new();
                // It fails where a value is out of the range of what it means: the field stays empty.
                let _ = write!(text, "{}", formatter.value(row));
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

fn integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Every digit behind the point that the type has, as in the service's catalogue.
fn decimal(value: i128, scale: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs());
    if value < 0 {
        out.push(b'-');
    }
    let whole = digits.len().saturating_sub(scale);
    out.extend_from_slice(if whole == 0 { b"0" } else { &digits.as_bytes()[..whole] });
    if scale > 0 {
        out.push(b'.');
        out.resize(out.len() + scale.saturating_sub(digits.len()), b'0');
        out.extend_from_slice(&digits.as_bytes()[whole..]);
    }
}

/// `2026-11-25`, of days since the epoch, in the calendar that we have now.
pub(super) fn date(days: i64, out: &mut Vec<u8>) {
    // Counted in eras of 400 years that begin in March, so that the day that comes and goes is the last of a year.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if year < 0 {
        out.push(b'-');
    }
    let years = year.unsigned_abs();
    if years > 9_999 {
        integer(years, out);
    } else {
        two(years / 100, out);
        two(years % 100, out);
    }
    out.push(b'-');
    two(month as u64, out);
    out.push(b'-');
    two(day as u64, out);
}

/// RFC 3339, with as many digits of the second as there are to say, by threes.
fn timestamp(value: i64, per_second: i64, is_utc: bool, out: &mut Vec<u8>) {
    let (seconds, fraction) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u64);
    date(days, out);
    out.push(b'T');
    two(of_day / 3_600, out);
    out.push(b':');
    two(of_day / 60 % 60, out);
    out.push(b':');
    two(of_day % 60, out);
    let mut nanos = fraction as u64 * (1_000_000_000 / per_second as u64);
    if nanos > 0 {
        out.push(b'.');
        while nanos > 0 {
            let three = nanos / 1_000_000;
            out.push(b'0' + (three / 100) as u8);
            two(three % 100, out);
            nanos = nanos % 1_000_000 * 1_000;
        }
    }
    if is_utc {
        out.push(b'Z');
    }
}

/// Two digits.
fn two(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
}
