//! What holds for every decoder, whatever its input and however the input is cut into blocks: the same records and the
//! same refusals as from one block, every byte accounted for, and no panic.

use proptest::prelude::*;
use regex::bytes::Regex;

use super::*;
use crate::hash::HashKey;
use crate::record::Attribute;

/// A record, or why there is none, with all that its block said about it.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Taken {
        payload: Vec<u8>,
        key: Option<Vec<u8>>,
        hash: Option<HashKey>,
        timestamp: Option<i64>,
        attributes: Vec<Attribute>,
        position: Option<u64>,
    },
    Refused {
        number: u64,
        reason: String,
    },
    Broken(String),
}

const LIMIT: usize = 12;

/// A decoder fed like a pipe: blocks of the given sizes, over and over, with what was left of the last one in front.
fn feed(format: InputFormat, options: &DecodeOptions, input: &[u8], sizes: &[usize]) -> Vec<Event> {
    let mut decoder = decoder(format, options).unwrap();
    let mut events = Vec::new();
    let (mut held, mut fed) = (Vec::new(), 0);
    let mut sizes = sizes.iter().cycle();
    loop {
        let size = (*sizes.next().unwrap()).min(input.len() - fed);
        held.extend_from_slice(&input[fed..fed + size]);
        fed += size;
        let last = fed == input.len();
        let mut out = Records::default();
        let used = decoder.decode(&held, last, &mut out);
        collect(&out, &held, &mut events);
        let used = match used {
            Ok(used) => used,
            Err(broken) => {
                events.push(Event::Broken(broken.to_string()));
                return events;
            }
        };
        check(&out, &held, used);
        held.drain(..used);
        if last {
            assert!(held.is_empty(), "{} bytes left of {format:?}", held.len());
            return events;
        }
        // What a caller has to hold is bounded by the longest line that could be a record, not by the input.
        let bound = match format {
            InputFormat::Json => 1 << 21,
            // The header has a limit of its own.
            InputFormat::Csv { .. } if decoder.header().is_none() => 1 << 21,
            _ => 4 * LIMIT,
        };
        assert!(held.len() <= bound, "{} bytes held", held.len());
    }
}

fn check(out: &Records, block: &[u8], used: usize) {
    let count = out.len();
    assert_eq!(out.ends.len(), count);
    assert!(out.ends.is_sorted());
    assert!(out.ends.last().is_none_or(|&end| end as usize <= used));
    for len in
        [out.keys.len(), out.hashes.len(), out.timestamps.len(), out.attributes.len(), out.positions.len()]
    {
        assert!(len == 0 || len == count, "a column of {len} for {count} records");
    }
    if let Some(delimiter) = out.joined {
        let mut at = 0;
        for i in 0..count {
            assert_eq!(out.payloads[i].start as usize, at);
            at += out.payloads[i].len as usize;
            assert!(block.get(at).is_none_or(|&byte| byte == delimiter));
            at += 1;
        }
        assert!(
            at == used || (at == used + 1 && block.len() == used),
            "joined payloads end at {at} of {used}"
        );
    }
}

fn collect(out: &Records, block: &[u8], events: &mut Vec<Event>) {
    let mut refused = out.refused.iter().enumerate().peekable();
    for i in 0..=out.len() {
        while let Some((n, refusal)) = refused.next_if(|(_, refusal)| refusal.after == i) {
            let _ = out.refused_raw(block, n);
            events.push(Event::Refused { number: refusal.number, reason: refusal.reason.clone() });
        }
        if i == out.len() {
            break;
        }
        let payload = out.payload(block, i).to_vec();
        let key = out.key(block, i).map(<[u8]>::to_vec);
        assert!(key.as_ref().is_none_or(|key| std::str::from_utf8(key).is_ok()));
        assert!(payload.len() + key.as_ref().map_or(0, Vec::len) <= LIMIT);
        events.push(Event::Taken {
            payload,
            key,
            hash: out.hashes.get(i).copied().flatten(),
            timestamp: out.timestamps.get(i).copied().flatten(),
            attributes: out.attributes.get(i).cloned().unwrap_or_default(),
            position: out.positions.get(i).copied(),
        });
    }
    assert!(refused.next().is_none(), "a refusal behind the last record");
}

/// Every format with every rule it takes.
fn decoders() -> Vec<(InputFormat, DecodeOptions)> {
    let byte_rules = || {
        [
            KeyRule::None,
            KeyRule::Value("k".into()),
            KeyRule::Delimiter(b":".to_vec()),
            KeyRule::Regex(Regex::new("[a-c](1?)").unwrap()),
        ]
    };
    let csv = InputFormat::Csv { delimiter: b',' };
    let mut all = Vec::new();
    for format in [
        InputFormat::Lines,
        InputFormat::Nul,
        InputFormat::Framed,
        InputFormat::Base64,
        InputFormat::Ndjson,
        csv,
    ] {
        all.extend(byte_rules().map(|key| (format, DecodeOptions { key, ..DecodeOptions::new(LIMIT) })));
    }
    for format in [InputFormat::Ndjson, csv] {
        let options = DecodeOptions { key: KeyRule::Field("a".into()), ..DecodeOptions::new(LIMIT) };
        let fields = DecodeOptions {
            explicit_hash_key: Some("b".into()),
            producer_position: Some("a".into()),
            ..options.clone()
        };
        all.extend([(format, options), (format, fields)]);
    }
    all.extend(
        byte_rules().map(|key| (InputFormat::Json, DecodeOptions { key, ..DecodeOptions::new(LIMIT) })),
    );
    let field = DecodeOptions { key: KeyRule::Field("a".into()), ..DecodeOptions::new(LIMIT) };
    all.push((InputFormat::Json, field));
    all
}

