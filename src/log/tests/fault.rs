//! A disk that refuses: syncs that fail and then lie, no room, writes that stop half way.

use super::super::copy::reach;
use super::super::{expire, make_durable};
use super::*;
use crate::sys::sim::Faults;

fn failing_sync(machine: &Machine, which: u64) {
    machine.fail(Faults { sync_fails: Some(which), ..Faults::default() });
}

/// One writer's sync fails. The kernel takes the bytes for written and tells nobody else; still neither writer
/// acknowledges from that segment again, both go on in the next, and what had been acknowledged is there.
#[test]
fn a_failed_sync_condemns_for_everybody() {
    for b_asks_first in [false, true] {
        let machine = machine();
        let (mut a, mut b) = (open(&machine, ONE).unwrap(), open(&machine, ONE).unwrap());
        append(&mut a, 0..3).unwrap();
        sync(&mut a).unwrap();
        append(&mut a, 3..6).unwrap();
        append(&mut b, 6..9).unwrap();
        let late = b.full_ticket();
        failing_sync(&machine, 1);
        if b_asks_first {
            // A's wait has failed, and A has not yet come to say so.
            let ticket = a.ticket().unwrap();
            let failure = ticket.wait().unwrap_err();
            assert!(matches!(late.wait(), Err(Error::Condemned { .. })));
            assert!(matches!(a.condemn(&ticket, failure), Error::Condemned { source: Some(_), .. }));
        } else {
            assert!(matches!(sync(&mut a), Err(Error::Condemned { source: Some(_), .. })));
            assert!(matches!(late.wait(), Err(Error::Condemned { .. })));
        }
        // B finds that what it wrote has been given up before it writes more, and only once.
        assert!(matches!(append(&mut b, 9..12), Err(Error::Condemned { .. })));
        append(&mut b, 12..15).unwrap();
        append(&mut a, 15..18).unwrap();
        sync(&mut b).unwrap();
        sync(&mut a).unwrap();
        machine.crash(1);
        drop(open(&machine, ONE).unwrap());
        assert_eq!(read_all(&machine).numbers(), [0, 1, 2, 12, 13, 14, 15, 16, 17]);
    }
}

/// A writer that has nothing more to write asks for its ticket only after another has condemned the segment and gone
/// on: it must not be told that all is durable because the new segment is.
#[test]
fn given_up_is_not_durable() {
    let machine = machine();
    let (mut a, mut b) = (open(&machine, ONE).unwrap(), open(&machine, ONE).unwrap());
    append(&mut b, 0..3).unwrap();
    append(&mut a, 3..6).unwrap();
    failing_sync(&machine, 1);
    sync(&mut a).unwrap_err();
    assert!(matches!(sync(&mut b), Err(Error::Condemned { .. })));
    assert!(read_all(&machine).numbers().is_empty());
}

/// Every sync of a history fails once, those of rolls, recoveries and ends too. What was acknowledged is there, in
/// order, after a power loss.
#[test]
fn any_one_sync_may_fail() {
    for which in 1..40 {
        let machine = machine();
        failing_sync(&machine, which);
        let (mut acked, mut next) = (Vec::new(), 0);
        for round in 0..3 {
            let Ok(mut a) = open(&machine, TINY) else { continue };
            let Ok(mut b) = open(&machine, TINY) else { continue };
            for _ in 0..4 {
                let mut waiting: Vec<u64> = Vec::new();
                for writer in [&mut a, &mut b] {
                    if append(writer, next..next + 4).is_ok() {
                        waiting.extend(next..next + 4);
                    } else {
                        waiting.clear();
                    }
                    next += 4;
                }
                // Both must agree: each knows of its own records only.
                if sync(&mut a).is_ok() & sync(&mut b).is_ok() {
                    acked.extend(waiting);
                }
            }
            if round == 1 {
                let _ = a.pause();
                let _ = b.pause();
            }
        }
        machine.crash(which);
        drop(open(&machine, TINY).unwrap());
        let numbers = read_all(&machine).numbers();
        assert!(numbers.is_sorted(), "{which}");
        let lost: Vec<&u64> = acked.iter().filter(|number| !numbers.contains(number)).collect();
        assert!(lost.is_empty(), "sync {which}: acknowledged and lost {lost:?}");
    }
}

