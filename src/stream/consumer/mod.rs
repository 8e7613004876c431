//! Named consumers: how far each has come, shard by shard, and who reads for it.
//!
//! ```text
//! STREAM/consumers/NAME/
//!     lock           permanent, empty: whoever changes the state holds it
//!     state.json     places, leases and reservations, replaced whole
//!     workers/ID     a worker's heartbeat; the worker, and a command that it runs, hold a lock on it
//! ```
//!
//! A place is written down only after the records before it have been made durable, or a power loss could take records
//! that a consumer has counted and give their numbers' successors to a producer: the consumer would be ahead of the
//! stream. See [`lease`](super::lease) for how several workers share the shards.
//!
//! A process may be stopped at any moment, for good, and the lock is never broken. So nothing that takes time is done
//! under it: a new state is made and written beside the old one first, and under the lock it takes its place if the old
//! one is still what the new one was made of. Whoever waits for the lock all the same says so, and can be told to give
//! up.

mod bookmark;
mod state;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

pub use bookmark::{Bookmark, Committed};
pub use state::{ConsumerState, Failure, Reservation, Sample, ShardState, WorkerNote};

use super::checkpoint::Checkpoint;
use super::cursor::{Place, ShardCursor};
use super::error::Error;
use super::lease::FAILOVER_DEFAULT;
use super::manifest::{Manifest, ShardInfo};
use super::span::Start;
use super::{Stream, document};
use crate::record::ShardId;
use crate::sys::process::Process;
use crate::sys::{Locks, System};

const STATE_NAME: &str = "state.json";
const LOCK_NAME: &str = "lock";
const WORKERS_NAME: &str = "workers";
const KIND: &str = "consumer";
const VERSION: u32 = 1;
/// Ten thousand shards take about 5 MB.
const STATE_BYTES_MAX: usize = 256 << 20;

/// The lock is held for as long as it takes to give a file another name: so soon and so seldom it is tried again.
const PAUSE_LEAST: Duration = Duration::from_micros(100);
const PAUSE_MOST: Duration = Duration::from_millis(50);
/// Who is asked to end still tries for so long to write down what was done.
const GRACE: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(2) };
/// After so long without the lock it is said who seems to hold it.
const SAID_AFTER: Duration = if cfg!(test) { Duration::from_millis(300) } else { FAILOVER_DEFAULT };

/// What a process does while it waits for another that holds a consumer's lock.
pub trait Patience: Send + Sync {
    /// An error once the wait is to end. What is in hand still has a moment.
    fn check(&self) -> io::Result<()>;
    /// Says what is waited for. Called once.
    fn tell(&self, text: &str);
}

/// Waits for ever and says nothing.
struct Silent;

impl Patience for Silent {
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    fn tell(&self, _: &str) {}
}

/// A named consumer of a stream.
#[derive(Clone)]
pub struct Consumer {
    system: System,
    patience: Arc<dyn Patience>,
    stream: PathBuf,
    stream_id: Uuid,
    name: String,
    dir: PathBuf,
}

impl Consumer {
    fn dir_of(stream: &Stream, name: &str) -> PathBuf {
        stream.path().join("consumers").join(name)
    }

    fn at(stream: &Stream, name: &str) -> Self {
        Self {
            system: stream.system().clone(),
            patience: Arc::new(Silent),
            stream: stream.path().to_owned(),
            stream_id: stream.manifest().stream_id,
            name: name.to_owned(),
            dir: Self::dir_of(stream, name),
        }
    }

    /// The consumer with this name.
    pub fn open(stream: &Stream, name: &str) -> Result<Self, Error> {
        if !stream.system().disk.exists(&Self::dir_of(stream, name).join(STATE_NAME)) {
            return Err(Error::NoConsumer { name: name.to_owned() });
        }
        Ok(Self::at(stream, name))
    }

