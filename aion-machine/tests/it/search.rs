//! Searches on this host: limits, and entries that are not what they seem.

use std::os::unix::fs::symlink;
use std::time::Duration;

use aion_machine::{GlobRequest, GrepRequest, ReadOptions, RelPath, RemoveMode, WalkLimits};
use rustix::fs::{Mode, OFlags, mkdirat, open, openat};

use crate::support::{Place, path};

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
