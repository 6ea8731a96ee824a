//! What every handler works with.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aion_machine::audit::{Asked, AuditEvent, AuditLog, AuditOptions, AuditSink, Audited, Outcome, Receipt};
use aion_machine::{Error, Etag, LocalMachine, Machine, RelPath, Workspace, WorkspaceSpec};
use aion_service::{ApiKey, Problem};
use async_trait::async_trait;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::executions::Executions;
use crate::journal::{Claim, Journal, Known};
use crate::options::{MachineOptions, OpenError, prepare};
use crate::problem::from_error;
use crate::task::{Believed, TaskState};

/// How many directories have their last execution remembered.
const MAX_LAST: usize = 256;
const MAX_KEY_BYTES: usize = 256;
/// How many workspaces are kept for their snapshots.
const MAX_REMEMBERED: usize = 64;

/// The machine, the journal, and the last execution of each directory.
#[derive(Debug)]
pub(crate) struct Context {
    machine: Arc<dyn Machine>,
    journal: Journal,
    believed: Believed,
    audit: Option<Arc<AuditLog>>,
    operators: Operators,
    /// The workspaces in which somebody took a snapshot, the newest last.
    remembered: Mutex<VecDeque<(RelPath, Arc<dyn Workspace>)>>,
    pub(crate) executions: Executions,
    last: Mutex<VecDeque<(RelPath, Value)>>,
    pub(crate) output_bytes: usize,
    pub(crate) max_file_bytes: usize,
}

/// Who may read what all tasks did.
#[derive(Debug)]
enum Operators {
    /// Whoever may call at all.
    Anybody,
    /// Nobody over HTTP: tasks are told apart, and nobody is named who is above them.
    Nobody,
    /// Who has this key.
    With(ApiKey),
}

/// The log, for what is done on behalf of a request.
#[derive(Debug)]
struct OfRequest(Arc<AuditLog>);

#[async_trait]
impl AuditSink for OfRequest {
    async fn record(&self, event: AuditEvent) -> std::io::Result<Receipt> {
        let receipt = self.0.record(event).await?;
        crate::operations::is_recorded();
        Ok(receipt)
    }

    fn conclude(&self, receipt: Receipt, event: AuditEvent) {
        self.0.conclude(receipt, event);
    }
}

impl Context {
    pub(crate) fn open(options: MachineOptions) -> Result<Self, OpenError> {
        prepare(&options)?;
        let path = options.data_root;
        let max_file_bytes = usize::try_from(options.local.max_file_bytes).unwrap_or(usize::MAX);
        let machine = match options.machine {
            Some(machine) => machine,
            None => Arc::new(
                LocalMachine::open_root(&path, options.local)
                    .map_err(|source| OpenError::Root { path, source })?,
            ),
        };
        let journal = match &options.journal {
            Some(dir) => Journal::open(dir)?,
            None => Journal::in_memory(),
        };
        let audit = match options.audit {
            Some(path) => Some(open_audit(path, options.audit_options)?),
            None => None,
        };
        let operators = match (options.operator_key, &options.task_keys) {
            (Some(key), _) => Operators::With(key),
            (None, Some(_)) => Operators::Nobody,
            (None, None) => Operators::Anybody,
        };
        let believed = Believed {
            keys: options.task_keys,
            unsigned: options.unsigned,
        };
        Ok(Self {
            machine,
            journal,
            believed,
            audit,
            operators,
            remembered: Mutex::default(),
            executions: Executions::new(options.executions),
            last: Mutex::default(),
            output_bytes: options.output_bytes,
            max_file_bytes,
        })
    }

    /// The task of a request, by the value of its header.
    pub(crate) async fn task(&self, text: Option<&str>) -> Result<TaskState, Problem> {
        let believed = self.believed.task(text);
        if let Err(problem) = &believed {
            let event = AuditEvent::new("task_state", RelPath::root())
                .with_outcome(Outcome::Denied, Some(problem.code()));
            self.record(event).await.map_err(|e| from_error(&e, ""))?;
        }
        believed
    }

    /// Whether this key makes an operator of its caller.
    pub(crate) fn operator(&self, key: Option<&str>) -> Result<(), Problem> {
        let is_one = match &self.operators {
            Operators::Anybody => true,
            Operators::Nobody => false,
            Operators::With(operator) => key.is_some_and(|key| operator.matches(key.trim())),
        };
        if is_one {
            return Ok(());
        }
        let detail = "this is about all tasks: X-Operator-Key is missing or not the operator's";
        Err(Problem::forbidden("operator_only", detail))
    }

