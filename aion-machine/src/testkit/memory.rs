//! A machine in memory: for tests of programs that use one, and to check the kit by a second opinion.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use grep::matcher::Matcher;
use grep::regex::RegexMatcherBuilder;
use ignore::gitignore::GitignoreBuilder;

use crate::snapshot::{DiffLimits, Snapshot, SnapshotFile, Stamp};
use crate::{
    Capabilities, Case, EditRequest, Encoding, Enforcement, EntryKind, Error, Etag, ExecRequest, Execution,
    GlobOutput, GlobRequest, GrepHit, GrepOutput, GrepRequest, IgnoreRules, Listing, MAX_DIFF_BYTES, Machine,
    Naming, Parents, PatchRequest, ReadOptions, ReadOutput, ReadRange, RelPath, RemoveMode, RenameMode,
    Result, SnapshotId, Stat, TreeDiff, Watch, WatchEvent, WatchRequest, WatchSender, Workspace,
    WorkspaceSpec, WriteMode, WriteOutput, WriteRequest,
};

/// No edit leaves more, as by default on a host.
const MAX_FILE_BYTES: u64 = 10 << 20;

const CAPABILITIES: Capabilities = Capabilities {
    exec: false,
    snapshot: true,
    watch: true,
    durable: false,
};

/// Workspaces in memory, each with files of its own. It executes nothing.
#[derive(Debug, Default)]
pub struct MemoryMachine {
    workspaces: Mutex<BTreeMap<RelPath, Arc<MemoryWorkspace>>>,
}

#[async_trait]
impl Machine for MemoryMachine {
    fn id(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    async fn open(&self, spec: &WorkspaceSpec) -> Result<Arc<dyn Workspace>> {
        let mut workspaces = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        let workspace = workspaces.entry(spec.cwd.clone()).or_default();
        Ok(Arc::clone(workspace) as Arc<dyn Workspace>)
    }

    async fn probe(&self) -> Result<Enforcement> {
        Err(Error::Unsupported {
            what: "execute programs",
        })
    }
}

/// Files in memory. It executes nothing.
#[derive(Debug, Default)]
pub struct MemoryWorkspace {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<RelPath, Vec<u8>>,
    dirs: BTreeSet<RelPath>,
    snapshots: Vec<Snapshot>,
    watches: Vec<(RelPath, WatchSender)>,
}

impl MemoryWorkspace {
    /// An empty workspace.
    pub fn open() -> Arc<dyn Workspace> {
        Arc::new(Self::default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wrong_kind(path: &RelPath, found: &'static str, needed: &'static str) -> Error {
    Error::WrongKind {
        path: path.clone(),
        found,
        needed,
    }
}

fn is_below(path: &RelPath, dir: &RelPath) -> bool {
    dir.is_root()
        || path
            .as_str()
            .strip_prefix(dir.as_str())
            .is_some_and(|rest| rest.starts_with('/'))
}

fn below<'p>(path: &'p RelPath, dir: &RelPath) -> &'p str {
    path.as_str()[dir.as_str().len()..].trim_start_matches('/')
}

impl State {
    fn kind(&self, path: &RelPath) -> Option<EntryKind> {
        if path.is_root() || self.dirs.contains(path) {
            return Some(EntryKind::Directory);
        }
        self.files.contains_key(path).then_some(EntryKind::File)
    }

    fn file(&self, path: &RelPath) -> Result<&Vec<u8>> {
        match (self.files.get(path), self.kind(path)) {
            (Some(content), _) => Ok(content),
            (None, Some(_)) => Err(wrong_kind(path, "directory", "file")),
            (None, None) => Err(Error::NotFound { path: path.clone() }),
        }
    }

    fn directory(&self, path: &RelPath) -> Result<()> {
        match self.kind(path) {
            Some(EntryKind::Directory) => Ok(()),
            Some(_) => Err(wrong_kind(path, "file", "directory")),
            None => Err(Error::NotFound { path: path.clone() }),
        }
    }

    fn stat(&self, path: &RelPath) -> Result<Stat> {
        let kind = self
            .kind(path)
            .ok_or_else(|| Error::NotFound { path: path.clone() })?;
        let size_bytes = self.files.get(path).map_or(0, |content| content.len() as u64);
        Ok(Stat {
            path: path.clone(),
            kind,
            size_bytes,
            modified_ms: 0,
        })
    }

    fn create_dirs(&mut self, path: &RelPath) -> Result<()> {
        let mut missing = Vec::new();
        let mut at = Some(path.clone());
        while let Some(dir) = at.filter(|dir| !dir.is_root()) {
            if self.files.contains_key(&dir) {
                return Err(wrong_kind(&dir, "file", "directory"));
            }
            at = dir.parent();
            missing.push(dir);
        }
        for dir in missing.into_iter().rev() {
            if self.dirs.insert(dir.clone()) {
                self.tell(&dir, &WatchEvent::Changed { path: dir.clone() });
            }
        }
        Ok(())
    }

