//! Verifying a log from end to end: every checksum, every invariant, without a lock and while others write.
//!
//! A verification goes where a reader goes and judges as a reader does: what may be a write in progress is no damage,
//! what anything later says was durable is. Beyond that it holds each frame against its neighbours, each segment
//! against what its follower says of it, and each index entry against the frame that it points at. It needs a window
//! of one frame in memory, however large the log is.

mod body;
mod finding;
mod index;
mod window;

use std::collections::VecDeque;
use std::io;

use super::LogDir;
use super::error::{Doing, Error};
use super::frame::control::decode_seal;
use super::frame::segment::SEGMENT_HEADER_BYTES;
use super::frame::{EndOfShard, Fate, FrameHeader, HEADER_BYTES, Kind, SegmentHeader};
use super::segment::{Bound, Segment, Walk, list, next_header, segment_name};
pub use finding::{Finding, Flaw, Lost, Severity};
use index::IndexCheck;
pub(crate) use window::{Frame, Window};

/// How much is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The headers of segments and frames, and what they say of each other.
    Headers,
    /// All of it.
    All,
}

/// What a verification tells while it goes on.
#[derive(Debug)]
pub enum Event {
    /// This much more has been verified.
    Progress {
        /// Records.
        records: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Something that a person should know.
    Found(Finding),
}

/// What a verified log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many segments there are.
    pub segments: u64,
    /// How many records hold.
    pub records: u64,
    /// Bytes that were gone through.
    pub bytes: u64,
    /// The first index that may still be there.
    pub first: u64,
    /// The index after the last record.
    pub next: u64,
    /// When the last record arrived.
    pub arrival_us: i64,
    /// What the closing frame says, if the shard has ended.
    pub end: Option<EndOfShard>,
}

/// Verifies a log.
///
/// # Errors
/// What the machine refuses, and what a later program wrote: of that nothing can be said. Damage is no error here, it
/// is told to `on`.
pub fn verify(log: &LogDir, depth: Depth, on: &mut dyn FnMut(Event)) -> Result<Verified, Error> {
    Verifier {
        log,
        on,
        window: Window::new(depth),
        scratch: Vec::new(),
        horizon: (0, 0),
        sum: Verified::default(),
    }
    .run()
}

/// What is known of a segment once it has been gone through.
#[derive(Debug, Clone, Copy)]
struct Walked {
    base: u64,
    next: u64,
    arrival_us: i64,
}

/// A place in a segment, and what must hold of the next frame.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    next: u64,
    arrival_us: i64,
    durable: u64,
    last: Option<FrameHeader>,
    last_at: Option<u64>,
}

/// Why a verification of frames stopped before the end.
#[derive(Debug, Clone, Copy)]
enum Stopped {
    /// At what is no whole frame.
    At(Frame),
    /// At a frame whose checksums hold, and whose body is not what its header says.
    Nonsense(FrameHeader, &'static str),
}

/// A stretch that does not hold, and how it goes on behind it.
struct Broken {
    until: u64,
    next: u64,
    after_us: i64,
    reason: &'static str,
}

impl Broken {
    /// One frame.
    fn frame(offset: u64, header: &FrameHeader, reason: &'static str) -> Self {
        let (until, next) = (offset + header.frame_bytes(), header.end());
        Self { until, next, after_us: header.arrival_us, reason }
    }

    /// All up to where a good frame was found.
    fn up_to((until, header): (u64, FrameHeader)) -> Self {
        Self { until, next: header.first, after_us: header.arrival_us, reason: "frames do not hold" }
    }
}

struct Verifier<'a> {
    log: &'a LogDir,
    on: &'a mut dyn FnMut(Event),
    window: Window,
    scratch: Vec<u8>,
    /// The segment that was the last one when this began, and how long it was.
    horizon: (u64, u64),
    sum: Verified,
}

