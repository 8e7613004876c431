//! Taking records: each to the shard of its key, most of them only gathered.

use std::ops::Range;
use std::thread;

use super::super::error::Error;
use super::acks::Acks;
use super::limits::Limits;
use super::slots::{JOINT, Which};
use super::{Producer, Sync};
use crate::hash::HashKey;
use crate::log::{Codec, Draft, Fresh};
use crate::record::Records;

/// A record without a key goes with its neighbours to one shard, in pieces of at least this many bytes where there is
/// that much; small inputs are spread record by record.
const PIECE_BYTES: usize = 16 << 10;

impl Producer {
    /// Takes the records that were decoded from `block`, and notes where the source stands behind them: `mark` is
    /// opaque, one line of text of at most [`MARK_BYTES_MAX`](super::resume::MARK_BYTES_MAX) bytes. Records that bring their own place in the
    /// source ([`Records::positions`]) must rise: see [`Producer::out_of_order`].
    pub fn put_marked(&mut self, block: &[u8], records: &Records, mark: &[u8]) -> Result<(), Error> {
        self.begin_marked(records, mark);
        self.put(block, records)?;
        self.end_marked();
        Ok(())
    }

    /// [`Producer::put_marked`] in parts: this, [`Producer::put_part`] for all records in their order, and
    /// [`Producer::end_marked`].
    pub fn begin_marked(&mut self, records: &Records, mark: &[u8]) {
        let behind = match records.positions.last() {
            // Ordinals count from 1, and a source may well count from 0.
            Some(&last) => (last + 1).max(self.ordinal),
            None => self.ordinal + records.len() as u64,
        };
        if let Some(named) = &mut self.named {
            named.ahead = (behind, mark.to_vec());
        }
    }

    /// Takes some of the records.
    pub fn put_part(&mut self, block: &[u8], records: &Records, part: Range<usize>) -> Result<(), Error> {
        self.put_each(block, records, part)
    }

    /// All of the records have been taken.
    pub fn end_marked(&mut self) {
        if let Some(named) = &mut self.named {
            named.at = named.ahead.clone();
        }
    }

    /// Which of these positions are not above the one before them: such records must not be put.
    pub fn out_of_order(&self, positions: &[u64]) -> Vec<usize> {
        let mut ordinal = self.ordinal;
        let falls = |position: u64| {
            let falls = position < ordinal;
            ordinal = ordinal.max(position + 1);
            falls
        };
        let falls: Vec<bool> = positions.iter().copied().map(falls).collect();
        (0..positions.len()).filter(|&i| falls[i]).collect()
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
        let each = self.sync == Sync::Every || self.named.is_some();
        let keyed = records.keys.len() == records.len()
            && records.hashes.is_empty()
            && records.timestamps.is_empty()
            && records.attributes.is_empty();
        if plain && !each {
            self.put_lines(block, records)
        } else if keyed && !each && self.acks.is_none() {
            self.put_keyed(block, records)
        } else {
            self.put_each(block, records, 0..records.len())
        }
    }

