//! The log's promises, held against a simulated machine. Segments are tiny here, so that what is rare is near.

mod copy;
mod corrupt;
mod crash;
mod fault;
mod forged;
mod hostile;
mod lying;
mod model;
mod producers;
mod repair;

use std::path::{Path, PathBuf};

use super::{
    Appended, Batch, Child, Codec, Draft, EndOfShard, Error, Found, Fresh, LogDir, LogId, Missed, Reader,
    Roll, Writer, create_log,
};
use crate::hash::HashRange;
use crate::record::{Provenance, ShardId};
use crate::sys::sim::Machine;

pub(super) const LOG: LogId = LogId { stream: [9; 16], shard: 2 };
/// Segments of a few frames each.
pub(super) const TINY: Roll = Roll { bytes: 2000, age_us: i64::MAX };
/// Everything in one segment.
pub(super) const ONE: Roll = Roll { bytes: u64::MAX, age_us: i64::MAX };

pub(super) fn log_on(machine: &Machine) -> LogDir {
    LogDir { system: machine.system(), dir: PathBuf::from("/s/log"), id: LOG, shard_created_s: 1_700_000_000 }
}

/// A machine with an empty log.
pub(super) fn machine() -> Machine {
    let machine = Machine::new();
    create_log(&log_on(&machine), 1_700_000_000_000_000, &[]).unwrap();
    machine
}

/// A writer of a process of its own.
pub(super) fn open(machine: &Machine, roll: Roll) -> Result<Writer, Error> {
    let locks = machine.system().disk.locks(Path::new("/s/locks")).unwrap();
    Writer::open(log_on(machine), locks, roll, HashRange::ALL)
}

pub(super) fn reader(machine: &Machine) -> Reader {
    Reader::new(log_on(machine))
}

/// The record that a number stands for: its size follows from the number too.
pub(super) fn payload(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + (number as usize * 37) % 190, number as u8);
    bytes
}

/// A batch of the records with these numbers.
pub(super) fn batch(numbers: std::ops::Range<u64>) -> Batch {
    let mut batch = Batch::new(None);
    for number in numbers {
        batch.push(Fresh { payload: &payload(number), ..Fresh::default() });
    }
    batch
}

/// Appends the records with these numbers as one frame.
pub(super) fn append(writer: &mut Writer, numbers: std::ops::Range<u64>) -> Result<Appended, Error> {
    writer.append(&[batch(numbers).draft(Codec::None, None)])
}

/// Waits until what the writer has written is on the disk, as every caller does it.
pub(super) fn sync(writer: &mut Writer) -> Result<(), Error> {
    if let Some(ticket) = writer.ticket() {
        if let Err(error) = ticket.wait() {
            return Err(writer.condemn(&ticket, error));
        }
        writer.synced(&ticket);
    }
    Ok(())
}

/// A record as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) index: u64,
    pub(super) number: u64,
    pub(super) arrival_us: i64,
}

/// All that a reader finds up to the tail or the end.
#[derive(Debug, Default)]
pub(super) struct All {
    pub(super) records: Vec<Got>,
    pub(super) missed: Vec<Missed>,
    /// Segment, offset and the first index behind each damage.
    pub(super) damage: Vec<(PathBuf, u64, u64)>,
    pub(super) ended: bool,
}

impl All {
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.records.iter().map(|got| got.number).collect()
    }
}

pub(super) fn read(reader: &mut Reader) -> Result<All, Error> {
    let mut all = All::default();
    // More turns than any log of these tests has frames: a reader that does not get on is found.
    for _ in 0..20_000 {
        match reader.read()? {
            Found::Frame(frame) => {
                for (record, index) in frame.records()?.iter().zip(frame.header.first..) {
                    let number = u64::from_le_bytes(record.payload[..8].try_into().unwrap());
                    assert_eq!(record.payload, payload(number));
                    all.records.push(Got { index, number, arrival_us: frame.header.arrival_us });
                }
            }
            Found::Tail => return Ok(all),
            Found::End(_) => {
                all.ended = true;
                return Ok(all);
            }
            Found::Damage(damage) => {
                assert!(damage.until > damage.offset, "{damage:?}");
                all.damage.push((damage.path, damage.offset, damage.next));
            }
            Found::Missed(missed) => all.missed.push(missed),
        }
    }
    panic!("a reader does not get on");
}

/// All there is, from the first record that is left; there must be no damage.
pub(super) fn read_all(machine: &Machine) -> All {
    let all = read(&mut reader(machine)).unwrap();
    assert_eq!(all.damage, [], "{all:?}");
    let rising = |pair: &[Got]| pair[0].index < pair[1].index && pair[0].arrival_us <= pair[1].arrival_us;
    assert!(all.records.windows(2).all(rising), "indexes rise, and arrival times do not fall: {all:?}");
    all
}

pub(super) fn end() -> EndOfShard {
    EndOfShard {
        children: vec![Child { shard: ShardId(7), range: HashRange::ALL }],
        parents: vec![ShardId(2)],
    }
}

pub(super) fn provenance(producer: &str, epoch: u64, ordinal: u64) -> Provenance {
    Provenance { producer: producer.to_owned(), epoch, ordinal, position: ordinal.to_le_bytes().to_vec() }
}

/// How many cases a test with random cases tries; `KPIPE_CASES` raises it for a soak.
pub(super) fn cases(usual: u32) -> u32 {
    std::env::var("KPIPE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The path of the segment that begins at `base`.
pub(super) fn segment_path(base: u64) -> PathBuf {
    Path::new("/s/log").join(super::segment::segment_name(base))
}
