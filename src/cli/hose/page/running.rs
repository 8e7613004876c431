//! How khose is run: by cron, by systemd, by make.

use crate::cli::docs::{self, Block, Section};

pub(super) const MEMORY: Section = Section {
    title: "MEMORY",
    blocks: &[Block::Text(
        "Open objects hold about --memory in all, however many partitions there are; what is more goes to files, below _khose/ \
         in a directory and else in $TMPDIR. Blocks that are being converted (a few MiB for each processor), 64 MiB for \
         uploads that are on their way, and for a service its batch and a request of up to 64 MiB come to it. With --jq or a \
         command so do a few thousand records on their way through it. With 500 partitions and what is given to start with, khose \
         was measured at less than 300 MiB in all.",
    )],
};

pub(super) const METRICS: Section = Section {
    title: "METRICS",
    blocks: &[
        Block::Text(
            "--metrics FILE is written every five seconds, with each batch, and at the end, in one step. Its first number is the \
             one to be warned by: khose_data_freshness_seconds, the age of the oldest record that was read and is not delivered. \
             khose_written_timestamp_seconds tells of a khose that does not run any more. Others count records and bytes \
             read, delivered, failed, left out and lost, objects, batches and open partitions, and what the service would have \
             metered: 5 KiB units of each record, bytes converted and partitioned. Counters are of one run.",
        ),
        Block::Text(
            "At the end a line on standard error says the same in short; --log json makes JSON of it, and a line for each batch. \
             --quiet leaves it out, and says what is wrong all the same.",
        ),
    ],
};

pub(super) const CRON: Section = Section {
    title: "FROM A CRONTAB",
    blocks: &[
        Block::Code(
            "KPIPE_ROOT=/srv/streams\nAWS_PROFILE=lake\n\
             */5 * * * * khose -q clicks s3://lake/clicks/ -o parquet --metrics /var/lib/node_exporter/clicks.prom",
        ),
        Block::Text(
            "A run that takes longer than five minutes is no harm: the next one finds it at work and exits 0. -q keeps cron from \
             sending a mail each time; errors are mailed.",
        ),
    ],
};

pub(super) const SYSTEMD: Section = Section {
    title: "AS A SERVICE OF SYSTEMD",
    blocks: &[Block::Code(
        "[Unit]\nDescription=clicks to the lake\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nUser=kpipe\nEnvironment=KPIPE_ROOT=/srv/streams AWS_PROFILE=lake\n\
         ExecStart=/usr/local/bin/khose clicks s3://lake/clicks/ -o parquet -f --log json\n\
         ExecReload=/bin/kill -HUP $MAINPID\nRestart=on-failure\nSuccessExitStatus=143\n\n\
         [Install]\nWantedBy=multi-user.target",
    )],
};

pub(super) const MAKE: Section = Section {
    title: "IN A MAKEFILE",
    blocks: &[
        Block::Code(
            "report.html: hits.parquet\n\t./report.py hits.parquet > $@\n\n\
             hits.parquet: FORCE\n\tkhose -q clicks $@ --from -1d --if-changed\n\nFORCE:",
        ),
        Block::Text(
            "khose runs each time, and leaves a file that would be the same as it is, its time included: then there is nothing to \
             do for report.html.",
        ),
    ],
};

pub(super) const CONFIG: Section = Section {
    title: "A FILE OF ARGUMENTS",
    blocks: &[
        Block::Text(
            "--config FILE takes arguments from TOML. Its keys are the long options, with - or _, and source (a text or a list) \
             and destination. Options of the command line count before those of the file. The two words do so only together. \
             Paths in it are seen from the current directory.",
        ),
        Block::Code(
            "source = \"clicks\"\ndestination = \"s3://lake/clicks/\"\noutput = \"parquet\"\n\
             prefix = \"dt=!{timestamp:yyyy-MM-dd}/\"\nbuffer-interval = \"60s\"\nfollow = true",
        ),
    ],
};

pub(super) const EXIT_STATUS: Section = Section {
    title: "EXIT STATUS",
    blocks: &[Block::Items(&[
        (
            "0",
            "Done: what there was is delivered, or another khose is at it. A reader that closed the pipe is a normal end.",
        ),
        (
            "1",
            "Finished, but records are in the error output, or damage was met; with --verify, something is wrong.",
        ),
        (
            "2",
            "Failed, or called wrongly. One line on standard error says why. What is not delivered is for the next run.",
        ),
        (
            "130, 143",
            "Ended by SIGINT or SIGTERM, after what was read was delivered, as far as ten seconds allow. One file is not written.",
        ),
        (
            "129",
            "Ended by SIGHUP, in the same way, where standard error is a terminal. Elsewhere SIGHUP lets khose read its \
             credentials again.",
        ),
    ])],
};

pub(super) const ENVIRONMENT: Section = Section {
    title: "ENVIRONMENT",
    blocks: &[
        docs::ENVIRONMENT.blocks[0],
        Block::Items(&[
            ("TMPDIR", "Where objects lie on their way to what is no directory [default: /tmp]."),
            ("TZDIR", "Where the time zones are, if not in /usr/share/zoneinfo."),
            (
                "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR",
                "Proxies, and the certificates that are trusted.",
            ),
            ("AWS_*, GOOGLE_*, AZURE_*, PG*, SPLUNK_HEC_TOKEN", "See DESTINATIONS."),
        ]),
    ],
};

pub(super) const FILES: Section = Section {
    title: "FILES",
    blocks: &[Block::Items(&[
        (
            "DEST/_khose/STREAM.CONSUMER/",
            "The plan and the commits of a delivery, a file each, and the columns it inferred.",
        ),
        ("DEST/_errors/", "Failed records."),
        ("STREAM/consumers/NAME/", "The consumer of a delivery; for services with its plan and its commits."),
        ("STREAM/rejects/khose/", "Failed records of a delivery to a service."),
        ("STREAM/rejects/khose.ndjson", "Bytes of the stream that were damaged."),
    ])],
};
