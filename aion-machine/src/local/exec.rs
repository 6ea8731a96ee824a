//! The service's side of an execution: start a supervisor, hand it the plan, collect what comes back.
//!
//! The supervisor is the workspace's warden, or started by `posix_spawn`, so the size of the service does not matter,
//! and nothing runs between fork and exec in the service. One socket joins the two. If our direction of it closes,
//! because the execution was killed or dropped or the service died, the supervisor kills everything and ends.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Lines, Take};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::OwnedSemaphorePermit;

use super::bridge::Bridge;
use super::cgroup::Group;
use super::env;
use super::line::{Orders, Receiving, Socket};
use super::root::Root;
use super::trial::{Bait, Tried};
use super::warden::{Entrusted, Parts, Warden};
use super::{LocalOptions, Shared, Supervisor};
use crate::exec::{MAX_GRACE_MS, MAX_OUTPUT_BYTES, MAX_REPLAY_BYTES, MAX_WALL_MS};
use crate::network::Proxy;
use crate::supervisor::{self, Outlet, Plan, Report, Surroundings, word};
use crate::{
    Error, ExecFeed, ExecLimits, ExecRequest, ExecStatus, Execution, KillReason, Namespaces, NetworkDecision,
    NetworkPolicy, NetworkRequest, OutputStream, RelPath, Result, Tier,
};

/// How long outputs are read after everything has ended, and how long a late supervisor may take to end.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// How many wardens are tried for one execution.
const WARDENS_TRIED: u32 = 2;
const MAX_ARGV: usize = 1024;
const MAX_ARG_BYTES: usize = 128 << 10;
const MAX_STDIN_BYTES: usize = 16 << 20;
const MAX_REPORT_BYTES: u64 = 64 << 10;

/// The gap of an execution that something outlived.
pub(super) const SURVIVED: &str = "processes: the outputs were still open after everything had ended";
const TRIAL_MS: u64 = 10_000;

/// Why namespaces are of no use on this host, once that has been seen.
pub(crate) type NoNamespaces = OnceLock<String>;

/// Starts a request in a workspace. The permit is held until nothing of it is left.
pub(super) fn begin(
    root: &Root,
    shared: &Arc<Shared>,
    request: ExecRequest,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<Execution> {
    check(&request)?;
    let plan = plan(root, &shared.options, &request)?;
    let (execution, feed) = Execution::channel(&request);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let status = run(&shared, plan, &request, &feed).await;
        drop(permit);
        feed.finish(status);
    });
    Ok(execution)
}

async fn run(shared: &Shared, mut plan: Plan, request: &ExecRequest, feed: &ExecFeed) -> Result<ExecStatus> {
    let tried = tried(shared, &plan).await?;
    if !tried.leaks.is_empty() && plan.required > Tier::Limits {
        let gaps = tried.leaks.clone();
        return Err(Error::ConfinementUnavailable { gaps });
    }
    plan.gaps.extend(tried.leaks.iter().cloned());
    prepare(shared, &mut plan);
    let group = group(shared, &mut plan).await?;
    let status = attempts(shared, &mut plan, request, feed).await?;
    match group.as_ref().and_then(Group::ending) {
        Some(ending) => Ok(status.with_ending(ending)),
        None => Ok(status),
    }
}

/// What came of attacking our own walls, which happens once, before anything is executed.
pub(super) async fn tried<'s>(shared: &'s Shared, plan: &Plan) -> Result<&'s Tried> {
    shared
        .tried
        .get_or_try_init(|| try_walls(shared, plan.clone()))
        .await
}

async fn try_walls(shared: &Shared, mut plan: Plan) -> Result<Tried> {
    let bait = Bait::lay(Path::new(&plan.root), &shared.options);
    let bait = bait.map_err(|e| Error::supervisor(format!("no bait can be laid out for a trial: {e}")))?;
    let request = ExecRequest::new(["true"])
        .with_limits(ExecLimits::default().with_wall_ms(TRIAL_MS).with_grace_ms(0))
        .with_network(NetworkRequest::Off)
        .with_replay_bytes(0);
    plan.limits = request.limits.clone();
    plan.cwd = RelPath::root();
    plan.outlet = Outlet::None;
    plan.trial = Some(bait.trial.clone());
    prepare(shared, &mut plan);
    let (execution, feed) = Execution::channel(&request);
    let status = attempts(shared, &mut plan, &request, &feed).await?;
    feed.finish(Ok(status));
    Ok(Tried::of(execution.wait().await?))
}

