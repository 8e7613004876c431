//! `khose --verify` finds what is wrong, and nothing where nothing is.

use std::fs;

use kpipe::codec::kpl::{UserRecord, aggregate};
use kpipe::log::{Batch, Codec, Fresh};

use super::{FAILPOINTS, Lake, Verified};
use crate::fixture::Source;
use crate::servers;
use crate::workdir::Workdir;

#[test]
fn a_clean_delivery_verifies_in_every_format() {
    for (format, more) in [
        ("ndjson", &[][..]),
        ("ndjson", &["--compression", "gzip"]),
        ("csv", &[]),
        ("csv", &["--compression", "zip"]),
        ("tsv", &["--compression", "zstd"]),
        ("csv", &["--csv-quote", "never", "--no-header"]),
        ("parquet", &[]),
        ("arrow", &[]),
        ("lines", &["--compression", "hadoop-snappy", "--extension", ".x"]),
    ] {
        let lake = Lake::new();
        let args = [&["-o", format, "--prefix", "s=!{partitionKeyFromQuery:s}/"], more].concat();
        for first in [0, 40] {
            lake.put_lines(
                &(first..first + 40)
                    .map(|i| format!("{{\"i\":{i},\"s\":\"{}\",\"t\":\"a,\\n\\\"b\\\\\"}}\n", i % 3))
                    .collect::<String>(),
            );
            lake.deliver(&args).ok();
        }
        let found = lake.verify(&args).expect_well();
        assert_eq!(found.json["report"]["batches"], 2, "{format}");
        assert_eq!((found.objects("committed"), found.objects("whole")), (6, 6), "{format}");
        assert_eq!((found.objects("counted"), found.objects("rows")), (6, 80), "{format}");
        assert_eq!((found.shards("compared"), found.shards("delivered")), (80, 80), "{format}");
        assert_eq!(found.shards("undelivered"), 0);
        // What has come since is not missing, but not there yet.
        lake.put(100, 7);
        let found = lake.verify(&[&args[..], &["--quick"]].concat()).expect_well();
        assert_eq!((found.shards("undelivered"), found.objects("counted")), (7, 0));
    }
}

