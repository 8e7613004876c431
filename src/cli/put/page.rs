//! What is written about `kput`.

use clap::CommandFactory;

use super::Args;
use crate::cli::docs::{Block, ENVIRONMENT, Example, Page, Section};

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
            command: "mv clicks/rejects/kput.ndjson r.nd && kput clicks -i json --key user.id < r.nd",
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
                    "Where a JSON object has the same name twice, --key and --explicit-hash-key take the first. An envelope \
                     (-i json) that has a key keeps it; the options are for those that have none.",
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
                     a record of its own. A record that was refused and kept counts as dealt with, and is neither \
                     stored nor kept by a later run; where it ended the run, a later one begins with it, so that the \
                     input can be mended from there on.",
                ),
                Block::Text(
                    "--producer-position takes the place from the data instead: a field that rises from record to \
                     record, such as an offset or an id: a whole number below 18446744073709551615. The input may then \
                     begin anywhere. A record whose position is none, or not above the one before it, is refused.",
                ),
                Block::Text(
                    "A second run under a name that is still running fences the first, which ends with status 2.",
                ),
            ],
        },
        FOLLOWING,
        REFUSED,
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

const FOLLOWING: Section = Section {
    title: "FOLLOWING FILES",
    blocks: &[
        Block::Text(
            "With -f each FILE is read from its start, and on as it grows, until a signal ends kput; a restart goes on \
             where it was. A file that does not exist yet is waited for. Where each file stands is stored in the stream \
             with the records, so that after a crash every line is stored once, in its order.",
        ),
        Block::Items(&[
            (
                "Rotation",
                "A file may be renamed (FILE.1, FILE.old, FILE-20261123) or copied and truncated; kput reads it to its \
                 end, its last line even without a newline, before it begins the next. Of compressed files only those of \
                 gzip (.gz) are read; others are told of and left out.",
            ),
            (
                "While kput is down",
                "What was rotated meanwhile is found by the names beside FILE. What was removed, or moved to another \
                 directory, before it was read is lost, and kput says so.",
            ),
            (
                "The producer",
                "Without --producer a name is made up from the files: follow-NAME-HASH. The same files in any order, or \
                 more of them, go on under it. With fewer, give its name with --producer. A second kput on the same files \
                 fences the first.",
            ),
            (
                "Refused records",
                "They are kept, unless --on-error says otherwise. The first is told of at once, others once a minute.",
            ),
        ]),
    ],
};

const REFUSED: Section = Section {
    title: "REFUSED RECORDS",
    blocks: &[
        Block::Text(
            "A record that has no key where one was asked for, or is longer than the stream allows, is refused. From a \
             regular file that ends the run (--on-error fail): all before it is stored. From a pipe, and with -f, it is \
             kept with its reason in the stream's rejects/kput.ndjson, or in the file that is given with --on-error \
             reject=FILE, and kput goes on and ends with status 1. Of a record that is too long perhaps only \
             the first 4 KiB are kept; its error then says `truncated`, and it cannot be put back.",
        ),
        Block::Text(
            "JSON is looked at only as far as it must be: with --key, --explicit-hash-key or --producer-position a line \
             of ndjson is refused where it is no JSON up to the field and in it; what stands behind the field, and every \
             line where no field is asked for, is stored as it came.",
        ),
        Block::Text(
            "Kept records are envelopes, and -i json puts them back once they are mended. Move the file first: kput might \
             append to the file that it reads.",
        ),
    ],
};

const EXIT_STATUS: Section = Section {
    title: "EXIT STATUS",
    blocks: &[Block::Items(&[
        (
            "0",
            "Done: all that was read is stored, durably unless --sync none was given. No input is no failure.",
        ),
        ("1", "Finished, but records were refused, or something of a followed file could not be read."),
        (
            "2",
            "Failed, or called wrongly. One line on standard error says why. What was acknowledged is stored.",
        ),
        ("129, 130, 143", "Ended by SIGHUP, SIGINT or SIGTERM, after what was read was stored."),
    ])],
};
