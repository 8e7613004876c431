//! Repairs: whatever was damaged, one run mends it, and no record goes that was not hit.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::repair::repair;
use super::super::segment::list;
use super::super::verify::{Depth, Event, Finding, Severity, verify};
use super::lying::{Lying, frames};
use super::*;
use crate::sys::Locks;

/// What happens to a segment.
#[derive(Debug, Clone)]
enum Harm {
    Flip(usize),
    Zero(usize, usize),
    Truncate(usize),
    Delete,
    Foreign,
}

/// Places are parts of the segment, in 1/1000; the head is hit as often as the rest.
fn harm() -> impl Strategy<Value = Harm> {
    let place = || prop_oneof![0usize..1000, 0usize..80];
    prop_oneof![
        3 => place().prop_map(Harm::Flip),
        3 => (place(), prop_oneof![Just(40usize), Just(200), Just(1000)]).prop_map(|(at, len)| Harm::Zero(at, len)),
        2 => place().prop_map(Harm::Truncate),
        2 => Just(Harm::Delete),
        1 => Just(Harm::Foreign),
    ]
}

fn do_harm(machine: &Machine, path: &Path, harm: &Harm) {
    let Ok(file) = machine.system().disk.open(path) else { return };
    let len = file.len().unwrap() as usize;
    let mut bytes = machine.bytes(path);
    match *harm {
        Harm::Flip(at) if len > 0 => bytes[at * len / 1000] ^= 0x10,
        Harm::Zero(at, zeros) => {
            let at = at * len / 1000;
            bytes[at..(at + zeros).min(len)].fill(0);
        }
        Harm::Truncate(at) => bytes.truncate(at * len / 1000),
        Harm::Delete => return machine.system().disk.remove(path).unwrap(),
        Harm::Foreign => {
            let other = Machine::new();
            create_log(&LogDir { id: LogId { stream: [1; 16], ..LOG }, ..log_on(&other) }, 0, &[]).unwrap();
            bytes = other.bytes(&segment_path(0));
        }
        Harm::Flip(_) => {}
    }
    machine.put(path, &bytes);
}

/// Segments of three frames of two records, each synced before the next: all but the last sealed, or left by a writer
/// that was killed where `killed` says so. The numbers of the records say in which order they were written.
fn log_of(killed: &[bool], paused: bool) -> Machine {
    let machine = machine();
    let mut writer = open(&machine, ONE).unwrap();
    for (segment, killed) in killed.iter().chain([&false]).enumerate() {
        let first = segment as u64 * 6;
        for first in [first, first + 2, first + 4] {
            machine.set_clock(1_700_000_000_000_000 + first as i64 * 1000);
            append(&mut writer, first..first + 2).unwrap();
            sync(&mut writer).unwrap();
        }
        if *killed {
            drop(writer);
            machine.crash(segment as u64);
            writer = open(&machine, ONE).unwrap();
        } else {
            writer.roll().unwrap();
        }
    }
    for first in [100, 102, 104] {
        append(&mut writer, first..first + 2).unwrap();
        sync(&mut writer).unwrap();
    }
    if paused {
        writer.pause().unwrap();
    }
    machine
}

fn findings(machine: &Machine) -> Vec<Finding> {
    let mut found = Vec::new();
    verify(&log_on(machine), Depth::All, &mut |event| {
        if let Event::Found(finding) = event {
            found.push(finding);
        }
    })
    .unwrap();
    found
}

fn damage(machine: &Machine) -> Vec<Finding> {
    let mut found = findings(machine);
    found.retain(|finding| finding.flaw.severity() == Severity::Damage);
    found
}

/// Repairs the log and says what was mended and what was left.
fn mend(machine: &Machine) -> (Vec<Finding>, Vec<Finding>) {
    let locks: Arc<dyn Locks> = machine.system().disk.locks(Path::new("/s/locks")).unwrap();
    let mut mended = Vec::new();
    let keep = Path::new("/s/rejects");
    let left = repair(&log_on(machine), &locks, keep, false, &mut |finding| mended.push(finding.clone()));
    (mended, left.unwrap())
}