#[test]
fn a_person_can_read_it() {
    let lake = Lake::new();
    lake.put(0, 30);
    lake.deliver(&[]).ok();
    let done = lake.khose(&["--verify", "clicks", "lake/"]).ok();
    let text = done.text();
    for part in [
        "30 records in objects",
        "1 committed, 1 there and whole",
        "30 rows in 1 object",
        "1 batch agree",
        "shardId-000000000001",
        "nothing is missing and nothing is there twice",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let object = lake.objects().pop().expect("an object");
    fs::remove_file(lake.wd.join("lake").join(&object)).expect("a file");
    let done = lake.khose(&["--verify", "clicks", "lake/"]).done().expect_status(1);
    assert!(
        done.text().contains(&format!("{object}: it is missing (batch 1, 30 records)")),
        "{}",
        done.text()
    );
}

#[test]
fn what_is_wrong_with_objects_is_found() {
    let lake = Lake::new();
    for first in [0, 100, 200] {
        lake.put(first, 50);
        lake.deliver(&[]).ok();
    }
    lake.verify(&[]).expect_well();
    let objects = lake.objects();
    let path = |number: usize| lake.wd.join("lake").join(&objects[number]);
    // Somebody else's files are nobody's business.
    lake.wd.write("lake/README.md", "x");
    lake.wd.write("lake/2020/part-0000-0f8fad5b-d9cb-469f-a165-70867728950e.parquet", "x");
    // The service's own objects have other ids.
    lake.wd.write("lake/2020/clicks-1-2020-01-02-03-04-05-0f8fad5b-d9cb-469f-a165-70867728950e", "x");
    assert_eq!(lake.verify(&[]).expect_well().objects("foreign"), 3);

    let copy =
        lake.wd.join("lake/2020/clicks-1-2020-01-02-03-04-05-0f8fad5b-d9cb-869f-a165-70867728950e.ndjson");
    fs::copy(path(0), &copy).expect("a copy");
    lake.verify(&[]).expect(&["object-unknown"]);
    fs::remove_file(&copy).expect("a file");

    let text = fs::read(path(1)).expect("an object");
    fs::write(path(1), &text[..text.len() - 9]).expect("an object");
    lake.verify(&[]).expect(&["object-size"]);
    // As many bytes, one line less.
    let mut joined = text.clone();
    let at = joined.iter().position(|&byte| byte == b'\n').expect("a line");
    joined[at] = b' ';
    fs::write(path(1), &joined).expect("an object");
    lake.verify(&[]).expect(&["object-rows"]);
    lake.verify(&["--quick"]).expect_well();
    fs::write(path(1), &text).expect("an object");

    fs::remove_file(path(2)).expect("an object");
    lake.verify(&[]).expect(&["object-missing"]);
}

#[test]
fn an_object_that_cannot_be_read_is_found() {
    let lake = Lake::new();
    lake.put(0, 50);
    lake.deliver(&["-o", "parquet"]).ok();
    let path = lake.wd.join("lake").join(&lake.objects()[0]);
    let mut bytes = fs::read(&path).expect("an object");
    let len = bytes.len();
    bytes[len - 4..].copy_from_slice(b"XXXX");
    fs::write(&path, bytes).expect("an object");
    lake.verify(&[]).expect(&["object-unreadable"]);
}

#[test]
fn what_is_wrong_with_the_ledger_is_found() {
    let lake = Lake::new();
    for first in [0, 100, 200] {
        lake.put(first, 50);
        lake.deliver(&[]).ok();
    }
    let commit = |number: u64| lake.ledger(&format!("{number:020}.json"));
    let second = fs::read_to_string(commit(2)).expect("a commit");
    fs::remove_file(commit(2)).expect("a commit");
    lake.verify(&[]).expect(&["commit-missing", "object-unknown"]);

    // The same object in two commits.
    let mut entry: serde_json::Value = serde_json::from_str(&second).expect("JSON");
    let first: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(commit(1)).expect("a commit")).expect("JSON");
    entry["objects"].as_array_mut().expect("a list").push(first["objects"][0].clone());
    fs::write(commit(2), entry.to_string()).expect("a commit");
    assert!(lake.verify(&[]).kinds().contains(&"object-twice".to_owned()));

    // Records that were passed over: the totals say so.
    let mut entry: serde_json::Value = serde_json::from_str(&second).expect("JSON");
    entry["totals"]["records"] = 90.into();
    fs::write(commit(2), entry.to_string()).expect("a commit");
    lake.verify(&[]).expect(&["records-doubled", "records-missing"]);

    // A batch that began where the first did.
    let mut entry: serde_json::Value = serde_json::from_str(&second).expect("JSON");
    for shard in ["0", "1"] {
        entry["positions"][shard]["to"] = 0.into();
    }
    fs::write(commit(2), entry.to_string()).expect("a commit");
    let kinds = lake.verify(&[]).kinds();
    assert!(kinds.contains(&"commit-backwards".to_owned()), "{kinds:?}");
    fs::write(commit(2), second).expect("a commit");
    lake.verify(&[]).expect_well();
}

#[test]
fn an_unfinished_batch_is_told_and_nothing_is_wrong() {
    for failpoint in FAILPOINTS {
        let lake = Lake::new();
        let args = ["--prefix", "s=!{partitionKeyFromQuery:s}/"];
        lake.put(0, 10);
        lake.deliver(&args).ok();
        lake.put(10, 10);
        lake.put_lines("no json\n");
        lake.deliver(&args).env("KPIPE_FAILPOINT", failpoint).done().expect_status(137);
        let found = lake.verify(&args).expect_well();
        let is_planned =
            ["plan.after", "deliver.after", "errors.after", "commit.before"].contains(&failpoint);
        assert_eq!(found.json["report"]["unfinished"].is_object(), is_planned, "{failpoint}");
        if failpoint == "deliver.after" {
            assert_eq!(found.json["report"]["unfinished"]["there"], 10);
        }
        lake.deliver(&args).done();
        let found = lake.verify(&args).expect_well();
        assert!(found.json["report"]["unfinished"].is_null());
        assert_eq!((found.objects("rows"), found.shards("delivered")), (20, 21), "{failpoint}");
    }
}

