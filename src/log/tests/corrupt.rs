//! Bytes that change on the disk: what is lost is named, and nothing else is.

use super::super::copy::reach;
use super::super::frame::segment::SEGMENT_HEADER_BYTES;
use super::super::frame::{HEADER_BYTES, Kind, crc32c};
use super::super::verify::{Depth, Event, Flaw, verify};
use super::lying::{Lying, flip, frames};
use super::*;

/// Records 0 to 11 in two segments of three frames each, all of it synced, closed in order.
fn small() -> Machine {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    for first in [0, 2, 4] {
        append(&mut writer, first..first + 2).unwrap();
    }
    writer.roll().unwrap();
    for first in [6, 8, 10] {
        append(&mut writer, first..first + 2).unwrap();
    }
    sync(&mut writer).unwrap();
    writer.pause().unwrap();
    let last = segment_path(6);
    machine.put(&last, &machine.bytes(&last));
    machine.crash(0);
    machine
}

/// The numbers in a frame are its indexes in these logs, but for what was appended after a recovery.
fn without(frame: &Lying) -> Vec<u64> {
    let lost = frame.header.first..frame.header.end();
    (0..12).filter(|number| frame.header.kind != Kind::Records || !lost.contains(number)).collect()
}

/// A segment that is gone from between two others was not taken by retention: it is named, from wherever one comes.
#[test]
fn a_segment_that_is_gone_from_the_middle_is_damage() {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    for first in [0, 2, 4, 6] {
        append(&mut writer, first..first + 2).unwrap();
        writer.roll().unwrap();
    }
    sync(&mut writer).unwrap();
    let disk = &machine.system().disk;
    let mut early = reader(&machine);
    early.seek_start().unwrap();
    disk.remove(&segment_path(4)).unwrap();
    let gone = (segment_path(4), 0, 6);
    let got = read(&mut early).unwrap();
    assert_eq!((got.numbers(), got.damage, got.missed), (vec![0, 1, 2, 3, 6, 7], vec![gone.clone()], vec![]));
    for wanted in [4, 5] {
        let mut reader = reader(&machine);
        reader.seek_index(wanted).unwrap();
        let got = read(&mut reader).unwrap();
        assert_eq!((got.numbers(), got.damage, got.missed), (vec![6, 7], vec![gone.clone()], vec![]));
    }
    // Behind it nothing is said.
    let mut late = reader(&machine);
    late.seek_index(6).unwrap();
    let got = read(&mut late).unwrap();
    assert_eq!((got.numbers(), got.damage, got.missed), (vec![6, 7], vec![], vec![]));
    // Retention takes the oldest first.
    for base in [0, 2] {
        disk.remove(&segment_path(base)).unwrap();
    }
    let mut overtaken = reader(&machine);
    overtaken.seek_index(1).unwrap();
    let got = read(&mut overtaken).unwrap();
    let missed = Missed { from: 1, to: 6, repaired: false };
    assert_eq!((got.numbers(), got.damage, got.missed), (vec![6, 7], vec![], vec![missed]));
}

/// Every bit of two small segments, one after the other: all records but those of the frame that was hit are read, and
/// the damage has a segment and an offset. A writer that opens the log then drops nothing either.
#[test]
fn every_flipped_bit_is_named_and_costs_one_frame() {
    let machine = small();
    let all: Vec<Lying> = [0, 6].into_iter().flat_map(|base| frames(&machine, base)).collect();
    for frame in &all {
        for bit in frame.bytes.start * 8..frame.bytes.end * 8 {
            flip(&machine, &frame.path, bit);
            let got = read(&mut reader(&machine)).unwrap();
            let what = format!("bit {bit} of {:?}", frame.header);
            assert_eq!(got.numbers(), without(frame), "{what}");
            // The pause at the end says that all before it was durable; that it is gone itself nobody can tell.
            if frame.base == 0 || frame.header.kind != Kind::Pause {
                // Pauses and seals are understood by their headers; what they say does not matter to a reader.
                let body = matches!(frame.header.kind, Kind::Pause | Kind::Seal)
                    && bit / 8 >= frame.bytes.start + 60;
                let named = (frame.path.clone(), frame.bytes.start as u64, frame.header.end());
                assert!(body || got.damage.first() == Some(&named), "{what}: {:?}", got.damage);
            }
            flip(&machine, &frame.path, bit);
        }
    }
    for frame in &all {
        for bit in (frame.bytes.start * 8..frame.bytes.end * 8).step_by(41) {
            let machine = small();
            flip(&machine, &frame.path, bit);
            let mut writer = open(&machine, ONE).unwrap();
            append(&mut writer, 100..102).unwrap();
            sync(&mut writer).unwrap();
            let mut expected = without(frame);
            expected.extend([100, 101]);
            let got = read(&mut reader(&machine)).unwrap();
            assert_eq!(got.numbers(), expected, "bit {bit} of {:?}", frame.header);
        }
    }
}

