//! The model on the processor, with kernels of our own: weights stay in their blocks, activations become bytes.
//!
//! A pass takes the new tokens of several sequences as rows, and reads each tile of weights once for all of them. What a
//! row gives does not depend on the rows beside it, so a sequence gets the same bits alone and in a batch, in one
//! prefill or in several, and a prefix of a cache can be used again as it is.

mod cache;
pub(crate) mod kernel;
mod matrix;
mod memory;
mod model;
mod pass;
mod pool;
#[cfg(test)]
mod tests;

pub(crate) use cache::PagedCache;
pub(crate) use model::{CpuModel, CpuOptions};
pub(crate) use pass::Sequence;
