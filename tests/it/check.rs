//! `kshard check` and `kshard repair`: damage done by hand, found, named and mended.

#![allow(clippy::format_collect, reason = "short inputs, written to be read")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::fixture::{Source, put};
use crate::workdir::{Done, Workdir};

/// A stream of one shard with many small segments, and the lines in it.
fn stream(wd: &Workdir, name: &str) -> String {
    wd.run("kshard").args(["create", name, "--segment-size", "4KiB", "-q"]).ok();
    let mut all = String::new();
    for part in 0..12 {
        let lines: String = (0..100).map(|i| format!("{{\"part\":{part},\"line\":{i}}}\n")).collect();
        wd.run("kput").args([name, "-q"]).stdin(&lines).ok();
        all.push_str(&lines);
    }
    assert!(segments(wd, name).len() > 3);
    all
}

fn segments(wd: &Workdir, name: &str) -> Vec<PathBuf> {
    files(&wd.join(name).join("shardId-000000000000"), "seg")
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    paths.sort();
    paths
}

/// Changes bytes of a file.
fn poke(path: &Path, offset: u64, change: impl FnOnce(&mut [u8]), len: usize) {
    let file = fs::File::options().read(true).write(true).open(path).expect("a file");
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).expect("as many bytes");
    change(&mut bytes);
    file.write_all_at(&bytes, offset).expect("written");
}

fn check(wd: &Workdir, name: &str) -> Done {
    wd.run("kshard").args(["check", name]).done()
}

/// What is read of a stream, gaps left out.
fn read(wd: &Workdir, name: &str) -> Done {
    wd.run("kget").args([name, "-q"]).done()
}

/// Everything that repair promises, after damage that costs what `lost` says in lines.
fn mends(wd: &Workdir, name: &str, all: &str, lost: std::ops::RangeInclusive<usize>) {
    let dry = wd.run("kshard").args(["repair", name, "--dry-run"]).ok();
    assert!(dry.text().starts_with("to mend: "), "{}", dry.text());
    check(wd, name).expect_status(1);
    let done = wd.run("kshard").args(["repair", name]).ok();
    assert!(done.text().starts_with("mended: "), "{}", done.text());
    let after = check(wd, name);
    assert_eq!(after.status, 0, "{}", after.text());
    wd.run("kshard").args(["repair", name]).ok().expect_stdout("").expect_stderr("kshard: nothing to mend\n");
    let got = read(wd, name);
    let (got, all): (Vec<&str>, Vec<&str>) = (got.lines(), all.lines().collect());
    assert!(lost.contains(&(all.len() - got.len())), "{} of {} lines are left", got.len(), all.len());
    // What is left is all there, in order.
    let mut rest = all.iter();
    assert!(got.iter().all(|line| rest.any(|other| other == line)));
    // And it goes on.
    wd.run("kput").args([name, "-q"]).stdin("more\n").ok();
    assert_eq!(read(wd, name).lines().last(), Some(&"more"));
    let after = check(wd, name);
    assert_eq!(after.status, 0, "{}", after.text());
}

#[test]
fn a_stream_that_is_well() {
    let wd = Workdir::new();
    stream(&wd, "s");
    let done = check(&wd, "s").expect_status(0);
    assert!(done.text().starts_with("s: no damage in 1"), "{}", done.text());
    assert_eq!(done.lines().len(), 1);
    wd.run("kshard").args(["check", "s", "--quick", "-q"]).ok().expect_stdout("");
    let json = wd.run("kshard").args(["check", "s", "-o", "json"]).ok();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((json["Damaged"].as_u64(), json["Records"].as_u64()), (Some(0), Some(1200)));
    wd.run("kshard").args(["check", "nosuch"]).fails();
}

#[test]
fn a_flipped_bit() {
    let wd = Workdir::new();
    let all = stream(&wd, "s");
    let path = &segments(&wd, "s")[1];
    poke(path, 900, |bytes| bytes[0] ^= 4, 1);
    let done = check(&wd, "s").expect_status(1);
    let line = done.lines()[0];
    for part in
        ["damage: s: shardId-000000000000/", ".seg: byte ", "body does not hold", "sequence numbers 4"]
    {
        assert!(line.contains(part), "{line}");
    }
    let json = wd.run("kshard").args(["check", "s", "-o", "json"]).done().expect_status(1);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let problem = &json["Problems"][0];
    assert_eq!(problem["Kind"], "frames");
    assert!(problem["Records"].as_u64() > Some(0));
    wd.run("kshard").args(["check", "s", "--quick"]).ok();
    mends(&wd, "s", &all, 1..=100);
    let kept = fs::read_dir(wd.join("s/rejects")).expect("kept").next().expect("kept").expect("kept").path();
    assert!(kept.join("note.txt").is_file());
    assert!(kept.join("shardId-000000000000").join(path.file_name().expect("a name")).is_file());
}

