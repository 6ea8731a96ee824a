//! The backend's end of an execution, and what both ends share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::capture::Capture;
use super::follow::OutputStream;
use super::replay::Replay;
use crate::{Captured, Ending, Error, ExecOutput, ExecRequest, ExecStatus, Result};

/// Why an execution is to end before it does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KillReason {
    /// Somebody asked for it.
    Asked,
    /// It wrote more than its limit allows.
    OutputLimit,
    /// Nobody waits for it any more.
    Dropped,
}

/// How far it has come.
// There is one of it for an execution, and it stays where it is.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(super) enum Life {
    Starting,
    Running,
    /// It has ended, and those who asked to be told are told.
    Ending,
    /// The result, until somebody takes it.
    Ended(Option<Result<ExecOutput>>),
}

type AtEnd = dyn FnOnce(&Result<ExecOutput>) + Send;

/// Called at the end.
pub(super) struct Hook(Box<AtEnd>);

impl Hook {
    /// One that panics must not keep the others, or the end, from being told.
    fn call(self, result: &Result<ExecOutput>) {
        if catch_unwind(AssertUnwindSafe(|| (self.0)(result))).is_err() {
            tracing::error!("what was to be called at the end of an execution has panicked");
        }
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) life: Life,
    hooks: Vec<Hook>,
    pub(super) replay: Replay,
    stdout: Capture,
    stderr: Capture,
}

/// What both ends hold.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Somebody wrote, started or ended.
    changed: watch::Sender<()>,
    /// For those who wait for nothing else.
    ended: watch::Sender<bool>,
    kill: watch::Sender<Option<KillReason>>,
    max_output_bytes: u64,
    begun: Instant,
}

