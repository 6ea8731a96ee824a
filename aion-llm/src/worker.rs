//! The one place that runs the model: model, cache, and what the cache holds.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::Result;
use crate::model::{KvCache, Model, Step, Want};
use crate::options::PrefixReuse;

#[derive(Debug)]
pub(crate) struct Worker {
    model: Arc<Model>,
    cache: KvCache,
    /// The tokens whose keys and values the cache holds.
    tokens: Vec<u32>,
    /// How many of them were computed in whole aligned chunks.
    exact: usize,
    chunk: usize,
    reuse: PrefixReuse,
}

/// A prompt that was read.
#[derive(Debug)]
pub(crate) struct Prefilled {
    /// Logits of the token after the prompt; none when the caller stopped.
    pub(crate) logits: Option<Vec<f32>>,
    /// Prompt tokens that were still in the cache.
    pub(crate) cached: usize,
}

impl Worker {
    pub(crate) fn new(model: Arc<Model>, chunk: usize, reuse: PrefixReuse) -> Self {
        let cache = model.new_cache();
        Self {
            model,
            cache,
            tokens: Vec::new(),
            exact: 0,
            chunk,
            reuse,
        }
    }

    /// Forgets everything; after a panic the cache may hold half a step.
    pub(crate) fn reset(&mut self) {
        self.cache = self.model.new_cache();
        self.tokens.clear();
        self.exact = 0;
    }

    /// Reads a prompt of at least one token; `progress` hears how many are done after each chunk and may stop it.
    pub(crate) fn prefill(
        &mut self,
        prompt: &[u32],
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Prefilled> {
        let cached = self.keep(self.reusable(prompt));
        let mut logits = None;
        for (start, end) in chunks(cached, prompt.len(), self.chunk) {
            let want = if end == prompt.len() {
                Want::LastLogits
            } else {
                Want::Nothing
            };
            logits = Some(self.run(&prompt[start..end], want)?);
            if progress(end).is_break() {
                return Ok(Prefilled { logits: None, cached });
            }
        }
        Ok(Prefilled { logits, cached })
    }

    /// Appends one token and returns the logits of the next.
    pub(crate) fn step(&mut self, token: u32) -> Result<Vec<f32>> {
        self.run(&[token], Want::LastLogits)
    }

    /// Runs a text from its beginning and hands over, chunk by chunk, the position of the first row and the logits
    /// of all rows.
    pub(crate) fn each_logits(
        &mut self,
        tokens: &[u32],
        mut visit: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        self.keep(0);
        for (start, end) in chunks(0, tokens.len(), self.chunk) {
            visit(start, &self.run(&tokens[start..end], Want::AllLogits)?)?;
        }
        Ok(())
    }

    /// The sum of the hidden states of all positions, `[n_embd]`.
    pub(crate) fn hidden_sum(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.keep(0);
        let mut sum = Vec::new();
        for (start, end) in chunks(0, tokens.len(), self.chunk) {
            let hidden = self.run(&tokens[start..end], Want::Hidden)?;
            let width = hidden.len() / (end - start);
            sum.resize(width, 0.0);
            for row in hidden.chunks_exact(width) {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
        }
        Ok(sum)
    }

    fn reusable(&self, prompt: &[u32]) -> usize {
        let common = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        // The last token always runs: its logits are wanted.
        let common = common.min(prompt.len().saturating_sub(1));
        match self.reuse {
            PrefixReuse::Exact => common.min(self.exact) / self.chunk * self.chunk,
            PrefixReuse::Longest => common,
            PrefixReuse::Off => 0,
        }
    }

    fn keep(&mut self, n: usize) -> usize {
        self.cache.truncate(n);
        self.tokens.truncate(n);
        self.exact = self.exact.min(n);
        n
    }

    fn run(&mut self, tokens: &[u32], want: Want) -> Result<Vec<f32>> {
        let start = self.tokens.len();
        let cache = &mut self.cache;
        let outputs = self.model.run(&mut [Step { tokens, cache, want }])?;
        self.tokens.extend_from_slice(tokens);
        if tokens.len() == self.chunk && start == self.exact && start.is_multiple_of(self.chunk) {
            self.exact = self.tokens.len();
        }
        Ok(outputs.into_iter().next().unwrap_or_default().values)
    }
}

/// Cuts `start..end` at the multiples of `size`, so that a chunk is the same whatever came before it.
fn chunks(start: usize, end: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = start;
    std::iter::from_fn(move || {
        let from = at;
        at = end.min((from / size + 1) * size);
        (from < end).then_some((from, at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_lie_on_fixed_boundaries() {
        assert_eq!(chunks(0, 10, 4).collect::<Vec<_>>(), [(0, 4), (4, 8), (8, 10)]);
        assert_eq!(chunks(4, 9, 4).collect::<Vec<_>>(), [(4, 8), (8, 9)]);
        assert_eq!(chunks(6, 9, 4).collect::<Vec<_>>(), [(6, 8), (8, 9)]);
        assert_eq!(chunks(3, 3, 4).count(), 0);
    }
}
