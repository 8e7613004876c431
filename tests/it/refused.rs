//! What kput does not take: nothing of it is lost in silence, whatever the input, its end and the next run.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::workdir::Workdir;

/// The record limit of a stream.
const LIMIT: usize = 1 << 20;

/// Inputs of each format that end in the middle of a record that is too long, by one byte or by much, and how many good
/// records stand before it.
fn cut_short() -> Vec<(&'static str, Vec<u8>, usize)> {
    let mut inputs = Vec::new();
    for len in [LIMIT + 1, 3 * LIMIT] {
        let long = vec![b'x'; len];
        inputs.push(("lines", long.clone(), 0));
        inputs.push(("lines", [&b"a\n"[..], &long].concat(), 1));
        inputs.push(("nul", [&b"a\0"[..], &long].concat(), 1));
        inputs.push(("ndjson", [&b"{}\n"[..], &long].concat(), 1));
        inputs.push(("csv", [&b"a,b\n1,2\n"[..], &long].concat(), 1));
        inputs.push(("csv", [&b"a,b\n1,2\n\"stray\n"[..], &long, b"\n3,4\n"].concat(), 1));
        inputs.push(("base64", [&b"YQ==\n"[..], &vec![b'x'; len * 4 / 3 + 64]].concat(), 1));
        let envelope = b"{\"kpipe\":\"record\",\"text\":\"a\"}\n{\"kpipe\":\"record\",\"text\":\"";
        inputs.push(("json", [&envelope[..], &vec![b'x'; 7 * len + 64]].concat(), 1));
        inputs.push(("framed", [&b"\0\0\0\x01a\0\0\xff\xff"[..], &[b'x'; 100]].concat(), 1));
    }
    inputs
}

/// A last record that was longer than the limit and had no delimiter was gone without a word, with status 0.
#[test]
fn a_record_that_is_too_long_and_has_no_end() {
    let wd = Workdir::new();
    for (n, (format, input, good)) in cut_short().into_iter().enumerate() {
        let said = format!("{n}: {format}, {} bytes", input.len());
        wd.write("in", &input);
        let (pipe, file, named, agent) =
            (format!("pipe{n}"), format!("file{n}"), format!("named{n}"), format!("agent{n}"));
        let count = |name: &str| wd.sh(&format!("kget {name} -o json | wc -l")).ok().text().trim().to_owned();
        let done = wd.run("kput").args(["--create", &pipe, "-i", format]).stdin(&input).done();
        assert_eq!((done.status, count(&pipe)), (1, good.to_string()), "{said}: {}", done.stderr);
        assert_eq!(wd.read(&format!("{pipe}/rejects/kput.ndjson")).lines().count(), 1, "{said}");
        let done = wd.run("kput").args(["--create", &file, "-i", format, "in"]).done();
        assert_eq!((done.status, count(&file)), (2, good.to_string()), "{said}: {}", done.stderr);
        assert!(done.stderr.contains(": record "), "{said}: {}", done.stderr);
        // Run again, one that was kept is neither stored nor kept again.
        for status in [1, 0] {
            let done = wd
                .run("kput")
                .args(["--create", &named, "-i", format, "in", "--producer", "p", "--on-error", "reject"])
                .done();
            assert_eq!((done.status, count(&named)), (status, good.to_string()), "{said}: {}", done.stderr);
            assert_eq!(wd.read(&format!("{named}/rejects/kput.ndjson")).lines().count(), 1, "{said}");
        }
        if good == 0 || n >= 9 {
            continue;
        }
        wd.sh(&format!("rm -f in.1; kshard create {agent}")).ok();
        let follow = wd.run("kput").args([&agent, "-f", "in", "-i", format]).spawn();
        wd.sh(&format!("until [ \"$(kget {agent} -o json | wc -l)\" -ge {good} ]; do sleep 0.02; done")).ok();
        // Nobody writes to it any more: what has no end is the last record.
        fs::rename(wd.join("in"), wd.join("in.1")).expect("a rename");
        wd.write("in", if format == "csv" { "a,b\n" } else { "" });
        let begun = Instant::now();
        while !wd.join(format!("{agent}/rejects/kput.ndjson")).exists() {
            assert!(begun.elapsed() < Duration::from_secs(50), "{said}: never refused");
            std::thread::sleep(Duration::from_millis(20));
        }
        follow.signal("TERM");
        drop(follow.wait().expect_status(143).expect_stderr_has("1 record was refused"));
        fs::remove_file(wd.join("in")).expect("a file");
    }
}

