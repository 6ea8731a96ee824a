//! The attacks themselves: what a hostile program tries. Each runs in a process of its own, once without
//! any sandbox and once in one.
//!
//! `unsafe`: these are raw system calls, which is what an attacker makes. None of them gives the kernel a
//! pointer that does not outlive the call.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

/// What an attacker knows, because it was told.
pub(super) struct Knowledge {
    /// A directory beside the workspace, with a file `secret`, sockets `stream` and `datagram`.
    pub(super) outside: PathBuf,
    /// The process of the service.
    pub(super) service: i32,
    /// A port on which the service listens.
    pub(super) port: u16,
    /// The name of an abstract socket on which it listens.
    pub(super) name: String,
    /// Where it keeps the word `canary` in memory.
    pub(super) address: usize,
}

/// What the file of the fixture says.
pub(super) const SECRET: &str = "hidden";
/// The descriptor that the fixture lets its children inherit.
pub(super) const LEAKED_FD: i32 = 777;
/// A word in the memory of the service.
pub(super) static CANARY: [u8; 6] = *b"canary";

pub(super) type Act = fn(&Knowledge) -> io::Result<()>;

pub(super) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

pub(super) fn call(number: libc::c_long, args: [libc::c_long; 6]) -> io::Result<libc::c_long> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: see the module; pointers among the arguments are to live values of the caller.
    check(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

pub(super) fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

pub(super) fn secret(know: &Knowledge) -> PathBuf {
    know.outside.join("secret")
}

fn read_secret(path: &Path) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    if text == SECRET {
        Ok(())
    } else {
        Err(io::Error::other("it says something else"))
    }
}

// Files.

pub(super) fn read_outside(know: &Knowledge) -> io::Result<()> {
    read_secret(&secret(know))
}

pub(super) fn write_outside(know: &Knowledge) -> io::Result<()> {
    let file = OpenOptions::new().append(true).open(secret(know))?;
    file.set_len(SECRET.len() as u64)
}

pub(super) fn create_outside(know: &Knowledge) -> io::Result<()> {
    let path = know.outside.join("made");
    File::create(&path)?;
    fs::remove_file(path)
}

pub(super) fn traverse(_: &Knowledge) -> io::Result<()> {
    read_secret(Path::new("../outside/secret"))
}

pub(super) fn follow_absolute_link(know: &Knowledge) -> io::Result<()> {
    let _ = fs::remove_file("link");
    symlink(secret(know), "link")?;
    read_secret(Path::new("link"))
}

pub(super) fn follow_relative_link(_: &Knowledge) -> io::Result<()> {
    let _ = fs::remove_file("link");
    symlink("../outside/secret", "link")?;
    read_secret(Path::new("link"))
}

pub(super) fn follow_magic_link(know: &Knowledge) -> io::Result<()> {
    let inside = secret(know);
    read_secret(&Path::new("/proc/self/root").join(inside.strip_prefix("/").unwrap()))
}

pub(super) fn follow_root_of_service(know: &Knowledge) -> io::Result<()> {
    let root = format!("/proc/{}/root", know.service);
    read_secret(&Path::new(&root).join(secret(know).strip_prefix("/").unwrap()))
}

pub(super) fn hard_link_in(know: &Knowledge) -> io::Result<()> {
    let _ = fs::remove_file("hard");
    fs::hard_link(secret(know), "hard")?;
    let read = read_secret(Path::new("hard"));
    fs::remove_file("hard")?;
    read
}

pub(super) fn move_out(know: &Knowledge) -> io::Result<()> {
    fs::write("mine", "x")?;
    fs::rename("mine", know.outside.join("moved"))?;
    fs::remove_file(know.outside.join("moved"))
}

pub(super) fn move_in(know: &Knowledge) -> io::Result<()> {
    fs::rename(secret(know), "taken")?;
    fs::rename("taken", secret(know))
}

pub(super) fn truncate_outside(know: &Knowledge) -> io::Result<()> {
    let path = c(&secret(know));
    // SAFETY: the path lives during the call.
    check(unsafe { libc::truncate(path.as_ptr(), SECRET.len() as i64) }.into()).map(drop)
}

pub(super) fn remove_outside(know: &Knowledge) -> io::Result<()> {
    fs::remove_file(secret(know))?;
    fs::write(secret(know), SECRET)
}

