//! The few system calls that the safe crates do not offer.
//!
//! `unsafe` is allowed in this module only. Each function is a thin wrapper whose pointers live on its
//! own stack; `fork` is sound because the supervisor has a single thread (see [`fork`]). The tests of
//! the crate run every one of them.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

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
        pid => known_pid(pid).map(Fork::Parent),
    }
}

/// Which side of a division into namespaces this is.
pub(super) enum Divided {
    /// The child, and a descriptor that tells of its end.
    Parent(Pid, OwnedFd),
    Child,
}

/// Divides this process in two, the second of which is in new namespaces from its first step on.
///
/// As [`fork`], without what a C library would have to do where there are threads.
pub(super) fn divide(namespaces: UnshareFlags) -> io::Result<Divided> {
    let flags = libc::c_long::from(namespaces.bits()) | libc::c_long::from(libc::CLONE_PIDFD | libc::SIGCHLD);
    let none: *const libc::c_void = std::ptr::null();
    let mut ended: libc::c_int = -1;
    // SAFETY: single-threaded, see above. Without a stack of its own the child goes on on a copy of ours. The last two
    // arguments, whose order differs between architectures, are of flags that are not given.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, &raw mut ended, none, none) };
    match libc::pid_t::try_from(pid) {
        Ok(0) => Ok(Divided::Child),
        // SAFETY: the kernel has made this descriptor for us, and for nobody else.
        Ok(pid) if pid > 0 => Ok(Divided::Parent(known_pid(pid)?, unsafe {
            OwnedFd::from_raw_fd(ended)
        })),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How much stack a child has that borrows our memory; the lowest page of it cannot be touched.
const STACK_BYTES: usize = 256 << 10;

/// The stack of a child that borrows our memory. One that was made before this process divided itself is there for all
/// copies, each of which has its own of it.
fn stack() -> io::Result<*mut libc::c_void> {
    static MADE: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());
    let made = MADE.load(Ordering::Relaxed);
    if !made.is_null() {
        return Ok(made);
    }
    // SAFETY: a new mapping, which nothing else refers to.
    let stack = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            STACK_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
            -1,
            0,
        )
    };
    if stack == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // Who needs more than there is ends, and does not write into what lies below.
    // SAFETY: a part of the mapping, which nothing uses yet.
    check(unsafe { libc::mprotect(stack, rustix::param::page_size(), libc::PROT_NONE) }.into())?;
    MADE.store(stack, Ordering::Relaxed);
    Ok(stack)
}

/// Makes the stack of [`borrow_memory`] for this process and all copies of it.
pub(super) fn prepare_to_lend_memory() -> io::Result<()> {
    stack().map(drop)
}

/// Starts a child that works in our memory, while this process stands still until the child becomes another program or
/// ends. Nothing is copied for it, as nothing is by `posix_spawn`. What the child returns is its exit code.
///
/// The child has descriptors, limits, a directory and signal handlers of its own. What it does to memory stays: `work`
/// must leave it so that this process can go on. A child does not call this itself.
pub(super) fn borrow_memory(work: &mut dyn FnMut() -> i32) -> io::Result<Pid> {
    extern "C" fn child(work: *mut libc::c_void) -> libc::c_int {
        // SAFETY: it is the pointer of the call below, whose stack frame stands still meanwhile.
        let work = unsafe { &mut *work.cast::<&mut dyn FnMut() -> i32>() };
        work()
    }
    let mut work = work;
    let stack = stack()?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: single-threaded; the stack is as large as said, aligned to a page, and used by one child at a time; with
    // VFORK this call returns only when the child has let go of stack and closure.
    let pid = unsafe {
        let top = stack.cast::<u8>().add(STACK_BYTES).cast();
        libc::clone(child, top, flags, (&raw mut work).cast())
    };
    known_pid(pid)
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

/// Another owner for all files of a mount.
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// The `struct mount_attr` of the kernel, first version.
#[repr(C)]
#[derive(Default)]
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
        ..MountAttr::default()
    };
    set_attr(mount, &attr, how)
}

