//! Aggregates of the Kinesis Producer Library: many user records in the payload of one.
//!
//! The form is published with the library (`aggregation-format.md`): four magic bytes, a protobuf message
//! (`AggregatedRecord`), and the MD5 of that message. What has the magic bytes and is not such an aggregate in every
//! detail is an ordinary record, as consumers of the service treat it: nothing here fails, and no input makes it read
//! out of bounds or keep more than a small multiple of the input's own size.
//!
//! ```proto
//! message AggregatedRecord {
//!   repeated string partition_key_table     = 1;
//!   repeated string explicit_hash_key_table = 2;
//!   repeated Record records                 = 3;
//! }
//! message Record {
//!   required uint64 partition_key_index     = 1;
//!   optional uint64 explicit_hash_key_index = 2;
//!   required bytes  data                    = 3;
//!   repeated Tag    tags                    = 4;  // never written by the library, ignored here
//! }
//! ```

use md5::{Digest, Md5};

use crate::hash::HashKey;

/// What an aggregate begins with.
pub const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];

const DIGEST_BYTES: usize = 16;

/// One user record of an aggregate. Its place in the aggregate is its sub-sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRecord<'a> {
    /// The partition key.
    pub key: &'a str,
    /// The explicit hash key, where its producer gave one.
    pub explicit_hash: Option<HashKey>,
    /// The data.
    pub data: &'a [u8],
}

/// The user records of one aggregate, at least one.
#[derive(Debug, Clone)]
pub struct Aggregate<'a> {
    keys: Vec<&'a str>,
    hashes: Vec<HashKey>,
    records: Vec<Entry<'a>>,
}

/// A record as it stands in the message: its indexes are known to be within the tables.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    key: usize,
    hash: Option<usize>,
    data: &'a [u8],
}

impl<'a> Aggregate<'a> {
    /// How many user records there are.
    #[expect(clippy::len_without_is_empty, reason = "an aggregate is never empty")]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The user records, in the order their producer gave them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = UserRecord<'a>> {
        self.records.iter().map(|entry| UserRecord {
            key: self.keys[entry.key],
            explicit_hash: entry.hash.map(|index| self.hashes[index]),
            data: entry.data,
        })
    }
}

/// The user records in a payload, or `None` where it is the payload of an ordinary record.
pub fn deaggregate(payload: &[u8]) -> Option<Aggregate<'_>> {
    // Nearly every payload is told by its first bytes.
    let body = payload.strip_prefix(&MAGIC)?;
    let (message, digest) = body.split_at_checked(body.len().checked_sub(DIGEST_BYTES)?)?;
    if Md5::digest(message)[..] != *digest {
        return None;
    }
    let mut aggregate = Aggregate { keys: Vec::new(), hashes: Vec::new(), records: Vec::new() };
    let mut fields = Fields(message);
    while !fields.0.is_empty() {
        match fields.next()? {
            (1, Value::Bytes(bytes)) => aggregate.keys.push(std::str::from_utf8(bytes).ok()?),
            (2, Value::Bytes(bytes)) => aggregate.hashes.push(std::str::from_utf8(bytes).ok()?.parse().ok()?),
            (3, Value::Bytes(bytes)) => aggregate.records.push(entry(bytes)?),
            (1..=3, _) => return None,
            _ => {}
        }
    }
    // A table may stand behind the records that point into it.
    let (keys, hashes) = (aggregate.keys.len(), aggregate.hashes.len());
    let within = |entry: &Entry<'_>| entry.key < keys && entry.hash.is_none_or(|hash| hash < hashes);
    (!aggregate.records.is_empty() && aggregate.records.iter().all(within)).then_some(aggregate)
}

fn entry(message: &[u8]) -> Option<Entry<'_>> {
    let (mut key, mut hash, mut data) = (None, None, None);
    let mut fields = Fields(message);
    while !fields.0.is_empty() {
        // Of a field that is not repeated the last one counts.
        match fields.next()? {
            (1, Value::Number(index)) => key = Some(index as usize),
            (2, Value::Number(index)) => hash = Some(index as usize),
            (3, Value::Bytes(bytes)) => data = Some(bytes),
            (1..=3, _) => return None,
            _ => {}
        }
    }
    Some(Entry { key: key?, hash, data: data? })
}

/// The fields of a protobuf message.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed width; no field here has one.
    Fixed,
}

