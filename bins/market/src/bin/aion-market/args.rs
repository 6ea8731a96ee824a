//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Scores forecasts: log score in bits, Brier score, calibration error, skill.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 scored; 1 a file cannot be read or a row is not valid; 2 the command line is wrong."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Score a file of forecasts: one row a forecast, with what happened
    Score(ScoreArgs),
}

const COLUMNS: &str = "\
Columns of FILE (.csv with a header, .jsonl with one object a line, or .parquet):
  forecaster    who forecast; optional, one forecaster without it
  probability   of the event, in [0, 1]
  outcome       1, true or yes if it happened; 0, false or no if not
  base          probability that a baseline gave; optional, see below
With more than two outcomes, --probabilities names one column for each (or, in .jsonl, one member
with a list), and outcome is the index of the one that happened, from 0, or the name of its column.

The table, best first:
  n       rows            log     mean log loss in bits: 0 is perfect, 1 a fair coin
  Brier   mean over all outcomes, 0 to 2; for one probability the one-sided score, 0 to 1
  ECE     expected calibration error (two outcomes only)
  skill   bits gained a row on the baseline, with its standard error; the baseline is the column
          base or, without it, how often each outcome happened in the forecaster's own rows

Exit codes: 0 scored; 1 a file cannot be read or a row is not valid; 2 the command line is wrong.";

#[derive(Debug, Args)]
#[command(after_help = COLUMNS)]
pub(crate) struct ScoreArgs {
    /// The forecasts: .csv, .jsonl or .parquet
    pub(crate) file: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a reliability diagram of each forecaster, and a picture of their losses, into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) diagram_dir: Option<PathBuf>,
    /// Bins of the calibration error and of the diagrams
    #[arg(long, default_value_t = 10, value_parser = bins)]
    pub(crate) bins: usize,
    /// Mix each forecast with this much of the uniform one, so that no loss is infinite
    #[arg(long, value_name = "EPS", default_value_t = 0.0, value_parser = share)]
    pub(crate) clip: f64,
    /// Refuse files with more rows
    #[arg(long, value_name = "N", default_value_t = 20_000_000)]
    pub(crate) max_rows: u64,
    /// Column of the forecaster
    #[arg(long, value_name = "COLUMN", default_value = "forecaster")]
    forecaster: String,
    /// Column of the probability of the event
    #[arg(long, value_name = "COLUMN", default_value = "probability")]
    probability: String,
    /// Columns of the probabilities of all outcomes
    #[arg(
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        conflicts_with = "probability"
    )]
    probabilities: Vec<String>,
    /// Column of what happened
    #[arg(long, value_name = "COLUMN", default_value = "outcome")]
    outcome: String,
    /// Column of a baseline's probability
    #[arg(long, value_name = "COLUMN", default_value = "base")]
    base: String,
}

/// Which columns say what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) forecaster: String,
    pub(crate) probabilities: Vec<String>,
    pub(crate) outcome: String,
    pub(crate) base: String,
}

impl ScoreArgs {
    pub(crate) fn columns(&self) -> Columns {
        let mut probabilities = self.probabilities.clone();
        if probabilities.is_empty() {
            probabilities.push(self.probability.clone());
        }
        Columns {
            forecaster: self.forecaster.clone(),
            probabilities,
            outcome: self.outcome.clone(),
            base: self.base.clone(),
        }
    }
}

fn bins(text: &str) -> Result<usize, String> {
    let bins = text.parse().ok().filter(|bins| (1..=1_000).contains(bins));
    bins.ok_or_else(|| "a number from 1 to 1000".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|eps| (0.0..=0.1).contains(eps));
    share.ok_or_else(|| "a number from 0 to 0.1".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
