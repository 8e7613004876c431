//! `khose --plan`: what would be delivered.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use serde_json::json;

use super::args::LogForm;
use super::report::PROGRAM;
use super::target::{Service, Target};
use super::{Run, file, formats, services, setup, stages};
use crate::cli::args::StreamArg;
use crate::cli::meter::Meter;
use crate::cli::report::printable;
use crate::cli::shard::print;
use crate::cli::signal::Shutdown;
use crate::cli::value::{Position, about_size, show_count};
use crate::cli::{Outcome, about, stream_name};
use crate::hose::cancel::Cancel;
use crate::hose::courier::{ErrorOutput, Reach, Runtime};
use crate::hose::delivery::{self, ColumnsChanged, Delivery, Reporter, Settings};
use crate::hose::format::Format;
use crate::hose::format::columns::Columns;
use crate::hose::gather::Hints;
use crate::hose::ledger::{Entry, Ledger, Standing};
use crate::hose::metrics::Metrics;
use crate::hose::naming::{Namer, Signature};
use crate::hose::preview::{Bounded, Lookahead, Planned, Preview, Sheet};
use crate::hose::source::{RangeSource, Source};
use crate::hose::store::Store;
use crate::hose::store::local::LocalStore;
use crate::record::ShardId;
use crate::stream::{Consumer, Damage, Missed, Stream};
use crate::sys::System;
use crate::table::Schema;

/// So many objects are shown to a person one by one; more are summed up by their folders.
const SHOWN_MAX: usize = 40;

/// What a look ahead came to.
struct Outlook {
    preview: Preview,
    metrics: Metrics,
    notes: Vec<String>,
    /// The columns before and behind it, where the format has some.
    columns: Option<(Arc<Schema>, Arc<Schema>)>,
    inferred: bool,
}

/// What depends on the destination.
struct Parts {
    namer: Namer,
    format: Option<Arc<dyn Format>>,
    inferred: bool,
    ledger: Option<Ledger>,
    errors: ErrorOutput,
    /// The name of the one object.
    one_object: Option<String>,
}

impl Run {
    /// Tells what a delivery of this stream would do.
    pub(super) fn plan(&self, source: &OsStr) -> anyhow::Result<Outcome> {
        if source == "-" {
            return Err(anyhow!("standard input cannot be read twice: --plan looks at a stream"));
        }
        let stream = about::open_to_read(&StreamArg { stream: source.to_owned() })?;
        let path = stream.path().to_owned();
        let mut columns = Schema::default();
        let outlook = loop {
            match self.look_ahead(&stream, &columns) {
                // One file is begun anew when its columns change on the way. They only ever grow, so that this ends.
                Err(error) if error.is::<ColumnsChanged>() => match error.downcast_ref() {
                    Some(ColumnsChanged(changed)) => columns = Schema::clone(changed),
                    None => return Err(error),
                },
                other => break other.with_context(|| stream_name::context(&path))?,
            }
        };
        let delivery = format!("{}.{}", stream.name(), self.consumer());
        let Outlook { preview, metrics, notes, columns, inferred } = &outlook;
        let failed: Vec<_> = preview
            .failures
            .iter()
            .map(|((kind, code), failures)| {
                json!({
                    "errorOutputType": kind, "errorCode": code,
                    "records": failures.records, "examples": failures.examples,
                })
            })
            .collect();
        if self.args.log == LogForm::Json {
            print::json(&json!({
                "delivery": delivery,
                "stream": stream.name(),
                "destination": self.target.show(),
                "read": { "records": metrics.incoming_records, "bytes": metrics.incoming_bytes },
                "delivered": metrics.delivered,
                "batches": preview.batches,
                "objects": preview.objects,
                "failed": failed,
                "columns": columns.as_ref().map(|(_, after)| after.to_ddl()),
                "columnsBefore": columns.as_ref().map(|(before, _)| before.to_ddl()),
                "columnsAreInferred": inferred,
                "notes": notes,
                "limited": self.args.mode.limit.is_some_and(|limit| metrics.incoming_records >= limit),
            }))?;
        } else {
            print::text(&self.render_plan(&delivery, &outlook))?;
        }
        Ok(Outcome::Done)
    }

