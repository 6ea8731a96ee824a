//! What can be counted about a task and its messages while it runs: named columns of one schema, any of
//! which may be missing.
//!
//! The columns are general to transcripts of agents; none knows a domain, a tool or a benchmark.

mod transcript;
mod words;

use std::fmt::Debug;

use crate::Result;
use crate::error::{Error, check};
use crate::feed::TaskView;
use transcript::Transcript;

/// The schema's name and version: a model of another one is refused.
pub const SCHEMA: &str = "aion.transcript/1";

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub about: &'static str,
    /// Whether it can be unknown for a task that has messages; it then has a mark beside it.
    pub may_be_missing: bool,
    /// Whether it is a probability's log-odds already.
    pub is_log_odds: bool,
}

const fn column(name: &'static str, about: &'static str) -> Column {
    Column {
        name,
        about,
        may_be_missing: false,
        is_log_odds: false,
    }
}

const fn optional(name: &'static str, about: &'static str) -> Column {
    Column {
        may_be_missing: true,
        ..column(name, about)
    }
}

/// The columns in their order. Counts and lengths are `ln(1 + n)`.
const COLUMNS: [Column; 30] = [
    column("task.depth", "steps to the root of its tree"),
    column("task.attempt", "attempts after the first"),
    column("task.spec_chars", "how long the task is in words"),
    Column {
        is_log_odds: true,
        ..column(
            "history.log_odds",
            "how the same task, and its kind, ended before",
        )
    },
    column("history.count", "how often the same task was done before"),
    column("messages", "how many messages"),
    column("messages.user", "of the one who asks"),
    column("messages.assistant", "of the model"),
    column("messages.tool", "answers of tools"),
    column("calls", "calls of tools"),
    column("calls.tools", "how many tools were called"),
    column("calls.entropy", "how evenly, in nats"),
    column("calls.repeated", "calls with the same arguments as one before"),
    column(
        "calls.longest_run",
        "the most calls in a row without a word between",
    ),
    column("calls.arguments_chars", "mean length of the arguments"),
    column("errors", "answers of tools that report an error"),
    column("errors.share", "their share of the answers"),
    column("errors.last", "whether the last answer of a tool is one"),
    column("assistant.chars", "mean length of what the model says"),
    column("assistant.last_chars", "length of the last of it"),
    column("assistant.questions", "share that ends in a question"),
    column(
        "assistant.regrets",
        "share that says that something cannot be done",
    ),
    column("assistant.repeated", "share said before in the same words"),
    column("assistant.vocabulary", "different words by words, after Guiraud"),
    column("user.chars", "mean length of what the one who asks says"),
    column("user.last_chars", "length of the last of it"),
    column("tool.chars", "mean length of what tools answer"),
    optional("persistence.harm", "ln R_harm over the reported tokens"),
    optional("persistence.min", "the least ln R_min of a message"),
    optional("seconds", "from the first message to the last"),
];

/// The values of one view of a task, in the order of [`Features::columns`].
///
/// ```
/// use aion_market::features::Features;
///
/// let features = Features::default().with("errors.share", Some(0.25))?;
/// assert_eq!(features.get("errors.share"), Some(0.25));
/// assert_eq!(features.get("seconds"), None);
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Features(Vec<Option<f64>>);

impl Default for Features {
    /// Nothing is known.
    fn default() -> Self {
        Self(vec![None; COLUMNS.len()])
    }
}

/// What is known beforehand of how a task will end.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Prospect {
    /// The log-odds of success.
    pub log_odds: f64,
    /// How often the same task ended before.
    pub count: f64,
}

impl Prospect {
    /// These log-odds from this many ends of the same task.
    pub const fn new(log_odds: f64, count: f64) -> Self {
        Self { log_odds, count }
    }
}

impl Features {
    /// All columns of the schema.
    pub const fn columns() -> &'static [Column] {
        &COLUMNS
    }

    /// What a view of a task shows, with what its history tells.
    pub fn of(view: &TaskView<'_>, prospect: Option<Prospect>) -> Self {
        let mut features = Self::default();
        features.put_task(view);
        if let Some(prospect) = prospect {
            features.put("history.log_odds", prospect.log_odds);
            features.put("history.count", prospect.count.ln_1p());
        }
        Transcript::of(view.messages).put(&mut features);
        features
    }

    fn put_task(&mut self, view: &TaskView<'_>) {
        let task = view.task;
        self.put("task.depth", f64::from(task.depth).ln_1p());
        self.put("task.attempt", f64::from(task.attempt.saturating_sub(1)).ln_1p());
        self.put("task.spec_chars", transcript::chars(&task.spec).ln_1p());
    }

    /// A column's value; `None` if it is unknown, or if there is no such column.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.at(position(name)?)
    }

    /// The value of the column at this place.
    pub fn at(&self, column: usize) -> Option<f64> {
        self.0.get(column).copied().flatten()
    }

    /// Sets a column.
    ///
    /// # Errors
    /// [`Error::BadText`] for a column that the schema does not have, [`Error::OutOfRange`] for a value
    /// that is not finite.
    pub fn with(mut self, name: &str, value: Option<f64>) -> Result<Self> {
        let Some(column) = position(name) else {
            return Err(Error::BadText {
                what: "a column",
                rule: "one of the schema",
            });
        };
        if let Some(value) = value {
            check("a feature", "finite", value, value.is_finite())?;
        }
        self.0[column] = value;
        Ok(self)
    }

    /// Sets a column of ours; what is not finite is not known.
    fn put(&mut self, name: &'static str, value: f64) {
        if let Some(column) = position(name) {
            self.0[column] = value.is_finite().then_some(value);
        }
    }
}

fn position(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| column.name == name)
}

/// How much of a task's messages is looked at.
///
/// ```
/// use aion_market::features::Share;
///
/// let quarter = Share::new(0.25)?;
/// assert_eq!((quarter.of(10), quarter.of(1), quarter.of(0)), (3, 1, 0));
/// assert!(Share::new(0.0).is_err());
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// All of them.
    pub const ALL: Self = Self(1.0);

    /// This share.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] outside `(0, 1]`.
    pub fn new(share: f64) -> Result<Self> {
        let ok = share > 0.0 && share <= 1.0;
        check("a share of messages", "in (0, 1]", share, ok).map(Self)
    }

    /// The share as a number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// How many of so many messages, rounded up.
    pub fn of(self, messages: usize) -> usize {
        ((messages as f64 * self.0).ceil() as usize).min(messages)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::COLUMNS;

    #[test]
    fn names_are_distinct() {
        let names: BTreeSet<&str> = COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(names.len(), COLUMNS.len());
    }
}
