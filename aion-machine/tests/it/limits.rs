//! What a program may use, as whom it runs, and what it may not change.

use std::time::Duration;

use aion_machine::{
    Cgroups, Ending, ExecLimits, ExecRequest, LocalMachine, Machine, Namespaces, ResourceLimit, RunAs,
    Supervisor, Tier,
};

use crate::exec::{control, expected_tier};
use crate::support::{Place, both, options, path};

/// A program has a moment to end by itself; one that does not use it is killed.
#[tokio::test]
async fn a_program_is_asked_before_it_is_killed() {
    for options in both() {
        let place = Place::with(options).await;
        let limits = ExecLimits::default().with_wall_ms(300).with_grace_ms(5000);
        let polite = "trap 'echo bye; exit 3' TERM; while :; do sleep 0.02; done";
        let request = ExecRequest::shell(polite).with_limits(limits.clone());
        let out = place.work.exec(request).await.unwrap();
        assert_eq!(
            (out.exit_code, out.ending, out.stdout.text().as_str()),
            (Some(3), Ending::TimedOut, "bye\n"),
            "{out:?}"
        );
        let deaf = "trap '' TERM; while :; do sleep 0.02; done";
        for (grace_ms, least_ms) in [(400, 700), (0, 300)] {
            let limits = limits.clone().with_grace_ms(grace_ms);
            let out = place
                .work
                .exec(ExecRequest::shell(deaf).with_limits(limits))
                .await
                .unwrap();
            assert_eq!((out.signal, out.ending), (Some(9), Ending::TimedOut));
            assert!(
                (least_ms..least_ms + 300).contains(&out.duration_ms),
                "{}",
                out.duration_ms
            );
        }
    }
}

/// What the operator allows is not more for who asks for more, or for no limit at all.
#[tokio::test]
async fn no_request_has_more_than_the_operator_allows() {
    for options in both() {
        let most = ExecLimits::default()
            .with_total_memory_bytes(100 << 20)
            .with_memory_bytes(300 << 20)
            .with_tmp_bytes(1 << 20);
        let asked = ExecLimits::default()
            .with_total_memory_bytes(0)
            .with_memory_bytes(0)
            .with_grace_ms(0)
            .with_tmp_bytes(1 << 30);
        let hold = ExecRequest::shell("ulimit -v; dd if=/dev/zero of=/dev/null bs=200M count=60000");
        let hold = hold.with_limits(asked.clone().with_wall_ms(5000));
        let free = Place::with(options.clone()).await;
        let out = free.work.exec(hold.clone()).await.unwrap();
        assert_eq!(out.ending, Ending::TimedOut, "control");
        assert!(out.stdout.text().starts_with("unlimited"), "control");
        let place = Place::with(options.with_most(most)).await;
        let out = place.work.exec(hold).await.unwrap();
        let address_space = format!("{}\n", (300 << 20) / 1024);
        assert_eq!(
            (out.ending, out.stdout.text()),
            (Ending::MemoryLimit, address_space)
        );
    }
}

/// Not each process by itself: all together.
#[tokio::test]
async fn the_memory_of_all_together_is_limited() {
    for options in both() {
        let place = Place::with(options).await;
        let hold = "dd if=/dev/zero of=/dev/null bs=60M count=60000 2>/dev/null";
        let four = format!("{hold} & {hold} & {hold} & {hold} & wait");
        let run = async |mib: u64| {
            let limits = ExecLimits::default().with_wall_ms(3000).with_grace_ms(0);
            let limits = limits.with_total_memory_bytes(mib << 20);
            place
                .work
                .exec(ExecRequest::shell(&four).with_limits(limits))
                .await
                .unwrap()
        };
        let enough = run(600).await;
        assert_eq!(
            enough.ending,
            Ending::TimedOut,
            "control: one is below the limit, and so are four"
        );
        let out = run(150).await;
        assert_eq!((out.ending, out.signal), (Ending::MemoryLimit, Some(9)));
        assert!(out.duration_ms < 2000, "{}", out.duration_ms);
    }
}

/// Short-lived writers, none of which is seen, are counted when they are buried.
#[tokio::test]
async fn what_is_written_is_limited() {
    for options in both() {
        let place = Place::with(options).await;
        let fill = "i=0; while [ $i -lt 40 ]; do (head -c 2000000 /dev/zero > f$i &) ; i=$((i+1)); sleep 0.02; done; sleep 0.3";
        let run = async |mib: u64| {
            let limits = ExecLimits::default().with_written_bytes(mib << 20);
            place
                .work
                .exec(ExecRequest::shell(fill).with_limits(limits))
                .await
                .unwrap()
        };
        assert!(run(100).await.success(), "control");
        let out = run(20).await;
        assert_eq!(out.ending, Ending::DiskLimit, "{out:?}");
    }
}

