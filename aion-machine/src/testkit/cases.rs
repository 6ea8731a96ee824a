//! The cases. Each takes a fresh, empty workspace and panics where it does not do what it must.
#![allow(clippy::unwrap_used)]

use crate::{
    ChangeKind, Durability, Edit, EditRequest, Encoding, EntryKind, Etag, GlobRequest, GrepRequest,
    IgnoreRules, Occurrences, Parents, PatchRequest, ReadOptions, ReadRange, RelPath, RemoveMode, RenameMode,
    Workspace, WriteMode, WriteRequest,
};

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

pub(super) async fn put(work: &dyn Workspace, name: &str, content: &str) {
    work.write(&path(name), WriteRequest::new(content)).await.unwrap();
}

pub(super) async fn text(work: &dyn Workspace, name: &str) -> String {
    work.read(&path(name), ReadOptions::default())
        .await
        .unwrap()
        .text_lossy()
}

fn names<'a>(stats: impl IntoIterator<Item = &'a crate::Stat>) -> Vec<&'a str> {
    stats.into_iter().map(|stat| stat.path.as_str()).collect()
}

/// What was written is read, with its etag and size; what was not there is said to be created.
pub async fn a_written_file_reads_back(work: &dyn Workspace) {
    let wrote = work
        .write(&path("a/b.txt"), WriteRequest::new("one\ntwo\n"))
        .await
        .unwrap();
    assert!(wrote.created && wrote.changed);
    assert_eq!(wrote.diff.added_lines, 2);
    let read = work.read(&path("a/b.txt"), ReadOptions::default()).await.unwrap();
    assert_eq!(
        (read.bytes.as_slice(), read.size_bytes, read.truncated),
        (&b"one\ntwo\n"[..], 8, false)
    );
    assert_eq!(read.etag, Some(Etag::of(b"one\ntwo\n")));
    assert_eq!(read.etag, Some(wrote.etag));
    let missing = work
        .read(&path("a/c.txt"), ReadOptions::default())
        .await
        .unwrap_err();
    assert_eq!(missing.code(), "not_found");
}

/// Byte and line ranges give exactly that part and say whether there is more.
pub async fn ranges_are_exact(work: &dyn Workspace) {
    put(work, "t", "one\ntwo\nthree\n").await;
    let read = async |range, max| {
        let options = ReadOptions::default().with_range(range).with_max_bytes(max);
        let read = work.read(&path("t"), options).await.unwrap();
        (read.text_lossy(), read.truncated)
    };
    assert_eq!(
        read(ReadRange::Lines { first: 2, count: 1 }, 100).await,
        ("two\n".into(), true)
    );
    assert_eq!(
        read(ReadRange::Lines { first: 2, count: 9 }, 100).await,
        ("two\nthree\n".into(), false)
    );
    assert_eq!(read(ReadRange::Lines { first: 9, count: 1 }, 100).await.0, "");
    assert_eq!(
        read(ReadRange::Bytes { offset: 4, len: 3 }, 100).await,
        ("two".into(), true)
    );
    assert_eq!(
        read(
            ReadRange::Bytes {
                offset: u64::MAX,
                len: u64::MAX
            },
            100
        )
        .await
        .0,
        ""
    );
    assert_eq!(read(ReadRange::All, 5).await, ("one\nt".into(), true));
}

/// A write of the content that is there is no change.
pub async fn writing_the_same_changes_nothing(work: &dyn Workspace) {
    put(work, "t", "same").await;
    let again = work.write(&path("t"), WriteRequest::new("same")).await.unwrap();
    assert!(!again.changed && !again.created && again.diff.text.is_empty());
}

/// `CreateNew` fails on an existing file and leaves it alone.
pub async fn create_new_does_not_replace(work: &dyn Workspace) {
    put(work, "t", "old").await;
    let request = WriteRequest::new("new").with_mode(WriteMode::CreateNew);
    assert_eq!(
        work.write(&path("t"), request.clone()).await.unwrap_err().code(),
        "already_exists"
    );
    assert_eq!(text(work, "t").await, "old");
    assert!(work.write(&path("u"), request).await.unwrap().created);
}

