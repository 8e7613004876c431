//! khose as it is used from a shell and from cron: what is new is delivered, once, whatever happens on the way.

use std::path::{Path, PathBuf};

use super::hose::killed::POINTS;
use super::workdir::Workdir;

/// The files below a directory that are data: not the ledger's, not failed records.
fn objects(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('_') || name.starts_with('.') {
            continue;
        }
        if entry.path().is_dir() { found.extend(objects(&entry.path())) } else { found.push(entry.path()) }
    }
    found.sort();
    found
}

/// The lines of all objects, sorted.
fn lines(dir: &Path) -> Vec<String> {
    let text = |path: &PathBuf| std::fs::read_to_string(path).expect("an object of lines");
    let mut lines: Vec<String> = objects(dir)
        .iter()
        .flat_map(|path| text(path).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    lines.sort();
    lines
}

fn records(from: usize, to: usize) -> String {
    (from..to).map(|i| format!("{{\"id\":{i},\"k\":\"k{}\",\"v\":{}.5}}\n", i % 5, i)).collect()
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn what_is_new_is_delivered_and_nothing_twice() {
    let wd = Workdir::new();
    wd.sh("kput --create=2 clicks -i ndjson --key k").stdin(records(0, 100)).ok();
    wd.sh("khose clicks ./lake/").ok();
    assert!(lines(&wd.join("lake")) == sorted(&records(0, 100)));
    wd.sh("khose clicks ./lake/").ok();
    assert_eq!(objects(&wd.join("lake")).len(), 1);
    wd.sh("kput clicks -i ndjson --key k").stdin(records(100, 150)).ok();
    wd.sh("khose clicks ./lake/").ok();
    assert!(lines(&wd.join("lake")) == sorted(&records(0, 150)));
    assert_eq!(objects(&wd.join("lake")).len(), 2);
}

#[test]
fn a_run_killed_anywhere_is_followed_by_one_that_delivers_each_record_once() {
    let wd = Workdir::new();
    wd.sh("kput --create=2 clicks -i ndjson --key k").stdin(records(0, 3000)).ok();
    for point in POINTS {
        for nth in [1, 3] {
            for prefix in ["x/", "k=!{partitionKeyFromQuery:k}/"] {
                let name = format!("{point}-{nth}-{}", prefix.len());
                let command = format!(
                    "khose clicks ./{name}/ -o ndjson --prefix '{prefix}' --buffer-size 20KiB --consumer c-{name}"
                );
                // Killed, or done where the place is not met so often.
                let killed = wd.sh(&command).env("KPIPE_FAILPOINT", format!("{point}:{nth}")).done();
                assert!([0, 137].contains(&killed.status), "{name}: {} {}", killed.status, killed.stderr);
                wd.sh(&command).ok();
                assert!(lines(&wd.join(&name)) == sorted(&records(0, 3000)), "{name}");
            }
        }
    }
}

#[test]
fn a_bad_record_goes_to_the_error_output_alone() {
    let wd = Workdir::new();
    wd.sh("kput --create=1 mixed").stdin("{\"a\":1}\nnot json\n{\"a\":2}\n").ok();
    let run = wd.sh("khose mixed ./lake/ -o ndjson").done();
    let _ = run.expect_status(1);
    assert_eq!(lines(&wd.join("lake")), ["{\"a\":1}", "{\"a\":2}"]);
    let failed = objects(&wd.join("lake/_errors"));
    assert_eq!(failed.len(), 1);
    let line = std::fs::read_to_string(&failed[0]).expect("failed records");
    assert!(line.contains("\"text\":\"not json\"") && line.contains("\"lastErrorCode\""), "{line}");
    // One command puts it back.
    wd.sh("cat lake/_errors/*/* | kput --create=1 again -i json").ok();
    wd.sh("kget again").expect_stdout("not json\n");
}

#[test]
fn one_file_is_written_whole_and_left_alone_when_it_has_not_changed() {
    let wd = Workdir::new();
    wd.sh("kput --create=1 clicks -i ndjson").stdin(records(0, 20)).ok();
    wd.sh("khose clicks hits.csv --if-changed").ok();
    let modified =
        || std::fs::metadata(wd.join("hits.csv")).and_then(|meta| meta.modified()).expect("the file");
    let before = modified();
    assert_eq!(wd.read("hits.csv").lines().count(), 21);
    wd.sh("khose clicks hits.csv --if-changed").ok();
    assert_eq!(modified(), before);
    wd.sh("kput clicks -i ndjson").stdin(records(20, 21)).ok();
    wd.sh("khose clicks hits.csv --if-changed").ok();
    assert_eq!(wd.read("hits.csv").lines().count(), 22);
}

#[test]
fn a_pipe_of_envelopes_is_delivered_once_however_often_it_is_read() {
    let wd = Workdir::new();
    wd.sh("kput --create=2 clicks -i ndjson --key k").stdin(records(0, 50)).ok();
    wd.sh("kget clicks -o json | khose - ./lake/ -i json -o ndjson").ok();
    wd.sh("kput clicks -i ndjson --key k").stdin(records(50, 60)).ok();
    wd.sh("kget clicks -o json | khose - ./lake/ -i json -o ndjson").ok();
    wd.sh("kget clicks -o json | khose - ./lake/ -i json -o ndjson").ok();
    assert!(lines(&wd.join("lake")) == sorted(&records(0, 60)));
}

#[test]
fn standard_input_with_a_spool_survives_a_kill() {
    let wd = Workdir::new();
    let killed = wd
        .sh("khose - ./lake/ -i ndjson -o ndjson --spool sp")
        .env("KPIPE_FAILPOINT", "plan.after")
        .stdin(records(0, 40))
        .done();
    let _ = killed.expect_status(137);
    // What was in the spool is delivered by the next run, together with what that one reads.
    let stored = wd.sh("kget sp | wc -l").done();
    let stored: usize = stored.text().trim().parse().expect("a count");
    wd.sh("khose - ./lake/ -i ndjson -o ndjson --spool sp").stdin(records(40, 50)).ok();
    assert_eq!(lines(&wd.join("lake")).len(), stored + 10);
}

#[test]
fn records_are_changed_on_the_way() {
    let wd = Workdir::new();
    wd.sh("kput --create=1 clicks -i ndjson").stdin(records(0, 10)).ok();
    wd.sh("khose clicks ./a/ --jq 'select(.id < 2) | {id}'").ok();
    assert_eq!(lines(&wd.join("a")), ["{\"id\":0}", "{\"id\":1}"]);
    wd.sh("khose clicks ./b/ -o lines --filter 'grep k3' --consumer b").ok();
    assert_eq!(lines(&wd.join("b")).len(), 2);
    wd.sh("khose clicks - -o csv --no-header --consumer c")
        .expect_stdout(&(0..10).map(|i| format!("{i},k{},{i}.5\n", i % 5)).collect::<String>());
}

#[test]
fn arguments_come_from_a_file_too() {
    let wd = Workdir::new();
    wd.sh("kput --create=1 clicks -i ndjson").stdin(records(0, 10)).ok();
    wd.write("d.toml", "source = 'clicks'\ndestination = './lake/'\noutput = 'csv'\nno-header = true\n");
    wd.sh("khose --config d.toml").ok();
    assert_eq!(lines(&wd.join("lake")).len(), 10);
    wd.write("bad.toml", "source = 'clicks'\ndestination = './lake/'\noutptu = 'csv'\n");
    let bad = wd.sh("khose --config bad.toml").done();
    let _ = bad.expect_status(2).expect_stderr_has("did you mean `output`");
}

#[test]
fn another_stream_takes_each_record_once() {
    let wd = Workdir::new();
    wd.sh("kput --create=2 clicks -i ndjson --key k").stdin(records(0, 500)).ok();
    wd.sh("kshard create copy --shards 3 --quiet").ok();
    for point in ["plan.after", "stream.put", "stream.synced", "deliver.after", "commit.before"] {
        let _ = wd.sh("khose clicks kpipe:copy").env("KPIPE_FAILPOINT", point).done();
    }
    wd.sh("khose clicks kpipe:copy").ok();
    let copied = wd.sh("kget copy").done();
    assert!(sorted(copied.text()) == sorted(&records(0, 500)), "{} records", copied.lines().len());
}
