//! The rows of a row group in the order that was asked for.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn as Key, SortOptions, concat, interleave_record_batch, lexsort_to_indices};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::SortColumn;

/// Rows of the batches that come out.
const ROWS: usize = 8192;

/// Batches, and the order of their rows.
pub(super) struct Sorted {
    batches: Vec<RecordBatch>,
    /// The number of the first row of each batch.
    firsts: Vec<usize>,
    /// `None`: as they are.
    order: Option<UInt32Array>,
}

impl Sorted {
    /// Rows that are equal stay in their order. Columns that are not there yet, or that have no order, are as if all
    /// their values were equal.
    pub(super) fn new(batches: Vec<RecordBatch>, by: &[SortColumn]) -> Result<Self, ArrowError> {
        let mut keys = Vec::new();
        for sort in by {
            let Some(schema) = batches.first().map(RecordBatch::schema) else { break };
            let Ok(column) = schema.index_of(&sort.column) else { break };
            let kind = schema.field(column).data_type();
            if matches!(kind, DataType::List(_) | DataType::Struct(_) | DataType::Map(..)) {
                break;
            }
            let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            let options = Some(SortOptions { descending: sort.descending, nulls_first: false });
            keys.push(Key { values: concat(&parts)?, options });
        }
        let (mut firsts, mut rows) = (Vec::with_capacity(batches.len()), 0);
        for batch in &batches {
            firsts.push(rows);
            rows += batch.num_rows();
        }
        let order = if keys.is_empty() {
            None
        } else {
            let numbers: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..rows as u32));
            keys.push(Key { values: numbers, options: None });
            Some(lexsort_to_indices(&keys, None)?)
        };
        Ok(Self { batches, firsts, order })
    }

    /// The rows in their order, made as they are taken: a row group is not there twice.
    pub(super) fn parts(&self) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> {
        let as_they_are = if self.order.is_none() { self.batches.as_slice() } else { &[] };
        let order = self.order.as_ref().map_or(&[][..], |order| order.values());
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let sorted = order.chunks(ROWS).map(move |part| {
            let places: Vec<(usize, usize)> = part.iter().map(|row| self.place(*row as usize)).collect();
            interleave_record_batch(&batches, &places)
        });
        as_they_are.iter().cloned().map(Ok).chain(sorted)
    }

    fn place(&self, row: usize) -> (usize, usize) {
        let batch = self.firsts.partition_point(|first| *first <= row) - 1;
        (batch, row - self.firsts[batch])
    }
}
