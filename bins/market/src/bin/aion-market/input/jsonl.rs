//! One JSON object a line.

use std::io::{BufRead, BufReader, Read};

use serde_json::{Map, Value};

use super::{
    Belief, Counted, Fault, InputError, MAX_OUTCOMES, Place, Row, Rows, belief, outcome_of_text, probability,
};
use crate::args::Columns;

/// The longest line: 4,096 numbers and more text than anybody writes.
const MAX_LINE: u64 = 1 << 20;

pub(super) fn each(rows: &Rows, take: Counted<'_>) -> Result<(), InputError> {
    let mut reader = BufReader::with_capacity(1 << 16, rows.reader()?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|source| rows.unreadable(source))?;
        if read == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let row = if line.len() as u64 >= MAX_LINE && !line.ends_with(b"\n") {
            Err(Fault {
                column: None,
                reason: format!("the line is longer than {MAX_LINE} bytes"),
            })
        } else {
            row(&rows.columns, &line)
        };
        take(Place::line(number), row)?;
    }
    Ok(())
}

fn row(columns: &Columns, line: &[u8]) -> Result<Row, Fault> {
    let object = object_of(line.trim_ascii_end())?;
    let belief = belief_of(columns, &object)?;
    let outcome = match member(&object, &columns.outcome)? {
        Value::Bool(happened) => happened.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let named = columns.base.as_deref();
    let base = match named.and_then(|name| Some((name, object.get(name)?))) {
        None | Some((_, Value::Null)) => None,
        Some((name, value)) => Some(probability(name, number(name, value)?)?),
    };
    let forecaster = match object.get(&columns.forecaster) {
        None => "all".to_owned(),
        Some(Value::String(name)) => name.clone(),
        Some(other) => other.to_string(),
    };
    Ok(Row {
        forecaster,
        outcome: outcome_of_text(columns, &belief, &outcome)?,
        belief,
        base,
    })
}

fn object_of(line: &[u8]) -> Result<Map<String, Value>, Fault> {
    let whole = |reason: &str| Fault {
        column: None,
        reason: reason.to_owned(),
    };
    let text = std::str::from_utf8(line).map_err(|error| {
        let place = error.valid_up_to() + 1;
        whole(&format!("byte {place} is not UTF-8 text"))
    })?;
    match serde_json::from_str(text).map_err(|error| unreadable(&error))? {
        Value::Object(object) => Ok(object),
        _ => Err(whole("the line is no JSON object")),
    }
}

/// What serde says, with the place in the line only: it takes every line for the first.
fn unreadable(error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or_default();
    Fault {
        column: None,
        reason: format!("{reason} at byte {}", error.column()),
    }
}

fn belief_of(columns: &Columns, object: &Map<String, Value>) -> Result<Belief, Fault> {
    let names = &columns.probabilities;
    let mut values = Vec::new();
    for name in names {
        match member(object, name)? {
            Value::Array(list) if names.len() == 1 && list.len() <= MAX_OUTCOMES => {
                for value in list {
                    values.push(number(name, value)?);
                }
                if values.len() < 2 {
                    return Err(Fault::new(name, "a list of at least 2 probabilities is needed"));
                }
            }
            value => values.push(number(name, value)?),
        }
    }
    belief(names, &values)
}

fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a Value, Fault> {
    object
        .get(name)
        .ok_or_else(|| Fault::new(name, "the member is missing"))
}

fn number(column: &str, value: &Value) -> Result<f64, Fault> {
    value.as_f64().ok_or_else(|| {
        let shown: String = value.to_string().chars().take(40).collect();
        Fault::new(column, format!("{shown} is not a number"))
    })
}
