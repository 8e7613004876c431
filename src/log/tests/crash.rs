//! A fixed history, interrupted at every operation: by a power loss that leaves any part of what was not synced, and by
//! the death of the process.

use std::collections::BTreeMap;

use super::super::segments;
use super::*;
use crate::sys::sim::Faults;

/// What the interrupted process had said.
#[derive(Debug, Default)]
struct Said {
    /// Records 0.. up to here were handed to the log.
    tried: u64,
    /// Records 0.. up to here were acknowledged.
    acked: u64,
    /// The shard's end was acknowledged, or handed to the log.
    ended: bool,
    ending: bool,
}

/// Two writers that share a shard, roll, pause and come back, and in the end close it.
fn history(machine: &Machine, said: &mut Said) -> Result<(), Error> {
    create_log(&log_on(machine), 1_700_000_000_000_000, &[])?;
    for round in 0..3 {
        let (mut a, mut b) = (open(machine, TINY)?, open(machine, TINY)?);
        for step in 0..5 {
            for writer in [&mut a, &mut b] {
                let first = said.tried;
                said.tried += 6;
                let mut batches = [batch(first..first + 2), batch(first + 2..first + 6)];
                let who = provenance("p", 1, said.tried);
                let drafts: Vec<Draft<'_>> =
                    batches.iter_mut().map(|batch| batch.draft(Codec::None, Some(&who))).collect();
                writer.append(&drafts)?;
                if step % 2 == 0 {
                    sync(writer)?;
                    said.acked = said.tried;
                }
            }
        }
        a.pause()?;
        if round == 1 {
            b.roll()?;
        }
        if round < 2 {
            b.pause()?;
        } else {
            said.ending = true;
            b.end(&end())?;
            said.acked = said.tried;
            said.ended = true;
        }
    }
    Ok(())
}

/// Runs the history up to an operation. Returns what was said and what readers could see.
fn interrupted(machine: &Machine, at: u64) -> (Said, BTreeMap<u64, u64>) {
    machine.fail(Faults { stop_at: Some(at), ..Faults::default() });
    let mut said = Said::default();
    let _ = history(machine, &mut said);
    machine.resume();
    let disk = machine.system().disk;
    let there = disk.exists(Path::new("/s/log")) && !segments(&log_on(machine)).unwrap().is_empty();
    let seen = if there { read_all(machine).records } else { Vec::new() };
    (said, seen.iter().map(|got| (got.index, got.number)).collect())
}

/// Recovers, holds what is there against what was said, and goes on.
fn check(machine: &Machine, said: &Said, seen: &BTreeMap<u64, u64>, what: &str) {
    create_log(&log_on(machine), 1_700_000_000_000_000, &[]).unwrap();
    let opened = open(machine, TINY);
    let all = read_all(machine);
    let numbers = all.numbers();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "{what}: a prefix");
    let count = numbers.len() as u64;
    assert!((said.acked..=said.tried).contains(&count), "{what}: {count} of {said:?}");
    let mut writer = match opened {
        Ok(writer) => writer,
        Err(Error::Closed(children)) => {
            assert!(said.ending && all.ended && children == end(), "{what}");
            assert_eq!(count, said.tried, "{what}: an end says that all before it is there");
            return;
        }
        Err(error) => panic!("{what}: {error:?}"),
    };
    assert!(!said.ended, "{what}: a shard that has ended does not open again");
    // What is durable by the writer's word is what was recovered.
    assert!(writer.ticket().is_none(), "{what}");
    let last = append(&mut writer, said.tried..said.tried + 3).unwrap().first;
    for got in read_all(machine).records {
        let before = seen.get(&got.index);
        assert!(before.is_none_or(|number| *number == got.number), "{what}: index {} used twice", got.index);
    }
    assert!(
        last > seen.keys().next_back().copied().unwrap_or(0) || count == 0 || seen.len() as u64 <= count,
        "{what}"
    );
    sync(&mut writer).unwrap();
    machine.crash(last);
    let mut expected: Vec<u64> = numbers;
    expected.extend(said.tried..said.tried + 3);
    drop(open(machine, TINY).unwrap());
    assert_eq!(read_all(machine).numbers(), expected, "{what}");
}

fn operations() -> u64 {
    let machine = Machine::new();
    history(&machine, &mut Said::default()).unwrap();
    machine.operations().0
}

