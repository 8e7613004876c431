//! What a service's answer means, in a line for a person.
//!
//! Of an error only what is known to be harmless is shown: the status, the service's code and message, the reason of a
//! failed connection. The library's own text has the whole URL in it, and with an Azure SAS token the URL is the key.

use std::error::Error;

use object_store::client::HttpError;

use super::super::StoreError;
use super::super::credentials::CredentialError;

/// The longest message of a service that is passed on.
const MESSAGE_CHARS_MAX: usize = 300;

/// What is known of a failure.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) status: Option<u16>,
    /// `AccessDenied`.
    pub(super) code: Option<String>,
    message: Option<String>,
    /// The region that the service wants to be asked for.
    region: Option<String>,
    /// An answer of success with an error in it.
    is_late_error: bool,
    /// A redirection to nowhere: S3 says so of a bucket in another region.
    is_elsewhere: bool,
    transport: Option<String>,
    credentials: Option<CredentialError>,
}

impl Facts {
    pub(super) fn of(error: &object_store::Error) -> Self {
        const STATUS: &str = "Server returned non-2xx status code: ";
        const LATE: &str = "Server returned error response: ";
        let mut facts = Self::default();
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<CredentialError>() {
                facts.credentials = Some(error.clone());
                break;
            }
            if let Some(error) = error.downcast_ref::<HttpError>() {
                facts.transport = Some(transport_reason(error));
                break;
            }
            // The type of this error is the library's own: its text is all that there is.
            let text = error.to_string();
            if let Some(answer) = text.strip_prefix(STATUS) {
                let (status, body) = answer.split_once(':').unwrap_or((answer, ""));
                facts.status = status.split_whitespace().next().and_then(|number| number.parse().ok());
                facts.read_body(body.trim());
            } else if let Some(body) = text.strip_prefix(LATE) {
                facts.is_late_error = true;
                facts.read_body(body);
            } else if text.starts_with("Received redirect without LOCATION") {
                facts.is_elsewhere = true;
            }
            next = error.source();
        }
        facts
    }

    fn read_body(&mut self, body: &str) {
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(body) {
            // Google's, and that of services that give tokens.
            let text = |value: &serde_json::Value| value.as_str().map(one_line);
            let error = &json["error"];
            self.code = text(error).or_else(|| text(&error["status"]));
            self.message = text(&json["error_description"]).or_else(|| text(&error["message"]));
        } else {
            self.code = tag(body, "Code");
            self.message = tag(body, "Message").as_deref().map(one_line);
            self.region = tag(body, "Region");
        }
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// Whether other credentials might do.
    pub(super) fn is_refusal(&self) -> bool {
        match self.status {
            Some(401 | 403) => true,
            // An answer to HEAD has no body and so no code.
            Some(400) => self.code.is_none() || self.has_code(EXPIRED),
            _ => false,
        }
    }

    /// Whether the name is taken, or somebody is about to take it.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self.status, Some(304 | 409 | 412))
    }

    /// Whether it may be that a range begins behind the end of the object.
    pub(super) fn may_be_behind_the_end(&self) -> bool {
        let is_unknown = self.status.is_none() && self.transport.is_none() && self.credentials.is_none();
        self.status == Some(416) || is_unknown
    }

    /// Whether the service has no conditional writes.
    pub(super) fn is_unknown_condition(&self) -> bool {
        self.status == Some(501) || self.has_code(&["NotImplemented", "UnsupportedHeader"])
    }

    /// `403 AccessDenied: Access Denied`.
    fn answer(&self) -> String {
        let status = self.status.filter(|_| !self.is_late_error).map(|status| status.to_string());
        let head: Vec<&str> = [status.as_deref(), self.code.as_deref()].into_iter().flatten().collect();
        let head = head.join(" ");
        match &self.message {
            Some(message) if !message.is_empty() => format!("{head}: {message}"),
            _ => head,
        }
    }
}

const EXPIRED: &[&str] = &["ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"];
/// Conflicts that time does not end.
const SETTLED: &[&str] = &["BlobImmutableDueToPolicy", "BlobArchived", "InvalidBlobType"];

/// What failed: the URL of the object and of its bucket, and how a wrong region is set right.
pub(super) struct Subject<'a> {
    pub(super) object: String,
    pub(super) bucket: String,
    /// The region in use, and the one that the service has named.
    pub(super) region: Option<&'a str>,
    pub(super) bucket_region: Option<String>,
}

