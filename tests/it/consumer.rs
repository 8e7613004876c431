//! Named consumers: checkpoints, leases, commands, bookmarks, and what becomes of them when somebody is killed.

use std::fs;
use std::time::{Duration, Instant};

use kpipe::record::ShardId;
use kpipe::stream::NewStream;

use crate::fixture::{Source, put};
use crate::workdir::Workdir;

/// Looks until it holds. Generous: the machine may be busy.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(50), "{what}: never");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lines(wd: &Workdir, file: &str) -> Vec<String> {
    let text = fs::read_to_string(wd.join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

#[test]
fn goes_on_where_it_was() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 2);
    source.put(0, &["a", "b"]);
    source.put(1, &["c"]);
    wd.sh("kget clicks --consumer one | cat").expect_stdout("a\nb\nc\n").expect_stderr("");
    wd.sh("kget clicks --consumer one | cat").expect_stdout("");
    wd.sh("kget clicks --consumer one --fail-empty").done().expect_status(1).expect_stdout("");
    source.put(0, &["d"]);
    wd.sh("kget clicks --consumer one > file; cat file").expect_stdout("d\n");
    wd.sh("kget clicks --consumer two -o json | grep -c text").expect_stdout("4\n");
    wd.sh("kget clicks --consumer late --from latest").expect_stdout("");
    source.put(1, &["e"]);
    wd.sh("kget clicks --consumer late").expect_stdout("e\n");
    wd.sh("kget clicks --consumer one -n 1; kget clicks --consumer one").expect_stdout("e\n");
    wd.sh("kget clicks --consumer no/name").fails();
    wd.sh("kget clicks --consumer new --from at:49593949378240586316257100632041325623571072533185691922")
        .fails();
}

#[test]
fn a_limit_stops_the_checkpoint_inside_a_frame() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    source.put(0, &["a", "b", "c", "d"]);
    for line in ["a\n", "b\n", "c\n", "d\n", ""] {
        wd.sh("kget clicks --consumer c -n 1 | cat").expect_stdout(line);
    }
}

#[test]
fn a_limit_stops_inside_an_aggregate_too() {
    use kpipe::codec::kpl::{UserRecord, aggregate};
    use kpipe::log::{Batch, Codec, Fresh};
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    let user = |data| UserRecord { key: "k", explicit_hash: None, data };
    let payload = aggregate([user(b"x"), user(b"y"), user(b"z")]);
    let mut batch = Batch::new(Some(b'\n'));
    batch.push(Fresh { payload: b"w", ..Fresh::default() });
    batch.push(Fresh { payload: &payload, ..Fresh::default() });
    source.writer(0).append(&[batch.draft(Codec::None, None)]).unwrap();
    for line in ["w\n", "x\n", "y\n", "z\n", ""] {
        wd.sh("kget clicks --consumer c -n 1 | cat").expect_stdout(line);
    }
    let exec =
        "kget clicks --consumer e --exec 'cat; echo -' --batch-size 2 --template '{subseq}{payload}\\n'";
    wd.sh(exec).expect_stdout("w\n0x\n-\n1y\n2z\n-\n");
}

#[test]
fn what_was_not_taken_out_of_the_pipe_comes_again() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    let mut writer = source.writer(0);
    // More than a pipe holds, in frames and in lines that no block of a reader ends with.
    let all: Vec<String> = (0..30_000).map(|n| format!("{n:0>99}")).collect();
    for frame in all.chunks(500) {
        let frame: Vec<&str> = frame.iter().map(String::as_str).collect();
        put(&mut writer, &frame);
    }
    writer.pause().unwrap();
    let mut seen = 0;
    for _ in 0..5 {
        // head takes whole blocks and shows one line of them.
        wd.sh("kget clicks --consumer c | dd bs=10050 count=2 iflag=fullblock of=part status=none").ok();
        let part = wd.read("part");
        let whole: Vec<&str> = part.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
        assert_eq!(whole.len(), 201, "20100 bytes are 201 lines");
        assert_eq!(whole[0].trim(), all[seen], "nothing is skipped, nothing comes twice");
        seen += whole.len();
    }
    let rest = wd.sh("kget clicks --consumer c | cat").ok();
    assert_eq!(rest.lines(), all[seen..]);
    wd.sh("kget clicks --consumer c | cat").expect_stdout("");
}

