//! Streams on a real disk, under a clock that the test sets.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::hash::HashKey;
use crate::log::{Batch, Codec, Fresh, Writer};
use crate::record::Provenance;
use crate::sys::Clock;
use crate::sys::fs::RealDisk;

const HOUR_US: i64 = 3600 * 1_000_000;

struct Hands(AtomicI64);

impl Clock for Hands {
    fn now_us(&self) -> i64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn boot_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn boot_id(&self) -> u64 {
        7
    }
}

struct Bench {
    dir: tempfile::TempDir,
    system: System,
    hands: Arc<Hands>,
}

impl Bench {
    fn new() -> Self {
        let hands = Arc::new(Hands(AtomicI64::new(1_800_000_000_000_000)));
        let clock: Arc<dyn Clock> = Arc::<Hands>::clone(&hands);
        let system = System { disk: Arc::new(RealDisk), clock };
        Self { dir: tempfile::tempdir().unwrap(), system, hands }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn create(&self, new: &NewStream) -> Stream {
        Stream::create(&self.system, &self.path(), new).unwrap()
    }

    fn open(&self) -> Stream {
        Stream::open(&self.system, &self.path()).unwrap()
    }

    fn pass(&self, us: i64) {
        self.hands.0.fetch_add(us, Ordering::Relaxed);
    }
}

fn shards(count: u32) -> NewStream {
    NewStream { shards: count, ..NewStream::default() }
}

fn writer(stream: &Stream, shard: u32) -> Writer {
    let info = stream.manifest().shard(ShardId(shard)).unwrap();
    Writer::open(stream.log_dir(info), stream.locks().unwrap(), stream.roll(), info.range()).unwrap()
}

fn append(writer: &mut Writer, payloads: &[&str], provenance: Option<&Provenance>) {
    let mut batch = Batch::new(None);
    for payload in payloads {
        batch.push(Fresh {
            payload: payload.as_bytes(),
            key: Some(payload.as_bytes()),
            explicit_hash: None,
            ..Fresh::default()
        });
    }
    writer.append(&[batch.draft(Codec::None, provenance)]).unwrap();
    let ticket = writer.full_ticket();
    ticket.wait().unwrap();
    writer.synced(&ticket);
}

/// Writes and leaves in order.
fn put(stream: &Stream, shard: u32, payloads: &[&str]) {
    let mut writer = writer(stream, shard);
    append(&mut writer, payloads, None);
    writer.pause().unwrap();
}

/// All that a reader from the horizon sees, shard by shard.
fn read(stream: &Stream) -> Vec<(u32, String)> {
    let start = Start::TrimHorizon;
    drain(&mut StreamReader::open(stream.clone(), start, Until::Never, Order::Shard, None).unwrap()).0
}

/// All that a reader has now, and whether there is nothing more to come.
fn drain(reader: &mut StreamReader) -> (Vec<(u32, String)>, bool) {
    let mut seen = Vec::new();
    loop {
        let polled = reader
            .poll(&mut |delivery: &Delivery<'_>| {
                let batch = delivery.frame.records().unwrap();
                let records = batch.iter().skip(delivery.skip).take(delivery.take - delivery.skip);
                records.map(|record| String::from_utf8(record.payload.to_vec()).unwrap()).collect::<Vec<_>>()
            })
            .unwrap();
        match polled {
            Polled::Frame(shard, payloads) => seen.extend(payloads.into_iter().map(|p| (shard.0, p))),
            Polled::ShardEnd(_) => {}
            Polled::Tail => return (seen, false),
            Polled::End => return (seen, true),
            other => panic!("{other:?}"),
        }
    }
}

fn open_ranges(stream: &Stream) -> Vec<(u32, HashRange)> {
    stream.manifest().open_shards().iter().map(|shard| (shard.shard, shard.range())).collect()
}