/// Root's programs are nobody, own what lies in the workspace nevertheless, and nothing else.
#[tokio::test]
async fn a_service_that_is_root_runs_programs_as_somebody_else() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new().await;
    place.put("mine", "x").await;
    let out = place
        .sh("id -u; echo y >> mine && echo z > made && chmod 600 made")
        .await
        .unwrap();
    assert!(out.success(), "{}", out.stderr.text());
    let uid = |name: &str| std::fs::metadata(place.inside().join(name)).unwrap().uid();
    let ours = rustix::process::getuid().as_raw();
    assert_eq!(
        (uid("mine"), uid("made")),
        (ours, ours),
        "on the disk all is ours"
    );
    let shown = if ours == 0 { 65534 } else { ours };
    assert_eq!(out.enforcement.uid, shown);
    assert_eq!(out.stdout.text(), format!("{shown}\n"));
    assert_eq!(out.enforcement.process_count, ResourceLimit::Total);
    if ours != 0 {
        let other = options().with_run_as(RunAs::User { uid: 4711, gid: 4711 });
        let error = Place::with(other).await.sh("true").await.unwrap_err();
        assert!(error.to_string().contains("only root"), "{error}");
        return;
    }
    // A workspace that belongs to the program's user needs no mapping, at any tier.
    let user = RunAs::User { uid: 4711, gid: 4712 };
    for namespaces in [Namespaces::WherePossible, Namespaces::Never] {
        let options = options().with_run_as(user).with_namespaces(namespaces);
        let place = Place::with(options.clone()).await;
        std::fs::set_permissions(
            place.outside(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        std::os::unix::fs::chown(place.inside(), Some(4711), Some(4712)).unwrap();
        let out = place.sh("id -u; id -G; echo z > made").await.unwrap();
        assert!(out.success(), "{}", out.stderr.text());
        assert_eq!(out.stdout.text(), "4711\n4712\n");
        let made = std::fs::metadata(place.inside().join("made")).unwrap();
        assert_eq!((made.uid(), made.gid()), (4711, 4712));
        assert_eq!((out.enforcement.uid, out.enforcement.gid), (4711, 4712));
    }
    // One that cannot be mapped is refused, and it is said what to do.
    let options = options().with_namespaces(Namespaces::Never);
    let error = Place::with(options).await.sh("true").await.unwrap_err();
    assert_eq!(error.code(), "confinement_unavailable");
    assert!(
        error.to_string().contains("give the data root to uid 65534"),
        "{error}"
    );
}

/// What others execute later cannot be planted, nor the directory around it be moved away.
#[tokio::test]
async fn protected_files_stay_as_they_are() {
    if expected_tier() < Tier::Namespaces {
        return;
    }
    let protected = ["a/hooks", "a/config", "later"];
    let with = protected
        .iter()
        .fold(options(), |o, name| o.with_protected(path(name)));
    let place = Place::with(with).await;
    place.put("a/hooks/h", "x").await;
    place.put("a/config", "x").await;
    let tries = [
        "echo y > a/hooks/h",
        "echo y > a/hooks/new",
        "rm a/hooks/h",
        "mv a/hooks b",
        "mv a b",
        "echo y > a/config",
        "mv a/config c",
        "rm -r a",
    ];
    let free = Place::new().await;
    for line in tries {
        assert!(control(
            &free,
            "rm -rf a b c; mkdir -p a/hooks; echo x > a/hooks/h; echo x > a/config"
        ));
        assert!(free.sh(line).await.unwrap().success(), "control: {line}");
        assert!(!place.sh(line).await.unwrap().success(), "{line}");
    }
    assert!(
        place
            .sh("echo y > a/other && cat a/hooks/h && echo y > later")
            .await
            .unwrap()
            .success()
    );
    let seen = std::fs::read_to_string(place.inside().join("a/hooks/h")).unwrap();
    assert_eq!(seen, "x");
    let gaps = Place::with(options().with_protected(path("later")))
        .await
        .sh("true")
        .await
        .unwrap();
    assert!(
        gaps.enforcement
            .gaps
            .iter()
            .any(|gap| gap.contains("`later` is not there"))
    );
}

/// On this host's own cgroups, as far as it has any: the group is there while the program runs, and not after.
#[tokio::test]
async fn an_execution_has_a_group_of_its_own() {
    let base = std::path::Path::new("/sys/fs/cgroup/unified");
    let base = if base.exists() {
        base
    } else {
        std::path::Path::new("/sys/fs/cgroup")
    };
    if !rustix::process::getuid().is_root() || !base.join("cgroup.procs").exists() {
        let options = options().with_cgroups(Cgroups::At("/proc".into()));
        let error = Place::with(options).await.sh("true").await.unwrap_err();
        assert!(error.to_string().contains("no cgroup can be made"), "{error}");
        return;
    }
    let base = base.join(format!("aion-test-{}", std::process::id()));
    std::fs::create_dir(&base).unwrap();
    let groups = || {
        let entries = std::fs::read_dir(&base).unwrap().flatten();
        entries.filter(|e| e.file_type().unwrap().is_dir()).count()
    };
    for options in both() {
        let place = Place::with(options.with_cgroups(Cgroups::At(base.clone()))).await;
        let (ran, ()) = tokio::join!(place.sh("cat /proc/self/cgroup; sleep 0.4"), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(groups(), 1);
        });
        let out = ran.unwrap();
        assert!(out.success(), "{}", out.stderr.text());
        let held = out.enforcement.memory == ResourceLimit::Total;
        assert_eq!(
            held,
            !out.enforcement.gaps.iter().any(|gap| gap.contains("memory.max")),
            "{out:?}"
        );
        assert_eq!(groups(), 0);
    }
    std::fs::remove_dir(&base).unwrap();
}

