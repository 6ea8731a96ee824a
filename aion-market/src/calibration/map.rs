//! The maps that calibrators learn.

use serde::{Deserialize, Serialize};

use super::exact;
use super::recipe::Method;
use crate::Result;
use crate::error::{Error, check};

/// A corner of an isotonic map: the forecast `p` becomes `q`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knot {
    /// A forecast.
    #[serde(with = "exact")]
    pub p: f64,
    /// What it stands for.
    #[serde(with = "exact")]
    pub q: f64,
}

/// From a forecast to a calibrated one. Parameters are saved as decimal text, which keeps every bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Map {
    /// `logit q = a logit p`.
    Temperature {
        /// Slope: the inverse temperature, at least 0.
        #[serde(with = "exact")]
        a: f64,
    },
    /// `logit q = a logit p + c`.
    Platt {
        /// Slope.
        #[serde(with = "exact")]
        a: f64,
        /// Constant, in log-odds.
        #[serde(with = "exact")]
        c: f64,
    },
    /// `logit q = a ln p - b ln(1 - p) + c`.
    Beta {
        /// How far small forecasts are trusted, at least 0.
        #[serde(with = "exact")]
        a: f64,
        /// How far large forecasts are trusted, at least 0.
        #[serde(with = "exact")]
        b: f64,
        /// Constant, in log-odds.
        #[serde(with = "exact")]
        c: f64,
    },
    /// Straight lines between knots, level outside of them.
    Isotonic {
        /// The corners, by ascending `p`, with nondecreasing `q`; at least one.
        knots: Vec<Knot>,
    },
}

impl Map {
    /// The family that it is of.
    pub const fn method(&self) -> Method {
        match self {
            Self::Temperature { .. } => Method::Temperature,
            Self::Platt { .. } => Method::Platt,
            Self::Beta { .. } => Method::Beta,
            Self::Isotonic { .. } => Method::Isotonic,
        }
    }

    /// Checks what was read from outside: finite, monotone where it must be.
    pub(super) fn checked(self) -> Result<Self> {
        let least = match &self {
            Self::Temperature { a } => *a,
            Self::Beta { a, b, .. } => a.min(*b),
            Self::Platt { .. } => 0.0,
            Self::Isotonic { knots } => return check_knots(knots).map(|()| self),
        };
        check("a slope", "at least 0", least, least >= 0.0)?;
        Ok(self)
    }

    /// The calibrated forecast of `p` in `[0, 1]`, which is clipped to `[eps, 1 - eps]` where a
    /// logarithm is taken of it.
    pub(super) fn apply(&self, p: f64, eps: f64) -> f64 {
        match self {
            Self::Temperature { a } => sigmoid(a * logit(p, eps)),
            Self::Platt { a, c } => sigmoid(a * logit(p, eps) + c),
            Self::Beta { a, b, c } => {
                let (ln_p, ln_rest) = logs(p, eps);
                sigmoid(a * ln_p - b * ln_rest + c)
            }
            Self::Isotonic { knots } => interpolate(knots, p),
        }
    }
}

fn check_knots(knots: &[Knot]) -> Result<()> {
    if knots.is_empty() {
        return Err(Error::Shape {
            what: "knots",
            found: 0,
            expected: 1,
        });
    }
    let inside = |x: f64| (0.0..=1.0).contains(&x);
    let bad = knots.iter().position(|knot| !inside(knot.p) || !inside(knot.q));
    let unordered = || {
        let pairs = knots.windows(2);
        pairs
            .into_iter()
            .position(|pair| pair[0].p >= pair[1].p || pair[0].q > pair[1].q)
            .map(|i| i + 1)
    };
    match bad.or_else(unordered) {
        None => Ok(()),
        Some(index) => Err(Error::BadEntry {
            what: "knots",
            index,
            range: "in [0, 1] and ascending",
            value: knots[index].p,
        }),
    }
}

fn interpolate(knots: &[Knot], p: f64) -> f64 {
    let next = knots.partition_point(|knot| knot.p < p);
    match (next.checked_sub(1).and_then(|i| knots.get(i)), knots.get(next)) {
        (Some(before), Some(after)) => {
            let along = (p - before.p) / (after.p - before.p);
            (before.q + along * (after.q - before.q)).clamp(before.q, after.q)
        }
        (None, Some(only)) | (Some(only), None) => only.q,
        // No map has no knots.
        (None, None) => p,
    }
}

pub(super) fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 {
        1.0 / (1.0 + (-z).exp())
    } else {
        z.exp() / (1.0 + z.exp())
    }
}

/// `ln p` and `ln(1 - p)` of a forecast clipped to `[eps, 1 - eps]`.
pub(super) fn logs(p: f64, eps: f64) -> (f64, f64) {
    // Each side by its own number, so that an eps below the spacing of floats at 1 still holds.
    (
        p.max(eps).ln().min((-eps).ln_1p()),
        (-p).ln_1p().max(eps.ln()).min((-eps).ln_1p()),
    )
}

/// The log-odds of a forecast clipped to `[eps, 1 - eps]`.
pub(super) fn logit(p: f64, eps: f64) -> f64 {
    let (ln_p, ln_rest) = logs(p, eps);
    ln_p - ln_rest
}
