//! Batches of an earlier schema under the present one.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray,
    new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema as ArrowSchema};
use arrow::error::ArrowError;

use super::schema::{Schema, SchemaError, Type};
use super::widen;

impl Schema {
    /// The batch with the columns of this schema, which its own schema evolved into: columns that it has not are null,
    /// numbers are of the wider type, inside of structs, arrays and maps too.
    ///
    /// # Errors
    /// Where the batch is of no earlier schema: it has a column more, or one of another type, or has not one that is not
    /// null. Nothing is ever left out or cut.
    pub fn adapt(&self, batch: &RecordBatch) -> Result<RecordBatch, SchemaError> {
        if batch.schema_ref() == self.arrow() {
            return Ok(batch.clone());
        }
        let fields = self.arrow().fields();
        let columns =
            adapt_fields(batch.schema_ref().fields(), batch.columns(), fields, batch.num_rows(), "")?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.arrow().clone(), columns, &options)
            .map_err(|error| failed(&error))
    }
}

/// A batch with columns behind its own, as where each row came from. For the values that belong to the rows of a batch
/// see [`Decoded::kept`](super::Decoded::kept).
///
/// # Errors
/// Where a column has not a value for each row, or has a name that is there already.
pub fn extend(batch: &RecordBatch, columns: Vec<(FieldRef, ArrayRef)>) -> Result<RecordBatch, SchemaError> {
    let mut fields = batch.schema_ref().fields().to_vec();
    let mut arrays = batch.columns().to_vec();
    for (field, array) in columns {
        if fields.iter().any(|other| other.name() == field.name()) {
            return Err(SchemaError::Batch(format!("it has a column {:?} already", field.name())));
        }
        fields.push(field);
        arrays.push(array);
    }
    let schema = ArrowSchema::new_with_metadata(fields, batch.schema_ref().metadata().clone());
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options).map_err(|error| failed(&error))
}

fn failed(error: &ArrowError) -> SchemaError {
    SchemaError::Batch(error.to_string())
}

fn adapt_fields(
    from: &Fields,
    arrays: &[ArrayRef],
    to: &Fields,
    rows: usize,
    inside: &str,
) -> Result<Vec<ArrayRef>, SchemaError> {
    if let Some(more) = from.iter().find(|field| to.find(field.name()).is_none()) {
        let name = format!("{inside}{}", more.name());
        return Err(SchemaError::Batch(format!("its column {name:?} is not in the schema")));
    }
    to.iter()
        .map(|field| match from.find(field.name()) {
            Some((i, _)) => adapt(&arrays[i], field, inside),
            None if field.is_nullable() => Ok(new_null_array(field.data_type(), rows)),
            None => {
                let name = format!("{inside}{}", field.name());
                Err(SchemaError::Batch(format!("it has no column {name:?}, which is not null")))
            }
        })
        .collect()
}

