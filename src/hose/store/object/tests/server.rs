//! A server on a port of its own, and a store that is opened for it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::super::super::super::format::body::Body;
use super::super::super::{Attributes, Context, Environment, Location, PutMode, Store, StoreError};
use crate::sys::System;

/// A request as the server sees it.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn read(stream: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let len = headers.get("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        let mut body = vec![0; len];
        stream.read_exact(&mut body).ok()?;
        Some(Self { method, target, headers, body })
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// `PUT /b/x`, and what it is made of in the log of a test.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What the server does about a request.
pub(super) enum Answer {
    /// A status, headers and a body.
    Is(u16, &'static str, String),
    /// The connection ends without a word.
    Hangs,
}

pub(super) fn is(status: u16, body: impl Into<String>) -> Answer {
    Answer::Is(status, "", body.into())
}

pub(super) fn refused(status: u16, code: &str) -> Answer {
    is(status, format!("<Error><Code>{code}</Code><Message>no</Message><Secret>hunter2</Secret></Error>"))
}

pub(super) type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// A server on a port of its own, for as long as the process lives.
pub(super) fn serve(
    handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let log = Arc::new(Mutex::new(Vec::new()));
    let (handler, lines): (Arc<Handler>, _) = (Arc::new(handler), log.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (handler, lines) = (handler.clone(), lines.clone());
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                while let Some(request) = Request::read(&mut stream) {
                    lines.lock().unwrap().push(request.line());
                    let Answer::Is(status, headers, body) = handler(&request) else { break };
                    let head =
                        format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
                    let body = if request.method == "HEAD" { String::new() } else { body };
                    if stream.get_mut().write_all(format!("{head}{body}").as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (url, log)
}

pub(super) struct Opening {
    pub(super) variables: BTreeMap<String, String>,
    pub(super) system: System,
    pub(super) told: Arc<Mutex<Vec<String>>>,
}

impl Opening {
    pub(super) fn new(url: &str) -> Self {
        let opening = Self { variables: BTreeMap::new(), system: System::real(), told: Arc::default() };
        let home = "/nowhere";
        opening
            .with("HOME", home)
            .with("AWS_ENDPOINT_URL", url)
            .with("AWS_ACCESS_KEY_ID", "A")
            .with("AWS_SECRET_ACCESS_KEY", "hunter2")
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(super) fn open(&self, place: &str) -> Arc<dyn Store> {
        self.try_open(place).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn try_open(&self, place: &str) -> Result<Arc<dyn Store>, StoreError> {
        let told = self.told.clone();
        let environment: Environment = self.variables.clone().into_iter().collect();
        let tell = Arc::new(move |line: &str| told.lock().unwrap().push(line.to_owned()));
        Location::parse(place).unwrap().open(&Context::new(&self.system, environment, tell))
    }
}

pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(super) fn put(
    store: &dyn Store,
    name: &str,
    bytes: impl AsRef<[u8]>,
    mode: PutMode,
) -> Result<(), StoreError> {
    run(store.put(name, &Body::from(bytes.as_ref().to_vec()), mode, &Attributes::default()))
}

/// S3's way to say it, and Azure's; and Google's.
pub(super) fn must_be_new(request: &Request) -> bool {
    request.header("if-none-match") == "*" || request.header("x-goog-if-generation-match") == "0"
}

pub(super) const META: &str = "etag: \"e\"\r\nlast-modified: Wed, 25 Nov 2026 00:00:00 GMT\r\n";

/// Objects with all that S3 does to them here.
#[derive(Clone, Default)]
pub(super) struct Objects(pub(super) Arc<Mutex<BTreeMap<String, String>>>);

impl Objects {
    pub(super) fn answer(&self, request: &Request) -> Answer {
        let mut objects = self.0.lock().unwrap();
        let there = objects.get(&request.target).cloned();
        match request.method.as_str() {
            "PUT" if there.is_some() && must_be_new(request) => refused(412, "PreconditionFailed"),
            "PUT" => {
                objects.insert(request.target.clone(), String::from_utf8(request.body.clone()).unwrap());
                Answer::Is(200, META, String::new())
            }
            "GET" | "HEAD" => match there {
                Some(body) if request.header("range").is_empty() => Answer::Is(200, META, body),
                Some(body) => {
                    let headers =
                        format!("{META}content-range: bytes 0-{}/{}\r\n", body.len() - 1, body.len());
                    Answer::Is(206, headers.leak(), body)
                }
                None => refused(404, "NoSuchKey"),
            },
            _ => refused(405, "MethodNotAllowed"),
        }
    }
}
