use std::io::Cursor;

use arrow::ipc::reader::{FileReader, StreamReader};

use super::super::compress::tests::bytes;
use super::super::text::tests::chunk;
use super::*;
use crate::sys::System;
use crate::table::{RowOptions, Schema};

const DDL: &str = "id bigint, name string, tags array<string>, at timestamp";

fn fixed() -> Arc<Columns> {
    Arc::new(Columns::fixed(Schema::parse(DDL).unwrap(), RowOptions::default()).unwrap())
}

fn rows(from: usize, to: usize) -> Vec<String> {
    let row = |i| {
        format!(
            "{{\"id\":{i},\"name\":\"the name is n{:060}\",\"tags\":[\"a\"],\"at\":\"2026-11-25T00:00:00Z\"}}",
            i % 100
        )
    };
    (from..to).map(row).collect()
}

fn write(format: &ArrowFormat, chunks: &[Chunk]) -> (Vec<u8>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = format.open(&Scratch::new(&System::real(), dir.path())).unwrap();
    for chunk in chunks {
        let prepared = format.prepare(chunk);
        assert!(prepared.bad.is_empty());
        assert!(writer.append(prepared.piece).unwrap().is_none());
    }
    let size = writer.size();
    (bytes(&writer.finish(&[("kpipe.stream".into(), "clicks".into())]).unwrap()), size)
}

fn read(file: &[u8], stream: bool) -> Vec<RecordBatch> {
    let file = Cursor::new(file.to_vec());
    if stream {
        StreamReader::try_new(file, None).unwrap().map(Result::unwrap).collect()
    } else {
        FileReader::try_new(file, None).unwrap().map(Result::unwrap).collect()
    }
}

#[test]
fn everything_comes_back() {
    let rows = rows(0, 8_000);
    let chunks: Vec<Chunk> = rows.chunks(300).map(chunk).collect();
    let expected = convert(&fixed(), &chunk(&rows)).0.batch;
    for compression in [ArrowCompression::None, ArrowCompression::Lz4, ArrowCompression::Zstd(1)] {
        for stream in [false, true] {
            let format = ArrowFormat::new(ArrowOptions { compression, stream }, fixed());
            let (file, _) = write(&format, &chunks);
            let batches = read(&file, stream);
            assert!(batches.len() > 1 && batches[0].num_rows() > 900);
            assert!(concat_batches(expected.schema_ref(), &batches).unwrap() == expected);
            let (again, size) = write(&format, &chunks);
            assert!(again == file, "the same records make the same object");
            assert!((size as f64 / file.len() as f64 - 1.0).abs() < 0.1, "{size} {}", file.len());
        }
    }
}

#[test]
fn notes_stand_in_the_footer() {
    let (file, _) = write(&ArrowFormat::new(ArrowOptions::default(), fixed()), &[chunk(&rows(0, 3))]);
    let reader = FileReader::try_new(Cursor::new(file), None).unwrap();
    let notes: serde_json::Value = serde_json::from_str(&reader.custom_metadata()["kpipe"]).unwrap();
    assert_eq!(notes, serde_json::json!({"kpipe.stream": "clicks", "version": env!("CARGO_PKG_VERSION")}));
}

#[test]
fn an_object_of_nothing_has_its_columns() {
    for stream in [false, true] {
        let options = ArrowOptions { stream, ..ArrowOptions::default() };
        let (file, _) = write(&ArrowFormat::new(options, fixed()), &[]);
        assert!(read(&file, stream).is_empty());
        assert_eq!(FileReader::try_new(Cursor::new(file), None).is_ok(), !stream);
    }
}

#[test]
fn memory_is_given_back_and_columns_may_come() {
    let columns = Arc::new(Columns::evolving(Schema::default(), RowOptions::default()).unwrap());
    let format = ArrowFormat::new(ArrowOptions::default(), columns);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = format.open(&Scratch::new(&System::real(), dir.path())).unwrap();
    writer.append(format.prepare(&chunk(&["{\"a\":1}"])).piece).unwrap();
    assert!(writer.append(format.prepare(&chunk(&["{\"b\":true}"])).piece).unwrap().is_none());
    assert!(writer.memory() > 0);
    writer.shrink().unwrap();
    assert_eq!(writer.memory(), 0);
    let piece = writer.append(format.prepare(&chunk(&["{\"c\":1}"])).piece).unwrap();
    assert!(piece.is_some(), "what was written has no such column");
    let first = read(&bytes(&writer.finish(&[]).unwrap()), false);
    assert_eq!((first[0].num_rows(), first[0].num_columns()), (2, 2));
}
