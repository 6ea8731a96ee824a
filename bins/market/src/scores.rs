//! What forecasts were worth: leaderboard, calibration, batches, trust.

use aion_market::diagram::{self, DiagramOptions};
use aion_market::reliability::Reliability;
use aion_market::{CalibrationReport, Market, Standing, score};
use aion_service::{Json, Problem, Query};
use aion_trust::TrustLedger;
use aion_types::ForecasterId;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};

use crate::contests::Contests;
use crate::markets::page;
use crate::problem::{in_body, in_store, in_trust, invalid};
use crate::standings::no_scores;
use crate::wire::compared::{Compared, ComparisonView};
use crate::wire::{
    CalibrationOf, CalibrationView, Leaderboard, ScoreBatchBody, ScoreBatchView, ScoreView, Top, TrustList,
};

/// Accounts that the list of trust reaches down to.
const MAX_LISTED: usize = 10_000;
/// The media type of a picture.
const SVG: &str = "image/svg+xml";
/// The most rows of one batch.
const MAX_ROWS: usize = 100_000;

/// Lists forecasters by what they gained, in bits, over all markets that ended.
#[utoipa::path(
    get,
    path = "/v1/leaderboard",
    operation_id = "leaderboard",
    tag = "scores",
    params(Top),
    responses(
        (status = 200, description = "The largest gain first", body = Leaderboard),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn leaderboard(
    State(market): State<Market>,
    Query(top): Query<Top>,
) -> Result<Json<Leaderboard>, Problem> {
    let limit = page(top.limit)?;
    let after = match &top.after {
        None => None,
        Some(id) => Some(standing_of(&market, id).await?.ok_or_else(no_such_place)?),
    };
    // One more than is shown, to know whether there is another page.
    let found = market.store().standings(after.as_ref(), limit + 1).await;
    let (forecasters, next) = page_of(found.map_err(in_store)?, |standing| &standing.forecaster, limit);
    Ok(Json(Leaderboard {
        forecasters: forecasters.into_iter().map(Into::into).collect(),
        next,
    }))
}

/// Says how well a forecaster's last forecasts matched what happened.
#[utoipa::path(
    get,
    path = "/v1/calibration",
    operation_id = "calibration",
    tag = "scores",
    params(CalibrationOf),
    responses(
        (status = 200, description = "Reliability curve, calibration error, Brier score and its parts; as a diagram if that is what is accepted", content(
            (CalibrationView = "application/json"),
            (String = "image/svg+xml"),
        )),
        (status = 404, description = "No market with a forecast of theirs has ended", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The number of bins is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn calibration(
    State(market): State<Market>,
    headers: HeaderMap,
    Query(of): Query<CalibrationOf>,
) -> Result<Response, Problem> {
    let report = calibration_of(&market, &of).await?;
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains(SVG)) {
        return Ok(svg(&report));
    }
    Ok(([(header::VARY, "accept")], Json(CalibrationView::from(report))).into_response())
}

/// Draws how well a forecaster's last forecasts matched what happened.
#[utoipa::path(
    get,
    path = "/v1/calibration.svg",
    operation_id = "calibration_diagram",
    tag = "scores",
    params(CalibrationOf),
    responses(
        (status = 200, description = "The reliability diagram", body = String, content_type = "image/svg+xml"),
        (status = 404, description = "No market with a forecast of theirs has ended", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The number of bins is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn calibration_diagram(
    State(market): State<Market>,
    Query(of): Query<CalibrationOf>,
) -> Result<Response, Problem> {
    Ok(svg(&calibration_of(&market, &of).await?))
}

async fn calibration_of(market: &Market, of: &CalibrationOf) -> Result<CalibrationReport, Problem> {
    let report = market
        .calibration(&of.forecaster, bins(of.bins, "query:bins")?)
        .await
        .map_err(in_body)?;
    report.ok_or_else(|| no_scores(&of.forecaster))
}

/// Says which of two forecasters is better, and how sure that is.
///
/// What counts is the Brier scores of their last forecasts in the markets that both have a score in: all of
/// them, in the order in which they ended. It may be asked for after every market and acted upon at once. An
/// answer that is not `complete` stands for the markets up to `last_resolved_at`; asking again goes on.
#[utoipa::path(
    get,
    path = "/v1/compare",
    operation_id = "compare_forecasters",
    tag = "scores",
    params(Compared),
    responses(
        (status = 200, description = "The difference, its interval and the evidence; `n` is 0 if they met in no market", body = ComparisonView),
        (status = 404, description = "No market with a forecast of one of them has ended", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn compare(
    State(market): State<Market>,
    State(contests): State<Contests>,
    Query(of): Query<Compared>,
) -> Result<Json<ComparisonView>, Problem> {
    if !(1e-6..=0.5).contains(&of.alpha) {
        return Err(Problem::unprocessable("invalid", "alpha must be in [0.000001, 0.5]").at("query:alpha"));
    }
    for who in [&of.a, &of.b] {
        standing_of(&market, who).await?.ok_or_else(|| no_scores(who))?;
    }
    let (contest, reach) = contests.of(&market, &of).await.map_err(in_body)?;
    Ok(Json(ComparisonView::new(of, &contest, reach)))
}

/// A picture, harmless even where it is opened as a page.
fn svg(report: &CalibrationReport) -> Response {
    let options = DiagramOptions::new(format!("Calibration of {}", report.forecaster));
    let headers = [
        (header::CONTENT_TYPE, SVG),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ),
        (header::VARY, "accept"),
    ];
    (headers, diagram::reliability(&report.reliability, &options)).into_response()
}

/// Scores forecasts that are given with what happened; keeps nothing.
#[utoipa::path(
    post,
    path = "/v1/scores",
    operation_id = "score_batch",
    tag = "scores",
    request_body = ScoreBatchBody,
    responses(
        (status = 200, description = "The score of each row, and the means", body = ScoreBatchView),
        (status = 422, description = "A row is not valid; the pointer says which", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn score_batch(Json(batch): Json<ScoreBatchBody>) -> Result<Json<ScoreBatchView>, Problem> {
    if !(1..=MAX_ROWS).contains(&batch.rows.len()) {
        return Err(invalid("/rows", "a batch has 1 to 100,000 rows"));
    }
    bins(batch.bins, "/bins")?;
    // Up to 100,000 rows take milliseconds; still, other requests should not wait for them.
    let scored = tokio::task::spawn_blocking(move || score_rows(&batch)).await;
    scored.map_err(Problem::internal)?.map(Json)
}

fn score_rows(batch: &ScoreBatchBody) -> Result<ScoreBatchView, Problem> {
    let mut rows = Vec::with_capacity(batch.rows.len());
    for (i, row) in batch.rows.iter().enumerate() {
        let at = |error: aion_market::Error| invalid(&format!("/rows/{i}"), error.to_string());
        let (q, y) = (row.probabilities.as_slice(), row.outcome);
        let loss_bits = -score::log_score(q, y).map_err(at)? / std::f64::consts::LN_2;
        rows.push(ScoreView {
            loss_bits: Some(loss_bits.abs()).filter(|loss| loss.is_finite()),
            brier: score::brier(q, y).map_err(at)?,
            rps: score::rps(q, y).map_err(at)?,
        });
    }
    let n = rows.len() as f64;
    let losses: Option<Vec<f64>> = rows.iter().map(|row| row.loss_bits).collect();
    let mean_loss_bits = losses.map(|losses| losses.iter().sum::<f64>() / n);
    Ok(ScoreBatchView {
        mean_loss_bits,
        mean_brier: rows.iter().map(|row| row.brier).sum::<f64>() / n,
        mean_rps: rows.iter().map(|row| row.rps).sum::<f64>() / n,
        calibration: binary_calibration(batch, mean_loss_bits)?,
        rows,
    })
}

fn binary_calibration(
    batch: &ScoreBatchBody,
    mean_loss_bits: Option<f64>,
) -> Result<Option<CalibrationView>, Problem> {
    if batch.rows.iter().any(|row| row.probabilities.len() != 2) {
        return Ok(None);
    }
    // A sum of parts that is 1 but for rounding was scored as 1.
    let p: Vec<f64> = batch
        .rows
        .iter()
        .map(|row| row.probabilities[0].min(1.0))
        .collect();
    let o: Vec<f64> = batch
        .rows
        .iter()
        .map(|row| if row.outcome == 0 { 1.0 } else { 0.0 })
        .collect();
    let curve = Reliability::of(&p, &o, batch.bins).map_err(in_body)?;
    Ok(Some(CalibrationView::new(
        &curve,
        mean_loss_bits.unwrap_or(f64::INFINITY),
    )))
}

fn bins(bins: usize, pointer: &str) -> Result<usize, Problem> {
    if (1..=1_000).contains(&bins) {
        return Ok(bins);
    }
    Err(Problem::unprocessable("over_limit", "bins must be in [1, 1000]").at(pointer))
}

/// Lists agent types, predictors and the house by trust.
#[utoipa::path(
    get,
    path = "/v1/trust",
    operation_id = "list_trust",
    tag = "scores",
    params(Top),
    responses(
        (status = 200, description = "The largest trust first", body = TrustList),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_trust(
    State(trust): State<TrustLedger>,
    Query(top): Query<Top>,
) -> Result<Json<TrustList>, Problem> {
    let limit = page(top.limit)?;
    let all = trust.list(MAX_LISTED).await.map_err(in_trust)?;
    let (accounts, next) = paged(all, |account| &account.id, top.after.as_ref(), limit)?;
    Ok(Json(TrustList {
        accounts: accounts.into_iter().map(Into::into).collect(),
        next,
    }))
}

/// The page after `after` of an ordered list, and the cursor of the next one.
fn paged<T>(
    mut all: Vec<T>,
    id: impl Fn(&T) -> &ForecasterId,
    after: Option<&ForecasterId>,
    limit: usize,
) -> Result<(Vec<T>, Option<ForecasterId>), Problem> {
    let from = match after {
        None => 0,
        Some(after) => all
            .iter()
            .position(|one| id(one) == after)
            .map(|at| at + 1)
            .ok_or_else(no_such_place)?,
    };
    Ok(page_of(all.split_off(from), id, limit))
}

/// The first `limit`, and the cursor of the next page if there are more.
fn page_of<T>(
    mut found: Vec<T>,
    id: impl Fn(&T) -> &ForecasterId,
    limit: usize,
) -> (Vec<T>, Option<ForecasterId>) {
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|one| id(one).clone());
    (found, next)
}

/// The answer to a cursor that was never given out.
pub(crate) fn no_such_place() -> Problem {
    Problem::unprocessable("invalid", "there is no such place").at("query:after")
}

/// What the scores of a forecaster add up to.
pub(crate) async fn standing_of(
    market: &Market,
    forecaster: &ForecasterId,
) -> Result<Option<Standing>, Problem> {
    market.store().standing(forecaster).await.map_err(in_store)
}
