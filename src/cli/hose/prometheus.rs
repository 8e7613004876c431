//! Metrics in Prometheus' text format, for a file that the node exporter's textfile collector reads.

use std::fmt::Write as _;

use crate::hose::metrics::Metrics;
use crate::sys::System;

/// All that is measured of a delivery, the age of the oldest record that is not delivered first: it is the one that
/// alarms are made of.
pub(super) fn render(stream: &str, destination: &str, metrics: &Metrics, system: &System) -> String {
    let now_us = system.clock.now_us();
    let freshness = metrics.oldest_us.map_or(0.0, |oldest| (now_us - oldest).max(0) as f64 / 1e6);
    let labels = format!("stream=\"{}\",destination=\"{}\"", escaped(stream), escaped(destination));
    let mut text = String::new();
    let mut add = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{{labels}}} {value}");
    };
    let totals = &metrics.delivered;
    add(
        "khose_data_freshness_seconds",
        "gauge",
        "Age of the oldest record that was read and is not delivered.",
        freshness,
    );
    add("khose_delivered_records_total", "counter", "Records delivered by this run.", totals.records as f64);
    add("khose_delivered_bytes_total", "counter", "Bytes of delivered objects.", totals.bytes as f64);
    add("khose_delivered_objects_total", "counter", "Objects delivered.", totals.objects as f64);
    add("khose_failed_records_total", "counter", "Records in the error output.", totals.failed as f64);
    add("khose_dropped_records_total", "counter", "Records left out on purpose.", totals.dropped as f64);
    add(
        "khose_lost_records_total",
        "counter",
        "Records that were gone before they could be read.",
        metrics.lost as f64,
    );
    add("khose_incoming_records_total", "counter", "Records read.", metrics.incoming_records as f64);
    add("khose_incoming_bytes_total", "counter", "Bytes of their data.", metrics.incoming_bytes as f64);
    add("khose_batches_total", "counter", "Batches committed.", metrics.batches as f64);
    add("khose_partition_count", "gauge", "Partitions that are open.", metrics.partitions as f64);
    add(
        "khose_metered_bytes_total",
        "counter",
        "Bytes in units of 5 KiB for each record, as billed.",
        metrics.billed_bytes as f64,
    );
    add("khose_written_timestamp_seconds", "gauge", "When this file was written.", now_us as f64 / 1e6);
    text
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
