//! A reader that counts: every read is checked against what is left of the file.

use std::io::Read;

use crate::error::{Error, Result};

pub(super) struct Counted<R> {
    inner: R,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl<R: Read> Counted<R> {
    pub(super) fn new(inner: R, len: u64) -> Self {
        Self {
            inner,
            offset: 0,
            len,
        }
    }

    pub(super) fn error(&self, reason: impl Into<String>) -> Error {
        Error::Gguf {
            offset: self.offset,
            reason: reason.into(),
        }
    }

    pub(super) fn left(&self) -> u64 {
        self.len - self.offset
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut buffer = [0; N];
        self.fill(&mut buffer)?;
        Ok(buffer)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        let wanted = buffer.len() as u64;
        if wanted > self.left() {
            return Err(self.error(format!(
                "the file ends: {wanted} bytes wanted, {} left",
                self.left()
            )));
        }
        self.inner
            .read_exact(buffer)
            .map_err(|error| self.error(format!("read failed: {error}")))?;
        self.offset += wanted;
        Ok(())
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    pub(super) fn string(&mut self, max_bytes: u64) -> Result<String> {
        let at = self.offset;
        let len = self.u64()?;
        if len > max_bytes || len > self.left() {
            let reason = format!(
                "a string of {len} bytes (limit {max_bytes}, {} left)",
                self.left()
            );
            return Err(Error::Gguf { offset: at, reason });
        }
        let mut buffer = vec![0; len as usize];
        self.fill(&mut buffer)?;
        String::from_utf8(buffer).map_err(|_| Error::Gguf {
            offset: at,
            reason: "a string is not UTF-8".into(),
        })
    }
}
