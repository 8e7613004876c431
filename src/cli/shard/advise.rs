//! `kshard advise`.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::{Value, json};

use super::print::{self, OutputArg, Table};
use crate::cli::about::{self, About};
use crate::cli::args::{CommonArgs, StreamArg};
use crate::cli::stream_name::quote;
use crate::cli::value::{self, about_duration, about_size, show_duration, show_size};
use crate::cli::{Outcome, report};
use crate::hash::HashKey;
use crate::record::ShardId;
use crate::stream::{Advice, Error, Load, ShardInfo, Stream, Target, advise};

/// The window where none is given.
const WINDOW: Duration = Duration::from_mins(5);

/// Find hot and cold shards, and say what to split and what to merge
///
/// Of each open shard the records of the last --window are counted and a sample of them is read. A shard that bears
/// more than the target is to be cut where the load on both sides is the same (records without keys go to all shards alike:
/// then it is cut in even parts), neighbours that together bear less than
/// 40 % of it are to be merged. A shard younger than the window is left alone, so that it does no harm to run this
/// twice, or from crontab with --apply.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// How far back to look
    #[arg(long, value_name = "DURATION", value_parser = window, default_value = "5m")]
    window: Duration,

    /// What a shard shall bear: data and keys a second
    #[arg(long, value_name = "SIZE", value_parser = value::size_above_zero, default_value = "1MiB")]
    target: u64,

    /// What a shard shall bear: records a second
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..), default_value_t = 1000)]
    target_records: u64,

    /// Do what is advised
    #[arg(long)]
    apply: bool,

    /// With --apply, keep at least so many open shards
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    min_shards: usize,

    #[command(flatten)]
    output: OutputArg,

    #[command(flatten)]
    common: CommonArgs,
}

fn window(text: &str) -> Result<Duration, String> {
    match value::duration(text)? {
        window if window >= Duration::from_secs(1) => Ok(window),
        _ => Err("give 1s or more".to_owned()),
    }
}

/// The load on each open shard, in the order of their hash keys.
pub(super) fn loads(stream: &Stream, since_us: i64) -> anyhow::Result<Vec<(ShardInfo, Load)>> {
    let open = stream.manifest().open_shards().into_iter();
    open.map(|shard| Ok((shard.clone(), stream.load(shard, since_us).about(stream.path())?))).collect()
}

/// Advises, and applies where asked.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut stream = about::open(&args.stream)?;
    let window_us = i64::try_from(args.window.as_micros()).map_err(|_| anyhow!("the window is too long"))?;
    let now_us = stream.system().clock.now_us();
    let loads = loads(&stream, now_us.saturating_sub(window_us))?;
    let target = Target { records_s: args.target_records as f64, bytes_s: args.target as f64 };
    let pairs: Vec<(&ShardInfo, &Load)> = loads.iter().map(|(shard, load)| (shard, load)).collect();
    let mut advice = advise(&pairs, target, now_us, window_us);
    let mut merges_left = loads.len().saturating_sub(args.min_shards);
    advice.retain(|advice| match advice {
        Advice::Merge { .. } => {
            let kept = merges_left > 0;
            merges_left = merges_left.saturating_sub(1);
            kept
        }
        _ => true,
    });
    if args.output.is_json() {
        print::json(&document(&stream, &loads, &advice, target, &args))?;
    } else {
        print::text(&page(&stream, &loads, &advice, target, &args, now_us, window_us))?;
    }
    if args.apply {
        apply(&mut stream, &advice, &args.common)?;
    }
    Ok(Outcome::Done)
}

/// Does what is advised. What another process has done meanwhile is left as it is.
fn apply(stream: &mut Stream, advice: &[Advice], common: &CommonArgs) -> anyhow::Result<()> {
    let path = stream.path().to_owned();
    for advice in advice {
        let done = match advice {
            Advice::Split { shard, at, .. } => cut(stream, *shard, at),
            Advice::Merge { shards: (lower, upper), .. } => {
                stream.merge(*lower, *upper).map(|child| format!("{lower} and {upper} became {child}"))
            }
            Advice::HotKey { .. } => continue,
        };
        match done {
            Ok(text) => common.note("kshard", &text),
            Err(error @ (Error::ShardClosed(_) | Error::NoShard(_))) => {
                common
                    .note("kshard", &format!("{}: another process was faster", report::line(&error.into())));
            }
            Err(error) => return Err(error).about(&path),
        }
    }
    Ok(())
}

/// Cuts a shard in parts, from below.
fn cut(stream: &mut Stream, shard: ShardId, at: &[HashKey]) -> Result<String, Error> {
    let (mut rest, mut parts) = (shard, Vec::new());
    for at in at {
        let children = stream.split(rest, Some(*at))?;
        parts.push(children[0].to_string());
        rest = children[1];
    }
    parts.push(rest.to_string());
    Ok(format!("{shard} became {}", parts.join(", ")))
}

fn percent(part: f64) -> String {
    format!("{:.0}%", part * 100.0)
}

