//! The thread that delivers: the one place where asynchronous code is run.
//!
//! ```text
//! plan written ─► objects delivered ─► failed records written ─► commit written ─► told
//! ```
//!
//! The promise: what is told as delivered has a commit. One batch is on its way at a time, so that commits follow one
//! another; meanwhile the next is gathered. A batch that is given up, or whose process is killed, leaves its plan, and
//! whoever comes next does it again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::cancel::Cancel;
use super::dest::{Batch, DeliveryError, Destination};
use super::errors::ErrorLines;
use super::failure::{ErrorType, Failure};
use super::format::body::Body;
use super::gather::{Extents, FailedRecord, extend};
use super::ledger::{Entry, Ledger, LedgerError, ObjectNote, Totals};
use super::name::NameError;
use super::naming::ErrorNames;
use super::store::{Attributes, PutMode, Store, StoreError};
use super::track::ObjectId;
use crate::sys::System;
use crate::sys::failpoint::failpoint;

/// Who delivers for ever waits so long before a batch that could not be delivered is tried again: the destination has
/// had its own retries by then.
const AGAIN: Duration = Duration::from_secs(30);

/// A batch on its way.
pub struct Shipment {
    /// The objects of it, as the tracker knows them.
    pub ids: BTreeSet<ObjectId>,
    /// The plan, which becomes the commit.
    pub entry: Entry,
    /// What is delivered.
    pub batch: Batch,
    /// Records that failed on the way here.
    pub failed: Vec<FailedRecord>,
    /// When the oldest of all arrived: the names of the error output follow from it.
    pub oldest_us: i64,
    /// What an earlier run planned for these records.
    pub before: Option<Entry>,
    /// Records of it are gone from the stream.
    pub is_cut: bool,
    /// A file to be kept beside the ledger before anything else: its name and its bytes.
    pub keep: Option<(String, Vec<u8>)>,
    /// Copies of what was read for it, and how many records they are of.
    pub backup: Option<(Body, u64)>,
}

/// Why a batch was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum CourierError {
    /// The destination would not, or not now.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The ledger could not be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The error output could not be written.
    #[error("error output: {0}")]
    Errors(StoreError),
    /// The copies of source records could not be written.
    #[error("backup: {0}")]
    Backup(StoreError),
    /// The error output could not be named.
    #[error("error output: {0}")]
    Name(#[from] NameError),
    /// It was told to stop.
    #[error("interrupted while a batch was delivered; the next run does it again")]
    Interrupted,
}

impl CourierError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Delivery(DeliveryError::Transient(_)) => true,
            Self::Ledger(LedgerError::Store(error)) | Self::Errors(error) | Self::Backup(error) => {
                error.is_transient()
            }
            _ => false,
        }
    }
}

/// What the thread is to do.
enum Job {
    Ship(Box<Shipment>),
    Reload,
}

/// What the thread tells.
pub enum Told {
    /// A batch came to this.
    Done(Box<Shipment>, Result<(), CourierError>),
    /// For a person.
    Say(String),
}

/// Where failed records are written.
#[derive(Clone)]
pub struct ErrorOutput {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The names of its objects.
    pub names: Arc<ErrorNames>,
    /// The lines.
    pub lines: Arc<ErrorLines>,
}

/// All that a delivery reaches from its thread.
pub struct Reach {
    /// The machine.
    pub system: System,
    /// Where batches go.
    pub destination: Box<dyn Destination>,
    /// Where plans and commits go, if the source has places to go on from.
    pub ledger: Option<Ledger>,
    /// Where failed records go.
    pub errors: ErrorOutput,
    /// Where copies of what was read go, if they are kept.
    pub backup: Option<(Arc<dyn Store>, Arc<ErrorNames>)>,
    /// Whether to go on for ever with a batch that cannot be delivered.
    pub persistent: bool,
    /// Whether records go to the error output when a service could not be reached for as long as it is tried. Otherwise
    /// the batch is not delivered.
    pub gives_up: bool,
}

impl Reach {
    fn stores(&self) -> impl Iterator<Item = &Arc<dyn Store>> {
        self.ledger.iter().map(Ledger::store).chain([&self.errors.store])
    }
}

/// Runs what is asynchronous, on whichever thread has it. One for a delivery: connections live and end with it.
pub struct Runtime(tokio::runtime::Runtime);

impl Runtime {
    /// A runtime.
    pub fn new() -> std::io::Result<Self> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().map(Self)
    }

    /// Runs a future to its end.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.block_on(work)
    }
}

/// The thread, and the ways to and from it.
pub struct Courier {
    jobs: Option<Sender<Job>>,
    told: Receiver<Told>,
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
    busy: bool,
}

