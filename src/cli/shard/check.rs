//! `kshard check`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::files;
use super::print::{self, OutputArg};
use crate::cli::Outcome;
use crate::cli::about::About;
use crate::cli::args::{CommonArgs, StreamArg};
use crate::cli::report::printable;
use crate::cli::stream_name::{self, show};
use crate::cli::value::{about_size, show_count};
use crate::log::verify::{Depth, Verified};
use crate::record::ShardId;
use crate::stream::check::{Opened, Problem, Told, check, open};
use crate::stream::{Error, Stream};
use crate::sys::System;

/// Verify every checksum and invariant of a stream
///
/// Reads all of it, takes no lock, and may run while others write: a tail that grows is no damage. Each damage is
/// named with shard, segment, bytes and the sequence numbers that it takes. Exits 1 if there is any.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// Verify headers and what they say of each other, not the records
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    output: OutputArg,

    #[command(flatten)]
    common: CommonArgs,
}

/// Checks it.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let path = args.stream.resolve()?;
    let stream = match open(&System::real(), &path) {
        Err(Error::NotFound { .. }) => return Err(stream_name::unknown(&path)),
        other => match other.about(&path)? {
            Opened::Stream(stream) => stream,
            Opened::Lost(problems) => return report(&args, &path, None, &[], &problems),
        },
    };
    let depth = if args.quick { Depth::Headers } else { Depth::All };
    let total = files::of(&stream)?.iter().map(|(_, files)| files.bytes).sum();
    let meter = args.common.meter("kshard", Some(total));
    let mut problems = Vec::new();
    let verified = check(&stream, depth, &mut |told| match told {
        Told::Progress { records, bytes } => meter.add(records, bytes),
        Told::Found(problem) => problems.push(problem),
    })
    .about(&path)?;
    meter.finish();
    report(&args, &path, Some(&stream), &verified, &problems)
}

/// Prints what was found.
fn report(
    args: &Args,
    path: &Path,
    stream: Option<&Stream>,
    verified: &[(ShardId, Verified)],
    problems: &[Problem],
) -> anyhow::Result<Outcome> {
    let damaged = problems.iter().filter(|problem| problem.is_damage()).count();
    let sum = |f: fn(&Verified) -> u64| verified.iter().map(|(_, sum)| f(sum)).sum::<u64>();
    if args.output.is_json() {
        print::json(&json!({
            "StreamName": show(path),
            "StreamId": stream.map(|stream| stream.manifest().stream_id),
            "Quick": args.quick,
            "Shards": verified.len(),
            "Segments": sum(|s| s.segments),
            "Records": sum(|s| s.records),
            "Bytes": sum(|s| s.bytes),
            "Damaged": damaged,
            "Problems": problems.iter().map(|problem| document(path, problem)).collect::<Vec<_>>(),
        }))?;
    } else {
        let mut text = String::new();
        for problem in problems {
            if problem.is_damage() || !args.common.quiet {
                let _ = writeln!(text, "{}", printable(&line(path, problem)));
            }
        }
        if !args.common.quiet {
            let what = match damaged {
                0 => "no damage".to_owned(),
                1 => "1 damage".to_owned(),
                n => format!("{n} damages"),
            };
            let _ = writeln!(
                text,
                "{}: {what} in {} records, {} of {} segments in {} shards{}",
                printable(&show(path)),
                show_count(sum(|s| s.records)),
                about_size(sum(|s| s.bytes)),
                sum(|s| s.segments),
                verified.len(),
                if args.quick { " (headers only)" } else { "" },
            );
        }
        print::text(&text)?;
    }
    Ok(if damaged > 0 { Outcome::Refused } else { Outcome::Done })
}

/// The path as seen from the stream.
fn within<'a>(stream: &Path, path: &'a Path) -> std::borrow::Cow<'a, str> {
    match path.strip_prefix(stream) {
        Ok(rest) if !rest.as_os_str().is_empty() => rest.to_string_lossy(),
        _ => path.to_string_lossy(),
    }
}

pub(super) fn line(stream: &Path, problem: &Problem) -> String {
    let word = if problem.is_damage() { "damage" } else { "note" };
    match problem {
        Problem::Stream { path, text, .. } => {
            format!("{word}: {}: {}: {text}", show(stream), within(stream, path))
        }
        Problem::Log { finding, .. } => {
            let mut line = format!("{word}: {}: {}", show(stream), within(stream, &finding.path));
            if finding.until > finding.offset {
                let bytes = show_count(finding.until - finding.offset);
                let _ = write!(line, ": byte {}, {bytes} long", finding.offset);
            } else if finding.offset > 0 {
                let _ = write!(line, ": byte {}", finding.offset);
            }
            let _ = write!(line, ": {}", finding.flaw.text());
            if let (Some(lost), Some((first, last))) = (finding.lost, problem.sequences()) {
                let count = show_count(lost.next - lost.first);
                let _ = write!(line, ": {count} records, sequence numbers {first} to {last}");
            }
            line
        }
    }
}

pub(super) fn document(stream: &Path, problem: &Problem) -> Value {
    let severity = if problem.is_damage() { "damage" } else { "note" };
    let mut fields = BTreeMap::from([("Severity", json!(severity))]);
    let shard = match problem {
        Problem::Log { shard, .. } => Some(*shard),
        Problem::Stream { shard, .. } => *shard,
    };
    fields.extend(shard.map(|shard: ShardId| ("ShardId", json!(shard.to_string()))));
    match problem {
        Problem::Stream { path, text, .. } => {
            fields.insert("File", json!(within(stream, path)));
            fields.insert("Kind", json!("stream"));
            fields.insert("Message", json!(text));
        }
        Problem::Log { finding, .. } => {
            fields.insert("File", json!(within(stream, &finding.path)));
            fields.insert("Kind", json!(finding.flaw.word()));
            fields.insert("Message", json!(finding.flaw.text()));
            fields.insert("Offset", json!(finding.offset));
            fields.insert("Length", json!(finding.until - finding.offset));
            if let (Some(lost), Some((first, last))) = (finding.lost, problem.sequences()) {
                fields.insert("Records", json!(lost.next - lost.first));
                fields.insert("FirstIndex", json!(lost.first));
                fields.insert("FirstSequenceNumber", json!(first.to_string()));
                fields.insert("LastSequenceNumber", json!(last.to_string()));
            }
        }
    }
    json!(fields)
}
