//! Repairing a log: what is damaged is replaced by gaps, so that every good record can be read and a reader tells of
//! the rest once.
//!
//! A damaged stretch is overlaid with gap frames of exactly its length, in a copy of its segment that then takes the
//! segment's place. Offsets, bytes and indexes stay what they were, so all that the next segment and the index file
//! say still holds. The segment as it was is linked into `keep` first. A segment that is missing is made anew, nothing
//! but gaps; a segment header that does not hold is written anew from the name and the neighbours. Frames come first,
//! then headers and missing segments, which go by where the segment before them ends. What only the manifest knows, that and
//! where a shard has ended, is in `ending`.
//!
//! Each step is a temporary file, a sync and a rename: killed anywhere, a repair can be run again, and finds less to do.
//!
//! Segments are only replaced while no writer is alive: the shard's append lock is held, and its live slot too.
//! Index files are rebuilt whoever writes, but for that of the segment which is being written.

mod ending;

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Doing, Error};
use super::frame::segment::SEGMENT_HEADER_BYTES;
use super::frame::{
    FRAME_BYTES_MAX, Fate, FrameHeader, HEADER_BYTES, Identity, IndexEntry, Kind, Predecessor, SegmentHeader,
};
use super::index::{self, is_indexed};
use super::recover::{Ending, Tail};
use super::segment::{Segment, Walk, list, next_header, segment_name};
use super::verify::{Depth, Event, Finding, Flaw, Frame, Lost, Window, verify};
use super::writer::{append_slot, live_slot};
use super::{LogDir, RESERVE};
use crate::sys::Locks;

pub use ending::{end_again, lost_end};

/// More rounds than any damage needs: each mends what the one before laid open.
const ROUNDS_MAX: usize = 32;

