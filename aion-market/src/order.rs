//! What forecasters send: reports and trades, with their limits.

use aion_types::{ForecasterId, Ppm, PpmDist};
use serde::Serialize;

use crate::Result;
use crate::error::check;
use crate::maker::{MICRO, micro};
use crate::spec::check_text;

/// A report of belief.
///
/// In a pseudo-count market it is added to the counts; in an LMSR it is the trade that moves the
/// price to it.
///
/// ```
/// use aion_market::Forecast;
/// use aion_types::{ForecasterId, PpmDist, Prob};
///
/// let belief = PpmDist::binary(Prob::new(0.8)?);
/// let forecast = Forecast::new(ForecasterId::new("anna")?, belief).with_weight(2.0)?.with_key("1")?;
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forecast {
    pub(crate) forecaster: ForecasterId,
    pub(crate) dist: PpmDist,
    pub(crate) weight_micro: u64,
    pub(crate) informed: bool,
    pub(crate) signal_micro: Option<i64>,
    #[serde(flatten)]
    pub(crate) limits: Limits,
    #[serde(skip)]
    pub(crate) terms: Terms,
}

/// What an order may cost and where it may leave the price. A limit that is not set leaves no trace
/// in the digest of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) most_micro: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) prices: Vec<PriceLimit>,
}

/// The price that an order may leave one outcome at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PriceLimit {
    /// The index of the outcome.
    pub outcome: usize,
    /// At least this.
    pub min: Ppm,
    /// At most this.
    pub max: Ppm,
}

/// What a request may ask for beside its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Terms {
    pub(crate) key: Option<String>,
    pub(crate) expected_version: Option<u64>,
}

impl Forecast {
    /// A report of weight 1, made without having seen the price.
    pub fn new(forecaster: ForecasterId, dist: PpmDist) -> Self {
        Self {
            forecaster,
            dist,
            weight_micro: MICRO as u64,
            informed: false,
            signal_micro: None,
            limits: Limits::default(),
            terms: Terms::default(),
        }
    }

    /// Sets how many reports it counts for.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] unless in `[0.001, 10^6]`; a market has a limit of its own.
    pub fn with_weight(mut self, weight: f64) -> Result<Self> {
        self.weight_micro = micro("a weight", weight)?;
        Ok(self)
    }

    /// Refuses it if it would cost more, in micro-units. A report costs nothing; in a market that
    /// trades, a forecast is a purchase.
    #[must_use]
    pub const fn with_max_cost_micro(mut self, limit_micro: i64) -> Self {
        self.limits.most_micro = Some(limit_micro);
        self
    }

    /// Marks it as made after seeing the price. One with an expected version is marked anyway: whoever
    /// names the version has seen the market.
    #[must_use]
    pub const fn informed(mut self) -> Self {
        self.informed = true;
        self
    }

    /// Keeps the `ln R` that it rests on, so that its calibration can be refitted.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] unless in `[-1000, 1000]`.
    pub fn with_signal(mut self, ln_ratio: f64) -> Result<Self> {
        let checked = check(
            "ln R",
            "in [-1000, 1000]",
            ln_ratio,
            (-1_000.0..=1_000.0).contains(&ln_ratio),
        )?;
        self.signal_micro = Some((checked * MICRO as f64).round() as i64);
        Ok(self)
    }

    /// Makes sending it twice harmless.
    ///
    /// # Errors
    /// [`crate::Error::BadText`] for a key that is empty, too long, or has control characters.
    pub fn with_key(mut self, key: impl Into<String>) -> Result<Self> {
        self.terms.key = Some(checked_key(key.into())?);
        Ok(self)
    }

    /// Refuses it if the market has changed since.
    #[must_use]
    pub const fn with_expected_version(mut self, version: u64) -> Self {
        self.terms.expected_version = Some(version);
        self
    }
}

/// What to buy or sell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Order {
    /// So many micro-shares of each outcome; negative to sell what is held.
    Shares {
        /// Micro-shares by outcome.
        micro: Vec<i64>,
    },
    /// The purchases that bring the price here.
    MoveTo {
        /// The price.
        price: PpmDist,
    },
}

/// An order with its sender and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trade {
    pub(crate) forecaster: ForecasterId,
    pub(crate) order: Order,
    pub(crate) max_cost_micro: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) price_limits: Vec<PriceLimit>,
    #[serde(skip)]
    pub(crate) terms: Terms,
}

impl Trade {
    /// An order without limits of its own.
    pub fn new(forecaster: ForecasterId, order: Order) -> Self {
        Self {
            forecaster,
            order,
            max_cost_micro: None,
            price_limits: Vec::new(),
            terms: Terms::default(),
        }
    }

    /// Refuses it if it would cost more, in micro-units (negative: if a sale would bring less).
    #[must_use]
    pub const fn with_max_cost_micro(mut self, limit_micro: i64) -> Self {
        self.max_cost_micro = Some(limit_micro);
        self
    }

    /// Refuses it if it would leave the price of this outcome outside `[min, max]`; a second limit on
    /// the same outcome holds beside the first.
    ///
    /// ```
    /// use aion_market::{Order, Trade};
    /// use aion_types::{ForecasterId, Ppm};
    ///
    /// let order = Order::Shares { micro: vec![10_000_000, 0] };
    /// let at_most = Ppm::new(600_000)?;
    /// let trade = Trade::new(ForecasterId::new("anna")?, order).with_price_limit(0, Ppm::new(0)?, at_most);
    /// # Ok::<(), aion_types::Error>(())
    /// ```
    #[must_use]
    pub fn with_price_limit(mut self, outcome: usize, min: Ppm, max: Ppm) -> Self {
        self.price_limits.push(PriceLimit { outcome, min, max });
        self
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            most_micro: self.max_cost_micro,
            prices: self.price_limits.clone(),
        }
    }

    /// Makes sending it twice harmless.
    ///
    /// # Errors
    /// [`crate::Error::BadText`] for a key that is empty, too long, or has control characters.
    pub fn with_key(mut self, key: impl Into<String>) -> Result<Self> {
        self.terms.key = Some(checked_key(key.into())?);
        Ok(self)
    }

    /// Refuses it if the market has changed since.
    #[must_use]
    pub const fn with_expected_version(mut self, version: u64) -> Self {
        self.terms.expected_version = Some(version);
        self
    }
}

/// One of many requests that [`crate::Market::apply_batch`] takes up together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// A forecast.
    Forecast(Forecast),
    /// A trade.
    Trade(Trade),
}

impl From<Forecast> for Request {
    fn from(forecast: Forecast) -> Self {
        Self::Forecast(forecast)
    }
}

impl From<Trade> for Request {
    fn from(trade: Trade) -> Self {
        Self::Trade(trade)
    }
}

fn checked_key(key: String) -> Result<String> {
    check_text("an idempotency key", &key)?;
    Ok(key)
}

/// What an order would do, and what one did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quote {
    /// Micro-shares by outcome.
    pub shares_micro: Vec<i64>,
    /// The cost in micro-units; negative for what a sale brings.
    pub cost_micro: i64,
    /// The price before.
    pub before: PpmDist,
    /// The price after.
    pub after: PpmDist,
}

/// A forecast or trade as it took effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fill {
    /// The version of the market that it made.
    pub version: u64,
    /// The price before.
    pub before: PpmDist,
    /// The price after.
    pub after: PpmDist,
    /// The cost in micro-units; 0 for a report.
    pub cost_micro: i64,
}
