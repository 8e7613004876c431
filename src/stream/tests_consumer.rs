//! The consumer's lock: who waits for it, for how long, and what that comes to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::log::{Batch, Codec, Fresh, Writer};

fn stream(dir: &Path) -> (Stream, Consumer, PathBuf) {
    let stream = Stream::create(&System::real(), &dir.join("s"), &NewStream::default()).unwrap();
    let consumer = Consumer::open_or_create(&stream, "c", Start::TrimHorizon, None).unwrap();
    let lock = consumer.dir().join("lock");
    (stream, consumer, lock)
}

fn records(consumer: &Consumer, more: u64) -> Result<(), Error> {
    consumer.update(|state| {
        state.shards.values_mut().for_each(|shard| shard.records += more);
        Ok(())
    })
}

struct GivesUp(Mutex<Vec<String>>);

impl Patience for GivesUp {
    fn check(&self) -> io::Result<()> {
        if self.0.lock().unwrap().is_empty() { Ok(()) } else { Err(io::Error::other("asked to end")) }
    }

    fn tell(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// A worker was stopped while it held the lock: all others waited without a word, and no signal ended them.
#[test]
fn who_waits_for_the_lock_says_so_and_can_be_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, consumer, lock) = stream(dir.path());
    let held = System::real().disk.locks(&lock).unwrap();
    held.lock(0, true).unwrap();
    let patience = Arc::new(GivesUp(Mutex::default()));
    let consumer = consumer.patient(Arc::<GivesUp>::clone(&patience));
    let refused = consumer.reset(&stream, Start::Latest).unwrap_err();
    assert!(
        matches!(refused, Error::Io { doing: "lock", ref source, .. } if source.to_string() == "asked to end")
    );
    let told = patience.0.lock().unwrap();
    assert!(
        matches!(&told[..], [text] if text.starts_with("consumer c: its lock has not been free")),
        "{told:?}"
    );
    // What it had made ready is not left behind.
    let left = System::real().disk.list(consumer.dir()).unwrap();
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
}

/// Nothing is written under the lock, so two may change the state at once: neither change is lost.
#[test]
fn a_change_is_made_again_on_what_another_left() {
    let dir = tempfile::tempdir().unwrap();
    let (_, consumer, _) = stream(dir.path());
    let mut tries = 0;
    consumer
        .update(|state| {
            tries += 1;
            if tries == 1 {
                records(&consumer, 10)?;
            }
            state.shards.values_mut().for_each(|shard| shard.records += 1);
            Ok(())
        })
        .unwrap();
    let state = consumer.state().unwrap();
    assert_eq!((tries, state.shards[&0].records, state.generation), (2, 11, 2));
}

/// A worker was killed with a new state made and not yet in its place.
#[test]
fn what_a_dead_worker_left_half_made_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, consumer, _) = stream(dir.path());
    let note = WorkerNote { pid: u32::MAX, since_us: 0, stays: true };
    consumer
        .update(|state| {
            state.workers.insert("dead".to_owned(), note.clone());
            Ok(())
        })
        .unwrap();
    let left = consumer.dir().join(format!(".state.json.{}.0.tmp", u32::MAX));
    System::real().disk.create(&left).unwrap();
    Worker::join(consumer, true, FAILOVER_DEFAULT).unwrap().assign().unwrap();
    assert!(!left.exists());
}

/// A consumer was deleted and made anew while somebody waited for the lock of the old one, which is then no lock at all.
#[test]
fn the_lock_of_a_deleted_consumer_is_not_taken_for_that_of_its_namesake() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, consumer, lock) = stream(dir.path());
    let disk = System::real().disk;
    let old = disk.locks(&lock).unwrap();
    old.lock(0, true).unwrap();
    let (tell, told) = channel();
    let waiter = std::thread::spawn(move || tell.send(records(&consumer, 1)).unwrap());
    assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "it waits");
    disk.remove_dir_all(lock.parent().unwrap()).unwrap();
    let consumer = Consumer::open_or_create(&stream, "c", Start::TrimHorizon, None).unwrap();
    let new = disk.locks(&lock).unwrap();
    new.lock(0, true).unwrap();
    drop(old);
    assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "it waits for the new one");
    drop(new);
    told.recv().unwrap().unwrap();
    waiter.join().unwrap();
    assert_eq!(consumer.state().unwrap().shards[&0].records, 1);
}

