//! The supervisor inside walls that somebody else has built: namespaces and mounts are there, the rest is ours.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::confine::Shell;
use super::mounts::WORKSPACE;
use super::plan::{Outlet, Report};
use super::run::{Context, end_report, follow_parent, shut_in, vigil};
use super::sys::{self, Fork};
use super::usage::{Disk, Scales};
use super::{bridge, reaper, target};

/// Checks that the walls are there, and watches over the program.
pub(super) fn watch(context: &mut Context) -> io::Result<Option<Report>> {
    let missing = missing();
    if !missing.is_empty() {
        return Ok(Some(Report::Refused { gaps: missing }));
    }
    if !context.plan.protected.is_empty() {
        let gap = "protected: in bubblewrap nothing in the workspace is protected";
        context.gaps.push(gap.to_owned());
    }
    if context.plan.outlet == Outlet::Proxy {
        bridge::offer(context)?;
    }
    // Any process id but none turns it on; the number is not looked at.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let deadline = Instant::now() + Duration::from_millis(context.plan.limits.wall_ms);
    let written = sys::shared_counter()?;
    let (go_read, go_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match sys::fork()? {
        Fork::Child => {
            drop(go_write);
            let code = match follow_parent(go_read) {
                Ok(()) => confined_target(context),
                Err(_) => 1,
            };
            sys::exit_now(code)
        }
        Fork::Parent(program) => {
            drop(go_read);
            File::from(go_write).write_all(b"g")?;
            let disk = Disk {
                workspace: WORKSPACE.to_owned(),
                min_free_bytes: context.plan.min_free_bytes,
            };
            let scales = Scales::new(&context.plan.limits, disk, written, 0).with_objects();
            let by = vigil(context, program, deadline, scales)
                .keep(reaper::ask_tree_to_end, || reaper::reap_orphans(program, written))?;
            // What is left ends with the first process, which ends with this one.
            let status = reaper::kill_tree(program)?;
            Ok(end_report(status, by))
        }
    }
}

fn confined_target(context: &mut Context) -> i32 {
    let shell = Shell {
        isolated: true,
        own_root: true,
        scratch: None,
    };
    match shut_in(context, &shell) {
        Ok(()) => target::become_program(context, &shell),
        Err(e) => {
            context.report(&Report::Failed {
                reason: format!("confining the program: {e}"),
            });
            1
        }
    }
}

/// What does not look as it would in namespaces of our own. That the workspace is the right directory is checked
/// before the program is started.
fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    let first = rustix::process::getppid().is_some_and(|parent| parent.as_raw_nonzero().get() == 1);
    if !first {
        missing.push("bubblewrap: there is no process namespace".to_owned());
    }
    let devices = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let mut names = devices
        .lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim()));
    if devices.is_empty() || names.any(|name| name != "lo") {
        missing.push("bubblewrap: there is no network namespace".to_owned());
    }
    missing
}
