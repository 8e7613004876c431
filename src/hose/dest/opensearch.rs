//! OpenSearch and Elasticsearch: documents into indexes that begin anew with the time.
//!
//! **Guarantee: exactly once**, where documents have ids (the default for a stream). A document's id is its place in its
//! stream, and it is only ever created: a request that is repeated is answered with 409 for the documents that are
//! there already, which is what was wanted. The index of a document follows from its arrival time, so that a repeat
//! goes to the same one. The limit of this: behind an alias or a data stream that rolls over between an attempt and its
//! repeat, a document can be in the old and in the new index. Without ids (`ids: None`; what some serverless
//! collections insist on) it is at least once.
//!
//! # Where this is better than the service
//!
//! * Each document's own fate counts. Only those that may be taken later (429, 5xx) are sent again; what will never be
//!   taken goes to the error output at once with the server's type and reason, and takes nothing along.
//! * `create` instead of `index`, so that data streams work, and nothing is ever overwritten. A document without
//!   `@timestamp` can be given its arrival time.
//! * A document of several lines is sent as one.
//! * A request that is too large (413) is halved.
//!
//! The time for which a request is tried begins with its first attempt and has the waiting for answers in it, as the
//! service has it for this destination. `_type` is never sent: servers before Elasticsearch 7 are not spoken to.

mod bulk;
mod index;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::HeaderMap;
use tokio::time::Instant;

use bulk::{Document, Fate};
pub use index::Rotation;

use super::super::cancel::Cancel;
use super::super::failure::{ErrorType, Failure};
use super::client::{self, Answer, Client, ClientOptions, Fault};
use super::metrics::Metrics;
use super::retry::Backoff;
use super::rows::{self, Limit, Row};
use super::secret::{Secret, SecretSource, presentable};
use super::{Batch, DeliveryError, Destination, Refused, RetryPolicy, SetupError, flow};
use crate::sys::System;

/// What a bulk request should have: the size that OpenSearch's own guide begins with, and the service's default.
pub const REQUEST_BYTES: usize = 5 << 20;
/// `http.max_content_length` of every server.
pub const REQUEST_BYTES_MAX: usize = 100 << 20;
/// So many answers to single documents fit easily into memory, reasons included.
const DOCUMENTS_MAX: usize = 10_000;
/// Well above what that many answers have.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// An id has at most 512 bytes; what stands behind the prefix has at most 53.
const ID_PREFIX_BYTES_MAX: usize = 400;
/// An action line around its index and its id, with the longest of what stands behind the prefix, and both line ends.
const ACTION_BYTES: usize = 112;
/// The member with the time that data streams want.
const TIMESTAMP: &str = "@timestamp";
/// A request this small that is too large is so for another reason, and says nothing about others.
const LEARN_BYTES_MIN: usize = 64 << 10;

/// How to prove who one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    /// The secret is `user:password`.
    Basic(SecretSource),
    /// The secret is an encoded API key (Elasticsearch).
    ApiKey(SecretSource),
    /// The secret is a token.
    Bearer(SecretSource),
}

impl Authorization {
    fn source(&self) -> &SecretSource {
        match self {
            Self::Basic(source) | Self::ApiKey(source) | Self::Bearer(source) => source,
        }
    }

    fn header(&self, secret: &str) -> String {
        match self {
            Self::Basic(_) => format!("Basic {}", STANDARD.encode(secret)),
            Self::ApiKey(_) => format!("ApiKey {secret}"),
            Self::Bearer(_) => format!("Bearer {secret}"),
        }
    }
}

