//! What belongs to one person: who runs this process, and files that only that person may read.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A file that may hold a secret.
#[derive(PartialEq, Eq)]
pub enum Private {
    /// Only its owner may read it.
    Kept(Vec<u8>),
    /// Others may read it too, so that nothing in it is a secret; or it is no regular file.
    Open,
}

/// Reads a small file that is to be kept from others. The mode is asked of the file that was opened, not of its name.
pub fn read(path: &Path, max: u64) -> io::Result<Private> {
    let mut file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o077 != 0 {
        return Ok(Private::Open);
    }
    let mut bytes = Vec::new();
    file.by_ref().take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {max} bytes")));
    }
    Ok(Private::Kept(bytes))
}

/// The name of the user who runs this process, as `/etc/passwd` has it.
pub fn user_name() -> Option<String> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_read_is_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        fs::write(&path, "secret").unwrap();
        for (mode, kept) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read(&path, 6).unwrap();
            assert!(read == if kept { Private::Kept(b"secret".to_vec()) } else { Private::Open }, "{mode:o}");
        }
        assert!(read(dir.path(), 6).unwrap() == Private::Open);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read(&path, 5).is_err());
        assert!(read(&dir.path().join("missing"), 5).is_err());
    }

    #[test]
    fn a_process_has_a_user() {
        let told = std::process::Command::new("id").arg("-un").output().unwrap();
        assert_eq!(user_name().as_deref(), Some(String::from_utf8_lossy(&told.stdout).trim()));
    }
}
