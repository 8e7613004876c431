use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::super::testing::{items, left_out, told};
use super::*;
use crate::sys::process::Process;

/// Far longer than anything takes here, and shorter than the patience of a person.
const LONG: Duration = Duration::from_secs(50);

/// The wrapper that the documentation shows, around a function that is written to a file beside it.
const PYTHON: &str = r"
import json, sys
from my_function import lambda_handler
answers, sys.stdout = sys.stdout, sys.stderr    # what the function prints is no answer
for line in sys.stdin:
    print(json.dumps(lambda_handler(json.loads(line), None)), file=answers, flush=True)
";

const NODE: &str = r"
const { handler } = require('./my_function');
const answer = console.log; console.log = console.error;
(async () => {
  for await (const line of require('readline').createInterface({ input: process.stdin }))
    answer(JSON.stringify(await handler(JSON.parse(line), {})));
})();
";

fn options(command: &str) -> TransformOptions {
    TransformOptions { backoff: Duration::from_millis(10), ..TransformOptions::new(command) }
}

/// A command in Python that has `answer(request)` and whatever the body makes of it.
fn python(body: &str) -> TransformOptions {
    let code = format!(
        "import json, os, sys, time, base64\n\
         def ok(r, data=None): return {{'recordId': r['recordId'], 'result': 'Ok', 'data': r['data'] if data is None else data}}\n\
         def say(records): print(json.dumps({{'records': records}}), flush=True)\n\
         def text(r): return base64.b64decode(r['data']).decode()\n\
         {body}\n"
    );
    options("exec python3 -c \"$CODE\"").with("CODE", &code)
}

impl TransformOptions {
    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn batches_of(self, batch_records: usize) -> Self {
        Self { batch_records, ..self }
    }
}

fn run(options: TransformOptions, records: &[&str]) -> Vec<String> {
    let mut stage = Transform::new(options);
    told(&stage.process(items(records)).unwrap())
}

fn failures(options: TransformOptions, records: &[&str]) -> Vec<Failure> {
    let mut stage = Transform::new(options);
    let fates = stage.process(items(records)).unwrap();
    assert_eq!(fates.len(), records.len());
    let mut failures = Vec::new();
    for (fate, record) in fates.into_iter().zip(records) {
        let Fate::Failed(item, failure) = fate else { panic!("{fate:?}") };
        assert_eq!(item.data, record.as_bytes());
        assert_eq!(failure.error_type, ErrorType::Processing);
        failures.push(failure);
    }
    failures
}

