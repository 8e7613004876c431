//! Any HTTP endpoint that speaks the service's request and response.
//!
//! **Guarantee: at least once.** A request that was answered too late, or whose answer was lost, is sent again, and so
//! is a batch whose run was killed before its commit. Each such repeat has the same `X-Amz-Firehose-Request-Id`: it is
//! a function of the batch and of the records in the request, and where a batch is cut into requests depends on its
//! records alone. A receiver that remembers request ids has every record once.
//!
//! # Where this is better than the service
//!
//! * The service gives up on a request that is answered with 413, and its records are gone. Here it is sent as two
//!   halves, and so on down to the single record that is too large, which is refused; the others arrive. Halves have
//!   ids of their own by the same rule. What was too large once is not tried again in this run.
//! * After 401 and 403 the access key is read again, and where it has changed the request is repeated at once.
//! * `Retry-After` in seconds is respected, up to the longest pause.
//! * Where nobody was there for a whole retry duration, the requests of the same batch that follow are tried once each
//!   instead of for as long again.
//!
//! Requests of a batch are sent one after the other, in the order of its records, unless more at once are asked for.
//! Each has its body in memory: 64 MiB at most, for records of three quarters of that, beside the batch.

mod answer;

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::header::HeaderMap;
use tokio::time::Instant;
use uuid::Uuid;

use answer::judge;

use super::super::cancel::Cancel;
use super::super::failure::ErrorType;
use super::client::{self, Client, ClientOptions};
use super::metrics::Metrics;
use super::retry::Backoff;
use super::rows::{self, Limit, Row, Verdict};
use super::secret::{Secret, SecretSource, presentable};
use super::{Batch, DeliveryError, Destination, Refused, RetryPolicy, SetupError, flow};
use crate::sys::System;

/// The most records in one request.
pub const RECORDS_MAX: usize = 10_000;
/// The largest body, before it is compressed.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// The largest record: 1,365,336 characters of base64.
pub const RECORD_BYTES_MAX: usize = 1_365_336 / 4 * 3;
/// The most common attributes, and the longest name and value in characters.
const COMMON_MAX: (usize, usize, usize) = (50, 256, 1024);
/// The largest answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// What a body has around its records, with room.
const ENVELOPE_BYTES: usize = 160;
/// What a record has around its base64: `{"data":""},`.
const AROUND_RECORD_BYTES: usize = 12;
/// A request this small that is too large is so for another reason, and says nothing about others.
const LEARN_BYTES_MIN: usize = 64 << 10;

/// How an endpoint is delivered to.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// The endpoint, used as it is.
    pub url: String,
    /// The stream's name, for `X-Amz-Firehose-Source-Arn`.
    pub name: String,
    /// `X-Amz-Firehose-Access-Key`.
    pub access_key: Option<SecretSource>,
    /// `X-Amz-Firehose-Common-Attributes`: at most 50; names of 1 to 256 characters, values of up to 1024.
    pub common: Vec<(String, String)>,
    /// Whether bodies are compressed (`Content-Encoding: gzip`).
    pub gzip: bool,
    /// How long a request is tried. The time begins with its first failure; waiting for answers is not part of it.
    pub retry: RetryPolicy,
    /// The most records in one request.
    pub records_max: usize,
    /// The largest body, before it is compressed.
    pub body_bytes_max: usize,
    /// The largest record. Receivers other than the service's may take more than its limit.
    pub record_bytes_max: usize,
    /// How many requests are under way at once.
    pub at_once: usize,
    /// Connections and time limits.
    pub client: ClientOptions,
}

impl Default for HttpOptions {
    /// The service's limits; the URL is missing.
    fn default() -> Self {
        Self {
            url: String::new(),
            name: "khose".to_owned(),
            access_key: None,
            common: Vec::new(),
            gzip: false,
            retry: RetryPolicy::default(),
            records_max: RECORDS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            record_bytes_max: RECORD_BYTES_MAX,
            at_once: 1,
            client: ClientOptions::default(),
        }
    }
}

