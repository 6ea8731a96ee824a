//! Kernels of the processor: products with packed weights, attention, normalisation, activations.
//!
//! Everything is written once over [`Lanes`], sixteen lanes wide, and compiled once for each set of instructions;
//! [`dispatch`] runs the copy of a [`Body`]. Nothing here depends on the rest of the crate.
//!
//! What a row gives does not depend on the rows beside it: every kernel forms the sums of a row in one order,
//! whether it has the row alone or with others.

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod body;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod portable;
mod product;
#[cfg(test)]
mod tests;
mod vector;

pub(crate) use attention::{Attend, PAGE, SEGMENT, merge, partial_len};
pub(crate) use body::{Body, dispatch};
pub(crate) use pack::{Format, TILE, pack_tile, unpack_row};
pub(crate) use product::{Activations, BLOCK, Multiply, Place, XBlock};
pub(crate) use vector::{Cap, Gate, Norm, Quantise, Rotate, Square, StoreKeys, StoreValues};
