//! Appending: find the tail, assign, write, all under the append lock; wait for the disk outside it.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use super::error::{Doing, Error};
use super::frame::control::{
    decode_producers, decode_provenance, encode_pause, encode_producers, encode_seal,
};
use super::frame::{
    Draft, EndOfShard, FRAME_BYTES_MAX, Fate, FrameHeader, HEADER_BYTES, IndexEntry, Kind, Predecessor,
    ProducerState,
};
use super::index::{IndexWriter, is_indexed};
use super::recover::{Ending, Tail, whole};
use super::segment::{At, Segment, Walk, control_frame, list, next_header};
use super::{LogDir, Roll};
use crate::hash::HashRange;
use crate::record::Provenance;
use crate::sys::{Disk, Locks};

/// Where producers stand, by name.
type Producers = BTreeMap<String, Vec<ProducerState>>;

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Index of the first record.
    pub first: u64,
    /// The arrival time that all of them got.
    pub arrival_us: i64,
}

/// A wait for the disk that can be done on another thread, outside every lock.
#[derive(Clone)]
pub struct SyncTicket {
    disk: Arc<dyn Disk>,
    segment: Arc<Segment>,
    /// The index below which everything is durable once the wait has succeeded.
    through: u64,
}

impl SyncTicket {
    /// Waits until all that the ticket stands for is on the disk.
    ///
    /// An error is final: what was not acknowledged before it may never be. The writer must be told
    /// ([`Writer::condemn`]).
    pub fn wait(&self) -> Result<(), Error> {
        self.segment.sync(&*self.disk).inspect_err(|_| {
            // At once, before the writer comes to it with the lock: nobody must believe a later sync.
            let _ = self.disk.create(&self.segment.mark());
        })
    }
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

    fn open_locked(log: LogDir, locks: Arc<dyn Locks>, roll: Roll, range: HashRange) -> Result<Self, Error> {
        let slot = live_slot(log.id.shard);
        let alone = locks.try_lock(slot, true).doing("lock", &log.dir)?;
        if !alone {
            // Nobody holds it exclusively outside the append lock, which is ours.
            locks.lock(slot, false).doing("lock", &log.dir)?;
        }
        let last = match list(&log) {
            Ok(bases) => bases.last().copied().ok_or_else(|| Error::Empty { dir: log.dir.clone() }),
            Err(error) => Err(error),
        };
        let opened = last.and_then(|base| {
            let segment = Segment::open(&log, base, true)?;
            let len = segment.len()?;
            let tail = Tail::near_end(&log, &segment, len)?;
            Ok((segment, tail, len))
        });
        let (segment, tail, len) = opened.inspect_err(|_| {
            let _ = locks.unlock(slot);
        })?;
        let mut writer = Self {
            log,
            locks,
            roll,
            range,
            segment: Arc::new(segment),
            index: None,
            written: 0,
            tail,
            producers: None,
            live: true,
        };
        // From here on dropping the writer gives the live slot back.
        let ending = writer.tail.follow(&writer.segment, len, |_, _| {})?;
        if writer.tail.next == writer.segment.header.base {
            // Whoever created the segment may have been killed before its name was durable.
            writer.sync_names()?;
        }
        writer.settle(ending, alone)?;
        if alone {
            writer.locks.lock(slot, false).doing("lock", &writer.log.dir)?;
        }
        Ok(writer)
    }

    /// Brings the log into a state in which frames can be appended, whatever its last writers left.
    fn settle(&mut self, ending: Ending, alone: bool) -> Result<(), Error> {
        if self.segment.is_condemned(&*self.log.system.disk) {
            // Whoever found out came no further than the mark.
            return self.go_on_after_condemned();
        }
        match ending {
            Ending::Closed(end) => Err(self.closed(end)),
            Ending::Condemned => self.go_on_after_condemned(),
            Ending::Sealed(base) if !alone || self.is_whole()? => self.finish_roll(base),
            Ending::Open | Ending::Paused(_) if !alone => Ok(()),
            Ending::Paused(boot) if boot == self.log.system.clock.boot_id() => Ok(()),
            // A pause of another boot says nothing: what was written behind it may be lost without a trace, and its
            // indexes have been seen.
            Ending::Open | Ending::Paused(_) | Ending::Sealed(_) | Ending::Torn => self.recover(),
        }
    }

    fn is_whole(&self) -> Result<bool, Error> {
        Ok(whole(&self.log, &self.segment, &self.tail)?.offset == self.tail.offset)
    }

    fn sync_names(&self) -> Result<(), Error> {
        self.log.system.disk.sync_dir(&self.log.dir).doing("sync", &self.log.dir)
    }

