//! kshard as it is used: sessions in a shell.

use std::sync::Arc;

use kpipe::hash::HashRange;
use kpipe::log::frame::crc32c;
use kpipe::stream::{Manifest, NewShard, NewStream, Reshard, Stream};
use kpipe::sys::clock::RealClock;
use kpipe::sys::fs::RealDisk;
use kpipe::sys::{Clock, System};
use serde_json::Value;

use crate::fixture::{self, Source};
use crate::workdir::{Done, Workdir};

fn json(done: &Done) -> Value {
    serde_json::from_slice(&done.stdout).expect("one JSON document")
}

/// `json` from standard output of a command.
fn ask(wd: &Workdir, command: &str) -> Value {
    json(&wd.sh(&format!("kshard {command} -o json")).ok())
}

fn open_shards(wd: &Workdir, stream: &str) -> Vec<String> {
    let shards = ask(wd, &format!("list {stream} --filter at-latest"));
    shards["Shards"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| s["ShardId"].as_str().expect("a name").into())
        .collect()
}

#[test]
fn a_stream_is_made_described_listed_and_deleted() {
    let wd = Workdir::new();
    let create = "kshard create clicks --shards 2 --retention 7d --compression zstd --record-limit 10MiB --tag team=web";
    wd.sh(create)
        .ok()
        .expect_stdout("")
        .expect_stderr(&format!("kshard: created {}\n", wd.join("clicks").display()));
    let page = wd.sh("kshard describe clicks").ok();
    for part in [
        "Retention:    7d",
        "Record limit: 10MiB",
        "Compression:  zstd",
        "Tags:         team=web",
        "0000..7fff",
    ] {
        assert!(page.text().contains(part), "{part} is missing:\n{}", page.text());
    }
    let summary = wd.sh("kshard describe clicks --summary").ok();
    assert!(!summary.text().contains("shardId-"));
    let found = ask(&wd, "describe clicks");
    assert_eq!(found["StreamName"], "clicks");
    assert_eq!(found["StreamStatus"], "ACTIVE");
    assert_eq!(found["RetentionPeriodHours"], 168);
    assert_eq!(found["OpenShardCount"], 2);
    assert_eq!(found["MaxRecordSizeInKiB"], 10240);
    let shard = &found["Shards"][1];
    assert_eq!(shard["ShardId"], "shardId-000000000001");
    assert_eq!(shard["HashKeyRange"]["StartingHashKey"], "170141183460469231731687303715884105728");
    assert_eq!(shard["HashKeyRange"]["EndingHashKey"], "340282366920938463463374607431768211455");
    let start = shard["SequenceNumberRange"]["StartingSequenceNumber"].as_str().expect("a number");
    assert!(start.starts_with("49") && start.len() == 56, "{start}");
    assert_eq!(shard["SequenceNumberRange"]["EndingSequenceNumber"], Value::Null);
    assert_eq!(shard["ParentShardId"], Value::Null);

    wd.sh("kshard create -q orders").ok().expect_stderr("");
    assert_eq!(ask(&wd, "list")["StreamNames"], serde_json::json!(["clicks", "orders"]));
    wd.sh("kshard list | awk '{ print $1, $2, $3 }'")
        .expect_stdout("STREAM STATUS SHARDS\nclicks ACTIVE 2\norders ACTIVE 1\n");
    // By name, wherever KPIPE_ROOT says.
    wd.run("kshard").args(["list"]).env("KPIPE_ROOT", wd.path()).in_dir("/").ok();
    wd.sh("kshard delete -q clicks && kshard delete -q --if-exists clicks && kshard list | wc -l")
        .expect_stdout("2\n");
}

