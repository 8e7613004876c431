//! Where a read ends: at a place that was named, at damage, and where a shard lacks its end.

use std::fs;
use std::path::PathBuf;

use kpipe::record::{SequenceNumber, ShardId};

use crate::fixture::{Source, put};
use crate::workdir::Workdir;

/// A stream of ten records in one frame, split after that, each child with one record.
fn split(wd: &Workdir) -> (Source, Vec<SequenceNumber>) {
    let mut source = Source::create(wd, "z", 1);
    source.put(0, &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    source.stream.split(ShardId(0), None).expect("a split");
    source.put(1, &["left"]);
    source.put(2, &["right"]);
    let done = wd.sh("kget z --shard 0 --template '{seq}\\n'").ok();
    let numbers = done.lines().iter().map(|line| line.parse().expect("a sequence number")).collect();
    (source, numbers)
}

/// The segment of a shard that has most in it.
fn segment(wd: &Workdir, stream: &str, shard: u32) -> PathBuf {
    let names = fs::read_dir(wd.join(stream).join(ShardId(shard).to_string())).expect("a shard");
    let names = names
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|e| e == "seg"));
    names.max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len())).expect("a segment")
}

/// Flips a bit of `text` where it last stands in the segment.
fn damage(wd: &Workdir, stream: &str, shard: u32, text: &[u8]) {
    let segment = segment(wd, stream, shard);
    let mut bytes = fs::read(&segment).expect("a segment");
    let at = bytes.windows(text.len()).rposition(|window| window == text).expect("it is there");
    bytes[at] ^= 1;
    fs::write(&segment, bytes).expect("it can be written");
}

/// Of the frame in which the read ended a part was taken; the cursor stood behind the whole of it, met the end of the
/// shard, and that became the checkpoint: the rest of the frame was never delivered.
#[test]
fn an_end_inside_a_frame_is_no_end_of_the_shard() {
    let wd = Workdir::new();
    let (_, numbers) = split(&wd);
    let (first, rest) = ("0\n1\n2\n", "3\n4\n5\n6\n7\n8\n9\nleft\nright\n");
    let until = format!("--until at:{}", numbers[3]);
    for (name, how) in [("pipe", "| cat"), ("file", "> out; cat out"), ("exec", "--exec cat")] {
        wd.sh(&format!("kget z --consumer {name} {until} {how}")).expect_stdout(first).expect_stderr("");
        // Once there, it stays there.
        wd.sh(&format!("kget z --consumer {name} {until} {how}")).expect_stdout("").expect_stderr("");
        wd.sh(&format!("kget z --consumer {name} --until after:{} {how}", numbers[2])).expect_stdout("");
        wd.sh(&format!("kget z --consumer {name} {how}")).expect_stdout(rest).expect_stderr("");
    }
    wd.sh(&format!("kget z --consumer mark --bookmark m {until}")).expect_stdout(first);
    wd.sh("kget z --consumer mark --commit m; kget z --consumer mark").expect_stdout(rest);
}

/// The same with damage behind the frame instead of the end: the checkpoint went behind the damage.
#[test]
fn an_end_inside_a_frame_is_not_the_damage_behind_it() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "z", 1);
    let mut writer = source.writer(0);
    for lines in [["a", "b", "c"], ["d", "bad", "f"], ["g", "h", "i"]] {
        put(&mut writer, &lines);
    }
    writer.pause().unwrap();
    let done = wd.sh("kget z --template '{seq}\\n'").ok();
    let second = done.lines()[1].to_owned();
    damage(&wd, "z", 0, b"bad");
    let until = format!("kget z --consumer c --on-error skip --until at:{second}");
    wd.sh(&format!("{until} | cat")).expect_stdout("a\n").expect_stderr("");
    wd.sh("kget z --consumer c --on-error skip | cat; true").ok().expect_stdout("b\nc\ng\nh\ni\n");
}

/// The rest of the shard was passed over and its children were read; with -f that never ended.
#[test]
fn what_goes_on_from_where_it_ends_is_not_read() {
    let wd = Workdir::new();
    let (mut source, numbers) = split(&wd);
    let until = format!("--until at:{}", numbers[3]);
    wd.sh(&format!("kget z {until}")).expect_stdout("0\n1\n2\n");
    wd.sh(&format!("kget z -f --from trim-horizon {until}")).expect_stdout("0\n1\n2\n");
    wd.sh(&format!("kget z -f --from at:{} {until}", numbers[1])).expect_stdout("1\n2\n");
    wd.sh(&format!("kget z -f --consumer c --from trim-horizon {until} | cat")).expect_stdout("0\n1\n2\n");
    wd.sh(&format!("kget z -f --consumer e --from trim-horizon {until} --exec cat"))
        .expect_stdout("0\n1\n2\n");
    // The other parent of a merge is read, and the child of both waits for the one that was left.
    source.stream.merge(ShardId(1), ShardId(2)).unwrap();
    source.put(3, &["merged"]);
    let done = wd.sh("kget z --shard 1 --template '{seq}\\n'").ok();
    let left = done.text().trim().to_owned();
    wd.sh(&format!("kget z --until at:{left} | tail -n 1")).expect_stdout("right\n");
    wd.sh(&format!("kget z --until after:{left} | tail -n 2")).expect_stdout("left\nright\n");
}

