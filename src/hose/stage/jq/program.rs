//! A compiled query and its meter.
//!
//! The interpreter has no way to be stopped. But at every step it asks its context for the table of the terms that the
//! query was compiled to. That is where it is counted; and when a limit is passed it is given another table, in which
//! every term is an error. From there on whatever the query does next is an error; what it has in hand comes to its end
//! by the ordinary way. A handler (`try`, `//`, `?`) is a term of that table as well, so nothing catches it.
//!
//! The other table must have a term wherever the query's has one: how many those are can be told from the number of the
//! query's entry, behind which only its own terms lie, no more of them than [`TERMS_PER_BYTE`] for a byte of the query.
//! Native functions stand in both at the same places.

use std::cell::Cell;
use std::time::{Duration, Instant};

use jaq_core::data::HasLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::native::{Fun, run, v};
use jaq_core::{Compiler, Ctx, Cv, DataT, Error, Exn, Filter, Lut, RunPtr, ValXs, Vars};
use jaq_json::Val;

use super::super::excerpt;
use super::{JqLimits, QueryError};

/// Definitions of jq 1.6 that jaq has not.
const PRELUDE: &str = include_str!("prelude.jq");
/// `{a,b}` is compiled to the most terms for its length, six for two bytes.
const TERMS_PER_BYTE: usize = 8;
/// The clock is looked at so often, in steps. A step takes some tens of nanoseconds.
const STEPS_PER_GLANCE: u64 = 256;

/// What functions of the query can reach.
pub(super) struct Metered;

impl DataT for Metered {
    type V<'a> = Val;
    type Data<'a> = Run<'a>;
}

/// One run of a query.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    terms: &'a Lut<Metered>,
    errors: &'a Lut<Metered>,
    meter: &'a Meter,
}

impl<'a> HasLut<'a, Metered> for Run<'a> {
    fn lut(&self) -> &'a Lut<Metered> {
        if self.meter.step() { self.terms } else { self.errors }
    }
}

/// What one run has used.
struct Meter {
    steps: Cell<u64>,
    steps_max: u64,
    begun: Instant,
    time: Duration,
    /// An address on the stack where it began.
    base: usize,
    stack_max: usize,
    over: Cell<Option<&'static str>>,
}

impl Meter {
    fn new(limits: &JqLimits, stack_max: usize) -> Self {
        Self {
            steps: Cell::new(0),
            steps_max: limits.steps,
            begun: Instant::now(),
            time: limits.time,
            base: stack_address(),
            stack_max,
            over: Cell::new(None),
        }
    }

    /// Counts a step; whether there may be another.
    fn step(&self) -> bool {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        let over = if self.over.get().is_some() {
            return false;
        } else if steps > self.steps_max {
            "steps"
        } else if self.base.abs_diff(stack_address()) > self.stack_max {
            "stack"
        } else if steps.is_multiple_of(STEPS_PER_GLANCE) && self.begun.elapsed() > self.time {
            "time"
        } else {
            return true;
        };
        self.over.set(Some(over));
        false
    }
}

/// About where the stack has come to.
#[inline(never)]
fn stack_address() -> usize {
    let here = 0u8;
    std::hint::black_box(&raw const here) as usize
}

/// A compiled query.
pub(super) struct Program {
    terms: Filter<Metered>,
    errors: Filter<Metered>,
}

impl Program {
    pub(super) fn new(query: &str) -> Result<Self, String> {
        let terms = compile(query, prelude())?;
        // `TermId(1234)` is all that is to be had of it.
        let entry: String = format!("{:?}", terms.id).chars().filter(char::is_ascii_digit).collect();
        let entry: usize = entry.parse().map_err(|_| "its entry is unknown".to_owned())?;
        let count = entry + TERMS_PER_BYTE * (query.len() + 1);
        let errors = compile(&format!("{} error_empty", "def f: error_empty;".repeat(count)), Vec::new())?;
        Ok(Self { terms, errors })
    }

