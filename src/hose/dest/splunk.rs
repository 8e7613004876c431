//! Splunk's HTTP Event Collector, with acknowledgements.
//!
//! **Guarantee: at least once.** Events count as delivered when the collector says that they are indexed. It says so
//! once: where that answer is lost, or late, they are sent again and are there twice. With `acks: false` they count as
//! delivered when they are received, and a crash of the indexer can lose them.
//!
//! # How it goes
//!
//! A request with events, under a channel of our own for the whole run, is answered with a number; that number is asked
//! for until the answer is yes. Several requests wait at the same time and are asked for together. A load balancer in
//! front must send all of it to one indexer: its cookies are kept.
//!
//! A token without acknowledgements is found out before anything is sent, and ends the run: nothing would be lost, but
//! nobody could tell either.
//!
//! # Where this is better than the service
//!
//! * Records for the event endpoint are looked at before they are sent. One that is no event goes to the error output
//!   alone; otherwise the collector would refuse all that was sent with it. What it finds fault with itself
//!   (`invalid-event-number`) is taken out and the rest sent again. The collector may have indexed what stood before
//!   it: that is there twice then.
//! * Raw records end their lines. The service runs them together unless they bring a line end of their own.
//! * A request that is too large (413) is halved.

mod answer;
mod event;
mod session;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::{BoxFuture, Either, select};
use reqwest::header::HeaderMap;
use reqwest::{Request, Url};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use answer::{Problem, number};
use event::Event;
use session::{Cookies, Waiting};

use super::super::cancel::Cancel;
use super::super::failure::{ErrorType, Failure};
use super::client::{self, Answer, Client, ClientOptions, Fault};
use super::metrics::Metrics;
use super::retry::Backoff;
use super::rows::{self, Limit, Row};
use super::secret::{Secret, SecretSource, presentable};
use super::{Batch, DeliveryError, Destination, Refused, RetryPolicy, SetupError, flow};
use crate::sys::System;

/// The service's largest batch for this destination.
pub const REQUEST_BYTES: usize = 5 << 20;
/// The shortest and the longest time that the service waits for an acknowledgement.
pub const ACK_TIMEOUT: (Duration, Duration) = (Duration::from_mins(3), Duration::from_mins(10));
/// Acknowledgements are asked for at first after this time, then less often, up to the longest.
const ACK_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// More events than this fit into no request.
const ROWS_MAX: usize = 100_000;
/// Answers are a line.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Which endpoint of the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SplunkEndpoint {
    /// `/services/collector/event`: each record is an event as the collector has them, `{"event": ...}`.
    #[default]
    Event,
    /// `/services/collector/raw`: records are lines of text.
    Raw,
}

/// How events are delivered.
#[derive(Debug, Clone)]
pub struct SplunkOptions {
    /// `splunk://host:8088`; see [`Splunk::new`].
    pub url: String,
    /// Which endpoint.
    pub endpoint: SplunkEndpoint,
    /// The token.
    pub token: SecretSource,
    /// Whether acknowledgements are waited for.
    pub acks: bool,
    /// How long one is waited for, before the events are sent again.
    pub ack_timeout: Duration,
    /// How soon it is asked for at first; less and less often from then on.
    pub ack_pause: Duration,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// How long a request is tried. The time begins with its first failure; waiting is not part of it.
    pub retry: RetryPolicy,
    /// What a request has in bytes. One record may be larger.
    pub request_bytes: usize,
    /// How many requests are under way at once, waiting for their acknowledgements most of the time.
    pub at_once: usize,
    /// Connections and time limits.
    pub client: ClientOptions,
}

impl Default for SplunkOptions {
    /// The service's; the URL is missing. The token is in `$SPLUNK_HEC_TOKEN`.
    fn default() -> Self {
        Self {
            url: String::new(),
            endpoint: SplunkEndpoint::default(),
            token: SecretSource::Env("SPLUNK_HEC_TOKEN".to_owned()),
            acks: true,
            ack_timeout: ACK_TIMEOUT.0,
            ack_pause: ACK_PAUSE.0,
            gzip: false,
            retry: RetryPolicy::default(),
            request_bytes: REQUEST_BYTES,
            at_once: 8,
            client: ClientOptions::default(),
        }
    }
}

