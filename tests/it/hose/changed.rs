//! What has changed between a run that was killed and the next one: the consumer, the stream, the options.

use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::killed::{SMALL, stream};
use super::lake::{Place, records};
use crate::producer::{Dice, rounds};
use crate::workdir::Workdir;

/// Lines `{"n":FROM}` to `{"n":TO - 1}`.
fn numbers(from: u64, to: u64) -> String {
    (from..to).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, r#"{{"n":{n}}}"#);
        text
    })
}

/// Now, for an option; what is stored before is before it, and what is stored after is not.
fn now(wd: &Workdir) -> String {
    sleep(Duration::from_millis(20));
    let time = wd.sh("date -u +%Y-%m-%dT%H:%M:%S.%6NZ").ok().text().trim().to_owned();
    sleep(Duration::from_millis(20));
    time
}

#[test]
fn a_shard_whose_end_was_committed_and_not_noted_is_left_behind() {
    for death in ["commit.before", "commit.after", "checkpoint.after"] {
        let (wd, input) = (Workdir::new(), numbers(0, 200));
        let place = Place::dir(&wd, "lake");
        wd.sh("kput -q --create s; kshard split s 0").stdin(numbers(0, 100)).ok();
        wd.sh("kput -q s").stdin(numbers(100, 200)).ok();
        place.khose(&wd, "s", "").env("KPIPE_FAILPOINT", death).done().expect_status(137).expect_stdout("");
        place.khose(&wd, "s", "").ok();
        place.found().expect_once(death, &input);
    }
}

#[test]
fn a_follower_that_finds_such_a_shard_goes_on_and_does_not_spin() {
    for death in ["deliver.after", "commit.after"] {
        let wd = Workdir::new();
        let place = Place::dir(&wd, "lake");
        wd.sh("kput -q --create s; kshard split s 0").stdin(numbers(0, 100)).ok();
        place.khose(&wd, "s", "").env("KPIPE_FAILPOINT", death).done().expect_status(137).expect_stdout("");
        let follower = place.khose(&wd, "s", "-f --buffer-interval 100ms").spawn();
        wd.sh("kput -q s").stdin(numbers(100, 200)).ok();
        let begun = Instant::now();
        while place.found().rows.len() < 200 && begun.elapsed() < Duration::from_secs(20) {
            sleep(Duration::from_millis(50));
        }
        sleep(Duration::from_millis(500));
        let ticks = |id: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("a process");
            let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split(' ').collect();
            // In hundredths of a second.
            fields[12].parse::<u64>().expect("a time") + fields[13].parse::<u64>().expect("a time")
        };
        let before = ticks(follower.id());
        sleep(Duration::from_secs(2));
        let used = ticks(follower.id()) - before;
        follower.signal("TERM");
        let done = follower.wait();
        assert!(done.status == 143, "{death}: {}: {}", done.status, done.stderr);
        place.found().expect_once(death, &numbers(0, 200));
        assert!(used < 60, "{death}: {used} hundredths of a second of work in 2 s, with nothing to do");
    }
}

#[test]
fn a_consumer_that_was_moved_forward_skips_what_is_not_planned() {
    for death in ["plan.after", "deliver.after", "commit.before", "commit.after"] {
        let wd = Workdir::new();
        let place = Place::dir(&wd, "lake");
        wd.sh("kput -q --create s").stdin(numbers(0, 100)).ok();
        place
            .khose(&wd, "s", "--consumer c")
            .env("KPIPE_FAILPOINT", death)
            .done()
            .expect_status(137)
            .expect_stdout("");
        wd.sh("kput -q s; kshard consumers s c --reset latest").stdin(numbers(100, 150)).ok();
        wd.sh("kput -q s").stdin(numbers(150, 180)).ok();
        place.khose(&wd, "s", "--consumer c").ok();
        let expected = numbers(0, 100) + &numbers(150, 180);
        place.found().expect_once(death, &expected);
        place.khose(&wd, "s", "--consumer c").ok();
        place.found().expect_once(death, &expected);
    }
}

