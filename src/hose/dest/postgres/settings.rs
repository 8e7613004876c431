//! How to get to a database: the URL, completed as libpq completes it, from a service file, the environment and
//! `~/.pgpass`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::address::{Address, AddressError, parse_port};
use crate::sys::System;
use crate::sys::private::{self, Private};

/// Password and service files are a few lines.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where libpq looks for a server when no host is named: Debian's directory, then the original one.
const SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Longer than a handshake over a bad line, and short enough to try the next host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Tells the value of an environment variable.
pub type Variable = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What surrounds the program.
#[derive(Clone)]
pub struct Surroundings {
    /// Tells the value of an environment variable.
    pub variable: Arc<Variable>,
    /// The machine.
    pub system: System,
}

impl Surroundings {
    /// Those of this process.
    pub fn real() -> Self {
        Self { variable: Arc::new(|name| std::env::var(name).ok()), system: System::real() }
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }
}

/// Whether the connection is encrypted, and who the server must be: libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Not encrypted.
    Disable,
    /// Encrypted where the server can; it may be anybody.
    Prefer,
    /// Encrypted; it may be anybody, unless root certificates are named.
    Require,
    /// Encrypted, with a certificate of a known authority.
    VerifyCa,
    /// Encrypted, with a certificate of a known authority for the host's name.
    VerifyFull,
}

impl SslMode {
    fn parse(text: &str) -> Result<Self, AddressError> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            other => {
                return Err(AddressError::new(format!(
                    "sslmode={other}: disable, prefer, require, verify-ca or verify-full?"
                )));
            }
        })
    }
}

/// Encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssl {
    /// How much is asked for.
    pub mode: SslMode,
    /// The file of the authorities that are trusted, instead of the machine's.
    pub roots: Option<PathBuf>,
    /// The files of a certificate and its key that tell the server who we are.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// All that a connection needs but the password, which is looked up when one is made.
#[derive(Clone)]
pub struct Settings {
    /// Hosts and ports that are tried one after the other.
    pub hosts: Vec<(String, u16)>,
    /// Who one is there.
    pub user: String,
    /// The database.
    pub database: String,
    /// How the server calls this connection.
    pub application_name: String,
    /// Encryption.
    pub ssl: Ssl,
    /// The longest that connecting to one address may take.
    pub connect_timeout: Duration,
    /// Only a server that takes writes will do.
    pub read_write: bool,
    /// Settings for the server (`PGOPTIONS`).
    pub options: Option<String>,
    /// From the environment or a service file.
    password: Option<Password>,
    passfile: Option<PathBuf>,
}

/// A password. It is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

/// What a look for a password came to.
pub(super) enum Found {
    Password(Password),
    /// None, and perhaps why.
    None(Option<String>),
}

/// What a scheme stands for where nothing is said.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// The port.
    pub port: u16,
    /// How much encryption is asked for.
    pub ssl: SslMode,
}

/// PostgreSQL's own.
pub const POSTGRESQL: Defaults = Defaults { port: 5432, ssl: SslMode::Prefer };

