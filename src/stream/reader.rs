//! Cursors merged: all shards of a stream, parents before children.

use std::collections::{BTreeMap, BTreeSet};

use super::Stream;
use super::cursor::{Place, ShardCursor, Step};
use super::error::Error;
use super::manifest::ShardInfo;
use crate::log::{Damage, FrameRef, Missed};
use crate::record::{SequenceNumber, ShardId};

/// Where a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that has not expired.
    TrimHorizon,
    /// Behind the newest record.
    Latest,
    /// At the first record that arrived at or after this time, microseconds since the epoch.
    Time(i64),
    /// At this record: its shard, and those that go on from it.
    At(SequenceNumber),
    /// Behind this record: its shard, and those that go on from it.
    After(SequenceNumber),
}

/// Where a read ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Until {
    /// Nowhere: at the end of the data.
    #[default]
    Never,
    /// Before the first record that arrived at or after this time, microseconds since the epoch.
    Time(i64),
    /// With this record (in its shard; other shards are read to the end of the data).
    Sequence(SequenceNumber),
}

/// In which order shards are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// One shard after the other, as far as each goes.
    #[default]
    Shard,
    /// By arrival time over all shards.
    Arrival,
}

/// A frame of records on its way to a consumer.
pub struct Delivery<'a> {
    /// The shard.
    pub shard: ShardId,
    /// When the shard was created, seconds since the epoch (for sequence numbers).
    pub shard_created_s: u64,
    /// The records.
    pub frame: &'a FrameRef<'a>,
    /// How many of the first records of the frame are not to be delivered.
    pub skip: usize,
    /// How many records there are up to where the read ends, those skipped included.
    pub take: usize,
}

/// What a poll came to.
#[derive(Debug)]
pub enum Polled<R> {
    /// A frame was handed to the visitor, which made this of it.
    Frame(ShardId, R),
    /// All shards are at their tails for now.
    Tail,
    /// There is nothing more to come: all shards have been read to where the read ends.
    End,
    /// This shard has ended, and all of it has been delivered.
    ShardEnd(ShardId),
    /// A stretch of a shard is damaged.
    Damage(ShardId, Damage),
    /// Retention was faster than the reader.
    Missed(ShardId, Missed),
}

/// Shards above this number share one buffer and a bounded number of open files: a cursor gives its own back when
/// another is read.
const CURSORS_OPEN_MAX: usize = 16;

struct Active {
    info: ShardInfo,
    cursor: ShardCursor,
    /// At the tail when last looked at.
    idle: bool,
}

/// Reads a stream.
pub struct StreamReader {
    stream: Stream,
    active: Vec<Active>,
    /// Shards that have been read to their end, or whose records all come before the start.
    done: BTreeSet<ShardId>,
    /// Shards that wait for their parents, and where they begin.
    waiting: BTreeMap<ShardId, Place>,
    /// Shards that shall be read: `None` for all.
    only: Option<BTreeSet<ShardId>>,
    order: Order,
    until: Until,
    at: usize,
}

impl StreamReader {
    /// A reader of all shards, or of `only` one and no descendants of it.
    pub fn open(
        stream: Stream,
        start: Start,
        until: Until,
        order: Order,
        only: Option<ShardId>,
    ) -> Result<Self, Error> {
        let now = stream.system().clock.now_us();
        let horizon = stream.manifest().horizon_us(now);
        let mut reader = Self::empty(stream, until, order);
        let infos = reader.stream.manifest().shards.clone();
        if let Some(shard) = only {
            let info = infos.iter().find(|s| s.id() == shard).ok_or(Error::NoShard(shard))?.clone();
            reader.only = Some(BTreeSet::from([shard]));
            let place = match start {
                Start::At(sequence) | Start::After(sequence) if sequence.shard != shard => {
                    return Err(Error::Invalid(format!(
                        "sequence number {sequence} is of {}",
                        sequence.shard
                    )));
                }
                start => place_of(start, horizon),
            };
            reader.activate(&info, place)?;
            return Ok(reader);
        }
        match start {
            Start::At(sequence) | Start::After(sequence) => {
                let root = sequence.shard;
                if !infos.iter().any(|info| info.id() == root) {
                    return Err(Error::NoShard(root));
                }
                reader.only = Some(BTreeSet::from([root]));
                reader.waiting.insert(root, place_of(start, horizon));
            }
            Start::Latest => {
                for info in &infos {
                    if info.is_open() {
                        reader.waiting.insert(info.id(), Place::End);
                    } else {
                        reader.done.insert(info.id());
                    }
                }
            }
            Start::TrimHorizon | Start::Time(_) => {
                for info in &infos {
                    reader.waiting.insert(info.id(), place_of(start, horizon));
                }
            }
        }
        reader.activate_ready()?;
        Ok(reader)
    }