/// `if_match` lets exactly the named content be replaced.
pub async fn a_stale_etag_is_a_conflict(work: &dyn Workspace) {
    put(work, "t", "first").await;
    let stale = WriteRequest::new("third").with_if_match(Etag::of(b"second"));
    assert_eq!(
        work.write(&path("t"), stale.clone()).await.unwrap_err().code(),
        "conflict"
    );
    assert_eq!(
        work.write(&path("none"), stale).await.unwrap_err().code(),
        "conflict"
    );
    let fresh = WriteRequest::new("third").with_if_match(Etag::of(b"first"));
    assert!(work.write(&path("t"), fresh).await.unwrap().changed);
    assert_eq!(text(work, "t").await, "third");
}

/// Missing directories are created unless that was ruled out.
pub async fn missing_parents_are_created_or_not(work: &dyn Workspace) {
    let strict = WriteRequest::new("x").with_parents(Parents::Require);
    assert_eq!(
        work.write(&path("a/b/c"), strict).await.unwrap_err().code(),
        "not_found"
    );
    put(work, "a/b/c", "x").await;
    assert_eq!(work.stat(&path("a/b")).await.unwrap().kind, EntryKind::Directory);
    work.mkdir(&path("d/e/f")).await.unwrap();
    work.mkdir(&path("d/e/f")).await.unwrap();
    assert_eq!(
        work.stat(&path("d/e/f")).await.unwrap().kind,
        EntryKind::Directory
    );
    assert!(work.mkdir(&path("a/b/c")).await.is_err());
}

/// If one edit fails, none has happened; later edits see what earlier ones did.
pub async fn edits_are_all_or_nothing(work: &dyn Workspace) {
    put(work, "t", "a\nb\n").await;
    let half = [Edit::new("a", "1"), Edit::new("zzz", "2")];
    assert_eq!(
        work.edit(&path("t"), EditRequest::new(half))
            .await
            .unwrap_err()
            .code(),
        "edit_not_found"
    );
    assert_eq!(text(work, "t").await, "a\nb\n");
    let chain = [
        Edit::new("a", "b"),
        Edit::new("b", "c").with_occurrences(Occurrences::Every),
    ];
    let done = work
        .edit(&path("t"), EditRequest::new(chain.clone()))
        .await
        .unwrap();
    assert_eq!(text(work, "t").await, "c\nc\n");
    assert_eq!((done.diff.added_lines, done.diff.removed_lines), (2, 2));
    assert_eq!(
        work.edit(&path("none"), EditRequest::new(chain))
            .await
            .unwrap_err()
            .code(),
        "not_found"
    );
    assert_eq!(
        work.edit(&path("t"), EditRequest::new([]))
            .await
            .unwrap_err()
            .code(),
        "invalid_request"
    );
    let back = EditRequest::new([Edit::new("c\nc", "a")]);
    let stale = back.clone().with_if_match(Etag::of(b"a\nb\n"));
    assert_eq!(work.edit(&path("t"), stale).await.unwrap_err().code(), "conflict");
    assert_eq!(text(work, "t").await, "c\nc\n");
    work.edit(&path("t"), back.with_if_match(done.etag))
        .await
        .unwrap();
    assert_eq!(text(work, "t").await, "a\n");
}

/// A text that occurs twice is not replaced unless every occurrence is meant.
pub async fn an_ambiguous_edit_is_refused(work: &dyn Workspace) {
    put(work, "t", "x = 1\ny = 1\n").await;
    assert_eq!(
        work.edit(&path("t"), Edit::new("1", "2").into())
            .await
            .unwrap_err()
            .code(),
        "edit_ambiguous"
    );
    work.edit(&path("t"), Edit::new("x = 1", "x = 2").into())
        .await
        .unwrap();
    assert_eq!(text(work, "t").await, "x = 2\ny = 1\n");
    work.write(&path("bin"), WriteRequest::new([0xFF, 0xFE, b'1']))
        .await
        .unwrap();
    assert_eq!(
        work.edit(&path("bin"), Edit::new("1", "2").into())
            .await
            .unwrap_err()
            .code(),
        "not_text"
    );
}

