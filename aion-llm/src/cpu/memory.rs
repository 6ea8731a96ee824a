//! Bytes on a boundary of a cache line.

/// Zeroed bytes; the first lies on a multiple of 64.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    start: usize,
    len: usize,
}

const LINE: usize = 64;

impl Lines {
    /// Memory that the system hands out zeroed is not touched here, but by the first who writes.
    pub(super) fn zeroed(len: usize) -> Self {
        let buffer = vec![0; len + LINE];
        let start = buffer.as_ptr().align_offset(LINE).min(LINE);
        Self { buffer, start, len }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.start + self.len]
    }
}

impl Clone for Lines {
    /// The copy has a boundary of its own.
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }
}
