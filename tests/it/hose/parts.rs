//! Records that are taken apart or changed on the way, pipes, and what is kept beside: killed like the rest.

use std::fmt::Write as _;
use std::time::Duration;

use kpipe::codec::kpl::{self, UserRecord};

use super::killed::SMALL;
use super::lake::{Place, records};
use crate::producer::{Dice, rounds};
use crate::workdir::Workdir;

/// So many deaths at random places, and then a run to the end.
fn killed_often(wd: &Workdir, place: &Place, source: &str, options: &str, dice: &mut Dice) {
    const POINTS: [&str; 7] = [
        "plan.after",
        "store.put.before",
        "store.put.after",
        "deliver.after",
        "errors.after",
        "commit.after",
        "checkpoint.after",
    ];
    let deaths: Vec<String> = (0..2 + dice.throw(4))
        .map(|_| format!("{}:{}", POINTS[dice.throw(7) as usize], 1 + dice.throw(3)))
        .collect();
    for death in deaths.iter().map(String::as_str).chain(["never"]) {
        let done = place.khose(wd, source, options).env("KPIPE_FAILPOINT", death).done();
        let is_last = death == "never";
        assert!(matches!(done.status, 0 | 1) || done.status == 137 && !is_last, "{death}: {}", done.stderr);
    }
}

const BY_KEY: &str = "--prefix 'k=!{partitionKeyFromQuery:k}/'";

/// Some of an aggregate's records are in objects that are delivered, and others are not.
#[test]
fn aggregates_are_delivered_record_by_record() {
    let (wd, mut dice) = (Workdir::new(), Dice::new(71));
    let input = records(0, 1500);
    let mut framed = Vec::new();
    let mut lines = input.lines().peekable();
    while lines.peek().is_some() {
        let some: Vec<&str> = lines.by_ref().take(1 + dice.throw(12) as usize).collect();
        let bytes = match some[..] {
            [one] => one.as_bytes().to_vec(),
            _ => kpl::aggregate(some.iter().map(|line| UserRecord {
                key: "x",
                explicit_hash: None,
                data: line.as_bytes(),
            })),
        };
        let len = u32::try_from(bytes.len()).expect("a small record");
        framed.extend([24, 16, 8, 0].map(|shift| (len >> shift) as u8));
        framed.extend(bytes);
    }
    wd.sh("kput -q --create=2 -i framed --sync 2KiB,20ms s").stdin(framed).ok();
    for round in 0..rounds(6) {
        let place = Place::dir(&wd, &round.to_string());
        killed_often(&wd, &place, "s", &format!("-o lines {BY_KEY} {SMALL}"), &mut dice);
        place.found().expect_once(&format!("round {round}"), &input);
    }
}

#[test]
fn records_that_are_taken_apart_are_delivered_part_by_part() {
    let (wd, mut dice) = (Workdir::new(), Dice::new(72));
    let input: String = records(0, 1500)
        .lines()
        .filter(|line| !line.starts_with("broken"))
        .fold(String::new(), |text, line| text + line + "\n");
    // Several to a line.
    let mut joined = String::new();
    for line in input.lines() {
        joined.push_str(line);
        if dice.throw(4) == 0 {
            joined.push('\n');
        }
    }
    wd.sh("kput -q --create=2 --sync 2KiB,20ms s").stdin(&joined).ok();
    for round in 0..rounds(6) {
        let place = Place::dir(&wd, &round.to_string());
        let options = format!("-o ndjson --deaggregate json {BY_KEY} {SMALL}");
        killed_often(&wd, &place, "s", &options, &mut dice);
        place.found().expect_once(&format!("round {round}"), &input);
    }
}

/// A function that leaves out, fails and changes records, and tells their partitions.
const TRANSFORM: &str = r#"
import base64, json, sys
for line in sys.stdin:
    request = json.loads(line)
    answers = []
    for record in request["records"]:
        data = base64.b64decode(record["data"]).decode()
        answer = {"recordId": record["recordId"], "result": "Ok", "data": record["data"]}
        if data.startswith("broken"):
            answer["result"] = "ProcessingFailed"
        else:
            value = json.loads(data)
            if value["id"] % 7 == 0:
                answer["result"] = "Dropped"
            value["seen"] = True
            answer["data"] = base64.b64encode((json.dumps(value) + "\n").encode()).decode()
            answer["metadata"] = {"partitionKeys": {"part": "p%d" % (value["id"] % 3)}}
        answers.append(answer)
    print(json.dumps({"records": answers}), flush=True)
"#;

