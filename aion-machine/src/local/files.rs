//! Reading and writing below a held directory.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, Gid, Mode, OFlags, RenameFlags, Stat as RawStat, Uid};
use rustix::io::{Errno, ReadWriteFlags};

use super::root::{Root, kind_of, stat_in};
use crate::{
    Durability, EditRequest, Encoding, EntryKind, Error, Etag, Listing, Parents, PatchRequest, ReadOptions,
    ReadOutput, ReadRange, RelPath, RemoveMode, RenameMode, Result, Stat, WriteMode, WriteOutput,
    WriteRequest,
};

/// Names of unfinished writes begin with this; they are left out of listings and searches.
pub(crate) const TEMPORARY_PREFIX: &str = ".aion.tmp.";
/// How far a file above the size limit is read in search of a line, in bytes.
const MAX_SCANNED_BYTES: u64 = 256 << 20;
/// Files up to this are read without another thread where they are in the kernel's memory.
const MAX_AT_ONCE_BYTES: usize = 64 << 10;
/// How many names of a directory are looked at to list it.
const MAX_LISTED_NAMES: usize = 200_000;
/// How deep a tree may be that is removed.
const MAX_REMOVE_DEPTH: usize = 256;

static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// What the functions of this file need to know of the machine.
#[derive(Debug, Clone)]
pub(crate) struct FileLimits {
    pub(crate) max_file_bytes: u64,
    pub(crate) max_diff_bytes: usize,
    pub(crate) durability: Durability,
    pub(crate) min_free_bytes: u64,
}

/// Reads a file or a part of it.
pub(crate) fn read(
    root: &Root,
    path: &RelPath,
    options: &ReadOptions,
    limits: &FileLimits,
) -> Result<ReadOutput> {
    let (file, stat) = root.open_regular(path)?;
    let fail = |e| Error::from_io("read", path, e);
    let limit = usize::try_from(limits.max_file_bytes).unwrap_or(usize::MAX);
    let options = options.clone().with_max_bytes(options.max_bytes.min(limit));
    if size_of(&stat) <= limits.max_file_bytes {
        let whole = read_whole(&file, path, size_of(&stat), limits.max_file_bytes)?;
        return Ok(ReadOutput::of(whole, &options));
    }
    let mut head = [0; 2];
    let got = file.read_at(&mut head, 0).map_err(fail)?;
    let mark = Encoding::marked(&head[..got]);
    if mark.is_some() && matches!(options.range, ReadRange::Lines { .. }) {
        Error::check_size(path, size_of(&stat), limits.max_file_bytes)?;
    }
    let part = part_of_large(file, &options).map_err(fail)?;
    Ok(crate::range::finish(
        part.bytes,
        part.truncated,
        mark,
        size_of(&stat),
    ))
}

/// Some bytes of a file, and whether more follow that were wanted or not.
struct Part {
    bytes: Vec<u8>,
    truncated: bool,
}

/// Reads a content that had this size when the file was opened.
fn read_whole(file: &File, path: &RelPath, size_bytes: u64, limit_bytes: u64) -> Result<Vec<u8>> {
    // One byte more than there should be: a read that does not fill it has seen the end.
    let mut whole = Vec::with_capacity(usize::try_from(size_bytes.min(limit_bytes)).unwrap_or(0) + 1);
    let read = rustix::io::read(file, rustix::buffer::spare_capacity(&mut whole));
    let full = match read {
        Ok(_) => whole.len() == whole.capacity(),
        Err(Errno::INTR) => true,
        Err(e) => return Err(Error::from_io("read", path, e.into())),
    };
    if full {
        let left = (limit_bytes + 1).saturating_sub(whole.len() as u64);
        let read = file.take(left).read_to_end(&mut whole);
        read.map_err(|e| Error::from_io("read", path, e))?;
    }
    Error::check_size(path, whole.len() as u64, limit_bytes)?;
    Ok(whole)
}