#[test]
fn a_command_commits_by_exiting_0() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    source.put(0, &["a", "b", "c"]);
    wd.sh("kget clicks --consumer c --exec 'wc -l' --batch-size 2").expect_stdout("2\n1\n").expect_stderr("");
    wd.sh("kget clicks --consumer c --exec cat").expect_stdout("");
    source.put(0, &["d", "e"]);
    // It fails twice on `d e`, which comes again.
    let script =
        "kget clicks --consumer c --exec 'cat >> seen; test $KPIPE_ATTEMPT -ge 3' --max-backoff 10ms";
    let done = wd.sh(script).ok();
    assert_eq!(lines(&wd, "seen"), ["d", "e", "d", "e", "d", "e"]);
    assert_eq!(done.stderr.lines().count(), 2, "{}", done.stderr);
    assert!(done.stderr.contains("the command ended with exit status 1 on 2 records, attempt 1: again in"));
    source.put(0, &["f"]);
    let script = "kget clicks --consumer c --exec 'echo $KPIPE_STREAM $KPIPE_SHARD $KPIPE_CONSUMER $KPIPE_ATTEMPT; \
                  test $KPIPE_FIRST_SEQUENCE = $KPIPE_LAST_SEQUENCE'";
    let said = format!("{} shardId-000000000000 c 1\n", wd.join("clicks").display());
    wd.sh(script).expect_stdout(&said).expect_stderr("");
    wd.sh("kget clicks --consumer csv --exec cat -o csv --batch-size 4 | grep -c partition")
        .expect_stdout("2\n");
}

#[test]
fn a_command_need_not_read_its_input() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    let line = "x".repeat(1000);
    source.put(0, &vec![line.as_str(); 5000]);
    wd.sh("kget clicks --consumer c --exec true").expect_stdout("").expect_stderr("");
    wd.sh("kget clicks --consumer c --exec cat").expect_stdout("");
    wd.sh("kget clicks --consumer d --exec cat --batch-size 100KiB | wc -c").expect_stdout("5005000\n");
}

#[test]
fn a_command_may_finish_after_the_first_signal() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    source.put(0, &["a"]);
    let script = "exec kget clicks --consumer c --exec 'touch began; sleep 0.5; cat > done'";
    let kget = wd.sh(script).spawn();
    eventually("the command begins", || wd.join("began").exists());
    kget.signal("TERM");
    kget.wait().expect_status(143).expect_stderr("");
    assert_eq!(wd.read("done"), "a\n");
    wd.sh("kget clicks --consumer c").expect_stdout("");
    source.put(0, &["b"]);
    fs::remove_file(wd.join("began")).unwrap();
    let kget = wd.sh("exec kget clicks --consumer c --exec 'touch began; sleep 1000'").spawn();
    eventually("the command begins", || wd.join("began").exists());
    kget.signal("TERM");
    std::thread::sleep(Duration::from_millis(100));
    kget.signal("TERM");
    kget.wait().expect_status(143).expect_stderr("");
    wd.sh("kget clicks --consumer c").expect_stdout("b\n");
}

#[test]
fn two_workers_share_and_one_takes_over_from_the_dead() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 4);
    let script = |name: &str| format!("exec kget clicks --consumer c -f --from trim-horizon > {name}");
    let one = wd.sh(&script("one")).spawn();
    for shard in 0..4 {
        source.put(shard, &[&format!("a{shard}")]);
    }
    eventually("the first takes all", || lines(&wd, "one").len() == 4);
    let two = wd.sh(&script("two")).spawn();
    // Two of four are handed over.
    let mut round = 0;
    eventually("both read", || {
        round += 1;
        for shard in 0..4 {
            source.put(shard, &[&format!("b{shard}-{round}")]);
        }
        std::thread::sleep(Duration::from_millis(200));
        !lines(&wd, "two").is_empty()
    });
    let expected = 4 + round * 4;
    let all = || sorted([lines(&wd, "one"), lines(&wd, "two")].concat());
    eventually("all is read", || all().len() >= expected);
    assert_eq!(all().len(), expected, "a hand-over is no cause to read twice");
    // Long enough for a checkpoint: what was written to a file is committed within a second.
    std::thread::sleep(Duration::from_millis(2500));
    one.kill();
    for shard in 0..4 {
        source.put(shard, &[&format!("c{shard}")]);
    }
    let taken = || lines(&wd, "two").iter().filter(|line| line.starts_with('c')).count();
    eventually("the second has all of it", || taken() == 4);
    two.signal("TERM");
    two.wait().expect_status(143);
    assert_eq!(all().len(), expected + 4);
    wd.sh("kget clicks --consumer c").expect_stdout("");
}

