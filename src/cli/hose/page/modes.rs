//! What khose does instead of delivering.

use crate::cli::docs::{Block, Section};

pub(super) const PLAN: Section = Section {
    title: "LOOKING AHEAD",
    blocks: &[
        Block::Text(
            "With --plan khose does what a run would do, up to where something would be written, and prints it: how many \
             records and bytes would be read, the objects by their names, the columns and what is new of them, and how many \
             records would fail, with the first of each kind. No consumer is made and nothing is written at the destination; \
             what objects take on their way lies in $TMPDIR. A command given with --transform or --filter is run. All there is \
             is looked at, or so many records as --limit says.",
        ),
        Block::Text(
            "A run that follows with the same options, with nothing new in the stream, makes just these objects. Objects that \
             it would end by their age (--buffer-interval) cannot be foretold, nor the names of objects of failed records. With \
             --log json it is one JSON document, with all objects.",
        ),
    ],
};

pub(super) const VERIFY: Section = Section {
    title: "LOOKING BACK",
    blocks: &[
        Block::Text(
            "With --verify khose compares the destination with the stream, and says what is wrong. Give the options that the \
             delivery has: the consumer's name follows from the destination, and --errors says where failed records are. It \
             writes nothing, takes no lock, and may look on while a delivery is at work.",
        ),
        Block::Items(&[
            (
                "objects",
                "that are missing, or have another size than was committed; that no commit names, and so hold records twice; \
                 that two commits name. Objects that other deliveries keep there are known by their own ledgers below _khose/, \
                 and files with other names are nobody's business.",
            ),
            (
                "rows",
                "of each object, from the object itself (not with --quick): the footer of Parquet, the batches of Arrow, the \
                 lines of text, decompressed. Records of raw objects cannot be told apart. In ndjson and lines a record may have \
                 several lines, so that there only too few are wrong.",
            ),
            (
                "records",
                "of the stream, batch by batch: as many as were delivered, failed, or were left out. Each record of an aggregate \
                 is one. Where --jq, --deaggregate, --decompress or --cloudwatch make other numbers of records out of them, \
                 batches that do not agree are not comparable; batches with records that retention has removed are beyond \
                 comparison. What is not delivered yet is counted, and not wrong.",
            ),
            (
                "commits",
                "that are missing, or that stand behind the one before them. A batch that was planned and not committed is told: \
                 it is on its way, or the next run does it again.",
            ),
        ]),
        Block::Text(
            "A service cannot be listed: there the commits are compared with the stream, and that is all. With --log json the \
             report is one JSON document. The exit status is 0 if all is well, 1 if something is wrong, and 2 if that could not \
             be found out.",
        ),
    ],
};

pub(super) const REPLAY: Section = Section {
    title: "FAILED RECORDS AGAIN",
    blocks: &[
        Block::Text(
            "With --replay the source is an error output: what khose wrote there, or the service (objects of records with \
             rawData and errorCode). Each record's data go through the delivery again as the options say now: mended by another \
             --transform, --jq or --schema, or into columns that have grown meanwhile. What failed at a conversion had been \
             through the transformation before; leave that away where it should not be done twice. --error-type and --since \
             choose records; the others stay for a later run.",
        ),
        Block::Text(
            "Each line is replayed once, whatever the options are later: which have been is kept below _khose/replay.NAME/ at \
             the destination, or in the error output where the destination is a service. A run that was killed is completed by \
             the next. Records that fail again are in the error output again; runs with the same options leave them alone \
             (unless --again says otherwise), and runs with others take them up. Lines that are no failed records are told, and \
             stay. Nothing is removed from the error output.",
        ),
        Block::Text(
            "Failed records of a batch that is not committed yet wait until it is. Their delivery's ledger tells, at the \
             destination or in the error output: where it is neither, as with a service, replay when the delivery is not at work.",
        ),
    ],
};