#[test]
fn an_attempt_with_other_settings_leaves_nothing_of_those_before() {
    let lake = Lake::new();
    lake.put(0, 10);
    lake.put_lines("no json\n");
    for args in
        [&[][..], &["-o", "csv"], &["--prefix", "x/", "--errors", "_other/!{firehose:error-output-type}/"]]
    {
        lake.deliver(args).env("KPIPE_FAILPOINT", "errors.after").done().expect_status(137);
        lake.verify(args).expect_well();
    }
    lake.deliver(&["-o", "tsv"]).done().expect_status(1);
    let found = lake.verify(&["-o", "tsv"]).expect_well();
    assert_eq!((found.objects("committed"), found.objects("rows")), (1, 10));
}

#[test]
fn left_out_and_taken_apart_records_are_told_for_what_they_are() {
    let lake = Lake::new();
    lake.put(0, 20);
    lake.deliver(&["--jq", "select(.i % 4 != 0)"]).ok();
    let found = lake.verify(&["--jq", "select(.i % 4 != 0)"]).expect_well();
    assert_eq!(found.json["report"]["totals"]["dropped"], 5);
    assert_eq!((found.shards("compared"), found.shards("delivered")), (20, 15));
    lake.put(20, 10);
    lake.deliver(&["--jq", "., ."]).ok();
    let found = lake.verify(&[]).expect_well();
    assert_eq!(
        (&found.json["report"]["compared"], &found.json["report"]["takenApart"]),
        (&1.into(), &1.into())
    );
    assert_eq!(found.objects("rows"), 35);
}

#[test]
fn records_of_aggregates_are_counted_one_by_one() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    let lake = Lake { wd };
    let users: Vec<String> = (0..5).map(|i| format!("{{\"i\":{i}}}")).collect();
    let payload = aggregate(users.iter().map(|user| UserRecord {
        key: "k",
        explicit_hash: None,
        data: user.as_bytes(),
    }));
    lake.put(10, 3);
    let mut batch = Batch::new(None);
    batch.push(Fresh { payload: &payload, ..Fresh::default() });
    let mut writer = source.writer(0);
    writer.append(&[batch.draft(Codec::None, None)]).expect("an append");
    writer.pause().expect("a clean close");
    lake.put(20, 3);
    let args = ["--prefix", "i=!{partitionKeyFromQuery:i}/"];
    lake.deliver(&args).ok();
    let found = lake.verify(&args).expect_well();
    assert_eq!((found.shards("compared"), found.objects("rows")), (11, 11));
}

#[test]
fn objects_of_other_deliveries_are_no_strays() {
    let lake = Lake::new();
    lake.put(0, 10);
    lake.deliver(&[]).ok();
    lake.deliver(&["--consumer", "other", "-o", "csv"]).ok();
    let found = lake.verify(&[]).expect_well();
    assert_eq!((found.objects("committed"), found.objects("ofOthers")), (1, 1));
    lake.verify(&["--consumer", "other", "-o", "csv"]).expect_well();
    // The same records once more are objects of their own.
    lake.deliver(&["--consumer", "third"]).ok();
    let found = lake.verify(&[]).expect_well();
    assert_eq!((found.objects("committed"), found.objects("ofOthers")), (1, 2));
    // A ledger that was copied names what another does.
    lake.wd.sh("cp -r lake/_khose/clicks.third lake/_khose/clicks.copied").ok();
    lake.verify(&["--consumer", "third"]).expect(&["object-twice"]);
    let done = lake.khose(&["--verify", "clicks", "lake/", "--consumer", "fourth"]).fails();
    assert!(done.stderr.contains("nothing has been delivered") && done.stderr.contains("clicks.other"));
    lake.khose(&["--verify", "clicks", "lake/x.csv"]).fails();
}

#[test]
fn the_error_output_is_looked_after_too() {
    for errors in
        [&[][..], &["--errors", "elsewhere/!{firehose:error-output-type}/"], &["--errors", "./bad/"]]
    {
        let lake = Lake::new();
        lake.put(0, 10);
        lake.put_lines("no json\nstill none\n");
        lake.deliver(errors).done().expect_status(1);
        let found = lake.verify(errors).expect_well();
        let sums = &found.json["report"]["errors"];
        assert_eq!((&sums["committed"], &sums["rows"]), (&1.into(), &2.into()), "{errors:?}");
        let dir = if errors.last() == Some(&"./bad/") { "bad" } else { "lake" };
        let files = lake.files(dir);
        let (_, path) = files.iter().find(|(name, _)| name.contains("-failed/")).expect("an error object");
        fs::remove_file(path).expect("a file");
        lake.verify(errors).expect(&["object-missing"]);
    }
}

