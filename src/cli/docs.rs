//! What is written about each program, once: `--help`, the manual page and the completions all come from here.
//!
//! A program keeps a [`Page`] beside its arguments and is listed in [`PAGES`]. `tests/it/docs.rs` renders `man/` and
//! `completions/` and fails when what is committed is stale; `UPDATE_DOCS=1 cargo test --test it docs` writes it anew.

use clap::Command;

/// A program and what its manual page says beyond its arguments.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The program.
    pub name: &'static str,
    /// Its arguments: `Args::command`.
    pub arguments: fn() -> Command,
    /// What to paste. The first three open `--help`.
    pub examples: &'static [Example],
    /// Sections behind the options, in the order of the page. EXIT STATUS and ENVIRONMENT have shared texts below.
    pub sections: &'static [Section],
    /// `kget(1)` and the like.
    pub see_also: &'static [&'static str],
}

/// One thing to do, and the command that does it.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// What it does, in a few words.
    pub does: &'static str,
    /// The command line, as typed.
    pub command: &'static str,
}

/// A section of a manual page.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its heading, in capitals.
    pub title: &'static str,
    /// What it says.
    pub blocks: &'static [Block],
}

/// A piece of a section.
#[derive(Debug, Clone, Copy)]
pub enum Block {
    /// A paragraph.
    Text(&'static str),
    /// Lines to be left as they are.
    Code(&'static str),
    /// Terms, each with what it means.
    Items(&'static [(&'static str, &'static str)]),
}

/// The exit statuses of every program.
pub const EXIT_STATUS: Section = Section {
    title: "EXIT STATUS",
    blocks: &[Block::Items(&[
        ("0", "Done. An empty result is a result, and a reader that closed the pipe is a normal end."),
        ("1", "Finished, but records were refused; or nothing was found, where --fail-empty was given."),
        ("2", "Failed, or called wrongly. One line on standard error says why."),
        ("129, 130, 143", "Ended by SIGHUP, SIGINT or SIGTERM, after the batch in hand was finished."),
    ])],
};

/// The variables that every program knows.
pub const ENVIRONMENT: Section = Section {
    title: "ENVIRONMENT",
    blocks: &[Block::Items(&[
        (
            "KPIPE_ROOT",
            "The directory that holds streams given by name. Without it they lie in the current directory. A STREAM with \
             a slash in it is a path and not affected.",
        ),
        (
            "KPIPE_ALLOW_NETWORK_FS",
            "If set, streams on network file systems are not refused. Set it only where one machine alone uses them: \
             locks and syncs there do not keep a log's promises between machines.",
        ),
    ])],
};

/// Every program, in the order in which they are told of.
#[cfg(feature = "hose")]
pub const PAGES: &[&Page] = &[&super::put::PAGE, &super::get::PAGE, &super::shard::PAGE, &super::hose::PAGE];
/// Every program that is built without its heavier siblings.
#[cfg(not(feature = "hose"))]
pub const PAGES: &[&Page] = &[&super::put::PAGE, &super::get::PAGE, &super::shard::PAGE];

/// Every program's command, as documented.
pub fn commands() -> Vec<Command> {
    PAGES.iter().map(|page| page.command()).collect()
}

/// The parts of `--help`: clap's own, but for the examples, which come behind the first line.
const HELP: &str = "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// How many examples open `--help`.
const HELP_EXAMPLES: usize = 3;

/// Examples as a help opens with them.
pub fn opening<'a>(examples: impl IntoIterator<Item = &'a Example>) -> String {
    let mut help = String::from("Examples:\n");
    for Example { does, command } in examples {
        // Comments above: a line that is pasted whole, prompt-less, works.
        help.push_str("  # ");
        help.push_str(does);
        for line in command.lines() {
            help.push_str("\n  ");
            help.push_str(line);
        }
        help.push('\n');
    }
    help
}

impl Page {
    /// The command. Its help opens with what it is, on one line, and the examples.
    pub fn command(&self) -> Command {
        self.bare_command().before_help(opening(self.examples.iter().take(HELP_EXAMPLES))).help_template(HELP)
    }

    /// The command by itself, as the manual page shows it.
    pub fn bare_command(&self) -> Command {
        (self.arguments)().name(self.name).bin_name(self.name).version(env!("CARGO_PKG_VERSION"))
    }
}
