//! Batches into a real PostgreSQL through the library: types, rows that do not fit, and each batch once whatever happens.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kpipe::hose::cancel::Cancel;
use kpipe::hose::chunk::{Chunk, Origin};
use kpipe::hose::dest::postgres::{Address, Options, POSTGRESQL, Postgres, Settings, Surroundings};
use kpipe::hose::dest::{Batch, DeliveryError, Destination, Parcel, Refused, RetryPolicy};
use kpipe::record::ShardId;
use kpipe::sys::System;
use uuid::Uuid;

use crate::postgres_proxy::{Fate, Message, proxy};
use crate::postgres_server::{Database, block_on};

/// Retries that do not make a test long.
pub(crate) const QUICK: RetryPolicy = RetryPolicy {
    duration: Duration::from_secs(20),
    first_pause: Duration::from_millis(10),
    longest_pause: Duration::from_millis(200),
};

/// A batch of these records, in chunks of at most `per_chunk`.
pub(crate) fn cut(number: u64, lines: &[impl AsRef<[u8]>], per_chunk: usize) -> Batch {
    let mut chunks: Vec<Chunk> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        if i % per_chunk == 0 {
            chunks.push(Chunk::default());
        }
        let index = number * 1_000_000 + i as u64;
        let origin = Origin { shard: ShardId(0), shard_created_s: 1, index, sub: None, arrival_us: 5 };
        chunks.last_mut().expect("pushed above").push(origin, line.as_ref());
    }
    let parcel = Parcel {
        name: format!("batch-{number}"),
        body: Vec::new().into(),
        records: lines.len() as u64,
        chunks,
        oldest_us: 5,
    };
    Batch { number, id: Uuid::from_u128(u128::from(number) + 1000), parcels: vec![parcel] }
}

pub(crate) fn batch(number: u64, lines: &[impl AsRef<[u8]>]) -> Batch {
    cut(number, lines, 8192)
}

/// What surrounds the test: a home of its own, and nothing in the environment but this.
pub(crate) fn around(home: &Path, variables: &[(&str, &str)]) -> Surroundings {
    let mut variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    variables.insert("HOME".to_owned(), home.display().to_string());
    Surroundings { variable: Arc::new(move |name| variables.get(name).cloned()), system: System::real() }
}

fn destination(url: &str, change: impl FnOnce(&mut Options)) -> Postgres {
    let home = Path::new("/nonexistent");
    let mut address = Address::parse(url).expect("a URL");
    let mut options = Options::of(&mut address, "test").expect("options");
    options.retry = QUICK;
    change(&mut options);
    let settings = Settings::complete(address, POSTGRESQL, &around(home, &[])).expect("settings");
    Postgres::new(&System::real(), settings, options)
}

fn deliver(to: &mut Postgres, batch: &Batch) -> Result<Vec<Refused>, DeliveryError> {
    block_on(to.deliver(batch))
}

/// Delivers with a destination that is made for it, as a run that was started anew would.
fn once(url: &str, batch: &Batch) -> Result<Vec<Refused>, DeliveryError> {
    deliver(&mut destination(url, |_| ()), batch)
}

fn places(refused: &[Refused]) -> Vec<(usize, String)> {
    refused.iter().map(|row| (row.place.1 * 8192 + row.place.2, row.failure.code.clone())).collect()
}

