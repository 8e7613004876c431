//! Where records go, and what is promised there.

use crate::cli::docs::{Block, Section};

pub(super) const DESTINATIONS: Section = Section {
    title: "DESTINATIONS",
    blocks: &[
        Block::Text(
            "Each says what is guaranteed when a run is killed and started again. No secret is taken from a command line: a URL \
             with one in it is refused, and none is shown in a message. Credentials are read again when they expire, when a \
             service has refused them, and at SIGHUP.",
        ),
        Block::Items(&[
            (
                "DIR/, file:///DIR/",
                "Exactly once. Objects appear whole, in one step, when they are on the disk. A directory is named with a slash.",
            ),
            (
                "s3://BUCKET/PREFIX/",
                "Exactly once. Any endpoint of S3 (AWS_ENDPOINT_URL). Credentials as the AWS tools have them: \
                 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web identity, the profile (AWS_PROFILE) of ~/.aws with roles and \
                 credential_process, the container's, the machine's. What is above 16 MiB is uploaded in parts.",
            ),
            (
                "gs://BUCKET/PREFIX/",
                "Exactly once. Credentials: GOOGLE_APPLICATION_CREDENTIALS, GOOGLE_SERVICE_ACCOUNT, those of gcloud, the \
                 machine's.",
            ),
            (
                "az://CONTAINER/PREFIX/, abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/",
                "Exactly once. Credentials: AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_ACCOUNT_NAME with \
                 AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, AZURE_CLIENT_ID and its relatives, the machine's.",
            ),
            (
                "FILE.EXT, also in a bucket",
                "Whole or not at all, with nothing remembered: see SOURCES. --if-changed leaves one that would be the same as it is.",
            ),
            (
                "https://HOST/PATH, http://...",
                "At least once. The service's requests for HTTP endpoints, with the key in --access-key-file, attributes of \
                 --common, and --gzip. A request that is repeated has the same X-Amz-Firehose-Request-Id, after a kill too: a \
                 receiver that remembers them has every record once. Only 200 with the right requestId is success. What is too \
                 large (413) is sent in halves, down to the record that is, which is refused.",
            ),
            (
                "opensearch://HOST:9200/INDEX, opensearchs:// for https, elasticsearch://...",
                "Exactly once: the _id of a document is the stream's UUID, the shard and the number of the record in it, and \
                 documents are only ever created. Not behind an alias that rolls over between an attempt and its repeat; and \
                 lines of a pipe have other ids in every run. --index-rotation names indexes by the arrival time in UTC. \
                 --access-key-file and --auth say who asks. Each document that is refused goes to the error output alone.",
            ),
            (
                "splunk://HOST:8088, splunk+http://...",
                "At least once: events count as delivered when they are acknowledged, and where the acknowledgement is lost they \
                 are sent again. The token is in SPLUNK_HEC_TOKEN or in --access-key-file, and must have acknowledgements, \
                 unless --splunk-no-ack is given. Records are events, as {\"event\": ...}; with --splunk-raw they are lines.",
            ),
            (
                "postgresql://USER@HOST/DATABASE?table=NAME",
                "Exactly once: a batch is one transaction, with COPY and with a row in the table _khose beside it that says how \
                 far it goes. Keys go into the columns of their names and others are left out. Behind the ? can stand \
                 column=NAME (whole records), rest=NAME (what has no column), create_table, epoch=seconds|millis|micros \
                 (numbers in columns of time), case_sensitive, watermark=NAME, and libpq's settings. Hosts, users and \
                 passwords as with libpq: PGHOST and the like, PGPASSWORD, ~/.pgpass, services. A row that the table does not \
                 take goes to the error output alone, with the SQLSTATE.",
            ),
            (
                "redshift://USER@HOST/DATABASE?table=NAME&staging=s3://...&iam_role=ROLE",
                "Exactly once: objects and a manifest in the staging place, then COPY ... MANIFEST and the row of _khose in one \
                 transaction. Objects stay when they are loaded. Also columns=a,b, region=, copy_options=, watermark=. -o is \
                 ndjson, csv, tsv or parquet; --compression none, gzip or zstd. It was proved with a server that is not \
                 Redshift's own.",
            ),
            (
                "kpipe:STREAM",
                "Exactly once. Records keep their key, explicit hash key, attributes and time of production, and those of one key \
                 their order. The stream must be there.",
            ),
            (
                "-",
                "Standard output, at least once: objects one behind the other. A batch counts as delivered when a pipe has taken \
                 it. A reader that has had enough is a normal end, and what it was not given comes with the next run.",
            ),
        ]),
        Block::Text(
            "From standard input all of these are at least once: a run that is started again begins anew. With --spool it is as \
             for any stream. Envelopes (-i json) that come again in the same order in each shard are passed over where \
             they were delivered, into directories and buckets.",
        ),
    ],
};

