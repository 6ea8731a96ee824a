//! Floats as decimal text, which reads back to the same bits whatever reads the JSON, so that a
//! saved calibrator has the digest that it was saved with.

use serde::{Deserialize, Deserializer, Serializer, de};

pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let text = String::deserialize(from)?;
    let value: f64 = text.parse().map_err(de::Error::custom)?;
    if value.is_finite() {
        return Ok(value);
    }
    Err(de::Error::custom("a number must be finite"))
}
