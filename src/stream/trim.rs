//! Retention: what has expired goes, segment by segment and, where a whole closed shard has expired, shard by shard.
//!
//! A writer that has rolled calls [`Stream::expire`]; `kshard trim` calls [`Stream::trim`], which reaches what no
//! writer comes by: the active segment of a shard that nobody writes to, and closed shards.

use std::sync::Arc;

use super::error::{Error, InShard};
use super::manifest::ShardInfo;
use super::stats::{Extent, extents};
use super::{LOCKS_NAME, Stream};
use crate::log::{self, LogDir, Reader, Writer};
use crate::record::ShardId;
use crate::sys::Locks;

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Closed shards that are gone, in the order of their numbers.
    pub shards: Vec<ShardId>,
    /// Shards whose active segment was closed, because all in it had expired.
    pub rolled: Vec<ShardId>,
}

impl Freed {
    fn add(&mut self, (segments, bytes): (u64, u64)) {
        self.segments += segments;
        self.bytes += bytes;
    }
}

/// A segment that may go.
struct Candidate {
    /// When it was followed by another: nothing in it arrived later. It is the age that counts, over all shards.
    until_us: i64,
    /// Which of the stream's shards.
    shard: usize,
    /// Which of the shard's segments.
    segment: usize,
}

impl Stream {
    /// Removes the segments of a shard (of all shards, where none is given) whose records have all expired, and the
    /// oldest segments of the whole stream beyond its cap in bytes. Never the one that is written.
    ///
    /// It takes no lock and may be done by any number of processes at once. It costs one look at the header of each
    /// segment of the shard; with a cap, of each segment of the stream.
    pub fn expire(&self, shard: Option<ShardId>) -> Result<Freed, Error> {
        let mut freed = Freed::default();
        if let Some(horizon_us) = self.manifest.horizon_us(self.system.clock.now_us()) {
            for info in &self.manifest.shards {
                if shard.is_none_or(|shard| shard == info.id()) {
                    let log = self.log_dir(info);
                    freed.add(log::expire(&log, Some(horizon_us), None).in_shard(info.id())?);
                }
            }
        }
        if let Some(bytes_max) = self.manifest.retain_bytes {
            self.expire_beyond(bytes_max, &mut freed)?;
        }
        Ok(freed)
    }

    fn expire_beyond(&self, bytes_max: u64, freed: &mut Freed) -> Result<(), Error> {
        let mut shards: Vec<(LogDir, Vec<Extent>)> = Vec::new();
        for info in &self.manifest.shards {
            let log = self.log_dir(info);
            let extents = extents(&log).in_shard(info.id())?;
            shards.push((log, extents));
        }
        let mut total: u64 = shards.iter().flat_map(|(_, extents)| extents).map(|extent| extent.bytes).sum();
        let mut candidates: Vec<Candidate> = Vec::new();
        for (shard, (_, extents)) in shards.iter().enumerate() {
            candidates.extend(extents.windows(2).enumerate().map(|(segment, pair)| Candidate {
                until_us: pair[1].created_us,
                shard,
                segment,
            }));
        }
        candidates.sort_by_key(|candidate| (candidate.until_us, candidate.shard, candidate.segment));
        let mut keep_from = vec![0; shards.len()];
        for candidate in candidates {
            if total <= bytes_max {
                break;
            }
            total -= shards[candidate.shard].1[candidate.segment].bytes;
            keep_from[candidate.shard] = candidate.segment + 1;
        }
        for ((log, extents), from) in shards.iter().zip(keep_from) {
            freed.add(remove_before(log, extents, from).in_shard(ShardId(log.id.shard))?);
        }
        Ok(())
    }

    /// Removes all that has expired, as [`Stream::expire`] does and more: active segments are closed if all in them has
    /// expired, and closed shards go as a whole, from the manifest first and then from the disk.
    pub fn trim(&mut self) -> Result<Freed, Error> {
        self.exclusively(Self::trim_locked)
    }

