//! Producing: records to their shards, in order, acknowledged when they are on the disk.
//!
//! A [`Producer`] gathers records per shard, writes each gathering as one frame, and lets one thread wait for the disk
//! while the next records are gathered. What it acknowledges is durable. When a shard turns out to be closed, the
//! records that were meant for it go to its children, in their order.
//!
//! A *named* producer ([`Producer::open`] with a name) writes with each frame where its source stood (promise 10 of
//! the log), so that a later run of the same name can tell what is stored already: see [`resume`].

mod acks;
pub mod limits;
pub mod resume;
mod sync;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use acks::Ack;
use acks::Acks;
use limits::Limits;
use resume::{Named, Resume};
use sync::Syncer;

use super::error::{Error, InShard};
use super::{Router, Stream};
use crate::hash::{HashKey, HashRange};
use crate::log::{self, Batch, Codec, Draft, Fresh, SyncTicket, Writer};
use crate::record::{Records, ShardId};
use crate::sys::Locks;

/// When a producer makes what it has written durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Never: what was written is lost if the machine stops before the kernel has written it out.
    None,
    /// Once, at the end.
    End,
    /// Each record by itself, before the next is taken.
    Every,
    /// When this much has been written or this much time has passed, whichever is first, and at the end.
    Group {
        /// Bytes.
        bytes: u64,
        /// Microseconds.
        interval_us: i64,
    },
}

/// Eight megabytes take this kind of disk a few milliseconds, so that most of the time is spent writing and not in
/// waiting for the flush; 50 ms is what a person does not notice.
pub const GROUP_DEFAULT: Sync = Sync::Group { bytes: 8 << 20, interval_us: 50_000 };

/// The byte that stands behind each stored payload, so that lines leave as they came.
const JOINT: u8 = b'\n';

/// A gathering is written when it has this many bytes: large enough that the lock and the system calls cost nothing.
const BATCH_BYTES: usize = 256 << 10;

/// All gatherings together stay within the processor's second-level cache, so that what is copied into them is still
/// there when it is summed and written; but none is smaller than [`BATCH_LEAST_BYTES`] for it.
const BATCHES_CACHED_BYTES: usize = 1 << 20;

/// Below this the lock and the system calls begin to count.
const BATCH_LEAST_BYTES: usize = 64 << 10;

/// All gatherings together; with many shards each gets less.
const GATHERED_BYTES_MAX: usize = 24 << 20;

/// Shards whose logs are open at the same time; beyond it the one that has waited longest is left in order.
const OPEN_WRITERS_MAX: usize = 200;

/// A record without a key goes with its neighbours to one shard, in pieces of at least this many bytes where there is
/// that much; small inputs are spread record by record.
const PIECE_BYTES: usize = 16 << 10;

struct Slot {
    shard: ShardId,
    range: HashRange,
    writer: Option<Writer>,
    batch: Batch,
    /// Which record each one in the batch is, where somebody wants to know: for acknowledgements and named producers.
    which: Vec<Which>,
    /// Written since the last sync was begun.
    dirty: bool,
    /// When it was last written to, in flushes.
    used: u64,
}

/// Which record it is.
#[derive(Debug, Clone, Copy)]
struct Which {
    /// Its ordinal in the source.
    ordinal: u64,
    /// Its place among the acknowledgements.
    place: u64,
}

/// Writes records to a stream.
pub struct Producer {
    stream: Stream,
    locks: Arc<dyn Locks>,
    router: Router,
    slots: Vec<Slot>,
    codec: Codec,
    sync: Sync,
    syncer: Syncer,
    named: Option<Named>,
    acks: Option<Acks>,
    limits: Option<Limits>,
    batch_bytes: usize,
    /// Records taken so far, in the order of the source.
    ordinal: u64,
    unsynced_bytes: u64,
    oldest_unsynced_us: Option<i64>,
    next_unkeyed: usize,
    flushes: u64,
    written: Written,
    // Memory that is used again.
    hashes: Vec<HashKey>,
    lengths: Vec<u32>,
}

/// What a producer has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Records.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Records that an earlier run of the same name had stored already.
    pub skipped: u64,
}

