//! Random histories of requests, right and wrong ones: nothing panics, every state is the fold of its
//! events, the books balance, and scores can be computed again.

use std::collections::BTreeMap;

use aion_market::engine::{Decision, MarketState, Snapshot};
use aion_market::event::{Event, StoredEvent};
use aion_market::ledger::{Asset, entries};
use aion_market::{Error, Forecast, MakerSpec, Order, Report, Resolution, Trade};
use aion_types::{ForecasterId, Format, MarketId, MicroBits, Ppm, PpmDist, Timestamp};

/// A small generator of its own: a seed says which history failed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn who(&mut self) -> ForecasterId {
        let name = match self.below(20) {
            0 => "house".to_owned(),
            n => format!("f{n}"),
        };
        ForecasterId::new(name).unwrap()
    }

    /// A distribution over mostly the right number of outcomes.
    fn dist(&mut self, outcomes: usize) -> PpmDist {
        let outcomes = match self.below(40) {
            0 => outcomes + 1,
            _ => outcomes,
        };
        let sharp = self.below(3);
        let weights: Vec<f64> = (0..outcomes)
            .map(|_| match (sharp, self.below(4)) {
                (0, 0) => 0.0,
                (1, 0) => 1e6,
                _ => 1.0 + self.below(1_000) as f64,
            })
            .collect();
        PpmDist::from_weights(&weights).unwrap_or_else(|_| PpmDist::new(vec![0, 1_000_000]).unwrap())
    }

    fn amount(&mut self) -> i64 {
        match self.below(20) {
            0 => i64::MAX,
            1 => i64::MIN,
            2 => 0,
            3..=6 => self.below(7) as i64 - 3,
            _ => self.below(60_000_000) as i64 - 5_000_000,
        }
    }

    fn order(&mut self, outcomes: usize) -> Order {
        if self.below(3) == 0 {
            return Order::MoveTo {
                price: self.dist(outcomes),
            };
        }
        let len = match self.below(40) {
            0 => outcomes - 1,
            _ => outcomes,
        };
        let micro = (0..len)
            .map(|_| if self.below(3) == 0 { 0 } else { self.amount() })
            .collect();
        Order::Shares { micro }
    }

    fn maker(&mut self) -> MakerSpec {
        match self.below(3) {
            0 => MakerSpec::pseudo_count(2.0).unwrap(),
            1 => MakerSpec::lmsr(1.0 + self.below(200) as f64).unwrap(),
            _ => MakerSpec::liquidity_sensitive(0.05, 1.0 + self.below(200) as f64).unwrap(),
        }
    }

    fn resolution(&mut self, outcomes: usize) -> Resolution {
        match self.below(6) {
            0 => Resolution::void("nobody knows"),
            1 => Resolution::void(""),
            2 => Resolution::Mixture {
                dist: self.dist(outcomes),
            },
            3 => Resolution::outcome(outcomes),
            _ => Resolution::outcome(self.below(outcomes as u64) as usize),
        }
    }
}

/// One market with all that was written of it.
struct Walk {
    dice: Dice,
    state: MarketState,
    events: Vec<StoredEvent>,
    sums: BTreeMap<(u64, Asset), i128>,
    balances: BTreeMap<(ForecasterId, Asset), i128>,
    now: Timestamp,
}

