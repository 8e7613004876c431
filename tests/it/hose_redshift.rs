//! Batches into a stand-in for Redshift: PostgreSQL, behind a proxy that carries out the one statement that only Redshift
//! has, `COPY ... FROM 's3://...' ... MANIFEST`, from a directory.
//!
//! What this proves is the way through store, manifest, `COPY` and watermark, and that it comes out once whatever is cut.
//! That a real Redshift takes these statements it does not prove.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use kpipe::hose::dest::postgres::{Address, Settings};
use kpipe::hose::dest::redshift::{CopyFormat, Options, REDSHIFT, Redshift};
use kpipe::hose::dest::{Batch, DeliveryError, Destination, Parcel};
use kpipe::hose::format::body::Body;
use kpipe::hose::store::local::LocalStore;
use kpipe::hose::store::{Attributes, Listed, PutMode, Store, StoreError};
use kpipe::sys::System;
use uuid::Uuid;

use crate::hose_postgres::{QUICK, around};
use crate::postgres_proxy::{Decide, Fate, Message, proxy};
use crate::postgres_server::{Database, block_on};

/// The bucket that everything goes through, in a directory.
const BUCKET: &str = "s3://lake/staging/";

/// A store in a directory whose objects are called as those of the bucket.
struct Bucket(LocalStore);

impl Bucket {
    fn below(dir: &Path) -> Arc<Self> {
        Arc::new(Self(LocalStore::new(&System::real(), dir)))
    }
}

impl Store for Bucket {
    fn url(&self, name: &str) -> String {
        format!("{BUCKET}{name}")
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        body: &'a Body,
        mode: PutMode,
        attributes: &'a Attributes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.put(name, body, mode, attributes)
    }

    fn get<'a>(&'a self, name: &'a str, max: u64) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        self.0.get(name, max)
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: std::ops::Range<u64>,
    ) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        self.0.get_range(name, range)
    }

    fn head<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Listed>, StoreError>> {
        self.0.head(name)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        self.0.list(prefix, after)
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.delete(name)
    }
}

/// What Redshift would do with a `COPY`, as a statement of PostgreSQL.
fn carry_out(copy: &str, bucket: &Path) -> String {
    let between = |from: &str, to: &str| {
        let rest = &copy[copy.find(from).unwrap_or_else(|| panic!("no {from} in {copy}")) + from.len()..];
        rest[..rest.find(to).expect("its end")].to_owned()
    };
    assert!(copy.contains(" IAM_ROLE 'arn:aws:iam::1:role/load' ") && copy.contains(" MANIFEST"), "{copy}");
    let target = between("COPY ", " FROM");
    let table = target.split(' ').next().expect("a table");
    let read = |url: &str| {
        let name = url.strip_prefix(BUCKET).unwrap_or_else(|| panic!("{url} lies elsewhere"));
        fs::read(bucket.join(name)).unwrap_or_else(|error| panic!("{url}: {error}"))
    };
    let manifest: serde_json::Value =
        serde_json::from_slice(&read(&between("FROM '", "'"))).expect("a manifest");
    let mut lines = Vec::new();
    for entry in manifest["entries"].as_array().expect("entries") {
        assert_eq!(entry["mandatory"], true);
        let bytes = read(entry["url"].as_str().expect("a URL"));
        assert_eq!(entry["meta"]["content_length"], bytes.len());
        let mut text = String::new();
        if copy.contains(" GZIP") {
            flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("gzip");
        } else {
            text = String::from_utf8(bytes).expect("text");
        }
        let skip = usize::from(copy.contains(" IGNOREHEADER 1"));
        lines.extend(text.lines().skip(skip).map(str::to_owned));
    }
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    if copy.contains("FORMAT AS JSON 'auto'") {
        let lines: Vec<String> = lines.iter().map(|line| quoted(line)).collect();
        let columns = target.strip_prefix(table).expect("it begins so").trim().trim_matches(['(', ')']);
        let columns = if columns.is_empty() { "*" } else { columns };
        format!(
            "INSERT INTO {target} SELECT {columns} FROM (SELECT (json_populate_record(NULL::{table}, line::json)).* \
             FROM unnest(ARRAY[{}]::text[]) line) rows",
            lines.join(",")
        )
    } else {
        assert!(copy.contains("FORMAT AS CSV"), "{copy}");
        let rows: Vec<String> = lines
            .iter()
            .map(|line| format!("({})", line.split(',').map(quoted).collect::<Vec<_>>().join(",")))
            .collect();
        format!("INSERT INTO {target} VALUES {}", rows.join(","))
    }
}

