complete -c kput -l create -d 'Create the stream if there is none, with this many shards [default if given: 1]' -r
complete -c kput -s i -l input -d 'Format of the input: lines, ndjson, csv, tsv, nul, framed (32-bit big-endian lengths), base64 or json (what kget -o json writes) [default: by the name of the first file, else lines, or ndjson where a field is asked for]' -r -f -a "lines\t''
ndjson\t''
csv\t''
tsv\t''
nul\t''
framed\t''
base64\t''
json\t''"
complete -c kput -l delimiter -d 'The byte between the fields of csv [default: a comma, of tsv a tab]' -r
complete -c kput -l key -d 'The key is this field: a path (user.id), a JSON pointer (/user/id), or a CSV column' -r
complete -c kput -l key-delimiter -d 'The key is what stands before the first of these (\\t is a tab); the record is what stands behind it' -r
complete -c kput -l key-regex -d 'The key is what the first group of this regular expression matches, or all of it where there is no group' -r
complete -c kput -l key-value -d 'Every record has this key' -r
complete -c kput -l explicit-hash-key -d 'The field that holds the hash key itself, in decimal' -r
complete -c kput -l producer -d 'Store every record once, however often kput is killed and run again on the same input under this name' -r
complete -c kput -l producer-position -d 'The field that tells where in its source a record is: a whole number, higher from record to record' -r
complete -c kput -l sync -d 'When records are made durable: every (each by itself), end (once), none (left to the kernel), or SIZE,DURATION' -r -f -a "every\t''
end\t''
none\t''"
complete -c kput -l enforce-limits -d 'Hold each shard to the service\'s limits of 1 MiB and 1000 records a second, as far as this kput alone goes: wait, or refuse' -r -f -a "wait\t'It waits'
refuse\t'It is refused as the service refuses it'"
complete -c kput -l on-error -d 'What becomes of a bad record: fail, skip, reject or reject=FILE [default: fail when reading a regular file to its end, else reject]' -r
complete -c kput -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c kput -s f -l follow -d 'Follow the files as they grow, through rotation and restarts of kput'
complete -c kput -l whole -d 'Each file is one record (- is standard input)'
complete -c kput -l ack -d 'Print a line of JSON for each record when it is durable: shard and sequence number'
complete -c kput -l tee -d 'Pass the input through to standard output'
complete -c kput -s q -l quiet -d 'Print nothing but data and errors'
complete -c kput -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kput -s V -l version -d 'Print version'
