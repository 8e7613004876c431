//! What a copy holds while others write, trim and leave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::hash::{HashKey, HashRange};
use crate::log::Fresh;
use crate::record::ShardId;
use crate::stream::producer::{Producer, Sync};
use crate::stream::{
    Checkpoint, Consumer, ConsumerState, Delivery, NewStream, Order, Polled, Reservation, Start,
    StreamReader, Until, WorkerNote,
};
use crate::sys::System;

fn create(dir: &Path, shards: u32) -> Stream {
    let new = NewStream { shards, ..NewStream::default() };
    Stream::create(&System::real(), &dir.join("s"), &new).unwrap()
}

/// Puts the records with these numbers into the shard that owns `hash`, durably.
fn put(producer: &mut Producer, numbers: std::ops::Range<u64>, hash: HashKey) {
    for n in numbers {
        let payload = n.to_string();
        let fresh = Fresh { payload: payload.as_bytes(), explicit_hash: Some(hash), ..Fresh::default() };
        producer.put_from(std::iter::once(Ok((n, fresh))), n + 1).unwrap();
    }
    producer.sync_now().unwrap();
}

/// How often each record is there, by its number.
fn read(stream: &Stream) -> BTreeMap<u64, usize> {
    let mut reader =
        StreamReader::open(stream.clone(), Start::TrimHorizon, Until::Never, Order::Shard, None).unwrap();
    let mut seen = BTreeMap::new();
    loop {
        let polled = reader
            .poll(&mut |delivery: &Delivery<'_>| {
                for record in delivery.frame.records().unwrap().iter() {
                    let n = std::str::from_utf8(record.payload).unwrap().parse().unwrap();
                    *seen.entry(n).or_insert(0) += 1;
                }
            })
            .unwrap();
        match polled {
            Polled::Frame(..) | Polled::ShardEnd(_) => {}
            Polled::Tail | Polled::End => return seen,
            other => panic!("{other:?}"),
        }
    }
}

/// Both ways to copy a stream.
fn copies(stream: &Stream, dir: &Path, way: usize, on: OnProgress<'_>) -> Stream {
    let to: PathBuf = dir.join("copy");
    if way == 0 {
        let mut bytes = Vec::new();
        dump(stream, &mut bytes, on).unwrap();
        load(stream.system(), &mut &bytes[..], &to, false, &mut |_, _| Ok(())).unwrap();
    } else {
        snapshot(stream, &to, true, on).map_err(|_| "a snapshot").unwrap();
    }
    Stream::open(stream.system(), &to).unwrap()
}

/// The shards were cut one after the other. A frame in one that was cut late said that all before it was durable, which
/// the copy of another, cut before that, did not hold: the producer went on behind it, and it was missing for good.
#[test]
fn a_named_producer_goes_on_in_a_copy_without_a_hole() {
    for way in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let stream = create(dir.path(), 2);
        let hashes: Vec<HashKey> = HashRange::split_evenly(2).iter().map(|range| range.start).collect();
        let mut producer = Producer::open(stream.clone(), Sync::End, false).unwrap();
        producer.claim("p").unwrap();
        put(&mut producer, 0..10, hashes[0]);
        put(&mut producer, 10..20, hashes[1]);
        let mut called = false;
        let copy = copies(&stream, dir.path(), way, &mut |_, _| {
            if !std::mem::replace(&mut called, true) {
                // The first shard is being copied.
                put(&mut producer, 20..30, hashes[0]);
                put(&mut producer, 30..40, hashes[1]);
            }
            Ok(())
        });
        assert!(called);
        let mut producer = Producer::open(copy.clone(), Sync::End, false).unwrap();
        let begin = producer.claim("p").unwrap().begin.0;
        for n in begin..40 {
            put(&mut producer, n..n + 1, hashes[(n / 10 % 2) as usize]);
        }
        producer.finish().unwrap();
        assert_eq!(read(&copy), (0..40).map(|n| (n, 1)).collect(), "way {way}");
    }
}

