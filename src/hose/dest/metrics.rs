//! What a destination has done, counted under the service's names.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counters of one destination, read while it works.
#[derive(Debug)]
pub struct Metrics {
    /// `DeliveryToHttpEndpoint`, `DeliveryToSplunk`, ...
    pub service: &'static str,
    /// Bytes of records that were delivered.
    pub bytes: AtomicU64,
    /// Records that were delivered.
    pub records: AtomicU64,
    /// Requests that succeeded.
    pub succeeded: AtomicU64,
    /// Requests that were made, repeats included.
    pub requests: AtomicU64,
    /// Bytes of records in all of these requests.
    pub processed_bytes: AtomicU64,
    /// Records in all of these requests.
    pub processed_records: AtomicU64,
    /// Records that the destination would not take.
    pub refused: AtomicU64,
    /// When the oldest record that is being delivered arrived, microseconds since the epoch; 0 where none is.
    pub oldest_us: AtomicI64,
    /// How long the last acknowledgement was waited for, microseconds, where the destination has them.
    pub ack_latency_us: AtomicU64,
}

impl Metrics {
    /// All zero. The name is the service's, as `DeliveryToSplunk`.
    pub fn new(service: &'static str) -> Self {
        Self {
            service,
            bytes: AtomicU64::new(0),
            records: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            processed_bytes: AtomicU64::new(0),
            processed_records: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            oldest_us: AtomicI64::new(0),
            ack_latency_us: AtomicU64::new(0),
        }
    }

    /// A request is made with these records.
    pub fn attempt(&self, records: u64, bytes: u64) {
        self.requests.fetch_add(1, Relaxed);
        self.processed_records.fetch_add(records, Relaxed);
        self.processed_bytes.fetch_add(bytes, Relaxed);
    }

    /// A request went well.
    pub fn success(&self) {
        self.succeeded.fetch_add(1, Relaxed);
    }

    /// These records are where they should be.
    pub fn delivered(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// An acknowledgement came after this time.
    pub fn acknowledged(&self, after: Duration) {
        self.ack_latency_us.store(after.as_micros() as u64, Relaxed);
    }

    /// The share of requests that succeeded; 1 where there were none.
    pub fn success_ratio(&self) -> f64 {
        match self.requests.load(Relaxed) {
            0 => 1.0,
            requests => self.succeeded.load(Relaxed) as f64 / requests as f64,
        }
    }

    /// The age of the oldest record that is being delivered, at this time.
    pub fn data_freshness(&self, now_us: i64) -> Duration {
        match self.oldest_us.load(Relaxed) {
            0 => Duration::ZERO,
            oldest => Duration::from_micros(now_us.saturating_sub(oldest).max(0) as u64),
        }
    }

    /// Everything by the service's names, as `DeliveryToSplunk.Bytes`. Times are in seconds.
    pub fn read(&self, now_us: i64) -> Vec<(String, f64)> {
        let count = |counter: &AtomicU64| counter.load(Relaxed) as f64;
        let mut all = vec![
            ("DataFreshness", self.data_freshness(now_us).as_secs_f64()),
            ("Bytes", count(&self.bytes)),
            ("Records", count(&self.records)),
            ("Success", self.success_ratio()),
            ("ProcessedBytes", count(&self.processed_bytes)),
            ("ProcessedRecords", count(&self.processed_records)),
        ];
        if self.ack_latency_us.load(Relaxed) > 0 {
            all.push(("DataAckLatency", count(&self.ack_latency_us) / 1e6));
        }
        all.into_iter().map(|(name, value)| (format!("{}.{name}", self.service), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_the_service_s() {
        let metrics = Metrics::new("DeliveryToSplunk");
        metrics.attempt(3, 30);
        metrics.attempt(3, 30);
        metrics.success();
        metrics.delivered(3, 30);
        metrics.oldest_us.store(5_000_000, Relaxed);
        let read = metrics.read(7_500_000);
        let value = |name: &str| read.iter().find(|(n, _)| n == name).map(|(_, value)| *value);
        assert_eq!(value("DeliveryToSplunk.DataFreshness"), Some(2.5));
        assert_eq!(value("DeliveryToSplunk.Records"), Some(3.0));
        assert_eq!(value("DeliveryToSplunk.ProcessedBytes"), Some(60.0));
        assert_eq!(value("DeliveryToSplunk.Success"), Some(0.5));
        assert_eq!(value("DeliveryToSplunk.DataAckLatency"), None);
        metrics.acknowledged(Duration::from_millis(250));
        assert!(metrics.read(0).contains(&("DeliveryToSplunk.DataAckLatency".to_owned(), 0.25)));
    }
}
