//! Copying records from one stream into another, each once, however often it is interrupted and run again.
//!
//! Each shard of the source is a named producer of the target: its name is made of the source's UUID and the shard, its
//! place is the index in that shard. What a run stored is found again from the target itself (see
//! [`super::producer::resume`]), so nothing is kept elsewhere, and a second run at the same time fences the first. A run
//! that ends well leaves its place in the target, so that the next one knows that nothing is in doubt: it writes nothing
//! where there is nothing new, and what retention took from the source counts as missing only if it was not stored.
//! Parents are copied before their children, so records of one key keep their order.

use std::collections::{BTreeMap, BTreeSet};

use super::cursor::{Place, ShardCursor, Step};
use super::error::{Between, Error, InShard, Side};
use super::manifest::ShardInfo;
use super::producer::resume::{Resume, Stored, stored};
use super::producer::{GROUP_DEFAULT, Producer};
use super::{NewStream, Stream};
use crate::log::{Damage, Fresh, Missed};
use crate::record::ShardId;

/// What a copy did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Records stored.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that an earlier run had stored, as far as they were met again.
    pub skipped: u64,
}

/// What a copy tells while it goes on.
#[derive(Debug)]
pub enum Copying {
    /// This many more records and bytes were read.
    Progress(u64, u64),
    /// Records of a shard are gone.
    Missed(ShardId, Missed),
    /// A shard is gone of which all before this index was copied, and what came behind it, if anything did, was not.
    Gone(ShardId, u64),
    /// A stretch of a shard is damaged; it is left out.
    Damage(ShardId, Damage),
}

/// Told what happens. An error ends the copy.
pub type OnCopying<'a> = &'a mut dyn FnMut(Copying) -> std::io::Result<()>;

/// The settings of a stream, for another one like it.
pub fn like(source: &Stream) -> NewStream {
    let manifest = source.manifest();
    NewStream {
        shards: manifest.open_shards().len() as u32,
        compression: manifest.compression,
        record_bytes_max: manifest.record_bytes_max,
        retention_us: manifest.retention_us,
        retain_bytes: manifest.retain_bytes,
        segment_bytes: manifest.segment_bytes,
        segment_age_us: manifest.segment_age_us,
        ..NewStream::default()
    }
}

/// Shards of the source whose producers a copy that goes on keeps at work between its rounds.
const AT_WORK_MAX: usize = 16;

/// A copy of one stream into another. What was stored stays, however it ends, and a later one goes on behind it.
pub struct Copier<'a> {
    source: &'a mut Stream,
    target: &'a Stream,
    /// Up to which index everything is stored, and whether that is the shard's end, by the producer's name.
    stored: BTreeMap<String, Stored>,
    /// Shards of the source that have been copied to their ends.
    done: BTreeSet<u32>,
    at_work: BTreeMap<u32, Work>,
    sum: Copied,
}

/// A shard that is being copied.
struct Work {
    producer: Producer,
    cursor: ShardCursor,
}

impl<'a> Copier<'a> {
    /// A copy that has not begun. Where the target has everything nothing is written to it.
    pub fn open(source: &'a mut Stream, target: &'a Stream) -> Result<Self, Between> {
        if source.manifest().stream_id == target.manifest().stream_id {
            return Err(Between::Source(Error::Invalid("source and target are one stream".to_owned())));
        }
        let stored = stored(target).of_target()?;
        let (done, at_work) = (BTreeSet::new(), BTreeMap::new());
        Ok(Self { source, target, stored, done, at_work, sum: Copied::default() })
    }

    /// The stream that is copied, as of the last look.
    pub fn source(&self) -> &Stream {
        self.source
    }

    /// Copies what the target does not have yet, up to where the source ends. All of it is durable then. `on` may end it
    /// with an error.
    pub fn round(&mut self, on: OnCopying<'_>) -> Result<(), Between> {
        let mut seen = BTreeSet::new();
        loop {
            self.source.reload().of_source()?;
            let manifest = self.source.manifest().clone();
            for info in &manifest.shards {
                // Parents have lower numbers, so within a pass they come first; one that was still open when it was
                // read is read again before its children.
                let waits = info
                    .parents
                    .iter()
                    .any(|&parent| manifest.shard(ShardId(parent)).is_some() && !self.done.contains(&parent));
                if self.done.contains(&info.shard) || waits {
                    continue;
                }
                if self.shard(info, on)? {
                    self.done.insert(info.shard);
                    self.leave(info.shard)?;
                }
                seen.insert(info.shard);
            }
            self.source.reload().of_source()?;
            let known = |shard: &u32| self.done.contains(shard) || seen.contains(shard);
            if self.source.manifest().shards.iter().all(|info| known(&info.shard)) {
                return self.tell_gone(on);
            }
        }
    }

