//! What forecasts were worth: leaderboard, calibration, batches, trust.

use aion_market::reliability::Reliability;
use aion_market::{Market, score};
use aion_service::{Json, Problem, Query};
use aion_trust::TrustLedger;
use axum::extract::State;

use crate::markets::page;
use crate::problem::{in_body, in_trust, invalid};
use crate::wire::{
    CalibrationOf, CalibrationView, Leaderboard, ScoreBatchBody, ScoreBatchView, ScoreView, Top, TrustList,
};

/// The most rows of one batch.
const MAX_ROWS: usize = 100_000;

/// Lists forecasters by what they gained, in bits.
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
    let standings = market.leaderboard(page(top.limit)?).await.map_err(in_body)?;
    Ok(Json(Leaderboard {
        forecasters: standings.into_iter().map(Into::into).collect(),
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
        (status = 200, description = "Reliability curve, calibration error, Brier score and its parts", body = CalibrationView),
        (status = 404, description = "No market with a forecast of theirs has ended", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The number of bins is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn calibration(
    State(market): State<Market>,
    Query(of): Query<CalibrationOf>,
) -> Result<Json<CalibrationView>, Problem> {
    let report = market
        .calibration(&of.forecaster, bins(of.bins, "query:bins")?)
        .await
        .map_err(in_body)?;
    report.map(|report| Json(report.into())).ok_or_else(|| {
        Problem::not_found(
            "no_scores",
            format!("{} has no forecast in a market that ended", of.forecaster),
        )
    })
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
    let p: Vec<f64> = batch.rows.iter().map(|row| row.probabilities[0]).collect();
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
    let accounts = trust.list(page(top.limit)?).await.map_err(in_trust)?;
    Ok(Json(TrustList {
        accounts: accounts.into_iter().map(Into::into).collect(),
    }))
}
