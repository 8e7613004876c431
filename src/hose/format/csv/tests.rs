use std::io::Read as _;

use arrow::array::{Array, Int64Array, StringArray, TimestampNanosecondArray, UInt8Array};
use arrow::datatypes::{DataType, Field};
use proptest::prelude::*;

use super::super::compress::tests::{ALL, bytes, unpack};
use super::super::text::tests::chunk;
use super::*;
use crate::sys::System;
use crate::table::RowOptions;

fn columns(ddl: &str) -> Arc<Columns> {
    Arc::new(Columns::fixed(Schema::parse(ddl).unwrap(), RowOptions::default()).unwrap())
}

fn format(ddl: &str, options: CsvOptions, compression: Compression) -> CsvFormat {
    CsvFormat::new(options, compression, columns(ddl)).unwrap()
}

/// The objects that these chunks become, and the bad rows.
fn objects(format: &CsvFormat, chunks: &[Chunk]) -> (Vec<String>, Vec<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let scratch = Scratch::new(&System::real(), dir.path());
    let (mut out, mut bad) = (Vec::new(), Vec::new());
    let mut writer = format.open(&scratch).unwrap();
    let mut finish = |writer: Box<dyn ObjectWriter>| {
        let plain = unpack(format.shared.compression, &bytes(&writer.finish(&[]).unwrap()));
        out.push(String::from_utf8(plain).unwrap());
    };
    for prepared in chunks.iter().map(|chunk| format.prepare(chunk)) {
        bad.extend(prepared.bad.iter().map(|row| row.row));
        if let Some(piece) = writer.append(prepared.piece).unwrap() {
            finish(std::mem::replace(&mut writer, format.open(&scratch).unwrap()));
            assert!(writer.append(piece).unwrap().is_none(), "a new object takes what it is given");
        }
    }
    finish(writer);
    (out, bad)
}

fn csv(ddl: &str, options: CsvOptions, rows: &[&str]) -> String {
    let (mut objects, bad) = objects(&format(ddl, options, Compression::None), &[chunk(rows)]);
    assert!(bad.is_empty(), "{bad:?}");
    objects.remove(0)
}

#[test]
fn each_type_has_its_text() {
    let ddl = "b boolean, i tinyint, l bigint, f float, d double, n decimal(9,2), s string, x binary, day date, \
        at timestamp, ntz timestamp_ntz(3), a array<bigint>, o struct<p:string,q:timestamp>, m map<string,double>";
    let rows = [
        r#"{"b":true,"i":-7,"l":-9223372036854775808,"f":0.1,"d":1e300,"n":"-0.05","s":"é","x":"AAH/","day":"2024-02-29",
            "at":"2026-11-25T01:02:03.25Z","ntz":"1969-12-31T23:59:59.999","a":[1,null],"o":{"p":"a\"b","q":"2026-01-01T00:00:00Z"},"m":{"k":1.5}}"#,
        "{}",
        r#"{"d":3,"n":12345.6,"at":"1600-03-01T00:00:00.000001Z","day":"0001-01-01","a":[]}"#,
    ];
    let options = CsvOptions { header: false, ..CsvOptions::default() };
    let text = csv(ddl, options, &rows);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "true,-7,-9223372036854775808,0.1,1e+300,-0.05,é,AAH/,2024-02-29,2026-11-25T01:02:03.250Z,\
         1969-12-31T23:59:59.999,\"[1,null]\",\"{\"\"p\"\":\"\"a\\\"\"b\"\",\"\"q\"\":\"\"2026-01-01T00:00:00Z\"\"}\",\
         \"{\"\"k\"\":1.5}\""
    );
    assert_eq!(lines[1], ",,,,,,,,,,,,,");
    assert_eq!(lines[2], ",,,,3.0,12345.60,,,0001-01-01,1600-03-01T00:00:00.000001Z,,[],,");
}

#[test]
fn what_a_schema_has_no_word_for_is_written_too() {
    let nanos = TimestampNanosecondArray::from(vec![1_234_567_891]).with_timezone("UTC");
    let odd = Arc::new(UInt8Array::from(vec![200]));
    let fields =
        vec![Field::new("at", nanos.data_type().clone(), true), Field::new("n", DataType::UInt8, true)];
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let batch = arrow::array::RecordBatch::try_new(schema, vec![Arc::new(nanos), odd]).unwrap();
    let options = CsvOptions::default();
    let mut out = Vec::new();
    Writer::new(&options, &batch).unwrap().row(0, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "1970-01-01T00:00:01.234567891Z,200\n");
}

