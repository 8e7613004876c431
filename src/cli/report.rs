//! How a program ends: its exit status, and the one line that says why.
//!
//! | status | when |
//! |---|---|
//! | 0 | done; an empty result too |
//! | 1 | finished, but records were refused (or nothing was found, with `--fail-empty`) |
//! | 2 | failed, or wrong usage |
//! | 129, 130, 143 | SIGHUP, SIGINT, SIGTERM: the batch in hand was finished first |
//!
//! An error is printed on one line, outermost first, and where a next command helps it follows on a second line that
//! begins with `try: `. A reader that closed our standard output is a normal end.

use std::error::Error;
use std::fmt;
use std::fmt::Write as _;
use std::io::Write as _;

use super::{Outcome, output, signal, stream_name};

/// The exit status of failure and of wrong usage.
pub const STATUS_FAILED: u8 = 2;

/// An error that knows what to do next. It stands in the chain above the error it belongs to and is not printed as a
/// part of it.
#[derive(Debug)]
struct Hinted {
    hint: String,
    error: anyhow::Error,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "try: {}", self.hint)
    }
}

impl Error for Hinted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.error.as_ref())
    }
}

/// Lets an error carry the next command: `open(path).hint("kshard list")?`.
pub trait HintExt<T> {
    /// Adds what to try.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
    /// Adds what to try where it costs something to find out.
    fn with_hint(self, hint: impl FnOnce() -> String) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> HintExt<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.with_hint(|| hint.into())
    }

    fn with_hint(self, hint: impl FnOnce() -> String) -> anyhow::Result<T> {
        self.map_err(|error| Hinted { hint: hint(), error: error.into() }.into())
    }
}

/// The error on one line, outermost first, fit for a terminal: `stream clicks: shard 3: no space left`.
pub fn line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().filter(|cause| !cause.is::<Hinted>()) {
        let message = printable(&cause.to_string());
        // Some errors print their source as a part of themselves; said once is enough.
        if message.is_empty() || text.ends_with(&message) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&message);
    }
    text
}

