//! The wardens of a machine: for each workspace that is in use a supervisor that is kept ready.
//!
//! There are only so many of them; the one that was idle longest makes room, and one that is idle for long ends. A
//! warden is started by `posix_spawn` like a supervisor. Whatever goes wrong with one, the execution is started anew by
//! a supervisor of its own, which says why it cannot be done; so a warden is never the reason of an error. An execution
//! whose program may have been started is never started again.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, send, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::supervisor::{self, ETC, ETC_SSL, Outlet, Plan, SYSTEM, order};

/// Without an execution for so long, a warden ends.
const IDLE: Duration = Duration::from_secs(60);
/// How often it is looked whether one is idle.
const TICK: Duration = Duration::from_secs(5);
/// How long one may take to build its walls.
const PATIENCE: Duration = Duration::from_secs(2);
/// After one could not be started, none is tried for so long.
const PAUSE: Duration = Duration::from_secs(60);
/// How often it is looked whether the host's directories are still those that a warden has.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    times: Mutex<Times>,
    /// What it has of the host.
    host: u64,
}

#[derive(Debug)]
struct Times {
    used: Instant,
    looked: Instant,
}

/// An execution whose supervisor is a copy of a warden.
#[derive(Debug)]
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
        if let Some(warden) = self.find(&place, plan) {
            return Some(warden);
        }
        let _starting = self.starting.lock().await;
        if let Some(warden) = self.find(&place, plan) {
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

    fn find(&self, place: &Place, plan: &Plan) -> Option<Arc<Warden>> {
        let mut kept = self.kept();
        let at = kept.iter().position(|warden| warden.place == *place)?;
        if kept[at].is_outdated(plan) {
            kept.swap_remove(at);
            return None;
        }
        Some(Arc::clone(&kept[at]))
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

    /// Whether there is room for one more, perhaps because one without an execution goes.
    fn make_room(&self) -> bool {
        let mut kept = self.kept();
        if kept.len() < self.most {
            return true;
        }
        let idle = kept.iter().enumerate().filter(|(_, w)| Arc::strong_count(w) == 1);
        let longest = idle.min_by_key(|(_, w)| w.times().used).map(|(at, _)| at);
        longest.map(|at| kept.swap_remove(at)).is_some()
    }

    fn retire_idle(&self) {
        self.kept()
            .retain(|w| Arc::strong_count(w) > 1 || w.times().used.elapsed() < IDLE);
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

/// Which files and directories of the host stand at the paths that programs see: a package that is installed on the
/// host replaces some.
fn host(plan: &Plan) -> u64 {
    let mut hasher = DefaultHasher::new();
    let etc = ETC.iter().map(|name| Path::new("/etc").join(name));
    let system = SYSTEM.iter().chain(&ETC_SSL).map(PathBuf::from);
    for path in system.chain(etc).chain(plan.read_only.iter().cloned()) {
        let seen = std::fs::symlink_metadata(path).ok();
        seen.map(|file| (file.dev(), file.ino())).hash(&mut hasher);
    }
    hasher.finish()
}

impl Warden {
    /// Starts one and waits until it is ready.
    fn start(program: &Path, plan: &Plan, place: Place, all: Weak<Wardens>) -> io::Result<Arc<Self>> {
        let host = host(plan);
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
        let now = Instant::now();
        let warden = Arc::new(Self {
            place,
            line,
            next: AtomicU64::new(0),
            times: Mutex::new(Times {
                used: now,
                looked: now,
            }),
            host,
        });
        let ours = Arc::downgrade(&warden);
        std::thread::Builder::new()
            .name("aion-warden".to_owned())
            .spawn(move || see_to_its_end(child, &ours, &all))?;
        Ok(warden)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the host has other files now than it has.
    fn is_outdated(&self, plan: &Plan) -> bool {
        let now = Instant::now();
        let mut times = self.times();
        times.used = now;
        if now.duration_since(times.looked) < LOOK_EVERY {
            return false;
        }
        times.looked = now;
        drop(times);
        host(plan) != self.host
    }

    /// Has it supervise an execution. An error says that nothing was started.
    pub(super) fn entrust(self: &Arc<Self>, plan: &Plan, parts: &Parts<'_>) -> io::Result<Entrusted> {
        let list = plan.cgroup.as_ref().map(|group| group.path.join("cgroup.procs"));
        let list = list
            .map(|path| File::options().write(true).open(path))
            .transpose()?;
        let mut descriptors = vec![parts.control, parts.stdout, parts.stderr];
        descriptors.extend(list.as_ref().map(File::as_fd));
        let kind = match plan.outlet {
            Outlet::None => order::START,
            Outlet::Proxy => order::START_WITH_OUTLET,
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let message = words(kind, number);
        sendmsg(&self.line, &[IoSlice::new(&message)], &mut control, AT_ONCE)?;
        Ok(Entrusted {
            warden: Arc::clone(self),
            number,
        })
    }
}

const AT_ONCE: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

fn words(kind: u8, number: u64) -> [u8; order::LEN] {
    let mut words = [kind; order::LEN];
    words[1..].copy_from_slice(&number.to_le_bytes());
    words
}

impl Entrusted {
    /// Kills the supervisor, and with it what it supervises.
    pub(super) fn kill(&self) {
        if let Err(error) = send(&self.warden.line, &words(order::KILL, self.number), AT_ONCE) {
            tracing::warn!(%error, "a warden does not take the order to kill a late supervisor");
        }
    }
}

/// Sends what all executions have in common, and waits for the walls.
fn greet(line: &OwnedFd, plan: &Plan) -> io::Result<()> {
    let plan = serde_json::to_vec(plan)?;
    if plan.len() > order::MAX_PLAN_BYTES {
        return Err(io::Error::other("the plan is too long"));
    }
    send(line, &plan, SendFlags::NOSIGNAL)?;
    let mut said = [0; 256];
    let mut fds = [PollFd::new(line, PollFlags::IN)];
    if poll(&mut fds, Some(&timespec(PATIENCE)))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let (read, _) = recv(line, &mut said[..], RecvFlags::DONTWAIT)?;
    match &said[..read] {
        order::READY => Ok(()),
        [] => Err(io::ErrorKind::UnexpectedEof.into()),
        reason => Err(io::Error::other(String::from_utf8_lossy(reason).into_owned())),
    }
}

/// Waits for the end of a warden, by whatever reason, and sees to it that it comes when nobody wants it any more.
fn see_to_its_end(mut child: Child, warden: &Weak<Warden>, all: &Weak<Wardens>) {
    let process = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let Ok(process) = process else {
        let _ = child.kill();
        let _ = child.wait();
        return;
    };
    loop {
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(TICK))) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => break,
        }
        if let Some(all) = all.upgrade() {
            all.retire_idle();
        }
        if warden.strong_count() == 0 {
            // Its line was closed, and it did not end by itself.
            let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
        }
    }
    if let (Some(warden), Some(all)) = (warden.upgrade(), all.upgrade()) {
        all.forget(&warden);
    }
    let _ = child.wait();
}

fn timespec(d: Duration) -> Timespec {
    Timespec {
        tv_sec: d.as_secs() as i64,
        tv_nsec: i64::from(d.subsec_nanos()),
    }
}
