//! The attack program: about seventy things that a hostile program tries, each with its control.
//!
//! The code of an attack is in this very test binary: it is started again with `AION_ATTACK` set, once
//! unconfined, where the attack must succeed, and once in a sandbox, where it must not. A tier that is
//! promised and not reached fails the test; nothing is skipped. What only root can do unconfined has its
//! control in the run as root. After each attack no process, no mount and no file may be left.

mod acts;
mod attributes;
mod greed;
mod handed;
mod hoards;
mod leavings;

use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use aion_machine::{ExecLimits, ExecOutput, ExecRequest, LocalOptions, Tier};

use self::acts::{Act, Knowledge, LEAKED_FD, SECRET};
use crate::exec::{expected_tier, none_left_with, processes_with};
use crate::support::{Place, options, without_namespaces};

/// Who can do it without a sandbox.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Control {
    Anyone,
    Root,
}
use Control::{Anyone, Root};

/// Where it must fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Everywhere,
    /// Only with namespaces: without, it is a known gap.
    Strongest,
    /// Only without: with namespaces it touches nothing of the host.
    Weaker,
}
use Where::{Everywhere, Strongest, Weaker};

const ATTACKS: &[(&str, Act, Control, Where)] = &[
    ("read_outside", acts::read_outside, Anyone, Everywhere),
    ("write_outside", acts::write_outside, Anyone, Everywhere),
    ("create_outside", acts::create_outside, Anyone, Everywhere),
    ("traverse", acts::traverse, Anyone, Everywhere),
    (
        "follow_absolute_link",
        acts::follow_absolute_link,
        Anyone,
        Everywhere,
    ),
    (
        "follow_relative_link",
        acts::follow_relative_link,
        Anyone,
        Everywhere,
    ),
    ("follow_magic_link", acts::follow_magic_link, Anyone, Everywhere),
    (
        "follow_root_of_service",
        acts::follow_root_of_service,
        Anyone,
        Everywhere,
    ),
    ("hard_link_in", acts::hard_link_in, Anyone, Everywhere),
    ("move_out", acts::move_out, Anyone, Everywhere),
    ("move_in", acts::move_in, Anyone, Everywhere),
    ("truncate_outside", acts::truncate_outside, Anyone, Everywhere),
    ("remove_outside", acts::remove_outside, Anyone, Everywhere),
    ("chmod_outside", acts::chmod_outside, Anyone, Everywhere),
    ("touch_outside", acts::touch_outside, Anyone, Everywhere),
    (
        "touch_outside_by_name",
        attributes::touch_outside_by_name,
        Anyone,
        Everywhere,
    ),
    (
        "attribute_outside",
        attributes::attribute_outside,
        Anyone,
        Everywhere,
    ),
    (
        "remove_attribute_outside",
        attributes::remove_attribute_outside,
        Anyone,
        Everywhere,
    ),
    ("list_outside", acts::list_outside, Anyone, Everywhere),
    ("stat_outside", acts::stat_outside, Anyone, Strongest),
    (
        "run_outside_by_the_loader",
        acts::run_outside_by_the_loader,
        Anyone,
        Everywhere,
    ),
    ("pipe_outside", acts::pipe_outside, Anyone, Everywhere),
    ("make_device", acts::make_device, Root, Everywhere),
    ("open_device", acts::open_device, Root, Everywhere),
    ("open_kernel_log", acts::open_kernel_log, Root, Everywhere),
    ("read_shadow", acts::read_shadow, Root, Everywhere),
    ("write_sysctl", acts::write_sysctl, Root, Everywhere),
    ("set_id_by_open", acts::set_id_by_open, Anyone, Everywhere),
    ("set_id_by_creat", acts::set_id_by_creat, Anyone, Everywhere),
    ("set_id_by_chmod", acts::set_id_by_chmod, Anyone, Everywhere),
    ("set_id_by_fchmod", acts::set_id_by_fchmod, Anyone, Everywhere),
    (
        "set_id_by_fchmodat2",
        acts::set_id_by_fchmodat2,
        Anyone,
        Everywhere,
    ),
    ("set_id_by_openat2", acts::set_id_by_openat2, Anyone, Everywhere),
    ("set_id_by_mkdir", acts::set_id_by_mkdir, Anyone, Everywhere),
    ("trace_service", acts::trace_service, Anyone, Everywhere),
    (
        "read_memory_of_service",
        acts::read_memory_of_service,
        Anyone,
        Everywhere,
    ),
    (
        "open_memory_of_service",
        acts::open_memory_of_service,
        Anyone,
        Everywhere,
    ),
    (
        "read_environment_of_service",
        acts::read_environment_of_service,
        Anyone,
        Everywhere,
    ),
    ("signal_service", acts::signal_service, Anyone, Everywhere),
    (
        "take_descriptor_of_service",
        acts::take_descriptor_of_service,
        Anyone,
        Everywhere,
    ),
    ("limit_service", acts::limit_service, Anyone, Everywhere),
    ("slow_service", acts::slow_service, Anyone, Everywhere),
    (
        "use_leaked_descriptor",
        acts::use_leaked_descriptor,
        Anyone,
        Everywhere,
    ),
    ("gain_by_exec", acts::gain_by_exec, Anyone, Everywhere),
    ("gain_capability", acts::gain_capability, Anyone, Strongest),
    ("connect_port", acts::connect_port, Anyone, Everywhere),
    ("connect_path", acts::connect_path, Anyone, Everywhere),
    ("connect_name", acts::connect_name, Anyone, Everywhere),
    ("send_from_a_pair", acts::send_from_a_pair, Anyone, Everywhere),
    ("vsock", acts::vsock, Anyone, Everywhere),
    ("kernel_events", acts::kernel_events, Anyone, Everywhere),
    ("raw_socket", acts::raw_socket, Root, Everywhere),
    ("packet_socket", acts::packet_socket, Root, Everywhere),
    ("new_user_namespace", acts::new_user_namespace, Anyone, Everywhere),
    (
        "clone_into_namespace",
        acts::clone_into_namespace,
        Anyone,
        Everywhere,
    ),
    (
        "clone_with_hidden_flags",
        acts::clone_with_hidden_flags,
        Anyone,
        Everywhere,
    ),
    (
        "join_namespace_of_service",
        acts::join_namespace_of_service,
        Root,
        Everywhere,
    ),
    ("mount_something", acts::mount_something, Root, Everywhere),
    ("change_root", acts::change_root, Root, Everywhere),
    ("set_clock", acts::set_clock, Root, Everywhere),
    ("set_host_name", acts::set_host_name, Root, Everywhere),
    ("keyring", acts::keyring, Anyone, Everywhere),
    ("bpf", acts::bpf, Root, Everywhere),
    ("perf_event", acts::perf_event, Anyone, Everywhere),
    ("user_fault", acts::user_fault, Anyone, Everywhere),
    ("io_uring", acts::io_uring, Anyone, Everywhere),
    ("kernel_messages", acts::kernel_messages, Root, Everywhere),
    ("read_implies_exec", acts::read_implies_exec, Anyone, Everywhere),
    (
        "shared_memory_of_host",
        acts::shared_memory_of_host,
        Anyone,
        Weaker,
    ),
    ("press_a_key", acts::press_a_key, Anyone, Everywhere),
    ("reserve_space", acts::reserve_space, Anyone, Everywhere),
];

