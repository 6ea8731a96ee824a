//! `aion-router`: how good a catalog's shortlists are, and the tools of MCP servers, on the command line.
#![allow(clippy::print_stdout, reason = "this is a terminal program")]

mod eval;
mod import_mcp;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Which tools, files and docs belong in the next step.
#[derive(Debug, Parser)]
#[command(name = "aion-router", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Asks questions whose answers are known: recall, NDCG and bits, before, while and after learning
    Eval(eval::Eval),
    /// Reads the tools of a running MCP server, for a router or as a document
    ImportMcp(import_mcp::ImportMcp),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Eval(eval) => eval.run(),
        Command::ImportMcp(import) => import.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            aion_service::report("aion-router", &*error);
            ExitCode::FAILURE
        }
    }
}