impl Settings {
    /// Completes an address. All that stands behind its `?` and was not taken belongs to the connection.
    pub fn complete(
        mut address: Address,
        defaults: Defaults,
        around: &Surroundings,
    ) -> Result<Self, AddressError> {
        let service = match address.take("service").or_else(|| around.get("PGSERVICE")) {
            Some(name) => service(&name, around)?,
            None => Vec::new(),
        };
        let in_service =
            |key: &str| service.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
        // As libpq: what was said, then the service's file, then the environment.
        let mut find = |key: &str, variable: &str| {
            address.take(key).or_else(|| in_service(key)).or_else(|| around.get(variable))
        };
        let host = find("host", "PGHOST");
        let port = find("port", "PGPORT");
        let user = find("user", "PGUSER");
        let database = find("dbname", "PGDATABASE");
        let mode = find("sslmode", "PGSSLMODE");
        let roots = find("sslrootcert", "PGSSLROOTCERT");
        let (cert, key) = (find("sslcert", "PGSSLCERT"), find("sslkey", "PGSSLKEY"));
        let name = find("application_name", "PGAPPNAME");
        let timeout = find("connect_timeout", "PGCONNECT_TIMEOUT");
        let target = find("target_session_attrs", "PGTARGETSESSIONATTRS");
        let options = find("options", "PGOPTIONS");
        let passfile = find("passfile", "PGPASSFILE");
        if let Some(key) = address.left() {
            return Err(AddressError::new(format!("the URL has `{key}`, which means nothing here")));
        }
        let ports = port
            .map(|ports| ports.split(',').map(parse_port).collect::<Result<Vec<_>, _>>())
            .transpose()?
            .unwrap_or_default();
        let hosts = hosts(&address, host.as_deref(), &ports, defaults.port, around)?;
        let user = address.user.or(user).or_else(private::user_name).ok_or_else(|| {
            AddressError::new("who are you? name a user in the URL (scheme://USER@host) or in PGUSER")
        })?;
        let mode = mode.map_or(Ok(defaults.ssl), |mode| SslMode::parse(&mode))?;
        Ok(Self {
            hosts,
            database: address.database.or(database).unwrap_or_else(|| user.clone()),
            user,
            application_name: name.unwrap_or_else(|| "khose".to_owned()),
            ssl: ssl(mode, roots.as_deref(), cert, key, around),
            connect_timeout: match timeout {
                None => CONNECT_TIMEOUT,
                Some(text) => {
                    let seconds: u64 = text.parse().ok().filter(|seconds| *seconds > 0).ok_or_else(|| {
                        AddressError::new(format!("connect_timeout={text}: a number of seconds?"))
                    })?;
                    Duration::from_secs(seconds)
                }
            },
            read_write: match target.as_deref() {
                None | Some("any") => false,
                Some("read-write" | "primary") => true,
                Some(other) => {
                    return Err(AddressError::new(format!(
                        "target_session_attrs={other}: any or read-write?"
                    )));
                }
            },
            options,
            password: in_service("password").or_else(|| around.get("PGPASSWORD")).map(Password),
            passfile: passfile.map(PathBuf::from).or_else(|| around.home().map(|home| home.join(".pgpass"))),
        })
    }

    /// Where it goes, for a person.
    pub fn place(&self) -> String {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(
                |(host, port)| {
                    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
                },
            )
            .collect();
        format!("{}/{}", hosts.join(","), self.database)
    }

    /// Looks for the password to one of the hosts. Files are read every time: they may have been changed.
    pub(super) fn password(&self, host: &str, port: u16) -> Found {
        if let Some(password) = &self.password {
            return Found::Password(password.clone());
        }
        let Some(path) = &self.passfile else { return Found::None(None) };
        match private::read(path, FILE_BYTES_MAX) {
            Ok(Private::Kept(bytes)) => {
                // The file says `localhost` for the usual socket.
                let host = if SOCKET_DIRS.contains(&host) { "localhost" } else { host };
                let wanted = [host, &port.to_string(), &self.database, &self.user];
                match password_of(&String::from_utf8_lossy(&bytes), &wanted) {
                    Some(password) => Found::Password(Password(password)),
                    None => Found::None(Some(format!("{} has no line that fits", path.display()))),
                }
            }
            Ok(Private::Open) => Found::None(Some(format!(
                "{} is not used: others may read it, or it is no file; chmod 600 it",
                path.display()
            ))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Found::None(None),
            Err(error) => Found::None(Some(format!("{}: {error}", path.display()))),
        }
    }
}

fn hosts(
    address: &Address,
    host: Option<&str>,
    ports: &[u16],
    port_default: u16,
    around: &Surroundings,
) -> Result<Vec<(String, u16)>, AddressError> {
    let mut hosts = address.hosts.clone();
    if hosts.is_empty()
        && let Some(named) = host
    {
        hosts = named.split(',').map(|host| (host.trim().to_owned(), None)).collect();
    }
    if hosts.is_empty() {
        let socket = |dir: &&&str| {
            let port = ports.first().copied().unwrap_or(port_default);
            around.system.disk.exists(&Path::new(dir).join(format!(".s.PGSQL.{port}")))
        };
        let host = SOCKET_DIRS.iter().find(socket).copied().unwrap_or("localhost");
        hosts.push((host.to_owned(), None));
    }
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err(AddressError::new(format!("{} hosts and {} ports", hosts.len(), ports.len())));
    }
    let of_all = |i: usize| ports.get(i).or(ports.first()).copied().unwrap_or(port_default);
    Ok(hosts
        .into_iter()
        .enumerate()
        .map(|(i, (host, port))| (host, port.unwrap_or_else(|| of_all(i))))
        .collect())
}