/// Attacks that take what there is; whether they fail shows from outside.
const GREED: &[(&str, Act)] = &[
    ("fork_bomb", acts::fork_bomb),
    ("memory_bomb", acts::memory_bomb),
    ("memory_files", acts::memory_files),
    ("fill_workspace", acts::fill_workspace),
    ("fill_tmp", acts::fill_tmp),
    ("hold_output_open", acts::hold_output_open),
];

/// How an attack went.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Refused(String),
}

/// The other side: this binary, started again.
#[test]
#[ignore = "it is the attacker that other tests start"]
fn attacker() {
    let Ok(name) = std::env::var("AION_ATTACK") else {
        return;
    };
    let get = |what: &str| std::env::var(format!("AION_ATTACK_{what}")).unwrap();
    let know = Knowledge {
        outside: get("OUTSIDE").into(),
        service: get("SERVICE").parse().unwrap(),
        port: get("PORT").parse().unwrap(),
        name: get("NAME"),
        address: get("ADDRESS").parse().unwrap(),
    };
    let named = ATTACKS.iter().map(|(name, act, ..)| (*name, *act));
    let (_, act) = named
        .chain(GREED.iter().copied())
        .chain(leavings::ACTS.iter().copied())
        .chain(handed::ACTS.iter().copied())
        .chain(hoards::ACTS.iter().copied())
        .find(|(known, _)| *known == name)
        .unwrap();
    let said = match act(&know) {
        Ok(()) => "\nOUTCOME succeeded\n".to_owned(),
        Err(e) => format!("\nOUTCOME refused: {e}\n"),
    };
    rustix::io::write(std::io::stdout(), said.as_bytes()).unwrap();
    std::process::exit(0);
}