impl Courier {
    /// Starts the thread. `cancel` is what its destination was given too.
    pub fn start(runtime: Runtime, reach: Reach, cancel: Cancel) -> std::io::Result<Self> {
        let (jobs, todo) = channel::<Job>();
        let (tell, told) = channel();
        let asked = cancel.clone();
        let thread = std::thread::Builder::new().name("khose-deliver".to_owned()).spawn(move || {
            let mut reach = reach;
            for job in todo {
                let mut shipment = match job {
                    Job::Ship(shipment) => shipment,
                    Job::Reload => {
                        reach.destination.reload();
                        reach.stores().for_each(|store| store.refresh_credentials());
                        continue;
                    }
                };
                // What is dropped on the way is as good as killed: the plan is there.
                let work = asked.within(Duration::ZERO, carry(&mut reach, &mut shipment, &tell));
                let outcome = runtime.block_on(work).unwrap_or(Err(CourierError::Interrupted));
                if tell.send(Told::Done(shipment, outcome)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), told, cancel, thread: Some(thread), busy: false })
    }

    /// Whether a batch is on its way.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Sends a batch.
    pub fn send(&mut self, shipment: Shipment) {
        if let Some(jobs) = &self.jobs {
            self.busy = jobs.send(Job::Ship(Box::new(shipment))).is_ok();
        }
    }

    /// Credentials have changed, somebody says.
    pub fn reload(&self) {
        if let Some(jobs) = &self.jobs {
            // Nobody is left to be told where the thread has ended.
            let _ = jobs.send(Job::Reload);
        }
    }

    /// What is told, waiting for so long.
    pub fn told(&mut self, wait: Duration) -> anyhow::Result<Option<Told>> {
        use std::sync::mpsc::RecvTimeoutError;
        let told = match self.told.recv_timeout(wait) {
            Ok(told) => told,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the thread that delivers has failed"),
        };
        if matches!(told, Told::Done(..)) {
            self.busy = false;
        }
        Ok(Some(told))
    }

    /// Lets go of the batch that is on its way.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.cancel();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn carry(reach: &mut Reach, shipment: &mut Shipment, tell: &Sender<Told>) -> Result<(), CourierError> {
    let mut planned = false;
    loop {
        match once(reach, shipment, &mut planned).await {
            Err(error) if reach.persistent && error.is_transient() => {
                let text =
                    format!("batch {}: {error}; tried again in {} s", shipment.entry.number, AGAIN.as_secs());
                let _ = tell.send(Told::Say(text));
                tokio::time::sleep(AGAIN).await;
            }
            other => return other,
        }
    }
}

async fn once(reach: &mut Reach, shipment: &mut Shipment, planned: &mut bool) -> Result<(), CourierError> {
    failpoint("plan.before");
    if let Some(ledger) = &reach.ledger
        && let Some((name, bytes)) = shipment.keep.take()
    {
        let body = Body::from(bytes);
        let kept = ledger.store().put(&name, &body, PutMode::Overwrite, &Attributes::default()).await;
        if let Err(error) = kept {
            // For the next attempt.
            shipment.keep = Some((name, body.read(0, usize::MAX).unwrap_or_default()));
            return Err(LedgerError::Store(error).into());
        }
    }
    if shipment.is_cut && !*planned {
        keep_whole(reach, shipment).await?;
    }
    if let Some(ledger) = &reach.ledger
        && !*planned
    {
        shipment.entry.error_names = error_names(&reach.errors.names, shipment)?;
        ledger.plan(&shipment.entry, shipment.before.is_some()).await?;
        *planned = true;
    }
    failpoint("plan.after");
    let refused = reach.destination.deliver(&shipment.batch).await?;
    if let Some(refused) = refused.iter().find(|refused| refused.gave_up && !reach.gives_up) {
        let Failure { code, message, .. } = &refused.failure;
        return Err(DeliveryError::Transient(format!("{code}: {message}")).into());
    }
    failpoint("deliver.after");
    let now_us = reach.system.clock.now_us();
    let mut lines: Vec<(ErrorType, Vec<u8>, Extents)> = Vec::new();
    let mut add = |failed: &FailedRecord| {
        let kind = failed.failure.error_type;
        let at = lines.iter().position(|(at, ..)| *at == kind).unwrap_or_else(|| {
            lines.push((kind, Vec::new(), Extents::new()));
            lines.len() - 1
        });
        reach.errors.lines.push(failed, now_us, &mut lines[at].1);
        extend(&mut lines[at].2, &failed.origin);
    };
    shipment.failed.iter().for_each(&mut add);
    for refused in &refused {
        let (parcel, chunk, row) = refused.place;
        let chunk = shipment.batch.parcels.get(parcel).and_then(|parcel| parcel.chunks.get(chunk));
        if let Some(chunk) = chunk
            && let Some(origin) = chunk.origin(row)
        {
            let data = chunk.payload(row).to_vec();
            let (failure, details) = (refused.failure.clone(), refused.details.clone());
            add(&FailedRecord { origin, data, key: None, failure, details });
        }
    }
    let mut errors = Vec::new();
    for (kind, text, shards) in lines {
        let records = shards.values().map(|(_, _, records)| records).sum();
        let name = reach.errors.names.name(kind, shipment.entry.id, shipment.oldest_us)?;
        let bytes = text.len() as u64;
        let body = Body::from(text);
        let attributes = ndjson();
        if shipment.is_cut && reach.errors.store.head(&name).await.map_err(CourierError::Errors)?.is_some() {
            // It may have more than can be read now.
            continue;
        }
        let put = reach.errors.store.put(&name, &body, PutMode::Overwrite, &attributes);
        put.await.map_err(CourierError::Errors)?;
        errors.push(ObjectNote { name, bytes, records, shards });
    }
    if let Some((store, names)) = &reach.backup
        && let Some((body, _)) = &shipment.backup
    {
        let name = names.batch(shipment.entry.id, shipment.oldest_us)?;
        let attributes = ndjson();
        let put = store.put(&name, body, PutMode::Overwrite, &attributes);
        put.await.map_err(CourierError::Backup)?;
    }
    failpoint("errors.after");
    if shipment.before.is_some() {
        clear(reach, shipment, &errors).await?;
    }
    failpoint("commit.before");
    // A copy: the commit may fail, and be tried again from the plan.
    let mut entry = shipment.entry.clone();
    let failed = errors.iter().map(|note| note.records).sum::<u64>();
    let refused = refused.len() as u64;
    entry.totals += Totals { failed, ..Totals::default() };
    entry.totals.records -= refused.min(entry.totals.records);
    entry.errors = errors;
    (entry.replaces, entry.error_names) = (Vec::new(), Vec::new());
    entry.written_us = now_us;
    if let Some(ledger) = &reach.ledger {
        ledger.commit(&entry).await?;
    }
    shipment.entry = entry;
    failpoint("commit.after");
    Ok(())
}

fn ndjson() -> Attributes {
    Attributes { content_type: Some("application/x-ndjson".to_owned()), ..Attributes::default() }
}

/// Keeps the objects of the run before, if all are there: some of their records cannot be read any more.
async fn keep_whole(reach: &Reach, shipment: &mut Shipment) -> Result<(), CourierError> {
    let (Some(before), Some(ledger)) = (&shipment.before, &reach.ledger) else { return Ok(()) };
    for note in &before.objects {
        let found = ledger.store().head(&note.name).await.map_err(LedgerError::Store)?;
        if found.is_none_or(|found| found.size != note.bytes) {
            return Ok(());
        }
    }
    if before.objects.is_empty() {
        return Ok(());
    }
    let entry = &mut shipment.entry;
    for (sign, objects) in [(false, &entry.objects), (true, &before.objects)] {
        let totals = &mut entry.totals;
        for note in objects {
            let count = |total: &mut u64, one: u64| {
                *total = if sign { *total + one } else { total.saturating_sub(one) };
            };
            count(&mut totals.records, note.records);
            count(&mut totals.bytes, note.bytes);
            count(&mut totals.objects, 1);
        }
    }
    entry.objects.clone_from(&before.objects);
    entry.replaces.clone_from(&before.replaces);
    shipment.batch.parcels.clear();
    Ok(())
}

/// Where any attempt at a batch may have written failed records: the prefix may have been another.
fn error_names(names: &ErrorNames, shipment: &Shipment) -> Result<Vec<String>, NameError> {
    let before = shipment.before.iter().flat_map(|before| before.error_names.iter().cloned());
    let now = ErrorType::ALL.iter().map(|&kind| names.name(kind, shipment.entry.id, shipment.oldest_us));
    let all: Result<BTreeSet<String>, NameError> = before.map(Ok).chain(now).collect();
    Ok(all?.into_iter().collect())
}

/// Removes what earlier attempts at the same batch left and this one has not written again.
async fn clear(reach: &Reach, shipment: &Shipment, errors: &[ObjectNote]) -> Result<(), CourierError> {
    if let Some(ledger) = &reach.ledger {
        for name in &shipment.entry.replaces {
            ledger.store().delete(name).await.map_err(LedgerError::Store)?;
        }
    }
    let left = shipment.entry.error_names.iter().filter(|name| errors.iter().all(|note| note.name != **name));
    for name in left.filter(|_| !shipment.is_cut) {
        reach.errors.store.delete(name).await.map_err(CourierError::Errors)?;
    }
    if let Some(before) = shipment.before.as_ref().filter(|before| before.id != shipment.entry.id)
        && let Some((store, names)) = &reach.backup
    {
        store.delete(&names.batch(before.id, before.oldest_us)?).await.map_err(CourierError::Backup)?;
    }
    Ok(())
}