/// A unified diff is applied whole or not at all, and only where its old lines are.
pub async fn patches_are_all_or_nothing(work: &dyn Workspace) {
    put(work, "t", "a\nb\nc\n").await;
    let etag = Etag::of(b"a\nb\nc\n");
    let good = "--- a/t\n+++ b/t\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n";
    let half = format!("{good}@@ -9 +9 @@\n-z\n+Z\n");
    let patch = async |name: &str, request| work.patch(&path(name), request).await;
    let refused = patch("t", PatchRequest::new(half)).await.unwrap_err();
    assert_eq!(refused.code(), "patch_rejected");
    assert!(refused.to_string().starts_with("hunk 2 "), "{refused}");
    let stale = PatchRequest::new(good).with_if_match(Etag::of(b"other"));
    assert_eq!(patch("t", stale).await.unwrap_err().code(), "conflict");
    assert_eq!(text(work, "t").await, "a\nb\nc\n");
    let fresh = PatchRequest::new(good).with_if_match(etag);
    let done = patch("t", fresh).await.unwrap();
    assert_eq!(text(work, "t").await, "a\nB\nc\n");
    assert_eq!(
        (done.changed, done.diff.added_lines, done.diff.removed_lines),
        (true, 1, 1)
    );
    assert_eq!(
        patch("t", PatchRequest::new("B")).await.unwrap_err().code(),
        "invalid_patch"
    );
    let made = patch("u", PatchRequest::new("@@ -0,0 +1 @@\n+new\n"))
        .await
        .unwrap();
    assert!(made.created);
    assert_eq!(text(work, "u").await, "new\n");
}

/// What a write said of its change is a patch that makes the same change elsewhere.
pub async fn the_diff_of_a_write_is_a_patch(work: &dyn Workspace) {
    let (old, new) = (
        "1\n2\n3\n4\n5\n6\n7\n8\n9\n10",
        "0\n1\n2\n3\n4\n5\n6\n8\n9\nten\n",
    );
    put(work, "here", old).await;
    put(work, "there", old).await;
    let wrote = work.write(&path("here"), WriteRequest::new(new)).await.unwrap();
    let patched = work
        .patch(&path("there"), PatchRequest::new(wrote.diff.text))
        .await
        .unwrap();
    assert_eq!(patched.etag, wrote.etag);
}

/// What a content is as text is said, and its lines are found in every encoding.
pub async fn encodings_are_said(work: &dyn Workspace) {
    let wide: Vec<u8> = "\u{FEFF}é\nzwei\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let cases: [(&str, &[u8], Encoding, &str); 4] = [
        ("utf8", "é\nzwei\n".as_bytes(), Encoding::Utf8, "zwei\n"),
        ("utf16", &wide, Encoding::Utf16Le, "zwei\n"),
        ("latin1", b"a\n\xE9\n", Encoding::Latin1, "é\n"),
        ("binary", b"a\n\0\x01\n", Encoding::Binary, "\0\x01\n"),
    ];
    for (name, content, encoding, second) in cases {
        work.write(&path(name), WriteRequest::new(content)).await.unwrap();
        let range = ReadRange::Lines { first: 2, count: 1 };
        let read = work
            .read(&path(name), ReadOptions::default().with_range(range))
            .await
            .unwrap();
        assert_eq!(
            (read.encoding, read.text_lossy().as_str()),
            (encoding, second),
            "{name}"
        );
    }
}

/// What a write survives can be asked for; that it survives is for the backend to know.
pub async fn durability_can_be_chosen(work: &dyn Workspace) {
    for durability in [Durability::None, Durability::File, Durability::Full] {
        let request = WriteRequest::new(format!("{durability:?}")).with_durability(durability);
        assert!(work.write(&path("t"), request).await.unwrap().changed);
        assert_eq!(text(work, "t").await, format!("{durability:?}"));
    }
}

/// Operations on files refuse directories and the other way round.
pub async fn a_directory_is_not_a_file(work: &dyn Workspace) {
    put(work, "d/t", "x").await;
    assert_eq!(
        work.read(&path("d"), ReadOptions::default())
            .await
            .unwrap_err()
            .code(),
        "wrong_kind"
    );
    assert_eq!(
        work.write(&path("d"), WriteRequest::new("x"))
            .await
            .unwrap_err()
            .code(),
        "wrong_kind"
    );
    assert_eq!(work.list(&path("d/t"), 9).await.unwrap_err().code(), "wrong_kind");
    let below_a_file = work
        .write(&path("d/t/u"), WriteRequest::new("x"))
        .await
        .unwrap_err();
    assert_eq!(below_a_file.code(), "wrong_kind");
    assert_eq!(
        work.write(&RelPath::root(), WriteRequest::new("x"))
            .await
            .unwrap_err()
            .code(),
        "wrong_kind"
    );
}

