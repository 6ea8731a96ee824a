//! Scores averaged over the time that a question was to be open.

use serde::Serialize;

use super::Question;
use crate::Result;
use crate::error::check;

/// When a question opened, closed, and was to close; milliseconds on any clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    open_ms: i64,
    closed_ms: i64,
    planned_ms: i64,
}

impl Period {
    /// A question that was open from `open_ms` until `closed_ms`, and was to close at `planned_ms`:
    /// scores are averaged over the planned time, so one that resolves early pays less.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] unless `open < planned` and `open <= closed <= planned`.
    pub fn new(open_ms: i64, closed_ms: i64, planned_ms: i64) -> Result<Self> {
        let (closed, planned) = (closed_ms as f64, planned_ms as f64);
        check(
            "a planned end",
            "after the opening",
            planned,
            planned_ms > open_ms,
        )?;
        let in_order = (open_ms..=planned_ms).contains(&closed_ms);
        check(
            "an end",
            "between the opening and the planned end",
            closed,
            in_order,
        )?;
        check("a planned time", "below 2^63 milliseconds", planned, {
            planned_ms.checked_sub(open_ms).is_some()
        })?;
        Ok(Self {
            open_ms,
            closed_ms,
            planned_ms,
        })
    }

    /// The share of the planned time between two moments, of the part in which the question was open.
    fn share(self, from_ms: i64, until_ms: i64) -> f64 {
        let (from, until) = (self.clamp(from_ms), self.clamp(until_ms));
        (until - from).max(0) as f64 / (self.planned_ms - self.open_ms) as f64
    }

    fn clamp(self, at_ms: i64) -> i64 {
        at_ms.clamp(self.open_ms, self.closed_ms)
    }
}

/// One forecast: from when until when it stood, and what it gave to what happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimedForecast {
    /// When it was made.
    pub from_ms: i64,
    /// When it was withdrawn or replaced; `None` if it stood to the end.
    pub until_ms: Option<i64>,
    /// The probability that it gave to what happened, in `(0, 1]`.
    pub p: f64,
}

impl TimedForecast {
    /// A forecast that stands from `from_ms` to the end.
    pub const fn since(from_ms: i64, p: f64) -> Self {
        Self {
            from_ms,
            until_ms: None,
            p,
        }
    }

    /// Ends it.
    #[must_use]
    pub const fn until(mut self, until_ms: i64) -> Self {
        self.until_ms = Some(until_ms);
        self
    }

    const fn end_ms(&self) -> i64 {
        match self.until_ms {
            Some(until_ms) => until_ms,
            None => i64::MAX,
        }
    }

    fn stands_at(&self, at_ms: i64) -> bool {
        (self.from_ms..self.end_ms()).contains(&at_ms)
    }
}

/// A score, and the share of the planned time that it covers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Covered {
    /// The score, already weighted with the time.
    pub score: f64,
    /// The share of the planned time in which a forecast stood, in `[0, 1]`.
    pub coverage: f64,
}

/// The baseline score of one forecaster, averaged over the planned time.
///
/// ```
/// use aion_market::score::metaculus::{Period, Question, TimedForecast, baseline_over_time};
///
/// // 0.8 for half of the time, 0.9 for a quarter, nothing for the first quarter.
/// let said = [TimedForecast::since(25, 0.8).until(75), TimedForecast::since(75, 0.9)];
/// let got = baseline_over_time(Question::discrete(2)?, &said, Period::new(0, 100, 100)?)?;
/// assert!((got.score - (0.5 * 67.807_190_511 + 0.25 * 84.799_690_655)).abs() < 1e-6);
/// assert_eq!(got.coverage, 0.75);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Row`] with the first forecast that is out of range or overlaps the one before.
///
/// # Sources
/// Metaculus, Scores FAQ, "What is the Baseline score?".
pub fn baseline_over_time(
    question: Question,
    forecasts: &[TimedForecast],
    period: Period,
) -> Result<Covered> {
    check_standings(forecasts)?;
    let mut sum = Covered::default();
    for standing in forecasts {
        let share = period.share(standing.from_ms, standing.end_ms());
        sum.score += question.baseline(standing.p)? * share;
        sum.coverage += share;
    }
    Ok(sum)
}

