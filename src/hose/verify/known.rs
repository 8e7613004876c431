//! What the ledgers of a place name.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::names::last_part;
use super::{REPLAYED, Request};
use crate::hose::ledger::{Entry, Ledger};
use crate::hose::replay::Catalog;

/// The names that ledgers know.
#[derive(Default)]
pub(super) struct Known {
    /// Objects, each with the ledger that names it.
    pub(super) names: HashMap<String, usize>,
    /// The last parts of names in places that may lie below the destination or elsewhere: error outputs, and copies of
    /// source records. They have ids in them.
    files: HashSet<String>,
    ledgers: Vec<String>,
}

impl Known {
    /// Adds what a ledger names; answers which of these another ledger names too.
    pub(super) fn add(
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
    pub(super) fn add_plan(
        &mut self,
        ledger: &str,
        plan: &Entry,
        request: &Request<'_>,
    ) -> anyhow::Result<()> {
        self.add(ledger, std::slice::from_ref(plan), request)?;
        self.files
            .extend(plan.replaces.iter().chain(&plan.error_names).map(|name| last_part(name).to_owned()));
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name) || self.files.contains(last_part(name))
    }
}

/// The last parts of names of objects of failed records that were replayed: they may be removed.
pub(super) fn replayed(request: &Request<'_>) -> anyhow::Result<HashSet<String>> {
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
