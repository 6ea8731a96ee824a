//! The prompt-cache rule: what is always shown stands first and in a fixed order, what changes stands last, so
//! that consecutive prompts share as many bytes as they can.

use std::collections::HashMap;

use aion_types::TaskId;

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

/// The latest prompt of each of the latest tasks, to say how much the next one shares with it.
///
/// ```
/// use aion_router::prompt::Prompts;
///
/// let mut prompts = Prompts::new(2);
/// assert_eq!(prompts.follow(None, "exec\nglob\n"), None, "there was none before");
/// assert_eq!(prompts.follow(None, "exec\ngrep\n"), Some(6));
/// ```
#[derive(Debug)]
pub struct Prompts {
    room: usize,
    latest: HashMap<Option<TaskId>, Latest>,
    asked: u64,
}

#[derive(Debug)]
struct Latest {
    asked: u64,
    beginning: String,
}

impl Prompts {
    /// How much of a prompt is kept and compared, in bytes.
    pub const MAX_BYTES: usize = 1 << 16;

    /// Keeps the prompts of so many tasks, and of at least one.
    pub fn new(tasks: usize) -> Self {
        Self {
            room: tasks.max(1),
            latest: HashMap::new(),
            asked: 0,
        }
    }

    /// The bytes that a prompt shares from the start with the one before of the same task, of the first
    /// [`Prompts::MAX_BYTES`]; `None` if that is not known. Prompts without a task follow each other.
    pub fn follow(&mut self, task: Option<TaskId>, prompt: &str) -> Option<usize> {
        self.asked += 1;
        let beginning = &prompt[..prompt.floor_char_boundary(Self::MAX_BYTES)];
        if let Some(latest) = self.latest.get_mut(&task) {
            let shared = shared_bytes(&latest.beginning, beginning);
            latest.asked = self.asked;
            latest.beginning.replace_range(.., beginning);
            return Some(shared);
        }
        if self.latest.len() >= self.room {
            let oldest = self.latest.iter().min_by_key(|(_, latest)| latest.asked);
            oldest
                .map(|(task, _)| *task)
                .map(|task| self.latest.remove(&task));
        }
        let latest = Latest {
            asked: self.asked,
            beginning: beginning.to_owned(),
        };
        self.latest.insert(task, latest);
        None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_of_each_task_follow_their_own_and_the_oldest_make_room() {
        let task = |n: u8| Some(TaskId::from_parts(aion_types::Timestamp::from_ms(1), [n; 10]));
        let mut prompts = Prompts::new(2);
        assert_eq!(prompts.follow(task(1), "core one"), None);
        assert_eq!(prompts.follow(task(2), "other"), None);
        assert_eq!(prompts.follow(task(1), "core two"), Some(5));
        assert_eq!(prompts.follow(task(3), "core"), None);
        assert_eq!(prompts.follow(task(1), "core two"), Some(8));
        assert_eq!(prompts.follow(task(2), "other"), None, "it made room");
    }

    #[test]
    fn long_prompts_are_compared_up_to_a_bound() {
        let mut prompts = Prompts::new(1);
        let long = "\u{e9}".repeat(Prompts::MAX_BYTES);
        prompts.follow(None, &long);
        assert_eq!(prompts.follow(None, &long), Some(Prompts::MAX_BYTES));
    }
}
