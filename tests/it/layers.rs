//! The arrows between the parts of the source, held against the source.
//!
//! ```text
//! bin -> cli -> {hose, sql, video} -> table -> stream -> log -> sys
//!        codec at the edges; record and hash under all
//! ```
//!
//! Tests inside the source (`mod tests`, `#[cfg(test)]`, files named `tests.rs`, `sim.rs`) may use what they like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A part of the source, and which others it may name.
const MAY_USE: [(&str, &[&str]); 12] = [
    ("hash", &[]),
    ("record", &["hash"]),
    ("sys", &[]),
    ("codec", &["record", "hash"]),
    ("log", &["record", "hash", "sys"]),
    ("stream", &["log", "record", "hash", "sys"]),
    ("table", &["stream", "codec", "record", "hash"]),
    ("hose", &["table", "stream", "codec", "record", "hash", "sys"]),
    ("sql", &["table", "stream", "codec", "record", "hash", "sys"]),
    ("video", &["stream", "codec", "record", "hash", "sys"]),
    ("cli", &["hose", "sql", "video", "table", "stream", "log", "codec", "record", "hash", "sys"]),
    ("bin", &["cli", "hose", "sql", "video", "table", "stream", "log", "codec", "record", "hash", "sys"]),
];

/// A word that only some places may have, and why.
struct Reserved {
    words: &'static [&'static str],
    places: &'static [&'static str],
    why: &'static str,
}

const RESERVED: [Reserved; 4] = [
    Reserved {
        words: &["clap::", "indicatif::", "IsTerminal", "ExitCode"],
        places: &["src/cli/", "src/bin/"],
        why: "only the command line knows arguments and terminals",
    },
    Reserved {
        words: &["std::fs", "SystemTime", "rustix::", "nix::", "libc::"],
        places: &["src/sys/", "src/sys.rs", "src/cli/", "src/bin/"],
        why: "system calls and the wall clock belong to sys",
    },
    Reserved {
        words: &[
            "to_le_bytes",
            "from_le_bytes",
            "to_ne_bytes",
            "from_ne_bytes",
            "to_be_bytes",
            "from_be_bytes",
        ],
        // MD5 is defined on little-endian words: arithmetic, and nothing of it reaches a disk.
        // gzip, zip and Hadoop's Snappy have integers in their frames, and no crate writes these out of ready blocks.
        places: &["src/log/frame", "src/hash/", "src/hose/format/compress/"],
        why: "integers become disk bytes only in log::frame",
    },
    Reserved {
        words: &["async fn", "async move", ".await"],
        places: &["src/hose/", "src/sql/"],
        why: "the log is synchronous; async is where the libraries are",
    },
];

/// A file of `src/`: its path from the root of the repository, and its code without tests, comments and literals.
struct Source {
    path: String,
    code: String,
}

impl Source {
    /// `log` for `src/log/frame.rs`, `record` for `src/record.rs`.
    fn part(&self) -> &str {
        let rest = self.path.strip_prefix("src/").unwrap_or(&self.path);
        rest.split(['/', '.']).next().unwrap_or(rest)
    }

    /// Each part of ours that this file names, with the line.
    fn uses(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for prefix in ["crate::", "kpipe::"] {
            for (at, _) in self.code.match_indices(prefix) {
                let before = self.code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    continue;
                }
                let line = self.code[..at].matches('\n').count() + 1;
                found.extend(
                    first_names(&self.code[at + prefix.len()..]).into_iter().map(|name| (line, name)),
                );
            }
        }
        found
    }
}

