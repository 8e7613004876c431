//! Stages one behind the other.
//!
//! Its promise: each record has at least one fate, the fates stand in the order of the records, and what one stage has
//! dropped or refused no later stage sees.

use std::time::{Duration, Instant};

use super::{Fate, Item, Stage, numbered, source_sub};
use crate::hose::chunk::Origin;

/// What a stage has done so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageCount {
    /// The stage.
    pub name: &'static str,
    /// Records that it was given, and their bytes.
    pub records_in: u64,
    /// See `records_in`.
    pub bytes_in: u64,
    /// Records that went on, and their bytes: `SucceedProcessing` together with `dropped`.
    pub kept: u64,
    /// See `kept`.
    pub bytes_kept: u64,
    /// Records that it left out on purpose.
    pub dropped: u64,
    /// Records that it refused, and their bytes.
    pub failed: u64,
    /// See `failed`.
    pub bytes_failed: u64,
    /// How long it took: `ExecuteProcessing.Duration` of a transformation, `JQProcessing.Duration` of a query.
    pub took: Duration,
}

impl StageCount {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            records_in: 0,
            bytes_in: 0,
            kept: 0,
            bytes_kept: 0,
            dropped: 0,
            failed: 0,
            bytes_failed: 0,
            took: Duration::ZERO,
        }
    }

    fn note(&mut self, fate: &Fate) {
        match fate {
            Fate::Kept(item) => {
                self.kept += 1;
                self.bytes_kept += item.data.len() as u64;
            }
            Fate::Dropped(_) => self.dropped += 1,
            Fate::Failed(item, _) => {
                self.failed += 1;
                self.bytes_failed += item.data.len() as u64;
            }
        }
    }
}

/// Stages in their order.
#[derive(Default)]
pub struct Chain {
    stages: Vec<(Box<dyn Stage>, StageCount)>,
}

impl Chain {
    /// A chain without stages: every record is kept as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a stage.
    pub fn push(&mut self, stage: impl Stage + 'static) {
        let count = StageCount::new(stage.name());
        self.stages.push((Box::new(stage), count));
    }

    /// Whether there are no stages.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// How many stages number what they make: see [`super::source_sub`].
    pub fn levels(&self) -> u32 {
        self.stages.iter().filter(|(stage, _)| stage.may_split()).count() as u32
    }

    /// Whether a cut may only lie between two calls of [`Chain::run`]: which record of a call an outcome belongs to is
    /// not always known.
    pub fn is_indivisible(&self) -> bool {
        self.stages.iter().any(|(stage, _)| stage.is_indivisible())
    }

    /// What each stage has done so far.
    pub fn counts(&self) -> impl Iterator<Item = &StageCount> {
        self.stages.iter().map(|(_, count)| count)
    }

    /// Takes records through all stages.
    ///
    /// # Errors
    /// Where a stage cannot go on: nothing of the batch counts as done.
    pub fn run(&mut self, items: Vec<Item>) -> anyhow::Result<Vec<Fate>> {
        let mut fates: Vec<Fate> = items.into_iter().map(Fate::Kept).collect();
        for (stage, count) in &mut self.stages {
            fates = pass(stage.as_mut(), count, fates)?;
        }
        Ok(fates)
    }

    /// Ends all stages; the first that ended badly is told of.
    ///
    /// # Errors
    /// Where one ended badly. All that was run before stays true.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let mut ended = Ok(());
        for (stage, _) in &mut self.stages {
            ended = ended.and(stage.finish());
        }
        ended
    }
}

/// Where a record stands while a stage has it.
enum Place {
    /// Here: it came with this origin.
    Out(Origin),
    /// It was not given to the stage.
    Stands(Fate),
}

/// Takes what is still kept through one stage, and puts its fates where the records stood.
fn pass(stage: &mut dyn Stage, count: &mut StageCount, before: Vec<Fate>) -> anyhow::Result<Vec<Fate>> {
    let mut items = Vec::with_capacity(before.len());
    let places: Vec<Place> = before
        .into_iter()
        .map(|fate| match fate {
            Fate::Kept(item) => {
                let origin = item.origin;
                count.records_in += 1;
                count.bytes_in += item.data.len() as u64;
                items.push(item);
                Place::Out(origin)
            }
            other => Place::Stands(other),
        })
        .collect();
    let given = items.len();
    let begun = Instant::now();
    let outcome = if items.is_empty() { Ok(Vec::new()) } else { stage.process(items) };
    count.took += begun.elapsed();
    let outcome = outcome?;
    outcome.iter().for_each(|fate| count.note(fate));
    let (name, may_split) = (stage.name(), stage.may_split());
    anyhow::ensure!(
        if may_split { outcome.len() >= given } else { outcome.len() == given },
        "{name}: {given} records went in and {} came out",
        outcome.len()
    );
    if !may_split && given == places.len() {
        return Ok(outcome);
    }
    let mut fates = Vec::with_capacity(outcome.len() + places.len() - given);
    let mut outcome = outcome.into_iter().peekable();
    let done = |fate: Fate| if may_split { at_level(fate) } else { fate };
    for place in places {
        match place {
            Place::Stands(fate) => fates.push(done(fate)),
            Place::Out(origin) => match outcome.next() {
                Some(first @ Fate::Kept(_)) => {
                    fates.push(first);
                    let is_of =
                        |fate: &Fate| matches!(fate, Fate::Kept(item) if comes_of(item.origin, origin));
                    while may_split && outcome.peek().is_some_and(is_of) {
                        fates.extend(outcome.next());
                    }
                }
                other => fates.extend(other.map(done)),
            },
        }
    }
    // There are none, if the stage keeps to the order; none may be lost where it does not.
    fates.extend(outcome);
    Ok(fates)
}