#[test]
fn a_split_keeps_what_was_there_and_reads_parents_first() {
    let bench = Bench::new();
    let mut stream = bench.create(&shards(1));
    put(&stream, 0, &["a", "b"]);
    let children = stream.split(ShardId(0), None).unwrap();
    assert_eq!(children, [ShardId(1), ShardId(2)]);
    let halves = HashRange::split_evenly(2);
    assert_eq!(open_ranges(&stream), [(1, halves[0]), (2, halves[1])]);
    put(&stream, 2, &["c"]);
    put(&stream, 1, &["d"]);
    let seen = read(&bench.open());
    let text: Vec<&str> = seen.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(text, ["a", "b", "d", "c"]);
    let closed = stream.manifest().shard(ShardId(0)).unwrap().closed.clone().unwrap();
    assert_eq!((closed.next_index, &closed.children[..]), (2, &[1, 2][..]));
    let child = stream.manifest().shard(ShardId(1)).unwrap();
    assert_eq!(child.parents, [0]);
    assert_eq!(child.created_us, closed.at_us, "at no time do both own a hash key, or neither");
}

#[test]
fn splits_and_merges_that_cannot_be_are_refused() {
    let bench = Bench::new();
    let mut stream = bench.create(&shards(3));
    assert!(matches!(stream.split(ShardId(9), None), Err(Error::NoShard(ShardId(9)))));
    let start = stream.manifest().shard(ShardId(1)).unwrap().range().start;
    assert!(matches!(stream.split(ShardId(1), Some(start)), Err(Error::Invalid(_))));
    assert!(matches!(stream.split(ShardId(1), Some(HashKey(u128::MAX))), Err(Error::Invalid(_))));
    assert!(matches!(stream.merge(ShardId(0), ShardId(2)), Err(Error::Invalid(_))));
    assert!(matches!(stream.merge(ShardId(0), ShardId(0)), Err(Error::Invalid(_))));
    let child = stream.merge(ShardId(1), ShardId(0)).unwrap();
    assert!(matches!(stream.split(ShardId(0), None), Err(Error::ShardClosed(ShardId(0)))));
    // As in the service: the one named first is the parent, the other the adjacent parent.
    assert_eq!(stream.manifest().shard(child).unwrap().parents, [1, 0]);
    assert_eq!(stream.manifest().generation, 3, "what was refused changed nothing");
}

#[test]
fn a_shard_of_one_hash_key_cannot_be_split() {
    let bench = Bench::new();
    let mut stream = bench.create(&shards(1));
    let children = stream.split(ShardId(0), Some(HashKey(1))).unwrap();
    assert!(matches!(stream.split(children[0], None), Err(Error::Invalid(_))));
    assert_eq!(stream.split(children[1], Some(HashKey(2))).unwrap().len(), 2);
}

#[test]
fn scales_up_and_down_to_equal_shards() {
    let bench = Bench::new();
    let mut stream = bench.create(&shards(2));
    for count in [3, 8, 5, 1, 2, 2] {
        stream.scale(count).unwrap();
        let ranges: Vec<HashRange> = open_ranges(&stream).into_iter().map(|(_, range)| range).collect();
        assert_eq!(ranges, HashRange::split_evenly(count), "{count}");
    }
    assert_eq!(stream.scale(2).unwrap(), 0, "done already");
    assert!(matches!(stream.scale(0), Err(Error::Invalid(_))));
    assert_eq!(bench.open().manifest(), stream.manifest());
}

/// How many generations lie before a shard.
fn generations(stream: &Stream, shard: &ShardInfo) -> usize {
    let parents = shard.parents.iter().filter_map(|&parent| stream.manifest().shard(ShardId(parent)));
    parents.map(|parent| 1 + generations(stream, parent)).max().unwrap_or(0)
}

