//! Catalogs of what an agent could use, and the few of it that belong in its next step.
//!
//! A [`Catalog`] holds items of every surface (tools, files, docs, ...), each with its words and with
//! renderings of different cost. [`Router::rank`] picks a [`Shortlist`] within a budget of tokens and
//! says why. Nothing here does I/O or waits: a ranking is a pure function of the catalog, the weights
//! and the query.
//!
//! ```
//! use aion_router::{Catalog, Item, Query, Rendering, Router, Surface, SurfaceBudget};
//!
//! let mut catalog = Catalog::new();
//! for (name, text) in [("read_file", "Reads a file"), ("exec", "Runs a command"), ("glob", "Finds files")] {
//!     let item = Item::new(Surface::Tool, name, text)?
//!         .with_renderings(vec![Rendering::new(name, 3), Rendering::new(text, 40)])?;
//!     catalog.upsert(item)?;
//! }
//! let budget = SurfaceBudget::new(Surface::Tool).with_max_items(2);
//! let query = Query::new("run the command that lists files", 60).with_surface(budget);
//! let shortlist = Router::default().rank(&catalog, &query)?;
//! assert_eq!(shortlist.picks[0].item.as_str(), "tool:exec");
//! assert!(shortlist.tokens <= 60 && shortlist.picks.len() == 2);
//! # Ok::<(), aion_router::Error>(())
//! ```
//!
//! # Reading order
//!
//! 1. [`item`] and [`Catalog`]: what there is.
//! 2. [`text`] and [`index`]: words, and BM25 over fields.
//! 3. [`Query`], [`Router`] and [`Shortlist`]: what is asked, the ranking, the answer.
//! 4. [`budget`]: which renderings fit.

pub mod budget;
mod catalog;
mod error;
pub mod index;
pub mod item;
mod query;
mod router;
pub mod text;

pub use catalog::{Catalog, CatalogChange, CatalogVersion, ChangeKind, MAX_ITEMS};
pub use error::{Error, Result};
pub use item::{ContentHash, Item, ItemId, Provenance, Rendering, Surface};
pub use query::{Feature, Pick, Query, Shortlist, ShortlistState, SurfaceBudget, Why};
pub use router::{Router, Weights};
