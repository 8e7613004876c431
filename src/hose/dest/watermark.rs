//! How far a delivery has come, kept in the database that it goes to, in the same transaction as its rows.
//!
//! The promise: who holds the watermark's lock is alone, and what it says is what the table has. So a batch that is
//! delivered again, after a kill, a lost answer to `COMMIT` or beside another run, is met by its own mark and not loaded
//! twice.
//!
//! ```text
//! _khose   delivery  which delivery                       batch    the number of its last batch
//!          id        that batch                           updated  when
//!          recent    the numbers and ids of batches before it
//!          refused   the rows of the last batch that were left out, and why
//! ```
//!
//! `recent` is for a run that was overtaken: it asks about a batch that is not the last any more. `refused` is for one
//! that was killed between the commit here and its own: what was left out would be forgotten otherwise.

use std::fmt::Write as _;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use uuid::Uuid;

use super::Batch;
use super::postgres::address::{TableName, literal};
use super::postgres::fault::Fault;

/// So many batches back a batch is known again. Two runs of a delivery are never further apart than the one batch that
/// each has in hand.
const RECENT: usize = 15;

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// PostgreSQL 10 and later.
    Postgres,
    /// Redshift: no row locks, no `ON CONFLICT`, no UUIDs; keys are not enforced.
    Redshift,
}

/// A batch by its number and its id.
pub(super) type Known = (u64, Uuid);

/// The watermark of a delivery.
#[derive(Debug, Clone)]
pub(super) struct Watermark {
    pub(super) dialect: Dialect,
    /// The table that it is kept in.
    pub(super) table: TableName,
    /// The delivery's name.
    pub(super) delivery: String,
}

/// What the watermark says of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is to be loaded. `recent` is for [`Watermark::set`].
    New {
        /// The batches before it, the last first.
        recent: Vec<Known>,
    },
    /// It was loaded. `refused` is what was left out then, if it is the last.
    Applied {
        /// As it was given to [`Watermark::set`].
        refused: Option<String>,
    },
}

impl Watermark {
    /// Makes the table if it is missing. For Redshift that is to be done before the transaction begins: a transaction
    /// sees what was there at its first look, and that must be one behind the lock.
    pub(super) async fn prepare(&self, client: &Client) -> Result<(), Fault> {
        if self.is_there(client).await? { Ok(()) } else { self.create(client).await }
    }

    /// Takes the watermark's lock, within a transaction that has begun, and tells what it says.
    pub(super) async fn lock(&self, client: &Client, batch: &Batch) -> Result<Standing, Fault> {
        let (table, delivery) = (self.table.sql(), literal(&self.delivery));
        let take = match self.dialect {
            // The row is there before it is locked, so that two first batches wait for each other too.
            Dialect::Postgres => format!(
                "INSERT INTO {table} (delivery, batch, id, updated) VALUES ({delivery}, -1, '{}', now()) \
                 ON CONFLICT (delivery) DO NOTHING",
                Uuid::nil()
            ),
            Dialect::Redshift => format!("LOCK TABLE {table}"),
        };
        let locked = match self.dialect {
            Dialect::Postgres => " FOR UPDATE",
            Dialect::Redshift => "",
        };
        self.run(client, &take).await?;
        self.look(client, batch, locked).await
    }

    /// What the watermark says now, without a lock; [`Standing::New`] where there is none.
    pub(super) async fn peek(&self, client: &Client, batch: &Batch) -> Result<Standing, Fault> {
        if self.is_there(client).await? {
            self.look(client, batch, "").await
        } else {
            Ok(Standing::New { recent: Vec::new() })
        }
    }

    /// Says that the batch is loaded. It is so from the commit on.
    pub(super) async fn set(
        &self,
        client: &Client,
        batch: &Batch,
        recent: &[Known],
        refused: Option<&str>,
        now_us: i64,
    ) -> Result<(), Fault> {
        let (table, delivery) = (self.table.sql(), literal(&self.delivery));
        let mut ids = String::new();
        for (number, id) in recent.iter().take(RECENT) {
            let _ = write!(ids, "{}{number}:{}", if ids.is_empty() { "" } else { " " }, id.simple());
        }
        let refused = refused.map_or_else(|| "NULL".to_owned(), literal);
        let (number, id) = (batch.number, batch.id);
        if self.dialect == Dialect::Postgres {
            let sql = format!(
                "UPDATE {table} SET batch = {number}, id = '{id}', updated = now(), recent = '{ids}', \
                 refused = {refused} WHERE delivery = {delivery}"
            );
            return self.run(client, &sql).await.map(|_| ());
        }
        // `now()` is known on the leader only.
        let now = jiff::Timestamp::from_microsecond(now_us).unwrap_or_default();
        self.run(client, &format!("DELETE FROM {table} WHERE delivery = {delivery}")).await?;
        let sql = format!(
            "INSERT INTO {table} (delivery, batch, id, updated, recent) \
             VALUES ({delivery}, {number}, '{id}', '{now}', '{ids}')"
        );
        self.run(client, &sql).await.map(|_| ())
    }

