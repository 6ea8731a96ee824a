//! Searches on this host: limits, and entries that are not what they seem.

use std::os::unix::fs::symlink;
use std::time::Duration;

use aion_machine::{GlobRequest, GrepRequest, ReadOptions, RelPath, RemoveMode, WalkLimits, Workspace};
use rustix::fs::{Mode, OFlags, mkdirat, open, openat};

use crate::support::{Place, options, path};

#[tokio::test]
async fn a_search_does_not_leave_by_a_link_nor_hang_on_a_pipe() {
    let place = Place::new().await;
    std::fs::create_dir(place.outside().join("other")).unwrap();
    std::fs::write(place.outside().join("other/secret"), "needle\n").unwrap();
    symlink(place.outside().join("other"), place.inside().join("dir")).unwrap();
    symlink(place.outside().join("other/secret"), place.inside().join("file")).unwrap();
    let pipe = place.inside().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(pipe)
            .status()
            .unwrap()
            .success()
    );
    place.put("t", "needle\n").await;
    let found = place.work.grep(GrepRequest::new("needle")).await.unwrap();
    assert_eq!(
        found.hits.iter().map(|h| h.path.as_str()).collect::<Vec<_>>(),
        ["t"]
    );
    let globbed = place.work.glob(GlobRequest::new("**/secret")).await.unwrap();
    assert!(globbed.hits.is_empty());
}

#[tokio::test]
async fn limits_end_a_search_and_are_said() {
    let place = Place::new().await;
    for i in 0..50 {
        place.put(&format!("d{}/f{i}", i % 5), "x\n").await;
    }
    let few = WalkLimits::default().with_max_entries(10);
    let found = place
        .work
        .glob(GlobRequest::new("*").with_limits(few.clone()))
        .await
        .unwrap();
    assert!(found.truncated && found.hits.len() <= 10);
    let none = WalkLimits::default().with_time(Duration::ZERO);
    assert!(
        place
            .work
            .glob(GlobRequest::new("*").with_limits(none))
            .await
            .unwrap()
            .truncated
    );
    let found = place
        .work
        .grep(GrepRequest::new("x").with_limits(few))
        .await
        .unwrap();
    assert!(found.truncated);
}

/// Patterns that take exponential time elsewhere take linear time here.
#[tokio::test]
async fn a_pattern_cannot_explode() {
    let place = Place::new().await;
    place.put("t", &format!("{}!\n", "a".repeat(20_000))).await;
    let started = std::time::Instant::now();
    let found = place.work.grep(GrepRequest::new("(a+)+$")).await.unwrap();
    assert!(found.hits.is_empty());
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// What a pattern costs for each byte does not matter to the time that a search takes.
#[tokio::test]
async fn a_slow_pattern_meets_the_time_cap() {
    let place = Place::new().await;
    std::fs::write(place.inside().join("lines"), "abababababababab\n".repeat(400_000)).unwrap();
    std::fs::write(place.inside().join("one"), "ab".repeat(3 << 20)).unwrap();
    let short = WalkLimits::default().with_time(Duration::from_millis(200));
    let slow = "(a|b|ab|[ab]{5}){1,300}x(a|b|ab|[ab]{5}){1,300}[cd]";
    let started = std::time::Instant::now();
    let found = place
        .work
        .grep(GrepRequest::new(slow).with_limits(short))
        .await
        .unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    assert!(found.truncated && found.hits.is_empty());
}

/// However many threads search, the first finds are the same, and in order.
#[tokio::test]
async fn threads_do_not_change_what_is_found() {
    let [one, many] = [1, 8].map(|threads| options().with_search_threads(threads));
    let place = Place::with(one).await;
    for i in 0..900 {
        let dir = place.inside().join(format!("d{}/e{}", i % 7, i % 5));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("f{i}.txt")), "needle\nhay\nneedle\n").unwrap();
    }
    let machine = aion_machine::LocalMachine::open_root(place.inside(), many).unwrap();
    let work = machine
        .workspace(&aion_machine::WorkspaceSpec::new(RelPath::root()))
        .unwrap();
    for max in [0, 1, 7, 300, 5000] {
        let glob = || GlobRequest::new("**/*.txt").with_max_hits(max);
        assert_eq!(
            place.work.glob(glob()).await.unwrap(),
            work.glob(glob()).await.unwrap()
        );
        let grep = || GrepRequest::new("needle").with_max_hits(max);
        let (one, many) = (
            place.work.grep(grep()).await.unwrap(),
            work.grep(grep()).await.unwrap(),
        );
        assert_eq!((&one.hits, one.truncated), (&many.hits, many.truncated));
        assert_eq!((one.hits.len(), one.truncated), (max.min(1800), max < 1800));
    }
}

#[tokio::test]
async fn long_lines_are_cut_and_version_control_is_left_out() {
    let place = Place::new().await;
    place.put("t", &"é".repeat(2000)).await;
    std::fs::create_dir(place.inside().join(".git")).unwrap();
    std::fs::write(place.inside().join(".git/t"), "é").unwrap();
    let found = place.work.grep(GrepRequest::new("é")).await.unwrap();
    assert_eq!((found.hits.len(), found.hits[0].text.len()), (1, 500));
    assert!(
        place
            .work
            .read(&path(".git/t"), ReadOptions::default())
            .await
            .is_ok()
    );
}

/// Directories so deep that the path of the last has 20 * 256 bytes, made as a program would: step by step.
fn nest(top: &std::path::Path) {
    let name = "d".repeat(255);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = open(top, flags, Mode::empty()).unwrap();
    for _ in 0..20 {
        mkdirat(&at, &name, Mode::RWXU).unwrap();
        at = openat(&at, &name, flags, Mode::empty()).unwrap();
    }
}

/// What is too deep to be named is left out and said; the rest can be searched, compared, and cleaned up.
#[tokio::test]
async fn paths_too_long_to_be_said_do_not_stop_a_walk() {
    let place = Place::new().await;
    place.put("a", "needle\n").await;
    place.put("e", "needle\n").await;
    nest(&place.inside());
    let globbed = place.work.glob(GlobRequest::new("*")).await.unwrap();
    let names: Vec<_> = globbed.hits.iter().map(|hit| hit.path.as_str()).collect();
    assert_eq!((names, globbed.truncated), (vec!["a", "e"], true));
    let found = place.work.grep(GrepRequest::new("needle")).await.unwrap();
    assert_eq!((found.hits.len(), found.truncated), (2, true));
    let before = place.work.snapshot().await.unwrap();
    place.put("e", "2\n").await;
    let after = place.work.snapshot().await.unwrap();
    assert_eq!(place.work.diff(before, after).await.unwrap().changed_files, 1);
    let top = RelPath::parse(&"d".repeat(255)).unwrap();
    place.work.remove(&top, RemoveMode::Tree).await.unwrap();
    assert!(!place.work.glob(GlobRequest::new("*")).await.unwrap().truncated);
}
