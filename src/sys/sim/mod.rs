//! A machine in memory whose power can be cut: the disk under the log's crash tests.
//!
//! Faults that it can produce (compare `TigerBeetle`'s `testing/storage.zig` and the ALICE and fsyncgate papers):
//!
//! * Power loss, now or at the n-th operation. Of the writes that no sync covered any subset survives, torn at each
//!   512-byte sector. A sector that is lost inside the file holds what was there before, or zeros, or garbage. The
//!   file's length survives independently of its bytes. Names that no sync of their directory covered survive as a
//!   prefix in the order of the journal, or as any subset. A new boot id; all handles and locks are gone.
//! * The death of a process: at the n-th operation, inside a write too. What it wrote stays; its locks go.
//! * A sync that fails. What it should have covered is taken for clean and never reaches the disk; the next sync
//!   "succeeds"; memory shows the bytes until they are read back from the device.
//! * A full disk, with the part of the write that did fit left in the file.
//! * A write that fails after some bytes, or after all of them.
//! * A file that cannot be created; a directory whose sync fails.
//! * A clock that is set back.
//! * Bytes that change on their own ([`Machine::put`]).

mod handle;
mod inode;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use handle::{Handle, Owner};
pub(crate) use inode::Random;
use inode::{Entry, Inode, NameChange};

use super::{Clock, Disk, File, Kind, Locks, NOTE_BYTES, Stat, System};

/// What is to go wrong, and when.
#[derive(Default)]
pub(crate) struct Faults {
    /// The machine stops at this operation (counted from 1), which happens in part or not at all.
    pub(crate) stop_at: Option<u64>,
    /// How many syncs from now the one that fails is (1 is the next).
    pub(crate) sync_fails: Option<u64>,
    /// The same for syncs of directories.
    pub(crate) dir_sync_fails: Option<u64>,
    /// How many writes from now the one that fails is, and after how many bytes.
    pub(crate) write_fails: Option<(u64, usize)>,
    /// Names that end like this cannot be created.
    pub(crate) no_names: Option<&'static str>,
    /// Bytes on the disk.
    pub(crate) capacity: Option<u64>,
}

