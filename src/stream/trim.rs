//! Retention: what has expired goes, segment by segment and, where a whole closed shard has expired, shard by shard.
//!
//! A writer that has rolled calls [`Stream::expire`]; `kshard trim` calls [`Stream::trim`], which reaches what no
//! writer comes by: the active segment of a shard that nobody writes to, and closed shards. Only where a closed shard is
//! the oldest beyond the cap in bytes a writer takes it away too, or newer records would go in its place.

use std::path::Path;
use std::sync::Arc;

use super::error::{Error, InShard};
use super::manifest::ShardInfo;
use super::stats::{Extent, extents};
use super::{LOCKS_NAME, MANIFEST_SLOT, Stream};
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

/// What goes by a cap in bytes.
struct Beyond {
    /// The segments of each shard.
    shards: Vec<(LogDir, Vec<Extent>)>,
    /// How many of the first of them go, for each.
    keep_from: Vec<usize>,
}

impl Beyond {
    /// Whether whole shards go.
    fn takes_shards(&self) -> bool {
        let counts = self.shards.iter().map(|(_, extents)| extents.len());
        counts.zip(&self.keep_from).any(|(count, &from)| from > 0 && from == count)
    }
}

/// Of so many expired shards, the latest, it is known where they ended.
const EXPIRED_MAX: usize = 4096;

impl Stream {
    /// Removes the segments of a shard (of all shards, where none is given) whose records have all expired, and the
    /// oldest segments of the whole stream beyond its cap in bytes. Never the one that is written.
    ///
    /// It waits for no lock and may be done by any number of processes at once. It costs one look at the header of each
    /// segment of the shard; with a cap, of each segment of the stream.
    ///
    /// It goes by what the manifest says now: a producer may have opened it before somebody made the retention longer.
    pub fn expire(&self, shard: Option<ShardId>) -> Result<Freed, Error> {
        let mut newest = self.clone();
        newest.reload()?;
        newest.expire_known(shard)
    }

