//! Real servers for the tests, from the package registries: what speaks S3 and what speaks Azure Blob Storage.
//!
//! What is missing is installed once under `target/test-peers` (the first time takes a minute or two and a network), and
//! a server is started by the first test of a process that needs it, on a port of its own. It ends with the process,
//! however that ends. Where one cannot be had, the test is left out and says so.

#![allow(dead_code, reason = "a vocabulary for tests: not every word is in use at every time")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use object_store::ClientOptions;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};

use crate::workdir::{left_out, programs};

/// The S3 of these tests.
const MOTO: &str = "moto[server]==5.2.5";
/// The Azure of these tests.
const AZURITE: &str = "azurite@3.37.0";
/// Seconds for the installation of a package; a slow mirror takes a minute.
const INSTALL_SECONDS: &str = "500";
/// A server that is not there by then does not come.
const PATIENCE: Duration = Duration::from_mins(1);

/// The emulator's account and key, which everybody knows.
pub(crate) const AZURE_ACCOUNT: &str = "devstoreaccount1";
pub(crate) const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Where what the tests need of others is kept from run to run.
pub(crate) fn peers() -> PathBuf {
    let target = programs().parent().expect("the programs lie in the target directory");
    let dir = target.join("test-peers");
    fs::create_dir_all(&dir).expect("a directory in target");
    dir
}

/// Makes `dir` below [`peers`] once, by one process at a time; `None` where that fails, with the reason noted.
fn installed(dir: &str, what: &str, install: impl FnOnce(&Path) -> Result<(), String>) -> Option<PathBuf> {
    let at = peers().join(dir);
    let done = at.join(".done");
    let lock = File::create(peers().join(format!("{dir}.lock"))).expect("a file in target");
    lock.lock().expect("a lock on a file in target");
    if done.exists() && fs::read_to_string(&done).is_ok_and(|text| text == what) {
        return Some(at);
    }
    let _ = fs::remove_dir_all(&at);
    match install(&at).and_then(|()| fs::write(&done, what).map_err(|error| error.to_string())) {
        Ok(()) => Some(at),
        Err(reason) => {
            left_out(&format!("tests with {what}: it cannot be installed: {reason}"));
            None
        }
    }
}

fn command(program: &str, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new("timeout");
    let output = command.arg(INSTALL_SECONDS).arg(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // npm says what is wrong in its first line, pip in its last.
    let mut lines = said.trim().lines();
    let line = if program == "npm" { lines.next() } else { lines.next_back() };
    Err(format!("{program}: {}: {}", output.status, line.unwrap_or("")))
}

/// A directory of programs of packages of `PyPI`: `python` in it knows them. `dir` is a name for this set of packages.
pub(crate) fn python(dir: &str, packages: &[&str]) -> Option<PathBuf> {
    let at = installed(dir, &packages.join(" "), |at| {
        command("python3", &["-m", "venv", &at.display().to_string()])?;
        let pip = at.join("bin/pip").display().to_string();
        let quiet =
            ["install", "--quiet", "--disable-pip-version-check", "--retries", "2", "--timeout", "20"];
        command(&pip, &[&quiet[..], packages].concat())
    })?;
    Some(at.join("bin"))
}

/// A directory of programs of an npm package.
pub(crate) fn npm(dir: &str, package: &str) -> Option<PathBuf> {
    let at = installed(dir, package, |at| {
        let prefix = at.display().to_string();
        fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let quiet = ["install", "--loglevel=error", "--no-fund", "--no-audit", "--fetch-retries=1"];
        command("npm", &[&quiet[..], &["--prefix", &prefix, package]].concat())
    })?;
    Some(at.join("node_modules/.bin"))
}

/// A server that says on a line of its own where it listens.
struct Server {
    url: String,
    /// A shell that ends the server when its standard input ends, and with the process that does.
    _guard: Child,
}

impl Server {
    /// Starts `program`; the URL is what stands behind `mark` on a line that it prints.
    fn start(program: &Path, args: &[&str], mark: &str) -> Option<Self> {
        let mut guard = Command::new("sh")
            .args(["-c", r#""$@" 2>&1 & server=$!; cat >/dev/null; kill $server"#, "sh"])
            .arg(program)
            .args(args)
            .current_dir(peers())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let output = BufReader::new(guard.stdout.take().expect("piped"));
        let (said, url) = mpsc::channel();
        let mark = mark.to_owned();
        std::thread::spawn(move || {
            // To its end: a server whose pipe is full stands still.
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, url)) = line.split_once(&mark) {
                    let end = url.find(|c: char| c.is_whitespace() || c == '\x1b').unwrap_or(url.len());
                    let _ = said.send(url[..end].trim_end_matches('/').to_owned());
                }
            }
        });
        if let Ok(url) = url.recv_timeout(PATIENCE) {
            return Some(Self { url, _guard: guard });
        }
        // The end of its input ends the server.
        guard.stdin = None;
        let _ = guard.wait();
        left_out(&format!("tests with {}: it does not start", program.display()));
        None
    }
}

