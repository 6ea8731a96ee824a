//! What is asked of an execution, and what comes back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Enforcement, NetworkDecision, NetworkRequest, RelPath};

/// The longest time that an execution can be given, in milliseconds.
pub const MAX_WALL_MS: u64 = 3_600_000;

/// The longest time between `SIGTERM` and `SIGKILL`, in milliseconds.
pub const MAX_GRACE_MS: u64 = 60_000;

/// The most of the beginning, and of the end, of an output that can be kept, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// The most of an output that can be kept for followers, in bytes.
pub const MAX_REPLAY_BYTES: usize = 16 << 20;

/// What an execution may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ExecLimits {
    /// Time on the clock in milliseconds, at most [`MAX_WALL_MS`].
    pub wall_ms: u64,
    /// Time on a processor in seconds, for each process.
    pub cpu_s: u64,
    /// Address space of each process in bytes; 0 for no limit.
    pub memory_bytes: u64,
    /// Largest file that can be written, in bytes.
    pub file_bytes: u64,
    /// Open files of each process.
    pub open_files: u64,
    /// Processes and threads at one time. What counts them is in the
    /// [report](crate::Enforcement::process_count).
    pub processes: u64,
    /// Memory of all processes together in bytes; 0 for no limit.
    pub total_memory_bytes: u64,
    /// Bytes that all processes together write to disks; 0 for no limit.
    pub written_bytes: u64,
    /// Processor time that all processes together get, in thousandths of one processor; 0 for no limit.
    /// It needs a cgroup: where there is none, the [report](crate::Enforcement::cpu) says so.
    pub cpu_milli: u64,
    /// How long a program that is to end (its time is over, or it is cancelled) has to do so by itself
    /// after `SIGTERM`, in milliseconds, at most [`MAX_GRACE_MS`]; with 0 it is killed at once.
    pub grace_ms: u64,
    /// Size of the private `/tmp` in bytes, where there is one.
    pub tmp_bytes: u64,
    /// How much of the beginning of each output stream is kept, in bytes, at most [`MAX_OUTPUT_BYTES`].
    pub head_bytes: usize,
    /// How much of the end is kept, at most [`MAX_OUTPUT_BYTES`].
    pub tail_bytes: usize,
    /// A program that writes more than this to both streams together is killed; 0 for no limit.
    pub max_output_bytes: u64,
}

impl Default for ExecLimits {
    fn default() -> Self {
        Self {
            wall_ms: 120_000,
            cpu_s: 600,
            memory_bytes: 4 << 30,
            file_bytes: 256 << 20,
            open_files: 512,
            processes: 256,
            total_memory_bytes: 4 << 30,
            written_bytes: 2 << 30,
            cpu_milli: 0,
            grace_ms: 2000,
            tmp_bytes: 64 << 20,
            head_bytes: 64 << 10,
            tail_bytes: 64 << 10,
            max_output_bytes: 0,
        }
    }
}

impl ExecLimits {
    /// Ends the execution after this time.
    #[must_use]
    pub fn with_wall_ms(mut self, wall_ms: u64) -> Self {
        self.wall_ms = wall_ms;
        self
    }

    /// Bounds the address space of each process.
    #[must_use]
    pub fn with_memory_bytes(mut self, memory_bytes: u64) -> Self {
        self.memory_bytes = memory_bytes;
        self
    }

    /// Bounds the size of a file that is written.
    #[must_use]
    pub fn with_file_bytes(mut self, file_bytes: u64) -> Self {
        self.file_bytes = file_bytes;
        self
    }

    /// Bounds the processor time of each process.
    #[must_use]
    pub fn with_cpu_s(mut self, cpu_s: u64) -> Self {
        self.cpu_s = cpu_s;
        self
    }

    /// Bounds processes and threads at one time.
    #[must_use]
    pub fn with_processes(mut self, processes: u64) -> Self {
        self.processes = processes;
        self
    }

    /// Bounds the memory of all processes together.
    #[must_use]
    pub fn with_total_memory_bytes(mut self, total_memory_bytes: u64) -> Self {
        self.total_memory_bytes = total_memory_bytes;
        self
    }

