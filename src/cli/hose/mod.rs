//! `khose`: streams, or standard input, to object stores and services.

mod args;
mod check;
mod config;
mod deliver;
mod file;
mod formats;
mod page;
mod plan;
mod prometheus;
mod replay;
mod report;
mod services;
mod setup;
mod stages;
mod stdin;
mod target;
mod verify;

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};

pub use args::HoseArgs;
pub use page::PAGE;

use super::report::HintExt;
use super::{Outcome, signal};
use crate::sys::System;
use prometheus::MetricsFile;
use target::Target;

/// Delivers as the arguments say.
pub fn run(args: HoseArgs) -> anyhow::Result<Outcome> {
    let args = config::merged(args)?;
    let children = args.stages.transform.is_some() || args.stages.filter.is_some();
    let shutdown = signal::install_to_stay(children)?;
    crate::sys::process::open_more_files();
    let (sources, destination) = words(&args)?;
    let context = setup::store_context(&args, &System::real());
    let target = Target::parse(&destination, &args)?;
    check::check(&args, &sources, &target)?;
    let file = |path| Arc::new(MetricsFile::new(path, System::real()));
    let metrics = args.metrics.clone().map(file);
    let run = Run { args, context, target, shutdown, metrics };
    let mode = &run.args.mode;
    if mode.verify {
        return sources
            .iter()
            .try_fold(Outcome::Done, |outcome, source| Ok(worse(outcome, run.verify(source)?)));
    }
    if mode.plan {
        return sources
            .iter()
            .try_fold(Outcome::Done, |outcome, source| Ok(worse(outcome, run.plan(source)?)));
    }
    if mode.replay {
        return sources
            .iter()
            .try_fold(Outcome::Done, |outcome, source| Ok(worse(outcome, run.replay(source)?)));
    }
    if let [only] = sources.as_slice()
        && only == "-"
    {
        return run.stdin();
    }
    if sources.iter().any(|source| source == "-") {
        return Err(anyhow!("standard input is a source of its own, and not one of several"))
            .hint("khose - DEST");
    }
    run.streams(&sources)
}

/// The sources, and the destination.
fn words(args: &HoseArgs) -> anyhow::Result<(Vec<OsString>, String)> {
    let mut words = args.words.clone();
    let destination = words.pop().context("no source and no destination").hint("khose --help")?;
    if words.is_empty() {
        let text = format!("only {}: give a source, and then a destination", destination.display());
        return Err(anyhow!(text)).hint("khose --help");
    }
    let destination = destination
        .into_string()
        .map_err(|word| anyhow!("destination {}: it is not UTF-8", word.display()))?;
    Ok((words, destination))
}

/// One run of the program.
struct Run {
    args: HoseArgs,
    context: crate::hose::store::Context,
    target: Target,
    shutdown: &'static signal::Shutdown,
    metrics: Option<Arc<MetricsFile>>,
}

impl Run {
    /// Delivers streams: one after the other, or following all of them at once.
    fn streams(&self, sources: &[OsString]) -> anyhow::Result<Outcome> {
        if sources.len() == 1 || !self.args.follow.follow {
            let mut outcome = Outcome::Done;
            for source in sources {
                outcome = worse(outcome, self.stream(source, sources.len() > 1)?);
            }
            return Ok(outcome);
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                sources.iter().map(|source| scope.spawn(move || self.stream(source, true))).collect();
            let mut outcome = Ok(Outcome::Done);
            for thread in threads {
                let one = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                outcome = match (outcome, one) {
                    (Err(error), _) | (Ok(_), Err(error)) => Err(error),
                    (Ok(so_far), Ok(one)) => Ok(worse(so_far, one)),
                };
            }
            outcome
        })
    }
}

fn worse(a: Outcome, b: Outcome) -> Outcome {
    if a == Outcome::Done { b } else { a }
}
