//! Bytes with right checksums that no writer of ours would write, and names that no segment of ours has: nothing is lost
//! to them, and nobody stops for ever.

use std::sync::Arc;

use super::super::frame::control::encode_seal;
use super::super::frame::{FrameHeader, Identity, Kind, crc32c};
use super::super::repair::repair;
use super::super::segment::{BASE_MAX, list};
use super::*;
use crate::sys::Locks;

/// Puts a frame behind all that is in a segment.
fn forge(machine: &Machine, base: u64, header: FrameHeader, stored: &[u8]) {
    let path = segment_path(base);
    let header = FrameHeader { stored_bytes: stored.len() as u32, ..header };
    let frame = header.encode(&Identity::new(LOG, base), crc32c(stored));
    machine.put(&path, &[&machine.bytes(&path)[..], &frame, stored].concat());
}

/// Records 0 to 5, closed in order, in one segment and, if `rolled`, a second one behind it.
fn log_of_six(rolled: bool) -> Machine {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    append(&mut writer, 0..3).unwrap();
    if rolled {
        writer.roll().unwrap();
    }
    append(&mut writer, 3..6).unwrap();
    sync(&mut writer).unwrap();
    writer.pause().unwrap();
    machine
}

fn mend(machine: &Machine) {
    let locks: Arc<dyn Locks> = machine.system().disk.locks(Path::new("/s/locks")).unwrap();
    let left = repair(&log_on(machine), &locks, Path::new("/s/rejects"), false, &mut |_| {}).unwrap();
    assert_eq!(left, []);
}

/// A seal said that the log goes on at index 0, and the next writer put an empty segment in the place of the first.
#[test]
fn a_seal_leads_nowhere_but_forward() {
    for next in [0, 3, 7, u64::MAX] {
        let machine = log_of_six(true);
        let first = machine.bytes(&segment_path(0));
        let header = FrameHeader { body_bytes: 16, ..FrameHeader::of(Kind::Seal, 6, i64::MAX, 6) };
        forge(&machine, 3, header, &encode_seal(3, next));
        let opened = open(&machine, ONE).map(drop);
        assert!(matches!(opened, Err(Error::Damaged { .. })), "{next}: {opened:?}");
        assert_eq!(machine.bytes(&segment_path(0)), first);
        assert_eq!(list(&log_on(&machine)).unwrap(), [0, 3]);
        // A repair takes it out of the way.
        mend(&machine);
        let mut writer = open(&machine, ONE).unwrap();
        append(&mut writer, 6..9).unwrap();
        assert_eq!(read_all(&machine).numbers(), (0..9).collect::<Vec<_>>());
    }
}

/// A segment never takes the place of another, whatever led there.
#[test]
fn a_new_segment_replaces_none() {
    use super::super::segment::{Segment, next_header};
    let machine = log_of_six(true);
    let log = log_on(&machine);
    for base in [0, 3, BASE_MAX + 1] {
        assert!(Segment::create(&log, next_header(&log, base, 0, None), &[]).is_err());
    }
    assert_eq!(read_all(&machine).numbers(), (0..6).collect::<Vec<_>>());
}

/// Bodies whose checksums hold and that do not unpack, or are not what their headers say: a reader was stopped by them
/// for ever, and a repair found nothing to mend. They are damage; what is behind them is read.
#[test]
fn a_body_that_makes_no_sense_is_damage() {
    let records = FrameHeader { count: 5, body_bytes: 20, ..FrameHeader::of(Kind::Records, 6, 1 << 60, 6) };
    let cases = [
        (FrameHeader { codec: Codec::Lz4, columns: 3, ..records }, vec![0xff; 20]),
        (FrameHeader { codec: Codec::Zstd, columns: 3, ..records }, vec![0; 9]),
        (FrameHeader { columns: 3, payload_offset: 4, ..records }, vec![1; 20]),
        (FrameHeader { columns: 0x43, payload_offset: 20, ..records }, vec![0xff; 20]),
    ];
    for (header, stored) in cases {
        let machine = log_of_six(false);
        forge(&machine, 0, header, &stored);
        let mut reader = reader(&machine);
        let got = read(&mut reader).unwrap();
        assert_eq!(got.numbers(), (0..6).collect::<Vec<_>>());
        assert_eq!(got.damage.iter().map(|(.., next)| *next).collect::<Vec<_>>(), [11], "{header:?}");
        let mut writer = open(&machine, ONE).unwrap();
        append(&mut writer, 100..103).unwrap();
        sync(&mut writer).unwrap();
        writer.pause().unwrap();
        assert_eq!(read(&mut reader).unwrap().numbers(), [100, 101, 102]);
        mend(&machine);
        let got = read_all(&machine);
        assert_eq!(got.numbers(), [0, 1, 2, 3, 4, 5, 100, 101, 102]);
        assert_eq!(got.missed, [Missed { from: 6, to: 11, repaired: true }]);
    }
}

/// The end of the shard makes no sense: it once stopped every reader.
#[test]
fn an_end_that_makes_no_sense_is_damage() {
    let machine = log_of_six(false);
    let header = FrameHeader { body_bytes: 4, ..FrameHeader::of(Kind::End, 6, 1 << 60, 6) };
    forge(&machine, 0, header, &[0xff; 4]);
    let got = read(&mut reader(&machine)).unwrap();
    assert_eq!((got.numbers().len(), got.damage.len(), got.ended), (6, 1, false));
}

/// A body that is shorter than its header says, under a right checksum, made a reader slice behind its end.
#[test]
fn a_header_fits_its_body() {
    let header = FrameHeader {
        count: 1,
        columns: 0x103,
        joint: b'\n',
        body_bytes: 1000,
        payload_offset: 500,
        ..FrameHeader::of(Kind::Records, 6, 1 << 60, 6)
    };
    let machine = log_of_six(false);
    forge(&machine, 0, header, &[0; 4]);
    assert_eq!(read_all(&machine).numbers(), (0..6).collect::<Vec<_>>());
}

/// A file of garbage under a name above all indexes was given a header by a repair, its reserve wrapped around, and the
/// next two writers gave one sequence number twice. Names that cannot be are none, and a file that nothing leads to is
/// put aside.
#[test]
fn a_name_out_of_nowhere_is_no_segment() {
    for (base, ours) in
        [(u64::MAX, false), (BASE_MAX + 1, false), (BASE_MAX, true), (1 << 50, true), (4, true)]
    {
        let machine = log_of_six(false);
        machine.put(&segment_path(base), b"garbage");
        assert_eq!(list(&log_on(&machine)).unwrap().len(), 1 + usize::from(ours), "{base}");
        mend(&machine);
        assert_eq!(list(&log_on(&machine)).unwrap(), [0], "{base}");
        assert!(
            !ours
                || machine
                    .system()
                    .disk
                    .exists(&Path::new("/s/rejects").join(segment_path(base).file_name().unwrap()))
        );
        for numbers in [6..9, 9..12] {
            let mut writer = open(&machine, ONE).unwrap();
            append(&mut writer, numbers).unwrap();
            sync(&mut writer).unwrap();
            writer.pause().unwrap();
        }
        assert_eq!(read_all(&machine).numbers(), (0..12).collect::<Vec<_>>());
    }
}
