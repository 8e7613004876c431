//! From the word STREAM on a command line to a directory.
//!
//! With `scheme://` it names an engine, with a `/` it is a path, else a name under `$KPIPE_ROOT` if that is set, else
//! under the current directory. Whether a stream is there is for the stream layer to find out; what it answers when
//! there is none is made readable by [`unknown`].

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::report::{self, HintExt};
use super::value;
use crate::record::ShardId;

/// The variable under which streams given by name are looked for.
pub const ROOT_VARIABLE: &str = "KPIPE_ROOT";

/// What makes a directory a stream.
const MANIFEST: &str = "manifest.json";

/// The directory, absolute, that STREAM stands for. It need not exist.
pub fn resolve(stream: &OsStr) -> anyhow::Result<PathBuf> {
    resolve_under(stream, std::env::var_os(ROOT_VARIABLE).as_deref())
}

fn resolve_under(stream: &OsStr, root: Option<&OsStr>) -> anyhow::Result<PathBuf> {
    let bytes = stream.as_encoded_bytes();
    if let Some(scheme) = scheme(bytes) {
        return Err(engine(scheme, std::env::var_os("PATH").as_deref()));
    }
    let path = if bytes.contains(&b'/') {
        PathBuf::from(stream)
    } else {
        // A name that is not UTF-8 breaks the rules for names whatever it is replaced with.
        let name = value::name(&stream.to_string_lossy())
            .map_err(|error| anyhow!("stream `{}`: {error}", report::printable(&stream.to_string_lossy())))?;
        root.filter(|root| !root.is_empty())
            .map_or_else(|| PathBuf::from(&name), |root| Path::new(root).join(&name))
    };
    std::path::absolute(&path).with_context(|| format!("stream {}", path.display()))
}

/// The `scheme` of `scheme://...`.
fn scheme(text: &[u8]) -> Option<&str> {
    let at = text.windows(3).position(|window| window == b"://")?;
    let scheme = std::str::from_utf8(&text[..at]).ok()?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(legal)).then_some(scheme)
}

/// Why an engine cannot be spoken to.
fn engine(scheme: &str, path: Option<&OsStr>) -> anyhow::Error {
    let helper = format!("kpipe-remote-{scheme}");
    let found = path.is_some_and(|path| std::env::split_paths(path).any(|dir| dir.join(&helper).is_file()));
    if found {
        anyhow!("`{helper}` is installed, but this version speaks to directories only")
    } else {
        anyhow!("no program `{helper}` on PATH to speak to `{scheme}://`")
    }
}

/// The stream at `path` as a user would name it: by its last component.
pub fn show(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The error for a stream that is not there: with what was probably meant, or how to make it.
pub fn unknown(path: &Path) -> anyhow::Error {
    let create = || format!("kshard create {}", quote(&path.to_string_lossy()));
    // Where something is already, none can be made.
    missing_with(path, if path.exists() { None } else { Some(create()) })
}

/// The same where it is not to be made: for what reads, mends or removes one.
pub fn missing(path: &Path) -> anyhow::Error {
    missing_with(path, None)
}

fn missing_with(path: &Path, create: Option<String>) -> anyhow::Error {
    let quoted = || quote(&path.to_string_lossy());
    let (text, hint) = if has_shards(path) {
        (format!("{} is missing", path.join(MANIFEST).display()), format!("kshard repair {}", quoted()))
    } else {
        let text = if path.is_dir() {
            format!("{} is a directory, and no stream", path.display())
        } else if path.exists() {
            format!("{} is a file, and no stream", path.display())
        } else {
            format!("there is no stream at {}", path.display())
        };
        let meant = did_you_mean(path).map(|name| format!("did you mean `{name}`?"));
        (text, meant.or(create).unwrap_or_else(|| "kshard list".to_owned()))
    };
    let error = Err::<(), _>(anyhow!("stream {}: {text}", show(path)));
    error.hint(hint).expect_err("it was made an error above")
}

/// Whether there are directories of shards.
fn has_shards(path: &Path) -> bool {
    let is_shard = |entry: fs::DirEntry| entry.file_name().to_string_lossy().parse::<ShardId>().is_ok();
    fs::read_dir(path).is_ok_and(|entries| entries.filter_map(Result::ok).any(is_shard))
}

/// Adds to an error what stream it is about: `stream clicks (/abs/path)`. A hint that speaks of STREAM gets its path.
pub fn context(path: &Path) -> About {
    About(path.to_owned())
}

/// See [`context`].
#[derive(Debug, Clone)]
pub struct About(PathBuf);

impl About {
    /// The stream as the argument of a command.
    pub(super) fn argument(&self) -> String {
        quote(&self.0.to_string_lossy())
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {} ({})", show(&self.0), self.0.display())
    }
}

/// The stream beside `path` whose name is nearest, if it is near at all.
pub fn did_you_mean(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let near = (wanted.chars().count() / 3).clamp(1, 3);
    let beside = fs::read_dir(path.parent()?).ok()?;
    beside
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join(MANIFEST).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .map(|name| (distance(&wanted.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= near && name != wanted)
        .min()
        .map(|(_, name)| name)
}

/// How many single characters must be put in, taken out, replaced or swapped with their neighbour to get from one
/// word to the other.
pub(super) fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for i in 0..=from.len() {
        for j in 0..=to.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = usize::from(from[i - 1] != to[j - 1]);
                let best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
                if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                    best.min(rows[i - 2][j - 2] + 1)
                } else {
                    best
                }
            };
        }
    }
    rows[from.len()][to.len()]
}