    /// Bounds what all processes together write to disks.
    #[must_use]
    pub fn with_written_bytes(mut self, written_bytes: u64) -> Self {
        self.written_bytes = written_bytes;
        self
    }

    /// Bounds the share of the processors, in thousandths of one.
    #[must_use]
    pub fn with_cpu_milli(mut self, cpu_milli: u64) -> Self {
        self.cpu_milli = cpu_milli;
        self
    }

    /// Bounds the private `/tmp`.
    #[must_use]
    pub fn with_tmp_bytes(mut self, tmp_bytes: u64) -> Self {
        self.tmp_bytes = tmp_bytes;
        self
    }

    /// These, but nothing above what somebody else allows: processes and their time, memory, files, writes. No limit,
    /// where 0 says so, is above every other.
    ///
    /// ```
    /// use aion_machine::ExecLimits;
    /// let asked = ExecLimits::default().with_total_memory_bytes(0).with_processes(3);
    /// let most = ExecLimits::default().with_total_memory_bytes(1 << 30).with_processes(64);
    /// let held = asked.at_most(&most);
    /// assert_eq!((held.total_memory_bytes, held.processes), (1 << 30, 3));
    /// ```
    #[must_use]
    pub fn at_most(&self, most: &Self) -> Self {
        let or_none = |asked: u64, most: u64| match (asked, most) {
            (asked, 0) => asked,
            (0, most) => most,
            (asked, most) => asked.min(most),
        };
        Self {
            cpu_s: self.cpu_s.min(most.cpu_s),
            memory_bytes: or_none(self.memory_bytes, most.memory_bytes),
            file_bytes: self.file_bytes.min(most.file_bytes),
            open_files: self.open_files.min(most.open_files),
            processes: self.processes.min(most.processes),
            total_memory_bytes: or_none(self.total_memory_bytes, most.total_memory_bytes),
            written_bytes: or_none(self.written_bytes, most.written_bytes),
            cpu_milli: or_none(self.cpu_milli, most.cpu_milli),
            tmp_bytes: self.tmp_bytes.min(most.tmp_bytes),
            ..self.clone()
        }
    }

    /// Leaves a program this long between `SIGTERM` and `SIGKILL`.
    #[must_use]
    pub fn with_grace_ms(mut self, grace_ms: u64) -> Self {
        self.grace_ms = grace_ms;
        self
    }

    /// Keeps this much of the beginning and of the end of each stream.
    #[must_use]
    pub fn with_output_bytes(mut self, head_bytes: usize, tail_bytes: usize) -> Self {
        self.head_bytes = head_bytes;
        self.tail_bytes = tail_bytes;
        self
    }

    /// Kills a program that writes more than this.
    #[must_use]
    pub fn with_max_output_bytes(mut self, max_output_bytes: u64) -> Self {
        self.max_output_bytes = max_output_bytes;
        self
    }
}

/// A program to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecRequest {
    /// The program and its arguments. There is no shell between.
    pub argv: Vec<String>,
    /// The directory to start in, from the workspace root.
    pub cwd: RelPath,
    /// Variables beside `PATH`, `HOME`, `LANG`, `TZ` and `TMPDIR`; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// What the program reads on its standard input.
    pub stdin: Vec<u8>,
    /// What it may use.
    pub limits: ExecLimits,
    /// How much of what it wrote last is kept for those who follow it, at most [`MAX_REPLAY_BYTES`].
    pub replay_bytes: usize,
    /// What it wants of the network that the operator allows.
    pub network: NetworkRequest,
}