/// The same for the segments' own headers: their frames do not need them. That holds for the version too, which was
/// once believed whatever the checksum said.
#[test]
fn a_damaged_segment_header_costs_no_record() {
    let machine = small();
    for base in [0, 6] {
        for bit in 0..SEGMENT_HEADER_BYTES * 8 {
            let path = segment_path(base);
            flip(&machine, &path, bit);
            let got = read(&mut reader(&machine)).unwrap();
            assert_eq!(got.numbers(), (0..12).collect::<Vec<_>>(), "bit {bit}");
            assert!(got.damage.contains(&(path.clone(), 0, base)), "bit {bit}: {:?}", got.damage);
            let mut sought = reader(&machine);
            sought.seek_index(8).unwrap();
            assert_eq!(read(&mut sought).unwrap().numbers(), [8, 9, 10, 11]);
            if base == 6 {
                // What is reserved cannot be known: nothing is appended.
                let opened = open(&machine, ONE).map(drop);
                assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
            }
            flip(&machine, &path, bit);
        }
    }
}

/// Frames that were written before the first sync do not know of each other that they are durable; the one behind the
/// sync does. Damage in the first must not be taken for a torn tail because the second says nothing.
#[test]
fn damage_is_seen_past_frames_that_know_nothing() {
    for crashed in [false, true] {
        let machine = machine();
        let mut writer = open(&machine, ONE).unwrap();
        for first in [0, 2, 4] {
            append(&mut writer, first..first + 2).unwrap();
        }
        sync(&mut writer).unwrap();
        append(&mut writer, 6..8).unwrap();
        sync(&mut writer).unwrap();
        drop(writer);
        if crashed {
            machine.crash(1);
        }
        // The first frame of records stands behind the pause that the log was created with.
        let hit = frames(&machine, 0)[1].clone();
        flip(&machine, &hit.path, hit.bytes.start * 8 + 100);
        drop(open(&machine, ONE).unwrap());
        let got = read(&mut reader(&machine)).unwrap();
        assert_eq!(got.numbers(), [2, 3, 4, 5, 6, 7]);
        assert_eq!(got.damage, [(hit.path, hit.bytes.start as u64, 2)]);
    }
}

/// A check and a copy asked only the first whole frame behind the damage whether it knew of it: one called it an
/// unfinished tail, the other left out all behind it in silence.
#[test]
fn a_check_and_a_copy_look_past_frames_that_know_nothing() {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    for first in [0, 2, 4] {
        append(&mut writer, first..first + 2).unwrap();
    }
    sync(&mut writer).unwrap();
    append(&mut writer, 6..8).unwrap();
    sync(&mut writer).unwrap();
    let hit = frames(&machine, 0)[1].clone();
    flip(&machine, &hit.path, hit.bytes.start * 8 + 100);
    let mut found = Vec::new();
    verify(&log_on(&machine), Depth::All, &mut |event| {
        if let Event::Found(finding) = event {
            found.push((finding.flaw, finding.offset, finding.lost.map(|lost| lost.first..lost.next)));
        }
    })
    .unwrap();
    assert_eq!(found, [(Flaw::Stretch("frames do not hold"), hit.bytes.start as u64, Some(0..2))]);
    let log = log_on(&machine);
    let cut = reach(&log, true).and_then(|reach| reach.cut(&log, true)).map(drop);
    assert!(matches!(cut, Err(Error::Damaged { offset, .. }) if offset == hit.bytes.start as u64), "{cut:?}");
}

/// Behind a segment that is gone, or whose header does not hold, nobody says where the one before it ends. It is followed
/// by others all the same: the good records behind damage in it are read, and its end is no unfinished tail.
#[test]
fn all_of_a_segment_counts_that_is_followed() {
    for gone in [false, true] {
        for hit in 0..4 {
            let machine = machine();
            let mut writer = open(&machine, ONE).unwrap();
            for first in (0..24).step_by(2) {
                append(&mut writer, first..first + 2).unwrap();
                if first % 6 == 4 {
                    writer.roll().unwrap();
                }
            }
            sync(&mut writer).unwrap();
            let hit = frames(&machine, 0)[hit].clone();
            if gone {
                machine.system().disk.remove(&segment_path(6)).unwrap();
            } else {
                flip(&machine, &segment_path(6), 500);
            }
            flip(&machine, &hit.path, hit.bytes.start * 8 + 100);
            let lost =
                if hit.header.kind == Kind::Records { hit.header.first..hit.header.end() } else { 0..0 };
            let got = read(&mut reader(&machine)).unwrap();
            let left = |n: &u64| !(lost.contains(n) || gone && (6..12).contains(n));
            assert_eq!(got.numbers(), (0..24).filter(left).collect::<Vec<_>>());
            assert_eq!(got.damage[0].1, hit.bytes.start as u64);
            let mut found = Vec::new();
            verify(&log_on(&machine), Depth::All, &mut |event| {
                if let Event::Found(finding) = event {
                    found.push((finding.path, finding.offset, finding.flaw));
                }
            })
            .unwrap();
            let stretch = found.iter().find(|(path, ..)| *path == hit.path).unwrap();
            assert!(matches!(stretch.2, Flaw::Stretch(_)), "{found:?}");
            assert!(
                found.iter().all(|(.., flaw)| !matches!(flaw, Flaw::Contradiction(_) | Flaw::Tail)),
                "{found:?}"
            );
        }
    }
}

