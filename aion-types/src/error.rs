//! What can be wrong with a value.

/// A value that one of the checked types refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number lies outside its range, or is not a number.
    #[error("{what} must be {range}, got {value}")]
    OutOfRange {
        /// Which quantity.
        what: &'static str,
        /// The range in words, such as `in [0, 1]`.
        range: &'static str,
        /// What was given.
        value: f64,
    },
    /// The parts of a distribution do not make one.
    #[error("not a distribution: {reason}")]
    NotADistribution {
        /// Why, with the number that shows it.
        reason: String,
    },
    /// Text that is no id of the kind that was asked for.
    #[error("not a valid {kind}: {reason}")]
    BadId {
        /// Name of the id type.
        kind: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// Text that is no range of network addresses.
    #[error("{text} is not a range of addresses such as 10.0.0.0/8")]
    AddressRange {
        /// The text.
        text: String,
    },
    /// A record written by a newer program.
    #[error("record format {found} is newer than the newest one known here, {newest}")]
    NewerFormat {
        /// The version in the record.
        found: u32,
        /// The newest version that this program reads.
        newest: u32,
    },
    /// An integer amount left its range.
    #[error("{what} overflows")]
    Overflow {
        /// Which amount.
        what: &'static str,
    },
}

/// A result whose error says which value was refused and why.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Passes `value` on if it is a number for which `ok` holds.
pub(crate) fn check(what: &'static str, range: &'static str, value: f64, ok: bool) -> Result<f64> {
    if ok && !value.is_nan() {
        Ok(value)
    } else {
        Err(Error::OutOfRange { what, range, value })
    }
}
