//! The terms of a market: what it asks, its outcomes, its prior and its maker.

use aion_types::{ForecasterId, MarketId, Ppm, PpmDist, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::{Error, check, check_len};
use crate::maker::{MICRO, MakerSpec};

/// The version of the rules by which markets are scored; a report says by which it was made.
///
/// Since 2, whoever works on the subject of a market has no score in it, even for forecasts made
/// before it was known that they would.
pub const RULES_VERSION: u32 = 2;

/// The longest kind, outcome name, idempotency key or question, in bytes.
pub const MAX_TEXT_BYTES: usize = 1_024;

/// The index of `SUCCESS` in the market of a task.
pub const SUCCESS: usize = 0;

/// The index of `FAILED` in the market of a task.
pub const FAILED: usize = 1;

/// What a market asks about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Subject {
    /// Whether this task will succeed. A task has one market, whose id has the task's bytes.
    Task {
        /// The task.
        task: TaskId,
    },
    /// A question in words.
    Question {
        /// The question.
        text: String,
    },
}

/// The terms of a market, as its first event keeps them; they never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketSpec {
    /// [`RULES_VERSION`] when it opened.
    pub rules_version: u32,
    /// What it asks.
    pub subject: Subject,
    /// What kind of question it is; base rates are kept by kind.
    pub kind: String,
    /// The names of its outcomes, 2 to 4,096.
    pub outcomes: Vec<String>,
    /// The price before anybody said anything.
    pub prior: PpmDist,
    /// Its maker.
    pub maker: MakerSpec,
    /// Reports are raised to at least this for every outcome; the event then keeps what was reported.
    pub report_floor: Ppm,
    /// The largest weight of one report, in millionths.
    pub max_weight_micro: u64,
    /// What one account may spend here, in micro-units.
    pub credit_micro: i64,
    /// How many events it may have, its resolution aside.
    pub max_events: u64,
    /// When it stops taking forecasts, whether resolved or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_at: Option<Timestamp>,
    /// Who works on its subject and may not bet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<ForecasterId>,
    /// The `ln R_T` that its prior rests on, in millionths, if it rests on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_micro: Option<i64>,
}

/// Where a new market's first price comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Prior {
    /// How markets of its kind ended before; uniform where there is none.
    #[default]
    BaseRate,
    /// Every outcome alike.
    Uniform,
    /// This price.
    Given(PpmDist),
    /// `p = R / (1 + R)` of the task's persistence, for two outcomes.
    Persistence {
        /// `ln R_T` in millionths.
        ln_ratio_micro: i64,
    },
}

/// A request to open a market.
///
/// ```
/// use aion_market::OpenMarket;
/// use aion_types::{PpmDist, TaskId, Timestamp};
///
/// let task = TaskId::generate(Timestamp::from_ms(0));
/// let open = OpenMarket::task(task, "agent.run").with_prior(PpmDist::new(vec![700_000, 300_000])?);
/// assert_eq!(open.id().as_bytes(), task.as_bytes());
/// # Ok::<(), aion_types::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenMarket {
    id: MarketId,
    subject: Subject,
    kind: String,
    outcomes: Vec<String>,
    prior: Prior,
    maker: Option<MakerSpec>,
    closes_at: Option<Timestamp>,
    executor: Option<ForecasterId>,
}

impl OpenMarket {
    /// A market on whether a task ends in `SUCCESS` or `FAILED`.
    pub fn task(task: TaskId, kind: impl Into<String>) -> Self {
        let outcomes = vec!["SUCCESS".to_owned(), "FAILED".to_owned()];
        Self::new(
            market_of_task(task),
            Subject::Task { task },
            kind.into(),
            outcomes,
        )
    }

    /// A market on a question, with outcomes `YES` and `NO` unless set.
    pub fn question(id: MarketId, text: impl Into<String>, kind: impl Into<String>) -> Self {
        let outcomes = vec!["YES".to_owned(), "NO".to_owned()];
        Self::new(id, Subject::Question { text: text.into() }, kind.into(), outcomes)
    }

    fn new(id: MarketId, subject: Subject, kind: String, outcomes: Vec<String>) -> Self {
        let prior = Prior::default();
        Self {
            id,
            subject,
            kind,
            outcomes,
            prior,
            maker: None,
            closes_at: None,
            executor: None,
        }
    }

