//! The code length that a token's surprise is measured against.

use std::path::Path;

use aion_types::{Reference, TokenPersistence};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::surprise::Prediction;

/// A reference with what it needs to be computed.
#[derive(Debug)]
pub(crate) enum CodeLength {
    Uniform { nats: f64 },
    Unigram { nats: Vec<f64> },
    Entropy,
}

/// `{"counts": [...]}`: how often each token stood in the training text.
#[derive(Deserialize)]
struct Counts {
    counts: Vec<u64>,
}

impl CodeLength {
    /// The wanted reference, or by default unigram when the checkpoint has counts and uniform when not.
    pub(crate) fn choose(
        wanted: Option<Reference>,
        counts: Option<&Path>,
        vocab_size: usize,
    ) -> Result<Self> {
        match (wanted, counts) {
            (None | Some(Reference::Unigram), Some(path)) => Self::unigram(path, vocab_size),
            (Some(Reference::Unigram), None) => Err(Error::Unsupported(
                "the unigram reference without counts beside the checkpoint".into(),
            )),
            (Some(Reference::Teacher), _) => Err(Error::Unsupported(
                "the teacher reference outside training".into(),
            )),
            (Some(Reference::Entropy), _) => Ok(Self::Entropy),
            (None | Some(Reference::Uniform), _) => Ok(Self::Uniform {
                nats: (vocab_size as f64).ln(),
            }),
        }
    }

    /// `-ln((c + 1) / (N + V))`: one is added to each count, so that every token has a finite length.
    fn unigram(path: &Path, vocab_size: usize) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let wire: Counts =
            serde_json::from_str(&text).map_err(|e| Error::Config(format!("unigram counts: {e}")))?;
        if wire.counts.len() != vocab_size {
            let found = wire.counts.len();
            return Err(Error::Config(format!(
                "{found} unigram counts for {vocab_size} tokens"
            )));
        }
        let total: f64 = wire.counts.iter().map(|count| *count as f64 + 1.0).sum();
        Ok(Self::Unigram {
            nats: wire
                .counts
                .iter()
                .map(|count| -((*count as f64 + 1.0) / total).ln())
                .collect(),
        })
    }

    pub(crate) fn kind(&self) -> Reference {
        match self {
            Self::Uniform { .. } => Reference::Uniform,
            Self::Unigram { .. } => Reference::Unigram,
            Self::Entropy => Reference::Entropy,
        }
    }

    /// `R_t` of a token under a prediction.
    pub(crate) fn persistence(&self, prediction: &Prediction<'_>, token: u32) -> Result<f64> {
        let reference = match self {
            Self::Uniform { nats } => *nats,
            Self::Unigram { nats } => nats[token as usize],
            Self::Entropy => prediction.entropy_nats(),
        };
        let token = TokenPersistence::new(prediction.surprise_nats(token), reference);
        token
            .map(|token| token.ratio)
            .map_err(|error| Error::Numeric(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_beside_the_checkpoint_are_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unigram.json");
        std::fs::write(&path, r#"{"counts": [5, 0, 1]}"#).unwrap();
        let CodeLength::Unigram { nats } = CodeLength::choose(None, Some(&path), 3).unwrap() else {
            panic!("not unigram")
        };
        let expected = [6.0, 1.0, 2.0].map(|c: f64| -(c / 9.0).ln());
        assert!(nats.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12));
        assert!(CodeLength::choose(None, Some(&path), 4).is_err());
        assert_eq!(
            CodeLength::choose(None, None, 3).unwrap().kind(),
            Reference::Uniform
        );
    }

    #[test]
    fn a_reference_that_cannot_be_had_is_an_error() {
        assert!(CodeLength::choose(Some(Reference::Unigram), None, 3).is_err());
        assert!(CodeLength::choose(Some(Reference::Teacher), None, 3).is_err());
    }
}