/// What stops at a stage that numbers, or has stopped before, is numbered as what goes on is: else it could have the
/// number of another that does.
fn at_level(mut fate: Fate) -> Fate {
    let (Fate::Kept(Item { origin, .. }) | Fate::Failed(Item { origin, .. }, _) | Fate::Dropped(origin)) =
        &mut fate;
    *origin = numbered(*origin, 0, 1).unwrap_or(*origin);
    fate
}

/// Whether a stage that numbers what it makes has made this out of that.
fn comes_of(made: Origin, source: Origin) -> bool {
    made.shard == source.shard
        && made.index == source.index
        && source.sub.is_none_or(|sub| made.sub.is_some_and(|made| source_sub(made, 1) == sub))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{item, items, told};
    use super::super::{Deaggregate, SubRecords};
    use super::*;
    use crate::hose::failure::{ErrorType, Failure};

    /// Drops what begins with `d`, refuses what begins with `f`.
    struct Picky(char);

    impl Stage for Picky {
        fn name(&self) -> &'static str {
            "picky"
        }

        fn process(&mut self, items: Vec<Item>) -> anyhow::Result<Vec<Fate>> {
            let judge = |item: Item| match item.data.first() {
                Some(b'd') => Fate::Dropped(item.origin),
                Some(&byte) if byte == self.0 as u8 => {
                    Fate::Failed(item, Failure::new(ErrorType::Processing, "Picky", ""))
                }
                _ => Fate::Kept(item),
            };
            Ok(items.into_iter().map(judge).collect())
        }
    }

    struct Broken;

    impl Stage for Broken {
        fn name(&self) -> &'static str {
            "broken"
        }

        fn process(&mut self, _: Vec<Item>) -> anyhow::Result<Vec<Fate>> {
            Ok(Vec::new())
        }
    }

    fn by(delimiter: &str) -> Deaggregate {
        Deaggregate::new(SubRecords::Delimited(delimiter.into())).unwrap()
    }

    #[test]
    fn order_is_kept_through_failures_and_splits() {
        let mut chain = Chain::new();
        assert_eq!(told(&chain.run(items(["a"])).unwrap()), ["0 kept a"]);
        chain.push(by(";"));
        chain.push(Picky('f'));
        chain.push(by(","));
        chain.push(Picky('g'));
        assert_eq!(chain.levels(), 2);
        assert!(!chain.is_indivisible());
        let fates = chain.run(items(["a,b;d;f,1;c", ";", "d", "g1,g2,h", "x;d;y"])).unwrap();
        assert_eq!(
            told(&fates),
            [
                "0.0 kept a",
                "0.1 kept b",
                &format!("0.{} dropped", 1 << 20),
                &format!("0.{} failed Picky", 2 << 20),
                &format!("0.{} kept c", 3 << 20),
                "1 failed DeAggregation.NoRecords",
                "2 dropped",
                "3.0 failed Picky",
                "3.1 failed Picky",
                "3.2 kept h",
                "4.0 kept x",
                &format!("4.{} dropped", 1 << 20),
                &format!("4.{} kept y", 2 << 20),
            ]
        );
        let counts: Vec<_> =
            chain.counts().map(|c| (c.name, c.records_in, c.kept, c.dropped, c.failed)).collect();
        assert_eq!(
            counts,
            [
                ("deaggregate", 5, 9, 0, 1),
                ("picky", 9, 5, 3, 1),
                ("deaggregate", 5, 8, 0, 0),
                ("picky", 8, 6, 0, 2)
            ]
        );
        let bytes: Vec<_> = chain.counts().map(|c| (c.bytes_in, c.bytes_kept, c.bytes_failed)).collect();
        assert_eq!(bytes[0], (25, 19, 1));
        chain.finish().unwrap();
    }

    #[test]
    fn a_stage_that_loses_records_is_stopped() {
        let mut chain = Chain::new();
        chain.push(Broken);
        assert!(chain.run(Vec::new()).unwrap().is_empty());
        assert_eq!(
            chain.run(vec![item(0, "a")]).unwrap_err().to_string(),
            "broken: 1 records went in and 0 came out"
        );
    }

    proptest! {
        #[test]
        fn every_record_has_a_fate_in_its_place(records in prop::collection::vec("[adfg,;]{0,8}", 0..20)) {
            let mut chain = Chain::new();
            chain.push(by(";"));
            chain.push(Picky('f'));
            chain.push(by(","));
            chain.push(Picky('g'));
            let fates = chain.run(items(&records)).unwrap();
            let origins: Vec<_> = fates.iter().map(|fate| (fate.origin().index, fate.origin().sub)).collect();
            let mut apart = origins.clone();
            apart.sort_unstable();
            apart.dedup();
            prop_assert_eq!(apart, origins);
            let indexes: Vec<u64> = fates.iter().map(|fate| fate.origin().index).collect();
            prop_assert!(indexes.is_sorted());
            let mut seen = indexes;
            seen.dedup();
            prop_assert_eq!(seen, (0..records.len() as u64).collect::<Vec<_>>());
        }
    }
}