impl Verifier<'_> {
    fn run(mut self) -> Result<Verified, Error> {
        let mut bases: VecDeque<u64> = list(self.log)?.into();
        let Some(&last) = bases.back() else {
            return Err(Error::Empty { dir: self.log.dir.clone() });
        };
        // What is there now is verified. What is written meanwhile is not, or a fast writer would be chased for ever.
        let path = self.log.dir.join(segment_name(last));
        let len = self.log.system.disk.open(&path).and_then(|file| file.len()).doing("look at", &path)?;
        self.horizon = (last, len);
        let mut before: Option<Walked> = None;
        loop {
            let Some(base) = bases.pop_front() else { return Ok(self.sum) };
            let Some((segment, holds)) = self.open(base, before, bases.front().copied())? else {
                // Removed by retention, and so are all before it; or a file that is not ours.
                if let Some(walked) = &mut before {
                    walked.base = base;
                    walked.next = walked.next.max(base);
                }
                continue;
            };
            if self.sum.end.is_some() {
                self.contradiction(&segment, 0, "a segment behind the one in which the shard ended");
            }
            if holds {
                self.chain(&segment, before);
            }
            let walked = self.segment(&segment, bases.front().copied())?;
            self.sum.segments += 1;
            self.sum.next = walked.next;
            self.sum.arrival_us = walked.arrival_us;
            before = Some(walked);
        }
    }

    /// Opens a segment, and says whether its header holds. One whose header does not is read all the same: its name
    /// says what goes under its checksums.
    fn open(
        &mut self,
        base: u64,
        before: Option<Walked>,
        follower: Option<u64>,
    ) -> Result<Option<(Segment, bool)>, Error> {
        let path = self.log.dir.join(segment_name(base));
        match Segment::open(self.log, base, false) {
            Ok(segment) => {
                if before.is_none() {
                    self.sum.first = base;
                }
                Ok(Some((segment, true)))
            }
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                if list(self.log)?.first().is_some_and(|&first| first < base) {
                    let lost = Lost { first: base, next: follower.unwrap_or(base), ..Lost::default() };
                    self.found(Finding::new(Flaw::Missing, path, 0, 0).lost(lost));
                }
                Ok(None)
            }
            Err(Error::Foreign { .. }) => {
                let len =
                    self.log.system.disk.open(&path).and_then(|file| file.len()).doing("read", &path)?;
                let stranger = self.stranger(base)?;
                let said = self.bound(&stranger, follower)?.and_then(|bound| bound.said);
                let first = before.map_or(base, |walked| walked.next.max(base));
                let mut finding = Finding::new(Flaw::Foreign, path, 0, len);
                if let Some(said) = said {
                    let after_us = before.map_or(0, |walked| walked.arrival_us);
                    finding = finding.lost(Lost { first, next: said.end, before_us: after_us, after_us });
                }
                self.found(finding);
                Ok(None)
            }
            Err(Error::Damaged { .. }) => {
                self.found(Finding::new(Flaw::Header, path.clone(), 0, SEGMENT_HEADER_BYTES as u64));
                let mut segment = self.stranger(base)?;
                if let Some(walked) = before {
                    segment.header.created_us = walked.arrival_us;
                }
                Ok(Some((segment, false)))
            }
            Err(error) => Err(error),
        }
    }

    /// A segment whose header says nothing: it is what its name says.
    fn stranger(&self, base: u64) -> Result<Segment, Error> {
        let path = self.log.dir.join(segment_name(base));
        let file = self.log.system.disk.open(&path).doing("open", &path)?;
        let created_us = self.log.shard_created_s as i64 * 1_000_000;
        Ok(Segment::of(file, path, next_header(self.log, base, created_us, None)))
    }

    /// Where a segment ends, if another follows it.
    fn bound(&self, segment: &Segment, follower: Option<u64>) -> Result<Option<Bound>, Error> {
        follower.map_or(Ok(None), |follower| segment.bound(self.log, follower))
    }

    /// Holds a segment's header against the segment before it.
    fn chain(&mut self, segment: &Segment, before: Option<Walked>) {
        let header = &segment.header;
        if header.ceiling <= header.base {
            self.contradiction(segment, 48, "the segment's ceiling is not above its base");
        }
        if header.shard_created_s != self.log.shard_created_s {
            self.contradiction(segment, 64, "the shard's creation time is not the manifest's");
        }
        match (header.predecessor, before) {
            (Some(_), _) if header.base == 0 => {
                self.contradiction(segment, 72, "the first segment of a shard names a predecessor");
            }
            (None, _) if header.base != 0 => {
                self.contradiction(segment, 72, "the segment names no predecessor");
            }
            (Some(said), Some(walked)) if said.base > walked.base => {
                let lost = Lost {
                    first: walked.next,
                    next: said.end,
                    before_us: walked.arrival_us,
                    after_us: header.created_us,
                };
                let path = self.log.dir.join(segment_name(said.base));
                self.found(Finding::new(Flaw::Missing, path, 0, said.bytes).lost(lost));
            }
            (Some(said), Some(walked)) if said.base < walked.base => {
                self.contradiction(segment, 72, "the segment follows another than the one before it");
            }
            (Some(said), Some(walked)) => {
                if said.end > header.base {
                    self.contradiction(segment, 88, "the segment begins below the end of the one before it");
                }
                if header.created_us < walked.arrival_us {
                    self.contradiction(segment, 56, "the segment is older than a record before it");
                }
            }
            (_, None) | (None, Some(_)) => {}
        }
    }

    /// Goes through one segment.
    fn segment(&mut self, segment: &Segment, follower: Option<u64>) -> Result<Walked, Error> {
        let header = segment.header;
        let mut place = Place {
            offset: SEGMENT_HEADER_BYTES as u64,
            next: header.base,
            arrival_us: header.created_us,
            durable: header.base,
            last: None,
            last_at: None,
        };
        let mut follower = follower;
        let mut limit = self.bound(segment, follower)?;
        let mut index = IndexCheck::open(self.log, &header);
        self.window.forget();
        let mut looked_again = false;
        loop {
            let end = match limit {
                Some(bound) if place.offset >= bound.bytes => {
                    if !self.judge(segment, &mut place, limit, None)? {
                        break;
                    }
                    continue;
                }
                Some(bound) => bound.bytes.min(segment.len()?),
                None if header.base == self.horizon.0 => segment.len()?.min(self.horizon.1),
                None => segment.len()?,
            };
            let stopped = self.stretch(segment, &mut place, end, &mut index)?;
            if matches!(place.last.map(|last| last.kind), Some(Kind::End)) && stopped.is_none() {
                break;
            }
            if limit.is_some_and(|bound| place.offset >= bound.bytes) {
                continue;
            }
            if limit.is_none() && stopped.is_none() && header.base == self.horizon.0 {
                break;
            }
            // The tail, a write that is going on, or damage: as a reader, look at what follows, and once more here.
            if !looked_again {
                looked_again = true;
                self.window.forget();
                // A frame was being written, perhaps: it is whole by now.
                self.horizon.1 = segment.len()?;
                if limit.is_none() {
                    follower = list(self.log)?.into_iter().find(|&base| base > header.base);
                    limit = self.bound(segment, follower)?;
                }
                continue;
            }
            let before = place.offset;
            if !self.judge(segment, &mut place, limit, stopped)? {
                break;
            }
            index.skip(place.offset);
            self.progress(0, place.offset - before);
            looked_again = false;
        }
        self.close(segment, &place, limit, follower)?;
        if let Some(finding) = index.finish() {
            self.found(finding);
        }
        Ok(Walked { base: header.base, next: place.next, arrival_us: place.arrival_us })
    }

    /// Verifies frames as long as they hold, up to `end`. What stopped it, unless that was the end.
    fn stretch(
        &mut self,
        segment: &Segment,
        place: &mut Place,
        end: u64,
        index: &mut IndexCheck,
    ) -> Result<Option<Stopped>, Error> {
        let mut records = 0;
        let mut told = place.offset;
        let stopped = loop {
            if place.offset >= end {
                break None;
            }
            let frame = self.window.frame(segment, place.offset, end)?;
            let Frame::Whole(header) = frame else { break Some(Stopped::At(frame)) };
            if header.first != place.next {
                break Some(Stopped::At(Frame::Invalid));
            }
            let at = place.offset;
            if let Some(stored) = self.window.body(&header)
                && let Some(flaw) = body::flaw(&segment.header, &header, stored, &mut self.scratch)
            {
                break Some(Stopped::Nonsense(header, flaw));
            }
            index.see(at, place.last_at, &header);
            let flaw = self.window.body(&header).and_then(|stored| body::provenance_flaw(&header, stored));
            if let Some(flaw) = flaw.or_else(|| frame_flaw(&segment.header, place, &header)) {
                self.contradiction(segment, at, flaw);
            }
            self.note_frame(segment, at, &header)?;
            step(place, &header);
            if header.kind == Kind::Records {
                records += u64::from(header.count);
            }
            // Often enough for a bar that moves, seldom enough to cost nothing.
            if place.offset - told >= 4 << 20 {
                self.progress(records, place.offset - told);
                (records, told) = (0, place.offset);
            }
            if header.kind == Kind::End {
                break None;
            }
        };
        self.progress(records, place.offset - told);
        Ok(stopped)
    }

    /// What some frames tell.
    fn note_frame(&mut self, segment: &Segment, at: u64, header: &FrameHeader) -> Result<(), Error> {
        match header.kind {
            Kind::End => {
                let body = Window::read(segment, at + HEADER_BYTES as u64, header.stored_bytes as usize)?;
                self.sum.end = EndOfShard::decode(&body);
            }
            Kind::Gap => {
                let lost = Lost {
                    first: header.first,
                    next: header.end(),
                    before_us: header.arrival_us,
                    after_us: header.arrival_us,
                };
                let until = at + header.frame_bytes();
                self.found(Finding::new(Flaw::Gap, segment.path.clone(), at, until).lost(lost));
            }
            _ => {}
        }
        Ok(())
    }

    /// Nothing valid stands at the place: steps behind it and tells of the damage, or says that this is the tail.
    fn judge(
        &mut self,
        segment: &Segment,
        place: &mut Place,
        limit: Option<Bound>,
        stopped: Option<Stopped>,
    ) -> Result<bool, Error> {
        let len = segment.len()?;
        let body = match stopped {
            Some(Stopped::At(Frame::BadBody(header))) if header.first == place.next => Some(header),
            _ => None,
        };
        let bad_body = "a frame's body does not hold";
        let broken = match (limit, stopped, body) {
            // It was written like that: it is no tail, and nothing that follows makes it better.
            (_, Some(Stopped::Nonsense(header, reason)), _) => Broken::frame(place.offset, &header, reason),
            (Some(bound), ..) if place.offset >= bound.bytes => {
                let sealed = place.last.is_some_and(|last| last.kind == Kind::Seal);
                if bound.said.is_some() || sealed || place.next >= bound.end {
                    return Ok(false);
                }
                // There is nobody to say by how much: by a frame at least.
                let until = place.offset + HEADER_BYTES as u64;
                Broken { until, next: bound.end, after_us: place.arrival_us, reason: CUT_SHORT }
            }
            (Some(bound), _, Some(header)) if place.offset + header.frame_bytes() <= bound.bytes => {
                Broken::frame(place.offset, &header, bad_body)
            }
            (Some(bound), ..) => {
                let reason = if place.offset >= len { CUT_SHORT } else { "frames do not hold" };
                Walk::new(segment, bound.bytes.min(len)).resync(place.offset, place.next)?.map_or(
                    Broken { until: bound.bytes, next: bound.end, after_us: place.arrival_us, reason },
                    Broken::up_to,
                )
            }
            (None, _, Some(header))
                if header.count > 0 && place.durable.max(header.durable) >= header.end() =>
            {
                Broken::frame(place.offset, &header, bad_body)
            }
            (None, ..) => {
                let found = Walk::new(segment, len).behind(place.offset, place.next, place.durable)?;
                match found {
                    Some(found) => Broken::up_to(found),
                    None => return Ok(false),
                }
            }
        };
        let Broken { until, next, after_us, reason } = broken;
        let lost =
            Lost { first: place.next, next: next.max(place.next), before_us: place.arrival_us, after_us };
        let finding = Finding::new(Flaw::Stretch(reason), segment.path.clone(), place.offset, until);
        self.found(finding.lost(lost));
        place.offset = until;
        place.next = next.max(place.next);
        place.last = None;
        self.window.forget();
        Ok(true)
    }

    /// Holds the end of a segment against what its follower says.
    fn close(
        &mut self,
        segment: &Segment,
        place: &Place,
        limit: Option<Bound>,
        follower: Option<u64>,
    ) -> Result<(), Error> {
        let len = segment.len()?;
        let seal = place.last.filter(|last| last.kind == Kind::Seal);
        let said = limit.and_then(|bound| bound.said);
        if let Some(said) = said {
            if place.offset != said.bytes || place.next != said.end {
                self.contradiction(segment, place.offset, "ends elsewhere than the next segment says");
            }
            let whole = place.last.is_some_and(|last| !matches!(last.kind, Kind::Seal | Kind::Gap));
            if said.fate == Fate::Sealed && whole {
                self.contradiction(segment, place.offset, "has no seal, though the next segment says so");
            }
        }
        if let (Some(seal), Some(at)) = (seal, place.last_at) {
            let body = Window::read(segment, at + HEADER_BYTES as u64, seal.stored_bytes as usize)?;
            let records = place.next - segment.header.base;
            let told = decode_seal(&body);
            // Where the sync of a seal failed the log went on elsewhere than it says.
            let followed = said.is_some_and(|said| said.fate == Fate::Sealed);
            if told.is_none_or(|(count, next)| count != records || followed && follower != Some(next)) {
                self.contradiction(segment, at, "the seal does not say what the segment holds");
            }
        }
        let grown =
            limit.is_none() && segment.header.base == self.horizon.0 && place.offset >= self.horizon.1;
        if len > place.offset && !grown {
            let flaw = if limit.is_some() || place.last.is_some_and(|last| last.kind == Kind::End) {
                Flaw::SetAside
            } else {
                Flaw::Tail
            };
            self.found(Finding::new(flaw, segment.path.clone(), place.offset, len));
        }
        if segment.is_condemned(&*self.log.system.disk) {
            self.found(Finding::new(Flaw::Condemned, segment.path.clone(), 0, 0));
        }
        Ok(())
    }

    fn contradiction(&mut self, segment: &Segment, offset: u64, what: &'static str) {
        self.found(Finding::new(Flaw::Contradiction(what), segment.path.clone(), offset, offset));
    }

    fn progress(&mut self, records: u64, bytes: u64) {
        self.sum.records += records;
        self.sum.bytes += bytes;
        (self.on)(Event::Progress { records, bytes });
    }

    fn found(&mut self, finding: Finding) {
        (self.on)(Event::Found(finding));
    }
}

const CUT_SHORT: &str = "the segment is cut short";

fn step(place: &mut Place, header: &FrameHeader) {
    place.last_at = Some(place.offset);
    place.offset += header.frame_bytes();
    place.next = header.end();
    place.arrival_us = place.arrival_us.max(header.arrival_us);
    place.durable = place.durable.max(header.durable);
    place.last = Some(*header);
}

/// What is wrong with a frame whose checksums hold, given what came before it.
fn frame_flaw(segment: &SegmentHeader, place: &Place, header: &FrameHeader) -> Option<&'static str> {
    let tells = header.provenance_bytes > 0 || header.kind == Kind::Producers;
    if header.arrival_us < place.arrival_us {
        Some("arrived before what stands before it")
    } else if header.durable > header.first {
        Some("says that records were durable which come after it")
    } else if header.end() > segment.ceiling {
        Some("has an index above the segment's ceiling")
    } else if tells && !header.provenance_seen {
        Some("tells of a producer and does not say so")
    } else if !matches!(header.kind, Kind::Records | Kind::Gap) && header.count != 0 {
        Some("counts records and is of a kind that has none")
    } else {
        None
    }
}
