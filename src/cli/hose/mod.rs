//! `khose`: streams, or standard input, to object stores and services.

mod args;
mod prometheus;
mod report;
mod stdin;

pub use args::HoseArgs;
