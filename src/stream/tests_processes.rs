//! The processes in the histories of `tests_model`: who produces, who follows, who consumes.

use std::collections::{BTreeMap, BTreeSet};

use super::producer::Producer;
use super::tests_audit::{Got, ORIGIN, SOURCE, key, number, payload};
use super::*;
use crate::log::Fresh;

/// A producer's process.
pub(super) struct Hand {
    pub(super) producer: Producer,
    /// What it has been given, in order.
    pub(super) put: Vec<u64>,
}

/// A reader of all shards that follows.
pub(super) struct Follower {
    pub(super) reader: StreamReader,
    pub(super) seen: BTreeSet<(u32, u64)>,
    pub(super) ended: BTreeSet<u32>,
    pub(super) missed: Vec<(u32, log::Missed)>,
}

/// A consumer's process.
pub(super) struct Eater {
    pub(super) consumer: Consumer,
    pub(super) reader: StreamReader,
    /// Handed out of each shard and not yet committed, and the checkpoint behind it.
    pub(super) pending: BTreeMap<u32, Pending>,
}

#[derive(Default)]
pub(super) struct Pending {
    pub(super) records: Vec<Got>,
    pub(super) to: Option<Checkpoint>,
    pub(super) missed: Option<log::Missed>,
}

impl Hand {
    pub(super) fn put(&mut self, number: u64) -> Result<(), Error> {
        self.put.push(number);
        let (payload, key) = (payload(number), key(number));
        let record = Fresh { payload: &payload, key: key.as_ref().map(String::as_bytes), ..Fresh::default() };
        self.producer.put_one(record, None)
    }

    /// A part of the source that has a name.
    pub(super) fn put_source(&mut self, part: std::ops::Range<u64>) -> Result<(), Error> {
        let numbers: Vec<u64> = part.clone().map(|at| SOURCE * ORIGIN + at).collect();
        let bytes: Vec<(Vec<u8>, Option<String>)> =
            numbers.iter().map(|&number| (payload(number), key(number))).collect();
        let records = part.clone().zip(&bytes).map(|(at, (payload, key))| {
            Ok((at, Fresh { payload, key: key.as_ref().map(String::as_bytes), ..Fresh::default() }))
        });
        self.put.extend(&numbers);
        self.producer.put_from(records, part.end)?;
        self.producer.flush()
    }
}

impl Follower {
    pub(super) fn new(stream: Stream) -> Result<Self, Error> {
        let reader = StreamReader::open(stream, Start::TrimHorizon, Until::Never, Order::Shard, None)?;
        Ok(Self { reader, seen: BTreeSet::new(), ended: BTreeSet::new(), missed: Vec::new() })
    }

    pub(super) fn go_on(&mut self) -> Result<(), Error> {
        self.reader.refresh()?;
        loop {
            match self.reader.poll(&mut records)? {
                Polled::Frame(shard, all) => {
                    let parents = self.reader.stream().manifest().shard(shard).map(|info| &info.parents);
                    let known =
                        |parent: &&u32| self.reader.stream().manifest().shard(ShardId(**parent)).is_some();
                    let open = parents
                        .into_iter()
                        .flatten()
                        .filter(known)
                        .find(|parent| !self.ended.contains(parent));
                    assert_eq!(open, None, "{shard} is read before this one of its parents");
                    for got in all {
                        assert!(self.seen.insert((shard.0, got.index)), "{shard}: {got:?} comes twice");
                    }
                }
                Polled::ShardEnd(shard) => drop(self.ended.insert(shard.0)),
                Polled::Missed(shard, missed) => self.missed.push((shard.0, missed)),
                Polled::Tail | Polled::End => return Ok(()),
                Polled::Damage(shard, damage) => panic!("{shard}: {damage:?}"),
            }
        }
    }

    pub(super) fn park(&mut self) {
        let shards: Vec<ShardId> = self.reader.shards().collect();
        for shard in shards {
            self.reader.cursor(shard).into_iter().for_each(ShardCursor::park);
        }
    }
}

impl Eater {
    pub(super) fn new(stream: Stream) -> Result<(Self, ConsumerState), Error> {
        let consumer = Consumer::open_or_create(&stream, "c", Start::TrimHorizon, None)?;
        let state = consumer.state()?;
        let reader = StreamReader::empty(stream, Until::Never, Order::Turns);
        let mut eater = Self { consumer, reader, pending: BTreeMap::new() };
        eater.assign()?;
        Ok((eater, state))
    }

    /// Takes up the shards that may be read, as a worker does that is alone.
    pub(super) fn assign(&mut self) -> Result<(), Error> {
        self.reader.reload()?;
        let manifest = self.reader.stream().manifest().clone();
        let state = self.consumer.update(|state| {
            for info in &manifest.shards {
                state.shards.entry(info.shard).or_insert_with(|| ShardState::at(Checkpoint::START));
            }
            state.shards.retain(|&shard, _| manifest.shard(ShardId(shard)).is_some());
            Ok(state.clone())
        })?;
        for info in &manifest.shards {
            let active = self.reader.shards().any(|shard| shard == info.id());
            if !active
                && lease::is_ready(&state, &manifest, info.shard)
                && let Some(place) = state.shards[&info.shard].checkpoint.place()
            {
                self.reader.add(info, place)?;
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self, frames: u64) -> Result<u64, Error> {
        self.reader.refresh()?;
        for taken in 0..frames {
            match self.reader.poll(&mut records)? {
                Polled::Frame(shard, all) => {
                    let pending = self.pending.entry(shard.0).or_default();
                    pending.to = all.last().map(|got| Checkpoint::Index { index: got.index + 1 });
                    pending.records.extend(all);
                }
                Polled::ShardEnd(shard) => {
                    self.pending.entry(shard.0).or_default().to = Some(Checkpoint::ShardEnd);
                }
                Polled::Missed(shard, missed) => {
                    let pending = self.pending.entry(shard.0).or_default();
                    pending.to = Some(Checkpoint::Index { index: missed.to });
                    pending.missed = Some(missed);
                }
                Polled::Tail | Polled::End => return Ok(taken),
                Polled::Damage(shard, damage) => panic!("{shard}: {damage:?}"),
            }
        }
        Ok(frames)
    }
}

/// The records of a frame that are to be delivered.
fn records(delivery: &Delivery<'_>) -> Vec<Got> {
    let batch = delivery.frame.records().unwrap();
    let header = &delivery.frame.header;
    let numbered = batch.iter().zip(header.first..).skip(delivery.skip).take(delivery.take - delivery.skip);
    numbered
        .map(|(record, index)| Got { index, number: number(record.payload), arrival_us: header.arrival_us })
        .collect()
}

/// The records of the next frame, or nothing at the tail.
pub(super) fn frame(reader: &mut StreamReader) -> Result<Option<(u32, Vec<Got>)>, Error> {
    loop {
        match reader.poll(&mut records)? {
            Polled::Frame(shard, all) => return Ok(Some((shard.0, all))),
            Polled::ShardEnd(_) => {}
            Polled::Tail | Polled::End => return Ok(None),
            other => panic!("{other:?}"),
        }
    }
}
