//! man/kstream.5 is true: its example bytes are what the code writes and reads, and a reader made from the page alone
//! reads what kput wrote.
//!
//! `UPDATE_DOCS=1 cargo test --test it format` writes the example anew.

#![allow(clippy::format_collect, reason = "short inputs, written to be read")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kpipe::log::{Batch, Codec, Fresh, LogDir, LogId, Roll, Writer, create_log};
use kpipe::sys::{Clock, Disk, System, fs::RealDisk};

use crate::workdir::{Workdir, same};

const PAGE: &str = "man/kstream.5";
const BEGIN: &str = ".\\\" example begin\n";
const END: &str = ".\\\" example end\n";
/// 2023-11-14 22:13:20 UTC.
const NOW_US: i64 = 1_700_000_000_000_000;
const STREAM: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now_us(&self) -> i64 {
        NOW_US
    }

    fn boot_us(&self) -> i64 {
        0
    }

    fn boot_id(&self) -> u64 {
        0x0807_0605_0403_0201
    }
}

/// The example as the code writes it.
fn written(wd: &Workdir) -> Vec<u8> {
    let system = System { disk: Arc::new(RealDisk), clock: Arc::new(Still) };
    let locks = RealDisk.create_locks(&wd.join("locks")).expect("locks");
    let id = LogId { stream: STREAM, shard: 0 };
    let dir = wd.join("shardId-000000000000");
    let log = LogDir { system, dir: dir.clone(), id, shard_created_s: (NOW_US / 1_000_000) as u64 };
    create_log(&log, NOW_US, &[]).expect("a log");
    let roll = Roll { bytes: 1 << 20, age_us: i64::MAX };
    let mut writer = Writer::open(log, locks, roll, kpipe::hash::HashRange::ALL).expect("a writer");
    let mut batch = Batch::new(Some(b'\n'));
    batch.push(Fresh { payload: b"hello", ..Fresh::default() });
    batch.push(Fresh { payload: b"world!", key: Some(b"k"), ..Fresh::default() });
    writer.append(&[batch.draft(Codec::None, None)]).expect("an append");
    writer.pause().expect("a pause");
    drop(writer);
    fs::read(dir.join("00000000000000000000.seg")).expect("a segment")
}

fn page() -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let text = fs::read_to_string(&path).expect("the page");
    (path, text)
}

/// Sixteen bytes a line, behind their offset.
fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (i, line) in bytes.chunks(16).enumerate() {
        let _ = write!(out, "{:04x} ", i * 16);
        for byte in line {
            let _ = write!(out, " {byte:02x}");
        }
        out.push('\n');
    }
    out
}

/// The example's bytes, out of the page.
fn example(page: &str) -> (&str, Vec<u8>) {
    let start = page.find(BEGIN).expect("the example's begin") + BEGIN.len();
    let text = &page[start..page.find(END).expect("the example's end")];
    let words = text.lines().flat_map(|line| line.split_whitespace().skip(1));
    (text, words.map(|word| u8::from_str_radix(word, 16).expect("a byte")).collect())
}

#[test]
fn the_code_writes_the_example() {
    let (path, text) = page();
    let wd = Workdir::new();
    let fresh = dump(&written(&wd));
    let (old, _) = example(&text);
    if std::env::var_os("UPDATE_DOCS").is_some() && old != fresh {
        fs::write(&path, text.replace(&format!("{BEGIN}{old}{END}"), &format!("{BEGIN}{fresh}{END}")))
            .expect("written");
    } else {
        same(PAGE, "the example", &fresh, old);
    }
}

