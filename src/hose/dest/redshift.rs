//! Redshift: objects into a store, a manifest of them, and one `COPY ... MANIFEST` over the PostgreSQL protocol.
//!
//! The promise: *exactly once*, as for PostgreSQL. The `COPY` and the watermark (`dest::watermark`) are one
//! transaction, under a lock of the watermark's table, for Redshift has no locks of rows. Objects and manifest have names
//! that follow from the batch and are overwritten when it is done again; as with the service they stay when they are
//! loaded.
//!
//! When a batch is given up, its manifest is put under `errors/` too, as the service does, and the error names it. The
//! batch is not passed over: the next run tries it again, and takes the manifest away once it is loaded.
//!
//! What is proved: the statements, their order, the objects and the manifest, against PostgreSQL behind a proxy that
//! understands this one `COPY`. What is not, for there is no Redshift to try it on: that a real one takes these
//! statements, its own ways of asking for a password, and how it words its errors.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::metrics::Metrics;
use super::patience::Patience;
use super::postgres::address::{identifier, literal};
use super::postgres::fault::Fault;
use super::postgres::{Address, AddressError, Defaults, Session, Settings, SslMode, TableName, WATERMARK};
use super::watermark::{Dialect, Standing, Watermark};
use super::{Batch, DeliveryError, Destination, Parcel, Refused, RetryPolicy};
use crate::hose::cancel::Cancel;
use crate::hose::format::body::Body;
use crate::hose::store::{Attributes, PutMode, Store, StoreError};
use crate::sys::failpoint::failpoint;
use crate::sys::{Clock, System};

/// Redshift's own port, and its certificates are of an authority that every machine knows.
pub const REDSHIFT: Defaults = Defaults { port: 5439, ssl: SslMode::VerifyFull };

/// The service's: an hour, a `COPY` every five minutes.
pub const RETRY: RetryPolicy = RetryPolicy {
    duration: Duration::from_hours(1),
    first_pause: Duration::from_mins(5),
    longest_pause: Duration::from_mins(5),
};

/// The longest that one attempt may take: a busy cluster keeps a `COPY` waiting in its queue.
const ATTEMPT_LIMIT: Duration = Duration::from_hours(1);

/// So many objects are on their way to the store at once.
const AT_ONCE: usize = 8;

/// How the objects are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFormat {
    /// JSON objects: `auto`, `auto ignorecase`, or the URL of a `jsonpaths` file.
    Json(String),
    /// CSV, perhaps with a line of names.
    Csv {
        /// Whether the first line is to be passed over.
        header: bool,
    },
    /// Fields between tabs, quoted as in CSV.
    Tsv {
        /// Whether the first line is to be passed over.
        header: bool,
    },
    /// Parquet.
    Parquet,
}

impl CopyFormat {
    /// The format of objects that khose writes: `ndjson`, `csv`, `tsv` or `parquet`.
    pub fn of(output: &str, header: bool) -> Result<Self, AddressError> {
        Ok(match output {
            "ndjson" => Self::Json("auto".to_owned()),
            "csv" => Self::Csv { header },
            "tsv" => Self::Tsv { header },
            "parquet" => Self::Parquet,
            other => {
                return Err(AddressError::new(format!(
                    "Redshift's COPY does not read {other}: -o ndjson, csv, tsv or parquet"
                )));
            }
        })
    }

    fn clause(&self) -> String {
        let skip = |header: bool| if header { " IGNOREHEADER 1" } else { "" };
        // Without `auto` it takes no `T` between a day and a time.
        match self {
            Self::Json(paths) => format!("FORMAT AS JSON {} TIMEFORMAT 'auto'", literal(paths)),
            Self::Csv { header } => format!("FORMAT AS CSV TIMEFORMAT 'auto'{}", skip(*header)),
            Self::Tsv { header } => {
                format!("FORMAT AS CSV DELIMITER '\\t' TIMEFORMAT 'auto'{}", skip(*header))
            }
            Self::Parquet => "FORMAT AS PARQUET".to_owned(),
        }
    }
}

