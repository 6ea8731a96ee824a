//! One execution in a warden's charge: what is to happen to it, and when.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, Signal, WaitStatus, kill_process};

use super::mounts::WORKSPACE;
use super::plan::{Report, Terms};
use super::reaper::Status;
use super::run;
use super::usage::{Disk, Scales};
use super::vigil::{LOOK_EVERY, pause_after};
use crate::Ending;

/// The exit codes of a watcher that saw too much.
const TOO_MUCH: [(i32, Ending); 3] = [
    (10, Ending::ProcessLimit),
    (11, Ending::MemoryLimit),
    (12, Ending::DiskLimit),
];

/// A process that looks at what an execution uses.
pub(super) struct Watcher {
    pub(super) process: Pid,
    pub(super) ended: OwnedFd,
}

impl Watcher {
    pub(super) fn sign(&self) -> PollFd<'_> {
        PollFd::new(&self.ended, PollFlags::IN)
    }
}

/// How far it is.
#[derive(Clone, Copy)]
enum Phase {
    Runs,
    /// Its program was asked to end.
    Asked {
        by: Ending,
        kill_at: Instant,
    },
    /// Everything was killed, and need only be waited for.
    Killed {
        by: Ending,
    },
}

/// Who looks at what it uses.
enum Watch {
    /// Nobody before this.
    From(Instant),
    By(Watcher),
    Nobody,
}

/// An execution.
pub(super) struct Charge {
    number: u64,
    terms: Terms,
    first: Pid,
    ended: OwnedFd,
    /// The line to the service, which the first process has too.
    control: OwnedFd,
    /// What it borrowed.
    network: Option<OwnedFd>,
    deadline: Instant,
    phase: Phase,
    watch: Watch,
}

