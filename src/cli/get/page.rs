//! kget's manual page.

use clap::CommandFactory;

use super::GetArgs;
use crate::cli::docs::{ENVIRONMENT, EXIT_STATUS, Example, Page};

/// What is written about kget.
pub const PAGE: Page = Page {
    name: "kget",
    arguments: GetArgs::command,
    examples: &[
        Example { does: "The last hour, as JSON", command: "kget clicks --from -1h -o json" },
        Example { does: "What comes from now on", command: "kget clicks -f" },
        Example {
            does: "Each record once, over many runs",
            command: "kget clicks --consumer report | wc -l",
        },
    ],
    sections: &[EXIT_STATUS, ENVIRONMENT],
    see_also: &["kput(1)", "kshard(1)"],
};