/// The word for a compression in a `COPY`; nothing for none.
fn compression_word(compression: &str) -> Result<&'static str, AddressError> {
    // The level is no matter for who reads.
    let name = compression.split_once(':').map_or(compression, |(name, _)| name);
    Ok(match name {
        "" | "none" => "",
        "gzip" => " GZIP",
        "zstd" => " ZSTD",
        other => {
            return Err(AddressError::new(format!(
                "Redshift's COPY does not read {other}: --compression none, gzip or zstd"
            )));
        }
    })
}

/// What is copied into which table, and as whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// The delivery's name: its watermark is kept under it.
    pub delivery: String,
    /// The table.
    pub table: TableName,
    /// The columns that the objects have; all of the table's where none are named.
    pub columns: Vec<String>,
    /// The URL of the store that the objects go through.
    pub staging: String,
    /// What Redshift reads the store as: a role's ARN, or `default`.
    pub iam_role: String,
    /// The region of the store, where it is another than the cluster's.
    pub region: Option<String>,
    /// How the objects are read.
    pub format: CopyFormat,
    /// How they are compressed: `none`, `gzip` or `zstd`, perhaps with a level (`gzip:6`).
    pub compression: String,
    /// More of the `COPY`, as it is written there.
    pub copy_options: String,
    /// The table of the watermarks; `_khose` beside the table where none is named.
    pub watermark: Option<TableName>,
    /// How long it is tried.
    pub retry: RetryPolicy,
    /// The longest that one attempt may take.
    pub attempt_limit: Duration,
    /// Asks it to finish.
    pub cancel: Cancel,
}

impl Options {
    /// What an address says behind its `?`: `table`, `staging` and `iam_role` (needed), `columns` (`a,b,c`), `region`,
    /// `copy_options`, `watermark`. Format and compression are those of the objects. What is left there is for
    /// [`Settings::complete`].
    pub fn of(address: &mut Address, delivery: impl Into<String>) -> Result<Self, AddressError> {
        let mut needed = |key: &str, what: &str| {
            address
                .take(key)
                .ok_or_else(|| AddressError::new(format!("{what}? name it at the end of the URL: {key}=...")))
        };
        let table = TableName::parse(&needed("table", "which table")?)?;
        let staging = needed("staging", "which store do the objects go through")?;
        let iam_role = needed("iam_role", "as whom does Redshift read the store")?;
        let columns = address.take("columns").unwrap_or_default();
        Ok(Self {
            delivery: delivery.into(),
            table,
            columns: columns.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            staging,
            iam_role,
            region: address.take("region"),
            format: CopyFormat::Json("auto".to_owned()),
            compression: "none".to_owned(),
            copy_options: address.take("copy_options").unwrap_or_default(),
            watermark: address.take("watermark").map(|name| TableName::parse(&name)).transpose()?,
            retry: RETRY,
            attempt_limit: ATTEMPT_LIMIT,
            cancel: Cancel::new(),
        })
    }

    /// The `COPY` of what a manifest names.
    fn copy(&self, manifest: &str) -> Result<String, AddressError> {
        let plain = |what: &str, text: &str| {
            let is_plain = !text.contains(['\'', '\\', ';']) && !text.chars().any(char::is_control);
            let wrong = || AddressError::new(format!("{what} has a quote, a backslash or a semicolon in it"));
            is_plain.then(|| format!("'{text}'")).ok_or_else(wrong)
        };
        let mut sql = format!("COPY {}", self.table.sql());
        if !self.columns.is_empty() {
            let names: Vec<String> = self.columns.iter().map(|name| identifier(name)).collect();
            let _ = write!(sql, " ({})", names.join(", "));
        }
        let _ = write!(sql, " FROM {}", plain("the manifest's name", manifest)?);
        sql += " IAM_ROLE ";
        sql += &match self.iam_role.as_str() {
            "default" => "default".to_owned(),
            role => plain("iam_role", role)?,
        };
        if let Some(region) = &self.region {
            let _ = write!(sql, " REGION {}", plain("region", region)?);
        }
        let _ = write!(sql, " {}", self.format.clause());
        if self.format != CopyFormat::Parquet {
            sql += compression_word(&self.compression)?;
        }
        sql += " MANIFEST";
        let more = self.copy_options.trim();
        if !more.is_empty() {
            let upper = more.to_uppercase();
            if ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "CREDENTIALS"]
                .iter()
                .any(|word| upper.contains(word))
            {
                return Err(AddressError::new(
                    "a key in copy_options is seen by everybody (ps, the shell's history, logs): use iam_role",
                ));
            }
            if more.contains(';') {
                return Err(AddressError::new("copy_options are of one statement: no semicolon"));
            }
            let _ = write!(sql, " {more}");
        }
        Ok(sql)
    }
}

