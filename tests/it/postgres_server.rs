//! A real PostgreSQL for the tests: one server for the whole process, a database for each test.
//!
//! It is looked for where Debian puts it, and installed when it is missing and that is permitted. It ends with the
//! process, however that ends.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::workdir;

/// Initialising and starting take two seconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct Server {
    pub(crate) port: u16,
    /// Where its socket is, and its certificate.
    pub(crate) dir: PathBuf,
    /// Whether it encrypts: it has a certificate for `localhost` and not for `127.0.0.1`.
    pub(crate) has_tls: bool,
    /// What keeps it running. It ends when this process does, for its input ends then.
    _keeper: Child,
}

/// The server; `None`, with a note of what is left out, where there can be none.
pub(crate) fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| match start() {
        Ok(server) => Some(server),
        Err(why) => {
            workdir::left_out(&format!("deliveries to a real PostgreSQL: {why}"));
            None
        }
    });
    server.as_ref()
}

/// A database of a test's own.
pub(crate) struct Database {
    pub(crate) server: &'static Server,
    pub(crate) name: String,
}

impl Database {
    /// An empty one.
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = server()?;
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let postgres = Self { server, name: "postgres".to_owned() };
        postgres.sql(&format!("CREATE DATABASE {name}"));
        Some(Self { server, name })
    }

    /// Its URL, with this behind the `?`.
    pub(crate) fn url(&self, query: &str) -> String {
        format!("postgresql://tester@127.0.0.1:{}/{}?{query}", self.server.port, self.name)
    }

    pub(crate) async fn client(&self) -> Client {
        let config = format!("host=127.0.0.1 port={} user=tester dbname={}", self.server.port, self.name);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client
    }

    /// Runs statements; the rows of all, as text.
    pub(crate) fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        block_on(async {
            let client = self.client().await;
            let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            let row = |message: &SimpleQueryMessage| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect())
                }
                _ => None,
            };
            messages.iter().filter_map(row).collect()
        })
    }

    /// The one value of a query.
    pub(crate) fn one(&self, sql: &str) -> String {
        let rows = self.sql(sql);
        assert!(matches!(&rows[..], [row] if row.len() == 1), "{sql}: {rows:?}");
        rows[0][0].clone()
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn start() -> Result<Server, String> {
    let bin = find().or_else(|| {
        install();
        find()
    });
    let bin = bin.ok_or("there is no initdb, and it could not be installed (apt-get install postgresql)")?;
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).map_err(text)?.port();
    // A socket's path has at most 107 bytes, so not in a target directory that may be deep.
    let dir = tempfile::Builder::new().prefix("kpipe-pg").tempdir().map_err(text)?.keep();
    let has_tls = certificate(&dir);
    let user = owner(&dir)?;
    let data = dir.join("data");
    let output = as_user(user, &bin.join("initdb"))
        .args(["-A", "trust", "-U", "tester", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
        .arg(&data)
        .current_dir(&dir)
        .output()
        .map_err(text)?;
    if !output.status.success() {
        return Err(format!("initdb: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let mut settings = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\n\
         shared_buffers = 32MB\nmax_connections = 60\nlog_min_messages = fatal\n",
        dir.display()
    );
    if has_tls {
        let _ = write!(
            settings,
            "ssl = on\nssl_cert_file = '{0}/server.crt'\nssl_key_file = '{0}/server.key'\n\
             ssl_ca_file = '{0}/ca.crt'\n",
            dir.display()
        );
    }
    fs::write(data.join("postgresql.auto.conf"), settings).map_err(text)?;
    // `locked` needs its password everywhere, `certified` a certificate, the others need nothing.
    let rules = "hostssl all certified all cert\nhost all certified all reject\nlocal all locked scram-sha-256\nhost all locked all scram-sha-256\nlocal all all trust\nhost all all all trust\n";
    fs::write(data.join("pg_hba.conf"), rules).map_err(text)?;
    // The keeper waits for the end of its input, which is the end of this process.
    let script = "\"$1\" -D \"$2\" >\"$3/log\" 2>&1 & pid=$!; cat >/dev/null; kill -QUIT $pid; wait $pid; rm -rf \"$3\"";
    let keeper = as_user(user, Path::new("sh"))
        .args(["-c", script, "sh"])
        .args([&bin.join("postgres"), &data, &dir])
        .current_dir(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(text)?;
    let server = Server { port, dir, has_tls, _keeper: keeper };
    let begun = Instant::now();
    let config = format!("host=127.0.0.1 port={port} user=tester dbname=postgres");
    loop {
        match block_on(tokio_postgres::connect(&config, NoTls)) {
            Ok(_) => return Ok(server),
            Err(error) if begun.elapsed() > PATIENCE => {
                let log = fs::read_to_string(server.dir.join("log")).unwrap_or_default();
                return Err(format!("it does not start: {error}: {log}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The directory of the newest server's programs.
fn find() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists() && bin.join("postgres").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn install() {
    if is_root() {
        let install = "apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get install -qy postgresql";
        let _ = Command::new("timeout").args(["300", "sh", "-c", install]).output();
    }
}

/// A certificate for `localhost`, made by an authority of the test's own.
fn certificate(dir: &Path) -> bool {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=test-authority -keyout ca.key -out ca.crt \
                    -addext basicConstraints=critical,CA:TRUE && \
                  openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr && \
                  printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' >ext && \
                  openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile ext \
                    -out server.crt && chmod 600 server.key && \
                  openssl req -newkey rsa:2048 -nodes -subj /CN=certified -keyout client.key -out client.csr && \
                  openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out client.crt && \
                  chmod 600 client.key";
    let made = Command::new("sh").args(["-c", script]).current_dir(dir).output();
    made.is_ok_and(|output| output.status.success())
}

/// Who owns the server: it will not run as root.
fn owner(dir: &Path) -> Result<Option<&'static str>, String> {
    if !is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").map_err(text)?;
    for name in ["postgres", "nobody"] {
        let Some(line) = users.lines().find(|line| line.starts_with(&format!("{name}:"))) else { continue };
        let ids: Vec<u32> = line.split(':').skip(2).take(2).filter_map(|id| id.parse().ok()).collect();
        if let [uid, gid] = ids[..] {
            for path in
                fs::read_dir(dir).map_err(text)?.flatten().map(|entry| entry.path()).chain([dir.to_owned()])
            {
                chown(path, Some(uid), Some(gid)).map_err(text)?;
            }
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(text)?;
            return Ok(Some(name));
        }
    }
    Err("it will not run as root, and there is neither postgres nor nobody".to_owned())
}

fn as_user(user: Option<&str>, program: &Path) -> Command {
    match user {
        None => Command::new(program),
        Some(user) => {
            let mut command = Command::new("runuser");
            command.args(["-u", user, "--"]).arg(program);
            command
        }
    }
}
