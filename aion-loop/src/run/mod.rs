//! [`LoopRun`]: the agent loop as a step machine without I/O.
//!
//! ```text
//! Observe -> (AppendDiff) -> CallModel -> CallTools -> Observe ... -> Done
//! ```
//! [`LoopRun::next`] says what to do and may be called again with the same answer; only
//! [`LoopRun::feed`] moves the run. Time, states and ids come from outside, so that a run can be
//! stored, forked and replayed.

mod action;
mod options;
mod protocol;
mod snapshot;

use aion_types::{Json, Role, RunId, TaskId, Timestamp, ToolCall};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use action::{Action, CallResult, CallStatus, Claim, Input, Outcome, PlannedCall};
pub use options::{OnAmbiguous, Protocol, RunOptions};
pub use protocol::FINISH;
pub use snapshot::{RUN_FORMAT, RunSnapshot};

use crate::budget::Ledger;
use crate::canonical::{canonical_json, clip, digest};
use crate::diff::StateDiff;
use crate::model::{ChatMessage, ChatReply};
use crate::services::is_unavailable;
use crate::tool::Toolset;
use crate::{Error, Result};
use protocol::{Decision, Prompt};
use snapshot::RunFormat;

/// The largest difference that is kept change by change.
const MAX_DIFF_CHANGES: usize = 2_000;

/// A message of the run that is not yet known to be in the task's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnsavedMessage {
    /// Counts the messages of the run from 0: an idempotency key for storing it.
    pub ordinal: u64,
    /// The message.
    pub message: ChatMessage,
    /// What the model server reported of its tokens.
    pub persistence: Option<Json>,
}

/// One run of the agent loop on one task.
///
/// # Invariants
/// - A call is planned only from a reply whose end is known, after its arguments were validated.
/// - Calls have ordinals without gaps, and the same call keeps its key for ever.
/// - Before a model call its tokens are reserved; tokens exceed the budget by one call at most.
/// - `diff` applied to the state before gives the state after.
///
/// ```
/// use aion_loop::{Action, ChatReply, FinishReason, Input, LoopRun, RunOptions, Toolset};
/// use aion_types::{RunId, TaskId, Timestamp};
/// use serde_json::json;
///
/// let now = Timestamp::from_ms(0);
/// let (task, run) = (TaskId::generate(now), RunId::generate(now));
/// let mut run = LoopRun::new((task, run), "Say hello", RunOptions::default(), Toolset::default(), now);
/// assert_eq!(run.next(), Action::CallState);
/// run.feed(Input::Observed { state: json!({}), shortlist: vec![] }, now)?;
/// let Action::CallModel(request) = run.next() else { panic!() };
/// assert_eq!(request.messages[1].content, "Goal: Say hello\nState: {}");
/// # Ok::<(), aion_loop::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LoopRun {
    core: Core,
    tools: Toolset,
}

/// Everything that a snapshot keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Core {
    format: RunFormat,
    run: RunId,
    task: TaskId,
    goal: String,
    options: RunOptions,
    ledger: Ledger,
    phase: Phase,
    steps: Vec<Vec<ChatMessage>>,
    state: Option<Value>,
    shortlist: Vec<String>,
    unsaved: Vec<UnsavedMessage>,
    next_message: u64,
    next_call: u64,
    repairs: u32,
    failures: u32,
    /// Times in a row that the run ended because its model failed.
    #[serde(default)]
    outages: u32,
    batch: Option<String>,
    same: u32,
    accepted_steps: u64,
    acted_steps: u64,
    refusal: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
enum Phase {
    Observe,
    Append {
        diff: StateDiff,
    },
    Ask,
    Dispatch {
        calls: Vec<PlannedCall>,
    },
    Parked {
        calls: Vec<PlannedCall>,
        results: Vec<CallResult>,
    },
    Done {
        outcome: Outcome,
    },
}

impl Phase {
    const fn name(&self) -> &'static str {
        match self {
            Self::Observe => "waiting for a state",
            Self::Append { .. } => "waiting for its difference to be written",
            Self::Ask => "waiting for the model",
            Self::Dispatch { .. } => "waiting for its calls",
            Self::Parked { .. } => "parked",
            Self::Done { .. } => "done",
        }
    }
}

