//! From a request to a stream of what the model does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use aion_llm::{Completion, Engine, GenerateRequest, Progress, StreamEvent, Ticket, TokenEvent};
use aion_service::Problem;
use aion_types::{Clock, SystemClock};

use crate::error::{ApiError, ApiResult};
use crate::measure;
use crate::model::Model;

/// A step of a running generation.
#[derive(Debug)]
pub(crate) enum Step {
    /// The model works on the prompt.
    Begun,
    /// A token.
    Token(TokenEvent),
    /// Text that was held back.
    Tail(String),
    /// The end.
    Done(Box<Completion>),
    /// The end, badly.
    Failed(ApiError),
}

/// A running generation; dropping it stops the model.
#[derive(Debug)]
pub(crate) struct Running {
    /// None after the last step.
    ticket: Option<Ticket>,
    begun: bool,
}

impl Running {
    /// The next step; none after the last.
    pub(crate) async fn next(&mut self) -> Option<Step> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// The same for whoever waits for several.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Step>> {
        loop {
            let Some(ticket) = &mut self.ticket else {
                return Poll::Ready(None);
            };
            let step = match ready!(ticket.poll_next(context)) {
                Some(Progress::Event(StreamEvent::Prefill { .. })) if self.begun => continue,
                Some(Progress::Event(StreamEvent::Prefill { .. })) => Step::Begun,
                Some(Progress::Event(StreamEvent::Token(token))) => Step::Token(token),
                Some(Progress::Event(StreamEvent::Tail(text))) => Step::Tail(text),
                Some(Progress::Done(completion)) => {
                    measure::completed(&completion);
                    Step::Done(Box::new(completion))
                }
                Some(Progress::Failed(error)) => Step::Failed(error.into()),
                None => Step::Failed(ApiError(Problem::internal("the model failed"))),
            };
            self.begun = true;
            if matches!(step, Step::Done(_) | Step::Failed(_)) {
                self.ticket = None;
            }
            return Poll::Ready(Some(step));
        }
    }
}

/// Asks for `n` completions of each prompt, and waits until all are let in or none is. Prompts are tokenized and schemas
/// compiled on a thread that may block; whoever goes away meanwhile cancels what comes of it.
pub(crate) async fn start_all(
    model: &Model,
    requests: Vec<GenerateRequest>,
    n: usize,
) -> ApiResult<Vec<Running>> {
    model.engine()?.check_room()?;
    let start = move |engine: &Engine| Ok(engine.start_all(&requests, n)?);
    let running = |ticket| Running {
        ticket: Some(ticket),
        begun: false,
    };
    Ok(model.call(start).await?.into_iter().map(running).collect())
}

/// Seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> i64 {
    SystemClock.now().as_ms() / 1000
}

/// An id that is new in this process, and across processes as far as their clocks differ.
pub(crate) fn new_id(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!(
        "{prefix}-{:x}{:04x}",
        SystemClock.now().as_ms(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
