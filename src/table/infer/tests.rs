use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::table::RowDecoder;
use crate::table::rows::tests::{block, objects};
use crate::table::schema::{COLUMNS_MAX, DEPTH_MAX};
use crate::table::{Outcome, TimestampFormat};

fn evolve<T: AsRef<[u8]>>(schema: &str, rows: &[T]) -> Evolved {
    let schema = if schema.is_empty() { Schema::default() } else { Schema::parse(schema).unwrap() };
    let (bytes, ends) = block(rows);
    let evolved = schema.evolve(&bytes, &ends, &RowOptions::default()).unwrap();
    assert_eq!(evolved.changed, evolved.schema != schema, "{}", evolved.schema);
    // The schema takes what it has not named.
    let mut decoder = RowDecoder::new(&evolved.schema, &RowOptions::default()).unwrap();
    let settled = decoder.settle(&bytes, &ends);
    for bad in &settled.bad {
        assert!(evolved.bad.iter().any(|other| other.row == bad.row), "{bad:?}");
    }
    Schema::new(evolved.schema.columns().to_vec()).unwrap();
    evolved
}

#[test]
fn columns_by_their_values() {
    for (rows, ddl, bad) in [
        (&["{\"a\":1}", "{\"b\":\"x\",\"a\":2}"][..], "a bigint, b string", &[][..]),
        (&["{\"a\":1}", "{\"a\":2.5}", "{\"a\":3}"], "a double", &[]),
        (&["{\"a\":1.0}", "{\"a\":2}"], "a double", &[]),
        (&["{\"a\":9223372036854775808}"], "a double", &[]),
        (&["{\"a\":true}", "{\"a\":null}", "{\"a\":false}"], "a boolean", &[]),
        (&["{\"a\":1}", "{\"a\":\"x\"}", "{\"a\":true}", "{\"a\":[1]}", "{\"a\":2}"], "a bigint", &[1, 2, 3]),
        (
            &["{\"a\":\"2024-05-06T07:08:09Z\"}", "{\"a\":\"2024-05-06 07:08:09.5+02:00\"}"],
            "a timestamp",
            &[],
        ),
        (&["{\"a\":\"2024-05-06T07:08:09Z\"}", "{\"a\":\"soon\"}"], "a string", &[]),
        (&["{\"a\":\"soon\"}", "{\"a\":\"2024-05-06T07:08:09Z\"}"], "a string", &[]),
        (&["{\"a\":\"2024-05-06\"}"], "a string", &[]),
        (&["{\"a\":\"2024-05-06T07:08:09Z\"}", "{\"a\":5}", "{\"a\":\"soon\"}"], "a timestamp", &[2]),
        (&["{\"a\":null,\"b\":{},\"c\":[],\"d\":[null,[{\"e\":null}]]}"], "", &[]),
        (&["{\"a\":{}}", "{\"b\":1}", "{\"a\":5}"], "b bigint, a bigint", &[]),
        (&["{\"a\":{}}", "{\"a\":{\"x\":{\"y\":1},\"n\":null}}"], "a struct<x:struct<y:bigint>>", &[]),
        (&["{\"a\":[null,[],[1]]}", "{\"a\":[[2.5]]}"], "a array<array<double>>", &[]),
        (&["{\"a\":[{\"x\":1},{\"y\":\"z\"}]}"], "a array<struct<x:bigint,y:string>>", &[]),
        (&["{\"a\":[1,\"x\"],\"b\":1}"], "", &[0]),
        (&["{\"a\":[[],5],\"b\":1}", "{\"a\":{\"x\":[]}}"], "a array<bigint>, b bigint", &[]),
        (&["{\"a\":[{\"b\":[],\"c\":1},{\"b\":5}]}"], "a array<struct<c:bigint,b:bigint>>", &[]),
        (&["{\"A\":1}", "{\"a\":2.5}"], "a double", &[]),
        (&["{\"a\":1,\"a\":\"x\"}"], "", &[0]),
        (&["{\"\":1}", "{\"a\":1e400}", "nope", "[]", "{\"a\":1}{}"], "", &[0, 1, 2, 3, 4]),
    ] {
        let evolved = evolve("", rows);
        assert_eq!(evolved.schema.to_ddl(), ddl, "{rows:?}");
        assert_eq!(evolved.bad.iter().map(|bad| bad.row).collect::<Vec<_>>(), bad, "{rows:?}");
    }
}

