use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression as Codec, Encoding, Type as Physical, ZstdLevel};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use proptest::prelude::*;

use super::super::compress::tests::bytes;
use super::super::text::tests::chunk;
use super::*;
use crate::sys::System;
use crate::table::{RowOptions, Schema};

const DDL: &str = "id bigint, name string, amount decimal(9,2), at timestamp, tags array<string>, \
    place struct<city:string,seen:timestamp>, counts map<string,int>, ok boolean, ratio double";

fn fixed(ddl: &str) -> Arc<Columns> {
    Arc::new(Columns::fixed(Schema::parse(ddl).unwrap(), RowOptions::default()).unwrap())
}

fn format(ddl: &str, options: ParquetOptions) -> ParquetFormat {
    ParquetFormat::new(options, fixed(ddl), true).unwrap()
}

fn rows(from: usize, to: usize) -> Vec<String> {
    let row = |i: usize| {
        format!(
            r#"{{"id":{i},"name":"name {}","amount":"{}.05","at":"2026-11-25T00:00:{:02}.123456Z","tags":["a","t{}"],
               "place":{{"city":"c{}","seen":"2026-01-01T00:00:00Z"}},"counts":{{"x":{i}}},"ok":{},"ratio":{}.5}}"#,
            i % 1000,
            i % 10_000,
            i % 60,
            i % 7,
            i % 3,
            i.is_multiple_of(2),
            i * 7919 % 1_000_003
        )
    };
    (from..to).map(row).collect()
}

struct Written {
    bytes: Vec<u8>,
    size: u64,
    memory: u64,
}

fn write(format: &ParquetFormat, chunks: &[Chunk], notes: &[(String, String)]) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = format.open(&Scratch::new(&System::real(), dir.path())).unwrap();
    let mut memory = 0;
    for chunk in chunks {
        let prepared = format.prepare(chunk);
        assert!(prepared.bad.is_empty(), "{:?}", prepared.bad);
        assert!(writer.append(prepared.piece).unwrap().is_none());
        memory = writer.memory().max(memory);
    }
    let size = writer.size();
    let body = writer.finish(notes).unwrap();
    Written { bytes: bytes(&body), size, memory }
}

fn chunks(rows: &[String], each: usize) -> Vec<Chunk> {
    rows.chunks(each).map(chunk).collect()
}

fn read(file: &[u8]) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.to_vec())).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

fn metadata(file: &[u8]) -> Arc<ParquetMetaData> {
    use parquet::arrow::arrow_reader::ArrowReaderOptions;
    use parquet::file::metadata::PageIndexPolicy;
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(Bytes::from(file.to_vec()), options);
    reader.unwrap().metadata().clone()
}