pub(super) fn chmod_outside(know: &Knowledge) -> io::Result<()> {
    fs::set_permissions(secret(know), fs::Permissions::from_mode(0o644))
}

pub(super) fn touch_outside(know: &Knowledge) -> io::Result<()> {
    File::options()
        .write(true)
        .open(secret(know))?
        .set_modified(std::time::SystemTime::now())
}

pub(super) fn list_outside(know: &Knowledge) -> io::Result<()> {
    fs::read_dir(&know.outside)?
        .next()
        .ok_or(io::ErrorKind::NotFound)?
        .map(drop)
}

pub(super) fn stat_outside(know: &Knowledge) -> io::Result<()> {
    fs::metadata(secret(know)).map(drop)
}

pub(super) fn run_outside_by_the_loader(know: &Knowledge) -> io::Result<()> {
    let loader = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .ok_or(io::ErrorKind::NotFound)?;
    let status = std::process::Command::new(loader)
        .arg(know.outside.join("program"))
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

pub(super) fn pipe_outside(know: &Knowledge) -> io::Result<()> {
    let path = know.outside.join("made");
    let name = c(&path);
    // SAFETY: the path lives during the call.
    check(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }.into())?;
    fs::remove_file(path)
}

pub(super) fn make_device(_: &Knowledge) -> io::Result<()> {
    let _ = fs::remove_file("device");
    // SAFETY: a constant path.
    check(unsafe { libc::mknod(c"device".as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(1, 3)) }.into())?;
    fs::remove_file("device")
}

/// Disks, the memory, virtual machines, networks: whichever of them this host has and lets root open.
pub(super) fn open_device(_: &Knowledge) -> io::Result<()> {
    let names = [
        "vda",
        "sda",
        "nvme0n1",
        "mem",
        "kvm",
        "vsock",
        "fuse",
        "loop-control",
        "net/tun",
    ];
    let opened = names.iter().map(|name| File::open(Path::new("/dev").join(name)));
    opened
        .reduce(Result::or)
        .ok_or(io::ErrorKind::NotFound)?
        .map(drop)
}

pub(super) fn open_kernel_log(_: &Knowledge) -> io::Result<()> {
    File::open("/dev/kmsg").map(drop)
}

pub(super) fn read_shadow(_: &Knowledge) -> io::Result<()> {
    File::open("/etc/shadow").map(drop)
}

pub(super) fn write_sysctl(_: &Knowledge) -> io::Result<()> {
    let path = "/proc/sys/kernel/printk";
    let value = fs::read(path)?;
    File::options().write(true).open(path)?.write_all(&value)
}

// Files that run as their owner.

pub(super) fn set_id_by_open(_: &Knowledge) -> io::Result<()> {
    let _ = fs::remove_file("set");
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o4755)
        .open("set")?;
    is_set_id("set")
}

pub(super) fn set_id_by_creat(_: &Knowledge) -> io::Result<()> {
    let _ = fs::remove_file("set");
    // SAFETY: a constant path.
    let fd = check(unsafe { libc::creat(c"set".as_ptr(), 0o4755) }.into())?;
    // SAFETY: it was just opened.
    drop(unsafe { File::from_raw_fd(fd as i32) });
    is_set_id("set")
}

pub(super) fn set_id_by_chmod(_: &Knowledge) -> io::Result<()> {
    File::create("set")?;
    fs::set_permissions("set", fs::Permissions::from_mode(0o4755))?;
    is_set_id("set")
}

pub(super) fn set_id_by_fchmod(_: &Knowledge) -> io::Result<()> {
    File::create("set")?.set_permissions(fs::Permissions::from_mode(0o4755))?;
    is_set_id("set")
}

pub(super) fn set_id_by_fchmodat2(_: &Knowledge) -> io::Result<()> {
    File::create("set")?;
    let path = c"set".as_ptr() as libc::c_long;
    call(452, [libc::AT_FDCWD.into(), path, 0o4755, 0, 0, 0])?;
    is_set_id("set")
}

