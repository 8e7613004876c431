//! What is done after a failed sync (promise 8): no process acknowledges from that segment again.

use super::super::error::{Doing, Error};
use super::super::frame::{Fate, Kind};
use super::super::recover::{Ending, Tail, whole};
use super::super::sync::SyncTicket;
use super::Writer;

impl Writer {
    /// Takes a segment out of use after a sync of it failed, for every process. Returns the error to report.
    pub fn condemn(&mut self, ticket: &SyncTicket, failure: Error) -> Error {
        let base = ticket.segment.header.base;
        let outcome = self.locked(|writer| {
            // Here or on the way another process may have been faster.
            match writer.catch_up() {
                Ok(()) if writer.segment.header.base == base => writer.go_on_after_condemned(),
                other => other,
            }
        });
        match outcome {
            Ok(()) | Err(Error::Condemned { .. } | Error::Closed(_)) => failure,
            Err(error) => error,
        }
    }

    /// Takes the segment out of use. The append lock is held. Returns the error to report.
    pub(super) fn condemn_locked(&mut self, failure: Error) -> Error {
        match self.go_on_after_condemned() {
            // That records of this process were given up is what `failure` says already.
            Ok(()) | Err(Error::Condemned { .. }) => failure,
            Err(error) => error,
        }
    }

    /// Condemns the segment, if that is not yet done, and goes on behind what the device gives back whole of it.
    pub(super) fn go_on_after_condemned(&mut self) -> Result<(), Error> {
        // The mark stops acknowledgements, the frame makes every other writer look: one that does not would go on
        // here. Without both the log must not go on. Where the length differs from what this process knows it differs
        // for all others too, and what lies there is not overwritten.
        let news = self.segment.len()? != self.tail.offset || self.tail.last == Some(Kind::Condemned);
        let noted = if news { Ok(()) } else { self.write_control(Kind::Condemned, &[]) };
        let mark = self.segment.mark();
        let disk = &self.log.system.disk;
        disk.open_writable(&mark)
            .or_else(|_| disk.create(&mark))
            .and_then(|file| file.sync_data())
            .and_then(|()| disk.sync_dir(&self.log.dir))
            .doing("mark the failed segment, so the shard stops at", &self.segment.path)?;
        noted?;
        // What is still dirty is written or given up now, and what was given up is forgotten: the rest is what the
        // device has. Whether this sync succeeds says nothing.
        let _ = self.segment.file.sync_data();
        self.segment.file.forget_cache().doing("read back", &self.segment.path)?;
        let mut tail = Tail::start(&self.segment.header);
        let ending = tail.follow(&self.segment, self.segment.len()?, |_, _| {})?;
        // What was acknowledged from here is in `durable` of the frames or of this process.
        tail.durable = tail.durable.max(self.tail.durable).min(tail.next);
        let whole = whole(&self.log, &self.segment, &tail)?;
        match ending {
            Ending::Closed(end) if whole.offset == tail.offset => Err(Error::Closed(end)),
            _ => self.begin_at_ceiling(&whole, Fate::Condemned),
        }
    }
}
