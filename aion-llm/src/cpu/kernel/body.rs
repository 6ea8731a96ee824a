//! Which instructions run, asked of the processor or forced by a test.
#![allow(
    unsafe_code,
    reason = "a call of code compiled for newer instructions stands behind the question whether they are there"
)]

use super::lanes::Lanes;
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::portable;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// A computation that can run on the lanes of any processor.
pub(crate) trait Work {
    /// What it gives.
    type Out;

    /// Does it. Must be `#[inline(always)]`, so that it is compiled for the instructions of the lanes.
    fn run<L: Lanes>(self, l: L) -> Self::Out;
}

/// A set of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// AVX2, FMA, F16C and AVX-VNNI.
    Avx2Vnni,
    /// AVX2, FMA and F16C.
    Avx2,
    /// 64-bit ARM.
    Neon,
    /// Any processor.
    Portable,
}

impl Body {
    const ALL: [Self; 5] = [
        Self::Avx512,
        Self::Avx2Vnni,
        Self::Avx2,
        Self::Neon,
        Self::Portable,
    ];

    /// Whether this processor has them.
    pub(crate) fn is_here(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_here()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni => Self::Avx2.is_here() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            Self::Portable => true,
            #[allow(unreachable_patterns, reason = "which arms exist depends on the architecture")]
            _ => false,
        }
    }

    /// All that this processor has, the fastest first.
    pub(crate) fn here() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|body| body.is_here())
    }

    /// The fastest that this processor has.
    pub(crate) fn best() -> Self {
        Self::here().next().unwrap_or(Self::Portable)
    }
}

/// Runs `work` with the instructions of `body`; where the processor lacks them, with portable ones.
pub(crate) fn dispatch<W: Work>(body: Body, work: W) -> W::Out {
    if !body.is_here() {
        return portable::run(work);
    }
    match body {
        // SAFETY: `is_here` has asked the processor.
        #[cfg(target_arch = "x86_64")]
        Body::Avx512 => unsafe { avx512::run(work) },
        // SAFETY: `is_here` has asked the processor.
        #[cfg(target_arch = "x86_64")]
        Body::Avx2Vnni => unsafe { avx2::run_vnni(work) },
        // SAFETY: `is_here` has asked the processor.
        #[cfg(target_arch = "x86_64")]
        Body::Avx2 => unsafe { avx2::run(work) },
        // SAFETY: `is_here` has asked the processor.
        #[cfg(target_arch = "aarch64")]
        Body::Neon => unsafe { neon::run(work) },
        _ => portable::run(work),
    }
}
