//! Markets that deserve a look: that cannot make up their mind, that disagree with the persistence of
//! their task, that were sure of what did not happen.
//!
//! ```
//! use aion_market::alarm::{Alarm, AlarmOptions};
//! use aion_market::{Forecast, Market, MarketFilter, OpenMarket, Resolution};
//! use aion_types::{ForecasterId, MarketId, PpmDist, Timestamp};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let market = Market::in_memory();
//! let id = MarketId::generate(Timestamp::from_ms(0));
//! let open = OpenMarket::question(id, "Will it hold?", "bridge").with_uniform_prior();
//! market.open(&open).await?;
//! let sure = PpmDist::new(vec![980_000, 20_000])?;
//! for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
//!     market.forecast(id, &Forecast::new(ForecasterId::new(name)?, sure.clone())).await?;
//! }
//! market.resolve(id, &Resolution::outcome(1)).await?;
//! let page = market.alarms(&AlarmOptions::default(), &MarketFilter::default(), 10).await?;
//! assert!(matches!(page.markets[0].alarms[..], [Alarm::Surprised { .. }]));
//! # Ok::<(), aion_market::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use aion_types::{Bits, MarketId, Ppm, Timestamp};
use serde::Serialize;

use crate::Result;
use crate::error::check;
use crate::event::StoredEvent;
use crate::maker::MICRO;
use crate::market::Market;
use crate::resolution::Target;
use crate::store::{MarketFilter, MarketStatus, MarketView};

/// Markets that one page looks at.
const MAX_LOOKED_AT: usize = 1_000;

/// When a market deserves a look.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct AlarmOptions {
    even_band_ppm: u32,
    even_for_ms: i64,
    even_forecasts: u64,
    disagreement_nats: f64,
    surprise_bits: f64,
}

impl Default for AlarmOptions {
    /// Within 5% of even for a day and 5 forecasts, 1.5 nats away from `ln R`, 3 bits of surprise (a
    /// price of 1/8 for what happened).
    fn default() -> Self {
        Self {
            even_band_ppm: 50_000,
            even_for_ms: 86_400_000,
            even_forecasts: 5,
            disagreement_nats: 1.5,
            surprise_bits: 3.0,
        }
    }
}

impl AlarmOptions {
    /// A market is even while every price is within `band` of `1 / K`; it is told once that has lasted
    /// so long and has outlived so many forecasts and trades.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] for a negative time.
    pub fn with_even(mut self, band: Ppm, for_ms: i64, forecasts: u64) -> Result<Self> {
        check("a time", "at least 0", for_ms as f64, for_ms >= 0)?;
        (self.even_band_ppm, self.even_for_ms, self.even_forecasts) = (band.get(), for_ms, forecasts);
        Ok(self)
    }

    /// A market disagrees with the persistence of its task if `|logit p - ln R|` is at least this.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] unless finite and above 0.
    pub fn with_disagreement_nats(mut self, nats: f64) -> Result<Self> {
        let fits = nats.is_finite() && nats > 0.0;
        self.disagreement_nats = check("a disagreement in nats", "finite and above 0", nats, fits)?;
        Ok(self)
    }

    /// A market was surprised if `KL(outcome || last price)` is at least this.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] unless finite and above 0.
    pub fn with_surprise_bits(mut self, bits: f64) -> Result<Self> {
        let fits = bits.is_finite() && bits > 0.0;
        self.surprise_bits = check("a surprise in bits", "finite and above 0", bits, fits)?;
        Ok(self)
    }
}

/// Why a market deserves a look.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Alarm {
    /// Its price stays near even odds.
    Undecided {
        /// Since when.
        since: Timestamp,
        /// How many forecasts and trades have not changed that.
        forecasts: u64,
    },
    /// Its price says otherwise than the persistence of its task.
    DisagreesWithPersistence {
        /// `logit p - ln R`, in nats: above 0 the market is more hopeful.
        nats: f64,
    },
    /// It was sure of what did not happen.
    Surprised {
        /// `KL(outcome || last price)`, in bits.
        bits: f64,
    },
}

/// A market with its alarms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alarms {
    /// The market.
    pub market: MarketId,
    /// Its kind.
    pub kind: String,
    /// Why it deserves a look; not empty.
    pub alarms: Vec<Alarm>,
}

