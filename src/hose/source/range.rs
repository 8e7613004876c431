//! A range of a stream, read by nobody in particular: nothing is remembered.

use std::time::Duration;

use super::{Sink, Source, Step, give};
use crate::hose::track::Positions;
use crate::record::ShardId;
use crate::stream::{Order, Polled, Start, Stream, StreamReader, Until};

/// Reads from one place to another.
pub struct RangeSource {
    reader: StreamReader,
}

impl RangeSource {
    /// All shards, one after the other.
    pub fn open(stream: Stream, start: Start, until: Until) -> anyhow::Result<Self> {
        Ok(Self { reader: StreamReader::open(stream, start, until, Order::Shard, None)? })
    }
}

impl Source for RangeSource {
    fn poll(&mut self, sink: &mut dyn Sink) -> anyhow::Result<Step> {
        Ok(match self.reader.poll(&mut |delivery| give(delivery, true, sink))? {
            Polled::Frame(_, given) => given.map(|_| Step::Read)?,
            // It goes on in its children.
            Polled::ShardEnd(_) => Step::Read,
            Polled::Tail | Polled::End => Step::End,
            Polled::Damage(shard, damage) => Step::Damage(shard, damage),
            Polled::Missed(shard, missed) => Step::Missed(shard, missed),
        })
    }

    fn wait(&mut self, _most: Option<Duration>) -> anyhow::Result<()> {
        Ok(())
    }

    fn begin(&mut self, _shard: ShardId, _index: u64) -> anyhow::Result<()> {
        Ok(())
    }

    fn pause(&mut self, _shard: ShardId) {}

    fn make_durable(&mut self) -> anyhow::Result<()> {
        let shards: Vec<ShardId> = self.reader.shards().collect();
        shards.into_iter().try_for_each(|shard| Ok(self.reader.make_durable(shard)?))
    }

    fn commit(&mut self, _positions: &Positions) -> anyhow::Result<()> {
        Ok(())
    }

    fn look(&mut self) -> anyhow::Result<bool> {
        Ok(false)
    }

    fn has_places(&self) -> bool {
        false
    }

    fn leave(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}