/// What a batch says, as JSON, so that batches of different readers can be compared.
fn json(batch: &RecordBatch) -> Vec<serde_json::Value> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    let text = String::from_utf8(writer.into_inner()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn decoded(ddl: &str, rows: &[String]) -> RecordBatch {
    convert(&fixed(ddl), &chunk(rows)).0.batch
}

#[test]
fn everything_comes_back() {
    let rows = rows(0, 3000);
    let options = ParquetOptions { row_group_rows: 1100, ..ParquetOptions::default() };
    let written =
        write(&format(DDL, options), &chunks(&rows, 170), &[("kpipe.stream".into(), "clicks".into())]);
    let batch = read(&written.bytes);
    let expected = decoded(DDL, &rows);
    assert_eq!(batch.schema().fields(), expected.schema().fields());
    assert_eq!(batch.columns(), expected.columns());
    let metadata = metadata(&written.bytes);
    let groups: Vec<i64> = metadata.row_groups().iter().map(RowGroupMetaData::num_rows).collect();
    assert_eq!(groups, [1100, 1100, 800]);
    assert_eq!(metadata.row_group(0).column(0).compression(), Codec::ZSTD(ZstdLevel::default()));
    let file = metadata.file_metadata();
    assert!(file.created_by().unwrap().starts_with("kpipe version "));
    let notes = file.key_value_metadata().unwrap();
    let note = |key: &str| notes.iter().find(|note| note.key == key).and_then(|note| note.value.clone());
    assert_eq!(note("kpipe.stream").unwrap(), "clicks");
    assert_eq!(note("kpipe.version").unwrap(), env!("CARGO_PKG_VERSION"));
    assert!(metadata.offset_index().is_some() && metadata.column_index().is_some());
    let names: Vec<String> =
        file.schema_descr().columns().iter().map(|column| column.path().string()).collect();
    assert!(names.contains(&"tags.list.element".to_owned()), "{names:?}");
    assert!(names.contains(&"counts.key_value.value".to_owned()));
    // The same records make the same object.
    let options = ParquetOptions { row_group_rows: 1100, ..ParquetOptions::default() };
    let again =
        write(&format(DDL, options), &chunks(&rows, 170), &[("kpipe.stream".into(), "clicks".into())]);
    assert!(again.bytes == written.bytes);
}

#[test]
fn an_object_of_nothing_is_a_file_too() {
    let written = write(&format(DDL, ParquetOptions::default()), &[], &[]);
    assert_eq!(read(&written.bytes).num_rows(), 0);
    assert_eq!(metadata(&written.bytes).file_metadata().schema_descr().num_columns(), 11);
    let columns = Arc::new(Columns::evolving(Schema::default(), RowOptions::default()).unwrap());
    let written = write(
        &ParquetFormat::new(ParquetOptions::default(), columns, false).unwrap(),
        &[chunk(&[""; 0])],
        &[],
    );
    assert_eq!(metadata(&written.bytes).num_row_groups(), 0);
    // A row of no columns would not be there.
    let columns = Arc::new(Columns::evolving(Schema::default(), RowOptions::default()).unwrap());
    let format = ParquetFormat::new(ParquetOptions::default(), columns, false).unwrap();
    let prepared = format.prepare(&chunk(&["{}", "x", "{}"]));
    assert_eq!((prepared.rows, prepared.bad.len()), (0, 3));
    let prepared = format.prepare(&chunk(&["{}", "{\"a\":1}"]));
    assert_eq!((prepared.rows, prepared.bad.len()), (2, 0));
}

#[test]
fn bad_rows_are_left_out() {
    let format = format("id bigint not null", ParquetOptions::default());
    let prepared = format.prepare(&chunk(&["{\"id\":1}", "{}", "{\"id\":\"x\"}", "x", "{\"id\":2}"]));
    assert_eq!(prepared.rows, 2);
    let bad: Vec<usize> = prepared.bad.iter().map(|bad| bad.row).collect();
    assert_eq!(bad, [1, 2, 3]);
    assert_eq!(prepared.bad[0].failure.error_type.name(), "format-conversion-failed");
}

#[test]
fn a_huge_row_comes_back() {
    let long = "x".repeat(20 << 20);
    let rows = [format!("{{\"s\":\"{long}\"}}"), "{\"s\":\"short\"}".to_owned()];
    let written = write(&format("s string", ParquetOptions::default()), &chunks(&rows, 1), &[]);
    let batch = read(&written.bytes);
    assert_eq!(batch.column(0).as_string::<i32>().value(0).len(), long.len());
    assert_eq!(batch.column(0).as_string::<i32>().value(1), "short");
}

#[test]
fn row_groups_have_the_size_that_was_asked_for() {
    let noise = |i: u64| {
        let mix = |n: u64| {
            i.wrapping_add(n)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(31)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        };
        format!("{{\"a\":\"{:016x}{:016x}\",\"b\":{}}}", mix(1), mix(2), mix(3) >> 1)
    };
    let rows: Vec<String> = (0..80_000).map(noise).collect();
    let options = ParquetOptions { row_group_bytes: 512 << 10, ..ParquetOptions::default() };
    let written = write(&format("a string, b bigint", options), &chunks(&rows, 1000), &[]);
    let metadata = metadata(&written.bytes);
    let sizes: Vec<i64> = metadata.row_groups().iter().map(RowGroupMetaData::compressed_size).collect();
    assert!(sizes.len() >= 3, "{sizes:?}");
    for size in &sizes[..sizes.len() - 1] {
        assert!((400_000..700_000).contains(size), "{sizes:?}");
    }
    assert_eq!(read(&written.bytes).num_rows(), rows.len());
}

#[test]
fn the_size_is_told_before_the_end() {
    for count in [1, 50, 5_000, 40_000] {
        let format = format(DDL, ParquetOptions::default());
        let rows = rows(0, count);
        // The first object of a run is told from a guess, the others from what became of those before.
        let first = write(&format, &chunks(&rows, 1000), &[]);
        let second = write(&format, &chunks(&rows, 1000), &[]);
        let off = |written: &Written| written.size as f64 / written.bytes.len() as f64;
        assert!((0.5..2.0).contains(&off(&first)), "{count} rows: {}", off(&first));
        let near = second.size.abs_diff(second.bytes.len() as u64) < 800;
        assert!(near || (0.9..1.1).contains(&off(&second)), "{count} rows: {}", off(&second));
    }
}

#[test]
fn pages_go_to_the_scratch_directory() {
    // Strings that no compression makes small: tens of megabytes in one row group.
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let words: Vec<String> =
            (0..40).map(|i| format!("{:016x}", state.rotate_left(i) ^ u64::from(i) << 32)).collect();
        format!("{{\"s\":\"{}\"}}", words.concat())
    };
    let rows: Vec<String> = (0..40_000).map(|_| noise()).collect();
    let options = ParquetOptions { compression: Some(ParquetCompression::None), ..ParquetOptions::default() };
    let written = write(&format("s string", options), &chunks(&rows, 1500), &[]);
    assert_eq!(metadata(&written.bytes).num_row_groups(), 1);
    assert!(written.bytes.len() > 24 << 20);
    // What waits, the first pages, a page in work with its dictionary, and the buffers of the body.
    assert!(written.memory < 18 << 20, "{}", written.memory);
    let batch = read(&written.bytes);
    assert_eq!(batch.columns(), decoded("s string", &rows).columns());
}