/// At every operation the power goes, and comes back with this or that part of what was not synced.
#[test]
fn power_loss_at_every_operation() {
    for at in 1..=operations() {
        for seed in 0..u64::from(cases(400) / 100) {
            let machine = Machine::new();
            let (said, seen) = interrupted(&machine, at);
            machine.crash(seed * 1000 + at);
            check(&machine, &said, &seen, &format!("operation {at}, seed {seed}"));
        }
    }
}

/// At every operation both writers die, perhaps inside a write; the machine stays up.
#[test]
fn death_at_every_operation() {
    for at in 1..=operations() {
        let machine = Machine::new();
        let (said, seen) = interrupted(&machine, at);
        check(&machine, &said, &seen, &format!("operation {at}"));
    }
}

/// One writer dies at some operation and the other does not: it goes on where the dead one left the log.
#[test]
fn the_other_writer_goes_on() {
    for after in 1..30 {
        let machine = machine();
        let (mut a, mut b) = (open(&machine, TINY).unwrap(), open(&machine, TINY).unwrap());
        append(&mut a, 0..4).unwrap();
        append(&mut b, 4..8).unwrap();
        let mut next = 8;
        machine.fail(Faults { stop_at: Some(machine.operations().0 + after), ..Faults::default() });
        while append(&mut a, next..next + 4).is_ok() {
            next += 4;
        }
        machine.resume();
        drop(a);
        append(&mut b, 100..103).unwrap();
        sync(&mut b).unwrap();
        machine.crash(after);
        drop(open(&machine, TINY).unwrap());
        let numbers = read_all(&machine).numbers();
        let (dead, alive) = numbers.split_at(numbers.len() - 3);
        assert_eq!(alive, [100, 101, 102]);
        assert!(dead.len() as u64 == next || dead.len() as u64 == next + 4, "{after}: {dead:?}");
    }
}

/// The recovery is interrupted too, at each of its operations, and then once more.
#[test]
fn power_loss_during_recovery() {
    for at in (1..=operations()).step_by(3) {
        for again in 1..10 {
            let machine = Machine::new();
            let (said, seen) = interrupted(&machine, at);
            machine.crash(at);
            for seed in 0..2 {
                let stop_at = Some(machine.operations().0 + again);
                machine.fail(Faults { stop_at, ..Faults::default() });
                let _ = create_log(&log_on(&machine), 1_700_000_000_000_000, &[]);
                let _ = open(&machine, TINY);
                machine.resume();
                machine.crash(again + 100 * seed);
            }
            check(&machine, &said, &seen, &format!("operation {at}, then {again}"));
        }
    }
}

/// A pause under an earlier boot, and records behind it that a power loss took without a trace: a reader had seen
/// them, so their indexes must not come again though the log looks as if it had been closed in order.
#[test]
fn a_pause_of_another_boot_is_no_clean_end() {
    for seed in 0..40 {
        let machine = machine();
        let mut writer = open(&machine, ONE).unwrap();
        append(&mut writer, 0..3).unwrap();
        sync(&mut writer).unwrap();
        writer.pause().unwrap();
        sync(&mut open(&machine, ONE).unwrap()).unwrap();
        let mut writer = open(&machine, ONE).unwrap();
        let seen = append(&mut writer, 3..6).unwrap().first;
        machine.crash(seed);
        let mut writer = open(&machine, ONE).unwrap();
        assert!(append(&mut writer, 6..9).unwrap().first > seen + 2);
    }
}

/// A roll got as far as its seal, and the power loss kept the seal but not the body in front of it. The seal must not
/// make damage of records that nobody acknowledged.
#[test]
fn a_seal_that_survived_what_it_seals() {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    append(&mut writer, 0..3).unwrap();
    sync(&mut writer).unwrap();
    let torn = append(&mut writer, 3..6).unwrap();
    assert_eq!(torn.first, 3);
    machine.fail(Faults { no_names: Some(".tmp"), ..Faults::default() });
    writer.roll().unwrap_err();
    let path = segment_path(0);
    let mut bytes = machine.bytes(&path);
    let end = bytes.len();
    // The last frame is the seal, 80 bytes; a byte of the body before it is lost.
    bytes[end - 85] ^= 0xff;
    machine.crash(0);
    machine.put(&path, &bytes);
    drop(open(&machine, ONE).unwrap());
    assert_eq!(read_all(&machine).numbers(), [0, 1, 2]);
}

