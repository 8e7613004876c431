//! Other processes: which one was meant, and the end of a group of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Pid, Resource, Signal, getpid, getrlimit, kill_process_group};
use serde::{Deserialize, Serialize};

/// How many files this process may have open.
pub fn open_files_max() -> usize {
    let soft = getrlimit(Resource::Nofile).current;
    soft.map_or(usize::MAX, |soft| usize::try_from(soft).unwrap_or(usize::MAX))
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
    fn this_process_runs_and_its_namesake_of_another_time_does_not() {
        let this = Process::this();
        assert!(this.runs());
        assert!(!Process { start: this.start + 1, ..this }.runs());
        assert!(!Process { start: this.start + 1, ..this }.kill_group());
    }
}