/// A text as it stands in the documentation of a module.
fn as_documented(text: &str) -> String {
    text.trim().lines().flat_map(|line| ["//! ", line, "\n"]).collect()
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn in_dir(dir: &Path, command: &str) -> TransformOptions {
    options(&format!("cd '{}' && exec {command}", dir.display()))
}

/// Waits until a process is gone.
fn ends(process: Process) -> bool {
    let begun = Instant::now();
    while process.runs() && begun.elapsed() < LONG {
        thread::sleep(Duration::from_millis(10));
    }
    !process.runs()
}

#[test]
fn a_function_of_lambda_runs_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // As the service's documentation has them.
    let function = r"
import base64
def lambda_handler(event, context):
    print('Processing', len(event['records']))
    output = []
    for record in event['records']:
        payload = base64.b64decode(record['data']).decode('utf-8')
        result = 'Dropped' if payload == 'drop' else 'ProcessingFailed' if payload == 'fail' else 'Ok'
        output.append({
            'recordId': record['recordId'], 'result': result,
            'data': base64.b64encode(payload.upper().encode('utf-8')).decode('utf-8'),
            'metadata': {'partitionKeys': {'first': payload[:1], 'shard': record['kinesisRecordMetadata']['shardId']}}})
    return {'records': output}
";
    fs::write(dir.path().join("my_function.py"), function).unwrap();
    fs::write(dir.path().join("wrapper.py"), PYTHON).unwrap();
    let options = TransformOptions {
        source_stream: Some("clicks".to_owned()),
        ..in_dir(dir.path(), "python3 wrapper.py 2>wrapper.log")
    };
    let mut stage = Transform::new(options.batches_of(3));
    let fates = stage.process(items(["one", "drop", "fail", "vier é", ""])).unwrap();
    assert_eq!(
        told(&fates),
        ["0 kept ONE", "1 dropped", "2 failed Lambda.ProcessingFailedStatus", "3 kept VIER É", "4 kept "]
    );
    let Fate::Kept(first) = &fates[0] else { panic!() };
    let keys: BTreeMap<_, _> = [("first", "o"), ("shard", "shardId-000000000003")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    assert_eq!(first.partition_keys.as_deref(), Some(&keys));
    // It is the same process for the next batches, and ends well with its input.
    assert_eq!(told(&stage.process(items(["more"])).unwrap()), ["0 kept MORE"]);
    stage.finish().unwrap();
    let log = fs::read_to_string(dir.path().join("wrapper.log")).unwrap();
    assert_eq!(log, "Processing 3\nProcessing 2\nProcessing 1\n");
    assert!(include_str!("mod.rs").contains(&as_documented(PYTHON)));
}

#[test]
fn and_in_node() {
    if !is_there("node") {
        return left_out("node", "a transformation in Node");
    }
    let dir = tempfile::tempdir().unwrap();
    let function = r"
exports.handler = async (event) => {
  console.log('noise');
  return { records: event.records.map((r) => ({ recordId: r.recordId, result: 'Ok',
    data: Buffer.from(Buffer.from(r.data, 'base64').toString() + '!').toString('base64') })) };
};
";
    fs::write(dir.path().join("my_function.js"), function).unwrap();
    fs::write(dir.path().join("wrapper.js"), NODE).unwrap();
    let mut stage = Transform::new(in_dir(dir.path(), "node wrapper.js 2>/dev/null").batches_of(1));
    assert_eq!(
        told(&stage.process(items(["a", "b", "c"])).unwrap()),
        ["0 kept a!", "1 kept b!", "2 kept c!"]
    );
    stage.finish().unwrap();
    assert!(include_str!("mod.rs").contains(&as_documented(NODE)));
}

#[test]
fn jq_alone_can_speak_it() {
    if !is_there("jq") {
        return left_out("jq", "a transformation in jq");
    }
    let mut stage = Transform::new(options(
        "jq --unbuffered -c '{records: [.records[] | {recordId, result: \"Ok\", data: (.data | @base64d | ascii_upcase | @base64)}]}'",
    ));
    let records: Vec<String> = (0..500).map(|i| format!("record {i}")).collect();
    let fates = stage.process(items(&records)).unwrap();
    assert_eq!(told(&fates)[499], "499 kept RECORD 499");
    assert!(told(&stage.process(Vec::new()).unwrap()).is_empty());
    stage.finish().unwrap();
}

#[test]
fn records_that_do_not_come_back_as_they_should_fail_alone() {
    let body = r"
for line in sys.stdin:
    out = []
    for r in json.loads(line)['records']:
        t = text(r)
        if t == 'missing': continue
        if t == 'twice': out.append(ok(r))
        if t == 'noresult': out.append({'recordId': r['recordId'], 'data': ''})
        elif t == 'badresult': out.append({'recordId': r['recordId'], 'result': 'ok', 'data': ''})
        elif t == 'nodata': out.append({'recordId': r['recordId'], 'result': 'Ok'})
        elif t == 'nobase64': out.append(ok(r, '%%%'))
        elif t == 'number': out.append(ok(r, 7))
        elif t == 'badkeys': out.append(dict(ok(r), metadata={'partitionKeys': {'a': 1}}))
        elif t == 'nullkeys': out.append(dict(ok(r), metadata=None))
        elif t == 'dropped': out.append({'recordId': r['recordId'], 'result': 'Dropped'})
        else: out.append(ok(r))
    say(list(reversed(out)))
";
    let records = [
        "good",
        "missing",
        "twice",
        "noresult",
        "badresult",
        "nodata",
        "nobase64",
        "number",
        "badkeys",
        "nullkeys",
        "dropped",
        "good",
    ];
    assert_eq!(
        run(python(body), &records),
        [
            "0 kept good",
            "1 failed Lambda.MissingRecordId",
            "2 failed Lambda.DuplicatedRecordId",
            "3 failed Lambda.InvalidReturnFormat",
            "4 failed Lambda.InvalidReturnFormat",
            "5 failed Lambda.InvalidReturnFormat",
            "6 failed Lambda.InvalidReturnFormat",
            "7 failed Lambda.InvalidReturnFormat",
            "8 failed Lambda.InvalidReturnFormat",
            "9 kept nullkeys",
            "10 dropped",
            "11 kept good",
        ]
    );
}

#[test]
fn garbage_fails_its_batch_and_the_next_goes_on() {
    let body = r#"
for line in sys.stdin:
    records = json.loads(line)['records']
    t = text(records[0])
    if t == 'garbage': print('debug output', flush=True)
    elif t == 'list': print('[]', flush=True)
    elif t == 'wrong': print('{"records":7}', flush=True)
    elif t == 'empty': print('{}', flush=True)
    elif t == 'none': print('{"records":null}', flush=True)
    elif t == 'unknown': say([ok(r) for r in records] + [{'recordId': 'other', 'result': 'Ok', 'data': ''}])
    elif t == 'noid': say([{'result': 'Ok'}])
    elif t == 'blank': print('\n \n', flush=True); say([ok(r) for r in records])
    elif t == 'two': say([ok(r) for r in records]); say([ok(r) for r in records])
    else: say([ok(r) for r in records])
"#;
    let records = [
        "a", "garbage", "b", "list", "wrong", "empty", "none", "unknown", "noid", "blank", "c", "two", "d",
        "e",
    ];
    let fates = run(python(body).batches_of(1), &records);
    assert_eq!(
        fates,
        [
            "0 kept a",
            "1 failed Lambda.JsonProcessingException",
            "2 kept b",
            "3 failed Lambda.JsonProcessingException",
            "4 failed Lambda.JsonProcessingException",
            "5 failed Lambda.MissingRecordId",
            "6 failed Lambda.MissingRecordId",
            "7 failed Lambda.UnknownRecordId",
            "8 failed Lambda.UnknownRecordId",
            "9 kept blank",
            "10 kept c",
            "11 kept two",
            // The second answer to `two` is taken for that to `d`; from there on it is in step again.
            "12 failed Lambda.UnknownRecordId",
            "13 kept e",
        ]
    );
    let failure = &failures(options("echo nonsense; cat >/dev/null"), &["x"])[0];
    assert_eq!(failure.attempts, 1);
    assert!(failure.message.ends_with("it is no object: `nonsense`"), "{}", failure.message);
}

#[test]
fn a_crash_is_tried_again_and_then_fails_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let body = r#"
n = len(os.listdir('.'))
open(str(n), 'w')
for line in sys.stdin:
    records = json.loads(line)['records']
    t = text(records[0])
    if t == 'always': sys.exit(7)
    if t == 'half': print('{"records":[', end='', flush=True); os.abort()
    if t == 'once' and n < 2: sys.exit(1)
    say([ok(r) for r in records])
"#;
    let here = |mut options: TransformOptions| {
        options.command = format!("cd '{}' && {}", dir.path().display(), options.command);
        options
    };
    let mut stage = Transform::new(here(python(body)).batches_of(1));
    let fates = stage.process(items(["a", "once", "b", "always", "c"])).unwrap();
    assert_eq!(
        told(&fates),
        ["0 kept a", "1 kept once", "2 kept b", "3 failed Lambda.FunctionError", "4 kept c"]
    );
    let Fate::Failed(_, failure) = &fates[3] else { panic!() };
    assert_eq!(failure.attempts, 4);
    assert_eq!(failure.message, "the command ended without an answer: exit status 7");
    let failure = &failures(TransformOptions { retries: 1, ..here(python(body)) }, &["half", "other"])[1];
    assert_eq!((failure.attempts, &*failure.code), (2, "Lambda.FunctionError"));
    assert_eq!(failure.message, "the command ended without an answer: killed by signal 6");
    // Nothing that can be run is no failure of records.
    let mut stage = Transform::new(options("/nonexistent/program"));
    let error = stage.process(items(["a"])).unwrap_err().to_string();
    assert_eq!(error, "--transform: `/nonexistent/program` cannot be run (exit status 127)");
}

