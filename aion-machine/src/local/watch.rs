//! Watching a tree with inotify: every directory is watched through its held descriptor, never by a path.

use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::root::{Root, kind_of, kind_of_type, stat_in};
use super::walk::walkable_name;
use crate::{EntryKind, Error, RelPath, Result, Watch, WatchEvent, WatchRequest, WatchSender};

/// How many watches a machine has at one time; each is a thread.
pub(crate) const MAX_WATCHES: usize = 32;
/// How many directories a watch has.
const MAX_DIRECTORIES: usize = 8192;
/// How deep directories are watched.
const MAX_DEPTH: usize = 64;

/// Watches a directory; the thread ends when the other end of the watch is dropped.
pub(crate) fn start(root: Arc<Root>, slots: &Arc<Semaphore>, request: &WatchRequest) -> Result<Watch> {
    let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
        return Err(too_many("watches", MAX_WATCHES));
    };
    let fail = |e: Errno| Error::from_io("watch", &request.path, e.into());
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(fail)?;
    let (ended, guard) = pipe_with(PipeFlags::CLOEXEC).map_err(fail)?;
    let (sender, watch) = Watch::channel(request.max_events);
    sender.drop_when_closed(guard);
    let mut tree = Tree {
        root,
        start: request.path.clone(),
        inotify,
        paths: HashMap::new(),
        sender,
        full: false,
    };
    tree.add_start()?;
    if tree.full {
        return Err(too_many("watched directories", MAX_DIRECTORIES));
    }
    let thread = std::thread::Builder::new().name("aion-watch".to_owned());
    thread
        .spawn(move || tree.run(&ended, slot))
        .map_err(|e| Error::from_io("watch", &request.path, e))?;
    Ok(watch)
}

fn too_many(what: &'static str, limit: usize) -> Error {
    Error::TooManyWatches { what, limit }
}

/// Whether what is found in a directory is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Yes,
    No,
}

/// The watched directories.
struct Tree {
    root: Arc<Root>,
    start: RelPath,
    inotify: OwnedFd,
    paths: HashMap<i32, RelPath>,
    sender: WatchSender,
    /// Some directories are not watched.
    full: bool,
}

impl Tree {
    fn add_start(&mut self) -> Result<()> {
        let dir = self.root.open(&self.start, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let start = self.start.clone();
        self.add(&dir, &start, 0, News::No)
            .map_err(|e| Error::from_io("watch", &start, e.into()))
    }

    /// Watches a directory and those in it. The watch is set before the directory is read, so that what
    /// is made meanwhile is seen at least once.
    fn add(&mut self, dir: &OwnedFd, path: &RelPath, depth: usize, news: News) -> Result<(), Errno> {
        if self.paths.len() >= MAX_DIRECTORIES || depth > MAX_DEPTH {
            self.full = true;
            return Ok(());
        }
        // The name of a descriptor: it cannot be exchanged for another directory.
        let held = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::EXCL_UNLINK
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.inotify, held.as_str(), flags) {
            Ok(watch) => drop(self.paths.insert(watch, path.clone())),
            Err(Errno::NOSPC) => {
                self.full = true;
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let Some(name) = walkable_name(entry.file_name()) else {
                continue;
            };
            let kind = match entry.file_type() {
                FileType::Unknown => stat_in(dir.as_fd(), name).map_or(EntryKind::Other, |s| kind_of(&s)),
                file_type => kind_of_type(file_type),
            };
            self.found(dir, path, name, kind, depth, news);
        }
        Ok(())
    }

    fn found(
        &mut self,
        dir: &OwnedFd,
        path: &RelPath,
        name: &str,
        kind: EntryKind,
        depth: usize,
        news: News,
    ) {
        let Ok(below) = RelPath::parse(name).and_then(|name| path.join(&name)) else {
            return;
        };
        if news == News::Yes {
            self.sender.send(WatchEvent::Changed { path: below.clone() });
        }
        if kind == EntryKind::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            if let Ok(dir) = self.root.open_in(dir.as_fd(), name, flags) {
                // A directory that vanishes meanwhile is told of by its parent.
                let _ = self.add(&dir, &below, depth + 1, news);
            }
        }
    }