    async fn look(&self, client: &Client, batch: &Batch, locked: &str) -> Result<Standing, Fault> {
        let refused = match self.dialect {
            Dialect::Postgres => ", refused",
            Dialect::Redshift => "",
        };
        let sql = format!(
            "SELECT batch, id, recent{refused} FROM {} WHERE delivery = {}{locked}",
            self.table.sql(),
            literal(&self.delivery)
        );
        let rows = self.run(client, &sql).await?;
        let Some(row) = rows.first() else { return Ok(Standing::New { recent: Vec::new() }) };
        // Before the first batch it is -1.
        let Some(last) = column(row, 0).and_then(|number| number.parse::<u64>().ok()) else {
            return Ok(Standing::New { recent: Vec::new() });
        };
        let recent = column(row, 2).unwrap_or_default().split_whitespace().filter_map(|known| {
            let (number, id) = known.split_once(':')?;
            Some((number.parse().ok()?, Uuid::parse_str(id).ok()?))
        });
        let last_id = column(row, 1).and_then(|id| Uuid::parse_str(id).ok()).unwrap_or_default();
        let known: Vec<Known> = std::iter::once((last, last_id)).chain(recent).collect();
        if last < batch.number {
            return Ok(Standing::New { recent: known });
        }
        match known.iter().find(|(number, _)| *number == batch.number) {
            Some((_, id)) if *id == batch.id => {
                let refused = (last == batch.number).then(|| column(row, 3).map(str::to_owned)).flatten();
                Ok(Standing::Applied { refused })
            }
            Some(_) => Err(Fault::Permanent(format!(
                "table {}: batch {} of delivery `{}` was another one: another delivery has the same name",
                self.table, batch.number, self.delivery
            ))),
            None => Err(Fault::Permanent(format!(
                "table {}: delivery `{}` has come to batch {last}, and this is batch {}: another delivery has the same \
                 name, or what this one knew of itself is gone",
                self.table, self.delivery, batch.number
            ))),
        }
    }

    async fn is_there(&self, client: &Client) -> Result<bool, Fault> {
        let sql = match (&self.table.schema, self.dialect) {
            (_, Dialect::Postgres) => format!("SELECT to_regclass({})::text", literal(&self.table.sql())),
            (Some(schema), Dialect::Redshift) => format!(
                "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
                 ON n.oid = c.relnamespace WHERE c.relname = {} AND n.nspname = {}",
                literal(&self.table.name),
                literal(schema)
            ),
            (None, Dialect::Redshift) => format!(
                "SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relname = {} \
                 AND pg_catalog.pg_table_is_visible(c.oid)",
                literal(&self.table.name)
            ),
        };
        let rows = self.run(client, &sql).await?;
        Ok(rows.first().is_some_and(|row| column(row, 0).is_some()))
    }

    async fn create(&self, client: &Client) -> Result<(), Fault> {
        let columns = match self.dialect {
            Dialect::Postgres => {
                "delivery text PRIMARY KEY, batch bigint NOT NULL, id uuid NOT NULL, updated timestamptz NOT NULL, \
                 recent text, refused text"
            }
            Dialect::Redshift => {
                "delivery varchar(1024) NOT NULL, batch bigint NOT NULL, id varchar(36) NOT NULL, \
                 updated timestamptz NOT NULL, recent varchar(1024)"
            }
        };
        let sql = format!("CREATE TABLE IF NOT EXISTS {} ({columns})", self.table.sql());
        match client.simple_query(&sql).await {
            Ok(_) => Ok(()),
            // Another run makes it at this very moment: it will be there next time.
            Err(error) if matches!(error.code().map(SqlState::code), Some("23505" | "42P07" | "42710")) => {
                Err(Fault::Transient(format!("table {} is being made by another run", self.table)))
            }
            Err(error) => {
                Err(Fault::of(&error, &format!("cannot make table {}", self.table)).map(|message| {
                    format!("{message}; somebody who may can: CREATE TABLE {} ({columns})", self.table.sql())
                }))
            }
        }
    }

    async fn run(&self, client: &Client, sql: &str) -> Result<Vec<SimpleQueryRow>, Fault> {
        let messages = client
            .simple_query(sql)
            .await
            .map_err(|error| Fault::of(&error, &format!("table {}", self.table)))?;
        Ok(rows(messages))
    }
}

/// The rows of an answer.
pub(super) fn rows(messages: Vec<SimpleQueryMessage>) -> Vec<SimpleQueryRow> {
    messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect()
}

/// A column of a row; `None` for NULL.
pub(super) fn column(row: &SimpleQueryRow, i: usize) -> Option<&str> {
    row.try_get(i).ok().flatten()
}
