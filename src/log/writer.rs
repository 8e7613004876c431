//! Appending: find the tail, assign, write, all under the append lock; wait for the disk outside it.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;
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
use crate::sys::{Disk, File, Locks};

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
    file: Arc<dyn File>,
    path: PathBuf,
    mark: PathBuf,
    base: u64,
    /// The index below which everything is durable once the wait has succeeded.
    through: u64,
}

impl SyncTicket {
    /// Waits until all that the ticket stands for is on the disk.
    ///
    /// An error is final: what was not acknowledged before it may never be. The writer must be told
    /// ([`Writer::condemn`]).
    pub fn wait(&self) -> Result<(), Error> {
        let condemned = |source| Error::Condemned { path: self.path.clone(), source };
        self.file.sync_data().map_err(|source| condemned(Some(source)))?;
        // Another process may have been told of a failure that this one was not: the kernel reports it once per
        // descriptor, and not to those opened later.
        if self.disk.exists(&self.mark) { Err(condemned(None)) } else { Ok(()) }
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
    segment: Segment,
    index: Option<IndexWriter>,
    tail: Tail,
    producers: Option<Producers>,
    /// The highest index that this process has written and not yet synced, plus one.
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
        let opened = Self::open_locked(log, Arc::clone(&locks), roll, range);
        let _ = locks.unlock(append_slot(shard));
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
            segment,
            index: None,
            written: tail.next,
            tail,
            producers: None,
            live: true,
        };
        // From here on dropping the writer gives the live slot back.
        let ending = writer.tail.follow(&writer.segment, len, |_, _| {})?;
        writer.settle(ending, alone)?;
        if alone {
            writer.locks.lock(slot, false).doing("lock", &writer.log.dir)?;
        }
        Ok(writer)
    }

    /// Brings the log into a state in which frames can be appended, whatever its last writers left.
    fn settle(&mut self, ending: Ending, alone: bool) -> Result<(), Error> {
        match ending {
            Ending::Closed(end) => Err(Error::Closed(end)),
            Ending::Sealed(base) => self.finish_roll(base),
            Ending::Condemned => self.go_on_after_condemned(),
            Ending::Open | Ending::Paused(_) if !alone => Ok(()),
            Ending::Paused(boot) if boot == self.log.system.clock.boot_id() => Ok(()),
            Ending::Paused(_) if whole(&self.log, &self.segment, &self.tail)?.offset == self.tail.offset => {
                // The machine was started anew since, and all is there: from now on it must stay there.
                self.segment.file.sync_data().doing("sync", &self.segment.path)?;
                self.tail.durable = self.tail.next;
                Ok(())
            }
            Ending::Open | Ending::Paused(_) | Ending::Torn => self.recover(),
        }
    }

    /// Keeps what is whole, makes it durable, and goes on in a new segment at the ceiling.
    fn recover(&mut self) -> Result<(), Error> {
        let whole = whole(&self.log, &self.segment, &self.tail)?;
        self.segment
            .file
            .sync_data()
            .map_err(|source| Error::Condemned { path: self.segment.path.clone(), source: Some(source) })?;
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
    fn enter(&mut self, segment: Segment) -> Result<(), Error> {
        let arrival_us = self.tail.arrival_us;
        self.tail = Tail::start(&segment.header);
        self.tail.arrival_us = self.tail.arrival_us.max(arrival_us);
        self.segment = segment;
        self.index = None;
        self.written = self.written.max(self.tail.next);
        // What producers this process knew is carried into the new segment's own list; it is read again when needed.
        self.producers = None;
        let len = self.segment.len()?;
        let ending = self.follow(len)?;
        match ending {
            Ending::Open => Ok(()),
            other => self.arrive(other),
        }
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
            return Ok(());
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
            Ending::Closed(end) => Err(Error::Closed(end)),
            Ending::Sealed(_) | Ending::Condemned | Ending::Torn => {
                let base = self.segment.header.base;
                match (list(&self.log)?.into_iter().find(|&other| other > base), ending) {
                    (Some(next), _) => {
                        let segment = Segment::open(&self.log, next, true)?;
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
        self.write(&parts, bytes)?;
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
        self.tail = Tail { offset: at, next, arrival_us, provenance_seen, paused: false, ..self.tail };
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

    /// Writes at the tail. What a failed write left is cut off again, so that the file ends where the log does.
    fn write(&self, parts: &[IoSlice<'_>], bytes: u64) -> Result<(), Error> {
        let Err(source) = self.segment.file.write_at(parts, self.tail.offset) else { return Ok(()) };
        let path = self.segment.path.clone();
        // If this fails too, the next writer finds a torn tail and sets it aside.
        let _ = self.segment.file.set_len(self.tail.offset);
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
        self.write(&[IoSlice::new(&frame)], frame.len() as u64)?;
        self.tail.last_frame = Some(self.tail.offset);
        self.tail.offset += frame.len() as u64;
        self.tail.provenance_seen = header.provenance_seen;
        self.tail.paused = kind == Kind::Pause;
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
        if let Err(source) = self.segment.file.sync_data() {
            return Err(self.condemn_locked(Some(source)));
        }
        let producers =
            if self.tail.provenance_seen { self.read_producers(self.tail.offset)? } else { Producers::new() };
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
            file: Arc::clone(&self.segment.file),
            path: self.segment.path.clone(),
            mark: self.segment.mark(),
            base: self.segment.header.base,
            through,
        }
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
        let base = ticket.base;
        let outcome = self.locked(|writer| {
            writer.catch_up()?;
            if writer.segment.header.base == base {
                let source = match failure {
                    Error::Condemned { source, .. } => source,
                    _ => None,
                };
                return Err(writer.condemn_locked(source));
            }
            // Somebody else was faster.
            Ok(failure)
        });
        outcome.unwrap_or_else(|error| error)
    }

    fn condemn_locked(&mut self, source: Option<io::Error>) -> Error {
        let path = self.segment.path.clone();
        // The mark stops acknowledgements, the frame makes every other writer look; without both the log must not go
        // on, because another process could then acknowledge from a segment that is lost.
        let mark = self.segment.mark();
        let disk = &self.log.system.disk;
        let marked = disk.exists(&mark)
            || disk.create(&mark).and_then(|file| file.sync_data()).is_ok()
                && disk.sync_dir(&self.log.dir).is_ok();
        let noted = self.write_control(Kind::Condemned, &[]);
        if !marked {
            return Error::Io {
                doing: "mark the failed segment, so the shard stops at",
                path,
                source: source.unwrap_or_else(|| io::ErrorKind::Other.into()),
            };
        }
        match noted.and_then(|()| self.go_on_after_condemned()) {
            Ok(()) => Error::Condemned { path, source },
            Err(error) => error,
        }
    }

    /// Goes on behind what the device gives back whole of a condemned segment.
    fn go_on_after_condemned(&mut self) -> Result<(), Error> {
        self.segment.file.forget_cache().doing("read back", &self.segment.path)?;
        let len = self.segment.len()?;
        let mut tail = Tail::start(&self.segment.header);
        tail.follow(&self.segment, len, |_, _| {})?;
        // What was acknowledged from here is in `durable` of the frames or of this process.
        tail.durable = tail.durable.max(self.tail.durable).min(tail.next);
        let whole = whole(&self.log, &self.segment, &tail)?;
        self.begin_at_ceiling(&whole, Fate::Condemned)
    }

    /// Ends the shard: names its children, durably. If another process was faster, what it said stands and is
    /// returned.
    pub fn end(&mut self, end: &EndOfShard) -> Result<EndOfShard, Error> {
        let outcome = self.locked(|writer| {
            writer.catch_up()?;
            writer.write_control(Kind::End, &end.encode())?;
            match writer.segment.file.sync_data() {
                Ok(()) => Ok(end.clone()),
                Err(source) => Err(writer.condemn_locked(Some(source))),
            }
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
            if !writer.locks.try_lock(live, true).doing("lock", &writer.log.dir)? {
                return Ok(());
            }
            writer.catch_up()?;
            if !writer.tail.paused {
                let boot = writer.log.system.clock.boot_id();
                writer.write_control(Kind::Pause, &encode_pause(boot))?;
            }
            Ok(())
        });
        self.live = false;
        self.locks.unlock(live).doing("unlock", &self.log.dir)?;
        match outcome {
            // The shard ended, or the disk has no room for the mark: the next writer will look for itself.
            Err(Error::Closed(_) | Error::DiskFull { .. }) => Ok(()),
            other => other,
        }
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
    for offset in offsets {
        learn(segment, &mut walk, offset, range, &mut producers)?;
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
