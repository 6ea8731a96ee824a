//! Numeric kernels with one body for every instruction set.
//!
//! A kernel is a [`Work`], generic over the [`Vector`] that it computes with; [`dispatch`] compiles it
//! once for each instruction set and calls the copy of the [`SimdLevel`] that was asked for. A vector
//! can only be made from a proof that the CPU has its instructions, so a kernel itself is safe code;
//! `unsafe` is in the vectors, in [`strided`], which reads rows of any layout, and here.
//!
//! Every level gives the same numbers up to rounding: `tests/it/batch.rs` holds them to `1e-12`.
//! Where a row lies in a batch does not change its number: the last rows, too few for a vector, run
//! through the same instructions with the last one repeated.
#![allow(unsafe_code, reason = "vector instructions, and memory behind strides")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod check;
mod constants;
pub(crate) mod crps;
pub(crate) mod drive;
mod elementary;
pub(crate) mod exp_sum;
mod level;
pub(crate) mod logistic;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod pairs;
mod portable;
pub(crate) mod rows;
mod sorting;
pub(crate) mod strided;
#[cfg(test)]
mod tests;
mod vector;

pub(crate) use elementary::Float;
pub use elementary::Real;
pub use level::SimdLevel;
pub(crate) use vector::Vector;

/// A computation that can run on any vector of its scalar.
pub(crate) trait Work<T: Float> {
    /// What it gives.
    type Out;

    /// Does it.
    fn run<V: Vector<Scalar = T>>(self, proof: V::Proof) -> Self::Out;
}

/// Runs `work` with the instructions of `level`, or with portable ones where the CPU has none such.
pub(crate) fn dispatch<T: Float, W: Work<T>>(level: SimdLevel, work: W) -> W::Out {
    match level.usable() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `usable` has asked the CPU.
        SimdLevel::Avx512 => unsafe { avx512::run(work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `usable` has asked the CPU.
        SimdLevel::Avx2 => unsafe { avx2::run(work) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: `usable` has asked the CPU.
        SimdLevel::Neon => unsafe { neon::run(work) },
        _ => work.run::<T::Portable>(()),
    }
}