/// The numbers of the records that nothing has happened to and that can be told from an unfinished write: in the last
/// segment something behind the harm must say that what was hit had been durable.
fn unhurt(machine: &Machine, before: &[(u64, Vec<Lying>, Vec<u8>)]) -> Vec<u64> {
    let mut numbers = Vec::new();
    let left: Vec<_> =
        before.iter().filter(|(base, ..)| machine.system().disk.exists(&segment_path(*base))).collect();
    for (i, (base, frames, bytes)) in left.iter().enumerate() {
        let now = machine.bytes(&segment_path(*base));
        let whole = |frame: &Lying| now.get(frame.bytes.clone()) == Some(&bytes[frame.bytes.clone()]);
        for (at, frame) in frames.iter().enumerate() {
            if whole(frame) {
                let payload = &bytes[frame.bytes.clone()];
                numbers.extend(frame.numbers(payload));
            } else if i + 1 == left.len()
                && !frames[at..].iter().any(|later| whole(later) && later.header.durable > frame.header.first)
            {
                break;
            }
        }
    }
    numbers
}

/// Three that went wrong: gaps of the second segment came to be older than its new header; good records behind a flip in
/// front of a missing segment were set aside; and a seal that was lost with the header behind it took its place along.
#[test]
fn repairs_that_once_spoiled_a_log() {
    let zeros = |at| Harm::Zero(at, 1000);
    let cases: [&[(u64, Harm)]; 4] = [
        &[(0, Harm::Flip(500)), (6, zeros(0))],
        &[(0, Harm::Flip(250)), (6, Harm::Delete)],
        &[(0, zeros(500)), (6, Harm::Flip(0))],
        &[(0, Harm::Truncate(600)), (6, zeros(0)), (12, Harm::Delete)],
    ];
    for harms in cases {
        let machine = log_of(&[false; 3], true);
        let before: Vec<_> = list(&log_on(&machine))
            .unwrap()
            .into_iter()
            .map(|base| (base, frames(&machine, base), machine.bytes(&segment_path(base))))
            .collect();
        harms.iter().for_each(|(base, harm)| do_harm(&machine, &segment_path(*base), harm));
        let unhurt = unhurt(&machine, &before);
        assert_eq!(mend(&machine).1, []);
        assert_eq!(damage(&machine), [], "{harms:?}");
        assert_eq!(read_all(&machine).numbers(), unhurt, "{harms:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases(300)) })]

    /// Repairs have left contradictions that no later one could mend, and have put good records aside. After one run
    /// whatever was hit, the log is sound, every record that was not hit is read, and a second run finds nothing to do.
    #[test]
    fn one_repair_mends_whatever_was_hit(
        killed in proptest::collection::vec(any::<bool>(), 3),
        paused in any::<bool>(),
        harms in proptest::collection::vec((0usize..5, harm()), 1..4),
    ) {
        let machine = log_of(&killed, paused);
        let before: Vec<_> = list(&log_on(&machine))
            .unwrap()
            .into_iter()
            .map(|base| (base, frames(&machine, base), machine.bytes(&segment_path(base))))
            .collect();
        let used = read_all(&machine).records.last().unwrap().index;
        for (segment, harm) in &harms {
            if let Some((base, ..)) = before.get(*segment) {
                do_harm(&machine, &segment_path(*base), harm);
            }
        }
        let bases = list(&log_on(&machine)).unwrap();
        prop_assume!(!bases.is_empty());
        let unhurt = unhurt(&machine, &before);
        let includes = |got: &All| {
            let numbers: BTreeSet<u64> = got.numbers().into_iter().collect();
            unhurt.iter().all(|number| numbers.contains(number))
        };
        match read(&mut reader(&machine)) {
            Ok(got) => {
                prop_assert!(includes(&got), "a reader loses some of {unhurt:?}: {got:?}");
                let named = damage(&machine);
                prop_assert!(got.damage.is_empty() || !named.is_empty(), "only the reader sees {:?}", got.damage);
            }
            Err(error) => prop_assert!(matches!(error, Error::Foreign { .. }), "{error:?}"),
        }
        let (mended, left) = mend(&machine);
        prop_assert_eq!(&left, &vec![], "mended {:?}", mended);
        prop_assert_eq!(damage(&machine), vec![], "mended {:?}", mended);
        let got = read(&mut reader(&machine)).unwrap();
        prop_assert_eq!(&got.damage, &vec![]);
        prop_assert!(includes(&got), "lost some of {unhurt:?}: {got:?}, mended {mended:?}");
        prop_assert!(got.numbers().is_sorted());
        let (again, left) = mend(&machine);
        prop_assert_eq!((again, left), (vec![], vec![]));
        // Nobody can know of a last segment that has gone.
        if bases.last() == before.last().map(|(base, ..)| base) {
            let mut writer = open(&machine, ONE).unwrap();
            prop_assert!(append(&mut writer, 200..202).unwrap().first > used, "an index is used twice");
        }
    }
}
