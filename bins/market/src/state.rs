//! `GET /state`: what an agent should know of the markets, in few words.
//!
//! An agent does not see the price of the task that it works on: it would bet on itself.

use aion_market::{Market, MarketFilter, MarketStatus, MarketView, Subject, sequential};
use aion_service::{Problem, StateQuery, StateSource};
use aion_types::{Bits, MarketId};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::own::own_market;
use crate::problem::in_body;

/// Open markets, and markets that ended last, shown at most.
const OPEN_SHOWN: usize = 10;
const ENDED_SHOWN: usize = 5;
const LEADERS_SHOWN: usize = 5;
/// Outcomes of a market, and characters of a question, that are shown.
const OUTCOMES_SHOWN: usize = 4;
const TEXT_CHARS: usize = 120;

/// The state of the market.
#[derive(Debug)]
pub(crate) struct MarketState {
    market: Market,
}

impl MarketState {
    pub(crate) const fn new(market: Market) -> Self {
        Self { market }
    }

    async fn brief(&self, own: Option<MarketId>) -> aion_market::Result<Value> {
        let filter = |status| MarketFilter::default().with_status(status);
        let open = self
            .market
            .list(&filter(MarketStatus::Open), OPEN_SHOWN + 1)
            .await?;
        let ended = self
            .market
            .list(&filter(MarketStatus::Resolved), ENDED_SHOWN)
            .await?;
        let leaders = self.market.leaderboard(LEADERS_SHOWN).await?;
        let others = open.iter().filter(|view| Some(view.id) != own).take(OPEN_SHOWN);
        let leaders = leaders.iter().map(|standing| {
            let bits = rounded(Bits::from(standing.gain).get());
            json!({ "forecaster": standing.forecaster, "bits": bits, "markets": standing.markets })
        });
        Ok(json!({ "market": {
            "open": others.map(open_line).collect::<Vec<_>>(),
            "ended": ended.iter().map(ended_line).collect::<Vec<_>>(),
            "leaders": leaders.collect::<Vec<_>>(),
        }}))
    }
}

#[async_trait]
impl StateSource for MarketState {
    async fn state(&self, query: &StateQuery) -> Result<Value, Problem> {
        let own = query.task_state.as_deref().and_then(own_market);
        self.brief(own).await.map_err(in_body)
    }

    async fn ready(&self) -> Result<(), String> {
        self.market
            .leaderboard(1)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

fn open_line(view: &MarketView) -> Value {
    let named = view
        .spec
        .outcomes
        .iter()
        .zip(view.price.parts())
        .take(OUTCOMES_SHOWN);
    let price: serde_json::Map<String, Value> = named
        .map(|(name, part)| (clip(name), json!(rounded(f64::from(*part) / 1e6))))
        .collect();
    let mut line = json!({ "id": view.id, "kind": clip(&view.spec.kind), "price": price });
    if let Subject::Question { text } = view.subject() {
        line["question"] = clip(text).into();
    }
    line
}

fn ended_line(view: &MarketView) -> Value {
    let target = view.target();
    let happened = target.as_ref().and_then(|target| {
        let parts = target.dist().parts().iter();
        let (most, _) = parts
            .enumerate()
            .max_by_key(|(i, part)| (**part, std::cmp::Reverse(*i)))?;
        view.spec.outcomes.get(most).map(|name| clip(name))
    });
    let gain = target.as_ref().and_then(|target| {
        let gain =
            sequential::level(&view.price, target).ok()? - sequential::level(&view.first, target).ok()?;
        Some(rounded(Bits::from(gain).get()))
    });
    json!({ "id": view.id, "kind": clip(&view.spec.kind), "happened": happened, "gain_bits": gain })
}

/// Three decimals: more would change the state without telling anything.
fn rounded(x: f64) -> f64 {
    (x * 1e3).round() / 1e3
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
