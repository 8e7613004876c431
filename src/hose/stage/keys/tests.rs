use std::sync::LazyLock;
use std::time::Instant;

use proptest::prelude::*;

use super::super::testing::{left_out, tell_jq};
use super::*;

fn extract(keys: &PartitionKeys, records: &[&[u8]]) -> Vec<Result<Vec<String>, String>> {
    let mut all = Vec::new();
    keys.extract(records, |number, values| {
        assert_eq!(number, all.len());
        all.push(match values {
            Ok(values) => Ok(values.iter().map(|value| value.clone().into_owned()).collect()),
            Err(failure) => {
                assert_eq!(failure.error_type, ErrorType::MetadataExtraction);
                assert_eq!(failure.code, "DynamicPartitioning.MetadataExtractionFailed");
                Err(failure.message)
            }
        });
    })
    .unwrap();
    all
}

fn one(query: Option<&str>, names: &[&str], data: &str) -> Result<Vec<String>, String> {
    extract(&PartitionKeys::new(query, names).unwrap(), &[data.as_bytes()]).remove(0)
}

const DATA: &str = r#"{"id":"c-17","n":1.50,"big":12345678901234567890,"yes":true,"user":{"id":"u\u00e9\/"},"tags":["a",{"x":2}],"ts":1565382027,"null":null,"empty":"","x y":"z"}"#;

#[test]
fn names_are_paths_to_fields() {
    let names = ["id", "n", "big", "yes", "user.id", "tags.0", "/tags/1/x"];
    let values = ["c-17", "1.50", "12345678901234567890", "true", "ué/", "a", "2"];
    assert_eq!(one(None, &names, DATA).unwrap(), values);
    for (name, why) in [
        ("nope", "the field `nope` is missing"),
        ("null", "the field `null` is null"),
        ("user", "the field `user` is an object"),
        ("tags", "the field `tags` is an array"),
        ("empty", "it is empty"),
    ] {
        let message = format!("the partition key `{name}`: {why}");
        assert_eq!(one(None, &["id", name], DATA).unwrap_err(), message);
    }
    assert!(one(None, &["id"], "nonsense").unwrap_err().contains("not valid JSON"));
    assert!(one(None, &["id"], "").unwrap_err().contains("not valid JSON"));
    assert!(PartitionKeys::new(None, &["a..b"]).is_err());
    assert_eq!(one(None, &[], "nonsense").unwrap(), Vec::<String>::new());
}

#[test]
fn an_object_of_paths_is_looked_up_and_any_other_query_is_run() {
    let cases = [
        ("{a: .id, b: .user.id}", true),
        ("{\"a\": .\"id\", b:.user.\"id\"}", true),
        (" { a : .id , b : .nope, b: .user.id } ", true),
        ("{a: .id, b: .user[\"id\"]}", false),
        ("{a: .id, b: (.user | .id)}", false),
        ("{a: .id, b: \"\\(.user.id)\"}", false),
        ("{a: .id} | {a, b: \"u\\u00e9/\"}", false),
        ("{a: .id} + {b: .user.id}", false),
        ("{(\"a\"): .id, b: .user.id}", false),
        (". as {id: $a, user: {id: $b}} | {$a, $b}", false),
    ];
    for (query, fast) in cases {
        let keys = PartitionKeys::new(Some(query), &["b", "a"]).unwrap();
        assert_eq!(keys.are_paths(), fast, "{query}");
        assert_eq!(extract(&keys, &[DATA.as_bytes()])[0].as_ref().unwrap(), &["ué/", "c-17"], "{query}");
    }
    assert_eq!(one(Some("{id, yes}"), &["yes", "id"], DATA).unwrap(), ["true", "c-17"]);
    let dated = "{customer: .id, y: (.ts|strftime(\"%Y\"))}";
    assert_eq!(one(Some(dated), &["customer", "y"], DATA).unwrap(), ["c-17", "2019"]);
    assert_eq!(
        one(Some("{a: .[\"x y\"], b: (.n * 2), c: (.ts / 2)}"), &["a", "b", "c"], DATA).unwrap(),
        ["z", "3", "782691013.5"]
    );
}

#[test]
fn a_query_that_has_not_all_names_fails() {
    let refused = |query, names: &[&str]| PartitionKeys::new(Some(query), names).unwrap_err();
    assert_eq!(refused("{a: .x, b: .y}", &["a", "c"]), "the query has no `c`, only a, b");
    assert_eq!(refused("{}", &["c"]), "the query has no `c`, only an empty object");
    assert_eq!(refused("{a: .x", &["a"]), "expected closing brace at its end");
    let dynamic = |body: &str| format!(". | {{a: ({body})}}");
    for (body, why) in [
        (".null", "the partition key `a`: it is null"),
        (".nope", "the partition key `a`: it is null"),
        (".tags", "the partition key `a`: it is an array"),
        (".user", "the partition key `a`: it is an object"),
        (".empty", "the partition key `a`: it is empty"),
        ("nan", "the partition key `a`: it is not a number"),
        ("error(\"no\")", "no"),
        ("empty", "the query has no output"),
        (".tags[]", "the query has more than one output"),
    ] {
        assert_eq!(one(Some(&dynamic(body)), &["a"], DATA).unwrap_err(), why, "{body}");
    }
    assert!(one(Some(&dynamic("def f: f; f")), &["a"], DATA).unwrap_err().starts_with("the query took "));
    assert_eq!(one(Some(". | .id"), &["a"], DATA).unwrap_err(), "the query's output is not an object");
    assert_eq!(one(Some(". | {b: 1}"), &["a"], DATA).unwrap_err(), "the partition key `a`: is missing");
    assert!(one(Some(". | {a: 1}"), &["a"], "{").unwrap_err().starts_with("the record is not JSON"));
}

