//! The destination held against the stream: what was committed is there, each record once, and nothing else is.
//!
//! Nothing is written and no lock is taken, so that it can look on while a delivery is at work: the commits are read
//! first, then the objects are listed, and what has become known by the end counts too.
//!
//! # What can be told
//!
//! - Of each object: that it is there, with the bytes that its commit says, and with so many rows in it as there were
//!   records ([`rows`]).
//! - Of each batch: that there were so many records in the stream between its commit and the one before it as it
//!   delivered, sent to the error output, and left out ([`tally`]). Where stages make several records of one, rows and
//!   records of the stream are different things, and only a batch whose numbers agree says something. What retention has
//!   removed from the stream since is beyond comparison.
//! - Of what else lies there: that no object has a name as khose makes them without a commit that names it. Such an
//!   object holds records that another object holds too, or that no ledger knows of.

pub mod names;
pub mod rows;
pub mod tally;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::courier::{ErrorOutput, Runtime};
use super::ledger::{Entry, FOLDER, Ledger, ObjectNote, Totals};
use super::naming::ErrorNames;
use super::replay::Catalog;
use super::store::{Listed, Store, StoreError};
use super::unpack::store_error;
use crate::codec::kpl;
use crate::record::ShardId;
use crate::stream::{ConsumerState, Delivery, Order, Place, Polled, Stream, StreamReader, Until};
use names::Formed;
use rows::{Layout, Rows};
use tally::{Owner, Tally};

/// The stream that objects of a replay are named after.
pub const REPLAYED: &str = "replay";
/// So many footers are asked for at once.
const AT_ONCE: usize = 16;

/// What is to be compared.
pub struct Request<'a> {
    /// Runs what is asynchronous.
    pub runtime: &'a Arc<Runtime>,
    /// The delivery's ledger.
    pub ledger: &'a Ledger,
    /// The stream's name, as it stands in names of objects.
    pub name: &'a str,
    /// The stream; none where it was a pipe.
    pub stream: Option<&'a Stream>,
    /// What the consumer knows, for shards that no commit speaks of.
    pub consumer: Option<&'a ConsumerState>,
    /// Where the objects are, if they can be listed.
    pub objects: Option<Arc<dyn Store>>,
    /// Where failed records are.
    pub errors: &'a ErrorOutput,
    /// The names of copies of source records, which may lie below the destination.
    pub backup: &'a ErrorNames,
    /// How an object of this name is laid out, where that is known.
    pub layout: &'a dyn Fn(&str) -> Option<Layout>,
    /// Whether objects are taken at their word: nothing is read of them.
    pub quick: bool,
}

/// Told how it goes on.
pub trait Watch {
    /// So much was looked at.
    fn looked(&mut self, records: u64, bytes: u64);
    /// The request to finish, if one has come.
    fn stop(&self) -> Option<anyhow::Error>;
}

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A committed object is not there.
    ObjectMissing,
    /// A committed object has another size.
    ObjectSize,
    /// An object has other rows in it than records were put in.
    ObjectRows,
    /// An object cannot be read.
    ObjectUnreadable,
    /// An object that no commit names: its records are there twice.
    ObjectUnknown,
    /// Two commits name the same object.
    ObjectTwice,
    /// A commit is missing.
    CommitMissing,
    /// A commit stands behind the one before it.
    CommitBackwards,
    /// Records of the stream were not delivered.
    RecordsMissing,
    /// More was delivered than there was.
    RecordsDoubled,
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Its kind.
    pub kind: Kind,
    /// The object, or the ledger's entry.
    pub place: String,
    /// What is wrong with it.
    pub text: String,
}

/// A batch that was planned and not committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unfinished {
    /// Its number.
    pub number: u64,
    /// When it was planned, microseconds since the epoch.
    pub planned_us: i64,
    /// Objects that it names.
    pub objects: u64,
    /// Those that lie there already.
    pub there: u64,
}

