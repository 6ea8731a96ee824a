//! Files on this host: what the conformance kit cannot say of every backend.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aion_machine::testkit::{MemoryMachine, MemoryWorkspace};
use aion_machine::{
    Diff, Edit, Encoding, Error, LocalMachine, LocalOptions, Machine, PatchRequest, PathError, ReadOptions,
    ReadRange, RelPath, RemoveMode, RenameMode, WatchEvent, WatchRequest, Workspace, WriteMode, WriteRequest,
};
use proptest::prelude::*;

use crate::support::{Place, options, path};

/// A machine on this host that derefs to what the kit takes.
struct Kit(tempfile::TempDir, LocalMachine);

impl Kit {
    async fn new(options: LocalOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = LocalMachine::open_root(dir.path(), options).unwrap();
        Self(dir, machine)
    }
}

impl std::ops::Deref for Kit {
    type Target = dyn Machine;
    fn deref(&self) -> &Self::Target {
        assert!(self.0.path().is_dir());
        &self.1
    }
}

aion_machine::machine_tests!(local, Kit::new(options()));
aion_machine::machine_tests!(memory, async {
    Box::new(MemoryMachine::default()) as Box<dyn Machine>
});
aion_machine::workspace_tests!(workspace, async { MemoryWorkspace::open() });

/// `AION_FUZZ_CASES` makes the random tests longer.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("AION_FUZZ_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig::with_cases(asked.unwrap_or(usual))
}

#[test]
fn a_path_that_is_none_says_why() {
    for (text, error) in [
        ("../x", PathError::ParentDir),
        ("a/..", PathError::ParentDir),
        ("/etc/passwd", PathError::Absolute),
        ("a\0b", PathError::Nul),
        ("a\u{202E}txt.exe", PathError::Invisible { code: 0x202E }),
        ("a\nb", PathError::Invisible { code: 0x0A }),
        ("a\u{61C}b", PathError::Invisible { code: 0x61C }),
        ("a\u{E0041}", PathError::Invisible { code: 0xE0041 }),
    ] {
        assert_eq!(RelPath::parse(text), Err(error), "{text:?}");
    }
    assert_eq!(
        RelPath::parse(&"a".repeat(256)),
        Err(PathError::TooLong { len: 256 })
    );
    assert_eq!(
        RelPath::parse(&"a/".repeat(3000)),
        Err(PathError::TooLong { len: 6000 })
    );
    assert!(serde_json::from_str::<RelPath>("\"../x\"").is_err());
    assert_eq!(RelPath::from_bytes(b"a/\xC3"), Err(PathError::NotUtf8));
}