/// One shard was cut into many from its left end to its right, each time off the rest: a reader had to go through a
/// generation for each of them.
#[test]
fn one_shard_becomes_many_and_one_again_in_few_generations() {
    let bench = Bench::new();
    let mut stream = bench.create(&shards(1));
    put(&stream, 0, &["a"]);
    let deepest = |stream: &Stream| {
        stream.manifest().open_shards().iter().map(|shard| generations(stream, shard)).max().unwrap()
    };
    assert_eq!(stream.scale(16).unwrap(), 15);
    assert_eq!(deepest(&stream), 4);
    put(&stream, stream.manifest().open_shards()[3].shard, &["b"]);
    assert_eq!(stream.scale(1).unwrap(), 15);
    assert_eq!(deepest(&stream), 8);
    let last = stream.manifest().open_shards()[0].shard;
    put(&stream, last, &["c"]);
    let texts: Vec<String> = read(&stream).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["a", "b", "c"]);
}

#[test]
fn a_writer_meets_the_end_of_its_shard() {
    let bench = Bench::new();
    let mut stream = bench.create(&shards(1));
    let mut old = writer(&stream, 0);
    append(&mut old, &["a"], None);
    stream.split(ShardId(0), None).unwrap();
    let mut batch = Batch::new(None);
    batch.push(Fresh { payload: b"late", ..Fresh::default() });
    let refused = old.append(&[batch.draft(Codec::None, None)]);
    assert!(matches!(refused, Err(log::Error::Closed(end)) if end.children.len() == 2));
    assert_eq!(read(&stream), [(0, "a".to_owned())]);
}

/// Wherever a split is killed, the next change finishes it, and the same children come of it.
#[test]
fn what_was_left_half_done_is_finished() {
    for step in 0..4 {
        let bench = Bench::new();
        let stream = bench.create(&shards(1));
        put(&stream, 0, &["a"]);
        let halves = HashRange::split_evenly(2);
        let child = |shard: u32, range: HashRange| NewShard {
            shard,
            starting_hash_key: range.start.0,
            ending_hash_key: range.end.0,
        };
        let pending = Reshard { parents: vec![0], children: vec![child(1, halves[0]), child(2, halves[1])] };
        let mut manifest = stream.manifest().clone();
        manifest.pending = Some(pending);
        manifest.generation += 1;
        bench.system.disk.replace(&Manifest::path(&bench.path()), &manifest.encode().unwrap()).unwrap();
        let children = [1u32, 2].map(|shard| ShardInfo {
            shard,
            starting_hash_key: halves[shard as usize - 1].start.0,
            ending_hash_key: halves[shard as usize - 1].end.0,
            created_us: bench.system.clock.now_us(),
            parents: vec![0],
            closed: None,
        });
        if step > 0 {
            let end = crate::log::EndOfShard {
                children: children
                    .iter()
                    .map(|c| crate::log::Child { shard: c.id(), range: c.range() })
                    .collect(),
                parents: vec![ShardId(0)],
            };
            writer(&stream, 0).end(&end).unwrap();
        }
        for made in children.iter().take(step.max(1) - 1) {
            log::create_log(&stream.log_dir(made), made.created_us, &[]).unwrap();
        }
        // Time has passed since: a child that exists keeps its own time of creation.
        bench.pass(5 * 1_000_000);
        let mut stream = bench.open();
        assert_eq!(stream.manifest().open_shards().len(), 1, "looking changes nothing");
        stream.settle().unwrap();
        assert_eq!(stream.manifest().pending, None, "step {step}");
        assert_eq!(open_ranges(&stream), [(1, halves[0]), (2, halves[1])], "step {step}");
        if step > 1 {
            let kept = stream.manifest().shard(ShardId(1)).unwrap();
            assert_eq!(kept.created_us, children[0].created_us);
            let parent = stream.manifest().shard(ShardId(0)).unwrap();
            assert_eq!(parent.closed.as_ref().unwrap().at_us, kept.created_us);
        }
        put(&stream, 2, &["c"]);
        let seen: Vec<String> = read(&bench.open()).into_iter().map(|(_, text)| text).collect();
        assert_eq!(seen, ["a", "c"], "step {step}");
        let manifest = stream.manifest().clone();
        stream.settle().unwrap();
        assert_eq!(*stream.manifest(), manifest, "nothing is left to do");
    }
}

