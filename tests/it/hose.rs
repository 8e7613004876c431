//! Exactly once, with real processes: whatever a run is killed at, and whatever the next one is told, every record is at
//! the destination once.

/// What a delivery has left.
pub(crate) mod lake;

/// Against servers with buckets.
mod buckets;

/// What has changed between a killed run and the next.
mod changed;

/// Killed at every place that has a name, and again while the rest is mended.
pub(crate) mod killed;

/// Killed at random while a producer writes and shards come and go.
mod random;

/// Taken apart, changed, through a pipe.
mod parts;

/// From a shell, under make, on a full disk.
mod sessions;
