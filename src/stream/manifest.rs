//! The manifest: what a stream is and which shards it has, one generation after another, replaced whole.
//!
//! The file is two parts: one line of JSON that names the format and carries the CRC-32C of all that follows, and then
//! one JSON object. It is the truth about settings. About shards it is a summary: a shard's own closing frame says who
//! goes on, and a split or merge that was interrupted is finished from there (`pending`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::Error;
use crate::hash::{HashKey, HashRange};
use crate::log::Codec;
use crate::log::frame::crc32c;
use crate::record::ShardId;
use crate::sys::System;

/// The manifest's file name: what has it is a stream.
pub const MANIFEST_NAME: &str = "manifest.json";
const VERSION: u32 = 1;
/// Ten thousand shards take about 3 MB.
const MANIFEST_BYTES_MAX: usize = 256 << 20;
/// Required features that this program knows: none yet.
const REQUIRED_KNOWN: u32 = 0;

#[derive(Serialize, Deserialize)]
struct Head {
    kpipe: String,
    version: u32,
    crc32c: u32,
}

/// What a stream is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Counts the replacements of this file.
    pub generation: u64,
    /// The stream's identity: it goes under every checksum.
    pub stream_id: Uuid,
    /// The name that it was created with.
    pub name: String,
    /// Microseconds since the epoch.
    pub created_us: i64,
    /// Features that an older program may ignore.
    #[serde(default)]
    pub compatible_features: u32,
    /// Features without which a program must not touch the stream.
    #[serde(default)]
    pub required_features: u32,
    /// Compression of new frames.
    #[serde(default)]
    pub compression: Compression,
    /// The largest record, payload and key together, in bytes.
    pub record_bytes_max: u64,
    /// How long records stay, in microseconds; `None` for ever.
    pub retention_us: Option<i64>,
    /// How many bytes of segments stay in all.
    pub retain_bytes: Option<u64>,
    /// When segments roll by size.
    pub segment_bytes: u64,
    /// When segments roll by age, in microseconds.
    pub segment_age_us: i64,
    /// The user's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The number that the next new shard gets.
    pub next_shard: u32,
    /// All shards that have not expired, by number.
    pub shards: Vec<ShardInfo>,
    /// The index after the last record of shards that have expired as a whole, the latest of them, by number: for
    /// consumers that had not read them to their end. Older programs neither write nor keep it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expired: BTreeMap<u32, u64>,
    /// A split or merge that has been decided and is not finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Reshard>,
}

/// Compression of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// LZ4: fast.
    Lz4,
    /// Zstandard: small.
    Zstd,
}

impl From<Compression> for Codec {
    fn from(value: Compression) -> Self {
        match value {
            Compression::None => Self::None,
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// A shard as the manifest has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardInfo {
    /// Its number.
    pub shard: u32,
    /// The first hash key that it owns, decimal.
    #[serde(with = "decimal")]
    pub starting_hash_key: u128,
    /// The last hash key that it owns, decimal.
    #[serde(with = "decimal")]
    pub ending_hash_key: u128,
    /// Microseconds since the epoch.
    pub created_us: i64,
    /// The shards that it goes on from, none for the first ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<u32>,
    /// When and where it was closed; `None` while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
}

/// The end of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// The index after its last record.
    pub next_index: u64,
    /// The shards that go on from it.
    pub children: Vec<u32>,
}

/// A split (one parent, two children) or a merge (two parents, one child).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reshard {
    /// The shards that end.
    pub parents: Vec<u32>,
    /// The shards that begin.
    pub children: Vec<NewShard>,
}

/// A shard that a reshard begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewShard {
    /// Its number.
    pub shard: u32,
    /// The first hash key that it will own.
    #[serde(with = "decimal")]
    pub starting_hash_key: u128,
    /// The last hash key that it will own.
    #[serde(with = "decimal")]
    pub ending_hash_key: u128,
}

/// JSON numbers do not reach 128 bits; the service writes hash keys as decimal strings too.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom("a hash key is a decimal number below 2^128"))
    }
}

impl ShardInfo {
    /// Its number as a type.
    pub fn id(&self) -> ShardId {
        ShardId(self.shard)
    }

    /// The hash keys that it owns.
    pub fn range(&self) -> HashRange {
        HashRange { start: HashKey(self.starting_hash_key), end: HashKey(self.ending_hash_key) }
    }

    /// Whether it takes records.
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Its creation time as sequence numbers carry it.
    pub fn created_s(&self) -> u64 {
        (self.created_us / 1_000_000).max(0) as u64
    }
}

impl NewShard {
    /// The hash keys that it will own.
    pub fn range(&self) -> HashRange {
        HashRange { start: HashKey(self.starting_hash_key), end: HashKey(self.ending_hash_key) }
    }
}

impl Manifest {
    /// Where the manifest of a stream is.
    pub fn path(stream: &Path) -> PathBuf {
        stream.join(MANIFEST_NAME)
    }

