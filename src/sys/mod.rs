//! The operating system behind small traits: files, locks, clocks, wake-ups.
//!
//! Everything above this layer reaches the machine through a [`System`], so that the crash tests can put a simulated
//! disk in its place. Nothing here knows what a record is.

pub mod clock;
pub mod failpoint;
pub mod fs;
pub mod lock;
pub mod private;
pub mod process;
#[cfg(test)]
pub(crate) mod sim;
pub mod watch;

use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

/// The machine that a stream lives on.
#[derive(Clone)]
pub struct System {
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl System {
    /// The machine that this process runs on.
    pub fn real() -> Self {
        Self { disk: Arc::new(fs::RealDisk), clock: Arc::new(clock::RealClock) }
    }
}

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, wherever it leads.
    Link,
    /// A device, a pipe, a socket.
    Other,
}

/// What a name in a directory tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it stands for.
    pub kind: Kind,
    /// Length in bytes.
    pub len: u64,
    /// When the bytes were last changed, microseconds since the epoch.
    pub modified_us: i64,
}

/// A directory that is held open: as long as it is, its path leads to this very directory, whoever renames what above it.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
    _held: Option<OwnedFd>,
}

impl Dir {
    /// Its path, for every call that takes one.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Directories and the files in them.
pub trait Disk: Send + Sync {
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file for reading and writing.
    fn open_writable(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Creates a file for reading and writing; it is an error if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Gives the file another name, replacing what had that name, in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives the file another name, in one step; it is an error if that is taken.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives the file a second name; it is an error if that is taken.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates one directory; it is an error if the name is taken.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in no order; names that are not UTF-8 are left out, they are none of ours.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Whether the name is there.
    fn exists(&self, path: &Path) -> bool;

    /// What a name stands for; a link is not followed.
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// Opens a file for reading, and nothing else: a link, a pipe, a device are refused with
    /// [`io::ErrorKind::InvalidInput`], so that nobody else who may write in the directory chooses what is read.
    fn open_plain(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }

    /// Opens the directory `name` in `dir`, not following a link of that name (the error is
    /// [`io::ErrorKind::NotADirectory`] then); `make` creates it where it is missing.
    fn descend(&self, dir: &Path, name: &str, make: bool) -> io::Result<Dir> {
        let path = dir.join(name);
        match self.stat(&path) {
            Err(error) if make && error.kind() == io::ErrorKind::NotFound => self.create_dir(&path)?,
            Err(error) => return Err(error),
            Ok(stat) if stat.kind != Kind::Directory => return Err(io::ErrorKind::NotADirectory.into()),
            Ok(_) => {}
        }
        Ok(Dir { path, _held: None })
    }

    /// Opens the lock table kept in `path`. Every call is an owner of its own. It is an error if the file is missing: a
    /// table that was made anew beside one that somebody still holds would give each lock two owners.
    fn locks(&self, path: &Path) -> io::Result<Arc<dyn Locks>>;

    /// The same for who may only read: the file must be there, and locks are shared.
    fn shared_locks(&self, path: &Path) -> io::Result<Arc<dyn Locks>> {
        self.locks(path)
    }

    /// [`Disk::locks`] for whoever makes what the locks are for: creates the file where it is missing.
    fn create_locks(&self, path: &Path) -> io::Result<Arc<dyn Locks>>;

    /// The name of the network file system that `path` is on, if it is on one (and the user has not allowed it).
    fn network_kind(&self, _path: &Path) -> Option<&'static str> {
        None
    }

