//! Where records first came from, for a delivery that reads them from somewhere else: from an error output.
//!
//! There a record's place is its line, by which it is known whether it was delivered. Its shard, which stands in names,
//! and its sequence number, which stands in the error output if it fails again, are those that it had in its stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::chunk::Origin;
use super::track::{Among, ShardPosition};
use crate::record::{SequenceNumber, ShardId};

/// A stream, and the delivery that could not deliver a record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The stream's name.
    pub stream: String,
    /// The stream's UUID.
    pub stream_id: Uuid,
    /// The delivery's name.
    pub delivery: Option<String>,
}

/// Where one record stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// In which stream.
    pub from: Arc<From>,
    /// Where there.
    pub sequence: SequenceNumber,
    /// Where in its aggregate.
    pub sub: Option<u64>,
}

/// The homes of records that have been read and are not delivered yet, by their lines. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Homes(Arc<Mutex<BTreeMap<u64, Home>>>);

impl Homes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Home>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes where a record stood.
    pub fn note(&self, index: u64, home: Home) {
        self.lock().insert(index, home);
    }

    /// Where a record stood, if that is known.
    pub fn of(&self, origin: &Origin) -> Option<Home> {
        self.lock().get(&origin.index).cloned()
    }

    /// The shard that it stood in; where that is not known, the one it is read from.
    pub fn shard(&self, origin: &Origin) -> ShardId {
        self.lock().get(&origin.index).map_or(origin.shard, |home| home.sequence.shard)
    }

    /// Forgets all that is delivered.
    pub fn delivered(&self, position: &ShardPosition) {
        self.lock().retain(|&index, _| index >= position.to || position.is_left(index, None) != Among::No);
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.lock().clear();
    }
}
