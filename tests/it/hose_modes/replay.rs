//! `khose --replay` brings each failed record into the delivery, once.

use std::fs;

use super::{FAILPOINTS, Lake, Verified};
use crate::receivers::http::{Collector, Fault};
use crate::receivers::{Receiver, Reply};
use crate::servers;

/// A lake with ten records in it, and these failed ones: `{"n":0}` to `{"n":9}`, which have no `i`.
fn failed() -> Lake {
    let lake = Lake::new();
    lake.put(0, 10);
    let lines: String = (0..10).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    lake.put_lines(&lines);
    lake.deliver(&["--jq", "if .i then . else error(\"no i\") end"]).done().expect_status(1);
    assert_eq!(lake.lines().len(), 10);
    lake
}

fn replay(lake: &Lake, args: &[&str]) -> crate::workdir::Tool {
    lake.khose(&["--replay", "lake/_errors/", "lake/"]).args(args)
}

/// The mended records that are there, in order.
fn mended(lake: &Lake) -> Vec<String> {
    lake.lines().into_iter().filter(|line| line.contains("\"n\"")).collect()
}

fn all() -> Vec<String> {
    (0..10).map(|n| format!("{{\"n\":{n}}}")).collect()
}

#[test]
fn what_was_mended_is_delivered_once() {
    let lake = failed();
    replay(&lake, &[]).ok();
    assert_eq!(mended(&lake), all());
    lake.verify(&[]).expect_well();
    // What was replayed may be thrown away.
    let kept = lake.wd.join("kept");
    fs::rename(lake.wd.join("lake/_errors"), &kept).expect("a directory");
    lake.verify(&[]).expect_well();
    fs::rename(&kept, lake.wd.join("lake/_errors")).expect("a directory");
    for _ in 0..2 {
        // Other options do not bring it back.
        replay(&lake, &["--jq", ".n += 100"]).ok();
        assert_eq!(mended(&lake), all());
    }
    lake.verify(&[]).expect_well();
    // What fails later is new.
    lake.put_lines("{\"n\":5}\n");
    lake.deliver(&["--jq", "if .i then . else error(\"no i\") end"]).done().expect_status(1);
    replay(&lake, &[]).ok();
    assert_eq!(mended(&lake).len(), 11);
    lake.verify(&[]).expect_well();
}

#[test]
fn a_killed_replay_is_completed_and_not_doubled() {
    let partitions = ["--prefix", "n=!{partitionKeyFromQuery:n}/", "--partitions-max", "3"];
    for failpoint in
        FAILPOINTS.into_iter().chain(["catalog.after", "plan.after:2", "deliver.after:2", "commit.after:2"])
    {
        // Half of it fails again, so that both outputs are looked at.
        let mend = ["--jq", "if .n % 2 == 0 then . else error(\"odd\") end"];
        let args = [&partitions[..], &mend].concat();
        let lake = failed();
        let done = replay(&lake, &args).env("KPIPE_FAILPOINT", failpoint).done();
        assert!(done.status == 137 || failpoint.ends_with(":2"), "{failpoint}: {}", done.stderr);
        lake.verify(&[]).expect_well();
        let done = replay(&lake, &args).done();
        assert!(done.status < 2, "{failpoint}: {}", done.stderr);
        let even: Vec<String> = (0..5).map(|n| format!("{{\"n\":{}}}", 2 * n)).collect();
        assert_eq!(mended(&lake), even, "{failpoint}");
        let errors: usize = lake
            .files("lake")
            .iter()
            .filter(|(name, _)| name.starts_with("_errors/") && name.contains("/replay-"))
            .map(|(_, path)| fs::read_to_string(path).expect("lines").lines().count())
            .sum();
        assert_eq!(errors, 5, "{failpoint}");
        // Left alone under these options, and taken up under others.
        replay(&lake, &args).ok();
        assert_eq!(mended(&lake), even, "{failpoint}");
        replay(&lake, &partitions).ok();
        assert_eq!(mended(&lake), all(), "{failpoint}");
        lake.verify(&[]).expect_well();
    }
}

