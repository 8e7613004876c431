//! A delivery: the loop that reads, gathers, ships and commits.
//!
//! The promise is the module's ([`super`]): each record is delivered once. What this loop does for it: nothing is shipped
//! before it is durable in its stream; a batch's plan says where each shard stands once the batch is delivered, the
//! records that wait in open objects excepted; and the consumer's checkpoint follows the commit, never the other way
//! round.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use uuid::Uuid;

use super::cancel::Cancel;
use super::chunk::Origin;
use super::courier::{Courier, CourierError, Reach, Runtime, Shipment, Told};
use super::dest::{Batch, DeliveryError, Parcel};
use super::failure::{ErrorType, Failure};
use super::format::Format;
use super::format::body::{Body, BodyWriter, Scratch};
use super::format::columns::Columns;
use super::gather::{Extents, FailedRecord, Finished, Gather, Hints, PartitionKey};
use super::ledger::{Entry, FORM, ObjectNote, Standing, Totals};
use super::metrics::Metrics;
use super::naming::{Asked, Namer};
use super::source::{Incoming, Sink, Source, Step};
use super::stage::{Chain, Fate, Item};
use super::track::{Among, ObjectId, Positions, ShardPosition, Tracker};
use crate::codec::Encode as _;
use crate::codec::envelope::EnvelopeEncoder;
use crate::record::{Record, ShardId};
use crate::stream::{Damage, Missed};
use crate::sys::System;

/// Records are given to the stages in lots of at most this many bytes, or as many as this: what the service hands to a
/// function at once, and little enough that nothing waits long.
const LOT_BYTES: usize = 1 << 20;
const LOT_ITEMS: usize = 4096;
/// More stretches than this are not kept in memory (32 bytes each): the open objects are delivered, all of them.
const STRETCHES_MAX: usize = 4 << 20;
/// So often the clock is looked at while records come without a pause.
const TICK: Duration = Duration::from_millis(50);
/// A batch that is on its way when a signal comes has so long to arrive.
const GRACE: Duration = Duration::from_secs(10);

/// One object was to be written, and its columns have changed on the way: it must be begun anew with these.
#[derive(Debug, thiserror::Error)]
#[error("the columns have changed on the way to `{0}`")]
pub struct ColumnsChanged(pub Arc<crate::table::Schema>);

/// Told what happens, for a person.
pub trait Reporter {
    /// A damaged stretch was met. An error ends the run.
    fn damage(&mut self, shard: ShardId, damage: &Damage) -> anyhow::Result<()>;
    /// Records are gone.
    fn missed(&mut self, shard: ShardId, missed: Missed);
    /// A shard is gone.
    fn missed_shard(&mut self, shard: ShardId);
    /// Something else.
    fn say(&mut self, text: &str);
    /// So much was read.
    fn read(&mut self, records: u64, bytes: u64);
    /// A batch was delivered.
    fn delivered(&mut self, entry: &Entry, metrics: &Metrics);
    /// The request to finish, if one has come.
    fn stop(&self) -> Option<anyhow::Error>;
    /// Whether credentials are to be read again. Asked now and then.
    fn reload(&self) -> bool;
    /// Called now and then while the run goes on.
    fn tick(&mut self, metrics: &Metrics);
}

/// What a delivery is.
pub struct Settings {
    /// The machine.
    pub system: System,
    /// The stream's name, and its UUID.
    pub stream: (String, Uuid),
    /// The delivery's name.
    pub name: String,
    /// Whether to go on at the end.
    pub follow: bool,
    /// When objects end.
    pub hints: Hints,
    /// The format of objects; none where records are delivered as they are.
    pub format: Option<Arc<dyn Format>>,
    /// Where an inferred schema is kept, in the ledger's store.
    pub schema: Option<String>,
    /// The destination is one object of this name, which is written though there may be no record.
    pub one_object: Option<String>,
    /// Copies of what is read, if they are kept.
    pub backup: Option<Backup>,
    /// Where what is read is passed on. Delivering goes on when nobody takes it there.
    pub tee: Option<Box<dyn std::io::Write>>,
    /// How records are taken apart, shortened.
    pub units: String,
    /// The settings, shortened.
    pub fingerprint: String,
    /// Where bodies are written.
    pub scratch: Scratch,
}