impl Charge {
    /// Its time begins now.
    pub(super) fn new(
        number: u64,
        terms: Terms,
        first: Pid,
        ended: OwnedFd,
        control: OwnedFd,
        network: Option<OwnedFd>,
    ) -> Self {
        let now = Instant::now();
        let deadline = now + Duration::from_millis(terms.limits.wall_ms);
        Self {
            number,
            terms,
            first,
            ended,
            control,
            network,
            deadline,
            phase: Phase::Runs,
            watch: Watch::From(now + LOOK_EVERY),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_first(&self, process: Pid) -> bool {
        self.first == process
    }

    pub(super) fn is_watched_by(&self, process: Pid) -> bool {
        matches!(&self.watch, Watch::By(watcher) if watcher.process == process)
    }

    /// What tells that something is to be done.
    pub(super) fn signs(&self) -> impl Iterator<Item = PollFd<'_>> {
        // Our direction of the line that closes says the same again and again.
        let control = match self.phase {
            Phase::Killed { .. } => None,
            Phase::Runs | Phase::Asked { .. } => Some(PollFd::new(&self.control, PollFlags::RDHUP)),
        };
        let watcher = match &self.watch {
            Watch::By(watcher) => Some(watcher.sign()),
            Watch::From(_) | Watch::Nobody => None,
        };
        let ended = PollFd::new(&self.ended, PollFlags::IN);
        [Some(ended), control, watcher].into_iter().flatten()
    }

    /// When something is to be done at the latest, whatever happens.
    pub(super) fn due(&self) -> Option<Instant> {
        let by_phase = match self.phase {
            Phase::Runs => self.deadline,
            Phase::Asked { kill_at, .. } => kill_at,
            Phase::Killed { .. } => return None,
        };
        match self.watch {
            Watch::From(at) => Some(by_phase.min(at)),
            Watch::By(_) | Watch::Nobody => Some(by_phase),
        }
    }

    /// Does what is due but for starting a watcher.
    pub(super) fn tend(&mut self, now: Instant) {
        match self.phase {
            Phase::Killed { .. } => {}
            _ if self.is_hung_up() => self.kill(Ending::Killed),
            Phase::Runs if now >= self.deadline => self.begin_end(Ending::TimedOut),
            Phase::Asked { by, kill_at } if now >= kill_at => self.kill(by),
            Phase::Runs | Phase::Asked { .. } => {}
        }
    }

    /// Whether the service has closed its direction of the line, or is gone.
    fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.control, PollFlags::RDHUP)];
        poll(&mut fds, Some(&rustix::event::Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    fn begin_end(&mut self, by: Ending) {
        let grace = Duration::from_millis(self.terms.limits.grace_ms);
        if grace.is_zero() {
            self.kill(by);
            return;
        }
        let _ = kill_process(self.first, Signal::TERM);
        let kill_at = Instant::now() + grace;
        self.phase = Phase::Asked { by, kill_at };
    }

    /// With the first process, the kernel ends everything that came from it.
    fn kill(&mut self, by: Ending) {
        let _ = kill_process(self.first, Signal::KILL);
        self.phase = Phase::Killed { by };
    }

    /// As the service orders.
    pub(super) fn ask_to_end(&mut self) {
        if matches!(self.phase, Phase::Runs) {
            self.begin_end(Ending::Killed);
        }
    }

    /// The same.
    pub(super) fn kill_at_once(&mut self) {
        match self.phase {
            Phase::Runs => self.kill(Ending::Killed),
            Phase::Asked { by, .. } | Phase::Killed { by } => self.kill(by),
        }
    }

    pub(super) fn wants_watcher(&self, now: Instant) -> bool {
        matches!(self.watch, Watch::From(at) if now >= at) && !matches!(self.phase, Phase::Killed { .. })
    }

    pub(super) fn scales(&self, written: &'static AtomicU64) -> Scales {
        let disk = Disk {
            workspace: WORKSPACE.to_owned(),
            min_free_bytes: self.terms.min_free_bytes,
        };
        Scales::new(&self.terms.limits, disk, written, 1).of(self.first)
    }

    /// Without a watcher nothing goes on.
    pub(super) fn watched_by(&mut self, watcher: io::Result<Watcher>) {
        match watcher {
            Ok(watcher) => self.watch = Watch::By(watcher),
            Err(e) => self.fail(&format!("what it uses cannot be looked at: {e}")),
        }
    }

    /// What the end of its watcher says.
    pub(super) fn heed(&mut self, status: WaitStatus) {
        self.watch = Watch::Nobody;
        let seen = TOO_MUCH
            .iter()
            .find(|(code, _)| status.exit_status() == Some(*code));
        match (seen, self.phase) {
            (_, Phase::Killed { .. }) => {}
            (Some((_, by)), _) => self.kill(*by),
            (None, _) => self.fail("who looked at what it uses is gone"),
        }
    }

    fn fail(&mut self, reason: &str) {
        self.watch = Watch::Nobody;
        self.report(&Report::Failed {
            reason: reason.to_owned(),
        });
        self.kill(Ending::Killed);
    }

    /// Says how it ended. The service reads all the time; if it is not there any more, there is nobody to tell.
    pub(super) fn report_end(&self, status: Option<Status>) {
        let by = match self.phase {
            Phase::Runs => Ending::Itself,
            Phase::Asked { by, .. } | Phase::Killed { by } => by,
        };
        if let Some(report) = run::end_report(status, by) {
            self.report(&report);
        }
    }

    fn report(&self, report: &Report) {
        if let Ok(mut line) = serde_json::to_vec(report) {
            line.push(b'\n');
            let _ = send(&self.control, &line, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    /// The end of its watcher begins. Who it was, if there was one.
    pub(super) fn dismiss_watcher(&mut self) -> Option<Watcher> {
        match std::mem::replace(&mut self.watch, Watch::Nobody) {
            Watch::By(watcher) => {
                let _ = kill_process(watcher.process, Signal::KILL);
                Some(watcher)
            }
            Watch::From(_) | Watch::Nobody => None,
        }
    }

    pub(super) fn take_network(&mut self) -> Option<OwnedFd> {
        self.network.take()
    }
}

/// The life of a watcher; returns its exit code.
pub(super) fn look_until_too_much(mut scales: Scales) -> i32 {
    loop {
        let began = Instant::now();
        if let Some(seen) = scales.look() {
            let code = TOO_MUCH.iter().find(|(_, ending)| *ending == seen);
            return code.map_or(1, |(code, _)| *code);
        }
        std::thread::sleep(pause_after(began.elapsed()));
    }
}
