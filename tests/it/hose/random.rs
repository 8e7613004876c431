//! `kill -9` at any moment, in a loop, while a producer writes and shards come and go.

use std::fmt::Write as _;
use std::time::Duration;

use super::killed::KINDS;
use super::lake::{Place, records};
use crate::producer::{Dice, rounds};
use crate::workdir::Workdir;

/// Splits a shard, or merges two, if there are two that fit.
fn reshard(wd: &Workdir, dice: &mut Dice) {
    let open = wd.sh("kshard list s --filter at-latest -o json").ok();
    let open: serde_json::Value = serde_json::from_slice(&open.stdout).expect("JSON");
    let open = open["Shards"].as_array().expect("shards");
    let one = |dice: &mut Dice| {
        open[dice.throw(open.len() as u64) as usize]["ShardId"].as_str().expect("a name").to_owned()
    };
    let command = match dice.throw(2) {
        0 if open.len() < 6 => format!("kshard split s {}", one(dice)),
        // Two that are no neighbours are refused: as well.
        _ => format!("kshard merge s {} {}", one(dice), one(dice)),
    };
    let _ = wd.sh(&command).done();
}

/// Kills deliveries to this place at random, and looks whether all is there once.
pub(super) fn killed_at_random(place: &Place, seed: u64, usual: u32) {
    let mut dice = Dice::new(seed);
    let wd = Workdir::new();
    wd.sh("kshard create -q s --shards 2 --segment-size 64KiB").ok();
    let (mut written, mut killed) = (0, 0);
    let rounds = rounds(usual);
    let (kind, format) = KINDS[dice.throw(4) as usize];
    for round in 0..rounds {
        let mut producer = wd.sh("exec kput -q s --sync 4KiB,5ms").spawn();
        let options = match dice.throw(3) {
            0 => "--buffer-size 8KiB",
            1 => "-f --buffer-interval 30ms --buffer-size 1MiB",
            _ => "-f --buffer-interval 200ms --buffer-size 8KiB --partitions-max 2",
        };
        let delivery = place.khose(&wd, "s", &format!("{format} {options}")).spawn();
        for _ in 0..dice.throw(6) {
            let count = dice.throw(200);
            producer.type_in(records(written, written + count));
            written += count;
            std::thread::sleep(Duration::from_millis(dice.throw(80)));
            if dice.throw(4) == 0 {
                reshard(&wd, &mut dice);
            }
        }
        std::thread::sleep(Duration::from_millis(dice.throw(150)));
        let done = delivery.kill();
        assert!(
            matches!(done.status, 0 | 1 | 137),
            "{kind}, round {round}: {}: {}",
            done.status,
            done.stderr
        );
        killed += u32::from(done.status == 137);
        producer.end_input();
        let _ = producer.wait().expect_status(0);
    }
    let mut what = String::new();
    let _ = write!(what, "{kind} by {seed}: {killed} of {rounds} killed, {written} records");
    let done = place.khose(&wd, "s", format).done();
    assert!(matches!(done.status, 0 | 1), "{what}: {}: {}", done.status, done.stderr);
    let found = place.found();
    let input = wd.sh("kget s").ok();
    assert_eq!(input.lines().len() as u64, written);
    found.expect_once(&what, input.text());
    found.expect_settled(&what);
    let verified = place.khose(&wd, "s", &format!("{format} --verify")).done();
    assert_eq!(verified.status, 0, "{what}: {}{}", verified.text(), verified.stderr);
    eprintln!("{what}: {} objects", found.objects.len());
}

#[test]
fn runs_killed_at_random_while_the_stream_changes() {
    for seed in 1..=3 {
        let wd = Workdir::new();
        killed_at_random(&Place::dir(&wd, "lake"), seed, 8);
    }
}
