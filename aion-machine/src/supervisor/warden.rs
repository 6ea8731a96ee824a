//! The warden of a workspace: a supervisor that is kept ready, and divides itself for each execution.
//!
//! What all executions in a workspace see alike is built once: the user whom they run as, the root file system, the
//! name of the host. Then the service sends descriptors, and for each such message a copy of the warden becomes the
//! supervisor of one execution, in the same way as one that was started anew. What an execution must have for itself it
//! still gets anew: a user namespace with its limits, processes, message queues, `/proc`, `/tmp`, `/dev/shm`, Landlock
//! and the filter. A network is lent to one execution at a time, and comes back only when the kernel has ended all of it.
//!
//! The warden is the first process of a process namespace: if it ends, the kernel ends everything that came from it. It
//! ends when the service closes its line. It knows one workspace and holds no descriptor of another.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::identity;
use super::mounts::{self, Interior};
use super::plan::{Outlet, Plan};
use super::run::{self, Context, EVERYTHING, HOST_NAME, Network, Ourselves, Walls};
use super::sys::{self, Fork};

/// What the service asks of a warden: a byte, and the number of the execution in eight more, the lowest first.
pub(crate) mod order {
    /// Supervise an execution. With it come its line, its outputs and, if it has a cgroup, the list of its processes.
    pub(crate) const START: u8 = b's';
    /// The same, with a network of its own for a proxy.
    pub(crate) const START_WITH_OUTLET: u8 = b'o';
    /// Kill a supervisor that does not end.
    pub(crate) const KILL: u8 = b'k';
    /// How long an order is.
    pub(crate) const LEN: usize = 9;
    /// What the warden says when it is ready. Anything else is why it is not.
    pub(crate) const READY: &[u8] = b"the walls stand";
    /// Larger plans are not for a warden.
    pub(crate) const MAX_PLAN_BYTES: usize = 64 << 10;
}

/// How many networks wait for an execution.
const MAX_IDLE_NETWORKS: usize = 8;
/// Orphans of a supervisor that was killed are looked for this often, so many times.
const ORPHANS_EVERY: Duration = Duration::from_millis(100);
const ORPHAN_LOOKS: u32 = 20;
/// Line, outputs, list of processes.
const MAX_DESCRIPTORS: usize = 4;

/// The whole life of a warden; returns its exit code.
pub(super) fn stand_by() -> i32 {
    let line = sys::close_from(3).and_then(|()| Ok(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?));
    let Ok(line) = line else { return 2 };
    raise(line).unwrap_or(1)
}

/// Leaves the host; the first process in the new namespaces builds the rest and serves.
fn raise(line: OwnedFd) -> io::Result<i32> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    drop(nothing);
    let plan = receive_plan(&line)?;
    let entered = identity::change(&plan).and_then(|kept| match leave_host() {
        Ok(()) => Ok(kept),
        Err(e) => Err(format!("namespaces: {e}")),
    });
    let kept = match entered {
        Ok(kept) => kept,
        Err(reason) => return decline(&line, &reason),
    };
    match sys::fork()? {
        Fork::Parent(first) => {
            drop((line, kept));
            let status = rustix::process::waitpid(Some(first), WaitOptions::empty())?;
            Ok(status.and_then(|(_, status)| status.exit_status()).unwrap_or(1))
        }
        Fork::Child => {
            let built = rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(io::Error::from)
                .and_then(|()| mounts::enter(&plan, kept, Interior::Shared))
                .and_then(|_| Ok(rustix::system::sethostname(HOST_NAME)?));
            let code = match built {
                Ok(()) => Warden::new(line, plan).serve(),
                Err(e) => decline(&line, &format!("mounts: {e}")),
            };
            sys::exit_now(code.unwrap_or(1))
        }
    }
}

fn leave_host() -> io::Result<()> {
    let ourselves = Ourselves::now();
    sys::unshare(EVERYTHING)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    ourselves.map()
}

/// Says why there will be no warden.
fn decline(line: &OwnedFd, reason: &str) -> io::Result<i32> {
    send(line, reason.as_bytes(), SendFlags::NOSIGNAL)?;
    Ok(1)
}

/// The plan of every execution here, but for what differs between them.
fn receive_plan(line: &OwnedFd) -> io::Result<Plan> {
    let mut bytes = vec![0; order::MAX_PLAN_BYTES];
    let (read, _) = rustix::net::recv(line, &mut bytes[..], RecvFlags::empty())?;
    serde_json::from_slice(&bytes[..read]).map_err(io::Error::other)
}

/// What the service sends for an execution.
struct Parts {
    control: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    group: Option<OwnedFd>,
}

