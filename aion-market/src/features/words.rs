//! What words say without being understood: errors, questions, regrets, richness.

use std::collections::BTreeSet;

/// How much of a text is looked at.
const LOOKED_AT_BYTES: usize = 4_096;
const ERRORS: [&str; 6] = [
    "error",
    "exception",
    "traceback",
    "panicked at",
    "command not found",
    "exit code: 1",
];
const REGRETS: [&str; 9] = [
    "sorry",
    "apolog",
    "unable to",
    "cannot",
    "can't",
    "could not",
    "couldn't",
    "not possible",
    "unfortunately",
];

/// The beginning of a text in lower case.
fn beginning(text: &str) -> String {
    text[..text.floor_char_boundary(LOOKED_AT_BYTES)].to_lowercase()
}

/// Whether the answer of a tool reports an error: it opens with one, or is an object that has one.
pub(super) fn reports_error(answer: &str) -> bool {
    let text = beginning(answer);
    let opening = &text[..text.floor_char_boundary(80)];
    if ERRORS.iter().any(|word| opening.contains(word)) {
        // `"error": null` and `"errors": []` say that there was none.
        return ![
            "\"error\":null",
            "\"error\": null",
            "\"errors\":[]",
            "\"errors\": []",
        ]
        .iter()
        .any(|none| opening.contains(none));
    }
    text.contains("traceback (most recent call last)")
}

/// Whether a text says that something cannot be done.
pub(super) fn regrets(text: &str) -> bool {
    let text = beginning(text);
    REGRETS.iter().any(|word| text.contains(word))
}

/// Whether a text ends in a question.
pub(super) fn asks(text: &str) -> bool {
    text.trim_end().ends_with(['?', '\u{ff1f}'])
}

/// Different words over the root of all words: grows little with the length.
///
/// # Sources
/// P. Guiraud, Les caractères statistiques du vocabulaire, 1954.
pub(super) fn vocabulary<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    let (mut all, mut distinct) = (0_u32, BTreeSet::new());
    let words = texts.flat_map(|text| {
        text[..text.floor_char_boundary(LOOKED_AT_BYTES)].split(|c: char| !c.is_alphanumeric())
    });
    for word in words.filter(|word| !word.is_empty()).take(20_000) {
        all += 1;
        distinct.insert(word.to_lowercase());
    }
    if all == 0 {
        return 0.0;
    }
    distinct.len() as f64 / f64::from(all).sqrt()
}

#[cfg(test)]
mod tests {
    use super::{asks, regrets, reports_error, vocabulary};

    #[test]
    fn errors_are_told_from_answers_that_mention_none() {
        assert!(reports_error("Error: no such user"));
        assert!(reports_error(r#"{"error": "timeout"}"#));
        assert!(!reports_error(r#"{"error": null, "rows": 3}"#));
        assert!(!reports_error("All is well."));
    }

    #[test]
    fn questions_regrets_and_richness() {
        assert!(asks("Which one? ") && !asks("This one."));
        assert!(regrets("I'm sorry, this is NOT POSSIBLE.") && !regrets("Done."));
        assert_eq!(vocabulary(["a b", "A b"].into_iter()), 1.0);
        assert_eq!(vocabulary(std::iter::empty()), 0.0);
    }
}
