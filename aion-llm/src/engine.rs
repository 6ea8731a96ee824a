//! A loaded model: completions, scores, embeddings, prompts.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use aion_types::{Clock, Reference};
use serde_json::Value as Json;

use crate::chat::{ChatMessage, ChatTemplate, Guard};
use crate::checkpoint::{Checkpoint, GgufCheckpoint};
use crate::config::ModelConfig;
use crate::device::Chosen;
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::gguf::Gguf;
use crate::grammar::{Constraint, GrammarFactory};
use crate::model::Model;
use crate::options::{EngineOptions, ModelSource};
use crate::reference::CodeLength;
use crate::request::{Completion, GenerateRequest, OutputFormat, Prompt, StreamEvent, TokenScore};
use crate::safetensors::HubCheckpoint;
use crate::surprise::Prediction;
use crate::tokenizer::{Specials, Tokenizer};
use crate::worker::Worker;

/// A model ready to run. Cloning is cheap, and clones share the weights and the one key-value cache.
///
/// Calls block the thread they are made on and run one after the other; an async caller uses a blocking thread
/// (`tokio::task::spawn_blocking`).
///
/// ```no_run
/// use aion_llm::{ChatMessage, Engine, EngineOptions, GenerateRequest, ModelSource, Prompt};
/// let engine = Engine::load(&ModelSource::at("SmolLM2-135M-Instruct.Q4_1.gguf"), EngineOptions::default())?;
/// let prompt = Prompt::chat([ChatMessage::new("user", "What is the capital of France?")]);
/// let completion = engine.complete(&GenerateRequest::new(prompt).with_max_tokens(40))?;
/// println!("{} {:?}", completion.text, completion.persistence);
/// # Ok::<(), aion_llm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: EngineInfo,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    reference: CodeLength,
    grammar: OnceLock<Result<GrammarFactory, String>>,
    pool: rayon::ThreadPool,
    worker: Mutex<Worker>,
    clock: Arc<dyn Clock>,
}

/// What was loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineInfo {
    /// The name that the model answers to.
    pub name: String,
    /// The shape of the model.
    pub config: ModelConfig,
    /// Positions of the context window.
    pub context_length: usize,
    /// The device that runs it.
    pub device: String,
    /// Threads of the processor.
    pub threads: usize,
    /// What surprise is measured against.
    pub reference: Reference,
}

/// Hears what happens during a completion, and may stop it.
pub type OnEvent<'a> = dyn FnMut(StreamEvent) -> ControlFlow<()> + Send + 'a;

impl Engine {
    /// Loads a model: reads the file, checks everything, converts the weights for the device.
    ///
    /// # Errors
    /// Every [`Error`] that a damaged, unknown or contradictory checkpoint gives, [`Error::TokenizerMismatch`], and
    /// [`Error::Device`].
    pub fn load(source: &ModelSource, options: EngineOptions) -> Result<Self> {
        let device = options.device.open()?;
        let pool = thread_pool(options.threads)?;
        match source {
            ModelSource::Gguf(path) => Self::load_gguf(&Gguf::open(path)?, source, options, &device, pool),
            ModelSource::GgufBytes(bytes) => {
                Self::load_gguf(&Gguf::from_bytes(bytes.clone())?, source, options, &device, pool)
            }
            ModelSource::HubDir(dir) => Self::load_dir(dir, source, options, &device, pool),
        }
    }

    fn load_gguf(
        gguf: &Gguf,
        source: &ModelSource,
        options: EngineOptions,
        device: &Chosen,
        pool: rayon::ThreadPool,
    ) -> Result<Self> {
        let checkpoint = GgufCheckpoint::new(gguf)?;
        let tokenizer = Tokenizer::from_gguf(gguf)?;
        let template = gguf.get_str("tokenizer.chat_template").map(str::to_owned);
        Self::assemble(&checkpoint, tokenizer, template, source, options, device, pool)
    }

    fn load_dir(
        dir: &Path,
        source: &ModelSource,
        options: EngineOptions,
        device: &Chosen,
        pool: rayon::ThreadPool,
    ) -> Result<Self> {
        let checkpoint = HubCheckpoint::open(dir)?;
        let tokenizer = Tokenizer::from_dir(dir)?;
        Self::assemble(
            &checkpoint,
            tokenizer,
            hub_template(dir),
            source,
            options,
            device,
            pool,
        )
    }

