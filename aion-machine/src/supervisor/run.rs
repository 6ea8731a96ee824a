//! The supervisor: reads the plan, shuts itself in as far as it can, watches over the program.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;

use super::confine::{Shell, confine};
use super::identity::{self, Kept};
use super::mounts::Interior;
use super::plan::{Cgroup, Namespaces, Outlet, Plan, Report, Surroundings};
use super::reaper::{self, Status};
use super::sys::{self, Fork};
use super::usage::{Disk, Scales};
use super::vigil::Vigil;
use super::{bridge, container, mounts, target};
use crate::{Ending, ExecLimits};

/// A plan or an input above this is not read.
const MAX_MESSAGE_BYTES: u32 = 64 << 20;

/// What a program sees as the name of its host.
pub(super) const HOST_NAME: &[u8] = b"aion";

/// How many times its limit a program can grow before the supervisor looks.
const BURST: u64 = 4;

/// What the processes of the supervisor share.
pub(super) struct Context {
    pub(super) plan: Plan,
    /// What the program reads.
    pub(super) stdin: OwnedFd,
    /// The line to the service.
    pub(super) control: OwnedFd,
    /// What was tried and did not work.
    pub(super) gaps: Vec<String>,
    /// What was opened before rights were given up.
    pub(super) kept: Kept,
    /// Where the processes of the cgroup are listed.
    pub(super) group: Option<File>,
    /// What stood already when the plan came.
    pub(super) walls: Walls,
}

/// What stands around a supervisor before it does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walls {
    /// Nothing, or what bubblewrap has built.
    None,
    /// The file system and the host name of a warden.
    Warden {
        /// Where the network comes from.
        network: Network,
    },
}

/// Whose network a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// A new one.
    New,
    /// One that the warden lends to one execution at a time.
    Lent,
}

impl Context {
    /// Tells the service something; if it is not there any more, there is nobody to tell.
    pub(super) fn report(&self, report: &Report) {
        let Ok(mut line) = serde_json::to_vec(report) else {
            return;
        };
        line.push(b'\n');
        let mut rest = &line[..];
        while let Ok(written @ 1..) = rustix::io::retry_on_intr(|| rustix::io::write(&self.control, rest)) {
            rest = &rest[written..];
        }
    }

    /// Puts this process, and so all that will come from it, into the cgroup.
    pub(super) fn join_group_ourselves(&self) -> io::Result<()> {
        let Some(mut list) = self.group.as_ref() else {
            return Ok(());
        };
        list.write_all(b"0")
    }

    /// That nothing is executed like this.
    fn refusal(&mut self) -> Report {
        let gaps = std::mem::take(&mut self.gaps);
        Report::Refused { gaps }
    }

    /// Puts a process, and so all that will come from it, into the cgroup.
    fn join_group(&self, process: Pid) -> io::Result<()> {
        let Some(mut list) = self.group.as_ref() else {
            return Ok(());
        };
        list.write_all(process.as_raw_nonzero().to_string().as_bytes())
    }

    fn failed(&self, what: &str, error: &io::Error) {
        self.report(&Report::Failed {
            reason: format!("{what}: {error}"),
        });
    }
}

/// The whole life of the supervisor; returns its exit code.
pub(super) fn supervise() -> i32 {
    let context = sys::close_from(3)
        .and_then(|()| Ok(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?))
        .and_then(|control| listen(control, Walls::None));
    // If not: the service ended before it had said what to do, or this is not a service at all.
    let Ok(mut context) = context else { return 2 };
    let watched = watch_over(&mut context);
    conclude(&context, watched);
    0
}

/// Says how it ended.
fn conclude(context: &Context, watched: io::Result<Option<Report>>) {
    match watched {
        Ok(Some(end)) => context.report(&end),
        Ok(None) => {}
        Err(e) => context.failed("the supervisor", &e),
    }
}

/// Reads the plan from the line to the service.
pub(super) fn listen(control: OwnedFd, walls: Walls) -> io::Result<Context> {
    let mut from = File::from(control.try_clone()?);
    let mut lengths = [0; 8];
    from.read_exact(&mut lengths)?;
    let [plan_len, stdin_len] =
        [0, 4].map(|at| u32::from_le_bytes([lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]]));
    if plan_len.max(stdin_len) > MAX_MESSAGE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut plan = vec![0; plan_len as usize];
    from.read_exact(&mut plan)?;
    let plan = serde_json::from_slice(&plan).map_err(io::Error::other)?;
    let stdin = read_stdin(&mut from, u64::from(stdin_len))?;
    Ok(Context {
        plan,
        stdin,
        control,
        gaps: Vec::new(),
        kept: Kept::default(),
        group: None,
        walls,
    })
}