#[test]
fn a_function_that_says_it_has_failed_is_asked_again() {
    let body = r"
asked = 0
for line in sys.stdin:
    request = json.loads(line)
    t = text(request['records'][0])
    asked += 1
    if t == 'always' or t == 'twice' and asked < 3:
        print(json.dumps({'errorMessage': 'Process exited: ' + request['invocationId'][:0] + t, 'errorType': 'E'}), flush=True)
    else: say([ok(r) for r in request['records']])
";
    let mut stage = Transform::new(python(body));
    assert_eq!(told(&stage.process(items(["twice", "x"])).unwrap()), ["0 kept twice", "1 kept x"]);
    let fates = stage.process(items(["always"])).unwrap();
    let Fate::Failed(_, failure) = &fates[0] else { panic!("{fates:?}") };
    assert_eq!((failure.attempts, &*failure.code), (4, "Lambda.FunctionError"));
    assert_eq!(failure.message, "the function failed: Process exited: always");
    stage.finish().unwrap();
}

#[test]
fn a_command_that_hangs_is_killed_with_all_it_has_started() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let command = format!("sleep 1000 & echo $$ $! >> '{}'; cat >/dev/null; sleep 1000", file.display());
    let options = TransformOptions { timeout: Duration::from_millis(500), retries: 1, ..options(&command) };
    let begun = Instant::now();
    let failures = failures(options, &["a", "b"]);
    assert!(begun.elapsed() < LONG);
    for failure in failures {
        assert_eq!((failure.attempts, &*failure.code), (2, "Lambda.FunctionTimedOut"));
        assert_eq!(failure.message, "the command did not answer within 0.5 s");
    }
    let pids = fs::read_to_string(file).unwrap();
    let pids: Vec<u32> = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 4);
    assert!(pids.into_iter().all(|pid| ends(Process::of(pid))));
}

