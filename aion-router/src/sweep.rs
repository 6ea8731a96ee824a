//! Passes over whole columns: one body each, compiled for every level of the processor, the same bits on all.
#![allow(
    unsafe_code,
    reason = "the same body is compiled for each level of the processor, or written by intrinsics, called behind a check"
)]

/// A function whose body is compiled for each level of the processor; the best one that is here runs.
macro_rules! for_each_level {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $of:ty),*) $(-> $answer:ty)? $body:block) => {
        $(#[$doc])*
        pub(crate) fn $name($($argument: $of),*) $(-> $answer)? {
            #[inline(always)]
            fn body($($argument: $of),*) $(-> $answer)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
                fn avx512($($argument: $of),*) $(-> $answer)? { body($($argument),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($argument: $of),*) $(-> $answer)? { body($($argument),*) }
                match $crate::vector::Level::best() {
                    // SAFETY: the processor has the instructions.
                    $crate::vector::Level::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: the processor has the instructions.
                    $crate::vector::Level::Avx2 => return unsafe { avx2($($argument),*) },
                    _ => {}
                }
            }
            body($($argument),*)
        }
    };
}
pub(crate) use for_each_level;

use crate::vector::Level;

/// Asks for the memory of something small before it is read.
pub(crate) fn ask_for<T>(what: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: all have SSE; it asks for memory and touches nothing.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
            std::ptr::from_ref(what).cast(),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
}

/// Numbers that are summed side by side.
const LANES: usize = 16;

for_each_level! {
    /// `to[i] += weight * from[i]`, as far as both go.
    fn add_scaled(weight: f32, from: &[f32], to: &mut [f32]) {
        for (to, x) in to.iter_mut().zip(from) {
            *to += weight * x;
        }
    }
}

/// What rounding can add to a cosine: those of 32 bits are off by less.
pub(crate) const ROUNDING: f32 = 1e-5;

for_each_level! {
    /// What cosines are at most: `(dot - too_much) row_scale scale + left_out length`, and a little more.
    fn greatest_cosines(
        dots: &[i32], too_much: i32, row_scales: &[f32], left_out: &[f32], query: (f32, f32), out: &mut [f32]
    ) {
        let (scale, length) = query;
        let rows = dots.iter().zip(row_scales).zip(left_out);
        for (out, ((dot, row_scale), left_out)) in out.iter_mut().zip(rows) {
            *out = (dot - too_much) as f32 * (row_scale * scale) + (left_out * length + ROUNDING);
        }
    }
}

for_each_level! {
    /// Cosines of products: `(dot - too_much) row_scale scale`.
    fn cosines_of(dots: &[i32], too_much: i32, row_scales: &[f32], scale: f32, out: &mut [f32]) {
        for (out, (dot, row_scale)) in out.iter_mut().zip(dots.iter().zip(row_scales)) {
            *out = (dot - too_much) as f32 * (scale * row_scale);
        }
    }
}

for_each_level! {
    /// `to[i] *= scale * by[i]`, as far as both go.
    fn rescale(scale: f32, by: &[f32], to: &mut [f32]) {
        for (to, by) in to.iter_mut().zip(by) {
            *to *= by * scale;
        }
    }
}

/// The places of the numbers that are at least `bar`, appended rising; what is no number is not.
pub(crate) fn at_least(numbers: &[f32], bar: f32, places: &mut Vec<u32>) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if Level::best() == Level::Avx512 {
        // SAFETY: the processor has the instructions.
        done = unsafe { at_least_avx512(numbers, bar, places) };
    }
    let rest = numbers.iter().enumerate().skip(done).filter(|(_, x)| **x >= bar);
    places.extend(rest.map(|(place, _)| place as u32));
}

/// The same for whole vectors of numbers, without a branch for each; how many numbers those were.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn at_least_avx512(numbers: &[f32], bar: f32, places: &mut Vec<u32>) -> usize {
    use std::arch::x86_64::*;
    let (whole, _) = numbers.as_chunks::<LANES>();
    places.reserve(numbers.len() + LANES);
    let bar = _mm512_set1_ps(bar);
    let mut here = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let mut len = places.len();
    for chunk in whole {
        // SAFETY: a chunk has sixteen numbers; there is room for all numbers and sixteen more, and no more places are
        // kept than numbers were seen.
        unsafe {
            let found = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(_mm512_loadu_ps(chunk.as_ptr()), bar);
            let to = places.as_mut_ptr().add(len).cast();
            _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(found, here));
            len += found.count_ones() as usize;
        }
        here = _mm512_add_epi32(here, _mm512_set1_epi32(LANES as i32));
    }
    // SAFETY: so many places were written.
    unsafe { places.set_len(len) };
    whole.len() * LANES
}

for_each_level! {
    /// The greatest of the numbers and 0.
    fn greatest(numbers: &[f32]) -> f32 {
        let (whole, rest) = numbers.as_chunks::<LANES>();
        let larger = |most: f32, x: f32| if x > most { x } else { most };
        let mut lanes = [0.0_f32; LANES];
        for chunk in whole {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = larger(*lane, *x);
            }
        }
        lanes.iter().chain(rest).copied().fold(0.0, larger)
    }
}

for_each_level! {
    /// The sum of the products, in the same order whatever the processor.
    fn product(a: &[f32], b: &[f32]) -> f64 {
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        let mut lanes = [0.0_f64; LANES];
        for (a, b) in a.iter().zip(b) {
            for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                *lane += f64::from(a * b);
            }
        }
        let rest = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(a * b));
        lanes.into_iter().chain(rest).sum()
    }
}

