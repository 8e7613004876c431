//! A batch, from the objects that have ended to the commit that has arrived.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use uuid::Uuid;

use super::{Backup, ColumnsChanged, Delivery, GRACE, TICK};
use crate::hose::courier::{Shipment, Told};
use crate::hose::dest::{Batch, Parcel};
use crate::hose::gather::{Extents, Finished, PartitionKey};
use crate::hose::ledger::{Entry, FORM, ObjectNote, Totals};
use crate::hose::track::{ObjectId, Positions, ShardPosition};
use crate::record::ShardId;

impl Delivery<'_> {
    /// Delivers all that was read, and waits for it.
    pub(super) fn finish(&mut self, grace: Option<Duration>) -> anyhow::Result<()> {
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
    pub(super) fn hear(&mut self, wait: Duration) -> anyhow::Result<()> {
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
    pub(super) fn ship(&mut self, all: bool) -> anyhow::Result<()> {
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
