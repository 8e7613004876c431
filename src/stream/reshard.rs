//! Splits and merges: close the parents, begin the children, say so in the manifest.
//!
//! The decision is written to the manifest first (`pending`), so that any process that comes later, on whatever
//! business, finishes what was begun: every step may be done twice. A parent's closing frame names the children, and
//! it is durable before a child exists, so no record can reach a child while the parent still takes some.

use std::sync::Arc;

use super::error::{Error, InShard};
use super::manifest::{Closed, NewShard, Reshard, ShardInfo};
use super::{SHARDS_MAX, Stream};
use crate::hash::{HashKey, HashRange};
use crate::log::{self, AtRest, Child, EndOfShard, ProducerState, Writer};
use crate::record::ShardId;
use crate::sys::Locks;

impl Stream {
    /// Splits an open shard in two: the lower child keeps the hash keys below `at` (the middle if not given), the
    /// upper one those from `at` on. Returns the children.
    pub fn split(&mut self, shard: ShardId, at: Option<HashKey>) -> Result<Vec<ShardId>, Error> {
        self.exclusively(|stream, locks| {
            // Not below, where a change of scale has some more for a while.
            if stream.manifest.open_shards().len() >= SHARDS_MAX as usize {
                return Err(Error::Invalid(format!("a stream has at most {SHARDS_MAX} open shards")));
            }
            stream.split_locked(locks, shard, at)
        })
    }

    /// Merges two open shards whose hash keys are adjacent. Returns the child.
    pub fn merge(&mut self, one: ShardId, other: ShardId) -> Result<ShardId, Error> {
        self.exclusively(|stream, locks| stream.merge_locked(locks, one, other))
    }

    /// Makes the stream one of `count` equal shards, by splits and merges as the service's `UpdateShardCount` does.
    /// Returns how many of either were done.
    pub fn scale(&mut self, count: u32) -> Result<usize, Error> {
        if count == 0 || count > SHARDS_MAX {
            return Err(Error::Invalid(format!("a stream has 1 to {SHARDS_MAX} shards, not {count}")));
        }
        self.exclusively(|stream, locks| {
            let mut steps = 0;
            let starts: Vec<HashKey> =
                HashRange::split_evenly(count).into_iter().map(|wanted| wanted.start).collect();
            let mut uncut: Vec<ShardId> =
                stream.manifest.open_shards().into_iter().map(ShardInfo::id).collect();
            while let Some(shard) = uncut.pop() {
                // Where wanted ranges start within it. Cut in the middle of them, so that of a thousand shards ten
                // generations come and not a thousand: a reader goes through them one after the other.
                let range = stream.open_shard(shard)?.range();
                let from = starts.partition_point(|&start| start <= range.start);
                let to = starts.partition_point(|&start| start <= range.end);
                if from < to {
                    uncut.extend(stream.split_locked(
                        locks,
                        shard,
                        Some(starts[usize::midpoint(from, to)]),
                    )?);
                    steps += 1;
                }
            }
            for wanted in HashRange::split_evenly(count) {
                loop {
                    let within: Vec<ShardId> = stream
                        .manifest
                        .open_shards()
                        .into_iter()
                        .filter(|shard| wanted.covers(&shard.range()))
                        .map(ShardInfo::id)
                        .collect();
                    if within.len() < 2 {
                        break;
                    }
                    // In pairs, for the same reason.
                    for pair in within.chunks_exact(2) {
                        stream.merge_locked(locks, pair[0], pair[1])?;
                        steps += 1;
                    }
                }
            }
            Ok(steps)
        })
    }

    fn open_shard(&self, shard: ShardId) -> Result<&ShardInfo, Error> {
        let info = self.manifest.shard(shard).ok_or(Error::NoShard(shard))?;
        if info.is_open() { Ok(info) } else { Err(Error::ShardClosed(shard)) }
    }

    fn split_locked(
        &mut self,
        locks: &Arc<dyn Locks>,
        shard: ShardId,
        at: Option<HashKey>,
    ) -> Result<Vec<ShardId>, Error> {
        let range = self.open_shard(shard)?.range();
        // Half way, rounded up: never the first hash key as long as there are two.
        let middle = HashKey(range.start.0 + (range.end.0 - range.start.0).div_ceil(2));
        let at = at.unwrap_or(middle);
        if at <= range.start || at > range.end {
            return Err(Error::Invalid(format!(
                "{shard} owns hash keys {} to {}: a split must begin above the first and not above the last, \
                 and {at} does not",
                range.start, range.end
            )));
        }
        let lower = self.manifest.next_shard;
        let children = vec![
            NewShard { shard: lower, starting_hash_key: range.start.0, ending_hash_key: at.0 - 1 },
            NewShard { shard: lower + 1, starting_hash_key: at.0, ending_hash_key: range.end.0 },
        ];
        self.reshard(locks, Reshard { parents: vec![shard.0], children })?;
        Ok(vec![ShardId(lower), ShardId(lower + 1)])
    }

