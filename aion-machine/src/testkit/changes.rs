//! The cases about what changes by itself: watches, and what programs do to the files.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::cases::{path, put, text};
use crate::{
    ChangeKind, EntryKind, ExecRequest, ReadOptions, RelPath, RemoveMode, RenameMode, Watch, WatchEvent,
    WatchRequest, Workspace,
};

/// How long a change may take to be told.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether changes can be watched; if not, that watching is refused as it must be.
async fn watches(work: &dyn Workspace) -> bool {
    if work.capabilities().watch {
        return true;
    }
    let refused = work.watch(WatchRequest::new(RelPath::root())).await.unwrap_err();
    assert_eq!(refused.code(), "unsupported");
    false
}

/// Waits for this event, within the time that a change may take.
async fn told(watch: &mut Watch, wanted: &WatchEvent) {
    let wait = async {
        while let Some(event) = watch.next().await {
            if event == *wanted {
                return;
            }
        }
        panic!("the watch ended before {wanted:?}");
    };
    let in_time = tokio::time::timeout(PATIENCE, wait).await;
    assert!(in_time.is_ok(), "{wanted:?} was not told");
}

fn changed(name: &str) -> WatchEvent {
    WatchEvent::Changed { path: path(name) }
}

fn removed(name: &str) -> WatchEvent {
    WatchEvent::Removed { path: path(name) }
}

/// A watch tells of files and directories that come, change, move and go.
pub async fn a_watch_tells_of_changes(work: &dyn Workspace) {
    if !watches(work).await {
        return;
    }
    put(work, "old", "1").await;
    let mut watch = work.watch(WatchRequest::new(RelPath::root())).await.unwrap();
    put(work, "old", "2").await;
    told(&mut watch, &changed("old")).await;
    put(work, "a/b/t", "x").await;
    told(&mut watch, &changed("a/b/t")).await;
    work.rename(&path("a"), &path("c"), RenameMode::NoReplace)
        .await
        .unwrap();
    told(&mut watch, &removed("a")).await;
    told(&mut watch, &changed("c/b/t")).await;
    put(work, "c/b/u", "x").await;
    told(&mut watch, &changed("c/b/u")).await;
    work.remove(&path("c"), RemoveMode::Tree).await.unwrap();
    told(&mut watch, &removed("c")).await;
}

/// A watch is of a directory, and tells only of what is below it.
pub async fn a_watch_is_of_one_directory(work: &dyn Workspace) {
    if !watches(work).await {
        return;
    }
    let code = async |name: &str| {
        work.watch(WatchRequest::new(path(name)))
            .await
            .unwrap_err()
            .code()
    };
    put(work, "file", "x").await;
    assert_eq!(
        (code("none").await, code("file").await),
        ("not_found", "wrong_kind")
    );
    put(work, "d/t", "1").await;
    let mut watch = work.watch(WatchRequest::new(path("d"))).await.unwrap();
    put(work, "file", "y").await;
    put(work, "d/t", "2").await;
    let first = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    assert_eq!(first, Some(changed("d/t")));
}

/// When nobody reads, a watch forgets and says so, instead of growing.
pub async fn a_watch_that_is_not_read_says_what_it_lost(work: &dyn Workspace) {
    if !watches(work).await {
        return;
    }
    let request = WatchRequest::new(RelPath::root()).with_max_events(4);
    let mut watch = work.watch(request).await.unwrap();
    for i in 0..40 {
        put(work, &format!("t{i}"), "x").await;
    }
    told(&mut watch, &WatchEvent::Lost).await;
    // What is still on its way may take the room of what comes next; then that is said too.
    let goes_on = async {
        for at in 0.. {
            put(work, "last", &at.to_string()).await;
            loop {
                match watch.next().await.unwrap() {
                    event if event == changed("last") => return,
                    WatchEvent::Lost => break,
                    _ => {}
                }
            }
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, goes_on).await;
    assert!(in_time.is_ok(), "nothing was told after what was lost");
}

/// The workspace is what a program and the file operations have in common, both ways, and a snapshot
/// tells what a program did. A machine without programs says so.
pub async fn a_program_shares_the_workspace(work: &dyn Workspace) {
    if !work.capabilities().exec {
        let refused = work.exec(ExecRequest::new(["true"])).await.unwrap_err();
        assert_eq!(refused.code(), "unsupported");
        return;
    }
    put(work, "in", "1\n").await;
    let before = work.snapshot().await.unwrap();
    let line = "cat in > out; echo 2 >> in; mkdir d; ln -s /etc/hostname d/link";
    assert!(work.exec(ExecRequest::shell(line)).await.unwrap().success());
    assert_eq!(text(work, "out").await, "1\n");
    let after = work.snapshot().await.unwrap();
    let diff = work.diff(before, after).await.unwrap();
    let got: Vec<_> = diff.changes.iter().map(|c| (c.path.as_str(), c.kind)).collect();
    let want = [
        ("d/link", ChangeKind::Created),
        ("in", ChangeKind::Modified),
        ("out", ChangeKind::Created),
    ];
    assert_eq!(got, want);
    let link = path("d/link");
    assert_eq!(work.stat(&link).await.unwrap().kind, EntryKind::Symlink);
    let outside = work.read(&link, ReadOptions::default()).await.unwrap_err();
    assert_eq!(outside.code(), "path_escapes");
}