impl Alarms {
    /// The alarms of a market, from its row and its events; `None` if it has none.
    ///
    /// # Errors
    /// [`crate::Error`] if its resolution does not fit it.
    pub fn of(
        view: &MarketView,
        events: &[StoredEvent],
        options: &AlarmOptions,
        now: Timestamp,
    ) -> Result<Option<Self>> {
        let mut alarms = Vec::new();
        match (view.status, view.target()) {
            (MarketStatus::Open, _) => {
                alarms.extend(undecided(view, events, options, now));
                alarms.extend(disagreement(view, options));
            }
            (MarketStatus::Resolved, Some(target)) => alarms.extend(surprise(view, &target, options)?),
            _ => {}
        }
        let (market, kind) = (view.id, view.spec.kind.clone());
        Ok((!alarms.is_empty()).then_some(Self { market, kind, alarms }))
    }

    /// Whether [`Alarms::of`] needs the events of this market to tell; else it may be given none.
    pub(crate) fn needs_events(view: &MarketView, options: &AlarmOptions) -> bool {
        let enough = view.forecasts + view.trades >= options.even_forecasts;
        view.status == MarketStatus::Open && enough && is_even(view.price.parts(), options)
    }
}

fn is_even(parts: &[u32], options: &AlarmOptions) -> bool {
    let even = aion_types::PPM_ONE / parts.len() as u32;
    parts
        .iter()
        .all(|part| part.abs_diff(even) <= options.even_band_ppm)
}

/// Walks back to the move that brought the price near even odds.
fn undecided(
    view: &MarketView,
    events: &[StoredEvent],
    options: &AlarmOptions,
    now: Timestamp,
) -> Option<Alarm> {
    if !is_even(view.price.parts(), options) {
        return None;
    }
    let (mut since, mut forecasts) = (view.opened_at, 0);
    for stored in events.iter().rev() {
        let Some((before, _)) = stored.event.move_of_price() else {
            continue;
        };
        forecasts += 1;
        if !is_even(before.parts(), options) {
            since = stored.at;
            break;
        }
    }
    let long_enough = now.as_ms().saturating_sub(since.as_ms()) >= options.even_for_ms;
    (long_enough && forecasts >= options.even_forecasts).then_some(Alarm::Undecided { since, forecasts })
}

fn disagreement(view: &MarketView, options: &AlarmOptions) -> Option<Alarm> {
    let [first, _] = view.price.parts() else {
        return None;
    };
    let p = f64::from(*first) / f64::from(aion_types::PPM_ONE);
    let ln_ratio = view.signal_micro? as f64 / MICRO as f64;
    let nats = p.ln() - (-p).ln_1p() - ln_ratio;
    (nats.abs() >= options.disagreement_nats).then_some(Alarm::DisagreesWithPersistence { nats })
}

fn surprise(view: &MarketView, target: &Target, options: &AlarmOptions) -> Result<Option<Alarm>> {
    let as_floats = |parts: &[u32]| -> Vec<f64> {
        let one = f64::from(aion_types::PPM_ONE);
        parts.iter().map(|part| f64::from(*part) / one).collect()
    };
    let (happened, price) = (as_floats(target.dist().parts()), as_floats(view.price.parts()));
    let nats = aion_types::Nats::new(crate::divergence::kl(&happened, &price)?)?;
    let bits = Bits::from(nats).get();
    Ok((bits >= options.surprise_bits).then_some(Alarm::Surprised { bits }))
}

/// Some of the markets that deserve a look.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlarmPage {
    /// The newest first.
    pub markets: Vec<Alarms>,
    /// The last market that was looked at, to [go on](MarketFilter::with_before) after; none if there is
    /// no other.
    pub next: Option<MarketId>,
}

impl Market {
    /// The newest markets of a filter that deserve a look, at most `limit` of them (and 1,000), with those
    /// that were looked at in search of them: one page reads 1,000 markets at most.
    ///
    /// # Errors
    /// [`crate::Error::Store`] if the store fails.
    pub async fn alarms(
        &self,
        options: &AlarmOptions,
        filter: &MarketFilter,
        limit: usize,
    ) -> Result<AlarmPage> {
        let now = self.clock().now();
        let views = self.list(filter, MAX_LOOKED_AT).await?;
        let (mut markets, mut last) = (Vec::new(), None);
        for view in &views {
            let events = match Alarms::needs_events(view, options) {
                true => self.events(view.id).await?,
                false => Vec::new(),
            };
            markets.extend(Alarms::of(view, &events, options, now)?);
            last = Some(view.id);
            if markets.len() >= limit {
                break;
            }
        }
        let all = views.len() < MAX_LOOKED_AT && last == views.last().map(|view| view.id);
        Ok(AlarmPage {
            markets,
            next: last.filter(|_| !all),
        })
    }
}