#[test]
fn a_schema_grows() {
    for (before, row, after) in [
        ("a tinyint", "{\"a\":200}", "a smallint"),
        ("a tinyint", "{\"a\":40000}", "a int"),
        ("a int", "{\"a\":3000000000}", "a bigint"),
        ("a smallint", "{\"a\":0.5}", "a double"),
        ("a float", "{\"a\":1e39}", "a double"),
        ("a float", "{\"a\":1e38}", "a float"),
        ("a bigint", "{\"a\":1.0}", "a bigint"),
        (
            "a bigint, s struct<x:int>",
            "{\"s\":{\"y\":[{\"z\":true}]}}",
            "a bigint, s struct<x:int,y:array<struct<z:boolean>>>",
        ),
        ("m map<string,int>", "{\"m\":{\"k\":0.5,\"l\":1}}", "m map<string,double>"),
        ("l array<int>", "{\"l\":[1,null,2.5]}", "l array<double>"),
        ("Id bigint", "{\"ID\":0.5,\"New\":1}", "Id double, new bigint"),
        ("a bigint not null", "{\"a\":1,\"b\":1}", "a bigint not null, b bigint"),
        ("a decimal(5,2)", "{\"a\":\"1.5\"}", "a decimal(5,2)"),
        ("t timestamp", "{\"t\":1700000000}", "t timestamp"),
        ("d date, b binary", "{\"d\":\"2024-01-01\",\"b\":\"AA==\"}", "d date, b binary"),
    ] {
        let evolved = evolve(before, &[row]);
        assert_eq!(evolved.bad, [], "{before}: {row}");
        assert_eq!(evolved.schema.to_ddl(), after, "{before}: {row}");
    }
}

#[test]
fn a_conflict_changes_nothing() {
    for (before, row, says) in [
        ("a bigint", "{\"b\":1,\"a\":\"x\"}", "column \"a\": expected bigint, found string \"x\""),
        ("a bigint", "{\"a\":0.5,\"b\":[1,{\"x\":1}]}", "column \"b[1]\": expected bigint, found an object"),
        (
            "t timestamp",
            "{\"n\":1,\"t\":\"soon\"}",
            "column \"t\": expected timestamp, found string \"soon\"",
        ),
        (
            "s struct<x:int>",
            "{\"s\":{\"y\":1,\"x\":true}}",
            "column \"s.x\": expected int, found boolean true",
        ),
        ("s struct<x:int>", "{\"s\":5}", "column \"s\": expected an object, found number 5"),
        ("m map<int,int>", "{\"n\":1,\"m\":{\"x\":1}}", "expected int, found the key \"x\""),
        ("m map<int,int>", "{\"n\":1,\"m\":{\"1\":0.5,\"2\":\"x\"}}", "column \"m.2\": expected double"),
        ("a bigint not null", "{\"b\":1}", "column \"a\": expected bigint, found nothing"),
        ("a bigint not null", "{\"b\":1,\"a\":null}", "column \"a\": expected bigint, found nothing"),
        ("d decimal(5,2)", "{\"d\":100000}", "expected decimal(5,2)"),
    ] {
        let evolved = evolve(before, &[row]);
        assert_eq!(evolved.schema.to_ddl(), before, "{row}");
        assert!(!evolved.changed);
        assert!(evolved.bad[0].reason.contains(says), "{row}: {}", evolved.bad[0].reason);
    }
}

#[test]
fn what_came_before_in_the_inference_counts_as_seen_at_once() {
    let mut inference = Inference::new(&Schema::default(), &RowOptions::default()).unwrap();
    let (bytes, ends) = block(&["{\"a\":\"2024-05-06T07:08:09Z\"}"]);
    assert_eq!(inference.add(&bytes, &ends), []);
    assert_eq!(inference.schema().to_ddl(), "a timestamp");
    let (bytes, ends) = block(&["{\"a\":\"soon\"}"]);
    assert_eq!(inference.add(&bytes, &ends), []);
    assert_eq!(inference.schema().to_ddl(), "a string");
}

