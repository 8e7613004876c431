//! The body of a frame of records: columns, then the payloads one behind the other.
//!
//! ```text
//! lengths      count x 1, 2 or 4 bytes, or one u32 for all (columns bits 0-1: 0, 1, 2, 3)
//! keys         if KEYS: count x u8, or u16 if WIDE_KEYS: 0 absent, else length + 1; then the keys' bytes (UTF-8)
//! hash keys    if HASHES: one bit per record (lowest first, padded to a byte), then a u128 for each bit that is set
//! timestamps   if TIMESTAMPS: one bit per record, then an i64 (microseconds since the epoch) for each bit set
//! attributes   if ATTRIBUTES: per record u16 how many, then for each u16 length and name, u32 length and value
//! payloads     from the header's payload offset to the end of the body, each followed by the joint byte if JOINED
//! ```
//!
//! A column that is not there costs nothing, and a block of lines is stored with its newlines as it came out of the
//! pipe, and leaves the same way: neither direction touches a record.

use std::borrow::Cow;

use super::bytes::{Fields, Put};
use super::control::encode_provenance;
use super::{Codec, Crc32c, FrameHeader, Kind};
use crate::hash::HashKey;
use crate::record::{Attribute, Provenance};

/// The bits of a header's `columns`. They are on disks: they never change meaning.
#[derive(Debug)]
pub struct Column;

impl Column {
    /// How lengths are stored.
    const WIDTH: u16 = 0x3;
    /// There are keys.
    pub const KEYS: u16 = 0x4;
    /// Key lengths take two bytes.
    pub const WIDE_KEYS: u16 = 0x8;
    /// There are explicit hash keys.
    pub const HASHES: u16 = 0x10;
    /// There are producer timestamps.
    pub const TIMESTAMPS: u16 = 0x20;
    /// There are attributes.
    pub const ATTRIBUTES: u16 = 0x40;
    /// A joint byte stands behind each payload.
    pub const JOINED: u16 = 0x100;
    /// All of the above.
    pub const KNOWN: u16 = 0x17f;
}

/// A frame holds no more attributes than this, in all its records: far above what fits into one that a producer closes
/// at 8 MiB, and few enough that a small frame which unpacks to nothing else does not fill the memory.
const ATTRIBUTES_MAX: usize = 2 << 20;

/// One record on its way into a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fresh<'a> {
    /// The data.
    pub payload: &'a [u8],
    /// The partition key.
    pub key: Option<&'a [u8]>,
    /// The explicit hash key.
    pub explicit_hash: Option<HashKey>,
    /// The producer's timestamp.
    pub timestamp_us: Option<i64>,
    /// Attributes.
    pub attributes: &'a [Attribute],
}

/// Records gathered for one shard.
#[derive(Debug, Default)]
pub struct Batch {
    lengths: Vec<u32>,
    /// Length + 1, or 0; shorter than `lengths` as long as no record has a key.
    key_lengths: Vec<u16>,
    keys: Vec<u8>,
    hashes: Vec<Option<HashKey>>,
    timestamps: Vec<Option<i64>>,
    attributes: Vec<Vec<Attribute>>,
    payloads: Vec<u8>,
    joint: Option<u8>,
}

impl Batch {
    /// An empty batch whose payloads are each followed by `joint`, if that is given.
    pub fn new(joint: Option<u8>) -> Self {
        Self { joint, ..Self::default() }
    }

    /// Adds a record.
    #[inline]
    pub fn push(&mut self, record: Fresh<'_>) {
        let before = self.lengths.len();
        self.payloads.extend_from_slice(record.payload);
        if let Some(joint) = self.joint {
            self.payloads.push(joint);
        }
        self.lengths.push(record.payload.len() as u32);
        if let Some(key) = record.key {
            self.key_lengths.resize(before, 0);
            self.key_lengths.push(key.len() as u16 + 1);
            self.keys.extend_from_slice(key);
        }
        if record.explicit_hash.is_some() {
            self.hashes.resize(before, None);
            self.hashes.push(record.explicit_hash);
        }
        if record.timestamp_us.is_some() {
            self.timestamps.resize(before, None);
            self.timestamps.push(record.timestamp_us);
        }
        if !record.attributes.is_empty() {
            self.attributes.resize(before, Vec::new());
            self.attributes.push(record.attributes.to_vec());
        }
    }