for_each_level! {
    /// The sum of the squares, in the same order whatever the processor.
    fn squares(numbers: &[f32]) -> f64 {
        let (whole, rest) = numbers.as_chunks::<LANES>();
        let mut lanes = [0.0_f64; LANES];
        for chunk in whole {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(*x) * f64::from(*x);
            }
        }
        let rest = rest.iter().map(|x| f64::from(*x) * f64::from(*x));
        lanes.into_iter().chain(rest).sum()
    }
}

for_each_level! {
    /// The greatest of the numbers without their signs.
    fn greatest_size(numbers: &[f32]) -> f32 {
        let (whole, rest) = numbers.as_chunks::<LANES>();
        let larger = |most: f32, x: f32| if x.abs() > most { x.abs() } else { most };
        let mut lanes = [0.0_f32; LANES];
        for chunk in whole {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = larger(*lane, *x);
            }
        }
        lanes.iter().chain(rest).copied().fold(0.0, larger)
    }
}

/// The nearest whole number of one that is small, the even one of two; written so that loops of it become vectors.
#[inline(always)]
fn nearest(x: f32) -> f32 {
    // 1.5 * 2^23 has no bits behind the point.
    (x + 12_582_912.0) - 12_582_912.0
}

for_each_level! {
    /// Numbers up to `largest` as integers up to 127, and what rounding leaves of them in sixteenths from -8 to 7.
    fn quantise(numbers: &[f32], largest: f32, whole: &mut [i8], fine: &mut [i8]) {
        for ((whole, fine), x) in whole.iter_mut().zip(fine).zip(numbers) {
            let x = x / largest * 127.0;
            let rounded = nearest(x);
            *whole = rounded as i32 as i8;
            *fine = nearest((x - rounded) * 16.0).clamp(-8.0, 7.0) as i32 as i8;
        }
    }
}

for_each_level! {
    /// Numbers in steps from -8 to 7, and what those leave out.
    fn count_steps(numbers: &[f32], step: f32, steps: &mut [i8], left_out: &mut [f32]) {
        for ((steps, left_out), x) in steps.iter_mut().zip(left_out).zip(numbers) {
            let count = nearest(x / step).clamp(-8.0, 7.0);
            *steps = count as i32 as i8;
            *left_out = x - step * count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_are_what_they_say_for_every_length() {
        for len in 0..70 {
            let a: Vec<f32> = (0..len).map(|i| (i * 37 % 23) as f32 - 11.0).collect();
            let b: Vec<f32> = (0..len).map(|i| (i * 29 % 31) as f32 / 4.0 - 3.0).collect();
            let pairs = || a.iter().zip(&b);
            assert_eq!(
                product(&a, &b),
                pairs().map(|(a, b)| f64::from(a * b)).sum::<f64>()
            );
            assert_eq!(greatest(&a), a.iter().copied().fold(0.0, f32::max));
            assert_eq!(greatest_size(&a), a.iter().fold(0.0, |most, x| x.abs().max(most)));
            assert_eq!(squares(&b), b.iter().map(|x| f64::from(x * x)).sum::<f64>());
            let mut sum = b.clone();
            add_scaled(0.5, &a, &mut sum);
            assert_eq!(sum, pairs().map(|(a, b)| b + 0.5 * a).collect::<Vec<_>>());
        }
        assert_eq!(greatest(&[f32::NEG_INFINITY, -1.0]), 0.0);
    }

    #[test]
    fn what_is_rounded_and_what_is_left_give_the_number_back() {
        let numbers: Vec<f32> = (0..150).map(|i| (i * 37 % 151) as f32 / 75.0 - 1.0).collect();
        let (mut whole, mut fine) = (vec![0; 150], vec![0; 150]);
        quantise(&numbers, 1.0, &mut whole, &mut fine);
        for (i, x) in numbers.iter().enumerate() {
            let back = f32::from(whole[i]) + f32::from(fine[i]) / 16.0;
            assert!((back - x * 127.0).abs() <= 1.0 / 16.0, "{x}: {back}");
        }
        let (mut steps, mut left) = (vec![0; 150], vec![0.0; 150]);
        count_steps(&numbers, 0.1, &mut steps, &mut left);
        for (i, x) in numbers.iter().enumerate() {
            assert!((f32::from(steps[i]) * 0.1 + left[i] - x).abs() < 1e-6);
            assert!((-8..=7).contains(&steps[i]) && (left[i].abs() <= 0.051 || x.abs() > 0.7));
        }
    }

    #[test]
    fn places_are_those_that_reach_the_bar() {
        let numbers: Vec<f32> = (0..300).map(|i| (i * 37 % 101) as f32).collect();
        for bar in [0.0, 50.0, 99.5, 100.0, 101.0] {
            let mut places = vec![7];
            at_least(&numbers, bar, &mut places);
            let wanted = (0..300).filter(|i| numbers[*i as usize] >= bar);
            assert_eq!(places, [7].into_iter().chain(wanted).collect::<Vec<_>>());
        }
        let mut places = Vec::new();
        at_least(
            &[f32::NAN, f32::NEG_INFINITY, -1.0],
            f32::NEG_INFINITY,
            &mut places,
        );
        assert_eq!(places, [1, 2]);
    }
}
