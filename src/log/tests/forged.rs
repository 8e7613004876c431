//! Bytes that somebody made up behind right checksums: nothing panics, nothing goes on for ever, no file is written over,
//! and what is good beside them is read.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::frame::control::encode_seal;
use super::super::frame::segment::SEGMENT_HEADER_BYTES;
use super::super::frame::{FrameHeader, HEADER_BYTES, Identity, Kind, crc32c};
use super::super::verify::{Depth, Event, verify};
use super::super::{copy, repair};
use super::*;
use crate::record::Attribute;

/// A frame and its stored bytes.
#[derive(Debug, Clone)]
struct Frame {
    header: FrameHeader,
    body: Vec<u8>,
}

const BASES: [u64; 3] = [0, 8, 16];

/// The frames of a segment.
fn frames(machine: &Machine, base: u64) -> (Vec<u8>, Vec<Frame>) {
    let bytes = machine.bytes(&segment_path(base));
    let (mut frames, mut at) = (Vec::new(), SEGMENT_HEADER_BYTES);
    while at < bytes.len() {
        let (header, _) = FrameHeader::decode(&bytes[at..], &Identity::new(LOG, base)).unwrap();
        let end = at + header.frame_bytes() as usize;
        frames.push(Frame { header, body: bytes[at + HEADER_BYTES..end].to_vec() });
        at = end;
    }
    (bytes[..SEGMENT_HEADER_BYTES].to_vec(), frames)
}

/// Puts a segment together again, every checksum right.
fn put(machine: &Machine, base: u64, (mut bytes, frames): (Vec<u8>, Vec<Frame>)) {
    for Frame { header, body } in frames {
        bytes.extend(header.encode(&Identity::new(LOG, base), crc32c(&body)));
        bytes.extend(body);
    }
    machine.put(&segment_path(base), &bytes);
}

/// Three segments of records of every shape: with keys, hashes, times, attributes, packed, joined, with provenance.
fn log_of_all_shapes(ended: bool) -> Machine {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    for first in [0, 8, 16] {
        if first > 0 {
            writer.roll().unwrap();
        }
        for (number, codec) in (first..).zip([Codec::None, Codec::Lz4, Codec::Zstd, Codec::None]) {
            let attributes = [Attribute { name: "a".into(), value: vec![1; 40] }];
            let mut batch = Batch::new((number % 2 == 0).then_some(b'\n'));
            for _ in 0..2 {
                batch.push(Fresh {
                    payload: &payload(number),
                    key: Some(b"a key"),
                    explicit_hash: Some(crate::hash::HashKey(7)),
                    timestamp_us: Some(9),
                    attributes: &attributes,
                });
            }
            let provenance = provenance("p", 1, number);
            writer.append(&[batch.draft(codec, Some(&provenance))]).unwrap();
        }
    }
    sync(&mut writer).unwrap();
    if ended {
        writer.end(&end()).unwrap();
    } else {
        writer.pause().unwrap();
    }
    machine
}

/// What is changed in a frame; the values are strange ones more often than not.
#[derive(Debug, Clone)]
enum Change {
    Kind(Kind),
    Codec(u8),
    Columns(u16),
    Count(u32),
    First(u64),
    Arrival(i64),
    Durable(u64),
    BodyBytes(u32),
    ProvenanceBytes(u16),
    PayloadOffset(u32),
    Seen(bool),
    Body(usize, u8),
    Cut(usize),
    Grow(usize, u8),
    Seal(u64, u64),
    Twice,
    Gone,
}