impl LoopRun {
    /// A run of `task` toward `goal`.
    pub fn new(
        (task, run): (TaskId, RunId),
        goal: impl Into<String>,
        options: RunOptions,
        tools: Toolset,
        now: Timestamp,
    ) -> Self {
        let core = Core {
            format: RunFormat::default(),
            run,
            task,
            goal: goal.into(),
            ledger: Ledger::new(options.budget, now),
            options,
            phase: Phase::Observe,
            steps: Vec::new(),
            state: None,
            shortlist: Vec::new(),
            unsaved: Vec::new(),
            next_message: 0,
            next_call: 0,
            repairs: 0,
            failures: 0,
            outages: 0,
            batch: None,
            same: 0,
            accepted_steps: 0,
            acted_steps: 0,
            refusal: None,
        };
        let mut run = Self { core, tools };
        let system = run.core.options.system.clone();
        if !system.is_empty() {
            run.save(ChatMessage::new(Role::System, system), None);
        }
        let goal = ChatMessage::new(Role::User, run.core.goal.clone());
        run.save(goal, None);
        run
    }

    /// The id of the run.
    pub fn id(&self) -> RunId {
        self.core.run
    }

    /// The task that it works on.
    pub fn task(&self) -> TaskId {
        self.core.task
    }

    /// What it works toward.
    pub fn goal(&self) -> &str {
        &self.core.goal
    }

    /// Its options.
    pub fn options(&self) -> &RunOptions {
        &self.core.options
    }

    /// What it has used.
    pub fn ledger(&self) -> &Ledger {
        &self.core.ledger
    }

    /// The state as it was last seen.
    pub fn state(&self) -> Option<&Value> {
        self.core.state.as_ref()
    }

    /// Steps that called tools, and those of them that changed the state.
    pub fn steps(&self) -> (u64, u64) {
        (self.core.acted_steps, self.core.accepted_steps)
    }

    /// What was wrong with the last answer, if it could not be used.
    pub fn refusal(&self) -> Option<&str> {
        self.core.refusal.as_deref()
    }

    /// Times in a row that the run ended because its model gave no answer.
    pub fn outages(&self) -> u32 {
        self.core.outages
    }

    /// Whether the calls of the last answer, or what they changed, are still to be seen.
    pub(crate) fn step_is_open(&self) -> bool {
        let waits = matches!(self.core.phase, Phase::Dispatch { .. } | Phase::Parked { .. });
        let looks = matches!(self.core.phase, Phase::Observe | Phase::Append { .. });
        waits || (looks && self.core.ledger.steps_used() > 0)
    }

    /// The tools.
    pub fn tools(&self) -> &Toolset {
        &self.tools
    }