    /// Adds a record that has a key and nothing else, in a batch of such.
    #[inline]
    pub fn push_keyed(&mut self, payload: &[u8], key: &[u8]) {
        debug_assert_eq!(self.key_lengths.len(), self.lengths.len(), "all records have keys");
        self.payloads.extend_from_slice(payload);
        if let Some(joint) = self.joint {
            self.payloads.push(joint);
        }
        self.lengths.push(payload.len() as u32);
        self.key_lengths.push(key.len() as u16 + 1);
        self.keys.extend_from_slice(key);
    }

    /// Whether all its records have keys, so that [`Batch::push_keyed`] may be used.
    pub fn is_keyed(&self) -> bool {
        self.key_lengths.len() == self.lengths.len()
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// About how many bytes the body will have.
    pub fn bytes(&self) -> usize {
        let attributes: usize =
            self.attributes.iter().flatten().map(|a| a.name.len() + a.value.len() + 6).sum();
        self.payloads.len()
            + self.keys.len()
            + self.lengths.len() * 4
            + self.hashes.len() * 17
            + self.timestamps.len() * 9
            + attributes
    }

    /// Bytes of the payloads.
    pub fn payload_bytes(&self) -> usize {
        self.payloads.len()
    }

    /// The records in order, as they were pushed.
    pub fn records(&self) -> impl Iterator<Item = Fresh<'_>> {
        let (mut payload_at, mut key_at) = (0, 0);
        self.lengths.iter().enumerate().map(move |(i, &len)| {
            let payload = &self.payloads[payload_at..payload_at + len as usize];
            payload_at += len as usize + usize::from(self.joint.is_some());
            let key = self.key_lengths.get(i).and_then(|&len| len.checked_sub(1)).map(|len| {
                let key = &self.keys[key_at..key_at + usize::from(len)];
                key_at += usize::from(len);
                key
            });
            Fresh {
                payload,
                key,
                explicit_hash: self.hashes.get(i).copied().flatten(),
                timestamp_us: self.timestamps.get(i).copied().flatten(),
                attributes: self.attributes.get(i).map_or(&[], Vec::as_slice),
            }
        })
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.lengths.clear();
        self.key_lengths.clear();
        self.keys.clear();
        self.hashes.clear();
        self.timestamps.clear();
        self.attributes.clear();
        self.payloads.clear();
    }

    /// Gives back memory beyond `keep` bytes, after a batch of unusual size.
    pub fn shrink(&mut self, keep: usize) {
        self.payloads.shrink_to(keep);
    }

    /// The frame of these records, all but its place in the log.
    pub fn draft(&mut self, codec: Codec, provenance: Option<&Provenance>) -> Draft<'_> {
        let count = self.lengths.len();
        let mut head = Vec::with_capacity(count * 2 + self.keys.len() + 64);
        let mut columns = put_lengths(&mut head, &self.lengths);
        if !self.key_lengths.is_empty() {
            self.key_lengths.resize(count, 0);
            columns |= Column::KEYS;
            if self.key_lengths.iter().all(|&len| len <= u16::from(u8::MAX)) {
                head.extend(self.key_lengths.iter().map(|&len| len as u8));
            } else {
                columns |= Column::WIDE_KEYS;
                self.key_lengths.iter().for_each(|&len| head.put_u16(len));
            }
            head.put(&self.keys);
        }
        if !self.hashes.is_empty() {
            columns |= Column::HASHES;
            self.hashes.resize(count, None);
            put_optional(&mut head, &self.hashes, |out, hash| out.put_u128(hash.0));
        }
        if !self.timestamps.is_empty() {
            columns |= Column::TIMESTAMPS;
            self.timestamps.resize(count, None);
            put_optional(&mut head, &self.timestamps, |out, time| out.put_i64(*time));
        }
        if !self.attributes.is_empty() {
            columns |= Column::ATTRIBUTES;
            self.attributes.resize(count, Vec::new());
            for list in &self.attributes {
                head.put_u16(list.len() as u16);
                for attribute in list {
                    head.put_short(attribute.name.as_bytes());
                    head.put_u32(attribute.value.len() as u32);
                    head.put(&attribute.value);
                }
            }
        }
        Draft::new(count, columns, self.joint, head, &self.payloads, codec, provenance)
    }
}