/// A manifest, as `COPY` reads it.
#[derive(Serialize)]
struct Manifest {
    entries: Vec<ManifestEntry>,
}

#[derive(Serialize)]
struct ManifestEntry {
    url: String,
    mandatory: bool,
    meta: Meta,
}

/// Parquet needs the length, and for the others it is a check.
#[derive(Serialize)]
struct Meta {
    content_length: u64,
}

/// A table of a Redshift cluster.
pub struct Redshift {
    settings: Settings,
    options: Options,
    staging: Arc<dyn Store>,
    watermark: Watermark,
    session: Option<Session>,
    /// The batch whose objects are in the store.
    staged: Option<uuid::Uuid>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Redshift {
    /// Nothing is asked of the cluster before the first batch. `staging` is the store that [`Options::staging`] names.
    pub fn new(
        system: &System,
        settings: Settings,
        options: Options,
        staging: Arc<dyn Store>,
    ) -> Result<Self, AddressError> {
        // What will not do is known before there is anything to deliver.
        options.copy("s3://x/y")?;
        if options.delivery.contains('\\') {
            return Err(AddressError::new("the delivery's name has a backslash in it"));
        }
        let watermark = Watermark {
            dialect: Dialect::Redshift,
            table: options.watermark.clone().unwrap_or_else(|| options.table.beside(WATERMARK)),
            delivery: options.delivery.clone(),
        };
        let (clock, metrics) = (Arc::clone(&system.clock), Arc::new(Metrics::new("DeliveryToRedshift")));
        Ok(Self { settings, options, staging, watermark, session: None, staged: None, clock, metrics })
    }

    async fn attempt(&mut self, batch: &Batch) -> Result<(), Fault> {
        let mut session = Session::again(self.session.take(), &self.settings).await?;
        match self.apply(&session, batch).await {
            Ok(()) => self.session = Some(session),
            Err(fault) => return Err(session.cause(fault).await),
        }
        // One that was left by a run which gave up: what is loaded must not be loaded by hand.
        self.staging.delete(&self.manifest_name(batch, ERRORS)).await.map_err(|error| of_store(&error))
    }

    async fn apply(&mut self, session: &Session, batch: &Batch) -> Result<(), Fault> {
        let client = &session.client;
        if self.staged != Some(batch.id) {
            // To ask costs less than to store it all again.
            if matches!(self.watermark.peek(client, batch).await?, Standing::Applied { .. }) {
                return Ok(());
            }
            self.stage(batch).await?;
            self.staged = Some(batch.id);
            failpoint("redshift.staged");
        }
        let run = async |sql: &str, doing: &str| {
            client.simple_query(sql).await.map(|_| ()).map_err(|error| of_redshift(&error, doing))
        };
        self.watermark.prepare(client).await?;
        run("BEGIN", "begin").await?;
        let recent = match self.watermark.lock(client, batch).await? {
            Standing::New { recent } => recent,
            Standing::Applied { .. } => return run("ROLLBACK", "roll back").await,
        };
        if loaded(batch).next().is_some() {
            let manifest = self.staging.url(&self.manifest_name(batch, ""));
            let sql = self.options.copy(&manifest).map_err(|error| Fault::Permanent(error.to_string()))?;
            run(&sql, &format!("copy into {}", self.options.table)).await?;
        }
        self.watermark.set(client, batch, &recent, None, self.clock.now_us()).await?;
        failpoint("redshift.loaded");
        run("COMMIT", "commit").await?;
        failpoint("redshift.committed");
        Ok(())
    }

    async fn stage(&self, batch: &Batch) -> Result<(), Fault> {
        let attributes = Attributes::default();
        let put = |parcel: &'_ Parcel| (parcel.name.clone(), parcel.body.clone());
        let parcels: Vec<(String, Body)> = loaded(batch).map(put).collect();
        let puts: Vec<_> = parcels
            .iter()
            .map(|(name, body)| self.staging.put(name, body, PutMode::Overwrite, &attributes))
            .collect();
        stream::iter(puts)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
            .map_err(|error| of_store(&error))?;
        self.put_manifest(batch, "").await
    }

    async fn put_manifest(&self, batch: &Batch, below: &str) -> Result<(), Fault> {
        let entries = loaded(batch).map(|parcel| ManifestEntry {
            url: self.staging.url(&parcel.name),
            mandatory: true,
            meta: Meta { content_length: parcel.body.len() },
        });
        let manifest = Manifest { entries: entries.collect() };
        let json = serde_json::to_vec(&manifest).map_err(|error| Fault::Permanent(error.to_string()))?;
        let attributes =
            Attributes { content_type: Some("application/json".to_owned()), ..Attributes::default() };
        let (name, body) = (self.manifest_name(batch, below), Body::from(json));
        let put = self.staging.put(&name, &body, PutMode::Overwrite, &attributes);
        put.await.map_err(|error| of_store(&error))
    }

    /// The same for every attempt at a batch, and for no other batch.
    fn manifest_name(&self, batch: &Batch, below: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let delivery: String = self.options.delivery.chars().map(plain).collect();
        format!("{below}manifests/{delivery}/{:020}-{}.manifest", batch.number, batch.id.simple())
    }

    /// The batch is given up: says where its manifest is.
    async fn give_up(&self, batch: &Batch, error: DeliveryError) -> DeliveryError {
        let note = |message: String, url: &str| format!("{message}; what was to be loaded is in {url}");
        if self.staged != Some(batch.id) || loaded(batch).next().is_none() {
            return error;
        }
        if self.put_manifest(batch, ERRORS).await.is_err() {
            return error;
        }
        let url = self.staging.url(&self.manifest_name(batch, ERRORS));
        match error {
            DeliveryError::Transient(message) => DeliveryError::Transient(note(message, &url)),
            DeliveryError::Permanent(message) => DeliveryError::Permanent(note(message, &url)),
            other => other,
        }
    }
}

/// Where manifests of batches go that were given up.
const ERRORS: &str = "errors/";

/// The objects with something in them.
fn loaded(batch: &Batch) -> impl Iterator<Item = &Parcel> {
    batch.parcels.iter().filter(|parcel| parcel.records > 0 && !parcel.body.is_empty())
}

fn of_store(error: &StoreError) -> Fault {
    let message = format!("staging: {error}");
    if error.is_transient() { Fault::Transient(message) } else { Fault::Permanent(message) }
}

/// Redshift says `XX000` (an internal error) of all that is its own; what it means stands in the message.
fn of_redshift(error: &tokio_postgres::Error, doing: &str) -> Fault {
    let fault = Fault::of(error, doing);
    let Some(db) = error.as_db_error() else { return fault };
    sort(fault, db.message(), db.detail().unwrap_or_default())
}

fn sort(fault: Fault, message: &str, detail: &str) -> Fault {
    /// What passes: another transaction was first; the store had too much to do.
    const PASSING: [&str; 5] = [
        "erializable isolation violation",
        "SlowDown",
        "ServiceUnavailable",
        "InternalError",
        "RequestTimeout",
    ];
    match fault {
        Fault::Permanent(said)
            if PASSING.iter().any(|word| message.contains(word) || detail.contains(word)) =>
        {
            Fault::Transient(said)
        }
        Fault::Permanent(said) if message.contains("stl_load_errors") => Fault::Permanent(format!(
            "{said}; try: SELECT filename, line_number, colname, err_reason FROM stl_load_errors \
             ORDER BY starttime DESC LIMIT 10"
        )),
        fault => fault,
    }
}

impl Destination for Redshift {
    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Refused>, DeliveryError>> {
        async move {
            let (cancel, metrics) = (self.options.cancel.clone(), Arc::clone(&self.metrics));
            let limit = self.options.attempt_limit;
            let mut patience = Patience::new(batch, self.options.retry, &cancel, &metrics);
            loop {
                match patience.attempt(limit, self.attempt(batch)).await? {
                    Ok(()) => return Ok(patience.done(Vec::new(), self.clock.now_us())),
                    Err(fault) => {
                        if let Err(error) = patience.after(fault).await {
                            return Err(self.give_up(batch, error).await);
                        }
                    }
                }
            }
        }
        .boxed()
    }

