//! The first few of what several threads find, in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{GrepHit, RelPath, Stat};

/// What has a place in the order of the finds.
pub(crate) trait Find {
    /// The path, and the line in it.
    fn place(&self) -> (&RelPath, u64);
}

impl Find for Stat {
    fn place(&self) -> (&RelPath, u64) {
        (&self.path, 0)
    }
}

impl Find for GrepHit {
    fn place(&self) -> (&RelPath, u64) {
        (&self.path, self.line)
    }
}

/// The first finds of a walk by several threads: which ones does not depend on who was faster.
///
/// Threads hand over what they found in one run of files, in order. Between the files of a run there are no
/// others in the order of paths, so it is enough to put the runs in order.
pub(crate) struct First<T> {
    max: usize,
    found: Mutex<Found<T>>,
    /// There are enough; what lies behind the last of them is of no interest.
    enough: AtomicBool,
}

struct Found<T> {
    runs: Vec<Vec<T>>,
    finds: usize,
    last: Option<RelPath>,
    dropped: bool,
}

impl<T: Find> First<T> {
    pub(crate) fn new(max: usize) -> Self {
        let found = Found {
            runs: Vec::new(),
            finds: 0,
            last: None,
            dropped: false,
        };
        Self {
            max,
            found: Mutex::new(found),
            enough: AtomicBool::new(false),
        }
    }

    fn found(&self) -> MutexGuard<'_, Found<T>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a find at this path, or below it, could be among the first.
    pub(crate) fn wants(&self, path: &RelPath) -> bool {
        !self.enough.load(Ordering::Relaxed) || self.found().last.as_ref().is_some_and(|last| path <= last)
    }

    /// Takes what was found in one run of files.
    pub(crate) fn add(&self, run: Vec<T>) {
        if run.is_empty() {
            return;
        }
        let mut found = self.found();
        found.finds += run.len();
        found.runs.push(run);
        if found.finds > self.max.saturating_mul(2).saturating_add(64) {
            cut_runs(self.max, &mut found);
            let last = found.runs.last().and_then(|run| run.last());
            found.last = last.map(|find| find.place().0.clone());
            self.enough.store(true, Ordering::Relaxed);
        }
    }

    /// The first finds in order, and whether there were more.
    pub(crate) fn finish(self) -> (Vec<T>, bool) {
        let mut found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        cut_runs(self.max, &mut found);
        (found.runs.into_iter().flatten().collect(), found.dropped)
    }
}

/// Drops all but the first.
fn cut_runs<T: Find>(max: usize, found: &mut Found<T>) {
    let first = |run: &Vec<T>| run.first().map(|find| (find.place().0.clone(), find.place().1));
    found.runs.sort_by_cached_key(first);
    let mut room = max;
    for run in &mut found.runs {
        found.dropped |= run.len() > room;
        run.truncate(room);
        room -= run.len();
    }
    found.runs.retain(|run| !run.is_empty());
    found.finds = max - room;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the finds come: the first in order are kept, and it is said whether there were more.
        #[test]
        fn the_first_are_kept(order in Just((0..300_u64).collect::<Vec<_>>()).prop_shuffle(), max in 0_usize..310) {
            let first = First::new(max);
            for line in order {
                let path = RelPath::parse(&format!("f{:03}", line / 7)).unwrap();
                if first.wants(&path) {
                    first.add(vec![GrepHit::new(path, line, "")]);
                }
            }
            let (finds, more) = first.finish();
            let got: Vec<u64> = finds.iter().map(|find| find.line).collect();
            prop_assert_eq!(got, (0..300).take(max).collect::<Vec<_>>());
            prop_assert_eq!(more, max < 300);
        }
    }
}
