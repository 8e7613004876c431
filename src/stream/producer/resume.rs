//! Named producers: what an earlier run stored, and how a later one goes on without storing it twice.
//!
//! Every frame carries the ordinal of its last record in the source, and two marks of the source: the *begin* mark,
//! behind which everything was durable in all shards when the frame was written, and the *end* mark, up to which
//! records may be in the frame. A later run
//!
//! 1. claims the name in every open shard, which fences earlier runs and reads where they stood there;
//! 2. goes to the begin mark of the furthest frame: all before it is stored;
//! 3. from there to the end mark, leaves out each record whose ordinal is not above the highest ordinal stored in the
//!    shard that owns its hash key, because within a shard records were stored in the source's order;
//! 4. goes on as usual.
//!
//! A run that ends well leaves its last place as both marks in every shard, so that the next one has nothing in doubt,
//! and does not come again upon what stands behind the last record and was refused.
//!
//! This holds across splits and merges because a shard's children begin with what it knew, hash key range by range.

use std::collections::BTreeMap;

use crate::hash::{HashKey, HashRange};
use crate::log::{Claim, ProducerState, Writer, at_rest};
use crate::record::{POSITION_BYTES_MAX, Provenance};

use super::super::Stream;
use super::super::error::{Error, InShard};
use super::Producer;

/// The longest mark: two of them and their ordinals go into a frame.
pub const MARK_BYTES_MAX: usize = POSITION_BYTES_MAX / 2 - 32;

/// A place in the source: how many records come before it, and the caller's own note.
pub type Mark = (u64, Vec<u8>);

/// What earlier runs of a producer stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// All before this place is stored.
    pub begin: Mark,
    /// Nothing behind this place is stored.
    pub end: Mark,
    /// This run.
    pub epoch: u64,
}

impl Resume {
    /// Whether there was no earlier run that stored anything.
    pub fn is_fresh(&self) -> bool {
        self.end.0 == 0 && self.end.1.is_empty()
    }
}

/// A producer with a name.
#[derive(Debug)]
pub(super) struct Named {
    name: String,
    seed: u64,
    epoch: u64,
    /// Up to this ordinal everything is stored.
    begin: u64,
    /// Highest ordinal stored per part of the hash key space; looked at up to `end` only.
    stored: Vec<(HashRange, u64)>,
    end: u64,
    /// Where the source stands behind the records that are being put.
    pub(super) ahead: Mark,
    /// Where it stands behind the records that have been put whole.
    pub(super) at: Mark,
    /// Behind this everything is durable.
    durable: Mark,
    /// The same, once the sync that goes on has ended.
    syncing: Mark,
    /// The place that is on the disk as both marks.
    settled: Option<Mark>,
}

impl Named {
    /// Whether an earlier run stored the record with this ordinal.
    pub(super) fn is_stored(&self, ordinal: u64, hash: HashKey) -> bool {
        ordinal <= self.begin
            || ordinal <= self.end
                && self.stored.iter().any(|(range, last)| range.contains(hash) && ordinal <= *last)
    }

    /// Nothing behind this ordinal is stored.
    pub(super) fn end_ordinal(&self) -> u64 {
        self.end
    }

    /// Where a record without a key goes: even over the hash key space, and the same in every run.
    pub(super) fn spread(&self, ordinal: u64) -> HashKey {
        let high = mix(self.seed.wrapping_add(ordinal));
        HashKey((u128::from(high) << 64) | u128::from(mix(high)))
    }

    /// What goes with a frame whose last record has this ordinal.
    pub(super) fn provenance(&self, ordinal: u64) -> Provenance {
        Provenance {
            producer: self.name.clone(),
            epoch: self.epoch,
            ordinal,
            position: encode(&self.durable, &self.ahead),
        }
    }

    /// The last place of a run that has put `ordinal` records and waited for the disk, if that is to be told.
    pub(super) fn last_place(&self, ordinal: u64) -> Option<Provenance> {
        let at = &self.at;
        // A source that tells its places itself has no marks. And where the run was cut short, the batches tell more.
        let told = at.1.is_empty() || self.settled.as_ref() == Some(at);
        let whole = *at == self.ahead && *at == self.durable && at.0 == ordinal && at.0 >= self.end;
        (whole && !told).then(|| Provenance {
            producer: self.name.clone(),
            epoch: self.epoch,
            ordinal,
            position: encode(at, at),
        })
    }

    /// The last place has been told.
    pub(super) fn settle(&mut self) {
        self.settled = Some(self.at.clone());
    }

    /// A sync begins, with all that was put up to the last mark written.
    pub(super) fn begin(&mut self) {
        self.syncing = self.at.clone();
    }

    /// The sync has ended.
    pub(super) fn end(&mut self) {
        self.durable = self.syncing.clone();
    }

