//! Which names are ours.

use std::sync::LazyLock;

use regex::Regex;
use uuid::Uuid;

/// The last part of a name. Those that khose gives have an id in it.
pub fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A name as khose forms it: `…<stream>-<version>-<yyyy-MM-dd-HH-mm-ss>-<uuid><extension>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formed<'a> {
    /// What stands before the version: the stream, and before it what the prefix has behind its last `/`.
    pub stem: &'a str,
    /// The version of the delivery's settings.
    pub version: u64,
    /// The arrival time of the oldest record.
    pub time: &'a str,
    /// The id.
    pub id: Uuid,
}

impl<'a> Formed<'a> {
    /// Takes a name apart; `None` where it was not made here. The service's own have another kind of UUID.
    pub fn parse(name: &'a str) -> Option<Self> {
        static FORM: LazyLock<Option<Regex>> = LazyLock::new(|| {
            Regex::new(concat!(
                "^(.*)-([0-9]{1,20})-([0-9]{4,6}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2})-",
                "([0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})"
            ))
            .ok()
        });
        let file = last_part(name);
        let parts = FORM.as_ref()?.captures(file)?;
        let part = |number: usize| parts.get(number).map(|part| part.as_str());
        Some(Self {
            stem: part(1)?,
            version: part(2)?.parse().ok()?,
            time: part(3)?,
            id: part(4)?.parse().ok()?,
        })
    }

    /// Whether records of this stream, as it stands in names, are in it.
    pub fn is_of(&self, stream: &str) -> bool {
        self.stem.ends_with(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hose::name::{ObjectName, Zone, object_id, object_name};

    #[test]
    fn our_own_names_are_known() {
        for (stream, prefix, extension) in [
            ("clicks", "2026/11/25/", ".parquet"),
            ("a-1-2026-01-02-03-04-05", "x", ""),
            ("clicks", "country=de/part-", ".ndjson.gz"),
        ] {
            let id = object_id(Uuid::nil(), prefix, b"x");
            let extension = extension.parse().unwrap();
            let name = ObjectName {
                stream,
                version: 12,
                oldest_us: 1_700_000_000_000_000,
                id,
                extension: &extension,
            };
            let name = object_name(prefix, &Zone::utc(), &name).unwrap();
            let formed = Formed::parse(&name).unwrap();
            assert_eq!((formed.version, formed.id, formed.time), (12, id, "2023-11-14-22-13-20"), "{name}");
            assert!(formed.is_of(stream) && !formed.is_of("views"));
        }
    }

    #[test]
    fn others_are_not() {
        for name in [
            "part-00000-0f8fad5b-d9cb-469f-a165-70867728950e.parquet",
            // The service's own.
            "clicks-1-2026-11-25-01-02-03-0f8fad5b-d9cb-469f-a165-70867728950e",
            "clicks-1-2026-11-25-01-02-0f8fad5b-d9cb-869f-a165-70867728950e",
            "clicks-1-2026-11-25-01-02-03-0f8fad5b-d9cb-869f-a165-70867728950e/x.csv",
            "",
        ] {
            assert_eq!(Formed::parse(name), None, "{name}");
        }
    }
}
