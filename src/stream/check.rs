//! Checking a stream: each log from end to end, and what manifest, logs, checkpoints and names say of each other.
//!
//! It takes no lock and may run while others write: the manifest is read before the logs and again behind them, and
//! only what both say of a shard is held against it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::{Error, InShard};
use super::manifest::{Manifest, ShardInfo};
use super::{LOCKS_NAME, MANIFEST_NAME, Stream};
use crate::hash::HashRange;
use crate::log::verify::{Depth, Event, Finding, Lost, Severity, Verified, verify};
use crate::record::{SequenceNumber, ShardId};
use crate::sys::System;

/// The directory of named consumers within a stream.
pub(super) const CONSUMERS_NAME: &str = "consumers";
/// The directory of what was refused or removed.
pub(super) const REJECTS_NAME: &str = "rejects";
/// A consumer's places, in its directory.
pub(super) const STATE_NAME: &str = "state.json";
/// More than any consumer's places take.
pub(super) const STATE_BYTES_MAX: usize = 256 << 20;

/// What a check tells while it goes on.
#[derive(Debug)]
pub enum Told {
    /// This much more has been gone through.
    Progress {
        /// Records.
        records: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Something that a person should know.
    Found(Problem),
}

/// Something that a person should know.
#[derive(Debug, Clone)]
pub enum Problem {
    /// In a shard's log.
    Log {
        /// The shard.
        shard: ShardId,
        /// When it was created, seconds since the epoch (for sequence numbers).
        shard_created_s: u64,
        /// What.
        finding: Finding,
    },
    /// Between the parts of the stream.
    Stream {
        /// Whether something is not what it was.
        severity: Severity,
        /// The shard it is about.
        shard: Option<ShardId>,
        /// The file or directory.
        path: PathBuf,
        /// What.
        text: String,
    },
}

impl Problem {
    /// Whether it is damage.
    pub fn is_damage(&self) -> bool {
        let severity = match self {
            Self::Log { finding, .. } => finding.flaw.severity(),
            Self::Stream { severity, .. } => *severity,
        };
        severity == Severity::Damage
    }

    /// The first and the last sequence number that it takes. The times in them are those of the records around.
    pub fn sequences(&self) -> Option<(SequenceNumber, SequenceNumber)> {
        let Self::Log { shard, shard_created_s, finding } = self else { return None };
        let lost = finding.lost.filter(|lost| lost.next > lost.first)?;
        let number = |index, at| super::sequence(*shard, *shard_created_s, index, at);
        Some((number(lost.first, lost.before_us), number(lost.next - 1, lost.after_us)))
    }
}

/// A stream that is to be checked.
pub enum Opened {
    /// It can be gone through. Where its manifest does not hold it has one as repair would make it, and [`check`] tells.
    Stream(Box<Stream>),
    /// Nothing is left that says what it was.
    Lost(Vec<Problem>),
}

/// Opens a stream for [`check`], whatever its manifest is like.
pub fn open(system: &System, path: &Path) -> Result<Opened, Error> {
    let refusal = match Stream::open(system, path) {
        Err(error @ (Error::NotFound { .. } | Error::Manifest { .. })) => error,
        other => return other.map(|stream| Opened::Stream(Box::new(stream))),
    };
    match super::rebuild::manifest(system, path) {
        Ok(manifest) => {
            let stream = Stream { system: system.clone(), path: path.to_owned(), manifest };
            stream.refuse_network()?;
            Ok(Opened::Stream(Box::new(stream)))
        }
        // There is nothing there that was a stream.
        Err(Error::NotFound { .. }) if matches!(refusal, Error::NotFound { .. }) => Err(refusal),
        Err(Error::NotFound { .. }) => Ok(Opened::Lost(vec![of_manifest(path, &refusal)])),
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            let rest =
                Problem::Stream { severity: Severity::Damage, shard: None, path: path.to_owned(), text };
            Ok(Opened::Lost(vec![of_manifest(path, &refusal), rest]))
        }
    }
}

