//! What loading a model is put together from: threads, the memory that it may take, its words and its template.

use std::sync::Arc;

use aion_types::Clock;

use crate::chat::ChatTemplate;
use crate::config::ModelConfig;
use crate::device::Chosen;
use crate::error::{Error, Result};
use crate::memory;
use crate::model::Model;
use crate::options::{EngineOptions, ModelSource};
use crate::tokenizer::Tokenizer;

/// Puts the tokenizer together while the weights are packed. Of two errors the tokenizer's is told.
pub(crate) fn side_by_side(
    tokenizer: impl FnOnce() -> Result<Tokenizer> + Send,
    model: impl FnOnce() -> Result<Model>,
) -> Result<(Tokenizer, Model)> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("aion-llm-words".into());
        let words = thread.spawn_scoped(scope, tokenizer).map_err(no_thread)?;
        let model = model();
        let panicked = |_| Err(Error::Panicked("reading the tokenizer".to_owned()));
        let tokenizer = words.join().unwrap_or_else(panicked)?;
        Ok((tokenizer, model?))
    })
}

fn no_thread(error: impl std::fmt::Display) -> Error {
    Error::Device {
        device: "cpu".into(),
        reason: format!("no threads: {error}"),
    }
}

pub(crate) fn thread_pool(threads: Option<usize>) -> Result<rayon::ThreadPool> {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    let builder = builder.thread_name(|i| format!("aion-llm-{i}"));
    builder.build().map_err(no_thread)
}

/// Bytes for the keys and values of all models, whose weights and what they compute in are counted as well.
pub(crate) fn cache_budget<'a>(
    models: impl Iterator<Item = (&'a ModelSource, &'a ModelConfig)>,
    device: &Chosen,
    context: usize,
    options: &EngineOptions,
) -> Result<usize> {
    let (weights, cache) = models.fold((0usize, 0usize), |(weights, cache), (source, config)| {
        let more = Model::cache_bytes_of(config, device, context).saturating_mul(options.sequences);
        let rows = options.prefill_chunk.saturating_add(options.sequences);
        let scratch = Model::scratch_bytes_of(config, device, rows);
        let fixed = memory::stored_bytes(source).saturating_add(scratch);
        (weights.saturating_add(fixed), cache.saturating_add(more))
    });
    memory::cache_budget(weights, options.cache_bytes, cache, memory::available())
}

pub(crate) fn chat_template(
    source: Option<String>,
    tokenizer: &Tokenizer,
    clock: Arc<dyn Clock>,
) -> Result<Option<ChatTemplate>> {
    match source {
        Some(source) => {
            ChatTemplate::new(&source, &tokenizer.bos_text(), &tokenizer.eos_text(), clock).map(Some)
        }
        None if tokenizer
            .special_texts()
            .iter()
            .any(|text| text == "<|im_start|>") =>
        {
            ChatTemplate::chat_ml(clock).map(Some)
        }
        None => Ok(None),
    }
}
