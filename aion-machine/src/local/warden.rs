//! The wardens of a machine: for each workspace that is in use a supervisor that is kept ready.
//!
//! There are only so many of them. One that is idle for a moment makes room if there must be some, the one that was idle
//! longest first, and one that is idle for long ends. Where all are in use, an execution has a supervisor of its own. A
//! warden is started by `posix_spawn` like a supervisor. Whatever goes wrong with one, the execution is started anew by
//! a supervisor of its own, which says why it cannot be done; so a warden is never the reason of an error. An execution
//! whose program may have been started is never started again.
//!
//! A thread for each warden waits for its end, and lets go of it when the host has other files or mounts at the paths
//! that programs see than it had when the warden took them.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IoSlice, Read, Seek};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, send, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::supervisor::{self, ETC, ETC_SSL, Outlet, Plan, SYSTEM, Terms, order};

/// Without an execution for so long, a warden ends.
const IDLE: Duration = Duration::from_secs(60);
/// One that was idle for less is likely to be wanted again, and makes no room for others.
const SETTLED: Duration = Duration::from_secs(2);
/// How often it is looked whether one is idle, and whether the host's files are still those that it has.
const TICK: Duration = Duration::from_secs(1);
/// How long one may take to build its walls.
const PATIENCE: Duration = Duration::from_secs(2);
/// After one could not be started, none is tried for so long.
const PAUSE: Duration = Duration::from_secs(60);

/// Those of one machine.
#[derive(Debug)]
pub(super) struct Wardens {
    most: usize,
    kept: Mutex<Vec<Arc<Warden>>>,
    /// Held while one is started, so that no workspace has two.
    starting: tokio::sync::Mutex<()>,
    /// Until when none is tried.
    useless: Mutex<Option<Instant>>,
}

/// A workspace: its path, device and inode.
type Place = (String, u64, u64);

/// One that stands ready.
#[derive(Debug)]
pub(super) struct Warden {
    place: Place,
    line: OwnedFd,
    next: AtomicU64,
    /// When an execution began or ended.
    used: Mutex<Instant>,
}

/// An execution that a warden supervises.
#[derive(Debug, Clone)]
pub(super) struct Entrusted {
    warden: Arc<Warden>,
    number: u64,
}

/// What a supervisor is given.
pub(super) struct Parts<'a> {
    pub(super) control: BorrowedFd<'a>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
}

impl Wardens {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            kept: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
            useless: Mutex::default(),
        })
    }

    /// One for the workspace of a plan, started if need be; none where wardens are of no use.
    pub(super) async fn of(self: &Arc<Self>, plan: &Plan, program: &Path) -> Option<Arc<Warden>> {
        if self.most == 0 || !suits(plan) {
            return None;
        }
        let place = (plan.root.clone(), plan.device, plan.inode);
        if let Some(warden) = self.find(&place) {
            return Some(warden);
        }
        let _starting = self.starting.lock().await;
        if let Some(warden) = self.find(&place) {
            return Some(warden);
        }
        if self.is_pausing() || !self.make_room() {
            return None;
        }
        let (all, program, plan) = (Arc::downgrade(self), program.to_owned(), blank(plan));
        let started = tokio::task::spawn_blocking(move || Warden::start(&program, &plan, place, all));
        match started.await {
            Ok(Ok(warden)) => {
                self.kept().push(Arc::clone(&warden));
                Some(warden)
            }
            Ok(Err(error)) => {
                tracing::info!(%error, "executions are supervised without a warden for a while");
                *self.useless.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + PAUSE);
                None
            }
            Err(_) => None,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Arc<Warden>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, place: &Place) -> Option<Arc<Warden>> {
        self.kept().iter().find(|warden| warden.place == *place).cloned()
    }

    /// Lets go of one: it ends when its last execution has.
    pub(super) fn forget(&self, warden: &Warden) {
        self.kept()
            .retain(|kept| !std::ptr::eq(Arc::as_ptr(kept), warden));
    }

    fn is_pausing(&self) -> bool {
        let until = *self.useless.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether there is room for one more, perhaps because one that is idle goes.
    fn make_room(&self) -> bool {
        let mut kept = self.kept();
        if kept.len() < self.most {
            return true;
        }
        let idle = kept.iter().enumerate().filter(|(_, w)| w.is_idle_for(SETTLED));
        let longest = idle.min_by_key(|(_, w)| *w.used()).map(|(at, _)| at);
        longest.map(|at| kept.swap_remove(at)).is_some()
    }

    fn retire_idle(&self) {
        self.kept().retain(|warden| !warden.is_idle_for(IDLE));
    }
}

/// Whether what a plan wants can be built once for all.
fn suits(plan: &Plan) -> bool {
    let of_processes = |path: &PathBuf| path == Path::new("/") || path.starts_with("/proc");
    !plan.read_only.iter().any(of_processes)
}

