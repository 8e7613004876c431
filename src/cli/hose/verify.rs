//! `khose --verify`: the destination held against the stream.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::anyhow;
use serde_json::json;

use super::args::LogForm;
use super::report::PROGRAM;
use super::target::Target;
use super::{Run, formats, setup};
use crate::cli::about::About as _;
use crate::cli::args::StreamArg;
use crate::cli::meter::Meter;
use crate::cli::report::{HintExt as _, printable};
use crate::cli::shard::print;
use crate::cli::signal::Shutdown;
use crate::cli::value::{about_size, about_time, show_count};
use crate::cli::{Outcome, about};
use crate::hose::courier::Runtime;
use crate::hose::format::compress::Compression;
use crate::hose::format::csv::QuoteStyle;
use crate::hose::format::spec::{FormatName, FormatSpec};
use crate::hose::ledger::Ledger;
use crate::hose::naming::Signature;
use crate::hose::store::local::LocalStore;
use crate::hose::store::{Location, Store};
use crate::hose::verify::rows::Layout;
use crate::hose::verify::{self, Objects, Report, Request, Watch};
use crate::stream::Consumer;
use crate::sys::System;

/// So many findings of one kind are shown to a person.
const SHOWN_MAX: usize = 20;

impl Run {
    /// Compares what was delivered from a stream, or from standard input (`-`), with what is there.
    pub(super) fn verify(&self, source: &OsStr) -> anyhow::Result<Outcome> {
        let args = &self.args;
        let stream = match source {
            pipe if pipe == "-" => None,
            _ => Some(about::open_to_read(&StreamArg { stream: source.to_owned() })?),
        };
        let system = System::real();
        let consumer = self.consumer();
        let name = match (&stream, &self.target) {
            (Some(stream), _) => stream.name().to_owned(),
            (None, Target::Objects(location)) => self.name_of_pipe(location, &consumer)?,
            (None, _) => "stdin".to_owned(),
        };
        let delivery = format!("{name}.{consumer}");
        let state = match &stream {
            Some(stream) if Consumer::list(stream).about(stream.path())?.contains(&consumer) => {
                Some(Consumer::open(stream, &consumer).about(stream.path())?)
            }
            _ => None,
        };
        let runtime = Arc::new(Runtime::new()?);
        let signature = Signature {
            stream: name.clone(),
            stream_id: stream.as_ref().map_or(uuid::Uuid::nil(), |stream| stream.manifest().stream_id),
            delivery: delivery.clone(),
            version: 1,
        };
        let (ledger, objects, errors) = match &self.target {
            Target::Objects(location) => {
                let store = location.open(&self.context)?;
                let place = Some((location, &store));
                let errors = setup::errors(args, &self.context, place, "", &signature, &delivery)?;
                (Ledger::new(Arc::clone(&store), &delivery), Some(store), errors)
            }
            Target::File(..) => {
                return Err(anyhow!(
                    "{}: of one file nothing is written down that it could be compared with",
                    self.target.show()
                ));
            }
            Target::Service(..) | Target::Stream(_) | Target::Stdout => {
                let (Some(stream), Some(consumer)) = (&stream, &state) else {
                    return self.unknown(&delivery, &[]);
                };
                let store: Arc<dyn Store> = Arc::new(LocalStore::new(&system, consumer.dir()));
                let fallback = format!("{}/", stream.path().join("rejects").join("khose").display());
                let errors = setup::errors(args, &self.context, None, &fallback, &signature, &delivery)?;
                (Ledger::new(store, "delivery"), None, errors)
            }
        };
        let standing = runtime.block_on(ledger.standing())?;
        let Some(entry) = standing.last.as_ref().or(standing.pending.as_ref()) else {
            let known = runtime.block_on(Ledger::names(ledger.store().as_ref()))?;
            return self.unknown(&delivery, &known);
        };
        if stream.is_some() && entry.stream_id != signature.stream_id {
            return Err(anyhow!(
                "{}: another stream `{}` ({}) was delivered there under this name; this one is {}",
                self.target.show(),
                entry.stream,
                entry.stream_id,
                signature.stream_id
            ));
        }
        let spec = formats::spec(args, None)?;
        let backup = setup::backup_names(args, &signature, None)?;
        let state = state.as_ref().map(Consumer::state).transpose()?;
        let request = Request {
            runtime: &runtime,
            ledger: &ledger,
            name: &name,
            stream: stream.as_ref(),
            consumer: state.as_ref(),
            objects,
            errors: &errors,
            backup: &backup,
            layout: &|name: &str| layout(name, &spec, args.objects.output.is_some()),
            quick: args.mode.quick,
        };
        let mut looking = Looking { meter: args.common.meter(PROGRAM, None), shutdown: self.shutdown };
        let report = verify::verify(&request, &mut looking);
        looking.meter.finish();
        let report = report?;
        if args.log == LogForm::Json {
            print::json(&json!({
                "delivery": delivery,
                "stream": name,
                "destination": self.target.show(),
                "ok": report.is_well(),
                "quick": args.mode.quick,
                "report": report,
            }))?;
        } else {
            print::text(&self.render(&delivery, &report))?;
        }
        Ok(if report.is_well() { Outcome::Done } else { Outcome::Refused })
    }

