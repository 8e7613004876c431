//! How much there is and how fast it comes: read off segment headers where they tell, sampled where they do not.

use std::collections::BTreeMap;

use super::Stream;
use super::consumer::Consumer;
use super::cursor::{Place, ShardCursor, Step};
use super::error::{Error, InShard};
use super::manifest::ShardInfo;
use crate::hash::HashKey;
use crate::log::{self, LogDir, Reader};
use crate::record::ShardId;

/// The service bills what is put in units of this many bytes of a record.
pub const PUT_PAYLOAD_UNIT_BYTES: u64 = 25 << 10;

/// The records of one segment, as its neighbours tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The index of its first record.
    pub first: u64,
    /// The index after its last.
    pub end: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// When it was created, microseconds since the epoch.
    pub created_us: i64,
}

/// The segments of a log, oldest first. The last one's end is what a look at the tail finds.
pub fn extents(log: &LogDir) -> Result<Vec<Extent>, log::Error> {
    let infos = log::segments(log)?;
    let mut reader = Reader::new(log.clone());
    reader.seek_end()?;
    let tail = reader.next_index();
    let end = |i: usize| {
        let next = infos.get(i + 1);
        // What a crash left has a gap behind it; the header of the next segment says where it begins.
        next.map_or(tail, |next| next.predecessor.map_or(next.base, |before| before.end.min(next.base)))
    };
    Ok(infos
        .iter()
        .enumerate()
        .map(|(i, info)| Extent {
            first: info.base,
            end: end(i).max(info.base),
            bytes: info.bytes,
            created_us: info.created_us,
        })
        .collect())
}

/// Counted records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Records.
    pub records: u64,
    /// Bytes of their data.
    pub payload_bytes: u64,
    /// Bytes of their data and keys: what the limits of a shard are about.
    pub bytes: u64,
    /// Units of 25 KiB, each record rounded up: what the service bills.
    pub put_payload_units: u64,
}

/// One shard's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardStats {
    /// The shard.
    pub shard: ShardId,
    /// Whether it takes records.
    pub open: bool,
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Records that are there, those included that have expired and are not yet removed.
    pub records: u64,
    /// When the oldest of them arrived, microseconds since the epoch.
    pub oldest_us: Option<i64>,
    /// When the newest arrived.
    pub newest_us: Option<i64>,
    /// What arrived since the time asked for.
    pub since: Count,
    /// Microseconds for which the shard was open since then.
    pub open_us: i64,
    /// Damage stepped over while counting.
    pub damages: u64,
}

/// What named consumers have read. A plain reader leaves no trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Consumers.
    pub consumers: u64,
    /// Consumers whose places cannot be read.
    pub unreadable: u64,
    /// Records that they have committed.
    pub records: u64,
    /// Bytes of the data of these records.
    pub bytes: u64,
}

impl Stream {
    /// Sums what named consumers have committed since each was made, or began anew.
    pub fn outgoing(&self) -> Result<Outgoing, Error> {
        let mut sum = Outgoing::default();
        for name in Consumer::list(self)? {
            sum.consumers += 1;
            let Ok(state) = Consumer::open(self, &name).and_then(|consumer| consumer.state()) else {
                sum.unreadable += 1;
                continue;
            };
            for shard in state.shards.values() {
                sum.records += shard.records;
                sum.bytes += shard.bytes;
            }
        }
        Ok(sum)
    }

    /// Counts what is there, and reads what arrived since `since_us` to count it exactly.
    pub fn stats(&self, shard: &ShardInfo, since_us: i64) -> Result<ShardStats, Error> {
        let now_us = self.system.clock.now_us();
        let log = self.log_dir(shard);
        let extents = extents(&log).in_shard(shard.id())?;
        let records = extents.iter().map(|extent| extent.end - extent.first).sum();
        let mut newest_us = None;
        let mut reader = Reader::new(log.clone());
        let mut oldest_us = None;
        if records > 0 {
            // What stands before the first records is no record.
            reader.seek_time(i64::MIN).in_shard(shard.id())?;
            oldest_us = reader.peek_arrival().in_shard(shard.id())?;
            // Not the tail's own time: the segment that a recovery began without a record is younger than all records.
            let last = extents.iter().rev().find(|extent| extent.end > extent.first);
            if let Some(last) = last {
                reader.seek_index(last.end - 1).in_shard(shard.id())?;
                newest_us = reader.peek_arrival().in_shard(shard.id())?;
            }
        }
        let (mut since, mut damages) = (Count::default(), 0);
        let mut cursor = ShardCursor::open(self, shard, Place::Time(since_us))?;
        loop {
            let counted = cursor.step(&mut |frame, skip| {
                let batch = frame.records()?;
                let mut count = Count::default();
                for record in batch.iter().skip(skip) {
                    count.add(record.payload.len() as u64, record.key.map_or(0, str::len) as u64);
                }
                Ok::<_, log::Error>(count)
            })?;
            match counted {
                Step::Frame(count) => since.merge(count.in_shard(shard.id())?),
                Step::Tail | Step::End(_) => break,
                Step::Damage(_) => damages += 1,
                Step::Missed(_) => {}
            }
        }
        let begun_us = shard.created_us.max(since_us);
        let ended_us = shard.closed.as_ref().map_or(now_us, |closed| closed.at_us);
        Ok(ShardStats {
            shard: shard.id(),
            open: shard.is_open(),
            segments: extents.len() as u64,
            stored_bytes: extents.iter().map(|extent| extent.bytes).sum(),
            records,
            oldest_us,
            newest_us,
            since,
            open_us: (ended_us - begun_us).max(0),
            damages,
        })
    }

