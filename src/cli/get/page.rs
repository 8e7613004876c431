//! kget's manual page.

use clap::CommandFactory;

use super::GetArgs;
use crate::cli::docs::{Block, ENVIRONMENT, EXIT_STATUS, Example, Page, Section};

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
        Example {
            does: "A command for each batch, tried again until it exits 0",
            command: "kget clicks -f --consumer load --exec 'psql -c \"copy clicks from stdin\"' --batch-size 500",
        },
        Example {
            does: "Take a batch, work on it, and only then count it as done",
            command: "kget clicks --consumer nightly --bookmark mark > batch\n\
                      sort batch > sorted && kget clicks --consumer nightly --commit mark",
        },
        Example {
            does: "From one stream into another, as it was",
            command: "kget clicks -o json | kput --create copy -i json",
        },
        Example { does: "Key, time and data", command: "kget clicks --template '{key} {time} {payload}\\n'" },
    ],
    sections: &[POSITIONS, FORMATS, CONSUMERS, PROMISES, TROUBLE, PROGRESS, EXIT_STATUS, ENVIRONMENT, FILES],
    see_also: &["kput(1)", "kshard(1)"],
};

const POSITIONS: Section = Section {
    title: "POSITIONS",
    blocks: &[
        Block::Items(&[
            ("trim-horizon", "The oldest record that has not expired."),
            ("latest", "Behind the newest record."),
            (
                "2026-01-31T12:00:00Z, 1700000000.5, -1h, now",
                "The first record that arrived at that time or later.",
            ),
            (
                "at:SEQUENCE, after:SEQUENCE",
                "That record, or the one behind it: its shard, and those that a split or merge made of it. With \
                 SEQUENCE/SUBSEQUENCE, a record within an aggregate (--from only).",
            ),
        ]),
        Block::Text(
            "--until takes the same and is not included; after:SEQUENCE includes that record. A time ends every shard. A \
             sequence number ends its own shard, and those that a split or merge made of it are not read; the other \
             shards are read to the end of the data, and with -f they are followed: add --shard, or give a time, where \
             that is not meant. A shard that was left before its end is not done for a consumer either.",
        ),
        Block::Text(
            "Without -f kget ends at the end of the data; with it, where --until leaves nothing that could still be \
             read. Order is kept per partition key: all of a parent shard comes before its children. --order arrival \
             orders all that is there when it is read; with -f a record that becomes visible late comes late.",
        ),
    ],
};

const FORMATS: Section = Section {
    title: "FORMATS",
    blocks: &[
        Block::Items(&[
            ("lines, or raw", "The data and a newline."),
            ("nul", "The data and a zero byte."),
            ("framed", "The length as four bytes, big-endian, and the data: any bytes come through."),
            (
                "json",
                "An envelope per line with all that is known of the record. kput -i json reads it back. Its members: \
                 kpipe (always \"record\"), stream, streamId, shardId, sequenceNumber, approximateArrivalTimestamp; where \
                 there are any, subSequenceNumber, partitionKey, explicitHashKey, timestamp (the producer's) and \
                 attributes; and the data as one of json (a JSON value as it stood), text or base64. What common \
                 readers of JSON would not take, such as half of a surrogate pair, is text.",
            ),
            (
                "csv",
                "A row per record under a header: shardId, sequenceNumber, partitionKey, approximateArrivalTimestamp, \
                 data. The records of an aggregate have one sequence number; json and {subseq} tell them apart.",
            ),
            ("base64", "The data in base64 and a newline."),
        ]),
        Block::Text(
            "A template is a text with names in braces: key, seq, subseq, shard, time, epoch, timestamp, hash, stream, \
             payload, base64, size. time is the arrival and timestamp the producer's own, both as RFC 3339; epoch is the \
             arrival in seconds; hash is the explicit hash key or that of the partition key; what a record does not have \
             is written as nothing. Escapes are \\n, \\t, \\r, \\0, \\\\ and \\xHH, and {{ and }} are braces. It ends a \
             record only where it says \\n.",
        ),
        Block::Text(
            "Records that the Kinesis Producer Library put together are taken apart; each has a sub-sequence number.",
        ),
    ],
};

