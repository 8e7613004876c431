//! What becomes of a record between its source and its object.

use super::Backup;
use crate::hose::chunk::Origin;
use crate::hose::failure::{ErrorType, Failure};
use crate::hose::gather::{FailedRecord, Gather, PartitionKey};
use crate::hose::naming::{Asked, Namer};
use crate::hose::source::{Incoming, Sink};
use crate::hose::stage::{Chain, Fate, Item};
use crate::hose::track::{Among, ObjectId, Positions, Tracker};
use crate::record::ShardId;

/// Records are given to the stages in lots of at most this many bytes, or as many as this: what the service hands to a
/// function at once, and little enough that nothing waits long.
const LOT_BYTES: usize = 1 << 20;
const LOT_ITEMS: usize = 4096;

/// What records go into.
pub(super) struct State {
    pub(super) tracker: Tracker,
    pub(super) gather: Gather,
    pub(super) namer: Namer,
    pub(super) chain: Chain,
    pub(super) lot: Vec<Item>,
    pub(super) lot_bytes: usize,
    pub(super) failed: Vec<FailedRecord>,
    /// Records that failed before they had an object are in this one, which goes with the next batch.
    pub(super) failed_object: ObjectId,
    /// What the replayed batch does not have.
    pub(super) limit: Option<Positions>,
    pub(super) dropped: u64,
    pub(super) read: Read,
    pub(super) backup: Option<Backup>,
    pub(super) tee: Option<Box<dyn std::io::Write>>,
}

/// What was read since it was last counted.
#[derive(Default)]
pub(super) struct Read {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) units: u64,
}

/// The service bills each record in units of this.
pub(super) const METERED_BYTES: u64 = 5 << 10;

/// An id that no open object has.
pub(super) const FAILED_FIRST: u64 = 1 << 62;

impl Sink for State {
    fn take(&mut self, record: &Incoming<'_>) -> anyhow::Result<()> {
        self.read.records += 1;
        self.read.bytes += record.payload.len() as u64;
        self.read.units += (record.payload.len() as u64).div_ceil(METERED_BYTES);
        if let Some(tee) = &mut self.tee
            && self.tracker.is_new(record.origin.shard, record.origin.index)
            && tee.write_all(record.payload).and_then(|()| tee.write_all(b"\n")).is_err()
        {
            self.tee = None;
        }
        // What an earlier run had read is in its copies.
        if let Some(backup) = &mut self.backup
            && self.tracker.is_new(record.origin.shard, record.origin.index)
            && self.limit.as_ref().is_none_or(|limit| is_planned_place(limit, &record.origin))
        {
            backup.add(record)?;
        }
        if let Some(limit) = &self.limit
            && !is_planned(limit, &record.origin)
        {
            return Ok(());
        }
        if self.is_direct() {
            let asked = Asked { origin: &record.origin, payload: record.payload, transform: None };
            return match self.namer.partition_of(&asked)? {
                Ok(partition) => {
                    let object = self.gather.object(&partition, &record.origin);
                    self.tracker.note(&record.origin, 1, object);
                    self.gather.put(object, &record.origin, record.payload)
                }
                Err(failure) => {
                    self.fail(record.origin, record.key.map(Into::into), record.payload.to_vec(), failure);
                    Ok(())
                }
            };
        }
        self.lot_bytes += record.payload.len();
        self.lot.push(Item {
            origin: record.origin,
            key: record.key.map(Into::into),
            data: record.payload.to_vec(),
            partition_keys: None,
        });
        if self.lot_bytes >= LOT_BYTES || self.lot.len() >= LOT_ITEMS { self.process() } else { Ok(()) }
    }

    fn is_new(&self, shard: ShardId, first: u64) -> bool {
        self.limit.is_none() && self.tracker.is_new(shard, first)
    }

    fn wants(&self, shard: ShardId, index: u64, sub: Option<u64>) -> bool {
        // A stage that takes records apart counts their parts anew: which of them are wanted is known behind it.
        self.tracker.wants(shard, index, sub.filter(|_| self.chain.is_empty()))
    }

    fn leave(&mut self, origin: &Origin) {
        // While a batch is done again it is known what it has.
        if self.limit.is_none() {
            self.tracker.note(origin, 1, ObjectId::NEVER);
        }
    }

    fn read_to(&mut self, shard: ShardId, index: u64) {
        self.tracker.read_to(shard, index);
    }

    fn refuse(&mut self, record: &Incoming<'_>, reason: &str) -> anyhow::Result<()> {
        let failure = Failure::new(ErrorType::Processing, "Input.InvalidRecord", reason);
        // Not noted: what has no place says nothing of what was delivered of a shard.
        self.push_failed(record.origin, record.key.map(Into::into), record.payload.to_vec(), failure);
        Ok(())
    }
}

