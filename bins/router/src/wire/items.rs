//! Items and documents on the wire.

use aion_router::{
    Catalog, CatalogChange, ChangeKind, ContentHash, Item, Provenance, Rendering, TokenCounter,
};
use aion_service::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{item_id, surface};

/// The most items of one request, and of one page.
pub(crate) const MAX_ITEMS: usize = 1_000;
/// The most bytes of a schema, as of any text of an item.
const MAX_TEXT_BYTES: usize = 262_144;

/// Items to add or replace: all of them or none.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutItems {
    /// The items.
    #[schema(min_items = 1, max_items = 1000)]
    pub items: Vec<ItemBody>,
}

/// An item.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemBody {
    /// What kind of thing it is: `tool`, `process`, `file`, `doc`, `norm`, `market`, `handler`, or a kind of your
    /// own.
    #[schema(min_length = 1, max_length = 255)]
    pub surface: String,
    /// What it is called, without spaces.
    #[schema(min_length = 1, max_length = 256)]
    pub name: String,
    /// Its id; `surface:name` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 512)]
    pub id: Option<String>,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 262_144)]
    pub text: String,
    /// Names and descriptions of its parameters.
    #[serde(default)]
    #[schema(max_length = 262_144)]
    pub parameters: String,
    /// Words that it is filed under.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub tags: Vec<String>,
    /// The ways to show it, from the cheapest to the fullest; made of its name, text and `schema` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 3)]
    pub renderings: Option<Vec<RenderingBody>>,
    /// What the fullest rendering ends with, if renderings are made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 262_144)]
    pub schema: Option<String>,
    /// Who provides it.
    #[serde(default = "builtin")]
    #[schema(min_length = 1, max_length = 256)]
    pub provider: String,
    /// How far its words may be believed.
    #[serde(default)]
    pub provenance: ProvenanceChoice,
    /// Whether it is always wanted.
    #[serde(default)]
    pub pinned: bool,
}

fn builtin() -> String {
    "builtin".to_owned()
}

/// One way to show an item.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenderingBody {
    /// What is shown.
    #[schema(min_length = 1, max_length = 262_144)]
    pub text: String,
    /// What that costs; counted here if absent.
    #[serde(default, deserialize_with = "aion_service::whole::maybe")]
    #[schema(minimum = 1)]
    pub tokens: Option<u32>,
}

/// How far an item's words may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProvenanceChoice {
    /// Part of this system.
    #[default]
    Builtin,
    /// From a provider that somebody has vouched for.
    Verified,
    /// From anybody.
    Unverified,
}

impl From<ProvenanceChoice> for Provenance {
    fn from(choice: ProvenanceChoice) -> Self {
        match choice {
            ProvenanceChoice::Builtin => Self::Builtin,
            ProvenanceChoice::Verified => Self::Verified,
            ProvenanceChoice::Unverified => Self::Unverified,
        }
    }
}

impl From<Provenance> for ProvenanceChoice {
    fn from(provenance: Provenance) -> Self {
        match provenance {
            Provenance::Builtin => Self::Builtin,
            Provenance::Verified => Self::Verified,
            Provenance::Unverified => Self::Unverified,
        }
    }
}

impl ItemBody {
    /// The item; `pointer` says where in the body it stands.
    pub(crate) fn item(self, counter: &dyn TokenCounter, pointer: &str) -> Result<Item, Problem> {
        let kind = surface(&self.surface, &format!("{pointer}/surface"))?;
        let id = self
            .id
            .as_deref()
            .map(|id| item_id(id, &format!("{pointer}/id")))
            .transpose()?;
        if self
            .schema
            .as_ref()
            .is_some_and(|schema| schema.len() > MAX_TEXT_BYTES)
        {
            let detail = format!("a schema has at most {MAX_TEXT_BYTES} bytes");
            return Err(Problem::unprocessable("invalid", detail).at(format!("{pointer}/schema")));
        }
        let pinned = self.pinned;
        let item = self.build(kind, counter);
        let mut item =
            item.map_err(|error| Problem::unprocessable("invalid", error.to_string()).at(pointer))?;
        if let Some(id) = id {
            item = item.with_id(id);
        }
        Ok(if pinned { item.pinned() } else { item })
    }

    fn build(self, kind: aion_router::Surface, counter: &dyn TokenCounter) -> aion_router::Result<Item> {
        let item = Item::new(kind, &self.name, &self.text)?
            .with_parameters(&self.parameters)?
            .with_tags(self.tags.iter().map(String::as_str))?
            .with_provider(&self.provider, self.provenance.into())?;
        match self.renderings {
            None => item.with_counted_renderings(self.schema.as_deref().unwrap_or_default(), counter),
            Some(given) => {
                let renderings = given.into_iter().map(|rendering| {
                    let tokens = rendering.tokens.unwrap_or_else(|| counter.count(&rendering.text));
                    Rendering::new(rendering.text, tokens)
                });
                item.with_renderings(renderings.collect())
            }
        }
    }
}

/// What became of items that were put in.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PutView {
    /// The ids, in the order in which the items came.
    pub ids: Vec<String>,
    /// The version of the catalog: it rises with every change, and begins anew, higher, with every start.
    pub catalog: u64,
    /// Why some items have no embedding, and are ranked by their words alone.
    pub not_embedded: Option<String>,
}

