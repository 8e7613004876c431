//! khose's manual page.

use clap::CommandFactory;

use super::HoseArgs;
use crate::cli::docs::{Block, ENVIRONMENT, EXIT_STATUS, Example, Page, Section};

/// What is written about khose.
pub const PAGE: Page = Page {
    name: "khose",
    arguments: HoseArgs::command,
    examples: &[
        Example {
            does: "From cron: what is new, as Parquet, in folders by day",
            command: "khose clicks s3://lake/clicks/ -o parquet --prefix 'dt=!{timestamp:yyyy-MM-dd}/'",
        },
        Example {
            does: "For ever, as compressed lines",
            command: "khose clicks /data/lake/ -o ndjson --compression gzip -f",
        },
        Example {
            does: "One file with the last day in it, for a Makefile",
            command: "khose clicks hits.parquet --from -1d --if-changed",
        },
        Example {
            does: "What another program prints, kept before it is delivered",
            command: "producer | khose - gs://bucket/x/ -i ndjson -o parquet --spool x",
        },
        Example {
            does: "In folders by a field",
            command: "khose clicks s3://lake/clicks/ --prefix 'country=!{partitionKeyFromQuery:country}/'",
        },
    ],
    sections: &[PROMISES, EXIT_STATUS, ENVIRONMENT],
    see_also: &["kput(1)", "kget(1)", "kshard(1)"],
};

const PROMISES: Section = Section {
    title: "EXACTLY ONCE",
    blocks: &[Block::Text(
        "A batch is planned before it is delivered: which records of which shards are in it, and the names of its objects. \
         The plan, and then the commit, are files below _khose/ at the destination. A run that was killed is followed by \
         one that does the same batch again, under the same names. Counted over all objects that are not being \
         delivered at this moment, every record is there once.",
    )],
};
