//! The last steps before the program: limits, directory, descriptors, exec.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
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

    /// Whatever the program left in it; everything of it has ended.
    pub(super) fn remove(self) {
        if std::fs::remove_dir_all(&self.path).is_err() {
            let _ = remove_stubborn(&self.path);
        }
    }
}

/// Removes a directory in which some are too deep for any path, or closed even to their owner. It goes down and up by
/// names, with one descriptor; nobody else is there any more.
fn remove_stubborn(top: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |dir: BorrowedFd<'_>, name: &CStr| rustix::fs::openat(dir, name, flags, Mode::empty());
    let mut at = rustix::fs::open(top, flags, Mode::empty())?;
    let mut names: Vec<CString> = Vec::new();
    loop {
        if let Some(name) = remove_files(&at)? {
            rustix::fs::chmodat(&at, &name, Mode::RWXU, AtFlags::empty())?;
            at = open(at.as_fd(), &name)?;
            names.push(name);
            continue;
        }
        let Some(name) = names.pop() else {
            return fs::remove_dir(top);
        };
        at = open(at.as_fd(), c"..")?;
        rustix::fs::unlinkat(&at, &name, AtFlags::REMOVEDIR)?;
    }
}

/// Removes what is no directory, until there is one.
fn remove_files(dir: &OwnedFd) -> io::Result<Option<CString>> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(Some(name.to_owned()));
        }
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Deeper than any path, and closed.
    fn fill(top: &Path) {
        fs::create_dir_all(top.join("wide/inside")).unwrap();
        fs::write(top.join("wide/file"), "a file").unwrap();
        std::os::unix::fs::symlink("/", top.join("link")).unwrap();
        let mut at: OwnedFd = fs::File::open(top).unwrap().into();
        for _ in 0..1500 {
            rustix::fs::mkdirat(&at, "deep", Mode::from_raw_mode(0o700)).unwrap();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            at = rustix::fs::openat(&at, "deep", flags, Mode::empty()).unwrap();
        }
        rustix::fs::mkdirat(&at, "closed", Mode::empty()).unwrap();
        fs::create_dir_all(top.join("closed/inside")).unwrap();
        fs::set_permissions(top.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    }

    #[test]
    fn nothing_is_left_of_a_stubborn_directory() {
        let scratch = Scratch::create().unwrap();
        let path = scratch.path.clone();
        fill(&path);
        scratch.remove();
        assert!(!path.exists());
        let scratch = Scratch::create().unwrap();
        fill(&scratch.path);
        remove_stubborn(&scratch.path).unwrap();
        assert!(!scratch.path.exists());
        assert!(Path::new("/etc").exists(), "links are not followed");
    }
}
