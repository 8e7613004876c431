//! Consumers that are killed: what a command or a pipe had, it had; everything else comes again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::ops::Range;
use std::time::{Duration, Instant};

use kpipe::stream::{Consumer, Stream};
use kpipe::sys::System;

use super::{rounds, stored};
use crate::producer::{Dice, expect_once_in_order};
use crate::workdir::{Running, Workdir};

/// Lines of one length, so that part of one is never another.
fn lines(numbers: Range<u64>) -> String {
    numbers.fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "k{} {n:07}.", n % 13);
        text
    })
}

fn put(wd: &Workdir, numbers: Range<u64>) {
    wd.run("kput").args(["s", "-q", "--key-regex", "^(\\S+)"]).stdin(lines(numbers)).ok();
}

/// The lines that the commands have written whole.
fn handled(wd: &Workdir) -> Vec<String> {
    let text = fs::read_to_string(wd.join("handled")).unwrap_or_default();
    let whole = text.lines().filter(|line| line.starts_with('k') && line.ends_with('.'));
    whole.map(str::to_owned).collect()
}

/// No checkpoint is beyond what was handled.
#[track_caller]
fn never_ahead(wd: &Workdir) {
    let stream = Stream::open(&System::real(), &wd.join("s")).expect("a stream");
    let Ok(consumer) = Consumer::open(&stream, "c") else { return };
    // The places first: what is handled meanwhile does no harm.
    let state = consumer.state().expect("a state");
    let handled: BTreeSet<String> = handled(wd).into_iter().collect();
    for (sequence, line) in stored(wd, "s") {
        let place = state.shards.get(&sequence.shard.0).map(|shard| shard.checkpoint);
        // A shard that is not there yet is a child.
        if place.is_some_and(|place| place.next_index().is_none_or(|next| sequence.index < next)) {
            assert!(handled.contains(&line), "{line} ({sequence}) was passed over: {place:?}");
        }
    }
}

/// Each line of `expected` is in the file, and of each key the first times come in order. Answers how many came again.
#[track_caller]
fn handled_all(wd: &Workdir, expected: &str) -> usize {
    let all = handled(wd);
    let (mut seen, mut first) = (BTreeSet::new(), String::new());
    for line in &all {
        if seen.insert(line) {
            let _ = writeln!(first, "{line}");
        }
    }
    expect_once_in_order(&first, expected);
    all.len() - seen.len()
}

/// The command's line is its own, whatever was left of the one before.
const HANDLE: &str = "{ echo; cat; } >> handled";

/// kget or the command it runs is killed at any moment: every record is handled, and no checkpoint says so before.
#[test]
fn what_killed_commands_did_not_finish_comes_again() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s --shards 2 --segment-size 16KiB").ok();
    let (mut dice, mut next, mut kills) = (Dice::new(21), 0, 0);
    let kget = format!("kget s --consumer c --from trim-horizon --batch-size 40 --exec '{HANDLE}'");
    rounds("killed commands", 40, |round| {
        put(&wd, next..next + 120);
        next += 120;
        if round % 20 == 10 {
            wd.sh(&format!("kshard scale s {}", 1 + dice.throw(4))).ok();
        }
        let kget = wd.sh(&format!("exec {kget} 2> said")).spawn();
        std::thread::sleep(Duration::from_micros(dice.throw(90_000)));
        if dice.throw(2) == 0 {
            // The commands of this kget, and what they run.
            let script = format!(
                "for p in $(ps -o pid= --ppid {}); do kill -s KILL -- -$p 2>&1 || true; done",
                kget.id()
            );
            drop(wd.sh(&script).done());
        }
        drop(kget.kill());
        kills += 1;
        if round % 5 == 0 {
            never_ahead(&wd);
        }
    });
    // A command that outlived its kget holds the lease for as long as it lives.
    let expected = lines(0..next);
    let begun = Instant::now();
    while BTreeSet::from_iter(handled(&wd)).len() < next as usize && begun.elapsed() < Duration::from_secs(20)
    {
        wd.sh(&kget).ok();
    }
    let again = handled_all(&wd, &expected);
    assert!(again <= kills * 40, "{again} came again after {kills} kills of at most 40 records in hand");
    never_ahead(&wd);
    let before = handled(&wd).len();
    wd.sh(&kget).ok();
    assert_eq!(handled(&wd).len(), before, "all of it is committed");
}

