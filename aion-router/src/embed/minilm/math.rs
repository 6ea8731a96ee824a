//! The functions between the products. Plain loops, compiled once for each level of the processor.

use crate::exp::exp;

/// `x * P(N < x)` for a normal `N`.
///
/// # Sources
/// M. Abramowitz, I. Stegun, Handbook of mathematical functions, 7.1.26 (error below 1.5e-7).
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    for c in [-1.453_152_1, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        p = p * t + c;
    }
    let tail = p * t * exp(-z * z);
    let erf = if x < 0.0 { tail - 1.0 } else { 1.0 - tail };
    0.5 * x * (1.0 + erf)
}

#[inline(always)]
pub(super) fn softmax(row: &mut [f32]) {
    let most = row
        .iter()
        .fold(f32::NEG_INFINITY, |most, x| if *x > most { *x } else { most });
    let mut sum = [0.0_f32; 8];
    let chunks = row.chunks_exact_mut(8);
    for chunk in chunks {
        for (x, sum) in chunk.iter_mut().zip(&mut sum) {
            *x = exp(*x - most);
            *sum += *x;
        }
    }
    let done = row.len() / 8 * 8;
    for x in &mut row[done..] {
        *x = exp(*x - most);
        sum[0] += *x;
    }
    let share = 1.0 / sum.iter().sum::<f32>();
    row.iter_mut().for_each(|x| *x *= share);
}

/// `row <- norm(row + residual)`.
#[inline(always)]
pub(super) fn add_norm(row: &mut [f32], residual: &[f32], gain: &[f32], bias: &[f32], epsilon: f32) {
    row.iter_mut().zip(residual).for_each(|(x, y)| *x += y);
    let n = row.len() as f32;
    let mean = sum(row, |x| x) / n;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / n;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for ((x, gain), bias) in row.iter_mut().zip(gain).zip(bias) {
        *x = (*x - mean) * scale * gain + bias;
    }
}

#[inline(always)]
fn sum(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; 16];
    for chunk in row.chunks(16) {
        for (x, sum) in chunk.iter().zip(&mut sums) {
            *sum += of(*x);
        }
    }
    sums.iter().sum()
}

#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        for ((a, b), sum) in a.iter().zip(b).zip(&mut sums) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_is_close_to_the_true_one() {
        // Values of 0.5 x (1 + erf(x / sqrt 2)) in high precision.
        let cases = [
            (-3.0, -0.004_049_694),
            (-1.0, -0.158_655_25),
            (0.0, 0.0),
            (0.5, 0.345_731_23),
            (2.0, 1.954_499_7),
        ];
        for (x, wanted) in cases {
            assert!((gelu(x) - wanted).abs() < 1e-6, "{x}: {} {wanted}", gelu(x));
        }
    }

    #[test]
    fn softmax_and_norm_do_what_they_say() {
        let mut row: Vec<f32> = (0..11).map(|x| x as f32).collect();
        softmax(&mut row);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((row[10] / row[9] - std::f32::consts::E).abs() < 1e-5);
        let mut row = [1.0, 2.0, 3.0, 6.0];
        add_norm(&mut row, &[0.0; 4], &[1.0; 4], &[0.0; 4], 0.0);
        assert!(row.iter().sum::<f32>().abs() < 1e-6);
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 4.0).abs() < 1e-5);
        assert_eq!(dot(&[1.0, 2.0], &[3.0, 4.0]), 11.0);
    }
}
