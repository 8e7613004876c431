//! Schemas as DDL: `id bigint, at timestamp, tags array<string>`, or the whole `CREATE TABLE`.

use super::types::DECIMAL_DIGITS_MAX;
use super::{Column, DEPTH_MAX, Type};

/// The columns of a DDL text.
pub(super) fn parse(text: &str) -> Result<Vec<Column>, String> {
    let mut ddl = Ddl { text, at: 0 };
    let closing = ddl.statement()?;
    let mut columns = Vec::new();
    loop {
        ddl.space();
        // A comma behind the last column is what one leaves when one deletes a line.
        if ddl.done() || (closing && ddl.peek() == Some(')')) {
            break;
        }
        let name = ddl.name()?;
        ddl.eat(':');
        let kind = ddl.kind(0).map_err(|reason| format!("column {name:?}: {reason}"))?;
        let nullable = ddl.tail()?;
        columns.push(Column { name, kind, nullable, format: None });
        if !ddl.eat(',') {
            break;
        }
    }
    if closing && !ddl.eat(')') {
        return Err(format!("`)` is missing {}", ddl.place()));
    }
    // Behind the columns of a statement stand its other clauses (PARTITIONED BY, STORED AS): they say nothing of a row.
    if !closing && !ddl.done() {
        return Err(format!("`,` is missing {}", ddl.place()));
    }
    if columns.is_empty() {
        return Err("it has no columns".to_owned());
    }
    Ok(columns)
}

/// A type alone, as `array<string>`.
pub(super) fn parse_type(text: &str) -> Result<Type, String> {
    let mut ddl = Ddl { text, at: 0 };
    let kind = ddl.kind(0)?;
    if ddl.done() { Ok(kind) } else { Err(format!("{text:?} is not a type")) }
}