    fn run(mut self, ended: &OwnedFd, slot: OwnedSemaphorePermit) {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        while self.wait(ended) {
            if let Err(error) = self.read(&mut buffer) {
                tracing::warn!(error = &error as &dyn std::error::Error, "a watch ended early");
                break;
            }
            if self.paths.is_empty() {
                break; // the directory itself is gone
            }
        }
        drop(slot);
    }

    /// Until there are events; `false` when nobody listens any more.
    fn wait(&self, ended: &OwnedFd) -> bool {
        let mut fds = [
            PollFd::new(&self.inotify, PollFlags::IN),
            PollFd::new(ended, PollFlags::empty()),
        ];
        loop {
            match poll(&mut fds, None) {
                Err(Errno::INTR) => {}
                Err(_) => return false,
                Ok(_) => return fds[1].revents().is_empty(),
            }
        }
    }

    fn read(&mut self, buffer: &mut [MaybeUninit<u8>]) -> Result<(), Errno> {
        let mut events = Vec::new();
        {
            let mut reader = Reader::new(self.inotify.as_fd(), buffer);
            loop {
                match reader.next() {
                    Ok(event) => {
                        let name = event.file_name().map(CStr::to_owned);
                        events.push((event.wd(), event.events(), name));
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::WOULDBLOCK) => break,
                    Err(e) => return Err(e),
                }
                if reader.is_buffer_empty() {
                    break;
                }
            }
        }
        for (watch, what, name) in events {
            self.event(watch, what, name.as_deref());
        }
        Ok(())
    }

    fn event(&mut self, watch: i32, what: ReadFlags, name: Option<&CStr>) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.start_again();
        }
        if what.contains(ReadFlags::IGNORED) {
            self.paths.remove(&watch);
            return;
        }
        let Some((path, name)) = self.paths.get(&watch).cloned().zip(name.and_then(walkable_name)) else {
            return;
        };
        let Ok(below) = RelPath::parse(name).and_then(|name| path.join(&name)) else {
            return;
        };
        let is_dir = what.contains(ReadFlags::ISDIR);
        if what.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
            if is_dir {
                self.forget(&below);
            }
            self.sender.send(WatchEvent::Removed { path: below });
        } else if !is_dir {
            self.sender.send(WatchEvent::Changed { path: below });
        } else if what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            self.sender.send(WatchEvent::Changed { path: below.clone() });
            self.add_new(&below);
        }
    }

    /// A directory that came; all in it is news.
    fn add_new(&mut self, path: &RelPath) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Ok((parent, name)) = self.root.open_parent(path) else {
            return;
        };
        if let Ok(dir) = self.root.open_in(parent.as_fd(), name, flags) {
            let depth = path.as_str().matches('/').count();
            let was_full = self.full;
            let _ = self.add(&dir, path, depth, News::Yes);
            if self.full && !was_full {
                self.sender.send(WatchEvent::Lost);
            }
        }
    }

    /// A directory that went, perhaps to another place: it is no longer known by its old path.
    fn forget(&mut self, dir: &RelPath) {
        let prefix = format!("{}/", dir.as_str());
        let is_below = |path: &RelPath| path == dir || path.as_str().starts_with(&prefix);
        let gone: Vec<i32> = self
            .paths
            .iter()
            .filter(|(_, path)| is_below(path))
            .map(|(watch, _)| *watch)
            .collect();
        for watch in gone {
            self.paths.remove(&watch);
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    /// The kernel's own queue was full.
    fn start_again(&mut self) {
        let known: Vec<i32> = self.paths.drain().map(|(watch, _)| watch).collect();
        for watch in known {
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
        let _ = self.add_start();
        self.sender.send(WatchEvent::Lost);
    }
}
