//! Reading for a consumer: the shards that this process holds, as they come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::args::GetArgs;

use super::until;
use crate::cli::meter::Meter;
use crate::cli::patience::Waiting;
use crate::cli::signal::Shutdown;
use crate::cli::trouble::Trouble;
use crate::cli::value::Position;
use crate::record::ShardId;
use crate::stream::{Consumer, Error, Order, Stream, StreamReader, Until, Waiter, Worker};

/// So often the leases are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// And no more often than this, however much happens.
const LOOK_LEAST: Duration = Duration::from_millis(100);

/// A worker and the reader of its shards.
pub(super) struct Member {
    pub(super) worker: Worker,
    pub(super) reader: StreamReader,
    pub(super) until: Until,
    waiter: Option<Waiter>,
    looked: Instant,
    /// Where a shard begins inside an aggregate: its index and the last of its records that is done.
    pub(super) within: BTreeMap<ShardId, (u64, u64)>,
    /// Shards to be handed back.
    leaving: BTreeSet<ShardId>,
    shutdown: &'static Shutdown,
}

/// What a look at the leases changed.
pub(super) struct Change {
    /// Whether there are shards to read that were not there before.
    pub(super) more: bool,
    /// Shards that are not this worker's any more: what is in hand of them must not be committed.
    pub(super) lost: Vec<ShardId>,
}

impl Member {
    /// Joins the consumer, which is made where it is not there yet.
    pub(super) fn join(
        args: &GetArgs,
        name: &str,
        stream: Stream,
        shutdown: &'static Shutdown,
    ) -> Result<Self, Error> {
        let follow = args.follow.follow;
        let now_us = stream.system().clock.now_us();
        let until = until(args.range.until, now_us)?;
        StreamReader::check_until(&stream, until)?;
        let from = args.range.from.unwrap_or(if follow { Position::Latest } else { Position::TrimHorizon });
        let consumer = Consumer::open_or_create(
            &stream,
            name,
            from.start(now_us),
            Some(Arc::new(Waiting { program: "kget", shutdown })),
        )?;
        let waiter = follow.then(|| {
            let mut waiter = Waiter::new(&stream);
            waiter.also(consumer.dir());
            waiter
        });
        let worker = Worker::join(consumer, follow, args.consumer.failover)?;
        let order = if follow { Order::Turns } else { Order::Shard };
        Ok(Self {
            worker,
            reader: StreamReader::empty(stream, until, order),
            until,
            waiter,
            looked: Instant::now(),
            within: BTreeMap::new(),
            leaving: BTreeSet::new(),
            shutdown,
        })
    }

    /// Whether the read has come to its end in all that this worker holds. Children of what was left there do not come
    /// into being for this consumer; what another worker holds is the other's.
    pub(super) fn is_over(&self) -> bool {
        self.reader.has_stopped() && self.reader.count() == 0
    }

    /// Whether the leases are to be looked at before anything else is read.
    pub(super) fn is_due(&self) -> bool {
        self.looked.elapsed() >= LOOK || self.worker.was_silent()
    }

    /// Looks at the leases.
    pub(super) fn look(&mut self, trouble: &mut Trouble, meter: &Meter) -> Result<Change, Error> {
        self.looked = Instant::now();
        let found = self.worker.assign()?;
        for &shard in &found.lost {
            self.drop_shard(shard);
        }
        for &(shard, missed) in &found.missed {
            match missed {
                Some(missed) => trouble.missed(shard, missed, meter),
                None => trouble.missed_shard(shard, meter),
            }
        }
        if !found.taken.is_empty() {
            self.reader.reload()?;
        }
        for (shard, checkpoint) in &found.taken {
            let info = self.reader.stream().manifest().shard(*shard).cloned();
            if let (Some(info), Some(place)) = (info, checkpoint.place()) {
                self.reader.add(&info, place)?;
                self.within.remove(shard);
                self.within.extend(checkpoint.within().map(|within| (*shard, within)));
            }
        }
        for shard in found.surplus {
            if self.leaving.insert(shard) {
                // What was read of it is about to be noted down.
                self.reader.make_durable(shard)?;
                self.reader.remove(shard);
            }
        }
        Ok(Change { more: !found.taken.is_empty(), lost: found.lost })
    }

    /// A shard is another's now.
    pub(super) fn drop_shard(&mut self, shard: ShardId) {
        self.reader.remove(shard);
        self.within.remove(&shard);
        self.leaving.remove(&shard);
    }

    /// Hands back the shards that are to be, those with nothing `in_hand`.
    pub(super) fn hand_back(&mut self, in_hand: impl Fn(ShardId) -> bool) -> Result<(), Error> {
        let done: Vec<ShardId> = self.leaving.iter().copied().filter(|&shard| !in_hand(shard)).collect();
        self.worker.release(&done)?;
        self.leaving.retain(|shard| !done.contains(shard));
        Ok(())
    }

    /// Waits for something to change, at most for `most`; a follower comes back to look at everything now and then.
    pub(super) fn wait(&mut self, most: Option<Duration>) -> Result<(), Error> {
        let Some(waiter) = &mut self.waiter else {
            std::thread::sleep(most.unwrap_or(LOOK_LEAST).min(LOOK_LEAST));
            return self.reader.refresh();
        };
        let elsewhere = waiter.wait(&mut self.reader, self.shutdown.fd(), most)?;
        // The consumer's own directory, perhaps: a lease that was handed back is taken up at once.
        if elsewhere && self.looked.elapsed() >= LOOK_LEAST {
            self.looked = Instant::now().checked_sub(LOOK).unwrap_or(self.looked);
        }
        Ok(())
    }
}
