//! Requests to a service, each with an end.
//!
//! The library's own limit is one time for every request, long enough for the largest body on the slowest line, so that
//! a connection into nowhere is noticed after minutes. Here a request has the time that its size needs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

/// The time that a service has for its answer, the body of the request not counted. Tests have none to lose.
const ANSWER: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 30 });
/// What is slower than this many bytes in a second is no line at all.
const SLOWEST: u64 = 64 << 10;

/// The time for a request or an answer of so many bytes.
pub(in super::super) fn patience(bytes: u64) -> Duration {
    ANSWER + Duration::from_secs(bytes / SLOWEST)
}

/// Makes clients. Clones share what they have seen.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Transport {
    bucket_region: Arc<Mutex<Option<String>>>,
}

impl Transport {
    /// The region that the service has named as the bucket's own, where a request came to another one.
    pub(super) fn bucket_region(&self) -> Option<String> {
        self.bucket_region.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HttpConnector for Transport {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Line { client, transport: self.clone() }))
    }
}

#[derive(Debug)]
struct Line {
    client: HttpClient,
    transport: Transport,
}

/// No answer came in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
struct NoAnswer(Duration);

impl HttpService for Line {
    fn call<'this, 'async_trait>(
        &'this self,
        request: HttpRequest,
    ) -> BoxFuture<'async_trait, Result<HttpResponse, HttpError>>
    where
        'this: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let limit = patience(request.body().content_length() as u64);
            let answer = tokio::time::timeout(limit, self.client.execute(request))
                .await
                .map_err(|_| HttpError::new(HttpErrorKind::Timeout, NoAnswer(limit)))??;
            if !answer.status().is_success() {
                let region =
                    answer.headers().get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
                if let Some(region) = region {
                    let mut seen =
                        self.transport.bucket_region.lock().unwrap_or_else(PoisonError::into_inner);
                    *seen = Some(region.to_owned());
                }
            }
            Ok(answer)
        })
    }
}

/// What takes longer than it may.
#[derive(Debug, thiserror::Error)]
pub(super) struct Stalled(Duration);

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not done within {} s", self.0.as_secs())
    }
}

/// Waits for work that moves so many bytes, no longer than that may take.
pub(super) async fn within<T>(
    bytes: u64,
    work: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    // Each request of it has its own limit and is tried again a few times: this is for what stops half way.
    let limit = patience(bytes) * 3;
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let stalled = HttpError::new(HttpErrorKind::Timeout, Stalled(limit));
        Err(object_store::Error::Generic { store: "object", source: Box::new(stalled) })
    })
}
