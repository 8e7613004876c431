//! What objects are named, and what is in them.

use crate::cli::docs::{Block, Section};

/// Prefixes, and what they are for one record.
const NAMED: &str = "\
     (no --prefix)                                        2026/01/31/23/\n\
     dt=!{timestamp:yyyy-MM-dd}/                          dt=2026-01-31/\n\
     !{timestamp:'y='yyyy/'week='ww}/                     y=2026/week=05/\n\
     country=!{partitionKeyFromQuery:user.country}/       country=de%2Fat/\n\
     !{shard:number}/!{timestamp:HHmm}-                   3/2359-";

pub(super) const PREFIXES: Section = Section {
    title: "PREFIXES",
    blocks: &[
        Block::Text("The name of an object is, as in the service,"),
        Block::Code("PREFIX STREAM-VERSION-yyyy-MM-dd-HH-mm-ss-ID EXTENSION"),
        Block::Text(
            "without the blanks. The time is the arrival of its oldest record, in --time-zone. VERSION is 1, and one more each \
             time that the options of the delivery change. ID is a hash of the stream, the partition and the records in it: \
             whoever does a batch again comes to the same names. PREFIX is --prefix as it is written, with these replaced:",
        ),
        Block::Items(&[
            (
                "!{timestamp:PATTERN}",
                "The arrival time by a pattern of Java's DateTimeFormatter (of Java 8, in English), as yyyy/MM/dd or \
                 'dt='yyyy-MM-dd. Text in it stands between single quotes.",
            ),
            (
                "!{partitionKeyFromQuery:NAME}",
                "A partition key: the member NAME of the object that the jq expression --partition-query makes, or without \
                 one the field NAME of the record, as customer or user.id or tags.0.",
            ),
            (
                "!{partitionKeyFromTransform:NAME}",
                "A partition key that the command of --transform has given in metadata.partitionKeys. \
                 partitionKeyFromLambda is the same.",
            ),
            ("!{shard}, !{shard:number}", "The shard's name, shardId-000000000003, and its number, 3."),
            ("!{firehose:random-string}", "11 characters, others at each place: a part of the hash."),
            (
                "!{firehose:error-output-type}",
                "In --errors only, and there it must be where any other is: see THE ERROR OUTPUT. Partition keys cannot be in \
                 --errors.",
            ),
        ]),
        Block::Text(
            "For a record of shard 3 that arrived at 2026-01-31T23:59:07Z and says {\"user\":{\"country\":\"de/at\"}}:",
        ),
        Block::Code(NAMED),
        Block::Text(
            "The part up to the last / is evaluated for each record, so that no record of one day lies in the folder of another; \
             what is behind it is the oldest record's. (The service evaluates all of it for the oldest record.) Values are \
             encoded with percent signs as Hive does it, and cannot leave the destination. A record whose key is missing, null, \
             empty, an object or an array fails (metadata-extraction-failed), and so does one whose prefix is longer than 512 \
             characters. The folders _khose and _delta_log are not for prefixes.",
        ),
    ],
};

pub(super) const FORMATS: Section = Section {
    title: "FORMATS",
    blocks: &[
        Block::Items(&[
            ("raw", "Data one behind the other, with nothing between them: the service's default."),
            ("lines", "Data with a newline behind each."),
            (
                "ndjson",
                "The same, for JSON: what is none fails, and what has several lines is written on one.",
            ),
            (
                "csv, tsv",
                "Columns, with a header unless --no-header is given. An empty field is null, \"\" the empty text; see \
                 --csv-null and --csv-quote. Arrays and objects are JSON.",
            ),
            (
                "parquet",
                "With zstd unless --parquet-compression says otherwise, with statistics, page indexes and dictionaries, row \
                 groups of 128 MiB, and on demand Bloom filters and sorted row groups. The footer tells the stream, the \
                 partition and the range of records. --parquet-compat writes what Spark 3 and Hive before version 4 read: \
                 timestamps as INT96, decimals as byte arrays, Snappy.",
            ),
            (
                "arrow, arrow-stream",
                "Arrow's file and stream formats; --compression lz4 (the default), zstd or none is for their buffers.",
            ),
        ]),
        Block::Text(
            "--compression compresses objects of the other formats: gzip (.gz), zip (.zip), snappy (.snappy, its framing \
             format), hadoop-snappy (.hsnappy), zstd (.zst), lz4 (.lz4). gzip and zip have level 3, zstd 1, unless another is \
             given. Around Parquet there is none. One file says by its name what it is: x.csv.gz.",
        ),
    ],
};

pub(super) const COLUMNS: Section = Section {
    title: "COLUMNS",
    blocks: &[
        Block::Text(
            "csv, tsv, parquet and arrow have columns. --schema gives them, as text or as a file: DDL (or a whole CREATE TABLE), \
             columns of Glue or Hive in JSON, or a JSON Schema.",
        ),
        Block::Code(
            "--schema 'id bigint not null, at timestamp, price decimal(10,2), tags array<string>, geo struct<lat:double,lon:double>'",
        ),
        Block::Text(
            "Types are boolean, tinyint, smallint, int, bigint, float, double, decimal(p,s), string, varchar(n), char(n), binary \
             (base64), date, timestamp, array<>, struct<> and map<,>. Keys that no column has are left out.",
        ),
        Block::Text(
            "Without --schema columns are inferred: whole numbers are bigint, others double, texts in RFC 3339 timestamp, others \
             string. They are kept below _khose/ at the destination, and evolve in the open: a key that is new becomes a column \
             that may be null, and bigint becomes double; khose says so. Nothing is ever taken away. A record with a value \
             that does not fit its column goes to the error output, and no other record with it. (One file keeps nothing: it is \
             begun anew where its columns change on the way. From standard input that cannot be, and the error says which \
             --schema to give. A delivery from standard input without --spool keeps nothing either: each run infers anew.)",
        ),
        Block::Items(&[
            (
                "keys",
                "Case does not count and columns are in small letters, unless --case-sensitive is given. \
                 --dots-to-underscores makes a_b of a.b; --map COLUMN=KEY fills a column from another key.",
            ),
            (
                "timestamps",
                "RFC 3339 and its relatives, and numbers since the epoch: seconds, milliseconds, microseconds or nanoseconds by \
                 their size. --timestamp-format says it otherwise: millis, seconds, or a Java pattern as 'dd/MM/yyyy HH:mm:ss'.",
            ),
            (
                "--coerce",
                "A column of text takes numbers, and objects as JSON; a column of numbers takes text that spells one. Without it \
                 they do not fit.",
            ),
        ]),
    ],
};

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::NAMED;
    use crate::hose::name::{Context, Limits, Partitioner, Prefix, Role, Zone};
    use crate::record::ShardId;

    #[test]
    fn the_table_of_prefixes_is_true() {
        // 2026-01-31T23:59:07Z
        let arrival_us = 1_769_903_947_000_000;
        let query = [("user.country", "de/at")];
        let context = Context { query: &query, ..Context::plain(ShardId(3), arrival_us) };
        for line in NAMED.lines() {
            let (text, named) = line.split_once("  ").expect("two columns");
            let prefix = match text {
                "(no --prefix)" => Prefix::default_for(Role::Data),
                text => Prefix::parse(text, Role::Data).unwrap(),
            };
            let mut partitioner = Partitioner::new(prefix, Zone::utc(), Limits::OBJECT_STORE);
            let mut partition = String::new();
            partitioner.partition(&context, &mut partition).unwrap();
            let name = partitioner.complete(&partition, arrival_us, Uuid::nil()).unwrap();
            assert_eq!(name, named.trim_start(), "{text}");
        }
    }
}
