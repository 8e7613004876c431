//! Cursors merged: all shards of a stream, parents before children.

use std::collections::{BTreeMap, BTreeSet};

use super::Stream;
use super::cursor::{Place, ShardCursor, Step};
use super::error::{Error, InShard};
use super::manifest::ShardInfo;
use super::span::{Start, Until, check_sequence};
use crate::log::{self, Damage, EndOfShard, FrameRef, Missed};
use crate::record::{INDEX_MAX, ShardId};
use crate::sys;

/// In which order shards are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// One shard after the other, as far as each goes.
    #[default]
    Shard,
    /// One shard after the other, each for a while: so that a shard that is written all the time does not keep the
    /// others waiting.
    Turns,
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

/// So many cursors may hold read buffers, of 256 KiB where frames have their usual size. The one that was read least
/// lately gives its own back.
const BUFFERS_MAX: usize = 32;
/// A cursor that has read a frame above this size gives its buffers back when another is read.
const FRAME_BYTES_KEPT: u32 = 512 << 10;
/// So many cursors may hold a file open, where the process may have twice as many.
const FILES_MAX: usize = 4096;
/// In [`Order::Turns`] a shard that has more gives way after so many frames.
const TURN_FRAMES: u32 = 64;

struct Active {
    info: ShardInfo,
    cursor: ShardCursor,
    /// At the tail when last looked at.
    idle: bool,
    /// Not to be read for now.
    held: bool,
    /// It ends before the end that the manifest tells of, and that has been said: there is nothing more to find.
    cut: bool,
    /// When its next frame arrived, as long as that is known: a parked cursor need not be woken to be compared.
    arrival: Option<i64>,
    /// When it was last read, in steps of the reader.
    used: u64,
    has_buffers: bool,
    has_large_buffers: bool,
    has_file: bool,
}

/// Which shards come into being for a reader.
enum Lineage {
    /// All.
    All,
    /// These and what goes on from them.
    From(BTreeSet<ShardId>),
    /// None but those that are given to it.
    Given,
}