const PIECES: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b"\0",
    b",",
    b"\"",
    b"\"\"",
    b":",
    b"a",
    b"1",
    b"{\"a\":1}",
    b"{\"a\":\"\\u0062\"}",
    b"{\"a\":\"b\",\"b\":\"7\"}\n",
    b"{\"kpipe\":\"record\",\"text\":\"x\"}\n",
    b"\0\0\0\x02ab",
    b"\0\0\0\0",
    b"{\"kpipe\":\"record\",\"base64\":\"YQ==\",\"partitionKey\":\"p\",\"timestamp\":1}\n",
    b"YTpi\n",
    b"YQ==",
    b"aaaaaaaaaaaaaaaaaaaa",
    b"\xff",
    b" ",
    b"1,2\n",
    b"\"1\",2\n",
    b"\xc3",
];

/// Bytes of which the formats make something now and then.
fn some_input() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(PIECES).prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    (any::<bool>(), prop::collection::vec(piece, 0..30)).prop_map(|(header, pieces)| {
        let mut input = if header { b"a,b\n".to_vec() } else { Vec::new() };
        input.extend(pieces.concat());
        input
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn blocks_make_no_difference(input in some_input(), sizes in prop::collection::vec(1usize..20, 1..5)) {
        for (format, options) in decoders() {
            let whole = feed(format, &options, &input, &[input.len().max(1)]);
            let parts = feed(format, &options, &input, &sizes);
            prop_assert_eq!(&parts, &whole, "{:?} {:?}", format, options);
        }
    }

    /// Whoever notes a place in front of what is pending loses nothing by going on from there with another decoder.
    #[test]
    fn a_place_to_go_on_from(input in some_input(), sizes in prop::collection::vec(1usize..20, 1..5)) {
        // A row alone does not tell its columns.
        for (format, options) in decoders().into_iter().filter(|(f, _)| !matches!(f, InputFormat::Csv { .. })) {
            let payloads = |events: Vec<Event>| -> Vec<_> {
                let payload = |event| if let Event::Taken { payload, .. } = event { Some(payload) } else { None };
                events.into_iter().filter_map(payload).collect()
            };
            let whole = payloads(feed(format, &options, &input, &[input.len().max(1)]));
            let mut decoder = decoder(format, &options).unwrap();
            let (mut fed, mut used, mut count) = (0, 0, 0);
            for &size in sizes.iter().cycle() {
                fed = (fed + size).min(input.len());
                let mut out = Records::default();
                let Ok(more) = decoder.decode(&input[used..fed], fed == input.len(), &mut out) else { break };
                used += more;
                count += out.len();
                let place = used - decoder.pending() as usize;
                let rest = payloads(feed(format, &options, &input[place..], &[input.len().max(1)]));
                prop_assert_eq!(&rest[..], &whole[count..], "{:?} {:?} from byte {}", format, options, place);
                if fed == input.len() {
                    break;
                }
            }
        }
    }

    #[test]
    fn any_bytes(input: Vec<u8>, size in 1usize..40) {
        for (format, options) in decoders() {
            feed(format, &options, &input, &[size]);
        }
    }

    /// What an encoder writes its decoder reads.
    #[test]
    fn formats_that_hold_any_bytes(payloads in prop::collection::vec(any::<Vec<u8>>(), 0..10)) {
        for (to, from) in [
            (OutputFormat::Framed, InputFormat::Framed),
            (OutputFormat::Base64, InputFormat::Base64),
            (OutputFormat::Json, InputFormat::Json),
        ] {
            let options = EncodeOptions { stream_name: "s".into(), stream_id: uuid::Uuid::nil() };
            let mut encoder = encoder(&to, &options).unwrap();
            let mut bytes = Vec::new();
            encoder.begin(&mut bytes);
            for payload in &payloads {
                encoder.encode(&output::tests::record(payload), &mut bytes);
            }
            let mut out = Records::default();
            decoder(from, &DecodeOptions::new(1000)).unwrap().decode(&bytes, true, &mut out).unwrap();
            let read: Vec<_> = (0..out.len()).map(|i| out.payload(&bytes, i).to_vec()).collect();
            prop_assert_eq!(&read, &payloads);
        }
    }
}

#[test]
fn options_that_a_format_has_not() {
    let field = DecodeOptions { key: KeyRule::Field("a".into()), ..DecodeOptions::new(LIMIT) };
    let hash = DecodeOptions { explicit_hash_key: Some("a".into()), ..DecodeOptions::new(LIMIT) };
    let error = |format, options: &DecodeOptions| decoder(format, options).err().unwrap_or_default();
    assert!(error(InputFormat::Lines, &field).contains("`lines` input has none"));
    assert!(error(InputFormat::Framed, &hash).contains("explicit hash key"));
    assert!(error(InputFormat::Csv { delimiter: b'"' }, &field).contains("delimiter"));
    assert!(error(InputFormat::Lines, &DecodeOptions::new(usize::MAX)).contains("limit"));
    assert!("csv2".parse::<InputFormat>().is_err());
    for &name in InputFormat::NAMES {
        assert_eq!(name.parse::<InputFormat>().map(InputFormat::name), Ok(name));
    }
}
