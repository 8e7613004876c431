//! One segment file: its name, its header, and stepping through its frames.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Doing, Error};
use super::frame::control::{encode_pause, encode_producers};
use super::frame::segment::{InvalidSegment, SEGMENT_HEADER_BYTES};
use super::frame::{
    Crc32c, Fate, FrameHeader, HEADER_BYTES, Identity, Invalid, Kind, Predecessor, ProducerState,
    SegmentHeader, crc32c,
};
use super::{LogDir, RESERVE};
use crate::record::INDEX_MAX;
use crate::sys::{Disk, File};

/// The file name of a segment.
pub(crate) fn segment_name(base: u64) -> String {
    format!("{base:020}.seg")
}

/// No segment begins above this index: what it reserves must end within what a sequence number can tell.
pub(crate) const BASE_MAX: u64 = INDEX_MAX - RESERVE;

/// The bases of the segments in a directory, ascending. A name that no segment of ours could have is none.
pub(crate) fn list(log: &LogDir) -> Result<Vec<u64>, Error> {
    let names = log.system.disk.list(&log.dir).doing("list", &log.dir)?;
    let mut bases: Vec<u64> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".seg"))
        .filter(|digits| digits.len() == 20)
        .filter_map(|digits| digits.parse().ok())
        .filter(|&base| base <= BASE_MAX)
        .collect();
    bases.sort_unstable();
    Ok(bases)
}

/// Where a segment that is followed by another ends. It never changes any more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// Its bytes that count: where nobody can say, all of them do, so that no good record is dropped.
    pub(crate) bytes: u64,
    /// The index after its last record, at least.
    pub(crate) end: u64,
    /// What its follower says; nothing where the follower's header does not hold, or speaks of one between the two that
    /// has gone.
    pub(crate) said: Option<Predecessor>,
}

impl Bound {
    /// The index up to which the follower says that records were kept and are durable; records from there on were given
    /// up, if it is not sealed.
    pub(crate) fn gave_up_from(&self) -> Option<u64> {
        self.said.filter(|said| said.fate != Fate::Sealed).map(|said| said.end)
    }
}

/// An open segment.
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    pub(crate) identity: Identity,
    /// Names the file among all that this machine has had, where the file system can.
    pub(crate) key: Option<u64>,
    /// How long the file was when it was opened.
    pub(crate) opened_bytes: u64,
    /// The next turn of syncs when this process gave up waiting for it.
    given_up_at: Mutex<Option<u64>>,
    /// Whether a sync through this descriptor has failed. The kernel says so once: what the next one says is no answer.
    sync_failed: Mutex<bool>,
}

impl Segment {
    pub(crate) fn of(file: Arc<dyn File>, path: PathBuf, header: SegmentHeader) -> Self {
        let identity = header.identity();
        Self {
            identity,
            file,
            path,
            header,
            key: None,
            opened_bytes: 0,
            given_up_at: Mutex::new(None),
            sync_failed: Mutex::new(false),
        }
    }

    /// The same, written by this process, which has had it open since it was `opened_bytes` long.
    fn writable(mut self, opened_bytes: u64) -> Self {
        self.key = self.file.key();
        self.opened_bytes = opened_bytes;
        self
    }

    /// Opens a segment for reading even if its header does not hold: what its frames need of it is known from its
    /// name. The second value says what is wrong with the header; it then tells neither a predecessor nor a time.
    ///
    /// # Errors
    /// [`Error::Foreign`] where the newest segment is a stranger's: then it is not known what would belong there.
    pub(crate) fn open_any(log: &LogDir, base: u64) -> Result<(Self, Option<&'static str>), Error> {
        let (path, reason) = match Self::open(log, base, false) {
            Ok(segment) => return Ok((segment, None)),
            Err(Error::Damaged { path, .. }) => (path, "the segment's header does not hold"),
            Err(Error::Foreign { path }) if list(log)?.last().is_some_and(|&last| last > base) => {
                (path, "it is a segment of another stream or shard")
            }
            Err(error) => return Err(error),
        };
        let file = log.system.disk.open(&path).doing("open", &path)?;
        Ok((Self::of(file, path, next_header(log, base, i64::MAX, None)), Some(reason)))
    }

    pub(crate) fn open(log: &LogDir, base: u64, writable: bool) -> Result<Self, Error> {
        let path = log.dir.join(segment_name(base));
        let disk = &log.system.disk;
        let file = if writable { disk.open_writable(&path) } else { disk.open(&path) };
        let segment = Self::read(log, base, file.doing("open", &path)?)?;
        if !writable {
            return Ok(segment);
        }
        // After the file was opened, so that it is at least what it was long then.
        let opened_bytes = segment.len()?;
        Ok(segment.writable(opened_bytes))
    }

