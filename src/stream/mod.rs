//! A stream: a directory of logs that share one hash key space, as Kinesis has it.
//!
//! ```text
//! STREAM/
//!     manifest.json             settings and shards (see `manifest`)
//!     locks                     permanent, empty: its bytes are lock slots, slot 0 the manifest's own
//!     shardId-000000000000/     a log (see `log`)
//!     consumers/NAME/           a named consumer's places and leases
//!     rejects/                  records that were refused, kept
//! ```
//!
//! Order is kept per partition key, across splits and merges too: a parent is synced and closed before a child takes a
//! record, and readers finish the parents before the children.

mod advise;
mod building;
pub mod check;
mod checkpoint;
mod consumer;
pub mod copy;
mod cursor;
mod delete;
mod document;
mod error;
mod lag;
mod lease;
mod manifest;
mod outlook;
pub mod producer;
mod reader;
mod rebuild;
pub mod repair;
mod reshard;
mod router;
mod span;
mod stats;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_audit;
#[cfg(test)]
mod tests_consumer;
#[cfg(test)]
mod tests_model;
#[cfg(test)]
mod tests_power;
#[cfg(test)]
mod tests_processes;
pub mod transport;
mod trim;
mod waiter;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

pub use advise::{Advice, COLD, Target, advise};
use building::Building;
pub use building::{sweep, unfinished};
pub use checkpoint::Checkpoint;
pub use consumer::{
    Bookmark, Committed, Consumer, ConsumerState, Failure, Patience, Reservation, Sample, ShardState,
    WorkerNote,
};
pub use cursor::{Place, ShardCursor, Step};
pub(crate) use error::InShard;
pub use error::{Between, Error};
pub use lag::{ShardLag, Waits};
pub use lease::{Assignment, FAILOVER_DEFAULT, Progress, Worker};
pub use manifest::{Closed, Compression, MANIFEST_NAME, Manifest, NewShard, Reshard, ShardInfo};
pub use outlook::Outlook;
pub use reader::{Delivery, Order, Polled, StreamReader};
pub use router::Router;
pub use span::{Start, Until};
pub use stats::{Count, Extent, Load, Outgoing, PUT_PAYLOAD_UNIT_BYTES, ShardStats, extents};
pub use trim::Freed;
pub use waiter::Waiter;

use crate::hash::HashRange;
use crate::log::{self, LogDir, LogId, Roll};
pub use crate::log::{Damage, Missed};
use crate::record::{SequenceNumber, ShardId};
use crate::sys::{Locks, System};

/// The service's default retention, 24 hours, in microseconds.
pub const RETENTION_DEFAULT_US: i64 = 24 * 3600 * 1_000_000;
/// The service's shortest retention is 24 hours; an hour is the shortest here.
pub const RETENTION_MIN_US: i64 = 3600 * 1_000_000;
/// The service's longest retention, 8760 hours, in microseconds.
pub const RETENTION_MAX_US: i64 = 8760 * 3600 * 1_000_000;
/// Segments roll at this size: few files even for large streams, and a roll (the one place where a writer waits for
/// the disk under the lock) stays rare. It is Kafka's default too.
pub const SEGMENT_BYTES_DEFAULT: u64 = 1 << 30;
/// Segments roll at this age, in microseconds, so that retention can remove them within an hour of their time.
pub const SEGMENT_AGE_DEFAULT_US: i64 = 3600 * 1_000_000;
/// The service's default record limit.
pub const RECORD_BYTES_DEFAULT: u64 = 1 << 20;
/// More shards than one stream of the service may have.
pub const SHARDS_MAX: u32 = 10_000;

const LOCKS_NAME: &str = "locks";
/// The directory of the named consumers.
pub const CONSUMERS_NAME: &str = "consumers";
/// The slot of the stream's own lock: whoever holds it may replace the manifest.
const MANIFEST_SLOT: u64 = 0;

/// What a new stream shall be.
#[derive(Debug, Clone)]
pub struct NewStream {
    /// Number of shards.
    pub shards: u32,
    /// Compression of frames.
    pub compression: Compression,
    /// The largest record.
    pub record_bytes_max: u64,
    /// How long records stay, in microseconds; `None` for ever.
    pub retention_us: Option<i64>,
    /// How many bytes stay.
    pub retain_bytes: Option<u64>,
    /// When segments roll by size.
    pub segment_bytes: u64,
    /// When segments roll by age.
    pub segment_age_us: i64,
    /// The user's own.
    pub tags: BTreeMap<String, String>,
}

impl Default for NewStream {
    fn default() -> Self {
        Self {
            shards: 1,
            compression: Compression::None,
            record_bytes_max: RECORD_BYTES_DEFAULT,
            retention_us: Some(RETENTION_DEFAULT_US),
            retain_bytes: None,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            segment_age_us: SEGMENT_AGE_DEFAULT_US,
            tags: BTreeMap::new(),
        }
    }
}

