//! What has been gathered for each shard, its way into the shard's log, and what happens to it when the shard ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::Router;
use super::super::error::Error;
use super::{Producer, Sync};
use crate::hash::{HashKey, HashRange};
use crate::log::{self, Batch, Draft, Fresh, Writer};
use crate::record::ShardId;

/// The byte that stands behind each stored payload, so that lines leave as they came.
pub(super) const JOINT: u8 = b'\n';

/// A gathering is written when it has this many bytes: large enough that the lock and the system calls cost nothing.
pub(super) const BATCH_BYTES: usize = 256 << 10;

/// All gatherings together stay within the processor's second-level cache, so that what is copied into them is still
/// there when it is summed and written; but none is smaller than [`BATCH_LEAST_BYTES`] for it.
const BATCHES_CACHED_BYTES: usize = 1 << 20;

/// Below this the lock and the system calls begin to count.
const BATCH_LEAST_BYTES: usize = 64 << 10;

/// All gatherings together; with many shards each gets less.
const GATHERED_BYTES_MAX: usize = 24 << 20;

/// Shards whose logs are open at the same time; beyond it the one that has waited longest is left in order.
const OPEN_WRITERS_MAX: usize = 200;

/// An open shard and what has been gathered for it.
pub(super) struct Slot {
    pub(super) shard: ShardId,
    pub(super) range: HashRange,
    pub(super) writer: Option<Writer>,
    pub(super) batch: Batch,
    /// Which record each one in the batch is, where somebody wants to know: for acknowledgements and named producers.
    pub(super) which: Vec<Which>,
    /// Written since the last sync was begun.
    pub(super) dirty: bool,
    /// When it was last written to, in flushes.
    pub(super) used: u64,
}

/// Which record it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Which {
    /// Its ordinal in the source.
    pub(super) ordinal: u64,
    /// Its place among the acknowledgements.
    pub(super) place: u64,
}

impl Producer {
    /// One slot per open shard; those that were there keep their writers and what they gathered.
    pub(super) fn build_slots(&mut self) -> Vec<Slot> {
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

    /// Writes all that has been gathered, so that every reader sees it.
    pub fn flush(&mut self) -> Result<(), Error> {
        while let Some(i) = self.slots.iter().position(|slot| !slot.batch.is_empty()) {
            self.write_slot(i)?;
        }
        Ok(())
    }

    /// Writes what one slot has gathered.
    pub(super) fn write_slot(&mut self, i: usize) -> Result<(), Error> {
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

    pub(super) fn note_written(&mut self, records: u64, bytes: u64, frame_bytes: u64) {
        self.written.records += records;
        self.written.bytes += bytes;
        // A later run of a named producer reads again what may be stored in part, uncompressed.
        let unsynced_bytes =
            if self.named.is_some() { frame_bytes.max(bytes + records) } else { frame_bytes };
        self.unsynced_bytes += unsynced_bytes;
        if self.oldest_unsynced_us.is_none() {
            self.oldest_unsynced_us = Some(self.stream.system().clock.boot_us());
        }
    }

    /// Appends to the log of a slot; `None` if the shard has ended.
    pub(super) fn append(&mut self, i: usize, drafts: &[Draft<'_>]) -> Result<Option<log::Appended>, Error> {
        self.flushes += 1;
        let flushes = self.flushes;
        let shard = self.slots[i].shard;
        let base = match self.writer(i) {
            Ok(writer) => writer.segment_base(),
            Err(log::Error::Closed(_)) => return Ok(None),
            Err(error) => return Err(self.stream.failed(shard, error)),
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
            Err(error) => Err(self.stream.failed(shard, error)),
        }
    }

    pub(super) fn writer(&mut self, i: usize) -> Result<&mut Writer, log::Error> {
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
    pub(super) fn make_room(&mut self) -> Result<(), log::Error> {
        let open = self.slots.iter().filter(|slot| slot.writer.is_some()).count();
        if open < OPEN_WRITERS_MAX {
            return Ok(());
        }
        let oldest = self.slots.iter_mut().filter(|slot| slot.writer.is_some()).min_by_key(|slot| slot.used);
        let Some(slot) = oldest else { return Ok(()) };
        let Some(mut writer) = slot.writer.take() else { return Ok(()) };
        if slot.dirty && self.sync != Sync::None {
            let ticket = writer.full_ticket();
            ticket.wait().map_err(|failure| writer.condemn(&ticket, failure))?;
            writer.synced(&ticket);
            slot.dirty = false;
        }
        writer.pause()
    }

    /// Learns the shards anew after one has ended, and sends what was gathered for it to its children.
    pub(super) fn resettle(&mut self) -> Result<(), Error> {
        self.stream.settle()?;
        if self.sync != Sync::None {
            self.stream.make_manifest_durable()?;
        }
        self.router = Router::new(self.stream.manifest());
        let mut ended = self.build_slots();
        // Before a shard ends all in it is synced; but where a sync failed on the way, what this process wrote there may
        // have been given up, and nobody asks that writer any more.
        for slot in ended.iter_mut().filter(|slot| slot.dirty && self.sync != Sync::None) {
            if let Some(writer) = &mut slot.writer {
                let ticket = writer.full_ticket();
                let kept = ticket.wait().map_err(|failure| writer.condemn(&ticket, failure));
                kept.map_err(|error| self.stream.failed(slot.shard, error))?;
            }
        }
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
}
