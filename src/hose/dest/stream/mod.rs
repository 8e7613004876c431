//! Another stream: records with their keys, explicit hash keys, attributes and producers' timestamps.
//!
//! The promise: *exactly once*. All batches of a delivery are put by one named producer (see
//! [`crate::stream::producer::resume`]), whose marks are the batches: a run that is killed in the middle of a batch is
//! followed by one that leaves out what is stored of it and puts the rest. Records of one key keep their order.
//!
//! What counts as the same record is its place in the batch when all are sorted by shard, index and part, so it does not
//! matter in which order or in which chunks the batch comes. A mark has a hash of these places. Where it differs, a
//! transformation has given other records when it was done again: which of those are stored cannot be told, and so that
//! none is lost, that one batch is stored once more behind what is there.

mod details;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

pub use details::{Detail, DetailError, Details, NoDetails, SourceDetails};

use super::metrics::Metrics;
use super::patience::{LeftOut, Patience};
use super::postgres::fault::Fault;
use super::{Batch, DeliveryError, Destination, Refused, RetryPolicy, SetupError};
use crate::hose::cancel::Cancel;
use crate::hose::chunk::{Chunk, Run};
use crate::hose::failure::{ErrorType, Failure};
use crate::record::{Records, Span};
use crate::stream::producer::resume::Resume;
use crate::stream::producer::{GROUP_DEFAULT, Producer};
use crate::stream::{Error, Stream};
use crate::sys::failpoint::failpoint;

/// After so many bytes of records others on this thread get their turn, and a run may be interrupted.
const TURN_BYTES: usize = 1 << 20;

/// A disk that takes longer than this for a batch hangs.
const ATTEMPT_LIMIT: Duration = Duration::from_hours(1);

/// How records are put.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// The delivery's name: its producer is called `hose-NAME`.
    pub delivery: String,
    /// How long it is tried.
    pub retry: RetryPolicy,
    /// Asks it to finish.
    pub cancel: Cancel,
}

/// A stream that records are put into.
pub struct ToStream {
    target: Stream,
    options: StreamOptions,
    details: Box<dyn Details>,
    /// At work, with nothing in hand.
    work: Option<Work>,
    metrics: Arc<Metrics>,
}

/// A producer that holds the delivery's name.
struct Work {
    producer: Producer,
    stand: Stand,
}

/// How far the producer has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stand {
    /// The last batch that is stored whole.
    whole: Option<Mark>,
    /// The last of which anything may be stored.
    last: Option<Mark>,
    /// Behind it: how many records, by the producer's count.
    end: u64,
}

/// A batch as the producer's frames name it: `NUMBER ID HASH BASE`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    number: u64,
    id: Uuid,
    /// Of the places of all its records.
    hash: u64,
    /// How many records the producer had counted before it.
    base: u64,
}

impl Mark {
    fn line(&self) -> String {
        format!("{} {} {:016x} {}", self.number, self.id.simple(), self.hash, self.base)
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        let mark = Self {
            number: words.next()?.parse().ok()?,
            id: Uuid::parse_str(words.next()?).ok()?,
            hash: u64::from_str_radix(words.next()?, 16).ok()?,
            base: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(mark)
    }
}

/// What is to be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Todo {
    /// It is stored.
    Nothing,
    /// Put it, counting from here; what is stored of it is left out.
    Put {
        /// Records before it.
        base: u64,
    },
}

impl Stand {
    fn of(resume: &Resume) -> Option<Self> {
        let mark = |(ordinal, line): &(u64, Vec<u8>)| match (line.is_empty(), ordinal) {
            (true, 0) => Some(None),
            (true, _) => None,
            (false, _) => Mark::parse(line).map(Some),
        };
        Some(Self { whole: mark(&resume.begin)?, last: mark(&resume.end)?, end: resume.end.0 })
    }

    fn todo(&self, batch: &Batch, hash: u64) -> Result<Todo, String> {
        let number = batch.number;
        let is_it = |mark: &&Mark| mark.number == number;
        match (self.whole.as_ref().filter(is_it), &self.last) {
            (Some(mark), _) if mark.id == batch.id => Ok(Todo::Nothing),
            (Some(_), _) => {
                Err(format!("batch {number} was another one: another delivery has the same name"))
            }
            (None, Some(last)) if last.number == number => {
                if last.id != batch.id {
                    Err(format!("batch {number} was another one: another delivery has the same name"))
                } else if last.hash == hash {
                    Ok(Todo::Put { base: last.base })
                } else {
                    Ok(Todo::Put { base: self.end })
                }
            }
            (None, Some(last)) if last.number > number => Err(format!(
                "the delivery has come to batch {}, and this is batch {number}: another delivery has the same name, or what \
                 this one knew of itself is gone",
                last.number
            )),
            _ => Ok(Todo::Put { base: self.end }),
        }
    }
}

