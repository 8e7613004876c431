use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::hose::failure::ErrorType;
use crate::record::ShardId;

/// Prefixes and the names that they give; the file says how.
const GOLDEN: &str = include_str!("../../../tests/data/hose/name/prefixes.tsv");

const STREAM: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

fn us(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().expect(text).as_microsecond()
}

fn values(text: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.split(',').filter_map(pair).collect()
}

fn name(prefix: Prefix, zone: Zone, record: &Context<'_>, oldest_us: i64) -> Result<String, NameError> {
    let extension: Extension = ".gz".parse().expect("an extension");
    let mut name =
        ObjectName { stream: "clicks", version: 3, oldest_us, id: Uuid::nil(), extension: &extension };
    let limits = Limits { suffix_bytes: name.suffix_bytes(), ..Limits::OBJECT_STORE };
    let mut partitioner = Partitioner::new(prefix, zone, limits);
    let mut partition = String::new();
    partitioner.partition(record, &mut partition)?;
    name.id = object_id(STREAM, &partition, b"5:7-9");
    let prefix = partitioner.complete(&partition, oldest_us, name.id)?;
    let text = object_name(&prefix, partitioner.zone(), &name)?;
    assert!(text.len() <= partition.len() + 11 * 60 + name.suffix_bytes());
    Ok(text)
}

