//! The last steps before the program: limits, directory, descriptors, exec.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::confine::Shell;
use super::mounts::WORKSPACE;
use super::plan::Report;
use super::run::{Context, set_limits};
use super::trial;

/// Replaces this process by the program. Returns an exit code only if that failed, after saying why.
pub(super) fn become_program(context: &Context, shell: &Shell) -> i32 {
    let report = match prepare(context, shell) {
        Err(Stop::Directory(e)) => Report::NoDirectory {
            reason: e.to_string(),
        },
        Err(Stop::Other(e)) => Report::Failed {
            reason: e.to_string(),
        },
        Ok(_) if let Some(trial) = &context.plan.trial => return trial::run(trial),
        Ok(mut command) => match command.exec() {
            e if is_about_the_program(&e) => Report::NoProgram {
                reason: e.to_string(),
            },
            e => Report::Failed {
                reason: format!("exec: {e}"),
            },
        },
    };
    context.report(&report);
    127
}

enum Stop {
    Directory(io::Error),
    Other(io::Error),
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        Self::Other(e)
    }
}

fn prepare(context: &Context, shell: &Shell) -> Result<Command, Stop> {
    let plan = &context.plan;
    rustix::process::setsid().map_err(io::Error::from)?;
    enter_directory(context, shell).map_err(|e| Stop::Directory(e.into()))?;
    set_limits(&plan.limits, shell.isolated)?;
    let mut command = Command::new(&plan.argv[0]);
    command
        .args(&plan.argv[1..])
        .env_clear()
        .envs(plan.env.iter().cloned());
    if let Some(scratch) = &shell.scratch {
        command.env("TMPDIR", scratch).env("HOME", scratch);
    }
    command.stdin(Stdio::from(context.stdin.try_clone()?));
    Ok(command)
}

/// The working directory is resolved below the workspace, links and all.
fn enter_directory(context: &Context, shell: &Shell) -> Result<(), Errno> {
    let plan = &context.plan;
    let root = if shell.own_root { WORKSPACE } else { &plan.root };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&root)?;
    if (stat.st_dev, stat.st_ino) != (plan.device, plan.inode) {
        return Err(Errno::STALE);
    }
    // The filter answers ENOSYS to openat2, so the walk is by single steps that follow no link.
    let mut at = root;
    for name in plan.cwd.as_str().split('/').filter(|name| !name.is_empty()) {
        at = rustix::fs::openat(at.as_fd(), name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    rustix::process::fchdir(&at)
}

fn is_about_the_program(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::ENOENT | libc::EACCES | libc::ENOEXEC | libc::ENOTDIR | libc::EPERM | libc::E2BIG)
    )
}

/// A directory for temporary files, where the program has no `/tmp` of its own.
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(super) fn create() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let pid = std::process::id();
        for attempt in 0..1000 {
            let path = PathBuf::from(format!("/tmp/aion-exec-{pid}-{attempt}"));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self { path }),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(super) fn path(&self) -> &str {
        self.path.to_str().unwrap_or("/tmp")
    }

    pub(super) fn remove(self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
