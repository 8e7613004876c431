//! Records through a command that the user wrote: `--transform CMD`, in the protocol of the service's Lambda functions.
//!
//! Its promise: every record has one fate, in the order in which they came, whatever the command does: it may answer
//! nonsense, leave records out, crash, hang, or write without reading.
//!
//! # The protocol
//!
//! `sh -c CMD` is started once and kept. For each batch it finds one line on its standard input, and writes one line to
//! its standard output, in the order of the lines that it read. Both are JSON, as a Lambda function of the service has it:
//!
//! ```json
//! {"invocationId":"7f…","deliveryStreamArn":"arn:…","sourceKinesisStreamArn":"arn:…","region":"local","records":[
//!   {"recordId":"4957…000000","approximateArrivalTimestamp":1495072949453,"data":"aGVsbG8=",
//!    "kinesisRecordMetadata":{"shardId":"shardId-000000000000","partitionKey":"k","sequenceNumber":"4957…",
//!      "subsequenceNumber":"","approximateArrivalTimestamp":1495072949453}}]}
//! {"records":[{"recordId":"4957…000000","result":"Ok","data":"SEVMTE8=","metadata":{"partitionKeys":{"kind":"x"}}}]}
//! ```
//!
//! So an existing function runs as it is, in Python:
//!
//! ```python
//! import json, sys
//! from my_function import lambda_handler
//! answers, sys.stdout = sys.stdout, sys.stderr    # what the function prints is no answer
//! for line in sys.stdin:
//!     print(json.dumps(lambda_handler(json.loads(line), None)), file=answers, flush=True)
//! ```
//!
//! and in Node:
//!
//! ```js
//! const { handler } = require('./my_function');
//! const answer = console.log; console.log = console.error;
//! (async () => {
//!   for await (const line of require('readline').createInterface({ input: process.stdin }))
//!     answer(JSON.stringify(await handler(JSON.parse(line), {})));
//! })();
//! ```
//!
//! - `kinesisRecordMetadata` and `sourceKinesisStreamArn` are there where records come from a stream, `partitionKey` where
//!   the record has one.
//! - A record's id is its sequence number with the number of its part behind it, and so the same in every attempt and in
//!   a replay. `invocationId` is another in every attempt.
//! - `{"errorMessage":"…"}` in place of `records` is how a function says that it has failed; the batch is tried again.
//! - Standard error is ours. An empty line is no answer and no mistake.
//!
//! # What can go wrong
//!
//! | what | code | and then |
//! |---|---|---|
//! | `"result":"ProcessingFailed"` | `Lambda.ProcessingFailedStatus` | this record fails |
//! | a record does not come back | `Lambda.MissingRecordId` | this record fails |
//! | a record comes back twice | `Lambda.DuplicatedRecordId` | this record fails |
//! | no data or result, no base64, a partition key that is no string | `Lambda.InvalidReturnFormat` | this record fails |
//! | a record that was never given | `Lambda.UnknownRecordId` | the batch fails, the command is started anew |
//! | the line is not JSON | `Lambda.JsonProcessingException` | the batch fails, the command is started anew |
//! | the answer is longer than 6 MiB | `Lambda.FunctionError` | the batch is tried in halves; one record alone fails |
//! | the record alone makes a request above 6 MiB | `Lambda.RequestTooLarge` | this record fails |
//! | the command ends, closes a pipe, says `errorMessage` | `Lambda.FunctionError` | tried again, then the batch fails |
//! | no answer in time | `Lambda.FunctionTimedOut` | tried again, then the batch fails |
//!
//! The service passes over records that were never given. Here they fail the batch: a function that answers with more
//! records than it got would lose them in silence, and one that answers a request it was not asked is out of step.
//!
//! What is tried again is so up to [`TransformOptions::retries`] times, by a command started anew after a wait that
//! doubles; the old one is killed with all of its process group. A command that ends with status 126 or 127 before it
//! ever answered is none: that is an error of the stage.
//!
//! The command is in a process group of its own, so ctrl-C does not reach it, and it is killed when this process ends,
//! however it does. At the end its input is closed, and its exit status is looked at.

mod child;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::VecDeque;
use std::ops::Range;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use self::child::{Event, Running};
use self::wire::{Answer, Outcome};
use super::{Fate, Item, Stage};
use crate::hose::failure::{ErrorType, Failure};
use crate::sys::process::describe;

/// How a command is given records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformOptions {
    /// The command, for `sh -c`.
    pub command: String,
    /// The longest that a batch may take.
    pub timeout: Duration,
    /// How often a batch is tried again that the command did not survive.
    pub retries: u32,
    /// A batch has so many bytes of data at most, if more than one record is in it (`BufferSizeInMBs`).
    pub batch_bytes: usize,
    /// A batch has so many records at most.
    pub batch_records: usize,
    /// So many batches are in the command's hands at once: while it is at one, the next lies in its pipe.
    pub outstanding: usize,
    /// The wait before the command is started anew; it doubles with each time.
    pub backoff: Duration,
    /// The name of the delivery, for `deliveryStreamArn`.
    pub delivery_stream: String,
    /// The stream that records come from, for `sourceKinesisStreamArn`.
    pub source_stream: Option<String>,
    /// Variables for the command's environment.
    pub variables: Vec<(String, String)>,
}

