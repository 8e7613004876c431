//! The rows of a batch into a table, the good ones.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::pin::pin;

use futures_util::SinkExt;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::super::super::failure::{ErrorType, Failure};
use super::super::Batch;
use super::super::patience::LeftOut;
use super::super::rows::rows;
use super::address::{TableName, identifier};
use super::fault::Fault;
use super::row::{Given, Layout, Values};
use super::search::Search;

/// Rows go to the server in pieces of about this size: large enough that a message costs nothing, small enough that few
/// of them wait in memory.
const PIECE_BYTES: usize = 128 << 10;

/// Where a row is: which parcel, which of its chunks, which row.
type Place = (u32, u32, u32);

/// Rows that have something for the same columns, as far as that matters.
#[derive(Debug, Default)]
struct Group {
    /// The columns that any of them has something for.
    given: Given,
    rows: Vec<Place>,
}

/// Loads one batch within a transaction.
pub(super) struct Loader<'a> {
    client: &'a Client,
    table: &'a TableName,
    layout: &'a Layout,
    batch: &'a Batch,
    left_out: Vec<LeftOut>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        client: &'a Client,
        table: &'a TableName,
        layout: &'a Layout,
        batch: &'a Batch,
    ) -> Self {
        Self { client, table, layout, batch, left_out: Vec::new() }
    }

    /// Loads it. Answers the rows that were left out, in their order.
    pub(super) async fn load(mut self) -> Result<Vec<LeftOut>, Fault> {
        for group in self.groups().await {
            self.load_group(&group).await?;
        }
        self.left_out.sort_by_key(|row| row.place);
        Ok(self.left_out)
    }

    /// Sorts the rows by which columns with a default they lack: a copy names its columns, and those that it does not
    /// name take their defaults. What has no default is NULL where it is absent, and needs no group of its own.
    async fn groups(&mut self) -> Vec<Group> {
        let columns = &self.layout.table.columns;
        let mut groups: Vec<Group> = Vec::new();
        let mut by_lack: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let with_default: Vec<usize> = (0..columns.len()).filter(|i| columns[*i].has_default).collect();
        let mut values = Values::default();
        for (p, parcel) in self.batch.parcels.iter().enumerate() {
            for (c, chunk) in parcel.chunks.iter().enumerate() {
                for (r, payload) in chunk.payloads().enumerate() {
                    let given = match self.layout.given(payload, &mut values) {
                        Ok(given) => given,
                        Err(failure) => {
                            self.left_out.push(LeftOut { place: (p, c, r), failure });
                            continue;
                        }
                    };
                    let lacks: Vec<usize> = with_default.iter().copied().filter(|i| !given.has(*i)).collect();
                    let i = *by_lack.entry(lacks).or_insert_with(|| {
                        groups.push(Group::default());
                        groups.len() - 1
                    });
                    groups[i].given.join(&given);
                    groups[i].rows.push((p as u32, c as u32, r as u32));
                }
                tokio::task::yield_now().await;
            }
        }
        groups
    }

    async fn load_group(&mut self, group: &Group) -> Result<(), Fault> {
        let columns: Vec<usize> =
            (0..self.layout.table.columns.len()).filter(|i| group.given.has(*i)).collect();
        let names: Vec<String> =
            columns.iter().map(|i| identifier(&self.layout.table.columns[*i].name)).collect();
        let copy = format!("COPY {} ({}) FROM STDIN", self.table.sql(), names.join(", "));
        let rows = &group.rows;
        let mut search = Search::new(rows.len());
        while let Some(window) = search.next() {
            self.run("SAVEPOINT khose").await?;
            match self.copy(&copy, &rows[window.clone()], &columns).await {
                Ok(()) => {
                    self.run("RELEASE SAVEPOINT khose").await?;
                    search.copied(window);
                }
                Err(Fault::Data(misfit)) => {
                    self.run("ROLLBACK TO SAVEPOINT khose").await?;
                    if let Some(bad) = search.failed(window, misfit.line) {
                        let failure = Failure::new(ErrorType::Database, misfit.code, misfit.message);
                        self.left_out.push(LeftOut { place: full(rows[bad]), failure });
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Copies these rows, all or none.
    async fn copy(&self, copy: &str, rows: &[Place], columns: &[usize]) -> Result<(), Fault> {
        let name = &self.layout.table.name;
        let fault = |error: &tokio_postgres::Error| Fault::of_copy(error, name);
        let sink = self.client.copy_in::<_, Cursor<Vec<u8>>>(copy).await.map_err(|error| fault(&error))?;
        let mut sink = pin!(sink);
        let (mut values, mut piece) = (Values::default(), Vec::with_capacity(PIECE_BYTES + 4096));
        for &place in rows {
            self.layout.write(payload(self.batch, place), columns, &mut values, &mut piece).map_err(
                // Each can be written: that was tried when they were sorted.
                |failure| {
                    Fault::Permanent(format!("a row that could be written before: {}", failure.message))
                },
            )?;
            if piece.len() >= PIECE_BYTES {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES + 4096));
                sink.send(Cursor::new(full)).await.map_err(|error| fault(&error))?;
            }
        }
        if !piece.is_empty() {
            sink.send(Cursor::new(piece)).await.map_err(|error| fault(&error))?;
        }
        let copied = sink.finish().await.map_err(|error| fault(&error))?;
        // A trigger may drop rows on purpose, so fewer are no error.
        debug_assert!(copied <= rows.len() as u64);
        Ok(())
    }

    async fn run(&self, sql: &str) -> Result<(), Fault> {
        self.client.batch_execute(sql).await.map_err(|error| Fault::of(&error, "load"))
    }
}

fn full((p, c, r): Place) -> (usize, usize, usize) {
    (p as usize, c as usize, r as usize)
}

fn payload(batch: &Batch, (p, c, r): Place) -> &[u8] {
    batch.parcels[p as usize].chunks[c as usize].payload(r as usize)
}

/// A row that was left out, as it is kept beside the watermark: by its origin, for a later run may cut the batch into
/// other chunks.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    #[serde(rename = "shard")]
    shard: u32,
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sub: Option<u64>,
    code: String,
    message: String,
}

/// What is kept of the rows that were left out.
pub(super) fn note(batch: &Batch, left_out: &[LeftOut]) -> Option<String> {
    let noted: Vec<Noted> = left_out
        .iter()
        .filter_map(|LeftOut { place: (p, c, r), failure }| {
            let origin = batch.parcels.get(*p)?.chunks.get(*c)?.origin(*r)?;
            let Failure { code, message, .. } = failure.clone();
            Some(Noted { shard: origin.shard.0, index: origin.index, sub: origin.sub, code, message })
        })
        .collect();
    if noted.is_empty() { None } else { serde_json::to_string(&noted).ok() }
}

/// The rows that were left out when the batch was loaded.
pub(super) fn recall(batch: &Batch, noted: Option<&str>) -> Result<Vec<LeftOut>, Fault> {
    let Some(noted) = noted else { return Ok(Vec::new()) };
    let noted: Vec<Noted> = serde_json::from_str(noted).map_err(|error| {
        Fault::Permanent(format!("what the watermark says of refused rows cannot be read: {error}"))
    })?;
    let noted: BTreeMap<(u32, u64, Option<u64>), Noted> =
        noted.into_iter().map(|noted| ((noted.shard, noted.index, noted.sub), noted)).collect();
    let left_out = rows(batch)
        .filter_map(|row| {
            let Noted { code, message, .. } =
                noted.get(&(row.origin.shard.0, row.origin.index, row.origin.sub))?;
            let failure = Failure::new(ErrorType::Database, code.clone(), message.clone());
            Some(LeftOut { place: row.place, failure })
        })
        .collect();
    Ok(left_out)
}

#[cfg(test)]
mod tests {
    use super::super::super::super::chunk::{Chunk, Origin};
    use super::super::super::super::format::body::Body;
    use super::super::super::Parcel;
    use super::*;
    use crate::record::ShardId;

    fn batch(cuts: &[usize]) -> Batch {
        let mut index = 0;
        let chunks = cuts.iter().map(|rows| {
            let mut chunk = Chunk::default();
            for _ in 0..*rows {
                let origin =
                    Origin { shard: ShardId(3), shard_created_s: 0, index, sub: None, arrival_us: 0 };
                chunk.push(origin, b"{}");
                index += 1;
            }
            chunk
        });
        let chunks: Vec<Chunk> = chunks.collect();
        let parcel = Parcel {
            name: "x".to_owned(),
            body: Body::from(Vec::new()),
            records: index,
            chunks,
            oldest_us: 0,
        };
        Batch { number: 1, id: uuid::Uuid::nil(), parcels: vec![parcel] }
    }

    #[test]
    fn what_was_left_out_is_recalled_however_the_batch_is_cut() {
        let failure = |code: &str| Failure::new(ErrorType::Database, code, "it's \"bad\"");
        let left_out = vec![
            LeftOut { place: (0, 0, 2), failure: failure("22P02") },
            LeftOut { place: (0, 1, 0), failure: failure("23505") },
        ];
        let noted = note(&batch(&[4, 3]), &left_out).unwrap();
        assert_eq!(recall(&batch(&[4, 3]), Some(&noted)).unwrap(), left_out);
        let other = recall(&batch(&[1, 1, 5]), Some(&noted)).unwrap();
        assert_eq!(other.iter().map(|it| it.place).collect::<Vec<_>>(), [(0, 2, 0), (0, 2, 2)]);
        assert_eq!(note(&batch(&[1]), &[]), None);
        assert_eq!(recall(&batch(&[1]), None).unwrap(), []);
        assert!(recall(&batch(&[1]), Some("x")).is_err());
    }
}
