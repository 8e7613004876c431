//! Locks between processes: open-file-description byte-range locks on one permanent file.
//!
//! The file is created once and never renamed or removed, so two processes cannot hold "the same" lock on two inodes.
//! If somebody removes it all the same, no exclusive lock is given any more on what was the file.
//! The locks belong to the open file description: they end with it, or with the process, however that ends. They are
//! not dropped when some other descriptor of the file is closed, as POSIX record locks are, and a whole stream needs
//! one descriptor however many shards it has.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::{Locks, NOTE_BYTES};

/// Notes lie in the file's bytes, 64 apart so that none crosses a page; locks are on byte numbers and do not mind.
fn note_offset(number: u32) -> u64 {
    u64::from(number) * 64
}

/// One owner of locks in a table.
#[derive(Debug)]
pub struct FileLocks {
    file: File,
    path: PathBuf,
    /// Wakes when a note is left; made when it is first waited for.
    notes: OnceLock<Option<OwnedFd>>,
}

impl FileLocks {
    /// Opens the table; with `create` its file is made where it is missing.
    pub fn open(path: &Path, create: bool) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
        Ok(Self { file, path: path.to_owned(), notes: OnceLock::new() })
    }

    /// Opens a table that is there, for shared locks: that takes no permission to write.
    pub fn open_to_share(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, path: path.to_owned(), notes: OnceLock::new() })
    }

    /// Gives a lock back that nobody else would respect.
    fn refuse_removed(&self, slot: u64, exclusive: bool) -> io::Result<()> {
        if !exclusive || rustix::fs::fstat(&self.file)?.st_nlink > 0 {
            return Ok(());
        }
        self.unlock(slot)?;
        Err(io::Error::new(io::ErrorKind::NotFound, "the file of locks was removed while it was in use"))
    }

    fn request(kind: libc::c_int, slot: u64) -> libc::flock {
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: slot as libc::off_t,
            l_len: 1,
            // Must be 0 for open-file-description locks.
            l_pid: 0,
        }
    }

    fn kind(exclusive: bool) -> libc::c_int {
        if exclusive { libc::F_WRLCK } else { libc::F_RDLCK }
    }
}

impl Locks for FileLocks {
    fn lock(&self, slot: u64, exclusive: bool) -> io::Result<()> {
        let request = Self::request(Self::kind(exclusive), slot);
        loop {
            match fcntl(self.file.as_fd(), FcntlArg::F_OFD_SETLKW(&request)) {
                Ok(_) => return self.refuse_removed(slot, exclusive),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn try_lock(&self, slot: u64, exclusive: bool) -> io::Result<bool> {
        let request = Self::request(Self::kind(exclusive), slot);
        match fcntl(self.file.as_fd(), FcntlArg::F_OFD_SETLK(&request)) {
            Ok(_) => self.refuse_removed(slot, exclusive).map(|()| true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn unlock(&self, slot: u64) -> io::Result<()> {
        let request = Self::request(libc::F_UNLCK, slot);
        fcntl(self.file.as_fd(), FcntlArg::F_OFD_SETLK(&request)).map(drop).map_err(Into::into)
    }

    fn write_note(&self, number: u32, note: &[u8; NOTE_BYTES]) -> io::Result<()> {
        self.file.write_all_at(note, note_offset(number))
    }

    fn read_note(&self, number: u32) -> io::Result<[u8; NOTE_BYTES]> {
        let mut note = [0; NOTE_BYTES];
        // A note that is not there, or not whole, is one that does not hold.
        let _ = self.file.read_at(&mut note, note_offset(number))?;
        Ok(note)
    }

    fn wait_for_note(&self, most: Duration) -> io::Result<()> {
        let mut is_first = false;
        let notes = self.notes.get_or_init(|| {
            is_first = true;
            let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
            inotify::add_watch(&fd, &self.path, WatchFlags::MODIFY).ok()?;
            Some(fd)
        });
        let Some(notes) = notes else {
            // Where the kernel does not tell it is looked at by the clock: often enough to be in time for a fast disk.
            std::thread::sleep(most.min(Duration::from_micros(200)));
            return Ok(());
        };
        if is_first {
            return Ok(());
        }
        let mut fds = [PollFd::from_borrowed_fd(notes.as_fd(), PollFlags::IN)];
        let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: i64::from(most.subsec_nanos()) };
        match poll(&mut fds, Some(&most)) {
            // A signal is as good as a note: the caller looks again.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(notes, &mut buffer);
        while events.next().is_ok() {}
        Ok(())
    }

    fn inherit(&self, on: bool) -> io::Result<()> {
        let flags = if on { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
        fcntl(self.file.as_fd(), FcntlArg::F_SETFD(flags)).map(drop).map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_exclude_each_other_by_slot_and_upgrade_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks");
        assert_eq!(FileLocks::open(&path, false).unwrap_err().kind(), io::ErrorKind::NotFound);
        let (a, b) = (FileLocks::open(&path, true).unwrap(), FileLocks::open(&path, false).unwrap());
        a.lock(3, true).unwrap();
        assert!(!b.try_lock(3, false).unwrap());
        assert!(b.try_lock(4, true).unwrap());
        a.lock(3, false).unwrap();
        assert!(b.try_lock(3, false).unwrap());
        assert!(!b.try_lock(3, true).unwrap(), "another still shares it");
        assert!(!a.try_lock(3, true).unwrap(), "a failed upgrade must leave the shared lock in place");
        b.unlock(3).unwrap();
        assert!(a.try_lock(3, true).unwrap());
        drop(a);
        assert!(b.try_lock(3, true).unwrap());
    }

    /// The file was removed under those who had it open, and made anew by those who came: each lock had two owners.
    #[test]
    fn what_was_removed_gives_no_exclusive_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks");
        let a = FileLocks::open(&path, true).unwrap();
        a.lock(3, false).unwrap();
        std::fs::remove_file(&path).unwrap();
        let b = FileLocks::open(&path, true).unwrap();
        b.lock(3, true).unwrap();
        assert_eq!(a.lock(3, true).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(a.try_lock(4, true).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
