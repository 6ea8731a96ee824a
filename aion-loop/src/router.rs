//! [`RouterRanker`]: the shortlist of a step by the router's ranking.

use aion_router::{Catalog, Item, Query, Rendering, Router, Surface, SurfaceBudget};
use serde_json::Value;

use crate::ranker::ToolRanker;
use crate::tool::{Tool, Toolset};

/// Tokens that the lines of a shortlist may cost together.
const SHORTLIST_TOKENS: u32 = 2_000;

/// Ranks tools by BM25 over their names, descriptions and parameters, within a budget of tokens.
///
/// ```
/// use aion_loop::{RouterRanker, ToolRanker, Toolset};
///
/// let tools = Toolset::default();
/// let ranker = RouterRanker::new(aion_router::Router::default(), &tools)?;
/// assert!(ranker.rank("write a file", &tools, 3).is_empty());
/// # Ok::<(), aion_router::Error>(())
/// ```
#[derive(Debug)]
pub struct RouterRanker {
    router: Router,
    catalog: Catalog,
}

impl RouterRanker {
    /// A ranker of these tools.
    ///
    /// # Errors
    /// Those of the catalog: a text that is too long, or too many tools.
    pub fn new(router: Router, tools: &Toolset) -> Result<Self, aion_router::Error> {
        let mut catalog = Catalog::new();
        for tool in tools.iter() {
            catalog.upsert(item(tool)?)?;
        }
        Ok(Self { router, catalog })
    }
}

fn item(tool: &Tool) -> Result<Item, aion_router::Error> {
    let line = format!("{}: {}", tool.signature(), tool.description);
    let tokens = u32::try_from(line.len().div_ceil(4)).unwrap_or(u32::MAX).max(1);
    Item::new(Surface::Tool, &tool.name, &tool.description)?
        .with_parameters(&parameter_words(&tool.schema))?
        .with_renderings(vec![Rendering::new(line, tokens)])
}

/// Names and descriptions of the arguments.
fn parameter_words(schema: &Value) -> String {
    let properties = schema.get("properties").and_then(Value::as_object);
    let words = properties.into_iter().flatten().map(|(name, schema)| {
        let description = schema
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        format!("{name} {description}")
    });
    words.collect::<Vec<_>>().join(" ")
}

impl ToolRanker for RouterRanker {
    fn rank(&self, query: &str, tools: &Toolset, k: usize) -> Vec<String> {
        let budget = SurfaceBudget::new(Surface::Tool).with_max_items(k);
        let query = Query::new(query, SHORTLIST_TOKENS).with_surface(budget);
        let shortlist = match self.router.rank(&self.catalog, &query) {
            Ok(shortlist) => shortlist,
            Err(error) => {
                tracing::warn!(%error, "the router gave no ranking");
                return Vec::new();
            }
        };
        let mut picks = shortlist.picks;
        picks.sort_by_key(|pick| pick.rank);
        let names = picks
            .iter()
            .filter_map(|pick| pick.item.as_str().strip_prefix("tool:"));
        names
            .filter(|name| tools.get(name).is_some())
            .take(k)
            .map(str::to_owned)
            .collect()
    }
}
