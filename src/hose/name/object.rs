//! The names of objects, as the service forms them.

use std::fmt::Write as _;

use uuid::{Builder, Uuid, Variant, Version};
use xxhash_rust::xxh3::Xxh3;

use super::escape::push_value;
use super::partition::NameError;
use super::zone::Zone;

/// What a name says behind its prefix.
#[derive(Debug, Clone, Copy)]
pub struct ObjectName<'a> {
    /// The stream, or what stands for it.
    pub stream: &'a str,
    /// The version of the delivery's settings: from 1 on, one more with each change.
    pub version: u64,
    /// When the oldest record arrived, microseconds since the epoch.
    pub oldest_us: i64,
    /// See [`object_id`].
    pub id: Uuid,
    /// The end.
    pub extension: &'a Extension,
}

/// The text of `-<yyyy>-<MM>-<dd>-<HH>-<mm>-<ss>-`.
const TIME_BYTES: usize = "-2018-08-27-10-30-00-".len();

impl ObjectName<'_> {
    /// Bytes behind the prefix, for [`Limits::suffix_bytes`](super::Limits::suffix_bytes); the time and the id do not
    /// matter.
    pub fn suffix_bytes(&self) -> usize {
        let mut stem = String::new();
        self.push_stem(&mut stem);
        // A year of four digits: the year 10000 is not reached in microseconds that can be written.
        stem.len() + TIME_BYTES + uuid::fmt::Hyphenated::LENGTH + self.extension.as_str().len()
    }

    fn push_stem(&self, out: &mut String) {
        // A name of ours is plain; what stands for it may come from anywhere.
        if !self.stream.is_empty() {
            push_value(self.stream, out);
        }
        out.push('-');
        out.push_str(&self.version.to_string());
    }
}

/// `<prefix><stream>-<version>-<yyyy>-<MM>-<dd>-<HH>-<mm>-<ss>-<uuid><extension>`, with the time on the clock of the
/// zone, as in the service.
pub fn object_name(prefix: &str, zone: &Zone, name: &ObjectName<'_>) -> Result<String, NameError> {
    let moment = zone.moment(name.oldest_us).ok_or(NameError::Time(name.oldest_us))?;
    let mut out = String::with_capacity(prefix.len() + name.suffix_bytes());
    out.push_str(prefix);
    name.push_stem(&mut out);
    // Java's `yyyy` is the year of the era; before the year 1 the name is not one to sort by.
    let year = if moment.year > 0 { moment.year } else { 1 - moment.year };
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "-{year:04}-{:02}-{:02}-{:02}-{:02}-{:02}-{}{}",
        moment.month,
        moment.day,
        moment.hour,
        moment.minute,
        moment.second,
        name.id.hyphenated(),
        name.extension.as_str(),
    );
    Ok(out)
}

/// The id of an object: a function of the stream, of the partition as [`Partitioner::partition`] wrote it, and of
/// which records are in it. `ranges` names these records as bytes, in any form that is the same for the same records.
///
/// It is a UUID of version 8, which is what its makers define: here 122 bits of XXH3.
///
/// [`Partitioner::partition`]: super::Partitioner::partition
pub fn object_id(stream: Uuid, partition: &str, ranges: &[u8]) -> Uuid {
    let mut hash = Xxh3::new();
    hash.update(stream.as_bytes());
    hash.update(partition.as_bytes());
    // It is in no UTF-8, so that the end of the partition is told from the beginning of the ranges.
    hash.update(&[0xff]);
    hash.update(ranges);
    Builder::from_u128(hash.digest128())
        .with_variant(Variant::RFC4122)
        .with_version(Version::Custom)
        .into_uuid()
}

/// The end of an object's name: nothing, or as the service has it `\.[0-9a-z!\-_.*'()]+`, at most 128 characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extension(String);

impl Extension {
    /// The text, with its dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Extension {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const CHARS_MAX: usize = 128;
        let rest = text.strip_prefix('.').unwrap_or_default();
        let fits = |c: char| matches!(c, '0'..='9' | 'a'..='z') || "!-_.*'()".contains(c);
        if !text.is_empty() && (rest.is_empty() || !rest.chars().all(fits) || text.len() > CHARS_MAX) {
            return Err(format!(
                "`{}` is not an extension: give a dot and 1 to {} of a-z, 0-9 and !-_.*'(), or nothing",
                text.escape_debug(),
                CHARS_MAX - 1
            ));
        }
        Ok(Self(text.to_owned()))
    }
}
