//! Arrow IPC streams in and out.

use std::collections::{HashMap, HashSet};
use std::io::Cursor;
use std::sync::Arc;

use aion_service::Problem;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use axum::body::Bytes;

use super::table::{Lists, Table, too_many};
use crate::problem::invalid;
use crate::wire::columns::Rule;

/// The most rows of one stream, and the most of its batches.
const MAX_ROWS: usize = 8_000_000;
const MAX_BATCHES: usize = 100_000;
/// How far the sum of probabilities in single precision may be from 1; they are divided by it.
const SINGLE_TOLERANCE: f64 = 1e-5;

/// The columns of a stream.
pub(super) fn read(body: &Bytes) -> Result<Table, Problem> {
    let reader = StreamReader::try_new(Cursor::new(body), None).map_err(malformed)?;
    let schema = reader.schema();
    check_names(&schema)?;
    let (mut table, mut rows) = (Table::default(), 0_usize);
    for (i, batch) in reader.enumerate() {
        let batch = batch.map_err(malformed)?;
        // Before a row is looked at: columns without bytes may claim any number of them.
        let all = rows.checked_add(batch.num_rows());
        let all = all.filter(|all| *all <= MAX_ROWS && i < MAX_BATCHES);
        let all = all.ok_or_else(|| too_many("", MAX_ROWS))?;
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            table.take(field.name(), column, rows)?;
        }
        rows = all;
    }
    Ok(table)
}

/// A column that comes twice would be read twice, for as often as it is named.
fn check_names(schema: &Schema) -> Result<(), Problem> {
    let mut names = HashSet::new();
    match schema.fields().iter().find(|field| !names.insert(field.name())) {
        None => Ok(()),
        Some(twice) => Err(invalid(&format!("/{}", twice.name()), "the column comes twice")),
    }
}

/// The losses as a stream of one column.
pub(super) fn write(rule: Rule, losses: Vec<f64>) -> Result<Vec<u8>, Problem> {
    let metadata: HashMap<String, String> = [("rule", rule.as_str()), ("unit", rule.unit())]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let field = Field::new("loss", DataType::Float64, false);
    let schema = Arc::new(Schema::new(vec![field]).with_metadata(metadata));
    let column: ArrayRef = Arc::new(Float64Array::from(losses));
    let written = RecordBatch::try_new(Arc::clone(&schema), vec![column]).and_then(|batch| {
        let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
        writer.write(&batch)?;
        writer.into_inner()
    });
    written.map_err(|error: ArrowError| Problem::internal(error))
}

/// The answer about a body that is no Arrow stream.
pub(super) fn malformed(reason: impl std::fmt::Display) -> Problem {
    Problem::bad_request(
        "invalid_arrow",
        format!("the body is no Arrow IPC stream: {reason}"),
    )
}

impl Table {
    /// Adds a column of one batch; `before` rows have come already.
    fn take(&mut self, name: &str, column: &ArrayRef, before: usize) -> Result<(), Problem> {
        let pointer = |row: usize| format!("/{name}/{}", before + row);
        if let Some(row) = (0..column.len()).find(|row| column.is_null(*row)) {
            return Err(invalid(&pointer(row), "a null is no value"));
        }
        let place = Place { name, before };
        match name {
            "probabilities" => place.lists(column, self.probabilities.get_or_insert_default())?,
            "reference" => place.lists(column, self.reference.get_or_insert_default())?,
            "members" => place.lists(column, self.members.get_or_insert_default())?,
            "outcome" => place.outcomes(column, self.outcome.get_or_insert_default())?,
            "value" => self.value.get_or_insert_default().extend(place.numbers(column)?),
            "location" => self
                .location
                .get_or_insert_default()
                .extend(place.numbers(column)?),
            "scale" => self.scale.get_or_insert_default().extend(place.numbers(column)?),
            _ => return Err(invalid(&format!("/{name}"), "there is no such column")),
        }
        Ok(())
    }
}

/// Where a column is, for what is said about it.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    name: &'a str,
    before: usize,
}

