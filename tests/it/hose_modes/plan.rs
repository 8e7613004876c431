//! `khose --plan` tells what the next run does, and does nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use super::{FAILPOINTS, Lake, gather};
use crate::servers;

fn plan(lake: &Lake, args: &[&str]) -> Value {
    let done = lake.khose(&["--plan", "clicks", "lake/", "--log", "json"]).args(args).ok();
    serde_json::from_slice(&done.stdout).expect("JSON")
}

/// The names of the objects, with records and bytes.
fn objects(plan: &Value) -> BTreeMap<String, (u64, u64)> {
    let object = |object: &Value| {
        let number = |member: &str| object[member].as_u64().expect("a number");
        (object["name"].as_str().expect("a name").to_owned(), (number("records"), number("bytes")))
    };
    plan["objects"].as_array().expect("a list").iter().map(object).collect()
}

/// Everything below the test's directory, with what is in it.
fn everything(lake: &Lake) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    gather(lake.wd.path(), "", &mut files);
    files.into_iter().map(|(name, path)| (name, fs::read(path).expect("a file"))).collect()
}

/// The objects that are there, with their bytes.
fn there(lake: &Lake) -> BTreeMap<String, u64> {
    let size = |name: &String| fs::metadata(lake.wd.join("lake").join(name)).expect("an object").len();
    lake.objects().into_iter().map(|name| (name.clone(), size(&name))).collect()
}

#[test]
fn the_run_that_follows_makes_just_those_objects() {
    for args in [
        &[][..],
        &["-o", "parquet", "--prefix", "s=!{partitionKeyFromQuery:s}/!{shard}/"],
        &["-o", "csv", "--compression", "gzip", "--buffer-size", "64KiB"],
        &[
            "--jq",
            "select(.i % 3 > 0) | ., {i}",
            "--partitions-max",
            "2",
            "--prefix",
            "i=!{partitionKeyFromQuery:i}/",
        ],
    ] {
        let lake = Lake::new();
        lake.put_lines(
            &(0..3000).map(|i| format!("{{\"i\":{},\"s\":\"{}\"}}\n", i % 7, i % 5)).collect::<String>(),
        );
        let before = everything(&lake);
        let told = plan(&lake, args);
        assert_eq!(everything(&lake), before, "{args:?}");
        lake.deliver(args).ok();
        let found = there(&lake);
        let expected = objects(&told);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{args:?}");
        for (name, bytes) in &found {
            assert_eq!(*bytes, expected[name].1, "{args:?} {name}");
        }
        // Nothing new, nothing to do.
        let told = plan(&lake, args);
        assert_eq!((objects(&told).len(), &told["read"]["records"]), (0, &0.into()), "{args:?}");
        // And on from where it stands, with the version of the settings that the run will have.
        lake.put(10_000, 100);
        for args in [args, &[args, &["--extension", ".other"]].concat()] {
            let told = objects(&plan(&lake, args));
            assert!(!told.is_empty() && told.keys().all(|name| !found.contains_key(name)), "{args:?}");
            if args.ends_with(&["--extension", ".other"]) {
                lake.deliver(args).ok();
                let now = there(&lake);
                let new: BTreeSet<&String> = now.keys().filter(|name| !found.contains_key(*name)).collect();
                assert_eq!(new, told.keys().collect(), "{args:?}");
            }
        }
    }
}

#[test]
fn children_of_a_shard_come_in_their_turn() {
    let lake = Lake::new();
    lake.put(0, 200);
    lake.wd.run("kshard").args(["split", "clicks", "0"]).ok();
    lake.put(200, 200);
    let told = objects(&plan(&lake, &["--prefix", "!{shard}/"]));
    lake.deliver(&["--prefix", "!{shard}/"]).ok();
    assert_eq!(there(&lake).keys().collect::<Vec<_>>(), told.keys().collect::<Vec<_>>());
    assert!(told.len() >= 4, "{told:?}");
}

