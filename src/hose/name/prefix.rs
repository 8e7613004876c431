//! The language of prefixes: text, and expressions `!{namespace:value}`.

use super::java_time::{Item, Pattern};

/// What is delivered under a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Records.
    Data,
    /// Records that could not be delivered.
    Error,
}

/// A parsed prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// In their order.
    pub(super) pieces: Vec<Piece>,
    /// Those before this one are the folder; the last of them ends with the last `/`.
    pub(super) folder: usize,
    role: Role,
}

/// A piece of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it is.
    Text(String),
    /// A field of the arrival time.
    Time(Item),
    /// A partition key by a query.
    Query(String),
    /// A partition key by the transformation.
    Transform(String),
    /// The shard's name.
    Shard,
    /// The shard's number.
    ShardNumber,
    /// Another one at each place and for each object.
    Random,
    /// Why the records failed.
    ErrorType,
}

/// What a prefix asks of its records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// The arrival time.
    pub timestamp: bool,
    /// The names of `partitionKeyFromQuery`, each once.
    pub query: Vec<String>,
    /// The names of `partitionKeyFromTransform`, each once.
    pub transform: Vec<String>,
    /// The shard.
    pub shard: bool,
    /// Random strings.
    pub random: bool,
    /// The type of the error.
    pub error_type: bool,
}

/// What is wrong with a prefix, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("prefix `{}`, at character {at}: {reason}", shown(text))]
pub struct PrefixError {
    /// The prefix.
    pub text: String,
    /// The character that it is about, from 1.
    pub at: usize,
    /// What is wrong.
    pub reason: String,
}

/// A text in a message of one line.
fn shown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_debug()) } else { out.push(c) }
    }
    out
}

/// What may stand in an expression, for messages.
const DATA_FORMS: &str = "!{timestamp:PATTERN}, !{partitionKeyFromQuery:NAME}, !{partitionKeyFromTransform:NAME}, \
                          !{firehose:random-string}, !{shard} and !{shard:number}";
const ERROR_FORMS: &str = "!{firehose:error-output-type}, !{timestamp:PATTERN}, !{firehose:random-string}, !{shard} and !{shard:number}";

/// The most characters of an evaluated prefix, the service's.
pub(super) const CHARS_MAX: usize = 512;

/// Folders at the top of a destination that are no folders of records: the ledger's, and the log of a table.
const RESERVED_FOLDERS: [&str; 2] = ["_khose", "_delta_log"];

/// Characters of a random string, the service's.
pub(super) const RANDOM_CHARS: usize = 11;

impl Prefix {
    /// Parses a prefix. It is taken as written: nothing is appended to one without a time in it.
    pub fn parse(text: &str, role: Role) -> Result<Self, PrefixError> {
        Parser { text, role, pieces: Vec::new() }.parse().map_err(|(at, reason)| PrefixError {
            text: text.to_owned(),
            at: text[..at].chars().count() + 1,
            reason,
        })
    }

    /// The prefix where none was given: a folder per hour, under the type of the error where it is for these.
    pub fn default_for(role: Role) -> Self {
        let text = match role {
            Role::Data => "!{timestamp:yyyy/MM/dd/HH/}",
            Role::Error => "!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd/HH/}",
        };
        Self::parse(text, role).unwrap_or(Self { pieces: Vec::new(), folder: 0, role })
    }

    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What it asks of its records.
    pub fn uses(&self) -> Uses {
        let mut uses = Uses::default();
        for piece in &self.pieces {
            let (names, name) = match piece {
                Piece::Text(_) => continue,
                Piece::Time(_) => {
                    uses.timestamp = true;
                    continue;
                }
                Piece::Shard | Piece::ShardNumber => {
                    uses.shard = true;
                    continue;
                }
                Piece::Random => {
                    uses.random = true;
                    continue;
                }
                Piece::ErrorType => {
                    uses.error_type = true;
                    continue;
                }
                Piece::Query(name) => (&mut uses.query, name),
                Piece::Transform(name) => (&mut uses.transform, name),
            };
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        uses
    }
}

/// A byte of the text, and what is wrong there.
type Wrong = (usize, String);

struct Parser<'t> {
    text: &'t str,
    role: Role,
    /// Each with the byte that it begins at.
    pieces: Vec<(usize, Piece)>,
}

