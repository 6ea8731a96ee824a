//! The machine's server.

use std::path::PathBuf;
use std::process::ExitCode;

use aion_machine::{LocalOptions, Tier};
use aion_machine_server::mcp::{McpOptions, McpTools};
use aion_machine_server::{MachineOptions, TaskState, service};
use aion_service::ServeArgs;
use clap::{Parser, Subcommand, ValueEnum};

/// Files and processes for agents, confined under one directory.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The directory under which everything happens
    #[arg(long, value_name = "DIR", env = "DATA_ROOT", default_value = "data/work")]
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
    /// A name of this server, beside those of this host, under which /mcp may be called; can be given several times
    #[arg(long, value_name = "HOST")]
    mcp_host: Vec<String>,
    /// A web page's origin that may call /mcp, like https://app.example.com:443; can be given several times
    #[arg(long, value_name = "ORIGIN")]
    mcp_origin: Vec<String>,
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the tools to one client over standard input and output, by the Model Context Protocol
    Mcp {
        /// The task of all calls: JSON {task_id, cwd}
        #[arg(long, value_name = "JSON", default_value = "{}", value_parser = task)]
        task: TaskState,
    },
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
    let mut mcp = McpOptions::default();
    mcp.allowed_hosts.extend(cli.mcp_host);
    mcp.allowed_origins.extend(cli.mcp_origin);
    let mut local = LocalOptions::default().with_required(cli.required_tier.into());
    for dir in cli.read_only {
        local = local.with_read_only(dir);
    }
    let options = MachineOptions::new(cli.data_root)
        .with_journal(cli.journal)
        .with_local(local)
        .with_mcp(mcp);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(Command::Mcp { task }) = cli.command {
        let tools = McpTools::new(options)?.for_task(task);
        return Ok(runtime.block_on(tools.serve_stdio())?);
    }
    let serve = cli.serve.resolve(aion_machine_server::PORT)?;
    let service = service(options)?;
    runtime.block_on(aion_service::run(service, serve))?;
    Ok(())
}
