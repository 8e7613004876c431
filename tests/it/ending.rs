//! How a program ends, whatever it does: its exit status and its last words when a signal comes, when its reader goes
//! away or takes nothing, and when it was called wrongly.
//!
//! The program is this test binary itself: started with `ROLE` set, the test [`actor`] becomes one and exits.

use std::ffi::OsString;
use std::io::Write;
use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser};
use kpipe::cli::input::{BlockReader, Filled};
use kpipe::cli::output::Stdout;
use kpipe::cli::report::HintExt;
use kpipe::cli::{Outcome, docs, signal, status};

use crate::workdir::{Tool, Workdir};

const ROLE: &str = "KPIPE_TEST_ROLE";

/// Play a part
#[derive(Parser)]
struct Args {
    role: String,
    #[arg(long, value_parser = kpipe::cli::value::duration)]
    wait: Option<Duration>,
}

const PAGE: docs::Page = docs::Page {
    name: "kx",
    arguments: Args::command,
    examples: &[docs::Example { does: "Fail", command: "kx fail" }],
    sections: &[],
    see_also: &[],
};

#[expect(clippy::needless_pass_by_value, reason = "what every program's run looks like")]
fn play(args: Args) -> anyhow::Result<Outcome> {
    assert!(args.wait.is_none());
    match args.role.as_str() {
        // Reads until asked to finish, and says what it had by then.
        "reader" => {
            let shutdown = signal::install()?;
            let mut input = BlockReader::stdin(1 << 20, Some(shutdown))?;
            let mut out = Stdout::open(true, Some(shutdown))?;
            out.write_all(b"\nready\n")?;
            loop {
                match input.fill(None)? {
                    Filled::Interrupted | Filled::Eof => break,
                    _ => {}
                }
            }
            writeln!(out, "had {} bytes", input.block().len())?;
            out.flush()?;
            Ok(Outcome::Done)
        }
        // Writes for ever.
        "writer" => {
            let mut out = Stdout::open(false, Some(signal::install()?))?;
            out.write_all(b"\nready\n")?;
            loop {
                out.write_all(&[b'x'; 10_000])?;
            }
        }
        // Never looks whether it should finish.
        "deaf" => {
            let mut out = Stdout::open(true, Some(signal::install()?))?;
            out.write_all(b"\nready\n")?;
            std::thread::sleep(Duration::from_mins(1));
            Ok(Outcome::Done)
        }
        "refuse" => Ok(Outcome::Refused),
        "fail" => Err(anyhow::anyhow!("shard 3\nis \u{1b}[31mgone").context("stream clicks"))
            .hint("kshard check clicks"),
        other => anyhow::bail!("no part named {other}"),
    }
}

#[test]
fn actor() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let args = std::iter::once("kx").chain(role.split_whitespace()).map(OsString::from);
    std::process::exit(status(&PAGE, args, play).into());
}

fn act(wd: &Workdir, role: &str) -> Tool {
    let this = std::env::current_exe().expect("the test binary");
    let tool = wd.run(&this.display().to_string()).args(["--exact", "ending::actor", "--nocapture"]);
    tool.env(ROLE, role)
}

#[test]
fn the_first_signal_finishes_the_work_in_hand() {
    let wd = Workdir::new();
    for (name, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut reader = act(&wd, "reader").stdin("12345").spawn();
        reader.read_until("\nready\n");
        // What it waits for is still open: only the signal can wake it.
        std::thread::sleep(Duration::from_millis(50));
        reader.signal(name);
        assert_eq!(reader.read_until("bytes\n"), "had 5 bytes\n");
        reader.wait().expect_status(status).expect_stderr("");
    }
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let wd = Workdir::new();
    let mut deaf = act(&wd, "deaf").spawn();
    deaf.read_until("\nready\n");
    deaf.signal("INT");
    std::thread::sleep(Duration::from_millis(50));
    deaf.signal("TERM");
    deaf.wait().expect_status(143).expect_stderr("");
}

#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let wd = Workdir::new();
    let this = std::env::current_exe().expect("the test binary").display().to_string();
    let script = format!("trap '' INT; exec '{this}' --exact ending::actor --nocapture");
    let mut reader = wd.sh(&script).env(ROLE, "reader").spawn();
    reader.read_until("\nready\n");
    reader.signal("INT");
    std::thread::sleep(Duration::from_millis(50));
    reader.signal("TERM");
    // Before its input is ended, which would be another reason to finish.
    assert_eq!(reader.read_until("bytes\n"), "had 0 bytes\n");
    reader.wait().expect_status(143);
}

#[test]
fn a_reader_that_goes_away_is_a_normal_end() {
    let wd = Workdir::new();
    let mut writer = act(&wd, "writer").spawn();
    writer.read_until("\nready\n");
    writer.close_output();
    writer.wait().expect_status(0).expect_stderr("");
}

#[test]
fn a_reader_that_takes_nothing_cannot_keep_it_alive() {
    let wd = Workdir::new();
    let mut writer = act(&wd, "writer").spawn();
    writer.read_until("\nready\n");
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    writer.signal("TERM");
    // Its output is held open here and not read until it has ended.
    writer.wait_unread().expect_status(143).expect_stderr("");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn statuses_and_last_words() {
    let wd = Workdir::new();
    act(&wd, "refuse").done().expect_status(1).expect_stderr("");
    let said = "kx: stream clicks: shard 3\\nis \\u{1b}[31mgone\ntry: kshard check clicks\n";
    act(&wd, "fail").done().expect_status(2).expect_stderr(said);
    let said =
        "kx: unexpected argument '--wiat' found (a similar argument exists: '--wait')\ntry: kx --help\n";
    act(&wd, "fail --wiat 1").done().expect_status(2).expect_stderr(said);
    act(&wd, "fail --wait 5").done().expect_status(2).expect_stderr(
        "kx: invalid value '5' for '--wait <WAIT>': `5` has no unit: give `5s`, `5m`, `5h` or `5d`\ntry: kx --help\n",
    );
    let help = act(&wd, "--help").done().expect_status(0).expect_stderr("");
    assert!(
        help.text().contains("Play a part\n\nExamples:\n  # Fail\n  kx fail\n\nUsage: kx "),
        "{}",
        help.text()
    );
    let version = act(&wd, "--version").done().expect_status(0);
    assert!(version.text().contains(&format!("kx {}\n", env!("CARGO_PKG_VERSION"))));
}
