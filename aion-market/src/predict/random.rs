//! A seeded coin with a uniformly drawn bias: what every predictor has to beat.

use aion_types::{ForecasterId, PpmDist, Prob};
use async_trait::async_trait;

use super::{Cadence, Opinion, PredictError, Predictor};
use crate::Result;
use crate::feed::TaskView;

/// The least that a market takes: it is scored like the others and moves next to nothing.
const WEIGHT: f64 = 0.001;

/// A probability drawn uniformly from the seed and the task's id; the same pair gives the same one.
#[derive(Debug, Clone)]
pub struct Random {
    id: ForecasterId,
    seed: u64,
}

impl Random {
    /// A coin of this seed.
    ///
    /// # Errors
    /// [`crate::Error`] never: the name `random` is a valid one.
    pub fn new(seed: u64) -> Result<Self> {
        Ok(Self {
            id: ForecasterId::new("random")?,
            seed,
        })
    }
}

#[async_trait]
impl Predictor for Random {
    fn id(&self) -> &ForecasterId {
        &self.id
    }

    fn cadence(&self) -> Cadence {
        Cadence::OnCreation
    }

    async fn predict(&self, task: &TaskView<'_>, _price: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        let halves = task.task.id.as_bytes().chunks_exact(8);
        let draw = halves.fold(self.seed, |state, half| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(half);
            splitmix64(state ^ u64::from_be_bytes(bytes))
        });
        let success = Prob::new((draw >> 11) as f64 / (1_u64 << 53) as f64)?;
        Ok(Some(Opinion::new(success).with_weight(WEIGHT)))
    }
}

/// The next of a sequence of well mixed numbers.
///
/// # Sources
/// G. L. Steele, D. Lea, C. H. Flood, Fast splittable pseudorandom number generators, 2014.
pub(crate) fn splitmix64(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