#[test]
fn a_zeroed_page_and_a_lost_header() {
    let wd = Workdir::new();
    let all = stream(&wd, "s");
    poke(&segments(&wd, "s")[2], 0, |bytes| bytes.fill(0), 1024);
    let done = check(&wd, "s").expect_status(1);
    assert!(done.text().contains("segment's header does not hold"), "{}", done.text());
    mends(&wd, "s", &all, 1..=100);
    // The very first header.
    poke(&segments(&wd, "s")[0], 0, |bytes| bytes.fill(0), 128);
    let done = check(&wd, "s").expect_status(1);
    assert!(done.text().contains("segment's header does not hold"), "{}", done.text());
    wd.run("kshard").args(["repair", "s", "-q"]).ok();
    check(&wd, "s").expect_status(0);
}

#[test]
fn a_truncated_segment() {
    let wd = Workdir::new();
    let all = stream(&wd, "s");
    let file = fs::File::options().write(true).open(&segments(&wd, "s")[1]).expect("a segment");
    file.set_len(700).expect("shorter");
    check(&wd, "s").expect_status(1);
    mends(&wd, "s", &all, 1..=400);
}

#[test]
fn missing_segments() {
    let wd = Workdir::new();
    let all = stream(&wd, "s");
    fs::remove_file(&segments(&wd, "s")[2]).expect("removed");
    let done = check(&wd, "s").expect_status(1);
    assert!(done.text().contains("the segment is missing: "), "{}", done.text());
    // A reader does not take it for retention, which takes the oldest first.
    let stopped = wd.run("kget").arg("s").done().expect_status(2);
    assert!(stopped.stderr.contains("the segment is not there"), "{}", stopped.stderr);
    assert_eq!(stopped.stderr.matches("stream s").count(), 1, "it is named once: {}", stopped.stderr);
    wd.run("kget").args(["s", "-q", "--on-error", "skip"]).done().expect_status(1);
    wd.run("kget").args(["s", "-q", "--on-error", "reject"]).done().expect_status(1);
    mends(&wd, "s", &all, 1..=200);
    let gap = wd.run("kget").arg("s").done().expect_status(1);
    assert!(gap.stderr.contains("a repair has set them aside"), "{}", gap.stderr);
    // Two in a row.
    let paths = segments(&wd, "s");
    fs::remove_file(&paths[3]).expect("removed");
    fs::remove_file(&paths[4]).expect("removed");
    check(&wd, "s").expect_status(1);
    wd.run("kshard").args(["repair", "s", "-q"]).ok();
    let after = check(&wd, "s");
    assert_eq!(after.status, 0, "{}", after.text());
}

#[test]
fn a_segment_of_another_stream() {
    let wd = Workdir::new();
    let all = stream(&wd, "s");
    stream(&wd, "t");
    let mine = segments(&wd, "s")[1].clone();
    fs::copy(&segments(&wd, "t")[1], &mine).expect("copied");
    let done = check(&wd, "s").expect_status(1);
    assert!(done.text().contains("is a segment of another stream or shard"), "{}", done.text());
    mends(&wd, "s", &all, 1..=200);
}

#[test]
fn index_files_cost_no_record() {
    let wd = Workdir::new();
    wd.run("kshard").args(["create", "s", "-q"]).ok();
    for _ in 0..4 {
        let lines = "x".repeat(199) + "\n";
        wd.run("kput").args(["s", "-q"]).stdin(lines.repeat(5000)).ok();
    }
    let dir = wd.join("s/shardId-000000000000");
    let index = files(&dir, "idx").pop().expect("an index");
    let before = fs::read(&index).expect("an index");
    poke(&index, 40, |bytes| bytes[0] ^= 1, 1);
    let done = check(&wd, "s").expect_status(1);
    assert!(done.text().contains("an entry of the index does not hold"), "{}", done.text());
    wd.run("kshard").args(["repair", "s", "-q"]).ok();
    assert_eq!(fs::read(&index).expect("an index").len() % 32, 0);
    check(&wd, "s").expect_status(0);
    fs::remove_file(&index).expect("removed");
    let done = check(&wd, "s").expect_status(0);
    assert!(done.text().contains("note: s: "), "{}", done.text());
    wd.run("kshard").args(["repair", "s", "-q"]).ok();
    assert_eq!(fs::read(&index).expect("an index").len(), before.len());
    assert_eq!(check(&wd, "s").expect_status(0).lines().len(), 1);
}