fn prepare(shared: &Shared, plan: &mut Plan) {
    let missing = &shared.no_namespaces;
    if let Some(bubblewrap) = &shared.options.bubblewrap {
        plan.gaps.extend(bubblewrap.gaps.iter().cloned());
    } else if shared.options.namespaces == Namespaces::Never {
        plan.gaps
            .push("namespaces: turned off by the configuration".to_owned());
    } else if let Some(reason) = missing.get() {
        do_without(plan, reason);
    }
}

/// The group of an execution, if there are groups here.
async fn group(shared: &Shared, plan: &mut Plan) -> Result<Option<Group>> {
    // Inside bubblewrap nobody could join one.
    let base = shared
        .groups
        .clone()
        .filter(|_| shared.options.bubblewrap.is_none());
    let Some(base) = base else {
        return Ok(None);
    };
    let limits = plan.limits.clone();
    let made = super::blocking(move || {
        let made = Group::create(&base, &limits);
        made.map_err(|e| Error::supervisor(format!("no cgroup can be made in {}: {e}", base.display())))
    });
    let mut group = made.await?;
    plan.gaps.append(&mut group.gaps);
    plan.cgroup = Some(group.held.clone());
    Ok(Some(group))
}

async fn attempts(
    shared: &Shared,
    plan: &mut Plan,
    request: &ExecRequest,
    feed: &ExecFeed,
) -> Result<ExecStatus> {
    let missing = &shared.no_namespaces;
    if let Attempt::Ended(status) = attempt(shared, plan, request, feed).await? {
        return Ok(status);
    }
    do_without(
        plan,
        missing.get().map_or("namespaces: of no use here", String::as_str),
    );
    match attempt(shared, plan, request, feed).await? {
        Attempt::Ended(status) => Ok(status),
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
    Ended(ExecStatus),
    NoNamespaces,
}

/// A supervisor is had from the warden of the workspace, or started anew if there is none. One that said nothing before
/// it was gone has started nothing, so another can be tried.
async fn attempt(shared: &Shared, plan: &Plan, request: &ExecRequest, feed: &ExecFeed) -> Result<Attempt> {
    for _ in 0..WARDENS_TRIED {
        let Some(started) = entrust(shared, plan).await else {
            break;
        };
        let (warden, heard) = match started {
            (warden, Ok(started)) => (warden, supervised(shared, plan, request, feed, started).await),
            (warden, Err(_)) => (warden, Ok(Heard::nothing())),
        };
        // Who does not keep time is not asked again; without executions its line is closed, and it is killed.
        if heard
            .as_ref()
            .map_or(true, |heard| heard.is_nothing() || heard.leaving == Leaving::Late)
        {
            shared.wardens.forget(&warden);
        }
        let heard = heard?;
        if !heard.is_nothing() {
            return conclude(shared, request, heard);
        }
    }
    let started = spawn(&shared.options, plan)?;
    let heard = supervised(shared, plan, request, feed, started).await?;
    conclude(shared, request, heard)
}

/// What was heard of a supervisor until everything was over.
struct Heard {
    reports: Vec<Report>,
    outputs: Outputs,
    network: Vec<NetworkDecision>,
    /// Whether it was cut off before it could say more.
    cut_off: CutOff,
    leaving: Leaving,
}

/// Whether a supervisor ended when it was to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    InTime,
    Late,
}

/// Whether the service asked for the end of an execution.
#[derive(PartialEq, Eq)]
enum CutOff {
    Yes,
    No,
}

impl Heard {
    fn nothing() -> Self {
        Self {
            reports: Vec::new(),
            outputs: Outputs::Closed,
            network: Vec::new(),
            cut_off: CutOff::No,
            leaving: Leaving::InTime,
        }
    }

