//! A file system of its own for the program: the system read-only, the workspace, and nothing else.
//!
//! Everything that is to be seen is first taken as a detached copy of a mount; then an empty file
//! system is mounted, the copies are hung into it, and it becomes the root. What was not taken does
//! not exist any more. If a step fails, what was mounted is taken down and the host's root stays.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    move_mount, open_tree, unmount,
};

use super::identity::Kept;
use super::plan::Plan;
use super::sys;
use crate::RelPath;

/// Where the program sees its workspace.
pub(crate) const WORKSPACE: &str = "/workspace";
/// What the new root is built on: a directory that every system has.
const BASE: &str = "/tmp";

const RDONLY: u64 = 1;
const NOSUID: u64 = 2;
const NODEV: u64 = 4;
const NOEXEC: u64 = 8;

/// Directories of programs and libraries.
pub(crate) const SYSTEM: [&str; 10] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix", "/gnu",
];
/// What programs need of `/etc`; passwords, keys and the host's configuration are not among it.
pub(crate) const ETC: [&str; 22] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "crypto-policies",
    "fonts",
    "group",
    "host.conf",
    "inputrc",
    "java",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "passwd",
    "perl",
    "pki",
    "protocols",
    "services",
];
/// The same, for certificates, whose private keys lie beside them.
pub(crate) const ETC_SSL: [&str; 2] = ["/etc/ssl/certs", "/etc/ssl/openssl.cnf"];
/// Devices that are harmless.
pub(super) const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// What one place of the new root holds.
pub(super) enum Source {
    Link(PathBuf),
    Tree(OwnedFd),
    File(OwnedFd),
}

/// How much of a file system is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interior {
    /// All that a program sees.
    Whole,
    /// What all executions in a workspace see alike; the rest is for [`furnish`].
    Shared,
}

/// Moves this process into its own file system. Returns what could not be had.
pub(super) fn enter(plan: &Plan, kept: Kept, interior: Interior) -> io::Result<Vec<String>> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let workspace = match kept.workspace {
        Some(mapped) => mapped,
        None => workspace(plan)?,
    };
    let places = places(plan, kept.read_only)?;
    mount(
        "tmpfs",
        BASE,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"size=1m,mode=755",
    )?;
    let built = build(plan, &workspace, places, interior);
    if built.is_err() {
        let _ = rustix::process::chdir("/");
        let _ = unmount(BASE, UnmountFlags::DETACH);
    }
    built
}

/// What one execution has for itself in a file system that is there already: its processes in sight, room for
/// temporary files, and what it may not change. Returns what could not be had.
///
/// What is hidden by these mounts stays hidden: in a user namespace of its own nobody can take them down.
pub(super) fn furnish(plan: &Plan) -> io::Result<Vec<String>> {
    rustix::process::chdir("/")?;
    let gaps = protect_all(plan)?;
    let mut hidden = Vec::new();
    for path in plan.read_only.iter().filter(|path| is_private(path)) {
        hidden.extend(read_only(path)?.map(|source| (path, source)));
    }
    temporaries(plan)?;
    for (path, source) in hidden {
        place(path.strip_prefix("/").unwrap_or(path), source)?;
    }
    mount("proc", "proc", "proc", PROC, None)?;
    Ok(gaps)
}

/// Whether the room that an execution has for itself would hide a path.
fn is_private(path: &Path) -> bool {
    ["/tmp", "/dev/shm"].iter().any(|room| path.starts_with(room))
}

const PROC: MountFlags = MountFlags::RDONLY
    .union(MountFlags::NOSUID)
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// The workspace, if it is still the directory that the service holds.
pub(super) fn workspace(plan: &Plan) -> io::Result<OwnedFd> {
    let tree = take(Path::new(&plan.root), NOSUID | NODEV)?;
    let stat = rustix::fs::fstat(&tree)?;
    if (stat.st_dev, stat.st_ino) != (plan.device, plan.inode) {
        return Err(io::Error::other("the workspace is not the directory it was"));
    }
    Ok(tree)
}

/// Something of the host that may only be read, if it is there.
pub(super) fn read_only(path: &Path) -> io::Result<Option<Source>> {
    source(path, RDONLY | NOSUID | NODEV)
}

fn places(plan: &Plan, kept: Vec<(PathBuf, Source)>) -> io::Result<Vec<(PathBuf, Source)>> {
    let system = SYSTEM.iter().map(PathBuf::from);
    let etc = ETC
        .iter()
        .map(|name| Path::new("/etc").join(name))
        .chain(ETC_SSL.iter().map(PathBuf::from));
    let allowed = if kept.is_empty() {
        plan.read_only.as_slice()
    } else {
        &[]
    };
    let mut places = Vec::new();
    for path in system.chain(etc).chain(allowed.iter().cloned()) {
        if let Some(source) = read_only(&path)? {
            places.push((path, source));
        }
    }
    places.extend(kept);
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        if let Some(source) = source(&path, NOSUID | NOEXEC)? {
            places.push((path, source));
        }
    }
    Ok(places)
}

