//! Writers that are killed, many at once, while shards come and go.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use kpipe::hash::{HashKey, HashRange};
use kpipe::record::ShardId;
use kpipe::stream::{Manifest, NewShard, Reshard, Stream};
use kpipe::sys::System;

use super::{rounds, stored};
use crate::producer::{Dice, expect_once_in_order};
use crate::workdir::{Running, Workdir};

const WRITERS: usize = 8;
const FOLLOWERS: usize = 4;

/// Decides a split and does none of it, as a program does that is killed at the worst moment.
fn decide_a_split(stream: &mut Stream, dice: &mut Dice) {
    let locks = stream.locks().expect("locks");
    // Whoever changes the manifest holds this one.
    locks.lock(0, true).expect("the stream's lock");
    stream.reload().expect("a manifest");
    let mut manifest = stream.manifest().clone();
    if manifest.pending.is_some() {
        return;
    }
    let open = manifest.open_shards();
    let parent = open[dice.throw(open.len() as u64) as usize];
    let (parent, range) = (parent.shard, parent.range());
    let middle = HashKey(range.start.0 + (range.end.0 - range.start.0) / 2 + 1);
    let child = |n: u32, range: HashRange| NewShard {
        shard: manifest.next_shard + n,
        starting_hash_key: range.start.0,
        ending_hash_key: range.end.0,
    };
    let children = vec![
        child(0, HashRange { start: range.start, end: HashKey(middle.0 - 1) }),
        child(1, HashRange { start: middle, end: range.end }),
    ];
    manifest.pending = Some(Reshard { parents: vec![parent], children });
    manifest.generation += 1;
    let path = Manifest::path(stream.path());
    System::real().disk.replace(&path, &manifest.encode().expect("bytes")).expect("a manifest");
}

/// Splits, merges or scales, or dies in the middle of it.
fn reshard(wd: &Workdir, stream: &mut Stream, dice: &mut Dice) {
    stream.reload().expect("a manifest");
    let open: Vec<ShardId> = stream.manifest().open_shards().iter().map(|shard| shard.id()).collect();
    let one = open[dice.throw(open.len() as u64) as usize];
    let command = match dice.throw(5) {
        0 => return decide_a_split(stream, dice),
        1 | 2 if open.len() < 9 => format!("exec kshard split s {one}"),
        3 => format!("exec kshard scale s {}", 1 + dice.throw(6)),
        _ => {
            let other = open[dice.throw(open.len() as u64) as usize];
            // Shards that are no neighbours, or closed meanwhile, are refused: as well.
            format!("exec kshard merge s {one} {other}")
        }
    };
    let kshard = wd.sh(&command).spawn();
    if dice.throw(2) == 0 {
        std::thread::sleep(Duration::from_micros(dice.throw(30_000)));
        drop(kshard.kill());
    } else {
        let done = kshard.wait();
        assert!(matches!(done.status, 0 | 2), "$ {command}\n{}", done.stderr);
    }
}

/// Many write one shard at once, others follow it, and it splits and merges meanwhile: every record is there once, and
/// in the order of its key, for everybody.
#[test]
fn many_write_and_follow_while_shards_come_and_go() {
    rounds("many writers", 3, |round| {
        let wd = Workdir::new();
        let mut dice = Dice::new(round + 1);
        wd.sh("kshard create -q s --segment-size 32KiB").ok();
        let mut stream = Stream::open(&System::real(), &wd.join("s")).expect("a stream");
        let followers: Vec<_> = (0..FOLLOWERS)
            .map(|i| wd.sh(&format!("exec kget s -f --from trim-horizon > followed-{i}")).spawn())
            .collect();
        let mut expected = String::new();
        let (mut counts, mut writers) = ([0; WRITERS], Vec::new());
        for step in 0..24 {
            if step % 8 == 0 {
                // The keys are the writers' own: a writer's next run waits for the one before.
                for writer in std::mem::take(&mut writers) {
                    let writer: Running = writer;
                    drop(writer.wait().expect_status(0).expect_stderr(""));
                }
                let sync = ["8MiB,50ms", "4KiB,5ms", "every"][step / 8];
                let args = ["s", "-q", "--key-regex", "^(\\S+)", "--sync", sync];
                writers = (0..WRITERS).map(|_| wd.run("kput").args(args).spawn()).collect();
            }
            for (w, writer) in writers.iter_mut().enumerate() {
                let mut lines = String::new();
                for _ in 0..=dice.throw(19) {
                    let n: u32 = counts[w];
                    let _ = writeln!(lines, "w{w}k{} {n} {}", n % 5, "x".repeat((n % 77) as usize));
                    counts[w] += 1;
                }
                writer.type_in(&lines);
                expected.push_str(&lines);
            }
            if step % 3 == 2 {
                reshard(&wd, &mut stream, &mut dice);
            }
        }
        for writer in writers {
            drop(writer.wait().expect_status(0).expect_stderr(""));
        }
        stored(&wd, "s");
        expect_once_in_order(wd.sh("kget s").ok().text(), &expected);
        expect_once_in_order(wd.sh("kget s --order arrival").ok().text(), &expected);
        let begun = Instant::now();
        for (i, follower) in followers.into_iter().enumerate() {
            let name = wd.join(format!("followed-{i}"));
            let complete = || fs::metadata(&name).is_ok_and(|file| file.len() >= expected.len() as u64);
            while !complete() && begun.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(5));
            }
            follower.signal("TERM");
            drop(follower.wait().expect_status(143).expect_stderr(""));
            expect_once_in_order(&wd.read(&format!("followed-{i}")), &expected);
        }
        wd.sh("kshard trim s; kshard check -q s").ok();
        stream.reload().expect("a manifest");
        assert_eq!(stream.manifest().pending, None);
    });
}

