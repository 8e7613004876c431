//! Appending: find the tail, assign, write, all under the append lock; wait for the disk outside it.

mod condemned;
mod place;
mod producers;

use std::io::{self, IoSlice};
use std::sync::Arc;

pub(crate) use producers::read_producers;
use producers::{Producers, note};

use super::error::{Doing, Error};
use super::frame::control::{encode_pause, encode_seal};
use super::frame::{
    Draft, EndOfShard, FRAME_BYTES_MAX, Fate, FrameHeader, IndexEntry, Kind, Predecessor, ProducerState,
};
use super::index::{IndexWriter, is_indexed};
use super::recover::Tail;
use super::segment::{Segment, control_frame};
use super::sync::SyncTicket;
use super::{LogDir, Roll};
use crate::hash::HashRange;
use crate::sys::Locks;

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Index of the first record.
    pub first: u64,
    /// The arrival time that all of them got.
    pub arrival_us: i64,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The name is the caller's; this is where it stood.
    Taken(Vec<ProducerState>),
    /// A run with this epoch, not below the one asked for, has the name.
    Later(u64),
}

/// A process's place at the end of a log. While it lives it holds the shard's live slot shared.
pub struct Writer {
    log: LogDir,
    locks: Arc<dyn Locks>,
    roll: Roll,
    /// The hash keys that this log's producers' places hold for.
    range: HashRange,
    segment: Arc<Segment>,
    index: Option<IndexWriter>,
    tail: Tail,
    producers: Option<Producers>,
    /// The highest index that this process has written, plus one.
    written: u64,
    /// Bytes of the segment that a wait of this process has found durable.
    synced_bytes: u64,
    live: bool,
}

/// The lock slots of a shard. Slot 0 is the stream's own; shards follow in two regions, so that the live locks of a
/// process lie side by side and the kernel keeps them as one.
pub(crate) fn append_slot(shard: u32) -> u64 {
    1 + u64::from(shard)
}

pub(crate) fn live_slot(shard: u32) -> u64 {
    (1 << 33) + u64::from(shard)
}

impl Writer {
    /// Opens the log for appending; recovers it if its last writers left without a word and none is alive.
    ///
    /// # Errors
    /// [`Error::Closed`] if the shard has ended, and whatever keeps the tail from being known.
    pub fn open(log: LogDir, locks: Arc<dyn Locks>, roll: Roll, range: HashRange) -> Result<Self, Error> {
        let shard = log.id.shard;
        locks.lock(append_slot(shard), true).doing("lock", &log.dir)?;
        let table = Arc::clone(&locks);
        let opened = Self::open_locked(log, locks, roll, range);
        let _ = table.unlock(append_slot(shard));
        opened
    }

    fn sync_segment(&mut self) -> Result<(), Error> {
        self.segment.sync(&*self.log.system.disk).map_err(|failure| self.condemn_locked(failure))
    }

    /// Appends frames one behind the other and returns the place of the first. They are in the log, in order, and
    /// every process sees them; they are durable after a [`SyncTicket`] taken from now on has been waited for.
    pub fn append(&mut self, drafts: &[Draft<'_>]) -> Result<Appended, Error> {
        if let Some(draft) = drafts.iter().find(|draft| draft.frame_bytes() > FRAME_BYTES_MAX as u64) {
            return Err(Error::TooLarge { bytes: draft.frame_bytes() });
        }
        self.locked(|writer| writer.append_locked(drafts))
    }

    fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let slot = append_slot(self.log.id.shard);
        self.locks.lock(slot, true).doing("lock", &self.log.dir)?;
        let result = work(self);
        let unlocked = self.locks.unlock(slot).doing("unlock", &self.log.dir);
        let value = result?;
        unlocked.map(|()| value)
    }

