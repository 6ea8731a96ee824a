//! Persistence of every token of a language model, and its summary over a sequence.
//!
//! `R_t = Psi Phi (1 + h_t) / (1 + s_t + Gamma_t)`: the surprise `s_t = -ln p(y_t)` from the raw
//! logits against the code length `h_t` of the same token under a reference. See
//! `docs/math/persistence.md`.

use serde::{Deserialize, Serialize};

use crate::error::check;
use crate::{Calibration, Prob, Result};

/// What a token's surprise is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// `ln V` for a vocabulary of `V` tokens.
    #[default]
    Uniform,
    /// `-ln u(y)` from counts stored with the checkpoint.
    Unigram,
    /// The entropy of the model's own prediction: a pure meter of delusion.
    Entropy,
    /// `-ln p_ref(y)` of a frozen checkpoint: an alarm against forgetting.
    Teacher,
}

/// What surrounds the model while it writes; all neutral by default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Surroundings {
    /// `Psi` in `(0, 1]`.
    pub shelter: f64,
    /// `Phi` in `[0, 1]`.
    pub substrate: f64,
    /// `Gamma_t`, at least 0.
    pub fatigue: f64,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            shelter: 1.0,
            substrate: 1.0,
            fatigue: 0.0,
        }
    }
}

/// One token: its surprise, its reference code length and the ratio of the two.
///
/// ```
/// use aion_types::TokenPersistence;
///
/// let uniform = 32_768_f64.ln();
/// let token = TokenPersistence::new(-0.9_f64.ln(), uniform)?;
/// assert!((token.ratio - 10.310_851).abs() < 1e-6);
/// # Ok::<(), aion_types::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TokenPersistence {
    /// `s_t = -ln p(y_t)` in nats, at temperature 1 and before any filter.
    pub surprise: f64,
    /// `h_t` in nats.
    pub reference: f64,
    /// `R_t`
    pub ratio: f64,
}

impl TokenPersistence {
    /// The ratio in neutral surroundings: `(1 + h) / (1 + s)`.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] if the surprise or the reference is negative or not finite.
    pub fn new(surprise: f64, reference: f64) -> Result<Self> {
        Self::within(surprise, reference, Surroundings::default())
    }

    /// The ratio `Psi Phi (1 + h) / (1 + s + Gamma)`.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] if a term lies outside its range.
    pub fn within(surprise: f64, reference: f64, around: Surroundings) -> Result<Self> {
        let Surroundings {
            shelter,
            substrate,
            fatigue,
        } = around;
        check(
            "surprise",
            "finite and at least 0",
            surprise,
            surprise.is_finite() && surprise >= 0.0,
        )?;
        check(
            "a reference code length",
            "finite and at least 0",
            reference,
            reference.is_finite() && reference >= 0.0,
        )?;
        check("shelter", "in (0, 1]", shelter, shelter > 0.0 && shelter <= 1.0)?;
        check(
            "substrate",
            "in [0, 1]",
            substrate,
            (0.0..=1.0).contains(&substrate),
        )?;
        check(
            "fatigue",
            "finite and at least 0",
            fatigue,
            fatigue.is_finite() && fatigue >= 0.0,
        )?;
        let ratio = shelter * substrate * (1.0 + reference) / (1.0 + surprise + fatigue);
        Ok(Self {
            surprise,
            reference,
            ratio,
        })
    }
}

