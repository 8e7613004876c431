//! Other processes: commands of the user's that are run, which process was meant, and the end of a group of them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getpid, getppid, getrlimit, kill_process_group, pidfd_open,
    set_parent_process_death_signal, setrlimit,
};
use serde::{Deserialize, Serialize};

/// How many files this process may have open.
pub fn open_files_max() -> usize {
    let soft = getrlimit(Resource::Nofile).current;
    soft.map_or(usize::MAX, |soft| usize::try_from(soft).unwrap_or(usize::MAX))
}

/// Lets this process have as many files open as it is permitted to, within reason. The lower limit, which a process begins
/// with, is for programs that wait with `select`.
pub fn open_more_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES_WANTED, |maximum| maximum.min(FILES_WANTED));
    if limit.current.is_some_and(|current| current < wanted) {
        // It is well as it is where that fails.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

/// Commands that this process starts inherit the limit, and some of them close every file that it allows, one by one.
const FILES_WANTED: u64 = 1 << 16;

/// `sh -c COMMAND` in a process group of its own: what a terminal sends to the foreground (ctrl-C) does not reach it, and
/// it can be ended with all that it has started.
pub fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).process_group(0);
    shell
}

/// Lets the program be killed when the thread that starts it ends, and so when this process does, however it does.
///
/// What the program has started in its turn is not reached: it finds its pipes closed.
pub fn dies_with_this_thread(command: &mut Command) {
    let parent = getpid();
    let arm = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A parent that was gone before is not noticed any more.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(Errno::SRCH)) }
    };
    #[expect(unsafe_code, reason = "there is no other way to run something between fork and exec")]
    // SAFETY: two system calls and a comparison; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(arm);
    }
}

/// Kills the group that a child leads. The child must not have been waited for: its number may be another's by then.
pub fn kill_group_of(child: &Child) {
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}

/// Waits until a child has ended, and no longer than until `deadline`; whether it has. It is not waited for in the sense
/// of the system: its number stays its own.
pub fn ends_by(child: &Child, deadline: Instant) -> io::Result<bool> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let most = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match rustix::event::poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&most)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// How a command ended, in words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// A process, told from a later one with the same number by when it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it was started, in ticks since the machine was; 0 where that cannot be told.
    pub start: u64,
}

impl Process {
    /// This process.
    pub fn this() -> Self {
        Self::of(getpid().as_raw_nonzero().get() as u32)
    }

    /// The process that has this number now.
    pub fn of(pid: u32) -> Self {
        // The second field is the program's name in parentheses and may hold anything; the start is the 20th behind it.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let start = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok());
        Self { pid, start: start.unwrap_or(0) }
    }

    /// Whether it still runs, as far as can be told.
    pub fn runs(self) -> bool {
        self.start != 0 && Self::of(self.pid).start == self.start
    }

    /// The processes that were stopped (`SIGSTOP`, ctrl-Z) with this file open, as far as may be looked.
    pub fn stopped_with(path: &Path) -> Vec<u32> {
        let Ok(wanted) = fs::metadata(path) else { return Vec::new() };
        let same = |link: &Path| {
            fs::metadata(link).is_ok_and(|it| (it.dev(), it.ino()) == (wanted.dev(), wanted.ino()))
        };
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
                matches!(state, Some('T' | 't'))
            })
            .filter(|pid| {
                let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
                open.into_iter().any(|entry| same(&entry.path()))
            })
            .collect()
    }

    /// Kills the group that it leads, if it still runs. Whether that was permitted.
    pub fn kill_group(self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid as i32).filter(|_| self.runs()) else { return false };
        kill_process_group(pid, Signal::KILL).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_is_found_by_what_it_has_open() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "kill -STOP $$"])
            .stdin(file.reopen().unwrap())
            .spawn()
            .unwrap();
        let begun = std::time::Instant::now();
        let mut found = Process::stopped_with(file.path());
        while found.is_empty() && begun.elapsed().as_secs() < 50 {
            found = Process::stopped_with(file.path());
        }
        assert_eq!(found, [child.id()]);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_command_is_waited_for_and_described() {
        let soon = || Instant::now() + std::time::Duration::from_secs(50);
        let mut child = shell("exit 3").spawn().unwrap();
        assert!(ends_by(&child, soon()).unwrap());
        assert_eq!(describe(child.wait().unwrap()), "exit status 3");
        let mut child = shell("sleep 1000 & wait").spawn().unwrap();
        assert!(!ends_by(&child, Instant::now()).unwrap());
        kill_group_of(&child);
        assert!(ends_by(&child, soon()).unwrap());
        assert_eq!(describe(child.wait().unwrap()), "killed by signal 9");
    }

    #[test]
    fn a_command_dies_with_the_thread_that_started_it() {
        let spawned = std::thread::spawn(|| {
            let mut command = shell("exec sleep 1000");
            dies_with_this_thread(&mut command);
            command.spawn().unwrap()
        });
        let mut child = spawned.join().unwrap();
        assert!(ends_by(&child, Instant::now() + std::time::Duration::from_secs(50)).unwrap());
        assert_eq!(describe(child.wait().unwrap()), "killed by signal 9");
    }

    #[test]
    fn this_process_runs_and_its_namesake_of_another_time_does_not() {
        let this = Process::this();
        assert!(this.runs());
        assert!(!Process { start: this.start + 1, ..this }.runs());
        assert!(!Process { start: this.start + 1, ..this }.kill_group());
    }
}
