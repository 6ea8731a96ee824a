//! Criterion benchmarks of the engines.
