//! `cargo xtask`: the command line of [`xtask`].
#![allow(clippy::print_stdout)] // this is a terminal program

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{ci, command, house, openapi, peers, soak};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Every rule of the repository as a program")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything that a change must pass; `.ci/run` is this after set-up
    Ci(ci::CiArgs),
    /// The house rules that need no compiler: layers, sizes, openings, licences
    Check,
    /// Write openapi/*.json from what the services serve
    Openapi,
    /// Measure ours beside others in the same run
    Peers(peers::PeersArgs),
    /// Kill workers of the task store again and again, and see that it keeps its promises
    Soak(soak::SoakArgs),
}

fn main() -> ExitCode {
    let root = command::workspace_root();
    let done = match Cli::parse().task {
        Task::Ci(args) => ci::run(&root, &args),
        Task::Check => house::report(&root),
        Task::Openapi => openapi::write(&root),
        Task::Peers(args) => peers::run(&root, &args),
        Task::Soak(args) => soak::run(&root, &args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}
