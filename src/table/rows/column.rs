//! The values of a column as they come, row by row, until they are an Arrow array.
//!
//! A row that turns out bad half-way is taken back: every column is cut to the length that it had before.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, ListArray, MapArray, PrimitiveArray, StringArray,
    StructArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;
use base64::Engine;

use super::fault::{Fault, Result, Step, found, mismatch, quoted};
use super::names::Names;
use super::{Context, RowOptions, Unknown};
use crate::table::json::{Scanner, Value};
use crate::table::number::Number;
use crate::table::schema::{Column as Named, SchemaError, Type};
use crate::table::time::{self, TimestampFormat};
use crate::table::widen;

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

/// Where the values of variable length end. The first is 0.
#[derive(Debug, Clone)]
struct Offsets(Vec<i32>);

#[derive(Debug, Clone)]
struct Bytes {
    ends: Offsets,
    bytes: Vec<u8>,
}

/// The fields of an object.
#[derive(Debug, Clone)]
pub(super) struct Struct {
    pub(super) fields: Vec<Member>,
    names: Names,
    len: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: Box<str>,
    nullable: bool,
    pub(super) column: Column,
}

/// Why a text is not a value of a column.
enum Miss {
    /// It is none of this type.
    Kind,
    /// What is said instead.
    Reason(String),
}

impl Offsets {
    fn new() -> Self {
        Self(vec![0])
    }

    fn len(&self) -> usize {
        self.0.len() - 1
    }

    fn last(&self) -> usize {
        self.0.last().copied().unwrap_or_default() as usize
    }

    #[inline]
    fn push(&mut self, end: usize) -> std::result::Result<(), Miss> {
        let full = || Miss::Reason("the block has more than 2 GiB in this column".to_owned());
        self.0.push(i32::try_from(end).map_err(|_| full())?);
        Ok(())
    }

    fn repeat(&mut self) {
        self.0.push(self.last() as i32);
    }

    /// Cuts it to `len` values, and says where the last of them ends.
    fn truncate(&mut self, len: usize) -> usize {
        self.0.truncate(len + 1);
        self.last()
    }

    fn take(&mut self) -> OffsetBuffer<i32> {
        let capacity = self.0.len();
        let taken = std::mem::replace(&mut self.0, Vec::with_capacity(capacity));
        self.0.push(0);
        OffsetBuffer::new(taken.into())
    }
}

impl Bytes {
    fn new() -> Self {
        Self { ends: Offsets::new(), bytes: Vec::new() }
    }

