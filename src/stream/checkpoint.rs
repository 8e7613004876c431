//! How far a consumer has come in a shard.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::cursor::Place;
use super::document::decimal_sequence;
use crate::record::SequenceNumber;

/// A consumer's place in a shard.
///
/// `trim-horizon`, `latest` and times are turned into indexes when a consumer is made, so that nothing that arrives,
/// or expires, between then and the first read is passed over in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum Checkpoint {
    /// Before the record with this index.
    Index {
        /// The index.
        index: u64,
    },
    /// Behind this record.
    AfterSequenceNumber {
        /// The record.
        #[serde(with = "decimal_sequence")]
        sequence_number: SequenceNumber,
        /// Where the record is an aggregate and not all of it is done: the last of its records that is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sub_sequence_number: Option<u64>,
    },
    /// Behind all records: the shard is closed and done, and its children may be read.
    ShardEnd,
}

impl Checkpoint {
    /// At the first record there ever was.
    pub const START: Self = Self::Index { index: 0 };

    /// Behind a record, or behind one of an aggregate's.
    pub fn after(sequence_number: SequenceNumber, sub_sequence_number: Option<u64>) -> Self {
        Self::AfterSequenceNumber { sequence_number, sub_sequence_number }
    }

    /// Where to go on; `None` at the end.
    pub fn place(&self) -> Option<Place> {
        self.next_index().map(Place::Index)
    }

    /// The index of the record to go on with; `None` at the end.
    pub fn next_index(&self) -> Option<u64> {
        match *self {
            Self::Index { index } => Some(index),
            Self::AfterSequenceNumber { sequence_number, sub_sequence_number: Some(_) } => {
                Some(sequence_number.index)
            }
            Self::AfterSequenceNumber { sequence_number, sub_sequence_number: None } => {
                Some(sequence_number.index + 1)
            }
            Self::ShardEnd => None,
        }
    }

    /// Of the record to go on with, what is done already: its index and the last of its records.
    pub fn within(&self) -> Option<(u64, u64)> {
        match *self {
            Self::AfterSequenceNumber { sequence_number, sub_sequence_number: Some(sub) } => {
                Some((sequence_number.index, sub))
            }
            _ => None,
        }
    }

    /// Whether the shard is done.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::ShardEnd)
    }
}

impl PartialOrd for Checkpoint {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        // Places in one shard: the next index, and what of it is done; the end is behind all.
        let rank = |checkpoint: &Self| {
            let within = checkpoint.within().map(|(_, sub)| sub);
            checkpoint.next_index().map_or((u64::MAX, None), |index| (index, within))
        };
        Some(rank(self).cmp(&rank(other)))
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index { index: 0 } => f.write_str("TRIM_HORIZON"),
            Self::Index { index } => write!(f, "before index {index}"),
            Self::AfterSequenceNumber { sequence_number, sub_sequence_number: None } => {
                write!(f, "after:{sequence_number}")
            }
            Self::AfterSequenceNumber { sequence_number, sub_sequence_number: Some(sub) } => {
                write!(f, "after:{sequence_number}/{sub}")
            }
            Self::ShardEnd => f.write_str("SHARD_END"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ShardId;

    fn after(index: u64, sub: Option<u64>) -> Checkpoint {
        let sequence = SequenceNumber { shard_created_s: 1, index, arrival_s: 2, shard: ShardId(3) };
        Checkpoint::after(sequence, sub)
    }

    #[test]
    fn places_in_a_shard_have_an_order() {
        let rising = [
            Checkpoint::START,
            after(0, Some(0)),
            after(0, Some(7)),
            after(0, None),
            Checkpoint::Index { index: 2 },
            after(2, Some(0)),
            Checkpoint::ShardEnd,
        ];
        for pair in rising.windows(2) {
            assert!(pair[0] < pair[1], "{} {}", pair[0], pair[1]);
        }
        assert!(after(1, None) >= Checkpoint::Index { index: 2 });
    }

    #[test]
    fn they_survive_as_json() {
        for checkpoint in [Checkpoint::START, after(5, None), after(5, Some(2)), Checkpoint::ShardEnd] {
            let text = serde_json::to_string(&checkpoint).unwrap();
            assert_eq!(serde_json::from_str::<Checkpoint>(&text).unwrap(), checkpoint, "{text}");
        }
        let text = serde_json::to_string(&after(5, Some(2))).unwrap();
        assert!(text.starts_with(r#"{"at":"AFTER_SEQUENCE_NUMBER","sequenceNumber":"4"#), "{text}");
    }
}
