//! Prices by id, and what one forecaster is worth.

use aion_market::store::{ScoreOrder, ScorePlace, ScoreRow};
use aion_market::{Error, Market, Standing};
use aion_service::{Json, Path, Problem, Query};
use aion_types::{Bits, ForecasterId, MarketId, Timestamp};
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use crate::conditions::versioned;
use crate::markets::page;
use crate::problem::{in_body, in_store};
use crate::scores::{no_such_place, standing_of};
use crate::wire::standing::{ForecasterScore, ListScores, MarketScore, ProbList, ProbView, ProbsOf};

/// Ids in one request.
const MAX_IDS: usize = 100;

/// Gives the price of a market and nothing else.
#[utoipa::path(
    get,
    path = "/v1/markets/{market_id}/prob",
    operation_id = "get_prob",
    tag = "markets",
    params(
        ("market_id" = String, Path, description = "The market", format = "uuid"),
        ("if-none-match" = Option<String>, Header, description = "The ETag of an earlier answer: 304 if nothing changed"),
    ),
    responses(
        (status = 200, description = "The price", body = ProbView),
        (status = 304, description = "Nothing has changed"),
        (status = 404, description = "There is no such market", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_prob(
    State(market): State<Market>,
    headers: HeaderMap,
    Path(id): Path<MarketId>,
) -> Result<Response, Problem> {
    let view = ProbView::from(market.get(id).await.map_err(in_body)?);
    Ok(versioned(view.version, &headers, Json(view)))
}

/// Gives the prices of several markets.
#[utoipa::path(
    get,
    path = "/v1/probs",
    operation_id = "list_probs",
    tag = "markets",
    params(ProbsOf),
    responses(
        (status = 200, description = "The prices, and which markets there are not", body = ProbList),
        (status = 422, description = "The ids are not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_probs(
    State(market): State<Market>,
    Query(of): Query<ProbsOf>,
) -> Result<Json<ProbList>, Problem> {
    let mut list = ProbList {
        probs: Vec::new(),
        unknown: Vec::new(),
    };
    for id in ids(&of.ids)? {
        match market.get(id).await {
            Ok(view) => list.probs.push(view.into()),
            Err(Error::NotFound(id)) => list.unknown.push(id),
            Err(error) => return Err(in_body(error)),
        }
    }
    Ok(Json(list))
}

fn ids(text: &str) -> Result<Vec<MarketId>, Problem> {
    let bad = |detail: String| Problem::unprocessable("invalid", detail).at("query:ids");
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > MAX_IDS {
        return Err(bad(format!("{} ids; at most {MAX_IDS} are allowed", parts.len())));
    }
    let parse = |(i, part): (usize, &str)| {
        let id = part.trim().parse();
        id.map_err(|_| bad(format!("id {i} (from 0) is no UUID")))
    };
    parts.into_iter().enumerate().map(parse).collect()
}

/// Says what the forecasts of a forecaster were worth, all together and market by market.
#[utoipa::path(
    get,
    path = "/v1/forecasters/{forecaster}/score",
    operation_id = "forecaster_score",
    tag = "scores",
    params(("forecaster" = String, Path, description = "Who; `house` for the market's own moves"), ListScores),
    responses(
        (status = 200, description = "The scores", body = ForecasterScore),
        (status = 404, description = "No market with a forecast of theirs has ended", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The limit or the place is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn forecaster_score(
    State(market): State<Market>,
    Path(forecaster): Path<ForecasterId>,
    Query(list): Query<ListScores>,
) -> Result<Json<ForecasterScore>, Problem> {
    let limit = page(list.limit)?;
    let order = match &list.after {
        None => ScoreOrder::Latest,
        Some(cursor) => ScoreOrder::Before(place_of(cursor).ok_or_else(no_such_place)?),
    };
    let standing = standing_of(&market, &forecaster).await?;
    let mut score = summary(standing.ok_or_else(|| no_scores(&forecaster))?);
    // One more than is shown, to know whether there is another page.
    let found = market.store().scores(&forecaster, order, limit + 1).await;
    let mut rows = found.map_err(in_store)?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    score.next = rows.last().filter(|_| more).map(cursor_of);
    score.scores = rows.iter().map(MarketScore::from).collect();
    Ok(Json(score))
}

/// The answer about somebody who has not been scored yet.
pub(crate) fn no_scores(forecaster: &ForecasterId) -> Problem {
    Problem::not_found(
        "no_scores",
        format!("{forecaster} has no forecast in a market that ended"),
    )
}

fn cursor_of(row: &ScoreRow) -> String {
    format!("{}.{}", row.resolved_at.as_ms(), row.market)
}

fn place_of(cursor: &str) -> Option<ScorePlace> {
    let (resolved_at, market) = cursor.split_once('.')?;
    Some(ScorePlace {
        resolved_at: Timestamp::from_ms(resolved_at.parse().ok()?),
        market: market.parse().ok()?,
    })
}

fn summary(standing: Standing) -> ForecasterScore {
    let gain_bits = Bits::from(standing.gain).get();
    ForecasterScore {
        markets: standing.markets,
        forecasts: standing.forecasts,
        gain_bits,
        mean_gain_bits: gain_bits / standing.markets as f64,
        mean_gain_se_bits: standing.mean_gain_se_bits(),
        baseline_bits: Bits::from(standing.baseline).get(),
        forecaster: standing.forecaster,
        scores: Vec::new(),
        next: None,
    }
}
