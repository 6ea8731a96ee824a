//! From a request to a stream of what the model does.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use aion_llm::{Completion, Engine, GenerateRequest, StreamEvent, TokenEvent};
use aion_service::Problem;
use aion_types::{Clock, SystemClock};
use tokio::sync::mpsc;

use crate::error::{ApiError, ApiResult};
use crate::model::{Meter, Model};

/// Events that may wait for a slow client before the model waits for it.
const BUFFER: usize = 64;

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
    steps: mpsc::Receiver<Step>,
}

impl Running {
    /// The next step; none after the last.
    pub(crate) async fn next(&mut self) -> Option<Step> {
        self.steps.recv().await
    }

    /// Waits until the model works on the prompt, so that a bad request gets its own status.
    pub(crate) async fn begun(mut self) -> ApiResult<Self> {
        match self.steps.recv().await {
            Some(Step::Failed(error)) => Err(error),
            Some(_) => Ok(self),
            None => Err(ApiError(Problem::internal("the model failed"))),
        }
    }

    /// Waits for the end and hands over all tokens on the way.
    pub(crate) async fn finish(mut self) -> ApiResult<(Vec<TokenEvent>, Completion)> {
        let mut tokens = Vec::new();
        while let Some(step) = self.steps.recv().await {
            match step {
                Step::Begun | Step::Tail(_) => {}
                Step::Token(token) => tokens.push(token),
                Step::Done(completion) => return Ok((tokens, *completion)),
                Step::Failed(error) => return Err(error),
            }
        }
        Err(ApiError(Problem::internal("the model failed")))
    }
}

/// Queues a request.
pub(crate) fn start(model: &Model, request: GenerateRequest) -> ApiResult<Running> {
    let (sender, steps) = mpsc::channel(BUFFER);
    let meter = model.meter.clone();
    model.submit(move |engine| generate(engine, &request, &sender, &meter))?;
    Ok(Running { steps })
}

/// Runs on the model's thread. A client that went away closes the channel, and that stops the model.
fn generate(engine: &Engine, request: &GenerateRequest, steps: &mpsc::Sender<Step>, meter: &Meter) {
    if steps.is_closed() {
        return;
    }
    let mut begun = false;
    let result = engine.generate(request, &mut |event| {
        let step = match event {
            StreamEvent::Prefill { .. } if begun => return alive(steps),
            StreamEvent::Prefill { .. } => Step::Begun,
            StreamEvent::Token(token) => Step::Token(token),
            StreamEvent::Tail(text) => Step::Tail(text),
        };
        begun = true;
        if steps.blocking_send(step).is_err() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let last = match result {
        Ok(completion) => {
            count(meter, &completion);
            Step::Done(Box::new(completion))
        }
        Err(error) => Step::Failed(error.into()),
    };
    drop(steps.blocking_send(last));
}

fn alive(steps: &mpsc::Sender<Step>) -> ControlFlow<()> {
    if steps.is_closed() {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

fn count(meter: &Meter, completion: &Completion) {
    meter.requests.fetch_add(1, Ordering::Relaxed);
    meter
        .prompt_tokens
        .fetch_add(completion.prompt_tokens as u64, Ordering::Relaxed);
    meter
        .completion_tokens
        .fetch_add(completion.tokens.len() as u64, Ordering::Relaxed);
    metrics::counter!("aion_llm_prompt_tokens_total").increment(completion.prompt_tokens as u64);
    metrics::counter!("aion_llm_completion_tokens_total").increment(completion.tokens.len() as u64);
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
