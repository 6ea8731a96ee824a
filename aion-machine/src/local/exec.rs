//! The service's side of an execution: start a supervisor, hand it the plan, collect what comes back.
//!
//! The supervisor is started by `posix_spawn`, so the size of the service does not matter, and nothing
//! runs between fork and exec in the service. One socket joins the two. If it closes, because this
//! future was dropped or the service died, the supervisor kills everything and ends.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::capture::{Capture, drain};
use super::env;
use super::root::Root;
use super::{LocalOptions, Supervisor};
use crate::exec::{MAX_OUTPUT_BYTES, MAX_WALL_MS};
use crate::supervisor::{self, Plan, Report};
use crate::{Enforcement, Error, ExecOutput, ExecRequest, Namespaces, Result};

/// How long outputs are read after everything has ended, and how long a late supervisor may take to end.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
const MAX_ARGV: usize = 1024;
const MAX_ARG_BYTES: usize = 128 << 10;
const MAX_STDIN_BYTES: usize = 16 << 20;
const MAX_REPORT_BYTES: u64 = 64 << 10;

/// Why namespaces are of no use on this host, once that has been seen.
pub(crate) type NoNamespaces = OnceLock<String>;

/// Executes a request in a workspace.
pub(crate) async fn run(
    root: &Root,
    options: &LocalOptions,
    missing: &NoNamespaces,
    request: ExecRequest,
) -> Result<ExecOutput> {
    check(&request)?;
    let mut plan = plan(root, options, &request)?;
    if options.namespaces == Namespaces::Never {
        plan.gaps
            .push("namespaces: turned off by the configuration".to_owned());
    } else if let Some(reason) = missing.get() {
        do_without(&mut plan, reason);
    }
    if let Attempt::Ended(output) = attempt(options, &plan, &request, missing).await? {
        return Ok(*output);
    }
    do_without(
        &mut plan,
        missing.get().map_or("namespaces: of no use here", String::as_str),
    );
    match attempt(options, &plan, &request, missing).await? {
        Attempt::Ended(output) => Ok(*output),
        Attempt::NoNamespaces => Err(Error::supervisor(
            "it entered namespaces that it was told to avoid",
        )),
    }
}

fn do_without(plan: &mut Plan, reason: &str) {
    plan.namespaces = Namespaces::Never;
    plan.gaps.push(reason.to_owned());
}

/// What came of starting a supervisor.
enum Attempt {
    Ended(Box<ExecOutput>),
    NoNamespaces,
}

async fn attempt(
    options: &LocalOptions,
    plan: &Plan,
    request: &ExecRequest,
    missing: &NoNamespaces,
) -> Result<Attempt> {
    let started = Instant::now();
    let (mut child, socket) = start(options)?;
    let limits = &request.limits;
    let mut stdout = Capture::new(limits.head_bytes, limits.tail_bytes);
    let mut stderr = Capture::new(limits.head_bytes, limits.tail_bytes);
    let pipes = (child.stdout.take(), child.stderr.take());
    let (Some(out), Some(err)) = pipes else {
        return Err(Error::supervisor("it has no output pipes"));
    };
    let time = Duration::from_millis(limits.wall_ms).saturating_add(options.supervisor_grace);
    let reports = {
        let talk = async {
            let talk = tokio::time::timeout(time, converse(&mut child, socket, plan, &request.stdin)).await;
            if talk.is_err() {
                end_late(&mut child).await;
            }
            talk
        };
        let outputs = async { tokio::join!(drain(out, &mut stdout), drain(err, &mut stderr)) };
        finish_together(talk, outputs).await
    };
    let reports = reports.map_err(|_| Error::supervisor("it did not end in time"))??;
    if let Some(Report::NoNamespaces { reason }) = reports.first() {
        missing.get_or_init(|| reason.clone());
        return Ok(Attempt::NoNamespaces);
    }
    let ended = judge(request, reports)?;
    Ok(Attempt::Ended(Box::new(ExecOutput {
        exit_code: ended.code,
        signal: ended.signal,
        timed_out: ended.timed_out,
        stdout: stdout.finish(),
        stderr: stderr.finish(),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        enforcement: ended.enforcement,
    })))
}

/// Waits for the conversation, and then a little for the rest of the outputs.
async fn finish_together<T>(talk: impl Future<Output = T>, outputs: impl Future) -> T {
    tokio::pin!(talk, outputs);
    tokio::select! {
        talked = &mut talk => {
            let _ = tokio::time::timeout(DRAIN_GRACE, outputs).await;
            talked
        }
        _ = &mut outputs => talk.await,
    }
}

/// Ends a supervisor that is late. That its line is closed asks it to kill everything; one that does not
/// even do that is killed, and what it started for itself is killed by the kernel with it.
async fn end_late(child: &mut Child) {
    if tokio::time::timeout(DRAIN_GRACE, child.wait()).await.is_ok() {
        return;
    }
    let killed = tokio::time::timeout(DRAIN_GRACE, child.kill()).await;
    if !matches!(killed, Ok(Ok(()))) {
        tracing::warn!(pid = child.id(), "a late supervisor could not be killed");
    }
}