#[test]
fn a_slow_batch_does_not_use_up_the_time_of_the_next() {
    let body =
        "for line in sys.stdin:\n    time.sleep(1.5)\n    say([ok(r) for r in json.loads(line)['records']])";
    let options =
        TransformOptions { timeout: Duration::from_secs(6), retries: 0, outstanding: 5, ..python(body) };
    let fates = run(options.batches_of(1), &["a", "b", "c", "d", "e"]);
    assert_eq!(fates, ["0 kept a", "1 kept b", "2 kept c", "3 kept d", "4 kept e"]);
}

#[test]
fn closed_pipes() {
    // It does not read, and lives.
    let options = |command| TransformOptions { retries: 0, timeout: LONG, ..options(command) };
    let big = "x".repeat(900_000);
    let begun = Instant::now();
    let failure = &failures(options("exec <&-; sleep 1000"), &[&big])[0];
    assert_eq!((&*failure.code, &*failure.message), ("Lambda.FunctionError", "the command closed its input"));
    // It says nothing more, and lives.
    let failure = &failures(options("exec >&-; sleep 1000"), &["a"])[0];
    assert_eq!(failure.message, "the command closed its output, and went on");
    // It answers one batch and goes; the next is for the next.
    let body = "say([ok(r) for r in json.loads(sys.stdin.readline())['records']])";
    assert_eq!(run(python(body).batches_of(1), &["a", "b", "c"]), ["0 kept a", "1 kept b", "2 kept c"]);
    assert!(begun.elapsed() < LONG);
}

#[test]
fn what_happens_between_batches_has_to_do_with_no_record() {
    let body = "for line in sys.stdin:\n    rs = json.loads(line)['records']\n    say([ok(r) for r in rs])\n    if text(rs[0]) == 'twice': say([])\n    if text(rs[0]) == 'last': sys.exit(1)";
    let mut stage = Transform::new(TransformOptions { retries: 0, ..python(body) });
    for record in ["a", "twice", "b", "last", "c"] {
        assert_eq!(told(&stage.process(items([record])).unwrap()), [format!("0 kept {record}")]);
        // So that it has come, on a busy machine too.
        thread::sleep(Duration::from_secs(if ["twice", "last"].contains(&record) { 3 } else { 0 }));
    }
}

#[test]
fn writing_without_reading_does_not_deadlock() {
    let begun = Instant::now();
    let big: Vec<String> = (0..8).map(|i| format!("{i}").repeat(900_000)).collect();
    let big: Vec<&str> = big.iter().map(String::as_str).collect();
    // It writes far more than pipes hold before it reads.
    let body = "sys.stdout.write('\\n' * 3000000); sys.stdout.flush()\nfor line in sys.stdin: say([ok(r) for r in json.loads(line)['records']])";
    let mut stage = Transform::new(TransformOptions { outstanding: 4, ..python(body) });
    let fates = stage.process(items(&big)).unwrap();
    assert!(fates.iter().all(|fate| matches!(fate, Fate::Kept(_))));
    // And it reads all before it writes.
    let body = "lines = [sys.stdin.readline() for _ in range(8)]\nfor line in lines: say([ok(r) for r in json.loads(line)['records']])";
    let mut stage = Transform::new(TransformOptions { outstanding: 8, ..python(body) });
    let fates = stage.process(items(&big)).unwrap();
    assert!(fates.iter().all(|fate| matches!(fate, Fate::Kept(_))));
    // Garbage without end.
    let failure = &failures(TransformOptions { retries: 0, ..options("yes") }, &["a"])[0];
    assert_eq!(failure.code, "Lambda.JsonProcessingException");
    assert!(begun.elapsed() < LONG);
}

