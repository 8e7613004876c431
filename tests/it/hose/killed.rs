//! Runs that are killed at a named place, once or several times, and the run after them.

use std::fmt::Write as _;

use super::lake::{Place, records};
use crate::producer::{Dice, rounds};
use crate::workdir::Workdir;

/// Every place at which a delivery to objects can be killed.
pub(crate) const POINTS: [&str; 11] = [
    "plan.before",
    "plan.after",
    "store.put.before",
    "store.put.written",
    "store.put.named",
    "store.put.after",
    "deliver.after",
    "errors.after",
    "commit.before",
    "commit.after",
    "checkpoint.after",
];

/// What is tried: a format, and how records are told apart.
pub(super) const KINDS: [(&str, &str); 4] = [
    ("ndjson-whole", "-o ndjson --compression gzip --prefix x/"),
    ("ndjson-keys", "-o ndjson --compression gzip --prefix 'k=!{partitionKeyFromQuery:k}/'"),
    ("parquet-whole", "-o parquet --prefix x/"),
    ("parquet-keys", "-o parquet --prefix 'k=!{partitionKeyFromQuery:k}/'"),
];

/// Batches have some of the open objects and leave others.
pub(super) const SMALL: &str = "--buffer-size 12KiB";

/// A stream whose shards were split and merged while it was written, and what is in it.
pub(super) fn stream(wd: &Workdir, name: &str, count: u64) -> String {
    let part = |n: u64| records(n * count / 4, (n + 1) * count / 4);
    wd.sh(&format!("kput -q --create=2 --sync 2KiB,20ms {name}")).stdin(part(0)).ok();
    wd.sh(&format!("kshard split {name} 0; kput -q --sync 2KiB,20ms {name}")).stdin(part(1)).ok();
    wd.sh(&format!("kshard merge {name} 2 3; kput -q --sync 2KiB,20ms {name}")).stdin(part(2)).ok();
    wd.sh(&format!("kshard split {name} 1; kput -q --sync 2KiB,20ms {name}")).stdin(part(3)).ok();
    let input = wd.sh(&format!("kget {name}")).ok();
    assert_eq!(input.lines().len() as u64, count);
    input.text().to_owned()
}

/// Runs it, killed at one place after the other, and then to its end. Answers how often it was killed: not always is the
/// place met.
#[track_caller]
pub(super) fn killed_at(wd: &Workdir, place: &Place, options: &str, deaths: &[String]) -> usize {
    let mut killed = 0;
    for death in deaths {
        let done = place.khose(wd, "s", options).env("KPIPE_FAILPOINT", death).done();
        // 1: there are failed records. It is not always so far away.
        assert!(matches!(done.status, 0 | 1 | 137), "{death}: {}: {}", done.status, done.stderr);
        killed += usize::from(done.status == 137);
    }
    let done = place.khose(wd, "s", options).done();
    assert!(matches!(done.status, 0 | 1), "{options}: {}: {}", done.status, done.stderr);
    killed
}

#[test]
fn a_run_killed_at_any_place_is_made_good_by_the_next() {
    let wd = Workdir::new();
    let input = stream(&wd, "s", 1600);
    let visits: &[u32] = if rounds(1) > 1 { &[1, 2, 3, 4, 5, 9] } else { &[1, 3] };
    for (kind, options) in KINDS {
        for point in POINTS {
            for &visit in visits {
                let name = format!("{kind}-{point}-{visit}");
                let place = Place::dir(&wd, &name);
                let death = format!("{point}:{visit}");
                let killed = killed_at(&wd, &place, &format!("{options} {SMALL}"), &[death]);
                assert!(killed == 1 || visit > 1, "{name}: not met");
                let found = place.found();
                found.expect_once(&name, &input);
                found.expect_settled(&name);
            }
        }
    }
}

#[test]
fn runs_killed_one_after_the_other_are_made_good_by_the_last() {
    let wd = Workdir::new();
    let input = stream(&wd, "s", 2400);
    let mut dice = Dice::new(47);
    for round in 0..rounds(24) {
        let (kind, options) = KINDS[dice.throw(4) as usize];
        let mut deaths = Vec::new();
        for _ in 0..2 + dice.throw(5) {
            let point = POINTS[dice.throw(POINTS.len() as u64) as usize];
            deaths.push(format!("{point}:{}", 1 + dice.throw(4)));
        }
        let mut name = format!("{round}-{kind}");
        deaths.iter().for_each(|death| write!(name, "-{death}").expect("a text"));
        let place = Place::dir(&wd, &round.to_string());
        let killed = killed_at(&wd, &place, &format!("{options} {SMALL}"), &deaths);
        eprintln!("{name}: killed {killed} times");
        let found = place.found();
        found.expect_once(&name, &input);
        found.expect_settled(&name);
    }
}

/// Names change with the settings: those of each attempt are cleared away by whichever is the last.
#[test]
fn settings_that_change_between_killed_runs_leave_nothing_twice() {
    let wd = Workdir::new();
    let input = stream(&wd, "s", 1200);
    let settings = [
        "-o ndjson --compression gzip --prefix 'k=!{partitionKeyFromQuery:k}/'",
        "-o parquet --prefix 'a/'",
        "-o ndjson --prefix 'b/!{partitionKeyFromQuery:k}/' --errors '_errors/other/!{firehose:error-output-type}/'",
        "-o parquet --prefix 'c/' --errors '_errors/third/!{firehose:error-output-type}/' --buffer-size 1MiB",
    ];
    let deaths =
        ["store.put.after:3", "deliver.after:1", "errors.after:1", "commit.before:1", "store.put.named:4"];
    for (a, first) in deaths.iter().enumerate() {
        for (b, second) in deaths.iter().enumerate() {
            let place = Place::dir(&wd, &format!("{a}{b}"));
            for (n, death) in [first, second, &"never"].into_iter().enumerate() {
                let options =
                    format!("--consumer c{a}{b} {SMALL} {}", settings[(a + b + n) % settings.len()]);
                let options =
                    options.replace(&format!("{SMALL} -o parquet --prefix 'c/'"), "-o parquet --prefix 'c/'");
                let done = place.khose(&wd, "s", &options).env("KPIPE_FAILPOINT", death).done();
                assert!(matches!(done.status, 0 | 1 | 137), "{}", done.stderr);
            }
            let found = place.found();
            found.expect_once(&format!("{first} {second}"), &input);
            found.expect_settled(&format!("{first} {second}"));
        }
    }
}