    /// The segment in a file that is open for reading.
    pub(crate) fn read(log: &LogDir, base: u64, file: Arc<dyn File>) -> Result<Self, Error> {
        let path = log.dir.join(segment_name(base));
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let got = file.read_at(&mut bytes, 0).doing("read", &path)?;
        match SegmentHeader::decode(&bytes[..got], log.id, base) {
            Ok(header) => Ok(Self::of(file, path, header)),
            Err(InvalidSegment::Damaged) => {
                Err(Error::Damaged { path, offset: 0, reason: "the segment's header does not hold" })
            }
            Err(InvalidSegment::Foreign) => Err(Error::Foreign { path }),
            Err(InvalidSegment::Newer) => Err(Error::Newer { path, what: "a layout" }),
        }
    }

    /// Creates a segment with `frames` behind its header; all of it, and its name, is durable on return. It never takes
    /// the place of another.
    pub(crate) fn create(log: &LogDir, header: SegmentHeader, frames: &[u8]) -> Result<Self, Error> {
        let path = log.dir.join(segment_name(header.base));
        if header.base > BASE_MAX {
            let reason = "the segment would begin above every index that there is";
            return Err(Error::Damaged { path, offset: 0, reason });
        }
        let disk = &log.system.disk;
        let temporary = log.dir.join(format!(".{}.{}.tmp", segment_name(header.base), std::process::id()));
        // Whoever creates a segment is alone with its directory: what others have left half made, they were killed over.
        for name in disk.list(&log.dir).unwrap_or_default() {
            if name.starts_with('.') && Path::new(&name).extension().is_some_and(|it| it == "tmp") {
                let _ = disk.remove(&log.dir.join(name));
            }
        }
        let make = || {
            let file = disk.create(&temporary)?;
            file.write_at(&[IoSlice::new(&header.encode()), IoSlice::new(frames)], 0)?;
            file.sync_data()?;
            disk.rename_new(&temporary, &path)?;
            disk.sync_dir(&log.dir)?;
            Ok(file)
        };
        let file = make()
            .inspect_err(|_: &std::io::Error| {
                let _ = disk.remove(&temporary);
            })
            .doing("create", &path)?;
        Ok(Self::of(file, path, header).writable(0))
    }

    /// The segment behind this one, and what it has to say of where this one ends.
    pub(crate) fn follower(&self, log: &LogDir) -> Result<Option<(u64, Option<Bound>)>, Error> {
        let Some(base) = list(log)?.into_iter().find(|&base| base > self.header.base) else {
            return Ok(None);
        };
        Ok(Some((base, self.bound(log, base)?)))
    }

    /// Where this segment ends, as the one behind it, at `follower`, tells. Nothing is known once retention has taken
    /// both.
    pub(crate) fn bound(&self, log: &LogDir, follower: u64) -> Result<Option<Bound>, Error> {
        let before = match Self::open(log, follower, false) {
            Ok(next) => next.header.predecessor,
            Err(Error::Damaged { .. } | Error::Foreign { .. }) => None,
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(said) = before.filter(|before| before.base == self.header.base) {
            return Ok(Some(Bound { bytes: said.bytes, end: said.end, said: Some(said) }));
        }
        // Retention takes the oldest first: as long as this one is there, the one that could speak of it must be too.
        if !log.system.disk.exists(&self.path) {
            return Ok(None);
        }
        // A segment that was sealed ends where the next began. Another ended somewhere below its ceiling.
        let next = before.map_or(follower, |before| before.base).min(follower);
        let end = if (self.header.base..self.header.ceiling).contains(&next) { next } else { 0 };
        let len = self.len()?.max(SEGMENT_HEADER_BYTES as u64);
        let note = if self.ends_condemned().unwrap_or(false) { HEADER_BYTES as u64 } else { 0 };
        Ok(Some(Bound { bytes: len - note, end, said: None }))
    }

    pub(crate) fn len(&self) -> Result<u64, Error> {
        self.file.len().doing("look at", &self.path)
    }

    /// Whether some process has found that a sync of this segment failed: it left a mark, or, if it could not, a frame
    /// at the end.
    pub(crate) fn is_condemned(&self, disk: &dyn Disk) -> bool {
        disk.exists(&self.mark()) || self.ends_condemned().unwrap_or(true)
    }

    fn ends_condemned(&self) -> std::io::Result<bool> {
        let mut bytes = [0; HEADER_BYTES];
        let at = self.file.len()?.saturating_sub(HEADER_BYTES as u64);
        self.file.read_at(&mut bytes, at)?;
        Ok(FrameHeader::decode(&bytes, &self.identity)
            .is_ok_and(|(header, _)| header.kind == Kind::Condemned))
    }

    /// Whether it is of no use to wait for the note of this turn of syncs: it has been waited for long enough, now or
    /// before.
    pub(crate) fn lost_patience(&self, turn: u64, waited_long: bool) -> bool {
        let mut given_up_at = self.given_up_at.lock().unwrap_or_else(PoisonError::into_inner);
        if waited_long {
            *given_up_at = Some(turn);
        }
        *given_up_at == Some(turn)
    }

    /// Waits until all that was written to the segment is on the disk. An error is final, for this descriptor and for
    /// every process that has looked since: what the kernel could not write once it takes for written. So it is marked
    /// at once, by whomever it was told to, a reader too: nobody must believe a later sync.
    pub(crate) fn sync(&self, disk: &dyn Disk) -> Result<(), Error> {
        let condemned = |source| Error::Condemned { path: self.path.clone(), source };
        let mut failed = self.sync_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(condemned(None));
        }
        if let Err(source) = self.file.sync_data() {
            *failed = true;
            // At once, and whoever asked, a reader too: the next process that opens the file would be told nothing, and
            // believe its own sync. Who may not write here leaves it to those who may.
            let _ = disk.create(&self.mark());
            return Err(condemned(Some(source)));
        }
        // Another process may have been told of a failure that this one was not: the kernel reports it once per
        // descriptor, and not to those opened later.
        if self.is_condemned(disk) { Err(condemned(None)) } else { Ok(()) }
    }