/// Pages of zeros, and a sealed segment that has lost its end.
#[test]
fn zeros_and_missing_ends_are_damage() {
    let machine = machine();
    let mut writer = open(&machine, TINY).unwrap();
    for first in (0..60).step_by(3) {
        append(&mut writer, first..first + 3).unwrap();
    }
    sync(&mut writer).unwrap();
    writer.pause().unwrap();
    let path = segment_path(0);
    let whole = machine.bytes(&path);
    let frames = frames(&machine, 0);
    let good = |hit: &dyn Fn(&Lying) -> bool| -> Vec<u64> {
        let lost: Vec<&Lying> = frames.iter().filter(|frame| hit(frame)).collect();
        (0..60).filter(|n| !lost.iter().any(|f| (f.header.first..f.header.end()).contains(n))).collect()
    };
    for page in (SEGMENT_HEADER_BYTES..whole.len()).step_by(64) {
        let zeros = page..(page + 512).min(whole.len());
        let mut bytes = whole.clone();
        bytes[zeros.clone()].fill(0);
        machine.put(&path, &bytes);
        let got = read(&mut reader(&machine)).unwrap();
        let overlap = |f: &Lying| f.bytes.start < zeros.end && zeros.start < f.bytes.end;
        assert_eq!(got.numbers(), good(&overlap), "zeros at {zeros:?}");
        assert!(!got.damage.is_empty());
        machine.put(&path, &whole[..page]);
        let got = read(&mut reader(&machine)).unwrap();
        assert_eq!(got.numbers(), good(&|frame| frame.bytes.end > page), "cut at {page}");
        assert!(!got.damage.is_empty());
    }
}

/// Index files that are gone, short, empty, of garbage, of zeros, or of another segment: every seek gives the same.
#[test]
fn indexes_are_never_evidence() {
    let machine = machine();
    let mut writer = open(&machine, Roll { bytes: 6000, age_us: i64::MAX }).unwrap();
    for first in (0..160).step_by(2) {
        machine.set_clock(1_700_000_000_000_000 + first as i64);
        append(&mut writer, first..first + 2).unwrap();
    }
    sync(&mut writer).unwrap();
    let disk = machine.system().disk;
    let names: Vec<PathBuf> = disk
        .list(Path::new("/s/log"))
        .unwrap()
        .into_iter()
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "idx"))
        .map(|name| Path::new("/s/log").join(name))
        .collect();
    assert!(names.len() > 2);
    let originals: Vec<Vec<u8>> = names.iter().map(|name| machine.bytes(name)).collect();
    assert!(originals[0].len() >= 96);
    let check = |what: &str| {
        for number in [0, 1, 2, 31, 76, 77, 120, 158, 159] {
            let mut by_index = reader(&machine);
            by_index.seek_index(number).unwrap();
            assert_eq!(
                read(&mut by_index).unwrap().numbers(),
                (number & !1..160).collect::<Vec<_>>(),
                "{what}"
            );
            let mut by_time = reader(&machine);
            by_time.seek_time(1_700_000_000_000_000 + number as i64).unwrap();
            assert_eq!(
                read(&mut by_time).unwrap().numbers()[..],
                (0..160).collect::<Vec<_>>()[number.next_multiple_of(2) as usize..],
                "{what}"
            );
        }
        drop(open(&machine, ONE).unwrap());
    };
    check("as written");
    type Spoil = fn(&[u8], &[u8]) -> Vec<u8>;
    let spoils: [(&str, Spoil); 6] = [
        ("empty", |_, _| Vec::new()),
        ("short", |own, _| own[..40].to_vec()),
        ("garbage", |own, _| own.iter().map(|byte| byte ^ 0x5a).collect()),
        ("zeros", |own, _| vec![0; own.len() * 2]),
        ("another's", |_, other| other.to_vec()),
        ("a hole", |own, _| [&own[..32], &[0; 32], &own[64..]].concat()),
    ];
    for (what, spoil) in spoils {
        for (i, name) in names.iter().enumerate() {
            machine.put(name, &spoil(&originals[i], &originals[(i + 1) % names.len()]));
        }
        check(what);
    }
    for name in &names {
        disk.remove(name).unwrap();
    }
    check("gone");
}

