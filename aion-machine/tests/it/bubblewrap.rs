//! Executions in bubblewrap: the conformance kit, what it leaves open by itself and our supervisor does not, and when it
//! is not used at all.
//!
//! They fail where there is no bubblewrap, unless `AION_TEST_BUBBLEWRAP=skip` says that there is to be none.

use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use aion_machine::{
    BUBBLEWRAP, BubblewrapMachine, Error, ExecLimits, ExecOutput, ExecRequest, FileConfinement, LocalOptions,
    Machine, NetworkConfinement, ProcessConfinement, RelPath, RunAs, Tier, Workspace, WorkspaceSpec,
};
use tempfile::TempDir;

use crate::support;

/// A machine in a fresh directory; none where this run is to have none.
struct Wrapped {
    dir: TempDir,
    machine: Arc<dyn Machine>,
}

impl Deref for Wrapped {
    type Target = dyn Machine;
    fn deref(&self) -> &Self::Target {
        &*self.machine
    }
}

/// Programs are the user of this run, even if that is root.
fn options() -> LocalOptions {
    support::options().with_run_as(RunAs::Service)
}

fn skipped() -> bool {
    std::env::var("AION_TEST_BUBBLEWRAP").as_deref() == Ok("skip")
}

async fn wrapped() -> Wrapped {
    let dir = tempfile::tempdir().unwrap();
    let machine: Arc<dyn Machine> = if skipped() {
        Arc::new(aion_machine::LocalMachine::open_root(dir.path(), options()).unwrap())
    } else {
        let opened = BubblewrapMachine::open_root(dir.path(), options(), BUBBLEWRAP);
        Arc::new(
            opened.expect("bubblewrap cannot be used; AION_TEST_BUBBLEWRAP=skip runs the tests without it"),
        )
    };
    Wrapped { dir, machine }
}

aion_machine::machine_tests!(kit, async { wrapped().await });

async fn work(wrapped: &Wrapped) -> Arc<dyn Workspace> {
    wrapped
        .machine
        .open(&WorkspaceSpec::new(RelPath::parse("work").unwrap()))
        .await
        .unwrap()
}

async fn sh(wrapped: &Wrapped, line: &str) -> ExecOutput {
    work(wrapped).await.exec(ExecRequest::shell(line)).await.unwrap()
}

/// Only bubblewrap, as somebody would use it who does not know better.
fn bare(line: &str) -> std::process::Output {
    let mut command = Command::new(BUBBLEWRAP);
    command
        .args([
            "--unshare-all",
            "--clearenv",
            "--ro-bind",
            "/usr",
            "/usr",
            "--ro-bind-try",
            "/bin",
            "/bin",
        ])
        .args([
            "--ro-bind-try",
            "/lib",
            "/lib",
            "--ro-bind-try",
            "/lib64",
            "/lib64",
            "--proc",
            "/proc",
        ])
        .args(["--dev", "/dev", "--tmpfs", "/tmp", "--", "/bin/sh", "-c", line])
        .env("AION_CANARY", "tweet-4711");
    command.output().unwrap()
}

#[tokio::test]
async fn the_report_is_that_of_the_strongest_tier_and_names_what_is_weak() {
    if skipped() {
        return;
    }
    let wrapped = wrapped().await;
    let report = wrapped.machine.probe().await.unwrap();
    assert_eq!(report.tier(), Tier::Namespaces, "{report:#?}");
    assert_eq!(report.files, FileConfinement::MountNamespaceAndLandlock);
    assert_eq!(report.network, NetworkConfinement::Namespace);
    assert_eq!(report.processes, ProcessConfinement::PidNamespace);
    assert!(report.syscall_filter && report.capabilities_dropped && report.no_new_privs);
    let version = Command::new(BUBBLEWRAP).arg("--version").output().unwrap();
    let old = !String::from_utf8_lossy(&version.stdout)
        .trim()
        .ends_with(" 0.12.0");
    let named = report
        .gaps
        .iter()
        .any(|gap| gap.starts_with("bubblewrap: version"));
    assert_eq!(named, old, "{:?}", report.gaps);
    assert!(wrapped.machine.id().starts_with("bubblewrap:"));
}

/// Whether it works without any sandbox.
fn host_can(line: &str) -> bool {
    let done = Command::new("/bin/sh").args(["-c", line]).output();
    done.unwrap().status.success()
}

