//! Where a database is, as it is written on a command line: `postgresql://user@host:5432/database?table=clicks`.

use std::fmt::Write as _;

/// The parts of a database's URL. A password is none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// The scheme, in small letters.
    pub scheme: String,
    /// Who one is there.
    pub user: Option<String>,
    /// The hosts that are tried one after the other, each with its port. One that begins with `/` is the directory of a
    /// Unix socket.
    pub hosts: Vec<(String, Option<u16>)>,
    /// The database.
    pub database: Option<String>,
    /// What stands behind the `?`.
    query: Vec<(String, String)>,
}

/// What is wrong with an address, or with what it is completed from.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct AddressError(pub(in crate::hose::dest) String);

impl AddressError {
    pub(in crate::hose::dest) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A command line is seen by every user of the machine and kept by the shell.
const NO_PASSWORDS: &str = "a password in a URL is seen by everybody (ps, the shell's history, logs): \
                            put it into PGPASSWORD or ~/.pgpass";

impl Address {
    /// Takes a URL apart.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        // What is wrong is told without the URL: it may hold what must not be shown.
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| AddressError::new("a database's URL begins with scheme://"))?;
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(AddressError::new(NO_PASSWORDS));
        }
        let mut address = Self {
            scheme: scheme.to_ascii_lowercase(),
            user: user.map(decode).transpose()?.filter(|user| !user.is_empty()),
            database: Some(decode(database)?).filter(|database| !database.is_empty()),
            ..Self::default()
        };
        for host in hosts.split(',').filter(|host| !host.is_empty()) {
            address.hosts.push(host_and_port(host)?);
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key)?, decode(value)?);
            if matches!(key.as_str(), "password" | "sslpassword") {
                return Err(AddressError::new(NO_PASSWORDS));
            }
            if address.query.iter().any(|(known, _)| *known == key) {
                return Err(AddressError::new(format!("the URL has `{key}` twice")));
            }
            address.query.push((key, value));
        }
        Ok(address)
    }

    /// Takes a value out of what stands behind the `?`.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let at = self.query.iter().position(|(known, _)| known == key)?;
        Some(self.query.remove(at).1)
    }

    /// The same for a value that is `true` or `false`; a key alone is `true`.
    pub fn take_flag(&mut self, key: &str) -> Result<bool, AddressError> {
        match self.take(key).as_deref() {
            None | Some("false" | "no" | "0") => Ok(false),
            Some("" | "true" | "yes" | "1") => Ok(true),
            Some(other) => Err(AddressError::new(format!("{key}={other}: true or false?"))),
        }
    }

    /// A key that nobody has taken.
    pub fn left(&self) -> Option<&str> {
        self.query.first().map(|(key, _)| key.as_str())
    }
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), AddressError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest
                .split_once(']')
                .ok_or_else(|| AddressError::new("the URL has `[` without `]` around its host"))?;
            (host, port.strip_prefix(':'))
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.filter(|port| !port.is_empty()).map(parse_port).transpose()?;
    Ok((decode(host)?, port))
}

pub(super) fn parse_port(port: &str) -> Result<u16, AddressError> {
    port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
        AddressError::new("a port is a number between 1 and 65535 (a password does not belong into a URL)")
    })
}

/// Undoes `%41`. A `+` is a plus: that is what libpq does.
fn decode(text: &str) -> Result<String, AddressError> {
    let wrong = || AddressError::new("a `%` in a URL is followed by two hexadecimal digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = behind;
            continue;
        }
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(wrong)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = &behind[2..];
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| AddressError::new("a URL holds UTF-8 without zero bytes"))
}

/// A table's name, perhaps with its schema. As in SQL, what is not in quotes counts as written in small letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// The schema; without one the search path decides.
    pub schema: Option<String>,
    /// The table.
    pub name: String,
}

