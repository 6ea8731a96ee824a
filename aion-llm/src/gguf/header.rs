//! The header: typed key-value pairs and the table of tensors.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

use super::GgufLimits;
use super::block::TensorType;
use super::read::Counted;
use crate::error::{Error, Result};

const MAGIC: u32 = u32::from_le_bytes(*b"GGUF");
const MAX_DIMS: u32 = 4;

/// A metadata value. Integers of every width are one variant each for signed and unsigned.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An unsigned integer.
    Unsigned(u64),
    /// A signed integer.
    Signed(i64),
    /// A 32- or 64-bit float.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// A list of one type.
    Array(Array),
}

/// A metadata array. Arrays of arrays are not part of any model this crate runs and are refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Integers of any width that fit `i64`.
    Integers(Vec<i64>),
    /// Floats.
    Floats(Vec<f64>),
    /// Truth values.
    Bools(Vec<bool>),
    /// Texts.
    Texts(Vec<String>),
}

impl Value {
    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a non-negative integer of any width.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            Self::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The value of a float.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The list of texts, if it is one.
    #[must_use]
    pub fn as_texts(&self) -> Option<&[String]> {
        match self {
            Self::Array(Array::Texts(texts)) => Some(texts),
            _ => None,
        }
    }

    /// The list of floats, if it is one.
    #[must_use]
    pub fn as_floats(&self) -> Option<&[f64]> {
        match self {
            Self::Array(Array::Floats(floats)) => Some(floats),
            _ => None,
        }
    }

    /// The list of integers, if it is one.
    #[must_use]
    pub fn as_integers(&self) -> Option<&[i64]> {
        match self {
            Self::Array(Array::Integers(integers)) => Some(integers),
            _ => None,
        }
    }
}

/// One row of the tensor table, checked: the bytes it names lie inside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Row-major shape, outermost first (GGUF stores it innermost first).
    pub shape: Vec<usize>,
    /// How the elements are stored.
    pub kind: TensorType,
    /// Start in the file, in bytes.
    pub offset: u64,
    /// Length in the file, in bytes.
    pub size_bytes: u64,
}

/// What stands before the tensors' bytes.
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, Value>,
    /// Where each pair (key, type, value) lies in the file.
    pub(super) pairs: BTreeMap<String, Range<u64>>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

pub(super) fn parse(reader: impl Read, len: u64, limits: GgufLimits) -> Result<Header> {
    let mut r = Counted::new(reader, len);
    let (n_tensors, n_metadata) = preamble(&mut r, limits)?;
    let (mut metadata, mut pairs) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..n_metadata {
        let start = r.offset;
        let key = pair(&mut r, limits, &mut metadata)?;
        pairs.insert(key, start..r.offset);
    }
    let alignment = alignment(&r, &metadata)?;
    let rows = (0..n_tensors)
        .map(|_| row(&mut r, limits))
        .collect::<Result<Vec<_>>>()?;
    let start = r.offset.next_multiple_of(alignment);
    let tensors = rows
        .into_iter()
        .try_fold(BTreeMap::new(), |map, row| place(row, start, alignment, len, map))?;
    apart(&tensors)?;
    Ok(Header {
        metadata,
        pairs,
        tensors,
    })
}

/// Tensors share no byte: a small file cannot stand for a large model.
fn apart(tensors: &BTreeMap<String, TensorInfo>) -> Result<()> {
    let mut placed: Vec<_> = tensors.iter().collect();
    placed.sort_by_key(|(_, info)| (info.offset, info.size_bytes));
    for pair in placed.windows(2) {
        let ((first, before), (second, after)) = (pair[0], pair[1]);
        if before.offset + before.size_bytes > after.offset {
            let reason = format!("tensors `{first}` and `{second}` overlap");
            return Err(Error::Gguf {
                offset: after.offset,
                reason,
            });
        }
    }
    Ok(())
}

