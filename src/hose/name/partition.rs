//! From a record to its partition, and from a partition to the prefix of an object.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::escape::push_value;
use super::java_time::FormatError;
use super::prefix::{CHARS_MAX, Piece, Prefix, RANDOM_CHARS};
use super::zone::{Span, Zone};
use crate::hose::failure::ErrorType;
use crate::record::ShardId;

/// Values by name.
pub trait Values {
    /// The value of this name.
    fn value(&self, name: &str) -> Option<&str>;
}

/// None at all.
impl Values for () {
    fn value(&self, _: &str) -> Option<&str> {
        None
    }
}

impl Values for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> Values for [(N, V)] {
    fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| known.as_ref() == name).map(|(_, value)| value.as_ref())
    }
}

impl<N: AsRef<str>, V: AsRef<str>, const LEN: usize> Values for [(N, V); LEN] {
    fn value(&self, name: &str) -> Option<&str> {
        self.as_slice().value(name)
    }
}

impl<T: Values + ?Sized> Values for Option<&T> {
    fn value(&self, name: &str) -> Option<&str> {
        self.and_then(|values| values.value(name))
    }
}

/// What a prefix may ask of a record.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// When it arrived, microseconds since the epoch.
    pub arrival_us: i64,
    /// Its shard.
    pub shard: ShardId,
    /// Its partition keys by query.
    pub query: &'a dyn Values,
    /// Its partition keys by the transformation.
    pub transform: &'a dyn Values,
    /// Why it failed, if it did.
    pub error_type: Option<ErrorType>,
}

impl Context<'_> {
    /// A record with no partition keys.
    pub fn plain(shard: ShardId, arrival_us: i64) -> Self {
        Self { arrival_us, shard, query: &(), transform: &(), error_type: None }
    }
}

/// What names are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Characters of an evaluated prefix: the service's 512.
    pub prefix_chars: usize,
    /// Bytes of a whole name: 1024 in S3, with what the destination's URL has before it.
    pub name_bytes: usize,
    /// Bytes of one part of a name: 255 in most file systems, no limit of their own in object stores.
    pub part_bytes: usize,
    /// Bytes that stand before the prefix: what the destination's URL has behind the bucket.
    pub before_bytes: usize,
    /// Bytes that come behind it: [`ObjectName::suffix_bytes`](super::ObjectName::suffix_bytes).
    pub suffix_bytes: usize,
}

impl Limits {
    /// Those of S3.
    pub const OBJECT_STORE: Self = Self {
        prefix_chars: CHARS_MAX,
        name_bytes: 1024,
        part_bytes: usize::MAX,
        before_bytes: 0,
        suffix_bytes: 0,
    };

    /// Those of a directory of Linux (`NAME_MAX`, and `PATH_MAX` without its zero).
    pub const DIRECTORY: Self = Self { name_bytes: 4095, part_bytes: 255, ..Self::OBJECT_STORE };
}

/// Why a record has no name. It is the record's fault, except where said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Its values are too long.
    #[error("the prefix has {chars} characters with the values of this record: {limit} are the most")]
    PrefixTooLong {
        /// With the values.
        chars: usize,
        /// The limit.
        limit: usize,
    },
    /// Its values are too long for the store.
    #[error("the object's name has {bytes} bytes with the values of this record: {limit} are the most")]
    NameTooLong {
        /// With the values.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A value is too long for a file system.
    #[error(
        "a part of the object's name has {bytes} bytes with the values of this record: {limit} are the most"
    )]
    PartTooLong {
        /// With the values.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Its time cannot be written.
    #[error("the arrival time of {0} microseconds is outside the years -9999 to 9999")]
    Time(i64),
    /// The prefix is at fault: padding is too narrow for the name of a zone.
    #[error("a timestamp of the prefix: {0}")]
    Format(#[from] FormatError),
    /// The caller is at fault: a prefix for errors, and no error.
    #[error("the prefix is for errors, and this record has none")]
    NoErrorType,
}

/// Stands in a partition for a random string of the prefix. Control characters are in no name.
const RANDOM_HOLE: char = '\u{1}';
/// Stands in a partition for a field of the oldest record's time.
const TIME_HOLE: char = '\u{2}';

/// Tells records their partitions. One for a run: it remembers the texts of the times that it has seen last.
#[derive(Debug, Clone)]
pub struct Partitioner {
    prefix: Prefix,
    zone: Zone,
    limits: Limits,
    steps: Vec<Step>,
    /// Of [`Step::Cached`], as they are within `span`.
    texts: Vec<String>,
    span: Option<Span>,
    /// How long the texts hold.
    step_us: Option<i64>,
    /// Bytes that a hole has more than its place holder, at the most, over all of them and for those of the rest.
    hole_bytes: usize,
    rest_hole_bytes: usize,
}

/// What is done for each record.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Text and time of the folder: these pieces.
    Cached(std::ops::Range<usize>),
    /// This piece.
    Piece(usize),
}

