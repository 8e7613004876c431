//! Objects while they are open: records come in, each into the object of its partition, and finished objects go out.
//!
//! ```text
//! record ─► chunk of its object ─► Format::prepare, on any core ─► ObjectWriter::append, in order ─► finished: Parcel
//! ```
//!
//! The promise: of each object it is known how large it would be if it ended now, so that it ends at the size that was
//! asked for; and all of them together hold no more memory than was allowed, however many there are.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use super::chunk::{Chunk, Origin};
use super::failure::{BadRow, Failure};
use super::format::body::{Body, Scratch};
use super::format::{Format, ObjectWriter, Piece, Prepared};
use super::track::ObjectId;
use crate::record::ShardId;

/// A chunk is handed on at this size: large enough that the work on it outweighs handing it on, small enough that two
/// cores share an object of a few megabytes, and what an Arrow decoder does best with.
const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_ROWS: usize = 8192;
/// So many finished objects may wait for a destination, or as many as are open: they lie on the disk.
const WAITING_MAX: usize = 4;
/// Smaller ones where objects are small, or their ends would be missed.
const CHUNK_BYTES_MIN: usize = 32 << 10;
/// And where so many objects are open that their chunks would not find room. Below this the work of handing one on
/// outweighs that on it.
const CHUNK_BYTES_LEAST: usize = 4 << 10;

/// When objects end.
#[derive(Debug, Clone, Copy)]
pub struct Hints {
    /// At this many bytes, as they are delivered.
    pub size: u64,
    /// At this age.
    pub interval: Duration,
    /// So many objects may be open.
    pub partitions_max: usize,
    /// So many bytes of memory may be in use for all of them.
    pub memory_max: u64,
}

/// A record that failed, with why.
pub struct FailedRecord {
    /// Where it came from.
    pub origin: Origin,
    /// Its data.
    pub data: Vec<u8>,
    /// Its partition key.
    pub key: Option<Box<str>>,
    /// Why.
    pub failure: Failure,
    /// What the service has beside that in its failed records for a destination.
    pub details: Vec<(&'static str, String)>,
}

/// By shard number: the first and the last index, and how many records.
pub type Extents = BTreeMap<u32, (u64, u64, u64)>;

/// Counts a record among those of its shard: first and last index, and how many.
pub fn extend(shards: &mut Extents, origin: &Origin) {
    let extent = shards.entry(origin.shard.0).or_insert((origin.index, origin.index, 0));
    extent.0 = extent.0.min(origin.index);
    extent.1 = extent.1.max(origin.index);
    extent.2 += 1;
}

/// What stands for a partition, given by whoever names objects.
pub type PartitionKey = Arc<str>;

/// One open object.
struct Open {
    partition: PartitionKey,
    chunk: Chunk,
    /// What is written of it. Where the columns change in its middle it becomes several objects, which are delivered
    /// together.
    parts: Vec<Part>,
    /// Bytes of data that its last part has taken, and those that are on their way to it.
    appended: u64,
    in_flight: u64,
    opened: Instant,
    oldest_us: i64,
    failed: Vec<FailedRecord>,
    memory: u64,
}

impl Open {
    fn memory(&self) -> u64 {
        let writers = self.parts.iter().filter_map(|part| part.writer.as_ref());
        writers.map(|writer| writer.memory()).sum()
    }
}

/// What is written into one object.
struct Part {
    writer: Option<Box<dyn ObjectWriter>>,
    kept: Vec<Chunk>,
    records: u64,
    oldest_us: i64,
    first: Origin,
    shards: Extents,
}

impl Part {
    fn new(chunk: &Chunk) -> Option<Self> {
        let first = chunk.runs.first()?.first;
        Some(Self {
            writer: None,
            kept: Vec::new(),
            records: 0,
            oldest_us: first.arrival_us,
            first,
            shards: Extents::new(),
        })
    }

