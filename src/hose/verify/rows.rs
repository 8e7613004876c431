//! How many rows an object has, from the object itself.

use std::io::{self, Read};
use std::sync::Arc;

use parquet::file::metadata::{FooterTail, ParquetMetaDataReader};

use crate::hose::courier::Runtime;
use crate::hose::format::compress::Compression;
use crate::hose::format::spec::FormatName;
use crate::hose::store::Store;
use crate::hose::unpack::{ObjectReader, unpacked};

/// Footers of Parquet are a few kilobytes, and with many row groups some megabytes: most come with the first request.
const TAIL_BYTES: u64 = 64 << 10;
/// Text is looked through in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// How objects are laid out.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The format.
    pub format: FormatName,
    /// How the whole is compressed.
    pub compression: Compression,
    /// Whether CSV begins with the names of the columns.
    pub has_header: bool,
    /// Whether CSV has backslashes instead of quotes.
    pub has_backslashes: bool,
}

/// What was found in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// So many rows.
    Exactly(u64),
    /// So many lines: a record may have several, and has one at least.
    Lines(u64),
    /// Rows of this format cannot be told apart.
    Unknown,
}

/// Counts the rows of an object.
///
/// # Errors
/// Where the store would not, or where the object is damaged: see [`crate::hose::unpack::store_error`].
pub fn count(
    runtime: &Arc<Runtime>,
    store: &Arc<dyn Store>,
    name: &str,
    size: u64,
    layout: &Layout,
) -> io::Result<Rows> {
    let object = ObjectReader::new(runtime, store, name, size);
    let text = |object| unpacked(object, layout.compression);
    Ok(match layout.format {
        FormatName::Raw => Rows::Unknown,
        FormatName::Parquet => Rows::Exactly(runtime.block_on(parquet_rows(store.as_ref(), name, size))?),
        FormatName::Arrow => {
            // Of no column: the batches' own lengths are all that is asked for.
            let batches = arrow::ipc::reader::FileReader::try_new(object, Some(Vec::new()));
            Rows::Exactly(sum(batches.map_err(damaged)?)?)
        }
        FormatName::ArrowStream => {
            let batches = arrow::ipc::reader::StreamReader::try_new(object, Some(Vec::new()));
            Rows::Exactly(sum(batches.map_err(damaged)?)?)
        }
        FormatName::Lines | FormatName::Ndjson => Rows::Lines(lines(text(object)?, Quotes::None)?),
        FormatName::Csv | FormatName::Tsv => {
            let quotes = if layout.has_backslashes { Quotes::Backslash } else { Quotes::Double };
            let rows = lines(text(object)?, quotes)?;
            Rows::Exactly(rows.saturating_sub(u64::from(layout.has_header)))
        }
    })
}

fn sum(
    batches: impl Iterator<Item = Result<arrow::array::RecordBatch, arrow::error::ArrowError>>,
) -> io::Result<u64> {
    batches.map(|batch| batch.map(|batch| batch.num_rows() as u64).map_err(damaged)).sum()
}

/// What a store said passes through the readers of formats as it is.
fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    let error = error.into();
    match error.downcast::<arrow::error::ArrowError>().map(|error| *error) {
        Ok(arrow::error::ArrowError::IoError(_, error)) => error,
        Ok(error) => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        Err(error) => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}

/// Counts the rows of a Parquet file by its footer.
///
/// # Errors
/// As [`count`].
pub async fn parquet_rows(store: &dyn Store, name: &str, size: u64) -> io::Result<u64> {
    let cut = || io::Error::new(io::ErrorKind::InvalidData, "too short for a Parquet file");
    if size == 0 {
        return Err(cut());
    }
    let tail_at = size.saturating_sub(TAIL_BYTES);
    let mut tail = store.get_range(name, tail_at..size).await.map_err(io::Error::other)?;
    let end: [u8; 8] = *tail.last_chunk().ok_or_else(cut)?;
    let footer = FooterTail::try_new(&end).map_err(damaged)?;
    let len = footer.metadata_length() as u64 + end.len() as u64;
    if len > size {
        return Err(cut());
    }
    if len > tail.len() as u64 {
        tail = store.get_range(name, size - len..size).await.map_err(io::Error::other)?;
    }
    let start = tail.len().checked_sub(len as usize).ok_or_else(cut)?;
    let metadata = ParquetMetaDataReader::decode_metadata(&tail[start..tail.len() - end.len()]);
    u64::try_from(metadata.map_err(damaged)?.file_metadata().num_rows()).map_err(|_| cut())
}

/// What keeps the end of a line from being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    /// It stands between double quotes.
    Double,
    /// It stands behind a backslash.
    Backslash,
}

