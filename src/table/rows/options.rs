//! How keys of JSON become names of columns, and how values may be written.

use std::borrow::Cow;

use crate::table::time::TimestampFormat;

/// How rows are read. The default is what the service does without a word, but that values of one kind are not taken
/// for another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowOptions {
    /// Keys are matched as they are written. Otherwise `userId` and `USERID` are one column, and the columns of a schema
    /// that comes out of rows are in small letters.
    pub case_sensitive: bool,
    /// A dot in a key is an underscore in the name of its column: `a.b` is `a_b`.
    pub dots_to_underscores: bool,
    /// Columns of the row itself whose values have another key: the column, and the key. A column named here is not
    /// found by its own name.
    pub mappings: Vec<(String, String)>,
    /// How timestamps and dates are written, tried in this order. Empty: as [`time`](crate::table::time) has it.
    pub timestamps: Vec<TimestampFormat>,
    /// Columns of strings take anything: numbers and booleans by their text, objects and arrays as JSON. Columns of
    /// numbers and booleans take strings that spell one.
    pub coerce: bool,
}

impl RowOptions {
    /// What a key and a name are compared by.
    pub(in crate::table) fn normal<'a>(&self, key: &'a str) -> Cow<'a, str> {
        let mut name = Cow::Borrowed(key);
        if self.dots_to_underscores && name.contains('.') {
            name = Cow::Owned(name.replace('.', "_"));
        }
        if !self.case_sensitive {
            if name.is_ascii() {
                if name.bytes().any(|b| b.is_ascii_uppercase()) {
                    name.to_mut().make_ascii_lowercase();
                }
            } else {
                name = Cow::Owned(name.to_lowercase());
            }
        }
        name
    }

    /// The column that the value of a row's key belongs to, by what names are compared by. None where the key is the name
    /// of a column whose values have another key.
    pub(in crate::table) fn column<'a>(&self, key: &'a str) -> Option<Cow<'a, str>> {
        let normal = self.normal(key);
        if let Some((column, _)) = self.mappings.iter().find(|(_, mapped)| self.normal(mapped) == normal) {
            return Some(Cow::Owned(self.normal(column).into_owned()));
        }
        let elsewhere = self.mappings.iter().any(|(column, _)| self.normal(column) == normal);
        (!elsewhere).then_some(normal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_names() {
        let mut options = RowOptions::default();
        assert_eq!(options.normal("User.Name"), "user.name");
        assert_eq!(options.normal("\u{c4}B"), "\u{e4}b");
        assert!(matches!(options.normal("plain"), Cow::Borrowed(_)));
        options.dots_to_underscores = true;
        assert_eq!(options.normal("User.Name"), "user_name");
        options.mappings = vec![("ts".to_owned(), "Timestamp".to_owned())];
        assert_eq!(options.column("TIMESTAMP").as_deref(), Some("ts"));
        assert_eq!(options.column("other").as_deref(), Some("other"));
        assert_eq!(options.column("TS"), None);
        options.case_sensitive = true;
        assert_eq!(options.column("TIMESTAMP").as_deref(), Some("TIMESTAMP"));
        assert_eq!(options.column("Timestamp").as_deref(), Some("ts"));
    }
}