fn preamble<R: Read>(r: &mut Counted<R>, limits: GgufLimits) -> Result<(u64, u64)> {
    if r.left() < 24 {
        return Err(r.error(format!("the file has {} bytes, the preamble alone has 24", r.len)));
    }
    if r.u32()? != MAGIC {
        return Err(Error::Gguf {
            offset: 0,
            reason: "the magic `GGUF` is missing".into(),
        });
    }
    match r.u32()? {
        2 | 3 => {}
        other if matches!(other.swap_bytes(), 1..=3) => {
            return Err(Error::Gguf {
                offset: 4,
                reason: "big-endian files are not supported".into(),
            });
        }
        other => {
            return Err(Error::Gguf {
                offset: 4,
                reason: format!("version {other}, known are 2 and 3"),
            });
        }
    }
    let n_tensors = count(r, limits.max_tensors, "tensors")?;
    let n_metadata = count(r, limits.max_metadata, "metadata pairs")?;
    Ok((n_tensors, n_metadata))
}

fn count<R: Read>(r: &mut Counted<R>, max: u64, what: &str) -> Result<u64> {
    let at = r.offset;
    match r.u64()? {
        n if n <= max => Ok(n),
        n => Err(Error::Gguf {
            offset: at,
            reason: format!("{n} {what}, the limit is {max}"),
        }),
    }
}

/// Reads one pair into the map and gives its key.
fn pair<R: Read>(
    r: &mut Counted<R>,
    limits: GgufLimits,
    map: &mut BTreeMap<String, Value>,
) -> Result<String> {
    let at = r.offset;
    let key = r.string(limits.max_string_bytes)?;
    let kind = r.u32()?;
    let value = value(r, kind, limits)?;
    if map.insert(key.clone(), value).is_some() {
        return Err(Error::Gguf {
            offset: at,
            reason: format!("key `{key}` is there twice"),
        });
    }
    Ok(key)
}

fn value<R: Read>(r: &mut Counted<R>, kind: u32, limits: GgufLimits) -> Result<Value> {
    Ok(match kind {
        0 | 2 | 4 | 10 => Value::Unsigned(unsigned(r, kind)?),
        1 | 3 | 5 | 11 => Value::Signed(signed(r, kind)?),
        6 | 12 => Value::Float(float(r, kind)?),
        7 => Value::Bool(boolean(r)?),
        8 => Value::Text(r.string(limits.max_string_bytes)?),
        9 => Value::Array(array(r, limits)?),
        other => return Err(r.error(format!("value type {other} is unknown"))),
    })
}

fn unsigned<R: Read>(r: &mut Counted<R>, kind: u32) -> Result<u64> {
    Ok(match kind {
        0 => u64::from(r.bytes::<1>()?[0]),
        2 => u64::from(u16::from_le_bytes(r.bytes()?)),
        4 => u64::from(r.u32()?),
        _ => r.u64()?,
    })
}

fn signed<R: Read>(r: &mut Counted<R>, kind: u32) -> Result<i64> {
    Ok(match kind {
        1 => i64::from(i8::from_le_bytes(r.bytes()?)),
        3 => i64::from(i16::from_le_bytes(r.bytes()?)),
        5 => i64::from(i32::from_le_bytes(r.bytes()?)),
        _ => i64::from_le_bytes(r.bytes()?),
    })
}

fn float<R: Read>(r: &mut Counted<R>, kind: u32) -> Result<f64> {
    Ok(match kind {
        6 => f64::from(f32::from_le_bytes(r.bytes()?)),
        _ => f64::from_le_bytes(r.bytes()?),
    })
}

fn boolean<R: Read>(r: &mut Counted<R>) -> Result<bool> {
    match r.bytes::<1>()?[0] {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(r.error(format!("a truth value of {other}"))),
    }
}

fn array<R: Read>(r: &mut Counted<R>, limits: GgufLimits) -> Result<Array> {
    let kind = r.u32()?;
    let n = array_len(r, kind, limits)?;
    Ok(match kind {
        0 | 2 | 4 | 10 => Array::Integers((0..n).map(|_| narrow(r, kind)).collect::<Result<_>>()?),
        1 | 3 | 5 | 11 => Array::Integers((0..n).map(|_| signed(r, kind)).collect::<Result<_>>()?),
        6 | 12 => Array::Floats((0..n).map(|_| float(r, kind)).collect::<Result<_>>()?),
        7 => Array::Bools((0..n).map(|_| boolean(r)).collect::<Result<_>>()?),
        8 => Array::Texts(
            (0..n)
                .map(|_| r.string(limits.max_string_bytes))
                .collect::<Result<_>>()?,
        ),
        other => return Err(r.error(format!("an array of type {other}"))),
    })
}

