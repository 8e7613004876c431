//! Workers of a consumer and their leases on its shards.
//!
//! A lease is an owner and a counter in the consumer's state, changed under the consumer's lock. A worker holds an
//! exclusive lock on a file of its own, which a command that it runs inherits: when both are gone, however they went,
//! the kernel lets go of the lock and the leases are free at once; a command that has outlived its worker keeps them.
//! The file also carries the worker's heartbeat. One that has stopped (a worker that was stopped, a command without
//! its worker) frees the leases as well, after the command's process group was killed where that is permitted. Each
//! change of owner raises the counter, and a commit under an earlier one is refused.
//!
//! Shares are fair by giving, not by taking: a worker that has more than its part while another lacks some hands the
//! rest back when the batch in hand is done.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::checkpoint::Checkpoint;
use super::consumer::{Bookmark, Consumer, ConsumerState, Failure, Reservation, ShardState, WorkerNote};
use super::error::Error;
use super::manifest::Manifest;
use crate::log::Missed;
use crate::record::ShardId;
use crate::sys::process::Process;
use crate::sys::{File, Locks, System};

/// A heartbeat that is older than this has stopped, as in the service's client library.
pub const FAILOVER_DEFAULT: Duration = Duration::from_secs(10);
/// So many heartbeats are given in that time.
const BEATS: u32 = 5;
/// A heartbeat's file has this length, whatever it says: it is overwritten in place.
const BEAT_BYTES: usize = 256;

/// What a worker's file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Heartbeat {
    worker: Process,
    /// The command that it runs, the leader of a process group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Process>,
    boot_id: u64,
    /// On the clock that counts from that start of the machine, microseconds.
    at_us: i64,
    /// How old it may become.
    failover_us: i64,
}

/// The process of a worker whose lock somebody holds: it, or a command that it left behind.
pub(super) fn holder(system: &System, path: &Path) -> Option<u32> {
    if !is_held(system, path) {
        return None;
    }
    let heartbeat = system.disk.read(path, 4 * BEAT_BYTES).ok();
    // It is overwritten in place, and may not be whole for a moment.
    let heartbeat = heartbeat.and_then(|bytes| serde_json::from_slice::<Heartbeat>(&bytes).ok());
    Some(heartbeat.map_or(0, |heartbeat| heartbeat.worker.pid))
}

/// Whether somebody holds the lock of a worker's file.
pub(super) fn is_held(system: &System, path: &Path) -> bool {
    let Ok(locks) = system.disk.locks(path) else { return false };
    match locks.try_lock(0, true) {
        Ok(taken) => !taken,
        // It is gone: its worker has left.
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

/// What a look at the leases came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assignment {
    /// Shards that this worker holds from now on, and where it goes on.
    pub taken: Vec<(ShardId, Checkpoint)>,
    /// Shards that it is to hand back when the batch in hand is done: another has too few.
    pub surplus: Vec<ShardId>,
    /// Shards that another has taken over.
    pub lost: Vec<ShardId>,
    /// Shards that retention removed before they were read, and the records that were missed, where that is known.
    pub missed: Vec<(ShardId, Option<Missed>)>,
}

/// How far a worker has come in a shard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// The shard.
    pub shard: ShardId,
    /// Its new checkpoint. What comes before it is durable.
    pub to: Checkpoint,
    /// How many records that is beyond the last.
    pub records: u64,
    /// How many bytes of data they have.
    pub bytes: u64,
}

/// One process that reads for a consumer.
pub struct Worker {
    consumer: Consumer,
    id: String,
    stays: bool,
    failover: Duration,
    /// Held as long as the worker lives.
    lock: Arc<dyn Locks>,
    pulse: Arc<Pulse>,
    /// Dropped to end the heartbeat.
    beating: Option<Sender<()>>,
    beater: Option<JoinHandle<()>>,
    /// The shards it holds, and under which count.
    leases: BTreeMap<ShardId, u64>,
    /// The heartbeats of others, and since when they have not changed.
    seen: BTreeMap<String, (i64, Instant)>,
}

