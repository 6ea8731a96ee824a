//! Divergences between pairs of distributions, one pair a lane.

use std::ops::Range;

use super::Vector;
use super::drive::RowKernel;
use super::elementary::Float;
use super::strided::{Strided, each_pair};

macro_rules! over_pairs {
    ($(#[$doc:meta])* $name:ident |$p:ident, $q:ident, $v:ident| $term:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name<'a, T: Copy> {
            pub(crate) p: Strided<'a, T>,
            pub(crate) q: Strided<'a, T>,
            pub(crate) scale: T,
        }

        impl<T: Float> RowKernel for $name<'_, T> {
            type Scalar = T;

            fn rows(&self) -> usize {
                self.p.rows()
            }

            fn part(&self, rows: Range<usize>) -> Self {
                Self {
                    p: self.p.part(rows.clone()),
                    q: self.q.part(rows),
                    ..*self
                }
            }

            #[inline(always)]
            fn block<$v: Vector<Scalar = T>>(&self, proof: $v::Proof, row: usize) -> $v {
                let mut sum = $v::splat(proof, T::ZERO);
                each_pair!(($p, $q: $v) of self.p, self.q, proof, row => { sum = sum + $term; });
                sum * sum.same(self.scale)
            }
        }
    };
}

over_pairs! {
    /// `KL(p || q) = sum_k p_k ln(p_k / q_k) - p_k + q_k`, no term of which is negative.
    Kl |p, q, V| kl_term(p, q)
}

over_pairs! {
    /// The Jensen-Shannon divergence: the mean divergence of both from their middle.
    JensenShannon |p, q, V| {
        let half = p.same(T::from_f64(0.5));
        let middle = (p + q) * half;
        (kl_term(p, middle) + kl_term(q, middle)) * half
    }
}

over_pairs! {
    /// The cross-entropy `-sum_k p_k ln q_k`.
    CrossEntropy |p, q, V| {
        let zero = p.same(T::ZERO);
        V::select(p.equal(zero), zero, zero - p * q.ln())
    }
}

/// `p ln(p / q) - p + q` without cancellation.
///
/// With `p = m_p 2^i`, `q = m_q 2^j` and `n` such that `2^-n p / q` lies in `[sqrt 1/2, sqrt 2]`,
/// `ln(p / q) = n ln 2 + 2 s + s R(s^2)` for `s = (m_p - m_q) / (m_p + m_q)`. Where `n = 0`,
/// `s = (p - q) / (p + q)` and `2 p s - (p - q) = s (p - q)`: every term is a product.
#[inline(always)]
fn kl_term<V: Vector>(p: V, q: V) -> V {
    let zero = p.same(V::Scalar::ZERO);
    let one = p.same(V::Scalar::ONE);
    let (mp, ep) = p.split();
    let (mq, eq) = q.split();
    // The ratio of two mantissas lies in (1/2, 2): one more doubling at most.
    let root = p.same(V::Scalar::from_f64(std::f64::consts::SQRT_2));
    let (two, minus_one) = (one + one, zero - one);
    let large = (mq * root).lt(mp);
    let small = (mp * root).lt(mq);
    let n = ep - eq + V::select(large, one, V::select(small, minus_one, zero));
    let mq = V::select(large, mq * two, mq);
    let mp = V::select(small, mp * two, mp);
    let s = (mp - mq) / (mp + mq);
    let rest = V::Scalar::atanh_rest(s * s);
    let d = p - q;
    let near = s * d;
    let (high, low) = V::Scalar::LN2;
    let ln_2 = n.mul_add(p.same(high), s + s);
    let far = p.mul_add(n.mul_add(p.same(low), ln_2), zero - d);
    let term = (p * s).mul_add(rest, V::select(n.equal(zero), near, far));
    if V::all(V::and(zero.lt(p), zero.lt(q))) {
        return term;
    }
    let infinite = p.same(V::Scalar::from_f64(f64::INFINITY));
    let term = V::select(q.equal(zero), infinite, term);
    V::select(p.equal(zero), q, term)
}
