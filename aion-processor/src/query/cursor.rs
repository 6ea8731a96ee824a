//! Where a page begins.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Order;
use crate::{Error, Result};

/// Where the next page of a list of tasks begins: an opaque token that stays good while the list
/// grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    order: Order,
    position: u64,
}

impl Cursor {
    /// For stores: the place after the item at `position` in a list read in `order`.
    pub const fn new(order: Order, position: u64) -> Self {
        Self { order, position }
    }

    /// For stores: the position, if the cursor belongs to a list in `order`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it belongs to a list in the other order.
    pub fn position_in(&self, order: Order) -> Result<u64> {
        if self.order != order {
            return Err(Error::invalid(
                "cursor",
                "it belongs to a list in the other order",
            ));
        }
        Ok(self.position)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            Order::Oldest => 'o',
            Order::Newest => 'n',
        };
        write!(f, "{order}{:x}", self.position)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid("cursor", "it was not given out by this list");
        let order = match text.as_bytes().first() {
            Some(b'o') => Order::Oldest,
            Some(b'n') => Order::Newest,
            _ => return Err(bad()),
        };
        let digits = &text[1..];
        if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let position = u64::from_str_radix(digits, 16).map_err(|_| bad())?;
        Ok(Self { order, position })
    }
}

impl TryFrom<String> for Cursor {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}