/// What a delivery works with.
pub struct Parts {
    /// What is done to records first.
    pub chain: Chain,
    /// Names for objects.
    pub namer: Namer,
    /// Where records come from.
    pub source: Box<dyn Source>,
    /// What its thread reaches.
    pub reach: Reach,
    /// What is known of it from the ledger.
    pub standing: Standing,
    /// The runtime of its thread.
    pub runtime: Runtime,
    /// What its destination was given, to be asked to finish.
    pub cancel: Cancel,
}

/// A delivery at work.
pub struct Delivery<'r> {
    settings: Settings,
    source: Box<dyn Source>,
    courier: Courier,
    reporter: &'r mut dyn Reporter,
    state: State,
    standing: Standing,
    number: u64,
    version: u64,
    totals: Totals,
    /// Of this run.
    pub metrics: Metrics,
    ticked: Instant,
    /// Shards that have ended and wait for their commit: their children wait as well.
    ends: BTreeSet<ShardId>,
    /// A batch that a killed run had planned, while it is done again.
    replaying: Option<Entry>,
    /// A batch that a killed run had planned of a pipe, which cannot be read twice: the first batch takes its place,
    /// whatever is in it.
    superseded: Option<Entry>,
    /// Where each shard stood in the last commit, for shards not taken up yet.
    stood: Positions,
    /// Where the delivery began in each shard.
    began: BTreeMap<u32, u64>,
    /// Shards that the batch that is done again does not have: they begin behind it.
    deferred: Vec<(ShardId, ShardPosition)>,
    /// Where the consumer stands in the shards of the batch that is done again: somebody may have moved it.
    resumed: BTreeMap<u32, u64>,
    /// Records of the batch that is done again are gone from the stream.
    is_cut: bool,
    /// Whether it was said that the destination has more than the consumer knows of.
    told_ahead: bool,
    shipped: Instant,
    /// When the oldest record of the batch that is on its way arrived.
    on_its_way_us: Option<i64>,
    /// The columns as they are kept beside the destination.
    kept_schema: Option<String>,
}

/// What records go into.
struct State {
    tracker: Tracker,
    gather: Gather,
    namer: Namer,
    chain: Chain,
    lot: Vec<Item>,
    lot_bytes: usize,
    failed: Vec<FailedRecord>,
    /// Records that failed before they had an object are in this one, which goes with the next batch.
    failed_object: ObjectId,
    /// What the replayed batch does not have.
    limit: Option<Positions>,
    dropped: u64,
    read: Read,
    backup: Option<Backup>,
    tee: Option<Box<dyn std::io::Write>>,
}

/// Copies of what is read, on their way to a place of their own.
pub struct Backup {
    /// The envelopes.
    pub encoder: EnvelopeEncoder,
    /// Where they gather.
    pub scratch: Scratch,
    writer: Option<BodyWriter>,
    line: Vec<u8>,
    records: u64,
}

impl Backup {
    /// Nothing yet.
    pub fn new(encoder: EnvelopeEncoder, scratch: Scratch) -> Self {
        Self { encoder, scratch, writer: None, line: Vec::new(), records: 0 }
    }

    fn add(&mut self, record: &Incoming<'_>) -> std::io::Result<()> {
        self.line.clear();
        self.encoder.encode(
            &Record {
                sequence: record.origin.sequence(),
                sub_sequence: record.origin.sub,
                arrival_us: record.origin.arrival_us,
                timestamp_us: record.timestamp_us,
                key: record.key,
                explicit_hash: None,
                attributes: record.attributes,
                payload: record.payload,
            },
            &mut self.line,
        );
        self.records += 1;
        self.writer.get_or_insert_with(|| self.scratch.begin()).write_all(&self.line)
    }

    fn take(&mut self) -> std::io::Result<Option<(Body, u64)>> {
        let records = std::mem::take(&mut self.records);
        self.writer.take().map(|writer| Ok((writer.finish()?, records))).transpose()
    }
}

/// What was read since it was last counted.
#[derive(Default)]
struct Read {
    records: u64,
    bytes: u64,
    units: u64,
}