    /// The load on a shard since `since_us`, from a sample.
    pub fn load(&self, shard: &ShardInfo, since_us: i64) -> Result<Load, Error> {
        let id = shard.id();
        let log = self.log_dir(shard);
        let mut reader = Reader::new(log.clone());
        reader.seek_time(since_us).in_shard(id)?;
        let from = reader.next_index();
        drop(reader);
        // The stretches of indexes that hold what arrived since; between them lie those that a crash took.
        let mut stretches: Vec<(u64, u64)> = extents(&log)
            .in_shard(id)?
            .iter()
            .map(|extent| (extent.first.max(from), extent.end))
            .filter(|(first, end)| first < end)
            .collect();
        stretches.sort_unstable();
        let records: u64 = stretches.iter().map(|(first, end)| end - first).sum();
        let mut sample = Sample::default();
        if records <= SAMPLE_RECORDS_MAX {
            sample.read(self, shard, Place::Index(from), u64::MAX)?;
        } else {
            for n in 0..SAMPLE_PLACES {
                let mut left = records / SAMPLE_PLACES * n;
                let at = stretches.iter().find_map(|(first, end)| {
                    if left < end - first {
                        Some(first + left)
                    } else {
                        left -= end - first;
                        None
                    }
                });
                let Some(at) = at else { break };
                sample.read(self, shard, Place::Index(at), SAMPLE_RECORDS_MAX / SAMPLE_PLACES)?;
            }
        }
        let scale = if sample.records == 0 { 0.0 } else { records as f64 / sample.records as f64 };
        Ok(Load {
            shard: id,
            records,
            bytes: (sample.bytes as f64 * scale) as u64,
            keys: sample.keys,
            unkeyed: sample.unkeyed,
            window_us: (self.system.clock.now_us() - since_us.max(shard.created_us)).max(1),
        })
    }
}

/// As many records are read of a shard, at most, to learn its keys.
const SAMPLE_RECORDS_MAX: u64 = 65_536;
/// In as many places.
const SAMPLE_PLACES: u64 = 16;

/// How much a shard has to bear, and which keys bring it.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// The shard.
    pub shard: ShardId,
    /// Records that arrived in the window.
    pub records: u64,
    /// Bytes of their data and keys.
    pub bytes: u64,
    /// Hash keys of the sample, each with its records and bytes in the sample.
    pub keys: BTreeMap<HashKey, (u64, u64)>,
    /// Records and bytes of the sample that have no key, and could be in any shard.
    pub unkeyed: (u64, u64),
    /// How long the window is for this shard, microseconds: it may be younger than what was asked for.
    pub window_us: i64,
}

impl Load {
    /// Records a second.
    pub fn records_s(&self) -> f64 {
        self.records as f64 / (self.window_us as f64 / 1e6)
    }

    /// Bytes a second.
    pub fn bytes_s(&self) -> f64 {
        self.bytes as f64 / (self.window_us as f64 / 1e6)
    }
}

#[derive(Default)]
struct Sample {
    records: u64,
    bytes: u64,
    keys: BTreeMap<HashKey, (u64, u64)>,
    unkeyed: (u64, u64),
}

impl Sample {
    fn read(&mut self, stream: &Stream, shard: &ShardInfo, place: Place, records: u64) -> Result<(), Error> {
        let end = self.records.saturating_add(records);
        let range = shard.range();
        let mut cursor = ShardCursor::open(stream, shard, place)?;
        while self.records < end {
            let step = cursor.step(&mut |frame, skip| -> Result<(), log::Error> {
                for record in frame.records()?.iter().skip(skip) {
                    let bytes = (record.payload.len() + record.key.map_or(0, str::len)) as u64;
                    self.records += 1;
                    self.bytes += bytes;
                    let hash =
                        record.explicit_hash.or_else(|| record.key.map(|key| HashKey::of(key.as_bytes())));
                    let (n, b) = match hash {
                        Some(hash) if range.contains(hash) => self.keys.entry(hash).or_default(),
                        _ => &mut self.unkeyed,
                    };
                    *n += 1;
                    *b += bytes;
                }
                Ok(())
            })?;
            match step {
                Step::Frame(read) => read.in_shard(shard.id())?,
                Step::Tail | Step::End(_) => break,
                Step::Damage(_) | Step::Missed(_) => {}
            }
        }
        Ok(())
    }
}

impl Count {
    fn add(&mut self, payload_bytes: u64, key_bytes: u64) {
        self.records += 1;
        self.payload_bytes += payload_bytes;
        self.bytes += payload_bytes + key_bytes;
        // An empty record is billed too.
        self.put_payload_units += payload_bytes.div_ceil(PUT_PAYLOAD_UNIT_BYTES).max(1);
    }

    /// Adds another count.
    pub fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.payload_bytes += other.payload_bytes;
        self.bytes += other.bytes;
        self.put_payload_units += other.put_payload_units;
    }
}
