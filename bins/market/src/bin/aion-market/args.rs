//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Scores and corrects forecasts: log score in bits, Brier score, calibration error, skill.
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
    /// Learn from a file of forecasts how to correct them, and say what that is worth
    Calibrate(CalibrateArgs),
}

const COLUMNS: &str = "\
Columns of FILE (.csv with a header, .jsonl with one object a line, or .parquet):
  forecaster    who forecast; optional, one forecaster without it
  probability   of the event, in [0, 1]
  outcome       1, true or yes if it happened; 0, false or no if not
  base          probability that a baseline gave; optional, but in all rows of a forecaster
With more than two outcomes, --probabilities names one column for each (or, in .jsonl, one member
with a list), and outcome is the index of the one that happened, from 0, or the name of its column.

The table, best first:
  n       rows            log     mean log loss in bits: 0 is perfect, 1 a fair coin
  Brier   mean over all outcomes, 0 to 2; for one probability the one-sided score, 0 to 1
  ECE     expected calibration error (two outcomes only)
  skill   bits gained a row on the baseline, with its standard error; the baseline is the column
          base or, where a row is without it, how often each outcome happened in the rows of the
          forecaster

Exit codes: 0 scored; 1 a file cannot be read or a row is not valid; 2 the command line is wrong.";

#[derive(Debug, Args)]
#[command(after_help = COLUMNS)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    /// Write a reliability diagram of each forecaster, and a picture of their losses, into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) diagram_dir: Option<PathBuf>,
    /// Bins of the calibration error and of the diagrams
    #[arg(long, default_value_t = 10, value_parser = bins)]
    pub(crate) bins: usize,
    /// Mix each forecast with this much of the uniform one, so that no loss is infinite
    #[arg(long, value_name = "EPS", default_value_t = 0.0, value_parser = share)]
    pub(crate) clip: f64,
    /// Column of a baseline's probability
    #[arg(long, value_name = "COLUMN", default_value = "base")]
    base: String,
    /// Columns of the probabilities of all outcomes
    #[arg(
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        conflicts_with = "probability"
    )]
    probabilities: Vec<String>,
}

const CALIBRATE: &str = "\
Columns of FILE are those of `aion-market score`, with one probability a row. The table says, for each
forecaster, what is lost before and after; `after` is honest: each row is corrected by a fit that has not
seen it. --out-dir writes the fit to all rows, to be used on forecasts that come.

Exit codes: 0 calibrated; 1 a file cannot be read or a row is not valid; 2 the command line is wrong.";

#[derive(Debug, Args)]
#[command(after_help = CALIBRATE)]
pub(crate) struct CalibrateArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    /// What the correction may look like
    #[arg(long, value_enum, default_value_t = Family::Platt)]
    pub(crate) method: Family,
    /// In how many parts the rows are dealt
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=100))]
    pub(crate) folds: u16,
    /// Write the calibrator of each forecaster into this folder, as JSON
    #[arg(long, value_name = "DIR")]
    pub(crate) out_dir: Option<PathBuf>,
}

/// A family of corrections, by how many rows it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Family {
    /// One parameter: a handful of rows
    Temperature,
    /// Two parameters: tens of rows
    Platt,
    /// Three parameters: hundreds of rows
    Beta,
    /// Any monotone map: thousands of rows
    Isotonic,
}

#[derive(Debug, Args)]
pub(crate) struct InputArgs {
    /// The forecasts: .csv, .jsonl or .parquet
    pub(crate) file: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Refuse files with more rows
    #[arg(long, value_name = "N", default_value_t = 20_000_000)]
    pub(crate) max_rows: u64,
    /// Column of the forecaster
    #[arg(long, value_name = "COLUMN", default_value = "forecaster")]
    forecaster: String,
    /// Column of the probability of the event
    #[arg(long, value_name = "COLUMN", default_value = "probability")]
    probability: String,
    /// Column of what happened
    #[arg(long, value_name = "COLUMN", default_value = "outcome")]
    outcome: String,
}

/// Which columns say what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) forecaster: String,
    pub(crate) probabilities: Vec<String>,
    pub(crate) outcome: String,
    pub(crate) base: Option<String>,
}

impl Columns {
    /// All that are read if they are there.
    pub(crate) fn used(&self) -> Vec<&str> {
        let single = [&self.forecaster, &self.outcome].into_iter();
        let all = single.chain(&self.probabilities).chain(&self.base);
        all.map(String::as_str).collect()
    }
}

impl InputArgs {
    /// The columns of one probability a row.
    pub(crate) fn columns(&self) -> Columns {
        Columns {
            forecaster: self.forecaster.clone(),
            probabilities: vec![self.probability.clone()],
            outcome: self.outcome.clone(),
            base: None,
        }
    }
}

impl ScoreArgs {
    pub(crate) fn columns(&self) -> Columns {
        let mut columns = self.input.columns();
        if !self.probabilities.is_empty() {
            columns.probabilities.clone_from(&self.probabilities);
        }
        columns.base = Some(self.base.clone());
        columns
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