/// The mark of a condemned segment cannot be written: the shard stops for everybody and says so, until it can.
#[test]
fn without_a_mark_the_shard_stops() {
    let machine = machine();
    let (mut a, mut b) = (open(&machine, ONE).unwrap(), open(&machine, ONE).unwrap());
    append(&mut a, 0..3).unwrap();
    append(&mut b, 3..6).unwrap();
    machine.fail(Faults { sync_fails: Some(1), no_names: Some(".bad"), ..Faults::default() });
    let error = sync(&mut a).unwrap_err();
    assert!(error.to_string().contains("the shard stops"), "{error}");
    // B's own sync would succeed, and lie.
    assert!(b.ticket().unwrap().wait().is_err());
    append(&mut a, 6..9).unwrap_err();
    append(&mut b, 6..9).unwrap_err();
    assert!(open(&machine, ONE).is_err());
    machine.fail(Faults::default());
    let _ = append(&mut b, 6..9);
    append(&mut b, 9..12).unwrap();
    sync(&mut b).unwrap();
    assert_eq!(read_all(&machine).numbers().split_off(read_all(&machine).records.len() - 3), [9, 10, 11]);
}

/// The process that condemned a segment dies after the mark and before the frame. The next one does not go on there.
#[test]
fn a_mark_alone_condemns() {
    let machine = machine();
    let mut a = open(&machine, ONE).unwrap();
    append(&mut a, 0..3).unwrap();
    sync(&mut a).unwrap();
    append(&mut a, 3..6).unwrap();
    failing_sync(&machine, 1);
    a.ticket().unwrap().wait().unwrap_err();
    drop(a);
    let mut b = open(&machine, ONE).unwrap();
    append(&mut b, 6..9).unwrap();
    sync(&mut b).unwrap();
    machine.crash(3);
    drop(open(&machine, ONE).unwrap());
    assert_eq!(read_all(&machine).numbers(), [0, 1, 2, 6, 7, 8]);
}

/// A reader has read what a condemned segment then gave up. It cannot make it durable by reading on; what it read and
/// was kept is durable though the segment is condemned.
#[test]
fn a_reader_is_told_what_was_given_up() {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    append(&mut writer, 0..3).unwrap();
    sync(&mut writer).unwrap();
    let (mut early, mut late) = (reader(&machine), reader(&machine));
    read(&mut early).unwrap();
    append(&mut writer, 3..6).unwrap();
    read(&mut late).unwrap();
    failing_sync(&machine, 1);
    sync(&mut writer).unwrap_err();
    append(&mut writer, 6..9).unwrap();
    early.make_durable().unwrap();
    assert!(matches!(late.make_durable(), Err(Error::Condemned { .. })));
    assert_eq!(read(&mut late).unwrap().numbers(), [6, 7, 8]);
    assert!(matches!(late.make_durable(), Err(Error::Condemned { .. })));
    assert_eq!(late.durable(), 3);
    late.seek_index(3).unwrap();
    assert_eq!(read(&mut late).unwrap().numbers(), [6, 7, 8]);
    late.make_durable().unwrap();
    assert_eq!(read(&mut early).unwrap().numbers(), [6, 7, 8]);
    early.make_durable().unwrap();
}

/// It is a reader to whom the kernel tells that a sync failed, and nobody else is told: once the next sync of the writer,
/// or of one that came later, was believed.
#[test]
fn a_readers_failed_sync_condemns_too() {
    for killed in [false, true] {
        let machine = machine();
        let mut writer = open(&machine, ONE).unwrap();
        append(&mut writer, 0..3).unwrap();
        let mut reader = reader(&machine);
        reader.seek_start().unwrap();
        read(&mut reader).unwrap();
        failing_sync(&machine, 1);
        assert!(matches!(reader.make_durable(), Err(Error::Condemned { source: Some(_), .. })));
        if killed {
            drop(writer);
            writer = open(&machine, ONE).unwrap();
        } else {
            assert!(matches!(sync(&mut writer), Err(Error::Condemned { .. })));
        }
        append(&mut writer, 3..6).unwrap();
        sync(&mut writer).unwrap();
        machine.crash(5);
        drop(open(&machine, ONE).unwrap());
        assert_eq!(read_all(&machine).numbers(), [3, 4, 5]);
    }
}

