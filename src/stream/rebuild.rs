//! A manifest made anew from the shards' own directories.
//!
//! Segment headers say which stream and shard they are of and when the shard was created; the frame in which a shard
//! ends names its children, their hash keys and all its parents. What only the manifest knew (settings, tags, the
//! stream's age) is lost: it gets what harms nobody, above all no retention.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use uuid::Uuid;

use super::error::{Error, InShard};
use super::manifest::{Closed, Compression, Manifest, NewShard, Reshard, ShardInfo};
use super::{SEGMENT_AGE_DEFAULT_US, SEGMENT_BYTES_DEFAULT};
use crate::hash::{HashKey, HashRange};
use crate::log::{AtRest, LogDir, LogId, at_rest, repair::identify};
use crate::record::ShardId;
use crate::sys::System;

struct Found {
    created_s: u64,
    rest: AtRest,
}

/// What the manifest of the stream at `path` must have said of its shards.
pub(super) fn manifest(system: &System, path: &Path) -> Result<Manifest, Error> {
    let (stream_id, found) = logs(system, path)?;
    let mut parents: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut ranges: BTreeMap<u32, HashRange> = BTreeMap::new();
    for log in found.values() {
        let Some(end) = &log.rest.end else { continue };
        for child in &end.children {
            ranges.insert(child.shard.0, child.range);
            parents.insert(child.shard.0, end.parents.iter().map(|parent| parent.0).collect());
        }
    }
    // A shard that was split had what its children have.
    for (&shard, log) in found.iter().rev() {
        let Some(end) = log.rest.end.as_ref().filter(|end| end.parents.len() == 1) else { continue };
        let start = end.children.iter().map(|child| child.range.start).min();
        let last = end.children.iter().map(|child| child.range.end).max();
        if let (Some(start), Some(end)) = (start, last) {
            ranges.entry(shard).or_insert(HashRange { start, end });
        }
    }
    roots(path, &found, &parents, &mut ranges)?;
    let mut shards = Vec::new();
    let mut pending = None;
    for (&shard, log) in &found {
        let range = ranges[&shard];
        let closed = log.rest.end.as_ref().and_then(|end| {
            let children: Vec<u32> = end.children.iter().map(|child| child.shard.0).collect();
            if !children.iter().all(|child| found.contains_key(child)) {
                // The split or merge was not finished: whoever opens the stream to write does it.
                let children = end.children.iter().map(|child| NewShard {
                    shard: child.shard.0,
                    starting_hash_key: child.range.start.0,
                    ending_hash_key: child.range.end.0,
                });
                let parents = end.parents.iter().map(|parent| parent.0).collect();
                pending = Some(Reshard { parents, children: children.collect() });
                return None;
            }
            let at_us = log.rest.arrival_us;
            Some(Closed { at_us, next_index: log.rest.next, children })
        });
        shards.push(ShardInfo {
            shard,
            starting_hash_key: range.start.0,
            ending_hash_key: range.end.0,
            created_us: log.created_s as i64 * 1_000_000,
            parents: parents.get(&shard).cloned().unwrap_or_default(),
            closed,
        });
    }
    let highest = found.keys().chain(parents.keys()).max().copied().unwrap_or(0);
    let now = system.clock.now_us();
    Ok(Manifest {
        // Above any that was: nobody replaces a manifest more than once a microsecond.
        generation: now.unsigned_abs(),
        stream_id,
        name: path.file_name().and_then(|n| n.to_str()).unwrap_or("stream").to_owned(),
        created_us: shards.iter().map(|shard| shard.created_us).min().unwrap_or(now),
        compatible_features: 0,
        required_features: 0,
        compression: Compression::None,
        // The service's largest: nothing that is there is above it.
        record_bytes_max: 50 << 20,
        retention_us: None,
        retain_bytes: None,
        segment_bytes: SEGMENT_BYTES_DEFAULT,
        segment_age_us: SEGMENT_AGE_DEFAULT_US,
        tags: BTreeMap::new(),
        next_shard: highest + 1,
        shards,
        expired: BTreeMap::new(),
        pending,
    })
}

/// The logs that lie in a directory, by shard, and the stream that they are of.
fn logs(system: &System, path: &Path) -> Result<(Uuid, BTreeMap<u32, Found>), Error> {
    let refuse = |reason: String| Error::Manifest { path: Manifest::path(path), reason };
    let names = system.disk.list(path);
    let names = names.map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            Error::NotFound { path: path.to_owned() }
        }
        _ => Error::Io { doing: "list", path: path.to_owned(), source },
    })?;
    let mut found = BTreeMap::new();
    let mut streams = BTreeSet::new();
    for name in names {
        let Some(id) = name.parse::<ShardId>().ok().filter(|id| id.to_string() == name) else { continue };
        let dir = path.join(&name);
        let Some((log, created_s)) = identify(system, &dir).in_shard(id)? else { continue };
        if log.shard != id.0 {
            return Err(refuse(format!("cannot be rebuilt: {name} holds segments of another shard")));
        }
        streams.insert(log.stream);
        let dir = LogDir { system: system.clone(), dir, id: LogId { ..log }, shard_created_s: created_s };
        let rest = at_rest(&dir, HashRange::ALL).in_shard(id)?;
        found.insert(id.0, Found { created_s, rest });
    }
    match streams.len() {
        0 => Err(Error::NotFound { path: path.to_owned() }),
        1 => Ok((Uuid::from_bytes(streams.pop_first().unwrap_or_default()), found)),
        _ => Err(refuse("cannot be rebuilt: the shards are of several streams".to_owned())),
    }
}

/// Gives hash keys to the shards that no other shard speaks of.
fn roots(
    path: &Path,
    found: &BTreeMap<u32, Found>,
    parents: &BTreeMap<u32, Vec<u32>>,
    ranges: &mut BTreeMap<u32, HashRange>,
) -> Result<(), Error> {
    let orphans: Vec<u32> = found.keys().copied().filter(|shard| !parents.contains_key(shard)).collect();
    let unknown: Vec<u32> = orphans.iter().copied().filter(|shard| !ranges.contains_key(shard)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    // Those that the stream was created with are numbered from 0 and share the space evenly.
    let first = parents.keys().min().copied().unwrap_or(u32::MAX);
    let whole =
        orphans.iter().copied().eq(0..orphans.len() as u32) && orphans.iter().all(|&shard| shard < first);
    if whole {
        for (&shard, range) in orphans.iter().zip(HashRange::split_evenly(orphans.len() as u32)) {
            ranges.entry(shard).or_insert(range);
        }
        return Ok(());
    }
    // Their parents have expired. One whose place is the only one left can still be told.
    let open =
        found.iter().filter(|(_, log)| log.rest.end.is_none()).filter_map(|(shard, _)| ranges.get(shard));
    let mut taken: Vec<HashRange> = open.copied().collect();
    taken.sort_unstable();
    let (mut free, mut next) = (Vec::new(), Some(0));
    for range in taken {
        if let Some(start) = next.filter(|&start| start < range.start.0) {
            free.push(HashRange { start: HashKey(start), end: HashKey(range.start.0 - 1) });
        }
        next = range.end.0.checked_add(1);
    }
    free.extend(next.map(|start| HashRange { start: HashKey(start), end: HashKey(u128::MAX) }));
    match (&unknown[..], &free[..]) {
        (&[shard], &[range]) if found[&shard].rest.end.is_none() => {
            ranges.insert(shard, range);
            Ok(())
        }
        _ => Err(Error::Manifest {
            path: Manifest::path(path),
            reason: "cannot be rebuilt: nothing is left that says which hash keys the shards own".to_owned(),
        }),
    }
}
