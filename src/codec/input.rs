//! The input formats by name, and the decoder for each.

use super::Decode;
use super::base64_lines::Base64Lines;
use super::csv::{Column, Csv, KeyColumn};
use super::envelope::EnvelopeDecoder;
use super::framed::Framed;
use super::json_path::JsonPath;
use super::key::{ByteRule, KeyRule};
use super::lines::Lines;
use super::ndjson::{Fields, KeyField, Ndjson};

/// How the bytes of a pipe are cut into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFormat {
    /// One record per line, every byte kept.
    Lines,
    /// One JSON value per line.
    Ndjson,
    /// Rows under a header row.
    Csv {
        /// What stands between two fields: one byte, a comma as a rule.
        delimiter: u8,
    },
    /// Records that end with a zero byte.
    Nul,
    /// A big-endian 32-bit length before each record.
    Framed,
    /// One record per line in base64.
    Base64,
    /// One envelope per line, as `kget --output json` writes them.
    Json,
}

/// What a decoder holds each record to, and what it looks for in it.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// Where the partition key comes from.
    pub key: KeyRule,
    /// The field (NDJSON) or column (CSV) that holds the explicit hash key, in decimal.
    pub explicit_hash_key: Option<String>,
    /// The field or column whose text is the producer's position in its source.
    pub producer_position: Option<String>,
    /// The largest record: payload and key together.
    pub record_bytes: usize,
}

impl DecodeOptions {
    /// No key, and records of at most `record_bytes`.
    pub fn new(record_bytes: usize) -> Self {
        Self { key: KeyRule::None, explicit_hash_key: None, producer_position: None, record_bytes }
    }
}

impl InputFormat {
    /// What can be given to `--input`.
    pub const NAMES: &[&str] = &["lines", "ndjson", "csv", "tsv", "nul", "framed", "base64", "json"];

    /// Its name, as in `--input`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Ndjson => "ndjson",
            Self::Csv { delimiter: b'\t' } => "tsv",
            Self::Csv { .. } => "csv",
            Self::Nul => "nul",
            Self::Framed => "framed",
            Self::Base64 => "base64",
            Self::Json => "json",
        }
    }
}

impl std::str::FromStr for InputFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "lines" => Self::Lines,
            "ndjson" => Self::Ndjson,
            "csv" => Self::Csv { delimiter: b',' },
            "tsv" => Self::Csv { delimiter: b'\t' },
            "nul" => Self::Nul,
            "framed" => Self::Framed,
            "base64" => Self::Base64,
            "json" => Self::Json,
            _ => {
                return Err(format!(
                    "`{name}` is not an input format: give one of {}",
                    Self::NAMES.join(", ")
                ));
            }
        })
    }
}

/// The decoder of a format.
///
/// # Errors
/// Where the options ask for what the format has not (a field of plain lines, say), as the end of a usage error.
pub fn decoder(format: InputFormat, options: &DecodeOptions) -> Result<Box<dyn Decode>, String> {
    let name = format.name();
    // Spans are 32 bits wide, and a line of base64 or JSON is longer than what it stands for.
    const RECORD_BYTES_MAX: usize = 256 << 20;
    if options.record_bytes > RECORD_BYTES_MAX {
        return Err(format!("a record limit of {} bytes is above {RECORD_BYTES_MAX}", options.record_bytes));
    }
    let has_fields = matches!(format, InputFormat::Ndjson | InputFormat::Csv { .. });
    for (option, what) in [
        (&options.explicit_hash_key, "an explicit hash key"),
        (&options.producer_position, "a producer position"),
    ] {
        if option.is_some() && !has_fields {
            return Err(format!("{what} is a field, and `{name}` input has none: give ndjson or csv"));
        }
    }
    let limit = options.record_bytes;
    let rule = ByteRule::new(&options.key)?;
    let bytes = |rule: Option<ByteRule>| {
        rule.ok_or_else(|| format!("the key is a field, and `{name}` input has none: give ndjson or csv"))
    };
    Ok(match format {
        InputFormat::Lines => Box::new(Lines::new(b'\n', bytes(rule)?, limit)),
        InputFormat::Nul => Box::new(Lines::new(0, bytes(rule)?, limit)),
        InputFormat::Framed => Box::new(Framed::new(bytes(rule)?, limit)),
        InputFormat::Base64 => Box::new(Base64Lines::new(bytes(rule)?, limit)),
        InputFormat::Json => {
            // An envelope brings its own key; the rule is for those that have none.
            let key = match (&options.key, rule) {
                (KeyRule::Field(text), _) => KeyField::Path(JsonPath::new(text)?),
                (_, rule) => KeyField::Bytes(bytes(rule)?),
            };
            Box::new(EnvelopeDecoder::new(key, limit))
        }
        InputFormat::Ndjson => {
            let path = |text: &Option<String>| text.as_deref().map(JsonPath::new).transpose();
            let key = match (&options.key, rule) {
                (KeyRule::Field(text), _) => KeyField::Path(JsonPath::new(text)?),
                (_, rule) => KeyField::Bytes(bytes(rule)?),
            };
            let explicit_hash = path(&options.explicit_hash_key)?;
            Box::new(Ndjson::new(
                Fields { key, explicit_hash, position: path(&options.producer_position)? },
                limit,
            ))
        }
        InputFormat::Csv { delimiter } => {
            if matches!(delimiter, b'"' | b'\n' | b'\r') {
                return Err("a quote or a line ending cannot be the CSV delimiter".to_owned());
            }
            let column = |text: &Option<String>| text.as_deref().map(Column::new);
            let key = match (&options.key, rule) {
                (KeyRule::Field(name), _) => KeyColumn::Named(Column::new(name)),
                (_, rule) => KeyColumn::Bytes(bytes(rule)?),
            };
            let (hash, position) = (column(&options.explicit_hash_key), column(&options.producer_position));
            Box::new(Csv::new(delimiter, key, hash, position, limit))
        }
    })
}
