//! What cannot be read: damage, and what retention took away. Named always, passed over only where that was asked for.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::cli::meter::Meter;
use crate::cli::report::{self, HintExt};
use crate::cli::stream_name::{quote, show};
use crate::cli::value::{OnError, show_count, show_duration, show_size};
use crate::codec::envelope::{Rejected, Rejection, write_rejected};
use crate::log::{Damage, Missed};
use crate::record::ShardId;
use crate::stream::{Manifest, RETENTION_MAX_US, Stream};

/// At most so many of a damaged stretch's bytes are kept.
const KEPT_BYTES_MAX: u64 = 1 << 20;

/// Keeps count of what could not be read.
pub(crate) struct Trouble {
    /// The program that speaks.
    program: &'static str,
    stream: PathBuf,
    /// What to do that records stay longer.
    longer: String,
    on_error: OnError,
    met: bool,
}

impl Trouble {
    pub(crate) fn new(program: &'static str, stream: &Stream, on_error: OnError) -> Self {
        let path = stream.path().to_owned();
        Self { program, longer: keep_longer(&path, stream.manifest()), stream: path, on_error, met: false }
    }

    /// Whether something could not be read.
    pub(crate) fn met(&self) -> bool {
        self.met
    }

    /// Damage: an error, or a line on standard error.
    pub(crate) fn damage(&mut self, shard: ShardId, damage: &Damage, meter: &Meter) -> anyhow::Result<()> {
        let segment = damage.path.file_name().unwrap_or_default().to_string_lossy();
        let lost = damage.next.saturating_sub(damage.first);
        let text = format!(
            "{shard}: segment {segment}: damaged from byte {} to {}, {}: {}",
            damage.offset,
            damage.until,
            match lost {
                0 => "no record is lost by it".to_owned(),
                _ => format!("records {} to {} are lost", damage.first, damage.next - 1),
            },
            damage.reason,
        );
        if self.on_error == OnError::Fail {
            // Whoever prints it names the stream.
            return Err(anyhow!(text)).with_hint(|| skipping(self.program, std::env::args().skip(1)));
        }
        let text = format!("stream {}: {text}", show(&self.stream));
        self.met = true;
        if let OnError::Reject(file) = &self.on_error {
            let file = file
                .clone()
                .unwrap_or_else(|| self.stream.join("rejects").join(format!("{}.ndjson", self.program)));
            keep(&file, damage, &text).with_context(|| format!("reject file {}", file.display()))?;
        }
        meter.aside(|| report::say(self.program, &text, None));
        Ok(())
    }

    /// What retention removed before it was read.
    pub(crate) fn missed(&mut self, shard: ShardId, missed: Missed, meter: &Meter) {
        self.met = true;
        let text = format!(
            "stream {}: {shard}: missed records {} to {}: {}",
            show(&self.stream),
            missed.from,
            missed.to - 1,
            why_missed(missed),
        );
        let hint = (!missed.repaired).then_some(self.longer.as_str());
        meter.aside(|| report::say(self.program, &text, hint));
    }

    /// A shard that expired as a whole before a consumer had come to its end, so long ago that nobody knows where that
    /// was.
    pub(crate) fn missed_shard(&mut self, shard: ShardId, meter: &Meter) {
        self.met = true;
        let text = format!(
            "stream {}: {shard}: missed what was left of it: retention removed the shard before it was read",
            show(&self.stream),
        );
        meter.aside(|| report::say(self.program, &text, None));
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
fn skipping(program: &str, mut args: impl Iterator<Item = String>) -> String {
    let mut words = vec![program.to_owned()];
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // It was told otherwise.
            "--on-error" => drop(args.next()),
            _ if arg.starts_with("--on-error=") => {}
            _ => words.push(quote(&arg)),
        }
    }
    words.push("--on-error skip".to_owned());
    words.join(" ")
}

/// What doubles the time that records stay, or the room that they have, whichever of them ends.
fn keep_longer(path: &Path, manifest: &Manifest) -> String {
    let mut command = format!("kshard retention {}", quote(&path.to_string_lossy()));
    if let Some(us) = manifest.retention_us {
        let longer = us.saturating_mul(2).min(RETENTION_MAX_US);
        let _ = write!(command, " {}", show_duration(Duration::from_micros(longer as u64)));
    }
    if let Some(bytes) = manifest.retain_bytes {
        let _ = write!(command, " --bytes {}", show_size(bytes.saturating_mul(2)));
    }
    command
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
        more: "",
    };
    let mut line = Vec::new();
    let record = Rejected { payload: &bytes[..got], ..Rejected::default() };
    write_rejected(&record, &rejection, &mut line);
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(&line)?;
    file.sync_data()?;
    Ok(())
}

/// How many records, for the eye.
pub(crate) fn records(count: u64) -> String {
    format!("{} record{}", show_count(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hint said `--on-error fail --on-error skip`, which is refused.
    #[test]
    fn the_command_to_try_says_what_becomes_of_damage_once() {
        let skips = |line: &str| skipping("kget", line.split(' ').map(str::to_owned));
        assert_eq!(skips("dm --on-error fail -n 3"), "kget dm -n 3 --on-error skip");
        assert_eq!(skips("dm --on-error=reject=x --shard 1"), "kget dm --shard 1 --on-error skip");
    }
}