    fn metrics(&self) -> Option<Arc<Metrics>> {
        Some(Arc::clone(&self.metrics))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str) -> Result<Options, AddressError> {
        let mut address = Address::parse(&format!("redshift://joe@h/db?{query}")).unwrap();
        Options::of(&mut address, "d")
    }

    const USUAL: &str = "table=web.clicks&staging=s3://b/p/&iam_role=arn:aws:iam::123456789012:role/load";

    #[test]
    fn the_copy_names_all_that_it_needs() {
        let usual = options(USUAL).unwrap();
        assert_eq!(usual.staging, "s3://b/p/");
        assert_eq!(
            usual.copy("s3://b/p/m.manifest").unwrap(),
            "COPY \"web\".\"clicks\" FROM 's3://b/p/m.manifest' IAM_ROLE 'arn:aws:iam::123456789012:role/load' \
             FORMAT AS JSON 'auto' TIMEFORMAT 'auto' MANIFEST"
        );
        let mut more = options(
            "table=t&staging=s3://b/&iam_role=default&columns=id,at&region=eu-west-1&copy_options=MAXERROR%205",
        )
        .unwrap();
        more.format = CopyFormat::of("csv", true).unwrap();
        more.compression = "gzip:6".to_owned();
        assert_eq!(
            more.copy("s3://b/m").unwrap(),
            "COPY \"t\" (\"id\", \"at\") FROM 's3://b/m' IAM_ROLE default REGION 'eu-west-1' \
             FORMAT AS CSV TIMEFORMAT 'auto' IGNOREHEADER 1 GZIP MANIFEST MAXERROR 5"
        );
        more.format = CopyFormat::of("parquet", false).unwrap();
        assert!(more.copy("s3://b/m").unwrap().contains("FORMAT AS PARQUET MANIFEST"));
        more.format = CopyFormat::of("tsv", false).unwrap();
        assert!(more.copy("s3://b/m").unwrap().contains("DELIMITER '\\t' TIMEFORMAT 'auto' GZIP"));
    }