    /// The consumer with this name, made to begin at `start` if there is none yet.
    pub fn open_or_create(
        stream: &Stream,
        name: &str,
        start: Start,
        patience: Option<Arc<dyn Patience>>,
    ) -> Result<Self, Error> {
        let mut consumer = Self::at(stream, name);
        if matches!(start, Start::At(_) | Start::After(_))
            && !stream.system().disk.exists(&consumer.dir.join(STATE_NAME))
        {
            // Before anything is made.
            return Err(cannot_begin());
        }
        consumer.patience = patience.unwrap_or(consumer.patience);
        loop {
            if stream.system().disk.exists(&consumer.dir.join(STATE_NAME)) {
                // A consumer that was copied with its stream is its state alone.
                return consumer.make_dirs(&[&consumer.dir.join("workers")]).map(|()| consumer);
            }
            match consumer.create(stream, start) {
                // Somebody deleted it meanwhile.
                Err(Error::NoConsumer { .. }) => {}
                Err(Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound
                        && stream.system().disk.exists(stream.path()) => {}
                other => return other.map(|_| consumer),
            }
        }
    }

    /// Makes its directories and its first state; `false` if another process was faster.
    fn create(&self, stream: &Stream, start: Start) -> Result<bool, Error> {
        let disk = &self.system.disk;
        let all = self.dir.parent().unwrap_or(&self.dir);
        self.make_dirs(&[all, &self.dir, &self.dir.join("workers")])?;
        let path = self.dir.join(LOCK_NAME);
        drop(disk.create_locks(&path).map_err(|source| Error::Io { doing: "create", path, source })?);
        // The names of its directories are durable before the state is there: whoever finds the state may rely on them,
        // though its maker was killed.
        for dir in [stream.path(), all] {
            let failed = |source| Error::Io { doing: "sync", path: dir.to_owned(), source };
            disk.sync_dir(dir).map_err(failed)?;
        }
        let state = ConsumerState {
            generation: 0,
            stream_id: self.stream_id,
            created_us: self.system.clock.now_us(),
            workers: BTreeMap::new(),
            shards: begin(stream, start)?,
        };
        self.swap(None, &state)
    }

    fn make_dirs(&self, dirs: &[&Path]) -> Result<(), Error> {
        for dir in dirs {
            match self.system.disk.create_dir(dir) {
                Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::Io { doing: "create", path: dir.to_path_buf(), source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Lets it say what it waits for, and be told to give up.
    #[must_use]
    pub fn patient(self, patience: Arc<dyn Patience>) -> Self {
        Self { patience, ..self }
    }

    /// The names of a stream's consumers.
    pub fn list(stream: &Stream) -> Result<Vec<String>, Error> {
        let path = stream.path().join("consumers");
        let mut names = match stream.system().disk.list(&path) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(Error::Io { doing: "list", path, source }),
        };
        names.retain(|name| stream.system().disk.exists(&path.join(name).join(STATE_NAME)));
        names.sort_unstable();
        Ok(names)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory: what is there changes when its state does.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The machine.
    pub(super) fn system(&self) -> &System {
        &self.system
    }

    /// The stream's manifest as it is now.
    pub(super) fn manifest(&self) -> Result<Manifest, Error> {
        Manifest::read(&self.system, &self.stream)
    }

    /// What is known of it, without waiting for anybody.
    pub fn state(&self) -> Result<ConsumerState, Error> {
        let bytes = self.bytes()?.ok_or_else(|| Error::NoConsumer { name: self.name.clone() })?;
        self.decode(&bytes)
    }

    /// The bytes of its state, if it has one.
    fn bytes(&self) -> Result<Option<Vec<u8>>, Error> {
        let path = self.dir.join(STATE_NAME);
        match self.system.disk.read(&path, STATE_BYTES_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { doing: "read", path, source }),
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<ConsumerState, Error> {
        let state: ConsumerState = document::decode(KIND, VERSION, &self.dir.join(STATE_NAME), bytes)?;
        // A copy that has become a stream of its own keeps its consumers' places, for it keeps the sequence numbers.
        Ok(ConsumerState { stream_id: self.stream_id, ..state })
    }

    /// Puts a state in the place of what was there before; `false` if something else is there by now.
    fn swap(&self, before: Option<&[u8]>, state: &ConsumerState) -> Result<bool, Error> {
        let (disk, path) = (&self.system.disk, self.dir.join(STATE_NAME));
        let failed = |source| Error::Io { doing: "write", path: path.clone(), source };
        let bytes = document::encode(KIND, VERSION, state)?;
        let new = disk.prepare(&path, &bytes).map_err(failed)?;
        let swapped = self.locked(|| {
            if self.bytes()?.as_deref() != before {
                return Ok(false);
            }
            match disk.rename(&new, &path) {
                // Swept away: a dead worker in another container had this process's number. It is made again.
                Err(e) if e.kind() == io::ErrorKind::NotFound && disk.exists(&self.dir) => Ok(false),
                other => other.map_err(failed).map(|()| true),
            }
        });
        if !matches!(swapped, Ok(true)) {
            let _ = disk.remove(&new);
            return swapped;
        }
        self.sync_names().map(|()| true)
    }

    /// Removes the states that a process which is no more has made and not put in their place.
    pub(super) fn sweep(&self, pid: u32) {
        if pid == std::process::id() {
            return;
        }
        let disk = &self.system.disk;
        for name in disk.list(&self.dir).unwrap_or_default() {
            if name.starts_with(&format!(".{STATE_NAME}.{pid}.")) {
                let _ = disk.remove(&self.dir.join(name));
            }
        }
    }

    fn sync_names(&self) -> Result<(), Error> {
        let failed = |source| Error::Io { doing: "sync", path: self.dir.clone(), source };
        self.system.disk.sync_dir(&self.dir).map_err(failed)
    }

    /// Works under the lock.
    fn locked<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        // The lock ends with `locks`.
        let _locks = loop {
            if let Some(locks) = self.lock()? {
                break locks;
            }
        };
        work()
    }

    /// The lock, once it is free; `None` if its file was removed meanwhile, with the consumer or alone.
    fn lock(&self) -> Result<Option<Arc<dyn Locks>>, Error> {
        let (disk, path) = (&self.system.disk, self.dir.join(LOCK_NAME));
        let failed = |doing: &'static str| {
            let path = path.clone();
            move |source| Error::Io { doing, path, source }
        };
        // Opened here, where something is about to change: who only looks may be allowed no more than that.
        let locks = match disk.locks(&path) {
            // A consumer that was copied with its stream has none yet.
            Err(e) if e.kind() == io::ErrorKind::NotFound && disk.exists(&self.dir.join(STATE_NAME)) => {
                disk.create_locks(&path).map_err(failed("create"))?
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoConsumer { name: self.name.clone() });
            }
            other => other.map_err(failed("open"))?,
        };
        let (mut pause, begun) = (PAUSE_LEAST, Instant::now());
        let (mut told, mut asked) = (false, None);
        loop {
            match locks.try_lock(0, true) {
                Ok(true) => return Ok(Some(locks)),
                Ok(false) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(failed("lock")(source)),
            }
            if let Err(asked_to) = self.patience.check()
                && asked.get_or_insert_with(Instant::now).elapsed() >= GRACE
            {
                return Err(failed("lock")(asked_to));
            }
            if !told && begun.elapsed() >= SAID_AFTER {
                told = true;
                self.patience.tell(&self.who_holds(&path));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    /// What keeps the lock from being free, for a person.
    fn who_holds(&self, lock: &Path) -> String {
        let waits =
            format!("consumer {}: its lock has not been free for {} s", self.name, SAID_AFTER.as_secs());
        let stopped = Process::stopped_with(lock);
        match stopped.first() {
            Some(pid) => {
                format!("{waits}: process {pid} is stopped and holds it (kill -CONT {pid} lets it go on)")
            }
            None => waits,
        }
    }

    /// Changes the state as `work` says. Where another process changes it meanwhile, `work` is done again on what that
    /// one made of it: it must leave nothing behind elsewhere. Where it leaves the state as it is nothing is written.
    pub(super) fn update<T>(
        &self,
        mut work: impl FnMut(&mut ConsumerState) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let bytes = self.bytes()?.ok_or_else(|| Error::NoConsumer { name: self.name.clone() })?;
            let before = self.decode(&bytes)?;
            let mut state = before.clone();
            let value = work(&mut state)?;
            if state == before {
                return Ok(value);
            }
            state.generation += 1;
            if self.swap(Some(&bytes), &state)? {
                return Ok(value);
            }
        }
    }

    /// Refuses while somebody reads for it. The workers' own files tell: the state may be damaged.
    fn refuse_busy(&self) -> Result<(), Error> {
        let workers = self.system.disk.list(&self.dir.join(WORKERS_NAME)).unwrap_or_default();
        match workers.iter().find_map(|id| super::lease::holder(&self.system, &self.worker_path(id))) {
            Some(pid) => Err(Error::ConsumerBusy { name: self.name.clone(), pid }),
            None => Ok(()),
        }
    }

    /// The file of a worker.
    pub(super) fn worker_path(&self, id: &str) -> PathBuf {
        self.dir.join(WORKERS_NAME).join(id)
    }

    /// Lets it begin anew, whatever its state is, damaged too.
    pub fn reset(&self, stream: &Stream, start: Start) -> Result<(), Error> {
        loop {
            self.refuse_busy()?;
            let bytes = self.bytes()?.ok_or_else(|| Error::NoConsumer { name: self.name.clone() })?;
            let mut state = match self.decode(&bytes) {
                Err(Error::Manifest { .. }) => ConsumerState {
                    generation: 0,
                    stream_id: self.stream_id,
                    created_us: self.system.clock.now_us(),
                    workers: BTreeMap::new(),
                    shards: BTreeMap::new(),
                },
                other => other?,
            };
            state.generation += 1;
            state.workers.clear();
            let mut shards = begin(stream, start)?;
            for (shard, next) in &mut shards {
                // What is held from before cannot commit.
                next.counter = state.shards.get(shard).map_or(0, |old| old.counter + 1);
            }
            state.shards = shards;
            if self.swap(Some(&bytes), &state)? {
                return Ok(());
            }
        }
    }

    /// Puts a state that cannot be read into the directory `keep`, which is made. The consumer begins anew then.
    pub(super) fn set_aside(&self, keep: &Path) -> Result<(), Error> {
        self.locked(|| {
            if !matches!(self.state(), Err(Error::Manifest { .. })) {
                // Somebody has reset or deleted it meanwhile.
                return Ok(());
            }
            let io = |doing, at: &Path| {
                let path = at.to_owned();
                move |source| Error::Io { doing, path, source }
            };
            let (disk, path) = (&self.system.disk, self.dir.join(STATE_NAME));
            let bytes = disk.read(&path, STATE_BYTES_MAX).map_err(io("read", &path))?;
            let kept = keep.join(STATE_NAME);
            disk.replace(&kept, &bytes).map_err(io("write", &kept))?;
            disk.remove(&path).map_err(io("remove", &path))?;
            disk.sync_dir(&self.dir).map_err(io("sync", &self.dir))
        })
    }

    /// Forgets it, whatever its state is.
    pub fn delete(self) -> Result<(), Error> {
        self.locked(|| {
            self.refuse_busy()?;
            let (disk, path) = (&self.system.disk, self.dir.join(STATE_NAME));
            // Without a state it is none: whoever waits for the lock finds that, or begins a new one.
            match disk.remove(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => {
                    other.map_err(|source| Error::Io { doing: "remove", path: path.clone(), source })?;
                }
            }
            loop {
                match disk.remove_dir_all(&self.dir) {
                    // Somebody has made it anew: that one is not this one's to remove.
                    Err(_) if disk.exists(&path) => return Ok(()),
                    // Somebody began to.
                    Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                    other => {
                        let path = self.dir.clone();
                        return other.map_err(|source| Error::Io { doing: "remove", path, source });
                    }
                }
            }
        })
    }

    /// Commits what was handed out for a bookmark: all of it or nothing.
    pub fn commit(&self, bookmark: &Bookmark) -> Result<Committed, Error> {
        if bookmark.stream_id != self.stream_id || bookmark.consumer != self.name {
            return Err(Error::Invalid(format!(
                "the bookmark is of consumer `{}`{}",
                bookmark.consumer,
                if bookmark.stream_id == self.stream_id { "" } else { " of another stream" }
            )));
        }
        let now = self.system.clock.now_us();
        let committed = self.update(|state| {
            // Another may have been committed since, further on.
            let done = |(i, shard): (usize, &u32)| {
                let end = bookmark.ends.get(i);
                state.shards.get(shard).is_some_and(|known| {
                    known.bookmark == Some(bookmark.token) || end.is_some_and(|&end| known.checkpoint >= end)
                })
            };
            if bookmark.shards.iter().enumerate().all(done) {
                return Ok(if bookmark.shards.is_empty() { Committed::Now } else { Committed::Before });
            }
            for &shard in &bookmark.shards {
                let known = state.shards.get_mut(&shard);
                let reserved = known.as_ref().and_then(|known| known.reserved.clone());
                match (known, reserved) {
                    (Some(known), Some(reserved)) if reserved.token == bookmark.token => {
                        known.reserved = None;
                        known.bookmark = Some(bookmark.token);
                        known.advance(reserved.to, reserved.records, reserved.bytes, now);
                    }
                    _ => return Err(Error::StaleBookmark { shard: ShardId(shard) }),
                }
            }
            Ok(Committed::Now)
        })?;
        if committed == Committed::Before {
            // Whoever did it may not have come to that yet.
            self.sync_names()?;
        }
        Ok(committed)
    }
}

/// The places in the bytes of a state: the index of the next record in each shard that is not done.
pub(super) fn places(path: &Path, state: &[u8]) -> Result<Vec<(ShardId, u64)>, Error> {
    let state: ConsumerState = document::decode(KIND, VERSION, path, state)?;
    let place = |(&shard, known): (&u32, &ShardState)| Some((ShardId(shard), known.checkpoint.next_index()?));
    Ok(state.shards.iter().filter_map(place).collect())
}

/// The bytes of a state in a copy of its stream. Nobody reads there; and in one that is `new`, under a UUID of its own, no
/// bookmark can be committed, so that none is waited for.
pub(super) fn moved(path: &Path, bytes: Vec<u8>, new: bool) -> Result<Vec<u8>, Error> {
    let before: ConsumerState = document::decode(KIND, VERSION, path, &bytes)?;
    let mut state = before.clone();
    state.workers.clear();
    for shard in state.shards.values_mut() {
        shard.owner = None;
        shard.reserved.take_if(|_| new);
    }
    if state == before { Ok(bytes) } else { document::encode(KIND, VERSION, &state) }
}

fn cannot_begin() -> Error {
    Error::Invalid("a consumer begins at trim-horizon, latest or a time, for it reads all shards".to_owned())
}

/// The first places. A place applies to the shards that are there now; those that come into being later are children,
/// and read from their start, or there would be a gap.
pub(super) fn begin(stream: &Stream, start: Start) -> Result<BTreeMap<u32, ShardState>, Error> {
    let horizon = stream.manifest().horizon_us(stream.system().clock.now_us());
    let place_of = |info: &ShardInfo| match start {
        Start::TrimHorizon => Ok(Some(horizon.map_or(Place::Start, Place::Time))),
        Start::Latest => Ok(info.is_open().then_some(Place::End)),
        Start::Time(time_us) => Ok(Some(Place::Time(horizon.map_or(time_us, |h| h.max(time_us))))),
        Start::At(_) | Start::After(_) => Err(cannot_begin()),
    };
    let mut shards = BTreeMap::new();
    for info in &stream.manifest().shards {
        let checkpoint = match place_of(info)? {
            Some(place) => Checkpoint::Index { index: ShardCursor::open(stream, info, place)?.next_index() },
            None => Checkpoint::ShardEnd,
        };
        shards.insert(info.shard, ShardState::at(checkpoint));
    }
    Ok(shards)
}
