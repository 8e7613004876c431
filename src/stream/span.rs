//! Where a read begins and where it ends.

use super::Stream;
use super::cursor::Place;
use super::error::Error;
use crate::log::FrameRef;
use crate::record::{SequenceNumber, ShardId};

/// Where a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that has not expired.
    TrimHorizon,
    /// Behind the newest record.
    Latest,
    /// At the first record that arrived at or after this time, microseconds since the epoch.
    Time(i64),
    /// At this record: its shard, and those that go on from it.
    At(SequenceNumber),
    /// Behind this record: its shard, and those that go on from it.
    After(SequenceNumber),
}

impl Start {
    /// The record that it speaks of.
    pub(super) fn sequence(self) -> Option<SequenceNumber> {
        match self {
            Self::At(sequence) | Self::After(sequence) => Some(sequence),
            Self::TrimHorizon | Self::Latest | Self::Time(_) => None,
        }
    }

    /// Where that is in a shard, if records before `horizon_us` have expired.
    pub(super) fn place(self, horizon_us: Option<i64>) -> Place {
        match self {
            Self::TrimHorizon => horizon_us.map_or(Place::Start, Place::Time),
            Self::Latest => Place::End,
            Self::Time(time_us) => Place::Time(horizon_us.map_or(time_us, |horizon| horizon.max(time_us))),
            Self::At(sequence) => Place::Index(sequence.index),
            Self::After(sequence) => Place::Index(sequence.index + 1),
        }
    }
}

/// Where a read ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Until {
    /// Nowhere: at the end of the data.
    #[default]
    Never,
    /// Before the first record that arrived at or after this time, microseconds since the epoch.
    Time(i64),
    /// Before this record: the end of its shard for this read, and of those that go on from it. Other shards are read
    /// to the end of the data.
    At(SequenceNumber),
    /// Behind this record, in the same way.
    After(SequenceNumber),
}

impl Until {
    /// The record that it speaks of.
    pub(super) fn sequence(self) -> Option<SequenceNumber> {
        match self {
            Self::At(sequence) | Self::After(sequence) => Some(sequence),
            Self::Never | Self::Time(_) => None,
        }
    }

    /// The first index of a shard that is not read any more, where that is known beforehand.
    pub(super) fn index(self, shard: ShardId) -> Option<u64> {
        match self {
            Self::At(sequence) if sequence.shard == shard => Some(sequence.index),
            Self::After(sequence) if sequence.shard == shard => Some(sequence.index + 1),
            _ => None,
        }
    }

    /// How many records of a frame come before the end of the read.
    pub(super) fn take(self, shard: ShardId, frame: &FrameRef<'_>) -> usize {
        let count = frame.header.count as usize;
        match (self, self.index(shard)) {
            (Self::Time(time_us), _) if frame.header.arrival_us >= time_us => 0,
            (_, Some(end)) => end.saturating_sub(frame.header.first).min(count as u64) as usize,
            _ => count,
        }
    }
}

/// Refuses a sequence number that is not of a shard of this stream: its index would be taken for one of another's.
pub(super) fn check_sequence(stream: &Stream, sequence: SequenceNumber) -> Result<(), Error> {
    let shard = sequence.shard;
    let info = stream.manifest().shard(shard).ok_or(Error::NoShard(shard))?;
    if info.created_s() != sequence.shard_created_s {
        return Err(Error::Invalid(format!(
            "sequence number {sequence} is not of this stream: its {shard} was created at another time"
        )));
    }
    Ok(())
}
