//! The service's words as types: shards, sequence numbers, records, positions.
//!
//! Nothing here touches a file or knows how bytes lie on a disk.

mod columns;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::hash::HashKey;

pub use columns::{Records, Refused, Span};

/// The largest index a record may have within its shard, as in the service (`0x7fff_ffff_ffff_ffff`).
/// It is also what the ending sequence number of a closed shard carries.
pub const INDEX_MAX: u64 = i64::MAX as u64;

/// A partition key may have at most this many characters, as in the service.
pub const KEY_CHARS_MAX: usize = 256;

/// The number of a shard within its stream, written `shardId-000000000042`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shardId-{:012}", self.0)
    }
}

impl FromStr for ShardId {
    type Err = String;

    /// Takes the full name (`shardId-000000000042`) or the bare number (`42`).
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("shardId-").unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{text}` is not a shard: give `shardId-000000000042` or `42`"));
        }
        digits.parse().map(ShardId).map_err(|_| format!("shard number `{digits}` is out of range"))
    }
}

/// Where a record stands in its stream for ever: the service's 186-bit number.
///
/// The layout is the service's version 2, read off real numbers (kinesalite, ferrokinesis, and a number published in
/// the Kinesis Client Library's tracker, no. 537). From the most significant hex digit:
/// `2`, the shard's creation time in seconds (9 digits), the low digit of the shard number (1), the index of the record
/// in its shard (16), a byte that is 0 here (2), the record's arrival time in seconds (9), the shard number (8), `2`.
/// Within a shard the order is the order of `index`, because all digits above it are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SequenceNumber {
    /// Seconds since the epoch at which the shard was created (36 bits).
    pub shard_created_s: u64,
    /// The record's index in its shard, at most [`INDEX_MAX`].
    pub index: u64,
    /// Seconds since the epoch at which the record arrived (36 bits).
    pub arrival_s: u64,
    /// The shard.
    pub shard: ShardId,
}

impl SequenceNumber {
    /// The upper 64 and the lower 128 bits of the number.
    pub fn to_bits(self) -> (u64, u128) {
        let nibble = u128::from(self.shard.0 & 0xf);
        // 188 bits: 4 + 36 + 4 + 64 | 8 + 36 + 32 + 4 with the cut between them at bit 80.
        let low = (u128::from(self.arrival_s & 0xf_ffff_ffff) << 36) | (u128::from(self.shard.0) << 4) | 2;
        let high = (2u128 << 104)
            | (u128::from(self.shard_created_s & 0xf_ffff_ffff) << 68)
            | (nibble << 64)
            | u128::from(self.index);
        // high is 108 bits wide and starts at bit 80.
        ((high >> 48) as u64, (high << 80) | low)
    }

    /// The inverse of [`SequenceNumber::to_bits`]; `None` where the bits are not of the service's version 2.
    pub fn from_bits(upper: u64, lower: u128) -> Option<Self> {
        let high = (u128::from(upper) << 48) | (lower >> 80);
        let low = lower & ((1 << 80) - 1);
        let shard = ((low >> 4) & 0xffff_ffff) as u32;
        let nibble = ((high >> 64) & 0xf) as u32;
        let byte = (low >> 72) as u8;
        let sane = high >> 104 == 2 && low & 0xf == 2 && nibble == shard & 0xf && byte == 0;
        let index = high as u64;
        (sane && index <= INDEX_MAX).then_some(Self {
            shard_created_s: ((high >> 68) & 0xf_ffff_ffff) as u64,
            index,
            arrival_s: ((low >> 36) & 0xf_ffff_ffff) as u64,
            shard: ShardId(shard),
        })
    }

    /// Writes the number as decimal digits into `out` and returns how many.
    pub fn write_decimal(self, out: &mut [u8; 58]) -> usize {
        // 192 bits as three u64 limbs, divided by 10^19 three times.
        const CHUNK: u128 = 10_000_000_000_000_000_000;
        let (upper, lower) = self.to_bits();
        let mut limbs = [upper, (lower >> 64) as u64, lower as u64];
        let mut parts = [0u64; 4];
        for part in parts.iter_mut().rev() {
            let mut rest: u128 = 0;
            for limb in &mut limbs {
                let value = (rest << 64) | u128::from(*limb);
                *limb = (value / CHUNK) as u64;
                rest = value % CHUNK;
            }
            *part = rest as u64;
        }
        let mut digits = [b'0'; 76];
        for (i, part) in parts.iter().enumerate() {
            let mut value = *part;
            for slot in digits[i * 19..(i + 1) * 19].iter_mut().rev() {
                *slot = b'0' + (value % 10) as u8;
                value /= 10;
            }
        }
        let start = digits.iter().position(|&d| d != b'0').unwrap_or(75);
        let len = 76 - start;
        out[..len].copy_from_slice(&digits[start..]);
        len
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 58];
        let len = self.write_decimal(&mut digits);
        f.write_str(std::str::from_utf8(&digits[..len]).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for SequenceNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a sequence number of this service's form (56 digits)");
        if text.is_empty() || text.len() > 58 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let mut limbs = [0u64; 3];
        for digit in text.bytes() {
            let mut carry = u128::from(digit - b'0');
            for limb in limbs.iter_mut().rev() {
                let value = u128::from(*limb) * 10 + carry;
                *limb = value as u64;
                carry = value >> 64;
            }
            if carry != 0 {
                return Err(bad());
            }
        }
        let lower = (u128::from(limbs[1]) << 64) | u128::from(limbs[2]);
        Self::from_bits(limbs[0], lower).ok_or_else(bad)
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        self.to_bits().cmp(&other.to_bits())
    }
}

/// A named byte string that travels with a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attribute {
    /// The name, at most 65535 bytes.
    pub name: String,
    /// The value: any bytes.
    pub value: Vec<u8>,
}

/// One record as it is read: a view into the frame that holds it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Where it stands.
    pub sequence: SequenceNumber,
    /// Its place in a KPL aggregate, where it was part of one.
    pub sub_sequence: Option<u64>,
    /// Microseconds since the epoch at which the log took it; never goes backwards within a shard.
    pub arrival_us: i64,
    /// Microseconds since the epoch that the producer gave, if it gave any.
    pub timestamp_us: Option<i64>,
    /// The partition key; absent is not the same as empty.
    pub key: Option<&'a str>,
    /// The explicit hash key, if the producer gave one.
    pub explicit_hash: Option<HashKey>,
    /// Attributes, in the producer's order.
    pub attributes: &'a [Attribute],
    /// The data.
    pub payload: &'a [u8],
}

/// What stands behind a batch: who produced it and from where. It is stored with the batch, atomically, and found
/// again through the lineage of shards after the batch itself has expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// The producer's name.
    pub producer: String,
    /// Which run of the producer: a later run has a higher epoch and fences the earlier ones.
    pub epoch: u64,
    /// How many records of its source the producer has handled with this batch, those for other shards included.
    pub ordinal: u64,
    /// The producer's own note of its place in the source: opaque, at most [`POSITION_BYTES_MAX`] bytes.
    pub position: Vec<u8>,
}

/// The longest source position a batch may carry.
pub const POSITION_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A number that the real service gave out (Kinesis Client Library tracker, no. 537).
    #[test]
    fn decodes_a_number_of_the_real_service() {
        let number: SequenceNumber =
            "49593949378240586316257100632041325623571072533185691922".parse().unwrap();
        assert_eq!(number.shard, ShardId(17));
        assert_eq!(number.shard_created_s, 1_552_896_735);
        assert_eq!(number.arrival_s, 1_554_821_833);
        assert_eq!(number.to_string(), "49593949378240586316257100632041325623571072533185691922");
    }

    #[test]
    fn refuses_what_is_no_sequence_number() {
        for text in ["", "0", "-1", "12a", "9".repeat(58).as_str(), "9".repeat(99).as_str()] {
            assert!(text.parse::<SequenceNumber>().is_err(), "{text}");
        }
    }

    #[test]
    fn shards_by_name_and_number() {
        assert_eq!("shardId-000000000042".parse(), Ok(ShardId(42)));
        assert_eq!("42".parse(), Ok(ShardId(42)));
        assert!("shard-1".parse::<ShardId>().is_err());
        assert!("+1".parse::<ShardId>().is_err());
        assert!("99999999999".parse::<ShardId>().is_err());
        assert_eq!(ShardId(7).to_string(), "shardId-000000000007");
    }

    proptest! {
        #[test]
        fn text_round_trip(created in 0u64..1 << 36, index in 0u64..=INDEX_MAX, at in 0u64..1 << 36, shard: u32) {
            let number = SequenceNumber { shard_created_s: created, index, arrival_s: at, shard: ShardId(shard) };
            prop_assert_eq!(number.to_string().parse::<SequenceNumber>(), Ok(number));
        }

        #[test]
        fn order_is_the_order_of_the_decimal_text(a: (u32, u64, u32), b: (u32, u64, u32), shard: u32) {
            let make = |(created, index, at): (u32, u64, u32)| SequenceNumber {
                shard_created_s: u64::from(created) + (1 << 30),
                index: index & INDEX_MAX,
                arrival_s: u64::from(at),
                shard: ShardId(shard),
            };
            let (a, b) = (make(a), make(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}
