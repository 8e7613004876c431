use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};

use proptest::prelude::*;

use super::*;
use crate::hose::format::body::Scratch;
use crate::sys::Disk;
use crate::sys::sim::{Faults, Machine};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn body(text: &str) -> Body {
    Body::from(text.as_bytes().to_vec())
}

fn put(store: &LocalStore, name: &str, text: &str, mode: PutMode) -> Result<(), StoreError> {
    run(store.put(name, &body(text), mode, &Attributes::default()))
}

fn names(store: &LocalStore, prefix: &str, after: Option<&str>) -> Vec<String> {
    run(store.list(prefix, after)).unwrap().into_iter().map(|listed| listed.name).collect()
}

fn real() -> (tempfile::TempDir, LocalStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(&System::real(), &dir.path().join("lake/clicks"));
    (dir, store)
}

#[test]
fn an_object_is_put_read_listed_and_removed() {
    let (dir, store) = real();
    assert!(names(&store, "", None).is_empty() && run(store.head("a/b.txt")).unwrap().is_none());
    assert!(!dir.path().join("lake").exists(), "who only looks makes nothing");
    put(&store, "a/b.txt", "hello", PutMode::Overwrite).unwrap();
    assert_eq!(run(store.get("a/b.txt", 5)).unwrap(), b"hello");
    assert_eq!(
        run(store.get("a/b.txt", 4)).unwrap_err().to_string(),
        format!("{}: 5 bytes, at most 4 expected", dir.path().join("lake/clicks/a/b.txt").display())
    );
    assert_eq!(run(store.get_range("a/b.txt", 1..3)).unwrap(), b"el");
    assert_eq!(run(store.get_range("a/b.txt", 3..99)).unwrap(), b"lo");
    assert!(run(store.get_range("a/b.txt", 5..6)).is_err() && run(store.get_range("a/b.txt", 5..5)).is_ok());
    let head = run(store.head("a/b.txt")).unwrap().unwrap();
    assert_eq!((head.size, head.name.as_str()), (5, "a/b.txt"));
    assert!(head.modified_us > 1_600_000_000_000_000);
    assert_eq!(run(store.list("a/", None)).unwrap(), [head]);
    put(&store, "a/b.txt", "other", PutMode::Overwrite).unwrap();
    run(store.delete("a/b.txt")).unwrap();
    run(store.delete("a/b.txt")).unwrap();
    run(store.delete("x/y/z")).unwrap();
    assert!(matches!(run(store.get("a/b.txt", 9)), Err(StoreError::NotFound { .. })));
    let mode = dir.path().join("lake/clicks/a").metadata().unwrap().mode() & 0o777;
    assert_eq!(mode, dir.path().join("lake").metadata().unwrap().mode() & 0o777, "as the umask has it");
}

#[test]
fn a_name_is_taken_once() {
    let (_dir, store) = real();
    put(&store, "c/1.json", "mine", PutMode::Create).unwrap();
    put(&store, "c/1.json", "mine", PutMode::Create).unwrap();
    let error = put(&store, "c/1.json", "yours", PutMode::Create).unwrap_err();
    assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error}");
    assert!(matches!(
        put(&store, "c/1.json", "min2", PutMode::Create),
        Err(StoreError::AlreadyExists { .. })
    ));
    assert_eq!(run(store.get("c/1.json", 9)).unwrap(), b"mine");
    assert_eq!(names(&store, "", None), ["c/1.json"]);
}

