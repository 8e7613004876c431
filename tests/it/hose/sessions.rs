//! khose as one uses it: two at once, for ever, under make, and where something is in its way.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use super::lake::{Place, records};
use crate::producer::Dice;
use crate::workdir::{Workdir, left_out};

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn two_runs_of_one_delivery_are_one() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    wd.sh("kput -q --create s").stdin(records(0, 50)).ok();
    let first = place.khose(&wd, "s", "-f --buffer-interval 100ms").spawn();
    wait_for("the first records", || place.found().objects.len() == 1);
    let second = place.khose(&wd, "s", "").ok();
    let _ = second.expect_stderr_has("is at work already");
    // A stopped one holds it as well.
    first.signal("STOP");
    place.khose(&wd, "s", "").ok();
    first.signal("CONT");
    // Another destination is another delivery.
    let other = Place::dir(&wd, "other");
    assert_eq!(other.khose(&wd, "s", "").done().status, 1);
    first.signal("TERM");
    assert_eq!(first.wait().status, 143);
    place.found().expect_once("two at once", &records(0, 50));
    other.found().expect_once("another one", &records(0, 50));
}

/// What was read is delivered before it ends, long before it would be due.
#[test]
fn who_follows_and_is_told_to_end_delivers_first() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    wd.sh("kput -q --create=2 s").stdin(records(0, 300)).ok();
    for (signal, status) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let follower =
            place.khose(&wd, "s", "-f -o parquet --prefix 'k=!{partitionKeyFromQuery:k}/'").spawn();
        // Time to read.
        std::thread::sleep(Duration::from_millis(1500));
        follower.signal(signal);
        if signal == "HUP" {
            // Credentials are read again; it goes on.
            wd.sh("kput -q s").stdin(records(300, 400)).ok();
            std::thread::sleep(Duration::from_millis(500));
            follower.signal("TERM");
            assert_eq!(follower.wait().status, 143);
            place.found().expect_once(signal, &records(0, 400));
        } else {
            let done = follower.wait();
            assert_eq!(done.status, status, "{signal}: {}", done.stderr);
            place.found().expect_once(signal, &records(0, 300));
        }
    }
}

#[test]
fn an_idle_stream_is_delivered_in_time() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    wd.sh("kshard create -q s").ok();
    let follower = place.khose(&wd, "s", "-f --buffer-interval 300ms --prefix x/").spawn();
    wait_for("the ledger's folder", || wd.join("lake/_khose").is_dir());
    for n in 1..=3 {
        let begun = Instant::now();
        wd.sh("kput -q s").stdin(format!("{{\"n\":{n}}}\n")).ok();
        wait_for("an object", || place.found().objects.len() == n);
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(5), "{took:?}");
    }
    follower.signal("TERM");
    assert_eq!(follower.wait().status, 143);
}

#[test]
fn names_are_what_the_prefix_says() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    let line = r#"{"user":{"id":"ü/1"},"at":"2026-01-02T03:04:05Z"}"#;
    wd.sh("kput -q --create s").stdin(format!("{line}\n")).ok();
    let prefix =
        "dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/!{shard}/u=!{partitionKeyFromQuery:user.id}/";
    place.khose(&wd, "s", &format!("--prefix '{prefix}' --time-zone Asia/Kathmandu --extension .txt")).ok();
    let expected = wd.sh("TZ=Asia/Kathmandu date +dt=%Y-%m-%d/hour=%H/").ok();
    let found = place.found();
    assert_eq!(found.rows, [line]);
    let name = &found.objects[0];
    // Unless an hour has just begun.
    assert!(name.starts_with(expected.text().trim()) || !expected.text().contains("dt="), "{name}");
    assert!(name.contains("/shardId-000000000000/u=ü%2F1/s-1-"), "{name}");
    assert!(name.rsplit_once('.').is_some_and(|(_, extension)| extension == "txt"), "{name}");
}

