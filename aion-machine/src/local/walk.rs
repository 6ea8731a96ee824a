//! Walking a tree by descriptors, by several threads: every directory is opened through its parent, links
//! are not followed.
//!
//! Work is a stack of directories and of runs of files, so put that the threads together go through the
//! tree nearly in the order of its paths. A walk that needs only the first few finds soon stops looking.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::fs::{FileType, OFlags, RawDir};
use rustix::io::Errno;

use super::files::listed_name;
use super::ignored::Rules;
use super::root::{Root, kind_of, kind_of_type, stat_in};
use crate::{EntryKind, Error, IgnoreRules, RelPath, Result, WalkLimits};

/// How many files make one piece of work.
const RUN_OF_FILES: usize = 64;
/// How many entries one thread looks at before others are started.
const ALONE_ENTRIES: usize = 256;
/// Room for the entries that the kernel hands over at once, in bytes.
const ENTRIES_BUFFER: usize = 32 << 10;

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    Stop,
}

/// A file or link that was met.
pub(crate) struct Met<'a> {
    dir: &'a Place,
    pub(crate) path: RelPath,
    pub(crate) kind: EntryKind,
}

impl Met<'_> {
    /// Its name in its directory.
    pub(crate) fn name(&self) -> &str {
        &self.path.as_str()[self.dir.prefix_len()..]
    }

    /// The directory it is in.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.fd.as_fd()
    }
}

