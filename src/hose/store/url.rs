//! The places that a person can name: `s3://bucket/prefix/`, `gs://`, `az://`, `file:///dir/`, or a path.
//!
//! A place says where, and never who: a URL with a password or a signature in it is refused, for what stands on a
//! command line every user of the machine can read, and shells and logs keep it. Keys come from the environment and the
//! usual files ([`super::credentials`]).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::local::LocalStore;
use super::object::{self, Service};
use super::{Context, Store, StoreError, check_name};

/// Where objects are put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    place: Place,
    /// A slash at the end says that it is a directory whatever its name looks like.
    ends_with_slash: bool,
}

/// A place, with what stands for its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A directory, or a file.
    Disk(PathBuf),
    /// A bucket or a container, and a prefix without slashes at its ends.
    Bucket(Bucket),
}

/// A bucket of one of the services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) service: Service,
    /// The account that an Azure container belongs to, where the URL names it.
    pub(super) account: Option<String>,
    pub(super) name: String,
    pub(super) prefix: String,
}

impl Bucket {
    /// Without the prefix.
    pub(super) fn root_url(&self) -> String {
        let (scheme, name) = (self.service.scheme(), &self.name);
        match &self.account {
            Some(account) => format!("abfss://{name}@{account}.dfs.core.windows.net"),
            None => format!("{scheme}://{name}"),
        }
    }
}

/// Extensions of a file that is one whole output. What compresses stands behind one of them or alone.
const FILE_EXTENSIONS: &[&str] = &[
    "parquet", "arrow", "arrows", "feather", "ipc", "csv", "tsv", "json", "jsonl", "ndjson", "txt", "log",
    "raw", "bin", "gz", "zip", "snappy", "hsnappy", "zst", "zstd", "lz4",
];

/// Names in a query by which a URL carries the right to use it.
const SIGNATURES: &[&str] =
    &["x-amz-signature", "x-amz-credential", "x-amz-security-token", "sig", "x-goog-signature"];

impl Location {
    /// The schemes of URLs that are places for objects; `file://` and plain paths come to them.
    pub const SCHEMES: &[&str] = &["s3", "s3a", "gs", "gcs", "az", "azure", "adl", "abfs", "abfss", "file"];