#[test]
fn killed_in_the_middle_of_a_batch_loses_nothing() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    source.put(0, &["a", "b", "c"]);
    let script = "exec kget clicks --consumer c --batch-size 1 --exec \
                  'read line; echo $$ > pid; echo $line >> began; test $line != b || sleep 1000' > out 2>&1";
    let kget = wd.sh(script).spawn();
    eventually("b is begun", || lines(&wd, "began").contains(&"b".to_owned()));
    kget.kill();
    // The command has outlived it, and holds the lease.
    wd.sh("kget clicks --consumer c").expect_stdout("");
    wd.sh("kill -s KILL -- -$(cat pid)").ok();
    // Nobody does now.
    let mut rest = String::new();
    eventually("it is free", || {
        wd.sh("kget clicks --consumer c").ok().text().clone_into(&mut rest);
        !rest.is_empty()
    });
    assert_eq!(rest, "b\nc\n");
}

#[test]
fn a_worker_that_was_stopped_is_taken_over_from_and_cannot_commit() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    source.put(0, &["a"]);
    let script = "exec kget clicks --consumer c --failover 1s --exec 'cat >> one; touch began; sleep 1000'";
    let one = wd.sh(script).spawn();
    eventually("the command begins", || wd.join("began").exists());
    one.signal("STOP");
    let two = wd.sh("exec kget clicks --consumer c -f --failover 1s --exec 'cat >> two'").spawn();
    eventually("the second has it", || lines(&wd, "two") == ["a"]);
    one.signal("CONT");
    // Its command was killed, and what it says of its batch does not count.
    source.put(0, &["b"]);
    eventually("the second goes on", || lines(&wd, "two") == ["a", "b"]);
    let done = one.wait();
    assert!(done.stderr.contains("another worker has taken it over") || done.status == 0, "{}", done.stderr);
    two.signal("TERM");
    two.wait().expect_status(143);
    wd.sh("kget clicks --consumer c").expect_stdout("");
}

/// Somebody was stopped with the consumer's lock in hand: a signal did not end those who waited for it.
#[test]
fn a_signal_ends_the_wait_for_the_lock() {
    use kpipe::sys::Disk as _;
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    source.put(0, &["a"]);
    wd.sh("kget clicks --consumer c | cat").expect_stdout("a\n");
    let held = kpipe::sys::fs::RealDisk.locks(&wd.join("clicks/consumers/c/lock")).unwrap();
    held.lock(0, true).unwrap();
    let kget = wd.sh("exec kget clicks -f --consumer c").spawn();
    let workers = wd.join("clicks/consumers/c/workers");
    eventually("it joins", || fs::read_dir(&workers).unwrap().count() > 0);
    kget.signal("TERM");
    kget.wait().expect_status(143).expect_stdout("");
    drop(held);
    wd.sh("kget clicks --consumer c").expect_stdout("");
}

#[test]
fn run_twice_at_once_it_reads_once() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 3);
    for shard in 0..3 {
        source.put(shard, &[&format!("{shard}")]);
    }
    let script = "exec kget clicks --consumer c --exec 'cat >> out; touch began; sleep 0.3'";
    let runs: Vec<_> = (0..4).map(|_| wd.sh(script).spawn()).collect();
    for run in runs {
        run.wait().expect_status(0);
    }
    assert_eq!(sorted(lines(&wd, "out")), ["0", "1", "2"]);
}

#[test]
fn parents_before_children_for_a_consumer_too() {
    let wd = Workdir::new();
    let mut source = Source::create(&wd, "clicks", 1);
    source.put(0, &["0"]);
    wd.sh("kget clicks --consumer late --from latest").expect_stdout("");
    source.stream.split(ShardId(0), None).unwrap();
    source.put(1, &["1"]);
    source.put(2, &["2"]);
    source.stream.merge(ShardId(1), ShardId(2)).unwrap();
    source.put(3, &["3"]);
    wd.sh("kget clicks --consumer all -n 1 | cat").expect_stdout("0\n");
    wd.sh("kget clicks --consumer all | cat").expect_stdout("1\n2\n3\n");
    wd.sh("kget clicks --consumer all").expect_stdout("");
    wd.sh("kget clicks --consumer exec --exec cat").expect_stdout("0\n1\n2\n3\n");
    // Children are read from their start whatever the consumer began with.
    wd.sh("kget clicks --consumer late").expect_stdout("1\n2\n3\n");
    let mut kget = wd.sh("exec kget clicks -f --consumer live --from trim-horizon").spawn();
    assert_eq!(kget.read_until("3\n"), "0\n1\n2\n3\n");
    source.stream.split(ShardId(3), None).unwrap();
    source.put(4, &["4"]);
    assert_eq!(kget.read_until("\n"), "4\n");
    kget.signal("INT");
    kget.wait().expect_status(130).expect_stderr("");
    wd.sh("kget clicks --consumer live").expect_stdout("");
}

