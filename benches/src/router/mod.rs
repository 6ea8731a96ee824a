//! What the suite `router` of `cargo xtask peers` measures: search, words, a sentence encoder, a whole ranking and
//! its log, and how good rankings are on sets of questions with known answers.

pub mod attack;
pub mod catalogs;
pub mod cold;
pub mod fitting;
pub mod sets;
pub mod vectors;
pub mod words;

/// What a work fails at.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Numbers that look random and are the same every time.
///
/// # Sources
/// G. Steele, D. Lea, C. Flood, Fast splittable pseudorandom number generators, 2014 (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub const fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    /// A number in `[0, 1)`.
    pub fn share(&mut self) -> f32 {
        (self.roll() >> 40) as f32 / (1_u32 << 24) as f32
    }
}
