//! `exec`, and what holds it in.

use std::collections::BTreeMap;

use aion_machine::{
    Ending, Enforcement, Error, ExecLimits, ExecOutput, ExecRequest, RelPath, Tier, Workspace,
};
use aion_service::{Json, Problem};
use axum::extract::{Extension, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Answer, Shared};
use crate::context::{IdempotencyKey, Keyed, begin, settle};
use crate::executions::command_line;
use crate::mcp::{REPLAY_BYTES, Watched};
use crate::problem::from_error;
use crate::task::{Operator, TaskState};

/// The longest time of an execution, in seconds.
pub(crate) const MAX_TIMEOUT_S: u64 = 600;
const DEFAULT_TIMEOUT_S: u64 = 60;
/// How much of a command line `GET /state` shows, in characters.
pub(super) const SHOWN_CHARS: usize = 80;

/// A program to execute.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"argv": ["ls", "-l"]}))]
pub struct Exec {
    /// The program and its arguments, one each, like `["ls", "-l"]`. For a shell: `["sh", "-c", "LINE"]`.
    #[schema(min_items = 1, max_items = 1024)]
    pub argv: Vec<String>,
    /// The directory to start in, relative to the working directory.
    #[serde(default = "RelPath::root")]
    #[schema(value_type = String, default = ".", max_length = 4096)]
    pub cwd: RelPath,
    /// What the program reads on its standard input.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(default = "")]
    pub stdin: String,
    /// Environment variables to set. Nothing else is inherited.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// After how many seconds the program is killed.
    #[serde(default = "default_timeout_s")]
    #[schema(default = 60, minimum = 1, maximum = 600)]
    pub timeout_s: u64,
}

fn default_timeout_s() -> u64 {
    DEFAULT_TIMEOUT_S
}

/// How a program ended and what it wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Executed {
    /// The exit code; 0 is success. Absent if a signal ended the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub exit_code: Option<i32>,
    /// The signal that ended the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub signal: Option<i32>,
    /// Whether it was killed because its time was over.
    pub timed_out: bool,
    /// What ended it: `itself`, or a limit such as `timed_out`, `memory_limit`, `process_limit`, `disk_limit`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub ending: Ending,
    /// What it wrote to standard output; the middle is cut out where it is long.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What held it in: `namespaces` is the strongest, then `landlock`, `limits`, `none`.
    #[schema(value_type = String)]
    pub tier: Tier,
}

impl From<ExecOutput> for Executed {
    fn from(output: ExecOutput) -> Self {
        Self {
            exit_code: output.exit_code,
            signal: output.signal,
            timed_out: output.timed_out(),
            ending: output.ending,
            stdout: output.stdout.text(),
            stderr: output.stderr.text(),
            duration_ms: output.duration_ms,
            tier: output.enforcement.tier(),
        }
    }
}

/// Executes a program in a sandbox and waits for its end.
#[utoipa::path(
    post,
    path = "/v1/exec",
    tag = "tool",
    params(
        ("X-Task-State" = Option<String>, Header, description = "JSON {task_id, cwd} of the caller's task"),
        ("Idempotency-Key" = Option<String>, Header, description = "the program is started once for a key"),
    ),
    request_body = Exec,
    responses(
        (status = 200, description = "The program has ended, well or not.", body = Executed),
        (status = "4XX", description = "The request is not valid; nothing was started.", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The service cannot do it now.", body = aion_service::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn exec(
    State(context): Shared,
    task: TaskState,
    key: IdempotencyKey,
    watched: Option<Extension<Watched>>,
    Json(body): Json<Exec>,
) -> Answer<Executed> {
    let work = context.workspace(&task).await?;
    let mut claim = match context.claim(&key, "exec", &task, &body)? {
        Keyed::Answered(answer) => return Ok(Json(answer)),
        Keyed::Run(claim, None) => claim,
        Keyed::Run(_, Some(Executed { .. })) | Keyed::Unknown => return Err(outcome_unknown()),
    };
    let shown = command_line(&body.argv, SHOWN_CHARS);
    let request = request(body, context.output_bytes)?;
    let _place = context.executions.place(&task.cwd)?;
    begin(&mut claim, None).await?;
    let done = run(&*work, request, watched.as_deref()).await.map(Executed::from);
    if let Err(error @ (Error::Supervisor { .. } | Error::Io { .. })) = &done {
        // It may have run and changed things. The key stays begun, so that it does not start it again.
        drop(claim);
        return Err(from_error(error, "cwd"));
    }
    let answer = settle(claim, done.map_err(|e| from_error(&e, "cwd"))).await?;
    context.set_last_exec(
        &task.cwd,
        summary(&shown, (answer.ending, answer.exit_code, answer.signal)),
    );
    Ok(Json(answer))
}

async fn run(
    work: &dyn Workspace,
    request: ExecRequest,
    watched: Option<&Watched>,
) -> aion_machine::Result<ExecOutput> {
    let Some(watched) = watched else {
        return work.exec(request).await;
    };
    let execution = work.start(request.with_replay_bytes(REPLAY_BYTES)).await?;
    watched.runs(&execution);
    execution.wait().await
}

fn request(body: Exec, output_bytes: usize) -> Result<ExecRequest, Problem> {
    if !(1..=MAX_TIMEOUT_S).contains(&body.timeout_s) {
        let detail = format!("the time is not between 1 and {MAX_TIMEOUT_S} s");
        return Err(Problem::unprocessable("invalid_request", detail).at("/timeout_s"));
    }
    let limits = ExecLimits::default()
        .with_wall_ms(body.timeout_s * 1000)
        .with_output_bytes(output_bytes, output_bytes);
    let request = ExecRequest::new(body.argv)
        .with_cwd(body.cwd)
        .with_stdin(body.stdin)
        .with_limits(limits);
    Ok(body
        .env
        .into_iter()
        .fold(request, |request, (name, value)| request.with_env(name, value)))
}

/// What `GET /state` shows of an execution that has ended.
pub(super) fn summary(shown: &str, end: (Ending, Option<i32>, Option<i32>)) -> Value {
    let ended = match end {
        (Ending::TimedOut, ..) => "timed out".to_owned(),
        (_, Some(code), _) => format!("exit code {code}"),
        (_, None, signal) => format!("signal {}", signal.unwrap_or(0)),
    };
    json!({"command": shown, "ended": ended})
}

fn outcome_unknown() -> Problem {
    let detail = "this execution was begun and its end was not seen; it is not started again under this key";
    Problem::conflict("outcome_unknown", detail)
}

/// What holds an execution in on this host.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct EnforcementAnswer {
    /// The tier as a whole.
    #[schema(value_type = String)]
    tier: Tier,
    /// The report of an execution that was made to see.
    #[schema(value_type = Object)]
    report: Enforcement,
}

/// Executes something harmless and reports what held it in.
#[utoipa::path(
    get,
    path = "/v1/enforcement",
    tag = "operator",
    params(("X-Operator-Key" = Option<String>, Header, description = "the operator's key, where one is needed")),
    responses(
        (status = 200, description = "The report.", body = EnforcementAnswer),
        (status = "4XX", description = "The caller is no operator.", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Nothing can be executed as required.", body = aion_service::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn enforcement(State(context): Shared, _: Operator) -> Answer<EnforcementAnswer> {
    let (nobody, probe) = (TaskState::default(), context.machine().probe());
    let probed = context.recorded("probe", &nobody, Value::Null, probe);
    let report = probed.await.map_err(|e| from_error(&e, ""))?;
    Ok(Json(EnforcementAnswer {
        tier: report.tier(),
        report,
    }))
}