    fn expire_known(&mut self, shard: Option<ShardId>) -> Result<Freed, Error> {
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
            // The lock ends with `locks`.
            let locks =
                if self.beyond(bytes_max, true)?.takes_shards() { self.try_lock_for_change()? } else { None };
            self.expire_beyond(bytes_max, locks.is_some(), &mut freed)?;
        }
        Ok(freed)
    }

    /// Takes the stream's lock, if it is free and nothing is pending, and looks at the manifest again.
    fn try_lock_for_change(&mut self) -> Result<Option<Arc<dyn Locks>>, Error> {
        let locks = self.locks()?;
        let path = self.path.join(LOCKS_NAME);
        let taken = locks.try_lock(MANIFEST_SLOT, true);
        if !taken.map_err(|source| Error::Io { doing: "lock", path, source })? {
            return Ok(None);
        }
        self.reload()?;
        Ok(self.manifest.pending.is_none().then_some(locks))
    }

    /// Removes the oldest segments beyond a cap; with the lock (`closed`) closed shards as a whole too.
    fn expire_beyond(&mut self, bytes_max: u64, closed: bool, freed: &mut Freed) -> Result<(), Error> {
        let Beyond { shards, keep_from } = self.beyond(bytes_max, closed)?;
        let mut gone = Vec::new();
        for ((log, extents), from) in shards.iter().zip(keep_from) {
            let id = ShardId(log.id.shard);
            if from > 0 && from == extents.len() {
                gone.push(id);
            } else {
                freed.add(remove_before(log, extents, from).in_shard(id)?);
            }
        }
        if !gone.is_empty() {
            self.forget_shards(|shard| gone.contains(&shard.id()))?;
            self.remove_forgotten(freed)?;
        }
        Ok(())
    }

    /// What goes by a cap in bytes, the last segments of closed shards among it where that is asked for.
    fn beyond(&self, bytes_max: u64, closed: bool) -> Result<Beyond, Error> {
        let mut shards: Vec<(LogDir, Vec<Extent>)> = Vec::new();
        for info in &self.manifest.shards {
            let log = self.log_dir(info);
            let extents = extents(&log).in_shard(info.id())?;
            shards.push((log, extents));
        }
        let mut total: u64 = shards.iter().flat_map(|(_, extents)| extents).map(|extent| extent.bytes).sum();
        let mut candidates: Vec<Candidate> = Vec::new();
        for (shard, (_, extents)) in shards.iter().enumerate() {
            if let Some(end) = self.manifest.shards[shard].closed.as_ref().filter(|_| closed)
                && let Some(segment) = extents.len().checked_sub(1)
            {
                candidates.push(Candidate { until_us: end.at_us, shard, segment });
            }
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
        Ok(Beyond { shards, keep_from })
    }

    /// Removes all that has expired, as [`Stream::expire`] does and more: active segments are closed if all in them has
    /// expired, and closed shards go as a whole, from the manifest first and then from the disk.
    pub fn trim(&mut self) -> Result<Freed, Error> {
        self.exclusively(Self::trim_locked)
    }

    fn trim_locked(&mut self, locks: &Arc<dyn Locks>) -> Result<Freed, Error> {
        let mut freed = Freed::default();
        if let Some(horizon_us) = self.manifest.horizon_us(self.system.clock.now_us()) {
            self.trim_expired(locks, horizon_us, &mut freed)?;
        }
        if let Some(bytes_max) = self.manifest.retain_bytes {
            self.expire_beyond(bytes_max, true, &mut freed)?;
        }
        self.remove_forgotten(&mut freed)?;
        Ok(freed)
    }

    fn trim_expired(
        &mut self,
        locks: &Arc<dyn Locks>,
        horizon_us: i64,
        freed: &mut Freed,
    ) -> Result<(), Error> {
        // What takes no room first, for the disk may be full. What fails here fails below again, and is told there.
        for info in &self.manifest.shards {
            freed.add(log::expire(&self.log_dir(info), Some(horizon_us), None).unwrap_or_default());
        }
        // All records of a closed shard arrived before it was closed.
        self.forget_shards(|shard| shard.closed.as_ref().is_some_and(|end| end.at_us < horizon_us))?;
        self.remove_forgotten(freed)?;
        // A shard that cannot be trimmed must not let the others fill the disk.
        let mut failed = None;
        for info in self.manifest.shards.clone() {
            let trimmed = self.trim_shard(locks, &info, horizon_us, freed).in_shard(info.id());
            failed = failed.or(trimmed.err());
        }
        failed.map_or(Ok(()), Err)
    }

    /// Takes closed shards out of the manifest. Their directories are removed by [`Stream::remove_forgotten`]. Where they
    /// ended is kept a while: a consumer that comes later is told what it missed, if anything.
    fn forget_shards(&mut self, which: impl Fn(&ShardInfo) -> bool) -> Result<(), Error> {
        let mut next = self.manifest.clone();
        for gone in next.shards.extract_if(.., |shard| !shard.is_open() && which(shard)) {
            next.expired.extend(gone.closed.map(|closed| (gone.shard, closed.next_index)));
        }
        while next.expired.len() > EXPIRED_MAX {
            next.expired.pop_first();
        }
        self.replace_manifest(next)
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
                if Path::new(&name).extension().is_some_and(|extension| extension == "seg") {
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
}

/// Removes the first `count` segments, which are followed by others.
fn remove_before(log: &LogDir, extents: &[Extent], count: usize) -> Result<(u64, u64), log::Error> {
    let Some(first_kept) = count.checked_sub(1).map(|last| &extents[last + 1]) else { return Ok((0, 0)) };
    // The log removes what was followed before a time. Where a clock stood still and a later segment has the same
    // time, one segment too few goes rather than one too many.
    let same = extents[count + 1..].iter().any(|later| later.created_us == first_kept.created_us);
    log::expire(log, Some(first_kept.created_us + i64::from(!same)), None)
}
