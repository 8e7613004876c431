//! Everything that is tested from outside, in one binary: each further one would link the whole library again.

/// Damage is found, named and mended.
mod check;
/// Named consumers: checkpoints, leases, commands, bookmarks.
mod consumer;
/// What is taken apart: stored inputs, cut and changed.
mod corpus;
/// The pages in `man/` and the scripts in `completions/` are what the programs' own definitions render to.
mod docs;
/// How a program ends: signals, closed pipes, a stuck reader, wrong usage.
mod ending;
/// Streams written through the library.
mod fixture;
/// kget follows a stream through rolls, splits and merges.
mod follow;
/// The page about the format, and the code.
mod format;
/// kget reads a stream: positions, ends, formats.
mod get;
/// Exactly once, with real processes.
#[cfg(feature = "hose")]
mod hose;
/// What khose does beside delivering.
#[cfg(feature = "hose")]
mod hose_modes;
/// Batches into PostgreSQL, each once.
#[cfg(feature = "hose")]
mod hose_postgres;
/// What khose wrote, read by others.
#[cfg(feature = "hose")]
mod hose_readers;
/// Batches into a stand-in for Redshift.
#[cfg(feature = "hose")]
mod hose_redshift;
/// Services: HTTP endpoints, OpenSearch, Splunk.
#[cfg(feature = "hose")]
mod hose_services;
/// khose from a shell and from cron.
#[cfg(feature = "hose")]
mod hose_session;
/// Places that hold objects, against real servers.
#[cfg(feature = "hose")]
mod hose_store;
/// khose and the person who calls it.
#[cfg(feature = "hose")]
mod hose_usage;
/// Which part of the source may use which.
mod layers;
/// Real files of the machine.
mod machine;
/// A proxy that cuts connections to PostgreSQL, or answers in its place.
#[cfg(feature = "hose")]
mod postgres_proxy;
/// A real PostgreSQL.
#[cfg(feature = "hose")]
mod postgres_server;
/// kput --producer stores every record once.
mod producer;
/// A network that misbehaves.
#[cfg(feature = "hose")]
mod proxy;
/// kput stores what it reads: formats, keys, refusals, acknowledgements.
mod put;
/// The commands of README.md do what it says.
mod readme;
/// Services to deliver to.
#[cfg(feature = "hose")]
mod receivers;
mod refused;
/// Servers from the package registries.
#[cfg(feature = "hose")]
mod servers;
/// kshard makes, shows and changes streams.
mod shard;
/// kput -f follows files.
mod tail;
/// Killed, starved and damaged, with real processes.
mod torture;
/// Streams are moved whole and record by record.
mod transport;
/// Where a read ends: at a place, at damage, without an end.
mod until;
/// A directory for one test, and the real programs run in it.
mod workdir;
