//! Walking a tree by descriptors: every directory is opened through its parent, links are not followed.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{Dir, FileType, OFlags};

use super::files::listed_name;
use super::root::{Root, kind_of, kind_of_type, stat_in};
use crate::{EntryKind, Error, IgnoreRules, RelPath, Result, WalkLimits};

/// Ignore files above this size are not read.
const MAX_IGNORE_FILE_BYTES: u64 = 1 << 20;

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    Stop,
}

/// A file or link that was met.
#[derive(Debug)]
pub(crate) struct Met<'a> {
    pub(crate) path: &'a RelPath,
    pub(crate) name: &'a str,
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) kind: EntryKind,
}

/// A walk and what it has used up.
pub(crate) struct Walk<'a> {
    root: &'a Root,
    ignore: IgnoreRules,
    limits: &'a WalkLimits,
    deadline: Instant,
    entries: usize,
    rules: Vec<Rules>,
    /// Whether a limit was reached.
    pub(crate) truncated: bool,
}

/// The ignore files of one directory.
struct Rules {
    /// Length of the path of the directory, with its slash.
    prefix_len: usize,
    matcher: Gitignore,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(root: &'a Root, ignore: IgnoreRules, limits: &'a WalkLimits) -> Self {
        let deadline = Instant::now() + limits.time;
        Self {
            root,
            ignore,
            limits,
            deadline,
            entries: 0,
            rules: Vec::new(),
            truncated: false,
        }
    }

    /// Whether the time is over.
    pub(crate) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// When the time is over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Visits what is below `start`, in byte order of the paths.
    pub(crate) fn run(
        &mut self,
        start: &RelPath,
        visit: &mut dyn FnMut(&Met<'_>) -> Result<Flow>,
    ) -> Result<()> {
        self.load_rules_above(start)?;
        let dir = self.root.open(start, OFlags::RDONLY | OFlags::DIRECTORY)?;
        self.directory(&dir, start, 0, visit).map(drop)
    }

    /// The ignore files between the root and the start apply too.
    fn load_rules_above(&mut self, start: &RelPath) -> Result<()> {
        let mut above = Vec::new();
        let mut at = start.parent();
        while let Some(path) = at {
            at = path.parent();
            above.push(path);
        }
        for path in above.iter().rev() {
            let dir = self.root.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            self.load_rules(&dir, path);
        }
        Ok(())
    }

    fn directory(
        &mut self,
        dir: &OwnedFd,
        path: &RelPath,
        depth: usize,
        visit: &mut dyn FnMut(&Met<'_>) -> Result<Flow>,
    ) -> Result<Flow> {
        let entries = self.entries_of(dir, path)?;
        let rules = self.rules.len();
        self.load_rules(dir, path);
        for (name, kind) in entries {
            // Names can be nested deeper than any path can say.
            let Ok(below) = RelPath::parse(&name).and_then(|name| path.join(&name)) else {
                self.truncated = true;
                continue;
            };
            if self.is_ignored(&below, kind) {
                continue;
            }
            if self.is_late() {
                self.truncated = true;
                return Ok(Flow::Stop);
            }
            let flow = match kind {
                EntryKind::Directory => self.enter(dir, &name, &below, depth, visit)?,
                kind => visit(&Met {
                    path: &below,
                    name: &name,
                    dir: dir.as_fd(),
                    kind,
                })?,
            };
            if flow == Flow::Stop || self.entries >= self.limits.max_entries {
                self.truncated |= self.entries >= self.limits.max_entries;
                return Ok(Flow::Stop);
            }
        }
        self.rules.truncate(rules);
        Ok(Flow::Continue)
    }

    fn enter(
        &mut self,
        parent: &OwnedFd,
        name: &str,
        path: &RelPath,
        depth: usize,
        visit: &mut dyn FnMut(&Met<'_>) -> Result<Flow>,
    ) -> Result<Flow> {
        if depth == self.limits.max_depth {
            self.truncated = true;
            return Ok(Flow::Continue);
        }
        match self
            .root
            .open_in(parent.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY)
        {
            Ok(dir) => self.directory(&dir, path, depth + 1, visit),
            // It was removed, replaced by a link, is another file system, or may not be read.
            Err(_) => Ok(Flow::Continue),
        }
    }

    /// Names and kinds, so sorted that a walk in this order meets paths in byte order.
    fn entries_of(&mut self, dir: &OwnedFd, path: &RelPath) -> Result<Vec<(String, EntryKind)>> {
        let fail = |e: rustix::io::Errno| Error::from_io("list", path, e.into());
        let mut entries = Vec::new();
        for entry in Dir::read_from(dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Some(name) = walkable_name(entry.file_name()) else {
                continue;
            };
            if self.entries >= self.limits.max_entries {
                self.truncated = true;
                break;
            }
            self.entries += 1;
            let kind = match entry.file_type() {
                FileType::Unknown => stat_in(dir.as_fd(), name).map_or(EntryKind::Other, |s| kind_of(&s)),
                file_type => kind_of_type(file_type),
            };
            entries.push((name.to_owned(), kind));
        }
        let slash = |kind: EntryKind| if kind == EntryKind::Directory { "/" } else { "" };
        entries.sort_by(|a, b| {
            a.0.bytes()
                .chain(slash(a.1).bytes())
                .cmp(b.0.bytes().chain(slash(b.1).bytes()))
        });
        Ok(entries)
    }

    fn load_rules(&mut self, dir: &OwnedFd, path: &RelPath) {
        if self.ignore == IgnoreRules::Off {
            return;
        }
        let prefix_len = if path.is_root() {
            0
        } else {
            path.as_str().len() + 1
        };
        for name in [".gitignore", ".ignore"] {
            if let Some(matcher) = read_rules(self.root, dir, name) {
                self.rules.push(Rules { prefix_len, matcher });
            }
        }
    }

    /// The rule nearest to the file decides.
    fn is_ignored(&self, path: &RelPath, kind: EntryKind) -> bool {
        for rules in self.rules.iter().rev() {
            let below = &path.as_str()[rules.prefix_len..];
            match rules.matcher.matched(below, kind == EntryKind::Directory) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        false
    }
}

/// A name that can be said as a path and is not version control's own.
pub(crate) fn walkable_name(name: &CStr) -> Option<&str> {
    listed_name(name)
        .flatten()
        .filter(|name| *name != ".git" && RelPath::parse(name).is_ok())
}

fn read_rules(root: &Root, dir: &OwnedFd, name: &str) -> Option<Gitignore> {
    let text = read_small(root, dir.as_fd(), name, MAX_IGNORE_FILE_BYTES)?;
    let mut builder = GitignoreBuilder::new("");
    for line in String::from_utf8_lossy(&text).lines() {
        // A line that is not a pattern is a line that matches nothing, as git has it.
        let _ = builder.add_line(None, line);
    }
    builder.build().ok()
}

/// Reads a regular file in a directory, if it is one and not larger than that.
pub(crate) fn read_small(root: &Root, dir: BorrowedFd<'_>, name: &str, max_bytes: u64) -> Option<Vec<u8>> {
    let (file, size_bytes) = root.open_regular_in(dir, name)?;
    if size_bytes > max_bytes {
        return None;
    }
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, max_bytes), &mut content).ok()?;
    Some(content)
}