    fn append_locked(&mut self, drafts: &[Draft<'_>]) -> Result<Appended, Error> {
        self.catch_up()?;
        for provenance in drafts.iter().filter_map(|draft| draft.provenance.as_ref()) {
            self.fence(provenance)?;
        }
        let bytes: u64 = drafts.iter().map(Draft::frame_bytes).sum();
        let count: u64 = drafts.iter().map(|draft| u64::from(draft.count())).sum();
        let now = self.log.system.clock.now_us();
        if self.is_full(bytes, count, now) {
            self.roll_locked()?;
        }
        let first = self.tail.next;
        let arrival_us = now.max(self.tail.arrival_us);
        let offset = self.tail.offset;
        let mut headers = Vec::with_capacity(drafts.len());
        let mut next = first;
        let mut provenance_seen = self.tail.provenance_seen;
        for draft in drafts {
            provenance_seen |= draft.provenance.is_some();
            let header = FrameHeader {
                first: next,
                arrival_us,
                durable: self.tail.durable,
                provenance_seen,
                ..draft.header
            };
            headers.push((header, header.encode(&self.segment.identity, draft.stored_crc)));
            next = header.end();
        }
        let mut parts = Vec::with_capacity(drafts.len() * 4);
        for (draft, (_, header)) in drafts.iter().zip(&headers) {
            parts.push(IoSlice::new(header));
            parts.extend(draft.parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)));
        }
        self.write(&parts, bytes, drafts.first().map_or(0, Draft::frame_bytes))?;
        let mut at = offset;
        for (draft, (header, _)) in drafts.iter().zip(&headers) {
            if is_indexed(at, self.tail.last_frame) {
                self.add_to_index(header, at);
            }
            self.tail.last_frame = Some(at);
            at += header.frame_bytes();
            if let (Some(provenance), Some(producers)) = (&draft.provenance, &mut self.producers) {
                note(producers, provenance, arrival_us, self.range);
            }
        }
        self.tail =
            Tail { offset: at, next, arrival_us, provenance_seen, last: Some(Kind::Records), ..self.tail };
        self.written = next;
        Ok(Appended { first, arrival_us })
    }

    fn is_full(&self, bytes: u64, count: u64, now_us: i64) -> bool {
        let holds_records = self.tail.next > self.segment.header.base;
        let large = self.tail.offset + bytes > self.roll.bytes;
        let old = now_us.saturating_sub(self.segment.header.created_us) >= self.roll.age_us;
        let used_up = self.tail.next + count > self.segment.header.ceiling;
        holds_records && (large || old || used_up)
    }

    /// Writes at the tail. What a failed write left is cut off again, so that the file ends where the log does: unless
    /// a whole frame was there, even for a moment. A reader may have seen it, and its indexes must not come again, so
    /// the first byte stays, as a torn tail that sends the log into its next segment.
    fn write(&self, parts: &[IoSlice<'_>], bytes: u64, first_bytes: u64) -> Result<(), Error> {
        let file = &self.segment.file;
        let Err(source) = file.write_at(parts, self.tail.offset) else { return Ok(()) };
        let path = self.segment.path.clone();
        let seen = file.len().map_or(true, |len| len >= self.tail.offset + first_bytes);
        // If this fails too, the next writer finds a torn tail and sets it aside.
        let _ = file.set_len(self.tail.offset + u64::from(seen));
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        Err(if full {
            Error::DiskFull { path, bytes }
        } else {
            Error::Io { doing: "write to", path, source }
        })
    }

    fn add_to_index(&mut self, header: &FrameHeader, offset: u64) {
        let log = &self.log;
        let base = self.segment.header.base;
        let index = self.index.get_or_insert_with(|| IndexWriter::open(log, base));
        let entry = IndexEntry { first: header.first, arrival_us: header.arrival_us, offset };
        index.add(&self.segment.header, &entry);
    }

    /// Appends a frame without records at the tail.
    fn write_control(&mut self, kind: Kind, body: &[u8]) -> Result<(), Error> {
        let header = FrameHeader {
            provenance_seen: self.tail.provenance_seen || kind == Kind::Producers,
            ..FrameHeader::of(kind, self.tail.next, self.tail.arrival_us, self.tail.durable)
        };
        let frame = control_frame(&self.segment.identity, header, body);
        let bytes = frame.len() as u64;
        self.write(&[IoSlice::new(&frame)], bytes, bytes)?;
        self.tail.last_frame = Some(self.tail.offset);
        self.tail.offset += bytes;
        self.tail.provenance_seen = header.provenance_seen;
        self.tail.last = Some(kind);
        Ok(())
    }

    /// Seals the segment and goes on in the next, whatever its size and age. Does nothing where it holds no records.
    pub fn roll(&mut self) -> Result<(), Error> {
        self.locked(|writer| {
            writer.catch_up()?;
            if writer.tail.next > writer.segment.header.base { writer.roll_locked() } else { Ok(()) }
        })
    }

    fn roll_locked(&mut self) -> Result<(), Error> {
        let next = self.tail.next;
        self.write_control(Kind::Seal, &encode_seal(next - self.segment.header.base, next))?;
        self.finish_roll(next)
    }

    /// The second half of a roll: the seal stands, the next segment does not yet.
    fn finish_roll(&mut self, base: u64) -> Result<(), Error> {
        self.sync_segment()?;
        self.load_producers()?;
        let producers = self.producers.take().unwrap_or_default();
        let predecessor = Predecessor {
            base: self.segment.header.base,
            bytes: self.tail.offset,
            end: self.tail.next,
            fate: Fate::Sealed,
        };
        self.begin(base, predecessor, &producers)
    }

    /// A wait for all that this process has written, or `None` if it is all durable already.
    pub fn ticket(&self) -> Option<SyncTicket> {
        (self.tail.durable < self.written).then(|| self.ticket_through(self.tail.next))
    }

    /// A wait for all that is known to be in the log, written by whomever.
    pub fn full_ticket(&self) -> SyncTicket {
        self.ticket_through(self.tail.next)
    }

    fn ticket_through(&self, through: u64) -> SyncTicket {
        SyncTicket {
            disk: Arc::clone(&self.log.system.disk),
            locks: Arc::clone(&self.locks),
            segment: Arc::clone(&self.segment),
            boot: self.log.system.clock.boot_id(),
            through,
            bytes: self.synced_bytes..self.tail.offset,
        }
    }

    /// Notes that a ticket's wait has succeeded. Later frames tell it to every reader.
    pub fn synced(&mut self, ticket: &SyncTicket) {
        self.tail.durable = self.tail.durable.max(ticket.through.min(self.tail.next));
        if Arc::ptr_eq(&ticket.segment, &self.segment) {
            self.synced_bytes = self.synced_bytes.max(ticket.bytes.end);
        }
    }

    /// The index below which everything is known to be durable.
    pub fn durable(&self) -> u64 {
        self.tail.durable
    }

    /// The base of the segment that is written: it changes when the log rolls.
    pub fn segment_base(&self) -> u64 {
        self.segment.header.base
    }

    /// The index that the next record will get, as far as this process knows.
    pub fn next_index(&self) -> u64 {
        self.tail.next
    }

    /// Ends the shard: names its children, durably. If another process was faster, what it said stands and is
    /// returned.
    pub fn end(&mut self, end: &EndOfShard) -> Result<EndOfShard, Error> {
        let outcome = self.locked(|writer| {
            writer.catch_up()?;
            // First what comes before the end, so that the end says of all of it that it is durable: what does not
            // hold is damage then, and no reason to open the shard again.
            writer.sync_segment()?;
            writer.tail.durable = writer.tail.next;
            writer.write_control(Kind::End, &end.encode())?;
            writer.sync_segment()?;
            Ok(end.clone())
        });
        match outcome {
            Err(Error::Closed(end)) => Ok(end),
            other => other,
        }
    }

    /// Marks a clean end if this is the last writer alive, so that the next one need not look for a crash. Whoever has
    /// waited for the disk does so before: the mark then tells of all before it that it is durable. The mark itself need
    /// not be, for without it the next writer looks. The writer must not append afterwards.
    pub fn pause(&mut self) -> Result<(), Error> {
        let live = live_slot(self.log.id.shard);
        let outcome = self.locked(|writer| {
            let alone = writer.locks.try_lock(live, true).doing("lock", &writer.log.dir)?;
            let outcome = if alone { writer.pause_locked() } else { Ok(()) };
            // Within the append lock, so that of two that leave at once the second finds itself alone.
            writer.live = false;
            writer.locks.unlock(live).doing("unlock", &writer.log.dir)?;
            outcome
        });
        match outcome {
            // The shard ended, or the disk has no room for the mark: the next writer will look for itself.
            Err(Error::Closed(_) | Error::DiskFull { .. }) => Ok(()),
            other => other,
        }
    }

    fn pause_locked(&mut self) -> Result<(), Error> {
        self.catch_up()?;
        if self.tail.last == Some(Kind::Pause) {
            return Ok(());
        }
        let ticket = self.full_ticket();
        if ticket.is_done() {
            self.synced(&ticket);
        }
        let boot = self.log.system.clock.boot_id();
        self.write_control(Kind::Pause, &encode_pause(boot))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.live {
            let _ = self.locks.unlock(live_slot(self.log.id.shard));
        }
    }
}
