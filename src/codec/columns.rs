//! Filling [`Records`]: every record pushes to each column in use exactly once, and columns that no record has a value
//! for stay empty.

use super::split::Line;
use super::{Records, Refused, Span};
use crate::record::KEY_CHARS_MAX;

/// Where bytes that a decoder found lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the input block.
    Block(Span),
    /// In the arena.
    Arena(Span),
}

impl Records {
    /// The bytes of refusal `i`, given the block it was decoded from.
    pub fn refused_raw<'a>(&'a self, block: &'a [u8], i: usize) -> &'a [u8] {
        let refused = &self.refused[i];
        let bytes = if refused.raw_in_arena { &self.arena } else { block };
        refused.raw.of(bytes).unwrap_or_default()
    }

    /// The last column of each record: where it ends, and which it is if somebody wants to know.
    #[inline]
    pub(super) fn push_end(&mut self, line: Line) {
        self.ends.push(line.next as u32);
        if self.is_numbered {
            self.numbers.push(line.number);
        }
    }

    pub(super) fn refuse(&mut self, number: u64, start: usize, end: usize, reason: String) {
        let raw = Span::new(start, end);
        self.refused.push(Refused { after: self.payloads.len(), raw, raw_in_arena: false, number, reason });
    }

    /// Appends to the arena.
    pub(super) fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        Span::new(start, self.arena.len())
    }

    /// Pushes a key. The first one that lies in the arena takes those before it there, because one flag says where all
    /// of them are.
    pub(super) fn push_key(&mut self, block: &[u8], key: Place) {
        let span = match key {
            Place::Block(span) if !self.key_in_arena => span,
            Place::Block(span) => self.store(span.of(block).unwrap_or_default()),
            Place::Arena(span) => {
                if !self.key_in_arena {
                    self.key_in_arena = true;
                    for i in 0..self.keys.len() {
                        if let Some(bytes) = self.keys[i].of(block) {
                            self.keys[i] = self.store(bytes);
                        }
                    }
                }
                span
            }
        };
        self.keys.push(span);
    }

    /// Says whether the payloads lie back to back, each followed by `delimiter`. `whole` is that of every line in this
    /// block a record was made; the payloads start where the lines do. Of what was `used` nothing may stand before or
    /// behind them, the start of a line that is being dropped, say.
    pub(super) fn join(&mut self, delimiter: u8, whole: bool, used: usize) {
        let starts = self.payloads.first().is_some_and(|first| first.start == 0);
        let ends = self.ends.last().is_some_and(|&end| end as usize == used);
        self.joined = (whole && starts && ends && self.refused.is_empty()).then_some(delimiter);
    }
}

/// Checks a key by the service's rule.
pub(super) fn check_key(key: &[u8]) -> Result<(), String> {
    // Most keys are short and ASCII, and need neither a validator nor a count.
    if key.len() <= KEY_CHARS_MAX && key.is_ascii() {
        return Ok(());
    }
    let text = std::str::from_utf8(key).map_err(|_| "the key is not UTF-8".to_owned())?;
    // No text has more characters than bytes, so most keys need no counting.
    if key.len() > KEY_CHARS_MAX {
        let chars = text.chars().count();
        if chars > KEY_CHARS_MAX {
            return Err(format!("the key has {chars} characters, more than {KEY_CHARS_MAX}"));
        }
    }
    Ok(())
}

/// Reads a position in a source. The largest number stands for no position: one more than it is counted up to.
pub(super) fn parse_position(text: &[u8]) -> Result<u64, String> {
    let number = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.and_then(|text| text.parse().ok()).filter(|&position| position < u64::MAX).ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(text).chars().take(40).collect();
        format!("its position `{shown}` is not a whole number from 0 to {}", u64::MAX - 1)
    })
}

/// Checks payload and key together, as the service counts them.
pub(super) fn check_size(payload: usize, key: usize, limit: usize) -> Result<(), String> {
    if payload + key <= limit {
        return Ok(());
    }
    Err(match key {
        0 => format!("its {payload} bytes are above the record limit of {limit}"),
        _ => {
            format!("payload and key are {} bytes together, above the record limit of {limit}", payload + key)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_move_to_the_arena_with_the_first_that_must() {
        let block = b"a,b,c";
        let mut records = Records::default();
        records.push_key(block, Place::Block(Span::new(0, 1)));
        records.keys.push(Span::NONE);
        let made = records.store(b"B");
        records.push_key(block, Place::Arena(made));
        records.push_key(block, Place::Block(Span::new(4, 5)));
        let keys: Vec<_> = (0..4).map(|i| records.key(block, i)).collect();
        assert_eq!(keys, [Some(&b"a"[..]), None, Some(b"B"), Some(b"c")]);
    }

    #[test]
    fn keys_are_counted_in_characters() {
        assert!(check_key("é".repeat(256).as_bytes()).is_ok());
        assert!(check_key("é".repeat(257).as_bytes()).unwrap_err().contains("257"));
        assert!(check_key(b"\xff").is_err());
        assert!(check_key(b"").is_ok());
    }
}
