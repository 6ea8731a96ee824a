//! The few system calls that the safe crates do not offer.
//!
//! `unsafe` is allowed in this module only. Each function is a thin wrapper whose pointers live on its
//! own stack; `fork` is sound because the supervisor has a single thread (see [`fork`]). The tests of
//! the crate run every one of them.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Which side of a fork this is.
pub(super) enum Fork {
    Parent(Pid),
    Child,
}

/// Divides this process in two.
///
/// The supervisor never starts a thread, so no lock can be held by somebody who does not exist in the
/// child, and the child may do what it likes.
pub(super) fn fork() -> io::Result<Fork> {
    // SAFETY: single-threaded, see above.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid)
            .filter(|_| pid > 0)
            .map(Fork::Parent)
            .ok_or_else(io::Error::last_os_error),
    }
}

/// Ends this process without running anything that the parent registered.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on. Nothing of this process may own one of them.
pub(super) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: called before the supervisor opens anything.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) })
}

/// Leaves the given namespaces.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the flag that is dangerous with several threads, FILES, is not among ours.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// The `struct mount_attr` of the kernel, first version.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Adds attributes (`MOUNT_ATTR_*`) to a mount; with `libc::AT_RECURSIVE` to all below it.
pub(super) fn mount_setattr(mount: impl AsFd, attributes: u64, how: i32) -> io::Result<()> {
    let attr = MountAttr {
        set: attributes,
        clear: 0,
        propagation: 0,
        userns: 0,
    };
    let flags = libc::AT_EMPTY_PATH | how;
    let fd = mount.as_fd().as_raw_fd();
    // SAFETY: both pointers are to values that outlive the call; the size is that of the struct.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
}

/// Installs a system call filter on this process and all that come from it.
pub(super) fn install_filter(program: &mut [libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program during the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    })
}

/// Brings up the loopback interface of a new network namespace.
pub(super) fn loopback_up() -> io::Result<()> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_UP | libc::IFF_RUNNING) as i16,
        },
    };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the request is a live, initialised ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) }.into())
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