#[test]
fn producers_are_carried_through_a_split_and_a_merge() {
    let bench = Bench::new();
    let mut stream = bench.create(&shards(2));
    let said = |ordinal: u64| Provenance { producer: "p".into(), epoch: 1, ordinal, position: vec![1, 2] };
    for (shard, ordinal) in [(0, 10), (1, 20)] {
        let mut writer = writer(&stream, shard);
        append(&mut writer, &["x"], Some(&said(ordinal)));
        writer.pause().unwrap();
    }
    let ranges = HashRange::split_evenly(2);
    let child = stream.merge(ShardId(0), ShardId(1)).unwrap();
    let mut states = writer(&stream, child.0).producers().unwrap();
    states.sort_by_key(|state| state.range);
    let places: Vec<_> = states.iter().map(|state| (state.range, state.last.ordinal)).collect();
    assert_eq!(places, [(ranges[0], 10), (ranges[1], 20)]);

    let cut = HashKey(ranges[1].start.0 + 5);
    let parts = stream.split(child, Some(cut)).unwrap();
    let lower = writer(&stream, parts[0].0).producers().unwrap();
    assert_eq!(lower.len(), 2, "the lower child reaches into both");
    let upper = writer(&stream, parts[1].0).producers().unwrap();
    assert_eq!(upper.len(), 1);
    assert_eq!((upper[0].range.start, upper[0].range.end, upper[0].last.ordinal), (cut, ranges[1].end, 20));
    // The later run fences the earlier one in the children too.
    let mut later = writer(&stream, parts[1].0);
    assert_eq!(later.claim("p", 1).unwrap(), log::Claim::Later(1));
    assert!(matches!(later.claim("p", 2).unwrap(), log::Claim::Taken(_)));
    let mut batch = Batch::new(None);
    batch.push(Fresh { payload: b"x", ..Fresh::default() });
    let fenced = later.append(&[batch.draft(Codec::None, Some(&said(30)))]);
    assert!(matches!(fenced, Err(log::Error::Fenced { later: 2, .. })));
}

#[test]
fn trim_rolls_and_removes_what_has_expired_and_nothing_else() {
    let bench = Bench::new();
    let new = NewStream { retention_us: Some(2 * HOUR_US), ..shards(2) };
    let mut stream = bench.create(&new);
    put(&stream, 0, &["old"]);
    bench.pass(HOUR_US);
    put(&stream, 1, &["young"]);
    assert_eq!(stream.trim().unwrap(), Freed::default());
    bench.pass(HOUR_US + 10_000);
    let freed = stream.trim().unwrap();
    assert_eq!((freed.segments, &freed.rolled[..]), (1, &[ShardId(0)][..]));
    assert!(freed.bytes > 0);
    assert_eq!(read(&stream), [(1, "young".to_owned())]);
    assert_eq!(stream.trim().unwrap(), Freed::default(), "an empty segment is not rolled again");
    put(&stream, 0, &["new"]);
    assert_eq!(read(&stream), [(0, "new".to_owned()), (1, "young".to_owned())]);
}

