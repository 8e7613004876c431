//! kget follows a stream through rolls, splits and merges.

use kpipe::record::ShardId;

use crate::fixture::{Source, put};
use crate::workdir::Workdir;

#[test]
fn what_comes_is_shown_as_it_comes() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 2);
    source.put(0, &["before"]);
    let mut kget = wd.sh("exec kget clicks -f --from trim-horizon").spawn();
    assert_eq!(kget.read_until("\n"), "before\n");
    let (mut zero, mut one) = (source.writer(0), source.writer(1));
    for n in 0..10 {
        let line = n.to_string();
        put(if n % 2 == 0 { &mut zero } else { &mut one }, &[&line]);
        assert_eq!(kget.read_until("\n"), format!("{n}\n"));
    }
    kget.signal("TERM");
    kget.wait().expect_status(143).expect_stderr("");
}

#[test]
fn through_rolls_splits_and_merges() {
    let wd = Workdir::new();
    let mut source = Source::create(&wd, "clicks", 1);
    let mut kget = wd.sh("exec kget clicks -f --from trim-horizon").spawn();
    let mut writer = source.writer(0);
    put(&mut writer, &["a"]);
    assert_eq!(kget.read_until("\n"), "a\n");
    writer.roll().unwrap();
    put(&mut writer, &["b"]);
    assert_eq!(kget.read_until("\n"), "b\n");
    drop(writer);
    source.stream.split(ShardId(0), None).unwrap();
    source.put(1, &["c"]);
    assert_eq!(kget.read_until("\n"), "c\n");
    source.put(2, &["d"]);
    assert_eq!(kget.read_until("\n"), "d\n");
    source.stream.merge(ShardId(1), ShardId(2)).unwrap();
    source.put(3, &["e"]);
    assert_eq!(kget.read_until("\n"), "e\n");
    kget.signal("INT");
    kget.wait().expect_status(130).expect_stderr("");
}

#[test]
fn ends_where_it_was_told_to() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    source.put(0, &["a"]);
    let kget = wd.sh("exec kget clicks -f -n 2 --from trim-horizon").spawn();
    source.put(0, &["b", "c"]);
    kget.wait().expect_status(0).expect_stdout("a\nb\n");
    wd.sh("kget clicks -f --from trim-horizon --until -1s; echo over").ok();
    let kget = wd.sh("exec kget clicks -f --shard 0 --from trim-horizon").spawn();
    let mut stream = source.stream.clone();
    stream.split(ShardId(0), None).unwrap();
    kget.wait().expect_status(0).expect_stdout("a\nb\nc\n");
}

#[test]
fn nobody_reads_any_more() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    source.put(0, &["a"]);
    let mut kget = wd.sh("exec kget clicks -f --from trim-horizon").spawn();
    assert_eq!(kget.read_until("\n"), "a\n");
    kget.close_output();
    kget.wait().expect_status(0).expect_stderr("");
}

/// A spinner stood over the records on a terminal, and was drawn anew while nothing came.
#[test]
fn progress_stands_over_no_records() {
    let wd = Workdir::new();
    Source::create(&wd, "clicks", 1).put(0, &["a", "b"]);
    if wd.sh("command -v script").done().status != 0 {
        eprintln!("not tested: there is no script(1) to make a terminal");
        return;
    }
    let on_terminal = |command: &str| wd.sh(&format!("script -qec '{command}' /dev/null")).done();
    let follows = "timeout -s INT 1.5 kget clicks -f --from trim-horizon";
    on_terminal(follows).expect_stdout("a\r\nb\r\n");
    on_terminal(&format!("{follows} | cat")).expect_stdout("a\r\nb\r\n");
    let asked = on_terminal(&format!("{follows} --progress always > out"));
    assert!(asked.text().contains("2 records"), "{}", asked.text());
}

/// Every shard was held open whatever the process may: files were refused on a machine with a low limit.
#[test]
fn no_more_files_are_open_than_may_be() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 150);
    for shard in 0..150 {
        source.put(shard, &["a"]);
    }
    for how in ["", "--order arrival", "--consumer c", "--consumer e --exec cat"] {
        wd.sh(&format!("ulimit -n 64; kget clicks {how} | wc -l")).expect_stdout("150\n").expect_stderr("");
    }
    let mut kget = wd.sh("ulimit -n 64; exec kget clicks -f --from trim-horizon").spawn();
    kget.read_until(&"a\n".repeat(150));
    source.put(149, &["b"]);
    source.put(0, &["c"]);
    let last = kget.read_until("\n") + &kget.read_until("\n");
    assert!(matches!(&*last, "b\nc\n" | "c\nb\n"), "{last}");
}

/// It said that a directory could not be listed, or that there was no consumer.
#[test]
fn a_stream_that_is_deleted_meanwhile_is_gone() {
    let wd = Workdir::new();
    for how in ["", "--consumer c"] {
        let source = Source::create(&wd, "clicks", 1);
        source.put(0, &["a"]);
        let mut kget = wd.sh(&format!("exec kget clicks -f --from trim-horizon {how}")).spawn();
        assert_eq!(kget.read_until("\n"), "a\n");
        wd.sh("kshard delete --force clicks").ok();
        kget.wait().expect_status(2).expect_stderr(&format!(
            "kget: stream clicks ({}): it is gone: it was deleted or moved while it was read\n",
            wd.join("clicks").display()
        ));
    }
}

/// A stream was deleted and another made in its place: who followed it waited for the old one for ever.
#[test]
fn ends_where_another_stream_has_taken_the_place() {
    let wd = Workdir::new();
    for how in ["", "--consumer c"] {
        wd.sh("kshard create s -q; echo a | kput s").ok();
        let mut kget = wd.sh(&format!("exec kget s -f --from trim-horizon {how}")).spawn();
        assert_eq!(kget.read_until("\n"), "a\n");
        wd.sh("kshard delete --force s -q; kshard create s -q; echo new | kput s").ok();
        kget.wait()
            .expect_status(2)
            .expect_stderr_has("it is gone: it was deleted or moved while it was read");
        wd.sh("kshard delete --force s -q").ok();
    }
}
