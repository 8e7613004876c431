use std::time::Instant;

use proptest::prelude::*;

use super::super::testing::{item, items, left_out, tell_jq, told};
use super::*;

/// Far longer than anything takes here.
const LONG: Duration = Duration::from_secs(50);

fn stage(query: &str) -> JqStage {
    JqStage::new(Jq::new(query).unwrap())
}

fn run(query: &str, data: &str) -> Vec<String> {
    told(&stage(query).process(items([data])).unwrap())
}

/// The reason, where the one record fails.
fn why(query: &str, data: &str) -> String {
    let fates = stage(query).process(items([data])).unwrap();
    let [Fate::Failed(item, failure)] = &fates[..] else { panic!("{query}: {fates:?}") };
    assert_eq!(item.data, data.as_bytes());
    format!("{}: {}", failure.code, failure.message)
}

#[test]
fn none_one_and_several() {
    let records = [r#"{"a":1}"#, r#"{"a":3,"b":[1,2]}"#, "nonsense", r#"{"a":5}"#];
    let fates = stage("select(.a > 1) | ., .b[]?").process(items(records)).unwrap();
    assert_eq!(
        told(&fates),
        [
            "0 dropped",
            r#"1.0 kept {"a":3,"b":[1,2]}"#,
            "1.1 kept 1",
            "1.2 kept 2",
            "2 failed Jq.InvalidJson",
            r#"3 kept {"a":5}"#,
        ]
    );
    let mut aggregated = item(7, "[1,2]");
    aggregated.origin.sub = Some(3);
    let fates = stage(".[]").process(vec![aggregated]).unwrap();
    assert_eq!(
        fates.iter().map(|fate| fate.origin().sub.unwrap()).collect::<Vec<_>>(),
        [3 << 20, 3 << 20 | 1]
    );
    assert!(stage(".").process(Vec::new()).unwrap().is_empty());
}

#[test]
fn an_error_after_some_outputs_fails_the_whole_record() {
    assert_eq!(why(".[] | if . == 3 then error(\"three\") else . end", "[1,2,3]"), "Jq.Error: three");
    assert_eq!(why(".a.b", r#"{"a":1}"#), "Jq.Error: cannot index 1 with \"b\"");
    assert_eq!(why("halt", "1"), "Jq.Error: the query halted with status 0");
    assert_eq!(why("error(null)", "1"), "Jq.Error: null");
    let long = why("error", &format!("\"{}\"", "é".repeat(1000)));
    assert!(long.chars().count() < 200 && long.ends_with('…'), "{long}");
}

#[test]
fn numbers_keep_their_text_and_members_their_order() {
    let data = r#"{"z":12345678901234567890123,"a":1.50,"m":1e2,"k":-0.0,"u":"é\n\u007f\u0001"}"#;
    assert_eq!(
        run(".", data),
        [r#"0 kept {"z":12345678901234567890123,"a":1.50,"m":1e2,"k":-0.0,"u":"é\n\u007f\u0001"}"#
            .replace("\\u007f", "\u{7f}")]
    );
    assert_eq!(
        run(
            "[nan, infinite, -infinite, 4/2, 3/2, 1e17/1, 1e-7/1, -(0/1), 1E3, 9007199254740993 + 1, .]",
            "-1.0E+5"
        ),
        [
            "0 kept [null,1.7976931348623157e308,-1.7976931348623157e308,2,1.5,1e17,1e-7,-0,1E3,9007199254740994,-1.0E+5]",
        ]
    );
    // jaq reads more as a number than JSON has.
    assert_eq!(run("[.[] | tonumber]", r#"["+5","+0.50","12"]"#), ["0 kept [5,0.5,12]"]);
}

#[test]
fn only_json_goes_in_and_comes_out() {
    for data in
        ["", " ", "{", "1 2", "NaN", "{1:2}", "[1,]", "# x\n1", "{'a':1}", "+1", "b\"x\"", "\u{feff}1"]
    {
        assert!(why(".", data).starts_with("Jq.InvalidJson: the record is not JSON: "), "{data}");
    }
    let fates = stage(".").process(items([b"\"\xff\""])).unwrap();
    assert_eq!(told(&fates), ["0 failed Jq.InvalidJson"]);
    for query in ["tobytes", "{(1):2}", "[{a:({(true):1})}]"] {
        assert!(why(query, "1").starts_with("Jq.InvalidOutput: "), "{query}");
    }
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(run("1", &deep(512)), ["0 kept 1"]);
    assert!(why("1", &deep(513)).contains("nested more than 512 levels"));
    assert!(why("1", &"[".repeat(1_000_000)).contains("nested more than 512 levels"));
    assert!(why("reduce range(20000) as $i (0; [.])", "1").contains("nested too deep"));
}

#[test]
fn what_is_no_query_is_refused_with_a_reason() {
    for (query, reason) in [
        ("", "expected term at its end"),
        (".[", "expected closing bracket at its end"),
        (".a | nonesuch(1)", "the filter `nonesuch` is not defined"),
        ("$x", "the variable `$x` is not defined"),
        (".a,, .b", "expected term at `,"),
        ("input", "the filter `input` is not defined"),
        ("import \"a\" as a; .", "`a`: "),
        ("\"a\\q\"", "expected string escape sequence at `q\"`"),
    ] {
        let refused = Jq::new(query).err().unwrap();
        assert!(refused.starts_with(reason), "{query}: {refused}");
    }
}

/// Each would run without end, or until the stack is full.
const ENDLESS: &[&str] = &[
    "def f: f; f",
    "def f: 1 + f; f",
    "def f: [f]; f",
    "def f: ., f; f",
    "def f: f | f; f",
    "def f: f, f; first(f)",
    "[range(1e9)] | length",
    "range(0; 1; 0)",
    "reduce range(1e12) as $i (0; [.])",
    "reduce range(1e12) as $i (0; {a: [{a: [.]}]})",
    "foreach range(1e12) as $i (0; .)",
    "repeat(1)",
    "[limit(1e12; repeat(1))] | length",
    "first(repeat(empty))",
    "isempty(repeat(empty))",
    "until(false; . + 1)",
    "while(true; .)",
    "last(recurse(. + 1))",
    "last(recurse([.]))",
    "[recurse([.]; true)] | length",
    "label $out | repeat(empty)",
    "any(repeat(false); .)",
    "[.] | .[] |= (def f: f; f)",
    "path(def f: ., f; f)",
    "{a: 1} | map_values(def f: f; f)",
    "[1, 2] | sort_by(def f: f; f)",
    "\"aaa\" | gsub(\"a\"; def f: f; f)",
    "try (def f: f; f) catch 5",
    "(def f: f; f)? // 7",
    "(def f: 1 + f; try f catch f)",
    ".. | def f: try error catch f; f",
    "def f: (try error catch .) | f; f",
];

#[test]
fn nothing_runs_without_end() {
    let limits = JqLimits { steps: 100_000, time: LONG, ..JqLimits::default() };
    for query in ENDLESS {
        let begun = Instant::now();
        let mut stage = JqStage::new(Jq::new(query).unwrap().with_limits(limits));
        let fates = stage.process(items(["0", "1"])).unwrap();
        for fate in &fates {
            let Fate::Failed(_, failure) = fate else { panic!("{query}: {fate:?}") };
            assert_eq!(failure.code, "Jq.LimitExceeded", "{query}: {}", failure.message);
        }
        assert_eq!(fates.len(), 2, "{query}");
        assert!(begun.elapsed() < LONG, "{query}: {:?}", begun.elapsed());
    }
}

#[test]
fn the_stack_has_room_for_what_the_steps_can_nest() {
    // Objects take the most of it, and in a build without optimization.
    let limits = JqLimits { time: LONG, ..JqLimits::default() };
    let nests = Jq::new("reduce range(1e12) as $i (0; {a: {a: {a: .}}})").unwrap();
    let fates = JqStage::new(nests.with_limits(limits)).process(items(["1"])).unwrap();
    let Fate::Failed(_, failure) = &fates[0] else { panic!() };
    assert_eq!(failure.message, "the query took more than 2000000 steps");
    assert!(why("def f: {a: f}; f", "1").contains("share of stack"));
}

#[test]
fn time_is_a_limit_of_its_own() {
    let limits = JqLimits { steps: u64::MAX, time: Duration::from_millis(300), ..JqLimits::default() };
    let jq = Jq::new("if . == 0 then def f: f; f else . end").unwrap().with_limits(limits);
    let begun = Instant::now();
    let fates = JqStage::new(jq).process(items(["0", "1", "0", "2"])).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(
        told(&fates),
        ["0 failed Jq.LimitExceeded", "1 kept 1", "2 failed Jq.LimitExceeded", "3 kept 2"]
    );
    let Fate::Failed(_, failure) = &fates[0] else { panic!() };
    assert_eq!(failure.message, "the query took longer than 0.3 s");
}

#[test]
fn outputs_are_bounded() {
    let limits = JqLimits { output_bytes: 10, ..JqLimits::default() };
    let mut stage = JqStage::new(Jq::new(".[]").unwrap().with_limits(limits));
    let fates = stage.process(items(["[12345,67890]", "[12345,67890,1]"])).unwrap();
    assert_eq!(told(&fates), ["0.0 kept 12345", "0.1 kept 67890", "1 failed Jq.LimitExceeded"]);
}

#[test]
fn many_records_keep_their_order_over_threads() {
    let records: Vec<String> = (0..1000).map(|i| format!("{{\"i\":{i}}}")).collect();
    let fates = stage("if .i % 3 == 0 then empty else .i end").process(items(&records)).unwrap();
    for (i, fate) in fates.iter().enumerate() {
        assert_eq!(fate.origin().index, i as u64);
        match fate {
            Fate::Kept(item) => assert_eq!(item.data, i.to_string().as_bytes()),
            Fate::Dropped(_) => assert_eq!(i % 3, 0),
            Fate::Failed(..) => panic!("{fate:?}"),
        }
    }
    assert_eq!(fates.len(), 1000);
}

/// Expressions as partition queries, filters and transformations are made of, on which jq 1.6 and this agree.
const SAME: &[&str] = &[
    ".",
    ".customer_id",
    ".type.device",
    ".missing",
    ".tags[0]",
    ".tags[-1]",
    ".tags[1:]",
    ".[\"a.b\"]",
    ".event_timestamp | strftime(\"%Y\")",
    ".event_timestamp | strftime(\"%Y-%m-%dT%H:%M:%SZ\")",
    ".event_timestamp | todate",
    ".when | fromdate",
    ".when | strptime(\"%Y-%m-%dT%H:%M:%SZ\") | mktime",
    ".event_timestamp | gmtime | mktime",
    "{customer: .customer_id, device: .type.device}",
    "{customer_id, \"x y\": 1}",
    "del(.tags)",
    ".tags |= map(ascii_upcase)",
    ".n += 1",
    ".n / 2",
    ".n * 2 - 1",
    ".n % 3",
    ".float | floor",
    ".float + 1",
    "select(.n > 5)",
    "select(.n > 500)",
    "select(.tags | index(\"b\"))",
    ".tags | length",
    ".tags | join(\"-\")",
    ".tags | contains([\"a\"])",
    ".tags[]",
    "to_entries | map(.key) | sort",
    "with_entries(select(.value != null))",
    "keys",
    "has(\"n\"), has(\"nn\")",
    ".missing // \"default\"",
    "if .n == 7 then \"seven\" elif .n then \"other\" else \"none\" end",
    ".name | ascii_downcase",
    ".name | split(\" \")",
    ".name | test(\"^A\")",
    ".name | capture(\"(?<first>[A-Z][a-z]+)\")",
    ".name | sub(\"Ada\"; \"Bea\")",
    ".name | gsub(\"[aeiou]\"; \"_\")",
    ".name | ltrimstr(\"Ada \")",
    ".name | startswith(\"Ada\")",
    ".name | length, utf8bytelength",
    ".name[0:3]",
    ".name | explode | implode",
    ".name | @base64 | ., @base64d",
    ".name | @uri, @html, @sh, @json, @text",
    "[.n, .name, null, true] | @csv, @tsv",
    ".tags | @json",
    "\"\\(.name) is \\(.n)\"",
    ".n | tostring",
    "\"12\" | tonumber",
    "[.tags[] | {t: .}]",
    "[.[] | numbers] | add",
    "[.[] | type]",
    "[.. | scalars] | length",
    "[paths] | length",
    "getpath([\"type\", \"device\"])",
    "[leaf_paths] | length",
    "reduce .tags[] as $t (\"\"; . + $t)",
    "[foreach .tags[] as $t (0; . + 1; [., $t])]",
    "[range(5)] | map(. * .)",
    "[limit(2; .tags[])]",
    "first(.tags[]), last(.tags[])",
    ".tags | any(. == \"a\"), all(. == \"a\")",
    ".tags | unique | reverse",
    "[3, 1, 2] | sort, min, max, add",
    "[{a: 1, b: 2}, {a: 1, b: 3}] | group_by(.a) | length",
    "[{a: 1}, {a: 2}] | max_by(.a), INDEX(.a)",
    "def double: . * 2; .n | double",
    ".n as $n | .tags | map(. + ($n | tostring))",
    ". as {type: {device: $d}} | $d",
    "[.tags, [1, 2]] | transpose",
    ".tags | IN([\"a\"], [\"a\", \"b\", \"c\"])",
    ".json | fromjson",
    "[splits(\"x\")?]",
    "try error(\"x\") catch .",
    ".name.x?",
    "[.tags[] | select(. != \"b\")] | length",
    "walk(if type == \"number\" then . + 1 else . end)",
    ".type | to_entries",
    "tojson | fromjson == .",
    "[1, [2, [3]]] | flatten, flatten(1)",
    "infinite, -infinite, nan | . == .",
    "1 / 3",
    "[1, 1.5, 10000000, 0.00001]",
    "{} | .a = 1",
    ".a //= {} | .a.b = 1",
    "[.[]?]",
    "empty",
];

/// What the documentation says is otherwise.
#[test]
fn not_the_same_as_jq() {
    assert_eq!(why(".a.b = 1", "{}"), "Jq.Error: cannot use null as iterable (array or object)");
    assert_eq!(run(". + 1", "9007199254740993"), ["0 kept 9007199254740994"]);
}

/// A row of the table as jq 1.6 and as this has it.
#[test]
fn the_same_as_jq() {
    let Some(version) = tell_jq(&["--version"], "") else {
        return left_out("jq", "queries compared with jq");
    };
    let data = r#"{"customer_id":"c-17","type":{"device":"phone","os":null},"event_timestamp":1565382027,"when":"2019-08-09T20:20:27Z","tags":["a","b","c"],"n":7,"float":1.75,"name":"Ada Lovelace é","a.b":"dot","json":"{\"x\":[1,2]}","nothing":null,"yes":true}"#;
    for query in SAME {
        let theirs = tell_jq(&["-c", query], data).unwrap();
        let ours = stage(query).process(items([data])).unwrap();
        let ours: String = ours
            .iter()
            .filter_map(|fate| match fate {
                Fate::Kept(item) => Some(format!("{}\n", String::from_utf8_lossy(&item.data))),
                Fate::Dropped(_) => None,
                Fate::Failed(_, failure) => Some(format!("{}: {}\n", failure.code, failure.message)),
            })
            .collect();
        let read = |text: &str| -> Vec<serde_json::Value> {
            serde_json::Deserializer::from_str(text)
                .into_iter()
                .map(|value| value.unwrap_or("?".into()))
                .collect()
        };
        assert_eq!(read(&ours), read(&theirs), "{query} ({}):\n{ours}{theirs}", version.trim());
    }
}

proptest! {
    #[test]
    fn a_value_comes_through_as_it_was(text in ".{0,8}", n in any::<i64>(), f in any::<f64>(), key in "[a-z\"\\\\]{0,4}") {
        prop_assume!(f.is_finite());
        let value = serde_json::json!({ key: [text, n, f, null, true], "o": { "p": text } });
        let fates = stage(".").process(items([value.to_string()])).unwrap();
        let Fate::Kept(item) = &fates[0] else { panic!("{fates:?}") };
        prop_assert_eq!(String::from_utf8(item.data.clone()).unwrap(), value.to_string());
    }

    #[test]
    fn whatever_the_query_it_is_one_or_not(query in "[.a|,(){}\\[\\]\"1+ ]{0,12}") {
        if let Ok(jq) = Jq::new(&query) {
            let limits = JqLimits { steps: 10_000, ..JqLimits::default() };
            let fates = JqStage::new(jq.with_limits(limits)).process(items([r#"{"a":[1,{"a":2}]}"#])).unwrap();
            prop_assert!(!fates.is_empty());
        }
    }
}
