//! One entry of a segment's index: 32 bytes.
//!
//! ```text
//! offset size
//!      0    8  index of the frame's first record
//!      8    8  arrival time of the frame
//!     16    8  offset of the frame in the segment
//!     24    4  0
//!     28    4  CRC-32C over the segment's identity and bytes 0..28
//! ```
//! Entries are hints: they say where to begin reading, and what is read there carries its own checksums.

use super::Identity;
use super::bytes::{Block, Fields, Put};

/// Bytes of an index entry.
pub const ENTRY_BYTES: usize = 32;
const CHECKED_BYTES: usize = 28;

/// Where a frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Index of its first record.
    pub first: u64,
    /// Its arrival time.
    pub arrival_us: i64,
    /// Its offset in the segment.
    pub offset: u64,
}

impl IndexEntry {
    /// The entry's bytes.
    pub fn encode(&self, identity: &Identity) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let mut block = Block { bytes: &mut bytes, at: 0 };
        block.put_u64(self.first);
        block.put_i64(self.arrival_us);
        block.put_u64(self.offset);
        block.put_u32(0);
        let sum = identity.checksum(&block.bytes[..CHECKED_BYTES]);
        block.put_u32(sum);
        bytes
    }

    /// Reads an entry; `None` if it is not one of this segment.
    pub fn decode(bytes: &[u8], identity: &Identity) -> Option<Self> {
        let covered = bytes.get(..CHECKED_BYTES)?;
        let mut fields = Fields(bytes);
        let entry = Self { first: fields.u64()?, arrival_us: fields.i64()?, offset: fields.u64()? };
        fields.u32()?;
        (fields.u32()? == identity.checksum(covered)).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogId;
    use super::*;

    #[test]
    fn zeros_and_strangers_are_no_entries() {
        let identity = Identity::new(LogId { stream: [1; 16], shard: 0 }, 0);
        let entry = IndexEntry { first: 1, arrival_us: 2, offset: 3 };
        let bytes = entry.encode(&identity);
        assert_eq!(IndexEntry::decode(&bytes, &identity), Some(entry));
        assert_eq!(IndexEntry::decode(&[0; 32], &identity), None);
        assert_eq!(IndexEntry::decode(&bytes[..31], &identity), None);
        let other = Identity::new(LogId { stream: [1; 16], shard: 0 }, 9);
        assert_eq!(IndexEntry::decode(&bytes, &other), None);
    }
}