/// A trim that forgot a closed shard ended a dump or a snapshot that had not come to it.
#[test]
fn a_shard_that_expires_meanwhile_is_held_or_left_out() {
    for way in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let mut stream = create(dir.path(), 3);
        let mut producer = Producer::open(stream.clone(), Sync::End, false).unwrap();
        producer.claim("p").unwrap();
        for (shard, range) in HashRange::split_evenly(3).into_iter().enumerate() {
            put(&mut producer, shard as u64 * 10..shard as u64 * 10 + 10, range.start);
        }
        producer.finish().unwrap();
        stream.split(ShardId(1), None).unwrap();
        stream.split(ShardId(2), None).unwrap();
        let mut called = false;
        let mut other = stream.clone();
        let copy = copies(&stream, dir.path(), way, &mut |_, _| {
            if !std::mem::replace(&mut called, true) {
                let cap = |manifest: &mut Manifest| {
                    manifest.retain_bytes = Some(1);
                    Ok(())
                };
                other.update(cap).unwrap();
                assert_eq!(other.trim().unwrap().shards, [ShardId(1), ShardId(2)]);
            }
            Ok(())
        });
        // In tests there is room for one file of a closed shard.
        let shards: Vec<u32> = copy.manifest().shards.iter().map(|info| info.shard).collect();
        assert_eq!(shards, [0, 1, 3, 4, 5, 6], "way {way}");
        assert_eq!(read(&copy), (0..20).map(|n| (n, 1)).collect(), "way {way}");
    }
    let dir = tempfile::tempdir().unwrap();
    let stream = create(dir.path(), 1);
    let building = Building::begin(stream.system(), &dir.path().join("copy")).unwrap();
    let mut copy = building.stream(stream.manifest().clone(), true).unwrap();
    let open = copy.manifest().shards[0].clone();
    assert!(leave_out(&mut copy, &open).is_err(), "hash keys would be nobody's");
}

/// A copy carried who was reading the source, as if he read the copy too, and what was handed out there for bookmarks:
/// its consumer waited for a commit that could never come.
#[test]
fn nobody_reads_a_copy_yet() {
    for way in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let stream = create(dir.path(), 1);
        let consumer = Consumer::open_or_create(&stream, "c", Start::TrimHorizon, None).unwrap();
        let token = Uuid::new_v4();
        let reading = |state: &mut ConsumerState| {
            let since_us = state.created_us;
            state.workers.insert("w".to_owned(), WorkerNote { pid: 1, since_us, stays: true });
            let shard = state.shards.get_mut(&0).unwrap();
            shard.owner = Some("w".to_owned());
            shard.counter = 7;
            let until_us = i64::MAX;
            let to = Checkpoint::ShardEnd;
            shard.reserved = Some(Reservation { token, until_us, to, records: 1, bytes: 1 });
            Ok(())
        };
        consumer.update(reading).unwrap();
        let copy = copies(&stream, dir.path(), way, &mut |_, _| Ok(()));
        let state = Consumer::open(&copy, "c").unwrap().state().unwrap();
        assert!(state.workers.is_empty());
        let shard = &state.shards[&0];
        assert_eq!((&shard.owner, &shard.reserved, shard.counter), (&None, &None, 7));
        // A backup can be put in the source's place, and then the bookmark is good.
        let backup = dir.path().join("backup");
        snapshot(&stream, &backup, false, &mut |_, _| Ok(())).map_err(|_| "a snapshot").unwrap();
        let backup = Stream::open(stream.system(), &backup).unwrap();
        let state = Consumer::open(&backup, "c").unwrap().state().unwrap();
        assert_eq!(state.shards[&0].owner, None);
        assert_eq!(state.shards[&0].reserved.as_ref().map(|reserved| reserved.token), Some(token));
    }
}
