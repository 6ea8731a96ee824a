//! Scores of forecasts against labels, one row a lane.

use std::ops::Range;

use super::Vector;
use super::drive::RowKernel;
use super::elementary::Float;
use super::strided::{Label, Strided, each_column};

macro_rules! over_labels {
    ($(#[$doc:meta])* $name:ident { $($field:ident)? } |$self:ident, $proof:ident, $row:ident, $v:ident| $body:block) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name<'a, T, L> {
            pub(crate) p: Strided<'a, T>,
            pub(crate) y: Strided<'a, L>,
            $(pub(crate) $field: T,)?
        }

        impl<T: Copy, L: Copy> Clone for $name<'_, T, L> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T: Copy, L: Copy> Copy for $name<'_, T, L> {}

        impl<T: Float, L: Label> RowKernel for $name<'_, T, L> {
            type Scalar = T;

            fn rows(&self) -> usize {
                self.p.rows()
            }

            fn part(&self, rows: Range<usize>) -> Self {
                Self {
                    p: self.p.part(rows.clone()),
                    y: self.y.part(rows),
                    $($field: self.$field,)?
                }
            }

            #[inline(always)]
            fn block<$v: Vector<Scalar = T>>(&$self, $proof: $v::Proof, $row: usize) -> $v $body
        }
    };
}

over_labels! {
    /// `scale ln q(y)` of an event: `q(1) = p`, `q(0) = 1 - p`.
    ///
    /// The rounding of `1 - p` is added back, so that a tiny `p` loses nothing: `ln(1 - p)` is
    /// `ln u + c` to first order, with `u` the rounded difference and `c = (1 - u) - p` exact.
    BinaryLog { scale } |self, proof, row, V| {
        let p: V = self.p.column(proof, row, 0);
        let opposite = p.same(T::ONE) - self.y.labels(proof, row);
        let signed = opposite - p;
        let lost = (opposite - signed) - p;
        (signed.abs().ln() + lost) * p.same(self.scale)
    }
}

over_labels! {
    /// `(p - y)^2` of an event.
    BinaryBrier {} |self, proof, row, V| {
        let off = self.p.column::<V>(proof, row, 0) - self.y.labels(proof, row);
        off * off
    }
}

over_labels! {
    /// `scale ln q(y)`.
    Log { scale } |self, proof, row, V| {
        let q: V = self.p.picked(row, self.y.labels(proof, row));
        q.ln() * q.same(self.scale)
    }
}

over_labels! {
    /// `sum_k (q_k - [k = y])^2`.
    Brier {} |self, proof, row, V| {
        let label: V = self.y.labels(proof, row);
        let (zero, one) = (label.same(T::ZERO), label.same(T::ONE));
        let (mut at, mut sum) = (zero, zero);
        each_column!((_k, q: V) of self.p, proof, row => {
            let off = q - V::select(at.equal(label), one, zero);
            sum = off.mul_add(off, sum);
            at = at + one;
        });
        sum
    }
}

over_labels! {
    /// `sum_k (Q_k - [y <= k])^2` over all outcomes but the last, with `Q` the cumulated forecast.
    Rps {} |self, proof, row, V| {
        let label: V = self.y.labels(proof, row);
        let (zero, one) = (label.same(T::ZERO), label.same(T::ONE));
        let (mut at, mut sum, mut cumulated) = (zero, zero, zero);
        let last = self.p.cols() - 1;
        each_column!((k, q: V) of self.p, proof, row => {
            if k < last {
                cumulated = cumulated + q;
                let off = cumulated - V::select(label.le(at), one, zero);
                sum = off.mul_add(off, sum);
                at = at + one;
            }
        });
        sum
    }
}

over_labels! {
    /// `q(y) / |q|`.
    Spherical {} |self, proof, row, V| {
        let label: V = self.y.labels(proof, row);
        let mut square = label.same(T::ZERO);
        each_column!((_k, q: V) of self.p, proof, row => { square = q.mul_add(q, square); });
        self.p.picked(row, label) / square.sqrt()
    }
}