#[test]
fn a_bookmark_is_committed_or_its_time_is_up() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 2);
    source.put(0, &["a", "b"]);
    source.put(1, &["c"]);
    wd.sh("kget clicks --consumer c --bookmark mark | cat").expect_stdout("a\nb\nc\n");
    // In somebody's hands.
    wd.sh("kget clicks --consumer c").expect_stdout("");
    wd.sh("kget clicks --consumer c --commit mark; kget clicks --consumer c --commit mark").expect_stdout("");
    wd.sh("kget clicks --consumer c").expect_stdout("");
    source.put(0, &["d"]);
    wd.sh("kget clicks --consumer c --bookmark mark --bookmark-timeout 10ms").expect_stdout("d\n");
    wd.sh("sleep 0.1; kget clicks --consumer c --bookmark again").expect_stdout("d\n");
    let done = wd.sh("kget clicks --consumer c --commit mark").fails();
    assert!(done.stderr.contains("the bookmark is stale: shardId-000000000000 was handed out again"));
    wd.sh("kget clicks --consumer c --commit again; kget clicks --consumer c").expect_stdout("");
    wd.sh("kget clicks --consumer other --commit again").fails();
    wd.sh("kget clicks --consumer c --bookmark none; kget clicks --consumer c --commit none")
        .expect_stdout("");
}

#[test]
fn what_retention_took_is_told_once() {
    let wd = Workdir::new();
    let new = NewStream { segment_bytes: 1, ..NewStream::default() };
    let source = Source::create_as(&wd, "clicks", &new);
    let mut writer = source.writer(0);
    for line in ["a", "b", "c"] {
        put(&mut writer, &[line]);
        writer.roll().unwrap();
    }
    wd.sh("kget clicks --consumer c -n 1 | cat").expect_stdout("a\n");
    let log = source.stream.log_dir(&source.stream.manifest().shards[0]);
    kpipe::log::expire(&log, Some(i64::MAX), None).unwrap();
    put(&mut writer, &["d"]);
    let done = wd.sh("kget clicks --consumer c | cat; exit 0").done().expect_stdout("d\n");
    assert!(done.stderr.contains("missed records 1 to 2"), "{}", done.stderr);
    wd.sh("kget clicks --consumer c").expect_stdout("").expect_stderr("");
}

#[test]
fn consumers_can_be_looked_at() {
    let wd = Workdir::new();
    let mut source = Source::create(&wd, "clicks", 1);
    source.put(0, &["a", "b", "c"]);
    wd.sh("kshard consumers clicks")
        .expect_stdout("CONSUMER  SHARDS  DONE  WORKERS  BEHIND  AGE  COMMITTED\n");
    wd.sh("kget clicks --consumer c -n 1 | cat").expect_stdout("a\n");
    let list = wd.sh("kshard consumers clicks").ok();
    let row: Vec<&str> = list.lines()[1].split_whitespace().collect();
    assert_eq!(row[..5], ["c", "1", "0", "0", "2"], "{}", list.text());
    let one = wd.sh("kshard consumers clicks c").ok();
    assert!(one.lines()[1].starts_with("shardId-000000000000      -       2"), "{}", one.text());
    assert!(wd.sh("kshard consumers clicks c --why").ok().text().contains("a lease: nobody reads it"));
    wd.sh("kshard consumers clicks c --max-lag 1h").ok();
    wd.sh("kshard check clicks").ok();
    wd.sh("kshard consumers clicks --max-lag 0").done().expect_status(1);
    let json = wd.sh("kshard consumers clicks c -o json").ok();
    assert!(json.text().contains(r#""RecordsBehind": 2"#), "{}", json.text());
    source.stream.split(ShardId(0), None).unwrap();
    let why = wd.sh("kshard consumers clicks c --why").ok();
    assert!(why.lines()[2].ends_with("its parent shardId-000000000000"), "{}", why.text());
    // Somebody is at work, and fails at it.
    let kget = wd.sh("exec kget clicks --consumer c --exec 'exit 7' --max-backoff 50ms").spawn();
    eventually("it fails", || {
        wd.sh("kshard consumers clicks c --why")
            .ok()
            .text()
            .contains("its command, which ended with exit status 7")
    });
    let busy = wd.sh("kshard consumers clicks c --reset latest").fails();
    assert!(busy.stderr.contains(&format!("process {} reads for it", kget.id())), "{}", busy.stderr);
    wd.sh("kshard consumers clicks c --delete").fails();
    kget.signal("TERM");
    kget.wait().expect_status(143);
    wd.sh("kshard consumers clicks c --reset trim-horizon").expect_stdout("");
    wd.sh("kget clicks --consumer c").expect_stdout("a\nb\nc\n");
    wd.sh("kshard consumers clicks c --delete").expect_stdout("");
    wd.sh("kshard consumers clicks c").fails();
}
