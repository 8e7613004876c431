//! What lies beside a followed file: what it was renamed to, copied to or compressed to, and in which order.

use std::cmp::Ordering;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::body::Body;
use super::table::Entry;

/// A rename in the middle of a listing makes it list again, this often at most.
const LISTINGS_MAX: usize = 20;

/// A file that is not found is looked for again, this often at most, after a pause.
const LOOKS_MAX: usize = 8;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Compressed in a way that is not read here.
const UNREADABLE: [&str; 7] = ["xz", "zst", "bz2", "lz4", "lzma", "Z", "zip"];

/// What a name beside a followed file says about the age of what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Age {
    /// `NAME`: the youngest.
    Live,
    /// `NAME.3`, `NAME.old`: the higher, the older.
    Index(u64),
    /// `NAME-20261123`: the higher, the younger.
    Date(String),
    /// Nothing.
    Unknown,
}

/// A file beside a followed one, or that itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sibling {
    pub(super) path: PathBuf,
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) age: Age,
    pub(super) modified: (i64, i64),
}

impl Sibling {
    pub(super) fn is(&self, body: &Body) -> bool {
        (self.dev, self.ino) == (body.dev, body.ino)
    }

    /// Whether it is compressed in a way that is not read here.
    pub(super) fn is_unreadable(&self) -> bool {
        self.path.extension().is_some_and(|e| UNREADABLE.iter().any(|&other| e == other))
    }

    fn is_gzip(&self) -> bool {
        self.path.extension().is_some_and(|e| e == "gz")
    }

    /// Opens it; `None` if it no longer is what was listed.
    pub(super) fn open(&self) -> io::Result<Option<Body>> {
        Ok(Some(Body::open(&self.path)?).filter(|body| self.is(body)))
    }
}

/// How old what `name` holds is, beside a file called `base`; `None` if it has nothing to do with it.
fn age(base: &str, name: &str) -> Option<Age> {
    let rest = name.strip_prefix(base)?.strip_prefix(['.', '-', '_'])?;
    let rest = rest.strip_suffix(".gz").unwrap_or(rest);
    let rest = UNREADABLE.iter().find_map(|e| rest.strip_suffix(e)?.strip_suffix('.')).unwrap_or(rest);
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some(match rest {
        "old" | "prev" | "bak" | "save" => Age::Index(1),
        _ if digits > 5 || digits > 0 && digits < rest.len() => Age::Date(rest.to_owned()),
        _ if digits > 0 => Age::Index(rest.parse().ok()?),
        _ => Age::Unknown,
    })
}

fn list_once(path: &Path) -> Vec<Sibling> {
    let mut found: Vec<Sibling> = Vec::new();
    let mut push = |path: PathBuf, age: Age| {
        let Ok(meta) = fs::metadata(&path) else { return };
        let (dev, ino) = (meta.dev(), meta.ino());
        if meta.is_file() && !found.iter().any(|other| (other.dev, other.ino) == (dev, ino)) {
            found.push(Sibling { path, dev, ino, age, modified: (meta.mtime(), meta.mtime_nsec()) });
        }
    };
    push(path.to_owned(), Age::Live);
    let target = fs::canonicalize(path).ok().filter(|target| target != path);
    for path in std::iter::once(path).chain(target.as_deref()) {
        let (Some(dir), Some(base)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            continue;
        };
        let mut names: Vec<String> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| age(base, name).is_some())
            .collect();
        names.sort_unstable();
        for name in &names {
            // While gzip writes, both are there, and the plain one is whole.
            let doubled = name.strip_suffix(".gz").is_some_and(|plain| {
                plain == base || names.binary_search_by(|other| other.as_str().cmp(plain)).is_ok()
            });
            if let Some(age) = age(base, name).filter(|_| !doubled) {
                push(dir.join(name), age);
            }
        }
    }
    found
}

/// What lies beside `path`, itself first if it is there, as it was at one moment.
pub(super) fn siblings(path: &Path) -> Vec<Sibling> {
    let places =
        |list: &[Sibling]| -> Vec<_> { list.iter().map(|s| (s.path.clone(), s.dev, s.ino)).collect() };
    let mut before = list_once(path);
    for _ in 0..LISTINGS_MAX {
        let now = list_once(path);
        if places(&before) == places(&now) {
            return now;
        }
        before = now;
    }
    before
}