    fn is_nothing(&self) -> bool {
        self.reports.is_empty() && self.cut_off == CutOff::No
    }
}

/// Talks to a supervisor, and collects the outputs, until nothing of it is left.
async fn supervised(
    shared: &Shared,
    plan: &Plan,
    request: &ExecRequest,
    feed: &ExecFeed,
    started: Started,
) -> Result<Heard> {
    let options = &shared.options;
    let Started { ours, mut supervisor } = started;
    let limits = &request.limits;
    let time =
        Duration::from_millis(limits.wall_ms + limits.grace_ms).saturating_add(options.supervisor_grace);
    let grace = Duration::from_millis(limits.grace_ms).saturating_add(options.supervisor_grace);
    let proxy = proxy(options, request);
    let talk = async {
        let mut line = Line::new(ours.socket, feed, time, grace, proxy.clone());
        line.entrusted = supervisor.entrusted();
        let reports = line.converse(plan, &request.stdin).await;
        let is_over = line.is_over;
        if let Some(bridge) = line.bridge.take() {
            bridge.end().await;
        }
        let cut_off = match line.orders {
            Some(_) => CutOff::No,
            None => CutOff::Yes,
        };
        // Our direction is closed here; a supervisor that has not ended yet kills everything now.
        let rest = line.hang_up();
        let leaving = match is_over {
            true => Leaving::InTime,
            false => supervisor.wait_for_end(rest).await,
        };
        reports.map(|reports| (reports, cut_off, leaving))
    };
    let (stdout, stderr) = (OutputStream::Stdout, OutputStream::Stderr);
    let (out, err) = (ours.stdout, ours.stderr);
    let outputs = async { tokio::join!(drain(out, feed, stdout), drain(err, feed, stderr)) };
    let (talked, outputs) = finish_together(talk, outputs).await;
    let (reports, cut_off, leaving) = talked?;
    Ok(Heard {
        reports,
        outputs,
        network: proxy.map_or(Vec::new(), |proxy| proxy.take_decisions()),
        cut_off,
        leaving,
    })
}

fn conclude(shared: &Shared, request: &ExecRequest, heard: Heard) -> Result<Attempt> {
    if let Some(Report::NoNamespaces { reason }) = heard.reports.first() {
        shared.no_namespaces.get_or_init(|| reason.clone());
        return Ok(Attempt::NoNamespaces);
    }
    let mut status = judge(request, heard.reports)?;
    if heard.outputs == Outputs::Open {
        status.enforcement.gaps.push(SURVIVED.to_owned());
    }
    Ok(Attempt::Ended(status.with_network(heard.network)))
}

/// Reads an output to its end, or until reading fails.
async fn drain(mut from: impl AsyncRead + Unpin, feed: &ExecFeed, stream: OutputStream) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 {
            return;
        }
        feed.push(stream, &buffer[..n]);
    }
}

/// Whether anybody still holds the outputs of an execution that is over.
#[derive(PartialEq, Eq)]
enum Outputs {
    Closed,
    Open,
}

/// Waits for the conversation, and then a little for the rest of the outputs.
async fn finish_together<T>(talk: impl Future<Output = T>, outputs: impl Future) -> (T, Outputs) {
    tokio::pin!(talk, outputs);
    tokio::select! {
        talked = &mut talk => match tokio::time::timeout(DRAIN_GRACE, outputs).await {
            Ok(_) => (talked, Outputs::Closed),
            Err(_) => (talked, Outputs::Open),
        },
        _ = &mut outputs => (talk.await, Outputs::Closed),
    }
}

/// Who supervises an execution.
enum Supervising {
    /// A process of ours.
    Child(Child),
    /// A warden.
    Warden(Entrusted),
}

impl Supervising {
    fn entrusted(&self) -> Option<Entrusted> {
        match self {
            Self::Child(_) => None,
            Self::Warden(entrusted) => Some(entrusted.clone()),
        }
    }

    /// Waits for a supervisor whose line is closed, which asks it to kill everything. One that does not even do that is
    /// killed, and what it started for itself is killed by the kernel with it.
    async fn wait_for_end(&mut self, rest: Reports) -> Leaving {
        match self {
            Self::Child(child) => wait_for_child(child).await,
            Self::Warden(entrusted) => wait_for_warden(entrusted, rest).await,
        }
    }
}

