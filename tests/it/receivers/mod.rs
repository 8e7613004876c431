//! Services to deliver to, on threads of the test: they behave, and misbehave where a test wants it.
//!
//! This file is HTTP/1.1 as far as a receiver needs it: connections are kept, bodies may be chunked or compressed, and
//! an answer may be late, cut off, too long, no HTTP at all, or given before the request was read.

/// OpenSearch's `_bulk`.
pub(crate) mod bulk;
/// Splunk's HTTP Event Collector.
pub(crate) mod hec;
/// The service's HTTP endpoint.
pub(crate) mod http;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use flate2::read::GzDecoder;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What was received.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// Which connection it came on, from 0.
    pub(crate) connection: usize,
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Decompressed; empty before it was read.
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub(crate) fn lines(&self) -> Vec<&str> {
        std::str::from_utf8(&self.body).expect("the body is text").lines().collect()
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// An answer as it should be.
    Full(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The same in chunks.
    Chunked(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Announces twice as much as it sends, then closes.
    Half(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// These bytes, then closes.
    Raw(Vec<u8>),
    /// Closes.
    Close,
    /// Says nothing for this long, then closes.
    Silence(Duration),
    /// The answer after this long.
    Late(Duration, Box<Reply>),
    /// Where the body was not read: the answer, and what is still on its way is met with a reset, which may reach the
    /// sender before the answer does. Others read on for a while, as good servers do.
    Rude(Box<Reply>),
}

impl Reply {
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Full(
            status,
            vec![("Content-Type", "application/json".to_owned())],
            body.to_string().into_bytes(),
        )
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self::Full(status, vec![("Content-Type", "text/plain".to_owned())], body.as_bytes().to_vec())
    }

    /// Sends it; whether the connection goes on.
    fn send(&self, stream: &mut Stream) -> io::Result<bool> {
        let head = |status: u16, headers: &[(&str, String)], framing: String| {
            let mut head = format!("HTTP/1.1 {status} Whatever\r\n{framing}\r\n");
            for (name, value) in headers {
                head.extend([*name, ": ", value, "\r\n"]);
            }
            head.push_str("\r\n");
            head.into_bytes()
        };
        match self {
            Self::Full(status, headers, body) => {
                let mut bytes = head(*status, headers, format!("Content-Length: {}", body.len()));
                bytes.extend_from_slice(body);
                stream.write_all(&bytes)?;
                Ok(true)
            }
            Self::Chunked(status, headers, body) => {
                stream.write_all(&head(*status, headers, "Transfer-Encoding: chunked".to_owned()))?;
                for chunk in body.chunks(7.max(body.len() / 16)) {
                    stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                    stream.write_all(chunk)?;
                    stream.write_all(b"\r\n")?;
                }
                stream.write_all(b"0\r\n\r\n")?;
                Ok(true)
            }
            Self::Half(status, headers, body) => {
                stream.write_all(&head(
                    *status,
                    headers,
                    format!("Content-Length: {}", body.len() * 2 + 1),
                ))?;
                stream.write_all(body)?;
                Ok(false)
            }
            Self::Raw(bytes) => stream.write_all(bytes).map(|()| false),
            Self::Close => Ok(false),
            Self::Silence(time) => {
                thread::sleep(*time);
                Ok(false)
            }
            Self::Late(time, reply) => {
                thread::sleep(*time);
                reply.send(stream)
            }
            Self::Rude(reply) => reply.send(stream).map(|_| false),
        }
    }
}

/// What looks at requests: at the head before the body is read, then at the whole.
pub(crate) trait Service: Send {
    /// An answer that does not wait for the body. The connection ends after it.
    fn head(&mut self, _request: &Request) -> Option<Reply> {
        None
    }

    /// The answer.
    fn answer(&mut self, request: &Request) -> Reply;
}

impl<F: FnMut(&Request) -> Reply + Send> Service for F {
    fn answer(&mut self, request: &Request) -> Reply {
        self(request)
    }
}

/// A service that listens on a port of its own.
pub(crate) struct Receiver<S> {
    pub(crate) address: SocketAddr,
    /// Its state, to look at and to change while it works.
    pub(crate) service: Arc<Mutex<S>>,
    requests: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
}

impl<S: Service + 'static> Receiver<S> {
    pub(crate) fn start(service: S) -> Self {
        Self::begin(service, None)
    }

    /// One that speaks TLS, with a certificate that only [`ca_file`] makes trusted.
    pub(crate) fn start_tls(service: S) -> Self {
        Self::begin(service, Some(tls()))
    }

    fn begin(service: S, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let receiver = Self {
            address: listener.local_addr().expect("an address"),
            service: Arc::new(Mutex::new(service)),
            requests: Arc::default(),
            ended: Arc::default(),
        };
        let (service, requests) = (Arc::clone(&receiver.service), Arc::clone(&receiver.requests));
        let ended = Arc::clone(&receiver.ended);
        thread::spawn(move || {
            let connections = AtomicUsize::new(0);
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let (service, requests) = (Arc::clone(&service), Arc::clone(&requests));
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let stream = match &tls {
                    None => Stream::Plain(stream),
                    Some(config) => {
                        let connection = ServerConnection::new(Arc::clone(config)).expect("a connection");
                        Stream::Tls(Box::new(StreamOwned::new(connection, stream)))
                    }
                };
                thread::spawn(move || serve(stream, number, &service, &requests));
            }
        });
        receiver
    }

    /// `http://127.0.0.1:PORT` and this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What came so far, in the order in which it was read.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no test thread died").clone()
    }
}

