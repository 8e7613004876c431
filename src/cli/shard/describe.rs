//! `kshard describe`.

use std::time::Duration;

use serde_json::{Value, json};

use super::files::{self, Files};
use super::print::{self, OutputArg, Table};
use crate::cli::Outcome;
use crate::cli::about;
use crate::cli::args::StreamArg;
use crate::cli::value::{about_size, about_time, show_count, show_duration, show_size, show_time};
use crate::hash::HashRange;
use crate::record::{INDEX_MAX, SequenceNumber, ShardId};
use crate::stream::{self, Manifest, ShardInfo, Stream};

/// Show what a stream is made of
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// Leave the shards out
    #[arg(long)]
    summary: bool,

    #[command(flatten)]
    output: OutputArg,
}

/// Prints it.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let stream = about::open(&args.stream)?;
    let files = files::of(&stream)?;
    if args.output.is_json() {
        print::json(&document(&stream, &files, args.summary))?;
    } else {
        print::text(&page(&stream, &files, args.summary))?;
    }
    Ok(Outcome::Done)
}

/// What the service calls the state of a stream: a split or merge that is not finished is an update.
pub(super) fn status(manifest: &Manifest) -> &'static str {
    if manifest.pending.is_some() { "UPDATING" } else { "ACTIVE" }
}

/// Hours, whole where they are.
pub(super) fn hours(us: i64) -> Value {
    const HOUR_US: i64 = 3_600_000_000;
    if us % HOUR_US == 0 { json!(us / HOUR_US) } else { json!(us as f64 / HOUR_US as f64) }
}

/// A retention period as it would be typed.
pub(super) fn term(retention_us: Option<i64>) -> String {
    retention_us
        .map_or_else(|| "forever".to_owned(), |us| show_duration(Duration::from_micros(us.unsigned_abs())))
}

/// A shard in the service's field names.
pub(super) fn shard_document(shard: &ShardInfo) -> serde_json::Map<String, Value> {
    let range = shard.range();
    let mut document = serde_json::Map::new();
    document.insert("ShardId".into(), json!(shard.id().to_string()));
    for (name, parent) in ["ParentShardId", "AdjacentParentShardId"].into_iter().zip(&shard.parents) {
        document.insert(name.into(), json!(ShardId(*parent).to_string()));
    }
    document.insert(
        "HashKeyRange".into(),
        json!({"StartingHashKey": range.start.to_string(), "EndingHashKey": range.end.to_string()}),
    );
    let starting = stream::sequence(shard.id(), shard.created_s(), 0, shard.created_us);
    let mut sequences = json!({"StartingSequenceNumber": starting.to_string()});
    if let Some(closed) = &shard.closed {
        // Not a record's number: above all of them, as the service has it.
        let ending = SequenceNumber {
            index: INDEX_MAX,
            ..stream::sequence(shard.id(), shard.created_s(), 0, closed.at_us)
        };
        sequences["EndingSequenceNumber"] = json!(ending.to_string());
    }
    document.insert("SequenceNumberRange".into(), sequences);
    document
}

fn document(stream: &Stream, files: &[(ShardId, Files)], summary: bool) -> Value {
    let manifest = stream.manifest();
    let mut document = json!({
        "StreamName": stream.name(),
        "StreamId": manifest.stream_id,
        "StreamStatus": status(manifest),
        "StreamModeDetails": {"StreamMode": "PROVISIONED"},
        "StreamCreationTimestamp": show_time(manifest.created_us),
        "RetentionPeriodHours": manifest.retention_us.map(hours),
        "EncryptionType": "NONE",
        "MaxRecordSizeInKiB": manifest.record_bytes_max / 1024,
        "OpenShardCount": manifest.open_shards().len(),
        "ConsumerCount": stream.consumer_names().map_or(0, |names| names.len()),
        "Tags": manifest.tags,
        "Path": stream.path(),
        "Generation": manifest.generation,
        "Compression": manifest.compression,
        "RetentionBytes": manifest.retain_bytes,
        "SegmentBytes": manifest.segment_bytes,
        "SegmentAgeSeconds": manifest.segment_age_us as f64 / 1e6,
        "StoredBytes": files.iter().map(|(_, files)| files.bytes).sum::<u64>(),
        "SegmentCount": files.iter().map(|(_, files)| files.segments).sum::<u64>(),
    });
    if let Some(pending) = &manifest.pending {
        document["PendingReshard"] = json!({
            "Parents": pending.parents.iter().map(|&shard| ShardId(shard).to_string()).collect::<Vec<_>>(),
            "Children": pending.children.iter().map(|c| ShardId(c.shard).to_string()).collect::<Vec<_>>(),
        });
    }
    if !summary {
        let shards = manifest.shards.iter().zip(files).map(|(shard, (_, files))| {
            let mut document = shard_document(shard);
            document.insert("StoredBytes".into(), json!(files.bytes));
            document.insert("SegmentCount".into(), json!(files.segments));
            Value::Object(document)
        });
        document["Shards"] = Value::Array(shards.collect());
        document["HasMoreShards"] = json!(false);
    }
    document
}

