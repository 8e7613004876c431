//! Requests to services over HTTP, one client for each destination.
//!
//! Connections are kept and used again. Redirects are not followed. Certificates are checked against those of the
//! machine (`SSL_CERT_FILE`, `SSL_CERT_DIR`) and, where given, a file of the user's own. `HTTP_PROXY`, `HTTPS_PROXY`,
//! `ALL_PROXY` and `NO_PROXY` are respected. The real service speaks `https` to port 443 only; here the endpoints are
//! the user's own, and `http://` is allowed to any host. An answer is never read beyond what its reader asked for.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method, Request, Url};

use super::SetupError;
use crate::sys::fs::read_whole;

/// What the service waits for an answer.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_mins(3);
/// A server that is there answers the first packet within a few resent ones.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for an answer begins when the request is out. When that is cannot be seen from here, so a request is
/// given time for its way at this many bytes a second, and the time for the answer beside it.
const UPLOAD_BYTES_PER_SECOND: usize = 256 << 10;
/// Below what servers and load balancers usually keep idle connections for (60 s): ours should be the side that closes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// Files of certificates are smaller.
const CA_BYTES_MAX: usize = 8 << 20;
/// After a request to finish what is under way may go on for so long.
const GRACE: Duration = Duration::from_secs(10);

/// How a service is spoken to.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub response_timeout: Duration,
    /// Certificates (PEM) that are trusted beside those of the machine.
    pub ca_file: Option<PathBuf>,
    /// Whether the proxies of the environment are used.
    pub proxies: bool,
    /// How long a batch may go on after the run was asked to finish. It does where all goes well; a failure ends it.
    pub grace: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: CONNECT_TIMEOUT,
            response_timeout: RESPONSE_TIMEOUT,
            ca_file: None,
            proxies: true,
            grace: GRACE,
        }
    }
}

/// Sends requests.
pub(super) struct Client {
    http: reqwest::Client,
    response_timeout: Duration,
}

impl Client {
    pub(super) fn new(options: &ClientOptions) -> Result<Self, SetupError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("khose/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT);
        if !options.proxies {
            builder = builder.no_proxy();
        }
        if let Some(path) = &options.ca_file {
            let wrong = |reason: String| SetupError(format!("{}: {reason}", path.display()));
            let (pem, _) = read_whole(path, CA_BYTES_MAX).map_err(|error| wrong(error.to_string()))?;
            let certificates =
                Certificate::from_pem_bundle(&pem).map_err(|error| wrong(root(&error).to_string()))?;
            if certificates.is_empty() {
                return Err(wrong("no certificate in it".to_owned()));
            }
            for certificate in certificates {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let http = builder.build().map_err(|error| SetupError(format!("HTTP client: {}", root(&error))))?;
        Ok(Self { http, response_timeout: options.response_timeout })
    }

    /// A POST, to be sent as often as needed.
    pub(super) fn post(&self, url: &Url, headers: HeaderMap, body: Vec<u8>) -> Request {
        let way = Duration::from_secs((body.len() / UPLOAD_BYTES_PER_SECOND) as u64);
        let mut request = Request::new(Method::POST, url.clone());
        *request.headers_mut() = headers;
        *request.timeout_mut() = Some(self.response_timeout + way);
        *request.body_mut() = Some(body.into());
        request
    }

    /// Sends a request and reads up to `most` bytes of the answer.
    pub(super) async fn send(&self, request: &Request, most: usize) -> Result<Answer, Fault> {
        let copy = request.try_clone().ok_or_else(|| Fault::Closed("a body that is sent once".to_owned()))?;
        let mut response = self.http.execute(copy).await.map_err(|error| Fault::of(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let (mut body, mut cut) = (Vec::new(), None);
        loop {
            match response.chunk().await {
                Ok(None) => break,
                Ok(Some(chunk)) if body.len() + chunk.len() > most => {
                    cut = Some(Fault::TooLarge);
                    break;
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) => {
                    cut = Some(Fault::of(&error));
                    break;
                }
            }
        }
        Ok(Answer { status, headers, body, cut })
    }
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// Why the body is not all there, where it is not.
    pub(super) cut: Option<Fault>,
}

impl Answer {
    /// The media type without its parameters, in lower case.
    pub(super) fn content_type(&self) -> String {
        let value = self.headers.get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        value.unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase()
    }

    /// How long the server asks to be left alone. A date is not taken: the clocks may differ.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(RETRY_AFTER)?.to_str().ok()?;
        value.trim().parse().ok().map(Duration::from_secs)
    }

    /// `503 Service Unavailable: what the body says`.
    pub(super) fn describe(&self) -> String {
        let reason = reqwest::StatusCode::from_u16(self.status).ok().and_then(|s| s.canonical_reason());
        let text = String::from_utf8_lossy(&self.body);
        match (reason, text.trim()) {
            (Some(reason), "") => format!("{} {reason}", self.status),
            (Some(reason), text) => format!("{} {reason}: {text}", self.status),
            (None, "") => self.status.to_string(),
            (None, text) => format!("{}: {text}", self.status),
        }
    }
}

/// Why there is no answer, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// None came in time.
    Timeout,
    /// No connection.
    Connect(String),
    /// The certificate is not trusted.
    Unverified(String),
    /// TLS failed for another reason.
    Handshake(String),
    /// The connection ended.
    Closed(String),
    /// What came is not HTTP.
    Malformed(String),
    /// It is longer than what is read of it.
    TooLarge,
}

impl Fault {
    fn of(error: &reqwest::Error) -> Self {
        let cause = root(error).to_string();
        if let Some(tls) = tls(error) {
            return match tls {
                rustls::Error::InvalidCertificate(_) => Self::Unverified(tls.to_string()),
                other => Self::Handshake(other.to_string()),
            };
        }
        // A server that speaks no TLS ends the connection as a rule; this is what is said of it.
        if error.is_connect() && cause.contains("tls handshake") {
            return Self::Handshake(cause);
        }
        if error.is_connect() {
            return Self::Connect(if error.is_timeout() { "timed out".to_owned() } else { cause });
        }
        if error.is_timeout() {
            return Self::Timeout;
        }
        // What hyper says of bytes that are not HTTP begins like this; its type is not ours to name.
        if cause.starts_with("invalid ") {
            return Self::Malformed(cause);
        }
        Self::Closed(cause)
    }

    /// Whether nobody was there to take the request, so that nothing of it can have arrived.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Unverified(_) | Self::Handshake(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Connect(cause) => write!(f, "no connection: {cause}"),
            Self::Unverified(cause) => write!(f, "certificate not trusted: {cause}"),
            Self::Handshake(cause) => write!(f, "TLS: {cause}"),
            Self::Closed(cause) => write!(f, "connection closed: {cause}"),
            Self::Malformed(cause) => write!(f, "the answer is not HTTP: {cause}"),
            Self::TooLarge => f.write_str("the answer is too large"),
        }
    }
}