#[test]
fn a_lost_manifest() {
    let wd = Workdir::new();
    wd.run("kshard").args(["create", "s", "--shards", "3", "-q"]).ok();
    let lines: String = (0..500).map(|i| format!("k{i}\tline {i}\n")).collect();
    wd.run("kput").args(["s", "-q"]).stdin(&lines).ok();
    wd.run("kshard").args(["split", "s", "1"]).ok();
    wd.run("kshard").args(["merge", "s", "0", "3"]).ok();
    wd.run("kput").args(["s", "-q"]).stdin("after\n").ok();
    let shards = |wd: &Workdir| {
        let json = wd.run("kshard").args(["list", "s", "-o", "json"]).ok();
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
        let mut shards = json["Shards"].clone();
        // To the second, all that is left of it.
        shards.as_array_mut().expect("shards").iter_mut().for_each(|shard| {
            let fields = shard.as_object_mut().expect("a shard");
            fields.retain(|name, _| {
                ["ShardId", "HashKeyRange", "ParentShardId", "AdjacentParentShardId"].contains(&name.as_str())
            });
        });
        shards
    };
    let (before, all) = (shards(&wd), read(&wd, "s").stdout);
    fs::remove_file(wd.join("s/manifest.json")).expect("removed");
    // It is damage like any other, and the shards are gone through all the same.
    let done = check(&wd, "s").expect_status(1);
    assert_eq!(done.lines()[0], "damage: s: manifest.json: is missing");
    assert!(done.lines()[1].starts_with("s: 1 damage in 501 records"), "{}", done.text());
    let done = wd.run("kshard").args(["repair", "s"]).ok();
    assert!(done.text().starts_with("mended: s: manifest.json: is missing"), "{}", done.text());
    assert_eq!(shards(&wd), before);
    assert_eq!(read(&wd, "s").stdout, all);
    let after = check(&wd, "s");
    assert_eq!(after.status, 0, "{}", after.text());
    wd.run("kput").args(["s", "-q"]).stdin("more\n").ok();
    poke(&wd.join("s/manifest.json"), 200, |bytes| bytes[0] ^= 1, 1);
    let json = wd.run("kshard").args(["check", "s", "-o", "json"]).done().expect_status(1);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((json["Damaged"].as_u64(), json["Records"].as_u64()), (Some(1), Some(502)));
    assert_eq!(json["Problems"][0]["Message"], "is damaged: its checksum does not hold");
    wd.run("kshard").args(["repair", "s", "-q"]).ok();
    assert_eq!(shards(&wd), before);
    wd.run("kshard").args(["repair", "s"]).ok().expect_stdout("");
}

#[test]
fn nothing_is_mended_beside_a_writer() {
    let wd = Workdir::new();
    stream(&wd, "s");
    let stream = kpipe::stream::Stream::open(&kpipe::sys::System::real(), &wd.join("s")).expect("a stream");
    let mut writer = Source { stream }.writer(0);
    put(&mut writer, &["begun"]);
    assert_eq!(check(&wd, "s").status, 0);
    poke(&segments(&wd, "s")[1], 900, |bytes| bytes[0] ^= 4, 1);
    let refused = wd.run("kshard").args(["repair", "s", "-q"]).fails();
    assert!(refused.stderr.contains("a writer is at work"), "{}", refused.stderr);
    drop(writer);
    wd.run("kshard").args(["repair", "s", "-q"]).ok();
}

#[test]
fn a_stream_that_is_written_has_no_damage() {
    let wd = Workdir::new();
    wd.run("kshard").args(["create", "s", "--shards", "2", "--segment-size", "64KiB", "-q"]).ok();
    let mut source = wd.run("seq").args(["1", "100000000"]).spawn();
    let writer = wd.run("kput").args(["s", "-q"]).spawn_after(&mut source);
    let begun = std::time::Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < std::time::Duration::from_secs(2) {
        let done = check(&wd, "s");
        assert_eq!(done.status, 0, "{}", done.text());
        if rounds == 3 {
            wd.run("kshard").args(["split", "s", "0"]).ok();
        }
        rounds += 1;
    }
    assert!(rounds > 3);
    writer.kill();
}

