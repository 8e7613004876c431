//! What deliveries have left at a destination, read by other means than theirs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kpipe::hose::store::{Context, Environment, Location, Store, StoreError};
use kpipe::sys::System;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::producer::Dice;
use crate::servers::{Variables, run};
use crate::workdir::{Tool, Workdir};

/// A destination, and what a program needs to know to reach it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) variables: Variables,
}

impl Place {
    /// A directory of a test's.
    pub(crate) fn dir(wd: &Workdir, name: &str) -> Self {
        Self { url: format!("file://{}/{name}/", wd.path().display()), variables: Variables::new() }
    }

    /// A place below this one.
    pub(crate) fn below(&self, name: &str) -> Self {
        Self { url: format!("{}{name}/", self.url), variables: self.variables.clone() }
    }

    /// `khose SOURCE PLACE OPTIONS`, in a shell.
    pub(crate) fn khose(&self, wd: &Workdir, source: &str, options: &str) -> Tool {
        let mut tool = wd.sh(&format!("exec khose {source} '{}' {options}", self.url));
        for (name, value) in &self.variables {
            tool = tool.env(name, value);
        }
        tool
    }

    fn open(&self) -> Arc<dyn Store> {
        let environment: Environment = self.variables.clone().into_iter().collect();
        let context = Context::new(&System::real(), environment, Arc::new(|line| eprintln!("{line}")));
        Location::parse(&self.url).expect("a place").open(&context).unwrap_or_else(|error| panic!("{error}"))
    }

    /// All that is there.
    #[track_caller]
    pub(crate) fn found(&self) -> Found {
        let store = self.open();
        let listed = run(store.list("", None)).unwrap_or_else(|error| panic!("{}: {error}", self.url));
        let mut found = Found::default();
        for object in listed {
            let bytes = match run(store.get(&object.name, 1 << 30)) {
                // A plan that was carried out meanwhile.
                Err(StoreError::NotFound { .. }) if object.name.ends_with(".plan.json") => continue,
                other => other.unwrap_or_else(|error| panic!("{error}")),
            };
            if let Some(entry) = object.name.strip_prefix("_khose/") {
                found.ledger.insert(entry.to_owned(), bytes);
            } else if object.name.starts_with("_errors/") {
                found.failed.extend(failed(&bytes));
                found.errors.push(object.name);
            } else {
                found.rows.extend(rows(&object.name, &bytes));
                found.objects.push(object.name);
            }
        }
        found.rows.sort_unstable();
        found.failed.sort_unstable();
        found
    }
}

/// What is at a destination.
#[derive(Default)]
pub(crate) struct Found {
    /// The names of the objects.
    pub(crate) objects: Vec<String>,
    /// The names of the objects with failed records.
    pub(crate) errors: Vec<String>,
    /// The records of all objects, each as JSON with its keys in order, sorted.
    pub(crate) rows: Vec<String>,
    /// The data of failed records, sorted.
    pub(crate) failed: Vec<String>,
    /// The entries of ledgers, by their names below `_khose/`.
    pub(crate) ledger: BTreeMap<String, Vec<u8>>,
}

