//! `kshard create`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;

use crate::cli::Outcome;
use crate::cli::about::About;
use crate::cli::args::{CommonArgs, StreamArg};
use crate::cli::value::{self, Term};
use crate::stream::{
    Compression, Error, NewStream, RETENTION_MAX_US, RETENTION_MIN_US, SEGMENT_AGE_DEFAULT_US,
    SEGMENT_BYTES_DEFAULT, SHARDS_MAX, Stream,
};
use crate::sys::System;

/// Make a stream
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// How many shards it begins with
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(SHARDS_MAX)))]
    shards: u32,

    /// Compress what is stored: none, lz4 (fast) or zstd (small)
    #[arg(long, value_name = "CODEC", value_enum, default_value_t, hide_possible_values = true)]
    compression: Codec,

    /// The largest record, key and data together, up to 50MiB
    #[arg(long, value_name = "SIZE", value_parser = record_limit, default_value = "1MiB")]
    record_limit: u64,

    /// How long records stay: 1h to 8760h, or forever
    #[arg(long, value_name = "DURATION", value_parser = retention, default_value = "24h")]
    retention: Term,

    /// Keep at most so much in all shards together; the oldest goes first
    #[arg(long, value_name = "SIZE", value_parser = value::size_above_zero)]
    retain_bytes: Option<u64>,

    /// A segment is closed when it is this large [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = segment_size)]
    segment_size: Option<u64>,

    /// A segment is closed when it is this old [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = segment_age)]
    segment_age: Option<Duration>,

    /// A tag of your own; can be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = super::tags::tag, visible_alias = "tags")]
    tags: Vec<(String, String)>,

    /// Be content with a stream that is there already, whatever it is like
    #[arg(long)]
    if_not_exists: bool,

    #[command(flatten)]
    common: CommonArgs,
}

/// How frames are compressed, as typed.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

/// Records beyond this belong into files, with their names in the stream.
const RECORD_BYTES_MAX: u64 = 50 << 20;

fn record_limit(text: &str) -> Result<u64, String> {
    match value::size(text)? {
        bytes @ 1024..=RECORD_BYTES_MAX => Ok(bytes),
        _ => Err("give 1KiB to 50MiB".to_owned()),
    }
}

fn segment_size(text: &str) -> Result<u64, String> {
    match value::size(text)? {
        bytes if bytes >= 4 << 10 => Ok(bytes),
        _ => Err("give 4KiB or more".to_owned()),
    }
}

fn segment_age(text: &str) -> Result<Duration, String> {
    match value::duration(text)? {
        age if age >= Duration::from_secs(1) => Ok(age),
        _ => Err("give 1s or more".to_owned()),
    }
}

/// A retention period within its bounds.
pub(super) fn retention(text: &str) -> Result<Term, String> {
    let term: Term = text.parse()?;
    match retention_us(term) {
        Some(us) if !(RETENTION_MIN_US..=RETENTION_MAX_US).contains(&us) => {
            Err("give 1h to 8760h, or `forever`".to_owned())
        }
        _ => Ok(term),
    }
}

/// A retention period as the manifest has it.
pub(super) fn retention_us(term: Term) -> Option<i64> {
    match term {
        Term::For(length) => Some(i64::try_from(length.as_micros()).unwrap_or(i64::MAX)),
        Term::Forever => None,
    }
}

/// Makes the stream.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let path = args.stream.resolve()?;
    let new = NewStream {
        shards: args.shards,
        compression: args.compression.into(),
        record_bytes_max: args.record_limit,
        retention_us: retention_us(args.retention),
        retain_bytes: args.retain_bytes,
        segment_bytes: args.segment_size.unwrap_or(SEGMENT_BYTES_DEFAULT),
        segment_age_us: args.segment_age.map_or(SEGMENT_AGE_DEFAULT_US, |age| age.as_micros() as i64),
        tags: args.tags.into_iter().collect::<BTreeMap<_, _>>(),
    };
    match Stream::create(&System::real(), &path, &new) {
        Err(Error::Exists { .. }) if args.if_not_exists => {
            // It must be a stream, and not just something of that name.
            Stream::open(&System::real(), &path).about(&path)?;
        }
        Ok(_) => args.common.note("kshard", &format!("created {}", path.display())),
        Err(error) => return Err(error).about(&path),
    }
    Ok(Outcome::Done)
}