    fn assemble(
        checkpoint: &dyn Checkpoint,
        tokenizer: Tokenizer,
        template: Option<String>,
        source: &ModelSource,
        options: EngineOptions,
        device: &Chosen,
        pool: rayon::ThreadPool,
    ) -> Result<Self> {
        let config = checkpoint.config().clone();
        if tokenizer.len() > config.vocab_size {
            return Err(Error::TokenizerMismatch {
                tokenizer: tokenizer.len(),
                model: config.vocab_size,
            });
        }
        let counts = source.unigram_path();
        let reference = CodeLength::choose(options.reference, counts.as_deref(), config.vocab_size)?;
        let template = chat_template(template, &tokenizer, options.clock.clone())?;
        let model = Arc::new(Model::load(checkpoint, device)?);
        let info = EngineInfo {
            name: options.name.clone().unwrap_or_else(|| source.name()),
            context_length: options
                .context_length
                .unwrap_or(usize::MAX)
                .min(config.context_length),
            device: device.name.clone(),
            threads: pool.current_num_threads(),
            reference: reference.kind(),
            config,
        };
        Ok(Self(Arc::new(Inner {
            info,
            tokenizer: Arc::new(tokenizer),
            template,
            reference,
            grammar: OnceLock::new(),
            pool,
            worker: Mutex::new(Worker::new(model, options.prefill_chunk, options.prefix_reuse)),
            clock: options.clock,
        })))
    }

    /// What was loaded.
    #[must_use]
    pub fn info(&self) -> &EngineInfo {
        &self.0.info
    }

    /// The model's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// Makes a completion, telling `on_event` of each step; a [`ControlFlow::Break`] from it ends the completion
    /// with [`FinishReason::Cancelled`](crate::FinishReason::Cancelled).
    ///
    /// # Errors
    /// [`Error::Request`], [`Error::ContextFull`], [`Error::Template`] and [`Error::Schema`] for what the request asks,
    /// [`Error::Numeric`] for a broken model.
    pub fn generate(&self, request: &GenerateRequest, on_event: &mut OnEvent<'_>) -> Result<Completion> {
        let prompt = self.prompt_tokens(&request.prompt)?;
        let room = self.room(prompt.len())?;
        let constraint = self.constraint(&request.format)?;
        let generation = Generation::new(request, prompt, room, constraint, self.parts())?;
        let inner = &*self.0;
        let worker = &mut *inner.worker();
        inner.pool.install(|| generation.run(worker, on_event))
    }

