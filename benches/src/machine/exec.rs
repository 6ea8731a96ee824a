//! What it costs to execute `true`: jailed, plain, and by bubblewrap.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use aion_machine::{ExecRequest, LocalMachine, LocalOptions, RelPath, Workspace, WorkspaceSpec};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

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
    /// Processor time of this process and of all that it started, in seconds, mean.
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
    once()?;
    let before = cpu_s()?;
    let mut min_wall_s = f64::INFINITY;
    for _ in 0..reps {
        let started = Instant::now();
        once()?;
        min_wall_s = min_wall_s.min(started.elapsed().as_secs_f64());
    }
    let cpu_s = (cpu_s()? - before) / reps as f64;
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

/// Processor time of this process and of its children that ended, in seconds.
fn cpu_s() -> Result<f64> {
    // User and system time of the process, then of its children, after the name in parentheses.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let rest = stat.rsplit_once(')').ok_or("the format of /proc/self/stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: f64 = fields
        .get(11..15)
        .ok_or("the format of /proc/self/stat")?
        .iter()
        .map(|field| field.parse::<f64>())
        .sum::<std::result::Result<f64, _>>()?;
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
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