fn outcome(text: &str) -> Outcome {
    match text.lines().find_map(|line| line.strip_prefix("OUTCOME ")) {
        Some("succeeded") => Outcome::Succeeded,
        Some(refused) => Outcome::Refused(refused.to_owned()),
        None => panic!("the attacker said nothing: {text}"),
    }
}

/// A place, and everything around it that an attack is after.
struct Target {
    place: Place,
    know: Knowledge,
    mark: String,
    mounts: Vec<String>,
    _listeners: (std::net::TcpListener, UnixListener, UnixListener, UnixDatagram),
}

impl Target {
    async fn new(options: LocalOptions) -> Self {
        leak_a_descriptor();
        let place = Place::with(options.with_read_only(ourselves())).await;
        let outside = place.outside().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), SECRET).unwrap();
        std::fs::copy("/bin/true", outside.join("program")).unwrap();
        let mark = unique_mark();
        let listeners = (
            std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
            UnixListener::bind(outside.join("stream")).unwrap(),
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(&mark).unwrap()).unwrap(),
            UnixDatagram::bind(outside.join("datagram")).unwrap(),
        );
        let know = Knowledge {
            service: std::process::id() as i32,
            port: listeners.0.local_addr().unwrap().port(),
            name: mark.clone(),
            address: acts::CANARY.as_ptr() as usize,
            outside,
        };
        let mounts = mounts();
        Self {
            place,
            know,
            mark,
            mounts,
            _listeners: listeners,
        }
    }

    fn argv(&self) -> Vec<String> {
        let program = ourselves().to_str().unwrap().to_owned();
        let mark = self.mark.as_str();
        let rest = [
            "--exact",
            "attack::attacker",
            "--ignored",
            "--nocapture",
            "--skip",
            mark,
        ];
        std::iter::once(program).chain(rest.map(str::to_owned)).collect()
    }

    fn env(&self, name: &str) -> Vec<(String, String)> {
        let know = &self.know;
        let vars = [
            ("AION_ATTACK", name.to_owned()),
            ("AION_ATTACK_OUTSIDE", know.outside.to_str().unwrap().to_owned()),
            ("AION_ATTACK_SERVICE", know.service.to_string()),
            ("AION_ATTACK_PORT", know.port.to_string()),
            ("AION_ATTACK_NAME", know.name.clone()),
            ("AION_ATTACK_ADDRESS", know.address.to_string()),
        ];
        vars.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }

    fn alone(&self, name: &str) -> Command {
        let argv = self.argv();
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).envs(self.env(name));
        command.current_dir(self.place.inside()).stdin(Stdio::null());
        command
    }

    fn unconfined(&self, name: &str) -> Outcome {
        let output = self.alone(name).output().unwrap();
        outcome(&String::from_utf8_lossy(&output.stdout))
    }

    /// Whether a process of the unconfined attack is left after it has ended; it is killed here.
    fn outlives(&self, name: &str) -> bool {
        let mut child = self.alone(name).stdout(Stdio::null()).spawn().unwrap();
        child.wait().unwrap();
        let left = processes_with(&self.mark);
        for pid in &left {
            let pid = rustix::process::Pid::from_raw(*pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        !left.is_empty()
    }

    async fn confined(&self, name: &str, limits: ExecLimits) -> ExecOutput {
        let mut request = ExecRequest::new(self.argv()).with_limits(limits);
        for (name, value) in self.env(name) {
            request = request.with_env(name, value);
        }
        self.place.work.exec(request).await.unwrap()
    }

    /// No process, no mount, no file but what was there, and the secret is what it was.
    async fn check(&self, what: &str) {
        assert!(none_left_with(&self.mark).await, "{what}: a process is left");
        assert_eq!(mounts(), self.mounts, "{what}: a mount is left");
        let entries = std::fs::read_dir(&self.know.outside).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["datagram", "program", "secret", "stream"], "{what}");
        let secret = std::fs::read_to_string(self.know.outside.join("secret")).unwrap();
        assert_eq!(secret, SECRET, "{what}");
        let set_id = walk(&self.place.inside()).into_iter().find(|path| {
            let mode = std::fs::symlink_metadata(path).unwrap().permissions().mode();
            mode & 0o6000 != 0
        });
        assert_eq!(set_id, None, "{what}: it would run as its owner");
        // Other tests run beside this one, and a supervisor of theirs may have ended just now.
        let mut scratch = scratch_of_the_dead();
        for _ in 0..50 {
            if scratch.is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            scratch = scratch_of_the_dead();
        }
        assert!(scratch.is_empty(), "{what}: {scratch:?} is left");
    }
}

