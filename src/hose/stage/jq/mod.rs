//! Queries in the language of jq, run inside this process.
//!
//! Its promise: no record, whatever it holds, makes a query run without end or takes the process down with a full stack:
//! the record fails, and the next one is looked at. What one record yields is delivered whole or not at all.
//!
//! # What a query sees and makes
//!
//! Its input is the record, which must be one JSON value. Each output is a record of its own, written on one line without
//! white space, the members of objects in their order. No output (`empty`, `select(false)`) leaves the record out. An
//! error, also after some outputs, fails the record: nothing of it goes on.
//!
//! Numbers that a query only passes on keep their digits, however many (`12345678901234567890`, `1.50`). What is
//! calculated from a number that is not an integer is a double, written as short as it can be; a double without a
//! fraction is written as an integer, as jq does. `nan` is written as `null` and `infinite` as the largest double, as jq
//! does. Byte strings and members whose name is not a string have no form in JSON and fail the record.
//!
//! It is jaq that runs the query, which is jq 1.7 in all but details; the service has jq 1.6. What differs where both take
//! a query: integers are exact beyond 2^53, members keep their order, and nothing can be assigned to a member of `null`
//! (`.a.b = 1` needs an `.a`: `.a //= {} | .a.b = 1`). What reads beyond the record is not there (`input`, `$ENV`,
//! modules; `env` is). Definitions of jq 1.6 that jaq has not are added in `prelude.jq`.
//!
//! # Limits
//!
//! For each record: time ([`JqLimits::time`]), steps of the interpreter, stack, nesting of the input
//! ([`DEPTH_MAX`]), outputs and their bytes. They are looked at where the interpreter goes from one part of the query to
//! the next, and in `range`; when one is passed every part of the query from there on is an error that nothing can catch
//! ([`program`]), so that it ends as any failed query does and gives its memory back. One built-in function is not
//! interrupted, and memory is not counted: `"x" * 1e12` asks for what the machine does not have, and ends the process.
//! Who writes the query is trusted; the data is not.
//!
//! Records are spread over as many threads as there are processors; each has a stack of its own that recursion may use.

mod json;
mod program;
#[cfg(test)]
mod tests;

use std::num::NonZero;
use std::thread;
use std::time::Duration;

use jaq_json::Val;

use super::{Fate, Item, RECORD_BYTES_MAX, SPLIT_MAX, Stage, split};
use crate::codec::json_path::{DEPTH_MAX, too_deep};
use crate::hose::failure::{ErrorType, Failure};
pub(super) use json::push_number;
use json::push_value;

/// What a query may use for one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JqLimits {
    /// Time. A query of a page takes microseconds for a record.
    pub time: Duration,
    /// Steps of the interpreter. What a query makes can be nested as deep as it has steps, and is taken apart by
    /// recursion: the stack of a thread has room for so many.
    pub steps: u64,
    /// Bytes of all outputs.
    pub output_bytes: usize,
}

impl Default for JqLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(5), steps: 2_000_000, output_bytes: RECORD_BYTES_MAX }
    }
}

/// The stack of a thread that runs queries. It is memory only where it is used.
const STACK_BYTES: usize = 512 << 20;
/// So much of it the interpreter may take; the rest is for the values that are taken apart when it ends.
const STACK_BYTES_MAX: usize = STACK_BYTES / 4;
/// A thread takes longer to start than a handful of records.
const RECORDS_PER_THREAD_MIN: usize = 64;

/// A query.
pub struct Jq {
    program: program::Program,
    limits: JqLimits,
}

/// Why a query did not do for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueryError {
    /// Which kind of reason: the end of a code.
    pub(super) kind: &'static str,
    /// The reason.
    pub(super) message: String,
}