pub(super) fn set_id_by_openat2(_: &Knowledge) -> io::Result<()> {
    let _ = fs::remove_file("set");
    let how: [u64; 3] = [(libc::O_CREAT | libc::O_WRONLY) as u64, 0o4755, 0];
    let (path, how_at) = (c"set".as_ptr() as libc::c_long, how.as_ptr() as libc::c_long);
    call(libc::SYS_openat2, [libc::AT_FDCWD.into(), path, how_at, 24, 0, 0])?;
    is_set_id("set")
}

pub(super) fn set_id_by_mkdir(_: &Knowledge) -> io::Result<()> {
    let _ = fs::remove_dir("set-dir");
    // SAFETY: a constant path. The kernel drops the bit of `mkdir` itself, so a second call asks for it.
    check(unsafe { libc::mkdir(c"set-dir".as_ptr(), 0o755) }.into())?;
    fs::set_permissions("set-dir", fs::Permissions::from_mode(0o2755))?;
    is_set_id("set-dir")
}

fn is_set_id(path: &str) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    let gone = if path == "set-dir" {
        fs::remove_dir(path)
    } else {
        fs::remove_file(path)
    };
    gone?;
    if mode & 0o6000 == 0 {
        Err(io::Error::other("the bit was dropped"))
    } else {
        Ok(())
    }
}

// Other processes.

pub(super) fn trace_service(know: &Knowledge) -> io::Result<()> {
    const PTRACE_SEIZE: libc::c_long = 0x4206;
    call(libc::SYS_ptrace, [PTRACE_SEIZE, know.service.into(), 0, 0, 0, 0]).map(drop)
}

pub(super) fn read_memory_of_service(know: &Knowledge) -> io::Result<()> {
    let mut word = [0u8; CANARY.len()];
    let local = libc::iovec {
        iov_base: word.as_mut_ptr().cast(),
        iov_len: word.len(),
    };
    let remote = libc::iovec {
        iov_base: know.address as *mut libc::c_void,
        iov_len: word.len(),
    };
    // SAFETY: `local` is our own buffer; `remote` is an address of the other process.
    check(
        unsafe { libc::process_vm_readv(know.service, &raw const local, 1, &raw const remote, 1, 0) } as i64,
    )?;
    if word == CANARY {
        Ok(())
    } else {
        Err(io::Error::other("something else"))
    }
}

pub(super) fn open_memory_of_service(know: &Knowledge) -> io::Result<()> {
    File::open(format!("/proc/{}/mem", know.service)).map(drop)
}

pub(super) fn read_environment_of_service(know: &Knowledge) -> io::Result<()> {
    let mut text = Vec::new();
    File::open(format!("/proc/{}/environ", know.service))?.read_to_end(&mut text)?;
    if text.is_empty() {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(())
    }
}

pub(super) fn signal_service(know: &Knowledge) -> io::Result<()> {
    call(
        libc::SYS_kill,
        [know.service.into(), libc::SIGCONT.into(), 0, 0, 0, 0],
    )
    .map(drop)
}

pub(super) fn take_descriptor_of_service(know: &Knowledge) -> io::Result<()> {
    let pidfd = call(libc::SYS_pidfd_open, [know.service.into(), 0, 0, 0, 0, 0])?;
    call(libc::SYS_pidfd_getfd, [pidfd, LEAKED_FD.into(), 0, 0, 0, 0]).map(drop)
}

pub(super) fn limit_service(know: &Knowledge) -> io::Result<()> {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both pointers are to a live `rlimit`; what is set is what was there.
    check(unsafe { libc::prlimit(know.service, libc::RLIMIT_CORE, std::ptr::null(), &raw mut now) }.into())?;
    // SAFETY: as above.
    check(
        unsafe {
            libc::prlimit(
                know.service,
                libc::RLIMIT_CORE,
                &raw const now,
                std::ptr::null_mut(),
            )
        }
        .into(),
    )
    .map(drop)
}

/// To what it is already, so that the control does no harm.
pub(super) fn slow_service(know: &Knowledge) -> io::Result<()> {
    let service = know.service.into();
    // The call says 20 minus the value.
    let now = call(libc::SYS_getpriority, [0, service, 0, 0, 0, 0]).unwrap_or(20);
    call(libc::SYS_setpriority, [0, service, 20 - now, 0, 0, 0]).map(drop)
}