    fn sync_segment(&mut self) -> Result<(), Error> {
        self.segment.sync(&*self.log.system.disk).map_err(|failure| self.condemn_locked(failure))
    }

    /// The shard has ended. Its children may take records as soon as this is known, so it is durable before.
    fn closed(&mut self, end: EndOfShard) -> Error {
        self.sync_segment().err().unwrap_or(Error::Closed(end))
    }

    /// Keeps what is whole, makes it durable, and goes on in a new segment at the ceiling.
    fn recover(&mut self) -> Result<(), Error> {
        let whole = whole(&self.log, &self.segment, &self.tail)?;
        self.sync_segment()?;
        self.begin_at_ceiling(&whole, Fate::Recovered)
    }

    fn begin_at_ceiling(&mut self, whole: &Tail, fate: Fate) -> Result<(), Error> {
        let producers =
            if self.tail.provenance_seen { self.read_producers(whole.offset)? } else { Producers::new() };
        let predecessor =
            Predecessor { base: self.segment.header.base, bytes: whole.offset, end: whole.next, fate };
        let base = self.segment.header.ceiling;
        self.begin(base, predecessor, &producers)
    }

    /// Creates the next segment and goes there.
    fn begin(&mut self, base: u64, predecessor: Predecessor, producers: &Producers) -> Result<(), Error> {
        let created_us = self.log.system.clock.now_us().max(self.tail.arrival_us);
        let header = next_header(&self.log, base, created_us, Some(predecessor));
        let states: Vec<ProducerState> = producers.values().flatten().cloned().collect();
        let frames = if states.is_empty() {
            Vec::new()
        } else {
            let head = FrameHeader {
                provenance_seen: true,
                ..FrameHeader::of(Kind::Producers, base, created_us, base)
            };
            control_frame(&header.identity(), head, &encode_producers(&states))
        };
        let segment = Segment::create(&self.log, header, &frames)?;
        self.enter(segment)
    }

    /// Goes on in another segment, from its start.
    ///
    /// # Errors
    /// [`Error::Condemned`], once, if records that this process had written were given up on the way.
    fn enter(&mut self, segment: Segment) -> Result<(), Error> {
        let arrival_us = self.tail.arrival_us;
        let left = self.segment.header.base;
        let lost = segment.header.predecessor.is_some_and(|p| p.base == left && p.end < self.written);
        let path = self.segment.path.clone();
        self.written = 0;
        self.tail = Tail::start(&segment.header);
        self.tail.arrival_us = self.tail.arrival_us.max(arrival_us);
        self.segment = Arc::new(segment);
        self.index = None;
        // What producers this process knew is carried into the new segment's own list; it is read again when needed.
        self.producers = None;
        let len = self.segment.len()?;
        let ending = self.follow(len)?;
        let arrived = self.arrive(ending);
        if lost { Err(Error::Condemned { path, source: None }) } else { arrived }
    }

    fn follow(&mut self, len: u64) -> Result<Ending, Error> {
        let mut tellers = Vec::new();
        let wanted = self.producers.is_some();
        let ending = self.tail.follow(&self.segment, len, |offset, header| {
            if wanted && (header.provenance_bytes > 0 || header.kind == Kind::Producers) {
                tellers.push(offset);
            }
        })?;
        if let Some(mut producers) = self.producers.take() {
            let mut walk = Walk::new(&self.segment, len);
            for offset in tellers {
                learn(&self.segment, &mut walk, offset, self.range, &mut producers)?;
            }
            self.producers = Some(producers);
        }
        Ok(ending)
    }

    /// Learns what other processes have appended since the last look. The append lock is held.
    fn catch_up(&mut self) -> Result<(), Error> {
        let len = self.segment.len()?;
        if len == self.tail.offset {
            if !self.tail.is_over() {
                return Ok(());
            }
            // This process wrote the last frame and came no further: whatever it says still has to be done.
            self.tail.offset -= self.tail.last_frame.map_or(0, |last| len - last);
        }
        if len < self.tail.offset {
            return Err(Error::Damaged {
                path: self.segment.path.clone(),
                offset: len,
                reason: "the segment has become shorter",
            });
        }
        let ending = self.follow(len)?;
        self.arrive(ending)
    }

