//! Keeping the beginning and the end of an output, and reading the rest so that nobody blocks on it.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Captured;

/// Bytes kept so far.
#[derive(Debug)]
pub(crate) struct Capture {
    head_limit: usize,
    tail_limit: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total_bytes: u64,
}

impl Capture {
    pub(crate) fn new(head_limit: usize, tail_limit: usize) -> Self {
        Self {
            head_limit,
            tail_limit,
            head: Vec::new(),
            tail: VecDeque::new(),
            total_bytes: 0,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_limit - self.head.len()));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(self.tail_limit)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    pub(crate) fn finish(self) -> Captured {
        Captured {
            head: self.head,
            tail: self.tail.into(),
            total_bytes: self.total_bytes,
        }
    }
}

/// Reads to the end, or until reading fails.
pub(crate) async fn drain(mut from: impl AsyncRead + Unpin, into: &mut Capture) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 {
            return;
        }
        into.push(&buffer[..n]);
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
            let got = capture.finish();
            prop_assert_eq!(got.total_bytes, all.len() as u64);
            prop_assert!(all.starts_with(&got.head));
            prop_assert!(all.ends_with(&got.tail));
            prop_assert_eq!(got.head.len(), all.len().min(head));
            prop_assert_eq!(got.tail.len(), (all.len() - got.head.len()).min(tail));
        }
    }
}