    /// What tells a later run that all before this place is stored, if nothing behind it is, and whether the source ends
    /// there.
    fn whole(&self, ordinal: u64, is_end: bool) -> Option<Provenance> {
        let place = (ordinal, if is_end { END.to_vec() } else { Vec::new() });
        (ordinal >= self.end).then(|| Provenance {
            producer: self.name.clone(),
            epoch: self.epoch,
            ordinal,
            position: encode(&place, &place),
        })
    }
}

/// The mark of a source that has ended.
const END: &[u8] = b"end";

/// What a look without a lock tells of a producer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// All before this place is stored.
    pub begin: u64,
    /// The source ends there.
    pub is_end: bool,
}

/// `splitmix64`'s finisher: every bit of the input changes every bit of the output.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A position: `begin ordinal`, `begin mark`, `end ordinal`, `end mark` as text and hexadecimal, one blank between:
/// it is for people too, who look at it with `kshard`.
fn encode(begin: &Mark, end: &Mark) -> Vec<u8> {
    let mut out = String::new();
    for (ordinal, mark) in [begin, end] {
        debug_assert!(mark.len() <= MARK_BYTES_MAX);
        out.push_str(&ordinal.to_string());
        out.push(' ');
        out.push_str(&String::from_utf8_lossy(mark));
        out.push('\n');
    }
    out.into_bytes()
}

/// The begin and the end mark of a position that a named producer left.
fn decode(position: &[u8]) -> Option<(Mark, Mark)> {
    let text = std::str::from_utf8(position).ok()?;
    let mut marks = text.lines().map(|line| {
        let (ordinal, mark) = line.split_once(' ')?;
        Some((ordinal.parse().ok()?, mark.as_bytes().to_vec()))
    });
    Some((marks.next()??, marks.next()??))
}

/// Up to where each named producer has stored something, by name: the end mark of its furthest batch.
pub(super) fn places(producer: &mut Producer) -> Result<BTreeMap<String, Mark>, Error> {
    let mut places: BTreeMap<String, Mark> = BTreeMap::new();
    for i in 0..producer.slots.len() {
        let shard = producer.slots[i].shard;
        let states = match producer.writer(i).and_then(Writer::producers) {
            Ok(states) => states,
            // Its children know what it knew.
            Err(crate::log::Error::Closed(_)) => continue,
            Err(error) => return Err(producer.stream.failed(shard, error)),
        };
        for state in states {
            let Some((_, end)) = decode(&state.last.position) else { continue };
            let place = places.entry(state.last.producer).or_default();
            if end.0 >= place.0 {
                *place = end;
            }
        }
    }
    Ok(places)
}

/// Claims `name` in every open shard.
pub(super) fn claim(producer: &mut Producer, name: &str) -> Result<Resume, Error> {
    let mut epoch = 0;
    // Every shard must be claimed with one epoch, above all that were. Another run that claims at the same time makes
    // a shard answer with one that is not lower: then all are claimed again, with a higher one.
    let states = 'again: loop {
        epoch += 1;
        let mut states: Vec<ProducerState> = Vec::new();
        let mut i = 0;
        while i < producer.slots.len() {
            let shard = producer.slots[i].shard;
            let answer = match producer.writer(i) {
                Ok(writer) => writer.claim(name, epoch),
                Err(error) => Err(error),
            };
            match answer {
                Ok(Claim::Taken(before)) => states.extend(before),
                Ok(Claim::Later(later)) => {
                    epoch = later;
                    continue 'again;
                }
                Err(crate::log::Error::Closed(_)) => {
                    producer.resettle()?;
                    continue 'again;
                }
                Err(error) => return Err(producer.stream.failed(shard, error)),
            }
            producer.slots[i].dirty = true;
            i += 1;
        }
        break states;
    };
    // Of those with the same last record the one that a run has left at its end knows most.
    let begun = |state: &ProducerState| decode(&state.last.position).map_or(0, |(begin, _)| begin.0);
    let furthest = states.iter().max_by_key(|state| (state.last.ordinal, begun(state)));
    let marks = match furthest {
        Some(state) if state.last.ordinal > 0 || !state.last.position.is_empty() => decode(
            &state.last.position,
        )
        .ok_or_else(|| {
            Error::Invalid(format!(
                "producer `{name}` left a position that is not of this program's kind: choose another name"
            ))
        })?,
        _ => ((0, Vec::new()), (0, Vec::new())),
    };
    let (begin, end) = marks;
    producer.named = Some(Named {
        name: name.to_owned(),
        seed: name.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte))),
        epoch,
        stored: states.iter().map(|state| (state.range, state.last.ordinal)).collect(),
        end: end.0.max(furthest.map_or(0, |state| state.last.ordinal)),
        begin: begin.0,
        ahead: begin.clone(),
        at: begin.clone(),
        durable: begin.clone(),
        syncing: begin.clone(),
        settled: (begin == end).then(|| begin.clone()),
    });
    Ok(Resume { begin, end, epoch })
}