#[test]
fn answers_that_are_too_long_are_asked_for_in_halves() {
    let body = r"
for line in sys.stdin:
    out = []
    for r in json.loads(line)['records']:
        t = text(r)
        size = 100_000_000 if t == 'huge' else 2_000_000 if t == 'big' else 3
        out.append(ok(r, 'AAAA' * (size // 3)))
    say(out)
";
    let mut stage = Transform::new(python(body));
    let fates = stage.process(items(["big", "small", "big", "big", "huge", "small", "big"])).unwrap();
    let sizes: Vec<_> = fates
        .iter()
        .map(|fate| match fate {
            Fate::Kept(item) => item.data.len(),
            Fate::Failed(_, failure) => {
                assert_eq!((failure.attempts, &*failure.code), (1, "Lambda.FunctionError"));
                assert_eq!(failure.message, "the answer was longer than 6291456 bytes");
                0
            }
            Fate::Dropped(_) => panic!(),
        })
        .collect();
    assert_eq!(sizes, [1_999_998, 3, 1_999_998, 1_999_998, 0, 3, 1_999_998]);
    assert!(fates.iter().enumerate().all(|(i, fate)| fate.origin().index == i as u64));
    stage.finish().unwrap();
}

#[test]
fn requests_stay_within_what_lambda_takes() {
    let body = "for line in sys.stdin:\n    rs = json.loads(line)['records']\n    size = base64.b64encode(b'%d %d' % (len(line), len(rs))).decode()\n    say([ok(r, size) for r in rs])";
    let big = "x".repeat(5_000_000);
    let million = "y".repeat(600_000);
    let options = TransformOptions { batch_bytes: usize::MAX, ..python(body) };
    let mut stage = Transform::new(options);
    let records =
        [&*big, "small", &million, &million, &million, &million, &million, &million, &million, &million];
    let fates = stage.process(items(records)).unwrap();
    assert_eq!(told(&fates)[0], "0 failed Lambda.RequestTooLarge");
    for fate in &fates[1..] {
        let Fate::Kept(item) = fate else { panic!("{fate:?}") };
        let text = String::from_utf8(item.data.clone()).unwrap();
        let (line, records) = text.split_once(' ').unwrap();
        assert!(line.parse::<usize>().unwrap() <= LINE_BYTES_MAX);
        assert!(["3", "8", "7", "2", "1"].contains(&records), "{records}");
    }
    // And within what is asked for.
    let options = TransformOptions { batch_bytes: 10, ..python(body) };
    let sizes: Vec<String> = run(options, &["aaaa", "bbbb", "cccc", "d", "eeeeeeeeeeeeeeee", "f"]);
    let counts: Vec<&str> = sizes.iter().map(|told| told.rsplit_once(' ').unwrap().1).collect();
    assert_eq!(counts, ["2", "2", "2", "2", "1", "1"]);
}

#[test]
fn the_end_of_the_command_is_looked_at() {
    let echo = "for line in sys.stdin: say([ok(r) for r in json.loads(line)['records']])";
    let mut stage = Transform::new(python(&format!("{echo}\nprint('x' * 1000000); sys.exit(5)")));
    stage.process(items(["a"])).unwrap();
    assert_eq!(
        stage.finish().unwrap_err().to_string(),
        "--transform: the command ended badly after its last batch: exit status 5"
    );
    stage.finish().unwrap();
    // A stage that is only dropped leaves nothing behind.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut stage = Transform::new(python(&format!(
        "open('{}', 'w').write(str(os.getpid()))\n{echo}\ntime.sleep(1000)",
        file.display()
    )));
    stage.process(items(["a"])).unwrap();
    let command = Process::of(fs::read_to_string(&file).unwrap().parse().unwrap());
    assert!(command.runs());
    drop(stage);
    assert!(ends(command));
}

/// Run by the test below in a process of its own.
#[test]
fn hold_a_command_until_killed() {
    let Some(file) = std::env::var_os("KPIPE_HOLD_A_COMMAND") else { return };
    let body =
        format!("open({file:?}, 'w').write(str(os.getpid()))\nfor line in sys.stdin: time.sleep(1000)");
    let _ = Transform::new(python(&body)).process(items(["a"]));
}

#[test]
fn the_command_dies_with_this_process() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hose::stage::transform::tests::hold_a_command_until_killed"])
        .env("KPIPE_HOLD_A_COMMAND", &file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let command = loop {
        if let Some(pid) = fs::read_to_string(&file).ok().and_then(|text| text.parse().ok()) {
            break Process::of(pid);
        }
        assert!(begun.elapsed() < LONG);
        thread::sleep(Duration::from_millis(10));
    };
    assert!(command.runs());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(ends(command));
}