#[test]
fn errors_are_one_line_and_say_what_to_try() {
    let wd = Workdir::new();
    wd.sh("kshard create -q clicks --shards 3").ok();
    let here = wd.join("clicks").display().to_string();
    wd.sh("touch a.log; mkdir d; ln -s clicks link").ok();
    for (command, part) in [
        ("create clicks".to_owned(), format!("{here} exists already\ntry: kshard describe {here}\n")),
        ("describe clikcs".to_owned(), "there is no stream at".to_owned()),
        ("describe clikcs".to_owned(), "try: did you mean `clicks`?\n".to_owned()),
        ("describe payments".to_owned(), format!("try: kshard create {}\n", wd.join("payments").display())),
        ("split clicks 7".to_owned(), format!("there is no shardId-000000000007\ntry: kshard list {here}\n")),
        ("split clicks 0 --at 0".to_owned(), "a split must begin above the first".to_owned()),
        ("merge clicks 0 2".to_owned(), "not adjacent".to_owned()),
        ("merge clicks 0".to_owned(), "try: kshard merge --help\n".to_owned()),
        ("split clicks zero".to_owned(), "is not a shard".to_owned()),
        ("scale clicks 0".to_owned(), "invalid value '0'".to_owned()),
        ("scale clicks 0".to_owned(), "\ntry: kshard scale --help\n".to_owned()),
        ("scale clicks 7 --enforce-limits".to_owned(), "try: kshard scale clicks 6\n".to_owned()),
        ("create x --shards 0".to_owned(), "invalid value".to_owned()),
        ("create x --retention 30m".to_owned(), "give 1h to 8760h".to_owned()),
        ("create x --record-limit 51MiB".to_owned(), "give 1KiB to 50MiB".to_owned()),
        ("create x --tag y".to_owned(), "`y` is not KEY=VALUE".to_owned()),
        ("create nowhere/x".to_owned(), "cannot create".to_owned()),
        ("route clicks --explicit 5x".to_owned(), "`5x` is not a hash key".to_owned()),
        ("list clicks --filter now".to_owned(), "at-trim-horizon".to_owned()),
        // What is there already, and what is to go, is not to be made.
        (
            "delete ./a.log".to_owned(),
            format!("{} is a file, and no stream\ntry: kshard list\n", wd.join("a.log").display()),
        ),
        ("describe ./d".to_owned(), "d is a directory, and no stream\ntry: kshard list\n".to_owned()),
        (
            "delete nope".to_owned(),
            format!("there is no stream at {}\ntry: kshard list\n", wd.join("nope").display()),
        ),
        ("delete clikcs".to_owned(), "try: did you mean `clicks`?\n".to_owned()),
        ("create .hid".to_owned(), "cannot begin with a dot".to_owned()),
        ("snapshot clicks ./.hid".to_owned(), "cannot begin with a dot".to_owned()),
        (
            "delete link".to_owned(),
            format!(
                "is a symbolic link to {here}, and only that could be deleted\ntry: kshard delete {here}\n"
            ),
        ),
        ("delete ./link/".to_owned(), "is a symbolic link to".to_owned()),
        ("bogus".to_owned(), "unrecognized subcommand 'bogus'".to_owned()),
        ("describe kinesis://x/y".to_owned(), "kpipe-remote-kinesis".to_owned()),
    ] {
        wd.sh(&format!("kshard {command}")).fails().expect_stderr_has(&part);
    }
    // The wrong ones changed nothing, and left nothing.
    assert_eq!(ask(&wd, "describe clicks")["Generation"], 1);
    wd.sh("ls -A").expect_stdout("a.log\nclicks\nd\nlink\n");
    // A shard that is gone is for check to tell of.
    wd.sh("rm -r clicks/shardId-000000000001").ok();
    for command in ["kget clicks", "kput clicks -q", "kshard stats clicks"] {
        let hint = format!(
            "shardId-000000000001: No such file or directory (os error 2)\ntry: kshard check {here}\n"
        );
        wd.sh(&format!("printf '1\n2\n3\n' | {command}")).done().expect_status(2).expect_stderr_has(&hint);
    }
    wd.sh("kshard check clicks").done().expect_status(1);
}