    /// The workspace of a task.
    pub(crate) async fn workspace(&self, task: &TaskState) -> Result<Arc<dyn Workspace>, Problem> {
        let opened = self.machine.open(&WorkspaceSpec::new(task.cwd.clone())).await;
        let work =
            opened.map_err(|e| Problem::bad_request("invalid_task_state", format!("X-Task-State: {e}")))?;
        Ok(self.audited(work, task))
    }

    /// Whatever comes of it from here on is recorded by the workspace.
    fn audited(&self, work: Arc<dyn Workspace>, task: &TaskState) -> Arc<dyn Workspace> {
        let Some(sink) = self.sink() else { return work };
        Arc::new(Audited::new(work, sink, task.task_id.clone(), task.cwd.clone()))
    }

    /// The workspace of a task in which its earlier snapshots are known.
    pub(crate) async fn remembered(&self, task: &TaskState) -> Result<Arc<dyn Workspace>, Problem> {
        if let Some(work) = self.recall(&task.cwd) {
            return Ok(self.audited(work, task));
        }
        let opened = self.machine.open(&WorkspaceSpec::new(task.cwd.clone())).await;
        let work =
            opened.map_err(|e| Problem::bad_request("invalid_task_state", format!("X-Task-State: {e}")))?;
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, first)) = remembered.iter().find(|(cwd, _)| *cwd == task.cwd) {
            // Another request was quicker; there is one workspace, for it remembers snapshots.
            return Ok(self.audited(Arc::clone(first), task));
        }
        if remembered.len() == MAX_REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back((task.cwd.clone(), Arc::clone(&work)));
        drop(remembered);
        Ok(self.audited(work, task))
    }

    fn recall(&self, cwd: &RelPath) -> Option<Arc<dyn Workspace>> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let at = remembered.iter().position(|(other, _)| other == cwd)?;
        let found = remembered.remove(at)?;
        let work = Arc::clone(&found.1);
        remembered.push_back(found);
        Some(work)
    }

    /// The audit log, if there is one.
    pub(crate) fn audit(&self) -> Option<&Arc<AuditLog>> {
        self.audit.as_ref()
    }

    fn sink(&self) -> Option<Arc<dyn AuditSink>> {
        Some(Arc::new(OfRequest(Arc::clone(self.audit.as_ref()?))))
    }

    /// Records something that has happened, or was refused.
    pub(crate) async fn record(&self, event: AuditEvent) -> aion_machine::Result<()> {
        let Some(sink) = self.sink() else { return Ok(()) };
        sink.record(event).await.map(drop).map_err(Error::Audit)
    }

    /// Does something that no workspace records, once it is on paper.
    pub(crate) async fn recorded<T>(
        &self,
        op: &str,
        task: &TaskState,
        what: Value,
        work: impl Future<Output = aion_machine::Result<T>>,
    ) -> aion_machine::Result<T> {
        let event = AuditEvent::new(op, task.cwd.clone())
            .with_task(task.task_id.clone())
            .with_what(what);
        let asked = match self.sink() {
            Some(sink) => Some(Asked::record(&sink, event).await?),
            None => None,
        };
        let done = work.await;
        asked.into_iter().for_each(|asked| asked.settle(|_| {}, &done));
        done
    }

    pub(crate) fn machine(&self) -> &Arc<dyn Machine> {
        &self.machine
    }

    fn last(&self) -> MutexGuard<'_, VecDeque<(RelPath, Value)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers how the last execution in a directory ended.
    pub(crate) fn set_last_exec(&self, cwd: &RelPath, summary: Value) {
        let mut last = self.last();
        last.retain(|(other, _)| other != cwd);
        if last.len() == MAX_LAST {
            last.pop_front();
        }
        last.push_back((cwd.clone(), summary));
    }

    pub(crate) fn last_exec(&self, cwd: &RelPath) -> Option<Value> {
        self.last()
            .iter()
            .find(|(other, _)| other == cwd)
            .map(|(_, summary)| summary.clone())
    }

    /// Takes the key of a request that has an effect.
    pub(crate) fn claim<A: DeserializeOwned>(
        &self,
        key: &IdempotencyKey,
        operation: &str,
        task: &TaskState,
        body: &impl Serialize,
    ) -> Result<Keyed<A>, Problem> {
        let Some(key) = &key.0 else {
            return Ok(Keyed::Run(None, None));
        };
        let body = serde_json::to_value(body).map_err(Problem::internal)?;
        let request = serde_json::json!([operation, task.cwd, body]).to_string();
        let (known, claim) = self.journal.claim(key, Etag::of(request.as_bytes()).as_str());
        let understand = |answer| serde_json::from_value(answer).map_err(Problem::internal);
        match known {
            Known::New => Ok(Keyed::Run(claim, None)),
            Known::Begun {
                expected: Some(expected),
            } => Ok(Keyed::Run(claim, Some(understand(expected)?))),
            Known::Begun { expected: None } => Ok(Keyed::Unknown),
            Known::Answered(answer) => Ok(Keyed::Answered(understand(answer)?)),
            Known::Running => {
                let detail = "the first request with this key is still running";
                Err(Problem::conflict("idempotency_key_in_use", detail).retry_after(1))
            }
            Known::OtherRequest => {
                let detail = "this key came with another request before; a new request needs a new key";
                Err(Problem::conflict("idempotency_key_reused", detail))
            }
        }
    }
}

