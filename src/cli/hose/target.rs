//! What DEST stands for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::args::HoseArgs;
use crate::cli::args::StreamArg;
use crate::cli::report::HintExt;
use crate::hose::store::Location;

/// Where to deliver.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Objects below a place.
    Objects(Location),
    /// One object with this name.
    File(Location, String),
    /// A service, by the scheme of its URL.
    Service(Service, String),
    /// Another stream.
    Stream(OsString),
    /// Standard output.
    Stdout,
}

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Http,
    OpenSearch,
    Splunk,
    Postgres,
    Redshift,
}

/// The schemes of services.
const SERVICES: [(&str, Service); 13] = [
    ("http", Service::Http),
    ("https", Service::Http),
    ("opensearch", Service::OpenSearch),
    ("opensearchs", Service::OpenSearch),
    ("opensearch+http", Service::OpenSearch),
    ("opensearch+https", Service::OpenSearch),
    ("elasticsearch", Service::OpenSearch),
    ("elasticsearchs", Service::OpenSearch),
    ("splunk", Service::Splunk),
    ("splunk+http", Service::Splunk),
    ("postgresql", Service::Postgres),
    ("postgres", Service::Postgres),
    ("redshift", Service::Redshift),
];

impl Target {
    pub(super) fn parse(text: &str, _args: &HoseArgs) -> anyhow::Result<Self> {
        if text == "-" {
            return Ok(Self::Stdout);
        }
        if let Some(stream) = text.strip_prefix("kpipe:") {
            return Ok(Self::Stream(stream.into()));
        }
        if let Some((scheme, _)) = text.split_once("://")
            && let Some((_, service)) = SERVICES.iter().find(|(name, _)| *name == scheme)
        {
            return Ok(Self::Service(*service, text.to_owned()));
        }
        // A bare word might be a stream that was meant, or a typing error: a directory is named with a slash.
        let location = Location::parse(text).map_err(|reason| anyhow!("destination: {reason}"))?;
        if let Some((place, name)) = location.one_file() {
            return Ok(Self::File(place, name));
        }
        if !text.contains('/') {
            return Err(anyhow!(
                "destination {text}: neither a URL nor a path with a slash nor a known kind of file"
            ))
            .with_hint(|| format!("./{text}/ for a directory, kpipe:{text} for a stream"));
        }
        Ok(Self::Objects(location))
    }

    /// Whether it is given encoded objects, and not records.
    pub(super) fn takes_objects(&self) -> bool {
        match self {
            Self::Objects(_) | Self::File(..) | Self::Stdout => true,
            Self::Service(service, _) => *service == Service::Redshift,
            Self::Stream(_) => false,
        }
    }

    /// What it is, whichever of its names it is called by: deliveries are told apart by this. It may have a secret in
    /// it.
    pub(super) fn identity(&self) -> String {
        match self {
            Self::Objects(location) => match location.local_path() {
                Some(path) => format!("{}/", real(path).display().to_string().trim_end_matches('/')),
                None => location.to_string(),
            },
            Self::Service(service, url) => match url.split_once('?') {
                Some((_, query)) => match part_of_place(*service, query) {
                    Some(part) => format!("{}?{part}", without_user(url)),
                    None => without_user(url),
                },
                None => without_user(url),
            },
            Self::Stream(name) => {
                let path = StreamArg { stream: name.clone() }.resolve();
                path.map_or_else(|_| self.show(), |path| format!("kpipe:{}", real(&path).display()))
            }
            Self::File(..) | Self::Stdout => self.show(),
        }
    }

    /// As it is shown: never with a secret in it.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Objects(location) => location.to_string(),
            Self::File(location, name) => format!("{location}{name}"),
            Self::Service(_, url) => without_user(url),
            Self::Stream(name) => format!("kpipe:{}", name.display()),
            Self::Stdout => "standard output".to_owned(),
        }
    }
}

/// What of a query says where records go. A table does; how a database is reached, or loads, may change without a
/// beginning anew.
fn part_of_place(service: Service, query: &str) -> Option<&str> {
    match service {
        Service::Postgres | Service::Redshift => query.split('&').find(|pair| pair.starts_with("table=")),
        _ => Some(query),
    }
}

/// A path without links and dots in it, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match found {
        Some((above, real)) => match path.strip_prefix(above) {
            Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
            _ => real,
        },
        None => path,
    }
}

/// A URL without what stands before an `@` in its host, and without its query.
fn without_user(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split('?').next().unwrap_or(rest);
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = host.rsplit('@').next().unwrap_or(host);
    match path {
        Some(path) => format!("{scheme}://{host}/{path}"),
        None => format!("{scheme}://{host}"),
    }
}