impl Parts {
    fn of(mut descriptors: impl Iterator<Item = OwnedFd>) -> Option<Self> {
        Some(Self {
            control: descriptors.next()?,
            stdout: descriptors.next()?,
            stderr: descriptors.next()?,
            group: descriptors.next(),
        })
    }
}

/// An execution whose supervisor lives.
struct Running {
    number: u64,
    supervisor: Pid,
    ended: OwnedFd,
    /// What it borrowed.
    network: Option<OwnedFd>,
}

struct Warden {
    line: Option<OwnedFd>,
    plan: Plan,
    running: Vec<Running>,
    /// Networks in which nothing lives.
    idle: Vec<OwnedFd>,
    /// How often orphans are still to be looked for.
    orphan_looks: u32,
}

/// What comes over the line.
enum Order {
    Start(u64, Parts),
    StartWithOutlet(u64, Parts),
    Kill(u64),
    Nonsense,
}

impl Warden {
    fn new(line: OwnedFd, plan: Plan) -> Self {
        Self {
            line: Some(line),
            plan,
            running: Vec::new(),
            idle: Vec::new(),
            orphan_looks: 0,
        }
    }

    /// Follows orders until the line is closed.
    fn serve(mut self) -> io::Result<i32> {
        if let Some(line) = &self.line {
            send(line, order::READY, SendFlags::NOSIGNAL)?;
        }
        loop {
            let asked = self.wait()?;
            self.bury();
            if !asked {
                continue;
            }
            match self.receive()? {
                None => return Ok(0),
                Some(Order::Start(number, parts)) => {
                    let network = self.lend().ok();
                    self.start(number, parts, network);
                }
                Some(Order::StartWithOutlet(number, parts)) => self.start(number, parts, None),
                Some(Order::Kill(number)) => self.kill(number),
                Some(Order::Nonsense) => {}
            }
        }
    }