    fn merge_locked(
        &mut self,
        locks: &Arc<dyn Locks>,
        one: ShardId,
        other: ShardId,
    ) -> Result<ShardId, Error> {
        let (a, b) = (self.open_shard(one)?.range(), self.open_shard(other)?.range());
        let (lower, upper) = if a.start <= b.start { (a, b) } else { (b, a) };
        if lower.end.0.checked_add(1) != Some(upper.start.0) {
            return Err(Error::Invalid(format!(
                "{one} and {other} are not adjacent: only neighbours can merge"
            )));
        }
        let child = self.manifest.next_shard;
        let children =
            vec![NewShard { shard: child, starting_hash_key: lower.start.0, ending_hash_key: upper.end.0 }];
        self.reshard(locks, Reshard { parents: vec![one.0, other.0], children })?;
        Ok(ShardId(child))
    }

    fn reshard(&mut self, locks: &Arc<dyn Locks>, reshard: Reshard) -> Result<(), Error> {
        let mut next = self.manifest.clone();
        next.pending = Some(reshard);
        self.replace_manifest(next)?;
        self.finish_pending(locks)
    }

    /// Finishes a split or merge that was decided, from wherever it was left.
    pub(super) fn finish_pending(&mut self, locks: &Arc<dyn Locks>) -> Result<(), Error> {
        let Some(reshard) = self.manifest.pending.clone() else { return Ok(()) };
        // Whoever decided it may have died before the decision was durable. It is, before a shard ends because of it: of
        // one that has ended for nobody knows which children no producer and no reader would find the way.
        let path = self.path.clone();
        self.system.disk.sync_dir(&path).map_err(|source| Error::Io { doing: "sync", path, source })?;
        let end = EndOfShard {
            children: reshard
                .children
                .iter()
                .map(|child| Child { shard: ShardId(child.shard), range: child.range() })
                .collect(),
            parents: reshard.parents.iter().map(|&shard| ShardId(shard)).collect(),
        };
        let mut created_us = self.system.clock.now_us();
        let mut producers = Vec::new();
        let mut ends = Vec::new();
        for &parent in &reshard.parents {
            let id = ShardId(parent);
            let info = self.manifest.shard(id).ok_or(Error::NoShard(id))?.clone();
            let rest = self.close_shard(locks, &info, &end)?;
            created_us = created_us.max(rest.arrival_us);
            ends.push((parent, rest.next));
            producers.extend(rest.producers);
        }
        let mut children = Vec::new();
        for child in &reshard.children {
            let info = ShardInfo {
                shard: child.shard,
                starting_hash_key: child.starting_hash_key,
                ending_hash_key: child.ending_hash_key,
                created_us,
                parents: reshard.parents.clone(),
                closed: None,
            };
            let (id, log) = (info.id(), self.log_dir(&info));
            let states = clip(&producers, child.range());
            log::create_log(&log, created_us, &states).in_shard(id)?;
            // What was created in an interrupted run has its own creation time on the disk.
            let segments = log::segments(&log).in_shard(id)?;
            let created_us = segments.first().map_or(created_us, |segment| segment.created_us);
            children.push(ShardInfo { created_us, ..info });
        }
        // All that the parents hold arrived before the first child was there.
        let at_us = children.iter().map(|child| child.created_us).min().unwrap_or(created_us);
        let numbers: Vec<u32> = children.iter().map(|child| child.shard).collect();
        let mut next = self.manifest.clone();
        for shard in &mut next.shards {
            if let Some(&(_, next_index)) = ends.iter().find(|(parent, _)| *parent == shard.shard) {
                shard.closed = Some(Closed { at_us, next_index, children: numbers.clone() });
            }
        }
        next.next_shard = numbers.iter().map(|shard| shard + 1).fold(next.next_shard, u32::max);
        next.shards.extend(children);
        next.pending = None;
        self.replace_manifest(next)
    }

    /// Closes a shard's log, or finds it closed, and tells what it held.
    fn close_shard(
        &self,
        locks: &Arc<dyn Locks>,
        shard: &ShardInfo,
        end: &EndOfShard,
    ) -> Result<AtRest, Error> {
        let (id, log) = (shard.id(), self.log_dir(shard));
        let said = match Writer::open(log.clone(), Arc::clone(locks), self.roll(), shard.range()) {
            Ok(mut writer) => writer.end(end).in_shard(id)?,
            Err(log::Error::Closed(said)) => {
                // Whoever closed it may have died before its sync: no child may take a record before this one.
                log::make_durable(&log).in_shard(id)?;
                said
            }
            Err(source) => return Err(Error::Shard { shard: id, source }),
        };
        if said != *end {
            return Err(Error::Invalid(format!(
                "{id} was closed for other children than the manifest decided"
            )));
        }
        log::at_rest(&log, shard.range()).in_shard(id)
    }

    /// Finishes what is pending, if anything is, and looks at the manifest again: for a producer that has met the end
    /// of a shard.
    pub fn settle(&mut self) -> Result<(), Error> {
        self.exclusively(|_, _| Ok(()))
    }
}

/// The part of the producers' places that lies in `range`.
fn clip(states: &[ProducerState], range: HashRange) -> Vec<ProducerState> {
    states
        .iter()
        .filter(|state| state.range.overlaps(&range))
        .map(|state| ProducerState {
            range: HashRange {
                start: state.range.start.max(range.start),
                end: state.range.end.min(range.end),
            },
            ..state.clone()
        })
        .collect()
}