    /// Counts the records of a chunk, without those that its format would not take.
    fn count(&mut self, chunk: &Chunk, bad: &[Origin]) {
        for run in &chunk.runs {
            let (first, rows) = (run.first, u64::from(run.rows));
            let last = if first.sub.is_some() { first.index } else { first.index + rows - 1 };
            let extent = self.shards.entry(first.shard.0).or_insert((first.index, last, 0));
            extent.0 = extent.0.min(first.index);
            extent.1 = extent.1.max(last);
            extent.2 += rows;
            self.records += rows;
            self.oldest_us = self.oldest_us.min(first.arrival_us);
        }
        for origin in bad {
            if let Some(extent) = self.shards.get_mut(&origin.shard.0) {
                extent.2 -= 1;
            }
            self.records -= 1;
        }
    }
}

/// A finished object.
pub struct Finished {
    /// Its partition.
    pub partition: PartitionKey,
    /// Its bytes; none where records are delivered as they are.
    pub body: Body,
    /// Its records, where these are delivered.
    pub chunks: Vec<Chunk>,
    /// How many records are in it.
    pub records: u64,
    /// When the oldest arrived.
    pub oldest_us: i64,
    /// The first record.
    pub first: Origin,
    /// By shard: first and last index, and how many records.
    pub shards: Extents,
}

struct InFlight {
    id: ObjectId,
    bytes: u64,
    done: Receiver<(Chunk, Prepared)>,
}

/// Tells what an object of a partition is to carry, by the records in it.
pub type Notes<'a> = dyn Fn(&PartitionKey, &Extents) -> Vec<(String, String)> + 'a;

/// All open objects.
pub struct Gather {
    format: Option<Arc<dyn Format>>,
    hints: Hints,
    scratch: Scratch,
    pool: Arc<rayon::ThreadPool>,
    /// So many chunks may be on their way.
    in_flight_max: usize,
    in_flight: VecDeque<InFlight>,
    open: BTreeMap<ObjectId, Open>,
    by_partition: HashMap<PartitionKey, ObjectId>,
    /// Objects in the order in which they were opened, those included that have ended since.
    order: VecDeque<ObjectId>,
    /// The partition of the last record, and its object.
    last: Option<(PartitionKey, ObjectId)>,
    /// Objects that end with the next batch: no record goes into them any more.
    closed: BTreeSet<ObjectId>,
    next: u64,
    memory: u64,
    spare: Vec<Chunk>,
}

thread_local! {
    /// A thread cannot leave a pool that it has joined.
    static POOL: RefCell<Option<Arc<rayon::ThreadPool>>> = const { RefCell::new(None) };
}

/// A pool with a thread for each core, of which this thread is one: it reads, and wherever it would wait for the others
/// it works with them. With as many threads beside it, cores were idle for a quarter of the time.
fn pool() -> anyhow::Result<Arc<rayon::ThreadPool>> {
    POOL.with_borrow_mut(|kept| {
        if let Some(pool) = kept {
            return Ok(Arc::clone(pool));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(cores)
            .use_current_thread()
            .thread_name(|i| format!("khose-{i}"))
            .build()?;
        Ok(Arc::clone(kept.insert(Arc::new(pool))))
    })
}

impl Gather {
    /// Objects of `format`, or of records as they are.
    pub fn new(format: Option<Arc<dyn Format>>, hints: Hints, scratch: Scratch) -> anyhow::Result<Self> {
        let pool = pool()?;
        Ok(Self {
            format,
            hints,
            scratch,
            in_flight_max: 2 * pool.current_num_threads() + 2,
            pool,
            in_flight: VecDeque::new(),
            open: BTreeMap::new(),
            by_partition: HashMap::new(),
            order: VecDeque::new(),
            last: None,
            closed: BTreeSet::new(),
            next: 1,
            memory: 0,
            spare: Vec::new(),
        })
    }

    /// The object that is open for a partition; one is opened where there is none.
    pub fn object(&mut self, partition: &PartitionKey, origin: &Origin) -> ObjectId {
        if let Some((same, id)) = &self.last
            && Arc::ptr_eq(same, partition)
        {
            return *id;
        }
        if let Some(&id) = self.by_partition.get(partition) {
            self.last = Some((Arc::clone(partition), id));
            return id;
        }
        let id = ObjectId(self.next);
        self.next += 1;
        let open = Open {
            partition: Arc::clone(partition),
            chunk: self.spare.pop().unwrap_or_default(),
            parts: Vec::new(),
            appended: 0,
            in_flight: 0,
            opened: Instant::now(),
            oldest_us: origin.arrival_us,
            failed: Vec::new(),
            memory: 0,
        };
        self.open.insert(id, open);
        self.by_partition.insert(Arc::clone(partition), id);
        self.order.push_back(id);
        while self.by_partition.len() > self.hints.partitions_max {
            let Some(oldest) = self.order.pop_front() else { break };
            self.end(oldest);
        }
        id
    }

    /// Puts a record into an object. Answers whether the object is full with it.
    pub fn put(&mut self, id: ObjectId, origin: &Origin, payload: &[u8]) -> anyhow::Result<()> {
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        open.chunk.push(*origin, payload);
        open.oldest_us = open.oldest_us.min(origin.arrival_us);
        let chunk_bytes = open.chunk.bytes.len();
        if chunk_bytes >= CHUNK_BYTES || open.chunk.len() >= CHUNK_ROWS || chunk_bytes >= self.chunk_bytes() {
            self.hand_on(id)?;
            self.end_if_full(id);
        }
        Ok(())
    }

    /// How large a chunk may become: of a small object no more than a part of it, or its end would be missed; and those
    /// of all objects no more than half of the memory.
    fn chunk_bytes(&self) -> usize {
        let of_object = ((self.hints.size / 16) as usize).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES);
        let of_memory = self.hints.memory_max as usize / 2 / self.open.len().max(1);
        of_object.min(of_memory.max(CHUNK_BYTES_LEAST))
    }

    /// Gives the chunk of an object to a core.
    fn hand_on(&mut self, id: ObjectId) -> anyhow::Result<()> {
        let spare = self.spare.pop().unwrap_or_default();
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        if open.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut open.chunk, spare);
        let bytes = chunk.bytes.len() as u64;
        let Some(format) = &self.format else {
            open.appended += bytes;
            open.memory += bytes;
            self.memory += bytes;
            if open.parts.is_empty() {
                open.parts.extend(Part::new(&chunk));
            }
            if let Some(part) = open.parts.last_mut() {
                part.count(&chunk, &[]);
                part.kept.push(chunk);
            }
            return Ok(());
        };
        open.in_flight += bytes;
        let (sender, done) = sync_channel(1);
        let format = Arc::clone(format);
        self.pool.spawn_fifo(move || {
            let prepared = format.prepare(&chunk);
            let _ = sender.send((chunk, prepared));
        });
        self.in_flight.push_back(InFlight { id, bytes, done });
        while self.in_flight.len() > self.in_flight_max {
            self.take_oldest()?;
        }
        Ok(())
    }

