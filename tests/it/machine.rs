//! Real input: what the machine itself has goes in and comes out byte for byte. What it lacks is noted.

use std::fs;
use std::path::{Path, PathBuf};

use crate::workdir::{Workdir, left_out, programs};

/// Texts and binaries that most machines have.
const FILES: [&str; 7] = [
    "/etc/services",
    "/etc/passwd",
    "/usr/share/dict/words",
    "/usr/share/common-licenses/GPL-3",
    "/bin/sh",
    "/usr/share/zoneinfo/Europe/Berlin",
    "/proc/cpuinfo",
];

/// Those that are there, with a copy of each: some change while they are read.
fn copies(wd: &Workdir) -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = FILES.iter().map(PathBuf::from).collect();
    paths.extend(["Cargo.lock", "README.md", "man/kstream.5"].map(|name| own.join(name)));
    paths.push(programs().join("kput"));
    fs::create_dir(wd.join("in")).expect("a directory");
    let mut copies = Vec::new();
    for path in paths {
        match fs::read(&path) {
            Ok(mut bytes) => {
                bytes.truncate(4 << 20);
                let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
                copies.push(wd.write(&format!("in/{name}"), bytes));
            }
            Err(error) => left_out(&format!("{}: {error}", path.display())),
        }
    }
    copies
}

#[test]
fn files_of_this_machine_come_back_byte_for_byte() {
    let wd = Workdir::new();
    let copies = copies(&wd);
    assert!(copies.len() >= 4, "a machine has files");
    for (i, path) in copies.iter().enumerate() {
        let (name, path) = (path.file_name().and_then(|name| name.to_str()).expect("a name"), path.display());
        let compression = ["none", "lz4", "zstd"][i % 3];
        // As one record, and as lines (the last of which may end without one), in one shard.
        wd.sh(&format!(
            "kshard create -q w{i} --compression {compression} --record-limit 10MiB
             kshard create -q l{i} --compression {compression} --record-limit 10MiB
             kput -q w{i} --whole {path}; kput -q l{i} {path}
             kget w{i} -o framed | tail -c +5 | cmp - {path}
             kget l{i} > back; head -c $(stat -c %s {path}) back | cmp - {path}
             kshard check -q w{i}; kshard check -q l{i}"
        ))
        .done()
        .expect_status(0);
        assert!(
            fs::metadata(wd.join("back")).expect("a file").len()
                <= fs::metadata(wd.join(format!("in/{name}"))).expect("a file").len() + 1,
            "{name}: no more than a newline is added"
        );
    }
}

/// All manual pages of the machine in one stream, keyed by their names.
#[test]
fn manual_pages_come_back() {
    let wd = Workdir::new();
    let pages = wd
        .sh("find /usr/share/man -type f -name '*.gz' -size -200k 2> /dev/null | sort | head -n 300")
        .done();
    if pages.text().lines().count() < 10 {
        return left_out("manual pages as input: this machine has none under /usr/share/man");
    }
    wd.write("pages", pages.text());
    wd.sh("kshard create -q s --record-limit 10MiB; xargs kput -q s --whole < pages
         xargs cat < pages > all
         kget s --template '{payload}' | cmp - all")
        .ok();
}
