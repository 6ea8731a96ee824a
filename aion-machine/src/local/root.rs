//! A directory held open, and the one way to reach anything below it.
//!
//! Nothing here compares path texts: each path is resolved against the held directory ([`Beneath`]), and
//! every step that would leave it is refused, whatever symbolic links do in the meantime.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat as RawStat};
use rustix::io::Errno;

use super::beneath::{Beneath, Resolution};
use crate::{EntryKind, Error, RelPath, Result};

/// A directory held open by an `O_PATH` descriptor.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    path: PathBuf,
    beneath: Beneath,
}

impl Root {
    /// Holds a directory of the host that the operator chose.
    pub(crate) fn hold(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let fd = rustix::fs::open(
            &path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let beneath = Beneath::over(&fd)?;
        Ok(Self { fd, path, beneath })
    }

    /// Holds a directory below this one.
    pub(crate) fn descend(&self, path: &RelPath) -> Result<Self> {
        let fd = self.open(path, OFlags::PATH | OFlags::DIRECTORY)?;
        let beneath = Beneath::over(&fd).map_err(|e| Error::from_io("open", path, e))?;
        let below = if path.is_root() {
            self.path.clone()
        } else {
            self.path.join(path.as_str())
        };
        Ok(Self {
            fd,
            path: below,
            beneath,
        })
    }

    /// Where the directory was when it was opened: for the operator's eyes, and for the supervisor,
    /// which checks that it is still the same directory.
    pub(crate) fn host_path(&self) -> &Path {
        &self.path
    }

    /// Device and inode of the directory.
    pub(crate) fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.fd)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Who resolves paths.
    pub(crate) fn resolution(&self) -> Resolution {
        self.beneath.resolution()
    }

    /// Bytes that are free for writing on the file system of the directory.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let system = rustix::fs::fstatvfs(&self.fd)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }

    /// Opens something below for reading, or as a place.
    pub(crate) fn open(&self, path: &RelPath, flags: OFlags) -> Result<OwnedFd> {
        self.beneath
            .open(self.fd.as_fd(), path.as_path(), flags)
            .map_err(|e| Error::from_io("open", path, e.into()))
    }

    /// Opens something below for reading if no disk has to be asked for it.
    pub(crate) fn open_at_once(&self, path: &RelPath, flags: OFlags) -> Option<OwnedFd> {
        self.beneath.open_at_once(self.fd.as_fd(), path.as_path(), flags)
    }

    /// Opens a name in a directory below, which is not followed if it is a link.
    pub(crate) fn open_in(
        &self,
        dir: BorrowedFd<'_>,
        name: impl AsRef<Path>,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        self.beneath.open_in(dir, name.as_ref(), flags)
    }

    /// Opens a regular file in a directory below, and says its size; neither links nor pipes.
    pub(crate) fn open_regular_in(&self, dir: BorrowedFd<'_>, name: &str) -> Option<(File, u64)> {
        let fd = self
            .open_in(dir, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .ok()?;
        let stat = rustix::fs::fstat(&fd).ok()?;
        let is_file = kind_of(&stat) == EntryKind::File;
        is_file.then(|| (fd.into(), u64::try_from(stat.st_size).unwrap_or(0)))
    }

    /// Opens a regular file for reading. A pipe without a writer does not block.
    pub(crate) fn open_regular(&self, path: &RelPath) -> Result<(File, RawStat)> {
        let fd = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| Error::from_io("stat", path, e.into()))?;
        match kind_of(&stat) {
            EntryKind::File => Ok((File::from(fd), stat)),
            other => Err(Error::WrongKind {
                path: path.clone(),
                found: other.name(),
                needed: "file",
            }),
        }
    }

    /// Opens the directory that holds `path`, and the name in it.
    pub(crate) fn open_parent<'p>(&self, path: &'p RelPath) -> Result<(OwnedFd, &'p str)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::WrongKind {
                path: path.clone(),
                found: "directory",
                needed: "file",
            });
        };
        let dir = self.open(&parent, OFlags::RDONLY | OFlags::DIRECTORY);
        let dir = dir.map_err(|e| match e {
            Error::NotFound { .. } => Error::NotFound { path: parent },
            e => e,
        })?;
        Ok((dir, name))
    }

    /// What is at `path`, without following a link there.
    pub(crate) fn stat(&self, path: &RelPath) -> Result<RawStat> {
        if path.is_root() {
            return rustix::fs::fstat(&self.fd).map_err(|e| Error::from_io("stat", path, e.into()));
        }
        let (dir, name) = self.open_parent(path)?;
        stat_in(dir.as_fd(), name).map_err(|e| Error::from_io("stat", path, e.into()))
    }

    /// Creates a directory and those above it that are missing.
    pub(crate) fn create_dirs(&self, path: &RelPath) -> Result<()> {
        if path.is_root() || self.open(path, OFlags::PATH | OFlags::DIRECTORY).is_ok() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_dirs(&parent)?;
        }
        let (dir, name) = self.open_parent(path)?;
        match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => Ok(()),
            // Either another writer was faster, or it is not a directory, which opening it will say.
            Err(Errno::EXIST) => self.open(path, OFlags::PATH | OFlags::DIRECTORY).map(drop),
            Err(e) => Err(Error::from_io("create the directory", path, e.into())),
        }
    }
}

/// What a name in a directory is; a link is not followed.
pub(crate) fn stat_in(dir: BorrowedFd<'_>, name: &str) -> Result<RawStat, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The kind of a file from its mode bits.
pub(crate) fn kind_of(stat: &RawStat) -> EntryKind {
    kind_of_type(FileType::from_raw_mode(stat.st_mode))
}

/// The kind of a file from its type.
pub(crate) fn kind_of_type(file_type: FileType) -> EntryKind {
    match file_type {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        _ => EntryKind::Other,
    }
}