    /// Appends the oldest chunk that is on its way to its object.
    fn take_oldest(&mut self) -> anyhow::Result<()> {
        let Some(flight) = self.in_flight.pop_front() else { return Ok(()) };
        let (mut chunk, prepared) = self.wait_for(&flight.done)?;
        let Some(open) = self.open.get_mut(&flight.id) else { return Ok(()) };
        open.in_flight -= flight.bytes;
        open.appended += flight.bytes;
        let mut bad = Vec::new();
        for BadRow { row, failure } in prepared.bad {
            let Some(origin) = chunk.origin(row) else { continue };
            let data = chunk.payload(row).to_vec();
            bad.push(origin);
            open.failed.push(FailedRecord { origin, data, key: None, failure, details: Vec::new() });
        }
        if prepared.rows > 0 {
            let format = self.format.as_ref().expect("only a format prepares");
            let mut piece: Piece = prepared.piece;
            loop {
                if open.parts.is_empty() {
                    open.parts.extend(Part::new(&chunk));
                }
                let Some(part) = open.parts.last_mut() else { break };
                let writer = match &mut part.writer {
                    Some(writer) => writer,
                    none => none.insert(format.open(&self.scratch)?),
                };
                match self.pool.install(|| writer.append(piece))? {
                    None => {
                        part.count(&chunk, &bad);
                        break;
                    }
                    // Its columns are others by now.
                    Some(back) => {
                        anyhow::ensure!(part.records > 0, "a new object would not take its first records");
                        piece = back;
                        open.appended = flight.bytes;
                        open.parts.extend(Part::new(&chunk));
                    }
                }
            }
            let memory = open.memory();
            self.memory = self.memory + memory - open.memory;
            open.memory = memory;
        }
        chunk.bytes.clear();
        chunk.ends.clear();
        chunk.runs.clear();
        if self.spare.len() < self.in_flight_max {
            self.spare.push(chunk);
        }
        self.end_if_full(flight.id);
        self.keep_within_memory()
    }

    /// Waits for a chunk, and works on others meanwhile.
    fn wait_for(&self, done: &Receiver<(Chunk, Prepared)>) -> anyhow::Result<(Chunk, Prepared)> {
        loop {
            if let Ok(found) = done.try_recv() {
                return Ok(found);
            }
            if self.pool.yield_now() != Some(rayon::Yield::Executed) {
                // All that is left is in work on another thread.
                return done.recv().map_err(|_| anyhow::anyhow!("a thread that converts records has failed"));
            }
        }
    }

    /// About how large an object will be with all that is on its way to it.
    fn size(open: &Open) -> u64 {
        let coming = open.in_flight + open.chunk.bytes.len() as u64;
        let Some(part) = open.parts.last() else { return 0 };
        match &part.writer {
            Some(writer) if open.appended > 0 => {
                let size = writer.size();
                size + (coming as f64 * size as f64 / open.appended as f64) as u64
            }
            // Nothing is known yet of how it shrinks.
            Some(_) => 0,
            None => open.appended + coming,
        }
    }

