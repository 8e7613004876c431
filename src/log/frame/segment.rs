//! The 128 bytes at the start of every segment file.
//!
//! ```text
//! offset size
//!      0    8  magic "kpipeseg"
//!      8    2  layout version, 1
//!     10    2  header length, 128
//!     12    4  compatible features: a reader may ignore them
//!     16    4  required features: a reader that does not know one stops
//!     20    4  shard number
//!     24   16  stream UUID
//!     40    8  base: the first index that the segment may hold; it is also the file's name
//!     48    8  ceiling: no record of this segment has this index or a higher one
//!     56    8  created, microseconds since the epoch; not before the last arrival in the predecessor
//!     64    8  the shard's creation time, seconds since the epoch (for sequence numbers)
//!     72    8  base of the predecessor, all ones if there is none
//!     80    8  valid bytes of the predecessor: what lies behind them is not part of the log
//!     88    8  index after the predecessor's last record
//!     96    1  how the predecessor ended: 0 none, 1 sealed, 2 recovered, 3 condemned
//!     97   27  0
//!    124    4  CRC-32C over the segment's identity (as in frames) and bytes 0..124
//! ```
//!
//! Magic, shard number, stream UUID, base and checksum have their places and their meaning in every layout version, and
//! the checksum covers bytes 0..124 in all of them: only a header whose checksum holds is believed when it says that it
//! is newer. Else one flipped bit would stop every program.

use super::bytes::{Block, Fields, Put};
use super::{Identity, LogId};

/// Bytes of a segment header.
pub const SEGMENT_HEADER_BYTES: usize = 128;
const MAGIC: [u8; 8] = *b"kpipeseg";
const VERSION: u16 = 1;
const CHECKED_BYTES: usize = 124;
/// Required features that this program knows: none yet.
const REQUIRED_KNOWN: u32 = 0;

/// How a segment came to its end. The numbers are on disks: they never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fate {
    /// A seal frame stands at its end and all of it was synced.
    Sealed = 1,
    /// Its writers died; what was whole was kept, the rest set aside.
    Recovered = 2,
    /// A sync failed; what the device gave back whole was kept.
    Condemned = 3,
}

/// What a segment knows of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predecessor {
    /// Its base.
    pub base: u64,
    /// Its valid bytes.
    pub bytes: u64,
    /// The index after its last record.
    pub end: u64,
    /// How it ended.
    pub fate: Fate,
}

/// The head of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log that it is part of.
    pub log: LogId,
    /// The first index that it may hold.
    pub base: u64,
    /// The first index that it may not hold: these are reserved, durably, by this header being on the disk.
    pub ceiling: u64,
    /// When it was created.
    pub created_us: i64,
    /// When its shard was created.
    pub shard_created_s: u64,
    /// The segment before it, if it is not the first of its shard.
    pub predecessor: Option<Predecessor>,
}

/// Why bytes are not a segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidSegment {
    /// Too short, or the checksum is wrong.
    Damaged,
    /// A segment of another stream, shard or place.
    Foreign,
    /// Made by a later program, in a way that this one must not touch.
    Newer,
}

/// A header as it lies there, believed or not.
struct Raw {
    header: SegmentHeader,
    version: u16,
    required: u32,
    fate: u8,
    sum: u32,
}

impl SegmentHeader {
    /// The identity that goes under every checksum in the segment.
    pub fn identity(&self) -> Identity {
        Identity::new(self.log, self.base)
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let mut block = Block { bytes: &mut bytes, at: 0 };
        block.put(&MAGIC);
        block.put_u16(VERSION);
        block.put_u16(SEGMENT_HEADER_BYTES as u16);
        block.put_u32(0);
        block.put_u32(0);
        block.put_u32(self.log.shard);
        block.put(&self.log.stream);
        block.put_u64(self.base);
        block.put_u64(self.ceiling);
        block.put_i64(self.created_us);
        block.put_u64(self.shard_created_s);
        block.put_u64(self.predecessor.map_or(u64::MAX, |p| p.base));
        block.put_u64(self.predecessor.map_or(0, |p| p.bytes));
        block.put_u64(self.predecessor.map_or(0, |p| p.end));
        block.put_u8(self.predecessor.map_or(0, |p| p.fate as u8));
        block.at = CHECKED_BYTES;
        let sum = self.identity().checksum(&block.bytes[..CHECKED_BYTES]);
        block.put_u32(sum);
        bytes
    }

