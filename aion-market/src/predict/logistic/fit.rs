//! The fit: Newton's method with halved steps on the penalised log loss.

use super::cholesky::Cholesky;
use super::step::{Pass, Rows};
use crate::Result;
use crate::error::{Error, check, check_entries, check_len};

/// A subset of this many rows is solved first where there are many more.
const HEAD_START_ROWS: usize = 4_096;
/// From how many rows on that pays.
const HEAD_START_FROM: usize = 8 * HEAD_START_ROWS;
/// The most columns: the Hessian is dense.
const MAX_COLUMNS: usize = 1_024;
/// The squared Newton decrement at which one more step leaves nothing to gain, for few rows: `1e-9` says
/// that the point is `3e-5` standard errors away before the step. Standard errors shrink with the rows, so
/// the limit grows by as much for every 100 of them.
const DECREMENT: f64 = 1e-9;

/// Newton's method has settled by then wherever there is a minimum.
const STEPS_OF_A_MINIMUM: usize = 15;

/// How much the two classes count.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum ClassWeights {
    /// Every row counts once: probabilities come out calibrated.
    #[default]
    Equal,
    /// `n / (2 n_class)`: both classes count the same, as scikit-learn's `balanced`.
    Balanced,
    /// These weights.
    Given {
        /// Of a row whose outcome is 0.
        failed: f64,
        /// Of a row whose outcome is 1.
        success: f64,
    },
}

/// How [`fit`] goes about it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LogisticOptions {
    pub(super) ridge: f64,
    pub(super) class_weights: ClassWeights,
    pub(super) max_steps: usize,
    pub(super) prior: Vec<f64>,
}

impl Default for LogisticOptions {
    /// A ridge of 1 towards 0, equal classes, at most 100 steps.
    fn default() -> Self {
        Self {
            ridge: 1.0,
            class_weights: ClassWeights::Equal,
            max_steps: 100,
            prior: Vec::new(),
        }
    }
}

impl LogisticOptions {
    /// Sets the strength of the pull, `1/C` of scikit-learn; 0 is plain maximum likelihood.
    #[must_use]
    pub const fn with_ridge(mut self, ridge: f64) -> Self {
        self.ridge = ridge;
        self
    }

    /// Sets how much the classes count.
    #[must_use]
    pub const fn with_class_weights(mut self, weights: ClassWeights) -> Self {
        self.class_weights = weights;
        self
    }

    /// Sets where the ridge pulls to, one entry a column; empty for 0.
    #[must_use]
    pub fn with_prior(mut self, coefficients: Vec<f64>) -> Self {
        self.prior = coefficients;
        self
    }

    /// Sets the most Newton steps.
    #[must_use]
    pub const fn with_max_steps(mut self, steps: usize) -> Self {
        self.max_steps = steps;
        self
    }
}

/// Where a fit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FitStatus {
    /// At the minimum.
    Converged,
    /// A plane parts the classes and nothing holds the coefficients: there is no minimum, the larger the
    /// better. The coefficients are those of the step at which this showed.
    Separated,
    /// At the most steps.
    StepLimit,
}

/// A fitted logistic regression.
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticFit {
    /// `[d + 1]`, the intercept last.
    pub coefficients: Vec<f64>,
    /// The Hessian of the penalised loss, `[d + 1, d + 1]`: the precision of the coefficients.
    pub precision: Vec<f64>,
    /// The log loss in nats, weighted, without the penalty.
    pub loss_nats: f64,
    /// Newton steps over all rows.
    pub steps: usize,
    /// Where it ended.
    pub status: FitStatus,
}

impl LogisticFit {
    /// The log-odds of a row.
    ///
    /// # Errors
    /// [`Error::Shape`] for a row of another length.
    pub fn logit(&self, row: &[f64]) -> Result<f64> {
        check_len("a row", row.len(), self.coefficients.len() - 1)?;
        Ok(dot(&self.coefficients, row))
    }
}

/// `b . x + intercept`.
pub(super) fn dot(beta: &[f64], row: &[f64]) -> f64 {
    let slope: f64 = row.iter().zip(beta).map(|(x, b)| x * b).sum();
    slope + beta.last().copied().unwrap_or_default()
}

/// Fits `P(y = 1 | x) = sigmoid(b . x + c)` by minimising
/// `sum w (softplus(z) - y z) + ridge/2 |b - prior|^2`; the intercept is not pulled.
///
/// `x` is `[n, d]` row-major, `y` is `[n]` in `[0, 1]`. The numbers are those of scikit-learn with
/// `C = 1/ridge`; see `docs/math/predictors.md`.
///
/// ```
/// use aion_market::predict::logistic::{LogisticOptions, fit};
///
/// // Three of four succeed at x = 1, one of four at x = -1.
/// let x = [1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0];
/// let y = [1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0];
/// let fit = fit(&x, 1, &y, &LogisticOptions::default().with_ridge(0.0))?;
/// assert!((fit.coefficients[0] - 3.0_f64.ln()).abs() < 1e-9);
/// assert!(fit.coefficients[1].abs() < 1e-9);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] if there is no row, the shapes do not fit, an entry is not finite, an outcome is outside
/// `[0, 1]`, or the ridge or a class weight is negative or not finite.
pub fn fit(x: &[f64], columns: usize, y: &[f64], options: &LogisticOptions) -> Result<LogisticFit> {
    fit_weighted(x, columns, y, &[], options)
}

