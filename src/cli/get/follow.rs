//! Waiting for more: the kernel's word that something changed as a hint, a look of our own now and then as the truth.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::record::ShardId;
use crate::stream::{Stream, StreamReader};
use crate::sys::watch::{Watch, Woken};

/// The longest time between two looks where the kernel tells of changes.
const LOOK: Duration = Duration::from_secs(1);
/// And where it cannot.
const LOOK_BLIND: Duration = Duration::from_millis(250);

/// Waits until a stream may have more.
pub(super) struct Waiter {
    watch: Watch,
    watched: BTreeSet<ShardId>,
    looked: Instant,
}

impl Waiter {
    pub(super) fn new(stream: &Stream) -> Self {
        let mut watch = Watch::new();
        // The manifest is replaced in there.
        watch.add(stream.path());
        Self { watch, watched: BTreeSet::new(), looked: Instant::now() }
    }

    /// Watches another directory.
    pub(super) fn also(&mut self, dir: &Path) {
        self.watch.add(dir);
    }

    /// Watches the shards that are read now; whether one of them is new, so that what it holds must be looked at
    /// before anybody waits.
    pub(super) fn watch(&mut self, reader: &StreamReader) -> bool {
        let mut new = false;
        for shard in reader.shards() {
            if self.watched.insert(shard) {
                self.watch.add(&reader.stream().path().join(shard.to_string()));
                new = true;
            }
        }
        new
    }

    /// Waits for a change, for `wake` or for the time to look, at most for `most`. Answers whether it is time to look
    /// at everything.
    pub(super) fn wait(&mut self, wake: BorrowedFd<'_>, most: Option<Duration>) -> io::Result<bool> {
        let look = if self.watch.is_blind() { LOOK_BLIND } else { LOOK };
        let left = look.saturating_sub(self.looked.elapsed());
        let woken = self.watch.wait(most.map_or(left, |most| most.min(left)), Some(wake))?;
        let due = self.looked.elapsed() >= look;
        if due {
            self.looked = Instant::now();
        }
        Ok(due || woken == Woken::Other)
    }
}
