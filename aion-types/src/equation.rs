//! The persistence equation: `R = Psi (P eta) / (omega E (1 + D + Gamma)) Phi`.
//!
//! A pattern persists while `R >= 1`. See `docs/math/persistence.md`.

use serde::{Deserialize, Serialize};

use crate::error::check;
use crate::{Error, Result};

/// The terms of the persistence equation; all neutral (`R = 1`) until set.
///
/// ```
/// use aion_types::Factors;
///
/// let factors = Factors::new()
///     .with_power_income(2.0)?
///     .with_coupling_efficiency(0.8)?
///     .with_delusion(0.25)?
///     .with_fatigue(0.15)?
///     .with_shelter(0.95)?
///     .with_substrate(0.9)?;
/// assert!((factors.ratio() - 0.977_142_9).abs() < 1e-7);
/// assert!((factors.attribution().ln_ratio() - -0.023_122_4).abs() < 1e-7);
/// # Ok::<(), aion_types::Error>(())
/// ```
///
/// # Sources
/// `docs/math/persistence.md`, the persistence equation (given).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawFactors")]
pub struct Factors {
    power_income: f64,
    coupling_efficiency: f64,
    entropic_tax: f64,
    delusion: f64,
    fatigue: f64,
    substrate: f64,
    shelter: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFactors {
    power_income: f64,
    coupling_efficiency: f64,
    entropic_tax: f64,
    delusion: f64,
    fatigue: f64,
    substrate: f64,
    shelter: f64,
}

impl TryFrom<RawFactors> for Factors {
    type Error = Error;

    fn try_from(raw: RawFactors) -> Result<Self> {
        Self::new()
            .with_power_income(raw.power_income)?
            .with_coupling_efficiency(raw.coupling_efficiency)?
            .with_entropic_tax(raw.entropic_tax)?
            .with_delusion(raw.delusion)?
            .with_fatigue(raw.fatigue)?
            .with_substrate(raw.substrate)?
            .with_shelter(raw.shelter)
    }
}

impl Default for Factors {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! factor {
    ($(#[$doc:meta])* $field:ident, $with:ident, $what:literal, $range:literal, $ok:expr) => {
        $(#[$doc])*
        pub const fn $field(&self) -> f64 {
            self.$field
        }

        /// Sets this term.
        ///
        /// # Errors
        /// [`Error::OutOfRange`] outside its range.
        pub fn $with(mut self, value: f64) -> Result<Self> {
            let ok: fn(f64) -> bool = $ok;
            self.$field = check($what, $range, value, value.is_finite() && ok(value))?;
            Ok(self)
        }
    };
}

impl Factors {
    /// Every term neutral: `R = 1`.
    pub const fn new() -> Self {
        Self {
            power_income: 1.0,
            coupling_efficiency: 1.0,
            entropic_tax: 1.0,
            delusion: 0.0,
            fatigue: 0.0,
            substrate: 1.0,
            shelter: 1.0,
        }
    }

    factor! {
        /// `P_in`: what comes in before losses, at least 0.
        power_income, with_power_income, "power income", "finite and at least 0", |x| x >= 0.0
    }
    factor! {
        /// `eta`: the share of the income that becomes upkeep, in `[0, 1]`.
        coupling_efficiency, with_coupling_efficiency, "coupling efficiency", "in [0, 1]", |x| (0.0..=1.0).contains(&x)
    }
    factor! {
        /// `omega E`: structural complexity times noise floor, above 0.
        entropic_tax, with_entropic_tax, "entropic tax", "finite and above 0", |x| x > 0.0
    }
    factor! {
        /// `D_KL`: divergence of the model from resolved reality in nats, at least 0.
        delusion, with_delusion, "delusion", "finite and at least 0", |x| x >= 0.0
    }
    factor! {
        /// `Gamma`: backlog of unresolved damage and obligations, at least 0.
        fatigue, with_fatigue, "fatigue", "finite and at least 0", |x| x >= 0.0
    }
    factor! {
        /// `Phi`: integrity of the parts below, in `[0, 1]`.
        substrate, with_substrate, "substrate", "in [0, 1]", |x| (0.0..=1.0).contains(&x)
    }
    factor! {
        /// `Psi`: protection from above, in `(0, 1]`; larger is better.
        shelter, with_shelter, "shelter", "in (0, 1]", |x| x > 0.0 && x <= 1.0
    }

    /// The persistence ratio `R`, at least 0.
    pub fn ratio(&self) -> f64 {
        let upkeep = self.power_income * self.coupling_efficiency;
        let burden = self.entropic_tax * (1.0 + self.delusion + self.fatigue);
        self.shelter * upkeep / burden * self.substrate
    }

    /// What each term adds to `ln R`.
    pub fn attribution(&self) -> Attribution {
        let load = self.delusion + self.fatigue;
        let burden = -load.ln_1p();
        let share = if load > 0.0 { self.delusion / load } else { 0.0 };
        Attribution {
            power_income: self.power_income.ln(),
            coupling_efficiency: self.coupling_efficiency.ln(),
            entropic_tax: -self.entropic_tax.ln(),
            delusion: burden * share,
            fatigue: burden * (1.0 - share),
            substrate: self.substrate.ln(),
            shelter: self.shelter.ln(),
        }
    }
}

/// The part of `ln R` that each term is answerable for, in nats; the parts sum to `ln R`.
///
/// Delusion and fatigue share `-ln(1 + D + Gamma)` in proportion to their size (ours: the
/// equation adds them before the logarithm, so any split is a convention; this one is continuous
/// and gives nothing to a term that is 0).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Attribution {
    /// `ln P_in`; minus infinity at 0.
    pub power_income: f64,
    /// `ln eta`; minus infinity at 0.
    pub coupling_efficiency: f64,
    /// `-ln(omega E)`
    pub entropic_tax: f64,
    /// Its share of `-ln(1 + D + Gamma)`.
    pub delusion: f64,
    /// Its share of `-ln(1 + D + Gamma)`.
    pub fatigue: f64,
    /// `ln Phi`; minus infinity at 0.
    pub substrate: f64,
    /// `ln Psi`
    pub shelter: f64,
}

impl Attribution {
    /// The sum of the parts: `ln R`.
    pub fn ln_ratio(&self) -> f64 {
        self.terms().iter().map(|(_, part)| part).sum()
    }