/// An open stream.
#[derive(Clone)]
pub struct Stream {
    system: System,
    path: PathBuf,
    manifest: Manifest,
}

impl Stream {
    /// Creates a stream. It is there whole or not at all: it is built beside its place and moved there.
    pub fn create(system: &System, path: &Path, new: &NewStream) -> Result<Self, Error> {
        if new.shards == 0 || new.shards > SHARDS_MAX {
            return Err(Error::Invalid(format!("a stream has 1 to {SHARDS_MAX} shards, not {}", new.shards)));
        }
        let building = Building::begin(system, path)?;
        let now = system.clock.now_us();
        let shards = HashRange::split_evenly(new.shards)
            .into_iter()
            .zip(0..)
            .map(|(range, shard)| ShardInfo {
                shard,
                starting_hash_key: range.start.0,
                ending_hash_key: range.end.0,
                created_us: now,
                parents: Vec::new(),
                closed: None,
            })
            .collect();
        let manifest = Manifest {
            generation: 1,
            stream_id: Uuid::new_v4(),
            name: path.file_name().and_then(|n| n.to_str()).unwrap_or("stream").to_owned(),
            created_us: now,
            compatible_features: 0,
            required_features: 0,
            compression: new.compression,
            record_bytes_max: new.record_bytes_max,
            retention_us: new.retention_us,
            retain_bytes: new.retain_bytes,
            segment_bytes: new.segment_bytes,
            segment_age_us: new.segment_age_us,
            tags: new.tags.clone(),
            next_shard: new.shards,
            shards,
            expired: BTreeMap::new(),
            pending: None,
        };
        let mut stream = Self { system: system.clone(), path: building.dir().to_owned(), manifest };
        for shard in &stream.manifest.shards {
            log::create_log(&stream.log_dir(shard), now, &[]).in_shard(shard.id())?;
        }
        stream.write_manifest()?;
        building.finish()?;
        path.clone_into(&mut stream.path);
        Ok(stream)
    }

    /// Opens a stream.
    pub fn open(system: &System, path: &Path) -> Result<Self, Error> {
        let manifest = Manifest::read(system, path)?;
        let stream = Self { system: system.clone(), path: path.to_owned(), manifest };
        stream.refuse_network()?;
        Ok(stream)
    }

    fn refuse_network(&self) -> Result<(), Error> {
        match self.system.disk.network_kind(&self.path) {
            Some(kind) => Err(Error::NetworkFileSystem { path: self.path.clone(), kind }),
            None => Ok(()),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The machine.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// What it is, as of the last look.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The stream's name: its directory's.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|n| n.to_str()).unwrap_or(&self.manifest.name)
    }

    /// Looks at the manifest again; whether it has changed. Another stream may have its name by now.
    pub fn reload(&mut self) -> Result<bool, Error> {
        let manifest = match Manifest::read(&self.system, &self.path) {
            Err(Error::NotFound { .. }) if !self.system.disk.exists(&self.path) => {
                return Err(Error::Deleted);
            }
            other => other?,
        };
        if manifest.stream_id != self.manifest.stream_id {
            return Err(Error::Deleted);
        }
        let changed = manifest.generation != self.manifest.generation;
        self.manifest = manifest;
        Ok(changed)
    }

    /// What a failure in a shard comes to: where the stream is gone, that says it all.
    fn failed(&self, shard: ShardId, source: log::Error) -> Error {
        match self.clone().reload() {
            Err(deleted @ Error::Deleted) => deleted,
            _ => Error::Shard { shard, source },
        }
    }

    /// Opens the stream's lock table; each call is an owner of its own.
    pub fn locks(&self) -> Result<Arc<dyn Locks>, Error> {
        let path = self.path.join(LOCKS_NAME);
        self.system.disk.locks(&path).map_err(|source| match source.kind() {
            // Made anew by whoever misses it, it would keep out nobody who has the old one open.
            std::io::ErrorKind::NotFound if self.system.disk.exists(&self.path) => Error::NoLocks { path },
            std::io::ErrorKind::NotFound => Error::Deleted,
            _ => Error::Io { doing: "open", path, source },
        })
    }

    /// Makes the lock table where it is missing: when a stream is made, and when it is repaired.
    fn create_locks(&self) -> Result<Arc<dyn Locks>, Error> {
        let path = self.path.join(LOCKS_NAME);
        self.system.disk.create_locks(&path).map_err(|source| Error::Io { doing: "create", path, source })
    }

    /// The log of a shard.
    pub fn log_dir(&self, shard: &ShardInfo) -> LogDir {
        LogDir {
            system: self.system.clone(),
            dir: self.path.join(shard.id().to_string()),
            id: LogId { stream: *self.manifest.stream_id.as_bytes(), shard: shard.shard },
            shard_created_s: shard.created_s(),
        }
    }

    /// When the segments of this stream roll. A cap on the disk wants segments that are small against it.
    pub fn roll(&self) -> Roll {
        let per_shard = u64::from(self.manifest.shards.len().max(1) as u32) * 8;
        let cap = self.manifest.retain_bytes.map_or(u64::MAX, |max| (max / per_shard).max(64 << 10));
        Roll { bytes: self.manifest.segment_bytes.min(cap), age_us: self.manifest.segment_age_us }
    }

    /// Replaces the manifest by what `change` makes of it, while no other process does. A split or merge that was
    /// interrupted is finished first.
    pub fn update(&mut self, change: impl FnOnce(&mut Manifest) -> Result<(), Error>) -> Result<(), Error> {
        self.exclusively(|stream, _| {
            let mut next = stream.manifest.clone();
            change(&mut next)?;
            stream.replace_manifest(next)
        })
    }

    /// Works under the stream's lock on the newest manifest, with nothing pending.
    fn exclusively<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &Arc<dyn Locks>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let locks = self.locked_for_change()?;
        self.finish_pending(&locks)?;
        // The lock ends with `locks`.
        work(self, &locks)
    }