fn put_optional<T>(out: &mut Vec<u8>, values: &[Option<T>], put: impl Fn(&mut Vec<u8>, &T)) {
    for eight in values.chunks(8) {
        out.put_u8(eight.iter().enumerate().fold(0, |bits, (i, v)| bits | (u8::from(v.is_some()) << i)));
    }
    values.iter().flatten().for_each(|value| put(out, value));
}

/// Stores lengths in as few bytes each as the longest needs, and returns the code for how.
fn put_lengths(out: &mut Vec<u8>, lengths: &[u32]) -> u16 {
    let (mut low, mut high) = (u32::MAX, 0);
    for &len in lengths {
        low = low.min(len);
        high = high.max(len);
    }
    if low == high {
        out.put_u32(high);
        3
    } else if high <= u32::from(u8::MAX) {
        out.extend(lengths.iter().map(|&len| len as u8));
        0
    } else if high <= u32::from(u16::MAX) {
        lengths.iter().for_each(|&len| out.put_u16(len as u16));
        1
    } else {
        lengths.iter().for_each(|&len| out.put_u32(len));
        2
    }
}

/// A frame whose place in the log is still open: everything that can be done outside the lock is done.
#[derive(Debug)]
pub struct Draft<'a> {
    /// The header; index, arrival time and durable-through are filled in under the lock.
    pub(crate) header: FrameHeader,
    /// Provenance, columns and payloads: the stored bytes in order.
    pub(crate) parts: [Cow<'a, [u8]>; 3],
    /// CRC-32C of the stored bytes.
    pub(crate) stored_crc: u32,
    /// What the provenance part says, so that the writer need not read it back.
    pub(crate) provenance: Option<Provenance>,
}

impl<'a> Draft<'a> {
    /// The frame of payloads that lie in `block` back to back, each followed by the byte `joint`: nothing is copied.
    pub fn joined(
        block: &'a [u8],
        lengths: &[u32],
        joint: u8,
        codec: Codec,
        provenance: Option<&Provenance>,
    ) -> Self {
        let mut head = Vec::with_capacity(lengths.len() * 2 + 4);
        let columns = put_lengths(&mut head, lengths);
        Self::new(lengths.len(), columns, Some(joint), head, block, codec, provenance)
    }

    fn new(
        count: usize,
        mut columns: u16,
        joint: Option<u8>,
        head: Vec<u8>,
        payloads: &'a [u8],
        codec: Codec,
        provenance: Option<&Provenance>,
    ) -> Self {
        if joint.is_some() {
            columns |= Column::JOINED;
        }
        let payload_offset = head.len();
        let body_bytes = head.len() + payloads.len();
        let (codec, head, payloads) = compress(codec, head, payloads);
        let provenance_part = provenance.map(encode_provenance).unwrap_or_default();
        let parts = [Cow::Owned(provenance_part), Cow::Owned(head), payloads];
        let mut crc = Crc32c::default();
        parts.iter().for_each(|part| crc.update(part));
        let header = FrameHeader {
            codec,
            columns,
            stored_bytes: parts.iter().map(|part| part.len()).sum::<usize>() as u32,
            count: count as u32,
            body_bytes: body_bytes as u32,
            provenance_bytes: parts[0].len() as u16,
            joint: joint.unwrap_or(0),
            payload_offset: payload_offset as u32,
            ..FrameHeader::of(Kind::Records, 0, 0, 0)
        };
        Self { header, parts, stored_crc: crc.finish(), provenance: provenance.cloned() }
    }

    /// Number of records.
    pub fn count(&self) -> u32 {
        self.header.count
    }

    /// Bytes of the whole frame.
    pub fn frame_bytes(&self) -> u64 {
        self.header.frame_bytes()
    }
}