#[test]
fn a_target_of_make_is_made_when_there_is_something_new() {
    let wd = Workdir::new();
    wd.sh("kput -q --create s").stdin("{\"n\":1}\n").ok();
    wd.write(
        "Makefile",
        "report.txt: hits.csv\n\twc -l < hits.csv >> report.txt\nhits.csv: FORCE\n\tkhose -q s hits.csv --if-changed\nFORCE:\n",
    );
    for (records, times) in [("", 1), ("", 1), ("{\"n\":2}\n", 2), ("", 2)] {
        wd.sh("test -t 0 || kput -q s").stdin(records).ok();
        wd.sh("make -s report.txt").ok();
        assert_eq!(wd.read("report.txt").lines().count(), times);
        // Make compares times, of which some systems keep only a few digits.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(wd.read("hits.csv"), "n\n1\n2\n");
}

#[test]
fn many_streams_go_to_one_place() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    for stream in ["a", "b", "c"] {
        wd.sh(&format!("kput -q --create {stream}")).stdin(format!("{{\"of\":\"{stream}\"}}\n")).ok();
    }
    place.khose(&wd, "a b", "").ok();
    assert_eq!(place.found().rows.len(), 2);
    let follower = place.khose(&wd, "a b c", "-f --buffer-interval 100ms").spawn();
    wd.sh("echo '{\"of\":\"more\"}' | kput -q b").ok();
    wait_for("the rest", || place.found().rows.len() == 4);
    follower.signal("TERM");
    assert_eq!(follower.wait().status, 143);
    place.found().expect_settled("many");
}

/// Two deliveries make other things of the same records, and put them into one place: none takes the other's name.
#[test]
fn deliveries_that_share_a_place_leave_each_other_alone() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    wd.sh("kput -q --create s").stdin("{\"a\":1,\"b\":2}\n{\"a\":3,\"b\":4}\n").ok();
    place.khose(&wd, "s", "--consumer a --prefix x/ --jq '{a}'").ok();
    let killed = place.khose(&wd, "s", "--consumer b --prefix x/ --jq '{b}'");
    assert_eq!(killed.env("KPIPE_FAILPOINT", "deliver.after").done().status, 137);
    place.khose(&wd, "s", "--consumer b --prefix x/ --jq '{b,c:1}' --extension .txt").ok();
    let found = place.found();
    assert_eq!(found.rows, ["{\"a\":1}", "{\"a\":3}", "{\"b\":2,\"c\":1}", "{\"b\":4,\"c\":1}"]);
    found.expect_settled("two deliveries");
}

/// From wherever it is called, one place is one place, and another is another.
#[test]
fn a_place_is_known_by_whichever_of_its_names() {
    let wd = Workdir::new();
    wd.sh("mkdir -p far/away; ln -s . here; kput -q --create s").stdin("{\"n\":1}\n").ok();
    for call in [
        "khose s lake/",
        "khose s ./lake",
        "khose s \"file://$PWD/lake/\"",
        "cd far/away; khose ../../s ../../lake/",
        "khose s here/lake/",
    ] {
        wd.sh(call).ok();
        assert_eq!(Place::dir(&wd, "lake").found().rows.len(), 1, "{call}");
    }
    wd.sh("cd far; khose ../s lake/").ok();
    assert_eq!(Place::dir(&wd, "far/lake").found().rows.len(), 1);
    // Streams are places too, and so are tables and indexes.
    wd.sh("kshard create -q copy; kshard create -q far/copy").ok();
    wd.sh("khose s kpipe:copy; khose s \"kpipe:$PWD/copy\"; cd far; khose ../s kpipe:copy").ok();
    wd.sh("kget copy; kget far/copy").ok().expect_stdout("{\"n\":1}\n{\"n\":1}\n");
    for dest in [
        "postgresql://h/d?table=a",
        "postgresql://h/d?table=b",
        // Reached in another way.
        "'postgresql://h/d?sslmode=disable&table=b'",
        "http://h:1/x --index a",
        "http://h:1/x --index b",
    ] {
        let _ = wd
            .sh(&format!("khose s {} --retry-duration 0", dest.replace("http:", "opensearch+http:")))
            .done();
    }
    let consumers = wd.sh("kshard consumers s -o json").ok();
    let consumers: serde_json::Value = serde_json::from_slice(&consumers.stdout).expect("JSON");
    let names = consumers.as_array().or(consumers["Consumers"].as_array()).map(Vec::len);
    assert_eq!(names, Some(8), "{consumers}");
}