#[test]
fn a_killed_replay_may_be_mended_in_between() {
    for failpoint in ["deliver.after", "errors.after", "commit.before"] {
        let lake = failed();
        let worse = ["--transform", "sh -c 'exit 1'", "--transform-retries", "0"];
        replay(&lake, &[]).env("KPIPE_FAILPOINT", failpoint).done().expect_status(137);
        // The same batch by other means: nothing of the first attempt stays.
        let done = replay(&lake, &worse).done();
        if done.status == 1 {
            assert_eq!(mended(&lake), Vec::<String>::new(), "{failpoint}");
        }
        replay(&lake, &[]).done();
        assert_eq!(mended(&lake), all(), "{failpoint}");
        lake.verify(&[]).expect_well();
    }
}

#[test]
fn records_are_chosen_by_type_and_time() {
    let lake = Lake::new();
    lake.put_lines("{\"n\":1}\nno json\n{\"n\":2,\"bad\":1}\n");
    // One fails in a stage, one when it is converted.
    lake.deliver(&["--jq", "if .bad then error(\"bad\") else . end"]).done().expect_status(1);
    let errors = lake.files("lake").into_keys().filter(|name| name.starts_with("_errors/")).count();
    assert!(errors >= 1);
    replay(&lake, &["--since", "2100-01-01T00:00:00Z"]).ok();
    replay(&lake, &["--error-type", "splunk-failed"]).ok();
    assert_eq!(lake.lines().len(), 1);
    replay(&lake, &["--error-type", "processing-failed", "--since", "-1h", "-o", "lines"]).ok();
    assert_eq!(lake.lines().len(), 3);
    replay(&lake, &["-o", "lines"]).ok();
    assert_eq!(lake.lines().len(), 3);
    replay(&lake, &["--error-type", "splunk-faild"]).fails().expect_stderr_has("splunk-failed");
}

#[test]
fn what_is_passed_over_within_an_object_stays() {
    let lake = Lake::new();
    let line = |n: u64, at: u64| {
        let raw = base64(&format!("{{\"n\":{n}}}"));
        format!("{{\"errorCode\":\"Lambda.X\",\"attemptEndingTimestamp\":{at},\"rawData\":\"{raw}\"}}\n")
    };
    // The service's own form, the newest first.
    let text: String = (0..10).map(|n| line(n, 1_700_000_000_000 - n * 1000)).collect();
    lake.wd.write("errors/2023/11/14/22/service-1-2023", text);
    let run = |args: &[&str]| lake.khose(&["--replay", "errors", "lake/"]).args(args);
    for (since, count) in
        [("2023-11-14T22:13:18Z", 3), ("2023-11-14T22:13:15Z", 6), ("2023-11-14T22:13:15Z", 6)]
    {
        run(&["--since", since]).ok();
        assert_eq!(mended(&lake).len(), count, "{since}");
    }
    run(&["--error-type", "splunk-failed"]).ok();
    assert_eq!(mended(&lake).len(), 6);
    run(&[]).ok();
    assert_eq!(mended(&lake), all());
    run(&[]).ok();
    assert_eq!(mended(&lake), all());
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(text)
}

#[test]
fn what_is_no_failed_record_is_told_and_stays() {
    let lake = failed();
    lake.wd.write("lake/_errors/README", "not a record\n");
    let (name, path) = lake
        .files("lake")
        .into_iter()
        .find(|(name, _)| name.starts_with("_errors/processing"))
        .expect("failed records");
    let mut text = fs::read_to_string(&path).expect("lines");
    text.push_str("{\"torn\":\n");
    fs::write(&path, text).expect("lines");
    let done = replay(&lake, &[]).done().expect_status(1);
    assert!(done.stderr.contains("README") && done.stderr.contains(&name[8..]), "{}", done.stderr);
    assert_eq!(mended(&lake), all());
    replay(&lake, &[]).done().expect_status(1);
    assert_eq!(mended(&lake), all());
    lake.khose(&["--replay", "lake/", "lake/"]).fails().expect_stderr_has("_errors/");
}

