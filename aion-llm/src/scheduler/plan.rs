//! What one pass over the weights does for whom.

/// What a sequence is ready to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// One more token of a text that is being made.
    Write,
    /// The rest of a given text: `held` of `total` tokens are in the cache.
    Read {
        /// Tokens in the cache.
        held: usize,
        /// Tokens of the text.
        total: usize,
    },
    /// Nothing in this pass: another sequence computes what this one needs.
    Wait,
}

/// How many tokens each sequence runs in the next pass.
///
/// Whoever writes always runs. Readers share at most `chunk` tokens, in turn from `first` on: the first whose turn it
/// is gets its next whole chunk, others what still fits. So a long text delays those who write by no more than one
/// chunk a pass, and every reader's turn comes. Chunks end at the multiples of `chunk`, so a chunk is the same
/// whatever came before it.
pub(crate) fn plan(wishes: &[Wish], first: usize, chunk: usize) -> Vec<usize> {
    let mut rows: Vec<usize> = wishes
        .iter()
        .map(|wish| usize::from(*wish == Wish::Write))
        .collect();
    let mut left = chunk;
    for i in (0..wishes.len()).map(|i| (first + i) % wishes.len()) {
        let Wish::Read { held, total } = wishes[i] else {
            continue;
        };
        let wanted = chunk_end(held, total, chunk) - held;
        if wanted <= left {
            rows[i] = wanted;
            left -= wanted;
        }
    }
    rows
}

/// The end of the chunk that begins at `start`.
fn chunk_end(start: usize, end: usize, chunk: usize) -> usize {
    end.min((start / chunk + 1) * chunk)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(held: usize, total: usize) -> Wish {
        Wish::Read { held, total }
    }

    #[test]
    fn chunks_lie_on_fixed_boundaries() {
        let cut = |held, total| plan(&[read(held, total)], 0, 4)[0];
        assert_eq!([cut(0, 10), cut(4, 10), cut(8, 10), cut(6, 9)], [4, 4, 2, 2]);
    }

    #[test]
    fn short_prompts_share_a_pass_and_writers_always_run() {
        let wishes = [Wish::Write, read(0, 100), read(0, 3), Wish::Wait, Wish::Write];
        assert_eq!(plan(&wishes, 0, 16), [1, 16, 0, 0, 1]);
        assert_eq!(plan(&wishes, 2, 16), [1, 0, 3, 0, 1]);
        assert_eq!(plan(&[read(0, 3), read(0, 9), read(0, 5)], 0, 16), [3, 9, 0]);
        assert_eq!(plan(&[], 0, 16), [0usize; 0]);
    }

    proptest! {
        /// Writers run in every pass, readers share one chunk, and when the turn passes on each time, every text is
        /// read within as many passes as there are readers and chunks.
        #[test]
        fn nobody_stalls_and_nobody_starves(totals in proptest::collection::vec(1usize..200, 1..12), chunk in 1usize..40) {
            let mut held = vec![0; totals.len()];
            let mut passes = 0;
            let chunks: usize = totals.iter().map(|total| total.div_ceil(chunk)).sum();
            let mut first = 0;
            while held != totals {
                let readers = held.iter().zip(&totals).map(|(held, total)| {
                    if held < total { read(*held, *total) } else { Wish::Write }
                });
                let wishes: Vec<Wish> = readers.collect();
                let rows = plan(&wishes, first, chunk);
                let read: usize = wishes.iter().zip(&rows).filter(|(w, _)| **w != Wish::Write).map(|(_, n)| n).sum();
                prop_assert!(read >= 1 && read <= chunk);
                prop_assert!(wishes.iter().zip(&rows).all(|(w, n)| *w != Wish::Write || *n == 1));
                for ((held, wish), n) in held.iter_mut().zip(&wishes).zip(&rows) {
                    *held += if *wish == Wish::Write { 0 } else { *n };
                }
                first += 1;
                passes += 1;
                prop_assert!(passes <= chunks, "{passes} passes for {chunks} chunks");
            }
        }
    }
}
