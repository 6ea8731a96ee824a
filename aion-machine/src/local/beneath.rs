//! Opening below a held directory: by the kernel where it can (`openat2`), else step by step (cap-std).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// How often a resolution that raced with a rename is tried again.
const MAX_RESOLVE_TRIES: usize = 128;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Who resolves the paths of a [`LocalMachine`](crate::LocalMachine). Neither lets a path leave its root, whatever
/// symbolic links do meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Resolution {
    /// The kernel, in one call: `openat2` with `RESOLVE_BENEATH`, `RESOLVE_NO_MAGICLINKS` and `RESOLVE_NO_XDEV`.
    Kernel,
    /// This process, opening one component after the other: where `openat2` is missing (Linux before 5.6,
    /// some containers) it takes several times as long.
    UserSpace,
}

/// What resolves paths below one directory.
#[derive(Debug)]
pub(crate) enum Beneath {
    Kernel,
    UserSpace { dir: Dir, mount: Mount },
}

impl Beneath {
    /// Tries `openat2` on the directory itself.
    pub(crate) fn over(dir: &OwnedFd) -> io::Result<Self> {
        match open_by_kernel(dir.as_fd(), Path::new("."), OFlags::PATH | OFlags::DIRECTORY) {
            Ok(_) => Ok(Self::Kernel),
            // A filter of system calls may say either for a call that it does not know.
            Err(Errno::NOSYS | Errno::PERM) => Ok(Self::UserSpace {
                dir: Dir::from_std_file(File::from(dir.try_clone()?)),
                mount: Mount::of(dir.as_fd())?,
            }),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn resolution(&self) -> Resolution {
        match self {
            Self::Kernel => Resolution::Kernel,
            Self::UserSpace { .. } => Resolution::UserSpace,
        }
    }

    /// Opens a path below the directory, for reading or as a place.
    pub(crate) fn open(&self, root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self {
            Self::Kernel => open_by_kernel(root, path, flags),
            Self::UserSpace { dir, mount } => {
                let fd = open_by_steps(dir, path, flags).map_err(|e| errno(&e))?;
                mount.check(fd)
            }
        }
    }

    /// Opens a path below the directory if the kernel knows all of it by heart.
    pub(crate) fn open_at_once(&self, root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Option<OwnedFd> {
        match self {
            Self::Kernel => {
                let how = BENEATH | ResolveFlags::CACHED;
                rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how).ok()
            }
            Self::UserSpace { .. } => None,
        }
    }

    /// Opens a name in a directory below; a link there is not followed.
    pub(crate) fn open_in(&self, dir: BorrowedFd<'_>, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW;
        match self {
            Self::Kernel => open_by_kernel(dir, name, flags),
            // One name, which is neither a link that is followed nor `..`, cannot lead anywhere else.
            Self::UserSpace { mount, .. } => mount.check(rustix::fs::openat(
                dir,
                name,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
            )?),
        }
    }
}

/// `openat2`, tried again when a concurrent rename made the kernel unsure.
fn open_by_kernel(dir: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    for _ in 0..MAX_RESOLVE_TRIES {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), BENEATH) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn open_by_steps(dir: &Dir, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    if flags.contains(OFlags::DIRECTORY) {
        let place = OwnedFd::from(dir.open_dir(path)?.into_std_file());
        if flags.contains(OFlags::PATH) {
            return Ok(place);
        }
        // What was opened is only a place; to read it is to open it once more, by itself.
        return Ok(rustix::fs::openat(
            &place,
            ".",
            flags | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
    }
    let mut options = OpenOptions::new();
    // The bits are of the kernel's type, which is that of the C library with another sign.
    options.read(true).custom_flags(flags.bits().cast_signed());
    Ok(OwnedFd::from(dir.open_with(path, &options)?.into_std()))
}

/// cap-std's own refusal of a path that leads outside has no number.
fn errno(error: &io::Error) -> Errno {
    match Errno::from_io_error(error) {
        Some(errno) => errno,
        None if error.kind() == io::ErrorKind::PermissionDenied => Errno::XDEV,
        None => Errno::IO,
    }
}

/// Which mount something is on: the number that the kernel gives it, or the device where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mount {
    id: Option<u64>,
    device: u64,
}

impl Mount {
    fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let device = rustix::fs::fstat(fd)?.st_dev;
        let info =
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap_or_default();
        let id = info
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        Ok(Self { id, device })
    }

    /// As `RESOLVE_NO_XDEV`: nothing on another mount.
    fn check(self, fd: OwnedFd) -> Result<OwnedFd, Errno> {
        let other = Self::of(fd.as_fd())?;
        let same = match (self.id, other.id) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.device == other.device,
        };
        if same { Ok(fd) } else { Err(Errno::XDEV) }
    }
}
