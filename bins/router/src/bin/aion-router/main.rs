//! `aion-router`: how good a catalog's shortlists are, on the command line.
#![allow(clippy::print_stdout, reason = "this is a terminal program")]

mod eval;

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
}

fn main() -> ExitCode {
    let Command::Eval(eval) = Cli::parse().command;
    match eval.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            aion_service::report("aion-router", &*error);
            ExitCode::FAILURE
        }
    }
}