    /// Takes the stream's lock and looks at the manifest again. The lock ends with what is returned.
    fn locked_for_change(&mut self) -> Result<Arc<dyn Locks>, Error> {
        let locks = self.locks()?;
        let path = self.path.join(LOCKS_NAME);
        locks.lock(MANIFEST_SLOT, true).map_err(|source| Error::Io { doing: "lock", path, source })?;
        self.reload()?;
        self.sweep();
        Ok(locks)
    }

    /// Removes manifests that others were killed over before they were in their place. The lock is held.
    fn sweep(&self) {
        let disk = &self.system.disk;
        for name in disk.list(&self.path).unwrap_or_default() {
            if name.starts_with(&format!(".{MANIFEST_NAME}.")) {
                let _ = disk.remove(&self.path.join(name));
            }
        }
    }

    /// Keeps writers out of all shards while `locks` lives, unless one is writing already: then that shard is named and
    /// nothing is held.
    ///
    /// A writer that cannot have the live slot takes it that others are alive, and looks for no crash. So that slot is
    /// only ever taken together with the append slot, at which a writer that opens the log waits.
    fn keep_writers_out(&self, locks: &dyn Locks) -> Result<Option<ShardId>, Error> {
        let io = |source| Error::Io { doing: "lock", path: self.path.join(LOCKS_NAME), source };
        let mut held = Vec::new();
        for shard in &self.manifest.shards {
            let mut free = true;
            for slot in [log::append_slot(shard.shard), log::live_slot(shard.shard)] {
                free = free && locks.try_lock(slot, true).map_err(io)?;
                held.extend(free.then_some(slot));
            }
            if !free {
                // The live slots first: they lie above.
                held.sort_unstable();
                for slot in held.into_iter().rev() {
                    locks.unlock(slot).map_err(io)?;
                }
                return Ok(Some(shard.id()));
            }
        }
        Ok(None)
    }

    fn replace_manifest(&mut self, mut next: Manifest) -> Result<(), Error> {
        if next == self.manifest {
            return Ok(());
        }
        next.generation = self.manifest.generation + 1;
        let before = std::mem::replace(&mut self.manifest, next);
        self.write_manifest().inspect_err(|_| self.manifest = before)
    }

    fn write_manifest(&self) -> Result<(), Error> {
        let path = Manifest::path(&self.path);
        let bytes = self.manifest.encode()?;
        self.system.disk.replace(&path, &bytes).map_err(|source| Error::Io { doing: "write", path, source })
    }

    /// Makes durable that there are the shards which the manifest names. Whoever put it in its place may have been killed
    /// before that: what is acknowledged from a shard which a power loss takes out of the manifest again would be seen by
    /// nobody until a program that writes finishes the split or merge.
    fn make_manifest_durable(&self) -> Result<(), Error> {
        let io = |source| Error::Io { doing: "sync", path: self.path.clone(), source };
        self.system.disk.sync_dir(&self.path).map_err(io)
    }

    /// The sequence number of a record.
    pub fn sequence(&self, shard: &ShardInfo, index: u64, arrival_us: i64) -> SequenceNumber {
        sequence(shard.id(), shard.created_s(), index, arrival_us)
    }
}

/// The sequence number of a record.
pub fn sequence(shard: ShardId, shard_created_s: u64, index: u64, arrival_us: i64) -> SequenceNumber {
    SequenceNumber { shard_created_s, index, arrival_s: (arrival_us / 1_000_000).max(0) as u64, shard }
}
