//! Operations on webhooks.

use std::sync::Arc;

use aion_processor::{DeliveryQuery, DeliveryState, NameQuery, Processor, Webhook, WebhookKey};
use aion_service::{Json, Path, Problem, Query};
use axum::extract::{FromRef, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::delivery::TargetPolicy;
use crate::problem::{in_body, in_query};
use crate::tasks::at_least_one;
use crate::wire::{
    ChangeWebhook, CreateWebhook, DeliveryList, ListDeliveries, ListWebhooks, ReplayWebhook, RetryLetters,
    RotateKey, WebhookList, WebhookView, WebhookWithSecret,
};

/// Bytes of a key that is made here.
const KEY_BYTES: usize = 32;

/// What these operations work on.
#[derive(Debug, Clone)]
struct Hooks {
    processor: Processor,
    policy: Arc<TargetPolicy>,
}

impl FromRef<Hooks> for Processor {
    fn from_ref(hooks: &Hooks) -> Self {
        hooks.processor.clone()
    }
}

/// The operations, over a processor whose sender goes by this policy.
pub(crate) fn operations<S: Clone + Send + Sync + 'static>(
    processor: Processor,
    policy: TargetPolicy,
) -> OpenApiRouter<S> {
    let policy = Arc::new(policy);
    let operations = OpenApiRouter::new()
        .routes(routes!(create_webhook, list_webhooks))
        .routes(routes!(get_webhook, change_webhook, delete_webhook))
        .routes(routes!(pause_webhook))
        .routes(routes!(resume_webhook))
        .routes(routes!(rotate_webhook_key))
        .routes(routes!(replay_webhook))
        .routes(routes!(ping_webhook))
        .routes(routes!(list_webhook_deliveries))
        .routes(routes!(list_webhook_dead_letters))
        .routes(routes!(retry_webhook_dead_letters));
    operations.with_state(Hooks { processor, policy })
}

