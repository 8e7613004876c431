//! What a record has beside its data: partition key, explicit hash key, producer's timestamp, attributes.
//!
//! A batch brings the data alone, which is all that most destinations take. For a stream the rest is read from the source
//! once more, by the records' origins.

use std::collections::BTreeMap;

use crate::codec::kpl;
use crate::hash::HashKey;
use crate::hose::chunk::Run;
use crate::record::{Attribute, ShardId};
use crate::stream::{Error, InShard, Place, ShardCursor, Step, Stream};

/// What a record has beside its data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// The partition key.
    pub key: Option<Box<str>>,
    /// The explicit hash key.
    pub explicit_hash: Option<HashKey>,
    /// The producer's timestamp, microseconds since the epoch.
    pub timestamp_us: Option<i64>,
    /// Attributes.
    pub attributes: Vec<Attribute>,
}

/// What is not known of a record, and why.
#[derive(Debug, thiserror::Error)]
pub enum DetailError {
    /// Retention, or a repair, was faster.
    #[error("record {index} of {shard} is gone from the source, and with it its partition key")]
    Gone {
        /// The shard.
        shard: ShardId,
        /// The record's index.
        index: u64,
    },
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] Error),
}

/// Knows what records have beside their data.
pub trait Details: Send {
    /// Appends what the records of a run have, one by one.
    fn of(&mut self, run: &Run, out: &mut Vec<Detail>) -> Result<(), DetailError>;
}

/// Knows nothing: records of a pipe have nothing beside their data.
#[derive(Debug, Clone, Copy)]
pub struct NoDetails;

impl Details for NoDetails {
    fn of(&mut self, run: &Run, out: &mut Vec<Detail>) -> Result<(), DetailError> {
        out.extend((0..run.rows).map(|_| Detail::default()));
        Ok(())
    }
}

/// Reads them from the stream that the records came from.
///
/// A frame is decoded once for all runs that follow one another in it. A record that was taken out of a KPL aggregate has
/// the key that it has there.
pub struct SourceDetails {
    source: Stream,
    shards: BTreeMap<ShardId, Shard>,
}

/// Where a shard is read, and the last frame of it.
struct Shard {
    cursor: ShardCursor,
    /// The index of the first of `frame`.
    first: u64,
    frame: Vec<Of>,
}

/// What one stored record tells.
struct Of {
    detail: Detail,
    /// Keys and explicit hash keys of the records in it, where it is an aggregate.
    parts: Vec<(Box<str>, Option<HashKey>)>,
}

impl SourceDetails {
    /// Nothing is read before the first batch.
    pub fn new(source: Stream) -> Self {
        Self { source, shards: BTreeMap::new() }
    }

    /// The frame that has this record.
    fn frame(&mut self, shard: ShardId, index: u64) -> Result<&Shard, DetailError> {
        let is_behind = |it: &Shard| index >= it.first;
        if !self.shards.get(&shard).is_some_and(is_behind) {
            let gone = DetailError::Gone { shard, index };
            if self.source.manifest().shard(shard).is_none() {
                self.source.reload()?;
            }
            let info = self.source.manifest().shard(shard).ok_or(gone)?;
            let cursor = ShardCursor::open(&self.source, info, Place::Index(index))?;
            self.shards.insert(shard, Shard { cursor, first: index, frame: Vec::new() });
        }
        let Some(it) = self.shards.get_mut(&shard) else { return Err(DetailError::Gone { shard, index }) };
        while index >= it.first + it.frame.len() as u64 {
            it.step(shard, index)?;
        }
        if index < it.first {
            return Err(DetailError::Gone { shard, index });
        }
        Ok(it)
    }
}

impl Shard {
    fn step(&mut self, shard: ShardId, index: u64) -> Result<(), DetailError> {
        let frame = &mut self.frame;
        let step = self.cursor.step(&mut |it, _| {
            frame.clear();
            let view = it.records().in_shard(shard)?;
            // One that ends before the record is only passed on the way.
            if it.header.end() > index {
                frame.extend(view.iter().map(|stored| Of {
                    parts: kpl::deaggregate(stored.payload).map_or_else(Vec::new, |aggregate| {
                        aggregate.iter().map(|part| (part.key.into(), part.explicit_hash)).collect()
                    }),
                    detail: Detail {
                        key: stored.key.map(Into::into),
                        explicit_hash: stored.explicit_hash,
                        timestamp_us: stored.timestamp_us,
                        attributes: stored.attributes.to_vec(),
                    },
                }));
            }
            Ok::<(u64, u64), Error>((it.header.first, it.header.end()))
        })?;
        match step {
            Step::Frame(outcome) => {
                let (first, end) = outcome?;
                self.first = if self.frame.is_empty() { end } else { first };
                Ok(())
            }
            // The record is behind it, or not at all.
            Step::Damage(_) | Step::Missed(_) if self.cursor.next_index() <= index => {
                self.frame.clear();
                self.first = self.cursor.next_index();
                Ok(())
            }
            Step::Damage(_) | Step::Missed(_) | Step::Tail | Step::End(_) => {
                Err(DetailError::Gone { shard, index })
            }
        }
    }
}

impl Details for SourceDetails {
    fn of(&mut self, run: &Run, out: &mut Vec<Detail>) -> Result<(), DetailError> {
        let first = run.first;
        for at in 0..u64::from(run.rows) {
            let (index, sub) = match first.sub {
                Some(sub) => (first.index, Some(sub + at)),
                None => (first.index + at, None),
            };
            let it = self.frame(first.shard, index)?;
            let Some(of) = it.frame.get((index - it.first) as usize) else {
                return Err(DetailError::Gone { shard: first.shard, index });
            };
            let mut detail = of.detail.clone();
            if let Some((key, hash)) = sub.and_then(|sub| of.parts.get(sub as usize)) {
                detail.key = Some(key.clone());
                detail.explicit_hash = *hash;
            }
            out.push(detail);
        }
        Ok(())
    }
}
