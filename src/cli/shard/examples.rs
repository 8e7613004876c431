//! What opens the help of each subcommand: one or two lines that can be pasted.

use crate::cli::docs::Example;

const fn example(does: &'static str, command: &'static str) -> Example {
    Example { does, command }
}

/// By subcommand.
pub(super) const OF: &[(&str, &[Example])] = &[
    (
        "create",
        &[
            example("Four shards that keep a week", "kshard create clicks --shards 4 --retention 7d"),
            example("In a script that is run again", "kshard create clicks --if-not-exists -q"),
        ],
    ),
    (
        "list",
        &[
            example("The streams that there are", "kshard list"),
            example("The open shards of one", "kshard list clicks --filter at-latest"),
        ],
    ),
    (
        "describe",
        &[
            example("What it is made of", "kshard describe clicks"),
            example("Without its shards, for a script", "kshard describe clicks --summary -o json"),
        ],
    ),
    (
        "split",
        &[
            example("Shard 0 in the middle", "kshard split clicks 0"),
            example(
                "Where a hash key begins",
                "kshard split clicks 0 --at 85070591730234615865843651857942052864",
            ),
        ],
    ),
    ("merge", &[example("Two neighbours", "kshard merge clicks 1 2")]),
    ("scale", &[example("Eight shards of one size", "kshard scale clicks 8")]),
    (
        "retention",
        &[
            example("How long records stay", "kshard retention clicks"),
            example("A week, and no more than 10 GiB", "kshard retention clicks 7d --bytes 10GiB"),
        ],
    ),
    ("trim", &[example("What has expired goes", "kshard trim clicks")]),
    (
        "tags",
        &[
            example("Set one", "kshard tags clicks team=web"),
            example("Take it away", "kshard tags clicks --remove team"),
        ],
    ),
    (
        "route",
        &[
            example("Where the records of two keys go", "kshard route clicks user-1 user-2"),
            example(
                "How the keys of a file would be spread",
                "cut -f 1 keys.tsv | kshard route clicks | cut -f 3",
            ),
        ],
    ),
    (
        "stats",
        &[
            example("The last hour", "kshard stats clicks"),
            example("What a day would be billed for", "kshard stats clicks --since -1d -o json"),
        ],
    ),
    (
        "advise",
        &[
            example("What to split and merge", "kshard advise clicks"),
            example("Do it, by the last quarter of an hour", "kshard advise clicks --window 15m --apply"),
        ],
    ),
    ("map", &[example("Who owns what, and how hot it is", "kshard map clicks")]),
    ("doctor", &[example("The machine", "kshard doctor"), example("And a stream", "kshard doctor clicks")]),
    (
        "delete",
        &[
            example("The stream and all that is in it", "kshard delete clicks"),
            example("Even if somebody uses it, or it is gone", "kshard delete clicks --force --if-exists"),
        ],
    ),
    (
        "check",
        &[
            example("Every checksum", "kshard check clicks"),
            example("From crontab: print damage only", "kshard check clicks -q"),
        ],
    ),
    (
        "repair",
        &[
            example("What would be done", "kshard repair clicks --dry-run"),
            example("Do it", "kshard repair clicks"),
        ],
    ),
    (
        "consumers",
        &[
            example("Why one is not further", "kshard consumers clicks report --why"),
            example("Let it begin anew", "kshard consumers clicks report --reset -1h"),
        ],
    ),
    (
        "snapshot",
        &[
            example("A backup, while writers run", "kshard snapshot clicks /backup/clicks"),
            example("A stream of its own", "kshard snapshot clicks clicks-test --as-new"),
        ],
    ),
    (
        "dump",
        &[
            example("To another machine", "kshard dump clicks | ssh host kshard load clicks"),
            example("Into a file", "kshard dump clicks | zstd > clicks.dump.zst"),
        ],
    ),
    ("load", &[example("Out of a file", "zstd -dc clicks.dump.zst | kshard load clicks")]),
    (
        "copy",
        &[
            example("All records, and each time it is run what is new", "kshard copy clicks clicks-copy"),
            example("Keep a stream on another disk as well", "kshard copy -f clicks /mnt/other/clicks"),
        ],
    ),
];
