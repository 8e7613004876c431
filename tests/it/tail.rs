//! kput -f follows files: as they grow, are renamed, copied, truncated and compressed, and as it is killed meanwhile.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::producer::{Dice, expect_once_in_order, rounds};
use crate::workdir::{Running, Workdir};

/// The longest that something may take to arrive: a busy machine is no failure.
const PATIENCE: Duration = Duration::from_mins(1);

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("a write");
}

/// Waits until the stream holds this many lines.
#[track_caller]
fn wait_for(wd: &Workdir, count: usize) {
    let begun = Instant::now();
    loop {
        let found = wd.sh("kget s").ok().text().lines().count();
        if found >= count {
            return;
        }
        if begun.elapsed() > PATIENCE {
            if let Ok(keep) = std::env::var("KPIPE_TEST_KEEP") {
                wd.sh(&format!("cp -a . {keep}")).ok();
            }
            let names = wd.sh("ls -la").ok();
            panic!("only {found} of {count} lines have come; in the directory:\n{}", names.text());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Stops an agent as a service manager does.
#[track_caller]
fn stop(agent: Running) -> String {
    agent.signal("TERM");
    agent.wait().expect_status(143).stderr
}

fn stream(shards: u32) -> Workdir {
    let wd = Workdir::new();
    wd.sh(&format!("kshard create s --shards {shards}")).ok();
    wd
}

#[test]
fn a_file_that_grows() {
    let wd = stream(1);
    wd.write("log", "there before\n");
    let agent = wd.run("kput").args(["s", "-f", "log"]).spawn();
    wait_for(&wd, 1);
    append(&wd.join("log"), "one\ntw");
    wait_for(&wd, 2);
    append(&wd.join("log"), "o\n");
    wait_for(&wd, 3);
    wd.sh("kget s").expect_stdout("there before\none\ntwo\n");
    assert_eq!(stop(agent), "");
    append(&wd.join("log"), "while it was down\n");
    let agent = wd.run("kput").args(["s", "-f", "log"]).spawn();
    wait_for(&wd, 4);
    append(&wd.join("log"), "and after\n");
    wait_for(&wd, 5);
    agent.signal("INT");
    drop(agent.wait().expect_status(130).expect_stderr(""));
    wd.sh("kget s").expect_stdout("there before\none\ntwo\nwhile it was down\nand after\n");
}

#[test]
fn a_file_that_is_not_there_yet_and_one_that_is_gone_for_a_while() {
    let wd = stream(1);
    let agent = wd.run("kput").args(["s", "-f", "sub/log", "other"]).spawn();
    append(&wd.join("other"), "o 1\n");
    wait_for(&wd, 1);
    wd.write("sub/log", "l 1\n");
    wait_for(&wd, 2);
    fs::remove_file(wd.join("sub/log")).expect("a file");
    append(&wd.join("other"), "o 2\n");
    wait_for(&wd, 3);
    wd.write("sub/log", "l 2\n");
    wait_for(&wd, 4);
    let said = stop(agent);
    assert!(said.lines().count() == 1 && said.contains("sub/log: it does not exist yet"), "{said}");
    expect_once_in_order(wd.sh("kget s").ok().text(), "o 1\nl 1\no 2\nl 2\n");
}

#[test]
fn renamed_with_a_writer_that_is_late() {
    let wd = stream(1);
    append(&wd.join("log"), "1\n");
    let agent = wd.run("kput").args(["s", "-f", "log"]).spawn();
    wait_for(&wd, 1);
    let mut late = fs::OpenOptions::new().append(true).open(wd.join("log")).expect("a file");
    fs::rename(wd.join("log"), wd.join("log.1")).expect("a rename");
    append(&wd.join("log"), "3\n");
    late.write_all(b"2\n").expect("a write");
    wait_for(&wd, 3);
    // Long after the new file was begun its line is still taken, and one without an end is a record.
    late.write_all(b"much later\nunfinished").expect("a write");
    wait_for(&wd, 4);
    append(&wd.join("log"), "4\n");
    wait_for(&wd, 5);
    assert_eq!(stop(agent), "");
    let found = wd.sh("kget s").ok().text().to_owned();
    assert_eq!(found, "1\n2\n3\nmuch later\n4\n");
}

#[test]
fn the_last_line_of_a_renamed_file() {
    let wd = stream(1);
    append(&wd.join("log"), "1\nno end");
    let agent = wd.run("kput").args(["s", "-f", "log"]).spawn();
    wait_for(&wd, 1);
    fs::rename(wd.join("log"), wd.join("log.1")).expect("a rename");
    append(&wd.join("log"), "2\n");
    wait_for(&wd, 3);
    assert_eq!(stop(agent), "");
    wd.sh("kget s").expect_stdout("1\nno end\n2\n");
}

#[test]
fn copied_and_truncated() {
    let wd = stream(2);
    append(&wd.join("log"), "k 1\n");
    let agent = wd.run("kput").args(["s", "-f", "log"]).spawn();
    wait_for(&wd, 1);
    wd.sh("echo k 2 >> log; cp log log.1; : > log; echo k 3 >> log").ok();
    wait_for(&wd, 3);
    // What comes is longer than what was there: only its bytes tell.
    wd.sh("cp log log.1; printf 'k four\nk five\nk six\n' > log").ok();
    wait_for(&wd, 6);
    assert_eq!(stop(agent), "");
    // While it is down, twice, the older copy compressed.
    wd.sh("echo k 7 >> log; cp log log.2; echo k 8 > log; gzip log.2; cp log log.1; echo k 9 > log").ok();
    let agent = wd.run("kput").args(["s", "-f", "log"]).spawn();
    wait_for(&wd, 9);
    assert_eq!(stop(agent), "");
    let all = "k 1\nk 2\nk 3\nk four\nk five\nk six\nk 7\nk 8\nk 9\n";
    let found = wd.sh("kget s").ok().text().to_owned();
    let (mut found, mut all): (Vec<_>, Vec<_>) = (found.lines().collect(), all.lines().collect());
    found.sort_unstable();
    all.sort_unstable();
    assert_eq!(found, all);
}

#[test]
fn truncated_with_bytes_that_nobody_has() {
    let wd = stream(1);
    append(&wd.join("log"), "one\nhalf a line");
    let agent = wd.run("kput").args(["s", "-f", "log"]).spawn();
    wait_for(&wd, 1);
    fs::write(wd.join("log"), "").expect("a truncation");
    append(&wd.join("log"), "2\n");
    wait_for(&wd, 2);
    let said = stop(agent);
    assert!(said.contains("bytes 4 to 15 are in no copy"), "{said}");
    wd.sh("kget s").expect_stdout("one\n2\n");
}

#[test]
fn rotated_several_times_while_it_was_down() {
    let wd = stream(1);
    for (scheme, names) in [
        ("number", ["log.3.gz", "log.2", "log.1"]),
        ("date", ["log-20261120.gz", "log-20261121", "log-20261122"]),
    ] {
        wd.sh(
            "kshard delete s --yes 2>/dev/null || kshard delete s || rm -rf s; kshard create s; rm -f log*",
        )
        .done();
        append(&wd.join("log"), "1\n");
        let agent = wd.run("kput").args(["s", "-f", "log"]).spawn();
        wait_for(&wd, 1);
        stop(agent);
        append(&wd.join("log"), "2\nno end");
        let packed = names[0].trim_end_matches(".gz");
        wd.sh(&format!(
            "mv log {packed}; gzip {packed}; echo 3 > {}; echo 4 > {}; echo 5 > log",
            names[1], names[2]
        ))
        .ok();
        let agent = wd.run("kput").args(["s", "-f", "log"]).spawn();
        wait_for(&wd, 6);
        assert_eq!(stop(agent), "", "{scheme}");
        wd.sh("kget s").expect_stdout("1\n2\nno end\n3\n4\n5\n");
    }
}

#[test]
fn gone_while_it_was_down() {
    let wd = stream(1);
    append(&wd.join("log"), "1\n");
    let agent = wd.run("kput").args(["s", "-f", "log"]).spawn();
    wait_for(&wd, 1);
    stop(agent);
    wd.sh("echo unseen >> log; rm log; echo 2 > log").ok();
    let agent = wd.run("kput").args(["s", "-f", "log"]).spawn();
    wait_for(&wd, 2);
    let said = stop(agent);
    // It had ended well: all that it had read is stored, and nothing in doubt.
    assert!(!said.contains("in part") && said.contains("up to byte 2 is gone"), "{said}");
    wd.sh("kget s").expect_stdout("1\n2\n");
}

#[test]
fn a_link_that_is_switched() {
    let wd = stream(1);
    wd.write("logs/a.log", "1\n");
    wd.write("logs/b.log", "2\n");
    wd.sh("ln -s logs/a.log current").ok();
    let agent = wd.run("kput").args(["s", "-f", "current"]).spawn();
    wait_for(&wd, 1);
    wd.sh("ln -s logs/b.log next; mv next current").ok();
    wait_for(&wd, 2);
    append(&wd.join("logs/b.log"), "3\n");
    wait_for(&wd, 3);
    assert_eq!(stop(agent), "");
    wd.sh("kget s").expect_stdout("1\n2\n3\n");
}

#[test]
fn formats_that_are_followed() {
    let wd = stream(1);
    append(&wd.join("a.csv"), "n,who\n1,ann\n");
    let run = || wd.run("kput").args(["s", "-f", "a.csv", "--key", "who"]).spawn();
    let agent = run();
    wait_for(&wd, 1);
    drop(agent.kill());
    append(&wd.join("a.csv"), "2,bob\n");
    let agent = run();
    wait_for(&wd, 2);
    fs::rename(wd.join("a.csv"), wd.join("a.csv.1")).expect("a rename");
    append(&wd.join("a.csv"), "who,n\ncyd,3\n");
    wait_for(&wd, 3);
    append(&wd.join("a.csv"), "dan\n");
    append(&wd.join("a.csv"), ",4\n");
    wait_for(&wd, 5);
    assert_eq!(stop(agent), "");
    wd.sh("kget s --template '{key}={payload};'").expect_stdout("ann=1,ann;bob=2,bob;cyd=cyd,3;dan=dan;=,4;");
    // A bad record is kept, and the rest goes on.
    append(&wd.join("b.ndjson"), "{\"id\":1}\nnone\n{\"id\":2}\n");
    let agent = wd.run("kput").args(["s", "-f", "b.ndjson", "--key", "id"]).spawn();
    wait_for(&wd, 7);
    let said = stop(agent);
    assert!(said.contains("1 record was refused, kept in"), "{said}");
    for (format, text, lines) in
        [("nul", "a\0b\0", 9), ("base64", "YQ==\n", 10), ("framed", "\0\0\0\u{1}a", 11)]
    {
        append(&wd.join(format), text);
        let agent = wd.run("kput").args(["s", "-f", format, "-i", format]).spawn();
        wait_for(&wd, lines);
        assert_eq!(stop(agent), "");
    }
}

#[test]
fn a_second_agent_fences_the_first() {
    let wd = stream(2);
    append(&wd.join("log"), "k 1\n");
    let run = || wd.run("kput").args(["s", "-f", "log"]).spawn();
    let first = run();
    wait_for(&wd, 1);
    let second = run();
    append(&wd.join("log"), "k 2\n");
    wait_for(&wd, 2);
    // The second may still be on its way: then the first took the line and is fenced at the next one.
    let mut n = 2;
    let begun = Instant::now();
    while wd
        .sh(&format!("kill -0 {} && ! grep -q 'State:.Z' /proc/{}/status", first.id(), first.id()))
        .done()
        .status
        == 0
    {
        assert!(begun.elapsed() < PATIENCE);
        n += 1;
        append(&wd.join("log"), &format!("k {n}\n"));
        wait_for(&wd, n);
    }
    let said = first.wait().expect_status(2).stderr;
    assert!(said.contains("is fenced") && said.lines().count() == 2, "{said}");
    assert_eq!(stop(second), "");
    let expected = (1..=n).fold(String::new(), |mut text, i| {
        let _ = writeln!(text, "k {i}");
        text
    });
    let found = wd.sh("kget s | sort -k2n").ok();
    assert_eq!(found.text(), expected);
}

#[test]
fn what_cannot_be_followed() {
    let wd = stream(1);
    fs::create_dir(wd.join("dir")).expect("a directory");
    wd.sh("mkfifo fifo").ok();
    for name in ["dir", "fifo", "-"] {
        wd.run("kput").args(["s", "-f", name]).fails();
    }
    let many: Vec<String> = (0..100).map(|i| format!("f{i}")).collect();
    let failed = wd.run("kput").args(["s", "-f"]).args(&many).fails();
    assert!(failed.stderr.contains("too many"), "{}", failed.stderr);
    append(&wd.join("log"), "1\n");
    let agent = wd.run("kput").args(["s", "-f", "log"]).spawn();
    wait_for(&wd, 1);
    stop(agent);
    let failed = wd.run("kput").args(["s", "-f", "log", "--key-value", "k"]).fails();
    assert!(failed.stderr.contains("other options"), "{}", failed.stderr);
}

/// With one more file the name that was made up of them was another, and all was stored again.
#[test]
fn a_file_more_than_before() {
    let wd = stream(2);
    for name in ["a", "b", "c"] {
        append(&wd.join(name), &format!("{name} 1\n"));
    }
    let run = |names: &[&str]| wd.run("kput").args(["s", "-f"]).args(names).spawn();
    let mut lines = 2;
    let agent = run(&["a", "b"]);
    wait_for(&wd, lines);
    assert_eq!(stop(agent), "");
    for names in [["a", "b", "c"], ["c", "b", "a"]] {
        append(&wd.join("a"), &format!("a {lines}\n"));
        let agent = run(&names);
        lines = if lines == 2 { 4 } else { 5 };
        wait_for(&wd, lines);
        assert_eq!(stop(agent), "");
    }
    wd.sh("kget s | sort").expect_stdout("a 1\na 2\na 4\nb 1\nc 1\n");
    // With fewer it might be another kput beside the first; the user is asked to say.
    let failed = wd.run("kput").args(["s", "-f", "a"]).fails();
    assert!(failed.stderr.contains("--producer follow-a-"), "{}", failed.stderr);
}

/// How a log is rotated.
#[derive(Clone, Copy, PartialEq)]
enum Rotation {
    Rename,
    CopyTruncate,
}

/// Appends, rotates, kills, all at chance; then looks whether every line is there once, in its file's order.
fn chaos(seed: u64, rotation: Rotation, shards: u32) {
    let wd = stream(shards);
    let mut dice = Dice::new(seed);
    let names = ["a.log", "b.log"];
    let (mut expected, mut n) = (String::new(), 0u32);
    let run = || {
        wd.run("kput")
            .args(["s", "-f", "a.log", "b.log", "--key-regex", "^(\\w+)", "--sync", "4KiB,2ms"])
            .spawn()
    };
    // A file that is renamed before anybody saw it is nobody's.
    for (which, name) in names.iter().enumerate() {
        let line = format!("k{which} first\n");
        append(&wd.join(name), &line);
        expected.push_str(&line);
    }
    let mut agent = run();
    wait_for(&wd, 2);
    for _ in 0..rounds(12) {
        for _ in 0..=dice.throw(6) {
            let which = dice.throw(2) as usize;
            let name = names[which];
            let mut text = String::new();
            for _ in 0..=dice.throw(200) {
                let _ = writeln!(text, "k{which} {n} {}", "x".repeat(dice.throw(60) as usize));
                n += 1;
            }
            expected.push_str(&text);
            // In two pieces, so that a line stands there without its end for a moment.
            let cut = dice.throw(text.len() as u64) as usize;
            append(&wd.join(name), &text[..cut]);
            std::thread::sleep(Duration::from_micros(dice.throw(3000)));
            append(&wd.join(name), &text[cut..]);
            if dice.throw(4) == 0 {
                rotate(&wd, name, rotation, &mut dice);
            }
        }
        std::thread::sleep(Duration::from_micros(dice.throw(40_000)));
        if dice.throw(3) > 0 {
            let done = agent.kill();
            assert_eq!(done.stderr, "");
            agent = run();
        }
    }
    wait_for(&wd, expected.lines().count());
    if let Ok(keep) = std::env::var("KPIPE_TEST_KEEP") {
        wd.write("expected", &expected);
        wd.sh(&format!("rm -rf {keep}; cp -a . {keep}")).ok();
    }
    expect_once_in_order(wd.sh("kget s").ok().text(), &expected);
    assert_eq!(stop(agent), "");
    // One more run finds nothing to do.
    let agent = run();
    for (which, name) in names.iter().enumerate() {
        let line = format!("k{which} last\n");
        append(&wd.join(name), &line);
        expected.push_str(&line);
    }
    wait_for(&wd, expected.lines().count());
    assert_eq!(stop(agent), "");
    expect_once_in_order(wd.sh("kget s").ok().text(), &expected);
}

fn rotate(wd: &Workdir, name: &str, rotation: Rotation, dice: &mut Dice) {
    let path = |i: u32, end: &str| wd.join(format!("{name}.{i}{end}"));
    let mut last = 1;
    while path(last, "").exists() || path(last, ".gz").exists() {
        last += 1;
    }
    for i in (1..last).rev() {
        let end = if path(i, ".gz").exists() { ".gz" } else { "" };
        fs::rename(path(i, end), path(i + 1, end)).expect("a rename");
    }
    match rotation {
        Rotation::Rename => {
            fs::rename(wd.join(name), path(1, "")).expect("a rename");
            if dice.throw(2) == 0 {
                append(&wd.join(name), "");
            }
        }
        Rotation::CopyTruncate => {
            fs::copy(wd.join(name), path(1, "")).expect("a copy");
            fs::write(wd.join(name), "").expect("a truncation");
        }
    }
    if last > 1 && dice.throw(2) == 0 && path(2, "").exists() {
        wd.run("gzip").arg(path(2, "")).ok();
    }
}

#[test]
fn killed_while_files_are_renamed() {
    chaos(11, Rotation::Rename, 3);
}

#[test]
fn killed_while_files_are_copied_and_truncated() {
    chaos(12, Rotation::CopyTruncate, 3);
}
