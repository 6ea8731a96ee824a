//! What it costs to execute `true`: jailed, plain, and by bubblewrap.
//!
//! All processes are counted. A warden counts from its start to its end, which come once for all executions. The first
//! process in bubblewrap is waited for by nobody, and would not be counted if this process did not adopt it.
//!
//! `unsafe`: the processor time of children is asked of the kernel, which no safe crate here does.
#![allow(unsafe_code)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aion_machine::{ExecRequest, LocalMachine, LocalOptions, RelPath, Workspace, WorkspaceSpec};
use rustix::process::WaitOptions;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How long the last process may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Executor {
    /// Our machine.
    Jail,
    /// A plain spawn: nothing holds the program in.
    Spawn,
    /// bubblewrap with all namespaces and the system's directories.
    Bwrap,
}

/// What an execution costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// Processor time of this process and of all that it started, and that they started, in seconds, mean.
    pub cpu_s: f64,
    /// The shortest on the clock, in seconds.
    pub min_wall_s: f64,
    /// What held it in; empty where nothing did.
    pub tier: String,
}

/// Executes `true` so often.
///
/// # Errors
/// If it cannot be executed.
pub fn run(runtime: &Runtime, dir: &Path, executor: Executor, reps: usize) -> Result<Cost> {
    // Any process id but none turns it on.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let machine = LocalMachine::open_root(dir, LocalOptions::default())?;
    let work = machine.workspace(&WorkspaceSpec::new(RelPath::root()))?;
    let mut tier = String::new();
    let mut once = || -> Result<()> {
        match executor {
            Executor::Jail => {
                let done = runtime.block_on(work.exec(ExecRequest::new(["true"])))?;
                tier = format!("{:?}", done.enforcement.tier());
                if !done.success() {
                    return Err("true failed in the jail".into());
                }
            }
            Executor::Spawn => succeed(&mut plain("true"))?,
            Executor::Bwrap => succeed(&mut bwrap(dir))?,
        }
        Ok(())
    };
    let before = cpu_s()?;
    once()?;
    let mut min_wall_s = f64::INFINITY;
    for _ in 0..reps {
        let started = Instant::now();
        once()?;
        min_wall_s = min_wall_s.min(started.elapsed().as_secs_f64());
    }
    drop((work, machine));
    bury_all()?;
    let cpu_s = (cpu_s()? - before) / (reps + 1) as f64;
    Ok(Cost {
        cpu_s,
        min_wall_s,
        tier,
    })
}

fn plain(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn bwrap(dir: &Path) -> Command {
    let mut command = plain("bwrap");
    command.env_clear().args([
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ]);
    for system in ["/usr", "/bin", "/lib", "/lib64"] {
        command.args(["--ro-bind-try", system, system]);
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind"]);
    command
        .arg(dir)
        .args(["/workspace", "--chdir", "/workspace", "/usr/bin/true"]);
    command.env("PATH", "/usr/bin:/bin");
    command
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(status.to_string().into())
    }
}

/// Waits until nothing is left of what was started.
fn bury_all() -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Ok(None) if Instant::now() > deadline => return Err("a process does not end".into()),
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// Processor time of this process and of its children that ended, in seconds.
fn cpu_s() -> Result<f64> {
    let of = |whom| {
        // SAFETY: a `rusage` of zeros is one.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a value that outlives the call.
        if unsafe { libc::getrusage(whom, &raw mut usage) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
        Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
    };
    Ok(of(libc::RUSAGE_SELF)? + of(libc::RUSAGE_CHILDREN)?)
}

/// Memory that is really there, to be held while executions are measured.
#[derive(Debug)]
pub struct Resident(Vec<u8>);

impl Resident {
    /// So many bytes, all touched.
    pub fn of(bytes: usize) -> Self {
        let mut memory = vec![0; bytes];
        for page in memory.chunks_mut(4096) {
            page[0] = 1;
        }
        Self(memory)
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}