    /// Tells of shards that were copied in part and that the manifest has forgotten since, once.
    fn tell_gone(&mut self, on: OnCopying<'_>) -> Result<(), Between> {
        let prefix = producer_prefix(self.source);
        let unfinished: Vec<u32> = self
            .stored
            .iter()
            .filter(|(_, stored)| !stored.is_end)
            .filter_map(|(name, _)| name.strip_prefix(&prefix)?.parse().ok())
            .filter(|&shard| self.source.manifest().shard(ShardId(shard)).is_none())
            .collect();
        for shard in unfinished {
            let id = ShardId(shard);
            let name = producer_name(self.source, id);
            let place = self.stored.get(&name).copied().unwrap_or_default();
            if !self.done.contains(&shard) {
                on(Copying::Gone(id, place.begin)).map_err(|error| self.stopped(id, error))?;
            }
            self.stored.insert(name.clone(), Stored { is_end: true, ..place });
            if self.at_work.contains_key(&shard) {
                self.leave(shard)?;
            } else {
                let (mut producer, _) = self.claim(&name)?;
                producer.finish_at(Stored { is_end: true, ..place }).of_target()?;
            }
        }
        Ok(())
    }

    /// Ends it, and tells a later one how far this one has come.
    pub fn finish(mut self) -> Result<Copied, Between> {
        while let Some(&shard) = self.at_work.keys().next() {
            self.leave(shard)?;
        }
        Ok(self.sum)
    }

    fn leave(&mut self, shard: u32) -> Result<(), Between> {
        let Some(Work { mut producer, .. }) = self.at_work.remove(&shard) else { return Ok(()) };
        let name = producer_name(self.source, ShardId(shard));
        let end = self.stored.get(&name).copied().unwrap_or_default();
        producer.finish_at(end).of_target()
    }

    /// Copies one shard as far as it goes; whether it has ended there.
    fn shard(&mut self, info: &ShardInfo, on: OnCopying<'_>) -> Result<bool, Between> {
        let name = producer_name(self.source, info.id());
        let known = self.stored.get(&name).copied();
        let stored = known.unwrap_or_default().begin;
        // What is stored elsewhere must not be lost here: up to this index it is on the disk. Damage in front of it is
        // passed as every reader passes it.
        let end = ShardCursor::open(self.source, info, Place::End).and_then(|mut cursor| {
            let end = cursor.next_index();
            let over = matches!(cursor.step(&mut |_, _| ())?, Step::End(_));
            if end > stored {
                cursor.make_durable()?;
            }
            Ok((end, over))
        });
        let (end, over) = match end {
            Err(error) => return self.expired(info, stored, error, on),
            Ok(end) => end,
        };
        if end <= stored && (!over || known.is_none_or(|known| known.is_end)) {
            return Ok(over);
        }
        let mut work = match self.at_work.remove(&info.shard) {
            Some(work) => work,
            None => self.begin(info, &name)?,
        };
        let before = work.producer.written();
        let passed = self.pass(info, &mut work, end, on);
        let next = work.cursor.next_index();
        let ended = match passed {
            Err(Between::Source(error)) => self.expired(info, next, error, on)?,
            other => other?,
        };
        work.producer.sync_now().of_target()?;
        let after = work.producer.written();
        self.sum.records += after.records - before.records;
        self.sum.bytes += after.bytes - before.bytes;
        self.sum.skipped += after.skipped - before.skipped;
        // What was read beyond the end is read again.
        if next > end {
            work.cursor = ShardCursor::lazy(self.source, info, Place::Index(end));
        }
        self.stored.insert(name, Stored { begin: next.min(end).max(stored), is_end: ended });
        self.at_work.insert(info.shard, work);
        if self.at_work.len() > AT_WORK_MAX {
            self.leave(info.shard)?;
        }
        Ok(ended)
    }

