//! The warden of a workspace: a supervisor that is kept ready, of all executions there at once.
//!
//! What all executions in a workspace see alike is built once: the user whom they run as, the root file system, the
//! name of the host. Then the service sends descriptors, and for each such message the warden divides itself: the copy is
//! the first process of an execution, in namespaces of its own from its first step on, and reads the plan from its line.
//! What an execution must have for itself it still gets anew: a user namespace with its limits, processes, message queues,
//! `/proc`, `/tmp`, `/dev/shm`, Landlock and the filter. A network is lent to one execution at a time, and comes back only
//! when the kernel has ended all of it.
//!
//! The warden waits for ends, deadlines and orders, and for nothing else: it never looks at what a program made, and
//! nothing that a program does holds it up. What a long execution uses is looked at by a process of its own.
//!
//! The warden is the first process of a process namespace: if it ends, the kernel ends everything that came from it. It
//! ends when the service closes its line. It knows one workspace and holds no descriptor of another.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use rustix::process::{Signal, WaitOptions, WaitStatus};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::charge::{self, Charge, Watcher};
use super::filter::{self, Sight};
use super::identity;
use super::mounts::{self, Interior};
use super::plan::{Outlet, Plan, Terms};
use super::reaper::{self, Status};
use super::run::{self, Context, EVERYTHING, HOST_NAME, Network, Ourselves, Walls};
use super::sys::{self, Divided, Fork};

/// What the service asks of a warden: a byte, the number of the execution in eight more, the lowest first, and for a start
/// the [`Terms`].
pub(crate) mod order {
    /// Begin an execution. With it come its line, its outputs and, if it has a cgroup, the list of its processes.
    pub(crate) const START: u8 = b's';
    /// Ask its program to end.
    pub(crate) const END: u8 = b't';
    /// Kill an execution that does not end.
    pub(crate) const KILL: u8 = b'k';
    /// How long the head of an order is.
    pub(crate) const HEAD: usize = 9;
    /// What the warden says when it is ready. Anything else is why it is not.
    pub(crate) const READY: &[u8] = b"the walls stand";
    /// Larger plans are not for a warden.
    pub(crate) const MAX_PLAN_BYTES: usize = 64 << 10;
}

/// How many networks wait for an execution.
const MAX_IDLE_NETWORKS: usize = 8;
/// How many executions can be at once.
const MAX_CHARGES: usize = 1024;
/// No order is longer.
const MAX_ORDER_BYTES: usize = 4 << 10;
/// The exit code of a first process that began nothing: the service hears nothing of it.
const NOTHING_BEGUN: i32 = 3;
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
                Ok(()) => Warden::new(line, plan).and_then(Warden::serve),
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

/// What a first process and the warden tell each other of one execution.
#[derive(Clone, Copy)]
struct Slot {
    /// Blocks written by processes that the first one took leave of.
    written: &'static AtomicU64,
    /// How the program ended, as [`Status::to_bits`] has it.
    status: &'static AtomicU64,
}

/// All of them.
fn slots() -> io::Result<Vec<Slot>> {
    let (numbers, _) = sys::shared_numbers(2 * MAX_CHARGES)?.as_chunks::<2>();
    let slots = numbers.iter().map(|[written, status]| Slot { written, status });
    Ok(slots.collect())
}

struct Warden {
    line: Option<OwnedFd>,
    plan: Plan,
    ourselves: Ourselves,
    charges: Vec<(Charge, Slot)>,
    free: Vec<Slot>,
    /// Networks in which nothing lives.
    idle: Vec<OwnedFd>,
    /// Watchers whom nobody needs any more, until they have ended.
    leaving: Vec<Watcher>,
}

/// What comes over the line.
enum Order {
    Start(u64, Terms, Parts),
    End(u64),
    Kill(u64),
    Nonsense,
}

impl Warden {
    fn new(line: OwnedFd, plan: Plan) -> io::Result<Self> {
        Ok(Self {
            line: Some(line),
            plan,
            ourselves: Ourselves::now(),
            charges: Vec::new(),
            free: slots()?,
            idle: Vec::new(),
            leaving: Vec::new(),
        })
    }

