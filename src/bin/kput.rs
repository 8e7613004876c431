//! Stores records in a stream: read, cut into records, route, append, acknowledge.

use std::process::ExitCode;

use kpipe::cli::{self, put};

fn main() -> ExitCode {
    cli::main(&put::PAGE, put::run)
}