#[test]
fn keys_as_the_options_have_them() {
    let options = RowOptions {
        dots_to_underscores: true,
        mappings: vec![("ts".to_owned(), "Timestamp".to_owned())],
        timestamps: vec![TimestampFormat::parse("dd/MM/yyyy HH:mm").unwrap()],
        ..RowOptions::default()
    };
    let (bytes, ends) = block(&[
        "{\"a.B\":1,\"timestamp\":\"01/02/2024 03:04\",\"n\":{\"X.y\":1}}",
        "{\"TS\":1}",
        "{\"x\":\"2024-05-06T07:08:09Z\"}",
    ]);
    let evolved = Schema::default().evolve(&bytes, &ends, &options).unwrap();
    assert_eq!(evolved.schema.to_ddl(), "a_b bigint, ts timestamp, n struct<x_y:bigint>, x string");
    assert_eq!(evolved.bad[0].row, 1);
    let mut decoder = RowDecoder::new(&evolved.schema, &options).unwrap();
    assert_eq!(decoder.settle(&bytes, &ends).bad.len(), 1);
    let sensitive = RowOptions { case_sensitive: true, ..RowOptions::default() };
    let (bytes, ends) = block(&["{\"a\":1,\"A\":\"x\"}"]);
    let evolved = Schema::default().evolve(&bytes, &ends, &sensitive).unwrap();
    assert_eq!(evolved.schema.to_ddl(), "a bigint, A string");
    assert!(evolved.schema.evolve(&bytes, &ends, &RowOptions::default()).is_err());
}

#[test]
fn limits_make_bad_rows() {
    let keys = |from: usize, to: usize| {
        let members: Vec<_> = (from..to).map(|i| format!("\"k{i}\":1")).collect();
        format!("{{{}}}", members.join(","))
    };
    let rows =
        [keys(0, COLUMNS_MAX - 1), keys(COLUMNS_MAX, COLUMNS_MAX + 2), keys(5, 6), "{\"last\":1}".to_owned()];
    let evolved = evolve("", &rows);
    assert_eq!(evolved.schema.columns().len(), COLUMNS_MAX);
    assert_eq!(evolved.bad.len(), 1);
    assert!(evolved.bad[0].reason.contains("more than 10000 columns"), "{}", evolved.bad[0].reason);
    let nested = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(evolve("", &[nested(DEPTH_MAX)]).bad, []);
    assert_eq!(evolve("", &[nested(DEPTH_MAX + 1)]).bad.len(), 1);
    let objects = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    assert_eq!(evolve("", &[objects(DEPTH_MAX + 1)]).bad, []);
    assert_eq!(evolve("", &[objects(DEPTH_MAX + 2)]).bad.len(), 1);
    assert_eq!(evolve("", &[format!("{{\"{}\":1}}", "a".repeat(2000))]).bad.len(), 1);
    assert_eq!(evolve("", &["[".repeat(1_000_000)]).bad.len(), 1);
}

#[test]
fn columns_of_csv() {
    let infer = |schema: &str, header: &str, rows: &[&str]| {
        let schema = if schema.is_empty() { Schema::default() } else { Schema::parse(schema).unwrap() };
        let csv = CsvRows::new(header.as_bytes(), b',').unwrap();
        let mut inference = Inference::new(&schema, &RowOptions::default()).unwrap().with_csv(csv.clone());
        let (bytes, ends) = block(rows);
        let bad: Vec<_> = inference.add(&bytes, &ends).iter().map(|bad| bad.row).collect();
        let mut decoder = RowDecoder::new(&inference.schema(), &RowOptions::default()).unwrap().with_csv(csv);
        let settled = decoder.settle(&bytes, &ends);
        assert_eq!(settled.bad.iter().map(|bad| bad.row).collect::<Vec<_>>(), bad, "{:?}", settled.bad);
        (inference.schema().to_ddl(), bad)
    };
    let (ddl, bad) = infer(
        "",
        "i,d,B,t,s,zip,mixed,never",
        &[
            "1,1,true,2024-05-06T07:08:09Z,a,12345,1,",
            "-2,2.5,FALSE,2024-05-06T07:08:09Z,\"1\",01234,x,",
            ",,,,,,,",
            "1,2",
        ],
    );
    assert_eq!(ddl, "i bigint, d double, b boolean, t timestamp, s string, zip string, mixed string");
    assert_eq!(bad, [3]);
    let (ddl, bad) = infer("i int, l array<int>", "i,new,l", &["1.5,x,[1]", "x,y,", "2,,[2.5]", "3,,[x"]);
    assert_eq!(ddl, "i double, l array<double>, new string");
    assert_eq!(bad, [1, 3]);
}