fn lines(mut text: impl Read, quotes: Quotes) -> io::Result<u64> {
    let mut piece = vec![0; PIECE_BYTES];
    let (mut lines, mut quoted, mut last) = (0, false, b'\n');
    loop {
        let count = match text.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = &piece[..count];
        last = piece[count - 1];
        if quotes == Quotes::None {
            lines += memchr::memchr_iter(b'\n', piece).count() as u64;
            continue;
        }
        let quote = if quotes == Quotes::Double { b'"' } else { b'\\' };
        for &byte in piece {
            if quoted && quotes == Quotes::Backslash {
                quoted = false;
            } else if byte == quote {
                quoted = !quoted;
            } else if byte == b'\n' && !quoted {
                lines += 1;
            }
        }
    }
    // What stands behind the last end of a line is a line that was cut short.
    Ok(lines + u64::from(last != b'\n'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hose::chunk::{Chunk, Origin};
    use crate::hose::format::body::Scratch;
    use crate::hose::format::spec::{ColumnSource, FormatSpec, open_format};
    use crate::hose::store::local::LocalStore;
    use crate::hose::store::{Attributes, PutMode};
    use crate::record::ShardId;
    use crate::sys::System;
    use crate::table::{RowOptions, Schema};

    #[test]
    fn every_format_and_compression_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::new(&System::real(), &dir.path().join("store")));
        let scratch = Scratch::new(&System::real(), dir.path());
        let runtime = Arc::new(Runtime::new().unwrap());
        for (format, compression) in [
            ("ndjson", None),
            ("ndjson", Some("gzip")),
            ("lines", Some("zstd")),
            ("csv", None),
            ("csv", Some("gzip")),
            ("csv", Some("zip")),
            ("tsv", Some("hadoop-snappy")),
            ("tsv", Some("snappy")),
            ("csv", Some("lz4")),
            ("parquet", None),
            ("arrow", None),
            ("arrow", Some("zstd")),
            ("arrow-stream", Some("lz4")),
            ("raw", None),
        ] {
            let name = format!("{format}.{compression:?}");
            let mut spec = FormatSpec::new(format.parse().unwrap());
            spec.compression = compression.map(str::to_owned);
            let schema = Schema::parse("a bigint, s string").unwrap();
            let opened = open_format(&spec, ColumnSource::Fixed(schema), RowOptions::default()).unwrap();
            let mut writer = opened.open(&scratch).unwrap();
            let mut rows = 0;
            for first in [0, 3000, 6000] {
                let mut chunk = Chunk::default();
                for index in first..first + 2500 {
                    let origin =
                        Origin { shard: ShardId(0), shard_created_s: 0, index, sub: None, arrival_us: 0 };
                    let payload =
                        format!("{{\"a\":{index},\"s\":\"two\\nlines, \\\"{}\\\"\"}}", "y".repeat(50));
                    chunk.push(origin, payload.as_bytes());
                    rows += 1;
                }
                assert!(writer.append(opened.prepare(&chunk).piece).unwrap().is_none());
            }
            let body = writer.finish(&[]).unwrap();
            runtime.block_on(store.put(&name, &body, PutMode::Overwrite, &Attributes::default())).unwrap();
            let layout = Layout {
                format: spec.format,
                compression: match format {
                    "arrow" | "arrow-stream" => Compression::None,
                    _ => compression.map_or(Compression::None, |text| text.parse().unwrap()),
                },
                has_header: true,
                has_backslashes: false,
            };
            let found = count(&runtime, &store, &name, body.len(), &layout).unwrap();
            let expected = match format {
                "raw" => Rows::Unknown,
                "ndjson" | "lines" => Rows::Lines(rows),
                _ => Rows::Exactly(rows),
            };
            assert_eq!(found, expected, "{name}");
            if format != "raw" {
                let cut = count(&runtime, &store, &name, body.len() / 3, &layout);
                assert!(cut.is_err() || cut.unwrap() != expected, "{name}");
            }
        }
        let layout = |format| Layout {
            format,
            compression: Compression::None,
            has_header: true,
            has_backslashes: false,
        };
        let gone = count(&runtime, &store, "gone", 10, &layout(FormatName::Arrow)).unwrap_err();
        assert!(crate::hose::unpack::store_error(&gone).is_some(), "{gone}");
    }

    proptest! {
        #[test]
        fn csv_rows_are_those_that_readers_see(
            rows in prop::collection::vec(prop::collection::vec("[a\",\n]{0,5}", 2), 0..20),
        ) {
            let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let text = writer.into_inner().unwrap();
            prop_assert_eq!(lines(&text[..], Quotes::Double).unwrap(), rows.len() as u64);
        }
    }

    #[test]
    fn backslashes_keep_lines_together() {
        assert_eq!(lines(&b"a,b\\\nc\nd\\\\,\ne"[..], Quotes::Backslash).unwrap(), 3);
        assert_eq!(lines(&b""[..], Quotes::Double).unwrap(), 0);
    }
}