#[test]
fn the_example_can_be_read() {
    let (_, text) = page();
    let (_, bytes) = example(&text);
    let wd = Workdir::new();
    wd.run("kshard").args(["create", "s", "-q"]).ok();
    let manifest = wd.read("s/manifest.json");
    let body = manifest.split_once('\n').expect("two parts").1;
    let mut body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    body["streamId"] = "00010203-0405-0607-0809-0a0b0c0d0e0f".into();
    body["createdUs"] = NOW_US.into();
    body["retentionUs"] = serde_json::Value::Null;
    body["shards"][0]["createdUs"] = NOW_US.into();
    let body = serde_json::to_string_pretty(&body).expect("JSON");
    let sum = kpipe::log::frame::crc32c(body.as_bytes());
    wd.write("s/manifest.json", format!("{{\"kpipe\":\"manifest\",\"version\":1,\"crc32c\":{sum}}}\n{body}"));
    wd.write("s/shardId-000000000000/00000000000000000000.seg", bytes);
    wd.run("kget").args(["s", "-q"]).ok().expect_stdout("hello\nworld!\n");
    let done = wd.run("kshard").args(["check", "s"]).ok();
    assert!(done.text().starts_with("s: no damage in 2 records"), "{}", done.text());
    let json = wd.run("kget").args(["s", "-q", "-o", "json"]).ok();
    let last: serde_json::Value = serde_json::from_str(json.lines()[1]).expect("JSON");
    assert_eq!(last["partitionKey"], "k");
    // The number of the second record, by the page's own words.
    let hexadecimal =
        format!("2{:09x}{:x}{:016x}00{:09x}{:08x}2", NOW_US / 1_000_000, 0, 1, NOW_US / 1_000_000, 0);
    let number: kpipe::record::SequenceNumber =
        last["sequenceNumber"].as_str().expect("a number").parse().expect("a number");
    let (high, low) = number.to_bits();
    assert_eq!(format!("{high:x}{low:032x}"), hexadecimal);
    reads_the_same(&wd, "s");
}

/// `tests/read_stream.py` reads what kget reads.
fn reads_the_same(wd: &Workdir, name: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_stream.py");
    let plain = wd.run("python3").arg(&script).arg(name).ok();
    let mut plain = plain.lines().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut ours =
        wd.run("kget").args([name, "-q"]).ok().lines().into_iter().map(str::to_owned).collect::<Vec<_>>();
    plain.sort_unstable();
    ours.sort_unstable();
    assert!(!ours.is_empty() && plain == ours);
}

#[test]
fn a_reader_made_from_the_page() {
    if !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let wd = Workdir::new();
    wd.run("kshard").args(["create", "s", "--shards", "2", "--segment-size", "4KiB", "-q"]).ok();
    for part in 0..5 {
        let lines: String = (0..200).map(|i| format!("key{i}\t{part}:{i}{}\n", "x".repeat(i))).collect();
        wd.run("kput").args(["s", "-q", "--key-delimiter", "\t"]).stdin(lines).ok();
        if part == 2 {
            wd.run("kshard").args(["split", "s", "0"]).ok();
            wd.run("kput").args(["s", "-q", "--producer", "p"]).stdin("a\nb\n").ok();
        }
    }
    reads_the_same(&wd, "s");
    // A torn tail: half a frame that somebody was killed in. The next writer sets it aside.
    let dir = wd.join("s/shardId-000000000001");
    let mut names: Vec<_> =
        fs::read_dir(&dir).expect("a shard").map(|e| e.expect("an entry").path()).collect();
    names.retain(|path| path.extension().is_some_and(|e| e == "seg"));
    names.sort();
    let last = names.last().expect("a segment");
    let mut bytes = fs::read(last).expect("a segment");
    let frame = bytes[128..192 + 20].to_vec();
    bytes.extend_from_slice(&frame);
    fs::write(last, bytes).expect("written");
    reads_the_same(&wd, "s");
    let behind: String = (0..50).map(|i| format!("k{i}\tbehind {i}\n")).collect();
    wd.run("kput").args(["s", "-q", "--key-delimiter", "\t"]).stdin(behind).ok();
    reads_the_same(&wd, "s");
    let done = wd.run("kshard").args(["check", "s"]).ok();
    assert!(done.text().contains("a recovery set aside"), "{}", done.text());
}
