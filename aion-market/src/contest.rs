//! [`Contest`]: two forecasters over the markets that both have a score in, read page by page.

use std::collections::VecDeque;

use aion_types::{ForecasterId, PPM_ONE, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::compare::{Comparison, Options, Verdict};
use crate::market::Market;
use crate::score::{Brier, ScoringRule};
use crate::store::{ScoreOrder, ScorePlace, ScoreRow};

/// Scores that are read at once.
const PAGE: usize = 1_000;

/// A comparison of two forecasters with the place in their scores that it has come to.
///
/// It takes up markets in the order in which they ended, holds no more than two pages of scores, and can
/// be stored and gone on with. The Brier scores of their last forecasts are compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Contest {
    a: ForecasterId,
    b: ForecasterId,
    comparison: Comparison,
    first: Option<ScorePlace>,
    last: Option<ScorePlace>,
}

/// How far a [`Contest`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// There is nothing more to take up.
    End,
    /// There may be more.
    Middle,
}

impl Contest {
    /// Of no market yet; with [`Options::brier`], or another range that holds `[-2, 2]`.
    pub fn new(a: ForecasterId, b: ForecasterId, options: Options) -> Self {
        Self {
            a,
            b,
            comparison: Comparison::new(options),
            first: None,
            last: None,
        }
    }

    /// What it has come to.
    pub fn verdict(&self) -> Verdict {
        self.comparison.verdict()
    }

    /// The first market that it has taken up.
    pub const fn first(&self) -> Option<ScorePlace> {
        self.first
    }

    /// The last market that it has taken up.
    pub const fn last(&self) -> Option<ScorePlace> {
        self.last
    }

    fn take_up(&mut self, a: &ScoreRow, b: &ScoreRow) -> Result<()> {
        self.comparison.push(-brier(a)?, -brier(b)?)?;
        self.first.get_or_insert(a.place());
        self.last = Some(a.place());
        Ok(())
    }
}

fn brier(row: &ScoreRow) -> Result<f64> {
    let q = row.last.parts().iter();
    let q: Vec<f64> = q.map(|part| f64::from(*part) / f64::from(PPM_ONE)).collect();
    Brier.against(&q, &row.target)
}

/// The scores of one forecaster after a place, oldest first.
struct Scores<'a> {
    market: &'a Market,
    who: &'a ForecasterId,
    until: Timestamp,
    order: ScoreOrder,
    page: VecDeque<ScoreRow>,
    more: Reach,
}

impl<'a> Scores<'a> {
    fn new(market: &'a Market, who: &'a ForecasterId, from: Option<ScorePlace>, until: Timestamp) -> Self {
        let order = match from {
            None => ScoreOrder::Oldest,
            Some(place) => ScoreOrder::After(place),
        };
        let (page, more) = (VecDeque::new(), Reach::Middle);
        Self {
            market,
            who,
            until,
            order,
            page,
            more,
        }
    }

    async fn peek(&mut self) -> Result<Option<ScorePlace>> {
        if self.page.is_empty() && self.more == Reach::Middle {
            let store = self.market.store();
            self.page = store.scores(self.who, self.order, PAGE).await?.into();
            if self.page.len() < PAGE {
                self.more = Reach::End;
            }
            if let Some(last) = self.page.back() {
                self.order = ScoreOrder::After(last.place());
            }
        }
        let next = self.page.front().map(ScoreRow::place);
        Ok(next.filter(|place| place.resolved_at < self.until))
    }
}

impl Market {
    /// Which of two forecasters is better, by the Brier scores of their last forecasts in the markets that
    /// both have a score in, in the order in which these ended. All of them count.
    ///
    /// # Errors
    /// [`Error`](crate::Error) for a range that a difference falls out of, or if the store fails.
    pub async fn compare(&self, a: &ForecasterId, b: &ForecasterId, options: Options) -> Result<Contest> {
        let mut contest = Contest::new(a.clone(), b.clone(), options);
        let end = Timestamp::from_ms(i64::MAX);
        self.go_on(&mut contest, end, usize::MAX).await?;
        Ok(contest)
    }

    /// Lets a contest take up what ended before `until`, and read at most about `scores` scores for it.
    ///
    /// A market that ended in this very moment may be stored a little after another that ends later: whoever
    /// keeps a contest to go on with leaves the last seconds out of it.
    ///
    /// # Errors
    /// Those of [`compare`](Self::compare); the contest has then taken up what came before.
    pub async fn go_on(&self, contest: &mut Contest, until: Timestamp, scores: usize) -> Result<Reach> {
        let (a, b) = (contest.a.clone(), contest.b.clone());
        let mut of_a = Scores::new(self, &a, contest.last, until);
        let mut of_b = Scores::new(self, &b, contest.last, until);
        let mut read = 0;
        while let (Some(at_a), Some(at_b)) = (of_a.peek().await?, of_b.peek().await?) {
            if read >= scores {
                return Ok(Reach::Middle);
            }
            let row_a = if at_a <= at_b { of_a.page.pop_front() } else { None };
            let row_b = if at_b <= at_a { of_b.page.pop_front() } else { None };
            read += usize::from(row_a.is_some()) + usize::from(row_b.is_some());
            if let (Some(row_a), Some(row_b)) = (row_a, row_b) {
                contest.take_up(&row_a, &row_b)?;
            }
        }
        Ok(Reach::End)
    }
}