/// The names that directly follow `crate::`: one, or those of a group in braces.
fn first_names(text: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = text.strip_prefix('{') else {
        return vec![name(text)];
    };
    let (mut depth, mut names, mut fresh) = (0, Vec::new(), true);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && depth == 0 && !c.is_whitespace() => {
                names.push(name(&group[i..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// The code with comments, literals and tests blanked, line by line where they were.
fn code(text: &str) -> String {
    without_tests(&without_literals(text))
}

fn without_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    let blank = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend(bytes.iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
    };
    while i < bytes.len() {
        let rest = &text[i..];
        let word = i > 0 && (bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_');
        let raw =
            rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !word).and_then(|after| {
                let hashes = after.bytes().take_while(|&b| b == b'#').count();
                after[hashes..].starts_with('"').then_some(hashes)
            });
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw {
            let open = rest.find('"').expect("seen above") + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if rest.starts_with('"') {
            closing(rest, b'"')
        } else if rest.starts_with("'\\") {
            closing(rest, b'\'')
        } else if rest.starts_with('\'') && rest.chars().nth(2) == Some('\'') {
            1 + rest[1..].chars().next().map_or(0, char::len_utf8) + 1
        } else {
            out.push(bytes[i]);
            i += 1;
            while i < bytes.len() && !text.is_char_boundary(i) {
                out.push(bytes[i]);
                i += 1;
            }
            continue;
        };
        blank(&mut out, &bytes[i..i + len]);
        i += len;
    }
    String::from_utf8(out).expect("whole characters were blanked")
}

/// The length of a literal up to its closing quote.
fn closing(text: &str, quote: u8) -> usize {
    let bytes = text.as_bytes();
    let mut i = 1;
    while i < bytes.len() && bytes[i] != quote {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(bytes.len())
}

/// Blanks each item that stands behind `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(at) = out.find("#[cfg(test)]") {
        let (mut depth, mut end) = (0, out.len());
        for (i, c) in out[at..].char_indices() {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth -= 1,
                _ => {}
            }
            let ends = depth == 0 && matches!(c, '}' | ';' | ',');
            if ends || depth < 0 {
                end = at + i + usize::from(depth >= 0);
                break;
            }
        }
        let blanked: String = out[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(at..end, &blanked);
    }
    out
}

fn sources() -> Vec<Source> {
    fn gather(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("src/ can be read") {
            let path = entry.expect("src/ can be read").path();
            if path.is_dir() {
                gather(&path, files);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    gather(&root.join("src"), &mut files);
    files.sort();
    let sources = files.into_iter().map(|path| {
        let text = fs::read_to_string(&path).expect("source is text");
        let path = path.strip_prefix(root).expect("it was found under the root").display().to_string();
        Source { code: code(&text), path }
    });
    sources.filter(|source| !is_test(&source.path)).collect()
}

/// Files that exist under `cfg(test)` only.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || ["/tests.rs", "/sim.rs"].iter().any(|end| path.ends_with(end))
}

#[test]
fn every_part_uses_only_what_lies_below_it() {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        if source.path == "src/lib.rs" {
            continue;
        }
        let Some((part, allowed)) = MAY_USE.iter().find(|(part, _)| *part == source.part()) else {
            wrong.insert(format!("{}: a new part: give it its place in this table", source.path));
            continue;
        };
        for (line, used) in source.uses() {
            let ours = MAY_USE.iter().any(|(name, _)| *name == used);
            if ours && used != *part && !allowed.contains(&used.as_str()) {
                wrong.insert(format!("{}:{line}: {part} may not use {used}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn words_are_used_where_they_belong() {
    let mut wrong = Vec::new();
    for source in sources() {
        for Reserved { words, places, why } in &RESERVED {
            if places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            for (i, line) in source.code.lines().enumerate() {
                for word in words.iter().filter(|word| has_word(line, word)) {
                    wrong.push(format!("{}:{}: `{word}`: {why}", source.path, i + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether `line` has `word` and not merely a longer one that ends with it.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        word.starts_with('.') || !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

/// Two of one of these are twice the code, and types of the one are none of the other. (Others may be there twice:
/// their types stay inside.)
const ONCE: [&str; 11] = [
    "arrow",
    "arrow-array",
    "arrow-schema",
    "bytes",
    "hyper",
    "object_store",
    "parquet",
    "reqwest",
    "rustls",
    "tokio",
    "zstd-sys",
];

/// The versions that a lock file has of each crate.
fn locked(lock: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut versions = BTreeMap::<&str, Vec<&str>>::new();
    for package in lock.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key))?;
            line.strip_prefix(" = \"")?.strip_suffix('"')
        };
        if let (Some(name), Some(version)) = (value("name"), value("version")) {
            versions.entry(name).or_default().push(version);
        }
    }
    versions
}

#[test]
fn what_parts_hand_to_each_other_is_of_one_version() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(path).expect("Cargo.lock is committed");
    let versions = locked(&lock);
    for name in ONCE {
        let found = versions.get(name).map_or(&[][..], Vec::as_slice);
        assert_eq!(found.len(), 1, "{name}: {found:?}\ntry: cargo tree -d");
    }
    let two = locked(
        "x\n[[package]]\nname = \"a\"\nversion = \"1\"\n\n[[package]]\nname = \"a\"\nversion = \"2\"\n",
    );
    assert_eq!(two.get("a"), Some(&vec!["1", "2"]));
}

#[test]
fn this_test_sees_what_it_should() {
    let text = r##"
        use crate::{hash::{HashKey, HashRange}, sys};
        // crate::cli
        const A: &str = "crate::cli {";
        const B: &str = r#"crate::cli " {"#;
        fn c<'a>(_: &'a str) -> char { '{' }
        fn d() -> crate::record::Record { '\'' }
        #[cfg(test)]
        use crate::video;
        #[cfg(test)]
        mod tests { use crate::bin; fn f() { std::fs::read() } }
        fn e() { crate::log::open(std::fs::read()) }
    "##;
    let source = Source { path: "src/stream/mod.rs".to_owned(), code: code(text) };
    let names: Vec<String> = source.uses().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["hash", "sys", "record", "log"]);
    assert_eq!(source.code.matches("std::fs").count(), 1);
    assert_eq!(source.code.lines().count(), text.lines().count());
    assert_eq!(source.uses().last().map(|(line, _)| *line), Some(12));
    assert_eq!(source.part(), "stream");
    assert!(has_word("clap::Arg", "clap::") && !has_word("unix::x", "nix::"));
}