/// Reads a small file if that takes no waiting: what is not in the kernel's memory is `None`, and so is
/// every failure, for which the usual way has the right words.
pub(crate) fn read_at_once(
    root: &Root,
    path: &RelPath,
    options: &ReadOptions,
    limits: &FileLimits,
) -> Option<ReadOutput> {
    let file = root.open_at_once(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let size = usize::try_from(size_of(&stat)).ok()?;
    if kind_of(&stat) != EntryKind::File || size > MAX_AT_ONCE_BYTES || size as u64 > limits.max_file_bytes {
        return None;
    }
    let mut whole = vec![0; size + 1];
    let mut room = [std::io::IoSliceMut::new(&mut whole)];
    let got = rustix::io::preadv2(&file, &mut room, 0, ReadWriteFlags::NOWAIT).ok()?;
    if got != size {
        return None;
    }
    whole.truncate(size);
    Some(ReadOutput::of(whole, options))
}

/// The same for a file that is too large to hold; lines before the wanted ones are read and dropped.
fn part_of_large(file: File, options: &ReadOptions) -> std::io::Result<Part> {
    let (offset, len) = match options.range {
        ReadRange::All => (0, u64::MAX),
        ReadRange::Bytes { offset, len } => (offset, len),
        ReadRange::Lines { first, count } => {
            return lines_of_large(file, first.max(1), count, options.max_bytes);
        }
    };
    let want = usize::try_from(len).unwrap_or(usize::MAX).min(options.max_bytes);
    let mut bytes = vec![0; want];
    let mut have = 0;
    while have < want {
        match file.read_at(&mut bytes[have..], offset.saturating_add(have as u64))? {
            0 => break,
            n => have += n,
        }
    }
    bytes.truncate(have);
    Ok(Part {
        bytes,
        truncated: true,
    })
}

fn lines_of_large(file: File, first: u64, count: u64, max_bytes: usize) -> std::io::Result<Part> {
    let mut reader = BufReader::with_capacity(1 << 16, file.take(MAX_SCANNED_BYTES));
    for _ in 1..first {
        if reader.skip_until(b'\n')? == 0 {
            break;
        }
    }
    let mut bytes = Vec::new();
    for _ in 0..count {
        let left = max_bytes - bytes.len();
        if left == 0 || (&mut reader).take(left as u64).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
    }
    Ok(Part {
        bytes,
        truncated: true,
    })
}

/// Writes a whole file; see [`crate::Workspace::write`].
pub(crate) fn write(
    root: &Root,
    path: &RelPath,
    request: &WriteRequest,
    limits: &FileLimits,
) -> Result<WriteOutput> {
    Error::check_size(path, request.content.len() as u64, limits.max_file_bytes)?;
    if request.parents == Parents::Create
        && let Some(parent) = path.parent()
    {
        root.create_dirs(&parent)?;
    }
    let (dir, name) = root.open_parent(path)?;
    let old = existing(root, path, &dir, name, limits)?;
    check_conditions(path, request, old.as_ref())?;
    let before = old.as_ref().map_or(&[][..], |old| &old.content);
    if old.is_some() && before == request.content {
        return Ok(outcome(path, old.as_ref(), &request.content, limits));
    }
    let replace = if request.mode == WriteMode::CreateNew {
        RenameMode::NoReplace
    } else {
        RenameMode::Replace
    };
    let target = Target {
        dir: &dir,
        name,
        path,
        replace,
        old: old.as_ref(),
    };
    check_room(root, path, request.content.len(), limits)?;
    replace_content(
        &target,
        &request.content,
        request.durability.unwrap_or(limits.durability),
    )?;
    Ok(outcome(path, old.as_ref(), &request.content, limits))
}

/// Replaces exact texts; see [`crate::Workspace::edit`].
pub(crate) fn edit(
    root: &Root,
    path: &RelPath,
    request: &EditRequest,
    limits: &FileLimits,
) -> Result<WriteOutput> {
    let (dir, name) = root.open_parent(path)?;
    let Some(old) = existing(root, path, &dir, name, limits)? else {
        return Err(Error::NotFound { path: path.clone() });
    };
    check_etag(path, request.if_match.as_ref(), Some(&old))?;
    let text = text_of(path, &old.content)?;
    let new = crate::apply_edits(path, text, &request.edits, limits.max_file_bytes)?.into_bytes();
    let limits = FileLimits {
        durability: request.durability.unwrap_or(limits.durability),
        ..limits.clone()
    };
    put_changed(root, path, (&dir, name), Some(&old), &new, &limits)
}

/// Applies a unified diff; see [`crate::Workspace::patch`].
pub(crate) fn patch(
    root: &Root,
    path: &RelPath,
    request: &PatchRequest,
    limits: &FileLimits,
) -> Result<WriteOutput> {
    let (dir, name) = root.open_parent(path)?;
    let old = existing(root, path, &dir, name, limits)?;
    check_etag(path, request.if_match.as_ref(), old.as_ref())?;
    let before = old.as_ref().map_or(&[][..], |old| &old.content);
    let text = text_of(path, before)?;
    let new = crate::apply_patch(path, text, &request.patch, limits.max_file_bytes)?.into_bytes();
    let limits = FileLimits {
        durability: request.durability.unwrap_or(limits.durability),
        ..limits.clone()
    };
    put_changed(root, path, (&dir, name), old.as_ref(), &new, &limits)
}

fn text_of<'c>(path: &RelPath, content: &'c [u8]) -> Result<&'c str> {
    std::str::from_utf8(content).map_err(|_| Error::NotText { path: path.clone() })
}

