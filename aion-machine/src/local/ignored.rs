//! What ignore files leave out of a walk.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::root::Root;
use super::walk::read_small;
use crate::{EntryKind, RelPath};

/// Ignore files above this size are not read.
const MAX_IGNORE_FILE_BYTES: u64 = 1 << 20;
/// The later one decides first.
const NAMES: [&str; 2] = [".gitignore", ".ignore"];

/// The ignore files of one directory, and of those above it.
pub(crate) struct Rules {
    above: Option<Arc<Self>>,
    /// Length of the path of the directory, with its slash.
    prefix_len: usize,
    matcher: Gitignore,
}

impl Rules {
    /// Whether a name is that of an ignore file.
    pub(crate) fn is_file(name: &str) -> bool {
        NAMES.contains(&name)
    }

    /// The rules of a directory; those above where it has none.
    pub(crate) fn load(
        root: &Root,
        dir: &OwnedFd,
        path: &RelPath,
        above: Option<Arc<Self>>,
    ) -> Option<Arc<Self>> {
        let prefix_len = if path.is_root() {
            0
        } else {
            path.as_str().len() + 1
        };
        NAMES
            .iter()
            .fold(above, |above, name| match read(root, dir, name) {
                None => above,
                Some(matcher) => Some(Arc::new(Self {
                    above,
                    prefix_len,
                    matcher,
                })),
            })
    }

    /// Whether a path is left out: the rule nearest to it decides.
    pub(crate) fn ignore(&self, path: &RelPath, kind: EntryKind) -> bool {
        let mut at = Some(self);
        while let Some(rules) = at {
            let below = &path.as_str()[rules.prefix_len..];
            match rules.matcher.matched(below, kind == EntryKind::Directory) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => at = rules.above.as_deref(),
            }
        }
        false
    }
}

fn read(root: &Root, dir: &OwnedFd, name: &str) -> Option<Gitignore> {
    let text = read_small(root, dir.as_fd(), name, MAX_IGNORE_FILE_BYTES)?;
    let mut builder = GitignoreBuilder::new("");
    for line in String::from_utf8_lossy(&text).lines() {
        // A line that is not a pattern is a line that matches nothing, as git has it.
        let _ = builder.add_line(None, line);
    }
    builder.build().ok().filter(|rules| !rules.is_empty())
}