/// [`fit`] with a weight for every row; none for all the same.
///
/// # Errors
/// Those of [`fit`], and for a weight that is negative or not finite.
pub fn fit_weighted(
    x: &[f64],
    columns: usize,
    y: &[f64],
    row_weights: &[f64],
    options: &LogisticOptions,
) -> Result<LogisticFit> {
    check_problem(x, columns, y, options)?;
    let weight = weights(y, row_weights, options.class_weights)?;
    let rows = Rows {
        x,
        y,
        weight: &weight,
        columns,
    };
    let penalty = Penalty {
        ridge: options.ridge,
        prior: &options.prior,
    };
    let start = head_start(rows, penalty, options.max_steps);
    Ok(solve(rows, penalty, start, options.max_steps))
}

fn check_problem(x: &[f64], columns: usize, y: &[f64], options: &LogisticOptions) -> Result<()> {
    if y.is_empty() {
        return Err(Error::Shape {
            what: "rows",
            found: 0,
            expected: 1,
        });
    }
    if columns > MAX_COLUMNS {
        return Err(Error::LimitReached {
            what: "columns",
            limit: MAX_COLUMNS as u64,
        });
    }
    check_len("x", x.len(), y.len().saturating_mul(columns))?;
    check_all_finite(x)?;
    check_entries("outcomes", "in [0, 1]", y, |y| (0.0..=1.0).contains(&y))?;
    let ridge = options.ridge;
    check("a ridge", "finite and at least 0", ridge, {
        ridge.is_finite() && ridge >= 0.0
    })?;
    if !options.prior.is_empty() {
        check_len("a prior", options.prior.len(), columns)?;
        crate::error::check_finite("a prior", &options.prior)?;
    }
    Ok(())
}

/// Block by block, so that the compiler can look at several entries at once.
fn check_all_finite(x: &[f64]) -> Result<()> {
    let sound = |block: &[f64]| block.iter().fold(true, |ok, x| ok & x.is_finite());
    match x.chunks(1_024).all(sound) {
        true => Ok(()),
        false => crate::error::check_finite("x", x),
    }
}

fn weights(y: &[f64], row_weights: &[f64], classes: ClassWeights) -> Result<Vec<f64>> {
    let mut weight = if row_weights.is_empty() {
        vec![1.0; y.len()]
    } else {
        check_len("weights", row_weights.len(), y.len())?;
        row_weights.to_vec()
    };
    let (failed, success) = class_weights(y, &weight, classes);
    if (failed, success) != (1.0, 1.0) {
        for (weight, y) in weight.iter_mut().zip(y) {
            *weight *= failed + y * (success - failed);
        }
    }
    check_entries("weights", "finite and at least 0", &weight, |w| {
        w.is_finite() && w >= 0.0
    })?;
    let sum: f64 = weight.iter().sum();
    check("the sum of the weights", "finite and above 0", sum, {
        sum.is_finite() && sum > 0.0
    })?;
    Ok(weight)
}

/// The weights of both classes; an empty class keeps 1.
fn class_weights(y: &[f64], weight: &[f64], classes: ClassWeights) -> (f64, f64) {
    match classes {
        ClassWeights::Equal => (1.0, 1.0),
        ClassWeights::Given { failed, success } => (failed, success),
        ClassWeights::Balanced => {
            let all: f64 = weight.iter().sum();
            let success: f64 = y.iter().zip(weight).map(|(y, w)| y * w).sum();
            let of = |part: f64| if part > 0.0 { all / (2.0 * part) } else { 1.0 };
            (of(all - success), of(success))
        }
    }
}

/// `ridge/2 |b - prior|^2`, without the intercept.
#[derive(Debug, Clone, Copy)]
struct Penalty<'a> {
    ridge: f64,
    prior: &'a [f64],
}

impl Penalty<'_> {
    fn add(self, pass: &mut Pass, beta: &[f64]) -> f64 {
        let width = beta.len();
        let mut value = 0.0;
        for (j, coefficient) in beta.iter().enumerate().take(width - 1) {
            let off = coefficient - self.prior.get(j).copied().unwrap_or_default();
            value += 0.5 * self.ridge * off * off;
            pass.gradient[j] += self.ridge * off;
            pass.hessian[j * width + j] += self.ridge;
        }
        value
    }
}