impl TransformOptions {
    /// The service's own settings for a command.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            timeout: Duration::from_mins(5),
            retries: 3,
            batch_bytes: 1 << 20,
            batch_records: 10_000,
            outstanding: 2,
            backoff: Duration::from_millis(200),
            delivery_stream: "khose".to_owned(),
            source_stream: None,
            variables: Vec::new(),
        }
    }
}

/// The longest request and the longest answer: what Lambda takes.
const LINE_BYTES_MAX: usize = 6 << 20;
/// Above this no wait before a new start grows.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// So long a command may take to end once its input has.
const ENDING: Duration = Duration::from_secs(10);
/// So long it may take to end once it has closed its output, before it is killed.
const TO_END: Duration = Duration::from_secs(1);

/// The stage that gives records to a command.
pub struct Transform {
    options: TransformOptions,
    running: Option<Running>,
    has_answered: bool,
    /// How often in a row the command has been stopped without an answer between.
    stops: u32,
}

/// Records that are one request.
struct Job {
    range: Range<usize>,
    attempts: u32,
}

impl Job {
    /// It is tried once more, or it has been tried often enough.
    fn fail(
        mut self,
        retries: u32,
        failure: &Failure,
        queue: &mut VecDeque<Self>,
        outcomes: &mut [Option<Outcome>],
    ) {
        self.attempts += 1;
        if self.attempts <= retries {
            queue.push_front(self);
        } else {
            self.give_up(failure, outcomes);
        }
    }

    fn give_up(&self, failure: &Failure, outcomes: &mut [Option<Outcome>]) {
        let failure = Failure { attempts: self.attempts.max(1), ..failure.clone() };
        outcomes[self.range.clone()].fill(Some(Outcome::Failed(failure)));
    }
}

impl Transform {
    /// A stage for this command. It is started with the first records.
    pub fn new(options: TransformOptions) -> Self {
        let options = TransformOptions {
            batch_records: options.batch_records.max(1),
            outstanding: options.outstanding.max(1),
            ..options
        };
        Self { options, running: None, has_answered: false, stops: 0 }
    }

    /// Cuts records into requests. What is too large for one has its outcome already.
    fn jobs(&self, items: &[Item], outcomes: &mut [Option<Outcome>]) -> VecDeque<Job> {
        let mut jobs: VecDeque<Job> = VecDeque::new();
        let head = wire::head_bytes_max(&self.options);
        let (mut bytes, mut line) = (0, 0);
        for (i, item) in items.iter().enumerate() {
            let takes = wire::record_bytes_max(item);
            if head + takes > LINE_BYTES_MAX {
                let message =
                    format!("{} bytes of data make a request above {LINE_BYTES_MAX}", item.data.len());
                outcomes[i] = Some(Outcome::failed("Lambda.RequestTooLarge", message));
                continue;
            }
            let fits = |range: &Range<usize>| {
                range.end == i
                    && range.len() < self.options.batch_records
                    && bytes + item.data.len() <= self.options.batch_bytes
                    && line + takes <= LINE_BYTES_MAX
            };
            if let Some(job) = jobs.back_mut()
                && fits(&job.range)
            {
                job.range.end = i + 1;
            } else {
                jobs.push_back(Job { range: i..i + 1, attempts: 0 });
                (bytes, line) = (0, head);
            }
            bytes += item.data.len();
            line += takes;
        }
        jobs
    }

