//! `kshard stats`.

use std::time::Duration;

use serde_json::{Value, json};

use super::print::{self, OutputArg, Table};
use crate::cli::Outcome;
use crate::cli::about::{self, About};
use crate::cli::args::{CommonArgs, StreamArg};
use crate::cli::value::{Time, about_duration, about_size, show_count, show_time};
use crate::stream::{Count, Outgoing, PUT_PAYLOAD_UNIT_BYTES, ShardStats};

/// Count what is there, what comes in, and what the service would bill for it
///
/// Records and bytes in store are read off the segments. What arrived since --since is read, each record, and rates and
/// metered units are of that time: shard hours, and units of 25 KiB of data, each record rounded up. What went out is
/// what named consumers have committed since each was made or reset; plain reads leave no trace and are not counted.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// Rates and metered units of what arrived since then
    #[arg(long, value_name = "TIME", default_value = "-1h", allow_hyphen_values = true)]
    since: Time,

    #[command(flatten)]
    output: OutputArg,

    #[command(flatten)]
    common: CommonArgs,
}

/// Counts.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let stream = about::open(&args.stream)?;
    let now_us = stream.system().clock.now_us();
    // Nothing is older than the stream, and rates are over the time that there was.
    let since_us = args.since.resolve(now_us).max(stream.manifest().created_us).min(now_us);
    let meter = args.common.meter("kshard", None);
    let mut shards = Vec::new();
    for shard in &stream.manifest().shards {
        let stats = stream.stats(shard, since_us).about(stream.path())?;
        meter.add(stats.since.records, stats.since.bytes);
        shards.push(stats);
    }
    meter.finish();
    let mut total = Count::default();
    for shard in &shards {
        total.merge(shard.since);
    }
    let out = stream.outgoing().about(stream.path())?;
    let seconds = ((now_us - since_us) as f64 / 1e6).max(1e-6);
    let hours = shards.iter().map(|shard| shard.open_us as f64 / 3.6e9).sum::<f64>();
    if args.output.is_json() {
        let shards: Vec<Value> = shards.iter().map(|shard| document(shard, seconds)).collect();
        print::json(&json!({
            "StreamName": stream.name(),
            "Since": show_time(since_us),
            "Seconds": seconds,
            "Shards": shards,
            "IncomingRecords": total.records,
            "IncomingBytes": total.bytes,
            "Metered": {
                "ShardHours": hours,
                "PutPayloadUnits": total.put_payload_units,
                "PutPayloadUnitBytes": PUT_PAYLOAD_UNIT_BYTES,
                // Of named consumers: plain reads leave no trace.
                "OutgoingGiB": out.bytes as f64 / f64::from(1 << 30),
                "OutgoingBytes": out.bytes,
                "OutgoingRecords": out.records,
                "OutgoingConsumers": out.consumers,
                "UnreadableConsumers": out.unreadable,
            },
        }))?;
        return Ok(Outcome::Done);
    }
    let mut table =
        Table::new(&["SHARD", ">RECORDS", ">STORED", ">RECORDS/S", ">BYTES/S", ">OLDEST", ">NEWEST"]);
    let ago = |us: Option<i64>| {
        us.map_or_else(
            || "-".to_owned(),
            |us| about_duration(Duration::from_secs(((now_us - us).max(0) / 1_000_000) as u64)),
        )
    };
    for shard in &shards {
        table.row([
            shard.shard.to_string(),
            show_count(shard.records),
            about_size(shard.stored_bytes),
            format!("{:.1}", shard.since.records as f64 / seconds),
            about_size((shard.since.bytes as f64 / seconds) as u64),
            ago(shard.oldest_us),
            ago(shard.newest_us),
        ]);
    }
    let mut text = table.render();
    text.push('\n');
    text += &print::facts(&[
        ("Since", show_time(since_us)),
        ("Records in", show_count(total.records)),
        ("Bytes in", format!("{} of data and keys", about_size(total.bytes))),
        ("Shard hours", format!("{hours:.3}")),
        ("Put units", format!("{} of 25 KiB", show_count(total.put_payload_units))),
        ("GiB out", outgoing(&out)),
    ]);
    let damages: u64 = shards.iter().map(|shard| shard.damages).sum();
    if damages > 0 {
        text += &print::facts(&[("Damage", format!("{damages} stretches could not be counted"))]);
    }
    print::text(&text)?;
    Ok(Outcome::Done)
}

/// What went out, and what that does not tell.
fn outgoing(out: &Outgoing) -> String {
    let consumers = match out.consumers {
        1 => "1 named consumer".to_owned(),
        n => format!("{} named consumers", show_count(n)),
    };
    let unreadable = match out.unreadable {
        0 => String::new(),
        n => format!(", {} of them unreadable", show_count(n)),
    };
    let gib = out.bytes as f64 / f64::from(1 << 30);
    format!(
        "{gib:.3} ({} of data by {consumers}{unreadable}; plain reads are not counted)",
        about_size(out.bytes)
    )
}

fn document(shard: &ShardStats, seconds: f64) -> Value {
    json!({
        "ShardId": shard.shard.to_string(),
        "Open": shard.open,
        "SegmentCount": shard.segments,
        "StoredBytes": shard.stored_bytes,
        "StoredRecords": shard.records,
        "OldestArrivalTimestamp": shard.oldest_us.map(show_time),
        "NewestArrivalTimestamp": shard.newest_us.map(show_time),
        "IncomingRecords": shard.since.records,
        "IncomingBytes": shard.since.bytes,
        "IncomingRecordsPerSecond": shard.since.records as f64 / seconds,
        "IncomingBytesPerSecond": shard.since.bytes as f64 / seconds,
        "PutPayloadUnits": shard.since.put_payload_units,
        "ShardHours": shard.open_us as f64 / 3.6e9,
        "Damages": shard.damages,
    })
}