    fn tell(&mut self, path: &RelPath, event: &WatchEvent) {
        self.watches.retain(|(_, sender)| !sender.is_closed());
        for (_, sender) in self.watches.iter().filter(|(start, _)| is_below(path, start)) {
            sender.send(event.clone());
        }
    }

    fn put(&mut self, path: &RelPath, new: &[u8]) -> WriteOutput {
        let old = self.files.insert(path.clone(), new.to_vec());
        let out = WriteOutput::between(path, old.as_deref(), new, MAX_DIFF_BYTES);
        if out.changed {
            self.tell(path, &WatchEvent::Changed { path: path.clone() });
        }
        out
    }

    fn check_etag(&self, path: &RelPath, expected: Option<&Etag>) -> Result<()> {
        let found = self.files.get(path).map(|content| Etag::of(content));
        match expected.filter(|expected| found.as_ref() != Some(*expected)) {
            None => Ok(()),
            Some(expected) => Err(Error::Conflict {
                path: path.clone(),
                expected: expected.to_string(),
                found: found.map_or("nothing".to_owned(), |etag| etag.to_string()),
            }),
        }
    }

    /// Whether the nearest ignore rule that says something says "ignore", for the path or a parent.
    fn is_ignored(&self, path: &RelPath) -> bool {
        let mut parts = vec![(path.clone(), false)];
        while let Some(parent) = parts
            .last()
            .and_then(|(p, _)| p.parent())
            .filter(|p| !p.is_root())
        {
            parts.push((parent, true));
        }
        parts.iter().any(|(part, is_dir)| self.rule_for(part, *is_dir))
    }

    fn rule_for(&self, path: &RelPath, is_dir: bool) -> bool {
        let mut at = path.parent();
        while let Some(dir) = at {
            let mut builder = GitignoreBuilder::new("");
            for name in [".gitignore", ".ignore"] {
                let rules = RelPath::parse(name).ok().and_then(|name| dir.join(&name).ok());
                let text = rules
                    .and_then(|rules| self.files.get(&rules))
                    .map_or(&[][..], Vec::as_slice);
                for line in String::from_utf8_lossy(text).lines() {
                    let _ = builder.add_line(None, line);
                }
            }
            if let Ok(rules) = builder.build() {
                match rules.matched(below(path, &dir), is_dir) {
                    ignore::Match::Ignore(_) => return true,
                    ignore::Match::Whitelist(_) => return false,
                    ignore::Match::None => {}
                }
            }
            at = dir.parent();
        }
        false
    }

    fn visible<'s>(&'s self, start: &'s RelPath, ignore: IgnoreRules) -> impl Iterator<Item = &'s RelPath> {
        let files = self
            .files
            .keys()
            .filter(move |path| *path == start || is_below(path, start));
        files.filter(move |path| ignore == IgnoreRules::Off || !self.is_ignored(path))
    }

    fn take_snapshot(&self) -> Snapshot {
        let file = |content: &Vec<u8>| SnapshotFile {
            stamp: Stamp::default(),
            size_bytes: content.len() as u64,
            etag: Some(Etag::of(content)),
            content: Some(Arc::from(content.as_slice())),
        };
        let files = self
            .files
            .iter()
            .map(|(path, content)| (path.clone(), file(content)))
            .collect();
        Snapshot {
            files,
            truncated: false,
        }
    }
}

fn span(content: &[u8], range: ReadRange) -> (usize, usize) {
    let clamp = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(content.len());
    match range {
        ReadRange::All => (0, content.len()),
        ReadRange::Bytes { offset, len } => (clamp(offset), clamp(offset.saturating_add(len))),
        ReadRange::Lines { first, count } => {
            let end: &[u8] = match Encoding::of(content) {
                Encoding::Utf16Le => b"\n\0",
                Encoding::Utf16Be => b"\0\n",
                _ => b"\n",
            };
            let units = content.chunks(end.len()).enumerate();
            let ends = units
                .filter(|(_, unit)| *unit == end)
                .map(|(at, _)| (at + 1) * end.len());
            let starts: Vec<usize> = std::iter::once(0).chain(ends).collect();
            let at = |line: u64| starts.get(clamp(line - 1)).copied().unwrap_or(content.len());
            (at(first.max(1)), at(first.max(1).saturating_add(count)))
        }
    }
}

#[async_trait]
impl Workspace for MemoryWorkspace {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    async fn read(&self, path: &RelPath, options: ReadOptions) -> Result<ReadOutput> {
        let state = self.state();
        let content = state.file(path)?;
        let (start, end) = span(content, options.range);
        let end = end.min(start.saturating_add(options.max_bytes));
        let bytes = content[start..end].to_vec();
        let of_file = Encoding::of(content);
        let encoding = if content.starts_with(&[0xFF, 0xFE]) || content.starts_with(&[0xFE, 0xFF]) {
            of_file
        } else {
            Encoding::of(&bytes)
        };
        let (size_bytes, truncated) = (content.len() as u64, end < content.len());
        Ok(ReadOutput {
            bytes,
            encoding,
            size_bytes,
            truncated,
            etag: (options.naming == Naming::Etag).then(|| Etag::of(content)),
        })
    }

