//! What a tree of processes uses, as `/proc` shows it: for limits that no cgroup holds.
//!
//! A look is a picture of one moment; between two of them a program can go above its limit for a
//! while. What cannot be seen is in docs/SECURITY.md: files in memory that are only on their way
//! through a socket, and what a process wrote that ended unseen and that nobody waited for. A process that lets
//! nobody look is ended after a moment: what it uses would be anybody's guess.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::process::Pid;
use rustix::thread::LinkNameSpaceType;

use super::mounts::WORKSPACE;
use super::objects;
use super::reaper;
use crate::{Ending, ExecLimits};

/// How many looks in a row may find a process that lets nobody look: before it is executed, a program is one.
const HIDDEN_LOOKS: u32 = 5;

/// The unit of `st_blocks`, and of what `wait4` says was written.
const BLOCK_BYTES: u64 = 512;

/// What a tree uses.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Usage {
    /// Processes and their threads.
    threads: u64,
    /// Pages in memory; those that several processes share are counted for each.
    resident_bytes: u64,
    /// Files in memory that a process holds open, and objects that no process holds.
    unnamed_bytes: u64,
    /// What living processes wrote to disks, with those of their children that they waited for.
    written_bytes: u64,
    /// Processes that let nobody look.
    hidden: u64,
}

/// Where a program writes.
pub(super) struct Disk {
    /// The workspace on the host.
    pub(super) workspace: String,
    /// A program that writes may leave no less than this free.
    pub(super) min_free_bytes: u64,
}

impl Disk {
    /// Whether there is too little space left, wherever the workspace is in our file system.
    fn is_full(&self, own_root: bool) -> bool {
        let path = if own_root { WORKSPACE } else { &self.workspace };
        let free = rustix::fs::statvfs(path).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        free.is_ok_and(|free| free < self.min_free_bytes)
    }
}

/// Holds what a tree uses against its limits.
pub(super) struct Scales {
    limits: ExecLimits,
    disk: Disk,
    /// Blocks written by processes that somebody of the supervisor took leave of.
    departed_blocks: &'static AtomicU64,
    page_bytes: u64,
    /// How many processes of the tree are not the program's.
    overhead: u64,
    tree: Tree,
    objects: Objects,
    /// How many looks in a row have found a process that lets nobody look.
    hidden_looks: u32,
}

/// Whose tree it is.
enum Tree {
    /// That of this process, or all in the namespace whose `/proc` it sees.
    Ours,
    /// That of the first process of another namespace, and, once it was seen, the `/proc` of that.
    Of(Pid, Option<OwnedFd>),
}

/// Whose segments, queues and semaphores we would see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Objects {
    /// Those of others, who may be the host.
    Others,
    /// Those of the tree.
    Ours,
}

/// Where ours is.
const PROC: &str = "/proc";

impl Scales {
    /// `departed_blocks` is counted up by whoever takes leave of orphans; so many processes are ours.
    pub(super) fn new(
        limits: &ExecLimits,
        disk: Disk,
        departed_blocks: &'static AtomicU64,
        overhead: u64,
    ) -> Self {
        Self {
            limits: limits.clone(),
            disk,
            departed_blocks,
            page_bytes: rustix::param::page_size() as u64,
            overhead,
            tree: Tree::Ours,
            objects: Objects::Others,
            hidden_looks: 0,
        }
    }

    /// For a tree that has its segments, queues and semaphores in a namespace with this process.
    pub(super) fn with_objects(mut self) -> Self {
        self.objects = Objects::Ours;
        self
    }

    /// For the tree of the first process of another namespace, in the same file system but for its `/proc`.
    pub(super) fn of(mut self, first: Pid) -> Self {
        self.tree = Tree::Of(first, None);
        self
    }

    /// What is above its limit now, if anything is.
    pub(super) fn look(&mut self) -> Option<Ending> {
        let (proc, pids) = self.pids();
        let mut usage = pids
            .iter()
            .fold(Usage::default(), |sum, pid| self.add(sum, &proc.join(pid)));
        if self.sees_objects(&proc, &pids) {
            usage.unnamed_bytes += objects::bytes(&proc);
        }
        if self.is_hiding(&usage) {
            return Some(Ending::DiskLimit);
        }
        let above = |used: u64, limit: u64| limit > 0 && used > limit;
        if above(usage.threads.saturating_sub(self.overhead), self.limits.processes) {
            return Some(Ending::ProcessLimit);
        }
        if above(
            usage.resident_bytes + usage.unnamed_bytes,
            self.limits.total_memory_bytes,
        ) {
            // The cheap sum counts shared pages for each who shares them: now it is worth to look closely.
            let exact: u64 = pids.iter().map(|pid| proportional_bytes(&proc.join(pid))).sum();
            if exact + usage.unnamed_bytes > self.limits.total_memory_bytes {
                return Some(Ending::MemoryLimit);
            }
        }
        let departed = self.departed_blocks.load(Ordering::Relaxed) * BLOCK_BYTES;
        let written = usage.written_bytes + departed;
        let full = written > 0 && self.disk.is_full(self.has_own_root());
        (full || above(written, self.limits.written_bytes)).then_some(Ending::DiskLimit)
    }

