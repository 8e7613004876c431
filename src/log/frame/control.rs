//! Bodies of the frames that hold no records, and the provenance that stands before a batch.

use crate::hash::{HashKey, HashRange};
use crate::record::{POSITION_BYTES_MAX, Provenance, ShardId};

use super::bytes::{Fields, Put};

/// One child that a closing shard names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// The child.
    pub shard: ShardId,
    /// Its part of the hash key space.
    pub range: HashRange,
}

/// What the last frame of a shard says: who goes on.
///
/// Body: u32 number of children, then for each u32 shard, u128 first and u128 last hash key; u32 number of parents,
/// then for each its u32 shard (two for a merge, one for a split).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndOfShard {
    /// The children with their ranges.
    pub children: Vec<Child>,
    /// All shards that end in these children, this one included.
    pub parents: Vec<ShardId>,
}

impl EndOfShard {
    /// The body's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(self.children.len() as u32);
        for child in &self.children {
            out.put_u32(child.shard.0);
            put_range(&mut out, &child.range);
        }
        out.put_u32(self.parents.len() as u32);
        for parent in &self.parents {
            out.put_u32(parent.0);
        }
        out
    }

    /// Reads a body.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let mut children = Vec::new();
        for _ in 0..fields.u32()? {
            children.push(Child { shard: ShardId(fields.u32()?), range: range(&mut fields)? });
        }
        let mut parents = Vec::new();
        for _ in 0..fields.u32()? {
            parents.push(ShardId(fields.u32()?));
        }
        Some(Self { children, parents })
    }
}

fn put_range(out: &mut Vec<u8>, range: &HashRange) {
    out.put_u128(range.start.0);
    out.put_u128(range.end.0);
}

fn range(fields: &mut Fields<'_>) -> Option<HashRange> {
    Some(HashRange { start: HashKey(fields.u128()?), end: HashKey(fields.u128()?) })
}

/// How far a producer has come in a part of the hash key space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    /// The hash keys that this holds for: the whole range of the shard in which it was written, which after a merge is
    /// only a part of the shard that carries it on.
    pub range: HashRange,
    /// The last batch.
    pub last: Provenance,
    /// When that batch arrived.
    pub arrival_us: i64,
}

/// The body of a producers frame: u32 number of entries, then for each u128 first and u128 last hash key, i64 arrival
/// time, u16 length and provenance.
pub fn encode_producers(states: &[ProducerState]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u32(states.len() as u32);
    for state in states {
        put_range(&mut out, &state.range);
        out.put_i64(state.arrival_us);
        out.put_short(&encode_provenance(&state.last));
    }
    out
}

/// Reads the body of a producers frame.
pub fn decode_producers(bytes: &[u8]) -> Option<Vec<ProducerState>> {
    let mut fields = Fields(bytes);
    let mut states = Vec::new();
    for _ in 0..fields.u32()? {
        let range = range(&mut fields)?;
        let arrival_us = fields.i64()?;
        states.push(ProducerState { range, arrival_us, last: decode_provenance(fields.short()?)? });
    }
    Some(states)
}

/// The bytes of a provenance: u16 length and producer name, u64 epoch, u64 ordinal, u16 length and position.
pub fn encode_provenance(provenance: &Provenance) -> Vec<u8> {
    let mut out = Vec::with_capacity(20 + provenance.producer.len() + provenance.position.len());
    out.put_short(provenance.producer.as_bytes());
    out.put_u64(provenance.epoch);
    out.put_u64(provenance.ordinal);
    out.put_short(&provenance.position);
    out
}

/// Reads a provenance.
pub fn decode_provenance(bytes: &[u8]) -> Option<Provenance> {
    let mut fields = Fields(bytes);
    let producer = fields.text()?.to_owned();
    let (epoch, ordinal) = (fields.u64()?, fields.u64()?);
    let position = fields.short()?;
    (position.len() <= POSITION_BYTES_MAX).then(|| Provenance {
        producer,
        epoch,
        ordinal,
        position: position.to_vec(),
    })
}

/// The body of a seal: u64 number of records in the segment, u64 base of the segment that follows.
pub fn encode_seal(records: u64, next_base: u64) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u64(records);
    out.put_u64(next_base);
    out
}

/// Reads a seal: the number of records and the base of the next segment.
pub fn decode_seal(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut fields = Fields(bytes);
    Some((fields.u64()?, fields.u64()?))
}

/// The body of a pause: u64 boot id. Under the same boot id nothing in memory was lost since.
pub fn encode_pause(boot_id: u64) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u64(boot_id);
    out
}

/// Reads a pause.
pub fn decode_pause(bytes: &[u8]) -> Option<u64> {
    Fields(bytes).u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_bodies_survive() {
        let end = EndOfShard {
            children: vec![Child { shard: ShardId(4), range: HashRange::ALL }],
            parents: vec![ShardId(1), ShardId(2)],
        };
        assert_eq!(EndOfShard::decode(&end.encode()), Some(end));
        let states = vec![ProducerState {
            range: HashRange { start: HashKey(5), end: HashKey(9) },
            arrival_us: -3,
            last: Provenance { producer: "nginx".into(), epoch: 2, ordinal: 99, position: vec![1, 2] },
        }];
        assert_eq!(decode_producers(&encode_producers(&states)), Some(states));
        assert_eq!(decode_seal(&encode_seal(7, 8)), Some((7, 8)));
        assert_eq!(decode_pause(&encode_pause(7)), Some(7));
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = EndOfShard::decode(&bytes);
            let _ = decode_producers(&bytes);
            let _ = decode_provenance(&bytes);
            let _ = decode_seal(&bytes);
            let _ = decode_pause(&bytes);
        }
    }
}
