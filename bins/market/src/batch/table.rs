//! Columns as flat arrays, and the losses of their rows.

use std::f64::consts::LN_2;

use aion_market::{Error, divergence, score};
use aion_service::Problem;

use super::kernels;
use crate::problem::invalid;
use crate::wire::columns::{Rule, ScoreColumns};

/// The most numbers of one row.
pub(super) const MAX_WIDTH: usize = 4_096;

/// A column of lists: list `i` is `values[ends[i - 1]..ends[i]]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Lists {
    pub(super) values: Vec<f64>,
    pub(super) ends: Vec<usize>,
}

impl Lists {
    pub(super) fn push(&mut self, list: impl IntoIterator<Item = f64>) {
        self.values.extend(list);
        self.ends.push(self.values.len());
    }

    /// How long all lists are, if they are equally long.
    pub(super) fn width(&self) -> Option<usize> {
        let width = *self.ends.first()?;
        let even = self.ends.iter().zip(1..).all(|(end, row)| *end == row * width);
        even.then_some(width)
    }

    fn get(&self, row: usize) -> &[f64] {
        let from = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.values[from..self.ends[row]]
    }
}

impl From<Vec<Vec<f64>>> for Lists {
    fn from(rows: Vec<Vec<f64>>) -> Self {
        let mut lists = Self::default();
        rows.into_iter().for_each(|row| lists.push(row));
        lists
    }
}

/// The columns that a body has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Table {
    pub(super) probabilities: Option<Lists>,
    pub(super) outcome: Option<Vec<u32>>,
    pub(super) reference: Option<Lists>,
    pub(super) members: Option<Lists>,
    pub(super) value: Option<Vec<f64>>,
    pub(super) location: Option<Vec<f64>>,
    pub(super) scale: Option<Vec<f64>>,
}

impl Table {
    pub(super) fn of_json(columns: ScoreColumns, max_rows: usize) -> Result<Self, Problem> {
        let table = Self {
            probabilities: columns.probabilities.map(Lists::from),
            outcome: columns.outcome,
            reference: columns.reference.map(Lists::from),
            members: columns.members.map(Lists::from),
            value: columns.value,
            location: columns.location,
            scale: columns.scale,
        };
        let long = table.lengths().find(|(_, rows)| *rows > max_rows);
        long.map_or(Ok(()), |(name, _)| Err(too_many(name, max_rows)))?;
        Ok(table)
    }

    /// The columns that there are, with their numbers of rows.
    fn lengths(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let lists = |lists: &Option<Lists>| lists.as_ref().map(|lists| lists.ends.len());
        let numbers = |numbers: &Option<Vec<f64>>| numbers.as_ref().map(Vec::len);
        let all = [
            ("probabilities", lists(&self.probabilities)),
            ("outcome", self.outcome.as_ref().map(Vec::len)),
            ("reference", lists(&self.reference)),
            ("members", lists(&self.members)),
            ("value", numbers(&self.value)),
            ("location", numbers(&self.location)),
            ("scale", numbers(&self.scale)),
        ];
        all.into_iter().filter_map(|(name, rows)| Some((name, rows?)))
    }

    /// The loss of each row; 0 is best.
    pub(super) fn losses(&self, rule: Rule) -> Result<Vec<f64>, Problem> {
        let needed: &[&str] = match rule {
            Rule::Log | Rule::Brier | Rule::Spherical | Rule::Rps => &["probabilities", "outcome"],
            Rule::Kl | Rule::JensenShannon | Rule::CrossEntropy => &["probabilities", "reference"],
            Rule::Crps => &["members", "value"],
            Rule::CrpsNormal | Rule::CrpsLogistic => &["location", "scale", "value"],
        };
        let rows = self.check(rule, needed)?;
        if let Some(mut losses) = kernels::losses(self, rule, rows) {
            losses.iter_mut().for_each(|loss| *loss = at_least_zero(*loss));
            return Ok(losses);
        }
        (0..rows).map(|row| self.loss(rule, needed[0], row)).collect()
    }