    /// What was delivered from a pipe is named after the stream that its envelopes came from.
    fn name_of_pipe(&self, location: &Location, consumer: &str) -> anyhow::Result<String> {
        let store = location.open(&self.context)?;
        let mut names = Runtime::new()?.block_on(Ledger::names(store.as_ref()))?;
        let end = format!(".{consumer}");
        names.retain(|name| name.ends_with(&end));
        let name = names.pop().filter(|_| names.is_empty());
        Ok(name.map_or_else(|| "stdin".to_owned(), |name| name[..name.len() - end.len()].to_owned()))
    }

    /// No ledger has this name.
    fn unknown(&self, delivery: &str, known: &[String]) -> anyhow::Result<Outcome> {
        let error = Err(anyhow!("{}: nothing has been delivered there as `{delivery}`", self.target.show()));
        if known.is_empty() {
            return error;
        }
        // The name of a consumer is what stands behind the stream's.
        error.with_hint(|| format!("--consumer NAME: there are {}", known.join(", ")))
    }

    /// The report for a person.
    fn render(&self, delivery: &str, report: &Report) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<13} {}", printable(value));
        };
        row("delivery", &format!("{delivery} to {}", self.target.show()));
        let last = report.last.map(|(number, at)| format!(", the last is {number} of {}", about_time(at)));
        row("batches", &format!("{}{}", show_count(report.batches), last.unwrap_or_default()));
        let totals = &report.totals;
        let mut sums = format!("{} in objects", counted(totals.records, "record"));
        if totals.failed > 0 {
            let _ = write!(sums, ", {} in the error output", show_count(totals.failed));
        }
        if totals.dropped > 0 {
            let _ = write!(sums, ", {} left out", show_count(totals.dropped));
        }
        row("delivered", &sums);
        match &report.objects {
            Some(objects) => rows_of(objects, "objects", &mut row),
            None => row("objects", "the destination cannot be listed: only the stream was compared"),
        }
        if report.errors.committed > 0 {
            rows_of(&report.errors, "error output", &mut row);
        }
        if !report.shards.is_empty() {
            let mut compared =
                format!("{} agree in number or were found wrong", counted_batches(report.compared));
            if report.findings.is_empty() {
                compared = format!("{} agree with the stream", counted_batches(report.compared));
            }
            if report.beyond > 0 {
                let _ =
                    write!(compared, "; {} beyond comparison: retention has removed records", report.beyond);
            }
            if report.taken_apart > 0 {
                let _ = write!(
                    compared,
                    "; {} not comparable: stages make other numbers of records out of them",
                    report.taken_apart
                );
            }
            row("compared", &compared);
        }
        if let Some(unfinished) = &report.unfinished {
            row(
                "unfinished",
                &format!(
                    "batch {} was planned at {} and is not committed ({} of its {} objects are there): it is being \
                     delivered now, or the next run does it again",
                    unfinished.number,
                    about_time(unfinished.planned_us),
                    unfinished.there,
                    unfinished.objects
                ),
            );
        }
        for note in &report.notes {
            row("note", note);
        }
        if !report.shards.is_empty() {
            let _ = write!(
                text,
                "\n{:<24} {:>12} {:>12} {:>12} {:>12} {:>12}\n",
                "shard", "from", "to", "in stream", "delivered", "undelivered"
            );
            for shard in &report.shards {
                let began = shard.began.map_or("-".to_owned(), |began| began.to_string());
                let mut marks = String::new();
                if shard.done {
                    marks.push_str("  done");
                }
                if shard.has_holes {
                    marks.push_str("  records are gone from the stream");
                }
                let _ = writeln!(
                    text,
                    "{:<24} {:>12} {:>12} {:>12} {:>12} {:>12}{marks}",
                    shard.shard, began, shard.to, shard.compared, shard.delivered, shard.undelivered
                );
            }
        }
        text.push('\n');
        let mut shown = std::collections::BTreeMap::<String, usize>::new();
        for finding in &report.findings {
            let kind = format!("{:?}", finding.kind);
            let count = shown.entry(kind).or_default();
            *count += 1;
            if *count <= SHOWN_MAX {
                let _ =
                    writeln!(text, "wrong: {}", printable(&format!("{}: {}", finding.place, finding.text)));
            }
        }
        let more: usize = shown.values().map(|count| count.saturating_sub(SHOWN_MAX)).sum();
        if more > 0 {
            let _ = writeln!(text, "wrong: {more} more of these (--log json has all)");
        }
        if report.findings.is_empty() {
            text.push_str("nothing is missing and nothing is there twice\n");
        }
        text
    }
}

fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", show_count(count), if count == 1 { "" } else { "s" })
}

fn counted_batches(count: u64) -> String {
    format!("{} batch{}", show_count(count), if count == 1 { "" } else { "es" })
}

fn rows_of(objects: &Objects, name: &str, row: &mut dyn FnMut(&str, &str)) {
    let mut text = format!(
        "{} committed, {} there and whole, {}",
        show_count(objects.committed),
        show_count(objects.whole),
        about_size(objects.bytes)
    );
    for (count, what) in [
        (objects.of_others, "of other deliveries"),
        (objects.of_unknown, "of deliveries without a ledger here"),
        (objects.foreign, "other files"),
    ] {
        if count > 0 {
            let _ = write!(text, "; {} {what}", show_count(count));
        }
    }
    row(name, &text);
    if objects.counted + objects.uncounted > 0 {
        let mut text = format!("{} in {}", counted(objects.rows, "row"), counted(objects.counted, "object"));
        if objects.uncounted > 0 {
            let _ = write!(
                text,
                "; {} not counted: rows of raw bytes cannot be told apart, and where a name does not tell the format -o does",
                counted(objects.uncounted, "object")
            );
        }
        row("", &text);
    }
}

/// How an object is laid out: by its name, or where this does not tell, as the arguments say.
fn layout(name: &str, spec: &FormatSpec, given: bool) -> Option<Layout> {
    let by_name = FormatName::of_object(name).filter(|_| !given || spec.format != FormatName::Raw);
    let (format, compression) = match by_name {
        Some((format, compression)) => (format, compression.unwrap_or_default()),
        None if given => {
            let text = spec.compression.as_deref().unwrap_or("none");
            let is_whole = matches!(spec.format, FormatName::Arrow | FormatName::ArrowStream);
            (spec.format, if is_whole { Compression::None } else { text.parse().ok()? })
        }
        None => return None,
    };
    Some(Layout {
        format,
        compression,
        has_header: spec.csv.header,
        has_backslashes: spec.csv.quote == QuoteStyle::Never,
    })
}

/// Shows how it goes on.
struct Looking {
    meter: Meter,
    shutdown: &'static Shutdown,
}

impl Watch for Looking {
    fn looked(&mut self, records: u64, bytes: u64) {
        self.meter.add(records, bytes);
    }

    fn stop(&self) -> Option<anyhow::Error> {
        self.shutdown.check().err().map(Into::into)
    }
}
