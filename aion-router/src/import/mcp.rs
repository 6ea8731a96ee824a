//! Tools from what an MCP server answers to `tools/list`.

use serde_json::Value;

use super::schema::{words, written};
use super::{Imported, Importer, Part, bad_document};
use crate::error::Result;
use crate::item::Surface;

/// The tools of an MCP server: a list of tools, the result of `tools/list`, or the whole JSON-RPC answer.
///
/// What a server says of its own tools is not to be believed because it says so: leave the provenance at
/// [`Provenance::Unverified`](crate::Provenance::Unverified) until somebody has read it, and approve it by its
/// digest.
///
/// ```
/// use aion_router::import::{Importer, mcp_tools};
///
/// let answer = serde_json::json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [
///     {"name": "search", "description": "Searches the web", "inputSchema": {"properties": {"query": {}}}}
/// ]}});
/// let imported = mcp_tools(&answer, &Importer::default().with_prefix("web_"))?;
/// assert_eq!(imported.items[0].fields().name, "web_search");
/// # Ok::<(), aion_router::Error>(())
/// ```
///
/// # Errors
/// [`Error::BadDocument`](crate::Error::BadDocument) if there is no list of tools, [`Error::LimitReached`](crate::Error::LimitReached) for
/// more than 10,000.
pub fn mcp_tools(answer: &Value, importer: &Importer<'_>) -> Result<Imported> {
    let places = ["", "/tools", "/result/tools"];
    let found = places.iter().find_map(|at| {
        let tools = answer.pointer(at)?.as_array()?;
        Some((*at, tools))
    });
    let (place, tools) = found.ok_or_else(|| bad_document("/tools", "there is no list of tools"))?;
    let mut imported = Imported::default();
    for (i, tool) in tools.iter().enumerate() {
        let part = part(tool).and_then(|part| importer.item(Surface::Tool, &part));
        imported.take(format!("{place}/{i}"), part)?;
    }
    Ok(imported.without_doubles())
}

fn part(tool: &Value) -> Result<Part> {
    let name = tool["name"].as_str();
    let name = name.ok_or_else(|| bad_document("/name", "a tool has a name"))?;
    let text = |member: &str| tool[member].as_str().unwrap_or_default().trim();
    let schema = &tool["inputSchema"];
    Ok(Part {
        name: name.to_owned(),
        text: format!("{}\n{}", text("title"), text("description"))
            .trim()
            .to_owned(),
        parameters: words(schema, schema),
        tags: Vec::new(),
        schema: written(schema),
    })
}
