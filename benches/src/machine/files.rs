//! Reading, searching and comparing, by our machine and as programs usually do it.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aion_machine::{
    Diff, GlobRequest, GrepRequest, IgnoreRules, LocalMachine, LocalOptions, LocalWorkspace, Naming,
    ReadOptions, RelPath, WalkLimits, Workspace, WorkspaceSpec,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reader {
    /// `Workspace::read` of our machine, awaited: content and encoding.
    Unnamed,
    /// The same with the etag of the content.
    Named,
    /// `std::fs::read` of the joined path: nothing is checked.
    Std,
    /// The path is made canonical, compared with the root, and read: what a swapped link gets around.
    Canonical,
}

/// A directory with one file of 4 KiB in it, five directories down.
#[derive(Debug)]
pub struct Reading {
    root: PathBuf,
    path: RelPath,
    work: LocalWorkspace,
}

/// What came of some rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Read {
    /// The smallest mean time of a read, in seconds on the clock.
    pub wall_s: f64,
    /// The same of processor time, of all threads.
    pub cpu_s: f64,
    /// Bytes of one read.
    pub bytes: usize,
}

/// Opens a directory as a workspace.
///
/// # Errors
/// If it is not there.
pub fn open(root: &Path, threads: usize) -> Result<LocalWorkspace> {
    let options = LocalOptions::default().with_search_threads(threads);
    let machine = LocalMachine::open_root(root, options)?;
    Ok(machine.workspace(&WorkspaceSpec::new(RelPath::root()))?)
}

impl Reading {
    /// Writes the file and opens the workspace.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn new(root: &Path) -> Result<Self> {
        let path = RelPath::parse("a/b/c/d/e/file.txt")?;
        let host = root.join(path.as_str());
        std::fs::create_dir_all(host.parent().unwrap_or(root))?;
        std::fs::write(&host, "0123456789abcde\n".repeat(256))?;
        Ok(Self {
            root: root.canonicalize()?,
            path,
            work: open(root, 1)?,
        })
    }

    /// Reads so often in each of so many rounds.
    ///
    /// # Errors
    /// If a read fails.
    pub fn run(&self, runtime: &Runtime, reader: Reader, rounds: usize, reps: usize) -> Result<Read> {
        let mut best = Read {
            wall_s: f64::INFINITY,
            cpu_s: f64::INFINITY,
            bytes: 0,
        };
        for _ in 0..rounds {
            let (cpu, wall) = (process_cpu_s(), Instant::now());
            best.bytes = match reader {
                Reader::Unnamed => runtime.block_on(self.awaited(Naming::Unnamed, reps))?,
                Reader::Named => runtime.block_on(self.awaited(Naming::Etag, reps))?,
                Reader::Std => {
                    self.repeat(reps, || Ok(std::fs::read(self.root.join(self.path.as_str()))?))?
                }
                Reader::Canonical => self.repeat(reps, || self.canonical())?,
            };
            best.wall_s = best.wall_s.min(wall.elapsed().as_secs_f64() / reps as f64);
            best.cpu_s = best.cpu_s.min((process_cpu_s() - cpu) / reps as f64);
        }
        Ok(best)
    }

    async fn awaited(&self, naming: Naming, reps: usize) -> Result<usize> {
        let mut bytes = 0;
        for _ in 0..reps {
            let options = ReadOptions::default().with_naming(naming);
            bytes = black_box(self.work.read(&self.path, options).await?).bytes.len();
        }
        Ok(bytes)
    }

    fn repeat(&self, reps: usize, read: impl Fn() -> Result<Vec<u8>>) -> Result<usize> {
        let mut bytes = 0;
        for _ in 0..reps {
            bytes = black_box(read()?).len();
        }
        Ok(bytes)
    }

    fn canonical(&self) -> Result<Vec<u8>> {
        let path = self.root.join(self.path.as_str()).canonicalize()?;
        if !path.starts_with(&self.root) {
            return Err("outside".into());
        }
        Ok(std::fs::read(path)?)
    }
}

