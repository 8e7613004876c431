//! Records that were not taken: kept with their reason, so that one command can put them back.
//!
//! What is said about them at the end is only said when it is so: "kept" means that the file has them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::cli::value::OnError;
use crate::codec::envelope::{Rejected, Rejection, write_rejected};

/// Who follows files runs for weeks: what he refuses is told this often at most.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// Where refused records go.
pub(super) struct Rejects {
    action: OnError,
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
    count: u64,
    /// Of how many only the start was kept.
    truncated: u64,
    first: Option<String>,
    /// How many were told of, and when that was.
    told: Option<(u64, Instant)>,
}

impl Rejects {
    /// Refused records of `stream` are dealt with as `action` says. A file that was named is opened at once: better no
    /// run than one that cannot keep what it refuses.
    pub(super) fn new(action: OnError, stream: &Path) -> anyhow::Result<Self> {
        let (path, file) = match &action {
            OnError::Reject(Some(file)) => (file.clone(), Some(open(file)?)),
            _ => (stream.join("rejects").join("kput.ndjson"), None),
        };
        Ok(Self { action, path, file, buffer: Vec::new(), count: 0, truncated: 0, first: None, told: None })
    }

    /// Whether the first refused record ends the run.
    pub(super) fn is_fatal(&self) -> bool {
        self.action == OnError::Fail
    }

    /// How many were refused.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Keeps one, if it is to be kept.
    pub(super) fn keep(
        &mut self,
        input: &str,
        number: u64,
        reason: &str,
        record: &Rejected<'_>,
        truncated: bool,
    ) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(format!("{input}: record {number}: {reason}"));
        }
        if matches!(self.action, OnError::Reject(_)) {
            self.truncated += u64::from(truncated);
            let rejection =
                Rejection { reason, number: Some(number), input: Some(input), truncated, more: "" };
            write_rejected(record, &rejection, &mut self.buffer);
        }
    }

    /// Writes what was kept; with `durable`, returns when it is on the disk.
    pub(super) fn flush(&mut self, durable: bool) -> anyhow::Result<()> {
        if !self.buffer.is_empty() {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(open(&self.path)?),
            };
            // One write of whole lines: several programs may append to the file.
            file.write_all(&self.buffer).with_context(|| self.refuse())?;
            self.buffer.clear();
        }
        if durable && let Some(file) = &self.file {
            match file.sync_data() {
                // A terminal, or a pipe: there is no disk under it.
                Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {}
                other => other.with_context(|| self.refuse())?,
            }
        }
        Ok(())
    }

    fn refuse(&self) -> String {
        format!("cannot keep refused records in {}", self.path.display())
    }

    /// What to say of a run that goes on, if it is time to.
    pub(super) fn news(&mut self) -> Option<String> {
        let (told, text) = match self.told {
            None if self.count > 0 => (0, format!("{}{}", self.first.as_deref()?, self.fate())),
            Some((told, at)) if self.count > told && at.elapsed() >= TOLD_EVERY => {
                (told, format!("{} more refused{}", plural(self.count - told), self.fate()))
            }
            _ => return None,
        };
        // After the first one the others of the same moment are told of at once, too.
        let now = if told == 0 { 1 } else { self.count };
        self.told = Some((now, Instant::now()));
        Some(text)
    }

    /// What became of them.
    fn fate(&self) -> String {
        match self.action {
            // They are in the file, or the run has failed at that and says so.
            OnError::Reject(_) if self.buffer.is_empty() => format!(", kept in {}", self.path.display()),
            OnError::Reject(_) => ", and could not be kept".to_owned(),
            _ => ", dropped".to_owned(),
        }
    }

    /// What to say at the end, if anything was refused.
    pub(super) fn summary(&self) -> Option<(String, Option<String>)> {
        let first = self.first.as_ref()?;
        let cut = match self.truncated {
            0 => String::new(),
            count => format!(" ({count} too long, of which only the first 4 KiB)"),
        };
        let text = format!("{} refused{}{cut}; the first: {first}", plural(self.count), self.fate());
        let kept = matches!(self.action, OnError::Reject(_)) && self.buffer.is_empty();
        let hint = kept
            .then(|| format!("less {}", crate::cli::stream_name::quote(&self.path.display().to_string())));
        Some((text, hint))
    }
}

fn plural(count: u64) -> String {
    if count == 1 { "1 record was".to_owned() } else { format!("{count} records were") }
}

fn open(path: &Path) -> anyhow::Result<File> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("cannot keep refused records in {}", path.display()))
}