    async fn write(&self, path: &RelPath, request: WriteRequest) -> Result<WriteOutput> {
        let mut state = self.state();
        if state.kind(path) == Some(EntryKind::Directory) {
            return Err(wrong_kind(path, "directory", "file"));
        }
        let parent = path.parent().unwrap_or_else(RelPath::root);
        match request.parents {
            Parents::Create => state.create_dirs(&parent)?,
            Parents::Require => state.directory(&parent)?,
        }
        let old = state.files.get(path);
        if request.mode == WriteMode::CreateNew && old.is_some() {
            return Err(Error::Exists { path: path.clone() });
        }
        state.check_etag(path, request.if_match.as_ref())?;
        Ok(state.put(path, &request.content))
    }

    async fn edit(&self, path: &RelPath, request: EditRequest) -> Result<WriteOutput> {
        let mut state = self.state();
        state.file(path)?;
        state.check_etag(path, request.if_match.as_ref())?;
        let content = state.file(path)?;
        let text = std::str::from_utf8(content).map_err(|_| Error::NotText { path: path.clone() })?;
        let new = crate::apply_edits(path, text, &request.edits, MAX_FILE_BYTES)?;
        Ok(state.put(path, new.as_bytes()))
    }

    async fn patch(&self, path: &RelPath, request: PatchRequest) -> Result<WriteOutput> {
        let mut state = self.state();
        state.directory(&path.parent().unwrap_or_else(RelPath::root))?;
        if state.kind(path) == Some(EntryKind::Directory) {
            return Err(wrong_kind(path, "directory", "file"));
        }
        state.check_etag(path, request.if_match.as_ref())?;
        let content = state.files.get(path).map_or(&[][..], Vec::as_slice);
        let text = std::str::from_utf8(content).map_err(|_| Error::NotText { path: path.clone() })?;
        let new = crate::apply_patch(path, text, &request.patch, MAX_FILE_BYTES)?;
        Ok(state.put(path, new.as_bytes()))
    }

    async fn stat(&self, path: &RelPath) -> Result<Stat> {
        self.state().stat(path)
    }

    async fn list(&self, path: &RelPath, max_entries: usize) -> Result<Listing> {
        let state = self.state();
        state.directory(path)?;
        let all: BTreeSet<_> = state.files.keys().chain(&state.dirs).collect();
        let children = all.into_iter().filter(|p| p.parent().as_ref() == Some(path));
        let mut entries = children.map(|p| state.stat(p)).collect::<Result<Vec<_>>>()?;
        let truncated = entries.len() > max_entries;
        entries.truncate(max_entries);
        Ok(Listing {
            entries,
            truncated,
            unnamable: 0,
        })
    }

    async fn mkdir(&self, path: &RelPath) -> Result<()> {
        self.state().create_dirs(path)
    }

    async fn remove(&self, path: &RelPath, mode: RemoveMode) -> Result<()> {
        let mut state = self.state();
        if path.is_root() {
            return Err(wrong_kind(path, "workspace root", "file or directory"));
        }
        state.stat(path)?;
        let has_entries = state.files.keys().chain(&state.dirs).any(|p| is_below(p, path));
        if has_entries && mode == RemoveMode::One {
            return Err(wrong_kind(
                path,
                "directory with entries",
                "file or empty directory",
            ));
        }
        state.files.retain(|p, _| p != path && !is_below(p, path));
        state.dirs.retain(|p| p != path && !is_below(p, path));
        state.tell(path, &WatchEvent::Removed { path: path.clone() });
        Ok(())
    }