/// Listings are in byte order, with kinds and sizes, and say when they are cut.
pub async fn listings_are_sorted_and_cut(work: &dyn Workspace) {
    for name in ["b", "a", "c/x"] {
        put(work, name, "12").await;
    }
    let all = work.list(&RelPath::root(), 10).await.unwrap();
    assert_eq!((names(&all.entries), all.truncated), (vec!["a", "b", "c"], false));
    assert_eq!(
        (all.entries[0].kind, all.entries[0].size_bytes),
        (EntryKind::File, 2)
    );
    assert_eq!(all.entries[2].kind, EntryKind::Directory);
    let some = work.list(&RelPath::root(), 2).await.unwrap();
    assert_eq!((names(&some.entries), some.truncated), (vec!["a", "b"], true));
    assert_eq!(names(&work.list(&path("c"), 10).await.unwrap().entries), ["c/x"]);
    assert_eq!(
        work.list(&path("none"), 10).await.unwrap_err().code(),
        "not_found"
    );
}

/// A directory with entries is only removed as a tree.
pub async fn removing_needs_the_right_mode(work: &dyn Workspace) {
    put(work, "d/e/t", "x").await;
    put(work, "f", "x").await;
    assert_eq!(
        work.remove(&path("d"), RemoveMode::One).await.unwrap_err().code(),
        "wrong_kind"
    );
    work.remove(&path("d"), RemoveMode::Tree).await.unwrap();
    work.remove(&path("f"), RemoveMode::One).await.unwrap();
    assert!(work.list(&RelPath::root(), 10).await.unwrap().entries.is_empty());
    assert_eq!(
        work.remove(&path("f"), RemoveMode::One).await.unwrap_err().code(),
        "not_found"
    );
    assert!(work.remove(&RelPath::root(), RemoveMode::Tree).await.is_err());
}

/// A rename moves files and directories, and replaces only when told to.
pub async fn renaming_does_not_replace_unasked(work: &dyn Workspace) {
    put(work, "a", "A").await;
    put(work, "b", "B").await;
    let refused = work
        .rename(&path("a"), &path("b"), RenameMode::NoReplace)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "already_exists");
    work.rename(&path("a"), &path("b"), RenameMode::Replace)
        .await
        .unwrap();
    assert_eq!(text(work, "b").await, "A");
    let gone = work
        .rename(&path("a"), &path("c"), RenameMode::NoReplace)
        .await
        .unwrap_err();
    assert_eq!(gone.code(), "not_found");
    put(work, "d/x", "X").await;
    let inside = work
        .rename(&path("d"), &path("d/y"), RenameMode::NoReplace)
        .await
        .unwrap_err();
    assert_eq!(inside.code(), "invalid_request");
    work.rename(&path("d"), &path("e"), RenameMode::NoReplace)
        .await
        .unwrap();
    assert_eq!(text(work, "e/x").await, "X");
}

/// A glob finds files by path, in byte order, and says when it is cut.
pub async fn globs_find_names_in_order(work: &dyn Workspace) {
    for name in ["a-b.rs", "a/b.rs", "a/c.txt", "a/d/e.rs", "z.rs"] {
        put(work, name, "x").await;
    }
    let glob = async |request| work.glob(request).await.unwrap();
    let all = glob(GlobRequest::new("*.rs")).await;
    assert_eq!(names(&all.hits), ["a-b.rs", "a/b.rs", "a/d/e.rs", "z.rs"]);
    assert_eq!(names(&glob(GlobRequest::new("a/*.rs")).await.hits), ["a/b.rs"]);
    assert_eq!(
        names(&glob(GlobRequest::new("a/**/*.rs")).await.hits),
        ["a/b.rs", "a/d/e.rs"]
    );
    let below = glob(GlobRequest::new("*.rs").with_path(path("a/d"))).await;
    assert_eq!(names(&below.hits), ["a/d/e.rs"]);
    let cut = glob(GlobRequest::new("*").with_max_hits(2)).await;
    assert_eq!((cut.hits.len(), cut.truncated), (2, true));
}

