//! What is written about `kshard` beyond its arguments.

use clap::CommandFactory;

use super::Args;
use crate::cli::docs::{Block, ENVIRONMENT, EXIT_STATUS, Example, Page, Section};

/// The manual page of `kshard`.
pub const PAGE: Page = Page {
    name: "kshard",
    arguments: Args::command,
    examples: &[
        Example {
            does: "Make a stream of four shards that keeps a week",
            command: "kshard create clicks --shards 4 --retention 7d",
        },
        Example { does: "See what it is made of", command: "kshard describe clicks" },
        Example {
            does: "The open shards, for a script",
            command: "kshard list clicks --filter at-latest -o json | jq -r '.Shards[].ShardId'",
        },
    ],
    sections: &[EXIT_STATUS, ENVIRONMENT, FILES],
    see_also: &["kput(1)", "kget(1)", "kstream(5)"],
};

const FILES: Section = Section {
    title: "FILES",
    blocks: &[Block::Items(&[
        (
            "STREAM/manifest.json",
            "What the stream is and which shards it has. It is replaced whole, never edited.",
        ),
        ("STREAM/locks", "Empty and permanent: programs lock bytes of it."),
        (
            "STREAM/shardId-NNNNNNNNNNNN/",
            "The records of one shard, in segments (*.seg) with derived indexes (*.idx).",
        ),
        ("STREAM/consumers/NAME/", "How far a named consumer has read."),
        ("STREAM/rejects/", "Records that were refused, kept with the reason."),
    ])],
};