/// What all executions in a workspace have in common: nothing of a request.
fn blank(plan: &Plan) -> Plan {
    Plan {
        argv: Vec::new(),
        env: Vec::new(),
        cwd: crate::RelPath::root(),
        gaps: Vec::new(),
        cgroup: None,
        trial: None,
        outlet: Outlet::None,
        ..plan.clone()
    }
}

/// What programs see of the host beside their workspace.
fn seen(plan: &Plan) -> impl Iterator<Item = PathBuf> {
    let etc = ETC.iter().map(|name| Path::new("/etc").join(name));
    let system = SYSTEM.iter().chain(&ETC_SSL).map(PathBuf::from);
    system.chain(etc).chain(plan.read_only.iter().cloned())
}

/// Which files and directories of the host stand at the paths that programs see: a package that is installed on the
/// host replaces some.
fn files(plan: &Plan) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in seen(plan) {
        let seen = std::fs::symlink_metadata(path).ok();
        seen.map(|file| (file.dev(), file.ino())).hash(&mut hasher);
    }
    hasher.finish()
}

/// Which mounts of the host are among them, or in the workspace. A mount at the path itself shows in [`files`].
fn mounts(table: &str, plan: &Plan) -> u64 {
    let mut hasher = DefaultHasher::new();
    let places: Vec<_> = seen(plan).chain([PathBuf::from(&plan.root)]).collect();
    for line in table.lines() {
        // The table writes a blank in a path as `\040`, so that words stay words.
        let at = line.split(' ').nth(4).unwrap_or("");
        if places.iter().any(|place| Path::new(at).starts_with(place)) {
            line.hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// What a warden took of the host, and whether it is still the same.
struct Host {
    plan: Plan,
    /// The kernel says on it when the table has changed since it was last asked.
    table: File,
    files: u64,
    mounts: u64,
}

impl Host {
    fn now(plan: &Plan) -> io::Result<Self> {
        let mut host = Self {
            plan: plan.clone(),
            // Of this thread: it is the one that starts the warden.
            table: File::open("/proc/thread-self/mountinfo")?,
            files: files(plan),
            mounts: 0,
        };
        host.mounts = mounts(&host.read_table(), plan);
        Ok(host)
    }

    fn read_table(&mut self) -> String {
        let mut text = String::new();
        let read = self
            .table
            .rewind()
            .and_then(|()| self.table.read_to_string(&mut text));
        read.map_or(String::new(), |_| text)
    }

    fn has_other_files(&self) -> bool {
        files(&self.plan) != self.files
    }

    fn has_other_mounts(&mut self) -> bool {
        mounts(&self.read_table(), &self.plan) != self.mounts
    }
}

impl Warden {
    /// Starts one and waits until it is ready.
    fn start(program: &Path, plan: &Plan, place: Place, all: Weak<Wardens>) -> io::Result<Arc<Self>> {
        let host = Host::now(plan)?;
        // First, so that a process that was started has somebody who waits for its end.
        let (hand_over, keeper) = sync_channel(1);
        std::thread::Builder::new()
            .name("aion-warden".to_owned())
            .spawn(move || see_to_its_end(&keeper, host, &all))?;
        let (line, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let mut command = Command::new(program);
        command
            .arg(supervisor::WARDEN)
            .env_clear()
            .current_dir("/")
            .process_group(0);
        command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        // With it goes our copy of their end.
        drop(command);
        if let Err(e) = greet(&line, plan) {
            let _ = child.kill();
            child.wait()?;
            return Err(e);
        }
        let warden = Arc::new(Self {
            place,
            line,
            next: AtomicU64::new(0),
            used: Mutex::new(Instant::now()),
        });
        if let Err(unsent) = hand_over.send((child, Arc::downgrade(&warden))) {
            let (mut child, _) = unsent.0;
            let _ = child.kill();
            child.wait()?;
            return Err(io::Error::other("nobody waits for its end"));
        }
        Ok(warden)
    }

    fn used(&self) -> MutexGuard<'_, Instant> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody has it but who keeps it.
    fn is_idle_for(self: &Arc<Self>, time: Duration) -> bool {
        Arc::strong_count(self) == 1 && self.used().elapsed() >= time
    }

    /// Has it supervise an execution. An error says that nothing was started.
    pub(super) fn entrust(self: &Arc<Self>, plan: &Plan, parts: &Parts<'_>) -> io::Result<Entrusted> {
        let list = plan.cgroup.as_ref().map(|group| group.path.join("cgroup.procs"));
        let list = list
            .map(|path| File::options().write(true).open(path))
            .transpose()?;
        let mut descriptors = vec![parts.control, parts.stdout, parts.stderr];
        descriptors.extend(list.as_ref().map(File::as_fd));
        let terms = serde_json::to_vec(&Terms::of(plan))?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let head = head(order::START, number);
        let message = [IoSlice::new(&head), IoSlice::new(&terms)];
        *self.used() = Instant::now();
        sendmsg(&self.line, &message, &mut control, AT_ONCE)?;
        Ok(Entrusted {
            warden: Arc::clone(self),
            number,
        })
    }
}

const AT_ONCE: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

fn head(kind: u8, number: u64) -> [u8; order::HEAD] {
    let mut head = [kind; order::HEAD];
    head[1..].copy_from_slice(&number.to_le_bytes());
    head
}

impl Entrusted {
    /// Has its program asked to end. Whether the order went out.
    pub(super) fn ask_to_end(&self) -> bool {
        send(&self.warden.line, &head(order::END, self.number), AT_ONCE).is_ok()
    }

    /// Kills what does not end although its line is closed.
    pub(super) fn kill(&self) {
        if let Err(error) = send(&self.warden.line, &head(order::KILL, self.number), AT_ONCE) {
            tracing::warn!(%error, "a warden does not take the order to kill a late execution");
        }
    }
}

impl Drop for Entrusted {
    fn drop(&mut self) {
        *self.warden.used() = Instant::now();
    }
}

/// Sends what all executions have in common, and waits for the walls.
fn greet(line: &OwnedFd, plan: &Plan) -> io::Result<()> {
    let plan = serde_json::to_vec(plan)?;
    if plan.len() > order::MAX_PLAN_BYTES {
        return Err(io::Error::other("the plan is too long"));
    }
    retry_on_intr(|| send(line, &plan, SendFlags::NOSIGNAL))?;
    let mut said = [0; 256];
    let deadline = Instant::now() + PATIENCE;
    let mut fds = [PollFd::new(line, PollFlags::IN)];
    let ready = retry_on_intr(|| {
        let left = deadline.saturating_duration_since(Instant::now());
        poll(&mut fds, Some(&timespec(left)))
    })?;
    if ready == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let (read, _) = retry_on_intr(|| recv(line, &mut said[..], RecvFlags::DONTWAIT))?;
    match &said[..read] {
        order::READY => Ok(()),
        [] => Err(io::ErrorKind::UnexpectedEof.into()),
        reason => Err(io::Error::other(String::from_utf8_lossy(reason).into_owned())),
    }
}

/// Waits for the end of a warden, by whatever reason, and sees to it that it comes when nobody wants it any more.
fn see_to_its_end(given: &Receiver<(Child, Weak<Warden>)>, mut host: Host, all: &Weak<Wardens>) {
    // If nothing comes, there is no process.
    let Ok((mut child, warden)) = given.recv() else {
        return;
    };
    let process = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let Ok(process) = process else {
        let _ = child.kill();
        let _ = child.wait();
        return;
    };
    let forget = || {
        if let (Some(warden), Some(all)) = (warden.upgrade(), all.upgrade()) {
            all.forget(&warden);
        }
    };
    loop {
        let (ended, other_mounts) = {
            let mut fds = [
                PollFd::new(&process, PollFlags::IN),
                PollFd::new(&host.table, PollFlags::PRI),
            ];
            match poll(&mut fds, Some(&timespec(TICK))) {
                Err(rustix::io::Errno::INTR) => (false, false),
                Err(_) => (true, false),
                Ok(_) => (!fds[0].revents().is_empty(), !fds[1].revents().is_empty()),
            }
        };
        if ended {
            break;
        }
        if (other_mounts && host.has_other_mounts()) || host.has_other_files() {
            forget();
        }
        if let Some(all) = all.upgrade() {
            all.retire_idle();
        }
        if warden.strong_count() == 0 {
            // Its line was closed, and it did not end by itself.
            let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
        }
    }
    forget();
    let _ = child.wait();
}

fn timespec(d: Duration) -> Timespec {
    Timespec {
        tv_sec: d.as_secs() as i64,
        tv_nsec: i64::from(d.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mounts among what programs see count, and no others.
    #[test]
    fn mounts_of_others_do_not_matter() {
        let root = tempfile::tempdir().unwrap();
        let plan = crate::local::exec::plan(
            &crate::local::root::Root::hold(root.path()).unwrap(),
            &crate::LocalOptions::default().with_read_only("/srv/tools"),
            &crate::ExecRequest::new(["true"]),
        );
        let plan = plan.unwrap();
        let line = |at: &str| format!("36 35 98:0 / {at} rw,noatime - ext4 /dev/sda1 rw\n");
        let before = line("/") + &line("/home");
        let inside = format!("{}/data", plan.root);
        for at in ["/usr/local", "/etc/fonts", "/srv/tools/a", inside.as_str()] {
            assert_ne!(
                mounts(&(before.clone() + &line(at)), &plan),
                mounts(&before, &plan),
                "{at}"
            );
        }
        for at in ["/mnt", "/srv", "/usrlocal", "/var/lib/docker"] {
            assert_eq!(
                mounts(&(before.clone() + &line(at)), &plan),
                mounts(&before, &plan),
                "{at}"
            );
        }
    }
}