/// What helps against errors of the library, which knows nothing of commands: each looks at one error of the chain.
const ADVICE: &[fn(&(dyn Error + 'static)) -> Option<String>] = &[of_stream, of_log];

fn of_stream(error: &(dyn Error + 'static)) -> Option<String> {
    use crate::stream::Error;
    let on = |command: &str, path: &std::path::Path| {
        format!("kshard {command} {}", stream_name::quote(&path.to_string_lossy()))
    };
    match error.downcast_ref()? {
        Error::NotFound { path } => hint(&stream_name::unknown(path)),
        Error::Exists { path } => Some(on("describe", path)),
        Error::Manifest { path, .. } => of_file(path),
        Error::NoLocks { path } => path.parent().map(|stream| on("repair", stream)),
        Error::Newer { .. } => Some(NEWER.to_owned()),
        Error::NetworkFileSystem { .. } => {
            Some(format!("a local disk, or {}=1 if only this machine uses it", crate::sys::fs::ALLOW_NETWORK))
        }
        Error::NoShard(_) => Some("kshard list STREAM".to_owned()),
        Error::ShardClosed(_) => Some("kshard list STREAM --filter at-latest".to_owned()),
        Error::InUse(_) => Some("kshard delete --force STREAM".to_owned()),
        _ => None,
    }
}

/// What helps where a file of a stream is damaged: a manifest is made anew from what it is about, a consumer's places
/// cannot be.
fn of_file(path: &std::path::Path) -> Option<String> {
    let quoted = |path: &std::path::Path| stream_name::quote(&path.to_string_lossy());
    let (dir, name) = (path.parent()?, path.file_name()?);
    if name == crate::stream::MANIFEST_NAME {
        return Some(format!("kshard repair {}", quoted(dir)));
    }
    let consumers = dir.parent()?;
    let stream = consumers.parent()?;
    (name == "state.json" && consumers.file_name()? == crate::stream::CONSUMERS_NAME).then(|| {
        let consumer = quoted(std::path::Path::new(dir.file_name().unwrap_or_default()));
        format!("kshard consumers {} {consumer} --reset trim-horizon", quoted(stream))
    })
}

fn of_log(error: &(dyn Error + 'static)) -> Option<String> {
    use crate::log::Error;
    match error.downcast_ref()? {
        Error::DiskFull { .. } => Some("kshard trim STREAM".to_owned()),
        Error::Damaged { .. } | Error::Foreign { .. } | Error::Empty { .. } => {
            Some("kshard check STREAM".to_owned())
        }
        // A directory or a segment of the stream is not there.
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Some("kshard check STREAM".to_owned())
        }
        Error::Condemned { .. } => Some("kshard doctor STREAM".to_owned()),
        Error::Newer { .. } => Some(NEWER.to_owned()),
        Error::Closed(_) => Some("kshard describe STREAM".to_owned()),
        Error::Fenced { .. } => Some("one run at a time for each --producer".to_owned()),
        _ => None,
    }
}

const NEWER: &str = "a newer kpipe; nothing was touched";

/// What to try next: the outermost hint in the chain, else what `ADVICE` knows.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    let given =
        error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()).map(|hinted| hinted.hint.clone());
    let known = || error.chain().find_map(|cause| ADVICE.iter().find_map(|advice| advice(cause)));
    let named = |hint: String| match error.downcast_ref::<stream_name::About>() {
        Some(stream) => hint.replace("STREAM", &stream.argument()),
        None => hint,
    };
    given.or_else(|| known().map(named)).map(|hint| printable(&hint))
}

/// `text` with everything escaped that a terminal would act on rather than show: control characters, and those that
/// change the direction of writing. It stays on one line.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Prints `program: text` and the hint on standard error. Where that is closed there is nobody to tell.
pub fn say(program: &str, text: &str, hint: Option<&str>) {
    let mut lines = format!("{program}: {text}\n");
    if let Some(hint) = hint {
        let _ = writeln!(lines, "try: {hint}");
    }
    // One write: lines of two programs in a pipeline do not mix.
    let _ = std::io::stderr().write_all(lines.as_bytes());
}

/// The exit status for how a run ended, its error printed.
pub(super) fn end(program: &str, result: anyhow::Result<Outcome>) -> u8 {
    let interrupted = signal::received().map(signal::Signal::status);
    match result {
        Ok(outcome) => interrupted.unwrap_or(match outcome {
            Outcome::Done => 0,
            Outcome::Empty | Outcome::Refused => 1,
        }),
        Err(error) if error.chain().any(output::is_closed) => interrupted.unwrap_or(0),
        Err(error) => match interrupted {
            Some(status) if error.chain().any(signal::is_interruption) => status,
            _ => {
                say(program, &line(&error), hint(&error).as_deref());
                STATUS_FAILED
            }
        },
    }
}

/// The exit status for arguments that clap did not take. `--help` and `--version` end here too, with 0.
/// `called` is the program with its subcommand: not every such error says which it was.
pub(super) fn usage(program: &str, called: &str, error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        // Closed before the help was read: a normal end.
        let _ = error.print();
        return 0;
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return STATUS_FAILED;
    }
    let (text, command) = usage_line(called, &error.render().to_string());
    say(program, &text, Some(&format!("{command} --help")));
    STATUS_FAILED
}

/// clap's paragraphs as one line, and the (sub)command whose help says more.
fn usage_line(called: &str, rendered: &str) -> (String, String) {
    let (mut message, mut tips) = (String::new(), String::new());
    let mut command = called.to_owned();
    // A usage has a line for each form of the call.
    let mut in_usage = false;
    for line in rendered.lines().map(str::trim) {
        in_usage &= !line.is_empty();
        if in_usage {
            continue;
        }
        let line = line.strip_prefix("error: ").unwrap_or(line);
        if let Some(usage) = line.strip_prefix("Usage: ") {
            let words = usage.split(' ').take_while(|word| !word.starts_with(['[', '<', '-']));
            command = words.collect::<Vec<_>>().join(" ");
            in_usage = true;
        } else if let Some(tip) = line.strip_prefix("tip: ") {
            let _ = write!(tips, " ({})", printable(tip));
        } else if !line.is_empty() && !line.starts_with("For more information") {
            if !message.is_empty() {
                message.push(' ');
            }
            message.push_str(&printable(line));
        }
    }
    (message + &tips, if command.is_empty() { called.to_owned() } else { command })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};
    use std::io;

    #[test]
    fn one_line_outermost_first_with_the_hint_apart() {
        let error: anyhow::Result<()> = Err(io::Error::from(io::ErrorKind::NotFound))
            .context("segment 7")
            .hint("kshard check clicks")
            .context("stream clicks (/srv/clicks)");
        let error = error.unwrap_err();
        assert_eq!(line(&error), "stream clicks (/srv/clicks): segment 7: entity not found");
        assert_eq!(hint(&error).as_deref(), Some("kshard check clicks"));
        assert!(error.chain().any(<dyn Error>::is::<io::Error>), "what lies under a hint can still be found");
    }

    #[test]
    fn the_outermost_hint_is_meant() {
        let error = Err::<(), _>(anyhow!("x")).hint("inner").hint("outer").unwrap_err();
        assert_eq!((line(&error).as_str(), hint(&error).as_deref()), ("x", Some("outer")));
    }

    #[test]
    fn a_source_that_was_printed_is_not_printed_again() {
        let error = anyhow!("disk full").context("append: disk full").context("shard 3");
        assert_eq!(line(&error), "shard 3: append: disk full");
    }

    #[test]
    fn what_the_library_reports_has_a_next_command() {
        use crate::log::Error as Log;
        use crate::stream::Error as Stream;
        let path = || std::path::PathBuf::from("/srv/clicks");
        let tried = |error: Stream| hint(&anyhow::Error::new(error).context(stream_name::context(&path())));
        let in_shard = |source| tried(Stream::Shard { shard: crate::record::ShardId(1), source });
        assert_eq!(tried(Stream::Exists { path: path() }).as_deref(), Some("kshard describe /srv/clicks"));
        assert_eq!(tried(Stream::NotFound { path: path() }).as_deref(), Some("kshard create /srv/clicks"));
        let full = in_shard(Log::DiskFull { path: path(), bytes: 1 });
        assert_eq!(full.as_deref(), Some("kshard trim /srv/clicks"));
        let condemned = in_shard(Log::Condemned { path: path(), source: None });
        assert_eq!(condemned.as_deref(), Some("kshard doctor /srv/clicks"));
        let damaged = in_shard(Log::Damaged { path: path(), offset: 1, reason: "x" });
        assert_eq!(damaged.as_deref(), Some("kshard check /srv/clicks"));
        assert_eq!(tried(Stream::Invalid("x".into())), None);
    }

    #[test]
    fn names_do_not_reach_the_terminal_as_commands() {
        let error = anyhow!("no stream \u{1b}]0;pwned\u{7}\r\n\u{9b}31m \u{202e}gpj");
        let line = line(&error);
        assert_eq!(line, r"no stream \u{1b}]0;pwned\u{7}\r\n\u{9b}31m \u{202e}gpj");
        assert_eq!(printable("größe 好"), "größe 好");
    }

    #[test]
    fn statuses() {
        assert_eq!(end("kget", Ok(Outcome::Done)), 0);
        assert_eq!(end("kget", Ok(Outcome::Empty)), 1);
        assert_eq!(end("kget", Ok(Outcome::Refused)), 1);
        assert_eq!(end("kget", Err(anyhow::Error::new(output::closed()).context("standard output"))), 0);
        // A pipe of ours that broke elsewhere (a child's, a helper's) is no normal end.
        assert_eq!(end("kget", Err(io::Error::from(io::ErrorKind::BrokenPipe).into())), 2);
    }

    #[test]
    fn usage_errors_take_one_line() {
        let command = clap::Command::new("kshard").subcommand_required(true).subcommand(
            clap::Command::new("split")
                .arg(clap::Arg::new("stream").required(true).value_name("STREAM"))
                .arg(clap::Arg::new("from").long("from").value_parser(super::super::value::duration)),
        );
        let said = |args: &[&str]| {
            let error = command.clone().try_get_matches_from(args).unwrap_err();
            usage_line("kshard", &error.render().to_string())
        };
        let (text, command_name) = said(&["kshard", "split", "--form", "1", "s"]);
        assert_eq!(text, "unexpected argument '--form' found (a similar argument exists: '--from')");
        assert_eq!(command_name, "kshard split");
        let (text, command_name) = said(&["kshard", "split"]);
        assert_eq!(text, "the following required arguments were not provided: <STREAM>");
        assert_eq!(command_name, "kshard split");
        let (text, _) = said(&["kshard", "split", "s", "--from", "\u{1b}[1m5"]);
        assert!(text.starts_with("invalid value '") && !text.contains('\u{1b}'), "{text}");
        let forms = clap::Command::new("khose").override_usage("khose A\n       khose B");
        let error = forms.try_get_matches_from(["khose", "--x"]).unwrap_err();
        let (text, command_name) = usage_line("khose", &error.render().to_string());
        assert_eq!((text.as_str(), command_name.as_str()), ("unexpected argument '--x' found", "khose A"));
        let (text, _) = said(&["kshard", "spilt"]);
        assert!(text.starts_with("unrecognized subcommand 'spilt'"), "{text}");
    }
}