/// The mark of a bad record's block stood behind all of it: what followed was lost to the next run, or the mended file
/// was another input for ever.
#[test]
fn a_bad_row_is_mended_and_the_rest_stored_once() {
    let wd = Workdir::new();
    let rows = |bad: &str| format!("id,customer\n1,ann\n2,bob\n{bad}\n4,dan\n5,eve\n");
    wd.write("orders.csv", rows("3"));
    let put = |more: &[&str]| {
        let args = ["--create=2", "orders", "--producer", "nightly", "orders.csv", "--key", "customer"];
        wd.run("kput").args(args).args(more)
    };
    for _ in 0..2 {
        let failed = put(&[]).fails();
        assert!(failed.stderr.contains("orders.csv: record 4"), "{}", failed.stderr);
        wd.sh("kget orders | sort").expect_stdout("1,ann\n2,bob\n");
    }
    wd.write("orders.csv", rows("3,cyd"));
    for _ in 0..2 {
        put(&[]).ok();
        wd.sh("kget orders | sort").expect_stdout("1,ann\n2,bob\n3,cyd\n4,dan\n5,eve\n");
    }
    // The same where it is not mended and those that are good are wanted.
    wd.write("orders.csv", rows("3"));
    wd.sh("rm -r orders").ok();
    put(&[]).fails();
    drop(put(&["--on-error", "reject"]).done().expect_status(1));
    put(&[]).ok();
    wd.sh("kget orders | sort").expect_stdout("1,ann\n2,bob\n4,dan\n5,eve\n");
    // A record that is too long goes through several blocks before its end tells so.
    let long = |middle: &str| format!("a\n{middle}\nb\nc\n");
    wd.write("in", long(&"x".repeat(3 * LIMIT)));
    wd.sh("! kput --create=2 t in --producer p 2>/dev/null").ok();
    wd.write("in", long("mended"));
    wd.sh("kput t in --producer p; kget t | sort").expect_stdout("a\nb\nc\nmended\n");
}

/// As above, of a file that is followed.
#[test]
fn a_followed_file_is_mended_and_the_rest_stored_once() {
    let wd = Workdir::new();
    let text = |bad: &str| format!("{{\"id\":1}}\n{{\"id\":2}}\n{bad}\n{{\"id\":4}}\n");
    wd.write("log.ndjson", text("{\"no\":3}"));
    wd.sh("kshard create s --shards 2").ok();
    let args = ["s", "-f", "log.ndjson", "--key", "id", "--on-error", "fail"];
    for _ in 0..2 {
        wd.run("kput").args(args).fails();
        wd.sh("kget s | wc -l").expect_stdout("2\n");
    }
    wd.write("log.ndjson", text("{\"id\":3}"));
    let agent = wd.run("kput").args(args).spawn();
    wd.sh("until [ \"$(kget s | wc -l)\" -ge 4 ]; do sleep 0.02; done").ok();
    agent.signal("TERM");
    drop(agent.wait().expect_status(143).expect_stderr(""));
    wd.sh("kget s | sort").expect_stdout(&text("{\"id\":3}"));
}

