//! What was asked of a store, and what it answered.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use aion_types::TaskId;

use crate::{Error, Fence};

/// Something that a worker asked for, or an answer that it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Note {
    /// A task will be asked for, below a root or as one.
    Asked {
        /// The task.
        task: TaskId,
        /// The root of its tree.
        root: TaskId,
    },
    /// The task was made.
    Created(TaskId),
    /// The task was handed out under an epoch.
    Claimed(Fence),
    /// Its holder's message was taken.
    Said(Fence),
    /// Its holder's end was taken.
    Completed(Fence),
    /// A tree will be asked to be removed.
    Removing(TaskId),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fenced = |f: &mut fmt::Formatter<'_>, what, fence: &Fence| {
            write!(f, "{what} {} {}", fence.task, fence.epoch)
        };
        match self {
            Self::Asked { task, root } => write!(f, "asked {task} {root}"),
            Self::Created(task) => write!(f, "created {task} -"),
            Self::Claimed(fence) => fenced(f, "claimed", fence),
            Self::Said(fence) => fenced(f, "said", fence),
            Self::Completed(fence) => fenced(f, "completed", fence),
            Self::Removing(root) => write!(f, "removing {root} -"),
        }
    }
}

impl FromStr for Note {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self, Error> {
        let bad = || Error::invalid("note", format!("{line:.80}"));
        let words: Vec<&str> = line.split(' ').collect();
        let [what, task, more] = words[..] else {
            return Err(bad());
        };
        let task: TaskId = task.parse().map_err(|_| bad())?;
        let fence = || more.parse().map(|epoch| Fence { task, epoch });
        match what {
            "asked" => more
                .parse()
                .map(|root| Self::Asked { task, root })
                .map_err(|_| bad()),
            "created" => Ok(Self::Created(task)),
            "claimed" => fence().map(Self::Claimed).map_err(|_| bad()),
            "said" => fence().map(Self::Said).map_err(|_| bad()),
            "completed" => fence().map(Self::Completed).map_err(|_| bad()),
            "removing" => Ok(Self::Removing(task)),
            _ => Err(bad()),
        }
    }
}

/// A file that notes go to, one line each.
#[derive(Debug, Clone)]
pub struct Notes(Arc<File>);

impl Notes {
    /// Goes on in the file at `path`, or begins it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(Arc::new(file)))
    }

    /// Writes one line, in one call, so that a process that dies leaves none that is half.
    ///
    /// # Panics
    /// If it cannot be written: then there is no telling what was promised.
    pub fn take(&self, note: Note) {
        let line = format!("{note}\n");
        (&*self.0)
            .write_all(line.as_bytes())
            .expect("the note is written");
    }
}

#[cfg(test)]
mod tests {
    use aion_types::Timestamp;

    use super::*;

    /// What was noted is read again, and nothing else is.
    #[test]
    fn notes_are_read_again() {
        let id = |n| TaskId::from_parts(Timestamp::from_ms(1), [n; 10]);
        let fence = Fence {
            task: id(1),
            epoch: 7,
        };
        let asked = Note::Asked {
            task: id(1),
            root: id(2),
        };
        let notes = [
            asked,
            Note::Created(id(1)),
            Note::Claimed(fence),
            Note::Said(fence),
            Note::Completed(fence),
            Note::Removing(id(2)),
        ];
        for note in notes {
            assert_eq!(note.to_string().parse::<Note>().expect("a note"), note);
        }
        for line in ["", "asked", "claimed x 1", "claimed", "completed - -"] {
            assert!(line.parse::<Note>().is_err(), "{line}");
        }
    }
}
