//! Markets: open, look, resolve.

use aion_market::{MakerSpec, Market, MarketFilter, OpenMarket};
use aion_service::{Json, Path, Problem, Query};
use aion_trust::{TrustLedger, Vote};
use aion_types::{MarketId, Timestamp};
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use crate::conditions::versioned;
use crate::log::Streams;
use crate::orders::header_key;
use crate::own::refuse_own;
use crate::problem::{in_body, in_store, in_trust, invalid};
use crate::wire::{
    CloseBody, ListMarkets, MakerChoice, MarketInfo, MarketList, OpenMarketBody, ReportView, ResolveBody,
    distribution,
};

/// Opens a market. Opening the same one again is harmless and gives it as it is.
#[utoipa::path(
    post,
    path = "/v1/markets",
    operation_id = "open_market",
    tag = "markets",
    request_body = OpenMarketBody,
    params(("idempotency-key" = Option<String>, Header, description = "Makes the id of a market on a question, if the body has none")),
    responses(
        (status = 200, description = "The market", body = MarketInfo),
        (status = 409, description = "The id is taken by another market", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn open_market(
    State(market): State<Market>,
    State(streams): State<Streams>,
    headers: HeaderMap,
    Json(body): Json<OpenMarketBody>,
) -> Result<Json<MarketInfo>, Problem> {
    let key = header_key(&headers)?;
    let open = request(body, market.clock().now(), key.as_deref())?;
    let view = market.open(&open).await.map_err(in_body)?;
    streams.tell();
    Ok(Json(view.into()))
}

fn request(body: OpenMarketBody, now: Timestamp, key: Option<&str>) -> Result<OpenMarket, Problem> {
    let mut open = match (body.task_id, body.question) {
        (Some(_), None) if body.id.is_some() => {
            return Err(invalid("/id", "the market of a task has the id of the task"));
        }
        (Some(task), None) => OpenMarket::task(task, body.kind),
        (None, Some(text)) => {
            let id = body.id.unwrap_or_else(|| fresh_id(now, key));
            OpenMarket::question(id, text, body.kind)
        }
        _ => return Err(invalid("", "give exactly one of task_id and question")),
    };
    if let Some(names) = body.outcomes {
        open = open.with_outcomes(names);
    }
    open = match (body.prior, body.persistence_ratio) {
        (None, None) => open,
        (Some(prior), None) => open.with_prior(distribution("/prior", &prior)?),
        (None, Some(ratio)) => open
            .with_persistence_prior(ratio)
            .map_err(|error| invalid("/persistence_ratio", error.to_string()))?,
        _ => return Err(invalid("", "give at most one of prior and persistence_ratio")),
    };
    if let Some(at) = body.closes_at {
        open = open.with_closes_at(Timestamp::from_ms(at));
    }
    if body.commission.is_some() && body.maker != MakerChoice::LiquiditySensitive {
        return Err(invalid(
            "/commission",
            "only a market with maker liquidity_sensitive has a commission",
        ));
    }
    match (body.maker, body.liquidity) {
        (MakerChoice::PseudoCount, None) => Ok(open),
        (MakerChoice::PseudoCount, Some(_)) => Err(invalid(
            "/liquidity",
            "a market with maker pseudo_count has no liquidity",
        )),
        (MakerChoice::LiquiditySensitive, liquidity) => {
            let commission = body.commission.unwrap_or(0.05);
            let maker = MakerSpec::liquidity_sensitive(commission, liquidity.unwrap_or(100.0));
            Ok(open.with_maker(maker.map_err(|error| invalid("/commission", error.to_string()))?))
        }
        (MakerChoice::Lmsr, liquidity) => {
            let maker = MakerSpec::lmsr(liquidity.unwrap_or(100.0));
            Ok(open.with_maker(maker.map_err(|error| invalid("/liquidity", error.to_string()))?))
        }
    }
}

/// An id of this moment; or, under a key, always the same one.
fn fresh_id(now: Timestamp, key: Option<&str>) -> MarketId {
    let Some(key) = key else {
        return MarketId::generate(now);
    };
    let mut random = [0; 10];
    random.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..10]);
    MarketId::from_parts(Timestamp::from_ms(0), random)
}