async fn wait_for_child(child: &mut Child) -> Leaving {
    if tokio::time::timeout(DRAIN_GRACE, child.wait()).await.is_ok() {
        return Leaving::InTime;
    }
    let killed = tokio::time::timeout(DRAIN_GRACE, child.kill()).await;
    if !matches!(killed, Ok(Ok(()))) {
        tracing::warn!(pid = child.id(), "a late supervisor could not be killed");
    }
    Leaving::Late
}

/// Their end of the line closes when nothing is left of the execution.
async fn wait_for_warden(entrusted: &Entrusted, mut rest: Reports) -> Leaving {
    let mut closed = async || {
        let all = async { while let Ok(Some(_)) = rest.next_line().await {} };
        tokio::time::timeout(DRAIN_GRACE, all).await.is_ok()
    };
    if closed().await {
        return Leaving::InTime;
    }
    entrusted.kill();
    if !closed().await {
        tracing::warn!("a late execution could not be killed");
    }
    Leaving::Late
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
    if request.limits.grace_ms > MAX_GRACE_MS {
        return Err(Error::invalid(format!(
            "the grace is more than {MAX_GRACE_MS} ms"
        )));
    }
    if request.limits.head_bytes.max(request.limits.tail_bytes) > MAX_OUTPUT_BYTES {
        return Err(Error::invalid(format!(
            "more than {MAX_OUTPUT_BYTES} bytes of an end of an output are to be kept"
        )));
    }
    if request.replay_bytes > MAX_REPLAY_BYTES {
        return Err(Error::invalid(format!(
            "more than {MAX_REPLAY_BYTES} bytes are to be kept for followers"
        )));
    }
    Ok(())
}

pub(super) fn plan(root: &Root, options: &LocalOptions, request: &ExecRequest) -> Result<Plan> {
    let host = root.host_path();
    let Some(root_path) = host.to_str() else {
        return Err(Error::supervisor("the root has a path that is not UTF-8"));
    };
    let (device, inode) = root.identity().map_err(|e| Error::supervisor(e.to_string()))?;
    Ok(Plan {
        argv: request.argv.clone(),
        env: env::build(&request.env, &options.allowed_env)?,
        cwd: request.cwd.clone(),
        root: root_path.to_owned(),
        device,
        inode,
        read_only: options.read_only.clone(),
        limits: held(&request.limits, options),
        required: options.required,
        namespaces: options.namespaces,
        outlet: proxy(options, request).map_or(Outlet::None, |_| Outlet::Proxy),
        run_as: options.run_as,
        protected: options.protected.clone(),
        min_free_bytes: options.min_free_bytes,
        cgroup: None,
        surroundings: match options.bubblewrap {
            None => Surroundings::Host,
            Some(_) => Surroundings::Bubblewrap,
        },
        trial: None,
        gaps: Vec::new(),
    })
}

/// The limits as they are held: for the kernel a `/tmp` of size 0 would be one without a limit.
fn held(limits: &ExecLimits, options: &LocalOptions) -> ExecLimits {
    let limits = match &options.most {
        Some(most) => &limits.at_most(most),
        None => limits,
    };
    let tmp_bytes = limits.tmp_bytes.max(rustix::param::page_size() as u64);
    limits.clone().with_tmp_bytes(tmp_bytes)
}

/// The proxy of an execution that may use one.
fn proxy(options: &LocalOptions, request: &ExecRequest) -> Option<Arc<Proxy>> {
    match (&options.network, &request.network) {
        (NetworkPolicy::Off, _) | (_, NetworkRequest::Off) => None,
        (NetworkPolicy::Allow(list), wanted) => Some(Arc::new(Proxy::new(list.clone(), wanted.clone()))),
    }
}

/// The program that can be a supervisor.
fn supervisor_program(options: &LocalOptions) -> Result<PathBuf> {
    match &options.supervisor {
        Supervisor::Program(path) => Ok(path.clone()),
        Supervisor::Ourselves if supervisor::is_installed() => Ok("/proc/self/exe".into()),
        Supervisor::Ourselves => Err(Error::NoSupervisor),
    }
}

