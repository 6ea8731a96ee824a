//! What an engine has done and does now.

use serde::Serialize;

/// A snapshot of [`Engine::stats`](crate::Engine::stats), taken between two passes of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct EngineStats {
    /// Requests that wait for a place.
    pub waiting: usize,
    /// Sequences whose text is being read.
    pub reading: usize,
    /// Sequences that make text.
    pub writing: usize,
    /// Requests accepted so far, refused ones left out; one of several prompts or completions counts once.
    pub requests: u64,
    /// Requests refused because too many waited.
    pub refused: u64,
    /// Sequences that ended as asked.
    pub completed: u64,
    /// Sequences whose caller went away or asked to stop.
    pub cancelled: u64,
    /// Sequences that ended with an error.
    pub failed: u64,
    /// Passes over the weights.
    pub passes: u64,
    /// Tokens of prompts and given texts that were computed; those taken from the prefix cache are not among them.
    pub read_tokens: u64,
    /// Tokens made.
    pub written_tokens: u64,
    /// Tokens that the teacher read, if there is one.
    pub teacher_tokens: u64,
    /// Schemas, regular expressions and grammars that were compiled.
    pub grammars: u64,
    /// The key-value memory.
    pub cache: CacheStats,
    /// The texts kept for prompts that begin the same.
    pub prefix: PrefixStats,
}

/// Bytes of keys and values. `reserved + kept` never exceeds `limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct CacheStats {
    /// The bound.
    pub limit: usize,
    /// What the running sequences may come to need.
    pub reserved: usize,
    /// What they hold now.
    pub used: usize,
    /// What kept texts hold.
    pub kept: usize,
}

/// Counters of the prefix cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct PrefixStats {
    /// Texts kept now.
    pub entries: usize,
    /// Prompts of which a part was still there.
    pub hits: u64,
    /// Prompts that were read from their first token.
    pub misses: u64,
    /// Prompt tokens that did not have to be computed.
    pub reused_tokens: u64,
    /// Texts dropped to stay within the memory bound.
    pub evictions: u64,
}
