//! When what was written becomes durable, and what is acknowledged then.

use super::super::error::{Error, InShard};
use super::resume::Stored;
use super::{Ack, Producer, Sync};
use crate::log::{self, SyncTicket};
use crate::record::{SequenceNumber, ShardId};

/// At most so many records wait to be acknowledged before what was written is synced.
const ACKS_MAX: usize = if cfg!(test) { 100 } else { 100_000 };

/// So many acknowledgements are taken at a time.
const ACKS_AT_ONCE: usize = 4096;

impl Producer {
    /// When the caller shall come again ([`Producer::tick`]) if no input comes, on the clock of
    /// [`boot_us`](crate::sys::Clock::boot_us).
    pub fn deadline_us(&self) -> Option<i64> {
        match self.sync {
            Sync::Group { interval_us, .. } => self.oldest_unsynced_us.map(|oldest| oldest + interval_us),
            _ => None,
        }
    }

    /// Waits for the wait that goes on, if one does.
    pub fn wait(&mut self) -> Result<(), Error> {
        self.collect(true)
    }

    /// Whether a wait for the disk goes on.
    pub fn is_syncing(&self) -> bool {
        self.syncer.is_busy()
    }

    /// Syncs if it is time, and takes in what has been synced meanwhile.
    pub fn tick(&mut self) -> Result<(), Error> {
        self.collect(false)?;
        let now = self.stream.system().clock.boot_us();
        if self.deadline_us().is_some_and(|deadline| deadline <= now) {
            self.flush()?;
            self.begin_sync()?;
        }
        Ok(())
    }

    pub(super) fn sync_if_due(&mut self) -> Result<(), Error> {
        let Sync::Group { bytes, .. } = self.sync else { return Ok(()) };
        // Short records: what is kept of each until it is acknowledged comes to more than they do.
        let crowded = self.acks.as_ref().is_some_and(|acks| acks.uncovered() >= ACKS_MAX);
        if self.unsynced_bytes < bytes && !crowded {
            return Ok(());
        }
        // Acknowledgements and marks are only of what is in the sync whole.
        if self.counts() {
            self.flush()?;
        }
        self.begin_sync()
    }

    /// Begins to wait for the disk, after any wait that goes on already.
    pub(super) fn begin_sync(&mut self) -> Result<(), Error> {
        let tickets = self.tickets()?;
        self.syncer.begin(tickets);
        Ok(())
    }

    /// What to wait for, after any wait that goes on already.
    pub(super) fn tickets(&mut self) -> Result<Vec<(ShardId, SyncTicket)>, Error> {
        self.collect(true)?;
        let mut tickets: Vec<(ShardId, SyncTicket)> = Vec::new();
        for slot in &mut self.slots {
            if std::mem::take(&mut slot.dirty)
                && let Some(writer) = &slot.writer
            {
                tickets.push((slot.shard, writer.full_ticket()));
            }
        }
        self.unsynced_bytes = 0;
        self.oldest_unsynced_us = None;
        if let Some(acks) = &mut self.acks {
            acks.begin();
        }
        if let Some(named) = &mut self.named {
            named.begin();
        }
        Ok(tickets)
    }

    /// Takes in a wait that has ended; with `wait` waits for it.
    pub(super) fn collect(&mut self, wait: bool) -> Result<(), Error> {
        let Some(done) = self.syncer.collect(wait) else { return Ok(()) };
        for (shard, ticket, outcome) in done {
            let slot = self.slots.iter_mut().find(|slot| slot.shard == shard);
            let writer = slot.and_then(|slot| slot.writer.as_mut());
            match (outcome, writer) {
                (Ok(()), Some(writer)) => writer.synced(&ticket),
                // The shard has ended or was left since.
                (Ok(()), None) => {}
                (Err(failure), Some(writer)) => return Err(writer.condemn(&ticket, failure)).in_shard(shard),
                (Err(failure), None) => return Err(failure).in_shard(shard),
            }
        }
        if let Some(acks) = &mut self.acks {
            acks.end();
        }
        if let Some(named) = &mut self.named {
            named.end();
        }
        Ok(())
    }

