//! The records of the stream.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{Kind, Report, Shard};
use super::tally::{self, Owner, Tally};
use super::{Request, Watch};
use crate::codec::kpl;
use crate::hose::ledger::Entry;
use crate::record::ShardId;
use crate::stream::{Delivery, Order, Place, Polled, Stream, StreamReader, Until};

/// The records of the stream, held against the commits.
pub(super) fn records(
    request: &Request<'_>,
    stream: &Stream,
    commits: &[Entry],
    report: &mut Report,
    watch: &mut dyn Watch,
) -> anyhow::Result<()> {
    let mut tally = Tally::new(commits);
    let mut reader =
        StreamReader::empty(stream.clone(), Until::Time(stream.system().clock.now_us()), Order::Shard);
    let infos = stream.manifest().shards.clone();
    for info in &infos {
        let begin = match (tally.standing(info.shard), request.consumer) {
            (Some((began, _)), _) => Some(began),
            (None, Some(consumer)) => match consumer.shards.get(&info.shard) {
                Some(known) => known.checkpoint.next_index(),
                None => Some(0),
            },
            (None, None) => Some(0),
        };
        if let Some(index) = begin {
            reader.add(info, Place::Index(index))?;
        }
    }
    let mut holes: BTreeSet<u32> = BTreeSet::new();
    let expired: Vec<u32> =
        tally.shards().filter(|shard| infos.iter().all(|info| info.shard != *shard)).collect();
    for shard in expired {
        tally.hole(shard, 0, u64::MAX);
        holes.insert(shard);
    }
    // By shard: records and bytes that are not delivered.
    let mut undelivered: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    loop {
        if let Some(stopped) = watch.stop() {
            return Err(stopped);
        }
        let polled = reader.poll(&mut |delivery| count_frame(delivery, &mut tally, &mut undelivered))?;
        match polled {
            Polled::Frame(_, counted) => {
                let (records, bytes) = counted?;
                watch.looked(records, bytes);
            }
            Polled::ShardEnd(_) => {}
            Polled::Tail | Polled::End => break,
            Polled::Damage(shard, damage) => {
                tally.hole(shard.0, damage.first, damage.next);
                holes.insert(shard.0);
                report.notes.push(format!("{shard}: {}: {}", damage.path.display(), damage.reason));
            }
            Polled::Missed(shard, missed) => {
                tally.hole(shard.0, missed.from, missed.to);
                holes.insert(shard.0);
            }
        }
    }
    for &(number, shard) in &tally.backwards {
        let place = request.ledger.store().url(request.ledger.dir());
        let text = format!(
            "commit {number} stands before the one before it in {}: records were delivered again",
            ShardId(shard)
        );
        report.found(Kind::CommitBackwards, place, text);
    }
    judge_batches(request, &tally, report);
    let shards: BTreeSet<u32> = tally.shards().chain(infos.iter().map(|info| info.shard)).collect();
    for shard in shards {
        let standing = tally.standing(shard);
        let (records, bytes) = undelivered.get(&shard).copied().unwrap_or_default();
        let sum = |of: fn(&tally::Added) -> &BTreeMap<u32, u64>| {
            tally.added.iter().filter_map(|added| of(added).get(&shard)).sum()
        };
        report.shards.push(Shard {
            shard: ShardId(shard).to_string(),
            began: standing.map(|(began, _)| began),
            to: standing.map_or(0, |(_, position)| position.to),
            done: standing.is_some_and(|(_, position)| position.is_done()),
            compared: sum(|added| &added.seen),
            delivered: sum(|added| &added.shards),
            undelivered: records,
            undelivered_bytes: bytes,
            has_holes: holes.contains(&shard),
        });
    }
    Ok(())
}

fn count_frame(
    delivery: &Delivery<'_>,
    tally: &mut Tally,
    undelivered: &mut BTreeMap<u32, (u64, u64)>,
) -> anyhow::Result<(u64, u64)> {
    let shard = delivery.shard.0;
    let (mut records, mut bytes) = (0, 0);
    let view = delivery.frame.records()?;
    for (i, stored) in view.iter().enumerate().take(delivery.take).skip(delivery.skip) {
        let index = delivery.frame.header.first + i as u64;
        let mut see = |sub, payload: &[u8]| {
            records += 1;
            bytes += payload.len() as u64;
            if tally.see(shard, index, sub) == Owner::Nobody {
                let sums = undelivered.entry(shard).or_default();
                sums.0 += 1;
                sums.1 += payload.len() as u64;
            }
        };
        match kpl::deaggregate(stored.payload) {
            Some(aggregate) => {
                for (user, sub) in aggregate.iter().zip(0..) {
                    see(Some(sub), user.data);
                }
            }
            None => see(None, stored.payload),
        }
    }
    Ok((records, bytes))
}

/// Holds what each batch says against what the stream has.
fn judge_batches(request: &Request<'_>, tally: &Tally, report: &mut Report) {
    let place = |number: u64| {
        let ledger = request.ledger;
        ledger.store().url(&format!("{}/{number:020}.json", ledger.dir()))
    };
    for added in &tally.added {
        let (read, accounted) = (added.read(), added.accounted());
        let which = match added.missing {
            0 => format!("batch {}", added.number),
            missing => format!("batches {} to {}", added.number - missing, added.number),
        };
        if read == accounted {
            report.compared += 1;
        } else if added.has_holes && read < accounted {
            report.beyond += 1;
            continue;
        } else if added.takes_apart {
            report.taken_apart += 1;
            continue;
        } else {
            report.compared += 1;
            let shards = differing(added);
            let (kind, text) = if read > accounted {
                let missing = read - accounted;
                (
                    Kind::RecordsMissing,
                    format!("{which}: {missing} of {read} records of the stream were not delivered{shards}"),
                )
            } else {
                let more = accounted - read;
                (
                    Kind::RecordsDoubled,
                    format!(
                        "{which}: {accounted} records were delivered, {more} more than the stream has{shards}"
                    ),
                )
            };
            report.found(kind, place(added.number), text);
            continue;
        }
        // Records that a filter left out, or a service refused, are not told by shard.
        let told: u64 = added.shards.values().sum();
        let is_told =
            told == accounted && added.totals.dropped == 0 && added.missing == 0 && !added.takes_apart;
        let seen = |shard: &u32| added.seen.get(shard).copied().unwrap_or(0);
        if is_told && !added.has_holes && added.shards.iter().any(|(shard, count)| seen(shard) != *count) {
            let text = format!(
                "{which}: as many records were delivered as there were, and not those{}",
                differing(added)
            );
            report.found(Kind::RecordsMissing, place(added.number), text);
        }
    }
}

/// In which shards the numbers differ.
fn differing(added: &tally::Added) -> String {
    let shards: BTreeSet<u32> = added.seen.keys().chain(added.shards.keys()).copied().collect();
    let count = |of: &BTreeMap<u32, u64>, shard: u32| of.get(&shard).copied().unwrap_or(0);
    let differs: Vec<String> = shards
        .into_iter()
        .filter(|&shard| count(&added.seen, shard) != count(&added.shards, shard))
        .map(|shard| {
            let (seen, delivered) = (count(&added.seen, shard), count(&added.shards, shard));
            format!("{}: {seen} read, {delivered} delivered", ShardId(shard))
        })
        .collect();
    if differs.is_empty() { String::new() } else { format!(" ({})", differs.join("; ")) }
}
