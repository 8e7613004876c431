//! `kshard`: one subcommand per file, each with its arguments (`Args`) and what it does (`run`).
//!
//! A subcommand is mounted by its line in `commands!` below; its name is the variant's, its description the first
//! paragraph above its `Args`.

pub mod advise;
pub mod check;
pub mod copy;
pub mod create;
pub mod delete;
pub mod describe;
pub mod doctor;
pub mod dump;
mod examples;
mod files;
pub mod list;
pub mod load;
pub mod map;
pub mod merge;
mod page;
pub(crate) mod print;
pub mod repair;
pub mod retention;
pub mod route;
pub mod scale;
pub mod snapshot;
pub mod split;
pub mod stats;
pub mod tags;
pub mod trim;

pub use page::PAGE;

use clap::{Parser, Subcommand};

use super::Outcome;

/// Manage streams: create, describe, split, merge, keep in order
#[derive(Debug, Parser)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Makes the enumeration that clap parses into, and the way from each variant to its `run`.
macro_rules! commands {
    ($($variant:ident: $($module:ident)::+,)*) => {
        #[derive(Debug, Subcommand)]
        enum Command {
            $($variant($($module)::+::Args),)*
        }

        impl Command {
            fn run(self) -> anyhow::Result<Outcome> {
                match self {
                    $(Self::$variant(args) => $($module)::+::run(args),)*
                }
            }
        }
    };
}

// In the order of the help.
commands! {
    Create: create,
    List: list,
    Describe: describe,
    Split: split,
    Merge: merge,
    Scale: scale,
    Retention: retention,
    Trim: trim,
    Tags: tags,
    Route: route,
    Stats: stats,
    Advise: advise,
    Map: map,
    Doctor: doctor,
    Delete: delete,
    Check: check,
    Repair: repair,
    Consumers: super::consumers,
    Snapshot: snapshot,
    Dump: dump,
    Load: load,
    Copy: copy,
}

/// What `kshard` did.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    args.command.run()
}

/// A sum for the last line.
fn moved(moved: &crate::stream::transport::Moved) -> String {
    format!(
        "{} in {} segments ({} linked) of {} shards, {} consumers",
        crate::cli::value::about_size(moved.bytes),
        moved.segments,
        moved.linked,
        moved.shards,
        moved.consumers
    )
}
