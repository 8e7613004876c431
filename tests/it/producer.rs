//! kput --producer stores every record once, however often it is killed and run again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use crate::put::access_log;
use crate::workdir::Workdir;

/// Numbers that look like chance and are the same in every run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 0 to `below` - 1.
    pub(crate) fn throw(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// How often something is killed: more often where `KPIPE_TEST_ROUNDS` says so.
pub(crate) fn rounds(usual: u32) -> u32 {
    std::env::var("KPIPE_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Lines `kN M rest`, M counting within the key.
fn keyed_lines(count: u32, keys: u32) -> String {
    (0..count).fold(String::new(), |mut text, i| {
        let _ = writeln!(text, "k{} {} {}", i % keys, i / keys, "x".repeat((i % 90) as usize));
        text
    })
}

/// Every line once, and each key's in its order.
#[track_caller]
pub(crate) fn expect_once_in_order(found: &str, expected: &str) {
    let by_key = |text: &str| {
        let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let key = line.split(' ').next().unwrap_or_default();
            lines.entry(key.to_owned()).or_default().push(line.to_owned());
        }
        lines
    };
    let (found, expected) = (by_key(found), by_key(expected));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (key, lines) in &expected {
        let got = &found[key];
        let first = lines.iter().zip(got).position(|(a, b)| a != b);
        let at = first.unwrap_or(lines.len().min(got.len()));
        assert!(
            got == lines,
            "{key}: {} lines, expected {}; they differ at {at}: {:?}, expected {:?}",
            got.len(),
            lines.len(),
            got.get(at),
            lines.get(at)
        );
    }
}

/// Kills `kput` at any moment until it has come to its end.
fn kill_until_done(wd: &Workdir, seed: u64, args: &[&str], input: &str, from_pipe: bool, reshard: bool) {
    let mut dice = Dice::new(seed);
    wd.write("input", input);
    wd.sh("kshard create s --shards 4").ok();
    for round in 0..rounds(14) {
        let mut kput = if from_pipe {
            wd.sh(&format!("cat input - | exec kput s {}", shell(args))).spawn()
        } else {
            wd.run("kput").arg("s").args(args).arg("input").spawn()
        };
        let _ = &mut kput;
        std::thread::sleep(Duration::from_micros(dice.throw(60_000)));
        kill_group(wd, &kput);
        drop(kput.kill());
        if reshard && round % 2 == 1 {
            // Any open shard; a merge of shards that are no neighbours is refused, which is as well.
            let open = wd.sh("kshard list s --filter at-latest -o json | tr ',' '\\n' | grep -o 'shardId-[0-9]*' | sort -u").ok();
            let open: Vec<String> = open.lines().into_iter().map(str::to_owned).collect();
            let one = &open[dice.throw(open.len() as u64) as usize];
            let command = if open.len() > 4 {
                let other = &open[dice.throw(open.len() as u64) as usize];
                format!("kshard merge s {one} {other} || true")
            } else {
                format!("kshard split s {one}")
            };
            drop(wd.sh(&command).done());
        }
    }
    for _ in 0..2 {
        wd.run("kput").arg("s").args(args).arg("input").ok().expect_stderr("");
    }
    expect_once_in_order(wd.sh("kget s").ok().text(), input);
}

fn shell(args: &[&str]) -> String {
    args.iter().map(|arg| format!("'{arg}'")).collect::<Vec<_>>().join(" ")
}

/// Kills what a shell has started: a killed shell leaves its children alive.
fn kill_group(wd: &Workdir, kput: &crate::workdir::Running) {
    let script = format!("for p in $(ps -o pid= --ppid {}); do kill -9 $p; done", kput.id());
    drop(wd.sh(&script).done());
}

#[test]
fn killed_at_any_moment_from_a_file() {
    let wd = Workdir::new();
    let input = keyed_lines(60_000, 23);
    kill_until_done(
        &wd,
        1,
        &["--producer", "p", "--key-regex", "^(\\w+)", "--sync", "64KiB,5ms"],
        &input,
        false,
        false,
    );
}

#[test]
fn killed_at_any_moment_from_a_pipe() {
    let wd = Workdir::new();
    let input = keyed_lines(60_000, 23);
    kill_until_done(&wd, 2, &["--producer", "p", "--key-regex", "^(\\w+)"], &input, true, false);
}

#[test]
fn killed_at_any_moment_while_shards_split_and_merge() {
    let wd = Workdir::new();
    let input = keyed_lines(60_000, 23);
    kill_until_done(
        &wd,
        3,
        &["--producer", "p", "--key-regex", "^(\\w+)", "--sync", "64KiB,5ms"],
        &input,
        false,
        true,
    );
}

#[test]
fn killed_while_records_have_no_keys() {
    let wd = Workdir::new();
    let mut dice = Dice::new(4);
    let log: String = access_log().lines().enumerate().fold(String::new(), |mut text, (i, line)| {
        let _ = writeln!(text, "{i} {line}");
        text
    });
    wd.write("input", &log);
    wd.sh("kshard create s --shards 4").ok();
    for _ in 0..rounds(10) {
        let kput = wd.run("kput").args(["s", "input", "--producer", "p", "--sync", "64KiB,5ms"]).spawn();
        std::thread::sleep(Duration::from_micros(dice.throw(40_000)));
        drop(kput.kill());
    }
    wd.run("kput").args(["s", "input", "--producer", "p"]).ok();
    expect_once_in_order(wd.sh("kget s").ok().text(), &log);
}

#[test]
fn several_files_killed() {
    let wd = Workdir::new();
    let mut dice = Dice::new(5);
    let (a, b, c) = ("a 1\na 2\na 3 unfinished", keyed_lines(20_000, 7), "c,d\n1,2\n");
    for (name, text) in [("a", a), ("b", b.as_str()), ("c", c)] {
        wd.write(name, text);
    }
    wd.sh("kshard create s --shards 3").ok();
    for _ in 0..rounds(8) {
        let kput = wd.run("kput").args(["s", "a", "b", "c", "--producer", "p", "--sync", "every"]).spawn();
        std::thread::sleep(Duration::from_micros(dice.throw(60_000)));
        drop(kput.kill());
    }
    for _ in 0..2 {
        wd.run("kput").args(["s", "a", "b", "c", "--producer", "p"]).ok();
    }
    let found = wd.sh("kget s | sort").ok();
    let mut expected: Vec<&str> = a.lines().chain(b.lines()).chain(c.lines()).collect();
    expected.sort_unstable();
    assert!(
        found.lines().len() == expected.len(),
        "{} lines, expected {}",
        found.lines().len(),
        expected.len()
    );
    let mut lines = found.lines();
    lines.sort_unstable();
    assert!(lines == expected);
}

#[test]
fn what_a_second_run_finds() {
    let wd = Workdir::new();
    wd.sh("kshard create s --shards 3").ok();
    let put = |input: &str| wd.run("kput").args(["s", "--producer", "p"]).stdin(input);
    let count = |n: usize| drop(wd.sh("kget s | wc -l").expect_stdout(&format!("{n}\n")));
    put("a\nb\nc\n").ok();
    // The same again stores nothing, and acknowledges nothing.
    put("a\nb\nc\n").arg("--ack").ok().expect_stdout("").expect_stderr("");
    count(3);
    // Another input, or less of it, is refused.
    for other in ["a\nX\nc\n", "a\nb\n", "", "b\nc\na\n", "a\nb\nX\nd\n"] {
        let failed = put(other).fails();
        assert!(failed.stderr.contains("--producer with another name"), "{}", failed.stderr);
    }
    count(3);
    // So are other options that would cut or key it in another way.
    put("a\nb\nc\n").args(["--key-value", "k"]).fails();
    put("a\nb\nc\n").args(["-i", "nul"]).fails();
    // What has been added is stored.
    put("a\nb\nc\nd\ne").ok();
    count(5);
    put("a\nb\nc\nd\nef\n").ok();
    count(6);
    put("a\nb\nc\nd\nef\n").ok();
    count(6);
    wd.sh("kget s | sort").expect_stdout("a\nb\nc\nd\ne\nf\n");
    // Another name is another producer.
    wd.run("kput").args(["s", "--producer", "q"]).stdin("a\n").ok();
    count(7);
    wd.write("file", "a\nb\nc\nd\nef\ng\n");
    wd.sh("kput s file --producer p; cat file | kput s --producer p").ok();
    count(8);
    wd.sh("kput s -f file --producer p").fails();
}

#[test]
fn an_input_that_stops_in_a_bad_place() {
    let wd = Workdir::new();
    wd.sh("kshard create s --shards 2").ok();
    let long = "x".repeat(2_500_000);
    let input = format!("a\n{long}\nb\nnot json\nc");
    let put = || wd.run("kput").args(["s", "--producer", "p", "--on-error", "skip"]).stdin(&input);
    // The second run refuses nothing: it begins behind all that the first has dealt with.
    for status in [1, 0] {
        drop(put().done().expect_status(status));
    }
    wd.sh("kget s | sort").expect_stdout("a\nb\nc\nnot json\n");
    // Grown, what follows is stored; what was refused is counted in no place.
    let grown = format!("{input}d\ne\n");
    wd.run("kput").args(["s", "--producer", "p", "--on-error", "skip"]).stdin(&grown).ok();
    wd.sh("kget s | sort").expect_stdout("a\nb\nc\nd\ne\nnot json\n");
}

#[test]
fn two_runs_at_once() {
    let wd = Workdir::new();
    let input = keyed_lines(20_000, 5);
    wd.write("input", &input);
    wd.sh("kshard create s --shards 4").ok();
    let args = ["s", "--producer", "p", "--key-regex", "^(\\w+)"];
    // The first waits for its input in the middle of it.
    let mut first = wd.run("kput").args(args).stdin(&input[..300_000]).spawn();
    wd.sh("until [ \"$(kget s | wc -c)\" -gt 200000 ]; do sleep 0.02; done").ok();
    wd.run("kput").args(args).arg("input").ok();
    let _ = std::io::stderr().flush();
    first.type_in(&input[300_000..]);
    first.end_input();
    let first = first.wait().expect_status(2);
    assert!(first.stderr.contains("is fenced") && first.stderr.lines().count() == 2, "{}", first.stderr);
    expect_once_in_order(wd.sh("kget s").ok().text(), &input);
    wd.run("kput").args(args).arg("input").ok();
    expect_once_in_order(wd.sh("kget s").ok().text(), &input);
    // All at the same moment: at least one comes to its end, and all together store each line once.
    let other = wd.sh("kshard create t --shards 3").ok();
    drop(other);
    wd.sh("for i in 1 2 3 4; do kput t input --producer p --key-regex '^(\\w+)' 2>/dev/null & done; wait")
        .ok();
    wd.sh("kput t input --producer p --key-regex '^(\\w+)'").ok();
    expect_once_in_order(wd.sh("kget t").ok().text(), &input);
}

#[test]
fn places_from_the_data() {
    let wd = Workdir::new();
    wd.sh("kshard create s --shards 3").ok();
    let put = |input: &str| {
        wd.run("kput").args(["s", "--producer", "p", "--producer-position", "n", "--key", "k"]).stdin(input)
    };
    let line = |n: u32| format!("{{\"n\":{n},\"k\":\"{}\"}}\n", n % 4);
    let lines = |range: std::ops::Range<u32>| range.map(line).collect::<String>();
    put(&lines(0..10)).ok();
    // The input may begin anywhere: what is stored is left out.
    put(&lines(5..15)).ok();
    put(&lines(12..13)).ok();
    put(&lines(20..25)).ok();
    wd.sh("kget s | wc -l").expect_stdout("20\n");
    let done = put(&(line(30) + &line(29) + &line(31))).done().expect_status(1);
    assert!(done.stderr.contains("its position 29 is not above"), "{}", done.stderr);
    wd.sh("kget s | wc -l").expect_stdout("22\n");
    drop(put("{\"n\":\"x\",\"k\":\"a\"}\n").done().expect_status(1));
    // Killed at any moment.
    let all = lines(100..8000);
    wd.write("in.ndjson", &all);
    let mut dice = Dice::new(7);
    for _ in 0..rounds(6) {
        let kput = wd
            .run("kput")
            .args([
                "s",
                "--producer",
                "q",
                "--producer-position",
                "n",
                "--key",
                "k",
                "in.ndjson",
                "--sync",
                "8KiB,1ms",
            ])
            .spawn();
        std::thread::sleep(Duration::from_micros(dice.throw(30_000)));
        drop(kput.kill());
    }
    wd.sh("kput s --producer q --producer-position n --key k in.ndjson").ok();
    let found =
        wd.sh("kget s | grep -E '\"n\":([1-9][0-9]{2}|[0-9]{4}),' | sort -t: -k2n | uniq | wc -l").ok();
    assert_eq!(found.text(), "7900\n");
    wd.sh("kget s | wc -l").expect_stdout("7922\n");
}

#[test]
fn without_keys_each_run_routes_alike() {
    let wd = Workdir::new();
    let log = access_log();
    for name in ["a", "b"] {
        wd.sh(&format!("kshard create {name} --shards 4")).ok();
        wd.run("kput").args([name, "--producer", "p"]).stdin(&log).ok();
    }
    for shard in 0..4 {
        let lines = |name: &str| wd.sh(&format!("kget {name} --shard {shard}")).ok().text().to_owned();
        let lines = [lines("a"), lines("b")];
        assert!(lines[0] == lines[1]);
        assert!(lines[0].lines().count() * 5 > log.lines().count(), "the shards are even");
    }
}