/// A moment, as it is written and as it is held.
const MOMENT: &str = "2024-05-06T07:08:09Z";
const MOMENT_US: f64 = 1_714_979_289_000_000.0;

/// What is left of a value when all that says nothing is taken out of its objects, and is null in arrays.
fn essence(value: &Json) -> Json {
    fn says(value: &Json) -> bool {
        match value {
            Json::Null => false,
            Json::Array(items) => items.iter().any(says),
            Json::Object(members) => members.values().any(says),
            _ => true,
        }
    }
    match value {
        Json::Object(members) => members
            .iter()
            .filter(|(_, value)| says(value))
            .map(|(key, value)| (key.clone(), essence(value)))
            .collect(),
        Json::Array(items) => {
            items.iter().map(|item| if says(item) { essence(item) } else { Json::Null }).collect()
        }
        other => other.clone(),
    }
}

/// Whether a value is what was written, a moment being held in microseconds.
fn same(found: &Json, written: &Json) -> bool {
    match (found, written) {
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
        }
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Number(found), Json::String(text)) => text == MOMENT && found.as_f64() == Some(MOMENT_US),
        (Json::Number(found), Json::Number(written)) => {
            let text = written.to_string();
            let number = crate::table::number::Number::parse(&text).unwrap();
            let moment = crate::table::time::since_epoch(number, &[]).and_then(|moment| moment.units(6));
            // An integer can be in a column of doubles.
            found.as_f64() == written.as_f64() || moment.map(|us| us as f64) == found.as_f64()
        }
        (found, written) => found == written,
    }
}

fn any_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<i16>().prop_map(Json::from),
        any::<f64>().prop_filter("finite", |v| v.is_finite()).prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        Just(json!(MOMENT)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn any_cell() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<i32>().prop_map(|i| i.to_string()),
        2 => (-1e9..1e9f64).prop_map(|v| v.to_string()),
        2 => Just(String::new()),
        1 => "[0-9]{1,4}|TRUE|false|-0[0-9]|1e[0-9]|[+.]5|NaN",
        1 => Just(MOMENT.to_owned()),
        1 => "[a-c,\"\n ]{1,4}",
    ]
}

/// Objects of a few keys, so that they meet.
fn any_rows() -> impl Strategy<Value = Vec<Json>> {
    let row =
        prop::collection::btree_map("[a-f]", any_value(), 0..4).prop_map(|row| row.into_iter().collect());
    prop::collection::vec(row, 0..12)
}

fn lines(rows: &[Json]) -> (Vec<u8>, Vec<u32>) {
    block(&rows.iter().map(Json::to_string).collect::<Vec<_>>())
}

