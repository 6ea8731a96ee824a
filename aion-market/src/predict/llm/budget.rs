//! What a language model may cost, and what it has cost.

use std::collections::BTreeMap;

use aion_types::{TaskId, Timestamp};
use serde::Serialize;

const DAY_MS: i64 = 86_400_000;
/// How many running tasks are counted apart.
const MAX_TASKS: usize = 10_000;

/// What a language model may spend. A day is one of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LlmBudget {
    /// Calls for one market.
    pub calls_per_market: u32,
    /// Calls in a day.
    pub calls_per_day: u32,
    /// Tokens in a day, of prompts and answers.
    pub tokens_per_day: u64,
}

impl Default for LlmBudget {
    /// 4 calls a market; 1,000 calls and 2,000,000 tokens a day.
    fn default() -> Self {
        Self {
            calls_per_market: 4,
            calls_per_day: 1_000,
            tokens_per_day: 2_000_000,
        }
    }
}

impl LlmBudget {
    /// Sets the calls for one market.
    #[must_use]
    pub const fn with_calls_per_market(mut self, calls: u32) -> Self {
        self.calls_per_market = calls;
        self
    }

    /// Sets the calls in a day.
    #[must_use]
    pub const fn with_calls_per_day(mut self, calls: u32) -> Self {
        self.calls_per_day = calls;
        self
    }

    /// Sets the tokens in a day.
    #[must_use]
    pub const fn with_tokens_per_day(mut self, tokens: u64) -> Self {
        self.tokens_per_day = tokens;
        self
    }
}

/// What was spent since the start, and today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct LlmUsage {
    /// Calls made.
    pub calls: u64,
    /// Calls not made, for the budget.
    pub withheld: u64,
    /// Calls without a forecast.
    pub failed: u64,
    /// Calls today.
    pub calls_today: u32,
    /// Tokens today: as the server counts them, or four bytes each.
    pub tokens_today: u64,
}

/// The account of one predictor.
#[derive(Debug, Default)]
pub(super) struct Books {
    usage: LlmUsage,
    day: i64,
    by_task: BTreeMap<TaskId, u32>,
}

impl Books {
    pub(super) const fn usage(&self) -> LlmUsage {
        self.usage
    }

    /// Books a call before it is made; whether the budget has room for it.
    pub(super) fn spend(&mut self, budget: &LlmBudget, task: TaskId, now: Timestamp, tokens: u64) -> bool {
        let day = now.as_ms().div_euclid(DAY_MS);
        if day != self.day {
            self.day = day;
            (self.usage.calls_today, self.usage.tokens_today) = (0, 0);
        }
        let on_task = self.by_task.get(&task).copied().unwrap_or_default();
        let room = on_task < budget.calls_per_market
            && self.usage.calls_today < budget.calls_per_day
            && self.usage.tokens_today.saturating_add(tokens) <= budget.tokens_per_day;
        if !room {
            self.usage.withheld += 1;
            return false;
        }
        self.by_task.insert(task, on_task + 1);
        if self.by_task.len() > MAX_TASKS {
            self.by_task.pop_first();
        }
        self.usage.calls += 1;
        self.usage.calls_today += 1;
        self.usage.tokens_today += tokens;
        true
    }

    /// Puts what the server counted in the place of what was booked.
    pub(super) fn correct(&mut self, booked: u64, counted: u64) {
        let without = self.usage.tokens_today.saturating_sub(booked);
        self.usage.tokens_today = without.saturating_add(counted);
    }

    pub(super) const fn failed(&mut self) {
        self.usage.failed += 1;
    }

    /// A task that ended is asked about no more.
    pub(super) fn close(&mut self, task: TaskId) {
        self.by_task.remove(&task);
    }
}
