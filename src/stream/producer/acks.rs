//! Acknowledgements: where each record went, in the order of the source, told once it is durable.

use std::collections::VecDeque;

use crate::record::ShardId;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Which record of this run it is, counted from 1.
    pub number: u64,
    /// Its shard.
    pub shard: ShardId,
    /// Its index there.
    pub index: u64,
    /// When it arrived.
    pub arrival_us: i64,
}

/// Records that are on their way to their acknowledgement.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// Which record of this run the first entry is, counted from 0.
    base: u64,
    entries: VecDeque<Entry>,
    /// How many entries, from the first, a sync that goes on covers.
    covered: usize,
    /// How many entries are due.
    due: usize,
}

/// There may be some hundred thousand of them, so they are small: which record it is follows from the place.
#[derive(Debug, Clone, Copy)]
enum Entry {
    Waiting,
    Stored {
        shard: ShardId,
        index: u64,
        arrival_us: i64,
    },
    /// An earlier run stored it: nothing is told.
    Skipped,
}

impl Acks {
    /// How many no sync covers yet.
    pub(super) fn uncovered(&self) -> usize {
        self.entries.len() - self.covered
    }

    /// One more record has been taken; its place, counted from 0.
    pub(super) fn expect(&mut self) -> u64 {
        self.entries.push_back(Entry::Waiting);
        self.base + self.entries.len() as u64 - 1
    }

    /// The record at `place` (counted from 0) has been written.
    pub(super) fn assign(&mut self, place: u64, shard: ShardId, index: u64, arrival_us: i64) {
        if let Some(entry) = self.entries.get_mut((place - self.base) as usize) {
            *entry = Entry::Stored { shard, index, arrival_us };
        }
    }

    /// The record at `place` (counted from 0) was stored by an earlier run.
    pub(super) fn skip(&mut self, place: u64) {
        if let Some(entry) = self.entries.get_mut((place - self.base) as usize) {
            *entry = Entry::Skipped;
        }
    }

    /// A sync begins: it covers what has been written by now, up to the first record that has not.
    pub(super) fn begin(&mut self) {
        let written = self.entries.iter().skip(self.due).take_while(|entry| !matches!(entry, Entry::Waiting));
        self.covered = self.due + written.count();
    }

    /// The sync has ended.
    pub(super) fn end(&mut self) {
        self.due = self.covered;
    }

    /// Takes what is due, or, where nobody waits for the disk, what has been written: of `most` records at a time. None
    /// of them may be told of, if an earlier run stored them; `None` is the end.
    pub(super) fn take(&mut self, durable: bool, most: usize) -> Option<Vec<Ack>> {
        if !durable {
            self.begin();
            self.end();
        }
        let taken = self.due.min(most);
        if taken == 0 {
            return None;
        }
        self.due -= taken;
        self.covered = self.covered.saturating_sub(taken);
        let first = self.base + 1;
        self.base += taken as u64;
        let acks = (first..).zip(self.entries.drain(..taken)).filter_map(|(number, entry)| match entry {
            Entry::Stored { shard, index, arrival_us } => Some(Ack { number, shard, index, arrival_us }),
            Entry::Waiting | Entry::Skipped => None,
        });
        Some(acks.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_in_order_and_only_when_covered() {
        let mut acks = Acks::default();
        for _ in 0..3 {
            acks.expect();
        }
        acks.assign(0, ShardId(1), 10, 5);
        acks.assign(2, ShardId(1), 11, 5);
        acks.begin();
        acks.assign(1, ShardId(2), 4, 5);
        acks.end();
        let told: Vec<_> = acks.take(true, 9).unwrap().iter().map(|ack| ack.number).collect();
        assert_eq!(
            told,
            [1],
            "the second was not written when the sync began, and the third stands behind it"
        );
        assert!(acks.take(true, 9).is_none());
        acks.begin();
        acks.end();
        let told = |ack: &Ack| (ack.number, ack.shard.0, ack.index);
        assert_eq!(acks.take(true, 1).unwrap().iter().map(told).collect::<Vec<_>>(), [(2, 2, 4)]);
        assert_eq!(acks.take(true, 1).unwrap().iter().map(told).collect::<Vec<_>>(), [(3, 1, 11)]);
        assert!(acks.take(true, 1).is_none());
    }

    #[test]
    fn an_entry_is_small() {
        assert!(std::mem::size_of::<Entry>() <= 24);
    }
}