/// After a stop the heartbeat goes on before the worker does. That it was silent must not be forgotten by that, or a
/// command is started on records that another has by now.
#[test]
fn a_silence_is_remembered_until_the_leases_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (_, consumer, _) = stream(dir.path());
    let failover = Duration::from_hours(1);
    let mut worker = Worker::join(consumer, true, failover).unwrap();
    worker.assign().unwrap();
    assert!(!worker.was_silent());
    worker.fall_silent();
    assert!(worker.was_silent());
    worker.runs(None);
    assert!(worker.was_silent(), "a heartbeat later");
    worker.assign().unwrap();
    assert!(!worker.was_silent());
}

/// The lock table was removed under a producer, and whoever came made a new one: two wrote the same shard at once, and
/// what one of them had acknowledged was lost.
#[test]
fn nobody_writes_when_the_lock_table_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, ..) = stream(dir.path());
    let info = &stream.manifest().shards[0];
    let open = || Writer::open(stream.log_dir(info), stream.locks().unwrap(), stream.roll(), info.range());
    let mut writer = open().unwrap();
    let table = stream.path().join("locks");
    stream.system().disk.remove(&table).unwrap();
    assert!(matches!(stream.locks(), Err(Error::NoLocks { .. })));
    assert!(!table.exists());
    assert!(matches!(writer.roll(), Err(log::Error::Io { doing: "lock", .. })));
    drop(writer);
    let mut seen = 0;
    repair::repair(stream.system(), stream.path(), true, &mut |_| seen += 1).unwrap();
    assert!(!table.exists(), "a dry run");
    repair::repair(stream.system(), stream.path(), false, &mut |_| seen += 1).unwrap();
    assert_eq!(seen, 2);
    open().unwrap();
}

/// A shard expired as a whole. A consumer that had read it all was told that it had missed something, and one that had
/// not was not told what.
#[test]
fn what_was_missed_of_an_expired_shard_is_told_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let (mut stream, consumer, _) = stream(dir.path());
    let info = stream.manifest().shards[0].clone();
    let mut writer =
        Writer::open(stream.log_dir(&info), stream.locks().unwrap(), stream.roll(), info.range()).unwrap();
    let mut batch = Batch::new(None);
    for _ in 0..5 {
        batch.push(Fresh { payload: b"x", ..Fresh::default() });
    }
    writer.append(&[batch.draft(Codec::None, None)]).unwrap();
    writer.pause().unwrap();
    let start = Start::TrimHorizon;
    let others = ["all", "end"].map(|name| Consumer::open_or_create(&stream, name, start, None).unwrap());
    let read = |consumer: &Consumer, checkpoint| {
        consumer
            .update(|state| {
                state.shards.get_mut(&0).unwrap().checkpoint = checkpoint;
                Ok(())
            })
            .unwrap();
    };
    read(&consumer, Checkpoint::Index { index: 2 });
    read(&others[0], Checkpoint::Index { index: 5 });
    read(&others[1], Checkpoint::ShardEnd);
    stream.split(ShardId(0), None).unwrap();
    stream
        .update(|manifest| {
            manifest.retain_bytes = Some(1);
            Ok(())
        })
        .unwrap();
    assert_eq!(stream.trim().unwrap().shards, [ShardId(0)]);
    let missed = |consumer: &Consumer| {
        let worker = Worker::join(consumer.clone(), true, FAILOVER_DEFAULT);
        worker.unwrap().assign().unwrap().missed
    };
    let expected = crate::log::Missed { from: 2, to: 5, repaired: false };
    assert_eq!(missed(&consumer), [(ShardId(0), Some(expected))]);
    for other in &others {
        assert_eq!(missed(other), []);
    }
}
