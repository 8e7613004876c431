//! Records through a filter of lines: `--filter CMD`, as `jq -c 'select(.a > 1)'`, `grep -v DEBUG`, `sed 's/x/y/'`.
//!
//! Its promise: every record of a batch is in what comes out, was left out by the command, or fails; and no failure of
//! the command is taken for a record that it left out.
//!
//! # The contract
//!
//! The command is a filter of lines: for each line that it reads it writes one line or none, in their order, and what it
//! writes depends on that line alone. `sort`, `uniq`, `head` and `awk 'NR % 2'` are none. One that breaks the contract is
//! found out only where more lines come out than went in.
//!
//! It is run once for each batch (`sh -c CMD`): it finds the lines on its standard input, then the end of it, and what it
//! writes until its own end is the outcome. So it need not flush after each line, nothing has to be guessed from time, and
//! its exit status says whether the outcome is all of it. A command that is expensive to start is better kept running:
//! that is [`super::Transform`].
//!
//! # Which line came from which record
//!
//! Nothing in a line says so. It is known where
//!
//! 1. as many lines come out as went in: line by line;
//! 2. nothing comes out;
//! 3. lines come out as they went in (`grep`), or as the same JSON written otherwise (`jq 'select(...)'`): each belongs to
//!    the next record that is equal to it.
//!
//! Where lines are both changed and left out at once it is not. Then the batch is true as a whole and not record by record:
//! its lines are given the origins of its first records, and the other records are left out. A replay that is given
//! the batch in other pieces makes the same lines with other origins. Therefore [`Stage::is_indivisible`]: whoever cuts
//! deliveries may cut only between two calls. (The first records and not the last, so that who does otherwise delivers
//! lines twice and loses none.) And so a destination that keeps records apart by their origin (`_id`) is at-least-once
//! with such a filter. `--jq` and `--transform` know for every record.
//!
//! # Failures
//!
//! - An exit status other than 0 is a failure. 1 is none where the command is nothing but a `grep` (or `egrep`, `fgrep`,
//!   `rg`) and nothing came out: it says that no line matched. Of any other command 1 may mean anything, a Python
//!   traceback too; who knows better writes `... || test $? = 1`.
//! - A batch on which the command fails, or writes more lines than it was given, is tried in halves, down to the record
//!   that is at fault, which fails alone (`Filter.Failed`, `Filter.TooManyLines`): jq stops at the first line that is no
//!   JSON. So that a command that always fails is not started for ever, this ends after [`RUNS_MAX`] runs for a call, and
//!   what is left fails together.
//! - A batch on which it takes too long, or writes without end, fails as a whole (`Filter.TimedOut`,
//!   `Filter.TooMuchOutput`), and the command is killed with its process group.
//! - Status 126 or 127 means that there is no such command: an error of the stage.
//!
//! # Records that are no line
//!
//! A newline at the end of a record is taken off. A record with newlines in it is written on one line where it is JSON,
//! and fails where it is not (`Filter.NotOneLine`).

mod lines;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::ops::Range;
use std::process::Stdio;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use self::lines::{Sources, one_line, says_nothing_with_1, sources};
use super::{Fate, Item, Stage};
use crate::hose::failure::{ErrorType, Failure};
use crate::sys::process::{describe, ends_by, kill_group_of, shell};

/// How a command is given lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterOptions {
    /// The command, for `sh -c`.
    pub command: String,
    /// The longest that a run may take.
    pub timeout: Duration,
    /// A run is given so many bytes at most, if more than one record is in them: a run costs some milliseconds to start.
    pub batch_bytes: usize,
    /// A run is given so many records at most.
    pub batch_records: usize,
    /// Variables for the command's environment.
    pub variables: Vec<(String, String)>,
}

impl FilterOptions {
    /// The usual settings for a command.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            timeout: Duration::from_mins(5),
            batch_bytes: 4 << 20,
            batch_records: 1 << 16,
            variables: Vec::new(),
        }
    }
}

/// A filter that writes more than this on one batch writes without end: it is as much as one record may come to.
const OUTPUT_BYTES_MAX: usize = super::RECORD_BYTES_MAX;
/// So often the command is run to find the records that it fails on. Ten of them in ten thousand take half as many.
const RUNS_MAX: usize = 256;
/// The same where it has not succeeded once in the call before.
const RUNS_MAX_AFTER_NOTHING: usize = 16;

