use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::Parcel;
use super::*;
use crate::hash::HashKey;
use crate::hose::chunk::Origin;
use crate::record::{Attribute, ShardId};
use crate::stream::{NewStream, Order, Polled, Start, StreamReader, Until};
use crate::sys::System;

fn create(dir: &tempfile::TempDir, name: &str, shards: u32) -> Stream {
    let new = NewStream { shards, ..NewStream::default() };
    Stream::create(&System::real(), &dir.path().join(name), &new).unwrap()
}

fn options() -> StreamOptions {
    let ms = Duration::from_millis;
    let retry = RetryPolicy { duration: ms(0), first_pause: ms(1), longest_pause: ms(1) };
    StreamOptions { delivery: "d".to_owned(), retry, cancel: Cancel::new() }
}

fn deliver(to: &mut ToStream, batch: &Batch) -> Result<Vec<Refused>, DeliveryError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(to.deliver(batch))
}

/// All records of a stream, parents before children: key and data.
fn read(stream: &Stream) -> Vec<(Option<String>, Vec<u8>)> {
    let mut stream = stream.clone();
    stream.reload().unwrap();
    let mut reader =
        StreamReader::open(stream, Start::TrimHorizon, Until::Never, Order::Shard, None).unwrap();
    let mut all = Vec::new();
    loop {
        let polled = reader.poll(&mut |delivery| {
            let view = delivery.frame.records().unwrap();
            let records = view.iter().skip(delivery.skip).take(delivery.take - delivery.skip);
            all.extend(records.map(|it| (it.key.map(str::to_owned), it.payload.to_vec())));
            delivery.take - delivery.skip
        });
        if matches!(polled.unwrap(), Polled::Tail | Polled::End) {
            return all;
        }
    }
}

/// Some tens of frames of these come to a megabyte, so that a killed run has written a part.
const FILLER: usize = 3000;

/// Record `index` of a batch: its shard, its key, its data.
fn record(number: u64, index: u64) -> (ShardId, String, Vec<u8>) {
    let mut data = format!("{number} {index} ").into_bytes();
    data.resize(FILLER, b'.');
    // A key has all its records in one shard of the source.
    (ShardId((index % 3) as u32), format!("key-{}", index % 21), data)
}

/// A batch of `rows` records, in chunks of `per_chunk`, from several shards in turns.
fn batch(number: u64, rows: u64, per_chunk: u64, parcels: usize) -> Batch {
    let mut all: Vec<Vec<Chunk>> = (0..parcels).map(|_| Vec::new()).collect();
    for i in 0..rows {
        let chunks = &mut all[i as usize % parcels];
        if chunks.last().is_none_or(|chunk| chunk.len() as u64 >= per_chunk) {
            chunks.push(Chunk::default());
        }
        let (shard, _, data) = record(number, i);
        let index = number * 1_000_000 + i;
        let origin = Origin { shard, shard_created_s: 1, index, sub: None, arrival_us: 7 };
        chunks.last_mut().unwrap().push(origin, &data);
    }
    let parcel = |chunks: Vec<Chunk>| Parcel {
        name: "p".to_owned(),
        body: Vec::new().into(),
        records: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        chunks,
        oldest_us: 7,
    };
    Batch { number, id: Uuid::from_u128(number.into()), parcels: all.into_iter().map(parcel).collect() }
}

/// Knows the keys, until the run is to be killed.
struct Keys {
    left: usize,
}

impl Details for Keys {
    fn of(&mut self, run: &Run, out: &mut Vec<Detail>) -> Result<(), DetailError> {
        for at in 0..u64::from(run.rows) {
            if self.left == 0 {
                return Err(DetailError::Gone { shard: run.first.shard, index: 0 });
            }
            self.left -= 1;
            let index = (run.first.index + at) % 1_000_000;
            out.push(Detail { key: Some(record(0, index).1.into()), ..Detail::default() });
        }
        Ok(())
    }
}

fn run(target: &Stream, kill_after: usize) -> ToStream {
    ToStream::new(target.clone(), None, options(), Box::new(Keys { left: kill_after })).unwrap()
}

/// One run of a delivery.
#[derive(Debug, Clone)]
struct Attempt {
    kill_after: usize,
    per_chunk: u64,
    parcels: usize,
    reshard: u8,
}

fn runs() -> impl Strategy<Value = Vec<Attempt>> {
    let run =
        (0usize..1500, 1u64..400, 1usize..4, 0u8..6).prop_map(|(kill_after, per_chunk, parcels, reshard)| {
            Attempt { kill_after, per_chunk, parcels, reshard }
        });
    prop::collection::vec(run, 1..6)
}

