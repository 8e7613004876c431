//! Places where a test kills the program.

/// Ends the process as `kill -9` would, where the environment asks for it.
pub fn failpoint(_name: &str) {}
