//! What others tell of: events of the processor, by Standard Webhooks.

use aion_market::Market;
use aion_service::webhook::WebhookError;
use aion_service::{Json, Problem, parse_json};
use aion_types::EventRecord;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::Hooks;
use crate::batch::unreadable;
use crate::problem::in_body;
use crate::wire::following::{Heard, Told};

/// Takes note that something happened to a task. The event is then read from the processor itself, in the
/// order of its log: telling of one twice, late or out of order is harmless.
#[utoipa::path(
    post,
    path = "/v1/hooks/processor",
    operation_id = "hear_processor",
    tag = "predictors",
    params(
        ("webhook-id" = String, Header, description = "Names the message"),
        ("webhook-timestamp" = String, Header, description = "When it was sent, in seconds since 1970"),
        ("webhook-signature" = String, Header, description = "`v1,` and the base64 of an HMAC-SHA256; several separated by spaces"),
    ),
    request_body(content = Object, description = "An event of the processor, alone or as the member `data`"),
    responses(
        (status = 202, description = "It was heard", body = Told),
        (status = 400, description = "A header is missing, or the body is no JSON", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The signature does not fit, or is too old", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This service follows no processor, or has no key for its webhooks", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The body is no event", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn hear_processor(
    State(market): State<Market>,
    State(hooks): State<Hooks>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Told>), Problem> {
    let (Some(keys), Some(follower)) = (&hooks.keys, &hooks.follower) else {
        return Err(Problem::not_found(
            "no_webhooks",
            "this service follows no processor, or has no key for its webhooks",
        ));
    };
    let body = body.map_err(|rejection| unreadable(&rejection))?;
    let now = market.clock().now().as_ms().div_euclid(1_000);
    keys.verify(&headers, &body, now)
        .map_err(|error| refused(&error))?;
    let event = event(&body)?;
    let heard = if follower.tell(event.seq).await.map_err(in_body)? {
        Heard::New
    } else {
        Heard::Known
    };
    Ok((
        StatusCode::ACCEPTED,
        Json(Told {
            seq: event.seq,
            heard,
        }),
    ))
}

/// Nothing of the body was looked at: whoever it is from is not known.
fn refused(error: &WebhookError) -> Problem {
    let detail = error.to_string();
    match error {
        WebhookError::BadHeader(name) => {
            Problem::bad_request("invalid_header", detail).at(format!("header:{name}"))
        }
        _ => Problem::forbidden("wrong_signature", detail),
    }
}

fn event(body: &[u8]) -> Result<EventRecord, Problem> {
    let mut value: Value = parse_json(body)?;
    let wrapped = value.get_mut("data").map(Value::take);
    let (value, pointer) = match wrapped {
        Some(data) => (data, "/data"),
        None => (value, ""),
    };
    serde_json::from_value(value)
        .map_err(|error| Problem::unprocessable("invalid_body", error.to_string()).at(pointer))
}
