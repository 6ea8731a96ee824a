//! A store that fails: before it writes, after it has written, or when it reads. Whoever sends a
//! request again under its key until it is answered has sent it once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aion_market::engine::{MarketState, Snapshot};
use aion_market::event::StoredEvent;
use aion_market::ledger::Entry;
use aion_market::store::{Batch, Logged, ScoreOrder, ScoreRow};
use aion_market::{
    Error, Forecast, MakerSpec, Market, MarketFilter, MarketOptions, MarketStore, MarketView,
    MemoryMarketStore, OpenMarket, Order, Report, Request, Resolution, Standing, StoreError, Trade,
};
use aion_types::{ForecasterId, MarketId, PpmDist, SystemClock, Timestamp};
use async_trait::async_trait;

/// What goes wrong, drawn by a seed.
#[derive(Debug)]
struct Flaky {
    inner: MemoryMarketStore,
    seed: Mutex<u64>,
    failures: AtomicU64,
}

#[derive(PartialEq)]
enum Fault {
    None,
    Before,
    After,
}

impl Flaky {
    fn new(seed: u64) -> Self {
        Self {
            inner: MemoryMarketStore::new(),
            seed: Mutex::new(seed),
            failures: AtomicU64::new(0),
        }
    }

    fn draw(&self) -> Fault {
        let mut seed = self.seed.lock().unwrap();
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let fault = match (*seed >> 33) % 5 {
            0 => Fault::Before,
            1 => Fault::After,
            _ => return Fault::None,
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        fault
    }

    fn read(&self) -> Result<(), StoreError> {
        match self.draw() {
            Fault::Before => Err(broken()),
            _ => Ok(()),
        }
    }
}

fn broken() -> StoreError {
    StoreError::backend(std::io::Error::other("injected"))
}

#[async_trait]
impl MarketStore for Flaky {
    async fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let fault = self.draw();
        if fault == Fault::Before {
            return Err(broken());
        }
        self.inner.commit(batch).await?;
        match fault {
            Fault::After => Err(broken()),
            _ => Ok(()),
        }
    }

    async fn events(&self, id: MarketId, after: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.read()?;
        self.inner.events(id, after, limit).await
    }

    async fn log(&self, after: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
        self.inner.log(after, limit).await
    }

    async fn snapshot(&self, id: MarketId) -> Result<Option<Snapshot>, StoreError> {
        self.read()?;
        self.inner.snapshot(id).await
    }

    async fn view(&self, id: MarketId) -> Result<Option<MarketView>, StoreError> {
        self.read()?;
        self.inner.view(id).await
    }

    async fn views(&self, filter: &MarketFilter, limit: usize) -> Result<Vec<MarketView>, StoreError> {
        self.inner.views(filter, limit).await
    }

    async fn entries(&self, id: MarketId, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.inner.entries(id, limit).await
    }

    async fn scores(
        &self,
        who: &ForecasterId,
        order: ScoreOrder,
        limit: usize,
    ) -> Result<Vec<ScoreRow>, StoreError> {
        self.inner.scores(who, order, limit).await
    }

    async fn standing(&self, who: &ForecasterId) -> Result<Option<Standing>, StoreError> {
        self.inner.standing(who).await
    }

    async fn standings(&self, after: Option<&Standing>, limit: usize) -> Result<Vec<Standing>, StoreError> {
        self.inner.standings(after, limit).await
    }

    async fn cursor(&self, name: &str) -> Result<u64, StoreError> {
        self.inner.cursor(name).await
    }
}

fn id() -> MarketId {
    MarketId::from_parts(Timestamp::from_ms(1), [1; 10])
}

fn request(n: u32) -> Request {
    let who = ForecasterId::new(format!("f{}", n % 20)).unwrap();
    let p = 100_000 + n * 37_711 % 800_000;
    let price = PpmDist::new(vec![p, 1_000_000 - p]).unwrap();
    match n % 2 {
        0 => Forecast::new(who, price).with_key(n.to_string()).unwrap().into(),
        _ => Trade::new(who, Order::MoveTo { price })
            .with_key(n.to_string())
            .unwrap()
            .into(),
    }
}

/// Asks until the store does not fail.
async fn until_done<T, F: Future<Output = Result<T, Error>>>(mut ask: impl FnMut() -> F) -> T {
    for _ in 0..200 {
        match ask().await {
            Ok(answer) => return answer,
            Err(Error::Store(StoreError::Backend(_))) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("200 failures in a row")
}

async fn history(seed: u64, batch: usize) -> (Vec<StoredEvent>, u64, Report) {
    let store = Arc::new(Flaky::new(seed));
    let options = MarketOptions::default().with_snapshot_every(7);
    let market = Market::new(store.clone(), Arc::new(SystemClock), options);
    let open = OpenMarket::question(id(), "Will it hold?", "k")
        .with_uniform_prior()
        .with_maker(MakerSpec::lmsr(50.0).unwrap());
    until_done(|| market.open(&open)).await;
    let requests: Vec<(MarketId, Request)> = (0..60).map(|n| (id(), request(n))).collect();
    for some in requests.chunks(batch) {
        let answers = until_done(|| market.apply_batch(some)).await;
        let taken: Result<Vec<_>, Error> = answers.into_iter().collect();
        assert_eq!(taken.unwrap().len(), some.len());
    }
    let happened = Resolution::outcome(0);
    let report = until_done(|| market.resolve(id(), &happened)).await;
    let events = store.inner.events(id(), 0, 1_000).await.unwrap();
    (events, store.failures.load(Ordering::Relaxed), report)
}

#[tokio::test]
async fn a_store_that_fails_loses_nothing_and_doubles_nothing() {
    for (seed, batch) in [(1, 1), (2, 1), (3, 7), (4, 7), (5, 60)] {
        let (events, failures, report) = history(seed, batch).await;
        assert!(failures > 0, "seed {seed} injected nothing");
        let keys: Vec<String> = events
            .iter()
            .filter_map(|event| event.request.as_ref().map(|request| request.key.clone()))
            .collect();
        let wanted: Vec<String> = (0..60).map(|n| n.to_string()).collect();
        assert_eq!(keys, wanted, "seed {seed}");
        let state = MarketState::fold(id(), &events).unwrap().unwrap();
        assert_eq!(state.trades(), 60);
        assert!(report.verify().unwrap());
        assert_eq!(report, Report::of(id(), &events).unwrap());
    }
}