fn reshard(target: &mut Stream, choice: u8) {
    target.reload().unwrap();
    let open: Vec<(ShardId, crate::hash::HashRange)> =
        target.manifest().open_shards().iter().map(|info| (info.id(), info.range())).collect();
    match choice {
        0 => target.split(open[0].0, None).map(|_| ()).unwrap(),
        1 if open.len() > 1 => {
            let next = open.iter().find(|(_, range)| Some(range.start.0) == open[0].1.end.0.checked_add(1));
            if let Some((next, _)) = next {
                target.merge(open[0].0, *next).map(|_| ()).unwrap();
            }
        }
        _ => {}
    }
}

/// How many cases; `KPIPE_CASES` raises it for a soak.
fn cases(usual: u32) -> u32 {
    std::env::var("KPIPE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(10), failure_persistence: None, ..ProptestConfig::default() })]

    /// Runs are killed anywhere, each cuts its batch otherwise, and the target is split and merged in between.
    #[test]
    fn every_record_is_stored_once_and_in_order(shards in 1u32..4, rows in 1u64..500, runs in runs()) {
        let dir = tempfile::tempdir().unwrap();
        let mut target = create(&dir, "t", shards);
        let mut next = 1;
        for Attempt { kill_after, per_chunk, parcels, reshard: choice } in runs {
            let mut to = run(&target, kill_after);
            // A run goes on with batch after batch until it is killed.
            while deliver(&mut to, &batch(next, rows, per_chunk, parcels)).is_ok() {
                next += 1;
            }
            drop(to);
            reshard(&mut target, choice);
        }
        let mut to = run(&target, usize::MAX);
        deliver(&mut to, &batch(next, rows, 100, 2)).unwrap();
        deliver(&mut to, &batch(next, rows, 7, 1)).unwrap();
        drop(to);
        deliver(&mut run(&target, usize::MAX), &batch(next, rows, 50, 3)).unwrap();
        let mut by_key: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        let mut all = Vec::new();
        for (key, data) in read(&target) {
            let text = String::from_utf8(data).unwrap();
            let mut words = text.split(' ').map(str::parse::<u64>);
            let place = (words.next().unwrap().unwrap(), words.next().unwrap().unwrap());
            by_key.entry(key.unwrap()).or_default().push(place);
            all.push(place);
        }
        for (key, places) in by_key {
            prop_assert!(places.is_sorted(), "{}: {:?}", key, places);
        }
        all.sort_unstable();
        let expected: Vec<(u64, u64)> = (1..=next).flat_map(|n| (0..rows).map(move |i| (n, i))).collect();
        prop_assert_eq!(all, expected);
    }
}

#[test]
fn a_killed_run_leaves_a_part_and_the_next_one_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let target = create(&dir, "t", 2);
    assert!(deliver(&mut run(&target, 500), &batch(1, 900, 50, 1)).is_err());
    let part = read(&target).len();
    assert!(part > 0 && part < 500, "{part}");
    let mut to = run(&target, usize::MAX);
    deliver(&mut to, &batch(1, 900, 50, 1)).unwrap();
    assert_eq!(read(&target).len(), 900);
    assert_eq!(to.work.as_ref().unwrap().producer.written().skipped, part as u64);
    assert_eq!(to.metrics().unwrap().records.load(std::sync::atomic::Ordering::SeqCst), 900);
}

#[test]
fn other_records_in_a_batch_that_is_done_again_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let target = create(&dir, "t", 2);
    assert!(deliver(&mut run(&target, 500), &batch(1, 900, 50, 1)).is_err());
    let part = read(&target).len();
    let other = batch(1, 800, 50, 1);
    assert!(deliver(&mut run(&target, 400), &other).is_err());
    for _ in 0..2 {
        deliver(&mut run(&target, usize::MAX), &other).unwrap();
    }
    assert_eq!(read(&target).len(), part + 800);
    deliver(&mut run(&target, usize::MAX), &batch(2, 10, 5, 1)).unwrap();
    assert_eq!(read(&target).len(), part + 810);
}