#[test]
fn values_have_the_types_of_their_columns() {
    let Some(db) = Database::new() else { return };
    db.sql(
        "CREATE DOMAIN whole AS bigint; CREATE DOMAIN counted AS whole CHECK (value >= 0); \
         CREATE TYPE mood AS ENUM ('good', 'bad'); \
         CREATE TABLE clicks (id counted, small smallint, price numeric(10,2), ratio double precision, ok boolean, \
           name text, code varchar(5), at timestamptz, local timestamp, day date, tags text[], grid int[][], doc jsonb, \
           raw json, docs jsonb[], bin bytea, bins bytea[], who uuid, net inet, mood mood, moods mood[], span interval)",
    );
    let lines = [
        r#"{"id":9007199254740993,"small":3.0,"price":1.5,"ratio":1e-3,"ok":true,"name":"tab\tnew\nline \\N ä😀",
            "code":"abc","at":"2026-01-02T03:04:05.678+02:00","local":"2026-01-02T03:04:05","day":"2026-01-02",
            "tags":["a","b,c","d\"e","f\\g",null,"NULL",""],"grid":[[1,2],[3,4]],"doc":{"b": [1, 2],"a":null},
            "raw":{"b": 1,"a":2},"docs":[{"x":1},"s",2,null,[3]],"bin":"AAH/","bins":["AAE=",null],
            "who":"123e4567-e89b-12d3-a456-426614174000","net":"10.0.0.0/8","mood":"good","moods":["bad","good"],
            "span":"1 day"}"#,
        r#"{"id":null,"name":7,"doc":"text","raw":12.50,"ok":"f","price":"3.999","at":"2026-01-02 03:04:05","tags":[]}"#,
        r#"{"NAME":{"a":[1]},"doc":false}"#,
    ];
    assert_eq!(once(&db.url("table=clicks"), &batch(1, &lines)).unwrap(), []);
    let rows = db.sql("SET timezone = 'UTC'; SELECT * FROM clicks");
    assert_eq!(
        rows[0],
        [
            "9007199254740993",
            "3",
            "1.50",
            "0.001",
            "t",
            "tab\tnew\nline \\N ä😀",
            "abc",
            "2026-01-02 01:04:05.678+00",
            "2026-01-02 03:04:05",
            "2026-01-02",
            r#"{a,"b,c","d\"e","f\\g",NULL,"NULL",""}"#,
            "{{1,2},{3,4}}",
            r#"{"a": null, "b": [1, 2]}"#,
            r#"{"b": 1,"a":2}"#,
            r#"{"{\"x\": 1}","\"s\"",2,NULL,[3]}"#,
            r"\x0001ff",
            r#"{"\\x0001",NULL}"#,
            "123e4567-e89b-12d3-a456-426614174000",
            "10.0.0.0/8",
            "good",
            "{bad,good}",
            "1 day",
        ]
    );
    let some = |row: &[String]| row.iter().filter(|value| *value != "NULL").cloned().collect::<Vec<_>>();
    // A time without a zone is UTC.
    assert_eq!(some(&rows[1]), ["4.00", "f", "7", "2026-01-02 03:04:05+00", "{}", "\"text\"", "12.50"]);
    assert_eq!(some(&rows[2]), ["{\"a\":[1]}", "false"]);
}

#[test]
fn what_is_absent_takes_its_default_whatever_the_others_have() {
    let Some(db) = Database::new() else { return };
    db.sql(
        "CREATE TABLE t (id int, n int NOT NULL DEFAULT 7, s text DEFAULT 'd', free text, \
           serial bigint GENERATED BY DEFAULT AS IDENTITY, twice int GENERATED ALWAYS AS (id * 2) STORED)",
    );
    let lines = [
        r#"{"id":1}"#,
        r#"{"id":2,"n":1,"s":null,"free":"x","twice":99}"#,
        r#"{"id":3,"s":"y"}"#,
        r#"{"id":4,"n":null}"#,
        r#"{"id":5}"#,
    ];
    let refused = once(&db.url("table=t"), &batch(1, &lines)).unwrap();
    assert_eq!(places(&refused), [(3, "23502".to_owned())]);
    let rows = db.sql("SELECT id, n, s, free, twice, serial > 0 FROM t ORDER BY id");
    let rows: Vec<String> = rows.iter().map(|row| row.join(" ")).collect();
    assert_eq!(rows, ["1 7 d NULL 2 t", "2 1 NULL x 4 t", "3 7 y NULL 6 t", "5 7 d NULL 10 t"]);
}