    /// Records with keys and nothing else, which nobody asks about one by one.
    pub(super) fn put_keyed(&mut self, block: &[u8], records: &Records) -> Result<(), Error> {
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

    pub(super) fn put_hashed(
        &mut self,
        block: &[u8],
        records: &Records,
        hashes: &[HashKey],
    ) -> Result<(), Error> {
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
    pub(super) fn put_lines(&mut self, block: &[u8], records: &Records) -> Result<(), Error> {
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

    pub(super) fn put_piece(&mut self, piece: &[u8], lengths: &[u32]) -> Result<(), Error> {
        loop {
            let i = self.next_unkeyed % self.slots.len();
            self.next_unkeyed = i + 1;
            if !self.slots[i].batch.is_empty() {
                self.write_slot(i)?;
                if i >= self.slots.len() {
                    continue;
                }
            }
            let drafts = drafts(piece, lengths, self.codec);
            let bytes = drafts.iter().map(Draft::frame_bytes).sum();
            match self.append(i, &drafts)? {
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

    pub(super) fn put_each(
        &mut self,
        block: &[u8],
        records: &Records,
        part: Range<usize>,
    ) -> Result<(), Error> {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        let keyed = records.keys.len() == records.len() && records.hashes.is_empty() && self.slots.len() > 1;
        if keyed {
            HashKey::of_many(part.clone().map(|i| records.key(block, i).unwrap_or_default()), &mut hashes);
        }
        let first = part.start;
        let outcome = part.into_iter().try_for_each(|i| {
            let fresh = fresh(block, records, i);
            let known = if fresh.key.is_some() { hashes.get(i - first).copied() } else { None };
            if let Some(&position) = records.positions.get(i) {
                self.ordinal = position;
            }
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
        self.gather(i, record, ordinal);
        if self.sync == Sync::Every {
            self.flush()?;
            return self.sync_now();
        }
        if self.slots[i].batch.payload_bytes() >= self.batch_bytes {
            self.write_slot(i)?;
            return self.sync_if_due();
        }
        // They may all still be gathered.
        if self.acks.is_some() { self.sync_if_due() } else { Ok(()) }
    }

    #[inline]
    pub(super) fn gather(&mut self, i: usize, record: Fresh<'_>, ordinal: u64) {
        let counts = self.counts();
        let slot = &mut self.slots[i];
        slot.batch.push(record);
        if counts {
            let place = self.acks.as_mut().map_or(0, Acks::expect);
            slot.which.push(Which { ordinal, place });
        }
    }

    /// The numbers of the records that go beyond what their shards take this second; the others are counted.
    pub fn over_limit(
        &self,
        limits: &mut Limits,
        now_us: i64,
        block: &[u8],
        records: &Records,
    ) -> Vec<usize> {
        let mut unkeyed = 0;
        (0..records.len())
            .filter(|&i| self.ask(limits, now_us, &fresh(block, records, i), 0, &mut unkeyed) > 0)
            .collect()
    }

    /// How many of the records from number `from` on their shards take now, and how long, in microseconds, the one
    /// behind them has to wait: 0 where they take all.
    pub fn admitted(
        &self,
        limits: &mut Limits,
        now_us: i64,
        block: &[u8],
        records: &Records,
        from: usize,
    ) -> (usize, i64) {
        let mut unkeyed = 0;
        for i in from..records.len() {
            let ordinal = records.positions.get(i).copied().unwrap_or(self.ordinal + (i - from) as u64) + 1;
            let wait = self.ask(limits, now_us, &fresh(block, records, i), ordinal, &mut unkeyed);
            if wait > 0 {
                return (i - from, wait);
            }
        }
        (records.len() - from, 0)
    }

    /// How long a record has to wait; 0 where it may go, and then it is counted. `unkeyed` counts those without a key
    /// that come before it and have not been put.
    fn ask(
        &self,
        limits: &mut Limits,
        now_us: i64,
        record: &Fresh<'_>,
        ordinal: u64,
        unkeyed: &mut usize,
    ) -> i64 {
        let own = record.explicit_hash.or_else(|| record.key.map(HashKey::of));
        let hash = own.or_else(|| self.named.as_ref().map(|named| named.spread(ordinal)));
        if let (Some(named), Some(hash)) = (&self.named, hash)
            && named.is_stored(ordinal, hash)
        {
            return 0;
        }
        let slot = hash.map_or_else(
            || (self.next_unkeyed + 1 + *unkeyed) % self.slots.len(),
            |hash| self.router.slot(hash),
        );
        let bytes = record.payload.len() + record.key.map_or(0, <[u8]>::len);
        let wait = limits.ask(now_us, self.slots[slot].shard, bytes);
        *unkeyed += usize::from(wait == 0 && hash.is_none());
        wait
    }
}

/// Compressing takes longer than all else together: a piece of at least this many bytes is halved, and the halves
/// compressed side by side. Much less would not be worth a thread, and compress worse.
const HALVED_BYTES: usize = 64 << 10;

/// The frames of a piece.
fn drafts<'a>(piece: &'a [u8], lengths: &[u32], codec: Codec) -> Vec<Draft<'a>> {
    let whole = |piece, lengths| Draft::joined(piece, lengths, JOINT, codec, None);
    if codec == Codec::None || piece.len() < HALVED_BYTES || lengths.len() < 2 {
        return vec![whole(piece, lengths)];
    }
    let count = lengths.len() / 2;
    let bytes = lengths[..count].iter().map(|&len| len as usize + 1).sum();
    let (front, back) = piece.split_at(bytes);
    let (first, last) = thread::scope(|scope| {
        let thread = scope.spawn(|| whole(back, &lengths[count..]));
        (whole(front, &lengths[..count]), thread.join())
    });
    vec![first, last.unwrap_or_else(|panic| std::panic::resume_unwind(panic))]
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