fn source(path: &Path, attributes: u64) -> io::Result<Option<Source>> {
    let Ok(kind) = fs::symlink_metadata(path) else {
        return Ok(None);
    };
    if kind.is_symlink() {
        return Ok(Some(Source::Link(fs::read_link(path)?)));
    }
    let tree = take(path, attributes)?;
    Ok(Some(if kind.is_dir() {
        Source::Tree(tree)
    } else {
        Source::File(tree)
    }))
}

/// A detached copy of what is mounted at a path, with more restrictions.
fn take(path: &Path, attributes: u64) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, path, flags)?;
    sys::mount_setattr(&tree, attributes, libc::AT_RECURSIVE)?;
    Ok(tree)
}

fn build(
    plan: &Plan,
    workspace: &OwnedFd,
    places: Vec<(PathBuf, Source)>,
    interior: Interior,
) -> io::Result<Vec<String>> {
    let mut gaps = Vec::new();
    rustix::process::chdir(BASE)?;
    for dir in [
        "workspace",
        "proc",
        "tmp",
        "dev",
        "dev/shm",
        "etc",
        "etc/ssl",
        "run",
        "var",
    ] {
        fs::create_dir(dir)?;
    }
    hang(workspace, Path::new("workspace"))?;
    if interior == Interior::Whole {
        gaps.extend(protect_all(plan)?);
        // First, so that what is to be seen below them is not hidden by them.
        temporaries(plan)?;
    }
    for (path, source) in places {
        place(path.strip_prefix("/").unwrap_or(&path), source)?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        symlink(to, Path::new("dev").join(name))?;
    }
    symlink("/tmp", "var/tmp")?;
    match interior {
        // In which users are mapped, and beside which the kernel allows another one.
        Interior::Shared => mount("proc", "proc", "proc", PROC - MountFlags::RDONLY, None)?,
        Interior::Whole => {
            if let Err(e) = mount("proc", "proc", "proc", PROC, None) {
                gaps.push(format!("mounts: there is no /proc ({e})"));
            }
        }
    }
    become_root()?;
    Ok(gaps)
}

/// Puts one thing into the new root; a path that would be a second thing in the same place is left out.
fn place(path: &Path, source: Source) -> io::Result<()> {
    if path.symlink_metadata().is_ok() && !path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match source {
        Source::Link(to) => symlink(to, path),
        Source::Tree(tree) => {
            fs::create_dir_all(path)?;
            hang(&tree, path)
        }
        Source::File(file) => {
            fs::File::create(path)?;
            hang(&file, path)
        }
    }
}

/// Hangs a part of the workspace over itself, read-only; its parents too, so that none of them can be moved
/// away with it, each of them once. Links on the way are not followed. Returns why it could not be done.
fn protect(path: &RelPath, parents: &mut HashSet<PathBuf>) -> io::Result<Option<String>> {
    let names: Vec<&str> = path.as_str().split('/').filter(|name| !name.is_empty()).collect();
    let mut at = PathBuf::from("workspace");
    for (i, name) in names.iter().enumerate() {
        at.push(name);
        let last = i + 1 == names.len();
        if !last && !parents.insert(at.clone()) {
            continue;
        }
        let tree = match open_tree(
            CWD,
            &at,
            OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_SYMLINK_NOFOLLOW,
        ) {
            Ok(tree) => tree,
            Err(rustix::io::Errno::NOENT) => {
                return Ok(Some(format!("protected: `{path}` is not there, and can be made")));
            }
            Err(e) => return Err(e.into()),
        };
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode);
        if kind.is_symlink() {
            return Err(io::Error::other(format!(
                "`{path}` is to be protected and goes through a link"
            )));
        }
        if last {
            sys::mount_setattr(&tree, RDONLY, 0)?;
        }
        hang(&tree, &at)?;
    }
    Ok(None)
}

fn hang(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    Ok(move_mount(
        tree.as_fd(),
        "",
        CWD,
        path,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}

/// Everything of the plan that is to be protected.
fn protect_all(plan: &Plan) -> io::Result<Vec<String>> {
    let mut parents = HashSet::new();
    let protected = plan.protected.iter().map(|path| protect(path, &mut parents));
    protected.filter_map(Result::transpose).collect()
}

/// Room for temporary files and shared memory.
fn temporaries(plan: &Plan) -> io::Result<()> {
    let tmp = room(plan.limits.tmp_bytes);
    temporary(
        "tmp",
        CStr::from_bytes_with_nul(tmp.as_bytes()).map_err(io::Error::other)?,
    )?;
    temporary("dev/shm", c"size=16m,nr_inodes=9k,mode=1777")
}

/// The options of a file system in memory of this size. Names take memory too, of the kernel's own: there are two for
/// each page of it.
fn room(bytes: u64) -> String {
    let names = bytes / 2048 + 1024;
    format!("size={bytes},nr_inodes={names},mode=1777\0")
}

fn temporary(path: &str, data: &CStr) -> io::Result<()> {
    Ok(mount(
        "tmpfs",
        path,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        data,
    )?)
}

/// The current directory becomes the root; the old one is not reachable any more, and the new one is
/// read-only apart from what hangs in it.
fn become_root() -> io::Result<()> {
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    let root = rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    sys::mount_setattr(&root, RDONLY, 0)
}
