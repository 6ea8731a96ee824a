//! One run under one lease: does what the run asks for, in an order that a crash cannot hurt.
//!
//! Stored first, then said, then done: the report of a step, the run, its messages, all before any
//! dispatch; the intent of each call before the call. So whatever is done twice after a crash carries the key of
//! the first time.

use std::time::{Duration, Instant};

use aion_processor::{Lease, NewMessage, Processor, Retry};
use aion_types::{Json, Status, TaskEvidence, TaskPersistence};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Agent, WorkEnd, lease_error};
use crate::Result;
use crate::canonical::clip;
use crate::diff::StateDiff;
use crate::judge::{JudgeWhen, Verdict};
use crate::model::{ChatReply, ChatRequest, Usage};
use crate::report::{CallReport, StepReport};
use crate::run::{Action, CallResult, CallStatus, Input, LoopRun, Outcome, PlannedCall, UnsavedMessage};
use crate::store::{Intent, IntentOutcome, RunStatus};

/// The longest message in a task's history, in bytes.
const MAX_MESSAGE_BYTES: usize = 256 << 10;

/// How long a task with calls of unknown outcome rests before it is offered again.
const PARKED_REST: Duration = Duration::from_secs(60);

/// The rest of a task whose model gave no answer: it doubles with every time in a row, up to the longest.
const FIRST_OUTAGE_REST: Duration = Duration::from_secs(1);
const LONGEST_OUTAGE_REST: Duration = Duration::from_secs(300);

/// Outages in a row after which a task is given up: about a day of them.
const MAX_OUTAGES: u32 = 300;

/// Who may interrupt the work.
pub(super) struct Stop {
    /// Rest now, go on later.
    pub(super) pause: CancellationToken,
    /// End for good.
    pub(super) cancel: CancellationToken,
}

pub(super) struct Drive<'a> {
    agent: &'a Agent,
    processor: &'a Processor,
    lease: &'a Lease,
    run: LoopRun,
    stop: Stop,
    task_state: String,
    draft: Option<Draft>,
}

/// A step as it comes together.
struct Draft {
    report: StepReport,
    began: Instant,
}

impl Draft {
    /// The report with the time of the step so far; what an earlier holder of the task spent is in it.
    fn timed(&self) -> StepReport {
        let mut report = self.report.clone();
        report.step_ms = report.step_ms.saturating_add(elapsed_ms(self.began));
        report
    }
}

impl<'a> Drive<'a> {
    pub(super) fn new(
        agent: &'a Agent,
        processor: &'a Processor,
        lease: &'a Lease,
        run: LoopRun,
        stop: Stop,
    ) -> Self {
        let payload_cwd = lease
            .task
            .payload
            .get("cwd")
            .and_then(Json::as_str)
            .map(str::to_owned);
        let cwd = payload_cwd.or_else(|| agent.cwd.clone());
        let task_state = task_state(&lease.task.id.to_string(), cwd.as_deref());
        Self {
            agent,
            processor,
            lease,
            run,
            stop,
            task_state,
            draft: None,
        }
    }

