//! Copying records from one stream into another, each once, however often it is interrupted and run again.
//!
//! Each shard of the source is a named producer of the target: its name is made of the source's UUID and the shard, its
//! place is the index in that shard. What a run stored is found again from the target itself (see
//! [`super::producer::resume`]), so nothing is kept elsewhere, and a second run at the same time fences the first.
//! Parents are copied before their children, so records of one key keep their order.

use std::collections::BTreeSet;

use super::cursor::{Place, ShardCursor, Step};
use super::error::{Between, Error, InShard, Side};
use super::manifest::ShardInfo;
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
    /// A stretch of a shard is damaged; it is left out.
    Damage(ShardId, Damage),
}

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

/// Copies what the target does not have yet, up to where the source ends. `on` may end it with an error; what was
/// stored until then stays, and the next run goes on behind it.
pub fn copy(
    source: &mut Stream,
    target: &Stream,
    on: &mut dyn FnMut(Copying) -> std::io::Result<()>,
) -> Result<Copied, Between> {
    if source.manifest().stream_id == target.manifest().stream_id {
        return Err(Between::Source(Error::Invalid("source and target are one stream".to_owned())));
    }
    let (mut seen, mut done) = (BTreeSet::new(), BTreeSet::new());
    let mut sum = Copied::default();
    loop {
        source.reload().of_source()?;
        let manifest = source.manifest().clone();
        for info in &manifest.shards {
            // Parents have lower numbers, so within a pass they come first; one that was still open when it was read
            // is read again before its children.
            let waits = info
                .parents
                .iter()
                .any(|&parent| manifest.shard(ShardId(parent)).is_some() && !done.contains(&parent));
            if done.contains(&info.shard) || waits {
                continue;
            }
            if shard(source, target, info, &mut sum, on)? {
                done.insert(info.shard);
            }
            seen.insert(info.shard);
        }
        source.reload().of_source()?;
        if source.manifest().shards.iter().all(|info| seen.contains(&info.shard)) {
            return Ok(sum);
        }
    }
}

/// The producer's name of a shard of the source.
pub fn producer_name(source: &Stream, shard: ShardId) -> String {
    format!("copy-{}-{}", source.manifest().stream_id.simple(), shard.0)
}

/// Copies one shard as far as it goes; whether it has ended there.
fn shard(
    source: &Stream,
    target: &Stream,
    info: &ShardInfo,
    sum: &mut Copied,
    on: &mut dyn FnMut(Copying) -> std::io::Result<()>,
) -> Result<bool, Between> {
    let id = info.id();
    let log = source.log_dir(info);
    // What is stored elsewhere must not be lost here: up to this index it is on the disk. Damage in front of it is passed
    // as every reader passes it.
    let end = ShardCursor::open(source, info, Place::End).and_then(|mut cursor| {
        cursor.make_durable()?;
        Ok(cursor.next_index())
    });
    let end = match end {
        // It has expired.
        Err(_) if !source.system().disk.exists(&log.dir) => return Ok(true),
        other => other.of_source()?,
    };
    let stopped = |error| {
        Between::Source(Error::Io { doing: "copy", path: source.path().join(id.to_string()), source: error })
    };
    let mut producer = Producer::open(target.clone(), GROUP_DEFAULT, false).of_target()?;
    let resume = producer.claim(&producer_name(source, id)).of_target()?;
    let begin = resume.begin.0;
    let place = match source.manifest().horizon_us(source.system().clock.now_us()) {
        _ if begin > 0 => Place::Index(begin),
        Some(horizon_us) => Place::Time(horizon_us),
        None => Place::Start,
    };
    let mut cursor = ShardCursor::open(source, info, place).of_source()?;
    let limit = target.manifest().record_bytes_max;
    let ended = loop {
        let mut outcome = Ok(());
        let (mut records, mut bytes, mut beyond) = (0, 0, false);
        let step = cursor.step(&mut |frame, skip| {
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
                put(&mut producer, each, frame.header.end(), limit).of_target()
            });
        });
        let step = step.of_source()?;
        outcome?;
        match step {
            Step::Frame(()) if beyond => break false,
            Step::Frame(()) => on(Copying::Progress(records, bytes)).map_err(stopped)?,
            Step::Tail => break false,
            Step::End(_) => break true,
            Step::Damage(damage) => on(Copying::Damage(id, damage)).map_err(stopped)?,
            Step::Missed(missed) => on(Copying::Missed(id, missed)).map_err(stopped)?,
        }
    };
    producer.finish().of_target()?;
    let written = producer.written();
    sum.records += written.records;
    sum.bytes += written.bytes;
    sum.skipped += written.skipped;
    Ok(ended)
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
