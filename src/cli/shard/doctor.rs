//! `kshard doctor`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{Access, AtFlags, CWD, StatVfs, accessat, statfs, statvfs};
use rustix::process::{Resource, getrlimit};
use serde_json::json;

use super::files;
use super::print::{self, OutputArg};
use crate::cli::Outcome;
use crate::cli::about;
use crate::cli::args::StreamArg;
use crate::cli::report::printable;
use crate::cli::stream_name::{self, ROOT_VARIABLE, quote};
use crate::cli::value::{about_duration, about_size, show_count, show_time};
use crate::log;
use crate::stream::{Manifest, Stream, unfinished};
use crate::sys::System;

/// Look whether the machine and a stream are in order
///
/// One line for each thing that was looked at: ok, warn or fail, what was found, and what to do about it. It changes
/// nothing. The exit status is 1 if anything failed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stream; without it only the machine, and the directory where streams are looked for
    #[arg(value_name = "STREAM")]
    stream: Option<OsString>,

    #[command(flatten)]
    output: OutputArg,
}

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Ok,
    Warn,
    Fail,
}

impl Health {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
struct Finding {
    what: &'static str,
    health: Health,
    found: String,
    remedy: Option<String>,
}

/// All that was found.
#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    fn ok(&mut self, what: &'static str, found: impl Into<String>) {
        self.0.push(Finding { what, health: Health::Ok, found: found.into(), remedy: None });
    }

    fn warn(&mut self, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { what, health: Health::Warn, found: found.into(), remedy: Some(remedy.into()) });
    }

    fn fail(&mut self, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { what, health: Health::Fail, found: found.into(), remedy: Some(remedy.into()) });
    }
}

/// Looks, and says what it found.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let stream = args.stream.map(|stream| about::open(&StreamArg { stream })).transpose()?;
    let place = match &stream {
        Some(stream) => stream.path().to_owned(),
        None => match std::env::var_os(ROOT_VARIABLE).filter(|root| !root.is_empty()) {
            Some(root) => PathBuf::from(root),
            None => std::env::current_dir().context("the current directory")?,
        },
    };
    let mut report = Report::default();
    if stream.is_none() && !place.is_dir() {
        report.fail(
            "root",
            format!("{} is no directory: streams are looked for there", place.display()),
            format!("mkdir -p {}", quote(&place.to_string_lossy())),
        );
        watches(&mut report);
        limits(&mut report, 0);
        show(&report, args.output)?;
        return Ok(Outcome::Refused);
    }
    let open_shards = stream.as_ref().map_or(0, |stream| stream.manifest().open_shards().len() as u64);
    file_system(&mut report, &place);
    space(&mut report, &place);
    watches(&mut report);
    limits(&mut report, open_shards);
    match &stream {
        Some(stream) => {
            clock(&mut report, stream);
            permissions(&mut report, stream);
            changes(&mut report, stream);
            failures(&mut report, stream);
            leftovers(&mut report, stream);
        }
        None => permission(&mut report, &place),
    }
    let failed = report.0.iter().any(|finding| finding.health == Health::Fail);
    show(&report, args.output)?;
    Ok(if failed { Outcome::Refused } else { Outcome::Done })
}

fn show(report: &Report, output: OutputArg) -> anyhow::Result<()> {
    if output.is_json() {
        let checks = report.0.iter().map(|finding| {
            json!({
                "Check": finding.what,
                "Status": finding.health.word(),
                "Finding": finding.found,
                "Remedy": finding.remedy,
            })
        });
        return print::json(&json!({"Checks": checks.collect::<Vec<_>>()}));
    }
    let width = report.0.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
    let mut out = String::new();
    for finding in &report.0 {
        let mut line =
            format!("{:4}  {:width$}  {}", finding.health.word(), finding.what, printable(&finding.found));
        if let Some(remedy) = &finding.remedy {
            line = format!("{line}; try: {}", printable(remedy));
        }
        out += &line;
        out.push('\n');
    }
    print::text(&out)
}

fn file_system(report: &mut Report, place: &Path) {
    // Magic numbers of statfs(2).
    const GOOD: [(i64, &str); 5] = [
        (0xef53, "ext4"),
        (0x5846_5342, "XFS"),
        (0x9123_683e, "Btrfs"),
        (0x2fc1_2fc1, "ZFS"),
        (0xf2f5_2010, "F2FS"),
    ];
    const WHAT: &str = "file system";
    if let Some(kind) = System::real().disk.network_kind(place) {
        report.fail(
            WHAT,
            format!("{kind}, a network file system, does not keep a log's promises"),
            "a local disk",
        );
        return;
    }
    let kind = match statfs(place) {
        Ok(found) => found.f_type & 0xffff_ffff,
        Err(error) => {
            report.warn(
                WHAT,
                format!("cannot be told: {error}"),
                format!("stat -f {}", quote(&place.to_string_lossy())),
            );
            return;
        }
    };
    match (kind, GOOD.iter().find(|(magic, _)| *magic == kind)) {
        (_, Some((_, name))) => report.ok(WHAT, *name),
        (0x0102_1994 | 0x8584_58f6, _) => {
            report.warn(WHAT, "in memory: all is lost when the machine stops", "a directory on a disk");
        }
        (0x794c_7630, _) => {
            report.warn(
                WHAT,
                "an overlay: it goes when its container goes",
                "a volume of the container's host",
            );
        }
        (0x6573_5546, _) => {
            report.warn(WHAT, "FUSE: what it promises is its program's affair", "a local disk");
        }
        _ => report.ok(WHAT, format!("local, of kind {kind:#x}")),
    }
}