#[test]
fn rows_are_sorted_in_each_row_group() {
    let rows: Vec<String> = (0..5000_u64)
        .map(|i| match i % 10 {
            0 => format!("{{\"n\":{i}}}"),
            _ => format!("{{\"k\":\"k{}\",\"n\":{i}}}", i * 7919 % 13),
        })
        .collect();
    let sort = vec!["k:desc".parse().unwrap(), "later".parse().unwrap()];
    let options = ParquetOptions { sort, row_group_rows: 3000, ..ParquetOptions::default() };
    let format = ParquetFormat::new(options, fixed("k string, n bigint"), false).unwrap();
    let written = write(&format, &chunks(&rows, 500), &[]);
    let metadata = metadata(&written.bytes);
    assert_eq!(metadata.num_row_groups(), 2);
    let sorting = metadata.row_group(0).sorting_columns().unwrap();
    assert_eq!(
        (sorting.len(), sorting[0].column_idx, sorting[0].descending, sorting[0].nulls_first),
        (1, 0, true, false)
    );
    let batch = read(&written.bytes);
    let (keys, numbers) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
    for row in 1..batch.num_rows() {
        if row == 3000 {
            continue;
        }
        let of = |row: usize| keys.is_valid(row).then(|| keys.value(row));
        // `None` is the smallest: the largest keys come first, nulls last, and equal ones as they came.
        assert!(of(row - 1) >= of(row), "row {row}");
        assert!(of(row - 1) != of(row) || numbers.value(row - 1) < numbers.value(row), "row {row}");
    }
    let mut all: Vec<i64> = numbers.values().to_vec();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..5000));
}

#[test]
fn settings_of_columns_reach_the_file() {
    let options = ParquetOptions {
        no_dictionary: vec!["name".to_owned(), "place".to_owned()],
        bloom: vec!["id:0.001".parse().unwrap(), "place.city".parse().unwrap()],
        compression: Some("gzip:9".parse().unwrap()),
        page_index: false,
        ..ParquetOptions::default()
    };
    let written = write(&format(DDL, options), &chunks(&rows(0, 500), 100), &[]);
    let metadata = metadata(&written.bytes);
    let column = |name: &str| {
        let columns = metadata.row_group(0).columns();
        columns.iter().find(|column| column.column_path().string() == name).unwrap()
    };
    let has_dictionary = |name| column(name).dictionary_page_offset().is_some();
    assert!(has_dictionary("tags.list.element") && !has_dictionary("name") && !has_dictionary("place.city"));
    assert!(
        column("id").bloom_filter_offset().is_some() && column("place.city").bloom_filter_offset().is_some()
    );
    assert!(column("name").bloom_filter_offset().is_none());
    assert!(matches!(column("id").compression(), Codec::GZIP(_)));
    assert!(column("id").statistics().is_some());
    assert!(metadata.offset_index().is_none());

    let options = ParquetOptions { statistics: false, dictionary: false, ..ParquetOptions::default() };
    let written = write(&format("name string", options), &chunks(&rows(0, 50), 100), &[]);
    let metadata = super::tests::metadata(&written.bytes);
    assert!(metadata.row_group(0).column(0).statistics().is_none());
    assert!(metadata.row_group(0).column(0).dictionary_page_offset().is_none());
}

