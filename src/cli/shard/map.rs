//! `kshard map`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use super::advise::loads;
use super::print::{self, OutputArg, Table};
use crate::cli::Outcome;
use crate::cli::about;
use crate::cli::args::StreamArg;
use crate::cli::report::printable;
use crate::cli::value::{self, about_duration, about_size};
use crate::stream::{Load, ShardInfo, Stream, Target};

/// Draw the hash key space: who owns what, how hot it is, and who came of whom
///
/// Each line is a generation of shards, the first at the top; the last line shows how much the open ones bear, measured
/// by the service's limits of 1 MiB and 1000 records a second.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// How far back to look for the load
    #[arg(long, value_name = "DURATION", value_parser = value::duration, default_value = "5m")]
    window: Duration,

    /// So many columns; without it as wide as the terminal
    #[arg(long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(20..=1000))]
    width: Option<u16>,

    /// Draw with ASCII characters only
    #[arg(long)]
    ascii: bool,

    #[command(flatten)]
    output: OutputArg,
}

/// What is drawn with.
struct Ink {
    left: char,
    right: char,
    line: char,
    only: char,
    heat: &'static [char],
}

const UNICODE: Ink =
    Ink {
        left: '├', right: '┤', line: '─', only: '│', heat: &['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
    };
const ASCII: Ink =
    Ink { left: '<', right: '>', line: '-', only: '|', heat: &['.', '_', '-', '~', '=', '+', '*', '%', '#'] };

/// The hottest shards that are listed below the drawing.
const LISTED_MAX: usize = 10;

/// Draws it.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let stream = about::open(&args.stream)?;
    let now_us = stream.system().clock.now_us();
    let window_us = i64::try_from(args.window.as_micros()).unwrap_or(i64::MAX);
    let mut loads = loads(&stream, now_us.saturating_sub(window_us))?;
    if args.output.is_json() {
        print::json(&document(&stream, &loads, args.window))?;
        return Ok(Outcome::Done);
    }
    let ink = if args.ascii || !is_utf8() { ASCII } else { UNICODE };
    let width = usize::from(args.width.unwrap_or_else(terminal_width));
    let shards = &stream.manifest().shards;
    let mut out = format!("{}\n", printable(stream.name()));
    ruler(&mut out, width);
    for generation in generations(shards) {
        draw(&mut out, &generation, width, &ink);
    }
    heat(&mut out, &loads, width, &ink);
    out.push('\n');
    loads.sort_by(|(_, a), (_, b)| Target::SERVICE.fullness(b).total_cmp(&Target::SERVICE.fullness(a)));
    let mut table = Table::new(&["SHARD", ">FULL", ">RECORDS/S", ">BYTES/S", ">SHARE", "PARENTS"]);
    for (shard, load) in loads.iter().take(LISTED_MAX) {
        let parents: Vec<String> = shard.parents.iter().map(ToString::to_string).collect();
        table.row([
            shard.id().to_string(),
            format!("{:.0}%", Target::SERVICE.fullness(load) * 100.0),
            format!("{:.1}", load.records_s()),
            about_size(load.bytes_s() as u64),
            super::describe::range_words(shard.range()).1,
            if parents.is_empty() { "-".to_owned() } else { parents.join("+") },
        ]);
    }
    out += &table.render();
    if loads.len() > LISTED_MAX {
        let _ = writeln!(out, "and {} more: kshard describe shows all", loads.len() - LISTED_MAX);
    }
    let _ = writeln!(out, "load of the last {}", about_duration(args.window));
    print::text(&out)?;
    Ok(Outcome::Done)
}

/// What is drawn, for programs.
fn document(stream: &Stream, loads: &[(ShardInfo, Load)], window: Duration) -> Value {
    let mut shards = Vec::new();
    for (depth, generation) in generations(&stream.manifest().shards).iter().enumerate() {
        for shard in generation {
            let mut document = super::describe::shard_document(shard);
            document.insert("Generation".into(), json!(depth));
            document.insert("Open".into(), json!(shard.is_open()));
            if let Some((_, load)) = loads.iter().find(|(open, _)| open.shard == shard.shard) {
                document.insert("IncomingRecordsPerSecond".into(), json!(load.records_s()));
                document.insert("IncomingBytesPerSecond".into(), json!(load.bytes_s()));
                document.insert("Fullness".into(), json!(Target::SERVICE.fullness(load)));
            }
            shards.push(Value::Object(document));
        }
    }
    json!({"StreamName": stream.name(), "WindowSeconds": window.as_secs_f64(), "Shards": shards})
}

