//! Which vector instructions to use.

use std::fmt;

/// The vector instructions that a kernel runs on.
///
/// ```
/// use aion_market::batch::SimdLevel;
///
/// let level = SimdLevel::detect();
/// println!("kernels run on {level}");
/// assert_eq!(level.usable(), level);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SimdLevel {
    /// Whatever the compiler makes of plain code for the target's baseline.
    Portable,
    /// AVX2 and FMA: 4 doubles at once.
    Avx2,
    /// AVX-512 F, DQ and VL: 8 doubles at once.
    Avx512,
    /// NEON: 2 doubles at once.
    Neon,
}

impl SimdLevel {
    /// Every level, the portable one first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Neon];

    /// The best level that this CPU has.
    pub fn detect() -> Self {
        let best = [Self::Avx512, Self::Avx2, Self::Neon];
        best.into_iter()
            .find(|level| level.is_available())
            .unwrap_or(Self::Portable)
    }

    /// This level where the CPU has it, else the portable one.
    #[must_use]
    pub fn usable(self) -> Self {
        if self.is_available() { self } else { Self::Portable }
    }

    /// Whether the CPU has it.
    #[inline]
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[allow(unreachable_patterns, reason = "another architecture has other levels")]
            _ => false,
        }
    }
}

impl Default for SimdLevel {
    fn default() -> Self {
        Self::detect()
    }
}

impl fmt::Display for SimdLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        })
    }
}
