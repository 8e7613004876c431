//! Going to a place: by index, by time, to either end; and from one segment to the next.

use super::super::error::Error;
use super::super::frame::segment::SEGMENT_HEADER_BYTES;
use super::super::frame::{Fate, FrameHeader, IndexEntry, Kind, Predecessor};
use super::super::index::IndexReader;
use super::super::segment::{At, Segment, Walk, list, segment_name};
use super::judge::Head;
use super::{Damage, Lost, Missed, Reader};

impl Reader {
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

    pub(super) fn enter(&mut self, base: u64) -> Result<(), Error> {
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
        self.limit = self.successor()?.and_then(|(_, bound)| bound).map(|bound| bound.bytes);
        Ok(())
    }

    /// Enters the segment with this base or, if retention was faster, the first behind it, and returns its base.
    pub(super) fn enter_from(&mut self, mut base: u64) -> Result<u64, Error> {
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
    pub(super) fn jump(&mut self, before: impl Fn(u64, i64) -> bool) -> Result<(), Error> {
        let Some(segment) = &self.segment else { return Ok(()) };
        let index = IndexReader::open(&self.log, &segment.header);
        let limit = self.limit.unwrap_or(u64::MAX);
        let wanted = |entry: &IndexEntry| entry.offset < limit && before(entry.first, entry.arrival_us);
        let Some(entry) = index.last_where(wanted) else {
            return Ok(());
        };
        let mut walk = Walk::new(segment, segment.len()?);
        if let At::Frame(header, _) = walk.at(entry.offset)?
            && header.first == entry.first
        {
            self.offset = entry.offset;
            self.next = entry.first;
            self.durable = self.durable.max(header.durable);
        }
        Ok(())
    }

    /// Steps over frames by their headers as long as `before` holds, into later segments too.
    pub(super) fn skip(&mut self, before: impl Fn(&FrameHeader) -> bool) -> Result<(), Error> {
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
                    let from = self.next;
                    if self.follow_to(next)?.is_some() {
                        // The next read says so.
                        self.next = from;
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

    /// Opens the segment that holds the reader's place again, or the first that is left. What of the records that were
    /// read has been given up meanwhile is noted: going to the place walks past them, into what came instead.
    pub(super) fn reopen(&mut self) -> Result<Option<Lost>, Error> {
        let (next, offset, durable) = (self.next, self.offset, self.durable);
        if offset == 0 {
            self.seek_start()?;
            return Ok(None);
        }
        let mut given_up = self.given_up.clone();
        let bases = list(&self.log)?;
        let at = bases.partition_point(|&base| base <= next).saturating_sub(1);
        let Some(&base) = bases.get(at) else { return Err(self.empty()) };
        if base > next {
            let base = self.enter_from(base)?;
            let before = self.segment.as_ref().and_then(|segment| segment.header.predecessor);
            // It may have been the one that was read.
            let end = before.filter(|before| before.base <= next && before.fate != Fate::Sealed);
            if let Some(before) = end.filter(|before| next > before.end) {
                let path = self.log.dir.join(segment_name(before.base));
                self.given_up.get_or_insert((before.end, path));
            }
            return self.lost(next, before, base);
        }
        // One that retention takes right now is told of below.
        let bound = match Segment::open_any(&self.log, base) {
            Ok((segment, _)) => segment.follower(&self.log)?.and_then(|(_, bound)| bound),
            Err(_) => None,
        };
        if let Some(end) = bound.and_then(|bound| bound.gave_up_from()).filter(|&end| next > end) {
            given_up.get_or_insert((end, self.log.dir.join(segment_name(base))));
        }
        self.seek_index(next)?;
        self.durable = self.durable.max(durable);
        self.given_up = given_up;
        Ok(None)
    }

    /// Goes to the segment with this base, or, if that has gone, to the first behind it.
    pub(super) fn follow_to(&mut self, base: u64) -> Result<Option<Lost>, Error> {
        let from = self.next;
        let mine = self.segment.as_ref().map(|segment| segment.header.base);
        self.enter_from(base)?;
        let Some(segment) = &self.segment else { return Ok(None) };
        let before = segment.header.predecessor;
        if before.map(|p| p.base) == mine {
            return Ok(None);
        }
        self.lost(from, before, segment.header.base)
    }

    /// After a seek to an index that is not there any more: what became of it.
    pub(super) fn check_start(&mut self) -> Result<Option<Lost>, Error> {
        let Some(Segment { header, .. }) = &self.segment else { return Ok(None) };
        let (base, before) = (header.base, header.predecessor);
        if self.offset != SEGMENT_HEADER_BYTES as u64 || self.next >= base {
            return Ok(None);
        }
        let from = self.next;
        self.next = base;
        self.lost(from, before, base)
    }

    /// What became of the records from `from` to the segment with this base, which says this of the one before it.
    fn lost(&self, from: u64, before: Option<Predecessor>, base: u64) -> Result<Option<Lost>, Error> {
        // Between the end of one segment and the base of the next there may be indexes that were reserved and never
        // used.
        let Some(before) = before.filter(|before| from < before.end) else { return Ok(None) };
        // Retention removes the oldest first: where an older segment is still there it was not retention. In this
        // order, because it may be at work.
        let disk = &self.log.system.disk;
        let path = self.log.dir.join(segment_name(before.base));
        let is_hole = !disk.exists(&path)
            && list(&self.log)?
                .into_iter()
                .take_while(|&other| other < before.base)
                .any(|older| disk.exists(&self.log.dir.join(segment_name(older))));
        Ok(Some(if is_hole {
            let (until, reason) = (before.bytes, "the segment is not there");
            Lost::Damage(Damage { path, offset: 0, until, first: from, next: base, reason })
        } else {
            Lost::Missed(Missed { from, to: base, repaired: false })
        }))
    }
}