#[test]
fn another_delivery_of_the_same_name_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let target = create(&dir, "t", 1);
    let mut to = run(&target, usize::MAX);
    for number in [3, 4] {
        deliver(&mut to, &batch(number, 5, 5, 1)).unwrap();
    }
    drop(to);
    let mut to = run(&target, usize::MAX);
    let other = Batch { id: Uuid::from_u128(99), ..batch(4, 5, 5, 1) };
    for (wrong, why) in [(other, "was another one"), (batch(2, 5, 5, 1), "has come to batch 4")] {
        let error = deliver(&mut to, &wrong).unwrap_err();
        assert!(matches!(&error, DeliveryError::Permanent(m) if m.contains(why)), "{error}");
    }
    // An empty batch leaves no trace.
    deliver(&mut to, &batch(5, 0, 1, 1)).unwrap();
    deliver(&mut to, &batch(6, 1, 1, 1)).unwrap();
    assert_eq!(read(&target).len(), 11);
    let error = deliver(&mut run_as(&target, "hose-d"), &batch(1, 1, 1, 1));
    assert!(error.is_ok());
    let mut producer = Producer::open(target.clone(), GROUP_DEFAULT, false).unwrap();
    producer.claim("hose-kput").unwrap();
    let lines = Records { positions: vec![4], ..Records::default() };
    producer.begin_marked(&lines, b"100 abc");
    let one =
        Records { payloads: vec![Span::new(0, 1)], ends: vec![1], positions: vec![4], ..Records::default() };
    producer.put_part(b"x", &one, 0..1).unwrap();
    producer.end_marked();
    producer.finish().unwrap();
    let error = deliver(&mut run_as(&target, "kput"), &batch(1, 1, 1, 1)).unwrap_err();
    assert!(error.to_string().contains("is not a delivery's"), "{error}");
}

fn run_as(target: &Stream, delivery: &str) -> ToStream {
    let options = StreamOptions { delivery: delivery.to_owned(), ..options() };
    ToStream::new(target.clone(), None, options, Box::new(Keys { left: usize::MAX })).unwrap()
}

#[test]
fn a_run_that_was_overtaken_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let target = create(&dir, "t", 1);
    let mut old = run(&target, usize::MAX);
    deliver(&mut old, &batch(1, 5, 5, 1)).unwrap();
    let mut new = run(&target, usize::MAX);
    deliver(&mut new, &batch(2, 5, 5, 1)).unwrap();
    let error = deliver(&mut old, &batch(2, 5, 5, 1)).unwrap_err();
    assert!(matches!(&error, DeliveryError::Permanent(m) if m.contains("fenced")), "{error}");
    assert_eq!(read(&target).len(), 10);
}

