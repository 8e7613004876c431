//! Keys, tokens and passwords: from a file or the environment, never from a command line, never in a message.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::SetupError;
use crate::sys::fs::read_whole;

/// The longest access key that the service has.
const BYTES_MAX: usize = 4096;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file, whose last newline is not part of it. A pipe (`<(pass show key)`) is read once.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "${name}"),
        }
    }
}

/// A secret in use.
pub(super) struct Secret {
    source: SecretSource,
    /// Whether its source can be read a second time.
    again: bool,
    value: Mutex<String>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.source)
    }
}

impl Secret {
    /// Reads it.
    pub(super) fn load(source: &SecretSource) -> Result<Self, SetupError> {
        let (value, again) = read(source).map_err(|reason| SetupError(format!("{source}: {reason}")))?;
        Ok(Self { source: source.clone(), again, value: Mutex::new(value) })
    }

    /// It.
    pub(super) fn value(&self) -> String {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads it again; whether it is another now. What cannot be read leaves it as it is.
    pub(super) fn reload(&self) -> bool {
        if !self.again {
            return false;
        }
        let Ok((new, _)) = read(&self.source) else { return false };
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *value != new;
        *value = new;
        changed
    }
}

fn read(source: &SecretSource) -> Result<(String, bool), String> {
    let (mut value, again) = match source {
        SecretSource::File(path) => {
            let (bytes, again) = read_whole(path, BYTES_MAX + 2).map_err(|error| error.to_string())?;
            (String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?, again)
        }
        // The environment of a process does not change from outside.
        SecretSource::Env(name) => {
            (std::env::var(name).map_err(|_| "not set, or not UTF-8".to_owned())?, false)
        }
    };
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    match value.len() {
        0 => Err("empty".to_owned()),
        len if len > BYTES_MAX => Err(format!("{len} bytes, at most {BYTES_MAX} expected")),
        _ if value.contains(|c: char| c.is_control()) => Err("a control character in it".to_owned()),
        _ => Ok((value, again)),
    }
}

/// What a server said, fit for a log: one line, not too long, and none of these secrets in it.
pub(super) fn presentable(text: &str, secrets: &[&Secret]) -> String {
    /// Characters of an answer that are kept: the service keeps up to 8192, a line of a log has less patience.
    const CHARS_MAX: usize = 1024;
    let mut text = text.to_owned();
    for secret in secrets {
        let value = secret.value();
        // A shorter one would be found in every second word.
        if value.len() >= 4 {
            text = text.replace(&value, "***");
        }
    }
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS_MAX).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "hunter22\r\n").unwrap();
        let secret = Secret::load(&SecretSource::File(path.clone())).unwrap();
        assert_eq!(secret.value(), "hunter22");
        assert!(!format!("{secret:?}").contains("hunter"));
        assert_eq!(presentable("no\nkey hunter22 here", &[&secret]), "no key *** here");
        assert!(!secret.reload());
        std::fs::write(&path, "").unwrap();
        assert!(!secret.reload());
        assert_eq!(secret.value(), "hunter22");
        std::fs::write(&path, "hunter23").unwrap();
        assert!(secret.reload());
        assert_eq!(secret.value(), "hunter23");
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for bad in ["", "\n", "two\nlines", &"x".repeat(4097)] {
            std::fs::write(&path, bad).unwrap();
            assert!(Secret::load(&SecretSource::File(path.clone())).is_err(), "{bad}");
        }
        assert!(Secret::load(&SecretSource::Env("KPIPE_NO_SUCH_VARIABLE".to_owned())).is_err());
        std::fs::write(&path, "x".repeat(4096)).unwrap();
        Secret::load(&SecretSource::File(path)).unwrap();
    }

    #[test]
    fn a_pipe_is_read_once() {
        use std::io::Write as _;
        use std::os::fd::AsRawFd as _;
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"from a pipe\n").unwrap();
        drop(writer);
        let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        let secret = Secret::load(&SecretSource::File(path)).unwrap();
        assert_eq!(secret.value(), "from a pipe");
        assert!(!secret.reload());
        assert_eq!(secret.value(), "from a pipe");
    }
}