fn change() -> impl Strategy<Value = Change> {
    let small = || prop_oneof![0u32..70, Just(u32::MAX), Just(64 << 20), any::<u32>()];
    let index = || prop_oneof![0u64..40, Just(u64::MAX), Just(1 << 32), Just(u64::MAX - 3), any::<u64>()];
    let kind = prop::sample::select(vec![
        Kind::Records,
        Kind::Producers,
        Kind::Seal,
        Kind::Pause,
        Kind::End,
        Kind::Condemned,
        Kind::Gap,
    ]);
    prop_oneof![
        4 => kind.prop_map(Change::Kind),
        2 => (0u8..3).prop_map(Change::Codec),
        2 => any::<u16>().prop_map(|bits| Change::Columns(bits & 0x17f)),
        3 => small().prop_map(Change::Count),
        3 => index().prop_map(Change::First),
        1 => any::<i64>().prop_map(Change::Arrival),
        2 => index().prop_map(Change::Durable),
        3 => small().prop_map(Change::BodyBytes),
        2 => any::<u16>().prop_map(Change::ProvenanceBytes),
        3 => small().prop_map(Change::PayloadOffset),
        1 => any::<bool>().prop_map(Change::Seen),
        6 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Body(at, byte)),
        3 => any::<usize>().prop_map(Change::Cut),
        2 => (1usize..100, any::<u8>()).prop_map(|(more, byte)| Change::Grow(more, byte)),
        2 => (index(), index()).prop_map(|(count, base)| Change::Seal(count, base)),
        1 => Just(Change::Twice),
        1 => Just(Change::Gone),
    ]
}

impl Change {
    fn apply(&self, frames: &mut Vec<Frame>, at: usize) {
        let Frame { header, body } = &mut frames[at];
        match *self {
            Self::Kind(kind) => header.kind = kind,
            Self::Codec(codec) => header.codec = [Codec::None, Codec::Lz4, Codec::Zstd][usize::from(codec)],
            Self::Columns(columns) => header.columns = columns,
            Self::Count(count) => header.count = count,
            Self::First(first) => header.first = first,
            Self::Arrival(us) => header.arrival_us = us,
            Self::Durable(durable) => header.durable = durable,
            Self::BodyBytes(bytes) => header.body_bytes = bytes,
            Self::ProvenanceBytes(bytes) => header.provenance_bytes = bytes,
            Self::PayloadOffset(offset) => header.payload_offset = offset,
            Self::Seen(seen) => header.provenance_seen = seen,
            Self::Body(at, byte) => {
                let len = body.len().max(1);
                if let Some(old) = body.get_mut(at % len) {
                    *old = byte;
                }
            }
            Self::Cut(at) => body.truncate(at % (body.len() + 1)),
            Self::Grow(more, byte) => body.resize(body.len() + more, byte),
            Self::Seal(count, base) => (header.kind, *body) = (Kind::Seal, encode_seal(count, base)),
            Self::Twice => {
                let again = frames[at].clone();
                return frames.insert(at, again);
            }
            Self::Gone => return drop(frames.remove(at)),
        }
        let Frame { header, body } = &mut frames[at];
        header.stored_bytes = body.len() as u32;
    }
}

/// Reads to the end, the damage or an error; takes apart whatever can be taken apart.
fn read_anything(reader: &mut Reader) {
    for _ in 0..2000 {
        match reader.read() {
            Ok(Found::Frame(frame)) => {
                let _ = (frame.joined(b'\n'), frame.provenance());
                if let Ok(records) = frame.records() {
                    assert_eq!(records.iter().count(), frame.header.count as usize);
                    let bytes: usize = records.iter().map(|record| record.payload.len()).sum();
                    assert!(bytes <= frame.header.body_bytes as usize);
                }
            }
            Ok(Found::Damage(damage)) => assert!(damage.until > damage.offset, "{damage:?}"),
            Ok(Found::Missed(_)) => {}
            Ok(Found::Tail | Found::End(_)) | Err(_) => return,
        }
    }
    panic!("a reader does not get on");
}

fn files(machine: &Machine) -> BTreeMap<PathBuf, Vec<u8>> {
    let disk = machine.system().disk;
    let names = disk.list(Path::new("/s/log")).unwrap();
    let paths = names
        .into_iter()
        .filter(|name| name.split_once('.').is_some_and(|(_, end)| end == "seg"))
        .map(|name| Path::new("/s/log").join(name));
    paths.map(|path| (path.clone(), machine.bytes(&path))).collect()
}