    /// The whole of a small file, refusing one above `max` bytes.
    fn read(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        if len > max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{len} bytes, at most {max} expected"),
            ));
        }
        let mut bytes = vec![0; len];
        let got = file.read_at(&mut bytes, 0)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// Replaces (or creates) a small file so that a reader, or a power loss, finds the old bytes or the new ones and
    /// never a mixture: temporary file, sync, rename, sync of the directory.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let dir = path.parent().ok_or_else(|| io::Error::other("a file has a directory"))?;
        let temporary = self.prepare(path, bytes)?;
        self.rename(&temporary, path).and_then(|()| self.sync_dir(dir)).inspect_err(|_| {
            let _ = self.remove(&temporary);
        })
    }

    /// The first half of [`Disk::replace`]: the temporary file, synced, for its caller to rename or to remove.
    fn prepare(&self, path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
        let dir = path.parent().ok_or_else(|| io::Error::other("a file has a directory"))?;
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("file");
        // Not the process number alone: two containers that share a directory have processes of one number.
        let unique = Uuid::new_v4().simple();
        let temporary = dir.join(format!(".{name}.{}.{unique}.tmp", std::process::id()));
        let file = self.create(&temporary)?;
        let written = file.write_at(&[IoSlice::new(bytes)], 0).and_then(|()| file.sync_data());
        written.map(|()| temporary.clone()).inspect_err(|_| {
            let _ = self.remove(&temporary);
        })
    }
}

/// One open file.
pub trait File: Send + Sync {
    /// Reads at `offset` until `buf` is full or the file ends; returns how much was read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `parts` one behind the other at `offset`. After an error any part of them may be in the file.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns when all that was written to the file before the call, by any process, is on the disk.
    fn sync_data(&self) -> io::Result<()>;

    /// The permission bits, or `None` where the file system has none.
    fn mode(&self) -> Option<u32> {
        None
    }

    /// A number for the file that no other file has had on this machine since it started, or `None` where the file
    /// system cannot tell.
    fn key(&self) -> Option<u64> {
        None
    }

    /// Asks that the next reads come from the device and not from memory.
    fn forget_cache(&self) -> io::Result<()>;

    /// Asks the machine to begin writing out what is dirty in this range, without waiting.
    fn write_out(&self, _offset: u64, _len: u64) {}

    /// Puts up to `len` bytes at `offset` into a pipe without copying them and returns how many; `None` where that
    /// cannot be done here.
    fn splice_into(&self, _offset: u64, _len: usize, _pipe: BorrowedFd<'_>) -> io::Result<Option<usize>> {
        Ok(None)
    }
}

/// Bytes of a note in a lock table.
pub const NOTE_BYTES: usize = 48;

/// Shared and exclusive locks on numbers: one table for a whole stream, so that a thousand shards need one open file.
///
/// Locks belong to the value returned by [`Disk::locks`] and end with it, or with the process. Where the table's file
/// has been removed an exclusive lock is not given: it would keep nobody out who comes later. The error is
/// [`io::ErrorKind::NotFound`] then.
pub trait Locks: Send + Sync {
    /// Waits for the lock on `slot`. Holding it already, shared or exclusive, changes it to what is asked.
    fn lock(&self, slot: u64, exclusive: bool) -> io::Result<()>;

    /// Takes the lock if that is possible at once. On `false` what was held before is still held.
    fn try_lock(&self, slot: u64, exclusive: bool) -> io::Result<bool>;

    /// Gives the lock back.
    fn unlock(&self, slot: u64) -> io::Result<()>;

    /// Leaves a few bytes under a number, where every owner can read them. They are never synced, and may be torn or
    /// gone.
    fn write_note(&self, number: u32, note: &[u8; NOTE_BYTES]) -> io::Result<()>;

    /// The bytes that were left last under a number; zeros where there are none.
    fn read_note(&self, number: u32) -> io::Result<[u8; NOTE_BYTES]>;

    /// Returns when a note may have been left since it was called last, or after this time. The first call returns at
    /// once: what was left before it is not known.
    fn wait_for_note(&self, most: Duration) -> io::Result<()>;

    /// Whether programs that are started from now on hold the locks as well, for as long as they live.
    fn inherit(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }
}

/// Time.
pub trait Clock: Send + Sync {
    /// Wall clock, microseconds since the epoch.
    fn now_us(&self) -> i64;

    /// A clock that only goes forward and counts sleep too (`CLOCK_BOOTTIME`), microseconds.
    fn boot_us(&self) -> i64;

    /// Names this start of the machine: what was written under another boot id may have met a power loss since.
    fn boot_id(&self) -> u64;
}
