//! Records in which a producer has put several, taken apart: JSON values one behind the other, or parts between
//! delimiters.
//!
//! Its promise: the parts of a record are bytes of it, in their order, or it fails as a whole; nothing of it is delivered
//! that a replay of the error output would deliver again.
//!
//! What the service does, and what is different here:
//!
//! - JSON is objects, one behind the other with or without white space or newlines between. An array is not taken apart:
//!   the service does not, and whoever writes `[{},{}]` may mean one record. Numbers, strings and the like are refused.
//! - A delimiter is any bytes. Nothing stands for an empty part: two delimiters in a row, or one at the end, make none.
//! - The service's limit of 500 parts is not kept. The limit is [`SPLIT_MAX`].
//! - A record that holds no part at all fails: it is not dropped in silence.

use memchr::memmem::Finder;
use serde_json::value::RawValue;

use super::{Fate, Item, SPLIT_MAX, Stage, split};
use crate::hose::failure::{ErrorType, Failure};

/// How the parts of a record stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubRecords {
    /// JSON objects one behind the other.
    Json,
    /// Parts with this between.
    Delimited(Vec<u8>),
}

/// The stage that takes records apart.
#[derive(Debug)]
pub struct Deaggregate {
    how: How,
}

#[derive(Debug)]
enum How {
    Json,
    Delimited(Box<Finder<'static>>),
}

impl Deaggregate {
    /// A stage for records of this kind.
    ///
    /// # Errors
    /// Where the delimiter is empty, as the end of a usage error.
    pub fn new(sub_records: SubRecords) -> Result<Self, String> {
        let how = match sub_records {
            SubRecords::Json => How::Json,
            SubRecords::Delimited(delimiter) if delimiter.is_empty() => {
                return Err("the delimiter is empty".to_owned());
            }
            SubRecords::Delimited(delimiter) => {
                How::Delimited(Box::new(Finder::new(&delimiter).into_owned()))
            }
        };
        Ok(Self { how })
    }

    fn parts(&self, data: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        match &self.how {
            How::Json => json_parts(data),
            How::Delimited(delimiter) => delimited_parts(data, delimiter),
        }
    }
}

impl Stage for Deaggregate {
    fn name(&self) -> &'static str {
        "deaggregate"
    }

    fn process(&mut self, items: Vec<Item>) -> anyhow::Result<Vec<Fate>> {
        let mut fates = Vec::with_capacity(items.len());
        for item in items {
            match self.parts(&item.data) {
                Ok(parts) => split(item, parts, &mut fates),
                Err(failure) => fates.push(Fate::Failed(item, failure)),
            }
        }
        Ok(fates)
    }

    fn may_split(&self) -> bool {
        true
    }
}

fn failure(code: &str, message: String) -> Failure {
    Failure::new(ErrorType::Processing, format!("DeAggregation.{code}"), message)
}

fn json_parts(data: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    let invalid = |at: usize, what: &str| {
        failure("InvalidJson", format!("it cannot be taken apart at byte {at}: {what}"))
    };
    let text = std::str::from_utf8(data).map_err(|error| invalid(error.valid_up_to(), "not UTF-8"))?;
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let mut parts = Vec::new();
    loop {
        let from = values.byte_offset();
        let Some(value) = values.next() else { break };
        let value = value.map_err(|error| {
            let what = if error.is_eof() { "it ends within an object" } else { "not valid JSON" };
            let at = if error.is_eof() { data.len() } else { from };
            invalid(at, what)
        })?;
        let raw = value.get();
        if !raw.starts_with('{') {
            let what = if raw.starts_with('[') { "an array is not taken apart" } else { "not an object" };
            return Err(invalid(from, what));
        }
        if parts.len() == SPLIT_MAX {
            return Err(too_many());
        }
        parts.push(raw.as_bytes().to_vec());
    }
    if parts.is_empty() { Err(invalid(0, "there is nothing in it")) } else { Ok(parts) }
}

fn delimited_parts(data: &[u8], delimiter: &Finder<'_>) -> Result<Vec<Vec<u8>>, Failure> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let ends = delimiter.find_iter(data).chain([data.len()]);
    for end in ends {
        if end > start {
            if parts.len() == SPLIT_MAX {
                return Err(too_many());
            }
            parts.push(data[start..end].to_vec());
        }
        start = end + delimiter.needle().len();
    }
    if parts.is_empty() { Err(failure("NoRecords", "there is nothing in it".to_owned())) } else { Ok(parts) }
}