/// Writes a content that was made from the old one, if it is another one.
fn put_changed(
    root: &Root,
    path: &RelPath,
    (dir, name): (&OwnedFd, &str),
    old: Option<&Existing>,
    new: &[u8],
    limits: &FileLimits,
) -> Result<WriteOutput> {
    if old.is_none_or(|old| old.content != *new) {
        let replace = match old {
            Some(_) => RenameMode::Replace,
            None => RenameMode::NoReplace,
        };
        let target = Target {
            dir,
            name,
            path,
            replace,
            old,
        };
        check_room(root, path, new.len(), limits)?;
        replace_content(&target, new, limits.durability)?;
    }
    Ok(outcome(path, old, new, limits))
}

/// Some room is left to the host; what would take of it is refused before anything is written.
fn check_room(root: &Root, path: &RelPath, size_bytes: usize, limits: &FileLimits) -> Result<()> {
    if limits.min_free_bytes == 0 {
        return Ok(());
    }
    let free_bytes = root
        .free_bytes()
        .map_err(|e| Error::from_io("look at the disk of", path, e))?;
    if free_bytes < limits.min_free_bytes.saturating_add(size_bytes as u64) {
        return Err(Error::NoSpace { path: path.clone() });
    }
    Ok(())
}

/// The file that a write would replace.
struct Existing {
    content: Vec<u8>,
    stat: RawStat,
}

/// Reads the file at a name, if there is one; anything else than a plain file is refused.
fn existing(
    root: &Root,
    path: &RelPath,
    dir: &OwnedFd,
    name: &str,
    limits: &FileLimits,
) -> Result<Option<Existing>> {
    let stat = match stat_in(dir.as_fd(), name) {
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(Error::from_io("stat", path, e.into())),
        Ok(stat) => stat,
    };
    let kind = kind_of(&stat);
    if kind != EntryKind::File {
        return Err(Error::WrongKind {
            path: path.clone(),
            found: kind.name(),
            needed: "file",
        });
    }
    if stat.st_nlink > 1 {
        return Err(Error::HardLinked {
            path: path.clone(),
            links: stat.st_nlink as u64,
        });
    }
    let (file, stat) = root.open_regular(path)?;
    let content = read_whole(&file, path, size_of(&stat), limits.max_file_bytes)?;
    Ok(Some(Existing { content, stat }))
}

fn check_conditions(path: &RelPath, request: &WriteRequest, old: Option<&Existing>) -> Result<()> {
    if request.mode == WriteMode::CreateNew && old.is_some() {
        return Err(Error::Exists { path: path.clone() });
    }
    check_etag(path, request.if_match.as_ref(), old)
}

fn check_etag(path: &RelPath, expected: Option<&Etag>, old: Option<&Existing>) -> Result<()> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let found = old.map(|old| Etag::of(&old.content));
    if found.as_ref() == Some(expected) {
        return Ok(());
    }
    let found = found.map_or_else(|| "nothing".to_owned(), |etag| etag.to_string());
    Err(Error::Conflict {
        path: path.clone(),
        expected: expected.to_string(),
        found,
    })
}

fn outcome(path: &RelPath, old: Option<&Existing>, new: &[u8], limits: &FileLimits) -> WriteOutput {
    let before = old.map(|old| old.content.as_slice());
    WriteOutput::between(path, before, new, limits.max_diff_bytes)
}

