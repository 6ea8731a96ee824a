//! The supervisor attacks its own walls: what a kernel says of itself is not what it does.
//!
//! The service lays out bait that anybody could reach without walls, and asks for a trial instead of a
//! program. A process behind the walls goes for the bait and says what it got.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::sys::{self, Fork};

/// How long the process that hides away would live.
const HIDES_FOR: Duration = Duration::from_secs(30);

/// Where the bait is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// A directory that everybody may use, with a file `bait` and a socket `socket`.
    pub(crate) outside: PathBuf,
    /// A port of this host.
    pub(crate) port: u16,
    /// An abstract socket.
    pub(crate) name: String,
    /// The process of the service.
    pub(crate) service: i32,
}

type Attack = (&'static str, fn(&Trial) -> io::Result<()>);

const ATTACKS: [Attack; 11] = [
    ("a file outside can be read", |t| {
        File::open(t.outside.join("bait")).map(drop)
    }),
    ("a file outside can be written", |t| {
        OpenOptions::new()
            .append(true)
            .open(t.outside.join("bait"))
            .map(drop)
    }),
    ("a file can be made outside", |t| {
        let path = t.outside.join("made");
        File::create(&path)?;
        fs::remove_file(path)
    }),
    ("a port of the host can be reached", |t| {
        TcpStream::connect(("127.0.0.1", t.port)).map(drop)
    }),
    ("a socket outside can be reached", |t| {
        UnixStream::connect(t.outside.join("socket")).map(drop)
    }),
    ("an abstract socket of the host can be reached", |t| {
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(&t.name)?).map(drop)
    }),
    ("sockets to the hypervisor can be made", |_| {
        sys::try_socket(libc::AF_VSOCK)
    }),
    ("the service can be signalled", |t| {
        let service = Pid::from_raw(t.service).ok_or(io::ErrorKind::NotFound)?;
        Ok(rustix::process::test_kill_process(service)?)
    }),
    ("the environment of the service can be read", |t| {
        fs::read(format!("/proc/{}/environ", t.service)).map(drop)
    }),
    ("a file can be made to run as its owner", |_| {
        // Not in the workspace, where somebody could see it.
        let memory = rustix::fs::memfd_create("trial", rustix::fs::MemfdFlags::CLOEXEC)?;
        File::from(memory).set_permissions(fs::Permissions::from_mode(0o4700))
    }),
    ("namespaces can be made", |_| sys::unshare(UnshareFlags::NEWUSER)),
];

/// What can be had of the bait.
pub(crate) fn got(trial: &Trial) -> Vec<&'static str> {
    let open = ATTACKS.iter().filter(|(_, attack)| attack(trial).is_ok());
    open.map(|(what, _)| *what).collect()
}

/// Goes for the bait, says what it got, and leaves a process behind that must not live. Returns the exit
/// code.
pub(super) fn run(trial: &Trial) -> i32 {
    let lines: String = got(trial).iter().map(|what| format!("{what}\n")).collect();
    if let Ok(Fork::Child) = sys::fork() {
        let _ = rustix::process::setsid();
        if let Ok(Fork::Child) = sys::fork() {
            std::thread::sleep(HIDES_FOR);
        }
        sys::exit_now(0);
    }
    i32::from(io::stdout().write_all(lines.as_bytes()).is_err())
}
