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
        Example {
            does: "From crontab: remove what has expired, split what is hot, merge what is cold",
            command: "kshard trim clicks && kshard advise clicks --apply",
        },
        Example {
            does: "How the keys of a file would be spread",
            command: "cut -d , -f 1 orders.csv | kshard route clicks | cut -f 3 | sort | uniq -c",
        },
        Example { does: "Is all in order?", command: "kshard doctor clicks && kshard check clicks" },
    ],
    sections: &[SHARDS, RETENTION, EXIT_STATUS, ENVIRONMENT, FILES],
    see_also: &["kput(1)", "kget(1)", "kstream(5)"],
};

const SHARDS: Section = Section {
    title: "SHARDS",
    blocks: &[
        Block::Text(
            "A record goes to the open shard that owns its hash key: the MD5 of its partition key as a number below \
             2^128. A split or merge closes its parents and begins its children. Programs that write find their way \
             to the children, and programs that read finish the parents first, so that the records of one key stay in \
             order. A closed shard is there until its last record has expired.",
        ),
        Block::Text(
            "A split, merge or change of scale that was killed is finished by the next program that writes to the \
             stream or changes it; until then kshard describe says UPDATING. scale can simply be run again.",
        ),
    ],
};

const RETENTION: Section = Section {
    title: "RETENTION",
    blocks: &[Block::Text(
        "Readers do not see records that are older than the retention period. They are removed segment by segment: when \
         a writer begins a new segment, and by kshard trim, which also reaches shards to which nobody writes. A cap in \
         bytes holds for all shards together; the segments that were completed first go first, whatever their shard, \
         and the segments being written stay, so that a stream can be larger than its cap by these.",
    )],
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