/// What a search found and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Searched {
    /// Seconds on the clock.
    pub wall_s: f64,
    /// Seconds of processor time, of all threads.
    pub cpu_s: f64,
    /// Lines or files that were found.
    pub hits: usize,
    /// Whether a limit ended it.
    pub truncated: bool,
}

fn limits() -> WalkLimits {
    WalkLimits::default()
        .with_max_entries(10_000_000)
        .with_time(Duration::from_secs(120))
}

/// Searches a tree for lines.
///
/// # Errors
/// If the tree cannot be opened, or the pattern is none.
pub fn grep(runtime: &Runtime, root: &Path, pattern: &str, threads: usize) -> Result<Searched> {
    let work = open(root, threads)?;
    let request = GrepRequest::new(pattern)
        .with_max_hits(1_000_000)
        .with_ignore(IgnoreRules::Respect)
        .with_limits(limits());
    let (cpu, wall) = (process_cpu_s(), Instant::now());
    let found = runtime.block_on(work.grep(request))?;
    Ok(Searched {
        wall_s: wall.elapsed().as_secs_f64(),
        cpu_s: process_cpu_s() - cpu,
        hits: found.hits.len(),
        truncated: found.truncated,
    })
}

/// Lists the files of a tree.
///
/// # Errors
/// If the tree cannot be opened, or the pattern is none.
pub fn glob(runtime: &Runtime, root: &Path, pattern: &str, threads: usize) -> Result<Searched> {
    let work = open(root, threads)?;
    let request = GlobRequest::new(pattern)
        .with_max_hits(10_000_000)
        .with_ignore(IgnoreRules::Respect)
        .with_limits(limits());
    let (cpu, wall) = (process_cpu_s(), Instant::now());
    let found = runtime.block_on(work.glob(request))?;
    Ok(Searched {
        wall_s: wall.elapsed().as_secs_f64(),
        cpu_s: process_cpu_s() - cpu,
        hits: found.hits.len(),
        truncated: found.truncated,
    })
}

/// Compares two files so often; the smallest processor time in seconds, and the diff.
///
/// # Errors
/// If they cannot be read.
pub fn diff(old: &Path, new: &Path, reps: usize) -> Result<(f64, Diff)> {
    let (old, new) = (std::fs::read(old)?, std::fs::read(new)?);
    let mut best = (f64::INFINITY, Diff::default());
    for _ in 0..reps.max(1) {
        let started = thread_cpu_s();
        let diff = Diff::between("file", black_box(&old), black_box(&new), 1 << 20);
        let s = thread_cpu_s() - started;
        if s < best.0 {
            best = (s, diff);
        }
    }
    Ok(best)
}

/// Writes a text of 5,000 lines and one with three edits in it.
///
/// # Errors
/// If the directory cannot be written.
pub fn write_texts(dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let line = |n: usize| {
        format!(
            "    let value_{n} = compute(input_{}, {});\n",
            n % 97,
            n * n % 1009
        )
    };
    let old: Vec<String> = (0..5000).map(line).collect();
    let mut new = old.clone();
    "    // one line was added\n".clone_into(&mut new[4000]);
    new[2500] = "    let other = 1;\n    let more = 2;\n".to_owned();
    new.remove(700);
    let (a, b) = (dir.join("old"), dir.join("new"));
    std::fs::write(&a, old.concat())?;
    std::fs::write(&b, new.concat())?;
    Ok((a, b))
}

fn clock_s(clock: rustix::time::ClockId) -> f64 {
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

fn process_cpu_s() -> f64 {
    clock_s(rustix::time::ClockId::ProcessCPUTime)
}

fn thread_cpu_s() -> f64 {
    clock_s(rustix::time::ClockId::ThreadCPUTime)
}