/// What a killed create, load, snapshot or delete left beside a stream stayed for ever: now the same command, run again,
/// takes it away, and doctor tells of the rest.
#[test]
fn what_a_killed_program_left_is_swept() {
    let wd = Workdir::new();
    let left = ["s", "t"].map(|name| ["new", "deleted"].map(|what| format!(".{name}.{:032x}.{what}", 7)));
    let make = || {
        left.iter()
            .flatten()
            .for_each(|name| drop(wd.write(&format!("{name}/shardId-000000000000/x.seg"), "x")));
    };
    let names = || {
        let names = wd.sh("ls -A").ok();
        names
            .lines()
            .iter()
            .filter(|name| name.starts_with('.'))
            .map(|name| name.split('.').nth(1).unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    for command in [
        "kshard create -q s",
        "kshard delete -q s",
        "kshard delete --if-exists s",
        "kshard create -q o; kshard snapshot -q o s",
        "kshard delete -q s; kshard dump o | kshard load -q s",
    ] {
        make();
        wd.sh(command).ok();
        assert_eq!(names(), ["t", "t"], "{command}");
    }
    wd.sh("touch -d 2001-01-01 .t.*; mkdir .mine.new; touch -d 2001-01-01 .mine.new").ok();
    let doctor = wd.sh("kshard doctor s").ok();
    assert!(doctor.text().contains("2 of programs that were killed, as .t."), "{}", doctor.text());
    assert!(!doctor.text().contains(".mine.new"), "{}", doctor.text());
}

#[test]
fn a_manifest_that_is_not_right_is_told_from_one_of_tomorrow() {
    let wd = Workdir::new();
    wd.sh("kshard create -q clicks; kshard create -q later").ok();
    let text = wd.read("clicks/manifest.json").replace("\"clicks\"", "\"clocks\"");
    wd.write("clicks/manifest.json", text);
    wd.sh("kshard describe clicks").fails().expect_stderr_has("checksum does not hold");
    let text = wd.read("later/manifest.json").replacen("\"version\":1", "\"version\":9", 1);
    wd.write("later/manifest.json", text);
    wd.sh("kshard split later 0").fails().expect_stderr_has("needs a later version of kpipe");
    // One that cannot be read hides no other.
    wd.sh("kshard create -q fine; kshard list | awk '{ print $1, $2 }'")
        .expect_stdout("STREAM STATUS\nclicks UNREADABLE\nfine ACTIVE\nlater UNREADABLE\n");
}

#[test]
fn splits_merges_and_scales() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s").ok();
    wd.sh("kshard split s shardId-000000000000")
        .expect_stdout("shardId-000000000001\nshardId-000000000002\n");
    wd.sh("kshard split s 2 --at 255211775190703847597530955573826158592 -o json | jq -r '.Children[0]'")
        .done();
    assert_eq!(open_shards(&wd, "s").len(), 3);
    wd.sh("kshard merge s 1 3").expect_stdout("shardId-000000000005\n");
    let found = ask(&wd, "describe s");
    let merged = &found["Shards"][5];
    assert_eq!(merged["ParentShardId"], "shardId-000000000001");
    assert_eq!(merged["AdjacentParentShardId"], "shardId-000000000003");
    let closed = &found["Shards"][1]["SequenceNumberRange"];
    assert!(closed["EndingSequenceNumber"].as_str() > closed["StartingSequenceNumber"].as_str());
    wd.sh("kshard split s 1").fails().expect_stderr_has("shardId-000000000001 is closed\ntry: kshard list");

    let scaled = ask(&wd, "scale s 4");
    assert_eq!((&scaled["CurrentShardCount"], &scaled["TargetShardCount"]), (&2.into(), &4.into()));
    assert_eq!(open_shards(&wd, "s").len(), 4);
    assert_eq!(ask(&wd, "scale s 4")["Steps"], 0, "again does nothing");
    assert_eq!(ask(&wd, "describe s")["OpenShardCount"], 4);
}

/// A split that was decided and then killed: looking shows it, the next change finishes it.
#[test]
fn a_half_done_split_is_finished_by_the_next_command() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "s", 1);
    source.put(0, &["a=1", "b=2"]);
    let halves = HashRange::split_evenly(2);
    let child = |shard, range: HashRange| NewShard {
        shard,
        starting_hash_key: range.start.0,
        ending_hash_key: range.end.0,
    };
    let mut manifest = source.stream.manifest().clone();
    manifest.generation += 1;
    manifest.pending =
        Some(Reshard { parents: vec![0], children: vec![child(1, halves[0]), child(2, halves[1])] });
    let path = Manifest::path(source.stream.path());
    System::real().disk.replace(&path, &manifest.encode().expect("bytes")).expect("a manifest");

    assert_eq!(ask(&wd, "describe s")["StreamStatus"], "UPDATING");
    assert_eq!(ask(&wd, "describe s")["PendingReshard"]["Parents"][0], "shardId-000000000000");
    let doctor = wd.sh("kshard doctor s").ok();
    let line = doctor.lines().into_iter().find(|line| line.contains("reshard")).expect("a line");
    assert!(line.starts_with("warn") && line.contains("try: kshard trim"), "{line}");
    wd.sh("kshard trim s").ok();
    assert_eq!(open_shards(&wd, "s"), ["shardId-000000000001", "shardId-000000000002"]);
    assert_eq!(ask(&wd, "describe s")["StreamStatus"], "ACTIVE");
    wd.sh("kget s").expect_stdout("1\n2\n");
}

