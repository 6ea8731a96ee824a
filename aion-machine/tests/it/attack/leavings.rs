//! What one execution leaves for the next in the same workspace, which has the same warden and perhaps the same network:
//! nothing but files in the workspace. Nor do two of them at a time find each other anywhere else.
//!
//! `unsafe`: raw system calls without pointers.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aion_machine::ExecLimits;

use super::acts::{Act, Knowledge};
use super::{Outcome, Target, outcome};
use crate::exec::{expected_tier, none_left_with, processes_with};
use crate::support::options;

pub(super) const ACTS: &[(&str, Act)] = &[
    ("leave_segment", leave_segment),
    ("find_segment", find_segment),
    ("leave_queue", leave_queue),
    ("find_queue", find_queue),
    ("leave_temporary", leave_temporary),
    ("find_temporary", find_temporary),
    ("leave_shared", leave_shared),
    ("find_shared", find_shared),
    ("leave_listener", leave_listener),
    ("listen", listen),
    ("find_abstract", find_abstract),
    ("find_port", find_port),
    ("find_process", find_process),
];

/// Left by the first, looked for by the second.
const PAIRS: [(&str, &str); 7] = [
    ("leave_segment", "find_segment"),
    ("leave_queue", "find_queue"),
    ("leave_temporary", "find_temporary"),
    ("leave_shared", "find_shared"),
    ("leave_listener", "find_abstract"),
    ("leave_listener", "find_port"),
    ("leave_listener", "find_process"),
];

/// Files of the workspace by which the two of a pair speak to each other: the port, and that it is open.
pub(super) const PORT: &str = "port";
const LIVES_FOR: Duration = Duration::from_secs(30);

fn key(know: &Knowledge) -> libc::key_t {
    let sum = know
        .name
        .bytes()
        .fold(7i32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    sum | 1
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn leave_segment(know: &Knowledge) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::shmget(key(know), 4096, libc::IPC_CREAT | 0o666) }).map(drop)
}

fn find_segment(know: &Knowledge) -> io::Result<()> {
    // SAFETY: no pointers.
    let id = check(unsafe { libc::shmget(key(know), 0, 0) })?;
    // SAFETY: the null pointer is not looked at.
    check(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
}

fn leave_queue(know: &Knowledge) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::msgget(key(know), libc::IPC_CREAT | 0o666) }).map(drop)
}

fn find_queue(know: &Knowledge) -> io::Result<()> {
    // SAFETY: no pointers.
    let id = check(unsafe { libc::msgget(key(know), 0) })?;
    // SAFETY: the null pointer is not looked at.
    check(unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
}

fn leave_temporary(know: &Knowledge) -> io::Result<()> {
    fs::write(Path::new("/tmp").join(&know.name), "left")
}

fn find_temporary(know: &Knowledge) -> io::Result<()> {
    fs::remove_file(Path::new("/tmp").join(&know.name))
}

fn leave_shared(know: &Knowledge) -> io::Result<()> {
    fs::write(Path::new("/dev/shm").join(&know.name), "left")
}

fn find_shared(know: &Knowledge) -> io::Result<()> {
    fs::remove_file(Path::new("/dev/shm").join(&know.name))
}

fn address(know: &Knowledge) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("{}-left", know.name))
}

/// Another process with the same arguments, which listens and lives on.
fn leave_listener(_: &Knowledge) -> io::Result<()> {
    let mut arguments = std::env::args_os();
    let program = arguments.next().ok_or(io::ErrorKind::NotFound)?;
    Command::new(program)
        .args(arguments)
        .env("AION_ATTACK", "listen")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    while !Path::new(PORT).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn listen(know: &Knowledge) -> io::Result<()> {
    let _by_name = UnixListener::bind_addr(&address(know)?)?;
    let by_port = TcpListener::bind("127.0.0.1:0")?;
    fs::write("port.new", by_port.local_addr()?.port().to_string())?;
    fs::rename("port.new", PORT)?;
    std::thread::sleep(LIVES_FOR);
    Ok(())
}

fn find_abstract(know: &Knowledge) -> io::Result<()> {
    UnixStream::connect_addr(&address(know)?).map(drop)
}

fn find_port(_: &Knowledge) -> io::Result<()> {
    let port = fs::read_to_string(PORT)?;
    let port: u16 = port.parse().map_err(io::Error::other)?;
    TcpStream::connect(("127.0.0.1", port)).map(drop)
}

/// One with our arguments that is not this one.
fn find_process(know: &Knowledge) -> io::Result<()> {
    let ourselves = std::process::id() as i32;
    let is_other = processes_with(&know.name).iter().any(|pid| *pid != ourselves);
    is_other.then_some(()).ok_or(io::ErrorKind::NotFound.into())
}

impl Target {
    async fn held(&self, name: &str) -> Outcome {
        let limits = ExecLimits::default().with_wall_ms(20_000);
        outcome(&self.confined(name, limits).await.stdout.text())
    }

    fn end_what_was_left(&self) {
        for pid in processes_with(&self.mark) {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = fs::remove_file(self.place.inside().join(PORT));
    }
}

#[tokio::test]
async fn nothing_is_left_for_the_next_execution() {
    let target = Target::new(options()).await;
    assert_eq!(
        target.place.sh("true").await.unwrap().enforcement.tier(),
        expected_tier()
    );
    let reached = expected_tier() == aion_machine::Tier::Namespaces;
    for (leave, find) in PAIRS {
        assert_eq!(target.unconfined(leave), Outcome::Succeeded, "control: {leave}");
        assert_eq!(target.unconfined(find), Outcome::Succeeded, "control: {find}");
        target.end_what_was_left();
        assert!(none_left_with(&target.mark).await);
        if reached {
            assert_eq!(target.held(leave).await, Outcome::Succeeded, "{leave}");
            let found = target.held(find).await;
            assert_ne!(found, Outcome::Succeeded, "{find} after {leave}");
            target.check(find).await;
        }
        let _ = fs::remove_file(target.place.inside().join(PORT));
    }
}

/// The control is that of the test above.
#[tokio::test]
async fn two_executions_at_a_time_do_not_find_each_other() {
    if expected_tier() != aion_machine::Tier::Namespaces {
        return;
    }
    let target = Target::new(options()).await;
    target.place.sh("true").await.unwrap();
    let port = target.place.inside().join(PORT);
    let listening = target.confined("listen", ExecLimits::default().with_wall_ms(15_000));
    let looking = async {
        while !port.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for find in ["find_abstract", "find_port", "find_process"] {
            assert_ne!(target.held(find).await, Outcome::Succeeded, "{find}");
        }
    };
    tokio::select! {
        ended = listening => panic!("it listens no more: {ended:?}"),
        () = looking => {}
    }
    target.check("listen").await;
}
