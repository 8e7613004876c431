//! `khose`: a stream or stdin to object stores and services, batched, converted, partitioned, exactly once.

use std::process::ExitCode;

fn main() -> ExitCode {
    kpipe::cli::main(&kpipe::cli::hose::PAGE, kpipe::cli::hose::run)
}