/// A collector.
pub struct Splunk {
    system: System,
    cancel: Cancel,
    options: SplunkOptions,
    client: Client,
    events: Url,
    acks: Url,
    headers: HeaderMap,
    token: Secret,
    cookies: Cookies,
    waiting: Waiting,
    /// Whether it is known that the token has acknowledgements.
    has_acks: AtomicBool,
    metrics: Arc<Metrics>,
}

/// What became of a request.
enum Outcome<'a> {
    /// Nothing of it is left.
    Done,
    /// It is sent in halves: these events, and how often they were sent.
    Divide(Vec<Event<'a>>, u32),
}

impl Splunk {
    /// Checks the settings and reads the token; the network is not touched.
    ///
    /// The URL is `splunk://HOST[:PORT][/PATH][?QUERY]` and means `https`, as the collector has it unless told otherwise;
    /// `splunk+http://` is `http`. The port is 8088 where none is given. The query is handed on (`?index=main` and
    /// `sourcetype=`, `source=`, `host=` for the raw endpoint).
    pub fn new(system: &System, options: SplunkOptions, cancel: &Cancel) -> Result<Self, SetupError> {
        let channel = Uuid::new_v4();
        let (events, acks) = target(&options.url, options.endpoint, channel)?;
        let mut headers = HeaderMap::new();
        client::header(&mut headers, "x-splunk-request-channel", &channel.to_string())?;
        let token = Secret::load(&options.token)?;
        Ok(Self {
            system: system.clone(),
            cancel: cancel.clone(),
            client: Client::new(&options.client)?,
            events,
            acks,
            headers,
            token,
            cookies: Cookies::default(),
            waiting: Waiting::default(),
            has_acks: AtomicBool::new(false),
            metrics: Arc::new(Metrics::new("DeliveryToSplunk")),
            options,
        })
    }