#[test]
fn one_bad_record_leaves_the_others() {
    let records: [&[u8]; 4] = [b"{\"a\":\"x\"}", b"{\"a\":null}", b"\xff", b"{\"a\":7}"];
    for query in [None, Some("{a}"), Some("{a: (.a | .)}")] {
        let all = extract(&PartitionKeys::new(query, &["a"]).unwrap(), &records);
        assert_eq!((&all[0], &all[3]), (&Ok(vec!["x".to_owned()]), &Ok(vec!["7".to_owned()])));
        assert!(all[1].is_err() && all[2].is_err());
    }
}

/// The service's own examples, and what else makes partitions, as jq 1.6 has them.
#[test]
fn the_same_as_jq() {
    if tell_jq(&["--version"], "").is_none() {
        return left_out("jq", "partition queries compared with jq");
    }
    let data = r#"{"type":{"device":"mobile","event":"user_clicked"},"event_timestamp":1630442383,"customer_id":"1234567890","lat":52.5,"n":8,"yes":false,"name":"A B/C","at":"2021-08-31T20:39:43Z"}"#;
    for query in [
        "{customer_id: .customer_id}",
        "{a: .type.device, b: .type.event}",
        "{y: (.event_timestamp | strftime(\"%Y\")), m: (.event_timestamp | strftime(\"%m\")), d: (.event_timestamp | strftime(\"%d\")), h: (.event_timestamp | strftime(\"%H\"))}",
        "{y: .at[0:4], d: (.at | fromdate | strftime(\"%j\"))}",
        "{n: .n, half: (.n / 2), part: (.n / 16), lat: (.lat | floor), yes}",
        "{name: (.name | gsub(\"[^A-Za-z]\"; \"_\") | ascii_downcase)}",
        "{bucket: (.customer_id | tonumber % 16)}",
        "{first: .customer_id[0:2], len: (.name | length)}",
        "{k: (if .n > 5 then \"large\" else \"small\" end)}",
        "{k: (.missing // \"none\")}",
        "{k: (.customer_id | @base64)}",
        "{k: ([.type[]] | join(\"-\"))}",
    ] {
        let theirs = tell_jq(&["-c", &format!("{query} | map_values(tostring) | to_entries")], data).unwrap();
        let theirs: Vec<serde_json::Value> = serde_json::from_str(&theirs).unwrap();
        let names: Vec<&str> = theirs.iter().map(|entry| entry["key"].as_str().unwrap()).collect();
        let values: Vec<&str> = theirs.iter().map(|entry| entry["value"].as_str().unwrap()).collect();
        assert_eq!(one(Some(query), &names, data).unwrap(), values, "{query}");
    }
}

#[test]
fn fields_of_many_records_are_found_fast() {
    let records: Vec<String> = (0..3000)
        .map(|i| {
            format!(
                r#"{{"id":{i},"user":{{"name":"n{i}","country":"c{}"}},"text":"{}","n":[1,2,3]}}"#,
                i % 7,
                "x".repeat(200)
            )
        })
        .collect();
    let slices: Vec<&[u8]> = records.iter().map(String::as_bytes).collect();
    let bytes: usize = slices.iter().map(|record| record.len()).sum();
    for query in [None, Some("{\"user.country\": .user[\"country\"]}")] {
        let keys = PartitionKeys::new(query, &["user.country"]).unwrap();
        let (begun, mut count) = (Instant::now(), 0);
        keys.extract(&slices, |i, values| {
            assert_eq!(values.unwrap()[0], format!("c{}", i % 7));
            count += 1;
        })
        .unwrap();
        assert_eq!(count, records.len());
        let took = begun.elapsed();
        println!(
            "{}: {:.0} MB/s, {:.0} ns a record",
            if query.is_some() { "query" } else { "path" },
            bytes as f64 / 1e6 / took.as_secs_f64(),
            took.as_nanos() as f64 / count as f64
        );
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1e6..1e6).prop_map(|f: f64| f.into()),
        ".{0,4}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Into::into),
            prop::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Pairs of queries that come to the same, the one a lookup, the other run.
static AGREEING: LazyLock<Vec<[PartitionKeys; 2]>> = LazyLock::new(|| {
    let pair = |names: &[&str]| {
        let keys = |query| PartitionKeys::new(Some(query), names).unwrap();
        let pair = [keys("{x: .a.b, y: .a}"), keys("{x: (try .a.b catch null), y: (try .a catch null)}")];
        assert!(pair[0].are_paths() && !pair[1].are_paths());
        pair
    };
    vec![pair(&["x", "y"]), pair(&["x"]), pair(&["y"])]
});

proptest! {
    /// Finding a field and running a query come to the same, or both fail.
    #[test]
    fn paths_and_queries_agree(records in prop::collection::vec(json(), 1..8)) {
        let records: Vec<String> = records.iter().map(ToString::to_string).collect();
        let slices: Vec<&[u8]> = records.iter().map(String::as_bytes).collect();
        for [fast, slow] in &*AGREEING {
            let agreed = extract(fast, &slices).into_iter().zip(extract(slow, &slices));
            for (i, (fast, slow)) in agreed.enumerate() {
                prop_assert_eq!(fast.ok(), slow.ok(), "{}", records[i]);
            }
        }
    }
}
