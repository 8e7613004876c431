//! Whether a body whose checksum holds is what its header says.

use crate::log::frame::control::{decode_pause, decode_producers, decode_provenance, decode_seal};
use crate::log::frame::{BatchView, Codec, EndOfShard, FrameHeader, Kind, columns};

/// What is wrong with it.
pub(super) fn flaw(header: &FrameHeader, stored: &[u8], scratch: &mut Vec<u8>) -> Option<&'static str> {
    let (provenance, body) = stored.split_at_checked(usize::from(header.provenance_bytes))?;
    let holds = match header.kind {
        Kind::Records => {
            if !provenance.is_empty() && decode_provenance(provenance).is_none() {
                return Some("the provenance does not hold");
            }
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
        Kind::Seal => decode_seal(body).is_some(),
        Kind::Pause => decode_pause(body).is_some(),
        Kind::End => EndOfShard::decode(body).is_some(),
        Kind::Condemned | Kind::Gap => true,
    };
    (!holds).then_some("the body is not what its header says")
}