    fn look_ahead(&self, stream: &Stream, columns: &Schema) -> anyhow::Result<Outlook> {
        let args = &self.args;
        let system = System::real();
        let now_us = system.clock.now_us();
        let name = self.consumer();
        let delivery_name = format!("{}.{name}", stream.name());
        let from = args.from.unwrap_or(Position::TrimHorizon).start(now_us);
        let until = file::until(args, now_us)?;
        let source: Box<dyn Source> = match &self.target {
            Target::File(..) => Box::new(RangeSource::open(stream.clone(), from, until)?),
            _ => Box::new(Lookahead::open(stream.clone(), &name, from, until)?),
        };
        let source = match args.mode.limit {
            Some(records) => Box::new(Bounded::new(source, records)),
            None => source,
        };
        let id = stream.manifest().stream_id;
        let signature = Signature {
            stream: stream.name().to_owned(),
            stream_id: id,
            delivery: delivery_name.clone(),
            version: 1,
        };
        let runtime = Runtime::new()?;
        let Parts { namer, format, inferred, ledger, errors, one_object } =
            self.plan_parts(stream, &delivery_name, &signature, &system, &runtime, columns)?;
        let standing = match &ledger {
            Some(ledger) => runtime.block_on(ledger.standing())?,
            None => Standing::default(),
        };
        let sheet = Sheet::new();
        let errors = ErrorOutput { store: sheet.instead_of(&errors.store), ..errors };
        let before = format.as_ref().and_then(|format| format.columns()).map(Columns::schema);
        let scratch = setup::scratch(&system);
        let hints = match &one_object {
            Some(_) => Hints { size: u64::MAX, interval: setup::NEVER, ..setup::hints(args, &self.target) },
            None => setup::hints(args, &self.target),
        };
        let settings = Settings {
            system: system.clone(),
            stream: (stream.name().to_owned(), id),
            // It stands in what objects carry about themselves.
            name: if one_object.is_some() { stream.name().to_owned() } else { delivery_name },
            follow: false,
            hints,
            format: format.clone(),
            // Kept where the ledger is, which this run has none of.
            schema: inferred.then(String::new),
            one_object,
            backup: None,
            tee: None,
            units: setup::units(args),
            fingerprint: setup::fingerprint(args),
            scratch,
        };
        let reach = Reach {
            system,
            destination: Box::new(sheet.clone()),
            ledger: None,
            errors,
            persistent: false,
            backup: None,
            gives_up: true,
        };
        let mut looking =
            Looking { meter: args.common.meter(PROGRAM, None), shutdown: self.shutdown, notes: Vec::new() };
        let chain = stages::chain(args, stream.name())?;
        let cancel = Cancel::new();
        let parts = delivery::Parts { chain, namer, source, reach, standing, runtime, cancel };
        let metrics = Delivery::begin(settings, parts, &mut looking)?.run();
        let Looking { meter, notes, .. } = looking;
        meter.finish();
        let after = format.as_ref().and_then(|format| format.columns()).map(Columns::schema);
        Ok(Outlook {
            preview: sheet.preview(),
            metrics: metrics?,
            notes,
            columns: before.zip(after),
            inferred,
        })
    }

    /// What depends on the destination. Nothing is made there, and no service is spoken to.
    fn plan_parts(
        &self,
        stream: &Stream,
        delivery: &str,
        signature: &Signature,
        system: &System,
        runtime: &Runtime,
        columns: &Schema,
    ) -> anyhow::Result<Parts> {
        let args = &self.args;
        match &self.target {
            Target::Objects(location) => {
                let store = location.open(&self.context)?;
                let ledger = Ledger::new(Arc::clone(&store), delivery);
                let schema = format!("{}/schema.json", ledger.dir());
                let opened = formats::open(args, Some((runtime, &store, &schema)), None)?;
                let place = Some((location, &store));
                let errors = setup::errors(args, &self.context, place, "", signature, delivery)?;
                let namer = setup::namer(args, signature, &opened.extension, Some(location))?;
                Ok(Parts {
                    namer,
                    format: Some(opened.format),
                    inferred: opened.inferred,
                    ledger: Some(ledger),
                    errors,
                    one_object: None,
                })
            }
            Target::File(place, name) => {
                let opened = formats::open_with(args, columns.clone(), Some(name))?;
                let fallback = file::rejects_of(place, name);
                let errors = setup::errors(args, &self.context, None, &fallback, signature, delivery)?;
                let namer = setup::namer(args, signature, &opened.extension, Some(place))?.fixed(name);
                Ok(Parts {
                    namer,
                    format: Some(opened.format),
                    inferred: opened.inferred,
                    ledger: None,
                    errors,
                    one_object: Some(name.clone()),
                })
            }
            Target::Service(..) | Target::Stream(_) | Target::Stdout => {
                let opened = match &self.target {
                    Target::Service(Service::Redshift, _) | Target::Stdout => {
                        Some(formats::open(args, None, None)?)
                    }
                    _ => None,
                };
                let namer = match (&self.target, &opened) {
                    (Target::Service(..), Some(opened)) => {
                        setup::namer(args, signature, &opened.extension, None)?
                    }
                    _ => services::one_partition(signature)?,
                };
                let consumer = self.consumer();
                let ledger =
                    Consumer::list(stream)?.contains(&consumer).then(|| Consumer::open(stream, &consumer));
                let ledger = ledger.transpose()?.map(|consumer| {
                    let store: Arc<dyn Store> = Arc::new(LocalStore::new(system, consumer.dir()));
                    Ledger::new(store, "delivery")
                });
                let fallback = format!("{}/", stream.path().join("rejects").join("khose").display());
                let errors = setup::errors(args, &self.context, None, &fallback, signature, delivery)?;
                let format = opened.map(|opened| opened.format);
                Ok(Parts { namer, format, inferred: false, ledger, errors, one_object: None })
            }
        }
    }

