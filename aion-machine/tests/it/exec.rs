//! Executions: what works, what must not, and what must not remain.
//!
//! Every refusal has its control: the same action outside the sandbox succeeds, so that a test cannot
//! pass because the action never works here.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aion_machine::{
    Error, ExecLimits, ExecRequest, FileConfinement, LocalMachine, LocalOptions, MAX_OUTPUT_BYTES, Machine,
    NetworkConfinement, ProcessConfinement, RelPath, Supervisor, Tier,
};

use crate::support::{Place, both, options, path, without_namespaces};

/// The tier that this test run must reach; `AION_EXPECT_TIER=2` on hosts without user namespaces.
pub(crate) fn expected_tier() -> Tier {
    match std::env::var("AION_EXPECT_TIER").as_deref() {
        Ok("2") => Tier::Landlock,
        _ => Tier::Namespaces,
    }
}

/// Runs a line without any sandbox.
pub(crate) fn control(place: &Place, line: &str) -> bool {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", line])
        .current_dir(place.inside())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().unwrap().success()
}

/// Processes with a word in their arguments.
pub(crate) fn processes_with(word: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    })
    .collect()
}

/// Waits a moment for the system to bury its dead.
pub(crate) async fn none_left_with(word: &str) -> bool {
    for _ in 0..100 {
        if processes_with(word).is_empty() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// A number of seconds that no other process sleeps, to know ours by.
fn unique_sleep() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "61.{:06}{:03}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

#[tokio::test]
async fn the_expected_tier_is_reached() {
    let place = Place::new().await;
    let report = place.sh("true").await.unwrap().enforcement;
    assert_eq!(report.tier(), expected_tier(), "{report:#?}");
    let machine = LocalMachine::open_root(place.inside(), options()).unwrap();
    assert_eq!(machine.probe().await.unwrap(), report);
    if expected_tier() == Tier::Namespaces {
        assert_eq!(report.files, FileConfinement::MountNamespaceAndLandlock);
        assert_eq!(report.processes, ProcessConfinement::PidNamespace);
    }
    let place = Place::with(without_namespaces()).await;
    let report = place.sh("true").await.unwrap().enforcement;
    assert_eq!(report.tier(), Tier::Landlock, "{report:#?}");
    assert_eq!(report.network, NetworkConfinement::Filter);
    assert!(!report.gaps.is_empty());
}

#[tokio::test]
async fn a_program_reads_writes_and_ends() {
    for options in both() {
        let place = Place::with(options).await;
        place.put("sub/in.txt", "b\na\n").await;
        let request = ExecRequest::new(["sort", "in.txt", "-o", "out.txt"]).with_cwd(path("sub"));
        let out = place.work.exec(request).await.unwrap();
        assert!(out.success(), "{}", out.stderr.text());
        assert_eq!(
            std::fs::read_to_string(place.inside().join("sub/out.txt")).unwrap(),
            "a\nb\n"
        );
        let out = place
            .work
            .exec(ExecRequest::new(["cat"]).with_stdin("given"))
            .await
            .unwrap();
        assert_eq!(out.stdout.text(), "given");
        let out = place.sh("echo out; echo err >&2; exit 7").await.unwrap();
        assert_eq!(
            (
                out.exit_code,
                out.stdout.text().as_str(),
                out.stderr.text().as_str()
            ),
            (Some(7), "out\n", "err\n")
        );
        let out = place.sh("kill -9 $$").await.unwrap();
        assert_eq!(
            (out.exit_code, out.signal, out.timed_out()),
            (None, Some(9), false)
        );
        let env = ExecRequest::shell("echo $GREETING $TZ").with_env("GREETING", "hello");
        assert_eq!(place.work.exec(env).await.unwrap().stdout.text(), "hello UTC\n");
        assert!(
            place
                .sh("echo x > $TMPDIR/x && echo x > /dev/null")
                .await
                .unwrap()
                .success()
        );
    }
}

#[tokio::test]
async fn nothing_outside_can_be_written_or_read() {
    for options in both() {
        let place = Place::with(options).await;
        let outside = place.outside().join("secret");
        std::fs::write(&outside, "hidden").unwrap();
        let outside = outside.to_str().unwrap();
        let actions = [
            format!("cat {outside}"),
            format!("echo x >> {outside}"),
            format!("echo x > {}/new", place.outside().display()),
            format!("chmod 777 {outside}"),
            format!("ln -sf {outside} link && echo x >> link"),
            "echo x > ../new2 && rm ../new2".to_owned(),
        ];
        let mut actions = actions.to_vec();
        if rustix::process::getuid().is_root() {
            actions.push("cat /etc/shadow".to_owned());
            actions.push("cat /proc/sys/kernel/printk > p && cat p > /proc/sys/kernel/printk".to_owned());
            actions.push("mknod dev c 1 3".to_owned());
        }
        for action in &actions {
            assert!(control(&place, action), "control: {action}");
            let _ = std::fs::remove_file(place.inside().join("dev"));
            let out = place.sh(action).await.unwrap();
            assert!(!out.success(), "{action}: {}", out.stdout.text());
        }
        assert_eq!(
            std::fs::read_to_string(outside).unwrap(),
            "hiddenx\nx\n",
            "only the controls wrote"
        );
    }
}

/// A file that runs as its owner for everybody would be a door for others on the host.
#[tokio::test]
async fn no_file_gets_set_id_bits() {
    for options in both() {
        let place = Place::with(options).await;
        place.put("f", "x").await;
        for action in [
            "chmod 4755 f",
            "chmod g+s f",
            "mkdir -m 2755 d",
            "install -m 4755 f g",
        ] {
            assert!(control(&place, action), "control: {action}");
            let _ = std::fs::remove_dir(place.inside().join("d"));
            assert!(control(&place, "chmod 755 f; rm -rf d g"));
            let out = place.sh(action).await.unwrap();
            assert!(!out.success(), "{action}");
            assert!(
                control(&place, "test -z \"$(find . -perm /6000)\""),
                "{action} left a bit"
            );
        }
    }
}

#[tokio::test]
async fn the_network_is_out_of_reach() {
    if !std::path::Path::new("/bin/bash").exists() {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for options in both() {
        let place = Place::with(options).await;
        let argv = [
            "/bin/bash".to_owned(),
            "-c".to_owned(),
            format!("exec 3<>/dev/tcp/127.0.0.1/{port}"),
        ];
        assert!(
            Command::new(&argv[0])
                .args(&argv[1..])
                .status()
                .unwrap()
                .success(),
            "control"
        );
        let out = place.work.exec(ExecRequest::new(argv)).await.unwrap();
        assert!(!out.success(), "it reached the host's port");
    }
}

/// The canary is a variable that cargo sets for this test process.
#[tokio::test]
async fn the_environment_of_the_service_is_nowhere_to_be_seen() {
    let canary = "CARGO_MANIFEST_DIR";
    let ours = std::fs::read("/proc/self/environ").unwrap();
    assert!(String::from_utf8_lossy(&ours).contains(canary), "control");
    for options in both() {
        let place = Place::with(options).await;
        let ourselves = std::process::id();
        let line = format!(
            "tr '\\0' '\\n' < /proc/self/environ; for p in /proc/[0-9]*/environ; do tr '\\0' '\\n' < $p; done; \
             cat /proc/{ourselves}/environ; true"
        );
        let out = place.sh(&line).await.unwrap();
        let text = out.stdout.text();
        assert!(text.contains("HOME=") && !text.contains(canary), "{text}");
        let names: Vec<_> = text
            .lines()
            .filter_map(|l| l.split_once('='))
            .map(|(name, _)| name)
            .collect();
        let known = [
            "PATH", "HOME", "LANG", "TZ", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_",
        ];
        assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
    }
}

/// Descriptors of the service end at the supervisor: the program has its three and what `ls` opens.
#[tokio::test]
async fn no_descriptor_leaks_in() {
    for options in both() {
        let place = Place::with(options).await;
        let out = place
            .work
            .exec(ExecRequest::new(["ls", "/proc/self/fd"]))
            .await
            .unwrap();
        assert_eq!(out.stdout.text(), "0\n1\n2\n3\n");
    }
}

#[tokio::test]
async fn a_flood_is_drained_and_its_ends_are_kept() {
    for options in both() {
        let place = Place::with(options).await;
        let limits = ExecLimits::default().with_wall_ms(700).with_output_bytes(10, 6);
        let started = Instant::now();
        let out = place
            .work
            .exec(ExecRequest::new(["yes"]).with_limits(limits))
            .await
            .unwrap();
        assert!(out.timed_out() && !out.success());
        assert!(started.elapsed() < Duration::from_secs(6));
        assert_eq!(
            (out.stdout.head.as_slice(), out.stdout.tail.len()),
            (&b"y\ny\ny\ny\ny\n"[..], 6)
        );
        assert!(
            out.stdout.total_bytes > 200_000,
            "it was blocked at {}",
            out.stdout.total_bytes
        );
        assert!(out.stdout.text().contains("bytes omitted"));
    }
}

/// Its own session, its parent gone: out of reach of a process group, but not of ours.
#[tokio::test]
async fn a_grandchild_that_hid_away_dies_with_the_rest() {
    for options in both() {
        let place = Place::with(options).await;
        let sleep = unique_sleep();
        let line = format!(
            "rm -f up; (setsid sh -c 'trap \"\" TERM HUP; sleep {sleep} & touch up; sleep {sleep}' &) ; \
             until [ -e up ]; do sleep 0.05; done"
        );

        let mut shell = Command::new("/bin/sh");
        let mut shell = std::os::unix::process::CommandExt::process_group(&mut shell, 0)
            .args(["-c", &line])
            .spawn()
            .unwrap();
        shell.wait().unwrap();
        let group = rustix::process::Pid::from_child(&shell);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let survivors = processes_with(&sleep);
        assert!(!survivors.is_empty(), "control: killing the group is not enough");
        for pid in survivors {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        assert!(none_left_with(&sleep).await);

        let out = place.sh(&line).await.unwrap();
        assert!(out.success(), "{}", out.stderr.text());
        assert_eq!(processes_with(&sleep), [0; 0], "left after a normal end");
        let limits = ExecLimits::default().with_wall_ms(400);
        let line = format!("{line}; sleep {sleep}");
        let out = place
            .work
            .exec(ExecRequest::shell(line).with_limits(limits))
            .await
            .unwrap();
        assert!(out.timed_out());
        assert_eq!(processes_with(&sleep), [0; 0], "left after a timeout");
    }
}

#[tokio::test]
async fn a_dropped_future_kills_everything() {
    for options in both() {
        let place = Place::with(options).await;
        let sleep = unique_sleep();
        let line = format!("(setsid sleep {sleep} &) ; sleep {sleep}");
        let ran = tokio::time::timeout(Duration::from_millis(500), place.sh(&line)).await;
        assert!(ran.is_err(), "it should have been cut off: {ran:?}");
        assert!(none_left_with(&sleep).await, "left after a cancel");
    }
}

/// The service of the next test: it is started, executes something long, and is killed.
#[tokio::test]
#[ignore = "it is the child of another test"]
async fn a_service_that_will_be_killed() {
    let sleep = std::env::var("AION_TEST_SLEEP").unwrap();
    let options = match std::env::var("AION_TEST_NAMESPACES").as_deref() {
        Ok("never") => without_namespaces(),
        _ => options(),
    };
    let place = Place::with(options).await;
    let _ = place
        .sh(&format!("(setsid sleep {sleep} &) ; sleep {sleep}"))
        .await;
}

#[tokio::test]
async fn a_killed_service_leaves_nothing_behind() {
    for namespaces in ["possible", "never"] {
        let sleep = unique_sleep();
        let mut service = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "exec::a_service_that_will_be_killed", "--ignored"])
            .envs([
                ("AION_TEST_SLEEP", sleep.as_str()),
                ("AION_TEST_NAMESPACES", namespaces),
            ])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..250 {
            if processes_with(&sleep).len() >= 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(processes_with(&sleep).len() >= 2, "control: it runs");
        service.kill().unwrap();
        service.wait().unwrap();
        assert!(
            none_left_with(&sleep).await,
            "left after the service was killed ({namespaces})"
        );
    }
}

/// If even the supervisor is killed, the namespace goes with it.
#[tokio::test]
async fn a_killed_supervisor_takes_its_namespace_along() {
    if expected_tier() < Tier::Namespaces {
        return;
    }
    let place = Place::new().await;
    let sleep = unique_sleep();
    let line = format!("(setsid sleep {sleep} &) ; sleep {sleep}");
    let killer = async {
        let ours = loop {
            let sleeping = processes_with(&sleep);
            if sleeping.len() >= 2 {
                break sleeping[0];
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut at = ours;
        let ourselves = std::process::id() as i32;
        while parent_of(at) != ourselves {
            at = parent_of(at);
        }
        let supervisor = rustix::process::Pid::from_raw(at).unwrap();
        rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    };
    let (ran, ()) = tokio::join!(place.sh(&line), killer);
    assert_eq!(ran.unwrap_err().code(), "supervisor_failed");
    assert!(none_left_with(&sleep).await);
}

fn parent_of(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Thread libraries survive that `clone3` is answered with ENOSYS.
#[tokio::test]
async fn threads_and_pipes_work() {
    for options in both() {
        let place = Place::with(options).await;
        let out = place
            .sh("seq 1000 | sort -n --parallel=4 | tail -1 | wc -l")
            .await
            .unwrap();
        assert_eq!(out.stdout.text().trim(), "1", "{}", out.stderr.text());
        if std::path::Path::new("/usr/bin/python3").exists() {
            let threads = "import threading as t, subprocess\n\
                           w = [t.Thread(target=subprocess.run, args=(['true'],)) for _ in range(4)]\n\
                           [x.start() for x in w]; [x.join() for x in w]; print('done')";
            let out = place
                .work
                .exec(ExecRequest::new(["/usr/bin/python3", "-c", threads]))
                .await
                .unwrap();
            assert_eq!(out.stdout.text(), "done\n", "{}", out.stderr.text());
        }
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_typed_errors() {
    let place = Place::new().await;
    std::os::unix::fs::symlink("..", place.inside().join("up")).unwrap();
    let code = async |request| place.work.exec(request).await.unwrap_err().code();
    assert_eq!(code(ExecRequest::new::<&str>([])).await, "invalid_request");
    assert_eq!(code(ExecRequest::new([""])).await, "invalid_request");
    assert_eq!(code(ExecRequest::new(["echo", "a\0b"])).await, "invalid_request");
    assert_eq!(
        code(ExecRequest::new(["no-such-program"])).await,
        "program_not_found"
    );
    assert_eq!(code(ExecRequest::new(["/workspace"])).await, "program_not_found");
    assert_eq!(
        code(ExecRequest::new(["true"]).with_cwd(path("none"))).await,
        "not_found"
    );
    assert_eq!(
        code(ExecRequest::new(["true"]).with_cwd(path("up"))).await,
        "not_found"
    );
    assert_eq!(
        code(ExecRequest::new(["true"]).with_env("LD_PRELOAD", "x")).await,
        "env_denied"
    );
    assert_eq!(
        code(ExecRequest::new(["true"]).with_env("OPENAI_API_KEY", "x")).await,
        "env_denied"
    );
    let endless = ExecLimits::default().with_wall_ms(u64::MAX);
    assert_eq!(
        code(ExecRequest::new(["true"]).with_limits(endless)).await,
        "invalid_request"
    );
}

/// Below the required tier nothing is started at all.
#[tokio::test]
async fn too_little_confinement_is_a_refusal() {
    let options = without_namespaces().with_required(Tier::Namespaces);
    let place = Place::with(options).await;
    let error = place.sh("touch started").await.unwrap_err();
    assert!(
        matches!(&error, Error::ConfinementUnavailable { gaps } if !gaps.is_empty()),
        "{error:?}"
    );
    assert!(!place.inside().join("started").exists());
}

#[tokio::test]
async fn without_a_supervisor_nothing_is_executed() {
    let place = Place::with(LocalOptions::default()).await;
    assert_eq!(place.sh("true").await.unwrap_err().code(), "no_supervisor");
    let missing = options().with_supervisor(Supervisor::Program("/no/such/supervisor".into()));
    let place = Place::with(missing).await;
    assert_eq!(place.sh("true").await.unwrap_err().code(), "supervisor_failed");
    let wrong = options().with_supervisor(Supervisor::Program("/bin/true".into()));
    assert_eq!(
        Place::with(wrong).await.sh("true").await.unwrap_err().code(),
        "supervisor_failed"
    );
}

#[tokio::test]
async fn one_too_many_is_told_to_come_back() {
    let place = Place::with(options().with_max_executions(1)).await;
    let (first, second) = tokio::join!(place.sh("sleep 0.5"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        place.sh("true").await
    });
    assert!(first.unwrap().success());
    assert_eq!(second.unwrap_err().code(), "busy");
    assert!(place.sh("true").await.unwrap().success());
}

/// A task's own directory is all there is: the neighbour's is not even there.
#[tokio::test]
async fn workspaces_do_not_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalMachine::open_root(dir.path(), options()).unwrap();
    let open = async |name| {
        machine
            .open(&aion_machine::WorkspaceSpec::new(path(name)))
            .await
            .unwrap()
    };
    let (one, two) = (open("tasks/1").await, open("tasks/2").await);
    one.write(&path("t"), aion_machine::WriteRequest::new("one"))
        .await
        .unwrap();
    let host = dir.path().join("tasks/1/t");
    assert!(host.exists());
    let look = ExecRequest::shell(format!("cat ../1/t {}", host.display()));
    assert!(!two.exec(look).await.unwrap().success());
    assert!(RelPath::parse("../1/t").is_err());
}

/// A host that lets everybody make a user namespace, and then no use of it: an unreadable supervisor
/// may not map users. Root may, so this shows something for other users only.
#[tokio::test]
async fn namespaces_of_no_use_are_done_without() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::getuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Supervisor::Program(program) = options().supervisor else {
        panic!("the tests name a program")
    };
    let unreadable = dir.path().join("supervisor");
    std::fs::copy(program, &unreadable).unwrap();
    std::fs::set_permissions(&unreadable, std::fs::Permissions::from_mode(0o111)).unwrap();
    let place = Place::with(options().with_supervisor(Supervisor::Program(unreadable))).await;
    for _ in 0..2 {
        let out = place.sh("true").await.unwrap();
        assert_eq!(out.enforcement.tier(), Tier::Landlock);
        assert!(
            out.enforcement.gaps.iter().any(|gap| gap.contains("mapped")),
            "{:?}",
            out.enforcement.gaps
        );
    }
}

/// A supervisor that neither reports nor ends when its line is closed does not stay.
#[tokio::test]
async fn a_supervisor_that_hangs_is_killed() {
    let tools = tempfile::tempdir().unwrap();
    let (script, pid) = (tools.path().join("hangs"), tools.path().join("pid"));
    // Another process writes it, so that nobody here holds it open for writing when it is executed.
    let text = format!("#!/bin/sh\necho $$ > {}\nexec sleep 600\n", pid.display());
    let made = Command::new("/bin/sh")
        .args(["-c", r#"printf %s "$1" > "$2"; chmod +x "$2""#, "sh", &text])
        .arg(&script)
        .status();
    assert!(made.unwrap().success());
    let hanging = options()
        .with_supervisor(Supervisor::Program(script))
        .with_supervisor_grace(Duration::from_secs(3));
    let place = Place::with(hanging).await;
    let limits = ExecLimits::default().with_wall_ms(1);
    let request = ExecRequest::new(["true"]).with_limits(limits);
    let error = place.work.exec(request).await.unwrap_err();
    assert!(error.to_string().contains("did not end in time"), "{error}");
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(
        !std::path::Path::new("/proc").join(pid.trim()).exists(),
        "it hangs on"
    );
}

#[tokio::test]
async fn what_is_kept_of_an_output_is_bounded() {
    let place = Place::new().await;
    for (head, tail) in [(MAX_OUTPUT_BYTES + 1, 0), (0, usize::MAX)] {
        let limits = ExecLimits::default().with_output_bytes(head, tail);
        let request = ExecRequest::new(["true"]).with_limits(limits);
        assert_eq!(
            place.work.exec(request).await.unwrap_err().code(),
            "invalid_request"
        );
    }
    let limits = ExecLimits::default().with_output_bytes(MAX_OUTPUT_BYTES, MAX_OUTPUT_BYTES);
    let request = ExecRequest::new(["true"]).with_limits(limits);
    assert!(place.work.exec(request).await.unwrap().success());
}