    /// A reader that begins with no shard; see [`StreamReader::add`].
    pub fn empty(stream: Stream, until: Until, order: Order) -> Self {
        Self {
            stream,
            active: Vec::new(),
            done: BTreeSet::new(),
            waiting: BTreeMap::new(),
            only: Some(BTreeSet::new()),
            order,
            until,
            at: 0,
        }
        .reading_all()
    }

    fn reading_all(mut self) -> Self {
        self.only = None;
        self
    }

    /// The stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The stream, for a reload.
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// The shards that are being read.
    pub fn shards(&self) -> Vec<ShardId> {
        self.active.iter().map(|active| active.info.id()).collect()
    }

    /// The cursor of a shard that is being read.
    pub fn cursor(&mut self, shard: ShardId) -> Option<&mut ShardCursor> {
        self.active.iter_mut().find(|active| active.info.id() == shard).map(|active| &mut active.cursor)
    }

    /// Begins to read a shard, whatever its parents: for a consumer that knows its lineage.
    pub fn add(&mut self, shard: &ShardInfo, place: Place) -> Result<(), Error> {
        self.activate(shard, place)
    }

    /// Stops reading a shard.
    pub fn remove(&mut self, shard: ShardId) {
        self.active.retain(|active| active.info.id() != shard);
    }

    fn activate(&mut self, info: &ShardInfo, place: Place) -> Result<(), Error> {
        let cursor = ShardCursor::open(&self.stream, info, place)?;
        self.active.push(Active { info: info.clone(), cursor, idle: false });
        Ok(())
    }

    /// Begins to read the waiting shards whose parents are done or have expired.
    fn activate_ready(&mut self) -> Result<(), Error> {
        let manifest = self.stream.manifest().clone();
        let mut ready = Vec::new();
        for (&shard, &place) in &self.waiting {
            let Some(info) = manifest.shard(shard) else {
                // Expired meanwhile.
                ready.push((shard, None, place));
                continue;
            };
            let waits = info.parents.iter().map(|&parent| ShardId(parent)).any(|parent| {
                self.waiting.contains_key(&parent)
                    || self.active.iter().any(|active| active.info.id() == parent)
            });
            if !waits {
                ready.push((shard, Some(info.clone()), place));
            }
        }
        for (shard, info, place) in ready {
            self.waiting.remove(&shard);
            match info {
                Some(info) => self.activate(&info, place)?,
                None => {
                    self.done.insert(shard);
                }
            }
        }
        Ok(())
    }

    /// Looks for shards that have come into being, and for those whose turn has come. For a reader that follows, after
    /// a wake-up.
    pub fn refresh(&mut self) -> Result<(), Error> {
        for active in &mut self.active {
            active.idle = false;
        }
        if self.stream.reload()? {
            self.adopt()?;
        }
        Ok(())
    }

    fn adopt(&mut self) -> Result<(), Error> {
        for info in self.stream.manifest().shards.clone() {
            let id = info.id();
            let known = self.done.contains(&id)
                || self.waiting.contains_key(&id)
                || self.active.iter().any(|active| active.info.id() == id);
            // A new shard is a child; it is read from its start, whatever the read began with, or there would be a
            // gap. Where only one lineage is read, it must belong to it.
            let ours = match &self.only {
                None => true,
                Some(only) => info.parents.iter().any(|&parent| only.contains(&ShardId(parent))),
            };
            if !known && ours {
                if let Some(only) = &mut self.only {
                    only.insert(id);
                }
                self.waiting.insert(id, Place::Start);
            }
        }
        self.activate_ready()
    }

