//! Files of forecasts, read row by row; every complaint names file, line and column.

mod csv;
mod jsonl;
#[cfg(feature = "parquet")]
mod parquet;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use crate::args::Columns;

/// The most outcomes of one forecast.
pub(crate) const MAX_OUTCOMES: usize = 4_096;

/// One forecast with what happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) forecaster: String,
    pub(crate) belief: Belief,
    /// Index of what happened; of two outcomes, 0 is the event and 1 is that it did not happen.
    pub(crate) outcome: usize,
    /// The probability that a baseline gave to the event.
    pub(crate) base: Option<f64>,
}

/// What was forecast.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Belief {
    /// The probability of an event.
    Event(f64),
    /// The probability of each outcome.
    Outcomes(Vec<f64>),
}

/// Why a file cannot be scored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0}: the name must end in .csv, .jsonl or .parquet")]
    UnknownKind(PathBuf),
    #[cfg(not(feature = "parquet"))]
    #[error("{0}: this program was built without the feature `parquet`")]
    NoParquet(PathBuf),
    #[error(
        "{path}: there is no column {column:?}; there are {found}. Options such as --probability name the columns"
    )]
    NoColumn {
        path: PathBuf,
        column: String,
        found: String,
    },
    #[error("{path}, {place}: {reason}")]
    Row {
        path: PathBuf,
        place: Place,
        reason: String,
    },
    #[error("{path} has more than {limit} rows; --max-rows raises the limit")]
    TooLong { path: PathBuf, limit: u64 },
    #[error("{0} has no rows")]
    Empty(PathBuf),
}

/// Where in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `line` or `row`.
    pub(crate) unit: &'static str,
    pub(crate) number: u64,
    pub(crate) column: Option<String>,
}

impl Place {
    pub(crate) fn line(number: u64) -> Self {
        Self {
            unit: "line",
            number,
            column: None,
        }
    }