impl Found {
    /// Everything that was put in is there once, and nothing else, delivered or failed.
    #[track_caller]
    pub(crate) fn expect_once(&self, what: &str, input: &str) {
        let mut found: Vec<String> = self.rows.iter().chain(&self.failed).map(|row| canonical(row)).collect();
        found.sort_unstable();
        let mut expected: Vec<String> = input.lines().map(canonical).collect();
        expected.sort_unstable();
        if found == expected {
            return;
        }
        let counts = |rows: &[String]| {
            let mut counts: BTreeMap<String, i64> = BTreeMap::new();
            rows.iter().for_each(|row| *counts.entry(row.clone()).or_default() += 1);
            counts
        };
        let (found_counts, expected_counts) = (counts(&found), counts(&expected));
        let mut text = String::new();
        let mut keys: Vec<&String> = found_counts.keys().chain(expected_counts.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let (mut lost, mut doubled) = (0, 0);
        for key in keys {
            let (is, should) = (found_counts.get(key).unwrap_or(&0), expected_counts.get(key).unwrap_or(&0));
            lost += (should - is).max(0);
            doubled += (is - should).max(0);
            if is != should && text.len() < 1500 {
                let _ = writeln!(text, "  {is} and not {should} times: {key}");
            }
        }
        panic!(
            "{what}: {lost} lost, {doubled} too often, of {} records\n{text}objects: {:#?}\nerrors: {:#?}\nledger: {:#?}",
            expected.len(),
            self.objects,
            self.errors,
            self.ledger.keys()
        );
    }

    /// No plan without its commit is left, and what the last commit counts is what is there.
    #[track_caller]
    pub(crate) fn expect_settled(&self, what: &str) {
        let committed = |name: &str| {
            let commit = name.replace(".plan.json", ".json");
            self.ledger.contains_key(&commit)
        };
        let is_hint = |name: &str| name.ends_with("/latest.json");
        let open: Vec<&String> =
            self.ledger.keys().filter(|name| !committed(name) && !is_hint(name)).collect();
        assert!(open.is_empty(), "{what}: not committed: {open:?}");
        let (mut objects, mut errors) = (Vec::new(), Vec::new());
        let mut totals = BTreeMap::new();
        for (name, bytes) in self.ledger.iter().filter(|(name, _)| is_commit(name)) {
            let commit: serde_json::Value = serde_json::from_slice(bytes).expect("a commit");
            for (list, key) in [(&mut objects, "objects"), (&mut errors, "errors")] {
                let notes = commit[key].as_array().cloned().unwrap_or_default();
                list.extend(notes.iter().map(|note| note["name"].as_str().expect("a name").to_owned()));
            }
            let (delivery, _) = name.split_once('/').expect("an entry of a delivery");
            totals.insert(delivery.to_owned(), commit["totals"]["records"].as_u64().expect("a count"));
        }
        objects.sort_unstable();
        errors.sort_unstable();
        assert_eq!(objects, self.objects, "{what}: what the commits name, and what is there");
        assert_eq!(errors, self.errors, "{what}: what the commits name, and what is there");
        let total: u64 = totals.values().sum();
        assert_eq!(total, self.rows.len() as u64, "{what}: records by the ledger, and those that are there");
    }
}

fn is_commit(name: &str) -> bool {
    let stem = name.rsplit('/').next().and_then(|file| file.strip_suffix(".json"));
    stem.is_some_and(|stem| stem.len() == 20 && stem.bytes().all(|b| b.is_ascii_digit()))
}

/// A record as JSON with its keys in order, if it is JSON.
fn canonical(row: &str) -> String {
    serde_json::from_str::<serde_json::Value>(row).map_or_else(|_| row.to_owned(), |value| value.to_string())
}

/// The rows of an object, by its extension.
pub(crate) fn rows(name: &str, bytes: &[u8]) -> Vec<String> {
    if let Some(name) = name.strip_suffix(".gz") {
        let mut plain = Vec::new();
        let mut decoder = flate2::read::MultiGzDecoder::new(bytes);
        decoder.read_to_end(&mut plain).unwrap_or_else(|error| panic!("{name}: {error}"));
        return rows(name, &plain);
    }
    if name.ends_with(".parquet") {
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(ParquetRecordBatchReaderBuilder::build);
        let mut out = Vec::new();
        let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
        for batch in reader.unwrap_or_else(|error| panic!("{name}: {error}")) {
            writer.write(&batch.unwrap_or_else(|error| panic!("{name}: {error}"))).expect("rows as JSON");
        }
        writer.finish().expect("rows as JSON");
        return rows("x.ndjson", &out);
    }
    let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(text.is_empty() || text.ends_with('\n'), "{name}: its last line is cut");
    text.lines().map(str::to_owned).collect()
}

/// The data of failed records.
fn failed(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).expect("lines of failed records");
    let raw = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a failed record");
        let raw = line["error"]["rawData"].as_str().expect("its data");
        String::from_utf8(BASE64_STANDARD.decode(raw).expect("base64")).expect("text")
    };
    text.lines().map(raw).collect()
}

/// Records of several kinds: `k0` is much more frequent than `k4`, some have no `k`, and some are no JSON.
pub(crate) fn records(from: u64, to: u64) -> String {
    let mut text = String::new();
    for i in from..to {
        let mut dice = Dice::new(i + 1);
        let skewed = dice.throw(100);
        let k = [60, 80, 92, 98, 100].iter().position(|&end| skewed < end).expect("one of them");
        let _ = match i % 100 {
            13 => writeln!(text, "broken {i}"),
            77 => writeln!(text, r#"{{"id":{i},"v":{i}.5}}"#),
            _ => {
                // It does not shrink much.
                let pad: String = (0..30).map(|_| format!("{:016x}", dice.throw(u64::MAX))).collect();
                writeln!(text, r#"{{"id":{i},"k":"k{k}","v":{i}.25,"pad":"{pad}"}}"#)
            }
        };
    }
    text
}
