use std::fs;
use std::process::Command;

use super::super::testing::{items, left_out, told};
use super::*;

fn run(command: &str, records: &[&str]) -> Vec<String> {
    told(&Filter::new(FilterOptions::new(command)).process(items(records)).unwrap())
}

fn failed(options: FilterOptions, record: &str) -> Failure {
    let fates = Filter::new(options).process(items([record])).unwrap();
    let [Fate::Failed(item, failure)] = &fates[..] else { panic!("{fates:?}") };
    assert_eq!(item.data, record.as_bytes());
    assert_eq!(failure.error_type, ErrorType::Processing);
    failure.clone()
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn programs_that_let_lines_through_or_change_them() {
    let records = ["apple 1", "pear 2", "apple 3", ""];
    assert_eq!(run("cat", &records), ["0 kept apple 1", "1 kept pear 2", "2 kept apple 3", "3 kept "]);
    assert_eq!(run("grep apple", &records), ["0 kept apple 1", "1 dropped", "2 kept apple 3", "3 dropped"]);
    assert_eq!(run("grep -v apple", &records), ["0 dropped", "1 kept pear 2", "2 dropped", "3 kept "]);
    assert_eq!(
        run("sed 's/ /-/'", &records),
        ["0 kept apple-1", "1 kept pear-2", "2 kept apple-3", "3 kept "]
    );
    assert_eq!(run("awk '$2 > 1'", &records), ["0 dropped", "1 kept pear 2", "2 kept apple 3", "3 dropped"]);
    assert_eq!(run("awk '{printf \"%s\", $0}' ; true", &["a"]), ["0 kept a"]);
    assert_eq!(run("tr a-z A-Z | cat", &["a", "b"]), ["0 kept A", "1 kept B"]);
    assert!(run("cat", &[]).is_empty());
}

#[test]
fn nothing_that_matches_is_no_failure_of_grep() {
    assert_eq!(run("grep nothing", &["a", "b"]), ["0 dropped", "1 dropped"]);
    assert_eq!(run("cat | grep nothing || test $? = 1", &["a", "b"]), ["0 dropped", "1 dropped"]);
    // Of others it may be one.
    let failure = failed(FilterOptions::new("cat | grep nothing"), "a");
    assert_eq!(failure.code, "Filter.Failed");
    assert!(failure.message.ends_with(
        "exit status 1; if that says that nothing matched, end the command with `|| test $? = 1`"
    ));
    let failure = failed(FilterOptions::new("python3 -c 'raise SystemExit(1)'"), "a");
    assert!(failure.message.contains("exit status 1"));
    // grep's own failure.
    let failure = failed(FilterOptions::new("grep -E '(' 2>/dev/null"), "a");
    assert!(failure.message.contains("ended badly: exit status 2"), "{}", failure.message);
    assert_eq!(
        run("grep -E 2>/dev/null '('", &["a", "b"]),
        ["0 failed Filter.Failed", "1 failed Filter.Failed"]
    );
}

#[test]
fn jq_selects_changes_and_stops_at_what_is_no_json() {
    if !is_there("jq") {
        return left_out("jq", "a filter of jq");
    }
    let records = [r#"{"a": 1}"#, r#"{"a": 2, "b": 1.0}"#, r#"{"a": 3}"#];
    assert_eq!(
        run("jq -c 'select(.a > 1)'", &records),
        ["0 dropped", r#"1 kept {"a":2,"b":1}"#, r#"2 kept {"a":3}"#]
    );
    assert_eq!(run("jq -c .a", &records), ["0 kept 1", "1 kept 2", "2 kept 3"]);
    assert_eq!(run("jq -c 'empty'", &records), ["0 dropped", "1 dropped", "2 dropped"]);
    // Changed and left out at once: true as a whole.
    assert_eq!(run("jq -c 'select(.a > 1) | .a'", &records), ["0 kept 2", "1 kept 3", "2 dropped"]);
    assert!(Filter::new(FilterOptions::new("x")).is_indivisible());
    // One bad record does not take the others along.
    let mut many: Vec<String> = (0..1000).map(|i| format!("{{\"a\":{i}}}")).collect();
    many[700] = "nonsense".to_owned();
    let fates = told(
        &Filter::new(FilterOptions::new("jq -c 'select(.a >= 0)' 2>/dev/null"))
            .process(items(&many))
            .unwrap(),
    );
    for (i, fate) in fates.iter().enumerate() {
        let whole =
            if i == 700 { "700 failed Filter.Failed".to_owned() } else { format!("{i} kept {{\"a\":{i}}}") };
        assert_eq!(*fate, whole);
    }
    // More lines than records: the record at fault is found.
    assert_eq!(
        run("jq -c '.[]'", &["[1]", "[2,3]", "[4]"]),
        ["0 kept 1", "1 failed Filter.TooManyLines", "2 kept 4"]
    );
}

#[test]
fn records_that_are_no_line() {
    let records = ["one\n", "{\n \"a\": \"x y\"\n}\n", "two\nlines", "three"];
    assert_eq!(
        run("cat", &records),
        ["0 kept one", r#"1 kept {"a":"x y"}"#, "2 failed Filter.NotOneLine", "3 kept three"]
    );
}

#[test]
fn a_command_that_always_fails_is_not_started_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let mut stage = Filter::new(FilterOptions::new(format!("echo >> '{}'; exit 3", count.display())));
    let runs = || fs::read_to_string(&count).unwrap_or_default().len();
    let records: Vec<String> = (0..5000).map(|i| i.to_string()).collect();
    let fates = stage.process(items(&records)).unwrap();
    assert_eq!(fates.len(), 5000);
    assert!(
        fates.iter().all(|fate| matches!(fate, Fate::Failed(_, failure) if failure.code == "Filter.Failed"))
    );
    assert_eq!(runs(), RUNS_MAX + 1);
    stage.process(items(&records)).unwrap();
    assert_eq!(runs(), RUNS_MAX + 1 + RUNS_MAX_AFTER_NOTHING + 1);
    let error =
        Filter::new(FilterOptions::new("/nonexistent 2>/dev/null")).process(items(["a"])).unwrap_err();
    assert_eq!(error.to_string(), "--filter: `/nonexistent 2>/dev/null` cannot be run (exit status 127)");
}

#[test]
fn commands_that_hang_or_never_stop_writing() {
    let begun = Instant::now();
    let options = |command: &str, millis| FilterOptions {
        timeout: Duration::from_millis(millis),
        ..FilterOptions::new(command)
    };
    let failure = failed(options("sleep 1000 & cat; sleep 1000", 300), "a");
    assert_eq!(
        (&*failure.code, &*failure.message),
        ("Filter.TimedOut", "the command did not end within 0.3 s")
    );
    // It has closed its output and does not end.
    assert_eq!(failed(options("exec >&-; sleep 1000", 300), "a").code, "Filter.TimedOut");
    assert_eq!(failed(options("yes", 50_000), "a").code, "Filter.TooMuchOutput");
    assert!(begun.elapsed() < Duration::from_secs(50));
    // What stays behind is ended with the command, and holds nothing up.
    assert_eq!(run("sleep 1000 >/dev/null & cat", &["a"]), ["0 kept a"]);
    assert!(begun.elapsed() < Duration::from_secs(50));
}

#[test]
fn large_batches_go_through_pipes_both_ways() {
    let records: Vec<String> = (0..20_000).map(|i| format!("{i} {}", "x".repeat(200))).collect();
    let mut stage = Filter::new(FilterOptions { batch_bytes: 1 << 20, ..FilterOptions::new("cat") });
    let fates = stage.process(items(&records)).unwrap();
    for (fate, record) in fates.iter().zip(&records) {
        assert!(matches!(fate, Fate::Kept(item) if item.data == record.as_bytes()));
    }
    // One that does not read all it is given.
    let fates = stage.process(items(["a"])).unwrap();
    assert_eq!(told(&fates), ["0 kept a"]);
    let mut stage = Filter::new(FilterOptions::new("head -n 2"));
    let fates = stage.process(items(&records)).unwrap();
    assert_eq!(fates.iter().filter(|fate| matches!(fate, Fate::Kept(_))).count(), 2);
}

#[test]
fn batches_are_cut_by_bytes_and_count() {
    let lines: Vec<Vec<u8>> = [3, 3, 3, 20, 1, 1].map(|len| vec![b'x'; len]).into();
    let cut = |batch_bytes, batch_records| {
        Filter::new(FilterOptions { batch_bytes, batch_records, ..FilterOptions::new("cat") }).cut(&lines)
    };
    assert_eq!(cut(8, 100), [0..2, 2..3, 3..4, 4..6]);
    assert_eq!(cut(1000, 4), [0..4, 4..6]);
}
