//! Reading a log from anywhere, following it if asked: no lock, no write, no memory map of a live tail.
//!
//! A reader never takes an incomplete frame for an error: at the tail it waits, because a write may be going on. It
//! never takes damage for the tail either: if anything behind invalid bytes says that they were once durable, they
//! are named and the good frames behind them are read.

use std::path::PathBuf;

use super::LogDir;
use super::error::{Doing, Error};
use super::frame::segment::SEGMENT_HEADER_BYTES;
use super::frame::{
    BatchView, EndOfShard, Fate, FrameHeader, HEADER_BYTES, IndexEntry, Invalid, Kind, Predecessor, columns,
    control, crc32c,
};
use super::index::IndexReader;
use super::segment::{Segment, Walk, list};
use crate::record::Provenance;
use crate::sys::File;

/// How much is read at once: a frame of usual size with the next frame's header, small enough to stay in the
/// processor's second-level cache from the read through the checksum to the write.
const READ_AHEAD: usize = if cfg!(test) { 256 } else { 256 << 10 };

/// What a reader found at its place.
#[derive(Debug)]
pub enum Found<'a> {
    /// A frame of records.
    Frame(FrameRef<'a>),
    /// Nothing yet: this is the tail.
    Tail,
    /// The shard ends here.
    End(EndOfShard),
    /// Bytes that were once durable do not hold. The reader stands behind them now.
    Damage(Damage),
    /// Records that the reader had not read are gone: retention removed them, or damage took them and a repair left a
    /// gap in their place. The reader stands at the first that is left.
    Missed(Missed),
}

/// A stretch of a segment that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// The first byte that does not hold.
    pub offset: u64,
    /// The first byte behind it that does.
    pub until: u64,
    /// The index that was expected there.
    pub first: u64,
    /// The index at which it goes on.
    pub next: u64,
    /// How one can tell.
    pub reason: &'static str,
}

/// A range of indexes that were gone before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The first index that was wanted.
    pub from: u64,
    /// The first index that is left.
    pub to: u64,
}

/// A frame of records, verified and decompressed.
pub struct FrameRef<'a> {
    /// The header.
    pub header: FrameHeader,
    /// The body.
    body: &'a [u8],
    provenance: &'a [u8],
    path: &'a PathBuf,
    offset: u64,
    file: &'a dyn File,
}

impl std::fmt::Debug for FrameRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { header, path, offset, .. } = self;
        f.debug_struct("FrameRef")
            .field("header", header)
            .field("path", path)
            .field("offset", offset)
            .finish_non_exhaustive()
    }
}

impl<'a> FrameRef<'a> {
    /// The records.
    pub fn records(&self) -> Result<BatchView<'a>, Error> {
        BatchView::parse(&self.header, self.body).ok_or_else(|| Error::Damaged {
            path: self.path.clone(),
            offset: self.offset,
            reason: "the records do not fit their frame",
        })
    }

    /// The payloads as they lie, if each is followed by the one byte `joint`.
    pub fn joined(&self, joint: u8) -> Option<&'a [u8]> {
        let joined = self.header.columns & columns::Column::JOINED != 0 && self.header.joint == joint;
        joined.then(|| &self.body[self.header.payload_offset as usize..])
    }

    /// The file that the frame was read from, and where in it the payloads begin, if they lie there as they are. What
    /// has been verified there does not change any more.
    pub fn payloads_in_file(&self) -> Option<(&'a dyn File, u64)> {
        let before = u64::from(self.header.provenance_bytes) + u64::from(self.header.payload_offset);
        let plain = self.header.codec == super::Codec::None;
        plain.then(|| (self.file, self.offset + HEADER_BYTES as u64 + before))
    }

    /// What stands behind the batch.
    pub fn provenance(&self) -> Option<Provenance> {
        if self.provenance.is_empty() { None } else { control::decode_provenance(self.provenance) }
    }
}

