//! What is written down of a consumer: its place in each shard, who holds it, and what was handed out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::checkpoint::Checkpoint;

/// Rates are told over at least so long, in microseconds.
const SAMPLE_US: i64 = 30 * 1_000_000;

/// What is known of a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerState {
    /// Counts the replacements of this file.
    pub generation: u64,
    /// The stream it belongs to.
    pub stream_id: Uuid,
    /// Microseconds since the epoch.
    pub created_us: i64,
    /// Who reads for it, by the worker's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub workers: BTreeMap<String, WorkerNote>,
    /// Its place in each shard.
    pub shards: BTreeMap<u32, ShardState>,
}

/// A worker as the state has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerNote {
    /// Its process.
    pub pid: u32,
    /// Microseconds since the epoch.
    pub since_us: i64,
    /// Whether it stays when it has read all there is. Only those that stay share the shards fairly.
    pub stays: bool,
}

/// A consumer's place in a shard, and who holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardState {
    /// How far it has come.
    pub checkpoint: Checkpoint,
    /// The worker that reads the shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Counts the changes of owner: what was leased under an earlier count cannot commit.
    pub counter: u64,
    /// How many records were committed in all.
    pub records: u64,
    /// How many bytes of data these had; those that a program before this count committed are not in it.
    #[serde(default)]
    pub bytes: u64,
    /// When the checkpoint last moved, microseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_us: Option<i64>,
    /// What had been committed some time ago, for a rate: an earlier and a later sample.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    /// A range that was handed out for a bookmark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Reservation>,
    /// The bookmark that was committed last: committing it again does no harm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bookmark: Option<Uuid>,
    /// The command that failed on the next records, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What had been committed when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// Records.
    pub records: u64,
}

/// Records that are in somebody's hands until a bookmark is committed or its time is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// The bookmark.
    pub token: Uuid,
    /// When the time is up, microseconds since the epoch.
    pub until_us: i64,
    /// The checkpoint once it is committed.
    pub to: Checkpoint,
    /// How many records it covers.
    pub records: u64,
    /// How many bytes of data these have.
    #[serde(default)]
    pub bytes: u64,
}

/// A command that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// How it ended, in words.
    pub status: String,
    /// How often it was tried on these records.
    pub attempts: u32,
    /// Microseconds since the epoch.
    pub at_us: i64,
}

impl ShardState {
    /// A place that nobody holds.
    pub fn at(checkpoint: Checkpoint) -> Self {
        Self {
            checkpoint,
            owner: None,
            counter: 0,
            records: 0,
            bytes: 0,
            committed_us: None,
            samples: Vec::new(),
            reserved: None,
            bookmark: None,
            failure: None,
        }
    }

    /// Moves the checkpoint.
    pub(in crate::stream) fn advance(&mut self, to: Checkpoint, records: u64, bytes: u64, now_us: i64) {
        self.checkpoint = to;
        self.records += records;
        self.bytes = self.bytes.saturating_add(bytes);
        self.committed_us = Some(now_us);
        self.failure = None;
        if self.samples.last().is_none_or(|last| now_us - last.at_us >= SAMPLE_US) {
            self.samples.push(Sample { at_us: now_us, records: self.records });
            let extra = self.samples.len().saturating_sub(2);
            self.samples.drain(..extra);
        }
    }

    /// How many records per second were committed lately.
    pub fn rate(&self, now_us: i64) -> Option<f64> {
        let first = self.samples.first()?;
        let seconds = (now_us - first.at_us) as f64 / 1e6;
        (seconds >= 1.0).then(|| (self.records - first.records) as f64 / seconds)
    }
}