impl<S> Drop for Receiver<S> {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it has ended.
        let _ = TcpStream::connect(self.address);
    }
}

/// A connection.
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    #[expect(clippy::disallowed_methods, reason = "this is the write that write_all is made of")]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// The certificate of the authority that signed the receivers' own.
pub(crate) fn ca_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/receivers/tls/ca.pem")
}

fn tls() -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/cert.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/key.pem")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    Arc::new(config.expect("a key for the certificate"))
}

fn serve<S: Service>(stream: Stream, number: usize, service: &Mutex<S>, requests: &Mutex<Vec<Request>>) {
    let mut input = BufReader::new(stream);
    while let Ok(Some(mut request)) = read_head(&mut input, number) {
        let early = service.lock().expect("no test thread died").head(&request);
        if let Some(reply) = early {
            requests.lock().expect("no test thread died").push(request);
            let reply = match reply {
                Reply::Full(status, mut headers, body) => {
                    headers.push(("Connection", "close".to_owned()));
                    Reply::Full(status, headers, body)
                }
                other => other,
            };
            if matches!(reply.send(input.get_mut()), Ok(true)) {
                linger(&mut input);
            }
            break;
        }
        let Ok(body) = read_body(&mut input, &request) else { break };
        request.body = body;
        requests.lock().expect("no test thread died").push(request.clone());
        let reply = service.lock().expect("no test thread died").answer(&request);
        let goes_on =
            reply.send(input.get_mut()).and_then(|goes_on| input.get_mut().flush().map(|()| goes_on));
        if !matches!(goes_on, Ok(true)) {
            break;
        }
    }
    if let Stream::Plain(stream) = input.get_ref() {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Lets an answer arrive before the connection ends: reads what is on its way until the sender has had enough.
fn linger(input: &mut BufReader<Stream>) {
    let Stream::Plain(stream) = input.get_ref() else { return };
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let _ = io::copy(input, &mut io::sink());
}

fn read_head(input: &mut BufReader<Stream>, connection: usize) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_default().to_owned();
    let mut request = Request { connection, method: word(), target: word(), ..Request::default() };
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(request));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other("no header"))?;
        request.headers.push((name.trim().to_lowercase(), value.trim().to_owned()));
    }
}

fn read_body(input: &mut BufReader<Stream>, request: &Request) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if request.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let len = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            input.by_ref().take(len).read_to_end(&mut body)?;
            input.read_line(&mut String::new())?;
            if len == 0 {
                break;
            }
        }
    } else if let Some(len) = request.header("content-length") {
        let len: u64 = len.parse().map_err(io::Error::other)?;
        input.by_ref().take(len).read_to_end(&mut body)?;
        if (body.len() as u64) < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if request.header("content-encoding") == Some("gzip") {
        let mut plain = Vec::new();
        GzDecoder::new(body.as_slice()).read_to_end(&mut plain)?;
        return Ok(plain);
    }
    Ok(body)
}