    async fn deliver_all<'a>(&'a self, batch: &'a Batch) -> flow::Outcome {
        self.waiting.clear();
        if self.options.acks && !self.has_acks.load(Relaxed) {
            self.find_out().await?;
        }
        let limit = Limit { rows: ROWS_MAX, bytes: self.options.request_bytes.max(1) };
        let down = Arc::new(AtomicBool::new(false));
        let groups = rows::groups(rows::rows(batch), limit, event::cost);
        let work = |rows: Vec<Row<'a>>| -> BoxFuture<'a, flow::Outcome> {
            Box::pin(self.deliver_group(batch, rows, Arc::clone(&down)))
        };
        let deliveries: BoxFuture<'_, flow::Outcome> =
            Box::pin(flow::concurrently(groups, self.options.at_once, work));
        let questions: BoxFuture<'_, DeliveryError> = Box::pin(self.ask());
        match select(deliveries, questions).await {
            Either::Left((done, _)) => done,
            Either::Right((error, _)) => Err(error),
        }
    }

    /// Whether the token has acknowledgements, before anything is sent that would have none. A channel that has sent
    /// nothing may ask for any number.
    async fn find_out(&self) -> Result<(), DeliveryError> {
        match self.acknowledged(&[0]).await {
            Err(problem) if problem.number == Some(number::ACK_DISABLED) => Err(self.ack_disabled()),
            // Whatever else is wrong the events will meet too, and they are tried again.
            Err(_) => Ok(()),
            Ok(_) => {
                self.has_acks.store(true, Relaxed);
                Ok(())
            }
        }
    }

    fn ack_disabled(&self) -> DeliveryError {
        DeliveryError::Permanent(format!(
            "{}: Splunk.DisabledAck: this token has no indexer acknowledgement, and without it events can be lost; \
             try: enable it for the token, or give --splunk-no-ack",
            client::shown(&self.events)
        ))
    }

    /// Asks for acknowledgements for as long as it is let: soon after something was sent, then less often. An answer
    /// that comes late counts for nothing, so it is asked for often enough before its time is over.
    async fn ask(&self) -> DeliveryError {
        let first = self.options.ack_pause;
        let longest = (self.options.ack_timeout / 10).min(ACK_PAUSE.1).max(first);
        let mut pause = first;
        loop {
            if timeout(pause, self.waiting.news()).await.is_ok() {
                pause = first;
                sleep(pause).await;
            }
            let ids = self.waiting.ids();
            if ids.is_empty() {
                self.waiting.news().await;
                pause = first;
                sleep(pause).await;
                continue;
            }
            pause = (pause * 2).min(longest);
            match self.acknowledged(&ids).await {
                Ok(came) => self.waiting.came(&came),
                Err(problem) if problem.number == Some(number::ACK_DISABLED) => return self.ack_disabled(),
                Err(problem) => {
                    if matches!(problem.status, Some(401 | 403)) {
                        self.token.reload();
                    }
                    self.waiting.note(problem.code, problem.message);
                }
            }
        }
    }

    async fn acknowledged(&self, ids: &[u64]) -> Result<Vec<u64>, Problem> {
        let mut headers = self.headers.clone();
        let body = serde_json::json!({ "acks": ids }).to_string().into_bytes();
        let set = client::header(&mut headers, "content-type", "application/json");
        set.map_err(|error| Problem::new("InvalidEndpoint", error.to_string()))?;
        let mut request = self.client.post(&self.acks, headers, body);
        answer::acknowledged(self.send(&mut request).await?)
    }

    /// Sends a request with the token and the cookies of the moment.
    async fn send(&self, request: &mut Request) -> Result<Result<Answer, Fault>, Problem> {
        let set = |headers: &mut HeaderMap| -> Result<(), SetupError> {
            client::secret_header(headers, "authorization", &format!("Splunk {}", self.token.value()))?;
            if let Some(cookies) = self.cookies.header() {
                client::secret_header(headers, "cookie", &cookies)?;
            }
            Ok(())
        };
        set(request.headers_mut()).map_err(|error| Problem::new("InvalidToken", error.to_string()))?;
        let answer = self.client.send(request, ANSWER_BYTES_MAX).await;
        if let Ok(answer) = &answer {
            self.cookies.take(&answer.headers);
        }
        Ok(answer)
    }

    async fn deliver_group(&self, batch: &Batch, rows: Vec<Row<'_>>, down: Arc<AtomicBool>) -> flow::Outcome {
        let seed = rows::request_id(batch, &rows).as_u128() as u64;
        let (mut refused, mut events) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows {
            match Event::new(row, self.options.endpoint) {
                Ok(event) => events.push(event),
                Err(reason) => {
                    refused.push(self.refused(&row, "InvalidDataFormat", &reason, 0, false));
                }
            }
        }
        // Parts that are still to be sent, the next at the end, and how often their events were sent before.
        let mut parts = vec![(events, 0)];
        while let Some((events, before)) = parts.pop() {
            if events.is_empty() {
                continue;
            }
            match self.deliver_part(events, before, seed, &down, &mut refused).await? {
                Outcome::Done => {}
                Outcome::Divide(mut events, attempts) => {
                    let second = events.split_off(events.len() / 2);
                    parts.extend([(second, attempts), (events, attempts)]);
                }
            }
        }
        Ok(refused)
    }

    /// One request until its events are indexed.
    async fn deliver_part<'a>(
        &self,
        mut events: Vec<Event<'a>>,
        before: u32,
        seed: u64,
        down: &AtomicBool,
        refused: &mut Vec<Refused>,
    ) -> Result<Outcome<'a>, DeliveryError> {
        let mut request = self.request(&events);
        let mut backoff = Backoff::from_first_failure(self.options.retry, seed);
        let mut renewed = false;
        loop {
            let bytes: u64 = events.iter().map(|event| event.row.payload.len() as u64).sum();
            self.metrics.attempt(events.len() as u64, bytes);
            let began = Instant::now();
            let problem = match self.attempt(&mut request).await? {
                Ok(()) => {
                    down.store(false, Relaxed);
                    self.metrics.success();
                    self.metrics.delivered(events.len() as u64, bytes);
                    return Ok(Outcome::Done);
                }
                Err(problem) => problem,
            };
            let attempts = before + backoff.attempts() + 1;
            let Problem { code, message, .. } = &problem;
            let at_fault = problem.event.and_then(|number| event::position(&events, number)).filter(|at| {
                let wants_index = problem.number == Some(number::INCORRECT_INDEX) && events[*at].has_index;
                self.options.endpoint == SplunkEndpoint::Event && (problem.is_of_events() || wants_index)
            });
            if let Some(at) = at_fault {
                let event = events.remove(at);
                refused.push(self.refused(&event.row, code, message, attempts, false));
                if events.is_empty() {
                    return Ok(Outcome::Done);
                }
                request = self.request(&events);
                continue;
            }
            if problem.status == Some(413) || problem.is_of_events() {
                if events.len() > 1 {
                    return Ok(Outcome::Divide(events, attempts));
                }
                refused.extend(events.iter().map(|it| self.refused(&it.row, code, message, attempts, false)));
                return Ok(Outcome::Done);
            }
            if matches!(problem.status, Some(401 | 403)) && !renewed && self.token.reload() {
                renewed = true;
                backoff.repeated();
                continue;
            }
            // Only where nothing was sent has the time not been spent waiting for an answer.
            let counted = if problem.unreachable { began.elapsed() } else { Duration::ZERO };
            match backoff.failed(counted, problem.retry_after) {
                Some(pause) if !down.load(Relaxed) => flow::pause(&self.cancel, pause).await?,
                _ if self.cancel.is_cancelled() => return Err(DeliveryError::Interrupted),
                _ => {
                    if problem.unreachable {
                        down.store(true, Relaxed);
                    }
                    refused
                        .extend(events.iter().map(|it| self.refused(&it.row, code, message, attempts, true)));
                    return Ok(Outcome::Done);
                }
            }
        }
    }

    /// Sends events once and waits until they are indexed.
    async fn attempt(&self, request: &mut Request) -> Result<Result<(), Problem>, DeliveryError> {
        let answer = match self.send(request).await {
            Ok(answer) => answer,
            Err(problem) => return Ok(Err(problem)),
        };
        let id = match answer::taken(answer) {
            Err(problem) if problem.number == Some(number::ACK_DISABLED) => return Err(self.ack_disabled()),
            Err(problem) => return Ok(Err(problem)),
            Ok(_) if !self.options.acks => return Ok(Ok(())),
            Ok(None) => return Err(self.ack_disabled()),
            Ok(Some(id)) => id,
        };
        self.has_acks.store(true, Relaxed);
        let began = Instant::now();
        let not_sticky = || {
            let message = "two requests have the same acknowledgement number: they are not from one indexer";
            Ok(Err(Problem::new("ProxyWithoutStickySessions", message)))
        };
        let Some(wait) = self.waiting.wait(id) else { return not_sticky() };
        match timeout(self.options.ack_timeout, wait).await {
            Ok(Ok(())) => {
                self.metrics.acknowledged(began.elapsed());
                Ok(Ok(()))
            }
            Ok(Err(_)) => not_sticky(),
            Err(_) => {
                self.waiting.forget(id);
                let (code, reason) = match self.waiting.problem() {
                    Some((code @ "ProxyWithoutStickySessions", message)) => (code, message),
                    Some((_, message)) => ("AckTimeout", message),
                    None => ("AckTimeout", "not indexed".to_owned()),
                };
                let seconds = self.options.ack_timeout.as_secs_f64();
                Ok(Err(Problem::new(code, format!("no acknowledgement in {seconds} s: {reason}"))))
            }
        }
    }

    fn request(&self, events: &[Event<'_>]) -> Request {
        let mut body = event::body(events);
        let mut headers = self.headers.clone();
        let content_type = match self.options.endpoint {
            SplunkEndpoint::Event => "application/json",
            SplunkEndpoint::Raw => "text/plain",
        };
        headers.insert("content-type", reqwest::header::HeaderValue::from_static(content_type));
        if self.options.gzip {
            headers.insert("content-encoding", reqwest::header::HeaderValue::from_static("gzip"));
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            // Writing to memory does not fail; if it did the collector would see a body that ends early.
            let _ = encoder.write_all(&body);
            body = encoder.finish().unwrap_or_default();
        }
        self.client.post(&self.events, headers, body)
    }

    fn refused(&self, row: &Row<'_>, code: &str, message: &str, attempts: u32, gave_up: bool) -> Refused {
        let code = format!("Splunk.{code}");
        let message = presentable(message, &[&self.token]);
        let failure = Failure { attempts, ..Failure::new(ErrorType::Splunk, code, message) };
        let event_id = format!("{}.{}", row.origin.sequence(), row.origin.sub.unwrap_or(0));
        let ended_us = self.system.clock.now_us();
        Refused { place: row.place, failure, gave_up, ended_us, details: vec![("EventId", event_id)] }
    }
}

