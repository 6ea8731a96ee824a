//! Whole numbers as JSON has them: `2` and `2.0` are the same number.
//!
//! ```
//! #[derive(serde::Deserialize)]
//! struct Page {
//!     #[serde(deserialize_with = "aion_service::whole::one")]
//!     limit: u32,
//! }
//!
//! let page: Page = serde_json::from_str(r#"{"limit": 2.0}"#)?;
//! assert_eq!(page.limit, 2);
//! assert!(serde_json::from_str::<Page>(r#"{"limit": 2.5}"#).is_err());
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// A whole number of a body.
struct Whole<T>(T);

struct AsWhole<T>(PhantomData<T>);

impl<T: TryFrom<i128>> Visitor<'_> for AsWhole<T> {
    type Value = Whole<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number in range")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Whole<T>, E> {
        let fits = T::try_from(i128::from(value)).map(Whole);
        fits.map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Whole<T>, E> {
        let fits = T::try_from(i128::from(value)).map(Whole);
        fits.map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Whole<T>, E> {
        // Beyond 2^53 a float no longer says which whole number it was.
        let exact = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
        let whole = exact.then(|| T::try_from(value as i128).ok()).flatten();
        whole
            .map(Whole)
            .ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
    }
}

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AsWhole(PhantomData))
    }
}

/// One that must be there.
///
/// # Errors
/// If it is no number, not whole, or out of the range of `T`.
pub fn one<'de, T: TryFrom<i128>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Whole::deserialize(from).map(|whole| whole.0)
}

/// One that may be missing or `null`.
///
/// # Errors
/// As [`one`].
pub fn maybe<'de, T: TryFrom<i128>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    let found = Option::<Whole<T>>::deserialize(from)?;
    Ok(found.map(|whole| whole.0))
}

/// A list of them that may be missing or `null`.
///
/// # Errors
/// As [`one`], for any of them.
pub fn list<'de, T: TryFrom<i128>, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<T>>, D::Error> {
    let found = Option::<Vec<Whole<T>>>::deserialize(from)?;
    Ok(found.map(|all| all.into_iter().map(|whole| whole.0).collect()))
}

#[cfg(test)]
mod tests {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Body {
        #[serde(deserialize_with = "super::one")]
        one: u32,
        #[serde(default, deserialize_with = "super::maybe")]
        maybe: Option<i64>,
        #[serde(default, deserialize_with = "super::list")]
        list: Option<Vec<u32>>,
    }

    #[test]
    fn a_fraction_of_zero_is_no_fraction() {
        let read = |text: &str| serde_json::from_str::<Body>(text);
        let body = read(r#"{"one": 2.0, "maybe": -3e0, "list": [1, 0.0]}"#).unwrap();
        let expected = Body {
            one: 2,
            maybe: Some(-3),
            list: Some(vec![1, 0]),
        };
        assert_eq!(body, expected);
        assert_eq!(read(r#"{"one": 7, "maybe": null}"#).unwrap().maybe, None);
        for bad in [
            r#"{"one": 2.5}"#,
            r#"{"one": -1}"#,
            r#"{"one": 4294967296}"#,
            r#"{"one": 1e300}"#,
            r#"{"one": "2"}"#,
            r#"{"one": null}"#,
            r#"{"one": 1, "maybe": 1e16}"#,
            r#"{"one": 1, "maybe": 9223372036854775808}"#,
            r#"{"one": 1, "list": [1, null]}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