/// An item as it is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ItemView {
    /// Its id.
    pub id: String,
    /// What kind of thing it is.
    pub surface: String,
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub text: String,
    /// Names and descriptions of its parameters.
    pub parameters: String,
    /// Words that it is filed under.
    pub tags: Vec<String>,
    /// The ways to show it, from the cheapest to the fullest.
    pub renderings: Vec<RenderingView>,
    /// Who provides it.
    pub provider: String,
    /// How far its words may be believed at present.
    pub provenance: ProvenanceChoice,
    /// Whether it is always wanted.
    pub pinned: bool,
    /// The digest of everything that it says, 64 hexadecimal digits.
    pub content_hash: String,
    /// How often it was used.
    pub uses: u32,
}

/// One way to show an item.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RenderingView {
    /// What is shown.
    pub text: String,
    /// What that costs.
    pub tokens: u32,
}

impl ItemView {
    pub(crate) fn new(catalog: &Catalog, item: &Item, uses: u32) -> Self {
        let fields = item.fields();
        let renderings = item.renderings().iter().map(|rendering| RenderingView {
            text: rendering.text.clone(),
            tokens: rendering.tokens,
        });
        let standing = catalog.provenance(item.id()).unwrap_or(item.provenance());
        Self {
            id: item.id().to_string(),
            surface: item.surface().as_str().to_owned(),
            name: fields.name.clone(),
            text: fields.text.clone(),
            parameters: fields.parameters.clone(),
            tags: fields.tags.clone(),
            renderings: renderings.collect(),
            provider: item.provider().to_owned(),
            provenance: standing.into(),
            pinned: item.is_pinned(),
            content_hash: item.content_hash().to_string(),
            uses,
        }
    }
}

/// Which items.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListItems {
    /// Those of one surface.
    #[param(min_length = 1, max_length = 255)]
    pub surface: Option<String>,
    /// Those after this id.
    #[param(min_length = 1, max_length = 512)]
    pub after: Option<String>,
    /// At most so many.
    #[serde(default = "hundred")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: usize,
}

fn hundred() -> usize {
    100
}

/// A page of items, by id.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ItemPage {
    /// The items.
    pub items: Vec<ItemView>,
    /// What the next page comes after; absent on the last.
    pub next: Option<String>,
}

/// What is approved.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveItem {
    /// The digest of everything that the item says, as somebody read it.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub content_hash: String,
}

impl ApproveItem {
    pub(crate) fn hash(&self) -> Result<ContentHash, Problem> {
        let text = self.content_hash.as_bytes();
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text
            .chunks(2)
            .map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?))
            .collect();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(ContentHash::from_bytes).ok_or_else(|| {
            Problem::unprocessable("invalid", "a digest has 64 hexadecimal digits").at("/content_hash")
        })
    }
}

/// Which changes.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListChanges {
    /// Those after this version.
    #[serde(default)]
    pub since: u64,
    /// At most so many.
    #[serde(default = "hundred")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: usize,
}

/// A page of changes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChangePage {
    /// The changes, oldest first.
    pub changes: Vec<ChangeView>,
    /// What the next page comes after.
    pub next: u64,
}

/// What happened to an item.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChangeView {
    /// The version of the catalog that it made.
    pub version: u64,
    /// The item.
    pub item: String,
    /// What happened to it.
    pub kind: ChangeChoice,
}

/// What happened to an item.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeChoice {
    /// It came, or was replaced.
    Upserted,
    /// It says something else than what was approved.
    Quarantined,
    /// What it says was approved.
    Approved,
    /// It went.
    Removed,
}

impl From<CatalogChange> for ChangeView {
    fn from(change: CatalogChange) -> Self {
        let kind = match change.kind {
            ChangeKind::Upserted => ChangeChoice::Upserted,
            ChangeKind::Quarantined => ChangeChoice::Quarantined,
            ChangeKind::Approved => ChangeChoice::Approved,
            ChangeKind::Removed => ChangeChoice::Removed,
        };
        Self {
            version: change.version.get(),
            item: change.item.into(),
            kind,
        }
    }
}

/// A document whose parts become items.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    /// What it is.
    pub format: FormatChoice,
    /// The document: an object for `openapi`, an object or a list for `mcp`, a text for `markdown` and `jsonl`.
    #[schema(value_type = Value)]
    pub document: Value,
    /// With `markdown`: what the file is called.
    #[serde(default = "document")]
    #[schema(min_length = 1, max_length = 128)]
    pub file: String,
    /// What stands before every name.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub prefix: String,
    /// Who provides the items.
    #[serde(default = "imported")]
    #[schema(min_length = 1, max_length = 256)]
    pub provider: String,
    /// How far their words may be believed.
    #[serde(default = "unverified")]
    pub provenance: ProvenanceChoice,
}

fn document() -> String {
    "document.md".to_owned()
}

fn imported() -> String {
    "imported".to_owned()
}

fn unverified() -> ProvenanceChoice {
    ProvenanceChoice::Unverified
}

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FormatChoice {
    /// An OpenAPI document: a tool for every operation.
    Openapi,
    /// What an MCP server answers to `tools/list`.
    Mcp,
    /// Markdown: a doc for every section.
    Markdown,
    /// Lines of JSON objects with `name`, `text`, `parameters` (a JSON schema), `tags`, `surface` and `id`.
    Jsonl,
}

/// What became of a document.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ImportView {
    /// The ids of its items.
    pub ids: Vec<String>,
    /// The parts that cannot be items, or would take the place of another provider's.
    pub skipped: Vec<SkippedView>,
    /// The version of the catalog: it rises with every change, and begins anew, higher, with every start.
    pub catalog: u64,
    /// Why some items have no embedding, and are ranked by their words alone.
    pub not_embedded: Option<String>,
}

/// A part of a document that became no item.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SkippedView {
    /// Where it stands, or its id.
    pub at: String,
    /// Why.
    pub reason: String,
}