#[test]
fn dates_agree_with_another_calendar() {
    for day in (-800_000..800_000).step_by(373) {
        let mut out = Vec::new();
        field::date(day, &mut out);
        let expected = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(day)).unwrap();
        if expected.year() >= 0 {
            assert_eq!(String::from_utf8(out).unwrap(), expected.to_string());
        }
    }
}

#[test]
fn quotes_by_style() {
    let rows =
        [r#"{"s":"a,b","n":1,"t":"x"}"#, r#"{"s":"","n":null,"t":"say \"hi\"\n"}"#, r#"{"t":"\\N\\"}"#];
    let ddl = "s string, n int, t string";
    let of = |quote, null: &str| {
        csv(ddl, CsvOptions { quote, null: null.to_owned(), ..CsvOptions::default() }, &rows)
    };
    assert_eq!(of(QuoteStyle::Necessary, ""), "s,n,t\n\"a,b\",1,x\n\"\",,\"say \"\"hi\"\"\n\"\n,,\\N\\\n");
    assert_eq!(
        of(QuoteStyle::Always, ""),
        "\"s\",\"n\",\"t\"\n\"a,b\",\"1\",\"x\"\n\"\",,\"say \"\"hi\"\"\n\"\n,,\"\\N\\\"\n"
    );
    assert_eq!(
        of(QuoteStyle::NonNumeric, "NULL"),
        "\"s\",\"n\",\"t\"\n\"a,b\",1,\"x\"\n\"\",NULL,\"say \"\"hi\"\"\n\"\nNULL,NULL,\"\\N\\\"\n"
    );
    assert_eq!(of(QuoteStyle::Never, "\\N"), "s,n,t\na\\,b,1,x\n,\\N,say \"hi\"\\\n\n\\N,\\N,\\\\N\\\\\n");
}

#[test]
fn values_that_say_null_are_quoted() {
    let options = |quote| CsvOptions { null: "7".to_owned(), header: false, quote, ..CsvOptions::default() };
    let rows = [r#"{"s":"7","n":7}"#, r#"{"n":77}"#];
    assert_eq!(csv("s string, n int", options(QuoteStyle::Necessary), &rows), "\"7\",\"7\"\n7,77\n");
    assert_eq!(csv("s string, n int", options(QuoteStyle::Never), &rows), "\\7,\\7\n7,77\n");
    // A blank line would be no row to most readers.
    assert_eq!(csv("s string", CsvOptions::default(), &["{}", r#"{"s":"a"}"#]), "s\n\"\"\na\n");
}

#[test]
fn tabs_and_other_line_endings() {
    let options = CsvOptions { line_ending: LineEnding::CrLf, ..CsvOptions::tsv() };
    assert_eq!(
        csv("a string, `b\tc` int", options, &[r#"{"a":"x,y","b\tc":1}"#]),
        "a\t\"b\tc\"\r\nx,y\t1\r\n"
    );
    let format = format("a int", CsvOptions::tsv(), Compression::Gzip(1));
    assert_eq!((format.extension(), format.content_type()), (".tsv.gz".to_owned(), "application/gzip"));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let check = |options: CsvOptions| options.check().unwrap_err();
    assert!(check(CsvOptions { delimiter: b'"', ..CsvOptions::default() }).contains("delimiter"));
    assert!(check(CsvOptions { null: "a,b".to_owned(), ..CsvOptions::default() }).contains("null"));
    assert!("sometimes".parse::<QuoteStyle>().unwrap_err().contains("necessary, always"));
}

#[test]
fn bad_rows_are_left_out_and_an_object_of_none_has_a_header() {
    let format = format("a int, b string", CsvOptions::default(), Compression::Zstd(1));
    let (texts, bad) = objects(&format, &[chunk(&["{\"a\":\"x\"}", "{\"a\":1}", "[", ""])]);
    assert_eq!((texts, bad), (vec!["a,b\n1,\n".to_owned()], vec![0, 2, 3]));
    assert_eq!(objects(&format, &[]).0, ["a,b\n"]);
    let (texts, bad) = objects(&format, &[chunk(&["x"])]);
    assert_eq!((texts, bad), (vec!["a,b\n".to_owned()], vec![0]));
}

#[test]
fn columns_that_come_later_begin_an_object() {
    for compression in [Compression::None, Compression::Gzip(1)] {
        let columns = Arc::new(Columns::evolving(Schema::default(), RowOptions::default()).unwrap());
        let format = CsvFormat::new(CsvOptions::default(), compression, columns).unwrap();
        let many: Vec<String> = (0..30_000).map(|i| format!("{{\"a\":{i}}}")).collect();
        let chunks = [
            chunk(&many),
            chunk(&["{\"a\":-1}"]),
            chunk(&["{\"a\":-2,\"b\":\"x\"}"]),
            chunk(&["{\"a\":-3}"]),
        ];
        let (texts, bad) = objects(&format, &chunks);
        assert!(bad.is_empty());
        assert_eq!(texts.len(), 2);
        assert!(texts[0].starts_with("a\n0\n1\n") && texts[0].ends_with("\n29999\n-1\n"));
        assert_eq!(texts[1], "a,b\n-2,x\n-3,\n");

        // What was made before comes to an object that has the column already.
        let dir = tempfile::tempdir().unwrap();
        let columns = Arc::new(Columns::evolving(Schema::default(), RowOptions::default()).unwrap());
        let format = CsvFormat::new(CsvOptions::default(), compression, columns).unwrap();
        let prepared: Vec<Prepared> = chunks.iter().map(|chunk| format.prepare(chunk)).collect();
        let mut writer = format.open(&Scratch::new(&System::real(), dir.path())).unwrap();
        for prepared in prepared.into_iter().rev() {
            assert!(writer.append(prepared.piece).unwrap().is_none());
        }
        let text = unpack(compression, &bytes(&writer.finish(&[]).unwrap()));
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("a,b\n-3,\n-2,x\n-1,\n0,\n1,\n") && text.ends_with("\n29999,\n"));
        assert_eq!(text.lines().count(), 30_004);
    }
}

/// Fields as another crate reads them.
fn read_back(text: &str, options: &CsvOptions) -> Vec<Vec<String>> {
    let mut builder = csv::ReaderBuilder::new();
    builder.has_headers(options.header).delimiter(options.delimiter);
    if options.quote == QuoteStyle::Never {
        builder.quoting(false).escape(Some(b'\\'));
    }
    let mut text_bytes = Vec::new();
    text.as_bytes().read_to_end(&mut text_bytes).unwrap();
    let mut reader = builder.from_reader(&text_bytes[..]);
    reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_text_comes_back(
        rows in prop::collection::vec((prop::option::of("[a-c,\"\\\\\n\r\t é7]{0,6}"), prop::option::of(any::<i64>()), ".{0,5}"), 1..20),
        style in prop_oneof![Just(QuoteStyle::Necessary), Just(QuoteStyle::Always), Just(QuoteStyle::NonNumeric)],
        tabs: bool,
        crlf: bool,
        header: bool,
        which in 0..ALL.len(),
        cut in any::<prop::sample::Index>(),
    ) {
        let options = CsvOptions {
            header,
            delimiter: if tabs { b'\t' } else { b',' },
            quote: style,
            null: String::new(),
            line_ending: if crlf { LineEnding::CrLf } else { LineEnding::Lf },
        };
        let payloads: Vec<String> =
            rows.iter().map(|(s, n, t)| serde_json::json!({"s": s, "n": n, "t": t}).to_string()).collect();
        let format = format("s string, n bigint, t string", options.clone(), ALL[which]);
        let (first, second) = payloads.split_at(cut.index(payloads.len()));
        let (texts, bad) = objects(&format, &[chunk(first), chunk(second)]);
        prop_assert!(bad.is_empty());
        let expected: Vec<Vec<String>> = rows.iter().map(|(s, n, t)| {
            vec![s.clone().unwrap_or_default(), n.map(|n| n.to_string()).unwrap_or_default(), t.clone()]
        }).collect();
        prop_assert_eq!(read_back(&texts[0], &options), expected);
    }
}

#[test]
fn never_quoted_text_comes_back() {
    let options = CsvOptions { quote: QuoteStyle::Never, null: "\\N".to_owned(), ..CsvOptions::default() };
    let rows = [("a,b", 1), ("\\", 2), ("\\N", 3), ("x\\,y\"", 4)];
    let batch = arrow::array::RecordBatch::try_from_iter([
        ("s", Arc::new(StringArray::from_iter_values(rows.map(|row| row.0))) as _),
        ("n", Arc::new(Int64Array::from_iter_values(rows.map(|row| row.1))) as _),
    ]);
    let batch = batch.unwrap();
    let mut out = Vec::new();
    let mut writer = Writer::new(&options, &batch).unwrap();
    (0..4).for_each(|row| writer.row(row, &mut out));
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text, "a\\,b,1\n\\\\,2\n\\\\N,3\nx\\\\\\,y\",4\n");
}
