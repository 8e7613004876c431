//! A stream, read under a consumer's name: all its shards, parents before children, by this process alone.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Incoming, Sink, Source, Step};
use crate::codec::kpl;
use crate::hose::chunk::Origin;
use crate::hose::track::{Left, Positions, ShardPosition};
use crate::record::{INDEX_MAX, ShardId};
use crate::stream::{
    Checkpoint, Consumer, Delivery, FAILOVER_DEFAULT, Order, Place, Polled, Progress, Stream, StreamReader,
    Until, Waiter, Worker,
};
use crate::sys::Locks;

/// So often the leases are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// So often it is looked at whether a stream is still being filled.
const GLANCE: Duration = Duration::from_millis(50);
/// The file whose lock says that a delivery is at work, beside the consumer's state.
const LOCK_NAME: &str = "khose.lock";
/// A writer stamps a record before it is visible; after this it is there or will be stamped later.
const STAMP_US: i64 = 1_000_000;

/// Another process is at work on the same delivery.
#[derive(Debug, thiserror::Error)]
#[error("consumer `{0}` is at work already: another khose delivers for it")]
pub struct Busy(pub String);

/// Reads a stream for a consumer.
pub struct StreamSource {
    reader: StreamReader,
    worker: Worker,
    waiter: Option<Waiter>,
    wake: BorrowedFd<'static>,
    until: Until,
    ignores_end: bool,
    /// What a look at the leases brought, to be told one by one.
    told: VecDeque<Step>,
    /// What the consumer knows of each shard: where it stood, and bytes read since.
    known: BTreeMap<ShardId, Known>,
    looked: Instant,
    aggregates: bool,
    /// Whether what fills the stream has ended, where that ends the delivery too.
    filled: Option<Arc<AtomicBool>>,
    looked_last: bool,
    /// Held as long as the delivery is at work.
    _lock: Arc<dyn Locks>,
}

#[derive(Default)]
struct Known {
    checkpoint: Option<Checkpoint>,
    low: u64,
    bytes: u64,
}

impl StreamSource {
    /// Joins the consumer. With `follow` it goes on at the end.
    ///
    /// # Errors
    /// [`Busy`] where another delivery is at work for this consumer.
    pub fn join(
        consumer: Consumer,
        stream: Stream,
        follow: bool,
        until: Until,
        wake: BorrowedFd<'static>,
    ) -> anyhow::Result<Self> {
        let path = consumer.dir().join(LOCK_NAME);
        let lock = stream.system().disk.create_locks(&path)?;
        if !lock.try_lock(0, true)? {
            return Err(Busy(consumer.name().to_owned()).into());
        }
        StreamReader::check_until(&stream, until)?;
        let waiter = follow.then(|| {
            let mut waiter = Waiter::new(&stream);
            waiter.also(consumer.dir());
            waiter
        });
        let worker = Worker::join(consumer, follow, FAILOVER_DEFAULT)?;
        let order = if follow { Order::Turns } else { Order::Shard };
        Ok(Self {
            reader: StreamReader::empty(stream, until, order),
            worker,
            waiter,
            wake,
            until,
            ignores_end: false,
            told: VecDeque::new(),
            known: BTreeMap::new(),
            looked: Instant::now(),
            aggregates: true,
            filled: None,
            looked_last: false,
            _lock: lock,
        })
    }

    /// Ends where the stream does once this is set: whatever fills the stream has ended.
    #[must_use]
    pub fn until_filled(self, filled: Arc<AtomicBool>) -> Self {
        Self { filled: Some(filled), ..self }
    }

    /// The stream.
    pub fn stream(&self) -> &Stream {
        self.reader.stream()
    }

    /// What the tails of all shards mean: whether there may be more to come before this delivery ends.
    fn tail(&self) -> Step {
        let now_us = self.reader.stream().system().clock.now_us();
        match self.until {
            _ if self.ignores_end => Step::Tail,
            Until::Time(end) if now_us > end.saturating_add(STAMP_US) => Step::End,
            _ if self.reader.has_stopped() && self.reader.count() == 0 => Step::End,
            _ => Step::Tail,
        }
    }

    fn assign(&mut self) -> anyhow::Result<bool> {
        self.looked = Instant::now();
        let found = self.worker.assign()?;
        for &shard in &found.lost {
            self.reader.remove(shard);
            self.known.remove(&shard);
            self.told.push_back(Step::Lost(shard));
        }
        for &(shard, missed) in &found.missed {
            self.told.push_back(match missed {
                Some(missed) => Step::Missed(shard, missed),
                None => Step::MissedShard(shard),
            });
        }
        if !found.taken.is_empty() {
            self.reader.reload()?;
        }
        for (shard, checkpoint) in &found.taken {
            let Some(low) = checkpoint.next_index() else { continue };
            self.known.insert(*shard, Known { checkpoint: Some(*checkpoint), low, bytes: 0 });
            self.told.push_back(Step::Begun(*shard, position(checkpoint, low)));
        }
        Ok(!found.taken.is_empty())
    }
}

