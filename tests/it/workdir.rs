//! A directory for one test, and the real programs run in it, so that a test reads like a session in a shell.
//!
//! ```text
//! let wd = Workdir::new();
//! wd.run("kput").args(["--create", "clicks"]).stdin("a\nb\n").ok();
//! wd.sh("kget clicks | wc -l").expect_stdout("2\n");
//! ```
//!
//! Everything run here has the built programs first on its PATH and the directory as its current one; `KPIPE_ROOT` and
//! `HOME` point into it, so that a test never meets the streams of the person who runs it.

#![allow(dead_code, reason = "a vocabulary for sessions: not every word is in use at every time")]

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The longest a program may take before the test calls it stuck.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where cargo put the programs.
pub(crate) fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_kput")).parent().expect("a program lies in a directory")
}

/// Says what a test leaves out, and why, where somebody sees it: cargo shows nothing of a test that passes. `make test`
/// prints these notes at its end.
pub(crate) fn left_out(what: &str) {
    eprintln!("left out: {what}");
    let target = programs().parent().expect("the programs lie in the target directory");
    let notes = std::env::var_os("KPIPE_TEST_NOTES").map_or_else(|| target.join("test-notes"), PathBuf::from);
    let file = fs::File::options().create(true).append(true).open(notes);
    // One write, for other tests write there at the same time.
    file.and_then(|mut file| file.write_all(format!("{what}\n").as_bytes()))
        .expect("the notes can be written");
}

/// A directory that is gone when the test ends.
pub(crate) struct Workdir {
    dir: tempfile::TempDir,
}

impl Workdir {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, and the directories it lies in.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("a directory");
        fs::write(&path, text).expect("a file");
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        String::from_utf8(bytes).expect("text")
    }

    /// One of the programs, or any other on PATH.
    pub(crate) fn run(&self, program: &str) -> Tool {
        let mut path = OsString::from(programs());
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        // A shell in the background, or nohup, ignores signals, and what it starts inherits that: here no test shall
        // depend on how the tests were started.
        let mut command = Command::new("env");
        command.arg("--default-signal").arg(match programs().join(program) {
            built if built.is_file() => built.into_os_string(),
            _ => program.into(),
        });
        command.current_dir(self.path()).env("PATH", path).env("HOME", self.path());
        command.env("LC_ALL", "C.UTF-8").env("COLUMNS", "100").env_remove("KPIPE_ROOT");
        Tool { command, said: program.to_owned(), stdin: Vec::new() }
    }

    /// A script, as typed into a shell: the first failing command ends it.
    pub(crate) fn sh(&self, script: &str) -> Tool {
        let mut tool = self.run("sh").args(["-euc", script]);
        script.clone_into(&mut tool.said);
        tool
    }
}

/// A program about to be run.
pub(crate) struct Tool {
    command: Command,
    /// What a failure is reported for.
    said: String,
    stdin: Vec<u8>,
}

impl Tool {
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.said.push(' ');
        self.said.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub(crate) fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = bytes.as_ref().to_vec();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn in_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Starts it with its standard input held open; what was given to [`Tool::stdin`] is written first.
    pub(crate) fn spawn(mut self) -> Running {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.said));
        // A program that stops early closes its input: no failure of the test's.
        let _ = child.stdin.as_mut().expect("piped").write_all(&self.stdin);
        Running { child, said: self.said }
    }

    /// Starts it reading what `source` writes, as `source | self`.
    pub(crate) fn spawn_after(mut self, source: &mut Running) -> Running {
        let stdout = source.child.stdout.take().expect("its output was not yet taken");
        self.command.stdin(stdout).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.said));
        Running { child, said: self.said }
    }

    /// Runs it to its end.
    pub(crate) fn done(mut self) -> Done {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.said));
        let (mut pipe, bytes) = (child.stdin.take().expect("piped"), self.stdin);
        let feeder = std::thread::spawn(move || pipe.write_all(&bytes));
        let done = Running { child, said: self.said }.wait();
        let _ = feeder.join().expect("the feeding thread");
        done
    }

    /// Runs it; it must exit 0.
    pub(crate) fn ok(self) -> Done {
        self.done().expect_status(0)
    }

    /// Runs it; it must fail with status 2, one line `program: ...` and at most one `try: ...` on standard error, and
    /// nothing on standard output.
    pub(crate) fn fails(self) -> Done {
        let done = self.done().expect_status(2).expect_stdout("");
        let lines: Vec<&str> = done.stderr.lines().collect();
        let shape =
            matches!(lines[..], [_] | [_, _]) && lines[1..].iter().all(|line| line.starts_with("try: "));
        assert!(shape, "$ {}\nan error is one line and one to try, not:\n{}", done.said, done.stderr);
        done
    }

    pub(crate) fn expect_stdout(self, text: &str) -> Done {
        self.ok().expect_stdout(text)
    }
}

/// A program that runs in the background. It is killed when the test is over.
pub(crate) struct Running {
    child: Child,
    said: String,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Types more.
    pub(crate) fn type_in(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.child.stdin.as_mut().expect("its input is open");
        stdin.write_all(bytes.as_ref()).expect("it reads");
        stdin.flush().expect("it reads");
    }

    /// Its input, for somebody else to write to.
    pub(crate) fn take_input(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("its input is open")
    }

    /// Its output, for somebody else to read from.
    pub(crate) fn take_output(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("its output was not yet taken")
    }

    /// Ends its input.
    pub(crate) fn end_input(&mut self) {
        self.child.stdin = None;
    }