/// The peer scores of all forecasters, each averaged over the planned time: at every moment,
/// `100 N/(N-1) (ln p_i - mean ln p)` over the `N` whose forecasts stand (half for a number), 0 while
/// one is alone. The scores sum to 0.
///
/// ```
/// use aion_market::score::metaculus::{Period, Question, TimedForecast, peer_over_time};
///
/// // Both for the second half of the time only: half of 100 ln(0.8/0.2).
/// let said = [vec![TimedForecast::since(0, 0.8)], vec![TimedForecast::since(50, 0.2)]];
/// let got = peer_over_time(Question::discrete(2)?, &said, Period::new(0, 100, 100)?)?;
/// assert!((got[0].score - 50.0 * 4.0_f64.ln()).abs() < 1e-9);
/// assert_eq!((got[0].coverage, got[1].coverage), (1.0, 0.5));
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Row`] with the first forecaster who has a forecast that is out of range or overlaps.
///
/// # Sources
/// Metaculus, Scores FAQ, "What is the Peer score?".
pub fn peer_over_time<F: AsRef<[TimedForecast]>>(
    question: Question,
    forecasters: &[F],
    period: Period,
) -> Result<Vec<Covered>> {
    for (row, forecasts) in forecasters.iter().enumerate() {
        check_standings(forecasts.as_ref()).map_err(|source| source.in_row(row))?;
    }
    let crowd = Crowd::of(forecasters.iter().flat_map(AsRef::as_ref), period);
    let scored = forecasters.iter().map(|forecasts| {
        let mut sum = Covered::default();
        for standing in forecasts.as_ref() {
            let (from, until) = (period.clamp(standing.from_ms), period.clamp(standing.end_ms()));
            sum.score += question.peer_scale() * crowd.gain(standing.p.ln(), from, until);
            sum.coverage += period.share(from, until);
        }
        sum
    });
    Ok(scored.collect())
}

/// The baseline score of the forecast that stands at one moment; 0 with coverage 0 if none does.
///
/// ```
/// use aion_market::score::metaculus::{Question, TimedForecast, spot_baseline};
///
/// let said = [TimedForecast::since(0, 0.8).until(10), TimedForecast::since(20, 0.5)];
/// let question = Question::discrete(2)?;
/// assert!((spot_baseline(question, &said, 9)?.score - 67.807_190_511_263_77).abs() < 1e-12);
/// assert_eq!(spot_baseline(question, &said, 10)?.coverage, 0.0);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// As [`baseline_over_time`].
pub fn spot_baseline(question: Question, forecasts: &[TimedForecast], at_ms: i64) -> Result<Covered> {
    check_standings(forecasts)?;
    let Some(standing) = forecasts.iter().find(|standing| standing.stands_at(at_ms)) else {
        return Ok(Covered::default());
    };
    Ok(Covered {
        score: question.baseline(standing.p)?,
        coverage: 1.0,
    })
}

/// The peer scores of the forecasts that stand at one moment; 0 with coverage 0 for those who have
/// none, and for all if fewer than two stand.
///
/// ```
/// use aion_market::score::metaculus::{Question, TimedForecast, spot_peer};
///
/// let said = [vec![TimedForecast::since(0, 0.8)], vec![TimedForecast::since(0, 0.2).until(9)], vec![TimedForecast::since(5, 0.2)]];
/// let got = spot_peer(Question::discrete(2)?, &said, 9)?;
/// assert!((got[0].score - 100.0 * 4.0_f64.ln()).abs() < 1e-9);
/// assert_eq!((got[1].score, got[1].coverage), (0.0, 0.0));
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// As [`peer_over_time`].
pub fn spot_peer<F: AsRef<[TimedForecast]>>(
    question: Question,
    forecasters: &[F],
    at_ms: i64,
) -> Result<Vec<Covered>> {
    let mut standing = Vec::with_capacity(forecasters.len());
    for (row, forecasts) in forecasters.iter().enumerate() {
        check_standings(forecasts.as_ref()).map_err(|source| source.in_row(row))?;
        let found = forecasts
            .as_ref()
            .iter()
            .find(|standing| standing.stands_at(at_ms));
        standing.push(found.map(|standing| standing.p.ln()));
    }
    let n = standing.iter().flatten().count();
    let mean = standing.iter().flatten().sum::<f64>() / n.max(1) as f64;
    let scale = question.peer_scale() * peer_factor(n);
    let scored = standing.iter().map(|ln_p| match ln_p {
        Some(ln_p) if n > 1 => Covered {
            score: scale * (ln_p - mean),
            coverage: 1.0,
        },
        _ => Covered::default(),
    });
    Ok(scored.collect())
}

