//! `kshard consumers`: who reads a stream under a name, how far each has come, and why it is not further.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Outcome;
use super::about::{self, About};
use super::args::StreamArg;
use super::report::{self, HintExt};
use super::shard::print::{self, OutputArg, Table};
use super::stream_name::quote;
use super::value::{self, Position, about_duration, about_time, show_count, show_time};
use crate::stream::{Checkpoint, Consumer, Error, Failure, Patience, ShardLag, Stream, Waits};

/// Rates of arrival are told over the last minute.
const WINDOW_US: i64 = 60 * 1_000_000;

/// List the consumers of a stream, or the places of one; reset or delete it
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// Only this consumer, shard by shard
    #[arg(value_name = "NAME", value_parser = value::name)]
    name: Option<String>,

    /// Say why it is not further: who reads, how fast, and what is waited for
    #[arg(long, requires = "name")]
    why: bool,

    /// Exit with status 1 if a record has waited for longer than this
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    max_lag: Option<Duration>,

    /// Let it begin anew: at trim-horizon, latest or a time
    #[arg(long, value_name = "POSITION", requires = "name", allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["why", "max_lag", "delete"])]
    reset: Option<Position>,

    /// Forget it
    #[arg(long, requires = "name", conflicts_with_all = ["why", "max_lag"])]
    delete: bool,

    #[command(flatten)]
    output: OutputArg,
}

/// Lists them, or changes one.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let stream = about::open(&args.stream)?;
    let path = stream.path().to_owned();
    let Some(name) = &args.name else { return all(&args, &stream).about(&path) };
    let consumer = match Consumer::open(&stream, name) {
        Err(error @ Error::NoConsumer { .. }) => {
            let all = format!("kshard consumers {}", quote(&args.stream.stream.to_string_lossy()));
            return Err(error).about(&path).hint(all);
        }
        opened => opened.about(&path)?.patient(Arc::new(Aloud)),
    };
    if let Some(position) = args.reset {
        let start = position.start(stream.system().clock.now_us());
        consumer.reset(&stream, start).about(&path)?;
        if args.output.is_json() {
            return one(&args, &stream, &consumer).about(&path);
        }
        return Ok(Outcome::Done);
    }
    if args.delete {
        consumer.delete().about(&path)?;
        if args.output.is_json() {
            print::json(&json!({"StreamName": stream.name(), "ConsumerName": name, "Deleted": true}))?;
        }
        return Ok(Outcome::Done);
    }
    one(&args, &stream, &consumer).about(&path)
}

/// Says what it waits for.
struct Aloud;

impl Patience for Aloud {
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    fn tell(&self, text: &str) {
        report::say("kshard", text, None);
    }
}

/// An error of the terminal is not the stream's.
fn printed(result: anyhow::Result<()>) -> Result<(), Error> {
    result.map_err(|error| Error::Invalid(report::line(&error)))
}

fn all(args: &Args, stream: &Stream) -> Result<Outcome, Error> {
    let mut table = Table::new(&["CONSUMER", ">SHARDS", ">DONE", ">WORKERS", ">BEHIND", ">AGE", "COMMITTED"]);
    let (mut documents, mut worst_us, mut unreadable) = (Vec::new(), 0, false);
    for name in Consumer::list(stream)? {
        let found = Consumer::open(stream, &name).and_then(|consumer| Ok((consumer.state()?, consumer)));
        let (state, consumer) = match found {
            // Deleted meanwhile.
            Err(Error::NoConsumer { .. }) => continue,
            // One that cannot be read does not hide the others.
            Err(error) => {
                let error = anyhow::Error::new(error);
                let (line, hint) = (report::line(&error), report::hint(&error));
                report::say(
                    "kshard",
                    &format!("consumer {}: {line}", report::printable(&name)),
                    hint.as_deref(),
                );
                documents.push(json!({"ConsumerName": &name, "Error": line}));
                let blank = std::iter::repeat_n("-".to_owned(), 5);
                table.row([name].into_iter().chain(blank).chain(["UNREADABLE".to_owned()]));
                unreadable = true;
                continue;
            }
            Ok(found) => found,
        };
        let lags = consumer.lag(stream, &state, WINDOW_US)?;
        let mut pids: Vec<u32> = lags.iter().filter_map(|lag| lag.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        let records: u64 = lags.iter().map(|lag| lag.records).sum();
        let age_us = oldest(&lags);
        let done = lags.iter().filter(|lag| lag.waits == Waits::Done).count();
        let committed_us = lags.iter().filter_map(|lag| lag.state.committed_us).max();
        worst_us = worst_us.max(age_us);
        documents.push(json!({
            "ConsumerName": &name,
            "Shards": lags.len(),
            "ShardsDone": done,
            "Workers": pids,
            "RecordsBehind": records,
            "MillisBehindLatest": age_us / 1000,
            "LastCommitTimestamp": committed_us.map(show_time),
        }));
        table.row([
            name,
            lags.len().to_string(),
            done.to_string(),
            pids.len().to_string(),
            show_count(records),
            age(age_us),
            committed_us.map_or_else(|| "never".to_owned(), about_time),
        ]);
    }
    if args.output.is_json() {
        printed(print::json(&json!({"StreamName": stream.name(), "Consumers": documents})))?;
    } else {
        printed(print::text(&table.render()))?;
    }
    Ok(if unreadable { Outcome::Refused } else { verdict(args, worst_us) })
}

fn one(args: &Args, stream: &Stream, consumer: &Consumer) -> Result<Outcome, Error> {
    let lags = consumer.lag(stream, &consumer.state()?, WINDOW_US)?;
    if args.output.is_json() {
        let shards: Vec<Value> = lags.iter().map(document).collect();
        let name = consumer.name();
        let document = json!({"StreamName": stream.name(), "ConsumerName": name, "Shards": shards});
        printed(print::json(&document))?;
    } else if args.why {
        printed(print::text(&reasons(&lags)))?;
    } else {
        printed(print::text(&places(&lags)))?;
    }
    Ok(verdict(args, oldest(&lags)))
}

fn oldest(lags: &[ShardLag]) -> i64 {
    lags.iter().map(|lag| lag.age_us).max().unwrap_or(0)
}

fn verdict(args: &Args, age_us: i64) -> Outcome {
    let late = args.max_lag.is_some_and(|most| age_us.max(0) as u128 > most.as_micros());
    if late { Outcome::Refused } else { Outcome::Done }
}

fn age(us: i64) -> String {
    // A glance does not need the microseconds.
    about_duration(Duration::from_millis((us.max(0) / 1000) as u64))
}

fn pid(lag: &ShardLag) -> String {
    lag.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())
}

