//! Numeric kernels over slices.

pub(crate) mod logistic;