/// `N/(N-1)`; 0 for one who is alone.
fn peer_factor(n: usize) -> f64 {
    if n > 1 { n as f64 / (n - 1) as f64 } else { 0.0 }
}

/// Checks one forecaster's forecasts: in range, in order, one at a time.
fn check_standings(forecasts: &[TimedForecast]) -> Result<()> {
    let mut free_from = i64::MIN;
    for (row, standing) in forecasts.iter().enumerate() {
        let p = check("a probability", "in (0, 1]", standing.p, {
            standing.p > 0.0 && standing.p <= 1.0
        });
        let starts = check("a start", "after the forecast before", standing.from_ms as f64, {
            standing.from_ms >= free_from
        });
        let ends = check("an end", "after its start", standing.end_ms() as f64, {
            standing.end_ms() >= standing.from_ms
        });
        p.and(starts).and(ends).map_err(|source| source.in_row(row))?;
        free_from = standing.end_ms();
    }
    Ok(())
}

/// What the crowd was, from moment to moment: integrals of `N/(N-1)` and of `N/(N-1) mean ln p`.
struct Crowd {
    at_ms: Vec<i64>,
    factor: Vec<f64>,
    level: Vec<f64>,
}

impl Crowd {
    fn of<'a>(standings: impl Iterator<Item = &'a TimedForecast>, period: Period) -> Self {
        let mut moves: Vec<(i64, i32, f64)> = Vec::new();
        for standing in standings {
            let (from, until) = (period.clamp(standing.from_ms), period.clamp(standing.end_ms()));
            if from < until {
                moves.extend([(from, 1, standing.p.ln()), (until, -1, -standing.p.ln())]);
            }
        }
        moves.sort_by_key(|(at_ms, _, _)| *at_ms);
        let mut crowd = Self {
            at_ms: Vec::new(),
            factor: Vec::new(),
            level: Vec::new(),
        };
        let (mut n, mut sum, mut factor, mut level, mut last) = (0_usize, 0.0, 0.0, 0.0, period.open_ms);
        for (at_ms, step, ln_p) in moves {
            let weight = peer_factor(n) * period.share(last, at_ms);
            factor += weight;
            level += weight * sum / n.max(1) as f64;
            n = if step > 0 { n + 1 } else { n - 1 };
            // An empty crowd forgets what rounding left.
            sum = if n == 0 { 0.0 } else { sum + ln_p };
            last = at_ms;
            crowd.mark(at_ms, factor, level);
        }
        crowd
    }

    fn mark(&mut self, at_ms: i64, factor: f64, level: f64) {
        if self.at_ms.last() == Some(&at_ms) {
            return;
        }
        self.at_ms.push(at_ms);
        self.factor.push(factor);
        self.level.push(level);
    }

    /// The integral of `N/(N-1) (ln p - mean ln p)` between two moments of the crowd.
    fn gain(&self, ln_p: f64, from_ms: i64, until_ms: i64) -> f64 {
        let find = |at_ms| self.at_ms.binary_search(&at_ms);
        match (find(from_ms), find(until_ms)) {
            (Ok(from), Ok(until)) => {
                ln_p * (self.factor[until] - self.factor[from]) - (self.level[until] - self.level[from])
            }
            // A forecast that never stood while the question was open moved nothing.
            _ => 0.0,
        }
    }
}