/// The service bills each record in units of this.
const METERED_BYTES: u64 = 5 << 10;

/// An id that no open object has.
const FAILED_FIRST: u64 = 1 << 62;

impl<'r> Delivery<'r> {
    /// Takes up a delivery where it stands.
    pub fn begin(
        mut settings: Settings,
        parts: Parts,
        reporter: &'r mut dyn Reporter,
    ) -> anyhow::Result<Self> {
        let Parts { chain, mut namer, source, reach, standing, runtime, cancel } = parts;
        let gather = Gather::new(settings.format.clone(), settings.hints, settings.scratch.clone())?;
        let last = standing.last.as_ref();
        let version = match last {
            Some(last) if last.settings == settings.fingerprint => last.version,
            Some(last) => last.version + 1,
            None => 1,
        };
        namer.set_version(version);
        // What is left as a whole can be taken apart in any way.
        let in_part = last.is_some_and(|last| {
            let mut left = last.positions.values().flat_map(|position| &position.left);
            left.any(|left| left.parts.is_some())
        });
        let units = |entry: &Entry| entry.units == settings.units;
        if in_part && !last.is_none_or(units) || !standing.pending.as_ref().is_none_or(units) {
            anyhow::bail!(
                "a run was killed that took records apart in another way ({}): end that batch first with its options",
                standing.pending.as_ref().or(last).map_or("", |entry| entry.units.as_str())
            );
        }
        let tells_shards = source.tells_shards();
        let mut tracker = Tracker::default();
        if let Some(last) = last.filter(|_| !tells_shards) {
            for (&shard, position) in &last.positions {
                tracker.begin(ShardId(shard), position);
            }
        }
        let columns = settings.format.as_ref().and_then(|format| format.columns());
        let kept_schema = columns.map(Columns::schema).filter(|schema| !schema.columns().is_empty());
        let kept_schema = kept_schema.map(|schema| schema.to_ddl());
        let state = State {
            tracker,
            gather,
            namer,
            chain,
            lot: Vec::new(),
            lot_bytes: 0,
            failed: Vec::new(),
            failed_object: ObjectId(FAILED_FIRST),
            limit: standing
                .pending
                .as_ref()
                .filter(|_| tells_shards)
                .map(|pending| pending.positions.clone()),
            dropped: 0,
            read: Read::default(),
            backup: settings.backup.take(),
            tee: settings.tee.take(),
        };
        Ok(Self {
            source,
            courier: Courier::start(runtime, reach, cancel)?,
            reporter,
            state,
            number: last.map_or(1, |last| last.number + 1),
            version,
            totals: last.map(|last| last.totals).unwrap_or_default(),
            stood: last.map(|last| last.positions.clone()).unwrap_or_default(),
            began: last.map(|last| last.began.clone()).unwrap_or_default(),
            replaying: standing.pending.clone().filter(|_| tells_shards),
            superseded: standing.pending.clone().filter(|_| !tells_shards),
            standing,
            settings,
            metrics: Metrics::default(),
            ticked: Instant::now(),
            ends: BTreeSet::new(),
            deferred: Vec::new(),
            resumed: BTreeMap::new(),
            is_cut: false,
            told_ahead: false,
            shipped: Instant::now(),
            on_its_way_us: None,
            kept_schema,
        })
    }

    /// Reads and delivers to the end, or on and on. What was read when it ends, or is told to end, is delivered.
    pub fn run(mut self) -> anyhow::Result<Metrics> {
        if self.replaying.is_some() {
            let number = self.number;
            self.reporter
                .say(&format!("batch {number} was not finished by the run before; it is done again"));
        }
        let outcome = self.go();
        let Self { source, metrics, reporter, mut state, courier, .. } = self;
        // What is on its way ends before another may take over.
        drop(courier);
        let left = source.leave();
        let outcome = match (outcome, reporter.stop()) {
            // It was asked to end, and has given up what was on its way.
            (Err(error), Some(stopped)) if is_interrupted(&error) => {
                reporter.say(&format!("{error:#}"));
                Err(stopped)
            }
            (outcome, _) => outcome,
        };
        outcome.and(left)?;
        // A command that ends badly says so now; all that it has answered stays true.
        state.chain.finish()?;
        match reporter.stop() {
            Some(stopped) => Err(stopped),
            None => Ok(metrics),
        }
    }

