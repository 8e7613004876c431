//! What stands on the disk, byte for byte: this is the only place where integers become disk bytes.
//!
//! A segment is a [`SegmentHeader`] and then frames, one behind the other with nothing between them. A frame is a
//! 64-byte header and its stored bytes. All integers are little-endian.
//!
//! ```text
//! offset size
//!      0    4  magic "kpf1"
//!      4    1  kind: 1 records, 2 producers, 3 seal, 4 pause, 5 end of shard, 6 condemned, 7 gap
//!      5    1  codec of the stored body: 0 none, 1 LZ4 block, 2 Zstandard frame
//!      6    2  columns: which are there (see `columns`); a reader that does not know a bit stops
//!      8    4  stored length: bytes behind the header (provenance, then the stored body)
//!     12    4  number of records
//!     16    8  index of the first record; for other kinds, of the next record
//!     24    8  arrival time, microseconds since the epoch, of every record in the frame
//!     32    8  durable-through: every record of the shard below this index was on the disk when this was written
//!     40    4  body length before compression
//!     44    2  provenance length
//!     46    1  joint: the byte behind each payload, where columns has JOINED
//!     47    1  flags: bit 0, a frame of this segment up to and with this one tells of producers
//!     48    4  offset of the payloads within the body
//!     52    4  key id for encryption: 0 none; a reader that meets another value stops
//!     56    4  header checksum
//!     60    4  body checksum
//! ```
//!
//! The header checksum is CRC-32C over the frame's identity (stream UUID, 16 bytes; shard number, u32; base index of
//! the segment, u64) and bytes 0..56. The body checksum is CRC-32C over the stored bytes, exclusive-or the header
//! checksum: so it can be computed before the index is assigned, and still binds the body to this header, and with it
//! to stream, shard, segment and sequence. Bytes of another place or time never pass. A header of zeros has no magic.

mod bytes;
pub mod columns;
pub mod control;
pub mod entry;
pub mod note;
pub mod segment;

use bytes::{Block, Fields, Put};
pub use columns::{Batch, BatchView, Column, Draft, Fresh, Stored};
pub use control::{Child, EndOfShard, ProducerState};
pub use entry::IndexEntry;
pub use note::{NOTE_BYTES, SyncNote};
pub use segment::{Fate, Predecessor, SegmentHeader};

/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 64;

/// The largest frame, header included. A length above it is not believed, whatever its checksum says.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

const MAGIC: [u8; 4] = *b"kpf1";
/// The part of the header that its checksum covers.
const CHECKED_BYTES: usize = 56;

const _: () = assert!(CHECKED_BYTES + 8 == HEADER_BYTES);

/// CRC-32C (Castagnoli), as in iSCSI, SCTP and ext4.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// A CRC-32C over parts that do not lie together.
#[derive(Debug, Default)]
pub struct Crc32c(u32);

impl Crc32c {
    /// Takes the next part.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    /// The checksum of all parts.
    pub fn finish(&self) -> u32 {
        self.0
    }
}

/// What every checksum in a segment covers besides its bytes: which segment of which shard of which stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity([u8; 28]);

impl Identity {
    /// The identity of the segment that begins at `base`.
    pub fn new(log: LogId, base: u64) -> Self {
        let mut bytes = [0; 28];
        let mut block = Block { bytes: &mut bytes, at: 0 };
        block.put(&log.stream);
        block.put_u32(log.shard);
        block.put_u64(base);
        Self(bytes)
    }

    fn checksum(&self, covered: &[u8]) -> u32 {
        debug_assert!(covered.len() <= segment::SEGMENT_HEADER_BYTES);
        let mut both = [0; 28 + segment::SEGMENT_HEADER_BYTES];
        both[..28].copy_from_slice(&self.0);
        both[28..28 + covered.len()].copy_from_slice(covered);
        crc32c(&both[..28 + covered.len()])
    }
}

/// Which log this is: it goes under every checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogId {
    /// The stream's UUID.
    pub stream: [u8; 16],
    /// The shard's number.
    pub shard: u32,
}

/// What a frame is for. The numbers are on disks: they never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Records.
    Records = 1,
    /// Where every producer stands, carried over from earlier segments and from parent shards.
    Producers = 2,
    /// The segment ends here and another follows.
    Seal = 3,
    /// The last writer left in order.
    Pause = 4,
    /// The shard ends here; its children are named.
    End = 5,
    /// A sync failed: nothing more is written here, and nothing acknowledged from here.
    Condemned = 6,
    /// Frames that were damaged stood here; a repair put this in their place. Its count says how many records are gone,
    /// its body is as long as what it replaces, all zero.
    Gap = 7,
}

