//! From a hash key to the open shard that owns it.

use super::manifest::Manifest;
use crate::hash::{HashKey, HashRange};
use crate::record::ShardId;

/// The open shards of one generation of the manifest, in the order of their hash keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    starts: Vec<u128>,
    shards: Vec<(ShardId, HashRange)>,
    /// For each value of the top bits of a hash key, the slot that owns the first key with these bits: most shards are
    /// wide, so that one look is enough, where a search would mispredict a branch at each of its steps.
    first: Vec<u16>,
}

/// How many top bits of a hash key are looked up at once.
const TOP_BITS: u32 = 10;

impl Router {
    /// The routes of a manifest.
    pub fn new(manifest: &Manifest) -> Self {
        let shards: Vec<_> = manifest.open_shards().iter().map(|shard| (shard.id(), shard.range())).collect();
        let starts: Vec<u128> = shards.iter().map(|(_, range)| range.start.0).collect();
        let first = (0..1u128 << TOP_BITS)
            .map(|top| {
                let key = top << (128 - TOP_BITS);
                // Open shards cover the whole space, so some start is at or below every key.
                (starts.partition_point(|&start| start <= key) - 1) as u16
            })
            .collect();
        Self { starts, shards, first }
    }

    /// The place, in the order of hash keys, of the shard that owns `key`.
    #[inline]
    pub fn slot(&self, key: HashKey) -> usize {
        let mut slot = usize::from(self.first[(key.0 >> (128 - TOP_BITS)) as usize]);
        while self.starts.get(slot + 1).is_some_and(|&start| start <= key.0) {
            slot += 1;
        }
        slot
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

    #[test]
    fn every_key_goes_to_the_shard_that_owns_it() {
        let mut manifest = sample();
        manifest.shards.clear();
        // Narrow and wide shards side by side.
        let cuts = [
            0u128,
            1,
            2,
            77,
            1 << 64,
            1 << 100,
            (1 << 118) - 1,
            1 << 118,
            1 << 127,
            u128::MAX - 1,
            u128::MAX,
        ];
        for (i, &start) in cuts.iter().enumerate() {
            manifest.shards.push(super::super::ShardInfo {
                shard: i as u32,
                starting_hash_key: start,
                ending_hash_key: cuts.get(i + 1).map_or(u128::MAX, |next| next - 1),
                created_us: 0,
                parents: vec![],
                closed: None,
            });
        }
        let router = Router::new(&manifest);
        for &cut in &cuts {
            for key in [cut.saturating_sub(1), cut, cut.saturating_add(1), cut ^ (1 << 126)] {
                let (_, range) = router.shards()[router.slot(HashKey(key))];
                assert!(range.contains(HashKey(key)), "{key}");
            }
        }
    }

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
