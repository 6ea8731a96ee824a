//! What a batch writes, as statements.

use super::statement::{Statement, Value};
use super::{Batch, CursorMove, MarketWrite, StoreError, transfers};
use crate::ledger::Asset;

/// What a statement that changes nothing has run into.
#[derive(Debug)]
pub(super) enum Guard<'a> {
    /// Somebody else changed the market first.
    Market(&'a MarketWrite),
    /// Somebody else moved the cursor first.
    Cursor(&'a CursorMove),
}

/// All statements of a batch, and what those that have to change a row guard, in their order.
pub(super) fn steps(batch: &Batch) -> Result<(Vec<Statement>, Vec<Guard<'_>>), StoreError> {
    let (mut steps, mut guards) = (Vec::new(), Vec::new());
    for write in &batch.writes {
        steps.push(market(write)?);
        guards.push(Guard::Market(write));
        steps.extend(events(write)?);
        steps.extend(postings(write)?);
        steps.extend(scores(write)?);
        steps.extend(standings(write));
        steps.extend(snapshot(write));
    }
    if let Some(cursor) = &batch.cursor {
        steps.push(cursor_move(cursor));
        guards.push(Guard::Cursor(cursor));
    }
    Ok((steps, guards))
}

fn market(write: &MarketWrite) -> Result<Statement, StoreError> {
    let view = &write.view;
    let statement = if write.expected == 0 {
        Statement::new(
            "INSERT INTO market (id, version, status, kind, view) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO NOTHING",
        )
        .with(view.id)
    } else {
        Statement::new(
            "UPDATE market SET version = $3, status = $4, kind = $5, view = $6 WHERE id = $1 AND version = $2",
        )
        .with(view.id)
        .with(write.expected)
    };
    Ok(statement
        .with(view.version)
        .with(view.status.as_str())
        .with(view.spec.kind.as_str())
        .with(Value::json(view)?)
        .or_undo())
}

/// The place of each in the log of all markets is given to it by a trigger.
fn events(write: &MarketWrite) -> Result<Vec<Statement>, StoreError> {
    let row = |stored: &crate::event::StoredEvent| {
        let key = stored.request.as_ref().map(|request| request.key.clone());
        let body = Value::json(stored)?;
        Ok([write.view.id.into(), stored.seq.into(), Value::Text(key), body])
    };
    let rows = write.events.iter().map(row).collect::<Result<_, StoreError>>()?;
    let head = "INSERT INTO event (market_id, seq, request_key, body)";
    Ok(Statement::inserts(head, rows, ""))
}

/// One row a transfer, numbered within the write.
fn postings(write: &MarketWrite) -> Result<Vec<Statement>, StoreError> {
    let row = |(line, transfer): (u64, Result<super::Transfer<'_>, StoreError>)| {
        let (to, gives) = transfer?;
        let outcome = match to.asset {
            Asset::Money => Value::Int(None),
            Asset::Shares(outcome) => (outcome as u64).into(),
        };
        let (market, amount) = (write.view.id.into(), to.amount_micro.into());
        let (gets, gives) = ((&to.account).into(), gives.into());
        Ok([market, to.seq.into(), line.into(), gets, gives, outcome, amount])
    };
    let numbered = (0..).zip(transfers(&write.entries));
    let rows = numbered.map(row).collect::<Result<_, StoreError>>()?;
    let head = "INSERT INTO posting (market_id, seq, line, gets, gives, outcome, amount)";
    Ok(Statement::inserts(head, rows, ""))
}

fn scores(write: &MarketWrite) -> Result<Vec<Statement>, StoreError> {
    let row = |score: &super::ScoreRow| {
        Ok([
            (&score.forecaster).into(),
            score.resolved_at.as_ms().into(),
            score.market.into(),
            score.gain.get().into(),
            score.baseline.get().into(),
            score.forecasts.into(),
            Value::json(score)?,
        ])
    };
    let rows = write.scores.iter().map(row).collect::<Result<_, StoreError>>()?;
    let head = "INSERT INTO score (forecaster, resolved_at, market_id, gain, baseline, forecasts, body)";
    Ok(Statement::inserts(head, rows, ""))
}

/// A market scores nobody twice, so that no row is touched twice by one statement.
fn standings(write: &MarketWrite) -> Vec<Statement> {
    let row = |score: &super::ScoreRow| {
        let one = super::Standing::of(score);
        [
            (&one.forecaster).into(),
            one.gain.get().into(),
            Value::Real(one.squared_bits),
            one.baseline.get().into(),
            one.markets.into(),
            one.forecasts.into(),
        ]
    };
    let head = "INSERT INTO standing (forecaster, gain, squared_bits, baseline, markets, forecasts)";
    let tail = "ON CONFLICT (forecaster) DO UPDATE SET gain = standing.gain + excluded.gain,
        squared_bits = standing.squared_bits + excluded.squared_bits,
        baseline = standing.baseline + excluded.baseline,
        markets = standing.markets + excluded.markets,
        forecasts = standing.forecasts + excluded.forecasts";
    Statement::inserts(head, write.scores.iter().map(row).collect(), tail)
}

fn snapshot(write: &MarketWrite) -> Option<Statement> {
    let snapshot = write.snapshot.as_ref()?;
    let statement = Statement::new(
        "INSERT INTO snapshot (market_id, version, digest, body) VALUES ($1, $2, $3, $4)
         ON CONFLICT (market_id) DO UPDATE SET
         version = excluded.version, digest = excluded.digest, body = excluded.body",
    );
    Some(
        statement
            .with(write.view.id)
            .with(snapshot.version)
            .with(snapshot.digest.as_str())
            .with(snapshot.body.as_str()),
    )
}

fn cursor_move(cursor: &CursorMove) -> Statement {
    let statement = Statement::new(if cursor.from == 0 {
        "INSERT INTO cursor (name, seq) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET seq = excluded.seq WHERE cursor.seq = $3"
    } else {
        "UPDATE cursor SET seq = $2 WHERE name = $1 AND seq = $3"
    });
    statement
        .with(cursor.name.as_str())
        .with(cursor.to)
        .with(cursor.from)
        .or_undo()
}