/// A run of a batch: which parcel, which of its chunks, its first row there.
struct Stretch<'a> {
    place: (usize, usize, usize),
    chunk: &'a Chunk,
    run: &'a Run,
}

/// All runs of a batch, by shard, index and part: parents have lower numbers than their children.
fn stretches(batch: &Batch) -> Vec<Stretch<'_>> {
    let mut all = Vec::new();
    for (p, parcel) in batch.parcels.iter().enumerate() {
        for (c, chunk) in parcel.chunks.iter().enumerate() {
            let mut row = 0;
            for run in &chunk.runs {
                all.push(Stretch { place: (p, c, row), chunk, run });
                row += run.rows as usize;
            }
        }
    }
    all.sort_by_key(|it| (it.run.first.shard, it.run.first.index, it.run.first.sub));
    all
}

/// A hash of the places of these records, however they are cut.
fn hash_of(stretches: &[Stretch<'_>]) -> u64 {
    let mut hash = Xxh3::new();
    let mut line = String::new();
    // Where the records go on that were met last: the same hash comes of one run and of its halves.
    let mut open: Option<(u32, u64, Option<u64>)> = None;
    for Run { first, rows } in stretches.iter().map(|it| it.run) {
        let start = (first.shard.0, first.index, first.sub);
        if open != Some(start) {
            line.clear();
            let end = open.map_or(String::new(), |(_, index, sub)| format!("-{index}/{sub:?}"));
            let _ = write!(line, "{end};{}/{}/{:?}", start.0, start.1, start.2);
            hash.update(line.as_bytes());
        }
        let rows = u64::from(*rows);
        open = Some(match first.sub {
            Some(sub) => (start.0, start.1, Some(sub + rows)),
            None => (start.0, start.1 + rows, None),
        });
    }
    hash.update(format!("{open:?}").as_bytes());
    hash.digest()
}

impl ToStream {
    /// Puts records into `target`. `source` is the stream that they come from, if it is one.
    pub fn new(
        target: Stream,
        source: Option<&Stream>,
        options: StreamOptions,
        details: Box<dyn Details>,
    ) -> Result<Self, SetupError> {
        if source.is_some_and(|source| source.manifest().stream_id == target.manifest().stream_id) {
            return Err(SetupError("a stream that is delivered into itself never ends".to_owned()));
        }
        let metrics = Arc::new(Metrics::new("DeliveryToStream"));
        Ok(Self { target, options, details, work: None, metrics })
    }

    fn claim(&self) -> Result<Work, Fault> {
        let name = format!("hose-{}", self.options.delivery);
        let mut target = self.target.clone();
        target.reload().map_err(|error| fault(&error))?;
        let mut producer = Producer::open(target, GROUP_DEFAULT, false).map_err(|error| fault(&error))?;
        let resume = producer.claim(&name).map_err(|error| fault(&error))?;
        let stand = Stand::of(&resume).ok_or_else(|| {
            Fault::Permanent(format!("producer `{name}` is not a delivery's: choose another name"))
        })?;
        Ok(Work { producer, stand })
    }

    async fn attempt(&mut self, batch: &Batch) -> Result<Vec<LeftOut>, Fault> {
        // It is put back only with nothing in hand: whoever drops this future drops what was gathered, as a kill would.
        let mut work = match self.work.take() {
            Some(work) => work,
            None => self.claim()?,
        };
        let stretches = stretches(batch);
        let rows: u64 = stretches.iter().map(|it| u64::from(it.run.rows)).sum();
        let hash = hash_of(&stretches);
        let todo = work
            .stand
            .todo(batch, hash)
            .map_err(|why| Fault::Permanent(format!("stream {}: {why}", self.target.path().display())))?;
        let base = match todo {
            // What is too large is found again.
            Todo::Nothing => None,
            Todo::Put { base } => Some(base),
        };
        let mark = Mark { number: batch.number, id: batch.id, hash, base: base.unwrap_or_default() };
        if let Some(base) = base.filter(|_| rows > 0) {
            // Only the last place counts here.
            let whole = Records { positions: vec![base + rows - 1], ..Records::default() };
            work.producer.begin_marked(&whole, mark.line().as_bytes());
        }
        let left_out = self.put(&mut work.producer, &stretches, base).await?;
        if let Some(base) = base.filter(|_| rows > 0) {
            work.producer.end_marked();
            failpoint("stream.put");
            work.producer.sync_now().map_err(|error| fault(&error))?;
            work.stand = Stand { whole: Some(mark.clone()), last: Some(mark), end: base + rows };
            failpoint("stream.synced");
        }
        self.work = Some(work);
        Ok(left_out)
    }

    /// Puts the records, counted from `base`, or only looks which would be refused.
    async fn put(
        &mut self,
        producer: &mut Producer,
        stretches: &[Stretch<'_>],
        base: Option<u64>,
    ) -> Result<Vec<LeftOut>, Fault> {
        let limit = producer.stream().manifest().record_bytes_max;
        let mut left_out = Vec::new();
        let mut details: Vec<Detail> = Vec::new();
        let mut records = Records { payload_in_arena: false, ..Records::default() };
        let (mut count, mut bytes) = (0, 0);
        for Stretch { place: (p, c, first), chunk, run } in stretches {
            if base.is_none() && !is_near(chunk, *first, run.rows, limit) {
                count += u64::from(run.rows);
                continue;
            }
            details.clear();
            self.details.of(run, &mut details).map_err(|error| match error {
                DetailError::Gone { .. } => Fault::Permanent(error.to_string()),
                DetailError::Source(error) => fault(&error).map(|message| format!("source: {message}")),
            })?;
            records.clear();
            records.key_in_arena = true;
            for (row, detail) in (*first..).zip(details.drain(..)) {
                let end = chunk.ends[row] as usize;
                let start = if row == 0 { 0 } else { chunk.ends[row - 1] as usize + 1 };
                let size = (end - start + detail.key.as_ref().map_or(0, |key| key.len())) as u64;
                let position = count;
                count += 1;
                bytes += end - start;
                if size > limit {
                    left_out.push(LeftOut { place: (*p, *c, row), failure: too_large(size, limit) });
                    continue;
                }
                let Some(base) = base else { continue };
                records.payloads.push(Span::new(start, end));
                records.ends.push(end as u32);
                records.keys.push(match &detail.key {
                    Some(key) => {
                        let at = records.arena.len();
                        records.arena.extend_from_slice(key.as_bytes());
                        Span::new(at, at + key.len())
                    }
                    None => Span::NONE,
                });
                records.hashes.push(detail.explicit_hash);
                records.timestamps.push(detail.timestamp_us);
                records.attributes.push(detail.attributes);
                records.positions.push(base + position);
            }
            if !records.is_empty() {
                let all = 0..records.len();
                producer.put_part(&chunk.bytes, &records, all).map_err(|error| fault(&error))?;
            }
            if bytes >= TURN_BYTES {
                bytes = 0;
                tokio::task::yield_now().await;
            }
        }
        left_out.sort_by_key(|row| row.place);
        Ok(left_out)
    }
}

/// Keys have up to 256 characters of up to four bytes.
const KEY_BYTES_MAX: u64 = 1024;

/// Whether one of these rows may be above the limit with its key.
fn is_near(chunk: &Chunk, first: usize, rows: u32, limit: u64) -> bool {
    (first..first + rows as usize).any(|row| chunk.payload(row).len() as u64 + KEY_BYTES_MAX > limit)
}

fn too_large(size: u64, limit: u64) -> Failure {
    Failure::new(
        ErrorType::Stream,
        "Stream.RecordTooLarge",
        format!("{size} bytes with its key, above the stream's limit of {limit}"),
    )
}

fn fault(error: &Error) -> Fault {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let _ = write!(message, ": {inner}");
        source = inner.source();
    }
    if error.is_passing() { Fault::Transient(message) } else { Fault::Permanent(message) }
}

impl Destination for ToStream {
    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Refused>, DeliveryError>> {
        async move {
            let (cancel, metrics) = (self.options.cancel.clone(), Arc::clone(&self.metrics));
            let clock = Arc::clone(&self.target.system().clock);
            super::rows::check(batch)?;
            let mut patience = Patience::new(batch, self.options.retry, &cancel, &metrics);
            loop {
                match patience.attempt(ATTEMPT_LIMIT, self.attempt(batch)).await? {
                    Ok(left_out) => return Ok(patience.done(left_out, clock.now_us())),
                    Err(fault) => patience.after(fault).await?,
                }
            }
        }
        .boxed()
    }

    fn metrics(&self) -> Option<Arc<Metrics>> {
        Some(Arc::clone(&self.metrics))
    }
}

impl Drop for ToStream {
    fn drop(&mut self) {
        // A clean end, and a place for the next run. Without it that one has a little more to look at.
        if let Some(mut work) = self.work.take() {
            let _ = work.producer.finish();
        }
    }
}

#[cfg(test)]
mod tests;