fn space(report: &mut Report, place: &Path) {
    let vfs: StatVfs = match statvfs(place) {
        Ok(vfs) => vfs,
        Err(error) => {
            report.warn("space", format!("cannot be told: {error}"), "df -h");
            return;
        }
    };
    let part = |free: u64, all: u64| if all == 0 { 100.0 } else { free as f64 / all as f64 * 100.0 };
    let free = vfs.f_bavail.saturating_mul(vfs.f_frsize);
    let left = part(vfs.f_bavail, vfs.f_blocks);
    let found = format!("{} free ({left:.0}%)", about_size(free));
    let remedy = "kshard trim, or a shorter kshard retention";
    if free < 64 << 20 {
        report.fail("space", found, remedy);
    } else if left < 10.0 && free < 10 << 30 {
        report.warn("space", found, remedy);
    } else {
        report.ok("space", found);
    }
    let left = part(vfs.f_favail, vfs.f_files);
    let found = match vfs.f_files {
        // File systems that make inodes as they need them count none.
        0 => "no limit".to_owned(),
        _ => format!("{} free ({left:.0}%)", show_count(vfs.f_favail)),
    };
    if vfs.f_files > 0 && vfs.f_favail < 1000 {
        report.fail("inodes", found, "larger segments: kshard create --segment-size");
    } else if left < 5.0 {
        report.warn("inodes", found, "larger segments: kshard create --segment-size");
    } else {
        report.ok("inodes", found);
    }
}

/// Following readers are woken by inotify; without it they look again every so often.
fn watches(report: &mut Report) {
    for (what, name, least) in
        [("inotify watches", "max_user_watches", 8192u64), ("inotify instances", "max_user_instances", 128)]
    {
        let path = format!("/proc/sys/fs/inotify/{name}");
        match fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok()) {
            Some(count) if count < least => report.warn(
                what,
                format!("{count} for each user: followers beyond that wake up late"),
                format!("sysctl fs.inotify.{name}={least}"),
            ),
            Some(count) => report.ok(what, show_count(count)),
            None => report.warn(what, "cannot be told: followers may wake up late", format!("cat {path}")),
        }
    }
}

fn limits(report: &mut Report, open_shards: u64) {
    // A writer holds one segment of each shard open, and its index.
    let needed = open_shards * 2 + 64;
    let files = getrlimit(Resource::Nofile).current;
    match files {
        Some(files) if files < open_shards + 32 => report.fail(
            "open files",
            format!("{files} for a process, and {open_shards} shards are open"),
            format!("ulimit -n {}", needed.max(1024)),
        ),
        Some(files) if files < needed => report.warn(
            "open files",
            format!("{files} for a process, and {open_shards} shards are open"),
            format!("ulimit -n {}", needed.max(1024)),
        ),
        files => report.ok("open files", files.map_or_else(|| "no limit".to_owned(), show_count)),
    }
    match getrlimit(Resource::Fsize).current {
        Some(bytes) if bytes < 1 << 30 => {
            report.warn(
                "file size",
                format!("a process may write files of {} only", about_size(bytes)),
                "ulimit -f unlimited",
            );
        }
        _ => report.ok("file size", "no limit that matters"),
    }
}

/// Arrival times never go backwards in a shard: under a clock that did, they stand still.
fn clock(report: &mut Report, stream: &Stream) {
    let now_us = stream.system().clock.now_us();
    let mut last_us = stream.manifest().created_us;
    for shard in stream.manifest().open_shards() {
        match log::at_rest(&stream.log_dir(shard), shard.range()) {
            Ok(rest) => last_us = last_us.max(rest.arrival_us),
            Err(error) => {
                let line =
                    crate::cli::report::line(&anyhow::Error::new(error).context(shard.id().to_string()));
                report.fail("tail", line, command("check", stream));
            }
        }
    }
    let ahead = last_us.saturating_sub(now_us);
    let length = about_duration(Duration::from_micros(ahead.unsigned_abs()));
    if ahead > 60_000_000 {
        report.fail(
            "clock",
            format!(
                "{length} behind the last arrival: new records get {} until it has passed",
                show_time(last_us)
            ),
            "chronyc tracking, or timedatectl",
        );
    } else if ahead > 1_000_000 {
        report.warn("clock", format!("{length} behind the last arrival"), "chronyc tracking, or timedatectl");
    } else {
        report.ok("clock", format!("{}, no arrival is later", show_time(now_us)));
    }
}

