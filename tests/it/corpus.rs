//! Whatever comes from a disk or a pipe is taken apart without a panic, and what is taken apart means the same when it
//! is put together again.
//!
//! `tests/corpus/TARGET/` holds small real inputs, and every input that once broke something. Each is run as it is, cut
//! at every length, and with single bytes changed. `UPDATE_CORPUS=1` makes those that are called `seed-*` anew.
//!
//! `make fuzz MINUTES=n` goes on with random changes for so long; an input that breaks something is stored beside the
//! others, and fails every run from then on. It knows nothing of coverage. libFuzzer would: on a stable toolchain it
//! could be had without the sanitizers, which this library, with hardly any `unsafe`, has little use for; but at the
//! price of a second package, a C++ compiler and `cargo-fuzz` on every machine that runs the tests.

use std::fs;
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kpipe::codec::envelope::Envelope;
use kpipe::codec::{DecodeOptions, EncodeOptions, InputFormat, KeyRule, OutputFormat, decoder, encoder, kpl};
use kpipe::hash::HashKey;
use kpipe::log::frame::columns::decompress;
use kpipe::log::frame::segment::SEGMENT_HEADER_BYTES;
use kpipe::log::frame::{FrameHeader, HEADER_BYTES, Identity, Kind, SegmentHeader, control, crc32c};
use kpipe::log::{BatchView, Codec, LogId};
use kpipe::record::{Record, Records, SequenceNumber, ShardId};
use kpipe::stream::{Consumer, ConsumerState, Manifest, NewStream, Stream, transport};
use kpipe::sys::System;
use uuid::Uuid;

use crate::producer::Dice;
use crate::workdir::Workdir;

/// What takes the bytes apart. `Some` where they are whole: the same, put together again.
type Decoder = fn(&Workdir, &[u8]) -> Option<Vec<u8>>;

/// Each folder, its decoder, and of how many cuts and changes one is tried: those that go by way of files cost more.
const TARGETS: [(&str, Decoder, usize); 11] = [
    ("frame", frame, 1),
    ("segment", segment, 1),
    ("manifest", manifest, 7),
    ("kpl", aggregate, 1),
    ("envelope", envelope, 1),
    ("csv", csv, 1),
    ("ndjson", ndjson, 1),
    ("json-path", json_path, 1),
    ("template", template, 1),
    ("state", state, 7),
    ("dump", dump, 61),
];

const LOG: LogId = LogId { stream: [7; 16], shard: 0 };

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target)
}

