//! From a partition key to a place in the hash key space, by the service's rule: MD5, read as a big-endian number.

use std::fmt;
use std::str::FromStr;

use md5::{Digest, Md5};

#[expect(clippy::inline_always, reason = "it is compiled anew for each kind of processor, inside its caller")]
mod lanes;

/// A point in the hash key space, `0 ..= 2^128 - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashKey(pub u128);

impl HashKey {
    /// The hash key of a partition key.
    pub fn of(partition_key: &[u8]) -> Self {
        Self::from_digest(Md5::digest(partition_key).into())
    }

    /// The hash keys of many partition keys, in their order, appended to `out`.
    ///
    /// One MD5 waits for itself at every step, so sixteen keys together cost little more than a few alone. The
    /// iterator is drained sixteen at a time: nothing is allocated but the room in `out`.
    pub fn of_many<'a>(partition_keys: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<Self>) {
        lanes::of_many(partition_keys.into_iter(), out);
    }

    fn from_digest(digest: [u8; 16]) -> Self {
        // The service reads the digest as one big-endian number; this is arithmetic on a value, not a disk format.
        Self(digest.iter().fold(0, |sum, &byte| (sum << 8) | u128::from(byte)))
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for HashKey {
    type Err = String;

    /// The service's form: `0|[1-9]\d{0,38}`, below 2^128.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits || (text.len() > 1 && text.starts_with('0')) {
            return Err(format!("`{text}` is not a hash key: give a decimal number from 0 to 2^128-1"));
        }
        text.parse().map(Self).map_err(|_| format!("hash key `{text}` is above 2^128-1"))
    }
}

/// An inclusive range of the hash key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashRange {
    /// The first hash key in the range.
    pub start: HashKey,
    /// The last hash key in the range.
    pub end: HashKey,
}

impl HashRange {
    /// The whole space.
    pub const ALL: Self = Self { start: HashKey(0), end: HashKey(u128::MAX) };

    /// Whether `key` lies within.
    pub fn contains(&self, key: HashKey) -> bool {
        self.start <= key && key <= self.end
    }

    /// Whether `other` lies within, whole.
    pub fn covers(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether the two share a hash key.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The space cut into `count` ranges as the service cuts it: equal steps of `2^128 / count` rounded down, the last
    /// range taking what is left.
    pub fn split_evenly(count: u32) -> Vec<Self> {
        assert!(count > 0, "a stream has at least one shard");
        if count == 1 {
            return vec![Self::ALL];
        }
        // floor(2^128 / count) without a 129-bit number.
        let count = u128::from(count);
        let step = u128::MAX / count + u128::from(u128::MAX % count == count - 1);
        (0..count)
            .map(|i| Self {
                start: HashKey(i * step),
                end: HashKey(if i + 1 == count { u128::MAX } else { (i + 1) * step - 1 }),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_ranges_are_contiguous_and_cover_the_space() {
        for count in [1, 2, 3, 4, 5, 7, 16, 100, 1000, 10_000] {
            let ranges = HashRange::split_evenly(count);
            assert_eq!(ranges.len(), count as usize);
            assert_eq!(ranges[0].start, HashKey(0));
            assert_eq!(ranges[ranges.len() - 1].end, HashKey(u128::MAX));
            assert!(ranges.windows(2).all(|w| w[0].end.0 + 1 == w[1].start.0));
        }
    }

    /// What the service prints for streams of two and four shards.
    #[test]
    fn ranges_of_the_real_service() {
        let ends: Vec<_> = HashRange::split_evenly(2).iter().map(|r| r.end.to_string()).collect();
        assert_eq!(
            ends,
            ["170141183460469231731687303715884105727", "340282366920938463463374607431768211455"]
        );
        let starts: Vec<_> = HashRange::split_evenly(4).iter().map(|r| r.start.to_string()).collect();
        assert_eq!(
            starts,
            [
                "0",
                "85070591730234615865843651857942052864",
                "170141183460469231731687303715884105728",
                "255211775190703847597530955573826158592"
            ]
        );
        // The service's documentation: three shards end at ...903401 and ...806803.
        assert_eq!(
            HashRange::split_evenly(3)[1].start.to_string(),
            "113427455640312821154458202477256070485"
        );
    }

    #[test]
    fn hash_key_text() {
        assert_eq!("0".parse(), Ok(HashKey(0)));
        assert_eq!("340282366920938463463374607431768211455".parse(), Ok(HashKey(u128::MAX)));
        for bad in ["", "01", "-1", "340282366920938463463374607431768211456", "1e3"] {
            assert!(bad.parse::<HashKey>().is_err(), "{bad}");
        }
    }
}
