//! One completion from prompt to end.

use std::ops::ControlFlow;

use aion_types::PersistenceMeter;
use toktrie::SimpleVob;

use crate::engine::{OnEvent, Parts};
use crate::error::{Error, Result};
use crate::grammar::Constraint;
use crate::request::{Completion, EndOfText, FinishReason, GenerateRequest, StreamEvent, TokenEvent};
use crate::sampling::Sampler;
use crate::stop::StopBuffer;
use crate::surprise::Prediction;
use crate::worker::Worker;

#[derive(Debug)]
pub(crate) struct Generation<'a> {
    parts: Parts<'a>,
    prompt: Vec<u32>,
    max_tokens: usize,
    top_logprobs: usize,
    end_of_text: EndOfText,
    constraint: Option<Constraint>,
    sampler: Sampler,
    stops: StopBuffer,
    meter: PersistenceMeter,
    text: String,
    tokens: Vec<u32>,
}

impl<'a> Generation<'a> {
    /// `room` is how many tokens fit after the prompt.
    pub(crate) fn new(
        request: &GenerateRequest,
        prompt: Vec<u32>,
        room: usize,
        constraint: Option<Constraint>,
        parts: Parts<'a>,
    ) -> Result<Self> {
        if request.max_tokens == Some(0) {
            return Err(Error::Request {
                field: "max_tokens",
                reason: "it must be at least 1".into(),
            });
        }
        Ok(Self {
            parts,
            prompt,
            max_tokens: request.max_tokens.map_or(room, |max| max.min(room)),
            top_logprobs: request.top_logprobs,
            end_of_text: request.end_of_text,
            constraint,
            sampler: Sampler::new(request.sampling),
            stops: StopBuffer::new(&request.stop)?,
            meter: PersistenceMeter::new(parts.reference.kind()),
            text: String::new(),
            tokens: Vec::new(),
        })
    }

    pub(crate) fn run(mut self, worker: &mut Worker, on_event: &mut OnEvent<'_>) -> Result<Completion> {
        let started = self.parts.clock.now();
        let total = self.prompt.len();
        let prefilled = worker.prefill(&self.prompt, &mut |done| {
            on_event(StreamEvent::Prefill { done, total })
        })?;
        let read = self.parts.clock.now();
        let finish = match prefilled.logits {
            Some(logits) => self.decode(logits, worker, on_event)?,
            None => FinishReason::Cancelled,
        };
        self.release_tail(on_event);
        Ok(Completion {
            text: self.text,
            tokens: self.tokens,
            finish,
            prompt_tokens: total,
            cached_tokens: prefilled.cached,
            persistence: self.meter.summary(),
            prefill_ms: read.since_ms(started),
            decode_ms: self.parts.clock.now().since_ms(read),
        })
    }

    fn decode(
        &mut self,
        mut logits: Vec<f32>,
        worker: &mut Worker,
        on_event: &mut OnEvent<'_>,
    ) -> Result<FinishReason> {
        loop {
            let token = self.choose(&logits)?;
            if self.parts.tokenizer.is_stop(token) {
                return Ok(FinishReason::Stop);
            }
            let whole = self
                .constraint
                .as_mut()
                .map_or(Ok(false), |constraint| constraint.accept(token))?;
            let (event, stopped) = self.record(token, &logits)?;
            if on_event(StreamEvent::Token(event)).is_break() {
                return Ok(FinishReason::Cancelled);
            }
            if stopped || whole {
                return Ok(FinishReason::Stop);
            }
            if self.tokens.len() >= self.max_tokens {
                return Ok(FinishReason::Length);
            }
            logits = worker.step(token)?;
        }
    }

    /// The next token: from what the grammar allows, and never an end token where those are banned.
    fn choose(&mut self, logits: &[f32]) -> Result<u32> {
        let mask: Option<SimpleVob> = self.constraint.as_mut().map(Constraint::allowed).transpose()?;
        let banned = self.end_of_text == EndOfText::Banned;
        let tokenizer = self.parts.tokenizer;
        let allowed = |token: u32| {
            mask.as_ref().is_none_or(|mask| mask.is_allowed(token)) && !(banned && tokenizer.is_stop(token))
        };
        self.sampler
            .choose(logits, allowed)
            .ok_or_else(|| Error::Schema("no token of the model can follow".into()))
    }

    /// Notes a chosen token; also whether it completed a stop string.
    fn record(&mut self, token: u32, logits: &[f32]) -> Result<(TokenEvent, bool)> {
        let prediction = Prediction::new(logits)?;
        let persistence = self.parts.reference.persistence(&prediction, token)?;
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

    fn release_tail(&mut self, on_event: &mut OnEvent<'_>) {
        let tail = self.stops.finish();
        if tail.is_empty() {
            return;
        }
        self.text.push_str(&tail);
        // The completion has ended; there is nothing left to stop.
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = on_event(StreamEvent::Tail(tail));
    }
}
