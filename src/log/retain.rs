//! Removing what has expired: whole segments, oldest first, never the one that is written.

use super::LogDir;
use super::error::{Doing, Error};
use super::frame::{Fate, Predecessor};
use super::index;
use super::segment::{Segment, list, segment_name};

/// One segment as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The first index that it may hold.
    pub base: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// When it was created, microseconds since the epoch.
    pub created_us: i64,
    /// What it says of the segment before it.
    pub predecessor: Option<Predecessor>,
}

impl SegmentInfo {
    /// Whether the segment before this one was left by a crash.
    pub fn follows_a_crash(&self) -> bool {
        self.predecessor.is_some_and(|p| p.fate == Fate::Recovered)
    }
}

/// The segments of a log, oldest first. One that is removed meanwhile is left out.
pub fn segments(log: &LogDir) -> Result<Vec<SegmentInfo>, Error> {
    survey(log, |base| Segment::open(log, base, false))
}

fn survey(log: &LogDir, open: impl Fn(u64) -> Result<Segment, Error>) -> Result<Vec<SegmentInfo>, Error> {
    let mut infos = Vec::new();
    for base in list(log)? {
        match open(base) {
            Ok(segment) => infos.push(SegmentInfo {
                base,
                bytes: segment.len()?,
                created_us: segment.header.created_us,
                predecessor: segment.header.predecessor,
            }),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(infos)
}

/// Removes the segments whose records all arrived before `horizon_us`, and the oldest ones beyond `bytes_max` in all.
/// Returns how many were removed and their bytes. Whoever holds a removed segment open reads it to its end.
pub fn expire(log: &LogDir, horizon_us: Option<i64>, bytes_max: Option<u64>) -> Result<(u64, u64), Error> {
    // A header that does not hold must not stop retention; such a segment tells no time.
    let infos = survey(log, |base| Segment::open_any(log, base).map(|(segment, _)| segment))?;
    let mut total: u64 = infos.iter().map(|info| info.bytes).sum();
    let (mut removed, mut freed) = (0, 0);
    for (i, info) in infos.iter().enumerate().take(infos.len().saturating_sub(1)) {
        // Nothing in a segment arrived after the next one was created, or any behind that.
        let created_us = infos[i + 1..].iter().map(|later| later.created_us).min();
        let expired = horizon_us.zip(created_us).is_some_and(|(horizon, created)| created < horizon);
        let over = bytes_max.is_some_and(|max| total > max);
        if !expired && !over {
            break;
        }
        // Each removal is durable before the next: of several names that go at once a power loss may bring back any, and
        // an older segment without the one behind it is damage to a reader. That costs one sync of the directory for each
        // segment of many megabytes.
        let path = log.dir.join(segment_name(info.base));
        match log.system.disk.remove(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).doing("remove", &path),
        }
        log.system.disk.sync_dir(&log.dir).doing("sync", &log.dir)?;
        let _ = log.system.disk.remove(&index::path(log, info.base));
        let _ = log.system.disk.remove(&path.with_extension("bad"));
        // One by one: a power loss must not bring an older segment back and keep a younger one away, for between two
        // segments one that is missing is damage.
        log.system.disk.sync_dir(&log.dir).doing("sync", &log.dir)?;
        removed += 1;
        freed += info.bytes;
        total -= info.bytes;
    }
    Ok((removed, freed))
}