/// Compresses a body; keeps it as it is where that is not smaller.
fn compress(codec: Codec, head: Vec<u8>, payloads: &[u8]) -> (Codec, Vec<u8>, Cow<'_, [u8]>) {
    if codec == Codec::None {
        return (codec, head, Cow::Borrowed(payloads));
    }
    let mut body = Vec::with_capacity(head.len() + payloads.len());
    body.extend_from_slice(&head);
    body.extend_from_slice(payloads);
    let packed = match codec {
        Codec::Lz4 => Some(lz4_flex::block::compress(&body)),
        // Level 1: a log is written more often than it is read, and higher levels cost several times as much.
        Codec::Zstd => zstd::bulk::compress(&body, 1).ok(),
        Codec::None => None,
    };
    match packed {
        Some(packed) if packed.len() < body.len() => (codec, Vec::new(), Cow::Owned(packed)),
        _ => (Codec::None, head, Cow::Borrowed(payloads)),
    }
}

/// Undoes the compression of a stored body into `out`; `false` if it is not what the header says.
pub fn decompress(header: &FrameHeader, stored: &[u8], out: &mut Vec<u8>) -> bool {
    let expected = header.body_bytes as usize;
    out.resize(expected, 0);
    let got = match header.codec {
        Codec::None => return false,
        Codec::Lz4 => lz4_flex::block::decompress_into(stored, out).ok(),
        Codec::Zstd => zstd::bulk::decompress_to_buffer(stored, out.as_mut_slice()).ok(),
    };
    got == Some(expected)
}

/// The records of a frame as they lie in its body.
#[derive(Debug)]
pub struct BatchView<'a> {
    columns: u16,
    count: usize,
    lengths: &'a [u8],
    key_lengths: &'a [u8],
    keys: &'a str,
    hashes: (&'a [u8], &'a [u8]),
    timestamps: (&'a [u8], &'a [u8]),
    /// Of each record how many attributes it has, and of all records these one behind the other.
    attributes: (&'a [u8], Vec<Attribute>),
    payloads: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// Takes a body apart; `None` if it is not what the header says. Everything is checked here, once.
    pub fn parse(header: &FrameHeader, body: &'a [u8]) -> Option<Self> {
        let count = header.count as usize;
        let (head, payloads) = body.split_at_checked(header.payload_offset as usize)?;
        let columns = header.columns;
        let mut fields = Fields(head);
        let lengths = fields.bytes(match columns & Column::WIDTH {
            0 => count,
            1 => count.checked_mul(2)?,
            2 => count.checked_mul(4)?,
            _ => 4,
        })?;
        let mut view = Self {
            columns,
            count,
            lengths,
            key_lengths: &[],
            keys: "",
            hashes: (&[], &[]),
            timestamps: (&[], &[]),
            attributes: (&[], Vec::new()),
            payloads,
        };
        if columns & Column::KEYS != 0 {
            let wide = usize::from(columns & Column::WIDE_KEYS != 0) + 1;
            view.key_lengths = fields.bytes(count * wide)?;
            let total = (0..count).map(|i| view.key_length(i).unwrap_or(0)).sum();
            view.keys = std::str::from_utf8(fields.bytes(total)?).ok()?;
        }
        if columns & Column::HASHES != 0 {
            view.hashes = optional(&mut fields, count, 16)?;
        }
        if columns & Column::TIMESTAMPS != 0 {
            view.timestamps = optional(&mut fields, count, 8)?;
        }
        if columns & Column::ATTRIBUTES != 0 {
            view.attributes.0 = fields.0;
            for _ in 0..count {
                for _ in 0..fields.u16()? {
                    if view.attributes.1.len() == ATTRIBUTES_MAX {
                        return None;
                    }
                    let name = fields.text()?.to_owned();
                    let len = fields.u32()? as usize;
                    view.attributes.1.push(Attribute { name, value: fields.bytes(len)?.to_vec() });
                }
            }
        }
        let joint = u64::from(columns & Column::JOINED != 0);
        let total: u64 = (0..count).map(|i| u64::from(view.length(i)) + joint).sum();
        (fields.0.is_empty() && total == payloads.len() as u64).then_some(view)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The records in order.
    pub fn iter(&self) -> Records<'_, 'a> {
        let attributes = (self.attributes.0, &self.attributes.1[..]);
        Records { view: self, at: 0, payload_at: 0, key_at: 0, hash_at: 0, timestamp_at: 0, attributes }
    }

    fn length(&self, i: usize) -> u32 {
        let bytes = self.lengths;
        match self.columns & Column::WIDTH {
            0 => u32::from(bytes[i]),
            1 => u32::from(u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])),
            code => {
                let at = if code == 2 { 4 * i } else { 0 };
                u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
            }
        }
    }

    fn key_length(&self, i: usize) -> Option<usize> {
        let stored = if self.columns & Column::KEYS == 0 {
            0
        } else if self.columns & Column::WIDE_KEYS == 0 {
            u16::from(self.key_lengths[i])
        } else {
            u16::from_le_bytes([self.key_lengths[2 * i], self.key_lengths[2 * i + 1]])
        };
        usize::from(stored).checked_sub(1)
    }
}