    #[inline]
    fn push(&mut self, value: &[u8]) -> std::result::Result<(), Miss> {
        self.ends.push(self.bytes.len() + value.len())?;
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        let end = self.ends.truncate(len);
        self.bytes.truncate(end);
    }
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
    ) -> std::result::Result<Self, SchemaError> {
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

    /// Takes the next value of a JSON text.
    #[inline]
    pub(super) fn value(&mut self, json: &mut Scanner<'_>, context: &mut Context<'_>) -> Result<()> {
        let Some(first) = json.peek() else { return Ok(json.fault("a value is missing")?) };
        match (&mut self.data, first) {
            (_, b'n') => {
                json.word("null")?;
                self.push_null();
                return Ok(());
            }
            (Data::Text(text), b'"') if matches!(self.kind, Type::String) => {
                let value = json.string(&mut context.scratch)?;
                if text.push(value.as_bytes()).is_err() {
                    return Err(too_much());
                }
            }
            (Data::BigInt(values), b'-' | b'0'..=b'9') => {
                let number = json.number()?;
                match number.to_i64() {
                    Ok(value) => values.push(value),
                    Err(_) => return Err(self.wrong_number(number, context)),
                }
            }
            (Data::Double(values), b'-' | b'0'..=b'9') => {
                let number = json.number()?;
                match number.to_f64() {
                    Some(value) => values.push(value),
                    None => return Err(self.wrong_number(number, context)),
                }
            }
            (Data::Boolean(values), b't' | b'f') => {
                json.word(if first == b't' { "true" } else { "false" })?;
                values.push(first == b't');
            }
            (Data::Struct(fields), b'{') => fields.object(json, context)?,
            (Data::List(ends, item), b'[') => {
                json.enter()?;
                let (start, mut first) = (ends.last(), true);
                while json.more(first, b']')? {
                    first = false;
                    let at = item.len() - start;
                    item.value(json, context).map_err(|fault| fault.within(Step::Item(at)))?;
                }
                ends.push(item.len()).map_err(|_| too_much())?;
            }
            (Data::Map(ends, keys, values), b'{') => {
                entries(ends.last(), (keys, values), json, context)?;
                ends.push(keys.len()).map_err(|_| too_much())?;
            }
            (_, b'"') => return self.string(json, context),
            (_, b'-' | b'0'..=b'9') => {
                let number = json.number()?;
                return self.number(number, context);
            }
            _ => return self.other(json, context),
        }
        self.taken();
        Ok(())
    }

    /// Takes a number that is not of the most frequent kinds.
    fn number(&mut self, number: Number<'_>, context: &Context<'_>) -> Result<()> {
        fn narrow<T: TryFrom<i64>>(values: &mut Vec<T>, number: Number<'_>) -> bool {
            let value = number.to_i64().ok().and_then(|value| T::try_from(value).ok());
            value.map(|value| values.push(value)).is_some()
        }
        let fits = match (&mut self.data, &self.kind) {
            (Data::TinyInt(values), _) => narrow(values, number),
            (Data::SmallInt(values), _) => narrow(values, number),
            (Data::Int(values), _) => narrow(values, number),
            (Data::BigInt(values), _) => narrow(values, number),
            (Data::Float(values), _) => number.to_f32().map(|value| values.push(value)).is_some(),
            (Data::Double(values), _) => number.to_f64().map(|value| values.push(value)).is_some(),
            (Data::Decimal(values), Type::Decimal { precision, scale }) => {
                decimal(number, *precision, *scale).map(|value| values.push(value)).is_some()
            }
            (Data::Timestamp(values), Type::Timestamp { digits, .. }) => {
                let moment =
                    time::since_epoch(number, &self.formats).and_then(|moment| moment.units(*digits));
                moment.map(|value| values.push(value)).is_some()
            }
            (Data::Text(_), _) if context.options.coerce => {
                return self.text(number.text, || found(number.text));
            }
            _ => false,
        };
        if !fits {
            return Err(self.wrong_number(number, context));
        }
        self.taken();
        Ok(())
    }

    #[cold]
    fn wrong_number(&self, number: Number<'_>, context: &Context<'_>) -> Box<Fault> {
        if context.watch && widen::for_number(&self.kind, number).is_some() {
            return Box::new(Fault::Drift);
        }
        Fault::value(mismatch(&self.kind, &found(number.text)))
    }

    /// Takes a string into a column that is not plainly of strings.
    fn string(&mut self, json: &mut Scanner<'_>, context: &mut Context<'_>) -> Result<()> {
        let takes = self.takes_strings(context);
        let value = json.string(&mut context.scratch)?;
        let show = || format!("string {}", quoted(value));
        if takes {
            return self.text(value, show);
        }
        Err(Fault::value(mismatch(&self.kind, &show())))
    }

    /// Takes a string, a number or a boolean that has been read already. Objects and arrays go only where they are text.
    pub(in crate::table) fn take(&mut self, value: &Value<'_>, context: &Context<'_>) -> Result<()> {
        let takes_strings = self.takes_strings(context);
        match (value, &mut self.data) {
            (Value::Null, _) => {
                self.push_null();
                Ok(())
            }
            (Value::Number(number), _) => self.number(*number, context),
            (Value::String(text), _) if takes_strings => {
                self.text(text, || format!("string {}", quoted(text)))
            }
            (Value::Bool(value), Data::Boolean(values)) => {
                values.push(*value);
                self.taken();
                Ok(())
            }
            // What it is written as is not known here, and makes no difference.
            (Value::Bool(_) | Value::Array(_) | Value::Object(_), Data::Text(_))
                if context.options.coerce =>
            {
                self.text("", String::new)
            }
            _ => Err(Fault::value(mismatch(&self.kind, &value.describe()))),
        }
    }

    /// Whether a string can be a value.
    fn takes_strings(&self, context: &Context<'_>) -> bool {
        // What a text stands for in these is nothing that coercion is for.
        let own = matches!(
            self.data,
            Data::Text(_) | Data::Binary(_) | Data::Date(_) | Data::Timestamp(_) | Data::Decimal(_)
        );
        own || context.options.coerce
    }

    /// Takes what is neither a string nor a number, or reports it.
    #[cold]
    fn other(&mut self, json: &mut Scanner<'_>, context: &Context<'_>) -> Result<()> {
        let raw = json.raw()?;
        if context.options.coerce && matches!(self.data, Data::Text(_)) {
            return self.text(raw, || found(raw));
        }
        // It would have made no column: so it fits the one that others made.
        if context.unknown == Unknown::Noted && !Scanner::new(raw).says_something()? {
            self.push_null();
            return Ok(());
        }
        Err(Fault::value(mismatch(&self.kind, &found(raw))))
    }

    /// Takes a value that is written as a text: in a string, as the key of a map, in a field of CSV. `show` says what it
    /// is where it does not fit.
    pub(in crate::table) fn text(&mut self, text: &str, show: impl Fn() -> String) -> Result<()> {
        let missed = match self.take_text(text) {
            Ok(()) => {
                self.taken();
                return Ok(());
            }
            Err(missed) => missed,
        };
        Err(Fault::value(match missed {
            Miss::Kind => mismatch(&self.kind, &show()),
            Miss::Reason(reason) => reason,
        }))
    }

    fn take_text(&mut self, text: &str) -> std::result::Result<(), Miss> {
        fn push<T>(values: &mut Vec<T>, value: Option<T>) -> std::result::Result<(), Miss> {
            values.push(value.ok_or(Miss::Kind)?);
            Ok(())
        }
        fn integer<T: TryFrom<i64>>(text: &str) -> Option<T> {
            plain_number(text)?.to_i64().ok()?.try_into().ok()
        }
        match (&mut self.data, &self.kind) {
            (Data::Text(values), Type::Varchar(most) | Type::Char(most)) => {
                let most = *most as usize;
                if text.len() > most && text.chars().count() > most {
                    let count = text.chars().count();
                    return Err(Miss::Reason(format!("{count} characters do not fit {}", self.kind)));
                }
                values.push(text.as_bytes())
            }
            (Data::Text(values), _) => values.push(text.as_bytes()),
            (Data::Binary(values), _) => {
                let bytes = base64(text).ok_or_else(|| {
                    Miss::Reason(format!("expected binary as base64, found string {}", quoted(text)))
                })?;
                values.push(&bytes)
            }
            (Data::Boolean(values), _) => {
                let value = if text.eq_ignore_ascii_case("true") {
                    Some(true)
                } else {
                    text.eq_ignore_ascii_case("false").then_some(false)
                };
                push(values, value)
            }
            (Data::TinyInt(values), _) => push(values, integer(text)),
            (Data::SmallInt(values), _) => push(values, integer(text)),
            (Data::Int(values), _) => push(values, integer(text)),
            (Data::BigInt(values), _) => push(values, integer(text)),
            (Data::Float(values), _) => push(
                values,
                plain_number(text).map_or_else(|| not_finite(text).map(|v| v as f32), Number::to_f32),
            ),
            (Data::Double(values), _) => {
                push(values, plain_number(text).map_or_else(|| not_finite(text), Number::to_f64))
            }
            (Data::Decimal(values), Type::Decimal { precision, scale }) => {
                push(values, plain_number(text).and_then(|number| decimal(number, *precision, *scale)))
            }
            (Data::Date(values), _) => push(values, time::parse_date(text, &self.formats)),
            (Data::Timestamp(values), Type::Timestamp { digits, .. }) => {
                push(values, time::parse(text, &self.formats).and_then(|moment| moment.units(*digits)))
            }
            _ => Err(Miss::Kind),
        }
    }

    /// Whether a text is of an object or an array, so that it has to be read as JSON.
    pub(super) fn is_nested(&self) -> bool {
        matches!(self.data, Data::List(..) | Data::Struct(_) | Data::Map(..))
    }

    /// The array of all values, which is left empty.
    pub(super) fn finish(&mut self, field: &Field) -> std::result::Result<ArrayRef, ArrowError> {
        fn plain<T: ArrowPrimitiveType>(
            values: &mut Vec<T::Native>,
            nulls: Option<NullBuffer>,
            kind: &DataType,
        ) -> std::result::Result<ArrayRef, ArrowError> {
            let taken = ScalarBuffer::from(renew(values));
            Ok(Arc::new(PrimitiveArray::<T>::try_new(taken, nulls)?.with_data_type(kind.clone())))
        }
        let nulls = match self.valid.is_empty() {
            true => None,
            false => Some(NullBuffer::new(BooleanBuffer::from(std::mem::take(&mut self.valid)))),
        };
        let kind = field.data_type();
        Ok(match &mut self.data {
            Data::Boolean(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(renew(values)), nulls)),
            Data::TinyInt(values) => plain::<Int8Type>(values, nulls, kind)?,
            Data::SmallInt(values) => plain::<Int16Type>(values, nulls, kind)?,
            Data::Int(values) => plain::<Int32Type>(values, nulls, kind)?,
            Data::BigInt(values) => plain::<Int64Type>(values, nulls, kind)?,
            Data::Float(values) => plain::<Float32Type>(values, nulls, kind)?,
            Data::Double(values) => plain::<Float64Type>(values, nulls, kind)?,
            Data::Date(values) => plain::<Date32Type>(values, nulls, kind)?,
            Data::Timestamp(values) => match self.kind {
                Type::Timestamp { digits: 3, .. } => plain::<TimestampMillisecondType>(values, nulls, kind)?,
                Type::Timestamp { digits: 9, .. } => plain::<TimestampNanosecondType>(values, nulls, kind)?,
                _ => plain::<TimestampMicrosecondType>(values, nulls, kind)?,
            },
            Data::Decimal(values) => {
                let array = Decimal128Array::try_new(ScalarBuffer::from(renew(values)), nulls)?;
                Arc::new(array.with_data_type(kind.clone()))
            }
            Data::Text(text) => {
                let bytes = Buffer::from_vec(renew(&mut text.bytes));
                Arc::new(StringArray::try_new(text.ends.take(), bytes, nulls)?)
            }
            Data::Binary(text) => {
                let bytes = Buffer::from_vec(renew(&mut text.bytes));
                Arc::new(BinaryArray::try_new(text.ends.take(), bytes, nulls)?)
            }
            Data::List(ends, item) => {
                let DataType::List(inner) = kind else { return Err(other_schema(kind)) };
                let items = item.finish(inner)?;
                Arc::new(ListArray::try_new(inner.clone(), ends.take(), items, nulls)?)
            }
            Data::Struct(fields) => {
                let DataType::Struct(inner) = kind else { return Err(other_schema(kind)) };
                let arrays = fields.finish(inner)?;
                Arc::new(StructArray::try_new(inner.clone(), arrays, nulls)?)
            }
            Data::Map(ends, keys, values) => {
                let DataType::Map(entries, ordered) = kind else { return Err(other_schema(kind)) };
                let DataType::Struct(inner) = entries.data_type() else { return Err(other_schema(kind)) };
                let arrays = vec![keys.finish(&inner[0])?, values.finish(&inner[1])?];
                let pairs = StructArray::try_new(inner.clone(), arrays, None)?;
                Arc::new(MapArray::try_new(entries.clone(), ends.take(), pairs, nulls, *ordered)?)
            }
        })
    }
}