impl Place<'_> {
    fn wrong(&self, column: &ArrayRef, wanted: &str) -> Problem {
        let detail = format!("the column has the type {}, not {wanted}", column.data_type());
        invalid(&format!("/{}", self.name), detail)
    }

    fn numbers(&self, column: &ArrayRef) -> Result<Vec<f64>, Problem> {
        match column.data_type() {
            DataType::Float64 => Ok(column.as_primitive::<Float64Type>().values().to_vec()),
            DataType::Float32 => {
                let values = column.as_primitive::<Float32Type>().values();
                Ok(values.iter().map(|value| f64::from(*value)).collect())
            }
            _ => Err(self.wrong(column, "Float64 or Float32")),
        }
    }

    fn outcomes(&self, column: &ArrayRef, to: &mut Vec<u32>) -> Result<(), Problem> {
        macro_rules! take {
            ($kind:ty) => {
                self.indices(
                    column
                        .as_primitive::<$kind>()
                        .values()
                        .iter()
                        .map(|value| u32::try_from(*value).ok()),
                    to,
                )
            };
        }
        match column.data_type() {
            DataType::Int8 => take!(Int8Type),
            DataType::Int16 => take!(Int16Type),
            DataType::Int32 => take!(Int32Type),
            DataType::Int64 => take!(Int64Type),
            DataType::UInt8 => take!(UInt8Type),
            DataType::UInt16 => take!(UInt16Type),
            DataType::UInt32 => take!(UInt32Type),
            DataType::UInt64 => take!(UInt64Type),
            _ => Err(self.wrong(column, "an integer")),
        }
    }

    fn indices(&self, values: impl Iterator<Item = Option<u32>>, to: &mut Vec<u32>) -> Result<(), Problem> {
        for (row, value) in values.enumerate() {
            let pointer = format!("/{}/{}", self.name, self.before + row);
            to.push(value.ok_or_else(|| invalid(&pointer, "an outcome is an index from 0"))?);
        }
        Ok(())
    }

    fn lists(&self, column: &ArrayRef, to: &mut Lists) -> Result<(), Problem> {
        let single = |values: &ArrayRef| matches!(values.data_type(), DataType::Float32);
        match column.data_type() {
            DataType::List(_) => {
                let lists = column.as_list::<i32>();
                self.spread(
                    lists.values(),
                    lists.value_offsets().iter().map(|end| *end as usize),
                    to,
                )
                .map(|()| single(lists.values()))
            }
            DataType::LargeList(_) => {
                let lists = column.as_list::<i64>();
                self.spread(
                    lists.values(),
                    lists.value_offsets().iter().map(|end| *end as usize),
                    to,
                )
                .map(|()| single(lists.values()))
            }
            DataType::FixedSizeList(_, width) => {
                let (lists, width) = (column.as_fixed_size_list(), usize::try_from(*width).unwrap_or(0));
                self.spread(lists.values(), (0..=lists.len()).map(|row| row * width), to)
                    .map(|()| single(lists.values()))
            }
            _ => Err(self.wrong(column, "a list of Float64 or Float32")),
        }
        .and_then(|single| {
            if single && self.name != "members" {
                self.rescale(column.len(), to)
            } else {
                Ok(())
            }
        })
    }

    /// Adds the lists between neighbouring offsets.
    fn spread(
        &self,
        values: &ArrayRef,
        offsets: impl Iterator<Item = usize>,
        to: &mut Lists,
    ) -> Result<(), Problem> {
        if values.null_count() > 0 {
            return Err(invalid(&format!("/{}", self.name), "a list has a null"));
        }
        let numbers = self.numbers(values)?;
        let mut from = None;
        for end in offsets {
            if let Some(from) = from {
                let list = numbers
                    .get(from..end)
                    .ok_or_else(|| malformed("an offset is out of range"))?;
                to.push(list.iter().copied());
            }
            from = Some(end);
        }
        Ok(())
    }

    /// Brings the last `rows` lists, whose numbers had single precision, to a sum of 1.
    fn rescale(&self, rows: usize, to: &mut Lists) -> Result<(), Problem> {
        let first = to.ends.len() - rows;
        for row in first..to.ends.len() {
            let from = row.checked_sub(1).map_or(0, |before| to.ends[before]);
            let list = &mut to.values[from..to.ends[row]];
            let sum: f64 = list.iter().sum();
            if (sum - 1.0).abs() > SINGLE_TOLERANCE || !sum.is_finite() {
                let pointer = format!("/{}/{}", self.name, self.before + row - first);
                return Err(invalid(
                    &pointer,
                    format!("the probabilities sum to {sum}, not to 1"),
                ));
            }
            list.iter_mut().for_each(|p| *p /= sum);
        }
        Ok(())
    }
}
