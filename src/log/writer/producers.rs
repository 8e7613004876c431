//! Where named producers stand in this log (promise 10), and the fence between their runs.

use std::collections::BTreeMap;

use super::super::error::Error;
use super::super::frame::control::{decode_producers, decode_provenance, encode_producers};
use super::super::frame::{HEADER_BYTES, Kind, ProducerState};
use super::super::recover::Tail;
use super::super::segment::{At, Segment, Walk};
use super::{Claim, Writer};
use crate::hash::HashRange;
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
    let mut walk = Walk::new(segment, len);
    let mut stored = Vec::new();
    // From the back: what is said last counts, and only that must be verified.
    for offset in offsets.into_iter().rev() {
        let mut told = Producers::new();
        let learned = learn(segment, &mut walk, offset, range, &mut told);
        if learned.is_ok() && told.keys().all(|producer| producers.contains_key(producer)) {
            continue;
        }
        let At::Frame(header, crc) = walk.at(offset)? else { continue };
        if !segment.stored(offset, &header, crc, &mut stored)? {
            let reason = "what it tells of producers does not hold";
            return Err(Error::Damaged { path: segment.path.clone(), offset, reason });
        }
        learned?;
        for (producer, states) in told {
            producers.entry(producer).or_insert(states);
        }
    }
    Ok(producers)
}

/// Takes in what one frame tells of producers.
pub(super) fn learn(
    segment: &Segment,
    walk: &mut Walk<'_>,
    offset: u64,
    range: HashRange,
    producers: &mut Producers,
) -> Result<(), Error> {
    let damaged = |reason| Error::Damaged { path: segment.path.clone(), offset, reason };
    let At::Frame(header, _) = walk.at(offset)? else { return Err(damaged("a frame has gone")) };
    let at = offset + HEADER_BYTES as u64;
    if header.kind == Kind::Producers {
        let body = walk.bytes(at, header.stored_bytes as usize)?;
        let states = decode_producers(body).ok_or_else(|| damaged("the list of producers does not hold"))?;
        // The list says all there is to say about each producer that it names.
        for state in &states {
            producers.remove(&state.last.producer);
        }
        for state in states {
            producers.entry(state.last.producer.clone()).or_default().push(state);
        }
    } else {
        let bytes = walk.bytes(at, usize::from(header.provenance_bytes))?;
        let last = decode_provenance(bytes).ok_or_else(|| damaged("the provenance does not hold"))?;
        note(producers, &last, header.arrival_us, range);
    }
    Ok(())
}

/// A producer's batch says where it stands in the whole range of the log that took it.
pub(super) fn note(producers: &mut Producers, last: &Provenance, arrival_us: i64, range: HashRange) {
    producers.insert(last.producer.clone(), vec![ProducerState { range, last: last.clone(), arrival_us }]);
}