impl Producer {
    /// A producer into all open shards. With `acks` each record is acknowledged ([`Producer::take_acks`]).
    pub fn open(mut stream: Stream, sync: Sync, acks: bool) -> Result<Self, Error> {
        if stream.manifest().pending.is_some() {
            stream.settle()?;
        }
        let locks = stream.locks()?;
        let router = Router::new(stream.manifest());
        let codec = stream.manifest().compression.into();
        let mut producer = Self {
            stream,
            locks,
            slots: Vec::new(),
            router,
            codec,
            sync,
            syncer: Syncer::new(),
            named: None,
            acks: acks.then(Acks::default),
            limits: None,
            batch_bytes: BATCH_BYTES,
            ordinal: 0,
            unsynced_bytes: 0,
            oldest_unsynced_us: None,
            next_unkeyed: 0,
            flushes: 0,
            written: Written::default(),
            hashes: Vec::new(),
            lengths: Vec::new(),
        };
        producer.build_slots();
        Ok(producer)
    }

    /// The stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// What has been written so far.
    pub fn written(&self) -> Written {
        self.written
    }

    /// Holds every shard to the service's limits from now on.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = Some(limits);
    }

    /// Takes over a producer's name: earlier runs are fenced, and what they stored is told.
    pub fn claim(&mut self, name: &str) -> Result<Resume, Error> {
        let resume = resume::claim(self, name)?;
        self.ordinal = resume.begin.0;
        Ok(resume)
    }

    /// Takes the records that were decoded from `block`, and notes where the source stands behind them: `mark` is
    /// opaque, one line of text of at most [`resume::MARK_BYTES_MAX`] bytes.
    pub fn put_marked(&mut self, block: &[u8], records: &Records, mark: &[u8]) -> Result<(), Error> {
        let behind = (self.ordinal + records.len() as u64, mark.to_vec());
        if let Some(named) = &mut self.named {
            named.ahead.clone_from(&behind);
        }
        self.put(block, records)?;
        if let Some(named) = &mut self.named {
            named.at = behind;
        }
        Ok(())
    }

    /// Takes records that bring their own place in the source, each higher than the one before. The second of a pair
    /// for which that is not so is not taken, and its number in `records` returned.
    pub fn put_positioned(
        &mut self,
        block: &[u8],
        records: &Records,
        positions: &[u64],
    ) -> Result<Vec<usize>, Error> {
        let mut out_of_order = Vec::new();
        // Ordinals count from 1, and a source may well count from 0.
        let ordinal_of = |position: u64| position.saturating_add(1);
        let last = positions.iter().copied().map(ordinal_of).max().unwrap_or(0).max(self.ordinal);
        if let Some(named) = &mut self.named {
            named.ahead = (last, Vec::new());
        }
        // Positions that an earlier run has handled come again from the start.
        for (i, &position) in positions.iter().enumerate() {
            if ordinal_of(position) <= self.ordinal {
                out_of_order.push(i);
                continue;
            }
            self.ordinal = position;
            self.put_one(fresh(block, records, i), None)?;
        }
        if let Some(named) = &mut self.named {
            named.at = (self.ordinal, Vec::new());
        }
        Ok(out_of_order)
    }

    /// Takes records of a source that counts them itself: each with its index there, ascending. `end` is the source's
    /// place behind them.
    pub fn put_from<'a>(
        &mut self,
        mut records: impl Iterator<Item = Result<(u64, Fresh<'a>), Error>>,
        end: u64,
    ) -> Result<(), Error> {
        if let Some(named) = &mut self.named {
            named.ahead = (end, Vec::new());
        }
        records.try_for_each(|record| {
            let (index, fresh) = record?;
            self.ordinal = index;
            self.put_one(fresh, None)
        })?;
        self.ordinal = end;
        if let Some(named) = &mut self.named {
            named.at = (end, Vec::new());
        }
        Ok(())
    }

    /// Goes behind everything that earlier runs may have stored: for a source whose last part, which may be stored in
    /// part, is gone.
    pub fn pass_over(&mut self) {
        if let Some(named) = &self.named {
            self.ordinal = named.end_ordinal();
        }
    }

    /// Begins to count from 0 again: for a source that is read from its start and tells its places itself.
    pub fn rewind(&mut self) {
        self.ordinal = 0;
    }

    /// One slot per open shard; those that were there keep their writers and what they gathered.
    fn build_slots(&mut self) -> Vec<Slot> {
        let mut before: BTreeMap<ShardId, Slot> =
            self.slots.drain(..).map(|slot| (slot.shard, slot)).collect();
        for &(shard, range) in self.router.shards() {
            let slot = before.remove(&shard).unwrap_or_else(|| Slot {
                shard,
                range,
                writer: None,
                batch: Batch::new(Some(JOINT)),
                which: Vec::new(),
                dirty: false,
                used: 0,
            });
            self.slots.push(slot);
        }
        // A later run of a named producer holds what may be stored in part in memory: that must be little.
        let gathered = if self.named.is_some() { GATHERED_BYTES_MAX / 4 } else { GATHERED_BYTES_MAX };
        let cached = (BATCHES_CACHED_BYTES / self.slots.len()).clamp(BATCH_LEAST_BYTES, BATCH_BYTES);
        self.batch_bytes = (gathered / self.slots.len()).clamp(4 << 10, cached);
        before.into_values().collect()
    }

    /// Whether each record's ordinal must be kept with it.
    fn counts(&self) -> bool {
        self.acks.is_some() || self.named.is_some()
    }

    /// Takes the records that were decoded from `block`. Most are only gathered: see [`Producer::flush`].
    pub fn put(&mut self, block: &[u8], records: &Records) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let plain = records.joined == Some(JOINT)
            && records.keys.is_empty()
            && records.hashes.is_empty()
            && records.timestamps.is_empty()
            && records.attributes.is_empty();
        let each = self.sync == Sync::Every || self.limits.is_some() || self.named.is_some();
        let keyed = records.keys.len() == records.len()
            && records.hashes.is_empty()
            && records.timestamps.is_empty()
            && records.attributes.is_empty();
        if plain && !each {
            self.put_lines(block, records)
        } else if keyed && !each && self.acks.is_none() {
            self.put_keyed(block, records)
        } else {
            self.put_each(block, records)
        }
    }

    /// Records with keys and nothing else, which nobody asks about one by one.
    fn put_keyed(&mut self, block: &[u8], records: &Records) -> Result<(), Error> {
        if self.slots.len() == 1 {
            return self.put_hashed(block, records, &[]);
        }
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        HashKey::of_many((0..records.len()).map(|i| records.key(block, i).unwrap_or_default()), &mut hashes);
        let outcome = self.put_hashed(block, records, &hashes);
        self.hashes = hashes;
        outcome
    }

    fn put_hashed(&mut self, block: &[u8], records: &Records, hashes: &[HashKey]) -> Result<(), Error> {
        let key_bytes = if records.key_in_arena { &records.arena } else { block };
        let payload_bytes = if records.payload_in_arena { &records.arena } else { block };
        for (i, (payload, key)) in records.payloads.iter().zip(&records.keys).enumerate() {
            let payload = payload.of(payload_bytes).unwrap_or_default();
            let key = key.of(key_bytes);
            // With one shard there may be no hashes, and they do not matter.
            let slot = if key.is_some() {
                hashes.get(i).map_or(0, |&hash| self.router.slot(hash))
            } else {
                self.next_unkeyed = (self.next_unkeyed + 1) % self.slots.len();
                self.next_unkeyed
            };
            let batch = &mut self.slots[slot].batch;
            match key {
                Some(key) if batch.is_keyed() => batch.push_keyed(payload, key),
                _ => batch.push(Fresh { payload, key, ..Fresh::default() }),
            }
            if batch.payload_bytes() >= self.batch_bytes {
                self.write_slot(slot)?;
                self.sync_if_due()?;
            }
        }
        self.ordinal += records.len() as u64;
        Ok(())
    }

    /// Records without keys that lie in the block as they will lie on the disk: nothing is copied.
    fn put_lines(&mut self, block: &[u8], records: &Records) -> Result<(), Error> {
        let mut lengths = std::mem::take(&mut self.lengths);
        lengths.clear();
        lengths.extend(records.payloads.iter().map(|span| span.len));
        let mut count = lengths.len();
        let last = records.payloads[count - 1];
        let ends_in_joint = records.ends[count - 1] > last.start + last.len;
        if !ends_in_joint {
            count -= 1;
        }
        let used = count.checked_sub(1).map_or(0, |i| records.ends[i] as usize);
        let per_piece = match self.slots.len() {
            1 => count,
            slots => {
                let even = count.div_ceil(slots);
                let least = if used < 4 * PIECE_BYTES { 1 } else { count * PIECE_BYTES / used };
                even.max(least)
            }
        };
        let mut from = 0;
        let outcome = (|| {
            while from < count {
                let to = (from + per_piece.max(1)).min(count);
                let start = if from == 0 { 0 } else { records.ends[from - 1] as usize };
                let piece = &block[start..records.ends[to - 1] as usize];
                self.put_piece(piece, &lengths[from..to])?;
                from = to;
            }
            if !ends_in_joint {
                let i = count;
                self.put_one(Fresh { payload: records.payload(block, i), ..Fresh::default() }, None)?;
            }
            Ok(())
        })();
        self.lengths = lengths;
        outcome
    }

    fn put_piece(&mut self, piece: &[u8], lengths: &[u32]) -> Result<(), Error> {
        loop {
            let i = self.next_unkeyed % self.slots.len();
            self.next_unkeyed = i + 1;
            if !self.slots[i].batch.is_empty() {
                self.write_slot(i)?;
                if i >= self.slots.len() {
                    continue;
                }
            }
            let draft = Draft::joined(piece, lengths, JOINT, self.codec, None);
            let bytes = draft.frame_bytes();
            match self.append(i, &[draft])? {
                Some(appended) => {
                    let shard = self.slots[i].shard;
                    if let Some(acks) = &mut self.acks {
                        for n in 0..lengths.len() as u64 {
                            let place = acks.expect();
                            acks.assign(place, shard, appended.first + n, appended.arrival_us);
                        }
                    }
                    self.ordinal += lengths.len() as u64;
                    self.note_written(lengths.len() as u64, (piece.len() - lengths.len()) as u64, bytes);
                    return self.sync_if_due();
                }
                // The shard was closed: its place among the slots is taken by others.
                None => self.resettle()?,
            }
        }
    }

    fn put_each(&mut self, block: &[u8], records: &Records) -> Result<(), Error> {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        let keyed = records.keys.len() == records.len() && records.hashes.is_empty() && self.slots.len() > 1;
        if keyed {
            HashKey::of_many(
                (0..records.len()).map(|i| records.key(block, i).unwrap_or_default()),
                &mut hashes,
            );
        }
        let outcome = (0..records.len()).try_for_each(|i| {
            let fresh = fresh(block, records, i);
            let known = if fresh.key.is_some() { hashes.get(i).copied() } else { None };
            self.put_one(fresh, known)
        });
        self.hashes = hashes;
        outcome
    }

    /// Takes one record. `hash` is the hash of its key where that is known already.
    pub fn put_one(&mut self, record: Fresh<'_>, hash: Option<HashKey>) -> Result<(), Error> {
        let ordinal = self.ordinal + 1;
        let hash = if self.slots.len() == 1 && self.named.is_none() {
            None
        } else {
            record.explicit_hash.or(hash).or_else(|| record.key.map(HashKey::of)).or_else(|| {
                // Without a key, where a record goes must not depend on the run.
                self.named.as_ref().map(|named| named.spread(ordinal))
            })
        };
        self.ordinal = ordinal;
        if let (Some(named), Some(hash)) = (&self.named, hash)
            && named.is_stored(ordinal, hash)
        {
            self.written.skipped += 1;
            if let Some(acks) = &mut self.acks {
                let place = acks.expect();
                acks.skip(place);
            }
            return Ok(());
        }
        let i = if let Some(hash) = hash {
            self.router.slot(hash)
        } else {
            self.next_unkeyed = (self.next_unkeyed + 1) % self.slots.len();
            self.next_unkeyed
        };
        if let Some(limits) = &mut self.limits {
            let bytes = record.payload.len() + record.key.map_or(0, <[u8]>::len);
            limits.take(self.stream.system(), self.slots[i].shard, bytes);
        }
        self.gather(i, record, ordinal);
        if self.sync == Sync::Every {
            self.flush()?;
            return self.sync_now();
        }
        if self.slots[i].batch.payload_bytes() >= self.batch_bytes {
            self.write_slot(i)?;
            return self.sync_if_due();
        }
        Ok(())
    }

    #[inline]
    fn gather(&mut self, i: usize, record: Fresh<'_>, ordinal: u64) {
        let counts = self.counts();
        let slot = &mut self.slots[i];
        slot.batch.push(record);
        if counts {
            let place = self.acks.as_mut().map_or(0, Acks::expect);
            slot.which.push(Which { ordinal, place });
        }
    }

    /// Writes all that has been gathered, so that every reader sees it.
    pub fn flush(&mut self) -> Result<(), Error> {
        while let Some(i) = self.slots.iter().position(|slot| !slot.batch.is_empty()) {
            self.write_slot(i)?;
        }
        Ok(())
    }

    /// Writes what one slot has gathered.
    fn write_slot(&mut self, i: usize) -> Result<(), Error> {
        if self.slots[i].batch.is_empty() {
            return Ok(());
        }
        let slot = &mut self.slots[i];
        let mut batch = std::mem::take(&mut slot.batch);
        let which = std::mem::take(&mut slot.which);
        let (count, bytes) = (batch.len() as u64, (batch.payload_bytes() - batch.len()) as u64);
        let provenance = self
            .named
            .as_ref()
            .map(|named| named.provenance(which.last().map_or(self.ordinal, |which| which.ordinal)));
        let outcome = {
            let draft = batch.draft(self.codec, provenance.as_ref());
            let frame_bytes = draft.frame_bytes();
            self.append(i, &[draft]).map(|appended| appended.map(|appended| (appended, frame_bytes)))
        };
        // What could not be written stays gathered.
        let slot = &mut self.slots[i];
        slot.batch = batch;
        slot.which = which;
        match outcome? {
            Some((appended, frame_bytes)) => {
                let shard = slot.shard;
                if let Some(acks) = &mut self.acks {
                    for (index, which) in (appended.first..).zip(&slot.which) {
                        acks.assign(which.place, shard, index, appended.arrival_us);
                    }
                }
                slot.batch.clear();
                slot.batch.shrink(2 * BATCH_BYTES);
                slot.which.clear();
                self.note_written(count, bytes, frame_bytes);
                Ok(())
            }
            None => self.resettle(),
        }
    }

    fn note_written(&mut self, records: u64, bytes: u64, frame_bytes: u64) {
        self.written.records += records;
        self.written.bytes += bytes;
        self.unsynced_bytes += frame_bytes;
        if self.oldest_unsynced_us.is_none() {
            self.oldest_unsynced_us = Some(self.stream.system().clock.boot_us());
        }
    }

    /// Appends to the log of a slot; `None` if the shard has ended.
    fn append(&mut self, i: usize, drafts: &[Draft<'_>]) -> Result<Option<log::Appended>, Error> {
        self.flushes += 1;
        let flushes = self.flushes;
        let shard = self.slots[i].shard;
        let base = match self.writer(i) {
            Ok(writer) => writer.segment_base(),
            Err(log::Error::Closed(_)) => return Ok(None),
            Err(error) => return Err(error).in_shard(shard),
        };
        let Some(writer) = &mut self.slots[i].writer else { return Ok(None) };
        let outcome = writer.append(drafts);
        let rolled = writer.segment_base() != base;
        match outcome {
            Ok(appended) => {
                self.slots[i].dirty = true;
                self.slots[i].used = flushes;
                if rolled {
                    // What has expired goes when writers roll; if that fails, `kshard trim` will say why.
                    let _ = self.stream.expire(Some(shard));
                }
                Ok(Some(appended))
            }
            Err(log::Error::Closed(_)) => Ok(None),
            Err(error) => Err(error).in_shard(shard),
        }
    }

    fn writer(&mut self, i: usize) -> Result<&mut Writer, log::Error> {
        if self.slots[i].writer.is_none() {
            self.make_room()?;
            let shard = self.slots[i].shard;
            let Some(info) = self.stream.manifest().shard(shard) else {
                return Err(log::Error::Empty { dir: self.stream.path().join(shard.to_string()) });
            };
            let writer = Writer::open(
                self.stream.log_dir(info),
                Arc::clone(&self.locks),
                self.stream.roll(),
                info.range(),
            )?;
            self.slots[i].writer = Some(writer);
        }
        match &mut self.slots[i].writer {
            Some(writer) => Ok(writer),
            None => unreachable!("opened above"),
        }
    }

    /// Leaves the log that has waited longest, if too many are open.
    fn make_room(&mut self) -> Result<(), log::Error> {
        let open = self.slots.iter().filter(|slot| slot.writer.is_some()).count();
        if open < OPEN_WRITERS_MAX {
            return Ok(());
        }
        let oldest = self.slots.iter_mut().filter(|slot| slot.writer.is_some()).min_by_key(|slot| slot.used);
        let Some(slot) = oldest else { return Ok(()) };
        let Some(mut writer) = slot.writer.take() else { return Ok(()) };
        writer.pause()?;
        if slot.dirty && self.sync != Sync::None {
            let ticket = writer.full_ticket();
            ticket.wait().map_err(|failure| writer.condemn(&ticket, failure))?;
            slot.dirty = false;
        }
        Ok(())
    }

    /// Learns the shards anew after one has ended, and sends what was gathered for it to its children.
    fn resettle(&mut self) -> Result<(), Error> {
        self.stream.settle()?;
        self.router = Router::new(self.stream.manifest());
        let ended = self.build_slots();
        // A merge brings the records of two shards into one: there too they must lie in the order of the source, for
        // what is told of a frame is how far the source is stored in it.
        let mut moved: Vec<(usize, usize, Option<Which>)> = Vec::new();
        let batches: Vec<Vec<Fresh<'_>>> = ended.iter().map(|slot| slot.batch.records().collect()).collect();
        for (from, (slot, batch)) in ended.iter().zip(&batches).enumerate() {
            moved.extend((0..batch.len()).map(|n| (from, n, slot.which.get(n).copied())));
        }
        moved.sort_by_key(|(_, _, which)| which.map(|which| which.ordinal));
        for (from, n, which) in moved {
            let record = batches[from][n];
            let hash = record.explicit_hash.or_else(|| record.key.map(HashKey::of)).unwrap_or_else(|| {
                // Without a key: within the range that the ended shard had.
                let ordinal = which.map_or(0, |which| which.ordinal);
                self.named.as_ref().map_or(ended[from].range.start, |named| named.spread(ordinal))
            });
            let i = self.router.slot(hash);
            self.slots[i].batch.push(record);
            self.slots[i].which.extend(which);
        }
        Ok(())
    }

    /// When the caller shall come again ([`Producer::tick`]) if no input comes, on the clock of
    /// [`boot_us`](crate::sys::Clock::boot_us).
    pub fn deadline_us(&self) -> Option<i64> {
        match self.sync {
            Sync::Group { interval_us, .. } => self.oldest_unsynced_us.map(|oldest| oldest + interval_us),
            _ => None,
        }
    }

    /// Waits for the wait that goes on, if one does.
    pub fn wait(&mut self) -> Result<(), Error> {
        self.collect(true)
    }

    /// The numbers of the records that go beyond what their shards take this second; the others are counted.
    pub fn over_limit(
        &self,
        limits: &mut Limits,
        now_us: i64,
        block: &[u8],
        records: &Records,
    ) -> Vec<usize> {
        let over = |i: &usize| {
            let record = fresh(block, records, *i);
            let hash = record.explicit_hash.or_else(|| record.key.map(HashKey::of));
            // Without a key the first shard stands for all: the service would spread them, and so does a bucket each.
            let slot = hash.map_or(*i % self.slots.len(), |hash| self.router.slot(hash));
            let bytes = record.payload.len() + record.key.map_or(0, <[u8]>::len);
            limits.ask(now_us, self.slots[slot].shard, bytes) > 0
        };
        let mut over = over;
        (0..records.len()).filter(|i| over(i)).collect()
    }

    /// Whether a wait for the disk goes on.
    pub fn is_syncing(&self) -> bool {
        self.syncer.is_busy()
    }

    /// Syncs if it is time, and takes in what has been synced meanwhile.
    pub fn tick(&mut self) -> Result<(), Error> {
        self.collect(false)?;
        let now = self.stream.system().clock.boot_us();
        if self.deadline_us().is_some_and(|deadline| deadline <= now) {
            self.flush()?;
            self.begin_sync()?;
        }
        Ok(())
    }

    fn sync_if_due(&mut self) -> Result<(), Error> {
        let Sync::Group { bytes, .. } = self.sync else { return Ok(()) };
        if self.unsynced_bytes < bytes {
            return Ok(());
        }
        // Acknowledgements and marks are only of what is in the sync whole.
        if self.counts() {
            self.flush()?;
        }
        self.begin_sync()
    }

    /// Begins to wait for the disk, after any wait that goes on already.
    fn begin_sync(&mut self) -> Result<(), Error> {
        let tickets = self.tickets()?;
        self.syncer.begin(tickets);
        Ok(())
    }

    /// What to wait for, after any wait that goes on already.
    fn tickets(&mut self) -> Result<Vec<(ShardId, SyncTicket)>, Error> {
        self.collect(true)?;
        let mut tickets: Vec<(ShardId, SyncTicket)> = Vec::new();
        for slot in &mut self.slots {
            if std::mem::take(&mut slot.dirty)
                && let Some(writer) = &slot.writer
            {
                tickets.push((slot.shard, writer.full_ticket()));
            }
        }
        self.unsynced_bytes = 0;
        self.oldest_unsynced_us = None;
        if let Some(acks) = &mut self.acks {
            acks.begin();
        }
        if let Some(named) = &mut self.named {
            named.begin();
        }
        Ok(tickets)
    }

    /// Takes in a wait that has ended; with `wait` waits for it.
    fn collect(&mut self, wait: bool) -> Result<(), Error> {
        let Some(done) = self.syncer.collect(wait) else { return Ok(()) };
        for (shard, ticket, outcome) in done {
            let slot = self.slots.iter_mut().find(|slot| slot.shard == shard);
            let writer = slot.and_then(|slot| slot.writer.as_mut());
            match (outcome, writer) {
                (Ok(()), Some(writer)) => writer.synced(&ticket),
                // The shard has ended or was left since.
                (Ok(()), None) => {}
                (Err(failure), Some(writer)) => return Err(writer.condemn(&ticket, failure)).in_shard(shard),
                (Err(failure), None) => return Err(failure).in_shard(shard),
            }
        }
        if let Some(acks) = &mut self.acks {
            acks.end();
        }
        if let Some(named) = &mut self.named {
            named.end();
        }
        Ok(())
    }

    /// Writes all that has been gathered and returns when it is durable (or at once, for [`Sync::None`]).
    pub fn sync_now(&mut self) -> Result<(), Error> {
        self.flush()?;
        if self.sync == Sync::None {
            return Ok(());
        }
        // Nothing else is to be done meanwhile: to wake another thread for it and to be woken by it would cost as much
        // as the wait of a fast disk.
        let tickets = self.tickets()?;
        self.syncer.wait_here(tickets);
        self.collect(true)
    }

    /// The acknowledgements that have become due, in the order of the records.
    pub fn take_acks(&mut self) -> impl Iterator<Item = Ack> {
        let durable = self.sync != Sync::None;
        self.acks.as_mut().map(|acks| acks.take(durable)).into_iter().flatten()
    }

    /// The sequence number of an acknowledgement.
    pub fn sequence(&self, ack: &Ack) -> Option<crate::record::SequenceNumber> {
        let info = self.stream.manifest().shard(ack.shard)?;
        Some(self.stream.sequence(info, ack.index, ack.arrival_us))
    }

    /// Writes all, marks a clean end where this was the last writer, and returns when everything is durable (or at
    /// once, for [`Sync::None`]).
    pub fn finish(&mut self) -> Result<(), Error> {
        self.flush()?;
        for slot in &mut self.slots {
            if let Some(writer) = &mut slot.writer {
                writer.pause().in_shard(slot.shard)?;
                slot.dirty = true;
            }
        }
        if self.sync != Sync::None {
            self.begin_sync()?;
            self.collect(true)?;
        }
        for slot in &mut self.slots {
            slot.writer = None;
        }
        Ok(())
    }
}

/// One decoded record, as a batch takes it.
fn fresh<'a>(block: &'a [u8], records: &'a Records, i: usize) -> Fresh<'a> {
    Fresh {
        payload: records.payload(block, i),
        key: records.key(block, i),
        explicit_hash: records.hashes.get(i).copied().flatten(),
        timestamp_us: records.timestamps.get(i).copied().flatten(),
        attributes: records.attributes.get(i).map_or(&[], Vec::as_slice),
    }
}