impl<'a> Fields<'a> {
    /// The next field's number and value, or `None` where the message is broken.
    fn next(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(usize::try_from(len).ok()?)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // Groups, which the form does not have, and what protobuf does not have.
            _ => return None,
        };
        let number = tag >> 3;
        // Field numbers are of 29 bits and begin at 1.
        (1..1 << 29).contains(&number).then_some((number, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}

/// The aggregate of some user records, as the library writes it: each key stands in its table once.
pub fn aggregate<'a>(records: impl IntoIterator<Item = UserRecord<'a>>) -> Vec<u8> {
    let (mut keys, mut hashes, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        let mut entry = Vec::with_capacity(record.data.len() + 16);
        push_number(1, index_of(record.key, &mut keys), &mut entry);
        if let Some(hash) = record.explicit_hash {
            push_number(2, index_of(hash, &mut hashes), &mut entry);
        }
        push_bytes(3, record.data, &mut entry);
        push_bytes(3, &entry, &mut entries);
    }
    let mut out = MAGIC.to_vec();
    for key in keys {
        push_bytes(1, key.as_bytes(), &mut out);
    }
    for hash in hashes {
        push_bytes(2, hash.to_string().as_bytes(), &mut out);
    }
    out.extend_from_slice(&entries);
    let digest = Md5::digest(&out[MAGIC.len()..]);
    out.extend_from_slice(&digest);
    out
}

fn index_of<T: PartialEq>(value: T, table: &mut Vec<T>) -> usize {
    table.iter().position(|known| *known == value).unwrap_or_else(|| {
        table.push(value);
        table.len() - 1
    })
}

fn push_number(field: u8, value: usize, out: &mut Vec<u8>) {
    out.push(field << 3);
    push_varint(value, out);
}

fn push_bytes(field: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    push_varint(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn push_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|b| !b.is_ascii_whitespace())
            .map(|b| (b as char).to_digit(16).unwrap() as u8)
            .collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn sealed(message: &[u8]) -> Vec<u8> {
        [&MAGIC[..], message, &Md5::digest(message)].concat()
    }

    /// Written by `aws_kinesis_agg` 1.2.3, the aggregation module that AWS publishes for Python.
    #[test]
    fn aggregates_of_another_implementation() {
        let payload = unhex(include_str!("../../tests/data/kpl/three-records.hex"));
        let records: Vec<_> = deaggregate(&payload).unwrap().iter().collect();
        let record = |key, explicit_hash, data| UserRecord { key, explicit_hash, data };
        assert_eq!(
            records,
            [
                record("key-a", None, &b"first"[..]),
                record("key-b", Some(HashKey(u128::MAX)), b"second"),
                record("key-a", None, b""),
            ]
        );
        assert_eq!(aggregate(records), payload);

        let payload = unhex(include_str!("../../tests/data/kpl/all-bytes.hex"));
        let records: Vec<_> = deaggregate(&payload).unwrap().iter().collect();
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(records, [record("ключ", Some(HashKey(0)), &bytes)]);
        assert_eq!(aggregate(records), payload);

        let payload = unhex(include_str!("../../tests/data/kpl/many-records.hex"));
        let all = deaggregate(&payload).unwrap();
        assert_eq!(all.len(), 300);
        assert!(
            all.iter()
                .enumerate()
                .all(|(i, r)| r.key == format!("k{i}") && r.data == "x".repeat(i % 5).as_bytes())
        );
        assert_eq!(aggregate(all.iter()), payload);
    }

    #[test]
    fn what_is_not_quite_one_is_an_ordinary_record() {
        let good = aggregate([UserRecord { key: "k", explicit_hash: None, data: b"d" }]);
        assert!(deaggregate(&good).is_some());
        for cut in 0..good.len() {
            assert!(deaggregate(&good[..cut]).is_none(), "{cut}");
        }
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(deaggregate(&changed).is_none(), "{at}");
        }
    }

    #[test]
    fn hostile_messages_with_a_good_digest() {
        let messages: [&[u8]; 13] = [
            b"",                                                    // no records
            b"\x0a\x01k",                                           // none either
            b"\x1a\x04\x08\x00\x1a\x00",                            // no key table
            b"\x0a\x01k\x1a\x04\x08\x01\x1a\x00",                   // beyond the key table
            b"\x0a\x01k\x1a\x06\x08\x00\x10\x00\x1a\x00",           // beyond the hash table
            b"\x0a\x01k\x1a\x02\x08\x00",                           // no data
            b"\x0a\x01k\x1a\x02\x1a\x00",                           // no key
            b"\x0a\x01\xff\x1a\x04\x08\x00\x1a\x00",                // key not UTF-8
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k",       // length of 2^64-1
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02k",       // beyond 64 bits
            b"\x08\x01",                                            // a number for a string
            b"\x0b\x0c",                                            // a group
            b"\x0a\x01k\x12\x02-1\x1a\x06\x08\x00\x10\x00\x1a\x00", // no hash key
        ];
        for message in messages {
            assert!(deaggregate(&sealed(message)).is_none(), "{message:x?}");
        }
        // Unknown fields, and tables behind the records, are fine.
        assert!(
            deaggregate(&sealed(b"\x1a\x07\x08\x00\x1a\x01d\x22\x00\x0a\x01k\x2a\x01x\x31\0\0\0\0\0\0\0\0"))
                .is_some()
        );
    }

    proptest! {
        #[test]
        fn round_trip(records in prop::collection::vec((".{0,4}", prop::option::of(0u128..9), any::<Vec<u8>>()), 1..20)) {
            let records: Vec<_> = records
                .iter()
                .map(|(key, hash, data)| UserRecord { key, explicit_hash: hash.map(HashKey), data })
                .collect();
            let payload = aggregate(records.iter().copied());
            prop_assert_eq!(deaggregate(&payload).unwrap().iter().collect::<Vec<_>>(), records);
        }

        #[test]
        fn never_panics(message in prop::collection::vec(prop::sample::select(&b"\x0a\x12\x1a\x08\x10\0\x01\x02\x04k\xff\x7f"[..]), 0..60)) {
            let _ = deaggregate(&sealed(&message));
        }
    }
}