    /// The mark of a condemned segment.
    pub(crate) fn mark(&self) -> PathBuf {
        self.path.with_extension("bad")
    }

    /// The stored bytes of a frame, if they are what its header says.
    pub(crate) fn stored(
        &self,
        at: u64,
        header: &FrameHeader,
        crc: u32,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        out.resize(header.stored_bytes as usize, 0);
        let got = self.file.read_at(out, at + HEADER_BYTES as u64).doing("read", &self.path)?;
        Ok(got == out.len() && crc32c(out) == crc)
    }
}

/// The header for the first segment of a log, or for one that follows another.
pub(crate) fn next_header(
    log: &LogDir,
    base: u64,
    created_us: i64,
    predecessor: Option<Predecessor>,
) -> SegmentHeader {
    SegmentHeader {
        log: log.id,
        base,
        ceiling: base.saturating_add(RESERVE),
        created_us,
        shard_created_s: log.shard_created_s,
        predecessor,
    }
}

/// The bytes of one frame without records.
pub(crate) fn control_frame(identity: &Identity, mut header: FrameHeader, body: &[u8]) -> Vec<u8> {
    header.stored_bytes = body.len() as u32;
    header.body_bytes = body.len() as u32;
    let mut crc = Crc32c::default();
    crc.update(body);
    let mut bytes = header.encode(identity, crc.finish()).to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// Makes a new log in `log.dir`, directory included, that begins with what is known of producers and is at rest.
///
/// Whoever is killed half way may call it again: a log that is there already is left as it is.
pub fn create_log(log: &LogDir, created_us: i64, producers: &[ProducerState]) -> Result<(), Error> {
    let disk = &log.system.disk;
    if !disk.exists(&log.dir) {
        disk.create_dir(&log.dir).doing("create", &log.dir)?;
    }
    if list(log)?.is_empty() {
        let header = next_header(log, 0, created_us, None);
        let identity = header.identity();
        let mut frames = Vec::new();
        if !producers.is_empty() {
            let head =
                FrameHeader { provenance_seen: true, ..FrameHeader::of(Kind::Producers, 0, created_us, 0) };
            frames.extend(control_frame(&identity, head, &encode_producers(producers)));
        }
        let head = FrameHeader {
            provenance_seen: !producers.is_empty(),
            ..FrameHeader::of(Kind::Pause, 0, created_us, 0)
        };
        frames.extend(control_frame(&identity, head, &encode_pause(log.system.clock.boot_id())));
        Segment::create(log, header, &frames)?;
    }
    // Whoever made it may have been killed before its names were durable.
    disk.sync_dir(&log.dir).doing("sync", &log.dir)?;
    let parent = log.dir.parent().unwrap_or(Path::new("."));
    disk.sync_dir(parent).doing("sync", parent)
}

/// What stands at a place in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// A whole frame, going by lengths; its body is not verified. With the CRC-32C that its stored bytes must have.
    Frame(FrameHeader, u32),
    /// A valid header whose frame goes beyond the end.
    Cut,
    /// The end.
    End,
    /// Bytes that are no frame header.
    Invalid,
}

