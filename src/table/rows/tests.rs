use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::table::Schema;

/// Payloads as a block.
pub(in crate::table) fn block<T: AsRef<[u8]>>(rows: &[T]) -> (Vec<u8>, Vec<u32>) {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for row in rows {
        bytes.extend_from_slice(row.as_ref());
        ends.push(bytes.len() as u32);
        bytes.push(b'\n');
    }
    (bytes, ends)
}

fn decode<T: AsRef<[u8]>>(ddl: &str, options: &RowOptions, rows: &[T]) -> Decoded {
    let mut decoder = RowDecoder::new(&Schema::parse(ddl).unwrap(), options).unwrap();
    let (bytes, ends) = block(rows);
    let decoded = decoder.decode(&bytes, &ends);
    assert_eq!(decoded.batch.num_rows() + decoded.bad.len(), rows.len());
    assert_eq!(decoder.clone().decode(&bytes, &ends), decoded, "a clone is empty, and as good");
    assert_eq!(decoder.decode(&bytes, &ends), decoded, "nothing of a block is left");
    decoded
}

/// What a value of an array is in JSON; moments and dates as numbers, binary as numbers.
pub(in crate::table) fn value(array: &ArrayRef, i: usize) -> Json {
    if array.is_null(i) {
        return Json::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(i).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(i).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(i).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(i).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(i).into(),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(i).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(i).into(),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(i).into(),
        DataType::Utf8 => array.as_string::<i32>().value(i).into(),
        DataType::Binary => array.as_binary::<i32>().value(i).to_vec().into(),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(i).into(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            array.as_primitive::<TimestampMillisecondType>().value(i).into()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().value(i).into()
        }
        DataType::Timestamp(..) => array.as_primitive::<TimestampMicrosecondType>().value(i).into(),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(i);
            (0..items.len()).map(|i| value(&items, i)).collect()
        }
        DataType::Map(..) => {
            let pairs = array.as_map().value(i);
            let (keys, values) = (pairs.column(0), pairs.column(1));
            let key = |i| match value(keys, i) {
                Json::String(key) => key,
                other => other.to_string(),
            };
            Json::Object((0..pairs.len()).map(|i| (key(i), value(values, i))).collect())
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let members =
                fields.iter().zip(columns).map(|(field, column)| (field.name().clone(), value(column, i)));
            Json::Object(members.collect())
        }
        other => panic!("{other}"),
    }
}

/// The rows of a batch as objects.
pub(in crate::table) fn objects(batch: &RecordBatch) -> Vec<Json> {
    let schema = batch.schema();
    let row = |i| {
        let columns = schema.fields().iter().zip(batch.columns());
        Json::Object(columns.map(|(field, column)| (field.name().clone(), value(column, i))).collect())
    };
    (0..batch.num_rows()).map(row).collect()
}

/// What one value becomes in a column, or why it does not.
fn one(kind: &str, options: &RowOptions, text: &str) -> std::result::Result<Json, String> {
    let decoded = decode(&format!("c {kind}"), options, &[format!("{{\"c\":{text}}}")]);
    match decoded.bad.first() {
        Some(bad) => Err(bad.reason.clone()),
        None => Ok(objects(&decoded.batch)[0]["c"].clone()),
    }
}