/// Whether a record comes before the end of a plan, delivered with it or left.
fn is_planned_place(plan: &Positions, origin: &Origin) -> bool {
    plan.get(&origin.shard.0).is_some_and(|position| origin.index < position.to)
}

/// Whether a record is one of the batch that ends where `plan` says; one of which parts are, is.
fn is_planned(plan: &Positions, origin: &Origin) -> bool {
    plan.get(&origin.shard.0).is_some_and(|position| {
        origin.index < position.to && position.is_left(origin.index, origin.sub) != Among::Yes
    })
}

impl State {
    /// Whether a record goes straight into its object.
    fn is_direct(&self) -> bool {
        self.chain.is_empty() && !self.namer.asks_many()
    }

    /// Whether what came out of the stages is to be delivered with what is gathered now.
    fn is_due(&self, origin: &Origin) -> bool {
        self.tracker.wants(origin.shard, origin.index, origin.sub)
            && self.limit.as_ref().is_none_or(|limit| is_planned(limit, origin))
    }

    /// The partitions of the records that go on, in their order.
    fn partitions(&mut self, fates: &[Fate]) -> anyhow::Result<Vec<Result<PartitionKey, Failure>>> {
        let asked: Vec<Asked<'_>> = fates
            .iter()
            .filter_map(|fate| match fate {
                Fate::Kept(item) => Some(Asked {
                    origin: &item.origin,
                    payload: &item.data,
                    transform: item.partition_keys.as_deref(),
                }),
                _ => None,
            })
            .collect();
        let mut partitions = Vec::with_capacity(asked.len());
        self.namer.partitions(&asked, &mut |_, partition| partitions.push(partition))?;
        Ok(partitions)
    }

    fn fail(&mut self, origin: Origin, key: Option<Box<str>>, data: Vec<u8>, failure: Failure) {
        self.tracker.note(&origin, 1, self.failed_object);
        self.push_failed(origin, key, data, failure);
    }

    fn push_failed(&mut self, origin: Origin, key: Option<Box<str>>, data: Vec<u8>, failure: Failure) {
        self.failed.push(FailedRecord { origin, data, key, failure, details: Vec::new() });
    }

    /// Gives the records that have gathered to the stages, and what comes out of them to their objects.
    pub(super) fn process(&mut self) -> anyhow::Result<()> {
        if self.lot.is_empty() {
            return Ok(());
        }
        self.lot_bytes = 0;
        let fates = self.chain.run(std::mem::take(&mut self.lot))?;
        let mut partitions = self.partitions(&fates)?.into_iter();
        let mut before: Option<(Origin, ObjectId)> = None;
        let is_whole = self.chain.is_indivisible();
        let mut whole = Vec::new();
        for fate in fates {
            let partition = if matches!(fate, Fate::Kept(_)) { partitions.next() } else { None };
            if !self.is_due(&fate.origin()) {
                continue;
            }
            let (origin, object) = match (fate, partition) {
                (Fate::Kept(item), Some(Ok(partition))) => {
                    let object = self.gather.object(&partition, &item.origin);
                    self.gather.put(object, &item.origin, &item.data)?;
                    (item.origin, object)
                }
                (Fate::Kept(item), Some(Err(failure))) | (Fate::Failed(item, failure), _) => {
                    let Item { origin, data, key, .. } = item;
                    self.failed.push(FailedRecord { origin, data, key, failure, details: Vec::new() });
                    (origin, self.failed_object)
                }
                (Fate::Kept(item), None) => {
                    anyhow::bail!("record {} has no partition", item.origin.sequence())
                }
                (Fate::Dropped(origin), _) => {
                    self.dropped += 1;
                    (origin, ObjectId::NONE)
                }
            };
            if is_whole {
                whole.push((origin, object));
                continue;
            }
            match before {
                // One record has become several: they are delivered together.
                Some((same, other)) if same == origin => self.tracker.link(other, object),
                _ => self.tracker.note(&origin, 1, object),
            }
            before = Some((origin, object));
        }
        // All of it is delivered together, and what was left out is not done with before.
        let first = whole.iter().map(|(_, object)| *object).find(|object| *object != ObjectId::NONE);
        for (origin, object) in whole {
            let anchor = first.unwrap_or(ObjectId::NONE);
            let object = if object == ObjectId::NONE { anchor } else { object };
            self.tracker.note(&origin, 1, object);
            self.tracker.link(anchor, object);
        }
        Ok(())
    }
}
