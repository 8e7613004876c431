//! A stretch of a segment in memory, and the frames in it.

use super::Depth;
use crate::log::error::{Doing, Error};
use crate::log::frame::{FrameHeader, HEADER_BYTES, Invalid, crc32c};
use crate::log::segment::Segment;

/// How much is read at once: enough that system calls cost nothing, little enough to stay in the processor's cache
/// between the read and the checksum.
const WINDOW_BYTES: usize = if cfg!(test) { 256 } else { 512 << 10 };
/// The same where bodies are stepped over.
const HEADERS_BYTES: usize = 4 << 10;

/// What stands at a place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Frame {
    /// A frame; its body holds, if bodies are looked at.
    Whole(FrameHeader),
    /// The header holds and the body does not.
    BadBody(FrameHeader),
    /// A header whose frame goes beyond the end.
    Cut,
    /// No header.
    Invalid,
}

pub(crate) struct Window {
    depth: Depth,
    buffer: Vec<u8>,
    at: u64,
    filled: usize,
    /// Where in the buffer the last frame begins.
    start: usize,
}

impl Window {
    pub(crate) fn new(depth: Depth) -> Self {
        Self { depth, buffer: Vec::new(), at: 0, filled: 0, start: 0 }
    }

    /// Nothing that was read counts any more.
    pub(crate) fn forget(&mut self) {
        self.filled = 0;
    }

    /// The frame at `offset`, verified; nothing is read behind `end`.
    pub(crate) fn frame(&mut self, segment: &Segment, offset: u64, end: u64) -> Result<Frame, Error> {
        if offset + HEADER_BYTES as u64 > end || !self.fill(segment, offset, HEADER_BYTES, end)? {
            return Ok(Frame::Cut);
        }
        let (header, crc) =
            match FrameHeader::decode(&self.buffer[self.start..self.filled], &segment.identity) {
                Ok(header) => header,
                Err(Invalid::Checksum) => return Ok(Frame::Invalid),
                Err(Invalid::Newer(what)) => return Err(Error::Newer { path: segment.path.clone(), what }),
            };
        if offset + header.frame_bytes() > end {
            return Ok(Frame::Cut);
        }
        if self.depth == Depth::Headers {
            return Ok(Frame::Whole(header));
        }
        if !self.fill(segment, offset, header.frame_bytes() as usize, end)? {
            return Ok(Frame::Cut);
        }
        let holds = crc32c(self.stored(&header)) == crc;
        Ok(if holds { Frame::Whole(header) } else { Frame::BadBody(header) })
    }

    fn stored(&self, header: &FrameHeader) -> &[u8] {
        let at = self.start + HEADER_BYTES;
        &self.buffer[at..at + header.stored_bytes as usize]
    }

    /// The stored bytes of the frame that was just read, if bodies are looked at.
    pub(crate) fn body(&self, header: &FrameHeader) -> Option<&[u8]> {
        (self.depth == Depth::All).then(|| self.stored(header))
    }

    /// Some bytes from anywhere, past the window.
    pub(crate) fn read(&self, segment: &Segment, at: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; len];
        let got = segment.file.read_at(&mut bytes, at).doing("read", &segment.path)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    fn fill(&mut self, segment: &Segment, offset: u64, want: usize, end: u64) -> Result<bool, Error> {
        let held = self.at..self.at + self.filled as u64;
        let kept = if held.contains(&offset) {
            let start = (offset - self.at) as usize;
            if self.filled - start >= want {
                self.start = start;
                return Ok(true);
            }
            self.buffer.copy_within(start..self.filled, 0);
            self.filled - start
        } else {
            0
        };
        let usual = if self.depth == Depth::All { WINDOW_BYTES } else { HEADERS_BYTES };
        let aim = want.max(usual.min((end - offset) as usize)).max(kept);
        // After a frame of unusual size the buffer goes back to its usual one.
        if self.buffer.len() < aim || self.buffer.len() > aim.max(4 * usual) {
            self.buffer.resize(aim, 0);
            self.buffer.shrink_to(aim);
        }
        (self.at, self.start) = (offset, 0);
        let got = segment
            .file
            .read_at(&mut self.buffer[kept..aim], offset + kept as u64)
            .doing("read", &segment.path)?;
        self.filled = kept + got;
        Ok(self.filled >= want)
    }
}