fn places(lags: &[ShardLag]) -> String {
    let mut table = Table::new(&["SHARD", ">OWNER", ">BEHIND", ">AGE", "CHECKPOINT"]);
    for lag in lags {
        let checkpoint = lag.state.checkpoint.to_string();
        table.row([lag.shard.to_string(), pid(lag), show_count(lag.records), age(lag.age_us), checkpoint]);
    }
    table.render()
}

fn reasons(lags: &[ShardLag]) -> String {
    let headings = ["SHARD", ">OWNER", ">BEHIND", ">IN/S", ">OUT/S", ">CATCHES UP", "COMMITTED", "WAITS FOR"];
    let mut table = Table::new(&headings);
    for lag in lags {
        let catch_up = match lag.catch_up_s() {
            _ if lag.records == 0 => "now".to_owned(),
            Some(seconds) => format!("in {}", about_duration(Duration::from_secs(seconds.ceil() as u64))),
            None if lag.rate_out.is_none() => "unknown".to_owned(),
            None => "never".to_owned(),
        };
        table.row([
            lag.shard.to_string(),
            pid(lag),
            show_count(lag.records),
            format!("{:.1}", lag.rate_in),
            lag.rate_out.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")),
            catch_up,
            lag.state.committed_us.map_or_else(|| "never".to_owned(), about_time),
            waits(lag),
        ]);
    }
    table.render()
}

fn ended(failure: &Failure) -> String {
    let Failure { status, attempts, at_us } = failure;
    format!("ended with {status} at {}, attempt {attempts}", about_time(*at_us))
}

fn waits(lag: &ShardLag) -> String {
    match &lag.waits {
        Waits::Done => "nothing: the shard is done".to_owned(),
        Waits::Parents(parents) => {
            let names: Vec<String> = parents.iter().map(ToString::to_string).collect();
            format!("its parent {}", names.join(" and "))
        }
        Waits::Bookmark(until_us) => format!("a bookmark to be committed, until {}", about_time(*until_us)),
        Waits::Command(failure) => format!("its command, which {}", ended(failure)),
        Waits::Worker => match &lag.state.failure {
            None => "a lease: nobody reads it".to_owned(),
            Some(failure) => format!("a lease: nobody reads it; its last command {}", ended(failure)),
        },
        Waits::Reading => "its reader".to_owned(),
        Waits::Records => "records".to_owned(),
    }
}

/// The same for programs: its kind, and what belongs to that.
fn waits_document(lag: &ShardLag) -> Value {
    match &lag.waits {
        Waits::Done => json!({"Kind": "nothing"}),
        Waits::Parents(parents) => {
            let names: Vec<String> = parents.iter().map(ToString::to_string).collect();
            json!({"Kind": "parents", "ShardIds": names})
        }
        Waits::Bookmark(until_us) => json!({"Kind": "bookmark", "Until": show_time(*until_us)}),
        Waits::Command(_) => json!({"Kind": "command"}),
        Waits::Worker => json!({"Kind": "worker"}),
        Waits::Reading => json!({"Kind": "reader"}),
        Waits::Records => json!({"Kind": "records"}),
    }
}

/// A checkpoint as the state has it, but for the start, which has the service's word.
fn checkpoint(checkpoint: Checkpoint) -> Value {
    match checkpoint {
        Checkpoint::START => json!({"at": "TRIM_HORIZON"}),
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}

fn document(lag: &ShardLag) -> Value {
    let mut document = Map::new();
    let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
    put("ShardId", json!(lag.shard.to_string()));
    put("Checkpoint", checkpoint(lag.state.checkpoint));
    put("OwnerPid", json!(lag.pid));
    put("LeaseCounter", json!(lag.state.counter));
    put("RecordsCommitted", json!(lag.state.records));
    put("BytesCommitted", json!(lag.state.bytes));
    put("RecordsBehind", json!(lag.records));
    put("MillisBehindLatest", json!(lag.age_us / 1000));
    put("RecordsInPerSecond", json!(lag.rate_in));
    put("RecordsOutPerSecond", json!(lag.rate_out));
    put("SecondsToCatchUp", json!(lag.catch_up_s()));
    put("LastCommitTimestamp", json!(lag.state.committed_us.map(show_time)));
    put("WaitsFor", waits_document(lag));
    if let Some(failure) = &lag.state.failure {
        put(
            "LastFailure",
            json!({"Status": failure.status, "Attempts": failure.attempts, "Timestamp": show_time(failure.at_us)}),
        );
    }
    Value::Object(document)
}