    /// Reads the head of the segment that should begin at `base` of `log`.
    pub fn decode(bytes: &[u8], log: LogId, base: u64) -> Result<Self, InvalidSegment> {
        let bytes = bytes.get(..SEGMENT_HEADER_BYTES).ok_or(InvalidSegment::Damaged)?;
        if bytes[..8] != MAGIC {
            return Err(InvalidSegment::Damaged);
        }
        let Raw { header, version, required, fate, sum } =
            Self::fields(&bytes[8..]).ok_or(InvalidSegment::Damaged)?;
        if header.identity().checksum(&bytes[..CHECKED_BYTES]) != sum {
            return Err(InvalidSegment::Damaged);
        }
        if header.log != log || header.base != base {
            return Err(InvalidSegment::Foreign);
        }
        if version != VERSION || required & !REQUIRED_KNOWN != 0 || fate > Fate::Condemned as u8 {
            return Err(InvalidSegment::Newer);
        }
        Ok(header)
    }

    /// Reads the head of whatever segment this is, if it holds: for when nobody can say any more what it should be.
    pub fn identify(bytes: &[u8]) -> Option<Self> {
        let Raw { header, .. } = Self::fields(bytes.get(8..SEGMENT_HEADER_BYTES)?)?;
        Self::decode(bytes, header.log, header.base).ok()
    }

    fn fields(bytes: &[u8]) -> Option<Raw> {
        let mut fields = Fields(bytes);
        let (version, _length, _compatible, required) =
            (fields.u16()?, fields.u16()?, fields.u32()?, fields.u32()?);
        let shard = fields.u32()?;
        let stream = fields.bytes(16)?.try_into().ok()?;
        let (base, ceiling, created_us, shard_created_s) =
            (fields.u64()?, fields.u64()?, fields.i64()?, fields.u64()?);
        let (before, bytes, end) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let fate = fields.u8()?;
        let known = match fate {
            1 => Some(Fate::Sealed),
            2 => Some(Fate::Recovered),
            3 => Some(Fate::Condemned),
            _ => None,
        };
        fields.bytes(27)?;
        let sum = fields.u32()?;
        let header = Self {
            log: LogId { stream, shard },
            base,
            ceiling,
            created_us,
            shard_created_s,
            predecessor: known.map(|fate| Predecessor { base: before, bytes, end, fate }),
        };
        Some(Raw { header, version, required, fate, sum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_and_strangers_are_named() {
        let log = LogId { stream: [9; 16], shard: 2 };
        let header = SegmentHeader {
            log,
            base: 77,
            ceiling: 77 + (1 << 32),
            created_us: 5,
            shard_created_s: 6,
            predecessor: Some(Predecessor { base: 0, bytes: 4096, end: 70, fate: Fate::Recovered }),
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes, log, 77), Ok(header));
        assert_eq!(SegmentHeader::decode(&bytes, log, 78), Err(InvalidSegment::Foreign));
        let other = LogId { shard: 3, ..log };
        assert_eq!(SegmentHeader::decode(&bytes, other, 77), Err(InvalidSegment::Foreign));
        assert_eq!(SegmentHeader::decode(&bytes[..100], log, 77), Err(InvalidSegment::Damaged));
        for at in 0..SEGMENT_HEADER_BYTES {
            let mut bad = bytes;
            bad[at] ^= 0x10;
            assert_eq!(SegmentHeader::decode(&bad, log, 77), Err(InvalidSegment::Damaged), "byte {at}");
        }
    }

    /// A flipped bit in the version was once taken for a later program's word, and nothing could be done with the log any
    /// more. What a later program wrote has a checksum that holds.
    #[test]
    fn only_a_header_that_holds_is_newer() {
        let log = LogId { stream: [9; 16], shard: 2 };
        let header = SegmentHeader {
            log,
            base: 0,
            ceiling: 1 << 32,
            created_us: 5,
            shard_created_s: 6,
            predecessor: None,
        };
        // The version, a required feature, a way to end.
        for (at, value) in [(8, 2), (16, 1), (96, 4)] {
            let mut bytes = header.encode();
            bytes[at] = value;
            assert_eq!(SegmentHeader::decode(&bytes, log, 0), Err(InvalidSegment::Damaged));
            let sum = header.identity().checksum(&bytes[..CHECKED_BYTES]);
            bytes[CHECKED_BYTES..].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(SegmentHeader::decode(&bytes, log, 0), Err(InvalidSegment::Newer));
        }
    }
}