/// An HTTP endpoint.
pub struct HttpEndpoint {
    system: System,
    cancel: Cancel,
    options: HttpOptions,
    client: Client,
    url: Url,
    shown: String,
    headers: HeaderMap,
    key: Option<Secret>,
    metrics: Arc<Metrics>,
    /// Bodies of this size have been answered with 413.
    too_large: AtomicUsize,
}

impl HttpEndpoint {
    /// Checks the settings and reads the key; the network is not touched.
    pub fn new(system: &System, options: HttpOptions, cancel: &Cancel) -> Result<Self, SetupError> {
        let url = client::endpoint(&options.url)?;
        let mut headers = HeaderMap::new();
        client::header(&mut headers, "x-amz-firehose-protocol-version", "1.0")?;
        client::header(&mut headers, "content-type", "application/json")?;
        client::header(&mut headers, "x-amz-firehose-source-arn", &arn(&options.name))?;
        if options.gzip {
            client::header(&mut headers, "content-encoding", "gzip")?;
        }
        if let Some(common) = common(&options.common)? {
            client::header(&mut headers, "x-amz-firehose-common-attributes", &common)?;
        }
        let key = options.access_key.as_ref().map(Secret::load).transpose()?;
        Ok(Self {
            system: system.clone(),
            cancel: cancel.clone(),
            client: Client::new(&options.client)?,
            shown: client::shown(&url),
            url,
            headers,
            key,
            metrics: Arc::new(Metrics::new("DeliveryToHttpEndpoint")),
            too_large: AtomicUsize::new(usize::MAX),
            options,
        })
    }

