//! [`TrustLedger`]: the trust of agent types, predictors and the house, moved once for each market.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aion_market::{Report, Target};
use aion_types::{Clock, ForecasterId, MarketId, MilliTrust, PpmDist, SystemClock, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::rule::{Rule, Voter};
use crate::store::{Change, LedgerStore, MemoryLedgerStore, Revision, StoreError};

/// The most votes that one settlement takes.
pub const MAX_VOTES: usize = 10_000;
const MAX_ATTEMPTS: usize = 16;

/// One account: an agent type, a predictor, a person, or the house.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its name.
    pub id: ForecasterId,
    /// Its trust.
    pub balance: MilliTrust,
    /// What it was given to begin with.
    pub granted: MilliTrust,
    /// In how many settlements it took part.
    pub settlements: u64,
}

/// A belief that trust is staked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Whose.
    pub account: ForecasterId,
    /// The belief.
    pub dist: PpmDist,
}

impl Vote {
    /// A vote with this belief.
    pub const fn new(account: ForecasterId, dist: PpmDist) -> Self {
        Self { account, dist }
    }

    /// The vote of an agent on its own work: `p = R/(1+R)` for success.
    ///
    /// # Errors
    /// [`Error::Value`] if the ratio is negative or NaN.
    pub fn from_ratio(account: ForecasterId, ratio: f64) -> Result<Self> {
        Ok(Self {
            account,
            dist: PpmDist::from_ratio(ratio)?,
        })
    }

    /// The last forecasts of everybody in a market, as votes; not of whoever worked on its subject.
    pub fn of_report(report: &Report) -> Vec<Self> {
        let others = report
            .forecasters
            .iter()
            .filter(|row| row.forecaster != ForecasterId::house() && row.role.is_outsider());
        others
            .map(|row| Self::new(row.forecaster.clone(), row.last.clone()))
            .collect()
    }
}

/// What a settlement did to one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The account.
    pub account: ForecasterId,
    /// Its belief.
    pub dist: PpmDist,
    /// Its trust before.
    pub before: MilliTrust,
    /// Its trust after.
    pub after: MilliTrust,
    /// The change in millitrust.
    pub change_milli: i64,
}

/// How the trust of a market was settled; there is one for each market.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The market.
    pub market: MarketId,
    /// Digest of the report that it rests on.
    pub report: String,
    /// The rule that moved the trust.
    pub rule: Rule,
    /// What happened; none when void, and then nothing moved.
    pub target: Option<Target>,
    /// What it did, by account; the house is among them.
    pub deltas: Vec<Delta>,
    /// When.
    pub at: Timestamp,
}

impl Settlement {
    /// What it did to one account.
    pub fn delta(&self, account: &ForecasterId) -> Option<&Delta> {
        self.deltas.iter().find(|delta| delta.account == *account)
    }

    fn rests_on(&self, report: &Report, votes: &[Vote]) -> bool {
        let house = ForecasterId::house();
        let settled: BTreeMap<_, _> = self
            .deltas
            .iter()
            .filter(|d| d.account != house)
            .map(|d| (&d.account, &d.dist))
            .collect();
        let asked: BTreeMap<_, _> = votes.iter().map(|vote| (&vote.account, &vote.dist)).collect();
        self.report == report.digest && (self.target.is_none() || settled == asked)
    }
}

/// How a [`TrustLedger`] settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrustOptions {
    rule: Rule,
    newcomer: MilliTrust,
    house: MilliTrust,
}

impl Default for TrustOptions {
    /// Weighted scores; a newcomer is given 10 trust, the house 100.
    fn default() -> Self {
        Self {
            rule: Rule::default(),
            newcomer: MilliTrust::new(10_000),
            house: MilliTrust::new(100_000),
        }
    }
}

impl TrustOptions {
    /// Sets the rule.
    #[must_use]
    pub const fn with_rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    /// Sets what an account is given when it first votes. Where accounts are free, give 0.
    #[must_use]
    pub const fn with_newcomer(mut self, grant: MilliTrust) -> Self {
        self.newcomer = grant;
        self
    }

    /// Sets what the house is given to begin with.
    #[must_use]
    pub const fn with_house(mut self, grant: MilliTrust) -> Self {
        self.house = grant;
        self
    }
}

/// Trust over a store; cheap to clone.
///
/// ```
/// use aion_market::{Forecast, Market, OpenMarket, Resolution};
/// use aion_trust::{TrustLedger, Vote};
/// use aion_types::{ForecasterId, MarketId, PpmDist, Timestamp};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let (market, trust) = (Market::in_memory(), TrustLedger::in_memory());
/// let id = MarketId::generate(Timestamp::from_ms(0));
/// market.open(&OpenMarket::question(id, "Will it rain?", "weather")).await?;
/// let anna = ForecasterId::new("anna")?;
/// let belief = PpmDist::new(vec![800_000, 200_000])?;
/// market.forecast(id, &Forecast::new(anna.clone(), belief)).await?;
/// let report = market.resolve(id, &Resolution::outcome(0)).await?;
/// let settlement = trust.settle(&report, &Vote::of_report(&report)).await?;
/// let delta = settlement.delta(&anna).unwrap();
/// assert!(delta.change_milli > 0);
/// assert_eq!(trust.balance(&anna).await?, delta.after);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct TrustLedger {
    store: Arc<dyn LedgerStore>,
    clock: Arc<dyn Clock>,
    options: TrustOptions,
}

impl TrustLedger {
    /// A ledger over a store.
    pub fn new(store: Arc<dyn LedgerStore>, clock: Arc<dyn Clock>, options: TrustOptions) -> Self {
        Self {
            store,
            clock,
            options,
        }
    }