/// That a manifest does not hold.
fn of_manifest(path: &Path, refusal: &Error) -> Problem {
    let text = match refusal {
        Error::Manifest { reason, .. } => reason.clone(),
        _ => "is missing".to_owned(),
    };
    Problem::Stream { severity: Severity::Damage, shard: None, path: Manifest::path(path), text }
}

/// Checks a stream and says what each shard holds.
pub fn check(
    stream: &Stream,
    depth: Depth,
    on: &mut dyn FnMut(Told),
) -> Result<Vec<(ShardId, Verified)>, Error> {
    let before = stream.manifest().clone();
    if let Err(error @ (Error::NotFound { .. } | Error::Manifest { .. })) = stream.clone().reload() {
        on(Told::Found(of_manifest(stream.path(), &error)));
    }
    let mut verified = Vec::new();
    for info in &before.shards {
        let log = stream.log_dir(info);
        let mut tell = |event| match event {
            Event::Progress { records, bytes } => on(Told::Progress { records, bytes }),
            Event::Found(finding) => {
                on(Told::Found(Problem::Log {
                    shard: info.id(),
                    shard_created_s: info.created_s(),
                    finding,
                }));
            }
        };
        match verify(&log, depth, &mut tell) {
            Ok(sum) => verified.push((info.id(), sum)),
            Err(_) if !stream.system.disk.exists(&log.dir) => {
                // Retention may have taken it; else it is told of below.
                verified.push((info.id(), Verified::default()));
            }
            Err(crate::log::Error::Empty { .. }) => verified.push((info.id(), Verified::default())),
            other => drop(other.in_shard(info.id())?),
        }
    }
    let mut now = stream.clone();
    match now.reload() {
        // That was told of before, and what was made in its place stands.
        Err(Error::NotFound { .. } | Error::Manifest { .. }) => {}
        other => drop(other?),
    }
    let mut checker = Checker { stream, now: &now.manifest, on };
    for (id, sum) in &verified {
        if let (Some(info), Some(later)) = (before.shard(*id), now.manifest.shard(*id)) {
            checker.shard(info, later, sum);
            checker.start(later, sum);
        }
    }
    checker.lineage();
    checker.names()?;
    checker.consumers(&verified)?;
    Ok(verified)
}

/// Records of a shard that are lost, in words.
pub(super) fn lost_records(shard: &ShardInfo, lost: Lost) -> String {
    let number = |index, at| super::sequence(shard.id(), shard.created_s(), index, at);
    format!(
        "up to {} records, sequence numbers {} to {},",
        lost.next - lost.first,
        number(lost.first, lost.before_us),
        number(lost.next.saturating_sub(1), lost.after_us)
    )
}

struct Checker<'a> {
    stream: &'a Stream,
    /// The manifest as it was after the logs had been read.
    now: &'a Manifest,
    on: &'a mut dyn FnMut(Told),
}