/// The stage that gives lines to a command.
pub struct Filter {
    options: FilterOptions,
    nothing_is_1: bool,
    has_succeeded: bool,
    /// Whether anything succeeded in the last call.
    is_promising: bool,
}

/// What a run came to.
enum Run {
    /// Its lines, one behind the other.
    Done(Vec<u8>),
    /// It failed, and may do better with fewer records.
    Failed(Failure),
    /// It failed, and would take as long to fail again.
    Lost(Failure),
}

fn failure(code: &str, message: String) -> Failure {
    Failure::new(ErrorType::Processing, format!("Filter.{code}"), message)
}

/// Records whose lines are known, on their way into outcomes.
struct Batch {
    /// Which records.
    places: Vec<usize>,
    lines: Vec<Vec<u8>>,
}

/// What became of a record.
enum Outcome {
    Line(Vec<u8>),
    Dropped,
    Failed(Failure),
}

impl Filter {
    /// A stage for this command.
    pub fn new(options: FilterOptions) -> Self {
        let nothing_is_1 = says_nothing_with_1(&options.command);
        Self { options, nothing_is_1, has_succeeded: false, is_promising: true }
    }

    fn filter(&mut self, batch: &Batch, outcomes: &mut [Option<Outcome>]) -> anyhow::Result<()> {
        let mut ranges: Vec<Range<usize>> = self.cut(&batch.lines);
        ranges.reverse();
        let mut runs_left = ranges.len() + if self.is_promising { RUNS_MAX } else { RUNS_MAX_AFTER_NOTHING };
        self.is_promising = ranges.is_empty();
        while let Some(range) = ranges.pop() {
            let lines = &batch.lines[range.clone()];
            let run = if runs_left == 0 {
                Run::Lost(failure(
                    "Failed",
                    "the command has failed too often, on too many records".to_owned(),
                ))
            } else {
                runs_left -= 1;
                self.run(lines)?
            };
            let places = &batch.places[range.clone()];
            let run = match run {
                Run::Done(output) => match attribute(lines, &output, places, outcomes) {
                    Ok(()) => {
                        self.is_promising = true;
                        continue;
                    }
                    Err(failure) => Run::Failed(failure),
                },
                other => other,
            };
            match run {
                Run::Failed(_) if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
                Run::Failed(failure) | Run::Lost(failure) => {
                    places.iter().for_each(|&place| outcomes[place] = Some(Outcome::Failed(failure.clone())));
                }
                Run::Done(_) => {}
            }
        }
        Ok(())
    }

    /// Cuts lines into batches.
    fn cut(&self, lines: &[Vec<u8>]) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut bytes = 0;
        for (i, line) in lines.iter().enumerate() {
            bytes += line.len() + 1;
            match ranges.last_mut() {
                Some(range)
                    if bytes <= self.options.batch_bytes && range.len() < self.options.batch_records =>
                {
                    range.end = i + 1;
                }
                _ => {
                    ranges.push(i..i + 1);
                    bytes = line.len() + 1;
                }
            }
        }
        ranges
    }

    /// Runs the command on some lines.
    fn run(&mut self, lines: &[Vec<u8>]) -> anyhow::Result<Run> {
        let mut input = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            input.extend_from_slice(line);
            input.push(b'\n');
        }
        let variables = self.options.variables.iter().map(|(name, value)| (name, value));
        let mut child = shell(&self.options.command)
            .envs(variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("--filter: sh")?;
        let deadline = Instant::now() + self.options.timeout;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let outcome = pipes.context("--filter: no pipes").and_then(|(stdin, stdout)| {
            exchange(stdin, stdout, input, deadline).context("--filter: a thread")
        });
        let ended = matches!(outcome, Ok(Exchange::Whole(_))) && ends_by(&child, deadline).unwrap_or(false);
        // What it has left running too, and as long as its number is its own.
        kill_group_of(&child);
        let status = child.wait().context("--filter: sh")?;
        let output = match outcome? {
            Exchange::Whole(output) if ended => output,
            Exchange::TooMuch => {
                let message = format!("the command wrote more than {OUTPUT_BYTES_MAX} bytes");
                return Ok(Run::Lost(failure("TooMuchOutput", message)));
            }
            Exchange::Whole(_) | Exchange::Late => {
                let seconds = self.options.timeout.as_secs_f64();
                return Ok(Run::Lost(failure(
                    "TimedOut",
                    format!("the command did not end within {seconds} s"),
                )));
            }
        };
        match status.code() {
            Some(0) => {}
            Some(1) if self.nothing_is_1 && output.is_empty() => {}
            Some(code @ (126 | 127)) if !self.has_succeeded => {
                bail!("--filter: `{}` cannot be run (exit status {code})", self.options.command);
            }
            code => {
                let hint = if code == Some(1) && output.is_empty() {
                    "; if that says that nothing matched, end the command with `|| test $? = 1`"
                } else {
                    ""
                };
                let message = format!("the command ended badly: {}{hint}", describe(status));
                return Ok(Run::Failed(failure("Failed", message)));
            }
        }
        self.has_succeeded = true;
        Ok(Run::Done(output))
    }
}

