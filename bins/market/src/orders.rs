//! Forecasts and trades.

use aion_market::{Forecast, Market, Trade};
use aion_service::{Json, Path, Problem};
use aion_types::{MarketId, PPM_ONE, Ppm};
use axum::extract::State;
use http::HeaderMap;

use crate::conditions::expected_version;
use crate::log::Streams;
use crate::own::refuse_own;
use crate::problem::{in_body, invalid};
use crate::wire::{
    FillView, ForecastBody, QuoteBody, QuoteView, SeenPrice, TradeBody, distribution, micro, order,
};

/// Takes a forecast. It is scored by how much better than the price before it turns out.
#[utoipa::path(
    post,
    path = "/v1/markets/{market_id}/forecasts",
    operation_id = "forecast",
    tag = "orders",
    params(
        ("market_id" = String, Path, description = "The market", format = "uuid"),
        ("idempotency-key" = Option<String>, Header, description = "Sending the same key twice is harmless"),
        ("if-match" = Option<String>, Header, description = "The ETag of the market: refuse if it has changed since"),
    ),
    request_body = ForecastBody,
    responses(
        (status = 200, description = "What it did to the price", body = FillView),
        (status = 403, description = "Whoever works on the task may not forecast", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such market", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The market is closed, or the forecast is over its limit", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The market has changed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn forecast(
    State(market): State<Market>,
    State(streams): State<Streams>,
    Path(id): Path<MarketId>,
    headers: HeaderMap,
    Json(body): Json<ForecastBody>,
) -> Result<Json<FillView>, Problem> {
    refuse_own(&headers, id)?;
    let dist = distribution("/probabilities", &body.probabilities)?;
    let mut forecast = Forecast::new(body.forecaster, dist)
        .with_weight(body.weight)
        .map_err(|error| invalid("/weight", error.to_string()))?;
    if let Some(key) = body.key.or(header_key(&headers)?) {
        forecast = forecast
            .with_key(key)
            .map_err(|error| invalid("/key", error.to_string()))?;
    }
    if let Some(version) = expected_version(body.expected_version, &headers)? {
        forecast = forecast.with_expected_version(version);
    }
    if body.seen_price == SeenPrice::Yes {
        forecast = forecast.informed();
    }
    if let Some(limit) = body.max_cost {
        forecast = forecast.with_max_cost_micro(micro("/max_cost", limit)?);
    }
    let fill = market.forecast(id, &forecast).await.map_err(in_body)?;
    streams.tell();
    Ok(Json(fill.into()))
}

/// Says what an order would cost and where it would bring the price; changes nothing.
#[utoipa::path(
    post,
    path = "/v1/markets/{market_id}/quote",
    operation_id = "quote",
    tag = "orders",
    params(("market_id" = String, Path, description = "The market", format = "uuid")),
    request_body = QuoteBody,
    responses(
        (status = 200, description = "What it would do", body = QuoteView),
        (status = 404, description = "There is no such market", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "This market takes forecasts, not trades", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn quote(
    State(market): State<Market>,
    Path(id): Path<MarketId>,
    Json(body): Json<QuoteBody>,
) -> Result<Json<QuoteView>, Problem> {
    let order = order(body.shares, body.move_to)?;
    Ok(Json(market.quote(id, &order).await.map_err(in_body)?.into()))
}

/// Buys or sells shares in a market with maker `lmsr`.
#[utoipa::path(
    post,
    path = "/v1/markets/{market_id}/trades",
    operation_id = "trade",
    tag = "orders",
    params(
        ("market_id" = String, Path, description = "The market", format = "uuid"),
        ("idempotency-key" = Option<String>, Header, description = "Sending the same key twice is harmless"),
        ("if-match" = Option<String>, Header, description = "The ETag of the market: refuse if it has changed since"),
    ),
    request_body = TradeBody,
    responses(
        (status = 200, description = "What it did", body = FillView),
        (status = 403, description = "Whoever works on the task may not trade", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such market", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The market is closed, or the order is over a limit", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The market has changed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn trade(
    State(market): State<Market>,
    State(streams): State<Streams>,
    Path(id): Path<MarketId>,
    headers: HeaderMap,
    Json(body): Json<TradeBody>,
) -> Result<Json<FillView>, Problem> {
    refuse_own(&headers, id)?;
    let mut trade = Trade::new(body.forecaster, order(body.shares, body.move_to)?);
    if let Some(limit) = body.max_cost {
        trade = trade.with_max_cost_micro(micro("/max_cost", limit)?);
    }
    if let Some(key) = body.key.or(header_key(&headers)?) {
        trade = trade
            .with_key(key)
            .map_err(|error| invalid("/key", error.to_string()))?;
    }
    if let Some(version) = expected_version(body.expected_version, &headers)? {
        trade = trade.with_expected_version(version);
    }
    for (i, limit) in body.price_limits.iter().enumerate() {
        let part = |name: &str, p: f64| part(&format!("/price_limits/{i}/{name}"), p);
        trade = trade.with_price_limit(limit.outcome, part("min", limit.min)?, part("max", limit.max)?);
    }
    let fill = market.trade(id, &trade).await.map_err(in_body)?;
    streams.tell();
    Ok(Json(fill.into()))
}

/// A probability in parts per million.
fn part(pointer: &str, p: f64) -> Result<Ppm, Problem> {
    if !(0.0..=1.0).contains(&p) {
        return Err(invalid(pointer, "a probability must be in [0, 1]"));
    }
    Ppm::new((p * f64::from(PPM_ONE)).round() as u32).map_err(|error| invalid(pointer, error.to_string()))
}

/// The value of `Idempotency-Key`.
pub(crate) fn header_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .ok()
        .filter(|text| (1..=1_024).contains(&text.len()));
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        Problem::bad_request(
            "invalid_header",
            "Idempotency-Key must be 1 to 1,024 visible characters",
        )
        .at("header:idempotency-key")
    })
}
