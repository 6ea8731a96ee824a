//! Glob and grep over a held directory.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use grep::regex::{RegexMatcher, RegexMatcherBuilder};
use grep::searcher::{
    BinaryDetection, MmapChoice, Searcher, SearcherBuilder, Sink, SinkContext, SinkContextKind, SinkFinish,
    SinkMatch,
};

use super::files::stat_from;
use super::first::First;
use super::limited::LimitedMatcher;
use super::root::{Root, kind_of, stat_in};
use super::walk::{Flow, Met, Visit, Walk};
use crate::{
    Case, Encoding, EntryKind, Error, GlobOutput, GlobRequest, GrepHit, GrepOutput, GrepRequest, RelPath,
    Result, Stat,
};

/// Larger files are not held whole while they are searched.
const MAX_HELD_BYTES: u64 = 4 << 20;
/// Longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 4096;
/// Memory of a compiled pattern, in bytes.
const MAX_PATTERN_MEMORY: usize = 10 << 20;
/// Most lines of context.
const MAX_CONTEXT_LINES: usize = 50;

/// Finds files by name.
pub(crate) fn glob(root: &Root, request: &GlobRequest, threads: usize) -> Result<GlobOutput> {
    let matcher = compile_glob(&request.pattern)?;
    let first = First::new(request.max_hits);
    let walk = Walk::new(root, request.ignore, &request.limits);
    walk.run_threads(&request.path, threads, || Globber {
        matcher: &matcher,
        start: &request.path,
        first: &first,
        hits: Vec::new(),
    })?;
    let (hits, more) = first.finish();
    Ok(GlobOutput {
        hits,
        truncated: more || walk.is_truncated(),
    })
}

/// One thread of a search for names.
struct Globber<'r> {
    matcher: &'r Glob,
    start: &'r RelPath,
    first: &'r First<Stat>,
    hits: Vec<Stat>,
}

impl Visit for Globber<'_> {
    fn meet(&mut self, met: Met<'_>) -> Flow {
        if self.matcher.is_match(below(&met.path, self.start))
            && let Ok(raw) = stat_in(met.dir(), met.name())
        {
            self.hits.push(stat_from(met.path, &raw));
        }
        Flow::Continue
    }

    fn wants(&self, path: &RelPath) -> bool {
        self.first.wants(path)
    }

    fn rest(&mut self) {
        self.first.add(std::mem::take(&mut self.hits));
    }
}

/// A compiled glob.
pub(crate) enum Glob {
    /// Of every name.
    All,
    Set(GlobSet),
}

impl Glob {
    pub(crate) fn is_match(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Set(set) => set.is_match(path),
        }
    }
}

/// A glob in which `*` does not cross a slash; one without a slash is for names at any depth.
pub(crate) fn compile_glob(pattern: &str) -> Result<Glob> {
    check_pattern(pattern)?;
    let trimmed = pattern.trim_start_matches("./");
    if matches!(trimmed, "*" | "**" | "**/*") {
        return Ok(Glob::All);
    }
    let anywhere = format!("**/{trimmed}");
    let text = if trimmed.contains('/') { trimmed } else { &anywhere };
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    // A set of one: sets know shorter ways for the usual patterns.
    let set = glob.and_then(|glob| GlobSetBuilder::new().add(glob).build());
    set.map(Glob::Set).map_err(|e| pattern_error(pattern, &e))
}

fn check_pattern(pattern: &str) -> Result<()> {
    if pattern.is_empty() || pattern.len() > MAX_PATTERN_BYTES {
        let reason = format!(
            "it has {} bytes; 1 to {MAX_PATTERN_BYTES} are accepted",
            pattern.len()
        );
        return Err(pattern_error(pattern, &reason));
    }
    Ok(())
}

fn pattern_error(pattern: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::Pattern {
        pattern: pattern.chars().take(80).collect(),
        reason: reason.to_string(),
    }
}

