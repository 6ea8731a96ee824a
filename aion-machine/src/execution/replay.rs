//! The last bytes that a program wrote to both streams, in the order in which they came.

use std::collections::VecDeque;

use super::follow::{ExecCursor, ExecEvent, OutputStream};

/// The most bytes of one event.
const MAX_CHUNK_BYTES: usize = 16 << 10;
/// What a chunk costs beside its bytes, so that many small ones count too.
const CHUNK_COST: usize = 64;

/// Bytes of one stream without a gap.
#[derive(Debug)]
struct Chunk {
    stream: OutputStream,
    /// How far both streams were before it.
    start: ExecCursor,
    bytes: Vec<u8>,
}

impl Chunk {
    fn end(&self) -> ExecCursor {
        self.start.after(self.stream, self.bytes.len() as u64)
    }
}

/// A bounded number of bytes; the oldest go first.
#[derive(Debug)]
pub(super) struct Replay {
    limit: usize,
    cost: usize,
    chunks: VecDeque<Chunk>,
    end: ExecCursor,
}

impl Replay {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            cost: 0,
            chunks: VecDeque::new(),
            end: ExecCursor::default(),
        }
    }

    /// How much was written.
    pub(super) fn end(&self) -> ExecCursor {
        self.end
    }

    pub(super) fn push(&mut self, stream: OutputStream, bytes: &[u8]) {
        if self.limit == 0 {
            return self.skip(stream, bytes.len() as u64);
        }
        for part in bytes.chunks(MAX_CHUNK_BYTES) {
            self.push_part(stream, part);
        }
    }

    fn push_part(&mut self, stream: OutputStream, part: &[u8]) {
        let end = self.end;
        let joins = |last: &&mut Chunk| {
            last.stream == stream && last.end() == end && last.bytes.len() + part.len() <= MAX_CHUNK_BYTES
        };
        if let Some(last) = self.chunks.back_mut().filter(joins) {
            last.bytes.extend_from_slice(part);
            self.cost += part.len();
        } else {
            let (start, bytes) = (self.end, part.to_vec());
            self.chunks.push_back(Chunk { stream, start, bytes });
            self.cost += part.len() + CHUNK_COST;
        }
        self.end = self.end.after(stream, part.len() as u64);
        while self.cost > self.limit {
            let Some(oldest) = self.chunks.pop_front() else {
                return;
            };
            self.cost -= oldest.bytes.len() + CHUNK_COST;
        }
    }

    /// Bytes that were written and cannot be had.
    pub(super) fn skip(&mut self, stream: OutputStream, bytes: u64) {
        self.end = self.end.after(stream, bytes);
    }

    /// The first event after a cursor, if there is one yet. Any cursor will do: one that never was between
    /// two events gets what each stream lacks.
    pub(super) fn after(&self, cursor: ExecCursor) -> Option<ExecEvent> {
        let is_seen = |chunk: &Chunk, stream: OutputStream| chunk.end().of(stream) <= cursor.of(stream);
        let first = self
            .chunks
            .partition_point(|chunk| OutputStream::ALL.iter().all(|stream| is_seen(chunk, *stream)));
        let next = self
            .chunks
            .range(first..)
            .find(|chunk| !is_seen(chunk, chunk.stream));
        let Some(chunk) = next else {
            return OutputStream::ALL
                .into_iter()
                .find_map(|stream| gap(stream, cursor, self.end));
        };
        gap(chunk.stream, cursor, chunk.start).or_else(|| {
            let (seen, start) = (cursor.of(chunk.stream), chunk.start.of(chunk.stream));
            // Not past the end of the chunk, because not all of it was seen.
            let skip = usize::try_from(seen - start).unwrap_or(usize::MAX);
            Some(ExecEvent::Output {
                stream: chunk.stream,
                offset: seen,
                bytes: chunk.bytes.get(skip..)?.to_vec(),
            })
        })
    }
}