impl Checker<'_> {
    fn say(&mut self, severity: Severity, shard: Option<ShardId>, path: PathBuf, text: impl Into<String>) {
        (self.on)(Told::Found(Problem::Stream { severity, shard, path, text: text.into() }));
    }

    fn damage(&mut self, shard: ShardId, text: impl Into<String>) {
        let path = self.stream.path().join(shard.to_string());
        self.say(Severity::Damage, Some(shard), path, text);
    }

    /// Holds the end of a shard's log against the manifest.
    fn shard(&mut self, before: &ShardInfo, now: &ShardInfo, sum: &Verified) {
        let id = before.id();
        if sum.segments == 0 {
            return self.damage(id, "the shard's directory holds no segment");
        }
        match (&before.closed, &now.closed, &sum.end) {
            (Some(closed), _, None) => {
                let mut text = "the manifest says that the shard has ended, its log does not".to_owned();
                if closed.next_index > sum.next {
                    let (before_us, after_us) = (sum.arrival_us, closed.at_us);
                    let lost = Lost { first: sum.next, next: closed.next_index, before_us, after_us };
                    text = format!("{text}: {} are lost", lost_records(before, lost));
                }
                self.damage(id, text);
            }
            (_, None, Some(end)) => {
                let pending = self.now.pending.as_ref().is_some_and(|p| p.parents.contains(&id.0));
                if pending {
                    let path = self.stream.path().join(id.to_string());
                    let text = "a split or merge was interrupted: the next command that writes finishes it";
                    self.say(Severity::Note, Some(id), path, text);
                } else {
                    let children: Vec<String> = end.children.iter().map(|c| c.shard.to_string()).collect();
                    let children = children.join(" and ");
                    self.damage(id, format!("its log ends in {children}, and the manifest has it open"));
                }
            }
            (_, Some(closed), Some(end)) => {
                let children: Vec<u32> = end.children.iter().map(|child| child.shard.0).collect();
                if closed.children != children {
                    self.damage(id, "its log names other children than the manifest");
                }
                for child in &end.children {
                    if self.now.shard(child.shard).is_some_and(|info| info.range() != child.range) {
                        self.damage(id, format!("its log gives {} other hash keys", child.shard));
                    }
                }
                if closed.next_index != sum.next {
                    let text = format!(
                        "its log ends at index {}, the manifest says {}",
                        sum.next, closed.next_index
                    );
                    self.damage(id, text);
                }
            }
            (None, _, None) => {}
        }
    }

    /// Looks whether the start of a shard's log can have expired: a segment that was removed by hand leaves no other
    /// trace than that.
    fn start(&mut self, shard: &ShardInfo, sum: &Verified) {
        if sum.first == 0 || self.now.retain_bytes.is_some() {
            return;
        }
        let log = self.stream.log_dir(shard);
        let Some(created_us) =
            crate::log::segments(&log).ok().and_then(|segments| Some(segments.first()?.created_us))
        else {
            return;
        };
        // Nothing before a segment arrived after it was created, and it goes only when all of it has expired.
        let horizon_us = self.now.horizon_us(self.stream.system.clock.now_us());
        if horizon_us.is_none_or(|horizon_us| created_us > horizon_us) {
            let text = format!(
                "it begins at index {}, and by the retention period nothing before that can have expired: unless the \
                 period was shorter, a segment was removed",
                sum.first
            );
            self.say(Severity::Note, Some(shard.id()), log.dir, text);
        }
    }

    /// Holds the shards of the manifest against each other. That the open ones cover the space was seen on reading.
    fn lineage(&mut self) {
        let manifest = self.now;
        for info in &manifest.shards {
            let id = info.id();
            for &parent in &info.parents {
                let Some(parent) = manifest.shard(ShardId(parent)) else { continue };
                if !parent.closed.as_ref().is_some_and(|closed| closed.children.contains(&id.0)) {
                    self.damage(id, format!("its parent {} does not name it", parent.id()));
                }
                if !parent.range().overlaps(&info.range()) {
                    self.damage(id, format!("it has no hash key of its parent {}", parent.id()));
                }
                if info.created_s() < parent.created_s() {
                    self.damage(id, format!("it is older than its parent {}", parent.id()));
                }
            }
            for &child in info.closed.iter().flat_map(|closed| &closed.children) {
                match manifest.shard(ShardId(child)) {
                    Some(child) if !child.parents.contains(&id.0) => {
                        self.damage(id, format!("its child {} does not name it", child.id()));
                    }
                    // An expired parent goes before its children.
                    None => self.damage(id, format!("its child {} is not in the manifest", ShardId(child))),
                    Some(_) => {}
                }
            }
            let children: Vec<HashRange> = info
                .closed
                .iter()
                .flat_map(|closed| &closed.children)
                .filter_map(|&child| manifest.shard(ShardId(child)).map(ShardInfo::range))
                .collect();
            let covered = children.iter().any(|range| range.covers(&info.range()))
                || children.iter().map(|range| range.start).min() == Some(info.range().start)
                    && children.iter().map(|range| range.end).max() == Some(info.range().end);
            if !children.is_empty() && !covered {
                self.damage(id, "its children have other hash keys than it had");
            }
        }
    }

    /// Looks for names that are none of ours.
    fn names(&mut self) -> Result<(), Error> {
        let root = self.stream.path().to_owned();
        let names = self.list(&root)?;
        if !names.iter().any(|name| name == LOCKS_NAME) {
            let text = "is missing: end all programs that write to the stream before a repair makes it anew";
            self.say(Severity::Damage, None, root.join(LOCKS_NAME), text);
        }
        for name in names {
            let path = root.join(&name);
            let shard = name.strip_prefix("shardId-").and_then(|_| name.parse::<ShardId>().ok());
            if let Some(id) = shard.filter(|id| id.to_string() == name) {
                let coming = self.now.pending.iter().flat_map(|p| &p.children).any(|c| c.shard == id.0);
                if self.now.shard(id).is_some() {
                    self.names_in_shard(&path)?;
                } else if id.0 < self.now.next_shard {
                    self.say(Severity::Note, Some(id), path, "is left over from a shard that has expired");
                } else if !coming {
                    self.damage(id, "the manifest does not know the shard");
                }
            } else if name.starts_with('.') && is_unfinished(&name) {
                self.say(Severity::Note, None, path, "is left over from a program that was killed");
            } else if ![MANIFEST_NAME, LOCKS_NAME, CONSUMERS_NAME, REJECTS_NAME].contains(&name.as_str()) {
                self.say(Severity::Note, None, path, "is no part of a stream");
            }
        }
        Ok(())
    }

    fn names_in_shard(&mut self, dir: &Path) -> Result<(), Error> {
        let names: BTreeSet<String> = self.list(dir)?.into_iter().collect();
        for name in &names {
            let base = name.get(..20).filter(|base| base.bytes().all(|b| b.is_ascii_digit()));
            let known = base.is_some_and(|base| match &name[20..] {
                ".seg" => true,
                ".idx" | ".bad" => names.contains(&format!("{base}.seg")),
                _ => false,
            });
            if !known && self.stream.system.disk.exists(&dir.join(name)) {
                let text = if name.starts_with('.') {
                    "is left over from a program that was killed"
                } else {
                    "is no part of a shard"
                };
                self.say(Severity::Note, None, dir.join(name), text);
            }
        }
        Ok(())
    }

    /// Holds consumers' places against what the shards hold.
    fn consumers(&mut self, verified: &[(ShardId, Verified)]) -> Result<(), Error> {
        let dir = self.stream.path().join(CONSUMERS_NAME);
        if !self.stream.system.disk.exists(&dir) {
            return Ok(());
        }
        for name in self.list(&dir)? {
            let path = dir.join(&name).join(STATE_NAME);
            let Ok(bytes) = self.stream.system.disk.read(&path, STATE_BYTES_MAX) else { continue };
            match super::consumer::places(&path, &bytes) {
                Err(error) => self.say(Severity::Damage, None, path, error.to_string()),
                Ok(places) => {
                    for (shard, index) in places {
                        let end = verified.iter().find(|(id, _)| *id == shard).map(|(_, sum)| sum.next);
                        // A writer may have gone on behind the end that was seen, and the consumer with it.
                        let open = self.now.shard(shard).is_some_and(ShardInfo::is_open);
                        let beyond = end.is_some_and(|end| index > end);
                        if beyond && !(open && self.holds(shard, index)) {
                            let text = format!(
                                "consumer {name} stands at index {index} of {shard}, which ends at {}",
                                end.unwrap_or(0)
                            );
                            self.say(Severity::Damage, Some(shard), path.clone(), text);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a shard reaches up to an index by now.
    fn holds(&self, shard: ShardId, index: u64) -> bool {
        let Some(info) = self.now.shard(shard) else { return false };
        crate::log::at_rest(&self.stream.log_dir(info), info.range()).is_ok_and(|rest| rest.next >= index)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Error> {
        let listed = self.stream.system.disk.list(dir);
        let mut names = listed.map_err(|source| Error::Io { doing: "list", path: dir.to_owned(), source })?;
        names.sort_unstable();
        Ok(names)
    }
}

/// Whether a name is of something that was being built.
fn is_unfinished(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "tmp" || end == "new")
}