fn check(request: &ExecRequest) -> Result<()> {
    let program = request.argv.first().map_or("", String::as_str);
    if program.is_empty() {
        return Err(Error::invalid("argv has no program"));
    }
    if request.argv.len() > MAX_ARGV {
        return Err(Error::invalid(format!("argv has more than {MAX_ARGV} elements")));
    }
    if request
        .argv
        .iter()
        .any(|a| a.contains('\0') || a.len() >= MAX_ARG_BYTES)
    {
        return Err(Error::invalid("an element of argv has a NUL byte or is too long"));
    }
    if request.stdin.len() > MAX_STDIN_BYTES {
        return Err(Error::invalid(format!(
            "the input has more than {MAX_STDIN_BYTES} bytes"
        )));
    }
    if !(1..=MAX_WALL_MS).contains(&request.limits.wall_ms) {
        return Err(Error::invalid(format!(
            "the time is not between 1 and {MAX_WALL_MS} ms"
        )));
    }
    if request.limits.head_bytes.max(request.limits.tail_bytes) > MAX_OUTPUT_BYTES {
        return Err(Error::invalid(format!(
            "more than {MAX_OUTPUT_BYTES} bytes of an end of an output are to be kept"
        )));
    }
    Ok(())
}

fn plan(root: &Root, options: &LocalOptions, request: &ExecRequest) -> Result<Plan> {
    let host = root.host_path();
    let Some(root_path) = host.to_str() else {
        return Err(Error::supervisor("the root has a path that is not UTF-8"));
    };
    let (device, inode) = root.identity().map_err(|e| Error::supervisor(e.to_string()))?;
    Ok(Plan {
        argv: request.argv.clone(),
        env: env::build(&request.env)?,
        cwd: request.cwd.clone(),
        root: root_path.to_owned(),
        device,
        inode,
        read_only: options.read_only.clone(),
        limits: request.limits.clone(),
        required: options.required,
        namespaces: options.namespaces,
        gaps: Vec::new(),
    })
}

fn start(options: &LocalOptions) -> Result<(Child, UnixStream)> {
    let fail = |e: std::io::Error| Error::supervisor(format!("it cannot be started: {e}"));
    let program = match &options.supervisor {
        Supervisor::Program(path) => path.clone(),
        Supervisor::Ourselves if supervisor::is_installed() => "/proc/self/exe".into(),
        Supervisor::Ourselves => return Err(Error::NoSupervisor),
    };
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(fail)?;
    ours.set_nonblocking(true).map_err(fail)?;
    let mut command = Command::new(program);
    command
        .arg(supervisor::ARGUMENT)
        .env_clear()
        .current_dir("/")
        .process_group(0);
    command
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // The command owns our copy of their end; it is closed here, so that the end can be seen.
    let child = command.spawn().map_err(fail)?;
    Ok((child, UnixStream::from_std(ours).map_err(fail)?))
}

/// Hands over the plan and reads reports until the supervisor has ended.
async fn converse(
    child: &mut Child,
    mut socket: UnixStream,
    plan: &Plan,
    stdin: &[u8],
) -> Result<Vec<Report>> {
    let fail = |e: std::io::Error| Error::supervisor(e.to_string());
    let plan = serde_json::to_vec(plan).map_err(|e| Error::supervisor(e.to_string()))?;
    let head = [plan.len() as u32, stdin.len() as u32]
        .map(u32::to_le_bytes)
        .concat();
    // A supervisor that died early says why on its way out; a broken pipe is not the reason.
    for part in [&head[..], &plan, stdin] {
        if socket.write_all(part).await.is_err() {
            break;
        }
    }
    let mut lines = BufReader::new((&mut socket).take(MAX_REPORT_BYTES)).lines();
    let mut reports = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        reports.push(serde_json::from_str(&line).map_err(|e| Error::supervisor(e.to_string()))?);
    }
    child.wait().await.map_err(fail)?;
    Ok(reports)
}

/// How it ended.
struct Ended {
    code: Option<i32>,
    signal: Option<i32>,
    timed_out: bool,
    enforcement: Enforcement,
}

fn judge(request: &ExecRequest, reports: Vec<Report>) -> Result<Ended> {
    let (mut confined, mut end) = (None, None);
    for report in reports {
        match report {
            Report::Confined { enforcement } => confined = Some(enforcement),
            Report::Refused { gaps } => return Err(Error::ConfinementUnavailable { gaps }),
            Report::NoProgram { reason } => {
                return Err(Error::Program {
                    program: request.argv[0].clone(),
                    reason,
                });
            }
            Report::NoDirectory { .. } => {
                return Err(Error::NotFound {
                    path: request.cwd.clone(),
                });
            }
            Report::NoNamespaces { reason } | Report::Failed { reason } => {
                return Err(Error::Supervisor { reason });
            }
            Report::Ended {
                code,
                signal,
                timed_out,
            } => end = Some((code, signal, timed_out)),
        }
    }
    match (confined, end) {
        (Some(enforcement), Some((code, signal, timed_out))) => Ok(Ended {
            code,
            signal,
            timed_out,
            enforcement,
        }),
        _ => Err(Error::supervisor("it ended without a report")),
    }
}