    /// Follows orders until the line is closed.
    fn serve(mut self) -> io::Result<i32> {
        // For all copies.
        let _ = filter::of(Sight::of(true, true));
        sys::prepare_to_lend_memory()?;
        if let Some(line) = &self.line {
            send(line, order::READY, SendFlags::NOSIGNAL)?;
        }
        loop {
            let asked = self.wait()?;
            self.bury();
            self.tend();
            if !asked {
                continue;
            }
            match self.receive()? {
                None => return Ok(0),
                Some(Order::Start(number, terms, parts)) => self.start(number, terms, parts),
                Some(Order::End(number)) => self.each(number, Charge::ask_to_end),
                Some(Order::Kill(number)) => self.each(number, Charge::kill_at_once),
                Some(Order::Nonsense) => {}
            }
        }
    }

    /// Waits until something is to be done. Whether an order came.
    fn wait(&mut self) -> io::Result<bool> {
        let Some(line) = &self.line else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut fds = vec![PollFd::new(line, PollFlags::IN)];
        fds.extend(self.charges.iter().flat_map(|(charge, _)| charge.signs()));
        fds.extend(self.leaving.iter().map(Watcher::sign));
        let next = self.charges.iter().filter_map(|(charge, _)| charge.due()).min();
        let pause = next.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        match poll(&mut fds, pause.as_ref()) {
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
            Ok(_) => Ok(!fds[0].revents().is_empty()),
        }
    }

    fn receive(&self) -> io::Result<Option<Order>> {
        let Some(line) = &self.line else { return Ok(None) };
        let mut bytes = [0; MAX_ORDER_BYTES];
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
        let (head, terms) = bytes[..message.bytes].split_at(message.bytes.min(order::HEAD));
        Ok(Some(
            order_of(head, terms, descriptors).unwrap_or(Order::Nonsense),
        ))
    }

    fn each(&mut self, number: u64, what: impl Fn(&mut Charge)) {
        let all = self.charges.iter_mut().map(|(charge, _)| charge);
        all.filter(|charge| charge.number() == number).for_each(what);
    }

    /// Does what is due.
    fn tend(&mut self) {
        let now = Instant::now();
        for at in 0..self.charges.len() {
            let (charge, slot) = &mut self.charges[at];
            charge.tend(now);
            if charge.wants_watcher(now) {
                let scales = charge.scales(slot.written);
                let watcher = self.watch(scales);
                self.charges[at].0.watched_by(watcher);
            }
        }
    }

    /// A process that looks at what an execution uses. It ends when that is too much.
    fn watch(&mut self, scales: super::usage::Scales) -> io::Result<Watcher> {
        match sys::divide(UnshareFlags::empty())? {
            Divided::Child => {
                self.let_go();
                sys::exit_now(charge::look_until_too_much(scales))
            }
            Divided::Parent(process, ended) => Ok(Watcher { process, ended }),
        }
    }

    /// In a copy: nothing of the warden's own, and nothing of other executions, is left in it.
    fn let_go(&mut self) {
        self.line = None;
        self.charges.clear();
        self.idle.clear();
        self.leaving.clear();
    }

    /// A network in which nothing lives.
    fn lend(&mut self) -> io::Result<OwnedFd> {
        while let Some(network) = self.idle.pop() {
            rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            // Nothing can come into it while nobody is there: a socket that was handed on before is still counted.
            if is_deserted(&sockets_here().unwrap_or_default()) {
                return Ok(network);
            }
        }
        // The warden itself sits in the newest, where it has no sockets.
        sys::unshare(UnshareFlags::NEWNET)?;
        sys::loopback_up()?;
        Ok(File::open("/proc/self/ns/net")?.into())
    }

    /// Divides this process. If that fails, the line of the execution closes without a word.
    fn start(&mut self, number: u64, terms: Terms, parts: Parts) {
        let Ok(control) = parts.control.try_clone() else {
            return;
        };
        let Some(slot) = self.free.pop() else { return };
        slot.written.store(0, Ordering::Relaxed);
        slot.status.store(0, Ordering::Relaxed);
        // A way out is a listener, which must not meet another one.
        let network = match terms.outlet {
            Outlet::None => self.lend().ok(),
            Outlet::Proxy => None,
        };
        let shared = UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
        let lent = network
            .as_ref()
            .map_or(UnshareFlags::empty(), |_| UnshareFlags::NEWNET);
        // Nobody inside can change the name of the host or the view of cgroups.
        match sys::divide(EVERYTHING - shared - lent) {
            Ok(Divided::Child) => {
                self.let_go();
                drop(control);
                let network = network.map_or(Network::New, |_| Network::Lent);
                sys::exit_now(first_process(&self.plan, self.ourselves, parts, network, slot))
            }
            Ok(Divided::Parent(first, ended)) => {
                let charge = Charge::new(number, terms, first, ended, control, network);
                self.charges.push((charge, slot));
            }
            Err(_) => {
                self.free.push(slot);
                self.idle.extend(network);
            }
        }
    }