/// The error that the engine sees.
pub(super) fn store_error(error: &object_store::Error, subject: Subject<'_>) -> StoreError {
    let facts = Facts::of(error);
    let Subject { object: name, bucket, region, bucket_region } = subject;
    let reason = facts.answer();
    if let Some(CredentialError { reason, is_transient }) = facts.credentials {
        return if is_transient {
            StoreError::Transient { name, reason }
        } else {
            StoreError::Denied { name, reason }
        };
    }
    let is_elsewhere = facts.is_elsewhere
        || matches!(facts.status, Some(301 | 307))
        || facts.has_code(&[
            "AuthorizationHeaderMalformed",
            "PermanentRedirect",
            "IllegalLocationConstraintException",
        ]);
    if is_elsewhere && region.is_some() {
        let asked = region.unwrap_or("");
        let there = facts.region.or(bucket_region).filter(|there| there != asked);
        let reason = match there {
            Some(there) => format!("the bucket is in {there}, and {asked} was asked: set AWS_REGION={there}"),
            None => format!("the bucket is not in {asked}: set AWS_REGION to where it is"),
        };
        return StoreError::Permanent { name: bucket, reason };
    }
    if facts.is_late_error {
        return StoreError::Transient { name, reason };
    }
    match facts.status {
        // An upload that somebody else has ended: it begins anew.
        Some(404) if facts.has_code(&["NoSuchUpload"]) => StoreError::Transient { name, reason },
        Some(404) if facts.has_code(&["NoSuchBucket", "ContainerNotFound"]) => {
            StoreError::NotFound { name: format!("{bucket}, the {}", bucket_word(&bucket)) }
        }
        Some(404) => StoreError::NotFound { name },
        Some(401 | 403) => StoreError::Denied { name, reason },
        Some(400) if facts.has_code(EXPIRED) => StoreError::Denied { name, reason },
        Some(400) if facts.has_code(&["RequestTimeout"]) => StoreError::Transient { name, reason },
        Some(409) if !facts.has_code(SETTLED) => StoreError::Transient { name, reason },
        Some(408 | 429 | 500 | 502..=599) => StoreError::Transient { name, reason },
        Some(_) => StoreError::Permanent { name, reason },
        None => match facts.transport {
            Some(reason) => StoreError::Transient { name, reason },
            None => match error {
                object_store::Error::NotImplemented { .. }
                | object_store::Error::NotSupported { .. }
                | object_store::Error::InvalidPath { .. }
                | object_store::Error::UnknownConfigurationKey { .. } => {
                    StoreError::Permanent { name, reason: harmless(&error.to_string()) }
                }
                // An answer that nobody understands: of something that stands between, as a rule.
                _ => StoreError::Transient { name, reason: harmless(&error.to_string()) },
            },
        },
    }
}

fn bucket_word(bucket: &str) -> &'static str {
    if bucket.starts_with("az") || bucket.starts_with("abfs") { "container" } else { "bucket" }
}

/// The error of whoever was asked for credentials.
pub(in super::super) fn credential_error(error: &object_store::Error) -> CredentialError {
    let facts = Facts::of(error);
    let answer = facts.answer();
    match facts {
        Facts { credentials: Some(error), .. } => error,
        Facts { transport: Some(reason), .. } => CredentialError::transient(reason),
        Facts { status: Some(status), .. } => {
            CredentialError { reason: answer, is_transient: status >= 500 || status == 429 }
        }
        _ => CredentialError::permanent(harmless(&error.to_string())),
    }
}