/// All that reads and writes a log, one after the other, on what is there.
fn go_through(machine: &Machine) {
    let log = log_on(machine);
    read_anything(&mut reader(machine));
    for sought in [0, 3, 9, 23, u64::MAX] {
        let mut by_index = reader(machine);
        if by_index.seek_index(sought).is_ok() {
            read_anything(&mut by_index);
        }
    }
    let mut by_time = reader(machine);
    if by_time.seek_time(1_700_000_000_000_000).is_ok() {
        read_anything(&mut by_time);
    }
    let mut at_end = reader(machine);
    if at_end.seek_end().is_ok() {
        read_anything(&mut at_end);
    }
    let _ = super::super::at_rest(&log, HashRange::ALL);
    for depth in [Depth::Headers, Depth::All] {
        let mut found = 0;
        let _ = verify(&log, depth, &mut |event| {
            if let Event::Found(finding) = event {
                assert!(finding.until >= finding.offset, "{finding:?}");
                found += 1;
            }
        });
        assert!(found < 1000, "one change, and {found} findings");
    }
    if let Ok(Some(cut)) = copy::reach(&log, true).and_then(|reach| reach.cut(&log, true)) {
        for part in &cut.parts {
            let Ok(mut source) = copy::open_part(&log, part) else { continue };
            let to = LogId { shard: 3, ..LOG };
            let _ = copy::pass_on(&mut source, part, (LOG, to), Path::new("part"), &mut |_, _| Ok(()));
        }
    }
    let before = files(machine);
    for _ in 0..2 {
        if let Ok(mut writer) = open(machine, ONE) {
            let _ = writer.producers();
            let _ = append(&mut writer, 100..102);
            let _ = sync(&mut writer);
            let _ = writer.pause();
        }
    }
    let after = files(machine);
    for (path, bytes) in &before {
        let now = after.get(path).unwrap_or_else(|| panic!("{} is gone", path.display()));
        assert!(now.starts_with(bytes), "{} was written over", path.display());
    }
    let locks = machine.system().disk.locks(Path::new("/s/locks")).unwrap();
    let mut mended = 0;
    let _ = repair::repair(&log, &locks, Path::new("/s/kept"), false, &mut |_| mended += 1);
    assert!(mended < 1000, "one change, and {mended} are mended");
    read_anything(&mut reader(machine));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(300), failure_persistence: None, ..ProptestConfig::default() })]

    /// A few fields and bytes of a few frames say something else, and every checksum says that this is right.
    #[test]
    fn hostile_frames_do_no_harm(
        ended in any::<bool>(),
        changes in proptest::collection::vec((0usize..3, any::<usize>(), change()), 1..4),
    ) {
        let machine = log_of_all_shapes(ended);
        for (segment, at, change) in changes {
            let base = BASES[segment];
            let (head, mut frames) = frames(&machine, base);
            if frames.is_empty() {
                continue;
            }
            let at = at % frames.len();
            change.apply(&mut frames, at);
            // A header that contradicts itself is not believed, whatever its checksum says.
            let holds = |frame: &Frame| {
                let bytes = frame.header.encode(&Identity::new(LOG, base), crc32c(&frame.body));
                FrameHeader::decode(&bytes, &Identity::new(LOG, base)).is_ok()
            };
            let all = frames.iter().all(holds);
            put(&machine, base, (head, frames));
            if !all {
                break;
            }
        }
        go_through(&machine);
    }
}

/// A body that is not what its header says costs its frame and is named, and all else is read.
#[test]
fn a_body_that_does_not_parse_costs_one_frame() {
    for at in 1..4 {
        for (what, change) in [
            ("garbage", Change::Body(30, 0xee)),
            ("short", Change::Cut(60)),
            ("a wrong length", Change::BodyBytes(3)),
            ("another codec", Change::Codec((at % 3) as u8)),
        ] {
            let machine = log_of_all_shapes(false);
            let (head, mut frames) = frames(&machine, 8);
            let good = frames.iter().filter(|frame| frame.header.kind == Kind::Records).count();
            change.apply(&mut frames, at);
            put(&machine, 8, (head, frames));
            let (mut seen, mut named, mut reader) = (0, 0, reader(&machine));
            for _ in 0..100 {
                match reader.read().unwrap_or_else(|error| panic!("{what}, frame {at}: {error:?}")) {
                    Found::Frame(frame) => match frame.records() {
                        Ok(_) => seen += 1,
                        Err(_) => named += 1,
                    },
                    Found::Damage(_) => named += 1,
                    Found::Missed(_) => {}
                    Found::Tail | Found::End(_) => break,
                }
            }
            assert!(seen >= 3 * good - 1, "{what}, frame {at}: {seen} frames are read");
            assert!(seen == 3 * good || named > 0, "{what}, frame {at}: nothing is named");
        }
    }
}
