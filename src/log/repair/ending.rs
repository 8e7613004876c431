//! The end of a shard that its log has lost, with records before it perhaps, while the manifest knows where it was.
//!
//! What holds of the last segment is kept. Behind it come gaps up to the index at which the shard ended, so that readers
//! are told of what is missing, and then the end. A segment that was sealed, and whose follower is what is lost, gets a
//! follower that holds no more than that.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use super::super::LogDir;
use super::super::error::Error;
use super::super::frame::segment::SEGMENT_HEADER_BYTES;
use super::super::frame::{EndOfShard, FrameHeader, HEADER_BYTES, Identity, Kind};
use super::super::recover::{Ending, Tail, whole};
use super::super::segment::{Segment, control_frame, list, next_header, segment_name};
use super::super::verify::Lost;
use super::{COPY_BYTES, Held, gaps, put_aside, put_in_place, rebuild_index, said_before};
use crate::sys::{File, Locks};

/// Which records of a shard that has ended at `next` its log has lost. Nothing where it lacks only the end itself.
pub fn lost_end(log: &LogDir, next: u64) -> Result<Option<Lost>, Error> {
    let lost = LastSegment::of(log)?.lost(next);
    Ok((lost.first < lost.next).then_some(lost))
}

/// Writes the end of a shard again, at the index `next` where it was: all that is missing up to there becomes a gap.
///
/// # Errors
/// [`Error::InUse`] if a writer is alive.
pub fn end_again(
    log: &LogDir,
    locks: &Arc<dyn Locks>,
    keep: &Path,
    next: u64,
    end: &EndOfShard,
) -> Result<(), Error> {
    let mut held = Held { locks, shard: log.id.shard, taken: false };
    held.take(log)?;
    let last = LastSegment::of(log)?;
    let lost = last.lost(next);
    let Some(base) = last.follower else {
        put_aside(log, keep, &last.segment.path)?;
        let identity = last.segment.identity;
        put_in_place(log, &last.segment.path, |file| {
            pass(&*last.segment.file, file, last.tail.offset)?;
            put_ending(file, &identity, last.tail.offset, lost, end)
        })?;
        return rebuild_index(log, last.segment.header.base);
    };
    let said = said_before(log, base)?.map(|(said, _)| said);
    let mut header = next_header(log, base, last.tail.arrival_us, said);
    header.ceiling = header.ceiling.max(next);
    put_in_place(log, &log.dir.join(segment_name(base)), |file| {
        file.write_at(&[IoSlice::new(&header.encode())], 0)?;
        put_ending(file, &header.identity(), SEGMENT_HEADER_BYTES as u64, lost, end)
    })?;
    // That of the one that was lost may still be there.
    rebuild_index(log, base)
}

struct LastSegment {
    segment: Segment,
    tail: Tail,
    /// Where the next segment began, if there was one.
    follower: Option<u64>,
}

impl LastSegment {
    fn of(log: &LogDir) -> Result<Self, Error> {
        let base = *list(log)?.last().ok_or_else(|| Error::Empty { dir: log.dir.clone() })?;
        let segment = Segment::open(log, base, false)?;
        let mut tail = Tail::start(&segment.header);
        let ending = tail.follow(&segment, segment.len()?, |_, _| {})?;
        let follower = match ending {
            Ending::Sealed(next) => Some(next),
            Ending::Condemned => Some(segment.header.ceiling),
            _ => None,
        };
        let tail = whole(log, &segment, &tail)?;
        Ok(Self { segment, tail, follower })
    }

    fn lost(&self, next: u64) -> Lost {
        let at = self.tail.arrival_us;
        let first = self.follower.unwrap_or(self.tail.next).min(next);
        Lost { first, next, before_us: at, after_us: at }
    }
}

/// Passes on the first `len` bytes of a file.
fn pass(from: &dyn File, to: &dyn File, len: u64) -> io::Result<()> {
    let (mut at, mut buffer) = (0, vec![0; COPY_BYTES]);
    while at < len {
        let want = buffer.len().min((len - at) as usize);
        let got = from.read_at(&mut buffer[..want], at)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_at(&[IoSlice::new(&buffer[..got])], at)?;
        at += got as u64;
    }
    Ok(())
}

fn put_ending(
    file: &dyn File,
    identity: &Identity,
    offset: u64,
    lost: Lost,
    end: &EndOfShard,
) -> io::Result<()> {
    let frames = (lost.next - lost.first).div_ceil(u64::from(u32::MAX));
    let until = offset + frames * HEADER_BYTES as u64;
    for (at, gap) in gaps(identity, offset, until, lost) {
        file.write_at(&[IoSlice::new(&gap)], at)?;
    }
    // It was so once: nothing came behind a parent's end before that was on the disk.
    let header = FrameHeader {
        provenance_seen: true,
        ..FrameHeader::of(Kind::End, lost.next, lost.after_us, lost.next)
    };
    file.write_at(&[IoSlice::new(&control_frame(identity, header, &end.encode()))], until)
}
