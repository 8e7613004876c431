//! Groups of arguments that commands share: `#[command(flatten)]` them, so that one word means one thing everywhere.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValue, TypedValueParser};

use super::meter::{Meter, Progress};
use super::signal::Shutdown;
use super::value::{self, OnError, Position};
use super::{report, stream_name};

/// The stream a command is about.
#[derive(Debug, Clone, Args)]
pub struct StreamArg {
    /// The stream: a path if it has a `/`, else a name under `$KPIPE_ROOT` or the current directory
    #[arg(value_name = "STREAM")]
    pub stream: OsString,
}

impl StreamArg {
    /// Its directory, absolute.
    pub fn resolve(&self) -> anyhow::Result<PathBuf> {
        stream_name::resolve(&self.stream)
    }
}

/// What every command has.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// Print nothing but data and errors
    #[arg(short, long)]
    pub quiet: bool,

    /// Show progress on standard error
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, hide_possible_values = true)]
    #[arg(help = "Show progress on standard error: auto (on a terminal), always or never")]
    pub progress: Progress,
}

impl CommonArgs {
    /// Starts the meter.
    pub fn meter(&self, program: &'static str, total_bytes: Option<u64>) -> Meter {
        Meter::start(program, self.progress, self.quiet, total_bytes)
    }

    /// Prints a line of information on standard error, unless told to be quiet.
    pub fn note(&self, program: &str, text: &str) {
        if !self.quiet {
            report::say(program, &report::printable(text), None);
        }
    }
}

/// Which part of a stream is read.
#[derive(Debug, Clone, Args)]
pub struct RangeArgs {
    /// Begin here: trim-horizon, latest, a time (RFC 3339, epoch seconds, -1h, now), at:SEQUENCE or after:SEQUENCE
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub from: Option<Position>,

    /// End here, this position not included; the same forms as --from (a sequence number ends its own shard)
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub until: Option<Position>,

    /// End after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub limit: Option<u64>,
}

/// When a batch is full.
#[derive(Debug, Clone, Args)]
pub struct BatchArgs {
    /// Hand on a batch when it holds this much, as 4MiB
    #[arg(long, value_name = "SIZE", value_parser = value::size_above_zero)]
    pub batch_size: Option<u64>,

    /// Hand on a batch when it is this old, as 250ms
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub batch_interval: Option<Duration>,
}

/// What becomes of records that cannot be taken.
#[derive(Debug, Clone, Args)]
pub struct OnErrorArgs {
    /// What becomes of a bad record: fail, skip, reject or reject=FILE [default: fail when reading a regular file to
    /// its end, else reject]
    #[arg(long, value_name = "ACTION")]
    pub on_error: Option<OnError>,
}

impl OnErrorArgs {
    /// What was asked for, else what suits the input: a file can be mended and read again, a pipe cannot.
    pub fn action(&self, from_regular_file: bool) -> OnError {
        let default = if from_regular_file { OnError::Fail } else { OnError::Reject(None) };
        self.on_error.clone().unwrap_or(default)
    }
}

/// Follow the stream.
#[derive(Debug, Clone, Args)]
pub struct FollowArgs {
    /// Go on when the end is reached: wait for more
    #[arg(short, long)]
    pub follow: bool,
}

/// Opens standard output as the arguments ask: lines when following, blocks otherwise.
pub fn stdout(follow: bool, shutdown: &'static Shutdown) -> std::io::Result<super::output::Stdout> {
    super::output::Stdout::open(follow, Some(shutdown))
}

/// A parser whose values a shell can offer, though not all that it takes is a word of a list.
#[derive(Clone)]
pub(crate) struct OneOf<T>(pub(crate) &'static [&'static str], pub(crate) fn(&str) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for OneOf<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<T, clap::Error> {
        self.1.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().copied().map(PossibleValue::new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::value::Time;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct All {
        #[command(flatten)]
        stream: StreamArg,
        #[command(flatten)]
        common: CommonArgs,
        #[command(flatten)]
        range: RangeArgs,
        #[command(flatten)]
        batch: BatchArgs,
        #[command(flatten)]
        on_error: OnErrorArgs,
        #[command(flatten)]
        follow: FollowArgs,
    }

    #[test]
    fn the_groups_go_together() {
        All::command().debug_assert();
    }

    #[test]
    fn a_time_ago_is_a_value_and_not_an_option() {
        let all =
            All::try_parse_from(["x", "clicks", "--from", "-1h", "--until=-5m", "-n", "3", "-f"]).unwrap();
        assert_eq!(all.range.from, Some(Position::Time(Time::FromNow(-3_600_000_000))));
        assert_eq!(all.range.until, Some(Position::Time(Time::FromNow(-300_000_000))));
        assert_eq!(all.range.limit, Some(3));
        assert!(all.follow.follow);
        assert_eq!(all.stream.stream, "clicks");
        assert_eq!(all.common.progress, Progress::Auto);
    }

    #[test]
    fn what_suits_the_input_unless_told() {
        let parse = |args: &[&str]| All::try_parse_from([&["x", "clicks"], args].concat()).unwrap();
        assert_eq!(parse(&[]).on_error.action(true), OnError::Fail);
        assert_eq!(parse(&[]).on_error.action(false), OnError::Reject(None));
        assert_eq!(parse(&["--on-error=skip"]).on_error.action(true), OnError::Skip);
        assert_eq!(parse(&["--batch-size", "4MiB"]).batch.batch_size, Some(4 << 20));
    }
}
