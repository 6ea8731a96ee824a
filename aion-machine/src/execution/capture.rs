//! Keeping the beginning and the end of an output.

use std::collections::VecDeque;

use crate::Captured;

/// Bytes kept so far.
#[derive(Debug)]
pub(super) struct Capture {
    head_limit: usize,
    tail_limit: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total_bytes: u64,
}

impl Capture {
    pub(super) fn new(head_limit: usize, tail_limit: usize) -> Self {
        Self {
            head_limit,
            tail_limit,
            head: Vec::new(),
            tail: VecDeque::new(),
            total_bytes: 0,
        }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_limit - self.head.len()));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(self.tail_limit)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// Gives away what was kept.
    pub(super) fn take(&mut self) -> Captured {
        Captured {
            head: std::mem::take(&mut self.head),
            tail: std::mem::take(&mut self.tail).into(),
            total_bytes: self.total_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However the bytes arrive, the head is a prefix, the tail a suffix, and nothing is counted twice.
        #[test]
        fn head_and_tail_are_the_ends(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
            head in 0usize..30,
            tail in 0usize..30,
        ) {
            let mut capture = Capture::new(head, tail);
            chunks.iter().for_each(|chunk| capture.push(chunk));
            let all = chunks.concat();
            let got = capture.take();
            prop_assert_eq!(got.total_bytes, all.len() as u64);
            prop_assert!(all.starts_with(&got.head));
            prop_assert!(all.ends_with(&got.tail));
            prop_assert_eq!(got.head.len(), all.len().min(head));
            prop_assert_eq!(got.tail.len(), (all.len() - got.head.len()).min(tail));
        }
    }
}