/// A place in a log.
pub struct Reader {
    log: LogDir,
    segment: Option<Segment>,
    /// Where the next frame begins.
    offset: u64,
    /// The index that is expected there.
    next: u64,
    /// Every record below this index is on the disk.
    durable: u64,
    buffer: Vec<u8>,
    /// Where in the segment the buffer begins, and how much of it is filled.
    buffer_at: u64,
    filled: usize,
    scratch: Vec<u8>,
    /// The length at which the bytes at `offset` were last found to be no damage, so that a torn tail is not searched
    /// again and again.
    looked: Option<(u64, u64)>,
    /// What was found missing while looking ahead, for the next read to tell.
    passed: Option<Missed>,
    /// Where the segment's valid bytes end, if the next one has said so: what lies behind them was set aside.
    limit: Option<u64>,
    /// The segment's header does not hold, and nobody has been told.
    broken: Option<Damage>,
    /// The first index of records that were read and have been given up since, and their segment.
    given_up: Option<(u64, PathBuf)>,
}

impl Reader {
    /// A reader before the first record that is left.
    pub fn new(log: LogDir) -> Self {
        Self {
            log,
            segment: None,
            offset: 0,
            next: 0,
            durable: 0,
            buffer: Vec::new(),
            buffer_at: 0,
            filled: 0,
            scratch: Vec::new(),
            looked: None,
            passed: None,
            limit: None,
            broken: None,
            given_up: None,
        }
    }

    /// The index that is expected next.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// The index below which everything is known to be durable.
    pub fn durable(&self) -> u64 {
        self.given_up.as_ref().map_or(self.durable, |(first, _)| *first)
    }

    /// The directory that is read.
    pub fn log(&self) -> &LogDir {
        &self.log
    }

    /// Gives the read buffers back, for a process that holds many readers.
    pub fn release(&mut self) {
        self.buffer = Vec::new();
        self.scratch = Vec::new();
        self.filled = 0;
    }

    /// Closes the segment's file as well; the next read opens it again. If retention has removed it by then, the
    /// reader is told what it missed.
    pub fn park(&mut self) {
        self.release();
        self.segment = None;
    }

    /// Goes to the frame that holds `index`, or the first behind it. If it has been removed already, the next read
    /// says so.
    pub fn seek_index(&mut self, index: u64) -> Result<(), Error> {
        self.given_up = None;
        let bases = list(&self.log)?;
        // The last segment that begins at or below the index; else the first there is.
        let at = bases.partition_point(|&base| base <= index).saturating_sub(1);
        let Some(&base) = bases.get(at) else { return Err(self.empty()) };
        let base = self.enter_from(base)?;
        if base > index {
            // Wanted: something before the first segment. `next` tells the next read what is missing.
            self.next = index;
            return Ok(());
        }
        self.jump(|entry_first, _| entry_first <= index)?;
        self.skip(|header| header.end() <= index)
    }