impl Partitioner {
    /// For a prefix, in a zone.
    pub fn new(prefix: Prefix, zone: Zone, limits: Limits) -> Self {
        let mut steps = Vec::new();
        let (mut step_us, mut hole_bytes, mut rest_hole_bytes) = (None::<i64>, 0, 0);
        for (i, piece) in prefix.pieces.iter().enumerate() {
            let in_folder = i < prefix.folder;
            let hole = match piece {
                Piece::Random => RANDOM_CHARS - 1,
                Piece::Time(item) if !in_folder => item.widest().max(zone.id().len()).saturating_sub(1),
                _ => 0,
            };
            hole_bytes += hole;
            rest_hole_bytes += if in_folder { 0 } else { hole };
            let cached = match piece {
                Piece::Text(_) => true,
                Piece::Time(_) => in_folder,
                _ => false,
            };
            if let (true, Piece::Time(item)) = (in_folder, piece)
                && let Some(step) = item.step_us()
            {
                step_us = Some(step_us.map_or(step, |known| known.min(step)));
            }
            match steps.last_mut() {
                Some(Step::Cached(range)) if cached => range.end = i + 1,
                _ if cached => steps.push(Step::Cached(i..i + 1)),
                _ => steps.push(Step::Piece(i)),
            }
        }
        let texts = vec![String::new(); steps.iter().filter(|step| matches!(step, Step::Cached(_))).count()];
        Self { prefix, zone, limits, steps, texts, span: None, step_us, hole_bytes, rest_hole_bytes }
    }

    /// Its prefix.
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Its zone.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// When a record may arrive so that its partition differs from that of one that arrived at `arrival_us` in nothing
    /// that the time tells.
    pub fn span(&self, arrival_us: i64) -> Span {
        match self.span {
            Some(span) if span.contains(arrival_us) => span,
            _ => self.zone.span(arrival_us, self.step_us),
        }
    }

    /// Writes the partition of a record to `out`: records of the same text may share an object, others may not.
    ///
    /// It is the prefix as far as this record determines it, and readable but for its holes, which are control
    /// characters.
    ///
    /// # Errors
    /// Where the record can have no name; `out` is then of no use.
    pub fn partition(&mut self, record: &Context<'_>, out: &mut String) -> Result<(), NameError> {
        if !self.span.is_some_and(|span| span.contains(record.arrival_us)) {
            self.refresh(record.arrival_us)?;
        }
        out.clear();
        let mut texts = self.texts.iter();
        for step in &self.steps {
            match step {
                Step::Cached(_) => out.push_str(texts.next().map_or("", String::as_str)),
                Step::Piece(i) => push_piece(&self.prefix.pieces[*i], record, out)?,
            }
        }
        self.check(out)
    }

