//! `kshard list`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use serde_json::{Value, json};

use super::describe::{self, range_words};
use super::print::{self, OutputArg, Table};
use crate::cli::about;
use crate::cli::args::StreamArg;
use crate::cli::stream_name::ROOT_VARIABLE;
use crate::cli::value::{Time, about_time, show_time};
use crate::cli::{Outcome, report};
use crate::record::ShardId;
use crate::stream::{Error, MANIFEST_NAME, Manifest, ShardInfo};
use crate::sys::System;

/// List the streams that there are, or the shards of one
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stream whose shards are listed; without it the streams under `$KPIPE_ROOT` or the current directory
    #[arg(value_name = "STREAM")]
    stream: Option<OsString>,

    /// Which shards: from-trim-horizon (all), at-trim-horizon, at-latest (open ones), at:TIME, from:TIME or
    /// after:SHARD
    #[arg(
        long,
        value_name = "FILTER",
        requires = "stream",
        default_value = "from-trim-horizon",
        hide_default_value = true
    )]
    filter: Filter,

    #[command(flatten)]
    output: OutputArg,
}

/// The service's `ShardFilter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    FromTrimHorizon,
    AtTrimHorizon,
    AtLatest,
    At(Time),
    From(Time),
    After(ShardId),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().replace('_', "-").as_str() {
            "from-trim-horizon" => return Ok(Self::FromTrimHorizon),
            "at-trim-horizon" => return Ok(Self::AtTrimHorizon),
            "at-latest" | "open" => return Ok(Self::AtLatest),
            _ => {}
        }
        match text.split_once(':') {
            Some(("at", time)) => time.parse().map(Self::At),
            Some(("from", time)) => time.parse().map(Self::From),
            Some(("after", shard)) => shard.parse().map(Self::After),
            _ => Err("give from-trim-horizon, at-trim-horizon, at-latest, at:TIME, from:TIME or after:SHARD"
                .to_owned()),
        }
    }
}

impl Filter {
    /// Whether a shard is among those meant. A shard is open from its creation up to its end.
    fn takes(self, shard: &ShardInfo, horizon_us: i64, now_us: i64) -> bool {
        let open_at =
            |us: i64| shard.created_us <= us && shard.closed.as_ref().is_none_or(|closed| us < closed.at_us);
        let open_from = |us: i64| shard.closed.as_ref().is_none_or(|closed| us < closed.at_us);
        match self {
            Self::FromTrimHorizon => true,
            Self::AtTrimHorizon => open_at(horizon_us),
            Self::AtLatest => shard.is_open(),
            Self::At(time) => open_at(time.resolve(now_us).max(horizon_us)),
            Self::From(time) => open_from(time.resolve(now_us).max(horizon_us)),
            Self::After(id) => shard.id() > id,
        }
    }
}

/// Lists them.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    match args.stream {
        Some(stream) => shards(&StreamArg { stream }, args.filter, args.output)?,
        None => streams(args.output)?,
    }
    Ok(Outcome::Done)
}

fn shards(stream: &StreamArg, filter: Filter, output: OutputArg) -> anyhow::Result<()> {
    let stream = about::open(stream)?;
    let (manifest, now) = (stream.manifest(), stream.system().clock.now_us());
    // Nothing is older than the stream: its first shards are what was open at the horizon then.
    let horizon = manifest.horizon_us(now).unwrap_or(i64::MIN).max(manifest.created_us);
    let taken = manifest.shards.iter().filter(|shard| filter.takes(shard, horizon, now));
    if output.is_json() {
        let shards: Vec<Value> = taken.map(|shard| Value::Object(describe::shard_document(shard))).collect();
        return print::json(&json!({"Shards": shards}));
    }
    let mut table = Table::new(&["SHARD", "STATE", "HASH KEYS", ">SHARE", "CREATED", "CLOSED"]);
    for shard in taken {
        let (range, share) = range_words(shard.range());
        table.row([
            shard.id().to_string(),
            if shard.is_open() { "open" } else { "closed" }.to_owned(),
            range,
            share,
            about_time(shard.created_us),
            shard.closed.as_ref().map_or_else(|| "-".to_owned(), |closed| about_time(closed.at_us)),
        ]);
    }
    print::text(&table.render())
}

/// The streams in the directory where names are looked for.
fn streams(output: OutputArg) -> anyhow::Result<()> {
    let root = std::env::var_os(ROOT_VARIABLE).filter(|root| !root.is_empty());
    let root = root.map_or_else(|| PathBuf::from("."), PathBuf::from);
    let names = names(&root).with_context(|| format!("cannot list {}", root.display()))?;
    let mut found = Vec::new();
    for name in names {
        match Manifest::read(&System::real(), &root.join(&name)) {
            Ok(manifest) => found.push((name, Ok(manifest))),
            // Deleted meanwhile.
            Err(Error::NotFound { .. }) => {}
            // One that cannot be read does not hide the others.
            Err(error) => found.push((name, Err(report::line(&error.into())))),
        }
    }
    if output.is_json() {
        let summaries: Vec<Value> = found
            .iter()
            .map(|(name, manifest)| match manifest {
                Ok(manifest) => json!({
                    "StreamName": name,
                    "StreamStatus": describe::status(manifest),
                    "StreamModeDetails": {"StreamMode": "PROVISIONED"},
                    "StreamCreationTimestamp": show_time(manifest.created_us),
                    "OpenShardCount": manifest.open_shards().len(),
                    "RetentionPeriodHours": manifest.retention_us.map(describe::hours),
                }),
                Err(error) => json!({"StreamName": name, "StreamStatus": "UNREADABLE", "Error": error}),
            })
            .collect();
        let names: Vec<&String> = found.iter().map(|(name, _)| name).collect();
        return print::json(
            &json!({"StreamNames": names, "StreamSummaries": summaries, "HasMoreStreams": false}),
        );
    }
    let mut table = Table::new(&["STREAM", "STATUS", ">SHARDS", "RETENTION", "CREATED"]);
    for (name, manifest) in found {
        table.row(match manifest {
            Ok(manifest) => [
                name,
                describe::status(&manifest).to_owned(),
                manifest.open_shards().len().to_string(),
                describe::term(manifest.retention_us),
                about_time(manifest.created_us),
            ],
            Err(_) => [name, "UNREADABLE".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()],
        });
    }
    print::text(&table.render())
}

fn names(root: &Path) -> std::io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(root)?
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        // What is being built or removed has a dot.
        .filter(|name| !name.starts_with('.') && root.join(name).join(MANIFEST_NAME).is_file())
        .collect();
    names.sort();
    Ok(names)
}
