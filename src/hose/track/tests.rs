use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn at(index: u64, sub: Option<u64>) -> Origin {
    Origin { shard: ShardId(0), shard_created_s: 1, index, sub, arrival_us: 0 }
}

fn ids(ids: &[u64]) -> BTreeSet<ObjectId> {
    ids.iter().map(|&id| ObjectId(id)).collect()
}

#[test]
fn what_is_in_an_open_object_is_left() {
    let mut tracker = Tracker::default();
    for (index, object) in [(0, 1), (1, 2), (2, 2), (3, 1), (4, 0)] {
        tracker.note(&at(index, None), 1, ObjectId(object));
    }
    let position = &tracker.positions(&ids(&[1]))[&0];
    assert_eq!(
        *position,
        ShardPosition { to: 5, end: false, left: vec![Left { first: 1, count: 2, parts: None }] }
    );
    assert_eq!(position.low(), 1);
    tracker.delivered(&ids(&[1]));
    assert_eq!(tracker.stretches(), 1);
    assert_eq!(tracker.positions(&ids(&[2]))[&0], ShardPosition { to: 5, end: false, left: vec![] });
}

#[test]
fn parts_of_a_record_are_told_apart() {
    let mut tracker = Tracker::default();
    tracker.note(&at(7, Some(0)), 2, ObjectId(1));
    tracker.note(&at(7, Some(2)), 1, ObjectId(2));
    tracker.note(&at(7, Some(3)), 1, ObjectId(1));
    let position = tracker.positions(&ids(&[1]))[&0].clone();
    assert_eq!(position.left, vec![Left { first: 7, count: 1, parts: Some(vec![(2, 1)]) }]);
    let mut next = Tracker::default();
    assert_eq!(next.begin(ShardId(0), &position), 7);
    assert!(!next.wants(ShardId(0), 7, Some(1)));
    assert!(next.wants(ShardId(0), 7, Some(2)));
    assert!(!next.wants(ShardId(0), 7, Some(3)));
    assert!(next.wants(ShardId(0), 8, None));
}

#[test]
fn linked_objects_go_together() {
    let mut tracker = Tracker::default();
    tracker.link(ObjectId(1), ObjectId(2));
    tracker.link(ObjectId(2), ObjectId(3));
    tracker.link(ObjectId(4), ObjectId(5));
    assert_eq!(tracker.together([ObjectId(1)]), ids(&[1, 2, 3]));
    tracker.delivered(&ids(&[1, 2, 3]));
    assert_eq!(tracker.together([ObjectId(3)]), ids(&[3]));
}

#[test]
fn a_run_that_ends_before_it_has_come_to_all_keeps_the_rest() {
    let position = ShardPosition {
        to: 100,
        end: false,
        left: vec![Left { first: 10, count: 20, parts: None }, Left { first: 50, count: 10, parts: None }],
    };
    let mut tracker = Tracker::default();
    assert_eq!(tracker.begin(ShardId(0), &position), 10);
    tracker.note(&at(10, None), 5, ObjectId(1));
    tracker.read_to(ShardId(0), 15);
    let left = vec![Left { first: 15, count: 15, parts: None }, Left { first: 50, count: 10, parts: None }];
    assert_eq!(tracker.positions(&ids(&[1]))[&0], ShardPosition { to: 100, end: false, left });
}

proptest! {
    /// Runs that are killed at any commit deliver every part of every record once, whatever object each run puts it in.
    #[test]
    fn every_record_once(
        subs in proptest::collection::vec(0u64..4, 1..60),
        choices in proptest::collection::vec(0u64..4, 400),
        steps in proptest::collection::vec((1usize..12, 1u64..4, any::<bool>()), 1..40),
    ) {
        let shard = ShardId(0);
        let mut delivered: std::collections::BTreeMap<(u64, Option<u64>), u32> = std::collections::BTreeMap::new();
        let mut position = ShardPosition::default();
        let mut choice = choices.iter().cycle();
        let mut steps = steps.iter().cycle();
        for run in 0..60 {
            let mut tracker = Tracker::default();
            let mut index = tracker.begin(shard, &position);
            let mut open: std::collections::BTreeMap<u64, Vec<(u64, Option<u64>)>> = std::collections::BTreeMap::new();
            let mut round = 0;
            // One run: it reads, closes an object now and then, and is killed after some commits.
            let killed = loop {
                let (count, object, killed) = steps.next().unwrap();
                for _ in 0..*count {
                    let Some(&parts) = subs.get(index as usize) else { break };
                    let places: Vec<Option<u64>> = if parts == 0 { vec![None] } else { (0..parts).map(Some).collect() };
                    for sub in places {
                        if tracker.wants(shard, index, sub) {
                            let object = 1 + round * 10 + choice.next().unwrap();
                            tracker.note(&at(index, sub), 1, ObjectId(object));
                            open.entry(object).or_default().push((index, sub));
                        }
                    }
                    index += 1;
                    tracker.read_to(shard, index);
                }
                let is_end = index as usize >= subs.len();
                let due: BTreeSet<ObjectId> = open.keys().filter(|id| is_end || *id % 4 == *object).map(|&id| ObjectId(id)).collect();
                position = tracker.positions(&due)[&0].clone();
                let text = serde_json::to_string(&position).unwrap();
                prop_assert_eq!(&serde_json::from_str::<ShardPosition>(&text).unwrap(), &position);
                tracker.delivered(&due);
                for id in due {
                    for place in open.remove(&id.0).unwrap() {
                        *delivered.entry(place).or_default() += 1;
                    }
                }
                round += 1;
                if is_end { break false; }
                // The last one is left in peace.
                if *killed && run < 50 { break true; }
            };
            if !killed { break; }
        }
        let wanted: u64 = subs.iter().map(|&parts| parts.max(1)).sum();
        prop_assert!(delivered.values().all(|&times| times == 1), "{:?}", delivered);
        prop_assert_eq!(delivered.len() as u64, wanted);
        prop_assert!(position.left.is_empty());
    }

    #[test]
    fn a_long_list_survives_being_packed(gaps in proptest::collection::vec((0u64..5, 1u64..9), 100..300)) {
        let mut next = 0;
        let left = gaps.iter().map(|&(gap, count)| {
            let first = next + gap;
            next = first + count;
            Left { first, count, parts: (count == 1).then(|| vec![(3, 1)]) }
        }).collect();
        let position = ShardPosition { to: next, end: true, left };
        let text = serde_json::to_string(&position).unwrap();
        prop_assert!(text.contains("zstd"));
        prop_assert_eq!(serde_json::from_str::<ShardPosition>(&text).unwrap(), position);
    }
}

#[test]
fn who_moves_forward_keeps_what_lies_behind_that_as_it_is() {
    let left = |first, count| Left { first, count, parts: None };
    let one = Left { first: 30, count: 1, parts: Some(vec![(2, 5)]) };
    let position =
        ShardPosition { to: 50, end: true, left: vec![left(10, 5), left(20, 4), one.clone(), left(40, 2)] };
    let lefts = |low| position.clone().moved_to(low).left;
    assert_eq!(position.clone().moved_to(10), position);
    assert_eq!(lefts(12), [left(12, 3), left(20, 4), one.clone(), left(40, 2)]);
    assert_eq!(lefts(23), [left(23, 1), one.clone(), left(40, 2)]);
    assert_eq!(lefts(30), [one, left(40, 2)]);
    assert_eq!((lefts(41), lefts(50)), (vec![left(41, 1)], vec![]));
    assert_eq!(position.clone().moved_to(60), ShardPosition { to: 60, ..ShardPosition::default() });
    assert!(position.moved_to(50).is_done());
}