#[test]
fn trim_removes_closed_shards_that_have_expired() {
    let bench = Bench::new();
    let mut stream = bench.create(&NewStream { retention_us: Some(2 * HOUR_US), ..shards(1) });
    put(&stream, 0, &["old"]);
    stream.split(ShardId(0), None).unwrap();
    bench.pass(HOUR_US);
    assert_eq!(stream.trim().unwrap(), Freed::default());
    put(&stream, 1, &["young"]);
    bench.pass(HOUR_US);
    put(&stream, 1, &["new"]);
    let freed = stream.trim().unwrap();
    assert_eq!((&freed.shards[..], freed.segments), (&[ShardId(0)][..], 1));
    assert!(!bench.path().join("shardId-000000000000").exists());
    assert_eq!(stream.manifest().shards.len(), 2);
    assert!(read(&bench.open()).contains(&(1, "new".to_owned())));
    // Killed between manifest and disk: the next trim sees the directory that nobody owns.
    std::fs::create_dir(bench.path().join("shardId-000000000000")).unwrap();
    assert_eq!(stream.forgotten_shards().unwrap(), [ShardId(0)]);
    assert_eq!(stream.trim().unwrap().shards, [ShardId(0)]);
    // What a split that is under way has made is not taken for expired.
    std::fs::create_dir(bench.path().join("shardId-000000000003")).unwrap();
    assert_eq!(stream.trim().unwrap().shards, []);
}

#[test]
fn a_shard_that_cannot_be_trimmed_keeps_no_other_from_it() {
    let bench = Bench::new();
    let mut stream = bench.create(&NewStream { retention_us: Some(HOUR_US), ..shards(2) });
    put(&stream, 0, &["old"]);
    put(&stream, 1, &["old"]);
    bench.pass(2 * HOUR_US);
    let header = bench.path().join("shardId-000000000000/00000000000000000000.seg");
    let whole = std::fs::read(&header).unwrap();
    std::fs::write(&header, &whole[1..]).unwrap();
    let failed = stream.trim();
    assert!(matches!(failed, Err(Error::Shard { shard: ShardId(0), .. })), "{failed:?}");
    std::fs::write(&header, &whole).unwrap();
    assert_eq!(stream.trim().unwrap().rolled, [ShardId(0)], "the other one was trimmed before");
}

#[test]
fn a_cap_in_bytes_takes_the_oldest_of_all_shards() {
    let bench = Bench::new();
    let new = NewStream { retention_us: None, segment_bytes: 1, ..shards(2) };
    let mut stream = bench.create(&new);
    // Every record has a segment of its own.
    for (shard, text) in [(0, "a"), (1, "b"), (1, "c"), (0, "d"), (1, "e")] {
        let mut writer = writer(&stream, shard);
        append(&mut writer, &[text], None);
        writer.pause().unwrap();
        bench.pass(1_000_000);
    }
    let bytes: u64 = stream
        .manifest()
        .shards
        .iter()
        .flat_map(|shard| log::segments(&stream.log_dir(shard)).unwrap())
        .map(|segment| segment.bytes)
        .sum();
    assert_eq!(stream.expire(None).unwrap(), Freed::default(), "without a cap nothing goes");
    let cap = bytes - 1;
    stream
        .update(|manifest| {
            manifest.retain_bytes = Some(cap);
            Ok(())
        })
        .unwrap();
    assert_eq!(stream.expire(None).unwrap().segments, 1);
    let seen = |stream: &Stream| {
        let mut texts: Vec<String> = read(stream).into_iter().map(|(_, text)| text).collect();
        texts.sort_unstable();
        texts
    };
    // The age of a segment is when it was followed: `b` was, by `c`, before `a` was by `d`.
    assert_eq!(seen(&stream), ["a", "c", "d", "e"]);
    stream
        .update(|manifest| {
            manifest.retain_bytes = Some(1);
            Ok(())
        })
        .unwrap();
    assert_eq!(stream.expire(None).unwrap().segments, 2, "the active segments stay");
    assert_eq!(seen(&stream), ["d", "e"]);
}