pub(super) fn use_leaked_descriptor(_: &Knowledge) -> io::Result<()> {
    call(
        libc::SYS_fcntl,
        [LEAKED_FD.into(), libc::F_GETFD.into(), 0, 0, 0, 0],
    )
    .map(drop)
}

/// Whether a program with file capabilities or set-user-id would gain something.
pub(super) fn gain_by_exec(_: &Knowledge) -> io::Result<()> {
    let none = call(libc::SYS_prctl, [libc::PR_GET_NO_NEW_PRIVS.into(), 0, 0, 0, 0, 0])?;
    if none == 0 {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Whether a capability could ever be had.
pub(super) fn gain_capability(_: &Knowledge) -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    let sets = status
        .lines()
        .filter(|line| line.starts_with("Cap"))
        .filter_map(|line| line.split_once('\t'));
    let any = sets
        .filter(|(_, set)| u64::from_str_radix(set.trim(), 16) != Ok(0))
        .count();
    if any > 0 {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

// Sockets.

pub(super) fn connect_port(know: &Knowledge) -> io::Result<()> {
    std::net::TcpStream::connect(("127.0.0.1", know.port)).map(drop)
}

pub(super) fn connect_path(know: &Knowledge) -> io::Result<()> {
    UnixStream::connect(know.outside.join("stream")).map(drop)
}

pub(super) fn connect_name(know: &Knowledge) -> io::Result<()> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(&know.name)?).map(drop)
}

/// A socket of a pair is joined to the other; one of datagrams sends anywhere all the same.
pub(super) fn send_from_a_pair(know: &Knowledge) -> io::Result<()> {
    let (one, _other) = UnixDatagram::pair()?;
    one.send_to(b"x", know.outside.join("datagram")).map(drop)
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    let fd = call(
        libc::SYS_socket,
        [family.into(), kind.into(), protocol.into(), 0, 0, 0],
    )?;
    // SAFETY: it was just opened.
    drop(unsafe { File::from_raw_fd(fd as i32) });
    Ok(())
}

pub(super) fn vsock(_: &Knowledge) -> io::Result<()> {
    socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)
}

pub(super) fn kernel_events(_: &Knowledge) -> io::Result<()> {
    socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_KOBJECT_UEVENT)
}

pub(super) fn raw_socket(_: &Knowledge) -> io::Result<()> {
    socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
}

pub(super) fn packet_socket(_: &Knowledge) -> io::Result<()> {
    socket(libc::AF_PACKET, libc::SOCK_RAW, 0)
}

// The kernel.

/// A process with threads cannot leave its users, so a child does.
pub(super) fn new_user_namespace(_: &Knowledge) -> io::Result<()> {
    // SAFETY: no pointers; the child calls nothing but what may be called then.
    match unsafe { libc::fork() } {
        0 => {
            let left = call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0, 0, 0]);
            let errno = left.map_or_else(|e| e.raw_os_error().unwrap_or(1), |_| 0);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(errno) }
        }
        child => exit_code_of(child),
    }
}

/// The error that a child left as its exit code.
fn exit_code_of(child: i32) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: a pointer to a live integer.
    check(unsafe { libc::waitpid(child, &raw mut status, 0) }.into())?;
    match libc::WEXITSTATUS(status) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

pub(super) fn clone_into_namespace(_: &Knowledge) -> io::Result<()> {
    let flags = libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    let pid = call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0])?;
    if pid == 0 {
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) }
    }
    call(libc::SYS_wait4, [pid, 0, 0, 0, 0, 0]).map(drop)
}

/// Its flags are behind a pointer, so it must not be there at all: with no arguments it says `EINVAL`.
pub(super) fn clone_with_hidden_flags(_: &Knowledge) -> io::Result<()> {
    match call(libc::SYS_clone3, [0; 6]) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other.map(drop),
    }
}

pub(super) fn join_namespace_of_service(know: &Knowledge) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{}/ns/net", know.service))?;
    call(libc::SYS_setns, [namespace.as_raw_fd().into(), 0, 0, 0, 0, 0]).map(drop)
}

pub(super) fn mount_something(_: &Knowledge) -> io::Result<()> {
    fs::create_dir_all("mnt")?;
    let [target, kind] = [c"mnt".as_ptr() as libc::c_long, c"tmpfs".as_ptr() as libc::c_long];
    call(libc::SYS_mount, [kind, target, kind, 0, 0, 0])?;
    call(libc::SYS_umount2, [target, 0, 0, 0, 0, 0]).map(drop)
}