#[test]
fn old_readers_get_what_they_know() {
    let rows = rows(0, 2000);
    let mut rows_and_nulls = rows.clone();
    rows_and_nulls.push("{}".to_owned());
    rows_and_nulls.push("{\"at\":\"1600-02-29T23:59:59.999999Z\",\"amount\":\"-1.5\"}".to_owned());
    let options = ParquetOptions { compat: true, ..ParquetOptions::default() };
    let written = write(&format(DDL, options), &chunks(&rows_and_nulls, 300), &[]);
    let metadata = metadata(&written.bytes);
    let schema = metadata.file_metadata().schema_descr();
    let physical = |name: &str| {
        schema.columns().iter().find(|column| column.path().string() == name).unwrap().physical_type()
    };
    assert_eq!(physical("at"), Physical::INT96);
    assert_eq!(physical("amount"), Physical::FIXED_LEN_BYTE_ARRAY);
    assert_eq!(physical("place.seen"), Physical::INT64);
    for column in metadata.row_group(0).columns() {
        assert_eq!(column.compression(), Codec::SNAPPY);
        for encoding in column.encodings() {
            let known = matches!(encoding, Encoding::PLAIN | Encoding::RLE | Encoding::RLE_DICTIONARY);
            assert!(known, "{encoding}");
        }
    }
    let notes = metadata.file_metadata().key_value_metadata().unwrap();
    assert!(notes.iter().all(|note| note.key != "ARROW:schema"));
    assert_eq!(metadata.file_metadata().version(), 1);
    // INT96 is read as nanoseconds without a zone.
    let batch = read(&written.bytes);
    let expected = decoded(DDL, &rows_and_nulls);
    let at = |batch: &RecordBatch| {
        let kind = DataType::Timestamp(TimeUnit::Microsecond, None);
        let column = arrow::compute::cast(batch.column_by_name("at").unwrap(), &kind).unwrap();
        column.slice(0, rows.len() + 1)
    };
    assert_eq!(&at(&batch), &at(&expected));
    let amounts = |batch: &RecordBatch| batch.column_by_name("amount").unwrap().clone();
    assert_eq!(&amounts(&batch), &amounts(&expected));
    assert_eq!(json(&batch)[7]["place"], json(&expected)[7]["place"]);
    let refused = ParquetOptions {
        compression: Some(ParquetCompression::Lz4Raw),
        compat: true,
        ..ParquetOptions::default()
    };
    assert!(ParquetFormat::new(refused, fixed(DDL), true).err().unwrap().contains("snappy"));
}

#[test]
fn five_hundred_open_objects_are_small() {
    let dir = tempfile::tempdir().unwrap();
    let scratch = Scratch::new(&System::real(), dir.path());
    let format = format(DDL, ParquetOptions::default());
    let mut writers: Vec<_> = (0..500).map(|_| format.open(&scratch).unwrap()).collect();
    let mut input = 0;
    for i in 0..20 {
        let chunk = chunk(&rows(i * 3, i * 3 + 3));
        for writer in &mut writers {
            writer.append(format.prepare(&chunk).piece).unwrap();
            input += chunk.bytes.len() as u64;
        }
    }
    let memory: u64 = writers.iter().map(|writer| writer.memory()).sum();
    assert!(memory < input * 3 && memory < 64 << 20, "{memory} of {input}");
    for writer in &mut writers {
        writer.shrink().unwrap();
        assert_eq!(writer.memory(), 0);
    }
    let first = bytes(&writers.remove(0).finish(&[]).unwrap());
    assert_eq!(read(&first).num_rows(), 60);
}

#[test]
fn columns_that_come_later_begin_an_object_once_rows_are_encoded() {
    let dir = tempfile::tempdir().unwrap();
    let scratch = Scratch::new(&System::real(), dir.path());
    let columns = || Arc::new(Columns::evolving(Schema::default(), RowOptions::default()).unwrap());
    let chunks = [
        chunk(&["{\"a\":1}"]),
        chunk(&["{\"a\":2,\"b\":\"x\"}"]),
        chunk(&["{\"a\":2.5}"]),
        chunk(&["{\"b\":\"y\"}"]),
    ];
    let expected: Vec<serde_json::Value> =
        ["{\"a\":1.0}", "{\"a\":2.0,\"b\":\"x\"}", "{\"a\":2.5}", "{\"b\":\"y\"}"]
            .map(|row| serde_json::from_str(row).unwrap())
            .into();

    // While rows wait, they are given the columns of those that come.
    let format = ParquetFormat::new(ParquetOptions::default(), columns(), false).unwrap();
    let written = write(&format, &chunks, &[]);
    assert_eq!(json(&read(&written.bytes)), expected);

    // Rows that were read before the columns came fit in where they are known.
    let format = ParquetFormat::new(ParquetOptions::default(), columns(), false).unwrap();
    let mut writer = format.open(&scratch).unwrap();
    for prepared in chunks.iter().map(|chunk| format.prepare(chunk)).collect::<Vec<_>>().into_iter().rev() {
        assert!(writer.append(prepared.piece).unwrap().is_none());
        writer.shrink().unwrap();
    }
    let mut rows = json(&read(&bytes(&writer.finish(&[]).unwrap())));
    rows.reverse();
    assert_eq!(rows, expected);

    // What was encoded stays what it is.
    let format = ParquetFormat::new(ParquetOptions::default(), columns(), false).unwrap();
    let (mut writer, mut files) = (format.open(&scratch).unwrap(), Vec::new());
    for prepared in chunks.iter().map(|chunk| format.prepare(chunk)) {
        if let Some(piece) = writer.append(prepared.piece).unwrap() {
            let full = std::mem::replace(&mut writer, format.open(&scratch).unwrap());
            files.push(read(&bytes(&full.finish(&[]).unwrap())));
            assert!(writer.append(piece).unwrap().is_none());
        }
        writer.shrink().unwrap();
    }
    files.push(read(&bytes(&writer.finish(&[]).unwrap())));
    assert_eq!(files.len(), 3);
    let rows: Vec<i64> = files.iter().map(|file| file.num_rows() as i64).collect();
    assert_eq!(rows, [1, 1, 2]);
    assert_eq!(format.columns().unwrap().schema().to_ddl(), "a double, b string");
}