/// The path as seen from the directory where the search began.
fn below<'p>(path: &'p RelPath, start: &RelPath) -> &'p str {
    path.as_str()
        .strip_prefix(start.as_str())
        .unwrap_or(path.as_str())
        .trim_start_matches('/')
}

/// Finds lines by content.
pub(crate) fn grep(root: &Root, request: &GrepRequest, threads: usize) -> Result<GrepOutput> {
    let walk = Walk::new(root, request.ignore, &request.limits);
    let shared = Shared {
        root,
        request,
        glob: request.glob.as_deref().map(compile_glob).transpose()?,
        matcher: compile_pattern(request)?,
        deadline: walk.deadline(),
        first: First::new(request.max_hits),
        searched: AtomicU64::new(0),
        skipped: AtomicU64::new(0),
        late: AtomicBool::new(false),
    };
    if request.path.is_root() || kind_of(&root.stat(&request.path)?) != EntryKind::File {
        walk.run_threads(&request.path, threads, || Search::new(&shared))?;
    } else {
        let (dir, name) = root.open_parent(&request.path)?;
        let mut search = Search::new(&shared);
        search.file(dir.as_fd(), name, &request.path);
        search.rest();
    }
    let (hits, more) = shared.first.finish();
    Ok(GrepOutput {
        hits,
        files_searched: shared.searched.into_inner(),
        files_skipped: shared.skipped.into_inner(),
        truncated: more || shared.late.into_inner() || walk.is_truncated(),
    })
}

fn compile_pattern(request: &GrepRequest) -> Result<RegexMatcher> {
    check_pattern(&request.pattern)?;
    RegexMatcherBuilder::new()
        .case_insensitive(request.case == Case::Insensitive)
        .line_terminator(Some(b'\n'))
        .size_limit(MAX_PATTERN_MEMORY)
        .dfa_size_limit(MAX_PATTERN_MEMORY)
        .build(&request.pattern)
        .map_err(|e| pattern_error(&request.pattern, &e))
}

/// What the threads of a search have in common.
struct Shared<'r> {
    root: &'r Root,
    request: &'r GrepRequest,
    glob: Option<Glob>,
    matcher: RegexMatcher,
    deadline: Instant,
    first: First<GrepHit>,
    searched: AtomicU64,
    skipped: AtomicU64,
    late: AtomicBool,
}

/// One thread of a search for lines.
struct Search<'r> {
    shared: &'r Shared<'r>,
    matcher: LimitedMatcher,
    searcher: Searcher,
    content: Vec<u8>,
    hits: Vec<GrepHit>,
    searched: u64,
    skipped: u64,
}

impl<'r> Search<'r> {
    fn new(shared: &'r Shared<'r>) -> Self {
        let context = shared.request.context_lines.min(MAX_CONTEXT_LINES);
        // Never by memory map: a file that shrinks meanwhile would be a fatal signal.
        let searcher = SearcherBuilder::new()
            .line_number(true)
            .binary_detection(BinaryDetection::quit(0))
            .memory_map(MmapChoice::never())
            .before_context(context)
            .after_context(context)
            .build();
        Self {
            shared,
            matcher: LimitedMatcher::new(shared.matcher.clone(), shared.deadline),
            searcher,
            content: Vec::new(),
            hits: Vec::new(),
            searched: 0,
            skipped: 0,
        }
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &str, path: &RelPath) -> Flow {
        let file = self.shared.root.open_regular_in(dir, name);
        let Some((file, size_bytes)) = file.filter(|(_, size)| *size <= self.shared.request.max_file_bytes)
        else {
            self.skipped += 1;
            return Flow::Continue;
        };
        let mut sink = FileSink::new(path, self.shared.request);
        let done = self.search(file, size_bytes, &mut sink);
        if self.matcher.is_late() {
            self.shared.late.store(true, Ordering::Relaxed);
            self.hits.append(&mut sink.hits);
            return Flow::Stop;
        }
        if done.is_err() || sink.binary {
            self.skipped += 1;
            return Flow::Continue;
        }
        self.searched += 1;
        self.hits.append(&mut sink.hits);
        Flow::Continue
    }