#[test]
fn every_flipped_byte_is_found_and_mended() {
    use kpipe::log::repair::repair;
    use kpipe::log::verify::{Depth, Event, verify};

    let wd = Workdir::new();
    stream(&wd, "s");
    let stream = kpipe::stream::Stream::open(&kpipe::sys::System::real(), &wd.join("s")).expect("a stream");
    let log = stream.log_dir(&stream.manifest().shards[0]);
    let damages = || {
        let mut found = Vec::new();
        let sum = verify(&log, Depth::All, &mut |event| match event {
            Event::Found(finding) if finding.flaw.severity() == kpipe::log::verify::Severity::Damage => {
                found.push(finding);
            }
            Event::Found(_) | Event::Progress { .. } => {}
        });
        (sum.expect("a log that can be read").records, found)
    };
    let (records, found) = damages();
    assert_eq!((records, found), (1200, vec![]));
    let path = &segments(&wd, "s")[3];
    let whole = fs::read(path).expect("a segment");
    let locks = stream.locks().expect("locks");
    // A higher layout version is a later program's, whatever its checksum.
    for at in (0..whole.len()).filter(|at| !(8..10).contains(at)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(path, &bytes).expect("written");
        let (left, found) = damages();
        assert!(!found.is_empty(), "byte {at}");
        assert!(left >= 1100, "byte {at}: {left} records are left");
        if at % 61 == 0 {
            let keep = wd.join(format!("kept-{at}"));
            repair(&log, &locks, &keep, false, &mut |_| {}).expect("mended");
            assert_eq!(damages(), (left, vec![]), "byte {at}");
            assert_eq!(fs::read(keep.join(path.file_name().expect("a name"))).expect("kept"), bytes);
        }
    }
    fs::write(path, &whole).expect("written");
    assert_eq!(damages(), (1200, vec![]));
}

#[test]
fn the_end_of_a_shard() {
    let wd = Workdir::new();
    let all = stream(&wd, "s");
    wd.run("kshard").args(["split", "s", "0"]).ok();
    let last = segments(&wd, "s").pop().expect("a segment");
    let len = fs::metadata(&last).expect("a segment").len();
    // The last frame: header, two children, one parent.
    let file = fs::File::options().write(true).open(&last).expect("a segment");
    file.set_len(len - 64 - (4 + 2 * 36 + 4 + 4)).expect("shorter");
    let done = check(&wd, "s").expect_status(1);
    assert!(done.text().contains("the manifest says that the shard has ended"), "{}", done.text());
    let done = wd.run("kshard").args(["repair", "s"]).ok();
    assert!(done.text().contains("the end of the shard is lost"), "{}", done.text());
    let after = check(&wd, "s");
    assert_eq!(after.status, 0, "{}", after.text());
    wd.run("kput").args(["s", "-q"]).stdin("more\n").ok();
    let got = read(&wd, "s");
    assert_eq!(got.lines().len(), all.lines().count() + 1);
    wd.run("kshard").args(["repair", "s"]).ok().expect_stdout("");
}

/// A consumer whose places were damaged could not be listed, reset, deleted or repaired, and hid all the others.
#[test]
fn damaged_places_of_a_consumer() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "s", 1);
    source.put(0, &["a", "b"]);
    for name in ["good", "bad", "worse"] {
        wd.run("kget").args(["s", "--consumer", name]).ok();
    }
    let damage = |name: &str| poke(&wd.join(format!("s/consumers/{name}/state.json")), 90, |b| b[0] ^= 1, 1);
    damage("bad");
    damage("worse");
    check(&wd, "s").expect_status(1);
    let list = wd.run("kshard").args(["consumers", "s"]).done().expect_status(1);
    for line in list.lines().iter().skip(1) {
        assert_eq!(line.ends_with("UNREADABLE"), !line.starts_with("good"), "{}", list.text());
    }
    assert_eq!(list.lines().len(), 4);
    let here = wd.join("s");
    let hint = format!("try: kshard consumers {} bad --reset trim-horizon\n", here.display());
    wd.run("kshard").args(["consumers", "s", "bad"]).fails().expect_stderr_has(&hint);
    wd.run("kget").args(["s", "--consumer", "bad"]).fails().expect_stderr_has(&hint);
    wd.run("kshard").args(["consumers", "s", "bad", "--reset", "trim-horizon"]).ok();
    wd.run("kget").args(["s", "--consumer", "bad"]).expect_stdout("a\nb\n");
    wd.run("kshard").args(["consumers", "s", "worse", "--delete"]).ok();
    wd.run("kshard").args(["consumers", "s"]).ok();
    check(&wd, "s").expect_status(0);

    damage("good");
    let dry = wd.run("kshard").args(["repair", "s", "--dry-run"]).ok();
    assert!(dry.text().contains("consumer good begins anew"), "{}", dry.text());
    check(&wd, "s").expect_status(1);
    wd.run("kshard").args(["repair", "s"]).ok();
    check(&wd, "s").expect_status(0);
    let kept = fs::read_dir(here.join("rejects")).expect("kept").next().expect("kept").expect("kept").path();
    assert!(kept.join("consumers/good/state.json").is_file() && kept.join("note.txt").is_file());
    wd.run("kget").args(["s", "--consumer", "good"]).expect_stdout("a\nb\n");
}

