//! What left through a pipe, and how much of it the other side has taken: the checkpoint moves over no more than that.

use std::collections::{BTreeMap, VecDeque};

use crate::record::ShardId;
use crate::stream::{Checkpoint, Progress};

/// A frame's records on their way through the pipe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    /// How many bytes of output there are up to its end.
    pub(super) end: u64,
    /// How many of them are its own.
    pub(super) bytes: u64,
    /// The first index that it may hold.
    pub(super) first: u64,
    /// The place within an aggregate at that index that it begins behind.
    pub(super) within: Option<(u64, u64)>,
    /// What it comes to when all of it has been taken.
    pub(super) progress: Progress,
}

/// Entries in the order of the output.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    total: u64,
    entries: VecDeque<Entry>,
    /// What has been taken and not yet been written down.
    taken: BTreeMap<ShardId, Progress>,
}

impl Ledger {
    /// Bytes that belong to no record.
    pub(super) fn skip(&mut self, bytes: u64) {
        self.total += bytes;
    }

    /// Records of a shard were written: `bytes` of them, from the record `first` on.
    pub(super) fn wrote(&mut self, bytes: u64, first: u64, within: Option<(u64, u64)>, progress: Progress) {
        self.total += bytes;
        self.entries.push_back(Entry { end: self.total, bytes, first, within, progress });
    }

    /// Records of a shard were being written when the pipe broke, nobody knows how many.
    pub(super) fn broke(&mut self, shard: ShardId, first: u64, within: Option<(u64, u64)>) {
        self.wrote(
            u64::MAX >> 1,
            first,
            within,
            Progress { shard, to: Checkpoint::START, records: 0, bytes: 0 },
        );
    }

    /// A shard's place moved, and nothing was to be written.
    pub(super) fn passed(&mut self, shard: ShardId, to: Checkpoint) {
        self.wrote(0, 0, None, Progress { shard, to, records: 0, bytes: 0 });
    }

    /// Notes that `taken` bytes of the output have been taken.
    pub(super) fn take(&mut self, taken: u64) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.end <= taken) {
            self.note(entry.progress);
        }
    }

    /// The entry of which some bytes have been taken and not all, and how many.
    pub(super) fn torn(&mut self, taken: u64) -> Option<(Entry, u64)> {
        let entry = self.entries.front()?;
        let start = entry.end - entry.bytes;
        (taken > start).then_some((*entry, taken - start))
    }

    /// Notes progress.
    pub(super) fn note(&mut self, progress: Progress) {
        let known = self.taken.entry(progress.shard).or_insert(Progress { records: 0, bytes: 0, ..progress });
        known.to = progress.to;
        known.records += progress.records;
        known.bytes += progress.bytes;
    }

    /// What has been taken since the last time.
    pub(super) fn settle(&mut self) -> Vec<Progress> {
        std::mem::take(&mut self.taken).into_values().collect()
    }

    /// Whether there is something to write down that others wait for.
    pub(super) fn has_ends(&self) -> bool {
        self.taken.values().any(|progress| progress.to.is_end())
    }

    /// Whether something of a shard is still on its way.
    pub(super) fn holds(&self, shard: ShardId) -> bool {
        self.taken.contains_key(&shard) || self.entries.iter().any(|entry| entry.progress.shard == shard)
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.taken.is_empty()
    }

    /// A shard is another's now: its entries only take up room.
    pub(super) fn forget(&mut self, shard: ShardId) {
        self.taken.remove(&shard);
        self.entries.retain(|entry| entry.progress.shard != shard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(shard: u32, index: u64) -> Progress {
        Progress { shard: ShardId(shard), to: Checkpoint::Index { index }, records: 10, bytes: 90 }
    }

    #[test]
    fn only_what_was_taken_counts() {
        let mut ledger = Ledger::default();
        ledger.skip(5);
        ledger.wrote(100, 0, None, progress(0, 10));
        ledger.wrote(100, 0, None, progress(1, 10));
        ledger.wrote(100, 10, None, progress(0, 20));
        ledger.take(104);
        assert!(ledger.settle().is_empty());
        assert_eq!(ledger.torn(104).map(|(entry, bytes)| (entry.end, bytes)), Some((105, 99)));
        ledger.take(304);
        assert!(ledger.holds(ShardId(0)) && ledger.holds(ShardId(1)));
        assert_eq!(ledger.settle(), [progress(0, 10), progress(1, 10)]);
        ledger.passed(ShardId(0), Checkpoint::ShardEnd);
        ledger.take(304);
        assert!(!ledger.has_ends());
        ledger.take(305);
        assert!(ledger.has_ends());
        let end = Progress { to: Checkpoint::ShardEnd, ..progress(0, 0) };
        assert_eq!(ledger.settle(), [end]);
        assert!(ledger.is_empty());
    }
}