/// The shards by how many splits and merges lie above them, as far as those are known.
fn generations(shards: &[ShardInfo]) -> Vec<Vec<&ShardInfo>> {
    let mut depths: BTreeMap<u32, usize> = BTreeMap::new();
    let mut generations: Vec<Vec<&ShardInfo>> = Vec::new();
    // A parent has a lower number than its children.
    for shard in shards {
        let depth = shard.parents.iter().filter_map(|parent| depths.get(parent)).max().map_or(0, |d| d + 1);
        depths.insert(shard.shard, depth);
        if generations.len() <= depth {
            generations.resize_with(depth + 1, Vec::new);
        }
        generations[depth].push(shard);
    }
    generations
}

/// The column in which a hash key lies.
fn column(hash: u128, width: usize) -> usize {
    // 64 of its bits are plenty for a terminal.
    (((hash >> 64) * width as u128) >> 64) as usize
}

fn ruler(out: &mut String, width: usize) {
    let mut line = vec![' '; width];
    for quarter in 0..4usize {
        let at = width * quarter / 4;
        let label = format!("{:04x}", quarter << 14);
        for (slot, c) in line[at..].iter_mut().zip(label.chars()) {
            *slot = c;
        }
    }
    push(out, &line);
}

fn draw(out: &mut String, shards: &[&ShardInfo], width: usize, ink: &Ink) {
    let mut line = vec![' '; width];
    for shard in shards {
        let range = shard.range();
        let (first, last) = (column(range.start.0, width), column(range.end.0, width));
        // The column in which a shard ends and its neighbour begins is the neighbour's.
        let ends_here = range.end.0 == u128::MAX || column(range.end.0 + 1, width) != last;
        let last = if ends_here || last == first { last } else { last - 1 };
        if first == last {
            line[first] = ink.only;
            continue;
        }
        line[first..=last].fill(ink.line);
        (line[first], line[last]) = (ink.left, ink.right);
        let label = shard.shard.to_string();
        let room = last - first - 1;
        if label.len() <= room {
            let at = first + 1 + (room - label.len()) / 2;
            for (slot, c) in line[at..].iter_mut().zip(label.chars()) {
                *slot = c;
            }
        }
    }
    push(out, &line);
}

fn heat(out: &mut String, loads: &[(ShardInfo, Load)], width: usize, ink: &Ink) {
    let mut fullest = vec![0.0f64; width];
    for (shard, load) in loads {
        let range = shard.range();
        let full = Target::SERVICE.fullness(load);
        for slot in &mut fullest[column(range.start.0, width)..=column(range.end.0, width)] {
            *slot = slot.max(full);
        }
    }
    let top = ink.heat.len() - 1;
    let line: Vec<char> =
        fullest.iter().map(|full| ink.heat[((full * top as f64).ceil() as usize).min(top)]).collect();
    push(out, &line);
}

fn push(out: &mut String, line: &[char]) {
    let text: String = line.iter().collect();
    out.push_str(text.trim_end());
    out.push('\n');
}

/// The terminal's width, else what `COLUMNS` says, else 80.
fn terminal_width() -> u16 {
    let asked = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col);
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    asked().filter(|columns| *columns > 0).or_else(told).unwrap_or(80).clamp(20, 1000)
}

/// Whether the locale's characters are UTF-8.
fn is_utf8() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashRange;

    fn shard(shard: u32, range: HashRange, parents: &[u32]) -> ShardInfo {
        ShardInfo {
            shard,
            starting_hash_key: range.start.0,
            ending_hash_key: range.end.0,
            created_us: 0,
            parents: parents.to_vec(),
            closed: None,
        }
    }

    #[test]
    fn shards_lie_beside_each_other_and_below_their_parents() {
        let (halves, quarters) = (HashRange::split_evenly(2), HashRange::split_evenly(4));
        let shards = [
            shard(0, halves[0], &[]),
            shard(1, halves[1], &[]),
            shard(2, quarters[2], &[1]),
            shard(3, quarters[3], &[1]),
        ];
        let mut out = String::new();
        ruler(&mut out, 20);
        for generation in generations(&shards) {
            draw(&mut out, &generation, 20, &ASCII);
        }
        assert_eq!(out, "0000 4000 8000 c000\n<---0----><---1---->\n          <-2-><-3->\n");
    }

    #[test]
    fn more_shards_than_columns_are_drawn_too() {
        let shards: Vec<ShardInfo> = HashRange::split_evenly(1000)
            .into_iter()
            .zip(0..)
            .map(|(range, n)| shard(n, range, &[]))
            .collect();
        let mut out = String::new();
        draw(&mut out, &shards.iter().collect::<Vec<_>>(), 20, &ASCII);
        assert_eq!(out.trim_end().len(), 20);
    }
}
