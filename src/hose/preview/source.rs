//! Reading without a trace.

use std::collections::VecDeque;
use std::time::Duration;

use crate::hose::chunk::Origin;
use crate::hose::source::{Incoming, Sink, Source, Step, give, position};
use crate::hose::track::Positions;
use crate::record::ShardId;
use crate::stream::{Order, Outlook, Place, Polled, Start, Stream, StreamReader, Until};

/// Reads what a consumer would read next, to the end.
pub struct Lookahead {
    reader: StreamReader,
    until: Until,
    outlook: Outlook,
    told: VecDeque<Step>,
}

impl Lookahead {
    /// For the consumer of this name, or for one that would begin at `start`.
    pub fn open(stream: Stream, name: &str, start: Start, until: Until) -> anyhow::Result<Self> {
        StreamReader::check_until(&stream, until)?;
        let outlook = Outlook::of(&stream, name, start)?;
        let reader = StreamReader::empty(stream, until, Order::Shard);
        let mut source = Self { reader, until, outlook, told: VecDeque::new() };
        source.assign()?;
        Ok(source)
    }

    fn assign(&mut self) -> anyhow::Result<bool> {
        self.reader.reload()?;
        let found = self.outlook.assign(self.reader.stream().manifest());
        for &(shard, missed) in &found.missed {
            self.told.push_back(match missed {
                Some(missed) => Step::Missed(shard, missed),
                None => Step::MissedShard(shard),
            });
        }
        for (shard, checkpoint) in &found.taken {
            if let Some(low) = checkpoint.next_index() {
                self.told.push_back(Step::Begun(*shard, position(checkpoint, low)));
            }
        }
        Ok(!found.taken.is_empty())
    }
}

impl Source for Lookahead {
    fn poll(&mut self, sink: &mut dyn Sink) -> anyhow::Result<Step> {
        if let Some(step) = self.told.pop_front() {
            return Ok(step);
        }
        Ok(match self.reader.poll(&mut |delivery| give(delivery, true, sink))? {
            Polled::Frame(_, given) => given.map(|_| Step::Read)?,
            Polled::Tail | Polled::End => Step::Tail,
            Polled::ShardEnd(shard) => Step::Ended(shard),
            Polled::Damage(shard, damage) => Step::Damage(shard, damage),
            Polled::Missed(shard, missed) => Step::Missed(shard, missed),
        })
    }

    fn wait(&mut self, _most: Option<Duration>) -> anyhow::Result<()> {
        Ok(())
    }

    fn begin(&mut self, shard: ShardId, index: u64) -> anyhow::Result<()> {
        self.reader.remove(shard);
        if let Some(info) = self.reader.stream().manifest().shard(shard).cloned() {
            self.reader.add(&info, Place::Index(index))?;
        }
        Ok(())
    }

    fn pause(&mut self, shard: ShardId) {
        self.reader.remove(shard);
    }

    fn make_durable(&mut self) -> anyhow::Result<()> {
        // Nothing is noted down anywhere.
        Ok(())
    }

    fn commit(&mut self, positions: &Positions) -> anyhow::Result<()> {
        for (&shard, _) in positions.iter().filter(|(_, position)| position.is_done()) {
            self.outlook.end(ShardId(shard));
        }
        Ok(())
    }

    fn look(&mut self) -> anyhow::Result<bool> {
        self.assign()
    }

    fn has_places(&self) -> bool {
        true
    }

    fn has_shard(&self, shard: ShardId) -> bool {
        self.reader.stream().manifest().shard(shard).is_some()
    }

    fn ignore_end(&mut self, on: bool) {
        self.reader.set_until(if on { Until::Never } else { self.until });
    }

    fn leave(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A source that ends after so many records.
pub struct Bounded {
    source: Box<dyn Source>,
    left: u64,
    ignores_end: bool,
}

impl Bounded {
    /// The first records of a source.
    pub fn new(source: Box<dyn Source>, records: u64) -> Self {
        Self { source, left: records, ignores_end: false }
    }
}

impl Source for Bounded {
    fn poll(&mut self, sink: &mut dyn Sink) -> anyhow::Result<Step> {
        if self.ignores_end {
            return self.source.poll(sink);
        }
        if self.left == 0 {
            return Ok(Step::End);
        }
        self.source.poll(&mut Few { sink, left: &mut self.left })
    }

    fn wait(&mut self, most: Option<Duration>) -> anyhow::Result<()> {
        self.source.wait(most)
    }

    fn begin(&mut self, shard: ShardId, index: u64) -> anyhow::Result<()> {
        self.source.begin(shard, index)
    }

    fn pause(&mut self, shard: ShardId) {
        self.source.pause(shard);
    }

    fn make_durable(&mut self) -> anyhow::Result<()> {
        self.source.make_durable()
    }

    fn commit(&mut self, positions: &Positions) -> anyhow::Result<()> {
        self.source.commit(positions)
    }

    fn look(&mut self) -> anyhow::Result<bool> {
        Ok(self.left > 0 && self.source.look()?)
    }

    fn tells_shards(&self) -> bool {
        self.source.tells_shards()
    }

    fn has_places(&self) -> bool {
        self.source.has_places()
    }

    fn has_shard(&self, shard: ShardId) -> bool {
        self.source.has_shard(shard)
    }

    fn ignore_end(&mut self, on: bool) {
        self.ignores_end = on;
        self.source.ignore_end(on);
    }

    fn leave(self: Box<Self>) -> anyhow::Result<()> {
        self.source.leave()
    }
}

/// Passes on so many records.
struct Few<'a> {
    sink: &'a mut dyn Sink,
    left: &'a mut u64,
}

impl Few<'_> {
    fn takes_one(&mut self) -> bool {
        let takes = *self.left > 0;
        *self.left = self.left.saturating_sub(1);
        takes
    }
}

impl Sink for Few<'_> {
    fn take(&mut self, record: &Incoming<'_>) -> anyhow::Result<()> {
        if self.takes_one() { self.sink.take(record) } else { Ok(()) }
    }

    fn is_new(&self, shard: ShardId, first: u64) -> bool {
        self.sink.is_new(shard, first)
    }

    fn wants(&self, shard: ShardId, index: u64, sub: Option<u64>) -> bool {
        self.sink.wants(shard, index, sub)
    }

    fn leave(&mut self, origin: &Origin) {
        self.sink.leave(origin);
    }

    fn read_to(&mut self, shard: ShardId, index: u64) {
        self.sink.read_to(shard, index);
    }

    fn refuse(&mut self, record: &Incoming<'_>, reason: &str) -> anyhow::Result<()> {
        if self.takes_one() { self.sink.refuse(record, reason) } else { Ok(()) }
    }
}