/// A stand-in; `fate` is asked first.
fn stand_in(
    db: &Database,
    bucket: &Path,
    fate: impl Fn(&Message<'_>) -> Option<Fate> + Send + Sync + 'static,
) -> (u16, Arc<Mutex<Vec<String>>>) {
    let statements = Arc::new(Mutex::new(Vec::new()));
    let (bucket, told) = (bucket.to_owned(), Arc::clone(&statements));
    let decide: Decide = Arc::new(move |message| {
        if let Some(statement) = message.statement() {
            told.lock().expect("no panic").push(statement.to_owned());
        }
        let own = || match message.statement() {
            Some(statement) if statement.starts_with("COPY ") => Fate::Instead(carry_out(statement, &bucket)),
            _ => Fate::Forward,
        };
        fate(message).unwrap_or_else(own)
    });
    (proxy(db.server.port, decide), statements)
}

fn destination(db: &Database, port: u16, bucket: &Path, query: &str) -> Redshift {
    let url = format!(
        "redshift://tester@127.0.0.1:{port}/{}?table=t&staging={BUCKET}&iam_role=arn:aws:iam::1:role/load\
         &sslmode=disable{query}",
        db.name
    );
    let mut address = Address::parse(&url).expect("a URL");
    let mut options = Options::of(&mut address, "test").expect("options");
    options.retry = QUICK;
    "gzip".clone_into(&mut options.compression);
    let settings =
        Settings::complete(address, REDSHIFT, &around(Path::new("/nonexistent"), &[])).expect("settings");
    Redshift::new(&System::real(), settings, options, Bucket::below(bucket)).expect("a destination")
}

/// A batch of objects with these texts.
fn batch(number: u64, texts: &[String]) -> Batch {
    let parcel = |(i, text): (usize, &String)| {
        let mut packed = flate2::read::GzEncoder::new(text.as_bytes(), flate2::Compression::fast());
        let mut bytes = Vec::new();
        packed.read_to_end(&mut bytes).expect("gzip");
        Parcel {
            name: format!("2026/{number}/object-{i}.gz"),
            body: bytes.into(),
            chunks: Vec::new(),
            records: text.lines().count() as u64,
            oldest_us: 1,
        }
    };
    let parcels = texts.iter().enumerate().map(parcel).collect();
    Batch { number, id: Uuid::from_u128(u128::from(number) + 500), parcels }
}

fn json(from: u64, to: u64) -> String {
    let lines: Vec<String> = (from..to).map(|i| format!(r#"{{"id":{i},"name":"it's {i}"}}"#)).collect();
    lines.join("\n") + "\n"
}

fn deliver(to: &mut Redshift, batch: &Batch) -> Result<(), DeliveryError> {
    block_on(to.deliver(batch)).map(|refused| assert!(refused.is_empty()))
}

fn manifests(bucket: &Path, below: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(bucket.join(below).join("manifests/test"))
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("a name").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn objects_then_a_manifest_then_one_copy_with_the_watermark() {
    let Some(db) = Database::new() else { return };
    let bucket = tempfile::tempdir().unwrap();
    db.sql("CREATE TABLE t (id int, name text, more text)");
    let (port, statements) = stand_in(&db, bucket.path(), |_| None);
    let mut to = destination(&db, port, bucket.path(), "&columns=id,name");
    let one = batch(1, &[json(0, 50), json(50, 80), String::new()]);
    deliver(&mut to, &one).unwrap();
    let seen: Vec<String> = statements
        .lock()
        .unwrap()
        .iter()
        .map(|statement| statement.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        seen,
        [
            "SELECT c.relname",
            "SELECT c.relname",
            "CREATE TABLE",
            "BEGIN",
            "LOCK TABLE",
            "SELECT batch,",
            "COPY \"t\"",
            "DELETE FROM",
            "INSERT INTO",
            "COMMIT"
        ]
    );
    deliver(&mut to, &one).unwrap();
    deliver(&mut destination(&db, port, bucket.path(), "&columns=id,name"), &one).unwrap();
    deliver(&mut to, &batch(2, &[json(80, 90)])).unwrap();
    // Nothing to load, and still the batch has been.
    deliver(&mut to, &batch(3, &[])).unwrap();
    assert_eq!(db.sql("SELECT count(*), count(DISTINCT id), min(name) FROM t"), [["90", "90", "it's 0"]]);
    assert_eq!(db.sql("SELECT delivery, batch FROM _khose"), [["test", "3"]]);
    let names = manifests(bucket.path(), "");
    assert_eq!(names.len(), 3, "{names:?}");
    let manifest = fs::read_to_string(bucket.path().join("manifests/test").join(&names[0])).unwrap();
    let sizes: Vec<u64> = one.parcels.iter().map(|parcel| parcel.body.len()).collect();
    assert_eq!(
        manifest,
        format!(
            "{{\"entries\":[{{\"url\":\"{BUCKET}2026/1/object-0.gz\",\"mandatory\":true,\"meta\":{{\"content_length\":{}}}}},\
             {{\"url\":\"{BUCKET}2026/1/object-1.gz\",\"mandatory\":true,\"meta\":{{\"content_length\":{}}}}}]}}",
            sizes[0], sizes[1]
        )
    );
}

#[test]
fn csv_with_a_line_of_names() {
    let Some(db) = Database::new() else { return };
    let bucket = tempfile::tempdir().unwrap();
    db.sql("CREATE TABLE t (id text, name text)");
    let (port, _) = stand_in(&db, bucket.path(), |_| None);
    let url = format!(
        "redshift://tester@127.0.0.1:{port}/{}?table=t&staging=x&iam_role=arn:aws:iam::1:role/load&sslmode=disable",
        db.name
    );
    let mut address = Address::parse(&url).unwrap();
    let mut options = Options::of(&mut address, "test").unwrap();
    options.format = CopyFormat::of("csv", true).unwrap();
    "gzip".clone_into(&mut options.compression);
    let settings = Settings::complete(address, REDSHIFT, &around(Path::new("/nonexistent"), &[])).unwrap();
    let store = Bucket::below(bucket.path());
    let mut to = Redshift::new(&System::real(), settings, options, store).unwrap();
    deliver(&mut to, &batch(1, &["id,name\n1,a\n2,b\n".to_owned(), "id,name\n3,c\n".to_owned()])).unwrap();
    assert_eq!(db.one("SELECT string_agg(id || name, ' ' ORDER BY id) FROM t"), "1a 2b 3c");
}

#[test]
fn a_connection_that_is_cut_anywhere_doubles_nothing() {
    let Some(db) = Database::new() else { return };
    let bucket = tempfile::tempdir().unwrap();
    db.sql("CREATE TABLE t (id int, name text)");
    let mut number = 0;
    for nth in 1..=10 {
        for after in [false, true] {
            number += 1;
            let seen = AtomicUsize::new(0);
            let (port, _) = stand_in(&db, bucket.path(), move |message| {
                message.statement()?;
                let is_it = seen.fetch_add(1, Ordering::SeqCst) + 1 == nth;
                is_it.then_some(if after { Fate::CutAfter } else { Fate::CutBefore })
            });
            let one = batch(number, &[json(0, 20)]);
            deliver(&mut destination(&db, port, bucket.path(), ""), &one).unwrap();
            deliver(&mut destination(&db, port, bucket.path(), ""), &one).unwrap();
            assert_eq!(db.one("SELECT count(*) FROM t"), (number * 20).to_string(), "{nth} {after}");
        }
    }
}

#[test]
fn two_runs_at_once_load_each_batch_once() {
    let Some(db) = Database::new() else { return };
    let bucket = tempfile::tempdir().unwrap();
    db.sql("CREATE TABLE t (id int, name text)");
    let (port, _) = stand_in(&db, bucket.path(), |_| None);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut to = destination(&db, port, bucket.path(), "");
                for number in 1..=8 {
                    deliver(&mut to, &batch(number, &[json(0, 10)])).unwrap();
                }
            });
        }
    });
    assert_eq!(db.one("SELECT count(*) FROM t"), "80");
}