fn writable(path: &Path) -> bool {
    accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

fn permission(report: &mut Report, place: &Path) {
    if writable(place) {
        report.ok("permissions", format!("{} can be read and written", place.display()));
    } else {
        let shown = quote(&place.to_string_lossy());
        report.warn(
            "permissions",
            format!("{} cannot be written", place.display()),
            format!("ls -ld {shown}"),
        );
    }
}

fn permissions(report: &mut Report, stream: &Stream) {
    let mut paths = vec![stream.path().to_owned(), Manifest::path(stream.path())];
    let table = stream.path().join("locks");
    if table.exists() {
        report.ok("locks", format!("{} is there", table.display()));
        paths.push(table);
    } else {
        report.fail(
            "locks",
            format!(
                "{} is missing: programs that write cannot keep out of each other's way",
                table.display()
            ),
            format!("{}, once all programs that write have ended", command("repair", stream)),
        );
    }
    for shard in stream.manifest().open_shards() {
        let dir = stream.path().join(shard.id().to_string());
        // The segment that is written; the others never change.
        let names = stream.system().disk.list(&dir).unwrap_or_default();
        paths.extend(names.iter().filter(|name| files::is(name, "seg")).max().map(|name| dir.join(name)));
        paths.push(dir);
    }
    match paths.iter().find(|path| !writable(path)) {
        None => report.ok("permissions", "all can be read and written"),
        Some(path) => {
            let shown = quote(&path.to_string_lossy());
            report.fail(
                "permissions",
                format!("{} cannot be read and written", path.display()),
                format!("ls -ld {shown}"),
            );
        }
    }
}

fn command(name: &str, stream: &Stream) -> String {
    format!("kshard {name} {}", quote(&stream.path().to_string_lossy()))
}

/// A split, a merge or a trim that was not finished.
fn changes(report: &mut Report, stream: &Stream) {
    match &stream.manifest().pending {
        None => report.ok("reshard", "nothing pending"),
        Some(pending) => report.warn(
            "reshard",
            format!("a split or merge of {} is not finished", shards(&pending.parents)),
            // Any change finishes it; this one is always right.
            command("trim", stream),
        ),
    }
    match stream.forgotten_shards() {
        Ok(ids) if ids.is_empty() => report.ok("expired shards", "none left on the disk"),
        Ok(ids) => {
            report.warn("expired shards", format!("{} left on the disk", ids.len()), command("trim", stream));
        }
        Err(error) => report.fail("expired shards", error.to_string(), command("check", stream)),
    }
}

fn shards(numbers: &[u32]) -> String {
    numbers.iter().map(|n| crate::record::ShardId(*n).to_string()).collect::<Vec<_>>().join(" and ")
}

/// Segments of which a sync failed.
fn failures(report: &mut Report, stream: &Stream) {
    let mut marks = Vec::new();
    for shard in &stream.manifest().shards {
        let dir = stream.path().join(shard.id().to_string());
        let names = stream.system().disk.list(&dir).unwrap_or_default();
        marks.extend(names.into_iter().filter(|name| files::is(name, "bad")).map(|name| dir.join(name)));
    }
    match marks.first() {
        None => report.ok("failed syncs", "none"),
        Some(mark) => report.warn(
            "failed syncs",
            format!("{}, as {}: the disk has lost or may lose data", marks.len(), mark.display()),
            format!("{}, and look at dmesg", command("check", stream)),
        ),
    }
}

/// A name that is younger belongs to a program at work.
const LEFT_AFTER_US: i64 = 10 * 60 * 1_000_000;

/// Temporary files of programs that were killed.
fn leftovers(report: &mut Report, stream: &Stream) {
    let now_us = stream.system().clock.now_us();
    let mut left = Vec::new();
    let mut look = |dir: &Path, ours: &dyn Fn(&str) -> bool| {
        for name in stream.system().disk.list(dir).unwrap_or_default() {
            let path = dir.join(&name);
            let age_us = fs::symlink_metadata(&path).map_or(0, |meta| now_us - meta.mtime() * 1_000_000);
            if ours(&name) && age_us > LEFT_AFTER_US {
                left.push(path);
            }
        }
    };
    let ends =
        |name: &str, ends: &[&str]| name.starts_with('.') && ends.iter().any(|end| name.ends_with(end));
    look(stream.path(), &|name| ends(name, &[".tmp"]));
    for shard in &stream.manifest().shards {
        look(&stream.path().join(shard.id().to_string()), &|name| ends(name, &[".tmp"]));
    }
    if let Some(parent) = stream.path().parent() {
        look(parent, &|name| unfinished(name).is_some());
    }
    match left.first() {
        None => report.ok("leftovers", "none"),
        Some(first) => report.warn(
            "leftovers",
            format!("{} of programs that were killed, as {}", left.len(), stream_name::show(first)),
            format!(
                "rm -r {}",
                left.iter().map(|path| quote(&path.to_string_lossy())).collect::<Vec<_>>().join(" ")
            ),
        ),
    }
}
