//! The bait of a trial, and what a machine learns from it before it executes anything.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::LocalOptions;
use super::exec::SURVIVED;
use crate::supervisor::Trial;
use crate::{Enforcement, ExecOutput};

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Things of the host that anybody can reach who is not confined.
#[derive(Debug)]
pub(super) struct Bait {
    pub(super) trial: Trial,
    _listeners: (TcpListener, UnixListener, UnixListener),
}

impl Bait {
    /// Lays it out beside what executions may use.
    pub(super) fn lay(root: &Path, options: &LocalOptions) -> std::io::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("aion-trial-{}-{number}", std::process::id());
        let within =
            |dir: &Path| dir.starts_with(root) || options.read_only.iter().any(|r| dir.starts_with(r));
        let places = [
            std::env::temp_dir(),
            "/var/tmp".into(),
            "/dev/shm".into(),
            "/run".into(),
        ];
        let place = places
            .into_iter()
            .find(|dir| !within(dir) && rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok());
        let outside = place.unwrap_or_else(|| PathBuf::from("/tmp")).join(&name);
        std::fs::create_dir(&outside)?;
        let everybody =
            |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
        let made = (|| -> std::io::Result<_> {
            let (bait, socket) = (outside.join("bait"), outside.join("socket"));
            std::fs::write(&bait, "bait")?;
            let listeners = (
                TcpListener::bind("127.0.0.1:0")?,
                UnixListener::bind(&socket)?,
                UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?,
            );
            everybody(&bait, 0o666)?;
            everybody(&socket, 0o777)?;
            everybody(&outside, 0o777)?;
            let port = listeners.0.local_addr()?.port();
            Ok((listeners, port))
        })();
        if made.is_err() {
            let _ = std::fs::remove_dir_all(&outside);
        }
        let (listeners, port) = made?;
        let service = i32::try_from(std::process::id()).map_err(std::io::Error::other)?;
        let trial = Trial {
            outside,
            port,
            name,
            service,
        };
        Ok(Self {
            trial,
            _listeners: listeners,
        })
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.trial.outside);
    }
}

/// What came of a trial.
#[derive(Debug)]
pub(super) struct Tried {
    /// What held the attacker in, by its own account.
    pub(super) enforcement: Enforcement,
    /// What it got nevertheless.
    pub(super) leaks: Vec<String>,
}

impl Tried {
    pub(super) fn of(output: ExecOutput) -> Self {
        let text = output.stdout.text();
        let mut leaks: Vec<_> = text.lines().map(|line| format!("trial: {line}")).collect();
        if output.exit_code != Some(0) {
            let (ending, signal) = (output.ending, output.signal);
            leaks.push(format!(
                "trial: it did not come to its end ({ending:?}, signal {signal:?})"
            ));
        }
        if output.enforcement.gaps.iter().any(|gap| gap == SURVIVED) {
            leaks.push("trial: a process can outlive its execution".to_owned());
        }
        Self {
            enforcement: output.enforcement,
            leaks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The control of every trial: without walls, all of the bait can be had.
    #[test]
    fn without_walls_the_bait_is_taken() {
        let bait = Bait::lay(Path::new("/nowhere"), &LocalOptions::default()).unwrap();
        let got = crate::supervisor::got(&bait.trial);
        // A kernel need not have sockets to a hypervisor; a process with threads cannot leave its users.
        let certain = 9;
        assert!(got.len() >= certain, "{got:?}");
        assert!(got.contains(&"a file outside can be read") && got.contains(&"the service can be signalled"));
        let outside = bait.trial.outside.clone();
        assert!(outside.exists());
        drop(bait);
        assert!(!outside.exists());
    }

    #[test]
    fn bait_is_never_laid_where_executions_may_be() {
        let options = LocalOptions::default().with_read_only("/var/tmp");
        let bait = Bait::lay(&std::env::temp_dir(), &options).unwrap();
        let outside = &bait.trial.outside;
        assert!(
            !outside.starts_with(std::env::temp_dir()) && !outside.starts_with("/var/tmp"),
            "{outside:?}"
        );
    }
}
