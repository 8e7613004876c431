//! One shard's place: where a read begins, and which records of a frame come before it.

use std::path::PathBuf;

use super::error::{Error, InShard};
use super::manifest::ShardInfo;
use super::{Stream, sequence};
use crate::log::{EndOfShard, Found, FrameRef, Reader};
use crate::record::{SequenceNumber, ShardId};

/// Where in a shard to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the first record that is left.
    Start,
    /// Behind the last record that is there now.
    End,
    /// At the first record that arrived at or after this time, microseconds since the epoch.
    Time(i64),
    /// At this index, or the first behind it.
    Index(u64),
}

/// A reader of one shard.
pub struct ShardCursor {
    shard: ShardId,
    created_s: u64,
    reader: Reader,
    /// Records below this index were not asked for, though their frame holds some that were.
    from: u64,
    /// The place to go to before the first look: with a thousand shards most are not looked at for a while, or ever.
    ahead: Option<Place>,
}

/// What one step of a cursor came to.
#[derive(Debug)]
pub enum Step<R> {
    /// A frame of records was handed to the visitor, which made this of it.
    Frame(R),
    /// Nothing yet.
    Tail,
    /// The shard has ended.
    End(EndOfShard),
    /// Damage; the cursor stands behind it.
    Damage(crate::log::Damage),
    /// Retention was faster; the cursor stands at the first record that is left.
    Missed(crate::log::Missed),
}

impl ShardCursor {
    /// A cursor at a place in a shard.
    pub fn open(stream: &Stream, shard: &ShardInfo, place: Place) -> Result<Self, Error> {
        let mut cursor = Self::lazy(stream, shard, place);
        cursor.wake()?;
        Ok(cursor)
    }

    /// The same, but nothing is opened before the first look.
    pub fn lazy(stream: &Stream, shard: &ShardInfo, place: Place) -> Self {
        let from = if let Place::Index(index) = place { index } else { 0 };
        let (shard_id, created_s) = (shard.id(), shard.created_s());
        let reader = Reader::new(stream.log_dir(shard));
        Self { shard: shard_id, created_s, reader, from, ahead: Some(place) }
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The index of the next record.
    pub fn next_index(&self) -> u64 {
        self.reader.next_index().max(self.from)
    }

    /// Whether the file that it stands in has another length than when the tail was found there, if it is held open.
    pub(super) fn has_changed(&self) -> bool {
        self.reader.has_changed()
    }

    /// The segment it stands in, and where in it.
    pub(super) fn place(&self) -> (PathBuf, u64) {
        self.reader.place()
    }

    /// The sequence number of a record of this shard.
    pub fn sequence(&self, index: u64, arrival_us: i64) -> SequenceNumber {
        sequence(self.shard, self.created_s, index, arrival_us)
    }

    /// When the next frame of records arrived, if there is one.
    pub fn peek_arrival(&mut self) -> Result<Option<i64>, Error> {
        self.wake()?;
        self.reader.peek_arrival().in_shard(self.shard)
    }

    /// Takes one step. `visit` gets the frame and how many of its first records come before the cursor's place.
    pub fn step<R>(&mut self, visit: &mut dyn FnMut(&FrameRef<'_>, usize) -> R) -> Result<Step<R>, Error> {
        let from = self.from;
        self.wake()?;
        loop {
            return Ok(match self.reader.read().in_shard(self.shard)? {
                Found::Frame(frame) => {
                    let before = from.saturating_sub(frame.header.first);
                    if before >= u64::from(frame.header.count) {
                        continue;
                    }
                    Step::Frame(visit(&frame, before as usize))
                }
                Found::Tail => Step::Tail,
                Found::End(end) => Step::End(end),
                Found::Damage(damage) => Step::Damage(damage),
                Found::Missed(missed) => Step::Missed(missed),
            });
        }
    }

    /// Makes all that this cursor has read durable.
    pub fn make_durable(&mut self) -> Result<(), Error> {
        if self.reader.durable() >= self.reader.next_index() {
            return Ok(());
        }
        self.reader.make_durable().in_shard(self.shard)
    }

    /// The index below which everything is known to be durable.
    pub fn durable(&self) -> u64 {
        self.reader.durable()
    }

    /// Gives memory back while other cursors are read.
    pub fn release(&mut self) {
        self.reader.release();
    }

    /// Gives memory and the open file back while other cursors are read.
    pub fn park(&mut self) {
        self.reader.park();
    }

    /// Goes to where the read begins, before the first look. (A reader that was parked comes back by itself.)
    fn wake(&mut self) -> Result<(), Error> {
        if let Some(place) = self.ahead {
            let sought = match place {
                Place::Start => self.reader.seek_start(),
                Place::End => self.reader.seek_end(),
                Place::Time(time_us) => self.reader.seek_time(time_us),
                Place::Index(index) => self.reader.seek_index(index),
            };
            sought.in_shard(self.shard)?;
            self.ahead = None;
        }
        Ok(())
    }
}
