//! Records that were not taken: kept with their reason, so that one command can put them back.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::value::OnError;
use crate::codec::envelope::{Rejection, write_rejected};

/// Where refused records go.
pub(super) struct Rejects {
    action: OnError,
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
    count: u64,
    first: Option<String>,
}

impl Rejects {
    /// Refused records of `stream` are dealt with as `action` says.
    pub(super) fn new(action: OnError, stream: &Path) -> Self {
        let path = match &action {
            OnError::Reject(Some(file)) => file.clone(),
            _ => stream.join("rejects").join("kput.ndjson"),
        };
        Self { action, path, file: None, buffer: Vec::new(), count: 0, first: None }
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
        raw: &[u8],
        key: Option<&str>,
        truncated: bool,
    ) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(format!("{input}: record {number}: {reason}"));
        }
        if matches!(self.action, OnError::Reject(_)) {
            let rejection = Rejection { reason, number: Some(number), input: Some(input), truncated };
            write_rejected(key, raw, &rejection, &mut self.buffer);
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
            file.sync_data().with_context(|| self.refuse())?;
        }
        Ok(())
    }

    fn refuse(&self) -> String {
        format!("cannot keep refused records in {}", self.path.display())
    }

    /// What to say at the end, if anything was refused.
    pub(super) fn summary(&self) -> Option<(String, Option<String>)> {
        let first = self.first.as_ref()?;
        let kept = match self.action {
            OnError::Reject(_) => format!(", kept in {}", self.path.display()),
            _ => ", dropped".to_owned(),
        };
        let text = format!("{} refused{kept}; the first: {first}", plural(self.count));
        let hint = matches!(self.action, OnError::Reject(_))
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
