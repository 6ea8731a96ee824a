//! The prompt-cache rule: what is always shown stands first and in a fixed order, what changes stands last, so
//! that consecutive prompts share as many bytes as they can.

use crate::catalog::Catalog;
use crate::query::Shortlist;

/// A prompt's list of items.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Pinned items, by id.
    pub core: String,
    /// The others, by surface and rank.
    pub tail: String,
}

impl Listing {
    /// The renderings of a shortlist, one a line; texts of many lines stay together.
    ///
    /// ```
    /// use aion_router::prompt::{Listing, shared_bytes};
    /// use aion_router::{Catalog, Item, Query, Router, Surface, SurfaceBudget};
    ///
    /// let mut catalog = Catalog::new();
    /// catalog.upsert(Item::new(Surface::Tool, "exec", "Runs a command")?.pinned())?;
    /// catalog.upsert(Item::new(Surface::Tool, "glob", "Finds files")?)?;
    /// catalog.upsert(Item::new(Surface::Tool, "grep", "Searches in files")?)?;
    /// let listing = |text| -> aion_router::Result<String> {
    ///     let query = Query::new(text, 2).with_surface(SurfaceBudget::new(Surface::Tool));
    ///     Ok(Listing::of(&Router::default().rank(&catalog, &query)?, &catalog).text())
    /// };
    /// assert_eq!(listing("find files")?, "exec\nglob\n");
    /// assert_eq!(shared_bytes(&listing("find files")?, &listing("search in files")?), "exec\ng".len());
    /// # Ok::<(), aion_router::Error>(())
    /// ```
    pub fn of(shortlist: &Shortlist, catalog: &Catalog) -> Self {
        let mut listing = Self::default();
        let mut core: Vec<(&str, &str)> = Vec::new();
        for pick in &shortlist.picks {
            let rendering = catalog
                .get(&pick.item)
                .and_then(|item| item.renderings().get(pick.rendering));
            let Some(rendering) = rendering else { continue };
            if pick.why.pinned {
                core.push((pick.item.as_str(), &rendering.text));
            } else {
                listing.tail.push_str(&rendering.text);
                listing.tail.push('\n');
            }
        }
        core.sort_unstable();
        for (_, text) in core {
            listing.core.push_str(text);
            listing.core.push('\n');
        }
        listing
    }

    /// All of it.
    pub fn text(&self) -> String {
        format!("{}{}", self.core, self.tail)
    }
}

/// The bytes that two prompts share from the start: those that a cache need not read again.
pub fn shared_bytes(before: &str, after: &str) -> usize {
    before
        .bytes()
        .zip(after.bytes())
        .take_while(|(a, b)| a == b)
        .count()
}