/// What the acknowledgement of a line says: its number and its sequence number. The last one may be cut off.
fn acks(text: &str) -> Vec<(usize, String)> {
    let whole = text.lines().filter(|line| line.ends_with('}'));
    whole
        .map(|line| {
            let json: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let number = json["number"].as_u64().expect("a number") as usize;
            (number, json["sequenceNumber"].as_str().expect("a sequence number").to_owned())
        })
        .collect()
}

/// Writers of one stream are killed at any moment: what they said is stored is stored, where they said, once; and of
/// each writer's input a prefix is there.
#[test]
fn what_killed_writers_acknowledged_is_there() {
    const AT_ONCE: usize = 2;
    let mut dice = Dice::new(11);
    let mut wd = Workdir::new();
    let mut told: Vec<(String, Vec<(usize, String)>)> = Vec::new();
    let mut acknowledged = 0;
    let verify = |wd: &Workdir, told: &[(String, Vec<(usize, String)>)]| {
        let mut lines: BTreeMap<String, Vec<(String, usize)>> = BTreeMap::new();
        for (sequence, line) in stored(wd, "s") {
            let mut words = line.split(' ');
            let (writer, number) = (words.next().expect("a writer"), words.next().expect("a number"));
            let of_writer = lines.entry(writer.to_owned()).or_default();
            of_writer.push((sequence.to_string(), number.parse().expect("a number")));
        }
        for (writer, acks) in told {
            let found = lines.get(writer).map_or(&[][..], Vec::as_slice);
            let numbers = found.iter().map(|(_, number)| *number);
            assert!(numbers.eq(1..=found.len()), "{writer}: not a prefix, each once: {found:?}");
            assert!(
                acks.len() <= found.len(),
                "{writer}: {} acknowledged, {} there",
                acks.len(),
                found.len()
            );
            for (i, (number, sequence)) in acks.iter().enumerate() {
                assert_eq!(*number, i + 1, "{writer}: acknowledged in order");
                assert_eq!(found[i].0, *sequence, "{writer}: line {number} is where it was said to be");
            }
        }
        wd.sh("kshard check -q s").ok();
    };
    rounds("killed writers", 120, |round| {
        if round % 60 == 0 {
            if round > 0 {
                verify(&wd, &told);
                told.clear();
                wd = Workdir::new();
            }
            wd.sh("kshard create -q s --shards 2 --segment-size 16KiB").ok();
        }
        let writers: Vec<_> = (0..AT_ONCE)
            .map(|w| {
                let name = format!("r{round}w{w}");
                let sync = ["every", "8MiB,50ms", "512,1ms"][dice.throw(3) as usize];
                let script =
                    format!("exec kput s -q --ack --key-regex '^(\\S+)' --sync {sync} > acks-{name}");
                let mut kput = wd.sh(&script).spawn();
                let (mut input, key, pause) = (kput.take_input(), name.clone(), dice.throw(300));
                let feeder = std::thread::spawn(move || {
                    for n in 1..20_000 {
                        let line = format!("{key} {n} {}\n", "x".repeat(n % 200));
                        if input.write_all(line.as_bytes()).is_err() {
                            return;
                        }
                        std::thread::sleep(Duration::from_micros(pause));
                    }
                });
                (name, kput, feeder)
            })
            .collect();
        for (name, kput, feeder) in writers {
            std::thread::sleep(Duration::from_micros(dice.throw(60_000)));
            drop(kput.kill().expect_status(137).expect_stderr(""));
            feeder.join().expect("the feeding thread");
            // One that was killed before its shell had made the file has acknowledged nothing.
            let file = wd.join(format!("acks-{name}"));
            let acks = acks(&std::fs::read_to_string(file).unwrap_or_default());
            acknowledged += acks.len();
            told.push((name, acks));
        }
    });
    verify(&wd, &told);
    assert!(acknowledged > 100, "only {acknowledged} were acknowledged");
    eprintln!("killed writers: {acknowledged} acknowledgements held");
}

/// A writer was stopped (Ctrl-Z) while it led a sync for all: no other writer of the shard was acknowledged any more, nor
/// did any of them hear a signal.
#[test]
fn a_stopped_writer_keeps_nobody_from_the_disk() {
    let wd = Workdir::new();
    wd.sh("kshard create s -q").ok();
    for round in 0..5u64 {
        let mut stopped = wd.sh("exec kput s --sync every").spawn();
        for _ in 0..300 {
            stopped.type_in("x\n".repeat(20 + round as usize));
        }
        stopped.signal("STOP");
        let lines = wd.sh("printf '1\n2\n' | timeout 20 kput s --sync every --ack").ok();
        assert_eq!(lines.lines().len(), 2);
        stopped.kill();
    }
    wd.sh("kshard check s").ok();
}