fn ssl(
    mode: SslMode,
    roots: Option<&str>,
    cert: Option<String>,
    key: Option<String>,
    around: &Surroundings,
) -> Ssl {
    let usual = |name: &str| around.home().map(|home| home.join(".postgresql").join(name));
    let there = |path: Option<PathBuf>| path.filter(|path| around.system.disk.exists(path));
    let cert = cert.map(PathBuf::from).or_else(|| there(usual("postgresql.crt")));
    let key = key.map(PathBuf::from).or_else(|| usual("postgresql.key"));
    Ssl {
        mode,
        roots: match roots {
            Some("system") => None,
            Some(path) => Some(PathBuf::from(path)),
            None => there(usual("root.crt")),
        },
        own: cert.zip(key),
    }
}

/// The settings of a service: `[name]`, then `key=value` lines.
fn service(name: &str, around: &Surroundings) -> Result<Vec<(String, String)>, AddressError> {
    let own = around.get("PGSERVICEFILE").map(PathBuf::from);
    let own = own.or_else(|| around.home().map(|home| home.join(".pg_service.conf")));
    let shared = around.get("PGSYSCONFDIR").map_or_else(|| PathBuf::from("/etc"), PathBuf::from);
    for path in own.into_iter().chain([shared.join("pg_service.conf")]) {
        let bytes = match around.system.disk.read(&path, FILE_BYTES_MAX as usize) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(AddressError::new(format!("{}: {error}", path.display()))),
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        if !lines.any(|line| line == format!("[{name}]")) {
            continue;
        }
        return Ok(lines
            .take_while(|line| !line.starts_with('['))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .collect());
    }
    Err(AddressError::new(format!("there is no service `{name}` in a pg_service.conf")))
}

/// The password of the first line that fits host, port, database and user.
fn password_of(text: &str, wanted: &[&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = Fields(line);
        let fits = wanted
            .iter()
            .all(|wanted| fields.next_field().is_some_and(|(raw, field)| raw == "*" || field == **wanted));
        fits.then(|| unescape(fields.0.strip_suffix('\r').unwrap_or(fields.0)))
            .filter(|password| !password.is_empty())
    })
}

/// Fields of a line, each but the last ended by a colon.
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    fn next_field(&mut self) -> Option<(&'a str, String)> {
        let mut escaped = false;
        let end = self.0.char_indices().find(|(_, c)| {
            let ends = *c == ':' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        })?;
        let (field, rest) = self.0.split_at(end.0);
        self.0 = &rest[1..];
        Some((field, unescape(field)))
    }
}

