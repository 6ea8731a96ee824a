//! The budget of a run and the ledger that keeps it: tokens are reserved before a call is made.

use std::fmt;

use aion_types::Timestamp;
use serde::{Deserialize, Serialize};

/// What a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Tokens, read and written together.
    pub tokens: u64,
    /// Calls of the model.
    pub steps: u32,
    /// Seconds of work; pauses do not count.
    pub seconds: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tokens: 200_000,
            steps: 30,
            seconds: 1_800,
        }
    }
}

/// Which part of a budget ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetPart {
    /// Tokens.
    Tokens,
    /// Steps.
    Steps,
    /// Seconds.
    Seconds,
}

impl fmt::Display for BudgetPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokens => "tokens",
            Self::Steps => "steps",
            Self::Seconds => "seconds",
        })
    }
}

/// What a run has used and reserved.
///
/// A call is granted only if what is used and what it may use fit the budget together. So tokens go
/// over the budget only when a server uses more than was reserved, and by one call at most.
///
/// ```
/// use aion_loop::{Budget, Ledger};
/// use aion_types::Timestamp;
///
/// let mut ledger = Ledger::new(Budget { tokens: 100, steps: 9, seconds: 60 }, Timestamp::from_ms(0));
/// assert_eq!(ledger.reserve(40, 50, 16), Ok(50));
/// ledger.settle(Some(70));
/// assert_eq!(ledger.tokens_used(), 70);
/// assert!(ledger.reserve(40, 50, 16).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    budget: Budget,
    tokens_used: u64,
    reserved: Option<Reservation>,
    steps_used: u32,
    worked_ms: u64,
    seen_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Reservation {
    tokens: u64,
    output: u32,
}

impl Ledger {
    /// An unused budget; work begins at `now`.
    pub fn new(budget: Budget, now: Timestamp) -> Self {
        Self {
            budget,
            tokens_used: 0,
            reserved: None,
            steps_used: 0,
            worked_ms: 0,
            seen_at: now,
        }
    }

    /// The budget.
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// Tokens used by calls that came back.
    pub fn tokens_used(&self) -> u64 {
        self.tokens_used
    }

    /// Tokens set aside for the call that is under way.
    pub fn tokens_reserved(&self) -> u64 {
        self.reserved.map_or(0, |reservation| reservation.tokens)
    }

    /// Calls of the model so far, the one under way included.
    pub fn steps_used(&self) -> u32 {
        self.steps_used
    }

    /// Milliseconds of work so far.
    pub fn worked_ms(&self) -> u64 {
        self.worked_ms
    }

    /// Counts the time since the last look as work. A clock that runs backward counts nothing.
    pub fn tick(&mut self, now: Timestamp) {
        self.worked_ms += u64::try_from(now.since_ms(self.seen_at)).unwrap_or(0);
        self.seen_at = now;
    }

    /// Work goes on after a pause, whose time does not count.
    pub fn wake(&mut self, now: Timestamp) {
        self.seen_at = now;
    }

    /// Sets tokens aside for a call that reads about `prompt` tokens and writes up to `output`;
    /// grants fewer, down to `least`, where the budget is nearly used. Asking twice changes nothing.
    ///
    /// # Errors
    /// The part of the budget that does not suffice.
    pub fn reserve(&mut self, prompt: u64, output: u32, least: u32) -> Result<u32, BudgetPart> {
        if let Some(reservation) = self.reserved {
            return Ok(reservation.output);
        }
        if self.steps_used >= self.budget.steps {
            return Err(BudgetPart::Steps);
        }
        if self.worked_ms >= self.budget.seconds.saturating_mul(1_000) {
            return Err(BudgetPart::Seconds);
        }
        let left = self.budget.tokens.saturating_sub(self.tokens_used);
        let granted = left.saturating_sub(prompt).min(u64::from(output));
        if granted < u64::from(least.min(output).max(1)) {
            return Err(BudgetPart::Tokens);
        }
        let output = u32::try_from(granted).unwrap_or(output);
        self.reserved = Some(Reservation {
            tokens: prompt + granted,
            output,
        });
        self.steps_used += 1;
        Ok(output)
    }

    /// Gives the reservation and its step back: no answer came.
    pub fn refund(&mut self) {
        if self.reserved.take().is_some() {
            self.steps_used = self.steps_used.saturating_sub(1);
        }
    }

    /// Books what the call used; the whole reservation where the server did not say.
    pub fn settle(&mut self, used: Option<u64>) {
        if let Some(reservation) = self.reserved.take() {
            self.tokens_used = self
                .tokens_used
                .saturating_add(used.unwrap_or(reservation.tokens));
        }
    }
}

/// About how many tokens `bytes` of English or JSON make; rather too many than too few.
pub(crate) fn estimate_tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(3)
}
