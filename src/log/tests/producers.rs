//! Where producers stand: atomic with their batches, and found again whatever becomes of the segments.

use super::super::{Claim, expire, segments};
use super::*;
use crate::log::ProducerState;
use crate::sys::sim::Faults;

fn produce(writer: &mut Writer, who: &Provenance, numbers: std::ops::Range<u64>) -> Result<Appended, Error> {
    writer.append(&[batch(numbers).draft(Codec::None, Some(who))])
}

/// Where a producer stands by the log: epoch and ordinal.
fn place(writer: &mut Writer, producer: &str) -> Option<(u64, u64)> {
    let states = writer.producers().unwrap();
    let mut own = states.iter().filter(|state| state.last.producer == producer);
    let place = own.next().map(|state| (state.last.epoch, state.last.ordinal));
    assert!(own.next().is_none());
    place
}

/// A second run claims the name: the first, in another process and with the segment open, is refused from then on.
#[test]
fn a_claim_fences_the_earlier_run() {
    let machine = machine();
    let (mut first, mut second) = (open(&machine, TINY).unwrap(), open(&machine, TINY).unwrap());
    assert_eq!(first.claim("nginx", 1).unwrap(), Claim::Taken(vec![]));
    produce(&mut first, &provenance("nginx", 1, 3), 0..3).unwrap();
    assert_eq!(second.claim("nginx", 1).unwrap(), Claim::Later(1));
    let Claim::Taken(before) = second.claim("nginx", 2).unwrap() else { panic!("nobody else claims") };
    assert_eq!((before[0].last.epoch, before[0].last.ordinal), (1, 3));
    let refused = produce(&mut first, &provenance("nginx", 1, 6), 3..6);
    assert!(matches!(refused, Err(Error::Fenced { epoch: 1, later: 2, .. })));
    produce(&mut first, &provenance("other", 1, 1), 6..7).unwrap();
    produce(&mut second, &provenance("nginx", 2, 6), 3..6).unwrap();
    assert_eq!(read_all(&machine).numbers(), [0, 1, 2, 6, 3, 4, 5]);
}

/// A producer wrote once. Then come rolls, deaths, power losses and retention, until no segment is left that held its
/// batch; where it stands is still known, and so is who is fenced.
#[test]
fn a_place_survives_its_batch() {
    let machine = machine();
    let mut writer = open(&machine, TINY).unwrap();
    writer.claim("once", 1).unwrap();
    produce(&mut writer, &provenance("once", 1, 42), 0..3).unwrap();
    writer.claim("fenced", 7).unwrap();
    sync(&mut writer).unwrap();
    for round in 1..12 {
        for step in 0..3 {
            let first = round * 100 + step * 10;
            append(&mut writer, first..first + 8).unwrap();
        }
        sync(&mut writer).unwrap();
        match round % 4 {
            0 => writer.roll().unwrap(),
            1 => drop(writer),
            2 => {
                drop(writer);
                machine.crash(round);
            }
            _ => {
                append(&mut writer, first_of(round)..first_of(round) + 1).unwrap();
                machine.fail(Faults { sync_fails: Some(1), ..Faults::default() });
                sync(&mut writer).unwrap_err();
            }
        }
        writer = open(&machine, TINY).unwrap();
        expire(&log_on(&machine), None, Some(2500)).unwrap();
        assert_eq!(place(&mut writer, "once"), Some((1, 42)), "round {round}");
        assert_eq!(place(&mut writer, "fenced"), Some((7, 0)), "round {round}");
    }
    assert!(segments(&log_on(&machine)).unwrap()[0].base > 3);
    assert!(matches!(produce(&mut writer, &provenance("fenced", 6, 1), 0..1), Err(Error::Fenced { .. })));
}

fn first_of(round: u64) -> u64 {
    round * 100 + 50
}

