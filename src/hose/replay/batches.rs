//! Whether what lies in an error output is there to stay.

use std::collections::{BTreeSet, HashSet};

use crate::hose::ledger::Entry;
use crate::hose::verify::names::{Formed, last_part};

/// What ledgers tell of an error output.
#[derive(Default)]
pub(super) struct Batches {
    /// The last parts of names of objects whose batches are finished: they have ids in them.
    finished: HashSet<String>,
    /// The streams of batches that are not.
    unfinished: BTreeSet<String>,
    /// The last parts of names of objects that this replay wrote under the same options.
    failed_again: HashSet<String>,
}

pub(super) enum Judged {
    Replay,
    Unfinished,
    FailedAgain,
}

impl Batches {
    pub(super) fn add(&mut self, commits: &[Entry], plan: Option<&Entry>, fingerprint: Option<&str>) {
        for commit in commits {
            let files = commit.errors.iter().map(|note| last_part(&note.name).to_owned());
            if fingerprint == Some(&commit.settings) {
                self.failed_again.extend(files);
            } else {
                self.finished.extend(files);
            }
        }
        self.unfinished.extend(plan.map(|plan| plan.stream.clone()));
    }

    pub(super) fn judge(&self, name: &str) -> Judged {
        if self.failed_again.contains(last_part(name)) {
            return Judged::FailedAgain;
        }
        let of_unfinished = |formed: Formed<'_>| self.unfinished.iter().any(|stream| formed.is_of(stream));
        if !self.finished.contains(last_part(name)) && Formed::parse(name).is_some_and(of_unfinished) {
            return Judged::Unfinished;
        }
        Judged::Replay
    }
}