    fn go(&mut self) -> anyhow::Result<()> {
        self.source.ignore_end(self.replaying.is_some());
        // Before anything else: a batch that is done again wants its shards.
        self.source.look()?;
        loop {
            if let Some(stopped) = self.reporter.stop() {
                // One object is there whole or not at all: half of a target of make would pass for it.
                if self.settings.one_object.is_none() {
                    self.finish(Some(GRACE))?;
                }
                return Err(stopped);
            }
            self.tick(false)?;
            match self.source.poll(&mut self.state)? {
                Step::Read => {
                    self.count();
                    self.pause_planned();
                }
                Step::Begun(shard, position) => self.begin_shard(shard, &position)?,
                Step::Ended(shard) => {
                    self.ends.insert(shard);
                    self.state.tracker.ended(shard);
                }
                Step::Damage(shard, damage) => {
                    self.cut(shard, damage.first, damage.next);
                    self.state.tracker.read_to(shard, damage.next);
                    self.reporter.damage(shard, &damage)?;
                    self.metrics.lost += damage.next.saturating_sub(damage.first);
                }
                Step::Missed(shard, missed) => {
                    self.cut(shard, missed.from, missed.to);
                    self.state.tracker.read_to(shard, missed.to);
                    self.reporter.missed(shard, missed);
                    self.metrics.lost += missed.to - missed.from;
                }
                Step::MissedShard(shard) => {
                    self.is_cut |= self.replaying.is_some();
                    self.reporter.missed_shard(shard);
                }
                Step::Lost(shard) => {
                    // Its records may be on their way: whoever has it now delivers them as well.
                    anyhow::bail!("{shard}: another worker of the same consumer has taken it over");
                }
                Step::Tail => {
                    if !self.rest()? {
                        return Ok(());
                    }
                }
                Step::End if self.replaying.is_some() => self.again()?,
                // A pipe that was not read to its end.
                Step::End if self.settings.one_object.is_some() && self.reporter.stop().is_some() => {}
                Step::End => {
                    self.finish(None)?;
                    // What goes on from a shard that has ended may be asked for as well.
                    if !self.source.look()? {
                        return Ok(());
                    }
                    self.source.wait(Some(TICK))?;
                }
            }
        }
    }

    /// Notes that records are gone that belong to the batch that is done again.
    fn cut(&mut self, shard: ShardId, first: u64, next: u64) {
        let planned = self.replaying.as_ref().and_then(|plan| plan.positions.get(&shard.0));
        self.is_cut |= first < next && planned.is_some_and(|planned| first < planned.to);
    }

    fn count(&mut self) {
        let Read { records, bytes, units } = std::mem::take(&mut self.state.read);
        self.metrics.incoming_records += records;
        self.metrics.incoming_bytes += bytes;
        self.metrics.billed_bytes += units * METERED_BYTES;
        if self.settings.format.as_ref().is_some_and(|format| format.columns().is_some()) {
            self.metrics.converted_bytes += bytes;
        }
        if self.state.namer.is_partitioned() {
            self.metrics.partitioned_bytes += bytes;
        }
        self.reporter.read(records, bytes);
    }

    /// Leaves the shards aside of which the batch that is done again has no more.
    fn pause_planned(&mut self) {
        let Some(plan) = &self.replaying else { return };
        for (&shard, position) in &plan.positions {
            if self.state.tracker.has_read(ShardId(shard), position.to) {
                self.source.pause(ShardId(shard));
            }
        }
    }

