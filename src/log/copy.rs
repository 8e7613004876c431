//! Copying a log as it stands: whole frames, verified on their way, under the same identity or a new one.
//!
//! First it is noted how far the log reaches, so that several can be copied as they stood at one moment. Then it is cut:
//! for each segment how many of its bytes count. Of segments that are followed by another the follower says so; the last
//! one is gone through up to the last whole frame and made durable up to there, so that no copy holds what its source
//! could still lose. Sealed segments never change, so they may be linked instead of copied.
//!
//! Under a new identity every header is written anew with its checksums; bodies, indexes, times and offsets stay.

use std::io::{self, IoSlice, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LogDir;
use super::error::{Doing, Error};
use super::frame::segment::{InvalidSegment, SEGMENT_HEADER_BYTES};
use super::frame::{
    FRAME_BYTES_MAX, FrameHeader, HEADER_BYTES, IndexEntry, Invalid, Kind, LogId, SegmentHeader, crc32c,
};
use super::index::{self, is_indexed};
use super::segment::{Segment, Walk, list, segment_name};
use super::verify::{Depth, Frame, Window};
use crate::sys::{Disk, File};

/// A segment, and how many of its bytes are copied.
#[derive(Clone)]
pub struct Part {
    /// Its base.
    pub base: u64,
    /// Its bytes that count.
    pub bytes: u64,
    /// Whether it never changes any more.
    pub sealed: bool,
    /// The open file: retention may remove its name before it is copied.
    pub file: Option<Arc<dyn File>>,
}

/// What of a log is copied.
#[derive(Clone, Default)]
pub struct Cut {
    /// Segments, ascending.
    pub parts: Vec<Part>,
    /// The index after the last record.
    pub next: u64,
}

impl Cut {
    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// How far a log reached at one moment. Segments that were opened then can be read whatever retention removes since.
pub struct Reach {
    /// Its segments, ascending.
    segments: Vec<(u64, Option<Arc<dyn File>>)>,
    /// How long the last one was.
    bytes: u64,
}

/// So many segments of a log are held open while it is copied; of one that has more, none: what retention then takes
/// meanwhile ends the copy with an error.
const HELD_MAX: usize = 256;

/// Looks how far a log reaches; with `hold` its last segment stays open. Whoever holds the log's append lock finds no
/// half frame at its end but one that a crash left.
pub fn reach(log: &LogDir, hold: bool) -> Result<Reach, Error> {
    // Retention may remove what was listed, but not this many times in a row.
    const TRIES: usize = 5;
    let mut tried = 0;
    loop {
        tried += 1;
        let bases = list(log)?;
        let last = *bases.last().ok_or_else(|| Error::Empty { dir: log.dir.clone() })?;
        let path = log.dir.join(segment_name(last));
        let file = match log.system.disk.open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && tried < TRIES => continue,
            other => other.doing("open", &path)?,
        };
        let bytes = file.len().doing("look at", &path)?;
        let mut segments: Vec<_> = bases.into_iter().map(|base| (base, None)).collect();
        if let Some(last) = segments.last_mut().filter(|_| hold) {
            last.1 = Some(file);
        }
        return Ok(Reach { segments, bytes });
    }
}

impl Reach {
    /// Holds the other segments too, as far as there is `room`, which is counted down: the newest first, for the oldest
    /// are those that may be missing.
    pub fn hold(&mut self, log: &LogDir, room: &mut usize) {
        for (base, file) in self.segments.iter_mut().rev().filter(|(_, file)| file.is_none()).take(*room) {
            *file = log.system.disk.open(&log.dir.join(segment_name(*base))).ok();
            *room -= 1;
        }
    }

    /// Cuts the log there. The frame in which a shard ends is part of the copy only if `with_end`: a copy of the manifest
    /// that has the shard open must find it open. Answers with nothing where retention has taken all of it since.
    pub fn cut(self, log: &LogDir, with_end: bool) -> Result<Option<Cut>, Error> {
        let hold = self.segments.len() <= HELD_MAX;
        let mut cut = Cut::default();
        let mut before: Option<Segment> = None;
        for (base, file) in self.segments {
            let opened = match file {
                Some(file) => Segment::read(log, base, file),
                None => Segment::open(log, base, false),
            };
            let segment = match opened {
                // Retention takes the oldest first: what stood before it has gone as well.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    (cut, before) = (Cut::default(), None);
                    continue;
                }
                other => other?,
            };
            if let Some(before) = before {
                let said = segment.header.predecessor.filter(|said| said.base == before.header.base);
                let said = said.ok_or_else(|| {
                    let reason = "the segment does not follow the one before it";
                    Error::Damaged { path: segment.path.clone(), offset: 0, reason }
                })?;
                let file = hold.then(|| Arc::clone(&before.file));
                cut.parts.push(Part { base: said.base, bytes: said.bytes, sealed: true, file });
                cut.next = said.end;
            }
            before = Some(segment);
        }
        let Some(last) = before else { return Ok(None) };
        // Of what stood there then, a recovery may have set something aside since.
        let kept = match last.follower(log) {
            Ok(follower) => follower.and_then(|(_, bound)| bound?.said).map(|said| said.bytes),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (bytes, next, ended) = whole_end(&last, with_end, self.bytes.min(kept.unwrap_or(u64::MAX)))?;
        last.sync(&*log.system.disk)?;
        cut.parts.push(Part { base: last.header.base, bytes, sealed: ended, file: Some(last.file) });
        cut.next = next;
        Ok(Some(cut))
    }
}

/// Where the whole frames end in the first `most` bytes of the last segment, the index there, and whether the shard ends
/// with them.
///
/// # Errors
/// [`Error::Damaged`] where frames that do not hold are followed by what says that they were durable: a copy up to there
/// would leave out good records in silence.
fn whole_end(segment: &Segment, with_end: bool, most: u64) -> Result<(u64, u64, bool), Error> {
    let mut end = segment.len()?.min(most);
    let mut damaged_at = None;
    let mut window = Window::new(Depth::All);
    let (mut offset, mut next, mut durable) =
        (SEGMENT_HEADER_BYTES as u64, segment.header.base, segment.header.base);
    loop {
        match window.frame(segment, offset, end)? {
            Frame::Whole(header) if header.first == next => match header.kind {
                Kind::End if with_end => return Ok((offset + header.frame_bytes(), next, true)),
                // What comes behind a seal or the note of a failed sync is in the next segment, which is not copied.
                Kind::End | Kind::Seal | Kind::Condemned => return Ok((offset, next, false)),
                _ => {
                    offset += header.frame_bytes();
                    next = header.end();
                    durable = durable.max(header.durable);
                }
            },
            _ if Walk::new(segment, end).behind(offset, next, durable)?.is_none() => {
                return Ok((offset, next, false));
            }
            _ if damaged_at == Some(offset) => {
                let reason = "frames do not hold";
                return Err(Error::Damaged { path: segment.path.clone(), offset, reason });
            }
            _ => {
                // The place was being written, perhaps, and what is behind it has been written since.
                damaged_at = Some(offset);
                window.forget();
                end = segment.len()?.min(most);
            }
        }
    }
}

/// Reads a file from its start to some place.
struct FileRead {
    file: Arc<dyn File>,
    at: u64,
    end: u64,
}

impl Read for FileRead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min((self.end - self.at) as usize);
        let got = self.file.read_at(&mut buf[..want], self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// How much is read and written at once.
const CHUNK_BYTES: usize = 512 << 10;

/// The bytes of a part, for a copy.
pub fn open_part(log: &LogDir, part: &Part) -> Result<impl Read + use<>, Error> {
    let path = part_path(log, part.base);
    let file = match &part.file {
        Some(file) => Arc::clone(file),
        None => log.system.disk.open(&path).doing("open", &path)?,
    };
    Ok(io::BufReader::with_capacity(CHUNK_BYTES, FileRead { file, at: 0, end: part.bytes }))
}

/// Where a segment is.
pub fn part_path(log: &LogDir, base: u64) -> PathBuf {
    log.dir.join(segment_name(base))
}

/// Takes the bytes of a header or frame, and the index entry that it gets, if it gets one.
pub type Take<'a> = &'a mut dyn FnMut(&[u8], Option<IndexEntry>) -> Result<(), Error>;

/// Passes the bytes of a segment on, verified, as those of another log if `to` is not `from`. `source` is read to the
/// end of the part and not beyond; `name` is what an error calls it. Says how many records went by.
pub fn pass_on(
    source: &mut dyn Read,
    part: &Part,
    (from, to): (LogId, LogId),
    name: &Path,
    out: Take<'_>,
) -> Result<u64, Error> {
    let damaged = |offset, reason| Error::Damaged { path: name.to_owned(), offset, reason };
    let mut fetch = |bytes: &mut [u8], offset| match source.read_exact(bytes) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(damaged(offset, "is cut short")),
        other => other.doing("read", name),
    };
    let mut head = [0; SEGMENT_HEADER_BYTES];
    fetch(&mut head, 0)?;
    let header = SegmentHeader::decode(&head, from, part.base).map_err(|invalid| match invalid {
        InvalidSegment::Damaged => damaged(0, "the segment's header does not hold"),
        InvalidSegment::Foreign => Error::Foreign { path: name.to_owned() },
        InvalidSegment::Newer => Error::Newer { path: name.to_owned(), what: "a layout" },
    })?;
    let (old, new) = (header.identity(), SegmentHeader { log: to, ..header }.identity());
    out(&SegmentHeader { log: to, ..header }.encode(), None)?;
    let mut offset = SEGMENT_HEADER_BYTES as u64;
    let (mut next, mut records, mut before) = (header.base, 0, None);
    let mut frame = Vec::new();
    while offset < part.bytes {
        frame.resize(HEADER_BYTES, 0);
        fetch(&mut frame, offset)?;
        let (header, crc) = FrameHeader::decode(&frame, &old).map_err(|invalid| match invalid {
            Invalid::Checksum => damaged(offset, "a frame's header does not hold"),
            Invalid::Newer(what) => Error::Newer { path: name.to_owned(), what },
        })?;
        if header.first != next || offset + header.frame_bytes() > part.bytes {
            return Err(damaged(offset, "a frame does not follow the one before it"));
        }
        frame.resize(header.frame_bytes() as usize, 0);
        fetch(&mut frame[HEADER_BYTES..], offset)?;
        if crc32c(&frame[HEADER_BYTES..]) != crc {
            return Err(damaged(offset, "a frame's body does not hold"));
        }
        frame[..HEADER_BYTES].copy_from_slice(&header.encode(&new, crc));
        let indexed = header.kind == Kind::Records && is_indexed(offset, before);
        let entry = IndexEntry { first: header.first, arrival_us: header.arrival_us, offset };
        out(&frame, indexed.then_some(entry))?;
        if header.kind == Kind::Records {
            records += u64::from(header.count);
        }
        before = Some(offset);
        offset += header.frame_bytes();
        next = header.end();
        if frame.capacity() > FRAME_BYTES_MAX / 8 {
            frame.shrink_to(CHUNK_BYTES);
        }
    }
    Ok(records)
}

/// Writes a part into another log, with its index, durably but for the directory's names. `progress` is told records
/// and bytes, and may end it.
pub fn write_part(
    source: &mut dyn Read,
    part: &Part,
    from: LogId,
    to: &LogDir,
    progress: &mut dyn FnMut(u64, u64) -> io::Result<()>,
) -> Result<(), Error> {
    let path = part_path(to, part.base);
    let disk = &to.system.disk;
    let mut file = Sink::create(&**disk, &path)?;
    let mut entries = Vec::new();
    let identity = super::frame::Identity::new(to.id, part.base);
    let records = pass_on(source, part, (from, to.id), &path, &mut |bytes, entry| {
        entries.extend(entry.iter().flat_map(|entry| entry.encode(&identity)));
        progress(0, bytes.len() as u64).doing("write to", &path)?;
        file.write(bytes)
    })?;
    progress(records, 0).doing("write to", &path)?;
    file.finish()?;
    if !entries.is_empty() {
        let mut file = Sink::create(&**disk, &index::path(to, part.base))?;
        file.write(&entries)?;
        file.finish()?;
    }
    Ok(())
}

/// Links a sealed segment and its index into another directory on the same file system; `false` if that cannot be.
pub fn link_part(from: &LogDir, part: &Part, to: &LogDir) -> Result<bool, Error> {
    let disk = &from.system.disk;
    let path = part_path(from, part.base);
    match disk.hard_link(&path, &part_path(to, part.base)) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound && part.file.is_none() => {
            return Err(e).doing("link", &path);
        }
        Err(_) => return Ok(false),
    }
    // It can be rebuilt.
    let _ = disk.hard_link(&index::path(from, part.base), &index::path(to, part.base));
    Ok(true)
}

/// A new file that is written in order.
struct Sink {
    file: Arc<dyn File>,
    path: PathBuf,
    buffer: Vec<u8>,
    at: u64,
}

impl Sink {
    fn create(disk: &dyn Disk, path: &Path) -> Result<Self, Error> {
        let file = disk.create(path).doing("create", path)?;
        Ok(Self { file, path: path.to_owned(), buffer: Vec::new(), at: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.write_at(&[IoSlice::new(&self.buffer)], self.at).doing("write to", &self.path)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(), Error> {
        self.flush()?;
        self.file.sync_data().doing("sync", &self.path)
    }
}
