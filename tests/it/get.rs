//! kget reads a stream: positions, ends, formats, and what it says where something cannot be read.

use std::fs;

use kpipe::codec::kpl::{UserRecord, aggregate};
use kpipe::log::{Batch, Codec, Fresh};
use kpipe::record::SequenceNumber;
use kpipe::stream::NewStream;

use crate::fixture::{Source, put};
use crate::workdir::Workdir;

/// The sequence numbers of what `kget ARGS` writes.
fn sequences(wd: &Workdir, args: &str) -> Vec<SequenceNumber> {
    let done = wd.sh(&format!("kget {args} --template '{{seq}}\\n'")).ok();
    done.lines().iter().map(|line| line.parse().expect("a sequence number")).collect()
}

#[test]
fn lines_as_they_are_or_otherwise() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    source.put(0, &["k=one", "two"]);
    wd.sh("kget clicks").expect_stdout("one\ntwo\n").expect_stderr("");
    wd.sh("kget clicks -o raw | wc -l").expect_stdout("2\n");
    wd.sh("kget clicks -o nul | tr '\\0' ,").expect_stdout("one,two,");
    wd.sh("kget clicks -o framed | od -An -c | tr -d ' \\n'").expect_stdout("\\0\\0\\0003one\\0\\0\\0003two");
    wd.sh("kget clicks -o base64").expect_stdout("b25l\ndHdv\n");
    wd.sh("kget clicks --template '{key}:{payload}\\n'").expect_stdout("k:one\n:two\n");
    wd.sh("kget clicks -o '{payload},'").expect_stdout("one,two,");
    let json = wd.sh("kget clicks -o json").ok();
    assert_eq!(json.lines().len(), 2);
    assert!(json.lines()[0].contains(r#""partitionKey":"k""#) && json.lines()[0].contains(r#""text":"one""#));
    assert_eq!(wd.sh("kget clicks -o csv").ok().lines().len(), 3, "a header and two rows");
    wd.sh("kget clicks -o lines").expect_stdout("one\ntwo\n");
    wd.sh("kget clicks -o xml").fails();
    // Before a stream is looked for.
    wd.sh("kget nowhere --template '{nope}'").fails().expect_stderr_has("has no name `{nope}`");
    wd.sh("kget payments").fails().expect_stderr_has("try: kshard list\n");
    wd.sh("kget clicks --from -1").fails().expect_stderr_has("`-1` has no unit: give `-1s`, `-1m`");
    wd.sh("kget click").fails().expect_stderr(&format!(
        "kget: stream click: there is no stream at {}\ntry: did you mean `clicks`?\n",
        wd.join("click").display()
    ));
}

#[test]
fn an_empty_stream_is_a_result() {
    let wd = Workdir::new();
    Source::create(&wd, "clicks", 3);
    wd.sh("kget clicks").expect_stdout("").expect_stderr("");
    wd.sh("kget clicks --fail-empty").done().expect_status(1).expect_stdout("").expect_stderr("");
    assert_eq!(wd.sh("kget clicks -o csv").ok().lines().len(), 1, "the header");
}

#[test]
fn positions() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    source.put(0, &["a", "b", "c"]);
    let mark = wd.sh("sleep 0.01; date +%s.%N; sleep 0.01").ok().text().trim().to_owned();
    source.put(0, &["d", "e"]);
    let numbers = sequences(&wd, "clicks");
    assert_eq!(numbers.len(), 5);
    let from = |args: &str| wd.sh(&format!("kget clicks {args} | tr '\\n' ' '")).ok().text().to_owned();
    assert_eq!(from("--from trim-horizon"), "a b c d e ");
    assert_eq!(from("--from latest"), "");
    assert_eq!(from("--from -1h"), "a b c d e ");
    assert_eq!(from(&format!("--from {mark}")), "d e ");
    assert_eq!(from(&format!("--until {mark}")), "a b c ");
    assert_eq!(from(&format!("--from at:{}", numbers[1])), "b c d e ");
    assert_eq!(from(&format!("--from after:{}", numbers[1])), "c d e ");
    assert_eq!(from(&format!("--until at:{}", numbers[1])), "a ");
    assert_eq!(from(&format!("--until after:{}", numbers[1])), "a b ");
    assert_eq!(from(&format!("--from after:{} --until at:{}", numbers[0], numbers[3])), "b c ");
    assert_eq!(from("--until latest"), "a b c d e ");
    assert_eq!(from("-n 4"), "a b c d ");
    assert_eq!(from("--limit 0"), "");
    wd.sh("kget clicks --from at:12").fails();
    wd.sh("kget clicks --shard 7").fails();
}

#[test]
fn all_shards_or_one_and_in_order_of_arrival() {
    let wd = Workdir::new();
    // More shards than may hold buffers, so that cursors are put aside and taken up again.
    let source = Source::create(&wd, "clicks", 40);
    let (mut by_arrival, mut by_shard) = (Vec::new(), Vec::new());
    for round in 0..3 {
        for n in 0..40 {
            // Not the order of the shards.
            let shard = (n * 7) % 40;
            let line = format!("{round}-{shard}");
            source.put(shard, &[&line]);
            by_arrival.push(line);
        }
    }
    for shard in 0..40 {
        by_shard.extend((0..3).map(|round| format!("{round}-{shard}")));
    }
    assert_eq!(wd.sh("kget clicks --order arrival").ok().lines(), by_arrival);
    assert_eq!(wd.sh("kget clicks").ok().lines(), by_shard);
    wd.sh("kget clicks --shard 39").expect_stdout("0-39\n1-39\n2-39\n");
    wd.sh("kget clicks --shard shardId-000000000001").expect_stdout("0-1\n1-1\n2-1\n");
}

