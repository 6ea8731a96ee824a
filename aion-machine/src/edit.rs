//! Exact replacements in a text, all or none of them.

use crate::{Edit, Error, Occurrences, RelPath, Result};

/// Applies the edits in order, each to what the ones before it left.
///
/// ```
/// use aion_machine::{Edit, RelPath, apply_edits};
/// let path = RelPath::parse("config.toml")?;
/// let edits = [Edit::new("port = 1", "port = 2")];
/// assert_eq!(apply_edits(&path, "port = 1\n", &edits)?, "port = 2\n");
/// assert_eq!(apply_edits(&path, "port = 1, 1\n", &[Edit::new("1", "3")]).unwrap_err().code(), "edit_ambiguous");
/// # Ok::<(), aion_machine::Error>(())
/// ```
///
/// # Errors
/// [`Error::EditNotFound`], [`Error::EditAmbiguous`], or [`Error::Invalid`] for an empty old text,
/// for one that equals the new text, and for no edits at all.
pub fn apply_edits(path: &RelPath, text: &str, edits: &[Edit]) -> Result<String> {
    if edits.is_empty() {
        return Err(Error::invalid("there are no edits"));
    }
    let mut text = text.to_owned();
    for (index, edit) in edits.iter().enumerate() {
        text = apply_one(path, &text, index, edit)?;
    }
    Ok(text)
}

fn apply_one(path: &RelPath, text: &str, index: usize, edit: &Edit) -> Result<String> {
    if edit.old.is_empty() {
        return Err(Error::invalid(format!("edit {index}: the old text is empty")));
    }
    if edit.old == edit.new {
        return Err(Error::invalid(format!(
            "edit {index}: the old and the new text are equal"
        )));
    }
    match (count_overlapping(text, &edit.old), edit.occurrences) {
        (0, _) => Err(Error::EditNotFound {
            path: path.clone(),
            index,
        }),
        (1, _) | (_, Occurrences::Every) => Ok(text.replace(&edit.old, &edit.new)),
        (count, Occurrences::One) => Err(Error::EditAmbiguous {
            path: path.clone(),
            index,
            count,
        }),
    }
}

/// How many places the text begins at, overlapping ones too: `aa` is twice in `aaa`, and so not unique.
fn count_overlapping(text: &str, old: &str) -> usize {
    let step = old.chars().next().map_or(1, char::len_utf8);
    let (mut at, mut count) = (0, 0);
    while let Some(found) = text[at..].find(old) {
        count += 1;
        at += found + step;
    }
    count
}