/// The last segment of a closed shard was nobody's to remove and counted all the same, so that writers took away newer
/// records while it stayed.
#[test]
fn a_cap_in_bytes_takes_closed_shards_before_what_is_newer() {
    let bench = Bench::new();
    let mut stream = bench.create(&NewStream { retention_us: None, ..shards(1) });
    put(&stream, 0, &["old"]);
    stream.split(ShardId(0), None).unwrap();
    put(&stream, 1, &["new"]);
    let cap = |bytes| {
        move |manifest: &mut Manifest| {
            manifest.retain_bytes = Some(bytes);
            Ok(())
        }
    };
    stream.update(cap(1 << 20)).unwrap();
    assert_eq!(stream.trim().unwrap(), Freed::default());
    stream.update(cap(1)).unwrap();
    let held = stream.locks().unwrap();
    held.lock(MANIFEST_SLOT, true).unwrap();
    assert_eq!(stream.expire(None).unwrap(), Freed::default(), "only under the stream's lock");
    drop(held);
    let mut other = writer(&stream, 1);
    append(&mut other, &["newer"], None);
    other.roll().unwrap();
    append(&mut other, &["newest"], None);
    let total = |stream: &Stream| -> u64 {
        let logs = stream.manifest().shards.iter().map(|shard| stream.log_dir(shard));
        logs.flat_map(|log| log::segments(&log).unwrap()).map(|segment| segment.bytes).sum()
    };
    stream.update(cap(total(&stream) - 1)).unwrap();
    let freed = stream.expire(Some(ShardId(1))).unwrap();
    assert_eq!((freed.segments, &freed.shards[..]), (1, &[ShardId(0)][..]));
    assert_eq!(read(&bench.open()), ["new", "newer", "newest"].map(|text| (1, text.to_owned())));
    stream.reload().unwrap();
    stream.split(ShardId(1), None).unwrap();
    stream.update(cap(1)).unwrap();
    assert_eq!(stream.trim().unwrap().shards, [ShardId(1)]);
}

#[test]
fn counts_what_is_there_and_what_came_since() {
    let bench = Bench::new();
    let stream = bench.create(&shards(1));
    put(&stream, 0, &["a", "bc"]);
    bench.pass(HOUR_US);
    let since = bench.system.clock.now_us();
    put(&stream, 0, &["def"]);
    let stats = stream.stats(&stream.manifest().shards[0], since).unwrap();
    assert_eq!((stats.records, stats.segments, stats.damages), (3, 2, 0));
    let expected = Count { records: 1, payload_bytes: 3, bytes: 6, put_payload_units: 1 };
    assert_eq!(stats.since, expected);
    assert!(stats.oldest_us.unwrap() < since && stats.newest_us.unwrap() >= since);
    let load = stream.load(&stream.manifest().shards[0], since).unwrap();
    assert_eq!((load.records, load.bytes), (1, 6));
    assert_eq!(load.keys.into_iter().collect::<Vec<_>>(), [(HashKey::of(b"def"), (1, 6))]);
}

#[test]
fn a_large_shard_is_sampled_around_the_gap_that_a_crash_left() {
    let bench = Bench::new();
    let stream = bench.create(&shards(1));
    let text: Vec<String> = (0..1000).map(|n| format!("k{}", n % 4)).collect();
    let batch: Vec<&str> = text.iter().map(String::as_str).collect();
    let mut before = writer(&stream, 0);
    (0..50).for_each(|_| append(&mut before, &batch, None));
    // Gone without a word: the next writer goes on at the ceiling.
    drop(before);
    let mut after = writer(&stream, 0);
    (0..50).for_each(|_| append(&mut after, &batch, None));
    assert!(after.next_index() > 1 << 32);
    let load = stream.load(&stream.manifest().shards[0], 0).unwrap();
    assert_eq!((load.records, load.keys.len()), (100_000, 4));
    assert_eq!(load.bytes, 400_000);
}

