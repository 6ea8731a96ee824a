//! Who the program runs as.
//!
//! A service that is root must not have programs run as root. They run as somebody who owns nothing; the
//! workspace, which belongs to root on the disk, is seen by them as their own through a mount with mapped
//! ids, so that nothing has to be given away.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{DumpableBehavior, Gid, Pid, RawGid, RawUid, Signal, Uid};
use rustix::thread::UnshareFlags;

use super::mounts::{self, Source};
use super::plan::{Namespaces, Plan, RunAs};
use super::sys::{self, Fork};

/// The user and the group of nobody, on every system.
const NOBODY: u32 = 65534;

/// What was opened with the rights of the service, before they were given up.
#[derive(Default)]
pub(super) struct Kept {
    /// The workspace as a detached mount whose files belong to the program's user.
    pub(super) workspace: Option<OwnedFd>,
    /// What the operator lets programs read.
    pub(super) read_only: Vec<(PathBuf, Source)>,
}

/// The user and group that are not ours but to be taken on.
fn other(run_as: RunAs) -> Option<(RawUid, RawGid)> {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let wanted = match run_as {
        RunAs::Unprivileged if uid.is_root() => (NOBODY, NOBODY),
        RunAs::User { uid, gid } => (uid, gid),
        RunAs::Unprivileged | RunAs::Service => return None,
    };
    (wanted != (uid.as_raw(), gid.as_raw())).then_some(wanted)
}

/// Becomes the user of the plan. The error says what an operator can do about it.
pub(super) fn change(plan: &Plan) -> Result<Kept, String> {
    let Some((uid, gid)) = other(plan.run_as) else {
        return Ok(Kept::default());
    };
    if !rustix::process::getuid().is_root() {
        return Err(format!("run_as: only root can run programs as uid {uid}"));
    }
    if uid == 0 {
        return Err(
            "run_as: uid 0 is not another user; if it must be, let programs run as the service does".into(),
        );
    }
    let owner = fs::metadata(&plan.root).map_err(|e| format!("run_as: the workspace: {e}"))?;
    let mut kept = Kept::default();
    if owner.uid() != uid {
        if plan.namespaces == Namespaces::Never {
            return Err(foreign(&owner, uid, "there are no namespaces to map it in"));
        }
        let map = Map {
            from: (owner.uid(), owner.gid()),
            to: (uid, gid),
        };
        let mapped = mapped(plan, &map)
            .map_err(|e| foreign(&owner, uid, &format!("its file system cannot map it: {e}")))?;
        kept.workspace = Some(mapped);
    }
    if plan.namespaces != Namespaces::Never {
        for path in &plan.read_only {
            let source = mounts::read_only(path).map_err(|e| format!("run_as: {}: {e}", path.display()))?;
            kept.read_only.extend(source.map(|source| (path.clone(), source)));
        }
    }
    become_user(uid, gid).map_err(|e| format!("run_as: uid {uid} cannot be taken on: {e}"))?;
    Ok(kept)
}

fn foreign(owner: &fs::Metadata, uid: u32, why: &str) -> String {
    let owner = owner.uid();
    format!(
        "run_as: programs run as uid {uid}, the workspace belongs to uid {owner}, and {why}: give the data \
         root to uid {uid}, name its owner as run_as, or let programs run as the service does"
    )
}

/// From root to somebody, for good.
fn become_user(uid: RawUid, gid: RawGid) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    // Otherwise our own files in `/proc` still belong to root, and users could not be mapped.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    match rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT) {
        Ok(()) => Err(io::Error::other("the way back to root is open")),
        Err(_) => Ok(()),
    }
}

/// Whose files are seen as whose.
struct Map {
    from: (RawUid, RawGid),
    to: (RawUid, RawGid),
}

fn mapped(plan: &Plan, map: &Map) -> io::Result<OwnedFd> {
    let tree = mounts::workspace(plan)?;
    sys::make_private(&tree)?;
    let users = user_namespace(map)?;
    sys::map_ids(&tree, &users)?;
    Ok(tree)
}

/// A user namespace with a map, for which a process must live in it for a moment.
fn user_namespace(map: &Map) -> io::Result<OwnedFd> {
    let (ready_read, ready_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (done_read, done_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match sys::fork()? {
        Fork::Child => {
            drop((ready_read, done_write));
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            let entered = sys::unshare(UnshareFlags::NEWUSER);
            if entered
                .and_then(|()| File::from(ready_write).write_all(b"r"))
                .is_ok()
            {
                let _ = File::from(done_read).read(&mut [0]);
            }
            sys::exit_now(0)
        }
        Fork::Parent(child) => {
            drop((ready_write, done_read));
            let made = File::from(ready_read)
                .read_exact(&mut [0])
                .and_then(|()| write_map(child, map));
            drop(done_write);
            super::reaper::kill_and_wait(child)?;
            made
        }
    }
}

fn write_map(process: Pid, map: &Map) -> io::Result<OwnedFd> {
    let at = Path::new("/proc").join(process.as_raw_nonzero().to_string());
    fs::write(at.join("uid_map"), format!("{} {} 1", map.from.0, map.to.0))?;
    fs::write(at.join("gid_map"), format!("{} {} 1", map.from.1, map.to.1))?;
    Ok(File::open(at.join("ns/user"))?.into())
}
