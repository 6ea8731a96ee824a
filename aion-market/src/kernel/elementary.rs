//! Logarithm and exponential on vectors, within about one unit of the last place.
//!
//! No table of another library: the constants come from `tests/golden/coefficients.py`, the range
//! reductions are described in `docs/math/scoring.md#kernels`.

use std::fmt::Debug;

use super::Vector;
use super::constants as c;

/// A floating-point type that the batch kernels take: `f64` or `f32`.
pub trait Real: Float + Default + Debug {
    /// How far the sum of a distribution may be from 1: `1e-9`, in single precision `1e-5`.
    const SUM_TOLERANCE: Self;
}

impl Real for f64 {
    const SUM_TOLERANCE: Self = crate::error::SUM_TOLERANCE;
}

impl Real for f32 {
    const SUM_TOLERANCE: Self = 1e-5;
}

/// What the kernels need of a scalar; only `f64` and `f32` have it.
pub trait Float: Copy + PartialOrd + Send + Sync + 'static {
    /// Its vector of plain code.
    type Portable: Vector<Scalar = Self, Proof = ()>;
    /// Its vector of AVX2.
    #[cfg(target_arch = "x86_64")]
    type Avx2: Vector<Scalar = Self, Proof = super::avx2::Proof>;
    /// Its vector of AVX-512.
    #[cfg(target_arch = "x86_64")]
    type Avx512: Vector<Scalar = Self, Proof = super::avx512::Proof>;
    /// Its vector of NEON.
    #[cfg(target_arch = "aarch64")]
    type Neon: Vector<Scalar = Self, Proof = super::neon::Proof>;

    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// ln 2 in two parts: a multiple of the first by an exponent is exact.
    const LN2: (Self, Self);
    /// Where the tail of a normal forecast ends, and the bend of its argument.
    const NORMAL_TAIL: (Self, Self);

    /// The nearest value.
    fn from_f64(x: f64) -> Self;
    /// The same value.
    fn to_f64(self) -> f64;
    /// The natural logarithm.
    fn ln<V: Vector<Scalar = Self>>(x: V) -> V;
    /// The exponential.
    fn exp<V: Vector<Scalar = Self>>(x: V) -> V;
    /// `(2 atanh(s) - 2 s) / s` by `s^2`, for `|s| <= 0.1716`.
    fn atanh_rest<V: Vector<Scalar = Self>>(s2: V) -> V;
    /// `(2 phi(u) - u erfc(u / sqrt 2)) e^(u^2 / 2)` in the bent argument.
    fn normal_tail<V: Vector<Scalar = Self>>(w: V) -> V;
}

impl Float for f64 {
    type Portable = super::portable::Lanes<f64, 4>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = super::avx2::F64x4;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = super::avx512::F64x8;
    #[cfg(target_arch = "aarch64")]
    type Neon = super::neon::F64x2;

    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LN2: (Self, Self) = (c::LN2_HIGH, c::LN2_LOW);
    const NORMAL_TAIL: (Self, Self) = (c::NORMAL_TAIL_FAR, c::NORMAL_TAIL_BEND);

    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    /// `ln(m 2^e) = e ln 2 + 2 atanh(f / (2 + f))` with `f = m - 1`; the argument of the series is
    /// corrected by `f^2 / 2`, which is nearly exact.
    #[inline(always)]
    fn ln<V: Vector<Scalar = Self>>(x: V) -> V {
        let (m, e) = x.split();
        let one = x.same(1.0);
        let f = m - one;
        let s = f / (f + x.same(2.0));
        let s2 = s * s;
        let half_square = x.same(0.5) * f * f;
        let rest = s * (half_square + Self::atanh_rest(s2));
        let low = e.mul_add(x.same(c::LN2_LOW), rest);
        let near = f - (half_square - low);
        mend_ln(x, e.mul_add(x.same(c::LN2_HIGH), near))
    }

    #[inline(always)]
    fn exp<V: Vector<Scalar = Self>>(x: V) -> V {
        let x = x.same(-746.0).max(x.same(710.0).min(x));
        let n = (x * x.same(std::f64::consts::LOG2_E)).round();
        let r = n.mul_add(x.same(-c::LN2_LOW), n.mul_add(x.same(-c::LN2_HIGH), x));
        let p = horner(r, &c::EXP);
        ((r * r).mul_add(p, r) + x.same(1.0)).scale(n)
    }

    #[inline(always)]
    fn atanh_rest<V: Vector<Scalar = Self>>(s2: V) -> V {
        s2 * horner(s2, &c::ATANH)
    }

    #[inline(always)]
    fn normal_tail<V: Vector<Scalar = Self>>(w: V) -> V {
        horner(w, &c::NORMAL_TAIL)
    }
}

