//! Waking up when a directory changes: inotify as a hint, and never as the truth.
//!
//! Events can be lost (queue overflow, network and overlay file systems, a watch limit that is used up), so whoever
//! waits here looks at the files themselves afterwards, and comes back after a bounded time whatever happened.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Waits for changes in a set of directories.
#[derive(Debug)]
pub struct Watch {
    inotify: Option<OwnedFd>,
    /// Whether some directory could not be watched, so that only the clock wakes for it.
    blind: bool,
    /// In which directories something changed since it was last asked; `None` where events were lost.
    changed: RefCell<Option<BTreeSet<i32>>>,
}

/// Why [`Watch::wait`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Something changed, or may have.
    Change,
    /// The time was up.
    Timeout,
    /// The other descriptor became readable.
    Other,
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Watch {
    /// A watch on nothing yet. Where inotify cannot be had it still waits, by the clock alone.
    pub fn new() -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let blind = inotify.is_none();
        Self { inotify, blind, changed: RefCell::new(Some(BTreeSet::new())) }
    }

    /// Adds a directory: writes to files in it, new names and renames in it, and its own end, wake the waiter. Answers the number that
    /// [`Watch::changed`] knows it by.
    pub fn add(&mut self, dir: &Path) -> Option<i32> {
        let gone = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | gone;
        let added = self.inotify.as_ref().and_then(|fd| inotify::add_watch(fd, dir, events).ok());
        self.blind |= added.is_none();
        added
    }

    /// In which directories something has changed since this was last asked; `None` if that is not known, and any of
    /// them may have.
    pub fn changed(&self) -> Option<BTreeSet<i32>> {
        self.changed.replace(Some(BTreeSet::new()))
    }

    /// Whether some directory is only looked at by the clock.
    pub fn is_blind(&self) -> bool {
        self.blind
    }

    /// Waits for a change, for `other` to become readable, or for `timeout`, whichever is first.
    pub fn wait(&self, timeout: Duration, other: Option<BorrowedFd<'_>>) -> io::Result<Woken> {
        let mut fds = Vec::with_capacity(2);
        if let Some(fd) = &self.inotify {
            fds.push(PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
        }
        if let Some(fd) = other {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        let timeout =
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(Woken::Timeout),
            Ok(_) => {}
            // A signal: the caller looks at its shutdown flag.
            Err(Errno::INTR) => return Ok(Woken::Other),
            Err(errno) => return Err(errno.into()),
        }
        if other.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty()) {
            return Ok(Woken::Other);
        }
        self.drain();
        Ok(Woken::Change)
    }

    /// Forgets the events that led here, so that the next wait sees only later ones. The caller looks at the files
    /// after this, so what happens in between is not missed.
    fn drain(&self) {
        let Some(fd) = &self.inotify else { return };
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = inotify::Reader::new(fd, &mut buffer);
        let mut changed = self.changed.borrow_mut();
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                *changed = None;
            }
            if let Some(changed) = changed.as_mut() {
                changed.insert(event.wd());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_write_wakes_and_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new();
        let other = tempfile::tempdir().unwrap();
        let (one, _) = (watch.add(dir.path()).unwrap(), watch.add(other.path()).unwrap());
        assert_eq!(watch.wait(Duration::from_millis(1), None).unwrap(), Woken::Timeout);
        fs::write(dir.path().join("a"), b"x").unwrap();
        assert_eq!(watch.wait(Duration::from_secs(10), None).unwrap(), Woken::Change);
        assert_eq!(watch.changed(), Some(BTreeSet::from([one])));
        assert_eq!(watch.changed(), Some(BTreeSet::new()));
        assert_eq!(watch.wait(Duration::from_millis(1), None).unwrap(), Woken::Timeout);
    }
}