impl Shared {
    pub(super) fn new(request: &ExecRequest) -> Self {
        let limits = &request.limits;
        let capture = || Capture::new(limits.head_bytes, limits.tail_bytes);
        let state = State {
            life: Life::Starting,
            hooks: Vec::new(),
            replay: Replay::new(request.replay_bytes),
            stdout: capture(),
            stderr: capture(),
        };
        Self {
            state: Mutex::new(state),
            changed: watch::Sender::default(),
            ended: watch::Sender::default(),
            kill: watch::Sender::default(),
            max_output_bytes: limits.max_output_bytes,
            begun: Instant::now(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until its life is as wanted.
    pub(super) async fn until(&self, wanted: impl Fn(&Life) -> bool) {
        let mut changes = self.changes();
        while !wanted(&self.state().life) {
            // The sender is in `self`, so this cannot fail.
            let _ = changes.changed().await;
        }
    }

    /// Waits for the end, and is not woken before.
    pub(super) async fn until_ended(&self) {
        // The sender is in `self`, so this cannot fail.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
        // Somebody may be told of it just now.
        self.until(|life| matches!(life, Life::Ended(_))).await;
    }

    /// The first reason stays.
    pub(super) fn kill(&self, reason: KillReason) {
        self.kill.send_if_modified(|kill| {
            let first = kill.is_none();
            kill.get_or_insert(reason);
            first
        });
    }

    pub(super) fn take_failure_to_start(&self) -> Result<()> {
        match &mut self.state().life {
            Life::Ended(result @ Some(Err(_))) => match result.take() {
                Some(Err(error)) => Err(error),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    pub(super) fn take_result(&self) -> Result<ExecOutput> {
        match &mut self.state().life {
            Life::Ended(result) => result.take().unwrap_or_else(|| Err(lost())),
            _ => Err(lost()),
        }
    }

    /// Calls this at the end, or now if that has been.
    pub(super) fn when_ended(&self, hook: Box<AtEnd>) {
        let mut state = self.state();
        match std::mem::replace(&mut state.life, Life::Ending) {
            Life::Ended(Some(result)) => {
                state.hooks.push(Hook(hook));
                self.tell(state, result);
            }
            Life::Ended(None) => {
                state.life = Life::Ended(None);
                drop(state);
                Hook(hook).call(&Err(lost()));
            }
            other => {
                state.life = other;
                state.hooks.push(Hook(hook));
            }
        }
    }

    fn end(&self, result: impl FnOnce(&mut State) -> Result<ExecOutput>) {
        let mut state = self.state();
        if matches!(state.life, Life::Ending | Life::Ended(_)) {
            return;
        }
        let result = result(&mut state);
        state.life = Life::Ending;
        self.tell(state, result);
    }

    /// Tells those who asked for it, without holding anything that others wait for; then everybody sees the end.
    fn tell<'s>(&'s self, mut state: MutexGuard<'s, State>, result: Result<ExecOutput>) {
        loop {
            let hooks = std::mem::take(&mut state.hooks);
            if hooks.is_empty() {
                break;
            }
            drop(state);
            hooks.into_iter().for_each(|hook| hook.call(&result));
            state = self.state();
        }
        state.life = Life::Ended(Some(result));
        drop(state);
        self.changed.send_replace(());
        self.ended.send_replace(true);
    }
}

fn lost() -> Error {
    Error::supervisor("it went away before the end of the program was seen")
}

/// Where a backend puts what a program writes, and how it ended. Dropped before that, the execution
/// fails.
#[derive(Debug)]
pub struct ExecFeed {
    shared: Arc<Shared>,
}

impl ExecFeed {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Says that the program is held in as required and starts now.
    pub fn started(&self) {
        let mut state = self.shared.state();
        if matches!(state.life, Life::Starting) {
            state.life = Life::Running;
            drop(state);
            self.shared.changed.send_replace(());
        }
    }

    /// Takes what the program wrote next. It never waits for a follower.
    pub fn push(&self, stream: OutputStream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.shared.state();
        match stream {
            OutputStream::Stdout => state.stdout.push(bytes),
            OutputStream::Stderr => state.stderr.push(bytes),
        }
        state.replay.push(stream, bytes);
        let end = state.replay.end();
        drop(state);
        self.shared.changed.send_replace(());
        if end.total() > self.shared.max_output_bytes && self.shared.max_output_bytes > 0 {
            self.shared.kill(KillReason::OutputLimit);
        }
    }

    /// Says that the program wrote something which this backend has not got.
    pub fn omit(&self, stream: OutputStream, bytes: u64) {
        self.shared.state().replay.skip(stream, bytes);
        self.shared.changed.send_replace(());
    }

    /// Waits until the execution is to be killed.
    pub async fn killed(&self) -> KillReason {
        let mut kill = self.shared.kill.subscribe();
        match kill.wait_for(Option::is_some).await.map(|reason| *reason) {
            Ok(Some(reason)) => reason,
            _ => std::future::pending().await,
        }
    }

    /// Whether it is to be killed, and why.
    pub fn kill_reason(&self) -> Option<KillReason> {
        *self.shared.kill.borrow()
    }

    /// Says how the program ended, after its last output. What was written and how long it took is
    /// known already; that it was killed for a reason known here takes the place of
    /// [`Ending::Itself`].
    pub fn finish(self, status: Result<ExecStatus>) {
        let reason = self.kill_reason();
        self.shared.end(|state| {
            let captures = [&mut state.stdout, &mut state.stderr].map(Capture::take);
            status.map(|status| output(with_reason(status, reason), captures, self.shared.begun))
        });
    }
}

#[cfg(feature = "client")]
impl ExecFeed {
    /// Says how the program ended, by somebody who has collected its outputs.
    pub(crate) fn finish_with(self, result: Result<ExecOutput>) {
        self.shared.end(|_| result);
    }
}

impl Drop for ExecFeed {
    fn drop(&mut self) {
        self.shared.end(|_| Err(lost()));
    }
}

fn with_reason(mut status: ExecStatus, reason: Option<KillReason>) -> ExecStatus {
    status.ending = match (status.ending, reason) {
        (Ending::Itself | Ending::Killed, Some(KillReason::OutputLimit)) => Ending::OutputLimit,
        (Ending::Itself, Some(KillReason::Asked | KillReason::Dropped)) => Ending::Killed,
        (other, _) => other,
    };
    status
}

fn output(status: ExecStatus, [stdout, stderr]: [Captured; 2], begun: Instant) -> ExecOutput {
    ExecOutput {
        exit_code: status.exit_code,
        signal: status.signal,
        ending: status.ending,
        stdout,
        stderr,
        duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        enforcement: status.enforcement,
        network: status.network,
    }
}
