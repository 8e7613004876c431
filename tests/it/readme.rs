//! The README's own commands, run as they stand.
//!
//! Each block marked ```` ```sh ```` is one session; the sessions run one after the other in one directory, so that a
//! later one finds the streams of an earlier one. A comment `# => text` after a command says what it prints.
//! Blocks marked otherwise (`console`, `text`) are not run.

use std::fmt::Write as _;

use crate::workdir::{Workdir, same};

/// What a block runs and what it is to print: `# => text` lines after a command are its output.
struct Session {
    line: usize,
    script: String,
    expected: Option<String>,
}

fn sessions(readme: &str) -> Vec<Session> {
    let (mut sessions, mut open) = (Vec::new(), None::<Session>);
    for (i, line) in readme.lines().enumerate() {
        match &mut open {
            None if line.trim_end() == "```sh" => {
                open = Some(Session { line: i + 2, script: String::new(), expected: None });
            }
            None => {}
            Some(_) if line.trim_end() == "```" => sessions.extend(open.take()),
            Some(session) => match line.split_once("# => ") {
                Some((command, shown)) => {
                    let expected = session.expected.get_or_insert_with(String::new);
                    writeln!(expected, "{shown}").expect("a string");
                    writeln!(session.script, "{command}").expect("a string");
                }
                None => writeln!(session.script, "{line}").expect("a string"),
            },
        }
    }
    sessions
}

#[test]
fn the_readmes_commands_do_what_it_says() {
    let root = env!("CARGO_MANIFEST_DIR");
    let readme = std::fs::read_to_string(format!("{root}/README.md")).expect("there is a README");
    let sessions = sessions(&readme);
    assert!(sessions.len() >= 3, "the README shows each program at work");
    let wd = Workdir::new();
    let mut access = String::new();
    for i in 0..500 {
        let _ = writeln!(
            access,
            "192.0.2.{} - - [01/Jan/2026:00:00:00 +0000] \"GET /{i} HTTP/1.1\" 200 512",
            i % 23
        );
    }
    wd.write("access.log", access);
    for Session { line, script, expected } in sessions {
        let done = wd.sh(&script).done();
        assert!(done.status == 0, "README.md:{line}: status {}\n{script}\n{}", done.status, done.stderr);
        if let Some(expected) = expected {
            same(&format!("README.md:{line}"), "what it prints", &expected, done.text());
        }
    }
}

#[test]
fn blocks_are_told_apart() {
    let found = sessions("x\n```console\n$ no\n```\n```sh\nseq 2\n# => 1\n# => 2\n```\n```sh\ntrue\n```\n");
    let found: Vec<_> = found.iter().map(|s| (s.line, s.script.as_str(), s.expected.as_deref())).collect();
    assert_eq!(found, [(6, "seq 2\n\n\n", Some("1\n2\n")), (11, "true\n", None)]);
}