/// How documents are delivered.
#[derive(Debug, Clone)]
pub struct OpenSearchOptions {
    /// `opensearch://host:9200/index` or `elasticsearch://...`; see [`OpenSearch::new`].
    pub url: String,
    /// The index, where it is not the last part of the URL.
    pub index: Option<String>,
    /// How often a new index begins.
    pub rotation: Rotation,
    /// What the ids of documents begin with: the stream's UUID. It must differ from run to run where the origins of
    /// records do not (lines of a pipe). `None` leaves ids to the server, and documents may be there twice.
    pub ids: Option<String>,
    /// Credentials.
    pub authorization: Option<Authorization>,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// Whether a document without `@timestamp` is given its arrival time.
    pub add_timestamp: bool,
    /// How long a request is tried.
    pub retry: RetryPolicy,
    /// What a request has in bytes, up to [`REQUEST_BYTES_MAX`]. One document may be larger.
    pub request_bytes: usize,
    /// How many requests are under way at once.
    pub at_once: usize,
    /// Connections and time limits.
    pub client: ClientOptions,
}

impl Default for OpenSearchOptions {
    /// The service's; the URL and the ids are missing.
    fn default() -> Self {
        Self {
            url: String::new(),
            index: None,
            rotation: Rotation::default(),
            ids: None,
            authorization: None,
            gzip: false,
            add_timestamp: false,
            retry: RetryPolicy::default(),
            request_bytes: REQUEST_BYTES,
            at_once: 2,
            client: ClientOptions::default(),
        }
    }
}

/// An OpenSearch or Elasticsearch server.
pub struct OpenSearch {
    system: System,
    cancel: Cancel,
    options: OpenSearchOptions,
    client: Client,
    url: Url,
    index: String,
    headers: HeaderMap,
    secret: Option<Secret>,
    metrics: Arc<Metrics>,
    too_large: AtomicUsize,
}

impl OpenSearch {
    /// Checks the settings and reads the credentials; the network is not touched.
    ///
    /// The URL is `opensearch://HOST[:PORT][/PATH]/INDEX[?QUERY]`; `elasticsearch` is the same. It means `http`, port 9200
    /// where none is given. `https` is `opensearchs://` or `opensearch+https://` (port 443 where none is given), and
    /// `opensearch://` with the port 443. `opensearch+http://` is `http` whatever the port. The query is handed on
    /// (`?pipeline=NAME`).
    pub fn new(system: &System, options: OpenSearchOptions, cancel: &Cancel) -> Result<Self, SetupError> {
        let (url, index) = target(&options.url, options.index.as_deref())?;
        index::check(&index, options.rotation)?;
        if options.ids.as_ref().is_some_and(|prefix| prefix.len() > ID_PREFIX_BYTES_MAX) {
            return Err(SetupError(format!("ids: a prefix has at most {ID_PREFIX_BYTES_MAX} bytes")));
        }
        let mut headers = HeaderMap::new();
        client::header(&mut headers, "content-type", "application/x-ndjson")?;
        client::header(&mut headers, "accept", "application/json")?;
        if options.gzip {
            client::header(&mut headers, "content-encoding", "gzip")?;
        }
        let secret = options.authorization.as_ref().map(|it| Secret::load(it.source())).transpose()?;
        Ok(Self {
            system: system.clone(),
            cancel: cancel.clone(),
            client: Client::new(&options.client)?,
            url,
            index,
            headers,
            secret,
            metrics: Arc::new(Metrics::new("DeliveryToAmazonOpenSearchService")),
            too_large: AtomicUsize::new(usize::MAX),
            options,
        })
    }