/// Reads a stream.
pub struct StreamReader {
    stream: Stream,
    active: Vec<Active>,
    /// Shards that have been read to their end, or whose records all come before the start.
    done: BTreeSet<ShardId>,
    /// Shards that were left where the read ends and before they do: what goes on from them is not read.
    stopped: BTreeSet<ShardId>,
    /// Shards that wait for their parents, and where they begin.
    waiting: BTreeMap<ShardId, Place>,
    /// Shards that have ended while the manifest did not yet say who goes on.
    unresolved: BTreeSet<ShardId>,
    lineage: Lineage,
    order: Order,
    until: Until,
    at: usize,
    steps: u64,
    /// Frames that the cursor `at` has brought in its turn.
    turn: u32,
    /// So many cursors hold a file open.
    files_max: usize,
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
        for sequence in [start.sequence(), until.sequence()].into_iter().flatten() {
            check_sequence(&stream, sequence)?;
        }
        let mut reader = Self::empty(stream, until, order);
        let infos = reader.stream.manifest().shards.clone();
        if let Some(shard) = only {
            let info = infos.iter().find(|s| s.id() == shard).ok_or(Error::NoShard(shard))?.clone();
            let place = match start {
                Start::At(sequence) | Start::After(sequence) if sequence.shard != shard => {
                    return Err(Error::Invalid(format!(
                        "sequence number {sequence} is of {}",
                        sequence.shard
                    )));
                }
                start => start.place(horizon),
            };
            reader.activate(&info, place)?;
            return Ok(reader);
        }
        reader.lineage = Lineage::All;
        match start {
            Start::At(sequence) | Start::After(sequence) => {
                let root = sequence.shard;
                reader.lineage = Lineage::From(BTreeSet::from([root]));
                reader.waiting.insert(root, start.place(horizon));
                // What goes on from it may be there already.
                return reader.adopt().map(|()| reader);
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
                    reader.waiting.insert(info.id(), start.place(horizon));
                }
            }
        }
        reader.activate_ready(None)?;
        Ok(reader)
    }

    /// A reader that begins with no shard and takes up none of itself; see [`StreamReader::add`]. Where it ends is
    /// [checked](StreamReader::check_until) by whoever makes it.
    pub fn empty(stream: Stream, until: Until, order: Order) -> Self {
        Self {
            stream,
            active: Vec::new(),
            done: BTreeSet::new(),
            stopped: BTreeSet::new(),
            waiting: BTreeMap::new(),
            unresolved: BTreeSet::new(),
            lineage: Lineage::Given,
            order,
            until,
            at: 0,
            steps: 0,
            turn: 0,
            files_max: (sys::process::open_files_max() / 2).clamp(8, FILES_MAX),
        }
    }

    /// Refuses an end that this stream does not have.
    pub fn check_until(stream: &Stream, until: Until) -> Result<(), Error> {
        until.sequence().map_or(Ok(()), |sequence| check_sequence(stream, sequence))
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
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.active.iter().map(|active| active.info.id())
    }

    /// Changes where the read ends, for shards that have not been left there.
    pub fn set_until(&mut self, until: Until) {
        self.until = until;
    }

    /// Whether a shard was left where the read ends.
    pub fn has_stopped(&self) -> bool {
        !self.stopped.is_empty()
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.active.len()
    }

    /// The cursor of a shard that is being read.
    pub fn cursor(&mut self, shard: ShardId) -> Option<&mut ShardCursor> {
        self.active.iter_mut().find(|active| active.info.id() == shard).map(|active| &mut active.cursor)
    }

    /// Begins to read a shard, whatever its parents: for a consumer that knows its lineage.
    pub fn add(&mut self, shard: &ShardInfo, place: Place) -> Result<(), Error> {
        self.activate(shard, place)
    }

    /// Leaves a shard aside for a while, or takes it up again.
    pub fn hold(&mut self, shard: ShardId, held: bool) {
        if let Some(active) = self.active.iter_mut().find(|active| active.info.id() == shard) {
            active.held = held;
        }
    }

    /// Stops reading a shard.
    pub fn remove(&mut self, shard: ShardId) {
        if let Some(i) = self.active.iter().position(|active| active.info.id() == shard) {
            self.drop_active(i);
        }
    }

    /// Leaves a shard where the read ends. What was read of it may be about to be noted down, and nobody can ask for it
    /// any more.
    fn stop(&mut self, i: usize) -> Result<(), Error> {
        let active = &mut self.active[i];
        let shard = active.info.id();
        active.cursor.make_durable()?;
        self.stopped.insert(shard);
        self.drop_active(i);
        Ok(())
    }

    fn drop_active(&mut self, i: usize) {
        self.active.remove(i);
        // The one that was read stays the one that is read.
        if self.at > i {
            self.at -= 1;
        }
        self.turn = 0;
    }

    fn activate(&mut self, info: &ShardInfo, place: Place) -> Result<(), Error> {
        // Where the end is must be known now; every other place stays where it is.
        let cursor = match place {
            Place::End => ShardCursor::open(&self.stream, info, place)?,
            place => ShardCursor::lazy(&self.stream, info, place),
        };
        self.steps += 1;
        self.active.push(Active {
            info: info.clone(),
            cursor,
            idle: false,
            held: false,
            cut: false,
            arrival: None,
            used: self.steps,
            has_buffers: true,
            has_large_buffers: false,
            has_file: true,
        });
        self.keep_within_limits()
    }

    /// Takes buffers and files from the cursors that were read least lately.
    fn keep_within_limits(&mut self) -> Result<(), Error> {
        let least = |active: &mut [Active], held: fn(&Active) -> bool, max: usize| {
            let over = active.iter().filter(|a| held(a)).count() > max;
            over.then(|| active.iter().enumerate().filter(|(_, a)| held(a)).min_by_key(|(_, a)| a.used))
                .flatten()
                .map(|(i, _)| i)
        };
        let files_max = self.files_max;
        if self.active.len() <= BUFFERS_MAX.min(files_max) {
            return Ok(());
        }
        while let Some(i) = least(&mut self.active, |a| a.has_buffers, BUFFERS_MAX) {
            let active = &mut self.active[i];
            if matches!(self.order, Order::Arrival) && active.arrival.is_none() && !active.idle {
                active.arrival = arrival(&self.stream, active)?;
            }
            active.cursor.release();
            active.has_buffers = false;
        }
        while let Some(i) = least(&mut self.active, |a| a.has_file, files_max) {
            let active = &mut self.active[i];
            active.cursor.park();
            (active.has_buffers, active.has_file) = (false, false);
        }
        Ok(())
    }

    /// Begins to read the waiting shards (of `only` these, where the others wait as before) whose parents are done or
    /// have expired.
    fn activate_ready(&mut self, only: Option<&[ShardId]>) -> Result<(), Error> {
        let manifest = self.stream.manifest();
        let mut ready = Vec::new();
        let mut before: BTreeSet<ShardId> = self.active.iter().map(|active| active.info.id()).collect();
        before.extend(self.stopped.iter().chain(self.waiting.keys()));
        let waiting: Vec<(ShardId, Place)> = match only {
            Some(only) => only.iter().filter_map(|id| Some((*id, *self.waiting.get(id)?))).collect(),
            None => self.waiting.iter().map(|(&shard, &place)| (shard, place)).collect(),
        };
        for (shard, place) in waiting {
            let Some(info) = manifest.shard(shard) else {
                // Expired meanwhile.
                ready.push((shard, None, place));
                continue;
            };
            if !info.parents.iter().any(|&parent| before.contains(&ShardId(parent))) {
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

    /// Looks again at one shard that was at its tail.
    pub fn refresh_shard(&mut self, shard: ShardId) {
        if let Some(active) = self.active.iter_mut().find(|active| active.info.id() == shard) {
            active.idle = false;
        }
    }

    /// Looks again at shards that were at their tails. For a reader that follows, after a wake-up.
    pub fn refresh(&mut self) -> Result<(), Error> {
        for active in &mut self.active {
            active.idle = false;
        }
        // It may be another stream's by now, or nobody's.
        self.reload()
    }

    /// Looks at shards that were at their tails where that costs least: those whose file has another length than it had
    /// then. A segment that begins while the one before it stays as it is, which is what a crash leaves, is left to
    /// [`StreamReader::refresh`], and so are files that are not held open.
    pub fn glance(&mut self) -> Result<(), Error> {
        for active in self.active.iter_mut().filter(|active| active.idle) {
            active.idle = !active.cursor.has_changed();
        }
        if self.unresolved.is_empty() { Ok(()) } else { self.reload() }
    }

    /// Looks for shards that have come into being. They do so only where a shard ends, which [`StreamReader::poll`]
    /// meets by itself; this is for the time between that end and the word of the manifest.
    pub fn reload(&mut self) -> Result<(), Error> {
        self.stream.reload()?;
        self.adopt()
    }

    fn adopt(&mut self) -> Result<(), Error> {
        let stream = &self.stream;
        // Open in the manifest: who goes on is not known yet.
        self.unresolved.retain(|&shard| stream.manifest().shard(shard).is_some_and(ShardInfo::is_open));
        let mut known: BTreeSet<ShardId> = self.active.iter().map(|active| active.info.id()).collect();
        known.extend(self.done.iter().chain(&self.stopped).chain(self.waiting.keys()));
        // In the order of their numbers, so that a grandchild finds its parent known.
        for info in &stream.manifest().shards {
            let id = info.id();
            if known.contains(&id) {
                continue;
            }
            // A new shard is a child; it is read from its start, whatever the read began with, or there would be a
            // gap. Where only one lineage is read, it must belong to it.
            match &mut self.lineage {
                Lineage::All => {}
                Lineage::From(known) => {
                    if !info.parents.iter().any(|&parent| known.contains(&ShardId(parent))) {
                        continue;
                    }
                    known.insert(id);
                }
                Lineage::Given => continue,
            }
            self.waiting.insert(id, Place::Start);
        }
        self.activate_ready(None)
    }

    /// Takes one step: hands the next frame to `visit`, or says what happened instead.
    pub fn poll<R>(&mut self, visit: &mut dyn FnMut(&Delivery<'_>) -> R) -> Result<Polled<R>, Error> {
        loop {
            let Some(i) = self.choose()? else {
                // What waits while nothing is read waits for a shard that was stopped.
                let over = self.active.is_empty()
                    && (self.waiting.is_empty() || !self.stopped.is_empty())
                    && self.unresolved.is_empty();
                return Ok(if over { Polled::End } else { Polled::Tail });
            };
            let Active { info, cursor, cut, .. } = &self.active[i];
            // Its cursor stands behind the whole of a frame of which a part was asked for: no further step of it is
            // anybody's, be it damage or the end of the shard.
            if self.until.index(info.id()).is_some_and(|end| cursor.next_index() >= end) {
                self.stop(i)?;
                continue;
            }
            if *cut {
                return self.end_shard(i, None);
            }
            self.turn = if self.at == i { self.turn + 1 } else { 0 };
            if let Some(last) =
                self.active.get_mut(self.at).filter(|last| self.at != i && last.has_large_buffers)
            {
                last.cursor.release();
                (last.has_buffers, last.has_large_buffers) = (false, false);
            }
            self.at = i;
            self.steps += 1;
            let until = self.until;
            let active = &mut self.active[i];
            active.used = self.steps;
            active.arrival = None;
            let fresh = !active.has_buffers;
            (active.has_buffers, active.has_file) = (true, true);
            let shard = active.info.id();
            let shard_created_s = active.info.created_s();
            let mut is_large = false;
            let step = active.cursor.step(&mut |frame, skip| {
                is_large = frame.header.body_bytes.max(frame.header.stored_bytes) > FRAME_BYTES_KEPT;
                let take = until.take(shard, frame);
                (take > skip).then(|| visit(&Delivery { shard, shard_created_s, frame, skip, take }))
            });
            let step = match step {
                Err(error) => match self.forgotten(i, error)? {
                    Some(missed) => return Ok(Polled::Missed(shard, missed)),
                    None => continue,
                },
                Ok(step) => step,
            };
            let active = &mut self.active[i];
            active.has_large_buffers |= is_large;
            if fresh {
                self.keep_within_limits()?;
            }
            match step {
                Step::Frame(Some(value)) => return Ok(Polled::Frame(shard, value)),
                // Beyond the end of what was asked for.
                Step::Frame(None) => self.stop(i)?,
                Step::Tail => match self.missing_end(i) {
                    None => self.active[i].idle = true,
                    Some(damage) => {
                        self.active[i].cut = true;
                        if damage.next > damage.first {
                            return Ok(Polled::Damage(shard, damage));
                        }
                    }
                },
                Step::Damage(damage) => return Ok(Polled::Damage(shard, damage)),
                Step::Missed(missed) => return Ok(Polled::Missed(shard, missed)),
                Step::End(end) => return self.end_shard(i, Some(&end)),
            }
        }
    }

    /// A shard has been read to its end, or to where its log ends before that (`None`).
    fn end_shard<R>(&mut self, i: usize, end: Option<&EndOfShard>) -> Result<Polled<R>, Error> {
        let active = &mut self.active[i];
        let shard = active.info.id();
        // Whoever notes its end down cannot ask for it any more.
        active.cursor.make_durable()?;
        self.make_end_durable(i)?;
        self.drop_active(i);
        self.done.insert(shard);
        let manifest = self.stream.manifest();
        let known =
            |end: &&EndOfShard| end.children.iter().all(|child| manifest.shard(child.shard).is_some());
        if let Some(end) = end.filter(known) {
            // With thousands of shards that have ended, to look at the manifest at each end would take far longer than
            // to read them.
            let children: Vec<ShardId> = end.children.iter().map(|child| child.shard).collect();
            self.activate_ready(Some(&children))?;
        } else {
            if !matches!(self.lineage, Lineage::Given) {
                self.unresolved.insert(shard);
            }
            self.reload()?;
        }
        Ok(Polled::ShardEnd(shard))
    }

    /// Makes the end of a shard durable, of which its own frame cannot say that it is: if it were given up the shard
    /// would go on. Where the manifest says that the shard is closed it was durable before.
    fn make_end_durable(&self, i: usize) -> Result<(), Error> {
        let info = &self.active[i].info;
        if !info.is_open() {
            return Ok(());
        }
        let log = self.stream.log_dir(info);
        let lasts = || {
            log::make_durable(&log)?;
            Ok(log::at_rest(&log, info.range())?.end.is_some())
        };
        let given_up = log::Error::Condemned { path: log.dir.clone(), source: None };
        if lasts().in_shard(info.id())? { Ok(()) } else { Err(given_up).in_shard(info.id()) }
    }

    /// What a shard lacks that the manifest has as closed and whose log just goes on: its end frame is on the disk
    /// before the manifest says so, so that it, and what comes before it, has been damaged. `None` where nothing is
    /// known to be missing.
    fn missing_end(&self, i: usize) -> Option<Damage> {
        let Active { info, cursor, .. } = &self.active[i];
        let closed = self.stream.manifest().shard(info.id())?.closed.as_ref()?;
        let (path, offset) = cursor.place();
        let first = cursor.next_index();
        let reason = "the shard is closed, and its log ends before that";
        Some(Damage { path, offset, until: offset, first, next: closed.next_index.max(first), reason })
    }

    /// What a failure of a shard comes to: where the manifest has forgotten the shard, nothing more of it is read, and
    /// what goes on from it is. Tells what is missing of it. A consumer knows its lineage itself, and begins anew.
    fn forgotten(&mut self, i: usize, error: Error) -> Result<Option<Missed>, Error> {
        let Active { info, cursor, .. } = &self.active[i];
        let (shard, from) = (info.id(), cursor.next_index());
        let known = self.stream.manifest().shard(shard).and_then(|info| info.closed.clone());
        self.stream.reload()?;
        if self.stream.manifest().shard(shard).is_some() || matches!(self.lineage, Lineage::Given) {
            return Err(error);
        }
        self.drop_active(i);
        self.done.insert(shard);
        self.adopt()?;
        // Where it was open when it was last seen nobody can tell any more how far it went.
        let to = known.map_or(INDEX_MAX, |closed| closed.next_index);
        Ok((from < to).then_some(Missed { from, to, repaired: false }))
    }

    /// The cursor to read next.
    fn choose(&mut self) -> Result<Option<usize>, Error> {
        let count = self.active.len();
        match self.order {
            Order::Shard | Order::Turns => {
                let over = self.order == Order::Turns && self.turn >= TURN_FRAMES;
                let first = self.at + usize::from(over);
                Ok((0..count)
                    .map(|n| (first + n) % count)
                    .find(|&i| !self.active[i].idle && !self.active[i].held))
            }
            Order::Arrival => {
                let mut best: Option<(i64, usize)> = None;
                for (i, active) in self.active.iter_mut().enumerate() {
                    if active.idle || active.held {
                        continue;
                    }
                    let at = if let Some(at) = active.arrival {
                        at
                    } else {
                        // Something other than records comes first of all: it only changes what is known.
                        let at = arrival(&self.stream, active)?.unwrap_or(i64::MIN);
                        (active.has_buffers, active.has_file) = (true, true);
                        *active.arrival.insert(at)
                    };
                    if best.is_none_or(|(least, _)| at < least) {
                        best = Some((at, i));
                    }
                }
                if count > BUFFERS_MAX {
                    self.keep_within_limits()?;
                }
                Ok(best.map(|(_, i)| i))
            }
        }
    }

    /// Makes all that has been read of a shard durable.
    pub fn make_durable(&mut self, shard: ShardId) -> Result<(), Error> {
        let Some(active) = self.active.iter_mut().find(|active| active.info.id() == shard) else {
            return Ok(());
        };
        if active.cursor.durable() >= active.cursor.next_index() {
            return Ok(());
        }
        active.cursor.make_durable()?;
        // Its file was opened for that, if it was not open.
        (active.has_buffers, active.has_file) = (true, true);
        self.keep_within_limits()
    }
}

/// When the next frame of a cursor arrived, if it is at one. Of a shard that has gone the next step tells.
fn arrival(stream: &Stream, active: &mut Active) -> Result<Option<i64>, Error> {
    match active.cursor.peek_arrival() {
        Err(_) if !stream.system().disk.exists(&stream.log_dir(&active.info).dir) => Ok(None),
        other => other,
    }
}