    #[test]
    fn what_a_copy_cannot_have_is_refused() {
        for missing in ["staging=s&iam_role=r", "table=t&iam_role=r", "table=t&staging=s"] {
            assert!(options(missing).is_err(), "{missing}");
        }
        let wrong = |query: &str| {
            let error =
                options(&format!("{USUAL}&{query}")).unwrap().copy("s3://b/m").unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
            error
        };
        assert!(wrong("copy_options=access_key_id%20'hunter2'").contains("use iam_role"));
        assert!(wrong("copy_options=x;drop").contains("one statement"));
        assert!(wrong("region=x'y").contains("region has a quote"));
        assert!(options(USUAL).unwrap().copy("s3://b/it's").is_err());
        assert!(CopyFormat::of("arrow", false).is_err());
        let mut packed = options(USUAL).unwrap();
        packed.compression = "snappy".to_owned();
        assert!(packed.copy("s3://b/m").unwrap_err().to_string().contains("snappy"));
    }

    #[test]
    fn what_redshift_says_is_sorted() {
        let fault = |message: &str, detail: &str| sort(Fault::Permanent("said".to_owned()), message, detail);
        assert!(matches!(fault("1023", "Serializable isolation violation on table"), Fault::Transient(_)));
        assert!(matches!(fault("S3ServiceException:SlowDown,Status 503", ""), Fault::Transient(_)));
        let load = fault("Load into table 'x' failed. Check 'stl_load_errors' system table for details.", "");
        assert!(matches!(load, Fault::Permanent(said) if said.contains("try: SELECT")));
        assert_eq!(fault("no such table", ""), Fault::Permanent("said".to_owned()));
    }
}