/// Where a content goes.
struct Target<'a> {
    dir: &'a OwnedFd,
    name: &'a str,
    path: &'a RelPath,
    replace: RenameMode,
    old: Option<&'a Existing>,
}

/// Writes a temporary file beside the target and renames it; on failure the target is untouched.
fn replace_content(target: &Target<'_>, content: &[u8], durability: Durability) -> Result<()> {
    let temporary = format!(
        "{TEMPORARY_PREFIX}{}.{}",
        std::process::id(),
        NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed)
    );
    let done = write_temporary(target, &temporary, content, durability)
        .and_then(|()| rename_in(target, &temporary))
        .and_then(|()| {
            if durability == Durability::Full {
                Ok(rustix::fs::fsync(target.dir)?)
            } else {
                Ok(())
            }
        });
    done.map_err(|e| {
        let _ = rustix::fs::unlinkat(target.dir, temporary.as_str(), AtFlags::empty());
        Error::from_io("write", target.path, e)
    })
}

fn write_temporary(
    target: &Target<'_>,
    name: &str,
    content: &[u8],
    durability: Durability,
) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // New files get what the umask leaves of 666; replaced ones keep their mode without set-id bits.
    let fd = match rustix::fs::openat(target.dir, name, flags, Mode::from_raw_mode(0o666)) {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(target.dir, name, AtFlags::empty())?;
            rustix::fs::openat(target.dir, name, flags, Mode::from_raw_mode(0o666))?
        }
        other => other?,
    };
    if let Some(old) = target.old {
        keep_owner(&fd, &old.stat)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(old.stat.st_mode & 0o777))?;
    }
    let mut file = File::from(fd);
    file.write_all(content)?;
    if durability != Durability::None {
        file.sync_data()?;
    }
    Ok(())
}

