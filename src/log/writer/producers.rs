//! Where named producers stand in this log (promise 10), and the fence between their runs.

use std::collections::BTreeMap;

use super::super::error::Error;
use super::super::frame::control::{decode_producers, decode_provenance, encode_producers};
use super::super::frame::{HEADER_BYTES, Kind, ProducerState};
use super::super::recover::Tail;
use super::super::segment::{At, Segment, Walk};
use super::{Claim, Writer};
use crate::hash::{HashKey, HashRange};
use crate::record::Provenance;

/// Where producers stand, by name.
pub(super) type Producers = BTreeMap<String, Vec<ProducerState>>;

impl Writer {
    /// Claims a producer's name for the run `epoch`: every earlier run is fenced from here on. Answers with where the
    /// producer stood, one state per part of the hash key range, or with the epoch of a run that is not earlier.
    pub fn claim(&mut self, producer: &str, epoch: u64) -> Result<Claim, Error> {
        self.locked(|writer| {
            writer.catch_up()?;
            let before = writer.load_producers()?.get(producer).cloned().unwrap_or_default();
            if let Some(later) =
                before.iter().map(|state| state.last.epoch).max().filter(|&other| other >= epoch)
            {
                return Ok(Claim::Later(later));
            }
            let mut states = before.clone();
            if states.is_empty() {
                let last =
                    Provenance { producer: producer.to_owned(), epoch, ordinal: 0, position: Vec::new() };
                states.push(ProducerState { range: writer.range, last, arrival_us: writer.tail.arrival_us });
            }
            for state in &mut states {
                state.last.epoch = epoch;
            }
            writer.write_control(Kind::Producers, &encode_producers(&states))?;
            writer.load_producers()?.insert(producer.to_owned(), states);
            Ok(Claim::Taken(before))
        })
    }

    /// Notes where a producer stands, without a batch: all of its source before that is stored, in all shards, and
    /// durable.
    pub fn note_place(&mut self, last: &Provenance) -> Result<(), Error> {
        self.locked(|writer| {
            writer.catch_up()?;
            writer.fence(last)?;
            let arrival_us = writer.tail.arrival_us;
            let state = ProducerState { range: writer.range, last: last.clone(), arrival_us };
            writer.write_control(Kind::Producers, &encode_producers(&[state]))?;
            let range = writer.range;
            note(writer.load_producers()?, last, arrival_us, range);
            Ok(())
        })
    }

    /// Where all producers stand in this log.
    pub fn producers(&mut self) -> Result<Vec<ProducerState>, Error> {
        self.locked(|writer| {
            match writer.catch_up() {
                Ok(()) | Err(Error::Closed(_)) => {}
                Err(error) => return Err(error),
            }
            Ok(writer.load_producers()?.values().flatten().cloned().collect())
        })
    }