/// The command that becomes the supervisor.
fn supervisor_command(options: &LocalOptions, plan: &Plan) -> Result<Command> {
    if let Some(bubblewrap) = &options.bubblewrap {
        let mut command = Command::new(&bubblewrap.program);
        command.args(bubblewrap.arguments(&plan.root, plan.limits.tmp_bytes));
        return Ok(command);
    }
    let mut command = Command::new(supervisor_program(options)?);
    command.arg(supervisor::ARGUMENT);
    Ok(command)
}

/// A supervisor, and our ends of what joins us to it.
struct Started {
    ours: Ours,
    supervisor: Supervising,
}

struct Ours {
    socket: Arc<Socket>,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

struct Theirs {
    control: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// A socket and two pipes.
fn join() -> std::io::Result<(Ours, Theirs)> {
    let (ours, control) = Socket::pair()?;
    let output = || -> std::io::Result<_> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok((pipe::Receiver::from_owned_fd(read)?, write))
    };
    let ((stdout, their_stdout), (stderr, their_stderr)) = (output()?, output()?);
    let ours = Ours {
        socket: ours,
        stdout,
        stderr,
    };
    let theirs = Theirs {
        control,
        stdout: their_stdout,
        stderr: their_stderr,
    };
    Ok((ours, theirs))
}

/// Has the warden of the workspace supervise, where there is one.
async fn entrust(shared: &Shared, plan: &Plan) -> Option<(Arc<Warden>, std::io::Result<Started>)> {
    if plan.surroundings != Surroundings::Host || plan.namespaces == Namespaces::Never {
        return None;
    }
    let program = supervisor_program(&shared.options).ok()?;
    let warden = shared.wardens.of(plan, &program).await?;
    let started = join().and_then(|(ours, theirs)| {
        let parts = Parts {
            control: theirs.control.as_fd(),
            stdout: theirs.stdout.as_fd(),
            stderr: theirs.stderr.as_fd(),
        };
        let supervisor = Supervising::Warden(warden.entrust(plan, &parts)?);
        Ok(Started { ours, supervisor })
    });
    Some((warden, started))
}

fn spawn(options: &LocalOptions, plan: &Plan) -> Result<Started> {
    let fail = |e: std::io::Error| Error::supervisor(format!("it cannot be started: {e}"));
    let mut command = supervisor_command(options, plan)?;
    let (ours, theirs) = join().map_err(fail)?;
    // No environment: the first process of bubblewrap would keep it, for the program to read.
    command.env_clear().current_dir("/").process_group(0);
    command
        .stdin(theirs.control)
        .stdout(theirs.stdout)
        .stderr(theirs.stderr);
    // The command owns our copies of their ends; they are closed here, so that the end can be seen.
    let supervisor = Supervising::Child(command.spawn().map_err(fail)?);
    Ok(Started { ours, supervisor })
}

/// What a supervisor says, line by line.
type Reports = Lines<BufReader<Take<Receiving>>>;

/// The line to a supervisor.
struct Line<'f> {
    reports: Reports,
    /// If so, a warden takes the order to ask for the end.
    entrusted: Option<Entrusted>,
    /// Absent once the end was asked for.
    orders: Option<Orders>,
    /// Kept open while the program has its moment to end by itself.
    silent: Option<Orders>,
    /// Whether a warden has said that nothing is left.
    is_over: bool,
    feed: &'f ExecFeed,
    deadline: tokio::time::Instant,
    grace: Duration,
    proxy: Option<Arc<Proxy>>,
    bridge: Option<Bridge>,
}

impl<'f> Line<'f> {
    fn new(
        socket: Arc<Socket>,
        feed: &'f ExecFeed,
        time: Duration,
        grace: Duration,
        proxy: Option<Arc<Proxy>>,
    ) -> Self {
        let reports = Receiving::new(Arc::clone(&socket));
        Self {
            reports: BufReader::new(reports.take(MAX_REPORT_BYTES)).lines(),
            entrusted: None,
            orders: Some(Orders::over(socket)),
            silent: None,
            is_over: false,
            feed,
            deadline: tokio::time::Instant::now() + time,
            grace,
            proxy,
            bridge: None,
        }
    }