#[test]
fn a_batch_that_was_not_finished_is_planned_as_it_was() {
    for failpoint in FAILPOINTS {
        let lake = Lake::new();
        let args = ["--prefix", "s=!{partitionKeyFromQuery:i}/"];
        lake.put(0, 8);
        lake.deliver(&args).env("KPIPE_FAILPOINT", failpoint).done().expect_status(137);
        lake.put(8, 8);
        let done = there(&lake);
        let before = everything(&lake);
        let told = plan(&lake, &args);
        assert_eq!(everything(&lake), before);
        lake.deliver(&args).ok();
        let told: BTreeSet<String> = objects(&told).into_keys().chain(done.into_keys()).collect();
        assert_eq!(there(&lake).into_keys().collect::<BTreeSet<_>>(), told, "{failpoint}");
    }
}

#[test]
fn failures_and_columns_are_told() {
    let lake = Lake::new();
    lake.put(0, 5);
    lake.deliver(&["-o", "parquet"]).ok();
    lake.put_lines("{\"i\":1.5,\"s\":\"y\",\"new\":true}\nno json\n{\"s\":[1]}\n");
    let told = plan(&lake, &["-o", "parquet"]);
    assert_eq!(told["columnsBefore"], "i bigint, s string");
    assert_eq!(told["columns"], "i double, s string, new boolean");
    assert_eq!(told["columnsAreInferred"], true);
    let failed = told["failed"].as_array().expect("a list");
    let records: u64 = failed.iter().map(|kind| kind["records"].as_u64().expect("a number")).sum();
    assert_eq!(records, 2, "{told:#}");
    assert_eq!(failed[0]["errorOutputType"], "format-conversion-failed");
    assert_eq!(told["delivered"]["failed"], 2);
    let done = lake.khose(&["--plan", "clicks", "lake/", "-o", "parquet"]).ok();
    for part in ["new: new boolean", "changed: i from bigint to double", "would fail", "no json"] {
        assert!(done.text().contains(part), "{part}: {}", done.text());
    }
    // What was inferred meanwhile is not kept.
    assert_eq!(plan(&lake, &["-o", "parquet"])["columnsBefore"], "i bigint, s string");
}

#[test]
fn one_file_a_limit_and_a_pipe() {
    let lake = Lake::new();
    lake.put(0, 100);
    let told = plan(&lake, &["--limit", "10"]);
    assert_eq!((&told["read"]["records"], &told["limited"]), (&10.into(), &true.into()));
    let done = lake.khose(&["--plan", "clicks", "hits.parquet", "--log", "json"]).ok();
    let told: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert!(!lake.wd.join("hits.parquet").exists());
    lake.khose(&["clicks", "hits.parquet"]).ok();
    let bytes = fs::metadata(lake.wd.join("hits.parquet")).expect("a file").len();
    assert_eq!(objects(&told), BTreeMap::from([("hits.parquet".to_owned(), (100, bytes))]));
    // A service is not spoken to.
    let done = lake.khose(&["--plan", "clicks", "https://127.0.0.1:1/x", "--log", "json"]).ok();
    let told: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(told["delivered"]["records"], 100);
    lake.khose(&["--plan", "-", "lake/"]).fails();
}

#[test]
fn a_bucket_is_not_touched() {
    let Some(s3) = servers::s3() else { return };
    let place = format!("s3://{}/lake/", s3.bucket());
    let lake = Lake::new();
    lake.put(0, 40);
    let run = |args: &[&str]| {
        s3.variables().into_iter().fold(lake.khose(args), |tool, (name, value)| tool.env(&name, value)).ok()
    };
    let told = run(&["--plan", "clicks", &place, "--log", "json", "-o", "parquet"]);
    let told = objects(&serde_json::from_slice(&told.stdout).expect("JSON"));
    assert_eq!(told.len(), 1);
    assert_eq!(run(&["--plan", "clicks", &place, "--log", "json", "-o", "parquet"]).status, 0);
    run(&["clicks", &place, "-o", "parquet"]);
    let found = run(&["--verify", "clicks", &place, "--log", "json"]);
    let found: Value = serde_json::from_slice(&found.stdout).expect("JSON");
    assert_eq!(found["report"]["objects"]["committed"], 1);
    assert_eq!(found["report"]["objects"]["bytes"], told.values().map(|(_, bytes)| bytes).sum::<u64>());
}