/// The first cause of an error; what stands above it names the URL, which may have a secret in its query.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// The error of TLS among the causes of this one.
fn tls(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = next {
        if let Some(tls) = cause.downcast_ref() {
            return Some(tls);
        }
        // An io::Error does not count what it was made from as its source.
        next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

/// Takes the URL of an endpoint apart. Credentials in it are refused: others see them in the list of processes.
pub(super) fn endpoint(text: &str) -> Result<Url, SetupError> {
    // The text is not repeated whole: it may have a secret in it.
    let url = Url::parse(text).map_err(|error| SetupError(format!("the destination's URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SetupError(format!(
            "{}: credentials do not belong in a URL; give them in a file",
            shown(&url)
        )));
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(SetupError(format!("{}: not the URL of an HTTP service", shown(&url))));
    }
    Ok(url)
}

/// A URL for messages: without credentials and without its query.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// A header whose value was made here.
pub(super) fn header(headers: &mut HeaderMap, name: &'static str, value: &str) -> Result<(), SetupError> {
    let value =
        HeaderValue::from_str(value).map_err(|_| SetupError(format!("{name}: not fit for a header")))?;
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}

/// A header whose value is a secret: it is not shown, and HTTP/2 does not keep it in its tables.
pub(super) fn secret_header(
    headers: &mut HeaderMap,
    name: &'static str,
    value: &str,
) -> Result<(), SetupError> {
    let mut value = HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| SetupError(format!("{name}: not fit for a header")))?;
    value.set_sensitive(true);
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_s_secrets_are_not_shown() {
        let error = endpoint("https://user:hunter2@host/x?key=hunter3").unwrap_err().to_string();
        assert!(error.contains("https://host/x") && !error.contains("hunter"), "{error}");
        assert!(endpoint("ftp://host/").is_err());
        assert!(endpoint("no url").is_err());
        assert_eq!(shown(&endpoint("http://host:8080/a?b=c#d").unwrap()), "http://host:8080/a");
    }

    #[test]
    fn a_missing_certificate_is_named() {
        let options =
            ClientOptions { ca_file: Some("/nonexistent/ca.pem".into()), ..ClientOptions::default() };
        let error = Client::new(&options).err().unwrap().to_string();
        assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    }
}