proptest! {
    #![proptest_config(cases(1024))]

    /// Whatever bytes come, what is accepted names something below, alone and below another path, and what has
    /// nothing wrong with it is accepted.
    #[test]
    fn bytes_are_a_path_below_or_none(bytes in prop::collection::vec(prop_oneof![
        Just(b'.'), Just(b'/'), Just(b'a'), any::<u8>(),
    ], 0..24)) {
        use std::path::{Component, Path};
        let is_below = |path: &RelPath| {
            Path::new(path.as_str()).components().all(|part| matches!(part, Component::Normal(_)))
        };
        match RelPath::from_bytes(&bytes) {
            Ok(path) => {
                let top = RelPath::parse("top").unwrap();
                prop_assert!(is_below(&path) && is_below(&top.join(&path).unwrap()));
                prop_assert!(top.join(&path).unwrap().as_str().starts_with("top"));
            }
            Err(PathError::NotUtf8) => prop_assert!(std::str::from_utf8(&bytes).is_err()),
            Err(PathError::Absolute) => prop_assert_eq!(bytes[0], b'/'),
            Err(PathError::ParentDir) => {
                prop_assert!(bytes.split(|b| *b == b'/').any(|part| part == b".."));
            }
            Err(PathError::Nul) => prop_assert!(bytes.contains(&0)),
            Err(PathError::Invisible { code }) => {
                let text = std::str::from_utf8(&bytes).unwrap();
                prop_assert!(text.chars().any(|c| u32::from(c) == code));
            }
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }

    /// Whatever is accepted is relative, has no `..`, and parses to itself.
    #[test]
    fn accepted_paths_are_normal(text in "[a-c./\\x00-\\x20\u{200b}-\u{2030}]{0,24}") {
        if let Ok(path) = RelPath::parse(&text) {
            prop_assert!(!path.as_str().starts_with('/'));
            prop_assert!(path.as_str().split('/').all(|part| part != ".." && part != "."));
            prop_assert_eq!(RelPath::parse(&path.to_string()), Ok(path));
        }
    }
}

/// The control: outside the workspace the very same links lead to the secret.
#[tokio::test]
async fn links_out_of_the_workspace_lead_nowhere() {
    let place = Place::new().await;
    std::fs::write(place.outside().join("secret"), "hidden").unwrap();
    symlink(place.outside().join("secret"), place.inside().join("absolute")).unwrap();
    symlink("../secret", place.inside().join("relative")).unwrap();
    symlink("..", place.inside().join("up")).unwrap();
    symlink("/proc/self/root", place.inside().join("magic")).unwrap();
    for name in ["absolute", "relative", "up/secret", "magic/etc/passwd"] {
        let control = std::fs::read(place.inside().join(name)).unwrap();
        assert!(!control.is_empty(), "control: {name}");
        let read = place
            .work
            .read(&path(name), ReadOptions::default())
            .await
            .unwrap_err();
        assert_eq!(read.code(), "path_escapes", "{name}");
        let written = place
            .work
            .write(&path(name), WriteRequest::new("x"))
            .await
            .unwrap_err();
        assert!(
            ["path_escapes", "wrong_kind"].contains(&written.code()),
            "{name}: {written}"
        );
        assert!(
            place
                .work
                .edit(&path(name), Edit::new("h", "x").into())
                .await
                .is_err()
        );
    }
    assert_eq!(
        place.work.list(&path("up"), 9).await.unwrap_err().code(),
        "path_escapes"
    );
    assert_eq!(
        place.work.mkdir(&path("up/new")).await.unwrap_err().code(),
        "path_escapes"
    );
    place.work.remove(&path("up"), RemoveMode::Tree).await.unwrap();
    assert_eq!(
        std::fs::read_to_string(place.outside().join("secret")).unwrap(),
        "hidden"
    );
}

#[tokio::test]
async fn links_inside_are_read_but_not_written_over() {
    let place = Place::new().await;
    place.put("real", "content").await;
    symlink("real", place.inside().join("link")).unwrap();
    assert_eq!(
        place
            .work
            .read(&path("link"), ReadOptions::default())
            .await
            .unwrap()
            .bytes,
        b"content"
    );
    let error = place
        .work
        .write(&path("link"), WriteRequest::new("x"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::WrongKind {
                found: "symbolic link",
                ..
            }
        ),
        "{error}"
    );
    symlink("loop", place.inside().join("loop")).unwrap();
    assert_eq!(
        place
            .work
            .read(&path("loop"), ReadOptions::default())
            .await
            .unwrap_err()
            .code(),
        "path_escapes"
    );
}

#[tokio::test]
async fn a_pipe_and_a_socket_are_refused_at_once() {
    let place = Place::new().await;
    let pipe = place.inside().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let _socket = std::os::unix::net::UnixListener::bind(place.inside().join("socket")).unwrap();
    let started = Instant::now();
    for name in ["pipe", "socket"] {
        let read = place
            .work
            .read(&path(name), ReadOptions::default())
            .await
            .unwrap_err();
        assert_eq!(read.code(), "wrong_kind", "{name}");
        let written = place
            .work
            .write(&path(name), WriteRequest::new("x"))
            .await
            .unwrap_err();
        assert_eq!(written.code(), "wrong_kind", "{name}");
    }
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_file_with_another_name_elsewhere_is_not_written() {
    let place = Place::new().await;
    let outside = place.outside().join("outside");
    std::fs::write(&outside, "theirs").unwrap();
    std::fs::hard_link(&outside, place.inside().join("ours")).unwrap();
    let error = place
        .work
        .write(&path("ours"), WriteRequest::new("x"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "hard_linked");
    assert_eq!(
        place
            .work
            .edit(&path("ours"), Edit::new("theirs", "x").into())
            .await
            .unwrap_err()
            .code(),
        "hard_linked"
    );
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "theirs");
}

#[tokio::test]
async fn a_huge_file_is_read_in_parts_and_never_whole() {
    let place = Place::with(options().with_max_file_bytes(1 << 20)).await;
    let file = std::fs::File::create(place.inside().join("huge")).unwrap();
    file.set_len(5 << 40).unwrap();
    let read = place
        .work
        .read(&path("huge"), ReadOptions::default())
        .await
        .unwrap();
    assert_eq!(
        (read.bytes.len(), read.size_bytes, read.truncated),
        (256 * 1024, 5 << 40, true)
    );
    assert_eq!(read.etag, None);
    let range = ReadRange::Bytes {
        offset: (5 << 40) - 3,
        len: 100,
    };
    let end = place
        .work
        .read(&path("huge"), ReadOptions::default().with_range(range))
        .await
        .unwrap();
    assert_eq!(end.bytes, [0; 3]);
    for error in [
        place
            .work
            .write(&path("huge"), WriteRequest::new("x"))
            .await
            .unwrap_err(),
        place
            .work
            .write(&path("new"), WriteRequest::new(vec![b'x'; (1 << 20) + 1]))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.code(), "too_large");
    }
    assert!(!place.inside().join("new").exists());
    let lines = "line\n".repeat(1 << 18);
    std::fs::write(place.inside().join("lines"), &lines).unwrap();
    let range = ReadRange::Lines {
        first: 1 << 18,
        count: 5,
    };
    let last = place
        .work
        .read(&path("lines"), ReadOptions::default().with_range(range))
        .await
        .unwrap();
    assert_eq!(last.bytes, b"line\n");
}

#[tokio::test]
async fn text_that_is_cut_inside_a_character_is_still_text() {
    let place = Place::new().await;
    place.put("t", "aé").await;
    let read = place
        .work
        .read(&path("t"), ReadOptions::default().with_max_bytes(2))
        .await
        .unwrap();
    assert_eq!(
        (read.bytes.as_slice(), read.encoding, read.truncated),
        (&b"a"[..], Encoding::Utf8, true)
    );
    std::fs::write(place.inside().join("b"), [0xFF, 0x00]).unwrap();
    let read = place.work.read(&path("b"), ReadOptions::default()).await.unwrap();
    assert_eq!(
        (read.encoding, read.text_lossy().as_str()),
        (Encoding::Binary, "\u{FFFD}\0")
    );
}

#[tokio::test]
async fn a_replaced_file_keeps_its_mode_but_no_set_id_bits() {
    let place = Place::new().await;
    place.put("run.sh", "old").await;
    let host = place.inside().join("run.sh");
    std::fs::set_permissions(&host, std::fs::Permissions::from_mode(0o4755)).unwrap();
    place.put("run.sh", "new").await;
    assert_eq!(
        std::fs::metadata(&host).unwrap().permissions().mode() & 0o7777,
        0o755
    );
}

#[tokio::test]
async fn names_that_cannot_be_said_are_counted() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new().await;
    for name in [&b"\xFF\xFE"[..], b"a\nb", b"fine"] {
        std::fs::write(place.inside().join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
    }
    let listing = place.work.list(&RelPath::root(), 10).await.unwrap();
    assert_eq!((listing.entries.len(), listing.unnamable), (1, 2));
}

#[tokio::test]
async fn a_tree_with_names_that_cannot_be_said_is_removed() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new().await;
    let dir = place
        .inside()
        .join("d")
        .join(std::ffi::OsStr::from_bytes(b"\xFF\xFE"));
    std::fs::create_dir_all(dir.join("below")).unwrap();
    std::fs::write(dir.join("t"), "x").unwrap();
    place.work.remove(&path("d"), RemoveMode::Tree).await.unwrap();
    assert!(!place.inside().join("d").exists());
}

