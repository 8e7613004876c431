//! The promises of the log and of the pipes, held against real processes that are killed, starved of room and fed
//! damage.
//!
//! Each test is over in seconds. With `KPIPE_SOAK_MINUTES` (`make soak` sets it) each goes on for that long.

/// What is damaged is named, and what is good is read.
mod damage;
/// No room, or nothing that may be written.
mod disk;
/// Damage where a stream ends.
mod last;
/// Consumers that are killed.
mod readers;
/// Writers that are killed, many at once, while shards come and go.
mod writers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kpipe::record::SequenceNumber;

use crate::workdir::Workdir;

/// Repeats `round`, which is given its number: `usual` times, or for as long as a soak lasts. A usual run that finds
/// the machine busy does fewer, but never less than one.
fn rounds(name: &str, usual: u64, mut round: impl FnMut(u64)) {
    let minutes = std::env::var("KPIPE_SOAK_MINUTES").ok().and_then(|text| text.parse().ok());
    let soak = minutes.map(|minutes: u64| Duration::from_secs(60 * minutes));
    let (begun, mut done) = (Instant::now(), 0);
    while match soak {
        Some(soak) => done < usual || begun.elapsed() < soak,
        None => done == 0 || done < usual && begun.elapsed() < Duration::from_secs(10),
    } {
        round(done);
        done += 1;
    }
    eprintln!("{name}: {done} rounds in {:.1} s", begun.elapsed().as_secs_f64());
}

/// A record as it is stored: its sequence number and its line.
type Stored = (SequenceNumber, String);

/// All that is in a stream, in the order of a reader of all shards. No sequence number is there twice, and within each
/// shard they rise.
#[track_caller]
fn stored(wd: &Workdir, stream: &str) -> Vec<Stored> {
    let done = wd.sh(&format!("kget {stream} --template '{{seq}} {{payload}}\\n'")).ok().expect_stderr("");
    let records: Vec<Stored> = done
        .text()
        .lines()
        .map(|line| {
            let (sequence, line) = line.split_once(' ').expect("a sequence number and a line");
            (sequence.parse().expect("a sequence number"), line.to_owned())
        })
        .collect();
    let mut last = BTreeMap::new();
    for (sequence, line) in &records {
        let before = last.insert(sequence.shard, sequence.index);
        assert!(before < Some(sequence.index), "{line}: {sequence} does not rise");
    }
    records
}
