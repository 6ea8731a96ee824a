//! Executions in bubblewrap, with our supervisor inside.
//!
//! The namespaces and the mounts are made by `bwrap`, a program that many hosts have and that distributions and
//! others look after. By itself it leaves sockets of many families, new user namespaces, keyrings, set-user-id bits and
//! unlimited files to a program, and its first process keeps the environment that it was started with; so it is started
//! with an empty one, and what it starts is not the program but our supervisor, which adds Landlock, the system call
//! filter and the limits, and reports what holds.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use async_trait::async_trait;

use crate::supervisor::{self, ETC, ETC_SSL, SYSTEM, WORKSPACE};
use crate::{
    Capabilities, Enforcement, Error, LocalMachine, LocalOptions, Machine, RelPath, Result, RunAs,
    Supervisor, Workspace, WorkspaceSpec,
};

/// Where it usually is.
pub const BUBBLEWRAP: &str = "/usr/bin/bwrap";
/// Before this, options that are needed had other meanings or were not there.
const OLDEST: (u32, u32) = (0, 5);
/// Before this, a link in the way of a mount was followed while the root was built.
const LINKS_SAFE: (u32, u32) = (0, 12);
/// What it must understand.
const NEEDED: [&str; 13] = [
    "--unshare-all",
    "--new-session",
    "--die-with-parent",
    "--cap-drop",
    "--hostname",
    "--bind",
    "--ro-bind",
    "--ro-bind-try",
    "--proc",
    "--dev",
    "--tmpfs",
    "--remount-ro",
    "--chdir",
];
/// Where our supervisor is seen inside.
const INSIDE: &str = "/run/aion-supervisor";
/// What the supervisor ends with when nobody tells it what to do.
const NOTHING_TO_DO: i32 = 2;

/// This host as a machine whose executions are in bubblewrap. Files are those of a [`LocalMachine`].
///
/// ```no_run
/// # use aion_machine::{BUBBLEWRAP, BubblewrapMachine, ExecRequest, LocalOptions, Machine, RelPath, WorkspaceSpec};
/// # async fn run() -> Result<(), aion_machine::Error> {
/// let machine = BubblewrapMachine::open_root("data", LocalOptions::default(), BUBBLEWRAP)?;
/// let work = machine.open(&WorkspaceSpec::new(RelPath::root())).await?;
/// println!("{:?}", work.exec(ExecRequest::new(["true"])).await?.enforcement);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct BubblewrapMachine {
    id: String,
    local: LocalMachine,
}

impl BubblewrapMachine {
    /// Holds a directory, which must exist, and tries the program out.
    ///
    /// # Errors
    /// [`Error::ConfinementUnavailable`] with what is missing if the program is not there, too old, does not understand
    /// an option, or cannot set up its namespaces here, or if programs would be root and [`RunAs::Service`] is not chosen; [`Error::NoSupervisor`]; a directory that cannot be opened.
    pub fn open_root(
        path: impl AsRef<Path>,
        mut options: LocalOptions,
        program: impl Into<PathBuf>,
    ) -> Result<Self> {
        check_user(options.run_as)?;
        let bubblewrap = Bubblewrap::find(program.into(), &options)?;
        let id = format!("bubblewrap:{}", path.as_ref().display());
        options.bubblewrap = Some(Arc::new(bubblewrap));
        let opened = LocalMachine::open_root(&path, options);
        let local = opened.map_err(|e| Error::from_io("open", &RelPath::root(), e))?;
        Ok(Self { id, local })
    }
}

#[async_trait]
impl Machine for BubblewrapMachine {
    fn id(&self) -> &str {
        &self.id
    }

    fn capabilities(&self) -> Capabilities {
        self.local.capabilities()
    }

    async fn open(&self, spec: &WorkspaceSpec) -> Result<Arc<dyn Workspace>> {
        self.local.open(spec).await
    }

    async fn probe(&self) -> Result<Enforcement> {
        self.local.probe().await
    }
}

/// A program that was tried out.
#[derive(Debug)]
pub(crate) struct Bubblewrap {
    pub(crate) program: PathBuf,
    supervisor: PathBuf,
    read_only: Vec<PathBuf>,
    sizes: Sizes,
    /// What is known to be weak about it.
    pub(crate) gaps: Vec<String>,
}

/// Whether temporary file systems can have a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sizes {
    Set,
    Unlimited,
}