impl ExecRequest {
    /// Executes a program in the workspace root, without input.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            cwd: RelPath::root(),
            env: BTreeMap::new(),
            stdin: Vec::new(),
            limits: ExecLimits::default(),
            replay_bytes: 1 << 20,
            network: NetworkRequest::Granted,
        }
    }

    /// Executes a line by `/bin/sh -c`. This is the only way to a shell.
    pub fn shell(line: impl Into<String>) -> Self {
        Self::new(["/bin/sh".to_owned(), "-c".to_owned(), line.into()])
    }

    /// Starts in this directory.
    #[must_use]
    pub fn with_cwd(mut self, cwd: RelPath) -> Self {
        self.cwd = cwd;
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Gives the program something to read.
    #[must_use]
    pub fn with_stdin(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Chooses what it may use.
    #[must_use]
    pub fn with_limits(mut self, limits: ExecLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Wants no more of the network than this.
    #[must_use]
    pub fn with_network(mut self, network: NetworkRequest) -> Self {
        self.network = network;
        self
    }

    /// Keeps this much for those who follow it.
    #[must_use]
    pub fn with_replay_bytes(mut self, replay_bytes: usize) -> Self {
        self.replay_bytes = replay_bytes;
        self
    }
}

/// The beginning and the end of what a program wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Captured {
    /// The first bytes.
    pub head: Vec<u8>,
    /// The last bytes, as far as they are not in `head`.
    pub tail: Vec<u8>,
    /// How many bytes there were in all.
    pub total_bytes: u64,
}

impl Captured {
    /// How many bytes between `head` and `tail` were thrown away.
    pub fn omitted_bytes(&self) -> u64 {
        self.total_bytes - (self.head.len() + self.tail.len()) as u64
    }

    /// As text, with U+FFFD for what is not UTF-8 and a line that says what is missing.
    pub fn text(&self) -> String {
        let omitted = self.omitted_bytes();
        if omitted == 0 {
            let whole: Vec<u8> = [self.head.as_slice(), self.tail.as_slice()].concat();
            return String::from_utf8_lossy(&whole).into_owned();
        }
        let (head, tail) = (
            String::from_utf8_lossy(&self.head),
            String::from_utf8_lossy(&self.tail),
        );
        format!("{head}\n[... {omitted} bytes omitted ...]\n{tail}")
    }
}

/// Who or what ended an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Ending {
    /// The program itself, well or not.
    #[default]
    Itself,
    /// Its time on the clock was over.
    TimedOut,
    /// Somebody asked for its end.
    Killed,
    /// It wrote more than its limit allows.
    OutputLimit,
    /// All its processes together took more memory than they may.
    MemoryLimit,
    /// There were more processes and threads than there may be.
    ProcessLimit,
    /// All its processes together wrote more to disks than they may.
    DiskLimit,
}

/// How an execution ended, as a backend reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ExecStatus {
    /// The exit code, unless a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Who or what ended it.
    pub ending: Ending,
    /// What held it in.
    pub enforcement: Enforcement,
    /// What it asked of the network, the first 256 connections.
    pub network: Vec<NetworkDecision>,
}

impl ExecStatus {
    /// The program ended with this code.
    pub fn exited(code: i32) -> Self {
        Self {
            exit_code: Some(code),
            ..Self::default()
        }
    }

    /// A signal ended the program.
    pub fn signaled(signal: i32) -> Self {
        Self {
            signal: Some(signal),
            ..Self::default()
        }
    }

    /// Says who or what ended it.
    #[must_use]
    pub fn with_ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// Says what it asked of the network.
    #[must_use]
    pub fn with_network(mut self, network: Vec<NetworkDecision>) -> Self {
        self.network = network;
        self
    }

    /// Says what held it in.
    #[must_use]
    pub fn with_enforcement(mut self, enforcement: Enforcement) -> Self {
        self.enforcement = enforcement;
        self
    }
}

/// How an execution ended and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecOutput {
    /// The exit code, unless a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Who or what ended it.
    pub ending: Ending,
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What held it in.
    pub enforcement: Enforcement,
    /// What it asked of the network, the first 256 connections.
    pub network: Vec<NetworkDecision>,
}

impl ExecOutput {
    /// Whether it ended by itself with exit code 0.
    pub fn success(&self) -> bool {
        self.exit_code == Some(0) && self.ending == Ending::Itself
    }

    /// Whether it was ended because its time was over.
    pub fn timed_out(&self) -> bool {
        self.ending == Ending::TimedOut
    }
}
