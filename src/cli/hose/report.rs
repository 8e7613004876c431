//! What khose tells while it works, and at the end.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::args::LogForm;
use super::prometheus::MetricsFile;
use crate::cli::Outcome;
use crate::cli::meter::Meter;
use crate::cli::report;
use crate::cli::signal::{self, Shutdown};
use crate::cli::trouble::Trouble;
use crate::cli::value::{about_size, show_count};
use crate::hose::delivery::Reporter;
use crate::hose::ledger::Entry;
use crate::hose::metrics::Metrics;
use crate::log::{Damage, Missed};
use crate::record::ShardId;
use crate::sys::System;

/// The name under which this program speaks.
pub(super) const PROGRAM: &str = "khose";
/// So often the metrics are written anew: the node exporter looks every fifteen seconds as a rule.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// Says things as lines for a person, or as objects for a program.
#[derive(Clone, Copy)]
pub(super) struct Voice {
    pub(super) form: LogForm,
    pub(super) quiet: bool,
}

impl Voice {
    /// A message that is worth seeing, but no error.
    pub(super) fn note(self, delivery: &str, text: &str) {
        if !self.quiet {
            self.say("info", delivery, text);
        }
    }

    /// A message that must be seen.
    pub(super) fn warn(self, delivery: &str, text: &str) {
        self.say("warning", delivery, text);
    }

    fn say(self, level: &str, delivery: &str, text: &str) {
        match self.form {
            LogForm::Text if delivery.is_empty() => report::say(PROGRAM, &report::printable(text), None),
            LogForm::Text => report::say(PROGRAM, &report::printable(&format!("{delivery}: {text}")), None),
            LogForm::Json => {
                let time = crate::cli::value::show_time(System::real().clock.now_us());
                let line = serde_json::json!({
                    "time": time, "level": level, "deliveryStream": delivery, "message": text,
                });
                eprintln!("{line}");
            }
        }
    }
}

/// Reports on one delivery.
pub(super) struct Report {
    /// The stream's name, or `-`.
    pub(super) delivery: String,
    pub(super) destination: String,
    pub(super) voice: Voice,
    pub(super) trouble: Option<Trouble>,
    pub(super) meter: Meter,
    pub(super) shutdown: &'static Shutdown,
    pub(super) metrics: Option<Arc<MetricsFile>>,
    pub(super) written: Instant,
    pub(super) system: System,
}

impl Report {
    /// Writes the metrics, if they are wanted.
    pub(super) fn write_metrics(&mut self, metrics: &Metrics) -> anyhow::Result<()> {
        let Some(file) = &self.metrics else { return Ok(()) };
        self.written = Instant::now();
        file.write(&self.delivery, &self.destination, metrics)
    }

    /// The end of a delivery: its last line, and how it ended.
    pub(super) fn end(mut self, metrics: anyhow::Result<Metrics>) -> anyhow::Result<Outcome> {
        let written = metrics.as_ref().map_or(Ok(()), |metrics| self.write_metrics(metrics));
        let summary = metrics.as_ref().map(|metrics| self.summary(metrics)).unwrap_or_default();
        let met = self.trouble.as_ref().is_some_and(Trouble::met);
        self.meter.finish();
        let metrics = metrics?;
        written?;
        self.voice.note(&self.delivery, &summary);
        Ok(if metrics.delivered.failed > 0 || met { Outcome::Refused } else { Outcome::Done })
    }

    /// The last line.
    fn summary(&self, metrics: &Metrics) -> String {
        let plural = |count: u64, noun: &str| {
            format!("{} {noun}{}", show_count(count), if count == 1 { "" } else { "s" })
        };
        let totals = &metrics.delivered;
        let mut text = format!("{} delivered to {}", plural(totals.records, "record"), self.destination);
        // What takes records has no objects.
        let _ = match (totals.objects, totals.bytes) {
            (0, _) | (_, 1..) => {
                write!(text, " in {}, {}", plural(totals.objects, "object"), about_size(totals.bytes))
            }
            _ if metrics.batches == 1 => write!(text, " in 1 batch"),
            _ => write!(text, " in {} batches", show_count(metrics.batches)),
        };
        if totals.failed > 0 {
            let _ = write!(text, "; {} in the error output", plural(totals.failed, "record"));
        }
        if totals.dropped > 0 {
            let _ = write!(text, "; {} left out", plural(totals.dropped, "record"));
        }
        if metrics.billed_bytes > 0 {
            let _ =
                write!(text, " (metered as the service does: {} ingested", about_size(metrics.billed_bytes));
            if metrics.converted_bytes > 0 {
                let _ = write!(text, ", {} converted", about_size(metrics.converted_bytes));
            }
            if metrics.partitioned_bytes > 0 {
                let _ = write!(text, ", {} partitioned", about_size(metrics.partitioned_bytes));
            }
            text.push(')');
        }
        text
    }
}

impl Reporter for Report {
    fn damage(&mut self, shard: ShardId, damage: &Damage) -> anyhow::Result<()> {
        self.trouble.as_mut().map_or(Ok(()), |trouble| trouble.damage(shard, damage, &self.meter))
    }

    fn missed(&mut self, shard: ShardId, missed: Missed) {
        if let Some(trouble) = &mut self.trouble {
            trouble.missed(shard, missed, &self.meter);
        }
    }

    fn missed_shard(&mut self, shard: ShardId) {
        if let Some(trouble) = &mut self.trouble {
            trouble.missed_shard(shard, &self.meter);
        }
    }

    fn say(&mut self, text: &str) {
        self.meter.aside(|| self.voice.warn(&self.delivery, text));
    }

    fn read(&mut self, records: u64, bytes: u64) {
        self.meter.add(records, bytes);
    }

    fn delivered(&mut self, entry: &Entry, metrics: &Metrics) {
        if self.voice.form == LogForm::Json && !self.voice.quiet {
            let line = serde_json::json!({
                "time": crate::cli::value::show_time(self.system.clock.now_us()),
                "level": "info",
                "deliveryStream": self.delivery,
                "destination": self.destination,
                "deliveryStreamVersionId": entry.version,
                "message": "batch delivered",
                "batch": entry.number,
                "objects": entry.objects.len(),
                "records": entry.objects.iter().map(|object| object.records).sum::<u64>(),
                "bytes": entry.objects.iter().map(|object| object.bytes).sum::<u64>(),
                "failed": entry.errors.iter().map(|object| object.records).sum::<u64>(),
            });
            self.meter.aside(|| eprintln!("{line}"));
        }
        if let Err(error) = self.write_metrics(metrics) {
            self.say(&report::line(&error));
        }
    }

    fn stop(&self) -> Option<anyhow::Error> {
        self.shutdown.check().err().map(Into::into)
    }

    fn reload(&self) -> bool {
        signal::reload_requested()
    }

    fn tick(&mut self, metrics: &Metrics) {
        if self.metrics.is_some()
            && self.written.elapsed() >= METRICS_EVERY
            && let Err(error) = self.write_metrics(metrics)
        {
            self.say(&report::line(&error));
            self.metrics = None;
        }
    }
}
