//! A loaded model: completions, scores, embeddings, prompts.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aion_types::{Calibration, PersistenceSummary, Reference};
use serde_json::Value as Json;

use crate::calibration::FittedCalibration;
use crate::chat::{ChatMessage, ChatTemplate, Guard};
use crate::checkpoint::{Checkpoint, GgufCheckpoint};
use crate::config::ModelConfig;
use crate::device::Chosen;
use crate::error::{Error, Result};
use crate::generation::{Generation, Parts};
use crate::gguf::Gguf;
use crate::grammar::{Constraint, GrammarFactory};
use crate::loading::{cache_budget, chat_template, side_by_side, thread_pool};
use crate::memory;
use crate::model::Model;
use crate::options::{EngineOptions, ModelSource};
use crate::reference::{CodeLength, Reads};
use crate::request::{
    Completion, FinishReason, GenerateRequest, OutputFormat, Prompt, StreamEvent, TokenScore,
};
use crate::safetensors::HubCheckpoint;
use crate::scheduler::{Bounds, Job, Member, Passes, Scheduler, Scoring, Summing, Work};
use crate::stats::EngineStats;
use crate::teacher;
use crate::ticket::{Outlet, Progress, Ticket, channel};
use crate::tokenizer::{Place, Specials, Tokenizer};
use crate::tools::ToolFormat;

/// A model ready to run. Cloning is cheap, and clones share the weights and the memory for keys and values.
///
/// Calls block the thread they are made on, from as many threads as there are: all that run share each pass over the
/// weights. An async caller uses [`Engine::start`] on a blocking thread (`tokio::task::spawn_blocking`) and awaits the
/// [`Ticket`].
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
    parts: Parts,
    grammar: OnceLock<Result<GrammarFactory, String>>,
    /// Grammars compiled.
    grammars: AtomicU64,
    scheduler: Scheduler,
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
    /// What makes a probability of it.
    pub calibration: Calibration,
}

/// Hears what happens during a completion, and may stop it.
pub type OnEvent<'a> = dyn FnMut(StreamEvent) -> ControlFlow<()> + Send + 'a;

impl Engine {
    /// Loads a model: reads the file, checks everything, converts the weights for the device.
    ///
    /// # Errors
    /// Every [`Error`] that a damaged, unknown or contradictory checkpoint gives, [`Error::TokenizerMismatch`], and
    /// [`Error::Device`]; [`Error::OutOfMemory`] before anything large is read.
    pub fn load(source: &ModelSource, options: EngineOptions) -> Result<Self> {
        let device = options.device.open()?;
        let pool = thread_pool(options.threads)?;
        let loaded = match source {
            ModelSource::Gguf(path) => Self::load_gguf(&Gguf::open(path)?, source, options, &device, pool),
            ModelSource::GgufBytes(bytes) => {
                Self::load_gguf(&Gguf::from_bytes(bytes.clone())?, source, options, &device, pool)
            }
            ModelSource::HubDir(dir) => Self::load_dir(dir, source, options, &device, pool),
        };
        memory::give_back();
        loaded
    }

    fn load_gguf(
        gguf: &Gguf,
        source: &ModelSource,
        options: EngineOptions,
        device: &Chosen,
        pool: rayon::ThreadPool,
    ) -> Result<Self> {
        let checkpoint = GgufCheckpoint::new(gguf)?;
        let tokenizer = || Tokenizer::from_gguf(gguf);
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
        Self::assemble(
            &checkpoint,
            || Tokenizer::from_dir(dir),
            hub_template(dir),
            source,
            options,
            device,
            pool,
        )
    }