#[test]
fn payloads_that_are_no_rows() {
    let deep = format!("{{\"x\":{}}}", "[".repeat(200_000));
    let deep_objects = "{\"x\":".repeat(200_000);
    let rows: Vec<(&[u8], &str)> = vec![
        (b"", "it is empty"),
        (b" \r\n\t", "it is empty"),
        (b"hello", "not JSON: this is no JSON value (byte 0)"),
        (b"[1]", "expected an object, found an array"),
        (b"\"x\"", "expected an object, found string \"x\""),
        (b"12", "expected an object, found number 12"),
        (b"null", "expected an object, found null"),
        (b"true", "expected an object, found boolean true"),
        (b"{\"id\":1}{\"id\":2}", "not JSON: more stands behind the value (byte 8)"),
        (b"{\"id\":1},", "not JSON: more stands behind the value (byte 8)"),
        (b"{\"id\":1", "not JSON: it ends too early (byte 7)"),
        (b",\"id\":2}", "not JSON: this is no JSON value (byte 0)"),
        (b"{\"id\":1,}", "not JSON: a value is missing behind a comma (byte 8)"),
        (b"{\"id\":1 \"v\":2}", "not JSON: `,` or `}` is missing (byte 8)"),
        (b"{'id':1}", "not JSON: a key in quotes is missing (byte 1)"),
        (b"{\"v\":\"\xff\"}", "it is not UTF-8"),
        (b"{\"v\":\"\xe2", "it is not UTF-8"),
        (b"\x96\xa1\"}", "it is not UTF-8"),
        (b"{\"v\":\"a\nb\"}", "not JSON: a control character stands in a string (byte 7)"),
        (b"{\"v\":\"\\ud83d\"}", "not JSON: half of a surrogate pair stands alone (byte 7)"),
        (b"{\"v\":\"\\u12\"}", "not JSON: \\u has four hexadecimal digits (byte 10)"),
        (b"{\"d\":NaN}", "column \"d\": not JSON"),
        (b"{\"d\":1e400}", "column \"d\": expected double, found number 1e400"),
        (b"{\"id\":\"x\"}", "column \"id\": expected bigint, found string \"x\""),
        (b"{\"id\":1.5}", "column \"id\": expected bigint, found number 1.5"),
        (b"{\"id\":9223372036854775808}", "column \"id\": expected bigint, found number 9223372036854775808"),
        (b"{\"id\":[1]}", "column \"id\": expected bigint, found an array"),
        (b"{\"id\":{}}", "column \"id\": expected bigint, found an object"),
        (b"{\"id\":true}", "column \"id\": expected bigint, found boolean true"),
        (b"{\"geo\":{\"lat\":[]}}", "column \"geo.lat\": expected double, found an array"),
        (b"{\"geo\":3}", "column \"geo\": expected an object, found number 3"),
        (b"{\"tags\":[\"a\",null,5]}", "column \"tags[2]\": expected string, found number 5"),
        (b"{\"tags\":{}}", "column \"tags\": expected an array, found an object"),
        (b"{\"m\":{\"k\":\"v\"}}", "column \"m.k\": expected int, found string \"v\""),
        (b"{\"m\":[]}", "column \"m\": expected an object (map), found an array"),
        (b"{\"unknown\":[1,}", "not JSON"),
        (b"{\"unknown\":\"\\x\"}", "not JSON"),
        (deep.as_bytes(), "not JSON: it is nested more than 128 levels deep (byte 132)"),
        (deep_objects.as_bytes(), "not JSON: it is nested more than 128 levels deep (byte 640)"),
        (b"\0", "not JSON"),
    ];
    let ddl = "id bigint, v string, d double, geo struct<lat:double>, tags array<string>, m map<string,int>";
    // Each of them between good ones.
    let mut payloads: Vec<Vec<u8>> = vec![b"{\"id\":-1}".to_vec()];
    for (i, (bad, _)) in rows.iter().enumerate() {
        payloads.extend([bad.to_vec(), format!("{{\"id\":{i},\"v\":\"é\"}}").into_bytes()]);
    }
    let decoded = decode(ddl, &RowOptions::default(), &payloads);
    for ((payload, reason), (i, bad)) in rows.iter().zip(decoded.bad.iter().enumerate()) {
        let shown = String::from_utf8_lossy(&payload[..payload.len().min(60)]);
        assert_eq!(bad.row, 2 * i + 1, "{shown}");
        assert!(
            bad.reason.replace("column \"d\": ", "").starts_with(&reason.replace("column \"d\": ", "")),
            "{shown}: {}",
            bad.reason
        );
    }
    assert_eq!(decoded.bad.len(), rows.len());
    let ids: Vec<_> = objects(&decoded.batch).iter().map(|row| row["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (-1..rows.len() as i64).collect::<Vec<_>>());
    assert_eq!(decoded.kept().collect::<Vec<_>>(), (0..payloads.len()).step_by(2).collect::<Vec<_>>());
}

#[test]
fn payloads_that_are_rows_all_the_same() {
    let rows: &[&[u8]] = &[
        b"{}",
        b"\xef\xbb\xbf{\"id\":1}",
        b" {\n\"id\" :\t2\r\n} ",
        b"{\"id\":3,\"id\":4}",
        b"{\"id\":\"5\",\"id\":5}",
        b"{\"ID\":6}",
        b"{\"id\":null}",
        b"{\"id\":8,\"other\":{\"deep\":[1,\"]}\",{}]},\"v\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"}",
        b"{\"geo\":{\"LAT\":1,\"lat\":2}}",
        b"{\"geo\":{}}",
        b"{\"\\u0069d\":9}",
        b"{\"v\":\"\x7f\xc3\xa9\"}",
    ];
    let decoded = decode("id bigint, v string, geo struct<lat:double>", &RowOptions::default(), rows);
    let bad: Vec<_> = decoded.bad.iter().map(|bad| bad.row).collect();
    assert_eq!(bad, [4], "the first of two values has to fit too");
    let expected = [
        json!({"id":null,"v":null,"geo":null}),
        json!({"id":1,"v":null,"geo":null}),
        json!({"id":2,"v":null,"geo":null}),
        json!({"id":4,"v":null,"geo":null}),
        json!({"id":6,"v":null,"geo":null}),
        json!({"id":null,"v":null,"geo":null}),
        json!({"id":8,"v":"\"\\/\u{8}\u{c}\n\r\té😀","geo":null}),
        json!({"id":null,"v":null,"geo":{"lat":2.0}}),
        json!({"id":null,"v":null,"geo":{"lat":null}}),
        json!({"id":9,"v":null,"geo":null}),
        json!({"id":null,"v":"\u{7f}é","geo":null}),
    ];
    assert_eq!(objects(&decoded.batch), expected);
}

#[test]
fn ends_that_are_wrong_lose_no_row() {
    let mut decoder = RowDecoder::new(&Schema::parse("a int").unwrap(), &RowOptions::default()).unwrap();
    let decoded = decoder.decode(b"{\"a\":1}\n", &[7, 100, 50]);
    assert_eq!((decoded.batch.num_rows(), decoded.bad.len(), decoded.rows), (1, 2, 3));
    let decoded = decoder.decode(b"", &[]);
    assert_eq!((decoded.batch.num_rows(), decoded.bad.len()), (0, 0));
}

#[test]
fn a_table_without_columns_counts_rows() {
    let mut decoder = RowDecoder::new(&Schema::default(), &RowOptions::default()).unwrap();
    let (bytes, ends) = block(&["{}", "{\"a\":1}", "x"]);
    let decoded = decoder.decode(&bytes, &ends);
    assert_eq!((decoded.batch.num_rows(), decoded.bad.len()), (2, 1));
}

#[test]
fn values_of_every_type() {
    let plain = RowOptions::default();
    for (kind, text, value) in [
        ("boolean", "true", json!(true)),
        ("tinyint", "-128", json!(-128)),
        ("smallint", "32767", json!(32767)),
        ("int", "1e3", json!(1000)),
        ("bigint", "9223372036854775807", json!(i64::MAX)),
        ("bigint", "1.0", json!(1)),
        ("float", "0.1", json!(0.1f32)),
        ("float", "16777217", json!(16_777_216.0)),
        ("double", "0.1", json!(0.1)),
        ("double", "5", json!(5.0)),
        ("double", "123456789012345678901234567890", json!(1.234_567_890_123_456_8e29)),
        ("decimal(5,2)", "123.45", json!("123.45")),
        ("decimal(5,2)", "\"123.455\"", json!("123.46")),
        (
            "decimal(38,0)",
            "99999999999999999999999999999999999999",
            json!("99999999999999999999999999999999999999"),
        ),
        ("string", "\"x\"", json!("x")),
        ("varchar(2)", "\"é😀\"", json!("é😀")),
        ("binary", "\"AP8=\"", json!([0, 255])),
        ("binary", "\"AP8\"", json!([0, 255])),
        ("binary", "\"_-8=\"", json!([255, 239])),
        ("date", "\"1970-01-02\"", json!(1)),
        ("timestamp", "\"1970-01-01T00:00:00.0000015Z\"", json!(1)),
        ("timestamp", "1700000000123", json!(1_700_000_000_123_000i64)),
        ("timestamp", "1700000000.5", json!(1_700_000_000_500_000i64)),
        ("timestamp(3)", "\"1970-01-01 00:00:01+01:00\"", json!(-3_599_000)),
        ("timestamp(9)", "\"1970-01-01T00:00:00.000000001Z\"", json!(1)),
        ("timestamp_ntz", "\"1970-01-01T00:00:01\"", json!(1_000_000)),
        ("array<int>", "[1,null,2]", json!([1, null, 2])),
        ("array<array<string>>", "[[],null,[\"a\"]]", json!([[], null, ["a"]])),
        ("map<string,int>", "{\"a\":1,\"b\":null,\"a\":3}", json!({"a": 3, "b": null})),
        ("map<int,string>", "{\"7\":\"x\"}", json!({"7": "x"})),
        ("map<string,map<string,int>>", "{\"a\":{\"x\":1,\"x\":2},\"a\":{\"y\":1}}", json!({"a": {"y": 1}})),
        ("struct<a:int,b:struct<c:int>>", "{\"b\":{\"c\":1}}", json!({"a": null, "b": {"c": 1}})),
    ] {
        assert_eq!(one(kind, &plain, text), Ok(value), "{kind}: {text}");
        assert_eq!(one(kind, &plain, "null"), Ok(Json::Null));
    }
    for (kind, text, says) in [
        ("tinyint", "128", "expected tinyint, found number 128"),
        ("smallint", "-32769", "expected smallint"),
        ("int", "2147483648", "expected int"),
        ("float", "1e39", "expected float"),
        ("decimal(5,2)", "1000", "expected decimal(5,2), found number 1000"),
        ("decimal(5,2)", "\"x\"", "expected decimal(5,2), found string \"x\""),
        ("decimal(5,2)", "999.995", "expected decimal(5,2)"),
        ("varchar(2)", "\"abc\"", "3 characters do not fit varchar(2)"),
        ("string", "5", "expected string, found number 5"),
        ("binary", "\"?\"", "expected binary as base64, found string \"?\""),
        ("date", "\"1970-02-30\"", "expected date"),
        ("date", "1", "expected date, found number 1"),
        ("timestamp", "\"yesterday\"", "expected timestamp, found string \"yesterday\""),
        ("timestamp", "true", "expected timestamp, found boolean true"),
        ("timestamp(9)", "\"2300-01-01T00:00:00Z\"", "expected timestamp(9)"),
        ("map<int,string>", "{\"x\":\"y\"}", "expected int, found the key \"x\""),
        ("bigint not null", "null", "expected bigint, found null"),
        ("struct<a:int not null>", "{}", "column \"c.a\": expected int, found nothing"),
        ("bigint", "\"5\"", "expected bigint, found string \"5\""),
    ] {
        let reason = one(kind, &plain, text).unwrap_err();
        assert!(reason.starts_with("column \"c") && reason.contains(says), "{kind}: {text}: {reason}");
    }
    let reason = one("bigint", &plain, &format!("\"{}\"", "é".repeat(500))).unwrap_err();
    assert!(reason.len() < 150, "{reason}");
}

#[test]
fn a_missing_value_that_is_not_null() {
    let decoded =
        decode("id bigint not null, v string", &RowOptions::default(), &["{\"v\":\"x\"}", "{\"id\":1}"]);
    assert_eq!(
        decoded.bad,
        [BadRow { row: 0, reason: "column \"id\": expected bigint, found nothing".to_owned() }]
    );
    let null_parent =
        decode("s struct<a:int not null>", &RowOptions::default(), &["{\"s\":null}", "{\"s\":{\"a\":1}}"]);
    assert_eq!(null_parent.bad, []);
}

#[test]
fn coerced_values() {
    let options = RowOptions { coerce: true, ..RowOptions::default() };
    for (kind, text, value) in [
        ("string", "1.50", json!("1.50")),
        ("string", "true", json!("true")),
        ("string", "{\"a\": [1, \"x\"]}", json!("{\"a\": [1, \"x\"]}")),
        ("string", "[ ]", json!("[ ]")),
        ("array<string>", "[1,{\"a\":2}]", json!(["1", "{\"a\":2}"])),
        ("bigint", "\"12\"", json!(12)),
        ("bigint", "\" +0012 \"", json!(12)),
        ("double", "\"1e3\"", json!(1000.0)),
        ("boolean", "\"TRUE\"", json!(true)),
        ("tinyint", "\"7\"", json!(7)),
    ] {
        assert_eq!(one(kind, &options, text), Ok(value), "{kind}: {text}");
    }
    for (kind, text) in [
        ("bigint", "\"x\""),
        ("boolean", "1"),
        ("boolean", "\"yes\""),
        ("varchar(3)", "1234"),
        ("bigint", "true"),
        ("string", "[1,"),
    ] {
        assert!(one(kind, &options, text).is_err(), "{kind}: {text}");
    }
}

#[test]
fn names_of_keys() {
    let mut options = RowOptions {
        dots_to_underscores: true,
        mappings: vec![("ts".to_owned(), "Timestamp".to_owned())],
        ..RowOptions::default()
    };
    let row = r#"{"User.Name":"a","TIMESTAMP":5,"ts":6,"Geo":{"L.at":1,"timestamp":2}}"#;
    let ddl = "user_name string, ts bigint, geo struct<l_at:int,timestamp:int>";
    let decoded = decode(ddl, &options, &[row]);
    let geo = json!({"l_at": 1, "timestamp": 2});
    assert_eq!(objects(&decoded.batch), [json!({"user_name": "a", "ts": 5, "geo": geo})]);
    options.case_sensitive = true;
    options.dots_to_underscores = false;
    let decoded =
        decode("`User.Name` string, ts bigint, timestamp bigint, Geo struct<`L.at`:int>", &options, &[row]);
    let geo = json!({"L.at": 1});
    assert_eq!(
        objects(&decoded.batch),
        [json!({"User.Name": "a", "ts": null, "timestamp": null, "Geo": geo})]
    );
}

#[test]
fn timestamps_by_formats() {
    let formats = |formats: &[&str]| RowOptions {
        timestamps: formats
            .iter()
            .map(|format| crate::table::TimestampFormat::parse(format).unwrap())
            .collect(),
        ..RowOptions::default()
    };
    let options = formats(&["dd/MM/yyyy HH:mm", "dd/MM/yyyy"]);
    assert_eq!(one("timestamp", &options, "\"01/01/1970 00:01\""), Ok(json!(60_000_000)));
    assert_eq!(one("timestamp", &options, "\"02/01/1970\""), Ok(json!(86_400_000_000i64)));
    assert_eq!(one("date", &options, "\"02/01/1970\""), Ok(json!(1)));
    assert!(one("timestamp", &options, "\"1970-01-01T00:00:00Z\"").is_err());
    assert_eq!(
        one("timestamp", &formats(&["seconds"]), "1700000000123"),
        Ok(json!(1_700_000_000_123_000_000i64))
    );
    assert_eq!(one("timestamp", &formats(&["millis"]), "1000"), Ok(json!(1_000_000)));
    let schema = Schema::parse(
        r#"[{"name":"a","type":"timestamp","format":"millis"},{"name":"b","type":"timestamp"}]"#,
    );
    let mut decoder = RowDecoder::new(&schema.unwrap(), &RowOptions::default()).unwrap();
    let (bytes, ends) = block(&["{\"a\":1000,\"b\":1000}"]);
    assert_eq!(objects(&decoder.decode(&bytes, &ends).batch), [json!({"a": 1_000_000, "b": 1_000_000_000})]);
}

#[test]
fn drift_is_what_a_wider_schema_would_take() {
    let schema =
        Schema::parse("id int, s struct<x:float>, t timestamp, m map<string,bigint>, l array<tinyint>")
            .unwrap();
    let mut decoder = RowDecoder::new(&schema, &RowOptions::default()).unwrap();
    for (row, drifts) in [
        (r#"{"id":1,"none":null,"empty":{},"nothing":[[],{"a":null}]}"#, false),
        (r#"{"new":1}"#, true),
        (r#"{"s":{"y":""}}"#, true),
        (r#"{"id":3000000000}"#, true),
        (r#"{"id":1.5}"#, true),
        (r#"{"id":1e400}"#, false),
        (r#"{"id":"x"}"#, false),
        (r#"{"s":{"x":1e39}}"#, true),
        (r#"{"t":"plain"}"#, false),
        (r#"{"m":{"a":1.5}}"#, true),
        (r#"{"l":[1000]}"#, true),
        (r#"{"id":1,"#, false),
    ] {
        let (bytes, ends) = block(&[r#"{"id":0}"#, row]);
        let outcome = decoder.fit(&bytes, &ends);
        assert_eq!(outcome == Outcome::Drift, drifts, "{row}: {outcome:?}");
        let settled = decoder.settle(&bytes, &ends);
        assert_eq!(settled.batch.num_rows() + settled.bad.len(), 2);
        assert!(!drifts || settled.bad.len() == 1, "{row}");
    }
    let (bytes, ends) = block(&[r#"{"new":1}"#]);
    assert_eq!(decoder.settle(&bytes, &ends).bad[0].reason, "column \"new\": the schema has no such column");
}

#[test]
fn rows_of_csv() {
    let header = "\u{feff}id,Name,at,tags,other,id2\r";
    let schema =
        Schema::parse("name string, id bigint, at timestamp, tags array<int>, id2 double, more int").unwrap();
    let csv = CsvRows::new(header.as_bytes(), b',').unwrap();
    assert_eq!(csv.header()[0], "id");
    let mut decoder = RowDecoder::new(&schema, &RowOptions::default()).unwrap().with_csv(csv.clone());
    let (bytes, ends) = block(&[
        "1,a,2024-05-06T00:00:00Z,\"[1,2]\",x,+1.5\r",
        "+007,\"b\n\"\"c\"\",\",,,,NaN",
        "x,a,,,,",
        "1,a,,[1,,",
        "1,a",
        "",
        "1,a,,,,\n2,a,,,,",
        "1,a,b,c,d,e,f",
        ",,,,,",
    ]);
    let decoded = decoder.decode(&bytes, &ends);
    let mut rows = objects(&decoded.batch);
    assert!(decoded.batch.column_by_name("id2").unwrap().as_primitive::<Float64Type>().value(1).is_nan());
    rows[1]["id2"] = Json::Null;
    assert_eq!(
        rows,
        [
            json!({"name":"a","id":1,"at":1_714_953_600_000_000i64,"tags":[1,2],"id2":1.5,"more":null}),
            json!({"name":"b\n\"c\",","id":7,"at":null,"tags":null,"id2":null,"more":null}),
            json!({"name":null,"id":null,"at":null,"tags":null,"id2":null,"more":null}),
        ]
    );
    let reasons: Vec<_> = decoded.bad.iter().map(|bad| (bad.row, bad.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (2, "column \"id\": expected bigint, found string \"x\""),
            (3, "not JSON: it ends too early (byte 2)"),
            (4, "expected 6 fields, found 2"),
            (5, "it is empty"),
            (6, "it has several rows"),
            (7, "expected 6 fields, found 7"),
        ]
    );
    let mut decoder = RowDecoder::new(&schema, &RowOptions::default()).unwrap().with_csv(csv.with_null("-"));
    let (bytes, ends) = block(&["1,,-,-,-,-"]);
    assert_eq!(objects(&decoder.decode(&bytes, &ends).batch)[0]["name"], "");
    assert_eq!(decoder.fit(&bytes, &ends), Outcome::Rows(decoder.decode(&bytes, &ends)));
    let (bytes, ends) = block(&["1,,-,-,x,-"]);
    assert_eq!(decoder.fit(&bytes, &ends), Outcome::Drift);
    assert!(CsvRows::new(b"a\nb", b',').is_err());
    assert!(CsvRows::new(b"\xff", b',').is_err());
}

proptest! {
    /// Whatever the payloads are, each is either in the batch or bad, and none takes another along.
    #[test]
    fn good_and_bad_rows_are_all_rows(rows in prop::collection::vec(
        prop_oneof![
            3 => (any::<i64>(), any::<String>(), any::<bool>()).prop_map(|(id, v, n)| (true, json!({"id": id, "v": v, "n": {"x": n}}).to_string().into_bytes())),
            1 => "[\\[\\]{}:,\"\\\\ \\n0-9eE.+truefalsnid-]{0,20}".prop_map(|text| (false, text.into_bytes())),
            1 => prop::collection::vec(any::<u8>(), 0..12).prop_map(|bytes| (false, bytes)),
            1 => "\\{\"id\":(1|x|\"x\"|\\[\\]|1\\.5)(,\"v\":(5|\"\\\\u12\"|null))?\\}".prop_map(|text| (false, text.into_bytes())),
        ], 0..30)) {
        let schema = Schema::parse("id bigint, v string, n struct<x:boolean>").unwrap();
        let mut decoder = RowDecoder::new(&schema, &RowOptions::default()).unwrap();
        let payloads: Vec<_> = rows.iter().map(|(_, row)| row).collect();
        let (bytes, ends) = block(&payloads);
        let decoded = decoder.decode(&bytes, &ends);
        prop_assert_eq!(decoded.rows, rows.len());
        prop_assert_eq!(decoded.batch.num_rows() + decoded.bad.len(), rows.len());
        let objects = objects(&decoded.batch);
        for (at, row) in decoded.kept().enumerate() {
            let written: Json = serde_json::from_slice(&rows[row].1).unwrap();
            prop_assert_eq!(&objects[at]["v"], &written["v"]);
            prop_assert_eq!(objects[at]["id"].as_f64(), written["id"].as_f64());
        }
        for bad in &decoded.bad {
            prop_assert!(!rows[bad.row].0, "{}", bad.reason);
            // Alone it is as bad as it was among others, and for the same reason.
            let (bytes, ends) = block(&[&rows[bad.row].1]);
            let alone = decoder.decode(&bytes, &ends);
            prop_assert_eq!(&alone.bad, &[BadRow { row: 0, reason: bad.reason.clone() }]);
        }
    }
}
