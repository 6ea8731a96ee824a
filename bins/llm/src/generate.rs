//! From a request to a stream of what the model does.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use aion_llm::{Completion, Error as ModelError, GenerateRequest, Progress, StreamEvent, Ticket, TokenEvent};
use aion_service::Problem;
use aion_types::{Clock, SystemClock};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

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
    stage: Stage,
    begun: bool,
}

#[derive(Debug)]
enum Stage {
    /// The prompt is tokenized and the schema compiled, on a thread that may block.
    Starting(oneshot::Receiver<Result<Ticket, ModelError>>),
    /// The engine has it.
    Going(Ticket),
    /// Nothing more comes.
    Ended,
}

impl Running {
    /// The next step; none after the last.
    pub(crate) async fn next(&mut self) -> Option<Step> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// The same for whoever waits for several.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Step>> {
        loop {
            let step = match &mut self.stage {
                Stage::Ended => return Poll::Ready(None),
                Stage::Starting(starting) => match ready!(Pin::new(starting).poll(context)) {
                    Ok(Ok(ticket)) => {
                        self.stage = Stage::Going(ticket);
                        continue;
                    }
                    Ok(Err(error)) => Step::Failed(error.into()),
                    // Another completion of the request has the error, or the thread panicked.
                    Err(error) => Step::Failed(ApiError(Problem::internal(error))),
                },
                Stage::Going(ticket) => match ready!(ticket.poll_next(context)) {
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
                },
            };
            self.begun = true;
            if matches!(step, Step::Done(_) | Step::Failed(_)) {
                self.stage = Stage::Ended;
            }
            return Poll::Ready(Some(step));
        }
    }
}

/// Asks for `n` completions of one prompt, which is read once.
pub(crate) fn start_many(model: &Model, request: GenerateRequest, n: usize) -> ApiResult<Vec<Running>> {
    let engine = model.engine()?.clone();
    engine.check_room()?;
    let (senders, runs): (Vec<_>, Vec<_>) = (0..n).map(|_| oneshot::channel()).unzip();
    spawn_blocking(move || match engine.start_many(&request, n) {
        // Whoever went away drops the ticket, and that cancels it.
        Ok(tickets) => senders
            .into_iter()
            .zip(tickets)
            .for_each(|(sender, ticket)| drop(sender.send(Ok(ticket)))),
        Err(error) => {
            if let Some(first) = senders.into_iter().next() {
                drop(first.send(Err(error)));
            }
        }
    });
    let running = |starting| Running {
        stage: Stage::Starting(starting),
        begun: false,
    };
    Ok(runs.into_iter().map(running).collect())
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
