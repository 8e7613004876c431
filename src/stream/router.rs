//! From a hash key to the open shard that owns it.

use super::manifest::Manifest;
use crate::hash::{HashKey, HashRange};
use crate::record::ShardId;

/// The open shards of one generation of the manifest, in the order of their hash keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    starts: Vec<u128>,
    shards: Vec<(ShardId, HashRange)>,
}

impl Router {
    /// The routes of a manifest.
    pub fn new(manifest: &Manifest) -> Self {
        let shards: Vec<_> = manifest.open_shards().iter().map(|shard| (shard.id(), shard.range())).collect();
        Self { starts: shards.iter().map(|(_, range)| range.start.0).collect(), shards }
    }

    /// The place, in the order of hash keys, of the shard that owns `key`.
    #[inline]
    pub fn slot(&self, key: HashKey) -> usize {
        if self.starts.len() == 1 {
            return 0;
        }
        // Open shards cover the whole space, so some start is at or below every key.
        self.starts.partition_point(|&start| start <= key.0) - 1
    }

    /// The shards in the order of their hash keys.
    pub fn shards(&self) -> &[(ShardId, HashRange)] {
        &self.shards
    }

    /// The shard that owns `key`.
    pub fn shard(&self, key: HashKey) -> ShardId {
        self.shards[self.slot(key)].0
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::sample;
    use super::*;

    /// Keys whose shards can be checked against the real service: MD5 of `a` begins with 0c, of `b` with 92.
    #[test]
    fn keys_go_where_the_service_sends_them() {
        let router = Router::new(&sample());
        assert_eq!(router.shard(HashKey::of(b"a")), ShardId(0));
        assert_eq!(router.shard(HashKey::of(b"b")), ShardId(1));
        assert_eq!(router.shard(HashKey(0)), ShardId(0));
        assert_eq!(router.shard(HashKey(u128::MAX)), ShardId(1));
        assert_eq!(router.shard(HashKey(1 << 127)), ShardId(1));
        assert_eq!(router.shard(HashKey((1 << 127) - 1)), ShardId(0));
    }
}