    /// The plan for a person.
    fn render_plan(&self, delivery: &str, outlook: &Outlook) -> String {
        let Outlook { preview, metrics, notes, columns, inferred } = outlook;
        let mut text = String::new();
        let mut row = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<13} {}", printable(value));
        };
        row("plan", &format!("{delivery} to {}: nothing was written", self.target.show()));
        let mut read = format!(
            "{}, {}",
            counted(metrics.incoming_records, "record"),
            about_size(metrics.incoming_bytes)
        );
        if self.args.mode.limit.is_some_and(|limit| metrics.incoming_records >= limit) {
            read.push_str("; there may be more (--limit)");
        }
        row("reads", &read);
        let totals = &metrics.delivered;
        let mut sums = format!(
            "{} in {}, {}, in {}",
            counted(totals.records, "record"),
            counted(totals.objects, "object"),
            about_size(preview.objects.iter().map(|object| object.bytes).sum()),
            match preview.batches {
                1 => "1 batch".to_owned(),
                batches => format!("{} batches", show_count(batches)),
            }
        );
        if totals.dropped > 0 {
            let _ = write!(sums, "; {} left out", show_count(totals.dropped));
        }
        row("delivers", &sums);
        if let Some((before, after)) = columns {
            let how = if *inferred { "inferred" } else { "given" };
            row("columns", &format!("{} ({how})", after.to_ddl()));
            for change in changes(before, after) {
                row("", &change);
            }
        }
        for ((kind, code), failures) in &preview.failures {
            let records = counted(failures.records, "record");
            row("would fail", &format!("{records}: {kind}, {code}"));
            for example in &failures.examples {
                let place = match (&example.shard, &example.sequence_number) {
                    (Some(shard), Some(number)) => format!("{shard} {number}: "),
                    _ => String::new(),
                };
                row("", &format!("{place}{}: {}", example.message, example.data));
            }
        }
        for note in notes {
            row("note", note);
        }
        if !preview.objects.is_empty() {
            text.push('\n');
            render_objects(&preview.objects, &mut text);
        }
        text
    }
}

fn render_objects(objects: &[Planned], text: &mut String) {
    let mut line = |records: u64, bytes: u64, name: &str| {
        let _ = writeln!(text, "{records:>12} {:>10}  {}", about_size(bytes), printable(name));
    };
    if objects.len() <= SHOWN_MAX {
        for object in objects {
            line(object.records, object.bytes, &object.name);
        }
        return;
    }
    let mut folders: BTreeMap<&str, (u64, u64, usize)> = BTreeMap::new();
    for object in objects {
        let folder = object.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let sums = folders.entry(folder).or_default();
        *sums = (sums.0 + object.records, sums.1 + object.bytes, sums.2 + 1);
    }
    let more = folders.len().saturating_sub(SHOWN_MAX);
    for (folder, (records, bytes, count)) in folders.into_iter().take(SHOWN_MAX) {
        line(records, bytes, &format!("{folder}/ ({count} objects)"));
    }
    if more > 0 {
        let _ = writeln!(text, "{more} more folders (--log json has all objects)");
    }
}

/// What is another than it was.
fn changes(before: &Schema, after: &Schema) -> Vec<String> {
    if before.columns().is_empty() {
        return Vec::new();
    }
    let known: BTreeMap<&str, _> =
        before.columns().iter().map(|column| (column.name.as_str(), column)).collect();
    after
        .columns()
        .iter()
        .filter_map(|column| match known.get(column.name.as_str()) {
            None => Some(format!("new: {} {}", column.name, column.kind)),
            Some(was) if was.kind != column.kind => {
                Some(format!("changed: {} from {} to {}", column.name, was.kind, column.kind))
            }
            Some(_) => None,
        })
        .collect()
}

fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", show_count(count), if count == 1 { "" } else { "s" })
}

/// Hears what would be told.
struct Looking {
    meter: Meter,
    shutdown: &'static Shutdown,
    notes: Vec<String>,
}

impl Reporter for Looking {
    fn damage(&mut self, shard: ShardId, damage: &Damage) -> anyhow::Result<()> {
        let lost = damage.next.saturating_sub(damage.first);
        self.notes.push(format!(
            "{shard}: {}: damaged from byte {} to {}: {}; {lost} records cannot be read",
            damage.path.display(),
            damage.offset,
            damage.until,
            damage.reason
        ));
        Ok(())
    }

    fn missed(&mut self, shard: ShardId, missed: Missed) {
        let count = missed.to.saturating_sub(missed.from);
        self.notes.push(format!("{shard}: {count} records are gone before they could be read"));
    }

    fn missed_shard(&mut self, shard: ShardId) {
        self.notes.push(format!("{shard} is gone, and nobody knows how far it went"));
    }

    fn say(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    fn read(&mut self, records: u64, bytes: u64) {
        self.meter.add(records, bytes);
    }

    fn delivered(&mut self, _entry: &Entry, _metrics: &Metrics) {}

    fn stop(&self) -> Option<anyhow::Error> {
        self.shutdown.check().err().map(Into::into)
    }

    fn reload(&self) -> bool {
        false
    }

    fn tick(&mut self, _metrics: &Metrics) {}
}
