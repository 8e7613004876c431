//! `AssumeRole`: the security token service gives temporary credentials for others.

use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};

use super::super::object::answer::{tag, transport_reason};
use super::CredentialError;
use super::profile::{Keys, Role};

/// Where the service is, and who asks.
pub(super) struct Desk<'a> {
    pub(super) client: &'a HttpClient,
    pub(super) endpoint: &'a str,
    pub(super) region: &'a str,
    pub(super) base: &'a AwsCredential,
}

/// Asks for the role. Answers the keys and when they end, microseconds since the epoch.
pub(super) async fn assume(role: &Role, desk: &Desk<'_>) -> Result<(Keys, Option<i64>), CredentialError> {
    let wrong = |what: String| CredentialError::permanent(format!("role {}: {what}", role.arn));
    let mut fields = vec![
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", role.arn.as_str()),
        ("RoleSessionName", role.session_name.as_deref().unwrap_or("kpipe")),
    ];
    fields.extend(role.external_id.as_deref().map(|id| ("ExternalId", id)));
    fields.extend(role.duration_seconds.as_deref().map(|seconds| ("DurationSeconds", seconds)));
    // A URL's query and a form are written in the same way.
    let form = reqwest::Url::parse_with_params("http://form/", fields)
        .ok()
        .and_then(|url| url.query().map(str::to_owned))
        .ok_or_else(|| wrong("its name cannot be sent".to_owned()))?;

    let mut request = HttpRequest::new(HttpRequestBody::from(form));
    *request.method_mut() = reqwest::Method::POST;
    let endpoint = format!("{}/", desk.endpoint.trim_end_matches('/'));
    *request.uri_mut() = endpoint.parse().map_err(|_| wrong(format!("{endpoint}: not a URL")))?;
    let media_type = reqwest::header::HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(reqwest::header::CONTENT_TYPE, media_type);
    AwsAuthorizer::new(desk.base, "sts", desk.region).authorize(&mut request, None);

    let unreachable = |error: &object_store::client::HttpError| {
        CredentialError::transient(format!("role {}: {endpoint}: {}", role.arn, transport_reason(error)))
    };
    let answer = desk.client.execute(request).await.map_err(|error| unreachable(&error))?;
    let status = answer.status();
    let body = answer.into_body().bytes().await.map_err(|error| unreachable(&error))?;
    let body = String::from_utf8_lossy(&body);
    if !status.is_success() {
        let said = [tag(&body, "Code"), tag(&body, "Message")];
        let said: Vec<String> = said.into_iter().flatten().collect();
        let reason = format!("role {}: {endpoint}: {status} {}", role.arn, said.join(": "));
        let is_transient = status.is_server_error() || said.first().is_some_and(|code| code == "Throttling");
        return Err(CredentialError { reason: reason.trim_end().to_owned(), is_transient });
    }
    let part =
        |name: &str| tag(&body, name).ok_or_else(|| wrong(format!("{endpoint} answers without {name}")));
    let keys = Keys::new(
        &part("AccessKeyId")?,
        &part("SecretAccessKey")?,
        Some(&part("SessionToken")?),
        &format!("role {}", role.arn),
    )?;
    let expires: jiff::Timestamp =
        part("Expiration")?.parse().map_err(|_| wrong("its Expiration is no time".to_owned()))?;
    Ok((keys, Some(expires.as_microsecond())))
}