/// A position that is none ended the run with nothing stored, whatever was asked for, and one out of order was found
/// when those behind it were stored already.
#[test]
fn positions_that_are_none_or_out_of_order() {
    let wd = Workdir::new();
    let put = |name: &str, ids: &[&str], on_error: &[&str]| {
        let input = ids.iter().fold(String::new(), |text, id| text + "{\"id\":" + id + "}\n");
        wd.write("in.ndjson", input);
        let args =
            [&format!("--create={}", 2), name, "in.ndjson", "--producer", "p", "--producer-position", "id"];
        let done = wd.run("kput").args(args).args(on_error).done();
        let stored = wd.sh(&format!("kget {name} | tr -dc '0-9\\n' | sort -n | tr '\\n' ' '")).ok();
        (done.status, stored.text().trim().to_owned(), done.stderr)
    };
    let (status, stored, said) = put("a", &["1", "\"x\"", "3"], &[]);
    assert_eq!((status, &stored[..]), (2, "1"), "{said}");
    assert!(said.contains("in.ndjson: record 2: its position `x` is not a whole number"), "{said}");
    let (status, stored, said) = put("b", &["1", "\"x\"", "3"], &["--on-error", "skip"]);
    assert_eq!((status, &stored[..]), (1, "1 3"), "{said}");
    let (status, stored, said) = put("c", &["1", "3", "2", "4"], &[]);
    assert_eq!((status, &stored[..]), (2, "1 3"), "{said}");
    assert!(said.contains("in.ndjson: record 3: its position 2 is not above"), "{said}");
    let (status, stored, said) = put("d", &["10", "30", "20", "40"], &["--on-error", "reject"]);
    assert_eq!((status, &stored[..]), (1, "10 30 40"), "{said}");
    assert!(wd.read("d/rejects/kput.ndjson").contains("\"number\":3,"), "the record's own number");
    let (status, stored, said) = put("e", &["1", "18446744073709551615"], &["--on-error", "skip"]);
    assert_eq!((status, &stored[..]), (1, "1"), "{said}");
    let (status, stored, said) = put("f", &["18446744073709551614"], &[]);
    assert_eq!((status, &stored[..]), (0, "18446744073709551614"), "{said}");
}

/// The start of a record that was too long went back as a whole one; and one refused for want of a key went back
/// without.
#[test]
fn put_back() {
    let wd = Workdir::new();
    let input = format!("{{\"u\":1}}\n{{\"x\":2}}\n{{\"u\":\"{}\"}}\n", "y".repeat(2 * LIMIT));
    let done = wd.run("kput").args(["--create", "s", "--key", "u"]).stdin(&input).done().expect_status(1);
    assert!(done.stderr.contains("2 records were refused, kept in"), "{}", done.stderr);
    assert!(done.stderr.contains("1 too long, of which only the first 4 KiB"), "{}", done.stderr);
    let back =
        "mv s/rejects/kput.ndjson r.nd; sed -i 's/\"x\":2/\"u\":2/' r.nd; cat r.nd | kput s -i json --key u";
    let done = wd.sh(back).done().expect_status(1);
    assert!(done.stderr.contains("only its start was kept"), "{}", done.stderr);
    wd.sh("kget s --template '{key} {payload}\\n'").expect_stdout("1 {\"u\":1}\n2 {\"u\":2}\n");
    // Whole files, too: an empty record stood for one of them.
    wd.write("big", vec![b'x'; LIMIT + 1]);
    drop(
        wd.run("kput")
            .args(["--create", "w", "--whole", "big", "--on-error", "reject"])
            .done()
            .expect_status(1),
    );
    drop(wd.sh("mv w/rejects/kput.ndjson r.nd; cat r.nd | kput w -i json").done().expect_status(1));
    wd.sh("kget w").expect_stdout("");
}

/// It was said that refused records were kept where nothing could be written.
#[test]
fn records_that_cannot_be_kept() {
    let wd = Workdir::new();
    let run = |file: &str| {
        let on_error = format!("--on-error=reject={file}");
        wd.run("kput")
            .args(["--create", "s", "-i", "csv", "--key", "k", &on_error])
            .stdin("k,v\n\"a\n")
            .done()
    };
    let done = run("/dev/full").expect_status(2);
    assert!(!done.stderr.contains("kept in"), "{}", done.stderr);
    assert!(done.stderr.contains("could not be kept"), "{}", done.stderr);
    // A file that cannot be opened is found before anything is stored.
    wd.sh("rm -r s").ok();
    let done = run("/proc/none").expect_status(2);
    assert!(done.stderr.contains("cannot keep refused records"), "{}", done.stderr);
    assert!(!wd.join("s").exists());
    assert!(run("-").expect_status(2).stderr.contains("`-` is not a file"));
    assert!(run("/dev/stderr").expect_status(1).stderr.contains("\"kpipe\":\"record\""));
}