/// The values, and in their place an empty list that will take as many without growing.
fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.len();
    std::mem::replace(values, Vec::with_capacity(capacity))
}

fn other_schema(kind: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("the column is not of {kind}"))
}

#[cold]
fn too_much() -> Box<Fault> {
    Fault::value("the block has more than 2 GiB in this column".to_owned())
}

/// The entries of a map. Where a key is there twice, the last one counts.
fn entries(
    start: usize,
    (keys, values): (&mut Column, &mut Column),
    json: &mut Scanner<'_>,
    context: &mut Context<'_>,
) -> Result<()> {
    let (before, mark) = (json.clone(), context.keys.mark());
    take_entries((keys, values), json, context, &[])?;
    let replaced = context.keys.replaced(mark);
    if !replaced.is_empty() {
        keys.truncate(start);
        values.truncate(start);
        *json = before;
        context.keys.back_to(mark);
        take_entries((keys, values), json, context, &replaced)?;
    }
    context.keys.back_to(mark);
    Ok(())
}

/// The entries of a map, but for those of these numbers.
fn take_entries(
    (keys, values): (&mut Column, &mut Column),
    json: &mut Scanner<'_>,
    context: &mut Context<'_>,
    without: &[usize],
) -> Result<()> {
    json.enter()?;
    let mut number = 0;
    while json.more(number == 0, b'}')? {
        let key = json.key(&mut context.scratch)?;
        if without.binary_search(&number).is_ok() {
            json.skip()?;
        } else {
            keys.text(key, || format!("the key {}", quoted(key)))?;
            context.keys.push(key);
            if let Err(fault) = values.value(json, context) {
                return Err(fault.within(Step::Field(context.keys.last().into())));
            }
        }
        number += 1;
    }
    Ok(())
}