/// Lists markets with their prices, newest id first.
#[utoipa::path(
    get,
    path = "/v1/markets",
    operation_id = "list_markets",
    tag = "markets",
    params(ListMarkets),
    responses(
        (status = 200, description = "A page of markets", body = MarketList),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_markets(
    State(market): State<Market>,
    Query(list): Query<ListMarkets>,
) -> Result<Json<MarketList>, Problem> {
    let limit = page(list.limit)?;
    let mut filter = MarketFilter::default();
    filter.status = list.status.map(Into::into);
    filter.kind = list.kind;
    filter.before = list.before;
    // One more than is shown, to know whether there is another page.
    let found = market.store().views(&filter, limit + 1).await;
    let mut views = found.map_err(in_store)?;
    let more = views.len() > limit;
    views.truncate(limit);
    let next = views.last().map(|view| view.id).filter(|_| more);
    Ok(Json(MarketList {
        markets: views.into_iter().map(Into::into).collect(),
        next,
    }))
}

/// Checks the size of a page.
pub(crate) fn page(limit: usize) -> Result<usize, Problem> {
    if (1..=1_000).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::unprocessable("over_limit", "limit must be in [1, 1000]").at("query:limit"))
}

/// Gives a market with its price.
#[utoipa::path(
    get,
    path = "/v1/markets/{market_id}",
    operation_id = "get_market",
    tag = "markets",
    params(
        ("market_id" = String, Path, description = "The market; that of a task has the id of the task", format = "uuid"),
        ("if-none-match" = Option<String>, Header, description = "The ETag of an earlier answer: 304 if nothing changed"),
    ),
    responses(
        (status = 200, description = "The market; its version is the ETag", body = MarketInfo),
        (status = 304, description = "Nothing has changed"),
        (status = 404, description = "There is no such market", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_market(
    State(market): State<Market>,
    headers: HeaderMap,
    Path(id): Path<MarketId>,
) -> Result<Response, Problem> {
    let info = MarketInfo::from(market.get(id).await.map_err(in_body)?);
    Ok(versioned(info.version, &headers, Json(info)))
}

/// Ends the time of forecasts before it is known how the question ended. Saying so twice is harmless.
#[utoipa::path(
    post,
    path = "/v1/markets/{market_id}/close",
    operation_id = "close_market",
    tag = "markets",
    params(("market_id" = String, Path, description = "The market", format = "uuid")),
    request_body = CloseBody,
    responses(
        (status = 200, description = "The market", body = MarketInfo),
        (status = 403, description = "The request comes from the work on the task", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such market", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has ended", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn close_market(
    State(market): State<Market>,
    State(streams): State<Streams>,
    Path(id): Path<MarketId>,
    headers: HeaderMap,
    Json(body): Json<CloseBody>,
) -> Result<Json<MarketInfo>, Problem> {
    refuse_own(&headers, id)?;
    let view = market.close(id, &body.reason).await.map_err(in_body)?;
    streams.tell();
    Ok(Json(view.into()))
}

/// Ends a market: scores everybody in bits and moves trust. Saying so twice is harmless.
#[utoipa::path(
    post,
    path = "/v1/markets/{market_id}/resolve",
    operation_id = "resolve_market",
    tag = "markets",
    params(("market_id" = String, Path, description = "The market", format = "uuid")),
    request_body = ResolveBody,
    responses(
        (status = 200, description = "The scores", body = ReportView),
        (status = 403, description = "The request comes from the work on the task", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such market", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It ended otherwise", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn resolve_market(
    State(market): State<Market>,
    State(trust): State<TrustLedger>,
    State(streams): State<Streams>,
    Path(id): Path<MarketId>,
    headers: HeaderMap,
    Json(body): Json<ResolveBody>,
) -> Result<Json<ReportView>, Problem> {
    refuse_own(&headers, id)?;
    let view = market.get(id).await.map_err(in_body)?;
    let resolution = body.resolution(&view.spec.outcomes)?;
    let report = market.resolve(id, &resolution).await.map_err(in_body)?;
    streams.tell();
    // Whoever settled it before, by these votes or with others beside them, has moved the trust.
    match trust.settle(&report, &Vote::of_report(&report)).await {
        Ok(_) | Err(aion_trust::Error::SettledOtherwise(_)) => Ok(Json(report.into())),
        Err(error) => Err(in_trust(error)),
    }
}

/// Gives the scores of a market that ended, computed from its events.
#[utoipa::path(
    get,
    path = "/v1/markets/{market_id}/report",
    operation_id = "get_market_report",
    tag = "markets",
    params(("market_id" = String, Path, description = "The market", format = "uuid")),
    responses(
        (status = 200, description = "The scores", body = ReportView),
        (status = 404, description = "There is no such market", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not ended", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_report(
    State(market): State<Market>,
    Path(id): Path<MarketId>,
) -> Result<Json<ReportView>, Problem> {
    Ok(Json(market.report(id).await.map_err(in_body)?.into()))
}
