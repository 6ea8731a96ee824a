//! Another model whose surprise at the same tokens is the reference.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::model::{KvCache, Model, Step, Want};
use crate::surprise::Prediction;

/// Texts that are kept to be gone on with, at most: as many as are written at once, and a few more.
const MAX_KEPT: usize = 16;
/// Tokens that are read together.
const CHUNK: usize = 128;

/// A frozen model with the same vocabulary. It reads what the model reads and writes, token by token.
#[derive(Debug)]
pub(crate) struct Teacher {
    model: Model,
    kept: Mutex<Vec<Reading>>,
}

/// A text that the teacher has read, and its prediction of what follows.
#[derive(Debug)]
struct Reading {
    tokens: Vec<u32>,
    cache: KvCache,
    logits: Vec<f32>,
}

impl Teacher {
    pub(crate) fn new(model: Model) -> Self {
        Self {
            model,
            kept: Mutex::default(),
        }
    }

    /// `-ln p(token | context)` by the teacher, in nats.
    pub(crate) fn surprise_nats(&self, context: &[u32], token: u32) -> Result<f64> {
        let mut reading = self.longest_prefix(context);
        for piece in context[reading.tokens.len()..].chunks(CHUNK) {
            let mut step = [Step {
                tokens: piece,
                cache: &mut reading.cache,
                want: Want::LastLogits,
            }];
            let output = self.model.run(&mut step)?.pop();
            reading.logits = output.map(|output| output.values).unwrap_or_default();
            reading.tokens.extend_from_slice(piece);
        }
        let nats = Prediction::new(&reading.logits).map(|prediction| prediction.surprise_nats(token));
        self.keep(reading);
        // A token that the teacher holds impossible is as long as its floats can tell.
        nats.map(|nats| nats.min(f64::from(f32::MAX)))
            .map_err(|_| Error::Numeric("logits of the teacher that are not numbers".into()))
    }

    /// The longest text read that `context` begins with; taken out, so that two callers never share a cache.
    fn longest_prefix(&self, context: &[u32]) -> Reading {
        let mut kept = self.lock();
        let fitting = kept
            .iter()
            .enumerate()
            .filter(|(_, reading)| context.starts_with(&reading.tokens));
        match fitting.max_by_key(|(_, reading)| reading.tokens.len()) {
            Some((i, _)) => kept.remove(i),
            None => Reading {
                tokens: Vec::new(),
                cache: self.model.new_cache(),
                logits: Vec::new(),
            },
        }
    }

    fn keep(&self, reading: Reading) {
        let mut kept = self.lock();
        if kept.len() == MAX_KEPT {
            kept.remove(0);
        }
        kept.push(reading);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Reading>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