fn array_len<R: Read>(r: &mut Counted<R>, kind: u32, limits: GgufLimits) -> Result<u64> {
    let at = r.offset;
    let n = count(r, limits.max_array_len, "array elements")?;
    let smallest: u64 = match kind {
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        _ => 1,
    };
    if n * smallest > r.left() {
        let reason = format!(
            "an array of {n} elements needs more than the {} bytes left",
            r.left()
        );
        return Err(Error::Gguf { offset: at, reason });
    }
    Ok(n)
}

fn narrow<R: Read>(r: &mut Counted<R>, kind: u32) -> Result<i64> {
    let value = unsigned(r, kind)?;
    i64::try_from(value).map_err(|_| r.error(format!("array element {value} is too large")))
}

fn alignment<R: Read>(r: &Counted<R>, metadata: &BTreeMap<String, Value>) -> Result<u64> {
    match metadata.get("general.alignment").map(Value::as_u64) {
        None => Ok(32),
        Some(Some(n)) if n.is_power_of_two() && (8..=65536).contains(&n) => Ok(n),
        Some(_) => Err(r.error("general.alignment is not a power of two from 8 to 65536")),
    }
}

struct Row {
    at: u64,
    name: String,
    shape: Vec<usize>,
    kind: TensorType,
    elements: u64,
    relative: u64,
}

fn row<R: Read>(r: &mut Counted<R>, limits: GgufLimits) -> Result<Row> {
    let at = r.offset;
    let name = r.string(limits.max_string_bytes)?;
    let fail = |reason: String| Error::Gguf {
        offset: at,
        reason: format!("tensor `{name}`: {reason}"),
    };
    let n_dims = r.u32()?;
    if n_dims > MAX_DIMS {
        return Err(fail(format!("{n_dims} dimensions, the limit is {MAX_DIMS}")));
    }
    let mut shape = (0..n_dims).map(|_| r.u64()).collect::<Result<Vec<_>>>()?;
    shape.reverse();
    let elements = shape.iter().try_fold(1u64, |n, dim| n.checked_mul(*dim));
    let elements = elements.ok_or_else(|| fail(format!("the shape {shape:?} overflows")))?;
    let code = r.u32()?;
    let kind = TensorType::from_code(code).ok_or_else(|| {
        Error::Unsupported(format!(
            "tensor `{name}` has GGUF type {code}; {}",
            TensorType::KNOWN
        ))
    })?;
    let relative = r.u64()?;
    let shape = shape.into_iter().map(|dim| dim as usize).collect();
    Ok(Row {
        at,
        name,
        shape,
        kind,
        elements,
        relative,
    })
}

fn place(
    row: Row,
    start: u64,
    alignment: u64,
    len: u64,
    mut map: BTreeMap<String, TensorInfo>,
) -> Result<BTreeMap<String, TensorInfo>> {
    let fail = |reason: String| Error::Gguf {
        offset: row.at,
        reason: format!("tensor `{}`: {reason}", row.name),
    };
    let per_row = row.shape.last().copied().unwrap_or(1) as u64;
    let block = row.kind.block_len() as u64;
    if !per_row.is_multiple_of(block) {
        return Err(fail(format!(
            "rows of {per_row} elements are not whole blocks of {block}"
        )));
    }
    let size = (row.elements / block).checked_mul(row.kind.block_bytes() as u64);
    let size_bytes = size.ok_or_else(|| fail("its size overflows".into()))?;
    if !row.relative.is_multiple_of(alignment) {
        return Err(fail(format!(
            "offset {} is not a multiple of {alignment}",
            row.relative
        )));
    }
    let offset = start
        .checked_add(row.relative)
        .filter(|at| at.checked_add(size_bytes).is_some_and(|end| end <= len));
    let offset = offset.ok_or_else(|| {
        fail(format!(
            "{size_bytes} bytes at {start} + {} go beyond the file's {len}",
            row.relative
        ))
    })?;
    let info = TensorInfo {
        shape: row.shape,
        kind: row.kind,
        offset,
        size_bytes,
    };
    if map.insert(row.name.clone(), info).is_some() {
        return Err(Error::Gguf {
            offset: row.at,
            reason: format!("tensor `{}` is there twice", row.name),
        });
    }
    Ok(map)
}