/// Why a connection failed: what lies deepest says it.
pub(in super::super) fn transport_reason(error: &HttpError) -> String {
    let mut deepest: &(dyn Error + 'static) = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let text = harmless(&deepest.to_string());
    match deepest.downcast_ref::<std::io::Error>() {
        Some(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => text,
    }
}

/// The text in an element of XML.
pub(in super::super) fn tag(xml: &str, name: &str) -> Option<String> {
    let open = format!("<{name}>");
    let start = xml.find(&open)? + open.len();
    let len = xml[start..].find(&format!("</{name}>"))?;
    let text = &xml[start..start + len];
    if text.contains('<') {
        return None;
    }
    let entities =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    Some(entities.iter().fold(text.to_owned(), |text, (entity, meant)| text.replace(entity, meant)))
}

/// The first line, no longer than a line should be.
fn one_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or("").trim();
    line.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

/// One line without the query of any URL in it.
fn harmless(text: &str) -> String {
    let words = one_line(text);
    let words: Vec<&str> = words.split(' ').map(|word| word.split('?').next().unwrap_or("")).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Text(String);

    fn error(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: Box::new(Text(text.to_owned())) }
    }

    fn said(text: &str) -> String {
        let subject = Subject {
            object: "s3://b/x".to_owned(),
            bucket: "s3://b".to_owned(),
            region: Some("us-east-1"),
            bucket_region: None,
        };
        let error = store_error(&error(text), subject);
        let kind = match &error {
            StoreError::AlreadyExists { .. } => "exists",
            StoreError::NotFound { .. } => "none",
            StoreError::Denied { .. } => "denied",
            StoreError::Transient { .. } => "later",
            StoreError::Permanent { .. } => "never",
        };
        format!("{kind} {error}")
    }

    #[test]
    fn answers_and_what_they_mean() {
        let answer = |status: &str, code: &str, message: &str| {
            said(&format!(
                "Server returned non-2xx status code: {status}: <?xml version=\"1.0\"?><Error><Code>{code}</Code>\
                 <Message>{message}</Message><StringToSign>hunter2</StringToSign></Error>"
            ))
        };
        for (said, expected) in [
            (
                answer("403 Forbidden", "AccessDenied", "Access Denied"),
                "denied s3://b/x: not permitted: 403 AccessDenied: Access Denied",
            ),
            (answer("404 Not Found", "NoSuchKey", "m"), "none s3://b/x: it is not there"),
            (answer("404 Not Found", "NoSuchBucket", "m"), "none s3://b, the bucket: it is not there"),
            (answer("404 Not Found", "NoSuchUpload", "m"), "later s3://b/x: 404 NoSuchUpload: m"),
            (
                answer("400 Bad Request", "ExpiredToken", "m"),
                "denied s3://b/x: not permitted: 400 ExpiredToken: m",
            ),
            (answer("400 Bad Request", "RequestTimeout", "m"), "later s3://b/x: 400 RequestTimeout: m"),
            (answer("400 Bad Request", "EntityTooLarge", "m\nn"), "never s3://b/x: 400 EntityTooLarge: m"),
            (answer("409 Conflict", "OperationAborted", "m"), "later s3://b/x: 409 OperationAborted: m"),
            (answer("409 Conflict", "InvalidBlobType", "m"), "never s3://b/x: 409 InvalidBlobType: m"),
            (
                answer("503 Service Unavailable", "SlowDown", "a &amp; b"),
                "later s3://b/x: 503 SlowDown: a & b",
            ),
            (answer("501 Not Implemented", "NotImplemented", "m"), "never s3://b/x: 501 NotImplemented: m"),
            (
                said("Server returned non-2xx status code: 403 Forbidden: "),
                "denied s3://b/x: not permitted: 403",
            ),
            (
                said("Server returned error response: <Error><Code>InternalError</Code></Error>"),
                "later s3://b/x: InternalError",
            ),
            (
                said(
                    "Server returned non-2xx status code: 401 Unauthorized: {\"error\":\"invalid_client\",\"error_description\":\"m\\nn\"}",
                ),
                "denied s3://b/x: not permitted: 401 invalid_client: m",
            ),
            (
                said("odd answer of https://x/y?sig=hunter2 here"),
                "later s3://b/x: Generic S3 error: odd answer of https://x/y here",
            ),
        ] {
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn a_bucket_in_another_region() {
        assert_eq!(
            said(
                "Received redirect without LOCATION, this normally indicates an incorrectly configured region"
            ),
            "never s3://b: the bucket is not in us-east-1: set AWS_REGION to where it is"
        );
        assert_eq!(
            said(
                "Server returned non-2xx status code: 400 Bad Request: <Error><Code>AuthorizationHeaderMalformed</Code>\
                 <Message>m</Message><Region>eu-west-1</Region></Error>"
            ),
            "never s3://b: the bucket is in eu-west-1, and us-east-1 was asked: set AWS_REGION=eu-west-1"
        );
    }

    #[test]
    fn elements_of_an_answer() {
        assert_eq!(tag("<a><b>x &lt;&amp;lt;</b></a>", "b").as_deref(), Some("x <&lt;"));
        assert_eq!(tag("<a><b>x</b></a>", "a"), None);
        assert_eq!(tag("<b>x", "b"), None);
    }
}