/// A word as a shell would have to be given it.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+=,-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(stream: &str, root: Option<&str>) -> Result<PathBuf, String> {
        resolve_under(OsStr::new(stream), root.map(OsStr::new)).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_name_lies_under_the_root_or_here() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(resolved("clicks", None), Ok(here.join("clicks")));
        assert_eq!(resolved("clicks", Some("")), Ok(here.join("clicks")));
        assert_eq!(resolved("clicks", Some("/srv/streams")), Ok("/srv/streams/clicks".into()));
        assert_eq!(resolved("clicks", Some("data")), Ok(here.join("data/clicks")));
    }

    #[test]
    fn a_path_is_a_path_whatever_the_root_is() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(resolved("/a/clicks", Some("/srv")), Ok("/a/clicks".into()));
        assert_eq!(resolved("./clicks", Some("/srv")), Ok(here.join("clicks")));
        assert_eq!(resolved("./my clicks/", None), Ok(here.join("my clicks")));
    }

    #[test]
    fn refuses_what_is_neither_name_nor_path() {
        assert!(resolved("", None).unwrap_err().contains("cannot be empty"));
        assert!(resolved(".", None).unwrap_err().contains("give a path: `./`"));
        assert!(resolved("my clicks", None).unwrap_err().contains("' ' cannot be in a name"));
        assert!(resolved("\u{1b}]0;x\u{7}", None).is_err_and(|error| !error.contains('\u{1b}')));
    }

    #[test]
    fn an_engine_needs_its_helper() {
        let error = resolved("kinesis://eu-west-1/clicks", None).unwrap_err();
        assert_eq!(error, "no program `kpipe-remote-kinesis` on PATH to speak to `kinesis://`");
        assert_eq!(scheme(b"://x"), None);
        assert_eq!(scheme(b"./a://x"), None);
    }

    #[test]
    fn the_nearest_stream_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["clicks", "clocks", "orders"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join(MANIFEST), "{}").unwrap();
        }
        fs::create_dir(dir.path().join("clics")).unwrap();
        let meant = |name: &str| did_you_mean(&dir.path().join(name));
        assert_eq!(meant("clikcs").as_deref(), Some("clicks"));
        assert_eq!(meant("Orders").as_deref(), Some("orders"));
        assert_eq!(meant("clic").as_deref(), None, "a directory that is no stream is not meant");
        assert_eq!(meant("payments"), None);
        assert_eq!(did_you_mean(Path::new("/")), None);
    }

    #[test]
    fn words_for_the_shell() {
        assert_eq!(quote("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