/// A name that no other test of any process has. Letters and digits only: the S3 server does not decode others in the
/// name of a bucket, as Google's requests have them.
fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{stem}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Variables of the environment for a store, as they are given to a program or to the library.
pub(crate) type Variables = BTreeMap<String, String>;

fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A server with buckets.
pub(crate) struct S3 {
    pub(crate) url: String,
}

/// The S3 server of this process.
pub(crate) fn s3() -> Option<&'static S3> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    static S3_SERVER: OnceLock<S3> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let bin = python("moto", &[MOTO])?;
        Server::start(&bin.join("moto_server"), &["-H", "127.0.0.1", "-p", "0"], "Running on ")
    });
    server.as_ref().map(|server| S3_SERVER.get_or_init(|| S3 { url: server.url.clone() }))
}

impl S3 {
    /// An empty bucket.
    pub(crate) fn bucket(&self) -> String {
        let name = unique("bucket");
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = reqwest::Method::PUT;
        *request.uri_mut() = format!("{}/{name}", self.url).parse().expect("a URL");
        assert_eq!(send(request), 200, "bucket {name}");
        name
    }

    /// What a client needs to know. Any key will do.
    pub(crate) fn variables(&self) -> Variables {
        variables(&[
            ("AWS_ENDPOINT_URL", &self.url),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-east-1"),
        ])
    }

    /// The same, spoken to as Google's. Conditions of Google's are not known to it.
    pub(crate) fn google_variables(&self) -> Variables {
        variables(&[("STORAGE_EMULATOR_HOST", &self.url)])
    }
}

/// A server with containers.
pub(crate) struct Azure {
    pub(crate) url: String,
}

/// The Azure server of this process.
pub(crate) fn azure() -> Option<&'static Azure> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    static AZURE_SERVER: OnceLock<Azure> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let bin = npm("azurite", AZURITE)?;
        let args = [
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            "0",
            "--inMemoryPersistence",
            "--skipApiVersionCheck",
            "--disableTelemetry",
        ];
        Server::start(&bin.join("azurite-blob"), &args, "successfully listens on ")
    });
    server.as_ref().map(|server| AZURE_SERVER.get_or_init(|| Azure { url: server.url.clone() }))
}

impl Azure {
    /// An empty container.
    pub(crate) fn container(&self) -> String {
        let name = unique("container");
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = reqwest::Method::PUT;
        let url = format!("{}/{AZURE_ACCOUNT}/{name}?restype=container", self.url);
        *request.uri_mut() = url.parse().expect("a URL");
        let zero = reqwest::header::HeaderValue::from_static("0");
        request.headers_mut().insert(reqwest::header::CONTENT_LENGTH, zero);
        let key = AzureAccessKey::try_new(AZURE_KEY).expect("a key");
        AzureAuthorizer::new(&AzureCredential::AccessKey(key), AZURE_ACCOUNT).authorize(&mut request);
        assert_eq!(send(request), 201, "container {name}");
        name
    }

    /// What a client needs to know.
    pub(crate) fn variables(&self) -> Variables {
        azure_variables(&self.url)
    }
}

/// The same for an Azure server behind something else.
pub(crate) fn azure_variables(url: &str) -> Variables {
    let text =
        format!("AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={url}/{AZURE_ACCOUNT};");
    variables(&[("AZURE_STORAGE_CONNECTION_STRING", &text)])
}

/// Sends a request and answers its status.
fn send(request: HttpRequest) -> u16 {
    let client = ReqwestConnector::default().connect(&ClientOptions::new().with_allow_http(true));
    let client = client.expect("a client");
    run(async { client.execute(request).await.expect("an answer").status().as_u16() })
}

/// Runs what is asynchronous to its end, on this thread.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}