/// Repairs a log. `on` is told of each finding that is mended, before it is. Says what is left that cannot be.
///
/// # Errors
/// [`Error::InUse`] if more than index files must be mended and a writer is alive.
pub fn repair(
    log: &LogDir,
    locks: &Arc<dyn Locks>,
    keep: &Path,
    dry_run: bool,
    on: &mut dyn FnMut(&Finding),
) -> Result<Vec<Finding>, Error> {
    let mut held = Held { locks, shard: log.id.shard, taken: false };
    for _ in 0..ROUNDS_MAX {
        let mut found = Vec::new();
        verify(log, Depth::All, &mut |event| {
            if let Event::Found(finding) = event {
                found.push(finding);
            }
        })?;
        let (todo, left): (Vec<Finding>, Vec<Finding>) = found.into_iter().partition(is_mendable);
        let left: Vec<Finding> = left
            .into_iter()
            .filter(|finding| finding.flaw.severity() == super::verify::Severity::Damage)
            .collect();
        if dry_run {
            todo.iter().for_each(&mut *on);
            return Ok(left);
        }
        let segments = todo.iter().any(|finding| !is_index(finding));
        if segments && !held.taken {
            held.take(log)?;
            // What was found without the lock may have changed.
            continue;
        }
        let last = list(log)?.last().copied();
        if !held.taken && todo.iter().any(|finding| !is_of_sealed(finding, last)) {
            match held.take(log) {
                Ok(()) => continue,
                // The index of the segment that is being written has to wait.
                Err(Error::InUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let todo: Vec<Finding> = todo
            .into_iter()
            .filter(|finding| {
                segments && !is_index(finding) || !segments && (held.taken || is_of_sealed(finding, last))
            })
            .collect();
        if todo.is_empty() {
            return Ok(left);
        }
        mend(log, keep, todo, on)?;
    }
    Err(Error::Damaged {
        path: log.dir.clone(),
        offset: 0,
        reason: "repairing it lays open ever more damage",
    })
}

fn is_mendable(finding: &Finding) -> bool {
    match finding.flaw {
        Flaw::Header | Flaw::Foreign | Flaw::Index(_) | Flaw::IndexMissing => true,
        Flaw::Stretch(_) => finding.until - finding.offset >= HEADER_BYTES as u64,
        // One that its follower speaks of.
        Flaw::Missing => finding.until > 0,
        Flaw::Contradiction(_) | Flaw::SetAside | Flaw::Tail | Flaw::Condemned | Flaw::Gap => false,
    }
}

fn is_index(finding: &Finding) -> bool {
    matches!(finding.flaw, Flaw::Index(_) | Flaw::IndexMissing)
}

fn is_of_sealed(finding: &Finding, last: Option<u64>) -> bool {
    base_of(&finding.path) != last
}

fn base_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// The locks that keep writers out.
struct Held<'a> {
    locks: &'a Arc<dyn Locks>,
    shard: u32,
    taken: bool,
}

impl Held<'_> {
    fn take(&mut self, log: &LogDir) -> Result<(), Error> {
        self.locks.lock(append_slot(self.shard), true).doing("lock", &log.dir)?;
        match self.locks.try_lock(live_slot(self.shard), true).doing("lock", &log.dir) {
            Ok(true) => {
                self.taken = true;
                Ok(())
            }
            other => {
                let _ = self.locks.unlock(append_slot(self.shard));
                other.and(Err(Error::InUse { dir: log.dir.clone() }))
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.taken {
            let _ = self.locks.unlock(live_slot(self.shard));
            let _ = self.locks.unlock(append_slot(self.shard));
        }
    }
}

/// Mends what comes first, in the order in which one thing depends on another: what the next verification then finds is
/// the next round's.
fn mend(log: &LogDir, keep: &Path, todo: Vec<Finding>, on: &mut dyn FnMut(&Finding)) -> Result<(), Error> {
    // Strangers go first: what they stood for is missing in the next round.
    let mut strangers = Vec::new();
    for finding in &todo {
        if matches!(finding.flaw, Flaw::Foreign | Flaw::Header) && is_stray(log, finding)? {
            strangers.push(finding);
        }
    }
    if !strangers.is_empty() {
        for finding in strangers {
            on(finding);
            take_away(log, keep, &finding.path)?;
        }
        return Ok(());
    }
    // Then frames: where a segment ends can be told once all in it holds. What is made anew goes by that.
    let stretches = todo.iter().any(|finding| matches!(finding.flaw, Flaw::Stretch(_)));
    let mut by_segment: BTreeMap<PathBuf, Vec<Finding>> = BTreeMap::new();
    for finding in todo {
        if matches!(finding.flaw, Flaw::Stretch(_)) == stretches {
            on(&finding);
            by_segment.entry(finding.path.clone()).or_default().push(finding);
        }
    }
    for (path, findings) in by_segment {
        let Some(base) = base_of(&path) else { continue };
        match findings[0].flaw {
            Flaw::Missing => make_missing(log, base, &findings[0])?,
            Flaw::Foreign => stand_in(log, keep, base)?,
            _ if is_index(&findings[0]) => rebuild_index(log, base)?,
            _ => replace(log, keep, base, &findings)?,
        }
    }
    Ok(())
}

/// Whether the file of a finding is no part of the log: it is another's, and does not stand where the last segment was;
/// or its header does not hold, and either the segment behind it follows one before it, or it is the last one, has no
/// frame, and nothing leads to it.
fn is_stray(log: &LogDir, finding: &Finding) -> Result<bool, Error> {
    let Some(base) = base_of(&finding.path) else { return Ok(false) };
    let foreign = finding.flaw == Flaw::Foreign;
    if let Some(follower) = list(log)?.into_iter().find(|&other| other > base) {
        let before = Segment::open(log, follower, false).ok().and_then(|segment| segment.header.predecessor);
        return Ok(foreign || before.is_some_and(|before| before.base < base));
    }
    Ok(!leads_to(log, base)? && (foreign || !has_frames(log, base)?))
}

/// Between two segments that are there this many may have gone that each reserved its indexes in vain. A name further
/// off is a stranger's: to go on behind it would cost indexes.
const GONE_MAX: u64 = 1 << 10;

/// Whether a segment with this base can have come behind those that are there: not below the end of the one before it,
/// and not far above what that had reserved.
fn leads_to(log: &LogDir, base: u64) -> Result<bool, Error> {
    // Where none is left it may have come behind anything.
    let Some(before) = list(log)?.into_iter().rfind(|&other| other < base) else { return Ok(true) };
    let end = match Segment::open(log, before, false) {
        Ok(segment) => {
            let mut tail = Tail::start(&segment.header);
            tail.follow(&segment, segment.len()?, |_, _| {})?;
            tail.next
        }
        // It says nothing; its name does.
        Err(Error::Damaged { .. } | Error::Foreign { .. }) => before,
        Err(error) => return Err(error),
    };
    Ok((end..before + (1 + GONE_MAX) * RESERVE).contains(&base))
}

/// Whether any frame of the segment with this base is in its file.
fn has_frames(log: &LogDir, base: u64) -> Result<bool, Error> {
    let path = log.dir.join(segment_name(base));
    let file = log.system.disk.open(&path).doing("open", &path)?;
    let segment = Segment::of(file, path, next_header(log, base, 0, None));
    let len = segment.len()?;
    Ok(Walk::new(&segment, len).resync(SEGMENT_HEADER_BYTES as u64 - 1, base)?.is_some())
}

/// Takes a file out of the log that is no part of it.
fn take_away(log: &LogDir, keep: &Path, path: &Path) -> Result<(), Error> {
    put_aside(log, keep, path)?;
    log.system.disk.remove(path).doing("remove", path)?;
    log.system.disk.sync_dir(&log.dir).doing("sync", &log.dir)
}

/// Puts a segment without records in the place of a stranger that stands where the last one was. What was in that is
/// lost, and nobody can say how much, but no index of it is used again.
fn stand_in(log: &LogDir, keep: &Path, base: u64) -> Result<(), Error> {
    let path = log.dir.join(segment_name(base));
    put_aside(log, keep, &path)?;
    let header = presumed(log, base)?;
    put_in_place(log, &path, |file| file.write_at(&[IoSlice::new(&header.encode())], 0))
}

/// Gives a file a second name in `keep`, durably. A name that is there from an interrupted run is as good.
fn put_aside(log: &LogDir, keep: &Path, path: &Path) -> Result<(), Error> {
    let disk = &log.system.disk;
    let mut dir = PathBuf::new();
    for part in keep.components() {
        dir.push(part);
        if !disk.exists(&dir) {
            disk.create_dir(&dir).doing("create", &dir)?;
            disk.sync_dir(dir.parent().unwrap_or(Path::new("."))).doing("sync", &dir)?;
        }
    }
    let kept = keep.join(path.file_name().unwrap_or_default());
    match disk.hard_link(path, &kept) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.doing("keep", path)?,
    }
    disk.sync_dir(keep).doing("sync", keep)
}

/// The gap frames that fill `[offset, until)`: headers with their places. Their bodies are zeros.
fn gaps(identity: &Identity, offset: u64, until: u64, lost: Lost) -> Vec<(u64, [u8; HEADER_BYTES])> {
    let (mut at, mut next) = (offset, lost.first);
    let mut frames = Vec::new();
    while at < until {
        let rest = until - at;
        let most = FRAME_BYTES_MAX as u64;
        // What is left must hold another frame, and as many as it takes to count what is lost.
        let more = (lost.next - next).div_ceil(u64::from(u32::MAX)).saturating_sub(1) * HEADER_BYTES as u64;
        let more = if rest > most { more.max(HEADER_BYTES as u64) } else { more };
        let bytes = (rest.saturating_sub(more)).clamp(HEADER_BYTES as u64, most);
        let count = (lost.next - next).min(u64::from(u32::MAX)) as u32;
        let stored_bytes = (bytes - HEADER_BYTES as u64) as u32;
        let header = FrameHeader {
            count,
            stored_bytes,
            body_bytes: stored_bytes,
            // It may have been so, and to say so only costs a search.
            provenance_seen: true,
            ..FrameHeader::of(Kind::Gap, next, lost.before_us, lost.first)
        };
        frames.push((at, header.encode(identity, zeros_crc(stored_bytes as usize))));
        next += u64::from(count);
        at += bytes;
    }
    frames
}

fn zeros_crc(len: usize) -> u32 {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut crc = super::frame::Crc32c::default();
    let mut left = len;
    while left > 0 {
        let take = left.min(ZEROS.len());
        crc.update(&ZEROS[..take]);
        left -= take;
    }
    crc.finish()
}

/// Writes a file beside its place, with `fill`, and moves it there.
fn put_in_place(
    log: &LogDir,
    path: &Path,
    fill: impl FnOnce(&dyn crate::sys::File) -> io::Result<()>,
) -> Result<(), Error> {
    let disk = &log.system.disk;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    let temporary = log.dir.join(format!(".{name}.{}.tmp", std::process::id()));
    let _ = disk.remove(&temporary);
    let make = || {
        let file = disk.create(&temporary)?;
        fill(&*file)?;
        file.sync_data()?;
        disk.rename(&temporary, path)?;
        disk.sync_dir(&log.dir)
    };
    make()
        .inspect_err(|_| {
            let _ = disk.remove(&temporary);
        })
        .doing("write", path)
}

const COPY_BYTES: usize = 1 << 20;

/// Puts a copy in a segment's place whose header holds and that has gaps where frames did not.
fn replace(log: &LogDir, keep: &Path, base: u64, findings: &[Finding]) -> Result<(), Error> {
    let path = log.dir.join(segment_name(base));
    put_aside(log, keep, &path)?;
    let header = findings.iter().any(|f| f.flaw == Flaw::Header).then(|| presumed(log, base)).transpose()?;
    let old = log.system.disk.open(&path).doing("open", &path)?;
    let identity = Identity::new(log.id, base);
    put_in_place(log, &path, |new| {
        let (len, mut at) = (old.len()?, 0);
        let mut buffer = vec![0; COPY_BYTES];
        while at < len {
            let got = old.read_at(&mut buffer, at)?;
            if got == 0 {
                break;
            }
            new.write_at(&[IoSlice::new(&buffer[..got])], at)?;
            at += got as u64;
        }
        if let Some(header) = &header {
            new.write_at(&[IoSlice::new(&header.encode())], 0)?;
        }
        for finding in findings.iter().filter(|f| matches!(f.flaw, Flaw::Stretch(_))) {
            zero(new, finding.offset, finding.until)?;
            for (at, frame) in
                gaps(&identity, finding.offset, finding.until, finding.lost.unwrap_or_default())
            {
                new.write_at(&[IoSlice::new(&frame)], at)?;
            }
        }
        Ok(())
    })
}

fn zero(file: &dyn crate::sys::File, from: u64, until: u64) -> io::Result<()> {
    let (zeros, mut at) = (vec![0; COPY_BYTES], from);
    while at < until {
        let take = zeros.len().min((until - at) as usize);
        file.write_at(&[IoSlice::new(&zeros[..take])], at)?;
        at += take as u64;
    }
    Ok(())
}

/// What the header of a segment that begins at `base` says of the one before it, and when the last record there arrived.
/// Where the one before was sealed and its seal names another, that one is missing too: it is spoken of, and made in the
/// next round.
fn said_before(log: &LogDir, base: u64) -> Result<Option<(Predecessor, i64)>, Error> {
    let Some(before) = before(log, base)? else { return Ok(None) };
    let mut tail = Tail::start(&before.header);
    let ending = tail.follow(&before, before.len()?, |_, _| {})?;
    let said = |fate| Predecessor { base: before.header.base, bytes: tail.offset, end: tail.next, fate };
    let said = match ending {
        Ending::Sealed(next) if next < base => {
            let frames = (base - next).div_ceil(u64::from(u32::MAX));
            let bytes = SEGMENT_HEADER_BYTES as u64 + frames * HEADER_BYTES as u64;
            Predecessor { base: next, bytes, end: base, fate: Fate::Recovered }
        }
        Ending::Sealed(_) => said(Fate::Sealed),
        // The note itself does not count.
        Ending::Condemned => {
            Predecessor { bytes: tail.last_frame.unwrap_or(tail.offset), ..said(Fate::Condemned) }
        }
        _ => said(Fate::Recovered),
    };
    Ok(Some((said, tail.arrival_us)))
}

/// The segment before `base`, if there is one.
fn before(log: &LogDir, base: u64) -> Result<Option<Segment>, Error> {
    let before = list(log)?.into_iter().rfind(|&other| other < base);
    before.map(|before| Segment::open(log, before, false)).transpose()
}

/// What a segment's header must have said.
fn presumed(log: &LogDir, base: u64) -> Result<SegmentHeader, Error> {
    let path = log.dir.join(segment_name(base));
    let said = said_before(log, base)?;
    // Not before the last arrival in front of it, and not behind the first in it.
    let file = log.system.disk.open(&path).doing("open", &path)?;
    let segment = Segment::of(file, path, next_header(log, base, 0, None));
    let first = Window::new(Depth::Headers).frame(&segment, SEGMENT_HEADER_BYTES as u64, segment.len()?)?;
    let created_us = match (first, &said) {
        (Frame::Whole(first), _) => first.arrival_us,
        (_, Some((_, arrival_us))) => *arrival_us,
        _ => log.shard_created_s as i64 * 1_000_000,
    };
    let unknown = Predecessor { base: 0, bytes: 0, end: base, fate: Fate::Recovered };
    let predecessor = (base > 0).then(|| said.map_or(unknown, |(said, _)| said));
    Ok(next_header(log, base, created_us, predecessor))
}

/// Makes a segment that its follower speaks of and that is not there: nothing but a gap.
fn make_missing(log: &LogDir, base: u64, finding: &Finding) -> Result<(), Error> {
    let Some((said, arrival_us)) = said_before(log, base)? else { return Ok(()) };
    let mut header = next_header(log, base, arrival_us, Some(said));
    let lost = finding.lost.unwrap_or_default();
    let lost = Lost { first: base, next: lost.next.max(base), before_us: arrival_us, after_us: arrival_us };
    // It may stand for several.
    header.ceiling = header.ceiling.max(lost.next);
    let identity = header.identity();
    put_in_place(log, &log.dir.join(segment_name(base)), |file| {
        file.write_at(&[IoSlice::new(&header.encode())], 0)?;
        // What is not written reads as zeros, and takes no room.
        file.set_len(finding.until)?;
        for (at, frame) in gaps(&identity, SEGMENT_HEADER_BYTES as u64, finding.until, lost) {
            file.write_at(&[IoSlice::new(&frame)], at)?;
        }
        Ok(())
    })
}

/// Makes the index of a segment anew.
fn rebuild_index(log: &LogDir, base: u64) -> Result<(), Error> {
    let segment = Segment::open(log, base, false)?;
    let end = segment.len()?;
    let mut window = Window::new(Depth::Headers);
    let (mut offset, mut before, mut entries) = (SEGMENT_HEADER_BYTES as u64, None, Vec::new());
    while let Frame::Whole(header) = window.frame(&segment, offset, end)? {
        if header.kind == Kind::Records && is_indexed(offset, before) {
            let entry = IndexEntry { first: header.first, arrival_us: header.arrival_us, offset };
            entries.extend(entry.encode(&segment.identity));
        }
        before = Some(offset);
        offset += header.frame_bytes();
    }
    put_in_place(log, &index::path(log, base), |file| file.write_at(&[IoSlice::new(&entries)], 0))
}

/// Whose log a directory holds, going by the first segment whose header holds, and when its shard was created, in
/// seconds since the epoch.
pub fn identify(system: &crate::sys::System, dir: &Path) -> Result<Option<(super::LogId, u64)>, Error> {
    let mut names = system.disk.list(dir).doing("list", dir)?;
    names.sort_unstable();
    for name in names.iter().filter(|name| Path::new(name).extension().is_some_and(|e| e == "seg")) {
        let path = dir.join(name);
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let got =
            system.disk.open(&path).and_then(|file| file.read_at(&mut bytes, 0)).doing("read", &path)?;
        if let Some(header) = SegmentHeader::identify(&bytes[..got]) {
            return Ok(Some((header.log, header.shard_created_s)));
        }
    }
    Ok(None)
}