/// The program's input as a file in memory, so that nobody has to feed it while it runs.
fn read_stdin(from: &mut File, len: u64) -> io::Result<OwnedFd> {
    if len == 0 {
        return Ok(File::open("/dev/null")?.into());
    }
    let memory = rustix::fs::memfd_create("stdin", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    io::copy(&mut from.take(len), &mut file)?;
    io::Seek::rewind(&mut file)?;
    Ok(file.into())
}

fn watch_over(context: &mut Context) -> io::Result<Option<Report>> {
    context.gaps = std::mem::take(&mut context.plan.gaps);
    if context.plan.surroundings == Surroundings::Bubblewrap {
        return container::watch(context);
    }
    context.group = open_group(&context.plan)?;
    context.kept = match identity::change(&context.plan) {
        Ok(kept) => kept,
        Err(gap) => {
            context.gaps.push(gap);
            return Ok(Some(context.refusal()));
        }
    };
    let isolated = match context.plan.namespaces {
        Namespaces::Never => false,
        Namespaces::WherePossible => enter_namespaces(context)?,
    };
    if !isolated && context.plan.outlet == Outlet::Proxy {
        context
            .gaps
            .push("network: a proxy needs a network namespace".to_owned());
        return Ok(Some(context.refusal()));
    }
    if !isolated && context.kept.workspace.is_some() {
        context.gaps.push(
            "run_as: without namespaces the workspace cannot be shown as belonging to the program".into(),
        );
        return Ok(Some(context.refusal()));
    }
    let deadline = Instant::now() + Duration::from_millis(context.plan.limits.wall_ms);
    if isolated {
        in_namespace(context, deadline)
    } else {
        as_subreaper(context, deadline)
    }
}

/// The list of processes of the cgroup, opened with the rights of the service.
fn open_group(plan: &Plan) -> io::Result<Option<File>> {
    let open = |group: &Cgroup| File::options().write(true).open(group.path.join("cgroup.procs"));
    plan.cgroup.as_ref().map(open).transpose()
}

/// Leaves the host's namespaces, all of them or none.
fn enter_namespaces(context: &mut Context) -> io::Result<bool> {
    let ourselves = Ourselves::now();
    if let Err(e) = sys::unshare(EVERYTHING) {
        context
            .gaps
            .push(format!("namespaces: the kernel does not allow them here ({e})"));
        return Ok(false);
    }
    let denied = std::fs::write("/proc/self/setgroups", "deny");
    if let Err(e) = denied.and_then(|()| ourselves.map()) {
        // Some systems let everybody make a user namespace, and then no use of it.
        let reason = format!("namespaces: users cannot be mapped in them here ({e})");
        context.report(&Report::NoNamespaces { reason });
        sys::exit_now(1);
    }
    Ok(true)
}

/// All namespaces that a program is to have for itself.
pub(super) const EVERYTHING: UnshareFlags = UnshareFlags::NEWUSER
    .union(UnshareFlags::NEWPID)
    .union(UnshareFlags::NEWNS)
    .union(UnshareFlags::NEWNET)
    .union(UnshareFlags::NEWIPC)
    .union(UnshareFlags::NEWUTS)
    .union(UnshareFlags::NEWCGROUP);

/// The user and group of this process, as they are before it leaves its user namespace.
#[derive(Clone, Copy)]
pub(super) struct Ourselves {
    uid: u32,
    gid: u32,
}

impl Ourselves {
    pub(super) fn now() -> Self {
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        Self {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
        }
    }

    /// The same in a new user namespace.
    pub(super) fn map(&self) -> io::Result<()> {
        let Self { uid, gid } = self;
        std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
    }
}

/// The program lives in a process namespace, whose first process is a copy of this one.
fn in_namespace(context: &mut Context, deadline: Instant) -> io::Result<Option<Report>> {
    let (go_read, go_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (status_read, status_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let written = sys::shared_counter()?;
    match sys::fork()? {
        Fork::Child => {
            drop((go_write, status_read));
            sys::exit_now(first_process(context, go_read, status_write, written))
        }
        Fork::Parent(first) => {
            drop((go_read, status_write));
            context.join_group(first)?;
            File::from(go_write).write_all(b"g")?;
            let ask_to_end = || {
                let _ = rustix::process::kill_process(first, Signal::TERM);
            };
            let scales = Scales::new(&context.plan.watched(), disk(&context.plan), written, 1).with_objects();
            let by = vigil(context, first, deadline, scales).keep(ask_to_end, || {})?;
            // The kernel ends everything in the namespace before this wait returns.
            reaper::kill_and_wait(first)?;
            let mut words = String::new();
            File::from(status_read).read_to_string(&mut words)?;
            Ok(end_report(Status::parse(&words), by))
        }
    }
}

pub(super) fn vigil<'a>(context: &'a Context, process: Pid, deadline: Instant, scales: Scales) -> Vigil<'a> {
    let limits = &context.plan.limits;
    Vigil {
        control: &context.control,
        process,
        deadline,
        grace: Duration::from_millis(limits.grace_ms),
        scales,
    }
}

fn disk(plan: &Plan) -> Disk {
    Disk {
        workspace: plan.root.clone(),
        min_free_bytes: plan.min_free_bytes,
    }
}

pub(super) fn end_report(status: Option<Status>, ending: Ending) -> Option<Report> {
    let (code, signal) = match status {
        Some(Status::Exited(code)) => (Some(code), None),
        Some(Status::Signaled(signal)) => (None, Some(signal)),
        None => (None, Some(Signal::KILL.as_raw())),
    };
    Some(Report::Ended { code, signal, ending })
}

/// Process 1 of the namespace: builds the walls, starts the program, reaps, and takes everything with
/// it when it ends.
fn first_process(context: &mut Context, go: OwnedFd, status: OwnedFd, written: &AtomicU64) -> i32 {
    if sys::pass_on_sigterm().and_then(|()| follow_parent(go)).is_err() {
        return 1;
    }
    let Some(program) = start_inside(context) else {
        return 1;
    };
    let words = reaper::wait_reaping(program, written).to_words();
    i32::from(File::from(status).write_all(words.as_bytes()).is_err())
}

/// Builds the walls around this process, the first of a namespace, and starts the program. If it cannot, it has said why.
pub(super) fn start_inside(context: &mut Context) -> Option<Pid> {
    let mut shell = Shell {
        isolated: true,
        ..Shell::default()
    };
    match furnish(context) {
        Ok(()) => shell.own_root = true,
        // Without walls of a warden the host's root is still there, and Landlock.
        Err(e) if context.walls == Walls::None => context
            .gaps
            .push(format!("mounts: the host's file system stays in sight ({e})")),
        Err(e) => {
            context.failed("the file system of the program", &e);
            return None;
        }
    }
    let lent = Walls::Warden {
        network: Network::Lent,
    };
    if context.walls != lent && sys::loopback_up().is_err() {
        context
            .gaps
            .push("loopback: the program cannot talk to itself over TCP".to_owned());
    }
    if context.plan.outlet == Outlet::Proxy
        && let Err(e) = bridge::offer(context)
    {
        context.failed("the way to the proxy", &e);
        return None;
    }
    if let Err(e) = shut_in(context, &shell) {
        context.failed("confining the first process", &e);
        return None;
    }
    let program = start_program(context, &shell);
    program.map_err(|e| context.failed("fork", &e)).ok()
}

/// A trial goes on in a process of its own; a program needs one only until it is executed.
fn start_program(context: &Context, shell: &Shell) -> io::Result<Pid> {
    if context.plan.trial.is_none() {
        return sys::borrow_memory(&mut || target::become_program(context, shell));
    }
    match sys::fork()? {
        Fork::Child => sys::exit_now(target::become_program(context, shell)),
        Fork::Parent(process) => Ok(process),
    }
}

/// Builds the file system of the program, or what it has for itself in that of a warden.
fn furnish(context: &mut Context) -> io::Result<()> {
    let gaps = match context.walls {
        Walls::Warden { .. } => mounts::furnish(&context.plan)?,
        Walls::None => {
            let _ = rustix::system::sethostname(HOST_NAME);
            mounts::enter(&context.plan, std::mem::take(&mut context.kept), Interior::Whole)?
        }
    };
    context.gaps.extend(gaps);
    Ok(())
}

/// Dies with the parent. The byte says that it still lived after that was arranged.
pub(super) fn follow_parent(go: OwnedFd) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    File::from(go).read_exact(&mut [0])
}

