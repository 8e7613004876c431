//! What is measured of a delivery, under the service's names.

use super::ledger::{Entry, Totals};

/// Counters of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Records read.
    pub incoming_records: u64,
    /// Bytes of their data.
    pub incoming_bytes: u64,
    /// Bytes as the service meters them: each record in units of 5 KiB.
    pub billed_bytes: u64,
    /// Bytes of records that were converted into columns.
    pub converted_bytes: u64,
    /// Bytes of records that were partitioned by keys.
    pub partitioned_bytes: u64,
    /// What was delivered.
    pub delivered: Totals,
    /// Batches committed.
    pub batches: u64,
    /// Records that retention or damage took before they could be delivered.
    pub lost: u64,
    /// Objects that are open.
    pub partitions: u64,
    /// When the oldest record arrived that is not delivered yet, microseconds since the epoch.
    pub oldest_us: Option<i64>,
}

impl Metrics {
    /// Adds a batch: what its commit says beyond what was delivered `before` it.
    pub fn delivered(&mut self, entry: &Entry, before: Totals) {
        let now = entry.totals;
        self.delivered += Totals {
            records: now.records.saturating_sub(before.records),
            bytes: now.bytes - before.bytes,
            objects: now.objects - before.objects,
            failed: now.failed - before.failed,
            dropped: now.dropped - before.dropped,
        };
        self.batches += 1;
    }
}
