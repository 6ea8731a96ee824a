//! Continuous ranked probability scores: of ensembles, and closed forms.

use std::ops::Range;

use super::drive::RowKernel;
use super::elementary::Float;
use super::strided::{Strided, each_column};
use super::{Vector, constants, sorting};

/// The largest ensemble that the vectors sort.
pub(crate) const MAX_SORTED: usize = 256;

/// The score of an ensemble of at most `CAPACITY` members.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ensemble<'a, T: Copy, const CAPACITY: usize> {
    pub(crate) x: Strided<'a, T>,
    pub(crate) y: Strided<'a, T>,
}

impl<T: Float, const CAPACITY: usize> RowKernel for Ensemble<'_, T, CAPACITY> {
    type Scalar = T;

    fn rows(&self) -> usize {
        self.x.rows()
    }

    fn part(&self, rows: Range<usize>) -> Self {
        Self {
            x: self.x.part(rows.clone()),
            y: self.y.part(rows),
        }
    }

    /// Distances from the observation keep the sums small.
    #[inline(always)]
    fn block<V: Vector<Scalar = T>>(&self, proof: V::Proof, row: usize) -> V {
        let y: V = self.y.column(proof, row, 0);
        let mut off = [y.same(T::ZERO); CAPACITY];
        each_column!((k, x: V) of self.x, proof, row => { off[k] = x - y; });
        let off = &mut off[..self.x.cols()];
        sorting::sort(off);
        of_sorted(off, y)
    }
}

/// The score of an ensemble of 16 members, all of it in registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ensemble16<'a, T: Copy> {
    pub(crate) x: Strided<'a, T>,
    pub(crate) y: Strided<'a, T>,
}

impl<T: Float> RowKernel for Ensemble16<'_, T> {
    type Scalar = T;

    fn rows(&self) -> usize {
        self.x.rows()
    }

    fn part(&self, rows: Range<usize>) -> Self {
        Self {
            x: self.x.part(rows.clone()),
            y: self.y.part(rows),
        }
    }

    #[inline(always)]
    fn block<V: Vector<Scalar = T>>(&self, proof: V::Proof, row: usize) -> V {
        let y: V = self.y.column(proof, row, 0);
        let mut off = [y; 16];
        if self.x.has_fours::<V>(row) {
            for k in 0..4 {
                let [a, b, c, d]: [V; 4] = self.x.four_columns(proof, row, 4 * k);
                [off[4 * k], off[4 * k + 1], off[4 * k + 2], off[4 * k + 3]] = [a - y, b - y, c - y, d - y];
            }
        } else {
            for (k, off) in off.iter_mut().enumerate() {
                *off = self.x.column::<V>(proof, row, k) - y;
            }
        }
        sorting::sort_16(&mut off);
        of_sorted(&off, y)
    }
}

/// `mean |d_i| - sum_i (2 i + 1 - m) d_i / m^2` of sorted distances, at least 0.
#[inline(always)]
fn of_sorted<V: Vector>(off: &[V], y: V) -> V {
    let m = off.len();
    let (mut error, mut ranked) = (y.same(V::Scalar::ZERO), y.same(V::Scalar::ZERO));
    for i in 0..m / 2 {
        let (low, high) = (off[i], off[m - 1 - i]);
        error = error + (low.abs() + high.abs());
        let weight = y.same(V::Scalar::from_f64((m - 1 - 2 * i) as f64));
        ranked = (high - low).mul_add(weight, ranked);
    }
    if m % 2 == 1 {
        error = error + off[m / 2].abs();
    }
    let one_of_m = y.same(V::Scalar::from_f64(1.0 / m as f64));
    let score = (error - ranked * one_of_m) * one_of_m;
    // In this order NaN stays: distances that overflow are no perfect score.
    y.same(V::Scalar::ZERO).max(score)
}

/// The score of an ensemble too large for the vectors; `scratch` holds a row.
pub(crate) fn of_large<T: Float>(x: &Strided<'_, T>, y: T, row: usize, scratch: &mut Vec<f64>) -> T {
    let y = y.to_f64();
    scratch.clear();
    scratch.extend((0..x.cols()).map(|k| x.at(row, k).to_f64() - y));
    scratch.sort_unstable_by(f64::total_cmp);
    let m = scratch.len() as f64;
    let error: f64 = scratch.iter().map(|d| d.abs()).sum();
    let ranked = scratch
        .iter()
        .enumerate()
        .map(|(i, d)| (2.0 * i as f64 + 1.0 - m) * d);
    let score = (error - ranked.sum::<f64>() / m) / m;
    T::from_f64(if score < 0.0 { 0.0 } else { score })
}

macro_rules! closed_form {
    ($(#[$doc:meta])* $name:ident |$z:ident, $v:ident| $body:block) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name<'a, T: Copy> {
            pub(crate) mu: Strided<'a, T>,
            pub(crate) sigma: Strided<'a, T>,
            pub(crate) y: Strided<'a, T>,
        }

        impl<T: Float> RowKernel for $name<'_, T> {
            type Scalar = T;

            fn rows(&self) -> usize {
                self.y.rows()
            }

            fn part(&self, rows: Range<usize>) -> Self {
                Self {
                    mu: self.mu.part(rows.clone()),
                    sigma: self.sigma.part(rows.clone()),
                    y: self.y.part(rows),
                }
            }

            #[inline(always)]
            fn block<$v: Vector<Scalar = T>>(&self, proof: $v::Proof, row: usize) -> $v {
                let sigma: $v = self.sigma.column(proof, row, 0);
                let off = self.y.column::<$v>(proof, row, 0) - self.mu.column(proof, row, 0);
                let $z = (off / sigma).abs();
                sigma * $body
            }
        }
    };
}

closed_form! {
    /// A normal forecast: `sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi))`.
    ///
    /// For `u = |z|` that is `u - 1/sqrt(pi) + e^(-u^2/2) h(u)` with a smooth positive `h`.
    Normal |u, V| {
        let (far, bend) = T::NORMAL_TAIL;
        let near = u.same(far).min(u);
        let bend = u.same(bend);
        let tail = T::normal_tail((near - bend) / (near + bend));
        let bell = (near * near * u.same(T::from_f64(-0.5))).exp();
        bell.mul_add(tail, u - u.same(T::from_f64(constants::INV_SQRT_PI)))
    }
}

closed_form! {
    /// A logistic forecast: `sigma (z - 2 ln F(z) - 1)` with `F` the logistic function.
    ///
    /// For `u = |z|` that is `u + 2 ln(1 + e^-u) - 1`.
    Logistic |u, V| {
        let one = u.same(T::ONE);
        let tail = (u.same(T::ZERO) - u).exp();
        let ln = (one + tail).ln();
        (u - one) + (ln + ln)
    }
}