#[test]
fn prefixes_give_the_names_of_the_table() {
    let (mut wrong, mut made) = (Vec::new(), String::new());
    for line in GOLDEN.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [role, prefix, zone, arrival, oldest, given, expected] = columns[..] else {
            made.push_str(line);
            made.push('\n');
            continue;
        };
        let role = if role == "data" { Role::Data } else { Role::Error };
        let Ok(zone) = zone.parse::<Zone>() else { continue };
        let given = values(given);
        let record = Context {
            arrival_us: us(arrival),
            shard: ShardId(5),
            query: &given,
            transform: &given,
            error_type: (role == Role::Error).then_some(ErrorType::Processing),
        };
        let text = match Prefix::parse(prefix, role) {
            Ok(prefix) => name(prefix, zone, &record, us(oldest)).unwrap_or_else(|error| format!("!{error}")),
            Err(error) => format!("!{error}"),
        };
        if text != expected {
            wrong.push(format!("{prefix}: {text}, not {expected}"));
        }
        let kept = columns[..6].join("\t");
        let _ = writeln!(made, "{kept}\t{text}");
    }
    // What is made anew is read before it is kept: the table is what is right, not what the code says.
    if let Some(path) = std::env::var_os("KPIPE_TABLE") {
        std::fs::write(path, made).expect("the table can be written");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn records_of_two_hours_lie_in_two_folders_and_the_rest_is_the_oldest_ones() {
    let prefix =
        Prefix::parse("!{timestamp:yyyy/HH/mm}-!{firehose:random-string}-", Role::Data).expect("a prefix");
    let mut partitioner = Partitioner::new(prefix, Zone::utc(), Limits::OBJECT_STORE);
    let mut partition = |text: &str| {
        let mut out = String::new();
        partitioner.partition(&Context::plain(ShardId(0), us(text)), &mut out).expect("a partition");
        out
    };
    let first = partition("2024-01-01T05:00:00Z");
    assert_eq!(first, partition("2024-01-01T05:59:59.999999Z"));
    assert_ne!(first, partition("2024-01-01T06:00:00Z"));
    assert!(first.starts_with("2024/05/\u{2}-\u{1}-"));
    let id = object_id(STREAM, &first, b"1");
    let prefix = partitioner.complete(&first, us("2024-01-01T05:07:00Z"), id).expect("a prefix");
    assert!(prefix.starts_with("2024/05/07-") && prefix.len() == "2024/05/07-".len() + 11 + 1, "{prefix}");
    assert_eq!(prefix, partitioner.complete(&first, us("2024-01-01T05:07:00Z"), id).expect("the same"));
    assert_ne!(prefix, partitioner.complete(&first, us("2024-01-01T05:07:00Z"), STREAM).expect("another"));
}

#[test]
fn an_id_is_of_the_stream_the_partition_and_the_records() {
    let id = object_id(STREAM, "a/", b"1");
    assert_eq!(id, object_id(STREAM, "a/", b"1"));
    assert_eq!(id.get_version_num(), 8);
    assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
    for other in [
        object_id(Uuid::nil(), "a/", b"1"),
        object_id(STREAM, "b/", b"1"),
        object_id(STREAM, "a/", b"2"),
        object_id(STREAM, "a/1", b""),
    ] {
        assert_ne!(id, other);
    }
}

#[test]
fn extensions_are_the_services() {
    for good in ["", ".gz", ".parquet", ".a.b", ".!-_.*'()0", "..", &format!(".{}", "a".repeat(127))] {
        assert_eq!(good.parse::<Extension>().as_ref().map(Extension::as_str), Ok(good));
    }
    for bad in ["gz", ".", ".GZ", ".a/b", ".a b", ".é", ".\n", &format!(".{}", "a".repeat(128))] {
        assert!(bad.parse::<Extension>().is_err(), "{bad}");
    }
}

#[test]
fn a_prefix_tells_what_it_uses() {
    let text = "!{timestamp:yyyy}/!{partitionKeyFromQuery:a}/!{partitionKeyFromQuery:b}/!{partitionKeyFromQuery:a}/\
                !{partitionKeyFromLambda:c}/";
    let uses = Prefix::parse(text, Role::Data).expect("a prefix").uses();
    let expected = Uses {
        timestamp: true,
        query: vec!["a".to_owned(), "b".to_owned()],
        transform: vec!["c".to_owned()],
        ..Uses::default()
    };
    assert_eq!(uses, expected);
    let uses =
        Prefix::parse("!{shard:number}/!{firehose:error-output-type}/!{firehose:random-string}", Role::Error);
    let expected = Uses { shard: true, random: true, error_type: true, ..Uses::default() };
    assert_eq!(uses.expect("a prefix").uses(), expected);
    assert!(Prefix::default_for(Role::Data).uses().timestamp);
    assert!(Prefix::default_for(Role::Error).uses().error_type);
}

#[test]
fn columns_are_the_folders_with_an_equals_sign() {
    let text = "lake/v=1/!{timestamp:'year='yyyy'/month='MM'/'}dt=!{timestamp:yyyy-MM-dd}/\
                c=!{partitionKeyFromQuery:country}/t=!{partitionKeyFromTransform:x}/s=!{shard}/m=a!{shard}/\
                !{partitionKeyFromQuery:k}=1/=2/v=3/r=!{firehose:random-string}/e==/x=";
    let columns = hive_columns(&Prefix::parse(text, Role::Data).expect("a prefix"));
    let columns: Vec<_> = columns.into_iter().map(|column| (column.name, column.value)).collect();
    let text = |text: &str| text.to_owned();
    let expected = [
        (text("v"), HiveValue::Text(text("1"))),
        (text("year"), HiveValue::Timestamp),
        (text("month"), HiveValue::Timestamp),
        (text("dt"), HiveValue::Timestamp),
        (text("c"), HiveValue::Query(text("country"))),
        (text("t"), HiveValue::Transform(text("x"))),
        (text("s"), HiveValue::Shard),
        (text("m"), HiveValue::Mixed),
        (text("r"), HiveValue::Random),
        (text("e"), HiveValue::Text(text("="))),
    ];
    assert_eq!(columns, expected);
    let found = hive_values("lake/c=a%2Fb/n=__HIVE_DEFAULT_PARTITION__/x/=1/o=a=b.gz");
    assert_eq!(found, [("c", Some("a/b".into())), ("n", None)]);
}

#[test]
fn limits_are_of_the_name_with_everything_in_it() {
    let prefix =
        Prefix::parse("k=!{partitionKeyFromQuery:k}/!{firehose:random-string}!{timestamp:MMMM}", Role::Data)
            .expect("a prefix");
    let try_with = |limits, value: &str| {
        let given = [("k", value)];
        let record = Context { query: &given, ..Context::plain(ShardId(0), 0) };
        let mut out = String::new();
        Partitioner::new(prefix.clone(), Zone::utc(), limits).partition(&record, &mut out).map(|()| out)
    };
    // `k=`, `/`, eleven random characters and nine of September.
    let fixed = 2 + 1 + 11 + 9;
    let object_store = Limits { suffix_bytes: 20, ..Limits::OBJECT_STORE };
    assert!(try_with(object_store, &"é".repeat(512 - fixed)).is_ok_and(|text| text.len() > 900));
    let error = try_with(object_store, &"é".repeat(513 - fixed)).expect_err("too long");
    assert_eq!(error, NameError::PrefixTooLong { chars: 513, limit: 512 });
    let error = try_with(object_store, &"日".repeat(400)).expect_err("too long");
    assert_eq!(error, NameError::NameTooLong { bytes: 1200 + fixed + 20, limit: 1024 });
    let directory = Limits { suffix_bytes: 100, ..Limits::DIRECTORY };
    assert!(try_with(directory, &"a".repeat(253)).is_ok());
    let error = try_with(directory, &"a".repeat(254)).expect_err("too long");
    assert_eq!(error, NameError::PartTooLong { bytes: 256, limit: 255 });
    let error = try_with(Limits { suffix_bytes: 236, ..directory }, "a").expect_err("too long");
    assert_eq!(error, NameError::PartTooLong { bytes: 256, limit: 255 });
    assert!(try_with(Limits { suffix_bytes: 235, ..directory }, "a").is_ok());
}

#[test]
fn a_time_that_cannot_be_written_is_the_records_fault() {
    let parse = |text| Prefix::parse(text, Role::Data).expect("a prefix");
    let mut out = String::new();
    for far in [i64::MIN, i64::MAX] {
        let record = Context::plain(ShardId(0), far);
        let mut timed = Partitioner::new(parse("!{timestamp:yyyy}/"), Zone::utc(), Limits::OBJECT_STORE);
        assert_eq!(timed.partition(&record, &mut out), Err(NameError::Time(far)));
        assert_eq!(timed.span(far), Span::ALL);
        assert!(timed.partition(&Context::plain(ShardId(0), 0), &mut out).is_ok());
        let mut plain = Partitioner::new(parse("x/"), Zone::utc(), Limits::OBJECT_STORE);
        assert_eq!(plain.partition(&record, &mut out), Ok(()));
    }
    let failed = Prefix::default_for(Role::Error);
    let mut failed = Partitioner::new(failed, Zone::utc(), Limits::OBJECT_STORE);
    assert_eq!(failed.partition(&Context::plain(ShardId(0), 0), &mut out), Err(NameError::NoErrorType));
}

/// Zones with changes of all kinds: of half an hour, of a whole day, at midnight, and of Ramadan.
const ZONES: [&str; 8] = [
    "UTC",
    "-09:30",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "America/St_Johns",
];

const PATTERNS: [&str; 12] = [
    "yyyy/MM/dd/HH/",
    "yyyy-MM-dd'/'",
    "HH:mm'/'",
    "ss'/'",
    "SSS'/'",
    "SSSSSS'/'",
    "A'/'",
    "n'/'",
    "XXX'/'",
    "z a'/'",
    "B'/'",
    "VV'/'",
];

fn any_prefix() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z/.=_!{}é-]{0,4}",
        1 => any::<String>(),
        2 => Just("!{partitionKeyFromQuery:a}".to_owned()),
        1 => Just("!{partitionKeyFromTransform:b}".to_owned()),
        1 => Just("!{firehose:random-string}".to_owned()),
        1 => Just("!{firehose:error-output-type}".to_owned()),
        1 => Just("!{shard}".to_owned()),
        2 => "[GuyDMLdQqYwWEecFaBhKkHmsSAnNVvzOXxZp'/.\\[\\] -]{0,6}".prop_map(|p| format!("!{{timestamp:{p}}}")),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[./_%a]{0,4}", Just("_khose".to_owned()), Just("_delta_log".to_owned())]
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>(), pattern in any::<String>()) {
        let _ = Prefix::parse(&text, Role::Data);
        let _ = Prefix::parse(&format!("{text}!{{{pattern}"), Role::Error);
        let _ = Prefix::parse(&format!("{text}!{{timestamp:{pattern}}}"), Role::Error);
        let _ = java_time::Pattern::parse(&pattern);
        let _ = pattern.parse::<Zone>();
        let _ = format!("+{pattern}").parse::<Zone>();
    }

    #[test]
    fn a_name_lies_in_the_destination(
        prefix in any_prefix(),
        a in any_value(),
        b in any_value(),
        zone in prop::sample::select(&ZONES[..]),
        arrival_us in 0..4_102_444_800_000_000i64,
        is_error in any::<bool>(),
    ) {
        let role = if is_error { Role::Error } else { Role::Data };
        let (Ok(prefix), Ok(zone)) = (Prefix::parse(&prefix, role), zone.parse()) else { return Ok(()) };
        let (query, transform) = ([("a", a)], [("b", b)]);
        let record = Context {
            arrival_us,
            shard: ShardId(7),
            query: &query,
            transform: &transform,
            error_type: is_error.then_some(ErrorType::Database),
        };
        match name(prefix, zone, &record, arrival_us) {
            Ok(name) => {
                prop_assert!(name.len() <= 1024);
                prop_assert!(!name.chars().any(char::is_control), "{name:?}");
                prop_assert!(!name.split('/').any(|part| matches!(part, "" | "." | "..")), "{name:?}");
                let top = name.split('/').next();
                prop_assert!(!matches!(top, Some("_khose" | "_delta_log")), "{name:?}");
            }
            Err(NameError::PrefixTooLong { .. } | NameError::NameTooLong { .. } | NameError::Format(_)) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn within_a_span_the_partition_is_the_same(
        pattern in prop::sample::select(&PATTERNS[..]),
        zone in prop::sample::select(&ZONES[..]),
        start_us in 1_262_304_000_000_000..2_000_000_000_000_000i64,
        at in 0.0..1.0f64,
    ) {
        let Ok(zone) = zone.parse::<Zone>() else { return Ok(()) };
        let prefix = Prefix::parse(&format!("!{{timestamp:{pattern}}}"), Role::Data).expect("a prefix");
        let fresh = |us: i64| {
            let mut out = String::new();
            Partitioner::new(prefix.clone(), zone.clone(), Limits::OBJECT_STORE)
                .partition(&Context::plain(ShardId(0), us), &mut out)
                .expect("a partition");
            out
        };
        let partitioner = Partitioner::new(prefix.clone(), zone.clone(), Limits::OBJECT_STORE);
        // At random, and around a change of the clock, where the mistakes are.
        let mut moments = vec![start_us];
        if let Some(change_us) = zone.next_change_us(start_us) {
            moments.extend([change_us - 1, change_us, change_us + 1, change_us - 1_800_000_000]);
        }
        for us in moments {
            let span = partitioner.span(us);
            prop_assert!(span.contains(us));
            if span == Span::ALL {
                continue;
            }
            let inside = span.since_us + ((span.until_us - 1 - span.since_us) as f64 * at) as i64;
            for other in [span.since_us, span.until_us - 1, inside] {
                prop_assert_eq!(fresh(other), fresh(us), "{} and {}", other, us);
            }
        }
    }

    #[test]
    fn what_is_remembered_changes_nothing(times in prop::collection::vec(0..40i64, 1..40)) {
        let prefix = Prefix::parse("!{timestamp:yyyy/MM/dd/HH/}!{partitionKeyFromQuery:a}/x", Role::Data).expect("a prefix");
        let zone: Zone = "+05:30".parse().expect("an offset");
        let mut one = Partitioner::new(prefix.clone(), zone.clone(), Limits::OBJECT_STORE);
        for time in times {
            let given = [("a", time.to_string())];
            let record = Context { query: &given, ..Context::plain(ShardId(0), time * 600_000_000) };
            let (mut out, mut anew) = (String::new(), String::new());
            one.partition(&record, &mut out).expect("a partition");
            Partitioner::new(prefix.clone(), zone.clone(), Limits::OBJECT_STORE)
                .partition(&record, &mut anew)
                .expect("a partition");
            prop_assert_eq!(out, anew);
        }
    }
}