/// The sync of a seal fails: the log goes on elsewhere than the seal says, and a check once called that damage.
#[test]
fn a_seal_whose_sync_failed_is_no_contradiction() {
    let machine = machine_with_a_seal_alone();
    failing_sync(&machine, 1);
    assert!(matches!(open(&machine, ONE), Err(Error::Condemned { .. })));
    append(&mut open(&machine, ONE).unwrap(), 3..6).unwrap();
    let mut damage = Vec::new();
    super::super::verify::verify(&log_on(&machine), super::super::verify::Depth::All, &mut |event| {
        if let super::super::verify::Event::Found(finding) = event {
            damage.push(finding);
        }
    })
    .unwrap();
    damage.retain(|finding| finding.flaw.severity() == super::super::verify::Severity::Damage);
    assert_eq!(damage, []);
    assert_eq!(read_all(&machine).numbers(), [0, 1, 2, 3, 4, 5]);
}

/// A log of three records whose writer died behind a seal that is on the disk, and before the next segment.
fn machine_with_a_seal_alone() -> Machine {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    append(&mut writer, 0..3).unwrap();
    let stop_at = Some(machine.operations().0 + 3);
    machine.fail(Faults { stop_at, ..Faults::default() });
    writer.roll().unwrap_err();
    assert!(machine.resume());
    drop(writer);
    machine
}

/// A writer waits for the disk in a shard that has ended meanwhile and whose sync failed: it was told that the shard is
/// closed, which says nothing of its records.
#[test]
fn a_wait_in_a_condemned_shard_that_ended_says_condemned() {
    let machine = machine();
    let (mut a, mut b) = (open(&machine, ONE).unwrap(), open(&machine, ONE).unwrap());
    append(&mut a, 0..3).unwrap();
    machine.fail(Faults { stop_at: Some(machine.operations().0 + 3), ..Faults::default() });
    b.end(&end()).unwrap_err();
    assert!(machine.resume());
    failing_sync(&machine, 1);
    // It reads the end back, and finds it whole.
    let _ = b.end(&end());
    assert!(matches!(sync(&mut a), Err(Error::Condemned { .. })));
}

/// A sync fails of a shard that has ended and of which all is on the disk. Once nobody got on from there: a reader was
/// told for ever that it was given up, and a merge that waited for it could not be finished.
#[test]
fn the_end_of_a_shard_is_read_back_from_the_device() {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    append(&mut writer, 0..3).unwrap();
    writer.end(&end()).unwrap();
    drop(writer);
    let mut late = reader(&machine);
    late.seek_start().unwrap();
    assert!(read(&mut late).unwrap().ended);
    failing_sync(&machine, 1);
    assert!(matches!(open(&machine, ONE), Err(Error::Closed(_))));
    assert!(machine.system().disk.exists(&segment_path(0).with_extension("bad")));
    super::super::make_durable(&log_on(&machine)).unwrap();
    late.make_durable().unwrap();
    let mut again = reader(&machine);
    assert!(read(&mut again).unwrap().ended);
    again.make_durable().unwrap();
    machine.crash(4);
    assert_eq!(read_all(&machine).numbers(), [0, 1, 2]);
    assert!(matches!(open(&machine, ONE), Err(Error::Closed(_))));
}

/// A reader that was parked makes durable what it had read before.
#[test]
fn a_parked_reader_makes_durable_what_it_read() {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    append(&mut writer, 0..3).unwrap();
    let mut reader = reader(&machine);
    read(&mut reader).unwrap();
    reader.park();
    reader.make_durable().unwrap();
    machine.crash(2);
    drop(open(&machine, ONE).unwrap());
    assert_eq!(read_all(&machine).numbers(), [0, 1, 2]);
}

