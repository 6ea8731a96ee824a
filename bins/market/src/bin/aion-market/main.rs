//! `aion-market`: scores files of forecasts, without a server.

mod args;
mod input;
mod paint;
mod tally;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command, ScoreArgs};
use input::Rows;
use tally::{Scores, Tally};

fn main() -> ExitCode {
    let Command::Score(args) = Cli::parse().command;
    match score(&args) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough: `aion-market score FILE | head`.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aion-market: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Input(#[from] input::InputError),
    #[error("cannot draw: {0}")]
    Draw(#[from] aion_market::Error),
    #[error("cannot write {path}: {source}")]
    Write {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error("cannot write the table: {0}")]
    Output(std::io::Error),
}

fn score(args: &ScoreArgs) -> Result<(), Failure> {
    let mut tally = Tally::new(args.clip);
    let rows = Rows::open(&args.file, &args.columns(), bar(args))?;
    rows.each(args.max_rows, &mut |row| tally.add(row))?;
    let mut scores: Vec<Scores> = tally.finish(args.bins)?;
    if scores.is_empty() {
        return Err(input::InputError::Empty(args.file.clone()).into());
    }
    scores.sort_by(|a, b| {
        a.loss_bits
            .total_cmp(&b.loss_bits)
            .then_with(|| a.forecaster.cmp(&b.forecaster))
    });
    if let Some(folder) = &args.diagram_dir {
        paint::diagrams(folder, &scores)?;
    }
    let mut out = std::io::stdout().lock();
    let printed = if args.json {
        paint::json(&mut out, &scores)
    } else {
        paint::table(&mut out, &scores)
    };
    printed.and_then(|()| out.flush()).map_err(Failure::Output)
}

/// A bar over the bytes of a file that takes a while, where somebody watches.
fn bar(args: &ScoreArgs) -> indicatif::ProgressBar {
    const WORTH_A_BAR: u64 = 8 << 20;
    let bytes = std::fs::metadata(&args.file).map_or(0, |meta| meta.len());
    if args.json || bytes < WORTH_A_BAR || !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(bytes);
    let style = indicatif::ProgressStyle::with_template("{bar:40} {percent}% {bytes}/{total_bytes} {eta}");
    bar.with_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()))
}