#[test]
fn records_that_are_transformed_are_delivered_once() {
    let (wd, mut dice) = (Workdir::new(), Dice::new(73));
    wd.write("transform.py", TRANSFORM);
    let input = records(0, 1200);
    let mut expected = String::new();
    for line in input.lines() {
        match serde_json::from_str::<serde_json::Value>(line) {
            Err(_) => expected.extend([line, "\n"]),
            Ok(value) if value["id"].as_u64().expect("a number") % 7 == 0 => {}
            Ok(mut value) => {
                value["seen"] = true.into();
                let _ = writeln!(expected, "{value}");
            }
        }
    }
    wd.sh("kput -q --create=2 --sync 2KiB,20ms s").stdin(&input).ok();
    for round in 0..rounds(4) {
        let place = Place::dir(&wd, &round.to_string());
        let prefix = "--prefix '!{partitionKeyFromTransform:part}/'";
        let options = format!("-o ndjson --transform 'python3 transform.py' {prefix} {SMALL}");
        killed_often(&wd, &place, "s", &options, &mut dice);
        place.found().expect_once(&format!("round {round}"), &expected);
    }
}

/// Envelopes that are given from the beginning again.
#[test]
fn a_pipe_of_envelopes_may_be_killed_and_given_again() {
    let (wd, mut dice) = (Workdir::new(), Dice::new(74));
    wd.sh("kput -q --create=3 --sync 2KiB,20ms s").stdin(records(0, 1500)).ok();
    let input = wd.sh("kget s").ok();
    wd.sh("kget s -o json > envelopes; kget s -o json --order arrival > by-arrival").ok();
    for round in 0..rounds(8) {
        let place = Place::dir(&wd, &round.to_string());
        let file = ["envelopes", "by-arrival"][dice.throw(2) as usize];
        let options = format!("-i json -o ndjson {BY_KEY} {SMALL} < {file}");
        killed_often(&wd, &place, "-", &options, &mut dice);
        let found = place.found();
        found.expect_once(&format!("round {round}: {file}"), input.text());
        found.expect_settled(&format!("round {round}"));
    }
}

#[test]
fn what_is_in_the_spool_is_delivered_once() {
    let (wd, mut dice) = (Workdir::new(), Dice::new(75));
    let place = Place::dir(&wd, "lake");
    let options = format!("-i lines -o ndjson --spool sp {BY_KEY} --buffer-interval 50ms {SMALL}");
    let mut from = 0;
    for _ in 0..rounds(8) {
        let mut run = place.khose(&wd, "-", &options).spawn();
        for _ in 0..dice.throw(5) {
            let count = dice.throw(120);
            run.type_in(records(from, from + count));
            from += count;
            std::thread::sleep(Duration::from_millis(dice.throw(90)));
        }
        let _ = run.kill();
    }
    let done = place.khose(&wd, "-", &format!("{options} < /dev/null")).done();
    assert!(matches!(done.status, 0 | 1), "{}", done.stderr);
    let stored = wd.sh("kget sp").ok();
    assert!(!stored.lines().is_empty());
    place.found().expect_once("spool", stored.text());
}

/// Copies of what was read, and failed records, each at a place of their own.
#[test]
fn copies_and_failed_records_are_where_they_were_wanted_once() {
    let (wd, mut dice) = (Workdir::new(), Dice::new(76));
    wd.sh("kput -q --create=2 --sync 2KiB,20ms s; kshard split s 0").stdin(records(0, 1000)).ok();
    wd.sh("kput -q --sync 2KiB,20ms s").stdin(records(1000, 1500)).ok();
    let input = wd.sh("kget s").ok();
    for round in 0..rounds(5) {
        let place = Place::dir(&wd, &format!("{round}/lake"));
        let (copies, errors) = (Place::dir(&wd, &format!("{round}/copies")), format!("{round}/errors"));
        let elsewhere = wd.path().display();
        let options = format!(
            "-o ndjson {BY_KEY} {SMALL} --backup all={} --errors 'file://{elsewhere}/{errors}/_errors/!{{firehose:error-output-type}}/'",
            copies.url
        );
        killed_often(&wd, &place, "s", &options, &mut dice);
        let what = format!("round {round}");
        let mut found = place.found();
        let mut failed = Place::dir(&wd, &errors).found();
        assert!(found.failed.is_empty() && !failed.failed.is_empty() && failed.rows.is_empty(), "{what}");
        found.failed.append(&mut failed.failed);
        found.expect_once(&what, input.text());
        // Each copy is an envelope.
        let copied = copies.found();
        wd.write("copies", copied.rows.join("\n") + "\n");
        let again = format!("kput -q --create again{round} -i json < copies; kget again{round}");
        let mut lines: Vec<String> = wd.sh(&again).ok().lines().into_iter().map(str::to_owned).collect();
        let mut expected: Vec<String> = input.lines().into_iter().map(str::to_owned).collect();
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines.len(), expected.len(), "{what}: copies");
        assert!(lines == expected, "{what}: copies");
    }
}