    async fn deliver_all<'a>(&'a self, batch: &'a Batch) -> flow::Outcome {
        let limit = Limit {
            rows: self.options.records_max.clamp(1, RECORDS_MAX),
            bytes: self.options.body_bytes_max.min(BODY_BYTES_MAX).saturating_sub(ENVELOPE_BYTES),
        };
        let down = Arc::new(AtomicBool::new(false));
        let groups = rows::groups(rows::rows(batch), limit, |row| self.cost(row));
        let work = |rows: Vec<Row<'a>>| -> BoxFuture<'a, flow::Outcome> {
            Box::pin(self.deliver_group(batch, rows, Arc::clone(&down)))
        };
        flow::concurrently(groups, self.options.at_once, work).await
    }

    /// What a record has in a body. One that will not be sent has nothing.
    fn cost(&self, row: &Row<'_>) -> usize {
        match row.payload.len() {
            len if len > self.options.record_bytes_max => 0,
            len => base64_len(len) + AROUND_RECORD_BYTES,
        }
    }

    async fn deliver_group(&self, batch: &Batch, rows: Vec<Row<'_>>, down: Arc<AtomicBool>) -> flow::Outcome {
        let (large, rows): (Vec<Row<'_>>, Vec<Row<'_>>) =
            rows.into_iter().partition(|row| row.payload.len() > self.options.record_bytes_max);
        let mut refused: Vec<Refused> = large.iter().map(|row| self.too_large(row)).collect();
        // Parts that are still to be sent, the next at the end, and how often their records were sent before.
        let mut parts = vec![(rows.as_slice(), 0)];
        while let Some((rows, before)) = parts.pop() {
            if rows.is_empty() {
                continue;
            }
            let size: usize = rows.iter().map(|row| self.cost(row)).sum();
            let (first, second) = rows.split_at(rows.len() / 2);
            if size >= self.too_large.load(Relaxed) && !first.is_empty() {
                parts.extend([(second, before), (first, before)]);
                continue;
            }
            match self.send(batch, rows, before, &down).await? {
                Outcome::Delivered => self.metrics.delivered(rows.len() as u64, rows::bytes(rows)),
                Outcome::TooLarge(verdict) if first.is_empty() => {
                    refused.extend(rows.iter().map(|row| row.refused(&verdict)));
                }
                Outcome::TooLarge(verdict) => {
                    if size >= LEARN_BYTES_MIN {
                        self.too_large.fetch_min(size, Relaxed);
                    }
                    parts.extend([(second, verdict.attempts), (first, verdict.attempts)]);
                }
                Outcome::GaveUp(verdict) => refused.extend(rows.iter().map(|row| row.refused(&verdict))),
            }
        }
        Ok(refused)
    }

    fn too_large(&self, row: &Row<'_>) -> Refused {
        let (len, most) = (row.payload.len(), self.options.record_bytes_max);
        row.refused(&Verdict {
            error_type: ErrorType::HttpEndpoint,
            code: "HttpEndpoint.RecordTooLarge".to_owned(),
            message: format!("{len} bytes, the endpoint takes {most} at most"),
            attempts: 0,
            gave_up: false,
            ended_us: self.system.clock.now_us(),
        })
    }

    /// One request until it is through.
    async fn send(
        &self,
        batch: &Batch,
        rows: &[Row<'_>],
        before: u32,
        down: &AtomicBool,
    ) -> Result<Outcome, DeliveryError> {
        let id = rows::request_id(batch, rows);
        let failed = |error: SetupError| DeliveryError::Permanent(format!("{}: {error}", self.shown));
        let mut headers = self.headers.clone();
        client::header(&mut headers, "x-amz-firehose-request-id", &id.to_string()).map_err(failed)?;
        let mut request = self.client.post(&self.url, headers, self.body(id, rows));
        let mut backoff = Backoff::from_first_failure(self.options.retry, id.as_u128() as u64);
        let mut renewed = false;
        loop {
            if let Some(key) = &self.key {
                let headers = request.headers_mut();
                client::secret_header(headers, "x-amz-firehose-access-key", &key.value()).map_err(failed)?;
            }
            self.metrics.attempt(rows.len() as u64, rows::bytes(rows));
            let began = Instant::now();
            let answer = self.client.send(&request, ANSWER_BYTES_MAX).await;
            let Err(problem) = judge(answer, id) else {
                down.store(false, Relaxed);
                self.metrics.success();
                return Ok(Outcome::Delivered);
            };
            let verdict = |attempts: u32, gave_up| Verdict {
                error_type: ErrorType::HttpEndpoint,
                code: format!("HttpEndpoint.{}", problem.code),
                message: self.presentable(&problem.message),
                attempts: before + attempts,
                gave_up,
                ended_us: self.system.clock.now_us(),
            };
            match problem.status {
                Some(413) => return Ok(Outcome::TooLarge(verdict(backoff.attempts() + 1, false))),
                Some(401 | 403) if !renewed && self.key.as_ref().is_some_and(Secret::reload) => {
                    renewed = true;
                    backoff.repeated();
                    continue;
                }
                _ => {}
            }
            // Only where nothing was sent has the time not been spent waiting for an answer.
            let counted = if problem.unreachable { began.elapsed() } else { Duration::ZERO };
            match backoff.failed(counted, problem.retry_after) {
                Some(pause) if !down.load(Relaxed) => flow::pause(&self.cancel, pause).await?,
                _ => {
                    if problem.unreachable || problem.status.is_none() {
                        down.store(true, Relaxed);
                    }
                    return self.gave_up(verdict(backoff.attempts(), true));
                }
            }
        }
    }

    /// A run that was asked to finish has not given up: it did not try for as long as it should.
    fn gave_up(&self, verdict: Verdict) -> Result<Outcome, DeliveryError> {
        if self.cancel.is_cancelled() {
            return Err(DeliveryError::Interrupted);
        }
        Ok(Outcome::GaveUp(verdict))
    }

    fn presentable(&self, text: &str) -> String {
        let secrets: Vec<&Secret> = self.key.iter().collect();
        presentable(text, &secrets)
    }

    fn body(&self, id: Uuid, rows: &[Row<'_>]) -> Vec<u8> {
        let size: usize = rows.iter().map(|row| self.cost(row)).sum();
        let mut body = String::with_capacity(size + ENVELOPE_BYTES);
        let now_ms = self.system.clock.now_us() / 1000;
        // Writing to a String does not fail.
        let _ = write!(body, r#"{{"requestId":"{id}","timestamp":{now_ms},"records":["#);
        for (i, row) in rows.iter().enumerate() {
            body.push_str(if i == 0 { r#"{"data":""# } else { r#",{"data":""# });
            STANDARD.encode_string(row.payload, &mut body);
            body.push_str(r#""}"#);
        }
        body.push_str("]}");
        if !self.options.gzip {
            return body.into_bytes();
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // Writing to memory does not fail; if it did the receiver would see a body that ends early.
        let _ = encoder.write_all(body.as_bytes());
        encoder.finish().unwrap_or_default()
    }
}

impl Destination for HttpEndpoint {
    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Refused>, DeliveryError>> {
        let grace = self.options.client.grace;
        Box::pin(flow::whole(batch, &self.metrics, &self.cancel, grace, self.deliver_all(batch)))
    }

    fn reload(&mut self) {
        if let Some(key) = &self.key {
            key.reload();
        }
    }

    fn metrics(&self) -> Option<Arc<Metrics>> {
        Some(Arc::clone(&self.metrics))
    }
}

enum Outcome {
    Delivered,
    TooLarge(Verdict),
    GaveUp(Verdict),
}

fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// The name of a delivery, in the form that receivers take apart.
fn arn(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' };
    format!("arn:kpipe:firehose:::deliverystream/{}", name.chars().map(fit).collect::<String>())
}

/// The header's value, in ASCII as a header must be.
fn common(attributes: &[(String, String)]) -> Result<Option<String>, SetupError> {
    let (most, name_max, value_max) = COMMON_MAX;
    if attributes.is_empty() {
        return Ok(None);
    }
    if attributes.len() > most {
        return Err(SetupError(format!("{} common attributes, at most {most} expected", attributes.len())));
    }
    let mut map = serde_json::Map::new();
    for (name, value) in attributes {
        let wrong = |what: &str| SetupError(format!("common attribute `{name}`: {what}"));
        if name.trim().is_empty() || name.chars().count() > name_max {
            return Err(wrong("a name has 1 to 256 characters"));
        }
        if value.chars().count() > value_max {
            return Err(wrong("a value has at most 1024 characters"));
        }
        if map.insert(name.clone(), value.clone().into()).is_some() {
            return Err(wrong("given twice"));
        }
    }
    let text = serde_json::json!({ "commonAttributes": map }).to_string();
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ' '..='~') {
            ascii.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    Ok(Some(ascii))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_attributes_become_headers() {
        assert_eq!(arn("clicks.v2"), "arn:kpipe:firehose:::deliverystream/clicks.v2");
        assert_eq!(arn("./a b/ü"), "arn:kpipe:firehose:::deliverystream/.-a-b--");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let value = common(&[pair("tenant", "7"), pair("größe", "😀\u{7f}\n")]).unwrap().unwrap();
        assert!(value.is_ascii() && !value.contains('\u{7f}'), "{value}");
        let back: serde_json::Value = serde_json::from_str(&value).unwrap();
        assert_eq!(back["commonAttributes"]["größe"], "😀\u{7f}\n");
        assert_eq!(common(&[]).unwrap(), None);
        let many: Vec<_> = (0..51).map(|i| pair(&i.to_string(), "")).collect();
        assert!(common(&many[..50]).is_ok());
        assert!(common(&many).is_err());
        assert!(common(&[pair("", "x")]).is_err());
        assert!(common(&[pair(&"x".repeat(257), "x")]).is_err());
        assert!(common(&[pair("x", &"x".repeat(1025))]).is_err());
        assert!(common(&[pair("x", "1"), pair("x", "2")]).is_err());
    }
}