    /// Hands over the plan and reads reports until the supervisor has no more to say.
    async fn converse(&mut self, plan: &Plan, stdin: &[u8]) -> Result<Vec<Report>> {
        let plan = serde_json::to_vec(plan).map_err(|e| Error::supervisor(e.to_string()))?;
        self.order(&plan, stdin).await;
        let mut reports = Vec::new();
        while let Some(report) = self.next_report().await? {
            match report {
                Report::Listening => self.accept()?,
                report => {
                    if matches!(report, Report::Confined { .. }) {
                        self.feed.started();
                    }
                    // A supervisor of its own is still about to end itself.
                    self.is_over = self.entrusted.is_some() && matches!(report, Report::Ended { .. });
                    reports.push(report);
                }
            }
            if self.is_over {
                break;
            }
        }
        Ok(reports)
    }

    /// Closes our direction; what is still said can be read.
    fn hang_up(self) -> Reports {
        self.reports
    }

    /// Accepts on the listener that came.
    fn accept(&mut self) -> Result<()> {
        let listener = self.reports.get_ref().get_ref().get_ref().take();
        let (Some(listener), Some(proxy)) = (listener, &self.proxy) else {
            return Err(Error::supervisor(
                "a listener came that nobody asked for, or none came",
            ));
        };
        let bridge = Bridge::start(listener, Arc::clone(proxy));
        self.bridge = Some(bridge.map_err(|e| Error::supervisor(e.to_string()))?);
        Ok(())
    }

    /// A supervisor that died early says why on its way out; a broken pipe is not the reason.
    async fn order(&mut self, plan: &[u8], stdin: &[u8]) {
        let Some(orders) = &self.orders else { return };
        let head = [plan.len() as u32, stdin.len() as u32]
            .map(u32::to_le_bytes)
            .concat();
        tokio::select! {
            _ = orders.hand_over([&head, plan, stdin]) => {}
            reason = self.feed.killed() => self.ask_for_the_end(reason),
            () = tokio::time::sleep_until(self.deadline) => {}
        }
    }

    async fn next_report(&mut self) -> Result<Option<Report>> {
        loop {
            tokio::select! {
                line = self.reports.next_line() => {
                    let line = match line {
                        Ok(Some(line)) => line,
                        // Only a closed line says that nobody holds it any more.
                        Ok(None) => return Ok(None),
                        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
                        Err(e) => return Err(Error::supervisor(e.to_string())),
                    };
                    let report = serde_json::from_str(&line);
                    return report.map(Some).map_err(|e| Error::supervisor(e.to_string()));
                }
                reason = self.feed.killed(), if self.orders.is_some() => self.ask_for_the_end(reason),
                () = tokio::time::sleep_until(self.deadline) => {
                    return Err(Error::supervisor("it did not end in time"));
                }
            }
        }
    }

    /// Who asks politely has the program asked politely. Otherwise our direction of the line is closed:
    /// the supervisor kills everything, and can still report it.
    fn ask_for_the_end(&mut self, reason: KillReason) {
        let orders = self.orders.take();
        if reason == KillReason::Asked {
            self.silent = orders.filter(|orders| match &self.entrusted {
                Some(entrusted) => entrusted.ask_to_end(),
                None => orders.say(word::END),
            });
        }
        self.deadline = self.deadline.min(tokio::time::Instant::now() + self.grace);
    }
}

fn judge(request: &ExecRequest, reports: Vec<Report>) -> Result<ExecStatus> {
    let (mut confined, mut end) = (None, None);
    for report in reports {
        match report {
            Report::Confined { enforcement } => confined = Some(enforcement),
            Report::Listening => {}
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
            Report::Ended { code, signal, ending } => end = Some((code, signal, ending)),
        }
    }
    match (confined, end) {
        (Some(enforcement), Some((exit_code, signal, ending))) => Ok(ExecStatus {
            network: Vec::new(),
            exit_code,
            signal,
            ending,
            enforcement,
        }),
        _ => Err(Error::supervisor("it ended without a report")),
    }
}