/// The heartbeat, written by a thread of its own: a worker may wait for hours on a slow reader.
struct Pulse {
    system: System,
    file: Arc<dyn File>,
    worker: Process,
    failover_us: i64,
    command: AtomicU32,
    last_us: AtomicI64,
    /// Set when a heartbeat came so late that others may have taken over, until the leases are looked at. The thread that
    /// gives the heartbeats goes on as soon as the process does, and its next one alone would hide that.
    was_late: AtomicBool,
}

impl Pulse {
    fn beat(&self) -> std::io::Result<()> {
        let at_us = self.system.clock.boot_us();
        let command = match self.command.load(Ordering::SeqCst) {
            0 => None,
            pid => Some(Process::of(pid)),
        };
        let heartbeat = Heartbeat {
            worker: self.worker,
            command,
            boot_id: self.system.clock.boot_id(),
            at_us,
            failover_us: self.failover_us,
        };
        let mut line = serde_json::to_vec(&heartbeat)?;
        line.resize(BEAT_BYTES - 1, b' ');
        line.push(b'\n');
        if self.is_late(at_us) {
            self.was_late.store(true, Ordering::SeqCst);
        }
        self.file.write_at(&[IoSlice::new(&line)], 0)?;
        self.last_us.store(at_us, Ordering::SeqCst);
        Ok(())
    }

    fn is_late(&self, now_us: i64) -> bool {
        now_us - self.last_us.load(Ordering::SeqCst) > self.failover_us * 3 / 4
    }
}

