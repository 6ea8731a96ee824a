//! What a model loses on a text, in a unit that does not depend on its tokenizer.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::tokenizer::Specials;

/// Bits that the model needs for each byte of a text: `sum of -log2 p(token | all before) / bytes`.
///
/// The text is read in windows of the context length; the first token of each window (behind the prefix token, if the
/// model wants one) is not predicted and its bytes do not count.
///
/// # Errors
/// As [`Engine::score`]; [`Error::Request`] for a text of fewer than two tokens.
pub fn bits_per_byte(engine: &Engine, text: &str) -> Result<f64> {
    let tokenizer = engine.tokenizer();
    let tokens = tokenizer.encode(text, Specials::AsText)?;
    let prefix: Vec<u32> = tokenizer.prefix().into_iter().collect();
    let room = engine.info().context_length.saturating_sub(prefix.len()).max(1);
    let (mut nats, mut bytes) = (0.0, 0usize);
    for window in tokens.chunks(room) {
        let all: Vec<u32> = prefix.iter().chain(window).copied().collect();
        for score in engine.score(&all, 0)? {
            nats += score.surprise_nats;
            bytes += tokenizer.text_bytes(score.token).len();
        }
    }
    match bytes {
        0 => Err(Error::Request {
            field: "text",
            reason: "fewer than two tokens cannot be scored".into(),
        }),
        bytes => Ok(nats / std::f64::consts::LN_2 / bytes as f64),
    }
}