    /// How it ended, if it did.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.core.phase {
            Phase::Done { outcome } => Some(outcome.clone()),
            Phase::Parked { results, .. } => Some(parked(results)),
            _ => None,
        }
    }

    /// Messages that are not yet known to be stored, oldest first.
    pub fn unsaved(&self) -> &[UnsavedMessage] {
        &self.core.unsaved
    }

    /// Forgets unsaved messages up to and including `ordinal`.
    pub fn mark_saved(&mut self, ordinal: u64) {
        self.core.unsaved.retain(|message| message.ordinal > ordinal);
    }

    /// Work goes on after a pause: the time between counts for no budget, and a run that ended
    /// because its model failed asks it again.
    pub fn wake(&mut self, now: Timestamp) {
        self.core.ledger.wake(now);
        if let Phase::Done {
            outcome: Outcome::ModelFailed { .. },
        } = self.core.phase
        {
            self.core.failures = 0;
            self.core.phase = Phase::Ask;
        }
    }

    /// A copy of everything but the tools, to store.
    pub fn snapshot(&self) -> RunSnapshot {
        RunSnapshot(Box::new(self.core.clone()))
    }

    /// The run of a snapshot, with the tools that there are now.
    ///
    /// # Errors
    /// [`Error::ToolGone`] if it waits for a call of a tool that is not among them.
    pub fn restore(snapshot: RunSnapshot, tools: Toolset) -> Result<Self> {
        let core = *snapshot.0;
        if let Phase::Dispatch { calls } | Phase::Parked { calls, .. } = &core.phase
            && let Some(gone) = calls.iter().find(|call| tools.get(&call.tool).is_none())
        {
            return Err(Error::ToolGone(gone.tool.clone()));
        }
        Ok(Self { core, tools })
    }

    /// What to do next. Asking again without feeding gives the same answer.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Action {
        match &self.core.phase {
            Phase::Observe => Action::CallState,
            Phase::Append { diff } => Action::AppendDiff(diff.clone()),
            Phase::Ask => self.ask(),
            Phase::Dispatch { calls } => Action::CallTools(calls.clone()),
            Phase::Parked { results, .. } => Action::Done(parked(results)),
            Phase::Done { outcome } => Action::Done(outcome.clone()),
        }
    }

    /// Gives the run what it asked for, at the time `now`.
    ///
    /// # Errors
    /// [`Error::UnexpectedInput`] if it asked for something else; the run is unchanged then.
    pub fn feed(&mut self, input: Input, now: Timestamp) -> Result<()> {
        let phase = self.core.phase.clone();
        match (phase, input) {
            (Phase::Observe, Input::Observed { state, shortlist }) => self.observed(state, shortlist),
            (Phase::Append { diff }, Input::Appended) => self.appended(&diff),
            (Phase::Ask, Input::Replied(reply)) => self.replied(&reply),
            (Phase::Ask, Input::ModelFailed { reason }) => self.model_failed(reason),
            (Phase::Dispatch { calls }, Input::Called(results)) if answers(&calls, &results) => {
                self.called(&calls, results);
            }
            (Phase::Parked { calls, .. }, Input::Called(results)) if answers(&calls, &results) => {
                self.take_results(&calls, &results);
            }
            (
                Phase::Done {
                    outcome: Outcome::Finished { .. },
                },
                Input::Rejected { feedback },
            ) => {
                self.rejected(&feedback);
            }
            (_, Input::Accepted { reason }) => self.end(Outcome::Accepted { reason }),
            (_, Input::Stopped) => self.end(Outcome::Stopped),
            (phase, input) => {
                return Err(Error::UnexpectedInput {
                    phase: phase.name(),
                    input: input.name(),
                });
            }
        }
        self.core.ledger.tick(now);
        Ok(())
    }

    fn ask(&mut self) -> Action {
        let prompt = Prompt {
            options: &self.core.options,
            tools: &self.tools,
            goal: &self.core.goal,
            steps: &self.core.steps,
            state: self.core.state.as_ref(),
            shortlist: &self.core.shortlist,
        };
        let (mut request, tokens) = prompt.build();
        let (output, least) = (
            self.core.options.max_output_tokens,
            self.core.options.min_output_tokens,
        );
        match self.core.ledger.reserve(tokens, output, least) {
            Ok(granted) => {
                request.max_tokens = granted;
                Action::CallModel(Box::new(request))
            }
            Err(part) => {
                self.end(Outcome::Exhausted { part });
                self.next()
            }
        }
    }

    fn observed(&mut self, mut state: Value, shortlist: Vec<String>) {
        if let Some(before) = &mut self.core.state {
            bridge_gaps(before, &mut state);
        }
        let before = self.core.state.replace(state);
        self.core.shortlist = shortlist;
        self.core.phase = match (before, &self.core.state) {
            (Some(before), Some(after)) => Phase::Append {
                diff: StateDiff::between(&before, after).limited(MAX_DIFF_CHANGES, after),
            },
            _ => Phase::Ask,
        };
    }

    fn appended(&mut self, diff: &StateDiff) {
        self.core.acted_steps += 1;
        self.core.phase = Phase::Ask;
        if !diff.is_empty() {
            self.core.accepted_steps += 1;
            self.core.same = 0;
            let lines = diff.render(self.core.options.diff_lines);
            self.say(ChatMessage::new(Role::User, format!("Changed:\n{lines}")));
            return;
        }
        self.core.same += 1;
        if self.core.same >= self.core.options.stall_after.max(2) {
            let times = self.core.same;
            self.end(Outcome::Stalled { times });
        } else if self.core.same > 1 {
            let note = "That was the same action again, and nothing changed. Do something else, or finish.";
            self.say(ChatMessage::new(Role::User, note));
        }
    }

    fn replied(&mut self, reply: &ChatReply) {
        self.core.ledger.settle(reply.usage.total());
        self.core.failures = 0;
        self.core.outages = 0;
        self.core.refusal = None;
        let persistence = reply.usage.persistence.clone();
        match protocol::decide(reply, &self.core.options, &self.tools) {
            Decision::Calls(calls) => self.plan(reply, calls, persistence),
            Decision::Finish { claim, summary } => {
                self.core.repairs = 0;
                let calls = reply_calls(reply, self.core.ledger.steps_used());
                self.begin_step(ChatMessage::assistant(reply.text.clone(), calls), persistence);
                self.end(Outcome::Finished { claim, summary });
            }
            Decision::Invalid { reason, calls } => self.repair(reply, reason, &calls, persistence),
        }
    }

    fn plan(
        &mut self,
        reply: &ChatReply,
        calls: Vec<(String, Map<String, Value>)>,
        persistence: Option<Json>,
    ) {
        self.core.repairs = 0;
        let mut planned = Vec::new();
        for (tool, arguments) in calls {
            let ordinal = self.core.next_call;
            self.core.next_call += 1;
            let ids = (self.core.task, self.core.run);
            planned.push(PlannedCall::new(
                ids,
                ordinal,
                call_id('c', ordinal),
                tool,
                arguments,
            ));
        }
        let text = match self.core.options.protocol {
            Protocol::Native => reply.text.clone(),
            Protocol::JsonSchema => String::new(),
        };
        let calls = planned.iter().map(wire_call).collect();
        self.begin_step(ChatMessage::assistant(text, calls), persistence);
        self.count_same(&planned);
        self.core.phase = Phase::Dispatch { calls: planned };
    }

    /// Counts how often in a row the same calls came without any change between.
    fn count_same(&mut self, planned: &[PlannedCall]) {
        let parts: Vec<String> = planned
            .iter()
            .map(|call| {
                format!(
                    "{} {}",
                    call.tool,
                    canonical_json(&Value::Object(call.arguments.clone()))
                )
            })
            .collect();
        let bytes: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        let batch = Some(digest(&bytes));
        if batch != self.core.batch {
            self.core.same = 0;
        }
        self.core.batch = batch;
    }

    /// Tells the model what was wrong, and asks once more; gives up after too many times in a row.
    fn repair(&mut self, reply: &ChatReply, reason: String, calls: &[ToolCall], persistence: Option<Json>) {
        self.core.repairs += 1;
        self.core.refusal = Some(reason.clone());
        let step = self.core.ledger.steps_used();
        let answer = format!("Not done: {}", clip(&reason, 400));
        let native = self.core.options.protocol == Protocol::Native && !calls.is_empty();
        if native {
            let shown: Vec<ToolCall> = calls
                .iter()
                .enumerate()
                .map(|(i, call)| repaired(call, step, i))
                .collect();
            let ids: Vec<String> = shown.iter().map(|call| call.id.clone()).collect();
            self.begin_step(ChatMessage::assistant(reply.text.clone(), shown), persistence);
            for id in ids {
                self.say(ChatMessage::tool(id, answer.clone()));
            }
        } else {
            let said = clip(&reply.text, self.core.options.answer_bytes);
            self.begin_step(ChatMessage::assistant(said, Vec::new()), persistence);
            self.say(ChatMessage::new(Role::User, answer));
        }
        if self.core.repairs > self.core.options.repairs {
            self.end(Outcome::Unusable { reason });
        }
    }

    /// The judge's words go where the model's claim was: every call of it is answered, as servers
    /// demand of a history.
    fn rejected(&mut self, feedback: &str) {
        let said = self.core.steps.last().and_then(|step| step.first());
        let ids: Vec<String> = said
            .map(|message| message.tool_calls.iter().map(|call| call.id.clone()).collect())
            .unwrap_or_default();
        if ids.is_empty() {
            self.say(ChatMessage::new(Role::User, feedback));
        }
        for id in ids {
            self.say(ChatMessage::tool(id, feedback));
        }
        self.core.phase = Phase::Ask;
    }

    /// A question without an answer costs nothing but its time.
    fn model_failed(&mut self, reason: String) {
        self.core.ledger.refund();
        self.core.failures += 1;
        if self.core.failures >= self.core.options.model_failures.max(1) {
            self.core.outages = self.core.outages.saturating_add(1);
            self.end(Outcome::ModelFailed { reason });
        }
    }

    fn called(&mut self, calls: &[PlannedCall], results: Vec<CallResult>) {
        let ambiguous = results
            .iter()
            .any(|result| result.status == CallStatus::Ambiguous);
        if ambiguous && self.core.options.on_ambiguous == OnAmbiguous::Park {
            self.core.phase = Phase::Parked {
                calls: calls.to_vec(),
                results,
            };
        } else {
            self.take_results(calls, &results);
        }
    }

    fn take_results(&mut self, calls: &[PlannedCall], results: &[CallResult]) {
        for (call, result) in calls.iter().zip(results) {
            let answer = clip(&result.answer, self.core.options.answer_bytes);
            let answer = match result.status {
                CallStatus::Succeeded => answer,
                CallStatus::Failed => format!("Failed: {answer}"),
                CallStatus::Ambiguous => {
                    format!("Unknown outcome, look at the state before you try again: {answer}")
                }
            };
            self.say(ChatMessage::tool(call.id.clone(), answer));
        }
        self.core.phase = Phase::Observe;
    }

    /// Opens a step with what the model said.
    fn begin_step(&mut self, message: ChatMessage, persistence: Option<Json>) {
        self.save(message.clone(), persistence);
        self.core.steps.push(vec![message]);
        let surplus = self
            .core
            .steps
            .len()
            .saturating_sub(self.core.options.history_steps.max(1));
        self.core.steps.drain(..surplus);
    }

    /// Adds a message to the step.
    fn say(&mut self, message: ChatMessage) {
        self.save(message.clone(), None);
        match self.core.steps.last_mut() {
            Some(step) => step.push(message),
            None => self.core.steps.push(vec![message]),
        }
    }

    fn save(&mut self, message: ChatMessage, persistence: Option<Json>) {
        let ordinal = self.core.next_message;
        self.core.next_message += 1;
        self.core.unsaved.push(UnsavedMessage {
            ordinal,
            message,
            persistence,
        });
    }

    fn end(&mut self, outcome: Outcome) {
        self.core.phase = Phase::Done { outcome };
    }
}