#[test]
fn more_partitions_than_may_be_open_are_delivered_once() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    let mut input = String::new();
    for n in 0..6000 {
        let _ = writeln!(input, r#"{{"n":{n},"k":{}}}"#, n * 7 % 1500);
    }
    wd.sh("kput -q --create=2 s").stdin(&input).ok();
    let options = "--prefix '!{partitionKeyFromQuery:k}/' --partitions-max 20";
    let killed = place.khose(&wd, "s", options).env("KPIPE_FAILPOINT", "deliver.after:2").done();
    assert!(matches!(killed.status, 0 | 137), "{}", killed.stderr);
    place.khose(&wd, "s", options).ok();
    let found = place.found();
    found.expect_once("partitions", &input);
    assert!(found.objects.len() >= 1500);
    found.expect_settled("partitions");
}

/// Each open object has its share of the memory, and may need a file.
#[test]
fn many_partitions_hold_no_more_memory_and_files_than_they_may() {
    let wd = Workdir::new();
    let mut input = String::new();
    for n in 0..32_000 {
        let pad = format!("{:016x}", Dice::new(n + 1).throw(u64::MAX)).repeat(120);
        let _ = writeln!(input, r#"{{"n":{n},"k":{},"pad":"{pad}"}}"#, n * 7 % 400);
    }
    wd.sh("kput -q --create s").stdin(&input).ok();
    let place = Place::dir(&wd, "lake");
    let script = format!(
        "ulimit -Sn 300; exec khose s {} -f --buffer-interval 1h --memory 8MiB --prefix '!{{partitionKeyFromQuery:k}}/'",
        place.url
    );
    let follower = wd.sh(&script).spawn();
    // It has read all when it takes no time any more.
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", follower.id())).expect("a process");
        stat.rsplit(')')
            .next()
            .expect("fields")
            .split(' ')
            .skip(12)
            .take(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut before = Vec::new();
    wait_for("a process at rest", || {
        std::thread::sleep(Duration::from_millis(400));
        let now = ticks();
        let rests = now == before;
        before = now;
        rests
    });
    let status = fs::read_to_string(format!("/proc/{}/status", follower.id())).expect("a process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    follower.signal("TERM");
    let done = follower.wait();
    assert_eq!(done.status, 143, "{}", done.stderr);
    place.found().expect_once("many partitions", &input);
    assert!(peak < 75 << 10, "{} MiB in memory", peak >> 10);
}

#[test]
fn a_stream_that_is_deleted_meanwhile_ends_a_follower() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    wd.sh("kput -q --create s").stdin(records(0, 10)).ok();
    let follower = place.khose(&wd, "s", "-f --buffer-interval 100ms").spawn();
    wait_for("the first records", || place.found().objects.len() == 1);
    wd.sh("rm -r s").ok();
    let done = follower.wait();
    assert_eq!(done.status, 2, "{}", done.stderr);
    place.found().expect_once("deleted", &records(0, 10));
    // A new one of that name is another stream.
    wd.sh("kput -q --create s").stdin(records(0, 10)).ok();
    let _ = place.khose(&wd, "s", "").fails().expect_stderr_has("another stream");
}

/// Runs a script that may mount what it likes; `None` where that is not permitted.
fn mounting(wd: &Workdir, script: &str) -> Option<String> {
    let permitted = wd.sh("unshare -rm mount -t tmpfs -o size=1m none . 2>&1").done();
    if permitted.status != 0 {
        left_out(&format!("khose and full disks: nothing can be mounted here: {}", permitted.text().trim()));
        return None;
    }
    Some(wd.run("unshare").args(["-rm", "sh", "-euc", script]).ok().text().to_owned())
}

/// The destination's disk is full somewhere on the way; when there is room again all goes on.
#[test]
fn a_full_disk_loses_nothing() {
    for (round, filler) in [1000, 1300, 1500, 1700, 1840].into_iter().enumerate() {
        let wd = Workdir::new();
        let input = records(0, 3000);
        wd.write("input", &input);
        let format = ["-o ndjson", "-o parquet --prefix 'k=!{partitionKeyFromQuery:k}/'"][round % 2];
        let script = format!(
            r"
            kput -q --create=2 --sync 2KiB,20ms s < input
            mkdir full; mount -t tmpfs -o size=2m none full
            head -c {filler}k /dev/zero > full/filler
            status=0; khose -q s full/lake/ {format} --buffer-size 32KiB --retry-duration 1s 2> err || status=$?
            mount -o remount,size=64m full
            again=0; khose -q s full/lake/ {format} --buffer-size 32KiB || again=$?
            cp -r full/lake lake
            echo $status $again
            "
        );
        let Some(statuses) = mounting(&wd, &script) else { return };
        let err = wd.read("err");
        assert!(
            statuses.trim().ends_with(" 1") || statuses.trim().ends_with(" 0"),
            "{filler}: {statuses}{err}"
        );
        assert!(err.is_empty() || err.lines().all(|line| line.len() < 400), "{err}");
        let found = Place::dir(&wd, "lake").found();
        found.expect_once(&format!("{filler}: {statuses}{err}"), &input);
        found.expect_settled(&format!("{filler}"));
    }
}

#[test]
fn what_may_not_be_written_is_said_in_a_line() {
    let wd = Workdir::new();
    let script = r"
        kput -q --create s < input
        mkdir ro; mount -t tmpfs -o size=4m none ro; mkdir ro/lake; mount -o remount,ro ro
        status=0; khose s ro/lake/ 2> err || status=$?
        file=0; khose s ro/x.csv 2> err-file || file=$?
        mount -o remount,rw ro
        khose -q s ro/lake/; cp -r ro/lake lake
        echo $status $file
        ";
    wd.write("input", "{\"n\":1}\n");
    let Some(statuses) = mounting(&wd, script) else { return };
    assert_eq!(statuses.trim(), "2 2");
    for file in ["err", "err-file"] {
        let err = wd.read(file);
        assert!(err.starts_with("khose: ") && err.contains("Read-only file system"), "{err}");
        assert!(err.lines().count() <= 2, "{err}");
    }
    assert_eq!(Place::dir(&wd, "lake").found().rows, ["{\"n\":1}"]);
}

/// Files of a run that was killed do not stay.
#[test]
fn nothing_is_left_behind_by_killed_runs() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    wd.sh("kput -q --create s").stdin(records(0, 4000)).ok();
    for death in ["plan.before", "plan.after", "store.put.named", "commit.before"] {
        let done = place.khose(&wd, "s", "-o lines --prefix x/").env("KPIPE_FAILPOINT", death).done();
        assert_eq!(done.status, 137);
    }
    place.khose(&wd, "s", "-o lines --prefix x/").ok();
    let hidden = wd
        .sh("find lake -name '.*' ! -name .tmp -type f | wc -l; find lake -name '*.plan.json' | wc -l")
        .ok();
    let _ = hidden.expect_stdout("0\n0\n");
    assert_eq!(place.found().objects.len(), 1);
    let kept = fs::read_dir(wd.join("lake/x")).expect("a directory").count();
    assert_eq!(kept, 1);
}
