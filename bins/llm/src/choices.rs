//! The completions of one request, side by side.

use std::task::{Context, Poll};

use aion_llm::{Completion, GenerateRequest, TokenEvent};
use aion_service::Problem;

use crate::error::{ApiError, ApiResult};
use crate::generate::{Running, Step, start_all};
use crate::model::Model;

/// Running completions; dropping them stops the model.
#[derive(Debug)]
pub(crate) struct Choices {
    /// None where one has ended.
    runs: Vec<Option<Running>>,
    /// The step that was looked at to see that the first has begun.
    first: Option<Step>,
    /// Where to look first, so that none waits for ever.
    turn: usize,
}

impl Choices {
    /// Asks for so many completions of each request: all are let in, or none.
    pub(crate) async fn start(model: &Model, requests: Vec<GenerateRequest>, n: usize) -> ApiResult<Self> {
        let runs = start_all(model, requests, n).await?;
        Ok(Self {
            runs: runs.into_iter().map(Some).collect(),
            first: None,
            turn: 0,
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Waits until the model works on the first, so that what breaks before then gets its own status.
    pub(crate) async fn begun(mut self) -> ApiResult<Self> {
        let Some(Some(running)) = self.runs.first_mut() else {
            return Ok(self);
        };
        match running.next().await {
            Some(Step::Failed(error)) => Err(error),
            Some(step) => {
                self.first = Some(step);
                Ok(self)
            }
            None => Err(failed()),
        }
    }

    /// The next step of any of them, with its number; none after the last.
    pub(crate) async fn next(&mut self) -> Option<(usize, Step)> {
        if let Some(step) = self.first.take() {
            return Some((0, self.note(0, Some(step))));
        }
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Step)>> {
        let n = self.runs.len();
        let mut left = false;
        for offset in 0..n {
            let i = (self.turn + offset) % n;
            let Some(running) = &mut self.runs[i] else {
                continue;
            };
            left = true;
            if let Poll::Ready(step) = running.poll_next(context) {
                self.turn = i + 1;
                return Poll::Ready(Some((i, self.note(i, step))));
            }
        }
        if left { Poll::Pending } else { Poll::Ready(None) }
    }

    /// Forgets a run after its last step.
    fn note(&mut self, i: usize, step: Option<Step>) -> Step {
        let step = step.unwrap_or_else(|| Step::Failed(failed()));
        if matches!(step, Step::Done(_) | Step::Failed(_)) {
            self.runs[i] = None;
        }
        step
    }

    /// Waits for all of them: the tokens and the end of each.
    pub(crate) async fn finish(mut self) -> ApiResult<Vec<Finished>> {
        let mut tokens: Vec<Vec<TokenEvent>> = self.runs.iter().map(|_| Vec::new()).collect();
        let mut ends: Vec<Option<Completion>> = self.runs.iter().map(|_| None).collect();
        while let Some((i, step)) = self.next().await {
            match step {
                Step::Begun | Step::Tail(_) => {}
                Step::Token(token) => tokens[i].push(token),
                Step::Done(completion) => ends[i] = Some(*completion),
                Step::Failed(error) => return Err(error),
            }
        }
        let finished = tokens.into_iter().zip(ends);
        finished
            .map(|(tokens, completion)| {
                let completion = completion.ok_or_else(failed)?;
                Ok(Finished { tokens, completion })
            })
            .collect()
    }
}

/// A completion that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) tokens: Vec<TokenEvent>,
    pub(crate) completion: Completion,
}

fn failed() -> ApiError {
    ApiError(Problem::internal("the model failed"))
}
