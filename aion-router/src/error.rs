//! What a catalog or a ranking refuses.

use aion_types::DecisionId;

/// A refused item or query.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that is empty or too long.
    #[error("{what} must have 1 to {limit} bytes, has {found}")]
    Length {
        /// Which text.
        what: &'static str,
        /// How many bytes it has.
        found: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A text with characters that it may not have.
    #[error("{what} has a space or a control character")]
    BadText {
        /// Which text.
        what: &'static str,
    },
    /// Renderings that are none, too many, or do not grow in cost.
    #[error("an item has 1 to 3 renderings, each dearer than the one before")]
    Renderings,
    /// A number outside its range.
    #[error("{what} must be {range}, got {value}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// The range in words.
        range: &'static str,
        /// What was given.
        value: f64,
    },
    /// A limit that keeps everything bounded.
    #[error("{what} is over the limit of {limit}")]
    LimitReached {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A surface that a query names twice.
    #[error("surface {0} is in the query twice")]
    SurfaceTwice(String),
    /// A vector that is not finite, or of another dimension than those before it.
    #[error("a vector must be {dim} finite numbers")]
    BadVector {
        /// The dimension that was expected.
        dim: usize,
    },
    /// A file of a model that cannot be used.
    #[error("the {what} cannot be used: {reason}")]
    BadModel {
        /// Which file.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A document to import that is not what it should be.
    #[error("the document cannot be read at {at}: {reason}")]
    BadDocument {
        /// Where in it: a JSON pointer, a file, or a path.
        at: String,
        /// Why.
        reason: String,
    },
    /// What was learned, as bytes that cannot be read.
    #[error("the learned state cannot be read: {reason}")]
    BadState {
        /// Why.
        reason: String,
    },
    /// A decision that nobody made here, or too long ago.
    #[error("decision {0} is not known")]
    UnknownDecision(DecisionId),
    /// A decision whose outcome was told before.
    #[error("the outcome of decision {0} is known already")]
    OutcomeTwice(DecisionId),
    /// Floors of surfaces that together are over the budget.
    #[error("the floors of the surfaces need {floors} tokens, the budget is {total}")]
    FloorsOverBudget {
        /// What the floors need.
        floors: u64,
        /// The budget.
        total: u32,
    },
}

/// A result whose error says what was refused and why.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A file of a model that cannot be used, and why.
    #[cfg(feature = "tokenizer")]
    pub(crate) fn bad_model(what: &'static str, error: &dyn std::fmt::Display) -> Self {
        let reason = error.to_string();
        Self::BadModel { what, reason }
    }
}