/// After a power loss a producer stands exactly where the last batch says that was kept.
#[test]
fn a_place_is_atomic_with_its_batch() {
    for seed in 0..60 {
        let machine = machine();
        let mut writer = open(&machine, TINY).unwrap();
        for ordinal in 1..14 {
            produce(&mut writer, &provenance("p", 1, ordinal * 2), (ordinal - 1) * 2..ordinal * 2).unwrap();
            if ordinal == seed % 13 {
                sync(&mut writer).unwrap();
            }
        }
        drop(writer);
        machine.crash(seed);
        let mut writer = open(&machine, TINY).unwrap();
        let kept = read_all(&machine).records.len() as u64;
        assert_eq!(place(&mut writer, "p").map_or(0, |(_, ordinal)| ordinal), kept, "seed {seed}");
    }
}

/// The frame that tells of a producer is damaged: nobody guesses where the producer stands.
#[test]
fn a_damaged_place_is_named() {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    produce(&mut writer, &provenance("p", 1, 3), 0..3).unwrap();
    sync(&mut writer).unwrap();
    append(&mut writer, 3..6).unwrap();
    sync(&mut writer).unwrap();
    drop(writer);
    let path = segment_path(0);
    let mut bytes = machine.bytes(&path);
    let name = bytes.windows(3).position(|three| three == [1, 0, b'p']).unwrap();
    // The lowest byte of the ordinal.
    bytes[name + 11] ^= 1;
    machine.put(&path, &bytes);
    assert!(matches!(open(&machine, ONE), Err(Error::Damaged { .. })));
}

/// Parents hand on where producers stand when a shard is created.
#[test]
fn a_child_begins_with_its_parents_producers() {
    let machine = Machine::new();
    let parent = super::machine();
    let mut writer = open(&parent, ONE).unwrap();
    produce(&mut writer, &provenance("p", 3, 5), 0..5).unwrap();
    let states = writer.producers().unwrap();
    create_log(&log_on(&machine), 0, &states).unwrap();
    let mut child = open(&machine, ONE).unwrap();
    assert_eq!(place(&mut child, "p"), Some((3, 5)));
    assert!(matches!(produce(&mut child, &provenance("p", 2, 9), 0..1), Err(Error::Fenced { .. })));
}

/// The parents of a merged shard stood differently, and a batch of a later run comes behind one and not the other. What
/// each part knows is the same whether it is followed, read again, or carried through rolls and crashes.
#[test]
fn a_batch_leaves_what_another_parent_had_more() {
    let machine = Machine::new();
    let halves = HashRange::split_evenly(2);
    let state = |range, ordinal| ProducerState { range, last: provenance("p", 1, ordinal), arrival_us: 0 };
    create_log(&log_on(&machine), 0, &[state(halves[0], 0), state(halves[1], 40)]).unwrap();
    let mut watcher = open(&machine, TINY).unwrap();
    let mut writer = open(&machine, TINY).unwrap();
    let places = |writer: &mut Writer| {
        let mut places: Vec<_> = writer
            .producers()
            .unwrap()
            .iter()
            .map(|state| (state.range.start, state.last.epoch, state.last.ordinal))
            .collect();
        places.sort_unstable();
        places
    };
    assert_eq!(places(&mut watcher).len(), 2);
    let Claim::Taken(before) = writer.claim("p", 2).unwrap() else { panic!("nobody else claims") };
    assert_eq!(before.len(), 2);
    for round in 0..6 {
        let ordinal = 3 + round;
        produce(&mut writer, &provenance("p", 2, ordinal), ordinal..ordinal + 1).unwrap();
        sync(&mut writer).unwrap();
        let expected = [(halves[0].start, 2, ordinal), (halves[1].start, 2, 40)];
        assert_eq!(places(&mut writer), expected);
        assert_eq!(places(&mut watcher), expected);
        match round % 3 {
            0 => writer.roll().unwrap(),
            1 => drop(std::mem::replace(&mut writer, open(&machine, TINY).unwrap())),
            _ => {
                machine.crash(round);
                writer = open(&machine, TINY).unwrap();
                watcher = open(&machine, TINY).unwrap();
            }
        }
        assert_eq!(places(&mut open(&machine, TINY).unwrap()), expected);
    }
    produce(&mut writer, &provenance("p", 2, 41), 41..42).unwrap();
    assert_eq!(places(&mut writer), [(halves[0].start, 2, 41)], "one again");
}
