//! The machine's server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aion_machine::audit::AuditOptions;
use aion_machine::{
    AddressRange, AllowList, BUBBLEWRAP, BubblewrapMachine, Cgroups, Durability, ExecLimits, HostPattern,
    LocalOptions, Machine, NetworkPolicy, RelPath, RunAs, TaskKeys, Tier,
};
use aion_machine_server::mcp::{McpOptions, McpTools};
use aion_machine_server::{ExecutionOptions, MachineOptions, TaskState, Unsigned, service};
use aion_service::{ApiKey, ServeArgs};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Files and processes for agents, confined under one directory.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Settings {
    /// The directory under which everything happens
    #[arg(
        long,
        value_name = "DIR",
        env = "DATA_ROOT",
        default_value = "data/work",
        global = true
    )]
    data_root: PathBuf,
    /// Where idempotency keys are kept, outside of the data root
    #[arg(
        long,
        value_name = "DIR",
        env = "AION_MACHINE_JOURNAL",
        default_value = "data/machine"
    )]
    journal: PathBuf,
    /// Below this confinement nothing is executed
    #[arg(
        long,
        value_name = "TIER",
        env = "AION_MACHINE_REQUIRED_TIER",
        default_value = "landlock"
    )]
    required_tier: RequiredTier,
    /// A directory of the host that executions may read; can be given several times
    #[arg(long, value_name = "DIR")]
    read_only: Vec<PathBuf>,
    /// Who programs are: `unprivileged` (nobody, if the service is root), `UID:GID`, or `service`
    #[arg(
        long,
        value_name = "USER",
        env = "AION_MACHINE_RUN_AS",
        default_value = "unprivileged"
    )]
    run_as: RunAs,
    /// A path of every workspace that programs cannot change, like `.git/hooks`; can be given several times
    #[arg(long, value_name = "PATH")]
    protect: Vec<String>,
    /// A directory of the cgroup v2 file system for the limits of programs; the one delegated to the service if not given
    #[arg(long, value_name = "DIR", env = "AION_MACHINE_CGROUP")]
    cgroup: Option<PathBuf>,
    /// Where the audit log is kept, outside of the data root; the directory `audit` beside the keys if not given
    #[arg(long, value_name = "DIR", env = "AION_MACHINE_AUDIT")]
    audit: Option<PathBuf>,
    /// How much of the audit log is kept, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    audit_mib: u64,
    /// How long it is kept, in days
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    audit_days: u64,
    /// What a row of the audit log survives once what it tells of may happen
    #[arg(long, value_name = "WHAT", default_value = "none")]
    audit_durability: Survives,
    /// A file with the keys that sign X-Task-State, one `NAME SECRET` a line; without it anybody who may call may
    /// name any directory of the data root
    #[arg(long, value_name = "FILE", env = "AION_TASK_KEYS_FILE")]
    task_keys: Option<PathBuf>,
    /// Whether an X-Task-State is believed that nobody signed
    #[arg(long, value_name = "WHEN", default_value = "without-keys")]
    unsigned_task_state: UnsignedWhen,
    /// A file with the operator's key, or with sha256:HEX of it [the key itself: env AION_MACHINE_OPERATOR_KEY]. With it
    /// only who sends it in X-Operator-Key may read /v1/audit and /v1/enforcement; with task keys and without it, nobody
    #[arg(long, value_name = "FILE", env = "AION_MACHINE_OPERATOR_KEY_FILE")]
    operator_key_file: Option<PathBuf>,
    /// A variable that requests may set although it is named like a secret; can be given several times
    #[arg(long, value_name = "NAME")]
    allow_env: Vec<String>,
    /// How many programs run at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    max_executions: usize,
    /// How many programs run at once for one task
    #[arg(long, value_name = "N", default_value_t = 8)]
    max_executions_per_task: usize,
    /// The most memory that all processes of a program together can ask for, in MiB; 0 for no bound
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    max_memory_mib: u64,
    /// The most that a program can ask to write to disks, in MiB; 0 for no bound
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    max_written_mib: u64,
    /// The most that a program can ask for as its `/tmp`, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    max_tmp_mib: u64,
    /// The most processes and threads that a program can ask for
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_processes: u64,
    /// For how many tasks at once a process is kept ready that makes their programs cheaper to start; 0 for none
    #[arg(long, value_name = "N", default_value_t = 8)]
    max_wardens: usize,
    /// Executes in bubblewrap, by this program, instead of our own namespaces
    #[arg(long, value_name = "PROGRAM", num_args = 0..=1, default_missing_value = BUBBLEWRAP)]
    bubblewrap: Option<PathBuf>,
    /// A host that programs may reach through the proxy, like crates.io, *.example.com or db.internal:5432; can be
    /// given several times. Without one there is no network
    #[arg(long, value_name = "PATTERN")]
    allow_host: Vec<HostPattern>,
    /// Addresses beside public ones at which those hosts may be, like 10.1.0.0/16; can be given several times
    #[arg(long, value_name = "RANGE")]
    allow_range: Vec<AddressRange>,
    /// A name of this server, beside those of this host, under which /mcp may be called; can be given several times
    #[arg(long, value_name = "HOST")]
    mcp_host: Vec<String>,
    /// A web page's origin that may call /mcp, like https://app.example.com:443; can be given several times
    #[arg(long, value_name = "ORIGIN")]
    mcp_origin: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks after the audit log
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Serves the tools to one client over standard input and output, by the Model Context Protocol
    Mcp {
        /// The task of all calls: JSON {task_id, cwd}
        #[arg(long, value_name = "JSON", default_value = "{}", value_parser = task)]
        task: TaskState,
    },
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Checks that no row was changed, removed, added or moved; prints the newest row's number and hash
    Verify {
        /// A row that was the newest once, as it was printed then: NUMBER:HASH
        #[arg(long, value_name = "NUMBER:HASH", value_parser = known_row)]
        known: Option<(u64, String)>,
    },
}

