//! Control groups: limits of memory, processes and processor time that the kernel holds for a whole tree.
//!
//! The operator gives the service a directory of the cgroup v2 file system in which it may make groups and
//! which has no processes itself (systemd: `Delegate=yes` with `DelegateSubgroup=`). Each execution gets a
//! group in it, which is removed afterwards; those of a service that was killed are removed by the next.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::supervisor::Cgroup;
use crate::{Ending, ExecLimits};

const PREFIX: &str = "aion-exec-";
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// The period of `cpu.max`, in microseconds.
const PERIOD_US: u64 = 100_000;
/// What the supervisor has in the group beside the program: the first process of the namespace.
const OVERHEAD: u64 = 1;
/// How often a group is asked whether it is empty before it is left to the next service.
const MAX_TRIES: u32 = 200;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A group of one execution; dropping it kills what is in it and removes it.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    pub(super) held: Cgroup,
    pub(super) gaps: Vec<String>,
}

impl Group {
    /// Makes a group with limits below a directory. What it cannot limit is among its gaps.
    pub(super) fn create(base: &Path, limits: &ExecLimits) -> io::Result<Self> {
        for controller in CONTROLLERS {
            // One that is there already, or that this kernel does not have, shows below.
            let _ = fs::write(base.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&path)?;
        let mut group = Self {
            held: Cgroup {
                path: path.clone(),
                ..Cgroup::default()
            },
            path,
            gaps: Vec::new(),
        };
        group.limit(limits);
        Ok(group)
    }

    fn limit(&mut self, limits: &ExecLimits) {
        if limits.total_memory_bytes > 0 {
            self.held.memory = self.set("memory.max", &limits.total_memory_bytes.to_string())
                && self.set("memory.oom.group", "1");
            // There is no such file where there is no swap.
            let _ = fs::write(self.path.join("memory.swap.max"), "0");
        }
        self.held.processes = self.set(
            "pids.max",
            &(limits.processes.saturating_add(OVERHEAD)).to_string(),
        );
        if limits.cpu_milli > 0 {
            let quota_us = limits.cpu_milli.saturating_mul(PERIOD_US) / 1000;
            self.held.cpu = self.set("cpu.max", &format!("{} {PERIOD_US}", quota_us.max(1000)));
        }
    }

    fn set(&mut self, file: &str, value: &str) -> bool {
        match fs::write(self.path.join(file), value) {
            Ok(()) => true,
            Err(e) => {
                self.gaps.push(format!("cgroup: {file} cannot be set ({e})"));
                false
            }
        }
    }

    /// Whether one of its limits ended the execution.
    pub(super) fn ending(&self) -> Option<Ending> {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        (count(&events, "oom_kill") > 0).then_some(Ending::MemoryLimit)
    }
}

/// The number after a word at the beginning of a line.
fn count(events: &str, word: &str) -> u64 {
    let mut lines = events.lines().filter_map(|line| line.split_once(' '));
    let line = lines.find(|(name, _)| *name == word);
    line.and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
}

impl Drop for Group {
    fn drop(&mut self) {
        kill(&self.path);
        // Usually it is empty long since; if not, nobody waits for it here.
        if fs::remove_dir(&self.path).is_err() {
            let path = std::mem::take(&mut self.path);
            std::thread::spawn(move || remove(&path));
        }
    }
}

fn kill(group: &Path) {
    let _ = fs::OpenOptions::new()
        .write(true)
        .open(group.join("cgroup.kill"))
        .and_then(|mut file| io::Write::write_all(&mut file, b"1"));
}

fn remove(group: &Path) {
    for _ in 0..MAX_TRIES {
        match fs::remove_dir(group) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            _ => return,
        }
    }
}

/// Kills and removes the groups of services that are not there any more.
pub(super) fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(service) = name.to_str().and_then(owner) else {
            continue;
        };
        if !Path::new("/proc").join(service.to_string()).exists() {
            kill(&entry.path());
            remove(&entry.path());
        }
    }
}

/// The process id of the service that made a group.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

/// The directory that was delegated to this process, if it is in a group of its own below one: what
/// `Delegate=yes` and `DelegateSubgroup=` make of a systemd unit.
pub(super) fn delegated() -> Option<PathBuf> {
    let ours = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = ours.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let base = unified(&mounts)?.join(path).parent()?.to_owned();
    let has = fs::read_to_string(base.join("cgroup.controllers")).ok()?;
    let useful = CONTROLLERS[..2]
        .iter()
        .all(|c| has.split_ascii_whitespace().any(|h| h == *c));
    let free = fs::read_to_string(base.join("cgroup.procs")).is_ok_and(|list| list.is_empty());
    let writable = rustix::fs::access(&base, rustix::fs::Access::WRITE_OK).is_ok();
    (useful && free && writable).then_some(base)
}

/// Where the cgroup v2 file system is mounted.
fn unified(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ")
            .then(|| place.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a directory that only looks like a group, every limit arrives in its file.
    #[test]
    fn limits_are_written_where_they_belong() {
        let base = tempfile::tempdir().unwrap();
        let limits = ExecLimits::default()
            .with_total_memory_bytes(1 << 20)
            .with_processes(7)
            .with_cpu_milli(1500);
        let group = Group::create(base.path(), &limits).unwrap();
        let read = |file: &str| fs::read_to_string(group.path.join(file)).unwrap();
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(
            (read("memory.swap.max"), read("memory.oom.group")),
            ("0".into(), "1".into())
        );
        assert_eq!(
            (read("pids.max"), read("cpu.max")),
            ("8".into(), "150000 100000".into())
        );
        assert!(group.held.memory && group.held.processes && group.held.cpu && group.gaps.is_empty());
        assert_eq!(group.ending(), None);
        fs::write(group.path.join("memory.events"), "low 0\noom 1\noom_kill 2\n").unwrap();
        assert_eq!(group.ending(), Some(Ending::MemoryLimit));
        fs::write(group.path.join("cgroup.kill"), "").unwrap();
        let kill = group.path.join("cgroup.kill");
        drop(group);
        assert_eq!(fs::read_to_string(kill).unwrap(), "1");
    }

    /// What a kernel without controllers does not hold is said, and the watchdog has to do it.
    #[test]
    fn what_cannot_be_limited_is_a_gap() {
        let base = tempfile::tempdir().unwrap();
        let mut group = Group::create(base.path(), &ExecLimits::default()).unwrap();
        group.gaps.clear();
        group.path = base.path().join("none");
        group.held = Cgroup::default();
        group.limit(&ExecLimits::default().with_cpu_milli(1));
        assert!(!group.held.memory && !group.held.processes && !group.held.cpu);
        assert_eq!(group.gaps.len(), 3, "{:?}", group.gaps);
    }

    #[test]
    fn only_groups_of_the_dead_are_swept() {
        let base = tempfile::tempdir().unwrap();
        let name = |pid: u32| base.path().join(format!("{PREFIX}{pid}-0"));
        let (ours, dead) = (name(std::process::id()), name(u32::MAX));
        let other = base.path().join("other");
        for dir in [&ours, &dead, &other] {
            fs::create_dir(dir).unwrap();
        }
        sweep(base.path());
        assert!(ours.exists() && other.exists() && !dead.exists());
    }

    #[test]
    fn the_mount_is_found_among_others() {
        let mounts = "25 1 0:23 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      26 1 0:24 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(unified(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(unified(""), None);
    }
}
