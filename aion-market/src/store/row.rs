//! How columns become values, the same for the rows of both engines.

use aion_types::{ForecasterId, MarketId, MicroBits};
use serde::de::DeserializeOwned;
use sqlx::{ColumnIndex, Database, Decode, Row, Type};

use super::sql::failed;
use super::{Logged, Standing, StoreError};
use crate::engine::Snapshot;
use crate::ledger::{Asset, Entry};

/// A row, read column by column.
pub(super) trait Columns: Send + Sync {
    fn int(&self, column: usize) -> Result<i64, StoreError>;
    fn maybe_int(&self, column: usize) -> Result<Option<i64>, StoreError>;
    fn real(&self, column: usize) -> Result<f64, StoreError>;
    fn text(&self, column: usize) -> Result<&str, StoreError>;
    fn bytes(&self, column: usize) -> Result<&[u8], StoreError>;

    /// A number that the schema keeps from being negative.
    fn count(&self, column: usize) -> Result<u64, StoreError> {
        Ok(self.int(column)?.unsigned_abs())
    }

    fn json<T: DeserializeOwned>(&self, column: usize, what: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(self.text(column)?).map_err(|error| StoreError::corrupt(what, error))
    }

    fn forecaster(&self, column: usize) -> Result<ForecasterId, StoreError> {
        let name = self.text(column)?;
        ForecasterId::new(name).map_err(|error| StoreError::corrupt("forecaster", error))
    }

    fn market(&self, column: usize) -> Result<MarketId, StoreError> {
        let corrupt = "id of a market";
        let bytes: [u8; 16] = self
            .bytes(column)?
            .try_into()
            .map_err(|error| StoreError::corrupt(corrupt, error))?;
        MarketId::from_bytes(bytes).map_err(|error| StoreError::corrupt(corrupt, error))
    }
}

impl<R> Columns for R
where
    R: Row + Send + Sync,
    usize: ColumnIndex<R>,
    for<'r> i64: Cell<'r, R::Database>,
    for<'r> f64: Cell<'r, R::Database>,
    for<'r> &'r str: Cell<'r, R::Database>,
    for<'r> &'r [u8]: Cell<'r, R::Database>,
{
    fn int(&self, column: usize) -> Result<i64, StoreError> {
        self.try_get(column).map_err(failed)
    }

    fn maybe_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        self.try_get(column).map_err(failed)
    }

    fn real(&self, column: usize) -> Result<f64, StoreError> {
        self.try_get(column).map_err(failed)
    }

    fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.try_get(column).map_err(failed)
    }

    fn bytes(&self, column: usize) -> Result<&[u8], StoreError> {
        self.try_get(column).map_err(failed)
    }
}

/// A type that an engine can read.
pub(super) trait Cell<'r, DB: Database>: Decode<'r, DB> + Type<DB> {}

impl<'r, DB: Database, T: Decode<'r, DB> + Type<DB>> Cell<'r, DB> for T {}

pub(super) fn logged(row: &impl Columns) -> Result<Logged, StoreError> {
    Ok(Logged {
        place: row.count(0)?,
        market: row.market(1)?,
        stored: row.json(2, "event")?,
    })
}

pub(super) fn snapshot(market: MarketId, row: &impl Columns) -> Result<Snapshot, StoreError> {
    Ok(Snapshot {
        market,
        version: row.count(0)?,
        digest: row.text(1)?.to_owned(),
        body: row.text(2)?.to_owned(),
    })
}

pub(super) fn standing(row: &impl Columns) -> Result<Standing, StoreError> {
    Ok(Standing {
        forecaster: row.forecaster(0)?,
        gain: MicroBits::new(row.int(1)?),
        squared_bits: row.real(2)?,
        baseline: MicroBits::new(row.int(3)?),
        markets: row.count(4)?,
        forecasts: row.count(5)?,
    })
}

/// The two rows of the ledger that a posting stands for.
pub(super) fn entries(row: &impl Columns) -> Result<[Entry; 2], StoreError> {
    let asset = match row.maybe_int(3)? {
        None => Asset::Money,
        Some(outcome) => Asset::Shares(usize::try_from(outcome).unwrap_or(usize::MAX)),
    };
    let (seq, amount) = (row.count(0)?, row.int(4)?);
    let of = |account, amount_micro| Entry {
        seq,
        account,
        asset,
        amount_micro,
    };
    let (gets, gives) = (row.forecaster(1)?, row.forecaster(2)?);
    Ok([of(gets, amount), of(gives, amount.saturating_neg())])
}
