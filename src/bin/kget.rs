//! `kget`: a stream to standard output or to a command, from any position, following if asked, with named consumers.

use std::process::ExitCode;

fn main() -> ExitCode {
    kpipe::cli::main(&kpipe::cli::get::PAGE, kpipe::cli::get::run)
}
