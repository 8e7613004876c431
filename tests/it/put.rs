//! kput stores what it reads: formats, keys, refusals, acknowledgements, as sessions in a shell.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::producer::expect_once_in_order;
use crate::workdir::{Workdir, left_out};

/// Lines of a real web server's log, or of a made one where that is not there.
pub(crate) fn access_log() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/access.log");
    std::fs::read_to_string(&path).unwrap_or_else(|error| {
        left_out(&format!("{}: {error}: generated lines are used instead", path.display()));
        (0..10_000u32).fold(String::new(), |mut text, i| {
            let _ = writeln!(text, "10.0.{}.{} - - \"GET /page/{i} HTTP/1.1\" 200", i % 7, i * 31 % 250);
            text
        })
    })
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn lines_go_in_and_come_out() {
    let wd = Workdir::new();
    wd.run("kput").args(["--create", "s"]).stdin("a\r\n\n\nlast").ok().expect_stdout("").expect_stderr("");
    wd.sh("kget s").expect_stdout("a\r\n\n\nlast\n");
    wd.sh("kget s -o nul | tr '\\0' '|'").expect_stdout("a\r|||last|");
    let log = access_log();
    wd.write("access.log", &log);
    wd.sh("kput --create one access.log; kget one | cmp - access.log").ok();
    wd.sh("kput --create=4 four --key-regex '^(\\S+)' < access.log; kget four").ok();
    let back = wd.sh("kget four").ok();
    assert_eq!(sorted(back.text()), sorted(&log));
    // The order of each address's lines is kept.
    expect_once_in_order(back.text(), &log);
    wd.sh("kput --create=3 spread access.log; kget spread").ok();
    assert_eq!(sorted(wd.sh("kget spread").ok().text()), sorted(&log));
}

#[test]
fn every_format_goes_in_and_comes_out() {
    let wd = Workdir::new();
    let put = |name: &str, args: &[&str], input: &[u8]| {
        wd.run("kput").args(["--create", name]).args(args).stdin(input).ok().expect_stderr("");
    };
    put("nul", &["-i", "nul"], b"one\ntwo\0\0three\0");
    wd.sh("kget nul -o base64").expect_stdout("b25lCnR3bw==\n\ndGhyZWU=\n");
    put("framed", &["-i", "framed"], b"\0\0\0\x03a\nb\0\0\0\0\0\0\0\x01c");
    wd.sh("kget framed -o framed | od -An -c | tr -d ' \\n'")
        .expect_stdout("\\0\\0\\0003a\\nb\\0\\0\\0\\0\\0\\0\\0001c");
    put("base64", &["-i", "base64"], b"b25lCnR3bw==\nAAE\n");
    wd.sh("kget base64 -o base64").expect_stdout("b25lCnR3bw==\nAAE=\n");
    put("ndjson", &["-i", "ndjson"], b"{\"a\": 1}\n\n[2]\n");
    wd.sh("kget ndjson").expect_stdout("{\"a\": 1}\n[2]\n");
    put("csv", &["-i", "csv", "--key", "who"], b"n,who\r\n1,ann\r\n2,\"b\nob\"\r\n");
    wd.sh("kget csv --template '{key}={payload};'").expect_stdout("ann=1,ann;b\nob=2,\"b\nob\";");
    put("tsv", &["-i", "csv", "--delimiter", "tab", "--key", "who"], b"n\twho\n1\tann\n");
    wd.sh("kget tsv --template '{key}={payload};'").expect_stdout("ann=1\tann;");
    // An envelope keeps all that a record has.
    wd.sh("kget csv -o json | kput --create copy -i json; kget copy --template '{key}={payload};'")
        .expect_stdout("ann=1,ann;b\nob=2,\"b\nob\";");
    wd.write("a.csv", "n,who\n1,ann\n");
    wd.write("b.csv", "who,n\nbob,2\n");
    wd.sh("kput --create files a.csv b.csv --key who; kget files --template '{key}={payload};'")
        .expect_stdout("ann=1,ann;bob=bob,2;");
}

