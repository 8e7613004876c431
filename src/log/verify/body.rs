//! Whether a body whose checksum holds is what its header says.

use crate::log::frame::control::{decode_pause, decode_producers, decode_provenance, decode_seal};
use crate::log::frame::{BatchView, Codec, EndOfShard, FrameHeader, Kind, SegmentHeader, columns};

/// What is wrong with it, so that nobody can make use of the frame.
pub(super) fn flaw(
    segment: &SegmentHeader,
    header: &FrameHeader,
    stored: &[u8],
    scratch: &mut Vec<u8>,
) -> Option<&'static str> {
    let (_, body) = stored.split_at_checked(usize::from(header.provenance_bytes))?;
    let holds = match header.kind {
        Kind::Records => {
            let body = if header.codec == Codec::None {
                body
            } else if columns::decompress(header, body, scratch) {
                scratch
            } else {
                return Some("the body cannot be decompressed");
            };
            BatchView::parse(header, body).is_some()
        }
        Kind::Producers => decode_producers(body).is_some(),
        // A seal names the place right behind itself, or it would send the log where others are.
        Kind::Seal => decode_seal(body).is_some_and(|(_, next)| next == header.first && next > segment.base),
        Kind::Pause => decode_pause(body).is_some(),
        Kind::End => EndOfShard::decode(body).is_some(),
        Kind::Condemned | Kind::Gap => true,
    };
    (!holds).then_some("the body is not what its header says")
}

/// What is wrong with the provenance. The records can be read all the same.
pub(super) fn provenance_flaw(header: &FrameHeader, stored: &[u8]) -> Option<&'static str> {
    let provenance = stored.get(..usize::from(header.provenance_bytes))?;
    let holds =
        header.kind != Kind::Records || provenance.is_empty() || decode_provenance(provenance).is_some();
    (!holds).then_some("the provenance does not hold")
}