    /// Begins with a shard where the last commit left it: that says more than the consumer's checkpoint, which may
    /// have been moved forward since, though.
    fn begin_shard(&mut self, shard: ShardId, checkpoint: &ShardPosition) -> anyhow::Result<()> {
        let low = checkpoint.low();
        let stood = self.stood.remove(&shard.0);
        let is_known = stood.is_some();
        let position = stood.map_or_else(|| checkpoint.clone(), |stood| stood.moved_to(low));
        if let Some(plan) = &self.replaying {
            let began = plan.began.get(&shard.0).copied();
            if !plan.positions.contains_key(&shard.0) {
                self.deferred.push((shard, position));
                return Ok(());
            }
            self.resumed.insert(shard.0, low);
            // Part of the batch may be there, and all of it comes: whoever has moved the consumer since did not know.
            let before = self.standing.last.as_ref().and_then(|last| last.positions.get(&shard.0).cloned());
            let from = match (before, began) {
                (Some(before), _) => before,
                (None, Some(began)) if began != low => ShardPosition { to: began, ..Default::default() },
                (None, _) => position,
            };
            return self.take_up(shard, &from);
        }
        if is_known && (position.low() > low || position.is_done()) {
            if position.low() > low && !std::mem::replace(&mut self.told_ahead, true) {
                let at = position.low();
                self.reporter.say(&format!(
                    "the destination has more than the consumer knows of ({shard}: up to index {at}, not {low}): it goes on \
                     behind that"
                ));
            }
            self.source.commit(&Positions::from([(shard.0, position.clone())]))?;
        }
        self.take_up(shard, &position)
    }

    fn take_up(&mut self, shard: ShardId, position: &ShardPosition) -> anyhow::Result<()> {
        self.began.entry(shard.0).or_insert_with(|| position.low());
        if position.is_done() {
            self.state.tracker.begin(shard, position);
            self.state.tracker.read_to(shard, position.to);
            self.state.tracker.ended(shard);
            return Ok(());
        }
        let index = self.state.tracker.begin(shard, position);
        self.source.begin(shard, index)
    }

    /// All has been read for now; whether to go on.
    fn rest(&mut self) -> anyhow::Result<bool> {
        if self.replaying.is_some() {
            self.again()?;
            return Ok(true);
        }
        if !self.settings.follow {
            self.finish(None)?;
            let more = self.source.look()?;
            if more {
                // Another worker may have to be watched for a while, until it is certain that it is gone.
                self.source.wait(Some(TICK))?;
            }
            return Ok(more);
        }
        self.state.process()?;
        self.count();
        self.state.tee.take_if(|tee| tee.flush().is_err());
        if !self.ends.is_empty() && !self.courier.is_busy() {
            // Its children wait.
            self.finish(None)?;
            self.ends.clear();
            self.source.look()?;
            return Ok(true);
        }
        self.tick(true)?;
        let most = if self.courier.is_busy() {
            Some(Duration::from_millis(2))
        } else {
            self.state.gather.next_due().map(|due| due.max(Duration::from_millis(1)))
        };
        self.source.wait(most)?;
        Ok(true)
    }