fn too_many() -> Failure {
    failure("TooManyRecords", format!("more than {SPLIT_MAX} records are in it"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{item, items, origin, told};
    use super::*;
    use crate::hose::chunk::Origin;

    fn json() -> Deaggregate {
        Deaggregate::new(SubRecords::Json).unwrap()
    }

    fn delimited(by: &str) -> Deaggregate {
        Deaggregate::new(SubRecords::Delimited(by.into())).unwrap()
    }

    #[test]
    fn objects_one_behind_the_other() {
        let records = [r#"{"a":1}{"a":2}"#, "{\"a\":1}\n{\"a\":\"}{\"}\r\n\n", r#" {"a": {"b":[1]}} "#];
        assert_eq!(
            told(&json().process(items(records)).unwrap()),
            [
                r#"0.0 kept {"a":1}"#,
                r#"0.1 kept {"a":2}"#,
                r#"1.0 kept {"a":1}"#,
                r#"1.1 kept {"a":"}{"}"#,
                r#"2 kept {"a": {"b":[1]}}"#,
            ]
        );
    }

    #[test]
    fn what_cannot_be_taken_apart_fails_as_a_whole() {
        let records: [(&[u8], &str); 11] = [
            (br#"[{"a":1},{"a":2}]"#, "at byte 0: an array"),
            (br#"{"a":1}[2]"#, "at byte 7: an array"),
            (b"{\"a\":1},{\"a\":2}", "at byte 7: not valid"),
            (b"1 2", "at byte 0: not an object"),
            (b"\"a\"", "not an object"),
            (b"", "nothing in it"),
            (b" \n", "nothing in it"),
            (br#"{"a":1}{"a""#, "at byte 11: it ends within"),
            (b"{\"a\":1}\xff", "not UTF-8"),
            (b"{a:1}", "not valid"),
            (b"nonsense", "not valid"),
        ];
        for (record, why) in records {
            let fates = json().process(vec![item(0, record)]).unwrap();
            let [Fate::Failed(kept, failure)] = &fates[..] else { panic!("{fates:?}") };
            assert_eq!(kept.data, record);
            assert_eq!(
                (failure.error_type, &*failure.code),
                (ErrorType::Processing, "DeAggregation.InvalidJson")
            );
            assert!(failure.message.contains(why), "{}", failure.message);
        }
    }

    #[test]
    fn parts_between_delimiters() {
        let records = ["a\nb", "a\n", "\n\na\n\nb\n", "one", "\n", ""];
        assert_eq!(
            told(&delimited("\n").process(items(records)).unwrap()),
            [
                "0.0 kept a",
                "0.1 kept b",
                "1 kept a",
                "2.0 kept a",
                "2.1 kept b",
                "3 kept one",
                "4 failed DeAggregation.NoRecords",
                "5 failed DeAggregation.NoRecords",
            ]
        );
        assert_eq!(
            told(&delimited("##").process(items(["a###b##"])).unwrap()),
            ["0.0 kept a", "0.1 kept #b"]
        );
        assert!(Deaggregate::new(SubRecords::Delimited(Vec::new())).is_err());
    }

    #[test]
    fn the_number_goes_behind_that_of_an_aggregate() {
        let mut first = item(9, "{}{}");
        first.origin.sub = Some(2);
        let mut second = item(9, "{}");
        second.origin.sub = Some(3);
        let fates = json().process(vec![first, second]).unwrap();
        let subs: Vec<_> = fates.iter().map(|fate| fate.origin().sub.unwrap()).collect();
        assert_eq!(subs, [2 << 20, 2 << 20 | 1, 3 << 20]);
        let mut deep = item(9, "{}");
        deep.origin = Origin { sub: Some(1 << 50), ..origin(9) };
        let fates = json().process(vec![deep]).unwrap();
        assert!(
            matches!(&fates[..], [Fate::Failed(_, failure)] if failure.code == "DeAggregation.TooManyRecords")
        );
    }

    #[test]
    fn the_bound_on_parts() {
        let fits = "{}".repeat(SPLIT_MAX);
        assert_eq!(json_parts(fits.as_bytes()).unwrap().len(), SPLIT_MAX);
        let more = "{}".repeat(SPLIT_MAX + 1);
        assert_eq!(json_parts(more.as_bytes()).unwrap_err().code, "DeAggregation.TooManyRecords");
        let more = "a,".repeat(SPLIT_MAX + 1);
        let by = Finder::new(",");
        assert_eq!(delimited_parts(more.as_bytes(), &by).unwrap_err().code, "DeAggregation.TooManyRecords");
        // Nesting is not recursion.
        let deep = format!("{}1{}", "{\"a\":".repeat(300_000), "}".repeat(300_000));
        assert_eq!(json_parts(deep.as_bytes()).unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn objects_come_back(values in prop::collection::vec((".{0,6}", any::<i64>(), "[ \n\t]{0,2}"), 1..20)) {
            let objects: Vec<String> =
                values.iter().map(|(text, n, _)| serde_json::json!({ text: { "n": n, "t": [text] } }).to_string()).collect();
            let joined = objects.iter().zip(&values).flat_map(|(object, (_, _, gap))| [&**object, &**gap]);
            let joined: String = joined.collect();
            let parts = json_parts(joined.as_bytes()).unwrap();
            prop_assert_eq!(parts, objects.iter().map(|o| o.clone().into_bytes()).collect::<Vec<_>>());
        }

        #[test]
        fn parts_come_back(parts in prop::collection::vec("[ab]{1,4}", 1..20), by in "[,;]{1,3}") {
            let joined = parts.join(&by);
            let back = delimited_parts(joined.as_bytes(), &Finder::new(&by)).unwrap();
            prop_assert_eq!(back, parts.iter().map(|p| p.clone().into_bytes()).collect::<Vec<_>>());
        }

        #[test]
        fn nothing_panics(data in prop::collection::vec(prop::sample::select(&b"{}[]\":,\\ua1 nult\xff\n"[..]), 0..60)) {
            let whole = item(0, &data);
            for mut stage in [json(), delimited(",")] {
                let fates = stage.process(vec![whole.clone()]).unwrap();
                prop_assert!(!fates.is_empty());
            }
        }
    }
}
