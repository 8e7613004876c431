//! Reading a log from anywhere, following it if asked: no lock, no write, no memory map of a live tail.
//!
//! A reader never takes an incomplete frame for an error: at the tail it waits, because a write may be going on. It
//! never takes damage for the tail either: if anything behind invalid bytes says that they were once durable, they
//! are named and the good frames behind them are read.

mod buffer;
mod durable;
mod judge;
mod seek;

use std::path::PathBuf;

use judge::Head;

use super::LogDir;
use super::error::Error;
use super::frame::{BatchView, EndOfShard, FrameHeader, HEADER_BYTES, Kind, columns, control};
use super::segment::Segment;
use crate::record::Provenance;
use crate::sys::File;

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
    /// Damage took them, and a repair has left a gap in their place; else it was retention.
    pub repaired: bool,
}

/// Records that are not where the reader expected them.
#[derive(Debug)]
enum Lost {
    /// They were removed on purpose.
    Missed(Missed),
    /// A segment that must be there is not.
    Damage(Damage),
}

impl From<Lost> for Found<'_> {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Missed(missed) => Self::Missed(missed),
            Lost::Damage(damage) => Self::Damage(damage),
        }
    }
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
        self.body.get(self.header.payload_offset as usize..).filter(|_| joined)
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
    passed: Option<Lost>,
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

    /// Whether the open file has another length than when the tail was found there.
    pub fn has_changed(&self) -> bool {
        let Some(segment) = &self.segment else { return false };
        match self.looked {
            Some((offset, len)) if offset == self.offset => segment.len().ok() != Some(len),
            _ => true,
        }
    }

    /// The segment that the reader stands in, and where in it.
    pub fn place(&self) -> (PathBuf, u64) {
        (self.path(), self.offset)
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

    fn empty(&self) -> Error {
        Error::Empty { dir: self.log.dir.clone() }
    }

    fn pass(&mut self, header: &FrameHeader) {
        self.offset += header.frame_bytes();
        self.next = header.end();
        self.durable = self.durable.max(header.durable);
    }

    /// The arrival time of the next frame of records, without reading its body; `None` where there is none yet, or
    /// where the next read has something else to tell first.
    pub fn peek_arrival(&mut self) -> Result<Option<i64>, Error> {
        if self.segment.is_none() && self.passed.is_none() {
            self.passed = self.reopen()?;
        }
        if self.passed.is_some() {
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
        if let Some(lost) = self.passed.take() {
            return Ok(lost.into());
        }
        if self.segment.is_none()
            && let Some(lost) = self.reopen()?
        {
            return Ok(lost.into());
        }
        loop {
            if let Some(damage) = self.broken.take() {
                return Ok(Found::Damage(damage));
            }
            if let Some(lost) = self.check_start()? {
                return Ok(lost.into());
            }
            let header = match self.whole_head()? {
                Head::Frame(header, _) => header,
                Head::Wait => return Ok(Found::Tail),
                Head::Damage(damage) => return Ok(Found::Damage(self.go_behind(damage))),
                Head::Over(next) => {
                    if let Some(lost) = self.follow_to(next)? {
                        return Ok(lost.into());
                    }
                    continue;
                }
            };
            match header.kind {
                Kind::Records | Kind::End => {}
                Kind::Gap if header.count > 0 => {
                    self.pass(&header);
                    return Ok(Found::Missed(Missed {
                        from: header.first,
                        to: header.end(),
                        repaired: true,
                    }));
                }
                _ => {
                    self.pass(&header);
                    continue;
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

    fn path(&self) -> PathBuf {
        self.segment.as_ref().map(|segment| segment.path.clone()).unwrap_or_default()
    }
}