#[test]
fn parents_before_children() {
    let wd = Workdir::new();
    let mut source = Source::create(&wd, "clicks", 1);
    source.put(0, &["0"]);
    let children = source.stream.split(kpipe::record::ShardId(0), None).unwrap();
    source.put(1, &["1"]);
    source.put(2, &["2"]);
    source.stream.merge(children[0], children[1]).unwrap();
    source.put(3, &["3"]);
    wd.sh("kget clicks").expect_stdout("0\n1\n2\n3\n");
    wd.sh("kget clicks --shard 0").expect_stdout("0\n");
    let numbers = sequences(&wd, "clicks");
    wd.sh(&format!("kget clicks --from at:{}", numbers[1])).expect_stdout("1\n3\n");
    wd.sh(&format!("kget clicks --from after:{}", numbers[0])).expect_stdout("1\n2\n3\n");
}

#[test]
fn aggregates_are_taken_apart() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    let user = |data| UserRecord { key: "k", explicit_hash: None, data };
    let payload = aggregate([user(b"x"), user(b"y"), user(b"z")]);
    let mut writer = source.writer(0);
    let mut batch = Batch::new(Some(b'\n'));
    batch.push(Fresh { payload: b"plain", ..Fresh::default() });
    batch.push(Fresh { payload: &payload, key: Some(b"a"), ..Fresh::default() });
    writer.append(&[batch.draft(Codec::None, None)]).unwrap();
    wd.sh("kget clicks").expect_stdout("plain\nx\ny\nz\n");
    wd.sh("kget clicks -n 3").expect_stdout("plain\nx\ny\n");
    wd.sh("kget clicks --template '{key}{payload}\\n'").expect_stdout("plain\nkx\nky\nkz\n");
    wd.sh("kget clicks -o json | grep -c subSequenceNumber").expect_stdout("3\n");
    let whole = wd.sh("kget clicks --no-deaggregate -o framed").ok();
    assert_eq!(whole.stdout.len(), 4 + 5 + 4 + payload.len());
}

#[test]
fn a_closed_pipe_is_a_normal_end() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    let mut writer = source.writer(0);
    let line = "x".repeat(1000);
    for _ in 0..50 {
        put(&mut writer, &[line.as_str(); 100]);
    }
    wd.sh("{ kget clicks; echo $? >&2; } | head -n 1 | wc -c").expect_stdout("1001\n").expect_stderr("0\n");
}

#[test]
fn damage_is_named_and_passed_over_only_if_asked() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    let mut writer = source.writer(0);
    for line in ["one", "two", "three"] {
        put(&mut writer, &[line]);
    }
    writer.pause().unwrap();
    let dir = wd.join("clicks/shardId-000000000000");
    let names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let segment = names.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(3).position(|three| three == b"two").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let done = wd.sh("kget clicks").done().expect_status(2).expect_stdout("one\n");
    assert!(
        done.stderr.contains("shardId-000000000000: segment ") && done.stderr.contains("damaged from byte")
    );
    assert!(done.stderr.ends_with("\ntry: kget clicks --on-error skip\n"), "{}", done.stderr);
    let done = wd.sh("kget clicks --on-error skip").done().expect_status(1).expect_stdout("one\nthree\n");
    assert_eq!(done.stderr.lines().count(), 1);
    wd.sh("kget clicks --on-error reject=bad").done().expect_status(1).expect_stdout("one\nthree\n");
    assert!(wd.read("bad").contains("\"error\""));
}

#[test]
fn what_retention_removed_is_told() {
    let wd = Workdir::new();
    let new = NewStream { segment_bytes: 1, ..NewStream::default() };
    let source = Source::create_as(&wd, "clicks", &new);
    let mut writer = source.writer(0);
    for line in ["one", "two", "three"] {
        put(&mut writer, &[line]);
        writer.roll().unwrap();
    }
    drop(writer);
    let first = sequences(&wd, "clicks")[0];
    let log = source.stream.log_dir(&source.stream.manifest().shards[0]);
    kpipe::log::expire(&log, Some(i64::MAX), None).unwrap();
    let done = wd.sh(&format!("kget clicks --from at:{first}")).done().expect_status(1);
    assert!(done.stderr.contains("missed records 0 to "), "{}", done.stderr);
    // What to try can be pasted, and helps against the cap too where there is one.
    let path = wd.join("clicks").display().to_string();
    assert!(done.stderr.ends_with(&format!("\ntry: kshard retention {path} 2d\n")), "{}", done.stderr);
    wd.sh("kshard retention clicks --bytes 1MiB").ok();
    let done = wd.sh(&format!("kget clicks --from at:{first}")).done();
    let tried = format!("kshard retention {path} 2d --bytes 2MiB");
    assert!(done.stderr.ends_with(&format!("\ntry: {tried}\n")), "{}", done.stderr);
    wd.sh(&tried).ok();
    wd.sh("kget clicks").ok().expect_stderr("");
}
