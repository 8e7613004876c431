//! The ends of a zip archive with one member.
//!
//! The header before the member is written when its size and checksum are known, into room that was left for it: no
//! data descriptor is needed, which readers that go through a pipe cannot follow. The room has 20 bytes for the sizes of
//! a member above 4 GiB; below, they hold a padding field that readers pass over.

/// Where the format's own version numbers say: deflate, and zip64.
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;
/// Names are UTF-8.
const FLAGS: u16 = 1 << 11;
const DEFLATE: u16 = 8;
/// 1980-01-01, the first day that the format can say: the same records make the same object.
const DATE: u16 = 1 << 5 | 1;
/// A regular file, readable by all, as Unix says it in the upper half; the lower half is for DOS.
const ATTRIBUTES: u32 = 0o100_644 << 16;
/// The archive was made on Unix: else the attributes mean something else.
const MADE_ON_UNIX: u16 = 3 << 8;
const ZIP64_FIELD: u16 = 1;
/// The field that tools use to align members.
const PADDING_FIELD: u16 = 0xd935;
/// What stands in the 32-bit fields of a larger member.
const SEE_ZIP64: u32 = u32::MAX;
const FIELD_BYTES: usize = 20;
const HEADER_BYTES: usize = 30;
const DIRECTORY_BYTES: u64 = 46;
const END_BYTES: u64 = 22;
const END_64_BYTES: u64 = 56;

/// Zeros, as long as the header will be.
pub(super) fn room_for_header(name: &str) -> Vec<u8> {
    vec![0; HEADER_BYTES + name.len() + FIELD_BYTES]
}

/// How long that is which follows a member below 4 GiB.
pub(super) fn end_bytes(name: &str) -> u64 {
    DIRECTORY_BYTES + name.len() as u64 + END_BYTES
}

/// What is known of a member at its end.
pub(super) struct Member<'a> {
    pub(super) name: &'a str,
    pub(super) crc: u32,
    pub(super) plain_bytes: u64,
    pub(super) packed_bytes: u64,
}

/// Little-endian fields, one behind the other.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn text(mut self, text: &str) -> Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }
}

impl Member<'_> {
    fn is_large(&self) -> bool {
        self.plain_bytes.max(self.packed_bytes) >= u64::from(SEE_ZIP64)
    }

    fn version(&self) -> u16 {
        if self.is_large() { VERSION_64 } else { VERSION }
    }

    /// The fields that the header and the directory have in common: from the flags to the length of the name.
    fn common(&self, fields: Fields) -> Fields {
        let size = |bytes: u64| if self.is_large() { SEE_ZIP64 } else { bytes as u32 };
        fields
            .u16(FLAGS)
            .u16(DEFLATE)
            .u16(0)
            .u16(DATE)
            .u32(self.crc)
            .u32(size(self.packed_bytes))
            .u32(size(self.plain_bytes))
            .u16(self.name.len() as u16)
    }

    fn sizes(&self, fields: Fields) -> Fields {
        fields.u16(ZIP64_FIELD).u16(FIELD_BYTES as u16 - 4).u64(self.plain_bytes).u64(self.packed_bytes)
    }

    /// What stands before the member.
    pub(super) fn header(&self) -> Vec<u8> {
        let fields = self.common(Fields::default().u32(0x0403_4b50).u16(self.version()));
        let fields = fields.u16(FIELD_BYTES as u16).text(self.name);
        if self.is_large() {
            return self.sizes(fields).0;
        }
        // Aligned to one byte, and zeros.
        fields.u16(PADDING_FIELD).u16(FIELD_BYTES as u16 - 4).u16(1).u16(0).u32(0).u64(0).0
    }

    /// What stands behind the member, at this offset.
    pub(super) fn directory(&self, offset: u64) -> Vec<u8> {
        let large = self.is_large();
        let fields = self
            .common(Fields::default().u32(0x0201_4b50).u16(MADE_ON_UNIX | VERSION_64).u16(self.version()));
        let extra = if large { FIELD_BYTES as u16 } else { 0 };
        // No comment, the only disk, a binary file, at the start of the archive.
        let fields = fields.u16(extra).u16(0).u16(0).u16(0).u32(ATTRIBUTES).u32(0).text(self.name);
        let fields = if large { self.sizes(fields) } else { fields };
        let len = fields.0.len() as u64;
        let far = offset + len > u64::from(SEE_ZIP64) || large;
        let fields = if far {
            let end = fields.u32(0x0606_4b50).u64(END_64_BYTES - 12).u16(MADE_ON_UNIX | VERSION_64);
            let end = end.u16(VERSION_64).u32(0).u32(0).u64(1).u64(1).u64(len).u64(offset);
            end.u32(0x0706_4b50).u32(0).u64(offset + len).u32(1)
        } else {
            fields
        };
        let offset = if far { SEE_ZIP64 } else { offset as u32 };
        fields.u32(0x0605_4b50).u16(0).u16(0).u16(1).u16(1).u32(len as u32).u32(offset).u16(0).0
    }
}
