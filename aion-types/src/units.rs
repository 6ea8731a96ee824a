//! Amounts with their unit in the type: information in nats, bits and micro-bits; trust in millitrust.

use std::iter::Sum;
use std::ops::{Add, Neg, Sub};

use serde::{Deserialize, Serialize};

use crate::error::check;
use crate::{Error, Ppm, Result};

macro_rules! float_unit {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// Never NaN; infinite where the mathematics says so.
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// No information.
            pub const ZERO: Self = Self(0.0);

            /// Checks the value.
            ///
            /// # Errors
            /// [`Error::OutOfRange`] if it is NaN.
            pub fn new(value: f64) -> Result<Self> {
                check($what, "a number", value, true).map(Self)
            }

            /// The amount as a plain number.
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = Error;

            fn try_from(value: f64) -> Result<Self> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(amount: $name) -> Self {
                amount.0
            }
        }

        impl Add for $name {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }

        impl Sub for $name {
            type Output = Self;

            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }

        impl Neg for $name {
            type Output = Self;

            fn neg(self) -> Self {
                Self(-self.0)
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
                Self(amounts.map(|amount| amount.0).sum())
            }
        }
    };
}

float_unit! {
    /// Information in natural units: 1 nat = 1 / ln 2 bits.
    Nats, "an amount of information in nats"
}
float_unit! {
    /// Information in bits.
    ///
    /// ```
    /// use aion_types::{Bits, Nats};
    ///
    /// let bit = Bits::new(1.0)?;
    /// assert_eq!(Nats::from(bit).get(), std::f64::consts::LN_2);
    /// # Ok::<(), aion_types::Error>(())
    /// ```
    Bits, "an amount of information in bits"
}

impl From<Nats> for Bits {
    fn from(nats: Nats) -> Self {
        Self(nats.0 / std::f64::consts::LN_2)
    }
}

impl From<Bits> for Nats {
    fn from(bits: Bits) -> Self {
        Self(bits.0 * std::f64::consts::LN_2)
    }
}

/// Information in whole millionths of a bit, so that gains add up exactly.
///
/// ```
/// use aion_types::{MicroBits, Ppm};
///
/// let level = |ppm| MicroBits::level(Ppm::new(ppm)?);
/// let gains = (level(700_000)? - level(500_000)?) + (level(900_000)? - level(700_000)?);
/// assert_eq!(gains, level(900_000)? - level(500_000)?);
/// assert_eq!(level(500_000)?, MicroBits::new(-1_000_000));
/// # Ok::<(), aion_types::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroBits(i64);

impl MicroBits {
    /// No information.
    pub const ZERO: Self = Self(0);

    /// This many millionths of a bit.
    pub const fn new(micro_bits: i64) -> Self {
        Self(micro_bits)
    }

    /// The integer level `round(1e6 log2 p)` of a price; a gain is a difference of two levels.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the price is 0, whose level would be minus infinity.
    pub fn level(price: Ppm) -> Result<Self> {
        let p = price.to_prob().get();
        check("the price of a scored outcome", "above 0", p, p > 0.0)?;
        Ok(Self((p.log2() * 1e6).round() as i64))
    }

    /// The number of millionths.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl From<MicroBits> for Bits {
    fn from(amount: MicroBits) -> Self {
        Self(amount.0 as f64 / 1e6)
    }
}

impl Add for MicroBits {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for MicroBits {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for MicroBits {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// Trust in whole thousandths; never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MilliTrust(u64);

impl MilliTrust {
    /// This many thousandths.
    pub const fn new(milli: u64) -> Self {
        Self(milli)
    }

    /// The number of thousandths.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The balance after a signed change.
    ///
    /// # Errors
    /// [`Error::Overflow`] if it would fall below zero or leave the range.
    pub fn checked_change(self, delta: i64) -> Result<Self> {
        self.0.checked_add_signed(delta).map(Self).ok_or(Error::Overflow {
            what: "a trust balance",
        })
    }
}