    fn assemble(
        checkpoint: &dyn Checkpoint,
        tokenizer: impl FnOnce() -> Result<Tokenizer> + Send,
        template: Option<String>,
        source: &ModelSource,
        options: EngineOptions,
        device: &Chosen,
        pool: rayon::ThreadPool,
    ) -> Result<Self> {
        let config = checkpoint.config().clone();
        let counts = source.unigram_path();
        let teacher = options
            .teacher
            .as_ref()
            .filter(|_| options.reference == Some(Reference::Teacher));
        let teacher = teacher.map(|source| Ok((source, teacher::config(source, &config)?)));
        let teacher: Option<(&ModelSource, ModelConfig)> = teacher.transpose()?;
        let reads = teacher.as_ref().map_or(Reads::Alone, |_| Reads::WithTeacher);
        let reference = CodeLength::choose(options.reference, counts.as_deref(), reads, config.vocab_size)?;
        let calibration = match options.calibration {
            Some(calibration) => calibration,
            None => FittedCalibration::of(source.calibration_file().as_deref(), reference.kind())?,
        };
        let context_length = options
            .context_length
            .unwrap_or(usize::MAX)
            .min(config.context_length)
            .min(
                teacher
                    .as_ref()
                    .map_or(usize::MAX, |(_, config)| config.context_length),
            );
        let taught = teacher.iter().map(|(source, config)| (*source, config));
        let models = [(source, &config)].into_iter().chain(taught);
        let cache_bytes = cache_budget(models, device, context_length, &options)?;
        let bounds = Bounds {
            cache_bytes,
            sequences: options.sequences,
            chunk: options.prefill_chunk,
            reuse: options.prefix_reuse,
            vocab: config.vocab_size,
        };
        let threads = pool.current_num_threads();
        let (tokenizer, model) = side_by_side(tokenizer, || Model::load(checkpoint, device, threads))?;
        if tokenizer.len() > config.vocab_size {
            return Err(Error::TokenizerMismatch {
                tokenizer: tokenizer.len(),
                model: config.vocab_size,
            });
        }
        let template = chat_template(template, &tokenizer, options.clock.clone())?;
        let info = EngineInfo {
            name: options.name.clone().unwrap_or_else(|| source.name()),
            context_length,
            device: device.name.clone(),
            threads,
            reference: reference.kind(),
            calibration,
            config,
        };
        let tokenizer = Arc::new(tokenizer);
        let parts = Parts {
            tokenizer: Arc::clone(&tokenizer),
            reference: Arc::new(reference),
            calibration,
            clock: options.clock,
        };
        let passes = Passes {
            model,
            teacher: teacher
                .map(|(source, _)| teacher::load(source, device, threads))
                .transpose()?,
            #[cfg(feature = "testkit")]
            faults: options.faults,
        };
        Ok(Self(Arc::new(Inner {
            info,
            tokenizer,
            template,
            scheduler: Scheduler::start(passes, bounds, options.queue, parts.clone(), pool)?,
            parts,
            grammar: OnceLock::new(),
            grammars: AtomicU64::new(0),
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

    /// `usage.persistence` of the `R_t` of some tokens, in their order: the summary with its probability; none of no
    /// token.
    ///
    /// # Errors
    /// [`Error::Numeric`] for a ratio that is not finite and above 0.
    pub fn summary(&self, ratios: &[f64]) -> Result<Option<PersistenceSummary>> {
        let info = self.info();
        let summary = PersistenceSummary::of(ratios, info.reference);
        let summary = summary.map_err(|error| Error::Numeric(error.to_string()))?;
        Ok(summary.map(|summary| summary.calibrated(info.calibration)))
    }

    /// What was done, and what is being done.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        EngineStats {
            grammars: self.0.grammars.load(Ordering::Relaxed),
            ..self.0.scheduler.stats()
        }
    }

    /// Whether a request would be let in now: for those who want to know before they prepare one.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub fn check_room(&self) -> Result<()> {
        self.0.scheduler.check_room(1, 1)
    }

    /// Sets how many requests may wait beside those for whom there is a place; for all clones.
    pub fn limit_queue(&self, requests: usize) {
        self.0.scheduler.limit_queue(requests);
    }

    /// Asks for a completion and returns at once. The prompt is tokenized and a schema compiled on this thread.
    ///
    /// # Errors
    /// [`Error::Request`], [`Error::ContextFull`], [`Error::CacheFull`], [`Error::Template`] and [`Error::Schema`] for
    /// what the request asks; [`Error::Busy`] when too many requests wait.
    pub fn start(&self, request: &GenerateRequest) -> Result<Ticket> {
        self.start_many(request, 1)?.pop().ok_or(Error::Closed)
    }

    /// Asks for `n` completions of one prompt, which is read once. The seeds are the request's and those after it.
    ///
    /// # Errors
    /// As [`Engine::start`]; [`Error::Request`] for 0 and for more than run at once.
    pub fn start_many(&self, request: &GenerateRequest, n: usize) -> Result<Vec<Ticket>> {
        self.start_all(std::slice::from_ref(request), n)
    }

    /// Asks for `n` completions of each of several prompts: all of them wait for their places, or none does. The tickets
    /// are in the order of the requests, those of one prompt side by side; the client is the first request's. Equal
    /// formats are compiled once.
    ///
    /// # Errors
    /// As [`Engine::start_many`], for the first request that has one; [`Error::Request`] for more prompts than can ever
    /// wait together.
    pub fn start_all(&self, requests: &[GenerateRequest], n: usize) -> Result<Vec<Ticket>> {
        let scheduler = &self.0.scheduler;
        let Some(client) = requests.first().map(|request| &request.client) else {
            return Ok(Vec::new());
        };
        let most = scheduler.most_sequences();
        if n == 0 || n > most {
            return Err(Error::Request {
                field: "n",
                reason: format!("it must be from 1 to {most}"),
            });
        }
        scheduler.check_room(requests.len(), n)?;
        let (mut jobs, mut tickets, mut compiled) = (Vec::new(), Vec::new(), None);
        for (i, request) in requests.iter().enumerate() {
            let constraint = match compiled.take() {
                Some(constraint) => Some(constraint),
                None => self.constraint(&request.format)?,
            };
            if requests
                .get(i + 1)
                .is_some_and(|next| next.format == request.format)
            {
                compiled = constraint.as_ref().map(Constraint::fork);
            }
            let (job, more) = self.job(request, n, constraint)?;
            jobs.push(job);
            tickets.extend(more);
        }
        scheduler.submit(client, jobs)?;
        Ok(tickets)
    }

    /// `n` completions of one prompt.
    fn job(
        &self,
        request: &GenerateRequest,
        n: usize,
        mut constraint: Option<Constraint>,
    ) -> Result<(Job, Vec<Ticket>)> {
        let tokens = self.prompt_tokens(&request.prompt)?;
        self.check_bias(request)?;
        let room = self.room(tokens.len(), request.max_tokens, n)?;
        let (mut members, mut tickets) = (Vec::new(), Vec::new());
        for choice in 0..n {
            let own = if choice + 1 < n {
                constraint.as_ref().map(Constraint::fork)
            } else {
                constraint.take()
            };
            let parts = self.0.parts.clone();
            let generation = Generation::new(request, &tokens, room, choice as u64, own, parts)?;
            let (outlet, ticket) = channel();
            members.push(Member { generation, outlet });
            tickets.push(ticket);
        }
        let work = Work::Read(members);
        Ok((Job { tokens, work }, tickets))
    }

    /// Makes a completion, telling `on_event` of each step; a [`ControlFlow::Break`] from it ends the completion
    /// with [`FinishReason::Cancelled`] and what was heard so far.
    ///
    /// # Errors
    /// As [`Engine::start`]; [`Error::Numeric`] and [`Error::Panicked`] for a broken model.
    pub fn generate(&self, request: &GenerateRequest, on_event: &mut OnEvent<'_>) -> Result<Completion> {
        let mut ticket = self.start(request)?;
        let mut heard = Heard::default();
        while let Some(progress) = ticket.recv() {
            match progress {
                Progress::Done(completion) => return Ok(completion),
                Progress::Failed(error) => return Err(error),
                Progress::Event(event) => {
                    heard.note(&event);
                    if on_event(event).is_break() {
                        ticket.cancel();
                        return heard.cut(ticket.wait()?, self);
                    }
                }
            }
        }
        Err(Error::Closed)
    }

    /// Makes a completion without hearing of its steps.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn complete(&self, request: &GenerateRequest) -> Result<Completion> {
        self.generate(request, &mut |_| ControlFlow::Continue(()))
    }

    /// Makes `n` completions of one prompt, as [`Engine::start_many`].
    ///
    /// # Errors
    /// As [`Engine::start_many`], and the first error of a completion.
    pub fn complete_many(&self, request: &GenerateRequest, n: usize) -> Result<Vec<Completion>> {
        let tickets = self.start_many(request, n)?;
        tickets.into_iter().map(Ticket::wait).collect()
    }

    /// What the model says of each token of a text but the first, given all tokens before it (teacher forcing).
    ///
    /// # Errors
    /// [`Error::Request`] for an id outside the vocabulary, [`Error::ContextFull`] for a text that is too long.
    pub fn score(&self, tokens: &[u32], top_logprobs: usize) -> Result<Vec<TokenScore>> {
        self.start_score(tokens, top_logprobs)?.wait()
    }

    /// [`Engine::score`] that returns at once.
    ///
    /// # Errors
    /// As [`Engine::score`]; [`Error::Busy`].
    pub fn start_score(&self, tokens: &[u32], top_logprobs: usize) -> Result<Ticket<Vec<TokenScore>>> {
        self.start_score_for("", tokens, top_logprobs)
    }

    /// [`Engine::start_score`] for a client: those who wait get places in turn
    /// ([`GenerateRequest::with_client`]).
    ///
    /// # Errors
    /// As [`Engine::start_score`].
    pub fn start_score_for(
        &self,
        client: &str,
        tokens: &[u32],
        top_logprobs: usize,
    ) -> Result<Ticket<Vec<TokenScore>>> {
        self.check_tokens(tokens)?;
        let work = |outlet| {
            Work::Score(Scoring {
                outlet,
                scores: Vec::new(),
                top_logprobs,
            })
        };
        let tickets = self.submit(client, [tokens.to_vec()], work)?;
        tickets.into_iter().next().ok_or(Error::Closed)
    }

    /// The same work on each of several texts: all of them wait, or none does.
    fn submit<T>(
        &self,
        client: &str,
        texts: impl IntoIterator<Item = Vec<u32>>,
        work: impl Fn(Outlet<T>) -> Work,
    ) -> Result<Vec<Ticket<T>>> {
        let (mut jobs, mut tickets) = (Vec::new(), Vec::new());
        for tokens in texts {
            let (outlet, ticket) = channel();
            let work = work(outlet);
            jobs.push(Job { tokens, work });
            tickets.push(ticket);
        }
        self.0.scheduler.submit(&Arc::from(client), jobs)?;
        Ok(tickets)
    }

    /// The tokens of a text to score: special tokens spelled out, after the token that begins every text, if any.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], and [`Error::Request`] for a text that is too long.
    pub fn text_tokens(&self, text: &str) -> Result<Vec<u32>> {
        let prefix = self.0.tokenizer.prefix();
        let tokens = self.0.tokenizer.encode(text, Specials::AsText)?;
        Ok(prefix.into_iter().chain(tokens).collect())
    }

    /// [`Engine::score`] of a text, special tokens spelled out.
    ///
    /// # Errors
    /// As [`Engine::score`].
    pub fn score_text(&self, text: &str) -> Result<Vec<TokenScore>> {
        self.score(&self.text_tokens(text)?, 0)
    }

    /// The mean of the last hidden states of a text, scaled to length 1; `[n_embd]`.
    ///
    /// # Errors
    /// [`Error::Request`] for an empty text, [`Error::ContextFull`] for one that is too long.
    pub fn embed(&self, text: &str) -> Result<Vec<f32>> {
        self.start_embed(text)?.wait()
    }

    /// [`Engine::embed`] of a text that is tokens already.
    ///
    /// # Errors
    /// As [`Engine::embed`], and [`Error::Request`] for an id outside the vocabulary.
    pub fn embed_tokens(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.start_embed_tokens(tokens)?.wait()
    }

    /// [`Engine::embed`] that returns at once.
    ///
    /// # Errors
    /// As [`Engine::embed`]; [`Error::Busy`].
    pub fn start_embed(&self, text: &str) -> Result<Ticket<Vec<f32>>> {
        self.start_embed_tokens(&self.0.tokenizer.encode(text, Specials::AsText)?)
    }

    /// [`Engine::embed_tokens`] that returns at once.
    ///
    /// # Errors
    /// As [`Engine::embed_tokens`]; [`Error::Busy`].
    pub fn start_embed_tokens(&self, tokens: &[u32]) -> Result<Ticket<Vec<f32>>> {
        let tickets = self.start_embed_all("", &[tokens])?;
        tickets.into_iter().next().ok_or(Error::Closed)
    }

    /// [`Engine::start_embed_tokens`] of several texts for a client: all of them wait for their places, or none does.
    ///
    /// # Errors
    /// As [`Engine::start_embed_tokens`], for the first text that has one; [`Error::Request`] for more texts than can
    /// ever wait together.
    pub fn start_embed_all<T: AsRef<[u32]>>(
        &self,
        client: &str,
        texts: &[T],
    ) -> Result<Vec<Ticket<Vec<f32>>>> {
        texts
            .iter()
            .try_for_each(|tokens| self.check_tokens(tokens.as_ref()))?;
        let texts = texts.iter().map(|tokens| tokens.as_ref().to_vec());
        self.submit(client, texts, |outlet| {
            Work::Embed(Summing {
                outlet,
                sum: Vec::new(),
            })
        })
    }

    /// Sequences that run at once: so many texts can always wait together.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.0.scheduler.most_sequences()
    }