    async fn deliver_all<'a>(&'a self, batch: &'a Batch) -> flow::Outcome {
        let limit =
            Limit { rows: DOCUMENTS_MAX, bytes: self.options.request_bytes.clamp(1, REQUEST_BYTES_MAX) };
        let down = Arc::new(AtomicBool::new(false));
        let groups = rows::groups(rows::rows(batch), limit, |row| self.cost(row));
        let work = |rows: Vec<Row<'a>>| -> BoxFuture<'a, flow::Outcome> {
            Box::pin(self.deliver_group(batch, rows, Arc::clone(&down)))
        };
        flow::concurrently(groups, self.options.at_once, work).await
    }

    /// About what a document has in a body, rather more than less.
    fn cost(&self, row: &Row<'_>) -> usize {
        let prefix = self.options.ids.as_ref().map_or(0, String::len);
        row.payload.len() + self.index.len() + prefix + ACTION_BYTES
    }

    async fn deliver_group(&self, batch: &Batch, rows: Vec<Row<'_>>, down: Arc<AtomicBool>) -> flow::Outcome {
        let seed = rows::request_id(batch, &rows).as_u128() as u64;
        let (mut refused, mut documents) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows {
            match self.document(row) {
                Ok(document) => documents.push(document),
                Err(it) => refused.push(it),
            }
        }
        // Parts that are still to be sent, the next at the end, and how often their documents were sent before.
        let mut parts = vec![(documents, 0)];
        while let Some((mut documents, before)) = parts.pop() {
            if documents.is_empty() {
                continue;
            }
            let size: usize = documents.iter().map(|document| self.cost(&document.row)).sum();
            let half = documents.len() / 2;
            if half > 0 && size >= self.too_large.load(Relaxed) {
                let second = documents.split_off(half);
                parts.extend([(second, before), (documents, before)]);
                continue;
            }
            if let Some((mut documents, attempts)) =
                self.send(documents, before, seed, &down, &mut refused).await?
            {
                if size >= LEARN_BYTES_MIN {
                    self.too_large.fetch_min(size, Relaxed);
                }
                let second = documents.split_off(documents.len() / 2);
                parts.extend([(second, attempts), (documents, attempts)]);
            }
        }
        Ok(refused)
    }

    /// A record as a document, or why it is none.
    fn document<'a>(&self, row: Row<'a>) -> Result<Document<'a>, Refused> {
        let origin = row.origin;
        let id = self.options.ids.as_ref().map(|prefix| {
            let (shard, index) = (origin.shard.0, origin.index);
            match origin.sub {
                Some(sub) => format!("{prefix}:{shard}:{index}.{sub}"),
                None => format!("{prefix}:{shard}:{index}"),
            }
        });
        let index = index::name(&self.index, self.options.rotation, origin.arrival_us);
        let mut document = Document { row, index, id, member: None };
        match bulk::check(row.payload, TIMESTAMP) {
            Ok(has_timestamp) => {
                if self.options.add_timestamp && !has_timestamp {
                    let at = Timestamp::from_microsecond(origin.arrival_us).unwrap_or_default();
                    document.member = Some(format!(r#""{TIMESTAMP}":"{at:.3}""#));
                }
                Ok(document)
            }
            Err(reason) => {
                let code = "DataFormatConversion.InvalidDocument";
                let failure = Failure::new(ErrorType::FormatConversion, code, reason);
                Err(self.refused(&document, failure, false))
            }
        }
    }

    fn refused(&self, document: &Document<'_>, failure: Failure, gave_up: bool) -> Refused {
        let mut details = vec![("esIndexName", document.index.clone())];
        details.extend(document.id.clone().map(|id| ("esDocumentId", id)));
        let ended_us = self.system.clock.now_us();
        Refused { place: document.row.place, failure, gave_up, ended_us, details }
    }

    /// One request until none of its documents is left; answers those that were too many at once, and how often they
    /// were sent.
    async fn send<'a>(
        &self,
        mut documents: Vec<Document<'a>>,
        before: u32,
        seed: u64,
        down: &AtomicBool,
        refused: &mut Vec<Refused>,
    ) -> Result<Option<(Vec<Document<'a>>, u32)>, DeliveryError> {
        let failed =
            |error: SetupError| DeliveryError::Permanent(format!("{}: {error}", client::shown(&self.url)));
        let mut backoff = Backoff::from_first_attempt(self.options.retry, seed);
        let mut renewed = false;
        loop {
            let mut headers = self.headers.clone();
            if let (Some(authorization), Some(secret)) = (&self.options.authorization, &self.secret) {
                let value = authorization.header(&secret.value());
                client::secret_header(&mut headers, "authorization", &value).map_err(failed)?;
            }
            let request = self.client.post(&self.url, headers, self.body(&documents));
            let bytes: u64 = documents.iter().map(|document| document.row.payload.len() as u64).sum();
            self.metrics.attempt(documents.len() as u64, bytes);
            let began = Instant::now();
            let answer = self.client.send(&request, ANSWER_BYTES_MAX).await;
            let retry_after = answer.as_ref().ok().and_then(Answer::retry_after);
            let attempts = before + backoff.attempts() + 1;
            let failure = |code: String, message: &str| Failure {
                attempts,
                ..Failure::new(ErrorType::OpenSearch, code, self.presentable(message))
            };
            // Why each document that is left was not taken: one reason for all of them, or one each.
            let (reasons, unreachable) = match judge(answer, documents.len(), self.options.ids.is_some()) {
                Ok(fates) => {
                    down.store(false, Relaxed);
                    let (mut left, mut reasons) = (Vec::new(), Vec::new());
                    for (document, fate) in documents.into_iter().zip(fates) {
                        match fate {
                            Fate::Stored => self.metrics.delivered(1, document.row.payload.len() as u64),
                            Fate::Never(status, reason) => {
                                refused.push(self.refused(
                                    &document,
                                    failure(status.to_string(), &reason),
                                    false,
                                ));
                            }
                            Fate::Later(status, reason) => {
                                reasons.push((status.to_string(), reason));
                                left.push(document);
                            }
                        }
                    }
                    documents = left;
                    if documents.is_empty() {
                        self.metrics.success();
                        return Ok(None);
                    }
                    (reasons, false)
                }
                Err(Problem { status: Some(413), code, message, .. }) => {
                    if documents.len() > 1 {
                        return Ok(Some((documents, attempts)));
                    }
                    refused.extend(
                        documents.iter().map(|it| self.refused(it, failure(code.clone(), &message), false)),
                    );
                    return Ok(None);
                }
                Err(Problem { status: Some(401 | 403), .. })
                    if !renewed && self.secret.as_ref().is_some_and(Secret::reload) =>
                {
                    renewed = true;
                    backoff.repeated();
                    continue;
                }
                Err(problem) => {
                    let unreachable = problem.status.is_none();
                    (vec![(problem.code, problem.message)], unreachable)
                }
            };
            match backoff.failed(began.elapsed(), retry_after) {
                Some(pause) if !down.load(Relaxed) => flow::pause(&self.cancel, pause).await?,
                _ if self.cancel.is_cancelled() => return Err(DeliveryError::Interrupted),
                _ => {
                    if unreachable {
                        down.store(true, Relaxed);
                    }
                    for (document, (code, reason)) in documents.iter().zip(reasons.iter().cycle()) {
                        refused.push(self.refused(document, failure(code.clone(), reason), true));
                    }
                    return Ok(None);
                }
            }
        }
    }

    fn presentable(&self, text: &str) -> String {
        let secrets: Vec<&Secret> = self.secret.iter().collect();
        presentable(text, &secrets)
    }

    fn body(&self, documents: &[Document<'_>]) -> Vec<u8> {
        let body = bulk::body(documents);
        if !self.options.gzip {
            return body;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // Writing to memory does not fail; if it did the server would see a body that ends early.
        let _ = encoder.write_all(&body);
        encoder.finish().unwrap_or_default()
    }
}

impl Destination for OpenSearch {
    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Refused>, DeliveryError>> {
        let grace = self.options.client.grace;
        Box::pin(flow::whole(batch, &self.metrics, &self.cancel, grace, self.deliver_all(batch)))
    }

    fn reload(&mut self) {
        if let Some(secret) = &self.secret {
            secret.reload();
        }
    }

    fn metrics(&self) -> Option<Arc<Metrics>> {
        Some(Arc::clone(&self.metrics))
    }
}

/// Why a whole request failed.
struct Problem {
    /// The status, or a word for why there is none.
    code: String,
    message: String,
    status: Option<u16>,
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let code = match &fault {
            Fault::Timeout => "RequestTimeout",
            Fault::Connect(_) | Fault::Unverified(_) | Fault::Handshake(_) => "ConnectionFailed",
            Fault::Closed(_) => "ConnectionReset",
            Fault::Malformed(_) => "InvalidResponseFromDestination",
            Fault::TooLarge => "ResponseTooLarge",
        };
        Self { code: format!("OpenSearch.{code}"), message: fault.to_string(), status: None }
    }
}

