//! [`MarketService`]: the parts of the service, put together.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aion_market::Market;
use aion_service::webhook::WebhookKeys;
use aion_service::{PathLimits, Service};
use aion_trust::TrustLedger;
use axum::extract::FromRef;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::contests::Contests;
use crate::log::Streams;
use crate::{
    DEFAULT_PORT, Follower, batch, hooks, log, markets, orders, predictors, scores, standings, state,
};

/// Bytes of a batch of rows to score.
const ROWS_BODY_BYTES: usize = 8 << 20;

/// The service before it is served.
#[derive(Debug, Clone)]
pub struct MarketService {
    market: Market,
    trust: TrustLedger,
    streams: Streams,
    hooks: Hooks,
    contests: Contests,
}

/// Who tells of tasks, and whom that reaches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) follower: Option<Follower>,
    pub(crate) keys: Option<Arc<WebhookKeys>>,
}

impl FromRef<MarketService> for Market {
    fn from_ref(service: &MarketService) -> Self {
        service.market.clone()
    }
}

impl FromRef<MarketService> for TrustLedger {
    fn from_ref(service: &MarketService) -> Self {
        service.trust.clone()
    }
}

impl FromRef<MarketService> for Streams {
    fn from_ref(service: &MarketService) -> Self {
        service.streams.clone()
    }
}

impl FromRef<MarketService> for Contests {
    fn from_ref(service: &MarketService) -> Self {
        service.contests.clone()
    }
}

impl FromRef<MarketService> for Hooks {
    fn from_ref(service: &MarketService) -> Self {
        service.hooks.clone()
    }
}

impl MarketService {
    /// The service over these handles.
    pub fn new(market: Market, trust: TrustLedger) -> Self {
        Self {
            market,
            trust,
            streams: Streams::new(),
            hooks: Hooks::default(),
            contests: Contests::default(),
        }
    }

    /// Lists and trains the predictors of this follower, and wakes it when a webhook tells of news.
    #[must_use]
    pub fn with_follower(mut self, follower: Follower) -> Self {
        self.hooks.follower = Some(follower);
        self
    }

    /// Believes webhooks that are signed under one of these keys.
    #[must_use]
    pub fn with_webhook_keys(mut self, keys: WebhookKeys) -> Self {
        self.hooks.keys = Some(Arc::new(keys));
        self
    }

    /// Follows the feed for ever, if there is a follower: looks when told and at least every `every`.
    pub fn follow(&self, every: Duration) -> impl Future<Output = ()> + Send + 'static {
        let service = self.clone();
        async move {
            match &service.hooks.follower {
                Some(follower) => follower.run(&service.trust, &service.streams, every).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The service to serve.
    pub fn into_service(self) -> Service {
        let state = Arc::new(state::MarketState::new(self.market.clone()));
        let rows = PathLimits::new().with_max_body_bytes(ROWS_BODY_BYTES);
        let columns = PathLimits::new().with_max_body_bytes(batch::MAX_BYTES);
        let training = PathLimits::new().with_timeout(Duration::from_secs(600));
        Service::new("market", DEFAULT_PORT, operations().with_state(self), state)
            .with_path_limits("/v1/scores", rows)
            .with_path_limits("/v1/score/batch", columns)
            .with_path_limits("/v1/predictors/{predictor}/train", training)
    }
}

fn operations() -> OpenApiRouter<MarketService> {
    OpenApiRouter::new()
        .routes(routes!(markets::open_market, markets::list_markets))
        .routes(routes!(markets::get_market))
        .routes(routes!(markets::close_market))
        .routes(routes!(markets::resolve_market))
        .routes(routes!(markets::get_report))
        .routes(routes!(orders::forecast))
        .routes(routes!(orders::quote))
        .routes(routes!(orders::trade))
        .routes(routes!(scores::leaderboard))
        .routes(routes!(scores::calibration))
        .routes(routes!(scores::calibration_diagram))
        .routes(routes!(scores::compare))
        .routes(routes!(scores::score_batch))
        .routes(routes!(scores::list_trust))
        .routes(routes!(standings::get_prob))
        .routes(routes!(standings::list_probs))
        .routes(routes!(standings::forecaster_score))
        .routes(routes!(log::list_market_events))
        .routes(routes!(log::list_all_market_events))
        .routes(routes!(log::stream_market_events))
        .routes(routes!(batch::score_columns))
        .routes(routes!(predictors::list_predictors))
        .routes(routes!(predictors::train_predictor))
        .routes(routes!(predictors::list_alarms))
        .routes(routes!(hooks::hear_processor))
}