pub(super) const EXACTLY_ONCE: Section = Section {
    title: "EXACTLY ONCE",
    blocks: &[
        Block::Text(
            "A batch is planned before it is delivered: which records of which shards are in it, and the names of its objects. The \
             plan, and then the commit, are files below _khose/ at the destination, for services below the consumer in the \
             stream; the consumer's checkpoint comes last. A run that was killed is followed by one that does the same batch again \
             under the same names, and removes those that are not needed any more. Before anything is delivered its records are \
             made durable in their stream. Counted over all objects that are not being delivered at this moment, every record is \
             there once.",
        ),
        Block::Text(
            "A commit is put under a name that must be free, so that of two runs that do not know of each other, on two machines \
             perhaps, one ends with an error. It is not undone by --from, nor by a consumer that is set back: another \
             --consumer, or another destination, begins anew.",
        ),
    ],
};

pub(super) const RETRIES: Section = Section {
    title: "RETRIES",
    blocks: &[Block::Text(
        "What may work later is tried again for --retry-duration, after 1 s, 2 s and so on up to 120 s, give or take 15 %. When \
         that is over the run fails and its batch is left for the next; with -f khose says so and begins with it again every \
         30 s, for ever. Where --errors or --backup is given, HTTP endpoints, OpenSearch and Splunk give the records up instead: \
         they go to the error output, and khose goes on. Records that a destination refuses for what they are go there in any \
         case.",
    )],
};

pub(super) const ERRORS: Section = Section {
    title: "THE ERROR OUTPUT",
    blocks: &[
        Block::Text(
            "A record that fails goes to the error output, is counted, and makes the exit status 1. It lies below _errors/ at \
             the destination, beside one file in FILE.errors/, and for services in the stream's rejects/khose/ (from \
             standard input in khose.rejects/), unless --errors says otherwise. Its folders are the types:",
        ),
        Block::Code(
            "processing-failed           metadata-extraction-failed   format-conversion-failed\n\
             http-endpoint-failed        AmazonOpenSearchService-failed\n\
             splunk-failed               database-failed              stream-failed",
        ),
        Block::Text(
            "Each line is the envelope of the record, as kget -o json writes it, and has the member error with these in it, named \
             as the service names them:",
        ),
        Block::Items(&[
            ("reason", "Code and message in one, for a person."),
            ("errorOutputType", "One of the types."),
            ("attemptsMade, arrivalTimestamp, attemptEndingTimestamp", "Times in milliseconds."),
            ("errorCode, errorMessage", "Why. Of a conversion they are lastErrorCode and lastErrorMessage."),
            ("rawData", "The data in base64, as they were when they failed."),
            ("sequenceNumber, subSequenceNumber", "Of a conversion."),
            ("esIndexName, esDocumentId; EventId", "Of OpenSearch; of Splunk."),
            ("delivery", "Which delivery gave it up."),
        ]),
        Block::Text(
            "--replay delivers them again; kput -i json puts them into a stream. --backup all=URL keeps every record there as it \
             was read, once it is delivered; --backup failed=URL is another way to say --errors URL.",
        ),
    ],
};
