//! PostgreSQL: the records of a batch into a table with `COPY ... FROM STDIN`.
//!
//! The promise: *exactly once*. A batch is one transaction, and in the same transaction the watermark
//! (`dest::watermark`) is set to it. Whoever delivers it again, after a kill at any moment, after an answer to
//! `COMMIT` that was lost, or beside another run, meets the watermark under its lock and does nothing.
//!
//! A row that the table will not take, for its data or for a constraint, is found with savepoints (`search`), is given
//! back as [`Refused`] with the server's words and its SQLSTATE, and all others are loaded. It is written beside the
//! watermark, so that a later run that only finds the batch applied gives back the same rows.
//!
//! Columns are the table's own; keys that name none are left out, or kept in a JSON column. An absent key is not the
//! same as `null`: it takes the column's default, whatever other records of the batch have. A time without a zone is UTC.

pub mod address;
mod connect;
pub(super) mod fault;
mod load;
mod propose;
mod row;
mod search;
pub mod settings;
mod table;
mod value;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::error::SqlState;

pub use address::{Address, AddressError, TableName};
pub(super) use connect::Session;
use fault::Fault;
use load::Loader;
use row::{Layout, Mode};
pub use settings::{Defaults, POSTGRESQL, Settings, SslMode, Surroundings};
use table::{Kind, Table};
pub use value::Epoch;

use super::metrics::Metrics;
use super::patience::{LeftOut, Patience};
use super::watermark::{Dialect, Standing, Watermark};
use super::{Batch, DeliveryError, Destination, Refused, RetryPolicy};
use crate::hose::cancel::Cancel;
use crate::sys::failpoint::failpoint;
use crate::sys::{Clock, System};

/// The table of the watermarks, where no other is named.
pub const WATERMARK: &str = "_khose";

/// A batch that takes longer than this has met a server that hangs: the connection is given up, and what it had begun
/// with it.
const ATTEMPT_LIMIT: Duration = Duration::from_mins(30);

/// How records become rows of a table.
#[derive(Debug, Clone)]
pub struct Options {
    /// The delivery's name: its watermark is kept under it.
    pub delivery: String,
    /// The table.
    pub table: TableName,
    /// The column that takes whole records (`json`, `jsonb`, `bytea` or a text), instead of a column for each key.
    pub column: Option<String>,
    /// The column (`json` or `jsonb`) that takes all that has no column of its own.
    pub rest: Option<String>,
    /// The table of the watermarks; `_khose` beside the table where none is named.
    pub watermark: Option<TableName>,
    /// Whether `Id` is not `id`.
    pub case_sensitive: bool,
    /// What numbers mean in columns of times.
    pub epoch: Epoch,
    /// Whether a missing table is made, after the first records.
    pub create_table: bool,
    /// How long it is tried.
    pub retry: RetryPolicy,
    /// The longest that one attempt may take.
    pub attempt_limit: Duration,
    /// Asks it to finish.
    pub cancel: Cancel,
}

impl Options {
    /// What is usual for a table.
    pub fn new(delivery: impl Into<String>, table: TableName) -> Self {
        Self {
            delivery: delivery.into(),
            table,
            column: None,
            rest: None,
            watermark: None,
            case_sensitive: false,
            epoch: Epoch::AsGiven,
            create_table: false,
            retry: RetryPolicy::default(),
            attempt_limit: ATTEMPT_LIMIT,
            cancel: Cancel::new(),
        }
    }

    /// What an address says behind its `?`: `table` (needed), `column`, `rest`, `watermark`, `epoch` (`seconds`, `millis`
    /// or `micros`), `case_sensitive`, `create_table`. What is left there is for [`Settings::complete`].
    pub fn of(address: &mut Address, delivery: impl Into<String>) -> Result<Self, AddressError> {
        let table = address
            .take("table")
            .ok_or_else(|| AddressError::new("which table? name it at the end of the URL: ?table=NAME"))?;
        let mut options = Self::new(delivery, TableName::parse(&table)?);
        options.column = address.take("column");
        options.rest = address.take("rest");
        options.watermark = address.take("watermark").map(|name| TableName::parse(&name)).transpose()?;
        options.case_sensitive = address.take_flag("case_sensitive")?;
        options.create_table = address.take_flag("create_table")?;
        options.epoch = match address.take("epoch").as_deref() {
            None => Epoch::AsGiven,
            Some("seconds") => Epoch::Seconds,
            Some("millis") => Epoch::Millis,
            Some("micros") => Epoch::Micros,
            Some(other) => {
                return Err(AddressError::new(format!("epoch={other}: seconds, millis or micros?")));
            }
        };
        if options.column.is_some() && options.rest.is_some() {
            return Err(AddressError::new("`column` takes whole records: nothing is left for `rest`"));
        }
        Ok(options)
    }
}

