//! Solving with a symmetric positive definite matrix, and its inverse.

/// The lower factor `L` of `A = L L'`, row-major.
#[derive(Debug, Clone)]
pub(super) struct Cholesky {
    n: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factors `a`, `[n, n]` row-major. A pivot below `1e-12` of its diagonal entry, where the rows leave
    /// a direction open, is replaced by so large a number that the direction is not moved along.
    pub(super) fn of(a: &[f64], n: usize) -> Self {
        let mut lower = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let dot: f64 = (0..j).map(|k| lower[i * n + k] * lower[j * n + k]).sum();
                let rest = a[i * n + j] - dot;
                if i != j {
                    lower[i * n + j] = rest / lower[j * n + j];
                } else if rest > 1e-12 * a[i * n + i].abs() && rest > 0.0 {
                    lower[i * n + i] = rest.sqrt();
                } else {
                    lower[i * n + i] = 1e64;
                }
            }
        }
        Self { n, lower }
    }

    /// `A^-1 b`.
    pub(super) fn solve(&self, b: &[f64]) -> Vec<f64> {
        let n = self.n;
        let mut x = b.to_vec();
        for i in 0..n {
            let dot: f64 = (0..i).map(|k| self.lower[i * n + k] * x[k]).sum();
            x[i] = (x[i] - dot) / self.lower[i * n + i];
        }
        for i in (0..n).rev() {
            let dot: f64 = (i + 1..n).map(|k| self.lower[k * n + i] * x[k]).sum();
            x[i] = (x[i] - dot) / self.lower[i * n + i];
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::Cholesky;

    #[test]
    fn it_solves_what_it_factored() {
        let a = [4.0, 2.0, 0.6, 2.0, 5.0, 1.0, 0.6, 1.0, 3.0];
        let b = [1.0, -2.0, 0.5];
        let x = Cholesky::of(&a, 3).solve(&b);
        for i in 0..3 {
            let dot: f64 = (0..3).map(|j| a[i * 3 + j] * x[j]).sum();
            assert!((dot - b[i]).abs() < 1e-14);
        }
    }

    #[test]
    fn an_open_direction_is_not_moved_along() {
        let factor = Cholesky::of(&[2.0, 0.0, 0.0, 0.0], 2);
        let x = factor.solve(&[2.0, 5.0]);
        assert!((x[0] - 1.0).abs() < 1e-15);
        assert!(x[1].abs() < 1e-60);
    }
}