/// With limits to wait for, nothing was on the disk before all of a block was through, and no signal was heard.
#[test]
fn a_wait_for_the_limits_can_be_ended() {
    let wd = Workdir::new();
    let input = (0..30_000).fold(String::new(), |text, i| text + &i.to_string() + "\n");
    let begun = Instant::now();
    let mut kput = wd.run("kput").args(["--create", "s", "--enforce-limits", "--ack"]).stdin(&input).spawn();
    kput.read_until("\"number\":1000,");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "what the shard takes at once is acknowledged at once"
    );
    wd.sh("[ $(kget s | wc -l) -ge 1000 ]").ok();
    kput.signal("INT");
    let done = kput.wait().expect_status(130);
    assert!(begun.elapsed() < Duration::from_secs(20), "the signal was heard");
    drop(done);
}

/// Of a regular file nothing was stored, and the rejects lacked all but the key.
#[test]
fn refused_for_the_limits() {
    let wd = Workdir::new();
    let input: String = (0..1500).fold("id,h\n".to_owned(), |text, i| text + &i.to_string() + ",7\n");
    wd.write("in.csv", input);
    let args = ["in.csv", "--key", "id", "--explicit-hash-key", "h", "--enforce-limits=refuse"];
    let failed = wd.run("kput").args(["--create", "s"]).args(args).fails();
    assert!(failed.stderr.contains("in.csv: record 1002: Provisioned"), "{}", failed.stderr);
    wd.sh("kget s | wc -l").expect_stdout("1000\n");
    drop(
        wd.run("kput")
            .args(["--create", "t"])
            .args(args)
            .args(["--on-error", "reject"])
            .done()
            .expect_status(1),
    );
    let kept = wd.read("t/rejects/kput.ndjson");
    assert_eq!(kept.lines().count(), 500);
    let first = kept.lines().next().expect("a line");
    for part in ["\"number\":1002,", "\"explicitHashKey\":\"7\"", "\"partitionKey\":\"1000\""] {
        assert!(first.contains(part), "{part}: {first}");
    }
}

/// An agent refused records for weeks, and waited for files that nobody would write, without a word.
#[test]
fn an_agent_says_what_it_waits_for_and_what_it_refuses() {
    let wd = Workdir::new();
    wd.sh("kshard create s").ok();
    wd.write("b.ndjson", "{\"id\":1}\nnone\n");
    wd.write("c.ndjson", "");
    let is_root = {
        fs::set_permissions(wd.join("c.ndjson"), fs::Permissions::from_mode(0o000)).expect("permissions");
        fs::File::open(wd.join("c.ndjson")).is_ok()
    };
    wd.sh("kput s -f a.ndjson b.ndjson c.ndjson --key id > /dev/null 2> said < /dev/null & echo $! > pid")
        .ok();
    let wait_for = |part: &str| {
        drop(
            wd.sh(&format!(
                "for i in $(seq 500); do grep -q '{part}' said && exit 0; sleep 0.02; done; cat said; exit 1"
            ))
            .ok(),
        );
    };
    wait_for("waiting for .*/a.ndjson: it does not exist yet");
    if !is_root {
        wait_for("waiting for .*/c.ndjson: permission denied");
    }
    wait_for("b.ndjson: record 2: .*, kept in .*/rejects/kput.ndjson");
    wd.sh("sleep 1; kill -TERM $(cat pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.02; done").ok();
    assert_eq!(wd.read("said").matches("a.ndjson: it does not").count(), 1, "once");
}

