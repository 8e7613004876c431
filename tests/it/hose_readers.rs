//! What khose wrote, read by others: DuckDB, pyarrow and polars find the records that were put in, with the types that
//! were asked for.

use std::path::{Path, PathBuf};

use crate::servers;
use crate::workdir::Workdir;

const PEERS: [&str; 3] = ["duckdb==2.0.1", "pyarrow==26.0.1", "polars==2.1.0"];

const COLUMNS: &str = "id bigint, big bigint, small int, d double, f float, b boolean, s string, ts timestamp, \
    wall timestamp_ntz, day date, price decimal(12,2), fine decimal(38,10), bin binary, \
    n struct<a:bigint,t:string,deep:struct<l:array<bigint>>>, l array<bigint>, ls array<struct<x:bigint,y:string>>, \
    m map<string,bigint>";

/// A stream with rows of every type, and who compares. Nothing where the others cannot be had.
struct Peers {
    wd: Workdir,
    python: PathBuf,
    script: PathBuf,
}

impl Peers {
    fn new(rows: u32) -> Option<Self> {
        let python = servers::python("readers", &PEERS)?.join("python");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/hose_readers/peers.py");
        let peers = Self { wd: Workdir::new(), python, script };
        peers.say(&["input", &rows.to_string()], "input");
        peers.wd.sh("kput -q --create=2 -i ndjson s < input").ok();
        Some(peers)
    }

    fn say(&self, args: &[&str], file: &str) {
        let script =
            format!("exec {} {} {} > {file}", self.python.display(), self.script.display(), args.join(" "));
        self.wd.sh(&script).ok();
    }

    /// Delivers with these options, and lets the others read.
    #[track_caller]
    fn compare(&self, options: &str, form: &str, mode: &str) {
        let count = std::fs::read_dir(self.wd.path()).expect("a directory").count();
        let dir = format!("{form}-{count}");
        let delivery = format!("khose -q s {dir}/ --consumer {dir} -o {form} {options}");
        self.wd.sh(&delivery).ok();
        let script = format!(
            "exec {} {} {form} {dir} input {mode} 2>&1",
            self.python.display(),
            self.script.display()
        );
        let done = self.wd.sh(&script).done();
        assert_eq!(done.status, 0, "{delivery}\n{}", done.text());
    }
}

fn columns() -> String {
    format!("--schema '{COLUMNS}'")
}

#[test]
fn parquet_is_read_with_its_types() {
    let Some(peers) = Peers::new(4000) else { return };
    peers.compare(&columns(), "parquet", "");
    let many = "--row-group-size 200KiB --page-size 8KiB --buffer-size 300KiB";
    peers.compare(&format!("{} {many}", columns()), "parquet", "");
    let tuned = "--parquet-compression snappy --no-dictionary=s --bloom id --bloom s --sort d:desc --sort id";
    peers.compare(&format!("{} {tuned} {many}", columns()), "parquet", "");
}

#[test]
fn parquet_for_old_readers_is_read_by_new_ones() {
    let Some(peers) = Peers::new(1500) else { return };
    peers.compare(&format!("{} --parquet-compat", columns()), "parquet", "compat");
}

#[test]
fn columns_that_were_inferred_are_read() {
    let Some(peers) = Peers::new(3000) else { return };
    for compression in ["none", "gzip", "lz4", "snappy", "zstd:9"] {
        peers.compare(&format!("--parquet-compression {compression}"), "parquet", "inferred");
    }
}

#[test]
fn arrow_and_csv_and_lines_are_read() {
    let Some(peers) = Peers::new(2000) else { return };
    peers.compare(&columns(), "arrow", "");
    peers.compare(&columns(), "csv", "");
    peers.compare(&format!("{} --csv-quote always", columns()), "csv", "");
    for compression in ["none", "gzip", "zstd"] {
        peers.compare(&format!("--compression {compression}"), "ndjson", "");
    }
}

/// A place is a table of partitions for all of them: the ledger and the failed records beside the data are in nobody's
/// way, and a column may come later.
#[test]
fn a_place_is_a_table() {
    let Some(peers) = Peers::new(1) else { return };
    let mut all = String::new();
    for (n, later) in [(0, ""), (1000, ",\"later\":1.5"), (2000, "")] {
        let rows: String = (n..n + 1000)
            .map(|id| format!("{{\"id\":{id},\"k\":\"k {}/{}\"{later}}}\n", id % 3, id % 2))
            .collect();
        peers.wd.sh("kput -q --create t").stdin(format!("{rows}no JSON\n")).ok();
        let done = peers.wd.sh("khose t lake/ -o parquet --prefix 'k=!{partitionKeyFromQuery:k}/'").done();
        assert_eq!(done.status, 1, "{}", done.stderr);
        all += &rows;
    }
    peers.wd.write("rows", all);
    let script = format!("exec {} {} lake lake rows 2>&1", peers.python.display(), peers.script.display());
    let done = peers.wd.sh(&script).done();
    assert_eq!(done.status, 0, "{}", done.text());
}
