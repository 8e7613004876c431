//! Places at which a test may have the process killed.
//!
//! For tests only. With `KPIPE_FAILPOINT=NAME` in its environment when it starts, a process kills itself with `SIGKILL`
//! the first time that it comes to the place of that name; `NAME:n` means the n-th time. Without the variable a place
//! costs one comparison of a pointer. A name that no place has never kills.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// The variable that names the place.
pub const FAILPOINT: &str = "KPIPE_FAILPOINT";

struct Armed {
    name: String,
    /// Visits that are still survived.
    left: AtomicU64,
}

impl Armed {
    fn new(text: &str) -> Option<Self> {
        let (name, visit) = match text.rsplit_once(':') {
            Some((name, visit)) => (name, visit.parse().ok().filter(|visit| *visit > 0)?),
            None => (text, 1),
        };
        Some(Self { name: name.to_owned(), left: AtomicU64::new(visit - 1) })
    }

    /// Whether this visit is the one.
    fn is_due(&self, name: &str) -> bool {
        self.name == name
            && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
    }
}

/// A place that a test may choose for the end of the process.
pub fn failpoint(name: &str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| std::env::var(FAILPOINT).ok().and_then(|text| Armed::new(&text)));
    if armed.as_ref().is_some_and(|armed| armed.is_due(name)) {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_visit_that_was_asked_for() {
        let due = |text: &str| {
            let armed = Armed::new(text);
            let visit = |name: &str| armed.as_ref().is_some_and(|armed| armed.is_due(name));
            (1..=4).filter(|_| !visit("b") && visit("a.b")).collect::<Vec<_>>()
        };
        assert_eq!(due("a.b"), [1, 2, 3, 4]);
        assert_eq!(due("a.b:3"), [3, 4]);
        for never in ["a", "a.b:0", "a.b:x", ""] {
            assert!(due(never).is_empty(), "{never}");
        }
    }

    /// Comes to the places when [`a_process_is_killed`] runs it.
    #[test]
    fn a_process_comes_to_three_places() {
        for name in ["one", "two", "three"] {
            failpoint(name);
        }
    }

    #[test]
    fn a_process_is_killed() {
        let run = |name: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "sys::failpoint::tests::a_process_comes_to_three_places"]);
            command.env(FAILPOINT, name).output().unwrap().status
        };
        assert_eq!(run("two").signal(), Some(9));
        assert!(run("two:2").success() && run("four").success());
    }
}