/// A replaced file stays its owner's, where this process may give files away.
fn keep_owner(fd: &OwnedFd, old: &RawStat) -> std::io::Result<()> {
    let new = rustix::fs::fstat(fd)?;
    if (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
    match rustix::fs::fchown(fd, Some(uid), Some(gid)) {
        Err(Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}

fn rename_in(target: &Target<'_>, temporary: &str) -> std::io::Result<()> {
    let flags = match target.replace {
        RenameMode::NoReplace => RenameFlags::NOREPLACE,
        RenameMode::Replace => RenameFlags::empty(),
    };
    Ok(rustix::fs::renameat_with(
        target.dir,
        temporary,
        target.dir,
        target.name,
        flags,
    )?)
}

/// What is at a path.
pub(crate) fn stat(root: &Root, path: &RelPath) -> Result<Stat> {
    Ok(stat_from(path.clone(), &root.stat(path)?))
}

/// The public form of what the system says.
pub(crate) fn stat_from(path: RelPath, raw: &RawStat) -> Stat {
    let kind = kind_of(raw);
    let size_bytes = if kind == EntryKind::File { size_of(raw) } else { 0 };
    let modified_ms = raw.st_mtime * 1000 + (raw.st_mtime_nsec / 1_000_000) as i64;
    Stat {
        path,
        kind,
        size_bytes,
        modified_ms,
    }
}

fn size_of(stat: &RawStat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The entries of a directory, the first of so many names.
pub(crate) fn list(root: &Root, path: &RelPath, max_entries: usize) -> Result<Listing> {
    list_of(root, path, max_entries, MAX_LISTED_NAMES)
}

/// The same with another limit of names: a program can make millions of them.
fn list_of(root: &Root, path: &RelPath, max_entries: usize, max_names: usize) -> Result<Listing> {
    let fail = |e: Errno| Error::from_io("list", path, e.into());
    let fd = root.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut listing = Listing {
        entries: Vec::new(),
        truncated: false,
        unnamable: 0,
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&fd).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let Some(name) = listed_name(entry.file_name()) else {
            continue;
        };
        if names.len() as u64 + listing.unnamable == max_names as u64 {
            listing.truncated = true;
            break;
        }
        match name.and_then(|name| RelPath::parse(name).ok()) {
            Some(below) => names.push(below),
            None => listing.unnamable += 1,
        }
    }
    // Sorted before they are cut, so that the answer is stable.
    names.sort_unstable();
    for name in names {
        // One that went meanwhile is none.
        let Ok(raw) = stat_in(fd.as_fd(), name.as_str()) else {
            continue;
        };
        if listing.entries.len() == max_entries {
            listing.truncated = true;
            break;
        }
        listing.entries.push(stat_from(path.join(&name)?, &raw));
    }
    Ok(listing)
}

/// `None` for entries that are not shown, `Some(None)` for names that are not UTF-8.
pub(crate) fn listed_name(name: &CStr) -> Option<Option<&str>> {
    let text = name.to_str().ok();
    match text {
        Some("." | "..") => None,
        Some(text) if text.starts_with(TEMPORARY_PREFIX) => None,
        other => Some(other),
    }
}

/// Removes an entry.
pub(crate) fn remove(root: &Root, path: &RelPath, mode: RemoveMode) -> Result<()> {
    let fail = |e: Errno| match e {
        Errno::NOTEMPTY => Error::WrongKind {
            path: path.clone(),
            found: "directory with entries",
            needed: "file or empty directory",
        },
        e => Error::from_io("remove", path, e.into()),
    };
    let (dir, name) = root.open_parent(path)?;
    let is_dir = kind_of(&stat_in(dir.as_fd(), name).map_err(fail)?) == EntryKind::Directory;
    if is_dir && mode == RemoveMode::Tree {
        let name = CString::new(name).map_err(|_| Error::from(crate::PathError::Nul))?;
        remove_entries(root, &dir, &name, 0).map_err(fail)?;
    }
    let flags = if is_dir {
        AtFlags::REMOVEDIR
    } else {
        AtFlags::empty()
    };
    rustix::fs::unlinkat(&dir, name, flags).map_err(fail)
}

/// Empties a directory; links in it are removed, never followed.
fn remove_entries(root: &Root, parent: &OwnedFd, name: &CStr, depth: usize) -> Result<(), Errno> {
    if depth == MAX_REMOVE_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let name = Path::new(OsStr::from_bytes(name.to_bytes()));
    let dir = root.open_in(parent.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let entries: Vec<_> = Dir::read_from(&dir)?.collect::<Result<_, _>>()?;
    for entry in entries
        .iter()
        .filter(|e| !matches!(e.file_name().to_bytes(), b"." | b".."))
    {
        let name = entry.file_name();
        let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if kind_of(&stat) == EntryKind::Directory {
            remove_entries(root, &dir, name, depth + 1)?;
            rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)?;
        } else {
            rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Gives an entry another name.
pub(crate) fn rename(root: &Root, from: &RelPath, to: &RelPath, mode: RenameMode) -> Result<()> {
    let (from_dir, from_name) = root.open_parent(from)?;
    stat_in(from_dir.as_fd(), from_name).map_err(|e| Error::from_io("rename", from, e.into()))?;
    let (to_dir, to_name) = root.open_parent(to)?;
    let flags = match mode {
        RenameMode::NoReplace => RenameFlags::NOREPLACE,
        RenameMode::Replace => RenameFlags::empty(),
    };
    match rustix::fs::renameat_with(&from_dir, from_name, &to_dir, to_name, flags) {
        Err(Errno::INVAL) => Err(Error::invalid("a directory cannot be moved into itself")),
        other => other.map_err(|e| Error::from_io("rename", to, e.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many names a directory has, only so many are held, and the answer says that there are more.
    #[test]
    fn a_directory_of_very_many_names_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..20 {
            std::fs::write(dir.path().join(format!("f{i:02}")), "").unwrap();
        }
        let root = Root::hold(dir.path()).unwrap();
        let list = |entries, names| {
            let found = list_of(&root, &RelPath::root(), entries, names).unwrap();
            let first = found.entries.first().map(|entry| entry.path.to_string());
            (found.entries.len(), found.truncated, first)
        };
        assert_eq!(list(100, 100), (20, false, Some("f00".to_owned())));
        assert_eq!(list(20, 20), (20, false, Some("f00".to_owned())));
        assert_eq!(list(5, 100), (5, true, Some("f00".to_owned())));
        let (found, cut, _) = list(100, 7);
        assert_eq!((found, cut), (7, true));
    }
}
