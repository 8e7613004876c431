//! Objects: that they are there, whole, with their rows, and that there are no others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};

use super::known::Known;
use super::names::Formed;
use super::names::last_part;
use super::report::{Kind, Objects, Report, Unfinished};
use super::rows::{self, Layout, Rows};
use super::{REPLAYED, Request, Watch};
use crate::hose::format::compress::Compression;
use crate::hose::format::spec::FormatName;
use crate::hose::ledger::{Entry, FOLDER, Ledger, ObjectNote};
use crate::hose::store::{Listed, Store, StoreError};
use crate::hose::unpack::store_error;

/// So many footers are asked for at once.
const AT_ONCE: usize = 16;

pub(super) fn sizes(listed: &[Listed]) -> HashMap<&str, u64> {
    listed.iter().map(|object| (object.name.as_str(), object.size)).collect()
}

pub(super) fn unfinished(plan: &Entry, sizes: &HashMap<&str, u64>) -> Unfinished {
    Unfinished {
        number: plan.number,
        planned_us: plan.written_us,
        objects: plan.objects.len() as u64,
        there: plan.objects.iter().filter(|note| sizes.contains_key(note.name.as_str())).count() as u64,
    }
}

pub(super) fn objects(
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

/// Which of the objects that commits name are there as they were committed.
pub(super) fn present<'a>(
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
    let is_parquet = |layout: &Layout| layout.format == FormatName::Parquet;
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
pub(super) fn count_errors(
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
        format: FormatName::Ndjson,
        compression: Compression::None,
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