#[test]
fn keys_from_everywhere() {
    let wd = Workdir::new();
    let mut n = 0;
    let mut keys = |args: &[&str], input: &str| {
        n += 1;
        let name = format!("s{n}");
        wd.run("kput").args(["--create=4", &name]).args(args).stdin(input).ok().expect_stderr("");
        wd.sh(&format!("kget {name} --template '{{key}} {{payload}}\\n' | sort")).ok().text().to_owned()
    };
    assert_eq!(keys(&["--key", "u.id"], "{\"u\":{\"id\":\"x\"}}\n"), "x {\"u\":{\"id\":\"x\"}}\n");
    assert_eq!(keys(&["--key", "/u/0"], "{\"u\":[\"x\"]}\n"), "x {\"u\":[\"x\"]}\n");
    assert_eq!(keys(&["--key-regex", "b+"], "abbc\n"), "bb abbc\n");
    assert_eq!(keys(&["--key-regex", "a(b)"], "abbc\n"), "b abbc\n");
    assert_eq!(keys(&["--key-delimiter", ": "], "k: v: w\n"), "k v: w\n");
    assert_eq!(keys(&["--key-value", "k"], "v\nw\n"), "k v\nk w\n");
    // The same key always goes where the service would put it.
    wd.sh("kput --create=2 placed --key-value a <<X
1
X
printf 'n,h\n2,0\n3,340282366920938463463374607431768211455\n' | kput placed -i csv --explicit-hash-key h")
        .ok();
    wd.sh("kget placed --shard 0").expect_stdout("1\n2,0\n");
    wd.sh("kget placed --shard 1").expect_stdout("3,340282366920938463463374607431768211455\n");
}

#[test]
fn streams_that_are_missing_or_made() {
    let wd = Workdir::new();
    wd.run("kput").args(["--create=3", "clicks"]).stdin("").ok();
    wd.sh("kshard list clicks -o json | grep -c shardId-").ok();
    let failed = wd.run("kput").arg("click").stdin("a\n").fails();
    assert!(failed.stderr.contains("try: did you mean `clicks`?"), "{}", failed.stderr);
    let failed = wd.run("kput").arg("orders").stdin("a\n").fails();
    assert!(failed.stderr.contains("kshard create"), "{}", failed.stderr);
    assert!(!wd.join("orders").exists());
    // It is there already: what was asked for is not looked at again.
    wd.run("kput").args(["--create=9", "clicks"]).stdin("a\n").ok();
    wd.sh("kget clicks").expect_stdout("a\n");
    // Two at once.
    wd.sh("for i in 1 2 3 4 5; do echo $i | kput --create=2 race & done; wait").ok();
    assert_eq!(sorted(wd.sh("kget race").ok().text()), ["1", "2", "3", "4", "5"]);
}

#[test]
fn wrong_usage() {
    let wd = Workdir::new();
    wd.write("file", "a\n");
    for args in [
        &["s", "--key", "a", "--key-value", "b"][..],
        &["s", "-f"],
        &["--create=2", "s", "-i", "xml"],
        &["--create=2", "s", "-i", "lines", "--key", "a"],
        &["--create=0", "s"],
        &["--create=2", "s", "missing"],
        &["--create=2", "s", "file", "missing"],
        &["--create=2", "s", "."],
        &["--create=2", "s", "--sync", "often"],
        &["--create=2", "s", "--sync", "none", "--producer", "p"],
        &["--create=2", "s", "--enforce-limits=refuse", "--producer", "p"],
        &["--create=2", "s", "--key-regex", "("],
        &["--create=2", "s", "--producer", "a b"],
        &["--create=2", "s", "--producer-position", "n"],
        &["--create=2", "s", "-f", "-"],
    ] {
        wd.run("kput").args(args).stdin("x\n").fails();
        assert!(!wd.join("s").exists() || args.contains(&"-f"), "{args:?} made a stream");
    }
}

#[test]
fn a_bad_record_in_a_file_ends_the_run() {
    let wd = Workdir::new();
    wd.write("in.ndjson", "{\"k\":\"a\"}\n{\"k\":\"b\"}\n{\"k\":\n{\"k\":\"c\"}\n");
    let failed = wd.run("kput").args(["--create=2", "s", "--key", "k", "in.ndjson"]).fails();
    assert!(failed.stderr.contains("2 records stored before this"), "{}", failed.stderr);
    assert!(failed.stderr.contains("in.ndjson: record 3"), "{}", failed.stderr);
    assert_eq!(sorted(wd.sh("kget s").ok().text()), ["{\"k\":\"a\"}", "{\"k\":\"b\"}"]);
    let done = wd.run("kput").args(["--create", "t", "--key", "k", "--on-error", "skip", "in.ndjson"]).done();
    let done = done.expect_status(1).expect_stderr_has("1 record was refused, dropped");
    drop(done);
    wd.sh("kget t | wc -l").expect_stdout("3\n");
    assert!(!wd.join("t/rejects").exists());
}

#[test]
fn a_bad_record_in_a_pipe_is_kept() {
    let wd = Workdir::new();
    let input = "{\"k\":\"a\"}\n{\"x\":1}\n{\"k\":\"c\"}\n";
    let done = wd.run("kput").args(["--create=2", "s", "--key", "k"]).stdin(input).done();
    drop(done.expect_status(1).expect_stderr_has("1 record was refused, kept in"));
    assert!(wd.read("s/rejects/kput.ndjson").contains("\"error\""));
    wd.sh("kput s -i json < s/rejects/kput.ndjson; kget s | sort")
        .expect_stdout("{\"k\":\"a\"}\n{\"k\":\"c\"}\n{\"x\":1}\n");
    let done = wd.run("kput").args(["s", "--key", "k", "--on-error", "reject=out/bad"]).stdin("[]\n").done();
    drop(done.expect_status(1));
    assert_eq!(wd.read("out/bad").lines().count(), 1);
    // Nobody can lose a record that is too long without being told either.
    let long = "x".repeat(3 << 20);
    let done = wd.run("kput").arg("s").stdin(format!("before\n{long}\nbehind\n")).done();
    drop(done.expect_status(1).expect_stderr_has("3145728 bytes"));
    wd.sh("kget s | grep -c -e before -e behind").expect_stdout("2\n");
    wd.write("long", format!("before\n{long}\nbehind\n"));
    drop(wd.run("kput").args(["--create", "t", "long"]).fails().expect_stderr_has("record 2"));
    wd.sh("kget t").expect_stdout("before\n");
}

#[test]
fn whole_files() {
    let wd = Workdir::new();
    wd.write("a", "1\n2\n");
    wd.write("b", "");
    wd.write("c", vec![b'x'; (1 << 20) + 1]);
    wd.sh("kput --create=2 s --whole a b --key-value k; kget s -o nul | tr '\\0' '|'")
        .expect_stdout("1\n2\n||");
    wd.run("kput").args(["s", "--whole", "a", "c"]).fails();
    drop(wd.run("kput").args(["s", "--whole", "c", "--on-error", "skip"]).done().expect_status(1));
    // With a name each file is stored once.
    for _ in 0..2 {
        wd.sh("kput --create=3 once --whole a b --producer p").ok();
    }
    wd.sh("kput once --whole a b a --producer p; kget once -o nul | tr '\\0' '|'").ok();
    assert_eq!(wd.sh("kget once -o nul | tr -cd '\\0' | wc -c").ok().text(), "3\n");
    wd.sh("kput once --whole b a --producer p").fails();
}

#[test]
fn tee_and_its_reader() {
    let wd = Workdir::new();
    let log = access_log();
    wd.write("access.log", &log);
    wd.sh("kput --create=4 s --tee < access.log | cmp - access.log").ok();
    assert_eq!(sorted(wd.sh("kget s").ok().text()), sorted(&log));
    // A reader that has seen enough does not keep the rest from being stored.
    wd.sh("kput --create=4 t --tee access.log | head -n 1 > first; kget t | wc -l")
        .expect_stdout(&format!("{}\n", log.lines().count()));
    wd.sh("kput --create=4 u --ack access.log | head -n 1 > first; kget u | wc -l")
        .expect_stdout(&format!("{}\n", log.lines().count()));
}

#[test]
fn acknowledgements() {
    let wd = Workdir::new();
    let log = access_log();
    for (name, args) in
        [("lines", &[][..]), ("keyed", &["--key-regex", "^(\\S+)"]), ("every", &["--sync", "every"])]
    {
        let input: String = log.lines().take(if name == "every" { 50 } else { 5000 }).fold(
            String::new(),
            |mut text, line| {
                let _ = writeln!(text, "{line}");
                text
            },
        );
        let done = wd.run("kput").args(["--create=3", name, "--ack"]).args(args).stdin(&input).ok();
        let told = |line: &str, field: &str| {
            let rest = line.split(&format!("\"{field}\":")).nth(1).expect("a field");
            rest.trim_start_matches('"').split(['"', ',', '}']).next().expect("a value").to_owned()
        };
        let acks = done.lines();
        assert_eq!(acks.len(), input.lines().count());
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        for (i, ack) in acks.iter().enumerate() {
            assert_eq!(told(ack, "number"), (i + 1).to_string());
            let (shard, sequence) = (told(ack, "shardId"), told(ack, "sequenceNumber"));
            assert!(sequence.parse::<kpipe::record::SequenceNumber>().is_ok(), "{sequence}");
            let before = last.insert(shard, sequence.clone()).unwrap_or_default();
            assert!((before.len(), &before) < (sequence.len(), &sequence), "{before} before {sequence}");
        }
        // What was told is where kget finds it.
        let found = wd.sh(&format!("kget {name} --template '{{seq}} {{payload}}\\n'")).ok();
        let found: BTreeMap<&str, &str> =
            found.text().lines().filter_map(|line| line.split_once(' ')).collect();
        for (ack, line) in acks.iter().zip(input.lines()) {
            assert_eq!(found.get(told(ack, "sequenceNumber").as_str()), Some(&line));
        }
    }
    // Each is told when it is on the disk, though the input goes on.
    let mut kput = wd.run("kput").args(["--create", "slow", "--ack"]).stdin("a\n").spawn();
    assert!(kput.read_until("\n").starts_with("{\"number\":1,"));
    kput.type_in("b\n");
    assert!(kput.read_until("\n").starts_with("{\"number\":2,"));
    kput.end_input();
    drop(kput.wait().expect_status(0));
}

#[test]
fn when_it_is_synced() {
    let wd = Workdir::new();
    for sync in ["every", "end", "none", "1KiB,10ms", "1GiB,1h"] {
        let name = sync.replace(',', "-");
        wd.run("kput").args(["--create=2", &name, "--sync", sync]).stdin("a\nb\nc\n").ok().expect_stderr("");
        assert_eq!(sorted(wd.sh(&format!("kget {name}")).ok().text()), ["a", "b", "c"]);
    }
}

#[test]
fn nothing_goes_in() {
    let wd = Workdir::new();
    wd.run("kput").args(["--create", "s"]).stdin("").ok().expect_stdout("").expect_stderr("");
    wd.run("kput").args(["s", "-i", "csv"]).stdin("").ok();
    wd.run("kput").args(["s", "-i", "csv"]).stdin("only,a,header\n").ok();
    wd.run("kput").args(["s", "--ack"]).stdin("").ok().expect_stdout("");
    wd.sh("kget s").expect_stdout("");
}

#[test]
fn what_was_read_is_stored_when_a_signal_comes() {
    let wd = Workdir::new();
    for (name, status) in [("INT", 130), ("TERM", 143)] {
        let stream = name.to_lowercase();
        let kput = wd.run("kput").args(["--create=2", &stream, "--tee"]).stdin("a\nb\n").spawn();
        // It is visible while the input stays open.
        wd.sh(&format!("until [ \"$(kget {stream} 2>/dev/null | wc -l)\" = 2 ]; do sleep 0.02; done")).ok();
        kput.signal(name);
        drop(kput.wait().expect_status(status).expect_stderr(""));
        wd.sh(&format!("kget {stream} | sort")).expect_stdout("a\nb\n");
    }
}

#[test]
fn held_to_the_services_limits() {
    let wd = Workdir::new();
    let input: String = (0..1500).fold(String::new(), |mut text, i| {
        let _ = writeln!(text, "{i}");
        text
    });
    let done = wd.run("kput").args(["--create", "refuse", "--enforce-limits=refuse"]).stdin(&input).done();
    drop(done.expect_status(1).expect_stderr_has("ProvisionedThroughputExceeded"));
    // Refused, and none the worse for it: they can be put back.
    let (stored, kept) =
        (wd.sh("kget refuse | wc -l").ok(), wd.sh("wc -l < refuse/rejects/kput.ndjson").ok());
    let count = |text: &str| text.trim().parse::<usize>().expect("a number");
    assert_eq!(count(stored.text()) + count(kept.text()), 1500);
    wd.sh("kput refuse -i json < refuse/rejects/kput.ndjson; kget refuse | sort -n > all; seq 0 1499 | cmp - all").ok();
    wd.run("kput").args(["--create", "wait", "--enforce-limits"]).stdin(&input).ok();
    wd.sh("kget wait | wc -l").expect_stdout("1500\n");
}

#[test]
fn splits_and_merges_under_way() {
    let wd = Workdir::new();
    wd.sh("kshard create s --shards 2").ok();
    let mut kput =
        wd.run("kput").args(["s", "--key-regex", "^(\\w+)", "--ack", "--sync", "1MiB,1ms"]).spawn();
    let (mut expected, mut n) = (String::new(), 0);
    for command in ["split s 0", "split s 1", "merge s 2 3", "scale s 1", "scale s 4", "scale s 2"] {
        for _ in 0..40 {
            let line = format!("k{} {n}\n", n % 9);
            kput.type_in(&line);
            expected.push_str(&line);
            n += 1;
            kput.read_until("\n");
        }
        wd.sh(&format!("kshard {command}")).ok();
    }
    kput.type_in("k0 last\n");
    kput.end_input();
    drop(kput.wait().expect_status(0).expect_stderr(""));
    expected.push_str("k0 last\n");
    let back = wd.sh("kget s").ok();
    assert_eq!(sorted(back.text()), sorted(&expected));
    for key in 0..9 {
        let of_key = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.starts_with(&format!("k{key} "))).map(str::to_owned).collect()
        };
        assert_eq!(of_key(back.text()), of_key(&expected));
    }
}
