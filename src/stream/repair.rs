//! Repairing a stream: its manifest, each log, and where they disagree about the end of a shard.

use std::path::{Path, PathBuf};

use super::check::{CONSUMERS_NAME, Problem, REJECTS_NAME, lost_records};
use super::consumer::Consumer;
use super::error::{Error, InShard};
use super::manifest::{Manifest, Reshard, ShardInfo};
use super::{LOCKS_NAME, Stream, rebuild};
use crate::log::repair::{end_again, lost_end, repair as repair_log};
use crate::log::verify::Severity;
use crate::log::{AtRest, Child, EndOfShard, Writer, at_rest};
use crate::record::ShardId;
use crate::sys::System;

/// Repairs the stream at `path`; what is replaced is kept under `rejects/`. `on` is told of each problem before it is
/// mended. Returns the stream, where things were kept, and what could not be mended.
pub fn repair(
    system: &System,
    path: &Path,
    dry_run: bool,
    on: &mut dyn FnMut(&Problem),
) -> Result<(Stream, PathBuf, Vec<Problem>), Error> {
    let stamp = system.clock.now_us() / 1_000_000;
    let keep = path.join(REJECTS_NAME).join(format!("repair-{stamp}"));
    let mut stream = open(system, path, &keep, dry_run, on)?;
    let mut left = Vec::new();
    let table = path.join(LOCKS_NAME);
    if !system.disk.exists(&table) {
        let text = "is missing: end all programs that write to the stream before it is made anew".to_owned();
        on(&Problem::Stream { severity: Severity::Damage, shard: None, path: table, text });
        if dry_run {
            // Whether anybody writes cannot be told, so no log is looked at.
            return Ok((stream, keep, Vec::new()));
        }
    }
    let locks = stream.create_locks()?;
    for info in stream.manifest().shards.clone() {
        let log = stream.log_dir(&info);
        let problem = |finding: &crate::log::verify::Finding| Problem::Log {
            shard: info.id(),
            shard_created_s: info.created_s(),
            finding: finding.clone(),
        };
        let dir = keep.join(info.id().to_string());
        let mut tell = |finding: &crate::log::verify::Finding| on(&problem(finding));
        match repair_log(&log, &locks, &dir, dry_run, &mut tell) {
            Ok(rest) => left.extend(rest.iter().map(problem)),
            Err(crate::log::Error::Empty { .. }) => left.push(lost_shard(&stream, &info)),
            Err(_) if !system.disk.exists(&log.dir) => left.push(lost_shard(&stream, &info)),
            other => drop(other.in_shard(info.id())?),
        }
    }
    if stream.manifest().pending.is_none() {
        ends(&mut stream, &keep, dry_run, on)?;
    }
    consumers(&stream, &keep, dry_run, on)?;
    left.extend(ahead(&stream)?);
    Ok((stream, keep, left))
}

/// Makes directories, each within the one before.
fn make_dirs(system: &System, dirs: &[&Path]) -> Result<(), Error> {
    for dir in dirs.iter().filter(|dir| !system.disk.exists(dir)) {
        let failed = |source| Error::Io { doing: "create", path: dir.to_path_buf(), source };
        system.disk.create_dir(dir).map_err(failed)?;
    }
    Ok(())
}

/// Sets aside the places of consumers that cannot be read. There is nothing to make them of anew.
fn consumers(stream: &Stream, keep: &Path, dry_run: bool, on: &mut dyn FnMut(&Problem)) -> Result<(), Error> {
    for name in Consumer::list(stream)? {
        let consumer = Consumer::open(stream, &name)?;
        let Err(Error::Manifest { path, reason }) = consumer.state() else { continue };
        let text = format!("{reason}; it is set aside: consumer {name} begins anew");
        on(&Problem::Stream { severity: Severity::Damage, shard: None, path, text });
        if !dry_run {
            let (rejects, all) = (stream.path.join(REJECTS_NAME), keep.join(CONSUMERS_NAME));
            let dir = all.join(&name);
            make_dirs(&stream.system, &[&rejects, keep, &all, &dir])?;
            consumer.set_aside(&dir)?;
        }
    }
    Ok(())
}

/// Consumers that stand behind the end of a shard: what they had read has been taken out of it, with an older copy put
/// in its place perhaps. What is written there now would be passed over; where they are to begin is not for a repair to
/// say.
fn ahead(stream: &Stream) -> Result<Vec<Problem>, Error> {
    let mut problems = Vec::new();
    for name in Consumer::list(stream)? {
        let Ok(state) = Consumer::open(stream, &name)?.state() else { continue };
        for (shard, known) in &state.shards {
            let Some(info) = stream.manifest().shard(ShardId(*shard)) else { continue };
            let (Some(index), Ok(rest)) =
                (known.checkpoint.next_index(), at_rest(&stream.log_dir(info), info.range()))
            else {
                continue;
            };
            if index > rest.next {
                let text = format!(
                    "consumer {name} stands at index {index} of {}, which ends at {}: let it begin again (kshard \
                     consumers STREAM {name} --reset)",
                    info.id(),
                    rest.next,
                );
                let path = stream.path.join(CONSUMERS_NAME).join(&name);
                problems.push(Problem::Stream {
                    severity: Severity::Damage,
                    shard: Some(info.id()),
                    path,
                    text,
                });
            }
        }
    }
    Ok(problems)
}

