//! The small program between the service and what it executes.
//!
//! A service that executes programs is started a second time as a supervisor: it shuts itself in,
//! starts the program, and sees to it that nothing of it remains. It is a process of its own because
//! the service has threads and gigabytes, neither of which go well with `fork`.
//!
//! ```no_run
//! // first in main:
//! aion_machine::supervisor::run_if_requested();
//! // ... the program itself
//! ```
//!
//! # What holds, and what does not yet
//! With namespaces: the program has a root file system of its own (the system's directories read-only, a
//! few files of `/etc`, its workspace at `/workspace`, a private `/tmp` that is its `HOME`), its own
//! processes, network, host name and message queues, no capabilities, a Landlock domain and a system
//! call filter. Without: the Landlock domain and the filter, which then also refuses sockets and changes
//! of modes and owners; the host's processes and the names of its files can be seen, and a program can
//! outlive a supervisor that is killed. [`Enforcement`](crate::Enforcement) says which of it held.
//!
//! A service that is root has its programs run as nobody ([`RunAs`]), in a workspace that is shown to them
//! as theirs.

mod bridge;
mod charge;
mod confine;
mod container;
mod filter;
mod identity;
mod mounts;
mod objects;
mod plan;
mod reaper;
mod run;
mod sys;
mod target;
mod trial;
mod usage;
mod vigil;
mod warden;

use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use self::mounts::{ETC, ETC_SSL, SYSTEM, WORKSPACE};
pub(crate) use self::plan::{Cgroup, Outlet, Plan, Report, Surroundings, Terms, word};
pub use self::plan::{Namespaces, RunAs};
pub(crate) use self::trial::Trial;
#[cfg(test)]
pub(crate) use self::trial::got;
pub(crate) use self::warden::order;

/// The argument by which a program knows that it is to be a supervisor.
pub(crate) const ARGUMENT: &str = "--aion-machine-supervisor";
/// The argument by which it knows that it is to be a warden, who has a supervisor ready for each execution.
pub(crate) const WARDEN: &str = "--aion-machine-warden";

static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Becomes the supervisor, or the warden of a workspace, and never returns, if this process was started as one.
///
/// Call it first in `main`, before any thread is started. Otherwise it only notes that this program
/// can be its own supervisor, which [`LocalMachine`](crate::LocalMachine) relies on.
pub fn run_if_requested() {
    let mut arguments = std::env::args_os().skip(1);
    let only = arguments.next().filter(|_| arguments.next().is_none());
    match only.as_ref().and_then(|argument| argument.to_str()) {
        Some(ARGUMENT) => std::process::exit(run::supervise()),
        Some(WARDEN) => std::process::exit(warden::stand_by()),
        _ => {}
    }
    INSTALLED.store(true, Ordering::Relaxed);
}

/// Whether [`run_if_requested`] was called, so that starting ourselves is not starting over.
pub(crate) fn is_installed() -> bool {
    INSTALLED.load(Ordering::Relaxed)
}
