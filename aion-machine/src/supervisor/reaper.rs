//! Waiting for processes, and ending every one of a tree.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use super::sys;

/// How often the tree is looked at before giving up; each round kills all that it sees.
const MAX_ROUNDS: u32 = 1000;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Exited(i32),
    Signaled(i32),
}

impl Status {
    fn from_wait(status: WaitStatus) -> Option<Self> {
        status
            .exit_status()
            .map(Self::Exited)
            .or_else(|| status.terminating_signal().map(Self::Signaled))
    }

    fn from_raw(status: i32) -> Option<Self> {
        if libc::WIFEXITED(status) {
            return Some(Self::Exited(libc::WEXITSTATUS(status)));
        }
        libc::WIFSIGNALED(status).then(|| Self::Signaled(libc::WTERMSIG(status)))
    }

    /// The form in which it crosses a pipe.
    pub(super) fn to_words(self) -> String {
        match self {
            Self::Exited(code) => format!("exited {code}"),
            Self::Signaled(signal) => format!("signaled {signal}"),
        }
    }

    /// The form in which it crosses shared memory; never 0.
    pub(super) fn to_bits(self) -> u64 {
        let (how, number) = match self {
            Self::Exited(code) => (1, code),
            Self::Signaled(signal) => (2, signal),
        };
        how << 32 | u64::from(number.cast_unsigned())
    }

    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        let number = (bits as u32).cast_signed();
        match bits >> 32 {
            1 => Some(Self::Exited(number)),
            2 => Some(Self::Signaled(number)),
            _ => None,
        }
    }

    pub(super) fn parse(words: &str) -> Option<Self> {
        let (how, number) = words.split_once(' ')?;
        let number = number.parse().ok()?;
        match how {
            "exited" => Some(Self::Exited(number)),
            "signaled" => Some(Self::Signaled(number)),
            _ => None,
        }
    }
}

/// Waits for one process, and takes leave of every orphan meanwhile, counting what it wrote.
pub(super) fn wait_reaping(process: Pid, written: &AtomicU64) -> Status {
    loop {
        match sys::wait_for(None, 0) {
            Ok(Some(gone)) => {
                written.fetch_add(gone.written_blocks, Ordering::Relaxed);
                match Status::from_raw(gone.status) {
                    Some(status) if gone.pid == process => return status,
                    _ => {}
                }
            }
            Ok(None) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Status::Signaled(Signal::KILL.as_raw()),
        }
    }
}

/// Asks a child and all that came from it to end.
pub(super) fn ask_tree_to_end() {
    for pid in descendants(rustix::process::getpid()) {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Kills a child and waits for it.
pub(super) fn kill_and_wait(process: Pid) -> io::Result<Option<Status>> {
    match kill_process(process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(e) => return Err(e.into()),
    }
    loop {
        match waitpid(Some(process), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(Status::from_wait(status)),
            Ok(None) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Takes leave of children that have ended, except one, whose end somebody waits for.
pub(super) fn reap_orphans(except: Pid, written: &AtomicU64) {
    for pid in descendants(rustix::process::getpid()) {
        if pid != except
            && let Ok(Some(gone)) = sys::wait_for(Some(pid), libc::WNOHANG)
        {
            written.fetch_add(gone.written_blocks, Ordering::Relaxed);
        }
    }
}

/// Kills a child and all that came from it, until nothing is left.
///
/// Everything is stopped before it is killed, round after round, so that a program that starts others
/// faster than they are found stands still at last.
pub(super) fn kill_tree(process: Pid) -> io::Result<Option<Status>> {
    let ourselves = rustix::process::getpid();
    let before = waitpid(Some(process), WaitOptions::NOHANG)?.and_then(|(_, s)| Status::from_wait(s));
    for _ in 0..MAX_ROUNDS {
        let all = descendants(ourselves);
        for signal in [Signal::STOP, Signal::KILL] {
            for pid in &all {
                let _ = kill_process(*pid, signal);
            }
        }
        if reap_all() == Left::Nothing {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(before)
}

#[derive(PartialEq, Eq)]
enum Left {
    Nothing,
    Some,
}

/// Takes leave of all children that have ended.
fn reap_all() -> Left {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Left::Some,
            Err(_) => return Left::Nothing,
        }
    }
}

/// All processes that come from `ancestor`, as `/proc` shows them now.
pub(super) fn descendants(ancestor: Pid) -> Vec<Pid> {
    let parents = parents();
    let is_below = |pid: i32| {
        let mut at = pid;
        // The walk up is bounded: ids are reused, so a snapshot taken meanwhile could have a loop.
        for _ in 0..parents.len() {
            match parents.get(&at) {
                Some(&parent) if parent == ancestor.as_raw_nonzero().get() => return true,
                Some(&parent) => at = parent,
                None => return false,
            }
        }
        false
    };
    parents
        .keys()
        .filter(|pid| is_below(**pid))
        .filter_map(|pid| Pid::from_raw(*pid))
        .collect()
}

/// The parent of each process.
fn parents() -> HashMap<i32, i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return HashMap::new();
    };
    let pid_of = |name: &std::ffi::OsStr| name.to_str().and_then(|name| name.parse::<i32>().ok());
    entries
        .flatten()
        .filter_map(|entry| pid_of(&entry.file_name()))
        .filter_map(|pid| {
            Some((
                pid,
                parent_of(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?,
            ))
        })
        .collect()
}

/// The fourth field; the second one is a name in parentheses that may hold anything.
fn parent_of(stat: &str) -> Option<i32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_fake_the_parent() {
        assert_eq!(parent_of("42 (a) R 1 (b)) S 7 42 42 0"), Some(7));
        assert_eq!(parent_of("42 (sh) S 7 42"), Some(7));
        assert_eq!(parent_of("nonsense"), None);
    }

    #[test]
    fn a_status_crosses_the_pipe() {
        for status in [Status::Exited(0), Status::Exited(255), Status::Signaled(9)] {
            assert_eq!(Status::parse(&status.to_words()), Some(status));
            assert_eq!(Status::from_bits(status.to_bits()), Some(status));
        }
        assert_eq!((Status::parse(""), Status::from_bits(0)), (None, None));
    }
}