fn optional<'a>(fields: &mut Fields<'a>, count: usize, width: usize) -> Option<(&'a [u8], &'a [u8])> {
    let bits = fields.bytes(count.div_ceil(8))?;
    let set: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
    Some((bits, fields.bytes(set as usize * width)?))
}

/// The records of a [`BatchView`], one after the other.
#[derive(Debug)]
pub struct Records<'v, 'a> {
    view: &'v BatchView<'a>,
    at: usize,
    payload_at: usize,
    key_at: usize,
    hash_at: usize,
    timestamp_at: usize,
    /// What is left of the view's.
    attributes: (&'a [u8], &'v [Attribute]),
}

/// One record as it lies in its frame.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'v, 'a> {
    /// The data.
    pub payload: &'a [u8],
    /// The partition key.
    pub key: Option<&'a str>,
    /// The explicit hash key.
    pub explicit_hash: Option<HashKey>,
    /// The producer's timestamp.
    pub timestamp_us: Option<i64>,
    /// Attributes.
    pub attributes: &'v [Attribute],
}

impl<'v, 'a> Iterator for Records<'v, 'a> {
    type Item = Stored<'v, 'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let view = self.view;
        let i = self.at;
        if i == view.count {
            return None;
        }
        self.at += 1;
        let len = view.length(i) as usize;
        let payload = &view.payloads[self.payload_at..self.payload_at + len];
        self.payload_at += len + usize::from(view.columns & Column::JOINED != 0);
        let key = view.key_length(i).and_then(|len| {
            let key = view.keys.get(self.key_at..self.key_at + len);
            self.key_at += len;
            key
        });
        let explicit_hash =
            take(view.hashes, i, &mut self.hash_at, 16).and_then(|bytes| Fields(bytes).u128()).map(HashKey);
        let timestamp_us =
            take(view.timestamps, i, &mut self.timestamp_at, 8).and_then(|bytes| Fields(bytes).i64());
        let attributes = self.take_attributes();
        Some(Stored { payload, key, explicit_hash, timestamp_us, attributes })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.view.count - self.at;
        (left, Some(left))
    }
}

impl<'v> Records<'v, '_> {
    /// The attributes of the next record.
    fn take_attributes(&mut self) -> &'v [Attribute] {
        let mut fields = Fields(self.attributes.0);
        // There are none left, or it has no such column.
        let count = usize::from(fields.u16().unwrap_or(0)).min(self.attributes.1.len());
        let (mine, rest) = self.attributes.1.split_at(count);
        let bytes: usize = mine.iter().map(|a| 2 + a.name.len() + 4 + a.value.len()).sum();
        self.attributes = (fields.0.get(bytes..).unwrap_or(&[]), rest);
        mine
    }
}

impl ExactSizeIterator for Records<'_, '_> {}

