//! No room: on the disk, in a limit on files, above the floor that is left to the host.

use std::process::Command;

use aion_machine::{LocalMachine, LocalOptions, ReadOptions, RelPath, Workspace, WriteRequest};

use crate::support::{Place, options, path};

/// Says to the started binary that its files are limited to 32 KiB.
const MARK: &str = "AION_TEST_FILE_LIMIT";

/// A write into a directory that is full leaves the old content and no leftovers.
#[tokio::test]
async fn a_full_disk_is_a_typed_error_and_leaves_nothing() {
    let place = Place::new().await;
    let small = place.inside();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "none"])
        .arg(&small)
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        // Only root can make a small disk; the mapping of the error is checked for everybody else.
        return;
    }
    let machine = LocalMachine::open_root(&small, LocalOptions::default().with_min_free_bytes(0)).unwrap();
    let work = machine
        .workspace(&aion_machine::WorkspaceSpec::new(RelPath::root()))
        .unwrap();
    work.write(&path("t"), WriteRequest::new("old")).await.unwrap();
    let error = work
        .write(&path("t"), WriteRequest::new(vec![b'x'; 1 << 20]))
        .await
        .unwrap_err();
    let content = work.read(&path("t"), ReadOptions::default()).await.unwrap().bytes;
    let left: Vec<_> = std::fs::read_dir(&small)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    drop((work, machine));
    assert!(
        std::process::Command::new("umount")
            .arg(&small)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(
        (error.code(), content.as_slice(), left),
        ("no_space", &b"old"[..], vec!["t".into()])
    );
}

/// What a write that is refused for room must leave: the old content, and nothing else.
async fn refuses_a_mebibyte(place: &Place) {
    place.put("t", "old").await;
    let large = || WriteRequest::new(vec![b'x'; 1 << 20]);
    for name in ["t", "new"] {
        let error = place.work.write(&path(name), large()).await.unwrap_err();
        assert_eq!(error.code(), "no_space", "{name}: {error}");
    }
    let content = place.work.read(&path("t"), ReadOptions::default()).await.unwrap();
    assert_eq!(content.bytes, b"old");
    let left: Vec<_> = std::fs::read_dir(place.inside())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["t"]);
}

/// The same by the limit of the process on the size of its files, which needs no privilege.
#[tokio::test]
async fn a_limit_on_files_is_a_typed_error_and_leaves_nothing() {
    if std::env::var_os(MARK).is_some() {
        return refuses_a_mebibyte(&Place::new().await).await;
    }
    // The signal that a write beyond the limit gets is ignored, so that the write fails instead.
    let line = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", line]).arg(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "full::a_limit_on_files_is_a_typed_error_and_leaves_nothing",
    ]);
    let done = command.env(MARK, "1").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

/// What would leave less than the floor is refused before anything is written.
#[tokio::test]
async fn the_floor_of_the_disk_is_kept() {
    let place = Place::new().await;
    place.put("t", "old").await;
    let machine =
        LocalMachine::open_root(place.inside(), options().with_min_free_bytes(u64::MAX / 2)).unwrap();
    let work = machine
        .workspace(&aion_machine::WorkspaceSpec::new(RelPath::root()))
        .unwrap();
    let write = async |text: &str| work.write(&path("t"), WriteRequest::new(text)).await;
    assert_eq!(write("new").await.unwrap_err().code(), "no_space");
    assert!(
        !write("old").await.unwrap().changed,
        "nothing is written, so nothing is needed"
    );
    let edit = aion_machine::Edit::new("old", "new").into();
    assert_eq!(work.edit(&path("t"), edit).await.unwrap_err().code(), "no_space");
    assert_eq!(std::fs::read_to_string(place.inside().join("t")).unwrap(), "old");
}
