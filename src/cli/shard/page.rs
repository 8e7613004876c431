//! What is written about `kshard` beyond its arguments.

use clap::CommandFactory;

use super::Args;
use crate::cli::docs::{self, Block, ENVIRONMENT, Example, Page, Section};

/// The manual page of `kshard`.
pub const PAGE: Page = Page {
    name: "kshard",
    arguments: command,
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
        Example {
            does: "A backup every night, while writers run",
            command: "kshard snapshot clicks /backup/clicks-$(date +%F)",
        },
        Example {
            does: "Move a stream to another machine",
            command: "kshard dump clicks | ssh host kshard load clicks",
        },
    ],
    sections: &[SHARDS, RETENTION, CHECKING, COPIES, EXIT_STATUS, ENVIRONMENT, FILES],
    see_also: &["kput(1)", "kget(1)", "kstream(5)"],
};

/// The arguments, each subcommand with its examples.
fn command() -> clap::Command {
    super::examples::OF.iter().fold(Args::command(), |command, (name, examples)| {
        command.mut_subcommand(name, |subcommand| subcommand.before_help(docs::opening(*examples)))
    })
}

/// What `kshard` ends with: most of it has to do with no record.
const EXIT_STATUS: Section = Section {
    title: "EXIT STATUS",
    blocks: &[Block::Items(&[
        ("0", "Done. An empty result is a result, and a reader that closed the pipe is a normal end."),
        (
            "1",
            "Finished, and something is not as it should be: check found damage, repair left some, doctor found a \
             failure, consumers found a record that has waited for longer than --max-lag or a consumer that cannot be \
             read, records were damaged or gone before copy came to them.",
        ),
        ("2", "Failed, or called wrongly. One line on standard error says why."),
        ("129, 130, 143", "Ended by SIGHUP, SIGINT or SIGTERM, after the batch in hand was finished."),
    ])],
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

const CHECKING: Section = Section {
    title: "CHECKING AND REPAIRING",
    blocks: &[
        Block::Text(
            "check reads a stream as it is when it begins and verifies every checksum, and what frames, segments, \
             indexes, shards, manifest and consumers' places say of each other. It takes no lock; a tail that grows is \
             no damage. A manifest that is missing or damaged is damage like any other, and the shards are gone \
             through all the same. Each line is a damage (exit status 1) or a note: a log that begins where nothing \
             can have expired, bytes that a recovery set aside, a tail that a crash left for the next writer, a gap \
             that a repair left. The first and last sequence number of what is lost carry the times of the records \
             around it.",
        ),
        Block::Text(
            "repair loses no good record. It replaces damaged frames by a gap of the same length, in a copy of their \
             segment that takes its place once it is on the disk; readers tell of a gap as of records that expired. A \
             missing segment becomes a gap, a segment's header is made from its neighbours, a manifest from the \
             segments: of it settings and tags are lost, and the hash keys of shards whose parents have expired may be \
             beyond telling, which it says. Places of a consumer that cannot be read are set aside, and it begins \
             anew, as with kshard consumers STREAM NAME --reset, which is the way to choose where. Where the log of a closed shard \
             stops before the end that the manifest tells of, what is missing becomes a gap. A shard without any \
             segment is left alone, for sequence numbers would be used twice. STREAM/locks is \
             made anew where it is missing: end all programs that write to the stream before that, for one that has the \
             old file open sees nothing of the new one, and both would take the same sequence numbers. What was \
             replaced is in STREAM/rejects/repair-TIME/, with a note. Where a gap took batches of a named producer, its next run may \
             store them again.",
        ),
    ],
};

const COPIES: Section = Section {
    title: "COPIES",
    blocks: &[
        Block::Items(&[
            (
                "snapshot",
                "the directory as it was at one moment, while writers run: all shards of that moment, parents whole where \
                 children are, consumers' places never behind the records, so that a named producer or consumer goes on \
                 in the copy where it was. Writers wait for as long as it takes to look where each open shard ends. Closed \
                 shards that expire before they are copied are left out. Sealed segments are hard links where that can be. It has \
                 the UUID of its source: put it in the source's place, or read it; with --as-new it is a stream of its \
                 own.",
            ),
            (
                "dump, load",
                "the same through a pipe, to another machine: kshard dump s | ssh host kshard load s. It is there \
                 whole in the end or not at all, and a stream of its own unless --same-id.",
            ),
            (
                "copy",
                "records, into a stream with other shards perhaps. They get new sequence numbers and arrival times \
                 there. Each is stored once, whatever was killed; each shard of the source is a named producer of the \
                 target. With -f it goes on, for a stream that is kept in two places.",
            ),
        ]),
        Block::Text(
            "The dump is lines of JSON, each followed by as many bytes as it says. The first is \
             {\"kpipe\":\"dump\",\"version\":1}. Then parts: {\"part\":\"manifest\",\"bytes\":N}, once; \
             {\"part\":\"segment\",\"shard\":S,\"base\":B,\"bytes\":N}, shard by shard, ascending, or \
             {\"part\":\"gone\",\"shard\":S} for a closed shard that expired meanwhile; \
             {\"part\":\"consumer\",\"name\":NAME,\"bytes\":N}; last {\"part\":\"end\",\"parts\":P,\"crc32c\":C} \
             with the number of parts before it and the CRC-32C of all bytes before it. Manifest and segments are as \
             in kstream(5). What lies in rejects/ is not copied.",
        ),
        Block::Text(
            "A stream copied with cp -r while writers run can hold half a frame, or a segment without what its \
             follower knows of it: check tells. Its shards are of different moments, which nothing tells: a named \
             producer that goes on in it may pass over records that it does not hold.",
        ),
    ],
};

const FILES: Section = Section {
    title: "FILES",
    blocks: &[Block::Items(&[
        (
            "STREAM/manifest.json",
            "What the stream is and which shards it has. It is replaced whole, never edited.",
        ),
        ("STREAM/locks", "Permanent: programs lock bytes of it, and leave notes of what they synced."),
        (
            "STREAM/shardId-NNNNNNNNNNNN/",
            "The records of one shard, in segments (*.seg) with derived indexes (*.idx).",
        ),
        ("STREAM/consumers/NAME/", "How far a named consumer has read."),
        ("STREAM/rejects/", "Records that were refused, kept with the reason."),
    ])],
};
