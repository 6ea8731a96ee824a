//! Bytes on a boundary of a cache line: by themselves, or side by side in large pages.
//!
//! Decoding reads every weight for every token, so the weights lie in few large mappings, which the system is asked to
//! back with large pages: with pages of 4 KiB one thread decodes a seventh slower, because it waits for page tables.
#![allow(unsafe_code, reason = "parts of one mapping have different owners")]

use std::sync::Arc;

use memmap2::{MmapMut, MmapRaw};

/// Zeroed bytes; the first lies on a multiple of 64.
#[derive(Debug)]
pub(super) struct Lines {
    memory: Memory,
    start: usize,
    len: usize,
}

#[derive(Debug)]
enum Memory {
    Own(Vec<u8>),
    /// Nobody else has the bytes from `start` to `start + len`.
    Part(Arc<MmapRaw>),
}

const LINE: usize = 64;

impl Lines {
    /// Memory that the system hands out zeroed is not touched here, but by the first who writes.
    pub(super) fn zeroed(len: usize) -> Self {
        let buffer = vec![0; len + LINE];
        let start = buffer.as_ptr().align_offset(LINE).min(LINE);
        Self {
            memory: Memory::Own(buffer),
            start,
            len,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Own(buffer) => &buffer[self.start..self.start + self.len],
            // SAFETY: an `Arena` gave out these bytes, within the mapping, to nobody but `self`.
            Memory::Part(map) => unsafe {
                std::slice::from_raw_parts(map.as_ptr().add(self.start), self.len)
            },
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Own(buffer) => &mut buffer[self.start..self.start + self.len],
            // SAFETY: an `Arena` gave out these bytes, within the mapping, to nobody but `self`.
            Memory::Part(map) => unsafe {
                std::slice::from_raw_parts_mut(map.as_mut_ptr().add(self.start), self.len)
            },
        }
    }
}

impl Clone for Lines {
    /// The copy has memory and a boundary of its own.
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }
}

/// Gives out parts of large mappings, which live as long as the last of their parts.
#[derive(Debug, Default)]
pub(super) struct Arena {
    map: Option<Arc<MmapRaw>>,
    used: usize,
}

/// Address space that is taken at once; what nobody writes to takes no memory.
const MAPPING: usize = 64 << 20;

impl Arena {
    /// Where the system has no large memory to map, the bytes lie by themselves.
    pub(super) fn zeroed(&mut self, len: usize) -> Lines {
        let room = len.next_multiple_of(LINE);
        let full = self.map.as_ref().is_none_or(|map| map.len() - self.used < room);
        if full {
            (self.map, self.used) = (mapping(room.max(MAPPING)), 0);
        }
        let Some(map) = &self.map else {
            return Lines::zeroed(len);
        };
        let start = self.used;
        self.used += room;
        Lines {
            memory: Memory::Part(Arc::clone(map)),
            start,
            len,
        }
    }
}

fn mapping(len: usize) -> Option<Arc<MmapRaw>> {
    let map = MmapMut::map_anon(len).ok()?;
    // Advice: without it the bytes are the same.
    #[cfg(target_os = "linux")]
    drop(map.advise(memmap2::Advice::HugePage));
    Some(Arc::new(map.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_zeroed_aligned_and_do_not_overlap() {
        let mut arena = Arena::default();
        let lens = [1, 64, 0, MAPPING - 256, 4096, MAPPING + 1, 65];
        let mut parts: Vec<Lines> = lens.iter().map(|len| arena.zeroed(*len)).collect();
        for (i, part) in (1..).zip(&mut parts) {
            assert!(part.bytes().iter().all(|byte| *byte == 0));
            assert!(part.bytes().as_ptr().addr().is_multiple_of(LINE));
            part.bytes_mut().fill(i);
        }
        drop(arena);
        let copy = parts[1].clone();
        for ((i, part), len) in (1..).zip(&parts).zip(lens) {
            assert_eq!(part.bytes().len(), len);
            assert!(part.bytes().iter().all(|byte| *byte == i));
        }
        drop(parts);
        assert_eq!(copy.bytes(), [2; 64]);
    }
}
