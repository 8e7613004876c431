//! The service's limits, imitated, so that a producer can be tried against them: 1 MiB and 1000 records a second for
//! each shard, as a bucket that holds one second's worth. Whoever asks waits by himself: what he has gathered should be on
//! the disk meanwhile.

use std::collections::BTreeMap;

use crate::record::ShardId;

/// Bytes a second that a shard takes.
pub const BYTES_PER_SECOND: u64 = 1 << 20;
/// Records a second that a shard takes.
pub const RECORDS_PER_SECOND: u64 = 1000;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// What may still be taken, in millionths of a byte and of a record.
    bytes: i64,
    records: i64,
    at_us: i64,
}

/// How full each shard is.
#[derive(Debug, Default)]
pub struct Limits {
    shards: BTreeMap<ShardId, Bucket>,
}

const MICRO: i64 = 1_000_000;

impl Limits {
    /// How long, in microseconds, a record of `bytes` has to wait; 0 where it may go, and then it is counted.
    pub fn ask(&mut self, now_us: i64, shard: ShardId, bytes: usize) -> i64 {
        let (byte_rate, record_rate) = (BYTES_PER_SECOND as i64, RECORDS_PER_SECOND as i64);
        let full = Bucket { bytes: byte_rate * MICRO, records: record_rate * MICRO, at_us: now_us };
        let bucket = self.shards.entry(shard).or_insert(full);
        let passed = (now_us - bucket.at_us).clamp(0, MICRO);
        bucket.at_us = now_us;
        bucket.bytes = (bucket.bytes + passed * byte_rate).min(full.bytes);
        bucket.records = (bucket.records + passed * record_rate).min(full.records);
        // A record larger than a second's worth waits for a full bucket and leaves it in debt, as the service's
        // bursts for large records do.
        let need = (bytes as i64 * MICRO).min(full.bytes);
        let wait = ((need - bucket.bytes).max(0) as u64)
            .div_ceil(byte_rate as u64)
            .max(((MICRO - bucket.records).max(0) as u64).div_ceil(record_rate as u64));
        if wait == 0 {
            bucket.bytes -= bytes as i64 * MICRO;
            bucket.records -= MICRO;
        }
        wait as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_takes_a_thousand_records_a_second() {
        let mut limits = Limits::default();
        let taken =
            |limits: &mut Limits, at| (0..3000).filter(|_| limits.ask(at, ShardId(0), 10) == 0).count();
        assert_eq!(taken(&mut limits, 0), 1000);
        assert_eq!(taken(&mut limits, 500_000), 500);
        assert_eq!(limits.ask(500_000, ShardId(0), 10), 1000, "one record's time");
        assert_eq!(limits.ask(500_000, ShardId(1), 10), 0, "another shard has its own");
        assert_eq!(taken(&mut limits, 60_000_000), 1000, "it saves up no more than a second");
    }

    #[test]
    fn a_shard_takes_a_mebibyte_a_second() {
        let mut limits = Limits::default();
        assert_eq!(limits.ask(0, ShardId(0), 1 << 20), 0);
        assert_eq!(limits.ask(0, ShardId(0), 1 << 19), 500_000);
        assert_eq!(limits.ask(500_000, ShardId(0), 1 << 19), 0);
        // Ten mebibytes go when the bucket is full, and nothing after them for nine seconds more.
        assert_eq!(limits.ask(10_000_000, ShardId(0), 10 << 20), 0);
        assert!(limits.ask(11_000_000, ShardId(0), 1) > 8_000_000);
    }
}
