//! Scoring of columns, in JSON or Arrow; nothing is kept.

mod arrow;
mod kernels;
mod table;

use aion_service::{Json, Problem, Query, parse_json};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};

use crate::wire::columns::{Losses, Rule, ScoreBy, ScoreColumns};
use table::Table;

/// Bytes of one batch.
pub(crate) const MAX_BYTES: usize = 64 << 20;
/// The most rows of JSON.
const MAX_JSON_ROWS: usize = 100_000;
/// The media type of an Arrow IPC stream.
const ARROW: &str = "application/vnd.apache.arrow.stream";

/// Scores columns of forecasts by one rule; the answer has one loss a row.
///
/// An Arrow stream is answered by an Arrow stream with the column `loss`, unless `Accept` asks for JSON.
#[utoipa::path(
    post,
    path = "/v1/score/batch",
    operation_id = "score_columns",
    tag = "scores",
    params(ScoreBy),
    request_body(content(
        (ScoreColumns = "application/json"),
        (String = "application/vnd.apache.arrow.stream"),
    )),
    responses(
        (status = 200, description = "The loss of each row", content(
            (Losses = "application/json"),
            (String = "application/vnd.apache.arrow.stream"),
        )),
        (status = 413, description = "The body, or its number of rows, is over the limit", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is neither JSON nor an Arrow stream", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A row is not valid; the pointer names column and row", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn score_columns(
    Query(by): Query<ScoreBy>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let form = Form::of(&headers)?;
    let body = body.map_err(|rejection| unreadable(&rejection))?;
    // Rows take a fraction of a microsecond each; still, other requests should not wait for them.
    let done = tokio::task::spawn_blocking(move || answer(by.rule, form, &body)).await;
    match done {
        Ok(answer) => answer,
        // The reader of Arrow is not ours; what it chokes on is no stream.
        Err(error) if error.is_panic() && form != Form::Json => Err(arrow::malformed("it cannot be read")),
        Err(error) => Err(Problem::internal(error)),
    }
}

pub(crate) fn unreadable(rejection: &BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::payload_too_large("body_too_large", "the body is over the limit of this operation");
    }
    Problem::bad_request("unreadable_body", rejection.body_text())
}

/// In which form rows come, and losses go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Arrow,
    ArrowToJson,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let sent: &str = text(header::CONTENT_TYPE);
        let essence = sent
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Ok(Self::Json),
            ARROW if text(header::ACCEPT).contains("application/json") => Ok(Self::ArrowToJson),
            ARROW => Ok(Self::Arrow),
            _ => Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                format!("this operation takes application/json or {ARROW}"),
            )),
        }
    }
}

fn answer(rule: Rule, form: Form, body: &Bytes) -> Result<Response, Problem> {
    let table = match form {
        Form::Json => Table::of_json(parse_json::<ScoreColumns>(body)?, MAX_JSON_ROWS)?,
        Form::Arrow | Form::ArrowToJson => arrow::read(body)?,
    };
    let losses = table.losses(rule)?;
    if form == Form::Arrow {
        let stream = arrow::write(rule, losses)?;
        return Ok(([(header::CONTENT_TYPE, ARROW)], stream).into_response());
    }
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    let finite = |x: f64| Some(x).filter(|x| x.is_finite());
    let view = Losses {
        rule,
        unit: rule.unit().to_owned(),
        n: losses.len() as u64,
        mean: finite(mean),
        loss: losses.into_iter().map(finite).collect(),
    };
    Ok(Json(view).into_response())
}