#[test]
fn keys_go_where_the_service_sends_them() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s --shards 2").ok();
    // MD5 as the service reads it: `printf %s KEY | md5sum`, as a decimal number.
    wd.sh("kshard route s a b ''").expect_stdout(
        "a\t16955237001963240173058271559858726497\tshardId-000000000000\n\
         b\t195289424170611159128911017612795795343\tshardId-000000000001\n\
         \t281949768489412648962353822266799178366\tshardId-000000000001\n",
    );
    wd.sh(r"printf 'a\nb' | kshard route s | cut -f 3")
        .expect_stdout("shardId-000000000000\nshardId-000000000001\n");
    wd.sh("kshard route s --explicit 170141183460469231731687303715884105727 170141183460469231731687303715884105728 | cut -f 3")
        .expect_stdout("shardId-000000000000\nshardId-000000000001\n");
    let line = wd.sh("kshard route s -o json é").ok();
    assert_eq!(json(&line)["PartitionKey"], "é");
    wd.sh("yes | kshard route s | head -n 1 | cut -f 1").expect_stdout("y\n").expect_stderr("");
    // Every record lies where route says.
    wd.sh("seq 200 > keys; kput -q s --key-regex '^(.*)$' < keys").ok();
    wd.sh("kshard route s < keys | awk '$3 ~ /0$/ { print $1 }' | sort > told; kget s --shard 0 | sort | diff - told").ok();
}

#[test]
fn retention_and_tags_are_shown_and_changed() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s").ok();
    wd.sh("kshard retention s").expect_stdout("1d\n");
    wd.sh("kshard retention s 7d").expect_stdout("");
    wd.sh("kshard retention s --bytes 10GiB").ok();
    wd.sh("kshard retention s").expect_stdout("7d, at most 10GiB\n");
    assert_eq!(ask(&wd, "retention s")["RetentionBytes"], 10_737_418_240_u64);
    wd.sh("kshard retention s forever --bytes none && kshard retention s").expect_stdout("forever\n");
    assert_eq!(ask(&wd, "describe s")["RetentionPeriodHours"], Value::Null);
    wd.sh("kshard tags s").expect_stdout("");
    wd.sh("kshard tags s team=web 'note=a b=c' && kshard tags s").expect_stdout("note=a b=c\nteam=web\n");
    wd.sh("kshard tags s --remove team --remove none && kshard tags s").expect_stdout("note=a b=c\n");
    assert_eq!(ask(&wd, "tags s")["Tags"][0]["Value"], "a b=c");
    wd.sh("for i in $(seq 51); do echo k$i=v; done | xargs kshard tags s")
        .done()
        .expect_stderr_has("at most 50 tags");
}

struct Ago(i64);

impl Clock for Ago {
    fn now_us(&self) -> i64 {
        RealClock.now_us() - self.0
    }

    fn boot_us(&self) -> i64 {
        RealClock.boot_us()
    }

    fn boot_id(&self) -> u64 {
        RealClock.boot_id()
    }
}