fn lost_shard(stream: &Stream, info: &ShardInfo) -> Problem {
    Problem::Stream {
        severity: Severity::Damage,
        shard: Some(info.id()),
        path: stream.log_dir(info).dir,
        text: "holds no segment: put it back from a copy; it cannot be begun anew, or sequence numbers would be \
               used twice"
            .to_owned(),
    }
}

/// Opens the stream, with a manifest made anew if its own does not hold.
fn open(
    system: &System,
    path: &Path,
    keep: &Path,
    dry_run: bool,
    on: &mut dyn FnMut(&Problem),
) -> Result<Stream, Error> {
    let refusal = match Stream::open(system, path) {
        Err(error @ (Error::NotFound { .. } | Error::Manifest { .. })) => error,
        other => return other,
    };
    let file = Manifest::path(path);
    let manifest = match rebuild::manifest(system, path) {
        // There is nothing there that was a stream.
        Err(Error::NotFound { .. }) => {
            return Err(match refusal {
                Error::Manifest { path, reason } => Error::Invalid(format!(
                    "{}: {reason}, and there are no shards to make it anew from",
                    path.display()
                )),
                refusal => refusal,
            });
        }
        other => other?,
    };
    let stream = Stream { system: system.clone(), path: path.to_owned(), manifest };
    stream.refuse_network()?;
    let text = match &refusal {
        Error::Manifest { reason, .. } => format!("{reason}; it is made anew, without settings and tags"),
        _ => "is missing; it is made anew, without settings and tags".to_owned(),
    };
    let problem = Problem::Stream { severity: Severity::Damage, shard: None, path: file.clone(), text };
    on(&problem);
    if dry_run {
        return Ok(stream);
    }
    let disk = &system.disk;
    if let Ok(bytes) = disk.read(&file, 256 << 20) {
        make_dirs(system, &[keep.parent().unwrap_or(path), keep])?;
        let path = keep.join("manifest.json");
        disk.replace(&path, &bytes).map_err(|source| Error::Io { doing: "write", path, source })?;
    }
    stream.write_manifest()?;
    Ok(stream)
}

/// Mends shards whose log and manifest do not agree on whether they have ended.
fn ends(stream: &mut Stream, keep: &Path, dry_run: bool, on: &mut dyn FnMut(&Problem)) -> Result<(), Error> {
    for info in stream.manifest().shards.clone() {
        let id = info.id();
        let log = stream.log_dir(&info);
        let Ok(AtRest { end, next, .. }) = at_rest(&log, info.range()) else { continue };
        let text = match (&info.closed, &end) {
            (Some(closed), None) => match lost_end(&log, closed.next_index).in_shard(id)? {
                Some(lost) => format!(
                    "the end of the shard is lost, and {} before it: they become a gap, and the end is written again",
                    lost_records(&info, lost)
                ),
                None => "the end of the shard is lost: it is written again".to_owned(),
            },
            (None, Some(_)) => "its log has ended: the manifest is told so".to_owned(),
            (Some(closed), Some(_)) if closed.next_index != next => {
                "the manifest has another end of the shard".to_owned()
            }
            _ => continue,
        };
        let (severity, path) = (Severity::Damage, log.dir.clone());
        on(&Problem::Stream { severity, shard: Some(id), path, text });
        if dry_run {
            continue;
        }
        match (&info.closed, end) {
            (None, Some(end)) => {
                let children = end.children.iter().map(|child| super::NewShard {
                    shard: child.shard.0,
                    starting_hash_key: child.range.start.0,
                    ending_hash_key: child.range.end.0,
                });
                let parents = end.parents.iter().map(|parent| parent.0).collect();
                let reshard = Reshard { parents, children: children.collect() };
                stream.update(|manifest| {
                    manifest.pending = Some(reshard);
                    Ok(())
                })?;
                stream.settle()?;
            }
            // An index above the end was used once: so it stays.
            (Some(closed), None) if next > closed.next_index => {
                let end = end_of(stream, id, &closed.children);
                let mut writer =
                    Writer::open(log.clone(), stream.locks()?, stream.roll(), info.range()).in_shard(id)?;
                writer.end(&end).in_shard(id)?;
                told(stream, id)?;
            }
            (Some(closed), None) => {
                let end = end_of(stream, id, &closed.children);
                let keep = keep.join(id.to_string());
                end_again(&log, &stream.locks()?, &keep, closed.next_index, &end).in_shard(id)?;
            }
            _ => told(stream, id)?,
        }
    }
    Ok(())
}

/// What the closing frame of a shard must have said.
fn end_of(stream: &Stream, id: ShardId, children: &[u32]) -> EndOfShard {
    let infos: Vec<&ShardInfo> =
        children.iter().filter_map(|&child| stream.manifest().shard(ShardId(child))).collect();
    let mut parents: Vec<ShardId> = infos
        .first()
        .map_or(Vec::new(), |child| child.parents.iter().map(|&parent| ShardId(parent)).collect());
    if parents.is_empty() {
        parents.push(id);
    }
    let children = infos.iter().map(|info| Child { shard: info.id(), range: info.range() }).collect();
    EndOfShard { children, parents }
}

/// Writes into the manifest where a closed shard ends.
fn told(stream: &mut Stream, id: ShardId) -> Result<(), Error> {
    let info = stream.manifest().shard(id).ok_or(Error::NoShard(id))?.clone();
    let next = at_rest(&stream.log_dir(&info), info.range()).in_shard(id)?.next;
    stream.update(|manifest| {
        for shard in manifest.shards.iter_mut().filter(|shard| shard.shard == id.0) {
            if let Some(closed) = &mut shard.closed {
                closed.next_index = next;
            }
        }
        Ok(())
    })
}
