//! What khose does beside delivering: it plans, verifies, and replays what has failed.

mod plan;
mod replay;
mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::workdir::{Done, Tool, Workdir};

/// Every place at which a delivery that has a ledger may be killed.
const FAILPOINTS: [&str; 7] = [
    "plan.before",
    "plan.after",
    "deliver.after",
    "errors.after",
    "commit.before",
    "commit.after",
    "checkpoint.after",
];

/// A stream, and a directory that it is delivered to.
struct Lake {
    wd: Workdir,
}

impl Lake {
    /// A stream `clicks` of two shards.
    fn new() -> Self {
        let wd = Workdir::new();
        wd.run("kshard").args(["create", "clicks", "--shards", "2", "--quiet"]).ok();
        Self { wd }
    }

    /// Puts records `first..first + count` into it: `{"i":1,"s":"x1"}`.
    fn put(&self, first: u64, count: u64) {
        let lines: String =
            (first..first + count).map(|i| format!("{{\"i\":{i},\"s\":\"x{i}\"}}\n")).collect();
        self.put_lines(&lines);
    }

    fn put_lines(&self, lines: &str) {
        self.wd.run("kput").args(["--quiet", "clicks"]).stdin(lines).ok();
    }

    /// khose with these arguments, and quiet.
    fn khose(&self, args: &[&str]) -> Tool {
        self.wd.run("khose").arg("--quiet").args(args)
    }

    /// Delivers to `lake/`.
    fn deliver(&self, args: &[&str]) -> Tool {
        self.khose(&["clicks", "lake/"]).args(args)
    }

    /// What `--verify` says of `lake/`.
    fn verify(&self, args: &[&str]) -> Verified {
        let done = self.khose(&["--verify", "clicks", "lake/", "--log", "json"]).args(args).done();
        Verified::of(&done)
    }

    /// All files below a directory, by their names there; without what khose keeps for itself.
    fn files(&self, dir: &str) -> BTreeMap<String, PathBuf> {
        let mut files = BTreeMap::new();
        gather(&self.wd.join(dir), "", &mut files);
        files.retain(|name, _| !name.starts_with("_khose/"));
        files
    }

    /// Objects of records in `lake/`.
    fn objects(&self) -> Vec<String> {
        let mut names: Vec<String> = self.files("lake").into_keys().collect();
        names.retain(|name| !name.starts_with("_errors/"));
        names
    }

    /// Every line of the objects in `lake/`, in order.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for name in self.objects() {
            let text = fs::read_to_string(self.wd.join("lake").join(name)).expect("text");
            lines.extend(text.lines().map(str::to_owned));
        }
        lines.sort_unstable();
        lines
    }

    /// A file of a ledger whose name begins like this.
    fn ledger(&self, file: &str) -> PathBuf {
        let khose = self.wd.join("lake/_khose");
        let dir = fs::read_dir(&khose).expect("a ledger").next().expect("a ledger").expect("a ledger").path();
        dir.join(file)
    }
}

fn gather(dir: &Path, before: &str, files: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = format!("{before}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            gather(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, entry.path());
        }
    }
}

/// A report.
struct Verified {
    status: i32,
    json: Value,
}

impl Verified {
    #[track_caller]
    fn of(done: &Done) -> Self {
        assert!(done.status < 2, "{}", done.stderr);
        let json: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&done.stdout));
        });
        assert_eq!(json["ok"], Value::Bool(done.status == 0));
        Self { status: done.status, json }
    }

    /// The kinds of findings, each once for each.
    fn kinds(&self) -> Vec<String> {
        let findings = self.json["report"]["findings"].as_array().expect("a list");
        let mut kinds: Vec<String> =
            findings.iter().map(|finding| finding["kind"].as_str().expect("a kind").to_owned()).collect();
        kinds.sort_unstable();
        kinds
    }

    #[track_caller]
    fn expect_well(self) -> Self {
        assert!(self.status == 0, "{:#}", self.json);
        self
    }

    #[track_caller]
    fn expect(self, kinds: &[&str]) -> Self {
        assert_eq!(self.kinds(), kinds, "{:#}", self.json);
        self
    }

    fn objects(&self, member: &str) -> u64 {
        self.json["report"]["objects"][member].as_u64().unwrap_or_else(|| panic!("{:#}", self.json))
    }

    /// Sums a member of all shards.
    fn shards(&self, member: &str) -> u64 {
        let shards = self.json["report"]["shards"].as_array().expect("a list");
        shards.iter().map(|shard| shard[member].as_u64().expect("a number")).sum()
    }
}