    /// Takes one step: hands the next frame to `visit`, or says what happened instead.
    pub fn poll<R>(&mut self, visit: &mut dyn FnMut(&Delivery<'_>) -> R) -> Result<Polled<R>, Error> {
        loop {
            let Some(i) = self.choose()? else {
                let over = self.active.is_empty() && self.waiting.is_empty();
                return Ok(if over { Polled::End } else { Polled::Tail });
            };
            let many = self.active.len() > CURSORS_OPEN_MAX;
            if many && self.at != i {
                if let Some(last) = self.active.get_mut(self.at) {
                    last.cursor.park();
                }
            }
            self.at = i;
            let until = self.until;
            let active = &mut self.active[i];
            let shard = active.info.id();
            let shard_created_s = active.info.created_s();
            let step = active.cursor.step(&mut |frame, skip| {
                let take = take_until(until, shard, frame);
                (take > skip).then(|| visit(&Delivery { shard, shard_created_s, frame, skip, take }))
            })?;
            match step {
                Step::Frame(Some(value)) => return Ok(Polled::Frame(shard, value)),
                Step::Frame(None) => {
                    // Beyond the end of what was asked for.
                    self.active.remove(i);
                    self.done.insert(shard);
                }
                Step::Tail => active.idle = true,
                Step::Damage(damage) => return Ok(Polled::Damage(shard, damage)),
                Step::Missed(missed) => return Ok(Polled::Missed(shard, missed)),
                Step::End(_) => {
                    self.active.remove(i);
                    self.done.insert(shard);
                    self.stream.reload()?;
                    self.adopt()?;
                    return Ok(Polled::ShardEnd(shard));
                }
            }
        }
    }

    /// The cursor to read next.
    fn choose(&mut self) -> Result<Option<usize>, Error> {
        match self.order {
            Order::Shard => {
                let count = self.active.len();
                Ok((0..count).map(|n| (self.at + n) % count).find(|&i| !self.active[i].idle))
            }
            Order::Arrival => {
                let mut best: Option<(i64, usize)> = None;
                for (i, active) in self.active.iter_mut().enumerate() {
                    if active.idle {
                        continue;
                    }
                    // Something other than records comes first of all: it only changes what is known.
                    let at = active.cursor.peek_arrival()?.unwrap_or(i64::MIN);
                    if best.is_none_or(|(least, _)| at < least) {
                        best = Some((at, i));
                    }
                }
                Ok(best.map(|(_, i)| i))
            }
        }
    }

    /// Makes all that has been read of a shard durable.
    pub fn make_durable(&mut self, shard: ShardId) -> Result<(), Error> {
        self.cursor(shard).map_or(Ok(()), ShardCursor::make_durable)
    }
}

fn place_of(start: Start, horizon_us: Option<i64>) -> Place {
    match start {
        Start::TrimHorizon => horizon_us.map_or(Place::Start, Place::Time),
        Start::Latest => Place::End,
        Start::Time(time_us) => Place::Time(horizon_us.map_or(time_us, |horizon| horizon.max(time_us))),
        Start::At(sequence) => Place::Index(sequence.index),
        Start::After(sequence) => Place::Index(sequence.index + 1),
    }
}

/// How many records of a frame come before the end of the read.
fn take_until(until: Until, shard: ShardId, frame: &FrameRef<'_>) -> usize {
    let count = frame.header.count as usize;
    match until {
        Until::Time(time_us) if frame.header.arrival_us >= time_us => 0,
        Until::Sequence(last) if last.shard == shard => {
            (last.index + 1).saturating_sub(frame.header.first).min(count as u64) as usize
        }
        Until::Never | Until::Time(_) | Until::Sequence(_) => count,
    }
}
