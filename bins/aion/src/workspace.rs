//! The confined copy that a task works on, and what came of it.
//!
//! Symbolic links are not copied and never followed, `.git` stays out, and a file of the original is
//! replaced only when asked for and only if nobody else has changed it in the meantime.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Progress, sha256_file};
use crate::{Error, Result};

/// How much a copy may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyLimits {
    /// Files.
    pub files: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Directories below each other.
    pub depth: usize,
}

impl Default for CopyLimits {
    /// 10,000 files, 256 MiB, 32 levels.
    fn default() -> Self {
        Self {
            files: 10_000,
            bytes: 256 << 20,
            depth: 32,
        }
    }
}

impl CopyLimits {
    /// Sets the most files.
    #[must_use]
    pub fn with_files(mut self, files: usize) -> Self {
        self.files = files;
        self
    }

    /// Sets the most bytes.
    #[must_use]
    pub fn with_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }
}

/// One regular file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// Every regular file of a directory, by its path from there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The files.
    pub files: BTreeMap<String, FileEntry>,
    /// What was left out: links, devices, `.git`, names that are not UTF-8.
    #[serde(default)]
    pub skipped: Vec<String>,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was not there before.
    Created,
    /// It has other bytes.
    Modified,
    /// It is gone.
    Deleted,
}

/// A changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Path from the root.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
    /// Its size now.
    pub bytes: u64,
}

/// Copies the regular files of `from` into the new directory `to`, leaving out `except`.
///
/// # Errors
/// [`Error::TooMuchToCopy`] beyond a limit, [`Error::Io`] when something cannot be read or written.
pub fn copy_tree(from: &Path, to: &Path, except: &Path, limits: CopyLimits) -> Result<Manifest> {
    let mut walk = Walk::new(from, limits).except(except);
    walk.visit(from, 0)?;
    fs::create_dir_all(to).map_err(|e| Error::io("create", to, e))?;
    for dir in &walk.dirs {
        let dir = to.join(dir);
        fs::create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
    }
    for path in walk.manifest.files.keys() {
        let target = to.join(path);
        fs::copy(from.join(path), &target).map_err(|e| Error::io("copy to", &target, e))?;
    }
    Ok(walk.manifest)
}

/// Every regular file below `root`.
///
/// # Errors
/// As [`copy_tree`].
pub fn scan(root: &Path, limits: CopyLimits) -> Result<Manifest> {
    let mut walk = Walk::new(root, limits);
    walk.visit(root, 0)?;
    Ok(walk.manifest)
}

