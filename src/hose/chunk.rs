//! Records on their way into one object.

use crate::record::{SequenceNumber, ShardId};

/// Where a record came from.
///
/// From a stream, or from envelopes, this is its place there. From lines of a pipe `index` counts them, in a shard 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The shard.
    pub shard: ShardId,
    /// When the shard was created, seconds since the epoch.
    pub shard_created_s: u64,
    /// The record's index in its shard.
    pub index: u64,
    /// Where several records were taken out of this one (an aggregate, or several JSON values): which of them this is.
    pub sub: Option<u64>,
    /// When the log took it, microseconds since the epoch.
    pub arrival_us: i64,
}

impl Origin {
    /// Its sequence number.
    pub fn sequence(&self) -> SequenceNumber {
        SequenceNumber {
            shard_created_s: self.shard_created_s,
            index: self.index,
            arrival_s: (self.arrival_us / 1_000_000) as u64,
            shard: self.shard,
        }
    }
}

/// Rows whose origins follow one another: by `sub` where the first has one, else by `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The origin of the first.
    pub first: Origin,
    /// How many rows.
    pub rows: u32,
}

/// Payloads back to back, each followed by one newline, and where they came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The payloads. A payload may have newlines in it: only `ends` tells where it ends.
    pub bytes: Vec<u8>,
    /// Where each payload ends in `bytes`, its newline not included.
    pub ends: Vec<u32>,
    /// The origins of the rows, in their order.
    pub runs: Vec<Run>,
}

impl Chunk {
    /// How many payloads.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Appends a payload.
    pub fn push(&mut self, origin: Origin, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len() as u32);
        self.bytes.push(b'\n');
        self.note(origin, 1);
    }

    /// Notes where the next `rows` rows come from: `first`, and those that follow it.
    pub fn note(&mut self, first: Origin, rows: u32) {
        if let Some(last) = self.runs.last_mut()
            && follows(last, first)
        {
            last.rows += rows;
            return;
        }
        self.runs.push(Run { first, rows });
    }

    /// The payload of row `i`.
    pub fn payload(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize + 1 };
        &self.bytes[start..self.ends[i] as usize]
    }

    /// The payloads in their order.
    pub fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.payload(i))
    }

    /// Where row `i` came from.
    pub fn origin(&self, i: usize) -> Option<Origin> {
        let mut before = 0;
        for run in &self.runs {
            let at = i - before;
            if at < run.rows as usize {
                let first = run.first;
                return Some(match first.sub {
                    Some(sub) => Origin { sub: Some(sub + at as u64), ..first },
                    None => Origin { index: first.index + at as u64, ..first },
                });
            }
            before += run.rows as usize;
        }
        None
    }
}

fn follows(run: &Run, next: Origin) -> bool {
    let first = run.first;
    let step = u64::from(run.rows);
    first.shard == next.shard
        && first.arrival_us == next.arrival_us
        && match (first.sub, next.sub) {
            (None, None) => first.index + step == next.index,
            (Some(sub), Some(next_sub)) => first.index == next.index && sub + step == next_sub,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(index: u64, sub: Option<u64>) -> Origin {
        Origin { shard: ShardId(1), shard_created_s: 5, index, sub, arrival_us: 7_000_000 }
    }

    #[test]
    fn rows_keep_their_payloads_and_origins() {
        let mut chunk = Chunk::default();
        let origins = [
            origin(3, None),
            origin(4, None),
            origin(9, None),
            origin(10, Some(0)),
            origin(10, Some(1)),
            origin(11, None),
        ];
        for (i, origin) in origins.iter().enumerate() {
            chunk.push(*origin, format!("a\n{i}").as_bytes());
        }
        assert_eq!(chunk.runs.len(), 4);
        for (i, origin) in origins.iter().enumerate() {
            assert_eq!(chunk.payload(i), format!("a\n{i}").as_bytes());
            assert_eq!(chunk.origin(i), Some(*origin));
        }
        assert_eq!(chunk.origin(6), None);
        assert_eq!(chunk.payloads().count(), 6);
    }
}
