//! [`HashingEmbedder`]: words and their parts, hashed into a vector. No model, no file, microseconds.

use std::collections::BTreeMap;

use super::{EmbedError, Embedder, check_shape};
use crate::text::{hash_of, mix, terms};

/// Numbers of a vector.
const DIM: usize = 384;
/// Terms of a text that are looked at.
const MAX_TERMS: usize = 4_096;
/// What a part of a word counts beside the word.
const PART: f32 = 0.5;
/// Words that say how, not what: they count for a tenth.
const FUNCTION_WORDS: &[&str] = &[
    "a", "an", "the", "of", "to", "in", "on", "at", "by", "for", "from", "with", "and", "or", "is", "are",
    "be", "was", "i", "me", "my", "you", "your", "it", "its", "this", "that", "these", "those", "can",
    "could", "do", "doe", "how", "what", "which", "please", "need", "want", "would", "like", "some", "any",
    "as", "if", "has", "have", "will", "about", "there", "not", "no", "we", "our", "us",
];

/// Signed hashing of words and of runs of four letters, so that words with a common stem are alike.
///
/// # Sources
/// K. Weinberger et al., Feature hashing for large scale multitask learning, 2009.
///
/// ```
/// use aion_router::{Embedder, HashingEmbedder, embed::embed_one};
///
/// let [a, b, c] = ["translate a text", "translations of texts", "read a file"]
///     .map(|text| embed_one(&HashingEmbedder, text).expect("it never fails"));
/// let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
/// assert!(cosine(&a, &b) > 0.4 && cosine(&a, &c) < 0.2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HashingEmbedder;

impl Embedder for HashingEmbedder {
    fn model_id(&self) -> &'static str {
        "hashing-384-v1"
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn embed(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EmbedError> {
        check_shape(self, texts.len(), out)?;
        for (text, vector) in texts.iter().zip(out.chunks_exact_mut(DIM)) {
            embed(text, vector);
        }
        Ok(())
    }
}

fn embed(text: &str, vector: &mut [f32]) {
    vector.fill(0.0);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for term in terms(text).take(MAX_TERMS) {
        *counts.entry(term).or_default() += 1;
    }
    for (term, count) in counts {
        let plain = FUNCTION_WORDS.contains(&term.as_str());
        let weight = (count as f32).sqrt() * if plain { 0.1 } else { 1.0 };
        add(vector, hash_of(term.as_bytes()), weight);
        for part in parts(&term) {
            add(vector, mix(hash_of(part.as_bytes())), PART * weight);
        }
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

fn add(vector: &mut [f32], hash: u64, weight: f32) {
    let at = (hash >> 8) as usize % DIM;
    vector[at] += if hash & 1 == 0 { weight } else { -weight };
}

/// The runs of four letters of a longer word, its start marked.
fn parts(term: &str) -> Vec<String> {
    let chars: Vec<char> = std::iter::once('^').chain(term.chars()).collect();
    if chars.len() < 5 {
        return Vec::new();
    }
    chars.windows(4).map(|run| run.iter().collect()).collect()
}
