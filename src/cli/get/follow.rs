//! Waiting for more: the kernel's word that something changed as a hint, a look of our own now and then as the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::record::ShardId;
use crate::stream::{self, Stream, StreamReader};
use crate::sys::watch::{Watch, Woken};

/// The longest time between two looks where the kernel tells of changes.
const LOOK: Duration = Duration::from_secs(1);
/// And where it cannot.
const LOOK_BLIND: Duration = Duration::from_millis(250);

/// Waits until a stream may have more.
pub(super) struct Waiter {
    watch: Watch,
    watched: BTreeSet<ShardId>,
    /// The shards by the numbers that the watch knows them by.
    numbers: BTreeMap<i32, ShardId>,
    looked: Instant,
}

impl Waiter {
    pub(super) fn new(stream: &Stream) -> Self {
        let mut watch = Watch::new();
        // The manifest is replaced in there.
        watch.add(stream.path());
        Self { watch, watched: BTreeSet::new(), numbers: BTreeMap::new(), looked: Instant::now() }
    }

    /// Watches another directory.
    pub(super) fn also(&mut self, dir: &Path) {
        self.watch.add(dir);
    }

    /// Waits for a change, for `wake` or for the time to look, at most for `most`, and lets the reader look again at
    /// what has changed: after a change elsewhere, or when it is time, at everything. Answers whether it was that.
    pub(super) fn wait(
        &mut self,
        reader: &mut StreamReader,
        wake: BorrowedFd<'_>,
        most: Option<Duration>,
    ) -> Result<bool, stream::Error> {
        if self.watch_new(reader) {
            // What came before it was watched is seen before anybody waits.
            reader.refresh()?;
            return Ok(false);
        }
        let look = if self.watch.is_blind() { LOOK_BLIND } else { LOOK };
        let left = look.saturating_sub(self.looked.elapsed());
        // Where waiting fails it is time to look.
        let woken = self.watch.wait(most.map_or(left, |most| most.min(left)), Some(wake)).ok();
        let shards = self.watch.changed().and_then(|changed| {
            changed.iter().map(|number| self.numbers.get(number).copied()).collect::<Option<Vec<_>>>()
        });
        match shards {
            Some(shards) if woken == Some(Woken::Change) && self.looked.elapsed() < look => {
                for shard in shards {
                    reader.refresh_shard(shard);
                }
                Ok(false)
            }
            // A signal, or the time that the caller gave.
            Some(_) if self.looked.elapsed() < look => Ok(false),
            _ => {
                self.looked = Instant::now();
                reader.refresh()?;
                Ok(true)
            }
        }
    }

    /// Watches the shards that are read now; whether one of them is new.
    fn watch_new(&mut self, reader: &StreamReader) -> bool {
        if reader.count() == self.watched.len() && reader.shards().all(|shard| self.watched.contains(&shard))
        {
            return false;
        }
        let shards: BTreeSet<ShardId> = reader.shards().collect();
        let mut new = false;
        for shard in &shards {
            if !self.watched.contains(shard) {
                new = true;
                let number = self.watch.add(&reader.stream().path().join(shard.to_string()));
                self.numbers.extend(number.map(|number| (number, *shard)));
            }
        }
        self.watched = shards;
        new
    }
}
