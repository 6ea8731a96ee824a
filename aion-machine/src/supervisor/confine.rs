//! The walls that every later process inherits: Landlock, no capabilities, no new ones, a filter.

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::filter::{self, Sight};
use super::mounts::{DEVICES, ETC, ETC_SSL, SYSTEM, WORKSPACE};
use super::plan::{Outlet, Plan, Surroundings};
use super::sys;
use crate::{Enforcement, FileConfinement, NetworkConfinement, ProcessConfinement, ResourceLimit};

/// The newest Landlock that is asked for; what the kernel lacks of it is left out.
const NEWEST: ABI = ABI::V9;
/// Before this, a file outside could be emptied by `truncate`.
const OLDEST_ABI: u32 = 3;

/// What stands already when the walls are built.
#[derive(Debug, Default)]
pub(super) struct Shell {
    /// User, process, network and other namespaces.
    pub(super) isolated: bool,
    /// A root file system of its own.
    pub(super) own_root: bool,
    /// The directory for temporary files, where there is no private `/tmp`.
    pub(super) scratch: Option<String>,
}

/// Builds the walls around this process and says which of them stand.
pub(super) fn confine(plan: &Plan, shell: &Shell, gaps: Vec<String>) -> io::Result<Enforcement> {
    let mut report = Enforcement {
        gaps,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        ..Enforcement::default()
    };
    let rules = rules(plan, shell);
    report.capabilities_dropped = drop_capabilities(&mut report.gaps);
    rustix::thread::set_no_new_privs(true)?;
    report.no_new_privs = true;
    let landlocked = apply_landlock(rules, &mut report);
    report.files = match (shell.own_root, landlocked) {
        (true, true) => FileConfinement::MountNamespaceAndLandlock,
        (true, false) => FileConfinement::MountNamespace,
        (false, true) => FileConfinement::Landlock,
        (false, false) => FileConfinement::None,
    };
    clear_capabilities(&mut report)?;
    // Nobody inside may look into, or take descriptors from, the processes of the supervisor.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let sight = match plan.surroundings {
        Surroundings::Host => Sight::of(shell.isolated, shell.own_root),
        Surroundings::Bubblewrap => Sight::of(shell.isolated, shell.own_root).in_bubblewrap(),
    };
    match sys::install_filter(filter::of(sight)) {
        Ok(()) => report.syscall_filter = true,
        Err(e) => report.gaps.push(format!("filter: not installed ({e})")),
    }
    describe(plan, shell, landlocked, &mut report);
    Ok(report)
}

/// What follows from what was built.
fn describe(plan: &Plan, shell: &Shell, landlocked: bool, report: &mut Enforcement) {
    report.network = match (shell.isolated, report.syscall_filter, landlocked) {
        (true, ..) if plan.outlet == Outlet::Proxy => NetworkConfinement::NamespaceAndProxy,
        (true, ..) => NetworkConfinement::Namespace,
        (_, true, _) => NetworkConfinement::Filter,
        (_, _, true) if report.landlock_abi >= 4 => NetworkConfinement::LandlockTcp,
        _ => NetworkConfinement::None,
    };
    report.processes = if shell.isolated {
        ProcessConfinement::PidNamespace
    } else {
        ProcessConfinement::Subreaper
    };
    limit(plan, shell, report);
    if !shell.own_root && !plan.protected.is_empty() {
        report.gaps.push(
            "protected: without a file system of its own, nothing in the workspace is protected".into(),
        );
    }
    if !shell.own_root {
        report
            .gaps
            .push("files: names and sizes of the host's files, and its processes, can be seen; modes and owners cannot be changed".into());
    }
    if !shell.isolated {
        report
            .gaps
            .push("processes: a killed supervisor leaves grandchildren behind".into());
    }
}

/// Who holds which limit.
fn limit(plan: &Plan, shell: &Shell, report: &mut Enforcement) {
    let limits = &plan.limits;
    // The supervisor sees the tree in the same `/proc` as this process.
    let watched = Path::new("/proc/stat").exists();
    let held = |limit: u64, otherwise| match (limit > 0, watched) {
        (true, true) => ResourceLimit::Watched,
        _ => otherwise,
    };
    let each = match limits.memory_bytes {
        0 => ResourceLimit::None,
        _ => ResourceLimit::PerProcess,
    };
    let group = plan.cgroup.clone().unwrap_or_default();
    report.memory = held(limits.total_memory_bytes, each);
    report.disk = held(limits.written_bytes, ResourceLimit::PerProcess);
    report.cpu = ResourceLimit::PerProcess;
    report.output = ResourceLimit::Total;
    report.process_count = match (report.uid, shell.isolated) {
        (0, _) | (_, false) => held(limits.processes, ResourceLimit::None),
        (_, true) => ResourceLimit::Total,
    };
    if group.memory && limits.total_memory_bytes > 0 {
        report.memory = ResourceLimit::Total;
    }
    if group.processes {
        report.process_count = ResourceLimit::Total;
    }
    if group.cpu && limits.cpu_milli > 0 {
        report.cpu = ResourceLimit::Total;
    }
    let mut gap = |text: &str| report.gaps.push(text.to_owned());
    if !watched {
        gap("memory, processes, disk: not watched, for want of a /proc");
    }
    if report.memory != ResourceLimit::Total {
        gap("memory: without a cgroup, all together are looked at ten times a second");
    }
    if limits.cpu_milli > 0 && !group.cpu {
        gap("cpu: without a cgroup, the share of the processors is not limited");
    }
    gap("disk: what is written is looked at ten times a second; small files and directories are not counted");
    if report.uid == 0 {
        report
            .gaps
            .push("uid: runs as uid 0 of the host, without capabilities".to_owned());
    }
}

