//! Making what was read durable, before anybody acts upon it.

use super::super::error::Error;
use super::super::recover::is_ended_on_device;
use super::super::segment::Segment;
use super::Reader;

impl Reader {
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
                return self.check_given_up();
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
        // Where the shard has ended there is nothing to go on in, only what the device gives back.
        let ended = |segment: &Segment| is_ended_on_device(segment, &self.log);
        if synced.is_err() && self.segment.as_ref().is_some_and(|segment| ended(segment).unwrap_or(false)) {
            self.durable = self.next;
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

    fn check_given_up(&self) -> Result<(), Error> {
        match &self.given_up {
            Some((_, path)) => Err(Error::Condemned { path: path.clone(), source: None }),
            None => Ok(()),
        }
    }

    /// Whether the next segment says that all that was read of this one is durable: it was, before that one began.
    pub(super) fn is_followed(&mut self) -> Result<bool, Error> {
        self.check_given_up()?;
        if let Some((_, Some(bound))) = self.successor()? {
            self.durable = self.durable.max(bound.said.map_or(0, |said| said.end));
            if bound.gave_up_from().is_some_and(|end| self.next > end) {
                return Err(Error::Condemned { path: self.path(), source: None });
            }
        }
        Ok(self.durable >= self.next)
    }
}