/// A manifest that names no stream, and nothing beside it: repair's advice was to call repair.
#[test]
fn a_manifest_of_nothing() {
    let wd = Workdir::new();
    wd.write("fake/manifest.json", "{}");
    let done = check(&wd, "fake").expect_status(1);
    assert!(done.lines()[0].starts_with("damage: fake: manifest.json: is not a manifest"), "{}", done.text());
    let json = wd.run("kshard").args(["check", "fake", "-o", "json"]).done().expect_status(1);
    assert!(json.text().contains("\"Damaged\": 1"), "{}", json.text());
    let done = wd.run("kshard").args(["repair", "fake"]).fails();
    assert!(
        done.stderr.contains("no shards to make it anew from") && !done.stderr.contains("kshard repair"),
        "{}",
        done.stderr
    );
    stream(&wd, "clicks");
    wd.run("kshard").args(["repair", "nope"]).fails().expect_stderr_has("there is no stream at");
    wd.run("kshard").args(["repair", "clikcs"]).fails().expect_stderr_has("try: did you mean `clicks`?\n");
}

/// The oldest segment can be gone because it expired. Where that cannot be, its loss was not told at all.
#[test]
fn a_first_segment_that_cannot_have_expired() {
    let wd = Workdir::new();
    stream(&wd, "s");
    fs::remove_file(&segments(&wd, "s")[0]).expect("removed");
    let done = check(&wd, "s").expect_status(0);
    assert!(
        done.lines()[0].starts_with("note: s: shardId-000000000000: it begins at index "),
        "{}",
        done.text()
    );
    wd.run("kshard").args(["retention", "s", "--bytes", "1MiB"]).ok();
    assert_eq!(check(&wd, "s").expect_status(0).lines().len(), 1, "with a cap it can");
}

/// Where the end of a closed shard was lost, and records before it, a repair took the loss out of the manifest as well:
/// nothing said any more that records which had been acknowledged were gone.
#[test]
fn a_lost_end_of_a_shard_leaves_a_gap_for_what_was_before_it() {
    type Harm = fn(&Workdir);
    let harms: [(Harm, bool); 4] = [
        // The end alone.
        (
            |wd| {
                let path = segments(wd, "s").pop().expect("a segment");
                let len = fs::metadata(&path).expect("a segment").len();
                poke(&path, len - 10, |bytes| bytes[0] ^= 1, 1);
            },
            false,
        ),
        (|wd| cut_off(wd, 20), false),
        // The end and a frame of records.
        (|wd| cut_off(wd, 400), true),
        // The last segment.
        (|wd| fs::remove_file(segments(wd, "s").pop().expect("a segment")).expect("removed"), true),
    ];
    for (i, (harm, loses)) in harms.into_iter().enumerate() {
        let wd = Workdir::new();
        wd.run("kshard").args(["create", "s", "--segment-size", "4KiB", "-q"]).ok();
        let lines: String = (0..60).map(|i| format!("{{\"k\":\"u{}\",\"n\":{i:050}}}\n", i % 7)).collect();
        for line in lines.as_bytes().chunks(lines.len() / 60) {
            wd.run("kput").args(["s", "-q", "-i", "ndjson", "--key", "k"]).stdin(line).ok();
        }
        wd.run("kshard").args(["split", "s", "0"]).ok();
        let next = || {
            let manifest = wd.read("s/manifest.json");
            let rest = manifest.split("\"nextIndex\": ").nth(1).expect("a closed shard");
            rest.split(|c: char| !c.is_ascii_digit()).next().expect("digits").to_owned()
        };
        let before = next();
        harm(&wd);
        let done = check(&wd, "s").expect_status(1);
        let text = done.text();
        let named = text.contains("are lost") && text.contains("records, sequence numbers ");
        assert!(text.contains("says that the shard has ended, its log does not"), "{i}: {text}");
        assert_eq!(named, loses, "{i}: {text}");
        mends(&wd, "s", &lines, if loses { 1..=59 } else { 0..=0 });
        assert_eq!(next(), before, "{i}: the manifest has forgotten");
        // Readers are told, and so is who checks.
        let done = read(&wd, "s");
        assert_eq!(done.status, i32::from(loses), "{i}: {}", done.text());
        assert_eq!(check(&wd, "s").text().contains("a repair left a gap"), loses, "{i}");
    }
}

