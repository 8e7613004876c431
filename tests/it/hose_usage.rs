//! khose and the person who calls it: what it refuses before it touches anything, how it ends when it is stopped, what
//! it keeps in the file of its metrics.

use std::time::{Duration, Instant};

use crate::workdir::Workdir;

/// Each ends with status 2 and these words on one line, and leaves the directory as it was.
#[test]
fn what_makes_no_sense_is_refused_before_anything_is_made() {
    let wd = Workdir::new();
    wd.sh("kput --create clicks").stdin("{\"id\":1}\n").ok();
    for (call, words) in [
        ("", "no source and no destination"),
        ("clicks", "only clicks: give a source, and then a destination"),
        ("clicks lake", "./lake/ for a directory, kpipe:lake for a stream"),
        ("nothing lake/", "there is no stream"),
        ("clicks - lake/", "standard input is a source of its own"),
        ("clicks clicks x.csv", "is one file, and takes one source"),
        ("clicks s3://key:secret@bucket/", "AWS_ACCESS_KEY_ID"),
        ("clicks 'postgresql://me:secret@host/db?table=x'", "~/.pgpass"),
        ("clicks lake/ -o orc", "ORC is not written"),
        ("clicks lake/ -o parquet --compression gzip", "--parquet-compression gzip"),
        ("clicks lake/ --prefix '!{foo:bar}'", "no namespace `foo`"),
        ("clicks lake/ --prefix '!{partitionKeyFromTransform:a}/'", "there is no --transform"),
        ("clicks lake/ --partition-query '{a: .x}'", "--prefix does not use"),
        ("clicks lake/ --jq '.a |'", "--jq: "),
        ("clicks lake/ --filter ' '", "a command is missing"),
        ("clicks lake/ --time-zone Mars/City", "no time zone `Mars/City`"),
        ("clicks lake/ --schema 'id bigint'", "ndjson has no columns"),
        ("clicks lake/ -o csv --schema 'id bigin'", "`bigin` is not a type"),
        ("clicks lake/ -o csv --bloom id", "--bloom is for parquet: the format is csv"),
        ("clicks lake/ --index-rotation day", "--index-rotation is for OpenSearch"),
        ("clicks https://host/ -o csv", "--output is for objects"),
        ("clicks lake/ --if-changed", "--if-changed is for a destination that is one file"),
        ("clicks lake/ -i csv", "--input is for standard input"),
        ("- lake/ --from -1h </dev/null", "--from is for streams"),
        ("clicks lake/ --retry-duration 25h", "0s to 1d are possible"),
        ("clicks lake/ --timeout 0", "1s to 1h are possible"),
        ("clicks lake/ --partitions-max 0", "it must be above zero"),
        ("clicks lake/ --config no.toml", "no.toml: "),
    ] {
        let done = wd.sh(&format!("khose {call}")).done().expect_status(2).expect_stderr_has(words);
        let said: Vec<&str> = done.stderr.lines().collect();
        assert!(said.len() == 1 || said[1].starts_with("try: "), "khose {call}: {said:?}");
        assert!(!done.stderr.contains("secret"), "khose {call}: {said:?}");
    }
    wd.sh("ls; ls clicks/consumers 2>/dev/null | wc -l").ok().expect_stdout("clicks\n0\n");
}

#[test]
fn options_may_stand_anywhere() {
    let wd = Workdir::new();
    wd.sh("kput --create clicks").stdin("{\"id\":1}\n").ok();
    wd.sh("khose -q clicks -o csv - --no-header").ok().expect_stdout("1\n");
}

/// Half a target of make would pass for it.
#[test]
fn a_file_is_not_written_when_its_run_is_stopped() {
    let wd = Workdir::new();
    wd.write("out.ndjson", "old\n");
    let mut khose = wd.sh("exec khose - out.ndjson --tee").spawn();
    khose.type_in("{\"id\":1}\n");
    khose.read_until("1}\n");
    khose.signal("TERM");
    khose.wait().expect_status(143);
    assert_eq!(wd.read("out.ndjson"), "old\n");
    wd.sh("khose -q - out.ndjson").stdin("{\"id\":1}\n").ok();
    assert_eq!(wd.read("out.ndjson"), "{\"id\":1}\n");
}

/// The age of what is not delivered is what alarms are made of: it must grow while nobody takes a batch.
#[test]
fn data_grow_old_while_their_destination_is_away() {
    let wd = Workdir::new();
    wd.sh("kput --create clicks").stdin("{\"id\":1}\n").ok();
    let call = "exec khose clicks http://127.0.0.1:1/ -f --buffer-interval 0 --metrics khose.prom";
    let khose = wd.sh(call).spawn();
    let begun = Instant::now();
    let freshness = || {
        let text = std::fs::read_to_string(wd.join("khose.prom")).ok()?;
        let line = text.lines().find(|line| line.starts_with("khose_data_freshness_seconds{"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    while freshness().is_none_or(|seconds| seconds < 2.0) {
        assert!(begun.elapsed() < Duration::from_secs(50), "it says {:?}", freshness());
        std::thread::sleep(Duration::from_millis(100));
    }
    khose.kill();
}