    /// Runs it on one value.
    pub(super) fn run(
        &self,
        input: Val,
        limits: &JqLimits,
        stack_max: usize,
        each: &mut dyn FnMut(&Val) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let meter = Meter::new(limits, stack_max);
        let run = Run { terms: &self.terms.lut, errors: &self.errors.lut, meter: &meter };
        let ctx = Ctx::<Metered>::new(run, Vars::new([]));
        let mut outcome = Ok(());
        for output in self.terms.id.run((ctx, input)) {
            outcome = match output {
                _ if meter.over.get().is_some() => break,
                Ok(value) => each(&value),
                Err(exn) => Err(QueryError::new("Error", raised(exn))),
            };
            // An output without a term: `repeat` of a constant, say.
            if outcome.is_err() || !meter.step() {
                break;
            }
        }
        match meter.over.get() {
            Some("time") => {
                let seconds = limits.time.as_secs_f64();
                Err(QueryError::new("LimitExceeded", format!("the query took longer than {seconds} s")))
            }
            Some("stack") => Err(QueryError::new(
                "LimitExceeded",
                "the query's recursion took more than its share of stack",
            )),
            Some(_) => {
                let most = limits.steps;
                Err(QueryError::new("LimitExceeded", format!("the query took more than {most} steps")))
            }
            None => outcome,
        }
    }
}

/// What a query that ended early says of it.
fn raised(exn: Exn<'_, Val>) -> String {
    match exn.get_err() {
        Ok(error) => match error.into_val() {
            Val::TStr(text) => excerpt(&String::from_utf8_lossy(&text)),
            value => excerpt(&value.to_string()),
        },
        Err(exn) => exn.get_halt().map_or_else(
            |_| "the query ended with a `break` that leads nowhere".to_owned(),
            |code| format!("the query halted with status {code}"),
        ),
    }
}

fn prelude() -> Vec<load::parse::Def<&'static str>> {
    let own = load::parse(PRELUDE, |parser| parser.defs()).unwrap_or_default();
    jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).chain(own).collect()
}

/// Native functions; the first of a name counts.
fn natives() -> impl Iterator<Item = Fun<Metered>> {
    let range: RunPtr<Metered> = range;
    [run::<Metered>(("range", v(3), range))]
        .into_iter()
        .chain(jaq_core::funs())
        .chain(jaq_std::funs())
        .chain(jaq_json::funs())
}

/// The numbers from one to another. jaq's own runs through them without a step.
fn range(mut cv: Cv<'_, Metered>) -> ValXs<'_, Val> {
    let by = cv.0.pop_var();
    let to = cv.0.pop_var();
    let mut next = Some(cv.0.pop_var());
    let meter = cv.0.data().meter;
    let zero = Val::from(0isize);
    let (up, down) = (by > zero, by < zero);
    Box::new(std::iter::from_fn(move || {
        let value = next.take()?;
        let within = if up {
            value < to
        } else if down {
            value > to
        } else {
            value != to
        };
        if !within {
            return None;
        }
        if !meter.step() {
            return Some(Err(Exn::from(Error::new(Val::Null))));
        }
        match value.clone() + by.clone() {
            Ok(sum) => next = Some(sum),
            Err(error) => return Some(Err(Exn::from(error))),
        }
        Some(Ok(value))
    }))
}

fn compile(query: &str, defs: Vec<load::parse::Def<&'static str>>) -> Result<Filter<Metered>, String> {
    let arena = Arena::default();
    let at = |part: &str| {
        let offset = (part.as_ptr() as usize).wrapping_sub(query.as_ptr() as usize);
        if part.is_empty() || offset >= query.len() {
            "at its end".to_owned()
        } else {
            format!("at `{}`", excerpt(&query[offset..]))
        }
    };
    let modules = Loader::new(defs).load(&arena, File { code: query, path: () }).map_err(|errors| {
        let reason = errors.into_iter().find_map(|(_, error)| match error {
            load::Error::Lex(errors) => {
                errors.first().map(|(expected, part)| format!("expected {} {}", expected.as_str(), at(part)))
            }
            load::Error::Parse(errors) => {
                errors.first().map(|(expected, part)| format!("expected {} {}", expected.as_str(), at(part)))
            }
            load::Error::Io(errors) => errors.first().map(|(path, error)| format!("`{path}`: {error}")),
        });
        reason.unwrap_or_else(|| "it cannot be read".to_owned())
    })?;
    Compiler::default().with_funs(natives()).compile(modules).map_err(|errors| {
        let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
        first.map_or_else(
            || "it cannot be compiled".to_owned(),
            |(name, undefined)| format!("the {} `{name}` is not defined", undefined.as_str()),
        )
    })
}