/// The disk is full at every possible byte. No torn frame stands in the way, what was acknowledged is there, and when
/// there is room again the log goes on.
#[test]
fn a_full_disk_leaves_whole_frames() {
    for capacity in (400..4000).step_by(23) {
        let machine = machine();
        let mut writer = open(&machine, TINY).unwrap();
        machine.fail(Faults { capacity: Some(capacity), ..Faults::default() });
        let mut next = 0;
        while append(&mut writer, next..next + 4).is_ok() {
            next += 4;
            sync(&mut writer).unwrap();
        }
        assert!(append(&mut writer, next..next + 4).is_err());
        assert_eq!(read_all(&machine).numbers(), (0..next).collect::<Vec<_>>());
        writer.pause().unwrap_or(());
        machine.fail(Faults::default());
        let mut writer = open(&machine, TINY).unwrap();
        append(&mut writer, next..next + 4).unwrap();
        sync(&mut writer).unwrap();
        machine.crash(capacity);
        drop(open(&machine, TINY).unwrap());
        assert_eq!(read_all(&machine).numbers(), (0..next + 4).collect::<Vec<_>>());
    }
}

/// Retention makes room on a full disk.
#[test]
fn expiring_needs_no_room() {
    let machine = machine();
    let mut writer = open(&machine, TINY).unwrap();
    machine.fail(Faults { capacity: Some(9000), ..Faults::default() });
    let mut next = 0;
    while append(&mut writer, next..next + 4).is_ok() {
        next += 4;
    }
    assert!(expire(&log_on(&machine), None, Some(4000)).unwrap().0 > 0);
    // The disk gives the bytes back when nobody has the files open; the simulated one never does.
    machine.fail(Faults::default());
    append(&mut writer, next..next + 4).unwrap();
    assert_eq!(read_all(&machine).numbers().last(), Some(&(next + 3)));
}

/// A batch of two frames stops after any byte. Nothing of it is in the log; and if its first frame was whole for a
/// moment, a reader may have seen it, so its indexes do not come again.
#[test]
fn a_write_that_stops_half_way() {
    let (mut first, mut second) = (batch(3..5), batch(5..7));
    let whole = first.draft(Codec::None, None).frame_bytes();
    let both = whole + second.draft(Codec::None, None).frame_bytes();
    for after in 0..=both as usize {
        let machine = machine();
        let mut writer = open(&machine, ONE).unwrap();
        append(&mut writer, 0..3).unwrap();
        machine.fail(Faults { write_fails: Some((1, after)), ..Faults::default() });
        let drafts = [first.draft(Codec::None, None), second.draft(Codec::None, None)];
        assert!(matches!(writer.append(&drafts), Err(Error::Io { .. })));
        let at = append(&mut writer, 7..8).unwrap().first;
        assert_eq!(at == 3, (after as u64) < whole, "{after}");
        assert_eq!(read_all(&machine).numbers(), [0, 1, 2, 7]);
    }
}

/// A reader has half a frame in its buffer; the write fails, is cut off, and another frame takes its place. What the
/// reader held is not taken for damage.
#[test]
fn a_reader_forgets_what_was_cut_off() {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    append(&mut writer, 0..1).unwrap();
    sync(&mut writer).unwrap();
    let path = segment_path(0);
    let before = machine.bytes(&path);
    // The header of a frame of record 6, and half of its body.
    append(&mut writer, 4..7).unwrap();
    let half = machine.bytes(&path);
    let mut reader = reader(&machine);
    machine.put(&path, &half[..half.len() - 20]);
    assert_eq!(read(&mut reader).unwrap().numbers(), [0]);
    machine.put(&path, &before);
    drop(writer);
    let mut bytes = Vec::new();
    let donor = super::machine();
    let mut other = open(&donor, ONE).unwrap();
    for numbers in [0..1, 5..6, 9..10] {
        append(&mut other, numbers).unwrap();
        sync(&mut other).unwrap();
        bytes = donor.bytes(&path);
    }
    machine.put(&path, &bytes);
    let all = read(&mut reader).unwrap();
    assert_eq!((all.numbers(), all.damage), (vec![5, 9], vec![]));
}

