//! Where records come from.

mod range;
mod stream;

use std::time::Duration;

pub use range::RangeSource;
pub use stream::{Busy, StreamSource};
pub(super) use stream::{give, position};

use super::chunk::Origin;
use super::track::{Positions, ShardPosition};
use crate::record::{Attribute, ShardId};
use crate::stream::{Damage, Missed};

/// One record on its way in.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Where it came from.
    pub origin: Origin,
    /// Its partition key.
    pub key: Option<&'a str>,
    /// When its producer made it, if it said so, microseconds since the epoch.
    pub timestamp_us: Option<i64>,
    /// Its attributes.
    pub attributes: &'a [Attribute],
    /// Its data.
    pub payload: &'a [u8],
}

/// Takes what a source reads.
pub trait Sink {
    /// Takes a record.
    fn take(&mut self, record: &Incoming<'_>) -> anyhow::Result<()>;

    /// Whether all from this index on is wanted: nothing needs to be asked one by one.
    fn is_new(&self, shard: ShardId, first: u64) -> bool;

    /// Whether a record, or this part of it, is wanted.
    fn wants(&self, shard: ShardId, index: u64, sub: Option<u64>) -> bool;

    /// A record that is not to be delivered by this run: it stays among what is left.
    fn leave(&mut self, origin: &Origin);

    /// All before this index has been given.
    fn read_to(&mut self, shard: ShardId, index: u64);

    /// A record that could not be read as one, for the error output. It has no place in a stream.
    fn refuse(&mut self, record: &Incoming<'_>, reason: &str) -> anyhow::Result<()>;
}

/// What a step of a source came to.
#[derive(Debug)]
pub enum Step {
    /// Records were given.
    Read,
    /// There are no more for now.
    Tail,
    /// There will be no more.
    End,
    /// All of a shard has been given.
    Ended(ShardId),
    /// A stretch of a shard is damaged and was passed over.
    Damage(ShardId, Damage),
    /// Records of a shard are gone.
    Missed(ShardId, Missed),
    /// A shard is gone of which nobody knows how far it went.
    MissedShard(ShardId),
    /// Another process reads this shard now.
    Lost(ShardId),
    /// A shard to be read from where it stands.
    Begun(ShardId, ShardPosition),
}

/// Where records come from.
pub trait Source {
    /// Reads on, and gives what it finds to `sink`.
    fn poll(&mut self, sink: &mut dyn Sink) -> anyhow::Result<Step>;

    /// Waits for more at the tail, at most for so long.
    fn wait(&mut self, most: Option<Duration>) -> anyhow::Result<()>;

    /// Begins to read a shard that [`Step::Begun`] spoke of at this index, or anew.
    fn begin(&mut self, shard: ShardId, index: u64) -> anyhow::Result<()>;

    /// Leaves a shard aside; [`Source::begin`] takes it up again.
    fn pause(&mut self, shard: ShardId);

    /// Makes all durable that has been given: it is about to be noted down elsewhere.
    fn make_durable(&mut self) -> anyhow::Result<()>;

    /// Notes that the delivery stands here.
    fn commit(&mut self, positions: &Positions) -> anyhow::Result<()>;

    /// Looks for what is new at the end of a run: whether there is more to read.
    fn look(&mut self) -> anyhow::Result<bool>;

    /// Whether it says which shards there are, with [`Step::Begun`]. Otherwise records of any may come.
    fn tells_shards(&self) -> bool {
        true
    }

    /// Whether it has places to go on from: a later run can know what this one did.
    fn has_places(&self) -> bool;

    /// Whether there is still such a shard.
    fn has_shard(&self, _shard: ShardId) -> bool {
        true
    }

    /// Reads on behind the end that it was told, or no more: what a killed run had planned may lie there.
    fn ignore_end(&mut self, _on: bool) {}

    /// Gives up what it holds, at the end.
    fn leave(self: Box<Self>) -> anyhow::Result<()>;
}
