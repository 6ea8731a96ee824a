//! The system call filter: a classic BPF program, assembled here.
//!
//! It answers `EPERM` to calls that no tool of an agent needs and that widen the kernel's surface, and
//! `ENOSYS` to those that a C library replaces by older ones when they are missing (`clone3`,
//! `openat2`), because their arguments are behind pointers and cannot be looked at. Set-user-id bits
//! in mode arguments are refused: a file made with one would be a door for others on the host.

use std::sync::OnceLock;

use libc::sock_filter;

/// What the program can see beside its workspace, and so what the filter has to add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Nothing: the usual sockets and changes of mode stay inside.
    Own,
    /// Nothing either, but who supervises it has no rights over it.
    OwnOfBubblewrap,
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

    /// The same inside bubblewrap.
    pub(super) fn in_bubblewrap(self) -> Self {
        match self {
            Self::Own => Self::OwnOfBubblewrap,
            other => other,
        }
    }

    /// Whether a process could keep its supervisor from looking at it.
    fn could_hide(self) -> bool {
        self.has_network() || self == Self::OwnOfBubblewrap
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
/// What the types of both kinds of devices have and those of files, pipes and sockets have not.
const DEVICE_BIT: u32 = 0o20_000;
#[cfg(target_arch = "x86_64")]
const NODES: [libc::c_long; 2] = [libc::SYS_mknod, libc::SYS_mknodat];
#[cfg(not(target_arch = "x86_64"))]
const NODES: [libc::c_long; 1] = [libc::SYS_mknodat];
#[cfg(target_arch = "x86_64")]
const NATIVE_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE_ARCH: u32 = 0xC000_00B7;
/// Calls of the x32 interface carry this bit on x86-64.
const X32_BIT: u32 = 0x4000_0000;
/// `TIOCSTI` and `TIOCLINUX` put keys into the terminal of somebody else.
const TERMINAL_IOCTLS: [u32; 2] = [0x5412, 0x541C];
const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
/// The type of a socket without its flags.
const SOCKET_TYPE: u32 = 0xf;
/// A personality that only changes what `uname` says.
const UNAME26: u32 = 0x002_0000;
/// A personality without random addresses, for debuggers.
const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;
const NEW_NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// The same numbers on every architecture.
const QUOTACTL_FD: libc::c_long = 443;
const OPEN_TREE_ATTR: libc::c_long = 467;

const REFUSED: [libc::c_long; 54] = [
    QUOTACTL_FD,
    OPEN_TREE_ATTR,
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

/// Calls that a program has no use for on the only architecture that has them.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: [libc::c_long; 3] = [libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: [libc::c_long; 0] = [];

/// Objects of the host that are not files: segments, queues and semaphores that outlive a program, and
/// sockets by other ways than making one.
const HOST_OBJECTS: [libc::c_long; 18] = [
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];

/// Calls that change another process of the same user, and which argument says whom; 0 is the caller.
const ON_OTHERS: [(libc::c_long, u32); 6] = [
    (libc::SYS_prlimit64, 0),
    (libc::SYS_setpriority, 1),
    (libc::SYS_ioprio_set, 1),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_sched_setattr, 0),
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

/// The same numbers on every architecture.
const SETXATTRAT: libc::c_long = 463;
const REMOVEXATTRAT: libc::c_long = 466;
const FILE_SETATTR: libc::c_long = 469;

/// Changes of what Landlock does not guard. Times are in [`times_body`].
const METADATA: [libc::c_long; 14] = [
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    FILE_SETATTR,
];
/// The same by names that only the older architecture has.
#[cfg(target_arch = "x86_64")]
const OLD_METADATA: [libc::c_long; 6] = [
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_METADATA: [libc::c_long; 0] = [];

/// What is done about one call.
type Rule = (u32, Vec<sock_filter>);
/// How many calls are compared one after the other.
const LEAF: usize = 6;

/// The filter, put together once for a process and those that come from it.
pub(super) fn of(sight: Sight) -> &'static [sock_filter] {
    static ALL: [OnceLock<Vec<sock_filter>>; 5] = [const { OnceLock::new() }; 5];
    ALL[sight as usize].get_or_init(|| program(sight))
}

/// The whole filter. The kernel tries it for each call when it is installed, so the calls are searched for, not gone
/// through.
fn program(sight: Sight) -> Vec<sock_filter> {
    let mut out = vec![load(ARCH), jump_eq(NATIVE_ARCH, 1, 0), answer_kill(), load(NR)];
    if cfg!(target_arch = "x86_64") {
        out.extend([jump_ge(X32_BIT, 0, 1), answer(libc::ENOSYS)]);
    }
    let mut rules = rules(sight);
    // Of several rules for a call the first holds: the sort keeps their order.
    rules.sort_by_key(|(call, _)| *call);
    rules.dedup_by_key(|(call, _)| *call);
    out.extend(search(&rules));
    out
}

fn rules(sight: Sight) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut on_call = |call: libc::c_long, body: Vec<sock_filter>| rules.push((call as u32, body));
    for missing in [libc::SYS_clone3, libc::SYS_openat2] {
        on_call(missing, vec![answer(libc::ENOSYS)]);
    }
    let mut refused = [&REFUSED[..], &REFUSED_HERE].concat();
    if sight.has_files() {
        refused.extend(METADATA.iter().chain(&OLD_METADATA));
        on_call(libc::SYS_utimensat, times_body());
    }
    if sight.has_network() {
        refused.extend(HOST_OBJECTS);
        for (call, whom) in ON_OTHERS {
            on_call(call, vec![load_arg(whom), jump_eq(0, 1, 0), answer(libc::EPERM)]);
        }
    }
    if sight.could_hide() {
        on_call(libc::SYS_prctl, prctl_body());
    }
    for call in refused {
        on_call(call, vec![answer(libc::EPERM)]);
    }
    // Space that is reserved is not counted as written. Who cannot reserve it writes zeros.
    on_call(libc::SYS_fallocate, vec![answer(libc::EOPNOTSUPP)]);
    for (call, argument) in MODES {
        let bits = if NODES.contains(&call) {
            SETID_BITS | DEVICE_BIT
        } else {
            SETID_BITS
        };
        on_call(
            call,
            vec![load_arg(argument), jump_set(bits, 0, 1), answer(libc::EPERM)],
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
        on_call(call, body.to_vec());
    }
    let clone = [
        load_arg(0),
        jump_set(NEW_NAMESPACES as u32, 0, 1),
        answer(libc::EPERM),
    ];
    on_call(libc::SYS_clone, clone.to_vec());
    let [sti, linux] = TERMINAL_IOCTLS;
    let ioctl = [
        load_arg(1),
        jump_eq(sti, 1, 0),
        jump_eq(linux, 0, 1),
        answer(libc::EPERM),
    ];
    on_call(libc::SYS_ioctl, ioctl.to_vec());
    on_call(libc::SYS_personality, personality_body());
    on_call(libc::SYS_socketpair, socketpair_body(sight));
    on_call(libc::SYS_socket, socket_body(sight));
    rules
}

/// Finds the rule of a call by halves; a call without one is allowed.
fn search(rules: &[Rule]) -> Vec<sock_filter> {
    if rules.len() <= LEAF {
        return compare(rules);
    }
    let (low, high) = rules.split_at(rules.len() / 2);
    let first_half = search(low);
    let mut out = vec![jump_ge(high[0].0, 0, 1), jump(first_half.len())];
    out.extend(first_half);
    out.extend(search(high));
    out
}

/// Compares a call with each of a few. Those that are only refused share one answer.
fn compare(rules: &[Rule]) -> Vec<sock_filter> {
    let refusal = answer(libc::EPERM);
    let is_refused =
        |body: &[sock_filter]| matches!(body, [only] if (only.code, only.k) == (refusal.code, refusal.k));
    let (refused, others): (Vec<_>, Vec<_>) = rules.iter().partition(|(_, body)| is_refused(body));
    let mut out = Vec::new();
    for (call, body) in others {
        // A body that falls through allows the call.
        out.push(jump_eq(*call, 0, body.len() as u8 + 1));
        out.extend_from_slice(body);
        out.push(allow());
    }
    for (i, (call, _)) in refused.iter().enumerate() {
        out.push(jump_eq(*call, (refused.len() - i) as u8, 0));
    }
    out.push(allow());
    if !refused.is_empty() {
        out.push(refusal);
    }
    out
}

/// The families that a program may use on a network of its own; of netlink only what lists addresses.
fn socket_body(sight: Sight) -> Vec<sock_filter> {
    if sight.has_network() {
        return vec![answer(libc::EACCES)];
    }
    let mut body = vec![load_arg(0), jump_eq(libc::AF_NETLINK as u32, 0, 3), load_arg(2)];
    body.extend([
        jump_eq(libc::NETLINK_ROUTE as u32, FAMILIES.len() as u8 + 2, 0),
        answer(libc::EPROTONOSUPPORT),
    ]);
    for (i, family) in FAMILIES.iter().enumerate() {
        let to_end = (FAMILIES.len() - i) as u8;
        body.push(jump_eq(*family as u32, to_end, 0));
    }
    body.push(answer(libc::EAFNOSUPPORT));
    body
}

/// Pairs are joined to each other; but one of datagrams could still send to any address.
fn socketpair_body(sight: Sight) -> Vec<sock_filter> {
    let mut body = vec![
        load_arg(0),
        jump_eq(libc::AF_UNIX as u32, 1, 0),
        answer(libc::EAFNOSUPPORT),
    ];
    if sight.has_network() {
        body.extend([load_arg(1), mask(SOCKET_TYPE)]);
        body.extend([jump_eq(libc::SOCK_DGRAM as u32, 0, 1), answer(libc::EACCES)]);
    }
    body
}

/// Times of what is open, and not of what only has a name: the name may be anything on the host.
fn times_body() -> Vec<sock_filter> {
    vec![
        load_arg(1),
        jump_eq(0, 0, 2),
        load_arg_high(1),
        jump_eq(0, 1, 0),
        answer(libc::EPERM),
    ]
}

/// Nobody makes itself one whom the supervisor, an ordinary user, cannot look at.
fn prctl_body() -> Vec<sock_filter> {
    vec![
        load_arg(0),
        jump_eq(libc::PR_SET_DUMPABLE as u32, 0, 3),
        load_arg(1),
        jump_eq(1, 1, 0),
        answer(libc::EPERM),
    ]
}

/// What a debugger may ask for, but not to execute what is only data.
fn personality_body() -> Vec<sock_filter> {
    let harmless = ADDR_NO_RANDOMIZE | UNAME26;
    vec![
        load_arg(0),
        jump_eq(u32::MAX, 3, 0),
        mask(!harmless),
        jump_set(u32::MAX, 0, 1),
        answer(libc::EPERM),
    ]
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

/// The upper half of an argument that is a pointer.
fn load_arg_high(index: u32) -> sock_filter {
    load(16 + 8 * index + if cfg!(target_endian = "big") { 0 } else { 4 })
}

fn jump(over: usize) -> sock_filter {
    op(libc::BPF_JMP | libc::BPF_JA, 0, 0, over as u32)
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

/// Keeps these bits of what was loaded.
fn mask(bits: u32) -> sock_filter {
    op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, bits)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer, by the rules of classic BPF.
    fn verdict(program: &[sock_filter], call: libc::c_long, args: &[u64]) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&(call as u32).to_ne_bytes());
        data[4..8].copy_from_slice(&NATIVE_ARCH.to_ne_bytes());
        for (i, arg) in args.iter().enumerate() {
            data[16 + 8 * i..24 + 8 * i].copy_from_slice(&arg.to_ne_bytes());
        }
        let (mut at, mut a) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            match u32::from(code) {
                c if c == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    let at = k as usize;
                    a = u32::from_ne_bytes(data[at..at + 4].try_into().unwrap());
                }
                c if c == libc::BPF_JMP | libc::BPF_JA => at += k as usize,
                c if c == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => at += jump(a == k),
                c if c == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => at += jump(a >= k),
                c if c == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => at += jump(a & k != 0),
                c if c == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => a &= k,
                c if c == libc::BPF_RET | libc::BPF_K => return k,
                other => panic!("instruction {other}"),
            }
        }
    }

    fn errno(errno: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | errno as u32
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const ALL: [Sight; 5] = [
        Sight::Own,
        Sight::OwnOfBubblewrap,
        Sight::HostNetwork,
        Sight::HostNetworkAndFiles,
        Sight::HostFiles,
    ];

    #[test]
    fn modes_are_looked_at_and_nothing_else_of_the_call() {
        for sight in ALL {
            let program = program(sight);
            let say = |call, args: &[u64]| verdict(&program, call, args);
            let create = 0o101;
            assert_eq!(say(libc::SYS_openat, &[3, 0, create, 0o644]), ALLOW);
            assert_eq!(say(libc::SYS_openat, &[3, 0, create, 0o4755]), errno(libc::EPERM));
            assert_eq!(
                say(libc::SYS_openat, &[3, 0, 0, 0o4755]),
                ALLOW,
                "no file is made"
            );
            assert_eq!(say(libc::SYS_mkdirat, &[3, 0, 0o2755]), errno(libc::EPERM));
            assert_eq!(say(libc::SYS_mknodat, &[3, 0, 0o10_644]), ALLOW, "a pipe");
            assert_eq!(say(libc::SYS_mknodat, &[3, 0, 0o100_644]), ALLOW, "a file");
            for device in [0o20_644, 0o60_644] {
                assert_eq!(say(libc::SYS_mknodat, &[3, 0, device]), errno(libc::EPERM));
            }
            assert_eq!(say(libc::SYS_openat2, &[3, 0, 0]), errno(libc::ENOSYS));
            assert_eq!(say(libc::SYS_clone3, &[0, 0]), errno(libc::ENOSYS));
            assert_eq!(say(libc::SYS_fallocate, &[1, 0, 0, 9]), errno(libc::EOPNOTSUPP));
            assert_eq!(say(libc::SYS_read, &[0, 0, 0]), ALLOW);
        }
    }

    /// The search finds every rule and nothing else, and of several for one call the first.
    #[test]
    fn each_call_has_the_answer_of_its_first_rule() {
        for sight in ALL {
            let (program, rules) = (program(sight), rules(sight));
            for call in 0..600 {
                let rule = rules.iter().find(|(known, _)| i64::from(*known) == call);
                let expected = rule.map_or(vec![allow()], |(_, body)| [&body[..], &[allow()]].concat());
                for args in [[0; 6], [1; 6], [u64::MAX; 6], [0o4000; 6], [0o100; 6]] {
                    let alone = verdict(&expected, call as libc::c_long, &args);
                    assert_eq!(verdict(&program, call as libc::c_long, &args), alone, "{call}");
                }
            }
        }
    }

    #[test]
    fn the_upper_half_of_an_int_hides_nothing() {
        let program = program(Sight::Own);
        let hidden = 0xdead_beef_0000_0000 | 0x5412;
        assert_eq!(
            verdict(&program, libc::SYS_ioctl, &[0, hidden]),
            errno(libc::EPERM)
        );
        assert_eq!(verdict(&program, libc::SYS_ioctl, &[0, 0x5401]), ALLOW);
        let x32 = libc::c_long::from(X32_BIT) | libc::SYS_ptrace;
        assert_eq!(
            verdict(&program, x32, &[0]),
            errno(if cfg!(target_arch = "x86_64") {
                libc::ENOSYS
            } else {
                0
            })
        );
    }

    #[test]
    fn sockets_are_what_the_network_is() {
        let say = |sight, call, args: &[u64]| verdict(&program(sight), call, args);
        let family = |family: i32| [family as u64, 1, 0];
        for f in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK] {
            assert_eq!(say(Sight::Own, libc::SYS_socket, &family(f)), ALLOW, "{f}");
            assert_eq!(
                say(Sight::HostNetwork, libc::SYS_socket, &family(f)),
                errno(libc::EACCES),
                "{f}"
            );
        }
        for f in [libc::AF_VSOCK, libc::AF_PACKET, libc::AF_ALG, 29, 38, 44] {
            assert_eq!(
                say(Sight::Own, libc::SYS_socket, &family(f)),
                errno(libc::EAFNOSUPPORT),
                "{f}"
            );
        }
        let netfilter = [libc::AF_NETLINK as u64, 3, 12];
        assert_eq!(
            say(Sight::Own, libc::SYS_socket, &netfilter),
            errno(libc::EPROTONOSUPPORT)
        );
        let stream = [
            libc::AF_UNIX as u64,
            (libc::SOCK_STREAM | libc::SOCK_CLOEXEC) as u64,
            0,
        ];
        let datagram = [
            libc::AF_UNIX as u64,
            (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as u64,
            0,
        ];
        assert_eq!(say(Sight::HostNetwork, libc::SYS_socketpair, &stream), ALLOW);
        assert_eq!(
            say(Sight::HostNetwork, libc::SYS_socketpair, &datagram),
            errno(libc::EACCES)
        );
        assert_eq!(say(Sight::Own, libc::SYS_socketpair, &datagram), ALLOW);
        assert_eq!(
            say(Sight::HostNetwork, libc::SYS_connect, &[3]),
            errno(libc::EPERM)
        );
        assert_eq!(say(Sight::Own, libc::SYS_connect, &[3]), ALLOW);
    }

    /// What belongs to a file that only has a name stays as it is, by old calls and by new ones.
    #[test]
    fn what_landlock_does_not_guard_is_left_alone_where_it_is_in_sight() {
        let say = |sight, call, args: &[u64]| verdict(&program(sight), call, args);
        for call in METADATA.iter().chain(&OLD_METADATA) {
            let refused = say(Sight::HostFiles, *call, &[0, 0, 0]);
            assert_eq!(refused, errno(libc::EPERM), "{call}");
            assert_eq!(say(Sight::Own, *call, &[0, 0, 0]), ALLOW, "{call}");
        }
        for (path, answer) in [(0, ALLOW), (7, errno(libc::EPERM)), (7 << 32, errno(libc::EPERM))] {
            let times = [3, path, 0, 0];
            let host = Sight::HostNetworkAndFiles;
            assert_eq!(say(host, libc::SYS_utimensat, &times), answer, "{path:#x}");
            assert_eq!(say(Sight::Own, libc::SYS_utimensat, &times), ALLOW);
        }
        let hide = |sight, value| say(sight, libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, value]);
        assert_eq!(hide(Sight::HostNetworkAndFiles, 0), errno(libc::EPERM));
        assert_eq!(hide(Sight::HostNetworkAndFiles, 1), ALLOW);
        assert_eq!(hide(Sight::Own.in_bubblewrap(), 0), errno(libc::EPERM));
        assert_eq!(hide(Sight::Own, 0), ALLOW);
        let name = [libc::PR_SET_NAME as u64, 0];
        assert_eq!(say(Sight::HostNetwork, libc::SYS_prctl, &name), ALLOW);
    }

    #[test]
    fn others_are_left_alone_where_they_are_in_sight() {
        let say = |sight, call, args: &[u64]| verdict(&program(sight), call, args);
        let host = Sight::HostNetworkAndFiles;
        assert_eq!(say(host, libc::SYS_prlimit64, &[0, 7]), ALLOW);
        assert_eq!(say(host, libc::SYS_prlimit64, &[1, 7]), errno(libc::EPERM));
        assert_eq!(say(host, libc::SYS_setpriority, &[0, 0, 5]), ALLOW);
        assert_eq!(say(host, libc::SYS_setpriority, &[0, 77, 5]), errno(libc::EPERM));
        assert_eq!(say(Sight::Own, libc::SYS_prlimit64, &[1, 7]), ALLOW);
        assert_eq!(say(host, libc::SYS_shmget, &[0]), errno(libc::EPERM));
        for (persona, allowed) in [
            (u64::from(u32::MAX), true),
            (0, true),
            (0x004_0000, true),
            (0x040_0000, false),
            (8, false),
        ] {
            let answer = say(host, libc::SYS_personality, &[persona]);
            assert_eq!(answer == ALLOW, allowed, "{persona:#x}");
        }
    }
}