fn open_audit(path: PathBuf, options: AuditOptions) -> Result<Arc<AuditLog>, OpenError> {
    let opened = AuditLog::open(&path, options);
    opened
        .map(Arc::new)
        .map_err(|source| OpenError::Audit { path, source })
}

/// What is to be done about a request that may have a key.
pub(crate) enum Keyed<A> {
    /// Carry it out; if it was begun before, it would have been answered like this.
    Run(Option<Claim>, Option<A>),
    /// It was begun, and nobody can know how far it came.
    Unknown,
    /// It was carried out.
    Answered(A),
}

/// Puts on paper what is about to happen. If that fails, nothing may happen, and the key is free.
pub(crate) async fn begin(claim: &mut Option<Claim>, expected: Option<Value>) -> Result<(), Problem> {
    let Some(mut taken) = claim.take() else {
        return Ok(());
    };
    let begun = blocking(move || (taken.begin(expected), taken));
    let (begun, taken) = begun.await?;
    *claim = Some(taken);
    begun.map_err(unrecorded)
}

fn unrecorded(error: std::io::Error) -> Problem {
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        let detail = "no space is left to record this request, so it was not carried out";
        return Problem::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", detail);
    }
    Problem::internal(error)
}

/// Runs a computation over whole files, or many, off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(Problem::internal)
}

/// Keeps the answer, or frees the key after a failure.
pub(crate) async fn settle<A: Serialize, E: From<Problem>>(
    claim: Option<Claim>,
    done: Result<A, E>,
) -> Result<A, E> {
    let Some(claim) = claim else { return done };
    match &done {
        Ok(answer) => {
            let value = serde_json::to_value(answer).map_err(Problem::internal)?;
            blocking(move || claim.answer(value)).await?;
        }
        Err(_) => blocking(move || claim.give_up()).await?,
    }
    done
}

/// The value of `Idempotency-Key`, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdempotencyKey(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(Self(None));
        };
        let text = value
            .to_str()
            .ok()
            .filter(|text| !text.is_empty() && text.len() <= MAX_KEY_BYTES);
        let invalid = || {
            let detail = format!("Idempotency-Key is not 1 to {MAX_KEY_BYTES} ASCII characters");
            Problem::bad_request("invalid_idempotency_key", detail)
        };
        text.map(|text| Self(Some(text.to_owned()))).ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Nothing is done that could not be recorded, the client learns why, and may try again.
    #[tokio::test]
    async fn a_full_disk_is_said_and_leaves_the_key_free() {
        let journal = Journal::in_memory();
        let full = std::fs::OpenOptions::new()
            .append(true)
            .open("/dev/full")
            .unwrap();
        let disk = journal.set_file(Some(full));
        let mut claim = journal.claim("k", "r").1;
        let problem = begin(&mut claim, None).await.unwrap_err();
        let seen = serde_json::to_value(&problem).unwrap();
        assert_eq!(
            (&seen["status"], &seen["code"]),
            (&json!(507), &json!("no_space"))
        );
        drop(claim);
        journal.set_file(disk);
        let (known, mut claim) = journal.claim("k", "r");
        assert_eq!(known, Known::New);
        begin(&mut claim, None).await.unwrap();
    }

    /// What has happened is answered, now and under the same key again, even if the disk is full by then.
    #[tokio::test]
    async fn an_answer_that_cannot_be_recorded_is_given_all_the_same() {
        let journal = Journal::in_memory();
        let mut claim = journal.claim("k", "r").1;
        begin(&mut claim, None).await.unwrap();
        let full = std::fs::OpenOptions::new()
            .append(true)
            .open("/dev/full")
            .unwrap();
        journal.set_file(Some(full));
        let done: Result<_, Problem> = settle(claim, Ok(json!("done"))).await;
        assert_eq!(done.unwrap(), json!("done"));
        assert_eq!(journal.claim("k", "r").0, Known::Answered(json!("done")));
    }
}
