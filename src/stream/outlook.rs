//! A consumer as it would go on from here, for one who only wants to know: nothing is written, no lease is taken, and
//! whoever reads for it meanwhile does not notice.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Stream;
use super::checkpoint::Checkpoint;
use super::consumer::{Consumer, ConsumerState, begin};
use super::error::Error;
use super::lease::{Assignment, follow_manifest, is_ready};
use super::manifest::Manifest;
use super::span::Start;
use crate::record::ShardId;

/// What a lone worker of a consumer would be given.
#[derive(Debug, Clone)]
pub struct Outlook {
    state: ConsumerState,
    taken: BTreeSet<ShardId>,
}

impl Outlook {
    /// Of the consumer with this name; where there is none, of one that would be made to begin at `start`.
    pub fn of(stream: &Stream, name: &str, start: Start) -> Result<Self, Error> {
        let state = match Consumer::open(stream, name).and_then(|consumer| consumer.state()) {
            Err(Error::NoConsumer { .. }) => ConsumerState {
                generation: 0,
                stream_id: Uuid::nil(),
                created_us: 0,
                workers: std::collections::BTreeMap::new(),
                shards: begin(stream, start)?,
            },
            other => other?,
        };
        Ok(Self { state, taken: BTreeSet::new() })
    }

    /// The shards that may be read now and have not been given out yet.
    pub fn assign(&mut self, manifest: &Manifest) -> Assignment {
        let missed = follow_manifest(&mut self.state, manifest);
        for shard in self.state.shards.values_mut() {
            // Whoever has them in his hands now will be done with them.
            shard.reserved = None;
        }
        let ready: Vec<u32> = self.state.shards.keys().copied().collect();
        let taken = ready
            .into_iter()
            .filter(|&shard| is_ready(&self.state, manifest, shard) && self.taken.insert(ShardId(shard)))
            .filter_map(|shard| Some((ShardId(shard), self.state.shards.get(&shard)?.checkpoint)))
            .collect();
        Assignment { taken, missed, ..Assignment::default() }
    }

    /// As if all of a shard were done.
    pub fn end(&mut self, shard: ShardId) {
        if let Some(known) = self.state.shards.get_mut(&shard.0) {
            known.checkpoint = Checkpoint::ShardEnd;
        }
    }
}
