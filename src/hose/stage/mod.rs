//! What is done to records one by one before they are gathered into objects: the service's processors.
//!
//! Its promise: every record that goes in comes out with a fate, in the order in which it went in.
//!
//! # Several records out of one
//!
//! Some stages make several records out of one: de-aggregation, the messages of a `CloudWatch` Logs record, a query with
//! several outputs. Each must stay one that no other is, and a replay must give it the same name. So what comes out
//! second has another origin than what came out first, and both can be told from where they came, by [`numbered`]:
//!
//! - A record that came out whole and alone keeps the origin it had.
//! - One of several has its ordinal as its `sub`.
//! - Where it had a `sub` already (it was in an aggregate, or a stage before this one has numbered it) the ordinal goes
//!   behind that, in 20 bits: `sub << 20 | ordinal`. There it is always written, also where nothing was taken apart: the
//!   same stage has numbered its neighbours, and `5` might be one of theirs.
//!
//! So `sub`s of one record grow in the order of its parts. [`Stage::may_split`] says which stages number; with
//! [`Chain::levels`] of them the number that a record had in its aggregate is [`source_sub`]. A record that such a stage
//! drops or refuses comes out of it with the origin it had; [`Chain`] gives it its place among the others.

mod chain;
mod cloudwatch;
mod deaggregate;
mod decompress;
mod filter;
mod jq;
mod keys;
mod transform;

use std::collections::BTreeMap;

pub use chain::{Chain, StageCount};
pub use cloudwatch::CloudWatch;
pub use deaggregate::{Deaggregate, SubRecords};
pub use decompress::{Compressed, Decompress, RECORD_BYTES_MAX};
pub use filter::{Filter, FilterOptions};
pub use jq::{Jq, JqLimits, JqStage};
pub use keys::PartitionKeys;
pub use transform::{Transform, TransformOptions};

use super::chunk::Origin;
use super::failure::{ErrorType, Failure};

/// A record on its way through the stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where it came from.
    pub origin: Origin,
    /// The stream's name, where it came from one, its partition key.
    pub key: Option<Box<str>>,
    /// The data.
    pub data: Vec<u8>,
    /// Partition keys that a transformation has given it (`!{partitionKeyFromTransform:...}`).
    pub partition_keys: Option<Box<BTreeMap<String, String>>>,
}

/// What became of a record at a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes on. One record may go on as several, each a fate of its own with an origin of its own.
    Kept(Item),
    /// It was left out on purpose, and counts as delivered.
    Dropped(Origin),
    /// It goes to the error output, as it was before this stage.
    Failed(Item, Failure),
}

impl Fate {
    /// Whose fate this is.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Kept(item) | Self::Failed(item, _) => item.origin,
            Self::Dropped(origin) => *origin,
        }
    }
}

/// One stage.
pub trait Stage: Send {
    /// What it is called in counts and messages.
    fn name(&self) -> &'static str;

    /// Takes records and tells the fate of each, in their order.
    ///
    /// # Errors
    /// Where the stage itself cannot go on (its command cannot be started, say): nothing of the batch counts as done.
    fn process(&mut self, items: Vec<Item>) -> anyhow::Result<Vec<Fate>>;

    /// Whether one record may come out as several. Where not, each has one fate.
    fn may_split(&self) -> bool {
        false
    }

    /// Whether it may not be known which record of a batch an outcome belongs to: only the batch as a whole is true.
    fn is_indivisible(&self) -> bool {
        false
    }

