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

/// A command that had failed was blamed when nobody ran it any more, and a shard that had ended was said to take records
/// faster than they were read, for ever.
#[test]
fn why_tells_a_failing_command_from_no_worker_and_an_ended_shard_from_a_busy_one() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    source.put(0, &["a", "b"]);
    let why = || wd.sh("kshard consumers clicks c --why | tail -n 1").ok().text().to_owned();
    let mut kget = wd.sh("exec kget clicks --consumer c --exec 'exit 3' -f --from trim-horizon").spawn();
    eventually("a failure", || {
        wd.sh("kshard consumers clicks c --why").done().text().contains("its command, which")
    });
    kget.end_input();
    kget.signal("TERM");
    kget.wait().expect_status(143);
    let line = why();
    assert!(line.contains("a lease: nobody reads it; its last command ended with"), "{line}");
    let shard = |wd: &Workdir| -> serde_json::Value {
        let done = wd.sh("kshard consumers clicks c -o json").ok();
        let found: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
        found["Shards"][0].clone()
    };
    assert!(shard(&wd)["RecordsInPerSecond"].as_f64() > Some(0.0));
    assert_eq!(shard(&wd)["WaitsFor"], serde_json::json!({"Kind": "worker"}));
    assert_eq!(shard(&wd)["LastFailure"]["Status"], "exit status 3");
    assert_eq!(shard(&wd)["Checkpoint"], serde_json::json!({"at": "TRIM_HORIZON"}));
    wd.sh("kshard split clicks 0").ok();
    assert_eq!(shard(&wd)["RecordsInPerSecond"], 0.0);
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
    // Batches of one aggregate can be told apart, and a place in one can be named.
    let exec = "kget clicks --consumer s --batch-size 1 --exec \
                'cat > /dev/null; echo \"$KPIPE_FIRST_SUBSEQUENCE-$KPIPE_LAST_SUBSEQUENCE\"'";
    wd.sh(exec).expect_stdout("-\n0-0\n1-1\n2-2\n");
    let number = wd.sh("kget clicks -n 2 --template '{seq}\\n' | tail -n 1").ok().text().trim().to_owned();
    for (from, rest) in [("at", "y\nz\n"), ("after", "z\n")] {
        wd.sh(&format!("kget clicks --from {from}:{number}/1")).expect_stdout(rest);
    }
    wd.sh(&format!("kget clicks --from at:{number}/0")).expect_stdout("x\ny\nz\n");
    wd.sh(&format!("kget clicks --from after:{number}/2")).expect_stdout("");
    wd.sh(&format!("kget clicks --until at:{number}/1")).fails();
    wd.sh(&format!("kget clicks --from at:{number}/x")).fails();
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

/// A bookmark was called stale after a later one had been committed, for a reason that was not true; what was handed out
/// for one that could not be written was in nobody's hands for five minutes; and a file that is no bookmark led to a
/// hint about a stream with no name.
#[test]
fn a_bookmark_that_was_committed_stays_so_and_one_that_cannot_be_kept_reserves_nothing() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    source.put(0, &["a"]);
    wd.sh("kget clicks --consumer c --bookmark one; kget clicks --consumer c --commit one")
        .expect_stdout("a\n");
    source.put(0, &["b"]);
    wd.sh("kget clicks --consumer c --bookmark two; kget clicks --consumer c --commit two")
        .expect_stdout("b\n");
    wd.sh("kget clicks --consumer c --commit one; kget clicks --consumer c --commit two").expect_stdout("");
    source.put(0, &["c"]);
    wd.sh("kget clicks --consumer c --bookmark nodir/x").fails();
    wd.sh("mkdir dir; kget clicks --consumer c --bookmark dir").fails();
    wd.sh("kget clicks --consumer c").expect_stdout("c\n");
    wd.sh("echo junk > junk; kget clicks --consumer c --commit junk").fails().expect_stderr(&format!(
        "kget: stream clicks ({0}): bookmark: junk: is not a bookmark: its first line is not right: expected value at \
         line 1 column 1\n",
        wd.join("clicks").display()
    ));
    let done = wd.sh("kget clicks --consumer nobody --commit two").fails();
    assert!(done.stderr.contains("try: kshard consumers "), "{}", done.stderr);
    assert!(!wd.join("clicks/consumers/nobody").exists());
}