/// Some of what lies behind the new place was delivered already, with other objects than what lies before it.
#[test]
fn a_consumer_that_was_moved_into_what_was_left_delivers_nothing_twice() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    let (first, second) = (records(0, 800), records(800, 1600));
    wd.sh("kput -q --create --sync 2KiB,20ms s").stdin(&first).ok();
    let time = now(&wd);
    wd.sh("kput -q --sync 2KiB,20ms s").stdin(&second).ok();
    let options = format!("--consumer c --prefix 'k=!{{partitionKeyFromQuery:k}}/' {SMALL}");
    // Until the frequent keys of the second part are delivered; the rare ones of the first are not.
    let is_of_second = |row: &String| second.lines().any(|line| line == row);
    let mut runs = 0;
    while !place.found().rows.iter().any(is_of_second) {
        let died = place.khose(&wd, "s", &options).env("KPIPE_FAILPOINT", "checkpoint.after").done();
        assert_eq!(died.status, 137, "after {runs} runs: {}", died.stderr);
        runs += 1;
    }
    let before = place.found();
    assert!(first.lines().any(|line| !before.rows.iter().any(|row| row == line)), "nothing was left");
    wd.sh(&format!("kshard consumers s c --reset {time}")).ok();
    let done = place.khose(&wd, "s", &options).done();
    assert!(matches!(done.status, 0 | 1), "{}", done.stderr);
    let after = place.found();
    // What was left of the first part is skipped, for that was asked for.
    let mut rows: Vec<&String> = after.rows.iter().chain(&after.failed).collect();
    let all = rows.len();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), all, "some are there twice");
    assert!(
        second.lines().all(|line| after.rows.iter().chain(&after.failed).any(|row| row == line)),
        "some are lost"
    );
}

/// What was delivered once is not delivered again because the consumer forgot: the destination knows. It says so.
#[test]
fn a_consumer_that_was_moved_back_is_told_what_the_destination_has() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    wd.sh("kput -q --create s").stdin(numbers(0, 100)).ok();
    place.khose(&wd, "s", "--consumer c").ok();
    wd.sh("kshard consumers s c --reset trim-horizon; kput -q s").stdin(numbers(100, 120)).ok();
    let done = place.khose(&wd, "s", "--consumer c").ok();
    let _ = done.expect_stderr_has("the destination has more than the consumer knows of");
    place.found().expect_once("moved back", &numbers(0, 120));
}

#[test]
fn an_end_that_comes_before_the_end_of_a_planned_batch_leaves_it_whole() {
    for death in ["plan.after", "deliver.after", "commit.before"] {
        let wd = Workdir::new();
        let place = Place::dir(&wd, "lake");
        wd.sh("kput -q --create s").stdin(numbers(0, 100)).ok();
        let time = now(&wd);
        wd.sh("kput -q s").stdin(numbers(100, 200)).ok();
        place.khose(&wd, "s", "").env("KPIPE_FAILPOINT", death).done().expect_status(137).expect_stdout("");
        wd.sh("kput -q s").stdin(numbers(200, 210)).ok();
        place.khose(&wd, "s", &format!("--until {time}")).ok();
        place.found().expect_once(death, &numbers(0, 200));
        place.khose(&wd, "s", "").ok();
        place.found().expect_once(death, &numbers(0, 210));
    }
}

#[test]
fn a_follower_ends_where_it_was_told_to() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    wd.sh("kput -q --create=2 s; kshard split s 0").stdin(numbers(0, 100)).ok();
    wd.sh("kput -q s").stdin(numbers(100, 150)).ok();
    let time = now(&wd);
    wd.sh("kput -q s").stdin(numbers(150, 200)).ok();
    place.khose(&wd, "s", &format!("-f --until {time}")).ok();
    place.found().expect_once("until", &numbers(0, 150));
}

#[test]
fn lines_that_are_no_envelopes_say_nothing_of_a_shard() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    wd.sh("kput -q --create s").stdin(numbers(0, 200)).ok();
    let script = "kget s -o json > all; head -n 1 all > some; seq 300 >> some; sed -n 2,50p all >> some";
    wd.sh(script).ok();
    let junk = place.khose(&wd, "-", "-i json < some").done();
    assert_eq!(junk.status, 1, "{}", junk.stderr);
    assert_eq!((place.found().rows.len(), place.found().failed.len()), (50, 300));
    place.khose(&wd, "-", "-i json < all").ok();
    let found = place.found();
    assert_eq!(found.failed.len(), 300);
    assert_eq!(found.rows.len(), 200, "records behind the junk are lost, or doubled");
}