/// A roll whose second half fails leaves a seal behind. What the same writer appends next goes behind it only by way
/// of a new segment, where others look.
#[test]
fn a_writer_does_not_append_behind_its_own_seal() {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    append(&mut writer, 0..3).unwrap();
    machine.fail(Faults { no_names: Some(".tmp"), ..Faults::default() });
    writer.roll().unwrap_err();
    append(&mut writer, 3..6).unwrap_err();
    machine.fail(Faults::default());
    append(&mut writer, 3..6).unwrap();
    assert_eq!(read_all(&machine).numbers(), [0, 1, 2, 3, 4, 5]);
    writer.end(&end()).unwrap();
    assert!(matches!(append(&mut writer, 6..7), Err(Error::Closed(_))));
}

/// Two writers that leave one after the other leave a clean end, and the next one does not recover.
#[test]
fn the_last_to_leave_says_so() {
    let machine = machine();
    let (mut a, mut b) = (open(&machine, ONE).unwrap(), open(&machine, ONE).unwrap());
    append(&mut a, 0..3).unwrap();
    append(&mut b, 3..6).unwrap();
    a.pause().unwrap();
    b.pause().unwrap();
    let mut writer = open(&machine, ONE).unwrap();
    assert_eq!(append(&mut writer, 6..7).unwrap().first, 6);
    assert_eq!(segments(&log_on(&machine)).unwrap().len(), 1);
}

/// The clock is set back by an hour: arrival times stand still until it has caught up.
#[test]
fn arrival_times_never_go_back() {
    let machine = machine();
    let mut writer = open(&machine, TINY).unwrap();
    for (number, clock) in [5_000, 1_000, 6_000, 2_000, 0, 7_000].into_iter().enumerate() {
        machine.set_clock(1_700_000_000_000_000 + clock * 1_000_000);
        append(&mut writer, number as u64 * 6..number as u64 * 6 + 6).unwrap();
        if number == 3 {
            drop(writer);
            writer = open(&machine, TINY).unwrap();
        }
    }
    assert_eq!(read_all(&machine).records.len(), 36);
}

/// A power loss took a frame and left those behind it, which were set aside. No seek finds its way to them, not by the
/// index that still knows them either.
#[test]
fn what_was_set_aside_is_not_found() {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    append(&mut writer, 0..3).unwrap();
    sync(&mut writer).unwrap();
    let whole = machine.bytes(&segment_path(0)).len();
    for first in (3..60).step_by(3) {
        append(&mut writer, first..first + 3).unwrap();
    }
    let mut bytes = machine.bytes(&segment_path(0));
    bytes[whole + 70] ^= 1;
    machine.crash(0);
    machine.put(&segment_path(0), &bytes);
    let mut writer = open(&machine, ONE).unwrap();
    append(&mut writer, 60..63).unwrap();
    for index in 3..60 {
        let mut reader = reader(&machine);
        reader.seek_index(index).unwrap();
        let all = read(&mut reader).unwrap();
        assert_eq!((all.numbers(), all.damage), (vec![60, 61, 62], vec![]), "from {index}");
    }
    assert_eq!(read_all(&machine).numbers(), [0, 1, 2, 60, 61, 62]);
}

/// Power is lost while segments expire. Once any of their names could come back without those behind them, and what
/// retention had taken was then called damage.
#[test]
fn a_power_loss_while_segments_expire_leaves_no_gap() {
    for seed in 0..40 {
        let machine = machine();
        let mut writer = open(&machine, TINY).unwrap();
        for first in (0..40).step_by(4) {
            append(&mut writer, first..first + 4).unwrap();
        }
        sync(&mut writer).unwrap();
        let stop_at = Some(machine.operations().0 + 1 + seed % 20);
        machine.fail(Faults { stop_at, ..Faults::default() });
        let _ = super::super::expire(&log_on(&machine), None, Some(3000));
        drop(writer);
        machine.crash(seed);
        let numbers = read_all(&machine).numbers();
        assert_eq!(numbers, (numbers[0]..40).collect::<Vec<_>>(), "seed {seed}");
    }
}
