//! Streams moved: snapshot, dump and load, copy, and plain `cp -r`.

#![allow(clippy::format_collect, reason = "short inputs, written to be read")]

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::workdir::Workdir;

fn json(wd: &Workdir, args: &[&str]) -> Value {
    let done = wd.run("kshard").args(args).args(["-o", "json"]).ok();
    serde_json::from_slice(&done.stdout).expect("JSON")
}

fn envelopes(wd: &Workdir, name: &str) -> Vec<Value> {
    let done = wd.run("kget").args([name, "-q", "-o", "json"]).ok();
    done.lines().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What must be the same in a copy under another name and UUID.
fn facts(wd: &Workdir, name: &str) -> Vec<String> {
    let strip = |mut value: Value| {
        let fields = value.as_object_mut().expect("an envelope");
        fields.remove("stream");
        fields.remove("streamId");
        value.to_string()
    };
    envelopes(wd, name).into_iter().map(strip).collect()
}

fn well(wd: &Workdir, name: &str) {
    let done = wd.run("kshard").args(["check", name]).done();
    assert_eq!(done.status, 0, "{name}: {}", done.text());
}

/// Two generations of shards, several segments, keys, a producer with a name, a consumer's place.
fn stream(wd: &Workdir, name: &str) {
    wd.run("kshard")
        .args(["create", name, "--shards", "2", "--segment-size", "8KiB", "--retention", "7d"])
        .args(["--tag", "team=web", "-q"])
        .ok();
    let lines = |from: usize| {
        (from..from + 400).map(|i| format!("{{\"k\":\"u{}\",\"n\":{i}}}\n", i % 7)).collect::<String>()
    };
    let put =
        |from: usize| wd.run("kput").args([name, "-q", "-i", "ndjson", "--key", "k"]).stdin(lines(from)).ok();
    put(0);
    wd.run("kshard").args(["split", name, "0"]).ok();
    put(400);
    wd.run("kput").args([name, "-q", "--producer", "p"]).stdin("named 1\nnamed 2\n").ok();
    wd.run("kget").args([name, "--consumer", "c", "-n", "100", "-q"]).ok();
}

#[test]
fn a_dump_is_the_stream() {
    let wd = Workdir::new();
    stream(&wd, "s");
    wd.sh("kshard dump s -q | kshard load t -q").ok();
    well(&wd, "t");
    assert_eq!(facts(&wd, "s"), facts(&wd, "t"));
    assert_eq!(facts(&wd, "t").len(), 802);
    let (s, t) = (json(&wd, &["describe", "s"]), json(&wd, &["describe", "t"]));
    let id =
        |value: &Value| value.to_string().split("\"StreamId\":").nth(1).map(|rest| rest[..40].to_owned());
    assert!(id(&s) != id(&t) || id(&s).is_none());
    let rest = wd.run("kget").args(["t", "--consumer", "c", "-q"]).ok();
    assert_eq!(rest.lines().len(), 702);
    assert!(wd.read("t/manifest.json").contains("\"team\": \"web\""));
    // The named producer knows where it was.
    wd.run("kput").args(["t", "-q", "--producer", "p"]).stdin("named 1\nnamed 2\nnamed 3\n").ok();
    assert_eq!(facts(&wd, "t").len(), 803);
    // Under the same UUID it is the same to the byte.
    wd.sh("mkdir x; kshard dump s -q | kshard load x/s --same-id -q; kshard dump s -q >1; kshard dump x/s -q >2").ok();
    let (one, two) = (fs::read(wd.join("1")).expect("a dump"), fs::read(wd.join("2")).expect("a dump"));
    assert!(one == two);
    wd.sh("kshard dump s -q | kshard load t").done().expect_status(2);
    wd.sh("kshard load v </dev/null").fails();
}

#[test]
fn half_a_dump_is_nothing() {
    let wd = Workdir::new();
    stream(&wd, "s");
    let dump = wd.run("kshard").args(["dump", "s", "-q"]).ok().stdout;
    let refused = |bytes: &[u8]| {
        wd.run("kshard").args(["load", "t", "-q"]).stdin(bytes).fails();
        let left: Vec<_> =
            fs::read_dir(wd.path()).expect("a directory").map(|e| e.expect("an entry").file_name()).collect();
        assert_eq!(left, ["s"], "something is left");
    };
    let len = dump.len();
    for cut in [0, 10, 200, len / 3, len / 2, len - 200, len - 1] {
        refused(&dump[..cut]);
    }
    for at in [3, 100, len / 3, len / 2, len * 9 / 10, len - 10] {
        let mut bytes = dump.clone();
        bytes[at] ^= 1;
        refused(&bytes);
    }
    let text = String::from_utf8_lossy(&dump[..40]).replace("\"version\":1", "\"version\":9");
    let mut later = text.into_bytes();
    later.extend_from_slice(&dump[40..]);
    let done = wd.run("kshard").args(["load", "t"]).stdin(&later).fails();
    assert!(done.stderr.contains("later version"), "{}", done.stderr);
}

#[test]
fn a_snapshot_while_a_writer_runs() {
    let wd = Workdir::new();
    stream(&wd, "s");
    let mut source = wd.sh("for i in $(seq 1 5000); do seq $i 1 $((i + 100)); sleep 0.005; done").spawn();
    let writer = wd.run("kput").args(["s", "-q"]).spawn_after(&mut source);
    let before = Instant::now();
    for round in 0..3 {
        let name = format!("copy{round}");
        wd.run("kshard").args(["snapshot", "s", &name, "-q"]).ok();
        well(&wd, &name);
        if round == 1 {
            wd.run("kshard").args(["split", "s", "1"]).ok();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    wd.run("kshard").args(["snapshot", "s", "own", "--as-new", "-q"]).ok();
    assert!(before.elapsed() < Duration::from_secs(50));
    writer.kill();
    well(&wd, "own");
    // Each is a prefix, shard by shard, of what came later.
    let by_shard = |name: &str| {
        let mut shards = std::collections::BTreeMap::<String, Vec<String>>::new();
        for envelope in envelopes(&wd, name) {
            let shard = envelope["shardId"].as_str().expect("a shard").to_owned();
            shards
                .entry(shard)
                .or_default()
                .push(envelope["sequenceNumber"].as_str().expect("a number").to_owned());
        }
        shards
    };
    let all = by_shard("s");
    for name in ["copy0", "copy2", "own"] {
        for (shard, numbers) in by_shard(name) {
            assert_eq!(numbers[..], all[&shard][..numbers.len()], "{name} {shard}");
        }
    }
    assert!(by_shard("copy0").len() > 1);
    // A copy lives on by itself, and its source does not notice.
    wd.run("kput").args(["own", "-q"]).stdin("mine\n").ok();
    well(&wd, "own");
    wd.run("kput").args(["copy0", "-q"]).stdin("restored\n").ok();
    well(&wd, "copy0");
    well(&wd, "s");
    assert!(wd.join("own/consumers/c/state.json").is_file());
    wd.run("kshard").args(["snapshot", "s", "own"]).fails();
}

#[test]
fn a_plain_copy_while_a_writer_runs() {
    let wd = Workdir::new();
    stream(&wd, "s");
    let mut source = wd.sh("for i in $(seq 1 5000); do seq $i 1 $((i + 100)); sleep 0.005; done").spawn();
    let writer = wd.run("kput").args(["s", "-q"]).spawn_after(&mut source);
    for round in 0..5 {
        std::thread::sleep(Duration::from_millis(30));
        let name = format!("plain{round}");
        // A file may be rolled or renamed between the listing and the copy: cp says so and goes on.
        wd.sh(&format!("cp -r s {name} 2>/dev/null || true")).ok();
        let done = wd.run("kshard").args(["check", &name]).done();
        assert!(done.status < 2, "{}", done.stderr);
        let got = wd.run("kget").args([name.as_str(), "-q"]).done();
        // Either it is whole, or both say that it is not.
        if done.status == 0 {
            assert_eq!(got.status, 0, "{}", got.stderr);
        }
        assert!(got.lines().len() >= 802);
    }
    writer.kill();
}

#[test]
fn a_copy_is_made_once() {
    let wd = Workdir::new();
    stream(&wd, "s");
    wd.run("kshard").args(["copy", "s", "t", "-q"]).ok();
    well(&wd, "t");
    let payloads = |name: &str| {
        let mut all: Vec<(String, String)> = envelopes(&wd, name)
            .into_iter()
            .map(|e| {
                (e["partitionKey"].to_string(), format!("{}{}{}", e["json"], e["text"], e["explicitHashKey"]))
            })
            .collect();
        // Order is promised per key.
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    let keyed = |name: &str| payloads(name).into_iter().filter(|(key, _)| key != "null").collect::<Vec<_>>();
    assert_eq!(keyed("s"), keyed("t"));
    assert_eq!(payloads("t").len(), 802);
    wd.run("kshard").args(["copy", "s", "t"]).ok().expect_stderr_has("copied 0 records");
    wd.run("kput").args(["s", "-q"]).stdin("later\n").ok();
    wd.run("kshard").args(["copy", "s", "t"]).ok().expect_stderr_has("copied 1 records");
    assert_eq!(payloads("t").len(), 803);
    wd.run("kshard").args(["copy", "s", "s"]).fails();
}

#[test]
fn a_copy_that_is_killed_goes_on() {
    let wd = Workdir::new();
    wd.run("kshard").args(["create", "s", "--shards", "2", "-q"]).ok();
    wd.run("kshard").args(["create", "t", "--shards", "3", "-q"]).ok();
    let lines: String = (0..300_000).map(|i| format!("{{\"k\":\"u{}\",\"n\":{i}}}\n", i % 97)).collect();
    wd.run("kput").args(["s", "-q", "-i", "ndjson", "--key", "k"]).stdin(&lines).ok();
    for wait in [5, 15, 30, 50, 80] {
        let copy = wd.run("kshard").args(["copy", "s", "t", "-q"]).spawn();
        std::thread::sleep(Duration::from_millis(wait));
        copy.kill();
    }
    wd.run("kshard").args(["split", "t", "1"]).ok();
    wd.run("kshard").args(["copy", "s", "t", "-q"]).ok();
    let got = wd.run("kget").args(["t", "-q"]).ok();
    let (mut got, mut all): (Vec<&str>, Vec<&str>) = (got.lines(), lines.lines().collect());
    assert_eq!(got.len(), all.len());
    // Each once; and per key in order.
    let number =
        |line: &&str| line.rsplit(':').next().map(|n| n.trim_end_matches('}').parse::<u32>().expect("n"));
    let mut last = std::collections::HashMap::new();
    for line in &got {
        let key = line.split(',').next().expect("a key");
        let n = number(line);
        assert!(last.insert(key, n).is_none_or(|before| before < n), "{line}");
    }
    got.sort_unstable();
    all.sort_unstable();
    assert!(got == all);
    well(&wd, "t");
}

/// What stood behind a dump's end was not looked at: of two dumps in one file one was lost without a word.
#[test]
fn a_dump_ends_where_it_says() {
    let wd = Workdir::new();
    wd.sh("kshard create -q a; seq 9 | kput -q a; kshard dump -q a > dump").ok();
    wd.sh("cat dump dump | kshard load b").fails().expect_stderr_has("goes on behind its end");
    wd.sh("(cat dump; echo) | kshard load b").fails();
    wd.sh("ls -A; kshard load -q b < dump").expect_stdout("a\ndump\n");
}

/// Errors of the one stream were told of the other, and a second copy was told to mind an option that copy has not.
#[test]
fn errors_name_the_stream_that_failed() {
    let wd = Workdir::new();
    wd.sh("kshard create -q a; seq 9 | kput -q a; kshard create -q b").ok();
    let of = |name: &str| format!("kshard: stream {name} ({}): ", wd.join(name).display());
    wd.sh("kshard snapshot a b").fails().expect_stderr_has(&of("b"));
    wd.sh("kshard snapshot a no/where")
        .fails()
        .expect_stderr_has(&of("no/where").replace("stream no/where", "stream where"));
    wd.sh("truncate -s 60 a/shardId-*/*.seg; kshard snapshot a c")
        .done()
        .expect_status(2)
        .expect_stderr_has(&of("a"));
    wd.sh("rm -r a/shardId-*; kshard copy a b").done().expect_status(2).expect_stderr_has(&of("a"));
    wd.sh("ls -A").expect_stdout("a\nb\n");
}

fn files_bytes(wd: &Workdir, name: &str) -> u64 {
    let size = wd.sh(&format!("cat {name}/shardId-*/*.seg | wc -c")).ok();
    String::from_utf8_lossy(&size.stdout).trim().parse().expect("a number")
}

/// Each run claimed each shard's name in each shard of the target, though nothing was new: a copy from a crontab filled
/// the disk.
#[test]
fn a_copy_of_nothing_new_writes_nothing() {
    let wd = Workdir::new();
    stream(&wd, "s");
    wd.sh("kshard create -q t --shards 3; kshard copy -q s t").ok();
    let before = files_bytes(&wd, "t");
    for _ in 0..3 {
        wd.sh("kshard copy s t").ok().expect_stderr_has("copied 0 records");
    }
    assert_eq!(files_bytes(&wd, "t"), before);
    wd.sh("echo more | kput -q s; kshard copy s t").ok().expect_stderr_has("copied 1 records");
    well(&wd, "t");
}

/// What retention took from a source before it was copied was passed over in silence; what it took afterwards was told
/// of as lost.
#[test]
fn a_copy_tells_of_what_was_gone_and_of_nothing_else() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s --segment-size 8KiB --retention forever").ok();
    let put = "for i in 1 2 3 4; do seq 500 | sed 's/$/ some words to make it long/' | kput -q s; done";
    let trim = "kshard retention s --bytes 16KiB; kshard trim s; kshard retention s --bytes none";
    wd.sh(put).ok();
    wd.sh("kshard copy s t").ok().expect_stderr_has("copied 2 000 records");
    // All of it is stored: nothing is missing.
    wd.sh(trim).ok();
    let done = wd.sh("kshard copy s t; echo one more | kput -q s; kshard copy s t").ok();
    assert!(!done.stderr.contains("gone"), "{}", done.stderr);
    done.expect_stderr_has("copied 1 records");
    // And these were not.
    wd.sh(put).ok();
    wd.sh(trim).ok();
    let done = wd.sh("kshard copy s t").done();
    done.expect_status(1).expect_stderr_has("records were gone before they were copied");
    // A shard that was copied to its end may expire; one that was not is told of, once.
    let forget =
        "kshard retention s --bytes 1KiB; kshard trim s; kshard retention s --bytes none; kshard list s";
    wd.sh("kshard split s 0; kshard copy s t").ok();
    let listed = wd.sh(forget).ok();
    assert!(!listed.text().contains("shardId-000000000000"), "{}", listed.text());
    let done = wd.sh("kshard copy s t").ok();
    assert!(!done.stderr.contains("gone"), "{}", done.stderr);
    let put = "seq 100 | kput -q s --key-regex '(.*)'";
    wd.sh(&format!("{put}; kshard copy s t; {put}; kshard split s 1")).ok();
    wd.sh(forget).ok();
    let done = wd.sh("kshard copy s t").done();
    done.expect_status(1).expect_stderr_has("shardId-000000000001: has expired: what came in it from index ");
    let done = wd.sh("kshard copy s t").ok();
    assert!(!done.stderr.contains("gone"), "{}", done.stderr);
    well(&wd, "t");
}

#[test]
fn a_copy_follows() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s --shards 2; kshard create -q t --shards 3").ok();
    for (signal, status) in [("TERM", 143), ("INT", 130)] {
        let lines = |name: &str| wd.run("kget").args([name, "-q"]).ok().lines().len();
        let before = lines("s");
        let copy = wd.run("kshard").args(["copy", "-f", "s", "t"]).spawn();
        for round in 1..=3 {
            wd.sh("seq 100 | kput -q s").ok();
            if round == 2 {
                wd.sh("kshard scale s 3; kshard scale s 2; kshard scale t 2; kshard scale t 3").ok();
            }
            let since = Instant::now();
            while lines("t") < before + round * 100 {
                assert!(since.elapsed() < Duration::from_secs(20), "{} of {}", lines("t"), lines("s"));
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        copy.signal(signal);
        let done = copy.wait();
        assert_eq!(done.status, status, "{}", done.text());
        done.expect_stderr_has("copied 300 records");
        let bytes = files_bytes(&wd, "t");
        wd.sh("kshard copy s t").ok().expect_stderr_has("copied 0 records");
        assert_eq!(files_bytes(&wd, "t"), bytes);
    }
    well(&wd, "t");
}