/// Notes in one shard that all of the source before `end` is stored and durable. It need not be durable itself: without
/// it a later run has some records in doubt, and finds out.
pub(super) fn note_end(producer: &mut Producer, end: Stored) -> Result<(), Error> {
    let place = producer.named.as_ref().and_then(|named| named.whole(end.begin, end.is_end));
    let Some(place) = place else { return Ok(()) };
    let shard = producer.slots[0].shard;
    match producer.writer(0).and_then(|writer| writer.note_place(&place)) {
        Ok(()) | Err(crate::log::Error::Closed(_) | crate::log::Error::DiskFull { .. }) => Ok(()),
        Err(error) => Err(error).in_shard(shard),
    }
}

/// Up to where everything is stored, by the producer's name, as a look without a lock tells.
pub fn stored(stream: &Stream) -> Result<BTreeMap<String, Stored>, Error> {
    let mut furthest: BTreeMap<String, (u64, Stored)> = BTreeMap::new();
    for info in stream.manifest().open_shards() {
        let rest = at_rest(&stream.log_dir(info), info.range()).in_shard(info.id())?;
        for state in rest.producers {
            let mark = decode(&state.last.position).map_or((0, Vec::new()), |(begin, _)| begin);
            let place = Stored { begin: mark.0, is_end: mark.1 == END };
            let known = furthest.entry(state.last.producer).or_default();
            *known = (*known).max((state.last.ordinal, place));
        }
    }
    Ok(furthest.into_iter().map(|(name, (_, place))| (name, place)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::super::{NewStream, Order, Polled, Start, Stream, StreamReader, Until};
    use super::super::{GROUP_DEFAULT, Producer};
    use super::*;
    use crate::log::Fresh;
    use crate::record::ShardId;
    use crate::sys::System;

    const RECORDS: u64 = 40;

    /// The source: its first half goes to the lower half of the hash keys, the rest to the upper.
    fn source(numbers: std::ops::Range<u64>) -> impl Iterator<Item = Result<(u64, Fresh<'static>), Error>> {
        numbers.map(|number| {
            let hash = if number < RECORDS / 2 { HashKey(number.into()) } else { HashKey(u128::MAX) };
            Ok((number, Fresh { payload: b"x", explicit_hash: Some(hash), ..Fresh::default() }))
        })
    }

    fn begin(stream: &Stream) -> Producer {
        let mut producer = Producer::open(stream.clone(), GROUP_DEFAULT, false).unwrap();
        producer.claim("p").unwrap();
        producer
    }

    fn count(stream: &Stream) -> usize {
        let mut reader =
            StreamReader::open(stream.clone(), Start::TrimHorizon, Until::Never, Order::Shard, None).unwrap();
        let mut records = 0;
        loop {
            match reader.poll(&mut |delivery| delivery.take - delivery.skip).unwrap() {
                Polled::Frame(_, count) => records += count,
                Polled::Tail | Polled::End => return records,
                _ => {}
            }
        }
    }

    /// The shards of a killed run were merged, one far ahead of the other, and the next run was killed when it had
    /// stored a little of what the other lacked. The run after that took this little for all that was stored in the
    /// merged shard, and stored what lay beyond it once more.
    #[test]
    fn what_one_parent_had_more_is_not_stored_again() {
        let dir = tempfile::tempdir().unwrap();
        let new = NewStream { shards: 2, ..NewStream::default() };
        let mut stream = Stream::create(&System::real(), &dir.path().join("s"), &new).unwrap();
        let mut first = begin(&stream);
        first.put_from(source(0..RECORDS), RECORDS).unwrap();
        first.write_slot(1).unwrap();
        drop(first);
        assert_eq!(count(&stream), 20);
        stream.merge(ShardId(0), ShardId(1)).unwrap();
        let mut second = begin(&stream);
        second.batch_bytes = 1;
        second.put_from(source(0..5), RECORDS).unwrap();
        drop(second);
        stream.reload().unwrap();
        assert_eq!(count(&stream), 25);
        let mut third = begin(&stream);
        third.put_from(source(0..RECORDS), RECORDS).unwrap();
        third.finish().unwrap();
        assert_eq!(third.written().skipped, 25);
        assert_eq!(count(&stream), RECORDS as usize);
    }

    #[test]
    fn positions_survive() {
        let (begin, end) = ((7, b"100 abc".to_vec()), (9, Vec::new()));
        assert_eq!(decode(&encode(&begin, &end)), Some((begin, end)));
        assert_eq!(decode(b"x"), None);
        assert_eq!(decode(b"1 a\n"), None);
    }
}
