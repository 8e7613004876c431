//! `kput`: what can be typed, and what is meant by it.

mod again;
mod ahead;
mod page;
mod rejects;
mod run;
mod source;
mod store;
mod tail;
mod whole;

pub use page::PAGE;
pub use run::run;

use std::path::PathBuf;

use clap::Parser;
use regex::bytes::Regex;

use super::args::{CommonArgs, OnErrorArgs, OneOf, StreamArg};
use super::value;
use crate::codec::{DecodeOptions, InputFormat, KeyRule};
use crate::stream::producer::{self, Sync};

/// Store records in a stream. When kput exits 0, all it read is on the disk
#[derive(Debug, Parser)]
#[command(name = "kput", max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// Read these files, one after the other, instead of standard input (- is standard input)
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Follow the files as they grow, through rotation and restarts of kput
    #[arg(short, long, requires = "files", conflicts_with = "whole")]
    follow: bool,

    /// Each file is one record (- is standard input)
    #[arg(long, requires = "files", conflicts_with_all = ["input", "key", "key_delimiter", "key_regex", "explicit_hash_key", "producer_position"])]
    whole: bool,

    /// Create the stream if there is none, with this many shards [default if given: 1]
    #[arg(long, value_name = "SHARDS", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    create: Option<u32>,

    /// Format of the input: lines, ndjson, csv, tsv, nul, framed (32-bit big-endian lengths), base64 or json (what
    /// kget -o json writes) [default: by the name of the first file, else lines, or ndjson where a field is asked for]
    #[arg(short, long, value_name = "FORMAT", value_parser = OneOf(InputFormat::NAMES, str::parse::<InputFormat>), hide_possible_values = true)]
    input: Option<InputFormat>,

    /// The byte between the fields of csv [default: a comma, of tsv a tab]
    #[arg(long, value_name = "BYTE", value_parser = one_byte)]
    delimiter: Option<u8>,

    #[command(flatten)]
    key: KeyArgs,

    /// The field that holds the hash key itself, in decimal
    #[arg(long, value_name = "FIELD")]
    explicit_hash_key: Option<String>,

    /// Store every record once, however often kput is killed and run again on the same input under this name
    #[arg(long, value_name = "NAME", value_parser = value::name)]
    producer: Option<String>,

    /// The field that tells where in its source a record is: a whole number, higher from record to record
    #[arg(long, value_name = "FIELD", requires = "producer", conflicts_with = "follow")]
    producer_position: Option<String>,

    /// When records are made durable: every (each by itself), end (once), none (left to the kernel), or SIZE,DURATION
    #[arg(long, value_name = "WHEN", default_value = "8MiB,50ms", value_parser = OneOf(SYNC_WORDS, parse_sync), hide_possible_values = true)]
    sync: Sync,

    /// Print a line of JSON for each record when it is durable: shard and sequence number
    #[arg(long, conflicts_with = "tee")]
    ack: bool,

    /// Pass the input through to standard output
    #[arg(long)]
    tee: bool,

    /// Hold each shard to the service's limits of 1 MiB and 1000 records a second, as far as this kput alone goes:
    /// wait, or refuse
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "wait")]
    enforce_limits: Option<LimitMode>,

    #[command(flatten)]
    on_error: OnErrorArgs,

    #[command(flatten)]
    common: CommonArgs,
}

/// Where the partition key of a record comes from. Without one records spread evenly over the shards.
#[derive(Debug, Clone, clap::Args)]
#[group(multiple = false)]
struct KeyArgs {
    /// The key is this field: a path (user.id), a JSON pointer (/user/id), or a CSV column
    #[arg(long, value_name = "FIELD")]
    key: Option<String>,

    /// The key is what stands before the first of these (\t is a tab); the record is what stands behind it
    #[arg(long, value_name = "TEXT", value_parser = unescape)]
    key_delimiter: Option<String>,

    /// The key is what the first group of this regular expression matches, or all of it where there is no group
    #[arg(long, value_name = "REGEX")]
    key_regex: Option<Regex>,

    /// Every record has this key
    #[arg(long, value_name = "TEXT")]
    key_value: Option<String>,
}

/// What becomes of a record that a shard has no room for this second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LimitMode {
    /// It waits.
    Wait,
    /// It is refused as the service refuses it.
    Refuse,
}

/// A delimiter as it can be typed in any shell: `\t` is a tab, `\0` a zero byte, `\\` a backslash.
#[expect(clippy::unnecessary_wraps, reason = "what clap takes for a parser")]
fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = chars.peek().and_then(|next| match next {
            't' => Some('\t'),
            '0' => Some('\0'),
            '\\' => Some('\\'),
            _ => None,
        });
        match escaped.filter(|_| c == '\\') {
            Some(meant) => {
                plain.push(meant);
                chars.next();
            }
            None => plain.push(c),
        }
    }
    Ok(plain)
}

fn one_byte(text: &str) -> Result<u8, String> {
    match unescape(text)?.as_bytes() {
        b"tab" => Ok(b'\t'),
        &[byte] => Ok(byte),
        _ => Err("give one byte, or tab".to_owned()),
    }
}

const SYNC_WORDS: &[&str] = &["every", "end", "none"];

fn parse_sync(text: &str) -> Result<Sync, String> {
    Ok(match text {
        "every" => Sync::Every,
        "end" => Sync::End,
        "none" => Sync::None,
        _ => {
            let form = || format!("`{text}`: give every, end, none, or SIZE,DURATION as 8MiB,50ms");
            let (size, time) = text.split_once(',').ok_or_else(form)?;
            let bytes = value::size_above_zero(size.trim()).map_err(|e| format!("{}: {e}", form()))?;
            let time = value::duration(time.trim()).map_err(|e| format!("{}: {e}", form()))?;
            Sync::Group { bytes, interval_us: time.as_micros() as i64 }
        }
    })
}

