//! The bytes at the reader's place, read ahead, and a frame made of them.

use super::super::Codec;
use super::super::error::{Doing, Error};
use super::super::frame::{BatchView, EndOfShard, FrameHeader, HEADER_BYTES, Kind, columns, crc32c};
use super::{FrameRef, Reader};

/// How much is read at once: a frame of usual size with the next frame's header, small enough to stay in the
/// processor's second-level cache from the read through the checksum to the write.
const READ_AHEAD: usize = if cfg!(test) { 256 } else { 256 << 10 };

impl Reader {
    /// Brings at least `want` bytes from the reader's place into the buffer; `false` if the file has fewer.
    pub(super) fn fill(&mut self, want: usize) -> Result<bool, Error> {
        let Some(segment) = &self.segment else { return Ok(false) };
        let held = self.buffer_at..self.buffer_at + self.filled as u64;
        let kept = if held.contains(&self.offset) {
            let start = (self.offset - self.buffer_at) as usize;
            if self.filled - start >= want {
                return Ok(true);
            }
            self.buffer.copy_within(start..self.filled, 0);
            self.filled - start
        } else {
            0
        };
        self.buffer_at = self.offset;
        let aim = (want + HEADER_BYTES).max(READ_AHEAD);
        // After a frame of unusual size the buffer goes back to its usual one.
        if self.buffer.len() < aim || self.buffer.len() > aim.max(4 * READ_AHEAD) {
            self.buffer.resize(aim, 0);
            self.buffer.shrink_to(aim);
        }
        let got = segment
            .file
            .read_at(&mut self.buffer[kept..aim], self.offset + kept as u64)
            .doing("read", &segment.path)?;
        self.filled = kept + got;
        Ok(self.filled >= want)
    }

    /// Whether the whole frame is in the file and holds. It is in the buffer afterwards.
    pub(super) fn has_body(&mut self, header: &FrameHeader, crc: u32) -> Result<bool, Error> {
        if !self.fill(header.frame_bytes() as usize)? {
            return Ok(false);
        }
        Ok(crc32c(self.stored(header)) == crc)
    }

    pub(super) fn stored(&self, header: &FrameHeader) -> &[u8] {
        let start = (self.offset - self.buffer_at) as usize + HEADER_BYTES;
        &self.buffer[start..start + header.stored_bytes as usize]
    }

    /// Whether the body at the reader's place, which holds, is what its header says. A body that is compressed is in the
    /// scratch buffer afterwards.
    pub(super) fn makes_sense(&mut self, header: &FrameHeader) -> bool {
        let start = (self.offset - self.buffer_at) as usize + HEADER_BYTES;
        let stored = &self.buffer[start..start + header.stored_bytes as usize];
        if header.kind == Kind::End {
            return EndOfShard::decode(stored).is_some();
        }
        let Some(body) = stored.get(usize::from(header.provenance_bytes)..) else { return false };
        let body = if header.codec == Codec::None {
            body
        } else if columns::decompress(header, body, &mut self.scratch) {
            &self.scratch
        } else {
            return false;
        };
        BatchView::parse(header, body).is_some()
    }

    /// The frame of records at `offset`, which makes sense.
    pub(super) fn frame(&self, header: FrameHeader, offset: u64) -> Result<FrameRef<'_>, Error> {
        let start = (offset - self.buffer_at) as usize + HEADER_BYTES;
        let split = start + usize::from(header.provenance_bytes);
        let end = start + header.stored_bytes as usize;
        let Some(segment) = &self.segment else { return Err(self.empty()) };
        let body = if header.codec == Codec::None { &self.buffer[split..end] } else { &self.scratch[..] };
        Ok(FrameRef {
            header,
            body,
            provenance: &self.buffer[start..split],
            path: &segment.path,
            offset,
            file: &*segment.file,
        })
    }
}