    /// Looks at the clock, at the courier and at what is due.
    fn tick(&mut self, now: bool) -> anyhow::Result<()> {
        let full = !self.state.gather.ended().is_empty();
        if !now && !full && self.ticked.elapsed() < TICK {
            return Ok(());
        }
        if self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            self.measure();
            self.reporter.tick(&self.metrics);
            if self.reporter.reload() {
                self.courier.reload();
            }
        }
        if self.replaying.is_some() {
            return Ok(());
        }
        if self.courier.is_busy() {
            self.hear(Duration::ZERO)?;
        }
        if self.state.tracker.stretches() > STRETCHES_MAX {
            self.state.gather.end_all();
        }
        let due = self.state.gather.end_due();
        while due && self.courier.is_busy() && self.state.gather.is_crowded() {
            if let Some(stopped) = self.reporter.stop() {
                return Err(stopped);
            }
            self.hear(TICK)?;
        }
        // Records may all be left out by a filter, or fail: that is news as well.
        let overdue = self.shipped.elapsed() >= self.settings.hints.interval && self.state.gather.is_empty();
        if (due || overdue) && !self.courier.is_busy() {
            self.shipped = Instant::now();
            self.ship(overdue)?;
        }
        Ok(())
    }

    /// What is open, and how old what is not delivered: a batch that does not arrive grows old on its way.
    fn measure(&mut self) {
        self.metrics.partitions = self.state.gather.partitions() as u64;
        let failed = self.state.failed.iter().map(|failed| failed.origin.arrival_us).min();
        let open = self.state.gather.oldest_us();
        self.metrics.oldest_us = [open, failed, self.on_its_way_us].into_iter().flatten().min();
    }

    /// Delivers all that was read, and waits for it.
    fn finish(&mut self, grace: Option<Duration>) -> anyhow::Result<()> {
        self.state.process()?;
        self.count();
        let begun = Instant::now();
        while self.courier.is_busy() {
            self.wait(begun, grace)?;
        }
        self.state.gather.end_all();
        if self.replaying.is_none() {
            self.ship(true)?;
        }
        while self.courier.is_busy() {
            self.wait(begun, grace)?;
        }
        Ok(())
    }

    fn wait(&mut self, begun: Instant, grace: Option<Duration>) -> anyhow::Result<()> {
        self.hear(TICK)?;
        let stopped = self.reporter.stop();
        let over = match grace {
            Some(grace) => begun.elapsed() >= grace,
            None => stopped.is_some() && begun.elapsed() >= GRACE,
        };
        if over && self.courier.is_busy() {
            self.courier.cancel();
        }
        self.measure();
        self.reporter.tick(&self.metrics);
        Ok(())
    }

    /// Hears what the courier tells.
    fn hear(&mut self, wait: Duration) -> anyhow::Result<()> {
        while let Some(told) = self.courier.told(wait)? {
            match told {
                Told::Say(text) => self.reporter.say(&text),
                Told::Done(shipment, outcome) => {
                    outcome.with_context(|| format!("batch {}", shipment.entry.number))?;
                    self.arrived(*shipment)?;
                    return Ok(());
                }
            }
            if !wait.is_zero() {
                break;
            }
        }
        Ok(())
    }

    fn arrived(&mut self, shipment: Shipment) -> anyhow::Result<()> {
        let Shipment { ids, entry, .. } = shipment;
        self.state.tracker.delivered(&ids);
        self.metrics.delivered(&entry, self.totals);
        self.totals = entry.totals;
        self.number = entry.number + 1;
        self.shipped = Instant::now();
        self.on_its_way_us = None;
        self.measure();
        if self.source.has_places() {
            self.source.commit(&entry.positions)?;
            crate::sys::failpoint::failpoint("checkpoint.after");
        }
        self.ends.retain(|shard| !entry.positions.get(&shard.0).is_some_and(ShardPosition::is_done));
        self.reporter.delivered(&entry, &self.metrics);
        self.standing.last = Some(entry);
        Ok(())
    }

    /// A shard of which the batch that is done again has records that have not been read yet.
    fn unread(&self) -> Option<ShardId> {
        let plan = self.replaying.as_ref()?;
        let before = self.standing.last.as_ref().map(|last| &last.positions);
        let is_unread = |(&shard, planned): (&u32, &ShardPosition)| {
            let has_none = match before.and_then(|before| before.get(&shard)) {
                Some(before) => before == planned,
                None => plan.began.get(&shard) == Some(&planned.to),
            };
            let (shard, to) = (ShardId(shard), planned.to);
            (!has_none && !self.state.tracker.has_read(shard, to) && self.source.has_shard(shard))
                .then_some(shard)
        };
        plan.positions.iter().find_map(is_unread)
    }

    /// All has been read for now: does the batch again, if it is all there.
    fn again(&mut self) -> anyhow::Result<()> {
        let Some(shard) = self.unread() else { return self.replay() };
        let begun = self.state.tracker.has_read(shard, 0);
        if begun {
            anyhow::bail!("batch {}: {shard} ends before what a killed run had read of it", self.number);
        }
        if !self.source.look()? && !self.settings.follow {
            anyhow::bail!("batch {}: {shard} is read by another worker of the same consumer", self.number);
        }
        self.source.wait(Some(TICK))
    }

    /// Does the batch again that a killed run had planned, and begins anew behind it.
    fn replay(&mut self) -> anyhow::Result<()> {
        // A shard that has expired is told of once, and perhaps to a run that was killed then.
        let before = self.standing.last.as_ref().map(|last| &last.positions);
        let planned = self.replaying.iter().flat_map(|plan| &plan.positions);
        self.is_cut |= planned.into_iter().any(|(&shard, planned)| {
            before.and_then(|before| before.get(&shard)) != Some(planned)
                && !self.source.has_shard(ShardId(shard))
        });
        self.state.process()?;
        self.count();
        self.state.gather.end_all();
        self.ship(true)?;
        while self.courier.is_busy() {
            self.hear(TICK)?;
            if let Some(stopped) = self.reporter.stop() {
                return Err(stopped);
            }
        }
        let Some(plan) = self.replaying.take() else { return Ok(()) };
        self.state.limit = None;
        self.is_cut = false;
        self.source.ignore_end(false);
        // From here on everything is read from where the plan ends, what it left included.
        for (shard, planned) in plan.positions {
            match self.resumed.remove(&shard) {
                Some(low) => self.take_up(ShardId(shard), &planned.moved_to(low))?,
                // This run does not have it.
                None => drop(self.stood.insert(shard, planned)),
            }
        }
        for (shard, position) in std::mem::take(&mut self.deferred) {
            self.take_up(shard, &position)?;
        }
        Ok(())
    }

    /// Where all shards stand once these objects are delivered, those included that this run does not have.
    fn positions(&self, ids: &BTreeSet<ObjectId>) -> Positions {
        let mut positions = self.state.tracker.positions(ids);
        for (&shard, stood) in self.stood.iter().filter(|(shard, _)| self.source.has_shard(ShardId(**shard)))
        {
            positions.entry(shard).or_insert_with(|| stood.clone());
        }
        positions
    }

    /// Sends off what has ended. `all` also where there is nothing to send but the news of where the shards stand.
    fn ship(&mut self, all: bool) -> anyhow::Result<()> {
        self.state.process()?;
        self.count();
        let failed_object = self.state.failed_object;
        let ended = self.state.gather.ended().iter().copied().chain([failed_object]);
        let ids = self.state.tracker.together(ended);
        let objects: BTreeSet<ObjectId> = ids.iter().copied().filter(|id| *id != failed_object).collect();
        self.state.tee.take_if(|tee| tee.flush().is_err());
        let (stream, delivery) = (self.settings.stream.0.clone(), self.settings.name.clone());
        let notes =
            |partition: &PartitionKey, shards: &Extents| object_notes(&stream, &delivery, partition, shards);
        let (finished, bad) = self.state.gather.finish(&objects, &notes)?;
        let mut failed = std::mem::take(&mut self.state.failed);
        failed.extend(bad);
        self.state.failed_object.0 += 1;
        let positions = match &self.replaying {
            Some(plan) => plan.positions.clone(),
            None => self.positions(&ids),
        };
        let dropped = std::mem::take(&mut self.state.dropped);
        let mut finished = finished;
        if let Some(object) = self.settings.one_object.as_ref().filter(|_| all && finished.is_empty()) {
            finished.push(self.state.gather.empty(object)?);
        }
        if self.settings.one_object.is_some() && finished.len() > 1 {
            let columns = self.settings.format.as_ref().and_then(|format| format.columns());
            return Err(match columns {
                Some(columns) => ColumnsChanged(columns.schema()).into(),
                None => anyhow::anyhow!("one object has become several"),
            });
        }
        let nothing = finished.is_empty() && failed.is_empty();
        let same = self.standing.last.as_ref().is_some_and(|last| last.positions == positions);
        if nothing
            && self.replaying.is_none()
            && (!all || !self.source.has_places() || same || !self.moved(&positions))
        {
            self.state.dropped = dropped;
            return Ok(());
        }
        let mut added = Totals { dropped, ..Totals::default() };
        let (mut parcels, mut objects) = (Vec::new(), Vec::new());
        let oldest = finished.iter().map(|object| object.oldest_us);
        let failed_us = failed.iter().map(|failed| failed.origin.arrival_us);
        let now_us = self.settings.system.clock.now_us();
        let mut oldest_us = oldest.chain(failed_us).min().unwrap_or(now_us);
        if let Some(plan) = &self.replaying {
            oldest_us = plan.oldest_us;
        }
        for object in finished {
            let Finished { partition, body, chunks, records, oldest_us, shards, first } = object;
            if records == 0 && self.settings.one_object.is_none() {
                continue;
            }
            let name = self.state.namer.object(&partition, &first, oldest_us, &shards)?;
            added += Totals { records, bytes: body.len(), objects: 1, ..Totals::default() };
            objects.push(ObjectNote { name: name.clone(), bytes: body.len(), records, shards });
            parcels.push(Parcel { name, body, chunks, records, oldest_us });
        }
        self.source.make_durable()?;
        let mut totals = self.totals;
        totals += added;
        let (number, id) = match &self.replaying {
            Some(plan) => (plan.number, plan.id),
            None => (self.number, Uuid::new_v4()),
        };
        let entry = Entry {
            khose: FORM,
            number,
            id,
            stream: self.settings.stream.0.clone(),
            stream_id: self.settings.stream.1,
            written_us: now_us,
            oldest_us,
            version: self.version,
            settings: self.settings.fingerprint.clone(),
            units: self.settings.units.clone(),
            began: self.began.clone(),
            positions,
            errors: Vec::new(),
            replaces: replaced(self.replaying.as_ref().or(self.superseded.as_ref()), &objects),
            error_names: Vec::new(),
            objects,
            totals,
        };
        let keep = self.changed_schema();
        let backup = self.state.backup.as_mut().map(Backup::take).transpose()?.flatten();
        let batch = Batch { number, id, parcels };
        let before = self.replaying.clone().or_else(|| self.superseded.take());
        self.on_its_way_us = Some(oldest_us);
        let is_cut = self.is_cut;
        self.courier.send(Shipment { ids, entry, batch, failed, oldest_us, before, is_cut, keep, backup });
        Ok(())
    }

    /// The inferred columns, where they are not kept yet.
    fn changed_schema(&mut self) -> Option<(String, Vec<u8>)> {
        let name = self.settings.schema.clone()?;
        let schema = self.settings.format.as_ref()?.columns()?.schema();
        let ddl = schema.to_ddl();
        if schema.columns().is_empty() || self.kept_schema.as_ref() == Some(&ddl) {
            return None;
        }
        if let Some(before) = &self.kept_schema {
            self.reporter.say(&format!("the columns have changed from `{before}` to `{ddl}`"));
        }
        self.kept_schema = Some(ddl);
        Some((name, schema.to_json().into_bytes()))
    }

    /// Whether the shards stand elsewhere than when this run began with them, or have not been noted down yet.
    fn moved(&self, positions: &Positions) -> bool {
        let before = self.standing.last.as_ref().map(|last| &last.positions);
        positions.iter().any(|(shard, position)| {
            let stood = before.and_then(|before| before.get(shard));
            stood.map_or(position.to > 0 || position.end, |stood| stood != position)
        })
    }
}

