//! How a batch is computed: instructions, threads, unit.

use std::num::NonZeroUsize;

use crate::kernel::SimdLevel;

/// How many threads share the rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Threads {
    /// The caller's own.
    #[default]
    One,
    /// So many, the caller's own among them, started for the call.
    Count(NonZeroUsize),
}

impl Threads {
    pub(crate) const fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Count(count) => count.get(),
        }
    }
}

/// The unit of logarithmic scores and divergences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// Natural logarithms, as the functions of [`crate::score`] and [`crate::divergence`].
    #[default]
    Nats,
    /// Logarithms to the base 2.
    Bits,
}

impl Unit {
    /// How many of this unit one nat is.
    pub const fn per_nat(self) -> f64 {
        match self {
            Self::Nats => 1.0,
            Self::Bits => std::f64::consts::LOG2_E,
        }
    }
}

/// How a batch is computed; by default on one thread, with the best instructions, in nats.
///
/// ```
/// use aion_market::batch::{BatchOptions, SimdLevel, Threads};
///
/// let options = BatchOptions::default().with_level(SimdLevel::Portable);
/// assert_eq!(options.threads(), Threads::One);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchOptions {
    level: SimdLevel,
    threads: Threads,
    unit: Unit,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            level: SimdLevel::detect(),
            threads: Threads::One,
            unit: Unit::Nats,
        }
    }
}

impl BatchOptions {
    /// Sets the instructions; where the CPU has none such, portable ones run.
    #[must_use]
    pub const fn with_level(mut self, level: SimdLevel) -> Self {
        self.level = level;
        self
    }

    /// Sets the number of threads.
    #[must_use]
    pub const fn with_threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the unit of logarithms.
    #[must_use]
    pub const fn with_unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    /// The instructions.
    pub const fn level(&self) -> SimdLevel {
        self.level
    }

    /// The number of threads.
    pub const fn threads(&self) -> Threads {
        self.threads
    }

    /// The unit of logarithms.
    pub const fn unit(&self) -> Unit {
        self.unit
    }
}