impl Walk {
    fn open(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(2).wrapping_add(1));
        let outcomes = [2, 2, 3, 7][dice.below(4) as usize];
        let (now, maker) = (Timestamp::from_ms(0), dice.maker());
        let id = MarketId::from_parts(now, [7; 10]);
        let open = aion_market::OpenMarket::question(id, "?", "k")
            .with_outcomes((0..outcomes).map(|n| n.to_string()))
            .with_uniform_prior()
            .with_closes_at(Timestamp::from_ms(150))
            .with_maker(maker);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let first = runtime.block_on(async {
            let market = aion_market::Market::new(
                std::sync::Arc::new(aion_market::MemoryMarketStore::new()),
                std::sync::Arc::new(aion_types::ManualClock::at(now)),
                aion_market::MarketOptions::default(),
            );
            market.open(&open).await.unwrap();
            market.events(id).await.unwrap().remove(0)
        });
        Self {
            dice,
            state: MarketState::open(id, &first).unwrap(),
            events: vec![first],
            sums: BTreeMap::new(),
            balances: BTreeMap::new(),
            now,
        }
    }

    fn outcomes(&self) -> usize {
        self.state.spec().outcomes.len()
    }

    /// What one request becomes.
    fn decide(&mut self) -> Result<Option<Decision>, Error> {
        let (outcomes, version) = (self.outcomes(), self.state.version());
        let append = |event: Option<Event>| event.map(|event| Decision::Append { event, request: None });
        match self.dice.below(100) {
            0..40 => {
                let mut forecast = Forecast::new(self.dice.who(), self.dice.dist(outcomes));
                if self.dice.below(4) == 0 {
                    forecast = forecast.with_key(self.dice.below(9).to_string())?;
                }
                if self.dice.below(4) == 0 {
                    forecast = forecast.with_weight(self.dice.below(12) as f64)?;
                }
                if self.dice.below(8) == 0 {
                    forecast = forecast.with_expected_version(self.dice.below(2 * version + 1));
                }
                self.state.forecast(&forecast, self.now).map(Some)
            }
            40..90 => {
                let mut trade = Trade::new(self.dice.who(), self.dice.order(outcomes));
                if self.dice.below(4) == 0 {
                    trade = trade.with_key(self.dice.below(9).to_string())?;
                }
                if self.dice.below(8) == 0 {
                    trade = trade.with_max_cost_micro(self.dice.amount());
                }
                if self.dice.below(8) == 0 {
                    let max = Ppm::new(self.dice.below(1_000_001) as u32)?;
                    let outcome = self.dice.below(outcomes as u64 + 1) as usize;
                    trade = trade.with_price_limit(outcome, Ppm::new(0)?, max);
                }
                self.state.trade(&trade, self.now).map(Some)
            }
            90..95 => {
                let (dist, weight) = (self.dice.dist(outcomes), self.dice.roll());
                self.state
                    .house_move(&dist, weight, "seeding", self.now)
                    .map(|event| append(Some(event)))
            }
            95..97 => {
                let who = self.dice.who();
                self.state.name_executor(&who, self.now).map(append)
            }
            97 if self.dice.below(20) == 0 => self.state.close("enough").map(append),
            98 if self.dice.below(20) == 0 => {
                let resolution = self.dice.resolution(outcomes);
                self.state.resolve(&resolution).map(append)
            }
            _ => {
                self.now = Timestamp::from_ms(self.now.as_ms() + 1);
                Ok(None)
            }
        }
    }

    fn push(&mut self, event: Event, request: Option<aion_market::event::RequestKey>) {
        let stored = StoredEvent {
            format: Format::default(),
            seq: self.state.version() + 1,
            at: self.now,
            request,
            event,
        };
        for row in entries(&self.state, &stored).unwrap() {
            *self.sums.entry((row.seq, row.asset)).or_default() += i128::from(row.amount_micro);
            *self.balances.entry((row.account, row.asset)).or_default() += i128::from(row.amount_micro);
        }
        self.state.apply(&stored).unwrap();
        self.events.push(stored);
    }

    /// An event that was tampered with is refused, and leaves the state as it was, or is one that a
    /// market can have had; it never panics.
    fn tamper(&mut self) {
        let at = self.dice.below(self.events.len() as u64) as usize;
        let mut bad = self.events[at].clone();
        bad.seq = match self.dice.below(3) {
            0 => self.dice.roll(),
            _ => self.state.version() + 1,
        };
        let noise = self.dice.amount();
        match &mut bad.event {
            Event::Traded {
                shares_micro,
                cost_micro,
                before,
                ..
            }
            | Event::HouseMoved {
                shares_micro,
                cost_micro,
                before,
                ..
            } => {
                shares_micro
                    .iter_mut()
                    .for_each(|share| *share = share.wrapping_add(noise));
                *cost_micro = noise;
                before.clone_from(self.state.price());
            }
            Event::ForecastReported {
                weight_micro, before, ..
            } => {
                *weight_micro = noise.unsigned_abs();
                before.clone_from(self.state.price());
            }
            Event::Resolved { resolution } => *resolution = self.dice.resolution(7),
            _ => {}
        }
        let mut state = self.state.clone();
        let rows = entries(&state, &bad);
        if state.apply(&bad).is_err() {
            assert_eq!(state, self.state, "a refused event changed something: {bad:?}");
        } else if let Ok(rows) = rows {
            let mut sums: BTreeMap<Asset, i128> = BTreeMap::new();
            rows.iter()
                .for_each(|row| *sums.entry(row.asset).or_default() += i128::from(row.amount_micro));
            assert!(sums.values().all(|sum| *sum == 0));
        }
    }

    fn check(&self) {
        for holding in self.state.holdings().values() {
            assert!(holding.shares_micro.iter().all(|held| *held >= 0));
            assert!(holding.spent_micro <= self.state.spec().credit_micro);
        }
        assert!(self.sums.values().all(|sum| *sum == 0), "unbalanced rows");
        let folded = MarketState::fold(self.state.id(), &self.events).unwrap().unwrap();
        assert_eq!(folded, self.state);
        assert_eq!(Snapshot::of(&folded).unwrap().restore().unwrap(), folded);
    }

    /// A snapshot at any place and the events after it give the same market.
    fn check_snapshot_and_rest(&mut self) {
        let at = 1 + self.dice.below(self.events.len() as u64) as usize;
        let folded = MarketState::fold(self.state.id(), &self.events[..at])
            .unwrap()
            .unwrap();
        let mut state = Snapshot::of(&folded).unwrap().restore().unwrap();
        self.events[at..]
            .iter()
            .for_each(|event| state.apply(event).unwrap());
        assert_eq!(state, self.state);
    }

    fn end(&mut self) {
        if self.state.resolution().is_none() {
            let resolution = Resolution::outcome(self.dice.below(self.outcomes() as u64) as usize);
            let event = self.state.resolve(&resolution).unwrap().unwrap();
            self.push(event, None);
        }
        self.check();
        self.check_snapshot_and_rest();
        let report = Report::of(self.state.id(), &self.events).unwrap();
        assert!(report.verify().unwrap());
        let moved: MicroBits = report.forecasters.iter().map(|row| row.moved).sum();
        assert_eq!(moved, report.kl_bits, "moves telescope");
        let house = ForecasterId::house();
        for ((account, asset), balance) in &self.balances {
            if matches!(asset, Asset::Shares(_)) {
                assert_eq!(*balance, 0, "shares are settled");
            } else if *account != house {
                let row = report.forecaster(account).unwrap();
                assert_eq!(i128::from(row.profit_micro), *balance);
            }
        }
    }
}

