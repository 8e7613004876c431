//! Records of `CloudWatch` Logs subscriptions, as they are once they have been decompressed.
//!
//! ```json
//! {"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"s","subscriptionFilters":["f"],
//!  "logEvents":[{"id":"1","timestamp":1510109208016,"message":"line one"}]}
//! ```
//!
//! Its promise: a control message, by which `CloudWatch` Logs only asks whether anybody is there, is left out; of a data
//! message comes, as it is asked for, the record as it was or each message as a record of its own; anything else fails
//! (`Decompression failed.`, as the service has it).
//!
//! The service writes the messages of one record into one, each with a newline behind it. Here each is a record, so that
//! a destination that takes records one by one gets them so.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Fate, Item, Stage, excerpt, split};
use crate::hose::failure::{ErrorType, Failure};

/// The stage for subscription records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloudWatch {
    /// Whether only the messages go on (`DataMessageExtraction`).
    pub extract: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription<'a> {
    #[serde(borrow)]
    message_type: Cow<'a, str>,
    #[serde(borrow, default)]
    log_events: Option<Vec<LogEvent<'a>>>,
}

#[derive(Deserialize)]
struct LogEvent<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
}

/// What a record says.
enum Said {
    Control,
    Messages(Vec<Vec<u8>>),
}

fn read(data: &[u8]) -> Result<Said, String> {
    let record: Subscription<'_> = serde_json::from_slice(data)
        .map_err(|error| format!("it is no record of a CloudWatch Logs subscription: {error}"))?;
    match (&*record.message_type, record.log_events) {
        ("CONTROL_MESSAGE", _) => Ok(Said::Control),
        ("DATA_MESSAGE", Some(events)) => Ok(Said::Messages(
            events.into_iter().map(|event| event.message.into_owned().into_bytes()).collect(),
        )),
        ("DATA_MESSAGE", None) => Err("it is a data message without log events".to_owned()),
        (other, _) => Err(format!("its message type is `{}`", excerpt(other))),
    }
}

impl Stage for CloudWatch {
    fn name(&self) -> &'static str {
        "cloudwatch"
    }

    fn process(&mut self, items: Vec<Item>) -> anyhow::Result<Vec<Fate>> {
        let mut fates = Vec::with_capacity(items.len());
        for item in items {
            match read(&item.data) {
                Ok(Said::Control) => fates.push(Fate::Dropped(item.origin)),
                Ok(Said::Messages(_)) if !self.extract => fates.push(Fate::Kept(item)),
                Ok(Said::Messages(messages)) if messages.is_empty() => fates.push(Fate::Dropped(item.origin)),
                Ok(Said::Messages(messages)) => split(item, messages, &mut fates),
                Err(why) => {
                    let failure = Failure::new(ErrorType::Processing, "Decompression failed.", why);
                    fates.push(Fate::Failed(item, failure));
                }
            }
        }
        Ok(fates)
    }

    fn may_split(&self) -> bool {
        self.extract
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{items, told};
    use super::*;

    /// As the documentation of `CloudWatch` Logs shows them.
    const DATA: &str = r#"{"owner":"111111111111","logGroup":"CloudTrail/logs","logStream":"111111111111_CloudTrail/logs_us-east-1","subscriptionFilters":["Destination"],"messageType":"DATA_MESSAGE","logEvents":[{"id":"31953106606966983378809025079804211143289615424298221568","timestamp":1432826855000,"message":"{\"eventVersion\":\"1.03\"}"},{"id":"2","timestamp":1432826855001,"message":"two\nlines é"}]}"#;
    const CONTROL: &str = r#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],"logEvents":[{"id":"","timestamp":1510109208016,"message":"CWL CONTROL MESSAGE: Checking health of destination Firehose."}]}"#;

    #[test]
    fn control_messages_are_left_out_and_messages_come_one_by_one() {
        let empty = r#"{"messageType":"DATA_MESSAGE","logEvents":[]}"#;
        let mut stage = CloudWatch { extract: true };
        assert_eq!(
            told(&stage.process(items([DATA, CONTROL, empty])).unwrap()),
            [r#"0.0 kept {"eventVersion":"1.03"}"#, "0.1 kept two\nlines é", "1 dropped", "2 dropped"]
        );
        let mut stage = CloudWatch { extract: false };
        let fates = stage.process(items([DATA, CONTROL])).unwrap();
        assert_eq!(told(&fates), [format!("0 kept {DATA}"), "1 dropped".to_owned()]);
        assert!(!stage.may_split());
    }

    #[test]
    fn what_is_no_such_record_fails() {
        let records = [
            "",
            "{}",
            r#"{"messageType":"OTHER","logEvents":[]}"#,
            r#"{"messageType":"DATA_MESSAGE"}"#,
            r#"{"messageType":"DATA_MESSAGE","logEvents":[{"id":"1"}]}"#,
            r#"{"messageType":"DATA_MESSAGE","logEvents":[{"message":1}]}"#,
        ];
        let fates = CloudWatch { extract: true }.process(items(records)).unwrap();
        assert_eq!(fates.len(), records.len());
        for (fate, record) in fates.iter().zip(records) {
            let Fate::Failed(item, failure) = fate else { panic!("{fate:?}") };
            assert_eq!(item.data, record.as_bytes());
            assert_eq!(failure.code, "Decompression failed.");
        }
    }
}