fn page(
    stream: &Stream,
    loads: &[(ShardInfo, Load)],
    advice: &[Advice],
    target: Target,
    args: &Args,
    now_us: i64,
    window_us: i64,
) -> String {
    let mut table = Table::new(&["SHARD", ">RECORDS/S", ">BYTES/S", ">FULL", "ADVICE"]);
    for (shard, load) in loads {
        let word = advice.iter().find_map(|advice| match advice {
            Advice::Split { shard: hot, at, .. } if *hot == shard.id() => {
                Some(format!("hot: split in {}", at.len() + 1))
            }
            Advice::Merge { shards: (lower, upper), .. } if *lower == shard.id() => {
                Some(format!("cold: merge with {upper}"))
            }
            Advice::Merge { shards: (lower, upper), .. } if *upper == shard.id() => {
                Some(format!("cold: merge with {lower}"))
            }
            Advice::HotKey { shard: hot, part, hash, .. } if *hot == shard.id() => {
                Some(format!("hot: one key brings {}, no split helps (hash key {hash})", percent(*part)))
            }
            _ => None,
        });
        let young = now_us - shard.created_us < window_us;
        table.row([
            shard.id().to_string(),
            format!("{:.1}", load.records_s()),
            about_size(load.bytes_s() as u64),
            percent(target.fullness(load)),
            word.unwrap_or_else(|| if young { "younger than the window" } else { "-" }.to_owned()),
        ]);
    }
    let mut out = table.render();
    let name = quote(&args.stream.stream.to_string_lossy());
    let commands: Vec<String> = advice.iter().filter_map(|advice| command(advice, &name)).collect();
    if !commands.is_empty() {
        if !args.apply {
            let again = again(args);
            let _ = writeln!(out, "\nTo do it, {again} --apply, or:\n  {}", commands.join("\n  "));
        }
    } else if advice.is_empty() {
        let window = about_duration(args.window);
        let _ = writeln!(
            out,
            "\nNothing to do: by the last {window}, {} is as it should be.",
            report::printable(stream.name())
        );
    } else {
        out += "\nNo command helps where one key is hot: its records need more keys.\n";
    }
    out
}

/// The command once more, with the options that led to the advice.
fn again(args: &Args) -> String {
    let mut line = format!("kshard advise {}", quote(&args.stream.stream.to_string_lossy()));
    if args.window != WINDOW {
        let _ = write!(line, " --window {}", show_duration(args.window));
    }
    if args.target as f64 != Target::SERVICE.bytes_s {
        let _ = write!(line, " --target {}", show_size(args.target));
    }
    if args.target_records as f64 != Target::SERVICE.records_s {
        let _ = write!(line, " --target-records {}", args.target_records);
    }
    if args.min_shards != 1 {
        let _ = write!(line, " --min-shards {}", args.min_shards);
    }
    line
}

/// The first step as a command.
fn command(advice: &Advice, stream: &str) -> Option<String> {
    match advice {
        Advice::Split { shard, at, .. } => {
            // One cut at a time can be typed: the one in the middle.
            Some(format!("kshard split {stream} {} --at {}", shard.0, at.get(at.len() / 2)?))
        }
        Advice::Merge { shards: (lower, upper), .. } => {
            Some(format!("kshard merge {stream} {} {}", lower.0, upper.0))
        }
        Advice::HotKey { .. } => None,
    }
}

fn document(
    stream: &Stream,
    loads: &[(ShardInfo, Load)],
    advice: &[Advice],
    target: Target,
    args: &Args,
) -> Value {
    let shards = loads.iter().map(|(shard, load)| {
        json!({
            "ShardId": shard.id().to_string(),
            "IncomingRecordsPerSecond": load.records_s(),
            "IncomingBytesPerSecond": load.bytes_s(),
            "Fullness": target.fullness(load),
        })
    });
    let advice = advice.iter().map(|advice| match advice {
        Advice::Split { shard, fullness, at } => json!({
            "Action": "split",
            "ShardId": shard.to_string(),
            "Fullness": fullness,
            "NewStartingHashKeys": at.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
        Advice::Merge { shards: (lower, upper), fullness } => json!({
            "Action": "merge",
            "ShardId": lower.to_string(),
            "AdjacentShardId": upper.to_string(),
            "Fullness": fullness,
        }),
        Advice::HotKey { shard, fullness, hash, part } => json!({
            "Action": null,
            "Reason": "one key",
            "ShardId": shard.to_string(),
            "Fullness": fullness,
            "HashKey": hash.to_string(),
            "Part": part,
        }),
    });
    json!({
        "StreamName": stream.name(),
        "WindowSeconds": args.window.as_secs_f64(),
        "TargetBytesPerSecond": args.target,
        "TargetRecordsPerSecond": args.target_records,
        "Shards": shards.collect::<Vec<_>>(),
        "Advice": advice.collect::<Vec<_>>(),
        "Apply": args.apply,
    })
}
