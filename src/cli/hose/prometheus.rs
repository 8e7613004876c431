//! Metrics in Prometheus' text format, for a file that the node exporter's textfile collector reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;

use crate::hose::metrics::Metrics;
use crate::sys::System;

/// A number of a delivery that is measured: its name, its kind, what it is, and its value at a time.
type Measured = (&'static str, &'static str, &'static str, fn(&Metrics, i64) -> f64);

/// All that is measured, the age of the oldest record that is not delivered first: it is the one that alarms are made of.
const MEASURED: [Measured; 15] = [
    (
        "khose_data_freshness_seconds",
        "gauge",
        "Age of the oldest record that was read and is not delivered.",
        |metrics, now_us| metrics.oldest_us.map_or(0.0, |oldest| (now_us - oldest).max(0) as f64 / 1e6),
    ),
    ("khose_delivered_records_total", "counter", "Records delivered by this run.", |metrics, _| {
        metrics.delivered.records as f64
    }),
    ("khose_delivered_bytes_total", "counter", "Bytes of delivered objects.", |metrics, _| {
        metrics.delivered.bytes as f64
    }),
    ("khose_delivered_objects_total", "counter", "Objects delivered.", |metrics, _| {
        metrics.delivered.objects as f64
    }),
    ("khose_failed_records_total", "counter", "Records in the error output.", |metrics, _| {
        metrics.delivered.failed as f64
    }),
    ("khose_dropped_records_total", "counter", "Records left out on purpose.", |metrics, _| {
        metrics.delivered.dropped as f64
    }),
    (
        "khose_lost_records_total",
        "counter",
        "Records that were gone before they could be read.",
        |metrics, _| metrics.lost as f64,
    ),
    ("khose_incoming_records_total", "counter", "Records read.", |metrics, _| {
        metrics.incoming_records as f64
    }),
    ("khose_incoming_bytes_total", "counter", "Bytes of their data.", |metrics, _| {
        metrics.incoming_bytes as f64
    }),
    ("khose_batches_total", "counter", "Batches committed.", |metrics, _| metrics.batches as f64),
    ("khose_partition_count", "gauge", "Partitions that are open.", |metrics, _| metrics.partitions as f64),
    (
        "khose_metered_bytes_total",
        "counter",
        "Bytes in units of 5 KiB for each record, as billed.",
        |metrics, _| metrics.billed_bytes as f64,
    ),
    ("khose_converted_bytes_total", "counter", "Bytes that were converted to columns.", |metrics, _| {
        metrics.converted_bytes as f64
    }),
    ("khose_partitioned_bytes_total", "counter", "Bytes that were partitioned by keys.", |metrics, _| {
        metrics.partitioned_bytes as f64
    }),
    ("khose_written_timestamp_seconds", "gauge", "When this file was written.", |_, now_us| {
        now_us as f64 / 1e6
    }),
];

/// The file of a run, with all of its deliveries in it: a name may be told of once only.
pub(super) struct MetricsFile {
    path: PathBuf,
    system: System,
    /// By the labels of a delivery.
    all: Mutex<BTreeMap<String, Metrics>>,
}

impl MetricsFile {
    pub(super) fn new(path: PathBuf, system: System) -> Self {
        Self { path, system, all: Mutex::default() }
    }

    /// Writes the file anew, in one step, with what is new of one delivery.
    pub(super) fn write(&self, stream: &str, destination: &str, metrics: &Metrics) -> anyhow::Result<()> {
        let labels = format!("stream=\"{}\",destination=\"{}\"", escaped(stream), escaped(destination));
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(labels, metrics.clone());
        let text = render(&all, self.system.clock.now_us());
        let written = self.system.disk.replace(&self.path, text.as_bytes());
        written.with_context(|| format!("metrics {}", self.path.display()))
    }
}

fn render(all: &BTreeMap<String, Metrics>, now_us: i64) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in MEASURED {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, metrics) in all {
            let _ = writeln!(text, "{name}{{{labels}}} {}", value(metrics, now_us));
        }
    }
    text
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_of_once_for_all_deliveries() {
        let old = Metrics { oldest_us: Some(1_000_000), batches: 3, ..Metrics::default() };
        let all = [("stream=\"a\"".to_owned(), Metrics::default()), ("stream=\"b\\\"\"".to_owned(), old)];
        let text = render(&all.into(), 3_500_000);
        assert_eq!(text.matches("# TYPE khose_batches_total counter\n").count(), 1);
        for line in [
            "khose_data_freshness_seconds{stream=\"a\"} 0\nkhose_data_freshness_seconds{stream=\"b\\\"\"} 2.5\n",
            "khose_batches_total{stream=\"a\"} 0\nkhose_batches_total{stream=\"b\\\"\"} 3\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(escaped("a\"\\\n"), "a\\\"\\\\\\n");
    }
}