/// A watch does not follow links: what happens outside is not told.
#[tokio::test]
async fn a_watch_stays_inside() {
    let place = Place::new().await;
    let other = place.outside().join("other");
    std::fs::create_dir(&other).unwrap();
    symlink(&other, place.inside().join("link")).unwrap();
    let mut watch = place
        .work
        .watch(WatchRequest::new(RelPath::root()))
        .await
        .unwrap();
    symlink(&other, place.inside().join("late")).unwrap();
    std::fs::write(other.join("secret"), "x").unwrap();
    place.put("last", "x").await;
    let mut told = Vec::new();
    while told.last().is_none_or(|last: &String| last != "last") {
        let next = tokio::time::timeout(Duration::from_secs(20), watch.next())
            .await
            .unwrap();
        if let Some(WatchEvent::Changed { path }) = next {
            told.push(path.to_string());
        }
    }
    told.dedup();
    assert_eq!(told, ["late", "last"]);
}

/// Watches are threads, so there are only so many; a dropped one makes room.
#[tokio::test]
async fn watches_are_limited() {
    let place = Place::new().await;
    let mut held = Vec::new();
    let refused = loop {
        match place.work.watch(WatchRequest::new(RelPath::root())).await {
            Ok(watch) => held.push(watch),
            Err(error) => break error,
        }
        assert!(held.len() < 1000);
    };
    assert_eq!(refused.code(), "too_many_watches");
    held.clear();
    let started = Instant::now();
    while place
        .work
        .watch(WatchRequest::new(RelPath::root()))
        .await
        .is_err()
    {
        assert!(started.elapsed() < Duration::from_secs(20), "no watch ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Readers of a file that is written over and over see one content or the other, whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_half_a_write() {
    let place = Place::new().await;
    let contents = ["a".repeat(100_000), "b".repeat(70_000)];
    place.put("t", &contents[0]).await;
    let writer = {
        let (work, contents) = (Arc::clone(&place.work), contents.clone());
        tokio::spawn(async move {
            for i in 0..100 {
                work.write(&path("t"), WriteRequest::new(contents[i % 2].as_str()))
                    .await
                    .unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let read = place
            .work
            .read(&path("t"), ReadOptions::default())
            .await
            .unwrap()
            .text_lossy();
        assert!(contents.contains(&read), "{} bytes", read.len());
    }
    writer.await.unwrap();
}

/// One random operation on few names, so that they meet.
#[derive(Debug, Clone)]
enum Op {
    Write(RelPath, String),
    CreateNew(RelPath, String),
    Edit(RelPath, String, String),
    Patch(RelPath, String, String),
    Mkdir(RelPath),
    Remove(RelPath, RemoveMode),
    Rename(RelPath, RelPath, RenameMode),
}

fn op() -> impl Strategy<Value = Op> {
    let name = || prop::sample::select(vec!["a", "b", "a/x", "b/x", "a/x/y"]).prop_map(path);
    let text = || prop::sample::select(vec!["", "1", "2", "12", "1\n1\n"]).prop_map(str::to_owned);
    let remove = prop::sample::select(vec![RemoveMode::One, RemoveMode::Tree]);
    let rename = prop::sample::select(vec![RenameMode::NoReplace]);
    prop_oneof![
        (name(), text()).prop_map(|(p, t)| Op::Write(p, t)),
        (name(), text()).prop_map(|(p, t)| Op::CreateNew(p, t)),
        (name(), text(), text()).prop_map(|(p, a, b)| Op::Edit(p, a, b)),
        (name(), text(), text()).prop_map(|(p, a, b)| Op::Patch(p, a, b)),
        name().prop_map(Op::Mkdir),
        (name(), remove).prop_map(|(p, m)| Op::Remove(p, m)),
        (name(), name(), rename).prop_map(|(a, b, m)| Op::Rename(a, b, m)),
    ]
}

/// Carries an operation out; what it answers, in words.
async fn apply(work: &dyn Workspace, op: Op) -> String {
    let wrote = |done: Result<aion_machine::WriteOutput, Error>| match done {
        Ok(out) => format!("{out:?}"),
        Err(error) => error.code().to_owned(),
    };
    let unit = |done: Result<(), Error>| done.map_or_else(|e| e.code().to_owned(), |()| "done".to_owned());
    match op {
        Op::Write(path, text) => wrote(work.write(&path, WriteRequest::new(text)).await),
        Op::CreateNew(path, text) => wrote(
            work.write(&path, WriteRequest::new(text).with_mode(WriteMode::CreateNew))
                .await,
        ),
        Op::Edit(path, old, new) => wrote(work.edit(&path, Edit::new(old, new).into()).await),
        Op::Patch(path, old, new) => {
            let diff = Diff::between("t", old.as_bytes(), new.as_bytes(), 1 << 20);
            wrote(work.patch(&path, PatchRequest::new(diff.text)).await)
        }
        Op::Mkdir(path) => unit(work.mkdir(&path).await),
        Op::Remove(path, mode) => unit(work.remove(&path, mode).await),
        Op::Rename(from, to, mode) => unit(work.rename(&from, &to, mode).await),
    }
}

/// All files with their contents.
async fn contents(work: &dyn Workspace) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for hit in work.glob(aion_machine::GlobRequest::new("*")).await.unwrap().hits {
        let read = work.read(&hit.path, ReadOptions::default()).await.unwrap();
        all.push((hit.path.to_string(), read.bytes));
    }
    all
}

proptest! {
    #![proptest_config(cases(32))]

    /// This host answers like the model in memory, and has the same files after every operation.
    #[test]
    fn the_host_does_what_the_model_does(ops in prop::collection::vec(op(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (place, model) = (Place::new().await, MemoryWorkspace::open());
            for op in ops {
                let shown = format!("{op:?}");
                let (got, want) = (apply(&*place.work, op.clone()).await, apply(&*model, op).await);
                // What kind of "no" it is may differ where several reasons hold.
                let both_refuse = !got.starts_with("WriteOutput") && !want.starts_with("WriteOutput")
                    && got != "done" && want != "done";
                assert!(got == want || both_refuse, "{shown}: {got}, the model: {want}");
                assert_eq!(contents(&*place.work).await, contents(&*model).await, "{shown}");
            }
        });
    }
}
