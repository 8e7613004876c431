//! Files as the kernel has them. Modes come from the umask; everything is opened close-on-exec.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, StatxFlags};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;
use xxhash_rust::xxh3::Xxh3;

use super::lock::FileLocks;
use super::{Dir, Disk, File, Kind, Locks, Stat};

/// With this variable set, streams on network file systems are opened all the same.
pub const ALLOW_NETWORK: &str = "KPIPE_ALLOW_NETWORK_FS";

/// The whole of a small file or of a pipe (`<(command)`), refusing one above `max` bytes, and whether it can be read
/// again: a pipe is empty afterwards.
pub fn read_whole(path: &Path, max: usize) -> io::Result<(Vec<u8>, bool)> {
    let file = fs::File::open(path)?;
    let again = file.metadata()?.is_file();
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {max} bytes")));
    }
    Ok((bytes, again))
}

/// The machine's file systems.
#[derive(Debug, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(fs::File::open(path)?)))
    }

    fn open_writable(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).create_new(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // A file system that cannot: one name more for a moment, and it is not one step any more.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::hard_link(from, to)?;
                fs::remove_file(from)
            }
            other => other.map_err(Into::into),
        }
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // `Path::parent` of a bare name is the empty path, which means the current directory.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        fs::File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            if let Some(name) = OsStr::to_str(&entry?.file_name()) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let stat = rustix::fs::lstat(path)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        let modified_us = stat.st_mtime.saturating_mul(1_000_000) + stat.st_mtime_nsec as i64 / 1000;
        Ok(Stat { kind, len: stat.st_size as u64, modified_us })
    }

    fn open_plain(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        // Without NONBLOCK a pipe of that name would hold the open until somebody writes to it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let refused = || io::Error::new(io::ErrorKind::InvalidInput, "not a plain file");
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::LOOP | Errno::NXIO) => return Err(refused()),
            other => fs::File::from(other?),
        };
        if !file.metadata()?.is_file() {
            return Err(refused());
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn descend(&self, dir: &Path, name: &str, make: bool) -> io::Result<Dir> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = rustix::fs::open(dir, flags, Mode::empty())?;
        let enter = || rustix::fs::openat(&above, name, flags | OFlags::NOFOLLOW, Mode::empty());
        let held = match enter() {
            Err(Errno::NOENT) if make => {
                match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o777)) {
                    // Somebody else was as quick.
                    Ok(()) | Err(Errno::EXIST) => enter(),
                    Err(errno) => Err(errno),
                }
            }
            other => other,
        }?;
        let through = Path::new("/proc/self/fd").join(held.as_raw_fd().to_string());
        // Without /proc there is only the name, which somebody else might give to another directory meanwhile.
        let path = if through.exists() { through } else { dir.join(name) };
        Ok(Dir { path, _held: Some(held) })
    }

    fn locks(&self, path: &Path) -> io::Result<Arc<dyn Locks>> {
        Ok(Arc::new(FileLocks::open(path, false)?))
    }

    fn create_locks(&self, path: &Path) -> io::Result<Arc<dyn Locks>> {
        Ok(Arc::new(FileLocks::open(path, true)?))
    }

    fn shared_locks(&self, path: &Path) -> io::Result<Arc<dyn Locks>> {
        Ok(Arc::new(FileLocks::open_to_share(path)?))
    }

    fn network_kind(&self, path: &Path) -> Option<&'static str> {
        // Magic numbers of statfs(2).
        const KINDS: [(i64, &str); 8] = [
            (0x6969, "NFS"),
            (0x517b, "SMB"),
            (0xff53_4d42, "CIFS"),
            (0xfe53_4d42, "SMB2"),
            (0x0102_1997, "9p"),
            (0x00c3_6400, "Ceph"),
            (0x0bd0_0bd0, "Lustre"),
            (0x5346_414f, "AFS"),
        ];
        if std::env::var_os(ALLOW_NETWORK).is_some() {
            return None;
        }
        let kind = rustix::fs::statfs(path).ok()?.f_type & 0xffff_ffff;
        KINDS.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
    }
}

/// The kernel takes at most this many parts in one call (`IOV_MAX`).
const PARTS_MAX: usize = 1024;

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut got = 0;
        while got < buf.len() {
            match self.0.read_at(&mut buf[got..], offset + got as u64) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(got)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let mut parts = parts.to_vec();
        let mut left = &mut parts[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let batch = &left[..left.len().min(PARTS_MAX)];
            match rustix::io::pwritev(&self.0, batch, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    offset += n as u64;
                    IoSlice::advance_slices(&mut left, n);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.0)?.st_size as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        loop {
            match rustix::fs::fdatasync(&self.0) {
                // Interrupted before anything was tried; every other failure is final and must not be retried.
                Err(Errno::INTR) => {}
                other => return other.map_err(Into::into),
            }
        }
    }

    fn mode(&self) -> Option<u32> {
        rustix::fs::fstat(&self.0).ok().map(|stat| stat.st_mode & 0o7777)
    }

    fn key(&self) -> Option<u64> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let stat = rustix::fs::statx(&self.0, "", AtFlags::EMPTY_PATH, wanted).ok()?;
        // An inode number comes again soon after a file was removed; with the time of its birth it is another's.
        if !StatxFlags::from_bits_retain(stat.stx_mask).contains(wanted) {
            return None;
        }
        let mut digest = Xxh3::new();
        (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino).hash(&mut digest);
        (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec).hash(&mut digest);
        Some(digest.finish())
    }

    fn forget_cache(&self) -> io::Result<()> {
        rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed).map_err(Into::into)
    }

    fn splice_into(&self, mut offset: u64, len: usize, pipe: BorrowedFd<'_>) -> io::Result<Option<usize>> {
        match rustix::pipe::splice(&self.0, Some(&mut offset), pipe, None, len, SpliceFlags::empty()) {
            Ok(sent) => Ok(Some(sent)),
            // A file system that cannot, or no pipe.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Temporary files were named by the process number: two containers that shared a directory had processes of one
    /// number, and one put the other's bytes in place.
    #[test]
    fn no_two_prepare_in_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let (one, other) = (RealDisk.prepare(&path, b"1").unwrap(), RealDisk.prepare(&path, b"2").unwrap());
        assert_ne!(one, other);
        assert_eq!((fs::read(one).unwrap(), fs::read(other).unwrap()), (b"1".to_vec(), b"2".to_vec()));
    }

    #[test]
    fn a_directory_is_entered_and_a_link_is_not() {
        let root = tempfile::tempdir().unwrap();
        let made = RealDisk.descend(root.path(), "a", true).unwrap();
        fs::rename(root.path().join("a"), root.path().join("b")).unwrap();
        fs::write(made.path().join("x"), "1").unwrap();
        assert_eq!(
            fs::read(root.path().join("b/x")).unwrap(),
            b"1",
            "it is the same directory under any name"
        );

        std::os::unix::fs::symlink("b", root.path().join("link")).unwrap();
        let error = RealDisk.descend(root.path(), "link", true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        assert_eq!(RealDisk.stat(&root.path().join("link")).unwrap().kind, Kind::Link);
        let error = RealDisk.descend(root.path(), "c", false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn only_a_plain_file_is_opened_as_one() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("file"), "1").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(RealDisk.open_plain(&at("file")).unwrap().len().unwrap(), 1);
        for name in ["link", "pipe", "."] {
            let error = RealDisk.open_plain(&at(name)).map(drop).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }
}
