//! Exact replacements in a text, all or none of them.

use crate::{Edit, Error, Occurrences, RelPath, Result};

/// Applies the edits in order, each to what the ones before it left.
///
/// The time is linear in the text for each edit, and no text above `max_bytes` is ever built.
///
/// ```
/// use aion_machine::{Edit, RelPath, apply_edits};
/// let path = RelPath::parse("config.toml")?;
/// let edits = [Edit::new("port = 1", "port = 2")];
/// assert_eq!(apply_edits(&path, "port = 1\n", &edits, 1024)?, "port = 2\n");
/// let twice = apply_edits(&path, "port = 1, 1\n", &[Edit::new("1", "3")], 1024);
/// assert_eq!(twice.unwrap_err().code(), "edit_ambiguous");
/// # Ok::<(), aion_machine::Error>(())
/// ```
///
/// # Errors
/// [`Error::EditNotFound`], [`Error::EditAmbiguous`], [`Error::TooLarge`] if an edit would leave more
/// than `max_bytes`, or [`Error::Invalid`] for an empty old text, for one that equals the new text, and
/// for no edits at all.
pub fn apply_edits(path: &RelPath, text: &str, edits: &[Edit], max_bytes: u64) -> Result<String> {
    if edits.is_empty() {
        return Err(Error::invalid("there are no edits"));
    }
    let mut text = text.to_owned();
    for (index, edit) in edits.iter().enumerate() {
        let count = count(path, &text, index, edit)?;
        check_size(path, &text, count, edit, max_bytes)?;
        text = text.replace(&edit.old, &edit.new);
    }
    Ok(text)
}

/// How many places are to be replaced; none, and several where one is meant, are errors.
fn count(path: &RelPath, text: &str, index: usize, edit: &Edit) -> Result<usize> {
    check_texts(index, edit)?;
    let path = path.clone();
    let Some(first) = text.find(&edit.old) else {
        return Err(Error::EditNotFound { path, index });
    };
    match edit.occurrences {
        Occurrences::Every => Ok(text.matches(&edit.old).count()),
        Occurrences::One if occurs_after(text, &edit.old, first) => Err(Error::EditAmbiguous { path, index }),
        Occurrences::One => Ok(1),
    }
}

fn check_texts(index: usize, edit: &Edit) -> Result<()> {
    if edit.old.is_empty() {
        return Err(Error::invalid(format!("edit {index}: the old text is empty")));
    }
    if edit.old == edit.new {
        return Err(Error::invalid(format!(
            "edit {index}: the old and the new text are equal"
        )));
    }
    Ok(())
}

/// Whether it begins at a later place too, also an overlapping one: `aa` is twice in `aaa`, and so not unique.
fn occurs_after(text: &str, old: &str, first: usize) -> bool {
    let step = old.chars().next().map_or(1, char::len_utf8);
    text[first + step..].contains(old)
}

/// Said before anything is built: few bytes of a request could ask for gigabytes.
fn check_size(path: &RelPath, text: &str, count: usize, edit: &Edit, limit_bytes: u64) -> Result<()> {
    let kept = (text.len() - count * edit.old.len()) as u64;
    let added = (count as u64).saturating_mul(edit.new.len() as u64);
    Error::check_size(path, kept.saturating_add(added), limit_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(text: &str, edit: Edit, max_bytes: u64) -> Result<String> {
        apply_edits(&RelPath::parse("t").unwrap(), text, &[edit], max_bytes)
    }

    /// 2^21 lines of 2 bytes, each to become 2 KiB: 4 GiB, which is said and not built.
    #[test]
    fn what_would_be_too_large_is_not_built() {
        let text = "y\n".repeat(1 << 21);
        let edit = Edit::new("y\n", "z".repeat(2 << 10)).with_occurrences(Occurrences::Every);
        let Err(Error::TooLarge { size_bytes, .. }) = apply(&text, edit, 10 << 20) else {
            panic!("4 GiB were built");
        };
        assert_eq!(size_bytes, 4 << 30);
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        let every = |new: &str| Edit::new("a", new).with_occurrences(Occurrences::Every);
        assert_eq!(apply("a-a", every("bbb"), 7).unwrap(), "bbb-bbb");
        assert_eq!(apply("a-a", every("bbb"), 6).unwrap_err().code(), "too_large");
        assert_eq!(apply("a-a", every(""), 1).unwrap(), "-");
    }

    /// Looking at every overlapping place would be 10^12 comparisons: hours, not a moment.
    #[test]
    fn a_text_that_overlaps_itself_takes_linear_time() {
        let text = "a".repeat(2_000_000);
        let edit = Edit::new("a".repeat(1_000_000), "b");
        assert_eq!(
            apply(&text, edit.clone(), 10 << 20).unwrap_err().code(),
            "edit_ambiguous"
        );
        let every = edit.with_occurrences(Occurrences::Every);
        assert_eq!(apply(&text, every, 10 << 20).unwrap(), "bb");
    }

    /// `AION_FUZZ_CASES` makes it longer.
    fn cases() -> ProptestConfig {
        let asked = std::env::var("AION_FUZZ_CASES").ok().and_then(|n| n.parse().ok());
        ProptestConfig::with_cases(asked.unwrap_or(1024))
    }

    proptest! {
        #![proptest_config(cases())]

        /// Edits together are as if made one by one, stop at the first that cannot be, and keep to the limit.
        #[test]
        fn together_is_one_by_one(
            text in "[abé]{0,12}",
            edits in prop::collection::vec(("[abé]{0,3}", "[abé]{0,9}", any::<bool>()), 1..5),
            max_bytes in 0u64..40,
        ) {
            let path = RelPath::parse("t").unwrap();
            let edits: Vec<_> = edits
                .into_iter()
                .map(|(old, new, every)| {
                    let which = if every { Occurrences::Every } else { Occurrences::One };
                    Edit::new(old, new).with_occurrences(which)
                })
                .collect();
            let code = |error: Error| error.code();
            let together = apply_edits(&path, &text, &edits, max_bytes).map_err(code);
            let one_by_one = edits.iter().try_fold(text, |text, edit| {
                apply_edits(&path, &text, std::slice::from_ref(edit), max_bytes)
            });
            prop_assert_eq!(&together, &one_by_one.map_err(code));
            prop_assert!(together.is_err() || together.is_ok_and(|new| new.len() as u64 <= max_bytes));
        }

        /// An edit of the only place is the edit of every place; anything else is refused.
        #[test]
        fn one_is_every_where_there_is_one(text in "[abé]{0,12}", old in "[abé]{1,3}") {
            let edit = Edit::new(old.clone(), "-");
            let every = apply(&text, edit.clone().with_occurrences(Occurrences::Every), 99);
            let places = text.char_indices().filter(|(at, _)| text[*at..].starts_with(&old)).count();
            match (places, apply(&text, edit, 99)) {
                (0, one) => prop_assert_eq!(one.unwrap_err().code(), "edit_not_found"),
                (1, one) => prop_assert_eq!(one.unwrap(), every.unwrap()),
                (_, one) => prop_assert_eq!(one.unwrap_err().code(), "edit_ambiguous"),
            }
        }
    }
}