#[test]
fn trim_frees_what_has_expired() {
    let wd = Workdir::new();
    // Written three hours ago, to a stream that keeps two.
    let system = System { disk: Arc::new(RealDisk), clock: Arc::new(Ago(3 * 3600 * 1_000_000)) };
    let new = NewStream { shards: 2, retention_us: Some(2 * 3600 * 1_000_000), ..NewStream::default() };
    let mut source = Source { stream: Stream::create(&system, &wd.join("s"), &new).expect("a stream") };
    source.put(0, &["a=old"]);
    source.put(1, &["a=older"]);
    source.stream.split(kpipe::record::ShardId(1), None).expect("a split");
    wd.sh("kget s").expect_stdout("");
    let freed = ask(&wd, "trim s");
    assert_eq!(freed["FreedSegments"], 2);
    assert_eq!(freed["ExpiredShards"], serde_json::json!(["shardId-000000000001"]));
    assert_eq!(freed["RolledShards"], serde_json::json!(["shardId-000000000000"]));
    wd.sh("kshard trim s").expect_stdout("0 B freed: 0 segments\n");
    wd.sh("echo new | kput -q s; kget s").expect_stdout("new\n");
    assert!(!wd.join("s/shardId-000000000001").exists());
    wd.sh("kshard check s").ok();
}

#[test]
fn a_cap_on_bytes_holds_while_writing() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s --shards 2 --retain-bytes 2MiB --segment-size 128KiB").ok();
    wd.sh("for i in 1 2 3 4 5 6; do seq 100000 | kput -q s --key-regex '^(.*)$'; done").ok();
    let stored = ask(&wd, "describe s")["StoredBytes"].as_u64().expect("a number");
    // What is being written is not removed.
    assert!(stored > 1 << 20 && stored < (2 << 20) + (1 << 20), "{stored}");
    wd.sh("kshard trim s; kshard check s").ok();
}

#[test]
fn a_stream_in_use_is_deleted_by_force_only() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s; mkdir -p s/consumers/report").ok();
    wd.sh("kshard delete s")
        .fails()
        .expect_stderr_has("it has consumers (report)\ntry: kshard delete --force");
    wd.sh("kshard delete -q --enforce-consumer-deletion s; ls -A").expect_stdout("");
    let source = Source::create(&wd, "s", 1);
    let mut writer = source.writer(0);
    fixture::put(&mut writer, &["a"]);
    wd.sh("kshard delete s").fails().expect_stderr_has("a program is writing to shardId-000000000000");
    drop(writer);
    wd.sh("kshard delete -q s; ls -A").expect_stdout("");
}

/// A writer went on acknowledging records into files that had no name any more, and exited 0.
#[test]
fn a_writer_to_a_stream_that_was_deleted_fails() {
    let wd = Workdir::new();
    let gone = |wd: &Workdir| format!("stream s ({}): the stream was deleted\n", wd.join("s").display());
    for again in [false, true] {
        wd.sh("kshard create -q s --shards 2").ok();
        let mut kput = wd.run("kput").args(["s", "--ack", "-q"]).spawn();
        let mut idle = wd.run("kput").args(["s", "-q", "--ack"]).stdin("x\n").spawn();
        idle.read_until("\n");
        kput.type_in("a\nb\n");
        kput.read_until("\n");
        kput.read_until("\n");
        wd.sh("kshard delete s").fails().expect_stderr_has("a program is writing to");
        wd.sh("kshard delete -q --force s").ok();
        if again {
            // Another of that name is none of theirs.
            wd.sh("kshard create -q s").ok();
        }
        kput.type_in("c\nd\n");
        kput.wait().expect_status(2).expect_stdout("").expect_stderr_has(&gone(&wd));
        idle.type_in("y\n");
        idle.wait().expect_status(2).expect_stderr_has(&gone(&wd));
        wd.sh("ls -A").expect_stdout(if again { "s\n" } else { "" });
    }
    wd.sh("kget s").expect_stdout("");
    // One that is damaged goes as well.
    let mut kput = wd.run("kput").args(["s", "--ack", "-q"]).stdin("a\n").spawn();
    kput.read_until("\n");
    wd.sh("truncate -s 50 s/shardId-*/*.seg; kshard delete -q --force s")
        .fails()
        .expect_stderr_has("it is deleted, but what is writing to shardId-000000000000 could not be told");
    wd.sh("ls -A").expect_stdout("");
    kput.type_in("b\n");
    kput.wait().expect_status(2).expect_stdout("").expect_stderr_has(&gone(&wd));
}

