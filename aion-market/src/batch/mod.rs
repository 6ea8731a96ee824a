//! Scores of many forecasts at once, at the speed of memory.
//!
//! A batch borrows its numbers from slices, or from views of arrays with the feature `ndarray`, in
//! any layout. Making one checks every row, and the error names the first bad one; from there on
//! the scores cannot fail but for the length of `out`, so a batch that is refused has written
//! nothing. The `_into` forms allocate nothing on one thread, except for ensembles of more than
//! 256 members. Where a batch is scored once, the `_onto` forms check and score in one pass.
//!
//! ```
//! use aion_market::batch::{BatchOptions, Binary, Categorical, Rows, Unit};
//!
//! let (p, y) = ([0.9, 0.2, 0.5], [1_u8, 0, 1]);
//! let forecasts = Binary::new(&p, &y, BatchOptions::default().with_unit(Unit::Bits))?;
//! let mut bits = [0.0; 3];
//! forecasts.log_score_into(&mut bits)?;
//! assert_eq!(bits[2], -1.0);
//! assert!((forecasts.brier_mean()? - 0.1).abs() < 1e-15);
//!
//! let q = [0.7, 0.2, 0.1, 0.5, 0.3, 0.2];
//! let forecasts = Categorical::new(Rows::new(&q, 3)?, &[0_u8, 2], BatchOptions::default())?;
//! assert!((forecasts.rps_sum() - (0.1 + 0.89)).abs() < 1e-15);
//!
//! // The second row sums to 1.5.
//! let refused = Categorical::new(Rows::new(&[0.5, 0.5, 0.7, 0.8], 2)?, &[0_u8, 0], BatchOptions::default());
//! assert_eq!(
//!     refused.unwrap_err().to_string(),
//!     "row 1 of the forecasts must be a distribution that sums to 1, got 1.5"
//! );
//! # Ok::<(), aion_market::Error>(())
//! ```
//!
//! How the kernels compute is in `docs/math/scoring.md#kernels`; how fast, in `docs/BENCHMARKS.md`.

mod categorical;
mod ensemble;
mod events;
mod input;
mod location;
mod options;
mod pairs;

pub use categorical::Categorical;
pub use ensemble::Ensembles;
pub use events::Binary;
pub use input::{Column, MAX_OUTCOMES, MAX_ROWS, Rows};
pub use location::Locations;
pub use options::{BatchOptions, Threads, Unit};
pub use pairs::DistPairs;

pub use crate::kernel::strided::Label;
pub use crate::kernel::{Real, SimdLevel};

/// The three forms of each score: into a slice, as a sum, as a mean.
macro_rules! scores {
    ($($(#[$doc:meta])* $into:ident $sum:ident $mean:ident => |$self:ident| $kernel:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// [`crate::Error::Shape`] if `out` has another length than there are rows; then nothing is
        /// written.
        pub fn $into(&$self, out: &mut [T]) -> crate::Result<()> {
            crate::error::check_len("out", out.len(), $self.rows())?;
            let (level, threads) = ($self.options.level(), $self.options.threads().count());
            crate::kernel::drive::map_into(&$kernel, level, threads, out);
            Ok(())
        }

        #[doc = concat!("The sum of [`", stringify!($into), "`](Self::", stringify!($into), ") over all rows.")]
        pub fn $sum(&$self) -> f64 {
            let (level, threads) = ($self.options.level(), $self.options.threads().count());
            crate::kernel::drive::sum(&$kernel, level, threads)
        }

        #[doc = concat!("The mean of [`", stringify!($into), "`](Self::", stringify!($into), ") over all rows.")]
        ///
        /// # Errors
        /// [`crate::Error::Shape`] for a batch without rows.
        pub fn $mean(&$self) -> crate::Result<f64> {
            crate::batch::input::mean($self.$sum(), $self.rows())
        }
    )*};
}
use scores;

/// A score whose rows are checked in the same pass.
macro_rules! onto {
    ($(#[$doc:meta])* $onto:ident like $into:ident over ($($arg:ident: $of:ty),*) => |$batch:ident| $kernel:expr) => {
        $(#[$doc])*
        /// The numbers are appended to `out`; to use its memory again, clear it before. Memory is read
        /// once, while [`Self::new`] and a score read it twice: worth it where a batch has one score.
        ///
        /// # Errors
        /// As [`Self::new`]; then `out` is as before.
        pub fn $onto(
            $($arg: impl Into<$of>,)*
            options: $crate::batch::BatchOptions,
            out: &mut Vec<T>,
        ) -> $crate::Result<()> {
            let $batch = Self::shaped($($arg.into(),)* options)?;
            let (level, threads) = (options.level(), options.threads().count());
            if $crate::kernel::drive::map_onto(&$kernel, &$batch.rule(), level, threads, out) {
                return Ok(());
            }
            $batch.checked()?;
            // Never here: the check finds what held up the pass.
            let len = out.len();
            out.resize(len + $batch.rows(), T::default());
            $batch.$into(&mut out[len..])
        }
    };
}
use onto;