/// Directories for temporary files whose supervisor is not there any more.
fn scratch_of_the_dead() -> Vec<String> {
    let names = std::fs::read_dir("/tmp").unwrap().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| {
            let pid = name
                .strip_prefix("aion-exec-")
                .and_then(|rest| rest.split('-').next());
            pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
        })
        .collect()
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| {
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path())
            } else {
                vec![entry.path()]
            }
        })
        .collect()
}

/// All mounts but the small disks that other tests mount for themselves.
fn mounts() -> Vec<String> {
    let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lasting = all.lines().filter(|line| !line.contains(" - tmpfs aion-test "));
    lasting.map(str::to_owned).collect()
}

fn ourselves() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn unique_mark() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("attack-{}-{number}", std::process::id())
}

/// Children of this process inherit a descriptor; the supervisor must close it.
fn leak_a_descriptor() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let file = std::fs::File::open("/dev/null").unwrap();
        let copy = rustix::io::fcntl_dupfd_cloexec(&file, LEAKED_FD).unwrap();
        assert_eq!(copy.as_raw_fd(), LEAKED_FD, "it was free");
        rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
        let _stays_open = copy.into_raw_fd();
    });
}

/// Each attack at one tier.
async fn all(options: fn() -> LocalOptions, tier: Tier) {
    let target = Target::new(options()).await;
    let reached = target.place.sh("true").await.unwrap().enforcement;
    assert_eq!(reached.tier(), tier, "{reached:#?}");
    let root = rustix::process::getuid().is_root();
    let mut failures = Vec::new();
    for &(name, _, control, place) in ATTACKS {
        let alone = target.unconfined(name);
        if (control == Anyone || root) && alone != Outcome::Succeeded {
            failures.push(format!("{name}: control: {alone:?}"));
        }
        let limits = ExecLimits::default().with_wall_ms(20_000);
        let held = outcome(&target.confined(name, limits).await.stdout.text());
        let applies = match place {
            Everywhere => true,
            Strongest => tier == Tier::Namespaces,
            Weaker => tier != Tier::Namespaces,
        };
        if applies && held == Outcome::Succeeded {
            failures.push(format!("{name}: it SUCCEEDED in the sandbox"));
        }
        // There is no terminal inside, so it is the filter that must answer, and not the missing terminal.
        let by_filter = Outcome::Refused("refused: Operation not permitted (os error 1)".into());
        if name == "press_a_key" && held != by_filter {
            failures.push(format!("{name}: {held:?}"));
        }
        target.check(name).await;
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[tokio::test]
async fn every_attack_fails_at_the_strongest_tier() {
    all(options, expected_tier()).await;
}

#[tokio::test]
async fn every_attack_fails_without_namespaces() {
    all(without_namespaces, Tier::Landlock).await;
}
