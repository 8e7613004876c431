//! A machine in memory whose power can be cut: the disk under the log's crash tests.
//!
//! Faults that it can produce (compare TigerBeetle's `testing/storage.zig` and the ALICE and fsyncgate papers):
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

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Clock, Disk, File, Locks, System};

/// The unit in which a disk writes: within one, a write happens or does not.
const SECTOR: u64 = 512;

/// Numbers that are the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `SplitMix64`.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What a file has been told since its last sync.
#[derive(Clone)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let start = *offset as usize;
                let end = start + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[start..end].copy_from_slice(bytes);
            }
            Self::Length(len) => to.resize(*len as usize, 0),
        }
    }
}

#[derive(Default)]
struct Inode {
    /// What every process sees.
    live: Vec<u8>,
    /// What a power loss cannot take.
    durable: Vec<u8>,
    /// What stands between the two, unless a sync has failed.
    dirty: Vec<Change>,
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.dirty.push(change);
    }

    /// What the file holds when the power comes back.
    fn survive(&mut self, random: &mut Random) {
        let chance = [0, 30, 80, 100][random.below(4) as usize];
        let mut bytes = self.durable.clone();
        let mut lengths = vec![bytes.len(), self.live.len()];
        let mut shape = self.durable.clone();
        for change in &self.dirty {
            change.apply(&mut shape);
            lengths.push(shape.len());
            match change {
                Change::Write { offset, bytes: written } => {
                    let end = offset + written.len() as u64;
                    let mut at = *offset;
                    while at < end {
                        let until = (at / SECTOR + 1).saturating_mul(SECTOR).min(end);
                        let part = &written[(at - offset) as usize..(until - offset) as usize];
                        if random.percent(chance) {
                            Change::Write { offset: at, bytes: part.to_vec() }.apply(&mut bytes);
                        } else if until as usize > bytes.len() && random.percent(50) {
                            let garbage = part.iter().map(|_| random.next() as u8).collect();
                            Change::Write { offset: at, bytes: garbage }.apply(&mut bytes);
                        }
                        at = until;
                    }
                }
                Change::Length(len) => {
                    if random.percent(chance) {
                        bytes.resize(*len as usize, 0);
                    }
                }
            }
        }
        let shortest = self.dirty.iter().fold(self.durable.len(), |low, change| match change {
            Change::Length(len) => low.min(*len as usize),
            Change::Write { .. } => low,
        });
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let len = match random.below(3) {
            0 => bytes.len(),
            1 => lengths[random.below(lengths.len() as u64) as usize],
            _ => shortest + random.below((longest - shortest) as u64 + 1) as usize,
        };
        bytes.resize(len.max(shortest), 0);
        self.live.clone_from(&bytes);
        self.durable = bytes;
        self.dirty.clear();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Directory,
    File(u64),
}

/// What a directory has been told since its last sync.
#[derive(Clone)]
enum NameChange {
    Add(PathBuf, Entry),
    Remove(PathBuf),
    Rename { from: PathBuf, to: PathBuf, entry: Entry },
}

