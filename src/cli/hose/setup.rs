//! From arguments to the parts of a delivery.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use uuid::Uuid;

use super::args::HoseArgs;
use super::report::Voice;
use super::target::{Service, Target};
use crate::hose::courier::ErrorOutput;
use crate::hose::dest::RetryPolicy;
use crate::hose::errors::ErrorLines;
use crate::hose::format::body::Scratch;
use crate::hose::gather::Hints;
use crate::hose::name::{Extension, Limits, ObjectName, Partitioner, Prefix, Role, Zone};
use crate::hose::naming::{ErrorNames, Namer, Signature};
use crate::hose::store::{Context, Environment, Location, Store};
use crate::sys::System;
use crate::sys::process::open_files_max;

/// The folder of failed records below a destination, unless told otherwise. Its underscore keeps readers of the data
/// from it.
const ERRORS_DEFAULT: &str = "_errors/!{firehose:error-output-type}/";

/// Who speaks, and how.
pub(super) fn voice(args: &HoseArgs) -> Voice {
    Voice { form: args.log, quiet: args.common.quiet }
}

/// What stores are opened with.
pub(super) fn store_context(args: &HoseArgs, system: &System) -> Context {
    let voice = voice(args);
    Context::new(system, Environment::process(), Arc::new(move |line: &str| voice.warn("", line)))
}

/// When objects end.
pub(super) fn hints(args: &HoseArgs, target: &Target) -> Hints {
    let size = match target {
        // Objects that readers like, and the service's default for columns.
        Target::Objects(_) | Target::File(..) | Target::Service(Service::Redshift, _) => 128 << 20,
        // The service's default.
        Target::Service(..) | Target::Stream(_) | Target::Stdout => 5 << 20,
    };
    Hints {
        size: args.objects.buffer_size.unwrap_or(size),
        interval: args.objects.buffer_interval,
        // Each may have a file, while it is open, while it waits, and on its way.
        partitions_max: args.objects.partitions_max.min(open_files_max() / 4).max(1),
        memory_max: args.objects.memory,
    }
}

/// How long a destination is tried.
pub(super) fn policy(args: &HoseArgs) -> RetryPolicy {
    let policy = RetryPolicy::default();
    RetryPolicy { duration: args.service.retry_duration.unwrap_or(policy.duration), ..policy }
}

/// Where bodies are written on the way to a store that is not on this machine.
pub(super) fn scratch(system: &System) -> Scratch {
    Scratch::new(system, &std::env::temp_dir()).unnamed()
}

/// Names for objects.
pub(super) fn namer(
    args: &HoseArgs,
    signature: &Signature,
    extension: &Extension,
    location: Option<&Location>,
) -> anyhow::Result<Namer> {
    let prefix = match &args.objects.prefix {
        Some(text) => Prefix::parse(text, Role::Data).context("--prefix")?,
        None => Prefix::default_for(Role::Data),
    };
    let query = super::stages::key_query(args, &prefix.uses())?;
    let partitioner = Partitioner::new(prefix, zone(args)?, limits(signature, extension, location));
    Ok(Namer::new(partitioner, query, extension.clone(), signature.clone()))
}

/// The zone of timestamps in names.
pub(super) fn zone(args: &HoseArgs) -> anyhow::Result<Zone> {
    args.objects.time_zone.parse().map_err(|reason| anyhow!("--time-zone: {reason}"))
}

fn limits(signature: &Signature, extension: &Extension, location: Option<&Location>) -> Limits {
    let limits = match location {
        Some(location) if location.is_local() => Limits::DIRECTORY,
        _ => Limits::OBJECT_STORE,
    };
    let name = ObjectName {
        stream: &signature.stream,
        version: signature.version,
        oldest_us: 0,
        id: Uuid::nil(),
        extension,
    };
    let before_bytes = location.map_or(0, |location| location.to_string().len());
    Limits { before_bytes, suffix_bytes: name.suffix_bytes(), ..limits }
}

