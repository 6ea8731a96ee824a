//! Items from documents.

use aion_router::Surface;
use aion_router::import::{Imported, Importer, Skipped, jsonl, markdown, mcp_tools, openapi};
use aion_service::{Json, Problem};
use axum::extract::State;
use serde_json::Value;

use crate::items::put;
use crate::problem::engine;
use crate::service::Parts;
use crate::wire::{FormatChoice, ImportBody, ImportView, SkippedView};

/// Takes a document apart and adds its parts as items, all of those that can be items or none. One for which nobody
/// vouches is skipped where another provider has an item of its id.
#[utoipa::path(
    post,
    path = "/v1/imports",
    operation_id = "import_items",
    tag = "catalog",
    request_body = ImportBody,
    responses(
        (status = 200, description = "What became of the document", body = ImportView),
        (status = 422, description = "The document is not what it is said to be; nothing has changed", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The storage is not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn import_items(
    State(parts): State<Parts>,
    Json(body): Json<ImportBody>,
) -> Result<Json<ImportView>, Problem> {
    check_names(&body)?;
    let counter = parts.counter.clone();
    let mut imported = parts
        .beside(async move { take_apart(&body, &*counter) })
        .await??;
    spare_others(&parts, &mut imported);
    let ids = imported.items.iter().map(|item| item.id().to_string()).collect();
    let skipped = imported.skipped.into_iter().map(|skipped| SkippedView {
        at: skipped.at,
        reason: skipped.reason,
    });
    let skipped = skipped.collect();
    let (catalog, not_embedded) = put(&parts, imported.items).await?;
    Ok(Json(ImportView {
        ids,
        skipped,
        catalog,
        not_embedded,
    }))
}

/// Leaves out what nobody vouches for and would take the place of another provider's item: whoever names a tool as a
/// known one is must not be called for it.
fn spare_others(parts: &Parts, imported: &mut Imported) {
    parts.router.read(|engine| {
        imported.items.retain(|item| {
            let taken = engine.catalog().is_taken_over_by(item);
            if taken {
                imported.skipped.push(Skipped {
                    at: item.id().to_string(),
                    reason: "another provider has an item of this id: import it with a prefix".to_owned(),
                });
            }
            !taken
        });
    });
}

/// Also where no part of the document becomes an item.
fn check_names(body: &ImportBody) -> Result<(), Problem> {
    let names = [
        (&body.file, 1..=128, "/file"),
        (&body.prefix, 0..=64, "/prefix"),
        (&body.provider, 1..=256, "/provider"),
    ];
    for (name, lengths, place) in names {
        if !lengths.contains(&name.chars().count()) {
            let detail = format!("it has {} to {} characters", lengths.start(), lengths.end());
            return Err(Problem::unprocessable("invalid", detail).at(place));
        }
    }
    Ok(())
}

fn take_apart(body: &ImportBody, counter: &dyn aion_router::TokenCounter) -> Result<Imported, Problem> {
    let importer = Importer::new(counter)
        .with_provider(&body.provider, body.provenance.into())
        .with_prefix(&body.prefix);
    let document = &body.document;
    let imported = match body.format {
        FormatChoice::Openapi => openapi(document, &importer),
        FormatChoice::Mcp => mcp_tools(document, &importer),
        FormatChoice::Markdown => markdown(&body.file, text(document)?, &Surface::Doc, &importer),
        FormatChoice::Jsonl => jsonl(text(document)?, &importer).map(|items| Imported {
            items,
            skipped: Vec::new(),
        }),
    };
    imported.map_err(|error| engine(&error))
}

fn text(document: &Value) -> Result<&str, Problem> {
    let detail = "a document of this format is a text";
    document
        .as_str()
        .ok_or_else(|| Problem::unprocessable("bad_document", detail).at("/document"))
}
