//! One completion from prompt to end, fed with logits by whoever runs the model.

use std::sync::Arc;

use aion_types::{Calibration, Clock, PersistenceMeter, Timestamp};
use toktrie::SimpleVob;

use crate::error::{Error, Result};
use crate::grammar::Constraint;
use crate::reference::CodeLength;
use crate::request::{Completion, EndOfText, FinishReason, GenerateRequest, StreamEvent, TokenEvent};
use crate::sampling::Sampler;
use crate::stop::StopBuffer;
use crate::surprise::Prediction;
use crate::ticket::Outlet;
use crate::tokenizer::Tokenizer;

/// What a generation reads of the engine.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) reference: Arc<CodeLength>,
    pub(crate) calibration: Calibration,
    pub(crate) clock: Arc<dyn Clock>,
}

#[derive(Debug)]
pub(crate) struct Generation {
    parts: Parts,
    prompt_tokens: usize,
    cached_tokens: usize,
    max_tokens: usize,
    top_logprobs: usize,
    end_of_text: EndOfText,
    constraint: Option<Constraint>,
    sampler: Sampler,
    stops: StopBuffer,
    meter: PersistenceMeter,
    text: String,
    tokens: Vec<u32>,
    asked: Timestamp,
    begun: Timestamp,
    read: Option<Timestamp>,
}

impl Generation {
    /// `room` is how many tokens fit after the prompt; `choice` is added to the seed.
    pub(crate) fn new(
        request: &GenerateRequest,
        prompt: &[u32],
        room: usize,
        choice: u64,
        constraint: Option<Constraint>,
        parts: Parts,
    ) -> Result<Self> {
        if request.max_tokens == Some(0) {
            return Err(Error::Request {
                field: "max_tokens",
                reason: "it must be at least 1".into(),
            });
        }
        let asked = parts.clock.now();
        Ok(Self {
            prompt_tokens: prompt.len(),
            cached_tokens: 0,
            max_tokens: request.max_tokens.map_or(room, |max| max.min(room)),
            top_logprobs: request.top_logprobs,
            end_of_text: request.end_of_text,
            constraint,
            sampler: Sampler::new(
                request
                    .sampling
                    .with_seed(request.sampling.seed().wrapping_add(choice)),
            )
            .with_bias(&request.logit_bias)
            .with_prompt(prompt),
            stops: StopBuffer::new(&request.stop)?,
            meter: PersistenceMeter::new(parts.reference.kind()),
            text: String::new(),
            tokens: Vec::new(),
            asked,
            begun: asked,
            read: None,
            parts,
        })
    }

    /// Tokens made so far.
    pub(crate) fn made(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens that it may come to hold, the prompt's included.
    pub(crate) fn most_tokens(&self) -> usize {
        self.prompt_tokens + self.max_tokens
    }

    /// Its turn has come; `cached` tokens of the prompt are there already.
    pub(crate) fn begin(&mut self, cached: usize) {
        self.cached_tokens = cached;
        self.begun = self.parts.clock.now();
    }

    /// Takes the logits after the text so far, and those of the teacher if there is one: chooses the next token and
    /// tells of it. What it is, or why there is none.
    pub(crate) fn take(
        &mut self,
        logits: &[f32],
        teacher: &[f32],
        outlet: &Outlet<Completion>,
    ) -> Result<Next> {
        if self.read.is_none() {
            self.read = Some(self.parts.clock.now());
        }
        let prediction = Prediction::new(logits)?;
        let token = self.choose(logits)?;
        if self.parts.tokenizer.is_stop(token) {
            return Ok(Next::End(FinishReason::Stop));
        }
        let whole = self
            .constraint
            .as_mut()
            .map_or(Ok(false), |constraint| constraint.accept(token))?;
        let (event, stopped) = self.record(token, &prediction, teacher)?;
        outlet.event(StreamEvent::Token(event));
        if stopped || whole {
            return Ok(Next::End(FinishReason::Stop));
        }
        if self.tokens.len() >= self.max_tokens {
            return Ok(Next::End(FinishReason::Length));
        }
        Ok(Next::Token(token))
    }

    /// The completion as far as it came.
    pub(crate) fn finish(mut self, finish: FinishReason, outlet: &Outlet<Completion>) -> Completion {
        let tail = self.stops.finish();
        if !tail.is_empty() {
            self.text.push_str(&tail);
            outlet.event(StreamEvent::Tail(tail));
        }
        let now = self.parts.clock.now();
        let read = self.read.unwrap_or(now);
        let persistence = self.meter.summary();
        let calibration = self.parts.calibration;
        Completion {
            text: self.text,
            tokens: self.tokens,
            finish,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            persistence: persistence.map(|summary| summary.calibrated(calibration)),
            queued_ms: self.begun.since_ms(self.asked),
            prefill_ms: read.since_ms(self.begun),
            decode_ms: now.since_ms(read),
        }
    }

    /// The next token: from what the grammar allows, and never an end token where those are banned.
    fn choose(&mut self, logits: &[f32]) -> Result<u32> {
        let mask: Option<SimpleVob> = self.constraint.as_mut().map(Constraint::allowed).transpose()?;
        let banned = self.end_of_text == EndOfText::Banned;
        let tokenizer = &*self.parts.tokenizer;
        let allowed = |token: u32| {
            mask.as_ref().is_none_or(|mask| mask.is_allowed(token)) && !(banned && tokenizer.is_stop(token))
        };
        self.sampler
            .choose(logits, allowed)
            .ok_or_else(|| stuck(logits, mask.as_ref()))
    }

    /// Notes a chosen token; also whether it completed a stop string.
    fn record(
        &mut self,
        token: u32,
        prediction: &Prediction<'_>,
        teacher: &[f32],
    ) -> Result<(TokenEvent, bool)> {
        let persistence = self.parts.reference.persistence(prediction, token, teacher)?;
        self.meter
            .push(persistence)
            .map_err(|error| Error::Numeric(error.to_string()))?;
        let released = self.stops.push(self.parts.tokenizer.text_bytes(token));
        self.text.push_str(&released.text);
        let event = TokenEvent {
            index: self.tokens.len(),
            token,
            text: released.text,
            surprise_nats: prediction.surprise_nats(token),
            entropy_nats: prediction.entropy_nats(),
            persistence,
            top: prediction.top(self.top_logprobs),
        };
        self.tokens.push(token);
        Ok((event, released.stopped))
    }
}

/// How a generation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// This token runs next.
    Token(u32),
    /// It has ended.
    End(FinishReason),
}

/// Why no token can follow.
fn stuck(logits: &[f32], mask: Option<&SimpleVob>) -> Error {
    match Prediction::new(logits) {
        Err(error) => error,
        Ok(_) if mask.is_some() => Error::Schema("no token of the model can follow".into()),
        Ok(_) => Error::Request {
            field: "logit_bias",
            reason: "it leaves no token".into(),
        },
    }
}