#[test]
fn a_batch_of_another_stream_is_not_done_again() {
    let wd = Workdir::new();
    wd.sh("mkdir a b; kput -q --create a/s; echo b | kput -q --create b/s").stdin(numbers(0, 10)).ok();
    let place = Place::dir(&wd, "lake");
    place
        .khose(&wd, "a/s", "")
        .env("KPIPE_FAILPOINT", "deliver.after")
        .done()
        .expect_status(137)
        .expect_stdout("");
    let _ = place.khose(&wd, "b/s", "").fails().expect_stderr_has("another stream");
    place.khose(&wd, "a/s", "").ok();
    place.found().expect_once("its own", &numbers(0, 10));
}

/// Retention removes records of a batch that was delivered and not committed: the objects that are there stay.
#[test]
fn what_was_delivered_stays_though_the_stream_forgets_it() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    wd.sh("kshard create -q s --segment-size 4KiB; kput -q s --sync 1KiB,1ms").stdin(numbers(0, 2000)).ok();
    for death in ["deliver.after", "commit.before", "plan.after"] {
        let place = place.below(death);
        let done = place.khose(&wd, "s", &format!("--consumer {death}")).env("KPIPE_FAILPOINT", death).done();
        assert_eq!(done.status, 137, "{}", done.stderr);
    }
    wd.sh("kshard retention s --bytes 8KiB; kshard trim s; kput -q s").stdin(numbers(2000, 2100)).ok();
    let readable = wd.sh("kget s").done().lines().len();
    assert!(readable < 1500, "{readable} are left");
    for death in ["deliver.after", "commit.before"] {
        let place = place.below(death);
        let done = place.khose(&wd, "s", &format!("--consumer {death}")).done();
        assert!(matches!(done.status, 0 | 1), "{}", done.stderr);
        let found = place.found();
        found.expect_once(death, &numbers(0, 2100));
        found.expect_settled(death);
    }
    // Nothing was there: what is left is delivered, and the rest is said to be gone.
    let place = place.below("plan.after");
    let done = place.khose(&wd, "s", "--consumer plan.after").done();
    assert!(
        matches!(done.status, 0 | 1) && done.stderr.contains("retention removed them"),
        "{}: {}",
        done.status,
        done.stderr
    );
    let found = place.found();
    assert_eq!(found.rows.len(), readable);
    found.expect_settled("plan.after");
}

