//! One pass over the rows: log loss, gradient and Hessian at a point.

use crate::kernel::logistic::irls_step;

/// What one pass gives: the sums over the rows, without the penalty.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    /// `sum w (softplus(z) - y z)`, nats.
    pub(super) loss: f64,
    /// `[d + 1]`, the intercept last.
    pub(super) gradient: Vec<f64>,
    /// `[d + 1, d + 1]`, symmetric.
    pub(super) hessian: Vec<f64>,
}

/// The rows of a problem: `x` is `[n, d]` row-major.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) x: &'a [f64],
    pub(super) y: &'a [f64],
    pub(super) weight: &'a [f64],
    pub(super) columns: usize,
}

impl Rows<'_> {
    /// One pass at `beta` (`[d + 1]`, the intercept last).
    pub(super) fn pass(&self, beta: &[f64]) -> Pass {
        let width = self.columns + 1;
        let mut pass = Pass {
            loss: 0.0,
            gradient: vec![0.0; width],
            hessian: vec![0.0; width * width],
        };
        pass.loss = irls_step(
            self.x,
            self.y,
            self.weight,
            beta,
            &mut pass.hessian,
            &mut pass.gradient,
        );
        pass
    }
}