    fn has_own_root(&self) -> bool {
        matches!(self.tree, Tree::Of(..)) || !sees_host()
    }

    /// Whether some process has not let anybody look for too long. A watcher who has rights over the namespace of the
    /// program sees all but programs of the system that nobody may read.
    fn is_hiding(&mut self, usage: &Usage) -> bool {
        let hides = matches!(self.tree, Tree::Ours) && usage.hidden > self.overhead;
        self.hidden_looks = if hides { self.hidden_looks + 1 } else { 0 };
        self.hidden_looks >= HIDDEN_LOOKS
    }

    /// Whether what is listed of segments, queues and semaphores is that of the tree. They are those of who looks: a
    /// watcher of another namespace goes there first, by a process that is in it.
    fn sees_objects(&mut self, proc: &Path, pids: &[String]) -> bool {
        if self.objects == Objects::Others && matches!(self.tree, Tree::Of(_, Some(_))) {
            // The first process itself lets nobody look.
            let mut others = pids.iter().filter(|pid| *pid != "1");
            if others.any(|pid| join_objects(&proc.join(pid))) {
                self.objects = Objects::Ours;
            }
        }
        self.objects == Objects::Ours
    }

    /// The processes of the tree, by their names in a `/proc`.
    fn pids(&mut self) -> (PathBuf, Vec<String>) {
        let ourselves = rustix::process::getpid();
        match &mut self.tree {
            Tree::Of(first, inside) => {
                *inside = inside.take().or_else(|| proc_of(*first));
                match inside {
                    Some(inside) => {
                        let proc = Path::new("/proc/self/fd").join(inside.as_raw_fd().to_string());
                        let all = listed(&proc);
                        (proc, all)
                    }
                    // Nobody is in it yet but the first.
                    None => (
                        PROC.into(),
                        names(below(*first).into_iter().flatten().chain([*first])),
                    ),
                }
            }
            Tree::Ours if sees_host() => {
                let below = below(ourselves).unwrap_or_else(|| reaper::descendants(ourselves));
                (PROC.into(), names(below.into_iter()))
            }
            // The `/proc` of the namespace, which shows nothing else.
            Tree::Ours => (PROC.into(), listed(Path::new(PROC))),
        }
    }

    fn add(&self, sum: Usage, process: &Path) -> Usage {
        let resident = self.resident_bytes(process);
        let written = written_bytes(process);
        Usage {
            threads: sum.threads + threads(process),
            resident_bytes: sum.resident_bytes + resident,
            unnamed_bytes: sum.unnamed_bytes + unnamed_bytes(process),
            written_bytes: sum.written_bytes + written.unwrap_or(0),
            hidden: sum.hidden + u64::from(written.is_none()),
        }
    }

    fn resident_bytes(&self, process: &Path) -> u64 {
        let statm = read(process, "statm");
        let pages = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or(0) * self.page_bytes
    }
}

/// Whether `/proc`, and so the whole file system, is still the one that this process was started in. The
/// first process of the namespace changes it for us too.
fn sees_host() -> bool {
    let ourselves = rustix::process::getpid().as_raw_nonzero().to_string();
    fs::read_link("/proc/self").is_ok_and(|name| name.to_str() == Some(&ourselves))
}

fn names(pids: impl Iterator<Item = Pid>) -> Vec<String> {
    pids.map(|pid| pid.as_raw_nonzero().to_string()).collect()
}

/// All processes that a `/proc` shows.
fn listed(proc: &Path) -> Vec<String> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        .collect()
}

/// The `/proc` that programs in the namespace of a first process see. It is taken from one of them: the first process
/// itself lets nobody look.
fn proc_of(first: Pid) -> Option<OwnedFd> {
    let open = |pid: Pid| {
        let path = format!("/proc/{}/root/proc", pid.as_raw_nonzero());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open(path, flags, Mode::empty()).ok()?;
        // We are in sight in our own, and in none of a namespace below.
        let ours = rustix::fs::readlinkat(&proc, "self", Vec::new()).is_ok();
        let is_proc = rustix::fs::statat(&proc, "stat", AtFlags::empty()).is_ok();
        (is_proc && !ours).then_some(proc)
    };
    children(first)?.into_iter().find_map(open)
}

fn read(process: &Path, name: &str) -> String {
    fs::read_to_string(process.join(name)).unwrap_or_default()
}