const CONSUMERS: Section = Section {
    title: "CONSUMERS",
    blocks: &[
        Block::Text(
            "A consumer is a name under which the stream remembers how far was read, shard by shard. It is made by its \
             first use: --from says where it begins, trim-horizon or with -f latest, and has no effect later. Shards \
             that come into being afterwards are read from their start, when their parents are done.",
        ),
        Block::Text(
            "Several kgets of one name share the shards, each with its part. One that ends, or is killed, is taken over \
             from at once; one that has given no sign of life for --failover, and whose command is killed then, after \
             that. A kget without -f takes what nobody holds and exits when there is nothing left to take, so that it \
             is safe to be run by cron while the last run still goes on.",
        ),
        Block::Text(
            "--exec gives each batch, which is of one shard, to the standard input of sh -c COMMAND. A command that \
             exits 0 has done it, whether it has read all of it or not; after any other end it gets the same batch \
             again, later each time up to --max-backoff, while the other shards go on. Its standard output is kget's. \
             SIGINT and SIGTERM let it finish; a second one kills it. It finds in its environment:",
        ),
        Block::Items(&[
            ("KPIPE_STREAM, KPIPE_SHARD, KPIPE_CONSUMER", "What it is given records of, and for whom."),
            ("KPIPE_FIRST_SEQUENCE, KPIPE_LAST_SEQUENCE", "The sequence numbers of the first and the last."),
            (
                "KPIPE_FIRST_SUBSEQUENCE, KPIPE_LAST_SUBSEQUENCE",
                "Their sub-sequence numbers, empty where they are not of an aggregate.",
            ),
            ("KPIPE_ATTEMPT", "1, and one more with each time that the batch is tried again."),
        ]),
        Block::Text(
            "--bookmark reserves what was handed out, for nobody else to get, until --commit or until \
             --bookmark-timeout is over and it is handed out again: a bookmark is stale then, and refused. Committing \
             one twice, or after a later one, does no harm.",
        ),
        Block::Text("kshard consumers lists them, says why one is not further, resets and deletes."),
    ],
};

const PROMISES: Section = Section {
    title: "WHAT A PIPE CAN PROMISE",
    blocks: &[
        Block::Items(&[
            (
                "kget --consumer C | command",
                "The checkpoint moves over what the other side has taken out of the pipe, and over nothing else: what \
                 is left in the pipe when the command ends comes again. What the command took and did not finish is \
                 gone when it dies.",
            ),
            (
                "kget --consumer C > file",
                "The checkpoint moves over what has been written to the file and synced.",
            ),
            (
                "kget --consumer C --exec command, or --bookmark and --commit",
                "At least once: what was not finished comes again, and so may what was finished just before a crash.",
            ),
            (
                "Exactly once",
                "Is what ends where the position is stored in one step with the result: another stream, or a row of a \
                 database beside the sequence number.",
            ),
        ]),
        Block::Text(
            "Before a position is written down, the records before it are made durable: no power loss can put a \
             consumer ahead of its stream. What has left through a plain pipe cannot be called back from a worker that \
             was stopped and taken over from.",
        ),
    ],
};

const TROUBLE: Section = Section {
    title: "DAMAGE AND RETENTION",
    blocks: &[Block::Text(
        "Damage is named with stream, shard, segment and offset. With --on-error fail, the default without -f, kget \
         stops there with status 2, after what comes before it; with skip it goes on; with reject, the default with -f, \
         it also keeps the bytes, as an envelope with an error, in the file that is given or in the stream's \
         rejects/kget.ndjson. Records that retention removed before they were read are named as well, and kget goes on \
         behind them. Where it went on it ends with status 1, also when its reader closed the pipe.",
    )],
};

const PROGRESS: Section = Section {
    title: "PROGRESS",
    blocks: &[Block::Text(
        "--progress auto shows it where standard error is a terminal, standard output is a file or /dev/null, and kget \
         does not follow, so that it never stands over records, nor over what the next program says.",
    )],
};

const FILES: Section = Section {
    title: "FILES",
    blocks: &[Block::Items(&[
        ("STREAM/consumers/NAME/state.json", "A consumer's checkpoints and leases."),
        ("STREAM/consumers/NAME/workers/", "A file for each kget that reads for it: its lock and heartbeat."),
        ("STREAM/rejects/kget.ndjson", "Bytes that were damaged."),
    ])],
};