/// A filter that changes lines and leaves others out does not tell which is which.
#[test]
fn a_filter_that_changes_lines_loses_none_when_it_is_killed() {
    let wd = Workdir::new();
    let input = records(0, 3000);
    wd.sh("kput -q --create=2 --sync 2KiB,20ms s").stdin(&input).ok();
    let command = r#"grep "\"k\":\"k[0124]" | sed "s/\"pad\":/\"changed\":/""#;
    let expected: String = input
        .lines()
        .filter(|line| ["k0", "k1", "k2", "k4"].iter().any(|k| line.contains(&format!(r#""k":"{k}"#))))
        .fold(String::new(), |text, line| text + &line.replace("\"pad\":", "\"changed\":") + "\n");
    for (n, death) in
        ["checkpoint.after:1", "checkpoint.after:3", "commit.before:2", "deliver.after:1"].iter().enumerate()
    {
        let place = Place::dir(&wd, &n.to_string());
        let options = format!("--filter '{command}' --prefix 'k=!{{partitionKeyFromQuery:k}}/' {SMALL}");
        for death in [death, "checkpoint.after:1", "never"] {
            let done = place.khose(&wd, "s", &options).env("KPIPE_FAILPOINT", death).done();
            assert!(matches!(done.status, 0 | 137), "{}", done.stderr);
        }
        place.found().expect_once(death, &expected);
    }
}

/// A shard of a batch that was delivered and not committed has expired whole, and the run that is told so is killed too.
#[test]
fn what_was_delivered_of_a_shard_that_has_expired_stays() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    wd.sh("kshard create -q s --segment-size 4KiB; kput -q s --sync 1KiB,1ms").stdin(numbers(0, 1000)).ok();
    let done = place.khose(&wd, "s", "--consumer c").env("KPIPE_FAILPOINT", "deliver.after").done();
    assert_eq!(done.status, 137, "{}", done.stderr);
    wd.sh("kshard split s 0; kput -q s --sync 1KiB,1ms").stdin(numbers(1000, 2000)).ok();
    wd.sh("kshard retention s --bytes 16KiB; kshard trim s; kshard list s | grep -q shardId-000000000000 && exit 1; true").ok();
    for _ in 0..2 {
        let done = place.khose(&wd, "s", "--consumer c").env("KPIPE_FAILPOINT", "plan.after").done();
        assert!(matches!(done.status, 0 | 137), "{}", done.stderr);
    }
    let done = place.khose(&wd, "s", "--consumer c").done();
    assert!(matches!(done.status, 0 | 1), "{}", done.stderr);
    let found = place.found();
    for line in numbers(0, 1000).lines() {
        assert_eq!(found.rows.iter().filter(|row| *row == line).count(), 1, "{line}");
    }
    found.expect_settled("expired");
    let readable = wd.sh("kget s").done().lines().len();
    assert_eq!(found.rows.len(), 1000 + readable);
}

/// The destination knows what it has, whatever becomes of the consumer.
#[test]
fn a_consumer_that_was_deleted_delivers_nothing_twice() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    let input = stream(&wd, "s", 800);
    let options = format!("--consumer c --prefix 'k=!{{partitionKeyFromQuery:k}}/' {SMALL}");
    for death in ["checkpoint.after:1", "commit.after:2", "deliver.after:1", "never"] {
        let done = place.khose(&wd, "s", &options).env("KPIPE_FAILPOINT", death).done();
        assert!(matches!(done.status, 0 | 1 | 137), "{}", done.stderr);
        wd.sh("kshard consumers s c --delete").ok();
    }
    let done = place.khose(&wd, "s", &options).done();
    assert!(matches!(done.status, 0 | 1), "{}", done.stderr);
    place.found().expect_once("deleted", &input);
}

/// Columns that come later, and values that do not fit: whichever is first decides, in each attempt anew.
#[test]
fn columns_that_change_on_the_way_lose_no_record_of_a_killed_run() {
    let wd = Workdir::new();
    let mut input = String::new();
    for n in 0..4000 {
        let pad = format!("{:016x}", Dice::new(n + 1).throw(u64::MAX)).repeat(10);
        let _ = match n {
            _ if n % 50 == 49 => writeln!(input, r#"{{"n":{n},"v":{{"x":{n}}}}}"#),
            _ if n > 2500 => writeln!(input, r#"{{"n":{n},"v":{n}.5,"w":"{pad}","u":[{n}]}}"#),
            _ if n > 1000 => writeln!(input, r#"{{"n":{n},"v":{n},"w":"{pad}"}}"#),
            _ => writeln!(input, r#"{{"n":{n},"v":{n}}}"#),
        };
    }
    wd.sh("kput -q --create=2 --sync 2KiB,20ms s").stdin(&input).ok();
    // 1 and 1.0 are one in the column that it becomes.
    let same = |text: &str| text.replace(".0,", ",").replace(".0}", "}");
    let mut dice = Dice::new(81);
    for round in 0..rounds(6) {
        let place = Place::dir(&wd, &round.to_string());
        let options = "-o parquet --prefix x/ --buffer-size 40KiB";
        for n in 0..=2 + dice.throw(3) {
            let points = ["plan.after", "deliver.after", "errors.after", "commit.after", "store.put.after"];
            let death = format!("{}:{}", points[dice.throw(5) as usize], 1 + dice.throw(3));
            let death = if n == 0 { "plan.before:2".to_owned() } else { death };
            let done = place.khose(&wd, "s", options).env("KPIPE_FAILPOINT", death).done();
            assert!(matches!(done.status, 0 | 1 | 137), "{}", done.stderr);
        }
        let done = place.khose(&wd, "s", options).done();
        assert!(matches!(done.status, 0 | 1), "{}", done.stderr);
        let mut found = place.found();
        assert!(!found.failed.is_empty() && found.rows.len() > 3000);
        found.rows.iter_mut().for_each(|row| *row = same(row));
        found.expect_once(&format!("round {round}"), &input);
    }
}

/// Left out, every one of them, or failed: that is news as well, and is read once.
#[test]
fn a_run_that_delivers_nothing_gets_on() {
    let wd = Workdir::new();
    wd.sh("kput -q --create s").stdin(numbers(0, 100)).ok();
    let (none, failed) = (Place::dir(&wd, "none"), Place::dir(&wd, "failed"));
    none.khose(&wd, "s", "--jq empty").ok();
    assert_eq!(failed.khose(&wd, "s", "--prefix '!{partitionKeyFromQuery:k}/'").done().status, 1);
    assert_eq!((failed.found().rows.len(), failed.found().failed.len()), (0, 100));
    for place in [&none, &failed] {
        let again = place.khose(&wd, "s", "").ok();
        assert!(again.stderr.contains(" 0 records delivered"), "{}", again.stderr);
        assert!(place.found().rows.is_empty());
    }
    // One that follows notes it down too.
    let consumer = "--consumer f -f --buffer-interval 100ms --jq empty";
    let follower = none.khose(&wd, "s", consumer).spawn();
    let begun = Instant::now();
    let noted = |name: &String| name.starts_with("s.f/") && !name.ends_with(".plan.json");
    while !none.found().ledger.keys().any(noted) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not get on");
        sleep(Duration::from_millis(50));
    }
    let _ = follower.kill();
    let again = none.khose(&wd, "s", "--consumer f").ok();
    assert!(again.stderr.contains(" 0 records delivered"), "{}", again.stderr);
}

/// What is damaged is passed over and told of, and no run makes more of it than another.
#[test]
fn damage_costs_no_other_record() {
    let wd = Workdir::new();
    wd.sh("kput -q --create --sync 1KiB,1ms s").stdin(numbers(0, 2000)).ok();
    let segment =
        wd.sh("find s -name '*.log' -o -name '*.seg' -o -path '*shard*' -type f -size +8k | head -n 1").ok();
    let segment = wd.join(segment.text().trim());
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 40].fill(0x55);
    std::fs::write(&segment, bytes).expect("a segment");
    let readable = wd.sh("kget s --on-error skip").done();
    let readable = readable.text().to_owned();
    assert!(readable.lines().count() < 2000, "nothing was damaged");
    for death in ["deliver.after", "plan.after", "commit.after"] {
        let place = Place::dir(&wd, death);
        let done = place.khose(&wd, "s", "").env("KPIPE_FAILPOINT", death).done();
        assert_eq!(done.status, 137, "{}", done.stderr);
        let done = place.khose(&wd, "s", "").done();
        assert!(matches!(done.status, 0 | 1), "{}", done.stderr);
        place.found().expect_once(death, &readable);
    }
}

/// More batches than there are between two hints of the ledger.
#[test]
fn a_long_ledger_is_found_by_its_hint() {
    let wd = Workdir::new();
    let place = Place::dir(&wd, "lake");
    let options = "--buffer-interval 10ms --prefix x/ -f";
    wd.sh("kshard create -q s").ok();
    let follower = place.khose(&wd, "s", options).spawn();
    for n in 0..140 {
        wd.sh("kput -q s").stdin(numbers(n, n + 1)).ok();
        sleep(Duration::from_millis(20));
    }
    let done = follower.kill();
    assert_eq!(done.status, 137, "{}", done.stderr);
    wd.sh("kput -q s").stdin(numbers(140, 150)).ok();
    let died = place.khose(&wd, "s", "").env("KPIPE_FAILPOINT", "deliver.after").done();
    assert_eq!(died.status, 137, "{}", died.stderr);
    place.khose(&wd, "s", "").ok();
    let found = place.found();
    assert!(found.ledger.keys().any(|name| name.ends_with("latest.json")), "{} entries", found.ledger.len());
    found.expect_once("hint", &numbers(0, 150));
    // It is a hint and no more.
    wd.sh("hint=$(ls lake/_khose/*/latest.json); echo '{\"committed\":70}' > $hint").ok();
    wd.sh("kput -q s").stdin(numbers(150, 160)).ok();
    place.khose(&wd, "s", "").ok();
    place.found().expect_once("an old hint", &numbers(0, 160));
}
