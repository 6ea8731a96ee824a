//! FractalLM: a local language model that reports the persistence of every token.
//!
//! The crate loads Llama-family models from GGUF or safetensors files, runs them with kernels of its own on the processor
//! or by [Burn](https://burn.dev) on graphics cards, and says of every token how surprising it was to the
//! model, measured from the raw logits: `R_t = (1 + h_t) / (1 + s_t)` (see `docs/math/persistence.md`).
//!
//! ```
//! use aion_llm::{Prediction, Sampling, StopBuffer};
//!
//! // What one row of logits says of token 2, in nats, whatever the sampling temperature is.
//! let prediction = Prediction::new(&[0.1, -1.0, 2.5])?;
//! assert!(prediction.surprise_nats(2) < 0.2);
//!
//! // Text is shown as soon as it cannot be a stop string any more.
//! let mut shown = StopBuffer::new(&["\nUser:".into()])?;
//! assert_eq!(shown.push(b"Done.\nUse").text, "Done.");
//! # Ok::<(), aion_llm::Error>(())
//! ```
//!
//! With weights (98 MB; `aion model pull`):
//!
//! ```no_run
//! use aion_llm::{ChatMessage, Engine, EngineOptions, GenerateRequest, ModelSource, Prompt};
//!
//! let engine = Engine::load(&ModelSource::at("SmolLM2-135M-Instruct.Q4_1.gguf"), EngineOptions::default())?;
//! let prompt = Prompt::chat([ChatMessage::new("user", "Name three rivers.")]);
//! let completion = engine.complete(&GenerateRequest::new(prompt).with_max_tokens(64))?;
//! println!("{}", completion.text);
//! # Ok::<(), aion_llm::Error>(())
//! ```
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `flex` (default) | the processor by Burn too: the reference that our own kernels are held against |
//! | `wgpu` | graphics cards by WGSL shaders |
//! | `cuda` | NVIDIA cards; Burn's build script downloads an LLVM to compile the kernels |
//! | `testkit` | tiny random models, for tests |
//!
//! # Reading order
//!
//! 1. [`Engine`]: load, complete, score, embed.
//! 2. [`Ticket`] and [`Progress`]: a request under way; [`EngineStats`]: what all of them do.
//! 3. [`GenerateRequest`], [`Sampling`], [`OutputFormat`]: what can be asked; [`StreamEvent`], [`Completion`]: the answer.
//! 4. [`Prediction`] and [`StopBuffer`]: the two pieces that are useful on their own.
//! 5. [`gguf`]: the file format; [`quantize`], [`save_checkpoint`], [`UnigramCounts`], [`FittedCalibration`]: models out.
//!
//! # Threads
//!
//! The model runs on a thread of the engine's own, for all requests at once (`docs/llm.md`). The calls of [`Engine`]
//! block, [`Engine::start`] only while it reads the prompt's text and schema: make them on a blocking thread, never in
//! an async task. A [`Ticket`] can be awaited anywhere.

mod calibration;
mod chat;
mod checkpoint;
mod config;
mod convert;
mod cpu;
mod device;
mod engine;
mod error;
mod experts;
mod fresh_file;
mod generation;
pub mod gguf;
mod grammar;
mod loading;
mod loss;
mod mapped;
mod memory;
mod model;
mod options;
mod reference;
mod request;
mod rotary_scaling;
mod safetensors;
mod sampling;
mod scheduler;
mod schema;
mod softmax;
mod stats;
mod stop;
mod surprise;
mod teacher;
#[cfg(feature = "testkit")]
pub mod testkit;
mod ticket;
mod tokenizer;
mod tools;
mod unigram;

pub use calibration::FittedCalibration;
pub use chat::{ChatMessage, ChatTemplate};
pub use config::{FeedForward, Head, ModelConfig};
pub use convert::{
    CHECKPOINT_FORMAT, CheckpointManifest, ManifestEntry, Quantization, QuantizeReport, QuantizeStep,
    quantize, save_checkpoint, verify_checkpoint,
};
pub use device::DeviceSpec;
pub use engine::{Engine, EngineInfo, OnEvent};
pub use error::{Error, Result};
pub use experts::{Experts, Gating, Routed, Selection};
pub use fresh_file::Overwrite;
pub use grammar::{MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH};
pub use loss::bits_per_byte;
pub use options::{EngineOptions, ModelSource, PrefixReuse};
pub use request::{
    Completion, EndOfText, FinishReason, GenerateRequest, OutputFormat, Prompt, StreamEvent, TokenEvent,
    TokenScore,
};
pub use sampling::{MAX_LOGIT_BIAS, Sampling};
pub use scheduler::FairQueue;
pub use stats::{CacheStats, EngineStats, PrefixStats};
pub use stop::{Released, StopBuffer};
pub use surprise::Prediction;
pub use ticket::{Progress, Ticket};
pub use tokenizer::{MAX_TEXT_BYTES, Specials, Tokenizer};
pub use tools::{Calls, MAX_CALLS, ToolChoice, ToolDelta, ToolFormat, ToolFunction, ToolParser, ToolSet};
pub use unigram::UnigramCounts;
