//! Columns of numbers that every ranking makes anew, in memory that is used again.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Columns whose memory a thread keeps.
const KEPT: usize = 24;
/// Numbers of the longest of them.
const LONGEST: usize = 1 << 18;

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A column that gives its memory back to its thread.
#[derive(Debug)]
pub(crate) struct Floats(Vec<f32>);

impl Floats {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(FREE.with_borrow_mut(Vec::pop).unwrap_or_default())
    }
}

impl Deref for Floats {
    type Target = Vec<f32>;

    fn deref(&self) -> &Vec<f32> {
        &self.0
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut Vec<f32> {
        &mut self.0
    }
}

impl Drop for Floats {
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.0);
        if memory.capacity() == 0 || memory.capacity() > LONGEST {
            return;
        }
        memory.clear();
        // A thread that ends keeps nothing.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(memory);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_empty() {
        let mut first = Floats::new();
        first.resize(1_000, 1.0);
        let at = first.as_ptr();
        drop(first);
        let again = Floats::new();
        assert!(again.is_empty() && again.capacity() >= 1_000);
        assert_eq!(again.as_ptr(), at);
        let other = Floats::new();
        assert_ne!(other.as_ptr(), at);
    }

    #[test]
    fn what_is_very_long_is_not_kept() {
        let mut long = Floats::new();
        long.resize(LONGEST + 1, 1.0);
        drop(long);
        FREE.with_borrow(|free| assert!(free.iter().all(|memory| memory.capacity() <= LONGEST)));
    }
}
