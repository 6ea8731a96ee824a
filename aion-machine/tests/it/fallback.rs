//! The same where the kernel has no `openat2`: this very binary, started again under a filter of system calls
//! that answers `ENOSYS` to it.
#![allow(unsafe_code)] // a filter is installed between fork and exec

use std::os::unix::process::CommandExt;
use std::process::Command;

use aion_machine::{LocalMachine, LocalOptions, Resolution};

/// Says to the started binary that it is under the filter.
const MARK: &str = "AION_TEST_WITHOUT_OPENAT2";

/// Load the number of the call; `openat2` is `ENOSYS`, everything else goes on.
fn deny_openat2() -> std::io::Result<()> {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_openat2 as u32,
        ),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: both calls read only their arguments, of which the program and its filter live until they return.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == 0
    };
    if done {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Runs tests of this binary whose names hold one of these.
fn run_without_openat2(filters: &[&str]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(filters).args(["--test-threads", "2"]).env(MARK, "1");
    // Under nextest's own variables the harness is the same.
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(deny_openat2) };
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    said
}

/// Also the control of the tests below: under the filter, the other way is really taken.
#[test]
fn paths_are_resolved_by_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalMachine::open_root(dir.path(), LocalOptions::default()).unwrap();
    let want = if std::env::var_os(MARK).is_some() {
        Resolution::UserSpace
    } else {
        Resolution::Kernel
    };
    assert_eq!(machine.resolution(), want);
}

fn passed(said: &str) -> usize {
    let line = said.lines().find(|line| line.starts_with("test result: ok."));
    let words = line.unwrap_or_default().split_whitespace();
    words.skip(3).find_map(|word| word.parse().ok()).unwrap_or(0)
}

/// The whole kit, the comparison with the model, links, pipes, searches.
#[test]
fn the_kit_holds_without_openat2() {
    if std::env::var_os(MARK).is_some() {
        return; // started by the test itself
    }
    let said = run_without_openat2(&["files::", "search::", "fallback::paths"]);
    assert!(passed(&said) > 60, "{said}");
}

/// The race over the slower way, with its control.
#[test]
fn nothing_escapes_without_openat2() {
    if std::env::var_os(MARK).is_some() {
        return;
    }
    let said = run_without_openat2(&["race::"]);
    assert_eq!(passed(&said), 1, "{said}");
}