    /// The parts with their names, in the order of the equation.
    pub fn terms(&self) -> [(&'static str, f64); 7] {
        [
            ("power_income", self.power_income),
            ("coupling_efficiency", self.coupling_efficiency),
            ("entropic_tax", self.entropic_tax),
            ("delusion", self.delusion),
            ("fatigue", self.fatigue),
            ("substrate", self.substrate),
            ("shelter", self.shelter),
        ]
    }
}

/// How parts make up a whole: never an average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Composition {
    /// Every part is needed: the weakest decides.
    #[default]
    Series,
    /// Any part is enough: `1 - prod(1 - c)`.
    Parallel,
    /// `k` parts are needed.
    KOfN {
        /// How many of the parts are needed, at least 1.
        k: usize,
    },
}

impl Composition {
    /// The substrate integrity `Phi` in `[0, 1]` of parts with these ratios, each clipped to
    /// `[0, 1]`; 1 without parts.
    ///
    /// `KOfN` (ours): with the parts from best to worst, the `k - 1` best are taken as needed and
    /// the others stand in for one another in the last place: `1 - prod(1 - c)` over the parts
    /// from the `k`-th on. So 1 of n is parallel, n of n is series, and more needed is never better.
    ///
    /// ```
    /// use aion_types::Composition::{KOfN, Parallel, Series};
    ///
    /// let parts = [0.5, 2.0, 0.8];
    /// assert_eq!(Series.integrity(&parts)?, 0.5);
    /// assert_eq!(Parallel.integrity(&parts)?, 1.0);
    /// assert_eq!(KOfN { k: 2 }.integrity(&parts)?, 0.9);
    /// # Ok::<(), aion_types::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a ratio that is negative or NaN, or for `k` of 0 or above n.
    pub fn integrity(self, ratios: &[f64]) -> Result<f64> {
        let mut clipped = Vec::with_capacity(ratios.len());
        for ratio in ratios {
            clipped.push(check("a part's ratio", "at least 0", *ratio, *ratio >= 0.0)?.min(1.0));
        }
        clipped.sort_by(|a, b| b.total_cmp(a));
        if clipped.is_empty() {
            return Ok(1.0);
        }
        let first = match self {
            Self::Series => clipped.len() - 1,
            Self::Parallel => 0,
            Self::KOfN { k } => {
                check(
                    "k",
                    "from 1 to the number of parts",
                    k as f64,
                    (1..=clipped.len()).contains(&k),
                )?;
                k - 1
            }
        };
        // One part alone stands for itself: 1 - (1 - c) would round.
        Ok(match &clipped[first..] {
            [only] => *only,
            rest => 1.0 - rest.iter().map(|c| 1.0 - c).product::<f64>(),
        })
    }
}

/// How long a pattern lasts.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub enum Lifetime {
    /// It falls apart after this many seconds.
    Seconds(f64),
    /// It persists.
    Unbounded,
}

impl Lifetime {
    /// `reservoir / (required_power (1 - R)) e^-D` for `R < 1`, unbounded otherwise.
    ///
    /// `reservoir` is a stock, `required_power` the same per second, `delusion` a sustained
    /// divergence in nats.
    ///
    /// ```
    /// use aion_types::Lifetime;
    ///
    /// assert_eq!(Lifetime::of(1000.0, 10.0, 0.75, 0.0)?, Lifetime::Seconds(400.0));
    /// assert_eq!(Lifetime::of(1000.0, 10.0, 1.0, 0.0)?, Lifetime::Unbounded);
    /// # Ok::<(), aion_types::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a negative reservoir, ratio or delusion, or a required power
    /// that is not above 0.
    pub fn of(reservoir: f64, required_power: f64, ratio: f64, delusion: f64) -> Result<Self> {
        check(
            "a reservoir",
            "finite and at least 0",
            reservoir,
            reservoir.is_finite() && reservoir >= 0.0,
        )?;
        check(
            "a required power",
            "finite and above 0",
            required_power,
            required_power.is_finite() && required_power > 0.0,
        )?;
        check("a persistence ratio", "at least 0", ratio, ratio >= 0.0)?;
        check("delusion", "at least 0", delusion, delusion >= 0.0)?;
        if ratio >= 1.0 {
            return Ok(Self::Unbounded);
        }
        Ok(Self::Seconds(
            reservoir / (required_power * (1.0 - ratio)) * (-delusion).exp(),
        ))
    }
}
