//! The system call filter: a classic BPF program, assembled here.
//!
//! It answers `EPERM` to calls that no tool of an agent needs and that widen the kernel's surface, and
//! `ENOSYS` to those that a C library replaces by older ones when they are missing (`clone3`,
//! `openat2`), because their arguments are behind pointers and cannot be looked at. Set-user-id bits
//! in mode arguments are refused: a file made with one would be a door for others on the host.

use libc::sock_filter;

/// What the program can see beside its workspace, and so what the filter has to add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Nothing: the usual sockets and changes of mode stay inside.
    Own,
    /// The host's network: no socket can be made, though pairs of connected ones can.
    HostNetwork,
    /// The host's network and files: Landlock does not guard modes and owners, so nobody changes them.
    HostNetworkAndFiles,
    /// The host's files only.
    HostFiles,
}

impl Sight {
    pub(super) fn of(own_network: bool, own_files: bool) -> Self {
        match (own_network, own_files) {
            (true, true) => Self::Own,
            (false, true) => Self::HostNetwork,
            (true, false) => Self::HostFiles,
            (false, false) => Self::HostNetworkAndFiles,
        }
    }

    fn has_network(self) -> bool {
        matches!(self, Self::HostNetwork | Self::HostNetworkAndFiles)
    }

    fn has_files(self) -> bool {
        matches!(self, Self::HostFiles | Self::HostNetworkAndFiles)
    }
}

const NR: u32 = 0;
const ARCH: u32 = 4;
const SETID_BITS: u32 = 0o6000;
#[cfg(target_arch = "x86_64")]
const NATIVE_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE_ARCH: u32 = 0xC000_00B7;
/// Calls of the x32 interface carry this bit on x86-64.
const X32_BIT: u32 = 0x4000_0000;
/// `TIOCSTI` and `TIOCLINUX` put keys into the terminal of somebody else.
const TERMINAL_IOCTLS: [u32; 2] = [0x5412, 0x541C];
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
const NEW_NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

const REFUSED: [libc::c_long; 52] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_fanotify_init,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
];

/// Calls with a mode, and which argument it is.
#[cfg(target_arch = "x86_64")]
const MODES: [(libc::c_long, u32); 9] = [
    (libc::SYS_chmod, 1),
    (libc::SYS_creat, 1),
    (libc::SYS_mkdir, 1),
    (libc::SYS_mknod, 1),
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (FCHMODAT2, 2),
    (libc::SYS_mkdirat, 2),
    (libc::SYS_mknodat, 2),
];
#[cfg(not(target_arch = "x86_64"))]
const MODES: [(libc::c_long, u32); 5] = [
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (FCHMODAT2, 2),
    (libc::SYS_mkdirat, 2),
    (libc::SYS_mknodat, 2),
];
/// The same number on every architecture.
const FCHMODAT2: libc::c_long = 452;

/// Calls with flags and, where those say so, a mode: flags and mode argument.
#[cfg(target_arch = "x86_64")]
const OPENS: [(libc::c_long, u32, u32); 2] = [(libc::SYS_open, 1, 2), (libc::SYS_openat, 2, 3)];
#[cfg(not(target_arch = "x86_64"))]
const OPENS: [(libc::c_long, u32, u32); 1] = [(libc::SYS_openat, 2, 3)];
/// `O_CREAT` and the bit of `O_TMPFILE` that is not `O_DIRECTORY`.
const CREATES: u32 = 0o100 | 0o20_000_000;

/// Changes of what Landlock does not guard.
const METADATA: [libc::c_long; 8] = [
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
];
/// The same by names that only the older architecture has.
#[cfg(target_arch = "x86_64")]
const OLD_METADATA: [libc::c_long; 3] = [libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown];
#[cfg(not(target_arch = "x86_64"))]
const OLD_METADATA: [libc::c_long; 0] = [];

/// The whole filter.
pub(super) fn program(sight: Sight) -> Vec<sock_filter> {
    let mut out = vec![load(ARCH), jump_eq(NATIVE_ARCH, 1, 0), answer_kill(), load(NR)];
    if cfg!(target_arch = "x86_64") {
        out.extend([jump_ge(X32_BIT, 0, 1), answer(libc::ENOSYS)]);
    }
    for missing in [libc::SYS_clone3, libc::SYS_openat2] {
        out.extend([jump_eq(missing as u32, 0, 1), answer(libc::ENOSYS)]);
    }
    let metadata = if sight.has_files() {
        (&METADATA[..], &OLD_METADATA[..])
    } else {
        (&[][..], &[][..])
    };
    for refused in REFUSED.iter().chain(metadata.0).chain(metadata.1) {
        out.extend([jump_eq(*refused as u32, 0, 1), answer(libc::EPERM)]);
    }
    for (call, argument) in MODES {
        on_call(
            &mut out,
            call,
            &[
                load_arg(argument),
                jump_set(SETID_BITS, 0, 1),
                answer(libc::EPERM),
            ],
        );
    }
    for (call, flags, mode) in OPENS {
        let body = [
            load_arg(flags),
            jump_set(CREATES, 0, 3),
            load_arg(mode),
            jump_set(SETID_BITS, 0, 1),
            answer(libc::EPERM),
        ];
        on_call(&mut out, call, &body);
    }
    let clone = [
        load_arg(0),
        jump_set(NEW_NAMESPACES as u32, 0, 1),
        answer(libc::EPERM),
    ];
    on_call(&mut out, libc::SYS_clone, &clone);
    let [sti, linux] = TERMINAL_IOCTLS;
    let ioctl = [
        load_arg(1),
        jump_eq(sti, 1, 0),
        jump_eq(linux, 0, 1),
        answer(libc::EPERM),
    ];
    on_call(&mut out, libc::SYS_ioctl, &ioctl);
    on_call(&mut out, libc::SYS_socket, &socket_body(sight));
    out.push(allow());
    out
}

fn socket_body(sight: Sight) -> Vec<sock_filter> {
    if sight.has_network() {
        return vec![answer(libc::EACCES)];
    }
    let mut body = vec![load_arg(0)];
    for (i, family) in FAMILIES.iter().enumerate() {
        let to_end = (FAMILIES.len() - i) as u8;
        body.push(jump_eq(*family as u32, to_end, 0));
    }
    body.push(answer(libc::EAFNOSUPPORT));
    body
}

/// A body for one call. If it falls through, the call is allowed: each call has one body at most.
fn on_call(out: &mut Vec<sock_filter>, call: libc::c_long, body: &[sock_filter]) {
    out.push(jump_eq(call as u32, 0, body.len() as u8 + 1));
    out.extend_from_slice(body);
    out.push(allow());
}

fn op(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

fn load(offset: u32) -> sock_filter {
    op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

/// The lower half of an argument: the kernel ignores the upper one of an `int`.
fn load_arg(index: u32) -> sock_filter {
    load(16 + 8 * index + if cfg!(target_endian = "big") { 4 } else { 0 })
}

fn jump_eq(k: u32, jt: u8, jf: u8) -> sock_filter {
    op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, k)
}

fn jump_ge(k: u32, jt: u8, jf: u8) -> sock_filter {
    op(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, jt, jf, k)
}

fn jump_set(k: u32, jt: u8, jf: u8) -> sock_filter {
    op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, jt, jf, k)
}

fn answer(errno: i32) -> sock_filter {
    op(
        libc::BPF_RET | libc::BPF_K,
        0,
        0,
        libc::SECCOMP_RET_ERRNO | errno as u32,
    )
}

fn answer_kill() -> sock_filter {
    op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS)
}

fn allow() -> sock_filter {
    op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW)
}
