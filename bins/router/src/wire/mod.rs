//! What goes over the wire: requests that are checked member by member, and answers.

mod items;
mod judging;
mod ranking;

pub use items::*;
pub use judging::*;
pub use ranking::*;

use aion_router::{ItemId, Surface};
use aion_service::Problem;

/// A surface by its name.
pub(crate) fn surface(name: &str, pointer: &str) -> Result<Surface, Problem> {
    name.parse()
        .map_err(|error: aion_router::Error| Problem::unprocessable("invalid", error.to_string()).at(pointer))
}

/// The id of an item.
pub(crate) fn item_id(text: &str, pointer: &str) -> Result<ItemId, Problem> {
    ItemId::new(text).map_err(|error| Problem::unprocessable("invalid", error.to_string()).at(pointer))
}