/// A table of a PostgreSQL database.
pub struct Postgres {
    settings: Settings,
    options: Options,
    watermark: Watermark,
    session: Option<Session>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Postgres {
    /// Nothing is asked of the database before the first batch.
    pub fn new(system: &System, settings: Settings, options: Options) -> Self {
        let watermark = Watermark {
            dialect: Dialect::Postgres,
            table: options.watermark.clone().unwrap_or_else(|| options.table.beside(WATERMARK)),
            delivery: options.delivery.clone(),
        };
        let metrics = Arc::new(Metrics::new("DeliveryToPostgreSQL"));
        let clock = Arc::clone(&system.clock);
        Self { settings, options, watermark, session: None, clock, metrics }
    }

    async fn attempt(&mut self, batch: &Batch) -> Result<Vec<LeftOut>, Fault> {
        // It is put back only when nothing is open on it: whoever drops this future drops the transaction.
        let mut session = Session::again(self.session.take(), &self.settings).await?;
        match self.apply(&session, batch).await {
            Ok(left_out) => {
                self.session = Some(session);
                Ok(left_out)
            }
            Err(fault) => Err(session.cause(fault).await),
        }
    }

    async fn apply(&self, session: &Session, batch: &Batch) -> Result<Vec<LeftOut>, Fault> {
        let client = &session.client;
        let run = async |sql: &str, doing: &str| {
            client.batch_execute(sql).await.map_err(|error| Fault::of(&error, doing))
        };
        run(BEGIN, "begin").await?;
        self.watermark.prepare(client).await?;
        let recent = match self.watermark.lock(client, batch).await? {
            Standing::New { recent } => recent,
            Standing::Applied { refused } => {
                run("ROLLBACK", "roll back").await?;
                return load::recall(batch, refused.as_deref());
            }
        };
        let layout = self.layout(session, batch).await?;
        let left_out = Loader::new(client, &self.options.table, &layout, batch).load().await?;
        let noted = load::note(batch, &left_out);
        self.watermark.set(client, batch, &recent, noted.as_deref(), self.clock.now_us()).await?;
        failpoint("postgres.loaded");
        // If the answer is lost, the next attempt finds out what became of it.
        run("COMMIT", "commit").await?;
        failpoint("postgres.committed");
        Ok(left_out)
    }

    /// How records become rows of the table as it is now.
    async fn layout(&self, session: &Session, batch: &Batch) -> Result<Layout, Fault> {
        let options = &self.options;
        let read = || Table::read(&session.client, &options.table, options.case_sensitive);
        let mut table = read().await?;
        if table.is_none() {
            self.make_table(session, batch).await?;
            table = read().await?;
        }
        let table = table.ok_or_else(|| {
            Fault::Permanent(format!("table {} was made and is not to be seen", options.table))
        })?;
        let named = |name: &str| {
            table
                .named(name)
                .ok_or_else(|| Fault::Permanent(format!("table {} has no column {name}", options.table)))
        };
        let wrong = |name: &str, type_name: &str, takes: &str| {
            Fault::Permanent(format!(
                "column {name} of table {} has type {type_name}, and not {takes}",
                options.table
            ))
        };
        let mode = if let Some(name) = &options.column {
            let i = named(name)?;
            let column = &table.columns[i];
            if !matches!(column.kind, Kind::Json | Kind::Bytes | Kind::Text) {
                return Err(wrong(name, &column.type_name, "json, jsonb, bytea or a text"));
            }
            Mode::Whole(i)
        } else {
            let rest = options.rest.as_deref().map(named).transpose()?;
            if let Some(column) = rest.map(|i| &table.columns[i])
                && column.kind != Kind::Json
            {
                return Err(wrong(&column.name, &column.type_name, "json or jsonb"));
            }
            Mode::Keys { rest }
        };
        Ok(Layout { table, mode, epoch: options.epoch })
    }

    async fn make_table(&self, session: &Session, batch: &Batch) -> Result<(), Fault> {
        let options = &self.options;
        let payloads = batch
            .parcels
            .iter()
            .flat_map(|parcel| &parcel.chunks)
            .flat_map(super::super::chunk::Chunk::payloads);
        let (column, rest) = (options.column.as_deref(), options.rest.as_deref());
        let sql = propose::create_table(&options.table, payloads, column, rest, options.case_sensitive);
        let missing = format!("there is no table {} in {}", options.table, self.settings.place());
        let Some(sql) = sql else { return Err(Fault::Permanent(missing)) };
        if !options.create_table {
            return Err(Fault::Permanent(format!("{missing}; try: {sql}")));
        }
        session.client.batch_execute(&sql).await.map_err(|error| match error.code().map(SqlState::code) {
            // Another run has just made it.
            Some("42P07" | "23505") => Fault::Transient(format!("{missing} yet")),
            _ => Fault::of(&error, &format!("cannot make table {}", options.table)),
        })
    }
}

/// Whoever holds the lock and is gone without a word is thrown out after ten minutes. What is committed is on the disk,
/// whatever the role's habit is: what is told here as delivered is not kept anywhere else. Constraints are looked at row
/// by row as long as a row can still be left out.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     SET LOCAL idle_in_transaction_session_timeout = '10min'; \
     SET LOCAL timezone = 'UTC'; \
     SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'; \
     SET CONSTRAINTS ALL IMMEDIATE";

impl Destination for Postgres {
    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Refused>, DeliveryError>> {
        async move {
            let (cancel, metrics) = (self.options.cancel.clone(), Arc::clone(&self.metrics));
            let limit = self.options.attempt_limit;
            super::rows::check(batch)?;
            let mut patience = Patience::new(batch, self.options.retry, &cancel, &metrics);
            loop {
                match patience.attempt(limit, self.attempt(batch)).await? {
                    Ok(left_out) => return Ok(patience.done(left_out, self.clock.now_us())),
                    Err(fault) => patience.after(fault).await?,
                }
            }
        }
        .boxed()
    }

    fn metrics(&self) -> Option<Arc<Metrics>> {
        Some(Arc::clone(&self.metrics))
    }
}
