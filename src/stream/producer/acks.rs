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

#[derive(Debug, Clone, Copy)]
enum Entry {
    Waiting,
    Stored(Ack),
    /// An earlier run stored it: nothing is told.
    Skipped,
}

impl Acks {
    /// One more record has been taken; its place, counted from 0.
    pub(super) fn expect(&mut self) -> u64 {
        self.entries.push_back(Entry::Waiting);
        self.base + self.entries.len() as u64 - 1
    }

    /// The record at `place` (counted from 0) has been written.
    pub(super) fn assign(&mut self, place: u64, shard: ShardId, index: u64, arrival_us: i64) {
        let ack = Ack { number: place + 1, shard, index, arrival_us };
        if let Some(entry) = self.entries.get_mut((place - self.base) as usize) {
            *entry = Entry::Stored(ack);
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

    /// Takes what is due, or, where nobody waits for the disk, all that has been written.
    pub(super) fn take(&mut self, durable: bool) -> Vec<Ack> {
        if !durable {
            self.begin();
            self.end();
        }
        let taken = std::mem::take(&mut self.due);
        self.covered = self.covered.saturating_sub(taken);
        self.base += taken as u64;
        self.entries
            .drain(..taken)
            .filter_map(|entry| match entry {
                Entry::Stored(ack) => Some(ack),
                Entry::Waiting | Entry::Skipped => None,
            })
            .collect()
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
        let told: Vec<_> = acks.take(true).iter().map(|ack| ack.number).collect();
        assert_eq!(
            told,
            [1],
            "the second was not written when the sync began, and the third stands behind it"
        );
        assert!(acks.take(true).is_empty());
        acks.begin();
        acks.end();
        let told: Vec<_> = acks.take(true).iter().map(|ack| (ack.number, ack.shard.0, ack.index)).collect();
        assert_eq!(told, [(2, 2, 4), (3, 1, 11)]);
    }
}
