//! How probable a completion is to be right, learned from completions that were.

use std::io::Write as _;
use std::path::Path;

use aion_types::{Calibration, FitOptions, Reference};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest file of a calibration.
const MAX_FILE_BYTES: u64 = 4096;

/// A calibration as it lies beside a checkpoint: `p = sigmoid(a ln R + c)`, for the harmonic mean `R` of completions
/// whose surprise was measured against one reference.
///
/// ```
/// use aion_llm::FittedCalibration;
/// use aion_types::Reference;
/// // Whether it was right, of completions by their `R_harm`: the ratio tells, but promises too much.
/// let pairs = [(6.0, 1.0), (6.0, 1.0), (6.0, 0.0), (0.5, 0.0), (0.5, 0.0), (0.5, 1.0)];
/// let fitted = FittedCalibration::fit(&pairs, Reference::Unigram)?;
/// assert!(fitted.calibration().prob(6.0)?.get() < 6.0 / 7.0);
/// assert!(fitted.calibration().prob(6.0)? > fitted.calibration().prob(0.5)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedCalibration {
    a: f64,
    c: f64,
    reference: Reference,
    n: usize,
    bits_before: f64,
    bits_after: f64,
}

impl FittedCalibration {
    /// Fits a calibration to pairs of `R_harm` and outcome (0 to 1) by logistic regression on `ln R`, held to
    /// `a = 1, c = 0` where there are few.
    ///
    /// # Errors
    /// [`Error::Request`] for a ratio that is not finite and above 0, or an outcome outside 0 to 1.
    pub fn fit(pairs: &[(f64, f64)], reference: Reference) -> Result<Self> {
        let (ln_ratios, outcomes): (Vec<f64>, Vec<f64>) =
            pairs.iter().map(|(ratio, t)| (ratio.ln(), *t)).unzip();
        let fit = Calibration::fit(&ln_ratios, &outcomes, FitOptions::default());
        let fit = fit.map_err(|error| Error::Request {
            field: "pairs",
            reason: error.to_string(),
        })?;
        Ok(Self {
            a: fit.calibration.a,
            c: fit.calibration.c,
            reference,
            n: fit.n,
            bits_before: fit.bits_before,
            bits_after: fit.bits_after,
        })
    }

    /// What turns a ratio into a probability.
    #[must_use]
    pub fn calibration(&self) -> Calibration {
        Calibration { a: self.a, c: self.c }
    }

    /// What the ratios were measured against; no other ratios are meant.
    #[must_use]
    pub fn reference(&self) -> Reference {
        self.reference
    }

    /// How many pairs it has seen.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.n
    }

    /// Mean log loss of the pairs by the odds link and by this calibration, in bits.
    #[must_use]
    pub fn bits(&self) -> (f64, f64) {
        (self.bits_before, self.bits_after)
    }

    /// Reads a file that [`FittedCalibration::write`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Config`] when it is not such a file.
    pub fn read(path: &Path) -> Result<Self> {
        let len = std::fs::metadata(path).map_err(Error::io(path))?.len();
        if len > MAX_FILE_BYTES {
            let reason = format!("a calibration of {len} bytes, the limit is {MAX_FILE_BYTES}");
            return Err(Error::Config(reason));
        }
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        serde_json::from_str(&text).map_err(|error| Error::Config(format!("calibration: {error}")))
    }

    /// Writes it as `{"a": .., "c": .., "reference": .., ...}`, in one step.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self).map_err(|error| Error::Config(error.to_string()))?;
        let mut file = crate::fresh_file::FreshFile::create(path)?;
        file.write_all(text.as_bytes()).map_err(Error::io(path))?;
        file.replace()
    }

    /// The calibration of a file, if there is one and it is meant for this reference; else the odds link.
    pub(crate) fn of(path: Option<&Path>, reference: Reference) -> Result<Calibration> {
        let fitted = path.filter(|path| path.exists()).map(Self::read).transpose()?;
        let meant = fitted.filter(|fitted| fitted.reference == reference);
        Ok(meant.map(|fitted| fitted.calibration()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calibration_survives_its_file_and_is_meant_for_one_reference() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("calibration.json");
        let none = FittedCalibration::of(Some(&path), Reference::Uniform).unwrap();
        assert_eq!(none, Calibration::default());
        let pairs = [(4.0, 1.0), (4.0, 0.0), (0.5, 0.0)];
        let fitted = FittedCalibration::fit(&pairs, Reference::Uniform).unwrap();
        fitted.write(&path).unwrap();
        assert_eq!(FittedCalibration::read(&path).unwrap(), fitted);
        assert_eq!((fitted.pairs(), fitted.reference()), (3, Reference::Uniform));
        assert!(fitted.bits().1 <= fitted.bits().0);
        let of = |reference| FittedCalibration::of(Some(&path), reference).unwrap();
        assert_eq!(of(Reference::Uniform), fitted.calibration());
        assert_eq!(of(Reference::Entropy), Calibration::default());
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(FittedCalibration::read(&path), Err(Error::Config(_))));
        std::fs::write(&path, " ".repeat(5000)).unwrap();
        assert!(matches!(FittedCalibration::read(&path), Err(Error::Config(_))));
    }

    #[test]
    fn pairs_that_cannot_be_are_refused() {
        for pair in [
            (0.0, 1.0),
            (-1.0, 1.0),
            (f64::NAN, 1.0),
            (f64::INFINITY, 1.0),
            (2.0, 1.1),
            (2.0, f64::NAN),
        ] {
            let fitted = FittedCalibration::fit(&[pair], Reference::Uniform);
            assert!(
                matches!(fitted, Err(Error::Request { field: "pairs", .. })),
                "{pair:?}"
            );
        }
        let none = FittedCalibration::fit(&[], Reference::Uniform).unwrap();
        assert_eq!(none.calibration(), Calibration::default());
    }
}