/// What a thread of a walk does with what it meets.
pub(crate) trait Visit {
    /// A file, a link, or what is neither and no directory.
    fn meet(&mut self, met: Met<'_>) -> Flow;

    /// Whether what is below this path could be of interest.
    fn wants(&self, path: &RelPath) -> bool {
        let _ = path;
        true
    }

    /// A piece of work is done.
    fn rest(&mut self) {}
}

/// A directory that is open.
struct Place {
    fd: OwnedFd,
    path: RelPath,
    depth: usize,
    rules: Option<Arc<Rules>>,
}

impl Place {
    /// How much of the path of what is in it is its own.
    fn prefix_len(&self) -> usize {
        match self.path.as_str().len() {
            0 => 0,
            len => len + 1,
        }
    }
}

/// Something in a directory.
struct Entry {
    path: RelPath,
    kind: EntryKind,
}

enum Job {
    /// A directory in one that is open.
    Directory { parent: Arc<Place>, path: RelPath },
    /// Some files of a directory.
    Files { dir: Arc<Place>, files: Vec<Entry> },
}

#[derive(Default)]
struct Stack {
    jobs: Vec<Job>,
    /// How many threads carry out a job, from which others may come.
    busy: usize,
}

/// A walk and what it has used up.
pub(crate) struct Walk<'a> {
    root: &'a Root,
    ignore: IgnoreRules,
    limits: &'a WalkLimits,
    deadline: Instant,
    entries: AtomicUsize,
    truncated: AtomicBool,
    stopped: AtomicBool,
    stack: Mutex<Stack>,
    changed: Condvar,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(root: &'a Root, ignore: IgnoreRules, limits: &'a WalkLimits) -> Self {
        let now = Instant::now();
        Self {
            root,
            ignore,
            limits,
            deadline: now.checked_add(limits.time).unwrap_or(now + MAX_TIME),
            entries: AtomicUsize::new(0),
            truncated: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            stack: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// When the time is over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether a limit was reached.
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated.load(Ordering::Relaxed)
    }

    /// Visits what is below `start`, in byte order of the paths.
    pub(crate) fn run(&self, start: &RelPath, visitor: &mut impl Visit) -> Result<()> {
        self.push_start(start)?;
        self.work(visitor, usize::MAX);
        Ok(())
    }

    /// The same by up to so many threads, each with a visitor, in no order.
    pub(crate) fn run_threads<V, F>(&self, start: &RelPath, threads: usize, make: F) -> Result<()>
    where
        V: Visit,
        F: Fn() -> V + Sync,
    {
        self.push_start(start)?;
        let mut visitor = make();
        self.work(&mut visitor, ALONE_ENTRIES);
        if self.stack().jobs.is_empty() {
            return Ok(());
        }
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // With fewer threads than wanted, the others do the work.
                let named = std::thread::Builder::new().name("aion-walk".to_owned());
                let _ = named.spawn_scoped(scope, || self.work(&mut make(), usize::MAX));
            }
            self.work(&mut visitor, usize::MAX);
        });
        Ok(())
    }

    fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ignore files between the root and the start apply too.
    fn push_start(&self, start: &RelPath) -> Result<()> {
        let mut above = Vec::new();
        let mut at = start.parent();
        while let Some(path) = at {
            at = path.parent();
            above.push(path);
        }
        let mut rules = None;
        for path in above.iter().rev().filter(|_| self.ignore == IgnoreRules::Respect) {
            let dir = self.root.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            rules = Rules::load(self.root, &dir, path, rules);
        }
        let fd = self.root.open(start, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let place = Place {
            fd,
            path: start.clone(),
            depth: 0,
            rules,
        };
        let mut buffer = Vec::with_capacity(ENTRIES_BUFFER);
        let jobs = self.jobs_in(place, &mut buffer);
        let jobs = jobs.map_err(|e| Error::from_io("list", start, e.into()))?;
        self.stack().jobs.extend(jobs.into_iter().rev());
        Ok(())
    }

    /// Carries out jobs until there are none, or until so many entries were met.
    fn work(&self, visitor: &mut impl Visit, until_entries: usize) {
        let mut buffer = Vec::with_capacity(ENTRIES_BUFFER);
        while self.entries.load(Ordering::Relaxed) < until_entries {
            let Some(job) = self.next_job() else {
                return;
            };
            let more = match job {
                Job::Files { dir, files } => {
                    self.visit(&dir, files, visitor);
                    Vec::new()
                }
                Job::Directory { parent, path } => self.enter(&parent, path, &mut buffer, visitor),
            };
            visitor.rest();
            self.finish_job(more);
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut stack = self.stack();
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                stack.jobs.clear();
            }
            if let Some(job) = stack.jobs.pop() {
                stack.busy += 1;
                return Some(job);
            }
            if stack.busy == 0 {
                return None;
            }
            stack = self.changed.wait(stack).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish_job(&self, more: Vec<Job>) {
        let mut stack = self.stack();
        stack.busy -= 1;
        stack.jobs.extend(more.into_iter().rev());
        let wake = stack.jobs.len() > 1 || stack.busy == 0;
        drop(stack);
        if wake {
            self.changed.notify_all();
        }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether the time is over; then the walk ends.
    fn is_late(&self) -> bool {
        let late = Instant::now() >= self.deadline;
        if late {
            self.truncated.store(true, Ordering::Relaxed);
            self.stop();
        }
        late
    }

    fn visit(&self, dir: &Place, files: Vec<Entry>, visitor: &mut impl Visit) {
        for Entry { path, kind } in files {
            if self.stopped.load(Ordering::Relaxed) || self.is_late() {
                return;
            }
            if visitor.meet(Met { dir, path, kind }) == Flow::Stop {
                return self.stop();
            }
        }
    }

    fn enter(
        &self,
        parent: &Place,
        path: RelPath,
        buffer: &mut Vec<u8>,
        visitor: &mut impl Visit,
    ) -> Vec<Job> {
        if self.stopped.load(Ordering::Relaxed) || !visitor.wants(&path) || self.is_late() {
            return Vec::new();
        }
        let name = &path.as_str()[parent.prefix_len()..];
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self.root.open_in(parent.fd.as_fd(), name, flags);
        let opened = opened.and_then(|fd| {
            let (depth, rules) = (parent.depth + 1, parent.rules.clone());
            let place = Place {
                fd,
                path,
                depth,
                rules,
            };
            self.jobs_in(place, buffer)
        });
        match opened {
            Ok(jobs) => jobs,
            // It was removed, replaced by a link, is another file system, or may not be read.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::ACCESS | Errno::PERM) => {
                Vec::new()
            }
            Err(_) => {
                self.truncated.store(true, Ordering::Relaxed);
                Vec::new()
            }
        }
    }

    /// What there is to do in a directory, in byte order of the paths.
    fn jobs_in(&self, mut place: Place, buffer: &mut Vec<u8>) -> Result<Vec<Job>, Errno> {
        let (entries, has_rules) = self.entries_of(&place, buffer)?;
        if has_rules && self.ignore == IgnoreRules::Respect {
            place.rules = Rules::load(self.root, &place.fd, &place.path, place.rules);
        }
        let place = Arc::new(place);
        let mut jobs = Vec::new();
        let mut run = Vec::new();
        for entry in entries {
            let ignored = |rules: &Arc<Rules>| rules.ignore(&entry.path, entry.kind);
            if place.rules.as_ref().is_some_and(ignored) {
                continue;
            }
            if entry.kind != EntryKind::Directory {
                run.push(entry);
            } else if place.depth == self.limits.max_depth {
                self.truncated.store(true, Ordering::Relaxed);
            } else {
                flush(&place, &mut run, &mut jobs);
                let parent = Arc::clone(&place);
                jobs.push(Job::Directory {
                    parent,
                    path: entry.path,
                });
            }
            if run.len() == RUN_OF_FILES {
                flush(&place, &mut run, &mut jobs);
            }
        }
        flush(&place, &mut run, &mut jobs);
        Ok(jobs)
    }

    /// Names and kinds, sorted as their paths are, and whether there is an ignore file among them.
    fn entries_of(&self, place: &Place, buffer: &mut Vec<u8>) -> Result<(Vec<Entry>, bool), Errno> {
        let (mut entries, mut has_rules) = (Vec::new(), false);
        let spare: &mut [MaybeUninit<u8>] = buffer.spare_capacity_mut();
        let mut listing = RawDir::new(&place.fd, spare);
        let room = place.path.room_for_child();
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let Some(name) = walkable_name(entry.file_name()) else {
                continue;
            };
            // Names can be nested deeper than any path can say.
            if name.len() > room || self.entries.fetch_add(1, Ordering::Relaxed) >= self.limits.max_entries {
                self.truncated.store(true, Ordering::Relaxed);
                if name.len() > room {
                    continue;
                }
                self.stop();
                break;
            }
            has_rules |= Rules::is_file(name);
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    stat_in(place.fd.as_fd(), name).map_or(EntryKind::Other, |s| kind_of(&s))
                }
                file_type => kind_of_type(file_type),
            };
            let path = place.path.child(name);
            entries.push(Entry { path, kind });
        }
        let prefix_len = place.prefix_len();
        entries.sort_unstable_by(|a, b| in_order(a, b, prefix_len));
        Ok((entries, has_rules))
    }
}

