//! Glob and grep over a held directory.

use std::time::Instant;

use globset::{GlobBuilder, GlobMatcher};
use grep::regex::{RegexMatcher, RegexMatcherBuilder};
use grep::searcher::{
    BinaryDetection, MmapChoice, Searcher, SearcherBuilder, Sink, SinkContext, SinkContextKind, SinkFinish,
    SinkMatch,
};

use super::files::stat_from;
use super::root::{Root, stat_in};
use super::walk::{Flow, Met, Walk};
use crate::{
    Case, EntryKind, Error, GlobOutput, GlobRequest, GrepHit, GrepOutput, GrepRequest, RelPath, Result,
};

/// Longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 4096;
/// Memory of a compiled pattern, in bytes.
const MAX_PATTERN_MEMORY: usize = 10 << 20;
/// Most lines of context.
const MAX_CONTEXT_LINES: usize = 50;

/// Finds files by name.
pub(crate) fn glob(root: &Root, request: &GlobRequest) -> Result<GlobOutput> {
    let matcher = compile_glob(&request.pattern)?;
    let mut walk = Walk::new(root, request.ignore, &request.limits);
    let (mut hits, mut full) = (Vec::new(), false);
    walk.run(&request.path, &mut |met| {
        if !matcher.is_match(below(met.path, &request.path)) {
            return Ok(Flow::Continue);
        }
        if hits.len() == request.max_hits {
            full = true;
            return Ok(Flow::Stop);
        }
        if let Ok(raw) = stat_in(met.dir, met.name) {
            hits.push(stat_from(met.path.clone(), &raw));
        }
        Ok(Flow::Continue)
    })?;
    Ok(GlobOutput {
        hits,
        truncated: full || walk.truncated,
    })
}

/// A glob in which `*` does not cross a slash; one without a slash is for names at any depth.
pub(crate) fn compile_glob(pattern: &str) -> Result<GlobMatcher> {
    check_pattern(pattern)?;
    let trimmed = pattern.trim_start_matches("./");
    let anywhere = format!("**/{trimmed}");
    let text = if trimmed.contains('/') { trimmed } else { &anywhere };
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher())
        .map_err(|e| pattern_error(pattern, &e))
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
pub(crate) fn grep(root: &Root, request: &GrepRequest) -> Result<GrepOutput> {
    let mut walk = Walk::new(root, request.ignore, &request.limits);
    let mut search = Search::new(root, request, walk.deadline())?;
    if request.path.is_root() || search_single(root, request, &mut search)? == Flow::Continue {
        let glob = request.glob.as_deref().map(compile_glob).transpose()?;
        walk.run(&request.path, &mut |met| {
            if glob
                .as_ref()
                .is_some_and(|g| !g.is_match(below(met.path, &request.path)))
            {
                return Ok(Flow::Continue);
            }
            Ok(search.file(met))
        })?;
    }
    Ok(GrepOutput {
        hits: search.hits,
        files_searched: search.files_searched,
        files_skipped: search.files_skipped,
        truncated: search.full || walk.truncated,
    })
}

/// Searches the start itself where it is a file; then there is nothing to walk.
fn search_single(root: &Root, request: &GrepRequest, search: &mut Search<'_>) -> Result<Flow> {
    if super::root::kind_of(&root.stat(&request.path)?) != EntryKind::File {
        return Ok(Flow::Continue);
    }
    let (dir, name) = root.open_parent(&request.path)?;
    let dir = std::os::fd::AsFd::as_fd(&dir);
    search.file(&Met {
        path: &request.path,
        name,
        dir,
        kind: EntryKind::File,
    });
    Ok(Flow::Stop)
}

/// A search and what it found so far.
struct Search<'r> {
    root: &'r Root,
    request: &'r GrepRequest,
    matcher: RegexMatcher,
    searcher: Searcher,
    deadline: Instant,
    hits: Vec<GrepHit>,
    files_searched: u64,
    files_skipped: u64,
    full: bool,
}

impl<'r> Search<'r> {
    fn new(root: &'r Root, request: &'r GrepRequest, deadline: Instant) -> Result<Self> {
        check_pattern(&request.pattern)?;
        let matcher = RegexMatcherBuilder::new()
            .case_insensitive(request.case == Case::Insensitive)
            .line_terminator(Some(b'\n'))
            .size_limit(MAX_PATTERN_MEMORY)
            .dfa_size_limit(MAX_PATTERN_MEMORY)
            .build(&request.pattern)
            .map_err(|e| pattern_error(&request.pattern, &e))?;
        let context = request.context_lines.min(MAX_CONTEXT_LINES);
        // Never by memory map: a file that shrinks meanwhile would be a fatal signal.
        let searcher = SearcherBuilder::new()
            .line_number(true)
            .binary_detection(BinaryDetection::quit(0))
            .memory_map(MmapChoice::never())
            .before_context(context)
            .after_context(context)
            .build();
        let (hits, full) = (Vec::new(), false);
        Ok(Self {
            root,
            request,
            matcher,
            searcher,
            deadline,
            hits,
            files_searched: 0,
            files_skipped: 0,
            full,
        })
    }

    fn file(&mut self, met: &Met<'_>) -> Flow {
        if met.kind != EntryKind::File {
            return Flow::Continue;
        }
        let file = self
            .root
            .open_regular_in(met.dir, met.name)
            .filter(|(_, size)| *size <= self.request.max_file_bytes);
        let Some((file, _)) = file else {
            self.files_skipped += 1;
            return Flow::Continue;
        };
        let room = self.request.max_hits - self.hits.len();
        let mut sink = FileSink::new(met.path, self.request, room, self.deadline);
        let searched = self.searcher.search_file(&self.matcher, &file, &mut sink);
        if searched.is_err() || sink.binary {
            self.files_skipped += 1;
            return Flow::Continue;
        }
        self.files_searched += 1;
        self.full = sink.full;
        self.hits.append(&mut sink.hits);
        if self.full { Flow::Stop } else { Flow::Continue }
    }
}

/// Collects the matches of one file.
struct FileSink<'r> {
    path: &'r RelPath,
    max_line_bytes: usize,
    room: usize,
    deadline: Instant,
    hits: Vec<GrepHit>,
    before: Vec<String>,
    binary: bool,
    full: bool,
}

impl<'r> FileSink<'r> {
    fn new(path: &'r RelPath, request: &GrepRequest, room: usize, deadline: Instant) -> Self {
        let (hits, before) = (Vec::new(), Vec::new());
        let max_line_bytes = request.max_line_bytes;
        Self {
            path,
            max_line_bytes,
            room,
            deadline,
            hits,
            before,
            binary: false,
            full: false,
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
        if self.hits.len() >= self.room || Instant::now() >= self.deadline {
            self.full = true;
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
