//! The output formats by name, and the encoder for each.

use uuid::Uuid;

use super::Encode;
use super::base64_lines::Base64Encoder;
use super::envelope::EnvelopeEncoder;
use super::framed::FramedEncoder;
use super::table::TableEncoder;
use super::template::Template;
use crate::record::Record;

/// How records are written into a pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputFormat {
    /// The payload and a newline.
    Lines,
    /// The payload and a zero byte.
    Nul,
    /// A big-endian 32-bit length and the payload.
    Framed,
    /// The payload in base64 and a newline.
    Base64,
    /// The envelope, one per line.
    Json,
    /// A row of CSV under a header.
    Csv,
    /// A text with names in braces; its names are [`OutputFormat::template_names`].
    Template(String),
}

/// What an encoder needs to know of the stream.
#[derive(Debug, Clone)]
pub struct EncodeOptions {
    /// The stream's name.
    pub stream_name: String,
    /// The stream's UUID.
    pub stream_id: Uuid,
}

/// The name of each format, as in `--output`.
const NAMES: [&str; 6] = ["lines", "nul", "framed", "base64", "json", "csv"];

impl OutputFormat {
    /// The names that may stand in a template's braces.
    pub fn template_names() -> &'static [&'static str] {
        super::template::NAMES
    }

    /// A template, checked.
    ///
    /// # Errors
    /// Where it has a mistake.
    pub fn template(text: &str) -> Result<Self, String> {
        Template::parse(text, "")?;
        Ok(Self::Template(text.to_owned()))
    }
}

impl std::str::FromStr for OutputFormat {
    type Err = String;

    /// A format's name (`raw` is another word for `lines`), or a template, which has a brace in it.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "lines" | "raw" => Self::Lines,
            "nul" => Self::Nul,
            "framed" => Self::Framed,
            "base64" => Self::Base64,
            "json" => Self::Json,
            "csv" => Self::Csv,
            _ if text.contains('{') => Self::template(text)?,
            _ => {
                let names = NAMES.join(", ");
                return Err(format!("`{text}` is not an output format: give one of {names}, or a template"));
            }
        })
    }
}

/// The encoder of a format.
///
/// # Errors
/// Where a template has a mistake.
pub fn encoder(format: &OutputFormat, options: &EncodeOptions) -> Result<Box<dyn Encode>, String> {
    Ok(match format {
        OutputFormat::Lines => Box::new(Delimited(b'\n')),
        OutputFormat::Nul => Box::new(Delimited(0)),
        OutputFormat::Framed => Box::new(FramedEncoder),
        OutputFormat::Base64 => Box::new(Base64Encoder),
        OutputFormat::Json => Box::new(EnvelopeEncoder::new(&options.stream_name, options.stream_id)),
        OutputFormat::Csv => Box::new(TableEncoder),
        OutputFormat::Template(text) => Box::new(Template::parse(text, &options.stream_name)?),
    })
}

/// Encodes `lines` and `nul`: the payload and one byte, whatever the payload holds.
#[derive(Debug)]
struct Delimited(u8);

impl Encode for Delimited {
    fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(record.payload);
        out.push(self.0);
    }

    fn joined(&self) -> Option<u8> {
        Some(self.0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::record::{SequenceNumber, ShardId};

    /// A record with nothing but its payload.
    pub(in super::super) fn record(payload: &[u8]) -> Record<'_> {
        Record {
            sequence: SequenceNumber { shard_created_s: 1, index: 2, arrival_s: 3, shard: ShardId(4) },
            sub_sequence: None,
            arrival_us: 3_000_001,
            timestamp_us: None,
            key: None,
            explicit_hash: None,
            attributes: &[],
            payload,
        }
    }

    fn encode(format: &str, payload: &[u8]) -> Vec<u8> {
        let options = EncodeOptions { stream_name: "s".into(), stream_id: Uuid::nil() };
        let mut encoder = encoder(&format.parse().unwrap(), &options).unwrap();
        let mut out = Vec::new();
        encoder.encode(&record(payload), &mut out);
        if let Some(delimiter) = encoder.joined() {
            assert_eq!(out, [payload, &[delimiter]].concat());
        }
        out
    }

    #[test]
    fn the_simple_formats() {
        assert_eq!(encode("lines", b"a\nb"), b"a\nb\n");
        assert_eq!(encode("raw", b""), b"\n");
        assert_eq!(encode("nul", b"a"), b"a\0");
        assert_eq!(encode("framed", b"ab"), b"\0\0\0\x02ab");
        assert_eq!(encode("base64", b"\xff\0"), b"/wA=\n");
        assert_eq!(encode("{size}:{payload},", b"abc"), b"3:abc,");
    }

    #[test]
    fn an_unknown_format_says_what_there_is() {
        assert!("xml".parse::<OutputFormat>().unwrap_err().contains("lines, nul, framed"));
        assert!("{nope}".parse::<OutputFormat>().unwrap_err().contains("payload"));
    }
}