    /// A ledger in memory with the clock of the system.
    pub fn in_memory() -> Self {
        Self::new(
            Arc::new(MemoryLedgerStore::new()),
            Arc::new(SystemClock),
            TrustOptions::default(),
        )
    }

    /// The trust of an account; what a newcomer would be given if it has never voted.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    pub async fn balance(&self, id: &ForecasterId) -> Result<MilliTrust> {
        let (_, mut found) = self.store.accounts(std::slice::from_ref(id)).await?;
        Ok(found.pop().map_or(self.grant_for(id), |account| account.balance))
    }

    /// Accounts by trust, the largest first, then by id.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    pub async fn list(&self, limit: usize) -> Result<Vec<Account>> {
        Ok(self.store.list(limit.min(MAX_VOTES)).await?)
    }

    /// How a market was settled, if it was.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    pub async fn settlement(&self, market: MarketId) -> Result<Option<Settlement>> {
        Ok(self.store.settlement(market).await?)
    }

    /// Moves trust by how a market ended. The house votes the last price before the outcome was known.
    /// Settling the same report and votes twice gives the settlement that is there.
    ///
    /// # Errors
    /// [`Error`] for votes that do not fit, or [`Error::SettledOtherwise`].
    pub async fn settle(&self, report: &Report, votes: &[Vote]) -> Result<Settlement> {
        check_votes(report, votes)?;
        let mut attempt = 1;
        loop {
            if let Some(settled) = self.store.settlement(report.market).await? {
                return match settled.rests_on(report, votes) {
                    true => Ok(settled),
                    false => Err(Error::SettledOtherwise(report.market)),
                };
            }
            let (revision, change) = self.change_for(report, votes).await?;
            match self.store.commit(revision, &change).await {
                Ok(()) => return Ok(change.settlement),
                Err(StoreError::Conflict { .. }) if attempt < MAX_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn change_for(&self, report: &Report, votes: &[Vote]) -> Result<(Revision, Change)> {
        let house = Vote::new(ForecasterId::house(), report.p_last.clone());
        let votes: Vec<&Vote> = votes.iter().chain([&house]).collect();
        let ids: Vec<ForecasterId> = votes.iter().map(|vote| vote.account.clone()).collect();
        let (revision, found) = self.store.accounts(&ids).await?;
        let mut accounts: BTreeMap<ForecasterId, Account> = found
            .into_iter()
            .map(|account| (account.id.clone(), account))
            .collect();
        let mut deltas = Vec::new();
        if let Some(target) = &report.target {
            let balance = |vote: &&Vote| self.account(&mut accounts, &vote.account).balance;
            let balances: Vec<MilliTrust> = votes.iter().map(balance).collect();
            deltas = self.deltas(&votes, &balances, target)?;
        }
        let changed = deltas.iter().map(|delta| {
            let mut account = self.account(&mut accounts, &delta.account).clone();
            account.balance = delta.after;
            account.settlements += 1;
            account
        });
        let accounts = changed.collect();
        let settlement = Settlement {
            market: report.market,
            report: report.digest.clone(),
            rule: self.options.rule,
            target: report.target.clone(),
            deltas,
            at: self.clock.now(),
        };
        Ok((revision, Change { accounts, settlement }))
    }

    fn deltas(&self, votes: &[&Vote], balances: &[MilliTrust], target: &Target) -> Result<Vec<Delta>> {
        let voters: Vec<Voter<'_>> = votes
            .iter()
            .zip(balances)
            .map(|(vote, trust)| Voter {
                trust: *trust,
                dist: &vote.dist,
            })
            .collect();
        let changes = self.options.rule.deltas(&voters, target)?;
        let rows = votes.iter().zip(balances).zip(changes);
        rows.map(|((vote, before), asked)| {
            // Only the published rule asks for more than there is; nobody falls below 0.
            let held = i64::try_from(before.get()).unwrap_or(i64::MAX);
            let change_milli = asked.max(-held);
            Ok(Delta {
                account: vote.account.clone(),
                dist: vote.dist.clone(),
                before: *before,
                after: before.checked_change(change_milli)?,
                change_milli,
            })
        })
        .collect()
    }

    fn account<'a>(
        &self,
        accounts: &'a mut BTreeMap<ForecasterId, Account>,
        id: &ForecasterId,
    ) -> &'a mut Account {
        let grant = self.grant_for(id);
        accounts.entry(id.clone()).or_insert_with(|| Account {
            id: id.clone(),
            balance: grant,
            granted: grant,
            settlements: 0,
        })
    }

    fn grant_for(&self, id: &ForecasterId) -> MilliTrust {
        if *id == ForecasterId::house() {
            self.options.house
        } else {
            self.options.newcomer
        }
    }
}

fn check_votes(report: &Report, votes: &[Vote]) -> Result<()> {
    if votes.len() > MAX_VOTES {
        return Err(Error::TooManyVotes {
            found: votes.len(),
            limit: MAX_VOTES,
        });
    }
    let expected = report.p_last.outcomes();
    let mut seen = BTreeSet::new();
    for vote in votes {
        let account = vote.account.clone();
        let found = vote.dist.outcomes();
        if found != expected {
            return Err(Error::Shape {
                account,
                found,
                expected,
            });
        }
        if account == ForecasterId::house() {
            return Err(Error::ReservedAccount(account));
        }
        if !seen.insert(&vote.account) {
            return Err(Error::VotesTwice(account));
        }
    }
    Ok(())
}