pub(super) fn change_root(_: &Knowledge) -> io::Result<()> {
    call(libc::SYS_chroot, [c".".as_ptr() as libc::c_long, 0, 0, 0, 0, 0]).map(drop)
}

pub(super) fn set_clock(_: &Knowledge) -> io::Result<()> {
    // SAFETY: a `timespec` of zeros is one, and lives during both calls.
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    check(unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) }.into())?;
    // SAFETY: as above; it is set to what it is.
    check(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const now) }.into()).map(drop)
}

pub(super) fn set_host_name(_: &Knowledge) -> io::Result<()> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let name = name.trim();
    let at = name.as_ptr() as libc::c_long;
    call(
        libc::SYS_sethostname,
        [at, name.len() as libc::c_long, 0, 0, 0, 0],
    )
    .map(drop)
}

pub(super) fn keyring(_: &Knowledge) -> io::Result<()> {
    const GET_KEYRING_ID: libc::c_long = 0;
    const SESSION: libc::c_long = -3;
    call(libc::SYS_keyctl, [GET_KEYRING_ID, SESSION, 1, 0, 0, 0]).map(drop)
}

pub(super) fn bpf(_: &Knowledge) -> io::Result<()> {
    // A map: type array, keys of 4 bytes, values of 4, one entry.
    let attr: [u32; 16] = [2, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    call(libc::SYS_bpf, [0, attr.as_ptr() as libc::c_long, 64, 0, 0, 0]).map(drop)
}

pub(super) fn perf_event(_: &Knowledge) -> io::Result<()> {
    // Type software, its size, the processor clock, and of the flags `exclude_kernel` and `exclude_hv`.
    let mut attr = [0u64; 16];
    attr[0] = 1 | (128 << 32);
    attr[5] = 0b110_0000;
    call(
        libc::SYS_perf_event_open,
        [attr.as_ptr() as libc::c_long, 0, -1, -1, 0, 0],
    )
    .map(drop)
}

pub(super) fn user_fault(_: &Knowledge) -> io::Result<()> {
    const USER_MODE_ONLY: libc::c_long = 1;
    call(libc::SYS_userfaultfd, [USER_MODE_ONLY, 0, 0, 0, 0, 0]).map(drop)
}

pub(super) fn io_uring(_: &Knowledge) -> io::Result<()> {
    let params = [0u8; 120];
    call(
        libc::SYS_io_uring_setup,
        [1, params.as_ptr() as libc::c_long, 0, 0, 0, 0],
    )
    .map(drop)
}

pub(super) fn kernel_messages(_: &Knowledge) -> io::Result<()> {
    const SIZE_OF_BUFFER: libc::c_long = 10;
    call(libc::SYS_syslog, [SIZE_OF_BUFFER, 0, 0, 0, 0, 0]).map(drop)
}

pub(super) fn read_implies_exec(_: &Knowledge) -> io::Result<()> {
    call(libc::SYS_personality, [0x040_0000, 0, 0, 0, 0, 0]).map(drop)
}

pub(super) fn shared_memory_of_host(_: &Knowledge) -> io::Result<()> {
    let id = call(libc::SYS_shmget, [0, 4096, 0o1600, 0, 0, 0])?;
    call(libc::SYS_shmctl, [id, 0, 0, 0, 0, 0]).map(drop)
}

/// Puts a key into a terminal, a real one where one can be had; otherwise asks for it all the same.
pub(super) fn press_a_key(_: &Knowledge) -> io::Result<()> {
    let key = b'x';
    let pressed = |fd: i32| {
        let at = &raw const key as libc::c_long;
        // The upper half of the request is ignored by the kernel, and must be by who looks at it.
        let hidden = 0x7fff_ffff_0000_0000u64 as libc::c_long | 0x5412;
        call(libc::SYS_ioctl, [fd.into(), hidden, at, 0, 0, 0]).map(drop)
    };
    let Ok(master) = File::options().read(true).write(true).open("/dev/ptmx") else {
        return pressed(0);
    };
    let (mut number, unlock) = (0i32, 0i32);
    // SAFETY: both are pointers to live integers, as these requests want.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) }.into())?;
    // SAFETY: as above.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) }.into())?;
    // SAFETY: no pointers. A terminal becomes that of a process which leads a session, so a child does it.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: no pointers.
            unsafe { libc::setsid() };
            let slave = File::options()
                .read(true)
                .write(true)
                .open(format!("/dev/pts/{number}"));
            let done = slave.and_then(|slave| pressed(slave.as_raw_fd()));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(done.map_or_else(|e| e.raw_os_error().unwrap_or(1), |()| 0)) }
        }
        child => exit_code_of(child),
    }
}

