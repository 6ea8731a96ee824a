//! How strong the ridge should be: what forecast the later rows best from the earlier ones.

use super::fit::LogisticOptions;
use super::model::{LogisticModel, TrainingRow};
use crate::Result;

/// The strengths that are tried.
const STRENGTHS: [f64; 8] = [1_000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3];
/// Into how many parts in time the rows are cut.
const PARTS: usize = 5;
/// Below this many rows nothing can be told apart.
const MIN_ROWS: usize = 20;

/// How the ridge of a model is set.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Ridge {
    /// By [`choose_ridge`] on the training rows.
    #[default]
    Chosen,
    /// This one.
    Fixed(f64),
}

/// The ridge that the rows speak for: the mean of `ln ridge` over eight strengths from 0.3 to 1,000, each
/// weighted by `exp(-loss)` with the loss, in nats, of models fitted on the first parts of the rows on the
/// next part; 30 below 20 rows. Rows must be in the order of time.
///
/// The mean of a posterior rather than its best strength (ours): where few rows can hardly tell the
/// strengths apart, one more row should not move the choice far. A task that is in an earlier part is left
/// out of a later one: a model never scores its own.
///
/// # Errors
/// Those of [`LogisticModel::fit`].
///
/// # Sources
/// A. P. Dawid, Present position and potential developments: the prequential approach, 1984.
pub fn choose_ridge(rows: &[TrainingRow], options: &LogisticOptions) -> Result<f64> {
    if rows.len() < MIN_ROWS {
        return Ok(30.0);
    }
    let mut losses = Vec::new();
    for strength in STRENGTHS {
        losses.push(forward_loss(rows, &options.clone().with_ridge(strength))?);
    }
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let (mut sum, mut weight) = (0.0, 0.0);
    for (strength, loss) in STRENGTHS.iter().zip(&losses) {
        let share = (least - loss).exp();
        sum += share * strength.ln();
        weight += share;
    }
    Ok((sum / weight).exp())
}

/// What the rows of the later parts lost, in nats.
fn forward_loss(rows: &[TrainingRow], options: &LogisticOptions) -> Result<f64> {
    let mut nats = 0.0;
    for part in 1..PARTS {
        let (from, to) = (rows.len() * part / PARTS, rows.len() * (part + 1) / PARTS);
        let model = LogisticModel::fit(&rows[..from], options)?;
        for row in &rows[from..to] {
            let Ok(p) = model.predict(row.id, &row.features) else {
                continue;
            };
            let p = p.get().clamp(1e-12, 1.0 - 1e-12);
            nats -= row.weight * (row.success * p.ln() + (1.0 - row.success) * (-p).ln_1p());
        }
    }
    Ok(nats)
}