/// Each further run under the same name kept the rejects of what was in doubt once more.
#[test]
fn rejects_are_kept_once() {
    let wd = Workdir::new();
    wd.write("in.ndjson", "{\"k\":1}\nno\n{\"k\":2}\nno\n");
    for status in [1, 0, 0] {
        let args = ["--create=3", "s", "in.ndjson", "--key", "k", "--producer", "p", "--on-error", "reject"];
        drop(wd.run("kput").args(args).done().expect_status(status));
    }
    assert_eq!(wd.read("s/rejects/kput.ndjson").lines().count(), 2);
    // Nor does a run that finds nothing good begin from the start for ever.
    for status in [1, 0] {
        let args = ["s", "--producer", "q", "--key", "k"];
        drop(wd.run("kput").args(args).stdin("no\n").done().expect_status(status));
    }
    assert_eq!(wd.read("s/rejects/kput.ndjson").lines().count(), 3);
    // A run that is killed has kept what its mark is behind.
    let mut kput = wd.run("kput").args(["s", "--producer", "r", "--key", "k", "--ack"]).spawn();
    kput.type_in("no\n{\"k\":7}\n");
    kput.read_until("\n");
    drop(kput.kill());
    wd.run("kput").args(["s", "--producer", "r", "--key", "k"]).stdin("no\n{\"k\":7}\n{\"k\":8}\n").ok();
    assert_eq!(wd.read("s/rejects/kput.ndjson").lines().count(), 4);
    wd.sh("kget s | sort").expect_stdout("{\"k\":1}\n{\"k\":2}\n{\"k\":7}\n{\"k\":8}\n");
}

/// A signal before the first writer came was not heard: kput was still opening the FIFO.
#[test]
fn a_fifo_without_a_writer_can_be_left() {
    let wd = Workdir::new();
    wd.sh("mkfifo fifo; kshard create s").ok();
    let kput = wd.run("kput").args(["s", "fifo"]).spawn();
    std::thread::sleep(Duration::from_millis(300));
    kput.signal("INT");
    drop(kput.wait().expect_status(130));
    // And one that comes late is waited for.
    let kput = wd.run("kput").args(["s", "fifo"]).spawn();
    std::thread::sleep(Duration::from_millis(200));
    let mut fifo = fs::OpenOptions::new().write(true).open(wd.join("fifo")).expect("a FIFO");
    fifo.write_all(b"a\n").expect("a reader");
    std::thread::sleep(Duration::from_millis(100));
    fifo.write_all(b"b\n").expect("a reader");
    drop(fifo);
    drop(kput.wait().expect_status(0));
    wd.sh("kget s").expect_stdout("a\nb\n");
}

/// The first files of several were stored before a misspelt one was found.
#[test]
fn whole_files_are_all_looked_at_first() {
    let wd = Workdir::new();
    wd.write("a", "1\n");
    for wrong in ["nope", "."] {
        wd.run("kput").args(["--create", "s", "--whole", "a", wrong]).fails();
        assert!(!wd.join("s").exists());
    }
    wd.sh("printf 'all\nof it\n' | kput --create s --whole a -; kget s -o nul | tr '\\0' '|'")
        .expect_stdout("1\n|all\nof it\n|");
}

/// `kshard create` was the advice for a directory that `kshard create` would not take.
#[test]
fn a_directory_that_is_no_stream() {
    let wd = Workdir::new();
    fs::create_dir(wd.join("ed")).expect("a directory");
    for args in [&["ed"][..], &["--create", "ed"]] {
        let failed = wd.run("kput").args(args).stdin("a\n").fails();
        assert!(failed.stderr.contains("and no stream"), "{}", failed.stderr);
        assert!(!failed.stderr.contains("kshard create"), "{}", failed.stderr);
    }
}

/// A tab was a tab for one option and two characters for another, and one was not looked at.
#[test]
fn delimiters_as_they_are_typed() {
    let wd = Workdir::new();
    wd.run("kput").args(["--create", "s", "--key-delimiter", r"\t"]).stdin("k\tv\n").ok();
    wd.run("kput").args(["s", "-i", "tsv", "--key", "b"]).stdin("a\tb\n1\tx\n").ok();
    wd.run("kput").args(["s", "-i", "csv", "--delimiter", r"\t", "--key", "b"]).stdin("a\tb\n2\ty\n").ok();
    wd.sh("kget s --template '{key}={payload};'").expect_stdout("k=v;x=1\tx;y=2\ty;");
    let failed = wd.run("kput").args(["s", "--delimiter", ";"]).stdin("a\n").fails();
    assert!(failed.stderr.contains("--delimiter is for csv"), "{}", failed.stderr);
}
