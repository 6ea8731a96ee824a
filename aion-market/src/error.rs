//! What can go wrong in a market, with the row or the field that shows it.

use aion_types::{ForecasterId, MarketId};

use crate::store::StoreError;

/// A refused score, order or request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number lies outside its range, or is not a number.
    #[error("{what} must be {range}, got {value}")]
    OutOfRange {
        /// Which quantity.
        what: &'static str,
        /// The range in words.
        range: &'static str,
        /// What was given.
        value: f64,
    },
    /// One entry of a list is outside its range.
    #[error("{what}[{index}] must be {range}, got {value}")]
    BadEntry {
        /// Which list.
        what: &'static str,
        /// Which entry, from 0.
        index: usize,
        /// The range in words.
        range: &'static str,
        /// What was given.
        value: f64,
    },
    /// Lists that belong together differ in length, or a list is too short.
    #[error("{what} has {found} entries, expected {expected}")]
    Shape {
        /// Which list.
        what: &'static str,
        /// How many it has.
        found: usize,
        /// How many it should have.
        expected: usize,
    },
    /// One entry of one row of a batch is outside its range.
    #[error("{what}[{row}, {column}] must be {range}, got {value}")]
    BadCell {
        /// Which matrix.
        what: &'static str,
        /// The first bad row, from 0.
        row: usize,
        /// The first bad column of that row, from 0.
        column: usize,
        /// The range in words.
        range: &'static str,
        /// What was given.
        value: f64,
    },
    /// One row of a batch is not what it should be as a whole.
    #[error("row {row} of {what} must be {range}, got {value}")]
    BadRow {
        /// Which matrix.
        what: &'static str,
        /// The first bad row, from 0.
        row: usize,
        /// What it should be, in words.
        range: &'static str,
        /// What it is: the sum of a distribution.
        value: f64,
    },
    /// One label of a batch is no outcome.
    #[error("row {row} has the label {label}, there are {outcomes} outcomes")]
    BadLabel {
        /// The first bad row, from 0.
        row: usize,
        /// Its label.
        label: u32,
        /// How many outcomes there are.
        outcomes: usize,
    },
    /// A batch longer than 32 bits count.
    #[error("a batch has at most {limit} rows, got {rows}")]
    TooManyRows {
        /// How many it has.
        rows: usize,
        /// How many it may have.
        limit: usize,
    },
    /// An outcome that the market does not have.
    #[error("outcome {outcome} does not exist, there are {outcomes}")]
    UnknownOutcome {
        /// The index that was given.
        outcome: usize,
        /// How many outcomes there are.
        outcomes: usize,
    },
    /// A difference of two infinities: the score is not defined.
    #[error("the score of step {step} is not defined: it gains and loses an infinite amount")]
    Undefined {
        /// Which step of the path, from 1.
        step: usize,
    },
    /// One row of a batch is refused.
    #[error("row {row} is refused")]
    Row {
        /// Which row, from 0.
        row: usize,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A row that a calibrator was fitted on: it says nothing about how well it does.
    #[error("row {row} is one that the calibrator was fitted on")]
    TrainedOn {
        /// Which row, from 0.
        row: usize,
    },
    /// Text that is empty, too long, or has a control character.
    #[error("{what} must be {rule}")]
    BadText {
        /// Which text.
        what: &'static str,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A value that a checked type refused.
    #[error(transparent)]
    Value(#[from] aion_types::Error),
    /// There is no such market.
    #[error("there is no market {0}")]
    NotFound(MarketId),
    /// A market of this id exists with other terms.
    #[error("market {0} is already open on other terms")]
    OtherTerms(MarketId),
    /// It takes no more forecasts and trades.
    #[error("market {market} is closed: {reason}")]
    Closed {
        /// The market.
        market: MarketId,
        /// Why.
        reason: &'static str,
    },
    /// It has not been resolved yet.
    #[error("market {0} is not resolved yet")]
    NotResolved(MarketId),
    /// It was resolved before, and otherwise.
    #[error("market {0} is already resolved otherwise")]
    AlreadyResolved(MarketId),
    /// Whoever works on a task does not bet on it.
    #[error("{0} works on the task of this market and may not bet on it")]
    ExecutorMayNotBet(ForecasterId),
    /// The name of the account of moves that nobody made.
    #[error("the account {0} is the market's own")]
    ReservedAccount(ForecasterId),
    /// The market has changed since the caller looked.
    #[error("the market is at version {found}, not at {expected}")]
    VersionConflict {
        /// What the caller expected.
        expected: u64,
        /// Where the market is.
        found: u64,
    },
    /// The same idempotency key with another request.
    #[error("the idempotency key {0:?} was used for another request")]
    KeyReused(String),
    /// The order does not fit this kind of market maker.
    #[error("this market takes {expected}")]
    WrongMaker {
        /// What it takes.
        expected: &'static str,
    },
    /// An order that costs less than one micro-unit.
    #[error("the order costs less than one micro-unit")]
    TooSmall,
    /// The order costs more than its sender allowed.
    #[error("the order costs {cost_micro} micro-units, more than the limit of {limit_micro}")]
    OverLimit {
        /// The cost.
        cost_micro: i64,
        /// The limit.
        limit_micro: i64,
    },
    /// The order would leave a price outside the limits of its sender.
    #[error("the order leaves outcome {outcome} at {found} parts per million, outside {min} to {max}")]
    OverPriceLimit {
        /// The outcome.
        outcome: usize,
        /// Where the order would leave it.
        found: u32,
        /// At least this.
        min: u32,
        /// At most this.
        max: u32,
    },
    /// The order costs more than the account may still spend.
    #[error("the order costs {cost_micro} micro-units, the account may spend {left_micro} more")]
    NoCredit {
        /// The cost.
        cost_micro: i64,
        /// What is left.
        left_micro: i64,
    },
    /// A sale of shares that the account does not hold.
    #[error("cannot sell {wanted_micro} micro-shares of outcome {outcome}, {held_micro} are held")]
    NotHeld {
        /// The outcome.
        outcome: usize,
        /// What is held.
        held_micro: i64,
        /// What should be sold.
        wanted_micro: i64,
    },
    /// A limit that keeps everything bounded.
    #[error("{what} is over the limit of {limit}")]
    LimitReached {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// An integer amount left its range.
    #[error("{0} overflows")]
    Overflow(&'static str),
    /// A sequence of events that no market can have produced.
    #[error("event {seq} does not fit the market: {reason}")]
    BadHistory {
        /// Which event.
        seq: u64,
        /// Why.
        reason: &'static str,
    },
    /// The store failed or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model was refused, or refuses to answer.
    #[error(transparent)]
    Model(#[from] crate::predict::logistic::ModelError),
    /// A task feed failed.
    #[error("the task feed failed")]
    Feed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// The error of one row of a batch.
    pub(crate) fn in_row(self, row: usize) -> Self {
        Self::Row {
            row,
            source: Box::new(self),
        }
    }
}

/// A result whose error says what was refused and why.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Passes `value` on if `ok` holds and it is a number.
pub(crate) fn check(what: &'static str, range: &'static str, value: f64, ok: bool) -> Result<f64> {
    if ok && !value.is_nan() {
        return Ok(value);
    }
    Err(Error::OutOfRange { what, range, value })
}

/// Checks that all entries are finite.
pub(crate) fn check_finite(what: &'static str, values: &[f64]) -> Result<()> {
    check_entries(what, "finite", values, f64::is_finite)
}

/// Checks every entry with `ok`.
pub(crate) fn check_entries(
    what: &'static str,
    range: &'static str,
    values: &[f64],
    ok: fn(f64) -> bool,
) -> Result<()> {
    match values.iter().position(|x| !ok(*x)) {
        None => Ok(()),
        Some(index) => Err(Error::BadEntry {
            what,
            index,
            range,
            value: values[index],
        }),
    }
}

/// How far the sum of a distribution may be from 1.
pub const SUM_TOLERANCE: f64 = 1e-9;

/// Checks that `q` is a distribution: at least 2 entries in `[0, 1]` that sum to 1.
pub(crate) fn check_dist(what: &'static str, q: &[f64]) -> Result<()> {
    if q.len() < 2 {
        return Err(Error::Shape {
            what,
            found: q.len(),
            expected: 2,
        });
    }
    // A sum of parts that is 1 but for rounding is a probability too.
    check_entries(what, "in [0, 1]", q, |x| (0.0..=1.0 + SUM_TOLERANCE).contains(&x))?;
    let sum: f64 = q.iter().sum();
    check(
        what,
        "a distribution that sums to 1",
        sum,
        (sum - 1.0).abs() <= SUM_TOLERANCE,
    )
    .map(drop)
}

/// Checks that two lists are equally long.
pub(crate) fn check_len(what: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Shape {
        what,
        found,
        expected,
    })
}

/// Checks that the outcome exists.
pub(crate) fn check_outcome(outcome: usize, outcomes: usize) -> Result<()> {
    if outcome < outcomes {
        return Ok(());
    }
    Err(Error::UnknownOutcome { outcome, outcomes })
}
