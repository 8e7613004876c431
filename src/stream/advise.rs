//! Hot shards and cold ones: what to split, and where, and what to merge. Arithmetic only; see [`Stream::load`] for
//! what it is based on.
//!
//! Between splitting (above the target) and merging (both together below [`COLD`] of it) lies a wide band in which
//! nothing is done, and a shard that is younger than the window is left alone: so that what one run did is not undone
//! by the next, and of two runs at once the second finds nothing to do.
//!
//! [`Stream::load`]: super::Stream::load

use std::collections::BTreeMap;

use super::manifest::ShardInfo;
use super::stats::Load;
use crate::hash::{HashKey, HashRange};
use crate::record::ShardId;

/// What one shard shall bear.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Records a second.
    pub records_s: f64,
    /// Bytes a second, data and keys.
    pub bytes_s: f64,
}

impl Target {
    /// The service's limits for one shard.
    pub const SERVICE: Self = Self { records_s: 1000.0, bytes_s: 1_048_576.0 };

    /// How full a shard is: 1 is the target.
    pub fn fullness(&self, load: &Load) -> f64 {
        (load.records_s() / self.records_s).max(load.bytes_s() / self.bytes_s)
    }
}

/// Neighbours are merged if together they are less full than this.
pub const COLD: f64 = 0.4;
/// A split that leaves more than this part of the load on one side is no help.
const LOPSIDED: f64 = 0.9;
/// No shard is cut in more parts at once.
const PARTS_MAX: f64 = 16.0;

/// What to do about a shard, or two.
#[derive(Debug, Clone, PartialEq)]
pub enum Advice {
    /// It is hot: cut it before these hash keys.
    Split {
        /// The shard.
        shard: ShardId,
        /// How full it is.
        fullness: f64,
        /// Where the upper parts begin, ascending.
        at: Vec<HashKey>,
    },
    /// Both are cold, and neighbours.
    Merge {
        /// The shards, the lower first.
        shards: (ShardId, ShardId),
        /// How full they are together.
        fullness: f64,
    },
    /// It is hot, and no split helps: one key brings most of it.
    HotKey {
        /// The shard.
        shard: ShardId,
        /// How full it is.
        fullness: f64,
        /// The key's hash.
        hash: HashKey,
        /// The key's part of the shard's load.
        part: f64,
    },
}

/// What to do about open shards, in the order of their hash keys, each with its load.
pub fn advise(shards: &[(&ShardInfo, &Load)], target: Target, now_us: i64, window_us: i64) -> Vec<Advice> {
    let settled = |shard: &ShardInfo| now_us - shard.created_us >= window_us;
    let mut advice = Vec::new();
    let mut i = 0;
    while let Some((info, load)) = shards.get(i) {
        let fullness = target.fullness(load);
        if fullness > 1.0 && settled(info) {
            advice.push(relief(info, load, target, fullness));
        } else if let Some((next_info, next)) = shards.get(i + 1)
            && settled(info)
            && settled(next_info)
        {
            let together = (load.records_s() + next.records_s()) / target.records_s;
            let together = together.max((load.bytes_s() + next.bytes_s()) / target.bytes_s);
            if together < COLD {
                advice.push(Advice::Merge { shards: (info.id(), next_info.id()), fullness: together });
                i += 1;
            }
        }
        i += 1;
    }
    advice
}

/// What helps a hot shard.
fn relief(info: &ShardInfo, load: &Load, target: Target, fullness: f64) -> Advice {
    let shard = info.id();
    // The limit that it is over is the one that its parts must come under.
    let by_bytes = load.bytes_s() / target.bytes_s > load.records_s() / target.records_s;
    let weights: BTreeMap<HashKey, u64> = load
        .keys
        .iter()
        .map(|(hash, (records, bytes))| (*hash, if by_bytes { *bytes } else { *records }))
        .collect();
    let unkeyed = if by_bytes { load.unkeyed.1 } else { load.unkeyed.0 };
    let keyed: u64 = weights.values().sum();
    if unkeyed >= keyed {
        let at = even(info.range(), fullness.ceil().clamp(2.0, PARTS_MAX) as u128);
        return Advice::Split { shard, fullness, at };
    }
    let total = keyed;
    let (heaviest, weight) =
        weights.iter().max_by_key(|(_, weight)| **weight).map_or((info.range().start, 0), |(h, w)| (*h, *w));
    let part = weight as f64 / (keyed + unkeyed).max(1) as f64;
    // A quarter of room, so that the parts are not hot again at once.
    let parts = (fullness * 1.25).ceil().clamp(2.0, PARTS_MAX) as u64;
    let mut at = Vec::new();
    for n in 1..parts {
        let goal = (u128::from(total) * u128::from(n) / u128::from(parts)) as u64;
        if let Some(cut) = cut(&weights, goal, info.range().start)
            && at.last().is_none_or(|last| *last < cut)
        {
            at.push(cut);
        }
    }
    let largest = largest_part(&weights, &at) as f64 / total.max(1) as f64;
    if at.is_empty() || largest > LOPSIDED {
        Advice::HotKey { shard, fullness, hash: heaviest, part }
    } else {
        Advice::Split { shard, fullness, at }
    }
}

/// Cuts a range in even parts. Records without keys go to all shards alike, wherever these begin: more shards are less
/// for each.
fn even(range: HashRange, parts: u128) -> Vec<HashKey> {
    let part = (range.end.0 - range.start.0) / parts;
    // A range of fewer hash keys than parts is cut in as many as it has.
    let step = part.max(u128::from(range.end.0 > range.start.0)) + u128::from(part > 0);
    (1..parts)
        .filter_map(|n| range.start.0.checked_add(step.checked_mul(n)?))
        .filter(|at| *at > range.start.0 && *at <= range.end.0)
        .map(HashKey)
        .collect()
}

