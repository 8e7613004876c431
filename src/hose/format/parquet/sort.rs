//! The rows of a row group in the order that was asked for.

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn as Key, SortOptions, concat, interleave_record_batch, lexsort_to_indices};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::SortColumn;

/// Rows of the batches that come out.
const ROWS: usize = 8192;

/// The batches sorted; rows that are equal stay in their order. Columns that are not there yet, or that have no order,
/// are as if all their values were equal.
pub(super) fn sort(batches: &[RecordBatch], by: &[SortColumn]) -> Result<Vec<RecordBatch>, ArrowError> {
    let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(Vec::new()) };
    let mut keys = Vec::new();
    for sort in by {
        let Ok(column) = schema.index_of(&sort.column) else { break };
        let kind = schema.field(column).data_type();
        if matches!(kind, DataType::List(_) | DataType::Struct(_) | DataType::Map(..)) {
            break;
        }
        let parts: Vec<&dyn arrow::array::Array> =
            batches.iter().map(|batch| batch.column(column).as_ref()).collect();
        let options = Some(SortOptions { descending: sort.descending, nulls_first: false });
        keys.push(Key { values: concat(&parts)?, options });
    }
    if keys.is_empty() {
        return Ok(batches.to_vec());
    }
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let numbers: ArrayRef = std::sync::Arc::new(UInt32Array::from_iter_values(0..rows as u32));
    keys.push(Key { values: numbers, options: None });
    let order = lexsort_to_indices(&keys, None)?;
    drop(keys);
    let places: Vec<(usize, usize)> = batches
        .iter()
        .enumerate()
        .flat_map(|(number, batch)| (0..batch.num_rows()).map(move |row| (number, row)))
        .collect();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    let order: Vec<(usize, usize)> = order.values().iter().map(|row| places[*row as usize]).collect();
    order.chunks(ROWS).map(|part| interleave_record_batch(&batches, part)).collect()
}