/// The minimum over a subset of the rows: near enough that two or three passes over all of them do.
fn head_start(rows: Rows<'_>, penalty: Penalty<'_>, max_steps: usize) -> Vec<f64> {
    let mut start = vec![0.0; rows.columns + 1];
    start[..rows.columns.min(penalty.prior.len())].copy_from_slice(penalty.prior);
    let n = rows.y.len();
    if n < HEAD_START_FROM {
        return start;
    }
    let every = n / HEAD_START_ROWS;
    let d = rows.columns;
    let (mut x, mut y, mut weight) = (Vec::new(), Vec::new(), Vec::new());
    for i in (0..n).step_by(every) {
        x.extend_from_slice(&rows.x[i * d..(i + 1) * d]);
        y.push(rows.y[i]);
        weight.push(rows.weight[i]);
    }
    let some = Rows {
        x: &x,
        y: &y,
        weight: &weight,
        columns: d,
    };
    let penalty = Penalty {
        ridge: penalty.ridge / every as f64,
        ..penalty
    };
    let fit = solve(some, penalty, start.clone(), max_steps);
    match fit.status {
        FitStatus::Converged => fit.coefficients,
        FitStatus::Separated | FitStatus::StepLimit => start,
    }
}

/// The point, its objective, and the pass over the rows there.
struct Point {
    beta: Vec<f64>,
    objective: f64,
    loss: f64,
    pass: Pass,
}

impl Point {
    fn at(rows: Rows<'_>, penalty: Penalty<'_>, beta: Vec<f64>) -> Self {
        let mut pass = rows.pass(&beta);
        let loss = pass.loss;
        let objective = loss + penalty.add(&mut pass, &beta);
        Self {
            beta,
            objective,
            loss,
            pass,
        }
    }

    fn done(self, steps: usize, status: FitStatus) -> LogisticFit {
        LogisticFit {
            coefficients: self.beta,
            precision: self.pass.hessian,
            loss_nats: self.loss,
            steps,
            status,
        }
    }
}

fn solve(rows: Rows<'_>, penalty: Penalty<'_>, start: Vec<f64>, max_steps: usize) -> LogisticFit {
    let mut at = Point::at(rows, penalty, start);
    let small = DECREMENT * (1.0 + rows.y.len() as f64 / 100.0);
    for step in 0..max_steps {
        let factor = Cholesky::of(&at.pass.hessian, at.beta.len());
        let newton = factor.solve(&at.pass.gradient);
        let decrement: f64 = newton.iter().zip(&at.pass.gradient).map(|(a, b)| a * b).sum();
        if penalty.ridge == 0.0 && is_separated(rows, &at.beta) {
            return at.done(step, FitStatus::Separated);
        }
        if decrement <= small {
            // The last step is too small to need another look.
            at.beta.iter_mut().zip(&newton).for_each(|(b, step)| *b -= step);
            at.loss -= 0.5 * decrement.max(0.0);
            let open = penalty.ridge == 0.0 && ran_away(rows, &at.beta, step);
            let settled = if open {
                FitStatus::Separated
            } else {
                FitStatus::Converged
            };
            return at.done(step, settled);
        }
        match lower(rows, penalty, &at, &newton, decrement) {
            Some(next) => at = next,
            // The objective has run out of digits.
            None => return at.done(step, FitStatus::Converged),
        }
    }
    at.done(max_steps, FitStatus::StepLimit)
}

/// The first of the steps 1, 1/2, 1/4, ... that lowers the objective by enough.
fn lower(rows: Rows<'_>, penalty: Penalty<'_>, at: &Point, newton: &[f64], decrement: f64) -> Option<Point> {
    let digits = 1e-13 * (1.0 + at.objective.abs());
    (0..40).map(|halvings| 0.5_f64.powi(halvings)).find_map(|scale| {
        let beta = at.beta.iter().zip(newton).map(|(b, step)| b - scale * step);
        let next = Point::at(rows, penalty, beta.collect());
        let enough = at.objective - 1e-4 * scale * decrement + digits;
        (next.objective.is_finite() && next.objective <= enough).then_some(next)
    })
}

/// Whether the plane of `beta` puts every row strictly on its side: then no minimum exists.
fn is_separated(rows: Rows<'_>, beta: &[f64]) -> bool {
    logits(rows, beta)
        .zip(rows.y.iter().zip(rows.weight))
        .all(|(z, (y, weight))| *weight == 0.0 || (*y == 1.0 && z > 0.0) || (*y == 0.0 && z < 0.0))
}

/// Whether log-odds grew step by step instead of settling: a plane parts the classes but for rows on it.
fn ran_away(rows: Rows<'_>, beta: &[f64], steps: usize) -> bool {
    steps >= STEPS_OF_A_MINIMUM && logits(rows, beta).any(|z| z.abs() > 15.0)
}

fn logits<'a>(rows: Rows<'a>, beta: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    let d = rows.columns;
    (0..rows.y.len()).map(move |i| dot(beta, &rows.x[i * d..(i + 1) * d]))
}
