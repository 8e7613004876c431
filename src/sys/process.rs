//! Other processes: which one was meant, and the end of a group of them.

use std::fs;

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
    fn this_process_runs_and_its_namesake_of_another_time_does_not() {
        let this = Process::this();
        assert!(this.runs());
        assert!(!Process { start: this.start + 1, ..this }.runs());
        assert!(!Process { start: this.start + 1, ..this }.kill_group());
    }
}
