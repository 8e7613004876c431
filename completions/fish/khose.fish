complete -c khose -l config -d 'Take arguments from this TOML file, too: a key for each option, `source` and `destination`' -r -F
complete -c khose -s n -l limit -d 'With --plan: look at so many records and no more [default: all]' -r
complete -c khose -l error-type -d 'With --replay: only records that failed like this, as format-conversion-failed, or with this error code; may be repeated' -r
complete -c khose -l since -d 'With --replay: only records that failed at this time or later, as -1d' -r
complete -c khose -l from -d 'Begin here, where nothing was delivered before: a position as of kget [default: trim-horizon]' -r
complete -c khose -l until -d 'End at this time, or at latest: what was there when khose began' -r
complete -c khose -l consumer -d 'The delivery\'s consumer in the stream [default: khose- and a hash of the destination]' -r
complete -c khose -l on-error -d 'What becomes of damage in a stream: fail, skip, reject or reject=FILE [default: reject, for one file fail]' -r
complete -c khose -l progress -d 'Show progress on standard error: auto (on a terminal), always or never' -r -f -a "auto\t'When standard error is a terminal'
always\t'Always: a line every ten seconds where standard error is no terminal'
never\t'Never'"
complete -c khose -l metrics -d 'Keep what is measured in this file, for the textfile collector of Prometheus\' node exporter' -r -F
complete -c khose -l log -d 'Write messages as text, or as json: an object on a line, one for each batch as well' -r -f -a "text\t'Lines for a person'
json\t'An object per line'"
complete -c khose -s i -l input -d 'Format of standard input: lines, ndjson, csv, tsv, nul, framed, base64 or json (what kget -o json writes) [default: lines]' -r -f -a "lines\t''
ndjson\t''
csv\t''
tsv\t''
nul\t''
framed\t''
base64\t''
json\t''"
complete -c khose -l spool -d 'Keep standard input in this stream first, where no kill can take it; it is created if there is none' -r
complete -c khose -l deaggregate -d 'Take several records out of one: json (one value behind the other), or delimited=TEXT' -r
complete -c khose -l decompress -d 'Decompress each record: gzip, zstd, snappy or auto (by how it begins, or as it is)' -r -f -a "gzip\t''
zstd\t''
snappy\t''
auto\t''"
complete -c khose -l transform -d 'Give records to this command in the protocol of the service\'s Lambda functions, and deliver what it answers' -r
complete -c khose -l transform-timeout -d 'Wait so long for its answer to a batch' -r
complete -c khose -l transform-retries -d 'Give it a batch that failed so often again' -r
complete -c khose -l filter -d 'Give records to this command, a line each, and deliver the lines that it prints' -r
complete -c khose -l jq -d 'Deliver what this jq expression makes of each record' -r
complete -c khose -l partition-query -d 'Make partition keys with this jq expression: an object, as \'{country: .geo.country}\'' -r
complete -c khose -s o -l output -d 'Format of objects: raw, lines, ndjson, csv, tsv, parquet, arrow or arrow-stream [default: by the file\'s name, else ndjson]' -r -f -a "raw\t''
lines\t''
ndjson\t''
csv\t''
tsv\t''
parquet\t''
arrow\t''
arrow-stream\t''"
complete -c khose -l compression -d 'Compress objects: none, gzip[:1-9], zip[:1-9], snappy, hadoop-snappy, zstd[:1-22] or lz4 [default: by the file\'s name, else none; of arrow lz4]' -r -f -a "none\t''
gzip\t''
zip\t''
snappy\t''
hadoop-snappy\t''
zstd\t''
lz4\t''"
complete -c khose -l prefix -d 'What names of objects begin with, as \'dt=!{timestamp:yyyy-MM-dd}/\' [default: !{timestamp:yyyy/MM/dd/HH/}]' -r
complete -c khose -l errors -d 'Where failed records go: a prefix at the destination, or a place of its own [default: _errors/!{firehose:error-output-type}/; for a service STREAM/rejects/khose/]' -r
complete -c khose -l time-zone -d 'The time zone of timestamps in names' -r
complete -c khose -l extension -d 'What names of objects end with [default: what the format and the compression have]' -r
complete -c khose -l buffer-size -d 'Deliver an object, or a batch, when it has this size, as it will lie there [default: 128MiB; of services 5MiB]' -r
complete -c khose -l buffer-interval -d 'Deliver an object when it is so old (0: at once)' -r
complete -c khose -l partitions-max -d 'Keep so many partitions open; when there are more the oldest is delivered' -r
complete -c khose -l memory -d 'Hold about this much of open objects in memory' -r
complete -c khose -l backup -d 'Keep copies of source records, as they were read: all=URL, or failed=URL (the same as --errors URL)' -r
complete -c khose -l schema -d 'The columns: a file (DDL or JSON), or text as \'id bigint, at timestamp\' [default: inferred, and kept at the destination]' -r
complete -c khose -l map -d 'Fill this column from that key; may be repeated' -r
complete -c khose -l timestamp-format -d 'Read timestamps as this: a Java pattern, seconds or millis; may be repeated [default: RFC 3339 and the like, and epoch numbers by their size]' -r
complete -c khose -l parquet-compression -d 'Compress Parquet\'s pages: none, snappy, gzip[:1-9], zstd[:1-22] or lz4 [default: zstd:1; with --parquet-compat snappy]' -r -f -a "none\t''
snappy\t''
gzip\t''
zstd\t''
lz4_raw\t''"
complete -c khose -l row-group-size -d 'End Parquet\'s row groups at this size, from 64KiB on [default: 128MiB]' -r
complete -c khose -l page-size -d 'End Parquet\'s pages at this size, before compression, 1KiB to 1GiB [default: 1MiB]' -r
complete -c khose -l no-dictionary -d 'Write no dictionaries into Parquet, or none for this column; may be repeated' -r
complete -c khose -l bloom -d 'Write a Bloom filter for this column of Parquet; may be repeated [default rate of false positives: 0.01]' -r
complete -c khose -l sort -d 'Sort the rows of each of Parquet\'s row groups by this column; may be repeated' -r
complete -c khose -l csv-null -d 'Write this for null in CSV [default: nothing]' -r
complete -c khose -l csv-quote -d 'Quote in CSV: necessary, always, nonnumeric or never [default: necessary]' -r -f -a "necessary\t''
always\t''
nonnumeric\t''
never\t''"
complete -c khose -l retry-duration -d 'Try a destination that fails again for so long, up to 24h [default: 5m; of Redshift 1h]' -r
complete -c khose -l timeout -d 'Wait so long for an answer over HTTP, 1s to 1h; for Splunk\'s acknowledgements 3m or longer' -r
complete -c khose -l access-key-file -d 'The file with the access key of an HTTP endpoint, Splunk\'s token, or what --auth says' -r -F
complete -c khose -l common -d 'Give an HTTP endpoint this common attribute; may be repeated' -r
complete -c khose -l index-rotation -d 'Begin a new index each hour, day, week or month of arrival, in UTC [default: none]' -r -f -a "none\t''
hour\t''
day\t''
week\t''
month\t''"
complete -c khose -l index -d 'OpenSearch\'s index, where it is not the last part of the URL' -r
complete -c khose -l auth -d 'What the file of --access-key-file holds for OpenSearch: basic (user:password), api-key or bearer [default: basic]' -r -f -a "basic\t''
api-key\t''
bearer\t''"
complete -c khose -l ca-file -d 'Trust these certificates (PEM), too, over HTTP' -r -F
complete -c khose -l plan -d 'Tell what would be delivered, and write nothing'
complete -c khose -l verify -d 'Compare the destination with the stream: counts, ranges, gaps, duplicates'
complete -c khose -l quick -d 'With --verify: do not count the rows of the objects'
complete -c khose -l replay -d 'Deliver failed records again, once: SOURCE is where an error output lies'
complete -c khose -l again -d 'With --replay: also records that have failed again in a replay with the same options'
complete -c khose -s f -l follow -d 'Go on when the end is reached: wait for more'
complete -c khose -l if-changed -d 'Leave a file that would not change as it is, its time included: for a target of make'
complete -c khose -l tee -d 'Pass what is read on to standard output, a line for each record'
complete -c khose -s q -l quiet -d 'Print nothing but data and errors'
complete -c khose -l cloudwatch -d 'Take the messages out of CloudWatch Logs records (with --decompress gzip)'
complete -c khose -l case-sensitive -d 'Tell keys apart that differ in case only'
complete -c khose -l dots-to-underscores -d 'Write dots in keys as underscores'
complete -c khose -l coerce -d 'Let columns of text take any value, and columns of numbers text that spells one'
complete -c khose -l parquet-compat -d 'Write Parquet that Spark 3 and old Hive read'
complete -c khose -l no-header -d 'Write CSV without a header'
complete -c khose -l gzip -d 'Compress requests over HTTP with gzip'
complete -c khose -l add-timestamp -d 'Give OpenSearch\'s documents without @timestamp their arrival time'
complete -c khose -l splunk-raw -d 'Send records to Splunk as lines of text, where they are no events'
complete -c khose -l splunk-no-ack -d 'Do not wait for Splunk\'s acknowledgements: a crash of the indexer may lose what it has received'
complete -c khose -s h -l help -d 'Print help'
complete -c khose -s V -l version -d 'Print version'
