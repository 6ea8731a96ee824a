//! Logistic regression of a handful of parameters, by Newton's method with halved steps.

/// `sum_i w_i (softplus(z_i) - t_i z_i) + ridge/2 |theta - centre|^2` with `z = theta . x`, over the
/// parameters that are free; the others stay where they start.
pub(super) struct Logistic<'a, const D: usize> {
    /// The rows, `[n, D]`.
    pub(super) rows: &'a [[f64; D]],
    /// What happened, `[n]`, in `[0, 1]`.
    pub(super) targets: &'a [f64],
    /// What each row counts for, `[n]`; empty if each counts for 1.
    pub(super) weights: &'a [f64],
    /// The strength of the pull towards the centre.
    pub(super) ridge: f64,
    /// Where it pulls.
    pub(super) centre: [f64; D],
    /// Which parameters may move.
    pub(super) free: [bool; D],
}

/// What is not worth another step, in nats.
const LEFT: f64 = 1e-24;

/// Gradient and Hessian of the objective.
struct Local<const D: usize> {
    g: [f64; D],
    h: [[f64; D]; D],
}

/// The log loss of log-odds `z` where the share `t` happened, in nats: `softplus(z) - t z`.
pub(super) fn log_loss(z: f64, t: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p() - t * z
}

impl<const D: usize> Logistic<'_, D> {
    fn examples(&self) -> impl Iterator<Item = (&[f64; D], f64, f64)> {
        let weights = self.weights.iter().copied().chain(std::iter::repeat(1.0));
        let rows = self.rows.iter().zip(self.targets).zip(weights);
        rows.map(|((x, t), w)| (x, *t, w))
    }

    /// The log loss in nats, without the pull.
    pub(super) fn loss(&self, at: &[f64; D]) -> f64 {
        self.examples().map(|(x, t, w)| w * log_loss(dot(at, x), t)).sum()
    }

    /// What is minimised.
    pub(super) fn objective(&self, at: &[f64; D]) -> f64 {
        let pull: f64 = at.iter().zip(&self.centre).map(|(a, c)| (a - c).powi(2)).sum();
        self.loss(at) + 0.5 * self.ridge * pull
    }

    fn local(&self, at: &[f64; D]) -> Local<D> {
        let mut local = Local {
            g: std::array::from_fn(|i| self.ridge * (at[i] - self.centre[i])),
            h: std::array::from_fn(|i| std::array::from_fn(|j| if i == j { self.ridge } else { 0.0 })),
        };
        for (x, t, w) in self.examples() {
            let p = 1.0 / (1.0 + (-dot(at, x)).exp());
            let curvature = w * p * (1.0 - p);
            for i in 0..D {
                local.g[i] += w * (p - t) * x[i];
                for j in 0..=i {
                    local.h[i][j] += curvature * x[i] * x[j];
                }
            }
        }
        for i in 0..D {
            for j in 0..i {
                local.h[j][i] = local.h[i][j];
            }
        }
        self.hold_still(&mut local);
        local
    }

    /// Takes the parameters that may not move out of the equations.
    fn hold_still(&self, local: &mut Local<D>) {
        for i in (0..D).filter(|i| !self.free[*i]) {
            local.g[i] = 0.0;
            for j in 0..D {
                local.h[i][j] = if i == j { 1.0 } else { 0.0 };
                local.h[j][i] = local.h[i][j];
            }
        }
    }

    /// The minimum that a start leads to, and how many steps it took.
    pub(super) fn solve(&self, start: [f64; D], max_steps: usize) -> ([f64; D], usize) {
        let mut at = start;
        for step in 0..max_steps {
            let Some(next) = self.newton_step(&at) else {
                return (at, step);
            };
            at = next;
        }
        (at, max_steps)
    }

    /// Whether a point is lower; or, where the objective has run out of digits, flatter.
    fn is_better(&self, next: &[f64; D], before: f64, slope: f64) -> bool {
        if next.iter().any(|x| !x.is_finite()) {
            return false;
        }
        let after = self.objective(next);
        after < before || (after <= before + 1e-12 * (1.0 + before) && norm(&self.local(next).g) < slope)
    }

    /// The next point, or `None` where no step makes it better.
    fn newton_step(&self, at: &[f64; D]) -> Option<[f64; D]> {
        let Local { g, mut h } = self.local(at);
        // A little on the diagonal where the examples leave a direction open.
        let slack = 1e-12 * (0..D).map(|i| h[i][i]).sum::<f64>() + 1e-300;
        (0..D).for_each(|i| h[i][i] += slack);
        let step = solve(h, g);
        // Twice what is left to gain, in nats.
        if dot(&g, &step) < LEFT {
            return None;
        }
        let (before, slope) = (self.objective(at), norm(&g));
        (0..40).map(|halvings| 0.5_f64.powi(halvings)).find_map(|scale| {
            let next = std::array::from_fn(|i| at[i] - scale * step[i]);
            self.is_better(&next, before, slope).then_some(next)
        })
    }
}

fn dot<const D: usize>(a: &[f64; D], b: &[f64; D]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm<const D: usize>(g: &[f64; D]) -> f64 {
    dot(g, g).sqrt()
}

/// Solves `h x = g` for a positive definite `h`, by elimination.
fn solve<const D: usize>(mut h: [[f64; D]; D], mut g: [f64; D]) -> [f64; D] {
    for i in 0..D {
        for j in i + 1..D {
            let factor = h[j][i] / h[i][i];
            let above = h[i];
            for (below, above) in h[j].iter_mut().zip(above).skip(i) {
                *below -= factor * above;
            }
            g[j] -= factor * g[i];
        }
    }
    for i in (0..D).rev() {
        let known: f64 = (i + 1..D).map(|j| h[i][j] * g[j]).sum();
        g[i] = (g[i] - known) / h[i][i];
    }
    g
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elimination_solves_what_it_is_given() {
        let h = [[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]];
        let x = solve(h, [5.5, 4.2, 2.7]);
        for (got, expected) in x.iter().zip([1.0, 1.0, 1.0]) {
            assert!((got - expected).abs() < 1e-12, "{x:?}");
        }
    }

    /// At the minimum the gradient of the free parameters is 0, and the others have not moved.
    #[test]
    fn a_minimum_is_flat_and_keeps_what_is_fixed() {
        let rows: Vec<[f64; 2]> = (0..40).map(|i| [f64::from(i % 7) - 3.0, 1.0]).collect();
        let targets: Vec<f64> = (0..40).map(|i| f64::from(i % 3) / 2.0).collect();
        let mut problem = Logistic {
            rows: &rows,
            targets: &targets,
            weights: &[],
            ridge: 0.1,
            centre: [1.0, 0.0],
            free: [true, true],
        };
        let (at, _) = problem.solve([1.0, 0.0], 50);
        assert!(norm(&problem.local(&at).g) < 1e-9);
        problem.free = [false, true];
        let (held, _) = problem.solve([0.0, 0.0], 50);
        assert_eq!(held[0], 0.0);
        assert!(problem.objective(&held) >= problem.objective(&at));
    }
}