/// Makes a webhook: it tells a receiver of events by Standard Webhooks. The secret is shown in this answer only.
#[utoipa::path(
    post,
    path = "/v1/webhooks",
    operation_id = "create_webhook",
    tag = "webhooks",
    request_body = CreateWebhook,
    responses(
        (status = 201, description = "The webhook and its secret", body = WebhookWithSecret),
        (status = 409, description = "There is one of this name", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid, or the address is not allowed", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn create_webhook(
    State(hooks): State<Hooks>,
    Json(body): Json<CreateWebhook>,
) -> Result<(StatusCode, Json<WebhookWithSecret>), Problem> {
    let new = body.into_new(fresh_key()?)?;
    check_target(&hooks.policy, &new.url)?;
    let secret = new.key.expose().to_owned();
    let webhook = hooks.processor.create_webhook(new).await.map_err(in_body)?.into();
    Ok((StatusCode::CREATED, Json(WebhookWithSecret { secret, webhook })))
}

/// Lists webhooks by name.
#[utoipa::path(
    get,
    path = "/v1/webhooks",
    operation_id = "list_webhooks",
    tag = "webhooks",
    params(ListWebhooks),
    responses(
        (status = 200, description = "A page of webhooks", body = WebhookList),
        (status = 400, description = "A parameter does not parse", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn list_webhooks(
    State(processor): State<Processor>,
    Query(list): Query<ListWebhooks>,
) -> Result<Json<WebhookList>, Problem> {
    let limit = at_least_one(list.limit)?;
    let query = NameQuery {
        after: list.after,
        limit,
    };
    let webhooks = processor.webhooks(query).await.map_err(in_query)?;
    let webhooks: Vec<WebhookView> = webhooks.into_iter().map(Into::into).collect();
    let is_full = webhooks.len() == limit as usize;
    let next = webhooks.last().filter(|_| is_full).map(|last| last.name.clone());
    Ok(Json(WebhookList { webhooks, next }))
}

/// Gives one webhook. `ETag` is its version.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{name}",
    operation_id = "get_webhook",
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook")),
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 404, description = "There is no such webhook", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn get_webhook(
    State(processor): State<Processor>,
    Path(name): Path<String>,
) -> Result<Tagged, Problem> {
    processor.webhook(name).await.map(tagged).map_err(in_query)
}

/// Changes address or filter. With `If-Match`, only the version that it names.
#[utoipa::path(
    patch,
    path = "/v1/webhooks/{name}",
    operation_id = "change_webhook",
    tag = "webhooks",
    params(
        ("name" = String, Path, description = "The webhook"),
        ("if-match" = Option<String>, Header, description = "The `ETag` of the version that is changed"),
    ),
    request_body = ChangeWebhook,
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 400, description = "If-Match is no tag of ours", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such webhook", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is at another version", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid, or the address is not allowed", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn change_webhook(
    State(hooks): State<Hooks>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(body): Json<ChangeWebhook>,
) -> Result<Tagged, Problem> {
    let change = body.into_change(name, if_match(&headers)?)?;
    if let Some(url) = &change.url {
        check_target(&hooks.policy, url)?;
    }
    let changed = hooks.processor.change_webhook(change).await;
    changed.map(tagged).map_err(|error| match error {
        aion_processor::Error::Conflict(detail) => Problem::precondition_failed("other_version", detail),
        other => in_body(other),
    })
}

/// Removes a webhook with its keys and deliveries.
#[utoipa::path(
    delete,
    path = "/v1/webhooks/{name}",
    operation_id = "delete_webhook",
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is no such webhook", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn delete_webhook(
    State(processor): State<Processor>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let removed = processor.remove_webhook(name).await;
    removed.map(|()| StatusCode::NO_CONTENT).map_err(in_query)
}

/// Stops a webhook where it is.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{name}/pause",
    operation_id = "pause_webhook",
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook")),
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 404, description = "There is no such webhook", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn pause_webhook(
    State(processor): State<Processor>,
    Path(name): Path<String>,
) -> Result<Tagged, Problem> {
    processor.pause_webhook(name).await.map(tagged).map_err(in_query)
}

/// Lets a webhook go on that was paused or switched off. What is parked is tried at once.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{name}/resume",
    operation_id = "resume_webhook",
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook")),
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 404, description = "There is no such webhook", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn resume_webhook(
    State(processor): State<Processor>,
    Path(name): Path<String>,
) -> Result<Tagged, Problem> {
    processor.resume_webhook(name).await.map(tagged).map_err(in_query)
}

/// Gives a webhook a new secret, which is shown in this answer only; for a while the one before signs as well.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{name}/rotate",
    operation_id = "rotate_webhook_key",
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook")),
    request_body = RotateKey,
    responses(
        (status = 200, description = "The webhook and its new secret", body = WebhookWithSecret),
        (status = 404, description = "There is no such webhook", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn rotate_webhook_key(
    State(processor): State<Processor>,
    Path(name): Path<String>,
    Json(body): Json<RotateKey>,
) -> Result<Json<WebhookWithSecret>, Problem> {
    let key = match body.secret {
        Some(text) => WebhookKey::new(text).map_err(in_body)?,
        None => fresh_key()?,
    };
    let secret = key.expose().to_owned();
    let rotated = processor.rotate_webhook_key(name, key, body.keep_ms).await;
    let webhook = rotated.map_err(in_body)?.into();
    Ok(Json(WebhookWithSecret { secret, webhook }))
}

/// Tells of everything after an event again. Deliveries of later events are forgotten, for they come again.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{name}/replay",
    operation_id = "replay_webhook",
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook")),
    request_body = ReplayWebhook,
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 404, description = "There is no such webhook", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The log does not go as far", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn replay_webhook(
    State(processor): State<Processor>,
    Path(name): Path<String>,
    Json(body): Json<ReplayWebhook>,
) -> Result<Tagged, Problem> {
    let replayed = processor.replay_webhook(name, body.after).await;
    replayed.map(tagged).map_err(in_body)
}

/// Asks for a test message of type `webhook.ping`. `ping.attempt` says what came of it once it was sent.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{name}/ping",
    operation_id = "ping_webhook",
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook")),
    responses(
        (status = 202, description = "The webhook", body = WebhookView),
        (status = 404, description = "There is no such webhook", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn ping_webhook(
    State(processor): State<Processor>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<WebhookView>), Problem> {
    let asked = processor.ping_webhook(name).await.map_err(in_query)?;
    Ok((StatusCode::ACCEPTED, Json(asked.into())))
}

/// Lists events that wait for another attempt.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{name}/deliveries",
    operation_id = "list_webhook_deliveries",
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook"), ListDeliveries),
    responses(
        (status = 200, description = "A page of deliveries", body = DeliveryList),
        (status = 400, description = "A parameter does not parse", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such webhook", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn list_webhook_deliveries(
    State(processor): State<Processor>,
    Path(name): Path<String>,
    Query(list): Query<ListDeliveries>,
) -> Result<Json<DeliveryList>, Problem> {
    deliveries(&processor, name, DeliveryState::Parked, list).await
}

/// Lists events that were tried too often.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{name}/dead-letters",
    operation_id = "list_webhook_dead_letters",
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook"), ListDeliveries),
    responses(
        (status = 200, description = "A page of dead letters", body = DeliveryList),
        (status = 400, description = "A parameter does not parse", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such webhook", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn list_webhook_dead_letters(
    State(processor): State<Processor>,
    Path(name): Path<String>,
    Query(list): Query<ListDeliveries>,
) -> Result<Json<DeliveryList>, Problem> {
    deliveries(&processor, name, DeliveryState::Dead, list).await
}

/// Sends dead letters again: one, or as many as there is room for.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{name}/dead-letters/retry",
    operation_id = "retry_webhook_dead_letters",
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook")),
    request_body = RetryLetters,
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 404, description = "There is no such webhook, or no such letter", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "There is no room", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn retry_webhook_dead_letters(
    State(processor): State<Processor>,
    Path(name): Path<String>,
    Json(body): Json<RetryLetters>,
) -> Result<Tagged, Problem> {
    let again = processor.retry_dead_letters(name, body.seq).await;
    again.map(tagged).map_err(in_body)
}

/// Webhooks that need somebody to look after them, in a few members, at most ten.
pub(crate) async fn troubled(processor: &Processor) -> aion_processor::Result<Vec<Value>> {
    let webhooks = processor.webhooks(NameQuery::default()).await?;
    let needs = |webhook: &Webhook| {
        !webhook.is_active() || webhook.is_held_back() || webhook.failing_since.is_some() || webhook.dead > 0
    };
    let views = webhooks.into_iter().filter(needs).map(WebhookView::from);
    let brief = views.map(|view| {
        json!({ "name": view.name, "state": view.state, "parked": view.parked, "dead": view.dead,
            "failing_since": view.failing_since })
    });
    Ok(brief.take(10).collect())
}

type Tagged = ([(http::HeaderName, String); 1], Json<WebhookView>);

fn tagged(webhook: Webhook) -> Tagged {
    let tag = format!("\"{}\"", webhook.version);
    ([(header::ETAG, tag)], Json(webhook.into()))
}

/// The version that `If-Match` names; none for any.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let version = number.and_then(|text| text.parse().ok());
    version.map(Some).ok_or_else(|| {
        Problem::bad_request("invalid_header", "If-Match is no tag of ours").at("header:if-match")
    })
}

async fn deliveries(
    processor: &Processor,
    webhook: String,
    state: DeliveryState,
    list: ListDeliveries,
) -> Result<Json<DeliveryList>, Problem> {
    let limit = at_least_one(list.limit)?;
    processor.webhook(webhook.clone()).await.map_err(in_query)?;
    let query = DeliveryQuery {
        webhook,
        state,
        after: list.after,
        limit,
    };
    let found = processor.deliveries(query).await.map_err(in_query)?;
    let next = found.last().filter(|_| found.len() == limit as usize);
    let next = next.map(aion_processor::Delivery::seq);
    let deliveries = found.into_iter().map(Into::into).collect();
    Ok(Json(DeliveryList { deliveries, next }))
}

fn check_target(policy: &TargetPolicy, url: &str) -> Result<(), Problem> {
    let checked = policy.check_url(url).map(drop);
    checked
        .map_err(|error| Problem::unprocessable("invalid", format!("url is not valid: {error}")).at("/url"))
}

/// A key that nobody can guess.
fn fresh_key() -> Result<WebhookKey, Problem> {
    let mut bytes = [0; KEY_BYTES];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random
        .fill(&mut bytes)
        .map_err(|error| Problem::internal(format!("{error:?}")))?;
    WebhookKey::new(format!("whsec_{}", STANDARD.encode(bytes))).map_err(Problem::internal)
}
