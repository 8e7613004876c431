//! The command line: the one place that knows clap, terminals and exit statuses.
//!
//! A program is `cli::main(&PAGE, run)`: its [`docs::Page`] names the command and its examples, `run` does the work
//! and says how it ended. What `run` may use lies beside it: [`args`] are the groups of arguments that commands share,
//! [`value`] what can be typed in them, [`stream_name`] turns STREAM into a directory, [`input`] and [`output`] are the
//! ends of a pipe, [`signal`] the request to finish, [`meter`] the progress shown meanwhile, [`report`] the last word.

pub mod about;
pub mod args;
pub mod consumers;
pub mod docs;
pub mod get;
#[cfg(feature = "hose")]
pub mod hose;
pub mod input;
pub mod meter;
pub mod output;
mod patience;
pub mod put;
pub mod report;
pub mod shard;
pub mod signal;
pub mod stream_name;
mod trouble;
pub mod value;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// How a run ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All was done.
    Done,
    /// Nothing was found, and the user asked to hear of it (`--fail-empty`).
    Empty,
    /// It was finished, but records were refused.
    Refused,
}

/// Parses the arguments, runs, reports; the whole of every program's `main`.
pub fn main<A: Parser>(page: &docs::Page, run: fn(A) -> anyhow::Result<Outcome>) -> ExitCode {
    ExitCode::from(status(page, std::env::args_os(), run))
}

/// [`main`] with the arguments given, the program's name first; answers with the exit status.
pub fn status<A: Parser>(
    page: &docs::Page,
    args: impl IntoIterator<Item = OsString>,
    run: fn(A) -> anyhow::Result<Outcome>,
) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let matches = page.command().try_get_matches_from(&args);
    match matches.and_then(|matches| A::from_arg_matches(&matches)) {
        Ok(args) => report::end(page.name, run(args)),
        Err(error) => report::usage(page.name, &called(page, &args), &error),
    }
}

/// The program, and its subcommand where one was called: whose help it is that says more.
fn called(page: &docs::Page, args: &[OsString]) -> String {
    let command = page.bare_command();
    let subcommand = args.get(1).and_then(|word| command.find_subcommand(word));
    let words = [Some(page.name), subcommand.map(clap::Command::get_name)];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