impl Worker {
    /// Begins to read for a consumer. A worker that `stays` takes part in sharing the shards fairly.
    pub fn join(consumer: Consumer, stays: bool, failover: Duration) -> Result<Self, Error> {
        let system = consumer.system().clone();
        let id = Uuid::new_v4().simple().to_string();
        let path = consumer.worker_path(&id);
        let io = |doing: &'static str| {
            let path = path.clone();
            move |source| Error::Io { doing, path, source }
        };
        let lock = system.disk.create_locks(&path).map_err(io("create"))?;
        lock.lock(0, true).map_err(io("lock"))?;
        let file = system.disk.open_writable(&path).map_err(io("open"))?;
        let boot_us = system.clock.boot_us();
        let pulse = Arc::new(Pulse {
            system,
            file,
            worker: Process::this(),
            failover_us: failover.as_micros() as i64,
            command: AtomicU32::new(0),
            last_us: AtomicI64::new(boot_us),
            was_late: AtomicBool::new(false),
        });
        pulse.beat().map_err(io("write"))?;
        let (beating, ended) = channel::<()>();
        let theirs = Arc::clone(&pulse);
        let beater = std::thread::spawn(move || {
            while ended.recv_timeout(failover / BEATS) == Err(RecvTimeoutError::Timeout) {
                // A full disk does not stop it: the file has its length already.
                let _ = theirs.beat();
            }
        });
        Ok(Self {
            consumer,
            id,
            stays,
            failover,
            lock,
            pulse,
            beating: Some(beating),
            beater: Some(beater),
            leases: BTreeMap::new(),
            seen: BTreeMap::new(),
        })
    }

    /// The consumer.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// The shards that it holds.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.leases.keys().copied()
    }

    /// Whether its heartbeat has been silent for so long (the process was stopped, the machine slept) that others may
    /// have taken over: then look at the leases before anything is handed out.
    pub fn was_silent(&self) -> bool {
        self.pulse.was_late.load(Ordering::SeqCst) || self.pulse.is_late(self.pulse.system.clock.boot_us())
    }

    /// As if it had been stopped for long.
    #[cfg(test)]
    pub(super) fn fall_silent(&self) {
        self.pulse.last_us.fetch_sub(self.pulse.failover_us, Ordering::SeqCst);
    }

    /// Whether a command that is started now keeps the leases as long as it lives.
    pub fn inherit(&self, on: bool) -> Result<(), Error> {
        self.lock.inherit(on).map_err(|source| Error::Io {
            doing: "keep",
            path: self.consumer.worker_path(&self.id),
            source,
        })
    }

    /// Says which command it runs, the leader of a process group: whoever takes over kills it.
    pub fn runs(&self, command: Option<u32>) {
        self.pulse.command.store(command.unwrap_or(0), Ordering::SeqCst);
        let _ = self.pulse.beat();
    }

    /// Looks at the leases: takes what is free and its part, and says what has changed.
    pub fn assign(&mut self) -> Result<Assignment, Error> {
        let consumer = self.consumer.clone();
        let now = consumer.system().clock.now_us();
        // First: a silence that comes while they are looked at wants another look.
        self.pulse.was_late.store(false, Ordering::SeqCst);
        let (found, leases) = consumer.update(|state| {
            let manifest = consumer.manifest()?;
            let mut leases = self.leases.clone();
            let mut found = Assignment { missed: follow_manifest(state, &manifest), ..Assignment::default() };
            self.bury_the_dead(state);
            state.workers.entry(self.id.clone()).or_insert_with(|| WorkerNote {
                pid: self.pulse.worker.pid,
                since_us: now,
                stays: self.stays,
            });
            for shard in state.shards.values_mut() {
                // Its time is up: the range is handed out again.
                if shard.reserved.as_ref().is_some_and(|reserved| reserved.until_us <= now) {
                    shard.reserved = None;
                }
            }
            let lost = |shard: &ShardId, counter: &mut u64| !holds(state, &self.id, *shard, *counter);
            found.lost = leases.extract_if(.., lost).map(|(shard, _)| shard).collect();
            self.share(state, &manifest, &mut leases, &mut found);
            Ok((found, leases))
        })?;
        self.leases = leases;
        Ok(found)
    }

    /// Frees what workers held that are no more.
    fn bury_the_dead(&mut self, state: &mut ConsumerState) {
        let others: Vec<String> = state.workers.keys().filter(|id| **id != self.id).cloned().collect();
        self.seen.retain(|id, _| state.workers.contains_key(id));
        for id in others {
            let path = self.consumer.worker_path(&id);
            let disk = &self.consumer.system().disk;
            if is_held(self.consumer.system(), &path) {
                if !self.has_stopped(&id) {
                    continue;
                }
            } else {
                let _ = disk.remove(&path);
                if let Some(worker) = state.workers.get(&id) {
                    self.consumer.sweep(worker.pid);
                }
            }
            state.workers.remove(&id);
            for shard in state.shards.values_mut().filter(|shard| shard.owner.as_ref() == Some(&id)) {
                shard.owner = None;
            }
        }
    }

    /// Whether a worker whose lock is held has given no heartbeat for too long. What it runs is killed then.
    fn has_stopped(&mut self, id: &str) -> bool {
        let system = self.consumer.system();
        let Ok(bytes) = system.disk.read(&self.consumer.worker_path(id), 4 * BEAT_BYTES) else {
            return false;
        };
        // Overwritten while it was read.
        let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(&bytes) else { return false };
        let (_, since) = match self.seen.get(id) {
            Some(seen) if seen.0 == heartbeat.at_us => *seen,
            _ => {
                self.seen.insert(id.to_owned(), (heartbeat.at_us, Instant::now()));
                return false;
            }
        };
        // Old by the clock that counts sleep, and seen not to change by the one that does not: after the machine has
        // slept every heartbeat is old.
        let age_us = system.clock.boot_us() - heartbeat.at_us;
        let same_boot = heartbeat.boot_id == system.clock.boot_id();
        let patience = Duration::from_micros(heartbeat.failover_us as u64) / BEATS * 2;
        if same_boot && age_us <= heartbeat.failover_us || since.elapsed() < patience {
            return false;
        }
        if let Some(command) = heartbeat.command {
            command.kill_group();
        }
        true
    }

    /// Whether a worker that seems to have stopped must be watched a little longer before that is certain.
    pub fn suspects(&self) -> bool {
        let now_us = self.pulse.system.clock.boot_us();
        self.seen.values().any(|(at_us, _)| now_us - at_us > self.failover.as_micros() as i64)
    }

    /// Takes free shards, or says which to hand back.
    fn share(
        &self,
        state: &mut ConsumerState,
        manifest: &Manifest,
        leases: &mut BTreeMap<ShardId, u64>,
        found: &mut Assignment,
    ) {
        let ready: Vec<u32> =
            state.shards.keys().copied().filter(|&s| is_ready(state, manifest, s)).collect();
        let owner = |state: &ConsumerState, shard: u32| state.shards[&shard].owner.clone();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (id, worker) in &state.workers {
            if worker.stays || *id == self.id {
                counts.insert(id.clone(), 0);
            }
        }
        let mut shared = 0;
        for &shard in &ready {
            let counted = match owner(state, shard) {
                Some(id) => counts.get_mut(&id).map(|count| *count += 1).is_some(),
                None => true,
            };
            shared += usize::from(counted);
        }
        let (least, most) = (shared / counts.len(), shared.div_ceil(counts.len()));
        let lacking = |counts: &BTreeMap<String, usize>, but: &str| -> usize {
            counts.iter().filter(|(id, _)| *id != but).map(|(_, &count)| least.saturating_sub(count)).sum()
        };
        let mut free: Vec<u32> = ready.iter().copied().filter(|&s| owner(state, s).is_none()).collect();
        let mut mine = counts[&self.id];
        let others_lack = lacking(&counts, &self.id);
        while let Some(&shard) = free.first() {
            if mine >= most || mine >= least && free.len() <= others_lack {
                break;
            }
            free.remove(0);
            mine += 1;
            let Some(known) = state.shards.get_mut(&shard) else { continue };
            known.owner = Some(self.id.clone());
            known.counter += 1;
            leases.insert(ShardId(shard), known.counter);
            found.taken.push((ShardId(shard), known.checkpoint));
        }
        if self.stays {
            let wanted = others_lack.saturating_sub(free.len());
            let extra = mine.saturating_sub(most).max(mine.saturating_sub(least).min(wanted));
            // Those with the highest numbers: the youngest.
            let held = ready.iter().rev().filter(|&&s| owner(state, s).as_ref() == Some(&self.id));
            found.surplus = held.take(extra).map(|&shard| ShardId(shard)).collect();
        }
    }

    /// Writes progress down and answers which of these shards another has taken over, whose progress was refused.
    pub fn commit(&mut self, progress: &[Progress]) -> Result<Vec<ShardId>, Error> {
        if progress.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.consumer.system().clock.now_us();
        let (lost, leases) = self.consumer.update(|state| {
            let (mut lost, mut leases) = (Vec::new(), self.leases.clone());
            for step in progress {
                let counter = leases.get(&step.shard).copied();
                match counter.and_then(|counter| held(state, &self.id, step.shard, counter)) {
                    Some(known) if step.to >= known.checkpoint => {
                        known.advance(step.to, step.records, step.bytes, now);
                        if step.to.is_end() {
                            known.owner = None;
                            leases.remove(&step.shard);
                        }
                    }
                    // Never backwards.
                    Some(_) => {}
                    None => {
                        leases.remove(&step.shard);
                        lost.push(step.shard);
                    }
                }
            }
            Ok((lost, leases))
        })?;
        self.leases = leases;
        Ok(lost)
    }

    /// Hands shards back.
    pub fn release(&mut self, shards: &[ShardId]) -> Result<(), Error> {
        if shards.is_empty() {
            return Ok(());
        }
        self.consumer.update(|state| {
            for shard in shards {
                let counter = self.leases.get(shard).copied();
                if let Some(known) = counter.and_then(|counter| held(state, &self.id, *shard, counter)) {
                    known.owner = None;
                }
            }
            Ok(())
        })?;
        self.leases.retain(|shard, _| !shards.contains(shard));
        Ok(())
    }

    /// Reserves what was handed out until the bookmark is committed or its time is up, and hands the shards back.
    pub fn reserve(&mut self, progress: &[Progress], time: Duration) -> Result<Bookmark, Error> {
        let now = self.consumer.system().clock.now_us();
        let until_us = now.saturating_add(time.as_micros() as i64);
        let token = Uuid::new_v4();
        let bookmark = self.consumer.update(|state| {
            let mut bookmark = Bookmark {
                stream_id: state.stream_id,
                consumer: self.consumer.name().to_owned(),
                token,
                until_us,
                shards: Vec::new(),
                ends: Vec::new(),
                records: 0,
            };
            for &Progress { shard, to, records, bytes } in progress {
                let counter = self.leases.get(&shard).copied();
                let Some(known) = counter.and_then(|counter| held(state, &self.id, shard, counter)) else {
                    return Err(Error::StaleBookmark { shard });
                };
                known.owner = None;
                known.reserved = Some(Reservation { token, until_us, to, records, bytes });
                bookmark.shards.push(shard.0);
                bookmark.ends.push(to);
                bookmark.records += records;
            }
            Ok(bookmark)
        })?;
        self.leases.retain(|shard, _| !bookmark.shards.contains(&shard.0));
        Ok(bookmark)
    }

    /// Notes that the command failed on the next records of a shard.
    pub fn note_failure(&mut self, shard: ShardId, failure: &Failure) -> Result<(), Error> {
        let counter = self.leases.get(&shard).copied().unwrap_or(0);
        self.consumer.update(|state| {
            if let Some(known) = held(state, &self.id, shard, counter) {
                known.failure = Some(failure.clone());
            }
            Ok(())
        })
    }

    /// Ends: hands everything back.
    pub fn leave(mut self) -> Result<(), Error> {
        self.consumer.update(|state| {
            state.workers.remove(&self.id);
            for shard in state.shards.values_mut().filter(|s| s.owner.as_ref() == Some(&self.id)) {
                shard.owner = None;
            }
            Ok(())
        })?;
        self.leases.clear();
        // Nobody knows it any more; under its lock nobody ever will.
        let _ = self.consumer.system().disk.remove(&self.consumer.worker_path(&self.id));
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.beating = None;
        if let Some(beater) = self.beater.take() {
            let _ = beater.join();
        }
    }
}