    /// A file of usual size is read at once into room that is used again and again.
    fn search(&mut self, mut file: File, size_bytes: u64, sink: &mut FileSink<'_>) -> std::io::Result<()> {
        if size_bytes > MAX_HELD_BYTES {
            return self.searcher.search_file(&self.matcher, &file, sink);
        }
        let len = usize::try_from(size_bytes).unwrap_or(0);
        if self.content.len() <= len {
            self.content.resize(len + 1, 0);
        }
        let len = read_up_to(&mut file, &mut self.content[..=len])?;
        let content = &self.content[..len];
        self.searcher.search_slice(&self.matcher, content, &mut *sink)?;
        sink.binary |= !sink.hits.is_empty() && content.contains(&0) && Encoding::marked(content).is_none();
        Ok(())
    }
}

/// Reads until there is no more or no room; a file that has grown is searched as far as it was.
fn read_up_to(file: &mut File, room: &mut [u8]) -> std::io::Result<usize> {
    let mut len = 0;
    loop {
        match file.read(&mut room[len..]) {
            Ok(0) => return Ok(len),
            // A regular file gives less than was asked for only at its end.
            Ok(n) if len + n < room.len() => return Ok(len + n),
            Ok(n) => len += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if len == room.len() {
            return Ok(len);
        }
    }
}

impl Visit for Search<'_> {
    fn meet(&mut self, met: Met<'_>) -> Flow {
        if met.kind != EntryKind::File {
            return Flow::Continue;
        }
        if let Some(glob) = &self.shared.glob
            && !glob.is_match(below(&met.path, &self.shared.request.path))
        {
            return Flow::Continue;
        }
        self.file(met.dir(), met.name(), &met.path)
    }

    fn wants(&self, path: &RelPath) -> bool {
        self.shared.first.wants(path)
    }

    fn rest(&mut self) {
        self.shared.first.add(std::mem::take(&mut self.hits));
        self.shared
            .searched
            .fetch_add(std::mem::take(&mut self.searched), Ordering::Relaxed);
        self.shared
            .skipped
            .fetch_add(std::mem::take(&mut self.skipped), Ordering::Relaxed);
    }
}

/// Collects the matches of one file, one more than come back so that it is known whether there are more.
struct FileSink<'r> {
    path: &'r RelPath,
    max_line_bytes: usize,
    room: usize,
    hits: Vec<GrepHit>,
    before: Vec<String>,
    binary: bool,
}

impl<'r> FileSink<'r> {
    fn new(path: &'r RelPath, request: &GrepRequest) -> Self {
        Self {
            path,
            max_line_bytes: request.max_line_bytes,
            room: request.max_hits.saturating_add(1),
            hits: Vec::new(),
            before: Vec::new(),
            binary: false,
        }
    }

    fn line(&self, bytes: &[u8]) -> String {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        text[..text.floor_char_boundary(self.max_line_bytes)].to_owned()
    }
}

impl Sink for FileSink<'_> {
    type Error = std::io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, Self::Error> {
        if self.hits.len() >= self.room {
            return Ok(false);
        }
        let text = self.line(found.bytes());
        let before = std::mem::take(&mut self.before);
        let line = found.line_number().unwrap_or(0);
        self.hits.push(GrepHit {
            path: self.path.clone(),
            line,
            text,
            before,
            after: Vec::new(),
        });
        Ok(true)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> Result<bool, Self::Error> {
        let text = self.line(context.bytes());
        match (context.kind(), self.hits.last_mut()) {
            (SinkContextKind::After, Some(hit)) => hit.after.push(text),
            _ => self.before.push(text),
        }
        Ok(true)
    }

    fn binary_data(&mut self, _: &Searcher, _: u64) -> Result<bool, Self::Error> {
        self.binary = true;
        Ok(false)
    }

    fn finish(&mut self, _: &Searcher, finish: &SinkFinish) -> Result<(), Self::Error> {
        self.binary |= finish.binary_byte_offset().is_some();
        Ok(())
    }
}
