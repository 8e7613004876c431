//! Waiting for more: the kernel's word that something changed as a hint, a look of our own now and then as the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::Error;
use super::{Stream, StreamReader};
use crate::record::ShardId;
use crate::sys::watch::Watch;

/// The longest time between two looks where the kernel tells of changes.
const LOOK: Duration = Duration::from_secs(1);
/// And between two that take in all that there is to see: with a thousand shards that is work.
const LOOK_WELL: Duration = Duration::from_secs(10);
/// And where it cannot.
const LOOK_BLIND: Duration = Duration::from_millis(250);

/// Waits until a stream may have more.
pub struct Waiter {
    watch: Watch,
    watched: BTreeSet<ShardId>,
    /// The shards by the numbers that the watch knows them by.
    numbers: BTreeMap<i32, ShardId>,
    /// The number of the directory in which the manifest is replaced.
    manifest: Option<i32>,
    looked: Instant,
    looked_well: Instant,
}

impl Waiter {
    /// A watch on a stream.
    pub fn new(stream: &Stream) -> Self {
        let mut watch = Watch::new();
        let manifest = watch.add(stream.path());
        let now = Instant::now();
        let (watched, numbers) = (BTreeSet::new(), BTreeMap::new());
        Self { watch, watched, numbers, manifest, looked: now, looked_well: now }
    }

    /// Watches another directory.
    pub fn also(&mut self, dir: &Path) {
        self.watch.add(dir);
    }

    /// Waits for a change, for `wake` or for the time to look, at most for `most`, and lets the reader look again at
    /// what has changed; when it is time, or the kernel has lost count, at everything. Answers whether it was that, or a
    /// change elsewhere.
    pub fn wait(
        &mut self,
        reader: &mut StreamReader,
        wake: BorrowedFd<'_>,
        most: Option<Duration>,
    ) -> Result<bool, Error> {
        if self.watch_new(reader) {
            // What came before it was watched is seen before anybody waits.
            reader.refresh()?;
            return Ok(false);
        }
        let look = if self.watch.is_blind() { LOOK_BLIND } else { LOOK };
        let left = look.saturating_sub(self.looked.elapsed());
        // Where waiting fails it is time to look.
        let woken = self.watch.wait(most.map_or(left, |most| most.min(left)), Some(wake)).ok();
        let changed = self.watch.changed();
        let has_lost_count = woken.is_none() || changed.is_none();
        let changed = changed.unwrap_or_default();
        for number in &changed {
            if let Some(&shard) = self.numbers.get(number) {
                reader.refresh_shard(shard);
            }
        }
        if self.manifest.is_some_and(|number| changed.contains(&number)) {
            reader.reload()?;
        }
        if has_lost_count || self.looked.elapsed() >= look {
            self.looked = Instant::now();
            if has_lost_count || self.watch.is_blind() || self.looked_well.elapsed() >= LOOK_WELL {
                self.looked_well = self.looked;
                reader.refresh()?;
            } else {
                reader.glance()?;
            }
            return Ok(true);
        }
        Ok(changed.iter().any(|number| !self.numbers.contains_key(number)))
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