#[test]
fn stats_count_and_meter() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s --shards 2; seq 1000 | kput -q s --key-regex '^(.*)$'").ok();
    wd.sh("head -c 60000 /dev/zero | tr '\\0' x | kput -q s").ok();
    let found = ask(&wd, "stats s");
    assert_eq!(found["IncomingRecords"], 1001);
    assert_eq!(found["Metered"]["PutPayloadUnits"], 1003);
    assert_eq!(found["Metered"]["OutgoingGiB"], 0.0);
    let stored: u64 =
        found["Shards"].as_array().expect("a list").iter().filter_map(|s| s["StoredRecords"].as_u64()).sum();
    assert_eq!(stored, 1001);
    assert_eq!(ask(&wd, "stats s --since now")["IncomingRecords"], 0);
    let page = wd.sh("kshard stats s").ok();
    assert!(page.text().contains("plain reads are not counted"), "{}", page.text());
}

/// What went out was never told, although consumers write down what they have taken: by a pipe, by a command, by a
/// bookmark, and up to the middle of a frame.
#[test]
fn stats_count_what_consumers_took() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s; printf '12345\n123\n' | kput -q s; printf '1234567\n' | kput -q s").ok();
    let out = || ask(&wd, "stats s")["Metered"]["OutgoingBytes"].as_u64().expect("a number");
    wd.sh("kget s").ok();
    assert_eq!(out(), 0, "a plain read leaves no trace");
    wd.sh("kget s --consumer pipe -n 1 -o json").ok();
    assert_eq!(out(), 5);
    wd.sh("kget s --consumer pipe").ok();
    assert_eq!(out(), 15);
    wd.sh("kget s --consumer command --exec 'cat >/dev/null'").ok();
    assert_eq!(out(), 30);
    wd.sh("kget s --consumer marked --bookmark mark").ok();
    assert_eq!(out(), 30);
    wd.sh("kget s --consumer marked --commit mark").ok();
    assert_eq!(out(), 45);
    // What was written before bytes were counted can still be read.
    let state = wd.read("s/consumers/pipe/state.json");
    let body: String = state
        .lines()
        .skip(1)
        .filter(|line| !line.contains("\"bytes\""))
        .fold(String::new(), |all, line| all + line + "\n");
    let head = format!("{{\"kpipe\":\"consumer\",\"version\":1,\"crc32c\":{}}}\n", crc32c(body.as_bytes()));
    wd.write("s/consumers/pipe/state.json", head + &body);
    assert_eq!(out(), 30);
    wd.sh("echo 1 | kput -q s; kget s --consumer pipe").expect_stdout("1\n");
    assert_eq!(out(), 31);
}

/// Loads of the last second decide; what one run did the next one leaves alone.
#[test]
fn advise_splits_what_is_hot_and_does_it_once() {
    let wd = Workdir::new();
    let system = System { disk: Arc::new(RealDisk), clock: Arc::new(Ago(600 * 1_000_000)) };
    let new = NewStream { shards: 2, ..NewStream::default() };
    let source = Source { stream: Stream::create(&system, &wd.join("s"), &new).expect("a stream") };
    drop(source);
    // 300 keys of one shard, and nothing in the other.
    wd.sh("seq 1000 | kshard route s | awk '$3 ~ /1$/ { print $1 }' | head -n 300 > hot").ok();
    wd.sh("kput -q s --key-regex '^(.*)$' < hot").ok();
    let all = "--window 5m --target-records 1";
    let found = ask(&wd, &format!("advise s {all}"));
    assert_eq!(found["Advice"], serde_json::json!([]), "300 in five minutes is one a second");
    wd.sh("for i in 1 2; do kput -q s --key-regex '^(.*)$' < hot; done").ok();
    let found = ask(&wd, &format!("advise s {all}"));
    assert_eq!(found["Advice"][0]["Action"], "split");
    assert_eq!(found["Advice"][0]["ShardId"], "shardId-000000000001");
    let page = wd.sh(&format!("kshard advise s {all}")).ok();
    assert!(page.text().contains("kshard split s 1 --at "), "{}", page.text());
    assert_eq!(open_shards(&wd, "s").len(), 2, "advice is only advice");
    // Twice at once, and once more.
    let apply = format!("kshard advise -q s {all} --apply > /dev/null");
    wd.sh(&format!("{apply} & {apply}; wait; {apply}")).ok();
    let open = open_shards(&wd, "s");
    assert_eq!(open.len(), 5, "{open:?}");
    wd.sh(&format!("kshard advise s {all}")).ok();
    assert_eq!(open_shards(&wd, "s"), open);
}