impl Source for StreamSource {
    fn poll(&mut self, sink: &mut dyn Sink) -> anyhow::Result<Step> {
        if self.worker.was_silent() || self.waiter.is_some() && self.looked.elapsed() >= LOOK {
            self.assign()?;
        }
        if let Some(step) = self.told.pop_front() {
            return Ok(step);
        }
        let aggregates = self.aggregates;
        let polled = self.reader.poll(&mut |delivery| give(delivery, aggregates, sink))?;
        Ok(match polled {
            Polled::Frame(shard, given) => {
                if let Some(known) = self.known.get_mut(&shard) {
                    known.bytes += given?;
                }
                Step::Read
            }
            Polled::Tail if self.filled.as_ref().is_some_and(|filled| filled.load(Ordering::SeqCst)) => {
                if self.looked_last {
                    return Ok(Step::End);
                }
                // What came between the last look and the end.
                self.looked_last = true;
                self.reader.refresh()?;
                Step::Read
            }
            Polled::Tail | Polled::End => self.tail(),
            Polled::ShardEnd(shard) => Step::Ended(shard),
            Polled::Damage(shard, damage) => Step::Damage(shard, damage),
            Polled::Missed(shard, missed) => Step::Missed(shard, missed),
        })
    }

    fn wait(&mut self, most: Option<Duration>) -> anyhow::Result<()> {
        // Nothing wakes it when what fills the stream ends.
        let most = if self.filled.is_some() { Some(most.unwrap_or(GLANCE).min(GLANCE)) } else { most };
        match &mut self.waiter {
            Some(waiter) => drop(waiter.wait(&mut self.reader, self.wake, most)?),
            None => std::thread::sleep(most.unwrap_or(LOOK).min(LOOK)),
        }
        Ok(())
    }

    fn begin(&mut self, shard: ShardId, index: u64) -> anyhow::Result<()> {
        self.reader.remove(shard);
        if let Some(info) = self.reader.stream().manifest().shard(shard).cloned() {
            self.reader.add(&info, Place::Index(index))?;
        }
        Ok(())
    }

    fn pause(&mut self, shard: ShardId) {
        self.reader.remove(shard);
    }

    fn make_durable(&mut self) -> anyhow::Result<()> {
        let shards: Vec<ShardId> = self.reader.shards().collect();
        for shard in shards {
            self.reader.make_durable(shard)?;
        }
        Ok(())
    }

    fn commit(&mut self, positions: &Positions) -> anyhow::Result<()> {
        let mut progress = Vec::new();
        for (&shard, position) in positions {
            let shard = ShardId(shard);
            let Some(known) = self.known.get_mut(&shard) else { continue };
            let low = position.low();
            let to = if position.is_done() { Checkpoint::ShardEnd } else { Checkpoint::Index { index: low } };
            if known.checkpoint.is_some_and(|checkpoint| checkpoint >= to) {
                continue;
            }
            let (records, bytes) = (low.saturating_sub(known.low), std::mem::take(&mut known.bytes));
            known.checkpoint = Some(to);
            known.low = low;
            progress.push(Progress { shard, to, records, bytes });
        }
        for shard in self.worker.commit(&progress)? {
            self.reader.remove(shard);
            self.known.remove(&shard);
            self.told.push_back(Step::Lost(shard));
        }
        Ok(())
    }

    fn look(&mut self) -> anyhow::Result<bool> {
        let more = self.assign()?;
        Ok(more || self.worker.suspects())
    }

    fn has_places(&self) -> bool {
        true
    }

    fn has_shard(&self, shard: ShardId) -> bool {
        self.reader.stream().manifest().shard(shard).is_some()
    }

    fn ignore_end(&mut self, on: bool) {
        self.ignores_end = on;
        self.reader.set_until(if on { Until::Never } else { self.until });
    }

    fn leave(self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.worker.leave()?)
    }
}

/// Where a checkpoint says that a delivery stands. One within an aggregate was left by another program.
pub(in crate::hose) fn position(checkpoint: &Checkpoint, low: u64) -> ShardPosition {
    match checkpoint.within() {
        Some((index, sub)) => {
            let rest = vec![(sub + 1, u64::MAX - sub - 1)];
            let left = vec![Left { first: index, count: 1, parts: Some(rest) }];
            ShardPosition { to: index + 1, end: false, left }
        }
        None => ShardPosition { to: low, ..ShardPosition::default() },
    }
}

/// Gives the records of a frame, and answers how many bytes of data that were.
pub(in crate::hose) fn give(
    delivery: &Delivery<'_>,
    aggregates: bool,
    sink: &mut dyn Sink,
) -> anyhow::Result<u64> {
    let header = &delivery.frame.header;
    let shard = delivery.shard;
    let mut origin = Origin {
        shard,
        shard_created_s: delivery.shard_created_s,
        index: header.first,
        sub: None,
        arrival_us: header.arrival_us,
    };
    let view = delivery.frame.records()?;
    let is_new = sink.is_new(shard, header.first);
    let mut bytes = 0;
    for (i, stored) in view.iter().enumerate().take(delivery.take).skip(delivery.skip) {
        origin.index = header.first + i as u64;
        bytes += stored.payload.len() as u64;
        let record = Incoming {
            origin,
            key: stored.key,
            timestamp_us: stored.timestamp_us,
            attributes: stored.attributes,
            payload: stored.payload,
        };
        if aggregates && let Some(aggregate) = kpl::deaggregate(stored.payload) {
            for (user, sub) in aggregate.iter().zip(0..) {
                if is_new || sink.wants(shard, origin.index, Some(sub)) {
                    let origin = Origin { sub: Some(sub), ..origin };
                    sink.take(&Incoming { origin, key: Some(user.key), payload: user.data, ..record })?;
                }
            }
        } else if is_new || sink.wants(shard, origin.index, None) {
            sink.take(&record)?;
        }
    }
    sink.read_to(shard, (header.first + delivery.take as u64).min(INDEX_MAX));
    Ok(bytes)
}