impl NameChange {
    fn dir(&self) -> &Path {
        let (Self::Add(path, _) | Self::Remove(path) | Self::Rename { to: path, .. }) = self;
        path.parent().unwrap_or(Path::new(""))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Entry>) {
        match self {
            Self::Add(path, entry) => drop(names.insert(path.clone(), *entry)),
            Self::Remove(path) => drop(names.remove(path)),
            Self::Rename { from, to, entry } => {
                names.remove(from);
                names.insert(to.clone(), *entry);
            }
        }
    }
}

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

    fn room(&self) -> u64 {
        let used: u64 = self.inodes.values().map(|inode| inode.live.len() as u64).sum();
        self.faults.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used))
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

    fn locks(&self, path: &Path) -> io::Result<Arc<dyn Locks>> {
        let owner = self.state().number();
        Ok(Arc::new(Owner { machine: self.clone(), path: path.to_owned(), owner }))
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

/// An open file.
struct Handle {
    machine: Machine,
    inode: u64,
    boot: u64,
}

impl Handle {
    /// Works on the file, if the machine still runs as it did when the file was opened.
    fn with<T>(&self, work: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.machine.state();
        if state.stopped || state.boot != self.boot {
            return Err(stopped());
        }
        work(&mut state, self.inode)
    }
}

fn inode(state: &mut State, number: u64) -> io::Result<&mut Inode> {
    state.inodes.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl File for Handle {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state, number| {
            let live = &inode(state, number)?.live;
            let rest = live.get(offset as usize..).unwrap_or(&[]);
            let got = rest.len().min(buf.len());
            buf[..got].copy_from_slice(&rest[..got]);
            Ok(got)
        })
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.with(|state, number| {
            let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            let mut outcome = Ok(());
            let room = state.room();
            let len = inode(state, number)?.live.len() as u64;
            let fits = (len.saturating_sub(offset)).saturating_add(room);
            if bytes.len() as u64 > fits {
                bytes.truncate(fits as usize);
                outcome = Err(io::ErrorKind::StorageFull.into());
            }
            if let Some((count, after)) = state.faults.write_fails {
                let mut count = Some(count);
                if due(&mut count) {
                    bytes.truncate(after);
                    outcome = Err(io::Error::other("the device does not answer"));
                }
                state.faults.write_fails = count.map(|count| (count, after));
            }
            if state.operation()? {
                // Cut somewhere: in a header, in a body, or between frames.
                let seed = state.operations;
                bytes.truncate(Random::new(seed).below(bytes.len() as u64 + 1) as usize);
                outcome = Err(stopped());
            }
            if !bytes.is_empty() {
                inode(state, number)?.change(Change::Write { offset, bytes });
            }
            outcome
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state, number| Ok(inode(state, number)?.live.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state, number| {
            state.whole_operation()?;
            inode(state, number)?.change(Change::Length(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state, number| {
            state.whole_operation()?;
            state.syncs += 1;
            let failed = due(&mut state.faults.sync_fails);
            let inode = inode(state, number)?;
            for change in std::mem::take(&mut inode.dirty) {
                if !failed {
                    change.apply(&mut inode.durable);
                }
            }
            if failed { Err(io::Error::other("the device could not write")) } else { Ok(()) }
        })
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.with(|state, number| {
            let inode = inode(state, number)?;
            // What is dirty cannot be forgotten, and the length is not part of the cache.
            let mut bytes = inode.durable.clone();
            inode.dirty.iter().for_each(|change| change.apply(&mut bytes));
            bytes.resize(inode.live.len(), 0);
            inode.live = bytes;
            Ok(())
        })
    }
}

/// One owner of locks.
struct Owner {
    machine: Machine,
    path: PathBuf,
    owner: u64,
}

impl Locks for Owner {
    fn lock(&self, slot: u64, exclusive: bool) -> io::Result<()> {
        // Tests run on one thread: to wait would be to wait for ever.
        if self.try_lock(slot, exclusive)? { Ok(()) } else { Err(io::ErrorKind::Deadlock.into()) }
    }

    fn try_lock(&self, slot: u64, exclusive: bool) -> io::Result<bool> {
        let mut state = self.machine.state();
        if state.stopped {
            return Err(stopped());
        }
        let holders = state.locks.entry((self.path.clone(), slot)).or_default();
        if holders.iter().any(|&(owner, other)| owner != self.owner && (exclusive || other)) {
            return Ok(false);
        }
        holders.retain(|&(owner, _)| owner != self.owner);
        holders.push((self.owner, exclusive));
        Ok(true)
    }

    fn unlock(&self, slot: u64) -> io::Result<()> {
        let mut state = self.machine.state();
        if let Some(holders) = state.locks.get_mut(&(self.path.clone(), slot)) {
            holders.retain(|&(owner, _)| owner != self.owner);
        }
        Ok(())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.machine.state();
        for holders in state.locks.values_mut() {
            holders.retain(|&(owner, _)| owner != self.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(machine: &Machine, name: &str) -> Arc<dyn File> {
        let path = Path::new("/s").join(name);
        machine.open(&path).or_else(|_| machine.create(&path)).unwrap()
    }

    /// Whatever the seed, synced bytes under a synced name are there; over all seeds the rest is lost in every way.
    #[test]
    fn a_power_loss_takes_any_part_of_what_was_not_synced() {
        let (mut names, mut lengths, mut mixed) = (0, std::collections::BTreeSet::new(), 0);
        for seed in 0..200 {
            let machine = Machine::new();
            let kept = file(&machine, "kept");
            kept.write_at(&[IoSlice::new(&[1; 700])], 0).unwrap();
            kept.sync_data().unwrap();
            machine.sync_dir(Path::new("/s")).unwrap();
            kept.write_at(&[IoSlice::new(&[2; 3000])], 700).unwrap();
            file(&machine, "new").sync_data().unwrap();
            machine.crash(seed);
            let bytes = machine.bytes(Path::new("/s/kept"));
            assert_eq!(bytes[..700], [1; 700]);
            lengths.insert(bytes.len());
            let rest = &bytes[700..];
            mixed += u64::from(rest.contains(&2) && rest.iter().any(|byte| *byte != 2));
            names += u64::from(machine.exists(Path::new("/s/new")));
            assert!(kept.len().is_err(), "a handle of before the power loss is dead");
        }
        assert!(lengths.len() > 20 && (20..180).contains(&names) && mixed > 20);
    }

    /// A failed sync is followed by one that succeeds and lies; reading back from the device tells.
    #[test]
    fn a_failed_sync_loses_what_memory_still_shows() {
        let machine = Machine::new();
        let file = file(&machine, "f");
        file.write_at(&[IoSlice::new(b"old")], 0).unwrap();
        file.sync_data().unwrap();
        machine.fail(Faults { sync_fails: Some(1), ..Faults::default() });
        file.write_at(&[IoSlice::new(b"new")], 3).unwrap();
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(machine.bytes(Path::new("/s/f")), b"oldnew");
        file.forget_cache().unwrap();
        assert_eq!(machine.bytes(Path::new("/s/f")), b"old\0\0\0");
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let machine = Machine::new();
        let file = file(&machine, "f");
        machine.fail(Faults { capacity: Some(10), ..Faults::default() });
        let error = file.write_at(&[IoSlice::new(&[7; 16])], 0).unwrap_err();
        assert_eq!((error.kind(), file.len().unwrap()), (io::ErrorKind::StorageFull, 10));
        file.write_at(&[IoSlice::new(&[8; 10])], 0).unwrap();
    }

    #[test]
    fn locks_have_owners_and_go_with_them() {
        let machine = Machine::new();
        let locks = || machine.locks(Path::new("/s/locks")).unwrap();
        let (a, b) = (locks(), locks());
        a.lock(1, true).unwrap();
        assert_eq!(b.lock(1, false).unwrap_err().kind(), io::ErrorKind::Deadlock);
        a.lock(1, false).unwrap();
        assert!(b.try_lock(1, false).unwrap() && !b.try_lock(1, true).unwrap());
        drop(a);
        assert!(b.try_lock(1, true).unwrap());
    }
}
