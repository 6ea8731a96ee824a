//! The program `aion`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // First of all: the sandbox starts this very program as the supervisor of what it executes.
    aion_machine::supervisor::run_if_requested();
    let cli = aion_cli::cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            aion_cli::terminal::failure(&error);
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(aion_cli::cli::dispatch(cli)) {
        Ok(code) => code,
        Err(error) => {
            aion_cli::terminal::failure(&error);
            if let Some(advice) = aion_cli::terminal::advice(&error) {
                eprintln!("{advice}");
            }
            ExitCode::FAILURE
        }
    }
}
