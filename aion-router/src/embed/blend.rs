//! [`Blended`]: meaning and spelling in one vector.

use super::{EmbedError, Embedder, HashingEmbedder, check_shape};
use crate::error::{Error, Result};

/// The share of spelling beside meaning.
const SPELLING: f32 = 0.2;

/// Two embedders side by side: the cosine of a blend is the weighted mean of theirs.
///
/// A sentence encoder knows that `umbrella` has to do with rain; hashing knows that `bibtex` is `BibTeX`. Both
/// must give vectors of length 1.
///
/// ```
/// use aion_router::{Blended, Embedder, HashingEmbedder};
///
/// let blended = Blended::new(HashingEmbedder, HashingEmbedder, 0.2)?;
/// assert_eq!(blended.dim(), 768);
/// assert!(Blended::new(HashingEmbedder, HashingEmbedder, 1.5).is_err());
/// # Ok::<(), aion_router::Error>(())
/// ```
#[derive(Debug)]
pub struct Blended<A, B> {
    model_id: String,
    first: A,
    second: B,
    share: f32,
}

impl<A: Embedder, B: Embedder> Blended<A, B> {
    /// A blend in which the second has this share.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless the share is in `[0, 1]`.
    pub fn new(first: A, second: B, share: f32) -> Result<Self> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::OutOfRange {
                what: "the share of an embedder",
                range: "in [0, 1]",
                value: f64::from(share),
            });
        }
        Ok(Self::of(first, second, share))
    }

    fn of(first: A, second: B, share: f32) -> Self {
        Self {
            model_id: format!("{}+{share}*{}", first.model_id(), second.model_id()),
            first,
            second,
            share,
        }
    }
}

impl<A: Embedder> Blended<A, HashingEmbedder> {
    /// A sentence encoder with a fifth of spelling: what catalogs of tools are compared by.
    pub fn with_spelling(meaning: A) -> Self {
        Self::of(meaning, HashingEmbedder, SPELLING)
    }
}

impl<A: Embedder, B: Embedder> Embedder for Blended<A, B> {
    fn model_id(&self) -> &str {
        &self.model_id
    }

    fn dim(&self) -> usize {
        match (self.first.dim(), self.second.dim()) {
            (0, _) | (_, 0) => 0,
            (first, second) => first + second,
        }
    }

    fn ask_dim(&self) -> std::result::Result<usize, EmbedError> {
        Ok(self.first.ask_dim()? + self.second.ask_dim()?)
    }

    fn embed(&self, texts: &[&str], out: &mut [f32]) -> std::result::Result<(), EmbedError> {
        check_shape(self, texts.len(), out)?;
        let (first, second) = (self.first.dim(), self.second.dim());
        let mut left = vec![0.0; texts.len() * first];
        let mut right = vec![0.0; texts.len() * second];
        self.first.embed(texts, &mut left)?;
        self.second.embed(texts, &mut right)?;
        let (a, b) = ((1.0 - self.share).sqrt(), self.share.sqrt());
        for (i, row) in out.chunks_exact_mut(first + second).enumerate() {
            let (to_left, to_right) = row.split_at_mut(first);
            to_left
                .iter_mut()
                .zip(&left[i * first..])
                .for_each(|(to, x)| *to = a * x);
            to_right
                .iter_mut()
                .zip(&right[i * second..])
                .for_each(|(to, x)| *to = b * x);
        }
        Ok(())
    }
}
