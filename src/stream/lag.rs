//! How far a consumer is behind, and what it waits for.

use super::Stream;
use super::consumer::{Consumer, ConsumerState, Failure, ShardState};
use super::cursor::{Place, ShardCursor};
use super::error::{Error, InShard};
use super::lease;
use super::stats::extents;
use crate::record::ShardId;

/// A consumer's place in a shard, held against the shard.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardLag {
    /// The shard.
    pub shard: ShardId,
    /// What the consumer's state says.
    pub state: ShardState,
    /// The process that reads it.
    pub pid: Option<u32>,
    /// Records that have not been committed.
    pub records: u64,
    /// For how long the first of them has been there, microseconds; 0 where there is none.
    pub age_us: i64,
    /// Records a second that arrive, over the window. A shard that has ended takes none.
    pub rate_in: f64,
    /// Records a second that are committed, over the last samples; `None` where none were taken.
    pub rate_out: Option<f64>,
    /// Why it is not further.
    pub waits: Waits,
}

/// What a consumer waits for in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    /// Nothing: the shard is closed and done.
    Done,
    /// For these parents to be done.
    Parents(Vec<ShardId>),
    /// For a bookmark to be committed, or its time to be up, at this time in microseconds since the epoch.
    Bookmark(i64),
    /// For a command to succeed that its worker tries again and again.
    Command(Failure),
    /// For somebody to read: no worker that lives holds the lease, and there are records. Its command may have failed
    /// before.
    Worker,
    /// For its worker, which holds the lease and has records to read.
    Reading,
    /// For records: all that there is has been committed.
    Records,
}

impl ShardLag {
    /// How many seconds until it has caught up at these rates; `None` where it does not.
    pub fn catch_up_s(&self) -> Option<f64> {
        if self.records == 0 {
            return Some(0.0);
        }
        let gain = self.rate_out? - self.rate_in;
        (gain > 0.0).then(|| self.records as f64 / gain)
    }
}

impl Consumer {
    /// Holds its places against the shards. Rates of arrival are taken over the last `window_us`.
    pub fn lag(
        &self,
        stream: &Stream,
        state: &ConsumerState,
        window_us: i64,
    ) -> Result<Vec<ShardLag>, Error> {
        let now_us = stream.system().clock.now_us();
        let alive = |id: &String| {
            let held = lease::is_held(stream.system(), &self.worker_path(id));
            state.workers.get(id).filter(|_| held).map(|worker| worker.pid)
        };
        let mut lags = Vec::new();
        for info in &stream.manifest().shards {
            // A shard that has come into being since the consumer last looked begins at its start.
            let fresh = || ShardState::at(super::Checkpoint::START);
            let known = state.shards.get(&info.shard).cloned().unwrap_or_else(fresh);
            let pid = known.owner.as_ref().and_then(alive);
            let (mut records, mut age_us, mut rate_in) = (0, 0, 0.0);
            if let Some(next) = known.checkpoint.next_index() {
                let extents = extents(&stream.log_dir(info)).in_shard(info.id())?;
                records = extents.iter().map(|e| e.end.saturating_sub(e.first.max(next))).sum();
                if records > 0 {
                    let mut cursor = ShardCursor::open(stream, info, Place::Index(next))?;
                    age_us = cursor.peek_arrival()?.map_or(0, |at_us| (now_us - at_us).max(0));
                }
                let since_us = now_us.saturating_sub(window_us).max(info.created_us);
                let from = ShardCursor::open(stream, info, Place::Time(since_us))?.next_index();
                let arrived: u64 = extents.iter().map(|e| e.end.saturating_sub(e.first.max(from))).sum();
                let rate = arrived as f64 / ((now_us - since_us).max(1_000_000) as f64 / 1e6);
                rate_in = if info.is_open() { rate } else { 0.0 };
            }
            let parents: Vec<ShardId> = info
                .parents
                .iter()
                .filter(|parent| state.shards.get(parent).is_some_and(|p| !p.checkpoint.is_end()))
                .map(|&parent| ShardId(parent))
                .collect();
            let reserved = known.reserved.as_ref().filter(|reserved| reserved.until_us > now_us);
            let waits = match (&known.failure, reserved, pid) {
                _ if known.checkpoint.is_end() => Waits::Done,
                _ if !parents.is_empty() => Waits::Parents(parents),
                (_, Some(reserved), _) => Waits::Bookmark(reserved.until_us),
                (Some(failure), _, Some(_)) => Waits::Command(failure.clone()),
                (.., None) if records > 0 || !info.is_open() => Waits::Worker,
                (.., Some(_)) if records > 0 => Waits::Reading,
                _ => Waits::Records,
            };
            let rate_out = known.rate(now_us);
            lags.push(ShardLag {
                shard: info.id(),
                state: known,
                pid,
                records,
                age_us,
                rate_in,
                rate_out,
                waits,
            });
        }
        Ok(lags)
    }
}