/// Objects and their rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Objects {
    /// That commits name.
    pub committed: u64,
    /// Of these, those that are there with their bytes.
    pub whole: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects of other deliveries.
    pub of_others: u64,
    /// Objects with names as other deliveries make them, whose ledgers are not here.
    pub of_unknown: u64,
    /// Other files.
    pub foreign: u64,
    /// Objects whose rows were counted.
    pub counted: u64,
    /// Their rows.
    pub rows: u64,
    /// Objects whose rows cannot be told apart, or whose format is not known.
    pub uncounted: u64,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shard {
    /// Its name.
    pub shard: String,
    /// The first index that was the delivery's business; none where it has not come to this shard.
    pub began: Option<u64>,
    /// The index up to which it has been read.
    pub to: u64,
    /// Whether all of the shard, which is closed, was delivered.
    pub done: bool,
    /// Records of the stream that were compared.
    pub compared: u64,
    /// Records that were delivered, or sent to the error output.
    pub delivered: u64,
    /// Records that are not delivered yet.
    pub undelivered: u64,
    /// Bytes of their data.
    pub undelivered_bytes: u64,
    /// Whether some that were delivered are not in the stream any more.
    pub has_holes: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Commits.
    pub batches: u64,
    /// The number of the last, and when it was written, microseconds since the epoch.
    pub last: Option<(u64, i64)>,
    /// What was delivered from the beginning, by the last commit.
    pub totals: Totals,
    /// A batch that was not finished.
    pub unfinished: Option<Unfinished>,
    /// Objects; none where the destination cannot be listed.
    pub objects: Option<Objects>,
    /// Objects of failed records.
    pub errors: Objects,
    /// Shards; none where there is no stream.
    pub shards: Vec<Shard>,
    /// Batches whose records were compared with the stream's.
    pub compared: u64,
    /// Batches with records that are not in the stream any more.
    pub beyond: u64,
    /// Batches whose rows are not the records of the stream.
    pub taken_apart: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

impl Report {
    fn found(&mut self, kind: Kind, place: impl Into<String>, text: impl Into<String>) {
        self.findings.push(Finding { kind, place: place.into(), text: text.into() });
    }

    /// Whether everything is as it should be.
    pub fn is_well(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Compares.
///
/// # Errors
/// Where something cannot be read. What is wrong with the destination is no error, but a finding.
pub fn verify(request: &Request<'_>, watch: &mut dyn Watch) -> anyhow::Result<Report> {
    let runtime = request.runtime;
    let (commits, pending) = runtime.block_on(request.ledger.since(None))?;
    let mut report = Report { batches: commits.len() as u64, ..Report::default() };
    let replayed = replayed(request)?;
    if let Some(last) = commits.last() {
        report.last = Some((last.number, last.written_us));
        report.totals = last.totals;
    }
    twice(request, &commits, &mut report);
    if let Some(store) = &request.objects {
        let pending = pending.as_ref();
        objects(request, store, (&commits, pending), &replayed, &mut report, watch)?;
    } else {
        report.unfinished = pending.as_ref().map(|plan| unfinished(plan, &HashMap::new()));
    }
    let listed = match &request.objects {
        // What lies below the destination has been listed with all the rest.
        Some(store) if Arc::ptr_eq(store, &request.errors.store) => None,
        _ if commits.iter().all(|commit| commit.errors.is_empty()) => None,
        _ => Some(runtime.block_on(request.errors.store.list("", None))?),
    };
    if let Some(listed) = listed {
        let sizes = sizes(&listed);
        let notes = commits.iter().flat_map(|commit| commit.errors.iter().map(|note| (commit.number, note)));
        let whole = present(&request.errors.store, notes, &sizes, &mut report, Some(&replayed));
        count_errors(request, &whole, &mut report, watch)?;
    }
    if let Some(stream) = request.stream {
        records(request, stream, &commits, &mut report, watch)?;
    }
    Ok(report)
}

/// The same name in two commits, and commits that are missing.
fn twice(request: &Request<'_>, commits: &[Entry], report: &mut Report) {
    let (store, dir) = (request.ledger.store(), request.ledger.dir());
    let mut names: HashMap<&str, u64> = HashMap::new();
    let mut before = 0;
    for commit in commits {
        if commit.number > before + 1 {
            let (first, last) = (before + 1, commit.number - 1);
            let text = if first == last {
                format!("commit {first} is missing: what it delivered is not known")
            } else {
                format!("commits {first} to {last} are missing: what they delivered is not known")
            };
            report.found(Kind::CommitMissing, store.url(dir), text);
        }
        before = commit.number;
        for note in commit.objects.iter().chain(&commit.errors) {
            if let Some(earlier) = names.insert(&note.name, commit.number) {
                let text = format!("batch {earlier} and batch {} both name it", commit.number);
                report.found(Kind::ObjectTwice, store.url(&note.name), text);
            }
        }
    }
}

/// The names that ledgers know.
#[derive(Default)]
struct Known {
    /// Objects, each with the ledger that names it.
    names: HashMap<String, usize>,
    /// The last parts of names in places that may lie below the destination or elsewhere: error outputs, and copies of
    /// source records. They have ids in them.
    files: HashSet<String>,
    ledgers: Vec<String>,
}

impl Known {
    /// Adds what a ledger names; answers which of these another ledger names too.
    fn add(
        &mut self,
        ledger: &str,
        entries: &[Entry],
        request: &Request<'_>,
    ) -> anyhow::Result<Vec<(String, String)>> {
        let id = self.ledgers.iter().position(|known| known == ledger).unwrap_or_else(|| {
            self.ledgers.push(ledger.to_owned());
            self.ledgers.len() - 1
        });
        let mut both = Vec::new();
        for entry in entries {
            for note in &entry.objects {
                if let Some(other) = self.names.insert(note.name.clone(), id).filter(|&other| other != id) {
                    both.push((note.name.clone(), self.ledgers[other].clone()));
                }
            }
            self.files.extend(entry.errors.iter().map(|note| last_part(&note.name).to_owned()));
            self.files.insert(last_part(&request.backup.batch(entry.id, entry.oldest_us)?).to_owned());
        }
        Ok(both)
    }

    /// Adds what a plan names, what its error output may be named, and what it will remove.
    fn add_plan(&mut self, ledger: &str, plan: &Entry, request: &Request<'_>) -> anyhow::Result<()> {
        self.add(ledger, std::slice::from_ref(plan), request)?;
        self.files
            .extend(plan.replaces.iter().chain(&plan.error_names).map(|name| last_part(name).to_owned()));
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains_key(name) || self.files.contains(last_part(name))
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn sizes(listed: &[Listed]) -> HashMap<&str, u64> {
    listed.iter().map(|object| (object.name.as_str(), object.size)).collect()
}

fn unfinished(plan: &Entry, sizes: &HashMap<&str, u64>) -> Unfinished {
    Unfinished {
        number: plan.number,
        planned_us: plan.written_us,
        objects: plan.objects.len() as u64,
        there: plan.objects.iter().filter(|note| sizes.contains_key(note.name.as_str())).count() as u64,
    }
}

fn objects(
    request: &Request<'_>,
    store: &Arc<dyn Store>,
    (commits, pending): (&[Entry], Option<&Entry>),
    replayed: &HashSet<String>,
    report: &mut Report,
    watch: &mut dyn Watch,
) -> anyhow::Result<()> {
    let runtime = request.runtime;
    let own = store.url(request.ledger.dir());
    let mut known = Known::default();
    known.add(&own, commits, request)?;
    if let Some(plan) = pending {
        known.add_plan(&own, plan, request)?;
    }
    // All ledgers, before the objects are listed: what these name is nobody's stray.
    let mut others: Vec<(Ledger, Option<u64>)> = Vec::new();
    for name in runtime.block_on(Ledger::names(store.as_ref()))? {
        let ledger = Ledger::new(Arc::clone(store), &name);
        if ledger.dir() == request.ledger.dir() {
            continue;
        }
        let (entries, plan) = runtime.block_on(ledger.since(None))?;
        let other = store.url(ledger.dir());
        for (name, one) in known.add(&other, &entries, request)? {
            report.found(Kind::ObjectTwice, store.url(&name), format!("{one} and {other} both name it"));
        }
        if let Some(plan) = &plan {
            known.add_plan(&other, plan, request)?;
        }
        others.push((ledger, entries.last().map(|entry| entry.number)));
    }
    let listed = runtime.block_on(store.list("", None))?;
    let sizes = sizes(&listed);
    let notes = commits.iter().flat_map(|commit| commit.objects.iter().map(|note| (commit.number, note)));
    let whole = present(store, notes, &sizes, report, None);
    let whole_errors = if Arc::ptr_eq(store, &request.errors.store) {
        let notes = commits.iter().flat_map(|commit| commit.errors.iter().map(|note| (commit.number, note)));
        present(store, notes, &sizes, report, Some(replayed))
    } else {
        Vec::new()
    };
    let mut strays: Vec<&Listed> = Vec::new();
    let mut sums = report.objects.take().unwrap_or_default();
    for object in listed.iter().filter(|object| object.name.split('/').next() != Some(FOLDER)) {
        match known.names.get(&object.name) {
            Some(0) => {}
            Some(_) => sums.of_others += 1,
            None if known.has(&object.name) => {}
            None => match Formed::parse(&object.name) {
                Some(formed) if formed.is_of(request.name) || formed.is_of(REPLAYED) => strays.push(object),
                Some(_) => sums.of_unknown += 1,
                None => sums.foreign += 1,
            },
        }
    }
    report.objects = Some(sums);
    if !request.quick {
        count_objects(request, store, &whole, report, watch)?;
        count_errors(request, &whole_errors, report, watch)?;
    }
    // What has been delivered meanwhile is no stray, and what is planned now may be on its way.
    let (newer, plan) = runtime.block_on(request.ledger.since(commits.last().map(|commit| commit.number)))?;
    if !newer.is_empty() {
        report
            .notes
            .push(format!("{} more were delivered meanwhile, and not looked at", batches(newer.len())));
    }
    report.unfinished = plan.as_ref().map(|plan| unfinished(plan, &sizes));
    others.push((request.ledger.clone(), commits.last().map(|commit| commit.number)));
    for (ledger, last) in others.iter().filter(|_| !strays.is_empty()) {
        let (newer, plan) = runtime.block_on(ledger.since(*last))?;
        let place = store.url(ledger.dir());
        known.add(&place, &newer, request)?;
        if let Some(plan) = &plan {
            known.add_plan(&place, plan, request)?;
        }
    }
    for object in strays.into_iter().filter(|object| !known.has(&object.name)) {
        let text = format!(
            "no commit names it: its records are doubled, or no ledger knows of them ({} bytes)",
            object.size
        );
        report.found(Kind::ObjectUnknown, store.url(&object.name), text);
    }
    Ok(())
}

fn batches(count: usize) -> String {
    format!("{count} batch{}", if count == 1 { "" } else { "es" })
}

/// The last parts of names of objects of failed records that were replayed: they may be removed.
fn replayed(request: &Request<'_>) -> anyhow::Result<HashSet<String>> {
    let runtime = request.runtime;
    let mut replayed = HashSet::new();
    for store in request.objects.iter().chain([&request.errors.store]) {
        for name in runtime.block_on(Ledger::names(store.as_ref()))? {
            if name.strip_prefix(REPLAYED).is_none_or(|rest| !rest.starts_with('.')) {
                continue;
            }
            let ledger = Ledger::new(Arc::clone(store), &name);
            let Some(last) = runtime.block_on(ledger.standing())?.last else { continue };
            let catalog = runtime.block_on(Catalog::read(&ledger))?;
            for position in last.positions.values() {
                replayed.extend(catalog.done(position).map(|object| last_part(&object.name).to_owned()));
            }
        }
    }
    Ok(replayed)
}

/// Which of the objects that commits name are there as they were committed.
fn present<'a>(
    store: &Arc<dyn Store>,
    notes: impl Iterator<Item = (u64, &'a ObjectNote)>,
    sizes: &HashMap<&str, u64>,
    report: &mut Report,
    replayed: Option<&HashSet<String>>,
) -> Vec<(u64, &'a ObjectNote)> {
    let are_errors = replayed.is_some();
    let mut cleared = 0;
    let mut sums = if are_errors {
        std::mem::take(&mut report.errors)
    } else {
        report.objects.take().unwrap_or_default()
    };
    let mut whole = Vec::new();
    for (batch, note) in notes {
        sums.committed += 1;
        let place = store.url(&note.name);
        let of = format!("batch {batch}, {} records", note.records);
        match sizes.get(note.name.as_str()) {
            None if replayed.is_some_and(|replayed| replayed.contains(last_part(&note.name))) => cleared += 1,
            None if are_errors => {
                let text = format!("it is missing from the error output ({of})");
                report.found(Kind::ObjectMissing, place, text);
            }
            None => report.found(Kind::ObjectMissing, place, format!("it is missing ({of})")),
            Some(&size) if size != note.bytes => {
                let text = format!("it has {size} bytes, and {} were committed ({of})", note.bytes);
                report.found(Kind::ObjectSize, place, text);
            }
            Some(&size) => {
                sums.whole += 1;
                sums.bytes += size;
                whole.push((batch, note));
            }
        }
    }
    if cleared > 0 {
        report
            .notes
            .push(format!("{cleared} objects of the error output were replayed, and are there no more"));
    }
    if are_errors {
        report.errors = sums;
    } else {
        report.objects = Some(sums);
    }
    whole
}

/// Counts the rows of objects.
fn count_objects(
    request: &Request<'_>,
    store: &Arc<dyn Store>,
    whole: &[(u64, &ObjectNote)],
    report: &mut Report,
    watch: &mut dyn Watch,
) -> anyhow::Result<()> {
    let mut sums = report.objects.take().unwrap_or_default();
    let is_parquet = |layout: &Layout| layout.format == super::format::spec::FormatName::Parquet;
    let mut parquet = Vec::new();
    for &(batch, note) in whole {
        match (request.layout)(&note.name) {
            None => sums.uncounted += 1,
            Some(layout) if is_parquet(&layout) => parquet.push((batch, note)),
            Some(layout) => {
                if let Some(stopped) = watch.stop() {
                    return Err(stopped);
                }
                let rows = rows::count(request.runtime, store, &note.name, note.bytes, &layout);
                judge(store, batch, note, rows, &mut sums, report)?;
                watch.looked(note.records, note.bytes);
            }
        }
    }
    for lot in parquet.chunks(AT_ONCE * 8) {
        if let Some(stopped) = watch.stop() {
            return Err(stopped);
        }
        let footers: Vec<BoxFuture<'_, std::io::Result<u64>>> = lot
            .iter()
            .map(|(_, note)| {
                Box::pin(rows::parquet_rows(store.as_ref(), &note.name, note.bytes)) as BoxFuture<'_, _>
            })
            .collect();
        let counted: Vec<_> =
            request.runtime.block_on(stream::iter(footers).buffered(AT_ONCE).collect::<Vec<_>>());
        for (&(batch, note), rows) in lot.iter().zip(counted) {
            judge(store, batch, note, rows.map(Rows::Exactly), &mut sums, report)?;
            watch.looked(note.records, note.bytes);
        }
    }
    report.objects = Some(sums);
    Ok(())
}

/// Counts the lines of failed records.
fn count_errors(
    request: &Request<'_>,
    whole: &[(u64, &ObjectNote)],
    report: &mut Report,
    watch: &mut dyn Watch,
) -> anyhow::Result<()> {
    if request.quick {
        return Ok(());
    }
    let mut sums = std::mem::take(&mut report.errors);
    let store = &request.errors.store;
    let layout = Layout {
        format: super::format::spec::FormatName::Ndjson,
        compression: super::format::compress::Compression::None,
        has_header: false,
        has_backslashes: false,
    };
    for &(batch, note) in whole {
        let rows = rows::count(request.runtime, store, &note.name, note.bytes, &layout);
        // Each is one line, whatever its record.
        let rows = rows.map(|rows| if let Rows::Lines(lines) = rows { Rows::Exactly(lines) } else { rows });
        judge(store, batch, note, rows, &mut sums, report)?;
        watch.looked(note.records, note.bytes);
    }
    report.errors = sums;
    Ok(())
}

fn judge(
    store: &Arc<dyn Store>,
    batch: u64,
    note: &ObjectNote,
    rows: std::io::Result<Rows>,
    sums: &mut Objects,
    report: &mut Report,
) -> anyhow::Result<()> {
    let place = store.url(&note.name);
    let rows = match rows {
        Ok(Rows::Unknown) => {
            sums.uncounted += 1;
            return Ok(());
        }
        Ok(rows) => rows,
        Err(error) => {
            return match store_error(&error) {
                // It was there when it was listed.
                Some(StoreError::NotFound { .. }) => {
                    report.found(
                        Kind::ObjectMissing,
                        place,
                        format!("it has gone meanwhile (batch {batch})"),
                    );
                    Ok(())
                }
                Some(_) => Err(anyhow::Error::new(error)),
                None => {
                    let text =
                        format!("it cannot be read: {error} (batch {batch}, {} records)", note.records);
                    report.found(Kind::ObjectUnreadable, place, text);
                    Ok(())
                }
            };
        }
    };
    sums.counted += 1;
    match rows {
        Rows::Exactly(rows) | Rows::Lines(rows) if rows < note.records => {
            let text =
                format!("it has {rows} rows, and {} records were put in it (batch {batch})", note.records);
            report.found(Kind::ObjectRows, place, text);
        }
        Rows::Exactly(rows) if rows > note.records => {
            let text = format!(
                "it has {rows} rows, and only {} records were put in it (batch {batch})",
                note.records
            );
            report.found(Kind::ObjectRows, place, text);
        }
        _ => {}
    }
    if let Rows::Exactly(rows) | Rows::Lines(rows) = rows {
        sums.rows += rows;
    }
    Ok(())
}

/// The records of the stream, held against the commits.
fn records(
    request: &Request<'_>,
    stream: &Stream,
    commits: &[Entry],
    report: &mut Report,
    watch: &mut dyn Watch,
) -> anyhow::Result<()> {
    let mut tally = Tally::new(commits);
    let mut reader =
        StreamReader::empty(stream.clone(), Until::Time(stream.system().clock.now_us()), Order::Shard);
    let infos = stream.manifest().shards.clone();
    for info in &infos {
        let begin = match (tally.standing(info.shard), request.consumer) {
            (Some((began, _)), _) => Some(began),
            (None, Some(consumer)) => match consumer.shards.get(&info.shard) {
                Some(known) => known.checkpoint.next_index(),
                None => Some(0),
            },
            (None, None) => Some(0),
        };
        if let Some(index) = begin {
            reader.add(info, Place::Index(index))?;
        }
    }
    let mut holes: BTreeSet<u32> = BTreeSet::new();
    let expired: Vec<u32> =
        tally.shards().filter(|shard| infos.iter().all(|info| info.shard != *shard)).collect();
    for shard in expired {
        tally.hole(shard, 0, u64::MAX);
        holes.insert(shard);
    }
    // By shard: records and bytes that are not delivered.
    let mut undelivered: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    loop {
        if let Some(stopped) = watch.stop() {
            return Err(stopped);
        }
        let polled = reader.poll(&mut |delivery| count_frame(delivery, &mut tally, &mut undelivered))?;
        match polled {
            Polled::Frame(_, counted) => {
                let (records, bytes) = counted?;
                watch.looked(records, bytes);
            }
            Polled::ShardEnd(_) => {}
            Polled::Tail | Polled::End => break,
            Polled::Damage(shard, damage) => {
                tally.hole(shard.0, damage.first, damage.next);
                holes.insert(shard.0);
                report.notes.push(format!("{shard}: {}: {}", damage.path.display(), damage.reason));
            }
            Polled::Missed(shard, missed) => {
                tally.hole(shard.0, missed.from, missed.to);
                holes.insert(shard.0);
            }
        }
    }
    for &(number, shard) in &tally.backwards {
        let place = request.ledger.store().url(request.ledger.dir());
        let text = format!(
            "commit {number} stands before the one before it in {}: records were delivered again",
            ShardId(shard)
        );
        report.found(Kind::CommitBackwards, place, text);
    }
    judge_batches(request, &tally, report);
    let shards: BTreeSet<u32> = tally.shards().chain(infos.iter().map(|info| info.shard)).collect();
    for shard in shards {
        let standing = tally.standing(shard);
        let (records, bytes) = undelivered.get(&shard).copied().unwrap_or_default();
        let sum = |of: fn(&tally::Added) -> &BTreeMap<u32, u64>| {
            tally.added.iter().filter_map(|added| of(added).get(&shard)).sum()
        };
        report.shards.push(Shard {
            shard: ShardId(shard).to_string(),
            began: standing.map(|(began, _)| began),
            to: standing.map_or(0, |(_, position)| position.to),
            done: standing.is_some_and(|(_, position)| position.is_done()),
            compared: sum(|added| &added.seen),
            delivered: sum(|added| &added.shards),
            undelivered: records,
            undelivered_bytes: bytes,
            has_holes: holes.contains(&shard),
        });
    }
    Ok(())
}

fn count_frame(
    delivery: &Delivery<'_>,
    tally: &mut Tally,
    undelivered: &mut BTreeMap<u32, (u64, u64)>,
) -> anyhow::Result<(u64, u64)> {
    let shard = delivery.shard.0;
    let (mut records, mut bytes) = (0, 0);
    let view = delivery.frame.records()?;
    for (i, stored) in view.iter().enumerate().take(delivery.take).skip(delivery.skip) {
        let index = delivery.frame.header.first + i as u64;
        let mut see = |sub, payload: &[u8]| {
            records += 1;
            bytes += payload.len() as u64;
            if tally.see(shard, index, sub) == Owner::Nobody {
                let sums = undelivered.entry(shard).or_default();
                sums.0 += 1;
                sums.1 += payload.len() as u64;
            }
        };
        match kpl::deaggregate(stored.payload) {
            Some(aggregate) => {
                for (user, sub) in aggregate.iter().zip(0..) {
                    see(Some(sub), user.data);
                }
            }
            None => see(None, stored.payload),
        }
    }
    Ok((records, bytes))
}

/// Holds what each batch says against what the stream has.
fn judge_batches(request: &Request<'_>, tally: &Tally, report: &mut Report) {
    let place = |number: u64| {
        let ledger = request.ledger;
        ledger.store().url(&format!("{}/{number:020}.json", ledger.dir()))
    };
    for added in &tally.added {
        let (read, accounted) = (added.read(), added.accounted());
        let which = match added.missing {
            0 => format!("batch {}", added.number),
            missing => format!("batches {} to {}", added.number - missing, added.number),
        };
        if read == accounted {
            report.compared += 1;
        } else if added.has_holes && read < accounted {
            report.beyond += 1;
            continue;
        } else if added.takes_apart {
            report.taken_apart += 1;
            continue;
        } else {
            report.compared += 1;
            let shards = differing(added);
            let (kind, text) = if read > accounted {
                let missing = read - accounted;
                (
                    Kind::RecordsMissing,
                    format!("{which}: {missing} of {read} records of the stream were not delivered{shards}"),
                )
            } else {
                let more = accounted - read;
                (
                    Kind::RecordsDoubled,
                    format!(
                        "{which}: {accounted} records were delivered, {more} more than the stream has{shards}"
                    ),
                )
            };
            report.found(kind, place(added.number), text);
            continue;
        }
        // Records that a filter left out, or a service refused, are not told by shard.
        let told: u64 = added.shards.values().sum();
        let is_told =
            told == accounted && added.totals.dropped == 0 && added.missing == 0 && !added.takes_apart;
        let seen = |shard: &u32| added.seen.get(shard).copied().unwrap_or(0);
        if is_told && !added.has_holes && added.shards.iter().any(|(shard, count)| seen(shard) != *count) {
            let text = format!(
                "{which}: as many records were delivered as there were, and not those{}",
                differing(added)
            );
            report.found(Kind::RecordsMissing, place(added.number), text);
        }
    }
}

/// In which shards the numbers differ.
fn differing(added: &tally::Added) -> String {
    let shards: BTreeSet<u32> = added.seen.keys().chain(added.shards.keys()).copied().collect();
    let count = |of: &BTreeMap<u32, u64>, shard: u32| of.get(&shard).copied().unwrap_or(0);
    let differs: Vec<String> = shards
        .into_iter()
        .filter(|&shard| count(&added.seen, shard) != count(&added.shards, shard))
        .map(|shard| {
            let (seen, delivered) = (count(&added.seen, shard), count(&added.shards, shard));
            format!("{}: {seen} read, {delivered} delivered", ShardId(shard))
        })
        .collect();
    if differs.is_empty() { String::new() } else { format!(" ({})", differs.join("; ")) }
}
