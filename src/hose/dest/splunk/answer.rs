//! What the collector's answers mean.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::client::{Answer, Fault};

/// Why something failed, with the service's word for it.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) status: Option<u16>,
    /// The collector's own number for it.
    pub(super) number: Option<u32>,
    /// Which event is wrong, where it is one.
    pub(super) event: Option<u64>,
    pub(super) retry_after: Option<Duration>,
    /// Whether nobody was there.
    pub(super) unreachable: bool,
}

impl Problem {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            status: None,
            number: None,
            event: None,
            retry_after: None,
            unreachable: false,
        }
    }

    /// Whether the events are at fault, or one of them, and not the moment.
    pub(super) fn is_of_events(&self) -> bool {
        matches!(
            self.number,
            Some(number::INVALID_DATA | number::NO_EVENT | number::BLANK_EVENT | number::FIELDS)
        )
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let code = match &fault {
            Fault::Timeout => "ConnectionTimeout",
            Fault::Connect(cause) if cause.contains("lookup address") => "UnknownHost",
            Fault::Connect(cause) if cause.contains("timed out") => "ConnectionTimeout",
            Fault::Connect(_) | Fault::Closed(_) => "ConnectionClosed",
            Fault::Unverified(_) => "SSLUnverified",
            Fault::Handshake(_) => "SSLHandshake",
            Fault::Malformed(_) | Fault::TooLarge => "InvalidEndpoint",
        };
        Self { unreachable: fault.is_unreachable(), ..Self::new(code, fault.to_string()) }
    }
}

/// The collector's numbers that mean something here.
pub(super) mod number {
    pub(crate) const INVALID_DATA: u32 = 6;
    pub(crate) const INCORRECT_INDEX: u32 = 7;
    pub(crate) const NO_CHANNEL: u32 = 10;
    pub(crate) const INVALID_CHANNEL: u32 = 11;
    pub(crate) const NO_EVENT: u32 = 12;
    pub(crate) const BLANK_EVENT: u32 = 13;
    pub(crate) const ACK_DISABLED: u32 = 14;
    pub(crate) const FIELDS: u32 = 15;
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    text: String,
    code: u32,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
    #[serde(rename = "invalid-event-number")]
    event: Option<u64>,
}

#[derive(Deserialize)]
struct Acks {
    acks: BTreeMap<u64, bool>,
}

/// The number that an acknowledgement is asked for by, where events were taken and there is one.
pub(super) fn taken(answer: Result<Answer, Fault>) -> Result<Option<u64>, Problem> {
    let reply: Reply = read(answer)?;
    Ok(reply.ack_id)
}

/// Which of the acknowledgements that were asked for have come.
pub(super) fn acknowledged(answer: Result<Answer, Fault>) -> Result<Vec<u64>, Problem> {
    let Acks { acks } = read(answer)?;
    Ok(acks.into_iter().filter_map(|(id, has_come)| has_come.then_some(id)).collect())
}

fn read<T: DeserializeOwned>(answer: Result<Answer, Fault>) -> Result<T, Problem> {
    let answer = answer?;
    let reply: Option<Reply> = serde_json::from_slice(&answer.body).ok();
    let number = reply.as_ref().map(|reply| reply.code).filter(|code| *code != 0);
    if answer.status != 200 || number.is_some() {
        let message = match &reply {
            Some(reply) => format!("{}: {} (code {})", answer.status, reply.text, reply.code),
            None => answer.describe(),
        };
        return Err(Problem {
            status: Some(answer.status),
            number,
            event: reply.and_then(|reply| reply.event),
            retry_after: answer.retry_after(),
            ..Problem::new(code(answer.status, number), message)
        });
    }
    if let Some(fault) = answer.cut {
        return Err(fault.into());
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        let message = format!("200, and the body is not as it should be: {error}");
        Problem { status: Some(200), ..Problem::new("InvalidEndpoint", message) }
    })
}

/// The service's word for an answer.
fn code(status: u16, number: Option<u32>) -> &'static str {
    match (number, status) {
        (Some(1), _) => "DisabledToken",
        (Some(2..=4), _) | (None, 401 | 403) => "InvalidToken",
        (Some(5 | number::INVALID_DATA | number::NO_EVENT | number::BLANK_EVENT | number::FIELDS), _) => {
            "InvalidDataFormat"
        }
        (Some(number::INCORRECT_INDEX), _) => "InvalidIndex",
        (Some(number::NO_CHANNEL | number::INVALID_CHANNEL), _) => "ProxyWithoutStickySessions",
        (Some(number::ACK_DISABLED), _) => "DisabledAck",
        (_, 413) => "ServerError.ContentTooLarge",
        (None, 404 | 405) => "URLNotFound",
        (Some(9), _) | (_, 429 | 503) => "IndexerBusy",
        _ => "ServerError",
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    fn answer(status: u16, body: &str) -> Result<Answer, Fault> {
        Ok(Answer { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec(), cut: None })
            .and_then(|answer| if status == 0 { Err(Fault::Timeout) } else { Ok(answer) })
    }

    #[test]
    fn answers_have_the_service_s_codes() {
        assert_eq!(taken(answer(200, r#"{"text":"Success","code":0,"ackId":7}"#)).unwrap(), Some(7));
        assert_eq!(taken(answer(200, r#"{"text":"Success","code":0}"#)).unwrap(), None);
        for (status, body, code) in [
            (403, r#"{"text":"Token disabled","code":1}"#, "DisabledToken"),
            (403, r#"{"text":"Invalid token","code":4}"#, "InvalidToken"),
            (401, "", "InvalidToken"),
            (400, r#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#, "InvalidDataFormat"),
            (400, r#"{"text":"Incorrect index","code":7}"#, "InvalidIndex"),
            (503, r#"{"text":"Server is busy","code":9}"#, "IndexerBusy"),
            (500, r#"{"text":"Internal server error","code":8}"#, "ServerError"),
            (400, r#"{"text":"Invalid data channel","code":11}"#, "ProxyWithoutStickySessions"),
            (400, r#"{"text":"ACK is disabled","code":14}"#, "DisabledAck"),
            (413, "<html>", "ServerError.ContentTooLarge"),
            (404, "", "URLNotFound"),
            (502, "bad gateway", "ServerError"),
            (200, r#"{"text":"oh","code":8}"#, "ServerError"),
            (200, "<html>", "InvalidEndpoint"),
            (0, "", "ConnectionTimeout"),
        ] {
            assert_eq!(taken(answer(status, body)).unwrap_err().code, code, "{status} {body}");
        }
        let wrong = taken(answer(400, r#"{"text":"x","code":6,"invalid-event-number":3}"#)).unwrap_err();
        assert!(wrong.event == Some(3) && wrong.is_of_events());
        assert_eq!(acknowledged(answer(200, r#"{"acks":{"3":true,"4":false}}"#)).unwrap(), [3]);
        assert!(acknowledged(answer(200, r#"{"acks":{"x":true}}"#)).is_err());
    }
}
