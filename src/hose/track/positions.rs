//! Where a delivery stands, as it is written down with a plan and with a commit.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where each shard stands, by its number.
pub type Positions = BTreeMap<u32, ShardPosition>;

/// Where one shard stands: all before `to` is delivered, but for what is `left`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ShardPosition {
    /// The index of the first record that was not read.
    pub to: u64,
    /// Whether the shard is closed and all of it was read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
    /// Records below `to` that are not delivered, in the order of their indexes.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "packed")]
    pub left: Vec<Left>,
}

impl ShardPosition {
    /// The index of the first record that is not delivered.
    pub fn low(&self) -> u64 {
        self.left.first().map_or(self.to, |left| left.first)
    }

    /// Where it stands for whoever wants nothing of what comes before this index.
    #[must_use]
    pub fn moved_to(self, low: u64) -> Self {
        if low <= self.low() {
            return self;
        }
        if low > self.to {
            return Self { to: low, ..Self::default() };
        }
        let cut = |left: Left| {
            let (first, end) = (left.first.max(low), left.first + left.count);
            (first < end).then(|| Left { first, count: end - first, ..left })
        };
        Self { left: self.left.into_iter().filter_map(cut).collect(), ..self }
    }

    /// Whether this record, or this part of it, is among what is left.
    pub fn is_left(&self, index: u64, sub: Option<u64>) -> Among {
        is_left(&self.left, index, sub)
    }

    /// Whether all of a closed shard is delivered.
    pub fn is_done(&self) -> bool {
        self.end && self.left.is_empty()
    }
}

/// Consecutive records that are not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Left {
    /// The index of the first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Where it is one record that was taken apart: which of its parts, as ranges of (first, count).
    pub parts: Option<Vec<(u64, u64)>>,
}

impl Left {
    /// Whether a part of it, or the whole where it has none, is among what is left.
    fn has_part(&self, sub: Option<u64>) -> Among {
        match (&self.parts, sub) {
            (None, _) => Among::Yes,
            (Some(_), None) => Among::InPart,
            (Some(parts), Some(sub)) => {
                let has = parts.iter().any(|&(first, count)| first <= sub && sub - first < count);
                if has { Among::Yes } else { Among::No }
            }
        }
    }
}

/// Whether a record is among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// It is not.
    No,
    /// Some of its parts are, and others are not.
    InPart,
    /// It is.
    Yes,
}

pub(super) fn is_left(list: &[Left], index: u64, sub: Option<u64>) -> Among {
    let at = list.partition_point(|left| left.first + left.count <= index);
    list.get(at).filter(|left| left.first <= index).map_or(Among::No, |left| left.has_part(sub))
}

/// `[first, count]`, or with parts `[first, count, [[first, count], ...]]`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Whole(u64, u64),
    Parts(u64, u64, Vec<(u64, u64)>),
}

impl From<Written> for Left {
    fn from(written: Written) -> Self {
        match written {
            Written::Whole(first, count) => Self { first, count, parts: None },
            Written::Parts(first, count, parts) => Self { first, count, parts: Some(parts) },
        }
    }
}

impl From<Left> for Written {
    fn from(left: Left) -> Self {
        match left.parts {
            None => Self::Whole(left.first, left.count),
            Some(parts) => Self::Parts(left.first, left.count, parts),
        }
    }
}

/// So many stretches are written so that a person can read them; more are packed, or a commit would be many times as
/// large as what it is about.
const PLAIN_MAX: usize = 64;
/// What is unpacked is no larger than this: ten times the most that is ever packed.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// A list of [`Left`] as it is, or where it is long compressed.
mod packed {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form {
        Plain(Vec<Left>),
        Packed {
            /// The JSON of the list, zstd, base64. Indexes are differences from the end of the one before.
            zstd: String,
        },
    }

    pub(super) fn serialize<S: Serializer>(left: &[Left], serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        if left.len() <= PLAIN_MAX {
            return Form::Plain(left.to_vec()).serialize(serializer);
        }
        let mut end = 0;
        let relative = |left: &Left| {
            let gap = left.first - end;
            end = left.first + left.count;
            Left { first: gap, ..left.clone() }
        };
        let list: Vec<Left> = left.iter().map(relative).collect();
        let json = serde_json::to_vec(&list).map_err(S::Error::custom)?;
        let bytes = zstd::bulk::compress(&json, 1).map_err(S::Error::custom)?;
        Form::Packed { zstd: BASE64_STANDARD.encode(bytes) }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Left>, D::Error> {
        use serde::de::Error as _;
        let mut left = match Form::deserialize(deserializer)? {
            Form::Plain(left) => left,
            Form::Packed { zstd } => {
                let bytes = BASE64_STANDARD.decode(zstd).map_err(D::Error::custom)?;
                let decoder = zstd::stream::read::Decoder::new(&bytes[..]).map_err(D::Error::custom)?;
                let mut json = Vec::new();
                decoder.take(UNPACKED_BYTES_MAX).read_to_end(&mut json).map_err(D::Error::custom)?;
                let mut list: Vec<Left> = serde_json::from_slice(&json).map_err(D::Error::custom)?;
                let mut end = 0u64;
                for left in &mut list {
                    left.first = left.first.checked_add(end).ok_or_else(|| D::Error::custom("an index"))?;
                    end = left.first.checked_add(left.count).ok_or_else(|| D::Error::custom("an index"))?;
                }
                list
            }
        };
        left.retain(|left| left.count > 0);
        if left.windows(2).any(|pair| pair[0].first.saturating_add(pair[0].count) > pair[1].first) {
            return Err(D::Error::custom("what is left is not in order"));
        }
        Ok(left)
    }
}
