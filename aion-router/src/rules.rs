//! Rules: items that a phrase in the query calls for, whatever the scores say.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::item::{ItemId, MAX_NAME_BYTES};
use crate::text::terms;

/// The most rules.
const MAX_RULES: usize = 4_096;

/// A phrase and the item that it calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    name: String,
    phrase: Vec<String>,
    item: ItemId,
}

/// Rules in the order in which they were added.
///
/// ```
/// use aion_router::{ItemId, Rules};
///
/// let rules = Rules::default().with("deploys", "deploy to production", ItemId::new("norm:two-reviews")?)?;
/// assert_eq!(rules.wanted("Please deploy to production today").len(), 1);
/// assert!(rules.wanted("deploy it to staging").is_empty());
/// # Ok::<(), aion_router::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Adds a rule: where the words of the phrase stand together, the item goes in.
    ///
    /// # Errors
    /// [`Error`] for a phrase without words, one that is too long, or too many rules.
    pub fn with(mut self, name: &str, phrase: &str, item: ItemId) -> Result<Self> {
        let words: Vec<String> = terms(phrase).take(64).collect();
        if words.is_empty() || phrase.len() > MAX_NAME_BYTES {
            return Err(Error::Length {
                what: "the phrase of a rule",
                found: phrase.len(),
                limit: MAX_NAME_BYTES,
            });
        }
        if self.0.len() >= MAX_RULES {
            return Err(Error::LimitReached {
                what: "the number of rules",
                limit: MAX_RULES,
            });
        }
        self.0.push(Rule {
            name: name.to_owned(),
            phrase: words,
            item,
        });
        Ok(self)
    }

    /// The items that the text calls for, each with the name of the first rule that does.
    pub fn wanted(&self, text: &str) -> BTreeMap<&ItemId, &str> {
        let mut wanted = BTreeMap::new();
        if self.0.is_empty() {
            return wanted;
        }
        let words: Vec<String> = terms(text).take(4_096).collect();
        for rule in &self.0 {
            if words
                .windows(rule.phrase.len())
                .any(|window| window == rule.phrase)
            {
                wanted.entry(&rule.item).or_insert(rule.name.as_str());
            }
        }
        wanted
    }
}
