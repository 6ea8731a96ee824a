//! Sixteen lanes of one processor: what every kernel is written with.

/// Vectors of sixteen lanes. A value of the type is the proof that the processor has its instructions, so that the
/// methods are safe to call.
///
/// Sums of products of integers are exact in every implementation. Floats may be fused or not, so two implementations
/// differ in last bits; one implementation gives the same bits in every kernel.
pub(crate) trait Lanes: Copy {
    /// Sixteen floats.
    type F: Copy;
    /// Sixteen 32-bit integers, or sixteen times four bytes.
    type I: Copy;
    /// How many rows of activations share the weights in registers: 8 or 2.
    const GROUP: usize;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; 16]) -> Self::F;
    fn store(self, v: Self::F, out: &mut [f32; 16]);
    /// From floats as they lie in a file: little-endian, at any place.
    #[inline(always)]
    fn floats(self, x: &[u8; 64]) -> Self::F {
        let mut floats = [0.0; 16];
        for (float, bytes) in floats.iter_mut().zip(x.as_chunks::<4>().0) {
            *float = f32::from_le_bytes(*bytes);
        }
        self.load(&floats)
    }
    /// From IEEE halves, as they lie in memory.
    fn halves(self, x: &[u8; 32]) -> Self::F;
    /// To IEEE halves, the nearest even one.
    fn to_halves(self, v: Self::F) -> [u16; 16];
    /// From brain floats, as they lie in memory.
    fn brains(self, x: &[u8; 32]) -> Self::F;
    /// From signed bytes.
    fn signed(self, x: &[u8; 16]) -> Self::F;
    /// To the nearest signed bytes; the values lie within -127 and 127.
    fn to_signed(self, v: Self::F) -> [i8; 16];

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger; where `b` is not a number, no number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; where `b` is not a number, no number.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a b + c`.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `2^n` where each lane of `t` holds `1.5 * 2^23 + n`.
    fn pow2_of_magic(self, t: Self::F) -> Self::F;

    fn ints(self, x: i32) -> Self::I;
    fn bytes(self, x: &[u8; 64]) -> Self::I;
    fn low_nibbles(self, w: Self::I) -> Self::I;
    fn high_nibbles(self, w: Self::I) -> Self::I;
    /// Bits `2 N` and `2 N + 1` of each byte, as bits 4 and 5.
    fn pair<const N: i32>(self, w: Self::I) -> Self::I;
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// Adds to each lane the products of its four unsigned bytes (below 128) with the four signed ones of `x`.
    fn dot(self, acc: Self::I, w: Self::I, x: i32) -> Self::I;
    /// What sums of [`Lanes::dot_flipped`] begin with, where the bytes of all `x` add up to `sum`.
    fn flipped_start(self, sum: i32) -> Self::I;
    /// As [`Lanes::dot`] for signed weights whose upper bit was flipped.
    fn dot_flipped(self, acc: Self::I, w: Self::I, x: i32) -> Self::I;
    fn to_floats(self, v: Self::I) -> Self::F;

    /// The sum of all lanes, in one order.
    #[inline(always)]
    fn sum_of(self, v: Self::F) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(v, &mut lanes);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
    }

    /// The largest lane.
    #[inline(always)]
    fn max_of(self, v: Self::F) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(v, &mut lanes);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] = if lanes[i + half] > lanes[i] {
                    lanes[i + half]
                } else {
                    lanes[i]
                };
            }
        }
        lanes[0]
    }
}

/// A constant-size part of a longer slice.
#[inline(always)]
pub(crate) fn at<T, const N: usize>(slice: &[T], start: usize) -> &[T; N] {
    match slice[start..].first_chunk() {
        Some(chunk) => chunk,
        None => panic!("{N} elements from {start} on"),
    }
}

/// As [`at`], to be written.
#[inline(always)]
pub(crate) fn at_mut<T, const N: usize>(slice: &mut [T], start: usize) -> &mut [T; N] {
    match slice[start..].first_chunk_mut() {
        Some(chunk) => chunk,
        None => panic!("{N} elements from {start} on"),
    }
}

/// One IEEE half as a float.
#[inline(always)]
pub(crate) fn half_to_float(half: u16) -> f32 {
    let magnitude = u32::from(half & 0x7FFF) << 13;
    let sign = u32::from(half & 0x8000) << 16;
    let bits = if magnitude >= 0x0F80_0000 {
        magnitude | 0x7F80_0000
    } else {
        // Halves below the normal range become normal floats by the product.
        (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits()
    };
    f32::from_bits(bits | sign)
}

/// The nearest IEEE half, ties to even.
#[inline(always)]
pub(crate) fn float_to_half(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7FFF_FFFF;
    let half = if magnitude > 0x7F80_0000 {
        0x7E00
    } else if magnitude >= 0x477F_F000 {
        0x7C00
    } else if magnitude >= 0x3880_0000 {
        (magnitude - 0x3800_0000 + 0xFFF + (magnitude >> 13 & 1)) >> 13
    } else {
        // The sum's last mantissa bit is worth the smallest half: the addition rounds.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0x3F00_0000
    };
    sign | half as u16
}