#[test]
fn what_has_no_column_is_kept_where_there_is_one_for_it() {
    let Some(db) = Database::new() else { return };
    db.sql("CREATE TABLE t (id int, \"Odd Name\" text, rest jsonb)");
    let lines = [r#"{"id":1,"odd name":"x","a":{"b":1},"c":null}"#, r#"{"id":2}"#, r#"{"z":1}"#];
    assert_eq!(once(&db.url("table=t&rest=rest"), &batch(1, &lines)).unwrap(), []);
    let rows: Vec<String> = db.sql("SELECT * FROM t").iter().map(|row| row.join(" ")).collect();
    assert_eq!(rows, [r#"1 x {"a": {"b": 1}, "c": null}"#, "2 NULL NULL", r#"NULL NULL {"z": 1}"#]);
    // Without it they are left out, and a record of which nothing is left is refused.
    let refused = once(&db.url("table=t"), &batch(2, &lines)).unwrap();
    assert_eq!(places(&refused), [(2, "Database.NoColumn".to_owned())]);
    // And when letters must be the same, nothing is left of more.
    let refused = once(&db.url("table=t&case_sensitive"), &batch(3, &[r#"{"ID":1}"#])).unwrap();
    assert_eq!(refused.len(), 1);
}

#[test]
fn whole_records_go_into_one_column() {
    let Some(db) = Database::new() else { return };
    db.sql("CREATE TABLE t (n bigserial, doc jsonb, words text, bin bytea, number int)");
    let url = |column: &str| db.url(&format!("table=t&column={column}"));
    let lines: [&[u8]; 3] = [b"{\"a\": 1}", b"not\tjson", b"\x00\xff"];
    let refused = once(&url("doc"), &batch(1, &lines)).unwrap();
    assert_eq!(places(&refused), [(1, "22P02".to_owned()), (2, "22021".to_owned())]);
    let refused = once(&url("words"), &batch(2, &lines)).unwrap();
    assert_eq!(places(&refused), [(2, "22021".to_owned())]);
    assert_eq!(once(&url("bin"), &batch(3, &lines)).unwrap(), []);
    assert_eq!(db.one("SELECT string_agg(words, '|' ORDER BY n) FROM t"), "{\"a\": 1}|not\tjson");
    assert_eq!(
        db.one("SELECT string_agg(encode(bin, 'hex'), '|' ORDER BY n) FROM t"),
        "7b2261223a20317d|6e6f74096a736f6e|00ff"
    );
    let error = once(&url("number"), &batch(4, &lines)).unwrap_err().to_string();
    assert!(error.contains("column number of table t has type integer"), "{error}");
    let error = once(&url("none"), &batch(4, &lines)).unwrap_err().to_string();
    assert!(error.contains("table t has no column none"), "{error}");
}

#[test]
fn rows_that_do_not_fit_are_left_out_and_told_again_to_who_asks_again() {
    let Some(db) = Database::new() else { return };
    db.sql(
        "CREATE TABLE kind (name text PRIMARY KEY); INSERT INTO kind VALUES ('a'), ('b'); \
         CREATE TABLE t (id int PRIMARY KEY, n int CHECK (n < 100), kind text REFERENCES kind, \
           late int UNIQUE DEFERRABLE INITIALLY DEFERRED, j jsonb); \
         CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF new.n = 13 THEN RAISE EXCEPTION 'unlucky'; END IF; \
           IF new.n = 14 THEN RETURN NULL; END IF; RETURN new; END $$; \
         CREATE TRIGGER picky BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION picky()",
    );
    let mut lines: Vec<String> = (0..3000).map(|i| format!(r#"{{"id":{i},"n":1,"kind":"a"}}"#)).collect();
    let bad = [
        (10, r#"{"id":"x"}"#, "22P02"),
        (11, r#"{"id":5}"#, "23505"),
        (12, r#"{"id":12,"n":100}"#, "23514"),
        (700, r#"{"id":700,"n":13}"#, "P0001"),
        (1500, r#"{"id":1500,"kind":"zzz"}"#, "23503"),
        (1501, r#"{"id":1501,"late":1}"#, ""),
        (1502, r#"{"id":1502,"late":1}"#, "23505"),
        (2000, r#"{"id":2000,"n":14}"#, ""),
        (2100, r#"{"id":2100,"j":"\u0000"}"#, "22P05"),
        (2101, "no json", "Database.NotAnObject"),
        (2102, r#"{"id":99999999999}"#, "22003"),
        (2999, r#"{"id":2998}"#, "23505"),
    ];
    for (i, line, _) in bad {
        lines[i] = line.to_owned();
    }
    let expected: Vec<(usize, String)> = bad
        .iter()
        .filter(|(_, _, code)| !code.is_empty())
        .map(|(i, _, code)| (*i, (*code).to_owned()))
        .collect();
    let url = db.url("table=t");
    let mut to = destination(&url, |_| ());
    let refused = deliver(&mut to, &batch(1, &lines)).unwrap();
    assert_eq!(places(&refused), expected);
    let text = |code: &str| {
        refused.iter().find(|row| row.failure.code == code).map(|row| row.failure.message.clone()).unwrap()
    };
    assert!(text("23514").contains("check constraint"), "{}", text("23514"));
    assert!(text("P0001").starts_with("unlucky"), "{}", text("P0001"));
    // One that the trigger drops on purpose is no failure.
    assert_eq!(db.one("SELECT count(*) FROM t"), (3000 - expected.len() - 1).to_string());
    assert_eq!(to.metrics().unwrap().refused.load(Ordering::SeqCst), expected.len() as u64);
    // A run that was killed before its own commit is told the same, however it cuts the batch.
    let again = once(&url, &cut(1, &lines, 1000)).unwrap();
    assert_eq!(again.len(), refused.len());
    for (again, first) in again.iter().zip(&refused) {
        assert_eq!(again.place.1 * 1000 + again.place.2, first.place.1 * 8192 + first.place.2);
        assert_eq!(
            (&again.failure.code, &again.failure.message),
            (&first.failure.code, &first.failure.message)
        );
    }
    // What was refused before does not stick to the next batch.
    assert_eq!(once(&url, &batch(2, &[r#"{"id":7000}"#])).unwrap(), []);
    assert_eq!(once(&url, &batch(2, &[r#"{"id":7000}"#])).unwrap(), []);
}

#[test]
fn a_batch_is_loaded_once() {
    let Some(db) = Database::new() else { return };
    db.sql("CREATE SCHEMA web; CREATE TABLE web.t (id int)");
    let url = db.url("table=web.t");
    let of = |number: u64| batch(number, &[format!(r#"{{"id":{number}}}"#)]);
    let mut to = destination(&url, |_| ());
    for number in [1, 1, 2, 3, 3, 5] {
        deliver(&mut to, &of(number)).unwrap();
        once(&url, &of(number)).unwrap();
    }
    // A run that was overtaken.
    once(&url, &of(2)).unwrap();
    assert_eq!(db.one("SELECT string_agg(id::text, ' ' ORDER BY id) FROM web.t"), "1 2 3 5");
    assert_eq!(db.sql("SELECT delivery, batch, id FROM web._khose"), [["test", "5", &of(5).id.to_string()]]);
    // The same number and another batch, now and before: another delivery.
    for number in [5, 2] {
        let other = Batch { id: Uuid::from_u128(9), ..of(number) };
        let error = once(&url, &other).unwrap_err();
        assert!(
            matches!(&error, DeliveryError::Permanent(m) if m.contains("another delivery has the same name")),
            "{error}"
        );
    }
    // One that the watermark knows nothing of.
    let error = once(&url, &of(4)).unwrap_err().to_string();
    assert!(error.contains("has come to batch 5, and this is batch 4"), "{error}");
    // Another name, or another table for the watermarks.
    let mut named = destination(&url, |options| options.delivery = "it's \\ other".to_owned());
    deliver(&mut named, &of(4)).unwrap();
    deliver(&mut named, &of(4)).unwrap();
    once(&db.url("table=web.t&watermark=public.marks"), &of(4)).unwrap();
    assert_eq!(db.one("SELECT count(*) FROM web.t WHERE id = 4"), "2");
    for number in 6..60 {
        deliver(&mut to, &of(number)).unwrap();
    }
    once(&url, &of(50)).unwrap();
    assert!(once(&url, &of(6)).is_err());
    assert_eq!(db.one("SELECT count(*) FROM web.t"), (4 + 2 + 54).to_string());
}

#[test]
fn a_backend_that_is_killed_on_the_way_leaves_nothing() {
    let Some(db) = Database::new() else { return };
    // A sequence does not roll back: only the first two attempts meet their end, in the middle of the copy.
    db.sql(
        "CREATE SEQUENCE deaths; CREATE TABLE t (id int); \
         CREATE FUNCTION deadly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF new.id = 2500 AND nextval('deaths') <= 2 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; \
           RETURN new; END $$; \
         CREATE TRIGGER deadly BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION deadly()",
    );
    let lines: Vec<String> = (0..5000).map(|i| format!(r#"{{"id":{i}}}"#)).collect();
    let mut to = destination(&db.url("table=t"), |_| ());
    deliver(&mut to, &batch(1, &lines)).unwrap();
    assert_eq!(to.metrics().unwrap().requests.load(Ordering::SeqCst), 3);
    deliver(&mut to, &batch(2, &[r#"{"id":7}"#])).unwrap();
    assert_eq!(db.sql("SELECT count(*), count(DISTINCT id) FROM t"), [["5001", "5000"]]);
}

/// Cuts the connection at the n-th message of a kind that `is` chooses, before the server sees it or after.
fn cutting(
    db: &Database,
    table: &str,
    after: bool,
    nth: usize,
    is: impl Fn(&Message<'_>) -> bool + Send + Sync + 'static,
) -> String {
    let seen = AtomicUsize::new(0);
    let port = proxy(
        db.server.port,
        Arc::new(move |message| {
            if !is(message) || seen.fetch_add(1, Ordering::SeqCst) + 1 != nth {
                return Fate::Forward;
            }
            if after { Fate::CutAfter } else { Fate::CutBefore }
        }),
    );
    format!("postgresql://tester@127.0.0.1:{port}/{}?table={table}", db.name)
}

#[test]
fn a_connection_that_is_cut_anywhere_costs_nothing_and_doubles_nothing() {
    let Some(db) = Database::new() else { return };
    db.sql("CREATE TABLE t (id int, text text)");
    let lines: Vec<String> = (0..4000).map(|i| format!(r#"{{"id":{i},"text":"{i:0120}"}}"#)).collect();
    // Each statement of a batch, the commit whose answer is lost among them, and the data in between.
    let is_query = |message: &Message<'_>| message.statement().is_some();
    let is_commit = |message: &Message<'_>| message.statement() == Some("COMMIT");
    let is_data = |message: &Message<'_>| message.kind == b'd';
    let mut number = 0;
    let mut try_it = |url: String| {
        number += 1;
        assert_eq!(once(&url, &batch(number, &lines)).unwrap(), [], "batch {number}");
        assert_eq!(once(&db.url("table=t"), &batch(number, &lines)).unwrap(), []);
        let expected = (number * lines.len() as u64).to_string();
        assert_eq!(db.one("SELECT count(*) FROM t"), expected, "batch {number}");
    };
    try_it(cutting(&db, "t", true, 1, is_commit));
    try_it(cutting(&db, "t", false, 1, is_commit));
    for nth in 1..=3 {
        try_it(cutting(&db, "t", false, nth, is_data));
    }
    for nth in 1..=9 {
        try_it(cutting(&db, "t", false, nth, is_query));
        try_it(cutting(&db, "t", true, nth, is_query));
    }
}

#[test]
fn two_runs_of_a_delivery_at_once_load_each_batch_once() {
    let Some(db) = Database::new() else { return };
    db.sql("CREATE TABLE t (id int, who text)");
    let (db, url) = (&db, db.url("table=t"));
    std::thread::scope(|scope| {
        for run in 0..4 {
            let url = &url;
            scope.spawn(move || {
                // Two deliveries, two runs each; the table of the watermarks is made by all four at once.
                let delivery = format!("d{}", run % 2);
                let mut to = destination(url, |options| options.delivery.clone_from(&delivery));
                for number in 1..=15 {
                    let lines: Vec<String> = (0..500)
                        .map(|i| format!(r#"{{"id":{},"who":"{delivery}"}}"#, number * 500 + i))
                        .collect();
                    deliver(&mut to, &batch(number, &lines)).unwrap();
                }
            });
        }
    });
    let rows = db.sql("SELECT who, count(*), count(DISTINCT id) FROM t GROUP BY who ORDER BY who");
    assert_eq!(rows, [["d0", "7500", "7500"], ["d1", "7500", "7500"]]);
}

#[test]
fn a_missing_table_is_proposed_or_made() {
    let Some(db) = Database::new() else { return };
    let lines = [r#"{"Id":1,"at":"2026-01-02T03:04:05Z","tags":["a"]}"#, r#"{"Id":2,"price":1.5}"#];
    let error = once(&db.url("table=clicks"), &batch(1, &lines)).unwrap_err();
    let DeliveryError::Permanent(line) = error else { panic!("{error}") };
    let proposal =
        r#"CREATE TABLE "clicks" ("id" bigint, "at" timestamptz, "tags" jsonb, "price" double precision)"#;
    assert!(line.starts_with("there is no table clicks in 127.0.0.1:") && !line.contains('\n'), "{line}");
    assert!(line.ends_with(&format!("; try: {proposal}")), "{line}");
    // Nothing is left of the attempt.
    assert_eq!(db.one("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    db.sql(proposal);
    assert_eq!(once(&db.url("table=clicks"), &batch(1, &lines)).unwrap(), []);
    assert_eq!(once(&db.url("table=made&create_table&rest=more"), &batch(2, &lines)).unwrap(), []);
    assert_eq!(
        db.sql("SELECT \"id\", \"tags\", price, more FROM made ORDER BY 1"),
        [["1", "[\"a\"]", "NULL", "NULL"], ["2", "NULL", "1.5", "NULL"]]
    );
    assert_eq!(once(&db.url("table=docs&create_table&column=doc"), &batch(3, &lines)).unwrap(), []);
    assert_eq!(db.one("SELECT count(*) FROM docs WHERE doc ? 'Id'"), "2");
}

#[test]
fn settings_of_the_role_that_would_harm_are_not_in_force() {
    let Some(db) = Database::new() else { return };
    db.sql(&format!(
        "ALTER DATABASE {} SET synchronous_commit = off; ALTER DATABASE {} SET timezone = 'Asia/Tokyo'; \
         ALTER DATABASE {} SET default_transaction_isolation = 'serializable'; \
         CREATE TABLE t (id int, at timestamptz, commits text, isolation text); \
         CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           new.commits = current_setting('synchronous_commit'); \
           new.isolation = current_setting('transaction_isolation'); RETURN new; END $$; \
         CREATE TRIGGER noted BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION noted()",
        db.name, db.name, db.name
    ));
    once(&db.url("table=t"), &batch(1, &[r#"{"id":1,"at":"2026-01-02 00:00:00"}"#])).unwrap();
    assert_eq!(
        db.sql("SELECT commits, isolation, at AT TIME ZONE 'UTC' FROM t"),
        [["on", "read committed", "2026-01-02 00:00:00"]]
    );
}

#[test]
fn passwords_come_from_where_libpq_has_them() {
    let Some(db) = Database::new() else { return };
    db.sql("CREATE TABLE t (id int); CREATE ROLE locked LOGIN SUPERUSER PASSWORD 'open:sesame'");
    let home = tempfile::tempdir().expect("a directory");
    let pgpass = home.path().join(".pgpass");
    let port = db.server.port;
    std::fs::write(&pgpass, format!("other:*:*:*:no\n127.0.0.1:{port}:*:locked:open\\:sesame\n")).unwrap();
    let try_it = |url: &str, variables: &[(&str, &str)], number| {
        let mut address = Address::parse(url).expect("a URL");
        let mut options = Options::of(&mut address, "test").expect("options");
        options.retry = QUICK;
        let settings = Settings::complete(address, POSTGRESQL, &around(home.path(), variables)).unwrap();
        let mut to = Postgres::new(&System::real(), settings, options);
        let outcome = deliver(&mut to, &batch(number, &[r#"{"id":1}"#]));
        outcome.map(|_| ()).map_err(|error| error.to_string())
    };
    let url = format!("postgresql://locked@127.0.0.1:{port}/{}?table=t", db.name);
    std::fs::set_permissions(&pgpass, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = try_it(&url, &[], 1).unwrap_err();
    assert!(error.contains("chmod 600") && !error.contains("sesame"), "{error}");
    std::fs::set_permissions(&pgpass, std::fs::Permissions::from_mode(0o600)).unwrap();
    try_it(&url, &[], 1).unwrap();
    let error = try_it(&url, &[("PGPASSWORD", "wrong-word")], 2).unwrap_err();
    assert!(error.contains("28P01") && !error.contains("wrong-word"), "{error}");
    std::fs::remove_file(&pgpass).unwrap();
    let error = try_it(&url, &[], 2).unwrap_err();
    assert!(error.contains("password"), "{error}");
    try_it(&url, &[("PGPASSWORD", "open:sesame")], 2).unwrap();
    // All from the environment, and by the socket.
    let socket = db.server.dir.display().to_string();
    let port = port.to_string();
    let variables = [
        ("PGHOST", socket.as_str()),
        ("PGPORT", &port),
        ("PGUSER", "locked"),
        ("PGDATABASE", &db.name),
        ("PGPASSWORD", "open:sesame"),
    ];
    try_it("postgres://?table=t", &variables, 3).unwrap();
    assert_eq!(db.one("SELECT count(*) FROM t"), "3");
}

#[test]
fn encryption_is_as_much_as_is_asked_for() {
    let Some(db) = Database::new() else { return };
    if !db.server.has_tls {
        crate::workdir::left_out("encrypted connections to PostgreSQL: openssl cannot make a certificate");
        return;
    }
    db.sql(
        "CREATE TABLE t (id int, ssl boolean); \
         CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           new.ssl = (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()); RETURN new; END $$; \
         CREATE TRIGGER noted BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION noted()",
    );
    let ca = db.server.dir.join("ca.crt").display().to_string();
    let mut number = 0;
    let mut encrypted = |host: &str, ssl: &str| {
        number += 1;
        let url = format!("postgresql://tester@{host}:{}/{}?table=t&{ssl}", db.server.port, db.name);
        match once(&url, &batch(number, &[format!(r#"{{"id":{number}}}"#)])) {
            Ok(_) => Ok(db.one(&format!("SELECT ssl FROM t WHERE id = {number}")) == "t"),
            Err(DeliveryError::Permanent(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(encrypted("127.0.0.1", "sslmode=disable"), Ok(false));
    assert_eq!(encrypted("127.0.0.1", "sslmode=prefer"), Ok(true));
    assert_eq!(encrypted("127.0.0.1", ""), Ok(true));
    assert_eq!(encrypted("127.0.0.1", "sslmode=require"), Ok(true));
    assert_eq!(encrypted("localhost", &format!("sslmode=verify-full&sslrootcert={ca}")), Ok(true));
    assert_eq!(encrypted("127.0.0.1", &format!("sslmode=verify-ca&sslrootcert={ca}")), Ok(true));
    // Its certificate is not for this name; its authority is not among the machine's, and is not this one.
    for ssl in [
        format!("sslmode=verify-full&sslrootcert={ca}"),
        "sslmode=verify-ca".to_owned(),
        "sslmode=verify-full".to_owned(),
        format!("sslmode=verify-ca&sslrootcert={}/missing", db.server.dir.display()),
        format!("sslmode=require&sslrootcert={}/empty.crt", db.server.dir.display()),
    ] {
        let error = encrypted("127.0.0.1", &ssl).unwrap_err();
        assert!(error.contains("certificate") || error.contains("No such file"), "{ssl}: {error}");
    }
    // A server without encryption, where it is needed: the proxy says no to it.
    let port = proxy(db.server.port, Arc::new(|_| Fate::Forward));
    let url = |ssl: &str| format!("postgresql://tester@127.0.0.1:{port}/{}?table=t&sslmode={ssl}", db.name);
    let error = once(&url("require"), &batch(100, &[r#"{"id":1}"#])).unwrap_err();
    assert!(matches!(&error, DeliveryError::Permanent(m) if m.contains("does not support TLS")), "{error}");
    once(&url("prefer"), &batch(100, &[r#"{"id":1}"#])).unwrap();
    // The server knows us by a certificate.
    db.sql("CREATE ROLE certified LOGIN SUPERUSER");
    let dir = db.server.dir.display();
    let certified = |key: &str| {
        format!(
            "postgresql://certified@127.0.0.1:{}/{}?table=t&sslmode=require&sslcert={dir}/client.crt&sslkey={key}",
            db.server.port, db.name
        )
    };
    let home = tempfile::tempdir().expect("a directory");
    let key = home.path().join("client.key");
    std::fs::copy(db.server.dir.join("client.key"), &key).unwrap();
    let key = key.display().to_string();
    once(&certified(&key), &batch(101, &[r#"{"id":1}"#])).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = once(&certified(&key), &batch(102, &[r#"{"id":1}"#])).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn who_cannot_be_reached_is_tried_as_long_as_the_policy_says() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgresql://joe@127.0.0.1:{port}/db?table=t");
    let begun = Instant::now();
    let policy = RetryPolicy { duration: Duration::from_millis(300), ..QUICK };
    let error = deliver(&mut destination(&url, |o| o.retry = policy), &batch(1, &["{}"])).unwrap_err();
    assert!(
        matches!(&error, DeliveryError::Transient(m) if m.contains("tried") && m.contains("refused")),
        "{error}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
    // A request to finish ends the wait.
    let cancel = Cancel::new();
    let asks = cancel.clone();
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        asks.cancel();
    });
    let slow = RetryPolicy {
        duration: Duration::from_hours(2),
        first_pause: Duration::from_hours(1),
        longest_pause: Duration::from_hours(1),
    };
    let mut to = destination(&url, |options| {
        options.retry = slow;
        options.cancel = cancel;
    });
    assert!(matches!(deliver(&mut to, &batch(1, &["{}"])), Err(DeliveryError::Interrupted)));
    other.join().unwrap();
}

#[test]
fn a_delivery_that_is_dropped_on_the_way_leaves_nothing_and_can_be_done_again() {
    let Some(db) = Database::new() else { return };
    db.sql("CREATE TABLE t (id int)");
    let lines: Vec<String> = (0..50_000).map(|i| format!(r#"{{"id":{i}}}"#)).collect();
    let mut to = destination(&db.url("table=t"), |_| ());
    block_on(async {
        for ms in [0, 1, 3, 6, 10, 15, 25, 40] {
            let time = Duration::from_millis(ms);
            let _ = tokio::time::timeout(time, to.deliver(&batch(1, &lines))).await;
        }
        to.deliver(&batch(1, &lines)).await.unwrap();
        to.deliver(&batch(2, &lines)).await.unwrap();
    });
    assert_eq!(db.one("SELECT count(*) FROM t"), "100000");
}

#[test]
fn a_large_batch_with_bad_rows_here_and_there() {
    let Some(db) = Database::new() else { return };
    db.sql("CREATE TABLE t (id int PRIMARY KEY, text text)");
    let line = |i: usize| match i % 997 {
        5 => format!(r#"{{"id":"x{i}"}}"#),
        6 => format!(r#"{{"id":{},"text":"again"}}"#, i - 2),
        _ => format!(r#"{{"id":{i},"text":"{i:050}"}}"#),
    };
    let lines: Vec<String> = (0..100_000).map(line).collect();
    let begun = Instant::now();
    let refused = once(&db.url("table=t"), &batch(1, &lines)).unwrap();
    println!("{} rows, {} of them bad: {:?}", lines.len(), refused.len(), begun.elapsed());
    let expected: Vec<(usize, String)> = (0..100_000)
        .filter_map(|i| match i % 997 {
            5 => Some((i, "22P02".to_owned())),
            6 => Some((i, "23505".to_owned())),
            _ => None,
        })
        .collect();
    assert_eq!(places(&refused), expected);
    assert_eq!(db.one("SELECT count(*) FROM t"), (lines.len() - expected.len()).to_string());
    // And one in which nothing fits.
    let lines = vec![r#"{"id":"x"}"#; 3000];
    assert_eq!(once(&db.url("table=t"), &batch(2, &lines)).unwrap().len(), 3000);
}