    /// Reads the manifest of a stream.
    pub fn read(system: &System, stream: &Path) -> Result<Self, Error> {
        let path = Self::path(stream);
        let bytes = match system.disk.read(&path, MANIFEST_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                return Err(Error::NotFound { path: stream.to_owned() });
            }
            Err(source) => return Err(Error::Io { doing: "read", path, source }),
        };
        Self::decode(&bytes).map_err(|reason| match reason {
            Refusal::Damaged(reason) => Error::Manifest { path, reason },
            Refusal::Newer(what) => Error::Newer { path, what },
        })
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let damaged = |reason: &str| Refusal::Damaged(reason.to_owned());
        let split =
            memchr::memchr(b'\n', bytes).ok_or_else(|| damaged("is not a manifest: it has no first line"))?;
        let (head, body) = (&bytes[..split], &bytes[split + 1..]);
        let head: Head = serde_json::from_slice(head)
            .map_err(|e| Refusal::Damaged(format!("is not a manifest: its first line is not right: {e}")))?;
        if head.kpipe != "manifest" {
            return Err(damaged("is not a manifest"));
        }
        if head.version == 0 {
            return Err(damaged("is damaged: there is no version 0"));
        }
        if head.version > VERSION {
            return Err(Refusal::Newer(format!("manifest version {}", head.version)));
        }
        if crc32c(body) != head.crc32c {
            return Err(damaged("is damaged: its checksum does not hold"));
        }
        let manifest: Self = serde_json::from_slice(body)
            .map_err(|e| Refusal::Damaged(format!("is damaged: its body is not right: {e}")))?;
        if manifest.required_features & !REQUIRED_KNOWN != 0 {
            return Err(Refusal::Newer(format!("features {:#x}", manifest.required_features)));
        }
        manifest.check().map_err(Refusal::Damaged)?;
        Ok(manifest)
    }

    /// The invariants of the shards, positively: open shards cover the hash key space, once.
    fn check(&self) -> Result<(), String> {
        let mut next = Some(0u128);
        for shard in self.open_shards() {
            if next != Some(shard.starting_hash_key) || shard.ending_hash_key < shard.starting_hash_key {
                return Err(format!("{}: the open shards do not cover the hash key space once", shard.id()));
            }
            next = shard.ending_hash_key.checked_add(1);
        }
        if next.is_some() {
            return Err("the open shards do not cover the hash key space".to_owned());
        }
        if let Some(shard) = self.shards.iter().find(|s| s.shard >= self.next_shard) {
            return Err(format!("{}: its number has not been given out", shard.id()));
        }
        if self.shards.windows(2).any(|pair| pair[0].shard >= pair[1].shard) {
            return Err("the shards are not in order".to_owned());
        }
        Ok(())
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let failed = |e: serde_json::Error| Error::Invalid(format!("cannot write the manifest: {e}"));
        let mut body = serde_json::to_vec_pretty(self).map_err(failed)?;
        body.push(b'\n');
        let head = Head { kpipe: "manifest".to_owned(), version: VERSION, crc32c: crc32c(&body) };
        let mut bytes = serde_json::to_vec(&head).map_err(failed)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// The shards that take records, in the order of their hash keys.
    pub fn open_shards(&self) -> Vec<&ShardInfo> {
        let mut open: Vec<_> = self.shards.iter().filter(|shard| shard.is_open()).collect();
        open.sort_unstable_by_key(|shard| shard.starting_hash_key);
        open
    }

    /// A shard by number.
    pub fn shard(&self, id: ShardId) -> Option<&ShardInfo> {
        self.shards.binary_search_by_key(&id.0, |shard| shard.shard).ok().map(|i| &self.shards[i])
    }

    /// The oldest arrival time that a reader may still see.
    pub fn horizon_us(&self, now_us: i64) -> Option<i64> {
        self.retention_us.map(|retention| now_us.saturating_sub(retention))
    }
}

enum Refusal {
    Damaged(String),
    Newer(String),
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn sample() -> Manifest {
        let shard = |shard, range: HashRange| ShardInfo {
            shard,
            starting_hash_key: range.start.0,
            ending_hash_key: range.end.0,
            created_us: 5,
            parents: vec![],
            closed: None,
        };
        let ranges = HashRange::split_evenly(2);
        Manifest {
            generation: 3,
            stream_id: Uuid::from_bytes([1; 16]),
            name: "clicks".into(),
            created_us: 5,
            compatible_features: 0,
            required_features: 0,
            compression: Compression::Lz4,
            record_bytes_max: 1 << 20,
            retention_us: Some(1),
            retain_bytes: None,
            segment_bytes: 1,
            segment_age_us: 1,
            tags: BTreeMap::new(),
            next_shard: 2,
            shards: vec![shard(0, ranges[0]), shard(1, ranges[1])],
            expired: BTreeMap::new(),
            pending: None,
        }
    }

    #[test]
    fn a_manifest_survives() {
        let bytes = sample().encode().unwrap();
        assert!(matches!(Manifest::decode(&bytes), Ok(manifest) if manifest == sample()));
    }

    #[test]
    fn newer_is_told_from_damaged() {
        let mut newer = sample();
        newer.required_features = 8;
        assert!(matches!(Manifest::decode(&newer.encode().unwrap()), Err(Refusal::Newer(_))));
        let text = String::from_utf8(sample().encode().unwrap()).unwrap();
        let later = text.replace("\"version\":1", "\"version\":2");
        assert!(matches!(Manifest::decode(later.as_bytes()), Err(Refusal::Newer(_))));
        let none = text.replace("\"version\":1", "\"version\":0");
        assert!(matches!(Manifest::decode(none.as_bytes()), Err(Refusal::Damaged(_))));
        let mut hole = sample();
        hole.shards[1].starting_hash_key += 1;
        assert!(matches!(Manifest::decode(&hole.encode().unwrap()), Err(Refusal::Damaged(_))));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found(at in 0usize..700, bit in 0u8..8) {
            let mut bytes = sample().encode().unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(Manifest::decode(&bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Manifest::decode(&bytes).is_err());
        }
    }
}