/// What is mounted below a mount later is seen nowhere else.
pub(super) fn make_private(mount: impl AsFd) -> io::Result<()> {
    let attr = MountAttr {
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    set_attr(mount, &attr, libc::AT_RECURSIVE)
}

/// Shows the files of a detached mount as belonging to whom a user namespace maps their owners to.
pub(super) fn map_ids(mount: impl AsFd, users: impl AsFd) -> io::Result<()> {
    let attr = MountAttr {
        set: MOUNT_ATTR_IDMAP,
        userns: u64::try_from(users.as_fd().as_raw_fd()).map_err(io::Error::other)?,
        ..MountAttr::default()
    };
    set_attr(mount, &attr, 0)
}

fn set_attr(mount: impl AsFd, attr: &MountAttr, how: i32) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | how;
    let fd = mount.as_fd().as_raw_fd();
    // SAFETY: both pointers are to values that outlive the call; the size is that of the struct.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
}

/// Installs a system call filter on this process and all that come from it.
pub(super) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
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

/// A child that has ended.
pub(super) struct Departed {
    pub(super) pid: Pid,
    /// As `wait` has it.
    pub(super) status: i32,
    /// What it wrote to disks, with the children that it had waited for, in blocks of 512 bytes.
    pub(super) written_blocks: u64,
}

/// Waits for a child, or for any; with `WNOHANG` only if one has ended.
pub(super) fn wait_for(which: Option<Pid>, flags: libc::c_int) -> io::Result<Option<Departed>> {
    let which = which.map_or(-1, |pid| pid.as_raw_nonzero().get());
    let mut status = 0;
    // SAFETY: a `rusage` of zeros is one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that outlive the call.
    let pid = unsafe { libc::wait4(which, &raw mut status, flags, &raw mut usage) };
    if pid == 0 {
        return Ok(None);
    }
    Ok(Some(Departed {
        pid: known_pid(pid)?,
        status,
        written_blocks: u64::try_from(usage.ru_oublock).unwrap_or(0),
    }))
}

fn known_pid(returned: libc::pid_t) -> io::Result<Pid> {
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    Pid::from_raw(returned).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// From now on `SIGTERM` to this process, the first of a namespace, is for all others in it.
pub(super) fn pass_on_sigterm() -> io::Result<()> {
    extern "C" fn pass_on(_: libc::c_int) {
        // SAFETY: `kill` may be called in a signal handler. Here -1 is everybody else in the namespace.
        unsafe { libc::kill(-1, libc::SIGTERM) };
    }
    // SAFETY: a `sigaction` of zeros is one: no flags, nothing blocked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = pass_on as *const () as libc::sighandler_t;
    // SAFETY: the action lives during the call; the handler calls nothing but `kill`.
    check(unsafe { libc::sigaction(libc::SIGTERM, &raw const action, std::ptr::null_mut()) }.into())
}

/// A number that this process and those that it forks see alike, until they end.
pub(super) fn shared_counter() -> io::Result<&'static AtomicU64> {
    Ok(&shared_numbers(1)?[0])
}

/// So many numbers that this process and those that it forks see alike, until they end; zero at first.
pub(super) fn shared_numbers(count: usize) -> io::Result<&'static [AtomicU64]> {
    // SAFETY: a new mapping, which nothing else refers to. It is never unmapped.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            count * size_of::<AtomicU64>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is aligned to a page and zeroed by the kernel, and stays.
    Ok(unsafe { std::slice::from_raw_parts(page.cast::<AtomicU64>(), count) })
}

/// Whether a socket of a family can be made.
pub(super) fn try_socket(family: i32) -> io::Result<()> {
    // SAFETY: no pointers; the descriptor is closed and belongs to nobody else.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    check(fd.into())?;
    // SAFETY: as above.
    check(unsafe { libc::close(fd) }.into())
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