    /// Reads what a person typed. Nothing is looked up: whether the place is there shows when it is used.
    ///
    /// # Errors
    /// Why it is no place, as one line; a secret that was in it is not repeated.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_scheme = |scheme: &str| scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            return Self::parse_path(text);
        };
        let scheme = scheme.to_ascii_lowercase();
        let ends_with_slash = rest.ends_with('/');
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let service = match scheme.as_str() {
            "file" => {
                return if host.is_empty() {
                    let path =
                        decoded(path).ok_or_else(|| format!("{text}: not a URL: a wrong percent sign"))?;
                    Self::parse_path(&format!("/{path}"))
                } else {
                    Err(format!(
                        "file://{}: a URL of a file has no host: give file:///{}",
                        host_only(host),
                        path
                    ))
                };
            }
            "s3" | "s3a" => Service::S3,
            "gs" | "gcs" => Service::Google,
            "az" | "azure" | "adl" | "abfs" | "abfss" => Service::Azure,
            _ => {
                return Err(format!(
                    "{scheme}://: not a place for objects: give one of s3://, gs://, az://, file:///, or a path"
                ));
            }
        };
        let shown = format!("{scheme}://{}", host_only(host));
        if let Some((_, query)) = rest.split_once('?') {
            let is_signed = query.split('&').any(|pair| {
                let name = pair.split('=').next().unwrap_or("").to_ascii_lowercase();
                SIGNATURES.contains(&name.as_str())
            });
            return Err(if is_signed {
                format!(
                    "{shown}: a signed URL: everyone on the machine can read a command line; {}",
                    by_environment(service)
                )
            } else {
                format!("{shown}: a `?` in a place: settings belong in the environment")
            });
        }
        let (account, name) = match host.rsplit_once('@') {
            None => (None, host),
            Some((container, account)) if service == Service::Azure && !container.contains(':') => (
                Some(azure_account(account).ok_or_else(|| {
                    format!(
                        "{shown}: not an Azure account: give abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/"
                    )
                })?),
                container,
            ),
            Some(_) => {
                return Err(format!(
                    "{shown}: keys in a URL: everyone on the machine can read a command line; {}",
                    by_environment(service)
                ));
            }
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '$');
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(format!("{shown}: `{name}` is not the name of a {}", service.bucket_word()));
        }
        let prefix = path.trim_matches('/').to_owned();
        if !prefix.is_empty() {
            check_name(&prefix).map_err(|fault| format!("{shown}/{}: {fault}", prefix.escape_debug()))?;
        }
        let bucket = Bucket { service, account, name: name.to_owned(), prefix };
        Ok(Self { place: Place::Bucket(bucket), ends_with_slash })
    }

    fn parse_path(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty path".to_owned());
        }
        if text.contains('\0') {
            return Err("a path with a zero byte".to_owned());
        }
        if text.starts_with("file:") {
            return Err(format!("{text}: not a URL of a file: give file:///DIR/ or a path"));
        }
        let ends_with_slash =
            text.ends_with('/') || text.ends_with("/.") || text.ends_with("/..") || text == ".";
        Ok(Self { place: Place::Disk(PathBuf::from(text)), ends_with_slash })
    }

    /// Whether it names one file: no slash at its end, and an extension that files of records have.
    pub fn is_one_file(&self) -> bool {
        self.one_file().is_some()
    }

    /// Where it names one file, the place that this lies in, and its name there.
    pub fn one_file(&self) -> Option<(Self, String)> {
        if self.ends_with_slash {
            return None;
        }
        let is_file = |name: &str| {
            let extension = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty())?.1;
            FILE_EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()).then(|| name.to_owned())
        };
        let (place, name) = match &self.place {
            Place::Disk(path) => {
                let name = is_file(path.file_name()?.to_str()?)?;
                let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
                (Place::Disk(dir.map_or_else(|| PathBuf::from("."), PathBuf::from)), name)
            }
            Place::Bucket(bucket) => {
                let (above, name) = bucket.prefix.rsplit_once('/').unwrap_or(("", &bucket.prefix));
                let name = is_file(name)?;
                (Place::Bucket(Bucket { prefix: above.to_owned(), ..bucket.clone() }), name)
            }
        };
        Some((Self { place, ends_with_slash: true }, name))
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        matches!(self.place, Place::Disk(_))
    }

    /// The directory, where it is on this machine.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.place {
            Place::Disk(path) => Some(path),
            Place::Bucket(_) => None,
        }
    }

    /// The store there. Nothing is asked of a service yet; files with settings and keys are read.
    ///
    /// # Errors
    /// Where the settings contradict themselves.
    pub fn open(&self, context: &Context) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match &self.place {
            Place::Disk(path) => Arc::new(LocalStore::new(&context.system, path)),
            Place::Bucket(bucket) => Arc::new(object::BucketStore::open(bucket, context)?),
        })
    }
}

/// The same place is always written the same way.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut text, is_root) = match &self.place {
            Place::Disk(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let text = path.display().to_string();
                (text.trim_end_matches('/').to_owned(), text == "/")
            }
            Place::Bucket(bucket) if bucket.prefix.is_empty() => (bucket.root_url(), true),
            Place::Bucket(bucket) => (format!("{}/{}", bucket.root_url(), bucket.prefix), false),
        };
        if is_root || !self.is_one_file() {
            text.push('/');
        }
        f.write_str(&text)
    }
}

/// What stands behind the last `@`: before it may be a password.
fn host_only(host: &str) -> &str {
    let host = host.rsplit('@').next().unwrap_or("");
    host.split('?').next().unwrap_or("")
}

fn by_environment(service: Service) -> String {
    format!("give them as {}", service.key_variables())
}

/// `ACCOUNT.dfs.core.windows.net`, `.blob.` too, or the bare name.
fn azure_account(host: &str) -> Option<String> {
    let (account, rest) = host.split_once('.').unwrap_or((host, "dfs.core.windows.net"));
    let is_account =
        !account.is_empty() && account.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (is_account && matches!(rest, "dfs.core.windows.net" | "blob.core.windows.net"))
        .then(|| account.to_owned())
}

