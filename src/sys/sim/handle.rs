//! What a process holds of the machine: open files and locks.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::time::Duration;

use super::inode::{Change, Inode, Random};
use super::{Machine, State, due, stopped};
use crate::sys::{File, Locks, NOTE_BYTES};

/// An open file.
pub(super) struct Handle {
    pub(super) machine: Machine,
    pub(super) inode: u64,
    pub(super) boot: u64,
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

pub(super) fn inode(state: &mut State, number: u64) -> io::Result<&mut Inode> {
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

    fn key(&self) -> Option<u64> {
        Some(self.inode)
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
pub(super) struct Owner {
    pub(super) machine: Machine,
    pub(super) path: PathBuf,
    pub(super) number: u64,
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
        if holders.iter().any(|&(owner, other)| owner != self.number && (exclusive || other)) {
            return Ok(false);
        }
        holders.retain(|&(owner, _)| owner != self.number);
        holders.push((self.number, exclusive));
        Ok(true)
    }

    fn write_note(&self, number: u32, note: &[u8; NOTE_BYTES]) -> io::Result<()> {
        self.machine.state().notes.insert((self.path.clone(), number), *note);
        Ok(())
    }

    fn read_note(&self, number: u32) -> io::Result<[u8; NOTE_BYTES]> {
        Ok(self.machine.state().notes.get(&(self.path.clone(), number)).copied().unwrap_or([0; NOTE_BYTES]))
    }

    fn wait_for_note(&self, _: Duration) -> io::Result<()> {
        // Tests run on one thread: nobody could leave one.
        Err(io::ErrorKind::Deadlock.into())
    }

    fn unlock(&self, slot: u64) -> io::Result<()> {
        let mut state = self.machine.state();
        if let Some(holders) = state.locks.get_mut(&(self.path.clone(), slot)) {
            holders.retain(|&(owner, _)| owner != self.number);
        }
        Ok(())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.machine.state();
        for holders in state.locks.values_mut() {
            holders.retain(|&(owner, _)| owner != self.number);
        }
    }
}
