//! Operations on the catalog.

use aion_router::{Catalog, CatalogVersion, Engine, Item, LiveError, LiveRouter};
use aion_service::{Json, Path, Problem, Query};
use axum::extract::State;
use http::StatusCode;

use crate::problem::live;
use crate::service::{Parts, to_the_end};
use crate::wire::{
    ApproveItem, ChangePage, ItemPage, ItemView, ListChanges, ListItems, MAX_ITEMS, PutItems, PutView,
    item_id, surface,
};

/// Adds items or replaces those of the same id: all of them or none. The same items again change nothing.
#[utoipa::path(
    put,
    path = "/v1/items",
    operation_id = "put_items",
    tag = "catalog",
    request_body = PutItems,
    responses(
        (status = 200, description = "The items are there", body = PutView),
        (status = 422, description = "An item is not valid; nothing has changed", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The storage is not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put_items(
    State(parts): State<Parts>,
    Json(body): Json<PutItems>,
) -> Result<Json<PutView>, Problem> {
    if !(1..=MAX_ITEMS).contains(&body.items.len()) {
        let detail = format!("a request has 1 to {MAX_ITEMS} items");
        return Err(Problem::unprocessable("over_limit", detail).at("/items"));
    }
    let items = body.items.into_iter().enumerate();
    let items = items.map(|(i, item)| item.item(&*parts.counter, &format!("/items/{i}")));
    let items: Vec<Item> = items.collect::<Result<_, _>>()?;
    let ids = items.iter().map(|item| item.id().to_string()).collect();
    let (catalog, not_embedded) = put(&parts, items).await?;
    Ok(Json(PutView {
        ids,
        catalog,
        not_embedded,
    }))
}

/// Puts items in; the version of the catalog after it, and why some have no embedding.
pub(crate) async fn put(parts: &Parts, items: Vec<Item>) -> Result<(u64, Option<String>), Problem> {
    let router = parts.router.clone();
    let done = parts
        .beside(async move { router.upsert_all(items).await })
        .await?;
    let not_embedded = match done {
        Ok(()) => None,
        // They are there all the same.
        Err(LiveError::Embed(error)) => Some(error.to_string()),
        Err(error) => return Err(live(error)),
    };
    let version = parts.router.read(|engine| engine.catalog().version());
    Ok((version.get(), not_embedded))
}

/// Lists items, by id.
#[utoipa::path(
    get,
    path = "/v1/items",
    operation_id = "list_items",
    tag = "catalog",
    params(ListItems),
    responses(
        (status = 200, description = "A page of items", body = ItemPage),
        (status = 422, description = "The surface, the place or the limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_items(
    State(parts): State<Parts>,
    Query(list): Query<ListItems>,
) -> Result<Json<ItemPage>, Problem> {
    let limit = page(list.limit)?;
    let kind = list
        .surface
        .as_deref()
        .map(|name| surface(name, "query:surface"))
        .transpose()?;
    let after = list
        .after
        .as_deref()
        .map(|id| item_id(id, "query:after"))
        .transpose()?;
    let items: Vec<ItemView> = parts.router.read(|engine| {
        let found = engine.catalog().after(after.as_ref());
        let found = found.filter(|item| kind.as_ref().is_none_or(|kind| item.surface() == kind));
        found.take(limit + 1).map(|item| view(engine, item)).collect()
    });
    Ok(Json(paged(items, limit)))
}

fn paged(mut items: Vec<ItemView>, limit: usize) -> ItemPage {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|item| item.id.clone());
    ItemPage { items, next }
}

pub(crate) fn page(limit: usize) -> Result<usize, Problem> {
    if (1..=MAX_ITEMS).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("limit must be in [1, {MAX_ITEMS}]");
    Err(Problem::unprocessable("over_limit", detail).at("query:limit"))
}

fn view(engine: &Engine, item: &Item) -> ItemView {
    ItemView::new(engine.catalog(), item, engine.history().uses(item.id()))
}

/// Gives an item.
#[utoipa::path(
    get,
    path = "/v1/items/{item_id}",
    operation_id = "get_item",
    tag = "catalog",
    params(("item_id" = String, Path, description = "The item", min_length = 1, max_length = 512)),
    responses(
        (status = 200, description = "The item", body = ItemView),
        (status = 404, description = "There is no such item", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "This can be no id", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_item(
    State(parts): State<Parts>,
    Path(id): Path<String>,
) -> Result<Json<ItemView>, Problem> {
    let id = item_id(&id, "path:item_id")?;
    let found = parts
        .router
        .read(|engine| engine.catalog().get(&id).map(|item| view(engine, item)));
    found.map(Json).ok_or_else(|| no_item(&id))
}

fn no_item(id: &aion_router::ItemId) -> Problem {
    Problem::not_found("unknown_item", format!("there is no item {id}"))
}

/// Takes an item out. What was learned of it is kept for when it comes back, unless it then has other words that nobody
/// vouches for.
#[utoipa::path(
    delete,
    path = "/v1/items/{item_id}",
    operation_id = "remove_item",
    tag = "catalog",
    params(("item_id" = String, Path, description = "The item", min_length = 1, max_length = 512)),
    responses(
        (status = 204, description = "It is not there any more"),
        (status = 404, description = "There is no such item", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "This can be no id", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The storage is not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn remove_item(
    State(parts): State<Parts>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = item_id(&id, "path:item_id")?;
    let (router, item) = (parts.router.clone(), id.clone());
    let removed = to_the_end(async move { router.remove(&item).await }).await?;
    if removed.map_err(live)? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(no_item(&id))
}

/// Approves what an item says, by its digest: what was held for a stranger's is believed from now on, until it
/// says something else. It may be approved before it comes.
#[utoipa::path(
    post,
    path = "/v1/items/{item_id}/approve",
    operation_id = "approve_item",
    tag = "catalog",
    params(("item_id" = String, Path, description = "The item", min_length = 1, max_length = 512)),
    request_body = ApproveItem,
    responses(
        (status = 204, description = "It is approved"),
        (status = 422, description = "The id or the digest is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The storage or the embedder is not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn approve_item(
    State(parts): State<Parts>,
    Path(id): Path<String>,
    Json(approve): Json<ApproveItem>,
) -> Result<StatusCode, Problem> {
    let (id, hash) = (item_id(&id, "path:item_id")?, approve.hash()?);
    let router = parts.router.clone();
    let done = parts
        .beside(async move { router.approve(&id, hash).await })
        .await?;
    done.map_err(live)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists what changed in the catalog, oldest first.
#[utoipa::path(
    get,
    path = "/v1/changes",
    operation_id = "list_item_changes",
    tag = "catalog",
    params(ListChanges),
    responses(
        (status = 200, description = "A page of changes; read on from `next`", body = ChangePage),
        (status = 410, description = "That is too long ago, or of before the server was started: read the items again", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_item_changes(
    State(parts): State<Parts>,
    Query(list): Query<ListChanges>,
) -> Result<Json<ChangePage>, Problem> {
    let limit = page(list.limit)?;
    let found = changes(&parts.router, list.since, limit);
    let Some(changes) = found else {
        let detail = format!("changes after version {} are not known any more", list.since);
        return Err(Problem::new(StatusCode::GONE, "too_long_ago", detail).at("query:since"));
    };
    let next = changes.last().map_or(list.since, |change| change.version.get());
    let changes = changes.into_iter().map(Into::into).collect();
    Ok(Json(ChangePage { changes, next }))
}

fn changes(router: &LiveRouter, since: u64, limit: usize) -> Option<Vec<aion_router::CatalogChange>> {
    router.read(|engine| {
        let catalog: &Catalog = engine.catalog();
        let changes = catalog.changes_since(CatalogVersion::from(since))?;
        Some(changes.take(limit).cloned().collect())
    })
}