/// Counts down to the one that fails.
fn due(count: &mut Option<u64>) -> bool {
    match count {
        Some(1) => {
            *count = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

struct State {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, Entry>,
    durable_names: BTreeMap<PathBuf, Entry>,
    name_changes: Vec<NameChange>,
    locks: BTreeMap<(PathBuf, u64), Vec<(u64, bool)>>,
    /// They outlive a power loss here: whoever believes one after it is wrong.
    notes: BTreeMap<(PathBuf, u32), [u8; NOTE_BYTES]>,
    numbers: u64,
    boot: u64,
    now_us: i64,
    operations: u64,
    syncs: u64,
    stopped: bool,
    faults: Faults,
}

fn stopped() -> io::Error {
    io::Error::other("the machine has stopped")
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Counts an operation; `true` if it is the one at which the machine stops.
    fn operation(&mut self) -> io::Result<bool> {
        if self.stopped {
            return Err(stopped());
        }
        self.operations += 1;
        if self.faults.stop_at == Some(self.operations) {
            self.stopped = true;
        }
        Ok(self.stopped)
    }

    fn whole_operation(&mut self) -> io::Result<()> {
        if self.operation()? { Err(stopped()) } else { Ok(()) }
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        if self.stopped {
            return Err(stopped());
        }
        match self.names.get(path) {
            Some(Entry::File(inode)) => Ok(*inode),
            Some(Entry::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename_or_add(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn vacant(&self, path: &Path) -> io::Result<()> {
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        match path.parent().and_then(|dir| self.names.get(dir)) {
            Some(Entry::Directory) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn used(&self) -> u64 {
        self.inodes.values().map(|inode| inode.live.len() as u64).sum()
    }

    fn room(&self) -> u64 {
        self.faults.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }
}

/// The machine. Clones are the same machine.
#[derive(Clone)]
pub(crate) struct Machine(Arc<Mutex<State>>);

impl Machine {
    /// A machine with one empty directory, `/s`.
    pub(crate) fn new() -> Self {
        let names =
            BTreeMap::from([(PathBuf::from("/"), Entry::Directory), (PathBuf::from("/s"), Entry::Directory)]);
        Self(Arc::new(Mutex::new(State {
            inodes: BTreeMap::new(),
            durable_names: names.clone(),
            names,
            name_changes: Vec::new(),
            locks: BTreeMap::new(),
            notes: BTreeMap::new(),
            numbers: 0,
            boot: 1,
            now_us: 1_700_000_000_000_000,
            operations: 0,
            syncs: 0,
            stopped: false,
            faults: Faults::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn system(&self) -> System {
        System { disk: Arc::new(self.clone()), clock: Arc::new(self.clone()) }
    }

    /// Sets what is to go wrong from now on.
    pub(crate) fn fail(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Bytes that files take, those without a name included.
    pub(crate) fn used(&self) -> u64 {
        self.state().used()
    }

    /// Whether it has come to the operation at which it was to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    pub(crate) fn set_clock(&self, now_us: i64) {
        self.state().now_us = now_us;
    }

    /// Operations so far, and how many of them were syncs of files.
    pub(crate) fn operations(&self) -> (u64, u64) {
        let state = self.state();
        (state.operations, state.syncs)
    }

    /// The power goes and comes back.
    pub(crate) fn crash(&self, seed: u64) {
        let mut random = Random::new(seed);
        let mut state = self.state();
        let state = &mut *state;
        let changes = std::mem::take(&mut state.name_changes);
        let mut names = state.durable_names.clone();
        let prefix = random.below(changes.len() as u64 + 1) as usize;
        let any_subset = random.percent(50);
        for (i, change) in changes.iter().enumerate() {
            if if any_subset { random.percent(50) } else { i < prefix } {
                change.apply(&mut names);
            }
        }
        let orphans: Vec<PathBuf> = names
            .keys()
            .filter(|path| path.ancestors().skip(1).any(|dir| !names.contains_key(dir)))
            .cloned()
            .collect();
        for orphan in orphans {
            names.remove(&orphan);
        }
        state.names.clone_from(&names);
        state.durable_names = names;
        for inode in state.inodes.values_mut() {
            inode.survive(&mut random);
        }
        state.locks.clear();
        state.boot += 1;
        state.stopped = false;
        state.faults = Faults { capacity: state.faults.capacity, ..Faults::default() };
    }

    /// After a stop it was only a process that died: everything that was written is there.
    /// Returns whether it had stopped.
    pub(crate) fn resume(&self) -> bool {
        let mut state = self.state();
        state.faults = Faults::default();
        std::mem::take(&mut state.stopped)
    }

    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        let inode = state.file(path).expect("the file is there");
        state.inodes[&inode].live.clone()
    }

    /// Puts bytes into a file behind everybody's back, as a disk that goes bad would.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let inode = state.file(path).unwrap_or_else(|_| {
            let inode = state.number();
            state.names.insert(path.to_owned(), Entry::File(inode));
            state.durable_names.insert(path.to_owned(), Entry::File(inode));
            inode
        });
        state
            .inodes
            .insert(inode, Inode { live: bytes.to_vec(), durable: bytes.to_vec(), dirty: Vec::new() });
    }
}

impl Disk for Machine {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let state = self.state();
        let inode = state.file(path)?;
        Ok(Arc::new(Handle { machine: self.clone(), inode, boot: state.boot }))
    }

    fn open_writable(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.whole_operation()?;
        state.vacant(path)?;
        if state.faults.no_names.is_some_and(|end| path.to_string_lossy().ends_with(end)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if state.room() == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = state.number();
        state.inodes.insert(inode, Inode::default());
        state.rename_or_add(NameChange::Add(path.to_owned(), Entry::File(inode)));
        Ok(Arc::new(Handle { machine: self.clone(), inode, boot: state.boot }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_operation()?;
        let inode = state.file(from)?;
        let entry = Entry::File(inode);
        state.rename_or_add(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), entry });
        Ok(())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().vacant(to)?;
        self.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_operation()?;
        state.vacant(to)?;
        let inode = state.file(from)?;
        state.rename_or_add(NameChange::Add(to.to_owned(), Entry::File(inode)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_operation()?;
        state.file(path)?;
        state.rename_or_add(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_operation()?;
        state.vacant(path)?;
        state.rename_or_add(NameChange::Add(path.to_owned(), Entry::Directory));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_operation()?;
        let gone: Vec<PathBuf> = state.names.keys().filter(|name| name.starts_with(path)).cloned().collect();
        for name in gone.into_iter().rev() {
            state.rename_or_add(NameChange::Remove(name));
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_operation()?;
        let State { names, durable_names, name_changes, faults, .. } = &mut *state;
        if names.get(path) != Some(&Entry::Directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if due(&mut faults.dir_sync_fails) {
            return Err(io::Error::other("the directory cannot be synced"));
        }
        name_changes.retain(|change| {
            let here = change.dir() == path;
            if here {
                change.apply(durable_names);
            }
            !here
        });
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if state.stopped {
            return Err(stopped());
        }
        if state.names.get(path) != Some(&Entry::Directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let behind = (Bound::Excluded(path.to_owned()), Bound::Unbounded);
        Ok(state
            .names
            .range(behind)
            .map(|(name, _)| name)
            .take_while(|name| name.starts_with(path))
            .filter(|name| name.parent() == Some(path))
            .filter_map(|name| Some(name.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.state().names.contains_key(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let state = self.state();
        let (kind, len) = match state.names.get(path).ok_or(io::ErrorKind::NotFound)? {
            Entry::Directory => (Kind::Directory, 0),
            Entry::File(inode) => (Kind::File, state.inodes[inode].live.len() as u64),
        };
        Ok(Stat { kind, len, modified_us: state.now_us })
    }

    // The table is the machine's own and no file: it is always there.
    fn locks(&self, path: &Path) -> io::Result<Arc<dyn Locks>> {
        self.create_locks(path)
    }

    fn create_locks(&self, path: &Path) -> io::Result<Arc<dyn Locks>> {
        let number = self.state().number();
        Ok(Arc::new(Owner { machine: self.clone(), path: path.to_owned(), number }))
    }
}

impl Clock for Machine {
    fn now_us(&self) -> i64 {
        self.state().now_us
    }

    fn boot_us(&self) -> i64 {
        self.state().now_us
    }

    fn boot_id(&self) -> u64 {
        self.state().boot
    }
}