fn unescape(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn around(home: &Path, variables: &[(&str, &str)]) -> Surroundings {
        let mut variables: BTreeMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        variables.insert("HOME".to_owned(), home.display().to_string());
        Surroundings { variable: Arc::new(move |name| variables.get(name).cloned()), system: System::real() }
    }

    fn complete(url: &str, around: &Surroundings) -> Result<Settings, AddressError> {
        Settings::complete(Address::parse(url).unwrap(), POSTGRESQL, around)
    }

    #[test]
    fn what_is_said_goes_before_the_service_and_that_before_the_environment() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(
            home.path().join(".pg_service.conf"),
            "# ours\n[other]\nuser=x\n[lake]\nhost=in-service\nuser = in-service\npassword=p\n",
        )
        .unwrap();
        let variables =
            [("PGSERVICE", "lake"), ("PGUSER", "in-env"), ("PGDATABASE", "in-env"), ("PGPORT", "7")];
        let around = around(home.path(), &variables);
        let settings = complete("postgres://said@/?application_name=x", &around).unwrap();
        assert_eq!((settings.user.as_str(), settings.database.as_str()), ("said", "in-env"));
        assert_eq!(settings.hosts, [("in-service".to_owned(), 7)]);
        assert_eq!(settings.application_name, "x");
        assert!(matches!(settings.password("in-service", 7), Found::Password(p) if p.reveal() == "p"));
        assert_eq!(settings.place(), "in-service:7/in-env");
        assert!(complete("postgres://h/?service=none", &around).is_err());
        assert!(complete("postgres://h/?tabel=x", &around).is_err());
    }

    #[test]
    fn several_hosts_and_ports() {
        let home = tempfile::tempdir().unwrap();
        let around = around(home.path(), &[("PGHOST", "a,b"), ("PGPORT", "1,2")]);
        let hosts = |url: &str| complete(url, &around).map(|settings| settings.hosts);
        assert_eq!(hosts("postgres://").unwrap(), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        assert_eq!(hosts("postgres://c:9,d").unwrap(), [("c".to_owned(), 9), ("d".to_owned(), 2)]);
        assert!(hosts("postgres://c,d,e").is_err());
    }

    #[test]
    fn the_line_that_fits_is_the_first() {
        let text = "# comment\n\
                    other:5432:*:*:no\n\
                    db.example:5432:sh\\:op:joe:pa\\:ss\\\\word:x\n\
                    *:*:*:*:last";
        let of = |host: &str, database: &str| password_of(text, &[host, "5432", database, "joe"]);
        assert_eq!(of("db.example", "sh:op").unwrap(), "pa:ss\\word:x");
        assert_eq!(of("db.example", "shop").unwrap(), "last");
        assert_eq!(password_of("*:*:*:*:", &["h", "1", "d", "u"]), None);
        assert_eq!(password_of("\\*:*:*:*:p", &["h", "1", "d", "u"]), None);
        assert_eq!(password_of("h:1", &["h", "1", "d", "u"]), None);
    }

    #[test]
    fn a_password_file_that_others_may_read_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".pgpass");
        std::fs::write(&path, "localhost:*:*:*:secret\n").unwrap();
        let settings = complete("postgres://joe@localhost/db", &around(home.path(), &[])).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let Found::None(Some(why)) = settings.password("localhost", 5432) else { panic!() };
        assert!(why.contains("chmod 600") && !why.contains("secret"), "{why}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for host in ["localhost", "/var/run/postgresql"] {
            assert!(matches!(settings.password(host, 5432), Found::Password(p) if p.reveal() == "secret"));
        }
        assert!(matches!(settings.password("elsewhere", 5432), Found::None(Some(_))));
    }

    #[test]
    fn encryption() {
        let home = tempfile::tempdir().unwrap();
        let ssl = |url: &str, variables: &[(&str, &str)]| {
            complete(url, &around(home.path(), variables)).map(|settings| settings.ssl)
        };
        assert_eq!(ssl("postgres://h", &[]).unwrap(), Ssl { mode: SslMode::Prefer, roots: None, own: None });
        let full = ssl("postgres://h?sslmode=verify-full", &[("PGSSLROOTCERT", "/ca")]).unwrap();
        assert_eq!((full.mode, full.roots), (SslMode::VerifyFull, Some(PathBuf::from("/ca"))));
        assert!(ssl("postgres://h?sslmode=full", &[]).is_err());
        std::fs::create_dir(home.path().join(".postgresql")).unwrap();
        std::fs::write(home.path().join(".postgresql/root.crt"), "").unwrap();
        assert!(ssl("postgres://h", &[]).unwrap().roots.is_some());
        assert!(ssl("postgres://h?sslrootcert=system", &[]).unwrap().roots.is_none());
    }
}
