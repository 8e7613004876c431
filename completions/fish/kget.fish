complete -c kget -l from -d 'Begin here: trim-horizon, latest, a time (RFC 3339, epoch seconds, -1h, now), at:SEQUENCE or after:SEQUENCE' -r
complete -c kget -l until -d 'End here, this position not included; the same forms as --from (a sequence number ends its own shard)' -r
complete -c kget -s n -l limit -d 'End after this many records' -r
complete -c kget -l shard -d 'Read only this shard, and none that goes on from it' -r
complete -c kget -l order -d 'The order over all shards: shard (one after the other) or arrival, with -f as near as can be' -r -f -a "shard\t''
arrival\t''"
complete -c kget -s o -l output -d 'Write records as lines, nul, framed, json, csv, base64, or a template such as \'{seq} {payload}\\n\' [default: lines]' -r
complete -c kget -l template -d 'Write records as this template says, as \'{key} {seq} {time} {payload}\\n\'' -r
complete -c kget -l on-error -d 'What becomes of damage: fail, skip, reject or reject=FILE [default: fail, with -f reject]' -r
complete -c kget -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c kget -l consumer -d 'Go on where this consumer was, and write down how far it comes; --from says where a new one begins' -r
complete -c kget -l exec -d 'Give each batch to this shell command\'s standard input, and commit it when the command exits 0' -r
complete -c kget -l batch-size -d 'Give it at most so many records, or so many bytes (up to 24MiB), at once' -r
complete -c kget -l batch-interval -d 'Wait so long for a batch to become full' -r
complete -c kget -l max-backoff -d 'Wait at most so long before a command that failed is tried again' -r
complete -c kget -l failover -d 'Take over from a worker that has been silent for so long; one that ended is taken over from at once' -r
complete -c kget -l bookmark -d 'Reserve what is handed out, and write a bookmark to this file for --commit' -r -F
complete -c kget -l bookmark-timeout -d 'Hand it out again when the bookmark has not been committed for so long' -r
complete -c kget -l commit -d 'Commit a bookmark, and read nothing' -r -F
complete -c kget -s f -l follow -d 'Go on when the end is reached: wait for more'
complete -c kget -l durable -d 'Show only what is on the disk, and sync first what is not yet'
complete -c kget -l no-deaggregate -d 'Leave records that the Kinesis Producer Library aggregated as they are'
complete -c kget -l fail-empty -d 'Exit with status 1 if there was no record'
complete -c kget -s q -l quiet -d 'Print nothing but data and errors'
complete -c kget -s h -l help -d 'Print help'
complete -c kget -s V -l version -d 'Print version'