/// A worker that had been stopped, and whose shard another had taken over and handed back, got it back and dropped it in
/// one look at the leases: it held it for ever and read nothing.
#[test]
fn a_worker_that_was_stopped_reads_what_it_holds_again() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 1);
    for (name, how) in [("exec", "--exec 'cat >> exec.out'"), ("file", "> file.out")] {
        let out = format!("{name}.out");
        let script = format!("exec kget clicks -f --from latest --consumer {name} --failover 1s {how}");
        let one = wd.sh(&script).spawn();
        eventually("it is there", || wd.join(format!("clicks/consumers/{name}/state.json")).exists());
        source.put(0, &["a"]);
        eventually("it reads", || lines(&wd, &out) == ["a"]);
        // Longer than a checkpoint takes.
        std::thread::sleep(Duration::from_millis(1500));
        one.signal("STOP");
        source.put(0, &["b"]);
        let mut other = String::new();
        eventually("another takes over", || {
            let taken = wd.sh(&format!("kget clicks --consumer {name} --failover 1s --exec cat")).ok();
            other.push_str(taken.text());
            !other.is_empty()
        });
        assert_eq!(other, "b\n");
        one.signal("CONT");
        eventually("it is awake", || {
            source.put(0, &["c"]);
            lines(&wd, &out).contains(&"c".to_owned())
        });
        one.signal("TERM");
        one.wait().expect_status(143);
    }
}

/// With nowhere to write, all of it was read, written nowhere and counted.
#[test]
fn a_closed_standard_output_takes_nothing() {
    let wd = Workdir::new();
    Source::create(&wd, "clicks", 1).put(0, &["a"]);
    wd.sh("kget clicks --consumer c >&-").fails().expect_stderr_has("standard output is closed");
    wd.sh("kget clicks --consumer c").expect_stdout("a\n");
    wd.sh("kget clicks --consumer c --from trim-horizon > /dev/null").expect_stdout("");
}

/// A sequence number is refused by a consumer that reads all shards, before anything of the consumer is made.
#[test]
fn a_consumer_that_cannot_begin_leaves_nothing_behind() {
    let wd = Workdir::new();
    Source::create(&wd, "clicks", 1).put(0, &["a"]);
    let number = wd.sh("kget clicks --template '{seq}'").ok().text().to_owned();
    wd.sh(&format!("kget clicks --consumer c --from at:{number}")).fails();
    assert!(!wd.join("clicks/consumers").exists());
}

/// While the command failed on what was read of some shards, the others were read on and on.
#[test]
fn a_command_that_fails_does_not_fill_the_memory() {
    let wd = Workdir::new();
    let source = Source::create(&wd, "clicks", 16);
    let line = "x".repeat(100);
    for shard in 0..16 {
        let mut writer = source.writer(shard);
        for _ in 0..6 {
            put(&mut writer, &vec![line.as_str(); 10_000]);
        }
        writer.pause().unwrap();
    }
    let script = "exec kget clicks --consumer c --exec false --batch-size 24MiB --max-backoff 100ms 2> err";
    let kget = wd.sh(script).spawn();
    // It has gone through the batches that there is room for when one of them comes again.
    eventually("it has read what it can", || lines(&wd, "err").iter().any(|line| line.contains("attempt 4")));
    let status = fs::read_to_string(format!("/proc/{}/status", kget.id())).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let kib: u64 = most.strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(kib < (64 + 2) << 10, "{most}");
    kget.signal("TERM");
    kget.wait().expect_status(143);
}

/// A size that is not to be had was cut in silence.
#[test]
fn batches_have_a_limit() {
    let wd = Workdir::new();
    Source::create(&wd, "clicks", 1).put(0, &["a"]);
    let done = wd.sh("kget clicks --consumer c --exec cat --batch-size 64MiB").fails();
    assert!(done.stderr.contains("at most 24MiB"), "{}", done.stderr);
    wd.sh("kget clicks --consumer c --exec cat --batch-size 24MiB").expect_stdout("a\n");
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
