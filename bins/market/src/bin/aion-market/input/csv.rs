//! Comma-separated values with a header.

use std::io::Read;

use super::{Counted, Fault, InputError, Place, Row, Rows, belief, outcome_of_text};

/// Where the columns are.
struct Header {
    forecaster: Option<usize>,
    probabilities: Vec<usize>,
    outcome: usize,
    base: Option<usize>,
}

pub(super) fn each(rows: &Rows, take: Counted<'_>) -> Result<(), InputError> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(rows.reader()?);
    let header = header(rows, &mut reader)?;
    let mut record = csv::StringRecord::new();
    loop {
        let before = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let line = record.position().map_or(before, csv::Position::line);
                take(Place::line(line), row(rows, &header, &record))?;
            }
            Err(error) => return Err(unreadable(rows, error, before)),
        }
    }
}

fn unreadable(rows: &Rows, error: csv::Error, before: u64) -> InputError {
    let line = error.position().map_or(before, csv::Position::line);
    let reason = match error.into_kind() {
        csv::ErrorKind::Io(source) => return rows.unreadable(source),
        csv::ErrorKind::Utf8 { err, .. } => {
            format!("column {} is not UTF-8 text", err.field() + 1)
        }
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("{len} columns, the header has {expected_len}"),
        other => format!("{other:?}"),
    };
    let fault = Fault { column: None, reason };
    rows.fault(Place::line(line), fault)
}

fn header(rows: &Rows, reader: &mut csv::Reader<impl Read>) -> Result<Header, InputError> {
    let names = reader
        .headers()
        .map_err(|error| unreadable(rows, error, 1))?
        .clone();
    if names.is_empty() {
        return Err(InputError::Empty(rows.path.clone()));
    }
    let find = |column: &str| names.iter().position(|name| name == column);
    let must = |column: &str| find(column).ok_or_else(|| rows.no_column(column, names.iter()));
    let times = |column: &str| names.iter().filter(|name| *name == column).count();
    if let Some(twice) = rows.columns.used().into_iter().find(|column| times(column) > 1) {
        let fault = Fault::new(twice, "the header has two columns of this name");
        return Err(rows.fault(Place::line(1), fault));
    }
    let columns = &rows.columns;
    let probabilities = columns.probabilities.iter().map(|column| must(column));
    Ok(Header {
        forecaster: find(&columns.forecaster),
        probabilities: probabilities.collect::<Result<_, _>>()?,
        outcome: must(&columns.outcome)?,
        base: columns.base.as_deref().and_then(find),
    })
}

fn row(rows: &Rows, header: &Header, record: &csv::StringRecord) -> Result<Row, Fault> {
    let columns = &rows.columns;
    let text = |index: usize| record.get(index).unwrap_or_default();
    let mut values = Vec::with_capacity(header.probabilities.len());
    for (name, index) in columns.probabilities.iter().zip(&header.probabilities) {
        values.push(number(name, text(*index))?);
    }
    let belief = belief(&columns.probabilities, &values)?;
    let base = header.base.map(&text).filter(|text| !text.is_empty());
    let named = columns.base.as_deref().unwrap_or_default();
    let base = base.map(|text| number(named, text));
    Ok(Row {
        forecaster: header
            .forecaster
            .map_or_else(|| "all".to_owned(), |index| text(index).to_owned()),
        outcome: outcome_of_text(columns, &belief, text(header.outcome))?,
        base: base.transpose()?,
        belief,
    })
}

/// A probability, shown as it is written where it is none.
fn number(column: &str, text: &str) -> Result<f64, Fault> {
    let p: f64 = text
        .parse()
        .map_err(|_| Fault::new(column, format!("{text:?} is not a number")))?;
    if (0.0..=1.0).contains(&p) {
        return Ok(p);
    }
    Err(Fault::new(column, format!("{text} is not in [0, 1]")))
}