#[test]
fn options_as_text() {
    for (text, compression) in [
        ("zstd", ParquetCompression::Zstd(1)),
        ("gzip:9", ParquetCompression::Gzip(9)),
        ("lz4_raw", ParquetCompression::Lz4Raw),
    ] {
        assert_eq!(text.parse(), Ok(compression));
        assert_eq!(compression.to_string().parse(), Ok(compression));
    }
    for (text, word) in [("brotli", "none, snappy"), ("zstd:0", "1 to 22"), ("snappy:1", "no levels")] {
        assert!(text.parse::<ParquetCompression>().unwrap_err().contains(word));
    }
    assert_eq!("a:b:0.5".parse(), Ok(BloomColumn { column: "a:b".into(), fpp: 0.5 }));
    for wrong in ["a:1", "a:x", "", ":0.1"] {
        wrong.parse::<BloomColumn>().unwrap_err();
    }
    assert_eq!("a.b:desc".parse(), Ok(SortColumn { column: "a.b".into(), descending: true }));
    for wrong in ["a:down", "", ":asc"] {
        wrong.parse::<SortColumn>().unwrap_err();
    }
    let check = |options: ParquetOptions| options.check().unwrap_err();
    assert!(check(ParquetOptions { row_group_bytes: 1, ..ParquetOptions::default() }).contains("row group"));
    assert!(check(ParquetOptions { row_group_rows: 0, ..ParquetOptions::default() }).contains("row"));
    assert!(check(ParquetOptions { page_bytes: 10, ..ParquetOptions::default() }).contains("page"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_in_any_chunks_come_back(
        rows in prop::collection::vec(
            (prop::option::of(any::<i64>()), prop::option::of(".{0,8}"), prop::collection::vec(any::<i32>(), 0..3), prop::option::of(any::<f64>().prop_filter("JSON", |f| f.is_finite()))),
            1..200,
        ),
        each in 1_usize..60,
        row_group_rows in 1_usize..90,
        shrink: bool,
        sorted: bool,
        compat: bool,
    ) {
        let payloads: Vec<String> = rows.iter()
            .map(|(i, s, l, f)| serde_json::json!({"i": i, "s": s, "l": l, "f": f}).to_string()).collect();
        let ddl = "i bigint, s string, l array<int>, f double";
        let sort = if sorted { vec!["i".parse().unwrap()] } else { Vec::new() };
        let format = format(ddl, ParquetOptions { row_group_rows, sort, compat, ..ParquetOptions::default() });
        let dir = tempfile::tempdir().unwrap();
        let mut writer = format.open(&Scratch::new(&System::real(), dir.path())).unwrap();
        for chunk in chunks(&payloads, each) {
            let prepared = format.prepare(&chunk);
            prop_assert!(prepared.bad.is_empty());
            prop_assert!(writer.append(prepared.piece).unwrap().is_none());
            if shrink {
                writer.shrink().unwrap();
            }
        }
        let file = bytes(&writer.finish(&[]).unwrap());
        let (mut got, mut expected) = (json(&read(&file)), json(&decoded(ddl, &payloads)));
        if sorted {
            got.sort_by_key(ToString::to_string);
            expected.sort_by_key(ToString::to_string);
        }
        prop_assert_eq!(got, expected);
    }
}