    pub(super) fn fence(&mut self, provenance: &Provenance) -> Result<(), Error> {
        let later = self
            .load_producers()?
            .get(&provenance.producer)
            .and_then(|states| states.iter().map(|state| state.last.epoch).max());
        match later {
            Some(later) if later > provenance.epoch => {
                Err(Error::Fenced { producer: provenance.producer.clone(), epoch: provenance.epoch, later })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn load_producers(&mut self) -> Result<&mut Producers, Error> {
        if self.producers.is_none() {
            self.producers = Some(if self.tail.provenance_seen {
                self.read_producers(self.tail.offset)?
            } else {
                Producers::new()
            });
        }
        Ok(self.producers.get_or_insert_default())
    }

    /// Reads where all producers stand from the first `len` bytes of the segment: it begins with a list of those that
    /// came before.
    pub(super) fn read_producers(&self, len: u64) -> Result<Producers, Error> {
        read_producers(&self.segment, len, self.range)
    }
}

/// Reads where all producers stand in a segment.
pub(crate) fn read_producers(segment: &Segment, len: u64, range: HashRange) -> Result<Producers, Error> {
    let mut offsets = Vec::new();
    let mut tail = Tail::start(&segment.header);
    tail.follow(segment, len, |offset, header| {
        if header.provenance_bytes > 0 || header.kind == Kind::Producers {
            offsets.push(offset);
        }
    })?;
    let mut producers = Producers::new();
    // The last batch of those whose list has not been met.
    let mut batches: BTreeMap<String, (Provenance, i64)> = BTreeMap::new();
    let mut walk = Walk::new(segment, len);
    let mut stored = Vec::new();
    // From the back: between one list that names a producer and the next its batches ascend, so that the last of them
    // says with the list all there is to say, and only these two must be verified.
    for offset in offsets.into_iter().rev() {
        let told = read(segment, &mut walk, offset);
        let news = match &told {
            Ok(Told::Batch(last, _)) => {
                !producers.contains_key(&last.producer) && !batches.contains_key(&last.producer)
            }
            Ok(Told::List(states)) => {
                states.iter().any(|state| !producers.contains_key(&state.last.producer))
            }
            Err(_) => true,
        };
        if !news {
            continue;
        }
        let At::Frame(header, crc) = walk.at(offset)? else { continue };
        if !segment.stored(offset, &header, crc, &mut stored)? {
            let reason = "what it tells of producers does not hold";
            return Err(Error::Damaged { path: segment.path.clone(), offset, reason });
        }
        match told? {
            Told::Batch(last, arrival_us) => {
                batches.insert(last.producer.clone(), (last, arrival_us));
            }
            Told::List(states) => {
                let mut listed = Producers::new();
                take_list(&mut listed, states);
                for (producer, states) in listed {
                    producers.entry(producer).or_insert(states);
                }
            }
        }
        // A list says what came before it, so batches that wait go on top of it once it is known.
        let known: Vec<_> = batches.extract_if(.., |producer, _| producers.contains_key(producer)).collect();
        for (_, (last, arrival_us)) in known {
            note(&mut producers, &last, arrival_us, range);
        }
    }
    for (last, arrival_us) in batches.into_values() {
        note(&mut producers, &last, arrival_us, range);
    }
    Ok(producers)
}

/// What one frame tells of producers.
enum Told {
    /// All there is to say about each producer that it names.
    List(Vec<ProducerState>),
    /// Where the producer stood behind these records, and when they arrived.
    Batch(Provenance, i64),
}

fn read(segment: &Segment, walk: &mut Walk<'_>, offset: u64) -> Result<Told, Error> {
    let damaged = |reason| Error::Damaged { path: segment.path.clone(), offset, reason };
    let At::Frame(header, _) = walk.at(offset)? else { return Err(damaged("a frame has gone")) };
    let at = offset + HEADER_BYTES as u64;
    if header.kind == Kind::Producers {
        let body = walk.bytes(at, header.stored_bytes as usize)?;
        let states = decode_producers(body).ok_or_else(|| damaged("the list of producers does not hold"))?;
        Ok(Told::List(states))
    } else {
        let bytes = walk.bytes(at, usize::from(header.provenance_bytes))?;
        let last = decode_provenance(bytes).ok_or_else(|| damaged("the provenance does not hold"))?;
        Ok(Told::Batch(last, header.arrival_us))
    }
}

fn take_list(producers: &mut Producers, states: Vec<ProducerState>) {
    for state in &states {
        producers.remove(&state.last.producer);
    }
    for state in states {
        producers.entry(state.last.producer.clone()).or_default().push(state);
    }
}

/// Takes in what one frame tells of producers.
pub(super) fn learn(
    segment: &Segment,
    walk: &mut Walk<'_>,
    offset: u64,
    range: HashRange,
    producers: &mut Producers,
) -> Result<(), Error> {
    match read(segment, walk, offset)? {
        Told::List(states) => take_list(producers, states),
        Told::Batch(last, arrival_us) => note(producers, &last, arrival_us, range),
    }
    Ok(())
}

/// A producer's batch says where it stands in the whole range of the log that took it: except in the parts where it
/// stood further already. After a merge one parent may have been far ahead of the other, and a run that goes on stores
/// first what the other lacks; what the first holds must not be stored again by the run after that.
pub(super) fn note(producers: &mut Producers, last: &Provenance, arrival_us: i64, range: HashRange) {
    let states = producers.entry(last.producer.clone()).or_default();
    states.retain(|state| state.last.ordinal > last.ordinal);
    states.sort_unstable_by_key(|state| state.range.start);
    let mut from = Some(range.start);
    let mut parts = Vec::new();
    for state in states.iter_mut() {
        state.last.epoch = state.last.epoch.max(last.epoch);
        if let Some(start) = from.filter(|&start| start < state.range.start && state.range.start <= range.end)
        {
            parts.push(HashRange { start, end: HashKey(state.range.start.0 - 1) });
        }
        let behind = state.range.end.0.checked_add(1).map(HashKey);
        from = from.and_then(|start| behind.map(|behind| start.max(behind)));
    }
    parts.extend(from.filter(|&start| start <= range.end).map(|start| HashRange { start, end: range.end }));
    states.extend(parts.into_iter().map(|range| ProducerState { range, last: last.clone(), arrival_us }));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the parts of a range stood, each stands afterwards at the higher of what it held and what the batch
        /// says, none is said twice, and all of them have the batch's epoch.
        #[test]
        fn a_batch_takes_no_part_back(
            cuts in prop::collection::btree_set(1u128..99, 0..6),
            stood in prop::collection::vec(prop::option::of(1u64..10), 7),
            ordinals in prop::collection::vec(1u64..12, 1..4),
        ) {
            let mut ordinals = ordinals;
            ordinals.sort_unstable();
            let whole = HashRange { start: HashKey(0), end: HashKey(99) };
            let at = |epoch, ordinal| Provenance { producer: "p".into(), epoch, ordinal, position: Vec::new() };
            let mut producers = Producers::new();
            let mut expected = [0; 100];
            let starts: Vec<u128> = std::iter::once(0).chain(cuts.iter().copied()).collect();
            for (i, &start) in starts.iter().enumerate() {
                let end = starts.get(i + 1).map_or(99, |next| next - 1);
                let Some(ordinal) = stood[i] else { continue };
                let range = HashRange { start: HashKey(start), end: HashKey(end) };
                let state = ProducerState { range, last: at(1, ordinal), arrival_us: 0 };
                producers.entry("p".into()).or_default().push(state);
                expected[start as usize..=end as usize].fill(ordinal);
            }
            for ordinal in ordinals {
                note(&mut producers, &at(2, ordinal), 0, whole);
                for place in &mut expected {
                    *place = ordinal.max(*place);
                }
                let states = &producers["p"];
                prop_assert!(states.iter().all(|state| state.last.epoch == 2));
                for (key, place) in expected.iter().enumerate() {
                    let says: Vec<u64> = states
                        .iter()
                        .filter(|state| state.range.contains(HashKey(key as u128)))
                        .map(|state| state.last.ordinal)
                        .collect();
                    prop_assert_eq!(&says, &[*place]);
                }
            }
        }
    }
}
