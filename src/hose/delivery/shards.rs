//! Where a delivery begins in its shards: behind the last commit, or with the batch that a killed run had planned.

use super::{Delivery, TICK};
use crate::hose::track::{Positions, ShardPosition};
use crate::record::ShardId;

impl Delivery<'_> {
    /// Notes that records are gone that belong to the batch that is done again.
    pub(super) fn cut(&mut self, shard: ShardId, first: u64, next: u64) {
        let planned = self.replaying.as_ref().and_then(|plan| plan.positions.get(&shard.0));
        self.is_cut |= first < next && planned.is_some_and(|planned| first < planned.to);
    }

    /// Leaves the shards aside of which the batch that is done again has no more.
    pub(super) fn pause_planned(&mut self) {
        let Some(plan) = &self.replaying else { return };
        for (&shard, position) in &plan.positions {
            if self.state.tracker.has_read(ShardId(shard), position.to) {
                self.source.pause(ShardId(shard));
            }
        }
    }

    /// Begins with a shard where the last commit left it: that says more than the consumer's checkpoint, which may
    /// have been moved forward since, though.
    pub(super) fn begin_shard(&mut self, shard: ShardId, checkpoint: &ShardPosition) -> anyhow::Result<()> {
        let low = checkpoint.low();
        let stood = self.stood.remove(&shard.0);
        let is_known = stood.is_some();
        let position = stood.map_or_else(|| checkpoint.clone(), |stood| stood.moved_to(low));
        if let Some(plan) = &self.replaying {
            let began = plan.began.get(&shard.0).copied();
            if !plan.positions.contains_key(&shard.0) {
                self.deferred.push((shard, position));
                return Ok(());
            }
            self.resumed.insert(shard.0, low);
            // Part of the batch may be there, and all of it comes: whoever has moved the consumer since did not know.
            let before = self.standing.last.as_ref().and_then(|last| last.positions.get(&shard.0).cloned());
            let from = match (before, began) {
                (Some(before), _) => before,
                (None, Some(began)) if began != low => ShardPosition { to: began, ..Default::default() },
                (None, _) => position,
            };
            return self.take_up(shard, &from);
        }
        if is_known && (position.low() > low || position.is_done()) {
            if position.low() > low && !std::mem::replace(&mut self.told_ahead, true) {
                let at = position.low();
                self.reporter.say(&format!(
                    "the destination has more than the consumer knows of ({shard}: up to index {at}, not {low}): it goes on \
                     behind that"
                ));
            }
            self.source.commit(&Positions::from([(shard.0, position.clone())]))?;
        }
        self.take_up(shard, &position)
    }

    fn take_up(&mut self, shard: ShardId, position: &ShardPosition) -> anyhow::Result<()> {
        self.began.entry(shard.0).or_insert_with(|| position.low());
        if position.is_done() {
            self.state.tracker.begin(shard, position);
            self.state.tracker.read_to(shard, position.to);
            self.state.tracker.ended(shard);
            return Ok(());
        }
        let index = self.state.tracker.begin(shard, position);
        self.source.begin(shard, index)
    }

    /// A shard of which the batch that is done again has records that have not been read yet.
    fn unread(&self) -> Option<ShardId> {
        let plan = self.replaying.as_ref()?;
        let before = self.standing.last.as_ref().map(|last| &last.positions);
        let is_unread = |(&shard, planned): (&u32, &ShardPosition)| {
            let has_none = match before.and_then(|before| before.get(&shard)) {
                Some(before) => before == planned,
                None => plan.began.get(&shard) == Some(&planned.to),
            };
            let (shard, to) = (ShardId(shard), planned.to);
            (!has_none && !self.state.tracker.has_read(shard, to) && self.source.has_shard(shard))
                .then_some(shard)
        };
        plan.positions.iter().find_map(is_unread)
    }

    /// All has been read for now: does the batch again, if it is all there.
    pub(super) fn again(&mut self) -> anyhow::Result<()> {
        let Some(shard) = self.unread() else { return self.replay() };
        let begun = self.state.tracker.has_read(shard, 0);
        if begun {
            anyhow::bail!("batch {}: {shard} ends before what a killed run had read of it", self.number);
        }
        if !self.source.look()? && !self.settings.follow {
            anyhow::bail!("batch {}: {shard} is read by another worker of the same consumer", self.number);
        }
        self.source.wait(Some(TICK))
    }

    /// Does the batch again that a killed run had planned, and begins anew behind it.
    fn replay(&mut self) -> anyhow::Result<()> {
        // A shard that has expired is told of once, and perhaps to a run that was killed then.
        let before = self.standing.last.as_ref().map(|last| &last.positions);
        let planned = self.replaying.iter().flat_map(|plan| &plan.positions);
        self.is_cut |= planned.into_iter().any(|(&shard, planned)| {
            before.and_then(|before| before.get(&shard)) != Some(planned)
                && !self.source.has_shard(ShardId(shard))
        });
        self.state.process()?;
        self.count();
        self.state.gather.end_all();
        self.ship(true)?;
        while self.courier.is_busy() {
            self.hear(TICK)?;
            if let Some(stopped) = self.reporter.stop() {
                return Err(stopped);
            }
        }
        let Some(plan) = self.replaying.take() else { return Ok(()) };
        self.state.limit = None;
        self.is_cut = false;
        self.source.ignore_end(false);
        // From here on everything is read from where the plan ends, what it left included.
        for (shard, planned) in plan.positions {
            match self.resumed.remove(&shard) {
                Some(low) => self.take_up(ShardId(shard), &planned.moved_to(low))?,
                // This run does not have it.
                None => drop(self.stood.insert(shard, planned)),
            }
        }
        for (shard, position) in std::mem::take(&mut self.deferred) {
            self.take_up(shard, &position)?;
        }
        Ok(())
    }
}
