//! The wardens: who they are, how many, and what happens when one ends.
//!
//! `unsafe`: a test leaves the mount namespace of the others, which no safe call does.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aion_machine::{
    ExecLimits, ExecRequest, LocalMachine, LocalOptions, Machine, Tier, Workspace, WorkspaceSpec,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::exec::{expected_tier, none_left_with, processes_with};
use crate::support::{Place, both, options, path, without_namespaces};

const WARDEN: &str = "--aion-machine-warden";

/// Who supervises in a workspace: our child above what is executed there.
async fn supervisor_of(work: &dyn Workspace) -> i32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mark = format!("0.4{:06}{number:03}", std::process::id());
    let look = async {
        loop {
            if let Some(found) = processes_with(&mark).first().and_then(|pid| child_above(*pid)) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (ran, found) = tokio::join!(work.exec(ExecRequest::shell(format!("sleep {mark}; true"))), look);
    assert!(ran.unwrap().success());
    found
}

fn child_above(mut pid: i32) -> Option<i32> {
    let ourselves = std::process::id() as i32;
    loop {
        match parent_of(pid)? {
            parent if parent == ourselves => return Some(pid),
            0 | 1 => return None,
            parent => pid = parent,
        }
    }
}

fn is_warden(pid: i32) -> bool {
    processes_with(WARDEN).contains(&pid)
}

fn is_alive(pid: i32) -> bool {
    std::path::Path::new("/proc").join(pid.to_string()).exists()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// All processes whose ancestor it is.
fn below(ancestor: i32) -> Vec<i32> {
    let all = processes_with("");
    let is_below = |pid: i32| {
        let mut at = pid;
        while let Some(parent) = parent_of(at).filter(|parent| *parent > 1) {
            if parent == ancestor {
                return true;
            }
            at = parent;
        }
        false
    };
    all.into_iter().filter(|pid| is_below(*pid)).collect()
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

async fn until(mut holds: impl FnMut() -> bool) -> bool {
    for _ in 0..500 {
        if holds() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

fn is_promised() -> bool {
    expected_tier() == Tier::Namespaces
}

/// The walls are built once, and stand until nobody wants them any more.
#[tokio::test]
async fn one_warden_supervises_all_executions_of_a_workspace() {
    if !is_promised() {
        return;
    }
    let place = Place::new().await;
    let first = supervisor_of(&*place.work).await;
    assert!(is_warden(first));
    let network = async || {
        place
            .sh("readlink /proc/self/ns/net")
            .await
            .unwrap()
            .stdout
            .text()
    };
    let mut networks = HashSet::new();
    for _ in 0..8 {
        networks.insert(network().await);
    }
    // The one before may not be back when the next is wanted.
    assert!(networks.len() <= 4, "a network is lent again: {networks:?}");
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!networks.contains(&format!("{}\n", ours.display())));
    assert_eq!(supervisor_of(&*place.work).await, first);
    drop(place);
    assert!(until(|| !is_alive(first)).await, "it stays");
}

#[tokio::test]
async fn without_wardens_and_without_namespaces_there_are_none() {
    for options in [options().with_max_wardens(0), without_namespaces()] {
        let place = Place::with(options).await;
        let supervisor = supervisor_of(&*place.work).await;
        assert!(!is_warden(supervisor) && !is_alive(supervisor));
    }
}

/// The report says the same by whichever way the supervisor came.
#[tokio::test]
async fn what_holds_is_the_same_without_a_warden() {
    let with = Place::new().await.sh("true").await.unwrap().enforcement;
    let without = Place::with(options().with_max_wardens(0)).await;
    assert_eq!(without.sh("true").await.unwrap().enforcement, with);
}

/// Killed while nothing runs, or while something does: the next execution has a new one. What ran is an error.
#[tokio::test]
async fn a_warden_that_is_gone_is_replaced() {
    if !is_promised() {
        return;
    }
    let place = Place::new().await;
    let mut first = supervisor_of(&*place.work).await;
    for _ in 0..3 {
        let gone = below(first);
        kill(first);
        // Until then an execution could begin that does not come to its end.
        assert!(until(|| gone.iter().all(|pid| !is_alive(*pid))).await);
        let out = place.sh("echo here").await.unwrap();
        assert_eq!(
            (out.stdout.text().as_str(), out.enforcement.tier()),
            ("here\n", Tier::Namespaces)
        );
        let next = supervisor_of(&*place.work).await;
        assert!(is_warden(next) && next != first);
        first = next;
    }
    let mark = format!("62.{:06}", std::process::id());
    let line = format!("echo started >> log; sleep {mark}");
    let (ran, ()) = tokio::join!(place.sh(&line), async {
        assert!(until(|| processes_with(&mark).len() >= 2).await);
        // The inner one, whose end the kernel makes the end of everything.
        let inner = below(first)
            .into_iter()
            .find(|pid| parent_of(*pid) == Some(first));
        kill(inner.unwrap());
    });
    assert_eq!(ran.unwrap_err().code(), "supervisor_failed");
    assert!(none_left_with(&mark).await);
    let log = std::fs::read_to_string(place.inside().join("log")).unwrap();
    assert_eq!(log, "started\n", "nothing is executed twice");
    assert!(place.sh("true").await.unwrap().success());
}

/// One that stands still fails the execution that it has, and no other.
#[tokio::test]
async fn a_warden_that_stands_still_is_replaced() {
    if !is_promised() {
        return;
    }
    let place = Place::with(options().with_supervisor_grace(Duration::from_millis(300))).await;
    let first = supervisor_of(&*place.work).await;
    let all = below(first);
    let inner = all.iter().find(|pid| parent_of(**pid) == Some(first));
    kill_process(Pid::from_raw(*inner.unwrap()).unwrap(), Signal::STOP).unwrap();
    let limits = ExecLimits::default().with_wall_ms(300).with_grace_ms(0);
    let request = ExecRequest::shell("echo ran >> log").with_limits(limits);
    let refused = place.work.exec(request).await.unwrap_err();
    assert_eq!(refused.code(), "supervisor_failed");
    let next = supervisor_of(&*place.work).await;
    assert!(is_warden(next) && next != first);
    assert!(until(|| all.iter().all(|pid| !is_alive(*pid))).await, "it stays");
    assert!(!is_alive(first) && !place.inside().join("log").exists());
}

/// A first process that is killed takes its execution along, and nothing else: the warden stays, and the other execution.
#[tokio::test]
async fn a_killed_first_process_harms_nobody_else() {
    if !is_promised() {
        return;
    }
    let place = Place::new().await;
    let warden = supervisor_of(&*place.work).await;
    let mine = format!("63.{:06}", std::process::id());
    let other = format!("1.5{:06}", std::process::id());
    let lines = [format!("sleep {mine}; true"), format!("sleep {other}; echo kept")];
    let (killed, kept, ()) = tokio::join!(place.sh(&lines[0]), place.sh(&lines[1]), async {
        let both = || processes_with(&mine).len() >= 2 && processes_with(&other).len() >= 2;
        assert!(until(both).await);
        let inner = below(warden)
            .into_iter()
            .find(|pid| parent_of(*pid) == Some(warden));
        let mut first = processes_with(&mine)[0];
        while parent_of(first) != inner {
            first = parent_of(first).unwrap();
        }
        kill(first);
    });
    let killed = killed.unwrap();
    assert_eq!((killed.exit_code, killed.signal), (None, Some(9)));
    assert_eq!(kept.unwrap().stdout.text(), "kept\n");
    assert!(none_left_with(&mine).await);
    assert_eq!(supervisor_of(&*place.work).await, warden);
    assert!(
        until(|| below(warden).len() == 1).await,
        "something is left: {:?}",
        below(warden)
    );
}

/// There is one for each workspace until there are too many. Then the one that was used longest ago goes, if none of its
/// executions runs and it was not wanted a moment ago.
#[tokio::test]
async fn there_are_only_so_many() {
    if !is_promised() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalMachine::open_root(dir.path(), options().with_max_wardens(2)).unwrap();
    let supervisor = async |name: &str| {
        let work = machine.open(&WorkspaceSpec::new(path(name))).await.unwrap();
        supervisor_of(&*work).await
    };
    let (a, b) = (supervisor("a").await, supervisor("b").await);
    assert!(is_warden(a) && is_warden(b) && a != b);
    assert!(!is_warden(supervisor("c").await), "both were just used");
    assert!(is_alive(a) && is_alive(b));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(supervisor("b").await, b);
    let c = supervisor("c").await;
    assert!(
        is_warden(c) && until(|| !is_alive(a)).await,
        "the first has to go"
    );
    assert_eq!(supervisor("b").await, b);
    // Where all are busy, an execution has a supervisor of its own.
    let busy = async |name: &str| {
        let work = machine.open(&WorkspaceSpec::new(path(name))).await.unwrap();
        work.exec(ExecRequest::shell("sleep 0.4"))
            .await
            .unwrap()
            .success()
    };
    let (a, b, c) = tokio::join!(busy("a"), busy("b"), busy("c"));
    assert!(a && b && c);
}

/// What is mounted in the workspace while a warden stands there is seen by the next execution, and what is taken down is
/// not seen any more. Only root can mount something.
#[tokio::test]
async fn a_mount_of_the_host_is_seen() {
    use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
    if !is_promised() || !rustix::process::getuid().is_root() {
        return;
    }
    // SAFETY: descriptors stay shared. Only this thread and those that it starts from now on are elsewhere.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    let place = Place::new().await;
    let data = place.inside().join("data");
    std::fs::create_dir(&data).unwrap();
    let first = supervisor_of(&*place.work).await;
    assert!(is_warden(first) && !place.sh("test -e data/f").await.unwrap().success());
    let sees = async |seen: bool| {
        for _ in 0..300 {
            if place.sh("test -e data/f").await.unwrap().success() == seen {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    };
    mount("tmpfs", &data, "tmpfs", MountFlags::empty(), None).unwrap();
    std::fs::write(data.join("f"), "new").unwrap();
    assert!(sees(true).await, "the mount is not seen");
    assert!(is_warden(supervisor_of(&*place.work).await));
    assert!(until(|| !is_alive(first)).await, "the old one stays");
    unmount(&data, UnmountFlags::DETACH).unwrap();
    assert!(sees(false).await, "it is still seen");
}

/// A room for one execution is furnished for it alone: the sizes and the protected paths of its request hold.
#[tokio::test]
async fn what_differs_between_executions_is_not_kept() {
    let place = Place::with(options().with_protected(path("later"))).await;
    let room = async |mib: u64| {
        let limits = aion_machine::ExecLimits::default().with_tmp_bytes(mib << 20);
        let fill = ExecRequest::shell("head -c 3000000 /dev/zero > /tmp/f").with_limits(limits);
        place.work.exec(fill).await.unwrap().success()
    };
    if is_promised() {
        assert!(!room(1).await && room(8).await && !room(1).await);
        assert!(
            place.sh("echo x > later").await.unwrap().success(),
            "it is not there yet"
        );
        assert!(!place.sh("echo y > later").await.unwrap().success(), "now it is");
    }
    for options in both() {
        let tool = tempfile::tempdir().unwrap();
        std::fs::write(tool.path().join("tool"), "readable").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(tool.path(), mode).unwrap();
        let place = Place::with(LocalOptions::with_read_only(options, tool.path())).await;
        let look = format!("cat {0}/tool; echo x > {0}/tool", tool.path().display());
        let out = place.sh(&look).await.unwrap();
        assert_eq!(out.stdout.text(), "readable");
        assert!(!out.success());
    }
}
