//! `kshard`: what a stream is made of, and how that is changed.
//!
//! Each subcommand does one thing and asks nothing. What it changes is changed whole or not at all; a split or merge
//! that was killed half way is finished by the next program that writes to the stream.

use std::process::ExitCode;

use kpipe::cli;
use kpipe::cli::shard::{PAGE, run};

fn main() -> ExitCode {
    cli::main(&PAGE, run)
}