impl Parser<'_> {
    fn parse(mut self) -> Result<Prefix, Wrong> {
        let mut at = 0;
        while let Some(found) = self.text[at..].find("!{") {
            self.push_text(at, &self.text[at..at + found]);
            at = self.expression(at + found)?;
        }
        self.push_text(at, &self.text[at..]);
        let has_expression = at > 0;
        let has_type = self.pieces.iter().any(|(_, piece)| *piece == Piece::ErrorType);
        if self.role == Role::Error && has_expression && !has_type {
            let reason = "a prefix for errors that has expressions must have !{firehose:error-output-type}";
            return Err((self.text.len(), reason.to_owned()));
        }
        self.check_parts()?;
        Ok(self.finish())
    }

    fn push_text(&mut self, at: usize, text: &str) {
        if !text.is_empty() {
            self.pieces.push((at, Piece::Text(text.to_owned())));
        }
    }

    /// Takes the expression at `at`; answers where it ends.
    fn expression(&mut self, at: usize) -> Result<usize, Wrong> {
        let start = at + "!{".len();
        let body = &self.text[start..];
        let is_time = body.starts_with("timestamp:");
        let unclosed = || {
            let reason = if is_time && body.contains('}') {
                "a `!{` that is closed with `}` in quotes only: a quote is missing"
            } else {
                "a `!{` that is not closed with `}`"
            };
            (at, reason.to_owned())
        };
        let end = if is_time { Pattern::end(body) } else { body.find('}') };
        let body = &body[..end.ok_or_else(unclosed)?];
        let end = start + body.len() + 1;
        let forms = match self.role {
            Role::Data => DATA_FORMS,
            Role::Error => ERROR_FORMS,
        };
        let (namespace, value) = match body.split_once(':') {
            Some((namespace, value)) => (namespace, Some(value)),
            None => (body, None),
        };
        let value_at = start + namespace.len() + 1;
        let piece = match (namespace, value) {
            ("timestamp", Some("")) => {
                return Err((value_at, "no pattern: give one as !{timestamp:yyyy/MM/dd}".to_owned()));
            }
            ("timestamp", Some(pattern)) => {
                let pattern = Pattern::parse(pattern).map_err(|error| (value_at + error.at, error.reason))?;
                for item in pattern.into_items() {
                    match item {
                        Item::Text(text) => self.push_text(value_at, &text),
                        field @ Item::Field { .. } => self.pieces.push((value_at, Piece::Time(field))),
                    }
                }
                return Ok(end);
            }
            ("partitionKeyFromQuery" | "partitionKeyFromTransform" | "partitionKeyFromLambda", value) => {
                if self.role == Role::Error {
                    let reason =
                        format!("a prefix for errors cannot have partition keys: it may have {forms}");
                    return Err((at, reason));
                }
                let name = value.unwrap_or_default();
                if name.is_empty() {
                    return Err((at, format!("no name of a key: write !{{{namespace}:NAME}}")));
                }
                if namespace == "partitionKeyFromQuery" {
                    Piece::Query(name.to_owned())
                } else {
                    Piece::Transform(name.to_owned())
                }
            }
            ("firehose", Some("random-string")) => Piece::Random,
            ("firehose", Some("error-output-type")) => {
                if self.role == Role::Data {
                    return Err((
                        at,
                        "!{firehose:error-output-type} is for prefixes of errors only".to_owned(),
                    ));
                }
                Piece::ErrorType
            }
            ("shard", None) => Piece::Shard,
            ("shard", Some("number")) => Piece::ShardNumber,
            ("timestamp", None) => {
                return Err((at, "no pattern: give one as !{timestamp:yyyy/MM/dd}".to_owned()));
            }
            ("firehose" | "shard", value) => {
                let value = value.unwrap_or_default();
                return Err((
                    at,
                    format!("`{namespace}` has no value `{}`: there are {forms}", shown(value)),
                ));
            }
            _ => return Err((at, format!("no namespace `{}`: there are {forms}", shown(namespace)))),
        };
        self.pieces.push((at, piece));
        Ok(end)
    }

    /// Refuses what would leave the destination. Expressions are never empty and never dots alone, and only the id of
    /// a zone has a `/` in it, between others; so the text tells.
    fn check_parts(&self) -> Result<(), Wrong> {
        // The text of the part so far, up to its first expression and all in all, where expressions are an `x`.
        let (mut head, mut part) = (String::new(), String::new());
        let (mut is_first, mut in_head, mut least) = (true, true, 0);
        for (at, piece) in &self.pieces {
            let Piece::Text(text) = piece else {
                let is_value = matches!(piece, Piece::Query(_) | Piece::Transform(_));
                let leads = !head.is_empty() && RESERVED_FOLDERS.iter().any(|name| name.starts_with(&head));
                if is_first && in_head && is_value && leads {
                    let reason = format!("values behind `{head}` could name the folder of khose's own files");
                    return Err((*at, reason));
                }
                part.push('x');
                (in_head, least) = (false, least + 1);
                continue;
            };
            least += text.chars().count();
            for (i, c) in text.char_indices() {
                // Within a pattern it is the pattern that is pointed at: quotes make its text another.
                let at = if self.text[*at..].starts_with(text.as_str()) { at + i } else { *at };
                if c.is_control() {
                    return Err((at, format!("a control character, {}", c.escape_debug())));
                }
                if c != '/' {
                    part.push(c);
                    if in_head {
                        head.push(c);
                    }
                    continue;
                }
                let reason = match part.as_str() {
                    "" if is_first => "it begins with `/`: a prefix begins at the destination".to_owned(),
                    "" => "two `/` with nothing between".to_owned(),
                    "." => "a part `.`".to_owned(),
                    ".." => "a part `..`: it would leave the destination".to_owned(),
                    name if is_first && RESERVED_FOLDERS.contains(&name) => {
                        format!("the folder `{name}` is for khose's own files")
                    }
                    _ => {
                        part.clear();
                        head.clear();
                        (is_first, in_head) = (false, true);
                        continue;
                    }
                };
                return Err((at, reason));
            }
        }
        if least > CHARS_MAX {
            let reason = format!("it has {least} characters or more: {CHARS_MAX} are the most");
            return Err((self.text.len(), reason));
        }
        Ok(())
    }

    fn finish(self) -> Prefix {
        let mut pieces: Vec<Piece> = Vec::new();
        for (_, piece) in self.pieces {
            match (pieces.last_mut(), piece) {
                (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
                (_, piece) => pieces.push(piece),
            }
        }
        let last = pieces.iter().rposition(|piece| matches!(piece, Piece::Text(text) if text.contains('/')));
        let folder = last.map_or(0, |last| {
            if let Piece::Text(text) = &mut pieces[last]
                && let Some(slash) = text.rfind('/')
            {
                let rest = text.split_off(slash + 1);
                if !rest.is_empty() {
                    pieces.insert(last + 1, Piece::Text(rest));
                }
            }
            last + 1
        });
        Prefix { pieces, folder, role: self.role }
    }
}