impl Args {
    /// The format that is meant.
    fn format(&self) -> InputFormat {
        let wants_field =
            self.key.key.is_some() || self.explicit_hash_key.is_some() || self.producer_position.is_some();
        let extension = self.files.first().and_then(|file| file.extension()).and_then(|e| e.to_str());
        match (self.input, extension) {
            (Some(InputFormat::Csv { delimiter }), _) => self.csv(delimiter),
            (Some(format), _) => format,
            (None, Some("csv")) => self.csv(b','),
            (None, Some("tsv")) => self.csv(b'\t'),
            (None, Some("ndjson" | "jsonl")) => InputFormat::Ndjson,
            (None, _) if wants_field => InputFormat::Ndjson,
            (None, _) => InputFormat::Lines,
        }
    }

    fn csv(&self, delimiter: u8) -> InputFormat {
        InputFormat::Csv { delimiter: self.delimiter.unwrap_or(delimiter) }
    }

    /// What clap cannot tell is wrong.
    fn check(&self) -> anyhow::Result<()> {
        let format = self.format();
        if self.delimiter.is_some() && !matches!(format, InputFormat::Csv { .. }) {
            anyhow::bail!(
                "--delimiter is for csv, and the input is {}; the key may stand before a --key-delimiter",
                format.name()
            );
        }
        Ok(())
    }

    fn decode_options(&self, record_bytes: usize) -> DecodeOptions {
        let key = &self.key;
        let rule = if let Some(field) = &key.key {
            KeyRule::Field(field.clone())
        } else if let Some(delimiter) = &key.key_delimiter {
            KeyRule::Delimiter(delimiter.clone().into_bytes())
        } else if let Some(regex) = &key.key_regex {
            KeyRule::Regex(regex.clone())
        } else if let Some(value) = &key.key_value {
            KeyRule::Value(value.clone())
        } else {
            KeyRule::None
        };
        DecodeOptions {
            key: rule,
            explicit_hash_key: self.explicit_hash_key.clone(),
            producer_position: self.producer_position.clone(),
            record_bytes,
        }
    }

    /// A number that changes when the same input would be cut or keyed in another way.
    fn reading(&self) -> u64 {
        let key = &self.key;
        let text = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            self.format(),
            key.key,
            key.key_delimiter,
            key.key_regex.as_ref().map(Regex::as_str),
            key.key_value,
            self.explicit_hash_key,
            self.whole,
        );
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }

    /// When to sync: what a named producer keeps of its place must be durable now and then.
    fn sync(&self) -> anyhow::Result<Sync> {
        if self.enforce_limits == Some(LimitMode::Refuse) && (self.producer.is_some() || self.follow) {
            // Which records those are depends on the time, so a later run could not tell what is missing.
            anyhow::bail!(
                "--enforce-limits=refuse leaves out records that a later run would take; give --enforce-limits=wait"
            );
        }
        match self.sync {
            Sync::None if self.producer.is_some() || self.follow => anyhow::bail!(
                "--sync none promises nothing, so a {} cannot go on from it; give --sync end",
                if self.follow { "followed file" } else { "named producer" }
            ),
            Sync::End if self.producer.is_some() || self.follow => Ok(producer::GROUP_DEFAULT),
            // What waits to be acknowledged is kept in memory.
            Sync::End if self.ack => Ok(producer::GROUP_DEFAULT),
            sync => Ok(sync),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_format_that_is_meant() {
        let format = |args: &[&str]| Args::try_parse_from([&["kput", "s"], args].concat()).unwrap().format();
        assert_eq!(format(&[]), InputFormat::Lines);
        assert_eq!(format(&["--key", "user.id"]), InputFormat::Ndjson);
        assert_eq!(format(&["--key", "id", "a.csv"]), InputFormat::Csv { delimiter: b',' });
        assert_eq!(format(&["a.tsv"]), InputFormat::Csv { delimiter: b'\t' });
        assert_eq!(format(&["-i", "tsv"]), InputFormat::Csv { delimiter: b'\t' });
        assert_eq!(format(&["-i", "nul", "a.csv"]), InputFormat::Nul);
        assert_eq!(
            format(&["--create=4", "-i", "csv", "--delimiter", ";"]),
            InputFormat::Csv { delimiter: b';' }
        );
    }

    #[test]
    fn delimiters_as_they_are_typed() {
        assert_eq!(unescape(r"\t"), Ok("\t".to_owned()));
        assert_eq!(unescape(r"a\\t\0\d\"), Ok("a\\t\0\\d\\".to_owned()));
        assert_eq!((one_byte(r"\t"), one_byte("tab"), one_byte(";")), (Ok(b'\t'), Ok(b'\t'), Ok(b';')));
        assert!(one_byte("ab").is_err());
    }

    #[test]
    fn sync_modes() {
        assert_eq!(parse_sync("8MiB,50ms"), Ok(producer::GROUP_DEFAULT));
        assert_eq!(parse_sync("every"), Ok(Sync::Every));
        assert!(parse_sync("8MiB").is_err());
        assert!(parse_sync("0,1s").is_err());
    }

    #[test]
    fn one_key_at_most() {
        assert!(Args::try_parse_from(["kput", "s", "--key", "a", "--key-value", "b"]).is_err());
        assert!(Args::try_parse_from(["kput", "s", "-f"]).is_err());
        assert!(Args::try_parse_from(["kput", "s", "--create=4"]).is_ok());
    }
}