// Taking what there is.

/// Processes that make processes, until there can be no more; they stay for a while.
pub(super) fn fork_bomb(_: &Knowledge) -> io::Result<()> {
    let mut made = 0;
    for _ in 0..2000 {
        // SAFETY: no pointers; the child calls nothing but what may be called then.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: as above.
                unsafe { libc::setsid() };
                // SAFETY: as above.
                unsafe { libc::sleep(20) };
                // SAFETY: as above.
                unsafe { libc::_exit(0) }
            }
            pid if pid < 0 => break,
            _ => made += 1,
        }
    }
    io::stdout().write_all(format!("MADE {made}\n").as_bytes())?;
    io::stdout().flush()?;
    std::thread::sleep(std::time::Duration::from_secs(3));
    Ok(())
}

/// Four processes that take 100 MiB each, and keep it.
pub(super) fn memory_bomb(_: &Knowledge) -> io::Result<()> {
    for _ in 0..4 {
        // SAFETY: the child has one thread and touches memory of its own.
        if unsafe { libc::fork() } == 0 {
            take_memory(100 << 20);
            std::thread::sleep(std::time::Duration::from_secs(20));
        }
    }
    std::thread::sleep(std::time::Duration::from_secs(4));
    Ok(())
}

fn take_memory(bytes: usize) {
    // SAFETY: a new mapping, of which every page is written once.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        );
        if at != libc::MAP_FAILED {
            std::ptr::write_bytes(at.cast::<u8>(), 1, bytes);
        }
    }
}

/// The same without a page in anybody's address space.
pub(super) fn memory_files(_: &Knowledge) -> io::Result<()> {
    let chunk = vec![1u8; 1 << 20];
    let mut kept = Vec::new();
    for _ in 0..8 {
        let fd = call(
            libc::SYS_memfd_create,
            [c"m".as_ptr() as libc::c_long, 0, 0, 0, 0, 0],
        )?;
        // SAFETY: it was just opened.
        let mut file = unsafe { File::from_raw_fd(fd as i32) };
        (0..50).try_for_each(|_| file.write_all(&chunk))?;
        kept.push(file);
    }
    std::thread::sleep(std::time::Duration::from_secs(4));
    Ok(())
}

/// Fills a directory with files until there is an error or 400 MiB.
pub(super) fn fill(directory: &Path) -> io::Result<()> {
    let chunk = vec![1u8; 1 << 20];
    for i in 0..40 {
        let mut file = File::create(directory.join(format!("fill{i}")))?;
        for _ in 0..10 {
            file.write_all(&chunk)?;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(())
}

pub(super) fn fill_workspace(_: &Knowledge) -> io::Result<()> {
    fill(Path::new("."))
}

pub(super) fn fill_tmp(_: &Knowledge) -> io::Result<()> {
    fill(Path::new(
        &std::env::var_os("TMPDIR").unwrap_or_else(|| "/tmp".into()),
    ))
}

/// Space that is reserved and never written.
pub(super) fn reserve_space(_: &Knowledge) -> io::Result<()> {
    let file = File::create("reserved")?;
    // SAFETY: no pointers.
    let reserved = check(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, 64 << 20) }.into());
    fs::remove_file("reserved")?;
    reserved.map(drop)
}

/// A child that keeps our outputs open and lives on, its parent long gone.
pub(super) fn hold_output_open(_: &Knowledge) -> io::Result<()> {
    // SAFETY: no pointers; children call nothing but what may be called then.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                libc::sleep(30);
            }
            libc::_exit(0);
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    Ok(())
}

const _: () = assert!(size_of::<usize>() == size_of::<libc::c_long>());