/// A service that gives no state has not changed by that: what was seen of it last stands, and what is
/// seen of it first is no change either.
fn bridge_gaps(before: &mut Value, after: &mut Value) {
    let (Some(before), Some(after)) = (before.as_object_mut(), after.as_object_mut()) else {
        return;
    };
    for (service, now) in after {
        match before.get_mut(service) {
            Some(then) if is_unavailable(now) => now.clone_from(then),
            Some(then) if is_unavailable(then) => then.clone_from(now),
            _ => {}
        }
    }
}

fn parked(results: &[CallResult]) -> Outcome {
    let open = results
        .iter()
        .filter(|result| result.status == CallStatus::Ambiguous);
    Outcome::Parked {
        calls: open.map(|result| result.ordinal).collect(),
    }
}

fn answers(calls: &[PlannedCall], results: &[CallResult]) -> bool {
    calls
        .iter()
        .map(|call| call.ordinal)
        .eq(results.iter().map(|result| result.ordinal))
}

/// An id that every server takes: some insist on nine letters and digits.
fn call_id(kind: char, number: u64) -> String {
    format!("{kind}{:08}", number % 100_000_000)
}

fn wire_call(call: &PlannedCall) -> ToolCall {
    ToolCall {
        id: call.id.clone(),
        name: call.tool.clone(),
        arguments: canonical_json(&Value::Object(call.arguments.clone())),
    }
}

/// A refused call as it goes into the history: servers refuse a history with broken arguments for ever.
fn repaired(call: &ToolCall, step: u32, i: usize) -> ToolCall {
    let parsed = serde_json::from_str::<Value>(&call.arguments)
        .ok()
        .filter(Value::is_object);
    ToolCall {
        id: call_id('x', u64::from(step) * 1_000 + i as u64),
        name: clip(&call.name, 64),
        arguments: parsed.map_or_else(|| "{}".to_owned(), |value| canonical_json(&value)),
    }
}

/// The calls of a reply that ends the run, with ids and arguments in order.
fn reply_calls(reply: &ChatReply, step: u32) -> Vec<ToolCall> {
    reply
        .tool_calls
        .iter()
        .enumerate()
        .map(|(i, call)| repaired(call, step, i))
        .collect()
}
