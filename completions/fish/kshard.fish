# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_kshard_global_optspecs
    string join \n h/help V/version
end

function __fish_kshard_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_kshard_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_kshard_using_subcommand
    set -l cmd (__fish_kshard_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c kshard -n "__fish_kshard_needs_command" -s h -l help -d 'Print help'
complete -c kshard -n "__fish_kshard_needs_command" -s V -l version -d 'Print version'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "create" -d 'Make a stream'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "list" -d 'List the streams that there are, or the shards of one'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "describe" -d 'Show what a stream is made of'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "split" -d 'Split a shard in two and print the children'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "merge" -d 'Merge two neighbouring shards and print the child'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "scale" -d 'Make the stream one of COUNT equal shards'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "retention" -d 'Show how long records stay, or change it'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "trim" -d 'Remove what has expired and print what was freed'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "tags" -d 'Show the tags of a stream, or change them'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "route" -d 'Tell to which shard a record with a key goes'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "stats" -d 'Count what is there, what comes in, and what the service would bill for it'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "advise" -d 'Find hot and cold shards, and say what to split and what to merge'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "map" -d 'Draw the hash key space: who owns what, how hot it is, and who came of whom'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "doctor" -d 'Look whether the machine and a stream are in order'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "delete" -d 'Remove a stream and all that is in it'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "check" -d 'Verify every checksum and invariant of a stream'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "repair" -d 'Mend what `kshard check` finds: keep every good record, and tell readers of the rest once'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "consumers" -d 'List the consumers of a stream, or the places of one; reset or delete it'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "snapshot" -d 'Copy a stream as it is at one moment, while writers run'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "dump" -d 'Write a whole stream to standard output, for `kshard load`'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "load" -d 'Make a stream from what `kshard dump` wrote, on standard input'
complete -c kshard -n "__fish_kshard_needs_command" -f -a "copy" -d 'Copy records into another stream, each once'
complete -c kshard -n "__fish_kshard_using_subcommand create" -l shards -d 'How many shards it begins with' -r
complete -c kshard -n "__fish_kshard_using_subcommand create" -l compression -d 'Compress what is stored: none, lz4 (fast) or zstd (small)' -r -f -a "none\t'Not at all'
lz4\t'LZ4'
zstd\t'Zstandard'"
complete -c kshard -n "__fish_kshard_using_subcommand create" -l record-limit -d 'The largest record, key and data together, up to 50MiB' -r
complete -c kshard -n "__fish_kshard_using_subcommand create" -l retention -d 'How long records stay: 1h to 8760h, or forever' -r
complete -c kshard -n "__fish_kshard_using_subcommand create" -l retain-bytes -d 'Keep at most so much in all shards together; the oldest goes first' -r
complete -c kshard -n "__fish_kshard_using_subcommand create" -l segment-size -d 'A segment is closed when it is this large [default: 1GiB]' -r
complete -c kshard -n "__fish_kshard_using_subcommand create" -l segment-age -d 'A segment is closed when it is this old [default: 1h]' -r
complete -c kshard -n "__fish_kshard_using_subcommand create" -l tag -l tags -d 'A tag of your own; can be given several times' -r
complete -c kshard -n "__fish_kshard_using_subcommand create" -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c kshard -n "__fish_kshard_using_subcommand create" -l if-not-exists -d 'Be content with a stream that is there already, whatever it is like'
complete -c kshard -n "__fish_kshard_using_subcommand create" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kshard -n "__fish_kshard_using_subcommand create" -s h -l help -d 'Print help'
complete -c kshard -n "__fish_kshard_using_subcommand list" -l filter -d 'Which shards: from-trim-horizon (all), at-trim-horizon, at-latest (open ones), at:TIME, from:TIME or after:SHARD' -r
complete -c kshard -n "__fish_kshard_using_subcommand list" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand list" -s h -l help -d 'Print help'
complete -c kshard -n "__fish_kshard_using_subcommand describe" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand describe" -l summary -d 'Leave the shards out'
complete -c kshard -n "__fish_kshard_using_subcommand describe" -s h -l help -d 'Print help'
complete -c kshard -n "__fish_kshard_using_subcommand split" -l at -d 'Where the upper child begins; without it in the middle' -r
complete -c kshard -n "__fish_kshard_using_subcommand split" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand split" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand merge" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand merge" -s h -l help -d 'Print help'
complete -c kshard -n "__fish_kshard_using_subcommand scale" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand scale" -l enforce-limits -d 'Refuse more than double or less than half, as the service does'
complete -c kshard -n "__fish_kshard_using_subcommand scale" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand retention" -l bytes -d 'Keep at most so much in all shards together, or `none`: any amount' -r
complete -c kshard -n "__fish_kshard_using_subcommand retention" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand retention" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand trim" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand trim" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand tags" -l remove -d 'A tag to take away; can be given several times, and need not be there' -r
complete -c kshard -n "__fish_kshard_using_subcommand tags" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand tags" -s h -l help -d 'Print help'
complete -c kshard -n "__fish_kshard_using_subcommand route" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand route" -l explicit -d 'The keys are explicit hash keys, decimal'
complete -c kshard -n "__fish_kshard_using_subcommand route" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand stats" -l since -d 'Rates and metered units of what arrived since then' -r
complete -c kshard -n "__fish_kshard_using_subcommand stats" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand stats" -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c kshard -n "__fish_kshard_using_subcommand stats" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kshard -n "__fish_kshard_using_subcommand stats" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand advise" -l window -d 'How far back to look' -r
complete -c kshard -n "__fish_kshard_using_subcommand advise" -l target -d 'What a shard shall bear: data and keys a second' -r
complete -c kshard -n "__fish_kshard_using_subcommand advise" -l target-records -d 'What a shard shall bear: records a second' -r
complete -c kshard -n "__fish_kshard_using_subcommand advise" -l min-shards -d 'With --apply, keep at least so many open shards' -r
complete -c kshard -n "__fish_kshard_using_subcommand advise" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand advise" -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c kshard -n "__fish_kshard_using_subcommand advise" -l apply -d 'Do what is advised'
complete -c kshard -n "__fish_kshard_using_subcommand advise" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kshard -n "__fish_kshard_using_subcommand advise" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand map" -l window -d 'How far back to look for the load' -r
complete -c kshard -n "__fish_kshard_using_subcommand map" -l width -d 'So many columns; without it as wide as the terminal' -r
complete -c kshard -n "__fish_kshard_using_subcommand map" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand map" -l ascii -d 'Draw with ASCII characters only'
complete -c kshard -n "__fish_kshard_using_subcommand map" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand doctor" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand delete" -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c kshard -n "__fish_kshard_using_subcommand delete" -l force -l enforce-consumer-deletion -d 'Even if it has consumers or is being written to'
complete -c kshard -n "__fish_kshard_using_subcommand delete" -l if-exists -d 'Be content with a stream that is not there'
complete -c kshard -n "__fish_kshard_using_subcommand delete" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kshard -n "__fish_kshard_using_subcommand delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand check" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand check" -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c kshard -n "__fish_kshard_using_subcommand check" -l quick -d 'Verify headers and what they say of each other, not the records'
complete -c kshard -n "__fish_kshard_using_subcommand check" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kshard -n "__fish_kshard_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand repair" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand repair" -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c kshard -n "__fish_kshard_using_subcommand repair" -l dry-run -d 'Say what would be done, and do nothing'
complete -c kshard -n "__fish_kshard_using_subcommand repair" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kshard -n "__fish_kshard_using_subcommand repair" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand consumers" -l max-lag -d 'Exit with status 1 if a record has waited for longer than this' -r
complete -c kshard -n "__fish_kshard_using_subcommand consumers" -l reset -d 'Let it begin anew: at trim-horizon, latest or a time' -r
complete -c kshard -n "__fish_kshard_using_subcommand consumers" -s o -l output -d 'Print a table for people, or JSON for programs: table or json' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c kshard -n "__fish_kshard_using_subcommand consumers" -l why -d 'Say why it is not further: who reads, how fast, and what is waited for'
complete -c kshard -n "__fish_kshard_using_subcommand consumers" -l delete -d 'Forget it'
complete -c kshard -n "__fish_kshard_using_subcommand consumers" -s h -l help -d 'Print help'
complete -c kshard -n "__fish_kshard_using_subcommand snapshot" -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c kshard -n "__fish_kshard_using_subcommand snapshot" -l as-new -d 'Make it a stream of its own: a new UUID under all checksums; nothing is linked'
complete -c kshard -n "__fish_kshard_using_subcommand snapshot" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kshard -n "__fish_kshard_using_subcommand snapshot" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand dump" -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c kshard -n "__fish_kshard_using_subcommand dump" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kshard -n "__fish_kshard_using_subcommand dump" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand load" -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c kshard -n "__fish_kshard_using_subcommand load" -l same-id -d 'Keep the UUID of the stream that was dumped: for one that is to take its place'
complete -c kshard -n "__fish_kshard_using_subcommand load" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kshard -n "__fish_kshard_using_subcommand load" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kshard -n "__fish_kshard_using_subcommand copy" -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c kshard -n "__fish_kshard_using_subcommand copy" -s f -l follow -d 'Go on when the end is reached: wait for more'
complete -c kshard -n "__fish_kshard_using_subcommand copy" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kshard -n "__fish_kshard_using_subcommand copy" -s h -l help -d 'Print help (see more with \'--help\')'