impl Float for f32 {
    type Portable = super::portable::Lanes<f32, 8>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = super::avx2::F32x8;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = super::avx512::F32x16;
    #[cfg(target_arch = "aarch64")]
    type Neon = super::neon::F32x4;

    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LN2: (Self, Self) = (c::LN2_HIGH_32, c::LN2_LOW_32);
    const NORMAL_TAIL: (Self, Self) = (c::NORMAL_TAIL_32_FAR, c::NORMAL_TAIL_32_BEND);

    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as Self
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    /// `ln(m 2^e) = e ln 2 + f - f^2 / 2 + f^3 P(f)` with `f = m - 1`.
    #[inline(always)]
    fn ln<V: Vector<Scalar = Self>>(x: V) -> V {
        let (m, e) = x.split();
        let f = m - x.same(1.0);
        let f2 = f * f;
        let cubic = f2 * (f * horner(f, &c::LN_32));
        let low = e.mul_add(x.same(c::LN2_LOW_32), cubic);
        let near = f + f2.mul_add(x.same(-0.5), low);
        mend_ln(x, e.mul_add(x.same(c::LN2_HIGH_32), near))
    }

    #[inline(always)]
    fn exp<V: Vector<Scalar = Self>>(x: V) -> V {
        let x = x.same(-104.0).max(x.same(89.0).min(x));
        let n = (x * x.same(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(x.same(-c::LN2_LOW_32), n.mul_add(x.same(-c::LN2_HIGH_32), x));
        let p = horner(r, &c::EXP_32);
        ((r * r).mul_add(p, r) + x.same(1.0)).scale(n)
    }

    #[inline(always)]
    fn atanh_rest<V: Vector<Scalar = Self>>(s2: V) -> V {
        s2 * horner(s2, &c::ATANH_32)
    }

    #[inline(always)]
    fn normal_tail<V: Vector<Scalar = Self>>(w: V) -> V {
        horner(w, &c::NORMAL_TAIL_32)
    }
}

/// The polynomial with these coefficients, the constant one first.
#[inline(always)]
pub(super) fn horner<V: Vector, const N: usize>(x: V, coefficients: &[V::Scalar; N]) -> V {
    let mut sum = x.same(coefficients[N - 1]);
    for k in (0..N - 1).rev() {
        sum = sum.mul_add(x, x.same(coefficients[k]));
    }
    sum
}

/// `ln x` where the range reduction does not hold: 0, negative, infinite and NaN lanes.
#[inline(always)]
fn mend_ln<V: Vector>(x: V, ln: V) -> V {
    let zero = x.same(V::Scalar::ZERO);
    let infinite = x.same(V::Scalar::from_f64(f64::INFINITY));
    if V::all(V::and(zero.lt(x), x.lt(infinite))) {
        return ln;
    }
    let nan = x.same(V::Scalar::from_f64(f64::NAN));
    // Infinity stays, NaN stays; what is below 0 has no logarithm.
    let ends = V::select(zero.le(x), x, nan);
    let ends = V::select(x.equal(zero), zero - infinite, ends);
    V::select(V::and(zero.lt(x), x.lt(infinite)), ln, ends)
}

/// The logistic function and what its log loss needs: `(sigmoid(z), sigmoid'(z), ln(1 + e^-|z|))`.
#[inline(always)]
pub(super) fn sigmoid<V: Vector<Scalar = f64>>(z: V) -> (V, V, V) {
    let one = z.same(1.0);
    let tail = (z.same(0.0) - z.abs()).exp();
    let inverse = one / (one + tail);
    let smaller = tail * inverse;
    let p = V::select(z.lt(z.same(0.0)), smaller, inverse);
    (p, smaller * inverse, (one + tail).ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{SimdLevel, Work, dispatch};

    /// Either function of all arguments.
    struct Apply<'a, T> {
        x: &'a [T],
        exp: bool,
    }

    impl<T: Float> Work<T> for Apply<'_, T> {
        type Out = Vec<T>;

        #[inline(always)]
        fn run<V: Vector<Scalar = T>>(self, proof: V::Proof) -> Vec<T> {
            let mut out = vec![T::ZERO; self.x.len()];
            for (x, out) in self.x.chunks_exact(V::LANES).zip(out.chunks_exact_mut(V::LANES)) {
                // SAFETY: the chunks are whole vectors.
                unsafe {
                    let x = V::load(proof, x.as_ptr());
                    let y = if self.exp { x.exp() } else { x.ln() };
                    y.store(out.as_mut_ptr());
                }
            }
            out
        }
    }

    /// Asks every level for errors below `limit` times `eps` times the value, or times `least`.
    fn check<T: Float>(x: &[T], exp: bool, limit: f64, eps: f64, least: f64) {
        assert_eq!(x.len() % 16, 0);
        for level in SimdLevel::ALL.into_iter().filter(|level| level.is_available()) {
            for (x, got) in x.iter().zip(dispatch(level, Apply { x, exp })) {
                let (x, got) = (x.to_f64(), got.to_f64());
                let exact = T::from_f64(if exp { x.exp() } else { x.ln() }).to_f64();
                let same = got == exact || (got.is_nan() && exact.is_nan());
                let expected = if exp { x.exp() } else { x.ln() };
                let error = (got - expected).abs() / (eps * expected.abs()).max(least);
                assert!(
                    same || error <= limit,
                    "{level}: {x:e} gives {got:e}, not {expected:e}"
                );
            }
        }
    }

    /// Whole numbers that look like chance; few where every step is interpreted.
    fn chance(n: usize) -> impl Iterator<Item = u64> {
        let n = if cfg!(miri) { n / 1000 } else { n };
        let step = |s: &u64| {
            Some(
                (s ^ (s >> 29))
                    .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                    .wrapping_add(1),
            )
        };
        std::iter::successors(Some(1), step).take(n)
    }

    #[test]
    #[cfg_attr(miri, ignore = "the functions that it compares with are off by chance there")]
    fn ln_is_within_one_eps() {
        let special = [
            0.0,
            -0.0,
            -1.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            5e-324,
            1e-310,
            f64::MIN_POSITIVE,
            f64::MAX,
            1.34e308,
            1.36e308,
            1.0,
            1.0 - 2f64.powi(-53),
            1.0 + f64::EPSILON,
            0.75,
        ];
        let positive = chance(60_000).map(|bits| f64::from_bits(bits >> 1).abs());
        let finite = positive.filter(|x| x.is_finite());
        let unit = chance(60_000).map(|bits| (bits >> 11) as f64 / (1_u64 << 53) as f64);
        let near_one =
            chance(60_000).map(|bits| 1.0 + ((bits >> 11) as f64 / (1_u64 << 53) as f64 - 0.5) / 4.0);
        let mut x: Vec<f64> = special
            .into_iter()
            .chain(finite)
            .chain(unit)
            .chain(near_one)
            .collect();
        x.truncate(x.len() / 16 * 16);
        check(&x, false, 1.0, f64::EPSILON, 0.0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "the functions that it compares with are off by chance there")]
    fn ln_of_singles_is_within_one_eps() {
        let special = [
            0.0,
            -0.0,
            -1.0,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1e-45,
            1e-40,
            f32::MIN_POSITIVE,
            f32::MAX,
            2.5e38,
            2.6e38,
            1.0,
            1.0 - f32::EPSILON / 2.0,
            1.0 + f32::EPSILON,
            0.75,
        ];
        // About every thousandth positive single, and many near 1.
        let all = (1..0x7f80_0000_u32)
            .step_by(if cfg!(miri) { 10_210_001 } else { 1021 })
            .map(f32::from_bits);
        let near_one = (0x3f70_0000..0x3f90_0000_u32)
            .step_by(if cfg!(miri) { 70_001 } else { 7 })
            .map(f32::from_bits);
        let mut x: Vec<f32> = special.into_iter().chain(all).chain(near_one).collect();
        x.truncate(x.len() / 16 * 16);
        check(&x, false, 1.0, f64::from(f32::EPSILON), 0.0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "the functions that it compares with are off by chance there")]
    fn exp_is_within_two_eps() {
        let special = [
            0.0,
            -0.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            709.78,
            709.79,
            -708.4,
            -745.13,
            -745.14,
            1e300,
            -1e300,
            5e-324,
            1.0,
            -1.0,
            0.346_573_590_279_97,
        ];
        let wide = chance(60_000).map(|bits| ((bits >> 11) as f64 / (1_u64 << 53) as f64 - 0.5) * 1500.0);
        let near = chance(60_000).map(|bits| ((bits >> 11) as f64 / (1_u64 << 53) as f64 - 0.5) * 4.0);
        let mut x: Vec<f64> = special.into_iter().chain(wide).chain(near).collect();
        x.truncate(x.len() / 16 * 16);
        // A subnormal result is rounded once more, to half of the least number.
        check(&x, true, 2.0, f64::EPSILON, 5e-324);
    }

    #[test]
    #[cfg_attr(miri, ignore = "the functions that it compares with are off by chance there")]
    fn exp_of_singles_is_within_two_eps() {
        let special = [
            0.0,
            -0.0,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            88.72,
            88.73,
            -87.4,
            -103.97,
            -104.1,
            1e30,
            -1e30,
            1e-45,
            1.0,
            -1.0,
            0.346_573_6,
        ];
        let wide = chance(60_000).map(|bits| ((bits >> 40) as f32 / (1_u64 << 24) as f32 - 0.5) * 190.0);
        let mut x: Vec<f32> = special.into_iter().chain(wide).collect();
        x.truncate(x.len() / 16 * 16);
        check(&x, true, 2.0, f64::from(f32::EPSILON), 1.4e-45);
    }
}