    /// There are no more records. What the stage keeps running is ended.
    ///
    /// # Errors
    /// Where that ended badly. All that was processed before stays true.
    fn finish(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// How many bits an ordinal has behind a `sub`.
const ORDINAL_BITS: u32 = 20;
/// So many records come out of one at most: an ordinal has its bits, and a record of 64 MiB may be nothing but `{}` and
/// would otherwise turn into gigabytes.
pub const SPLIT_MAX: usize = 1 << ORDINAL_BITS;

/// The origin of one of `of` records that were made out of one; `None` where there are too many to number them.
pub fn numbered(origin: Origin, ordinal: usize, of: usize) -> Option<Origin> {
    let sub = match origin.sub {
        _ if ordinal >= SPLIT_MAX => return None,
        None if of == 1 => None,
        None => Some(ordinal as u64),
        Some(sub) if sub.leading_zeros() >= ORDINAL_BITS => Some(sub << ORDINAL_BITS | ordinal as u64),
        Some(_) => return None,
    };
    Some(Origin { sub, ..origin })
}

/// The place in its aggregate that the record had from which `levels` stages have made one with this `sub`. Of a record
/// that was in none it is 0.
pub fn source_sub(sub: u64, levels: u32) -> u64 {
    sub.checked_shr(ORDINAL_BITS * levels).unwrap_or(0)
}

/// Several records out of one: all of them, or a failure of the one.
///
/// They have its key, and the partition keys it has been given.
fn split(item: Item, parts: Vec<Vec<u8>>, fates: &mut Vec<Fate>) {
    let of = parts.len();
    if of > SPLIT_MAX || of > 0 && numbered(item.origin, of - 1, of).is_none() {
        let failure = Failure::new(
            ErrorType::Processing,
            "DeAggregation.TooManyRecords",
            format!("{of} records in it, more than can be numbered ({SPLIT_MAX}, and three stages deep)"),
        );
        fates.push(Fate::Failed(item, failure));
        return;
    }
    let Item { origin, key, partition_keys, .. } = item;
    fates.extend(parts.into_iter().enumerate().map(|(ordinal, data)| {
        let origin = numbered(origin, ordinal, of).unwrap_or(origin);
        Fate::Kept(Item { origin, key: key.clone(), data, partition_keys: partition_keys.clone() })
    }));
}

/// A text that stands in a message for a person: its first characters.
fn excerpt(text: &str) -> String {
    const CHARS: usize = 160;
    let mut cut: String = text.chars().take(CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(CHARS).is_some() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod testing {
    //! Records for tests.

    use std::io::Write;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    use super::{Fate, Item};
    use crate::hose::chunk::Origin;
    use crate::record::ShardId;

    pub(super) fn origin(index: u64) -> Origin {
        Origin {
            shard: ShardId(3),
            shard_created_s: 1_700_000_000,
            index,
            sub: None,
            arrival_us: 1_700_000_100_000_000 + index as i64,
        }
    }

    pub(super) fn item(index: u64, data: impl AsRef<[u8]>) -> Item {
        Item {
            origin: origin(index),
            key: Some("k".into()),
            data: data.as_ref().to_vec(),
            partition_keys: None,
        }
    }

    pub(super) fn items<T: AsRef<[u8]>>(data: impl IntoIterator<Item = T>) -> Vec<Item> {
        data.into_iter().enumerate().map(|(index, data)| item(index as u64, data)).collect()
    }

    /// Notes that a test left something out because a program is not here; `make test` shows it.
    pub(super) fn left_out(program: &str, what: &str) {
        let text = format!("{what}: there is no {program}\n");
        eprint!("left out: {text}");
        let exe = std::env::current_exe().unwrap();
        let target = exe.ancestors().nth(3).unwrap();
        let notes =
            std::env::var_os("KPIPE_TEST_NOTES").map_or_else(|| target.join("test-notes"), PathBuf::from);
        let file = std::fs::File::options().create(true).append(true).open(notes);
        // One write, for other tests write there at the same time.
        file.and_then(|mut file| file.write_all(text.as_bytes())).unwrap();
    }

    /// What jq says, or `None` where there is none.
    pub(super) fn tell_jq(args: &[&str], input: &str) -> Option<String> {
        let mut jq =
            Command::new("jq").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        jq.stdin.take()?.write_all(input.as_bytes()).ok()?;
        let done = jq.wait_with_output().ok()?;
        Some(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Each fate in a line: `0 kept {..}`, `1.2 dropped`, `3 failed CODE`.
    pub(super) fn told(fates: &[Fate]) -> Vec<String> {
        let name = |fate: &Fate| {
            let origin = fate.origin();
            origin.sub.map_or(origin.index.to_string(), |sub| format!("{}.{sub}", origin.index))
        };
        let tell = |fate: &Fate| match fate {
            Fate::Kept(item) => format!("{} kept {}", name(fate), String::from_utf8_lossy(&item.data)),
            Fate::Dropped(_) => format!("{} dropped", name(fate)),
            Fate::Failed(_, failure) => format!("{} failed {}", name(fate), failure.code),
        };
        fates.iter().map(tell).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::origin;
    use super::*;

    #[test]
    fn a_record_that_stayed_whole_keeps_its_origin() {
        assert_eq!(numbered(origin(4), 0, 1), Some(origin(4)));
        assert_eq!(numbered(origin(4), 1, 2).unwrap().sub, Some(1));
        let aggregated = Origin { sub: Some(7), ..origin(4) };
        assert_eq!(numbered(aggregated, 0, 1).unwrap().sub, Some(7 << 20));
        assert_eq!(source_sub(7 << 20 | 3, 1), 7);
        assert_eq!(source_sub(3, 1), 0);
        assert_eq!(source_sub(7, 0), 7);
        assert_eq!(source_sub(7, 4), 0);
        assert_eq!(numbered(Origin { sub: Some(1 << 44), ..origin(4) }, 0, 1), None);
        assert_eq!(numbered(origin(4), SPLIT_MAX, SPLIT_MAX + 1), None);
    }

    proptest! {
        /// Whatever two stages take apart, no two records have one origin, and their order is that of their numbers.
        #[test]
        fn origins_stay_apart(
            in_aggregate: bool,
            shape in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<()>(), 0..4), 1..4), 1..5),
        ) {
            let mut seen = Vec::new();
            for (place, first) in shape.iter().enumerate() {
                let (index, sub) = if in_aggregate { (0, Some(place as u64)) } else { (place as u64, None) };
                let source = Origin { sub, ..origin(index) };
                for (i, second) in first.iter().enumerate() {
                    let middle = numbered(source, i, first.len()).unwrap();
                    for j in 0..second.len() {
                        let last = numbered(middle, j, second.len()).unwrap();
                        seen.push((last.index, last.sub));
                        if in_aggregate {
                            prop_assert_eq!(source_sub(last.sub.unwrap(), 2), place as u64);
                        }
                    }
                }
            }
            let mut sorted = seen.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted, seen);
        }
    }
}
