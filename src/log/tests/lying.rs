//! Frames as they lie in their segments, for tests that hit them.

use super::super::frame::segment::SEGMENT_HEADER_BYTES;
use super::super::frame::{BatchView, FrameHeader, HEADER_BYTES, Identity, Kind};
use super::*;

/// A frame as it lies in its segment.
#[derive(Debug, Clone)]
pub(super) struct Lying {
    pub(super) path: PathBuf,
    pub(super) base: u64,
    pub(super) bytes: std::ops::Range<usize>,
    pub(super) header: FrameHeader,
}

/// The frames of a segment.
pub(super) fn frames(machine: &Machine, base: u64) -> Vec<Lying> {
    let path = segment_path(base);
    let bytes = machine.bytes(&path);
    let identity = Identity::new(LOG, base);
    let (mut frames, mut at) = (Vec::new(), SEGMENT_HEADER_BYTES);
    while at < bytes.len() {
        let (header, _) = FrameHeader::decode(&bytes[at..], &identity).unwrap();
        let end = at + header.frame_bytes() as usize;
        frames.push(Lying { path: path.clone(), base, bytes: at..end, header });
        at = end;
    }
    frames
}

impl Lying {
    /// The numbers of its records, given its bytes.
    pub(super) fn numbers(&self, bytes: &[u8]) -> Vec<u64> {
        if self.header.kind != Kind::Records {
            return Vec::new();
        }
        let view = BatchView::parse(&self.header, &bytes[HEADER_BYTES..]).unwrap();
        view.iter().map(|record| u64::from_le_bytes(record.payload[..8].try_into().unwrap())).collect()
    }
}

/// Changes one bit of a file.
pub(super) fn flip(machine: &Machine, path: &Path, bit: usize) {
    let mut bytes = machine.bytes(path);
    bytes[bit / 8] ^= 1 << (bit % 8);
    machine.put(path, &bytes);
}
