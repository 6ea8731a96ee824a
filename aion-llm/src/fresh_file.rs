//! A file that appears under its name whole or not at all.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What to do when there is a file of the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// [`Error::Exists`].
    #[default]
    Refuse,
    /// The new file takes its place.
    Replace,
}

/// What no other temporary name ends with, in whichever process or container that shares the directory.
pub(crate) fn fresh_suffix() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// A file under a temporary name beside its place; gone again unless it is put there.
#[derive(Debug)]
pub(crate) struct FreshFile {
    file: BufWriter<File>,
    path: PathBuf,
    staged: PathBuf,
}

impl FreshFile {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let staged = path.with_file_name(format!(".{name}.{}.part", fresh_suffix()));
        let file = File::create_new(&staged).map_err(Error::io(&staged))?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
            path: path.to_path_buf(),
            staged,
        })
    }

    /// Puts the file in its place.
    pub(crate) fn finish(self, overwrite: Overwrite) -> Result<()> {
        match overwrite {
            Overwrite::Replace => self.replace(),
            Overwrite::Refuse => self.place_new(),
        }
    }

    /// Puts the file in its place, whatever is there.
    pub(crate) fn replace(mut self) -> Result<()> {
        self.sync()?;
        std::fs::rename(&self.staged, &self.path).map_err(Error::io(&self.path))?;
        sync_parent(&self.path)
    }

    /// A hard link fails where a file of the name exists, even if it came since the work began.
    fn place_new(mut self) -> Result<()> {
        self.sync()?;
        match std::fs::hard_link(&self.staged, &self.path) {
            Ok(()) => sync_parent(&self.path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::Exists(self.path.clone()))
            }
            // A file system without links.
            Err(_) => {
                refuse_existing(&self.path, Overwrite::Refuse)?;
                std::fs::rename(&self.staged, &self.path).map_err(Error::io(&self.path))?;
                sync_parent(&self.path)
            }
        }
    }

    fn sync(&mut self) -> Result<()> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(Error::io(&self.path))
    }
}

impl Write for FreshFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for FreshFile {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _gone = std::fs::remove_file(&self.staged);
    }
}

/// Makes the names in a directory last through a power cut.
///
/// # Errors
/// [`Error::Io`] when it cannot be opened or written down.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    // Elsewhere a directory cannot be opened as a file.
    if cfg!(unix) {
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(Error::io(dir))?;
    }
    Ok(())
}

/// [`sync_dir`] of the directory that has this entry.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(dir) if dir != Path::new("") => sync_dir(dir),
        _ => sync_dir(Path::new(".")),
    }
}

/// Said before the work begins, so that nobody waits for nothing.
pub(crate) fn refuse_existing(path: &Path, overwrite: Overwrite) -> Result<()> {
    match overwrite {
        Overwrite::Refuse if path.exists() => Err(Error::Exists(path.to_path_buf())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str, overwrite: Overwrite) -> Result<()> {
        let mut file = FreshFile::create(path)?;
        file.write_all(text.as_bytes()).map_err(Error::io(path))?;
        file.finish(overwrite)
    }

    #[test]
    fn a_file_is_whole_or_not_there_and_never_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        drop(FreshFile::create(&path).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        write(&path, "one", Overwrite::Refuse).unwrap();
        assert!(matches!(
            write(&path, "two", Overwrite::Refuse),
            Err(Error::Exists(_))
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        write(&path, "two", Overwrite::Replace).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_is_not_there_cannot_be_written_down() {
        let dir = tempfile::tempdir().unwrap();
        sync_dir(dir.path()).unwrap();
        sync_parent(&dir.path().join("f")).unwrap();
        sync_parent(Path::new("f")).unwrap();
        assert!(matches!(sync_dir(&dir.path().join("none")), Err(Error::Io { .. })) || cfg!(not(unix)));
    }
}