/// Each of these works in bubblewrap alone, and not here.
#[tokio::test]
async fn what_bubblewrap_leaves_open_is_closed() {
    if skipped() {
        return;
    }
    let wrapped = wrapped().await;
    let python = |code: &str| format!("python3 -c '{code}'");
    let open = [
        (
            "a socket to the hypervisor",
            python("import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)"),
        ),
        ("a new user namespace", "unshare --user true".to_owned()),
        (
            "a keyring",
            python("import ctypes; assert ctypes.CDLL(None).syscall(NUMBER, 0, -3, 1) >= 0"),
        ),
        (
            "a set-user-id bit",
            "cp /bin/true /tmp/t && chmod 4755 /tmp/t".to_owned(),
        ),
        (
            "a large file",
            "head -c 300000000 /dev/zero > /tmp/large".to_owned(),
        ),
    ];
    let keyctl = if cfg!(target_arch = "x86_64") {
        "250"
    } else {
        "219"
    };
    for (what, line) in open {
        let line = line.replace("NUMBER", keyctl);
        if what.contains("hypervisor") && !host_can(&line) {
            continue; // the host has no such sockets at all
        }
        let alone = bare(&line);
        assert!(alone.status.success(), "the control failed: {what}: {alone:?}");
        let output = sh(&wrapped, &line).await;
        assert!(!output.success(), "{what}: {output:?}");
        assert_ne!(output.exit_code, Some(127), "{what}: {output:?}");
    }
}

#[tokio::test]
async fn the_environment_of_the_service_is_nowhere() {
    if skipped() {
        return;
    }
    let everywhere = "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'";
    let alone = bare(everywhere);
    let leaked = String::from_utf8_lossy(&alone.stdout).contains("tweet-4711");
    assert!(leaked, "the control: --clearenv does not clear its first process");
    let wrapped = wrapped().await;
    let output = sh(&wrapped, everywhere).await;
    let seen = output.stdout.text();
    assert!(seen.contains("HOME="), "{seen}");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO")) {
        assert!(!seen.contains(&name), "{name}");
    }
}

#[tokio::test]
async fn the_host_is_out_of_sight_and_nothing_is_left() {
    if skipped() {
        return;
    }
    let wrapped = wrapped().await;
    let secret = wrapped.dir.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    for line in [
        format!("cat {}", secret.display()),
        "cat /etc/shadow".to_owned(),
        "echo x > /usr/made-by-a-sandbox".to_owned(),
        "echo x > /made-by-a-sandbox".to_owned(),
        "ls /home".to_owned(),
    ] {
        assert!(!sh(&wrapped, &line).await.success(), "{line}");
    }
    let seconds = format!("61.{}7", std::process::id());
    let limits = ExecLimits::default().with_wall_ms(500);
    let hidden = ExecRequest::shell(format!("setsid sleep {seconds} & sleep {seconds}")).with_limits(limits);
    let output = work(&wrapped).await.exec(hidden).await.unwrap();
    assert!(output.timed_out(), "{output:?}");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let left = lines
        .filter(|line| String::from_utf8_lossy(line).contains(&seconds))
        .count();
    assert_eq!(left, 0);
}

/// A program that says what a bubblewrap would say, and is none.
fn pretender(dir: &Path, version: &str, help: &str, otherwise: &str) -> PathBuf {
    let path = dir.join("bwrap");
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in --version) echo 'bubblewrap {version}';; --help) echo '{help}';; *) {otherwise};; esac\n"
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

const ALL: &str = "--unshare-all --new-session --die-with-parent --cap-drop --hostname --bind --ro-bind --ro-bind-try \
    --proc --dev --tmpfs --remount-ro --chdir";

#[tokio::test]
async fn a_program_that_will_not_do_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let open = |program: PathBuf| BubblewrapMachine::open_root(dir.path(), options(), program);
    let refused = |program: PathBuf, word: &str| match open(program) {
        Err(Error::ConfinementUnavailable { gaps }) => assert!(gaps[0].contains(word), "{gaps:?}"),
        other => panic!("{word}: {other:?}"),
    };
    refused(dir.path().join("none"), "cannot be started");
    refused(pretender(dir.path(), "0.4.1", ALL, "exit 2"), "older than 0.5");
    refused(pretender(dir.path(), "unknown", ALL, "exit 2"), "version");
    let some = ALL.replace("--new-session ", "");
    refused(pretender(dir.path(), "0.6.0", &some, "exit 2"), "--new-session");
    let fails = "echo \"bwrap: No permissions to create new namespace\" >&2; exit 1";
    refused(pretender(dir.path(), "0.6.0", ALL, fails), "No permissions");
}

/// One that sets nothing up and executes what it is given: the supervisor looks, and refuses.
#[tokio::test]
async fn walls_that_are_not_there_are_not_reported() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = crate::support::supervisor();
    let otherwise = format!("exec {supervisor} --aion-machine-supervisor");
    let program = pretender(dir.path(), "0.12.0", ALL, &otherwise);
    let machine = BubblewrapMachine::open_root(dir.path(), options(), program).unwrap();
    let refused = machine.probe().await.unwrap_err();
    assert_eq!(refused.code(), "confinement_unavailable");
    assert!(refused.to_string().contains("namespace"), "{refused}");
}

#[tokio::test]
async fn root_is_refused_unless_it_was_chosen() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let unprivileged = support::options().with_run_as(RunAs::Unprivileged);
    let opened = BubblewrapMachine::open_root(dir.path(), unprivileged, BUBBLEWRAP);
    assert_eq!(opened.is_ok(), !rustix::process::getuid().is_root(), "{opened:?}");
}