/// What differs, by path.
pub fn changes(before: &Manifest, after: &Manifest) -> Vec<Change> {
    let gone = before
        .files
        .keys()
        .filter(|path| !after.files.contains_key(*path))
        .map(|path| (path, ChangeKind::Deleted, 0));
    let here = after.files.iter().filter_map(|(path, now)| {
        let kind = match before.files.get(path) {
            None => ChangeKind::Created,
            Some(old) if old == now => return None,
            Some(_) => ChangeKind::Modified,
        };
        Some((path, kind, now.bytes))
    });
    let mut changes: Vec<_> = gone
        .chain(here)
        .map(|(path, kind, bytes)| Change {
            path: path.clone(),
            kind,
            bytes,
        })
        .collect();
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

/// Carries the changes from the copy at `from` back to the original at `to`.
///
/// # Errors
/// [`Error::ChangedMeanwhile`] before anything is written, when a file of the original is no longer
/// what was copied.
pub fn apply(changes: &[Change], base: &Manifest, from: &Path, to: &Path) -> Result<()> {
    for change in changes {
        check_unchanged(change, base, to)?;
    }
    for change in changes {
        let (source, target) = (from.join(&change.path), to.join(&change.path));
        if change.kind == ChangeKind::Deleted {
            fs::remove_file(&target).map_err(|e| Error::io("remove", &target, e))?;
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
        }
        // A whole file under another name first: a reader never sees half of it.
        let part = target.with_extension("aion-part");
        fs::copy(&source, &part).map_err(|e| Error::io("write", &part, e))?;
        fs::rename(&part, &target).map_err(|e| Error::io("write", &target, e))?;
    }
    Ok(())
}

/// Refuses to touch what is not what it was, or what a link leads away from the directory.
fn check_unchanged(change: &Change, base: &Manifest, to: &Path) -> Result<()> {
    let changed = || Error::ChangedMeanwhile(to.join(&change.path));
    let mut parent = PathBuf::new();
    for part in Path::new(&change.path)
        .parent()
        .unwrap_or(Path::new(""))
        .components()
    {
        parent.push(part);
        match fs::symlink_metadata(to.join(&parent)) {
            Ok(meta) if meta.is_dir() => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            _ => return Err(changed()),
        }
    }
    let target = to.join(&change.path);
    let same = match (base.files.get(&change.path), fs::symlink_metadata(&target)) {
        (None, Err(error)) => error.kind() == std::io::ErrorKind::NotFound,
        (Some(old), Ok(meta)) if meta.is_file() => entry(&target, &meta)?.sha256 == old.sha256,
        _ => false,
    };
    if same { Ok(()) } else { Err(changed()) }
}

fn entry(path: &Path, meta: &fs::Metadata) -> Result<FileEntry> {
    Ok(FileEntry {
        sha256: sha256_file(path, &Progress::quiet())?.as_str().to_owned(),
        bytes: meta.len(),
        executable: meta.permissions().mode() & 0o100 != 0,
    })
}

/// A walk that stops at its limits.
struct Walk<'a> {
    root: &'a Path,
    except: Option<PathBuf>,
    limits: CopyLimits,
    bytes: u64,
    dirs: Vec<String>,
    manifest: Manifest,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Path, limits: CopyLimits) -> Self {
        Self {
            root,
            except: None,
            limits,
            bytes: 0,
            dirs: Vec::new(),
            manifest: Manifest::default(),
        }
    }

    fn except(mut self, path: &Path) -> Self {
        self.except = fs::canonicalize(path).ok();
        self
    }

    fn visit(&mut self, dir: &Path, depth: usize) -> Result<()> {
        if depth > self.limits.depth {
            return Err(self.too_much("directories below each other", self.limits.depth as u64));
        }
        let mut entries: Vec<_> = fs::read_dir(dir)
            .map_err(|e| Error::io("read", dir, e))?
            .collect::<std::io::Result<_>>()
            .map_err(|e| Error::io("read", dir, e))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            self.take(&entry.path(), depth)?;
        }
        Ok(())
    }

    fn take(&mut self, path: &Path, depth: usize) -> Result<()> {
        let relative = path.strip_prefix(self.root).unwrap_or(path);
        let Some(name) = relative.to_str().map(str::to_owned) else {
            self.manifest
                .skipped
                .push(relative.to_string_lossy().into_owned());
            return Ok(());
        };
        let meta = fs::symlink_metadata(path).map_err(|e| Error::io("read", path, e))?;
        if meta.is_file() {
            return self.take_file(path, name, &meta);
        }
        let ours = self.except.is_some() && fs::canonicalize(path).ok() == self.except;
        if !meta.is_dir() || ours || path.file_name().is_some_and(|n| n == ".git") {
            self.manifest.skipped.push(name);
            return Ok(());
        }
        self.dirs.push(name);
        if self.dirs.len() > self.limits.files {
            return Err(self.too_much("directories", self.limits.files as u64));
        }
        self.visit(path, depth + 1)
    }

    fn take_file(&mut self, path: &Path, name: String, meta: &fs::Metadata) -> Result<()> {
        self.bytes += meta.len();
        if self.manifest.files.len() >= self.limits.files {
            return Err(self.too_much("files", self.limits.files as u64));
        }
        if self.bytes > self.limits.bytes {
            return Err(self.too_much("bytes", self.limits.bytes));
        }
        self.manifest.files.insert(name, entry(path, meta)?);
        Ok(())
    }

    fn too_much(&self, what: &'static str, limit: u64) -> Error {
        Error::TooMuchToCopy {
            dir: self.root.to_owned(),
            what,
            limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sub/.git")).unwrap();
        fs::write(dir.path().join("a.txt"), "a").unwrap();
        fs::write(dir.path().join("sub/b.sh"), "b").unwrap();
        fs::write(dir.path().join("sub/.git/config"), "secret").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        dir
    }

    #[test]
    fn a_copy_holds_the_regular_files_and_nothing_else() {
        let from = original();
        fs::create_dir(from.path().join("data")).unwrap();
        fs::write(from.path().join("data/x.db"), "x").unwrap();
        let to = tempfile::tempdir().unwrap();
        let limits = CopyLimits::default();
        let base = copy_tree(from.path(), to.path(), &from.path().join("data"), limits).unwrap();
        assert_eq!(base.files.keys().collect::<Vec<_>>(), ["a.txt", "sub/b.sh"]);
        assert_eq!(base.skipped, ["data", "link", "sub/.git"]);
        assert!(!to.path().join("link").exists());
        assert_eq!(scan(to.path(), limits).unwrap().files, base.files);
    }

    #[test]
    fn limits_stop_the_copy_before_it_begins() {
        let from = original();
        let to = tempfile::tempdir().unwrap();
        for limits in [
            CopyLimits::default().with_files(1),
            CopyLimits::default().with_bytes(1),
        ] {
            let target = to.path().join("copy");
            let error = copy_tree(from.path(), &target, Path::new("/none"), limits).unwrap_err();
            assert!(matches!(error, Error::TooMuchToCopy { .. }), "{error}");
            assert!(!target.exists());
        }
    }

    #[test]
    fn changes_go_back_only_to_what_was_copied() {
        let from = original();
        let to = tempfile::tempdir().unwrap();
        let limits = CopyLimits::default();
        let base = copy_tree(from.path(), to.path(), Path::new("/none"), limits).unwrap();
        fs::write(to.path().join("a.txt"), "changed").unwrap();
        fs::create_dir(to.path().join("new")).unwrap();
        fs::write(to.path().join("new/c.txt"), "c").unwrap();
        fs::remove_file(to.path().join("sub/b.sh")).unwrap();
        let found = changes(&base, &scan(to.path(), limits).unwrap());
        let kinds: Vec<_> = found.iter().map(|c| (c.path.as_str(), c.kind)).collect();
        use ChangeKind::{Created, Deleted, Modified};
        assert_eq!(
            kinds,
            [("a.txt", Modified), ("new/c.txt", Created), ("sub/b.sh", Deleted)]
        );
        apply(&found, &base, to.path(), from.path()).unwrap();
        assert_eq!(fs::read_to_string(from.path().join("a.txt")).unwrap(), "changed");
        assert!(!from.path().join("sub/b.sh").exists());
        let again = apply(&found, &base, to.path(), from.path()).unwrap_err();
        assert!(matches!(again, Error::ChangedMeanwhile(_)), "{again}");
    }

    #[test]
    fn a_link_in_the_original_is_not_followed() {
        let from = original();
        let away = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        let limits = CopyLimits::default();
        let base = copy_tree(from.path(), to.path(), Path::new("/none"), limits).unwrap();
        fs::create_dir(to.path().join("out")).unwrap();
        fs::write(to.path().join("out/c.txt"), "c").unwrap();
        std::os::unix::fs::symlink(away.path(), from.path().join("out")).unwrap();
        let found = changes(&base, &scan(to.path(), limits).unwrap());
        assert!(apply(&found, &base, to.path(), from.path()).is_err());
        assert!(!away.path().join("c.txt").exists());
    }
}
