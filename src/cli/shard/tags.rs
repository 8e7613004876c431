//! `kshard tags`.

use serde_json::json;

use super::print::{self, OutputArg};
use crate::cli::Outcome;
use crate::cli::about::{self, About};
use crate::cli::args::StreamArg;
use crate::cli::report::printable;
use crate::stream::Error;

/// Show the tags of a stream, or change them
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// Tags to set
    #[arg(value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,

    /// A tag to take away; can be given several times, and need not be there
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,

    #[command(flatten)]
    output: OutputArg,
}

/// Most tags that a stream may have, as in the service.
const TAGS_MAX: usize = 50;

/// `KEY=VALUE` within the service's bounds.
pub(super) fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    match (key.chars().count(), value.chars().count()) {
        (0, _) => Err("the key of a tag cannot be empty".to_owned()),
        (129.., _) => Err("the key of a tag has at most 128 characters".to_owned()),
        (_, 257..) => Err("the value of a tag has at most 256 characters".to_owned()),
        _ => Ok((key.to_owned(), value.to_owned())),
    }
}

/// Changes them where asked, and shows them where not.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut stream = about::open(&args.stream)?;
    let path = stream.path().to_owned();
    let show = args.tags.is_empty() && args.remove.is_empty();
    if !show {
        stream
            .update(|manifest| {
                for key in &args.remove {
                    manifest.tags.remove(key);
                }
                manifest.tags.extend(args.tags);
                match manifest.tags.len() {
                    0..=TAGS_MAX => Ok(()),
                    n => Err(Error::Invalid(format!("a stream has at most {TAGS_MAX} tags, not {n}"))),
                }
            })
            .about(&path)?;
    }
    let tags = &stream.manifest().tags;
    if args.output.is_json() {
        let list = tags.iter().map(|(key, value)| json!({"Key": key, "Value": value}));
        print::json(&json!({"Tags": list.collect::<Vec<_>>()}))?;
    } else if show {
        let lines = tags.iter().map(|(key, value)| printable(&format!("{key}={value}")) + "\n");
        print::text(&lines.collect::<String>())?;
    }
    Ok(Outcome::Done)
}