impl QueryError {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl Jq {
    /// Compiles a query.
    ///
    /// # Errors
    /// Where it is none, as the end of a usage error.
    pub fn new(query: &str) -> Result<Self, String> {
        Ok(Self { program: program::Program::new(query)?, limits: JqLimits::default() })
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(self, limits: JqLimits) -> Self {
        Self { limits, ..self }
    }

    /// Gives each output for one record to `each`, in their order.
    ///
    /// Only a thread of [`on_threads`] has the stack that this may take.
    pub(super) fn outputs(
        &self,
        data: &[u8],
        each: &mut dyn FnMut(&Val) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let input = parse(data)?;
        self.program.run(input, &self.limits, STACK_BYTES_MAX, each)
    }

    fn records(&self, data: &[u8]) -> Result<Vec<Vec<u8>>, QueryError> {
        let (mut parts, mut bytes) = (Vec::new(), 0);
        self.outputs(data, &mut |value| {
            let mut part = Vec::with_capacity(data.len() + 16);
            push_value(value, &mut part)?;
            bytes += part.len();
            if bytes > self.limits.output_bytes {
                let most = self.limits.output_bytes;
                return Err(QueryError::new(
                    "LimitExceeded",
                    format!("its outputs come to more than {most} bytes"),
                ));
            }
            if parts.len() == SPLIT_MAX {
                return Err(QueryError::new(
                    "LimitExceeded",
                    format!("it has more than {SPLIT_MAX} outputs"),
                ));
            }
            parts.push(part);
            Ok(())
        })?;
        Ok(parts)
    }
}

/// The one JSON value of a record. The parser itself takes more than JSON (comments, `NaN`, members without quotes).
fn parse(data: &[u8]) -> Result<Val, QueryError> {
    let invalid = |why: String| QueryError::new("InvalidJson", format!("the record is not JSON: {why}"));
    if data.len() > DEPTH_MAX && too_deep(data) {
        return Err(invalid(format!("it is nested more than {DEPTH_MAX} levels deep")));
    }
    let text = std::str::from_utf8(data)
        .map_err(|error| invalid(format!("byte {} is not UTF-8", error.valid_up_to())))?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| invalid(error.to_string()))?;
    jaq_json::read::parse_single(data).map_err(|error| invalid(error.to_string()))
}

/// Does `one` to every element, on threads that have the stack for it, and keeps their order.
///
/// # Errors
/// Where no thread could be started.
pub(super) fn on_threads<T: Send, R: Send>(
    all: Vec<T>,
    one: impl Fn(T) -> R + Sync,
) -> anyhow::Result<Vec<R>> {
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = all.len().div_ceil(RECORDS_PER_THREAD_MIN).min(processors);
    let each = all.len().div_ceil(threads);
    let mut parts = Vec::with_capacity(threads);
    let mut rest = all.into_iter();
    loop {
        let part: Vec<T> = rest.by_ref().take(each).collect();
        if part.is_empty() {
            break;
        }
        parts.push(part);
    }
    let one = &one;
    thread::scope(|scope| {
        let mut running = Vec::with_capacity(parts.len());
        for part in parts {
            let builder = thread::Builder::new().name("jq".to_owned()).stack_size(STACK_BYTES);
            running.push(builder.spawn_scoped(scope, move || part.into_iter().map(one).collect::<Vec<R>>())?);
        }
        let mut results = Vec::new();
        for thread in running {
            results.extend(thread.join().map_err(|_| anyhow::anyhow!("a thread that ran a query panicked"))?);
        }
        Ok(results)
    })
}

/// The stage that runs a query over each record.
pub struct JqStage {
    jq: Jq,
}

impl JqStage {
    /// A stage for this query.
    pub fn new(jq: Jq) -> Self {
        Self { jq }
    }
}

impl Stage for JqStage {
    fn name(&self) -> &'static str {
        "jq"
    }

    fn process(&mut self, items: Vec<Item>) -> anyhow::Result<Vec<Fate>> {
        let jq = &self.jq;
        let outcomes = on_threads(items, |item| (jq.records(&item.data), item))?;
        let mut fates = Vec::with_capacity(outcomes.len());
        for (outcome, item) in outcomes {
            match outcome {
                Ok(parts) if parts.is_empty() => fates.push(Fate::Dropped(item.origin)),
                Ok(parts) => split(item, parts, &mut fates),
                Err(QueryError { kind, message }) => {
                    let failure = Failure::new(ErrorType::Processing, format!("Jq.{kind}"), message);
                    fates.push(Fate::Failed(item, failure));
                }
            }
        }
        Ok(fates)
    }

    fn may_split(&self) -> bool {
        true
    }
}