fn files(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(corpus(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}

/// Takes the bytes apart, and what comes of it once more.
fn run(wd: &Workdir, decode: Decoder, bytes: &[u8]) -> bool {
    let Some(once) = decode(wd, bytes) else { return false };
    let twice = decode(wd, &once);
    assert!(twice.as_ref() == Some(&once), "it means something else the second time");
    true
}

#[test]
fn every_input_cut_and_changed_everywhere() {
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        write_seeds();
    }
    let wd = Workdir::new();
    for (target, decode, every) in TARGETS {
        let files = files(target);
        assert!(files.len() >= 2, "{target} has no inputs");
        for (path, bytes) in files {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            assert!(bytes.len() <= 4096, "{}: keep inputs small", path.display());
            let checked = |bytes: &[u8], what: &str| {
                let whole = catch_unwind(AssertUnwindSafe(|| run(&wd, decode, bytes)));
                whole.unwrap_or_else(|_| panic!("{}: {what}", path.display()))
            };
            let whole = checked(&bytes, "as it is");
            assert!(whole || !name.starts_with("seed-"), "{}: a seed is whole", path.display());
            for len in (0..bytes.len()).step_by(every) {
                checked(&bytes[..len], &format!("cut at {len}"));
            }
            let mut changed = bytes.clone();
            for at in (0..bytes.len()).step_by(every) {
                for value in [bytes[at] ^ (1 << (at % 8)), 0, 0xff, b'"'] {
                    changed[at] = value;
                    checked(&changed, &format!("byte {at} is {value}"));
                }
                changed[at] = bytes[at];
            }
        }
    }
}

/// Random changes for as long as `KPIPE_FUZZ_MINUTES` says; without it always the same few.
#[test]
fn random_changes() {
    let minutes: f64 =
        std::env::var("KPIPE_FUZZ_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let until = Instant::now() + Duration::from_secs_f64(60.0 * minutes);
    let seed = if minutes > 0.0 { u64::from(std::process::id()) } else { 5 };
    let (wd, mut dice) = (Workdir::new(), Dice::new(seed));
    let all = TARGETS.map(|(target, decode, _)| (target, decode, files(target)));
    let mut tried = 0u64;
    while tried < 2000 || Instant::now() < until {
        let (target, decode, inputs) = &all[dice.throw(all.len() as u64) as usize];
        let pick = |dice: &mut Dice| inputs[dice.throw(inputs.len() as u64) as usize].1.clone();
        let mut bytes = pick(&mut dice);
        for _ in 0..=dice.throw(4) {
            change(&mut bytes, &pick(&mut dice), &mut dice);
        }
        tried += 1;
        if catch_unwind(AssertUnwindSafe(|| run(&wd, *decode, &bytes))).is_err() {
            bytes.truncate(4096);
            let path = corpus(target).join(format!("found-{:08x}", crc32c(&bytes)));
            if minutes > 0.0 {
                fs::write(&path, &bytes).expect("the input is stored");
            }
            panic!("{}: broken by {bytes:?}", path.display());
        }
    }
    eprintln!("{tried} changed inputs");
}

fn change(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = |dice: &mut Dice, len: usize| dice.throw(len as u64 + 1) as usize;
    let (from, to) = (at(dice, bytes.len()), at(dice, bytes.len()));
    let range = from.min(to)..from.max(to);
    match dice.throw(6) {
        0 => bytes.truncate(from),
        1 => drop(bytes.drain(range)),
        2 => {
            let again = bytes[range].to_vec();
            bytes.splice(from..from, again);
        }
        3 => {
            let (a, b) = (at(dice, other.len()), at(dice, other.len()));
            bytes.splice(range, other[a.min(b)..a.max(b)].iter().copied());
        }
        _ => {
            let value = [0, 0xff, b'"', b'\\', b'{', b'9', dice.throw(256) as u8][dice.throw(7) as usize];
            if let Some(byte) = bytes.get_mut(from) {
                *byte = value;
            }
        }
    }
}

/// One frame of the segment at 0. Its checksums are made right, so that what is behind them is reached.
fn frame(_: &Workdir, bytes: &[u8]) -> Option<Vec<u8>> {
    let head: [u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
    let (header, crc) = FrameHeader::decode(&resealed(head), &Identity::new(LOG, 0)).ok()?;
    let stored = bytes.get(HEADER_BYTES..HEADER_BYTES + header.stored_bytes as usize)?;
    let (said, body) = stored.split_at(usize::from(header.provenance_bytes));
    if !said.is_empty() {
        control::decode_provenance(said).map(|said| control::encode_provenance(&said));
    }
    let mut unpacked = Vec::new();
    // What a header claims is taken on trust once it is sealed; here it is made up.
    let body = match header.codec {
        Codec::None => body,
        _ if header.body_bytes > 1 << 20 => return None,
        _ => decompress(&header, body, &mut unpacked).then_some(&unpacked[..])?,
    };
    match header.kind {
        Kind::Records => {
            let view = BatchView::parse(&header, body)?;
            assert_eq!(view.iter().count(), header.count as usize);
            let payloads: usize = view.iter().map(|record| record.payload.len()).sum();
            assert!(payloads <= body.len());
        }
        Kind::Producers => drop(control::decode_producers(body)?),
        Kind::Seal => drop(control::decode_seal(body)?),
        Kind::Pause => drop(control::decode_pause(body)?),
        Kind::End => {
            let end = kpipe::log::EndOfShard::decode(body)?;
            assert_eq!(kpipe::log::EndOfShard::decode(&end.encode()), Some(end));
        }
        Kind::Condemned | Kind::Gap => {}
    }
    Some([&header.encode(&Identity::new(LOG, 0), crc)[..], stored].concat())
}

/// A frame header with a right checksum.
fn resealed(mut head: [u8; HEADER_BYTES]) -> [u8; HEADER_BYTES] {
    let covered = [&LOG.stream[..], &LOG.shard.to_le_bytes(), &0u64.to_le_bytes(), &head[..56]].concat();
    let (before, sum) = (u32::from_le_bytes([head[56], head[57], head[58], head[59]]), crc32c(&covered));
    let body = u32::from_le_bytes([head[60], head[61], head[62], head[63]]) ^ before ^ sum;
    head[56..60].copy_from_slice(&sum.to_le_bytes());
    head[60..].copy_from_slice(&body.to_le_bytes());
    head
}

/// A segment's header, and the frames behind it.
fn segment(wd: &Workdir, bytes: &[u8]) -> Option<Vec<u8>> {
    let _ = SegmentHeader::identify(bytes);
    let header = SegmentHeader::decode(bytes.get(..SEGMENT_HEADER_BYTES)?, LOG, 0).ok()?;
    let mut whole = header.encode().to_vec();
    let mut rest = &bytes[SEGMENT_HEADER_BYTES..];
    while let Some(frame) = frame(wd, rest) {
        rest = &rest[frame.len()..];
        whole.extend(frame);
    }
    Some(whole)
}

fn manifest(wd: &Workdir, bytes: &[u8]) -> Option<Vec<u8>> {
    wd.write("s/manifest.json", bytes);
    let manifest = Manifest::read(&System::real(), &wd.join("s")).ok()?;
    manifest.encode().ok()
}

fn aggregate(_: &Workdir, bytes: &[u8]) -> Option<Vec<u8>> {
    let aggregate = kpl::deaggregate(bytes)?;
    let bytes = kpl::aggregate(aggregate.iter());
    let again = kpl::deaggregate(&bytes).expect("what was made is one");
    assert!(aggregate.iter().eq(again.iter()));
    Some(bytes)
}

fn envelope(_: &Workdir, bytes: &[u8]) -> Option<Vec<u8>> {
    decoded(InputFormat::Json, KeyRule::None, bytes);
    let envelope = Envelope::parse(bytes).ok()?;
    let (Some(sequence), Some(arrival_us)) = (envelope.sequence, envelope.arrival_us) else { return None };
    let options = EncodeOptions {
        stream_name: envelope.stream.as_deref().unwrap_or_default().to_owned(),
        stream_id: envelope.stream_id.unwrap_or_default(),
    };
    let record = Record {
        sequence,
        sub_sequence: envelope.sub_sequence,
        arrival_us,
        timestamp_us: envelope.timestamp_us,
        key: envelope.key.as_deref(),
        explicit_hash: envelope.explicit_hash,
        attributes: &envelope.attributes,
        payload: &envelope.payload,
    };
    let mut line = Vec::new();
    encoder(&OutputFormat::Json, &options).expect("an encoder").encode(&record, &mut line);
    line.pop();
    let again = Envelope::parse(&line).expect("what was written is one");
    assert_eq!((&again.payload, &again.key), (&envelope.payload, &envelope.key));
    assert_eq!((again.timestamp_us, &again.attributes), (envelope.timestamp_us, &envelope.attributes));
    Some(line)
}

/// A decoded record: payload, key, explicit hash key.
type Decoded = (Vec<u8>, Option<Vec<u8>>, Option<HashKey>);

/// All records of an input, whole and in two blocks: that must make no difference. The first is the header, if any.
fn decoded(format: InputFormat, key: KeyRule, bytes: &[u8]) -> Option<(Vec<u8>, Vec<Decoded>)> {
    let options = DecodeOptions { key, ..DecodeOptions::new(1 << 16) };
    let all = |first: usize| {
        let mut decoder = decoder(format, &options).ok()?;
        let (mut records, mut all, mut from, mut refused) = (Records::default(), Vec::new(), 0, 0);
        for (until, last) in [(first, false), (bytes.len(), true)] {
            loop {
                records.clear();
                let block = &bytes[from..until];
                let used = decoder.decode(block, last, &mut records);
                all.extend((0..records.len()).map(|i| {
                    let key = records.key(block, i).map(<[u8]>::to_vec);
                    (records.payload(block, i).to_vec(), key, records.hashes.get(i).copied().flatten())
                }));
                refused += records.refused.len();
                let used = used.ok()?;
                assert!(used <= block.len());
                from += used;
                if used == 0 || from == until {
                    break;
                }
            }
        }
        Some((decoder.header().unwrap_or_default().to_vec(), all, refused))
    };
    let whole = all(bytes.len());
    for first in [0, bytes.len() / 3, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let parts = all(first);
        assert!(whole.is_none() || parts.is_none() || parts == whole, "in two blocks, cut at {first}");
    }
    whole.map(|(header, all, _)| (header, all))
}

/// What was decoded, as lines again.
fn lines(header: &[u8], all: &[Decoded]) -> Vec<u8> {
    let mut text = header.to_vec();
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    for (payload, ..) in all {
        text.extend(payload);
        text.push(b'\n');
    }
    text
}

fn csv(_: &Workdir, bytes: &[u8]) -> Option<Vec<u8>> {
    decoded(InputFormat::Csv { delimiter: b';' }, KeyRule::None, bytes);
    decoded(InputFormat::Csv { delimiter: b',' }, KeyRule::Field("id".into()), bytes);
    let (header, all) = decoded(InputFormat::Csv { delimiter: b',' }, KeyRule::None, bytes)?;
    // A header of nothing cannot be told from no header, and a carriage return that belongs to a row would be taken for
    // part of the end of its line.
    let ends = |row: &[u8]| row.ends_with(b"\r");
    let is_plain =
        !header.trim_ascii().is_empty() && !ends(&header) && !all.iter().any(|(row, ..)| ends(row));
    (!all.is_empty() && is_plain).then(|| lines(&header, &all))
}

fn ndjson(_: &Workdir, bytes: &[u8]) -> Option<Vec<u8>> {
    let (_, all) = decoded(InputFormat::Ndjson, KeyRule::Field("user.id".into()), bytes)?;
    (!all.is_empty()).then(|| lines(&[], &all))
}

/// A path on the first line, and the text in which it is looked for.
fn json_path(_: &Workdir, bytes: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8(bytes.to_vec()).ok()?;
    let (path, json) = text.split_once('\n')?;
    let (_, all) = decoded(InputFormat::Ndjson, KeyRule::Field(path.into()), json.as_bytes())?;
    for (payload, key, _) in &all {
        // What was found is in the text that was searched, unless it had escapes.
        let key = key.as_ref().map(|key| String::from_utf8(key.clone()).expect("a key is text"));
        let payload = String::from_utf8_lossy(payload);
        assert!(key.is_none_or(|key| payload.contains(&key) || payload.contains('\\')));
    }
    (!all.is_empty()).then(|| [path.as_bytes(), b"\n", &lines(&[], &all)].concat())
}

fn template(_: &Workdir, bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let format: OutputFormat = text.parse().ok()?;
    let options = EncodeOptions { stream_name: "s".into(), stream_id: Uuid::from_u128(7) };
    let sequence = SequenceNumber { shard_created_s: 1, index: 2, arrival_s: 3, shard: ShardId(4) };
    for (key, timestamp_us) in [(Some("k"), Some(i64::MIN)), (None, None)] {
        let (sub_sequence, explicit_hash, attributes) = (None, None, &[][..]);
        let payload = b"\0\xff";
        let record = Record {
            sequence,
            sub_sequence,
            arrival_us: i64::MAX,
            timestamp_us,
            key,
            explicit_hash,
            attributes,
            payload,
        };
        encoder(&format, &options).expect("it was parsed before").encode(&record, &mut Vec::new());
    }
    Some(bytes.to_vec())
}

/// A consumer's state. What it says is compared as JSON.
fn state(wd: &Workdir, bytes: &[u8]) -> Option<Vec<u8>> {
    if !wd.join("c/s").exists() {
        fs::create_dir(wd.join("c")).expect("a directory");
        Stream::create(&System::real(), &wd.join("c/s"), &NewStream::default()).expect("a stream");
    }
    wd.write("c/s/consumers/c/state.json", bytes);
    let stream = Stream::open(&System::real(), &wd.join("c/s")).expect("a stream");
    let state = Consumer::open(&stream, "c").ok()?.state().ok()?;
    let text = serde_json::to_vec(&state).expect("JSON");
    assert_eq!(serde_json::from_slice::<ConsumerState>(&text).expect("a state"), state);
    Some(bytes.to_vec())
}

fn dump(wd: &Workdir, bytes: &[u8]) -> Option<Vec<u8>> {
    let (system, to) = (System::real(), wd.join("loaded"));
    let loaded = transport::load(&system, &mut BufReader::new(bytes), &to, true, &mut |_, _| Ok(()));
    let left = fs::read_dir(wd.path()).expect("a directory").filter_map(Result::ok);
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().contains("loaded")).collect();
    assert_eq!(left.len(), usize::from(loaded.is_ok()), "whole or not at all: {left:?}");
    loaded.ok()?;
    let mut again = Vec::new();
    let stream = Stream::open(&system, &to).expect("what was loaded");
    transport::dump(&stream, &mut again, &mut |_, _| Ok(())).expect("it can be dumped");
    fs::remove_dir_all(&to).expect("it can be removed");
    Some(again)
}

/// Makes the seeds anew.
fn write_seeds() {
    let put = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(corpus(target)).expect("a directory");
        fs::write(corpus(target).join(format!("seed-{name}")), bytes).expect("a seed");
    };
    let texts: [(&str, &str, &str); 10] = [
        ("csv", "plain", "id,text\n1,a\n2,b\n"),
        ("csv", "quoted", "\"id\",\"te\"\"xt\"\r\n\"1\",\"two\nlines\"\r\n,\r\n3,\"a,b;c\"\r\n"),
        ("csv", "semicolons", "id;text\n1;x\n\n2;\"y\"\n"),
        ("ndjson", "objects", "{\"user\":{\"id\":\"a\"}}\n{\"user\":{\"id\":7,\"x\":[1,{}]}}\n"),
        (
            "ndjson",
            "escapes",
            "{\"us\\u0065r\":{\"id\":\"\\u00e9\\ud83d\\ude00\\n\"}}\n{\"user\":{\"id\":null}}\n[]\n",
        ),
        ("json-path", "dotted", "user.id\n{\"a\":[],\"user\":{\"id\":\"x\"}}\n"),
        ("json-path", "pointer", "/a~1b/0\n{\"a/b\":[\"x\",2],\"c\":{}}\n{\"a/b\":{\"0\":true}}\n"),
        ("json-path", "digits", "0\n[1.5e3]\n{\"0\":\"\\\"\"}\n"),
        ("template", "names", "{key} {seq} {subseq} {shard} {time} {epoch} {timestamp}\\n"),
        ("template", "escapes", "{{{payload}}}\\t\\x00\\\\{base64}{size}{hash}{stream}\\r\\0"),
    ];
    for (target, name, text) in texts {
        put(target, name, text.as_bytes());
    }
    let user = |key, explicit_hash, data| kpl::UserRecord { key, explicit_hash, data };
    put("kpl", "one", &kpl::aggregate([user("k", None, &b"data"[..])]));
    put(
        "kpl",
        "many",
        &kpl::aggregate([
            user("a", Some(HashKey(9)), &b""[..]),
            user("b", None, &[0; 200]),
            user("a", None, b"x"),
        ]),
    );

    // A log of each kind of frame.
    let wd = Workdir::new();
    write_log_seeds(&wd, &put);
    wd.sh(
        "kshard create -q s --shards 2; printf 'a=1\\nb=2\\nc=3\\n' | kput -q s --key-delimiter = --producer p
         kget s --consumer c > /dev/null; kget s -o json > envelopes
         kshard dump s > dump; kshard split s 0; kshard tags s --set a=b 2> /dev/null || true; kshard dump s > split",
    )
    .ok();
    for (n, line) in wd.read("envelopes").lines().enumerate() {
        put("envelope", &n.to_string(), line.as_bytes());
    }
    for (target, name, from) in [
        ("dump", "two-shards", "dump"),
        ("manifest", "split", "s/manifest.json"),
        ("state", "consumer", "s/consumers/c/state.json"),
    ] {
        put(target, name, &fs::read(wd.join(from)).expect("a file"));
    }
    wd.sh("kshard create -q t; kshard dump t > empty; seq 3 | kput -q t; kget t --consumer d -n 1 --bookmark b > /dev/null").ok();
    put("dump", "empty", &fs::read(wd.join("empty")).expect("a file"));
    put("manifest", "new", &fs::read(wd.join("t/manifest.json")).expect("a file"));
    put("state", "reserved", &fs::read(wd.join("t/consumers/d/state.json")).expect("a file"));
}

fn write_log_seeds(wd: &Workdir, put: &dyn Fn(&str, &str, &[u8])) {
    use kpipe::hash::HashRange;
    use kpipe::log::{Batch, Child, EndOfShard, Fresh, LogDir, Roll, Writer, create_log};
    use kpipe::record::{Attribute, Provenance};
    let log = LogDir { system: System::real(), dir: wd.join("log"), id: LOG, shard_created_s: 1 };
    create_log(&log, 1_700_000_000_000_000, &[]).expect("a log");
    let locks = log.system.disk.locks(&wd.join("locks")).expect("locks");
    let roll = Roll { bytes: u64::MAX, age_us: i64::MAX };
    let mut writer = Writer::open(log, locks, roll, HashRange::ALL).expect("a writer");
    let attributes = [Attribute { name: "a".into(), value: b"b".to_vec() }];
    for (codec, joint) in [(Codec::None, None), (Codec::Lz4, Some(b'\n')), (Codec::Zstd, None)] {
        let mut batch = Batch::new(joint);
        batch.push(Fresh { payload: b"plain", ..Fresh::default() });
        batch.push(Fresh {
            payload: &[b'x'; 120],
            key: Some(b"key"),
            explicit_hash: Some(HashKey(3)),
            timestamp_us: Some(-1),
            attributes: &attributes,
        });
        let said = Provenance { producer: "p".into(), epoch: 1, ordinal: 2, position: b"3".to_vec() };
        writer.append(&[batch.draft(codec, (codec == Codec::Lz4).then_some(&said))]).expect("appended");
    }
    writer.roll().expect("rolled");
    let end = EndOfShard {
        children: vec![Child { shard: ShardId(1), range: HashRange::ALL }],
        parents: vec![ShardId(0)],
    };
    writer.end(&end).expect("ended");
    for (name, segment) in [("records", "00000000000000000000"), ("ended", "00000000000000000006")] {
        let bytes = fs::read(wd.join(format!("log/{segment}.seg"))).expect("a segment");
        if name == "records" {
            put("segment", name, &bytes);
        }
        let (mut rest, mut n) = (&bytes[SEGMENT_HEADER_BYTES..], 0);
        while let Some(len) = rest.get(8..12).map(|len| u32::from_le_bytes([len[0], len[1], len[2], len[3]]))
        {
            let (one, behind) = rest.split_at(HEADER_BYTES + len as usize);
            put("frame", &format!("{name}-{n}"), one);
            (rest, n) = (behind, n + 1);
        }
    }
    let header =
        SegmentHeader::identify(&fs::read(wd.join("log/00000000000000000006.seg")).expect("a segment"));
    let empty = SegmentHeader { base: 0, ..header.expect("a header") };
    put("segment", "header", &empty.encode());
}