struct Ddl<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Ddl<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Skips white space and comments.
    fn space(&mut self) {
        loop {
            self.at += self.rest().len() - self.rest().trim_start().len();
            if self.rest().starts_with("--") {
                self.at += self.rest().find('\n').unwrap_or(self.rest().len());
            } else if self.rest().starts_with("/*") {
                self.at += self.rest().find("*/").map_or(self.rest().len(), |end| end + 2);
            } else {
                break;
            }
        }
    }

    fn done(&mut self) -> bool {
        self.eat(';');
        self.space();
        self.rest().is_empty()
    }

    fn eat(&mut self, c: char) -> bool {
        self.space();
        let found = self.peek() == Some(c);
        self.at += if found { c.len_utf8() } else { 0 };
        found
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.eat(c) { Ok(()) } else { Err(format!("`{c}` is missing {}", self.place())) }
    }

    fn place(&self) -> String {
        match self.rest().trim() {
            "" => "at the end".to_owned(),
            rest => format!("before {:?}", rest.chars().take(20).collect::<String>()),
        }
    }

    /// A plain word, if one is next.
    fn word(&mut self) -> &'a str {
        self.space();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Takes the word if it is the next one.
    fn keyword(&mut self, word: &str) -> bool {
        let before = self.at;
        let found = self.word().eq_ignore_ascii_case(word);
        if !found {
            self.at = before;
        }
        found
    }

    /// Skips `CREATE TABLE name (`, or `(` alone. Returns whether there was one.
    fn statement(&mut self) -> Result<bool, String> {
        let before = self.at;
        if self.keyword("create") {
            let mut table = false;
            while !self.rest().is_empty() && !self.eat('(') {
                table |= self.keyword("table");
                if table {
                    self.name()?;
                    self.eat('.');
                } else if self.word().is_empty() {
                    break;
                }
            }
            if table {
                return Ok(true);
            }
            self.at = before;
            return Ok(false);
        }
        Ok(self.eat('('))
    }

    /// A name: a word (with `.`, `-`, `$` and `@` in it, as keys of JSON have them), or anything in backticks or quotes.
    fn name(&mut self) -> Result<String, String> {
        self.space();
        let rest = self.rest();
        if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '`' | '"')) {
            let mut name = String::new();
            let mut chars = rest.char_indices().skip(1).peekable();
            while let Some((i, c)) = chars.next() {
                if c != quote {
                    name.push(c);
                } else if chars.next_if(|&(_, next)| next == quote).is_some() {
                    name.push(quote);
                } else {
                    self.at += i + 1;
                    return Ok(name);
                }
            }
            return Err(format!("{quote} is missing at the end of a name"));
        }
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '.' | '-' | '$' | '@'))
            .unwrap_or(rest.len());
        if end == 0 {
            return Err(format!("a name is missing {}", self.place()));
        }
        self.at += end;
        Ok(rest[..end].to_owned())
    }

    fn number(&mut self) -> Result<u32, String> {
        let word = self.word();
        word.parse().map_err(|_| format!("{word:?} is not a number"))
    }

    /// A type, `depth` levels inside another.
    fn kind(&mut self, depth: usize) -> Result<Type, String> {
        if depth > DEPTH_MAX {
            return Err(format!("it is nested more than {DEPTH_MAX} levels deep"));
        }
        let word = self.word().to_ascii_lowercase();
        Ok(match word.as_str() {
            "boolean" | "bool" => Type::Boolean,
            "tinyint" | "byte" => Type::TinyInt,
            "smallint" | "short" | "int2" => Type::SmallInt,
            "int" | "integer" | "int4" => Type::Int,
            "bigint" | "long" | "int8" => Type::BigInt,
            "float" | "real" | "float4" => Type::Float,
            "double" => {
                self.keyword("precision");
                Type::Double
            }
            "float8" => Type::Double,
            "string" | "text" => Type::String,
            "binary" | "bytes" | "bytea" | "blob" | "varbinary" => Type::Binary,
            "date" => Type::Date,
            // As Hive has it: 10 digits, none behind the point.
            "decimal" | "numeric" | "dec" => match self.arguments()?.as_slice() {
                [] => Type::Decimal { precision: 10, scale: 0 },
                [precision] => Type::Decimal { precision: digits(*precision)?, scale: 0 },
                [precision, scale] => {
                    Type::Decimal { precision: digits(*precision)?, scale: digits(*scale)? }
                }
                _ => return Err("a decimal has a precision and a scale".to_owned()),
            },
            "varchar" | "char" | "character" => {
                let varying = word == "varchar" || (word == "character" && self.keyword("varying"));
                match self.arguments()?.as_slice() {
                    [length] if varying => Type::Varchar(*length),
                    [length] => Type::Char(*length),
                    [] if varying => Type::String,
                    [] => Type::Char(1),
                    _ => return Err(format!("{word} has one length")),
                }
            }
            "timestamp" | "timestamptz" | "timestamp_ntz" | "timestamp_ltz" | "datetime" => {
                let digits = match self.arguments()?.as_slice() {
                    [] => 6,
                    [digits @ (3 | 6 | 9)] => *digits as u8,
                    _ => return Err(format!("{word} has 3, 6 or 9 digits")),
                };
                let before = self.at;
                let zone = match (self.keyword("with"), self.keyword("without")) {
                    (false, false) => None,
                    (with, _) => {
                        self.keyword("local");
                        if !(self.keyword("time") && self.keyword("zone")) {
                            self.at = before;
                        }
                        Some(with)
                    }
                };
                Type::Timestamp { digits, utc: zone.unwrap_or(word != "timestamp_ntz") }
            }
            "array" | "list" => {
                self.expect('<')?;
                let item = self.kind(depth + 1)?;
                self.expect('>')?;
                Type::Array(Box::new(item))
            }
            "map" => {
                self.expect('<')?;
                let key = self.kind(depth + 1)?;
                self.expect(',')?;
                let value = self.kind(depth + 1)?;
                self.expect('>')?;
                Type::Map(Box::new(key), Box::new(value))
            }
            "struct" | "row" => {
                self.expect('<')?;
                let mut fields = Vec::new();
                loop {
                    let name = self.name()?;
                    self.eat(':');
                    let kind = self.kind(depth + 1).map_err(|reason| format!("field {name:?}: {reason}"))?;
                    let nullable = self.tail()?;
                    fields.push(Column { name, kind, nullable, format: None });
                    if !self.eat(',') {
                        break;
                    }
                }
                self.expect('>')?;
                Type::Struct(fields)
            }
            "" => return Err(format!("a type is missing {}", self.place())),
            _ => {
                return Err(format!(
                    "`{word}` is not a type: give one of boolean, tinyint, smallint, int, bigint, float, double, \
                     decimal(p,s), string, varchar(n), char(n), binary, date, timestamp, array<>, struct<>, map<,>"
                ));
            }
        })
    }

    /// Numbers in parentheses, if any.
    fn arguments(&mut self) -> Result<Vec<u32>, String> {
        let mut numbers = Vec::new();
        if self.eat('(') {
            loop {
                numbers.push(self.number()?);
                if !self.eat(',') {
                    break;
                }
            }
            self.expect(')')?;
        }
        Ok(numbers)
    }

    /// What may follow a type: `NOT NULL`, `NULL`, `COMMENT '...'`. Returns whether it can be null.
    fn tail(&mut self) -> Result<bool, String> {
        let mut nullable = true;
        loop {
            if self.keyword("not") {
                if !self.keyword("null") {
                    return Err(format!("NULL is missing behind NOT {}", self.place()));
                }
                nullable = false;
            } else if self.keyword("comment") {
                self.comment()?;
            } else if !self.keyword("null") {
                return Ok(nullable);
            }
        }
    }

    /// A text in quotes; one in it is doubled or has a backslash before it.
    fn comment(&mut self) -> Result<(), String> {
        self.space();
        let quote = self.peek().filter(|c| matches!(c, '\'' | '"')).ok_or("a comment is in quotes")?;
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((i, c)) = chars.next() {
            if c == '\\' || (c == quote && chars.peek().is_some_and(|&(_, next)| next == quote)) {
                chars.next();
            } else if c == quote {
                self.at += i + 1;
                return Ok(());
            }
        }
        Err(format!("{quote} is missing at the end of a comment"))
    }
}

fn digits(number: u32) -> Result<u8, String> {
    u8::try_from(number)
        .ok()
        .filter(|&digits| digits <= DECIMAL_DIGITS_MAX)
        .ok_or_else(|| format!("a decimal has at most {DECIMAL_DIGITS_MAX} digits"))
}