    fn end_if_full(&mut self, id: ObjectId) {
        let Some(open) = self.open.get(&id) else { return };
        if Self::size(open) >= self.hints.size {
            self.end(id);
        }
    }

    /// No record goes into this object any more.
    pub fn end(&mut self, id: ObjectId) {
        if let Some(open) = self.open.get(&id)
            && self.closed.insert(id)
            && self.by_partition.get(&open.partition) == Some(&id)
        {
            self.by_partition.remove(&open.partition);
            self.last = None;
        }
    }

    fn keep_within_memory(&mut self) -> anyhow::Result<()> {
        if self.memory <= self.hints.memory_max {
            return Ok(());
        }
        let Some(id) = self.open.iter().max_by_key(|(_, open)| open.memory).map(|(&id, _)| id) else {
            return Ok(());
        };
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        let before = open.memory;
        if let Some(writer) = open.parts.last_mut().and_then(|part| part.writer.as_mut()) {
            self.pool.install(|| writer.shrink())?;
            open.memory = open.memory();
            self.memory = self.memory + open.memory - before;
        }
        if open.memory >= before {
            self.end(id);
        }
        Ok(())
    }

    /// Ends what is old. Answers whether a batch is due.
    pub fn end_due(&mut self) -> bool {
        let now = Instant::now();
        let interval = self.hints.interval;
        let old: Vec<ObjectId> = self
            .by_partition
            .values()
            .copied()
            .filter(|id| self.open.get(id).is_some_and(|open| now - open.opened >= interval))
            .collect();
        for id in old {
            self.end(id);
        }
        while self.order.front().is_some_and(|id| !self.open.contains_key(id) || self.closed.contains(id)) {
            self.order.pop_front();
        }
        !self.closed.is_empty()
    }

    /// When the next object is old.
    pub fn next_due(&self) -> Option<Duration> {
        let opened =
            self.by_partition.values().filter_map(|id| self.open.get(id)).map(|open| open.opened).min()?;
        Some((opened + self.hints.interval).saturating_duration_since(Instant::now()))
    }

    /// Ends all.
    pub fn end_all(&mut self) {
        let all: Vec<ObjectId> = self.by_partition.values().copied().collect();
        for id in all {
            self.end(id);
        }
    }

    /// How many objects take records.
    pub fn partitions(&self) -> usize {
        self.by_partition.len()
    }

    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether what waits to be delivered is so much that no more should be read.
    pub fn is_crowded(&self) -> bool {
        let waiting = self.closed.len();
        waiting >= self.by_partition.len().max(WAITING_MAX) || self.memory > 2 * self.hints.memory_max
    }

    /// The objects that have ended.
    pub fn ended(&self) -> &BTreeSet<ObjectId> {
        &self.closed
    }

    /// When the oldest record arrived that is in no batch yet, microseconds since the epoch.
    pub fn oldest_us(&self) -> Option<i64> {
        self.open.values().map(|open| open.oldest_us).min()
    }

    /// An object with nothing in it.
    pub fn empty(&self, name: &str) -> anyhow::Result<Finished> {
        let body = match &self.format {
            Some(format) => format.open(&self.scratch)?.finish(&[])?,
            None => Body::from(Vec::new()),
        };
        let first = Origin { shard: ShardId(0), shard_created_s: 0, index: 0, sub: None, arrival_us: 0 };
        Ok(Finished {
            partition: Arc::from(name),
            body,
            chunks: Vec::new(),
            records: 0,
            oldest_us: 0,
            first,
            shards: Extents::new(),
        })
    }

    /// Finishes these objects, and answers also which of their records their format would not take. `notes` says what each is to carry.
    pub fn finish(
        &mut self,
        ids: &BTreeSet<ObjectId>,
        notes: &Notes<'_>,
    ) -> anyhow::Result<(Vec<Finished>, Vec<FailedRecord>)> {
        for &id in ids {
            self.end(id);
            self.hand_on(id)?;
        }
        while self.in_flight.iter().any(|flight| ids.contains(&flight.id)) {
            self.take_oldest()?;
        }
        let (mut objects, mut failed) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(open) = self.open.remove(id) else { continue };
            self.closed.remove(id);
            self.memory -= open.memory;
            for part in open.parts {
                let body = match part.writer {
                    Some(writer) => {
                        let notes = notes(&open.partition, &part.shards);
                        self.pool.install(|| writer.finish(&notes))?
                    }
                    None => Body::from(Vec::new()),
                };
                objects.push(Finished {
                    partition: Arc::clone(&open.partition),
                    body,
                    chunks: part.kept,
                    records: part.records,
                    oldest_us: part.oldest_us,
                    first: part.first,
                    shards: part.shards,
                });
            }
            failed.extend(open.failed);
        }
        Ok((objects, failed))
    }
}