fn adapt(array: &ArrayRef, field: &Field, inside: &str) -> Result<ArrayRef, SchemaError> {
    if array.data_type() == field.data_type() {
        return Ok(array.clone());
    }
    let name = format!("{inside}{}", field.name());
    let nulls = array.nulls().cloned();
    Ok(match (array.data_type(), field.data_type()) {
        (DataType::Struct(from), DataType::Struct(to)) => {
            let columns = array.as_struct().columns();
            let columns = adapt_fields(from, columns, to, array.len(), &format!("{name}."))?;
            let adapted = StructArray::try_new_with_length(to.clone(), columns, nulls, array.len());
            Arc::new(adapted.map_err(|error| failed(&error))?)
        }
        (DataType::List(_), DataType::List(to)) => {
            let list = array.as_list::<i32>();
            let items = adapt(list.values(), to, &format!("{name}."))?;
            let adapted = ListArray::try_new(to.clone(), list.offsets().clone(), items, nulls);
            Arc::new(adapted.map_err(|error| failed(&error))?)
        }
        (DataType::Map(..), DataType::Map(to, ordered)) => {
            let map = array.as_map();
            let DataType::Struct(inner) = to.data_type() else {
                return Err(SchemaError::Batch(format!("column {name:?} is no map")));
            };
            let prefix = format!("{name}.");
            let pairs =
                vec![adapt(map.keys(), &inner[0], &prefix)?, adapt(map.values(), &inner[1], &prefix)?];
            let pairs = StructArray::try_new(inner.clone(), pairs, None).map_err(|error| failed(&error))?;
            let adapted = MapArray::try_new(to.clone(), map.offsets().clone(), pairs, nulls, *ordered);
            Arc::new(adapted.map_err(|error| failed(&error))?)
        }
        (from, to) => {
            let fits = Type::from_arrow(from)
                .and_then(|from| Ok((from, Type::from_arrow(to)?)))
                .is_ok_and(|(from, to)| from == to || widen::is_wider(&from, &to));
            if !fits {
                return Err(SchemaError::Batch(format!(
                    "column {name:?} is of {from}, and the schema's of {to}"
                )));
            }
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, to, &options).map_err(|error| failed(&error))?
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array};

    use super::*;
    use crate::table::{RowDecoder, RowOptions};

    fn batch(ddl: &str, rows: &[&str]) -> RecordBatch {
        let mut decoder = RowDecoder::new(&Schema::parse(ddl).unwrap(), &RowOptions::default()).unwrap();
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for row in rows {
            bytes.extend_from_slice(row.as_bytes());
            ends.push(bytes.len() as u32);
            bytes.push(b'\n');
        }
        let decoded = decoder.decode(&bytes, &ends);
        assert_eq!(decoded.bad, []);
        decoded.batch
    }

    #[test]
    fn earlier_batches_under_a_later_schema() {
        let rows = [
            r#"{"a":1,"s":{"x":1},"l":[{"x":1},null],"m":{"k":5},"v":"x"}"#,
            r#"{"a":null,"s":null,"l":[],"m":null}"#,
            r#"{"a":3,"s":{"x":null},"l":null,"m":{}}"#,
        ];
        let early =
            "a int, s struct<x:bigint>, l array<struct<x:tinyint>>, m map<string,float>, v varchar(3)";
        let late = "n string, s struct<y:string,x:double>, a double, l array<struct<x:bigint,z:array<int>>>, \
                    m map<string,double>, v string, t struct<q:int not null>";
        let adapted = Schema::parse(late).unwrap().adapt(&batch(early, &rows)).unwrap();
        assert_eq!(adapted, batch(late, &rows));
        let sliced = Schema::parse(late).unwrap().adapt(&batch(early, &rows).slice(1, 2)).unwrap();
        assert_eq!(sliced, batch(late, &rows[1..]));
    }

    #[test]
    fn what_is_of_no_earlier_schema() {
        let early = batch("a bigint, s struct<x:int>", &[r#"{"a":1,"s":{"x":1}}"#]);
        for (late, says) in [
            ("a bigint", "\"s\" is not in the schema"),
            ("a bigint, s struct<y:int>", "\"s.x\" is not in the schema"),
            ("a int, s struct<x:int>", "\"a\" is of Int64"),
            ("a string, s struct<x:int>", "\"a\" is of Int64"),
            ("a bigint, s int", "\"s\" is of Struct"),
            ("a bigint, s struct<x:int>, b int not null", "no column \"b\""),
        ] {
            let error = Schema::parse(late).unwrap().adapt(&early).unwrap_err().to_string();
            assert!(error.contains(says), "{late}: {error}");
        }
    }

    #[test]
    fn columns_from_elsewhere() {
        let rows = batch("a int", &[r#"{"a":1}"#, r#"{"a":2}"#]);
        let column = |name: &str, array: ArrayRef| {
            (Arc::new(Field::new(name, array.data_type().clone(), false)), array)
        };
        let more = extend(&rows, vec![column("shard", Arc::new(Int64Array::from(vec![7, 8])))]).unwrap();
        assert_eq!((more.num_columns(), more.num_rows()), (2, 2));
        assert!(extend(&rows, vec![column("a", Arc::new(Int32Array::from(vec![7, 8])))]).is_err());
        assert!(extend(&rows, vec![column("b", Arc::new(Int32Array::from(vec![7])))]).is_err());
        let none = RecordBatch::new_empty(Arc::new(ArrowSchema::empty()));
        assert_eq!(extend(&none, vec![]).unwrap().num_rows(), 0);
    }
}
