//! What a calibrator learns from, and is evaluated on.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Result;
use crate::error::{Error, check_entries, check_len};

/// The most rows of one set.
pub const MAX_EXAMPLES: usize = 10_000_000;

/// The name of a row (a task, a market) as 64 bits of its BLAKE3: enough to know it again, and too
/// little to read it. Two names of a million rows collide once in 37 million sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey(u64);

impl RowKey {
    /// The key of a name.
    pub fn of(name: impl AsRef<[u8]>) -> Self {
        Self(first_bits(blake3::hash(name.as_ref())))
    }
}

impl Serialize for RowKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for RowKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text.len() != 16 {
            return Err(de::Error::custom("a row key has 16 hexadecimal digits"));
        }
        u64::from_str_radix(&text, 16)
            .map(Self)
            .map_err(de::Error::custom)
    }
}

/// Forecasts `p` of events with outcomes `o`, all in `[0, 1]`.
///
/// ```
/// use aion_market::calibration::Examples;
///
/// let examples = Examples::new(&[0.9, 0.4], &[1.0, 0.0])?.with_keys(["task-1", "task-2"])?;
/// assert_eq!(examples.len(), 2);
/// assert!(Examples::new(&[0.9], &[2.0]).is_err());
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Examples<'a> {
    pub(super) p: &'a [f64],
    pub(super) o: &'a [f64],
    pub(super) weights: &'a [f64],
    pub(super) keys: Vec<RowKey>,
}

impl<'a> Examples<'a> {
    /// Checks the rows; each counts for 1.
    ///
    /// # Errors
    /// [`Error`] if there is none or too many, the lengths differ, or an entry is outside `[0, 1]`.
    pub fn new(p: &'a [f64], o: &'a [f64]) -> Result<Self> {
        check_len("outcomes", o.len(), p.len())?;
        if p.is_empty() {
            return Err(Error::Shape {
                what: "forecasts",
                found: 0,
                expected: 1,
            });
        }
        if p.len() > MAX_EXAMPLES {
            return Err(Error::LimitReached {
                what: "the number of rows",
                limit: MAX_EXAMPLES as u64,
            });
        }
        check_entries("forecasts", "in [0, 1]", p, |x| (0.0..=1.0).contains(&x))?;
        check_entries("outcomes", "in [0, 1]", o, |x| (0.0..=1.0).contains(&x))?;
        Ok(Self {
            p,
            o,
            weights: &[],
            keys: Vec::new(),
        })
    }

    /// Sets what each row counts for.
    ///
    /// # Errors
    /// [`Error`] if the lengths differ, or a weight is not finite and above 0.
    pub fn with_weights(mut self, weights: &'a [f64]) -> Result<Self> {
        check_len("weights", weights.len(), self.p.len())?;
        check_entries("weights", "finite and above 0", weights, |w| {
            w.is_finite() && w > 0.0
        })?;
        self.weights = weights;
        Ok(self)
    }

    /// Names each row, so that a calibrator knows a row again that it was fitted on. Rows of one task
    /// share its name: they tell of each other.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not as many names as rows.
    pub fn with_keys<K: AsRef<[u8]>>(mut self, names: impl IntoIterator<Item = K>) -> Result<Self> {
        let most = self.p.len() + 1;
        self.keys = names.into_iter().take(most).map(RowKey::of).collect();
        check_len("keys", self.keys.len(), self.p.len())?;
        Ok(self)
    }

    /// How many rows there are.
    pub const fn len(&self) -> usize {
        self.p.len()
    }

    /// Whether there is none; never, by the check.
    pub const fn is_empty(&self) -> bool {
        self.p.is_empty()
    }

    /// What row `i` counts for.
    pub(super) fn weight(&self, i: usize) -> f64 {
        self.weights.get(i).copied().unwrap_or(1.0)
    }

    /// The sum of the weights.
    pub(super) fn total(&self) -> f64 {
        (0..self.len()).map(|i| self.weight(i)).sum()
    }

    /// The mean of something over the rows, by weight.
    pub(super) fn mean(&self, of: impl Fn(f64, f64) -> f64) -> f64 {
        let rows = self.p.iter().zip(self.o).enumerate();
        rows.map(|(i, (p, o))| self.weight(i) * of(*p, *o)).sum::<f64>() / self.total()
    }

    /// The different keys, in order.
    pub(super) fn known(&self) -> Vec<RowKey> {
        let mut keys = self.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The first row whose key is one of these.
    pub(super) fn first_of(&self, keys: &[RowKey]) -> Option<usize> {
        let keys: HashSet<RowKey> = keys.iter().copied().collect();
        self.keys.iter().position(|key| keys.contains(key))
    }

    /// A digest of the rows in any order: what was said, what happened, what it counts for.
    pub(super) fn digest(&self) -> String {
        let mut rows: Vec<[u64; 3]> = (0..self.len())
            .map(|i| [self.p[i], self.o[i], self.weight(i)].map(f64::to_bits))
            .collect();
        rows.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for word in rows.as_flattened() {
            hasher.update(&word.to_le_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

fn first_bits(hash: blake3::Hash) -> u64 {
    let first = hash.as_bytes().first_chunk().copied();
    first.map_or(0, u64::from_le_bytes)
}