    /// Whether an order came; otherwise an execution ended, or it is time to look for orphans.
    fn wait(&mut self) -> io::Result<bool> {
        let Some(line) = &self.line else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut fds = vec![PollFd::new(line, PollFlags::IN)];
        fds.extend(self.running.iter().map(|r| PollFd::new(&r.ended, PollFlags::IN)));
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(ORPHANS_EVERY.subsec_nanos()),
        };
        let pause = (self.orphan_looks > 0).then_some(&pause);
        match poll(&mut fds, pause) {
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
            Ok(_) => Ok(!fds[0].revents().is_empty()),
        }
    }

    fn receive(&self) -> io::Result<Option<Order>> {
        let Some(line) = &self.line else { return Ok(None) };
        let mut bytes = [0; order::LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let message = recvmsg(line, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
        if message.bytes == 0 {
            return Ok(None);
        }
        let mut descriptors = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = part {
                descriptors.extend(more);
            }
        }
        let [kind, number @ ..] = bytes;
        let number = u64::from_le_bytes(number);
        let parts = Parts::of(descriptors.into_iter());
        Ok(Some(match (kind, parts) {
            (order::START, Some(parts)) => Order::Start(number, parts),
            (order::START_WITH_OUTLET, Some(parts)) => Order::StartWithOutlet(number, parts),
            (order::KILL, _) => Order::Kill(number),
            _ => Order::Nonsense,
        }))
    }

    /// A network in which nothing lives.
    fn lend(&mut self) -> io::Result<OwnedFd> {
        while let Some(network) = self.idle.pop() {
            rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            // Nothing can come into it while nobody is there: a socket that was handed on before is still counted.
            let sockets = std::fs::read_to_string("/proc/self/net/sockstat").unwrap_or_default();
            if is_deserted(&sockets) {
                return Ok(network);
            }
        }
        // The warden itself sits in the newest, where it has no sockets.
        sys::unshare(UnshareFlags::NEWNET)?;
        sys::loopback_up()?;
        Ok(File::open("/proc/self/ns/net")?.into())
    }

    /// Divides this process. If that fails, the line of the execution closes without a word.
    fn start(&mut self, number: u64, parts: Parts, network: Option<OwnedFd>) {
        match sys::fork() {
            Ok(Fork::Child) => {
                // Nothing of the warden's own, and nothing of other executions, is left in this process.
                self.line = None;
                self.running.clear();
                self.idle.clear();
                sys::exit_now(supervise(&self.plan, parts, network))
            }
            Ok(Fork::Parent(supervisor)) => {
                match rustix::process::pidfd_open(supervisor, PidfdFlags::empty()) {
                    Ok(ended) => self.running.push(Running {
                        number,
                        supervisor,
                        ended,
                        network,
                    }),
                    Err(_) => {
                        let _ = super::reaper::kill_and_wait(supervisor);
                    }
                }
            }
            Err(_) => {}
        }
    }

    fn kill(&self, number: u64) {
        for execution in self.running.iter().filter(|r| r.number == number) {
            let _ = rustix::process::kill_process(execution.supervisor, Signal::KILL);
        }
    }

    /// Takes leave of all that has ended.
    fn bury(&mut self) {
        self.orphan_looks = self.orphan_looks.saturating_sub(1);
        while let Ok(Some((process, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let Some(at) = self.running.iter().position(|r| r.supervisor == process) else {
                continue;
            };
            let ended = self.running.swap_remove(at);
            if status.exit_status() != Some(0) {
                // What it started may live for a moment, so its network is not lent again.
                self.orphan_looks = ORPHAN_LOOKS;
            } else if self.idle.len() < MAX_IDLE_NETWORKS {
                self.idle.extend(ended.network);
            }
        }
    }
}

/// Whether a network has no socket left, not even one that waits for late packets; `sockstat` is what the kernel says
/// of it.
fn is_deserted(sockstat: &str) -> bool {
    let count = |line: &str, name: &str| {
        let mut words = sockstat.lines().find(|l| l.starts_with(line))?.split_whitespace();
        words.find(|word| *word == name)?;
        words.next()?.parse::<u64>().ok()
    };
    count("sockets:", "used") == Some(0) && count("TCP:", "tw") == Some(0)
}

/// The life of a copy of the warden. Its exit code is 0 only if nothing of the execution is left.
fn supervise(warden: &Plan, parts: Parts, network: Option<OwnedFd>) -> i32 {
    let outputs =
        rustix::stdio::dup2_stdout(&parts.stdout).and_then(|()| rustix::stdio::dup2_stderr(&parts.stderr));
    drop((parts.stdout, parts.stderr));
    if outputs.is_err() {
        return 1;
    }
    let walls = Walls::Warden {
        network: network.as_ref().map_or(Network::New, |_| Network::Lent),
    };
    // If not: the service ended before it had said what to do.
    let Ok(mut context) = run::listen(parts.control, walls) else {
        return 2;
    };
    context.group = parts.group.map(File::from);
    let deadline = Instant::now() + Duration::from_millis(context.plan.limits.wall_ms);
    // Nothing has begun: the service hears nothing, and starts a supervisor of its own.
    if prepare(&mut context, warden, network).is_err() {
        return 3;
    }
    let watched = run::in_namespace(&mut context, deadline);
    i32::from(run::conclude(&context, watched).is_err())
}

fn prepare(context: &mut Context, warden: &Plan, network: Option<OwnedFd>) -> io::Result<()> {
    context.gaps = std::mem::take(&mut context.plan.gaps);
    if !is_for(&context.plan, warden) {
        return Err(io::Error::other("the plan is for other walls than these"));
    }
    if network.is_some() && context.plan.outlet == Outlet::Proxy {
        return Err(io::Error::other("a way out needs a network of its own"));
    }
    if context.plan.cgroup.is_some() != context.group.is_some() {
        return Err(io::Error::other("the list of the control group did not come"));
    }
    enter_namespaces(network)
}

/// Whether what was built for one plan holds for another.
fn is_for(plan: &Plan, warden: &Plan) -> bool {
    let place = |plan: &Plan| (plan.root.clone(), plan.device, plan.inode);
    let walls = |plan: &Plan| (plan.run_as, plan.namespaces, plan.surroundings);
    place(plan) == place(warden) && walls(plan) == walls(warden) && plan.read_only == warden.read_only
}

/// Leaves the namespaces of the warden, but for the name of the host and the view of cgroups, which nobody inside can
/// change, and a network that was lent.
fn enter_namespaces(network: Option<OwnedFd>) -> io::Result<()> {
    let shared = UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    let mut own = EVERYTHING - shared;
    if let Some(network) = network {
        rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        own -= UnshareFlags::NEWNET;
    }
    let ourselves = Ourselves::now();
    sys::unshare(own)?;
    ourselves.map()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_deserted_without_any_socket() {
        let said = |used: &str, waiting: &str| {
            format!(
                "sockets: used {used}\nTCP: inuse 0 orphan 0 tw {waiting} alloc 7 mem 3\nUDP: inuse 0 mem 0\n"
            )
        };
        assert!(is_deserted(&said("0", "0")));
        for (used, waiting) in [("1", "0"), ("0", "1"), ("x", "0")] {
            assert!(!is_deserted(&said(used, waiting)));
        }
        assert!(!is_deserted(""));
    }
}
