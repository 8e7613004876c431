//! What cannot be read: damage, and what retention took away. Named always, passed over only where that was asked for.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use crate::cli::meter::Meter;
use crate::cli::report::{self, HintExt};
use crate::cli::stream_name::{quote, show};
use crate::cli::value::{OnError, show_count};
use crate::codec::envelope::{Rejection, write_rejected};
use crate::log::{Damage, Missed};
use crate::record::ShardId;

/// At most so many of a damaged stretch's bytes are kept.
const KEPT_BYTES_MAX: u64 = 1 << 20;

/// Keeps count of what could not be read.
pub(super) struct Trouble {
    stream: PathBuf,
    on_error: OnError,
    met: bool,
}

impl Trouble {
    pub(super) fn new(stream: &Path, on_error: OnError) -> Self {
        Self { stream: stream.to_owned(), on_error, met: false }
    }

    /// Whether something could not be read.
    pub(super) fn met(&self) -> bool {
        self.met
    }

    /// Damage: an error, or a line on standard error.
    pub(super) fn damage(&mut self, shard: ShardId, damage: &Damage, meter: &Meter) -> anyhow::Result<()> {
        let segment = damage.path.file_name().unwrap_or_default().to_string_lossy();
        let lost = damage.next.saturating_sub(damage.first);
        let text = format!(
            "stream {}: {shard}: segment {segment}: damaged from byte {} to {}, {}: {}",
            show(&self.stream),
            damage.offset,
            damage.until,
            match lost {
                0 => "no record is lost by it".to_owned(),
                _ => format!("records {} to {} are lost", damage.first, damage.next - 1),
            },
            damage.reason,
        );
        if self.on_error == OnError::Fail {
            return Err(anyhow!(text)).with_hint(try_skipping);
        }
        self.met = true;
        if let OnError::Reject(file) = &self.on_error {
            let file = file.clone().unwrap_or_else(|| self.stream.join("rejects").join("kget.ndjson"));
            keep(&file, damage, &text).with_context(|| format!("reject file {}", file.display()))?;
        }
        meter.aside(|| report::say("kget", &text, None));
        Ok(())
    }

    /// What retention removed before it was read.
    pub(super) fn missed(&mut self, shard: ShardId, missed: Missed, meter: &Meter) {
        self.met = true;
        let text = format!(
            "stream {}: {shard}: missed records {} to {}: {}",
            show(&self.stream),
            missed.from,
            missed.to - 1,
            why_missed(missed),
        );
        let longer = || format!("kshard retention {} 7d, so that records stay longer", show(&self.stream));
        let hint = (!missed.repaired).then(longer);
        meter.aside(|| report::say("kget", &text, hint.as_deref()));
    }

    /// A shard that expired as a whole before a consumer had come to its end, so long ago that nobody knows where that
    /// was.
    pub(super) fn missed_shard(&mut self, shard: ShardId, meter: &Meter) {
        self.met = true;
        let text = format!(
            "stream {}: {shard}: missed what was left of it: retention removed the shard before it was read",
            show(&self.stream),
        );
        meter.aside(|| report::say("kget", &text, None));
    }
}

/// Why records are gone that had not been read.
fn why_missed(missed: Missed) -> &'static str {
    if missed.repaired {
        "they were damaged, and a repair has set them aside"
    } else {
        "retention removed them before they were read"
    }
}

/// The same command, told to go on.
fn try_skipping() -> String {
    let args: Vec<String> = std::env::args().skip(1).map(|arg| quote(&arg)).collect();
    format!("kget {} --on-error skip", args.join(" "))
}

/// Appends the bytes that do not hold, as a rejected record, to a file.
fn keep(path: &Path, damage: &Damage, reason: &str) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let len = (damage.until - damage.offset).min(KEPT_BYTES_MAX);
    let mut bytes = vec![0; len as usize];
    let got = match File::open(&damage.path) {
        Ok(segment) => segment.read_at(&mut bytes, damage.offset)?,
        // The damage may be just that.
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(error.into()),
    };
    let rejection = Rejection {
        reason,
        number: None,
        input: damage.path.to_str(),
        truncated: damage.until - damage.offset > got as u64,
    };
    let mut line = Vec::new();
    write_rejected(None, &bytes[..got], &rejection, &mut line);
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(&line)?;
    file.sync_data()?;
    Ok(())
}

/// How many records, for the eye.
pub(super) fn records(count: u64) -> String {
    format!("{} record{}", show_count(count), if count == 1 { "" } else { "s" })
}
