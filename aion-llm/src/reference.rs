//! The code length that a token's surprise is measured against.

use std::path::Path;

use crate::error::{Error, Result};
use crate::surprise::Prediction;
use crate::teacher;
use crate::unigram::UnigramCounts;
use aion_types::{Reference, TokenPersistence};

/// A reference with what it needs to be computed.
#[derive(Debug)]
pub(crate) enum CodeLength {
    Uniform { nats: f64 },
    Unigram { nats: Vec<f64> },
    Entropy,
    Teacher,
}

/// Whether a teacher reads along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// The model alone.
    Alone,
    /// A teacher beside it.
    WithTeacher,
}

impl CodeLength {
    /// The wanted reference, or by default unigram when the checkpoint has counts and uniform when not.
    pub(crate) fn choose(
        wanted: Option<Reference>,
        counts: Option<&Path>,
        reads: Reads,
        vocab_size: usize,
    ) -> Result<Self> {
        match (wanted, counts) {
            (Some(Reference::Teacher), _) => match reads {
                Reads::WithTeacher => Ok(Self::Teacher),
                Reads::Alone => Err(Error::Unsupported(
                    "the teacher reference without a teacher".into(),
                )),
            },
            (None | Some(Reference::Unigram), Some(path)) => Self::unigram(path, vocab_size),
            (Some(Reference::Unigram), None) => Err(Error::Unsupported(
                "the unigram reference without counts beside the checkpoint".into(),
            )),
            (Some(Reference::Entropy), _) => Ok(Self::Entropy),
            (None | Some(Reference::Uniform), _) => Ok(Self::Uniform {
                nats: (vocab_size as f64).ln(),
            }),
        }
    }

    fn unigram(path: &Path, vocab_size: usize) -> Result<Self> {
        let counts = UnigramCounts::read(path)?;
        match counts.counts().len() {
            n if n == vocab_size => Ok(Self::Unigram {
                nats: counts.code_lengths(),
            }),
            n => Err(Error::Config(format!(
                "{n} unigram counts for {vocab_size} tokens"
            ))),
        }
    }

    pub(crate) fn kind(&self) -> Reference {
        match self {
            Self::Uniform { .. } => Reference::Uniform,
            Self::Unigram { .. } => Reference::Unigram,
            Self::Entropy => Reference::Entropy,
            Self::Teacher => Reference::Teacher,
        }
    }

    /// `R_t` of a token under a prediction; `teacher` are the logits of the teacher at the same place, if there is one.
    pub(crate) fn persistence(
        &self,
        prediction: &Prediction<'_>,
        token: u32,
        teacher: &[f32],
    ) -> Result<f64> {
        let reference = match self {
            Self::Uniform { nats } => *nats,
            Self::Unigram { nats } => nats[token as usize],
            Self::Entropy => prediction.entropy_nats(),
            Self::Teacher => teacher::surprise_nats(teacher, token)?,
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
        let CodeLength::Unigram { nats } = CodeLength::choose(None, Some(&path), Reads::Alone, 3).unwrap()
        else {
            panic!("not unigram")
        };
        let expected = [6.0, 1.0, 2.0].map(|c: f64| -(c / 9.0).ln());
        assert!(nats.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12));
        assert!(CodeLength::choose(None, Some(&path), Reads::Alone, 4).is_err());
        assert_eq!(
            CodeLength::choose(None, None, Reads::Alone, 3).unwrap().kind(),
            Reference::Uniform
        );
    }

    #[test]
    fn a_reference_that_cannot_be_had_is_an_error() {
        assert!(CodeLength::choose(Some(Reference::Unigram), None, Reads::Alone, 3).is_err());
        assert!(CodeLength::choose(Some(Reference::Teacher), None, Reads::Alone, 3).is_err());
    }
}