    pub(super) async fn finish(mut self) -> Result<WorkEnd> {
        self.reopen_draft().await?;
        loop {
            if self.stop.cancel.is_cancelled() {
                self.feed(Input::Stopped)?;
            } else if self.stop.pause.is_cancelled() && self.run.outcome().is_none() {
                return self.rest().await;
            }
            match self.run.next() {
                Action::CallState => self.observe().await?,
                Action::CallModel(request) => self.ask(&request).await?,
                Action::CallTools(calls) => self.call(&calls).await?,
                Action::AppendDiff(diff) => self.append(diff).await?,
                Action::Done(outcome) => {
                    if let Some(end) = self.end(outcome).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    fn feed(&mut self, input: Input) -> Result<()> {
        self.run.feed(input, self.agent.clock.now())
    }

    async fn observe(&mut self) -> Result<()> {
        let state = self.agent.services.state(&self.task_state).await;
        let shortlist = match self.run.options().shortlist {
            Some(k) => self.agent.ranker.rank(self.run.goal(), self.run.tools(), k),
            None => Vec::new(),
        };
        self.feed(Input::Observed { state, shortlist })
    }

    /// Stores the run, then its new messages, each under a key that no repetition changes. The run is
    /// not fenced by itself: that the lease is held, and for how long, is made sure of before.
    async fn store(&mut self, status: RunStatus) -> Result<()> {
        let beat = self
            .processor
            .heartbeat(self.lease.fence(), self.agent.lease_ms)
            .await
            .map_err(lease_error)?;
        if beat.cancel_requested {
            self.stop.cancel.cancel();
        }
        self.agent.save(&self.run, status).await?;
        for unsaved in self.run.unsaved().to_vec() {
            let message = stored_message(&self.run, &unsaved);
            self.processor
                .append(self.lease.fence(), message)
                .await
                .map_err(lease_error)?;
            self.run.mark_saved(unsaved.ordinal);
        }
        Ok(())
    }

    async fn ask(&mut self, request: &ChatRequest) -> Result<()> {
        self.close_draft(None).await?;
        self.store(RunStatus::Active).await?;
        let began = Instant::now();
        let answer = tokio::select! {
            biased;
            () = self.stop.pause.cancelled() => return Ok(()),
            () = self.stop.cancel.cancelled() => return Ok(()),
            answer = self.agent.model.chat(request) => answer,
        };
        match answer {
            Ok(reply) => self.replied(reply, began),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the model gave no answer"
                );
                self.feed(Input::ModelFailed {
                    reason: described(&error),
                })
            }
        }
    }

    fn replied(&mut self, reply: ChatReply, began: Instant) -> Result<()> {
        let mut report = self.blank_report();
        report.text = clip(&reply.text, MAX_MESSAGE_BYTES);
        report.persistence = reply.usage.summary();
        report.usage = reply.usage.clone();
        report.model_ms = elapsed_ms(began);
        self.feed(Input::Replied(Box::new(reply)))?;
        report.tokens_used = self.run.ledger().tokens_used();
        report.refused = self.run.refusal().map(str::to_owned);
        self.draft = Some(Draft { report, began });
        Ok(())
    }

    fn blank_report(&self) -> StepReport {
        StepReport {
            run: self.run.id(),
            task: self.run.task(),
            step: self.run.ledger().steps_used(),
            text: String::new(),
            calls: Vec::new(),
            refused: None,
            diff: StateDiff::default(),
            usage: Usage::default(),
            persistence: None,
            tokens_used: self.run.ledger().tokens_used(),
            price: None,
            model_ms: 0,
            step_ms: 0,
            outcome: None,
        }
    }

    /// Takes up the step that an interruption left open, with what the model had said and used.
    async fn reopen_draft(&mut self) -> Result<()> {
        if !self.run.step_is_open() {
            return Ok(());
        }
        let step = self.run.ledger().steps_used();
        let stored = self
            .agent
            .store
            .steps(self.run.id(), step.saturating_sub(1), 1)
            .await?;
        self.draft = stored
            .into_iter()
            .find(|report| report.step == step)
            .map(|report| Draft {
                report,
                began: Instant::now(),
            });
        Ok(())
    }

    /// Stores the step as far as it came, so that no interruption costs what was said and used.
    async fn keep_draft(&self) -> Result<()> {
        if let Some(draft) = &self.draft {
            self.agent.store.save_step(&draft.timed()).await?;
        }
        Ok(())
    }

    async fn call(&mut self, calls: &[PlannedCall]) -> Result<()> {
        self.keep_draft().await?;
        self.store(RunStatus::Active).await?;
        let mut results = Vec::new();
        for call in calls {
            // Between calls is the only place to rest: a call on its way is waited for.
            if self.stop.pause.is_cancelled() || self.stop.cancel.is_cancelled() {
                return Ok(());
            }
            results.push(self.call_once(call).await?);
        }
        let blank = self.blank_report();
        let draft = self.draft.get_or_insert_with(|| Draft {
            report: blank,
            began: Instant::now(),
        });
        let limit = self.run.options().answer_bytes;
        draft.report.calls = calls
            .iter()
            .zip(&results)
            .map(|(call, result)| reported(call, result, limit))
            .collect();
        self.feed(Input::Called(results))
    }

    /// Writes the intent, dispatches, writes the outcome. A call that was intended before is answered
    /// from its record, sent again under its key, or left alone: whichever cannot double its effect.
    async fn call_once(&self, call: &PlannedCall) -> Result<CallResult> {
        let intent = Intent::of(self.run.id(), call, self.agent.clock.now());
        let known = self.agent.store.intend(&intent).await?;
        let result = match known {
            Some(Intent {
                outcome: Some(outcome),
                ..
            }) => return Ok(result_of(call, outcome)),
            Some(_) if !self.may_repeat(call) => CallResult {
                ordinal: call.ordinal,
                status: CallStatus::Ambiguous,
                answer: format!(
                    "{} was sent before an interruption; its answer is not known",
                    call.tool
                ),
            },
            Some(_) => self.agent.services.dispatch_again(call, &self.task_state).await,
            None => self.agent.services.dispatch(call, &self.task_state).await,
        };
        let outcome = IntentOutcome {
            status: result.status,
            answer: result.answer.clone(),
        };
        self.agent.store.settle(&call.key, &outcome).await?;
        Ok(result)
    }

    fn may_repeat(&self, call: &PlannedCall) -> bool {
        self.run
            .tools()
            .get(&call.tool)
            .is_some_and(|tool| tool.replay.is_safe())
    }

    async fn append(&mut self, diff: StateDiff) -> Result<()> {
        let changed = !diff.is_empty();
        if let Some(draft) = &mut self.draft {
            draft.report.diff = diff;
        }
        self.feed(Input::Appended)?;
        self.close_draft(None).await?;
        if changed && self.agent.judge_when == JudgeWhen::EachChange && self.run.outcome().is_none() {
            let verdict = self.agent.judge.judge(&self.lease.task, None).await?;
            if let Verdict::Success { .. } = verdict {
                let reason = "the check passes".to_owned();
                self.feed(Input::Accepted { reason })?;
            }
        }
        Ok(())
    }

    /// Gives the step to the market, the store and the observer.
    async fn close_draft(&mut self, outcome: Option<Outcome>) -> Result<()> {
        let Some(mut draft) = self.draft.take() else {
            return Ok(());
        };
        draft.report = draft.timed();
        draft.report.outcome = outcome;
        if let Some(price) = &self.agent.price {
            draft.report.price = price.price_after(&draft.report).await;
        }
        self.agent.store.save_step(&draft.report).await?;
        if let Some(observer) = &self.agent.observer {
            observer.on_step(&draft.report);
        }
        Ok(())
    }

    /// Gives the task back; the next lease goes on from here.
    async fn rest(mut self) -> Result<WorkEnd> {
        if self.run.step_is_open() {
            self.keep_draft().await?;
        } else {
            self.close_draft(None).await?;
        }
        self.store(RunStatus::Paused).await?;
        let head = self.release(Duration::ZERO).await?;
        Ok(self.work_end(head, None, "paused".to_owned(), None))
    }

    async fn release(&self, rest: Duration) -> Result<Status> {
        let head = self
            .processor
            .release(self.lease.fence(), rest)
            .await
            .map_err(lease_error)?;
        Ok(head.status)
    }

    /// Ends the task as the outcome and the judge say; nothing if the run goes on.
    async fn end(&mut self, outcome: Outcome) -> Result<Option<WorkEnd>> {
        match &outcome {
            Outcome::Parked { .. } => {
                self.close_draft(None).await?;
                self.store(RunStatus::Parked).await?;
                let status = self.release(PARKED_REST).await?;
                return Ok(Some(self.work_end(
                    status,
                    Some(outcome.clone()),
                    outcome.describe(),
                    None,
                )));
            }
            Outcome::ModelFailed { .. } if self.run.outages() < MAX_OUTAGES => {
                self.close_draft(None).await?;
                self.store(RunStatus::Paused).await?;
                let status = self.release(outage_rest(self.run.outages())).await?;
                return Ok(Some(self.work_end(
                    status,
                    Some(outcome.clone()),
                    outcome.describe(),
                    None,
                )));
            }
            Outcome::Stopped => return self.stopped(outcome).await.map(Some),
            _ => {}
        }
        let verdict = self.agent.judge.judge(&self.lease.task, Some(&outcome)).await?;
        if let (Verdict::Failure { reason }, Outcome::Finished { .. }, true) =
            (&verdict, &outcome, outcome.claims_success())
        {
            self.close_draft(None).await?;
            self.feed(Input::Rejected {
                feedback: format!("Not done yet: {}", clip(reason, 400)),
            })?;
            return Ok(None);
        }
        self.resolve(outcome, verdict).await.map(Some)
    }

    async fn stopped(&mut self, outcome: Outcome) -> Result<WorkEnd> {
        self.close_draft(Some(outcome.clone())).await?;
        self.store(RunStatus::Done).await?;
        let head = self
            .processor
            .stop(self.lease.fence())
            .await
            .map_err(lease_error)?;
        Ok(self.work_end(head.status, Some(outcome.clone()), outcome.describe(), None))
    }

    /// Tells the task store how the task ended. The run stays open until that is written: a crash
    /// between the two judges again.
    async fn resolve(&mut self, outcome: Outcome, verdict: Verdict) -> Result<WorkEnd> {
        self.close_draft(Some(outcome.clone())).await?;
        self.store(RunStatus::Active).await?;
        let persistence = self.persistence().await;
        let fence = self.lease.fence();
        let (head, reason) = match verdict {
            Verdict::Success { result } => (self.processor.complete(fence, result).await, outcome.describe()),
            Verdict::Failure { reason } => (
                self.processor
                    .fail(fence, clip(&reason, 8_000), Retry::Never)
                    .await,
                reason,
            ),
        };
        let head = head.map_err(lease_error)?;
        self.agent.save(&self.run, RunStatus::Done).await?;
        Ok(self.work_end(head.status, Some(outcome), reason, persistence))
    }

    /// `R_T` from the task's log and the run's ledger.
    async fn persistence(&self) -> Option<TaskPersistence> {
        let mut evidence = self.processor.evidence(self.run.task()).await.ok()?;
        fill_evidence(&mut evidence, &self.run);
        evidence.persistence().ok()
    }

    fn work_end(
        &self,
        status: Status,
        outcome: Option<Outcome>,
        reason: String,
        persistence: Option<TaskPersistence>,
    ) -> WorkEnd {
        WorkEnd {
            run: self.run.id(),
            task: self.run.task(),
            status,
            outcome,
            reason,
            tokens_used: self.run.ledger().tokens_used(),
            steps: self.run.ledger().steps_used(),
            worked_ms: self.run.ledger().worked_ms(),
            persistence,
        }
    }
}

/// Adds what the run knows to what the task store knows.
pub(crate) fn fill_evidence(evidence: &mut TaskEvidence, run: &LoopRun) {
    let (steps, accepted) = run.steps();
    evidence.steps = steps;
    evidence.accepted_steps = accepted;
    evidence.tokens_used = run.ledger().tokens_used();
    evidence.token_budget = run.ledger().budget().tokens;
}

/// The value of `X-Task-State`: JSON in ASCII, as a header must be.
pub(crate) fn task_state(task: &str, cwd: Option<&str>) -> String {
    let value: Value = match cwd {
        Some(cwd) => json!({"task_id": task, "cwd": cwd}),
        None => json!({"task_id": task}),
    };
    let mut text = String::new();
    for c in value.to_string().chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

fn stored_message(run: &LoopRun, unsaved: &UnsavedMessage) -> NewMessage {
    let message = &unsaved.message;
    NewMessage {
        role: message.role,
        content: clip(&message.content, MAX_MESSAGE_BYTES),
        tool_calls: message.tool_calls.clone(),
        tool_call_id: message.tool_call_id.clone(),
        persistence: unsaved.persistence.clone(),
        key: Some(format!("{}:{}", run.id(), unsaved.ordinal)),
    }
}

fn result_of(call: &PlannedCall, outcome: IntentOutcome) -> CallResult {
    CallResult {
        ordinal: call.ordinal,
        status: outcome.status,
        answer: outcome.answer,
    }
}

fn reported(call: &PlannedCall, result: &CallResult, limit: usize) -> CallReport {
    CallReport {
        tool: call.tool.clone(),
        arguments: call.arguments.clone(),
        status: result.status,
        answer: clip(&result.answer, limit),
        key: call.key.clone(),
    }
}

/// How long a task rests after so many outages of its model in a row.
fn outage_rest(outages: u32) -> Duration {
    let doublings = outages.saturating_sub(1).min(16);
    (FIRST_OUTAGE_REST * (1 << doublings)).min(LONGEST_OUTAGE_REST)
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// An error with its causes, in one line.
fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    clip(&text, 400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_after_an_outage_doubles_up_to_five_minutes() {
        let seconds: Vec<u64> = [1, 2, 3, 9, 10, 300]
            .into_iter()
            .map(|outages| outage_rest(outages).as_secs())
            .collect();
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300]);
    }
}