/// Walks markets until so many requests were made; how many events came of them.
fn walk(requests: u64, first_seed: u64) -> u64 {
    let (mut made, mut events, mut seed) = (0, 0, first_seed);
    while made < requests {
        let mut walk = Walk::open(seed);
        seed += 1;
        for n in 0..400 {
            made += 1;
            if let Ok(Some(Decision::Append { event, request })) = walk.decide() {
                walk.push(event, request);
            }
            if n % 16 == 0 {
                walk.tamper();
            }
        }
        walk.end();
        events += walk.events.len() as u64;
    }
    events
}

#[test]
fn random_histories_keep_their_books() {
    let events = walk(20_000, 1);
    assert!(events > 4_000, "only {events} events came of 20,000 requests");
}

/// The long run: `AION_FUZZ_EVENTS` requests, a million if it is not set, from the seed of
/// `AION_FUZZ_SEED`.
#[test]
#[ignore = "minutes: cargo nextest run --release -p aion-market --run-ignored only random_histories_in_the_long_run"]
fn random_histories_in_the_long_run() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let requests = number("AION_FUZZ_EVENTS").unwrap_or(1_000_000);
    let events = walk(requests, number("AION_FUZZ_SEED").unwrap_or(1));
    println!("{requests} requests, {events} events");
    assert!(events * 5 > requests);
}
