//! Items from what is there already: OpenAPI documents, the tools of MCP servers, Markdown, folders, JSON lines.
//!
//! An importer takes a document apart and gives its items; it adds nothing to a catalog and asks nobody. A
//! part that cannot be an item is passed over and named, so that one bad operation does not cost the others.
//!
//! ```
//! use aion_router::ByteTokens;
//! use aion_router::import::{Importer, openapi};
//!
//! let document = serde_json::json!({"paths": {"/pets/{id}": {"get": {
//!     "operationId": "get_pet", "summary": "Gives one pet",
//!     "parameters": [{"name": "id", "in": "path", "description": "Which pet", "schema": {"type": "string"}}]
//! }}}});
//! let imported = openapi(&document, &Importer::new(&ByteTokens))?;
//! assert_eq!(imported.items[0].id().as_str(), "tool:get_pet");
//! assert_eq!(imported.items[0].fields().parameters, "id: Which pet");
//! # Ok::<(), aion_router::Error>(())
//! ```

#[cfg(feature = "folders")]
mod folder;
pub(crate) mod lines;
mod markdown;
mod mcp;
mod openapi;
mod schema;
#[cfg(feature = "mcp")]
mod server;

use crate::error::{Error, Result};
use crate::item::{Item, MAX_NAME_BYTES, MAX_TEXT_BYTES, Provenance, Surface};
use crate::tokens::{ByteTokens, TokenCounter};

#[cfg(feature = "folders")]
pub use folder::folder;
pub use lines::jsonl;
pub use markdown::markdown;
pub use mcp::mcp_tools;
pub use openapi::openapi;
#[cfg(feature = "mcp")]
pub use server::{McpError, McpOptions, McpServer, read_mcp_server};

/// The most parts of one document.
pub const MAX_PARTS: usize = 10_000;

/// Who vouches for what is imported, and what counts its tokens.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Importer<'a> {
    /// Who provides the items.
    pub provider: &'a str,
    /// How far their words may be believed.
    pub provenance: Provenance,
    /// What stands before every name: empty, or a text such as `github_`.
    pub prefix: &'a str,
    /// What counts the tokens of renderings.
    pub counter: &'a dyn TokenCounter,
}

impl Default for Importer<'_> {
    fn default() -> Self {
        Self::new(&ByteTokens)
    }
}

impl<'a> Importer<'a> {
    /// Items of nobody in particular, for which nobody vouches.
    pub const fn new(counter: &'a dyn TokenCounter) -> Self {
        let (provider, provenance, prefix) = ("imported", Provenance::Unverified, "");
        Self {
            provider,
            provenance,
            prefix,
            counter,
        }
    }

    /// Sets who provides the items, and how far their words may be believed.
    #[must_use]
    pub const fn with_provider(mut self, provider: &'a str, provenance: Provenance) -> Self {
        (self.provider, self.provenance) = (provider, provenance);
        self
    }

    /// Sets what stands before every name, so that two documents do not collide.
    #[must_use]
    pub const fn with_prefix(mut self, prefix: &'a str) -> Self {
        self.prefix = prefix;
        self
    }

    /// An item of a row whose parameters are a JSON schema.
    pub(crate) fn row(&self, surface: Surface, row: Row<'_>) -> Result<Item> {
        let part = Part {
            name: row.name.to_owned(),
            text: row.text.to_owned(),
            parameters: schema::words(row.schema, row.schema),
            tags: row.tags,
            schema: schema::written(row.schema),
        };
        self.item(surface, &part)
    }

    /// An item of a part.
    fn item(&self, surface: Surface, part: &Part) -> Result<Item> {
        let name = slug(&format!("{}{}", self.prefix, part.name));
        let tags: Vec<&str> = part.tags.iter().map(|tag| cut(tag, MAX_NAME_BYTES)).collect();
        let tags = tags.into_iter().filter(|tag| !tag.is_empty()).take(MAX_TAGS);
        Item::new(surface, &name, cut(&part.text, MAX_TEXT_BYTES / 4))?
            .with_parameters(cut(&part.parameters, MAX_TEXT_BYTES / 4))?
            .with_tags(tags)?
            .with_provider(self.provider, self.provenance)?
            .with_counted_renderings(cut(&part.schema, MAX_TEXT_BYTES / 4), self.counter)
    }
}

/// The most tags that are kept of a part.
const MAX_TAGS: usize = 16;

/// What an importer found in a part of a document.
#[derive(Debug, Default)]
struct Part {
    name: String,
    text: String,
    parameters: String,
    tags: Vec<String>,
    /// What a model needs to use it, in the fullest rendering.
    schema: String,
}

/// An item as a table has it.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
    pub(crate) schema: &'a serde_json::Value,
    pub(crate) tags: Vec<String>,
}

/// What an importer gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imported {
    /// The items, in the order of the document.
    pub items: Vec<Item>,
    /// The parts that cannot be items.
    pub skipped: Vec<Skipped>,
}

/// A part of a document that cannot be an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Skipped {
    /// Where it stands: a JSON pointer, a line, or a path.
    pub at: String,
    /// Why.
    pub reason: String,
}

impl Imported {
    /// Takes what became of a part; a name that is there already is skipped.
    fn take(&mut self, at: String, item: Result<Item>) -> Result<()> {
        if self.items.len() + self.skipped.len() >= MAX_PARTS {
            let what = "the number of parts of a document";
            return Err(Error::LimitReached {
                what,
                limit: MAX_PARTS,
            });
        }
        match item {
            Ok(item) => self.items.push(item),
            Err(error) => self.skipped.push(Skipped {
                at,
                reason: error.to_string(),
            }),
        }
        Ok(())
    }

    /// Keeps the first item of every id.
    fn without_doubles(mut self) -> Self {
        let mut seen = std::collections::BTreeSet::new();
        let (first, again): (Vec<Item>, Vec<Item>) = self
            .items
            .into_iter()
            .partition(|item| seen.insert(item.id().clone()));
        self.items = first;
        self.skipped.extend(again.into_iter().map(|item| Skipped {
            at: item.id().to_string(),
            reason: "another part has this name".to_owned(),
        }));
        self
    }
}

/// A document that is not what it should be.
fn bad_document(at: &str, reason: impl Into<String>) -> Error {
    Error::BadDocument {
        at: at.to_owned(),
        reason: reason.into(),
    }
}

/// A name without spaces and control characters, no longer than one may be.
fn slug(name: &str) -> String {
    let one = |c: char| {
        if c.is_whitespace() || c.is_control() {
            '_'
        } else {
            c
        }
    };
    let name: String = name.trim().chars().map(one).collect();
    cut(&name, MAX_NAME_BYTES).to_owned()
}

/// The start of a text, at most so many bytes, cut between characters.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_ids() {
        assert_eq!(slug(" list all\tpets "), "list_all_pets");
        assert_eq!(slug(&"ü".repeat(200)).len(), MAX_NAME_BYTES);
    }

    #[test]
    fn the_first_of_a_name_stays() {
        let part = |text: &str| Part {
            name: "one".to_owned(),
            text: text.to_owned(),
            ..Part::default()
        };
        let importer = Importer::default();
        let mut imported = Imported::default();
        for text in ["first", "second"] {
            let item = importer.item(Surface::Tool, &part(text));
            imported.take("here".to_owned(), item).unwrap();
        }
        let imported = imported.without_doubles();
        assert_eq!(imported.items.len(), 1);
        assert_eq!(imported.items[0].fields().text, "first");
        assert_eq!(imported.skipped[0].at, "tool:one");
    }
}
