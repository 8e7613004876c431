//! Waiting for the disk: whoever is told that its bytes are durable may acknowledge them, and processes that wait at
//! the same time share one sync (promise 7).
//!
//! A shard has one more lock slot for it. Whoever gets `leader` syncs for all that has been written by then and leaves a
//! note in the lock table; the others wait for a note, and most of them have nothing left to do then. Nobody is made to
//! wait for ever: a leader may be stopped, and who has waited long enough syncs beside it. The slot is never waited for,
//! and nobody holds it while it waits for the append lock.
//!
//! # When another's sync counts
//!
//! The kernel tells of a failed write to every descriptor that was open when it failed, once, and to none that was
//! opened later. A process that syncs can therefore speak only for bytes that were written while it had the file open:
//! its note says `from..through`, the file's length when it was opened and the end of the whole frames when the sync
//! began. A process whose bytes are not all in there syncs for itself. A sync that fails is marked before the slot is
//! given back, so that no later one is believed (promise 8). A note is left behind the slot, and one that overtakes a
//! later one only tells less.
//!
//! A note holds for one file under one boot: what a copy of the directory brings along says nothing.

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::error::{Doing, Error};
use super::frame::SyncNote;
use super::segment::{At, Segment, Walk};
use crate::sys::{Disk, Locks};

/// A wait for the disk that can be done on another thread, outside the append lock.
#[derive(Clone)]
pub struct SyncTicket {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) locks: Arc<dyn Locks>,
    pub(super) segment: Arc<Segment>,
    pub(super) boot: u64,
    /// The index below which everything is durable once the wait has succeeded.
    pub(super) through: u64,
    /// The bytes of the segment that the wait is for. All before them is known to be durable.
    pub(super) bytes: Range<u64>,
}

/// Who waits for another's sync for so long does not trust in it any more: its process may be stopped. Syncing beside it
/// is never wrong, only dear.
const PATIENCE: Duration = Duration::from_secs(1);

/// A leader that was killed leaves no note: so soon the others look whether there is one.
const AGAIN: Duration = Duration::from_millis(20);

/// Who syncs for all. A region of its own, behind those of the other slots.
pub(crate) fn leader_slot(shard: u32) -> u64 {
    (2 << 33) + u64::from(shard)
}

/// Turns of syncs are counted so that one note can be told from the next.
fn next_turn(note: Option<SyncNote>) -> u64 {
    note.map_or(0, |note| note.turn.wrapping_add(1))
}

impl SyncTicket {
    /// Waits until all that the ticket stands for is on the disk.
    ///
    /// An error is final: what was not acknowledged before it may never be. The writer must be told
    /// ([`Writer::condemn`](super::Writer::condemn)).
    pub fn wait(&self) -> Result<(), Error> {
        let Some(file) = self.segment.key else { return self.sync() };
        let slot = leader_slot(self.segment.header.log.shard);
        let doing = |result: std::io::Result<()>| result.doing("lock", &self.segment.path);
        let begun = Instant::now();
        loop {
            let note = self.note(file);
            if self.is_covered(note) {
                return self.check_mark();
            }
            if self.locks.try_lock(slot, true).doing("lock", &self.segment.path)? {
                let noted = self.lead(file);
                doing(self.locks.unlock(slot))?;
                // Behind the slot: of those whom it wakes one wants the slot at once. Without it they come by the clock.
                let bytes = noted?.encode(&self.segment.identity);
                let _ = self.locks.write_note(self.segment.header.log.shard, &bytes);
                return Ok(());
            }
            if self.segment.lost_patience(next_turn(note), begun.elapsed() > PATIENCE) {
                return self.sync();
            }
            self.locks.wait_for_note(AGAIN).doing("wait at", &self.segment.path)?;
        }
    }

    /// Whether others have waited for all of it already.
    pub(super) fn is_done(&self) -> bool {
        let note = self.segment.key.and_then(|file| self.note(file));
        self.is_covered(note) && self.check_mark().is_ok()
    }

    /// Syncs for all who wait, and tells what to note.
    fn lead(&self, file: u64) -> Result<SyncNote, Error> {
        let before = self.note(file);
        if let Some(note) = before.filter(|_| self.is_covered(before)) {
            // Noted again, for those who have found the slot taken.
            return self.check_mark().map(|()| note);
        }
        // Those who were woken together with this process are about to write.
        thread::yield_now();
        let through = self.whole_frames();
        self.sync()?;
        let turn = next_turn(before);
        Ok(SyncNote { file, boot: self.boot, from: self.segment.opened_bytes, through, turn })
    }

    /// Where the whole frames end that are there now. A half frame does not count: if its write fails it is cut off, and
    /// other bytes come in its place. A whole one stays where it has been seen (see `Writer::write`).
    fn whole_frames(&self) -> u64 {
        let mut end = self.bytes.end;
        let Ok(len) = self.segment.len() else { return end };
        let mut walk = Walk::new(&self.segment, len);
        while let Ok(At::Frame(header, _)) = walk.at(end) {
            end += header.frame_bytes();
        }
        end
    }

    fn sync(&self) -> Result<(), Error> {
        self.segment.sync(&*self.disk)
    }

    fn note(&self, file: u64) -> Option<SyncNote> {
        let bytes = self.locks.read_note(self.segment.header.log.shard).ok()?;
        SyncNote::decode(&bytes, &self.segment.identity)
            .filter(|note| note.file == file && note.boot == self.boot)
    }

    fn is_covered(&self, note: Option<SyncNote>) -> bool {
        note.is_some_and(|note| note.from <= self.bytes.start && self.bytes.end <= note.through)
    }

    fn check_mark(&self) -> Result<(), Error> {
        if self.segment.is_condemned(&*self.disk) {
            return Err(Error::Condemned { path: self.segment.path.clone(), source: None });
        }
        Ok(())
    }
}