    fn trim_locked(&mut self, locks: &Arc<dyn Locks>) -> Result<Freed, Error> {
        let mut freed = Freed::default();
        let Some(horizon_us) = self.manifest.horizon_us(self.system.clock.now_us()) else {
            let cap = self.expire(None)?;
            self.remove_forgotten(&mut freed)?;
            freed.add((cap.segments, cap.bytes));
            return Ok(freed);
        };
        // All records of a closed shard arrived before it was closed.
        let expired = |shard: &ShardInfo| shard.closed.as_ref().is_some_and(|end| end.at_us < horizon_us);
        if self.manifest.shards.iter().any(expired) {
            let mut next = self.manifest.clone();
            next.shards.retain(|shard| !expired(shard));
            self.replace_manifest(next)?;
        }
        self.remove_forgotten(&mut freed)?;
        for info in self.manifest.shards.clone() {
            self.trim_shard(locks, &info, horizon_us, &mut freed).in_shard(info.id())?;
        }
        if let Some(bytes_max) = self.manifest.retain_bytes {
            self.expire_beyond(bytes_max, &mut freed)?;
        }
        Ok(freed)
    }

    fn trim_shard(
        &self,
        locks: &Arc<dyn Locks>,
        info: &ShardInfo,
        horizon_us: i64,
        freed: &mut Freed,
    ) -> Result<(), log::Error> {
        let log = self.log_dir(info);
        let mut extents = extents(&log)?;
        let Some(last) = extents.last() else { return Ok(()) };
        let mut reader = Reader::new(log.clone());
        reader.seek_time(horizon_us)?;
        // Everything below this index arrived before the horizon.
        let live_from = reader.next_index();
        drop(reader);
        if info.is_open() && live_from > last.first {
            let rest = log::at_rest(&log, info.range())?;
            if rest.next == live_from && rest.arrival_us < horizon_us {
                match Writer::open(log.clone(), Arc::clone(locks), self.roll(), info.range()) {
                    Ok(mut writer) => {
                        writer.roll()?;
                        writer.pause()?;
                        freed.rolled.push(info.id());
                    }
                    // It was closed behind the manifest's back: the next change finishes that.
                    Err(log::Error::Closed(_)) => {}
                    Err(error) => return Err(error),
                }
                extents = super::stats::extents(&log)?;
            }
        }
        let gone = extents.windows(2).take_while(|pair| pair[1].first <= live_from).count();
        freed.add(remove_before(&log, &extents, gone)?);
        Ok(())
    }

    /// Removes the directories of shards that the manifest no longer has. A number below `next_shard` was given out,
    /// and leaves the manifest in no other way than by expiring.
    fn remove_forgotten(&self, freed: &mut Freed) -> Result<(), Error> {
        for id in self.forgotten_shards()? {
            let dir = self.path.join(id.to_string());
            for name in self.system.disk.list(&dir).unwrap_or_default() {
                if name.ends_with(".seg") {
                    let file = self.system.disk.open(&dir.join(&name));
                    freed.add((1, file.and_then(|file| file.len()).unwrap_or(0)));
                }
            }
            let path = dir.clone();
            self.system.disk.remove_dir_all(&dir).map_err(|source| Error::Io {
                doing: "remove",
                path,
                source,
            })?;
            freed.shards.push(id);
        }
        Ok(())
    }

    /// The shards that have expired and whose directories are still there, in the order of their numbers.
    pub fn forgotten_shards(&self) -> Result<Vec<ShardId>, Error> {
        let path = self.path.clone();
        let names =
            self.system.disk.list(&path).map_err(|source| Error::Io { doing: "list", path, source })?;
        let mut ids: Vec<ShardId> = names
            .iter()
            .filter(|name| name.starts_with("shardId-"))
            .filter_map(|name| name.parse::<ShardId>().ok().filter(|id| id.to_string() == **name))
            .filter(|id| id.0 < self.manifest.next_shard && self.manifest.shard(*id).is_none())
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// A shard to which a program is writing, if there is one.
    pub fn writer_alive(&self) -> Result<Option<ShardId>, Error> {
        let path = self.path.join(LOCKS_NAME);
        if !self.system.disk.exists(&path) {
            return Ok(None);
        }
        // The locks end with the table.
        self.writers_kept_out(&*self.locks()?)
    }
}

/// Removes the first `count` segments, which are followed by others.
fn remove_before(log: &LogDir, extents: &[Extent], count: usize) -> Result<(u64, u64), log::Error> {
    let Some(first_kept) = count.checked_sub(1).map(|last| &extents[last + 1]) else { return Ok((0, 0)) };
    // The log removes what was followed before a time. Where a clock stood still and a later segment has the same
    // time, one segment too few goes rather than one too many.
    let same = extents[count + 1..].iter().any(|later| later.created_us == first_kept.created_us);
    log::expire(log, Some(first_kept.created_us + i64::from(!same)), None)
}
