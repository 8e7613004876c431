//! What is written about `kput`.

use clap::CommandFactory;

use super::Args;
use crate::cli::docs::{Block, ENVIRONMENT, EXIT_STATUS, Example, Page, Section};

/// `kput`, for its help, its manual page and its completions.
pub const PAGE: Page = Page {
    name: "kput",
    arguments: Args::command,
    examples: &[
        Example {
            does: "store lines, keyed by a JSON field, in a new stream of four shards",
            command: "kput --create=4 clicks --key user.id < events.ndjson",
        },
        Example {
            does: "follow a log file through rotation and restarts, for weeks",
            command: "kput web -f /var/log/nginx/access.log --key-regex '^(\\S+)' --producer nginx",
        },
        Example {
            does: "from a crontab: what was stored by a run that was killed is not stored twice",
            command: "kput orders --producer nightly orders.csv --key customer",
        },
        Example {
            does: "see where each record went, when it is on the disk",
            command: "printf 'a\\nb\\n' | kput clicks --ack",
        },
        Example {
            does: "put refused records back, once they are mended",
            command: "kput clicks -i json < clicks/rejects/kput.ndjson",
        },
    ],
    sections: &[
        Section {
            title: "KEYS AND ORDER",
            blocks: &[
                Block::Text(
                    "The MD5 of a record's partition key, read as a 128-bit number, is its hash key; the shard that \
                     owns the hash key gets the record. Records of one key keep their order, across splits and merges \
                     too. Records without a key are spread evenly, in runs of neighbours.",
                ),
                Block::Text(
                    "With --key-delimiter the record is what stands behind the delimiter; with all other rules it is \
                     what stood in the input.",
                ),
            ],
        },
        Section {
            title: "DURABILITY",
            blocks: &[
                Block::Text(
                    "An exit status of 0, and a line of --ack, mean that the record is on the disk: fdatasync(2) \
                     covered it. By default what has been written is synced when it is 8 MiB, or 50 ms old, and at \
                     the end; kput reads on meanwhile.",
                ),
                Block::Items(&[
                    (
                        "--sync every",
                        "Each record is synced by itself before the next is taken. Many kputs into one \
                                      shard share their syncs.",
                    ),
                    (
                        "--sync end",
                        "One sync, at the end. With --ack, --producer or -f it is done on the way as by default: what \
                         they keep until then would grow with the input.",
                    ),
                    (
                        "--sync none",
                        "No sync. After a power loss anything from here may be missing; after a crash of \
                                     kput alone nothing is.",
                    ),
                ]),
            ],
        },
        Section {
            title: "STORED ONCE",
            blocks: &[
                Block::Text(
                    "With --producer NAME each batch carries, atomically, how far into the input it reaches and a hash \
                     of the input up to there. A run that finds earlier batches of its name reads its input from the \
                     start, checks that it is the same, and stores what is missing: so a run that was killed can be \
                     run again. An input that differs from what was stored is refused. Input that has grown since is \
                     stored from where it ended; if its last line had no newline then, the rest of that line becomes \
                     a record of its own.",
                ),
                Block::Text(
                    "--producer-position takes the place from the data instead: a field that rises from record to \
                     record, such as an offset or an id. The input may then begin anywhere.",
                ),
                Block::Text(
                    "A second run under a name that is still running fences the first, which ends with status 2.",
                ),
            ],
        },
        Section {
            title: "REFUSED RECORDS",
            blocks: &[Block::Text(
                "A record that has no key where one was asked for, is no JSON, or is longer than the stream allows, is \
                 refused. From a regular file that ends the run (--on-error fail): all before it is stored. From a \
                 pipe it is kept with its reason in the stream's rejects/kput.ndjson, or in the file that is given with \
                 --on-error reject=FILE, and kput goes on and ends with status 1.",
            )],
        },
        EXIT_STATUS,
        ENVIRONMENT,
        Section {
            title: "FILES",
            blocks: &[Block::Items(&[
                ("STREAM/manifest.json", "What the stream is."),
                ("STREAM/rejects/kput.ndjson", "Records that kput refused."),
            ])],
        },
    ],
    see_also: &["kget(1)", "kshard(1)", "kstream(5)"],
};