fn cut_off(wd: &Workdir, bytes: u64) {
    let path = segments(wd, "s").pop().expect("a segment");
    let file = fs::File::options().write(true).open(&path).expect("a segment");
    file.set_len(file.metadata().expect("a file").len() - bytes).expect("cut");
}

/// Nothing named a lock table that was gone, without which programs that write do not see each other.
#[test]
fn a_lost_lock_table() {
    let wd = Workdir::new();
    stream(&wd, "s");
    fs::remove_file(wd.join("s/locks")).expect("removed");
    let done = check(&wd, "s").expect_status(1);
    assert!(done.lines()[0].starts_with("damage: s: locks: is missing: end all programs"), "{}", done.text());
    let done = wd.run("kshard").args(["doctor", "s"]).done().expect_status(1);
    assert!(done.text().contains("/s/locks is missing"), "{}", done.text());
    wd.run("kshard").args(["repair", "s"]).ok();
    check(&wd, "s").expect_status(0);
}

/// Whoever missed the lock table made it anew, beside the one that a running writer had open.
#[test]
fn a_missing_lock_table_stops_writers_until_it_is_repaired() {
    let wd = Workdir::new();
    wd.sh("kshard create clicks -q; echo a | kput clicks; rm clicks/locks").ok();
    let refused = wd.sh("echo b | kput clicks").done().expect_status(2);
    let path = wd.join("clicks");
    refused.expect_stderr_has(&format!("try: kshard repair {}", path.display()));
    wd.sh("kget clicks").expect_stdout("a\n");
    wd.sh("kshard repair clicks | grep -c 'locks: is missing'").expect_stdout("1\n");
    wd.sh("echo b | kput clicks && kget clicks").expect_stdout("a\nb\n");
}

/// A shard was put back from an older copy: a consumer stood behind its end, new records were passed over in silence, and
/// a repair had nothing to say about it.
#[test]
fn a_consumer_behind_the_end_of_its_shard_is_left_by_a_repair() {
    let wd = Workdir::new();
    wd.sh("kshard create s -q; seq 9 | kput s; cp -r s/shardId-000000000000 older; seq 9 | kput s").ok();
    wd.sh("kget s --consumer c").ok();
    wd.sh("rm -r s/shardId-000000000000; mv older s/shardId-000000000000").ok();
    check(&wd, "s").expect_status(1);
    let done = wd.run("kshard").args(["repair", "s"]).done().expect_status(1);
    assert!(done.text().contains("consumer c stands at index 18"), "{}{}", done.text(), done.stderr);
    wd.sh("kshard consumers s c --reset trim-horizon").ok();
    check(&wd, "s").expect_status(0);
}

/// A frame without records, the last before the pause, did not hold: the next writer went on behind it, and what had
/// passed for a torn tail was damage from then on.
#[test]
fn a_bad_frame_in_front_of_the_pause_is_set_aside() {
    let wd = Workdir::new();
    wd.sh("kshard create s -q; seq 60 | kput s --producer P -q").ok();
    let path = segments(&wd, "s").pop().expect("a segment");
    // The pause is 72 bytes; before it stand the producers' places.
    let len = fs::metadata(&path).expect("a segment").len();
    poke(&path, len - 72 - 20, |bytes| bytes[0] ^= 1, 1);
    wd.sh("echo later | kput s -q").ok();
    check(&wd, "s").expect_status(0);
    assert_eq!(wd.sh("kget s").ok().lines().len(), 61);
}