fn take<'a>(column: (&'a [u8], &'a [u8]), i: usize, at: &mut usize, width: usize) -> Option<&'a [u8]> {
    let set = column.0.get(i / 8)? >> (i % 8) & 1 == 1;
    set.then(|| {
        let bytes = &column.1[*at * width..(*at + 1) * width];
        *at += 1;
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (Vec<u8>, Option<String>, Option<u128>, Option<i64>, Vec<(String, Vec<u8>)>);

    fn owned() -> impl Strategy<Value = Owned> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        (
            bytes(),
            proptest::option::of("\\PC{0,20}"),
            proptest::option::of(any::<u128>()),
            proptest::option::of(any::<i64>()),
            proptest::collection::vec(("[a-z]{0,5}", bytes()), 0..3),
        )
    }

    fn body(draft: &Draft<'_>) -> Vec<u8> {
        let stored: Vec<u8> = draft.parts[1..].iter().flat_map(|part| part.to_vec()).collect();
        if draft.header.codec == Codec::None {
            return stored;
        }
        let mut out = Vec::new();
        assert!(decompress(&draft.header, &stored, &mut out));
        out
    }

    proptest! {
        #[test]
        fn records_survive_their_columns(
            records in proptest::collection::vec(owned(), 0..40),
            joint in proptest::option::of(any::<u8>()),
            codec in prop_oneof![Just(Codec::None), Just(Codec::Lz4), Just(Codec::Zstd)],
        ) {
            let mut batch = Batch::new(joint);
            let attributes: Vec<Vec<Attribute>> = records
                .iter()
                .map(|r| r.4.iter().map(|(n, v)| Attribute { name: n.clone(), value: v.clone() }).collect())
                .collect();
            for (record, attributes) in records.iter().zip(&attributes) {
                batch.push(Fresh {
                    payload: &record.0,
                    key: record.1.as_deref().map(str::as_bytes),
                    explicit_hash: record.2.map(HashKey),
                    timestamp_us: record.3,
                    attributes,
                });
            }
            for (pushed, record) in batch.records().zip(&records) {
                prop_assert_eq!(pushed.payload, &record.0[..]);
                prop_assert_eq!(pushed.key, record.1.as_deref().map(str::as_bytes));
                prop_assert_eq!(pushed.timestamp_us, record.3);
            }
            let draft = batch.draft(codec, None);
            let body = body(&draft);
            let view = BatchView::parse(&draft.header, &body).unwrap();
            prop_assert_eq!(view.len(), records.len());
            for ((stored, record), attributes) in view.iter().zip(&records).zip(&attributes) {
                prop_assert_eq!(stored.payload, &record.0[..]);
                prop_assert_eq!(stored.key, record.1.as_deref());
                prop_assert_eq!(stored.explicit_hash, record.2.map(HashKey));
                prop_assert_eq!(stored.timestamp_us, record.3);
                prop_assert_eq!(stored.attributes, &attributes[..]);
            }
        }

        #[test]
        fn hostile_bodies_are_refused_and_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            columns in 0u16..0x200,
            count in 0u32..100,
            offset in 0u32..200,
        ) {
            let header = FrameHeader {
                columns, count, payload_offset: offset, body_bytes: bytes.len() as u32,
                ..FrameHeader::of(Kind::Records, 0, 0, 0)
            };
            if let Some(view) = BatchView::parse(&header, &bytes) {
                prop_assert_eq!(view.iter().count(), count as usize);
            }
        }
    }

    /// A frame of a few kilobytes once unpacked to 30 million records, each with a list of attributes of its own in
    /// memory, and each of them empty. As many attributes as fit are refused.
    #[test]
    fn a_bomb_of_attributes_takes_no_memory() {
        let count = 1 << 20;
        let header = |body: &[u8], count| FrameHeader {
            columns: Column::ATTRIBUTES | 3,
            count,
            payload_offset: body.len() as u32,
            body_bytes: body.len() as u32,
            ..FrameHeader::of(Kind::Records, 0, 0, 0)
        };
        let body = vec![0; 4 + 2 * count];
        let view = BatchView::parse(&header(&body, count as u32), &body).unwrap();
        assert_eq!(view.attributes.1.capacity(), 0);
        assert_eq!(view.iter().filter(|record| record.attributes.is_empty()).count(), count);
        let records = ATTRIBUTES_MAX / usize::from(u16::MAX) + 1;
        let mut body = vec![0; 4];
        for _ in 0..records {
            body.put_u16(u16::MAX);
            body.resize(body.len() + 6 * usize::from(u16::MAX), 0);
        }
        assert!(BatchView::parse(&header(&body, records as u32), &body).is_none());
    }

    #[test]
    fn a_block_of_lines_is_stored_as_it_came() {
        let draft = Draft::joined(b"ab\ncdef\n\n", &[2, 4, 0], b'\n', Codec::None, None);
        assert!(matches!(&draft.parts[2], Cow::Borrowed(b"ab\ncdef\n\n")));
        let body = body(&draft);
        let view = BatchView::parse(&draft.header, &body).unwrap();
        let payloads: Vec<_> = view.iter().map(|record| record.payload).collect();
        assert_eq!(payloads, [&b"ab"[..], b"cdef", b""]);
    }
}