#[test]
fn failures_of_an_unfinished_batch_wait() {
    let lake = Lake::new();
    lake.put_lines("{\"n\":1}\n{\"bad\":1}\n");
    let jq = ["--jq", "if .bad then error(\"bad\") else . end"];
    lake.deliver(&jq).env("KPIPE_FAILPOINT", "errors.after").done().expect_status(137);
    let run = || lake.wd.run("khose").args(["--replay", "lake/_errors/", "lake/"]);
    run().ok().expect_stderr_has("not finished");
    assert_eq!(lake.lines(), ["{\"n\":1}"]);
    // The batch is done again, and by then the record is in order.
    lake.deliver(&["--jq", "."]).ok();
    run().ok();
    assert_eq!(lake.lines(), ["{\"bad\":1}", "{\"n\":1}"]);
    lake.verify(&[]).expect_well();
}

#[test]
fn names_and_errors_tell_where_a_record_first_stood() {
    let lake = failed();
    // Half of it fails again.
    let jq =
        ["--jq", "if .n % 2 == 0 then . else error(\"odd\") end", "--prefix", "!{shard}/!{timestamp:yyyy}/"];
    replay(&lake, &jq).done().expect_status(1);
    let stream = lake.wd.run("kget").args(["clicks", "-o", "json"]).ok();
    let places: Vec<(String, String)> = stream
        .lines()
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|record| {
            (record["sequenceNumber"].as_str().expect("a number").to_owned(), record["json"].to_string())
        })
        .collect();
    let mut seen = 0;
    for (name, path) in lake.files("lake") {
        let text = fs::read_to_string(path).expect("lines");
        if name.starts_with("_errors/") && name.contains("/replay-") {
            for line in text.lines() {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                let place =
                    (line["sequenceNumber"].as_str().expect("a number").to_owned(), line["json"].to_string());
                assert!(places.contains(&place), "{line:#}");
                assert_eq!(line["stream"], "clicks");
                assert!(
                    line["error"]["delivery"].as_str().expect("a name").starts_with("clicks."),
                    "{line:#}"
                );
                seen += 1;
            }
        }
        if name.contains("replay-") && name.starts_with("shardId-") {
            for line in text.lines() {
                let out = lake.wd.run("kget").args(["clicks", "--shard", &name[..20]]).ok();
                assert!(out.text().contains(line), "{name}: {line}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 10);
}

#[test]
fn columns_that_have_grown_take_what_did_not_fit() {
    let lake = Lake::new();
    lake.put(0, 3);
    lake.deliver(&["-o", "parquet"]).ok();
    lake.put_lines("{\"i\":7,\"s\":\"y\",\"late\":1}\n{\"i\":\"eight\",\"s\":\"z\"}\n");
    lake.deliver(&["-o", "parquet"]).done().expect_status(1);
    // Still does not fit.
    replay(&lake, &["-o", "parquet"]).done().expect_status(1);
    replay(&lake, &["-o", "parquet"]).ok();
    replay(&lake, &["-o", "parquet", "--schema", "i string, s string, late bigint"]).ok();
    let found = lake.verify(&[]).expect_well();
    assert_eq!((found.objects("rows"), found.objects("ofOthers")), (4, 1));
}

#[test]
fn two_at_once_and_other_destinations() {
    let lake = failed();
    let first = replay(&lake, &["--transform", "sh -c 'sleep 2; exec cat'"]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(700));
    lake.wd.run("khose").args(["--replay", "lake/_errors/", "lake/"]).ok().expect_stderr_has("another khose");
    first.kill();
    replay(&lake, &[]).ok();
    assert_eq!(mended(&lake), all());
    // Another stream has no ledger, which then lies with the failed records.
    lake.wd.run("kshard").args(["create", "fixed", "--quiet"]).ok();
    for failpoint in ["plan.after", "deliver.after", "commit.after", "none"] {
        let done = lake
            .khose(&["--replay", "lake/_errors/", "kpipe:fixed"])
            .env("KPIPE_FAILPOINT", failpoint)
            .done();
        assert!([0, 137].contains(&done.status), "{}", done.stderr);
    }
    let out = lake.wd.run("kget").arg("fixed").ok();
    let mut lines = out.lines();
    lines.sort_unstable();
    assert_eq!(lines, all());
}

#[test]
fn a_bucket_is_replayed() {
    let Some(s3) = servers::s3() else { return };
    let place = format!("s3://{}/lake/", s3.bucket());
    let errors = format!("{place}_errors/");
    let lake = Lake::new();
    lake.put_lines(&(0..10).map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>());
    let run = |args: &[&str]| {
        s3.variables().into_iter().fold(lake.khose(args), |tool, (name, value)| tool.env(&name, value))
    };
    run(&["clicks", &place, "--jq", "if .n < 3 then . else error(\"x\") end"]).done().expect_status(1);
    let args = ["--replay", &errors, &place];
    for failpoint in ["catalog.after", "deliver.after", "none", "none"] {
        run(&args).env("KPIPE_FAILPOINT", failpoint).done();
    }
    let done = run(&["--verify", "clicks", &place, "--log", "json"]).ok();
    let found: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let objects = &found["report"]["objects"];
    assert_eq!((&objects["rows"], &objects["ofOthers"]), (&3.into(), &1.into()));
    let ledger = run(&["--replay", &errors, &place, "--log", "json"]).ok();
    assert!(!ledger.stderr.contains("batch"), "{}", ledger.stderr);
}

#[test]
fn large_objects_are_replayed_in_batches_and_killed_between_them() {
    let lake = Lake::new();
    let text = "x".repeat(150);
    let lines: String = (0..12_000).map(|n| format!("{{\"n\":{n},\"t\":\"{text}\"}}\n")).collect();
    lake.put_lines(&lines);
    lake.deliver(&["--jq", "error(\"no\")"]).done().expect_status(1);
    let mut args =
        vec!["--buffer-size", "100KiB", "--prefix", "!{partitionKeyFromQuery:n}/", "--partitions-max", "2"];
    args.extend(["--partition-query", "{n: (.n % 3)}"]);
    let mut killed = 0;
    for failpoint in ["catalog.after:2", "deliver.after:2", "commit.after", "plan.after", "none"] {
        let done = replay(&lake, &args).env("KPIPE_FAILPOINT", failpoint).done();
        killed += usize::from(done.status == 137);
        lake.verify(&[]).expect_well();
    }
    assert!(killed >= 2, "{killed}");
    replay(&lake, &args).ok();
    let mut numbers: Vec<u64> = mended(&lake)
        .iter()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["n"].as_u64().expect("a number")
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..12_000).collect::<Vec<_>>());
}

#[test]
fn an_endpoint_takes_again_what_it_has_refused() {
    let receiver = Receiver::start(Collector::failing([Fault::Lost(Reply::text(400, "no"))]));
    let url = receiver.url("/ingest");
    let lake = Lake::new();
    let records = || {
        let collector = receiver.service.lock().expect("no thread died");
        let mut records: Vec<String> =
            collector.records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect();
        records.sort_unstable();
        records
    };
    lake.put_lines(&(0..10).map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>());
    let args = ["clicks", &url, "--errors", "./errors/", "--retry-duration", "0s"];
    lake.khose(&args).done().expect_status(1);
    assert_eq!(records(), Vec::<String>::new());
    let verified = lake.khose(&["--verify"]).args(args).args(["--log", "json"]).done();
    let found = Verified::of(&verified).expect_well();
    assert_eq!((found.shards("compared"), found.shards("undelivered")), (10, 0));
    for _ in 0..2 {
        lake.khose(&["--replay", "./errors/", &url]).ok();
        assert_eq!(records(), all());
    }
}
