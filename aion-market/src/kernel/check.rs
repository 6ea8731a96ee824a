//! Finds the first row of a batch that breaks a rule.
//!
//! Vectors only tell that some row of a block is bad; which one and why is found row by row, with
//! the same sums in the same order.

use super::drive::{RUNS, Runs};
use super::elementary::{Float, Real};
use super::strided::{Label, Strided, each_column};
use super::{SimdLevel, Vector, Work, dispatch, drive};

/// A rule for each row.
pub(crate) trait Rule: Copy + Send + Sync {
    /// The type of the numbers.
    type Scalar: Float;

    /// How many rows.
    fn rows(&self) -> usize;

    /// Which of the rows from `row` on keep the rule, one a lane.
    fn keeps<V: Vector<Scalar = Self::Scalar>>(&self, proof: V::Proof, row: usize) -> V::Mask;
}

/// The first row of the first vector that has a bad one, if any; that vector is the longest's length
/// or less away.
pub(crate) fn first_bad_block<R: Rule>(rule: &R, level: SimdLevel, threads: usize) -> Option<usize> {
    let shares = drive::shares(rule.rows(), threads).map(|rows| {
        let work = Scan {
            rule: *rule,
            from: rows.start,
            to: rows.end,
        };
        move || dispatch(level, work)
    });
    drive::for_each_share(shares).into_iter().flatten().next()
}

struct Scan<R> {
    rule: R,
    from: usize,
    to: usize,
}

impl<R: Rule> Work<R::Scalar> for Scan<R> {
    type Out = Option<usize>;

    #[inline(always)]
    fn run<V: Vector<Scalar = R::Scalar>>(self, proof: V::Proof) -> Option<usize> {
        let runs = Runs::over(&(self.from..self.to), V::LANES);
        let kept = self.keeps_in_runs::<V>(proof, runs);
        let mut row = if kept { runs.end() } else { self.from };
        while row < self.to {
            if !V::all(self.rule.keeps::<V>(proof, row)) {
                return Some(row);
            }
            row += V::LANES;
        }
        None
    }
}

impl<R: Rule> Scan<R> {
    /// Whether all rows of the runs keep the rule; stops where one does not, which is not always the first.
    #[inline(always)]
    fn keeps_in_runs<V: Vector<Scalar = R::Scalar>>(&self, proof: V::Proof, runs: Runs) -> bool {
        for block in 0..runs.blocks {
            for run in 0..RUNS {
                if !V::all(self.rule.keeps::<V>(proof, runs.row(run, block))) {
                    return false;
                }
            }
        }
        true
    }
}

macro_rules! rule {
    ($(#[$doc:meta])* $name:ident<$($g:ident: $bound:ident),*> { $first:ident: $f:ty $(, $field:ident: $t:ty)* }
     |$self:ident, $proof:ident, $row:ident, $v:ident| $body:block) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name<'a, $($g),*> {
            pub(crate) $first: $f,
            $(pub(crate) $field: $t,)*
        }

        impl<$($g: Copy),*> Clone for $name<'_, $($g),*> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($g: Copy),*> Copy for $name<'_, $($g),*> {}

        impl<$($g: $bound),*> Rule for $name<'_, $($g),*> {
            type Scalar = T;

            fn rows(&self) -> usize {
                self.$first.rows()
            }

            #[inline(always)]
            fn keeps<$v: Vector<Scalar = T>>(&$self, $proof: $v::Proof, $row: usize) -> $v::Mask $body
        }
    };
}

rule! {
    /// A probability in `[0, 1]` and a label 0 or 1.
    Events<T: Real, L: Label> { p: Strided<'a, T>, y: Strided<'a, L> } |self, proof, row, V| {
        let p: V = self.p.column(proof, row, 0);
        let y: V = self.y.labels(proof, row);
        let (zero, one) = (p.same(T::ZERO), p.same(T::ONE));
        let is_probability = V::and(zero.le(p), p.le(one));
        // Whole numbers: 0 and 1 are those between.
        V::and(is_probability, V::and(zero.le(y), y.le(one)))
    }
}

rule! {
    /// A distribution and a label of one of its outcomes.
    Labelled<T: Real, L: Label> { p: Strided<'a, T>, y: Strided<'a, L> } |self, proof, row, V| {
        let y: V = self.y.labels(proof, row);
        let outcomes = y.same(T::from_f64(self.p.cols() as f64));
        let is_label = V::and(y.same(T::ZERO).le(y), y.lt(outcomes));
        V::and(is_label, is_dist::<T, V>(&self.p, proof, row))
    }
}

rule! {
    /// Two distributions.
    DistPairs<T: Real> { p: Strided<'a, T>, q: Strided<'a, T> } |self, proof, row, V| {
        let p: V::Mask = is_dist::<T, V>(&self.p, proof, row);
        V::and(p, is_dist::<T, V>(&self.q, proof, row))
    }
}

rule! {
    /// Finite members and a finite observation.
    Members<T: Real> { x: Strided<'a, T>, y: Strided<'a, T> } |self, proof, row, V| {
        // A number that is not finite, times 0, is NaN.
        let zero = V::splat(proof, T::ZERO);
        let mut off = zero * self.y.column(proof, row, 0);
        each_column!((_k, x: V) of self.x, proof, row => { off = x.mul_add(zero, off); });
        off.equal(zero)
    }
}

rule! {
    /// A finite location, a finite scale above 0 and a finite observation.
    Locations<T: Real> { mu: Strided<'a, T>, sigma: Strided<'a, T>, y: Strided<'a, T> } |self, proof, row, V| {
        let mu: V = self.mu.column(proof, row, 0);
        let sigma: V = self.sigma.column(proof, row, 0);
        let y: V = self.y.column(proof, row, 0);
        // A number that is not finite, times 0, is NaN.
        let zero = y.same(T::ZERO);
        let off = mu.mul_add(zero, sigma.mul_add(zero, y * zero));
        V::and(zero.lt(sigma), off.equal(zero))
    }
}

/// How many entries of a long row are added up before the sum joins the others.
pub(crate) const RUN: usize = 16;

#[inline(always)]
fn is_dist<T: Real, V: Vector<Scalar = T>>(p: &Strided<'_, T>, proof: V::Proof, row: usize) -> V::Mask {
    let zero = V::splat(proof, T::ZERO);
    let one = zero.same(T::ONE);
    let tolerance = zero.same(T::SUM_TOLERANCE);
    let (mut sum, mut run, mut least) = (zero, zero, zero);
    each_column!((k, x: V) of p, proof, row => {
        // NaN stays: the sum keeps it.
        least = least.min(x);
        run = run + x;
        if k % RUN == RUN - 1 {
            sum = sum + run;
            run = zero;
        }
    });
    let off = ((sum + run) - one).abs();
    V::and(zero.le(least), off.le(tolerance))
}
