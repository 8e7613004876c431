//! Repairing a log: what is damaged is replaced by gaps, so that every good record can be read and a reader tells of
//! the rest once.
//!
//! A damaged stretch is overlaid with gap frames of exactly its length, in a copy of its segment that then takes the
//! segment's place. Offsets, bytes and indexes stay what they were, so all that the next segment and the index file
//! say still holds. The segment as it was is linked into `keep` first. A segment that is missing is made anew, nothing
//! but gaps; a segment header that does not hold is written anew from the name and the neighbours.
//!
//! Each step is a temporary file, a sync and a rename: killed anywhere, a repair can be run again, and finds less to do.
//!
//! Segments are only replaced while no writer is alive: the shard's append lock is held, and its live slot too.
//! Index files are rebuilt whoever writes, but for that of the segment which is being written.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LogDir;
use super::error::{Doing, Error};
use super::frame::segment::SEGMENT_HEADER_BYTES;
use super::frame::{
    FRAME_BYTES_MAX, Fate, FrameHeader, HEADER_BYTES, Identity, IndexEntry, Kind, Predecessor, SegmentHeader,
};
use super::index::{self, is_indexed};
use super::recover::{Ending, Tail};
use super::segment::{Segment, list, next_header, segment_name};
use super::verify::{Depth, Event, Finding, Flaw, Frame, Lost, Window, verify};
use super::writer::{append_slot, live_slot};
use crate::sys::Locks;

/// More rounds than any damage needs: each mends what the one before laid open.
const ROUNDS_MAX: usize = 8;

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
    let mut held = Held { locks, shard: log.id.shard, held: false };
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
        if segments && !held.held {
            held.take(log)?;
            // What was found without the lock may have changed.
            continue;
        }
        let last = list(log)?.last().copied();
        if !held.held && todo.iter().any(|finding| !is_of_sealed(finding, last)) {
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
                segments && !is_index(finding) || !segments && (held.held || is_of_sealed(finding, last))
            })
            .collect();
        if todo.is_empty() {
            return Ok(left);
        }
        todo.iter().for_each(&mut *on);
        mend(log, keep, &todo)?;
    }
    Err(Error::Damaged {
        path: log.dir.clone(),
        offset: 0,
        reason: "repairing it lays open ever more damage",
    })
}

fn is_mendable(finding: &Finding) -> bool {
    match finding.flaw {
        Flaw::Header | Flaw::Foreign => true,
        Flaw::Stretch(_) => finding.until - finding.offset >= HEADER_BYTES as u64,
        // One that its follower speaks of.
        Flaw::Missing => finding.until > 0,
        Flaw::Index(_) | Flaw::IndexMissing => true,
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
    held: bool,
}

impl Held<'_> {
    fn take(&mut self, log: &LogDir) -> Result<(), Error> {
        self.locks.lock(append_slot(self.shard), true).doing("lock", &log.dir)?;
        match self.locks.try_lock(live_slot(self.shard), true).doing("lock", &log.dir) {
            Ok(true) => {
                self.held = true;
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
        if self.held {
            let _ = self.locks.unlock(live_slot(self.shard));
            let _ = self.locks.unlock(append_slot(self.shard));
        }
    }
}

fn mend(log: &LogDir, keep: &Path, todo: &[Finding]) -> Result<(), Error> {
    // Strangers go first: what they stood for is missing in the next round.
    let strangers: Vec<&Finding> = todo.iter().filter(|finding| finding.flaw == Flaw::Foreign).collect();
    if !strangers.is_empty() {
        for finding in strangers {
            put_aside(log, keep, &finding.path)?;
            log.system.disk.remove(&finding.path).doing("remove", &finding.path)?;
        }
        return log.system.disk.sync_dir(&log.dir).doing("sync", &log.dir);
    }
    let mut by_segment: BTreeMap<&PathBuf, Vec<&Finding>> = BTreeMap::new();
    for finding in todo {
        by_segment.entry(&finding.path).or_default().push(finding);
    }
    for (path, findings) in by_segment {
        let Some(base) = base_of(path) else { continue };
        match findings[0].flaw {
            Flaw::Missing => make_missing(log, base, findings[0])?,
            _ if is_index(findings[0]) => rebuild_index(log, base)?,
            _ => replace(log, keep, base, &findings)?,
        }
    }
    Ok(())
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
        // What is left must hold another frame.
        let bytes = if rest <= most { rest } else { (rest - HEADER_BYTES as u64).min(most) };
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
fn replace(log: &LogDir, keep: &Path, base: u64, findings: &[&Finding]) -> Result<(), Error> {
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

/// How a segment ends, for the header of the one behind it.
fn end_of(segment: &Segment) -> Result<(Predecessor, i64, Option<u64>), Error> {
    let mut tail = Tail::start(&segment.header);
    let ending = tail.follow(segment, segment.len()?, |_, _| {})?;
    let (fate, next) = match ending {
        Ending::Sealed(next) => (Fate::Sealed, Some(next)),
        _ => (Fate::Recovered, None),
    };
    let said = Predecessor { base: segment.header.base, bytes: tail.offset, end: tail.next, fate };
    Ok((said, tail.arrival_us, next))
}

/// The segment before `base`, if there is one.
fn before(log: &LogDir, base: u64) -> Result<Option<Segment>, Error> {
    let before = list(log)?.into_iter().rfind(|&other| other < base);
    before.map(|before| Segment::open(log, before, false)).transpose()
}

/// What a segment's header must have said.
fn presumed(log: &LogDir, base: u64) -> Result<SegmentHeader, Error> {
    let path = log.dir.join(segment_name(base));
    let said = before(log, base)?.map(|segment| end_of(&segment)).transpose()?;
    let mut arrival_us = said.map(|(_, arrival_us, _)| arrival_us);
    // Not before the last arrival in front of it, and not behind the first in it.
    let file = log.system.disk.open(&path).doing("open", &path)?;
    let header = next_header(log, base, 0, None);
    let segment = Segment::of(file, path, header);
    if let Frame::Whole(first) =
        Window::new(Depth::Headers).frame(&segment, SEGMENT_HEADER_BYTES as u64, segment.len()?)?
    {
        arrival_us = Some(first.arrival_us);
    }
    let unknown = Predecessor { base: 0, bytes: 0, end: base, fate: Fate::Recovered };
    let predecessor = (base > 0).then(|| said.map_or(unknown, |(said, _, _)| said));
    let created_us = arrival_us.unwrap_or(log.shard_created_s as i64 * 1_000_000);
    Ok(next_header(log, base, created_us, predecessor))
}

/// Makes a segment that its follower speaks of and that is not there: nothing but a gap.
fn make_missing(log: &LogDir, base: u64, finding: &Finding) -> Result<(), Error> {
    let Some(before) = before(log, base)? else { return Ok(()) };
    let (mut said, arrival_us, sealed) = end_of(&before)?;
    // Sealed, and the segment that the seal names is missing as well: it is made in the next round.
    if let Some(next) = sealed.filter(|&next| next != base) {
        let frames = (base - next).div_ceil(u64::from(u32::MAX)).max(1);
        let bytes = SEGMENT_HEADER_BYTES as u64 + frames * HEADER_BYTES as u64;
        said = Predecessor { base: next, bytes, end: base, fate: Fate::Recovered };
    }
    let header = next_header(log, base, arrival_us, Some(said));
    let lost = finding.lost.unwrap_or_default();
    let lost = Lost { first: base, next: lost.next.max(base), before_us: arrival_us, after_us: arrival_us };
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
    for name in names.iter().filter(|name| name.ends_with(".seg") && !name.starts_with('.')) {
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
