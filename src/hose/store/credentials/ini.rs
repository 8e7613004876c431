//! The format of `~/.aws/config` and `~/.aws/credentials`.
//!
//! Sections in brackets, `key = value` in them; a line that is indented goes on with the value before it, and where that
//! is empty it is a setting below it (`s3 =` with `addressing_style = path` under it is `s3.addressing_style` here).

use std::collections::BTreeMap;

/// The settings of each section, both by name.
pub(in super::super) type Sections = BTreeMap<String, BTreeMap<String, String>>;

/// Reads a file. A line that is none of the format is an error with its number, and nothing of it is repeated: it may
/// be a secret that was pasted in the wrong place.
pub(in super::super) fn parse(text: &str) -> Result<Sections, String> {
    let mut sections = Sections::new();
    let mut section: Option<String> = None;
    let mut above: Option<String> = None;
    for (i, line) in text.lines().enumerate() {
        let is_indented = line.starts_with([' ', '\t']);
        let meant = line.trim();
        if meant.is_empty() || meant.starts_with(['#', ';']) {
            continue;
        }
        let wrong = |what: &str| format!("line {}: {what}", i + 1);
        if !is_indented && meant.starts_with('[') {
            let (name, behind) =
                meant[1..].split_once(']').ok_or_else(|| wrong("a section without its `]`"))?;
            if !matches!(behind.trim().bytes().next(), None | Some(b'#' | b';')) {
                return Err(wrong("something behind the name of a section"));
            }
            let name = plain_name(name);
            sections.entry(name.clone()).or_default();
            (section, above) = (Some(name), None);
            continue;
        }
        let section = section.as_ref().ok_or_else(|| wrong("a setting before the first section"))?;
        let settings = sections.entry(section.clone()).or_default();
        let pair = meant
            .split_once('=')
            .map(|(key, value)| (key.trim().to_ascii_lowercase(), without_comment(value)));
        match (is_indented, &above, pair) {
            (true, Some(above), pair) => {
                let is_parent = settings.get(above).is_some_and(String::is_empty);
                match pair {
                    Some((key, value)) if is_parent => drop(settings.insert(format!("{above}.{key}"), value)),
                    // The value before goes on.
                    _ => {
                        let value = settings.entry(above.clone()).or_default();
                        if !value.is_empty() {
                            value.push('\n');
                        }
                        value.push_str(meant);
                    }
                }
            }
            (_, _, Some((key, value))) if !key.is_empty() => {
                settings.insert(key.clone(), value);
                above = Some(key);
            }
            _ => return Err(wrong("not `name = value`")),
        }
    }
    Ok(sections)
}

/// A name with its spaces made one, and without quotes: `[profile "my own"]` is `profile my own`.
fn plain_name(name: &str) -> String {
    let words: Vec<&str> = name.split_whitespace().collect();
    words.join(" ").replace(['"', '\''], "")
}

/// A `#` or `;` behind a space begins a comment.
fn without_comment(value: &str) -> String {
    let end =
        [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min().unwrap_or(value.len());
    value[..end].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_as_people_write_them() {
        let text = "# mine\n[default]\nregion=eu-west-1 # near\naws_access_key_id = A=B#C\n\n\
                    [profile  \"my own\"] ; yes\nS3 =\n  addressing_style = path\n\tmax = 1\nregion = x\n\
                    credential_process = a b\n   c --d=e\n[default]\nOutput = json\n";
        let sections = parse(text).unwrap();
        let at = |section: &str, key: &str| sections[section].get(key).map(String::as_str);
        assert_eq!(at("default", "region"), Some("eu-west-1"));
        assert_eq!(at("default", "aws_access_key_id"), Some("A=B#C"));
        assert_eq!(at("default", "output"), Some("json"));
        assert_eq!(at("profile my own", "s3.addressing_style"), Some("path"));
        assert_eq!(at("profile my own", "s3.max"), Some("1"));
        assert_eq!(at("profile my own", "region"), Some("x"));
        assert_eq!(at("profile my own", "credential_process"), Some("a b\nc --d=e"));
    }

    #[test]
    fn what_is_wrong_is_named_and_not_repeated() {
        for (text, said) in [
            ("secret = 1", "line 1: a setting before the first section"),
            ("\n[a\nb=1", "line 2: a section without its `]`"),
            ("[a] secret", "line 1: something behind the name of a section"),
            ("[a]\nsecret", "line 2: not `name = value`"),
            ("[a]\n= secret", "line 2: not `name = value`"),
        ] {
            assert_eq!(parse(text).unwrap_err(), said);
        }
        assert!(parse("").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "[\\[\\]a=# ;\n\t\"é]{0,40}") {
            let _ = parse(&text);
        }
    }
}