    /// The prefix of an object: its partition, with the time of its oldest record and random strings for the holes.
    /// The strings are derived from the object's id, another one for each hole.
    pub fn complete(&self, partition: &str, oldest_us: i64, id: Uuid) -> Result<String, NameError> {
        let mut out = String::with_capacity(partition.len() + self.hole_bytes);
        let mut holes = self.prefix.pieces[self.prefix.folder..].iter().filter_map(|piece| match piece {
            Piece::Time(item) => Some(item),
            _ => None,
        });
        let (mut moment, mut randoms) = (None, 0);
        for c in partition.chars() {
            match c {
                TIME_HOLE => {
                    let moment = match moment {
                        Some(moment) => moment,
                        None => {
                            *moment.insert(self.zone.moment(oldest_us).ok_or(NameError::Time(oldest_us))?)
                        }
                    };
                    if let Some(item) = holes.next() {
                        item.write(&moment, &mut out)?;
                    }
                }
                RANDOM_HOLE => {
                    push_random(id, randoms, &mut out);
                    randoms += 1;
                }
                c => out.push(c),
            }
        }
        Ok(out)
    }

    /// Writes the texts anew for a time.
    fn refresh(&mut self, arrival_us: i64) -> Result<(), NameError> {
        self.span = None;
        // A prefix with no time in it takes any.
        let moment = self.zone.moment(if self.prefix.uses().timestamp { arrival_us } else { 0 });
        let moment = moment.ok_or(NameError::Time(arrival_us))?;
        let ranges = self.steps.iter().filter_map(|step| match step {
            Step::Cached(range) => Some(range.clone()),
            Step::Piece(_) => None,
        });
        for (range, text) in ranges.zip(&mut self.texts) {
            text.clear();
            for piece in &self.prefix.pieces[range] {
                match piece {
                    Piece::Text(fixed) => text.push_str(fixed),
                    Piece::Time(item) => item.write(&moment, text)?,
                    _ => {}
                }
            }
        }
        self.span = Some(self.zone.span(arrival_us, self.step_us));
        Ok(())
    }

    /// Holds a partition to the limits, its holes as wide as they can be: what is taken here always has a name.
    fn check(&self, partition: &str) -> Result<(), NameError> {
        let limits = &self.limits;
        let bytes = partition.len() + self.hole_bytes;
        if bytes > limits.prefix_chars {
            let chars = partition.chars().count() + self.hole_bytes;
            if chars > limits.prefix_chars {
                return Err(NameError::PrefixTooLong { chars, limit: limits.prefix_chars });
            }
        }
        let bytes = limits.before_bytes + bytes + limits.suffix_bytes;
        if bytes > limits.name_bytes {
            return Err(NameError::NameTooLong { bytes, limit: limits.name_bytes });
        }
        if bytes > limits.part_bytes {
            let mut parts = partition.split('/').rev();
            let last = parts.next().map_or(0, str::len) + self.rest_hole_bytes + limits.suffix_bytes;
            let random = |part: &str| part.matches(RANDOM_HOLE).count() * (RANDOM_CHARS - 1);
            let widest = parts.map(|part| part.len() + random(part)).max().unwrap_or(0).max(last);
            if widest > limits.part_bytes {
                return Err(NameError::PartTooLong { bytes: widest, limit: limits.part_bytes });
            }
        }
        Ok(())
    }
}

fn push_piece(piece: &Piece, record: &Context<'_>, out: &mut String) -> Result<(), NameError> {
    match piece {
        Piece::Text(text) => out.push_str(text),
        Piece::Time(_) => out.push(TIME_HOLE),
        Piece::Random => out.push(RANDOM_HOLE),
        Piece::Query(name) => push_value(record.query.value(name).unwrap_or_default(), out),
        Piece::Transform(name) => push_value(record.transform.value(name).unwrap_or_default(), out),
        // Writing to a string does not fail.
        Piece::Shard => drop(write!(out, "{}", record.shard)),
        Piece::ShardNumber => drop(write!(out, "{}", record.shard.0)),
        Piece::ErrorType => out.push_str(record.error_type.ok_or(NameError::NoErrorType)?.name()),
    }
    Ok(())
}

/// Eleven digits and letters, for the `occurrence`-th place of an object's prefix.
fn push_random(id: Uuid, occurrence: u64, out: &mut String) {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut value = xxh3_64_with_seed(id.as_bytes(), occurrence);
    // 36^11 is 2^56.9: no digit is without a choice.
    for _ in 0..RANDOM_CHARS {
        out.push(char::from(DIGITS[(value % 36) as usize]));
        value /= 36;
    }
}