/// Steps through frame headers, reading ahead so that small frames cost no system call each.
pub(crate) struct Walk<'a> {
    segment: &'a Segment,
    /// Where the bytes in `chunk` begin.
    chunk_at: u64,
    chunk: Vec<u8>,
    len: u64,
}

/// How far a walk reads ahead.
const CHUNK_BYTES: usize = 64 << 10;

impl<'a> Walk<'a> {
    /// A walk over the first `len` bytes.
    pub(crate) fn new(segment: &'a Segment, len: u64) -> Self {
        Self { segment, chunk_at: 0, chunk: Vec::new(), len }
    }

    /// What stands at `offset`.
    pub(crate) fn at(&mut self, offset: u64) -> Result<At, Error> {
        if offset >= self.len {
            return Ok(At::End);
        }
        let identity = self.segment.identity;
        match FrameHeader::decode(self.bytes(offset, HEADER_BYTES)?, &identity) {
            Ok((header, _)) if offset + header.frame_bytes() > self.len => Ok(At::Cut),
            Ok((header, crc)) => Ok(At::Frame(header, crc)),
            Err(Invalid::Checksum) => Ok(At::Invalid),
            Err(Invalid::Newer(what)) => Err(Error::Newer { path: self.segment.path.clone(), what }),
        }
    }

    /// Up to `want` bytes at `offset`, fewer at the end.
    pub(crate) fn bytes(&mut self, offset: u64, want: usize) -> Result<&[u8], Error> {
        let want = want.min(self.len.saturating_sub(offset) as usize);
        let held = self.chunk_at..self.chunk_at + self.chunk.len() as u64;
        if offset < held.start || offset + want as u64 > held.end {
            self.chunk.resize(want.max(CHUNK_BYTES.min((self.len - offset) as usize)), 0);
            let got = self.segment.file.read_at(&mut self.chunk, offset).doing("read", &self.segment.path)?;
            self.chunk.truncate(got);
            self.chunk_at = offset;
        }
        let start = (offset - self.chunk_at) as usize;
        let end = (start + want).min(self.chunk.len());
        Ok(&self.chunk[start.min(end)..end])
    }

    /// Where the log goes on behind invalid bytes at `offset`, where index `next` was expected; `None` unless anything
    /// says that this index was once durable: `known`, or any valid frame that follows. The first of them need not know
    /// it: it may have been written before the sync that covered what is lost.
    pub(crate) fn behind(
        &mut self,
        offset: u64,
        next: u64,
        known: u64,
    ) -> Result<Option<(u64, FrameHeader)>, Error> {
        let Some(mut found) = self.resync(offset, next)? else { return Ok(None) };
        // A frame that does not come before the one behind it is a copy that came to a wrong place.
        while let Some(after) = self.after(found, next)? {
            if after.1.first >= found.1.end() {
                break;
            }
            found = after;
        }
        let mut last = Some(found);
        while let Some(frame) = last {
            if known > next || frame.1.durable > next {
                return Ok(Some(found));
            }
            last = self.after(frame, next)?;
        }
        Ok(None)
    }

    /// The next valid header behind a frame.
    fn after(&mut self, frame: (u64, FrameHeader), next: u64) -> Result<Option<(u64, FrameHeader)>, Error> {
        let end = frame.0 + frame.1.frame_bytes();
        match self.at(end)? {
            At::Frame(header, _) if header.first >= next => Ok(Some((end, header))),
            _ => self.resync(frame.0, next),
        }
    }

    /// The next place after `offset` where a valid header stands that could belong to this log behind index `next`.
    pub(crate) fn resync(&mut self, offset: u64, next: u64) -> Result<Option<(u64, FrameHeader)>, Error> {
        let mut from = offset + 1;
        while from + (HEADER_BYTES as u64) <= self.len {
            let identity = self.segment.identity;
            let bytes = self.bytes(from, CHUNK_BYTES)?;
            if bytes.len() < HEADER_BYTES {
                return Ok(None);
            }
            // Every occurrence whose whole header lies in the chunk.
            let within = &bytes[..bytes.len() - HEADER_BYTES + 4];
            for at in memchr::memmem::find_iter(within, b"kpf1") {
                if let Ok((header, _)) = FrameHeader::decode(&bytes[at..], &identity)
                    && header.first >= next
                {
                    return Ok(Some((from + at as u64, header)));
                }
            }
            from += (bytes.len() - HEADER_BYTES + 1) as u64;
        }
        Ok(None)
    }
}