proptest! {
    /// What is inferred from rows decodes them, value by value as serde_json reads them.
    #[test]
    fn inferred_and_decoded_values_are_those_written(rows in any_rows()) {
        let (bytes, ends) = lines(&rows);
        let options = RowOptions::default();
        let evolved = Schema::default().evolve(&bytes, &ends, &options).unwrap();
        prop_assert!(Schema::new(evolved.schema.columns().to_vec()).is_ok());
        let mut decoder = RowDecoder::new(&evolved.schema, &options).unwrap();
        let settled = decoder.settle(&bytes, &ends);
        for bad in &settled.bad {
            prop_assert!(evolved.bad.iter().any(|other| other.row == bad.row), "{bad:?}: {}", evolved.schema);
        }
        let found = objects(&settled.batch);
        for (at, row) in settled.kept().enumerate() {
            let (found, written) = (essence(&found[at]), essence(&rows[row]));
            prop_assert!(same(&found, &written), "{found} {written} {}", evolved.schema);
        }
        if evolved.bad.is_empty() {
            prop_assert_eq!(decoder.fit(&bytes, &ends), Outcome::Rows(settled));
            let again = evolved.schema.evolve(&bytes, &ends, &options).unwrap();
            prop_assert_eq!(&again.schema, &evolved.schema);
            prop_assert!(!again.changed);
        }
    }

    /// What decoded before decodes after, to the same values, and adapting the batch comes to the same.
    #[test]
    fn growing_takes_nothing_away(first in any_rows(), second in any_rows()) {
        let options = RowOptions::default();
        let (bytes, ends) = lines(&first);
        let before = Schema::default().evolve(&bytes, &ends, &options).unwrap().schema;
        let early = RowDecoder::new(&before, &options).unwrap().settle(&bytes, &ends);
        let (more, more_ends) = lines(&second);
        let after = before.evolve(&more, &more_ends, &options).unwrap().schema;
        let late = RowDecoder::new(&after, &options).unwrap().settle(&bytes, &ends);
        let adapted = after.adapt(&early.batch).unwrap();
        let kept: Vec<_> = early.kept().collect();
        let late_kept: Vec<_> = late.kept().collect();
        let (adapted, late_rows) = (objects(&adapted), objects(&late.batch));
        for (at, row) in kept.iter().enumerate() {
            let there = late_kept.iter().position(|other| other == row);
            prop_assert!(there.is_some(), "row {row} of {before} is bad under {after}: {:?}", late.bad);
            prop_assert_eq!(essence(&adapted[at]), essence(&late_rows[there.unwrap()]));
        }
        // Columns stay where they are.
        for (old, new) in before.columns().iter().zip(after.columns()) {
            prop_assert_eq!(&old.name, &new.name);
        }
    }

    /// Any text whatever is taken in or named.
    #[test]
    fn any_payload_is_taken_in_or_named(rows in prop::collection::vec("[\\[\\]{}:,\"a-c0-9.e -]{0,24}", 0..8)) {
        evolve("", &rows);
        evolve("a bigint, b struct<a:string>, c array<double>", &rows);
    }

    /// Fields of CSV of any kind: the schema takes every row, and as text they are what they were.
    #[test]
    fn rows_of_csv_are_all_taken(rows in prop::collection::vec(
        (any_cell(), any_cell(), any_cell()), 1..12)) {
        let mut written = csv::Writer::from_writer(Vec::new());
        let (mut payloads, mut from) = (Vec::new(), 0);
        for (a, b, c) in &rows {
            written.write_record([a, b, c]).unwrap();
            written.flush().unwrap();
            let now = written.get_ref().len();
            payloads.push(written.get_ref()[from..now - 1].to_vec());
            from = now;
        }
        let (bytes, ends) = block(&payloads);
        let header = CsvRows::new(b"a,b,c", b',').unwrap();
        let options = RowOptions::default();
        let mut inference = Inference::new(&Schema::default(), &options).unwrap().with_csv(header.clone());
        prop_assert_eq!(inference.add(&bytes, &ends), []);
        let schema = inference.schema();
        let mut decoder = RowDecoder::new(&schema, &options).unwrap().with_csv(header);
        let Outcome::Rows(fitting) = decoder.fit(&bytes, &ends) else { panic!("{schema} does not take them") };
        prop_assert_eq!(fitting.bad, []);
        for (found, (a, b, c)) in objects(&fitting.batch).iter().zip(&rows) {
            for (name, cell) in [("a", a), ("b", b), ("c", c)] {
                match &found[name] {
                    Json::Null => prop_assert_eq!(cell, ""),
                    Json::String(text) => prop_assert_eq!(text, cell),
                    Json::Bool(value) => prop_assert_eq!(&value.to_string(), &cell.to_lowercase()),
                    Json::Number(_) if cell == MOMENT => {}
                    number => prop_assert_eq!(number.as_f64(), cell.parse().ok()),
                }
            }
        }
    }
}