/// The new segment's name cannot be made durable: nothing is acknowledged in it before it is.
#[test]
fn a_name_that_is_not_durable_takes_no_record() {
    for seed in 0..20 {
        let machine = machine();
        let (mut a, mut b) = (open(&machine, ONE).unwrap(), open(&machine, ONE).unwrap());
        append(&mut a, 0..3).unwrap();
        machine.fail(Faults { dir_sync_fails: Some(1), ..Faults::default() });
        a.roll().unwrap_err();
        drop(a);
        append(&mut b, 3..6).unwrap();
        sync(&mut b).unwrap();
        machine.crash(seed);
        drop(open(&machine, ONE).unwrap());
        assert_eq!(read_all(&machine).numbers(), [0, 1, 2, 3, 4, 5]);
    }
}

/// Between a failed sync and its consequences another writer appends what nothing is wrong with. It is kept, and counts
/// as durable because a segment follows: so it has to be on the disk before that.
#[test]
fn what_is_kept_of_a_condemned_segment_is_on_the_disk() {
    for seed in 0..20 {
        let machine = machine();
        let (mut a, mut b) = (open(&machine, ONE).unwrap(), open(&machine, ONE).unwrap());
        append(&mut a, 0..3).unwrap();
        sync(&mut a).unwrap();
        // B has not waited for anything yet, so it cannot take A's word for all of it.
        let ticket = b.full_ticket();
        failing_sync(&machine, 1);
        let failure = ticket.wait().unwrap_err();
        append(&mut b, 3..6).unwrap();
        b.condemn(&ticket, failure);
        append(&mut b, 6..9).unwrap();
        sync(&mut b).unwrap();
        machine.crash(seed);
        drop(open(&machine, ONE).unwrap());
        assert_eq!(read_all(&machine).numbers(), (0..9).collect::<Vec<_>>());
    }
}

/// A reader, a copy, or whoever ends a shard finds that a sync fails, and no writer is there to say so. Each left no mark;
/// the next process opened the file anew, was told of no failure, and acknowledged what was not on the disk.
#[test]
fn whoever_finds_a_failed_sync_says_so() {
    type Sync = fn(&Machine) -> Result<(), Error>;
    let syncs: [Sync; 3] = [
        |machine| {
            let mut reader = reader(machine);
            read(&mut reader).unwrap();
            reader.make_durable()
        },
        |machine| make_durable(&log_on(machine)),
        |machine| reach(&log_on(machine), true)?.cut(&log_on(machine), true).map(drop),
    ];
    for (which, sync_it) in syncs.iter().enumerate() {
        let machine = machine();
        let mut writer = open(&machine, ONE).unwrap();
        append(&mut writer, 0..3).unwrap();
        sync(&mut writer).unwrap();
        append(&mut writer, 3..6).unwrap();
        failing_sync(&machine, 1);
        assert!(matches!(sync_it(&machine), Err(Error::Condemned { source: Some(_), .. })), "{which}");
        assert!(matches!(sync_it(&machine), Err(Error::Condemned { source: None, .. })), "{which}");
        assert!(matches!(sync(&mut writer), Err(Error::Condemned { .. })), "{which}");
        append(&mut writer, 6..9).unwrap();
        sync(&mut writer).unwrap();
        machine.crash(4);
        drop(open(&machine, ONE).unwrap());
        assert_eq!(read_all(&machine).numbers(), [0, 1, 2, 6, 7, 8], "{which}");
    }
}