fn holds(state: &ConsumerState, id: &str, shard: ShardId, counter: u64) -> bool {
    state
        .shards
        .get(&shard.0)
        .is_some_and(|known| known.owner.as_deref() == Some(id) && known.counter == counter)
}

fn held<'s>(
    state: &'s mut ConsumerState,
    id: &str,
    shard: ShardId,
    counter: u64,
) -> Option<&'s mut ShardState> {
    let known = state.shards.get_mut(&shard.0)?;
    (known.owner.as_deref() == Some(id) && known.counter == counter).then_some(known)
}

/// Takes up the shards that have come into being, forgets those that have expired, and answers which of the latter
/// had not been read to their end.
pub(super) fn follow_manifest(
    state: &mut ConsumerState,
    manifest: &Manifest,
) -> Vec<(ShardId, Option<Missed>)> {
    for info in &manifest.shards {
        state.shards.entry(info.shard).or_insert_with(|| ShardState::at(Checkpoint::START));
    }
    let expired = state.shards.extract_if(.., |&shard, _| manifest.shard(ShardId(shard)).is_none());
    expired
        .filter_map(|(shard, known)| {
            let from = known.checkpoint.next_index()?;
            let Some(&to) = manifest.expired.get(&shard) else { return Some((ShardId(shard), None)) };
            // All was read, and only the end itself was not met.
            (from < to).then_some((ShardId(shard), Some(Missed { from, to, repaired: false })))
        })
        .collect()
}

/// Whether a shard may be read: it is not done, nobody has it in his hands, and its parents are done.
pub(super) fn is_ready(state: &ConsumerState, manifest: &Manifest, shard: u32) -> bool {
    let Some(known) = state.shards.get(&shard) else { return false };
    let parents = manifest.shard(ShardId(shard)).map_or(&[][..], |info| &info.parents);
    let done = |parent: &u32| state.shards.get(parent).is_none_or(|known| known.checkpoint.is_end());
    !known.checkpoint.is_end() && known.reserved.is_none() && parents.iter().all(done)
}