/// Builds the walls, and reports them, or refuses where they are lower than required.
pub(super) fn shut_in(context: &mut Context, shell: &Shell) -> io::Result<()> {
    let mut enforcement = confine(&context.plan, shell, std::mem::take(&mut context.gaps))?;
    if enforcement.tier() < context.plan.required {
        enforcement.gaps.push(format!(
            "reached {:?}, required {:?}",
            enforcement.tier(),
            context.plan.required
        ));
        context.report(&Report::Refused {
            gaps: enforcement.gaps,
        });
        sys::exit_now(1);
    }
    // Dropping rights clears the wish to die with the parent on some kernels: it is made again.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    context.report(&Report::Confined { enforcement });
    Ok(())
}

/// Without a process namespace: every orphan becomes a child of this process, which kills them all.
fn as_subreaper(context: &mut Context, deadline: Instant) -> io::Result<Option<Report>> {
    // Any process id but none turns it on; the number is not looked at.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let scratch = target::Scratch::create()?;
    let (go_read, go_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match sys::fork()? {
        Fork::Child => {
            drop(go_write);
            let code = match follow_parent(go_read) {
                Ok(()) => confined_target(context, scratch.path()),
                Err(_) => 1,
            };
            sys::exit_now(code)
        }
        Fork::Parent(program) => {
            drop(go_read);
            context.join_group(program)?;
            File::from(go_write).write_all(b"g")?;
            let written = sys::shared_counter()?;
            let scales = Scales::new(&context.plan.watched(), disk(&context.plan), written, 0);
            let by = vigil(context, program, deadline, scales)
                .keep(reaper::ask_tree_to_end, || reaper::reap_orphans(program, written))?;
            let status = reaper::kill_tree(program)?;
            scratch.remove();
            Ok(end_report(status, by))
        }
    }
}

fn confined_target(context: &mut Context, scratch: &str) -> i32 {
    let shell = Shell {
        scratch: Some(scratch.to_owned()),
        ..Shell::default()
    };
    match shut_in(context, &shell) {
        Ok(()) => target::become_program(context, &shell),
        Err(e) => {
            context.failed("confining the program", &e);
            1
        }
    }
}

/// The limits of the kernel for one process; soft and hard are the same.
pub(super) fn set_limits(limits: &ExecLimits, isolated: bool) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let both = |value| Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    let set = |resource, value: u64| match setrlimit(resource, both(value)) {
        // Nobody here may have more than there was.
        Err(Errno::PERM) => {
            let hard = getrlimit(resource).maximum.map_or(value, |hard| hard.min(value));
            setrlimit(resource, both(hard))
        }
        done => done,
    };
    set(Resource::Core, 0)?;
    set(Resource::Cpu, limits.cpu_s.max(1))?;
    set(Resource::Fsize, limits.file_bytes)?;
    set(Resource::Nofile, limits.open_files.max(16))?;
    if limits.memory_bytes > 0 {
        set(Resource::As, limits.memory_bytes)?;
    }
    if isolated {
        // Counted in the user namespace.
        set(Resource::Nproc, limits.processes.max(1))?;
    } else {
        // Counted with the user's other processes: it only stops what grows faster than it is seen.
        set(
            Resource::Nproc,
            tasks_of_user().saturating_add(limits.processes.max(1).saturating_mul(BURST)),
        )?;
    }
    Ok(())
}

/// Processes and threads of our user on this host.
fn tasks_of_user() -> u64 {
    use std::os::unix::fs::MetadataExt;
    let ours = rustix::process::getuid().as_raw();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let tasks = processes.filter_map(|entry| {
        let stat = std::fs::metadata(entry.path().join("task")).ok()?;
        // Each task is a directory with a link to its parent; a directory has two links of its own.
        (stat.uid() == ours).then(|| stat.nlink().saturating_sub(2))
    });
    tasks.sum()
}