/// The number after a key in the form `key: 123`.
fn field(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// A process that is over but not yet buried has one too.
fn threads(process: &Path) -> u64 {
    let stat = read(process, "stat");
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let count = after_name.split_ascii_whitespace().nth(17);
    count.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Memory of a process that is not a file on a disk; a page that several share is divided among them.
fn proportional_bytes(process: &Path) -> u64 {
    let rollup = read(process, "smaps_rollup");
    let parts = field(&rollup, "Pss_Anon").zip(field(&rollup, "Pss_Shmem"));
    let kib = parts.map(|(anon, shared)| anon + shared);
    kib.or_else(|| field(&rollup, "Pss"))
        .or_else(|| field(&read(process, "status"), "RssAnon"))
        .unwrap_or(0)
        * 1024
}

/// Nothing if the process does not let us look; one that is gone has written nothing any more.
fn written_bytes(process: &Path) -> Option<u64> {
    let io = match fs::read_to_string(process.join("io")) {
        Ok(io) => io,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return None,
        Err(_) => String::new(),
    };
    let written = field(&io, "write_bytes").unwrap_or(0);
    Some(written.saturating_sub(field(&io, "cancelled_write_bytes").unwrap_or(0)))
}

/// Goes to where a process has its segments, queues and semaphores.
fn join_objects(process: &Path) -> bool {
    let joined = fs::File::open(process.join("ns/ipc")).and_then(|there| {
        let kind = LinkNameSpaceType::InterProcessCommunication;
        Ok(rustix::thread::move_into_link_name_space(
            there.as_fd(),
            Some(kind),
        )?)
    });
    joined.is_ok()
}

/// Files in memory that a process holds open: they need not be mapped by anybody.
fn unnamed_bytes(process: &Path) -> u64 {
    let mut seen = HashSet::new();
    let Ok(entries) = fs::read_dir(process.join("fd")) else {
        return 0;
    };
    entries
        .flatten()
        .filter(|entry| {
            fs::read_link(entry.path())
                .is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"))
        })
        .filter_map(|entry| fs::metadata(entry.path()).ok())
        .filter(|file| seen.insert((file.dev(), file.ino())))
        .map(|file| file.blocks() * BLOCK_BYTES)
        .sum()
}

/// All processes below one, if the kernel lists children.
fn below(ancestor: Pid) -> Option<Vec<Pid>> {
    let mut found = Vec::new();
    let mut open = vec![ancestor];
    while let Some(pid) = open.pop() {
        let children = children(pid);
        if pid == ancestor && children.is_none() {
            return None;
        }
        open.extend(children.iter().flatten());
        found.extend(children.into_iter().flatten());
    }
    Some(found)
}

fn children(pid: Pid) -> Option<Vec<Pid>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).ok()?;
    let mut all = Vec::new();
    for task in tasks.flatten() {
        let list = fs::read_to_string(task.path().join("children")).ok()?;
        let pids = list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        all.extend(pids.filter_map(Pid::from_raw));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> PathBuf {
        Path::new(PROC).join("self")
    }

    #[test]
    fn what_proc_says_is_understood() {
        assert_eq!(field("rchar: 1\nwrite_bytes: 4096\n", "write_bytes"), Some(4096));
        assert_eq!(field("Pss:     12 kB\nPss_Anon:   7 kB\n", "Pss_Anon"), Some(7));
        assert_eq!(field("Pss:     12 kB\n", "Pss"), Some(12));
        assert_eq!(field("", "Pss"), None);
        assert!(threads(&own()) >= 1);
        assert!(proportional_bytes(&own()) > 10 << 10);
    }

    /// A file in memory counts although nobody maps it.
    #[test]
    fn a_file_in_memory_is_seen() {
        let before = unnamed_bytes(&own());
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&file, &[1; 8192]).unwrap();
        assert!(unnamed_bytes(&own()) >= before + 8192);
    }

    static NONE: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn a_child_is_below_and_above_a_limit() {
        let mut child = std::process::Command::new("sleep").arg("5").spawn().unwrap();
        let ourselves = rustix::process::getpid();
        let pid = Pid::from_child(&child);
        assert!(below(ourselves).is_none_or(|all| all.contains(&pid)));
        let disk = |min_free_bytes| Disk {
            workspace: "/".to_owned(),
            min_free_bytes,
        };
        assert!(disk(u64::MAX).is_full(false) && !disk(0).is_full(false));
        let look = |limits: &ExecLimits| Scales::new(limits, disk(0), &NONE, 0).look();
        let enough = ExecLimits::default();
        assert_eq!(look(&enough), None);
        assert_eq!(
            look(&enough.clone().with_total_memory_bytes(1)),
            Some(Ending::MemoryLimit)
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