    /// The number of rows, if the columns are those of the rule and equally long.
    fn check(&self, rule: Rule, needed: &[&str]) -> Result<usize, Problem> {
        let has = |name: &str| self.lengths().find(|(column, _)| *column == name);
        for name in needed {
            if has(name).is_none() {
                let detail = format!("rule {} needs the column {name}", rule.as_str());
                return Err(invalid(&format!("/{name}"), detail));
            }
        }
        let (first, rows) = has(needed[0]).unwrap_or_default();
        for (name, found) in self.lengths() {
            if !needed.contains(&name) {
                let detail = format!("rule {} has no column {name}", rule.as_str());
                return Err(invalid(&format!("/{name}"), detail));
            }
            if found != rows {
                let detail = format!("{found} rows, but {first} has {rows}");
                return Err(invalid(&format!("/{name}"), detail));
            }
        }
        if rows == 0 {
            return Err(invalid(&format!("/{first}"), "there are no rows"));
        }
        Ok(rows)
    }

    fn loss(&self, rule: Rule, column: &str, row: usize) -> Result<f64, Problem> {
        let fault = |error: Error| {
            let column = column_of(&error).unwrap_or(column);
            invalid(&format!("/{column}/{row}"), error.to_string())
        };
        let width = self.width(row);
        if width > MAX_WIDTH {
            let detail = format!("{width} numbers; a row has at most {MAX_WIDTH}");
            return Err(invalid(&format!("/{column}/{row}"), detail));
        }
        let loss = self.row(rule, row).map_err(fault)?;
        Ok(at_least_zero(loss))
    }

    fn width(&self, row: usize) -> usize {
        let lists = [&self.probabilities, &self.reference, &self.members];
        let widths = lists.into_iter().flatten().map(|lists| lists.get(row).len());
        widths.max().unwrap_or(1)
    }

    fn row(&self, rule: Rule, row: usize) -> Result<f64, Error> {
        let q = list(self.probabilities.as_ref(), row);
        let y = self.outcome.as_ref().map_or(0, |outcomes| outcomes[row] as usize);
        let p = list(self.reference.as_ref(), row);
        let (x, at) = (list(self.members.as_ref(), row), number(self.value.as_ref(), row));
        let (location, scale) = (
            number(self.location.as_ref(), row),
            number(self.scale.as_ref(), row),
        );
        match rule {
            Rule::Log => score::log_score(q, y).map(|nats| -nats / LN_2),
            Rule::Brier => score::brier(q, y),
            Rule::Spherical => score::spherical(q, y).map(|reward| 1.0 - reward),
            Rule::Rps => score::rps(q, y),
            Rule::Kl => divergence::kl(p, q).map(|nats| nats / LN_2),
            Rule::JensenShannon => divergence::jensen_shannon(p, q).map(|nats| nats / LN_2),
            Rule::CrossEntropy => divergence::cross_entropy(p, q).map(|nats| nats / LN_2),
            Rule::Crps => score::crps_ensemble(x, at),
            Rule::CrpsNormal => score::crps_normal(location, scale, at),
            Rule::CrpsLogistic => score::crps_logistic(location, scale, at),
        }
    }
}

/// The column that an error is about, by what it names, if it is not the first of the rule.
const fn column_of(error: &Error) -> Option<&'static str> {
    match error {
        Error::UnknownOutcome { .. } => Some("outcome"),
        Error::OutOfRange { what, .. } | Error::BadEntry { what, .. } | Error::Shape { what, .. } => {
            match what.as_bytes() {
                b"p" => Some("reference"),
                b"a scale" => Some("scale"),
                b"an observation" | b"a distance in scales" => Some("value"),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The loss of a certainty is a zero that may have a sign; rounding leaves others below 0.
fn at_least_zero(loss: f64) -> f64 {
    if loss <= 0.0 { 0.0 } else { loss }
}

/// The list of a row; empty where the rule has no such column.
fn list(lists: Option<&Lists>, row: usize) -> &[f64] {
    lists.map_or(&[], |lists| lists.get(row))
}

/// The number of a row; none where the rule has no such column.
fn number(numbers: Option<&Vec<f64>>, row: usize) -> f64 {
    numbers.map_or(f64::NAN, |numbers| numbers[row])
}

pub(super) fn too_many(name: &str, limit: usize) -> Problem {
    let detail = format!("there are more than {limit} rows");
    Problem::payload_too_large("too_many_rows", detail).at(format!("/{name}"))
}