/// How the stored body was made from the body. The numbers are on disks: they never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    #[default]
    None = 0,
    /// One LZ4 block.
    Lz4 = 1,
    /// One Zstandard frame.
    Zstd = 2,
}

/// A frame's header, all fields but the two checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is for.
    pub kind: Kind,
    /// How the body is compressed.
    pub codec: Codec,
    /// Which columns there are.
    pub columns: u16,
    /// Bytes behind the header.
    pub stored_bytes: u32,
    /// Number of records.
    pub count: u32,
    /// Index of the first record, or of the next one.
    pub first: u64,
    /// Arrival time of all records in the frame.
    pub arrival_us: i64,
    /// Every record below this index was durable when the frame was written.
    pub durable: u64,
    /// Body length before compression.
    pub body_bytes: u32,
    /// Provenance length.
    pub provenance_bytes: u16,
    /// The byte behind each payload, if the columns say so.
    pub joint: u8,
    /// Where the payloads begin in the body.
    pub payload_offset: u32,
    /// Whether this frame or one before it in the segment has a provenance or a list of producers. Where not, nobody
    /// needs to look for any.
    pub provenance_seen: bool,
}

/// Why 64 bytes are not a frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// They are not, or not of this segment: damage, a torn write, or the end of what was written.
    Checksum,
    /// They are, and of a kind that this program does not know: it must stop.
    Newer(&'static str),
}

/// The bits of `columns` that this program knows.
const COLUMNS_KNOWN: u16 = columns::Column::KNOWN;

impl FrameHeader {
    /// A header for a frame of one kind, with everything else empty.
    pub fn of(kind: Kind, first: u64, arrival_us: i64, durable: u64) -> Self {
        Self {
            kind,
            codec: Codec::None,
            columns: 0,
            stored_bytes: 0,
            count: 0,
            first,
            arrival_us,
            durable,
            body_bytes: 0,
            provenance_bytes: 0,
            joint: 0,
            payload_offset: 0,
            provenance_seen: false,
        }
    }