/// The persistence of a sequence of tokens: `usage.persistence`.
///
/// ```
/// use aion_types::{PersistenceSummary, Reference, TokenPersistence};
///
/// let ratios = [0.2, 1.0, 3.0, 0.5].map(|s| TokenPersistence::new(s, 65_f64.ln()).unwrap().ratio);
/// let summary = PersistenceSummary::of(&ratios, Reference::Uniform)?.unwrap();
/// assert!((summary.r_mean - 2.910_593).abs() < 1e-6);
/// assert!((summary.r_harm - 2.379_029).abs() < 1e-6);
/// assert_eq!(summary.r_min_token_idx, 2);
/// # Ok::<(), aion_types::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PersistenceSummary {
    /// Arithmetic mean.
    #[serde(rename = "R_mean")]
    pub r_mean: f64,
    /// Smallest ratio.
    #[serde(rename = "R_min")]
    pub r_min: f64,
    /// Population variance.
    #[serde(rename = "R_var")]
    pub r_var: f64,
    /// Where the smallest ratio stands first, counted from 0 in the completion.
    #[serde(rename = "R_min_token_idx")]
    pub r_min_token_idx: u64,
    /// Harmonic mean: what task priors use, since the mean is dominated by easy tokens.
    #[serde(rename = "R_harm")]
    pub r_harm: f64,
    /// Geometric mean.
    #[serde(rename = "R_geo")]
    pub r_geo: f64,
    /// Share of the tokens with a ratio below 1.
    pub frac_below_1: f64,
    /// What the surprise was measured against.
    pub reference: Reference,
    /// Number of tokens.
    pub n: u64,
    /// The probability that `calibration` gives `R_harm`; absent where nobody asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<Prob>,
    /// What `p` was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

impl PersistenceSummary {
    /// The same with `p`: what the calibration makes of the harmonic mean. One whose numbers are not finite gives none.
    ///
    /// ```
    /// use aion_types::{Calibration, PersistenceSummary, Reference};
    ///
    /// let summary = PersistenceSummary::of(&[3.0, 3.0], Reference::Uniform)?.unwrap();
    /// let summary = summary.calibrated(Calibration { a: 1.0, c: 0.0 });
    /// assert_eq!(summary.p.unwrap().get(), 0.75);
    /// # Ok::<(), aion_types::Error>(())
    /// ```
    #[must_use]
    pub fn calibrated(mut self, calibration: Calibration) -> Self {
        self.p = calibration.prob(self.r_harm).ok();
        self.calibration = self.p.map(|_| calibration);
        self
    }

    /// The summary of these ratios; `None` of an empty sequence.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] if a ratio is not finite and above 0.
    pub fn of(ratios: &[f64], reference: Reference) -> Result<Option<Self>> {
        let mut meter = PersistenceMeter::new(reference);
        for ratio in ratios {
            meter.push(*ratio)?;
        }
        Ok(meter.summary())
    }
}

/// Sums up ratios one token at a time, in constant space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PersistenceMeter {
    reference: Reference,
    n: u64,
    mean: f64,
    squares: f64,
    min: f64,
    min_idx: u64,
    inverse_sum: f64,
    log_sum: f64,
    below_1: u64,
}

impl PersistenceMeter {
    /// A meter that has seen no token.
    pub const fn new(reference: Reference) -> Self {
        Self {
            reference,
            n: 0,
            mean: 0.0,
            squares: 0.0,
            min: f64::INFINITY,
            min_idx: 0,
            inverse_sum: 0.0,
            log_sum: 0.0,
            below_1: 0,
        }
    }

    /// Adds the ratio of the next token.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] if it is not finite and above 0.
    pub fn push(&mut self, ratio: f64) -> Result<()> {
        check(
            "a token's ratio",
            "finite and above 0",
            ratio,
            ratio.is_finite() && ratio > 0.0,
        )?;
        if ratio < self.min {
            (self.min, self.min_idx) = (ratio, self.n);
        }
        self.n += 1;
        // Welford's recurrence: stable for long sequences.
        let step = ratio - self.mean;
        self.mean += step / self.n as f64;
        self.squares += step * (ratio - self.mean);
        self.inverse_sum += ratio.recip();
        self.log_sum += ratio.ln();
        self.below_1 += u64::from(ratio < 1.0);
        Ok(())
    }

    /// The summary so far; `None` before the first token.
    pub fn summary(&self) -> Option<PersistenceSummary> {
        let n = self.n as f64;
        (self.n > 0).then(|| PersistenceSummary {
            r_mean: self.mean,
            r_min: self.min,
            r_var: self.squares / n,
            r_min_token_idx: self.min_idx,
            r_harm: n / self.inverse_sum,
            r_geo: (self.log_sum / n).exp(),
            frac_below_1: self.below_1 as f64 / n,
            reference: self.reference,
            n: self.n,
            p: None,
            calibration: None,
        })
    }
}