#[test]
fn records_keep_what_they_have_beside_their_data() {
    let dir = tempfile::tempdir().unwrap();
    let source = create(&dir, "s", 2);
    let attribute = |value: &str| vec![Attribute { name: "a".to_owned(), value: value.as_bytes().to_vec() }];
    let aggregate = crate::codec::kpl::aggregate([
        crate::codec::kpl::UserRecord { key: "inner-1", explicit_hash: None, data: b"one" },
        crate::codec::kpl::UserRecord { key: "inner-2", explicit_hash: Some(HashKey(9)), data: b"two" },
    ]);
    let mut producer = Producer::open(source.clone(), GROUP_DEFAULT, false).unwrap();
    let mut put = |payload: &[u8], key: Option<&str>, hash, time, attributes: Vec<Attribute>| {
        let mut records = Records::default();
        records.push_whole(payload.len(), key);
        records.hashes.push(hash);
        records.timestamps.push(time);
        records.attributes.push(attributes);
        producer.put(payload, &records).unwrap();
    };
    for i in 0..300_i64 {
        let payload = format!("{i}");
        put(
            payload.as_bytes(),
            Some(&format!("k{}", i % 7)),
            None,
            (i % 2 == 0).then_some(i),
            attribute(&payload),
        );
    }
    put(b"hashed", Some("x"), Some(HashKey(u128::MAX)), None, Vec::new());
    put(b"plain", None, None, None, Vec::new());
    put(&aggregate, Some("outer"), None, None, Vec::new());
    producer.finish().unwrap();
    drop(producer);
    // What a delivery gathers: every shard's records, some of them left out.
    let mut chunk = Chunk::default();
    let mut wanted = Vec::new();
    let mut reader =
        StreamReader::open(source.clone(), Start::TrimHorizon, Until::Never, Order::Shard, None).unwrap();
    loop {
        let polled = reader.poll(&mut |delivery| {
            let view = delivery.frame.records().unwrap();
            for (i, it) in view.iter().enumerate() {
                let origin = Origin {
                    shard: delivery.shard,
                    shard_created_s: 1,
                    index: delivery.frame.header.first + i as u64,
                    sub: None,
                    arrival_us: delivery.frame.header.arrival_us,
                };
                if let Some(parts) = crate::codec::kpl::deaggregate(it.payload) {
                    for (part, sub) in parts.iter().zip(0..) {
                        chunk.push(Origin { sub: Some(sub), ..origin }, part.data);
                        wanted.push((
                            Some(part.key.to_owned()),
                            part.explicit_hash,
                            None,
                            Vec::new(),
                            part.data.to_vec(),
                        ));
                    }
                } else if i % 10 != 3 {
                    chunk.push(origin, it.payload);
                    wanted.push((
                        it.key.map(str::to_owned),
                        it.explicit_hash,
                        it.timestamp_us,
                        it.attributes.to_vec(),
                        it.payload.to_vec(),
                    ));
                }
            }
            delivery.take - delivery.skip
        });
        if matches!(polled.unwrap(), Polled::Tail | Polled::End) {
            break;
        }
    }
    let target = create(&dir, "t", 1);
    let details = Box::new(SourceDetails::new(source.clone()));
    let mut to = ToStream::new(target.clone(), Some(&source), options(), details).unwrap();
    let records = chunk.len() as u64;
    let parcel =
        Parcel { name: "p".to_owned(), body: Vec::new().into(), chunks: vec![chunk], records, oldest_us: 1 };
    let batch = Batch { number: 1, id: Uuid::from_u128(1), parcels: vec![parcel] };
    deliver(&mut to, &batch).unwrap();
    let mut got = Vec::new();
    let mut reader =
        StreamReader::open(target.clone(), Start::TrimHorizon, Until::Never, Order::Shard, None).unwrap();
    while let Polled::Frame(..) = reader
        .poll(&mut |delivery| {
            let view = delivery.frame.records().unwrap();
            got.extend(view.iter().map(|it| {
                (
                    it.key.map(str::to_owned),
                    it.explicit_hash,
                    it.timestamp_us,
                    it.attributes.to_vec(),
                    it.payload.to_vec(),
                )
            }));
            delivery.take - delivery.skip
        })
        .unwrap()
    {}
    assert!(wanted.len() > 250);
    assert_eq!(got, wanted);
    // Into itself it would never end.
    assert!(ToStream::new(source.clone(), Some(&source), options(), Box::new(NoDetails)).is_err());
}

#[test]
fn what_is_too_large_is_refused_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let new = NewStream { record_bytes_max: 2048, ..NewStream::default() };
    let target = Stream::create(&System::real(), &dir.path().join("t"), &new).unwrap();
    let mut chunk = Chunk::default();
    for (index, len) in [(0, 10), (1, 2049), (2, 2048), (3, 2045), (4, 1)] {
        let origin = Origin { shard: ShardId(0), shard_created_s: 1, index, sub: None, arrival_us: 1 };
        chunk.push(origin, &vec![b'x'; len]);
    }
    let parcel = Parcel {
        name: "p".to_owned(),
        body: Vec::new().into(),
        chunks: vec![chunk],
        records: 5,
        oldest_us: 1,
    };
    let batch = Batch { number: 1, id: Uuid::from_u128(1), parcels: vec![parcel] };
    for _ in 0..2 {
        let mut to = run(&target, usize::MAX);
        for _ in 0..2 {
            let refused = deliver(&mut to, &batch).unwrap();
            // The key has five bytes.
            assert_eq!(refused.iter().map(|it| it.place.2).collect::<Vec<_>>(), [1, 2, 3]);
            assert_eq!(refused[0].failure.code, "Stream.RecordTooLarge");
        }
    }
    assert_eq!(read(&target).len(), 2);
}

#[test]
fn marks_survive() {
    let mark = Mark { number: 7, id: Uuid::from_u128(5), hash: 0xabc, base: 99 };
    assert_eq!(Mark::parse(mark.line().as_bytes()), Some(mark));
    for wrong in ["", "1", "x y z 1", "7 00000000000000000000000000000005 abc 99 1"] {
        assert_eq!(Mark::parse(wrong.as_bytes()), None);
    }
}

#[test]
fn the_hash_is_of_the_places_however_they_are_cut() {
    let hash = |batch: &Batch| hash_of(&stretches(batch));
    let one = hash(&batch(1, 100, 100, 1));
    assert_eq!(one, hash(&batch(1, 100, 7, 1)));
    assert_eq!(one, hash(&batch(1, 100, 9, 3)));
    assert_ne!(one, hash(&batch(1, 99, 100, 1)));
    assert_ne!(one, hash(&batch(2, 100, 100, 1)));
}
