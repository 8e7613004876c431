//! Columns into arrays.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, ListArray, MapArray, PrimitiveArray, StringArray,
    StructArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;

use super::{Column, Data};
use crate::table::schema::Type;

impl Column {
    /// The array of all values, which is left empty.
    pub(super) fn finish(&mut self, field: &Field) -> Result<ArrayRef, ArrowError> {
        fn plain<T: ArrowPrimitiveType>(
            values: &mut Vec<T::Native>,
            nulls: Option<NullBuffer>,
            kind: &DataType,
        ) -> Result<ArrayRef, ArrowError> {
            let taken = ScalarBuffer::from(renew(values));
            Ok(Arc::new(PrimitiveArray::<T>::try_new(taken, nulls)?.with_data_type(kind.clone())))
        }
        let valid = std::mem::take(&mut self.valid);
        let nulls = (!valid.is_empty()).then(|| NullBuffer::new(BooleanBuffer::from(valid)));
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