/// A segment of another stream or shard under the right name is refused, by readers and writers.
#[test]
fn segments_of_strangers_are_refused() {
    for id in [LogId { shard: 3, ..LOG }, LogId { stream: [1; 16], ..LOG }] {
        let machine = small();
        let other = Machine::new();
        create_log(&LogDir { id, ..log_on(&other) }, 0, &[]).unwrap();
        machine.put(&segment_path(6), &other.bytes(&segment_path(0)));
        assert!(matches!(open(&machine, ONE), Err(Error::Foreign { .. } | Error::Damaged { .. })));
        machine.put(&segment_path(0), &other.bytes(&segment_path(0)));
        assert!(matches!(read(&mut reader(&machine)), Err(Error::Foreign { .. })));
    }
}

/// A frame that a disk wrote to a wrong place of the same segment carries a right checksum and a wrong index.
#[test]
fn a_frame_at_the_wrong_place_is_not_accepted() {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    for number in [1, 1 + 190, 1 + 380, 1 + 570] {
        append(&mut writer, number..number + 1).unwrap();
    }
    sync(&mut writer).unwrap();
    let path = segment_path(0);
    let whole = machine.bytes(&path);
    let frames = frames(&machine, 0);
    let len = frames[1].bytes.len();
    let numbers = [1, 191, 381, 571];
    writer.pause().unwrap();
    let whole = [&whole[..], &machine.bytes(&path)[whole.len()..]].concat();
    for from in 1..5 {
        for to in frames[1].bytes.start..=frames[4].bytes.start {
            if to == frames[from].bytes.start {
                continue;
            }
            let mut bytes = whole.clone();
            bytes.copy_within(frames[from].bytes.clone(), to);
            machine.put(&path, &bytes);
            let got = read(&mut reader(&machine)).unwrap();
            let hit = |f: &Lying| f.bytes.start < to + len && to < f.bytes.end;
            let good: Vec<u64> =
                numbers.iter().zip(&frames[1..]).filter(|(_, frame)| !hit(frame)).map(|(n, _)| *n).collect();
            assert!(!got.damage.is_empty(), "{from} to {to}");
            // The copy of a frame that was itself overwritten is all there is of it: then it may count.
            let kept: Vec<u64> = got.numbers().into_iter().filter(|n| good.contains(n)).collect();
            assert_eq!(kept, good, "{from} to {to}");
            assert!(got.numbers().is_sorted_by(|a, b| a < b), "{from} to {to}");
        }
    }
    // Behind the end it is not even a torn tail that a reader stops for.
    let copied = [&whole[..], &whole[frames[2].bytes.clone()]].concat();
    machine.put(&path, &copied);
    assert_eq!(read_all(&machine).numbers(), numbers);
}

/// What a later program wrote stops readers and writers, and they touch nothing.
#[test]
fn newer_things_stop_everybody() {
    let resealed = |bytes: &mut [u8], base: u64| {
        let mut covered = LOG.stream.to_vec();
        covered.extend(LOG.shard.to_le_bytes());
        covered.extend(base.to_le_bytes());
        covered.extend(&bytes[..56]);
        let before = u32::from_le_bytes(bytes[56..60].try_into().unwrap());
        let sum = crc32c(&covered);
        let body = u32::from_le_bytes(bytes[60..64].try_into().unwrap()) ^ before ^ sum;
        bytes[56..60].copy_from_slice(&sum.to_le_bytes());
        bytes[60..64].copy_from_slice(&body.to_le_bytes());
    };
    // A kind, a codec, a column, and a key.
    for (at, value) in [(4, 9), (5, 7), (7, 0x80), (52, 1)] {
        let machine = small();
        let frame = frames(&machine, 6)[1].clone();
        let mut bytes = machine.bytes(&frame.path);
        bytes[frame.bytes.start + at] = value;
        resealed(&mut bytes[frame.bytes.start..frame.bytes.start + HEADER_BYTES], 6);
        machine.put(&frame.path, &bytes);
        let names = machine.system().disk.list(Path::new("/s/log")).unwrap();
        assert!(matches!(read(&mut reader(&machine)), Err(Error::Newer { .. })));
        assert!(matches!(open(&machine, ONE), Err(Error::Newer { .. })));
        assert_eq!(machine.bytes(&frame.path), bytes);
        assert_eq!(machine.system().disk.list(Path::new("/s/log")).unwrap(), names);
    }
}
