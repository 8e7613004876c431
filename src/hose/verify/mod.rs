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

mod known;
pub mod names;
mod objects;
mod records;
mod report;
pub mod rows;
pub mod tally;

use std::collections::HashMap;
use std::sync::Arc;

pub use report::{Finding, Kind, Objects, Report, Shard, Unfinished};

use super::courier::{ErrorOutput, Runtime};
use super::ledger::{Entry, Ledger};
use super::naming::ErrorNames;
use super::store::Store;
use crate::stream::{ConsumerState, Stream};
use known::replayed;
use objects::{count_errors, objects, present, sizes, unfinished};
use records::records;
use rows::Layout;

/// The stream that objects of a replay are named after.
pub const REPLAYED: &str = "replay";

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