/// Percent signs taken out.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut out) = (text.bytes(), Vec::with_capacity(text.len()));
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_and_how_they_are_written() {
        let cwd = std::env::current_dir().unwrap();
        let here = |rest: &str| format!("{}/{rest}", cwd.display());
        for (text, written) in [
            ("s3://lake/clicks/", "s3://lake/clicks/"),
            ("s3://lake/clicks", "s3://lake/clicks/"),
            ("S3A://lake", "s3://lake/"),
            ("s3://lake//a/b//", "s3://lake/a/b/"),
            ("gs://b/x/y.parquet", "gs://b/x/y.parquet"),
            ("gcs://b/x/y.parquet/", "gs://b/x/y.parquet/"),
            ("az://cont/p", "az://cont/p/"),
            ("azure://cont/p", "az://cont/p/"),
            (
                "abfss://cont@acc1.dfs.core.windows.net/p/q.csv",
                "abfss://cont@acc1.dfs.core.windows.net/p/q.csv",
            ),
            ("az://$web@acc1/", "abfss://$web@acc1.dfs.core.windows.net/"),
            ("file:///data/lake/", "/data/lake/"),
            ("file:///data/my%20lake", "/data/my lake/"),
            ("file:///", "/"),
            ("/", "/"),
            ("/data/lake", "/data/lake/"),
            ("./out/hits.parquet", &here("out/hits.parquet")),
            ("hits.csv.gz", &here("hits.csv.gz")),
            ("out", &here("out/")),
        ] {
            assert_eq!(Location::parse(text).unwrap().to_string(), written, "{text}");
        }
    }

    #[test]
    fn one_file_or_a_directory_of_them() {
        let one = |text: &str| {
            let (place, name) = Location::parse(text).unwrap().one_file()?;
            Some(format!("{place} {name}"))
        };
        assert_eq!(one("s3://b/x/y.parquet").as_deref(), Some("s3://b/x/ y.parquet"));
        assert_eq!(one("s3://b/y.NDJSON.gz").as_deref(), Some("s3://b/ y.NDJSON.gz"));
        assert_eq!(one("/y.csv").as_deref(), Some("/ y.csv"));
        let cwd = std::env::current_dir().unwrap();
        assert_eq!(one("y.csv"), Some(format!("{}/ y.csv", cwd.display())));
        for directory in [
            "s3://b.csv",
            "s3://b/v1.2",
            "s3://b/y.csv/",
            "/d/x",
            "/d/x.csv/",
            ".csv",
            "/d/.",
            "..",
            "x.csv/..",
        ] {
            assert_eq!(one(directory), None, "{directory}");
        }
    }

    #[test]
    fn what_is_refused_and_why() {
        for (text, why) in [
            ("", "an empty path"),
            ("s3://", "`` is not the name of a bucket"),
            ("s3:///x", "`` is not the name of a bucket"),
            ("s3://a b/x", "`a b` is not the name of a bucket"),
            ("s3://arn:aws:s3:::b/x", "is not the name of a bucket"),
            ("s3://b/a//c", "a name with an empty part"),
            ("s3://b/../c", "means another directory"),
            ("s3://b/x?region=eu-west-1", "settings belong in the environment"),
            ("s3://AKIA123:hunter2@b/x", "give them as AWS_ACCESS_KEY_ID"),
            ("s3://hunter2@b/x", "keys in a URL"),
            ("gs://u:hunter2@b/x", "GOOGLE_APPLICATION_CREDENTIALS"),
            ("az://u:hunter2@b/x", "AZURE_STORAGE_ACCOUNT_KEY"),
            ("s3://b/x?a=1&X-Amz-Signature=hunter2", "a signed URL"),
            ("az://c/x?sv=1&sig=hunter2", "a signed URL"),
            ("az://c?sig=hunter2", "a signed URL"),
            ("abfss://c@evil.example/x", "not an Azure account"),
            ("file://host/x", "file://host: a URL of a file has no host: give file:///x"),
            ("file://u:hunter2@host/x", "has no host"),
            ("file:/x", "give file:///DIR/"),
            ("file:///%zz", "a wrong percent sign"),
            ("ftp://u:hunter2@h/x", "ftp://: not a place for objects"),
        ] {
            let said = Location::parse(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
            assert!(!said.contains("hunter2") && said.lines().count() <= 1, "{said}");
        }
    }

    proptest! {
        /// What is written is read as the same place.
        #[test]
        fn written_and_read_again(text in "(s3|gs|az|file)://[a-z@:/.]{0,8}/[a-z./%?= é]{0,12}") {
            if let Ok(place) = Location::parse(&text) {
                let again = Location::parse(&place.to_string()).unwrap();
                prop_assert_eq!(again.to_string(), place.to_string());
                prop_assert_eq!(again.is_one_file(), place.is_one_file());
            }
        }
    }
}