/// kput stores records without keys unless told otherwise: advise knew no help for them, said in one breath that a shard
/// was hot and that nothing was to do, and its line for pasting lost the options that it had been given.
#[test]
fn advise_splits_what_is_hot_without_keys() {
    let wd = Workdir::new();
    let system = System { disk: Arc::new(RealDisk), clock: Arc::new(Ago(600 * 1_000_000)) };
    let new = NewStream { shards: 1, ..NewStream::default() };
    drop(Stream::create(&system, &wd.join("s"), &new).expect("a stream"));
    wd.sh("seq 300 | kput -q s").ok();
    let page = wd.sh("kshard advise s --window 1m --target-records 2 --min-shards 2").ok();
    let again = "To do it, kshard advise s --window 1m --target-records 2 --min-shards 2 --apply, or:";
    assert!(page.text().contains("hot: split in 3") && page.text().contains(again), "{}", page.text());
    wd.sh("kshard advise -q s --window 1m --target-records 2 --apply >/dev/null").ok();
    assert_eq!(open_shards(&wd, "s").len(), 3);
    // One key that is hot is not nothing.
    drop(Stream::create(&system, &wd.join("t"), &new).expect("a stream"));
    wd.sh("yes k | head -n 300 | kput -q t --key-regex '^(k)$'").ok();
    let page = wd.sh("kshard advise t --window 1m --target-records 2").ok();
    assert!(
        page.text().contains("one key brings") && !page.text().contains("Nothing to do"),
        "{}",
        page.text()
    );
}

#[test]
fn advise_merges_what_is_cold() {
    let wd = Workdir::new();
    let system = System { disk: Arc::new(RealDisk), clock: Arc::new(Ago(600 * 1_000_000)) };
    let new = NewStream { shards: 4, ..NewStream::default() };
    drop(Stream::create(&system, &wd.join("s"), &new).expect("a stream"));
    wd.sh("kshard advise s --apply --min-shards 3").ok().expect_stderr_has("became shardId-000000000004");
    assert_eq!(open_shards(&wd, "s").len(), 3);
}

#[test]
fn the_map_is_as_wide_as_it_may_be_and_ascii_where_it_must() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s --shards 4; kshard split s 3; kshard merge s 0 1").ok();
    let map = wd.sh("kshard map s").ok();
    let drawn: Vec<&str> = map.lines()[1..5].to_vec();
    assert!(drawn.iter().all(|line| line.chars().count() <= 100), "{}", map.text());
    assert!(map.text().contains('├'));
    let map = wd.sh("kshard map s --width 40").env("LC_ALL", "C").ok();
    assert!(map.text().is_ascii(), "{}", map.text());
    assert_eq!(
        map.lines()[..5],
        [
            "s",
            "0000      4000      8000      c000",
            "<---0----><---1----><---2----><---3---->",
            "<--------6--------->          <-4-><-5->",
            "........................................",
        ]
    );
}

/// These had a table, or nothing at all, for programs.
#[test]
fn what_a_script_would_parse_has_json() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s --shards 2; kshard split s 0; seq 3 | kput -q s; kget s --consumer c").ok();
    let map = ask(&wd, "map s");
    let shards = map["Shards"].as_array().expect("a list");
    assert_eq!((shards.len(), &shards[3]["Generation"]), (4, &Value::from(1)));
    assert_eq!(shards[0].get("Fullness"), None, "it is closed");
    assert_eq!(
        ask(&wd, "repair s"),
        serde_json::json!({"StreamName": "s", "DryRun": false, "Mended": [], "Left": [], "Kept": null})
    );
    wd.write("s/manifest.json", "{}");
    let mended = ask(&wd, "repair s");
    assert_eq!(
        (&mended["Mended"][0]["File"], mended["Kept"].is_string()),
        (&Value::from("manifest.json"), true)
    );
    let reset = ask(&wd, "consumers s c --reset trim-horizon");
    assert_eq!(reset["Shards"][1]["Checkpoint"]["at"], "TRIM_HORIZON");
    assert_eq!(reset["Shards"][1]["WaitsFor"]["Kind"], "worker");
    assert_eq!(
        reset["Shards"][2]["WaitsFor"],
        serde_json::json!({"Kind": "parents", "ShardIds": ["shardId-000000000000"]})
    );
    assert_eq!(ask(&wd, "consumers s c --delete")["Deleted"], true);
}