    /// Goes to the first frame that arrived at or after `time_us`.
    pub fn seek_time(&mut self, time_us: i64) -> Result<(), Error> {
        self.given_up = None;
        let bases = list(&self.log)?;
        // A segment that was created before that time may hold such a frame, and so may all behind it.
        let (mut low, mut high) = (0, bases.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match Segment::open_any(&self.log, bases[middle]) {
                Ok((segment, _)) if segment.header.created_us < time_us => low = middle + 1,
                // One whose header does not hold counts as late: an earlier start is only a longer way.
                Ok(_) => high = middle,
                // Removed meanwhile: so are all before it.
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    low = middle + 1;
                }
                Err(error) => return Err(error),
            }
        }
        let Some(&base) = bases.get(low.saturating_sub(1)).or(bases.first()) else {
            return Err(self.empty());
        };
        self.enter_from(base)?;
        self.jump(|_, arrival_us| arrival_us < time_us)?;
        self.skip(|header| header.arrival_us < time_us)
    }

    /// Goes behind the last frame that is there now.
    pub fn seek_end(&mut self) -> Result<(), Error> {
        self.given_up = None;
        let Some(&base) = list(&self.log)?.last() else { return Err(self.empty()) };
        self.enter_from(base)?;
        self.jump(|_, _| true)?;
        self.skip(|header| !matches!(header.kind, Kind::End))
    }

    /// Goes to the first frame that is left.
    pub fn seek_start(&mut self) -> Result<(), Error> {
        self.given_up = None;
        let Some(&base) = list(&self.log)?.first() else { return Err(self.empty()) };
        self.enter_from(base).map(drop)
    }

    fn empty(&self) -> Error {
        Error::Empty { dir: self.log.dir.clone() }
    }

    fn enter(&mut self, base: u64) -> Result<(), Error> {
        let (segment, broken) = Segment::open_any(&self.log, base)?;
        self.broken = broken.map(|reason| Damage {
            path: segment.path.clone(),
            offset: 0,
            until: SEGMENT_HEADER_BYTES as u64,
            first: base,
            next: base,
            reason,
        });
        self.next = base;
        self.durable = self.durable.max(base);
        self.offset = SEGMENT_HEADER_BYTES as u64;
        self.filled = 0;
        self.looked = None;
        self.segment = Some(segment);
        self.limit = self.successor()?.and_then(|(_, before)| before).map(|before| before.bytes);
        Ok(())
    }

    /// Enters the segment with this base or, if retention was faster, the first behind it, and returns its base.
    fn enter_from(&mut self, mut base: u64) -> Result<u64, Error> {
        loop {
            match self.enter(base) {
                Ok(()) => return Ok(base),
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    let left = list(&self.log)?.into_iter().find(|&other| other > base);
                    base = left.ok_or_else(|| self.empty())?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves to the last index entry for which `before` holds, if it is what the index says.
    fn jump(&mut self, before: impl Fn(u64, i64) -> bool) -> Result<(), Error> {
        let Some(segment) = &self.segment else { return Ok(()) };
        let index = IndexReader::open(&self.log, &segment.header);
        let limit = self.limit.unwrap_or(u64::MAX);
        let wanted = |entry: &IndexEntry| entry.offset < limit && before(entry.first, entry.arrival_us);
        let Some(entry) = index.last_where(wanted) else {
            return Ok(());
        };
        let mut walk = Walk::new(segment, segment.len()?);
        if let super::segment::At::Frame(header, _) = walk.at(entry.offset)?
            && header.first == entry.first
        {
            self.offset = entry.offset;
            self.next = entry.first;
            self.durable = self.durable.max(header.durable);
        }
        Ok(())
    }

    /// Steps over frames by their headers as long as `before` holds, into later segments too.
    fn skip(&mut self, before: impl Fn(&FrameHeader) -> bool) -> Result<(), Error> {
        // The end of the shard is not stepped over: there is nothing behind it.
        let passes = |header: &FrameHeader| {
            header.kind != Kind::End && (!matches!(header.kind, Kind::Records | Kind::Gap) || before(header))
        };
        // The last place in front of damage, as long as nothing behind it has shown that it is all before the goal.
        let mut doubt: Option<(u64, u64)> = None;
        loop {
            match self.head()? {
                Head::Frame(header, _) if passes(&header) => {
                    if matches!(header.kind, Kind::Records | Kind::Gap) {
                        doubt = None;
                    }
                    self.pass(&header);
                }
                Head::Damage(damage) => {
                    doubt.get_or_insert((damage.offset, damage.first));
                    self.go_behind(damage);
                }
                Head::Over(next) if doubt.is_none() => {
                    if let Some(missed) = self.follow_to(next)? {
                        // The next read says so.
                        self.next = missed.from;
                        return Ok(());
                    }
                }
                // Whatever it is, the next read meets it again and says so.
                Head::Frame(..) | Head::Wait | Head::Over(_) => {
                    if let Some((offset, next)) = doubt {
                        (self.offset, self.next) = (offset, next);
                    }
                    return Ok(());
                }
            }
        }
    }

    fn pass(&mut self, header: &FrameHeader) {
        self.offset += header.frame_bytes();
        self.next = header.end();
        self.durable = self.durable.max(header.durable);
    }

    /// The arrival time of the next frame of records, without reading its body; `None` where there is none yet, or
    /// where the next read has something else to tell first.
    pub fn peek_arrival(&mut self) -> Result<Option<i64>, Error> {
        if self.segment.is_none() || self.passed.is_some() {
            return Ok(None);
        }
        loop {
            match self.head()? {
                Head::Frame(header, _) if header.kind == Kind::Records => return Ok(Some(header.arrival_us)),
                Head::Frame(header, _) if !matches!(header.kind, Kind::End | Kind::Gap) => self.pass(&header),
                Head::Over(next) => {
                    self.passed = self.follow_to(next)?;
                    if self.passed.is_some() {
                        return Ok(None);
                    }
                }
                Head::Frame(..) | Head::Wait | Head::Damage(_) => return Ok(None),
            }
        }
    }

    /// What is next. After [`Found::Tail`] the caller may come again when something has changed.
    pub fn read(&mut self) -> Result<Found<'_>, Error> {
        if let Some(missed) = self.passed.take() {
            return Ok(Found::Missed(missed));
        }
        if self.segment.is_none()
            && let Some(missed) = self.reopen()?
        {
            return Ok(Found::Missed(missed));
        }
        loop {
            if let Some(damage) = self.broken.take() {
                return Ok(Found::Damage(damage));
            }
            if let Some(missed) = self.check_start() {
                return Ok(Found::Missed(missed));
            }
            let (header, crc) = match self.head()? {
                Head::Frame(header, crc) => (header, crc),
                Head::Wait => return Ok(Found::Tail),
                Head::Damage(damage) => return Ok(Found::Damage(self.go_behind(damage))),
                Head::Over(next) => {
                    if let Some(missed) = self.follow_to(next)? {
                        return Ok(Found::Missed(missed));
                    }
                    continue;
                }
            };
            match header.kind {
                Kind::Records | Kind::End => {}
                Kind::Gap if header.count > 0 => {
                    self.pass(&header);
                    return Ok(Found::Missed(Missed { from: header.first, to: header.end() }));
                }
                _ => {
                    self.pass(&header);
                    continue;
                }
            }
            if !self.has_body(&header, crc)? {
                match self.judge_body(&header, crc)? {
                    // It holds by now.
                    Head::Frame(..) => continue,
                    Head::Wait => return Ok(Found::Tail),
                    Head::Damage(damage) => return Ok(Found::Damage(self.go_behind(damage))),
                    Head::Over(next) => {
                        if let Some(missed) = self.follow_to(next)? {
                            return Ok(Found::Missed(missed));
                        }
                        continue;
                    }
                }
            }
            if header.kind == Kind::End {
                let end = EndOfShard::decode(self.stored(&header));
                return end.map(Found::End).ok_or_else(|| Error::Damaged {
                    path: self.path(),
                    offset: self.offset,
                    reason: "the end of the shard does not hold",
                });
            }
            let offset = self.offset;
            self.pass(&header);
            return self.frame(header, offset).map(Found::Frame);
        }
    }

    fn go_behind(&mut self, damage: Damage) -> Damage {
        self.offset = damage.until;
        self.next = damage.next;
        damage
    }

    /// After a seek to an index that is not there any more: what was missed.
    fn check_start(&mut self) -> Option<Missed> {
        let base = self.segment.as_ref()?.header.base;
        let before = self.segment.as_ref()?.header.predecessor;
        (self.offset == SEGMENT_HEADER_BYTES as u64 && self.next < base).then_some(())?;
        let from = self.next;
        self.next = base;
        missed(from, before, base)
    }

    /// Opens the segment that holds the reader's place again, or the first that is left.
    fn reopen(&mut self) -> Result<Option<Missed>, Error> {
        let (next, offset, durable) = (self.next, self.offset, self.durable);
        if offset == 0 {
            self.seek_start()?;
            return Ok(None);
        }
        let given_up = self.given_up.clone();
        let bases = list(&self.log)?;
        let at = bases.partition_point(|&base| base <= next).saturating_sub(1);
        let Some(&base) = bases.get(at) else { return Err(self.empty()) };
        if base > next {
            let base = self.enter_from(base)?;
            let before = self.segment.as_ref().and_then(|segment| segment.header.predecessor);
            return Ok(missed(next, before, base));
        }
        self.seek_index(next)?;
        self.durable = self.durable.max(durable);
        self.given_up = given_up;
        Ok(None)
    }

    fn path(&self) -> PathBuf {
        self.segment.as_ref().map(|segment| segment.path.clone()).unwrap_or_default()
    }

    /// Goes to the segment with this base, or, if that has gone, to the first behind it.
    fn follow_to(&mut self, base: u64) -> Result<Option<Missed>, Error> {
        let from = self.next;
        let mine = self.segment.as_ref().map(|segment| segment.header.base);
        self.enter_from(base)?;
        let Some(segment) = &self.segment else { return Ok(None) };
        let before = segment.header.predecessor;
        if before.map(|p| p.base) == mine {
            return Ok(None);
        }
        Ok(missed(from, before, segment.header.base))
    }

    /// What stands at the reader's place.
    fn head(&mut self) -> Result<Head, Error> {
        if let Some(head) = self.valid_head()? {
            return Ok(head);
        }
        // The tail, a write that is going on, or damage. What follows the segment is looked at first, and then the
        // place once more: a segment that is followed by another does not change any more.
        let successor = self.successor()?;
        self.filled = 0;
        if let Some(head) = self.valid_head()? {
            return Ok(head);
        }
        self.judge(successor, self.offset, "a frame's header does not hold")
    }

    /// The frame at the reader's place, if its header holds and it stands where its index says.
    fn valid_head(&mut self) -> Result<Option<Head>, Error> {
        if self.limit.is_some_and(|limit| self.offset >= limit) || !self.fill(HEADER_BYTES)? {
            return Ok(None);
        }
        let Some(segment) = &self.segment else { return Ok(None) };
        let start = (self.offset - self.buffer_at) as usize;
        match FrameHeader::decode(&self.buffer[start..self.filled], &segment.identity) {
            Ok((header, crc)) if header.first == self.next => match header.kind {
                Kind::Seal => {
                    self.durable = self.durable.max(header.durable);
                    Ok(Some(self.successor()?.map_or(Head::Wait, |(base, _)| Head::Over(base))))
                }
                Kind::Condemned => Ok(None),
                _ => Ok(Some(Head::Frame(header, crc))),
            },
            Ok(_) | Err(Invalid::Checksum) => Ok(None),
            Err(Invalid::Newer(what)) => Err(Error::Newer { path: segment.path.clone(), what }),
        }
    }

    /// The next segment, if there is one, and what it says of this one.
    fn successor(&self) -> Result<Option<(u64, Option<Predecessor>)>, Error> {
        let Some(mine) = self.segment.as_ref().map(|segment| segment.header.base) else { return Ok(None) };
        let Some(base) = list(&self.log)?.into_iter().find(|&base| base > mine) else { return Ok(None) };
        match Segment::open_any(&self.log, base) {
            Ok((next, None)) => Ok(Some((base, next.header.predecessor.filter(|p| p.base == mine)))),
            Ok((_, Some(_))) => {
                // It cannot say where this one ends. So all of it counts.
                let bytes = self.segment.as_ref().map_or(Ok(0), Segment::len)?;
                Ok(Some((base, Some(Predecessor { base: mine, bytes, end: 0, fate: Fate::Sealed }))))
            }
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Some((base, None)))
            }
            Err(error) => Err(error),
        }
    }

    /// Nothing valid stands at the reader's place: the tail, the end of what counts, or damage? A search for what is
    /// valid behind it begins at `from`.
    fn judge(
        &mut self,
        successor: Option<(u64, Option<Predecessor>)>,
        from: u64,
        reason: &'static str,
    ) -> Result<Head, Error> {
        let Some(segment) = &self.segment else { return Err(self.empty()) };
        let len = segment.len()?;
        let damage = |until, next| {
            let (path, offset, first) = (segment.path.clone(), self.offset, self.next);
            Head::Damage(Damage { path, offset, until, first, next, reason })
        };
        match successor {
            Some((base, Some(before))) if self.offset >= before.bytes => {
                if before.fate != Fate::Sealed && self.next > before.end {
                    self.given_up.get_or_insert((before.end, segment.path.clone()));
                }
                self.next = self.next.max(before.end);
                Ok(Head::Over(base))
            }
            Some((_, Some(before))) => {
                let found = Walk::new(segment, before.bytes.min(len)).resync(from, self.next)?;
                Ok(found.map_or(damage(before.bytes, before.end.max(self.next)), |(at, header)| {
                    damage(at, header.first)
                }))
            }
            // What follows says nothing of this segment, because the one between has gone: so has the reader's place.
            Some((base, None)) => Ok(Head::Over(base)),
            None if self.looked == Some((self.offset, len)) => Ok(Head::Wait),
            None => {
                let behind = Walk::new(segment, len).behind(from, self.next, self.durable)?;
                if let Some((at, header)) = behind {
                    let damage = damage(at, header.first);
                    // The place was being written when it was looked at, and what is behind it has been written since?
                    // A frame stands behind it only once it is whole, so another look decides.
                    self.filled = 0;
                    return match self.valid_head()? {
                        Some(Head::Frame(now, crc)) if self.has_body(&now, crc)? => Ok(Head::Frame(now, crc)),
                        Some(head @ (Head::Over(_) | Head::Wait)) => Ok(head),
                        _ => Ok(damage),
                    };
                }
                self.looked = Some((self.offset, len));
                Ok(Head::Wait)
            }
        }
    }

    /// The header at the reader's place holds and the body does not.
    fn judge_body(&mut self, header: &FrameHeader, crc: u32) -> Result<Head, Error> {
        let successor = self.successor()?;
        self.filled = 0;
        // The header too is read again: what was there before may have been cut off, and something else written.
        match self.valid_head()? {
            Some(Head::Frame(again, its_crc)) if again == *header && its_crc == crc => {}
            Some(head) => return Ok(head),
            None => return self.judge(successor, self.offset, "a frame's header does not hold"),
        }
        if self.has_body(header, crc)? {
            return Ok(Head::Frame(*header, crc));
        }
        let Some(segment) = &self.segment else { return Err(self.empty()) };
        let until = self.offset + header.frame_bytes();
        let counts = match successor {
            Some((_, Some(before))) => before.bytes >= until,
            _ => {
                segment.len()? >= until
                    && self.durable.max(header.durable) >= header.end()
                    && header.count > 0
            }
        };
        let reason = "a frame's body does not hold";
        if counts {
            let (path, offset) = (segment.path.clone(), self.offset);
            let (first, next) = (header.first, header.end());
            return Ok(Head::Damage(Damage { path, offset, until, first, next, reason }));
        }
        self.judge(successor, self.offset, reason)
    }

    /// Brings at least `want` bytes from the reader's place into the buffer; `false` if the file has fewer.
    fn fill(&mut self, want: usize) -> Result<bool, Error> {
        let Some(segment) = &self.segment else { return Ok(false) };
        let held = self.buffer_at..self.buffer_at + self.filled as u64;
        let kept = if held.contains(&self.offset) {
            let start = (self.offset - self.buffer_at) as usize;
            if self.filled - start >= want {
                return Ok(true);
            }
            self.buffer.copy_within(start..self.filled, 0);
            self.filled - start
        } else {
            0
        };
        self.buffer_at = self.offset;
        let aim = (want + HEADER_BYTES).max(READ_AHEAD);
        // After a frame of unusual size the buffer goes back to its usual one.
        if self.buffer.len() < aim || self.buffer.len() > aim.max(4 * READ_AHEAD) {
            self.buffer.resize(aim, 0);
            self.buffer.shrink_to(aim);
        }
        let got = segment
            .file
            .read_at(&mut self.buffer[kept..aim], self.offset + kept as u64)
            .doing("read", &segment.path)?;
        self.filled = kept + got;
        Ok(self.filled >= want)
    }

    /// Whether the whole frame is in the file and holds. It is in the buffer afterwards.
    fn has_body(&mut self, header: &FrameHeader, crc: u32) -> Result<bool, Error> {
        if !self.fill(header.frame_bytes() as usize)? {
            return Ok(false);
        }
        Ok(crc32c(self.stored(header)) == crc)
    }

    fn stored(&self, header: &FrameHeader) -> &[u8] {
        let start = (self.offset - self.buffer_at) as usize + HEADER_BYTES;
        &self.buffer[start..start + header.stored_bytes as usize]
    }

    fn frame(&mut self, header: FrameHeader, offset: u64) -> Result<FrameRef<'_>, Error> {
        let start = (offset - self.buffer_at) as usize + HEADER_BYTES;
        let split = start + usize::from(header.provenance_bytes);
        let end = start + header.stored_bytes as usize;
        let Some(segment) = &self.segment else { return Err(self.empty()) };
        let stored = &self.buffer[split..end];
        let body = if header.codec == super::Codec::None {
            stored
        } else {
            if !columns::decompress(&header, stored, &mut self.scratch) {
                return Err(Error::Damaged {
                    path: segment.path.clone(),
                    offset,
                    reason: "a frame's body cannot be decompressed",
                });
            }
            &self.scratch
        };
        Ok(FrameRef {
            header,
            body,
            provenance: &self.buffer[start..split],
            path: &segment.path,
            offset,
            file: &*segment.file,
        })
    }

    /// Makes everything that this reader has read durable, if it is not known to be: what persists a position or acts
    /// elsewhere calls this first.
    ///
    /// # Errors
    /// [`Error::Condemned`] if some of it may be lost, because a sync failed: what was read and not acted upon must be
    /// thrown away, and read again from the last place that was durable.
    pub fn make_durable(&mut self) -> Result<(), Error> {
        if self.given_up.is_none() && self.durable >= self.next {
            return Ok(());
        }
        if self.segment.is_none() {
            // Parked. If retention was faster there is nothing to make durable, and the next read says what is missing.
            let (offset, next) = (self.offset, self.next);
            if self.reopen()?.is_some() {
                (self.offset, self.next) = (offset, next);
                self.segment = None;
                return Ok(());
            }
        }
        if self.is_followed()? {
            return Ok(());
        }
        let Some(segment) = &self.segment else { return Ok(()) };
        let synced = segment.sync(&*self.log.system.disk);
        // Somebody may have read the segment back meanwhile and gone on behind what is there.
        if synced.is_err() && self.is_followed()? {
            return Ok(());
        }
        synced?;
        // A write that failed half way, and was seen, has been cut off.
        if self.segment.as_ref().map_or(Ok(0), Segment::len)? < self.offset {
            return Err(Error::Condemned { path: self.path(), source: None });
        }
        self.durable = self.next;
        Ok(())
    }

    /// Whether the next segment says that all that was read of this one is durable: it was, before that one began.
    fn is_followed(&mut self) -> Result<bool, Error> {
        if let Some((_, path)) = &self.given_up {
            return Err(Error::Condemned { path: path.clone(), source: None });
        }
        if let Some((_, Some(before))) = self.successor()? {
            self.durable = self.durable.max(before.end);
            if before.fate != Fate::Sealed && self.next > before.end {
                return Err(Error::Condemned { path: self.path(), source: None });
            }
        }
        Ok(self.durable >= self.next)
    }
}

fn missed(from: u64, before: Option<Predecessor>, base: u64) -> Option<Missed> {
    // Between the end of one segment and the base of the next there may be indexes that were reserved and never used.
    (before.is_some_and(|before| from < before.end)).then_some(Missed { from, to: base })
}

enum Head {
    /// A frame whose header holds, with the CRC-32C that its stored bytes must have.
    Frame(FrameHeader, u32),
    /// Nothing yet.
    Wait,
    /// The segment is at its end; this is the base of the next.
    Over(u64),
    /// Damage.
    Damage(Damage),
}