    /// What a failure of a shard comes to: where the manifest has forgotten it, its records from `next` on are gone.
    fn expired(&self, info: &ShardInfo, next: u64, error: Error, on: OnCopying<'_>) -> Result<bool, Between> {
        let mut now = self.source.clone();
        now.reload().of_source()?;
        if now.manifest().shard(info.id()).is_some() {
            return Err(Between::Source(error));
        }
        let end = info.closed.as_ref().map_or(next, |closed| closed.next_index);
        if end > next {
            let missed = Missed { from: next, to: end, repaired: false };
            on(Copying::Missed(info.id(), missed)).map_err(|error| self.stopped(info.id(), error))?;
        }
        Ok(true)
    }

    fn stopped(&self, shard: ShardId, source: std::io::Error) -> Between {
        let path = self.source.path().join(shard.to_string());
        Between::Source(Error::Io { doing: "copy", path, source })
    }

    /// Takes over the producer of a shard.
    fn claim(&self, name: &str) -> Result<(Producer, Resume), Between> {
        let mut producer = Producer::open(self.target.clone(), GROUP_DEFAULT, false).of_target()?;
        let resume = producer.claim(name).of_target()?;
        Ok((producer, resume))
    }

    /// Takes over the producer of a shard, and goes to where it was.
    fn begin(&self, info: &ShardInfo, name: &str) -> Result<Work, Between> {
        let (producer, resume) = self.claim(name)?;
        // What has expired before any of it was copied was never to be copied. Later it is missing.
        let horizon_us = self.source.manifest().horizon_us(self.source.system().clock.now_us());
        let place = match horizon_us {
            _ if !resume.is_fresh() => Place::Index(resume.begin.0),
            Some(horizon_us) => Place::Time(horizon_us),
            None => Place::Start,
        };
        Ok(Work { producer, cursor: ShardCursor::lazy(self.source, info, place) })
    }

    /// Passes on what stands before `end`; whether the shard has ended there.
    fn pass(&self, info: &ShardInfo, work: &mut Work, end: u64, on: OnCopying<'_>) -> Result<bool, Between> {
        let id = info.id();
        let limit = self.target.manifest().record_bytes_max;
        loop {
            let mut outcome = Ok(());
            let (mut records, mut bytes, mut beyond) = (0, 0, false);
            let step = work.cursor.step(&mut |frame, skip| {
                let first = frame.header.first;
                if first >= end {
                    beyond = true;
                    return;
                }
                records = u64::from(frame.header.count) - skip as u64;
                bytes = frame.header.frame_bytes();
                outcome = frame.records().in_shard(id).of_source().and_then(|view| {
                    let each = view.iter().zip(first..).skip(skip).map(|(record, index)| {
                        let fresh = Fresh {
                            payload: record.payload,
                            key: record.key.map(str::as_bytes),
                            explicit_hash: record.explicit_hash,
                            timestamp_us: record.timestamp_us,
                            attributes: record.attributes,
                        };
                        (index, fresh)
                    });
                    put(&mut work.producer, each, frame.header.end(), limit).of_target()
                });
            });
            let step = step.of_source()?;
            outcome?;
            let told = match step {
                Step::Frame(()) if beyond => return Ok(false),
                Step::Frame(()) => Copying::Progress(records, bytes),
                Step::Tail => return Ok(false),
                Step::End(_) => return Ok(true),
                Step::Damage(damage) => Copying::Damage(id, damage),
                Step::Missed(missed) => Copying::Missed(id, missed),
            };
            on(told).map_err(|error| self.stopped(info.id(), error))?;
        }
    }
}

/// The producer's name of a shard of the source.
pub fn producer_name(source: &Stream, shard: ShardId) -> String {
    format!("{}{}", producer_prefix(source), shard.0)
}

fn producer_prefix(source: &Stream) -> String {
    format!("copy-{}-", source.manifest().stream_id.simple())
}

/// Puts the records of one frame, each with its index.
fn put<'a>(
    producer: &mut Producer,
    records: impl Iterator<Item = (u64, Fresh<'a>)>,
    end: u64,
    limit: u64,
) -> Result<(), Error> {
    producer.put_from(
        records.map(|(index, fresh)| {
            let bytes = (fresh.payload.len() + fresh.key.map_or(0, <[u8]>::len)) as u64;
            if bytes > limit {
                return Err(Error::Invalid(format!(
                    "the record at index {index} has {bytes} bytes, above the target's limit of {limit}"
                )));
            }
            Ok((index, fresh))
        }),
        end,
    )
}
