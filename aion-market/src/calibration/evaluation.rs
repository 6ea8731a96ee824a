//! What a calibrator is worth on rows that it has not seen.

use serde::Serialize;

use super::calibrator::Calibrator;
use super::examples::Examples;
use super::recipe::Recipe;
use crate::Result;
use crate::error::check;
use crate::predict::splitmix64;
use crate::reliability::Reliability;

/// The bins of the calibration error in an [`Evaluation`].
const BINS: usize = 10;

/// How well forecasts matched what happened.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Losses {
    /// Mean log loss, in bits.
    pub log_bits: f64,
    /// Mean one-sided Brier score.
    pub brier: f64,
    /// Expected calibration error over ten bins of equal width, rows unweighted.
    pub ece: f64,
}

/// Forecasts before and after a calibrator, on rows that it was not fitted on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// How many rows.
    pub rows: u64,
    /// The forecasts as they were.
    pub before: Losses,
    /// The calibrated forecasts.
    pub after: Losses,
}

impl Losses {
    /// The losses of the forecasts of some rows.
    ///
    /// ```
    /// use aion_market::calibration::{Examples, Losses};
    ///
    /// let losses = Losses::of(&Examples::new(&[0.5, 0.5], &[1.0, 0.0])?)?;
    /// assert_eq!((losses.log_bits, losses.brier, losses.ece), (1.0, 0.25, 0.0));
    /// # Ok::<(), aion_market::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error`] never: the examples were checked when they were made.
    pub fn of(examples: &Examples<'_>) -> Result<Self> {
        Ok(Self {
            log_bits: examples.mean(log_loss) / std::f64::consts::LN_2,
            brier: examples.mean(|p, o| (p - o).powi(2)),
            ece: Reliability::of(examples.p, examples.o, BINS)?.ece(),
        })
    }
}

impl Calibrator {
    /// Losses before and after, on rows that this was not fitted on.
    ///
    /// # Errors
    /// [`crate::Error::TrainedOn`] with the first row that it was fitted on: by its name if rows have names,
    /// and for exactly the same set of rows in any case.
    pub fn evaluate(&self, examples: &Examples<'_>) -> Result<Evaluation> {
        self.check_unseen(examples)?;
        let mut calibrated = vec![0.0; examples.len()];
        self.apply_into(examples.p, &mut calibrated)?;
        let after = Examples {
            p: &calibrated,
            ..examples.clone()
        };
        Ok(Evaluation {
            rows: examples.len() as u64,
            before: Losses::of(examples)?,
            after: Losses::of(&after)?,
        })
    }
}

/// `-o ln p - (1 - o) ln(1 - p)`, where what has no share does not count.
fn log_loss(p: f64, o: f64) -> f64 {
    let term = |share: f64, ln: f64| if share == 0.0 { 0.0 } else { -share * ln };
    term(o, p.ln()) + term(1.0 - o, (-p).ln_1p())
}

/// Into how many parts rows are dealt, and in which order: shuffled by the seed, so that a pattern in
/// the order of the rows is no pattern of the folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folds {
    count: usize,
    seed: u64,
}

impl Folds {
    /// So many folds, dealt after a shuffle by this seed; the same seed gives the same folds.
    pub const fn new(count: usize, seed: u64) -> Self {
        Self { count, seed }
    }
}

/// Calibrates every row by a fit on the other folds: rows are shuffled and dealt to the folds in turn,
/// rows of one name into the same fold.
///
/// ```
/// use aion_market::calibration::{Examples, Folds, Method, Recipe, out_of_fold};
///
/// let (p, o) = ([[0.9; 10], [0.1; 10]].concat(), [[1.0; 6].as_slice(), &[0.0; 4], &[1.0; 4], &[0.0; 6]].concat());
/// let honest = out_of_fold(Recipe::new(Method::Platt), &Examples::new(&p, &o)?, Folds::new(5, 1))?;
/// // Each 0.9 comes down towards the six in ten that happened, by what the other rows show.
/// assert!(honest[..10].iter().all(|q| (0.3..0.8).contains(q)));
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error`] for fewer than two folds, or more than there are rows or names.
pub fn out_of_fold(recipe: Recipe, examples: &Examples<'_>, folds: Folds) -> Result<Vec<f64>> {
    let fold_of = deal(examples, folds)?;
    let mut calibrated = vec![0.0; examples.len()];
    for fold in 0..folds.count {
        let rows = || (0..examples.len()).filter(|i| fold_of[*i] != fold);
        let pick = |of: &[f64]| -> Vec<f64> { rows().filter_map(|i| of.get(i).copied()).collect() };
        let (p, o, weights) = (pick(examples.p), pick(examples.o), pick(examples.weights));
        let others = Examples {
            weights: &weights,
            ..Examples::new(&p, &o)?
        };
        let fit = Calibrator::fit(recipe, &others)?;
        for i in (0..examples.len()).filter(|i| fold_of[*i] == fold) {
            calibrated[i] = fit.apply(examples.p[i])?;
        }
    }
    Ok(calibrated)
}

fn deal(examples: &Examples<'_>, folds: Folds) -> Result<Vec<usize>> {
    let mut known = std::collections::HashMap::new();
    let groups: Vec<usize> = (0..examples.len())
        .map(|i| match examples.keys.get(i) {
            None => i,
            Some(key) => {
                let next = known.len();
                *known.entry(*key).or_insert(next)
            }
        })
        .collect();
    let most = groups.iter().max().map_or(0, |last| last + 1);
    check(
        "folds",
        "between 2 and the number of rows or names",
        folds.count as f64,
        (2..=most).contains(&folds.count),
    )?;
    let places = shuffled(most, folds.seed);
    Ok(groups.iter().map(|group| places[*group] % folds.count).collect())
}

/// `0..n` in an order drawn by the seed (Fisher and Yates).
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut places: Vec<usize> = (0..n).collect();
    let mut state = splitmix64(seed);
    for last in (1..n).rev() {
        state = splitmix64(state);
        let draw = (u128::from(state) * (last as u128 + 1)) >> 64;
        places.swap(last, draw as usize);
    }
    places
}
