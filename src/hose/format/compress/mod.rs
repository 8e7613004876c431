//! Compression of objects, done in blocks on any number of threads.
//!
//! Its promise: what comes out is one plain file of its kind (one gzip member, one zip member, one LZ4 frame, one
//! stream of Snappy chunks, Zstandard frames one behind the other) whichever thread compressed which block, and the same
//! blocks always give the same bytes.
//!
//! A block knows nothing of the one before it, so each begins with an empty window. Blocks of a megabyte lose little by
//! that; blocks of a few records would lose nearly all. What is smaller than `GATHER_BYTES` therefore travels plain,
//! and its writer compresses it once there is enough.

mod block;
mod writer;
mod zip;

use std::fmt;
use std::str::FromStr;

pub(super) use block::Block;
pub(super) use writer::{PackedWriter, Part, Ratio};

/// How objects are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One gzip member, of this level.
    Gzip(u32),
    /// A zip archive with one member, of this level.
    Zip(u32),
    /// The framing format of Snappy, as the service writes it.
    Snappy,
    /// The blocks that Hadoop's codec for Snappy reads.
    HadoopSnappy,
    /// Zstandard, of this level.
    Zstd(i32),
    /// One LZ4 frame.
    Lz4,
}

/// Five percent larger than what level 6 makes of JSON lines, in little more than half its time; smaller than what zlib's
/// level 1 makes of them, in less time.
const DEFLATE_LEVEL: u32 = 3;
/// Smaller than gzip's best in a fifth of its time: it costs no more than to check that lines are JSON.
const ZSTD_LEVEL: i32 = 1;

/// Blocks are not compressed while they are smaller than this: a deflate window is 32 KiB, so that a block of four of
/// them loses a few percent by beginning with an empty one.
pub(super) const GATHER_BYTES: usize = 128 << 10;

impl Compression {
    /// What can be given to `--compression`.
    pub const NAMES: &[&str] = &["none", "gzip", "zip", "snappy", "hadoop-snappy", "zstd", "lz4"];

    /// Its name, without the level.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip(_) => "gzip",
            Self::Zip(_) => "zip",
            Self::Snappy => "snappy",
            Self::HadoopSnappy => "hadoop-snappy",
            Self::Zstd(_) => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// The end of an object's name. The first four are the service's.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip(_) => ".gz",
            Self::Zip(_) => ".zip",
            Self::Snappy => ".snappy",
            Self::HadoopSnappy => ".hsnappy",
            Self::Zstd(_) => ".zst",
            Self::Lz4 => ".lz4",
        }
    }

    /// The media type, where it is not that of what was compressed.
    pub fn content_type(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip(_) => Some("application/gzip"),
            Self::Zip(_) => Some("application/zip"),
            Self::Snappy => Some("application/x-snappy-framed"),
            Self::HadoopSnappy => Some("application/octet-stream"),
            Self::Zstd(_) => Some("application/zstd"),
            Self::Lz4 => Some("application/x-lz4"),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Gzip(level) | Self::Zip(level) => write!(f, ":{level}"),
            Self::Zstd(level) => write!(f, ":{level}"),
            Self::None | Self::Snappy | Self::HadoopSnappy | Self::Lz4 => Ok(()),
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    /// `NAME` or `NAME:LEVEL`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let of = |default: i32, most: i32| match level {
            None => Ok(default),
            Some(level) => level
                .parse()
                .ok()
                .filter(|level| (1..=most).contains(level))
                .ok_or_else(|| format!("`{level}` is not a level of {name}: give 1 to {most}")),
        };
        let plain = |compression| match level {
            None => Ok(compression),
            Some(_) => Err(format!("{name} has no levels: give `{name}`")),
        };
        match name {
            "none" => plain(Self::None),
            "gzip" => Ok(Self::Gzip(of(DEFLATE_LEVEL as i32, 9)? as u32)),
            "zip" => Ok(Self::Zip(of(DEFLATE_LEVEL as i32, 9)? as u32)),
            "snappy" => plain(Self::Snappy),
            "hadoop-snappy" => plain(Self::HadoopSnappy),
            "zstd" => Ok(Self::Zstd(of(ZSTD_LEVEL, 22)?)),
            "lz4" => plain(Self::Lz4),
            _ => Err(format!("`{name}` is not a compression: give one of {}", Self::NAMES.join(", "))),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