    #[cfg(feature = "parquet")]
    pub(crate) fn row(number: u64) -> Self {
        Self {
            unit: "row",
            number,
            column: None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.unit, self.number)?;
        match &self.column {
            Some(column) => write!(f, ", column {column:?}"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a row, and in which column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) column: Option<String>,
    pub(crate) reason: String,
}

impl Fault {
    pub(crate) fn new(column: &str, reason: impl Into<String>) -> Self {
        Self {
            column: Some(column.to_owned()),
            reason: reason.into(),
        }
    }
}

impl Fault {
    /// What a score refuses lies in the forecast, if nothing else is named.
    fn of_forecast(mut self, columns: &Columns) -> Self {
        self.column.get_or_insert_with(|| columns.probabilities.join(","));
        self
    }
}

impl From<aion_market::Error> for Fault {
    fn from(error: aion_market::Error) -> Self {
        Self {
            column: None,
            reason: error.to_string(),
        }
    }
}

/// What is done with each row.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Row) -> Result<(), Fault>;

/// A file of forecasts.
pub(crate) struct Rows {
    path: PathBuf,
    columns: Columns,
    bar: ProgressBar,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Csv,
    Jsonl,
    Parquet,
}

impl Rows {
    pub(crate) fn open(path: &Path, columns: &Columns, bar: ProgressBar) -> Result<Self, InputError> {
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        let kind = match ending.to_ascii_lowercase().as_str() {
            "csv" => Kind::Csv,
            "jsonl" | "ndjson" => Kind::Jsonl,
            "parquet" => Kind::Parquet,
            _ => return Err(InputError::UnknownKind(path.to_owned())),
        };
        Ok(Self {
            path: path.to_owned(),
            columns: columns.clone(),
            bar,
            kind,
        })
    }

    /// Gives every row to `sink`.
    pub(crate) fn each(&self, max_rows: u64, sink: Sink<'_>) -> Result<(), InputError> {
        let mut rows = 0;
        let mut counted = |place: Place, row: Result<Row, Fault>| {
            rows += 1;
            if rows > max_rows {
                return Err(InputError::TooLong {
                    path: self.path.clone(),
                    limit: max_rows,
                });
            }
            row.and_then(|row| sink(row).map_err(|fault| fault.of_forecast(&self.columns)))
                .map_err(|fault| self.fault(place, fault))
        };
        match self.kind {
            Kind::Csv => csv::each(self, &mut counted),
            Kind::Jsonl => jsonl::each(self, &mut counted),
            #[cfg(feature = "parquet")]
            Kind::Parquet => parquet::each(self, &mut counted),
            #[cfg(not(feature = "parquet"))]
            Kind::Parquet => Err(InputError::NoParquet(self.path.clone())),
        }?;
        self.bar.finish_and_clear();
        Ok(())
    }

    fn fault(&self, mut place: Place, fault: Fault) -> InputError {
        place.column = fault.column;
        InputError::Row {
            path: self.path.clone(),
            place,
            reason: fault.reason,
        }
    }

    fn file(&self) -> Result<File, InputError> {
        File::open(&self.path).map_err(|source| self.unreadable(source))
    }

    /// The file, with the bar following what is read.
    fn reader(&self) -> Result<impl Read, InputError> {
        Ok(self.bar.wrap_read(self.file()?))
    }

    fn unreadable(&self, source: std::io::Error) -> InputError {
        InputError::Read {
            path: self.path.clone(),
            source,
        }
    }

    fn no_column<'a>(&self, column: &str, found: impl Iterator<Item = &'a str>) -> InputError {
        let found: Vec<String> = found.take(20).map(|name| format!("{name:?}")).collect();
        InputError::NoColumn {
            path: self.path.clone(),
            column: column.to_owned(),
            found: found.join(", "),
        }
    }
}

/// Takes a row, or says what is wrong with it.
type Counted<'a> = &'a mut dyn FnMut(Place, Result<Row, Fault>) -> Result<(), InputError>;

/// A probability of a column.
fn probability(column: &str, p: f64) -> Result<f64, Fault> {
    if (0.0..=1.0).contains(&p) {
        return Ok(p);
    }
    Err(Fault::new(column, format!("{p} is not in [0, 1]")))
}

/// What was forecast, from the values of all columns.
fn belief(columns: &[String], values: &[f64]) -> Result<Belief, Fault> {
    for (i, p) in values.iter().enumerate() {
        probability(columns.get(i).or(columns.first()).map_or("", String::as_str), *p)?;
    }
    match values {
        [p] => Ok(Belief::Event(*p)),
        _ if (2..=MAX_OUTCOMES).contains(&values.len()) => Ok(Belief::Outcomes(values.to_vec())),
        _ => Err(Fault::new(
            &columns.join(","),
            format!("{} outcomes; there must be 2 to {MAX_OUTCOMES}", values.len()),
        )),
    }
}

/// What happened, from text: yes or no of an event; the index or the name of one of several outcomes.
fn outcome_of_text(columns: &Columns, belief: &Belief, text: &str) -> Result<usize, Fault> {
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.strip_suffix(".0").unwrap_or(&lower).parse::<usize>().ok();
    let found = match belief {
        Belief::Event(_) => match (lower.as_str(), number) {
            ("true" | "yes", _) | (_, Some(1)) => Some(0),
            ("false" | "no", _) | (_, Some(0)) => Some(1),
            _ => None,
        },
        Belief::Outcomes(all) => {
            let named = columns.probabilities.iter().position(|name| name == text.trim());
            named.or(number).filter(|index| *index < all.len())
        }
    };
    found.ok_or_else(|| {
        let wanted = match belief {
            Belief::Event(_) => "1, 0, true, false, yes or no".to_owned(),
            Belief::Outcomes(all) => format!("an index below {} or the name of a column", all.len()),
        };
        Fault::new(&columns.outcome, format!("{text:?} is not {wanted}"))
    })
}