/// The hash key before which the weight is nearest to `goal`: the first of the upper part.
fn cut(weights: &BTreeMap<HashKey, u64>, goal: u64, start: HashKey) -> Option<HashKey> {
    let mut below = 0u64;
    let mut best: Option<(u64, HashKey)> = None;
    for (hash, weight) in weights {
        // The lower part must own at least one hash key.
        if *hash > start && below > 0 {
            let off = below.abs_diff(goal);
            if best.is_none_or(|(least, _)| off < least) {
                best = Some((off, *hash));
            }
        }
        below += weight;
    }
    best.map(|(_, hash)| hash)
}

fn largest_part(weights: &BTreeMap<HashKey, u64>, cuts: &[HashKey]) -> u64 {
    let mut parts = vec![0; cuts.len() + 1];
    for (hash, weight) in weights {
        parts[cuts.partition_point(|cut| cut <= hash)] += weight;
    }
    parts.into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shard(shard: u32, range: HashRange) -> ShardInfo {
        ShardInfo {
            shard,
            starting_hash_key: range.start.0,
            ending_hash_key: range.end.0,
            created_us: 0,
            parents: vec![],
            closed: None,
        }
    }

    /// A load of one second, each key with so many records of ten bytes.
    fn load(shard: u32, keys: &[(u128, u64)]) -> Load {
        let records = keys.iter().map(|(_, n)| n).sum();
        Load {
            shard: ShardId(shard),
            records,
            bytes: records * 10,
            unkeyed: (0, 0),
            keys: keys.iter().map(|(hash, n)| (HashKey(*hash), (*n, n * 10))).collect(),
            window_us: 1_000_000,
        }
    }

    fn advice(loads: &[Load], now_us: i64) -> Vec<Advice> {
        let ranges = HashRange::split_evenly(loads.len() as u32);
        let infos: Vec<ShardInfo> = ranges.iter().zip(0..).map(|(range, n)| shard(n, *range)).collect();
        let pairs: Vec<_> = infos.iter().zip(loads).collect();
        advise(&pairs, Target { records_s: 100.0, bytes_s: 1e9 }, now_us, 1_000_000)
    }

    const LATER: i64 = 1_000_000;

    #[test]
    fn a_hot_shard_is_cut_at_the_weighted_median() {
        let found = advice(&[load(0, &[(10, 10), (20, 50), (30, 55), (40, 5)])], LATER);
        assert_eq!(found, [Advice::Split { shard: ShardId(0), fullness: 1.2, at: vec![HashKey(30)] }]);
    }

    #[test]
    fn a_very_hot_one_in_as_many_parts_as_it_takes() {
        let keys: Vec<(u128, u64)> = (1..=400).map(|hash| (hash, 1)).collect();
        let found = advice(&[load(0, &keys)], LATER);
        let [Advice::Split { at, .. }] = &found[..] else { panic!("{found:?}") };
        assert_eq!(at, &[81, 161, 241, 321].map(HashKey));
    }

    #[test]
    fn one_hot_key_cannot_be_split() {
        let found = advice(&[load(0, &[(10, 200), (20, 1)])], LATER);
        assert!(matches!(found[..], [Advice::HotKey { hash: HashKey(10), .. }]), "{found:?}");
    }

    /// Nothing was done about shards that are hot with records without keys, which is what kput stores by default.
    #[test]
    fn records_without_keys_are_spread_over_more_shards() {
        let keyless = |records| Load {
            unkeyed: (records, records * 10),
            keys: BTreeMap::new(),
            ..load(0, &[(1, records)])
        };
        let quarters: Vec<HashKey> =
            HashRange::split_evenly(4).iter().skip(1).map(|part| part.start).collect();
        let found = advice(&[keyless(350)], LATER);
        assert_eq!(found, [Advice::Split { shard: ShardId(0), fullness: 3.5, at: quarters }]);
        let found = advice(&[keyless(101)], LATER);
        assert!(matches!(&found[..], [Advice::Split { at, .. }] if *at == [HashKey(1 << 127)]), "{found:?}");
        // A few records with a key do not make that key a hot one.
        let mixed = Load { unkeyed: (90, 900), ..load(0, &[(10, 20)]) };
        let mixed = Load { records: 110, ..mixed };
        assert!(matches!(&advice(&[mixed], LATER)[..], [Advice::Split { .. }]));
    }

    proptest! {
        #[test]
        fn even_parts_lie_within_and_ascend(start: u128, len: u128, parts in 2u128..=16) {
            let range = HashRange { start: HashKey(start), end: HashKey(start.saturating_add(len)) };
            let at = even(range, parts);
            prop_assert!(at.len() < parts as usize);
            prop_assert!(at.is_empty() == (range.start == range.end));
            prop_assert!(at.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(at.iter().all(|at| *at > range.start && *at <= range.end));
        }
    }

    #[test]
    fn cold_neighbours_merge_in_pairs_and_warm_ones_stay() {
        let cold = |n| load(n, &[(1, 10)]);
        let found = advice(&[cold(0), cold(1), cold(2), load(3, &[(1, 80)])], LATER);
        assert_eq!(found, [Advice::Merge { shards: (ShardId(0), ShardId(1)), fullness: 0.2 }]);
    }

    #[test]
    fn what_is_younger_than_the_window_is_left_alone() {
        assert_eq!(advice(&[load(0, &[(10, 100), (20, 100)])], LATER - 1), []);
        assert_eq!(advice(&[load(0, &[]), load(1, &[])], LATER - 1), []);
    }
}