impl TableName {
    /// `clicks`, `public.clicks`, `"Web"."Clicks"`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::new(format!("`{text}` is no name of a table: table or schema.table"));
        let mut parts: Vec<String> = Vec::new();
        let mut rest = text;
        loop {
            let part = if let Some(quoted) = rest.strip_prefix('"') {
                let mut name = String::new();
                let mut chars = quoted.char_indices().peekable();
                let end = loop {
                    match chars.next() {
                        Some((_, '"')) if chars.peek().is_some_and(|(_, next)| *next == '"') => {
                            chars.next();
                            name.push('"');
                        }
                        Some((at, '"')) => break at + 1,
                        Some((_, c)) => name.push(c),
                        None => return Err(wrong()),
                    }
                };
                rest = &quoted[end..];
                name
            } else {
                let end = rest.find('.').unwrap_or(rest.len());
                let name = rest[..end].to_lowercase();
                if name.contains(['"', ' ', ';', '\'', '(']) {
                    return Err(wrong());
                }
                rest = &rest[end..];
                name
            };
            if part.is_empty() {
                return Err(wrong());
            }
            parts.push(part);
            match rest.strip_prefix('.') {
                Some(behind) => rest = behind,
                None if rest.is_empty() => break,
                None => return Err(wrong()),
            }
        }
        match (parts.pop(), parts.pop(), parts.is_empty()) {
            (Some(name), schema, true) => Ok(Self { schema, name }),
            _ => Err(wrong()),
        }
    }

    /// Another table in the same schema.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        Self { schema: self.schema.clone(), name: name.to_owned() }
    }

    /// The name as SQL takes it.
    pub fn sql(&self) -> String {
        let mut sql = String::new();
        if let Some(schema) = &self.schema {
            let _ = write!(sql, "{}.", identifier(schema));
        }
        sql.push_str(&identifier(&self.name));
        sql
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.name)
    }
}

/// A name as SQL takes it, whatever is in it.
pub(in crate::hose::dest) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL takes it, whatever is in it and whatever a backslash means to the server.
pub(in crate::hose::dest) fn literal(text: &str) -> String {
    let text = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", text.replace('\\', "\\\\")) } else { format!("'{text}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let mut address =
            Address::parse("postgresql://joe%40x@a.example:6000,[::1]/shop?table=web.clicks&create&x=a%20b")
                .unwrap();
        assert_eq!(address.user.as_deref(), Some("joe@x"));
        assert_eq!(address.hosts, [("a.example".to_owned(), Some(6000)), ("::1".to_owned(), None)]);
        assert_eq!(address.database.as_deref(), Some("shop"));
        assert_eq!(address.take("table").as_deref(), Some("web.clicks"));
        assert_eq!(address.take_flag("create"), Ok(true));
        assert_eq!(address.left(), Some("x"));
        assert_eq!(address.take("x").as_deref(), Some("a b"));
        assert_eq!(address.left(), None);
        let socket = Address::parse("postgres://%2Frun%2Fpg:5433/db").unwrap();
        assert_eq!(socket.hosts, [("/run/pg".to_owned(), Some(5433))]);
        assert_eq!(Address::parse("postgres://").unwrap().hosts, []);
        for wrong in
            ["postgres", "postgres://a:b/", "postgres://[::1/", "postgres://a/%zz", "postgres://a/%+1"]
        {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for url in [
            "postgres://joe:hunter2@h/db",
            "postgres://joe@h/db?password=hunter2",
            "postgres://joe:hunter2/db",
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(error.contains("password") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn names_of_tables() {
        let sql = |text: &str| TableName::parse(text).map(|table| table.sql());
        assert_eq!(sql("Clicks").unwrap(), r#""clicks""#);
        assert_eq!(sql(r#"web."My.""Clicks""""#).unwrap(), r#""web"."My.""Clicks""""#);
        for wrong in ["", ".", "a.", ".a", "a.b.c", "\"a", "a b", "\"a\"b", "a;b"] {
            assert!(sql(wrong).is_err(), "{wrong}");
        }
        assert_eq!(TableName::parse("a.b").unwrap().beside("c").to_string(), "a.c");
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'"), r"E'a\\'''");
    }
}