    /// Writes all that has been gathered and returns when it is durable (or at once, for [`Sync::None`]).
    pub fn sync_now(&mut self) -> Result<(), Error> {
        self.flush()?;
        if self.sync == Sync::None {
            return Ok(());
        }
        // Nothing else is to be done meanwhile: to wake another thread for it and to be woken by it would cost as much
        // as the wait of a fast disk.
        let tickets = self.tickets()?;
        self.syncer.wait_here(tickets);
        self.collect(true)
    }

    /// Some of the acknowledgements that have become due, in the order of the records; `None` once all were taken.
    pub fn take_acks(&mut self) -> Option<Vec<Ack>> {
        let durable = self.sync != Sync::None;
        self.acks.as_mut()?.take(durable, ACKS_AT_ONCE)
    }

    /// The sequence number of an acknowledgement.
    pub fn sequence(&self, ack: &Ack) -> Option<SequenceNumber> {
        let info = self.stream.manifest().shard(ack.shard)?;
        Some(self.stream.sequence(info, ack.index, ack.arrival_us))
    }

    /// Tells a later run of the same name where this one stands, if all that was put is durable: it has nothing in doubt
    /// then. What is told need not be durable, for without it the batches tell enough.
    pub fn tell_place(&mut self) -> Result<(), Error> {
        let Some(place) = self.named.as_ref().and_then(|named| named.last_place(self.ordinal)) else {
            return Ok(());
        };
        for i in 0..self.slots.len() {
            let shard = self.slots[i].shard;
            match self.writer(i).and_then(|writer| writer.note_place(&place)) {
                // Where it cannot be told, the next run learns it from other shards, or looks for itself.
                Ok(()) | Err(log::Error::Closed(_) | log::Error::DiskFull { .. }) => {}
                // Nor is it this run's to tell any more.
                Err(log::Error::Fenced { .. }) => return Ok(()),
                Err(error) => return Err(error).in_shard(shard),
            }
        }
        if let Some(named) = &mut self.named {
            named.settle();
        }
        Ok(())
    }

    /// Writes all, returns when everything is durable (or at once, for [`Sync::None`]), and marks a clean end where this
    /// was the last writer: behind the wait, so that the mark says of all before it that it is on the disk.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.flush()?;
        if self.sync != Sync::None {
            self.begin_sync()?;
            self.collect(true)?;
            self.tell_place()?;
        }
        for slot in &mut self.slots {
            if let Some(mut writer) = slot.writer.take() {
                writer.pause().in_shard(slot.shard)?;
            }
        }
        Ok(())
    }

    /// [`Producer::finish`] for a source that tells its places itself and is stored up to `end`: a later run of the name
    /// has nothing in doubt then.
    pub fn finish_at(&mut self, end: Stored) -> Result<(), Error> {
        self.sync_now()?;
        super::resume::note_end(self, end)?;
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{NewStream, Stream};
    use super::*;
    use crate::log::Fresh;
    use crate::sys::System;

    const SELDOM: Sync = Sync::Group { bytes: 1 << 30, interval_us: 3_600_000_000 };

    fn producer(dir: &tempfile::TempDir) -> Producer {
        let stream = Stream::create(&System::real(), &dir.path().join("s"), &NewStream::default()).unwrap();
        Producer::open(stream, SELDOM, true).unwrap()
    }

    /// Three million short lines came to hundreds of megabytes of acknowledgements before the first sync was due.
    #[test]
    fn not_many_records_wait_to_be_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let mut producer = producer(&dir);
        let mut told = Vec::new();
        for number in 1..=1000 {
            producer.put_one(Fresh { payload: b"x", ..Fresh::default() }, None).unwrap();
            while let Some(acks) = producer.take_acks() {
                told.extend(acks.iter().map(|ack| ack.number));
            }
            assert!(number - told.len() <= 2 * ACKS_MAX, "{number}: {}", told.len());
        }
        producer.finish().unwrap();
        told.extend(producer.take_acks().unwrap().iter().map(|ack| ack.number));
        assert_eq!(told, (1..=1000).collect::<Vec<_>>());
    }

    /// What a named producer had not synced its next run read into memory, however much that was.
    #[test]
    fn a_named_producer_has_little_that_is_not_durable() {
        let dir = tempfile::tempdir().unwrap();
        let mut producer = producer(&dir);
        producer.claim("p").unwrap();
        let Sync::Group { bytes, .. } = producer.sync else { panic!() };
        assert_eq!(bytes, super::super::GROUP_BYTES);
    }
}
