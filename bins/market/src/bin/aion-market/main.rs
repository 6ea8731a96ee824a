//! `aion-market`: scores and corrects files of forecasts, without a server.

mod args;
mod calibrate;
mod input;
mod paint;
mod tally;

use std::io::{IsTerminal, StdoutLock, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Columns, Command, InputArgs, ScoreArgs};
use input::Rows;
use tally::{Scores, Tally};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Score(args) => score(&args),
        Command::Calibrate(args) => calibrate::run(&args),
    };
    match done {
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
    #[error("cannot score: {0}")]
    Score(#[from] aion_market::Error),
    #[error("the rows of {forecaster:?} cannot be calibrated: {source}")]
    Calibrate {
        forecaster: String,
        source: aion_market::Error,
    },
    #[error("cannot write {path}: {source}")]
    Write {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error("cannot write the table: {0}")]
    Output(std::io::Error),
}

fn score(args: &ScoreArgs) -> Result<(), Failure> {
    let tally = read(&args.input, &args.columns(), args.clip)?;
    let mut scores: Vec<Scores> = tally.finish(args.bins)?;
    scores.sort_by(|a, b| {
        a.loss_bits
            .total_cmp(&b.loss_bits)
            .then_with(|| a.forecaster.cmp(&b.forecaster))
    });
    if let Some(folder) = &args.diagram_dir {
        paint::diagrams(folder, &scores)?;
    }
    print(|out| {
        if args.input.json {
            paint::json(out, &scores)
        } else {
            paint::table(out, &scores)
        }
    })
}

/// The rows of a file, of which there is at least one.
fn read(input: &InputArgs, columns: &Columns, clip: f64) -> Result<Tally, Failure> {
    let mut tally = Tally::new(clip);
    let rows = Rows::open(&input.file, columns, bar(input))?;
    rows.each(input.max_rows, &mut |row| tally.add(row))?;
    if tally.is_empty() {
        return Err(input::InputError::Empty(input.file.clone()).into());
    }
    Ok(tally)
}

/// Writes to the standard output.
fn print(write: impl FnOnce(&mut StdoutLock<'static>) -> std::io::Result<()>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    write(&mut out)
        .and_then(|()| out.flush())
        .map_err(Failure::Output)
}

/// A bar over the bytes of a file that takes a while, where somebody watches.
fn bar(args: &InputArgs) -> indicatif::ProgressBar {
    const WORTH_A_BAR: u64 = 8 << 20;
    let bytes = std::fs::metadata(&args.file).map_or(0, |meta| meta.len());
    if args.json || bytes < WORTH_A_BAR || !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(bytes);
    let style = indicatif::ProgressStyle::with_template("{bar:40} {percent}% {bytes}/{total_bytes} {eta}");
    bar.with_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()))
}