/// A process is killed between a sync that fails and the mark that says so. The next one must not take what memory shows
/// for what the disk has: it reads it back first.
#[test]
fn a_failed_sync_that_nobody_has_told_of() {
    for last in ["records", "seal", "end"] {
        let machine = machine();
        let mut writer = open(&machine, ONE).unwrap();
        append(&mut writer, 0..3).unwrap();
        sync(&mut writer).unwrap();
        append(&mut writer, 3..6).unwrap();
        let fails = if last == "end" { 2 } else { 1 };
        machine.fail(Faults { sync_fails: Some(fails), no_names: Some(".bad"), ..Faults::default() });
        match last {
            "records" => drop(writer.ticket().unwrap().segment.file.sync_data().unwrap_err()),
            "seal" => drop(writer.roll().unwrap_err()),
            _ => drop(writer.end(&end()).unwrap_err()),
        }
        machine.fail(Faults::default());
        // Nor did it come to the frame.
        let path = segment_path(0);
        let len = machine.bytes(&path).len() as u64;
        if last != "records" {
            machine.system().disk.open_writable(&path).unwrap().set_len(len - 64).unwrap();
        }
        drop(writer);
        match open(&machine, ONE) {
            Ok(mut writer) => {
                append(&mut writer, 6..9).unwrap();
                sync(&mut writer).unwrap();
            }
            Err(error) => panic!("{last}: {error:?}"),
        }
        let shown = read_all(&machine).numbers();
        let kept = if last == "end" { 6 } else { 3 };
        assert_eq!(shown, (0..kept).chain(6..9).collect::<Vec<_>>(), "{last}");
        machine.crash(5);
        drop(open(&machine, ONE).unwrap());
        assert_eq!(read_all(&machine).numbers(), shown, "{last}");
    }
}

/// Of more cursors than there may be open files some are parked. One that came back went to its place past the end of a
/// condemned segment, into the next, and answered that records were durable which had been given up.
#[test]
fn a_parked_reader_is_told_what_was_given_up() {
    type Wake = fn(&mut Reader);
    let wakes: [Wake; 3] =
        [|_| {}, |reader| assert!(reader.peek_arrival().is_ok()), |reader| drop(read(reader).unwrap())];
    for expired in [false, true] {
        for wake in wakes {
            let machine = machine();
            let mut writer = open(&machine, ONE).unwrap();
            append(&mut writer, 0..3).unwrap();
            sync(&mut writer).unwrap();
            append(&mut writer, 3..6).unwrap();
            let mut reader = reader(&machine);
            read(&mut reader).unwrap();
            reader.park();
            failing_sync(&machine, 1);
            sync(&mut writer).unwrap_err();
            append(&mut writer, 6..9).unwrap();
            sync(&mut writer).unwrap();
            if expired {
                expire(&log_on(&machine), None, Some(1)).unwrap();
            }
            wake(&mut reader);
            for _ in 0..2 {
                assert!(matches!(reader.make_durable(), Err(Error::Condemned { .. })));
                reader.park();
            }
            reader.seek_index(3).unwrap();
            assert_eq!(read(&mut reader).unwrap().numbers(), [6, 7, 8]);
            reader.make_durable().unwrap();
        }
    }
}

/// Power is lost while retention removes segments. Any of several names that went at once could come back, and what lay
/// between two of them was damage to a reader.
#[test]
fn a_power_loss_during_expiry_leaves_no_hole() {
    let log = || {
        let machine = machine();
        let mut writer = open(&machine, TINY).unwrap();
        for first in (0..60).step_by(3) {
            append(&mut writer, first..first + 3).unwrap();
        }
        sync(&mut writer).unwrap();
        writer.pause().unwrap();
        machine
    };
    for seed in 0..60 {
        let machine = log();
        machine.fail(Faults { stop_at: Some(machine.operations().0 + 1 + seed % 20), ..Faults::default() });
        let _ = expire(&log_on(&machine), None, Some(1));
        machine.crash(seed);
        let numbers = read_all(&machine).numbers();
        let first = *numbers.first().unwrap();
        assert_eq!(numbers, (first..60).collect::<Vec<_>>(), "{seed}");
        let mut early = reader(&machine);
        early.seek_index(0).unwrap();
        let got = read(&mut early).unwrap();
        assert_eq!((got.numbers(), got.damage), (numbers, vec![]), "{seed}");
    }
}