fn known_row(text: &str) -> Result<(u64, String), String> {
    let parts = text.split_once(':');
    let known = parts.and_then(|(seq, hash)| Some((seq.parse().ok()?, hash.to_owned())));
    known.ok_or_else(|| "it is not NUMBER:HASH".to_owned())
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UnsignedWhen {
    /// If no keys are given
    WithoutKeys,
    /// Always
    Accept,
    /// Never
    Refuse,
}

impl From<UnsignedWhen> for Unsigned {
    fn from(when: UnsignedWhen) -> Self {
        match when {
            UnsignedWhen::WithoutKeys => Self::WithoutKeys,
            UnsignedWhen::Accept => Self::Accept,
            UnsignedWhen::Refuse => Self::Refuse,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Survives {
    /// The end of the server
    None,
    /// A crash of the host, if the file's name does
    File,
    /// A crash of the host
    Full,
}

impl From<Survives> for Durability {
    fn from(what: Survives) -> Self {
        match what {
            Survives::None => Self::None,
            Survives::File => Self::File,
            Survives::Full => Self::Full,
        }
    }
}

fn task(text: &str) -> Result<TaskState, String> {
    TaskState::parse(text).map_err(|problem| problem.to_string())
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RequiredTier {
    /// Anything goes: for hosts that are a sandbox themselves
    None,
    /// Limits and a clean environment
    Limits,
    /// Files are confined
    Landlock,
    /// The host is out of sight
    Namespaces,
}

impl From<RequiredTier> for Tier {
    fn from(tier: RequiredTier) -> Self {
        match tier {
            RequiredTier::None => Self::None,
            RequiredTier::Limits => Self::Limits,
            RequiredTier::Landlock => Self::Landlock,
            RequiredTier::Namespaces => Self::Namespaces,
        }
    }
}

fn main() -> ExitCode {
    aion_machine::supervisor::run_if_requested();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            aion_service::report("aion-machine-server", &*error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Box<dyn std::error::Error>> {
    let Cli {
        settings,
        serve,
        command,
    } = cli;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Some(Command::Audit {
            command: AuditCommand::Verify { known },
        }) => verify(&settings.audit_dir(), known.as_ref()),
        Some(Command::Mcp { task }) => {
            let tools = McpTools::new(options(settings)?)?.for_task(task);
            Ok(runtime.block_on(tools.serve_stdio())?)
        }
        None => {
            let serve = serve.resolve(aion_machine_server::PORT)?;
            let service = service(options(settings)?)?;
            Ok(runtime.block_on(aion_service::run(service, serve))?)
        }
    }
}

impl Settings {
    fn audit_dir(&self) -> PathBuf {
        self.audit.clone().unwrap_or_else(|| self.journal.join("audit"))
    }
}

fn options(cli: Settings) -> Result<MachineOptions, Box<dyn std::error::Error>> {
    let audit_dir = cli.audit_dir();
    let allowed = most(&cli);
    let mut mcp = McpOptions::default();
    mcp.allowed_hosts.extend(cli.mcp_host);
    mcp.allowed_origins.extend(cli.mcp_origin);
    let mut local = LocalOptions::default()
        .with_required(cli.required_tier.into())
        .with_max_executions(cli.max_executions)
        .with_max_wardens(cli.max_wardens)
        .with_most(allowed);
    local.read_only = cli.read_only;
    local.run_as = cli.run_as;
    for path in cli.protect {
        local.protected.push(RelPath::parse(&path)?);
    }
    if let Some(dir) = cli.cgroup {
        local.cgroups = Cgroups::At(dir);
    }
    local.allowed_env = cli.allow_env;
    if !cli.allow_host.is_empty() {
        let mut list = AllowList::new();
        (list.hosts, list.ranges) = (cli.allow_host, cli.allow_range);
        local.network = NetworkPolicy::Allow(list);
    }
    let machine = cli
        .bubblewrap
        .map(|program| bubblewrap(&cli.data_root, &local, program));
    let audit = AuditOptions::default()
        .with_max_bytes(cli.audit_mib << 20)
        .with_max_age(Duration::from_secs(cli.audit_days.saturating_mul(24 * 3600)))
        .with_durability(cli.audit_durability.into());
    let executions = ExecutionOptions::default().with_max_per_task(cli.max_executions_per_task);
    let mut options = MachineOptions::new(cli.data_root)
        .with_audit(audit_dir)
        .with_journal(cli.journal)
        .with_audit_options(audit)
        .with_unsigned(cli.unsigned_task_state.into())
        .with_executions(executions)
        .with_local(local)
        .with_mcp(mcp);
    options.machine = machine.transpose()?;
    if let Some(path) = cli.task_keys {
        options = options.with_task_keys(Arc::new(TaskKeys::parse(&std::fs::read_to_string(path)?)?));
    }
    if let Some(key) = operator_key(cli.operator_key_file.as_deref())? {
        options = options.with_operator_key(key);
    }
    Ok(options)
}

/// What no request can have more of.
fn most(cli: &Settings) -> ExecLimits {
    let bytes = |mib: u64| mib.saturating_mul(1 << 20);
    let mut most = ExecLimits::default()
        .with_total_memory_bytes(bytes(cli.max_memory_mib))
        .with_written_bytes(bytes(cli.max_written_mib))
        .with_tmp_bytes(bytes(cli.max_tmp_mib))
        .with_processes(cli.max_processes);
    // Address space is not memory; one file may be as large as all that is written.
    most.memory_bytes = 0;
    most.file_bytes = if most.written_bytes == 0 {
        u64::MAX
    } else {
        most.written_bytes
    };
    (most.cpu_s, most.open_files) = (3600, 4096);
    most
}

fn operator_key(file: Option<&Path>) -> Result<Option<ApiKey>, Box<dyn std::error::Error>> {
    let secret = match file {
        Some(path) => Some(std::fs::read_to_string(path)?.into()),
        None => aion_service::secret("AION_MACHINE_OPERATOR_KEY"),
    };
    Ok(secret.map(|secret| ApiKey::new(&secret)).transpose()?)
}

fn bubblewrap(
    data_root: &Path,
    local: &LocalOptions,
    program: PathBuf,
) -> Result<Arc<dyn Machine>, Box<dyn std::error::Error>> {
    std::fs::create_dir_all(data_root)?;
    let machine = BubblewrapMachine::open_root(data_root, local.clone(), program)?;
    Ok(Arc::new(machine))
}

#[allow(clippy::print_stdout)] // what the command is for
fn verify(dir: &Path, known: Option<&(u64, String)>) -> Result<(), Box<dyn std::error::Error>> {
    let known = known.map(|(seq, hash)| (*seq, hash.as_str()));
    let verified = aion_machine::audit::verify(dir, known)?;
    println!(
        "{} rows hold; rows up to {} are not kept any more",
        verified.rows, verified.anchor_seq
    );
    println!("the newest is {}:{}", verified.last_seq, verified.last_hash);
    if verified.torn_bytes > 0 {
        println!("{} bytes after it are half a row", verified.torn_bytes);
    }
    Ok(())
}