/// The fate of each document, or why nothing is known of them.
fn judge(answer: Result<Answer, Fault>, count: usize, has_ids: bool) -> Result<Vec<Fate>, Problem> {
    let answer = answer?;
    let status = Some(answer.status);
    if !(200..300).contains(&answer.status) {
        return Err(Problem { code: answer.status.to_string(), message: answer.describe(), status });
    }
    if let Some(fault) = answer.cut {
        return Err(fault.into());
    }
    let code = || "OpenSearch.InvalidResponseFromDestination".to_owned();
    bulk::fates(&answer.body, count, has_ids).map_err(|message| Problem { code: code(), message, status })
}

/// Where bulk requests go, and the index.
fn target(text: &str, index: Option<&str>) -> Result<(Url, String), SetupError> {
    let wrong = || SetupError("the destination's URL: give opensearch://HOST:PORT/INDEX".to_owned());
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let (base, index) = match index {
        Some(index) => (path, index),
        None => path.rsplit_once('/').unwrap_or(("", path)),
    };
    // A colon inside of brackets belongs to an IPv6 address.
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    let port = after_host.rsplit_once(':').map(|(_, port)| port);
    let (http, https) = (("http", "9200"), ("https", "443"));
    let (protocol, default_port) = match scheme {
        "opensearch" | "elasticsearch" if port == Some("443") => https,
        "opensearch" | "elasticsearch" | "opensearch+http" | "elasticsearch+http" => http,
        "opensearchs" | "elasticsearchs" | "opensearch+https" | "elasticsearch+https" => https,
        _ => return Err(wrong()),
    };
    let port = port.map_or_else(|| format!(":{default_port}"), |_| String::new());
    let slash = if base.is_empty() { "" } else { "/" };
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    let url = client::endpoint(&format!("{protocol}://{authority}{port}{slash}{base}/_bulk{query}"))?;
    Ok((url, index.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_the_server_the_protocol_and_the_index() {
        for (url, expected, index) in [
            ("opensearch://h:9200/logs", "http://h:9200/_bulk", "logs"),
            ("opensearch://h/logs", "http://h:9200/_bulk", "logs"),
            ("elasticsearch://h:443/logs/", "https://h/_bulk", "logs"),
            ("opensearchs://h/logs", "https://h/_bulk", "logs"),
            ("opensearchs://h:9200/logs", "https://h:9200/_bulk", "logs"),
            ("elasticsearch+https://h/es/v1/logs?pipeline=p", "https://h/es/v1/_bulk?pipeline=p", "logs"),
            ("opensearch+http://h:443/logs", "http://h:443/_bulk", "logs"),
            ("opensearch://[::1]/logs", "http://[::1]:9200/_bulk", "logs"),
        ] {
            let (got, got_index) = target(url, None).unwrap();
            assert_eq!((got.as_str(), got_index.as_str()), (expected, index), "{url}");
        }
        let (got, index) = target("opensearch://h/base", Some("other")).unwrap();
        assert_eq!((got.as_str(), index.as_str()), ("http://h:9200/base/_bulk", "other"));
        for bad in ["h:9200/logs", "http://h/logs", "opensearch://", "opensearch://a:b@h/logs"] {
            assert!(target(bad, None).is_err(), "{bad}");
        }
        let options =
            OpenSearchOptions { url: "opensearch://h:9200/".to_owned(), ..OpenSearchOptions::default() };
        assert!(OpenSearch::new(&System::real(), options, &Cancel::new()).is_err(), "no index");
    }
}