    /// Bytes of the whole frame.
    pub fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.stored_bytes)
    }

    /// Index of the record after this frame.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// The header's bytes, given the CRC-32C of the stored bytes.
    pub fn encode(&self, identity: &Identity, stored_crc: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut block = Block { bytes: &mut bytes, at: 0 };
        block.put(&MAGIC);
        block.put_u8(self.kind as u8);
        block.put_u8(self.codec as u8);
        block.put_u16(self.columns);
        block.put_u32(self.stored_bytes);
        block.put_u32(self.count);
        block.put_u64(self.first);
        block.put_i64(self.arrival_us);
        block.put_u64(self.durable);
        block.put_u32(self.body_bytes);
        block.put_u16(self.provenance_bytes);
        block.put_u8(self.joint);
        block.put_u8(u8::from(self.provenance_seen));
        block.put_u32(self.payload_offset);
        block.put_u32(0);
        debug_assert_eq!(block.at, CHECKED_BYTES);
        let checksum = identity.checksum(&block.bytes[..CHECKED_BYTES]);
        block.put_u32(checksum);
        block.put_u32(stored_crc ^ checksum);
        bytes
    }

    /// Reads a header and the CRC-32C that its stored bytes must have.
    pub fn decode(bytes: &[u8], identity: &Identity) -> Result<(Self, u32), Invalid> {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else { return Err(Invalid::Checksum) };
        if bytes[..4] != MAGIC {
            return Err(Invalid::Checksum);
        }
        let mut tail = Fields(&bytes[CHECKED_BYTES..]);
        let (checksum, body_checksum) = tail.u32().zip(tail.u32()).ok_or(Invalid::Checksum)?;
        if identity.checksum(&bytes[..CHECKED_BYTES]) != checksum {
            return Err(Invalid::Checksum);
        }
        let header = Self::fields(&bytes[4..CHECKED_BYTES])?;
        Ok((header, body_checksum ^ checksum))
    }

    fn fields(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut fields = Fields(bytes);
        let mut next = || -> Option<(Self, u8, u8, u32)> {
            let (kind, codec) = (fields.u8()?, fields.u8()?);
            let columns = fields.u16()?;
            let (stored_bytes, count) = (fields.u32()?, fields.u32()?);
            let (first, arrival_us, durable) = (fields.u64()?, fields.i64()?, fields.u64()?);
            let (body_bytes, provenance_bytes) = (fields.u32()?, fields.u16()?);
            let (joint, flags) = (fields.u8()?, fields.u8()?);
            let (payload_offset, key_id) = (fields.u32()?, fields.u32()?);
            let header = Self {
                kind: Kind::Records,
                codec: Codec::None,
                columns,
                stored_bytes,
                count,
                first,
                arrival_us,
                durable,
                body_bytes,
                provenance_bytes,
                joint,
                payload_offset,
                provenance_seen: flags & 1 != 0,
            };
            Some((header, kind, codec, key_id))
        };
        let (mut header, kind, codec, key_id) = next().ok_or(Invalid::Checksum)?;
        header.kind = match kind {
            1 => Kind::Records,
            2 => Kind::Producers,
            3 => Kind::Seal,
            4 => Kind::Pause,
            5 => Kind::End,
            6 => Kind::Condemned,
            7 => Kind::Gap,
            _ => return Err(Invalid::Newer("a kind of frame")),
        };
        header.codec = match codec {
            0 => Codec::None,
            1 => Codec::Lz4,
            2 => Codec::Zstd,
            _ => return Err(Invalid::Newer("a compression codec")),
        };
        if header.columns & !COLUMNS_KNOWN != 0 {
            return Err(Invalid::Newer("a column"));
        }
        if key_id != 0 {
            return Err(Invalid::Newer("encryption"));
        }
        let sane = header.stored_bytes as usize <= FRAME_BYTES_MAX - HEADER_BYTES
            && header.body_bytes as usize <= FRAME_BYTES_MAX
            && u32::from(header.provenance_bytes) <= header.stored_bytes
            && header.payload_offset <= header.body_bytes
            && (header.codec != Codec::None || header.body_bytes as usize == header.stored_body_bytes())
            // Each record has at least a length of its own or shares one; no frame of ours holds this many empty ones.
            // A gap counts what is not there.
            && (header.count as usize <= FRAME_BYTES_MAX || header.kind == Kind::Gap)
            && header.first.checked_add(u64::from(header.count)).is_some();
        // Cannot be: the checksum is right. Not believing it costs nothing and keeps hostile lengths out.
        if sane { Ok(header) } else { Err(Invalid::Checksum) }
    }

    /// The body length as it is stored.
    pub fn stored_body_bytes(&self) -> usize {
        self.stored_bytes as usize - usize::from(self.provenance_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOG: LogId = LogId { stream: [7; 16], shard: 3 };

    fn header() -> FrameHeader {
        FrameHeader {
            columns: Column::JOINED,
            stored_bytes: 1000,
            count: 9,
            body_bytes: 1000,
            joint: b'\n',
            payload_offset: 9,
            ..FrameHeader::of(Kind::Records, 42, 1_700_000_000_000_000, 40)
        }
    }

    #[test]
    fn a_header_survives_and_is_bound_to_its_place() {
        let identity = Identity::new(LOG, 0);
        let bytes = header().encode(&identity, 0xdead_beef);
        assert_eq!(FrameHeader::decode(&bytes, &identity), Ok((header(), 0xdead_beef)));
        for other in [
            Identity::new(LOG, 1),
            Identity::new(LogId { shard: 4, ..LOG }, 0),
            Identity::new(LogId { stream: [8; 16], ..LOG }, 0),
        ] {
            assert_eq!(FrameHeader::decode(&bytes, &other), Err(Invalid::Checksum));
        }
        assert_eq!(FrameHeader::decode(&[0; 64], &identity), Err(Invalid::Checksum));
    }

    #[test]
    fn newer_things_are_told_from_damage() {
        let identity = Identity::new(LOG, 0);
        let reseal = |at: usize, value: u8| {
            let mut bytes = header().encode(&identity, 0);
            bytes[at] = value;
            let sum = identity.checksum(&bytes[..CHECKED_BYTES]);
            bytes[56..60].copy_from_slice(&sum.to_le_bytes());
            FrameHeader::decode(&bytes, &identity)
        };
        assert_eq!(reseal(4, 77), Err(Invalid::Newer("a kind of frame")));
        assert_eq!(reseal(5, 9), Err(Invalid::Newer("a compression codec")));
        assert_eq!(reseal(7, 0x80), Err(Invalid::Newer("a column")));
        assert_eq!(reseal(52, 1), Err(Invalid::Newer("encryption")));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_found(bit in 0usize..60 * 8) {
            let identity = Identity::new(LOG, 0);
            let mut bytes = header().encode(&identity, 1);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(FrameHeader::decode(&bytes, &identity), Err(Invalid::Checksum));
        }

        #[test]
        fn arbitrary_bytes_never_pass(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(FrameHeader::decode(&bytes, &Identity::new(LOG, 0)).is_err());
        }
    }
}