/// What of a stream is lost between a cursor and what is kept.
fn gap(stream: OutputStream, cursor: ExecCursor, kept: ExecCursor) -> Option<ExecEvent> {
    let offset = cursor.of(stream);
    let bytes = kept.of(stream).checked_sub(offset).filter(|lost| *lost > 0)?;
    Some(ExecEvent::Omitted {
        stream,
        offset,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything after a cursor, as long as there is something.
    fn all(replay: &Replay, mut cursor: ExecCursor) -> Vec<ExecEvent> {
        let mut events = Vec::new();
        while let Some(event) = replay.after(cursor) {
            cursor = cursor.past(&event);
            events.push(event);
        }
        assert_eq!(cursor, replay.end());
        events
    }

    proptest! {
        /// Whatever is written and wherever a follower stands: what it gets is without a gap and without
        /// a repetition, its bytes are those that were written, and memory stays below the limit.
        #[test]
        fn nothing_is_repeated_and_what_is_missing_is_said(
            writes in prop::collection::vec((any::<bool>(), 1usize..40_000), 0..30),
            limit in 0usize..100_000,
            stop in 0usize..40,
        ) {
            let mut replay = Replay::new(limit);
            let mut whole = [Vec::new(), Vec::new()];
            for (number, (to_stdout, len)) in writes.iter().enumerate() {
                let stream = if *to_stdout { OutputStream::Stdout } else { OutputStream::Stderr };
                let bytes: Vec<u8> = (0..*len).map(|i| (number * 31 + i) as u8).collect();
                whole[stream as usize].extend_from_slice(&bytes);
                replay.push(stream, &bytes);
                prop_assert!(replay.cost <= limit);
            }
            let first = all(&replay, ExecCursor::default());
            let resumed = first.iter().take(stop).fold(ExecCursor::default(), ExecCursor::past);
            for (start, events) in [(ExecCursor::default(), &first), (resumed, &all(&replay, resumed))] {
                let mut at = start;
                for event in events {
                    if let ExecEvent::Output { stream, offset, bytes } = event {
                        let from = usize::try_from(*offset).unwrap();
                        prop_assert_eq!(&whole[*stream as usize][from..from + bytes.len()], &bytes[..]);
                    }
                    prop_assert_eq!(event.offset(), at.of(event.stream()));
                    at = at.past(event);
                }
            }
        }
    }

    #[test]
    fn a_gap_stays_where_it_was() {
        let mut replay = Replay::new(1 << 20);
        replay.push(OutputStream::Stdout, b"ab");
        replay.skip(OutputStream::Stdout, 5);
        replay.push(OutputStream::Stdout, b"cd");
        replay.skip(OutputStream::Stderr, 1);
        let events = all(&replay, ExecCursor::new(1, 0));
        let seen: Vec<_> = events
            .iter()
            .map(|event| (event.stream(), event.offset()))
            .collect();
        use OutputStream::{Stderr, Stdout};
        assert_eq!(seen, [(Stdout, 1), (Stdout, 2), (Stdout, 7), (Stderr, 0)]);
        assert!(matches!(events[1], ExecEvent::Omitted { bytes: 5, .. }));
    }

    #[test]
    fn a_cursor_from_elsewhere_is_no_harm() {
        let mut replay = Replay::new(1 << 20);
        replay.push(OutputStream::Stdout, b"abc");
        for cursor in [
            ExecCursor::new(9, 9),
            ExecCursor::new(0, 9),
            ExecCursor::new(u64::MAX, u64::MAX),
        ] {
            let _ = replay.after(cursor);
        }
        assert_eq!(replay.after(ExecCursor::new(3, 0)), None);
        replay.push(OutputStream::Stderr, b"def");
        let events = all(&replay, ExecCursor::new(1, 3));
        let rest = ExecEvent::Output {
            stream: OutputStream::Stdout,
            offset: 1,
            bytes: b"bc".to_vec(),
        };
        assert_eq!(events, [rest]);
    }
}