/// They were taken for places in this stream.
#[test]
fn sequence_numbers_of_another_stream_are_refused() {
    let wd = Workdir::new();
    Source::create(&wd, "one", 1).put(0, &["a", "b"]);
    let number = wd.sh("kget one -n 1 --template '{seq}'").ok().text().to_owned();
    // A shard's creation is told to the second.
    wd.sh("sleep 1.1").ok();
    Source::create(&wd, "two", 1).put(0, &["a", "b"]);
    for args in
        ["--from at", "--from after", "--until at", "--consumer c --until after", "--shard 0 --from at"]
    {
        let done = wd.sh(&format!("kget two {args}:{number}")).fails();
        assert!(done.stderr.contains("is not of this stream"), "{}", done.stderr);
    }
    let number: SequenceNumber = number.parse().unwrap();
    let nowhere = SequenceNumber { shard: ShardId(7), ..number };
    wd.sh(&format!("kget one --until at:{nowhere}"))
        .fails()
        .expect_stderr_has("there is no shardId-000000000007");
}

/// With the parent's end damaged, or cut off with what came before it, kget ended well with half of the records, and the
/// children were never read.
#[test]
fn a_closed_shard_without_its_end_is_damaged() {
    let wd = Workdir::new();
    let mut source = Source::create(&wd, "z", 1);
    let mut writer = source.writer(0);
    put(&mut writer, &["a", "b"]);
    put(&mut writer, &["c", "d"]);
    writer.pause().unwrap();
    drop(writer);
    source.stream.split(ShardId(0), None).unwrap();
    source.put(1, &["left"]);
    source.put(2, &["right"]);
    let segment = segment(&wd, "z", 0);
    let whole = fs::read(&segment).unwrap();
    // All records, and no end.
    let mut bytes = whole.clone();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    wd.sh("kget z").expect_stdout("a\nb\nc\nd\nleft\nright\n").expect_stderr("");
    wd.sh("kget z --consumer all | cat").expect_stdout("a\nb\nc\nd\nleft\nright\n");
    // Without the second frame.
    let at = whole.windows(4).position(|window| window == b"c\nd\n").unwrap();
    fs::write(&segment, &whole[..at]).unwrap();
    let done = wd.sh("kget z").done().expect_status(2).expect_stdout("a\nb\n");
    assert!(done.stderr.contains("records 2 to 3 are lost: the shard is closed"), "{}", done.stderr);
    let skip = wd.sh("kget z --on-error skip").done();
    skip.expect_status(1).expect_stdout("a\nb\nleft\nright\n");
    let done = wd.sh("kget z --consumer c --on-error skip").done();
    done.expect_status(1).expect_stdout("a\nb\nleft\nright\n");
    wd.sh("kget z --consumer c").expect_stdout("").expect_stderr("");
}

/// The records before damage were read and thrown away.
#[test]
fn what_was_read_before_a_failure_is_shown() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "z", 1);
    let mut writer = source.writer(0);
    for line in ["one", "two", "bad", "four"] {
        put(&mut writer, &[line]);
    }
    writer.pause().unwrap();
    damage(&wd, "z", 0, b"bad");
    for how in ["", "--durable", "--consumer a", "--consumer b --exec cat"] {
        let done = wd.sh(&format!("kget z --on-error fail {how}")).done();
        let done = done.expect_status(2).expect_stdout("one\ntwo\n");
        let named = done.stderr.matches("stream z").count();
        assert_eq!(named, 1, "the stream is named once: {}", done.stderr);
        assert!(
            done.stderr.contains("--on-error skip") && !done.stderr.contains("--on-error fail"),
            "{}",
            done.stderr
        );
    }
}

/// The checkpoint was past a gap that no exit status had told of, because the reader had closed the pipe.
#[test]
fn what_is_missing_counts_more_than_a_closed_pipe() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "z", 1);
    let mut writer = source.writer(0);
    put(&mut writer, &["bad"]);
    let line = "x".repeat(1000);
    for _ in 0..50 {
        put(&mut writer, &[line.as_str(); 100]);
    }
    writer.pause().unwrap();
    damage(&wd, "z", 0, b"bad");
    for how in ["", "--consumer c"] {
        let script =
            format!("{{ kget z --on-error skip {how} 2> /dev/null || echo $? >&2; }} | head -n 1 | wc -c");
        wd.sh(&script).expect_stdout("1001\n").expect_stderr("1\n");
    }
}