    /// Makes a completion without hearing of its steps.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn complete(&self, request: &GenerateRequest) -> Result<Completion> {
        self.generate(request, &mut |_| ControlFlow::Continue(()))
    }

    /// What the model says of each token of a text but the first, given all tokens before it (teacher forcing).
    ///
    /// # Errors
    /// [`Error::Request`] for an id outside the vocabulary, [`Error::ContextFull`] for a text that is too long.
    pub fn score(&self, tokens: &[u32], top_logprobs: usize) -> Result<Vec<TokenScore>> {
        self.check_tokens(tokens)?;
        let inner = &*self.0;
        let vocab = inner.info.config.vocab_size;
        let mut scores = Vec::with_capacity(tokens.len());
        let worker = &mut *inner.worker();
        inner.pool.install(|| {
            worker.each_logits(tokens, |start, logits| {
                for (row, token) in logits
                    .chunks_exact(vocab)
                    .zip(&tokens[(start + 1).min(tokens.len())..])
                {
                    scores.push(inner.token_score(row, *token, top_logprobs)?);
                }
                Ok(())
            })
        })?;
        Ok(scores)
    }

    /// [`Engine::score`] of a text, special tokens spelled out.
    ///
    /// # Errors
    /// As [`Engine::score`].
    pub fn score_text(&self, text: &str) -> Result<Vec<TokenScore>> {
        let prefix = self.0.tokenizer.prefix();
        let tokens = self.0.tokenizer.encode(text, Specials::AsText)?;
        self.score(&prefix.into_iter().chain(tokens).collect::<Vec<_>>(), 0)
    }

    /// The mean of the last hidden states of a text, scaled to length 1; `[n_embd]`.
    ///
    /// # Errors
    /// [`Error::Request`] for an empty text, [`Error::ContextFull`] for one that is too long.
    pub fn embed(&self, text: &str) -> Result<Vec<f32>> {
        let tokens = self.0.tokenizer.encode(text, Specials::AsText)?;
        self.check_tokens(&tokens)?;
        let worker = &mut *self.0.worker();
        let mut sum = self.0.pool.install(|| worker.hidden_sum(&tokens))?;
        let norm = sum.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        sum.iter_mut()
            .for_each(|x| *x = (f64::from(*x) / norm.max(f64::MIN_POSITIVE)) as f32);
        Ok(sum)
    }

    /// The prompt of a conversation as text, for people to read.
    ///
    /// # Errors
    /// [`Error::Template`].
    pub fn render_chat(&self, messages: &[ChatMessage], tools: Option<&Json>) -> Result<String> {
        let guard = Guard::new(self.0.tokenizer.special_texts());
        self.guarded_prompt(&guard, messages, tools)
            .map(|prompt| guard.readable(&prompt))
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// [`Error::Template`], [`Error::Tokenizer`], or [`Error::Request`] for an empty prompt or an unknown id.
    pub fn prompt_tokens(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        let tokenizer = &self.0.tokenizer;
        let tokens = match prompt {
            Prompt::Tokens(tokens) => tokens.clone(),
            Prompt::Text(text) => {
                let tokens = tokenizer.encode(text, Specials::Recognise)?;
                tokenizer.prefix().into_iter().chain(tokens).collect()
            }
            Prompt::Chat { messages, tools } => self.chat_tokens(messages, tools.as_ref())?,
        };
        self.check_ids(&tokens)?;
        Ok(tokens)
    }

    fn chat_tokens(&self, messages: &[ChatMessage], tools: Option<&Json>) -> Result<Vec<u32>> {
        let guard = Guard::new(self.0.tokenizer.special_texts());
        let prompt = self.guarded_prompt(&guard, messages, tools)?;
        let mut tokens = Vec::new();
        for (text, spelled) in guard.pieces(&prompt) {
            let specials = if spelled {
                Specials::AsText
            } else {
                Specials::Recognise
            };
            tokens.extend(self.0.tokenizer.encode(text, specials)?);
        }
        Ok(tokens)
    }

    fn guarded_prompt(
        &self,
        guard: &Guard<'_>,
        messages: &[ChatMessage],
        tools: Option<&Json>,
    ) -> Result<String> {
        let template = self.0.template.as_ref();
        let template = template.ok_or_else(|| Error::Template("the model has none".into()))?;
        template.render(
            &guard.messages(messages),
            tools.map(|tools| guard.json(tools)).as_ref(),
        )
    }

    fn constraint(&self, format: &OutputFormat) -> Result<Option<Constraint>> {
        let object = serde_json::json!({"type": "object"});
        let schema = match format {
            OutputFormat::Text => return Ok(None),
            OutputFormat::JsonObject => &object,
            OutputFormat::JsonSchema(schema) => schema,
        };
        let build = || GrammarFactory::new(&self.0.tokenizer, self.0.info.config.vocab_size);
        let factory = self
            .0
            .grammar
            .get_or_init(|| build().map_err(|error| error.to_string()));
        match factory {
            Ok(factory) => factory.start(schema).map(Some),
            Err(reason) => Err(Error::Unsupported(format!("constrained output: {reason}"))),
        }
    }

    fn check_ids(&self, tokens: &[u32]) -> Result<()> {
        let vocab = self.0.info.config.vocab_size;
        if tokens.is_empty() {
            return Err(Error::Request {
                field: "prompt",
                reason: "it is empty".into(),
            });
        }
        match tokens.iter().find(|token| **token as usize >= vocab) {
            Some(token) => Err(Error::Request {
                field: "prompt",
                reason: format!("token {token} of {vocab}"),
            }),
            None => Ok(()),
        }
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        self.check_ids(tokens)?;
        match (tokens.len(), self.0.info.context_length) {
            (prompt, context) if prompt > context => Err(Error::ContextFull { prompt, context }),
            _ => Ok(()),
        }
    }

    /// Tokens that can follow a prompt.
    fn room(&self, prompt: usize) -> Result<usize> {
        let context = self.0.info.context_length;
        context
            .checked_sub(prompt)
            .filter(|room| *room > 0)
            .ok_or(Error::ContextFull { prompt, context })
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            tokenizer: &self.0.tokenizer,
            reference: &self.0.reference,
            clock: &*self.0.clock,
        }
    }
}

/// What a generation reads of the engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) reference: &'a CodeLength,
    pub(crate) clock: &'a dyn Clock,
}

impl Inner {
    /// The worker; one whose last user panicked starts over with an empty cache.
    fn worker(&self) -> MutexGuard<'_, Worker> {
        self.worker.lock().unwrap_or_else(|poisoned| {
            self.worker.clear_poison();
            let mut worker = poisoned.into_inner();
            worker.reset();
            worker
        })
    }

    fn token_score(&self, logits: &[f32], token: u32, top_logprobs: usize) -> Result<TokenScore> {
        let prediction = Prediction::new(logits)?;
        Ok(TokenScore {
            token,
            surprise_nats: prediction.surprise_nats(token),
            entropy_nats: prediction.entropy_nats(),
            persistence: self.reference.persistence(&prediction, token)?,
            top: prediction.top(top_logprobs),
        })
    }
}

fn thread_pool(threads: Option<usize>) -> Result<rayon::ThreadPool> {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    let builder = builder.thread_name(|i| format!("aion-llm-{i}"));
    builder.build().map_err(|error| Error::Device {
        device: "cpu".into(),
        reason: format!("no threads: {error}"),
    })
}

fn chat_template(
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

/// `chat_template.jinja`, or the template inside `tokenizer_config.json` (the one named `default` of several).
fn hub_template(dir: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(dir.join("chat_template.jinja")) {
        return Some(text);
    }
    let text = std::fs::read_to_string(dir.join("tokenizer_config.json")).ok()?;
    let config: Json = serde_json::from_str(&text).ok()?;
    match &config["chat_template"] {
        Json::String(template) => Some(template.clone()),
        Json::Array(list) => {
            let default = list.iter().find(|entry| entry["name"] == "default")?;
            default["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}