#[test]
fn a_body_in_a_file_is_renamed_where_it_can_be() {
    let (dir, store) = real();
    let large = |at: &Path| {
        let scratch = Scratch::new(&System::real(), at);
        let mut writer = scratch.begin();
        writer.write_all(&vec![7; 3 << 20]).unwrap();
        writer.finish().unwrap()
    };
    let here = large(dir.path());
    let inode = match &here {
        Body::File(file, _) => file.path.metadata().unwrap().ino(),
        Body::Bytes(_) => panic!("it is in memory"),
    };
    run(store.put("x", &here, PutMode::Overwrite, &Attributes::default())).unwrap();
    let at = dir.path().join("lake/clicks/x");
    assert_eq!(at.metadata().unwrap().ino(), inode);
    // A second attempt with what has lost its name.
    run(store.put("x", &here, PutMode::Overwrite, &Attributes::default())).unwrap();
    run(store.put("y", &here, PutMode::Create, &Attributes::default())).unwrap();
    run(store.put("y", &here, PutMode::Create, &Attributes::default())).unwrap();
    drop(here);
    assert_eq!(run(store.get("x", 9 << 20)).unwrap(), vec![7; 3 << 20]);
    assert_eq!(names(&store, "", None), ["x", "y"]);
    // Another file system, where there is one.
    if let Ok(other) = tempfile::tempdir_in("/dev/shm") {
        run(store.put("z", &large(other.path()), PutMode::Overwrite, &Attributes::default())).unwrap();
        assert_eq!(run(store.get("z", 9 << 20)).unwrap(), vec![7; 3 << 20]);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no scratch file is left");
}

#[test]
fn links_below_the_destination_are_not_followed() {
    let (dir, store) = real();
    put(&store, "a/b", "1", PutMode::Overwrite).unwrap();
    let root = dir.path().join("lake/clicks");
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), "p").unwrap();

    symlink(&outside, root.join("link")).unwrap();
    let error = put(&store, "link/precious", "2", PutMode::Overwrite).unwrap_err().to_string();
    assert!(
        error.ends_with("lake/clicks/link: a symbolic link, and below a destination none is followed"),
        "{error}"
    );
    assert!(run(store.get("link/precious", 9)).is_err() && run(store.delete("link/precious")).is_err());

    symlink(outside.join("precious"), root.join("a/c")).unwrap();
    assert!(run(store.get("a/c", 9)).is_err() && run(store.head("a/c")).unwrap().is_none());
    assert!(matches!(put(&store, "a/c", "p", PutMode::Create), Err(StoreError::AlreadyExists { .. })));
    put(&store, "a/c", "3", PutMode::Overwrite).unwrap();
    assert!(!root.join("a/c").is_symlink());
    assert_eq!(std::fs::read(outside.join("precious")).unwrap(), b"p");
    assert_eq!(names(&store, "", None), ["a/b", "a/c"]);

    // The way to the destination is the user's own word.
    symlink(dir.path().join("lake"), dir.path().join("way")).unwrap();
    let through = LocalStore::new(&System::real(), &dir.path().join("way/clicks"));
    put(&through, "a/d", "4", PutMode::Overwrite).unwrap();
    assert_eq!(names(&through, "", Some("a/c")), ["a/d"]);
}

#[test]
fn names_that_nobody_would_find_are_refused() {
    let (dir, store) = real();
    let long = "n".repeat(256);
    for name in ["", "/x", "x/", "a//b", "..", "a/../../b", "./a", "a\nb", ".a", "a/.b/c", long.as_str()] {
        assert!(store.check_name(name).is_err(), "{name}");
        assert!(
            matches!(put(&store, name, "1", PutMode::Overwrite), Err(StoreError::Permanent { .. })),
            "{name}"
        );
    }
    assert!(!dir.path().join("lake").exists());
    let longest = "n".repeat(255);
    put(&store, &longest, "1", PutMode::Create).unwrap();
    put(&store, "k=a b/é %41?#.json", "2", PutMode::Overwrite).unwrap();
    assert_eq!(names(&store, "k", None), ["k=a b/é %41?#.json"]);
    assert!(matches!(put(&store, "k=a b", "2", PutMode::Overwrite), Err(StoreError::Permanent { .. })));
    assert!(matches!(run(store.head(&format!("{longest}/x"))), Ok(None)));
}

#[test]
fn what_a_killed_process_left_is_removed_when_it_is_old() {
    let (dir, store) = real();
    let root = dir.path().join("lake/clicks/a");
    std::fs::create_dir_all(&root).unwrap();
    let old = std::fs::File::create(root.join(".khose-1.tmp")).unwrap();
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    old.set_modified(long_ago).unwrap();
    std::fs::File::create(root.join(".khose-2.tmp")).unwrap();
    std::fs::File::create(root.join(".mine")).unwrap().set_modified(long_ago).unwrap();
    put(&store, "a/b", "1", PutMode::Overwrite).unwrap();
    assert!(!root.join(".khose-1.tmp").exists());
    assert!(root.join(".khose-2.tmp").exists() && root.join(".mine").exists());
    assert_eq!(names(&store, "", None), ["a/b"]);
}