/// Finds the file that `entry` tells of beside `path`, wherever it has gone; the file `except` it is not.
pub(super) fn locate(path: &Path, entry: &Entry, except: Option<(u64, u64)>) -> Option<Body> {
    // It may be renamed or compressed at this very moment.
    (0..LOOKS_MAX).find_map(|look| {
        if look > 0 {
            std::thread::sleep(LOOK_AGAIN);
        }
        locate_in(&siblings(path), entry, except)
    })
}

fn locate_in(list: &[Sibling], entry: &Entry, except: Option<(u64, u64)>) -> Option<Body> {
    let mut list: Vec<&Sibling> =
        list.iter().filter(|s| Some((s.dev, s.ino)) != except && !s.is_unreadable()).collect();
    list.sort_by_key(|s| ((s.dev, s.ino) != (entry.dev, entry.ino), s.is_gzip()));
    list.into_iter().find_map(|sibling| {
        let mut body = sibling.open().ok()??;
        let print = body.print(entry.offset).ok()??;
        (print == entry.print).then_some(body)
    })
}

/// Where a file stands among its siblings, for finding what comes after it.
pub(super) enum After<'a> {
    /// This open file.
    File(&'a Body),
    /// A file that was compressed or renamed, found again under this sibling's name, or one that is gone; what comes
    /// after it was written to at this time or later.
    Time(i64),
}

/// The file that was begun next after one: the oldest among those that are younger.
pub(super) fn next(list: &[Sibling], after: &After<'_>, except: &[(u64, u64)]) -> Option<Sibling> {
    let place = match after {
        After::File(body) => list.iter().find(|s| s.is(body)),
        After::Time(_) => None,
    };
    let since = match after {
        After::File(body) => body.modified().unwrap_or((i64::MAX, 0)),
        After::Time(time) => (*time, 0),
    };
    if place.is_some_and(|place| place.age == Age::Live) {
        return None;
    }
    let is_younger = |s: &Sibling| match (place.map(|place| &place.age), &s.age) {
        (Some(Age::Index(place)), Age::Index(other)) => other < place,
        (Some(Age::Date(place)), Age::Date(other)) => by_date(other, place) == Ordering::Greater,
        (_, Age::Index(_) | Age::Date(_)) => s.modified > since,
        _ => false,
    };
    let older_first = |a: &&Sibling, b: &&Sibling| match (&a.age, &b.age) {
        (Age::Index(a), Age::Index(b)) => b.cmp(a),
        (Age::Date(a), Age::Date(b)) => by_date(a, b),
        _ => a.modified.cmp(&b.modified),
    };
    list.iter()
        .filter(|s| !except.contains(&(s.dev, s.ino)) && s.age != Age::Live && is_younger(s))
        .min_by(older_first)
        .or_else(|| list.iter().find(|s| s.age == Age::Live && !except.contains(&(s.dev, s.ino))))
        .filter(|s| !matches!(after, After::File(body) if s.is(body)))
        .cloned()
}

/// `20261123` comes before `20261123.1`, and `20261123.9` before `20261123.10`.
fn by_date(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
    };
    numbers(a).cmp(&numbers(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_age() {
        assert_eq!(age("a.log", "a.log.3"), Some(Age::Index(3)));
        assert_eq!(age("a.log", "a.log.3.gz"), Some(Age::Index(3)));
        assert_eq!(age("a.log", "a.log.old"), Some(Age::Index(1)));
        assert_eq!(age("a.log", "a.log-20261123.gz"), Some(Age::Date("20261123".into())));
        assert_eq!(age("a.log", "a.log.2026-11-23"), Some(Age::Date("2026-11-23".into())));
        assert_eq!(age("a.log", "a.log.conf"), Some(Age::Unknown));
        assert_eq!(age("a.log", "a.log"), None);
        assert_eq!(age("a.log", "a.log2"), None);
        assert_eq!(by_date("20261123.9", "20261123.10"), Ordering::Less);
    }

    #[test]
    fn generations_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a.3", "a.2.gz", "a.10", "a.1", "a", "a.conf"] {
            fs::write(path(name), name).unwrap();
        }
        let list = siblings(&path("a"));
        let mut body = Body::open(&path("a.10")).unwrap();
        let mut seen = Vec::new();
        while let Some(sibling) = next(&list, &After::File(&body), &[]) {
            seen.push(sibling.path.file_name().unwrap().to_str().unwrap().to_owned());
            body = sibling.open().unwrap().unwrap();
        }
        assert_eq!(seen, ["a.3", "a.2.gz", "a.1", "a"]);
        // gzip is at work on the second.
        fs::write(path("a.3.gz"), "x").unwrap();
        assert!(siblings(&path("a")).iter().all(|s| s.path != path("a.3.gz")));
    }
}
