//! A file's bytes without a copy: mapped into memory, read from disk as they are touched, shared with every other
//! process that maps the same file.
//!
//! `unsafe` because the contents of a mapping change when somebody writes to the file, which the compiler cannot
//! rule out. Weights are read as plain numbers, so changed bytes give other numbers and nothing worse; a file that is
//! cut short while it is mapped ends the process at the first touch behind its new end. Whoever replaces a model file
//! must therefore put the new one under its name in one step (a rename, as everything here does) and not write into it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::Path;

use bytes::Bytes;

/// Maps a regular file. Clones and slices of the result share the one mapping.
pub(crate) fn map(path: &Path) -> std::io::Result<Bytes> {
    // Asked by name first: opening a pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is only read, and only as plain bytes; what a writer from outside can do is said above.
    let map = unsafe { memmap2::Mmap::map(&file) }?;
    Ok(Bytes::from_owner(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_the_file_and_outlives_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"0123456789").unwrap();
        let part = map(&path).unwrap().slice(3..6);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&part[..], b"345");
    }

    #[test]
    fn what_is_no_file_is_an_error_and_an_empty_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(map(dir.path()).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(
            map(&dir.path().join("none")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        let empty = dir.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(map(&empty).unwrap().is_empty());
    }
}