impl Struct {
    pub(super) fn new(
        fields: &[Named],
        options: &RowOptions,
        is_row: bool,
    ) -> std::result::Result<Self, SchemaError> {
        let names = Names::new(fields, options, is_row)?;
        let fields = fields
            .iter()
            .map(|field| {
                let column = Column::new(&field.kind, field.format.as_deref(), options)?;
                Ok(Member { name: field.name.as_str().into(), nullable: field.nullable, column })
            })
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self { fields, names, len: 0 })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        for member in &mut self.fields {
            member.column.truncate(len);
        }
    }

    fn push_null(&mut self) {
        self.len += 1;
        for member in &mut self.fields {
            member.column.push_null();
        }
    }

    /// Takes an object, at whose brace the text stands.
    #[inline]
    pub(super) fn object(&mut self, json: &mut Scanner<'_>, context: &mut Context<'_>) -> Result<()> {
        json.enter()?;
        self.names.begin();
        let (mut first, mut filled) = (true, 0);
        while json.more(first, b'}')? {
            first = false;
            let key = json.key(&mut context.scratch)?;
            let Some(i) = self.names.find(key, context.options) else {
                match context.unknown {
                    Unknown::Ignored => json.skip()?,
                    Unknown::Noted => {
                        let key = key.into();
                        unknown(key, json, context)?;
                    }
                }
                continue;
            };
            let member = &mut self.fields[i];
            // Where a key is there twice, the last one counts.
            if member.column.len() > self.len {
                member.column.truncate(self.len);
                filled -= 1;
            }
            if let Err(fault) = member.column.value(json, context) {
                return Err(fault.within(Step::Field(member.name.clone())));
            }
            if !member.nullable && member.column.valid.last() == Some(&false) {
                return Err(member.null("null"));
            }
            filled += 1;
        }
        self.complete(filled)
    }

    /// Ends a row, `filled` of whose fields have a value.
    pub(super) fn complete(&mut self, filled: usize) -> Result<()> {
        if filled < self.fields.len() {
            for member in &mut self.fields {
                if member.column.len() == self.len {
                    if !member.nullable {
                        return Err(member.null("nothing"));
                    }
                    member.column.push_null();
                }
            }
        }
        self.len += 1;
        Ok(())
    }

    pub(super) fn finish(&mut self, fields: &[Arc<Field>]) -> std::result::Result<Vec<ArrayRef>, ArrowError> {
        self.len = 0;
        self.fields.iter_mut().zip(fields).map(|(member, field)| member.column.finish(field)).collect()
    }
}

