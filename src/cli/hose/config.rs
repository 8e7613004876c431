//! Arguments from a file: what stands on the command line comes behind them.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, anyhow};
use clap::{CommandFactory as _, FromArgMatches as _, parser::ValueSource};

use super::HoseArgs;
use crate::cli::stream_name;

/// A file of arguments is written by hand.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The arguments, with those of `--config` before them.
pub(super) fn merged(args: HoseArgs) -> anyhow::Result<HoseArgs> {
    let Some(path) = &args.config else { return Ok(args) };
    let line: Vec<OsString> = std::env::args_os().skip(1).collect();
    read(path, &line).with_context(|| format!("{}", path.display()))
}

fn read(path: &Path, line: &[OsString]) -> anyhow::Result<HoseArgs> {
    let len = std::fs::metadata(path)?.len();
    anyhow::ensure!(len <= CONFIG_BYTES_MAX, "{len} bytes are no configuration: at most {CONFIG_BYTES_MAX}");
    let table: toml::Table = std::fs::read_to_string(path)?.parse().map_err(|error: toml::de::Error| {
        let place = error.span().map(|span| span.start).unwrap_or_default();
        anyhow!("{} (byte {place})", error.message())
    })?;
    let command = HoseArgs::command();
    let given = command
        .clone()
        .ignore_errors(true)
        .get_matches_from(std::iter::once("khose".into()).chain(line.iter().cloned()));
    let on_line = |id: &str| {
        given.try_contains_id(id).is_ok_and(|known| known)
            && given.value_source(id) == Some(ValueSource::CommandLine)
    };
    let mut words: Vec<OsString> = vec!["khose".into()];
    let mut named: Vec<OsString> = Vec::new();
    let mut destination = None;
    for (key, value) in &table {
        match key.as_str() {
            "source" | "sources" => named = texts(value).into_iter().map(Into::into).collect(),
            "destination" => destination = texts(value).pop(),
            "config" => anyhow::bail!("`config` in a configuration"),
            _ => {
                let long = key.replace('_', "-");
                let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(&long)) else {
                    let known = command.get_arguments().filter_map(|arg| arg.get_long());
                    let near =
                        known.min_by_key(|name| stream_name::distance(name, &long)).unwrap_or_default();
                    anyhow::bail!("`{key}` is not an option: did you mean `{near}`?");
                };
                // What can be given once is taken from the line where it stands there.
                if on_line(arg.get_id().as_str()) {
                    continue;
                }
                if arg.get_action().takes_values() {
                    for text in texts(value) {
                        words.push(format!("--{long}={text}").into());
                    }
                } else if value.as_bool().with_context(|| format!("`{key}` is true or false"))? {
                    words.push(format!("--{long}").into());
                }
            }
        }
    }
    words.extend(line.iter().cloned());
    if args_has_no_words(line) {
        words.push("--".into());
        words.extend(named);
        words.extend(destination.map(OsString::from));
    }
    let matches = command.try_get_matches_from(words).map_err(|error| anyhow!("{}", first_line(&error)))?;
    HoseArgs::from_arg_matches(&matches).map_err(|error| anyhow!("{}", first_line(&error)))
}

fn args_has_no_words(line: &[OsString]) -> bool {
    let given = HoseArgs::command()
        .ignore_errors(true)
        .get_matches_from(std::iter::once("khose".into()).chain(line.iter().cloned()));
    given.get_many::<OsString>("words").is_none_or(|words| words.len() == 0)
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// A value, or the values of a list, as they would be typed.
fn texts(value: &toml::Value) -> Vec<String> {
    match value {
        toml::Value::String(text) => vec![text.clone()],
        toml::Value::Integer(number) => vec![number.to_string()],
        toml::Value::Float(number) => vec![number.to_string()],
        toml::Value::Boolean(known) => vec![known.to_string()],
        toml::Value::Datetime(time) => vec![time.to_string()],
        toml::Value::Array(list) => {
            let mut all = Vec::new();
            for value in list {
                all.extend(texts(value));
            }
            all
        }
        // As for common attributes: { tenant = "7" }.
        toml::Value::Table(table) => {
            let mut all = Vec::new();
            for (name, value) in table {
                for text in texts(value) {
                    all.push(format!("{name}={text}"));
                }
            }
            all
        }
    }
}
