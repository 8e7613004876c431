use std::io::IoSlice;

use super::*;

fn file(machine: &Machine, name: &str) -> Arc<dyn File> {
    let path = Path::new("/s").join(name);
    machine.open(&path).or_else(|_| machine.create(&path)).unwrap()
}

/// Whatever the seed, synced bytes under a synced name are there; over all seeds the rest is lost in every way.
#[test]
fn a_power_loss_takes_any_part_of_what_was_not_synced() {
    let (mut names, mut lengths, mut mixed) = (0, std::collections::BTreeSet::new(), 0);
    for seed in 0..200 {
        let machine = Machine::new();
        let kept = file(&machine, "kept");
        kept.write_at(&[IoSlice::new(&[1; 700])], 0).unwrap();
        kept.sync_data().unwrap();
        machine.sync_dir(Path::new("/s")).unwrap();
        kept.write_at(&[IoSlice::new(&[2; 3000])], 700).unwrap();
        file(&machine, "new").sync_data().unwrap();
        machine.crash(seed);
        let bytes = machine.bytes(Path::new("/s/kept"));
        assert_eq!(bytes[..700], [1; 700]);
        lengths.insert(bytes.len());
        let rest = &bytes[700..];
        mixed += u64::from(rest.contains(&2) && rest.iter().any(|byte| *byte != 2));
        names += u64::from(machine.exists(Path::new("/s/new")));
        assert!(kept.len().is_err(), "a handle of before the power loss is dead");
    }
    assert!(lengths.len() > 20 && (20..180).contains(&names) && mixed > 20);
}

/// A failed sync is followed by one that succeeds and lies; reading back from the device tells.
#[test]
fn a_failed_sync_loses_what_memory_still_shows() {
    let machine = Machine::new();
    let file = file(&machine, "f");
    file.write_at(&[IoSlice::new(b"old")], 0).unwrap();
    file.sync_data().unwrap();
    machine.fail(Faults { sync_fails: Some(1), ..Faults::default() });
    file.write_at(&[IoSlice::new(b"new")], 3).unwrap();
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(machine.bytes(Path::new("/s/f")), b"oldnew");
    file.forget_cache().unwrap();
    assert_eq!(machine.bytes(Path::new("/s/f")), b"old\0\0\0");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let machine = Machine::new();
    let file = file(&machine, "f");
    machine.fail(Faults { capacity: Some(10), ..Faults::default() });
    let error = file.write_at(&[IoSlice::new(&[7; 16])], 0).unwrap_err();
    assert_eq!((error.kind(), file.len().unwrap()), (io::ErrorKind::StorageFull, 10));
    file.write_at(&[IoSlice::new(&[8; 10])], 0).unwrap();
}

#[test]
fn locks_have_owners_and_go_with_them() {
    let machine = Machine::new();
    let locks = || machine.locks(Path::new("/s/locks")).unwrap();
    let (a, b) = (locks(), locks());
    a.lock(1, true).unwrap();
    assert_eq!(b.lock(1, false).unwrap_err().kind(), io::ErrorKind::Deadlock);
    a.lock(1, false).unwrap();
    assert!(b.try_lock(1, false).unwrap() && !b.try_lock(1, true).unwrap());
    drop(a);
    assert!(b.try_lock(1, true).unwrap());
}