    async fn rename(&self, from: &RelPath, to: &RelPath, mode: RenameMode) -> Result<()> {
        let mut state = self.state();
        state.stat(from)?;
        if is_below(to, from) {
            return Err(Error::invalid("a directory cannot be moved into itself"));
        }
        state.directory(&to.parent().unwrap_or_else(RelPath::root))?;
        if mode == RenameMode::NoReplace && state.kind(to).is_some() {
            return Err(Error::Exists { path: to.clone() });
        }
        let moved = |path: &RelPath| -> Result<Option<RelPath>> {
            let rest = if path == from {
                Some("")
            } else {
                is_below(path, from).then(|| below(path, from))
            };
            rest.map(|rest| Ok(to.join(&RelPath::parse(rest)?)?)).transpose()
        };
        let files: Vec<_> = state.files.keys().cloned().collect();
        for path in files {
            if let (Some(new), Some(content)) = (moved(&path)?, state.files.get(&path).cloned()) {
                state.files.remove(&path);
                state.files.insert(new, content);
            }
        }
        let dirs: Vec<_> = state.dirs.iter().cloned().collect();
        for path in dirs {
            if let Some(new) = moved(&path)? {
                state.dirs.remove(&path);
                state.dirs.insert(new);
            }
        }
        state.tell(from, &WatchEvent::Removed { path: from.clone() });
        let there: Vec<_> = state.files.keys().chain(&state.dirs).cloned().collect();
        for path in there.into_iter().filter(|path| path == to || is_below(path, to)) {
            state.tell(&path, &WatchEvent::Changed { path: path.clone() });
        }
        Ok(())
    }

    async fn glob(&self, request: GlobRequest) -> Result<GlobOutput> {
        let glob = crate::local::compile_glob(&request.pattern)?;
        let state = self.state();
        let paths = state.visible(&request.path, request.ignore);
        let paths = paths.filter(|path| glob.is_match(below(path, &request.path)));
        let mut hits = paths.map(|path| state.stat(path)).collect::<Result<Vec<_>>>()?;
        let truncated = hits.len() > request.max_hits;
        hits.truncate(request.max_hits);
        Ok(GlobOutput { hits, truncated })
    }

    async fn grep(&self, request: GrepRequest) -> Result<GrepOutput> {
        let bad = |reason: String| Error::Pattern {
            pattern: request.pattern.chars().take(80).collect(),
            reason,
        };
        if request.pattern.is_empty() || request.pattern.len() > 4096 {
            return Err(bad("it is empty or too long".to_owned()));
        }
        let mut builder = RegexMatcherBuilder::new();
        let matcher = builder
            .case_insensitive(request.case == Case::Insensitive)
            .size_limit(10 << 20)
            .build(&request.pattern)
            .map_err(|e| bad(e.to_string()))?;
        let glob = request
            .glob
            .as_deref()
            .map(crate::local::compile_glob)
            .transpose()?;
        let state = self.state();
        let mut out = GrepOutput {
            hits: Vec::new(),
            files_searched: 0,
            files_skipped: 0,
            truncated: false,
        };
        for path in state.visible(&request.path, request.ignore) {
            if glob
                .as_ref()
                .is_some_and(|glob| !glob.is_match(below(path, &request.path)))
            {
                continue;
            }
            let content = &state.files[path];
            if content.contains(&0) {
                out.files_skipped += 1;
                continue;
            }
            out.files_searched += 1;
            let text = String::from_utf8_lossy(content);
            let lines: Vec<&str> = text.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                if !matcher.is_match(line.as_bytes()).unwrap_or(false) {
                    continue;
                }
                if out.hits.len() == request.max_hits {
                    out.truncated = true;
                    return Ok(out);
                }
                let around = |from: usize, to: usize| {
                    lines[from.min(lines.len())..to.min(lines.len())]
                        .iter()
                        .map(|l| (*l).to_owned())
                        .collect()
                };
                let before = around(at.saturating_sub(request.context_lines), at);
                let after = around(at + 1, at + 1 + request.context_lines);
                let (line_number, text) = (at as u64 + 1, (*line).to_owned());
                out.hits.push(GrepHit {
                    path: path.clone(),
                    line: line_number,
                    text,
                    before,
                    after,
                });
            }
        }
        Ok(out)
    }

    async fn start(&self, _: ExecRequest) -> Result<Execution> {
        Err(Error::Unsupported {
            what: "execute programs",
        })
    }

    async fn snapshot(&self) -> Result<SnapshotId> {
        let mut state = self.state();
        let snapshot = state.take_snapshot();
        state.snapshots.push(snapshot);
        Ok(SnapshotId(state.snapshots.len() as u64))
    }

    async fn diff(&self, from: SnapshotId, to: SnapshotId) -> Result<TreeDiff> {
        let state = self.state();
        let get = |id: SnapshotId| {
            let index = usize::try_from(id.get()).ok().and_then(|id| id.checked_sub(1));
            index
                .and_then(|i| state.snapshots.get(i))
                .ok_or(Error::UnknownSnapshot { id: id.get() })
        };
        Ok(get(from)?.diff(get(to)?, &DiffLimits::default()))
    }

    async fn watch(&self, request: WatchRequest) -> Result<Watch> {
        let mut state = self.state();
        state.directory(&request.path)?;
        let (sender, watch) = Watch::channel(request.max_events);
        state.watches.push((request.path, sender));
        Ok(watch)
    }
}