impl Destination for Splunk {
    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Refused>, DeliveryError>> {
        let grace = self.options.client.grace;
        Box::pin(flow::whole(batch, &self.metrics, &self.cancel, grace, self.deliver_all(batch)))
    }

    fn reload(&mut self) {
        self.token.reload();
    }

    fn metrics(&self) -> Option<Arc<Metrics>> {
        Some(Arc::clone(&self.metrics))
    }
}

/// Where events go, and where acknowledgements are asked for.
fn target(text: &str, endpoint: SplunkEndpoint, channel: Uuid) -> Result<(Url, Url), SetupError> {
    let wrong = || SetupError("the destination's URL: give splunk://HOST:PORT".to_owned());
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let protocol = match scheme {
        "splunk" | "splunk+https" => "https",
        "splunk+http" => "http",
        _ => return Err(wrong()),
    };
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // A colon inside of brackets belongs to an IPv6 address.
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    let port = if after_host.contains(':') { "" } else { ":8088" };
    let base = path.trim_end_matches('/');
    let slash = if base.is_empty() { "" } else { "/" };
    let base = format!("{protocol}://{authority}{port}{slash}{base}/services/collector");
    let name = match endpoint {
        SplunkEndpoint::Event => "event",
        SplunkEndpoint::Raw => "raw",
    };
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    let events = client::endpoint(&format!("{base}/{name}{query}"))?;
    let acks = client::endpoint(&format!("{base}/ack?channel={channel}"))?;
    Ok((events, acks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_the_server_and_the_protocol() {
        for (url, endpoint, expected) in [
            ("splunk://h", SplunkEndpoint::Event, "https://h:8088/services/collector/event"),
            (
                "splunk://h:443/x/?index=main",
                SplunkEndpoint::Raw,
                "https://h/x/services/collector/raw?index=main",
            ),
            ("splunk+http://[::1]", SplunkEndpoint::Raw, "http://[::1]:8088/services/collector/raw"),
        ] {
            let (events, acks) = target(url, endpoint, Uuid::nil()).unwrap();
            assert_eq!(events.as_str(), expected);
            assert!(acks.as_str().ends_with("/ack?channel=00000000-0000-0000-0000-000000000000"));
        }
        for bad in ["h:8088", "http://h", "splunk://", "splunk://a:b@h"] {
            assert!(target(bad, SplunkEndpoint::Raw, Uuid::nil()).is_err(), "{bad}");
        }
    }
}