    fn run(&mut self, items: &[Item]) -> anyhow::Result<Vec<Option<Outcome>>> {
        let mut outcomes: Vec<Option<Outcome>> = items.iter().map(|_| None).collect();
        let mut queue = self.jobs(items, &mut outcomes);
        let mut asked: VecDeque<Job> = VecDeque::new();
        let mut since = Instant::now();
        // What it has said or done since it was last asked has to do with no record.
        if self.running.as_ref().is_some_and(Running::has_stirred) {
            self.stop(Duration::ZERO);
        }
        loop {
            while asked.len() < self.options.outstanding
                && let Some(job) = queue.pop_front()
            {
                let line = wire::request(&self.options, &items[job.range.clone()]);
                self.running()?.ask(line);
                if asked.is_empty() {
                    since = Instant::now();
                }
                asked.push_back(job);
            }
            if asked.is_empty() {
                return Ok(outcomes);
            }
            let timeout = self.options.timeout;
            let event = self.running()?.wait(since + timeout);
            let Some(job) = asked.pop_front() else { return Ok(outcomes) };
            since = Instant::now();
            let retries = self.options.retries;
            match event {
                Event::Line(line) => {
                    (self.has_answered, self.stops) = (true, 0);
                    match wire::read(&line, &items[job.range.clone()]) {
                        Answer::Records(records) => {
                            let attempts = job.attempts + 1;
                            let slots = outcomes[job.range].iter_mut();
                            slots
                                .zip(records)
                                .for_each(|(slot, record)| *slot = Some(record.after(attempts)));
                        }
                        Answer::Raised(failure) => {
                            thread::sleep(self.wait_before(job.attempts));
                            // The others are in the command's hands already, and will be answered.
                            job.fail(retries, &failure, &mut queue, &mut outcomes);
                        }
                        Answer::OutOfStep(failure) => {
                            Job { attempts: job.attempts + 1, ..job }.give_up(&failure, &mut outcomes);
                            give_back(&mut asked, &mut queue);
                            self.stop(Duration::ZERO);
                        }
                    }
                }
                Event::TooLong if job.range.len() > 1 => {
                    let middle = job.range.start + job.range.len() / 2;
                    for range in [middle..job.range.end, job.range.start..middle] {
                        queue.push_front(Job { range, attempts: job.attempts });
                    }
                }
                Event::TooLong => {
                    let failure =
                        function_error(format!("the answer was longer than {LINE_BYTES_MAX} bytes"));
                    Job { attempts: job.attempts + 1, ..job }.give_up(&failure, &mut outcomes);
                }
                Event::Ended | Event::Unwritable | Event::TimedOut => {
                    let how = self.stop(if event == Event::Ended { TO_END } else { Duration::ZERO });
                    if let Some(status @ (126 | 127)) = how.and_then(|how| how.code())
                        && !self.has_answered
                    {
                        bail!("--transform: `{}` cannot be run (exit status {status})", self.options.command);
                    }
                    let failure = self.explain(&event, how);
                    give_back(&mut asked, &mut queue);
                    thread::sleep(self.wait_before(self.stops));
                    self.stops += 1;
                    job.fail(retries, &failure, &mut queue, &mut outcomes);
                }
            }
        }
    }

    fn explain(&self, event: &Event, how: Option<ExitStatus>) -> Failure {
        match (event, how) {
            (Event::TimedOut, _) => {
                let seconds = self.options.timeout.as_secs_f64();
                let message = format!("the command did not answer within {seconds} s");
                Failure::new(ErrorType::Processing, "Lambda.FunctionTimedOut", message)
            }
            (_, Some(how)) => {
                function_error(format!("the command ended without an answer: {}", describe(how)))
            }
            (Event::Unwritable, None) => function_error("the command closed its input".to_owned()),
            (_, None) => function_error("the command closed its output, and went on".to_owned()),
        }
    }

    fn wait_before(&self, times: u32) -> Duration {
        self.options.backoff.saturating_mul(1 << times.min(16)).min(BACKOFF_MAX)
    }

    /// The command, started if it does not run.
    fn running(&mut self) -> anyhow::Result<&mut Running> {
        if self.running.is_none() {
            let started = Running::start(&self.options.command, &self.options.variables, LINE_BYTES_MAX);
            self.running = Some(started.context("--transform: sh")?);
        }
        self.running.as_mut().context("--transform: sh")
    }

    /// Ends it; how it ended, where it did so by itself within that time.
    fn stop(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.running.take().and_then(|running| running.stop(patience))
    }
}

/// What was asked and not answered is asked again.
fn give_back(asked: &mut VecDeque<Job>, queue: &mut VecDeque<Job>) {
    while let Some(job) = asked.pop_back() {
        queue.push_front(job);
    }
}

fn function_error(message: String) -> Failure {
    Failure::new(ErrorType::Processing, "Lambda.FunctionError", message)
}

impl Stage for Transform {
    fn name(&self) -> &'static str {
        "transform"
    }

    fn process(&mut self, items: Vec<Item>) -> anyhow::Result<Vec<Fate>> {
        let outcomes = self.run(&items)?;
        let fates = items.into_iter().zip(outcomes).map(|(mut item, outcome)| match outcome {
            Some(Outcome::Ok { data, partition_keys }) => {
                item.data = data;
                if let Some(keys) = partition_keys {
                    item.partition_keys = Some(Box::new(keys));
                }
                Fate::Kept(item)
            }
            Some(Outcome::Dropped) => Fate::Dropped(item.origin),
            Some(Outcome::Failed(failure)) => Fate::Failed(item, failure),
            // Every job ends with outcomes for its records.
            None => Fate::Failed(item, function_error("it was not tried".to_owned())),
        });
        Ok(fates.collect())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let Some(running) = self.running.take() else { return Ok(()) };
        match running.finish(Instant::now() + ENDING) {
            None => {
                let seconds = ENDING.as_secs();
                bail!("--transform: the command had to be killed, {seconds} s after the end of its input")
            }
            Some(how) if !how.success() => {
                bail!("--transform: the command ended badly after its last batch: {}", describe(how))
            }
            Some(_) => Ok(()),
        }
    }
}
