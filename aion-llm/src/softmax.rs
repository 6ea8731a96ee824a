//! The sums behind a softmax over the vocabulary, fast enough to be taken at every token.
//!
//! One body of plain code is compiled for the instruction sets that a processor may have and chosen at run time. It
//! uses no fused multiply-add and always sums in the same order, so every processor gives the same bits.
#![allow(
    unsafe_code,
    reason = "functions compiled for instruction sets are unsafe to call; each call follows the check that they are there"
)]

/// Values that are worked on together.
const BLOCK: usize = 64;
/// Sums that run side by side.
const LANES: usize = 8;
/// `exp` of anything below is taken for 0; it is 10^-304.
const LEAST: f64 = -700.0;

/// The largest logit, or none when one is not a number or there is none. Infinities are logits here.
pub(crate) fn max(logits: &[f32]) -> Option<f32> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 is there.
        return unsafe { max_avx2(logits) };
    }
    max_body(logits)
}

/// `(sum of exp(l - max), sum of exp(l - max) * (l - max))` over all logits; `max` is the largest and finite.
pub(crate) fn sums(logits: &[f32], max: f32) -> (f64, f64) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512dq") {
            // SAFETY: AVX-512 F and DQ are there.
            return unsafe { sums_avx512(logits, max) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: AVX2 is there.
            return unsafe { sums_avx2(logits, max) };
        }
    }
    sums_body(logits, max)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn max_avx2(logits: &[f32]) -> Option<f32> {
    max_body(logits)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sums_avx2(logits: &[f32], max: f32) -> (f64, f64) {
    sums_body(logits, max)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
fn sums_avx512(logits: &[f32], max: f32) -> (f64, f64) {
    sums_body(logits, max)
}

#[inline(always)]
fn max_body(logits: &[f32]) -> Option<f32> {
    let mut top = [f32::NEG_INFINITY; 4 * LANES];
    let mut broken = [false; 4 * LANES];
    let (blocks, rest) = logits.as_chunks::<{ 4 * LANES }>();
    for block in blocks {
        for ((top, broken), x) in top.iter_mut().zip(&mut broken).zip(block) {
            *top = if *x > *top { *x } else { *top };
            *broken |= x.is_nan();
        }
    }
    for ((top, broken), x) in top.iter_mut().zip(&mut broken).zip(rest) {
        *top = if *x > *top { *x } else { *top };
        *broken |= x.is_nan();
    }
    let best = top.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (!logits.is_empty() && !broken.contains(&true)).then_some(best)
}

#[inline(always)]
fn sums_body(logits: &[f32], max: f32) -> (f64, f64) {
    let (mut sums, mut weighted) = ([0.0; LANES], [0.0; LANES]);
    let (blocks, rest) = logits.as_chunks::<BLOCK>();
    for block in blocks {
        add(block, max, &mut sums, &mut weighted);
    }
    let mut last = [f32::NEG_INFINITY; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    add(&last, max, &mut sums, &mut weighted);
    (sums.iter().sum(), weighted.iter().sum())
}

#[inline(always)]
fn add(block: &[f32; BLOCK], max: f32, sums: &mut [f64; LANES], weighted: &mut [f64; LANES]) {
    let max = f64::from(max);
    let (mut weights, mut products) = ([0.0; BLOCK], [0.0; BLOCK]);
    for ((weight, product), logit) in weights.iter_mut().zip(&mut products).zip(block) {
        let shifted = f64::from(*logit) - max;
        let live = shifted >= LEAST;
        let shifted = if live { shifted } else { LEAST };
        let exp = exp(shifted);
        *weight = if live { exp } else { 0.0 };
        *product = *weight * shifted;
    }
    for (weights, products) in weights
        .as_chunks::<LANES>()
        .0
        .iter()
        .zip(products.as_chunks::<LANES>().0)
    {
        for i in 0..LANES {
            sums[i] += weights[i];
            weighted[i] += products[i];
        }
    }
}

/// `exp(x)` for `-700 <= x <= 0`, within 10^-11 of its size: `2^k` times the Taylor polynomial of degree 9 around 0 at
/// `x - k ln 2`, which lies within 0.347.
#[inline(always)]
fn exp(x: f64) -> f64 {
    /// Adding it rounds to whole numbers, which then stand in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const INVERSE_FACTORIALS: [f64; 10] = [
        1.0,
        1.0,
        1.0 / 2.0,
        1.0 / 6.0,
        1.0 / 24.0,
        1.0 / 120.0,
        1.0 / 720.0,
        1.0 / 5040.0,
        1.0 / 40_320.0,
        1.0 / 362_880.0,
    ];
    let rounded = x * std::f64::consts::LOG2_E + ROUND;
    let k = rounded - ROUND;
    let r = x - k * LN_2_HIGH - k * LN_2_LOW;
    let mut polynomial = INVERSE_FACTORIALS[9];
    for i in (0..9).rev() {
        polynomial = polynomial * r + INVERSE_FACTORIALS[i];
    }
    let power = f64::from_bits(rounded.to_bits().wrapping_add(1023) << 52);
    polynomial * power
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_exponential_is_that_of_the_standard_library() {
        for i in 0..70_000 {
            let x = -f64::from(i) / 100.0;
            let (ours, theirs) = (exp(x), x.exp());
            assert!(
                (ours / theirs - 1.0).abs() < 1e-11,
                "exp({x}) = {theirs}, not {ours}"
            );
        }
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn what_is_not_a_number_is_found_wherever_it_stands() {
        assert_eq!(max(&[]), None);
        assert_eq!(max(&[f32::NEG_INFINITY, 3.0]), Some(3.0));
        for at in [0, 31, 32, 99] {
            let mut logits = vec![1.0; 100];
            logits[at] = f32::NAN;
            assert_eq!(max(&logits), None);
            logits[at] = f32::INFINITY;
            assert_eq!(max(&logits), Some(f32::INFINITY));
            logits[at] = 7.5;
            assert_eq!(max(&logits), Some(7.5));
        }
    }

    proptest! {
        /// Every body gives the bits of the portable one, and they are the sums.
        #[test]
        fn all_bodies_agree(logits in proptest::collection::vec(prop_oneof![20 => -900f32..40.0, 1 => Just(f32::NEG_INFINITY)], 1..300)) {
            let top = max(&logits).unwrap();
            prop_assert_eq!(Some(top), max_body(&logits));
            prop_assume!(top.is_finite());
            let (sum, weighted) = sums(&logits, top);
            prop_assert_eq!((sum, weighted), sums_body(&logits, top));
            let shifted = logits.iter().map(|x| f64::from(*x) - f64::from(top)).filter(|x| *x >= LEAST);
            let (mut plain, mut product) = (0.0, 0.0);
            shifted.for_each(|x| {
                plain += x.exp();
                product += x.exp() * x;
            });
            prop_assert!((sum / plain - 1.0).abs() < 1e-11);
            prop_assert!((weighted - product).abs() < 1e-10 * (1.0 + product.abs()));
        }
    }
}