#[test]
fn a_place_without_a_stream_is_verified_by_its_ledger() {
    let lake = Lake::new();
    lake.put(0, 12);
    lake.wd.sh("kget clicks -o json | khose --quiet - lake/ -i json").ok();
    let done = lake.khose(&["--verify", "-", "lake/", "--log", "json"]).done();
    let found = Verified::of(&done).expect_well();
    assert_eq!((found.objects("whole"), found.objects("rows")), (1, 12));
}

#[test]
fn another_stream_is_compared_by_the_ledger() {
    let lake = Lake::new();
    lake.wd.run("kshard").args(["create", "copy", "--quiet"]).ok();
    lake.put(0, 12);
    lake.khose(&["clicks", "kpipe:copy"]).ok();
    let done = lake.khose(&["--verify", "clicks", "kpipe:copy", "--log", "json"]).done();
    let found = Verified::of(&done).expect_well();
    assert!(found.json["report"]["objects"].is_null());
    assert_eq!((found.shards("compared"), found.shards("delivered")), (12, 12));
    lake.khose(&["--verify", "clicks", "kpipe:other"]).fails();
}

#[test]
fn what_retention_has_removed_is_beyond_comparison() {
    let wd = Workdir::new();
    wd.run("kshard").args(["create", "clicks", "--segment-size", "1MiB", "--quiet"]).ok();
    let lake = Lake { wd };
    for first in [0, 20_000] {
        let lines: String =
            (first..first + 20_000).map(|i| format!("{{\"i\":{i},\"s\":\"{i:080}\"}}\n")).collect();
        lake.put_lines(&lines);
        lake.deliver(&[]).ok();
    }
    lake.verify(&[]).expect_well();
    // The oldest segment goes.
    let mut segments = lake.files("clicks/shardId-000000000000");
    segments.retain(|name, _| [".log", ".seg"].iter().any(|end| name.ends_with(end)));
    assert!(segments.len() > 2, "{:?}", lake.files("clicks/shardId-000000000000"));
    lake.wd.run("kshard").args(["retention", "clicks", "--bytes", "2MiB"]).ok();
    lake.wd.run("kshard").args(["trim", "clicks"]).ok();
    let found = lake.verify(&[]).expect_well();
    assert!(found.json["report"]["beyond"].as_u64() >= Some(1), "{:#}", found.json);
}

#[test]
fn a_bucket_is_verified() {
    let Some(s3) = servers::s3() else { return };
    let place = format!("s3://{}/lake/", s3.bucket());
    let lake = Lake::new();
    let run = |args: &[&str]| {
        s3.variables().into_iter().fold(lake.khose(args), |tool, (name, value)| tool.env(&name, value))
    };
    for (first, format) in [(0, "parquet"), (100, "csv")] {
        lake.put(first, 50);
        run(&["clicks", &place, "-o", format, "--prefix", "s=!{partitionKeyFromQuery:i}/"]).ok();
    }
    let found = Verified::of(&run(&["--verify", "clicks", &place, "--log", "json"]).done()).expect_well();
    assert_eq!((found.objects("whole"), found.objects("rows")), (100, 100));
}

#[test]
fn a_delivery_may_be_at_work_meanwhile() {
    let lake = Lake::new();
    lake.put(0, 10);
    lake.deliver(&[]).ok();
    let args = ["-f", "--buffer-interval", "50ms", "--prefix", "!{partitionKeyFromQuery:s}/"];
    let running = lake.deliver(&args).spawn();
    for round in 1..20 {
        lake.put(round * 10, 10);
        lake.verify(&[]).expect_well();
    }
    running.signal("TERM");
    running.wait().expect_status(143);
    let found = lake.verify(&[]).expect_well();
    assert_eq!((found.objects("rows"), found.shards("undelivered")), (200, 0));
}
