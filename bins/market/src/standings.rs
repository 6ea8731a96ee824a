//! Prices by id, and what one forecaster is worth.

use aion_market::store::ScoreRow;
use aion_market::{Error, Market};
use aion_service::{Json, Path, Problem, Query};
use aion_types::{Bits, ForecasterId, MarketId};
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use crate::conditions::versioned;
use crate::markets::page;
use crate::problem::in_body;
use crate::wire::standing::{ForecasterScore, ListScores, MarketScore, ProbList, ProbView, ProbsOf};

/// Ids in one request.
const MAX_IDS: usize = 100;
/// Scores of one forecaster that are added up.
const MAX_SCORES: usize = 10_000;

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
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn forecaster_score(
    State(market): State<Market>,
    Path(forecaster): Path<ForecasterId>,
    Query(list): Query<ListScores>,
) -> Result<Json<ForecasterScore>, Problem> {
    let limit = page(list.limit)?;
    let rows = market.scores(&forecaster, MAX_SCORES).await.map_err(in_body)?;
    if rows.is_empty() {
        return Err(no_scores(&forecaster));
    }
    let from = match &list.after {
        None => 0,
        Some(cursor) => rows
            .iter()
            .position(|row| cursor_of(row) == *cursor)
            .map(|at| at + 1)
            .ok_or_else(|| Problem::unprocessable("invalid", "there is no such place").at("query:after"))?,
    };
    let shown = &rows[from..rows.len().min(from + limit)];
    let next = shown.last().filter(|_| from + limit < rows.len()).map(cursor_of);
    let mut score = summary(forecaster, &rows);
    score.scores = shown.iter().map(MarketScore::from).collect();
    score.next = next;
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

fn summary(forecaster: ForecasterId, rows: &[ScoreRow]) -> ForecasterScore {
    let gains: Vec<f64> = rows.iter().map(|row| Bits::from(row.gain).get()).collect();
    let n = gains.len() as f64;
    let sum: f64 = gains.iter().sum();
    let spread: f64 = gains.iter().map(|gain| (gain - sum / n).powi(2)).sum();
    let error = (spread / (n - 1.0) / n).sqrt();
    ForecasterScore {
        forecaster,
        markets: rows.len() as u64,
        forecasts: rows.iter().map(|row| row.forecasts).sum(),
        gain_bits: sum,
        mean_gain_bits: sum / n,
        mean_gain_se_bits: Some(error).filter(|error| error.is_finite()),
        baseline_bits: rows.iter().map(|row| Bits::from(row.baseline).get()).sum(),
        scores: Vec::new(),
        next: None,
    }
}