/// A range of hash keys in hexadecimal, by its first four digits, and its share of the space.
pub(super) fn range_words(range: HashRange) -> (String, String) {
    let share = (range.end.0 - range.start.0) as f64 / u128::MAX as f64 * 100.0;
    let places = if share < 1.0 { 3 } else { 1 };
    (format!("{:04x}..{:04x}", range.start.0 >> 112, range.end.0 >> 112), format!("{share:.places$}%"))
}

fn page(stream: &Stream, files: &[(ShardId, Files)], summary: bool) -> String {
    let manifest = stream.manifest();
    let open = manifest.open_shards().len();
    let closed = manifest.shards.len() - open;
    let bytes: u64 = files.iter().map(|(_, files)| files.bytes).sum();
    let segments: u64 = files.iter().map(|(_, files)| files.segments).sum();
    let mut facts = vec![
        ("Stream", stream.name().to_owned()),
        ("Path", stream.path().display().to_string()),
        ("Id", manifest.stream_id.to_string()),
        ("Status", status(manifest).to_owned()),
        ("Created", about_time(manifest.created_us)),
        (
            "Retention",
            match manifest.retain_bytes {
                Some(bytes) => format!("{}, at most {}", term(manifest.retention_us), show_size(bytes)),
                None => term(manifest.retention_us),
            },
        ),
        ("Record limit", show_size(manifest.record_bytes_max)),
        ("Compression", format!("{:?}", manifest.compression).to_lowercase()),
        (
            "Segments",
            format!(
                "{}, closed at {} or after {}",
                show_count(segments),
                show_size(manifest.segment_bytes),
                show_duration(Duration::from_micros(manifest.segment_age_us.unsigned_abs()))
            ),
        ),
        ("Stored", about_size(bytes)),
        ("Shards", format!("{} open, {} closed", show_count(open as u64), show_count(closed as u64))),
    ];
    if let Ok(names) = stream.consumer_names()
        && !names.is_empty()
    {
        facts.push(("Consumers", names.join(", ")));
    }
    if !manifest.tags.is_empty() {
        let tags = manifest.tags.iter().map(|(key, value)| format!("{key}={value}"));
        facts.push(("Tags", tags.collect::<Vec<_>>().join(", ")));
    }
    let mut out = print::facts(&facts);
    if !summary {
        out.push('\n');
        let mut table = Table::new(&[
            "SHARD",
            "STATE",
            "HASH KEYS",
            ">SHARE",
            "PARENTS",
            ">SEGMENTS",
            ">STORED",
            "CREATED",
        ]);
        for (shard, (_, files)) in manifest.shards.iter().zip(files) {
            let (range, share) = range_words(shard.range());
            let parents: Vec<String> = shard.parents.iter().map(ToString::to_string).collect();
            table.row([
                shard.id().to_string(),
                if shard.is_open() { "open" } else { "closed" }.to_owned(),
                range,
                share,
                if parents.is_empty() { "-".to_owned() } else { parents.join("+") },
                files.segments.to_string(),
                about_size(files.bytes),
                about_time(shard.created_us),
            ]);
        }
        out += &table.render();
    }
    out
}