/// What a reader has taken out of a pipe when kget is killed, or when the reader itself goes away, is all that the
/// checkpoint may have passed.
#[test]
fn a_killed_pipe_loses_nothing_that_nobody_took() {
    const LINE: usize = 12;
    let wd = Workdir::new();
    wd.sh("kshard create -q s").ok();
    let text: String = (0..60_000).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "{n:0width$}", width = LINE - 1);
        text
    });
    assert_eq!(text.len() % LINE, 0);
    let mut dice = Dice::new(31);
    // How far any reader has come, in bytes of the stream.
    let (mut there, mut reached, mut runs) = (0, 0, [0; 2]);
    let read_by_one = |take: Option<usize>, pause: u64, reached: &mut usize, there: usize| {
        let mut kget = wd.sh("exec kget s --consumer c --from trim-horizon").spawn();
        let (mut pipe, mut got, mut block) = (kget.take_output(), Vec::new(), [0; 5000]);
        let begun = Instant::now();
        let mut kget = Some(kget);
        loop {
            if take.is_none() && begun.elapsed() > Duration::from_micros(pause * 40) {
                // kget dies; the reader goes on to the end of the pipe.
                drop(kget.take().map(Running::kill));
            }
            let most = take.map_or(block.len(), |take| (take - got.len()).min(block.len()));
            match pipe.read(&mut block[..most]).expect("a pipe") {
                0 => break,
                len => got.extend_from_slice(&block[..len]),
            }
            std::thread::sleep(Duration::from_micros(pause));
        }
        drop(pipe);
        if let Some(kget) = kget {
            drop(kget.wait().expect_status(0).expect_stderr(""));
        }
        let Some(first) = got.get(..LINE) else { return };
        let start: usize = std::str::from_utf8(first).expect("text").trim().parse().expect("a number");
        let start = start * LINE;
        assert!(start <= *reached, "bytes {reached} to {start} were taken by nobody");
        let all = text.as_bytes();
        assert!(got == all[start..start + got.len()], "not what was written, from byte {start}");
        *reached = (*reached).max(start + got.len());
        assert!(*reached <= there);
    };
    rounds("killed pipes", 100, |_| {
        if there < text.len() {
            let more = (1 + dice.throw(1500) as usize) * LINE;
            let end = (there + more).min(text.len());
            wd.run("kput").args(["s", "-q"]).stdin(&text[there..end]).ok();
            there = end;
        } else if there == reached {
            wd.sh("kshard consumers s c --reset trim-horizon").ok();
            reached = 0;
        }
        let kill = dice.throw(2) == 0;
        runs[usize::from(kill)] += 1;
        let take = (!kill).then(|| 1 + dice.throw(20_000) as usize);
        read_by_one(take, dice.throw(800), &mut reached, there);
    });
    read_by_one(Some(usize::MAX), 0, &mut reached, there);
    assert_eq!(reached, there, "all of it was taken");
    eprintln!("killed pipes: {} kgets were killed, {} readers left", runs[1], runs[0]);
    wd.sh("kget s --consumer c").expect_stdout("");
}

/// Workers of one consumer are killed and begun again while others take over and records come.
#[test]
fn workers_take_over_from_killed_ones() {
    const WORKERS: usize = 3;
    let wd = Workdir::new();
    wd.sh("kshard create -q s --shards 4 --segment-size 16KiB").ok();
    let (mut dice, mut next) = (Dice::new(41), 0);
    let script = format!(
        "exec kget s --consumer c -f --failover 1s --from trim-horizon --batch-size 25 --exec '{HANDLE}' 2> said"
    );
    let mut workers: Vec<Option<Running>> = (0..WORKERS).map(|_| None).collect();
    rounds("take-over", 60, |_| {
        put(&wd, next..next + 60);
        next += 60;
        let one = dice.throw(WORKERS as u64) as usize;
        match workers[one].take() {
            Some(worker) if dice.throw(4) == 0 => {
                worker.signal("TERM");
                drop(worker.wait().expect_status(143));
            }
            Some(worker) => drop(worker.kill()),
            None => workers[one] = Some(wd.sh(&script).spawn()),
        }
        std::thread::sleep(Duration::from_millis(dice.throw(100)));
    });
    never_ahead(&wd);
    for worker in &mut workers {
        worker.get_or_insert_with(|| wd.sh(&script).spawn());
    }
    let begun = Instant::now();
    while BTreeSet::from_iter(handled(&wd)).len() < next as usize && begun.elapsed() < Duration::from_secs(30)
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    for worker in workers.into_iter().flatten() {
        worker.signal("TERM");
        drop(worker.wait().expect_status(143));
    }
    handled_all(&wd, &lines(0..next));
    never_ahead(&wd);
}

/// What cron runs is run twice at once, again and again, and sometimes killed: every line is stored once and handled,
/// and where nobody was killed it is handled once.
#[test]
fn two_crons_at_once() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s --shards 3").ok();
    let mut input = fs::File::options().create(true).append(true).open(wd.join("input")).expect("a file");
    let (mut dice, mut next, mut killed) = (Dice::new(51), 0, BTreeMap::new());
    let kput = "exec kput s -q --producer cron --key-regex '^(\\S+)' input";
    let kget = format!("exec kget s -q --consumer c --from trim-horizon --exec '{HANDLE}'");
    rounds("two crons", 40, |round| {
        input.write_all(lines(next..next + 200).as_bytes()).expect("written");
        next += 200;
        let scripts = [kput, kput, &kget, &kget];
        let runs: Vec<_> = scripts.iter().map(|script| wd.sh(script).spawn()).collect();
        let victim = (round % 4 == 3).then(|| dice.throw(4) as usize);
        for (i, run) in runs.into_iter().enumerate() {
            if victim == Some(i) {
                std::thread::sleep(Duration::from_micros(dice.throw(30_000)));
                drop(run.kill());
                *killed.entry(i / 2).or_insert(0) += 1;
                continue;
            }
            let done = run.wait();
            let fenced = i < 2 && done.status == 2 && done.stderr.contains("is fenced");
            assert!(done.status == 0 || fenced, "$ {}\n{}", scripts[i], done.stderr);
        }
        if victim.is_none() {
            expect_once_in_order(wd.sh("kget s").ok().text(), &lines(0..next));
        }
    });
    wd.sh(kput).ok();
    let begun = Instant::now();
    while BTreeSet::from_iter(handled(&wd)).len() < next as usize && begun.elapsed() < Duration::from_secs(20)
    {
        wd.sh(&kget).ok();
    }
    expect_once_in_order(wd.sh("kget s").ok().text(), &lines(0..next));
    let again = handled_all(&wd, &lines(0..next));
    assert!(again == 0 || killed.contains_key(&1), "{again} were handled twice and nobody was killed");
    never_ahead(&wd);
}
