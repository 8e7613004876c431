//! A sync note: what one process has made durable, told to those that wait for the same. 48 bytes in the lock table.
//!
//! ```text
//! offset size
//!      0    8  the segment file: a digest of what tells it from every other file that this machine has had
//!      8    8  boot id
//!     16    8  from: bytes of the segment when the process that synced had it open
//!     24    8  through: bytes of the segment when the sync began
//!     32    8  turn: how many syncs there have been before, as far as is known
//!     40    4  0
//!     44    4  CRC-32C over the segment's identity and bytes 0..44
//! ```
//! A note is a promise about the past, of bytes `from..through`, and never more than a hint: where it is missing, torn,
//! of another boot or of a file that was copied, the reader syncs for itself.

use super::Identity;
use super::bytes::{Block, Fields, Put};

/// Bytes of a note.
pub const NOTE_BYTES: usize = 48;
const CHECKED_BYTES: usize = 44;

/// What a successful sync of a segment covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncNote {
    /// Which file.
    pub file: u64,
    /// Under which boot.
    pub boot: u64,
    /// Only failures to write what was written from here on would have been told to the process that synced.
    pub from: u64,
    /// How long the file was when the sync began.
    pub through: u64,
    /// Counts the syncs.
    pub turn: u64,
}

impl SyncNote {
    /// The note's bytes.
    pub fn encode(&self, identity: &Identity) -> [u8; NOTE_BYTES] {
        let mut bytes = [0; NOTE_BYTES];
        let mut block = Block { bytes: &mut bytes, at: 0 };
        block.put_u64(self.file);
        block.put_u64(self.boot);
        block.put_u64(self.from);
        block.put_u64(self.through);
        block.put_u64(self.turn);
        block.put_u32(0);
        let sum = identity.checksum(&block.bytes[..CHECKED_BYTES]);
        block.put_u32(sum);
        bytes
    }

    /// Reads a note; `None` if it is not one about this segment.
    pub fn decode(bytes: &[u8], identity: &Identity) -> Option<Self> {
        let covered = bytes.get(..CHECKED_BYTES)?;
        let mut fields = Fields(bytes);
        let note = Self {
            file: fields.u64()?,
            boot: fields.u64()?,
            from: fields.u64()?,
            through: fields.u64()?,
            turn: fields.u64()?,
        };
        fields.u32()?;
        (fields.u32()? == identity.checksum(covered)).then_some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogId;
    use super::*;

    #[test]
    fn zeros_and_strangers_are_no_notes() {
        let identity = Identity::new(LogId { stream: [1; 16], shard: 0 }, 0);
        let note = SyncNote { file: 1, boot: 2, from: 3, through: 4, turn: 5 };
        let bytes = note.encode(&identity);
        assert_eq!(SyncNote::decode(&bytes, &identity), Some(note));
        assert_eq!(SyncNote::decode(&[0; NOTE_BYTES], &identity), None);
        assert_eq!(SyncNote::decode(&bytes[..NOTE_BYTES - 1], &identity), None);
        let other = Identity::new(LogId { stream: [1; 16], shard: 0 }, 9);
        assert_eq!(SyncNote::decode(&bytes, &other), None);
        for at in 0..NOTE_BYTES {
            let mut torn = bytes;
            torn[at] ^= 1;
            assert_eq!(SyncNote::decode(&torn, &identity), None, "byte {at} changed");
        }
    }
}