/// The bounding set: no program started later can get a capability from a file.
fn drop_capabilities(gaps: &mut Vec<String>) -> bool {
    let failed = CapabilitySet::all().iter().find_map(|capability| {
        let removed = rustix::thread::remove_capability_from_bounding_set(capability);
        // This kernel does not know it, or it was not there.
        removed.err().filter(|_| {
            rustix::thread::capability_is_in_bounding_set(capability).is_ok_and(|is_there| is_there)
        })
    });
    if let Some(e) = failed
        && rustix::process::getuid().is_root()
    {
        gaps.push(format!("capabilities: the bounding set stays ({e})"));
        return false;
    }
    true
}

/// The sets of this process.
fn clear_capabilities(report: &mut Enforcement) -> io::Result<()> {
    let _ = rustix::thread::clear_ambient_capability_set();
    let empty = CapabilitySet::empty();
    let none = CapabilitySets {
        effective: empty,
        permitted: empty,
        inheritable: empty,
    };
    rustix::thread::set_capabilities(None, none)?;
    report.capabilities_dropped &= rustix::thread::capabilities(None)? == none;
    Ok(())
}

/// The rules, opened while everything can still be opened.
fn rules(plan: &Plan, shell: &Shell) -> Result<RulesetCreated, RulesetError> {
    let all = AccessFs::from_all(NEWEST);
    let write = all & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let read = AccessFs::from_read(NEWEST);
    let device: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
    let mut rules = Ruleset::default()
        .handle_access(all)?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?;
    if shell.isolated {
        // Its own network has nothing to protect, and programs may talk to themselves.
        rules = Ruleset::default()
            .handle_access(all)?
            .scope(Scope::from_all(ABI::V6))?;
    }
    let mut created = rules.create()?;
    for path in readable(plan, shell) {
        created = allow(created, &path, read)?;
    }
    if shell.own_root && plan.surroundings == Surroundings::Host {
        // It holds nothing but these, links, and the room for shared memory.
        created = allow(created, Path::new("/dev"), device)?;
    } else {
        for name in DEVICES {
            created = allow(created, &Path::new("/dev").join(name), device)?;
        }
    }
    for path in writable(plan, shell) {
        created = allow(created, &path, write)?;
    }
    Ok(created)
}

/// A root of its own holds nothing else than what may be read.
fn readable(plan: &Plan, shell: &Shell) -> Vec<PathBuf> {
    if shell.own_root {
        return vec![PathBuf::from("/")];
    }
    let etc = ETC.iter().map(|name| Path::new("/etc").join(name));
    let fixed = SYSTEM
        .iter()
        .chain(&ETC_SSL)
        .map(PathBuf::from)
        .chain([PathBuf::from("/proc")]);
    fixed.chain(etc).chain(plan.read_only.iter().cloned()).collect()
}

fn writable(plan: &Plan, shell: &Shell) -> Vec<PathBuf> {
    let root = if shell.own_root { WORKSPACE } else { &plan.root };
    let mut paths = vec![PathBuf::from(root)];
    if shell.own_root {
        paths.extend(["/tmp", "/dev/shm"].map(PathBuf::from));
    }
    paths.extend(shell.scratch.iter().map(PathBuf::from));
    paths
}

/// Adds a rule for a path; one that does not exist needs none.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(fd) = PathFd::new(path) else {
        return Ok(rules);
    };
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(NEWEST)
    };
    rules.add_rule(PathBeneath::new(fd, access))
}

fn apply_landlock(rules: Result<RulesetCreated, RulesetError>, report: &mut Enforcement) -> bool {
    let status = match rules.and_then(RulesetCreated::restrict_self) {
        Ok(status) => status,
        Err(e) => {
            report.gaps.push(format!("landlock: not applied ({e})"));
            return false;
        }
    };
    if let LandlockStatus::Available { effective_abi, .. } = status.landlock {
        report.landlock_abi = effective_abi as u32;
    }
    let holds = status.ruleset != RulesetStatus::NotEnforced && report.landlock_abi >= OLDEST_ABI;
    if !holds {
        report.gaps.push(format!(
            "landlock: the kernel has version {}",
            report.landlock_abi
        ));
    }
    holds
}