/// The names of what earlier attempts at a batch may have left and this one does not write.
fn replaced(before: Option<&Entry>, now: &[ObjectNote]) -> Vec<String> {
    let Some(before) = before else { return Vec::new() };
    let now: BTreeSet<&str> = now.iter().map(|note| note.name.as_str()).collect();
    let names = before.objects.iter().map(|note| &note.name).chain(&before.replaces);
    let names: BTreeSet<&String> = names.filter(|name| !now.contains(name.as_str())).collect();
    names.into_iter().cloned().collect()
}

/// Whether a batch was given up because the run was asked to end.
fn is_interrupted(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(CourierError::Interrupted | CourierError::Delivery(DeliveryError::Interrupted))
    )
}

/// What an object carries about itself.
fn object_notes(
    stream: &str,
    delivery: &str,
    partition: &PartitionKey,
    shards: &Extents,
) -> Vec<(String, String)> {
    let shards: Vec<String> = shards
        .iter()
        .map(|(&shard, (first, last, count))| format!("{} {first} {last} {count}", ShardId(shard)))
        .collect();
    vec![
        ("kpipe.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("kpipe.stream".to_owned(), stream.to_owned()),
        ("kpipe.delivery".to_owned(), delivery.to_owned()),
        ("kpipe.partition".to_owned(), partition.to_string()),
        ("kpipe.shards".to_owned(), shards.join("\n")),
    ]
}

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
    fn process(&mut self) -> anyhow::Result<()> {
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