    /// Goes where the end of the segment says, while other writers may be alive.
    fn arrive(&mut self, ending: Ending) -> Result<(), Error> {
        match ending {
            Ending::Open | Ending::Paused(_) => Ok(()),
            Ending::Closed(end) => Err(self.closed(end)),
            Ending::Sealed(_) | Ending::Condemned | Ending::Torn => {
                let base = self.segment.header.base;
                match (list(&self.log)?.into_iter().find(|&other| other > base), ending) {
                    (Some(next), _) => {
                        let segment = Segment::open(&self.log, next, true)?;
                        // Whoever created it may have been killed before its name was durable.
                        self.sync_names()?;
                        self.enter(segment)
                    }
                    (None, Ending::Sealed(next)) => self.finish_roll(next),
                    (None, Ending::Condemned) => self.go_on_after_condemned(),
                    // A writer died inside a write.
                    (None, _) => self.recover(),
                }
            }
        }
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
        SyncTicket { disk: Arc::clone(&self.log.system.disk), segment: Arc::clone(&self.segment), through }
    }

    /// Notes that a ticket's wait has succeeded. Later frames tell it to every reader.
    pub fn synced(&mut self, ticket: &SyncTicket) {
        self.tail.durable = self.tail.durable.max(ticket.through.min(self.tail.next));
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

    /// Takes a segment out of use after a sync of it failed, for every process. Returns the error to report.
    pub fn condemn(&mut self, ticket: &SyncTicket, failure: Error) -> Error {
        let base = ticket.segment.header.base;
        let outcome = self.locked(|writer| {
            // Here or on the way another process may have been faster.
            match writer.catch_up() {
                Ok(()) if writer.segment.header.base == base => writer.go_on_after_condemned(),
                other => other,
            }
        });
        match outcome {
            Ok(()) | Err(Error::Condemned { .. }) => failure,
            Err(error) => error,
        }
    }

    /// Takes the segment out of use. The append lock is held. Returns the error to report.
    fn condemn_locked(&mut self, failure: Error) -> Error {
        match self.go_on_after_condemned() {
            // That records of this process were given up is what `failure` says already.
            Ok(()) | Err(Error::Condemned { .. }) => failure,
            Err(error) => error,
        }
    }

    /// Condemns the segment, if that is not yet done, and goes on behind what the device gives back whole of it.
    fn go_on_after_condemned(&mut self) -> Result<(), Error> {
        // The mark stops acknowledgements, the frame makes every other writer look: one that does not would go on
        // here. Without both the log must not go on. Where the length differs from what this process knows it differs
        // for all others too, and what lies there is not overwritten.
        let news = self.segment.len()? != self.tail.offset || self.tail.last == Some(Kind::Condemned);
        let noted = if news { Ok(()) } else { self.write_control(Kind::Condemned, &[]) };
        let mark = self.segment.mark();
        let disk = &self.log.system.disk;
        disk.open_writable(&mark)
            .or_else(|_| disk.create(&mark))
            .and_then(|file| file.sync_data())
            .and_then(|()| disk.sync_dir(&self.log.dir))
            .doing("mark the failed segment, so the shard stops at", &self.segment.path)?;
        noted?;
        // What is still dirty is written or given up now, and what was given up is forgotten: the rest is what the
        // device has. Whether this sync succeeds says nothing.
        let _ = self.segment.file.sync_data();
        self.segment.file.forget_cache().doing("read back", &self.segment.path)?;
        let mut tail = Tail::start(&self.segment.header);
        let ending = tail.follow(&self.segment, self.segment.len()?, |_, _| {})?;
        // What was acknowledged from here is in `durable` of the frames or of this process.
        tail.durable = tail.durable.max(self.tail.durable).min(tail.next);
        let whole = whole(&self.log, &self.segment, &tail)?;
        match ending {
            Ending::Closed(end) if whole.offset == tail.offset => Err(Error::Closed(end)),
            _ => self.begin_at_ceiling(&whole, Fate::Condemned),
        }
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

    /// Marks a clean end if this is the last writer alive, so that the next one need not look for a crash. The mark is
    /// as durable as the next sync makes it. The writer must not append afterwards.
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
        let boot = self.log.system.clock.boot_id();
        self.write_control(Kind::Pause, &encode_pause(boot))
    }

    /// Claims a producer's name for the run `epoch`: every earlier run is fenced from here on. Answers with where the
    /// producer stood, one state per part of the hash key range, or with the epoch of a run that is not earlier.
    pub fn claim(&mut self, producer: &str, epoch: u64) -> Result<Claim, Error> {
        self.locked(|writer| {
            writer.catch_up()?;
            let before = writer.load_producers()?.get(producer).cloned().unwrap_or_default();
            if let Some(later) =
                before.iter().map(|state| state.last.epoch).max().filter(|&other| other >= epoch)
            {
                return Ok(Claim::Later(later));
            }
            let mut states = before.clone();
            if states.is_empty() {
                let last =
                    Provenance { producer: producer.to_owned(), epoch, ordinal: 0, position: Vec::new() };
                states.push(ProducerState { range: writer.range, last, arrival_us: writer.tail.arrival_us });
            }
            for state in &mut states {
                state.last.epoch = epoch;
            }
            writer.write_control(Kind::Producers, &encode_producers(&states))?;
            writer.load_producers()?.insert(producer.to_owned(), states);
            Ok(Claim::Taken(before))
        })
    }

    /// Where all producers stand in this log.
    pub fn producers(&mut self) -> Result<Vec<ProducerState>, Error> {
        self.locked(|writer| {
            match writer.catch_up() {
                Ok(()) | Err(Error::Closed(_)) => {}
                Err(error) => return Err(error),
            }
            Ok(writer.load_producers()?.values().flatten().cloned().collect())
        })
    }

    fn fence(&mut self, provenance: &Provenance) -> Result<(), Error> {
        let later = self
            .load_producers()?
            .get(&provenance.producer)
            .and_then(|states| states.iter().map(|state| state.last.epoch).max());
        match later {
            Some(later) if later > provenance.epoch => {
                Err(Error::Fenced { producer: provenance.producer.clone(), epoch: provenance.epoch, later })
            }
            _ => Ok(()),
        }
    }

    fn load_producers(&mut self) -> Result<&mut Producers, Error> {
        if self.producers.is_none() {
            self.producers = Some(if self.tail.provenance_seen {
                self.read_producers(self.tail.offset)?
            } else {
                Producers::new()
            });
        }
        Ok(self.producers.get_or_insert_default())
    }

    /// Reads where all producers stand from the first `len` bytes of the segment: it begins with a list of those that
    /// came before.
    fn read_producers(&self, len: u64) -> Result<Producers, Error> {
        read_producers(&self.segment, len, self.range)
    }
}

/// Reads where all producers stand in a segment.
pub(crate) fn read_producers(segment: &Segment, len: u64, range: HashRange) -> Result<Producers, Error> {
    let mut offsets = Vec::new();
    let mut tail = Tail::start(&segment.header);
    tail.follow(segment, len, |offset, header| {
        if header.provenance_bytes > 0 || header.kind == Kind::Producers {
            offsets.push(offset);
        }
    })?;
    let mut producers = Producers::new();
    let mut walk = Walk::new(segment, len);
    let mut stored = Vec::new();
    // From the back: what is said last counts, and only that must be verified.
    for offset in offsets.into_iter().rev() {
        let mut told = Producers::new();
        let learned = learn(segment, &mut walk, offset, range, &mut told);
        if learned.is_ok() && told.keys().all(|producer| producers.contains_key(producer)) {
            continue;
        }
        let At::Frame(header, crc) = walk.at(offset)? else { continue };
        if !segment.stored(offset, &header, crc, &mut stored)? {
            let reason = "what it tells of producers does not hold";
            return Err(Error::Damaged { path: segment.path.clone(), offset, reason });
        }
        learned?;
        for (producer, states) in told {
            producers.entry(producer).or_insert(states);
        }
    }
    Ok(producers)
}

/// Takes in what one frame tells of producers.
fn learn(
    segment: &Segment,
    walk: &mut Walk<'_>,
    offset: u64,
    range: HashRange,
    producers: &mut Producers,
) -> Result<(), Error> {
    let damaged = |reason| Error::Damaged { path: segment.path.clone(), offset, reason };
    let At::Frame(header, _) = walk.at(offset)? else { return Err(damaged("a frame has gone")) };
    let at = offset + HEADER_BYTES as u64;
    if header.kind == Kind::Producers {
        let body = walk.bytes(at, header.stored_bytes as usize)?;
        let states = decode_producers(body).ok_or_else(|| damaged("the list of producers does not hold"))?;
        // The list says all there is to say about each producer that it names.
        for state in &states {
            producers.remove(&state.last.producer);
        }
        for state in states {
            producers.entry(state.last.producer.clone()).or_default().push(state);
        }
    } else {
        let bytes = walk.bytes(at, usize::from(header.provenance_bytes))?;
        let last = decode_provenance(bytes).ok_or_else(|| damaged("the provenance does not hold"))?;
        note(producers, &last, header.arrival_us, range);
    }
    Ok(())
}

/// A producer's batch says where it stands in the whole range of the log that took it.
fn note(producers: &mut Producers, last: &Provenance, arrival_us: i64, range: HashRange) {
    producers.insert(last.producer.clone(), vec![ProducerState { range, last: last.clone(), arrival_us }]);
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.live {
            let _ = self.locks.unlock(live_slot(self.log.id.shard));
        }
    }
}