#[tokio::test]
async fn limits_hold() {
    for options in both() {
        let place = Place::with(options).await;
        let limits = ExecLimits::default().with_file_bytes(4096);
        let big = ExecRequest::shell("head -c 100000 /dev/zero > big").with_limits(limits);
        let out = place.work.exec(big).await.unwrap();
        assert!(!out.success());
        assert_eq!(std::fs::metadata(place.inside().join("big")).unwrap().len(), 4096);
        let hungry = "dd if=/dev/zero of=/dev/null bs=200M count=1";
        assert!(place.sh(hungry).await.unwrap().success(), "control");
        let limits = ExecLimits::default().with_memory_bytes(64 << 20);
        let out = place
            .work
            .exec(ExecRequest::shell(hungry).with_limits(limits))
            .await
            .unwrap();
        assert!(!out.success());
        let limits = ExecLimits::default().with_cpu_s(1).with_wall_ms(20_000);
        let busy = ExecRequest::shell("while :; do :; done").with_limits(limits);
        let out = place.work.exec(busy).await.unwrap();
        assert!(out.signal.is_some() && !out.timed_out(), "{out:?}");
    }
}

/// What a supervisor says of its walls is not believed: they are attacked first.
#[tokio::test]
async fn walls_that_do_not_hold_are_found_out() {
    let honest = Place::new().await.sh("true").await.unwrap().enforcement;
    assert_eq!(honest.tier(), expected_tier());
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("boasts");
    let report = serde_json::to_string(&honest).unwrap();
    let text = format!(
        "#!/bin/sh\necho 'a file outside can be read'\n\
         printf '%s\\n' '{{\"confined\":{{\"enforcement\":{report}}}}}' >&0\n\
         printf '%s\\n' '{{\"ended\":{{\"code\":0,\"signal\":null,\"ending\":\"itself\"}}}}' >&0\n"
    );
    // Another process writes it, so that nobody here holds it open for writing when it is executed.
    let made = std::process::Command::new("/bin/sh")
        .args(["-c", r#"printf %s "$1" > "$2"; chmod +x "$2""#, "sh", &text])
        .arg(&script)
        .status();
    assert!(made.unwrap().success());
    let boasting = options().with_supervisor(Supervisor::Program(script));
    let place = Place::with(boasting.clone()).await;
    for _ in 0..2 {
        let error = place.sh("true").await.unwrap_err();
        assert_eq!(error.code(), "confinement_unavailable");
        assert!(
            error.to_string().contains("a file outside can be read"),
            "{error}"
        );
    }
    let machine = LocalMachine::open_root(place.inside(), boasting.clone()).unwrap();
    assert_eq!(
        machine.probe().await.unwrap_err().code(),
        "confinement_unavailable"
    );
    // Only the operator can do without walls, and is told so.
    let place = Place::with(boasting.with_required(Tier::None)).await;
    let gaps = place.sh("true").await.unwrap().enforcement.gaps;
    assert_eq!(gaps, honest.gaps, "the script says the same again");
}