impl Member {
    /// Takes the text of a field of CSV; `null` is none.
    pub(super) fn cell(&mut self, text: Option<&str>, context: &mut Context<'_>) -> Result<()> {
        let Some(text) = text else {
            if !self.nullable {
                return Err(self.null("nothing"));
            }
            self.column.push_null();
            return Ok(());
        };
        let taken = if self.column.is_nested() {
            let mut json = Scanner::new(text);
            self.column.value(&mut json, context).and_then(|()| Ok(json.end()?))
        } else {
            self.column.text(text, || format!("string {}", quoted(text)))
        };
        taken.map_err(|fault| fault.within(Step::Field(self.name.clone())))
    }

    #[cold]
    fn null(&self, what: &str) -> Box<Fault> {
        Fault::value(mismatch(&self.column.kind, what)).within(Step::Field(self.name.clone()))
    }
}

/// Goes over the value of a key that is no field. What says nothing makes no column: null, {} and [] have no type.
fn unknown(key: Box<str>, json: &mut Scanner<'_>, context: &Context<'_>) -> Result<()> {
    if json.says_something()? { Err(context.unknown_column(&key)) } else { Ok(()) }
}

fn decimal(number: Number<'_>, precision: u8, scale: u8) -> Option<i128> {
    let (value, _) = number.to_decimal(scale)?;
    (value.unsigned_abs() < 10u128.pow(u32::from(precision))).then_some(value)
}

/// A number as people write it in text: with a plus, with zeros before it, without the zero before the point.
fn plain_number(text: &str) -> Option<Number<'_>> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    Number::parse(text).or_else(|| {
        let rest = text.trim_start_matches('0');
        let digits = rest.as_bytes().first().is_some_and(u8::is_ascii_digit);
        if digits && rest.len() < text.len() { Number::parse(rest) } else { None }
    })
}

/// What a double can be besides a number, as other programs write it.
fn not_finite(text: &str) -> Option<f64> {
    match text.trim().to_ascii_lowercase().as_str() {
        "nan" => Some(f64::NAN),
        "inf" | "+inf" | "infinity" | "+infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Base64 in either alphabet, filled up or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
    use base64::{alphabet, engine::DecodePaddingMode};
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}
