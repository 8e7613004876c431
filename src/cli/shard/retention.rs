//! `kshard retention`.

use serde_json::json;

use super::create::{retention, retention_us};
use super::describe;
use super::print::{self, OutputArg};
use crate::cli::Outcome;
use crate::cli::about::{self, About};
use crate::cli::args::StreamArg;
use crate::cli::value::{self, Term, show_size};

/// Show how long records stay, or change it
///
/// Readers see a shorter period at once; what it lets expire is removed when writers begin new segments, and by kshard
/// trim. A longer one brings nothing back that was removed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// How long records stay: 1h to 8760h, or forever
    #[arg(value_name = "DURATION", value_parser = retention)]
    retention: Option<Term>,

    /// Keep at most so much in all shards together, or `none`: any amount
    #[arg(long, value_name = "SIZE", value_parser = cap)]
    bytes: Option<Cap>,

    #[command(flatten)]
    output: OutputArg,
}

/// A cap on the bytes of a stream, or none.
#[derive(Debug, Clone, Copy)]
struct Cap(Option<u64>);

fn cap(text: &str) -> Result<Cap, String> {
    match text {
        "none" => Ok(Cap(None)),
        _ => value::size_above_zero(text).map(|bytes| Cap(Some(bytes))),
    }
}

/// Changes it where asked, and shows it where not.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut stream = about::open(&args.stream)?;
    let path = stream.path().to_owned();
    if args.retention.is_some() || args.bytes.is_some() {
        stream
            .update(|manifest| {
                if let Some(term) = args.retention {
                    manifest.retention_us = retention_us(term);
                }
                if let Some(Cap(bytes)) = args.bytes {
                    manifest.retain_bytes = bytes;
                }
                Ok(())
            })
            .about(&path)?;
    }
    let manifest = stream.manifest();
    if args.output.is_json() {
        print::json(&json!({
            "StreamName": stream.name(),
            "RetentionPeriodHours": manifest.retention_us.map(describe::hours),
            "RetentionBytes": manifest.retain_bytes,
        }))?;
    } else if args.retention.is_none() && args.bytes.is_none() {
        let mut line = describe::term(manifest.retention_us);
        if let Some(bytes) = manifest.retain_bytes {
            line = format!("{line}, at most {}", show_size(bytes));
        }
        print::text(&(line + "\n"))?;
    }
    Ok(Outcome::Done)
}