/// What was read of a command.
enum Exchange {
    Whole(Vec<u8>),
    TooMuch,
    Late,
}

/// Writes all, and reads until the end, at once. A command need not read all that it is given.
fn exchange(
    mut stdin: impl Write + Send + 'static,
    stdout: impl Read + Send + 'static,
    input: Vec<u8>,
    deadline: Instant,
) -> io::Result<Exchange> {
    // Neither is waited for: something that the command has started might hold a pipe for ever.
    thread::Builder::new().name("filter-in".to_owned()).spawn(move || {
        let _ = stdin.write_all(&input);
    })?;
    let (tell, told) = mpsc::sync_channel(1);
    thread::Builder::new().name("filter-out".to_owned()).spawn(move || {
        let mut output = Vec::new();
        let read = stdout.take(OUTPUT_BYTES_MAX as u64 + 1).read_to_end(&mut output);
        let _ = tell.send(read.map(|_| output));
    })?;
    match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Ok(output)) if output.len() > OUTPUT_BYTES_MAX => Ok(Exchange::TooMuch),
        Ok(Ok(output)) => Ok(Exchange::Whole(output)),
        Ok(Err(error)) => Err(error),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(Exchange::Late),
    }
}

/// Gives what came out to the records that went in.
fn attribute(
    lines: &[Vec<u8>],
    output: &[u8],
    places: &[usize],
    outcomes: &mut [Option<Outcome>],
) -> Result<(), Failure> {
    let mut written: Vec<&[u8]> = output.split(|&byte| byte == b'\n').collect();
    // What stands behind the last newline is a line if there is anything.
    if written.last().is_some_and(|last| last.is_empty()) {
        written.pop();
    }
    let Some(sources) = sources(lines, &written) else {
        let (came, went) = (written.len(), lines.len());
        let message = format!("{came} lines came out where {went} went in: a filter writes a line or none");
        return Err(failure("TooManyLines", message));
    };
    places.iter().for_each(|&place| outcomes[place] = Some(Outcome::Dropped));
    let each: Box<dyn Iterator<Item = usize>> = match &sources {
        Sources::Known(sources) => Box::new(sources.iter().copied()),
        Sources::Unknown => Box::new(0..written.len()),
    };
    for (source, line) in each.zip(written) {
        outcomes[places[source]] = Some(Outcome::Line(line.to_vec()));
    }
    Ok(())
}

impl Stage for Filter {
    fn name(&self) -> &'static str {
        "filter"
    }

    fn process(&mut self, items: Vec<Item>) -> anyhow::Result<Vec<Fate>> {
        let mut outcomes: Vec<Option<Outcome>> = items.iter().map(|_| None).collect();
        let mut batch =
            Batch { places: Vec::with_capacity(items.len()), lines: Vec::with_capacity(items.len()) };
        for (place, item) in items.iter().enumerate() {
            if let Some(line) = one_line(&item.data) {
                batch.places.push(place);
                batch.lines.push(line.into_owned());
            } else {
                let message = "it has newlines in it, and is not JSON".to_owned();
                outcomes[place] = Some(Outcome::Failed(failure("NotOneLine", message)));
            }
        }
        self.filter(&batch, &mut outcomes)?;
        let fates = items.into_iter().zip(outcomes).map(|(mut item, outcome)| match outcome {
            Some(Outcome::Line(line)) => {
                item.data = line;
                Fate::Kept(item)
            }
            Some(Outcome::Dropped) => Fate::Dropped(item.origin),
            Some(Outcome::Failed(failure)) => Fate::Failed(item, failure),
            // Every batch ends with outcomes for its records.
            None => Fate::Failed(item, failure("Failed", "it was not tried".to_owned())),
        });
        Ok(fates.collect())
    }

    fn is_indivisible(&self) -> bool {
        true
    }
}
