//! khose's manual page.

mod destinations;
mod input;
mod modes;
mod objects;
mod running;

use clap::CommandFactory;

use super::HoseArgs;
use crate::cli::docs::{Example, Page};

/// What is written about khose.
pub const PAGE: Page = Page {
    name: "khose",
    arguments: HoseArgs::command,
    examples: &[
        Example {
            does: "from cron: what is new, as Parquet, in folders by day",
            command: "khose clicks s3://lake/clicks/ -o parquet --prefix 'dt=!{timestamp:yyyy-MM-dd}/'",
        },
        Example {
            does: "for ever, as compressed lines",
            command: "khose clicks /data/lake/ -o ndjson --compression gzip -f",
        },
        Example {
            does: "one file with the last day in it, for a Makefile",
            command: "khose clicks hits.parquet --from -1d --if-changed",
        },
        Example {
            does: "what another program prints, kept before it is delivered",
            command: "producer | khose - gs://bucket/x/ -i ndjson -o parquet --spool x",
        },
        Example {
            does: "in folders by a field",
            command: "khose clicks s3://lake/clicks/ --prefix 'country=!{partitionKeyFromQuery:country}/'",
        },
        Example {
            does: "to an HTTP endpoint that speaks the service's protocol",
            command: "khose clicks https://collector.example/ingest --access-key-file key --common tenant=7 -f",
        },
        Example {
            does: "into a table of PostgreSQL",
            command: "khose clicks 'postgresql://me@db/web?table=clicks'",
        },
        Example {
            does: "what the next run would deliver, and under which names",
            command: "khose --plan clicks s3://lake/clicks/ -o parquet",
        },
        Example {
            does: "whether every record is there, once",
            command: "khose --verify clicks s3://lake/clicks/",
        },
        Example {
            does: "what has failed since yesterday, mended, into the delivery again",
            command: "khose --replay s3://lake/clicks/_errors/ s3://lake/clicks/ --since -1d --jq '.at //= now'",
        },
    ],
    sections: &[
        input::SOURCES,
        input::PIPELINE,
        input::TRANSFORMING,
        objects::PREFIXES,
        objects::FORMATS,
        objects::COLUMNS,
        destinations::DESTINATIONS,
        destinations::EXACTLY_ONCE,
        destinations::RETRIES,
        destinations::ERRORS,
        modes::PLAN,
        modes::VERIFY,
        modes::REPLAY,
        running::MEMORY,
        running::METRICS,
        running::CRON,
        running::SYSTEMD,
        running::MAKE,
        running::CONFIG,
        running::EXIT_STATUS,
        running::ENVIRONMENT,
        running::FILES,
    ],
    see_also: &["kput(1)", "kget(1)", "kshard(1)", "kstream(5)"],
};