#[test]
fn a_batch_that_is_given_up_leaves_its_manifest_until_it_is_loaded() {
    let Some(db) = Database::new() else { return };
    let bucket = tempfile::tempdir().unwrap();
    db.sql("CREATE TABLE t (id int, name text)");
    let failing = |text: &'static str| {
        let raise =
            format!("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'XX000', MESSAGE = '{text}'; END $$");
        let (port, statements) = stand_in(&db, bucket.path(), move |message| {
            message
                .statement()
                .filter(|statement| statement.starts_with("COPY "))
                .map(|_| Fate::Instead(raise.clone()))
        });
        (port, statements)
    };
    let one = batch(1, &[json(0, 10)]);
    let bad = "Load into table t failed.  Check stl_load_errors system table for details.";
    let (port, statements) = failing(bad);
    let error = deliver(&mut destination(&db, port, bucket.path(), ""), &one).unwrap_err();
    let DeliveryError::Permanent(line) = error else { panic!("{error}") };
    assert!(
        line.contains("try: SELECT") && line.contains(&format!("{BUCKET}errors/manifests/test/")),
        "{line}"
    );
    assert_eq!(statements.lock().unwrap().iter().filter(|it| it.starts_with("COPY")).count(), 1);
    // What passes is tried again, as long as it may be.
    let (port, statements) =
        failing("S3ServiceException:Please reduce your request rate.,Status 503,Error SlowDown");
    let url = destination(&db, port, bucket.path(), "");
    let mut impatient = url;
    let error = block_on(async {
        tokio::time::timeout(std::time::Duration::from_millis(600), impatient.deliver(&one))
            .await
            .map_err(|_| "late")
    });
    assert_eq!(error.map(|_| ()), Err("late"));
    assert!(statements.lock().unwrap().iter().filter(|it| it.starts_with("COPY")).count() > 1);
    assert_eq!(manifests(bucket.path(), "errors"), manifests(bucket.path(), ""));
    assert_eq!(db.one("SELECT count(*) FROM t"), "0");
    // It works again: nothing is left to be loaded by hand.
    let (port, _) = stand_in(&db, bucket.path(), |_| None);
    deliver(&mut destination(&db, port, bucket.path(), ""), &one).unwrap();
    assert_eq!(db.one("SELECT count(*) FROM t"), "10");
    assert_eq!(manifests(bucket.path(), "errors"), [""; 0]);
}