    /// Closes what it writes to, as a reader that has seen enough does.
    pub(crate) fn close_output(&mut self) {
        self.child.stdout = None;
    }

    /// Reads from its output until `enough` is in it.
    pub(crate) fn read_until(&mut self, enough: &str) -> String {
        let (begun, mut seen) = (Instant::now(), Vec::new());
        let stdout = self.child.stdout.as_mut().expect("its output is open");
        let mut byte = [0];
        while !seen.ends_with(enough.as_bytes()) {
            assert!(begun.elapsed() < PATIENCE, "$ {}\nnever wrote {enough:?}", self.said);
            let len = stdout.read(&mut byte).expect("its output");
            assert!(len == 1, "$ {}\nended before {enough:?}: {}", self.said, String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        String::from_utf8(seen).expect("text")
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> Done {
        self.child.kill().expect("it can be killed");
        self.wait()
    }

    /// Sends `INT`, `TERM`, ...
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().expect("kill");
        assert!(status.success(), "$ {}\ncannot be sent SIG{name}", self.said);
    }

    /// Waits for its end as a reader that takes nothing more, yet holds the pipe open.
    pub(crate) fn wait_unread(mut self) -> Done {
        let unread = self.child.stdout.take();
        let done = self.wait();
        drop(unread);
        done
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Done {
        let gather = |pipe: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = pipe {
                    pipe.read_to_end(&mut bytes).expect("a pipe");
                }
                bytes
            })
        };
        self.child.stdin = None;
        let stdout = gather(self.child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
        let stderr = gather(self.child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("$ {}\nis still running after {PATIENCE:?}", self.said);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let output = Output {
            status,
            stdout: stdout.join().expect("the reading thread"),
            stderr: stderr.join().expect("the reading thread"),
        };
        Done {
            said: std::mem::take(&mut self.said),
            status: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a program ended, and what it wrote.
pub(crate) struct Done {
    said: String,
    /// As a shell has it: 128 and the number of the signal that killed it.
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    /// Standard output as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("standard output is text")
    }

    pub(crate) fn lines(&self) -> Vec<&str> {
        self.text().lines().collect()
    }

    #[track_caller]
    pub(crate) fn expect_status(self, status: i32) -> Self {
        assert!(
            self.status == status,
            "$ {}\nended with status {}, expected {status}\nstdout: {}\nstderr: {}",
            self.said,
            self.status,
            String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(2000)]),
            self.stderr
        );
        self
    }

    #[track_caller]
    pub(crate) fn expect_stdout(self, text: &str) -> Self {
        same(&self.said, "standard output", text, &String::from_utf8_lossy(&self.stdout));
        self
    }

    #[track_caller]
    pub(crate) fn expect_stderr(self, text: &str) -> Self {
        same(&self.said, "standard error", text, &self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn expect_stderr_has(self, part: &str) -> Self {
        assert!(
            self.stderr.contains(part),
            "$ {}\nstandard error lacks {part:?}:\n{}",
            self.said,
            self.stderr
        );
        self
    }
}

/// Compares, and shows the first lines that differ beside each other.
#[track_caller]
pub(crate) fn same(said: &str, what: &str, expected: &str, found: &str) {
    if expected == found {
        return;
    }
    let (left, right): (Vec<&str>, Vec<&str>) = (expected.split('\n').collect(), found.split('\n').collect());
    let first = (0..left.len().max(right.len())).find(|&i| left.get(i) != right.get(i)).unwrap_or(0);
    let mut diff = String::new();
    for i in first.saturating_sub(2)..(first + 8).min(left.len().max(right.len())) {
        let (left, right) = (left.get(i), right.get(i));
        if left == right {
            let _ = writeln!(diff, "  {:4}   {}", i + 1, left.unwrap_or(&""));
        } else {
            diff.extend(left.map(|line| format!("  {:4} - {line}\n", i + 1)));
            diff.extend(right.map(|line| format!("  {:4} + {line}\n", i + 1)));
        }
    }
    panic!("$ {said}\n{what} differs from line {} on (- expected, + found):\n{diff}", first + 1);
}

#[test]
fn a_session_in_a_shell() {
    let wd = Workdir::new();
    wd.write("in/a.txt", "b\na\n");
    wd.sh("sort in/a.txt | tee sorted").expect_stdout("a\nb\n").expect_stderr("");
    assert_eq!(wd.read("sorted"), "a\nb\n");
    wd.run("cat").stdin("x").expect_stdout("x");
    wd.sh("exit 3").done().expect_status(3);
    wd.sh("command -v kput").expect_stdout(&format!("{}\n", programs().join("kput").display()));
}

#[test]
fn programs_in_the_background() {
    let wd = Workdir::new();
    let mut cat = wd.run("cat").stdin("one\n").spawn();
    assert_eq!(cat.read_until("\n"), "one\n");
    cat.type_in("two\n");
    let upper = wd.run("tr").args(["a-z", "A-Z"]).spawn_after(&mut cat);
    cat.end_input();
    assert_eq!(upper.wait().expect_status(0).text(), "TWO\n");
    wd.run("sleep").arg("60").spawn().kill().expect_status(137);
    let sleep = wd.run("sleep").arg("60").spawn();
    sleep.signal("TERM");
    sleep.wait().expect_status(143);
}

#[test]
#[should_panic(expected = "differs from line 2 on")]
fn a_difference_is_shown() {
    same("x", "text", "a\nb\n", "a\nc\n");
}
