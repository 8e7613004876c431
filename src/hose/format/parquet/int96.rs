//! Timestamps as INT96: the day of the Julian calendar and the nanosecond of that day.
//!
//! The Arrow writer has no such columns, so that this encodes one by the writer below it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use bytes::Bytes;
use parquet::column::page::{CompressedPage, PageWriteSpec, PageWriter};
use parquet::column::writer::{ColumnCloseResult, ColumnWriter, get_column_writer};
use parquet::data_type::Int96;
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

/// The Julian day of 1970-01-01.
const EPOCH_DAY: i64 = 2_440_588;
const DAY_SECONDS: i64 = 86_400;

type Sink = Arc<Mutex<TrackedWrite<Vec<u8>>>>;

/// One column of a row group.
pub(super) struct Int96Column {
    writer: ColumnWriter<'static>,
    sink: Sink,
    is_nullable: bool,
    /// Bytes of values since a page was finished.
    open: u64,
}

/// Its pages, and what is to be said of them.
pub(super) struct Int96Chunk {
    pub(super) bytes: Bytes,
    pub(super) close: ColumnCloseResult,
}

struct Pages(Sink);

impl PageWriter for Pages {
    fn write_page(&mut self, page: CompressedPage) -> Result<PageWriteSpec> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        SerializedPageWriter::new(&mut sink).write_page(page)
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Int96Column {
    pub(super) fn new(column: &ColumnDescPtr, properties: &WriterPropertiesPtr) -> Self {
        let sink: Sink = Arc::new(Mutex::new(TrackedWrite::new(Vec::new())));
        let writer = get_column_writer(column.clone(), properties.clone(), Box::new(Pages(sink.clone())));
        Self { writer, sink, is_nullable: column.max_def_level() > 0, open: 0 }
    }

    pub(super) fn write(&mut self, array: &ArrayRef) -> Result<()> {
        let (values, per_second) = parts(array)?;
        let is_valid = |row: &usize| array.is_valid(*row);
        let values: Vec<Int96> =
            (0..array.len()).filter(is_valid).map(|row| int96(values[row], per_second)).collect();
        let levels: Option<Vec<i16>> =
            self.is_nullable.then(|| (0..array.len()).map(|row| i16::from(array.is_valid(row))).collect());
        let done = self.done();
        let ColumnWriter::Int96ColumnWriter(writer) = &mut self.writer else {
            return Err(ParquetError::General("not a column of INT96".to_owned()));
        };
        writer.write_batch(&values, levels.as_deref(), None)?;
        let kept = if self.done() > done { 0 } else { self.open };
        self.open = kept + values.len() as u64 * 12;
        Ok(())
    }

    fn done(&self) -> u64 {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner).bytes_written() as u64
    }

    /// Bytes of finished pages, and of those in work.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.done(), self.open)
    }

    pub(super) fn close(self) -> Result<Int96Chunk> {
        let close = self.writer.close()?;
        let sink =
            Arc::into_inner(self.sink).ok_or_else(|| ParquetError::General("pages in use".to_owned()))?;
        let bytes = sink.into_inner().unwrap_or_else(PoisonError::into_inner).into_inner()?;
        Ok(Int96Chunk { bytes: bytes.into(), close })
    }
}

/// The values of a column of timestamps, and how many of them are a second.
fn parts(array: &ArrayRef) -> Result<(&[i64], i64)> {
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => (array.as_primitive::<TimestampSecondType>().values(), 1),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            (array.as_primitive::<TimestampMillisecondType>().values(), 1_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            (array.as_primitive::<TimestampMicrosecondType>().values(), 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            (array.as_primitive::<TimestampNanosecondType>().values(), 1_000_000_000)
        }
        other => return Err(ParquetError::from(io::Error::other(format!("{other} is no timestamp")))),
    })
}

fn int96(value: i64, per_second: i64) -> Int96 {
    let per_day = DAY_SECONDS * per_second;
    let day = value.div_euclid(per_day) + EPOCH_DAY;
    let nanos = value.rem_euclid(per_day) as u64 * (1_000_000_000 / per_second as u64);
    let mut int96 = Int96::new();
    int96.set_data(nanos as u32, (nanos >> 32) as u32, day as u32);
    int96
}
