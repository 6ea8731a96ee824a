//! Parquet, through its row interface.

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row as Fields};
use ::parquet::schema::types::Type;

use super::{Counted, Fault, InputError, Place, Row, Rows, belief, outcome_of_text, probability};

pub(super) fn each(rows: &Rows, take: Counted<'_>) -> Result<(), InputError> {
    let damaged = |error: ::parquet::errors::ParquetError| {
        rows.unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    };
    let reader = SerializedFileReader::new(rows.file()?).map_err(damaged)?;
    let schema = reader.metadata().file_metadata().schema().clone();
    let wanted = projection(rows, &schema)?;
    let total = reader.metadata().file_metadata().num_rows().unsigned_abs().max(1);
    let bytes = rows.bar.length().unwrap_or(0);
    let found = reader.get_row_iter(Some(wanted)).map_err(damaged)?;
    for (number, fields) in (1..).zip(found) {
        if number % 65_536 == 0 {
            let done = bytes as f64 * (number as f64 / total as f64);
            rows.bar.set_position(done as u64);
        }
        take(Place::row(number), row(rows, &fields.map_err(damaged)?))?;
    }
    Ok(())
}

/// The schema with the columns that are read, and no others.
fn projection(rows: &Rows, schema: &Type) -> Result<Type, InputError> {
    let columns = &rows.columns;
    let has = |name: &str| schema.get_fields().iter().any(|field| field.name() == name);
    let needed = columns.probabilities.iter().chain([&columns.outcome]);
    if let Some(missing) = needed.clone().find(|name| !has(name)) {
        return Err(rows.no_column(missing, schema.get_fields().iter().map(|field| field.name())));
    }
    let names: Vec<&String> = needed.chain([&columns.forecaster]).chain(&columns.base).collect();
    let fields = schema
        .get_fields()
        .iter()
        .filter(|field| names.iter().any(|name| *name == field.name()))
        .cloned()
        .collect();
    Type::group_type_builder(schema.name())
        .with_fields(fields)
        .build()
        .map_err(|error| rows.unreadable(std::io::Error::other(error)))
}

fn row(rows: &Rows, fields: &Fields) -> Result<Row, Fault> {
    let columns = &rows.columns;
    let find = |name: &str| {
        fields
            .get_column_iter()
            .find(|(column, _)| *column == name)
            .map(|(_, field)| field)
    };
    let must = |name: &str| find(name).ok_or_else(|| Fault::new(name, "the column is missing"));
    let mut values = Vec::new();
    for name in &columns.probabilities {
        match must(name)? {
            Field::ListInternal(list) if columns.probabilities.len() == 1 => {
                for field in list.elements() {
                    values.push(number(name, field)?);
                }
                if values.len() < 2 {
                    return Err(Fault::new(name, "a list of at least 2 probabilities is needed"));
                }
            }
            field => values.push(number(name, field)?),
        }
    }
    let belief = belief(&columns.probabilities, &values)?;
    let outcome = text(must(&columns.outcome)?);
    let named = columns.base.as_deref();
    let base = match named.and_then(|name| Some((name, find(name)?))) {
        None | Some((_, Field::Null)) => None,
        Some((name, field)) => Some(probability(name, number(name, field)?)?),
    };
    Ok(Row {
        forecaster: find(&columns.forecaster).map_or_else(|| "all".to_owned(), text),
        outcome: outcome_of_text(columns, &belief, &outcome)?,
        belief,
        base,
    })
}

fn text(field: &Field) -> String {
    match field {
        Field::Str(text) => text.clone(),
        other => other.to_string(),
    }
}

fn number(column: &str, field: &Field) -> Result<f64, Fault> {
    match field {
        Field::Double(value) => Ok(*value),
        Field::Float(value) => Ok(f64::from(*value)),
        Field::Int(value) => Ok(f64::from(*value)),
        Field::Long(value) => Ok(*value as f64),
        other => Err(Fault::new(column, format!("{other} is not a number"))),
    }
}