    /// The id that the market will have.
    pub const fn id(&self) -> MarketId {
        self.id
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Where its first price comes from.
    pub const fn prior(&self) -> &Prior {
        &self.prior
    }

    /// How many outcomes it has.
    pub fn outcomes(&self) -> usize {
        self.outcomes.len()
    }

    /// Names its outcomes.
    #[must_use]
    pub fn with_outcomes<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.outcomes = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the first price.
    #[must_use]
    pub fn with_prior(mut self, price: PpmDist) -> Self {
        self.prior = Prior::Given(price);
        self
    }

    /// Starts from the persistence `R_T` of the task: the first outcome has `p = R / (1 + R)`.
    ///
    /// ```
    /// use aion_market::OpenMarket;
    /// use aion_types::{TaskId, Timestamp};
    ///
    /// let task = TaskId::generate(Timestamp::from_ms(0));
    /// let open = OpenMarket::task(task, "agent.run").with_persistence_prior(1.125)?;
    /// assert!(OpenMarket::task(task, "agent.run").with_persistence_prior(-1.0).is_err());
    /// # Ok::<(), aion_market::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a ratio outside `[1e-6, 10^6]`.
    pub fn with_persistence_prior(mut self, ratio: f64) -> Result<Self> {
        let fits = (1e-6..=1e6).contains(&ratio);
        let ratio = check("a persistence ratio", "in [0.000001, 1000000]", ratio, fits)?;
        let ln_ratio_micro = (ratio.ln() * MICRO as f64).round() as i64;
        self.prior = Prior::Persistence { ln_ratio_micro };
        Ok(self)
    }

    /// Starts with every outcome alike.
    #[must_use]
    pub fn with_uniform_prior(mut self) -> Self {
        self.prior = Prior::Uniform;
        self
    }

    /// Sets the maker.
    #[must_use]
    pub const fn with_maker(mut self, maker: MakerSpec) -> Self {
        self.maker = Some(maker);
        self
    }

    /// Sets when it stops taking forecasts.
    #[must_use]
    pub const fn with_closes_at(mut self, at: Timestamp) -> Self {
        self.closes_at = Some(at);
        self
    }

    /// Names who works on its subject and may not bet.
    #[must_use]
    pub fn with_executor(mut self, executor: ForecasterId) -> Self {
        self.executor = Some(executor);
        self
    }

    /// Checks what the caller said, before anything is made of it.
    ///
    /// # Errors
    /// [`Error`] for a text or an outcome list that cannot be.
    pub(crate) fn check(&self) -> Result<()> {
        check_text("a kind", &self.kind)?;
        if let Subject::Question { text } = &self.subject {
            check_text("a question", text)?;
        }
        check_outcome_names(&self.outcomes)
    }

    /// The terms, checked, with what the caller left open filled in.
    ///
    /// # Errors
    /// [`Error`] for a prior or a maker that cannot be.
    pub(crate) fn spec(&self, defaults: &Defaults) -> Result<MarketSpec> {
        check_len("a prior", defaults.prior.outcomes(), self.outcomes.len())?;
        let spec = MarketSpec {
            rules_version: RULES_VERSION,
            subject: self.subject.clone(),
            kind: self.kind.clone(),
            outcomes: self.outcomes.clone(),
            prior: defaults.prior.clone(),
            maker: self.maker.unwrap_or(defaults.maker),
            report_floor: floor_for(defaults.report_floor, self.outcomes.len())?,
            max_weight_micro: defaults.max_weight_micro,
            credit_micro: defaults.credit_micro,
            max_events: defaults.max_events,
            closes_at: self.closes_at,
            executor: self.executor.clone(),
            persistence_micro: match self.prior {
                Prior::Persistence { ln_ratio_micro } => Some(ln_ratio_micro),
                _ => None,
            },
        };
        spec.maker.open(&spec.prior)?;
        Ok(spec)
    }

    /// Whether an open market is the one that this asks for. Its prior is not compared: by the time
    /// of a second request the base rate may have moved.
    pub(crate) fn is_met_by(&self, spec: &MarketSpec) -> bool {
        self.subject == spec.subject && self.kind == spec.kind && self.outcomes == spec.outcomes
    }
}

/// What the handle fills in.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    pub(crate) prior: PpmDist,
    pub(crate) maker: MakerSpec,
    pub(crate) report_floor: Ppm,
    pub(crate) max_weight_micro: u64,
    pub(crate) credit_micro: i64,
    pub(crate) max_events: u64,
}

impl Defaults {
    /// A floor of 0.1% on reports, weights up to 10, credit of 1,000 units, 100,000 events.
    pub(crate) fn new(prior: PpmDist, maker: MakerSpec) -> Result<Self> {
        Ok(Self {
            prior,
            maker,
            report_floor: Ppm::new(1_000)?,
            max_weight_micro: 10 * MICRO as u64,
            credit_micro: 1_000 * MICRO,
            max_events: 100_000,
        })
    }
}

/// The market of a task: the id with the same bytes.
pub fn market_of_task(task: TaskId) -> MarketId {
    // Both are UUIDs of version 7, so the bytes of one are always valid for the other.
    MarketId::from_bytes(*task.as_bytes()).unwrap_or(MarketId::from_parts(task.timestamp(), [0; 10]))
}

/// With many outcomes the floor is lower, so that a certain report keeps 99%.
fn floor_for(floor: Ppm, outcomes: usize) -> Result<Ppm> {
    let share = aion_types::PPM_ONE as usize / (100 * outcomes);
    Ok(Ppm::new(floor.get().min(share as u32).max(1))?)
}

fn check_outcome_names(names: &[String]) -> Result<()> {
    if names.len() > PpmDist::MAX_OUTCOMES {
        return Err(Error::LimitReached {
            what: "the number of outcomes",
            limit: PpmDist::MAX_OUTCOMES as u64,
        });
    }
    if names.len() < 2 {
        return Err(Error::Shape {
            what: "outcomes",
            found: names.len(),
            expected: 2,
        });
    }
    names.iter().try_for_each(|name| check_text("an outcome", name))?;
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    if distinct.len() < names.len() {
        return Err(Error::BadText {
            what: "an outcome",
            rule: "named only once",
        });
    }
    Ok(())
}

/// Checks text that people give: not empty, bounded, without control characters.
pub(crate) fn check_text(what: &'static str, text: &str) -> Result<()> {
    let rule = match text {
        "" => "not empty",
        _ if text.len() > MAX_TEXT_BYTES => "at most 1,024 bytes",
        _ if text.chars().any(char::is_control) => "without control characters",
        _ => return Ok(()),
    };
    Err(Error::BadText { what, rule })
}
