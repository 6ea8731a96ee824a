//! Digests of files, read in pieces.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Progress;
use crate::{Error, Result};

/// A SHA-256 as 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sha256Hex(String);

impl Sha256Hex {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The digest of a file.
///
/// # Errors
/// [`Error::Io`] when it cannot be read.
pub fn sha256_file(path: &Path, progress: &Progress) -> Result<Sha256Hex> {
    let (file, bytes) = open(path)?;
    hashed(Sha256::new(), file, bytes, path, progress).map(Sha256Hex)
}

fn open(path: &Path) -> Result<(File, u64)> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let bytes = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
    Ok((file, bytes))
}

/// The hexadecimal digits of the digest of what `hasher` has seen and a file of so many bytes.
fn hashed<D: Digest>(
    mut hasher: D,
    mut file: File,
    bytes: u64,
    path: &Path,
    progress: &Progress,
) -> Result<String> {
    let bar = progress.bar(bytes, "checking");
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer).map_err(|e| Error::io("read", path, e))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        bar.inc(n as u64);
    }
    bar.finish_and_clear();
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Checks a file against a digest from elsewhere.
///
/// # Errors
/// [`Error::WrongDigest`] when they differ.
pub(super) fn verify(path: &Path, expected: &str, progress: &Progress) -> Result<()> {
    let found = sha256_file(path, progress)?;
    if found.as_str().eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Error::WrongDigest {
        path: path.to_owned(),
        expected: expected.to_owned(),
        found: format!("SHA-256 {found}"),
    })
}

/// Checks a file against the SHA-1 by which git names its contents.
pub(super) fn verify_git(path: &Path, expected: &str, progress: &Progress) -> Result<()> {
    let (file, bytes) = open(path)?;
    let hasher = sha1::Sha1::new_with_prefix(format!("blob {bytes}\0"));
    let found = hashed(hasher, file, bytes, path, progress)?;
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Error::WrongDigest {
        path: path.to_owned(),
        expected: expected.to_owned(),
        found: format!("git's SHA-1 {found}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_published_one_and_a_changed_byte_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(&path, abc, &Progress::quiet()).unwrap();
        // `printf abc | git hash-object --stdin`
        verify_git(
            &path,
            "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f",
            &Progress::quiet(),
        )
        .unwrap();
        std::fs::write(&path, "abd").unwrap();
        assert!(
            verify_git(
                &path,
                "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f",
                &Progress::quiet()
            )
            .is_err()
        );
        let error = verify(&path, abc, &Progress::quiet()).unwrap_err();
        assert!(matches!(error, Error::WrongDigest { .. }), "{error}");
    }
}