/// Where failed records go: below the destination, where that is a store, or to a URL of their own.
pub(super) fn errors(
    args: &HoseArgs,
    context: &Context,
    destination: Option<(&Location, &Arc<dyn Store>)>,
    fallback: &str,
    signature: &Signature,
    delivery: &str,
) -> anyhow::Result<ErrorOutput> {
    // Only what failed: that is another name for the error output.
    let failed = args.objects.backup.as_deref().and_then(|text| text.strip_prefix("failed="));
    let given = args.objects.errors.as_deref().or(failed);
    let elsewhere =
        given.filter(|text| text.contains("://") || text.starts_with('/') || text.starts_with('.'));
    let (store, prefix, location) = match (elsewhere, destination) {
        (Some(text), _) => {
            // A URL may have an expression in it: the place is what stands before.
            let (place, prefix) = match text.find("!{") {
                Some(at) => {
                    let slash = text[..at].rfind('/').map_or(0, |slash| slash + 1);
                    (&text[..slash], &text[slash..])
                }
                None => (text, ""),
            };
            let place = if place.ends_with('/') { place.to_owned() } else { format!("{place}/") };
            let location = Location::parse(&place).map_err(|reason| anyhow!("--errors: {reason}"))?;
            let prefix = if prefix.is_empty() { "!{firehose:error-output-type}/" } else { prefix };
            (location.open(context).context("--errors")?, prefix.to_owned(), location)
        }
        (None, Some((location, store))) => {
            (Arc::clone(store), given.unwrap_or(ERRORS_DEFAULT).to_owned(), location.clone())
        }
        (None, None) => {
            let location = Location::parse(fallback).map_err(|reason| anyhow!("error output: {reason}"))?;
            let prefix = given.unwrap_or("!{firehose:error-output-type}/");
            (location.open(context).context("error output")?, prefix.to_owned(), location)
        }
    };
    let prefix = Prefix::parse(&prefix, Role::Error).context("--errors")?;
    let extension = Extension::default();
    let partitioner = Partitioner::new(prefix, zone(args)?, limits(signature, &extension, Some(&location)));
    Ok(ErrorOutput {
        store,
        names: Arc::new(ErrorNames::new(partitioner, signature.clone())),
        lines: Arc::new(ErrorLines::new(&signature.stream, signature.stream_id, delivery)),
    })
}

/// All that changes what is delivered, shortened: when it changes the version in names rises, as in the service.
pub(super) fn fingerprint(args: &HoseArgs) -> String {
    let HoseArgs { stages, objects, table, service, .. } = args;
    let text = format!("{stages:?}{objects:?}{table:?}{:?}{:?}", service.common, service.index_rotation);
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
}

/// How records are taken apart.
pub(super) fn units(args: &HoseArgs) -> String {
    let stages = &args.stages;
    let mut units = Vec::new();
    units.extend(stages.decompress.as_ref().map(|format| format!("decompress={format}")));
    units.extend(stages.cloudwatch.then(|| "cloudwatch".to_owned()));
    units.extend(stages.deaggregate.as_ref().map(|how| format!("deaggregate={how}")));
    // What it makes of a record is numbered, whatever the query.
    units.extend(stages.jq.is_some().then(|| "jq".to_owned()));
    units.join(",")
}

/// A pause that is long enough that nobody waits for it.
pub(super) const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Where copies of source records go: `--backup all=URL`.
#[expect(clippy::type_complexity, reason = "used once")]
pub(super) fn backup(
    args: &HoseArgs,
    context: &Context,
    signature: &Signature,
) -> anyhow::Result<Option<(Arc<dyn Store>, Arc<ErrorNames>)>> {
    let Some(text) = args.objects.backup.as_deref() else { return Ok(None) };
    let Some(url) = text.strip_prefix("all=") else {
        anyhow::ensure!(text.starts_with("failed="), "--backup {text}: give all=URL or failed=URL");
        return Ok(None);
    };
    let place = if url.ends_with('/') { url.to_owned() } else { format!("{url}/") };
    let location = Location::parse(&place).map_err(|reason| anyhow!("--backup: {reason}"))?;
    let store = location.open(context).context("--backup")?;
    Ok(Some((store, Arc::new(backup_names(args, signature, Some(&location))?))))
}

/// Names for copies of source records.
pub(super) fn backup_names(
    args: &HoseArgs,
    signature: &Signature,
    location: Option<&Location>,
) -> anyhow::Result<ErrorNames> {
    let prefix = Prefix::default_for(Role::Data);
    let limits = limits(signature, &Extension::default(), location);
    Ok(ErrorNames::new(Partitioner::new(prefix, zone(args)?, limits), signature.clone()))
}