impl Bubblewrap {
    fn find(program: PathBuf, options: &LocalOptions) -> Result<Self> {
        let version = version(&program)?;
        let (major, minor) = version;
        let mut gaps = Vec::new();
        if version < OLDEST {
            let (a, b) = OLDEST;
            return Err(unavailable(&format!(
                "version {major}.{minor} is older than {a}.{b}"
            )));
        }
        if version < LINKS_SAFE {
            gaps.push(format!(
                "bubblewrap: version {major}.{minor} is older than 0.12, which follows no link while it builds the root"
            ));
        }
        let help = said(&program, "--help")?;
        let knows = |option: &str| help.split_whitespace().any(|word| word == option);
        let missing: Vec<_> = NEEDED.into_iter().filter(|option| !knows(option)).collect();
        if !missing.is_empty() {
            return Err(unavailable(&format!("it does not know {}", missing.join(", "))));
        }
        let sizes = if knows("--size") {
            Sizes::Set
        } else {
            Sizes::Unlimited
        };
        if sizes == Sizes::Unlimited {
            gaps.push("bubblewrap: it cannot limit the size of /tmp".to_owned());
        }
        let found = Self {
            program,
            supervisor: supervisor(options)?,
            read_only: options.read_only.clone(),
            sizes,
            gaps,
        };
        found.try_out()?;
        Ok(found)
    }

    /// Sets everything up once, around a supervisor that nobody tells what to do.
    fn try_out(&self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command
            .args(self.arguments("/usr", 1 << 20))
            .env_clear()
            .current_dir("/");
        let output = output(&mut command)?;
        if output.status.code() == Some(NOTHING_TO_DO) {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let first = words.lines().next().unwrap_or("it ended without a word");
        Err(unavailable(&format!(
            "it cannot set up its namespaces here ({first})"
        )))
    }

    /// Its whole command line for a workspace.
    pub(crate) fn arguments(&self, root: &str, tmp_bytes: u64) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |more: &[&str]| words.extend(more.iter().map(OsString::from));
        add(&["--unshare-all", "--new-session", "--die-with-parent"]);
        add(&["--cap-drop", "ALL", "--hostname", "aion"]);
        for path in SYSTEM.iter().chain(&ETC_SSL) {
            add(&["--ro-bind-try", path, path]);
        }
        for name in ETC {
            let path = format!("/etc/{name}");
            add(&["--ro-bind-try", &path, &path]);
        }
        add(&["--proc", "/proc", "--dev", "/dev"]);
        for (path, bytes) in [("/dev/shm", 16 << 20), ("/tmp", tmp_bytes)] {
            if self.sizes == Sizes::Set {
                add(&["--size", &bytes.max(1).to_string()]);
            }
            add(&["--tmpfs", path]);
        }
        add(&["--bind", root, WORKSPACE]);
        let own = [(self.supervisor.as_path(), Path::new(INSIDE))];
        let given = self.read_only.iter().map(|path| (path.as_path(), path.as_path()));
        for (from, to) in own.into_iter().chain(given) {
            words.extend(["--ro-bind".into(), from.into(), to.into()]);
        }
        let last = [
            "--remount-ro",
            "/",
            "--chdir",
            "/",
            "--",
            INSIDE,
            supervisor::ARGUMENT,
        ];
        words.extend(last.map(OsString::from));
        words
    }
}

/// Programs are the service's own user, which is not to be root unless the operator says so.
fn check_user(run_as: RunAs) -> Result<()> {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    match run_as {
        RunAs::Service => Ok(()),
        RunAs::Unprivileged if !uid.is_root() => Ok(()),
        RunAs::User {
            uid: wanted,
            gid: group,
        } if (wanted, group) == (uid.as_raw(), gid.as_raw()) => Ok(()),
        _ => Err(unavailable(
            "programs would be the user that the service is; start it as another user, or choose RunAs::Service",
        )),
    }
}

fn unavailable(gap: &str) -> Error {
    Error::ConfinementUnavailable {
        gaps: vec![format!("bubblewrap: {gap}")],
    }
}

fn output(command: &mut Command) -> Result<Output> {
    let done = command.stdin(Stdio::null()).output();
    done.map_err(|e| unavailable(&format!("it cannot be started ({e})")))
}

/// What it writes when it is asked something, on either output.
fn said(program: &Path, question: &str) -> Result<String> {
    let answer = output(Command::new(program).arg(question).env_clear())?;
    let both = [answer.stdout, answer.stderr].concat();
    Ok(String::from_utf8_lossy(&both).into_owned())
}

/// `bubblewrap 0.8.0`.
fn version(program: &Path) -> Result<(u32, u32)> {
    let answer = said(program, "--version")?;
    let number = answer.trim().rsplit(' ').next().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => Err(unavailable("it does not tell its version")),
    }
}

/// The program that is to supervise inside, where nothing else of ours is seen.
fn supervisor(options: &LocalOptions) -> Result<PathBuf> {
    let fail = |e: std::io::Error| Error::supervisor(e.to_string());
    match &options.supervisor {
        Supervisor::Program(path) => path.canonicalize().map_err(fail),
        Supervisor::Ourselves if supervisor::is_installed() => std::env::current_exe().map_err(fail),
        Supervisor::Ourselves => Err(Error::NoSupervisor),
    }
}
