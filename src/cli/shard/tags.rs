//! `kshard tags`.

/// Most tags that a stream may have, as in the service.
pub(super) const TAGS_MAX: usize = 50;

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
