//! Where records come from, and what is done to them.

use crate::cli::docs::{Block, Section};

pub(super) const SOURCES: Section = Section {
    title: "SOURCES",
    blocks: &[
        Block::Items(&[
            (
                "STREAM",
                "It is read under a consumer of its own, from where the last run was to its end, and with -f on and on. The \
                 consumer's name follows from the destination, so that one stream may be delivered to many places, and a \
                 delivery whose other options change goes on where it was. --from counts for the first run only. Of two \
                 runs of one delivery at once the second says so and exits 0.",
            ),
            (
                "several STREAMs",
                "They are delivered one after the other, with -f at the same time; each is a delivery of its own.",
            ),
            (
                "-",
                "Standard input, cut into records as -i says. Rows of csv and tsv become JSON objects with the names of the \
                 header: what reads as a number or as true or false is one, an empty field is null. Envelopes (-i json, what \
                 kget -o json writes) keep the place that they had in their stream.",
            ),
            (
                "- with --spool STREAM",
                "Standard input goes into a stream first, as kput would put it, and is delivered from there. Once it is there \
                 no kill loses it: the next run delivers what is left. Without --spool what was read and is not delivered \
                 yet is lost when khose is killed, and khose says so at its start.",
            ),
        ]),
        Block::Text(
            "A DEST that is one file, by its extension and with no slash at its end, is written whole, from --from to --until, \
             or from all there is. No consumer remembers anything; a run that fails or is stopped leaves the file that was \
             there.",
        ),
        Block::Text(
            "--tee passes what is read on to standard output, before anything is done to it; delivering goes on when nobody \
             reads there any more.",
        ),
    ],
};

pub(super) const PIPELINE: Section = Section {
    title: "PIPELINE",
    blocks: &[
        Block::Text(
            "Records go through these in this order, each where it is asked for. A record that fails at one goes to the error \
             output, alone, with the type of that error.",
        ),
        Block::Items(&[
            ("aggregates", "of the Kinesis Producer Library are taken apart, always."),
            ("--decompress FORMAT", "Each record's data are unpacked, up to 64 MiB."),
            (
                "--cloudwatch",
                "Of a CloudWatch Logs record each message becomes a record; control messages are left out.",
            ),
            (
                "--deaggregate HOW",
                "json takes values apart that stand one behind the other, delimited=TEXT parts with TEXT between them (\\n, \
                 \\t, \\r, \\0 and \\\\ are understood). An array is one record.",
            ),
            ("--transform, --filter, --jq", "See TRANSFORMING."),
            ("partition keys", "See PREFIXES."),
            ("columns", "See COLUMNS."),
            (
                "buffering",
                "An object ends at --buffer-size, counted as it will lie there, or when it is --buffer-interval old, whichever \
                 comes first, and each partition has an object of its own. With more than --partitions-max of them the oldest \
                 ends. Without -f everything ends at the end of the stream.",
            ),
        ]),
    ],
};

pub(super) const TRANSFORMING: Section = Section {
    title: "TRANSFORMING",
    blocks: &[
        Block::Items(&[
            (
                "--jq EXPR",
                "Each record must be JSON, and each output of the expression is a record; none leaves it out. It runs within \
                 khose, on all processors. The language is jq 1.7 in all but details; input and $ENV are not there.",
            ),
            (
                "--filter COMMAND",
                "sh -c COMMAND is run once for each batch. For each line that it reads it may print one line or none, in their \
                 order, and what it prints depends on that line alone: grep, sed and jq -c 'select(...)' do. It may end with \
                 0; grep may end with 1 where nothing matches. Otherwise the batch is tried in halves, down to the record \
                 that is at fault. Which line came from which record is not known where lines are both changed and left out; \
                 such records are not the same in a replay, and ids of documents are not either.",
            ),
            (
                "--transform COMMAND",
                "sh -c COMMAND is started once. For each batch it reads one line of JSON and prints one, in the form of the \
                 service's Lambda functions: recordId, result (Ok, Dropped or ProcessingFailed), data in base64, and \
                 metadata.partitionKeys. An existing function runs as it is:",
            ),
        ]),
        Block::Code(
            "import json, sys\nfrom my_function import lambda_handler\nanswers, sys.stdout = sys.stdout, sys.stderr\n\
             for line in sys.stdin:\n    print(json.dumps(lambda_handler(json.loads(line), None)), file=answers, flush=True)",
        ),
        Block::Text(
            "A command of --transform that ends, that says errorMessage, or that takes longer than --transform-timeout is \
             started anew and given the batch again, --transform-retries times; then the batch fails. A record that does not \
             come back, or twice, fails by itself.",
        ),
    ],
};
