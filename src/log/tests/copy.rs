//! A log copied as it stood at one moment, whatever comes behind it.

use proptest::prelude::*;

use super::super::copy::{open_part, part_path, pass_on, reach};
use super::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    Append(u64),
    Sync,
    Roll,
    /// The writer is killed, and another one comes.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..6).prop_map(Step::Append),
        1 => Just(Step::Sync),
        1 => Just(Step::Roll),
        1 => Just(Step::Kill),
    ]
}

fn walk(machine: &Machine, mut writer: Writer, steps: &[Step], count: &mut u64) -> Writer {
    for step in steps {
        match *step {
            Step::Append(more) => {
                append(&mut writer, *count..*count + more).unwrap();
                *count += more;
            }
            Step::Sync => sync(&mut writer).unwrap(),
            Step::Roll => writer.roll().unwrap(),
            Step::Kill => {
                drop(writer);
                writer = open(machine, TINY).unwrap();
            }
        }
    }
    writer
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(60)))]

    #[test]
    fn a_cut_holds_what_was_there_at_its_moment(
        before in prop::collection::vec(step(), 0..12),
        behind in prop::collection::vec(step(), 0..12),
        held in any::<bool>(),
        ends in any::<bool>(),
    ) {
        let machine = machine();
        let log = log_on(&machine);
        let mut count = 0;
        let writer = walk(&machine, open(&machine, TINY).unwrap(), &before, &mut count);
        let mut reach = reach(&log, held).unwrap();
        let there = count;
        let mut writer = walk(&machine, writer, &behind, &mut count);
        if ends {
            writer.end(&end()).unwrap();
        }
        if held {
            reach.hold(&log, &mut 3);
        }
        // The shard was open then, and so it is in the copy.
        let cut = reach.cut(&log, false).unwrap().unwrap();
        let mut records = 0;
        for part in &cut.parts {
            let mut bytes = open_part(&log, part).unwrap();
            let path = part_path(&log, part.base);
            records += pass_on(&mut bytes, part, (log.id, log.id), &path, &mut |_, _| Ok(())).unwrap();
        }
        prop_assert_eq!(records, there);
    }
}
