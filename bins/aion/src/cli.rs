//! The commands and their flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::doctor::{self, DoctorOptions};
use crate::model::{DEFAULT_MODEL, KNOWN_MODELS, ModelCache, ModelSource, Progress};
use crate::{Result, terminal};

/// The address of `aion up` unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9300";

/// Durable tasks, a sandbox, a local language model, a market that scores beliefs: in one program.
#[derive(Debug, Parser)]
#[command(name = "aion", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Look at the models on this machine, or fetch one
    #[command(subcommand)]
    Model(ModelCommand),
    /// Say what is there, what is missing and what to do
    Doctor(DoctorArgs),
}

/// `aion model ...`
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum ModelCommand {
    /// List the models in the cache
    List {
        /// Print a JSON document
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model unless it is there, and print its path
    Pull {
        /// smollm2, org/repo or org/repo/file.gguf
        #[arg(default_value = DEFAULT_MODEL.name)]
        name: ModelSource,
    },
    /// Print the path of a model that is there
    Path {
        /// smollm2, a file of the cache, a path, org/repo or org/repo/file.gguf
        #[arg(default_value = DEFAULT_MODEL.name)]
        name: ModelSource,
    },
}

/// Where everything is kept.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// Directory of the databases and workspaces
    #[arg(long, value_name = "DIR", env = "AION_DATA", default_value = "data")]
    pub data: PathBuf,
}

/// Flags of `aion doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The address that `aion up` will use
    #[arg(long, value_name = "ADDR:PORT", default_value = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

/// Does what the command line says.
///
/// # Errors
/// What the command could not do.
pub async fn dispatch(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Model(command) => model(command).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => examine(args).await,
    }
}

fn model(command: ModelCommand) -> Result<()> {
    let cache = ModelCache::from_env()?;
    match command {
        ModelCommand::List { json: true } => terminal::json(&cache.list()?),
        ModelCommand::List { json: false } => list(&cache)?,
        ModelCommand::Path { name } => terminal::line(&cache.find(&name)?.display().to_string()),
        ModelCommand::Pull { name } => {
            let path = cache.pull(&name, &Progress::on_terminal())?;
            terminal::line(&path.display().to_string());
        }
    }
    Ok(())
}

fn list(cache: &ModelCache) -> Result<()> {
    let models = cache.list()?;
    for model in &models {
        let mib = model.bytes as f64 / (1u64 << 20) as f64;
        terminal::line(&format!("{mib:9.1} MiB  {}", model.name));
    }
    for known in KNOWN_MODELS {
        if !models.iter().any(|model| model.name == known.file_name) {
            terminal::line(&format!("    to fetch  {} ({})", known.name, known.file_name));
        }
    }
    Ok(())
}

async fn examine(args: DoctorArgs) -> Result<ExitCode> {
    let report = doctor::examine(&DoctorOptions {
        data: args.data.data,
        cache: ModelCache::from_env()?,
        listen: args.listen,
    })
    .await;
    if args.json {
        terminal::json(&report);
    } else {
        terminal::line(&doctor::as_text(&report));
    }
    Ok(if report.healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