/// A writer that comes while others are kept out waits: taking them for alive it would look for no crash.
/// After a crash the newest record was told to have arrived when the log was recovered.
#[test]
fn the_newest_record_is_as_old_as_it_is_after_a_recovery() {
    let bench = Bench::new();
    let stream = bench.create(&shards(1));
    // Its writer is killed: no mark of a clean end.
    append(&mut writer(&stream, 0), &["a"], None);
    let info = &stream.manifest().shards[0];
    let arrived_us = log::at_rest(&stream.log_dir(info), info.range()).unwrap().arrival_us;
    bench.pass(HOUR_US);
    drop(writer(&stream, 0));
    assert_eq!(log::segments(&stream.log_dir(info)).unwrap().len(), 2, "recovered");
    let stats = stream.stats(info, 0).unwrap();
    assert_eq!((stats.newest_us, stats.oldest_us), (Some(arrived_us), Some(arrived_us)));
}

/// Segments that were being made when their maker was killed stayed in their directories for ever.
#[test]
fn what_was_left_half_made_goes_when_the_next_segment_is_made() {
    let bench = Bench::new();
    let stream = bench.create(&shards(1));
    let info = &stream.manifest().shards[0];
    let left = stream.log_dir(info).dir.join(".00000000000000000003.seg.77.tmp");
    std::fs::write(&left, "x").unwrap();
    let mut writer = writer(&stream, 0);
    append(&mut writer, &["a"], None);
    assert!(left.exists());
    writer.roll().unwrap();
    assert!(!left.exists());
    let left = bench.path().join(".manifest.json.77.0.tmp");
    std::fs::write(&left, "x").unwrap();
    bench.open().settle().unwrap();
    assert!(!left.exists());
}

#[test]
fn a_writer_that_is_kept_out_waits_and_then_recovers() {
    let bench = Bench::new();
    let stream = bench.create(&shards(2));
    let mut left = writer(&stream, 0);
    append(&mut left, &["a"], None);
    drop(left);
    let locks = stream.locks().unwrap();
    assert_eq!(stream.keep_writers_out(&*locks).unwrap(), None);
    let other = stream.clone();
    let opening = std::thread::spawn(move || writer(&other, 0).next_index());
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!opening.is_finished());
    drop(locks);
    assert!(opening.join().unwrap() >= 1 << 32, "it has recovered what was left without a word");
    // Where one is writing nothing stays held.
    let writing = writer(&stream, 1);
    let locks = stream.locks().unwrap();
    assert_eq!(stream.keep_writers_out(&*locks).unwrap(), Some(ShardId(1)));
    drop(writer(&stream, 0));
    drop(writing);
}

