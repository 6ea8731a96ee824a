//! Attacks that take what there is: processes, memory, disk, and the patience of the service.

use aion_machine::{Ending, ExecLimits, LocalOptions};

use super::{Outcome, Target, outcome, walk};
use crate::support::{both, options, without_namespaces};

/// A limit, an attack on it, and how it ends.
async fn ends(name: &str, limits: &ExecLimits, expected: Ending) {
    for options in both() {
        let target = Target::new(options).await;
        let enough = ExecLimits::default().with_wall_ms(15_000);
        let control = target.confined(name, enough).await;
        assert_eq!(control.ending, Ending::Itself, "control: {name}: {control:?}");
        let out = target.confined(name, limits.clone()).await;
        assert_eq!(out.ending, expected, "{name}: {}", out.stdout.text());
        target.check(name).await;
    }
}

#[tokio::test]
async fn memory_of_many_is_memory() {
    let limits = ExecLimits::default().with_total_memory_bytes(200 << 20);
    ends("memory_bomb", &limits, Ending::MemoryLimit).await;
}

#[tokio::test]
async fn memory_that_nobody_maps_is_memory() {
    let limits = ExecLimits::default().with_total_memory_bytes(150 << 20);
    ends("memory_files", &limits, Ending::MemoryLimit).await;
}

/// What no process holds is memory all the same. At the weaker tier there is none of it, since it would be the host's.
#[tokio::test]
async fn memory_of_nobody_is_memory() {
    let limits = ExecLimits::default().with_total_memory_bytes(150 << 20);
    for name in ["memory_of_nobody", "semaphores"] {
        for options in [options(), options().with_max_wardens(0)] {
            let target = Target::new(options).await;
            let control = target.confined(name, ExecLimits::default()).await;
            let text = control.stdout.text();
            assert_eq!(outcome(&text), Outcome::Succeeded, "control: {name}");
            let out = target.confined(name, limits.clone()).await;
            assert_eq!(out.ending, Ending::MemoryLimit, "{name}: {}", out.stdout.text());
            target.check(name).await;
        }
        let target = Target::new(without_namespaces()).await;
        let out = target.confined(name, limits.clone()).await;
        assert!(
            matches!(outcome(&out.stdout.text()), Outcome::Refused(_)),
            "{name}"
        );
        target.check(name).await;
    }
}

/// Where the supervisor is an ordinary user, a program could write unseen; it is ended instead. Nobody hides from root.
#[tokio::test]
async fn who_lets_nobody_look_is_ended() {
    let target = Target::new(without_namespaces()).await;
    let limits = ExecLimits::default().with_written_bytes(64 << 20);
    let enough = ExecLimits::default();
    let shown = target.confined("write_seen", enough.clone()).await;
    assert_eq!(shown.ending, Ending::Itself, "control: {}", shown.stdout.text());
    let hidden = target.confined("write_unseen", enough).await;
    let root = rustix::process::getuid().is_root();
    let expected = if root { Ending::Itself } else { Ending::DiskLimit };
    assert_eq!(hidden.ending, expected, "{}", hidden.stdout.text());
    target.check("write_unseen").await;
    let target = Target::new(without_namespaces()).await;
    let limited = target.confined("write_seen", limits).await;
    assert_eq!(limited.ending, Ending::DiskLimit, "{}", limited.stdout.text());
}

#[tokio::test]
async fn a_full_workspace_ends_the_program() {
    let limits = ExecLimits::default().with_written_bytes(64 << 20);
    for options in both() {
        let target = Target::new(options).await;
        let out = target.confined("fill_workspace", limits.clone()).await;
        assert_eq!(out.ending, Ending::DiskLimit, "{}", out.stdout.text());
        let files = walk(&target.place.inside());
        let filled: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(
            (60 << 20..380 << 20).contains(&filled),
            "it was stopped at {filled}"
        );
        target.check("fill_workspace").await;
    }
}

/// With a file system of its own the end of `/tmp` is the end of `/tmp`; without, it is the disk's.
#[tokio::test]
async fn tmp_is_as_large_as_it_may_be() {
    let limits = ExecLimits::default()
        .with_written_bytes(64 << 20)
        .with_tmp_bytes(20 << 20);
    let target = Target::new(options()).await;
    let out = target.confined("fill_tmp", limits.clone()).await;
    let full = matches!(outcome(&out.stdout.text()), Outcome::Refused(why) if why.contains("No space left"));
    assert!(full && out.ending == Ending::Itself, "{out:?}");
    target.check("fill_tmp").await;
    if on_a_disk() {
        let target = Target::new(without_namespaces()).await;
        let out = target.confined("fill_tmp", limits).await;
        assert_eq!(out.ending, Ending::DiskLimit, "{out:?}");
        target.check("fill_tmp").await;
    }
}

/// Files without a content take memory of the kernel's; and a room of no size is not one without a limit.
#[tokio::test]
async fn names_in_tmp_are_counted_too() {
    for options in [options(), options().with_max_wardens(0)] {
        let target = Target::new(options).await;
        let control = ExecLimits::default().with_tmp_bytes(256 << 20);
        let out = target.confined("fill_tmp_with_names", control).await;
        assert_eq!(outcome(&out.stdout.text()), Outcome::Succeeded, "control");
        let out = target
            .confined("fill_tmp_with_names", ExecLimits::default())
            .await;
        let text = out.stdout.text();
        let full = matches!(outcome(&text), Outcome::Refused(why) if why.contains("No space left"));
        let made = text.lines().find_map(|line| line.strip_prefix("MADE "));
        let made: u64 = made.map_or(0, |n| n.parse().unwrap());
        assert!(full && (20_000..40_000).contains(&made), "{text}");
        let out = target
            .confined("fill_tmp", ExecLimits::default().with_tmp_bytes(0))
            .await;
        let full =
            matches!(outcome(&out.stdout.text()), Outcome::Refused(why) if why.contains("No space left"));
        assert!(full, "{out:?}");
        target.check("fill_tmp_with_names").await;
    }
}

/// What is written to a `/tmp` in memory is not counted; docs/SECURITY.md says so.
fn on_a_disk() -> bool {
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::statfs("/tmp").unwrap().f_type as u64 != TMPFS
}

/// No more than there may be, whoever starts them; and none of them stays.
#[tokio::test]
async fn a_fork_bomb_is_contained() {
    let bomb = async |options: LocalOptions| {
        let target = Target::new(options).await;
        let limits = ExecLimits::default().with_processes(40).with_wall_ms(15_000);
        let out = target.confined("fork_bomb", limits).await;
        let text = out.stdout.text();
        let made = text.lines().find_map(|line| line.strip_prefix("MADE "));
        let made: u64 = made.map_or(0, |n| n.parse().unwrap());
        let few = out.ending == Ending::Itself && (1..=40).contains(&made);
        assert!(
            few || out.ending == Ending::ProcessLimit,
            "{made} {:?}",
            out.ending
        );
        target.check("fork_bomb").await;
    };
    for options in both() {
        bomb(options).await;
    }
}

/// The end of the program is the end, although somebody still holds its outputs.
#[tokio::test]
async fn nobody_holds_an_output_open() {
    for options in both() {
        let target = Target::new(options).await;
        let outlives = target.outlives("hold_output_open");
        assert!(outlives, "control: unconfined, it outlives its parent");
        let out = target.confined("hold_output_open", ExecLimits::default()).await;
        assert_eq!(outcome(&out.stdout.text()), Outcome::Succeeded, "it ran");
        assert!(out.duration_ms < 5000, "{}", out.duration_ms);
        target.check("hold_output_open").await;
    }
}