/// A grep finds lines by path and number, with context, and leaves binary files out.
pub async fn greps_find_lines_with_context(work: &dyn Workspace) {
    put(work, "b.txt", "zero\nneedle one\ntwo\n").await;
    put(work, "a.rs", "fn needle() {}\n").await;
    work.write(&path("c.bin"), WriteRequest::new(&b"needle\0needle"[..]))
        .await
        .unwrap();
    let found = work
        .grep(GrepRequest::new("need.e").with_context_lines(1))
        .await
        .unwrap();
    let at: Vec<_> = found
        .hits
        .iter()
        .map(|hit| (hit.path.as_str(), hit.line))
        .collect();
    assert_eq!(at, [("a.rs", 1), ("b.txt", 2)]);
    let hit = &found.hits[1];
    assert_eq!(
        (hit.text.as_str(), &hit.before[..], &hit.after[..]),
        ("needle one", &["zero".into()][..], &["two".into()][..])
    );
    assert_eq!(found.files_skipped, 1);
    let globbed = work
        .grep(GrepRequest::new("needle").with_glob("*.rs"))
        .await
        .unwrap();
    assert_eq!(globbed.hits.len(), 1);
    let single = work
        .grep(GrepRequest::new("needle").with_path(path("b.txt")))
        .await
        .unwrap();
    assert_eq!(single.hits.len(), 1);
    let cut = work
        .grep(GrepRequest::new("needle").with_max_hits(1))
        .await
        .unwrap();
    assert_eq!((cut.hits.len(), cut.truncated), (1, true));
}

/// What ignore files name is left out, unless asked for; the nearest rule decides.
pub async fn ignore_files_are_honoured(work: &dyn Workspace) {
    put(work, ".gitignore", "target/\n*.log\n/only-here\n").await;
    put(work, "sub/.gitignore", "!keep.log\n").await;
    for name in [
        "target/x",
        "a.log",
        "only-here",
        "sub/only-here",
        "sub/keep.log",
        "sub/b.log",
    ] {
        put(work, name, "x").await;
    }
    let found = work.glob(GlobRequest::new("*")).await.unwrap();
    let want = [".gitignore", "sub/.gitignore", "sub/keep.log", "sub/only-here"];
    assert_eq!(names(&found.hits), want);
    let below = work
        .glob(GlobRequest::new("*").with_path(path("sub")))
        .await
        .unwrap();
    assert_eq!(names(&below.hits), want[1..]);
    let all = work
        .glob(GlobRequest::new("*").with_ignore(IgnoreRules::Off))
        .await
        .unwrap();
    assert_eq!(all.hits.len(), 8);
}

/// Patterns that are none are typed errors.
pub async fn bad_patterns_are_errors(work: &dyn Workspace) {
    for pattern in ["", "[", "a{b", &"x".repeat(5000)] {
        assert_eq!(
            work.glob(GlobRequest::new(pattern)).await.unwrap_err().code(),
            "invalid_pattern"
        );
    }
    for pattern in ["", "(", "a{99999999}", &"x".repeat(5000)] {
        assert_eq!(
            work.grep(GrepRequest::new(pattern)).await.unwrap_err().code(),
            "invalid_pattern"
        );
    }
}

/// A diff of two snapshots names exactly the files that changed, and how.
pub async fn snapshots_show_what_changed(work: &dyn Workspace) {
    for (name, content) in [("same", "1\n"), ("edited", "1\n2\n"), ("gone", "1\n")] {
        put(work, name, content).await;
    }
    let before = work.snapshot().await.unwrap();
    assert!(work.diff(before, before).await.unwrap().is_empty());
    put(work, "edited", "1\n3\n").await;
    put(work, "new", "x\n").await;
    work.remove(&path("gone"), RemoveMode::One).await.unwrap();
    let after = work.snapshot().await.unwrap();
    let diff = work.diff(before, after).await.unwrap();
    let got: Vec<_> = diff.changes.iter().map(|c| (c.path.as_str(), c.kind)).collect();
    let want = [
        ("edited", ChangeKind::Modified),
        ("gone", ChangeKind::Deleted),
        ("new", ChangeKind::Created),
    ];
    assert_eq!(got, want);
    assert!(
        diff.changes[0].diff.text.contains("-2\n+3\n"),
        "{}",
        diff.changes[0].diff.text
    );
    assert_eq!((diff.changed_files, diff.truncated), (3, false));
    let unknown = crate::SnapshotId(u64::MAX);
    assert_eq!(
        work.diff(before, unknown).await.unwrap_err().code(),
        "unknown_snapshot"
    );
}
