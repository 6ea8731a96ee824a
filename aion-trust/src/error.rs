//! What can go wrong with trust.

use aion_types::{ForecasterId, MarketId};

use crate::store::StoreError;

/// A refused vote or settlement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter of a rule outside its range.
    #[error("{what} must be {range}, got {value}")]
    OutOfRange {
        /// Which parameter.
        what: &'static str,
        /// The range in words.
        range: &'static str,
        /// What was given.
        value: f64,
    },
    /// A value that a checked type refused.
    #[error(transparent)]
    Value(#[from] aion_types::Error),
    /// A vote over another number of outcomes than the market has.
    #[error("the vote of {account} has {found} outcomes, the market has {expected}")]
    Shape {
        /// Whose vote.
        account: ForecasterId,
        /// How many outcomes it has.
        found: usize,
        /// How many the market has.
        expected: usize,
    },
    /// An account that votes twice on one market.
    #[error("{0} votes twice")]
    VotesTwice(ForecasterId),
    /// The account of the market itself.
    #[error("{0} is the market's own account, which always votes its price")]
    ReservedAccount(ForecasterId),
    /// The rule needs one outcome and the market resolved to a mixture.
    #[error("this rule settles on one outcome, not on a mixture")]
    NeedsOutcome,
    /// The market was settled before, on another report or other votes.
    #[error("market {0} is settled already, on another report or other votes")]
    SettledOtherwise(MarketId),
    /// There is more trust than the integers of a rule can hold.
    #[error("{0} overflows")]
    Overflow(&'static str),
    /// More votes than one settlement takes.
    #[error("{found} votes, at most {limit} are settled at once")]
    TooManyVotes {
        /// How many there are.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The store failed or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A result whose error says what was refused and why.
pub type Result<T, E = Error> = std::result::Result<T, E>;