/// The longest that a walk takes which has no other limit.
const MAX_TIME: std::time::Duration = std::time::Duration::from_secs(3600);

/// A directory sorts as the paths below it do.
fn in_order(a: &Entry, b: &Entry, prefix_len: usize) -> std::cmp::Ordering {
    let (x, y) = (
        &a.path.as_str().as_bytes()[prefix_len..],
        &b.path.as_str().as_bytes()[prefix_len..],
    );
    let common = x.len().min(y.len());
    let after = |name: &[u8], kind: EntryKind| match name.get(common) {
        Some(byte) => Some(*byte),
        None => (kind == EntryKind::Directory).then_some(b'/'),
    };
    x[..common]
        .cmp(&y[..common])
        .then_with(|| after(x, a.kind).cmp(&after(y, b.kind)))
}

fn flush(dir: &Arc<Place>, run: &mut Vec<Entry>, jobs: &mut Vec<Job>) {
    if !run.is_empty() {
        let files = std::mem::take(run);
        jobs.push(Job::Files {
            dir: Arc::clone(dir),
            files,
        });
    }
}

/// A name that can be said as a path and is not version control's own.
pub(crate) fn walkable_name(name: &CStr) -> Option<&str> {
    listed_name(name)
        .flatten()
        .filter(|name| *name != ".git" && RelPath::is_name(name))
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
