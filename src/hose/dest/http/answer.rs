//! What an endpoint's answer means, by the service's rules.

use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use super::super::client::{Answer, Fault};

/// Why an attempt failed.
pub(super) struct Problem {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) status: Option<u16>,
    pub(super) unreachable: bool,
    pub(super) retry_after: Option<Duration>,
}

impl Problem {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status: None, unreachable: false, retry_after: None }
    }
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
        Self { unreachable: fault.is_unreachable(), ..Self::new(code, fault.to_string()) }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    request_id: String,
    #[expect(dead_code, reason = "it has to be there, and an integer; when it was does not matter")]
    timestamp: i64,
    error_message: Option<String>,
}

/// Whether an answer says that the records have been taken, by the service's rules.
pub(super) fn judge(answer: Result<Answer, Fault>, id: Uuid) -> Result<(), Problem> {
    let answer = answer?;
    let status = Some(answer.status);
    if answer.status != 200 {
        let reply: Option<Reply> = serde_json::from_slice(&answer.body).ok();
        let message = match reply.and_then(|reply| reply.error_message) {
            Some(message) => format!("{}: {message}", answer.status),
            None => answer.describe(),
        };
        let retry_after = answer.retry_after();
        return Err(Problem { status, retry_after, ..Problem::new("DestinationException", message) });
    }
    if let Some(fault) = answer.cut {
        return Err(Problem { status, ..fault.into() });
    }
    let invalid =
        |message: String| Problem { status, ..Problem::new("InvalidResponseFromDestination", message) };
    let content_type = answer.content_type();
    if content_type != "application/json" {
        return Err(invalid(format!("200 with the content type `{content_type}`, not application/json")));
    }
    if answer.headers.contains_key(reqwest::header::CONTENT_ENCODING) {
        return Err(invalid("200 with a content encoding".to_owned()));
    }
    let reply: Reply = serde_json::from_slice(&answer.body)
        .map_err(|error| invalid(format!("200, and the body is not as it should be: {error}")))?;
    if reply.request_id != id.to_string() {
        return Err(invalid(format!("200 for another request, {}, not {id}", reply.request_id)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    fn answer(status: u16, content_type: &str, body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", content_type.parse().unwrap());
        Answer { status, headers, body: body.as_bytes().to_vec(), cut: None }
    }

    #[test]
    fn only_the_right_answer_counts() {
        let id = Uuid::from_u128(5);
        let right = format!(r#"{{"requestId":"{id}","timestamp":1578090903599}}"#);
        let code = |answer| judge(Ok(answer), id).err().map(|problem| problem.code);
        assert_eq!(code(answer(200, "application/json", &right)), None);
        assert_eq!(code(answer(200, "Application/JSON; charset=utf-8", &right)), None);
        let invalid = Some("InvalidResponseFromDestination");
        assert_eq!(code(answer(200, "text/plain", &right)), invalid);
        for wrong in [
            "",
            "{}",
            "null",
            r#"{"requestId":"x","timestamp":1}"#,
            &right.replace("1578090903599", "\"1578090903599\""),
            &right.replace("1578090903599", "1.5"),
            &right[..right.len() - 1],
        ] {
            assert_eq!(code(answer(200, "application/json", wrong)), invalid, "{wrong}");
        }
        let exception = Some("DestinationException");
        for status in [201, 202, 204, 301, 400, 403, 413, 429, 500] {
            assert_eq!(code(answer(status, "application/json", &right)), exception);
        }
        let said = right.replace('}', r#","errorMessage":"no room"}"#);
        let problem = judge(Ok(answer(500, "application/json", &said)), id).unwrap_err();
        assert_eq!(problem.message, "500: no room");
        assert_eq!(judge(Err(Fault::Timeout), id).unwrap_err().code, "RequestTimeout");
        assert_eq!(judge(Err(Fault::Closed(String::new())), id).unwrap_err().code, "ConnectionReset");
    }
}
