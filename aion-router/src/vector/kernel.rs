//! Sums of products of 8-bit integers: three bodies, chosen by what the processor can do. All give the
//! same integers.
#![allow(
    unsafe_code,
    reason = "vector instructions are reached by intrinsics, each behind a check of the processor"
)]

use std::sync::OnceLock;

/// A set of instructions that a kernel is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Plain Rust.
    Portable,
    /// 256-bit vectors of x86-64.
    Avx2,
    /// 512-bit vectors of x86-64 with dot products of bytes.
    Avx512,
}

impl Level {
    /// The best that this processor has.
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            let levels = [Self::Avx512, Self::Avx2];
            levels
                .into_iter()
                .find(|level| level.is_here())
                .unwrap_or(Self::Portable)
        })
    }

    /// Whether this processor has it.
    pub fn is_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            match self {
                Self::Portable => true,
                Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
                Self::Avx512 => {
                    Self::Avx2.is_here()
                        && is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512bw")
                        && is_x86_feature_detected!("avx512vl")
                        && is_x86_feature_detected!("avx512vnni")
                        && is_x86_feature_detected!("avx512vpopcntdq")
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }
}

/// `out[i] = rows[i] . query` over rows of the length of the query, a multiple of 64; `sums[i]` is the sum
/// of `rows[i]`. `moved` is the query, each number greater by 128.
pub(super) fn dots(level: Level, rows: &[i8], sums: &[i32], (query, moved): (&[i8], &[u8]), out: &mut [f32]) {
    assert!(
        query.len().is_multiple_of(64) && rows.len() == query.len() * out.len() && sums.len() == out.len()
    );
    assert_eq!(query.len(), moved.len());
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions.
        Level::Avx512 if level.is_here() => unsafe { x86::dots_avx512(rows, sums, moved, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions.
        Level::Avx2 if level.is_here() => unsafe { x86::dots_avx2(rows, query, out) },
        _ => dots_portable(rows, query, out),
    }
}

fn dots_portable(rows: &[i8], query: &[i8], out: &mut [f32]) {
    for (row, score) in rows.chunks_exact(query.len()).zip(out) {
        let products = row.iter().zip(query).map(|(a, b)| i32::from(*a) * i32::from(*b));
        *score = products.sum::<i32>() as f32;
    }
}

/// `out[i] = rows[i] . query` over rows of half-bytes: each 64 bytes hold 128 numbers from 0 to 15, the first 64 in
/// their lower halves. The length of the query is a multiple of 128.
pub(super) fn half_dots(level: Level, rows: &[u8], query: &[i8], out: &mut [i32]) {
    assert!(query.len().is_multiple_of(128) && 2 * rows.len() == query.len() * out.len());
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions.
        Level::Avx512 if level.is_here() => unsafe { x86::half_dots_avx512(rows, query, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions.
        Level::Avx2 if level.is_here() => unsafe { x86::half_dots_avx2(rows, query, out) },
        _ => half_dots_portable(rows, query, out),
    }
}

fn half_dots_portable(rows: &[u8], query: &[i8], out: &mut [i32]) {
    let product = |half: u8, x: i8| i32::from(half) * i32::from(x);
    for (row, dot) in rows.chunks_exact(query.len() / 2).zip(out) {
        let blocks = row.chunks_exact(64).zip(query.chunks_exact(128));
        *dot = blocks
            .flat_map(|(block, query)| {
                let (lower, upper) = query.split_at(64);
                let pairs = block.iter().zip(lower.iter().zip(upper));
                pairs.map(|(halves, (lower, upper))| {
                    product(halves & 15, *lower) + product(halves >> 4, *upper)
                })
            })
            .sum();
    }
}

/// Asks for the memory of a row before it is read.
pub(super) fn ask_for(row: &[i8]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(64) {
        // SAFETY: all have SSE; it asks for memory and touches nothing.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// `out[i]` = how many bits of `rows[i]` and `query` agree, less those that do not.
pub(super) fn agreements(level: Level, rows: &[u64], query: &[u64], out: &mut [f32]) {
    assert!(rows.len() == query.len() * out.len());
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions.
        Level::Avx512 if level.is_here() => unsafe { x86::agreements_avx512(rows, query, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions; all with AVX2 have popcnt.
        Level::Avx2 if level.is_here() => unsafe { x86::agreements_popcnt(rows, query, out) },
        _ => agreements_body(rows, query, out),
    }
}

#[inline(always)]
fn agreements_body(rows: &[u64], query: &[u64], out: &mut [f32]) {
    let bits = 64 * query.len() as u32;
    for (row, score) in rows.chunks_exact(query.len()).zip(out) {
        let apart: u32 = row.iter().zip(query).map(|(a, b)| (a ^ b).count_ones()).sum();
        *score = bits as f32 - 2.0 * apart as f32;
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Bytes of a row ahead that are asked for early.
    const AHEAD: usize = 4_096;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq,avx2,fma")]
    pub(super) unsafe fn dots_avx512(rows: &[i8], sums: &[i32], moved: &[u8], out: &mut [f32]) {
        // Products of an unsigned and a signed byte: the query is moved by 128, and the sum of the row
        // takes it back.
        let stride = moved.len();
        let fours = out.len() / 4;
        for four in 0..fours {
            let base = unsafe { rows.as_ptr().add(four * 4 * stride) };
            let mut acc = [_mm512_setzero_si512(); 4];
            for at in (0..stride).step_by(64) {
                // SAFETY: `at + 64 <= stride`, and four rows are left from `base` on.
                unsafe {
                    let q = _mm512_loadu_si512(moved.as_ptr().add(at).cast());
                    for (row, acc) in acc.iter_mut().enumerate() {
                        let from = base.add(row * stride + at);
                        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD));
                        *acc = _mm512_dpbusd_epi32(*acc, q, _mm512_loadu_si512(from.cast()));
                    }
                }
            }
            let dots = _mm_cvtepi32_ps(_mm_sub_epi32(sum_of_four(acc), unsafe {
                // SAFETY: as many sums as rows.
                let sums = _mm_loadu_si128(sums.as_ptr().add(4 * four).cast());
                _mm_slli_epi32::<7>(sums)
            }));
            // SAFETY: four scores are left.
            unsafe { _mm_storeu_ps(out.as_mut_ptr().add(4 * four), dots) };
        }
        for (row, (sum, dot)) in rows
            .chunks_exact(stride)
            .zip(sums.iter().zip(out))
            .skip(4 * fours)
        {
            let mut acc = _mm512_setzero_si512();
            for at in (0..stride).step_by(64) {
                // SAFETY: `at + 64 <= stride`, the length of both.
                unsafe {
                    let q = _mm512_loadu_si512(moved.as_ptr().add(at).cast());
                    acc = _mm512_dpbusd_epi32(acc, q, _mm512_loadu_si512(row.as_ptr().add(at).cast()));
                }
            }
            *dot = (_mm512_reduce_add_epi32(acc) - 128 * sum) as f32;
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq,avx2,fma")]
    pub(super) unsafe fn half_dots_avx512(rows: &[u8], query: &[i8], out: &mut [i32]) {
        let stride = query.len() / 2;
        let lower = _mm512_set1_epi8(15);
        let fours = out.len() / 4;
        for four in 0..fours {
            let base = unsafe { rows.as_ptr().add(four * 4 * stride) };
            let (mut acc, mut upper) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 4]);
            for at in (0..stride).step_by(64) {
                // SAFETY: `at + 64 <= stride`, four rows are left from `base` on, and the query is twice as long.
                unsafe {
                    let first = _mm512_loadu_si512(query.as_ptr().add(2 * at).cast());
                    let second = _mm512_loadu_si512(query.as_ptr().add(2 * at + 64).cast());
                    for (row, (acc, upper)) in acc.iter_mut().zip(&mut upper).enumerate() {
                        let from = base.add(row * stride + at);
                        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast());
                        let halves = _mm512_loadu_si512(from.cast());
                        *acc = _mm512_dpbusd_epi32(*acc, _mm512_and_si512(halves, lower), first);
                        // Sixteen times as much as it should be.
                        *upper = _mm512_dpbusd_epi32(*upper, _mm512_andnot_si512(lower, halves), second);
                    }
                }
            }
            for (acc, upper) in acc.iter_mut().zip(upper) {
                *acc = _mm512_add_epi32(*acc, _mm512_srai_epi32::<4>(upper));
            }
            // SAFETY: four places are left.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().add(4 * four).cast(), sum_of_four(acc)) };
        }
        for (row, dot) in rows.chunks_exact(stride).zip(out).skip(4 * fours) {
            let mut acc = _mm512_setzero_si512();
            for at in (0..stride).step_by(64) {
                // SAFETY: `at + 64 <= stride`, and the query is twice as long.
                unsafe {
                    let first = _mm512_loadu_si512(query.as_ptr().add(2 * at).cast());
                    let second = _mm512_loadu_si512(query.as_ptr().add(2 * at + 64).cast());
                    let halves = _mm512_loadu_si512(row.as_ptr().add(at).cast());
                    let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(halves), lower);
                    acc = _mm512_dpbusd_epi32(acc, _mm512_and_si512(halves, lower), first);
                    acc = _mm512_dpbusd_epi32(acc, upper, second);
                }
            }
            *dot = _mm512_reduce_add_epi32(acc);
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn half_dots_avx2(rows: &[u8], query: &[i8], out: &mut [i32]) {
        let (lower, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        for (row, dot) in rows.chunks_exact(query.len() / 2).zip(out) {
            let mut acc = _mm256_setzero_si256();
            for at in (0..row.len()).step_by(32) {
                // Where the numbers of these halves stand in the query.
                let first = at / 64 * 128 + at % 64;
                // SAFETY: `at + 32` is at most the row's length, and the query is twice as long.
                unsafe {
                    let halves = _mm256_loadu_si256(row.as_ptr().add(at).cast());
                    let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(halves), lower);
                    for (halves, place) in [(_mm256_and_si256(halves, lower), first), (upper, first + 64)] {
                        let query = _mm256_loadu_si256(query.as_ptr().add(place).cast());
                        // Two products of at most 15 times 127 fit 16 bits.
                        let pairs = _mm256_maddubs_epi16(halves, query);
                        acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            *dot = sum_of_eight(acc);
        }
    }

    /// The sums of four vectors of sixteen integers.
    #[target_feature(enable = "avx512f,avx2")]
    fn sum_of_four(acc: [__m512i; 4]) -> __m128i {
        let [a, b, c, d] = acc;
        let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        // Each quarter has a part of all four sums.
        let all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let two = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
        _mm_add_epi32(_mm256_castsi256_si128(two), _mm256_extracti128_si256::<1>(two))
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn dots_avx2(rows: &[i8], query: &[i8], out: &mut [f32]) {
        let stride = query.len();
        for (row, score) in rows.chunks_exact(stride).zip(out) {
            let mut acc = [_mm256_setzero_si256(); 2];
            for at in (0..stride).step_by(32) {
                // SAFETY: rows and query have `stride` bytes, a multiple of 64.
                unsafe {
                    for (half, acc) in acc.iter_mut().enumerate() {
                        let a = _mm_loadu_si128(row.as_ptr().add(at + 16 * half).cast());
                        let b = _mm_loadu_si128(query.as_ptr().add(at + 16 * half).cast());
                        let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(a), _mm256_cvtepi8_epi16(b));
                        *acc = _mm256_add_epi32(*acc, products);
                    }
                }
            }
            *score = sum_of_eight(_mm256_add_epi32(acc[0], acc[1])) as f32;
        }
    }

    #[target_feature(enable = "avx2")]
    fn sum_of_eight(v: __m256i) -> i32 {
        let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let v = _mm_hadd_epi32(v, v);
        _mm_cvtsi128_si32(_mm_hadd_epi32(v, v))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq,avx2,fma")]
    pub(super) unsafe fn agreements_avx512(rows: &[u64], query: &[u64], out: &mut [f32]) {
        let words = query.len();
        if words > 8 {
            // SAFETY: the same instructions and more.
            return unsafe { agreements_popcnt(rows, query, out) };
        }
        let mask = ((1_u16 << words) - 1) as u8;
        // SAFETY: the mask leaves out what is beyond the query and the row.
        unsafe {
            let q = _mm512_maskz_loadu_epi64(mask, query.as_ptr().cast());
            for (row, score) in rows.chunks_exact(words).zip(out) {
                let row = _mm512_maskz_loadu_epi64(mask, row.as_ptr().cast());
                let apart = _mm512_reduce_add_epi64(_mm512_popcnt_epi64(_mm512_xor_si512(q, row)));
                *score = (64 * words as i64 - 2 * apart) as f32;
            }
        }
    }

    #[target_feature(enable = "popcnt")]
    pub(super) unsafe fn agreements_popcnt(rows: &[u64], query: &[u64], out: &mut [f32]) {
        match query.len() {
            // The common length is written out, so that its loop is.
            6 => agreements_of::<6>(rows, query, out),
            _ => super::agreements_body(rows, query, out),
        }
    }

    #[target_feature(enable = "popcnt")]
    fn agreements_of<const WORDS: usize>(rows: &[u64], query: &[u64], out: &mut [f32]) {
        let query = &query[..WORDS];
        for (row, score) in rows.chunks_exact(WORDS).zip(out) {
            let apart: u32 = (0..WORDS).map(|i| (row[i] ^ query[i]).count_ones()).sum();
            *score = (64 * WORDS) as f32 - 2.0 * apart as f32;
        }
    }
}
