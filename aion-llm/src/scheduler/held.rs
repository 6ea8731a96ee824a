//! Keys and values of one text: the model's, and the teacher's if one reads along.

use super::prefixes::Kept;
use crate::model::KvCache;

/// What was computed of a text. Where there is a teacher, what can be gone on with has as many positions in both.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) model: KvCache,
    pub(crate) teacher: Option<KvCache>,
}

impl Held {
    /// Positions that the model has.
    pub(crate) fn len(&self) -> usize {
        self.model.len()
    }

    /// Positions that model and teacher have.
    pub(crate) fn both(&self) -> usize {
        let teacher = self.teacher.as_ref().map_or(usize::MAX, KvCache::len);
        self.model.len().min(teacher)
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.model.bytes() + self.teacher.as_ref().map_or(0, KvCache::bytes)
    }

    /// The first `len` positions of both.
    pub(crate) fn fork(&self, len: usize) -> Self {
        Self {
            model: self.model.fork(len),
            teacher: self.teacher.as_ref().map(|teacher| teacher.fork(len)),
        }
    }
}

impl Kept for Held {
    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn truncate(&mut self, len: usize) {
        self.model.truncate(len);
        if let Some(teacher) = &mut self.teacher {
            teacher.truncate(len);
        }
    }

    fn fork(&self, len: usize) -> Self {
        self.fork(len)
    }
}