#[test]
fn a_stream_in_use_is_not_deleted() {
    let bench = Bench::new();
    let stream = bench.create(&shards(2));
    let mut writing = writer(&stream, 1);
    assert!(
        matches!(stream.clone().delete(false), Err(Error::InUse(why)) if why.contains("shardId-000000000001"))
    );
    writing.pause().unwrap();
    std::fs::create_dir_all(bench.path().join("consumers/c")).unwrap();
    assert!(matches!(stream.clone().delete(false), Err(Error::InUse(why)) if why.contains("(c)")));
    stream.delete(true).unwrap();
    assert_eq!(std::fs::read_dir(bench.dir.path()).unwrap().count(), 0);
    assert!(matches!(Stream::open(&bench.system, &bench.path()), Err(Error::NotFound { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Where a read ends inside a frame, all before that place is delivered and nothing behind it, be that the rest of
    /// the frame, the end of the shard or its children; and what goes on from there misses nothing.
    #[test]
    fn a_read_in_two_parts_is_the_whole(
        frames in prop::collection::vec(1_usize..5, 1..5),
        at in 0.0..1.0_f64,
        is_split: bool,
        order in prop::sample::select(vec![Order::Shard, Order::Turns, Order::Arrival]),
    ) {
        let bench = Bench::new();
        let mut stream = bench.create(&shards(1));
        let total: usize = frames.iter().sum();
        let names: Vec<String> = (0..total).map(|n| n.to_string()).collect();
        let mut rest = &names[..];
        for count in frames {
            let (frame, behind) = rest.split_at(count);
            rest = behind;
            put(&stream, 0, &frame.iter().map(String::as_str).collect::<Vec<_>>());
        }
        if is_split {
            let children = stream.split(ShardId(0), None).unwrap();
            put(&stream, children[0].0, &["child"]);
        }
        let all = read(&stream);
        let index = (at * total as f64) as usize;
        let info = stream.manifest().shard(ShardId(0)).unwrap();
        // A pause reserves no index: the records of one shard have indexes without a gap here.
        let place = sequence(ShardId(0), info.created_s(), index as u64, 0);
        let open = |start, until| StreamReader::open(stream.clone(), start, until, order, None).unwrap();
        let (before, ended) = drain(&mut open(Start::TrimHorizon, Until::At(place)));
        prop_assert_eq!(&before, &all[..index]);
        prop_assert!(ended, "where nothing can be read any more the read is over");
        let (behind, _) = drain(&mut open(Start::At(place), Until::Never));
        prop_assert_eq!(&behind, &all[index..]);
    }
}

/// A cheap look finds what was appended, and takes no shard for changed that is not.
#[test]
fn a_glance_sees_what_has_grown() {
    let bench = Bench::new();
    let stream = bench.create(&shards(2));
    put(&stream, 0, &["a"]);
    let mut reader =
        StreamReader::open(stream.clone(), Start::TrimHorizon, Until::Never, Order::Shard, None).unwrap();
    assert_eq!(drain(&mut reader).0.len(), 1);
    let seen = |reader: &mut StreamReader| {
        reader.glance().unwrap();
        drain(reader).0.into_iter().map(|(_, payload)| payload).collect::<Vec<_>>()
    };
    assert!(seen(&mut reader).is_empty());
    let mut writer = writer(&stream, 1);
    append(&mut writer, &["b"], None);
    assert_eq!(seen(&mut reader), ["b"]);
    writer.roll().unwrap();
    append(&mut writer, &["c"], None);
    assert_eq!(seen(&mut reader), ["c"]);
}
/// A reader ended with an error where a trim had forgotten a closed shard that it had not come to, and what goes on from
/// that shard was not read either.
#[test]
fn a_shard_that_is_forgotten_is_missed_and_its_children_are_read() {
    for (order, known) in
        [(Order::Shard, true), (Order::Arrival, true), (Order::Shard, false), (Order::Arrival, false)]
    {
        let bench = Bench::new();
        let mut stream = bench.create(&shards(2));
        put(&stream, 0, &["a"]);
        put(&stream, 1, &["b", "c"]);
        let before = stream.clone();
        stream.split(ShardId(1), None).unwrap();
        put(&stream, 3, &["d"]);
        let seen_by = if known { stream.clone() } else { before };
        let mut reader = StreamReader::open(seen_by, Start::TrimHorizon, Until::Never, order, None).unwrap();
        let cap = |manifest: &mut Manifest| {
            manifest.retain_bytes = Some(1);
            Ok(())
        };
        stream.update(cap).unwrap();
        assert_eq!(stream.trim().unwrap().shards, [ShardId(1)]);
        let (mut shards_read, mut missed_of) = (Vec::new(), Vec::new());
        loop {
            match reader.poll(&mut |_| ()).unwrap() {
                Polled::Frame(shard, ()) => shards_read.push(shard.0),
                Polled::Missed(shard, missed) => missed_of.push((shard.0, missed.from, missed.to)),
                Polled::Tail | Polled::End => break,
                other => panic!("{other:?}"),
            }
        }
        shards_read.sort_unstable();
        assert_eq!(shards_read, [0, 3], "{order:?} {known}");
        let to = if known { 2 } else { crate::record::INDEX_MAX };
        assert_eq!(missed_of, [(1, 0, to)], "{order:?} {known}");
    }
}
