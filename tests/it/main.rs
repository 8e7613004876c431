//! Everything that is tested from outside, in one binary: each further one would link the whole library again.

/// The pages in `man/` and the scripts in `completions/` are what the programs' own definitions render to.
mod docs;
/// Which part of the source may use which.
mod layers;
/// The commands of README.md do what it says.
// mod readme;
/// A directory for one test, and the real programs run in it.
mod workdir;
