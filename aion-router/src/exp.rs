//! Exponentials of many numbers: one body, compiled for each level of the processor, the same bits on all.
#![allow(
    unsafe_code,
    reason = "a conversion to integers without a check, of numbers in range; and the levels of the processor"
)]

use crate::sweep::for_each_level;

/// What a whole is in the integers that sums of exponentials are made of: integers, so that the sum does
/// not depend on the order.
pub(crate) const WHOLE: f32 = (1_u32 << 30) as f32;

/// `e^x` to about 2e-7 of itself, for `x` in `[-87, 88]`; written so that loops of it become vectors.
///
/// # Sources
/// The polynomial and the split of `ln 2` are those of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // Rounds to the nearest whole number: 1.5 * 2^23 has no bits behind the point.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = p * r + c;
    }
    let p = p * r * r + r + 1.0;
    let power = (shifted.to_bits() << 23).wrapping_add(0x3f80_0000);
    p * f32::from_bits(power)
}

for_each_level! {
    /// Makes `e^(logit - most)` of logits up to `most`; their sum in [`WHOLE`]ths.
    fn exponentials(logits: &mut [f32], most: f32) -> u64 {
        let mut sum = 0;
        for logits in logits.chunks_mut(256) {
            for x in logits.iter_mut() {
                *x = exp(*x - most);
            }
            sum += logits.iter().map(|x| u64::from(wholes(*x))).sum::<u64>();
        }
        sum
    }
}

/// A number in `[0, 1]` in [`WHOLE`]ths.
#[inline(always)]
pub(crate) fn wholes(x: f32) -> u32 {
    // SAFETY: `x` is an exponential of at most 0, so between 0 and a little over 1.
    unsafe { (x.min(1.0) * WHOLE).to_int_unchecked::<i32>() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_true_one() {
        for i in -8_700..1_000 {
            let x = i as f32 / 100.0;
            let (got, wanted) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / wanted - 1.0).abs() < 5e-7, "{x}: {got} {wanted}");
        }
    }

    #[test]
    fn sums_do_not_depend_on_order_or_processor() {
        let mut logits: Vec<f32> = (0..1_000).map(|i| -((i * 37 % 1_000) as f32) / 50.0).collect();
        let sum = exponentials(&mut logits.clone(), 0.0);
        let one_by_one = logits.iter().map(|x| u64::from(wholes(exp(*x))));
        assert_eq!(sum, one_by_one.sum::<u64>());
        logits.reverse();
        assert_eq!(sum, exponentials(&mut logits.clone(), 0.0));
        let wanted: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        assert!((sum as f64 / f64::from(WHOLE) - wanted).abs() < 1e-5 * wanted);
    }
}
