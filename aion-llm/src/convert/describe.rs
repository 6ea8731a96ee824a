//! The metadata of a GGUF file, from a directory's configuration and tokenizer.

use std::path::Path;

use serde_json::Value as Json;

use crate::checkpoint::Checkpoint;
use crate::config::{FeedForward, ModelConfig};
use crate::engine::hub_template;
use crate::error::{Error, Result};
use crate::experts::Gating;
use crate::gguf::Draft;
use crate::safetensors::HubCheckpoint;
use crate::tokenizer::{Tokenizer, pre_tokenizer_name};

/// Token type numbers of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

pub(super) fn describe(draft: &mut Draft, dir: &Path, checkpoint: &HubCheckpoint) -> Result<()> {
    let config = checkpoint.config();
    shape(draft, dir, config);
    let path = dir.join("tokenizer.json");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let document: Json = serde_json::from_str(&text).map_err(|error| Error::Tokenizer(error.to_string()))?;
    vocabulary(draft, &document, config.vocab_size)?;
    specials(draft, &Tokenizer::from_dir(dir)?);
    if let Some(template) = hub_template(dir) {
        draft.text("tokenizer.chat_template", &template);
    }
    Ok(())
}

fn shape(draft: &mut Draft, dir: &Path, config: &ModelConfig) {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    draft.text("general.architecture", "llama");
    draft.text("general.name", &name);
    let sizes = [
        ("vocab_size", config.vocab_size),
        ("context_length", config.context_length),
        ("embedding_length", config.n_embd),
        ("block_count", config.n_layer),
        ("feed_forward_length", config.n_ff),
        ("attention.head_count", config.n_head),
        ("attention.head_count_kv", config.n_head_kv),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
    ];
    for (key, size) in sizes {
        // The configuration was checked: no size reaches 2^24.
        draft.u32(&format!("llama.{key}"), size as u32);
    }
    draft.f32("llama.rope.freq_base", config.rope_base as f32);
    draft.f32("llama.attention.layer_norm_rms_epsilon", config.norm_eps as f32);
    if config.feed_forward == FeedForward::ReluSquared {
        draft.text("llama.hidden_act", "relu2");
    }
    if let Some(experts) = config.experts {
        draft.u32("llama.expert_count", experts.count as u32);
        draft.u32("llama.expert_used_count", experts.used as u32);
        let gating = match experts.gating {
            Gating::Softmax => 1,
            Gating::Sigmoid => 2,
        };
        draft.u32("llama.expert_gating_func", gating);
    }
    if let Some(window) = config.window {
        draft.u32("llama.attention.sliding_window", window as u32);
    }
    for (key, cap) in [
        ("llama.attn_logit_softcapping", config.attention_cap),
        ("llama.final_logit_softcapping", config.logit_cap),
    ] {
        if let Some(cap) = cap {
            draft.f32(key, cap as f32);
        }
    }
}

fn vocabulary(draft: &mut Draft, document: &Json, vocab_size: usize) -> Result<()> {
    let model = &document["model"];
    if model["type"] != "BPE" || !document["decoder"].to_string().contains("\"ByteLevel\"") {
        return Err(Error::Unsupported(
            "a tokenizer that is not byte-level BPE: it has no description in GGUF here".into(),
        ));
    }
    let mut tokens: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![UNUSED; vocab_size];
    let mut place = |id: u64, text: &str, kind: i32| match usize::try_from(id) {
        Ok(id) if id < vocab_size => {
            (tokens[id], kinds[id]) = (text.to_owned(), kind);
            Ok(())
        }
        _ => Err(Error::Tokenizer(format!("token id {id} of {vocab_size}"))),
    };
    for (text, id) in model["vocab"].as_object().into_iter().flatten() {
        place(id.as_u64().unwrap_or(u64::MAX), text, NORMAL)?;
    }
    for added in document["added_tokens"].as_array().into_iter().flatten() {
        let kind = if added["special"] == true {
            CONTROL
        } else {
            USER_DEFINED
        };
        let text = added["content"].as_str().unwrap_or_default();
        place(added["id"].as_u64().unwrap_or(u64::MAX), text, kind)?;
    }
    let merges = merges(model)?;
    draft.text("tokenizer.ggml.model", "gpt2");
    draft.text("tokenizer.ggml.pre", pre_tokenizer_name(document)?);
    draft.texts("tokenizer.ggml.tokens", tokens.iter().map(String::as_str));
    draft.i32s("tokenizer.ggml.token_type", &kinds);
    draft.texts("tokenizer.ggml.merges", merges.iter().map(String::as_str));
    Ok(())
}

/// Each merge as `left right`; newer files write a list of two.
fn merges(model: &Json) -> Result<Vec<String>> {
    let merges = model["merges"].as_array();
    let merges = merges.ok_or_else(|| Error::Tokenizer("it has no merges".into()))?;
    let text = |merge: &Json| match merge {
        Json::String(text) => Ok(text.clone()),
        Json::Array(pair) => match (pair.first(), pair.get(1)) {
            (Some(Json::String(left)), Some(Json::String(right))) => Ok(format!("{left} {right}")),
            _ => Err(Error::Tokenizer(format!("merge {merge} is no pair"))),
        },
        _ => Err(Error::Tokenizer(format!("merge {merge} is no pair"))),
    };
    merges.iter().map(text).collect()
}

fn specials(draft: &mut Draft, tokenizer: &Tokenizer) {
    if let Some(bos) = tokenizer.bos() {
        draft.u32("tokenizer.ggml.bos_token_id", bos);
    }
    let mut stops = tokenizer.eos().into_iter().chain(tokenizer.stop_tokens());
    if let Some(eos) = stops.next() {
        draft.u32("tokenizer.ggml.eos_token_id", eos);
    }
    draft.bool("tokenizer.ggml.add_bos_token", tokenizer.prefix().is_some());
}
