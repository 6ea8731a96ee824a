//! What is left of files after a power cut, from the notes of what was written and flushed.
//!
//! What was flushed is there. Of what was not, a disk may have none, or any part: [`Rest`] says which.

use std::path::Path;

use proptest::prelude::RngExt as _;
use proptest::test_runner::TestRng;

/// A file of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Main,
    Wal,
    Journal,
}

impl Named {
    const ALL: [Self; 3] = [Self::Main, Self::Wal, Self::Journal];

    fn suffix(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Wal => "-wal",
            Self::Journal => "-journal",
        }
    }
}

/// What happened to a file, or what was promised to a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Write(Named, usize, Vec<u8>),
    Truncate(Named, usize),
    Delete(Named),
    Sync(Named),
    /// What was removed from the folder is gone.
    SyncFolder,
    /// So many answers had been given.
    Answered(usize),
}

/// What becomes of writes that were not flushed.
#[derive(Debug)]
pub(crate) enum Rest {
    /// They are lost.
    Lost,
    /// Each is lost, there, or there in part, in any order.
    Some(Box<TestRng>),
}

/// A sector: what a disk writes as a whole.
const SECTOR: usize = 512;

#[derive(Debug, Default, Clone)]
struct File {
    /// What was flushed; nothing if the file was not there then.
    firm: Option<Vec<u8>>,
    loose: Vec<Change>,
}

impl File {
    /// The last removal that has not taken effect.
    fn removal(&self) -> Option<usize> {
        self.loose
            .iter()
            .rposition(|change| matches!(change, Change::Delete(_)))
    }

    /// A removal takes effect.
    fn forget(&mut self) {
        if let Some(last) = self.removal() {
            self.loose.drain(..=last);
            self.firm = None;
        }
    }
}

/// The files of a database as a disk has them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Disk {
    files: [File; 3],
    /// Answers given so far.
    pub(crate) answered: usize,
}

impl Disk {
    /// Whether the next note changes flushed content.
    pub(crate) fn firms(&self, change: &Change) -> bool {
        match change {
            Change::Sync(named) => !self.files[*named as usize].loose.is_empty(),
            Change::SyncFolder => self.files.iter().any(|file| file.removal().is_some()),
            _ => false,
        }
    }

    /// Takes the next note.
    pub(crate) fn push(&mut self, change: &Change) {
        match change {
            Change::Answered(n) => self.answered = *n,
            Change::SyncFolder => self.files.iter_mut().for_each(File::forget),
            Change::Sync(named) => {
                let file = &mut self.files[*named as usize];
                for change in file.loose.drain(..) {
                    apply(&mut file.firm, &change);
                }
            }
            Change::Write(named, ..) | Change::Truncate(named, _) | Change::Delete(named) => {
                self.files[*named as usize].loose.push(change.clone());
            }
        }
    }

    /// Writes the files as they are after a power cut, as a database of this name.
    pub(crate) fn cut(&self, path: &Path, rest: &mut Rest) {
        for named in Named::ALL {
            let file = &self.files[named as usize];
            let mut content = file.firm.clone();
            if let Rest::Some(rng) = rest {
                keep_some(&mut content, &file.loose, rng);
            }
            if let Some(content) = content {
                let mut name = path.as_os_str().to_owned();
                name.push(named.suffix());
                std::fs::write(name, content).unwrap();
            }
        }
    }
}

/// Applies any of the changes. One that removes the file may be lost, too: then what was written to a new file
/// of the same name is lost with it.
fn keep_some(content: &mut Option<Vec<u8>>, loose: &[Change], rng: &mut TestRng) {
    for change in loose {
        match (rng.random_range(0..3), change) {
            (0, Change::Delete(_)) => return,
            (0, _) => {}
            (1, Change::Write(named, at, bytes)) => {
                for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                    if rng.random_range(0..2) == 0 {
                        apply(content, &Change::Write(*named, at + n * SECTOR, sector.to_vec()));
                    }
                }
            }
            _ => apply(content, change),
        }
    }
}

fn apply(content: &mut Option<Vec<u8>>, change: &Change) {
    match change {
        Change::Write(_, at, bytes) => {
            let content = content.get_or_insert_default();
            let end = at + bytes.len();
            content.resize(content.len().max(end), 0);
            content[*at..end].copy_from_slice(bytes);
        }
        Change::Truncate(_, size) => content.get_or_insert_default().resize(*size, 0),
        Change::Delete(_) => *content = None,
        Change::Sync(_) | Change::SyncFolder | Change::Answered(_) => {}
    }
}