#[test]
fn doctor_fails_where_something_is_wrong() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s").ok();
    wd.sh("kshard doctor s").ok();
    wd.sh("kshard doctor").ok();
    assert!(
        wd.sh("kshard doctor s").ok().text().contains("no arrival is later"),
        "not the words of a bad clock"
    );
    let rootless = wd.run("kshard").arg("doctor").env("KPIPE_ROOT", "nowhere").done().expect_status(1);
    assert!(rootless.lines()[0].starts_with("fail  root"), "{}", rootless.text());
    assert!(ask(&wd, "doctor s")["Checks"].as_array().is_some_and(|checks| checks.len() > 8));
    wd.sh("ulimit -n 20; kshard doctor s").done().expect_status(1);
    // A record of tomorrow: the clock has gone back since.
    let system = System { disk: Arc::new(RealDisk), clock: Arc::new(Ago(-3600 * 1_000_000)) };
    let source = Source { stream: Stream::open(&system, &wd.join("s")).expect("a stream") };
    source.put(0, &["a=b"]);
    let done = wd.sh("kshard doctor s").done().expect_status(1);
    let line = done.lines().into_iter().find(|line| line.contains("clock")).expect("a line").to_owned();
    assert!(line.starts_with("fail") && line.contains("behind the last arrival"), "{line}");
    let name = format!(".s.{:032x}.new", 1);
    wd.sh(&format!("mkdir {name}; touch -d 2001-01-01 {name}; kshard doctor s -o json"))
        .done()
        .expect_status(1);
    let done = wd.sh("kshard doctor s").done();
    assert!(done.text().contains("try: rm -r"), "{}", done.text());
}

#[test]
fn a_thousand_shards() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s --shards 1000").ok();
    wd.sh("kshard list s | wc -l").expect_stdout("1001\n");
    assert_eq!(ask(&wd, "describe s")["Shards"].as_array().map(Vec::len), Some(1000));
    wd.sh("seq 1000 | kshard route s | cut -f 3 | sort -u | wc -l").ok();
    wd.sh("kshard split s 500; kshard map s").ok();
}

/// Somebody scales up and down, is killed again and again, and meanwhile others write: nothing is lost, nothing is
/// doubled, and the records of a key stay in order.
#[test]
fn scaling_that_is_killed_under_writers_loses_nothing() {
    let wd = Workdir::new();
    wd.sh("kshard create -q s --shards 2").ok();
    wd.sh("for w in 1 2; do
             (for part in 1 2 3 4 5 6; do
                 seq $((part * 1000)) $((part * 1000 + 999)) | awk -v w=$w '{ print w \"-\" $1 % 7, $1 }' |
                     kput -q s --key-regex '^(\\S+)' || exit 1
                 sleep 0.05
             done) &
             writers=\"${writers:-} $!\"
         done
         for n in 5 1 4 2 7 3 6 1; do
             timeout -s KILL 0.0$n kshard scale s $n || true
         done > /dev/null 2>&1
         for writer in $writers; do wait $writer; done
         kshard scale s 3")
        .ok();
    assert_eq!(open_shards(&wd, "s").len(), 3);
    wd.sh("kget s > all; wc -l < all; sort -u all | wc -l").expect_stdout("12000\n12000\n");
    // In the order read, the numbers of each key only grow.
    wd.sh("awk '$2 <= last[$1] { print \"key\", $1, \"goes back at\", $2 } { last[$1] = $2 }' all")
        .expect_stdout("");
    wd.sh("kshard check s").ok();
}