    /// Takes leave of all that has ended.
    fn bury(&mut self) {
        while let Ok(Some((process, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.leaving.retain(|watcher| watcher.process != process);
            if let Some(at) = self
                .charges
                .iter()
                .position(|(charge, _)| charge.is_first(process))
            {
                let (charge, slot) = self.charges.swap_remove(at);
                self.conclude(charge, slot, status);
            } else if let Some((charge, _)) = self.charges.iter_mut().find(|(c, _)| c.is_watched_by(process))
            {
                charge.heed(status);
            }
        }
    }

    /// When the first process is gone, nothing is left of an execution.
    fn conclude(&mut self, mut charge: Charge, slot: Slot, status: WaitStatus) {
        if status.exit_status() != Some(NOTHING_BEGUN) {
            charge.report_end(Status::from_bits(slot.status.load(Ordering::Relaxed)));
        }
        self.leaving.extend(charge.dismiss_watcher());
        self.free.push(slot);
        if self.idle.len() < MAX_IDLE_NETWORKS {
            self.idle.extend(charge.take_network());
        }
    }
}

fn order_of(head: &[u8], terms: &[u8], descriptors: Vec<OwnedFd>) -> Option<Order> {
    let (kind, number) = head.split_first()?;
    let number = u64::from_le_bytes(number.try_into().ok()?);
    Some(match *kind {
        order::START => {
            let terms = serde_json::from_slice(terms).ok()?;
            Order::Start(number, terms, Parts::of(descriptors.into_iter())?)
        }
        order::END => Order::End(number),
        order::KILL => Order::Kill(number),
        _ => return None,
    })
}

fn timespec(d: Duration) -> Timespec {
    Timespec {
        tv_sec: d.as_secs() as i64,
        tv_nsec: i64::from(d.subsec_nanos()),
    }
}

/// What the kernel says of the sockets in our network, in one piece.
fn sockets_here() -> io::Result<String> {
    let mut bytes = [0; 1 << 10];
    let read = File::open("/proc/self/net/sockstat")?.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..read]).into_owned())
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

/// The life of the first process of an execution; returns its exit code.
fn first_process(warden: &Plan, user: Ourselves, parts: Parts, network: Network, slot: Slot) -> i32 {
    let outputs =
        rustix::stdio::dup2_stdout(&parts.stdout).and_then(|()| rustix::stdio::dup2_stderr(&parts.stderr));
    drop((parts.stdout, parts.stderr));
    if outputs.is_err() {
        return NOTHING_BEGUN;
    }
    // If not: the service ended before it had said what to do.
    let Ok(mut context) = run::listen(parts.control, Walls::Warden { network }) else {
        return NOTHING_BEGUN;
    };
    context.group = parts.group.map(File::from);
    // Nothing has begun: the service hears nothing, and starts a supervisor of its own.
    if prepare(&mut context, warden, user, network).is_err() {
        return NOTHING_BEGUN;
    }
    let Some(program) = run::start_inside(&mut context) else {
        return 1;
    };
    let status = reaper::wait_reaping(program, slot.written);
    slot.status.store(status.to_bits(), Ordering::Relaxed);
    0
}

fn prepare(context: &mut Context, warden: &Plan, user: Ourselves, network: Network) -> io::Result<()> {
    context.gaps = std::mem::take(&mut context.plan.gaps);
    if !is_for(&context.plan, warden) {
        return Err(io::Error::other("the plan is for other walls than these"));
    }
    if network == Network::Lent && context.plan.outlet == Outlet::Proxy {
        return Err(io::Error::other("a way out needs a network of its own"));
    }
    if context.plan.cgroup.is_some() != context.group.is_some() {
        return Err(io::Error::other("the list of the control group did not come"));
    }
    context.join_group_ourselves()?;
    user.map()?;
    sys::pass_on_sigterm()
}

/// Whether what was built for one plan holds for another.
fn is_for(plan: &Plan, warden: &Plan) -> bool {
    let place = |plan: &Plan| (plan.root.clone(), plan.device, plan.inode);
    let walls = |plan: &Plan| (plan.run_as, plan.namespaces, plan.surroundings);
    place(plan) == place(warden) && walls(plan) == walls(warden) && plan.read_only == warden.read_only
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