    /// How the model writes calls of functions; [`ToolSet::output_format`](crate::ToolSet::output_format) wants it.
    #[must_use]
    pub fn tool_format(&self) -> ToolFormat {
        let template = self.0.template.as_ref();
        template.map_or(
            ToolFormat::Json {
                arguments: "arguments",
            },
            ChatTemplate::tool_format,
        )
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
            // Words go on where a text was cut, and begin after a special token.
            let begins = tokens
                .last()
                .is_none_or(|last| self.0.tokenizer.is_special(*last));
            let place = if begins { Place::Start } else { Place::Inside };
            tokens.extend(self.0.tokenizer.encode_at(text, specials, place)?);
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
        if *format == OutputFormat::Text {
            return Ok(None);
        }
        let build = || GrammarFactory::new(&self.0.tokenizer, self.0.info.config.vocab_size);
        let factory = self
            .0
            .grammar
            .get_or_init(|| build().map_err(|error| error.to_string()));
        match factory {
            Ok(factory) => {
                self.0.grammars.fetch_add(1, Ordering::Relaxed);
                factory.start(format)
            }
            Err(reason) => Err(Error::Schema(format!(
                "this model writes free text only: {reason}"
            ))),
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

    fn check_bias(&self, request: &GenerateRequest) -> Result<()> {
        let vocab = self.0.info.config.vocab_size;
        match request.logit_bias.keys().find(|token| **token as usize >= vocab) {
            Some(token) => Err(Error::Request {
                field: "logit_bias",
                reason: format!("token {token} of {vocab}"),
            }),
            None => Ok(()),
        }
    }

    /// Whether a text can be scored or embedded: what those calls check before they ask for a place.
    ///
    /// # Errors
    /// [`Error::Request`] for an empty text and for an id outside the vocabulary, [`Error::ContextFull`].
    pub fn check_text(&self, tokens: &[u32]) -> Result<()> {
        self.check_tokens(tokens)
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        self.check_ids(tokens)?;
        match (tokens.len(), self.0.info.context_length) {
            (prompt, context) if prompt > context => Err(Error::ContextFull { prompt, context }),
            _ => Ok(()),
        }
    }

    /// Tokens that can follow a prompt, each of `n` times; no more than the memory holds unless more are asked for.
    fn room(&self, prompt: usize, max_tokens: Option<usize>, n: usize) -> Result<usize> {
        let context = self.0.info.context_length;
        let room = context
            .checked_sub(prompt)
            .filter(|room| *room > 0)
            .ok_or(Error::ContextFull { prompt, context })?;
        Ok(match max_tokens {
            Some(_) => room,
            None => {
                let held = self.0.scheduler.most_positions(context, n);
                room.min(held.saturating_sub(prompt).max(1))
            }
        })
    }
}

/// What a listener has heard of a completion.
#[derive(Debug, Default)]
struct Heard {
    text: String,
    ratios: Vec<f64>,
}

impl Heard {
    fn note(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Prefill { .. } => {}
            StreamEvent::Token(token) => {
                self.text.push_str(&token.text);
                self.ratios.push(token.persistence);
            }
            StreamEvent::Tail(text) => self.text.push_str(text),
        }
    }

    /// The completion without what came after the listener had enough.
    fn cut(self, mut completion: Completion, engine: &Engine) -> Result<Completion> {
        completion.tokens.truncate(self.ratios.len());
        completion.text = self.text;
        completion.finish = FinishReason::Cancelled;
        completion.persistence = engine.summary(&self.ratios)?;
        Ok(completion)
    }
}

/// `chat_template.jinja`, or the template inside `tokenizer_config.json` (the one named `default` of several).
pub(crate) fn hub_template(dir: &Path) -> Option<String> {
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
