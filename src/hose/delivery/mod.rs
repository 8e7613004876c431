//! A delivery: the loop that reads, gathers, ships and commits.
//!
//! The promise is the module's ([`super`]): each record is delivered once. What this loop does for it: nothing is shipped
//! before it is durable in its stream; a batch's plan says where each shard stands once the batch is delivered, the
//! records that wait in open objects excepted; and the consumer's checkpoint follows the commit, never the other way
//! round.

mod backup;
mod batch;
mod shards;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

pub use backup::Backup;
use state::{FAILED_FIRST, METERED_BYTES, Read, State};

use super::cancel::Cancel;
use super::courier::{Courier, CourierError, Reach, Runtime};
use super::dest::DeliveryError;
use super::format::Format;
use super::format::body::Scratch;
use super::format::columns::Columns;
use super::gather::{Gather, Hints};
use super::ledger::{Entry, Standing, Totals};
use super::metrics::Metrics;
use super::naming::Namer;
use super::source::{Source, Step};
use super::stage::Chain;
use super::track::{ObjectId, Positions, ShardPosition, Tracker};
use crate::record::ShardId;
use crate::stream::{Damage, Missed};
use crate::sys::System;

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
}

/// Whether a batch was given up because the run was asked to end.
fn is_interrupted(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(CourierError::Interrupted | CourierError::Delivery(DeliveryError::Interrupted))
    )
}