/// The machine stops at each operation in turn, with its power or without: an object is whole or not there, and what
/// was acknowledged is there.
#[test]
fn a_loss_of_power_at_any_moment() {
    let objects = [
        ("a/1", "one", PutMode::Overwrite),
        ("a/x/2", "two", PutMode::Create),
        ("a/1", "three", PutMode::Overwrite),
    ];
    for seed in 0..4 {
        for stop_at in 1.. {
            let machine = Machine::new();
            machine.fail(Faults { stop_at: Some(stop_at), ..Faults::default() });
            let store = || LocalStore::new(&machine.system(), Path::new("/s/lake"));
            let mut acknowledged = BTreeMap::new();
            let begun = store();
            let done = objects.iter().all(|(name, text, mode)| {
                let is_put = put(&begun, name, text, *mode).is_ok();
                if is_put {
                    acknowledged.insert(*name, *text);
                }
                is_put
            });
            if seed == 0 {
                machine.resume();
            } else {
                machine.crash(seed);
            }
            let after = store();
            for listed in run(after.list("", None)).unwrap() {
                let text = String::from_utf8(run(after.get(&listed.name, 99)).unwrap()).unwrap();
                let known = objects.iter().any(|(name, known, _)| *name == listed.name && *known == text);
                assert!(known, "seed {seed}, stopped at {stop_at}: {} holds {text:?}", listed.name);
            }
            for (name, text) in &acknowledged {
                let there = run(after.get(name, 99)).unwrap();
                let overwritten = *name == "a/1" && there == b"three";
                assert!(there == text.as_bytes() || overwritten, "seed {seed}, stopped at {stop_at}: {name}");
            }
            // The run after it does the same again, and succeeds.
            for (name, text, mode) in objects {
                put(&after, name, text, mode).unwrap();
            }
            assert_eq!(run(after.get("a/1", 99)).unwrap(), b"three");
            if done {
                assert!(stop_at > 20, "{stop_at} operations are too few to be all");
                break;
            }
        }
    }
}

#[test]
fn a_directory_that_another_made_is_made_durable_all_the_same() {
    let machine = Machine::new();
    for dir in ["/s/lake", "/s/lake/a"] {
        machine.create_dir(Path::new(dir)).unwrap();
    }
    let store = LocalStore::new(&machine.system(), Path::new("/s/lake"));
    put(&store, "a/1", "one", PutMode::Overwrite).unwrap();
    for seed in 0..20 {
        machine.crash(seed);
        assert_eq!(run(store.get("a/1", 9)).unwrap(), b"one");
    }
}

#[test]
fn a_full_disk_is_no_reason_to_give_up_and_a_lost_sync_is() {
    let machine = Machine::new();
    let store = LocalStore::new(&machine.system(), Path::new("/s"));
    machine.fail(Faults { capacity: Some(2), ..Faults::default() });
    assert!(put(&store, "a", "four", PutMode::Overwrite).unwrap_err().is_transient());
    machine.fail(Faults::default());
    put(&store, "a", "four", PutMode::Overwrite).unwrap();
    machine.create_dir(Path::new("/s/scratch")).unwrap();
    let mut writer = Scratch::new(&machine.system(), Path::new("/s/scratch")).begin();
    writer.write_all(&vec![1; 1 << 20]).unwrap();
    let large = writer.finish().unwrap();
    machine.fail(Faults { sync_fails: Some(1), ..Faults::default() });
    let error = run(store.put("b", &large, PutMode::Overwrite, &Attributes::default())).unwrap_err();
    assert!(matches!(error, StoreError::Permanent { .. }), "{error}");
    assert_eq!(names(&store, "", None), ["a"]);
}

proptest! {
    /// A listing is all names in their order, those that match and follow.
    #[test]
    fn listings_are_what_they_say(
        names_there in prop::collection::btree_set("[ab.]/?[ab-]{1,2}(/[ab]{1,2})?", 0..12),
        prefix in "[ab]?/?[ab]?",
        after in prop::option::of("[ab]?/?[ab-]?/?[ab]?"),
    ) {
        let store = LocalStore::new(&Machine::new().system(), Path::new("/s/lake"));
        let mut there = Vec::new();
        for name in names_there {
            if store.check_name(&name).is_ok() && put(&store, &name, "1", PutMode::Overwrite).is_ok() {
                there.push(name);
            }
        }
        let expected: Vec<String> = there
            .into_iter()
            .filter(|name| name.starts_with(&prefix) && after.as_ref().is_none_or(|after| name > after))
            .collect();
        prop_assert_eq!(names(&store, &prefix, after.as_deref()), expected);
    }
}
