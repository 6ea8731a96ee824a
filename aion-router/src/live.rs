//! [`LiveRouter`]: an engine with a store, an embedder and a ladder. Cheap to clone; ranks in parallel.

mod climb;

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use aion_types::DecisionId;
use tokio::sync::Mutex;

use crate::decision::{Gain, Outcome};
use crate::embed::{EmbedError, Embedder, EmbeddingCache, HashingEmbedder};
use crate::engine::{Engine, EngineOptions, LogEntry};
use crate::error::Error;
use crate::item::{ContentHash, Item, ItemId};
use crate::ladder::{LadderOptions, RungRecord};
use crate::ope;
use crate::query::Shortlist;
use crate::rerank::Reranker;
use crate::store::{MAX_PAGE, MemoryRouterStore, RouterStore, StoreError};

/// Texts whose vectors stay in memory.
const CACHED_TEXTS: usize = 65_536;
/// Texts that are embedded at once.
const BATCH: usize = 64;
/// Entries of the log that are read at once.
const LOG_PAGE: usize = 1_000;

/// What a live router refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// The engine refused.
    #[error("the router refused")]
    Engine(#[from] Error),
    /// The store failed.
    #[error("the router's store is in the way")]
    Store(#[from] StoreError),
    /// The log cannot say what a policy is worth.
    #[error("the log cannot say what the policy is worth")]
    Refused(#[from] ope::Refused),
    /// The embedder failed on items.
    #[error("items could not be embedded")]
    Embed(#[from] EmbedError),
}

/// A shortlist with the rungs that it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// The shortlist.
    pub shortlist: Shortlist,
    /// The rungs, from the cheapest. What they took differs from one time to the next; the shortlist does not.
    pub rungs: Vec<RungRecord>,
}

/// An engine whose state outlives the program.
///
/// The store's log is kept to the latest decisions ([`EngineOptions::with_kept`]) beside what was learned from all of
/// them. Several routers may share a store: each learns what the others stored before its own next entry, and any of
/// them can record the outcome of another's decision. Items are read when a router opens, so that one that others
/// add later is known to it from then on only.
///
/// ```
/// use std::sync::Arc;
/// use aion_router::{
///     EngineOptions, HashingEmbedder, Item, LiveRouter, MemoryRouterStore, Outcome, Query, Surface, SurfaceBudget,
/// };
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = Arc::new(MemoryRouterStore::new());
/// let router = LiveRouter::open(store, Arc::new(HashingEmbedder), EngineOptions::default()).await?;
/// router.upsert(Item::new(Surface::Tool, "exec", "Runs a command")?).await?;
/// let query = Query::new("run something", 100).with_surface(SurfaceBudget::new(Surface::Tool));
/// let ranking = router.rank(&query).await?;
/// let used = ranking.shortlist.picks[0].item.clone();
/// router.record(ranking.shortlist.decision, Outcome::used([used])).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct LiveRouter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: RwLock<Engine>,
    store: Arc<dyn RouterStore>,
    embedder: Arc<dyn Embedder>,
    reranker: Option<Arc<dyn Reranker>>,
    cache: EmbeddingCache,
    ladder: LadderOptions,
    /// How many decisions the log keeps.
    kept: usize,
    turn: Mutex<Turn>,
}

/// What the engine knows of the log. Whoever changes the store and the engine holds it, so that both change in the
/// same order.
#[derive(Debug, Default)]
struct Turn {
    /// The last entry that the engine has.
    last: u64,
    /// Decisions in the log.
    decisions: usize,
}

impl Turn {
    fn has(&mut self, n: u64, entry: &LogEntry) {
        self.last = n;
        self.decisions += usize::from(matches!(entry, LogEntry::Decided(_)));
    }
}

impl LiveRouter {
    /// Opens a router at the state that the store's log gives. With an embedder that fails, items without a vector
    /// are ranked by their words until [`LiveRouter::embed_missing`] succeeds.
    ///
    /// # Errors
    /// [`LiveError`] if the store fails, or the options are out of range.
    pub async fn open(
        store: Arc<dyn RouterStore>,
        embedder: Arc<dyn Embedder>,
        options: EngineOptions,
    ) -> Result<Self, LiveError> {
        Self::open_with(store, embedder, options, LadderOptions::default(), None).await
    }

    /// The same with a ladder of one's own, and a model for its last rung.
    ///
    /// # Errors
    /// As [`LiveRouter::open`].
    pub async fn open_with(
        store: Arc<dyn RouterStore>,
        embedder: Arc<dyn Embedder>,
        options: EngineOptions,
        ladder: LadderOptions,
        reranker: Option<Arc<dyn Reranker>>,
    ) -> Result<Self, LiveError> {
        let router = Self::closed(store, embedder, options, ladder, reranker)?;
        router.load_items().await?;
        router.replay().await?;
        match router.embed_missing().await {
            // Without vectors items are ranked by their words; `embed_missing` can be called again.
            Err(LiveError::Embed(error)) => tracing::warn!(error = said(&error), "items have no embedding"),
            done => drop(done?),
        }
        Ok(router)
    }

    /// A router that keeps nothing, with embeddings by spelling.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for options outside their ranges.
    pub fn in_memory(options: EngineOptions) -> Result<Self, Error> {
        let store = Arc::new(MemoryRouterStore::new());
        let ladder = LadderOptions::default();
        Self::closed(store, Arc::new(HashingEmbedder), options, ladder, None)
    }

    /// One that has not read its store.
    fn closed(
        store: Arc<dyn RouterStore>,
        embedder: Arc<dyn Embedder>,
        options: EngineOptions,
        ladder: LadderOptions,
        reranker: Option<Arc<dyn Reranker>>,
    ) -> Result<Self, Error> {
        let kept = options.kept_decisions();
        let options = options.with_model(embedder.model_id());
        Ok(Self(Arc::new(Inner {
            engine: RwLock::new(Engine::new(options)?),
            store,
            embedder,
            reranker,
            cache: EmbeddingCache::new(CACHED_TEXTS),
            ladder,
            kept,
            turn: Mutex::default(),
        })))
    }

    async fn load_items(&self) -> Result<(), LiveError> {
        let opening = self.0.store.open_again().await?;
        for (id, hash) in self.0.store.approved().await? {
            self.change(|engine| engine.approve(&id, hash));
        }
        let mut after: Option<ItemId> = None;
        loop {
            let page = self.0.store.items(after.as_ref(), MAX_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id().clone());
            for item in page {
                self.change(|engine| engine.take_in(item))?;
            }
        }
        self.change(|engine| engine.begin(opening));
        Ok(())
    }

    /// The state that was kept, and what the log says since.
    async fn replay(&self) -> Result<(), LiveError> {
        let mut turn = self.0.turn.lock().await;
        let learned = self.0.store.learned().await?;
        let until = learned.as_ref().map_or(0, |(at, _)| *at);
        if let Some((_, bytes)) = learned {
            self.change(|engine| engine.restore(&bytes))?;
        }
        self.read_log(&mut turn, u64::MAX, until).await
    }

    /// Reads the log on to before entry `before`, recalling only what comes up to `learned`.
    async fn read_log(&self, turn: &mut Turn, before: u64, learned: u64) -> Result<(), LiveError> {
        loop {
            let page = self.0.store.log(turn.last, LOG_PAGE).await?;
            let entries = page.entries.into_iter().filter(|(n, _)| *n < before);
            let read = self.change(|engine| {
                let mut read = 0;
                for (n, entry) in entries {
                    read += 1;
                    turn.has(n, &entry);
                    if n <= learned {
                        engine.recall(entry);
                    } else {
                        engine.apply(entry);
                    }
                }
                read
            });
            if read < LOG_PAGE {
                return Ok(());
            }
        }
    }

    /// Stores an entry; what other routers stored before it is applied first. The caller applies it to the engine
    /// without waiting for anything, so that whoever is stopped before is caught up with by the next one.
    async fn append(&self, turn: &mut Turn, entry: &LogEntry) -> Result<(), LiveError> {
        let n = self.0.store.append(entry).await?;
        if n > turn.last + 1 {
            self.read_log(turn, n, 0).await?;
        }
        turn.has(n, entry);
        Ok(())
    }

    /// Shortens the log, once it is a sixteenth longer than it should be.
    async fn cut(&self, turn: &mut Turn) {
        if turn.decisions <= self.0.kept.saturating_add(self.0.kept / 16) {
            return;
        }
        turn.decisions = self.0.kept;
        let learned = self.read(|engine| engine.history().to_bytes());
        let kept = match learned {
            Ok(bytes) => self.0.store.keep_learned(turn.last, &bytes, self.0.kept).await,
            Err(error) => return tracing::warn!(%error, "the log is not shortened"),
        };
        if let Err(error) = kept {
            // It is tried again when the log has grown further.
            tracing::warn!(error = said(&error), "the log is not shortened");
        }
    }

    /// Embeds the items that have no vector, such as those that came while the embedder was away: from the store's
    /// cache where it has them. How many there were.
    ///
    /// # Errors
    /// [`LiveError`]; some may have their vector then.
    pub async fn embed_missing(&self) -> Result<usize, LiveError> {
        let missing: Vec<(ItemId, String)> = self.read(|engine| {
            let items = engine.catalog().without_vector();
            items.filter_map(|item| said_by(engine, item.id())).collect()
        });
        for batch in missing.chunks(BATCH) {
            self.embed_batch(batch).await?;
        }
        Ok(missing.len())
    }

    /// Takes vectors of texts that no item has any more out of the store, all but `spare` of them; how many went.
    ///
    /// # Errors
    /// [`LiveError::Store`].
    pub async fn forget_embeddings(&self, spare: usize) -> Result<u64, LiveError> {
        let needed = self.needed_embeddings();
        let (mut after, mut spared, mut gone) = (None, 0, 0);
        loop {
            let page = self.0.store.embedding_keys(after, MAX_PAGE).await?;
            let Some(last) = page.last() else { return Ok(gone) };
            after = Some(*last);
            let mut going = page;
            going.retain(|key| {
                let is_spare = !needed.contains(key);
                spared += usize::from(is_spare);
                is_spare && spared > spare
            });
            if !going.is_empty() {
                gone += self.0.store.remove_embeddings(&going).await?;
            }
        }
    }

    /// The digests of what the items say, read in parts, so that nobody waits long.
    fn needed_embeddings(&self) -> HashSet<[u8; 32]> {
        let model = self.0.embedder.model_id();
        let mut needed = HashSet::new();
        let mut after: Option<ItemId> = None;
        loop {
            let last = self.read(|engine| {
                let mut last = None;
                for item in engine.catalog().after(after.as_ref()).take(MAX_PAGE) {
                    let text = engine.catalog().embedded_text(item.id());
                    needed.extend(text.map(|text| EmbeddingCache::key(model, &text)));
                    last = Some(item.id().clone());
                }
                last
            });
            if last.is_none() {
                return needed;
            }
            after = last;
        }
    }

    /// Gives an item its vector, unless it says something else by now.
    fn embedded(&self, (id, text): &(ItemId, String), vector: &[f32]) -> Result<(), LiveError> {
        self.change(|engine| {
            if engine.catalog().embedded_text(id).as_ref() == Some(text) {
                engine.set_vector(id, vector)?;
            }
            Ok(())
        })
    }

    async fn embed_batch(&self, batch: &[(ItemId, String)]) -> Result<(), LiveError> {
        let embedder = &self.0.embedder;
        let dim = embedder.ask_dim()?;
        let mut unknown: Vec<&(ItemId, String)> = Vec::new();
        for pair in batch {
            let key = EmbeddingCache::key(embedder.model_id(), &pair.1);
            match self.0.store.embedding(key).await? {
                Some(vector) if vector.len() == dim => {
                    self.embedded(pair, &vector)?;
                }
                _ => unknown.push(pair),
            }
        }
        let texts: Vec<&str> = unknown.iter().map(|(_, text)| text.as_str()).collect();
        let mut vectors = vec![0.0; texts.len() * dim];
        embedder.embed(&texts, &mut vectors)?;
        for (pair, vector) in unknown.into_iter().zip(vectors.chunks_exact(dim.max(1))) {
            let key = EmbeddingCache::key(embedder.model_id(), &pair.1);
            self.embedded(pair, vector)?;
            self.0.store.put_embedding(key, vector).await?;
        }
        Ok(())
    }

    /// Adds or replaces an item, and embeds it.
    ///
    /// # Errors
    /// [`LiveError`]; with [`LiveError::Embed`] the item is there, ranked by its words alone.
    pub async fn upsert(&self, item: Item) -> Result<(), LiveError> {
        self.upsert_all(vec![item]).await
    }

    /// Adds or replaces items, all of them or none, and embeds them: what is held against their words
    /// ([`judge`](crate::store::judge)) is stored with them, and known here once it is.
    ///
    /// # Errors
    /// [`LiveError`]; with [`LiveError::Embed`] the items are there, those without a vector ranked by their
    /// words alone.
    pub async fn upsert_all(&self, items: Vec<Item>) -> Result<(), LiveError> {
        let mut turn = self.0.turn.lock().await;
        self.read(|engine| engine.catalog().check_room(&items))?;
        let put = self.0.store.put_items(&items).await?;
        let ids: Vec<ItemId> = items.iter().map(|item| item.id().clone()).collect();
        self.change(|engine| {
            for (id, hash) in put.approved {
                engine.approve(&id, hash);
            }
            items.into_iter().try_for_each(|item| engine.take_in(item))
        })?;
        self.forget(&mut turn, put.forgot).await?;
        drop(turn);
        let said = |engine: &Engine| ids.iter().filter_map(|id| said_by(engine, id)).collect();
        let pairs: Vec<(ItemId, String)> = self.read(said);
        for batch in pairs.chunks(BATCH) {
            self.embed_batch(batch).await?;
        }
        Ok(())
    }

    /// Applies what the store logged with items, and what others logged before it.
    async fn forget(&self, turn: &mut Turn, forgot: Vec<(u64, ItemId)>) -> Result<(), LiveError> {
        if let Some((first, _)) = forgot.first().filter(|(n, _)| *n > turn.last + 1) {
            self.read_log(turn, *first, 0).await?;
        }
        for (n, item) in forgot {
            let entry = LogEntry::Forgot { item };
            turn.has(n, &entry);
            self.change(|engine| engine.apply(entry));
        }
        Ok(())
    }

    /// Takes an item out; whether it was there.
    ///
    /// # Errors
    /// [`LiveError::Store`].
    pub async fn remove(&self, id: &ItemId) -> Result<bool, LiveError> {
        let _turn = self.0.turn.lock().await;
        let was_there = self.0.store.remove_item(id).await?;
        Ok(self.change(|engine| engine.remove(id)) || was_there)
    }

    /// Approves what an item says.
    ///
    /// # Errors
    /// [`LiveError::Store`].
    pub async fn approve(&self, id: &ItemId, hash: ContentHash) -> Result<(), LiveError> {
        let turn = self.0.turn.lock().await;
        self.0.store.approve(id, hash).await?;
        self.change(|engine| engine.approve(id, hash));
        drop(turn);
        self.embed_missing().await.map(drop)
    }

    /// Stores a decision, then remembers it: one that was asked for twice is stored once.
    async fn keep(&self, decision: crate::Decision) -> Result<(), LiveError> {
        let entry = LogEntry::Decided(Box::new(decision));
        let mut turn = self.0.turn.lock().await;
        match self.append(&mut turn, &entry).await {
            Ok(()) => self.change(|engine| engine.apply(entry)),
            Err(LiveError::Store(StoreError::Twice)) => {}
            Err(error) => return Err(error),
        }
        self.cut(&mut turn).await;
        Ok(())
    }

    /// Stores what became of a decision, then learns from it; the bits gained.
    ///
    /// # Errors
    /// [`Error::UnknownDecision`] and [`Error::OutcomeTwice`] in [`LiveError::Engine`], [`LiveError::Store`].
    pub async fn record(&self, decision: DecisionId, outcome: Outcome) -> Result<Gain, LiveError> {
        let mut turn = self.0.turn.lock().await;
        if self.read(|engine| engine.check_outcome(decision, &outcome))
            == Err(Error::UnknownDecision(decision))
        {
            // Another router of the same store may have made it.
            self.read_log(&mut turn, u64::MAX, 0).await?;
        }
        self.read(|engine| engine.check_outcome(decision, &outcome))?;
        let entry = LogEntry::Recorded { decision, outcome };
        match self.append(&mut turn, &entry).await {
            Ok(()) => {}
            Err(LiveError::Store(StoreError::Twice)) => return Err(Error::OutcomeTwice(decision).into()),
            Err(LiveError::Store(StoreError::UnknownDecision)) => {
                return Err(Error::UnknownDecision(decision).into());
            }
            Err(error) => return Err(error),
        }
        let LogEntry::Recorded { outcome, .. } = entry else {
            return Err(Error::UnknownDecision(decision).into());
        };
        Ok(self.change(|engine| engine.record(decision, &outcome))?)
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`LiveError::Store`] if it does not.
    pub async fn is_ready(&self) -> Result<(), LiveError> {
        self.0.store.items(None, 1).await?;
        Ok(())
    }

    /// What makes vectors of its texts.
    pub fn embedder(&self) -> &dyn Embedder {
        &*self.0.embedder
    }

    /// What a policy would have been worth, by the latest `last` decisions of the log whose outcome is known:
    /// that of serving the order of one profile always, or with `None` that of the mixture.
    ///
    /// A decision is worth 1 if the step succeeded and everything it used was shown, else 0.
    ///
    /// # Errors
    /// [`LiveError::Store`], or [`LiveError::Refused`] when the log cannot know.
    pub async fn evaluate(
        &self,
        policy: Option<crate::Profile>,
        last: usize,
        options: &ope::OpeOptions,
    ) -> Result<ope::Estimate, LiveError> {
        let mut log = ope::PolicyLog::new(policy, last);
        let mut after = 0;
        loop {
            let page = self.0.store.log(after, LOG_PAGE).await?;
            let Some((latest, _)) = page.entries.last() else {
                return Ok(ope::evaluate(&log.into_decisions(), options)?);
            };
            after = *latest;
            page.entries.into_iter().for_each(|(_, entry)| log.read(entry));
        }
    }

    /// Reads the engine.
    pub fn read<T>(&self, read: impl FnOnce(&Engine) -> T) -> T {
        read(&self.0.engine.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Engine) -> T) -> T {
        change(&mut self.0.engine.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An item with what its embedding is made of.
fn said_by(engine: &Engine, id: &ItemId) -> Option<(ItemId, String)> {
    Some((id.clone(), engine.catalog().embedded_text(id)?))
}

/// The error with its causes.
fn said(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
